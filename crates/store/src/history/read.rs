//! What was: one file, all of its versions, all files of an item, what differs between two times.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ::history::{FilePath, Found, Item, Leaning, State, Version, unpack};
use domain::cloud::{ChangeId, CiId, TenantId};
use domain::configuration::document::original_of;
use jiff::Timestamp;
use sqlx::any::AnyRow;

use crate::actor::Actor;
use crate::error::StoreError;
use crate::page::range;
use crate::value::{get, parsed};

use super::keys::{TenantKeys, content_place, version_place};
use super::rows::{File, PartitionState, Spans, bytes, partition};
use super::{Asked, History, blocking, reading, timestamp};

/// What the past can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Past<T> {
    /// This was recorded.
    Kept(T),
    /// Something was recorded, and its key was destroyed since.
    Erased,
    /// Retention took what was before that.
    Forgotten {
        /// From when on it is kept.
        kept_from: Timestamp,
    },
}

/// A version of a file, with its content where it was asked for and there is one.
#[derive(Clone, PartialEq, Eq)]
pub struct FileVersion {
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// When it was seen.
    pub observed_at: Timestamp,
    /// What the file was from then on.
    pub state: State,
    /// Who says so.
    pub source: String,
    /// Who altered it, where that is known.
    pub by: Option<::history::Attribution>,
    /// The change that it belongs to, where there is one.
    pub change: Option<ChangeId>,
    /// What it held.
    pub content: Option<Vec<u8>>,
}

/// Without the content.
impl std::fmt::Debug for FileVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileVersion")
            .field("recorded_at", &self.recorded_at)
            .field("state", &self.state)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl FileVersion {
    pub(super) fn new(version: Version, content: Option<Vec<u8>>) -> Self {
        let Version { recorded, state, origin } = version;
        Self {
            recorded_at: timestamp(recorded),
            observed_at: timestamp(origin.observed),
            state,
            source: origin.source,
            by: origin.by,
            change: origin.change.map(ChangeId::from_bytes),
            content,
        }
    }

    /// Whether the file was there.
    pub const fn is_present(&self) -> bool {
        matches!(self.state, State::Present { .. })
    }
}

/// The versions of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Versions {
    /// Those that can be read, the oldest first, without contents.
    pub versions: Vec<FileVersion>,
    /// Whether others were erased.
    pub is_erased: bool,
}

/// All files of an item at a time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifest {
    /// Those that were there, without contents.
    pub files: BTreeMap<FilePath, FileVersion>,
    /// Those of which it was erased what they were.
    pub erased: BTreeSet<FilePath>,
    /// Originals of files: in no list, but a part of what an agent says it told.
    pub(crate) originals: BTreeMap<FilePath, FileVersion>,
}

/// What a file was at two times; `None` where it was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// At the first.
    pub before: Option<FileVersion>,
    /// At the second.
    pub after: Option<FileVersion>,
}

impl History {
    /// What a file held at a time, by when it was recorded; `None` where the item had no such file.
    pub async fn file_at(
        &self,
        by: &Actor,
        ci: CiId,
        path: &FilePath,
        at: Timestamp,
    ) -> Result<Past<Option<FileVersion>>, StoreError> {
        // What has its secrets is given to nobody who does not say why.
        if original_of(path.as_str()).is_some() {
            return Ok(Past::Kept(None));
        }
        self.whole_file_at(by, ci, path, at).await
    }

