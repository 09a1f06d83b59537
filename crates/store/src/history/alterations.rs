//! What alterations make of files: proposed with their contents, planned against what history has, carried by orders,
//! and looked for in history afterwards.
//!
//! ```text
//! propose ─► (proof) ─► alters: held, after ─► plan ─► order, with contents ─► told, recorded ─► sights ─► verified
//!    ▲
//! put back: a drift, with what was there before it, proven by that
//! ```
//!
//! Contents are sealed under the tenant's key. Plans and events have their SHA-256 alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use ::history::{FilePath, State};
use domain::change::alteration::{self, Known, MOST_FILES, Named, Unwritable, Wanted};
use domain::change::{Access, Action, ChangeStage, FileHash, Intended, Kind, Plan};
use domain::cloud::{ChangeId, CiId, DriftId, EventKind, ReleaseId, TenantId, VerificationId};
use domain::configuration::document::{aspect, original};
use domain::configuration::secret;
use domain::priority::Priority;
use domain::verification::{self, Files};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;

use super::keys::{TenantKeys, held};
use super::{Drift, DriftState, FileVersion, History, Past};
use crate::actor::Actor;
use crate::changes::{ChangeStep, NewChange, Outcome, advance, lists, load, open};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::releases::Fetched;
use crate::value::{get, parsed, parsed_or_none, time};
use crate::writer::Tx;

/// What is to be made of a file.
#[derive(Debug, Clone)]
pub struct NewIntendedFile {
    /// On which item.
    pub ci: CiId,
    /// Which file.
    pub path: FilePath,
    /// What.
    pub intended: NewIntended,
}

/// What a file is to be.
#[derive(Clone)]
pub enum NewIntended {
    /// Not there.
    Absent,
    /// There, with this content.
    Content {
        /// All of it.
        content: Vec<u8>,
        /// Whose it is to be.
        access: Named,
    },
    /// There, with the content that it has.
    Access(Named),
}

/// Without the content.
impl std::fmt::Debug for NewIntended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absent => f.write_str("Absent"),
            Self::Content { content, access } => {
                write!(f, "Content({} bytes, {access:?})", content.len())
            }
            Self::Access(access) => write!(f, "Access({access:?})"),
        }
    }
}

/// What an alteration makes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntendedFile {
    /// Which alteration.
    pub change: ChangeId,
    /// Whose item.
    pub tenant: TenantId,
    /// On which item.
    pub ci: CiId,
    /// What people call it.
    pub ci_name: String,
    /// Which file.
    pub path: FilePath,
    /// What it was when that was proposed.
    pub held: Intended,
    /// What it is to be.
    pub after: Intended,
    /// Size of its content in bytes; none where it is not to be there.
    pub bytes: u64,
    /// Who proposed it.
    pub proposed_by: String,
    /// When.
    pub proposed_at: Timestamp,
}

/// What history has of files that agents are said to have altered, by item and attempt.
pub(crate) type Sights = BTreeMap<(CiId, u32), Files>;

/// What is to be kept of a proposal.
struct Proposal {
    by: Actor,
    change: ChangeId,
    fitting: Fitting,
    keys: Arc<TenantKeys>,
}

/// What is to be put back.
struct PutBack {
    by: Actor,
    drift: Drift,
    fitting: Fitting,
    keys: Arc<TenantKeys>,
}

/// What a file is and is to be, each with its content, where an order could make the one of the other.
struct Fitting {
    ci: CiId,
    path: FilePath,
    held: (Intended, Option<Vec<u8>>),
    after: (Intended, Option<Vec<u8>>),
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT f.change_id, f.ci_id, f.tenant_id, f.path, f.held, f.after, f.bytes, f.proposed_by,
                    f.proposed_at, c.name AS ci_name
             FROM alteration_files f JOIN cis c ON c.id = f.ci_id ",
            $rest
        )
    };
}

impl History {
    /// Says what an alteration makes of a file, in the place of what was said before.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the change or the item is not the actor's to see; [`StoreError::Refused`] where
    /// the change is no alteration, is proven or over, or does not concern the item's tenant, and where nobody could
    /// see whether that was done.
    pub async fn propose_file(
        &self,
        by: &Actor,
        change: ChangeId,
        new: NewIntendedFile,
    ) -> Result<IntendedFile, StoreError> {
        let asked = self.asked(by, new.ci).await?;
        self.store.change(by, change).await?;
        let path = new.path.to_string();
        let fitting = self.fit(new).await?;
        let keys = asked.keys.ok_or_else(|| refused(&Unwritable::Unobserved { path }))?;
        let proposal = Proposal { by: by.clone(), change, fitting, keys };
        self.write(proposal, |tx, proposal| Box::pin(propose(tx, proposal))).await
    }

