//! Where a tenant is told beside the console.
//!
//! Each channel is a queue of its own: it has one time at which it is tried next, whatever waits on
//! it. What the tenant's own people made is a channel of its own; one that the provider's people made
//! for it gets copies, with which nothing counts as given.

use std::collections::BTreeMap;

use domain::cloud::{ChannelId, EventKind, NoticeId, TenantId, words};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::deliveries::{self, Attempt, Tried};
use super::load::must_see;
use super::notices;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::tenants;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// Most channels of a tenant.
const MOST_CHANNELS: i64 = 20;

words! {
    /// What a channel is.
    ChannelKind {
        /// Mail to an address.
        Mail = "mail",
        /// A request to a URL.
        Webhook = "webhook",
    }
}

impl ChannelKind {
    /// What everybody may see of an address who may see the channel: of a webhook's where it begins,
    /// since the rest of it may be a secret.
    pub fn shown(self, address: &str) -> String {
        match self {
            Self::Mail => address.to_owned(),
            Self::Webhook => {
                let (scheme, rest) = address.split_once("://").unwrap_or(("https", address));
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
                format!("{scheme}://{host}/…")
            }
        }
    }
}

/// Where a tenant is told beside the console.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Whose.
    pub tenant: TenantId,
    /// What it is.
    pub kind: ChannelKind,
    /// An address of mail, or what may be seen of a webhook's.
    pub address: String,
    /// The whole address of a webhook, sealed for its id; never for readers.
    #[serde(skip)]
    pub sealed_address: Option<Vec<u8>>,
    /// Its secret, sealed for its id; never for readers.
    #[serde(skip)]
    pub sealed: Option<Vec<u8>>,
    /// Whether the tenant's own people made it: only with what these take something counts as given.
    pub is_own: bool,
    /// In which language it is written to; the provider's where none is said.
    pub language: Option<String>,
    /// Who added it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
    /// When it is tried next; `None` where nothing waits.
    pub next_at: Option<Timestamp>,
    /// How often in a row it took nothing.
    pub failures: u32,
}

/// A channel that is to be.
#[derive(Debug, Clone)]
pub struct NewChannel {
    /// Its id, for which its secrets are sealed.
    pub id: ChannelId,
    /// What it is.
    pub kind: ChannelKind,
    /// An address of mail, or a URL; of this one only what everybody may see is kept.
    pub address: String,
    /// The whole of a URL, sealed.
    pub sealed_address: Option<Vec<u8>>,
    /// Its secret, sealed.
    pub sealed: Option<Vec<u8>>,
    /// In which language it is written to; the provider's where none is said.
    pub language: Option<String>,
}

/// How a channel fared so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// When it last took a notice.
    pub delivered_at: Option<Timestamp>,
    /// When a notice for it was last given up.
    pub given_up_at: Option<Timestamp>,
    /// How many notices for it were given up.
    pub given_up: u64,
    /// How many are tried again.
    pub retried: u64,
}

macro_rules! channel_columns {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, kind, address, sealed_address, secret, is_own, language,
                    created_by, created_at, ended_at, next_at, failures
             FROM channels ",
            $rest
        )
    };
}

pub(super) async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    new: &NewChannel,
) -> Result<Channel, StoreError> {
    must_see(by, tenant)?;
    tenants::must_exist(tx, by, tenant).await?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS total FROM channels WHERE tenant_id = $1 AND ended_at IS NULL",
    )
    .bind(tenant.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "total")? >= MOST_CHANNELS {
        return Err(StoreError::Refused {
            reason: format!("there are {MOST_CHANNELS} channels already"),
            help: "end one that nobody needs",
        });
    }
    let is_own = matches!(by, Actor::Person { tenant: own, .. } if *own == tenant);
    sqlx::query(
        "INSERT INTO channels (id, tenant_id, kind, address, sealed_address, secret, is_own,
                               language, created_by, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(new.id.to_string())
    .bind(tenant.to_string())
    .bind(new.kind.as_str())
    .bind(new.kind.shown(&new.address))
    .bind(new.sealed_address.clone())
    .bind(new.sealed.clone())
    .bind(i64::from(is_own))
    .bind(new.language.clone())
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("channel", &new.id))?;
    let created = channel(&mut *tx.connection, new.id).await?;
    record(tx, by, EventKind::ChannelCreated, &created);
    Ok(created)
}

