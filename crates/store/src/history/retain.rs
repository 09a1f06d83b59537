//! What is kept no longer: by retention, by lawful erasure, and objects that nobody names.
//!
//! Retention keeps of each file what was in force at its moment, in the partition where it is; whatever else a
//! partition held that ended before goes, and partitions of which nothing is kept go with their keys. Erasure
//! destroys a key: its object stays as it is, so that its hash and its commitments can still be held against the
//! record. Neither touches events.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use ::history::{Item, Keep, Object, PathKey};
use domain::cloud::{EventKind, TenantId};
use jiff::Timestamp;
use serde_json::json;

use crate::actor::Actor;
use crate::environment::random;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::value::{get, hex};
use crate::writer::Tx;

use super::keys::TenantKeys;
use super::rows::{PartitionState, Row, bytes, partition, partitions};
use super::seal::{LEASE, Leaning, keep_leans, make_live, next_epoch, put};
use super::{History, LEVEL, blocking};

/// What is erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erasure {
    /// All that was recorded while one partition was open.
    Partition(i64),
    /// All of a tenant.
    Everything,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Garbage {
    /// Objects that were replaced, or never became a partition's.
    pub named: u64,
    /// Objects of which nothing is known.
    pub unknown: u64,
}

/// Another object for a partition, or none any more.
struct Replacement {
    keys: Arc<TenantKeys>,
    row: Row,
    epoch: i64,
    thinned_to: i64,
    /// With its name.
    object: Option<(String, Object)>,
}

/// Files by what stands for their paths.
type Files = HashSet<(Item, PathKey)>;

impl History {
    /// Keeps of a tenant's history only what was in force at a moment and what came after it. Says how many
    /// partitions have less in them now; what another process hinders is made good by the next call.
    pub async fn forget(
        &self,
        by: &Actor,
        tenant: TenantId,
        before: Timestamp,
        holder: &str,
    ) -> Result<u64, StoreError> {
        let Some(keys) = self.keys_of(by, tenant).await? else { return Ok(0) };
        if before > self.store.environment.now() {
            return Err(StoreError::Refused {
                reason: format!("{before} is still to come"),
                help: "name a moment that is over",
            });
        }
        let kept_from = self
            .write(by.clone(), move |tx, by| {
                Box::pin(move_kept_from(tx, by, tenant, before.as_microsecond()))
            })
            .await?;
        let Some(epoch) = self.begin(tenant, holder, false).await? else { return Ok(0) };
        let thinned = self.thin(&keys, kept_from, epoch).await;
        self.end(tenant, holder).await?;
        thinned
    }

    /// Applies retention, the newest partition first: what it has supersedes what is in older ones, and what
    /// it leans on no more need not stay in them.
    async fn thin(
        &self,
        keys: &Arc<TenantKeys>,
        kept_from: i64,
        mut epoch: i64,
    ) -> Result<u64, StoreError> {
        let mut superseded = self.altered_in_tail(keys, kept_from).await?;
        let mut thinned = 0;
        for row in partitions(self.pool(), keys.tenant).await?.into_iter().rev() {
            if row.state != PartitionState::Sealed || row.first > kept_from {
                continue;
            }
            let Some(opened) = self.partition(keys, row.number).await? else { continue };
            let is_over = row.last < kept_from && row.thinned_to < kept_from;
            let pool = keys.pool.clone();
            let before = superseded.clone();
            let (altered, hidden) = blocking(move || {
                let (mut altered, mut hidden) = (Files::new(), BTreeSet::new());
                opened.each_version(&mut |item, path, found| {
                    if found.version.recorded <= kept_from {
                        let key = (item, pool.path_key(path));
                        if before.contains(&key) {
                            hidden.insert((item, path.clone()));
                        }
                        altered.insert(key);
                    }
                    Ok(())
                })?;
                Ok((altered, hidden))
            })
            .await?;
            if is_over {
                let keep = Keep { since: Some(kept_from), superseded: hidden, ..Keep::default() };
                self.rewrite(keys, &row, keep, kept_from, epoch).await?;
                epoch += 1;
                thinned += 1;
            }
            superseded.extend(altered);
        }
        Ok(thinned)
    }

