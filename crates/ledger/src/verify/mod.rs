//! Verifying a whole log: every entry, every tile, every signature.
//!
//! The order is that of trust. The checkpoint's signatures first; then whether it takes back an
//! earlier one; then all entries and tiles, bundle by bundle in bounded memory; at the end the
//! root, and whether it continues the earlier checkpoint.
//!
//! [`verify`] does all of it; [`checkpoint`], [`continues`], [`inclusion`] and [`consistency`] are its
//! smaller siblings for who has only a proof.

mod error;
mod grown;
mod walk;

pub use error::VerifyError;
use grown::Grown;

use std::num::NonZeroUsize;

use jiff::Timestamp;

pub use crate::checkpoint::Cosigned;
use crate::checkpoint::{CheckpointError, MAX_NOTE, SignedCheckpoint, TrustedCheckpoint};
use crate::layout::{CHECKPOINT, Row, WIDTH, WITNESSED};
use crate::storage::{ReadStorage, StorageError};
use crate::tree::{self, Tree};
pub use crate::tree::{verify_consistency as consistency, verify_inclusion as inclusion};
use crate::{Hash, Policy, VerifierKey};

/// Payloads outside the log, as far as the reader has them.
pub trait Payloads: Sync {
    /// SHA-256 of salt and payload that are kept for this commitment; `None` where they are not
    /// here: erased, or not for this reader.
    fn digest(&self, sha256: &Hash) -> Result<Option<Hash>, StorageError>;
}

/// What to verify a log against.
#[derive(Clone, Copy)]
pub struct Against<'a> {
    /// The log's keys, and the witnesses' quorum.
    pub policy: &'a Policy,
    /// A checkpoint kept from earlier: the log must continue it.
    pub since: Option<&'a SignedCheckpoint>,
    /// Payloads to compare with the entries' commitments.
    pub payloads: Option<&'a dyn Payloads>,
    /// How many threads read and hash.
    pub threads: NonZeroUsize,
}

impl<'a> Against<'a> {
    /// Against a policy only, with two threads.
    pub fn policy(policy: &'a Policy) -> Self {
        let threads = NonZeroUsize::MIN.saturating_add(1);
        Self { policy, since: None, payloads: None, threads }
    }
}

/// Exactly what was verified.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Verified {
    /// The checkpoint: whoever keeps it holds the log to it from now on.
    pub checkpoint: SignedCheckpoint,
    /// The log's identity.
    pub origin: String,
    /// Number of entries: each was read, is canonical, in its place and under the root.
    pub size: u64,
    /// The root, computed from the entries and signed.
    pub root: Hash,
    /// The log's keys that signed it.
    pub signed_by: Vec<VerifierKey>,
    /// The policy's witnesses that cosigned it.
    pub cosigned: Vec<Cosigned>,
    /// Number of tiles of hashes that were compared with what the entries give.
    pub tiles: u64,
    /// Bytes of entries.
    pub bytes: u64,
    /// Time of the first and of the last entry.
    pub span: Option<(Timestamp, Timestamp)>,
    /// The size of the earlier checkpoint that it continues, if one was given.
    pub continues: Option<u64>,
    /// Later entries, which the witnesses asked for have not seen yet. They continue what was
    /// verified; they were not read.
    pub awaiting: u64,
    /// Payloads, if they were asked for.
    pub payloads: Option<PayloadCount>,
}

/// How many commitments were compared with their payloads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PayloadCount {
    /// Present and equal.
    pub held: u64,
    /// Not here: erased, or not for this reader.
    pub absent: u64,
}

/// Reads a log's checkpoint and checks its signatures; nothing else yet.
pub fn checkpoint<S: ReadStorage>(
    storage: &S,
    policy: &Policy,
) -> Result<(SignedCheckpoint, TrustedCheckpoint), VerifyError> {
    let head = head(storage, policy)?;
    Ok((head.signed, head.trusted))
}

/// The checkpoint that a log is verified by.
struct Head {
    signed: SignedCheckpoint,
    trusted: TrustedCheckpoint,
    /// The size of the current one, where the witnesses asked for have not seen that yet.
    ahead: Option<(u64, Hash)>,
}

/// The current checkpoint; the latest witnessed one where the policy asks for witnesses that have not
/// cosigned the current one yet.
fn head<S: ReadStorage>(storage: &S, policy: &Policy) -> Result<Head, VerifyError> {
    let bytes = storage.get(CHECKPOINT, MAX_NOTE)?.ok_or(VerifyError::NoCheckpoint)?;
    let signed = SignedCheckpoint::parse(&bytes)?;
    let current = signed.verify(policy);
    let Some(bytes) = storage.get(WITNESSED, MAX_NOTE)? else {
        return Ok(Head { trusted: current?, signed, ahead: None });
    };
    let witnessed = SignedCheckpoint::parse(&bytes)?;
    let (now, then) = (signed.claimed().size, witnessed.claimed().size);
    match current {
        Ok(trusted) if now > then => {
            // Not needed, but part of the log.
            witnessed.verify_log(&policy.logs_of(trusted.origin())?)?;
            same_beginning(
                &Tree::new(storage, now, trusted.root()),
                then,
                witnessed.claimed().root,
            )?;
            Ok(Head { signed, trusted, ahead: None })
        }
        Err(CheckpointError::Quorum(_)) if now > then => {
            let trusted = witnessed.verify(policy)?;
            Ok(Head { trusted, ahead: Some((now, signed.claimed().root)), signed: witnessed })
        }
        // The log went on between the two reads.
        Ok(_) | Err(CheckpointError::Quorum(_)) if now < then => {
            Ok(Head { trusted: witnessed.verify(policy)?, signed: witnessed, ahead: None })
        }
        current => {
            let trusted = current?;
            if witnessed.verify(policy)?.root() != trusted.root() {
                let (size, earlier, now) = (then, witnessed.claimed().root, trusted.root());
                return Err(VerifyError::Rewritten { size, earlier, now });
            }
            Ok(Head { signed, trusted, ahead: None })
        }
    }
}

