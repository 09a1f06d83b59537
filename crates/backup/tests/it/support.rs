//! An installation that is written, and a repository that can fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use backup::{Backup, Manifest, Repository, Secret, Source};
use history::{Directory, Objects};
use jiff::Timestamp;
use rusqlite::Connection;

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// `SplitMix64` of a counter.
pub(crate) fn random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let mut z = NUMBER.fetch_add(1, Ordering::SeqCst).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
    }
}

pub(crate) fn below(end: u64) -> u64 {
    let mut bytes = [0; 8];
    random(&mut bytes);
    u64::from_le_bytes(bytes) % end
}

/// The bytes that a row of this number holds.
pub(crate) fn content(number: i64) -> Vec<u8> {
    let mut content = Vec::new();
    let hash = blake3::hash(&number.to_le_bytes());
    let length = 40 + usize::from(hash.as_bytes()[0]) * 40;
    blake3::Hasher::new().update(hash.as_bytes()).finalize_xof().fill({
        content.resize(length, 0);
        &mut content
    });
    content
}

/// A database in which row N is added by transaction N, a row before it is altered, and some go.
pub(crate) struct Writer {
    connection: Connection,
    pub(crate) number: i64,
}

impl Writer {
    pub(crate) fn open(data: &Path) -> Self {
        let connection = Connection::open(data.join("patchwright.db")).unwrap();
        connection.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
        connection
            .execute_batch(
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
                 CREATE TABLE IF NOT EXISTS rows (number INTEGER PRIMARY KEY, content BLOB, seen INTEGER);
                 CREATE TABLE IF NOT EXISTS last (number INTEGER);
                 INSERT INTO last SELECT 0 WHERE NOT EXISTS (SELECT 1 FROM last);",
            )
            .unwrap();
        let number = connection.query_row("SELECT number FROM last", [], |row| row.get(0)).unwrap();
        Self { connection, number }
    }

    /// How soon SQLite itself moves the log into the file.
    pub(crate) fn checkpoints_after(&self, pages: u32) {
        self.connection.pragma_update(None, "wal_autocheckpoint", pages).unwrap();
    }

    pub(crate) fn write(&mut self) {
        let number = self.number + 1;
        let transaction = self.connection.transaction().unwrap();
        transaction
            .execute("INSERT INTO rows VALUES (?1, ?2, ?1)", (number, content(number)))
            .unwrap();
        transaction
            .execute("UPDATE rows SET seen = ?1 WHERE number = ?2", (number, number * 7 / 10))
            .unwrap();
        if number % 3 == 0 {
            transaction.execute("DELETE FROM rows WHERE number = ?1", [number / 3 * 2]).unwrap();
        }
        transaction.execute("UPDATE last SET number = ?1", [number]).unwrap();
        transaction.commit().unwrap();
        self.number = number;
    }

    /// Moves everything into the file.
    pub(crate) fn settle(&self) {
        let busy: i64 = self
            .connection
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .unwrap();
        assert_eq!(busy, 0);
    }
}

/// The number of the last transaction, if all that it and those before it did is there and nothing else.
pub(crate) fn check(data: &Path) -> i64 {
    let connection = Connection::open(data.join("patchwright.db")).unwrap();
    let whole: String =
        connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(whole, "ok");
    let last: i64 = connection.query_row("SELECT number FROM last", [], |row| row.get(0)).unwrap();
    let mut statement =
        connection.prepare("SELECT number, content, seen FROM rows ORDER BY number").unwrap();
    let mut rows = statement.query([]).unwrap();
    let mut expected = (1..=last).filter(|number| {
        // Row N goes with transaction M, if M is the multiple of three with M / 3 * 2 = N.
        number % 2 != 0 || number / 2 * 3 > last
    });
    while let Some(row) = rows.next().unwrap() {
        let number: i64 = row.get(0).unwrap();
        assert_eq!(Some(number), expected.next());
        assert_eq!(row.get::<_, Vec<u8>>(1).unwrap(), content(number));
        let seen: i64 = row.get(2).unwrap();
        assert!((number..=last).contains(&seen));
    }
    assert_eq!(expected.next(), None);
    last
}

/// Objects in a directory, of which one call fails, before or after it had its effect.
pub(crate) struct Faulty {
    pub(crate) directory: Directory,
    left: AtomicI64,
    is_done: bool,
}

impl Faulty {
    pub(crate) fn new(path: &Path, calls: i64, is_done: bool) -> Arc<Self> {
        let directory = Directory::open(path).unwrap();
        Arc::new(Self { directory, left: AtomicI64::new(calls), is_done })
    }

    /// From a certain call on all fail, as they do for a process that was killed.
    fn alter(&self, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left < 0 || left == 0 && !self.is_done {
            return Err(io::Error::other("killed"));
        }
        call()?;
        if left == 0 { Err(io::Error::other("killed")) } else { Ok(()) }
    }

    pub(crate) fn was_reached(&self) -> bool {
        self.left.load(Ordering::SeqCst) < 0
    }
}

impl Objects for Faulty {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.alter(|| self.directory.put(name, bytes))
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.directory.read(name, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.directory.size(name)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.alter(|| self.directory.delete(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }
}

/// An installation, and where it is backed up.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) data: PathBuf,
    pub(crate) repository: PathBuf,
}

pub(crate) const SECRET: [u8; 32] = [7; 32];
pub(crate) const MASTER: [u8; 32] = [9; 32];

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, repository) = (folder.path().join("data"), folder.path().join("repository"));
        std::fs::create_dir_all(data.join("history")).unwrap();
        Self { folder, data, repository }
    }

    pub(crate) fn source(&self) -> Source {
        let database = Some(self.data.join("patchwright.db"));
        Source { data: self.data.clone(), database, with_images: true }
    }

    pub(crate) fn begin(&self) -> Backup {
        self.begin_on(Repository::directory(&self.repository).unwrap()).unwrap()
    }

    pub(crate) fn begin_on(
        &self,
        objects: Arc<dyn Objects>,
    ) -> Result<Backup, backup::BackupError> {
        let (repository, writing) =
            Repository::adopt(objects, &Secret::new(MASTER), vec![Secret::new(SECRET)], random)?;
        Backup::begin(repository, writing, self.source())
    }

    pub(crate) fn open(&self) -> Repository {
        let objects = Repository::directory(&self.repository).unwrap();
        Repository::open(objects, &Secret::new(MASTER), random).unwrap()
    }

    /// Brings a backup back and tells its last transaction.
    pub(crate) fn restored(&self, manifest: &Manifest) -> i64 {
        let into = tempfile::tempdir_in(self.folder.path()).unwrap();
        let into = into.path().join("restored");
        self.open().restore(manifest, &into).unwrap();
        check(&into)
    }
}

/// The seconds of a clock that somebody sets.
pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}
