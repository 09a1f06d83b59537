//! rpm headers: an index of tags over a store of values (rpm documentation, `format_header.md`).

use super::super::Checksum;

/// Tags that matter.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCHITECTURE: u32 = 1022;
const SOURCE_RPM: u32 = 1044;
const INSTALL_TIME: u32 = 1008;
const FILE_DIGESTS: u32 = 1035;
const FILE_FLAGS: u32 = 1037;
const DIRECTORY_INDEXES: u32 = 1116;
const BASE_NAMES: u32 = 1117;
const DIRECTORY_NAMES: u32 = 1118;
const FILE_DIGEST_ALGORITHM: u32 = 5011;

/// `RPMFILE_CONFIG` of `FILEFLAGS`.
const IS_CONFIGURATION: u32 = 1;

/// `PGPHASHALGO_MD5`, which is meant where nothing is said, and `PGPHASHALGO_SHA256`.
const MD5: u32 = 1;
const SHA256: u32 = 8;

/// Types of values.
const INT32: u32 = 4;
const STRING: u32 = 6;
const STRING_ARRAY: u32 = 8;
const TRANSLATED_STRING: u32 = 9;

/// rpm's own limit.
const MAX_ENTRIES: usize = 0xFFFF;
const ENTRY: usize = 16;

/// The fields of a header that an inventory needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Header<'a> {
    /// Package name.
    pub name: Option<&'a str>,
    /// Upstream version.
    pub version: Option<&'a str>,
    /// Release of the packaging.
    pub release: Option<&'a str>,
    /// Epoch, where the package has one.
    pub epoch: Option<u32>,
    /// Architecture.
    pub architecture: Option<&'a str>,
    /// File name of the source package.
    pub source_rpm: Option<&'a str>,
}

/// A file as a header has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderFile {
    /// Absolute path.
    pub path: String,
    /// Of its content; `None` of what has none, and of algorithms that are not known here.
    pub checksum: Option<Checksum>,
    /// Whether it is one that people alter (`%config`).
    pub is_configuration: bool,
}

/// What a header says of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// When the package was installed, in seconds since 1970.
    pub installed_at: Option<u32>,
    /// Its files.
    pub files: Vec<HeaderFile>,
}

/// Reads what a header says of files whose path is meant.
///
/// # Errors
/// In words, where the header's own lengths do not agree, or its lists.
pub fn files(blob: &[u8], is_meant: impl Fn(&str) -> bool) -> Result<Files, String> {
    let (index, store) = parts(blob)?;
    let value = |tag: u32, kinds: &[u32]| {
        let entry = index.chunks_exact(ENTRY).find(|entry| be32(entry, 0) == tag)?;
        let offset = usize::try_from(be32(entry, 8)).ok()?;
        let count = usize::try_from(be32(entry, 12)).ok()?;
        kinds.contains(&be32(entry, 4)).then(|| Some((store.get(offset..)?, count)))?
    };
    let texts = |tag| value(tag, &[STRING, STRING_ARRAY]).map(|(rest, count)| strings(rest, count));
    let numbers = |tag| value(tag, &[INT32]).map(|(rest, count)| integers(rest, count));
    let first = |tag| numbers(tag).and_then(|numbers| numbers.first().copied());
    let mut found = Files { installed_at: first(INSTALL_TIME), files: Vec::new() };
    let Some(names) = texts(BASE_NAMES) else { return Ok(found) };
    let directories = texts(DIRECTORY_NAMES).unwrap_or_default();
    let indexes = numbers(DIRECTORY_INDEXES).unwrap_or_default();
    if names.len() != indexes.len() {
        return Err(format!("it has {} files in {} directories", names.len(), indexes.len()));
    }
    let (digests, flags) =
        (texts(FILE_DIGESTS).unwrap_or_default(), numbers(FILE_FLAGS).unwrap_or_default());
    let algorithm = first(FILE_DIGEST_ALGORITHM).unwrap_or(MD5);
    for (place, (name, index)) in names.iter().zip(indexes).enumerate() {
        let directory = usize::try_from(index).ok().and_then(|index| directories.get(index));
        let Some(directory) = directory else {
            return Err(format!(
                "its file {place} is in directory {index} of {}",
                directories.len()
            ));
        };
        let (Ok(directory), Ok(name)) = (str::from_utf8(directory), str::from_utf8(name)) else {
            continue;
        };
        let path = format!("{directory}{name}");
        if path.starts_with('/') && is_meant(&path) {
            let digest = digests.get(place).copied().unwrap_or_default();
            let checksum = match algorithm {
                MD5 => Checksum::from_hex(digest).filter(|it| matches!(it, Checksum::Md5(_))),
                SHA256 => Checksum::from_hex(digest).filter(|it| matches!(it, Checksum::Sha256(_))),
                _ => None,
            };
            let flags = flags.get(place).copied().unwrap_or_default();
            let is_configuration = flags & IS_CONFIGURATION != 0;
            found.files.push(HeaderFile { path, checksum, is_configuration });
        }
    }
    Ok(found)
}

