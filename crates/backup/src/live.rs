//! A database that somebody writes, read at the end of a transaction without being in the way.
//!
//! SQLite's own locks make it still: a reader's mark in the write-ahead log. While one is held,
//! - what a checkpoint writes into the database's file is in the log up to the mark, too: reading a page from the log
//!   first, and from the file otherwise, gives the state as of any transaction at or after the mark;
//! - the log is begun anew at most once, and not before all of it is in the file. So whoever has read it to its end, and
//!   has held a mark since before that, misses nothing: what the log holds then is all that is new.
//!
//! There is always a mark: the next one is set before the last is given up. Because no log can be begun anew under it,
//! this makes room from time to time ([`LiveDatabase::look`]): with the writer's lock, for as long as the rest of the log
//! takes to move into the file.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::error::{BackupError, Result};
use crate::wal::{Log, Position};

/// Pages that are kept and compared together.
pub(crate) const PAGES: u32 = 16;

/// So many frames in the log, and room is made: 16 MiB of pages of 4 KiB.
const LONG: u32 = 4096;

/// So many that it is worth a look at everything to be rid of them: 1 GiB.
const TOO_LONG: u32 = 64 * LONG;

/// After so many looks room is made however short the log is.
const MANY: u32 = 30;

/// How long others of SQLite's locks are waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a gap between two transactions is waited for.
const TURN: Duration = Duration::from_secs(1);

/// SQLite keeps nothing in the page that holds this byte.
const LOCK_BYTE: u64 = 0x4000_0000;

/// Files of databases that were opened here. None is ever closed: closing any descriptor of a file gives up all locks
/// that this process has on it (POSIX), and SQLite's are among them.
static OPENED: Mutex<Option<Opened>> = Mutex::new(None);

/// By device and inode.
type Opened = HashMap<(u64, u64), Arc<File>>;

/// The database's file, opened once in this process.
fn opened(path: &Path) -> io::Result<Arc<File>> {
    let metadata = std::fs::metadata(path)?;
    let identity = (metadata.dev(), metadata.ino());
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let files = opened.get_or_insert_with(HashMap::new);
    if let Some(file) = files.get(&identity) {
        return Ok(Arc::clone(file));
    }
    let file = Arc::new(File::open(path)?);
    // Another file may have taken the path in between; it is kept open all the same.
    let metadata = file.metadata()?;
    files.insert((metadata.dev(), metadata.ino()), Arc::clone(&file));
    Ok(file)
}

/// A database that is looked at again and again.
#[derive(Debug)]
pub(crate) struct LiveDatabase {
    path: PathBuf,
    file: Arc<File>,
    page_size: u32,
    /// Holds a mark, where `seen` says so.
    holding: Connection,
    resting: Connection,
    writing: Connection,
    seen: Option<Seen>,
    /// What altered and was not told yet.
    untold: BTreeSet<u32>,
    /// Looks since room was made.
    looks: u32,
}

/// How far the log was read, under a mark that has been held since before.
#[derive(Debug, Clone, Copy)]
enum Seen {
    /// There was nothing in it.
    Empty,
    To(Position),
}

/// What there is since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Altered {
    /// It is not known what.
    Anything,
    /// These pages at most.
    Pages(BTreeSet<u32>),
}

/// A database at the end of a transaction.
#[derive(Debug)]
pub(crate) struct Look {
    file: Arc<File>,
    log: Option<Log>,
    pub(crate) page_size: u32,
    pub(crate) pages: u32,
    pub(crate) altered: Altered,
}

