//! Notices on channels: what waits on each, how an attempt went, and what follows from that.
//!
//! ```text
//! waiting ─(attempt)─► delivered: on a channel of the tenant's own, the notice is given
//!    ▲  │ └──────────► given up (dead letter)
//!    └──┘ the channel takes nothing now: all that waits on it waits together
//! ```

use std::collections::BTreeMap;

use domain::cloud::{ChannelId, EventKind, NoticeId, TenantId, words};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::{AnyConnection, AnyPool};

use super::channels::{self, ChannelKind};
use super::notices::{self, NoticeRow};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::value::{get, parsed, time_or_none};
use crate::writer::Tx;

words! {
    /// How a delivery stands.
    DeliveryState {
        /// It is tried, or tried again.
        Waiting = "waiting",
        /// The receiver has it.
        Delivered = "delivered",
        /// It was given up.
        GivenUp = "given_up",
    }
}

/// A notice on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The notice.
    pub notice: NoticeId,
    /// The channel.
    pub channel: ChannelId,
    /// What the channel is.
    pub kind: ChannelKind,
    /// Its address, as everybody may see it.
    pub address: String,
    /// How it stands.
    pub state: DeliveryState,
    /// How often it was tried.
    pub attempts: i64,
    /// When the channel is tried next, where it still waits.
    pub next_at: Option<Timestamp>,
    /// What was answered the last time.
    pub answer: Option<String>,
    /// When it came to its end.
    pub ended_at: Option<Timestamp>,
}

/// A notice that waits on a channel.
#[derive(Debug, Clone)]
pub struct Waiting {
    /// The notice.
    pub notice: NoticeRow,
    /// How often it was tried.
    pub attempts: u32,
}

/// How an attempt on a channel went.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The notices that were in it, and what it means for each.
    pub of: Vec<(NoticeId, Tried)>,
    /// When the channel is tried again with whatever waits on it, where it takes nothing now.
    pub again: Option<Timestamp>,
}

/// What an attempt means for a notice.
#[derive(Debug, Clone)]
pub enum Tried {
    /// The receiver has it.
    Delivered {
        /// What it said.
        answer: String,
    },
    /// Not yet.
    Failed {
        /// Why.
        answer: String,
    },
    /// It is of no use to try again.
    GivenUp {
        /// Why.
        answer: String,
    },
}

/// What waits on a channel, the oldest first.
pub(super) async fn waiting(
    pool: &AnyPool,
    channel: ChannelId,
    at_most: u16,
) -> Result<Vec<Waiting>, StoreError> {
    let rows = sqlx::query(notices::notice_columns!(
        ", attempts FROM deliveries JOIN notices ON notices.id = notice_id
         WHERE channel_id = $1 AND state = 'waiting'
         ORDER BY notices.created_at, sequence, notice_id LIMIT $2"
    ))
    .bind(channel.to_string())
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter()
        .map(|row| {
            let attempts = u32::try_from(get::<i64>(row, "attempts")?).unwrap_or(u32::MAX);
            Ok(Waiting { notice: notices::read(row)?, attempts })
        })
        .collect()
}

