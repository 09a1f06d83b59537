//! Where sealed objects lie: a directory here, anything with whole puts and ranged reads elsewhere (the room `s3`).

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

/// An object store, as S3 is one: objects are put whole, never altered, read in ranges.
///
/// All calls block; callers with an executor call from a thread that may.
pub trait Objects: Send + Sync {
    /// Keeps an object; it is durable when this returns. The same name again is the same object or an
    /// error.
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()>;

    /// So many bytes from an offset on; an error where there are fewer.
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;

    /// How long an object is.
    fn size(&self, name: &str) -> io::Result<u64>;

    /// Takes an object away; it is no error if there is none.
    fn delete(&self, name: &str) -> io::Result<()>;

    /// The names of all objects, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
}

/// Objects as files of one directory.
#[derive(Debug, Clone)]
pub struct Directory {
    path: PathBuf,
}

/// Ends the names of files that are not objects yet.
const UNFINISHED: &str = ".new";

impl Directory {
    /// Objects in this directory, which is made where it is missing.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::create_dir_all(&path)?;
        Ok(Self { path })
    }

    /// Names come from us alone; one that could lead elsewhere is refused nevertheless.
    fn file(&self, name: &str) -> io::Result<PathBuf> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty()
            || name.len() > 200
            || name.starts_with('.')
            || name.ends_with(UNFINISHED)
            || !name.bytes().all(is_plain)
        {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the name of an object"));
        }
        Ok(self.path.join(name))
    }
}

impl Objects for Directory {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(name)?;
        let beside = self.path.join(format!("{name}{UNFINISHED}"));
        let mut writing =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        writing.write_all(bytes)?;
        writing.sync_all()?;
        fs::rename(&beside, &file)?;
        File::open(&self.path)?.sync_all()
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = File::open(self.file(name)?)?;
        // What an index says of lengths is believed only as far as there are bytes.
        let left = file.metadata()?.len().saturating_sub(offset);
        if left < length as u64 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(fs::metadata(self.file(name)?)?.len())
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.file(name)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(&self.path)?.sync_all(),
        }
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            names.extend(name.into_string().ok().filter(|name| self.file(name).is_ok()));
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_whole_and_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Directory::open(directory.path().join("objects")).unwrap();
        objects.put("a.1", b"0123456789").unwrap();

        assert_eq!(objects.read("a.1", 3, 4).unwrap(), b"3456");
        assert_eq!(objects.size("a.1").unwrap(), 10);
        assert!(objects.read("a.1", 8, 4).is_err());
        assert_eq!(objects.list().unwrap(), ["a.1"]);
        objects.delete("a.1").unwrap();
        objects.delete("a.1").unwrap();
        assert_eq!(objects.read("a.1", 0, 1).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn no_name_leads_elsewhere() {
        let directory = tempfile::tempdir().unwrap();
        let objects = Directory::open(directory.path()).unwrap();

        for name in ["", "..", "../a", "a/b", ".hidden", "a.new", "a\0"] {
            assert!(objects.put(name, b"x").is_err(), "{name:?}");
        }
        std::fs::write(directory.path().join("torn.new"), b"x").unwrap();
        assert!(objects.list().unwrap().is_empty());
    }
}
