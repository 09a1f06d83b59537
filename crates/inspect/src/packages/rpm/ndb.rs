//! rpm's ndb database (`Packages.db`; rpm source, `lib/backend/ndb/rpmpkg.c`).
//!
//! A header, pages of slots, and blobs in blocks of 16 bytes; all numbers little-endian. A slot
//! says where its package's blob lies; the blob says which package it belongs to.

const MAGIC: &[u8] = b"RpmP";
const SLOT_MAGIC: &[u8] = b"Slot";
const BLOB_MAGIC: &[u8] = b"BlbS";

const PAGE: usize = 4096;
/// The header takes the room of the first two slots.
const HEADER: usize = 32;
const SLOT: usize = 16;
const BLOCK: usize = 16;
const BLOB_HEAD: usize = 16;

/// The package headers in a database file.
///
/// # Errors
/// In words, where the file breaks the format's rules.
pub fn headers(database: &[u8]) -> Result<Vec<&[u8]>, String> {
    if !database.starts_with(MAGIC) {
        return Err("it does not begin with `RpmP`".to_owned());
    }
    let version = number(database, 4)?;
    if version != 0 {
        return Err(format!("it is in version {version} of its format"));
    }
    let pages = number(database, 12)?;
    let slots = usize::try_from(pages)
        .ok()
        .and_then(|pages| pages.checked_mul(PAGE))
        .and_then(|end| database.get(HEADER..end))
        .ok_or_else(|| format!("it claims {pages} pages of slots in {} bytes", database.len()))?;
    let mut headers = Vec::new();
    for slot in slots.chunks_exact(SLOT) {
        if !slot.starts_with(SLOT_MAGIC) {
            return Err("a slot is damaged".to_owned());
        }
        let (package, block) = (number(slot, 4)?, number(slot, 8)?);
        // Block 0 is the header: the slot is free.
        if package != 0 && block != 0 {
            headers.push(blob(database, package, block, number(slot, 12)?)?);
        }
    }
    Ok(headers)
}

fn blob(database: &[u8], package: u32, block: u32, blocks: u32) -> Result<&[u8], String> {
    let damaged = |what: &str| format!("the record of package {package} at block {block} {what}");
    let bytes = usize::try_from(u64::from(block) * BLOCK as u64)
        .ok()
        .and_then(|start| database.get(start..))
        .and_then(|rest| rest.get(..usize::try_from(u64::from(blocks) * BLOCK as u64).ok()?))
        .ok_or_else(|| damaged("lies behind the file's end"))?;
    if !bytes.starts_with(BLOB_MAGIC) || number(bytes, 4)? != package {
        return Err(damaged("belongs to something else"));
    }
    let length = usize::try_from(number(bytes, 12)?).unwrap_or(usize::MAX);
    bytes[BLOB_HEAD.min(bytes.len())..].get(..length).ok_or_else(|| damaged("is cut off"))
}

fn number(bytes: &[u8], at: usize) -> Result<u32, String> {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map(|word| u32::from_le_bytes(*word))
        .ok_or_else(|| format!("it is cut off after {} bytes", bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn database() -> Vec<u8> {
        let mut database = vec![0; PAGE];
        database[..4].copy_from_slice(MAGIC);
        database[12] = 1;
        for slot in database[HEADER..].chunks_exact_mut(SLOT) {
            slot[..4].copy_from_slice(SLOT_MAGIC);
        }
        let blob_block = u32::try_from(PAGE / BLOCK).unwrap();
        database[36] = 7;
        database[40..44].copy_from_slice(&blob_block.to_le_bytes());
        database[44] = 3;
        database.extend_from_slice(b"BlbS\x07\0\0\0\0\0\0\0\x05\0\0\0hello");
        database.resize(PAGE + 3 * BLOCK, 0);
        database
    }

    #[test]
    fn a_blob_is_found_through_its_slot() {
        assert_eq!(headers(&database()).unwrap(), [b"hello"]);
    }

    #[test]
    fn pointers_that_lie_are_refused() {
        let broken = |at: usize, byte: u8| {
            let mut database = database();
            database[at] = byte;
            headers(&database).unwrap_err()
        };

        assert!(broken(13, 0xFF).contains("pages of slots"));
        assert!(broken(42, 0xFF).contains("behind the file's end"));
        assert!(broken(PAGE + 4, 8).contains("something else"));
        assert!(broken(PAGE + 13, 0xFF).contains("cut off"));
        assert!(headers(b"RpmP").is_err());
    }

    proptest! {
        #[test]
        fn no_file_panics(at in 0..PAGE + 48, byte: u8, cut in 0..PAGE + 48) {
            let mut damaged = database();
            damaged[at] = byte;
            damaged.truncate(cut);
            let _ = headers(&damaged);
        }
    }
}
