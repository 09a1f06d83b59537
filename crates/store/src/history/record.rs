//! Recording: versions of an item's files, durable with the event that commits to them.

use std::collections::HashMap;
use std::sync::Arc;

use ::history::{
    Attribution, Committer, ContentDigest, FilePath, HistoryError, Item, Metadata, Origin, PathKey,
    State, Version, pack,
};
use domain::cloud::{ChangeId, CiId, EventKind, TenantId};
use jiff::Timestamp;
use serde_json::json;
use sqlx::{AnyConnection, AssertSqlSafe};

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::value::{get, hex};
use crate::writer::Tx;

use super::judge::{self, Telling};
use super::keys::{TenantKeys, content_place, new_tenant_key, version_place};
use super::rows::{bytes, statements};
use super::{History, LEVEL, blocking, timestamp};

/// Most files of one batch; an item with more is told in several.
const MOST_FILES: usize = 10_000;

/// Most bytes of the contents of one batch.
const MOST_BYTES: usize = 256 << 20;

/// A file as somebody saw it.
#[derive(Debug, Clone)]
pub struct NewFile {
    /// Which file.
    pub path: FilePath,
    /// What it is.
    pub state: NewState,
    /// When it was seen.
    pub observed_at: Timestamp,
    /// Who says so.
    pub source: String,
    /// Who altered it, where that is known.
    pub by: Option<Attribution>,
    /// The change that it belongs to, where there is one.
    pub change: Option<ChangeId>,
}

/// What a file is seen to be.
#[derive(Clone)]
pub enum NewState {
    /// There, with this content.
    Present {
        /// The content.
        content: Vec<u8>,
        /// The rest.
        metadata: Metadata,
    },
    /// Not there any more.
    Gone,
}

/// Without the content.
impl std::fmt::Debug for NewState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Present { content, metadata } => {
                write!(f, "Present({} bytes, {metadata:?})", content.len())
            }
            Self::Gone => f.write_str("Gone"),
        }
    }
}

/// What was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// By when to ask for it.
    pub at: Timestamp,
    /// How many files were others than before.
    pub versions: u32,
    /// What the event commits to, in hexadecimal.
    pub commitment: String,
}

/// A file on its way into the tail.
struct Prepared {
    path: FilePath,
    key: PathKey,
    sealed_path: Vec<u8>,
    /// Keyed hash of all that it is.
    print: [u8; 16],
    version: Version,
    digest: Option<ContentDigest>,
    packed: Option<Vec<u8>>,
}

struct Batch {
    by: Actor,
    ci: CiId,
    keys: Arc<TenantKeys>,
    files: Vec<Prepared>,
    telling: Option<Arc<Telling>>,
}

enum Outcome {
    Recorded(Option<Recorded>),
    /// The tenant has another key than the batch was made with.
    OtherKeys,
}

impl History {
    /// Records what files of an item are. Those that are as they were make no version; `None` where all are.
    pub async fn record(
        &self,
        by: &Actor,
        ci: CiId,
        files: Vec<NewFile>,
    ) -> Result<Option<Recorded>, StoreError> {
        self.record_batch(by, ci, files, None).await
    }

    /// The same of alterations: each is judged afterwards ([`History::judge`]), by how it came about.
    pub async fn record_told(
        &self,
        by: &Actor,
        ci: CiId,
        files: Vec<NewFile>,
        telling: Telling,
    ) -> Result<Option<Recorded>, StoreError> {
        self.record_batch(by, ci, files, Some(Arc::new(telling))).await
    }

    async fn record_batch(
        &self,
        by: &Actor,
        ci: CiId,
        files: Vec<NewFile>,
        telling: Option<Arc<Telling>>,
    ) -> Result<Option<Recorded>, StoreError> {
        let files = Arc::new(in_order(files)?);
        for _ in 0..3 {
            let asked = self.asked(by, ci).await?;
            let keys = match asked.keys {
                Some(keys) => keys,
                None => self.make_tenant_key(asked.tenant).await?,
            };
            let Some(files) = self.prepare(&keys, ci, &files).await? else { return Ok(None) };
            let telling = telling.clone();
            let batch = Batch { by: by.clone(), ci, keys, files, telling };
            match self.write(batch, |tx, batch| Box::pin(record(tx, batch))).await? {
                Outcome::Recorded(recorded) => return Ok(recorded),
                Outcome::OtherKeys => {}
            }
        }
        Err(StoreError::Busy)
    }

