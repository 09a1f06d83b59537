//! Small content that lies in the inode itself (`inline_data`).

use super::Damage;
use super::inode::Inode;

/// Attributes in an inode begin so.
const MAGIC: [u8; 4] = [0x00, 0x00, 0x02, 0xEA];

/// The attribute with content behind the first 60 bytes: `system.data`.
const INDEX_SYSTEM: u8 = 7;
const NAME: &[u8] = b"data";

pub(super) fn content(inode: &Inode) -> Result<Vec<u8>, Damage> {
    let size = usize::try_from(inode.size).unwrap_or(usize::MAX);
    let mut content = inode.block.to_vec();
    if size > content.len() {
        content.extend_from_slice(rest(&inode.attributes).unwrap_or_default());
    }
    if content.len() < size {
        return Err(format!(
            "inode {} claims {size} bytes of inline content and holds {}",
            inode.number,
            content.len()
        ));
    }
    content.truncate(size);
    Ok(content)
}

/// The value of `system.data`; entries are walked until an empty one.
fn rest(attributes: &[u8]) -> Option<&[u8]> {
    let area = attributes.strip_prefix(&MAGIC)?;
    let mut at = 0;
    loop {
        let entry = area.get(at..)?.first_chunk::<16>()?;
        if entry[..4] == [0; 4] {
            return None;
        }
        let name_length = usize::from(entry[0]);
        let name = area.get(at + 16..)?.get(..name_length)?;
        if entry[1] == INDEX_SYSTEM && name == NAME {
            let offset = usize::from(u16::from_le_bytes([entry[2], entry[3]]));
            let size = u32::from_le_bytes([entry[8], entry[9], entry[10], entry[11]]);
            return area.get(offset..)?.get(..usize::try_from(size).ok()?);
        }
        at += (16 + name_length).next_multiple_of(4);
    }
}