/// So many strings, each up to its zero; fewer where there are not as many.
fn strings(rest: &[u8], count: usize) -> Vec<&[u8]> {
    let terminated = rest.iter().rposition(|&byte| byte == 0).map_or(0, |end| end + 1);
    // What a list claims to hold takes a byte for each, so that it is bounded by the store.
    rest[..terminated].split(|&byte| byte == 0).take(count.min(terminated)).collect()
}

/// So many numbers; fewer where there are not as many.
fn integers(rest: &[u8], count: usize) -> Vec<u32> {
    rest.as_chunks::<4>().0.iter().take(count).map(|bytes| u32::from_be_bytes(*bytes)).collect()
}

/// Reads a header as databases hold it: without the magic number that files have.
///
/// # Errors
/// In words, where the header's own lengths do not agree.
pub fn parse(blob: &[u8]) -> Result<Header<'_>, String> {
    let (index, store) = parts(blob)?;
    let mut header = Header::default();
    for entry in index.chunks_exact(ENTRY) {
        let (tag, kind) = (be32(entry, 0), be32(entry, 4));
        let value = || usize::try_from(be32(entry, 8)).ok().and_then(|offset| store.get(offset..));
        match tag {
            NAME => header.name = string(kind, value()),
            VERSION => header.version = string(kind, value()),
            RELEASE => header.release = string(kind, value()),
            ARCHITECTURE => header.architecture = string(kind, value()),
            SOURCE_RPM => header.source_rpm = string(kind, value()),
            EPOCH if kind == INT32 => {
                header.epoch =
                    value().and_then(|rest| rest.first_chunk::<4>()).map(|bytes| be32(bytes, 0));
            }
            _ => {}
        }
    }
    Ok(header)
}

/// The index of a header, and its store of values.
fn parts(blob: &[u8]) -> Result<(&[u8], &[u8]), String> {
    let lengths = blob.first_chunk::<8>().ok_or_else(|| cut_off(blob.len()))?;
    let (entries, stored) = (be32(lengths, 0), be32(lengths, 4));
    let entries = usize::try_from(entries)
        .ok()
        .filter(|&entries| entries <= MAX_ENTRIES)
        .ok_or_else(|| format!("the header claims {entries} entries"))?;
    let index = blob[8..].get(..entries * ENTRY).ok_or_else(|| cut_off(blob.len()))?;
    let store = usize::try_from(stored)
        .ok()
        .and_then(|stored| blob[8 + index.len()..].get(..stored))
        .ok_or_else(|| format!("the header claims {stored} bytes of values"))?;
    Ok((index, store))
}

fn cut_off(length: usize) -> String {
    format!("the header is cut off after {length} bytes")
}

/// Up to the terminating zero; the first one of a list.
fn string(kind: u32, value: Option<&[u8]>) -> Option<&str> {
    if !matches!(kind, STRING | STRING_ARRAY | TRANSLATED_STRING) {
        return None;
    }
    let value = value?;
    let end = value.iter().position(|&byte| byte == 0)?;
    std::str::from_utf8(&value[..end]).ok()
}