    async fn altered_in_tail(&self, keys: &TenantKeys, until: i64) -> Result<Files, StoreError> {
        let rows = sqlx::query(
            "SELECT ci, path_key FROM history_tail WHERE tenant = $1 AND recorded <= $2",
        )
        .bind(keys.tenant.to_vec())
        .bind(until)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| Ok((Item(bytes(row, "ci")?), PathKey(bytes(row, "path_key")?))))
            .collect()
    }

    /// Puts another object in the place of a partition's, with less in it.
    async fn rewrite(
        &self,
        keys: &Arc<TenantKeys>,
        row: &Row,
        mut keep: Keep,
        thinned_to: i64,
        epoch: i64,
    ) -> Result<(), StoreError> {
        let rows = partitions(self.pool(), keys.tenant).await?;
        let readable = self.readable(keys, &rows)?;
        let leaning = self.leaning_on(keys, row.number).await?;
        let name = self.name_object(keys, row.number).await?;
        let salt = random(&*self.store.environment);
        let (objects, pool, named) = (Arc::clone(&self.objects), keys.pool.clone(), name.clone());
        let number = row.number.unsigned_abs();
        let object = blocking(move || {
            let lost = || ::history::HistoryError::NoFrame { number };
            let (old, key) = readable.get(&number).cloned().ok_or_else(lost)?;
            let others = Leaning::new(Arc::clone(&objects), readable);
            for other in leaning {
                let other = others.partition(other.unsigned_abs())?;
                let frames = other.leans().iter().filter(|lean| lean.partition == number);
                keep.frames.extend(frames.map(|lean| lean.frame));
            }
            let old = others.open(&old, &key)?;
            let object = old.rewrite(&keep, &key, &salt, LEVEL, &|lean| others.content(lean))?;
            if let Some(object) = &object {
                put(&objects, &named, &object.bytes)?;
                let new = others.open(&named, &key)?;
                new.verify(&key, &pool, &|lean| others.content(lean))?;
            }
            Ok(object)
        })
        .await?;
        let object = object.map(|object| (name, object));
        let (keys, row) = (Arc::clone(keys), row.clone());
        let replacement = Replacement { keys, row, epoch, thinned_to, object };
        self.write(replacement, |tx, replacement| Box::pin(replace(tx, replacement))).await
    }

    /// Partitions that lean on one, and can be read.
    async fn leaning_on(&self, keys: &TenantKeys, number: i64) -> Result<Vec<i64>, StoreError> {
        let rows = sqlx::query(
            "SELECT l.number FROM history_leans l
             JOIN history_partitions p ON p.tenant = l.tenant AND p.number = l.number
             WHERE l.tenant = $1 AND l.leans_on = $2 AND p.state = 'sealed' ORDER BY l.number DESC",
        )
        .bind(keys.tenant.to_vec())
        .bind(number)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| get(row, "number")).collect()
    }

    /// Makes what was recorded unreadable for good, by destroying its key. What later partitions have in common
    /// with it they keep by themselves. Backups of the database hold the key, sealed under the master key, as
    /// long as there are such.
    pub async fn erase(
        &self,
        by: &Actor,
        tenant: TenantId,
        what: Erasure,
        reason: &str,
        holder: &str,
    ) -> Result<(), StoreError> {
        let missing = || StoreError::not_found("history of tenant", &tenant);
        let keys = self.keys_of(by, tenant).await?.ok_or_else(missing)?;
        let Some(epoch) = self.begin(tenant, holder, what != Erasure::Everything).await? else {
            return Err(StoreError::Busy);
        };
        let erased = self.erase_held(by, &keys, what, reason, epoch).await;
        self.end(tenant, holder).await?;
        self.cache.forget();
        self.store.settle().await?;
        erased
    }

    async fn erase_held(
        &self,
        by: &Actor,
        keys: &Arc<TenantKeys>,
        what: Erasure,
        reason: &str,
        mut epoch: i64,
    ) -> Result<(), StoreError> {
        let mut erased = None;
        if let Erasure::Partition(number) = what {
            // Its commitments outlive its rows in an object.
            epoch += i64::try_from(self.seal_closed(keys, epoch).await?.len()).unwrap_or(0);
            let row = partition(self.pool(), keys.tenant, number).await?;
            let row = row
                .filter(|row| row.state == PartitionState::Sealed)
                .ok_or_else(|| StoreError::not_found("partition", &number))?;
            for other in self.leaning_on(keys, number).await? {
                let Some(other) = partition(self.pool(), keys.tenant, other).await? else {
                    continue;
                };
                let without = BTreeSet::from([number.unsigned_abs()]);
                let keep = Keep { without, ..Keep::default() };
                self.rewrite(keys, &other, keep, other.thinned_to, epoch).await?;
                epoch += 1;
            }
            erased = Some(row);
        }
        let destroy = (by.clone(), Arc::clone(keys), erased, reason.to_owned());
        self.write(destroy, move |tx, (by, keys, row, reason)| {
            Box::pin(async move {
                tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
                next_epoch(tx, keys.id, epoch).await?;
                match row {
                    Some(row) => destroy_partition(tx, keys, row.number).await?,
                    None => destroy_tenant(tx, keys).await?,
                }
                tx.record(NewEvent {
                    tenant: keys.id,
                    kind: EventKind::HistoryErased,
                    by: by.clone(),
                    object: keys.id.to_string(),
                    version: row.as_ref().map_or(0, |row| row.number),
                    payload: json!({
                        "partition": row.as_ref().map(|row| row.number),
                        "digest": row.as_ref().and_then(|row| row.digest.as_deref()).map(hex),
                        "reason": reason,
                    }),
                });
                Ok(())
            })
        })
        .await
    }

    /// Removes objects that are no partition's: those that were replaced ten minutes ago, begun an hour ago and
    /// never finished, or known to nobody. What is recorded names none of them.
    pub async fn remove_garbage(&self) -> Result<Garbage, StoreError> {
        let objects = Arc::clone(&self.objects);
        // Listed before names are looked up: an object's name is noted before it is written.
        let listed = blocking(move || {
            objects
                .list()
                .map_err(|source| ::history::HistoryError::Object { name: "*".to_owned(), source })
        })
        .await?;
        let doomed = self
            .write((), |tx, ()| {
                Box::pin(async move {
                    sqlx::query(
                        "UPDATE history_objects SET state = 'doomed'
                         WHERE state = 'writing' AND since < $1",
                    )
                    .bind((tx.now - LEASE * 6).as_microsecond())
                    .execute(&mut *tx.connection)
                    .await?;
                    // Whoever began to read what was replaced shall come to an end.
                    let rows = sqlx::query(
                        "SELECT name FROM history_objects WHERE state = 'doomed' AND since < $1",
                    )
                    .bind((tx.now - LEASE).as_microsecond())
                    .fetch_all(&mut *tx.connection)
                    .await?;
                    rows.iter().map(|row| get::<String>(row, "name")).collect::<Result<Vec<_>, _>>()
                })
            })
            .await?;
        let mut garbage = Garbage::default();
        let named: HashSet<String> = doomed.iter().cloned().collect();
        for name in doomed {
            self.remove_object(&name).await?;
            self.write(name, |tx, name| {
                Box::pin(async move {
                    sqlx::query("DELETE FROM history_objects WHERE name = $1 AND state = 'doomed'")
                        .bind(name.as_str())
                        .execute(&mut *tx.connection)
                        .await?;
                    Ok(())
                })
            })
            .await?;
            garbage.named += 1;
        }
        let is_other = |name: &&String| name.starts_with("ten_") && !named.contains(*name);
        for name in listed.iter().filter(is_other) {
            let known = sqlx::query("SELECT 1 AS one FROM history_objects WHERE name = $1")
                .bind(name.as_str())
                .fetch_optional(self.pool())
                .await?;
            if known.is_none() {
                self.remove_object(name).await?;
                garbage.unknown += 1;
            }
        }
        Ok(garbage)
    }

    async fn remove_object(&self, name: &str) -> Result<(), StoreError> {
        let (objects, name) = (Arc::clone(&self.objects), name.to_owned());
        blocking(move || {
            objects
                .delete(&name)
                .map_err(|source| ::history::HistoryError::Object { name: name.clone(), source })
        })
        .await
    }
}

