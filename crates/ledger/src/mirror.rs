//! A copy of a log, which grows with it and holds it to its word.
//!
//! The copy's own checkpoint is what was seen before: the log must continue it, or nothing is written.
//! Then only what is new is fetched; full tiles never change. All of it is verified as a whole before the
//! new checkpoint takes the place of the old one, last; until then the copy is the old one.
//!
//! ```text
//! begin ─► signatures, continues the copy? ─► fetch ─► new files ─► finish ─► verified ─► checkpoint
//! ```

use crate::checkpoint::{MAX_NOTE, SignedCheckpoint, TrustedCheckpoint};
use crate::errors::{EnvelopeError, StorageError, TreeError, VerifyError};
use crate::layout::{self, CHECKPOINT, Row, WIDTH, WITNESSED};
use crate::storage::{Directory, ReadStorage, Storage as _};
use crate::tree::{self, Tree};
use crate::verify::{self, Against, Verified};
use crate::{Envelope, Policy};

/// A copy in the making. Its policy names the log's keys; witnesses are asked for when the copy is
/// verified later.
pub struct Mirror<'a, S> {
    log: S,
    copy: &'a Directory,
    policy: &'a Policy,
    /// The checkpoints as they were read: the log goes on meanwhile.
    checkpoint: Vec<u8>,
    witnessed: Option<Vec<u8>>,
    head: TrustedCheckpoint,
    /// Entries that the copy held before.
    held: u64,
    /// Files written so far, which go again where the copy is not finished.
    written: Vec<String>,
}

/// Why a log is not copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The log is not what it should be.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// What the copy keeps as its checkpoint is none.
    #[error("the copy's own `checkpoint` cannot be used")]
    Copy(#[source] crate::checkpoint::CheckpointError),
    /// The copy cannot be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An entry of the copy is none.
    #[error("entry {index} is not a valid entry")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        source: EnvelopeError,
    },
}

impl MirrorError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Log(error) => error.help(),
            Self::Copy(_) => Some("copy into a new directory, and compare the two".to_owned()),
            Self::Storage(error) => error.help(),
            Self::Entry { source, .. } => source.help(),
        }
    }
}

impl From<TreeError> for MirrorError {
    fn from(error: TreeError) -> Self {
        Self::Log(error.into())
    }
}

impl<'a, S: ReadStorage> Mirror<'a, S> {
    /// Reads the log's checkpoint and holds it to what the copy has, and to another one kept elsewhere
    /// where there is one. Writes nothing.
    ///
    /// # Errors
    /// If the log is not signed by the policy's keys, was rolled back, or was rewritten.
    pub fn begin(
        log: S,
        copy: &'a Directory,
        policy: &'a Policy,
        since: Option<&SignedCheckpoint>,
    ) -> Result<Self, MirrorError> {
        // In this order the witnessed one is never ahead.
        let witnessed = log.get(WITNESSED, MAX_NOTE)?;
        let checkpoint = log.get(CHECKPOINT, MAX_NOTE)?.ok_or(VerifyError::NoCheckpoint)?;
        let fixed = Fixed { inner: &log, checkpoint: &checkpoint, witnessed: witnessed.as_deref() };
        let (_, head) = verify::checkpoint(&fixed, policy)?;
        let tree = Tree::new(&fixed, head.size(), head.root());
        let mut known = 0;
        if let Some(kept) = copy.get(CHECKPOINT, MAX_NOTE)? {
            let kept = SignedCheckpoint::parse(&kept).map_err(MirrorError::Copy)?;
            known = verify::continues(&tree, &kept, &head, policy)?;
        }
        if let Some(since) = since {
            verify::continues(&tree, since, &head, policy)?;
        }
        let written = Vec::new();
        Ok(Self { log, copy, policy, checkpoint, witnessed, head, held: known, written })
    }

    /// Entries of the log, all of which the copy will have.
    pub fn size(&self) -> u64 {
        self.head.size()
    }

    /// Entries that the copy had before.
    pub fn held(&self) -> u64 {
        self.held
    }