    /// The same, of originals too.
    pub(super) async fn whole_file_at(
        &self,
        by: &Actor,
        ci: CiId,
        path: &FilePath,
        at: Timestamp,
    ) -> Result<Past<Option<FileVersion>>, StoreError> {
        let time = at.as_microsecond();
        let Some((keys, row)) = self.row_at(by, ci, path, time).await? else {
            return Ok(Past::Kept(None));
        };
        let kept_from: i64 = get(&row, "kept_from")?;
        if let Some(forgotten) = forgotten(kept_from, time) {
            return Ok(forgotten);
        }
        let Some(spans) = get::<Option<Vec<u8>>>(&row, "spans")? else {
            return Ok(Past::Kept(None));
        };
        let item = Item(ci.as_bytes());
        if get::<Option<i64>>(&row, "recorded")?.is_some() {
            let version = self.of_tail(&keys, item, keys.pool.path_key(path), &row)?.1;
            let content = self.content_of_tail(&keys, &version, &row)?;
            return Ok(Past::Kept(Some(FileVersion::new(version, content))));
        }
        let Some(number) = Spans::read(&spans)?.at(time) else { return Ok(Past::Kept(None)) };
        let epoch = get(&row, "epoch")?;
        let Some(partition) = self.partition_of(&keys, number, epoch).await? else {
            return Ok(match self.unreadable(&keys, number).await? {
                PartitionState::Dropped => Past::Kept(None),
                _ => Past::Erased,
            });
        };
        let path = path.clone();
        let found = reading(move || {
            let Some(found) = partition.at(item, &path, time)? else { return Ok(None) };
            let content =
                found.frame.map(|frame| partition.content_or_leaning(frame)).transpose()?;
            Ok(Some((found, content)))
        })
        .await?;
        let Some((found, content)) = found else { return Ok(Past::Kept(None)) };
        let content = match content {
            Some(Err(leaning)) => Some(self.leaning(&keys, leaning, epoch).await?),
            Some(Ok(content)) => Some(content),
            None => None,
        };
        Ok(Past::Kept(Some(FileVersion::new(found.version, content))))
    }

    /// All that is known of a file at a time, with its tenant's keys. One statement: a version is in the tail or in
    /// a span, never in neither. Mostly the keys are those at hand, and nothing else is to be asked.
    async fn row_at(
        &self,
        by: &Actor,
        ci: CiId,
        path: &FilePath,
        time: i64,
    ) -> Result<Option<(Arc<TenantKeys>, AnyRow)>, StoreError> {
        let mut guess = self.cache.item(ci).filter(|_| by.speaks_of(ci));
        for _ in 0..3 {
            let keys = match guess.take() {
                Some(keys) => keys,
                None => match self.asked(by, ci).await?.keys {
                    Some(keys) => keys,
                    None => return Ok(None),
                },
            };
            let key = keys.pool.path_key(path);
            let (low, high) = range(by.scope());
            let row = sqlx::query(
                "SELECT c.tenant_id, h.sealed_key AS tenant_key, h.kept_from, h.epoch, f.spans,
                        t.recorded, t.number, t.version, s.sealed, p.sealed_key
                 FROM cis c
                 JOIN history_tenants h ON h.tenant_id = c.tenant_id
                 LEFT JOIN history_files f
                     ON f.tenant = h.tenant AND f.ci = $2 AND f.path_key = $3
                 LEFT JOIN history_tail t
                     ON t.tenant = f.tenant AND t.ci = f.ci AND t.path_key = f.path_key
                     AND t.recorded = (
                         SELECT MAX(x.recorded) FROM history_tail x
                         WHERE x.tenant = f.tenant AND x.ci = f.ci AND x.path_key = f.path_key
                         AND x.recorded <= $4)
                 LEFT JOIN history_contents s
                     ON s.tenant = t.tenant AND s.number = t.number AND s.content = t.content
                 LEFT JOIN history_partitions p ON p.tenant = t.tenant AND p.number = t.number
                 WHERE c.id = $1 AND c.tenant_id BETWEEN $5 AND $6",
            )
            .bind(ci.to_string())
            .bind(ci.as_bytes().to_vec())
            .bind(key.0.to_vec())
            .bind(time)
            .bind(low)
            .bind(high)
            .fetch_optional(self.pool())
            .await?
            .ok_or_else(|| StoreError::not_found("configuration item", &ci))?;
            let tenant: TenantId = parsed(&row, "tenant_id")?;
            let sealed: Option<Vec<u8>> = get(&row, "tenant_key")?;
            if tenant == keys.id && sealed.as_ref() == Some(&keys.sealed) {
                self.cache.keep_item(ci, &keys);
                return Ok(Some((keys, row)));
            }
        }
        Err(StoreError::Busy)
    }

