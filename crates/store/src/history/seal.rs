//! Sealing: a partition's rows become one object.
//!
//! ```text
//! close the partition ─► name an object ─► put it ─► read it again, whole ─► one commit: it is the partition,
//!                                                                            its rows go
//! ```
//! Whatever is broken off leaves the rows as they are, and at most an object that nobody names as a
//! partition's, which `remove_garbage` takes. Whoever works too late finds that the epoch has moved on.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use ::history::{
    Anchor, Commitment, ContentDigest, Contents, DataKey, FilePath, HistoryError, Item, Lean,
    Objects, Opened, Partition, PathKey, RowSeal, Sealed, Unsealed, Version, unpack,
};
use domain::cloud::{EventKind, TenantId};
use jiff::SignedDuration;
use serde_json::json;

use crate::actor::Actor;
use crate::environment::random;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::lease;
use crate::several::Several;
use crate::value::{get, hex, parsed};
use crate::writer::Tx;

use super::keys::{TenantKeys, content_place, version_place};
use super::rows::{File, PartitionState, Row, Span, add_rows, bytes, partitions};
use super::{History, LEVEL, blocking};

/// How long a process may work on a tenant's objects before another one may begin.
pub(super) const LEASE: SignedDuration = SignedDuration::from_mins(10);

/// When a partition is large or old enough to be sealed.
#[derive(Debug, Clone, Copy)]
pub struct SealRule {
    /// Versions in it, at least.
    pub versions: u32,
    /// Or how long ago it was opened, at least.
    pub age: SignedDuration,
}

/// A partition that was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPartition {
    /// Its number among the tenant's.
    pub number: i64,
    /// How many versions it holds.
    pub versions: u64,
    /// Bytes of its object.
    pub size: u64,
}

/// Partitions that can be read, by number: object and key.
pub(super) type Readable = HashMap<u64, (String, DataKey)>;

/// Reads frames of partitions that others lean on; opens each once.
pub(super) struct Leaning {
    objects: Arc<dyn Objects>,
    readable: Readable,
    partitions: Mutex<HashMap<u64, Arc<Partition>>>,
    opened: Arc<Opened>,
}

/// Files lean on each other across whole partitions: whoever reads all of them has so many bytes of them at hand.
const AT_HAND: u64 = 32 << 20;

impl Leaning {
    pub(super) fn new(objects: Arc<dyn Objects>, readable: Readable) -> Self {
        Self {
            objects,
            readable,
            partitions: Mutex::default(),
            opened: Arc::new(Opened::of(AT_HAND)),
        }
    }

    /// Opens one to read all of it.
    pub(super) fn open(&self, name: &str, key: &DataKey) -> Result<Partition, HistoryError> {
        Partition::open_among(Arc::clone(&self.objects), name, key, &self.opened)
    }

    pub(super) fn partition(&self, number: u64) -> Result<Arc<Partition>, HistoryError> {
        let partitions = || self.partitions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(partition) = partitions().get(&number) {
            return Ok(Arc::clone(partition));
        }
        let (name, key) = self.readable.get(&number).ok_or(HistoryError::NoFrame { number })?;
        let partition = Arc::new(self.open(name, key)?);
        partitions().insert(number, Arc::clone(&partition));
        Ok(partition)
    }

    pub(super) fn content(&self, lean: Lean) -> Result<Arc<[u8]>, HistoryError> {
        Ok(self.partition(lean.partition)?.content(lean.frame)?.into())
    }

