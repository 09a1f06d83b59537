//! rpm headers: an index of tags over a store of values (rpm documentation, `format_header.md`).

/// Tags that matter.
const NAME: u32 = 1000;
const VERSION: u32 = 1001;
const RELEASE: u32 = 1002;
const EPOCH: u32 = 1003;
const ARCHITECTURE: u32 = 1022;
const SOURCE_RPM: u32 = 1044;

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

/// Reads a header as databases hold it: without the magic number that files have.
///
/// # Errors
/// In words, where the header's own lengths do not agree.
pub fn parse(blob: &[u8]) -> Result<Header<'_>, String> {
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
        let (mut index, mut store) = (Vec::new(), Vec::new());
        for (tag, kind, value) in entries {
            let offset = u32::try_from(store.len()).unwrap();
            for word in [*tag, *kind, offset, 1] {
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
        }
    }
}