    /// A content that leans on another partition's.
    async fn leaning(
        &self,
        keys: &Arc<TenantKeys>,
        leaning: Leaning,
        epoch: i64,
    ) -> Result<Vec<u8>, StoreError> {
        let lean = leaning.on();
        let number = lean.partition.cast_signed();
        let Some(base) = self.partition_of(keys, number, epoch).await? else {
            return Err(StoreError::Corrupt {
                what: format!("partition {number} of a history, on which another leans"),
            });
        };
        reading(move || leaning.content(&base.content(lean.frame)?)).await
    }

    /// Why a partition cannot be read.
    pub(super) async fn unreadable(
        &self,
        keys: &TenantKeys,
        number: i64,
    ) -> Result<PartitionState, StoreError> {
        let row = partition(self.pool(), keys.tenant, number).await?;
        match row.map(|row| row.state) {
            Some(state @ (PartitionState::Erased | PartitionState::Dropped)) => Ok(state),
            state => Err(StoreError::Corrupt {
                what: format!("partition {number} of a history: {state:?}"),
            }),
        }
    }

    fn of_tail(
        &self,
        keys: &TenantKeys,
        item: Item,
        key: ::history::PathKey,
        row: &AnyRow,
    ) -> Result<(FilePath, Version), StoreError> {
        let recorded: i64 = get(row, "recorded")?;
        let sealed: Vec<u8> = get(row, "version")?;
        let data_key =
            self.cache.data_key(keys, get(row, "number")?, &get::<Vec<u8>>(row, "sealed_key")?)?;
        let opened = data_key.rows().open(&version_place(item, key, recorded), &sealed)?;
        Ok(Version::from_bytes(&opened)?)
    }

    fn content_of_tail(
        &self,
        keys: &TenantKeys,
        version: &Version,
        row: &AnyRow,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(id) = version.state.content() else { return Ok(None) };
        let sealed: Option<Vec<u8>> = get(row, "sealed")?;
        let sealed = sealed
            .ok_or_else(|| StoreError::Corrupt { what: "a content of a history".to_owned() })?;
        let data_key =
            self.cache.data_key(keys, get(row, "number")?, &get::<Vec<u8>>(row, "sealed_key")?)?;
        Ok(Some(unpack(&data_key.rows().open(&content_place(&id.0), &sealed)?)?))
    }

    /// The versions of a file that are kept; of those before retention's moment, the one in force at it.
    pub async fn versions(
        &self,
        by: &Actor,
        ci: CiId,
        path: &FilePath,
    ) -> Result<Versions, StoreError> {
        let asked = self.asked(by, ci).await?;
        let Some(keys) = &asked.keys else { return Ok(Versions::default()) };
        if original_of(path.as_str()).is_some() {
            return Ok(Versions::default());
        }
        let key = keys.pool.path_key(path);
        let (files, mut tail) = self.files_of(&asked, keys, Some(key)).await?;
        let mut versions: Vec<Version> = Vec::new();
        let mut is_erased = false;
        for span in files.iter().flat_map(|file| &file.spans.0) {
            let Some(partition) = self.partition(keys, span.number).await? else {
                let state = self.unreadable(keys, span.number).await?;
                is_erased |= state == PartitionState::Erased;
                continue;
            };
            let path = path.clone();
            let found = blocking(move || partition.versions(Item(ci.as_bytes()), &path)).await?;
            versions.extend(found.into_iter().map(|found| found.version));
        }
        versions.extend(tail.remove(path).unwrap_or_default());
        // What was sealed between the two statements is in both.
        versions.dedup_by_key(|version| version.recorded);
        let in_force = versions.iter().rposition(|it| it.recorded <= asked.kept_from).unwrap_or(0);
        versions.drain(..in_force);
        let versions = versions.into_iter().map(|it| FileVersion::new(it, None)).collect();
        Ok(Versions { versions, is_erased })
    }

