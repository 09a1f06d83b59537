//! Where backups lie: objects, as history's are.
//!
//! | object | holds |
//! |---|---|
//! | `key-ID` | a repository key, sealed under the master key |
//! | `pack-RANDOM` | blobs behind each other, each compressed and sealed |
//! | `backup-ID` | a manifest: what a backup is made of, and in which packs; sealed and so authenticated |
//!
//! Objects are put whole and never altered. A manifest is put last; a pack that none names is garbage.

use std::collections::BTreeMap;
use std::fs::{OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use history::{Directory, Objects};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::alone::{self, Alone, Clock};
use crate::error::{BackupError, Result};
use crate::keys::{Random, RepositoryKey, Secret};
use crate::picture::{Blob, Increment, Pack, Picture, text};

/// The format that this knows.
const FORMAT: u16 = 1;

/// A manifest is no larger than this; what is, is not read.
const LARGEST_MANIFEST: u64 = 256 << 20;

/// Packs are about this large.
const PACK: usize = 32 << 20;

/// What is not compressed, and what is.
const PLAIN: u8 = 0;
const ZSTD: u8 = 1;

/// No blob is larger, unpacked.
pub(crate) const LARGEST_BLOB: usize = 8 << 20;

/// What a backup is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub(crate) format: u16,
    /// Its name.
    pub id: String,
    /// Everything that was acknowledged before is in it.
    pub at: Timestamp,
    /// The one before it, in the same repository.
    pub previous: Option<String>,
    /// The checkpoint that the ledger had published by then, as it was signed.
    pub checkpoint: Option<String>,
    /// Whether the database is in it.
    pub has_database: bool,
    /// How many bytes it makes when it is restored.
    pub bytes: u64,
    pub(crate) page_size: u32,
    pub(crate) base: Vec<Blob>,
    pub(crate) increments: Vec<Vec<Blob>>,
    pub(crate) packs: Vec<Pack>,
}

impl Manifest {
    pub(crate) fn first(at: Timestamp) -> Self {
        Self {
            format: FORMAT,
            id: name_of(at),
            at,
            previous: None,
            checkpoint: None,
            has_database: false,
            bytes: 0,
            page_size: 0,
            base: Vec::new(),
            increments: Vec::new(),
            packs: Vec::new(),
        }
    }
}

/// A backup's name sorts as its time.
pub(crate) fn name_of(at: Timestamp) -> String {
    format!("{}{:06}Z", at.strftime("%Y%m%dT%H%M%S"), at.as_microsecond().rem_euclid(1_000_000))
}

/// Where backups lie, with the keys that open them.
#[derive(Clone)]
pub struct Repository {
    objects: Arc<dyn Objects>,
    keys: BTreeMap<String, Arc<RepositoryKey>>,
    random: Random,
}

