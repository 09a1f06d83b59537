//! What items are held against beside what comes with the program: baselines that people put in, to which items they
//! apply, and for which rules somebody answers.
//!
//! A version of a baseline is never altered. What a golden item held, or a release wrote, is in the history; here is
//! where.

mod bindings;
mod standards;
mod waivers;

use std::collections::BTreeSet;

use domain::cloud::{BaselineId, CiId, EventKind, PROVIDER, Side, TenantId, words};
use domain::configuration::baseline::{Baseline, GoldenSource, ReleasedSource, is_name};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::Store;
use crate::actor::Actor;
use crate::answers::Once;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::tenants;
use crate::value::{get, hex, parsed, time, time_or_none};
use crate::writer::Tx;

pub(crate) use bindings::end_of_group;
pub use bindings::{Binding, BindingFilter, NewBinding, Target};
pub use standards::{HeldTo, KeptTo};
pub use waivers::{LONGEST_WAIVER, NewWaiver, RuleWaiver};

/// Baselines of one tenant that are in use, at most: each is held against many items.
const MOST: i64 = 100;

/// Versions of one, at most.
const MOST_VERSIONS: i64 = 1000;

words! {
    /// What a baseline is made of.
    BaselineKind {
        /// Rules.
        Rules = "rules",
        /// Files of an item that is as it should be.
        Golden = "golden",
        /// Files that a release wrote.
        Release = "release",
    }
}

/// A baseline that somebody put in, with its newest version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptBaseline {
    /// Its id.
    pub id: BaselineId,
    /// Whose.
    pub tenant: TenantId,
    /// Unique within its tenant, of those that are in use.
    pub name: String,
    /// What it is made of.
    pub kind: BaselineKind,
    /// In words.
    pub title: String,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// Since when it is held against nothing.
    pub withdrawn_at: Option<Timestamp>,
    /// The number of its newest version, from 1.
    pub number: i64,
    /// What its author calls that.
    pub version: String,
}

/// A version of a baseline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaselineVersion {
    /// From 1.
    pub number: i64,
    /// What its author calls it.
    pub version: String,
    /// When it was put in.
    pub put_at: Timestamp,
    /// By whom.
    pub put_by: String,
    /// What it says.
    pub content: BaselineContent,
}

/// A version of a baseline, as lists show it: without what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedVersion {
    /// From 1.
    pub number: i64,
    /// What its author calls it.
    pub version: String,
    /// When it was put in.
    pub put_at: Timestamp,
    /// By whom.
    pub put_by: String,
}

/// What a baseline says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BaselineContent {
    /// A file of rules (TOML).
    Rules(String),
    /// Where in the history the files of the golden item are.
    Golden(GoldenSource),
    /// Where in the history the files are that a release wrote.
    Release(ReleasedSource),
}

/// A baseline that is to be, or another version of one.
#[derive(Debug, Clone)]
pub struct NewBaseline {
    /// Whose.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// In words.
    pub title: String,
    /// What its author calls this version; those of files are counted.
    pub version: Option<String>,
    /// What it says.
    pub content: BaselineContent,
}

macro_rules! columns {
    ($more:literal, $rest:literal) => {
        concat!(
            "SELECT b.id, b.tenant_id, b.name, b.kind, b.title, b.created_at, b.withdrawn_at,
                 v.number, v.word, v.put_at, v.put_by",
            $more,
            " FROM baselines b JOIN baseline_versions v ON v.baseline_id = b.id ",
            $rest
        )
    };
}

macro_rules! select {
    ($rest:literal) => {
        $crate::baselines::columns!("", $rest)
    };
}

// What a version says is up to 1 MiB, and is read where it is asked for alone.
macro_rules! select_with_content {
    ($rest:literal) => {
        $crate::baselines::columns!(", v.content", $rest)
    };
}
use {columns, select_with_content};