    /// What the second of two items of one tenant has otherwise than the first, at a time: two versions of an image, or
    /// two hosts that are to be alike. A secret that both have shows as another one, unless both have one key for
    /// fingerprints.
    ///
    /// # Errors
    /// [`StoreError::Refused`] for items of different tenants, of which nobody can tell whether contents are the same.
    pub async fn differences_between(
        &self,
        by: &Actor,
        (one, other): (CiId, CiId),
        at: Timestamp,
    ) -> Result<Past<BTreeMap<FilePath, Difference>>, StoreError> {
        if self.asked(by, one).await?.tenant != self.asked(by, other).await?.tenant {
            return Err(StoreError::Refused {
                reason: "the items are not one tenant's".to_owned(),
                help: "compare items of the same tenant",
            });
        }
        let before = match self.manifest(by, one, at).await? {
            Past::Kept(manifest) => manifest.files,
            Past::Erased => return Ok(Past::Erased),
            Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
        };
        let mut after = match self.manifest(by, other, at).await? {
            Past::Kept(manifest) => manifest.files,
            Past::Erased => return Ok(Past::Erased),
            Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
        };
        let mut found = BTreeMap::new();
        for (path, before) in before {
            let after = after.remove(&path);
            if after.as_ref().is_none_or(|after| after.state != before.state) {
                found.insert(path, Difference { before: Some(before), after });
            }
        }
        let new = |(path, after)| (path, Difference { before: None, after: Some(after) });
        found.extend(after.into_iter().map(new));
        Ok(Past::Kept(found))
    }

    /// All files that an item had at a time.
    pub async fn manifest(
        &self,
        by: &Actor,
        ci: CiId,
        at: Timestamp,
    ) -> Result<Past<Manifest>, StoreError> {
        let found = self.whole_manifest(by, ci, at).await?;
        Ok(match found {
            Past::Kept(mut manifest) => {
                let files = std::mem::take(&mut manifest.files).into_iter();
                let is_original = |(path, _): &(FilePath, _)| original_of(path.as_str()).is_some();
                (manifest.originals, manifest.files) = files.partition(is_original);
                manifest.erased.retain(|path| original_of(path.as_str()).is_none());
                Past::Kept(manifest)
            }
            other => other,
        })
    }

    /// The same with the originals of files, which have names of their own, for whoever tells what is gone.
    pub async fn whole_manifest(
        &self,
        by: &Actor,
        ci: CiId,
        at: Timestamp,
    ) -> Result<Past<Manifest>, StoreError> {
        let asked = self.asked(by, ci).await?;
        let time = at.as_microsecond();
        if let Some(forgotten) = asked.forgotten(time) {
            return Ok(forgotten);
        }
        let Some(keys) = &asked.keys else { return Ok(Past::Kept(Manifest::default())) };
        let (files, tail) = self.files_of(&asked, keys, None).await?;
        let mut manifest = Manifest::default();
        let mut wanted: BTreeMap<i64, BTreeSet<FilePath>> = BTreeMap::new();
        for file in &files {
            let path = keys.pool.open_path(file.key, &file.sealed_path)?;
            let recent = tail.get(&path).into_iter().flatten().rev();
            if let Some(version) = recent.into_iter().find(|it| it.recorded <= time) {
                manifest.add(path, version.clone());
            } else if let Some(number) = file.spans.at(time) {
                wanted.entry(number).or_default().insert(path);
            }
        }
        for (number, mut paths) in wanted {
            let Some(partition) = self.partition(keys, number).await? else {
                if self.unreadable(keys, number).await? == PartitionState::Erased {
                    manifest.erased.append(&mut paths);
                }
                continue;
            };
            for (path, versions) in blocking(move || partition.item(Item(ci.as_bytes()))).await? {
                let is_before = |found: &&Found| found.version.recorded <= time;
                if paths.contains(&path)
                    && let Some(found) = versions.iter().rev().find(is_before)
                {
                    manifest.add(path, found.version.clone());
                }
            }
        }
        Ok(Past::Kept(manifest))
    }

    /// All files that an item had at a time, with what they held. Each content is opened by itself, so that no more than
    /// an item's files are in memory.
    pub async fn contents(
        &self,
        by: &Actor,
        ci: CiId,
        at: Timestamp,
    ) -> Result<Past<Manifest>, StoreError> {
        let mut found = match self.manifest(by, ci, at).await? {
            Past::Kept(found) => found,
            other => return Ok(other),
        };
        for (path, version) in found.files.iter_mut().chain(&mut found.originals) {
            version.content = match self.whole_file_at(by, ci, path, at).await? {
                Past::Kept(Some(file)) => file.content,
                // Retention or erasure came in between: what it held is as unknown as what it was.
                Past::Kept(None) | Past::Erased | Past::Forgotten { .. } => None,
            };
        }
        Ok(Past::Kept(found))
    }

