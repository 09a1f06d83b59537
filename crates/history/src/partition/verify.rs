//! Verifies a whole object, and rewrites one with less in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::Arc;

use crate::commitment::{Committer, Leaf};
use crate::edits::Edited;
use crate::error::{HistoryError, Result};
use crate::frame::{Base, By, Kind, decode, encode};
use crate::keys::{DataKey, Pool};
use crate::version::{ContentDigest, ContentId, FilePath, Item, Micros, State};

use super::block::{Found, Frame};
use super::builder::threads;
use super::layout::Lean;
use super::reader::Partition;
use super::writer::{Object, Writer};

/// What a whole verification read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Verified {
    /// Versions.
    pub versions: u64,
    /// Contents, each decoded and hashed.
    pub contents: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Batches whose commitments follow from what there is.
    pub batches: u64,
    /// Batches of which retention took versions: their commitments cannot be made again.
    pub thinned: u64,
}

/// Gives the contents of frames of other partitions. Several threads ask.
pub type Leaned<'a> = dyn Fn(Lean) -> Result<Arc<[u8]>> + Sync + 'a;

/// What is to stay when a partition is rewritten.
#[derive(Debug, Clone, Default)]
pub struct Keep {
    /// Keep of each file only what was in force at this moment or recorded after it, without files that were gone.
    pub since: Option<Micros>,
    /// Files of which not even that is kept, because a later partition has what was in force then.
    pub superseded: BTreeSet<(Item, FilePath)>,
    /// Frames that other partitions lean on.
    pub frames: BTreeSet<u64>,
    /// Partitions that may not be leaned on any more.
    pub without: BTreeSet<u64>,
}

impl Partition {
    /// Reads everything: each block opens, each content is the one that the index names, all versions are in
    /// their order and as many as there should be, and the commitments follow from them.
    pub fn verify(&self, key: &DataKey, pool: &Pool, leaned: &Leaned<'_>) -> Result<Verified> {
        let mut verified = Verified::default();
        let digests = self.digests(pool, leaned)?;
        verified.contents = digests.len() as u64;
        verified.bytes = digests.values().map(|(_, length)| *length).sum();
        if verified.contents != self.footer.frames {
            return Err(unlike("the number of frames"));
        }
        let committer = Committer::new(key);
        let mut batches: BTreeMap<(Item, Micros), Vec<Leaf>> = BTreeMap::new();
        self.each_version(&mut |item, path, found| {
            verified.versions += 1;
            let recorded = found.version.recorded;
            let mut digest = None;
            if let (State::Present { content, length, .. }, Some(frame)) =
                (&found.version.state, found.frame)
            {
                let (is, is_long) = digests.get(&frame).ok_or(unlike("the frame of a version"))?;
                if ContentId::from(*is) != *content || is_long != length {
                    return Err(unlike("the content of a version"));
                }
                digest = Some(*is);
            }
            let leaf = committer.leaf(path, &found.version, digest);
            batches.entry((item, recorded)).or_default().push(leaf);
            Ok(())
        })?;
        if verified.versions != self.footer.versions {
            return Err(unlike("the number of versions"));
        }
        for commitment in self.commitments()? {
            let leaves = batches.remove(&(commitment.item, commitment.recorded));
            let leaves = leaves.unwrap_or_default();
            if leaves.len() < commitment.versions as usize && self.footer.is_thinned {
                verified.thinned += 1;
            } else if committer.batch(commitment.item, commitment.recorded, &leaves) == commitment {
                verified.batches += 1;
            } else {
                return Err(unlike("a commitment"));
            }
        }
        if batches.is_empty() { Ok(verified) } else { Err(unlike("the list of commitments")) }
    }

    /// Calls for each version, in order.
    pub fn each_version(
        &self,
        call: &mut dyn FnMut(Item, &FilePath, Found) -> Result<()>,
    ) -> Result<()> {
        let mut last: Option<(Item, FilePath, Micros)> = None;
        for block in 0..self.footer.indexes.len() {
            let index = &self.footer.indexes[block];
            let mut is_first = true;
            for group in self.groups(block)? {
                for found in group.versions {
                    let key = (group.item, group.path.clone(), found.version.recorded);
                    let is_at_place = !is_first || index.key() == (key.0, key.1.as_str(), key.2);
                    if !is_at_place || last.as_ref().is_some_and(|last| *last >= key) {
                        return Err(unlike("the order of versions"));
                    }
                    is_first = false;
                    last = Some(key);
                    call(group.item, &group.path, found)?;
                }
            }
        }
        Ok(())
    }

    /// Digest and length of each content, by its frame.
    fn digests(&self, pool: &Pool, leaned: &Leaned<'_>) -> Result<Digests> {
        let packs = self.footer.packs.len();
        let bytes: usize = self.footer.packs.iter().map(|pack| pack.length).sum();
        // Contents are several times as long as their frames.
        let threads = threads(bytes as u64 * 8).min(packs).max(1);
        let work = |part: usize| -> Result<Digests> {
            let mut digests = Digests::new();
            let packs = packs * part / threads..packs * (part + 1) / threads;
            self.each_content(packs, leaned, &mut |number, content| {
                digests.insert(number, (pool.digest(content), content.len() as u64));
            })?;
            Ok(digests)
        };
        if threads == 1 {
            return work(0);
        }
        std::thread::scope(|scope| {
            let work = &work;
            let parts: Vec<_> = (0..threads).map(|part| scope.spawn(move || work(part))).collect();
            let mut digests = Digests::new();
            for part in parts {
                let part = part.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                digests.extend(part?);
            }
            Ok(digests)
        })
    }

