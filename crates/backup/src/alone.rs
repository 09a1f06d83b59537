//! One writer at a time, where a repository is no directory and nothing locks: leases, which are objects.
//!
//! ```text
//! writer-UNTIL-HOLDER put ─► is there another's that has not ended? ─ yes ─► taken away again: held by another
//!                                        └ no ─► put anew each minute; gone at the end
//! ```
//! A lease is put before others' are looked for, so of two that come at once one at least sees the other. Whoever lost its
//! own writes nothing more. Clocks of hosts that write may differ by less than a lease is long.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use history::Objects;
use jiff::{SignedDuration, Timestamp};

use crate::error::{BackupError, Result};
use crate::keys::Random;
use crate::picture::text;

/// How long a lease is good.
const LEASE: SignedDuration = SignedDuration::from_mins(5);

/// How often it is put anew.
const EVERY: Duration = Duration::from_secs(60);

/// What leases' names begin with.
const BEGINNING: &str = "writer-";

/// What time it is.
pub type Clock = fn() -> Timestamp;

/// Nobody else writes into a repository while this lives.
#[derive(Debug)]
pub struct Alone {
    // Ended before the file is given up: the next one's lease is not in its way then.
    _renewing: Option<Renewing>,
    _file: File,
}

#[derive(Debug)]
struct Renewing {
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Alone {
    pub(crate) const fn by(file: File) -> Self {
        Self { _renewing: None, _file: file }
    }
}

impl Drop for Renewing {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // It takes the lease away; if it could not, the lease ends by itself.
            let _ = thread.join();
        }
    }
}

/// Keeps a repository's objects for one writer, on whichever host: what is written through the objects that come back is written
/// under its lease, or refused. The file, on this host, tells who that is, so that whoever was killed need not wait for itself.
pub(crate) fn lease(
    objects: Arc<dyn Objects>,
    file: &Path,
    place: &str,
    clock: Clock,
    random: Random,
) -> Result<(Arc<dyn Objects>, Alone)> {
    let held = || BackupError::Held { path: place.into() };
    let (file, holder) = holder(file, held, random)?;
    let lease = Arc::new(Lease {
        objects,
        holder,
        clock,
        until: AtomicI64::new(0),
        name: Mutex::new(None),
    });
    let failed = BackupError::object("writer-*");
    if !lease.take().map_err(failed)? {
        return Err(held());
    }
    let (end, ended) = mpsc::channel();
    let renewed = Arc::clone(&lease);
    let thread = thread::spawn(move || {
        while ended.recv_timeout(EVERY) == Err(RecvTimeoutError::Timeout) {
            // What fails is tried again in a minute, and nothing is written once the lease has ended.
            let _ = renewed.put();
        }
        let _ = renewed.give_up();
    });
    let renewing = Renewing { end: Some(end), thread: Some(thread) };
    let lease: Arc<dyn Objects> = lease;
    Ok((lease, Alone { _renewing: Some(renewing), _file: file }))
}

/// The lock of this host, and the name that stands in the file; made where there is none.
fn holder(path: &Path, held: impl Fn() -> BackupError, random: Random) -> Result<(File, String)> {
    let failed = |source| BackupError::File { path: path.to_owned(), source };
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(held()),
        Err(TryLockError::Error(source)) => return Err(failed(source)),
    }
    let mut known = String::new();
    (&mut file).take(64).read_to_string(&mut known).map_err(failed)?;
    if known.len() == 24 && known.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok((file, known));
    }
    let mut bytes = [0; 12];
    random(&mut bytes);
    let made = text(&bytes);
    let emptied = file.set_len(0).and_then(|()| file.rewind());
    emptied.and_then(|()| file.write_all(made.as_bytes())).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok((file, made))
}

/// Objects of which this process is the one writer, for as long as its lease is good.
struct Lease {
    objects: Arc<dyn Objects>,
    holder: String,
    clock: Clock,
    /// In microseconds; what was put last.
    until: AtomicI64,
    name: Mutex<Option<String>>,
}

impl Lease {
    /// Whether nobody else has one.
    fn take(&self) -> io::Result<bool> {
        if self.others()? {
            return Ok(false);
        }
        self.put()?;
        if self.others()? {
            self.give_up()?;
            return Ok(false);
        }
        Ok(true)
    }

