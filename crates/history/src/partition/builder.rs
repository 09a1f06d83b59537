//! Seals what was recorded in a span of time: chooses key frames and deltas, and keeps each content once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::commitment::{Commitment, Committer, Leaf};
use crate::error::{HistoryError, Result};
use crate::frame::{Chain, Kind, encode};
use crate::keys::{DataKey, Pool};
use crate::version::{ContentId, FilePath, Item, Micros, State, Version};

use super::block::Found;
use super::layout::Lean;
use super::writer::{Object, Writer};

/// A content of an earlier partition that a file's first frame may lean on.
#[derive(Debug, Clone)]
pub struct Anchor {
    /// Where it is.
    pub lean: Lean,
    /// The content.
    pub content: Arc<[u8]>,
    /// How far it is from a key frame there.
    pub chain: Chain,
}

/// A file as it was sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedFile {
    /// Of which item.
    pub item: Item,
    /// Which file.
    pub path: FilePath,
    /// When its first version in this partition was recorded.
    pub first: Micros,
    /// Its last frame that needs no other partition, if there is one: later ones may lean on it.
    pub anchor: Option<u64>,
}

/// A sealed partition, with what is to be remembered of its files.
#[derive(Debug)]
pub struct Sealed {
    /// The object.
    pub object: Object,
    /// Its files, in order.
    pub files: Vec<SealedFile>,
    /// What was committed to, by item and time.
    pub commitments: Vec<Commitment>,
}

/// A partition in the making. Versions come by item, path and time.
pub struct Sealing<'a> {
    pool: &'a Pool,
    committer: Committer,
    level: i32,
    writer: Writer,
    known: HashMap<ContentId, u64>,
    /// How far each frame is from a key frame, and whether that is in this partition.
    frames: Vec<(Chain, bool)>,
    files: Vec<SealedFile>,
    before: Option<Before>,
    anchor: Option<Anchor>,
    /// Key frames by path: what other items have there is mostly much the same.
    siblings: HashMap<FilePath, (u64, Arc<[u8]>)>,
    sibling_bytes: usize,
    leaves: BTreeMap<(Item, Micros), Vec<Leaf>>,
}

/// Most bytes of contents that are kept for siblings.
const SIBLING_BYTES: usize = 128 << 20;

/// The file's content before.
struct Before {
    frame: u64,
    content: Arc<[u8]>,
}

impl<'a> Sealing<'a> {
    /// Begins. `number` names the partition among the tenant's, `salt` is 32 random bytes of this object
    /// alone, `level` is zstd's.
    pub fn new(number: u64, key: &DataKey, pool: &'a Pool, salt: &[u8; 32], level: i32) -> Self {
        Self {
            pool,
            committer: Committer::new(key),
            level,
            writer: Writer::new(number, key, salt),
            known: HashMap::new(),
            frames: Vec::new(),
            files: Vec::new(),
            before: None,
            anchor: None,
            siblings: HashMap::new(),
            sibling_bytes: 0,
            leaves: BTreeMap::new(),
        }
    }

    /// Whether a content is in already: it need not be read again.
    pub fn knows(&self, content: ContentId) -> bool {
        self.known.contains_key(&content)
    }

    /// Goes on with another file, which may lean on an earlier content of it.
    pub fn file(&mut self, item: Item, path: FilePath, anchor: Option<Anchor>) {
        self.before = None;
        self.anchor = anchor;
        self.files.push(SealedFile { item, path, first: Micros::MAX, anchor: None });
    }

    /// Adds a version of the file, with its content where it has one.
    pub fn version(&mut self, version: Version, content: Option<Arc<[u8]>>) -> Result<()> {
        let file = self.files.last_mut().ok_or(HistoryError::Unordered { what: "a version" })?;
        let (item, path) = (file.item, file.path.clone());
        file.first = file.first.min(version.recorded);
        let (mut frame, mut digest) = (None, None);
        match (&version.state, content) {
            (State::Gone, None) => {}
            (State::Present { content: id, length, .. }, Some(content)) => {
                let found = self.pool.digest(&content);
                if ContentId::from(found) != *id || content.len() as u64 != *length {
                    return Err(HistoryError::Unlike { what: format!("the content of `{path}`") });
                }
                digest = Some(found);
                frame = Some(self.frame(*id, content)?);
            }
            _ => return Err(HistoryError::Unlike { what: format!("the state of `{path}`") }),
        }
        let leaf = self.committer.leaf(&path, &version, digest);
        self.leaves.entry((item, version.recorded)).or_default().push(leaf);
        self.writer.version(item, &path, &Found { version, frame })
    }

