//! Commitments: what a batch of versions was, for the record, without telling it.
//!
//! A batch is all that was recorded of an item at one moment. Its commitment is a keyed hash over every
//! version of it in the order of their paths: it goes into the event that records the batch, and into the clear part
//! of the object that the batch is sealed into. As long as the partition's key is there, anyone who holds it
//! can compute it again from the contents; without it nothing can be told from the commitment, and object and
//! event still agree.

use zeroize::Zeroizing;

use crate::bytes::{Put as _, Reader};
use crate::keys::DataKey;
use crate::version::{ContentDigest, FilePath, Item, Micros, Version};

/// The commitment to one batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Commitment {
    /// Of which item.
    pub item: Item,
    /// When it was recorded.
    pub recorded: Micros,
    /// How many versions it is of.
    pub versions: u32,
    /// The keyed hash.
    pub hash: [u8; 32],
}

impl Commitment {
    /// One hash that stands for many commitments: BLAKE3 of the roll that these alone make, by item and time.
    pub fn digest_of(commitments: &[Self]) -> [u8; 32] {
        blake3::hash(&write_roll(commitments)).into()
    }
}

/// Makes commitments with a partition's key.
#[derive(Clone)]
pub struct Committer(Zeroizing<[u8; 32]>);

/// One version's share of a commitment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leaf([u8; 32]);

impl Committer {
    /// With a partition's key.
    pub fn new(key: &DataKey) -> Self {
        Self(key.commitments())
    }

    /// The share of a version, with the digest of its content where it has one.
    pub fn leaf(&self, path: &FilePath, version: &Version, content: Option<ContentDigest>) -> Leaf {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"version");
        hasher.update(&version.to_bytes(path));
        if let Some(content) = content {
            hasher.update(&content.0);
        }
        Leaf(hasher.finalize().into())
    }

    /// Of a whole batch, its leaves in the order of their paths.
    pub fn batch(&self, item: Item, recorded: Micros, leaves: &[Leaf]) -> Commitment {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(b"batch");
        hasher.update(&item.0);
        hasher.update(&recorded.to_le_bytes());
        for leaf in leaves {
            hasher.update(&leaf.0);
        }
        let versions = u32::try_from(leaves.len()).unwrap_or(u32::MAX);
        Commitment { item, recorded, versions, hash: hasher.finalize().into() }
    }
}

impl std::fmt::Debug for Committer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Committer(…)")
    }
}

/// The clear part of an object: all commitments, by item and time.
pub(crate) fn write_roll(commitments: &[Commitment]) -> Vec<u8> {
    let mut roll = Vec::new();
    let mut last: Option<Commitment> = None;
    for commitment in commitments {
        let same = last.filter(|last| last.item == commitment.item);
        roll.push(u8::from(same.is_none()));
        if same.is_none() {
            roll.extend_from_slice(&commitment.item.0);
        }
        let before = same.map_or(0, |last| last.recorded);
        roll.put_signed(commitment.recorded.wrapping_sub(before));
        roll.put_number(u64::from(commitment.versions));
        roll.extend_from_slice(&commitment.hash);
        last = Some(*commitment);
    }
    roll
}

pub(crate) fn read_roll(roll: &[u8]) -> Option<Vec<Commitment>> {
    let mut reader = Reader::new(roll);
    let mut commitments: Vec<Commitment> = Vec::new();
    while !reader.is_empty() {
        let (item, before) = match (reader.byte()?, commitments.last()) {
            (1, _) => (Item(reader.array()?), 0),
            (0, Some(last)) => (last.item, last.recorded),
            _ => return None,
        };
        let recorded = before.wrapping_add(reader.signed()?);
        let versions = reader.number()?.try_into().ok()?;
        commitments.push(Commitment { item, recorded, versions, hash: reader.array()? });
    }
    Some(commitments)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_roll_reads_back() {
        let commitment = |item: u8, recorded| Commitment {
            item: Item([item; 16]),
            recorded,
            versions: 3,
            hash: [recorded.to_le_bytes()[0]; 32],
        };
        let all = [commitment(1, 5), commitment(1, 900), commitment(2, 7), commitment(2, 8)];

        assert_eq!(read_roll(&write_roll(&all)).unwrap(), all);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(roll: Vec<u8>) {
            let _ = read_roll(&roll);
        }
    }
}