/// Verifies a whole log; the first fault ends it.
pub fn verify<S: ReadStorage>(storage: &S, against: &Against<'_>) -> Result<Verified, VerifyError> {
    let Head { signed, trusted: head, ahead } = head(storage, against.policy)?;
    let since = against.since.map(|since| earlier(since, &head, against.policy)).transpose()?;
    let seen = walk::entries(storage, &head, against)?;
    if let Some((size, root)) = since {
        same_beginning(&Tree::new(storage, head.size(), head.root()), size, root)?;
    }
    if let Some((size, root)) = ahead {
        same_beginning(&Tree::new(storage, size, root), head.size(), head.root())?;
    }
    kept_partials(storage, head.size())?;
    Ok(Verified {
        checkpoint: signed,
        origin: head.origin().to_owned(),
        size: head.size(),
        root: head.root(),
        signed_by: head.signed_by().to_vec(),
        cosigned: head.cosigned().to_vec(),
        tiles: seen.tiles,
        bytes: seen.bytes,
        span: seen.first.zip(seen.last),
        continues: since.map(|(size, _)| size),
        awaiting: ahead.map_or(0, |(size, _)| size - head.size()),
        payloads: against.payloads.is_some().then_some(seen.payloads),
    })
}

/// Whether a tree continues an earlier checkpoint, by proof and without reading all entries.
/// Returns the earlier size.
pub fn continues<S: ReadStorage>(
    tree: &Tree<S>,
    since: &SignedCheckpoint,
    head: &TrustedCheckpoint,
    policy: &Policy,
) -> Result<u64, VerifyError> {
    let (size, root) = earlier(since, head, policy)?;
    same_beginning(tree, size, root)?;
    Ok(size)
}

fn same_beginning<S: ReadStorage>(
    tree: &Tree<S>,
    size: u64,
    earlier: Hash,
) -> Result<(), VerifyError> {
    // The proof binds the earlier root to this tree's, whatever the storage says.
    tree.consistency(size)?;
    let now = tree.root_at(size)?;
    if now != earlier {
        return Err(VerifyError::Rewritten { size, earlier, now });
    }
    Ok(())
}

/// The earlier checkpoint's size and root, if the log is not smaller now.
///
/// Only the log's signature is asked of it: who kept it knows what it is worth, and a witness may
/// have joined since.
fn earlier(
    since: &SignedCheckpoint,
    head: &TrustedCheckpoint,
    policy: &Policy,
) -> Result<(u64, Hash), VerifyError> {
    let claimed = since.claimed();
    if claimed.origin != head.origin() {
        let (earlier, now) = (claimed.origin.clone(), head.origin().to_owned());
        return Err(VerifyError::OtherLog { earlier, now });
    }
    let keys = policy.logs_of(&claimed.origin).map_err(VerifyError::Earlier)?;
    since.verify_log(&keys).map_err(VerifyError::Earlier)?;
    if claimed.size > head.size() {
        return Err(VerifyError::RolledBack { earlier: claimed.size, now: head.size() });
    }
    if claimed.size == head.size() && claimed.root != head.root() {
        let (size, earlier, now) = (claimed.size, claimed.root, head.root());
        return Err(VerifyError::Rewritten { size, earlier, now });
    }
    Ok((claimed.size, claimed.root))
}

/// Earlier states of the tiles at the right edge are part of the log while it keeps them
/// (tlog-tiles, "Partial Tiles"): each must be the beginning of what stands there now. Where the
/// storage cannot list, nobody can tell what it keeps.
fn kept_partials<S: ReadStorage>(storage: &S, size: u64) -> Result<(), VerifyError> {
    for row in Row::all(size) {
        let full = row.items(size) / WIDTH;
        // The one before the edge too: a crash may have left its states behind.
        for index in full.saturating_sub(1)..=full {
            let Some(tile) = row.tile(index, size) else { continue };
            let folder = tile.partials();
            let Some(names) = storage.list(&folder)? else { continue };
            let mut now = None;
            for name in names {
                let width = name.parse().ok().filter(|width| (1..tile.width).contains(width));
                let Some(width) = width else { continue };
                let path = format!("{folder}/{name}");
                let Some(kept) = storage.get(&path, tile.limit())? else { continue };
                let now = match &now {
                    Some(now) => now,
                    None => now.insert(tree::fetch(storage, tile, size)?),
                };
                if tree::beginning(now, width, row) != Some(kept.as_slice()) {
                    return Err(VerifyError::Partial { path, tile: tile.to_string() });
                }
            }
        }
    }
    Ok(())
}