pub(super) async fn end(tx: &mut Tx<'_>, by: &Actor, id: ChannelId) -> Result<Channel, StoreError> {
    let before = channel(&mut *tx.connection, id).await?;
    if must_see(by, before.tenant).is_err() {
        return Err(StoreError::not_found("channel", &id));
    }
    // All of the tenant's: of two that end at the same time one must see that it is the last.
    sqlx::query(
        "UPDATE channels SET failures = failures WHERE tenant_id = $1 AND ended_at IS NULL",
    )
    .bind(before.tenant.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let before = channel(&mut *tx.connection, id).await?;
    if before.ended_at.is_some() {
        return Ok(before);
    }
    sqlx::query(
        "UPDATE channels SET ended_at = $1, secret = NULL, sealed_address = NULL WHERE id = $2",
    )
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let rows =
        sqlx::query("SELECT notice_id FROM deliveries WHERE channel_id = $1 AND state = 'waiting'")
            .bind(id.to_string())
            .fetch_all(&mut *tx.connection)
            .await?;
    let of = rows
        .iter()
        .map(|row| {
            let answer = "the channel was ended".to_owned();
            Ok((parsed(row, "notice_id")?, Tried::GivenUp { answer }))
        })
        .collect::<Result<Vec<(NoticeId, Tried)>, StoreError>>()?;
    deliveries::record(tx, id, &Attempt { of, again: None }).await?;
    let ended = channel(&mut *tx.connection, id).await?;
    record(tx, by, EventKind::ChannelEnded, &ended);
    // What waits on no other channel of the tenant's own is told in the console: later ones get what
    // comes later.
    if ended.is_own {
        notices::give_on_console(tx, ended.tenant).await?;
    }
    Ok(ended)
}

/// Has a channel written to in another language, from what is sent next on.
pub(super) async fn speak(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: ChannelId,
    language: Option<&str>,
) -> Result<Channel, StoreError> {
    let before = channel(&mut *tx.connection, id).await?;
    if must_see(by, before.tenant).is_err() {
        return Err(StoreError::not_found("channel", &id));
    }
    if before.ended_at.is_some() {
        return Err(StoreError::Refused {
            reason: "the channel was ended".to_owned(),
            help: "add a channel in the language that you want",
        });
    }
    if before.language.as_deref() == language {
        return Ok(before);
    }
    sqlx::query("UPDATE channels SET language = $1 WHERE id = $2")
        .bind(language.map(str::to_owned))
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    let altered = channel(&mut *tx.connection, id).await?;
    record(tx, by, EventKind::ChannelAltered, &altered);
    Ok(altered)
}

/// Whose channels in use are written to in which language, where one is said.
pub(super) async fn languages(pool: &AnyPool) -> Result<Vec<(ChannelId, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, language FROM channels
         WHERE ended_at IS NULL AND language IS NOT NULL ORDER BY id",
    )
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| Ok((parsed(row, "id")?, get(row, "language")?))).collect()
}