impl Repository {
    /// Backups in a directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn directory(path: &Path) -> Result<Arc<dyn Objects>> {
        Ok(Arc::new(Directory::open(path).map_err(BackupError::file(path))?))
    }

    /// Keeps other writers away from a directory of backups.
    ///
    /// # Errors
    /// If there is one.
    pub fn lock(path: &Path) -> Result<Alone> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.join(".lock"))
            .map_err(BackupError::file(path))?;
        match file.try_lock() {
            Ok(()) => Ok(Alone::by(file)),
            Err(TryLockError::WouldBlock) => Err(BackupError::Held { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => {
                Err(BackupError::File { path: path.to_owned(), source })
            }
        }
    }

    /// Keeps other writers away from backups that are no directory, on whichever host they are. What is written must be
    /// written through the objects that come back; the file is of this host, and of its own for each repository.
    ///
    /// # Errors
    /// If there is one, or the repository cannot be written.
    pub fn lease(
        objects: Arc<dyn Objects>,
        file: &Path,
        place: &str,
        clock: Clock,
        random: Random,
    ) -> Result<(Arc<dyn Objects>, Alone)> {
        alone::lease(objects, file, place, clock, random)
    }

    /// Opens what there is with the master key's derivative.
    ///
    /// # Errors
    /// If there are keys and none of them opens.
    pub fn open(objects: Arc<dyn Objects>, master: &Secret, random: Random) -> Result<Self> {
        let mut repository = Self { objects, keys: BTreeMap::new(), random };
        let (mut found, mut opened) = (0, 0);
        for name in repository.names("key-")? {
            found += 1;
            let sealed = repository.whole(&name, 4096)?;
            let id = name.trim_start_matches("key-");
            if let Some(key) = RepositoryKey::unwrap(id, &sealed, master) {
                opened += 1;
                repository.keys.insert(key.id.clone(), Arc::new(key));
            }
        }
        if found > 0 && opened == 0 { Err(BackupError::Locked) } else { Ok(repository) }
    }

    /// The same with keys that the installation keeps, the last one for what is written from now on. That is sealed under
    /// this master key; those before stay as they are, under the master keys that the databases in their backups need.
    ///
    /// # Errors
    /// If the repository cannot be written.
    pub fn adopt(
        objects: Arc<dyn Objects>,
        master: &Secret,
        secrets: Vec<Secret>,
        random: Random,
    ) -> Result<(Self, Writing)> {
        let mut repository = Self { objects, keys: BTreeMap::new(), random };
        let mut last = None;
        for secret in secrets {
            let key = Arc::new(RepositoryKey::new(secret));
            repository.keys.insert(key.id.clone(), Arc::clone(&key));
            last = Some(key);
        }
        let key = last.ok_or(BackupError::Locked)?;
        let name = format!("key-{}", key.id);
        let is_there = repository.names("key-")?.contains(&name);
        let opens = || -> Result<bool> {
            Ok(RepositoryKey::unwrap(&key.id, &repository.whole(&name, 4096)?, master).is_some())
        };
        if !is_there || !opens()? {
            let sealed = key.wrap(master, random);
            match repository.put(&name, &sealed) {
                // One that does not open, where nothing is replaced.
                Err(BackupError::Object { source, .. })
                    if source.kind() == io::ErrorKind::AlreadyExists =>
                {
                    repository.delete(&name)?;
                    repository.put(&name, &sealed)?;
                }
                put => put?,
            }
        }
        Ok((repository, Writing { key, packs: Vec::new(), pack: Vec::new(), written: 0 }))
    }

    /// All backups, the oldest first. Those that do not open are told apart.
    ///
    /// # Errors
    /// If the repository cannot be read.
    pub fn backups(&self) -> Result<Vec<(String, Result<Manifest>)>> {
        let mut names = self.names("backup-")?;
        names.sort_unstable();
        let id = |name: &String| name.trim_start_matches("backup-").to_owned();
        Ok(names.iter().map(|name| (id(name), self.manifest(&id(name)))).collect())
    }

    /// The names of all backups, the oldest first.
    pub(crate) fn ids(&self) -> Result<Vec<String>> {
        let mut names = self.names("backup-")?;
        names.sort_unstable();
        Ok(names.iter().map(|name| name.trim_start_matches("backup-").to_owned()).collect())
    }

    /// One backup.
    ///
    /// # Errors
    /// If there is none of this name, or it is damaged, or under another key.
    pub fn manifest(&self, id: &str) -> Result<Manifest> {
        let name = format!("backup-{id}");
        let whole = match self.whole(&name, LARGEST_MANIFEST) {
            Err(BackupError::Object { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::NoBackup { wanted: format!("`{id}`") });
            }
            whole => whole?,
        };
        let damaged = || BackupError::damaged(format!("the manifest `{name}`"));
        let (key, sealed) = whole.split_at_checked(16).ok_or_else(damaged)?;
        let key = std::str::from_utf8(key).map_err(|_| damaged())?;
        let Some(known) = self.keys.get(key) else {
            let is_there = self.names("key-")?.contains(&format!("key-{key}"));
            return Err(if is_there { BackupError::Locked } else { damaged() });
        };
        let plain = known.open_manifest(&name, sealed)?;
        let plain = unpack(&plain, usize::try_from(LARGEST_MANIFEST).unwrap_or(usize::MAX))
            .ok_or_else(damaged)?;
        let manifest: Manifest = serde_json::from_slice(&plain).map_err(|_| damaged())?;
        if manifest.format != FORMAT {
            return Err(BackupError::Format { found: manifest.format, known: FORMAT });
        }
        if manifest.id == id { Ok(manifest) } else { Err(damaged()) }
    }

    /// By which key a backup is sealed.
    pub(crate) fn key_of(&self, id: &str) -> Result<Arc<RepositoryKey>> {
        let name = format!("backup-{id}");
        let key = self.objects.read(&name, 0, 16).map_err(BackupError::object(&name))?;
        let key = std::str::from_utf8(&key).ok().and_then(|key| self.keys.get(key));
        key.cloned().ok_or_else(|| BackupError::damaged(format!("the manifest `{name}`")))
    }

    /// Puts a manifest: from now on the backup is there.
    pub(crate) fn keep(&self, writing: &Writing, manifest: &Manifest) -> Result<()> {
        let name = format!("backup-{}", manifest.id);
        let plain = serde_json::to_vec(manifest)
            .map_err(|error| BackupError::damaged(format!("a manifest in the making: {error}")))?;
        let sealed = writing.key.seal_manifest(&name, &pack(&plain), self.random);
        self.put(&name, &[writing.key.id.as_bytes(), &sealed].concat())
    }

    /// A blob's bytes, which are what was put there or an error.
    pub(crate) fn blob(&self, key: &RepositoryKey, packs: &[Pack], blob: &Blob) -> Result<Vec<u8>> {
        let pack = packs
            .get(blob.pack as usize)
            .ok_or_else(|| BackupError::damaged("a manifest's list of packs"))?;
        let damaged = || BackupError::damaged(format!("the pack `{}`", pack.name));
        let sealed = self
            .objects
            .read(&pack.name, u64::from(blob.offset), blob.length as usize)
            .map_err(BackupError::object(&pack.name))?;
        let opened = key.open_blob(blob.name(), &sealed).ok_or_else(damaged)?;
        let plain = unpack(&opened, LARGEST_BLOB).ok_or_else(damaged)?;
        if key.name(&plain) == blob.name() { Ok(plain) } else { Err(damaged()) }
    }

    /// What a backup began with, and what came after that.
    pub(crate) fn picture(
        &self,
        key: &RepositoryKey,
        manifest: &Manifest,
    ) -> Result<(Picture, Vec<Increment>)> {
        let joined = |blobs: &[Blob]| -> Result<Vec<u8>> {
            let mut whole = Vec::new();
            for blob in blobs {
                whole.extend(self.blob(key, &manifest.packs, blob)?);
            }
            Ok(whole)
        };
        let picture = Picture::from_bytes(&joined(&manifest.base)?)?;
        let increments = manifest
            .increments
            .iter()
            .map(|blobs| Increment::from_bytes(&joined(blobs)?))
            .collect::<Result<_>>()?;
        Ok((picture, increments))
    }

    /// A whole pack, held against what the manifest says of it.
    pub(crate) fn check_pack(&self, pack: &Pack) -> Result<()> {
        let damaged = || BackupError::damaged(format!("the pack `{}`", pack.name));
        let bytes = match self.whole(&pack.name, pack.size) {
            Err(BackupError::Object { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Err(BackupError::damaged(format!(
                    "the pack `{}`, which is gone,",
                    pack.name
                )));
            }
            bytes => bytes?,
        };
        let is_whole =
            bytes.len() as u64 == pack.size && *blake3::hash(&bytes).as_bytes() == pack.hash;
        if is_whole { Ok(()) } else { Err(damaged()) }
    }

    /// The names of objects that begin so.
    pub(crate) fn names(&self, beginning: &str) -> Result<Vec<String>> {
        let mut names = self.objects.list().map_err(BackupError::object("*"))?;
        names.retain(|name| name.starts_with(beginning));
        Ok(names)
    }

    pub(crate) fn delete(&self, name: &str) -> Result<()> {
        self.objects.delete(name).map_err(BackupError::object(name))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.objects.put(name, bytes).map_err(BackupError::object(name))
    }

    /// An object whole, unless it is longer than it can be.
    fn whole(&self, name: &str, largest: u64) -> Result<Vec<u8>> {
        let failed = BackupError::object(name);
        let size = match self.objects.size(name) {
            Ok(size) => size,
            Err(error) => return Err(failed(error)),
        };
        if size > largest {
            return Err(BackupError::damaged(format!("the object `{name}`")));
        }
        let length = usize::try_from(size).unwrap_or(usize::MAX);
        self.objects.read(name, 0, length).map_err(failed)
    }
}

impl std::fmt::Debug for Repository {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}

/// Packs in the making.
#[derive(Debug)]
pub struct Writing {
    pub(crate) key: Arc<RepositoryKey>,
    /// All that the current picture may refer to.
    pub(crate) packs: Vec<Pack>,
    pack: Vec<u8>,
    /// Bytes that were put so far.
    pub(crate) written: u64,
}

impl Writing {
    /// Keeps a piece.
    pub(crate) fn add(&mut self, repository: &Repository, plain: &[u8]) -> Result<Blob> {
        let id = self.key.name(plain);
        let sealed = self.key.seal_blob(id, &pack(plain), repository.random);
        if !self.pack.is_empty() && self.pack.len() + sealed.len() > PACK {
            self.flush(repository)?;
        }
        let number = |number: usize| {
            u32::try_from(number).map_err(|_| BackupError::damaged("a pack in the making"))
        };
        let blob = Blob {
            pack: number(self.packs.len())?,
            offset: number(self.pack.len())?,
            length: number(sealed.len())?,
            id: id.0,
        };
        self.pack.extend_from_slice(&sealed);
        Ok(blob)
    }

    /// Makes durable what was added.
    pub(crate) fn flush(&mut self, repository: &Repository) -> Result<()> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let mut random = [0; 12];
        (repository.random)(&mut random);
        let name = format!("pack-{}", text(&random));
        repository.put(&name, &self.pack)?;
        let hash = blake3::hash(&self.pack).into();
        self.written += self.pack.len() as u64;
        self.packs.push(Pack { name, size: self.pack.len() as u64, hash });
        self.pack.clear();
        Ok(())
    }
}

/// Compressed where that is worth it, behind the length of it unpacked.
fn pack(plain: &[u8]) -> Vec<u8> {
    match zstd::bulk::compress(plain, 1) {
        Ok(small) if small.len() + 4 < plain.len() => {
            let length = u32::try_from(plain.len()).unwrap_or(u32::MAX).to_le_bytes();
            [&[ZSTD], &length[..], &small[..]].concat()
        }
        _ => [&[PLAIN], plain].concat(),
    }
}

fn unpack(bytes: &[u8], largest: usize) -> Option<Vec<u8>> {
    let (how, bytes) = bytes.split_first()?;
    match *how {
        PLAIN => Some(bytes.to_vec()),
        ZSTD => {
            let (length, bytes) = bytes.split_first_chunk()?;
            let length = u32::from_le_bytes(*length) as usize;
            let plain = zstd::bulk::decompress(bytes, length.min(largest)).ok()?;
            (plain.len() == length).then_some(plain)
        }
        _ => None,
    }
}
