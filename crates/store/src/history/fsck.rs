//! Looks at everything: objects bit by bit, rows, and both against what was recorded in events.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ::history::{
    Commitment, Committer, HistoryError, Item, PathKey, Verified, Version, roll, unpack,
};
use domain::cloud::{CiId, EventKind, TenantId};
use serde::Deserialize;

use crate::actor::Actor;
use crate::error::StoreError;
use crate::value::{get, hex, parsed};

use super::keys::{TenantKeys, content_place, version_place};
use super::rows::{File, PartitionState, Row, Spans, bytes, partitions};
use super::seal::Leaning;
use super::{History, blocking};

/// What a check of a tenant's whole history came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fsck {
    /// Partitions, sealed or not, that were read whole.
    pub partitions: u64,
    /// Partitions without keys, of which hash and commitments were compared.
    pub erased: u64,
    /// Versions.
    pub versions: u64,
    /// Contents, each of them decoded and hashed.
    pub contents: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Recorded batches whose commitments follow from what there is.
    pub batches: u64,
    /// What is not as it should be, in words.
    pub damages: Vec<String>,
}

/// What an event says of a batch, or of all that was taken in of an item at once.
#[derive(Deserialize)]
struct Told {
    recorded: Option<i64>,
    partition: i64,
    commitment: String,
}

/// What events say was recorded.
#[derive(Default)]
struct Recorded {
    /// Commitments with their partitions, by item and time.
    batches: BTreeMap<(Item, i64), (i64, String)>,
    /// What stands for all commitments of an item, by partition.
    backfills: BTreeMap<(i64, Item), String>,
}

/// In which partitions each file was found, with its first version there.
type Seen = HashMap<(Item, PathKey), Vec<(i64, i64)>>;

impl History {
    /// Checks all of a tenant's history. An altered bit is told as damage, whatever it was of; only a
    /// database or an object store that does not answer is an error.
    pub async fn fsck(&self, by: &Actor, tenant: TenantId) -> Result<Fsck, StoreError> {
        let keys = self.keys_of(by, tenant).await?;
        let mut fsck = Fsck::default();
        let mut recorded = self.recorded(tenant).await?;
        let rows = partitions(self.pool(), tenant.as_bytes()).await?;
        let mut seen = Seen::new();
        for row in &rows {
            let checked = match (&keys, row.state) {
                (_, PartitionState::Dropped) => continue,
                (Some(keys), PartitionState::Sealed) => {
                    self.check_sealed(keys, row, &rows, &mut fsck, &mut seen).await
                }
                (Some(keys), PartitionState::Open | PartitionState::Closed) => {
                    self.check_tail(keys, row, &mut fsck).await
                }
                _ => self.check_erased(row, &mut fsck).await,
            };
            match checked {
                Ok(commitments) => compare(row, &commitments, &mut recorded, &mut fsck),
                Err(StoreError::Content(error)) => fsck.damage(row, &*error),
                Err(error @ StoreError::Corrupt { .. }) => fsck.damage(row, &error),
                Err(error) => return Err(error),
            }
        }
        let has_commitments = |number| {
            rows.iter().any(|row: &Row| {
                let is_gone = row.state == PartitionState::Erased && row.object.is_none();
                row.number == number && row.state != PartitionState::Dropped && !is_gone
            })
        };
        for ((item, at), (number, _)) in recorded.batches {
            if has_commitments(number) {
                let what = format!("what was recorded of {} at {at}", CiId::from_bytes(item.0));
                fsck.damages.push(format!("partition {number}: {what} is gone"));
            }
        }
        for ((number, item), _) in recorded.backfills {
            if has_commitments(number) {
                let what = format!("what was taken in of {}", CiId::from_bytes(item.0));
                fsck.damages.push(format!("partition {number}: {what} is gone"));
            }
        }
        if let Some(keys) = &keys {
            self.check_files(keys, &rows, seen, &mut fsck).await?;
        }
        Ok(fsck)
    }

    /// What events say was recorded.
    async fn recorded(&self, tenant: TenantId) -> Result<Recorded, StoreError> {
        const PAGE: i64 = 1000;
        let mut recorded = Recorded::default();
        let mut after = String::new();
        loop {
            let rows = sqlx::query(
                "SELECT id, object, payload FROM events
                 WHERE id > $1 AND tenant_id = $2 AND kind IN ($3, $4) ORDER BY id LIMIT $5",
            )
            .bind(after.as_str())
            .bind(tenant.to_string())
            .bind(EventKind::HistoryRecorded.as_str())
            .bind(EventKind::HistoryBackfilled.as_str())
            .bind(PAGE)
            .fetch_all(self.pool())
            .await?;
            let Some(last) = rows.last() else { return Ok(recorded) };
            after = get(last, "id")?;
            for row in &rows {
                let ci: CiId = parsed(row, "object")?;
                let payload: Vec<u8> = get(row, "payload")?;
                let told: Told = serde_json::from_slice(&payload).map_err(|error| {
                    StoreError::Corrupt { what: format!("payload of an event of {ci}: {error}") }
                })?;
                let Told { recorded: at, partition, commitment } = told;
                let item = Item(ci.as_bytes());
                match at {
                    Some(at) => {
                        recorded.batches.insert((item, at), (partition, commitment));
                    }
                    None => {
                        recorded.backfills.insert((partition, item), commitment);
                    }
                }
            }
        }
    }

