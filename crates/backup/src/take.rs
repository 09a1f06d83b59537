//! Taking backups.
//!
//! ```text
//! checkpoint of the ledger ─► files that are new ─► look at the database ─► files that are new since
//!                                                        │
//!                      what altered since the last one ──┴──► packs ─► manifest: the backup is there
//! ```
//! The order is what makes them fit: an object is written before the row that names it and removed ten minutes after the
//! last one that did, so all objects that the look names are among those listed before or after it. The ledger's
//! checkpoint is older than the look, so the database has all that it covers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use history::Objects;
use jiff::{SignedDuration, Timestamp};

use crate::error::{BackupError, Result};
use crate::files::{self, Kind};
use crate::live::{Altered, LiveDatabase, Look, PAGES};
use crate::picture::{Blob, FileEntry, Files, Increment, Picture, chunks_of};
use crate::repository::{Manifest, Repository, Writing};

/// Files are kept in pieces of this size.
const PIECE: usize = 1 << 20;

/// After so many increments everything is told anew, of what is there already.
const MOST_INCREMENTS: usize = 128;

/// So much of an object is read at once.
const PART: usize = 16 * PIECE;

/// Where history's objects are in a backup.
pub(crate) const HISTORY: &str = "history/";

/// What altered is told as an increment up to so many bytes of pages.
const LARGEST_INCREMENT: usize = 64 << 20;

/// More packs than this beyond what is needed, and small ones are put together.
const SPARE_PACKS: usize = 64;

/// How large a pack is that holds little.
const LITTLE: u64 = 8 << 20;

/// What is backed up.
#[derive(Debug, Clone)]
pub struct Source {
    /// The data directory.
    pub data: PathBuf,
    /// The database's file; none where it is PostgreSQL, which has its own ways.
    pub database: Option<PathBuf>,
    /// Whether images are backed up, too.
    pub with_images: bool,
}

/// What a backup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Its name.
    pub id: String,
    /// Everything that was acknowledged before is in it.
    pub at: Timestamp,
    /// Bytes that it added to the repository's packs.
    pub written: u64,
    /// Pages of the database that were read.
    pub pages: u64,
    /// Whether everything was held against what was there.
    pub is_full: bool,
}

/// Takes backups of an installation, one after another.
#[derive(Debug)]
pub struct Backup {
    repository: Repository,
    writing: Writing,
    source: Source,
    database: Option<LiveDatabase>,
    picture: Picture,
    last: Option<Manifest>,
    /// Chunks that are others than the last base has them.
    stale: BTreeSet<usize>,
    elsewhere: Option<Elsewhere>,
}

/// Where history's objects are, if not below the data directory.
struct Elsewhere(Arc<dyn Objects>);

impl std::fmt::Debug for Elsewhere {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Elsewhere").finish_non_exhaustive()
    }
}

/// When the next backup is due: as long after the beginning of the last one, at once where that took longer.
pub fn wait(begun: Timestamp, now: Timestamp, every: SignedDuration) -> SignedDuration {
    (every - now.duration_since(begun)).clamp(SignedDuration::ZERO, every)
}

impl Backup {
    /// Goes on from the newest backup that is there under the current key.
    ///
    /// # Errors
    /// If the repository or the database cannot be read.
    pub fn begin(repository: Repository, mut writing: Writing, source: Source) -> Result<Self> {
        let database = source.database.as_deref().map(LiveDatabase::open).transpose()?;
        let (mut picture, mut last, mut stale) = (Picture::default(), None, BTreeSet::new());
        for id in repository.ids()?.into_iter().rev() {
            let is_ours = repository.key_of(&id).is_ok_and(|key| key.id == writing.key.id);
            let Some(manifest) = is_ours.then(|| repository.manifest(&id).ok()).flatten() else {
                continue;
            };
            // One that is damaged is left to `verify`; everything is copied again then.
            if let Ok((base, increments)) = repository.picture(&writing.key, &manifest) {
                picture = base;
                for increment in &increments {
                    increment.apply_files(&mut picture.files);
                    stale.extend(increment.altered.keys().map(|page| chunk_of(*page)));
                }
                writing.packs.clone_from(&manifest.packs);
                last = Some(manifest);
            }
            break;
        }
        Ok(Self { repository, writing, source, database, picture, last, stale, elsewhere: None })
    }