    /// What an alteration makes of files, of those that the actor may see, by item and name.
    pub async fn intended_files(
        &self,
        by: &Actor,
        change: ChangeId,
    ) -> Result<Vec<IntendedFile>, StoreError> {
        let (low, high) = range(by.scope());
        let rows = sqlx::query(select!(
            "WHERE f.change_id = $1 AND f.tenant_id BETWEEN $2 AND $3 ORDER BY f.ci_id, f.path"
        ))
        .bind(change.to_string())
        .bind(low)
        .bind(high)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read).collect()
    }

    /// The content that an alteration gives a file, nothing where it takes it away; `None` where the tenant's key was
    /// destroyed since.
    pub async fn intended_content(
        &self,
        file: &IntendedFile,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        match file.after.sha256() {
            Some(hash) => self.content_of(file.tenant, file.change, hash).await,
            None => Ok(Some(Vec::new())),
        }
    }

    /// What a plan of an alteration says of each item now, or why it says nothing.
    pub async fn alters(
        &self,
        by: &Actor,
        change: ChangeId,
    ) -> Result<BTreeMap<CiId, Result<Vec<Action>, Unwritable>>, StoreError> {
        let mut found: BTreeMap<CiId, (Vec<Action>, Vec<Unwritable>)> = BTreeMap::new();
        for file in self.intended_files(by, change).await? {
            let known = self.known(file.ci, &file.path).await?.0;
            let of_item = found.entry(file.ci).or_default();
            match alteration::alter_file(file.path.as_str(), &file.held, &file.after, &known) {
                Ok(action) => of_item.0.push(action),
                Err(because) => of_item.1.push(because),
            }
        }
        let decided = found.into_iter().map(|(ci, (actions, against))| {
            let is_done = |it: &&Unwritable| matches!(it, Unwritable::Already { .. });
            let first = against.iter().find(|it| !is_done(it));
            let first = first.or_else(|| against.first().filter(|_| actions.is_empty()));
            (ci, first.map_or(Ok(actions), |because| Err(because.clone())))
        });
        Ok(decided.collect())
    }

    /// The contents that go with an order. One that is gone is left out, and the agent refuses the order.
    pub async fn order_contents(
        &self,
        by: &Actor,
        fetched: &Fetched,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        let Actor::Agent { tenant, ci, .. } = *by else { return Ok(Vec::new()) };
        let mut contents = BTreeMap::new();
        for action in planned(&fetched.plan, ci, Some(fetched.stage)) {
            let Action::AlterFile { change: of_file, .. } = action else { continue };
            let wanted = if fetched.is_back { of_file.before() } else { of_file.after() };
            let Some(hash) = wanted.sha256() else { continue };
            let change = fetched.plan.draft().change;
            if let Some(content) = self.content_of(tenant, change, hash).await? {
                contents.insert(hash, content);
            }
        }
        Ok(contents.into_values().collect())
    }

    /// Takes up an alteration that puts back what a drift altered: to what was there before, or to nothing where nothing
    /// was, and proven by that, for it was in force. Everything of it in one commit.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where the drift is not open or is taken up already, and where no order could put it back.
    pub async fn put_back(&self, by: &Actor, id: DriftId) -> Result<Drift, StoreError> {
        let drift = self.drift(by, id).await?;
        let asked = self.asked(by, drift.ci).await?;
        let keys = asked.keys.ok_or_else(|| StoreError::not_found("drift", &id))?;
        let path = drift.path.as_str();
        if aspect(path).is_some() {
            return Err(StoreError::Refused {
                reason: format!("`{path}` is no file: it follows from files, or from what runs"),
                help: "put back what it follows from",
            });
        }
        let earlier = drift.since - SignedDuration::from_micros(1);
        let intended = match self.whole_content(drift.ci, &drift.path, earlier).await? {
            Whole::Content { content, access } => {
                let access = access.map(Named::all).unwrap_or_default();
                NewIntended::Content { content, access }
            }
            Whole::Absent => NewIntended::Absent,
            Whole::Withheld => {
                return Err(refused(&Unwritable::Withheld { path: path.to_owned() }));
            }
            Whole::NotPlain => {
                return Err(refused(&Unwritable::NotPlain { path: path.to_owned() }));
            }
            Whole::Erased => return Err(refused(&Unwritable::Erased { path: path.to_owned() })),
        };
        let new = NewIntendedFile { ci: drift.ci, path: drift.path.clone(), intended };
        let fitting = self.fit(new).await?;
        let back = PutBack { by: by.clone(), drift, fitting, keys };
        self.write(back, |tx, back| Box::pin(put_back(tx, back))).await
    }

    /// What history has of the files that agents are said to have altered for a release, or to have put back: of items
    /// of which all files were told since.
    pub(crate) async fn sights(&self, release: ReleaseId) -> Result<Sights, StoreError> {
        let rows = sqlx::query(
            "SELECT c.ci_id, c.attempt, c.stage, p.body FROM release_checks c
             JOIN agents a ON a.ci_id = c.ci_id AND a.state = 'active'
             JOIN cis i ON i.id = c.ci_id
             JOIN release_plans r ON r.release_id = c.release_id AND r.tenant_id = i.tenant_id
             JOIN plans p ON p.hash = r.plan_hash
             WHERE c.release_id = $1 AND a.files_at > c.since AND EXISTS (
                 SELECT 1 FROM alteration_files f WHERE f.change_id = p.change_id)",
        )
        .bind(release.to_string())
        .fetch_all(self.pool())
        .await?;
        let mut sights = Sights::new();
        for row in &rows {
            let (plan, ci) = (load::read_plan(row)?, parsed(row, "ci_id")?);
            let number = |column| -> Result<u32, StoreError> {
                Ok(u32::try_from(get::<i64>(row, column)?).unwrap_or(u32::MAX))
            };
            let actions = planned(&plan, ci, Some(number("stage")?));
            sights.insert((ci, number("attempt")?), self.hold(ci, &actions).await?);
        }
        Ok(sights)
    }

    /// The same for a later look at an item that was verified; `None` where its plan alters no files, or where they
    /// were not all told since `from`.
    pub(crate) async fn sights_again(
        &self,
        verified: VerificationId,
        from: SignedDuration,
    ) -> Result<Option<Files>, StoreError> {
        let row = sqlx::query(
            "SELECT v.ci_id, p.body FROM verifications_due d
             JOIN verifications v ON v.id = d.verification_id
             JOIN orders o ON o.nonce = v.order_nonce JOIN plans p ON p.hash = o.plan_hash
             JOIN agents a ON a.ci_id = v.ci_id AND a.state = 'active'
             WHERE d.verification_id = $1 AND a.files_at >= d.due_at - $2 AND EXISTS (
                 SELECT 1 FROM alteration_files f WHERE f.change_id = p.change_id)
             LIMIT 1",
        )
        .bind(verified.to_string())
        .bind(i64::try_from(from.as_micros()).unwrap_or(i64::MAX))
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let (plan, ci) = (load::read_plan(&row)?, parsed(&row, "ci_id")?);
        self.hold(ci, &planned(&plan, ci, None)).await.map(Some)
    }

    /// What the files of a plan hold now, as far as history can tell.
    async fn hold(&self, ci: CiId, actions: &[Action]) -> Result<Files, StoreError> {
        let mut files = Files::new();
        if !verification::alters_files(actions) {
            return Ok(files);
        }
        for action in actions {
            let Action::AlterFile { path, .. } = action else { continue };
            let known = self.known(ci, &FilePath::new(path.as_str())?).await?.0;
            if let Ok(found) = alteration::holds(path, &known) {
                files.insert(path.clone(), found);
            }
        }
        Ok(files)
    }

    /// What a file is now and is to be, where an order could make the one of the other and somebody could see that.
    async fn fit(&self, new: NewIntendedFile) -> Result<Fitting, StoreError> {
        let NewIntendedFile { ci, path, intended } = new;
        let name = path.as_str();
        let no = |because: Unwritable| refused(&because);
        alteration::check_name(name).map_err(no)?;
        let (known, held) = self.known(ci, &path).await?;
        let (content, access) = match intended {
            NewIntended::Absent => (None, Named::default()),
            NewIntended::Content { content, access } => (Some(content), access),
            NewIntended::Access(access) => {
                alteration::holds(name, &known).map_err(no)?;
                let none = || no(Unwritable::NotThere { path: name.to_owned() });
                (Some(held.clone().ok_or_else(none)?), access)
            }
        };
        let wanted = match &content {
            None => Wanted::Absent,
            Some(content) => {
                let now = self.store.environment().now();
                let keeps_original = self.has_original(&Actor::System, ci, &path, now).await?;
                alteration::check_content(name, content, keeps_original).map_err(no)?;
                Wanted::Content { sha256: sha256(content), access }
            }
        };
        let (is, after) = alteration::propose(name, wanted, &known).map_err(no)?;
        Ok(Fitting { ci, path, held: (is, held), after: (after, content) })
    }

    /// What history knows of a file now, with its content.
    async fn known(
        &self,
        ci: CiId,
        path: &FilePath,
    ) -> Result<(Known, Option<Vec<u8>>), StoreError> {
        let now = self.store.environment().now();
        Ok(match self.whole_content(ci, path, now).await? {
            Whole::Content { content, access } => {
                (Known::Is(Intended::Content { sha256: sha256(&content), access }), Some(content))
            }
            Whole::Absent if self.is_observed(ci, path, now).await? => {
                (Known::Is(Intended::Absent), None)
            }
            Whole::Absent => (Known::Unobserved, None),
            Whole::Withheld => (Known::Withheld, None),
            Whole::NotPlain => (Known::NotPlain, None),
            Whole::Erased => (Known::Erased, None),
        })
    }

    /// All that a file held, with what is secret in it where its original is kept.
    async fn whole_content(
        &self,
        ci: CiId,
        path: &FilePath,
        at: Timestamp,
    ) -> Result<Whole, StoreError> {
        let by = &Actor::System;
        let version = match self.whole_file_at(by, ci, path, at).await? {
            Past::Kept(version) => version.filter(FileVersion::is_present),
            Past::Erased | Past::Forgotten { .. } => return Ok(Whole::Erased),
        };
        let Some(FileVersion { state: State::Present { metadata, .. }, content, .. }) = version
        else {
            return Ok(Whole::Absent);
        };
        if !matches!(metadata.mode & 0o170_000, 0 | 0o100_000) {
            return Ok(Whole::NotPlain);
        }
        let Some(content) = content else { return Ok(Whole::Erased) };
        let access = Access::recorded(metadata.mode, &metadata.owner);
        if !str::from_utf8(&content).is_ok_and(secret::is_partial) {
            return Ok(Whole::Content { content, access });
        }
        let name = FilePath::new(original(path.as_str()))?;
        let original = match self.whole_file_at(by, ci, &name, at).await? {
            Past::Kept(version) => version.filter(FileVersion::is_present),
            Past::Erased | Past::Forgotten { .. } => None,
        };
        let content = original.and_then(|version| version.content);
        Ok(content.map_or(Whole::Withheld, |content| Whole::Content { content, access }))
    }

    /// SHA-256 of the original of a file, where it is kept.
    pub(super) async fn original_hash(
        &self,
        ci: CiId,
        path: &FilePath,
        at: Timestamp,
    ) -> Result<Option<FileHash>, StoreError> {
        let name = FilePath::new(original(path.as_str()))?;
        let found = match self.whole_file_at(&Actor::System, ci, &name, at).await? {
            Past::Kept(version) => version.filter(FileVersion::is_present),
            Past::Erased | Past::Forgotten { .. } => None,
        };
        Ok(found.and_then(|version| version.content).map(|content| sha256(&content)))
    }

    /// Whether something is told of where a file lies: it is then told too, once it is there.
    async fn is_observed(
        &self,
        ci: CiId,
        path: &FilePath,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let was_told = self.whole_file_at(&Actor::System, ci, path, now).await?;
        if matches!(was_told, Past::Kept(Some(_))) {
            return Ok(true);
        }
        let Some((directory, _)) = path.as_str().rsplit_once('/') else { return Ok(false) };
        let Past::Kept(found) = self.manifest(&Actor::System, ci, now).await? else {
            return Ok(false);
        };
        let is_beside = |it: &FilePath| {
            let it = it.as_str();
            it == directory || it.rsplit_once('/').is_some_and(|(of, _)| of == directory)
        };
        Ok(found.files.keys().any(is_beside))
    }

    async fn content_of(
        &self,
        tenant: TenantId,
        change: ChangeId,
        hash: FileHash,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(keys) = self.keys_of(&Actor::System, tenant).await? else { return Ok(None) };
        let row = sqlx::query(
            "SELECT sealed FROM alteration_contents
             WHERE change_id = $1 AND tenant_id = $2 AND sha256 = $3",
        )
        .bind(change.to_string())
        .bind(tenant.to_string())
        .bind(hash.to_string())
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let sealed: Vec<u8> = get(&row, "sealed")?;
        keys.open_bytes(&place(change, hash), &sealed).map(Some)
    }
}

