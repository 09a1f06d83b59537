//! Chooses key frames and deltas for the contents of files, one file after the other.

use std::collections::HashMap;
use std::sync::Arc;

use crate::bases::Bases;
use crate::edits::script;
use crate::error::Result;
use crate::frame::{By, Chain, encode};
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
    Frame(usize, By),
    /// Against one of an earlier partition.
    There(Lean, By),
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

/// A script that is so short is taken without a look at what zstd makes of it.
const SHORT: usize = 96;

/// Hundredths that are left of a script where several are compressed together.
const SCRIPT: usize = 50;

/// Of a script that is so long it is asked.
const LONG: usize = 512;

/// How a delta says what differs, its chain, and what is stored of it.
type Delta = (By, Chain, Vec<u8>);

/// A file that has drifted away from what it leans on shall have a frame of its own.
const FAR: usize = 50;

/// What a content may be a delta against.
struct Against {
    base: Place,
    content: Arc<[u8]>,
    /// The chain of that content.
    chain: Chain,
    is_own: bool,
    /// A delta of so many hundredths of a key frame is not worth it.
    worth: usize,
}

/// Where a content is that others may be deltas against.
enum Place {
    Here(usize),
    There(Lean),
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
        // What many files lean on is near to all of them: files are far apart, and each link between two is a read.
        if matches!(self.frames[frame].base, Base::Key) {
            self.likeness.offer(frame, content);
        }
    }

    /// A delta where its chain may grow and it is worth it; otherwise a key frame.
    fn encoded(&self, id: ContentId, content: &[u8]) -> Result<Made> {
        let length = content.len();
        if let Some(against) = self.against(content)
            && let Some((by, chain, stored)) = self.delta(&against, content)?
        {
            let Against { base, is_own, .. } = against;
            let base = match base {
                Place::Here(frame) => Base::Frame(frame, by),
                Place::There(lean) => Base::There(lean, by),
            };
            return Ok(Made { id, base, chain, is_own, length, stored });
        }
        let stored = encode(content, None, self.level + KEY_FRAMES)?;
        Ok(Made { id, base: Base::Key, chain: Chain::key(length), is_own: true, length, stored })
    }

    /// The smaller one of both ways to say what differs, if its chain may grow and it is worth it.
    fn delta(&self, against: &Against, content: &[u8]) -> Result<Option<Delta>> {
        let Against { content: base, chain, worth, .. } = against;
        let mut ways: Vec<(usize, Delta)> = Vec::with_capacity(2);
        let script = script(base, content);
        if let Some(chain) = chain.grown(script.len()) {
            if script.len() <= SHORT {
                return Ok(Some((By::Edits, chain, script)));
            }
            ways.push((self.compressed(&script)?, (By::Edits, chain, script)));
        }
        if let Some(chain) = chain.grown(content.len()) {
            let delta = encode(content, Some(base), self.level)?;
            ways.push((delta.len(), (By::Prefix, chain, delta)));
        }
        let Some((size, delta)) = ways.into_iter().min_by_key(|(size, _)| *size) else {
            return Ok(None);
        };
        // What is an eighth of the content or less is a good delta, whatever a key frame were.
        let is_worth_it = size <= content.len() / 8
            || size * 100 < encode(content, None, self.level)?.len() * worth;
        Ok(is_worth_it.then_some(delta))
    }

    /// About how many bytes are left of a script that is compressed together with others.
    fn compressed(&self, script: &[u8]) -> Result<usize> {
        if script.len() < LONG {
            return Ok(script.len() * SCRIPT / 100);
        }
        Ok(encode(script, None, self.level)?.len() * 75 / 100)
    }

    fn against(&self, content: &[u8]) -> Option<Against> {
        let here = |frame: usize, content: &Arc<[u8]>, worth| Against {
            base: Place::Here(frame),
            content: Arc::clone(content),
            chain: self.frames[frame].chain,
            is_own: self.frames[frame].is_own,
            worth,
        };
        if self.bases.last().is_some() {
            let base = self.bases.of(content)?;
            return Some(here(base.frame, &base.content, 75));
        }
        if let Some(Anchor { lean, content: before, chain }) = &self.anchor {
            return Some(Against {
                base: Place::There(*lean),
                content: Arc::clone(before),
                chain: *chain,
                is_own: false,
                worth: FAR,
            });
        }
        let (frame, like) = self.likeness.of(content)?;
        Some(here(frame, like, FAR))
    }
}
