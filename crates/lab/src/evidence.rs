//! Raw evidence, kept by its content: a report that names a hash names exactly these bytes.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A piece of evidence, kept as a file that bears its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EvidenceItem {
    /// What it is: `picture before`, `installation`, `serial console`.
    pub name: String,
    /// SHA-256 in hexadecimal, also the name of its file.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
}

/// Where evidence is kept.
#[derive(Debug)]
pub(crate) struct EvidenceStore {
    directory: PathBuf,
    items: Vec<EvidenceItem>,
}

impl EvidenceStore {
    pub(crate) fn open(directory: &Path) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        Ok(Self { directory: directory.to_owned(), items: Vec::new() })
    }

    /// Keeps a piece; the same bytes are kept once.
    pub(crate) fn keep(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let sha256 = hex(&Sha256::digest(content));
        let path = self.directory.join(&sha256);
        if !path.exists() {
            let mut file = tempfile::NamedTempFile::new_in(&self.directory)?;
            io::Write::write_all(&mut file, content)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
        }
        let bytes = content.len() as u64;
        self.items.push(EvidenceItem { name: name.to_owned(), sha256, bytes });
        Ok(())
    }

    pub(crate) fn into_items(self) -> Vec<EvidenceItem> {
        self.items
    }
}

/// SHA-256 of a file in hexadecimal, and its length.
pub fn digest(path: &Path) -> io::Result<(String, u64)> {
    let mut file = fs::File::open(path)?;
    let (mut hash, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
    loop {
        match io::Read::read(&mut file, &mut piece)? {
            0 => return Ok((hex(&hash.finalize()), bytes)),
            length => {
                hash.update(&piece[..length]);
                bytes += length as u64;
            }
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_bears_its_hash() {
        let place = tempfile::tempdir().unwrap();
        let mut store = EvidenceStore::open(place.path()).unwrap();

        store.keep("one", b"abc").unwrap();
        store.keep("two", b"abc").unwrap();

        let items = store.into_items();
        assert_eq!(items[0].sha256, items[1].sha256);
        assert_eq!(fs::read(place.path().join(&items[0].sha256)).unwrap(), b"abc");
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1);
    }
}