impl LiveDatabase {
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let connect = || -> Result<Connection> {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(PATIENCE)?;
            // Checkpoints are made where this says so.
            connection.execute_batch("PRAGMA wal_autocheckpoint = 0")?;
            Ok(connection)
        };
        let holding = connect()?;
        let mode: String = holding.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
        if mode != "wal" {
            return Err(BackupError::damaged("the database's way of writing"));
        }
        let page_size = holding.query_row("PRAGMA page_size", [], |row| row.get(0))?;
        let file = opened(path).map_err(BackupError::file(path))?;
        let writing = connect()?;
        writing.busy_timeout(Duration::ZERO)?;
        Ok(Self {
            path: path.to_owned(),
            file,
            page_size,
            holding,
            resting: connect()?,
            writing,
            seen: None,
            untold: BTreeSet::new(),
            looks: 0,
        })
    }

    /// The database as it is now: at least all that was committed before.
    pub(crate) fn look(&mut self) -> Result<Look> {
        mark(&self.resting)?;
        let looked = self.look_marked();
        std::mem::swap(&mut self.holding, &mut self.resting);
        // Now the one before is given up, if there is one.
        release(&self.resting)?;
        let look = match looked {
            Ok(look) => look,
            Err(error) => {
                self.forget();
                return Err(error);
            }
        };
        Ok(look)
    }

    fn look_marked(&mut self) -> Result<Look> {
        let log = self.read_log()?;
        let altered = self.advance(log.as_ref());
        let altered = match altered {
            None => {
                self.untold.clear();
                Altered::Anything
            }
            Some(pages) => {
                let mut all = std::mem::take(&mut self.untold);
                all.extend(pages);
                Altered::Pages(all)
            }
        };
        let length = self.file.metadata().map_err(BackupError::file(&self.path))?.len();
        let in_file = u32::try_from(length / u64::from(self.page_size)).unwrap_or(u32::MAX);
        let pages = log.as_ref().and_then(|log| log.pages).unwrap_or(in_file);
        Ok(Look { file: Arc::clone(&self.file), log, page_size: self.page_size, pages, altered })
    }

    /// Notes how far the log was read, and tells which pages are new in it, if that is known.
    fn advance(&mut self, log: Option<&Log>) -> Option<Vec<u32>> {
        let altered = match (self.seen, log) {
            (None, _) => None,
            // All of it went into the file after it was read to its end.
            (Some(_), None) => Some(Vec::new()),
            (Some(Seen::Empty), Some(log)) => Some(log.all().collect()),
            (Some(Seen::To(_)), Some(log)) => log.altered().map(Iterator::collect),
        };
        self.seen = Some(log.map_or(Seen::Empty, |log| Seen::To(log.end)));
        altered
    }

    fn read_log(&self) -> Result<Option<Log>> {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        let path = PathBuf::from(path);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(BackupError::File { path, source }),
        };
        let before = match &self.seen {
            Some(Seen::To(position)) => Some(position),
            _ => None,
        };
        Log::read(file, before).map_err(BackupError::file(path))
    }

    /// What a look told was not kept: its log was begun anew while it was read. The next one tells it, too.
    pub(crate) fn take_back(&mut self, look: Look) {
        match look.altered {
            Altered::Anything => self.forget(),
            Altered::Pages(pages) => self.untold.extend(pages),
        }
    }

    /// The next look knows nothing of what was before.
    fn forget(&mut self) {
        self.seen = None;
        self.untold.clear();
    }

    /// Lets the log be begun anew where it is long. Nobody writes for as long as that takes; where somebody else reads
    /// what is old, it is left for another time.
    pub(crate) fn make_room(&mut self, look: &Look) -> Result<()> {
        self.looks += 1;
        let length = look.log.as_ref().map_or(0, Log::length);
        let is_due = length >= LONG || length > 0 && self.looks >= MANY;
        if !is_due || self.seen.is_none() {
            return Ok(());
        }
        self.looks = 0;
        // Most of it, while others write on.
        checkpoint(&self.resting)?;
        if !self.takes_turn() {
            // For ever it cannot grow: the next look holds everything against what was there, then.
            if length > TOO_LONG {
                self.forget();
                release(&self.holding)?;
            }
            return Ok(());
        }
        let moved = self.move_all();
        let ended = release(&self.writing);
        if moved.is_err() {
            self.forget();
        }
        moved.and(ended)?;
        // What was overwritten, keys that were destroyed among it, goes from the disk, where nobody reads or writes just
        // now. The mark stays, so nothing is missed.
        self.resting.busy_timeout(Duration::ZERO)?;
        let busy = self.resting.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0));
        self.resting.busy_timeout(PATIENCE)?;
        match busy {
            // Nothing was in it that was not read, or the mark would have kept it: whatever comes is new, also under
            // salts that do not follow on those before.
            Ok(0_i64) => {
                self.seen = self.seen.map(|_| Seen::Empty);
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => match error.sqlite_error_code() {
                Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Ok(()),
                _ => Err(error.into()),
            },
        }
    }

    /// Takes the writer's lock between two transactions of whoever writes. Asking seldom, as SQLite's own waiting does,
    /// never meets the gap between those of somebody who writes all the time.
    fn takes_turn(&self) -> bool {
        let end = Instant::now() + TURN;
        while Instant::now() < end {
            if self.writing.execute_batch("BEGIN IMMEDIATE").is_ok() {
                return true;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        false
    }

    /// With the writer's lock: nothing is added, and nobody begins the log anew, whoever reads.
    fn move_all(&mut self) -> Result<()> {
        let log = self.read_log()?;
        match self.advance(log.as_ref()) {
            Some(pages) => self.untold.extend(pages),
            None => self.forget(),
        }
        drop(log);
        release(&self.holding)?;
        let moved = checkpoint(&self.resting);
        // Without this mark nothing would be known of what comes after.
        mark(&self.holding)?;
        moved
    }
}

impl Look {
    /// Reads pages from a first one on, as many as the buffer takes, or as there are.
    pub(crate) fn read(&self, first: u32, count: u32, into: &mut [u8]) -> Result<()> {
        let size = self.page_size as usize;
        let at = u64::from(first - 1) * u64::from(self.page_size);
        let in_file = read_at(&self.file, into, at).map_err(BackupError::file("the database"))?;
        into[in_file..].fill(0);
        let logged = match &self.log {
            None => Vec::new(),
            Some(log) => {
                let logged = log.among(first..=first + (count - 1));
                for page in &logged {
                    let start = (page - first) as usize * size;
                    log.page(*page, &mut into[start..start + size])
                        .map_err(BackupError::file("the database's log"))?;
                }
                logged
            }
        };
        // What is in neither would be zeros that nobody wrote.
        let lacking = u32::try_from(in_file / size).unwrap_or(u32::MAX);
        let lock_page = u32::try_from(LOCK_BYTE / u64::from(self.page_size)).unwrap_or(0) + 1;
        for page in first.saturating_add(lacking)..first + count {
            if page != lock_page && logged.binary_search(&page).is_err() {
                return Err(BackupError::Moved);
            }
        }
        Ok(())
    }

    /// Whether what was read is what there was.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.log {
            None => Ok(()),
            Some(log) => match log.is_still_there() {
                Ok(true) => Ok(()),
                Ok(false) => Err(BackupError::Moved),
                Err(error) => Err(BackupError::file("the database's log")(error)),
            },
        }
    }
}

/// As many bytes as there are.
fn read_at(file: &File, into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut done = 0;
    while done < into.len() {
        match file.read_at(&mut into[done..], at + done as u64) {
            Ok(0) => break,
            Ok(more) => done += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Sets a reader's mark.
fn mark(connection: &Connection) -> Result<()> {
    connection.execute_batch("BEGIN")?;
    let read = connection.query_row("SELECT COUNT(*) FROM sqlite_schema", [], |_| Ok(()));
    if let Err(error) = read {
        release(connection)?;
        return Err(error.into());
    }
    Ok(())
}

/// Gives up a mark, or the writer's lock.
fn release(connection: &Connection) -> Result<()> {
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    Ok(())
}

/// Moves what nobody needs there any more from the log into the file.
fn checkpoint(connection: &Connection) -> Result<()> {
    Ok(connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?)
}
