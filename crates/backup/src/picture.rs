//! What an installation is made of, in pieces that lie in the repository.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::bytes::{Reader, put_length, put_text};
use crate::error::{BackupError, Result};
use crate::keys::BlobId;
use crate::live::PAGES;

/// Where a blob lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Blob {
    /// In which of the manifest's packs.
    pub(crate) pack: u32,
    pub(crate) offset: u32,
    /// As it lies there.
    pub(crate) length: u32,
    #[serde(with = "hex")]
    pub(crate) id: [u8; 16],
}

/// Bytes of one blob, as they are written.
const BLOB: usize = 4 + 4 + 4 + 16;

impl Blob {
    pub(crate) const fn name(&self) -> BlobId {
        BlobId(self.id)
    }
}

/// One object with blobs behind each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pack {
    pub(crate) name: String,
    pub(crate) size: u64,
    /// BLAKE3 of all its bytes.
    #[serde(with = "hex")]
    pub(crate) hash: [u8; 32],
}

/// A file of the installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileEntry {
    pub(crate) size: u64,
    /// BLAKE3 of its bytes.
    pub(crate) hash: [u8; 32],
    pub(crate) pieces: Vec<Blob>,
}

/// Files by their paths below the data directory.
pub(crate) type Files = BTreeMap<String, FileEntry>;

/// An installation as of a backup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Zero where the database is elsewhere.
    pub(crate) page_size: u32,
    pub(crate) pages: u32,
    /// Of the database's pages, so many in each.
    pub(crate) chunks: Vec<Blob>,
    pub(crate) files: Files,
}

/// What a later backup has otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Increment {
    pub(crate) pages: u32,
    pub(crate) altered: BTreeMap<u32, Vec<u8>>,
    pub(crate) files: Files,
    pub(crate) gone: Vec<String>,
}

/// How many chunks so many pages make.
pub(crate) fn chunks_of(pages: u32) -> usize {
    pages.div_ceil(PAGES) as usize
}

fn put_files(bytes: &mut Vec<u8>, files: &Files) {
    put_length(bytes, files.len());
    for (path, file) in files {
        put_text(bytes, path);
        bytes.extend_from_slice(&file.size.to_le_bytes());
        bytes.extend_from_slice(&file.hash);
        put_blobs(bytes, &file.pieces);
    }
}

fn put_blobs(bytes: &mut Vec<u8>, blobs: &[Blob]) {
    put_length(bytes, blobs.len());
    for blob in blobs {
        for number in [blob.pack, blob.offset, blob.length] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(&blob.id);
    }
}

fn blobs(reader: &mut Reader<'_>) -> Result<Vec<Blob>> {
    let count = reader.count(BLOB)?;
    let mut blobs = Vec::with_capacity(count);
    for _ in 0..count {
        blobs.push(Blob {
            pack: reader.u32()?,
            offset: reader.u32()?,
            length: reader.u32()?,
            id: reader.array()?,
        });
    }
    Ok(blobs)
}

fn files(reader: &mut Reader<'_>) -> Result<Files> {
    let count = reader.count(4 + 8 + 32 + 4)?;
    let mut files = Files::new();
    for _ in 0..count {
        let path = reader.text()?;
        let file = FileEntry { size: reader.u64()?, hash: reader.array()?, pieces: blobs(reader)? };
        files.insert(path, file);
    }
    Ok(files)
}

impl Picture {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.chunks.len() * BLOB + self.files.len() * 200);
        bytes.extend_from_slice(&self.page_size.to_le_bytes());
        bytes.extend_from_slice(&self.pages.to_le_bytes());
        put_blobs(&mut bytes, &self.chunks);
        put_files(&mut bytes, &self.files);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "a backup's picture");
        let picture = Self {
            page_size: reader.u32()?,
            pages: reader.u32()?,
            chunks: blobs(&mut reader)?,
            files: files(&mut reader)?,
        };
        reader.end()?;
        let is_sane = picture.chunks.len() == chunks_of(picture.pages)
            && (picture.page_size == 0 || (512..=65_536).contains(&picture.page_size));
        if is_sane { Ok(picture) } else { Err(BackupError::damaged("a backup's picture")) }
    }

    /// All blobs that it is made of.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Blob> {
        self.chunks.iter().chain(self.files.values().flat_map(|file| &file.pieces))
    }

    /// The same to alter.
    pub(crate) fn blobs_mut(&mut self) -> impl Iterator<Item = &mut Blob> {
        self.chunks.iter_mut().chain(self.files.values_mut().flat_map(|file| &mut file.pieces))
    }
}