/// All that a file held, and whose it was, where that was told.
enum Whole {
    Content { content: Vec<u8>, access: Option<Access> },
    Absent,
    Withheld,
    NotPlain,
    Erased,
}

fn place(change: ChangeId, hash: FileHash) -> String {
    format!("alteration/{change}/{hash}")
}

fn sha256(bytes: &[u8]) -> FileHash {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}

fn refused(because: &Unwritable) -> StoreError {
    StoreError::Refused { reason: because.to_string(), help: because.help() }
}

/// What a plan says for an item, in one stage or in all.
fn planned(plan: &Plan, ci: CiId, stage: Option<u32>) -> Vec<Action> {
    let stages = plan.draft().stages.iter().zip(0_u32..);
    let meant = stages.filter(|(_, place)| stage.is_none_or(|stage| stage == *place));
    let items = meant.flat_map(|(stage, _)| &stage.items).filter(|item| item.ci == ci);
    items.flat_map(|item| item.actions.clone()).collect()
}

async fn propose(tx: &mut Tx<'_>, proposal: &Proposal) -> Result<IntendedFile, StoreError> {
    let Proposal { by, change, fitting, keys } = proposal;
    advance::person(by)?;
    tx.hold("changes", "id", &change.to_string()).await?;
    held(tx, keys).await?;
    let tracked = lists::change(&mut *tx.connection, by.scope(), *change).await?;
    if tracked.change.kind != Kind::Alteration {
        return Err(StoreError::Refused {
            reason: format!("{change} is a patch: what it installs, its vendor says"),
            help: "take up an alteration: `patchwright change open`",
        });
    }
    let stage = tracked.change.stage();
    if !matches!(stage, ChangeStage::Found | ChangeStage::Proving | ChangeStage::Reopened { .. }) {
        // What was proven is what is planned.
        return Err(StoreError::Refused {
            reason: format!("the change is {}: what it makes of files is settled", stage.as_str()),
            help: "take up another alteration, and withdraw this one",
        });
    }
    let row = sqlx::query(
        "SELECT (SELECT COUNT(*) FROM alteration_files WHERE change_id = $1) AS files,
                (SELECT COUNT(*) FROM obligations WHERE change_id = $1 AND tenant_id = $2) AS concerned",
    )
    .bind(change.to_string())
    .bind(keys.id.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "concerned")? == 0 {
        return Err(StoreError::Refused {
            reason: format!("{change} does not concern the tenant of {}", fitting.ci),
            help: "name the tenant where the change is taken up: `change open --tenant`",
        });
    }
    if get::<i64>(&row, "files")? >= i64::from(MOST_FILES) {
        return Err(StoreError::Refused {
            reason: format!("{change} alters {MOST_FILES} files already"),
            help: "split it: a change for each group of items",
        });
    }
    keep(tx, by, *change, keys, fitting).await
}

