//! Sources of what items are configured by: where they are, how they are opened, and how it goes.
//!
//! ```text
//! new ─┬─► seen ◄─► unreachable          a look came to something, or to nothing: told once each
//!      └─► key_differs                   over SSH: nobody looks before somebody says which key is right
//! ```
//!
//! Looks are made outside, as those at [devices](crate::Device) are, and count only if the source is still set as it
//! was then. How far a source was recorded goes on with each commit that was, so that a look that is cut off is
//! taken up where it was. The source of an image comes with it, and is done once it was seen: files do not change.
//! An image of the cloud's own stores is named by the provider's people, and looked at again and again.

use domain::cloud::{CiId, Class, EventKind, Slug, TenantId};
use domain::device::{
    DeviceState, HostKeyFingerprint, LONGEST_INTERVAL, SHORTEST_INTERVAL, until_next,
};
use domain::source::{SourceKind, SourceSettings};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::Store;
use crate::actor::Actor;
use crate::cis;
use crate::devices::{HostKeyWish, short};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::value::{get, parsed, parsed_or_none, time_or_none};
use crate::writer::Tx;

/// Most sources of an item.
const MOST: usize = 32;

/// The source that an image itself is.
const IMAGE: &str = "image";

/// How long until an image that could not be read is read again, for the first time.
const IMAGE_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// Longest progress that is kept, in bytes.
const LONGEST_PROGRESS: usize = 300;

/// A source, without what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Of which item.
    pub ci: CiId,
    /// What it is called among the item's.
    pub name: Slug,
    /// Whose.
    pub tenant: TenantId,
    /// Where it is, and what of it is wanted.
    pub settings: SourceSettings,
    /// Whether the provider's people set it: they reach networks that tenants do not.
    pub is_providers: bool,
    /// Whether something is kept that opens it.
    pub has_credential: bool,
    /// How often it is looked at.
    pub every: SignedDuration,
    /// The host key that counts, over SSH; `None` where the next one that it shows is taken.
    pub host_key: Option<HostKeyFingerprint>,
    /// Another one that it showed.
    pub offered_key: Option<HostKeyFingerprint>,
    /// How looking at it stands.
    pub state: DeviceState,
    /// How many looks in a row came to nothing.
    pub failures: u32,
    /// When somebody looked last.
    pub looked_at: Option<Timestamp>,
    /// When it was seen last.
    pub seen_at: Option<Timestamp>,
    /// When somebody looks next.
    pub due_at: Option<Timestamp>,
    /// What stood in the way last; of one that is seen, what it does not tell.
    pub reason: Option<String>,
    /// Up to where it was recorded: a commit, or the tag of a version.
    pub progress: Option<String>,
    /// Raised whenever it is set.
    pub version: i64,
}

/// How a source is to be set.
#[derive(Debug, Clone)]
pub struct NewSource {
    /// Where it is, and what of it is wanted.
    pub settings: SourceSettings,
    /// How often it is looked at.
    pub every: SignedDuration,
    /// What opens it, sealed for item and name; `None` keeps what there is.
    pub credential: Option<Vec<u8>>,
    /// By what it is known again, over SSH.
    pub host_key: HostKeyWish,
}

/// What a look at a source came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceLooked {
    /// It was seen.
    Seen {
        /// The host key that it proved to have, over SSH.
        host_key: Option<HostKeyFingerprint>,
        /// Up to where it was recorded; `None` where nobody can say.
        progress: Option<String>,
        /// What it does not tell, in words.
        untold: Option<String>,
        /// Whether there is more of it that was not recorded yet.
        has_more: bool,
    },
    /// Nothing of it was seen.
    Failed {
        /// Why, in words.
        reason: String,
        /// The host key that it showed, where that is why.
        offered: Option<HostKeyFingerprint>,
    },
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT s.ci_id, s.name, s.tenant_id, s.settings, s.is_providers, s.credential,
                    s.every_seconds, s.host_key, s.offered_key, s.state, s.failures, s.looked_at,
                    s.seen_at, s.due_at, s.reason, s.progress, s.version
             FROM sources s ",
            $rest
        )
    };
}

/// Sources of what items are configured by.
impl Store {
    /// Says from where an item is told what it is configured by. It is looked at soon.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it cannot be so: what opens it has to be given again for another address,
    /// account or host key.
    pub async fn set_source(
        &self,
        by: &Actor,
        ci: CiId,
        name: Slug,
        new: NewSource,
    ) -> Result<Source, StoreError> {
        self.write((by.clone(), name, new), move |tx, (by, name, new)| {
            Box::pin(set(tx, by, ci, name, new))
        })
        .await
    }

