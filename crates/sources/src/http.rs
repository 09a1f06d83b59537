//! One document behind an address.

use std::collections::BTreeMap;
use std::time::Duration;

use devices::Secret;
use domain::configuration::secret::FingerprintKey;
use domain::source::{Form, Pointer, canonical};
use reach::Reach;

use crate::authority::Roots;
use crate::document::{Document, READABLE};
use crate::error::SourceError;
use crate::web::Web;

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Largest document that is taken, in bytes. Beyond [`domain::configuration::secret::LARGEST`] only its fingerprint is.
const LARGEST: u64 = 16 << 20;

/// Longest tag of a version that is remembered, in bytes.
const LONGEST_TAG: usize = 256;

/// What is looked at, and how.
#[derive(Debug)]
pub struct Wanted<'a> {
    /// Its address.
    pub url: &'a str,
    /// As what it is taken.
    pub form: Form,
    /// What of a JSON document alters by itself.
    pub volatile: &'a [Pointer],
    /// What opens it: headers by name.
    pub headers: &'a BTreeMap<String, Secret>,
    /// The tag of the version that is known.
    pub tag: Option<&'a str>,
    /// Whose certificates count.
    pub roots: &'a Roots,
    /// As which file it is looked through for secrets: `/status.json`.
    pub path: &'a str,
}

/// What a look came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It is the version that is known.
    Unchanged,
    /// It is this.
    Document {
        /// Without its secrets.
        document: Document,
        /// The tag of this version, where its server has one.
        tag: Option<String>,
    },
}

/// Looks once. Blocks for half a minute at most.
///
/// # Errors
/// [`SourceError`].
pub fn look(wanted: &Wanted<'_>, reach: &Reach, key: &FingerprintKey) -> Result<Seen, SourceError> {
    let url = reach.check(wanted.url)?;
    let web = Web::new(&url, (reach, wanted.roots), PATIENCE);
    let mut headers = vec![match wanted.form {
        Form::Json => ("accept", "application/json, */*;q=0.1"),
        Form::Text => ("accept", "*/*"),
    }];
    headers.extend(wanted.tag.map(|tag| ("if-none-match", tag)));
    // Theirs count: who says what is accepted says it once.
    headers.retain(|(name, _)| !wanted.headers.keys().any(|it| it.eq_ignore_ascii_case(name)));
    headers.extend(wanted.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())));
    let answer = web.get(&url, &headers, ("the document", LARGEST))?;
    if answer.status == 304 && wanted.tag.is_some() {
        return Ok(Seen::Unchanged);
    }
    if answer.status != 200 {
        return Err(web.refused(&answer));
    }
    let is_tag =
        |tag: &&str| tag.len() <= LONGEST_TAG && tag.bytes().all(|it| it.is_ascii_graphic());
    let tag = answer.headers.get("etag").and_then(|it| it.to_str().ok());
    let tag = tag.filter(is_tag).map(ToOwned::to_owned);
    let text = match wanted.form {
        Form::Json => {
            canonical(&answer.body, wanted.volatile).map_err(SourceError::NotJson)?.into_bytes()
        }
        Form::Text => answer.body,
    };
    Ok(Seen::Document { document: Document::file(wanted.path, READABLE, &text, key), tag })
}
