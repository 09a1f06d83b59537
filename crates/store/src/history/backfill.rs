//! Backfill: what was recorded elsewhere before, many batches at once, sealed without a way through the tail.
//!
//! ```text
//! seal what is in rows ─► reserve a number, instants, a name ─► build the object, put it, read it again, whole
//!                                                               ─► one commit: partition, files, an event for each item
//! ```
//! Each batch becomes what [`History::record`] would have made of it, but that one event stands for all of an item. Whatever is broken off leaves at most an object
//! that nobody names as a partition's, and instants at which nothing was recorded.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use ::history::{
    Anchor, Commitment, ContentDigest, Contents, DataKey, FilePath, HistoryError, Item, Lean,
    Object, PathKey, Sealed, State, Unsealed, Version,
};
use domain::cloud::{CiId, EventKind, TenantId};
use serde_json::json;

use crate::actor::Actor;
use crate::environment::random;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::keys::Key;
use crate::several::Several;
use crate::value::{get, hex};
use crate::writer::Tx;

use super::keys::TenantKeys;
use super::record::{NewFile, NewState, Recorded, admitted, in_order, items, length, print, seen};
use super::rows::{File, Span, add_rows, partitions};
use super::seal::{Leaning, keep_leans, make_live, name_object, next_epoch, put, sealed_event};
use super::{History, LEVEL, blocking};

/// Most batches of one backfill; a longer history is told in several.
const MOST_BATCHES: usize = 200_000;

/// Most bytes of the contents of one backfill.
const MOST_BYTES: usize = 512 << 20;

/// What files of an item were at some moment.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Of which item.
    pub ci: CiId,
    /// The files that became others.
    pub files: Vec<NewFile>,
}

/// What is reserved for a partition to come.
struct Reserved {
    number: i64,
    /// Of its object.
    name: String,
    key: DataKey,
    sealed_key: Vec<u8>,
    /// When its first batch is recorded; each is a microsecond after the one before it.
    begin: i64,
}

/// What there is of the items' files, with the keyed hash of what each is now.
type Known = HashMap<(Item, PathKey), (File, Option<[u8; 16]>)>;

/// A file on its way into the partition.
struct Filling {
    item: Item,
    key: PathKey,
    path: FilePath,
    /// Keyed hash of what it is by the last of its versions.
    print: [u8; 16],
    versions: Vec<Version>,
    /// For each version its batch, its place there, and the hash of its content.
    from: Vec<(usize, usize, Option<ContentDigest>)>,
}

/// What is to be known of a file from then on.
struct KnownAs {
    key: PathKey,
    print: [u8; 16],
    recorded: i64,
}

/// All that becomes of a backfill in one commit.
struct Commit {
    by: Actor,
    keys: Arc<TenantKeys>,
    batches: Arc<Vec<NewBatch>>,
    known: Known,
    epoch: i64,
    kept_from: i64,
    reserved: Reserved,
    sealed: Sealed,
    /// As `sealed` has them.
    files: Vec<KnownAs>,
    /// How often a file went, by item.
    gone: HashMap<Item, u64>,
}

