//! Content history: what the files of each configuration item held at any time.
//!
//! ```text
//! record ─► rows of the tail, sealed ─┬─ event with a commitment      (one commit)
//!             │                       └─ answered once durable
//!             │        judge ─► verdicts, drifts ─► alterations
//!           seal: closed partition ─► object ─► verified ─► its rows go  (one commit)
//!             │             ▲
//!             │         backfill: what was recorded elsewhere before
//!             │
//!           forget (retention), erase (by key), remove_garbage, fsck
//! ```
//! What is recorded lately is in rows, each content whole, so that recording reads nothing but what is known of
//! the files; sealing makes chains of deltas of it ([`::history`]). Everything is sealed with keys of the
//! tenant: master key → tenant's key → one key for each partition.
//!
//! History is asked by the time at which something was *recorded*, which rises within a tenant; when it was
//! observed is told beside it. What is asked of an item is found within the actor's scope, or not at all.

mod across;
mod alarms;
mod alterations;
mod backfill;
mod break_glass;
mod drifts;
mod fsck;
mod judge;
mod keys;
mod originals;
mod read;
mod record;
mod released;
mod retain;
mod rows;
mod seal;

use std::sync::Arc;

use ::history::{HistoryError, Objects, Partition};
use domain::cloud::{CiId, TenantId};
use jiff::Timestamp;
use sqlx::AnyPool;

pub use across::{Across, Placed};
pub use alarms::{BreakGlassAlarm, DRIFT, DriftAlarm, DriftAlarms, Grade as DriftGrade};
pub(crate) use alterations::Sights;
pub use alterations::{IntendedFile, NewIntended, NewIntendedFile};
pub use backfill::NewBatch;
pub use break_glass::{BreakGlass, BreakGlassFilter, BrokenFile, Cover, NewBreakGlass, Reviewed};
pub use drifts::{Drift, DriftCounts, DriftFilter, DriftState, Happening, Settlement};
pub use fsck::Fsck;
pub use judge::{FileVerdict, Telling};
pub(crate) use judge::{expect, expect_back};
pub(crate) use keys::tenant_key_name;
pub use read::{Difference, FileVersion, Manifest, Past, Versions};
pub use record::{NewFile, NewState, Recorded};
pub use released::ReleasedAlteration;
pub use retain::{Erasure, Garbage};
pub use seal::{SealRule, SealedPartition};

use crate::Store;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::keys::MasterKey;
use crate::page::range;
use crate::value::{get, parsed};
use crate::writer::Change;
use keys::{Cache, TenantKeys};

/// zstd's effort for what is written once and read often. Level 9 needs 6 % less for a quarter of the speed.
const LEVEL: i32 = 3;

/// The content history of an installation.
#[derive(Clone)]
pub struct History {
    store: Store,
    master: Arc<MasterKey>,
    objects: Arc<dyn Objects>,
    cache: Arc<Cache>,
}

impl Store {
    /// The content history, with the key over its keys and the place of its objects.
    pub fn history(&self, master: Arc<MasterKey>, objects: Arc<dyn Objects>) -> History {
        History { store: self.clone(), master, objects, cache: Arc::default() }
    }
}

impl std::fmt::Debug for History {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("History(…)")
    }
}

/// An item whose history is asked for.
struct Asked {
    ci: CiId,
    tenant: TenantId,
    keys: Option<Arc<TenantKeys>>,
    kept_from: i64,
}

impl History {
    fn pool(&self) -> &AnyPool {
        &self.store.pool
    }