    /// History's objects are not below the data directory but there. They are backed up as if they were files.
    #[must_use]
    pub fn with_objects(mut self, objects: Arc<dyn Objects>) -> Self {
        self.elsewhere = Some(Elsewhere(objects));
        self
    }

    /// The repository.
    pub const fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Takes a backup. After a failure nothing of it is there, and this must be begun anew.
    ///
    /// # Errors
    /// If something cannot be read or written.
    pub fn step(&mut self, now: Timestamp) -> Result<Taken> {
        let written = self.writing.written;
        let checkpoint = optional(&self.source.data.join("ledger/checkpoint"))?
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let before = self.listing()?;
        let mut fresh = Files::new();
        let sparse = self.sparse();
        self.copy_files(&before, &sparse, &mut fresh)?;
        let mut looked = self.look(&sparse)?;
        let after = self.listing()?;
        self.copy_files(&after, &BTreeSet::new(), &mut fresh)?;
        let is_there = |path: &String| before.contains_key(path) || after.contains_key(path);
        let gone: Vec<_> =
            self.picture.files.keys().filter(|path| !is_there(path)).cloned().collect();

        let at = self.last.as_ref().map_or(now, |last| {
            now.max(last.at.saturating_add(SignedDuration::from_micros(1)).unwrap_or(last.at))
        });
        let mut manifest = Manifest {
            previous: self.last.as_ref().map(|last| last.id.clone()),
            checkpoint,
            has_database: self.database.is_some(),
            ..Manifest::first(at)
        };
        let increment = Increment {
            pages: looked.pages,
            altered: std::mem::take(&mut looked.altered),
            files: fresh,
            gone,
        };
        increment.apply_files(&mut self.picture.files);
        self.stale.extend(increment.altered.keys().map(|page| chunk_of(*page)));
        self.picture.pages = looked.pages;
        if let Some(chunks) = looked.chunks.take() {
            self.picture.page_size = looked.page_size;
            self.picture.chunks = chunks;
            self.stale.clear();
            self.writing.flush(&self.repository)?;
            self.renumber();
            manifest.base = self.add_all(&self.picture.to_bytes())?;
        } else {
            let last = self.last.as_ref().ok_or_else(|| BackupError::damaged("what was last"))?;
            manifest.base.clone_from(&last.base);
            manifest.increments.clone_from(&last.increments);
            manifest.increments.push(self.add_all(&increment.to_bytes())?);
        }
        self.writing.flush(&self.repository)?;
        manifest.packs.clone_from(&self.writing.packs);
        manifest.page_size = self.picture.page_size;
        manifest.bytes = u64::from(self.picture.page_size) * u64::from(self.picture.pages)
            + self.picture.files.values().map(|file| file.size).sum::<u64>();
        self.repository.keep(&self.writing, &manifest)?;
        let taken = Taken {
            id: manifest.id.clone(),
            at,
            written: self.writing.written - written,
            pages: looked.read,
            is_full: looked.is_full,
        };
        self.last = Some(manifest);
        if let (Some(database), Some(look)) = (&mut self.database, &looked.look) {
            database.make_room(look)?;
        }
        Ok(taken)
    }

    fn listing(&self) -> Result<BTreeMap<String, Kind>> {
        let mut found = files::listing(&self.source.data, self.source.with_images)?;
        if let Some(Elsewhere(objects)) = &self.elsewhere {
            found.retain(|path, _| !path.starts_with(HISTORY));
            let names = objects.list().map_err(BackupError::object("history/*"))?;
            found.extend(names.into_iter().map(|name| (format!("{HISTORY}{name}"), Kind::Fixed)));
        }
        Ok(found)
    }

    fn add_all(&mut self, bytes: &[u8]) -> Result<Vec<Blob>> {
        let pieces = bytes.chunks(PIECE);
        pieces.map(|piece| self.writing.add(&self.repository, piece)).collect()
    }