impl History {
    /// Records batches that were told elsewhere before, in the order in which they came about, all of them or none.
    /// Each says what [`History::record`] would say of it. None of them is judged.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where items are of several tenants or one is retired, and where it is too much at once;
    /// [`StoreError::Busy`] where somebody else works on the tenant's objects, or records of the same items.
    pub async fn backfill(
        &self,
        by: &Actor,
        batches: Vec<NewBatch>,
        holder: &str,
    ) -> Result<Vec<Option<Recorded>>, StoreError> {
        let ordered = |it: NewBatch| Ok(NewBatch { files: in_order(it.files)?, ..it });
        let batches = batches.into_iter().map(ordered).collect::<Result<Vec<_>, StoreError>>()?;
        let bytes: usize = batches.iter().flat_map(|it| &it.files).map(length).sum();
        if batches.len() > MOST_BATCHES || bytes > MOST_BYTES {
            return Err(StoreError::Refused {
                reason: format!("{} batches of {bytes} bytes", batches.len()),
                help: "tell at most 200,000 batches of 512 MiB at once",
            });
        }
        let Some(first) = batches.first() else { return Ok(Vec::new()) };
        let keys = self.keys_to_record(by, first.ci).await?;
        for ci in of(&batches) {
            if self.keys_to_record(by, ci).await?.id != keys.id {
                return Err(StoreError::Refused {
                    reason: "the items are not one tenant's".to_owned(),
                    help: "tell each tenant's history by itself",
                });
            }
        }
        let batches = Arc::new(batches);
        for _ in 0..3 {
            let Some(epoch) = self.begin(keys.id, holder, true).await? else { break };
            let outcome = self.backfill_held(by, &keys, &batches, epoch).await;
            self.end(keys.id, holder).await?;
            if !matches!(outcome, Err(StoreError::Busy)) {
                return outcome;
            }
            // Perhaps the keys are others now.
            self.cache.forget_item(batches[0].ci);
        }
        Err(StoreError::Busy)
    }

    async fn backfill_held(
        &self,
        by: &Actor,
        keys: &Arc<TenantKeys>,
        batches: &Arc<Vec<NewBatch>>,
        mut epoch: i64,
    ) -> Result<Vec<Option<Recorded>>, StoreError> {
        epoch += i64::try_from(self.seal_closed(keys, epoch).await?.len()).unwrap_or(0);
        let known = self.known_of(keys, batches).await?;
        let reserved = self.reserve(keys, batches.len()).await?;
        let rows = partitions(self.pool(), keys.tenant).await?;
        let leaning = Leaning::new(Arc::clone(&self.objects), self.readable(keys, &rows)?);
        let salt = random(&*self.store.environment);
        let kept_from = self.kept_from(keys).await?;
        let (by, keys, batches) = (by.clone(), Arc::clone(keys), Arc::clone(batches));
        let (count, objects) = (batches.len(), Arc::clone(&self.objects));
        let commit = blocking(move || {
            let (files, gone) = fill(&keys, &batches, &known, reserved.begin)?;
            if files.is_empty() {
                return Ok(None);
            }
            let sealed = build(&files, &batches, &known, &reserved, &salt, &leaning)?;
            put(&objects, &reserved.name, &sealed.object.bytes)?;
            let partition = leaning.open(&reserved.name, &reserved.key)?;
            partition.verify(&reserved.key, &keys.pool, &|lean| leaning.content(lean))?;
            let known_as = |file: Filling| KnownAs {
                key: file.key,
                print: file.print,
                recorded: file.versions.last().map_or(i64::MIN, |version| version.recorded),
            };
            let files = files.into_iter().map(known_as).collect();
            let commit = Commit {
                by,
                keys,
                batches,
                known,
                epoch,
                kept_from,
                reserved,
                sealed,
                files,
                gone,
            };
            Ok(Some(commit))
        })
        .await?;
        let mut outcomes = vec![None; count];
        if let Some(commit) = commit {
            for (at, recorded) in self.write(commit, |tx, it| Box::pin(keep(tx, it))).await? {
                outcomes[at] = Some(recorded);
            }
        }
        Ok(outcomes)
    }

    async fn known_of(&self, keys: &TenantKeys, batches: &[NewBatch]) -> Result<Known, StoreError> {
        let mut known = Known::new();
        for ci in of(batches) {
            let rows = sqlx::query(
                "SELECT ci, path_key, path, state, recorded, number, spans, anchor_number, anchor_frame
                 FROM history_files WHERE tenant = $1 AND ci = $2",
            )
            .bind(keys.tenant.to_vec())
            .bind(ci.as_bytes().to_vec())
            .fetch_all(self.pool())
            .await?;
            for row in &rows {
                let file = File::read(row)?;
                let print: Option<Vec<u8>> = get(row, "state")?;
                let print = print.and_then(|print| print.try_into().ok());
                known.insert((Item(file.ci), file.key), (file, print));
            }
        }
        Ok(known)
    }

