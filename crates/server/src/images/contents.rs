//! Bytes of images, by their hash: `sha256/ab/abcdef…`.
//!
//! What comes in is written beside its place and renamed when it is whole and on the disk; nothing
//! half is ever seen under a hash. Whose bytes they are is for the store to say. Several processes
//! may share the directory: whoever takes bytes in holds its lock together with others, from the
//! renaming until the store knows of them, and whoever removes some holds it alone.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest as _, Sha256};

/// What the names of files that are not whole begin with.
const UNFINISHED: &str = ".new-";

/// Read at once.
const CHUNK: usize = 1 << 20;

/// A directory of images' bytes.
#[derive(Debug)]
pub(super) struct Contents {
    directory: PathBuf,
    largest: u64,
}

/// Why bytes are not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum ContentError {
    #[error("the image is larger than {largest} bytes")]
    TooLarge { largest: u64 },
    #[error("the disk of the images is full")]
    Full,
    #[error("the transfer was cut off, or too slow")]
    Cut,
    #[error("the directory of the images failed")]
    Io(#[source] io::Error),
}

impl From<io::Error> for ContentError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Io(error),
        }
    }
}

impl Contents {
    /// Opens a directory, makes what is missing and removes what a killed process left half.
    pub(super) fn open(directory: &Path, largest: u64) -> io::Result<Self> {
        let contents = Self { directory: directory.to_owned(), largest };
        DirBuilder::new().recursive(true).mode(0o700).create(contents.root())?;
        let _alone = contents.alone()?;
        for entry in fs::read_dir(contents.root())? {
            let path = entry?.path();
            let is_unfinished =
                path.file_name().is_some_and(|it| it.to_string_lossy().starts_with(UNFINISHED));
            // Whoever still writes it holds it.
            if is_unfinished && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
                remove_if_any(&path)?;
            }
        }
        Ok(contents)
    }

    /// Where bytes lie, if they are here.
    pub(super) fn path(&self, sha256: &str) -> PathBuf {
        let shard = sha256.get(..2).unwrap_or("xx");
        self.root().join(shard).join(sha256)
    }

    /// Bytes, for reading.
    pub(super) fn read(&self, sha256: &str) -> io::Result<File> {
        File::open(self.path(sha256))
    }

    /// A file for bytes that come in.
    pub(super) fn incoming(&self) -> Result<Incoming, ContentError> {
        let _together = self.together()?;
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
        let name = format!("{UNFINISHED}{:016x}", u64::from_be_bytes(random));
        let path = self.root().join(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let file = Unplaced { path, file: Some(file) };
        file.file.as_ref().map(File::lock).transpose()?;
        Ok(Incoming { file, hash: Sha256::new(), size: 0, largest: self.largest })
    }

    /// A file that somebody made for us: it is ours from now on. Without copying it, where it lies on
    /// the same disk.
    pub(super) fn adopt(&self, path: &Path) -> Result<Arrived, ContentError> {
        let mut source = File::open(path)?;
        let ours = Unplaced { path: path.to_owned(), file: None };
        let mut hash = Sha256::new();
        let mut size = 0_u64;
        let mut buffer = vec![0; CHUNK];
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            size += read as u64;
            if size > self.largest {
                return Err(ContentError::TooLarge { largest: self.largest });
            }
            hash.update(&buffer[..read]);
        }
        source.set_permissions(Permissions::from_mode(0o400))?;
        source.sync_all()?;
        let sha256 = hex(&hash.finalize());
        let arrived = Arrived { file: ours, sha256, size };
        if is_on_one_disk(path, &self.root())? {
            return Ok(arrived);
        }
        // Elsewhere: copied, and hashed again on the way.
        let mut source = File::open(path)?;
        let mut incoming = self.incoming()?;
        loop {
            let read = source.read(&mut buffer)?;
            if read == 0 {
                return incoming.finish();
            }
            incoming.write(&buffer[..read])?;
        }
    }

    /// Gives bytes their place. Whoever calls holds the lock, until the store knows of them.
    pub(super) fn place(&self, mut arrived: Arrived, _held: &Held) -> io::Result<()> {
        let place = self.path(&arrived.sha256);
        let shard = place.parent().unwrap_or(&self.directory);
        // The same content once; one that lost its length in a crash of the machine is mended.
        if fs::metadata(&place).is_ok_and(|known| known.len() == arrived.size) {
            return File::open(&place)?.set_modified(SystemTime::now());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(shard)?;
        fs::rename(&arrived.file.path, &place)?;
        arrived.file.path = PathBuf::new();
        File::open(&place)?.set_modified(SystemTime::now())?;
        File::open(shard)?.sync_all()?;
        File::open(self.root())?.sync_all()
    }

    /// Removes bytes; nothing happens where there are none.
    pub(super) fn remove(&self, sha256: &str, _held: &Alone) -> io::Result<()> {
        remove_if_any(&self.path(sha256))
    }

    /// The hashes of all bytes that got their place before an instant. Whose later ones are, the
    /// store may not have heard yet: whoever told it may be gone, and what was told still on its way.
    pub(super) fn placed_before(&self, before: SystemTime) -> io::Result<Vec<String>> {
        let mut all = Vec::new();
        for shard in fs::read_dir(self.root())? {
            let shard = shard?;
            if !shard.file_type()?.is_dir() {
                continue;
            }
            for file in fs::read_dir(shard.path())? {
                let file = file?;
                if file.metadata()?.modified()? < before {
                    all.extend(file.file_name().into_string());
                }
            }
        }
        Ok(all)
    }

    /// Holds the directory together with others that take bytes in.
    pub(super) fn together(&self) -> io::Result<Held> {
        let file = self.lock_file()?;
        file.lock_shared()?;
        Ok(Held { _file: file })
    }

    /// Holds the directory alone.
    pub(super) fn alone(&self) -> io::Result<Alone> {
        let file = self.lock_file()?;
        file.lock()?;
        Ok(Alone { _file: file })
    }

    fn lock_file(&self) -> io::Result<File> {
        let path = self.directory.join(".lock");
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
    }

    fn root(&self) -> PathBuf {
        self.directory.join("sha256")
    }
}