    async fn check_sealed(
        &self,
        keys: &Arc<TenantKeys>,
        row: &Row,
        rows: &[Row],
        fsck: &mut Fsck,
        seen: &mut Seen,
    ) -> Result<Vec<Commitment>, StoreError> {
        let readable = self.readable(keys, rows)?;
        let (objects, pool) = (Arc::clone(&self.objects), keys.pool.clone());
        let (number, digest) = (row.number, row.digest.clone());
        let checked = blocking(move || {
            let lost = || HistoryError::NoFrame { number: number.unsigned_abs() };
            let (name, key) = readable.get(&number.unsigned_abs()).cloned().ok_or_else(lost)?;
            let (_, found) = roll(&*objects, &name)?;
            if digest.as_deref() != Some(&found) {
                return Err(HistoryError::Unlike { what: format!("the object `{name}`") });
            }
            let leaning = Leaning::new(Arc::clone(&objects), readable);
            let partition = leaning.open(&name, &key)?;
            let verified = partition.verify(&key, &pool, &|lean| leaning.content(lean))?;
            let mut files: HashMap<(Item, PathKey), i64> = HashMap::new();
            partition.each_version(&mut |item, path, found| {
                files.entry((item, pool.path_key(path))).or_insert(found.version.recorded);
                Ok(())
            })?;
            Ok((verified, partition.commitments()?, files))
        });
        let (verified, commitments, files) = checked.await?;
        for (file, first) in files {
            seen.entry(file).or_default().push((number, first));
        }
        fsck.add(verified);
        Ok(commitments)
    }

    /// Without a key: whether the object is the one that was sealed, and what it commits to.
    async fn check_erased(
        &self,
        row: &Row,
        fsck: &mut Fsck,
    ) -> Result<Vec<Commitment>, StoreError> {
        let (Some(name), digest) = (row.object.clone(), row.digest.clone()) else {
            return Ok(Vec::new());
        };
        let objects = Arc::clone(&self.objects);
        let commitments = blocking(move || {
            let (commitments, found) = roll(&*objects, &name)?;
            if digest.as_deref() == Some(&found) {
                Ok(commitments)
            } else {
                Err(HistoryError::Unlike { what: format!("the object `{name}`") })
            }
        })
        .await?;
        fsck.erased += 1;
        Ok(commitments)
    }

    /// Rows of a partition that is not sealed: each opens, and the commitments follow from them.
    async fn check_tail(
        &self,
        keys: &Arc<TenantKeys>,
        row: &Row,
        fsck: &mut Fsck,
    ) -> Result<Vec<Commitment>, StoreError> {
        let corrupt = |what: String| StoreError::Corrupt { what };
        let sealed_key = row.sealed_key.as_deref();
        let sealed_key = sealed_key.ok_or_else(|| corrupt("a partition without a key".into()))?;
        let key = keys.open_data_key(row.number, sealed_key)?;
        let (seal, committer) = (key.rows(), Committer::new(&key));
        let rows = sqlx::query(
            "SELECT t.ci, t.path_key, t.recorded, t.version, s.sealed, f.state, f.recorded AS newest
             FROM history_tail t
             LEFT JOIN history_contents s
                 ON s.tenant = t.tenant AND s.number = t.number AND s.content = t.content
             LEFT JOIN history_files f
                 ON f.tenant = t.tenant AND f.ci = t.ci AND f.path_key = t.path_key
             WHERE t.tenant = $1 AND t.number = $2",
        )
        .bind(keys.tenant.to_vec())
        .bind(row.number)
        .fetch_all(self.pool())
        .await?;
        let mut verified = Verified::default();
        let mut leaves: BTreeMap<(Item, i64), BTreeMap<String, _>> = BTreeMap::new();
        for row in &rows {
            let (item, path) = (Item(bytes(row, "ci")?), PathKey(bytes(row, "path_key")?));
            let recorded: i64 = get(row, "recorded")?;
            let opened =
                seal.open(&version_place(item, path, recorded), &get::<Vec<u8>>(row, "version")?)?;
            let (path, version) = Version::from_bytes(&opened)?;
            let mut digest = None;
            if let Some(id) = version.state.content() {
                let sealed: Option<Vec<u8>> = get(row, "sealed")?;
                let sealed = sealed.ok_or_else(|| corrupt(format!("`{path}` has no content")))?;
                let content = unpack(&seal.open(&content_place(&id.0), &sealed)?)?;
                let found = keys.pool.digest(&content);
                if ::history::ContentId::from(found) != id {
                    return Err(corrupt(format!("the content of `{path}`")));
                }
                digest = Some(found);
                verified.contents += 1;
                verified.bytes += content.len() as u64;
            }
            verified.versions += 1;
            if get::<Option<i64>>(row, "newest")? == Some(recorded)
                && get::<Option<Vec<u8>>>(row, "state")?
                    != Some(super::record::print(keys, &path, &version.state).to_vec())
            {
                return Err(corrupt(format!("what is known of `{path}`")));
            }
            let leaf = committer.leaf(&path, &version, digest);
            let batch = leaves.entry((item, recorded)).or_default();
            batch.insert(path.as_str().to_owned(), leaf);
        }
        let made: Vec<_> = leaves
            .into_iter()
            .map(|((item, at), leaves)| {
                committer.batch(item, at, &leaves.into_values().collect::<Vec<_>>())
            })
            .collect();
        if made != self.batches(keys, row.number).await? {
            return Err(corrupt("commitments of what is not sealed yet".into()));
        }
        verified.batches = made.len() as u64;
        fsck.add(verified);
        Ok(made)
    }