    /// What a new frame may lean on, unless it was taken or erased since.
    pub(super) fn anchor(&self, lean: Lean) -> Result<Option<Anchor>, HistoryError> {
        if !self.readable.contains_key(&lean.partition) {
            return Ok(None);
        }
        let partition = self.partition(lean.partition)?;
        let chain = match partition.chain(lean.frame) {
            Ok(Some(chain)) => chain,
            Ok(None) | Err(HistoryError::NoFrame { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let content = partition.content(lean.frame)?.into();
        Ok(Some(Anchor { lean, content, chain }))
    }
}

/// A closed partition, read out of its rows.
struct Closed {
    number: i64,
    key: DataKey,
    /// By item and path.
    files: BTreeMap<(Item, FilePath), Vec<Version>>,
    known: HashMap<(Item, PathKey), File>,
    /// Sealed, by the id of the content.
    contents: HashMap<[u8; 16], Vec<u8>>,
    commitments: Vec<Commitment>,
}

/// What becomes of it in one commit.
struct Commit {
    keys: Arc<TenantKeys>,
    number: i64,
    epoch: i64,
    name: String,
    kept_from: i64,
    sealed: Sealed,
    known: HashMap<(Item, PathKey), File>,
}

impl History {
    /// Tenants of which something waits to be sealed, by a rule.
    pub async fn due_for_sealing(&self, rule: SealRule) -> Result<Vec<TenantId>, StoreError> {
        let since = self.store.environment.now() - rule.age;
        let rows = sqlx::query(
            "SELECT h.tenant_id FROM history_partitions p JOIN history_tenants h ON h.tenant = p.tenant
             WHERE p.state IN ('open', 'closed') AND (
                 p.opened_at <= $1 OR p.state = 'closed' OR $2 <= (
                     SELECT COALESCE(SUM(b.versions), 0) FROM history_batches b
                     WHERE b.tenant = p.tenant AND b.number = p.number))
             GROUP BY h.tenant_id ORDER BY h.tenant_id",
        )
        .bind(since.as_microsecond())
        .bind(i64::from(rule.versions))
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| parsed(row, "tenant_id")).collect()
    }

    /// Seals what was recorded of a tenant until now. Nothing happens where another process works on
    /// the tenant's objects.
    pub async fn seal(
        &self,
        tenant: TenantId,
        holder: &str,
    ) -> Result<Vec<SealedPartition>, StoreError> {
        let Some(keys) = self.keys_of(&Actor::System, tenant).await? else { return Ok(Vec::new()) };
        let Some(epoch) = self.begin(tenant, holder, true).await? else { return Ok(Vec::new()) };
        let sealed = self.seal_closed(&keys, epoch).await;
        self.end(tenant, holder).await?;
        sealed
    }

    /// Takes the lease on a tenant's objects, closes what is open if asked to, and says in which epoch.
    pub(super) async fn begin(
        &self,
        tenant: TenantId,
        holder: &str,
        closes: bool,
    ) -> Result<Option<i64>, StoreError> {
        self.write(holder.to_owned(), move |tx, holder| {
            Box::pin(async move {
                tx.hold("history_tenants", "tenant_id", &tenant.to_string()).await?;
                if lease::take(tx, &work(tenant), holder, LEASE).await?.is_none() {
                    return Ok(None);
                }
                if closes {
                    sqlx::query(
                        "UPDATE history_partitions SET state = 'closed'
                         WHERE tenant = $1 AND state = 'open'",
                    )
                    .bind(tenant.as_bytes().to_vec())
                    .execute(&mut *tx.connection)
                    .await?;
                    sqlx::query("UPDATE history_tenants SET open_number = 0 WHERE tenant_id = $1")
                        .bind(tenant.to_string())
                        .execute(&mut *tx.connection)
                        .await?;
                }
                let row = sqlx::query("SELECT epoch FROM history_tenants WHERE tenant_id = $1")
                    .bind(tenant.to_string())
                    .fetch_optional(&mut *tx.connection)
                    .await?;
                row.map(|row| get(&row, "epoch")).transpose()
            })
        })
        .await
    }

    pub(super) async fn end(&self, tenant: TenantId, holder: &str) -> Result<(), StoreError> {
        self.write(holder.to_owned(), move |tx, holder| {
            Box::pin(async move { lease::give_back(tx, &work(tenant), holder).await })
        })
        .await
    }

    /// Seals closed partitions, the oldest first: what is in rows is later than all that is sealed.
    pub(super) async fn seal_closed(
        &self,
        keys: &Arc<TenantKeys>,
        mut epoch: i64,
    ) -> Result<Vec<SealedPartition>, StoreError> {
        let mut all = Vec::new();
        let rows = partitions(self.pool(), keys.tenant).await?;
        for row in rows.iter().filter(|row| row.state == PartitionState::Closed) {
            let closed = self.read_closed(keys, row).await?;
            all.push(self.seal_one(keys, closed, epoch).await?);
            epoch += 1;
        }
        Ok(all)
    }

    async fn read_closed(&self, keys: &Arc<TenantKeys>, row: &Row) -> Result<Closed, StoreError> {
        let number = row.number;
        let lost = || StoreError::Corrupt { what: format!("partition {number} has no key") };
        let key = keys.open_data_key(number, row.sealed_key.as_ref().ok_or_else(lost)?)?;
        let seal = key.rows();
        let rows = sqlx::query(
            "SELECT ci, path_key, recorded, version FROM history_tail
             WHERE tenant = $1 AND number = $2 ORDER BY ci, path_key, recorded",
        )
        .bind(keys.tenant.to_vec())
        .bind(number)
        .fetch_all(self.pool())
        .await?;
        let mut files: BTreeMap<(Item, FilePath), Vec<Version>> = BTreeMap::new();
        for row in &rows {
            let (item, path) = (Item(bytes(row, "ci")?), PathKey(bytes(row, "path_key")?));
            let place = version_place(item, path, get(row, "recorded")?);
            let opened = seal.open(&place, &get::<Vec<u8>>(row, "version")?)?;
            let (path, version) = Version::from_bytes(&opened)?;
            files.entry((item, path)).or_default().push(version);
        }
        let rows = sqlx::query(
            "SELECT content, sealed FROM history_contents WHERE tenant = $1 AND number = $2",
        )
        .bind(keys.tenant.to_vec())
        .bind(number)
        .fetch_all(self.pool())
        .await?;
        let contents = rows
            .iter()
            .map(|row| Ok((bytes(row, "content")?, get(row, "sealed")?)))
            .collect::<Result<_, StoreError>>()?;
        let rows = sqlx::query(
            "SELECT ci, path_key, path, recorded, number, spans, anchor_number, anchor_frame
             FROM history_files WHERE tenant = $1 AND number >= $2",
        )
        .bind(keys.tenant.to_vec())
        .bind(number)
        .fetch_all(self.pool())
        .await?;
        let mut known = HashMap::with_capacity(rows.len());
        for row in &rows {
            let file = File::read(row)?;
            known.insert((Item(file.ci), file.key), file);
        }
        let commitments = self.batches(keys, number).await?;
        Ok(Closed { number, key, files, known, contents, commitments })
    }

    /// What was committed to in a partition that is not sealed yet, by item and time.
    pub(super) async fn batches(
        &self,
        keys: &TenantKeys,
        number: i64,
    ) -> Result<Vec<Commitment>, StoreError> {
        let rows = sqlx::query(
            "SELECT ci, recorded, versions, hash FROM history_batches
             WHERE tenant = $1 AND number = $2 ORDER BY ci, recorded",
        )
        .bind(keys.tenant.to_vec())
        .bind(number)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Commitment {
                    item: Item(bytes(row, "ci")?),
                    recorded: get(row, "recorded")?,
                    versions: u32::try_from(get::<i64>(row, "versions")?).unwrap_or(u32::MAX),
                    hash: bytes(row, "hash")?,
                })
            })
            .collect()
    }

    /// The partitions that can be read now.
    pub(super) fn readable(&self, keys: &TenantKeys, rows: &[Row]) -> Result<Readable, StoreError> {
        let mut readable = Readable::new();
        for row in rows {
            if let Some((name, sealed)) = row.readable() {
                let key = self.cache.data_key(keys, row.number, sealed)?;
                readable.insert(row.number.unsigned_abs(), (name.to_owned(), key));
            }
        }
        Ok(readable)
    }

    async fn seal_one(
        &self,
        keys: &Arc<TenantKeys>,
        closed: Closed,
        epoch: i64,
    ) -> Result<SealedPartition, StoreError> {
        let number = closed.number;
        let rows = partitions(self.pool(), keys.tenant).await?;
        let readable = self.readable(keys, &rows)?;
        let name = self.name_object(keys, number).await?;
        let salt = random(&*self.store.environment);
        let (objects, building, named) =
            (Arc::clone(&self.objects), Arc::clone(keys), name.clone());
        let (sealed, known) = blocking(move || {
            let leaning = Leaning::new(Arc::clone(&objects), readable);
            let sealed = build(&building, &closed, &salt, &leaning)?;
            put(&objects, &named, &sealed.object.bytes)?;
            // What follows takes the rows away: the object is read whole before.
            let partition = leaning.open(&named, &closed.key)?;
            partition.verify(&closed.key, &building.pool, &|lean| leaning.content(lean))?;
            if sealed.commitments != closed.commitments {
                let what = format!("what was recorded in partition {number}");
                return Err(HistoryError::Unlike { what });
            }
            Ok((sealed, closed.known))
        })
        .await?;
        let kept_from = self.kept_from(keys).await?;
        let (versions, size) = (sealed.object.versions, sealed.object.bytes.len() as u64);
        let keys = Arc::clone(keys);
        let commit = Commit { keys, number, epoch, name, kept_from, sealed, known };
        self.write(commit, |tx, commit| Box::pin(replace_rows(tx, commit))).await?;
        Ok(SealedPartition { number, versions, size })
    }

    pub(super) async fn kept_from(&self, keys: &TenantKeys) -> Result<i64, StoreError> {
        let row = sqlx::query("SELECT kept_from FROM history_tenants WHERE tenant_id = $1")
            .bind(keys.id.to_string())
            .fetch_one(self.pool())
            .await?;
        get(&row, "kept_from")
    }

    /// A name for an object, noted before there is one.
    pub(super) async fn name_object(
        &self,
        keys: &Arc<TenantKeys>,
        number: i64,
    ) -> Result<String, StoreError> {
        self.write(Arc::clone(keys), move |tx, keys| Box::pin(name_object(tx, keys, number))).await
    }
}

