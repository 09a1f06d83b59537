//! Headers of rpm packages: tags with their values (rpm's documentation, `format_header.md`).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

/// Tags that are read.
const PAYLOAD_COMPRESSOR: u32 = 1125;
const PAYLOAD_FORMAT: u32 = 1124;
const FILE_SIZES: u32 = 1028;
const LONG_FILE_SIZES: u32 = 5008;
const FILE_MODES: u32 = 1030;
const LINK_TARGETS: u32 = 1036;
const FILE_FLAGS: u32 = 1037;
const FILE_DEVICES: u32 = 1095;
const FILE_INODES: u32 = 1096;
const DIRECTORY_INDICES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;

/// Types of values.
const INT16: u32 = 3;
const INT32: u32 = 4;
const INT64: u32 = 5;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;

/// Flags of files.
const CONFIG: u64 = 1;
const GHOST: u64 = 1 << 6;

/// Bits of a mode that say what a file is.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// rpm's own limit.
const MOST_ENTRIES: usize = 0xFFFF;
const ENTRY: usize = 16;

/// A header as a package brought it: the part that its vendor made, and nothing that rpm noted since.
#[derive(Debug, Clone)]
pub(super) struct Header {
    blob: Vec<u8>,
    entries: usize,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackedFile {
    /// Absolute, inside of the root.
    pub(super) path: PathBuf,
    /// What it is, and its permissions.
    pub(super) mode: u32,
    /// Bytes of a file, or of a link's target.
    pub(super) size: u64,
    /// Where a link leads.
    pub(super) target: PathBuf,
    /// The same for names of one file.
    pub(super) identity: (u64, u64),
    flags: u64,
}

impl PackedFile {
    /// Whether it is a configuration file.
    pub(super) fn is_setting(&self) -> bool {
        self.flags & CONFIG != 0 && self.is_regular() && !self.is_ghost()
    }

    /// Whether the package only knows of it, and brings nothing.
    pub(super) fn is_ghost(&self) -> bool {
        self.flags & GHOST != 0
    }

    pub(super) fn is_regular(&self) -> bool {
        self.mode & KIND == REGULAR
    }

    pub(super) fn is_link(&self) -> bool {
        self.mode & KIND == LINK
    }
}

impl Header {
    /// A header as rpm gives it out: without the magic number that files have.
    ///
    /// # Errors
    /// In words, where its lengths do not agree.
    pub(super) fn new(blob: Vec<u8>) -> Result<Self, String> {
        let cut_off = || format!("a header is cut off after {} bytes", blob.len());
        let word = |at: usize| Some(u32::from_be_bytes(*blob.get(at..)?.first_chunk()?));
        let (entries, stored) = (word(0).ok_or_else(cut_off)?, word(4).ok_or_else(cut_off)?);
        let entries = usize::try_from(entries).unwrap_or(usize::MAX);
        let stored = usize::try_from(stored).unwrap_or(usize::MAX);
        if entries > MOST_ENTRIES {
            return Err(format!("a header claims {entries} entries"));
        }
        if blob.len() - 8 != (entries * ENTRY).saturating_add(stored) {
            return Err(cut_off());
        }
        Ok(Self { blob, entries })
    }

    /// All of it.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.blob
    }

    /// How the files of the package are packed; gzip where it does not say.
    pub(super) fn compressor(&self) -> String {
        self.text(PAYLOAD_COMPRESSOR).unwrap_or_else(|| "gzip".to_owned())
    }

    /// Whether they are in an archive that everybody reads.
    pub(super) fn is_cpio(&self) -> bool {
        self.text(PAYLOAD_FORMAT).is_none_or(|format| format == "cpio")
    }

    /// The package's files, in rpm's order.
    ///
    /// # Errors
    /// In words, where lists of it have other lengths than the names.
    pub(super) fn files(&self) -> Result<Vec<PackedFile>, String> {
        let names = self.strings(BASE_NAMES);
        let directories = self.strings(DIRECTORY_NAMES);
        let places = self.numbers(DIRECTORY_INDICES);
        let modes = self.numbers(FILE_MODES);
        let sizes = match self.numbers(LONG_FILE_SIZES) {
            sizes if sizes.is_empty() => self.numbers(FILE_SIZES),
            sizes => sizes,
        };
        let flags = self.numbers(FILE_FLAGS);
        let inodes = self.numbers(FILE_INODES);
        let devices = self.numbers(FILE_DEVICES);
        let targets = self.strings(LINK_TARGETS);
        if modes.len() != names.len() {
            return Err(format!("a header names {} files of {}", names.len(), modes.len()));
        }
        let file = |at: usize| -> Option<PackedFile> {
            let directory = *directories.get(usize::try_from(*places.get(at)?).ok()?)?;
            // rpm keeps both parts apart; the first ends with a slash.
            let path = PathBuf::from(OsStr::from_bytes(&[directory, *names.get(at)?].concat()));
            Some(PackedFile {
                path,
                mode: u32::try_from(*modes.get(at)?).ok()?,
                size: *sizes.get(at)?,
                target: PathBuf::from(OsStr::from_bytes(targets.get(at)?)),
                identity: (*devices.get(at)?, *inodes.get(at)?),
                flags: *flags.get(at)?,
            })
        };
        let files = (0..names.len())
            .map(|at| file(at).ok_or_else(|| format!("a header says too little of file {at}")));
        files.collect()
    }

