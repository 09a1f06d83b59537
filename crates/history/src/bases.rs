//! Which of a file's contents its next one is best a delta against.
//!
//! The one before is mostly the nearest, but each frame of a chain makes the chain longer, and a chain that is too long
//! begins anew farther back. So the bytes of lines that a content lacks are weighed against how many frames may still
//! follow, as git does where it packs objects: chains branch early enough that none has to begin far away. Besides,
//! what goes back to what it was leans on that.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::frame::{Chain, DEEPEST};
use crate::lines::lines;

/// How many contents are at hand, at most: bits of a mask.
const MOST: usize = 32;

/// And of how many bytes; two are, however large.
const MOST_BYTES: usize = 16 << 20;

/// So many of the last ones are not forgotten for being useless: what goes back goes to one of these.
const RECENT: usize = 4;

/// What a frame costs beside the lines that its base lacks.
const FRAME: usize = 48;

/// Contents of one file.
#[derive(Default)]
pub(crate) struct Bases {
    /// The oldest first.
    contents: Vec<Base>,
    bytes: usize,
    /// In which of them a line is, by their slots.
    holders: HashMap<u64, u32, RandomState>,
}

/// A content that the next may be a delta against.
pub(crate) struct Base {
    /// The number that was given with it.
    pub(crate) frame: usize,
    /// The content.
    pub(crate) content: Arc<[u8]>,
    chain: Chain,
    /// Its bit in masks.
    slot: u32,
}

impl Bases {
    /// Goes on with another file.
    pub(crate) fn clear(&mut self) {
        self.contents.clear();
        self.holders.clear();
        self.bytes = 0;
    }

    /// The content that was added last.
    pub(crate) fn last(&self) -> Option<&Base> {
        self.contents.last()
    }

    /// Whether it is the file's first content.
    pub(crate) fn is_first(&self, base: &Base) -> bool {
        self.contents.first().is_some_and(|first| first.frame == base.frame)
    }

    /// The file's next content is in this frame.
    pub(crate) fn add(&mut self, frame: usize, content: Arc<[u8]>, chain: Chain) {
        if let Some(at) = self.contents.iter().position(|base| base.frame == frame) {
            let again = self.contents.remove(at);
            self.contents.push(again);
            return;
        }
        while self.contents.len() == MOST
            || self.contents.len() > 1 && self.bytes + content.len() > MOST_BYTES
        {
            self.forget();
        }
        let used = self.contents.iter().fold(0, |used, base| used | base.slot);
        let slot = 1 << (!used).trailing_zeros();
        for (line, _) in lines(&content) {
            *self.holders.entry(line).or_default() |= slot;
        }
        self.bytes += content.len();
        self.contents.push(Base { frame, content, chain, slot });
    }

    /// Forgets the oldest one that a later one makes useless, as its chain is no shorter; else the second.
    fn forget(&mut self) {
        let recent = self.contents.len() - self.contents.len().min(RECENT);
        let mut shortest = u32::MAX;
        let mut useless = None;
        for at in (1..self.contents.len()).rev() {
            let depth = self.contents[at].chain.depth;
            if at < recent && depth >= shortest {
                useless = Some(at);
            }
            shortest = shortest.min(depth);
        }
        let last = self.contents.len() - 1;
        let base = self.contents.remove(useless.unwrap_or(1.min(last)));
        self.bytes -= base.content.len();
        for (line, _) in lines(&base.content) {
            if let Some(holders) = self.holders.get_mut(&line) {
                *holders &= !base.slot;
                if *holders == 0 {
                    self.holders.remove(&line);
                }
            }
        }
    }

    /// The one to make a delta of this content against, if there is one whose chain may grow by it.
    pub(crate) fn of(&self, content: &[u8]) -> Option<&Base> {
        let all = self.contents.iter().fold(0, |all, base| all | base.slot);
        let mut lacking = [FRAME; MOST];
        for (line, length) in lines(content) {
            let mut without = all & !self.holders.get(&line).copied().unwrap_or(0);
            while without != 0 {
                lacking[without.trailing_zeros() as usize] += length;
                without &= without - 1;
            }
        }
        let grown = self.contents.iter().rev().filter_map(|base| {
            let lacks = lacking[base.slot.trailing_zeros() as usize];
            let chain = base.chain.grown(lacks)?;
            // The fewest bytes for each frame that may still follow, this one included.
            let cost = lacks as u64 * u64::from(DEEPEST) / u64::from(chain.left(lacks) + 1);
            Some((cost, base))
        });
        grown.min_by_key(|(cost, _)| *cost).map(|(_, base)| base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(alter: impl Fn(usize) -> usize) -> Arc<[u8]> {
        let lines: Vec<String> =
            (0..400).map(|line| format!("option_{line} = {}\n", alter(line))).collect();
        lines.concat().into_bytes().into()
    }

    #[test]
    fn what_goes_back_leans_on_what_it_was() {
        let mut bases = Bases::default();
        let (one, other) = (text(|_| 1), text(|line| 2 + line / 200));
        bases.add(0, Arc::clone(&one), Chain::key(one.len()));
        bases.add(1, Arc::clone(&other), Chain::key(other.len()));
        let mut again = one.to_vec();
        again.extend_from_slice(b"and a line\n");

        assert_eq!(bases.of(&again).unwrap().frame, 0);
        assert_eq!(bases.of(&other).unwrap().frame, 1);
    }

    #[test]
    fn chains_branch_before_they_end() {
        let mut bases = Bases::default();
        let mut chains = vec![Chain::key(1)];
        bases.add(0, text(|_| 0), chains[0]);
        let mut distances = 0;
        for version in 1..400 {
            // Each alters one line for good.
            let content = text(|line| usize::from(line < version));
            let base = bases.of(&content).unwrap().frame;
            distances += version - base;
            let chain = chains[base].grown(1).unwrap();
            chains.push(chain);
            bases.add(version, content, chain);
        }

        assert!(chains.iter().all(|chain| chain.depth < DEEPEST));
        // Who lets chains grow until they end, and begins anew at the first, has four times as much.
        assert!(distances < 400 * 7, "{distances}");
    }

    #[test]
    fn where_no_chain_may_grow_there_is_none() {
        let mut bases = Bases::default();
        let content = text(|_| 1);
        let mut chain = Chain::key(content.len());
        while let Some(grown) = chain.grown(content.len()) {
            chain = grown;
        }
        bases.add(0, Arc::clone(&content), chain);

        assert!(bases.of(&content).is_none());
        assert!(Bases::default().of(&content).is_none());
    }

    #[test]
    fn so_many_bytes_are_kept_and_of_the_first_ever() {
        let mut bases = Bases::default();
        for version in 0..50 {
            let content: Arc<[u8]> = vec![version; MOST_BYTES / 8].into();
            bases.add(version.into(), content, Chain { depth: version.into(), bytes: 0 });

            assert!(bases.bytes <= MOST_BYTES);
            assert_eq!(bases.bytes, bases.contents.iter().map(|it| it.content.len()).sum());
            assert_eq!(bases.contents[0].frame, 0);
            assert_eq!(bases.holders.len(), bases.contents.len());
        }
    }
}