/// The directory, held together with others. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _file: File,
}

/// The directory, held alone. Given back when it is dropped.
#[derive(Debug)]
pub(super) struct Alone {
    _file: File,
}

/// A file without a place, which goes away unless it gets one.
#[derive(Debug)]
struct Unplaced {
    /// Empty once it has its place.
    path: PathBuf,
    file: Option<File>,
}

impl Drop for Unplaced {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty()
            && let Err(error) = remove_if_any(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "a file stays until the next start");
        }
    }
}

/// Bytes that come in.
#[derive(Debug)]
pub(super) struct Incoming {
    file: Unplaced,
    hash: Sha256,
    size: u64,
    largest: u64,
}

impl Incoming {
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), ContentError> {
        self.size += bytes.len() as u64;
        if self.size > self.largest {
            return Err(ContentError::TooLarge { largest: self.largest });
        }
        self.hash.update(bytes);
        if let Some(file) = &mut self.file.file {
            file.write_all(bytes)?;
        }
        Ok(())
    }

    /// All of them are here, and on the disk.
    pub(super) fn finish(self) -> Result<Arrived, ContentError> {
        if let Some(file) = &self.file.file {
            file.set_permissions(Permissions::from_mode(0o400))?;
            file.sync_all()?;
        }
        let sha256 = hex(&self.hash.finalize());
        Ok(Arrived { file: self.file, sha256, size: self.size })
    }
}

/// Bytes that are here as a whole, and have no place yet.
#[derive(Debug)]
pub(super) struct Arrived {
    file: Unplaced,
    /// Their hash.
    pub(super) sha256: String,
    /// How many there are.
    pub(super) size: u64,
}

impl Arrived {
    pub(super) fn path(&self) -> &Path {
        &self.file.path
    }
}

