//! What releases wrote, as history has it: what a baseline may be made of.

use std::collections::BTreeMap;

use ::history::{FilePath, State};
use domain::change::PlanHash;
use domain::cloud::{ChangeId, CiId, ReleaseId, TenantId};
use domain::configuration::baseline::{
    Fate, Look, ReleasedFile, ReleasedSource, Unfit, Wanted, take,
};
use domain::configuration::secret;
use domain::priority::Priority;
use domain::release::End;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use super::{FileVersion, History, Past};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::page::{LONGEST_PAGE, PageRequest, range};
use crate::releases::{Release, VerificationFilter};
use crate::value::{get, parsed, time};

/// Releases that are offered, at most.
const OFFERED: i64 = 100;

/// An alteration that a release carried out for a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleasedAlteration {
    /// The release.
    pub release: ReleaseId,
    /// The change.
    pub change: ChangeId,
    /// Of the change.
    pub title: String,
    /// Whose items.
    pub tenant: TenantId,
    /// By which plan.
    pub plan: PlanHash,
    /// When the release was planned.
    pub planned_at: Timestamp,
}

impl History {
    /// The alterations that releases carried out on items that the actor may see, the newest first; of one change, where
    /// it is named.
    pub async fn released_alterations(
        &self,
        by: &Actor,
        change: Option<ChangeId>,
    ) -> Result<Vec<ReleasedAlteration>, StoreError> {
        let (low, high) = range(by.scope());
        let rows = sqlx::query(
            "SELECT r.id, r.change_id, r.created_at, c.title, p.tenant_id, p.plan_hash
             FROM releases r JOIN changes c ON c.id = r.change_id
             JOIN release_plans p ON p.release_id = r.id
             WHERE r.ended = $1 AND p.tenant_id BETWEEN $2 AND $3
                 AND ($4 = '' OR r.change_id = $4) AND EXISTS (
                 SELECT 1 FROM alteration_files f
                 WHERE f.change_id = r.change_id AND f.tenant_id = p.tenant_id)
             ORDER BY r.id DESC, p.tenant_id LIMIT $5",
        )
        .bind(End::Released.as_str())
        .bind(low)
        .bind(high)
        .bind(change.map(|change| change.to_string()).unwrap_or_default())
        .bind(OFFERED)
        .fetch_all(self.pool())
        .await?;
        let read = |row| {
            Ok(ReleasedAlteration {
                release: parsed(row, "id")?,
                change: parsed(row, "change_id")?,
                title: get(row, "title")?,
                tenant: parsed(row, "tenant_id")?,
                plan: parsed(row, "plan_hash")?,
                planned_at: time(row, "created_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What a release wrote on a tenant's items, and where history has it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the release is none that concerns a tenant of the actor's; [`StoreError::Refused`]
    /// where it did not go through, where what it wrote is not borne out, or differs among items, and where history does
    /// not have it.
    pub async fn released_files(
        &self,
        by: &Actor,
        (id, tenant): (ReleaseId, TenantId),
        wanted: &Wanted,
        severity: Priority,
    ) -> Result<ReleasedSource, StoreError> {
        self.store.tenant(by, tenant).await?;
        let release = self.store.release(&Actor::System, id).await?;
        let Some(plan) = release.run.layout().plans().get(&tenant) else {
            return Err(StoreError::not_found("release of this tenant's items", &id));
        };
        let fates = self.fates(by, &release, tenant).await?;
        let files = match take(release.run.ended(), plan, &fates, wanted) {
            Ok(files) => files,
            Err(because) => return Err(self.refusal(by, &because).await?),
        };
        let mut found = BTreeMap::new();
        for (path, candidates) in files {
            let place = FilePath::new(path.as_str())?;
            let mut kept = None;
            for file in candidates {
                if kept.is_none() && self.is_kept(&place, file).await? {
                    kept = Some(file);
                }
            }
            let Some(kept) = kept else {
                return Err(StoreError::Refused {
                    reason: format!("what it wrote to `{path}` is not kept any more"),
                    help: "name other files, or take the files of a golden item",
                });
            };
            found.insert(path, kept);
        }
        let (change, plan) = (release.change, plan.hash());
        Ok(ReleasedSource { release: id, change, plan, severity, files: found })
    }

    /// How each item of a tenant's stands in a release.
    async fn fates(
        &self,
        by: &Actor,
        release: &Release,
        tenant: TenantId,
    ) -> Result<BTreeMap<CiId, Fate>, StoreError> {
        let mut fates: BTreeMap<CiId, Fate> = BTreeMap::new();
        let mut page = PageRequest { after: None, limit: LONGEST_PAGE };
        loop {
            let filter = VerificationFilter::Change(release.change);
            let found = self.store.verifications(by, filter, &page).await?;
            for record in found.items.iter().map(|it| &it.record) {
                if record.release == release.id && record.tenant == tenant {
                    let phase = release.run.phase(record.ci);
                    let fate = fates.entry(record.ci);
                    let fate = fate.or_insert_with(|| Fate { phase, looks: Vec::new() });
                    fate.looks.push(Look::from(record));
                }
            }
            page.after = found.next;
            if page.after.is_none() {
                break;
            }
        }
        // They came the newest first.
        for fate in fates.values_mut() {
            fate.looks.reverse();
        }
        Ok(fates)
    }

    /// Why nothing is taken, with the items by their names.
    async fn refusal(&self, by: &Actor, because: &Unfit) -> Result<StoreError, StoreError> {
        let mut reason = because.to_string();
        for ci in because.items() {
            match self.store.ci(by, ci).await {
                Ok(found) => reason = reason.replace(&ci.to_string(), found.name.as_str()),
                Err(StoreError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(StoreError::Refused { reason, help: because.help() })
    }

    /// Whether history has a file as a plan wrote it; of one with secrets, by its original.
    async fn is_kept(&self, path: &FilePath, file: ReleasedFile) -> Result<bool, StoreError> {
        let ReleasedFile { sha256, ci, at } = file;
        let version = match self.file_at(&Actor::System, ci, path, at).await? {
            Past::Kept(version) => version.filter(FileVersion::is_present),
            Past::Erased | Past::Forgotten { .. } => None,
        };
        let Some(FileVersion { state: State::Present { metadata, .. }, content, .. }) = version
        else {
            return Ok(false);
        };
        let Some(content) = content.filter(|_| metadata.mode & 0o170_000 == 0o100_000) else {
            return Ok(false);
        };
        if str::from_utf8(&content).is_ok_and(secret::is_partial) {
            return Ok(self.original_hash(ci, path, at).await? == Some(sha256));
        }
        Ok(sha256 == <[u8; 32]>::from(Sha256::digest(&content)).into())
    }
}