impl Increment {
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.pages.to_le_bytes());
        put_length(&mut bytes, self.altered.len());
        for (number, page) in &self.altered {
            bytes.extend_from_slice(&number.to_le_bytes());
            put_length(&mut bytes, page.len());
            bytes.extend_from_slice(page);
        }
        put_files(&mut bytes, &self.files);
        put_length(&mut bytes, self.gone.len());
        for path in &self.gone {
            put_text(&mut bytes, path);
        }
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes, "a backup's increment");
        let pages = reader.u32()?;
        let mut altered = BTreeMap::new();
        for _ in 0..reader.count(8)? {
            let number = reader.u32()?;
            let length = reader.u32()? as usize;
            altered.insert(number, reader.take(length)?.to_vec());
        }
        let files = files(&mut reader)?;
        let mut gone = Vec::new();
        for _ in 0..reader.count(4)? {
            gone.push(reader.text()?);
        }
        reader.end()?;
        Ok(Self { pages, altered, files, gone })
    }

    /// Carries the files over.
    pub(crate) fn apply_files(&self, files: &mut Files) {
        for path in &self.gone {
            files.remove(path);
        }
        files.extend(self.files.iter().map(|(path, file)| (path.clone(), file.clone())));
    }
}

/// Bytes as text.
pub(crate) mod hex {
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::text(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; N];
        if text.len() != 2 * N || !text.is_ascii() {
            return Err(D::Error::custom("not so many bytes"));
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16)
                .map_err(D::Error::custom)?;
        }
        Ok(bytes)
    }
}

/// Bytes in hexadecimal digits.
pub(crate) fn text(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(digit), 16).unwrap_or_default());
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob() -> impl Strategy<Value = Blob> {
        any::<(u32, u32, u32, [u8; 16])>().prop_map(|(pack, offset, length, id)| Blob {
            pack,
            offset,
            length,
            id,
        })
    }

    fn entries() -> impl Strategy<Value = Files> {
        let entry = (any::<u64>(), any::<[u8; 32]>(), prop::collection::vec(blob(), 0..4))
            .prop_map(|(size, hash, pieces)| FileEntry { size, hash, pieces });
        prop::collection::btree_map("[a-z/]{1,20}", entry, 0..5)
    }

    proptest! {
        #[test]
        fn a_picture_is_read_as_it_was_written(
            chunks in prop::collection::vec(blob(), 0..40),
            files in entries(),
        ) {
            let pages = u32::try_from(chunks.len()).unwrap() * PAGES;
            let picture = Picture { page_size: 4096, pages, chunks, files };
            let bytes = picture.to_bytes();
            prop_assert_eq!(Picture::from_bytes(&bytes).unwrap(), picture);
            for end in 0..bytes.len() {
                prop_assert!(Picture::from_bytes(&bytes[..end]).is_err());
            }
        }

        #[test]
        fn an_increment_is_read_as_it_was_written(
            pages in any::<u32>(),
            altered in prop::collection::btree_map(any::<u32>(), prop::collection::vec(any::<u8>(), 8), 0..5),
            files in entries(),
            gone in prop::collection::vec("[a-z/]{1,20}", 0..4),
        ) {
            let increment = Increment { pages, altered, files, gone };
            let bytes = increment.to_bytes();
            prop_assert_eq!(Increment::from_bytes(&bytes).unwrap(), increment);
            for end in 0..bytes.len() {
                prop_assert!(Increment::from_bytes(&bytes[..end]).is_err());
            }
        }
    }
}
