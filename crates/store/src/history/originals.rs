//! Originals: files with their secrets, where the owner of a host lets them be kept. They are sealed as everything
//! recorded is, appear in no list, difference or search, and are given to nobody who does not say why.

use ::history::FilePath;
use domain::change::Reason;
use domain::cloud::{CiId, EventKind};
use domain::configuration::document::original;
use jiff::Timestamp;
use serde_json::json;

use super::{FileVersion, History, Past};
use crate::actor::Actor;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::writer::Tx;

impl History {
    /// Whether the original of a file is kept.
    pub async fn has_original(
        &self,
        by: &Actor,
        ci: CiId,
        path: &FilePath,
        at: Timestamp,
    ) -> Result<bool, StoreError> {
        let name = FilePath::new(original(path.as_str()))?;
        let found = self.whole_file_at(by, ci, &name, at).await?;
        Ok(matches!(found, Past::Kept(Some(version)) if version.is_present()))
    }

    /// The original of a file as it was at a time, once it is recorded who reads it, and why: its owner sees that.
    /// `None`, and no record, where there is none.
    pub async fn original(
        &self,
        by: &Actor,
        ci: CiId,
        path: &FilePath,
        at: Timestamp,
        why: Reason,
    ) -> Result<Option<FileVersion>, StoreError> {
        if !self.has_original(by, ci, path, at).await? {
            return Ok(None);
        }
        let reading = (by.clone(), path.clone(), why);
        self.write(reading, move |tx, (by, path, why)| Box::pin(tell(tx, by, ci, path, why, at)))
            .await?;
        let name = FilePath::new(original(path.as_str()))?;
        Ok(match self.whole_file_at(by, ci, &name, at).await? {
            Past::Kept(version) => version.filter(FileVersion::is_present),
            // Erased since it was looked for.
            Past::Erased | Past::Forgotten { .. } => None,
        })
    }
}

async fn tell(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    path: &FilePath,
    why: &Reason,
    at: Timestamp,
) -> Result<(), StoreError> {
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    tx.record(NewEvent {
        tenant: ci.tenant,
        kind: EventKind::OriginalRead,
        by: by.clone(),
        object: id.to_string(),
        version: ci.version,
        // Who reads what is for its owner to see: the name of the file is told, what stands in it is not.
        payload: json!({ "path": path.as_str(), "at": at, "reason": why.as_str() }),
    });
    Ok(())
}
