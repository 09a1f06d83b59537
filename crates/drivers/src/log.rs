//! A console's log file, read on as it grows.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// As much as is read at once.
const MAX_PIECE: u64 = 256 << 10;

#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    offset: u64,
}

impl Log {
    pub(crate) fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0 }
    }

    /// What came since. A log that is not there yet is empty; one that became shorter was begun
    /// anew (libvirt turns logs over).
    pub(crate) fn read_on(&mut self) -> io::Result<Vec<u8>> {
        let mut file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        if file.metadata()?.len() < self.offset {
            self.offset = 0;
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut piece = Vec::new();
        file.take(MAX_PIECE).read_to_end(&mut piece)?;
        self.offset += piece.len() as u64;
        Ok(piece)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_was_read_does_not_come_again_and_nothing_is_read_whole() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("console.log");
        let mut log = Log::of(&path);

        assert_eq!(log.read_on().unwrap(), b"");
        fs::write(&path, "one").unwrap();
        assert_eq!(log.read_on().unwrap(), b"one");
        fs::write(&path, "one two").unwrap();
        assert_eq!(log.read_on().unwrap(), b" two");
        fs::write(&path, "new").unwrap();
        assert_eq!(log.read_on().unwrap(), b"new");
        fs::write(&path, vec![b'x'; 3 + 300 * 1024]).unwrap();
        assert_eq!(log.read_on().unwrap().len(), 256 * 1024);
        assert_eq!(log.read_on().unwrap().len(), 44 * 1024);
    }
}