    /// Whether another's has not ended. Those that have are taken away.
    fn others(&self) -> io::Result<bool> {
        let now = (self.clock)().as_microsecond();
        let mut is_held = false;
        for name in self.objects.list()? {
            let Some((until, holder)) =
                name.strip_prefix(BEGINNING).and_then(|rest| rest.split_once('-'))
            else {
                continue;
            };
            let is_own = holder == self.holder;
            let is_over = until.parse::<i64>().is_ok_and(|until| until <= now);
            if is_over || is_own && self.name().as_deref() != Some(&*name) {
                self.objects.delete(&name)?;
            } else if !is_own {
                is_held = true;
            }
        }
        Ok(is_held)
    }

    /// Puts one that ends later, then takes the one before away.
    fn put(&self) -> io::Result<()> {
        let until = (self.clock)().saturating_add(LEASE).map_err(io::Error::other)?;
        let until = until.as_microsecond();
        let name = format!("{BEGINNING}{until}-{}", self.holder);
        let before = self.name();
        if before.as_ref() == Some(&name) {
            return Ok(());
        }
        self.objects.put(&name, b"")?;
        self.until.store(until, Ordering::SeqCst);
        *self.name.lock().unwrap_or_else(PoisonError::into_inner) = Some(name);
        before.map_or(Ok(()), |before| self.objects.delete(&before))
    }

    fn give_up(&self) -> io::Result<()> {
        self.until.store(0, Ordering::SeqCst);
        let name = self.name.lock().unwrap_or_else(PoisonError::into_inner).take();
        name.map_or(Ok(()), |name| self.objects.delete(&name))
    }

    fn name(&self) -> Option<String> {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn check(&self) -> io::Result<()> {
        if (self.clock)().as_microsecond() < self.until.load(Ordering::SeqCst) {
            return Ok(());
        }
        Err(io::Error::other("the lease of the repository has ended: another may write there"))
    }
}

impl Objects for Lease {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        self.objects.put(name, bytes)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.objects.read(name, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.objects.size(name)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.check()?;
        self.objects.delete(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.objects.list()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use history::Directory;

    use super::*;

    thread_local! {
        static NOW: Cell<i64> = const { Cell::new(1_000_000_000_000) };
    }

    fn now() -> Timestamp {
        Timestamp::from_microsecond(NOW.get()).unwrap()
    }

    fn random(bytes: &mut [u8]) {
        bytes.fill(7);
    }

    fn other(bytes: &mut [u8]) {
        bytes.fill(8);
    }

    #[test]
    fn one_writer_at_a_time_on_whichever_host() {
        let folder = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(Directory::open(folder.path().join("o")).unwrap());
        let take = |host: &str, random| {
            lease(Arc::clone(&objects), &folder.path().join(host), "there", now, random)
        };
        let (first, alone) = take("one", random).unwrap();
        first.put("pack-1", b"x").unwrap();
        for host in ["one", "two"] {
            assert!(matches!(take(host, other), Err(BackupError::Held { .. })), "{host}");
        }
        drop(alone);
        // At its end, it is the next one's turn at once.
        let (second, alone) = take("two", other).unwrap();
        assert!(first.put("pack-2", b"x").is_err());
        assert!(first.delete("pack-1").is_err());
        second.put("pack-2", b"x").unwrap();
        std::mem::forget(alone);

        // Who was killed does not wait for itself, others for as long as its lease is good.
        assert!(take("one", random).is_err());
        NOW.set(NOW.get() + i64::try_from(LEASE.as_micros()).unwrap() - 1);
        assert!(take("one", random).is_err());
        assert!(second.put("pack-3", b"x").is_ok());
        NOW.set(NOW.get() + 1);
        assert!(second.put("pack-4", b"x").is_err());
        let (third, alone) = take("one", random).unwrap();
        third.put("pack-4", b"x").unwrap();
        drop(alone);
        let left = objects.list().unwrap();
        assert!(!left.iter().any(|name| name.starts_with(BEGINNING)), "{left:?}");
    }

    #[test]
    fn who_was_killed_goes_on_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(Directory::open(folder.path().join("o")).unwrap());
        objects.put(&format!("{BEGINNING}{}-{}", i64::MAX, "07".repeat(12)), b"").unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "07".repeat(12)).unwrap();
        let (_, alone) = lease(Arc::clone(&objects), &file, "there", now, other).unwrap();
        drop(alone);
        assert!(objects.list().unwrap().is_empty());
    }
}