/// A name for an object, noted before there is one.
pub(super) async fn name_object(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    number: i64,
) -> Result<String, StoreError> {
    let name = format!("{}.{number:08}.{}", keys.id, hex(&tx.random::<8>()));
    sqlx::query(
        "INSERT INTO history_objects (name, tenant, number, state, since)
         VALUES ($1, $2, $3, 'writing', $4)",
    )
    .bind(name.as_str())
    .bind(keys.tenant.to_vec())
    .bind(number)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(name)
}

/// The lease on a tenant's objects.
fn work(tenant: TenantId) -> String {
    format!("history/{tenant}")
}

pub(super) fn put(
    objects: &Arc<dyn Objects>,
    name: &str,
    bytes: &[u8],
) -> Result<(), HistoryError> {
    objects
        .put(name, bytes)
        .map_err(|source| HistoryError::Object { name: name.to_owned(), source })
}

/// What a partition's rows hold.
struct OfRows<'a> {
    keys: &'a TenantKeys,
    closed: &'a Closed,
    seal: RowSeal,
    /// As they are in `closed`.
    files: Vec<(&'a FilePath, &'a [Version])>,
    leaning: &'a Leaning,
}

impl Contents for OfRows<'_> {
    fn content(
        &self,
        file: usize,
        version: usize,
    ) -> Result<(Arc<[u8]>, ContentDigest), HistoryError> {
        let (path, versions) = self.files[file];
        let id = versions[version].state.content();
        let sealed = id.and_then(|id| Some((id, self.closed.contents.get(&id.0)?)));
        let (id, sealed) = sealed
            .ok_or_else(|| HistoryError::Unlike { what: format!("the content of `{path}`") })?;
        let content = unpack(&self.seal.open(&content_place(&id.0), sealed)?)?;
        let digest = self.keys.pool.digest(&content);
        Ok((content.into(), digest))
    }

    fn anchor(&self, lean: Lean) -> Result<Option<Anchor>, HistoryError> {
        self.leaning.anchor(lean)
    }
}