/// Keeps what an alteration makes of a file, with the content that it is to hold and the one that it may have to go back
/// to, sealed.
async fn keep(
    tx: &mut Tx<'_>,
    by: &Actor,
    change: ChangeId,
    keys: &TenantKeys,
    fitting: &Fitting,
) -> Result<IntendedFile, StoreError> {
    let Fitting { ci, path, held, after } = fitting;
    let bytes = after.1.as_ref().map_or(0, Vec::len);
    let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
    for (what, content) in [held, after] {
        let Some((hash, content)) = what.sha256().zip(content.as_ref()) else { continue };
        let sealed = keys.seal_bytes(&place(change, hash), content, tx.random())?;
        sqlx::query(
            "INSERT INTO alteration_contents (change_id, tenant_id, sha256, sealed)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT (change_id, tenant_id, sha256) DO UPDATE SET sealed = excluded.sealed",
        )
        .bind(change.to_string())
        .bind(keys.id.to_string())
        .bind(hash.to_string())
        .bind(sealed)
        .execute(&mut *tx.connection)
        .await?;
    }
    let (held, after) = (&held.0, &after.0);
    sqlx::query(
        "INSERT INTO alteration_files (change_id, ci_id, tenant_id, path, held, after, bytes,
                                       proposed_by, proposed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (change_id, ci_id, path) DO UPDATE SET held = excluded.held,
             after = excluded.after, bytes = excluded.bytes, proposed_by = excluded.proposed_by,
             proposed_at = excluded.proposed_at",
    )
    .bind(change.to_string())
    .bind(ci.to_string())
    .bind(keys.id.to_string())
    .bind(path.as_str())
    .bind(held.to_string())
    .bind(after.to_string())
    .bind(bytes)
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    tx.record(NewEvent {
        tenant: keys.id,
        kind: EventKind::ChangeFileProposed,
        by: by.clone(),
        object: change.to_string(),
        version: 1,
        // Which file it is, its plan says.
        payload: json!({
            "ci": ci, "held": held.sha256(), "held_access": held.access(), "after": after.sha256(),
            "access": after.access(), "bytes": bytes,
        }),
    });
    let row = sqlx::query(select!("WHERE f.change_id = $1 AND f.ci_id = $2 AND f.path = $3"))
        .bind(change.to_string())
        .bind(ci.to_string())
        .bind(path.as_str())
        .fetch_one(&mut *tx.connection)
        .await?;
    read(&row)
}

