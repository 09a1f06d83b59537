//! Growing a log: integrate events in the database's order, publish checkpoints.

mod edge;
mod error;

use edge::Edge;
pub use error::LogError;

use crate::checkpoint::{MAX_NOTE, SignedCheckpoint};
use crate::layout::{CHECKPOINT, Row, Tile, WIDTH, WITNESSED, place};
use crate::storage::Storage;
use crate::tree::{self, Tree, TreeError, verify_consistency};
use crate::{Checkpoint, Envelope, Hash, Policy, Receipt, Signer, VerifierKey};

/// A log that grows. One process at a time; the caller's lease sees to that, and
/// [`publish`](Log::publish) notices where it did not.
///
/// The database is the truth about order: events have their sequence numbers before they come
/// here, and are durable there. So integrating is repeatable. After a crash, open the log again and
/// integrate from any index that is not beyond [`size`](Log::size): the same bytes come out.
#[derive(Debug)]
pub struct Log<S> {
    storage: S,
    origin: String,
    signers: Vec<Signer>,
    edge: Edge,
    published: Option<SignedCheckpoint>,
}

impl<S: Storage> Log<S> {
    /// Opens the log of this origin, or begins it. With several keys each checkpoint carries a
    /// signature by each: publish with the old and the new key until everyone trusts the new one.
    pub fn open(storage: S, origin: &str, signers: Vec<Signer>) -> Result<Self, LogError> {
        if signers.is_empty() {
            return Err(LogError::NoKey);
        }
        if let Some(signer) = signers.iter().find(|signer| !may_sign(signer.verifier(), origin)) {
            let key = signer.verifier().to_string();
            return Err(LogError::ForeignKey { key, origin: origin.to_owned() });
        }
        let mut log = Self {
            storage,
            origin: origin.to_owned(),
            signers,
            edge: Edge::default(),
            published: None,
        };
        log.published = log.read_checkpoint()?;
        if let Some(checkpoint) = log.published.as_ref().map(SignedCheckpoint::claimed) {
            log.edge = Edge::read(&log.storage, checkpoint.size)?;
            let computed = log.edge.root();
            if computed != checkpoint.root || !log.edge.bundle_is_whole() {
                let Checkpoint { size, root, .. } = *checkpoint;
                return Err(LogError::Damaged { size, signed: root, computed });
            }
            log.forget_partials(log.edge.size())?;
        }
        Ok(log)
    }

    /// Number of entries integrated, published or not.
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// The checkpoint as last published.
    pub fn published(&self) -> Option<&SignedCheckpoint> {
        self.published.as_ref()
    }

    /// Number of entries that the published checkpoint covers.
    pub fn published_size(&self) -> u64 {
        self.published.as_ref().map_or(0, |checkpoint| checkpoint.claimed().size)
    }

    /// Writes entries, the first of which has the sequence number `first`. Entries that are there
    /// already must be the same. Returns the new size.
    ///
    /// Nothing is visible before [`publish`](Self::publish). When this fails, the log is as it was
    /// and the call can be repeated.
    pub fn integrate<E: AsRef<[u8]>>(
        &mut self,
        first: u64,
        entries: &[E],
    ) -> Result<u64, LogError> {
        let size = self.edge.size();
        if first > size {
            return Err(LogError::Gap { expected: size, given: first });
        }
        let mut scratch = Vec::new();
        for (index, entry) in (first..).zip(entries) {
            // What could not be verified later must not get in: it would stay for ever.
            let glance = Envelope::glance(entry.as_ref(), &mut scratch)
                .map_err(|source| LogError::Entry { index, source })?;
            if glance.sequence != index {
                return Err(LogError::Sequence { index, found: glance.sequence });
            }
        }
        let there = usize::try_from(size - first).unwrap_or(usize::MAX).min(entries.len());
        let (known, new) = entries.split_at(there);
        self.compare(first, known)?;
        // A copy grows, so that a failure leaves this log as it was.
        let mut edge = self.edge.clone();
        for entry in new {
            edge.append(entry.as_ref(), |tile, bytes| self.put_tile(tile, bytes))?;
        }
        if !new.is_empty() {
            edge.put_partials(|tile, bytes| self.put_tile(tile, bytes))?;
        }
        self.edge = edge;
        Ok(self.edge.size())
    }