/// Seals the address of a channel that was made when addresses were kept in the clear.
pub(super) async fn seal(
    tx: &mut Tx<'_>,
    id: ChannelId,
    sealed_address: &[u8],
) -> Result<(), StoreError> {
    let before = channel(&mut *tx.connection, id).await?;
    sqlx::query(
        "UPDATE channels SET address = $1, sealed_address = $2
         WHERE id = $3 AND sealed_address IS NULL",
    )
    .bind(before.kind.shown(&before.address))
    .bind(before.ended_at.is_none().then(|| sealed_address.to_vec()))
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Webhooks of which more than everybody may see stands in the clear.
pub(super) async fn unsealed(pool: &AnyPool) -> Result<Vec<Channel>, StoreError> {
    let rows = sqlx::query(channel_columns!(
        "WHERE kind = 'webhook' AND sealed_address IS NULL AND address NOT LIKE '%/…' ORDER BY id"
    ))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn of_tenant(
    connection: &mut AnyConnection,
    tenant: TenantId,
) -> Result<Vec<Channel>, StoreError> {
    let rows =
        sqlx::query(channel_columns!("WHERE tenant_id = $1 AND ended_at IS NULL ORDER BY id"))
            .bind(tenant.to_string())
            .fetch_all(connection)
            .await?;
    rows.iter().map(read).collect()
}

/// The channels whose time has come, those left out that are named in `busy`: of each tenant so many
/// at most, and every tenant's first before anybody's second.
pub(super) async fn due(
    pool: &AnyPool,
    now: Timestamp,
    busy: &[ChannelId],
    of_tenant: u16,
    at_most: u16,
) -> Result<Vec<Channel>, StoreError> {
    let busy: Vec<_> = busy.iter().map(ToString::to_string).collect();
    let rows = sqlx::query(
        "SELECT id, tenant_id, kind, address, sealed_address, secret, is_own, language,
                created_by, created_at, ended_at, next_at, failures
         FROM (SELECT channels.*, ROW_NUMBER() OVER (
                   PARTITION BY tenant_id ORDER BY next_at, id) AS place
               FROM channels
               WHERE next_at IS NOT NULL AND next_at <= $1 AND $2 NOT LIKE '%' || id || '%')
             AS waiting
         WHERE place <= $3 ORDER BY place, next_at, id LIMIT $4",
    )
    .bind(now.as_microsecond())
    .bind(busy.join(","))
    .bind(i64::from(of_tenant))
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

pub(super) async fn next(pool: &AnyPool) -> Result<Option<Timestamp>, StoreError> {
    let row = sqlx::query(
        "SELECT next_at FROM channels WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1",
    )
    .fetch_optional(pool)
    .await?;
    row.map(|row| time(&row, "next_at")).transpose()
}

pub(super) async fn records(
    pool: &AnyPool,
    tenant: TenantId,
) -> Result<BTreeMap<ChannelId, ChannelRecord>, StoreError> {
    let rows = sqlx::query(
        "SELECT channel_id, MAX(CASE WHEN state = 'delivered' THEN ended_at END) AS delivered_at,
                MAX(CASE WHEN state = 'given_up' THEN ended_at END) AS given_up_at,
                COUNT(CASE WHEN state = 'given_up' THEN 1 END) AS given_up,
                COUNT(CASE WHEN state = 'waiting' AND attempts > 0 THEN 1 END) AS retried
         FROM notices JOIN deliveries ON notice_id = notices.id
         WHERE notices.tenant_id = $1 GROUP BY channel_id",
    )
    .bind(tenant.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let record = ChannelRecord {
                delivered_at: time_or_none(row, "delivered_at")?,
                given_up_at: time_or_none(row, "given_up_at")?,
                given_up: get::<i64>(row, "given_up")?.unsigned_abs(),
                retried: get::<i64>(row, "retried")?.unsigned_abs(),
            };
            Ok((parsed(row, "channel_id")?, record))
        })
        .collect()
}

pub(super) async fn channel(
    connection: &mut AnyConnection,
    id: ChannelId,
) -> Result<Channel, StoreError> {
    let row = sqlx::query(channel_columns!("WHERE id = $1"))
        .bind(id.to_string())
        .fetch_optional(connection)
        .await?;
    read(&row.ok_or_else(|| StoreError::not_found("channel", &id))?)
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, channel: &Channel) {
    tx.record(NewEvent {
        tenant: channel.tenant,
        kind,
        by: by.clone(),
        object: channel.id.to_string(),
        version: 1,
        // Never more of an address than everybody may see: events are read, archived and for ever.
        payload: json!({
            "kind": channel.kind, "address": channel.address, "is_own": channel.is_own,
            "language": channel.language,
        }),
    });
}

fn read(row: &AnyRow) -> Result<Channel, StoreError> {
    Ok(Channel {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        kind: parsed(row, "kind")?,
        address: get(row, "address")?,
        sealed_address: get(row, "sealed_address")?,
        sealed: get(row, "secret")?,
        is_own: get::<i64>(row, "is_own")? != 0,
        language: get(row, "language")?,
        created_by: get(row, "created_by")?,
        created_at: time(row, "created_at")?,
        ended_at: time_or_none(row, "ended_at")?,
        next_at: time_or_none(row, "next_at")?,
        failures: u32::try_from(get::<i64>(row, "failures")?).unwrap_or(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_webhook_only_its_host_is_shown() {
        for (address, expected) in [
            ("https://acme.example/hook/s3cr3t?token=t", "https://acme.example/…"),
            ("https://acme.example:8443?token=t", "https://acme.example:8443/…"),
            ("https://acme.example", "https://acme.example/…"),
            ("https://user:pass@acme.example/x", "https://acme.example/…"),
            ("https://acme.example/…", "https://acme.example/…"),
        ] {
            assert_eq!(ChannelKind::Webhook.shown(address), expected);
        }
        assert_eq!(ChannelKind::Mail.shown("ops@acme.example"), "ops@acme.example");
    }
}
