//! Chooses key frames and deltas for the contents of files, one file after the other.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bases::Bases;
use crate::error::Result;
use crate::frame::{Chain, encode};
use crate::likeness::Likeness;
use crate::version::ContentId;

use super::layout::Lean;

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

/// How a frame that was made is found, by the encoder's own numbers.
#[derive(Debug, Clone, Copy)]
pub(super) enum Base {
    /// By itself.
    Key,
    /// Against that frame.
    Frame(usize),
    /// Against one of an earlier partition.
    There(Lean),
}

/// A frame that has no number in the partition yet.
pub(super) struct Made {
    pub(super) id: ContentId,
    pub(super) base: Base,
    pub(super) chain: Chain,
    /// Whether it needs no other partition.
    pub(super) is_own: bool,
    pub(super) length: usize,
    pub(super) stored: Vec<u8>,
}

/// Makes frames of contents; keeps each once.
pub(super) struct Encoder {
    level: i32,
    pub(super) frames: Vec<Made>,
    known: HashMap<ContentId, usize>,
    /// What there is of the file already.
    bases: Bases,
    anchor: Option<Anchor>,
    /// What a file's first frame may be a delta against: the same file of other items, files that were moved.
    likeness: Likeness,
}

/// How much more effort a key frame is worth than a delta: there are few of them, and they are large.
const KEY_FRAMES: i32 = 3;

/// A file that has drifted away from what it leans on shall have a frame of its own.
const FAR: usize = 50;

/// What a content may be a delta against, and its chain then.
struct Against {
    base: Base,
    content: Arc<[u8]>,
    chain: Chain,
    is_own: bool,
    /// A delta of so many hundredths of a key frame is not worth it.
    worth: usize,
}

impl Encoder {
    pub(super) fn new(level: i32) -> Self {
        Self {
            level,
            frames: Vec::new(),
            known: HashMap::new(),
            bases: Bases::default(),
            anchor: None,
            likeness: Likeness::default(),
        }
    }

    /// Whether a content is in already.
    pub(super) fn knows(&self, id: ContentId) -> bool {
        self.known.contains_key(&id)
    }

    /// Goes on with another file, which may lean on an earlier content of it.
    pub(super) fn file(&mut self, anchor: Option<Anchor>) {
        // What comes after it may be a copy of what it was last.
        if let Some(last) = self.bases.last().filter(|last| !self.bases.is_first(last)) {
            let (frame, content) = (last.frame, Arc::clone(&last.content));
            self.offer(frame, &content);
        }
        self.bases.clear();
        self.anchor = anchor;
    }

    /// The frame of the file's next content, made where it is not there yet.
    pub(super) fn content(&mut self, id: ContentId, content: Arc<[u8]>) -> Result<usize> {
        let frame = if let Some(&frame) = self.known.get(&id) {
            frame
        } else {
            let made = self.encoded(id, &content)?;
            self.frames.push(made);
            self.known.insert(id, self.frames.len() - 1);
            self.frames.len() - 1
        };
        if self.bases.last().is_none() {
            self.offer(frame, &content);
        }
        self.bases.add(frame, content, self.frames[frame].chain);
        Ok(frame)
    }

    fn offer(&mut self, frame: usize, content: &Arc<[u8]>) {
        // One partition alone is read for it.
        if self.frames[frame].is_own {
            self.likeness.offer(frame, content);
        }
    }

    /// A delta where its chain may grow and it is worth it; otherwise a key frame.
    fn encoded(&self, id: ContentId, content: &[u8]) -> Result<Made> {
        let length = content.len();
        let key = |stored| {
            let (base, chain) = (Base::Key, Chain::key(length));
            Made { id, base, chain, is_own: true, length, stored }
        };
        let Some(against) = self.against(content) else {
            return Ok(key(encode(content, None, self.level + KEY_FRAMES)?));
        };
        let delta = encode(content, Some(&against.content), self.level)?;
        // What is an eighth of the content or less is a good delta, whatever a key frame were.
        if delta.len() > length / 8 {
            let alone = encode(content, None, self.level + KEY_FRAMES)?;
            if delta.len() * 100 >= alone.len() * against.worth {
                return Ok(key(alone));
            }
        }
        let Against { base, chain, is_own, .. } = against;
        Ok(Made { id, base, chain, is_own, length, stored: delta })
    }

    fn against(&self, content: &[u8]) -> Option<Against> {
        let here = |frame: usize, content: &Arc<[u8]>, chain, worth| Against {
            base: Base::Frame(frame),
            content: Arc::clone(content),
            chain,
            is_own: self.frames[frame].is_own,
            worth,
        };
        if self.bases.last().is_some() {
            let (base, chain) = self.bases.of(content)?;
            return Some(here(base.frame, &base.content, chain, 75));
        }
        if let Some(Anchor { lean, content: before, chain }) = &self.anchor {
            return Some(Against {
                base: Base::There(*lean),
                content: Arc::clone(before),
                chain: chain.grown(content.len())?,
                is_own: false,
                worth: FAR,
            });
        }
        let (frame, like) = self.likeness.of(content)?;
        let chain = self.frames[frame].chain.grown(content.len())?;
        Some(here(frame, like, chain, FAR))
    }
}
