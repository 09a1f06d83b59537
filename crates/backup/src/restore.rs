//! Bringing back, and telling whether that could be done.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use history::Objects;
use jiff::Timestamp;

use crate::error::{BackupError, Result};
use crate::files::is_below;
use crate::keys::RepositoryKey;
use crate::live::PAGES;
use crate::picture::{FileEntry, Files, Increment, Picture};
use crate::repository::{Manifest, Repository};
use crate::take::HISTORY;

/// What was brought back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Restored {
    /// Bytes that were written.
    pub bytes: u64,
    /// Files beside the database.
    pub files: usize,
}

/// What was found in a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// Backups that are whole.
    pub backups: usize,
    /// Packs that were read.
    pub packs: usize,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged, each in words; and which backups that costs.
    pub damages: Vec<String>,
    /// Backups that open with another master key alone, and are not checked.
    pub locked: usize,
    /// Packs that belong to no backup that opens: of one that was broken off, or of those.
    pub garbage: usize,
}

impl Repository {
    /// The newest backup as of a time, of those that this master key opens.
    ///
    /// # Errors
    /// If there is none, or it is damaged.
    pub fn newest(&self, at: Option<Timestamp>) -> Result<Manifest> {
        for id in self.ids()?.into_iter().rev() {
            let manifest = match self.manifest(&id) {
                Err(BackupError::Locked) => continue,
                manifest => manifest?,
            };
            if at.is_none_or(|at| manifest.at <= at) {
                return Ok(manifest);
            }
        }
        let wanted = at.map_or("at all".to_owned(), |at| format!("as of {at}"));
        Err(BackupError::NoBackup { wanted })
    }

    /// Writes all that a backup holds into a directory that is empty or not there yet. The database gets the name
    /// `patchwright.db`. Each byte is what was backed up, or this fails.
    ///
    /// # Errors
    /// If something is damaged, or cannot be written.
    pub fn restore(&self, manifest: &Manifest, into: &Path) -> Result<Restored> {
        self.restore_with(manifest, into, None)
    }

    /// The same, with history's objects not below the directory but put where they are given. What has their names there
    /// already must be the same.
    ///
    /// # Errors
    /// If something is damaged, or cannot be written.
    pub fn restore_with(
        &self,
        manifest: &Manifest,
        into: &Path,
        objects: Option<&dyn Objects>,
    ) -> Result<Restored> {
        let key = self.key_of(&manifest.id)?;
        let (mut picture, increments) = self.picture(&key, manifest)?;
        for increment in &increments {
            increment.apply_files(&mut picture.files);
        }
        let made = DirBuilder::new().recursive(true).mode(0o700).create(into);
        made.map_err(BackupError::file(into))?;
        if fs::read_dir(into).map_err(BackupError::file(into))?.next().is_some() {
            return Err(BackupError::NotEmpty { path: into.to_owned() });
        }
        let restoring = Restoring { repository: self, key: &key, manifest, into, objects };
        let mut restored = Restored { bytes: 0, files: picture.files.len() };
        if manifest.has_database {
            restored.bytes += restoring.database(&picture, &increments)?;
        }
        restored.bytes += restoring.files(&picture.files)?;
        let synced = File::open(into).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
        synced.map_err(BackupError::file(into))?;
        Ok(restored)
    }

    /// Reads every backup and every pack, and tells what is not what it was. Backups may be taken, and removed, meanwhile.
    ///
    /// # Errors
    /// If the repository cannot be listed.
    pub fn verify(&self) -> Result<Verified> {
        let mut verified = Verified::default();
        let mut packs: BTreeMap<String, Option<String>> = BTreeMap::new();
        let there: BTreeSet<String> = self.names("pack-")?.into_iter().collect();
        for id in self.ids()? {
            if matches!(self.manifest(&id), Err(BackupError::Locked)) {
                verified.locked += 1;
                continue;
            }
            let mut damages = self.damages_of(&id, &mut packs, &mut verified);
            // One that was removed since it was listed is not damaged.
            if !damages.is_empty() && !self.ids()?.contains(&id) {
                damages.clear();
                continue;
            }
            if damages.is_empty() {
                verified.backups += 1;
            }
            let told = damages.into_iter().map(|damage| format!("backup {id}: {damage}"));
            verified.damages.extend(told);
        }
        verified.garbage = there.iter().filter(|name| !packs.contains_key(*name)).count();
        Ok(verified)
    }