    pub(super) async fn make_tenant_key(
        &self,
        tenant: TenantId,
    ) -> Result<Arc<TenantKeys>, StoreError> {
        let master = Arc::clone(&self.master);
        let sealed = self
            .write(master, move |tx, master| {
                Box::pin(async move {
                    // Two that make one at once would meet in either of its unique columns.
                    tx.hold("tenants", "id", &tenant.to_string()).await?;
                    let sealed = new_tenant_key(tx, master, tenant)?;
                    let row = sqlx::query(
                        "INSERT INTO history_tenants
                         (tenant_id, tenant, sealed_key, last_recorded, open_number, last_number,
                          kept_from, epoch)
                         VALUES ($1, $2, $3, $4, 0, 0, $4, 0)
                         ON CONFLICT (tenant_id) DO UPDATE SET
                             sealed_key = COALESCE(history_tenants.sealed_key, excluded.sealed_key)
                         RETURNING sealed_key",
                    )
                    .bind(tenant.to_string())
                    .bind(tenant.as_bytes().to_vec())
                    .bind(sealed)
                    .bind(i64::MIN)
                    .fetch_one(&mut *tx.connection)
                    .await?;
                    get::<Vec<u8>>(&row, "sealed_key")
                })
            })
            .await?;
        self.cache.tenant(&self.master, tenant, &sealed)
    }

    /// Hashes and packs what is not as it was.
    async fn prepare(
        &self,
        keys: &Arc<TenantKeys>,
        ci: CiId,
        files: &Arc<Vec<NewFile>>,
    ) -> Result<Option<Vec<Prepared>>, StoreError> {
        let paths: Vec<PathKey> = files.iter().map(|file| keys.pool.path_key(&file.path)).collect();
        // One file alone is hashed sooner than it is asked for; the writer asks once more anyway.
        let known = if paths.len() == 1 {
            Known::new()
        } else {
            known(&mut *self.pool().acquire().await?, keys.tenant, ci, &paths).await?
        };
        let (keys, files) = (Arc::clone(keys), Arc::clone(files));
        let length: usize = files.iter().map(length).sum();
        let work = move || {
            let mut prepared = Vec::with_capacity(files.len());
            for (file, key) in files.iter().zip(paths) {
                prepared.extend(prepare(&keys, file, key, known.get(&key))?);
            }
            Ok(prepared)
        };
        // A thread of its own costs more than hashing a few files.
        let prepared = if length < 64 << 10 { work()? } else { blocking(work).await? };
        Ok(Some(prepared).filter(|prepared| !prepared.is_empty()))
    }
}

fn length(file: &NewFile) -> usize {
    match &file.state {
        NewState::Present { content, .. } => content.len(),
        NewState::Gone => 0,
    }
}

/// Files by path, each once, and not too much of them.
fn in_order(mut files: Vec<NewFile>) -> Result<Vec<NewFile>, StoreError> {
    let refused = |reason: String| {
        Err(StoreError::Refused { reason, help: "tell an item's files in several batches" })
    };
    files.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(twice) = files.windows(2).find(|it| it[0].path == it[1].path) {
        return Err(StoreError::Refused {
            reason: format!("`{}` is in the batch twice", twice[0].path),
            help: "tell each file once in a batch",
        });
    }
    if files.len() > MOST_FILES {
        return refused(format!("{} files; a batch has {MOST_FILES} at most", files.len()));
    }
    let bytes: usize = files.iter().map(length).sum();
    if bytes > MOST_BYTES {
        return refused(format!("{bytes} bytes; a batch has {MOST_BYTES} at most"));
    }
    Ok(files)
}

/// Keyed hashes of what files are, as far as they are known; `None` for what was erased.
type Known = HashMap<PathKey, Option<[u8; 16]>>;

async fn known(
    connection: &mut AnyConnection,
    tenant: [u8; 16],
    ci: CiId,
    paths: &[PathKey],
) -> Result<Known, StoreError> {
    let mut known = Known::new();
    let mut read = |row: &sqlx::any::AnyRow| {
        let print: Option<Vec<u8>> = get(row, "state")?;
        let print = print.and_then(|print| print.try_into().ok());
        known.insert(PathKey(bytes(row, "path_key")?), print);
        Ok::<_, StoreError>(())
    };
    for (paths, values) in statements(paths, 1) {
        // `($1), ($2)` is a list of values like `$1, $2`, but it begins at $1, which the others come behind.
        let after = paths.len();
        let text = format!(
            "SELECT path_key, state FROM history_files
             WHERE path_key IN ({values}) AND tenant = ${} AND ci = ${}",
            after + 1,
            after + 2
        );
        let mut query = sqlx::query(AssertSqlSafe(text));
        for path in paths {
            query = query.bind(path.0.to_vec());
        }
        let query = query.bind(tenant.to_vec()).bind(ci.as_bytes().to_vec());
        query.fetch_all(&mut *connection).await?.iter().try_for_each(&mut read)?;
    }
    Ok(known)
}