fn build(
    keys: &TenantKeys,
    closed: &Closed,
    salt: &[u8; 32],
    leaning: &Leaning,
) -> Result<Sealed, HistoryError> {
    let unsealed = closed.files.iter().map(|((item, path), versions)| {
        let known = closed.known.get(&(*item, keys.pool.path_key(path)));
        Unsealed {
            item: *item,
            path: path.clone(),
            versions: versions.clone(),
            anchor: known.and_then(|file| file.anchor),
        }
    });
    let files = closed.files.iter().map(|((_, path), versions)| (path, &versions[..])).collect();
    let contents = OfRows { keys, closed, seal: closed.key.rows(), files, leaning };
    let number = closed.number.unsigned_abs();
    ::history::seal(number, &closed.key, salt, LEVEL, unsealed.collect(), &contents)
}

/// Goes on only if nobody altered the tenant's objects meanwhile.
pub(super) async fn next_epoch(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    epoch: i64,
) -> Result<(), StoreError> {
    let moved = sqlx::query(
        "UPDATE history_tenants SET epoch = epoch + 1 WHERE tenant_id = $1 AND epoch = $2",
    )
    .bind(tenant.to_string())
    .bind(epoch)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if moved == 1 { Ok(()) } else { Err(StoreError::Busy) }
}

/// A named object is a partition's from now on.
pub(super) async fn make_live(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    let made = sqlx::query(
        "UPDATE history_objects SET state = 'live', since = $1 WHERE name = $2 AND state = 'writing'",
    )
    .bind(tx.now.as_microsecond())
    .bind(name)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if made == 1 { Ok(()) } else { Err(StoreError::Busy) }
}