/// Callers pass at least `at + 4` bytes: entries and lengths have fixed sizes.
fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(entries: &[(u32, u32, &[u8])]) -> Vec<u8> {
        let entries: Vec<_> =
            entries.iter().map(|(tag, kind, value)| (*tag, *kind, 1, *value)).collect();
        blob_of(&entries)
    }

    fn blob_of(entries: &[(u32, u32, u32, &[u8])]) -> Vec<u8> {
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, kind, count, value) in entries {
            let offset = u32::try_from(store.len()).unwrap();
            for word in [*tag, *kind, offset, *count] {
                index.extend(word.to_be_bytes());
            }
            store.extend_from_slice(value);
        }
        let mut blob = Vec::new();
        blob.extend(u32::try_from(entries.len()).unwrap().to_be_bytes());
        blob.extend(u32::try_from(store.len()).unwrap().to_be_bytes());
        blob.extend(index);
        blob.extend(store);
        blob
    }

    fn whole() -> Vec<u8> {
        blob(&[
            (63, 7, &[0; 16]),
            (NAME, STRING, b"bash\0"),
            (VERSION, STRING, b"5.1.8\0"),
            (RELEASE, STRING, b"9.el9\0"),
            (EPOCH, INT32, &[0, 0, 0, 3]),
            (ARCHITECTURE, STRING, b"x86_64\0"),
            (SOURCE_RPM, STRING, b"bash-5.1.8-9.el9.src.rpm\0"),
        ])
    }

    #[test]
    fn the_fields_are_found() {
        let blob = whole();

        let header = parse(&blob).unwrap();

        assert_eq!(header.name, Some("bash"));
        assert_eq!(header.epoch, Some(3));
        assert_eq!(header.source_rpm, Some("bash-5.1.8-9.el9.src.rpm"));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        let mut entries = whole();
        entries[..4].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut store = whole();
        store[4..8].copy_from_slice(&u32::MAX.to_be_bytes());

        assert!(parse(&entries).unwrap_err().contains("4294967295 entries"));
        assert!(parse(&store).unwrap_err().contains("4294967295 bytes"));
        assert!(parse(&whole()[..100]).is_err());
        assert!(parse(&[]).is_err());
    }

    #[test]
    fn values_outside_the_store_are_absent() {
        let mut unterminated = blob(&[(NAME, STRING, b"bash")]);
        assert_eq!(parse(&unterminated).unwrap().name, None);
        unterminated[16..20].copy_from_slice(&1_000_000_u32.to_be_bytes());
        assert_eq!(parse(&unterminated).unwrap().name, None);
    }

    fn with_files() -> Vec<u8> {
        let digest = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
        let digests = [digest, "", "0cc175b9c0f1b6a831c399e269772661"].map(|it| format!("{it}\0"));
        blob_of(&[
            (INSTALL_TIME, INT32, 1, &1_796_000_000_u32.to_be_bytes()),
            (BASE_NAMES, STRING_ARRAY, 3, b"app.conf\0app.d\0tool\0"),
            (DIRECTORY_NAMES, STRING_ARRAY, 2, b"/etc/\0/usr/bin/\0"),
            (DIRECTORY_INDEXES, INT32, 3, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
            (FILE_DIGESTS, STRING_ARRAY, 3, digests.concat().as_bytes()),
            (FILE_FLAGS, INT32, 3, &[0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0, 0]),
            (FILE_DIGEST_ALGORITHM, INT32, 1, &[0, 0, 0, 8]),
        ])
    }

    #[test]
    fn files_come_with_their_checksums_and_flags() {
        let found = files(&with_files(), |_| true).unwrap();

        assert_eq!(found.installed_at, Some(1_796_000_000));
        let paths: Vec<_> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["/etc/app.conf", "/etc/app.d", "/usr/bin/tool"]);
        let flags: Vec<_> = found.files.iter().map(|file| file.is_configuration).collect();
        assert_eq!(flags, [true, false, false]);
        assert!(matches!(found.files[0].checksum, Some(Checksum::Sha256([0x5f, 0x70, ..]))));
        // An MD5 where SHA-256 is said is none.
        assert_eq!((&found.files[1].checksum, &found.files[2].checksum), (&None, &None));
        let meant = files(&with_files(), |path| path.starts_with("/usr/")).unwrap();
        assert_eq!(meant.files.len(), 1);
        assert_eq!(files(&whole(), |_| true).unwrap(), Files::default());
    }

    #[test]
    fn lists_that_do_not_agree_are_refused() {
        let names: (u32, u32, u32, &[u8]) = (BASE_NAMES, STRING_ARRAY, 2, b"a\0b\0");
        let directories: (u32, u32, u32, &[u8]) = (DIRECTORY_NAMES, STRING_ARRAY, 1, b"/etc/\0");
        let refused = |indexes: &[u8], count| {
            let indexes = (DIRECTORY_INDEXES, INT32, count, indexes);
            files(&blob_of(&[names, directories, indexes]), |_| true).unwrap_err()
        };

        assert!(refused(&[0; 4], 1).contains("2 files in 1 directories"));
        assert!(refused(&[0, 0, 0, 0, 0, 0, 0, 9], 2).contains("directory 9 of 1"));
    }

    proptest! {
        #[test]
        fn no_header_panics(
            at in 0..200_usize, byte: u8, cut in 0..220_usize, noise: Vec<u8>
        ) {
            let mut damaged = whole();
            if let Some(hit) = damaged.get_mut(at) {
                *hit = byte;
            }
            damaged.truncate(cut);
            let _ = parse(&damaged);
            let _ = parse(&noise);
            let _ = files(&noise, |_| true);
        }

        #[test]
        fn no_list_of_files_panics(at in 0..400_usize, byte: u8, cut in 0..420_usize) {
            let mut damaged = with_files();
            if let Some(hit) = damaged.get_mut(at) {
                *hit = byte;
            }
            damaged.truncate(cut);
            let _ = files(&damaged, |_| true);
        }
    }
}
