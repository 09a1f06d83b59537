//! What happens to an installation as a whole: its keys are sealed anew, it comes back from a backup.

use std::sync::Arc;

use domain::cloud::{EventKind, PROVIDER};
use jiff::Timestamp;
use serde_json::json;
use sqlx::Row as _;

use crate::Store;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::history::tenant_key_name;
use crate::keys::{self, Key, MasterKey, locked};
use crate::value::get;
use crate::writer::Tx;

/// The key that backups are sealed under; those before it have a number behind the name.
const BACKUP: &str = "backup";

/// The key that the ledger's checkpoints are signed with.
const LEDGER: &str = "ledger.signing";

/// Work that every control plane does or waits to do: who holds it is at work, or was killed a moment ago.
const RECORDING: &str = "ledger";

/// Orders that were signed after a backup have numbers that the backup does not know. No agent can have been given so
/// many.
const ORDERS_AT_MOST: i64 = 1_000_000;

/// What a rotation sealed anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotated {
    /// Keys of the installation.
    pub keys: usize,
    /// Keys of tenants' histories.
    pub tenants: usize,
}

/// An installation came back from a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// Which backup.
    pub backup: String,
    /// What was acknowledged before is there, what was after is not.
    pub taken_at: Timestamp,
    /// The last state of the ledger that the backup knows of, if anything was published.
    pub checkpoint: Option<Lapse>,
    /// Whether the ledger goes on as the same one: somebody showed that nothing that was published is missing.
    pub same_ledger: bool,
}

/// A ledger's state at which something ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lapse {
    /// The ledger's name.
    pub origin: String,
    /// How many entries it had.
    pub size: u64,
    /// Their root, as checkpoints write it.
    pub root: String,
}

impl Store {
    /// Whether the keys that are here open with a master key; `None` where there are none.
    ///
    /// # Errors
    /// As every verb: see [`StoreError`].
    pub async fn opens_with(&self, master: &MasterKey) -> Result<Option<bool>, StoreError> {
        let row = sqlx::query("SELECT name, sealed FROM sealed_keys ORDER BY name LIMIT 1")
            .fetch_optional(&self.pool)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let (name, sealed): (String, Vec<u8>) = (get(&row, "name")?, row.try_get("sealed")?);
        Ok(Some(master.unseal(&name, &sealed).is_some()))
    }

    /// The keys that backups are sealed under, the one for new ones last. Each master key has its own, so that
    /// whoever had an old one opens nothing that was backed up after its rotation.
    ///
    /// # Errors
    /// If they were sealed under another master key.
    pub async fn backup_keys(&self, master: &Arc<MasterKey>) -> Result<Vec<Key>, StoreError> {
        self.write(Arc::clone(master), |tx, master| {
            Box::pin(async move {
                let mut all = Vec::new();
                for number in 1..=earlier(tx).await? {
                    let name = format!("{BACKUP}.{number}");
                    all.push(keys::opened(&mut *tx.connection, master, &name).await?);
                }
                all.push(keys::key(tx, master, BACKUP).await?);
                Ok(all)
            })
        })
        .await
    }

    /// Seals all keys anew under another master key, in one commit with the event that says so. Nothing that those
    /// keys sealed is touched.
    ///
    /// # Errors
    /// Where a control plane is at work, or a key does not open with `from`.
    pub async fn rotate_master_key(
        &self,
        by: &Actor,
        from: Arc<MasterKey>,
        to: Arc<MasterKey>,
    ) -> Result<Rotated, StoreError> {
        let rotated = self
            .write((by.clone(), from, to), |tx, (by, from, to)| Box::pin(rotate(tx, by, from, to)))
            .await?;
        // What was sealed before must not stay readable in the log.
        self.settle().await?;
        Ok(rotated)
    }

    /// Records that this came back from a backup, as the first thing after it. Whoever was signed in is not any more,
    /// nobody holds a lease, and agents' orders go on with numbers that none of them has seen. Unless it is shown that nothing is
    /// missing, the ledger gets a new key and so a new name: under one name there is never a second history.
    ///
    /// # Errors
    /// As every verb: see [`StoreError`].
    pub async fn record_restoration(
        &self,
        by: &Actor,
        restoration: Restoration,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), restoration), |tx, (by, restoration)| {
            Box::pin(restored(tx, by, restoration))
        })
        .await
    }
}