    /// Signs and publishes a checkpoint over everything integrated, after all that it covers is
    /// durable. Never signs a tree that does not continue the published one (tlog-checkpoint,
    /// "Signatures"). Where nothing is new, nothing is written.
    pub fn publish(&mut self) -> Result<&SignedCheckpoint, LogError> {
        let (size, root) = (self.edge.size(), self.edge.root());
        let there = self.read_checkpoint()?;
        let from = match &there {
            None if self.published.is_some() => return Err(LogError::Vanished),
            None => 0,
            Some(there) => {
                self.must_continue(there.claimed(), size, root)?;
                there.claimed().size
            }
        };
        let fresh = match there {
            Some(there) if from == size && self.signed_by_all(&there) => there,
            _ => {
                let checkpoint = Checkpoint { origin: self.origin.clone(), size, root };
                let signed = SignedCheckpoint::sign(checkpoint, &self.signers);
                self.storage.put(CHECKPOINT, &signed.to_bytes())?;
                signed
            }
        };
        let published = self.published.insert(fresh);
        // Readers of the old checkpoint find the full tiles in their place.
        forget_partials(&self.storage, from, size)?;
        Ok(published)
    }

    /// Puts the cosignatures of known witnesses, as a witness answered them, beside the published
    /// checkpoint's signatures. Lines by others are left out.
    pub fn cosign(
        &mut self,
        answer: &[u8],
        witnesses: &Policy,
    ) -> Result<&SignedCheckpoint, LogError> {
        let published = self.published.clone().ok_or(LogError::Vanished)?;
        let cosigned = published.with_answer(answer, witnesses)?;
        // Another process may have published since; its checkpoint must not be replaced.
        let (ours, there) = (cosigned.claimed(), self.read_checkpoint()?);
        let there = there.ok_or(LogError::Vanished)?;
        if there.claimed() != ours {
            return Err(LogError::Behind { stored: there.claimed().size, ours: ours.size });
        }
        let kept = keep_cosigned(&self.storage, cosigned)?;
        Ok(self.published.insert(kept))
    }

    /// The published tree, to read entries and proofs from.
    pub fn tree(&self) -> Tree<&S> {
        let head = self.published.as_ref().map(SignedCheckpoint::claimed);
        let (size, root) = head.map_or((0, Hash::EMPTY_TREE), |head| (head.size, head.root));
        Tree::new(&self.storage, size, root)
    }

    /// A receipt: proof, with the checkpoint, that the entry at `index` is in the log.
    pub fn receipt(&self, index: u64) -> Result<Receipt, LogError> {
        let Some(checkpoint) = self.published.clone() else {
            return Err(TreeError::Beyond { wanted: index, size: 0 }.into());
        };
        let proof = self.tree().inclusion(index)?;
        Ok(Receipt::new(index, proof, checkpoint))
    }

    fn read_checkpoint(&self) -> Result<Option<SignedCheckpoint>, LogError> {
        let Some(bytes) = self.storage.get(CHECKPOINT, MAX_NOTE)? else { return Ok(None) };
        let checkpoint = SignedCheckpoint::parse(&bytes)?;
        if checkpoint.claimed().origin != self.origin {
            return Err(LogError::OtherLog {
                stored: checkpoint.claimed().origin.clone(),
                ours: self.origin.clone(),
            });
        }
        let keys: Vec<&VerifierKey> = self.signers.iter().map(Signer::verifier).collect();
        checkpoint.verify_log(&keys)?;
        Ok(Some(checkpoint))
    }

    fn must_continue(&self, stored: &Checkpoint, size: u64, root: Hash) -> Result<(), LogError> {
        if stored.size > size {
            return Err(LogError::Behind { stored: stored.size, ours: size });
        }
        // Proven from the files just written, not from memory: what is signed can be read.
        let tree = Tree::new(&self.storage, size, root);
        let proof = tree.consistency(stored.size)?;
        if !verify_consistency(stored.size, stored.root, size, root, &proof) {
            return Err(LogError::Fork { size: stored.size, signed: stored.root });
        }
        Ok(())
    }

    fn signed_by_all(&self, checkpoint: &SignedCheckpoint) -> bool {
        let signs = |signer: &Signer| checkpoint.verify_log(&[signer.verifier()]).is_ok();
        self.signers.iter().all(signs)
    }