    /// The frame of a content, made where it is not there yet.
    fn frame(&mut self, id: ContentId, content: Arc<[u8]>) -> Result<u64> {
        let number = match self.known.get(&id) {
            Some(&number) => number,
            None => self.new_frame(id, &content)?,
        };
        self.offer_to_siblings(number, &content);
        if let (true, Some(file)) = (self.frames[frame_index(number)].1, self.files.last_mut()) {
            file.anchor = Some(number);
        }
        self.before = Some(Before { frame: number, content });
        Ok(number)
    }

    /// Remembers the first key frame of a path, for the same file of other items.
    fn offer_to_siblings(&mut self, number: u64, content: &Arc<[u8]>) {
        let Some(file) = self.files.last() else { return };
        let (chain, is_own) = self.frames[frame_index(number)];
        let fits = self.sibling_bytes + content.len() <= SIBLING_BYTES;
        if is_own && chain.depth == 0 && fits && !self.siblings.contains_key(&file.path) {
            self.sibling_bytes += content.len();
            self.siblings.insert(file.path.clone(), (number, Arc::clone(content)));
        }
    }

    fn new_frame(&mut self, id: ContentId, content: &[u8]) -> Result<u64> {
        let number = self.frames.len() as u64;
        let (kind, chain, is_own, stored) = self.encoded(content)?;
        self.writer.frame(number, kind, content.len(), &stored)?;
        self.frames.push((chain, is_own));
        self.known.insert(id, number);
        Ok(number)
    }

    /// A delta where its chain may grow and it is worth it; otherwise a key frame.
    fn encoded(&mut self, content: &[u8]) -> Result<(Kind, Chain, bool, Vec<u8>)> {
        enum Base {
            Here(u64, bool),
            There(Lean),
            Sibling(u64),
        }
        let base = match (&self.before, &self.anchor) {
            (Some(before), _) => {
                let (chain, is_own) = self.frames[frame_index(before.frame)];
                Some((Base::Here(before.frame, is_own), Arc::clone(&before.content), chain))
            }
            (None, Some(anchor)) => {
                Some((Base::There(anchor.lean), Arc::clone(&anchor.content), anchor.chain))
            }
            (None, None) => {
                let sibling = self.files.last().and_then(|file| self.siblings.get(&file.path));
                sibling.map(|(frame, content)| {
                    (Base::Sibling(*frame), Arc::clone(content), Chain::key(content.len()))
                })
            }
        };
        let grown = base
            .and_then(|(base, before, chain)| Some((base, before, chain.grown(content.len())?)));
        let Some((base, before, chain)) = grown else {
            let key = encode(content, None, self.level)?;
            return Ok((Kind::Key, Chain::key(content.len()), true, key));
        };
        let delta = encode(content, Some(&before), self.level)?;
        // What is an eighth of the content or less is a good delta, whatever a key frame were.
        if delta.len() > content.len() / 8 {
            let key = encode(content, None, self.level)?;
            let is_worth_it = match base {
                Base::Here(..) => delta.len() * 4 < key.len() * 3,
                // A file that has drifted away from its anchor shall have a new one.
                Base::There(_) | Base::Sibling(_) => delta.len() * 2 < key.len(),
            };
            if !is_worth_it {
                return Ok((Kind::Key, Chain::key(content.len()), true, key));
            }
        }
        Ok(match base {
            Base::Here(frame, is_own) => (Kind::Delta(frame), chain, is_own, delta),
            Base::Sibling(frame) => (Kind::Delta(frame), chain, true, delta),
            Base::There(lean) => (Kind::Lean(self.writer.lean(lean)), chain, false, delta),
        })
    }

    /// Seals all of it.
    pub fn finish(self) -> Result<Sealed> {
        let commitments: Vec<_> = self
            .leaves
            .into_iter()
            .map(|((item, recorded), leaves)| self.committer.batch(item, recorded, &leaves))
            .collect();
        let object = self.writer.finish(&commitments, None)?;
        Ok(Sealed { object, files: self.files, commitments })
    }
}

/// Frames of a partition in the making are all in memory.
fn frame_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