/// How many keys of backups there were before.
async fn earlier(tx: &mut Tx<'_>) -> Result<i64, StoreError> {
    let row = sqlx::query("SELECT COUNT(*) AS total FROM sealed_keys WHERE name LIKE $1")
        .bind(format!("{BACKUP}.%"))
        .fetch_one(&mut *tx.connection)
        .await?;
    get(&row, "total")
}

async fn rotate(
    tx: &mut Tx<'_>,
    by: &Actor,
    from: &MasterKey,
    to: &MasterKey,
) -> Result<Rotated, StoreError> {
    let at_work = sqlx::query("SELECT 1 AS one FROM leases WHERE work = $1 AND until > $2")
        .bind(RECORDING)
        .bind(tx.now.as_microsecond())
        .fetch_optional(&mut *tx.connection)
        .await?;
    if at_work.is_some() {
        return Err(StoreError::Refused {
            reason: "a control plane is at work with this database".to_owned(),
            help: "end every `patchwright up` of this installation; of a killed one wait six seconds",
        });
    }
    let number = earlier(tx).await? + 1;
    let rows = sqlx::query("SELECT name, sealed FROM sealed_keys ORDER BY name")
        .fetch_all(&mut *tx.connection)
        .await?;
    for row in &rows {
        let (name, sealed): (String, Vec<u8>) = (get(row, "name")?, row.try_get("sealed")?);
        let key = from.unseal(&name, &sealed).ok_or_else(|| locked(&name))?;
        // What is backed up from now on gets a key of its own, when it is asked for.
        let new = if name == BACKUP { format!("{BACKUP}.{number}") } else { name.clone() };
        let sealed = to.seal(&new, &key, tx.random()).ok_or_else(|| locked(&new))?;
        sqlx::query("UPDATE sealed_keys SET name = $1, sealed = $2 WHERE name = $3")
            .bind(new)
            .bind(sealed)
            .bind(name)
            .execute(&mut *tx.connection)
            .await?;
    }
    let tenants = sqlx::query(
        "SELECT tenant_id, sealed_key FROM history_tenants WHERE sealed_key IS NOT NULL ORDER BY tenant_id",
    )
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &tenants {
        let (id, sealed): (String, Vec<u8>) = (get(row, "tenant_id")?, row.try_get("sealed_key")?);
        let name = tenant_key_name(&id);
        let key = from.unseal(&name, &sealed).ok_or_else(|| locked(&name))?;
        let sealed = to.seal(&name, &key, tx.random()).ok_or_else(|| locked(&name))?;
        sqlx::query("UPDATE history_tenants SET sealed_key = $1 WHERE tenant_id = $2")
            .bind(sealed)
            .bind(id)
            .execute(&mut *tx.connection)
            .await?;
    }
    let rotated = Rotated { keys: rows.len(), tenants: tenants.len() };
    tx.record(NewEvent {
        tenant: PROVIDER,
        kind: EventKind::MasterKeyRotated,
        by: by.clone(),
        object: to.fingerprint(),
        version: 1,
        payload: json!({
            "before": from.fingerprint(),
            "keys": rotated.keys,
            "tenants": rotated.tenants,
        }),
    });
    Ok(rotated)
}

async fn restored(
    tx: &mut Tx<'_>,
    by: &Actor,
    restoration: &Restoration,
) -> Result<(), StoreError> {
    let Restoration { backup, taken_at, checkpoint, same_ledger } = restoration;
    if !same_ledger {
        sqlx::query("DELETE FROM sealed_keys WHERE name = $1")
            .bind(LEDGER)
            .execute(&mut *tx.connection)
            .await?;
    }
    sqlx::query("UPDATE agents SET ordered = ordered + $1")
        .bind(ORDERS_AT_MOST)
        .execute(&mut *tx.connection)
        .await?;
    for text in ["UPDATE leases SET until = 0", "DELETE FROM sessions"] {
        sqlx::query(text).execute(&mut *tx.connection).await?;
    }
    tx.record(NewEvent {
        tenant: PROVIDER,
        kind: EventKind::InstallationRestored,
        by: by.clone(),
        object: backup.clone(),
        version: 1,
        payload: json!({
            "backup": backup,
            "taken_at": taken_at,
            "ledger": checkpoint.as_ref().map(|it| json!({
                "origin": it.origin, "size": it.size, "root": it.root,
            })),
            "same_ledger": same_ledger,
        }),
    });
    Ok(())
}