/// Baselines that people put in.
impl Store {
    /// Puts a baseline in, or another version of the one of this name. The same once more alters nothing.
    pub async fn put_baseline(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewBaseline,
    ) -> Result<KeptBaseline, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(put(tx, by, new))).await
    }

    /// The baselines that the actor may see; with those that were withdrawn, where `all` says so.
    pub async fn baselines(
        &self,
        by: &Actor,
        all: bool,
        page: &PageRequest,
    ) -> Result<Page<KeptBaseline>, StoreError> {
        let (low, high) = range(by.scope());
        let (tenant, id) = page.place();
        let rows = sqlx::query(select!(
            "AND v.number = b.version
             WHERE b.tenant_id BETWEEN $1 AND $2 AND (b.tenant_id, b.id) > ($3, $4)
                 AND (b.withdrawn_at IS NULL OR $5 = 1)
             ORDER BY b.tenant_id, b.id LIMIT $6"
        ))
        .bind(low)
        .bind(high)
        .bind(tenant)
        .bind(id)
        .bind(i64::from(all))
        .bind(page.fetched())
        .fetch_all(&self.pool)
        .await?;
        let found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Ok(page.cut(found, |it: &KeptBaseline| Cursor::new(it.tenant, it.id)))
    }

    /// One of them.
    pub async fn baseline(&self, by: &Actor, id: BaselineId) -> Result<KeptBaseline, StoreError> {
        find(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// Its versions, the newest first, without what they say.
    pub async fn baseline_versions(
        &self,
        by: &Actor,
        id: BaselineId,
    ) -> Result<Vec<ListedVersion>, StoreError> {
        self.baseline(by, id).await?;
        let rows = sqlx::query(select!("WHERE b.id = $1 ORDER BY v.number DESC"))
            .bind(id.to_string())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read_listed).collect()
    }

    /// One version of it, as its author calls it; the newest where none is named.
    pub async fn baseline_version(
        &self,
        by: &Actor,
        id: BaselineId,
        version: Option<&str>,
    ) -> Result<BaselineVersion, StoreError> {
        let kept = self.baseline(by, id).await?;
        let word = version.unwrap_or(&kept.version);
        let row = sqlx::query(select_with_content!("WHERE b.id = $1 AND v.word = $2"))
            .bind(id.to_string())
            .bind(word)
            .fetch_optional(&self.pool)
            .await?;
        read_version(&row.ok_or_else(|| StoreError::not_found("version of the baseline", &word))?)
    }

    /// Withdraws one: it is held against nothing any more, and all that bound it ends. What it said stays.
    pub async fn withdraw_baseline(
        &self,
        by: &Actor,
        id: BaselineId,
    ) -> Result<KeptBaseline, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(withdraw(tx, by, id))).await
    }
}

async fn put(tx: &mut Tx<'_>, by: &Actor, new: &NewBaseline) -> Result<KeptBaseline, StoreError> {
    tenants::must_exist(tx, by, new.tenant).await?;
    must_be_a_name(&new.name)?;
    for id in new.content.items() {
        let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
        if ci.tenant != new.tenant {
            return Err(StoreError::Refused {
                reason: format!("{id} is not an item of {}", new.tenant),
                help: "files and the baseline that is made of them are one tenant's",
            });
        }
    }
    let content = new.content.text();
    let row = sqlx::query(select!(
        "AND v.number = b.version WHERE b.tenant_id = $1 AND b.name = $2 AND b.withdrawn_at IS NULL"
    ))
    .bind(new.tenant.to_string())
    .bind(new.name.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let before = row.as_ref().map(read).transpose()?;
    let number = before.as_ref().map_or(1, |it| it.number + 1);
    let version = new.version.clone().unwrap_or_else(|| number.to_string());
    let kept = match before {
        None => create(tx, new, version).await?,
        Some(before) => {
            if is_kept(tx, new, &before, &version, &content).await? {
                return find(&mut *tx.connection, by.scope(), before.id).await;
            }
            go_on(tx, new, before, version).await?
        }
    };
    sqlx::query(
        "INSERT INTO baseline_versions (baseline_id, number, word, content, put_at, put_by)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(kept.id.to_string())
    .bind(kept.number)
    .bind(kept.version.as_str())
    .bind(content.as_str())
    .bind(tx.now.as_microsecond())
    .bind(by.id())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("version of the baseline", &kept.version))?;
    let mut more = json!({ "sha256": hex(&Sha256::digest(content.as_bytes())) });
    if let BaselineContent::Release(ReleasedSource { release, change, plan, .. }) = &new.content {
        more["from"] = json!({ "release": release, "change": change, "plan": plan });
    }
    record(tx, by, EventKind::BaselinePut, &kept, &more);
    Ok(kept)
}

fn must_be_a_name(name: &str) -> Result<(), StoreError> {
    if !is_name(name) {
        return Err(StoreError::Refused {
            reason: format!("`{name}` is no name of a baseline"),
            help: "use lower-case letters, digits and `-`, at most 64 of them",
        });
    }
    if Baseline::built_in().iter().any(|it| it.id == name) {
        return Err(StoreError::Refused {
            reason: format!("`{name}` is a baseline that comes with the program"),
            help: "take another name; to use yours instead, bind it, and unbind the other",
        });
    }
    Ok(())
}

async fn create(
    tx: &mut Tx<'_>,
    new: &NewBaseline,
    version: String,
) -> Result<KeptBaseline, StoreError> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS items FROM baselines WHERE tenant_id = $1 AND withdrawn_at IS NULL",
    )
    .bind(new.tenant.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "items")? >= MOST {
        return Err(StoreError::Refused {
            reason: format!("there are {MOST} baselines in use already"),
            help: "withdraw some, or put more rules into one",
        });
    }
    let kept = KeptBaseline {
        id: BaselineId::new(tx.now, tx.random()),
        tenant: new.tenant,
        name: new.name.clone(),
        kind: new.content.kind(),
        title: new.title.clone(),
        created_at: tx.now,
        withdrawn_at: None,
        number: 1,
        version,
    };
    sqlx::query(
        "INSERT INTO baselines (id, tenant_id, name, kind, title, created_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, 1)",
    )
    .bind(kept.id.to_string())
    .bind(kept.tenant.to_string())
    .bind(kept.name.as_str())
    .bind(kept.kind.as_str())
    .bind(kept.title.as_str())
    .bind(kept.created_at.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("baseline", &kept.name))?;
    Ok(kept)
}