    /// A number, a name and a key for a partition to come, and when its first batch is recorded.
    async fn reserve(
        &self,
        keys: &Arc<TenantKeys>,
        batches: usize,
    ) -> Result<Reserved, StoreError> {
        let batches = i64::try_from(batches).unwrap_or(i64::MAX);
        self.write(Arc::clone(keys), move |tx, keys| Box::pin(reserve(tx, keys, batches))).await
    }
}

/// The items of batches, each once.
fn of(batches: &[NewBatch]) -> HashSet<CiId> {
    batches.iter().map(|batch| batch.ci).collect()
}

async fn reserve(
    tx: &mut Tx<'_>,
    keys: &Arc<TenantKeys>,
    batches: i64,
) -> Result<Reserved, StoreError> {
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    let row = sqlx::query(
        "SELECT sealed_key, last_recorded, last_number FROM history_tenants WHERE tenant_id = $1",
    )
    .bind(keys.id.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or(StoreError::Busy)?;
    if get::<Option<Vec<u8>>>(&row, "sealed_key")?.as_ref() != Some(&keys.sealed) {
        return Err(StoreError::Busy);
    }
    let last: i64 = get(&row, "last_recorded")?;
    let begin = tx.now.as_microsecond().max(last.saturating_add(1));
    let number = get::<i64>(&row, "last_number")? + 1;
    sqlx::query(
        "UPDATE history_tenants SET last_recorded = $1, last_number = $2 WHERE tenant_id = $3",
    )
    .bind(begin.saturating_add(batches))
    .bind(number)
    .bind(keys.id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let key = Key::new(tx.random());
    let sealed_key = keys.seal_data_key(number, &key, tx.random())?;
    let name = name_object(tx, keys, number).await?;
    Ok(Reserved { number, name, key: keys.open_data_key(number, &sealed_key)?, sealed_key, begin })
}

/// The versions of each file that are others than before, and how often one went by item.
fn fill(
    keys: &TenantKeys,
    batches: &[NewBatch],
    known: &Known,
    begin: i64,
) -> Result<(Vec<Filling>, HashMap<Item, u64>), HistoryError> {
    let mut places: HashMap<(Item, PathKey), usize> = HashMap::new();
    let mut files: Vec<Filling> = Vec::new();
    let mut gone: HashMap<Item, u64> = HashMap::new();
    for (number, batch) in batches.iter().enumerate() {
        let item = Item(batch.ci.as_bytes());
        let recorded = begin + i64::try_from(number).unwrap_or(i64::MAX);
        for (at, file) in batch.files.iter().enumerate() {
            let key = keys.pool.path_key(&file.path);
            let (version, digest) = seen(keys, file);
            let now = print(keys, &file.path, &version.state);
            let place = places.get(&(item, key)).copied();
            let before = match place {
                Some(place) => Some(Some(files[place].print)),
                None => known.get(&(item, key)).map(|(_, print)| *print),
            };
            let is_new = match before {
                Some(before) => before != Some(now),
                // What was never there is not gone.
                None => version.state != State::Gone,
            };
            if !is_new {
                continue;
            }
            let version = Version { recorded, ..version };
            version.check()?;
            if version.state == State::Gone {
                *gone.entry(item).or_default() += 1;
            }
            let place = place.unwrap_or_else(|| {
                let (path, versions) = (file.path.clone(), Vec::new());
                files.push(Filling { item, key, path, print: now, versions, from: Vec::new() });
                places.insert((item, key), files.len() - 1);
                files.len() - 1
            });
            files[place].print = now;
            files[place].versions.push(version);
            files[place].from.push((number, at, digest));
        }
    }
    files.sort_unstable_by(|a, b| (a.item, &a.path).cmp(&(b.item, &b.path)));
    Ok((files, gone))
}

/// What the batches hold.
struct OfBatches<'a> {
    files: &'a [Filling],
    batches: &'a [NewBatch],
    leaning: &'a Leaning,
}

impl Contents for OfBatches<'_> {
    fn content(
        &self,
        file: usize,
        version: usize,
    ) -> Result<(Arc<[u8]>, ContentDigest), HistoryError> {
        let file = &self.files[file];
        let (batch, at, digest) = file.from[version];
        match (&self.batches[batch].files[at].state, digest) {
            (NewState::Present { content, .. }, Some(digest)) => {
                Ok((content.as_slice().into(), digest))
            }
            _ => Err(HistoryError::Unlike { what: format!("the content of `{}`", file.path) }),
        }
    }

    fn anchor(&self, lean: Lean) -> Result<Option<Anchor>, HistoryError> {
        self.leaning.anchor(lean)
    }
}

