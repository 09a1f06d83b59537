//! Leases: which of several processes does a piece of background work.
//!
//! A lease says who *should* work, never who *may write*: what a late holder still does must be
//! harmless by itself (the same bytes again, or a version that has moved on).

use jiff::{SignedDuration, Timestamp};

use crate::error::StoreError;
use crate::value::{get, time};
use crate::writer::Tx;

/// A lease that is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// Rises with each new holder.
    pub term: i64,
    /// Until when it is held, unless it is renewed.
    pub until: Timestamp,
}

/// Takes or renews a lease; `None` where another holds it.
pub(crate) async fn take(
    tx: &mut Tx<'_>,
    work: &str,
    holder: &str,
    lifetime: SignedDuration,
) -> Result<Option<Lease>, StoreError> {
    let row = sqlx::query(
        "INSERT INTO leases (work, holder, term, until) VALUES ($1, $2, 1, $3)
         ON CONFLICT (work) DO UPDATE SET
             holder = excluded.holder,
             term = CASE WHEN leases.holder = excluded.holder THEN leases.term
                         ELSE leases.term + 1 END,
             until = excluded.until
         WHERE leases.holder = excluded.holder OR leases.until <= $4
         RETURNING term, until",
    )
    .bind(work)
    .bind(holder)
    .bind((tx.now + lifetime).as_microsecond())
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    row.map(|row| Ok(Lease { term: get(&row, "term")?, until: time(&row, "until")? })).transpose()
}

/// Gives a lease back before its time; nothing happens where another holds it.
pub(crate) async fn give_back(tx: &mut Tx<'_>, work: &str, holder: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE leases SET until = 0 WHERE work = $1 AND holder = $2")
        .bind(work)
        .bind(holder)
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}