/// What is told from when on; only ever later than before.
async fn move_kept_from(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    before: i64,
) -> Result<i64, StoreError> {
    tx.hold("history_tenants", "tenant_id", &tenant.to_string()).await?;
    let row = sqlx::query("SELECT kept_from FROM history_tenants WHERE tenant_id = $1")
        .bind(tenant.to_string())
        .fetch_one(&mut *tx.connection)
        .await?;
    let kept_from: i64 = get(&row, "kept_from")?;
    if before <= kept_from {
        return Ok(kept_from);
    }
    sqlx::query("UPDATE history_tenants SET kept_from = $1 WHERE tenant_id = $2")
        .bind(before)
        .bind(tenant.to_string())
        .execute(&mut *tx.connection)
        .await?;
    sqlx::query("DELETE FROM verdicts WHERE tenant = $1 AND recorded < $2")
        .bind(tenant.as_bytes().to_vec())
        .bind(before)
        .execute(&mut *tx.connection)
        .await?;
    tx.record(NewEvent {
        tenant,
        kind: EventKind::HistoryForgotten,
        by: by.clone(),
        object: tenant.to_string(),
        version: 1,
        payload: json!({ "kept_from": before }),
    });
    Ok(before)
}

async fn replace(tx: &mut Tx<'_>, replacement: &Replacement) -> Result<(), StoreError> {
    let Replacement { keys, row, epoch, thinned_to, object } = replacement;
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    next_epoch(tx, keys.id, *epoch).await?;
    sqlx::query("UPDATE history_objects SET state = 'doomed', since = $1 WHERE name = $2")
        .bind(tx.now.as_microsecond())
        .bind(row.object.clone())
        .execute(&mut *tx.connection)
        .await?;
    let replaced = if let Some((name, object)) = object {
        make_live(tx, name).await?;
        keep_leans(tx, keys.tenant, row.number, &object.leans).await?;
        let size = i64::try_from(object.bytes.len()).unwrap_or(i64::MAX);
        tx.record(NewEvent {
            tenant: keys.id,
            kind: EventKind::HistorySealed,
            by: Actor::System,
            object: keys.id.to_string(),
            version: row.number,
            payload: json!({
                "partition": row.number, "digest": hex(&object.digest), "size": size,
                "versions": object.versions, "before": row.digest.as_deref().map(hex),
            }),
        });
        sqlx::query(
            "UPDATE history_partitions
                 SET object = $1, digest = $2, size = $3, versions = $4, thinned_to = $5
                 WHERE tenant = $6 AND number = $7 AND state = 'sealed'",
        )
        .bind(name.as_str())
        .bind(object.digest.to_vec())
        .bind(size)
        .bind(object.versions.cast_signed())
        .bind(*thinned_to)
        .bind(keys.tenant.to_vec())
        .bind(row.number)
        .execute(&mut *tx.connection)
        .await?
    } else {
        keep_leans(tx, keys.tenant, row.number, &[]).await?;
        sqlx::query(
            "UPDATE history_partitions
                 SET state = 'dropped', sealed_key = NULL, object = NULL, size = 0, versions = 0
                 WHERE tenant = $1 AND number = $2 AND state = 'sealed'",
        )
        .bind(keys.tenant.to_vec())
        .bind(row.number)
        .execute(&mut *tx.connection)
        .await?
    };
    if replaced.rows_affected() == 1 { Ok(()) } else { Err(StoreError::Busy) }
}