fn build(
    files: &[Filling],
    batches: &[NewBatch],
    known: &Known,
    reserved: &Reserved,
    salt: &[u8; 32],
    leaning: &Leaning,
) -> Result<Sealed, HistoryError> {
    let unsealed = files.iter().map(|file| Unsealed {
        item: file.item,
        path: file.path.clone(),
        versions: file.versions.clone(),
        anchor: known.get(&(file.item, file.key)).and_then(|(known, _)| known.anchor),
    });
    let contents = OfBatches { files, batches, leaning };
    let number = reserved.number.unsigned_abs();
    ::history::seal(number, &reserved.key, salt, LEVEL, unsealed.collect(), &contents)
}

/// Makes the object the tenant's, and says what was recorded, by batch.
async fn keep(tx: &mut Tx<'_>, commit: &Commit) -> Result<Vec<(usize, Recorded)>, StoreError> {
    let Commit { by, keys, batches, epoch, reserved, sealed, gone, .. } = commit;
    tx.hold("history_tenants", "tenant_id", &keys.id.to_string()).await?;
    next_epoch(tx, keys.id, *epoch).await?;
    let asked = of(batches);
    let items = items(tx, asked.iter().copied().collect()).await?;
    for ci in asked {
        admitted(items.get(&(ci, keys.id)), ci)?;
        nothing_since(tx, keys, ci).await?;
    }
    keep_partition(tx, keys, reserved, &sealed.object).await?;
    keep_files(tx, commit).await?;
    // By item and time.
    for commitments in sealed.commitments.chunk_by(|a, b| a.item == b.item) {
        let ci = CiId::from_bytes(commitments[0].item.0);
        let version = items.get(&(ci, keys.id)).map_or(0, |item| item.version);
        let gone = gone.get(&commitments[0].item).copied().unwrap_or(0);
        tx.record(backfilled_event(keys.id, by, version, reserved.number, commitments, gone));
    }
    tx.record(sealed_event(keys.id, reserved.number, sealed));
    let outcome = |it: &Commitment| {
        let at = usize::try_from(it.recorded - reserved.begin).unwrap_or(usize::MAX);
        (at, Recorded::of(it))
    };
    Ok(sealed.commitments.iter().map(outcome).collect())
}

/// Says that batches of an item's files were taken in with a partition: one event stands for all of them, as the
/// object has the commitment of each in clear.
fn backfilled_event(
    tenant: TenantId,
    by: &Actor,
    version: i64,
    number: i64,
    commitments: &[Commitment],
    gone: u64,
) -> NewEvent {
    let versions: u64 = commitments.iter().map(|it| u64::from(it.versions)).sum();
    NewEvent {
        tenant,
        kind: EventKind::HistoryBackfilled,
        by: by.clone(),
        object: CiId::from_bytes(commitments[0].item.0).to_string(),
        version,
        payload: json!({
            "partition": number, "batches": commitments.len(), "versions": versions, "gone": gone,
            "first": commitments.first().map(|it| it.recorded),
            "last": commitments.last().map(|it| it.recorded),
            "commitment": hex(&Commitment::digest_of(commitments)),
        }),
    }
}