async fn put_back(tx: &mut Tx<'_>, back: &PutBack) -> Result<Drift, StoreError> {
    let PutBack { by, drift, fitting, keys } = back;
    held(tx, keys).await?;
    // What was taken back, or is not fit, puts nothing back.
    let row = sqlx::query(
        "SELECT state, recorded, alterations, (
             SELECT c.id FROM changes c WHERE c.id = drifts.change_id
                 AND c.stage NOT IN ('withdrawn', 'rejected')) AS change_id
         FROM drifts WHERE id = $1",
    )
    .bind(drift.id.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if let Some(name) = get::<Option<String>>(&row, "change_id")? {
        return Err(StoreError::Exists { what: "change that puts it back", name });
    }
    let is_open = parsed::<DriftState>(&row, "state")? == DriftState::Open;
    if !is_open || time(&row, "recorded")? != drift.recorded_at {
        return Err(StoreError::Refused {
            reason: "somebody decided, or the file was altered again since".to_owned(),
            help: "look at the drift once more",
        });
    }
    let new = NewChange {
        kind: Kind::Alteration,
        title: format!("Put back a file of {} ({})", drift.ci_name, drift.id),
        patches: Vec::new(),
        tenants: vec![drift.tenant],
        priority: Priority::High,
    };
    let change = open::create(tx, by, &new).await?.change.id;
    let after = keep(tx, by, change, keys, fitting).await?.after;
    let evidence = after.sha256().unwrap_or_else(|| sha256(after.to_string().as_bytes()));
    for step in [ChangeStep::Prove, ChangeStep::Pass(evidence)] {
        if let Outcome::Refused { reason, .. } = advance::step_change(tx, by, change, &step).await?
        {
            let help = "take up an alteration by hand: `patchwright change open`";
            return Err(StoreError::Refused { reason, help });
        }
    }
    sqlx::query("UPDATE drifts SET change_id = $1 WHERE id = $2")
        .bind(change.to_string())
        .bind(drift.id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    tx.record(NewEvent {
        tenant: drift.tenant,
        kind: EventKind::DriftTakenUp,
        by: by.clone(),
        object: drift.id.to_string(),
        version: get(&row, "alterations")?,
        payload: json!({ "change": change }),
    });
    Ok(Drift { change: Some(change), ..drift.clone() })
}

fn read(row: &AnyRow) -> Result<IntendedFile, StoreError> {
    Ok(IntendedFile {
        change: parsed(row, "change_id")?,
        tenant: parsed(row, "tenant_id")?,
        ci: parsed(row, "ci_id")?,
        ci_name: get(row, "ci_name")?,
        path: FilePath::new(get::<String>(row, "path")?)?,
        // Nothing was kept once of what was not there.
        held: parsed_or_none(row, "held")?.unwrap_or(Intended::Absent),
        after: parsed(row, "after")?,
        bytes: get::<i64>(row, "bytes")?.unsigned_abs(),
        proposed_by: get(row, "proposed_by")?,
        proposed_at: time(row, "proposed_at")?,
    })
}