    /// Entries that are there already must be those given.
    fn compare<E: AsRef<[u8]>>(&self, first: u64, known: &[E]) -> Result<(), LogError> {
        let size = self.edge.size();
        let mut leaves = Vec::new();
        for (index, entry) in (first..).zip(known) {
            if leaves.is_empty() || index.is_multiple_of(WIDTH) {
                leaves = tree::fetch_hashes(&self.storage, leaves_tile(index, size), size)?;
            }
            let (stored, given) = (leaves[place(index)], Hash::of_entry(entry.as_ref()));
            if stored != given {
                return Err(LogError::Rewritten { index, stored, given });
            }
        }
        Ok(())
    }

    /// Tiles beyond the checkpoint may be there from before a crash. Nothing signed speaks of
    /// them, so what the database says now replaces them; most often it is the same.
    fn put_tile(&self, tile: Tile, bytes: &[u8]) -> Result<(), LogError> {
        let path = tile.to_string();
        if self.storage.get(&path, tile.limit())?.as_deref() != Some(bytes) {
            self.storage.put(&path, bytes)?;
        }
        Ok(())
    }

    /// Those a crash left behind between a checkpoint and its clearing up.
    fn forget_partials(&self, size: u64) -> Result<(), LogError> {
        for row in Row::all(size) {
            if let Some(last) = (row.items(size) / WIDTH).checked_sub(1) {
                forget(&self.storage, Tile { row, index: last, width: WIDTH })?;
            }
        }
        Ok(())
    }
}

/// Keeps a checkpoint with the answers of witnesses to it: beside the log's own signature where it is
/// the current one, and as the latest that was witnessed. One process at a time.
///
/// # Errors
/// If an answer holds a false signature by a known witness, or the storage fails.
pub fn keep_answers<S: Storage>(
    storage: &S,
    checkpoint: &SignedCheckpoint,
    answers: &[Vec<u8>],
    witnesses: &Policy,
) -> Result<SignedCheckpoint, LogError> {
    let mut cosigned = checkpoint.clone();
    for answer in answers {
        cosigned = cosigned.with_answer(answer, witnesses)?;
    }
    keep_cosigned(storage, cosigned)
}

fn keep_cosigned<S: Storage>(
    storage: &S,
    mut cosigned: SignedCheckpoint,
) -> Result<SignedCheckpoint, LogError> {
    let there = |path| -> Result<Option<SignedCheckpoint>, LogError> {
        let bytes = storage.get(path, MAX_NOTE)?;
        Ok(bytes.and_then(|bytes| SignedCheckpoint::parse(&bytes).ok()))
    };
    let current = there(CHECKPOINT)?;
    if current.as_ref() == Some(&cosigned) {
        return Ok(cosigned); // Nobody known has answered.
    }
    let witnessed = there(WITNESSED)?;
    if let Some(witnessed) = &witnessed {
        // Another witness may have answered before.
        cosigned = cosigned.and_signatures_of(witnessed);
    }
    let is_later = |it: SignedCheckpoint| it.claimed().size > cosigned.claimed().size;
    if !witnessed.is_some_and(is_later) {
        storage.put(WITNESSED, &cosigned.to_bytes())?;
    }
    if current.is_some_and(|current| current.claimed() == cosigned.claimed()) {
        storage.put(CHECKPOINT, &cosigned.to_bytes())?;
    }
    Ok(cosigned)
}

/// The tile with the hash of an entry that is there.
fn leaves_tile(index: u64, size: u64) -> Tile {
    Row::Hashes(0).tile(index / WIDTH, size).expect("the entry is below the size")
}

/// A log's key carries the log's name (tlog-policy, "Defining a log").
fn may_sign(key: &VerifierKey, origin: &str) -> bool {
    key.kind() == crate::KeyKind::Log && key.name() == origin
}

/// Partial tiles may go once the full one is published (tlog-tiles, "Partial Tiles"). With a
/// checkpoint every second they would be most of the log.
fn forget_partials<S: Storage>(storage: &S, from: u64, to: u64) -> Result<(), LogError> {
    for row in Row::all(to) {
        for index in row.items(from) / WIDTH..row.items(to) / WIDTH {
            forget(storage, Tile { row, index, width: WIDTH })?;
        }
    }
    Ok(())
}

fn forget<S: Storage>(storage: &S, full: Tile) -> Result<(), LogError> {
    let folder = full.partials();
    for name in storage.list(&folder)?.unwrap_or_default() {
        storage.remove(&format!("{folder}/{name}"))?;
    }
    Ok(())
}
