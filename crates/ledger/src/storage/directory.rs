//! A log in a directory: what a web server serves, what an export is.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use super::{ReadStorage, Storage, StorageError};

/// Name of the lock's file; no resource of a log begins with a dot.
const LOCK: &str = ".lock";

/// Nobody else writes in a log's directory while this lives.
#[derive(Debug)]
pub struct DirectoryLock {
    /// The lock goes with it, also when the process is killed.
    _file: File,
}

/// A log in a directory.
#[derive(Debug, Clone)]
pub struct Directory {
    root: PathBuf,
}

impl Directory {
    /// The log in this directory; writing makes it where it is missing.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Keeps other writers of this directory away for as long as the answer lives; waits for those
    /// before. Several processes may believe that it is their turn; only one is in at a time.
    ///
    /// # Errors
    /// If the lock's file cannot be made or locked.
    pub fn lock(&self) -> io::Result<DirectoryLock> {
        make_folder(&self.root)?;
        let file = File::create(self.root.join(LOCK))?;
        file.lock()?;
        Ok(DirectoryLock { _file: file })
    }

    /// A path below the root, never beside it.
    fn place(&self, path: &str) -> io::Result<PathBuf> {
        let inside = Path::new(path);
        if path.is_empty() || !inside.components().all(|part| matches!(part, Component::Normal(_)))
        {
            let message = "the path leads out of the log";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(self.root.join(inside))
    }

    fn read(&self, path: &str, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let file = match File::open(self.place(path)?) {
            Ok(file) => file,
            Err(error) if is_missing(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Beside its place, flushed, renamed, and the rename flushed: after a loss of power there is
    /// the old file or the new one, never a piece.
    fn write(&self, path: &str, bytes: &[u8]) -> io::Result<()> {
        let place = self.place(path)?;
        let folder = place.parent().unwrap_or(&self.root);
        make_folder(folder)?;
        let mut name = place.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = folder.join(name);
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &place)?;
        flush_folder(folder)
    }

    fn names(&self, folder: &str) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(self.place(folder)?) {
            Ok(entries) => entries,
            Err(error) if is_missing(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file()
                && let Ok(name) = entry.file_name().into_string()
            {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn delete(&self, path: &str) -> io::Result<()> {
        let place = self.place(path)?;
        match fs::remove_file(&place) {
            Err(error) if !is_missing(&error) => return Err(error),
            _ => {}
        }
        // The folder of a tile's partial states goes with the last of them; any other is not empty.
        if let Some(folder) = place.parent() {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

impl ReadStorage for Directory {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        match self.read(path, limit) {
            Ok(Some(bytes)) if bytes.len() > limit => Err(StorageError::too_long(path, limit)),
            Ok(bytes) => Ok(bytes),
            Err(source) => Err(failed("read", path, source)),
        }
    }

    fn list(&self, folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        self.names(folder).map(Some).map_err(|source| failed("list", folder, source))
    }
}

impl Storage for Directory {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.write(path, bytes).map_err(|source| failed("write", path, source))
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.delete(path).map_err(|source| failed("remove", path, source))
    }
}

fn failed(action: &'static str, path: &str, source: io::Error) -> StorageError {
    StorageError { action, path: path.to_owned(), source }
}

/// `tile/0/000` may be a file while `tile/0/000/001` is asked for.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Makes a folder and those above it; each becomes durable in its parent.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(Path::new(""));
    make_folder(parent)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => flush_folder(parent),
    }
}

fn flush_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_is_there_and_replaced_whole() {
        let root = tempfile::tempdir().unwrap();
        let log = Directory::new(root.path().join("new/log"));

        assert!(log.get("tile/0/000", 9).unwrap().is_none());
        log.put("tile/0/000", b"one").unwrap();
        log.put("tile/0/000", b"two").unwrap();

        assert_eq!(log.get("tile/0/000", 9).unwrap().unwrap(), b"two");
        assert_eq!(log.list("tile/0").unwrap().unwrap(), ["000"]);
        log.remove("tile/0/000").unwrap();
        log.remove("tile/0/000").unwrap();
        assert!(log.get("tile/0/000", 9).unwrap().is_none());
        assert!(log.list("tile/0").unwrap().unwrap().is_empty());
    }

    #[test]
    fn a_long_file_is_refused_and_not_cut() {
        let root = tempfile::tempdir().unwrap();
        let log = Directory::new(root.path());
        log.put("checkpoint", b"12345").unwrap();

        assert!(log.get("checkpoint", 5).unwrap().is_some());
        let refused = log.get("checkpoint", 4).unwrap_err();
        assert_eq!(refused.source.kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn one_writer_waits_for_another() {
        let root = tempfile::tempdir().unwrap();
        let log = Directory::new(root.path().join("log"));
        let held = log.lock().unwrap();

        let other = File::open(root.path().join("log").join(LOCK)).unwrap();
        assert!(matches!(other.try_lock(), Err(fs::TryLockError::WouldBlock)));
        drop(held);
        assert!(other.try_lock().is_ok());
    }

    #[test]
    fn no_path_leads_out() {
        let log = Directory::new("log");

        for path in ["../secret", "/etc/passwd", "tile/../../x", "", "./x"] {
            assert!(log.get(path, 9).is_err(), "{path}");
            assert!(log.put(path, b"").is_err(), "{path}");
        }
    }
}