/// A file as its rows will have it; `None` where it is as it was.
fn prepare(
    keys: &TenantKeys,
    file: &NewFile,
    key: PathKey,
    known: Option<&Option<[u8; 16]>>,
) -> Result<Option<Prepared>, HistoryError> {
    let (state, digest) = match &file.state {
        NewState::Present { content, metadata } => {
            let digest = keys.pool.digest(content);
            let length = content.len() as u64;
            let metadata = metadata.clone();
            (State::Present { content: digest.into(), length, metadata }, Some(digest))
        }
        NewState::Gone => (State::Gone, None),
    };
    let origin = Origin {
        observed: file.observed_at.as_microsecond(),
        source: file.source.clone(),
        by: file.by.clone(),
        change: file.change.map(|change| change.as_bytes()),
    };
    let print = print(keys, &file.path, &state);
    let is_known = match known {
        Some(before) => *before == Some(print),
        None => false,
    };
    if is_known {
        return Ok(None);
    }
    let version = Version { recorded: 0, state, origin };
    version.check()?;
    let packed = match &file.state {
        NewState::Present { content, .. } => Some(pack(content, LEVEL)?),
        NewState::Gone => None,
    };
    Ok(Some(Prepared {
        path: file.path.clone(),
        key,
        sealed_path: keys.pool.seal_path(key, &file.path)?,
        print,
        version,
        digest,
        packed,
    }))
}

/// Keyed hash of what a file is, whenever and however it became so.
pub(super) fn print(keys: &TenantKeys, path: &FilePath, state: &State) -> [u8; 16] {
    let version = Version { recorded: 0, state: state.clone(), origin: Origin::default() };
    ::history::ContentId::from(keys.pool.digest(&version.to_bytes(path))).0
}

