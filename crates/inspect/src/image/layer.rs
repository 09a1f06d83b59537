//! Laying one layer over those below it.

use std::io::{self, Read};

use super::manifest::{Checksum, Layer};
use super::store::Part;
use super::stream::{Hashed, Packing, Unpacked, allowance};
use super::tar::{MemberKind, Members};
use super::{ImageError, tar};
use crate::tree::{Full, MergedTree, Piece};

/// Longest path of a member.
const MAX_PATH: usize = 4096;

/// Applies a layer to the tree and checks that it is the one that was promised.
pub(super) fn apply(
    layer: &Layer,
    part: Part<'_>,
    tree: &mut MergedTree,
    notes: &mut Vec<String>,
) -> Result<(), ImageError> {
    if let Checksum::Packed { size, .. } = layer.checksum
        && size != part.size
    {
        let reason = format!("it should have {size} bytes, but has {}", part.size);
        return Err(ImageError::Damaged { path: layer.path.clone(), reason });
    }
    let mut content = part.content;
    let (start, length) = beginning(&mut content).map_err(|error| damage(layer, &error))?;
    let packing = Packing::of(&start[..length]);
    if let Packing::Other(what) = packing {
        return Err(ImageError::Unsupported { path: layer.path.clone(), what: what.to_owned() });
    }
    let mut packed = Hashed::new(io::Cursor::new(&start[..length]).chain(content));
    let count = packed.count();
    let bomb = |error: io::Error| match error.kind() {
        io::ErrorKind::QuotaExceeded => ImageError::Bomb {
            path: layer.path.clone(),
            packed: count.get(),
            limit: allowance(count.get()),
        },
        _ => damage(layer, &error),
    };
    let unpacked = Unpacked::new(&mut packed, packing, count.clone()).map_err(bomb)?;
    let mut members = Members::new(Hashed::new(unpacked));
    tree.begin_layer();
    while let Some(member) = members.next().map_err(bomb)? {
        add(layer, &mut members, member, tree, notes)?;
    }
    let plain = members.into_inner().finish().map_err(bomb)?;
    let packed = packed.finish().map_err(|error| damage(layer, &error))?;
    let (expected, found) = match &layer.checksum {
        Checksum::Packed { sha256, .. } => (sha256, packed),
        Checksum::Unpacked { sha256 } => (sha256, plain),
    };
    if *expected == found {
        Ok(())
    } else {
        Err(ImageError::WrongDigest { path: layer.path.clone(), expected: expected.clone(), found })
    }
}

fn add<R: tar::Forward>(
    layer: &Layer,
    members: &mut Members<R>,
    member: tar::Member,
    tree: &mut MergedTree,
    notes: &mut Vec<String>,
) -> Result<(), ImageError> {
    if member.path.len() > MAX_PATH
        || member.path.split(|&byte| byte == b'/').any(|name| name == b"..")
    {
        notes.push(format!(
            "`{}` names a member {:?}, which leads out of it and was left out",
            layer.path,
            String::from_utf8_lossy(&member.path[..member.path.len().min(200)])
        ));
        return Ok(());
    }
    let full = |full: Full| ImageError::TooMuch {
        path: layer.path.clone(),
        limit: full.limit,
        unit: full.unit,
    };
    let piece = match member.kind {
        MemberKind::Directory => Piece::Directory,
        MemberKind::Link => Piece::Link(member.link),
        MemberKind::HardLink => Piece::SameAs(member.link),
        MemberKind::Other => Piece::Other,
        MemberKind::File if MergedTree::keeps(&member.path) => {
            tree.room_for(member.size).map_err(full)?;
            let mut content = Vec::new();
            members
                .content()
                .take(member.size)
                .read_to_end(&mut content)
                .map_err(|error| damage(layer, &error))?;
            Piece::File(content)
        }
        MemberKind::File => Piece::Unkept,
    };
    tree.add(&member.path, piece).map_err(full)
}

/// The first bytes, by which a packing is known.
fn beginning(content: &mut impl Read) -> io::Result<([u8; 8], usize)> {
    let mut start = [0; 8];
    let mut length = 0;
    while length < start.len() {
        match content.read(&mut start[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok((start, length))
}

fn damage(layer: &Layer, error: &io::Error) -> ImageError {
    ImageError::Damaged { path: layer.path.clone(), reason: error.to_string() }
}
