//! Recording: versions of an item's files, durable with the event that commits to them.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use ::history::{
    Attribution, Commitment, Committer, ContentDigest, ContentId, FilePath, HistoryError, Item,
    Metadata, Origin, PathKey, RowSeal, State, Version, pack,
};
use domain::cloud::{ChangeId, CiId, EventKind, TenantId};
use jiff::Timestamp;
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::actor::Actor;
use crate::database::Engine;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::several::Several;
use crate::value::{get, hex, parsed};
use crate::writer::Tx;

use super::judge::{self, Telling};
use super::keys::{TenantKeys, content_place, new_tenant_key, version_place};
use super::rows::{add_rows, bytes};
use super::{History, blocking, timestamp};

/// Most files of one batch; an item with more is told in several.
const MOST_FILES: usize = 10_000;

/// Most bytes of the contents of one batch.
const MOST_BYTES: usize = 256 << 20;

/// zstd's effort for what is in rows until it is sealed.
const TAIL_LEVEL: i32 = 1;

/// From how many files on it is asked which are as they were, before they are packed.
const WORTH_ASKING: usize = 64;

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

impl Recorded {
    pub(super) fn of(commitment: &Commitment) -> Self {
        Self {
            at: timestamp(commitment.recorded),
            versions: commitment.versions,
            commitment: hex(&commitment.hash),
        }
    }
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
            let keys = self.keys_to_record(by, ci).await?;
            let Some(files) = self.prepare(&keys, ci, &files).await? else { return Ok(None) };
            let telling = telling.clone();
            let batch = Batch { by: by.clone(), ci, keys, files, telling };
            match self.store.write_jointly(batch, |tx, all| Box::pin(record(tx, all))).await? {
                Outcome::Recorded(recorded) => return Ok(recorded),
                Outcome::OtherKeys => self.cache.forget_item(ci),
            }
        }
        Err(StoreError::Busy)
    }

    /// The keys of an item's tenant, if the actor may speak of it. They may be such as it had once: what is written
    /// with them is held against the tenant's own.
    pub(super) async fn keys_to_record(
        &self,
        by: &Actor,
        ci: CiId,
    ) -> Result<Arc<TenantKeys>, StoreError> {
        let is_its = |keys: &Arc<TenantKeys>| by.scope().is_none_or(|scope| scope == keys.id);
        if by.speaks_of(ci)
            && let Some(keys) = self.cache.item(ci).filter(is_its)
        {
            return Ok(keys);
        }
        let asked = self.asked(by, ci).await?;
        let keys = match asked.keys {
            Some(keys) => keys,
            None => self.make_tenant_key(asked.tenant).await?,
        };
        self.cache.keep_item(ci, &keys);
        Ok(keys)
    }

    async fn make_tenant_key(&self, tenant: TenantId) -> Result<Arc<TenantKeys>, StoreError> {
        self.write(self.clone(), move |tx, history| {
            Box::pin(async move { history.made_tenant_key(tx, tenant).await })
        })
        .await
    }

    /// A tenant's keys, made if it has none, and held until the end.
    pub(super) async fn made_tenant_key(
        &self,
        tx: &mut Tx<'_>,
        tenant: TenantId,
    ) -> Result<Arc<TenantKeys>, StoreError> {
        // Two that make one at once would meet in either of its unique columns.
        tx.hold("tenants", "id", &tenant.to_string()).await?;
        let sealed = new_tenant_key(tx, &self.master, tenant)?;
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
        self.cache.tenant(&self.master, tenant, &get::<Vec<u8>>(&row, "sealed_key")?)
    }

    /// Hashes and packs what is not as it was.
    async fn prepare(
        &self,
        keys: &Arc<TenantKeys>,
        ci: CiId,
        files: &Arc<Vec<NewFile>>,
    ) -> Result<Option<Vec<Prepared>>, StoreError> {
        let paths: Vec<PathKey> = files.iter().map(|file| keys.pool.path_key(&file.path)).collect();
        // A few files are packed sooner than they are asked for; the writer asks once more anyway.
        let known = if paths.len() < WORTH_ASKING {
            Known::new()
        } else {
            let files: Vec<_> = paths.iter().map(|&path| (keys.tenant, ci, path)).collect();
            known(self.store.engine, &mut *self.pool().acquire().await?, &files).await?
        };
        let (keys, files) = (Arc::clone(keys), Arc::clone(files));
        let length: usize = files.iter().map(length).sum();
        let work = move || {
            let mut prepared = Vec::with_capacity(files.len());
            for (file, key) in files.iter().zip(paths) {
                prepared.extend(prepare(&keys, file, key, known.get(&(ci, key)))?);
            }
            Ok(prepared)
        };
        // A thread of its own costs more than hashing a few files.
        let prepared = if length < 64 << 10 { work()? } else { blocking(work).await? };
        Ok(Some(prepared).filter(|prepared| !prepared.is_empty()))
    }
}