    /// Copies files that the picture lacks, or has otherwise, and those whose pieces lie in packs of which little is left.
    fn copy_files(
        &mut self,
        listed: &BTreeMap<String, Kind>,
        sparse: &BTreeSet<u32>,
        fresh: &mut Files,
    ) -> Result<()> {
        for (path, kind) in listed {
            let known = fresh.get(path).or_else(|| self.picture.files.get(path));
            let is_sparse =
                |file: &FileEntry| file.pieces.iter().any(|it| sparse.contains(&it.pack));
            if *kind == Kind::Fixed && known.is_some_and(|known| !is_sparse(known)) {
                continue;
            }
            if let Some(Elsewhere(objects)) = &self.elsewhere
                && let Some(name) = path.strip_prefix(HISTORY)
            {
                let objects = Arc::clone(objects);
                if let Some(entry) = self.copy_object(&*objects, path, name)? {
                    fresh.insert(path.clone(), entry);
                }
                continue;
            }
            let place = self.source.data.join(path);
            let file = match File::open(&place) {
                Ok(file) => file,
                // Removed since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(BackupError::File { path: place, source }),
            };
            if *kind == Kind::Alterable && is_as_known(&place, known)? {
                continue;
            }
            fresh.insert(path.clone(), self.copy(&place, file)?);
        }
        Ok(())
    }

