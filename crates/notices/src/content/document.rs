//! How what is said is kept: JSON that names its schema.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::notice::{InvalidNotice, LARGEST_NOTICE};

/// A document as it is kept.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document<D> {
    pub(super) schema: String,
    pub(super) notice: D,
}

/// What a document of a schema says.
pub(super) fn read<D: DeserializeOwned>(
    json: &str,
    schema: &'static str,
) -> Result<D, InvalidNotice> {
    bounded(json.len())?;
    serde_json::from_str::<Document<D>>(json).map_err(|error| malformed(&error))?.of(schema)
}

/// The JSON to keep.
pub(super) fn write<D: Serialize>(said: &D, schema: &'static str) -> Result<String, InvalidNotice> {
    let document = Document { schema: schema.to_owned(), notice: said };
    let json = serde_json::to_string(&document).map_err(|error| malformed(&error))?;
    bounded(json.len())?;
    Ok(json)
}

impl<D> Document<D> {
    /// What it says, if it is of this schema.
    pub(super) fn of(self, wanted: &'static str) -> Result<D, InvalidNotice> {
        if self.schema != wanted {
            let found = self.schema.chars().take(64).collect();
            return Err(InvalidNotice::Schema { found, wanted });
        }
        Ok(self.notice)
    }
}

const fn bounded(size: usize) -> Result<(), InvalidNotice> {
    if size > LARGEST_NOTICE { Err(InvalidNotice::TooLarge { size }) } else { Ok(()) }
}

fn malformed(error: &serde_json::Error) -> InvalidNotice {
    InvalidNotice::Malformed { reason: error.to_string() }
}