pub(super) fn length(file: &NewFile) -> usize {
    match &file.state {
        NewState::Present { content, .. } => content.len(),
        NewState::Gone => 0,
    }
}

/// Files by path, each once, and not too much of them.
pub(super) fn in_order(mut files: Vec<NewFile>) -> Result<Vec<NewFile>, StoreError> {
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
type Known = HashMap<(CiId, PathKey), Option<[u8; 16]>>;

/// Asks for them; so many statements.
fn ask_known(several: &mut Several, files: &[([u8; 16], CiId, PathKey)]) -> usize {
    let before = several.len();
    let text = |values: &str| {
        format!(
            "SELECT ci, path_key, state FROM history_files
             WHERE (tenant, ci, path_key) IN (VALUES {values})"
        )
    };
    add_rows(several, files, 3, text, |several, (tenant, ci, key)| {
        several.bind(*tenant).bind(ci.as_bytes()).bind(key.0);
    });
    several.len() - before
}

fn read_known<'r>(rows: impl Iterator<Item = &'r AnyRow>) -> Result<Known, StoreError> {
    let mut known = Known::new();
    for row in rows {
        let print: Option<Vec<u8>> = get(row, "state")?;
        let print = print.and_then(|print| print.try_into().ok());
        let ci = CiId::from_bytes(bytes(row, "ci")?);
        known.insert((ci, PathKey(bytes(row, "path_key")?)), print);
    }
    Ok(known)
}

async fn known(
    engine: Engine,
    connection: &mut AnyConnection,
    files: &[([u8; 16], CiId, PathKey)],
) -> Result<Known, StoreError> {
    let mut several = Several::default();
    ask_known(&mut several, files);
    read_known(several.run(engine, connection).await?.iter().flatten())
}

/// What a file is seen to be, recorded at no time yet, with the hash of its content.
pub(super) fn seen(keys: &TenantKeys, file: &NewFile) -> (Version, Option<ContentDigest>) {
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
    (Version { recorded: 0, state, origin }, digest)
}

