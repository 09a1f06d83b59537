//! Gathering: what a side is to be told waits for others, and all of it is told in one notice.
//!
//! ```text
//! a step ─► a row ─(waits for others)─► one notice of its kind to its side
//! ```
//!
//! A row is made in the commit of its step, and is gone with the commit of the notice that tells it: each
//! step is told once. A side is then left alone for a while.

use domain::cloud::TenantId;
use jiff::{SignedDuration, Timestamp};
use sqlx::{AnyPool, AssertSqlSafe};

use super::notices::{self, Written};
use crate::error::StoreError;
use crate::value::parsed;
use crate::writer::Tx;

/// How long something that happened waits for others that happen with it.
pub(crate) const GATHERED: SignedDuration = SignedDuration::from_mins(5);

/// How long a side is left alone after a notice of the same kind.
const APART: SignedDuration = SignedDuration::from_hours(1);

/// Where something waits for its side: a table with `to_tenant`, `created_at` and `tell_at`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gathering {
    /// The table.
    pub(crate) table: &'static str,
    /// The kind of the notices that tell it.
    pub(crate) kind: &'static str,
}

/// What of a gathering was read for a side.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read {
    /// Which side.
    pub(crate) to: TenantId,
    /// How many rows there were.
    pub(crate) rows: u64,
    /// When the newest was made.
    pub(crate) until: Timestamp,
}

impl Gathering {
    /// The sides that are to be told something now, the longest waiting first.
    pub(crate) async fn due(
        self,
        pool: &AnyPool,
        now: Timestamp,
        at_most: u16,
    ) -> Result<Vec<TenantId>, StoreError> {
        let Self { table, kind } = self;
        let rows = sqlx::query(AssertSqlSafe(format!(
            "SELECT to_tenant, MIN(tell_at) AS since FROM {table}
             GROUP BY to_tenant
             HAVING MIN(tell_at) <= $1 AND NOT EXISTS (
                 SELECT 1 FROM notices WHERE notices.tenant_id = {table}.to_tenant
                     AND kind = '{kind}' AND notices.created_at > $2)
             ORDER BY since, to_tenant LIMIT $3"
        )))
        .bind(now.as_microsecond())
        .bind((now - APART).as_microsecond())
        .bind(i64::from(at_most))
        .fetch_all(pool)
        .await?;
        rows.iter().map(|row| parsed(row, "to_tenant")).collect()
    }

    /// Takes out what was read, and publishes what was written of it; of what nobody need be told any
    /// more nothing was. False where another process was faster.
    pub(crate) async fn tell(
        self,
        tx: &mut Tx<'_>,
        read: Read,
        written: Option<&Written>,
    ) -> Result<bool, StoreError> {
        let Self { table, .. } = self;
        let text = format!("DELETE FROM {table} WHERE to_tenant = $1 AND created_at <= $2");
        let taken = sqlx::query(AssertSqlSafe(text))
            .bind(read.to.to_string())
            .bind(read.until.as_microsecond())
            .execute(&mut *tx.connection)
            .await?
            .rows_affected();
        match taken {
            0 => return Ok(false),
            // One was committed late and would be gone without being told, or one need not be told any
            // more: all stay as they are.
            other if other != read.rows => return Err(StoreError::Busy),
            _ => {}
        }
        if let Some(written) = written {
            notices::keep(tx, read.to, None, written).await?;
        }
        Ok(true)
    }

    /// Leaves what cannot be written alone until then.
    pub(crate) async fn postpone(
        self,
        tx: &mut Tx<'_>,
        to: TenantId,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        let Self { table, .. } = self;
        let text = format!("UPDATE {table} SET tell_at = $1 WHERE to_tenant = $2 AND tell_at < $1");
        sqlx::query(AssertSqlSafe(text))
            .bind(until.as_microsecond())
            .bind(to.to_string())
            .execute(&mut *tx.connection)
            .await?;
        Ok(())
    }
}