    /// One source of an item that the actor may see.
    pub async fn source(&self, by: &Actor, ci: CiId, name: &Slug) -> Result<Source, StoreError> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, by, ci, name.as_str()).await
    }

    /// The sources of an item that the actor may see, by name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] where the actor may not see the item.
    pub async fn sources(&self, by: &Actor, ci: CiId) -> Result<Vec<Source>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        cis::find(&mut connection, by.scope(), ci).await?;
        all(&mut connection, by, ci).await
    }

    /// Has a source looked at soon.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it showed another host key: that has to be said first.
    pub async fn wake_source(
        &self,
        by: &Actor,
        ci: CiId,
        name: Slug,
    ) -> Result<Source, StoreError> {
        self.write((by.clone(), name), move |tx, (by, name)| Box::pin(wake(tx, by, ci, name))).await
    }

    /// Looks at a source no more. What was recorded stays.
    ///
    /// # Errors
    /// [`StoreError::Refused`] of an image, which is its own source.
    pub async fn remove_source(&self, by: &Actor, ci: CiId, name: Slug) -> Result<(), StoreError> {
        self.write((by.clone(), name), move |tx, (by, name)| {
            Box::pin(async move {
                let source = find(&mut *tx.connection, by, ci, name.as_str()).await?;
                if source.settings.kind() == SourceKind::Image {
                    return Err(StoreError::Refused {
                        reason: "an image is told by itself".to_owned(),
                        help: "retire the version; its files stay in the history",
                    });
                }
                remove(tx, by, &source).await
            })
        })
        .await
    }

    /// Sources whose time has come, each with what opens it, sealed: the longest due first.
    /// Images of the cloud's stores, which take long, are told apart ([`Store::due_stored_images`]).
    pub async fn due_sources(
        &self,
        at_most: u16,
    ) -> Result<Vec<(Source, Option<Vec<u8>>)>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE s.due_at <= $1 AND s.kind <> 'image_store'
             ORDER BY s.due_at, s.ci_id, s.name LIMIT $2"
        ))
        .bind(self.environment.now().as_microsecond())
        .bind(i64::from(at_most))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((read(row)?, get(row, "credential")?))).collect()
    }

    /// Images of the cloud's stores whose time has come: the longest due first.
    pub async fn due_stored_images(&self, at_most: u16) -> Result<Vec<Source>, StoreError> {
        let rows = sqlx::query(select!(
            "WHERE s.due_at <= $1 AND s.kind = 'image_store'
             ORDER BY s.due_at, s.ci_id, s.name LIMIT $2"
        ))
        .bind(self.environment.now().as_microsecond())
        .bind(i64::from(at_most))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// All images of the cloud's stores that the actor may see, as sources of their items.
    pub async fn stored_images(&self, by: &Actor) -> Result<Vec<Source>, StoreError> {
        let (low, high) = range(by.scope());
        let rows = sqlx::query(select!(
            "WHERE s.kind = 'image_store' AND s.tenant_id BETWEEN $1 AND $2
             ORDER BY s.ci_id, s.name"
        ))
        .bind(low)
        .bind(high)
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(read).collect()
    }

    /// Notes up to where a source was recorded. Nothing happens where it was set otherwise meanwhile.
    pub async fn source_advanced(
        &self,
        source: &Source,
        progress: String,
    ) -> Result<(), StoreError> {
        let (ci, name, version) = (source.ci, source.name.clone(), source.version);
        self.write((name, progress), move |tx, (name, progress)| {
            Box::pin(async move {
                sqlx::query(
                    "UPDATE sources SET progress = $1 WHERE ci_id = $2 AND name = $3 AND version = $4",
                )
                .bind(progress.as_str())
                .bind(ci.to_string())
                .bind(name.as_str())
                .bind(version)
                .execute(&mut *tx.connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Records that a branch does not follow on what was recorded of it: its history was written anew.
    pub async fn source_rewritten(
        &self,
        source: &Source,
        commit: String,
    ) -> Result<(), StoreError> {
        self.write((source.clone(), commit), |tx, (source, commit)| {
            Box::pin(async move {
                let payload = json!({
                    "name": source.name, "before": source.progress, "after": commit,
                });
                record(tx, &Actor::System, EventKind::SourceRewritten, source, payload);
                Ok(())
            })
        })
        .await
    }

    /// Takes in what a look came to. Nothing happens where the source was set otherwise meanwhile.
    pub async fn source_looked(
        &self,
        source: &Source,
        looked: SourceLooked,
    ) -> Result<(), StoreError> {
        let (ci, name, version) = (source.ci, source.name.clone(), source.version);
        self.write((name, looked), move |tx, (name, looked)| {
            Box::pin(came(tx, ci, name, version, looked))
        })
        .await
    }
}

fn missing(ci: CiId) -> StoreError {
    StoreError::not_found("source of a configuration item", &ci)
}

async fn find(
    connection: &mut AnyConnection,
    by: &Actor,
    ci: CiId,
    name: &str,
) -> Result<Source, StoreError> {
    if !by.speaks_of(ci) {
        return Err(missing(ci));
    }
    let (low, high) = range(by.scope());
    let row = sqlx::query(select!(
        "WHERE s.ci_id = $1 AND s.name = $2 AND s.tenant_id BETWEEN $3 AND $4"
    ))
    .bind(ci.to_string())
    .bind(name)
    .bind(low)
    .bind(high)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map_or_else(|| Err(missing(ci)), read)
}

async fn all(
    connection: &mut AnyConnection,
    by: &Actor,
    ci: CiId,
) -> Result<Vec<Source>, StoreError> {
    if !by.speaks_of(ci) {
        return Err(missing(ci));
    }
    let (low, high) = range(by.scope());
    let rows = sqlx::query(select!(
        "WHERE s.ci_id = $1 AND s.tenant_id BETWEEN $2 AND $3 ORDER BY s.name"
    ))
    .bind(ci.to_string())
    .bind(low)
    .bind(high)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

async fn set(
    tx: &mut Tx<'_>,
    by: &Actor,
    ci: CiId,
    name: &Slug,
    new: &NewSource,
) -> Result<Source, StoreError> {
    let item = cis::find(&mut *tx.connection, by.scope(), ci).await?;
    if item.retired_at.is_some() {
        return Err(StoreError::Refused {
            reason: "the item has left the cloud".to_owned(),
            help: "take it up again first",
        });
    }
    check(new)?;
    tx.hold("cis", "id", &ci.to_string()).await?;
    let known = all(&mut *tx.connection, by, ci).await?;
    let before = known.iter().find(|it| it.name == *name);
    if before.is_none() && known.len() >= MOST {
        return Err(StoreError::Refused {
            reason: format!("the item has {MOST} sources"),
            help: "remove one, or take up another item",
        });
    }
    if before.is_some_and(|before| before.settings.kind() != new.settings.kind()) {
        return Err(StoreError::Refused {
            reason: format!("`{name}` is a source of another kind"),
            help: "use another name, or remove it first",
        });
    }
    if new.settings.kind() == SourceKind::ImageStore {
        check_stored(tx, by, &item, name, new, &known).await?;
    }
    let host_key = host_key(before, new)?;
    if new.credential.is_none() {
        may_keep_credential(before, &new.settings, host_key.as_ref())?;
    }
    store(tx, by, &item, name, new, (before, host_key)).await?;
    let source = find(&mut *tx.connection, by, ci, name.as_str()).await?;
    let kind = if before.is_some() { EventKind::SourceAltered } else { EventKind::SourceAdded };
    let payload = json!({
        "before": before.map(shown), "source": shown(&source),
        "is_credential_new": new.credential.is_some(),
    });
    record(tx, by, kind, &source, payload);
    Ok(source)
}

/// Writes a source. How far it was recorded counts only for the same place and the same files.
async fn store(
    tx: &mut Tx<'_>,
    by: &Actor,
    item: &cis::Ci,
    name: &Slug,
    new: &NewSource,
    (before, host_key): (Option<&Source>, Option<HostKeyFingerprint>),
) -> Result<(), StoreError> {
    // An image that could not be read is read again where somebody says so.
    let is_to_be_read = |before: &Source| {
        before.settings.kind() == SourceKind::ImageStore && before.state != DeviceState::Seen
    };
    let is_same =
        before.is_some_and(|before| new.settings.go_on(&before.settings) && !is_to_be_read(before));
    sqlx::query(
        "INSERT INTO sources (ci_id, name, tenant_id, kind, settings, is_providers, credential, host_key,
                              every_seconds, state, failures, due_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'new', 0, $10, $11)
         ON CONFLICT (ci_id, name) DO UPDATE SET
             settings = excluded.settings, is_providers = excluded.is_providers,
             credential = COALESCE(excluded.credential, sources.credential),
             host_key = excluded.host_key, offered_key = NULL,
             every_seconds = excluded.every_seconds, due_at = excluded.due_at,
             version = excluded.version,
             progress = CASE WHEN $12 = 1 THEN sources.progress ELSE NULL END",
    )
    .bind(item.id.to_string())
    .bind(name.as_str())
    .bind(item.tenant.to_string())
    .bind(new.settings.kind().as_str())
    .bind(json!(new.settings).to_string())
    .bind(i64::from(by.scope().is_none()))
    .bind(new.credential.clone())
    .bind(host_key.map(String::from))
    .bind(new.every.as_secs())
    .bind(tx.now.as_microsecond())
    .bind(before.map_or(1, |before| before.version + 1))
    .bind(i64::from(is_same))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// The host key by which it will be known; none but over SSH.
fn host_key(
    before: Option<&Source>,
    new: &NewSource,
) -> Result<Option<HostKeyFingerprint>, StoreError> {
    match (&new.host_key, before) {
        _ if !new.settings.is_ssh() => Ok(None),
        (HostKeyWish::Pinned(key), _) => Ok(Some(key.clone())),
        (HostKeyWish::First, _) => Ok(None),
        (HostKeyWish::Keep, Some(before)) if before.settings.is_ssh() => {
            Ok(before.host_key.clone())
        }
        (HostKeyWish::Keep, _) => Err(StoreError::Refused {
            reason: "nothing says by which host key the repository's server is known".to_owned(),
            help: "give its fingerprint, as `ssh-keygen -l` prints it, or trust the first key",
        }),
    }
}

/// What opens a source is shown to nobody; so nobody may have it sent to somebody else.
fn may_keep_credential(
    before: Option<&Source>,
    settings: &SourceSettings,
    host_key: Option<&HostKeyFingerprint>,
) -> Result<(), StoreError> {
    let refused = |reason: &str, help: &'static str| {
        Err(StoreError::Refused { reason: reason.to_owned(), help })
    };
    let opens = |it: &SourceSettings| match it {
        SourceSettings::Git { url, user, .. } => (url.clone(), user.clone(), Vec::new()),
        SourceSettings::Http { url, headers, .. } => (url.clone(), None, headers.clone()),
        SourceSettings::Image | SourceSettings::ImageStore { .. } => {
            (String::new(), None, Vec::new())
        }
    };
    match before.filter(|before| before.has_credential) {
        None if settings.is_ssh() || !opens(settings).2.is_empty() => refused(
            "nothing says what opens the source",
            "give the key, the password or the headers",
        ),
        None => Ok(()),
        Some(before)
            if opens(&before.settings) == opens(settings)
                && before.settings.authorities() == settings.authorities()
                && before.host_key.as_ref() == host_key =>
        {
            Ok(())
        }
        Some(_) => refused(
            "what opens the source was given for another address, account, host key or authority",
            "give it again; for a source that needs nothing, remove this one first",
        ),
    }
}

fn check(new: &NewSource) -> Result<(), StoreError> {
    if new.settings.kind() == SourceKind::Image {
        return Err(StoreError::Refused {
            reason: "an image is told by itself".to_owned(),
            help: "bring the image, and take up a version of it",
        });
    }
    new.settings.check().map_err(|error| StoreError::Refused {
        reason: error.to_string(),
        help: "docs/sources.md says what a source may be",
    })?;
    if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&new.every) {
        return Err(StoreError::Refused {
            reason: format!("a source cannot be looked at every {:#}", new.every),
            help: "look every minute at most, and every 7 days at least",
        });
    }
    Ok(())
}

/// An image of a store is one item, and an item of the class `image` is one image. Whose it is, the provider's people
/// say: whoever names an image reads it.
async fn check_stored(
    tx: &mut Tx<'_>,
    by: &Actor,
    item: &cis::Ci,
    name: &Slug,
    new: &NewSource,
    known: &[Source],
) -> Result<(), StoreError> {
    let refused = |reason: String, help: &'static str| Err(StoreError::Refused { reason, help });
    if by.scope().is_some() {
        let reason = "images of the cloud's stores are named by the provider's people".to_owned();
        return refused(reason, "ask them to");
    }
    if item.class != Class::Image {
        let reason = format!("the item is no image, but of the class `{}`", item.class);
        return refused(reason, "take up an item of the class `image` for it");
    }
    let is_image = |it: &&Source| {
        it.name != *name && matches!(it.settings.kind(), SourceKind::Image | SourceKind::ImageStore)
    };
    if let Some(other) = known.iter().find(is_image) {
        let reason = format!("the item is told by an image already: `{}`", other.name);
        return refused(reason, "take up another item for it");
    }
    let taken = sqlx::query(
        "SELECT ci_id FROM sources
         WHERE kind = 'image_store' AND settings = $1 AND (ci_id <> $2 OR name <> $3)",
    )
    .bind(json!(new.settings).to_string())
    .bind(item.id.to_string())
    .bind(name.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    match taken {
        Some(row) => {
            let ci: String = get(&row, "ci_id")?;
            refused(format!("the image is the item {ci} already"), "name another one")
        }
        None => Ok(()),
    }
}

/// The source that a new image is.
pub(crate) async fn of_image(
    tx: &mut Tx<'_>,
    ci: CiId,
    tenant: TenantId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO sources (ci_id, name, tenant_id, kind, settings, is_providers, every_seconds, state,
                              failures, due_at, version)
         VALUES ($1, $2, $3, 'image', $4, 0, $5, 'new', 0, $6, 1)",
    )
    .bind(ci.to_string())
    .bind(IMAGE)
    .bind(tenant.to_string())
    .bind(json!(SourceSettings::Image).to_string())
    .bind(IMAGE_AGAIN.as_secs())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

async fn wake(tx: &mut Tx<'_>, by: &Actor, ci: CiId, name: &Slug) -> Result<Source, StoreError> {
    let source = find(&mut *tx.connection, by, ci, name.as_str()).await?;
    if source.state == DeviceState::KeyDiffers && source.due_at.is_none() {
        return Err(StoreError::Refused {
            reason: "the source showed another host key than the one that is known".to_owned(),
            help: "find out from whoever runs it which key it has, then set the source with that one",
        });
    }
    sqlx::query("UPDATE sources SET due_at = $1 WHERE ci_id = $2 AND name = $3")
        .bind(tx.now.as_microsecond())
        .bind(ci.to_string())
        .bind(name.as_str())
        .execute(&mut *tx.connection)
        .await?;
    find(&mut *tx.connection, by, ci, name.as_str()).await
}

async fn remove(tx: &mut Tx<'_>, by: &Actor, source: &Source) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sources WHERE ci_id = $1 AND name = $2")
        .bind(source.ci.to_string())
        .bind(source.name.as_str())
        .execute(&mut *tx.connection)
        .await?;
    record(tx, by, EventKind::SourceRemoved, source, json!({ "before": shown(source) }));
    Ok(())
}

/// Destroys what is known of an item's sources.
pub(crate) async fn forget(tx: &mut Tx<'_>, by: &Actor, ci: CiId) -> Result<(), StoreError> {
    for source in all(&mut *tx.connection, &Actor::System, ci).await? {
        remove(tx, by, &source).await?;
    }
    Ok(())
}

async fn came(
    tx: &mut Tx<'_>,
    ci: CiId,
    name: &Slug,
    version: i64,
    looked: &SourceLooked,
) -> Result<(), StoreError> {
    let by = Actor::System;
    tx.hold("cis", "id", &ci.to_string()).await?;
    let before = match find(&mut *tx.connection, &by, ci, name.as_str()).await {
        Ok(before) if before.version == version => before,
        Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    match looked {
        SourceLooked::Seen { host_key, progress, untold, has_more } => {
            let next = match before.settings.kind() {
                SourceKind::Image => None,
                _ if *has_more => Some(tx.now),
                _ => Some(tx.now + before.every),
            };
            let progress = progress.as_ref().filter(|it| it.len() <= LONGEST_PROGRESS);
            sqlx::query(
                "UPDATE sources SET state = 'seen', failures = 0, host_key = COALESCE(host_key, $1),
                        offered_key = NULL, looked_at = $2, seen_at = $2, due_at = $3, reason = $4,
                        progress = $5
                 WHERE ci_id = $6 AND name = $7",
            )
            .bind(host_key.as_ref().map(ToString::to_string))
            .bind(tx.now.as_microsecond())
            .bind(next.map(Timestamp::as_microsecond))
            .bind(untold.as_deref().map(short))
            .bind(progress.cloned())
            .bind(ci.to_string())
            .bind(name.as_str())
            .execute(&mut *tx.connection)
            .await?;
            if let (None, Some(host_key)) = (&before.host_key, host_key) {
                let payload = json!({ "name": name, "host_key": host_key });
                record(tx, &by, EventKind::SourcePinned, &before, payload);
            }
            if matches!(before.state, DeviceState::Unreachable | DeviceState::KeyDiffers) {
                let payload =
                    json!({ "name": name, "was": before.state, "failures": before.failures });
                record(tx, &by, EventKind::SourceRecovered, &before, payload);
            }
            Ok(())
        }
        SourceLooked::Failed { reason, offered } => {
            failed(tx, &before, reason, offered.as_ref()).await
        }
    }
}

/// Told once, and not at each look.
async fn failed(
    tx: &mut Tx<'_>,
    before: &Source,
    reason: &str,
    offered: Option<&HostKeyFingerprint>,
) -> Result<(), StoreError> {
    let failures = before.failures.saturating_add(1);
    let (state, kind) = match offered {
        Some(_) => (DeviceState::KeyDiffers, EventKind::SourceKeyDiffers),
        None => (DeviceState::Unreachable, EventKind::SourceUnreachable),
    };
    let due = offered.is_none().then(|| tx.now + until_next(before.every, failures));
    sqlx::query(
        "UPDATE sources SET state = $1, failures = $2, offered_key = $3, looked_at = $4, due_at = $5,
                reason = $6
         WHERE ci_id = $7 AND name = $8",
    )
    .bind(state.as_str())
    .bind(i64::from(failures))
    .bind(offered.map(ToString::to_string))
    .bind(tx.now.as_microsecond())
    .bind(due.map(Timestamp::as_microsecond))
    .bind(short(reason))
    .bind(before.ci.to_string())
    .bind(before.name.as_str())
    .execute(&mut *tx.connection)
    .await?;
    if before.state != state || offered.is_some() {
        let payload = json!({
            "name": before.name, "reason": short(reason), "host_key": before.host_key,
            "offered_key": offered,
        });
        record(tx, &Actor::System, kind, before, payload);
    }
    Ok(())
}

/// What records say of a source: never what opens it, and of its address nothing that may be a secret in itself.
fn shown(source: &Source) -> Value {
    let mut settings = json!(source.settings);
    if let Some(url) = settings["url"].as_str().and_then(|url| url.split(['?', '#']).next()) {
        settings["url"] = url.to_owned().into();
    }
    for authority in settings["authorities"].as_array_mut().into_iter().flatten() {
        if let Some(members) = authority.as_object_mut() {
            members.remove("pem");
        }
    }
    json!({
        "name": source.name, "settings": settings, "every_seconds": source.every.as_secs(),
        "host_key": source.host_key, "has_credential": source.has_credential,
    })
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, source: &Source, payload: Value) {
    tx.record(NewEvent {
        tenant: source.tenant,
        kind,
        by: by.clone(),
        object: source.ci.to_string(),
        version: source.version,
        payload,
    });
}

fn read(row: &AnyRow) -> Result<Source, StoreError> {
    let failures: i64 = get(row, "failures")?;
    let settings: String = get(row, "settings")?;
    let corrupt = |error| StoreError::Corrupt { what: format!("settings of a source: {error}") };
    Ok(Source {
        ci: parsed(row, "ci_id")?,
        name: parsed(row, "name")?,
        tenant: parsed(row, "tenant_id")?,
        settings: serde_json::from_str(&settings).map_err(corrupt)?,
        is_providers: get::<i64>(row, "is_providers")? != 0,
        has_credential: get::<Option<Vec<u8>>>(row, "credential")?.is_some(),
        every: SignedDuration::from_secs(get(row, "every_seconds")?),
        host_key: parsed_or_none(row, "host_key")?,
        offered_key: parsed_or_none(row, "offered_key")?,
        state: parsed(row, "state")?,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        looked_at: time_or_none(row, "looked_at")?,
        seen_at: time_or_none(row, "seen_at")?,
        due_at: time_or_none(row, "due_at")?,
        reason: get(row, "reason")?,
        progress: get(row, "progress")?,
        version: get(row, "version")?,
    })
}