fn remove_if_any(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

fn is_on_one_disk(one: &Path, other: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt as _;
    Ok(fs::metadata(one)?.dev() == fs::metadata(other)?.dev())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;
    use std::time::Duration;

    use super::*;

    fn open(directory: &Path) -> Contents {
        Contents::open(directory, 100).unwrap()
    }

    fn arrived(contents: &Contents, bytes: &[u8]) -> Arrived {
        let mut incoming = contents.incoming().unwrap();
        for part in bytes.chunks(3) {
            incoming.write(part).unwrap();
        }
        incoming.finish().unwrap()
    }

    fn place(contents: &Contents, arrived: Arrived) {
        contents.place(arrived, &contents.together().unwrap()).unwrap();
    }

    fn all(contents: &Contents) -> Vec<String> {
        contents.placed_before(SystemTime::now() + Duration::from_secs(60)).unwrap()
    }

    fn files(directory: &Path) -> usize {
        fs::read_dir(directory.join("sha256"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_file())
            .count()
    }

    /// `printf abc | sha256sum`
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn bytes_have_their_place_by_their_hash_and_once() {
        let directory = tempfile::tempdir().unwrap();
        let contents = open(directory.path());

        place(&contents, arrived(&contents, b"abc"));
        let first = fs::metadata(contents.path(ABC)).unwrap();
        place(&contents, arrived(&contents, b"abc"));

        assert_eq!(fs::metadata(contents.path(ABC)).unwrap().ino(), first.ino());
        assert_eq!(first.permissions().mode() & 0o777, 0o400);
        assert!(contents.path(ABC).ends_with(format!("sha256/ba/{ABC}")));
        assert_eq!(all(&contents), [ABC]);
        assert_eq!(files(directory.path()), 0, "nothing is left beside it");
        contents.remove(ABC, &contents.alone().unwrap()).unwrap();
        assert!(contents.read(ABC).is_err());
    }

    #[test]
    fn nothing_half_stays_and_nothing_too_large_is_taken() {
        let directory = tempfile::tempdir().unwrap();
        let contents = open(directory.path());

        let mut cut = contents.incoming().unwrap();
        cut.write(b"half").unwrap();
        assert_eq!(files(directory.path()), 1);
        drop(cut);
        assert_eq!(files(directory.path()), 0);

        let mut large = contents.incoming().unwrap();
        large.write(&[0; 100]).unwrap();
        assert!(matches!(large.write(&[0]), Err(ContentError::TooLarge { largest: 100 })));
        drop(large);
        drop(arrived(&contents, b"refused later"));
        assert_eq!(files(directory.path()), 0);
        assert!(all(&contents).is_empty());
    }

    #[test]
    fn what_a_killed_process_left_goes_and_what_another_one_writes_stays() {
        let directory = tempfile::tempdir().unwrap();
        let contents = open(directory.path());
        let writing = contents.incoming().unwrap();
        fs::write(directory.path().join("sha256/.new-left"), b"half").unwrap();

        let next = open(directory.path());

        assert_eq!(files(directory.path()), 1, "only the one that is still written");
        place(&next, writing.finish().unwrap());
        assert_eq!(all(&next).len(), 1);
    }

    #[test]
    fn what_was_made_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let contents = open(directory.path());
        let made = directory.path().join("made.qcow2");
        fs::write(&made, b"abc").unwrap();

        let arrived = contents.adopt(&made).unwrap();
        assert_eq!((arrived.sha256.as_str(), arrived.size), (ABC, 3));
        place(&contents, arrived);

        assert!(!made.exists());
        assert_eq!(fs::read(contents.path(ABC)).unwrap(), b"abc");
        fs::write(&made, [0; 101]).unwrap();
        assert!(matches!(contents.adopt(&made), Err(ContentError::TooLarge { .. })));
        assert!(!made.exists(), "nor is what is not taken left behind");
    }

    #[test]
    fn bytes_are_young_again_when_somebody_brings_them_again() {
        let directory = tempfile::tempdir().unwrap();
        let contents = open(directory.path());
        let hour = Duration::from_secs(3600);
        place(&contents, arrived(&contents, b"abc"));
        let file = contents.read(ABC).unwrap();
        file.set_modified(SystemTime::now() - 2 * hour).unwrap();
        let old = || contents.placed_before(SystemTime::now() - hour).unwrap();
        assert_eq!(old(), [ABC]);

        place(&contents, arrived(&contents, b"abc"));

        assert!(old().is_empty());
    }

    #[test]
    fn bytes_that_lost_their_length_are_mended() {
        let directory = tempfile::tempdir().unwrap();
        let contents = open(directory.path());
        place(&contents, arrived(&contents, b"abc"));
        fs::remove_file(contents.path(ABC)).unwrap();
        fs::write(contents.path(ABC), b"").unwrap();

        place(&contents, arrived(&contents, b"abc"));

        assert_eq!(fs::read(contents.path(ABC)).unwrap(), b"abc");
    }
}