/// A file as its rows will have it; `None` where it is as it was.
fn prepare(
    keys: &TenantKeys,
    file: &NewFile,
    key: PathKey,
    known: Option<&Option<[u8; 16]>>,
) -> Result<Option<Prepared>, HistoryError> {
    let (version, digest) = seen(keys, file);
    let print = print(keys, &file.path, &version.state);
    let is_known = match known {
        Some(before) => *before == Some(print),
        None => false,
    };
    if is_known {
        return Ok(None);
    }
    version.check()?;
    let packed = match &file.state {
        NewState::Present { content, .. } => Some(pack(content, TAIL_LEVEL)?),
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

/// What stands of a tenant while batches of it are recorded.
struct Standing<'b> {
    keys: &'b TenantKeys,
    last_recorded: i64,
    number: i64,
    last_number: i64,
    /// The open partition's key, where there is one.
    sealed: Option<Vec<u8>>,
    open: Option<Open>,
    /// Whether the batches' keys are the tenant's.
    is_current: bool,
}

/// The partition that is recorded into.
struct Open {
    rows: RowSeal,
    committer: Committer,
}

/// An item that something is recorded of.
pub(super) struct Of {
    name: String,
    pub(super) version: i64,
    is_retired: bool,
}

/// Records batches of several callers: statements as few as for one of them.
async fn record(
    tx: &mut Tx<'_>,
    batches: &[Batch],
) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
    let all: Vec<usize> = (0..batches.len()).collect();
    let (mut now, mut later) = one_each(batches, all);
    let (mut tenants, items, mut known) = ask(tx, batches, &now).await?;
    let mut outcomes: Vec<_> = batches.iter().map(|_| Ok(Outcome::Recorded(None))).collect();
    loop {
        now.retain(|&at| match may_record(&batches[at], &tenants, &items) {
            Ok(true) => true,
            Ok(false) => {
                outcomes[at] = Ok(Outcome::OtherKeys);
                false
            }
            Err(refused) => {
                outcomes[at] = Err(refused);
                false
            }
        });
        let mut rows = Rows::default();
        for at in now {
            let batch = &batches[at];
            let Some(standing) = tenants.get_mut(&batch.keys.id) else { continue };
            let version = items.get(&(batch.ci, batch.keys.id)).map_or(0, |item| item.version);
            let recorded = record_one(tx, &mut rows, standing, (batch, version), &known).await?;
            outcomes[at] = Ok(Outcome::Recorded(recorded));
        }
        let mut several = Several::default();
        rows.insert(&mut several);
        if later.is_empty() {
            for standing in tenants.values().filter(|standing| standing.open.is_some()) {
                go_on(&mut several, standing);
            }
        }
        several.run(tx.engine, &mut *tx.connection).await?;
        if later.is_empty() {
            return Ok(outcomes);
        }
        // An item's next batch is held against what the one before it made.
        (now, later) = one_each(batches, later);
        known = self::known(tx.engine, &mut *tx.connection, &files_of(batches, &now)).await?;
    }
}

/// The first batch of each item, and all others.
fn one_each(batches: &[Batch], left: Vec<usize>) -> (Vec<usize>, Vec<usize>) {
    let mut seen = HashSet::new();
    left.into_iter().partition(|&at| seen.insert(batches[at].ci))
}

fn files_of(batches: &[Batch], of: &[usize]) -> Vec<([u8; 16], CiId, PathKey)> {
    let files = of.iter().flat_map(|&at| {
        let batch = &batches[at];
        batch.files.iter().map(|file| (batch.keys.tenant, batch.ci, file.key))
    });
    files.collect()
}

/// How the batches' tenants stand, each held until the end; their items; and what is known of the files of some.
async fn ask<'b>(
    tx: &mut Tx<'_>,
    batches: &'b [Batch],
    now: &[usize],
) -> Result<(BTreeMap<TenantId, Standing<'b>>, Items, Known), StoreError> {
    let keys: BTreeMap<_, _> = batches.iter().map(|it| (it.keys.id, &*it.keys)).collect();
    for id in keys.keys() {
        tx.hold("history_tenants", "tenant_id", &id.to_string()).await?;
    }
    let mut several = Several::default();
    let tenants: Vec<_> = keys.keys().collect();
    let text = |values: &str| {
        format!(
            "SELECT h.tenant_id, h.sealed_key, h.last_recorded, h.open_number, h.last_number,
                    p.sealed_key AS data_key
             FROM history_tenants h
             LEFT JOIN history_partitions p ON p.tenant = h.tenant AND p.number = h.open_number
             WHERE h.tenant_id IN ({values})"
        )
    };
    add_rows(&mut several, &tenants, 1, text, |several, id| {
        several.bind(id.to_string());
    });
    let standings = several.len();
    let items = ask_items(&mut several, batches.iter().map(|batch| batch.ci).collect());
    ask_known(&mut several, &files_of(batches, now));
    let found = several.run(tx.engine, &mut *tx.connection).await?;
    let (first, rest) = found.split_at(standings);
    let (second, third) = rest.split_at(items);
    let mut tenants = BTreeMap::new();
    for row in first.iter().flatten() {
        let id = parsed(row, "tenant_id")?;
        let Some(&keys) = keys.get(&id) else { continue };
        let standing = Standing {
            keys,
            last_recorded: get(row, "last_recorded")?,
            number: get(row, "open_number")?,
            last_number: get(row, "last_number")?,
            sealed: get(row, "data_key")?,
            open: None,
            is_current: get::<Option<Vec<u8>>>(row, "sealed_key")?.as_ref() == Some(&keys.sealed),
        };
        tenants.insert(id, standing);
    }
    Ok((tenants, read_items(second.iter().flatten())?, read_known(third.iter().flatten())?))
}