    fn damages_of(
        &self,
        id: &str,
        packs: &mut BTreeMap<String, Option<String>>,
        verified: &mut Verified,
    ) -> Vec<String> {
        let manifest = match self.manifest(id) {
            Ok(manifest) => manifest,
            Err(error) => return vec![error.to_string()],
        };
        let mut damages = Vec::new();
        for pack in &manifest.packs {
            let known = packs.entry(pack.name.clone()).or_insert_with(|| {
                verified.packs += 1;
                verified.bytes += pack.size;
                self.check_pack(pack).err().map(|error| error.to_string())
            });
            damages.extend(known.clone());
        }
        let read = self.key_of(id).and_then(|key| {
            let (picture, _) = self.picture(&key, &manifest)?;
            let is_within = |pack: u32| (pack as usize) < manifest.packs.len();
            if picture.blobs().all(|blob| is_within(blob.pack)) {
                Ok(())
            } else {
                Err(BackupError::damaged("a backup's picture"))
            }
        });
        damages.extend(read.err().map(|error| error.to_string()));
        damages.dedup();
        damages
    }
}

struct Restoring<'a> {
    repository: &'a Repository,
    key: &'a RepositoryKey,
    manifest: &'a Manifest,
    into: &'a Path,
    /// Where history's objects go, if not below it.
    objects: Option<&'a dyn Objects>,
}

impl Restoring<'_> {
    fn database(&self, picture: &Picture, increments: &[Increment]) -> Result<u64> {
        let path = self.into.join("patchwright.db");
        let file = create(&path)?;
        let page_size = picture.page_size as usize;
        let chunk = u64::from(PAGES) * page_size as u64;
        Self::each(&picture.chunks, |index, blob| {
            let bytes = self.repository.blob(self.key, &self.manifest.packs, blob)?;
            file.write_all_at(&bytes, index as u64 * chunk).map_err(BackupError::file(&path))
        })?;
        let (mut latest, mut pages) = (BTreeMap::new(), picture.pages);
        for increment in increments {
            latest.extend(&increment.altered);
            pages = increment.pages;
        }
        for (page, bytes) in latest.range(..=pages) {
            if bytes.len() != page_size || **page == 0 {
                return Err(BackupError::damaged("a backup's increment"));
            }
            let at = u64::from(**page - 1) * page_size as u64;
            file.write_all_at(bytes, at).map_err(BackupError::file(&path))?;
        }
        let length = u64::from(pages) * page_size as u64;
        file.set_len(length).map_err(BackupError::file(&path))?;
        Ok(length)
    }

    fn files(&self, files: &Files) -> Result<u64> {
        let all: Vec<_> = files.iter().collect();
        for (path, _) in &all {
            if !is_below(path) {
                return Err(BackupError::damaged("a backup's list of files"));
            }
            if self.elsewhere(path).is_some() {
                continue;
            }
            if let Some(folder) = self.into.join(path).parent() {
                let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
                made.map_err(BackupError::file(folder))?;
            }
        }
        Self::each(&all, |_, (path, entry)| self.file(path, entry))?;
        Ok(all.iter().map(|(_, entry)| entry.size).sum())
    }

    /// Where an object goes that is not put below the directory, and its name.
    fn elsewhere<'p>(&self, path: &'p str) -> Option<(&dyn Objects, &'p str)> {
        self.objects.zip(path.strip_prefix(HISTORY))
    }

    fn object(
        &self,
        (objects, name): (&dyn Objects, &str),
        path: &str,
        entry: &FileEntry,
    ) -> Result<()> {
        let mut whole = Vec::new();
        for piece in &entry.pieces {
            whole.extend(self.repository.blob(self.key, &self.manifest.packs, piece)?);
        }
        if whole.len() as u64 != entry.size || *blake3::hash(&whole).as_bytes() != entry.hash {
            return Err(BackupError::damaged(format!("the file `{path}` in the backup")));
        }
        objects.put(name, &whole).map_err(BackupError::object(path))
    }

    fn file(&self, path: &str, entry: &FileEntry) -> Result<()> {
        if let Some(there) = self.elsewhere(path) {
            return self.object(there, path, entry);
        }
        let place = self.into.join(path);
        let file = create(&place)?;
        let (mut hasher, mut at) = (blake3::Hasher::new(), 0);
        for piece in &entry.pieces {
            let bytes = self.repository.blob(self.key, &self.manifest.packs, piece)?;
            hasher.update(&bytes);
            file.write_all_at(&bytes, at).map_err(BackupError::file(&place))?;
            at += bytes.len() as u64;
        }
        if at == entry.size && *hasher.finalize().as_bytes() == entry.hash {
            Ok(())
        } else {
            Err(BackupError::damaged(format!("the file `{path}` in the backup")))
        }
    }

    /// Works on all of them, several at a time; the first failure ends it.
    fn each<T: Sync>(all: &[T], work: impl Fn(usize, &T) -> Result<()> + Sync) -> Result<()> {
        let workers = std::thread::available_parallelism().map_or(2, std::num::NonZero::get).min(8);
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        let Some(it) = all.get(index) else { return };
                        if let Err(error) = work(index, it) {
                            next.store(all.len(), Ordering::Relaxed);
                            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                            return;
                        }
                    }
                });
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn create(path: &Path) -> Result<File> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    made.map_err(BackupError::file(path))
}