    /// The files of an item that were others at two times.
    pub async fn differences(
        &self,
        by: &Actor,
        ci: CiId,
        before: Timestamp,
        after: Timestamp,
    ) -> Result<Past<BTreeMap<FilePath, Difference>>, StoreError> {
        let mut before = match self.manifest(by, ci, before).await? {
            Past::Kept(manifest) => manifest,
            Past::Erased => return Ok(Past::Erased),
            Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
        };
        let after = match self.manifest(by, ci, after).await? {
            Past::Kept(manifest) => manifest,
            Past::Erased => return Ok(Past::Erased),
            Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
        };
        // Of what was erased nobody can say whether it was the same.
        if !before.erased.is_empty() || !after.erased.is_empty() {
            return Ok(Past::Erased);
        }
        let mut differences = BTreeMap::new();
        for (path, now) in after.files {
            let was = before.files.remove(&path);
            if was.as_ref().is_none_or(|was| was.state != now.state) {
                differences.insert(path, Difference { before: was, after: Some(now) });
            }
        }
        let gone = before.files.into_iter();
        differences
            .extend(gone.map(|(path, was)| (path, Difference { before: Some(was), after: None })));
        Ok(Past::Kept(differences))
    }

    /// What is known of an item's files, or of one, and their versions in the tail. The tail is read first:
    /// what is sealed meanwhile is then found in spans.
    async fn files_of(
        &self,
        asked: &Asked,
        keys: &Arc<TenantKeys>,
        key: Option<::history::PathKey>,
    ) -> Result<(Vec<File>, BTreeMap<FilePath, Vec<Version>>), StoreError> {
        // A range of keys of paths: all of them, or one.
        let (low, high) = key.map_or(([0; 16], [0xff; 16]), |key| (key.0, key.0));
        let rows = sqlx::query(
            "SELECT t.path_key, t.recorded, t.number, t.version, p.sealed_key FROM history_tail t
             JOIN history_partitions p ON p.tenant = t.tenant AND p.number = t.number
             WHERE t.tenant = $1 AND t.ci = $2 AND t.path_key BETWEEN $3 AND $4
             ORDER BY t.path_key, t.recorded",
        )
        .bind(keys.tenant.to_vec())
        .bind(asked.ci.as_bytes().to_vec())
        .bind(low.to_vec())
        .bind(high.to_vec())
        .fetch_all(self.pool())
        .await?;
        let item = Item(asked.ci.as_bytes());
        let mut tail: BTreeMap<FilePath, Vec<Version>> = BTreeMap::new();
        for row in &rows {
            let key = ::history::PathKey(bytes(row, "path_key")?);
            let (path, version) = self.of_tail(keys, item, key, row)?;
            tail.entry(path).or_default().push(version);
        }
        let rows = sqlx::query(
            "SELECT ci, path_key, path, recorded, number, spans, anchor_number, anchor_frame
             FROM history_files
             WHERE tenant = $1 AND ci = $2 AND path_key BETWEEN $3 AND $4",
        )
        .bind(keys.tenant.to_vec())
        .bind(asked.ci.as_bytes().to_vec())
        .bind(low.to_vec())
        .bind(high.to_vec())
        .fetch_all(self.pool())
        .await?;
        let files = rows.iter().map(File::read).collect::<Result<_, _>>()?;
        Ok((files, tail))
    }
}

impl Manifest {
    fn add(&mut self, path: FilePath, version: Version) {
        if version.state.content().is_some() {
            self.files.insert(path, FileVersion::new(version, None));
        }
    }
}

impl Asked {
    fn forgotten<T>(&self, time: i64) -> Option<Past<T>> {
        forgotten(self.kept_from, time)
    }
}

fn forgotten<T>(kept_from: i64, time: i64) -> Option<Past<T>> {
    (time < kept_from).then(|| Past::Forgotten { kept_from: timestamp(kept_from) })
}