    async fn write<A, T>(&self, arguments: A, change: impl Change<A, T>) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.store.write(arguments, change).await
    }

    /// The item with its tenant's keys, if the actor may see it.
    async fn asked(&self, by: &Actor, ci: CiId) -> Result<Asked, StoreError> {
        if !by.speaks_of(ci) {
            return Err(StoreError::not_found("configuration item", &ci));
        }
        let (low, high) = range(by.scope());
        let row = sqlx::query(
            "SELECT c.tenant_id, h.sealed_key, h.kept_from
             FROM cis c LEFT JOIN history_tenants h ON h.tenant_id = c.tenant_id
             WHERE c.id = $1 AND c.tenant_id BETWEEN $2 AND $3",
        )
        .bind(ci.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| StoreError::not_found("configuration item", &ci))?;
        let tenant = parsed(&row, "tenant_id")?;
        let sealed: Option<Vec<u8>> = get(&row, "sealed_key")?;
        let kept_from: Option<i64> = get(&row, "kept_from")?;
        let keys = sealed.map(|sealed| self.cache.tenant(&self.master, tenant, &sealed));
        Ok(Asked { ci, tenant, keys: keys.transpose()?, kept_from: kept_from.unwrap_or(i64::MIN) })
    }

    /// The keys of a tenant that the actor may see; `None` where nothing was recorded of it, or all of it erased.
    async fn keys_of(
        &self,
        by: &Actor,
        tenant: TenantId,
    ) -> Result<Option<Arc<TenantKeys>>, StoreError> {
        let (low, high) = range(by.scope());
        let row = sqlx::query(
            "SELECT h.sealed_key FROM tenants t LEFT JOIN history_tenants h ON h.tenant_id = t.id
             WHERE t.id = $1 AND t.id BETWEEN $2 AND $3",
        )
        .bind(tenant.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(self.pool())
        .await?
        .ok_or_else(|| StoreError::not_found("tenant", &tenant))?;
        let sealed: Option<Vec<u8>> = get(&row, "sealed_key")?;
        sealed.map(|sealed| self.cache.tenant(&self.master, tenant, &sealed)).transpose()
    }

    /// A sealed partition, opened, as it is in an epoch of the tenant's objects: nothing comes or goes within one.
    async fn partition_of(
        &self,
        keys: &Arc<TenantKeys>,
        number: i64,
        epoch: i64,
    ) -> Result<Option<Arc<Partition>>, StoreError> {
        if let Some(partition) = self.cache.in_epoch(keys.id, number, epoch) {
            return Ok(Some(partition));
        }
        let partition = self.partition(keys, number).await?;
        if let Some(partition) = &partition {
            self.cache.keep_in_epoch((keys.id, number), epoch, partition);
        }
        Ok(partition)
    }

    /// A sealed partition, opened; `None` where its key or its object is gone for good.
    async fn partition(
        &self,
        keys: &Arc<TenantKeys>,
        number: i64,
    ) -> Result<Option<Arc<Partition>>, StoreError> {
        let row = rows::partition(self.pool(), keys.tenant, number).await?;
        let Some((name, key)) = row.as_ref().and_then(rows::Row::readable) else {
            return Ok(None);
        };
        let key = self.cache.data_key(keys, number, key)?;
        if let Some(partition) = self.cache.partition(name) {
            return Ok(Some(partition));
        }
        let (objects, opening) = (Arc::clone(&self.objects), name.to_owned());
        let opened = Arc::clone(&self.cache.opened);
        let partition =
            blocking(move || Partition::open_among(objects, &opening, &key, &opened).map(Arc::new));
        let partition = partition.await?;
        self.cache.keep_partition(name.to_owned(), &partition);
        Ok(Some(partition))
    }
}

/// Runs what reads or writes objects, or computes for long, where it may.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    let ended = |error| StoreError::Corrupt { what: format!("a thread of history: {error}") };
    Ok(done.map_err(ended)??)
}

/// The same of a read of few pages, which are mostly at hand: another thread would be awake later than it is done.
async fn reading<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::runtime::Handle::current().runtime_flavor() {
        tokio::runtime::RuntimeFlavor::MultiThread => Ok(tokio::task::block_in_place(work)?),
        _ => blocking(work).await,
    }
}

fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MIN)
}