/// Whether a batch may be recorded; not where it was made with other keys than the tenant has.
fn may_record(
    batch: &Batch,
    tenants: &BTreeMap<TenantId, Standing<'_>>,
    items: &HashMap<(CiId, TenantId), Of>,
) -> Result<bool, StoreError> {
    admitted(items.get(&(batch.ci, batch.keys.id)), batch.ci)?;
    let standing = tenants.get(&batch.keys.id);
    let standing =
        standing.ok_or_else(|| StoreError::not_found("configuration item", &batch.ci))?;
    Ok(standing.is_current && standing.keys.sealed == batch.keys.sealed)
}

/// Nothing is recorded of an item that is not there, or not in use any more.
pub(super) fn admitted(item: Option<&Of>, ci: CiId) -> Result<(), StoreError> {
    let item = item.ok_or_else(|| StoreError::not_found("configuration item", &ci))?;
    if item.is_retired {
        return Err(StoreError::Refused {
            reason: format!("`{}` is retired", item.name),
            help: "create a new configuration item instead",
        });
    }
    Ok(())
}

/// Items by id and tenant.
pub(super) type Items = HashMap<(CiId, TenantId), Of>;

/// Asks for items; so many statements.
fn ask_items(several: &mut Several, mut asked: Vec<CiId>) -> usize {
    asked.sort_unstable();
    asked.dedup();
    let before = several.len();
    let text = |values: &str| {
        format!("SELECT id, tenant_id, name, version, retired_at FROM cis WHERE id IN ({values})")
    };
    add_rows(several, &asked, 1, text, |several, ci| {
        several.bind(ci.to_string());
    });
    several.len() - before
}

fn read_items<'r>(rows: impl Iterator<Item = &'r AnyRow>) -> Result<Items, StoreError> {
    let mut items = Items::new();
    for row in rows {
        let item = Of {
            name: get(row, "name")?,
            version: get(row, "version")?,
            is_retired: get::<Option<i64>>(row, "retired_at")?.is_some(),
        };
        items.insert((parsed(row, "id")?, parsed(row, "tenant_id")?), item);
    }
    Ok(items)
}

/// The items that are asked for.
pub(super) async fn items(tx: &mut Tx<'_>, asked: Vec<CiId>) -> Result<Items, StoreError> {
    let mut several = Several::default();
    ask_items(&mut several, asked);
    read_items(several.run(tx.engine, &mut *tx.connection).await?.iter().flatten())
}

/// Adds a batch's rows, if it has anything new; `version` is the item's.
async fn record_one(
    tx: &mut Tx<'_>,
    rows: &mut Rows,
    standing: &mut Standing<'_>,
    (batch, version): (&Batch, i64),
    known: &Known,
) -> Result<Option<Recorded>, StoreError> {
    // Others may have come between.
    let is_new = |file: &&Prepared| match known.get(&(batch.ci, file.key)) {
        Some(before) => *before != Some(file.print),
        // What was never there is not gone.
        None => file.version.state != State::Gone,
    };
    let files: Vec<&Prepared> = batch.files.iter().filter(is_new).collect();
    if files.is_empty() {
        return Ok(None);
    }
    let recorded = standing.begin(tx).await?;
    let (commitment, gone) = rows.add(tx, standing, batch, recorded, &files)?;
    let (tenant, number) = (batch.keys.id, standing.number);
    tx.record(recorded_event(tenant, &batch.by, version, number, &commitment, gone));
    Ok(Some(Recorded::of(&commitment)))
}