async fn record(tx: &mut Tx<'_>, batch: &Batch) -> Result<Outcome, StoreError> {
    let keys = &*batch.keys;
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    let row = sqlx::query(
        "SELECT c.name, c.version, c.retired_at, h.sealed_key, h.last_recorded, h.open_number,
                h.last_number, p.sealed_key AS data_key
         FROM cis c JOIN history_tenants h ON h.tenant_id = c.tenant_id
         LEFT JOIN history_partitions p ON p.tenant = h.tenant AND p.number = h.open_number
         WHERE c.id = $1 AND c.tenant_id = $2",
    )
    .bind(batch.ci.to_string())
    .bind(keys.id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("configuration item", &batch.ci))?;
    if get::<Option<i64>>(&row, "retired_at")?.is_some() {
        return Err(StoreError::Refused {
            reason: format!("`{}` is retired", get::<String>(&row, "name")?),
            help: "create a new configuration item instead",
        });
    }
    if get::<Option<Vec<u8>>>(&row, "sealed_key")?.as_ref() != Some(&keys.sealed) {
        return Ok(Outcome::OtherKeys);
    }
    // Another batch may have come between.
    let paths: Vec<_> = batch.files.iter().map(|file| file.key).collect();
    let known = known(&mut *tx.connection, keys.tenant, batch.ci, &paths).await?;
    let is_new = |file: &&Prepared| match known.get(&file.key) {
        Some(before) => *before != Some(file.print),
        // What was never there is not gone.
        None => file.version.state != State::Gone,
    };
    let files: Vec<&Prepared> = batch.files.iter().filter(is_new).collect();
    if files.is_empty() {
        return Ok(Outcome::Recorded(None));
    }
    // Rises also where several batches share a commit, or a clock steps back.
    let last: i64 = get(&row, "last_recorded")?;
    let recorded = tx.now.as_microsecond().max(last.saturating_add(1));
    let sealed: Option<Vec<u8>> = get(&row, "data_key")?;
    let mut number: i64 = get(&row, "open_number")?;
    let mut last_number: i64 = get(&row, "last_number")?;
    let sealed = if let Some(sealed) = sealed {
        sealed
    } else {
        last_number += 1;
        number = last_number;
        open_partition(tx, keys, number).await?
    };
    let data_key = keys.open_data_key(number, &sealed)?;
    go_on(tx, keys, recorded, (number, last_number)).await?;
    let item = Item(batch.ci.as_bytes());
    let committer = Committer::new(&data_key);
    let mut leaves = Vec::with_capacity(files.len());
    let mut rows = Vec::with_capacity(files.len());
    for &file in &files {
        let version = Version { recorded, ..file.version.clone() };
        leaves.push(committer.leaf(&file.path, &version, file.digest));
        rows.push((file, version));
    }
    let commitment = committer.batch(item, recorded, &leaves);
    let place = Place { tenant: keys.tenant, number, item, recorded };
    insert(tx, &place, &data_key.rows(), &rows).await?;
    sqlx::query(
        "INSERT INTO history_batches (tenant, number, ci, recorded, versions, hash)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(keys.tenant.to_vec())
    .bind(number)
    .bind(item.0.to_vec())
    .bind(recorded)
    .bind(i64::from(commitment.versions))
    .bind(commitment.hash.to_vec())
    .execute(&mut *tx.connection)
    .await?;
    if let Some(telling) = &batch.telling {
        let paths = rows.iter().map(|(file, _)| file.path.as_str());
        judge::queue(tx, keys, batch.ci, recorded, telling.of(paths)).await?;
    }
    let gone = rows.iter().filter(|(_, version)| version.state == State::Gone).count();
    let commitment = hex(&commitment.hash);
    tx.record(NewEvent {
        tenant: keys.id,
        kind: EventKind::HistoryRecorded,
        by: batch.by.clone(),
        object: batch.ci.to_string(),
        version: get(&row, "version")?,
        payload: json!({
            "recorded": recorded, "partition": number, "versions": rows.len(), "gone": gone,
            "commitment": commitment,
        }),
    });
    let versions = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    Ok(Outcome::Recorded(Some(Recorded { at: timestamp(recorded), versions, commitment })))
}

/// What is recorded next comes after this, in this partition.
async fn go_on(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    recorded: i64,
    (number, last_number): (i64, i64),
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE history_tenants SET last_recorded = $1, open_number = $2, last_number = $3
         WHERE tenant_id = $4",
    )
    .bind(recorded)
    .bind(number)
    .bind(last_number)
    .bind(keys.id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Opens a partition with a new key; gives it sealed.
async fn open_partition(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    number: i64,
) -> Result<Vec<u8>, StoreError> {
    let key = crate::keys::Key::new(tx.random());
    let sealed = keys.seal_data_key(number, &key, tx.random())?;
    sqlx::query(
        "INSERT INTO history_partitions
         (tenant, number, state, sealed_key, object, digest, size, versions, first_recorded,
          last_recorded, thinned_to, opened_at)
         VALUES ($1, $2, 'open', $3, NULL, NULL, 0, 0, 0, 0, $4, $5)",
    )
    .bind(keys.tenant.to_vec())
    .bind(number)
    .bind(sealed.clone())
    .bind(i64::MIN)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(sealed)
}

/// Where a batch is recorded.
struct Place {
    tenant: [u8; 16],
    number: i64,
    item: Item,
    recorded: i64,
}

/// Keeps versions, contents that are not there yet, and what is known of the files from now on.
async fn insert(
    tx: &mut Tx<'_>,
    place: &Place,
    seal: &::history::RowSeal,
    rows: &[(&Prepared, Version)],
) -> Result<(), StoreError> {
    let Place { tenant, number, item, recorded } = place;
    let mut contents: Vec<_> = rows
        .iter()
        .filter_map(|(file, version)| Some((version.state.content()?, file.packed.as_ref()?)))
        .collect();
    contents.sort_unstable();
    contents.dedup_by_key(|(content, _)| *content);
    for (contents, values) in statements(&contents, 4) {
        let text = format!(
            "INSERT INTO history_contents (tenant, number, content, sealed) VALUES {values}
             ON CONFLICT (tenant, number, content) DO NOTHING"
        );
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (content, packed) in contents {
            let sealed = seal.seal(&content_place(&content.0), packed, tx.random())?;
            query = query.bind(tenant.to_vec()).bind(*number).bind(content.0.to_vec()).bind(sealed);
        }
        query.execute(&mut *tx.connection).await?;
    }
    for (rows, values) in statements(rows, 7) {
        let text = format!(
            "INSERT INTO history_tail (tenant, ci, path_key, recorded, number, content, version)
             VALUES {values}"
        );
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (file, version) in rows {
            let at = version_place(*item, file.key, *recorded);
            let sealed = seal.seal(&at, &version.to_bytes(&file.path), tx.random())?;
            query = query
                .bind(tenant.to_vec())
                .bind(item.0.to_vec())
                .bind(file.key.0.to_vec())
                .bind(*recorded)
                .bind(*number)
                .bind(version.state.content().map(|content| content.0.to_vec()))
                .bind(sealed);
        }
        query.execute(&mut *tx.connection).await?;
    }
    for (rows, values) in statements(rows, 8) {
        let text = format!(
            "INSERT INTO history_files
             (tenant, ci, path_key, path, state, recorded, number, spans) VALUES {values}
             ON CONFLICT (tenant, ci, path_key) DO UPDATE SET
                 state = excluded.state, recorded = excluded.recorded, number = excluded.number"
        );
        let mut query = sqlx::query(AssertSqlSafe(text));
        for (file, _) in rows {
            query = query
                .bind(tenant.to_vec())
                .bind(item.0.to_vec())
                .bind(file.key.0.to_vec())
                .bind(file.sealed_path.clone())
                .bind(file.print.to_vec())
                .bind(*recorded)
                .bind(*number)
                .bind(Vec::new());
        }
        query.execute(&mut *tx.connection).await?;
    }
    Ok(())
}