/// Whoever recorded of an item meanwhile recorded what came after all that is told here.
async fn nothing_since(tx: &mut Tx<'_>, keys: &TenantKeys, ci: CiId) -> Result<(), StoreError> {
    let row =
        sqlx::query("SELECT 1 AS one FROM history_tail WHERE tenant = $1 AND ci = $2 LIMIT 1")
            .bind(keys.tenant.to_vec())
            .bind(ci.as_bytes().to_vec())
            .fetch_optional(&mut *tx.connection)
            .await?;
    if row.is_some() { Err(StoreError::Busy) } else { Ok(()) }
}

async fn keep_partition(
    tx: &mut Tx<'_>,
    keys: &TenantKeys,
    reserved: &Reserved,
    object: &Object,
) -> Result<(), StoreError> {
    let Reserved { number, name, sealed_key, .. } = reserved;
    make_live(tx, name).await?;
    sqlx::query(
        "INSERT INTO history_partitions
         (tenant, number, state, sealed_key, object, digest, size, versions, first_recorded,
          last_recorded, thinned_to, opened_at)
         VALUES ($1, $2, 'sealed', $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(keys.tenant.to_vec())
    .bind(*number)
    .bind(sealed_key.as_slice())
    .bind(name.as_str())
    .bind(object.digest.to_vec())
    .bind(i64::try_from(object.bytes.len()).unwrap_or(i64::MAX))
    .bind(object.versions.cast_signed())
    .bind(object.first)
    .bind(object.last)
    .bind(i64::MIN)
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    keep_leans(tx, keys.tenant, *number, &object.leans).await
}

async fn keep_files(tx: &mut Tx<'_>, commit: &Commit) -> Result<(), StoreError> {
    let Commit { keys, known, kept_from, reserved, sealed, .. } = commit;
    let number = reserved.number;
    let mut files = Vec::with_capacity(sealed.files.len());
    for (file, known_as) in sealed.files.iter().zip(&commit.files) {
        let known = known.get(&(file.item, known_as.key)).map(|(known, _)| known);
        let mut spans = known.map(|known| known.spans.clone()).unwrap_or_default();
        spans.push(Span { number, first: file.first }, *kept_from);
        let own = file.anchor.map(|frame| Lean { partition: number.unsigned_abs(), frame });
        let anchor = own.or(known.and_then(|known| known.anchor));
        let path = keys.pool.seal_path(known_as.key, &file.path)?;
        files.push((file.item, known_as, path, spans, anchor));
    }
    let text = |values: &str| {
        format!(
            "INSERT INTO history_files
             (tenant, ci, path_key, path, state, recorded, number, spans, anchor_number, anchor_frame)
             VALUES {values}
             ON CONFLICT (tenant, ci, path_key) DO UPDATE SET
                 state = excluded.state, recorded = excluded.recorded, number = excluded.number,
                 spans = excluded.spans, anchor_number = excluded.anchor_number,
                 anchor_frame = excluded.anchor_frame"
        )
    };
    let mut several = Several::default();
    add_rows(&mut several, &files, 10, text, |several, (item, file, path, spans, anchor)| {
        several.bind(keys.tenant).bind(item.0).bind(file.key.0).bind(path.as_slice());
        several.bind(file.print).bind(file.recorded).bind(number);
        several.bind(spans.to_bytes().as_slice());
        several.bind(anchor.map(|anchor| anchor.partition.cast_signed()));
        several.bind(anchor.map(|anchor| anchor.frame.cast_signed()));
    });
    several.run(tx.engine, &mut *tx.connection).await?;
    Ok(())
}