/// Says that a batch of an item's files was recorded in a partition.
fn recorded_event(
    tenant: TenantId,
    by: &Actor,
    version: i64,
    number: i64,
    commitment: &Commitment,
    gone: u64,
) -> NewEvent {
    NewEvent {
        tenant,
        kind: EventKind::HistoryRecorded,
        by: by.clone(),
        object: CiId::from_bytes(commitment.item.0).to_string(),
        version,
        payload: json!({
            "recorded": commitment.recorded, "partition": number, "versions": commitment.versions,
            "gone": gone, "commitment": hex(&commitment.hash),
        }),
    }
}

impl Standing<'_> {
    /// When the next batch is recorded; opens a partition where none is.
    async fn begin(&mut self, tx: &mut Tx<'_>) -> Result<i64, StoreError> {
        if self.open.is_none() {
            let sealed = if let Some(sealed) = self.sealed.take() {
                sealed
            } else {
                self.last_number += 1;
                self.number = self.last_number;
                open_partition(tx, self.keys, self.number).await?
            };
            let key = self.keys.open_data_key(self.number, &sealed)?;
            let (rows, committer) = (key.rows(), Committer::new(&key));
            self.open = Some(Open { rows, committer });
        }
        // Rises also where several batches share a commit, or a clock steps back.
        self.last_recorded = tx.now.as_microsecond().max(self.last_recorded.saturating_add(1));
        Ok(self.last_recorded)
    }
}