    /// Decodes each frame of some packs once, in order.
    fn each_content(
        &self,
        packs: Range<usize>,
        leaned: &Leaned<'_>,
        call: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<()> {
        /// Decoded contents that later frames may be deltas against.
        const RECENT_BYTES: usize = 64 << 20;
        let mut recent: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut recent_bytes = 0;
        for pack in packs {
            let pack = self.pack(pack)?;
            for (frame, stored) in pack.frames() {
                let content = match frame.kind {
                    Kind::Key => decode(stored, None, frame.length)?,
                    Kind::Delta(Base::Frame(base), by) => match recent.get(&base) {
                        Some(base) => delta(stored, base, by, frame.length)?,
                        None => self.whole_content(frame.number, leaned)?,
                    },
                    Kind::Delta(Base::Lean(which), by) => {
                        let base = leaned(self.leaned(which)?)?;
                        delta(stored, &base, by, frame.length)?
                    }
                };
                call(frame.number, &content);
                recent_bytes += content.len();
                recent.insert(frame.number, content);
                while recent_bytes > RECENT_BYTES {
                    let Some((_, oldest)) = recent.pop_first() else { break };
                    recent_bytes -= oldest.len();
                }
            }
        }
        Ok(())
    }

    /// The content of a frame, with what it leans on.
    pub fn whole_content(&self, frame: u64, leaned: &Leaned<'_>) -> Result<Vec<u8>> {
        match self.content_or_leaning(frame)? {
            Ok(content) => Ok(content),
            Err(leaning) => leaning.content(&leaned(leaning.on())?),
        }
    }

    /// The same partition with less in it, under another salt or another key. Frames keep their numbers, so that what leans
    /// on them does so still; what was taken out is in no frame that stays, but where another partition leans
    /// on it. `None` where nothing stays.
    pub fn rewrite(
        &self,
        keep: &Keep,
        key: &DataKey,
        salt: &[u8; 32],
        level: i32,
        leaned: &Leaned<'_>,
    ) -> Result<Option<Object>> {
        let kept = self.kept(keep)?;
        let mut staying: BTreeSet<u64> = keep.frames.clone();
        staying.extend(kept.iter().filter_map(|(_, _, found)| found.frame));
        if kept.is_empty() && staying.is_empty() {
            return Ok(None);
        }
        let mut missing = staying.clone();
        let mut writer = Writer::new(self.number(), key, salt);
        for pack in 0..self.footer.packs.len() {
            let pack = self.pack(pack)?;
            for (frame, stored) in pack.frames() {
                let Frame { number, kind, length } = *frame;
                if !missing.remove(&number) {
                    continue;
                }
                let kind = match kind {
                    Kind::Key => Some(Kind::Key),
                    Kind::Delta(Base::Frame(base), _) => staying.contains(&base).then_some(kind),
                    Kind::Delta(Base::Lean(which), by) => {
                        let lean = self.leaned(which)?;
                        let may_stay = !keep.without.contains(&lean.partition);
                        may_stay.then(|| Kind::Delta(Base::Lean(writer.lean(lean)), by))
                    }
                };
                if let Some(kind) = kind {
                    writer.frame(&Frame { number, kind, length }, stored)?;
                } else {
                    let content = self.whole_content(number, leaned)?;
                    let alone = encode(&content, None, level)?;
                    writer.frame(&Frame { number, kind: Kind::Key, length }, &alone)?;
                }
            }
        }
        if let Some(&number) = missing.first() {
            return Err(HistoryError::NoFrame { number });
        }
        let total = self.footer.versions;
        for (item, path, found) in &kept {
            writer.version(*item, path, found)?;
        }
        let is_thinned = self.footer.is_thinned || (kept.len() as u64) < total;
        let span = is_thinned.then_some((self.footer.first, self.footer.last));
        writer.finish(&self.commitments()?, span).map(Some)
    }

    /// The versions that stay.
    fn kept(&self, keep: &Keep) -> Result<Vec<(Item, FilePath, Found)>> {
        let mut kept: Vec<(Item, FilePath, Found)> = Vec::new();
        self.each_version(&mut |item, path, found| {
            let Some(since) = keep.since else {
                kept.push((item, path.clone(), found));
                return Ok(());
            };
            // Whatever was in force before this one is not any more at that moment.
            kept.pop_if(|(before_item, before_path, _)| {
                found.version.recorded <= since && (*before_item, &*before_path) == (item, path)
            });
            kept.push((item, path.clone(), found));
            Ok(())
        })?;
        if let Some(since) = keep.since {
            kept.retain(|(item, path, found)| {
                found.version.recorded > since
                    || (found.frame.is_some() && !keep.superseded.contains(&(*item, path.clone())))
            });
        }
        Ok(kept)
    }
}

type Digests = HashMap<u64, (ContentDigest, u64)>;

/// The content of a delta, by its base.
fn delta(stored: &[u8], base: &[u8], by: By, length: usize) -> Result<Vec<u8>> {
    match by {
        By::Prefix => decode(stored, Some(base), length),
        By::Edits => Edited::of(base)
            .apply(stored, length)
            .and_then(|edited| edited.bytes(length))
            .ok_or(HistoryError::damaged("a frame")),
    }
}

fn unlike(what: &str) -> HistoryError {
    HistoryError::Unlike { what: what.to_owned() }
}
