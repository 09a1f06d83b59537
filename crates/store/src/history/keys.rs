//! Keys of tenants and partitions, opened once and kept at hand as long as their rows are the same.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ::history::{DataKey, Item, Opened, Partition, PathKey, Pool};
use domain::cloud::{CiId, TenantId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;
use crate::keys::{Key, MasterKey, Vault, locked};
use crate::value::get;
use crate::writer::Tx;

/// What a tenant's key is for.
pub(super) struct TenantKeys {
    pub(super) id: TenantId,
    /// The same in its 128 bits.
    pub(super) tenant: [u8; 16],
    /// As its row has it: with another one there, these keys are no longer the tenant's.
    pub(super) sealed: Vec<u8>,
    pub(super) pool: Pool,
    vault: Vault,
}

impl TenantKeys {
    /// A partition's key, sealed for its row.
    pub(super) fn seal_data_key(
        &self,
        number: i64,
        key: &[u8; 32],
        nonce: [u8; 24],
    ) -> Result<Vec<u8>, StoreError> {
        let place = self.place(number);
        self.vault.seal(&place, key, nonce).ok_or_else(|| locked(&place))
    }

    /// The same, opened again.
    pub(super) fn open_data_key(&self, number: i64, sealed: &[u8]) -> Result<DataKey, StoreError> {
        let place = self.place(number);
        let opened = self.vault.open(&place, sealed);
        let key: Option<[u8; 32]> = opened.and_then(|key| key.as_slice().try_into().ok());
        // The tenant's key opened: this one is not what it was.
        key.map(|key| DataKey::new(key.into()))
            .ok_or_else(|| StoreError::Corrupt { what: format!("the key `{place}`") })
    }

    /// Something of the tenant's, sealed for its row.
    pub(super) fn seal(
        &self,
        place: &str,
        value: &impl Serialize,
        nonce: [u8; 24],
    ) -> Result<Vec<u8>, StoreError> {
        let place = format!("{}/{place}", name(self.id));
        let text = serde_json::to_vec(value)
            .map_err(|error| StoreError::Corrupt { what: format!("{place}: {error}") })?;
        self.vault.seal(&place, &text, nonce).ok_or_else(|| locked(&place))
    }

    /// The same, opened again.
    pub(super) fn open<T: DeserializeOwned>(
        &self,
        place: &str,
        sealed: &[u8],
    ) -> Result<T, StoreError> {
        let place = format!("{}/{place}", name(self.id));
        let corrupt = || StoreError::Corrupt { what: place.clone() };
        let text = self.vault.open(&place, sealed).ok_or_else(corrupt)?;
        serde_json::from_slice(&text).map_err(|_| corrupt())
    }

    /// Bytes of the tenant's, sealed for their row.
    pub(super) fn seal_bytes(
        &self,
        place: &str,
        bytes: &[u8],
        nonce: [u8; 24],
    ) -> Result<Vec<u8>, StoreError> {
        let place = format!("{}/{place}", name(self.id));
        self.vault.seal(&place, bytes, nonce).ok_or_else(|| locked(&place))
    }

    /// The same, opened again.
    pub(super) fn open_bytes(&self, place: &str, sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let place = format!("{}/{place}", name(self.id));
        let opened = self.vault.open(&place, sealed);
        opened.map(|bytes| bytes.to_vec()).ok_or(StoreError::Corrupt { what: place })
    }

    fn place(&self, number: i64) -> String {
        format!("{}/{number}", name(self.id))
    }
}

/// What a tenant's key is sealed as.
fn name(tenant: TenantId) -> String {
    tenant_key_name(&tenant.to_string())
}

/// The same of a tenant's id as it stands in rows.
pub(crate) fn tenant_key_name(tenant: &str) -> String {
    format!("history/{tenant}")
}

/// A new key for a tenant, sealed under the master key.
pub(super) fn new_tenant_key(
    tx: &Tx<'_>,
    master: &MasterKey,
    tenant: TenantId,
) -> Result<Vec<u8>, StoreError> {
    let key = Key::new(tx.random());
    master.seal(&name(tenant), &key, tx.random()).ok_or_else(|| locked(&name(tenant)))
}

/// Holds a tenant's keys: whoever judges holds them too, and what was made under a key that is gone must not be sealed
/// under it.
pub(super) async fn held(tx: &mut Tx<'_>, keys: &TenantKeys) -> Result<(), StoreError> {
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    let row = sqlx::query("SELECT sealed_key FROM history_tenants WHERE tenant_id = $1")
        .bind(keys.id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let sealed = row.map(|row| get::<Option<Vec<u8>>>(&row, "sealed_key")).transpose()?;
    match sealed.flatten() {
        Some(sealed) if sealed == keys.sealed => Ok(()),
        _ => Err(StoreError::Busy),
    }
}

/// Where the version of a file stands in the tail.
pub(super) fn version_place(item: Item, path: PathKey, recorded: i64) -> Vec<u8> {
    [b"version".as_slice(), &item.0, &path.0, &recorded.to_le_bytes()].concat()
}

/// Where a content stands in the tail.
pub(super) fn content_place(content: &[u8]) -> Vec<u8> {
    [b"content".as_slice(), content].concat()
}

/// Most keys, and most partitions, that are kept at hand. Opening one of fifty thousand versions takes milliseconds; open
/// it has some 100 KiB in memory.
const KEYS: usize = 16_384;
const PARTITIONS: usize = 512;

/// What was opened before. Whatever is asked of it is asked by what a row says now, so that a key that was
/// destroyed is not found here either.
#[derive(Default)]
pub(super) struct Cache {
    tenants: Mutex<HashMap<TenantId, Arc<TenantKeys>>>,
    data_keys: Mutex<HashMap<Vec<u8>, DataKey>>,
    /// Whose an item is, with the keys that were its tenant's.
    items: Mutex<HashMap<CiId, Arc<TenantKeys>>>,
    partitions: Mutex<VecDeque<(String, Arc<Partition>)>>,
    /// Blocks of these; they go with them.
    pub(super) opened: Arc<Opened>,
    /// The same by tenant and number, as they were in an epoch.
    in_epochs: Mutex<HashMap<(TenantId, i64), InEpoch>>,
}

/// A partition, and the epoch in which it was so.
type InEpoch = (i64, Arc<Partition>);

impl Cache {
    pub(super) fn tenant(
        &self,
        master: &MasterKey,
        id: TenantId,
        sealed: &[u8],
    ) -> Result<Arc<TenantKeys>, StoreError> {
        if let Some(keys) = lock(&self.tenants).get(&id).filter(|keys| keys.sealed == sealed) {
            return Ok(Arc::clone(keys));
        }
        let key = master.unseal(&name(id), sealed).ok_or_else(|| locked(&name(id)))?;
        let keys = Arc::new(TenantKeys {
            id,
            tenant: id.as_bytes(),
            sealed: sealed.to_owned(),
            pool: Pool::new(&key),
            vault: Vault::new(&key),
        });
        bounded(&mut lock(&self.tenants), id, Arc::clone(&keys));
        Ok(keys)
    }

    pub(super) fn data_key(
        &self,
        keys: &TenantKeys,
        number: i64,
        sealed: &[u8],
    ) -> Result<DataKey, StoreError> {
        if let Some(key) = lock(&self.data_keys).get(sealed) {
            return Ok(key.clone());
        }
        let key = keys.open_data_key(number, sealed)?;
        bounded(&mut lock(&self.data_keys), sealed.to_owned(), key.clone());
        Ok(key)
    }

    /// The keys that the tenant of an item had. Whoever writes with them must ask whether it has them still.
    pub(super) fn item(&self, ci: CiId) -> Option<Arc<TenantKeys>> {
        lock(&self.items).get(&ci).cloned()
    }

    pub(super) fn keep_item(&self, ci: CiId, keys: &Arc<TenantKeys>) {
        bounded(&mut lock(&self.items), ci, Arc::clone(keys));
    }

    pub(super) fn forget_item(&self, ci: CiId) {
        lock(&self.items).remove(&ci);
    }

    pub(super) fn partition(&self, name: &str) -> Option<Arc<Partition>> {
        let partitions = lock(&self.partitions);
        let found = partitions.iter().find(|(it, _)| it == name);
        found.map(|(_, partition)| Arc::clone(partition))
    }

    pub(super) fn keep_partition(&self, name: String, partition: &Arc<Partition>) {
        let mut partitions = lock(&self.partitions);
        if partitions.len() == PARTITIONS {
            partitions.pop_front();
        }
        partitions.push_back((name, Arc::clone(partition)));
    }

    /// A partition as it was in an epoch of the tenant's objects, which its row said.
    pub(super) fn in_epoch(
        &self,
        tenant: TenantId,
        number: i64,
        epoch: i64,
    ) -> Option<Arc<Partition>> {
        let partitions = lock(&self.in_epochs);
        let found = partitions.get(&(tenant, number)).filter(|(it, _)| *it == epoch);
        found.map(|(_, partition)| Arc::clone(partition))
    }

    pub(super) fn keep_in_epoch(
        &self,
        place: (TenantId, i64),
        epoch: i64,
        partition: &Arc<Partition>,
    ) {
        let mut partitions = lock(&self.in_epochs);
        if partitions.len() >= PARTITIONS {
            partitions.clear();
        }
        partitions.insert(place, (epoch, Arc::clone(partition)));
    }

    /// Forgets all keys and partitions: some were destroyed.
    pub(super) fn forget(&self) {
        lock(&self.tenants).clear();
        lock(&self.data_keys).clear();
        lock(&self.items).clear();
        lock(&self.partitions).clear();
        lock(&self.in_epochs).clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a value; begins anew where there are too many.
fn bounded<K: std::hash::Hash + Eq, V>(map: &mut HashMap<K, V>, key: K, value: V) {
    if map.len() >= KEYS {
        map.clear();
    }
    map.insert(key, value);
}