    /// Each file is found where it is, and nowhere else.
    async fn check_files(
        &self,
        keys: &Arc<TenantKeys>,
        rows: &[Row],
        mut seen: Seen,
        fsck: &mut Fsck,
    ) -> Result<(), StoreError> {
        let states: HashMap<i64, &Row> = rows.iter().map(|row| (row.number, row)).collect();
        let row = sqlx::query("SELECT kept_from FROM history_tenants WHERE tenant_id = $1")
            .bind(keys.id.to_string())
            .fetch_one(self.pool())
            .await?;
        let kept_from: i64 = get(&row, "kept_from")?;
        let files = sqlx::query(
            "SELECT ci, path_key, path, recorded, number, spans, anchor_number, anchor_frame
             FROM history_files WHERE tenant = $1",
        )
        .bind(keys.tenant.to_vec())
        .fetch_all(self.pool())
        .await?;
        for row in &files {
            let file = match File::read(row) {
                Ok(file) => file,
                Err(error) => {
                    fsck.damages.push(error.to_string());
                    continue;
                }
            };
            let ci = CiId::from_bytes(file.ci);
            let Ok(path) = keys.pool.open_path(file.key, &file.sealed_path) else {
                fsck.damages.push(format!("the name of a file of {ci}"));
                continue;
            };
            let found = seen.remove(&(Item(file.ci), file.key)).unwrap_or_default();
            if !is_found(&file.spans, &found, &states, kept_from) {
                fsck.damages.push(format!("where `{path}` of {ci} is to be found"));
            }
        }
        if !seen.is_empty() {
            fsck.damages.push(format!("{} files are found by nobody", seen.len()));
        }
        Ok(())
    }
}

/// Whether spans lead to exactly the partitions in which a file was found, but those that retention or erasure
/// took, or that nobody may ask for any more.
fn is_found(
    spans: &Spans,
    found: &[(i64, i64)],
    rows: &HashMap<i64, &Row>,
    kept_from: i64,
) -> bool {
    let leads = spans.0.iter().all(|span| {
        rows.get(&span.number).is_some_and(|row| match row.state {
            PartitionState::Sealed => {
                let here = found.iter().find(|(number, _)| *number == span.number);
                let is_thinned = row.thinned_to > i64::MIN;
                here.map_or(is_thinned, |(_, first)| *first == span.first || is_thinned)
            }
            PartitionState::Erased | PartitionState::Dropped => true,
            PartitionState::Open | PartitionState::Closed => false,
        })
    });
    let is_ordered = spans.0.is_sorted_by(|a, b| a.number < b.number && a.first < b.first);
    let is_led_to = found.iter().all(|(number, _)| {
        spans.0.iter().any(|span| span.number == *number)
            || spans.0.first().is_some_and(|it| it.number > *number && it.first <= kept_from)
    });
    leads && is_ordered && is_led_to
}

/// Holds commitments, by item and time, against events.
fn compare(row: &Row, commitments: &[Commitment], recorded: &mut Recorded, fsck: &mut Fsck) {
    for of_item in commitments.chunk_by(|a, b| a.item == b.item) {
        let (item, ci) = (of_item[0].item, CiId::from_bytes(of_item[0].item.0));
        if let Some(told) = recorded.backfills.remove(&(row.number, item)) {
            if told != hex(&Commitment::digest_of(of_item)) {
                let what = format!("what was taken in of {ci} is not what its event says");
                fsck.damages.push(format!("partition {}: {what}", row.number));
            }
            continue;
        }
        for commitment in of_item {
            let told = recorded.batches.remove(&(item, commitment.recorded));
            if told != Some((row.number, hex(&commitment.hash))) {
                let what = format!("what was recorded of {ci} at {}", commitment.recorded);
                fsck.damages
                    .push(format!("partition {}: {what} is not what its event says", row.number));
            }
        }
    }
}

impl Fsck {
    fn add(&mut self, verified: Verified) {
        self.partitions += 1;
        self.versions += verified.versions;
        self.contents += verified.contents;
        self.bytes += verified.bytes;
        self.batches += verified.batches;
    }

    fn damage(&mut self, row: &Row, error: &dyn std::error::Error) {
        self.damages.push(format!("partition {}: {error}", row.number));
    }
}