/// Whether this very version is kept already; refused where another one is called so.
async fn is_kept(
    tx: &mut Tx<'_>,
    new: &NewBaseline,
    before: &KeptBaseline,
    version: &str,
    content: &str,
) -> Result<bool, StoreError> {
    if before.kind != new.content.kind() {
        return Err(StoreError::Refused {
            reason: format!("`{}` is made of {}", before.name, before.kind),
            help: "take another name, or withdraw that one first",
        });
    }
    let row =
        sqlx::query("SELECT content FROM baseline_versions WHERE baseline_id = $1 AND word = $2")
            .bind(before.id.to_string())
            .bind(version)
            .fetch_optional(&mut *tx.connection)
            .await?;
    let Some(row) = row else { return Ok(false) };
    if get::<String>(&row, "content")? == content {
        return Ok(true);
    }
    Err(StoreError::Refused {
        reason: format!("version {version} of `{}` says something else", before.name),
        help: "a version is never altered: give this one another `version`",
    })
}

async fn go_on(
    tx: &mut Tx<'_>,
    new: &NewBaseline,
    before: KeptBaseline,
    version: String,
) -> Result<KeptBaseline, StoreError> {
    if before.number >= MOST_VERSIONS {
        return Err(StoreError::Refused {
            reason: format!("`{}` has {MOST_VERSIONS} versions already", before.name),
            help: "withdraw it, and begin anew",
        });
    }
    let (expected, title) = (before.number, new.title.clone());
    let kept = KeptBaseline { number: expected + 1, version, title, ..before };
    let altered = sqlx::query(
        "UPDATE baselines SET version = $1, title = $2
         WHERE id = $3 AND version = $4 AND withdrawn_at IS NULL",
    )
    .bind(kept.number)
    .bind(kept.title.as_str())
    .bind(kept.id.to_string())
    .bind(expected)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if altered == 0 {
        let id = kept.id.to_string();
        return Err(StoreError::Stale { what: "baseline", id, expected, found: expected + 1 });
    }
    Ok(kept)
}

async fn withdraw(tx: &mut Tx<'_>, by: &Actor, id: BaselineId) -> Result<KeptBaseline, StoreError> {
    let mut kept = find(&mut *tx.connection, by.scope(), id).await?;
    let altered = sqlx::query(
        "UPDATE baselines SET withdrawn_at = $1 WHERE id = $2 AND withdrawn_at IS NULL",
    )
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if altered == 0 {
        return Err(StoreError::Refused {
            reason: format!("`{}` was withdrawn before", kept.name),
            help: "its versions can still be read",
        });
    }
    kept.withdrawn_at = Some(tx.now);
    record(tx, by, EventKind::BaselineWithdrawn, &kept, &json!({}));
    bindings::end_of_baseline(tx, by, id).await?;
    Ok(kept)
}

async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: BaselineId,
) -> Result<KeptBaseline, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!(
        "AND v.number = b.version WHERE b.id = $1 AND b.tenant_id BETWEEN $2 AND $3"
    ))
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(connection)
    .await?;
    read(&row.ok_or_else(|| StoreError::not_found("baseline", &id))?)
}

fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    kind: EventKind,
    kept: &KeptBaseline,
    more: &serde_json::Value,
) {
    let mut payload = json!({ "name": kept.name, "kind": kept.kind, "version": kept.version });
    if let (Some(payload), Some(more)) = (payload.as_object_mut(), more.as_object()) {
        payload.extend(more.clone());
    }
    tx.record(NewEvent {
        tenant: kept.tenant,
        kind,
        by: by.clone(),
        object: kept.id.to_string(),
        version: kept.number,
        payload,
    });
}

impl BaselineContent {
    /// What it is made of.
    pub const fn kind(&self) -> BaselineKind {
        match self {
            Self::Rules(_) => BaselineKind::Rules,
            Self::Golden(_) => BaselineKind::Golden,
            Self::Release(_) => BaselineKind::Release,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Rules(text) => text.clone(),
            Self::Golden(source) => json!(source).to_string(),
            Self::Release(source) => json!(source).to_string(),
        }
    }

    /// The items in whose history it is what is said.
    fn items(&self) -> BTreeSet<CiId> {
        match self {
            Self::Rules(_) => BTreeSet::new(),
            Self::Golden(source) => [source.ci].into(),
            Self::Release(source) => source.files.values().map(|file| file.ci).collect(),
        }
    }
}

/// Whose people somebody belongs to; what the program does by itself is the provider's.
fn side(by: &Actor) -> Side {
    match by {
        Actor::Person { role, .. } => role.side(),
        Actor::System => Side::Provider,
        Actor::Agent { .. } => Side::Tenant,
    }
}

/// Whoever says something takes it back.
fn must_be_of(by: &Actor, said_by: Side) -> Result<(), StoreError> {
    if side(by) == said_by {
        return Ok(());
    }
    Err(StoreError::Refused {
        reason: format!("that was said by the {said_by}"),
        help: "only the side that says it takes it back",
    })
}

/// The baseline that somebody names for items of a tenant: their own, or, for the provider's people, the provider's.
async fn meant_for(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: BaselineId,
    tenant: TenantId,
) -> Result<KeptBaseline, StoreError> {
    let kept = find(&mut *tx.connection, by.scope(), id).await?;
    if kept.withdrawn_at.is_some() {
        return Err(StoreError::Refused {
            reason: format!("`{}` was withdrawn", kept.name),
            help: "put it in again",
        });
    }
    let is_own = kept.tenant == tenant;
    match kept.kind {
        BaselineKind::Golden | BaselineKind::Release if !is_own => Err(StoreError::Refused {
            reason: format!("`{}` is made of another tenant's files", kept.name),
            help: "files of one tenant's item are held against that tenant's items alone",
        }),
        BaselineKind::Rules if !is_own && kept.tenant != PROVIDER => Err(StoreError::Refused {
            reason: format!("`{}` is another tenant's", kept.name),
            help: "put it in for the tenant whose items are meant",
        }),
        BaselineKind::Golden | BaselineKind::Release | BaselineKind::Rules => Ok(kept),
    }
}

fn read(row: &AnyRow) -> Result<KeptBaseline, StoreError> {
    Ok(KeptBaseline {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        name: get(row, "name")?,
        kind: parsed(row, "kind")?,
        title: get(row, "title")?,
        created_at: time(row, "created_at")?,
        withdrawn_at: time_or_none(row, "withdrawn_at")?,
        number: get(row, "number")?,
        version: get(row, "word")?,
    })
}

fn read_listed(row: &AnyRow) -> Result<ListedVersion, StoreError> {
    Ok(ListedVersion {
        number: get(row, "number")?,
        version: get(row, "word")?,
        put_at: time(row, "put_at")?,
        put_by: get(row, "put_by")?,
    })
}

fn read_version(row: &AnyRow) -> Result<BaselineVersion, StoreError> {
    let ListedVersion { number, version, put_at, put_by } = read_listed(row)?;
    let text: String = get(row, "content")?;
    let corrupt = |error| StoreError::Corrupt { what: format!("files of a baseline: {error}") };
    let content = match parsed(row, "kind")? {
        BaselineKind::Rules => BaselineContent::Rules(text),
        BaselineKind::Golden => {
            BaselineContent::Golden(serde_json::from_str(&text).map_err(corrupt)?)
        }
        BaselineKind::Release => {
            BaselineContent::Release(serde_json::from_str(&text).map_err(corrupt)?)
        }
    };
    Ok(BaselineVersion { number, version, put_at, put_by, content })
}