pub(super) async fn keep_leans(
    tx: &mut Tx<'_>,
    tenant: [u8; 16],
    number: i64,
    leans: &[u64],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM history_leans WHERE tenant = $1 AND number = $2")
        .bind(tenant.to_vec())
        .bind(number)
        .execute(&mut *tx.connection)
        .await?;
    for leans_on in leans {
        sqlx::query("INSERT INTO history_leans (tenant, number, leans_on) VALUES ($1, $2, $3)")
            .bind(tenant.to_vec())
            .bind(number)
            .bind(leans_on.cast_signed())
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

async fn replace_rows(tx: &mut Tx<'_>, commit: &Commit) -> Result<(), StoreError> {
    let Commit { keys, number, epoch, name, kept_from, sealed, known } = commit;
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    next_epoch(tx, keys.id, *epoch).await?;
    make_live(tx, name).await?;
    let object = &sealed.object;
    let size = i64::try_from(object.bytes.len()).unwrap_or(i64::MAX);
    let replaced = sqlx::query(
        "UPDATE history_partitions SET state = 'sealed', object = $1, digest = $2, size = $3,
             versions = $4, first_recorded = $5, last_recorded = $6
         WHERE tenant = $7 AND number = $8 AND state = 'closed'",
    )
    .bind(name.as_str())
    .bind(object.digest.to_vec())
    .bind(size)
    .bind(object.versions.cast_signed())
    .bind(object.first)
    .bind(object.last)
    .bind(keys.tenant.to_vec())
    .bind(*number)
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if replaced != 1 {
        return Err(StoreError::Busy);
    }
    keep_leans(tx, keys.tenant, *number, &object.leans).await?;
    let mut files = Vec::with_capacity(sealed.files.len());
    for file in &sealed.files {
        let key = keys.pool.path_key(&file.path);
        let Some(known) = known.get(&(file.item, key)) else {
            return Err(StoreError::Corrupt { what: format!("a file of partition {number}") });
        };
        let mut spans = known.spans.clone();
        spans.push(Span { number: *number, first: file.first }, *kept_from);
        let own = file.anchor.map(|frame| Lean { partition: number.unsigned_abs(), frame });
        files.push((known, spans, own.or(known.anchor)));
    }
    // All of them are there: only what follows from sealing is new.
    let text = |values: &str| {
        format!(
            "INSERT INTO history_files
             (tenant, ci, path_key, path, recorded, number, spans, anchor_number, anchor_frame)
             VALUES {values}
             ON CONFLICT (tenant, ci, path_key) DO UPDATE SET
                 spans = excluded.spans, anchor_number = excluded.anchor_number,
                 anchor_frame = excluded.anchor_frame"
        )
    };
    let mut several = Several::default();
    add_rows(&mut several, &files, 9, text, |several, (file, spans, anchor)| {
        several.bind(keys.tenant).bind(file.ci).bind(file.key.0);
        several.bind(file.sealed_path.as_slice()).bind(file.recorded).bind(file.number);
        several.bind(spans.to_bytes().as_slice());
        several.bind(anchor.map(|anchor| anchor.partition.cast_signed()));
        several.bind(anchor.map(|anchor| anchor.frame.cast_signed()));
    });
    several.run(tx.engine, &mut *tx.connection).await?;
    remove_rows(tx, keys.tenant, *number).await?;
    tx.record(sealed_event(keys.id, *number, sealed));
    Ok(())
}

/// Says that a partition lies in its object.
pub(super) fn sealed_event(tenant: TenantId, number: i64, sealed: &Sealed) -> NewEvent {
    let object = &sealed.object;
    NewEvent {
        tenant,
        kind: EventKind::HistorySealed,
        by: Actor::System,
        object: tenant.to_string(),
        version: number,
        payload: json!({
            "partition": number, "digest": hex(&object.digest), "size": object.bytes.len(),
            "versions": object.versions, "batches": sealed.commitments.len(),
        }),
    }
}

/// Takes a partition's rows out of the tail.
pub(super) async fn remove_rows(
    tx: &mut Tx<'_>,
    tenant: [u8; 16],
    number: i64,
) -> Result<(), StoreError> {
    for text in [
        "DELETE FROM history_tail WHERE tenant = $1 AND number = $2",
        "DELETE FROM history_contents WHERE tenant = $1 AND number = $2",
        "DELETE FROM history_batches WHERE tenant = $1 AND number = $2",
    ] {
        sqlx::query(text).bind(tenant.to_vec()).bind(number).execute(&mut *tx.connection).await?;
    }
    Ok(())
}