    fn entry(&self, tag: u32) -> Option<(u32, &[u8], usize)> {
        let index = self.blob.get(8..8 + self.entries * ENTRY)?;
        let store = &self.blob[8 + index.len()..];
        let word = |entry: &[u8], at: usize| {
            u32::from_be_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]])
        };
        let entry = index.chunks_exact(ENTRY).find(|entry| word(entry, 0) == tag)?;
        let offset = usize::try_from(word(entry, 8)).ok()?;
        let count = usize::try_from(word(entry, 12)).ok()?;
        Some((word(entry, 4), store.get(offset..)?, count))
    }

    fn text(&self, tag: u32) -> Option<String> {
        let first = self.strings(tag).into_iter().next()?;
        String::from_utf8(first.to_vec()).ok()
    }

    /// Texts of a tag; none where there is no such tag, or it holds something else.
    fn strings(&self, tag: u32) -> Vec<&[u8]> {
        match self.entry(tag) {
            Some((STRING | STRING_ARRAY, store, count)) => {
                store.split(|byte| *byte == 0).take(count).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Numbers of a tag; none likewise.
    fn numbers(&self, tag: u32) -> Vec<u64> {
        let Some((kind, store, count)) = self.entry(tag) else { return Vec::new() };
        let width = match kind {
            INT16 => 2,
            INT32 => 4,
            INT64 => 8,
            _ => return Vec::new(),
        };
        let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        store.chunks_exact(width).take(count).map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header with these tags: tag, type, count, value.
    fn blob(entries: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, kind, count, value) in entries {
            let offset = u32::try_from(store.len()).unwrap();
            for word in [*tag, *kind, offset, *count] {
                index.extend(word.to_be_bytes());
            }
            store.extend_from_slice(value);
        }
        let lengths = [entries.len(), store.len()].map(|it| u32::try_from(it).unwrap());
        let lengths = lengths.map(u32::to_be_bytes).concat();
        [lengths, index, store].concat()
    }

    #[test]
    fn files_are_put_together_from_their_lists() {
        let header = Header::new(blob(&[
            (FILE_SIZES, INT32, 2, &[0, 0, 0, 6, 0, 0, 1, 0]),
            (FILE_MODES, INT16, 2, &[0x81, 0xA4, 0x81, 0xED]),
            (LINK_TARGETS, STRING_ARRAY, 2, b"\0\0"),
            (FILE_FLAGS, INT32, 2, &[0, 0, 0, 17, 0, 0, 0, 64]),
            (FILE_DEVICES, INT32, 2, &[0, 0, 0, 1, 0, 0, 0, 1]),
            (FILE_INODES, INT32, 2, &[0, 0, 0, 1, 0, 0, 0, 2]),
            (DIRECTORY_INDICES, INT32, 2, &[0, 0, 0, 1, 0, 0, 0, 0]),
            (BASE_NAMES, STRING_ARRAY, 2, b"tool.conf\0tool\0"),
            (DIRECTORY_NAMES, STRING_ARRAY, 2, b"/usr/bin/\0/etc/\0"),
        ]));
        let header = header.unwrap();

        let files = header.files().unwrap();

        assert_eq!(files[0].path, PathBuf::from("/etc/tool.conf"));
        assert_eq!((files[0].size, files[0].mode), (6, 0o100_644));
        assert!(files[0].is_setting() && !files[0].is_ghost());
        assert_eq!(files[1].path, PathBuf::from("/usr/bin/tool"));
        assert!(files[1].is_ghost() && !files[1].is_setting());
        assert_eq!(header.compressor(), "gzip");
    }

    #[test]
    fn lengths_that_do_not_agree_are_refused() {
        let whole = blob(&[(BASE_NAMES, STRING_ARRAY, 1, b"tool\0")]);
        assert!(Header::new(whole[..whole.len() - 1].to_vec()).is_err());
        assert!(Header::new(Vec::new()).is_err());
        let mut entries = whole.clone();
        entries[..4].fill(0xFF);
        assert!(Header::new(entries).is_err());
        let told = Header::new(whole).unwrap().files().unwrap_err();
        assert!(told.contains("1 files of 0"), "{told}");
    }
}