/// What is recorded next comes after this, in this partition.
fn go_on(several: &mut Several, standing: &Standing<'_>) {
    several
        .add(
            "UPDATE history_tenants SET last_recorded = ?, open_number = ?, last_number = ?
             WHERE tenant_id = ?",
        )
        .bind(standing.last_recorded)
        .bind(standing.number)
        .bind(standing.last_number)
        .bind(standing.keys.id.to_string());
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

/// Rows of the tail in the making.
#[derive(Default)]
struct Rows {
    contents: BTreeMap<([u8; 16], i64, ContentId), Vec<u8>>,
    versions: Vec<TailRow>,
    files: Vec<FileRow>,
    batches: Vec<BatchRow>,
    unjudged: Vec<judge::QueuedRow>,
}

/// Where a version is recorded.
#[derive(Clone, Copy)]
struct Place {
    tenant: [u8; 16],
    number: i64,
    item: Item,
    recorded: i64,
}

struct TailRow {
    place: Place,
    key: PathKey,
    content: Option<ContentId>,
    sealed: Vec<u8>,
}

struct FileRow {
    place: Place,
    key: PathKey,
    sealed_path: Vec<u8>,
    print: [u8; 16],
}

struct BatchRow {
    place: Place,
    commitment: Commitment,
}

impl Rows {
    /// Adds a batch's files that are new; gives what its event commits to, and how many are gone.
    fn add(
        &mut self,
        tx: &Tx<'_>,
        standing: &Standing<'_>,
        batch: &Batch,
        recorded: i64,
        files: &[&Prepared],
    ) -> Result<(Commitment, u64), StoreError> {
        let lost = || StoreError::Corrupt { what: "a partition that is not open".to_owned() };
        let open = standing.open.as_ref().ok_or_else(lost)?;
        let (tenant, item) = (standing.keys.tenant, Item(batch.ci.as_bytes()));
        let place = Place { tenant, number: standing.number, item, recorded };
        let mut leaves = Vec::with_capacity(files.len());
        let mut gone = 0;
        for &file in files {
            let version = Version { recorded, ..file.version.clone() };
            leaves.push(open.committer.leaf(&file.path, &version, file.digest));
            gone += u64::from(version.state == State::Gone);
            let content = version.state.content();
            if let (Some(content), Some(packed)) = (content, &file.packed) {
                let entry = self.contents.entry((tenant, place.number, content));
                if let Entry::Vacant(entry) = entry {
                    entry.insert(open.rows.seal(
                        &content_place(&content.0),
                        packed,
                        tx.random(),
                    )?);
                }
            }
            let at = version_place(item, file.key, recorded);
            let sealed = open.rows.seal(&at, &version.to_bytes(&file.path), tx.random())?;
            self.versions.push(TailRow { place, key: file.key, content, sealed });
            let (sealed_path, print) = (file.sealed_path.clone(), file.print);
            self.files.push(FileRow { place, key: file.key, sealed_path, print });
        }
        let commitment = open.committer.batch(item, recorded, &leaves);
        self.batches.push(BatchRow { place, commitment });
        if let Some(telling) = &batch.telling {
            let queued = telling.of(files.iter().map(|file| file.path.as_str()));
            self.unjudged.push(judge::queued(tx, standing.keys, batch.ci, recorded, &queued)?);
        }
        Ok((commitment, gone))
    }

    /// Keeps versions, contents that are not there yet, and what is known of the files from now on.
    fn insert(self, several: &mut Several) {
        let contents: Vec<_> = self.contents.into_iter().collect();
        insert_contents(several, &contents);
        insert_versions(several, &self.versions);
        insert_files(several, &self.files);
        insert_batches(several, &self.batches);
        judge::queue(several, &self.unjudged);
    }
}

type ContentRow = (([u8; 16], i64, ContentId), Vec<u8>);

fn insert_contents(several: &mut Several, rows: &[ContentRow]) {
    let text = |values: &str| {
        format!(
            "INSERT INTO history_contents (tenant, number, content, sealed) VALUES {values}
             ON CONFLICT (tenant, number, content) DO NOTHING"
        )
    };
    add_rows(several, rows, 4, text, |several, ((tenant, number, content), sealed)| {
        several.bind(*tenant).bind(*number).bind(content.0).bind(sealed.as_slice());
    });
}

fn insert_versions(several: &mut Several, rows: &[TailRow]) {
    let text = |values: &str| {
        format!(
            "INSERT INTO history_tail (tenant, ci, path_key, recorded, number, content, version)
             VALUES {values}"
        )
    };
    add_rows(several, rows, 7, text, |several, TailRow { place, key, content, sealed }| {
        several.bind(place.tenant).bind(place.item.0).bind(key.0).bind(place.recorded);
        several.bind(place.number).bind(content.map(|content| content.0.to_vec()));
        several.bind(sealed.as_slice());
    });
}

fn insert_files(several: &mut Several, rows: &[FileRow]) {
    let text = |values: &str| {
        format!(
            "INSERT INTO history_files
             (tenant, ci, path_key, path, state, recorded, number, spans) VALUES {values}
             ON CONFLICT (tenant, ci, path_key) DO UPDATE SET
                 state = excluded.state, recorded = excluded.recorded, number = excluded.number"
        )
    };
    add_rows(several, rows, 8, text, |several, FileRow { place, key, sealed_path, print }| {
        several.bind(place.tenant).bind(place.item.0).bind(key.0).bind(sealed_path.as_slice());
        several.bind(*print).bind(place.recorded).bind(place.number).bind([0_u8; 0]);
    });
}

fn insert_batches(several: &mut Several, rows: &[BatchRow]) {
    let text = |values: &str| {
        format!(
            "INSERT INTO history_batches (tenant, number, ci, recorded, versions, hash)
             VALUES {values}"
        )
    };
    add_rows(several, rows, 6, text, |several, BatchRow { place, commitment }| {
        several.bind(place.tenant).bind(place.number).bind(place.item.0).bind(place.recorded);
        several.bind(i64::from(commitment.versions)).bind(commitment.hash);
    });
}