    /// An object of history's, unless it was removed since it was listed.
    fn copy_object(
        &mut self,
        objects: &dyn Objects,
        path: &str,
        name: &str,
    ) -> Result<Option<FileEntry>> {
        let gone = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => Ok(None),
            _ => Err(BackupError::object(path)(source)),
        };
        let size = match objects.size(name) {
            Ok(size) => size,
            Err(error) => return gone(error),
        };
        let (mut hasher, mut at, mut pieces) = (blake3::Hasher::new(), 0, Vec::new());
        while at < size {
            let length = usize::try_from(size - at).unwrap_or(usize::MAX).min(PART);
            let part = match objects.read(name, at, length) {
                Ok(part) => part,
                Err(error) => return gone(error),
            };
            hasher.update(&part);
            pieces.extend(self.add_all(&part)?);
            at += part.len() as u64;
        }
        Ok(Some(FileEntry { size, hash: hasher.finalize().into(), pieces }))
    }

    fn copy(&mut self, place: &Path, mut file: File) -> Result<FileEntry> {
        let (mut hasher, mut size, mut pieces) = (blake3::Hasher::new(), 0, Vec::new());
        let mut buffer = Vec::with_capacity(PIECE);
        loop {
            buffer.clear();
            let part = file.by_ref().take(PIECE as u64).read_to_end(&mut buffer);
            part.map_err(BackupError::file(place))?;
            if buffer.is_empty() {
                break;
            }
            hasher.update(&buffer);
            size += buffer.len() as u64;
            pieces.push(self.writing.add(&self.repository, &buffer)?);
        }
        Ok(FileEntry { size, hash: hasher.finalize().into(), pieces })
    }

    /// Looks at the database, and keeps what altered. Where its log was begun anew meanwhile, once more.
    fn look(&mut self, sparse: &BTreeSet<u32>) -> Result<Looked> {
        let mut tries = 0;
        loop {
            let Some(database) = &mut self.database else {
                // Files alone: told anew when there are many increments.
                let is_due = self.is_base_due();
                return Ok(Looked { chunks: is_due.then(Vec::new), ..Looked::default() });
            };
            let look = database.look()?;
            match self.keep_pages(&look, sparse) {
                Ok(looked) => return Ok(Looked { look: Some(look), ..looked }),
                Err(BackupError::Moved) if tries < 3 => {
                    tries += 1;
                    if let Some(database) = &mut self.database {
                        database.take_back(look);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn is_base_due(&self) -> bool {
        self.last.as_ref().is_none_or(|last| {
            last.increments.len() >= MOST_INCREMENTS || last.has_database != self.database.is_some()
        })
    }

    fn keep_pages(&mut self, look: &Look, sparse: &BTreeSet<u32>) -> Result<Looked> {
        let size = look.page_size as usize;
        let mut looked =
            Looked { page_size: look.page_size, pages: look.pages, ..Looked::default() };
        let altered = match &look.altered {
            Altered::Anything => None,
            Altered::Pages(pages) => Some(pages),
        };
        let is_small = |pages: &BTreeSet<u32>| pages.len() * size <= LARGEST_INCREMENT;
        let is_same_shape = self.picture.page_size == look.page_size;
        match altered.filter(|pages| is_small(pages) && is_same_shape && !self.is_base_due()) {
            Some(pages) => {
                for page in pages.iter().filter(|page| **page <= look.pages) {
                    let mut bytes = vec![0; size];
                    look.read(*page, 1, &mut bytes)?;
                    looked.altered.insert(*page, bytes);
                }
                looked.read = looked.altered.len() as u64;
            }
            None => self.keep_chunks(look, altered, sparse, &mut looked)?,
        }
        look.check()?;
        Ok(looked)
    }

    /// Each chunk: as it was, or kept anew.
    fn keep_chunks(
        &mut self,
        look: &Look,
        altered: Option<&BTreeSet<u32>>,
        sparse: &BTreeSet<u32>,
        looked: &mut Looked,
    ) -> Result<()> {
        let is_same_shape = self.picture.page_size == look.page_size;
        let count = chunks_of(look.pages);
        let altered: Option<BTreeSet<usize>> = altered
            .filter(|_| is_same_shape)
            .map(|pages| pages.iter().map(|page| chunk_of(*page)).collect());
        let mut chunks = Vec::with_capacity(count);
        let mut buffer = vec![0; PAGES as usize * look.page_size as usize];
        for index in 0..count {
            let known = self.picture.chunks.get(index).copied().filter(|_| is_same_shape);
            let is_sparse = known.is_some_and(|known| sparse.contains(&known.pack));
            let is_as_known = altered.as_ref().is_some_and(|altered| {
                !altered.contains(&index) && !self.stale.contains(&index) && index + 1 < count
            });
            if let Some(known) = known.filter(|_| is_as_known && !is_sparse) {
                chunks.push(known);
                continue;
            }
            let first = u32::try_from(index).unwrap_or(u32::MAX) * PAGES + 1;
            let pages = PAGES.min(look.pages - first + 1);
            let bytes = &mut buffer[..pages as usize * look.page_size as usize];
            look.read(first, pages, bytes)?;
            looked.read += u64::from(pages);
            let is_same = known.is_some_and(|known| self.writing.key.name(bytes) == known.name());
            chunks.push(match known.filter(|_| is_same && !is_sparse) {
                Some(known) => known,
                None => self.writing.add(&self.repository, bytes)?,
            });
        }
        looked.is_full = altered.is_none();
        looked.chunks = Some(chunks);
        Ok(())
    }

    /// Packs of which so little is needed that it is put elsewhere, where a base is due and packs have become many.
    fn sparse(&self) -> BTreeSet<u32> {
        if !self.is_base_due() {
            return BTreeSet::new();
        }
        let mut live: BTreeMap<u32, u64> = BTreeMap::new();
        for blob in self.picture.blobs() {
            *live.entry(blob.pack).or_default() += u64::from(blob.length);
        }
        let needed = live.values().sum::<u64>() / LITTLE;
        if live.len() as u64 <= needed + SPARE_PACKS as u64 {
            return BTreeSet::new();
        }
        live.into_iter().filter(|(_, bytes)| *bytes < LITTLE).map(|(pack, _)| pack).collect()
    }

    /// Leaves out packs that the picture does not need.
    fn renumber(&mut self) {
        let needed: BTreeSet<u32> = self.picture.blobs().map(|blob| blob.pack).collect();
        let numbers: BTreeMap<u32, u32> = needed.iter().copied().zip(0..).collect();
        for blob in self.picture.blobs_mut() {
            blob.pack = numbers.get(&blob.pack).copied().unwrap_or_default();
        }
        let mut index = 0;
        self.writing.packs.retain(|_| {
            index += 1;
            numbers.contains_key(&(index - 1))
        });
    }
}

/// What was seen of the database, and what of it was kept.
#[derive(Debug, Default)]
struct Looked {
    look: Option<Look>,
    page_size: u32,
    pages: u32,
    /// For an increment.
    altered: BTreeMap<u32, Vec<u8>>,
    /// For a base.
    chunks: Option<Vec<Blob>>,
    read: u64,
    is_full: bool,
}

/// In which chunk a page is.
fn chunk_of(page: u32) -> usize {
    (page.saturating_sub(1) / PAGES) as usize
}

fn optional(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(BackupError::File { path: path.to_owned(), source }),
    }
}

fn is_as_known(place: &Path, known: Option<&FileEntry>) -> Result<bool> {
    let Some(known) = known else { return Ok(false) };
    let mut hasher = blake3::Hasher::new();
    let file = File::open(place).map_err(BackupError::file(place))?;
    hasher.update_reader(file).map_err(BackupError::file(place))?;
    Ok(known.hash == *hasher.finalize().as_bytes())
}