    /// Fetches the files that the copy has not; says how many.
    ///
    /// # Errors
    /// If one is missing, or the copy cannot be written.
    pub fn fetch(&mut self) -> Result<usize, MirrorError> {
        let before = self.written.len();
        // A copy that has all of this size has its partial files as well.
        if self.held == self.size() {
            return Ok(0);
        }
        for tile in layout::files_since(self.held, self.size()) {
            let bytes = tree::fetch(&self.log, tile, self.size())?;
            let path = tile.to_string();
            self.copy.put(&path, &bytes)?;
            self.written.push(path);
        }
        Ok(self.written.len() - before)
    }

    /// Verifies the copy as a whole, with payloads where they are given, and makes it the copy of this
    /// checkpoint.
    ///
    /// # Errors
    /// The first fault; what was fetched is taken away again then.
    pub fn finish(
        mut self,
        payloads: Option<&dyn verify::Payloads>,
    ) -> Result<Verified, MirrorError> {
        let fixed = Fixed {
            inner: self.copy,
            checkpoint: &self.checkpoint,
            witnessed: self.witnessed.as_deref(),
        };
        let against = Against { payloads, ..Against::policy(self.policy) };
        let verified = verify::verify(&fixed, &against)?;
        if let Some(witnessed) = &self.witnessed {
            self.copy.put(WITNESSED, witnessed)?;
        }
        self.copy.put(CHECKPOINT, &self.checkpoint)?;
        self.written.clear();
        self.tidy()?;
        Ok(verified)
    }

    /// Removes the earlier states of tiles that have grown.
    fn tidy(&self) -> Result<(), StorageError> {
        for row in Row::all(self.held) {
            let Some(earlier) = row.partial(self.held) else { continue };
            if row.tile(earlier.index, self.size()) != Some(earlier) {
                self.copy.remove(&earlier.to_string())?;
            }
        }
        Ok(())
    }
}

impl<S: ReadStorage> Mirror<'_, S> {
    /// The entries from one on, as they were fetched, those of before included. They are not verified
    /// before [`Mirror::finish`].
    pub fn entries(&self, from: u64) -> impl Iterator<Item = Result<Envelope, MirrorError>> {
        let size = self.size();
        let bundles = from / WIDTH..size.div_ceil(WIDTH);
        let entries = bundles.flat_map(move |index| match bundle(self.copy, index, size) {
            Ok(entries) => entries,
            Err(error) => vec![Err(error)],
        });
        entries.filter(move |entry| !entry.as_ref().is_ok_and(|entry| entry.sequence < from))
    }
}

/// A copy that is given up leaves nothing behind that was not there before.
impl<S> Drop for Mirror<'_, S> {
    fn drop(&mut self) {
        for path in &self.written {
            // What is left over is fetched anew the next time.
            let _ = self.copy.remove(path);
        }
    }
}

fn bundle(
    copy: &Directory,
    index: u64,
    size: u64,
) -> Result<Vec<Result<Envelope, MirrorError>>, MirrorError> {
    let tile = Row::Entries.tile(index, size).expect("a tree has the tiles of its size");
    let bytes = tree::fetch(copy, tile, size)?;
    let parse = |(index, entry): (u64, Option<&[u8]>)| {
        let entry = entry.ok_or_else(|| MirrorError::from(tree::malformed(tile)))?;
        Envelope::parse(entry).map_err(|source| MirrorError::Entry { index, source })
    };
    Ok((index * WIDTH..).zip(layout::entries(&bytes)).map(parse).collect())
}

/// A storage with these checkpoints in place of its own.
struct Fixed<'a, S> {
    inner: &'a S,
    checkpoint: &'a [u8],
    witnessed: Option<&'a [u8]>,
}

impl<S: ReadStorage> ReadStorage for Fixed<'_, S> {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        match path {
            CHECKPOINT => Ok(Some(self.checkpoint.to_vec())),
            WITNESSED => Ok(self.witnessed.map(<[u8]>::to_vec)),
            _ => self.inner.get(path, limit),
        }
    }

    fn list(&self, folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        self.inner.list(folder)
    }
}