/// Puts a notice on a channel, unless that was ended meanwhile; says whether it was.
pub(super) async fn put(
    tx: &mut Tx<'_>,
    notice: NoticeId,
    tenant: TenantId,
    channel: ChannelId,
) -> Result<bool, StoreError> {
    // Something new is a reason to look again, however long the channel took nothing.
    let is_live =
        sqlx::query("UPDATE channels SET next_at = $1 WHERE id = $2 AND ended_at IS NULL")
            .bind(tx.now.as_microsecond())
            .bind(channel.to_string())
            .execute(&mut *tx.connection)
            .await?
            .rows_affected();
    if is_live == 0 {
        return Ok(false);
    }
    sqlx::query(
        "INSERT INTO deliveries (notice_id, channel_id, tenant_id, state, attempts)
         VALUES ($1, $2, $3, 'waiting', 0)",
    )
    .bind(notice.to_string())
    .bind(channel.to_string())
    .bind(tenant.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(true)
}

/// Notes how an attempt went, and when the channel is tried next.
pub(super) async fn record(
    tx: &mut Tx<'_>,
    channel_id: ChannelId,
    attempt: &Attempt,
) -> Result<(), StoreError> {
    // What is put on it at the same time is seen here, or sees what is decided here.
    tx.hold("channels", "id", &channel_id.to_string()).await?;
    let channel = channels::channel(&mut *tx.connection, channel_id).await?;
    for (notice, tried) in &attempt.of {
        record_one(tx, channel_id, channel.is_own, *notice, tried).await?;
    }
    let took = attempt.of.iter().any(|(_, tried)| matches!(tried, Tried::Delivered { .. }));
    let failures = match attempt.again {
        Some(_) => channel.failures.saturating_add(1),
        None if took => 0,
        None => channel.failures,
    };
    sqlx::query(
        "UPDATE channels SET failures = $1, next_at = CASE WHEN ended_at IS NULL AND EXISTS (
             SELECT 1 FROM deliveries WHERE channel_id = $2 AND state = 'waiting') THEN $3 END
         WHERE id = $2",
    )
    .bind(i64::from(failures))
    .bind(channel_id.to_string())
    .bind(attempt.again.unwrap_or(tx.now).as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

async fn record_one(
    tx: &mut Tx<'_>,
    channel: ChannelId,
    is_own: bool,
    notice: NoticeId,
    tried: &Tried,
) -> Result<(), StoreError> {
    let (state, answer, kind) = match tried {
        Tried::Delivered { answer } => {
            (DeliveryState::Delivered, answer, Some(EventKind::NoticeDelivered))
        }
        Tried::Failed { answer } => (DeliveryState::Waiting, answer, None),
        Tried::GivenUp { answer } => {
            (DeliveryState::GivenUp, answer, Some(EventKind::NoticeUndeliverable))
        }
    };
    let altered = sqlx::query(
        "UPDATE deliveries SET state = $1, attempts = attempts + 1, answer = $2, ended_at = $3
         WHERE notice_id = $4 AND channel_id = $5 AND state = 'waiting'",
    )
    .bind(state.as_str())
    .bind(answer.as_str())
    .bind(kind.map(|_| tx.now.as_microsecond()))
    .bind(notice.to_string())
    .bind(channel.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    // Another process was faster, or the channel was ended.
    if altered == 0 {
        return Ok(());
    }
    let row = notices::notice(&mut *tx.connection, None, notice).await?;
    if let Some(kind) = kind {
        let payload = json!({ "channel": channel, "answer": answer });
        notices::record(tx, kind, row.tenant, notice, payload);
    }
    // A copy that the provider sends somewhere is not the tenant's knowledge.
    if state == DeliveryState::Delivered && is_own && row.given_at.is_none() {
        notices::given(tx, &row, &channel.to_string()).await?;
    }
    // Of before it was known whose a channel is: nothing else would ever give it.
    if !is_own && kind.is_some() {
        notices::give_on_console(tx, row.tenant).await?;
    }
    Ok(())
}

pub(super) async fn retry(
    tx: &mut Tx<'_>,
    by: &Actor,
    notice_id: NoticeId,
    channel_id: ChannelId,
) -> Result<Delivery, StoreError> {
    notices::notice(&mut *tx.connection, by.scope(), notice_id).await?;
    tx.hold("channels", "id", &channel_id.to_string()).await?;
    if channels::channel(&mut *tx.connection, channel_id).await?.ended_at.is_some() {
        return Err(StoreError::Refused {
            reason: "the channel was ended".to_owned(),
            help: "add a channel; later notices go there",
        });
    }
    let retried = sqlx::query(
        "UPDATE deliveries SET state = 'waiting', ended_at = NULL
         WHERE notice_id = $1 AND channel_id = $2 AND state = 'given_up'",
    )
    .bind(notice_id.to_string())
    .bind(channel_id.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if retried > 0 {
        sqlx::query("UPDATE channels SET next_at = $1 WHERE id = $2")
            .bind(tx.now.as_microsecond())
            .bind(channel_id.to_string())
            .execute(&mut *tx.connection)
            .await?;
    }
    let all = of_notice(&mut *tx.connection, notice_id).await?;
    let found = all.into_iter().find(|delivery| delivery.channel == channel_id);
    found.ok_or_else(|| StoreError::not_found("delivery", &channel_id))
}

pub(super) async fn deliveries(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: NoticeId,
) -> Result<Vec<Delivery>, StoreError> {
    let mut connection = pool.acquire().await?;
    notices::notice(&mut connection, scope, id).await?;
    of_notice(&mut connection, id).await
}

pub(super) async fn of_all(
    pool: &AnyPool,
    scope: Option<TenantId>,
    ids: &[NoticeId],
) -> Result<BTreeMap<NoticeId, Vec<Delivery>>, StoreError> {
    let mut connection = pool.acquire().await?;
    let mut all = BTreeMap::new();
    for &id in ids {
        notices::notice(&mut connection, scope, id).await?;
        all.insert(id, of_notice(&mut connection, id).await?);
    }
    Ok(all)
}

async fn of_notice(
    connection: &mut AnyConnection,
    id: NoticeId,
) -> Result<Vec<Delivery>, StoreError> {
    let rows = sqlx::query(
        "SELECT notice_id, channel_id, kind, address, state, attempts, answer,
                CASE WHEN state = 'waiting' THEN channels.next_at END AS next_at,
                deliveries.ended_at AS ended_at
         FROM deliveries JOIN channels ON channels.id = channel_id
         WHERE notice_id = $1 ORDER BY channel_id",
    )
    .bind(id.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let kind: ChannelKind = parsed(row, "kind")?;
            let address: String = get(row, "address")?;
            Ok(Delivery {
                notice: parsed(row, "notice_id")?,
                channel: parsed(row, "channel_id")?,
                kind,
                address: kind.shown(&address),
                state: parsed(row, "state")?,
                attempts: get(row, "attempts")?,
                next_at: time_or_none(row, "next_at")?,
                answer: get(row, "answer")?,
                ended_at: time_or_none(row, "ended_at")?,
            })
        })
        .collect()
}