async fn destroy_partition(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    number: i64,
) -> Result<(), StoreError> {
    keep_leans(tx, keys.tenant, number, &[]).await?;
    for text in [
        "UPDATE history_partitions SET state = 'erased', sealed_key = NULL
         WHERE tenant = $1 AND number = $2 AND state = 'sealed'",
        // What a file is now cannot be told any more either: seen again, it is recorded again.
        "UPDATE history_files SET state = NULL WHERE tenant = $1 AND number = $2",
        "DELETE FROM verdicts WHERE tenant = $1 AND recorded BETWEEN
             (SELECT first_recorded FROM history_partitions WHERE tenant = $1 AND number = $2) AND
             (SELECT last_recorded FROM history_partitions WHERE tenant = $1 AND number = $2)",
    ] {
        sqlx::query(text)
            .bind(keys.tenant.to_vec())
            .bind(number)
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

async fn destroy_tenant(tx: &mut Tx<'_>, keys: &TenantKeys) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE history_tenants SET sealed_key = NULL, open_number = 0,
             kept_from = CASE WHEN last_recorded < $1 THEN $1 ELSE last_recorded + 1 END
         WHERE tenant_id = $2",
    )
    .bind(tx.now.as_microsecond())
    .bind(keys.id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    for text in [
        "UPDATE history_partitions SET state = 'erased', sealed_key = NULL
         WHERE tenant = $1 AND state <> 'dropped'",
        "DELETE FROM history_leans WHERE tenant = $1",
        "DELETE FROM history_tail WHERE tenant = $1",
        "DELETE FROM history_contents WHERE tenant = $1",
        "DELETE FROM history_batches WHERE tenant = $1",
        "DELETE FROM history_files WHERE tenant = $1",
        "DELETE FROM history_unjudged WHERE tenant = $1",
        "DELETE FROM verdicts WHERE tenant = $1",
        "DELETE FROM judged_files WHERE tenant = $1",
        "DELETE FROM alteration_contents WHERE tenant_id IN
             (SELECT tenant_id FROM history_tenants WHERE tenant = $1)",
        "DELETE FROM drifts WHERE tenant_id IN
             (SELECT tenant_id FROM history_tenants WHERE tenant = $1)",
        "DELETE FROM break_glass_files WHERE break_glass_id IN
             (SELECT b.id FROM break_glass b JOIN history_tenants h ON h.tenant_id = b.tenant_id
              WHERE h.tenant = $1)",
        "DELETE FROM break_glass WHERE tenant_id IN
             (SELECT tenant_id FROM history_tenants WHERE tenant = $1)",
    ] {
        sqlx::query(text).bind(keys.tenant.to_vec()).execute(&mut *tx.connection).await?;
    }
    Ok(())
}
