//! Seals what was recorded in a span of time: contents become frames, by several threads; then all is put in order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::commitment::{Commitment, Committer, Leaf};
use crate::error::{HistoryError, Result};
use crate::frame::{self, Chain, Kind};
use crate::keys::DataKey;
use crate::version::{ContentDigest, ContentId, FilePath, Item, Micros, State, Version};

use super::block::{Found, Frame};
use super::encoder::{Anchor, Base, Encoder};
use super::layout::Lean;
use super::writer::{Object, Writer};

/// What is to be sealed of a file.
#[derive(Debug, Clone)]
pub struct Unsealed {
    /// Of which item.
    pub item: Item,
    /// Which file.
    pub path: FilePath,
    /// Its versions, the oldest first.
    pub versions: Vec<Version>,
    /// A frame of an earlier partition that its first content may lean on.
    pub anchor: Option<Lean>,
}

/// The contents of what is to be sealed. Several threads ask.
pub trait Contents: Sync {
    /// The content of a file's version, by the places of both, with the pool's digest of it.
    fn content(&self, file: usize, version: usize) -> Result<(Arc<[u8]>, ContentDigest)>;

    /// What a first frame may lean on, unless it was taken or erased since.
    fn anchor(&self, lean: Lean) -> Result<Option<Anchor>>;
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

/// From how many bytes of contents on another thread is worth it.
const WORTH_A_THREAD: u64 = 4 << 20;

/// Most threads.
const THREADS: usize = 8;

/// How many threads are worth it for so many bytes of contents.
pub(super) fn threads(bytes: u64) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let worth = usize::try_from(bytes / WORTH_A_THREAD).unwrap_or(usize::MAX);
    worth.min(processors).clamp(1, THREADS)
}

/// Seals files, which come by item and path. `number` names the partition among the tenant's, `salt` is 32 random bytes
/// of this object alone, `level` is zstd's for deltas.
///
/// # Errors
/// [`HistoryError::Unordered`] for files or versions that are not in order, [`HistoryError::Unlike`] for a content that
/// is not the one its version names, and whatever `contents` says.
pub fn seal(
    number: u64,
    key: &DataKey,
    salt: &[u8; 32],
    level: i32,
    files: Vec<Unsealed>,
    contents: &dyn Contents,
) -> Result<Sealed> {
    let bytes = files.iter().map(length).sum();
    let encoded = encode(level, &files, threads(bytes), contents)?;
    put_in_order(Writer::new(number, key, salt), Committer::new(key), files, encoded)
}

fn put_in_order(
    writer: Writer,
    committer: Committer,
    files: Vec<Unsealed>,
    encoded: Encoded,
) -> Result<Sealed> {
    let mut sealing = Sealing {
        committer,
        writer,
        known: HashMap::new(),
        frames: Vec::new(),
        numbers: encoded.encoders.iter().map(|it| vec![None; it.frames.len()]).collect(),
        encoders: encoded.encoders,
        leaves: BTreeMap::new(),
    };
    let mut sealed = Vec::with_capacity(files.len());
    for (file, (by, frames)) in files.into_iter().zip(encoded.files) {
        sealed.push(sealing.file(file, by, frames)?);
    }
    let Sealing { committer, writer, leaves, .. } = sealing;
    let commitments: Vec<_> = leaves
        .into_iter()
        .map(|((item, recorded), leaves)| committer.batch(item, recorded, &leaves))
        .collect();
    let object = writer.finish(&commitments, None)?;
    Ok(Sealed { object, files: sealed, commitments })
}

/// For each version of a file the encoder's frame, and the digest of its content.
type Frames = Vec<Option<(usize, ContentDigest)>>;

struct Encoded {
    encoders: Vec<Encoder>,
    /// By which encoder each file was, and its frames.
    files: Vec<(usize, Frames)>,
}

/// Makes frames of all contents.
fn encode(
    level: i32,
    files: &[Unsealed],
    threads: usize,
    contents: &dyn Contents,
) -> Result<Encoded> {
    let shares = shares(files, threads);
    let work = |share: &[usize]| -> Result<(Encoder, Vec<Frames>)> {
        let mut encoder = Encoder::new(level);
        let frames = share.iter().map(|&at| encode_file(&mut encoder, at, &files[at], contents));
        let frames = frames.collect::<Result<_>>()?;
        Ok((encoder, frames))
    };
    let made: Vec<_> = if let [all] = &shares[..] {
        vec![work(all)?]
    } else {
        std::thread::scope(|scope| {
            let work = &work;
            let threads: Vec<_> =
                shares.iter().map(|share| scope.spawn(move || work(share))).collect();
            let joined = threads.into_iter().map(|thread| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            });
            joined.collect::<Result<_>>()
        })?
    };
    let mut encoders = Vec::with_capacity(made.len());
    let mut by_file: Vec<Option<(usize, Frames)>> = files.iter().map(|_| None).collect();
    for (by, ((encoder, frames), share)) in made.into_iter().zip(&shares).enumerate() {
        encoders.push(encoder);
        for (&at, frames) in share.iter().zip(frames) {
            by_file[at] = Some((by, frames));
        }
    }
    Ok(Encoded { encoders, files: by_file.into_iter().flatten().collect() })
}

/// Which files go to one encoder each, about as many bytes to each: those of one name to the same, as they are likely
/// alike.
fn shares(files: &[Unsealed], count: usize) -> Vec<Vec<usize>> {
    let mut loads: HashMap<&str, u64> = HashMap::new();
    for file in files {
        *loads.entry(name(&file.path)).or_default() += length(file);
    }
    let mut names: Vec<_> = loads.into_iter().collect();
    names.sort_unstable_by_key(|&(name, load)| (std::cmp::Reverse(load), name));
    let mut loads = vec![0; count];
    let mut of = HashMap::with_capacity(names.len());
    for (name, load) in names {
        let least = (0..count).min_by_key(|&it| loads[it]).unwrap_or(0);
        loads[least] += load;
        of.insert(name, least);
    }
    let mut shares = vec![Vec::new(); count];
    for (at, file) in files.iter().enumerate() {
        shares[of[name(&file.path)]].push(at);
    }
    shares
}

/// Bytes of a file's contents.
fn length(file: &Unsealed) -> u64 {
    let lengths = file.versions.iter().map(|version| match &version.state {
        State::Present { length, .. } => *length,
        State::Gone => 0,
    });
    lengths.sum()
}

fn name(path: &FilePath) -> &str {
    path.as_str().rsplit('/').next().unwrap_or_default()
}

fn encode_file(
    encoder: &mut Encoder,
    at: usize,
    file: &Unsealed,
    contents: &dyn Contents,
) -> Result<Frames> {
    let first = file.versions.iter().find_map(|version| version.state.content());
    let anchor = match (file.anchor, first) {
        (Some(anchor), Some(first)) if !encoder.knows(first) => contents.anchor(anchor)?,
        _ => None,
    };
    encoder.file(anchor);
    let mut frames = Vec::with_capacity(file.versions.len());
    for (number, version) in file.versions.iter().enumerate() {
        let State::Present { content: id, length, .. } = &version.state else {
            frames.push(None);
            continue;
        };
        let (content, digest) = contents.content(at, number)?;
        if ContentId::from(digest) != *id || content.len() as u64 != *length {
            return Err(HistoryError::Unlike { what: format!("the content of `{}`", file.path) });
        }
        frames.push(Some((encoder.content(*id, content)?, digest)));
    }
    Ok(frames)
}

/// A partition in the making.
struct Sealing {
    committer: Committer,
    writer: Writer,
    known: HashMap<ContentId, u64>,
    /// How far each frame is from a key frame, and whether that is in this partition.
    frames: Vec<(Chain, bool)>,
    encoders: Vec<Encoder>,
    /// The numbers that encoders' frames have here.
    numbers: Vec<Vec<Option<u64>>>,
    leaves: BTreeMap<(Item, Micros), Vec<Leaf>>,
}

impl Sealing {
    fn file(&mut self, file: Unsealed, by: usize, frames: Frames) -> Result<SealedFile> {
        let Unsealed { item, path, versions, .. } = file;
        let mut sealed = SealedFile { item, path, first: Micros::MAX, anchor: None };
        for (version, made) in versions.into_iter().zip(frames) {
            sealed.first = sealed.first.min(version.recorded);
            let (mut frame, mut digest) = (None, None);
            if let Some((made, is)) = made {
                let number = self.number(by, made)?;
                if self.frames[frame_index(number)].1 {
                    sealed.anchor = Some(number);
                }
                (frame, digest) = (Some(number), Some(is));
            }
            let leaf = self.committer.leaf(&sealed.path, &version, digest);
            self.leaves.entry((item, version.recorded)).or_default().push(leaf);
            self.writer.version(item, &sealed.path, &Found { version, frame })?;
        }
        Ok(sealed)
    }

    /// The number of an encoder's frame, which is written where it has none yet. What it is a delta against comes
    /// first; that is one of the same file, or of one before it.
    fn number(&mut self, by: usize, frame: usize) -> Result<u64> {
        if let Some(number) = self.numbers[by][frame] {
            return Ok(number);
        }
        let base = self.encoders[by].frames[frame].base;
        let kind = match base {
            Base::Key => Kind::Key,
            Base::Frame(base, how) => Kind::Delta(frame::Base::Frame(self.number(by, base)?), how),
            Base::There(lean, how) => Kind::Delta(frame::Base::Lean(self.writer.lean(lean)), how),
        };
        let made = &mut self.encoders[by].frames[frame];
        // Another encoder may have the content, too. What leans on this one must not get a longer way by it.
        let other = self.known.get(&made.id).copied().filter(|&other| {
            let (chain, is_own) = self.frames[frame_index(other)];
            chain.is_within(made.chain) && (is_own || !made.is_own)
        });
        let number = if let Some(other) = other {
            other
        } else {
            let number = self.frames.len() as u64;
            let stored = std::mem::take(&mut made.stored);
            self.writer.frame(&Frame { number, kind, length: made.length }, &stored)?;
            self.frames.push((made.chain, made.is_own));
            self.known.insert(made.id, number);
            number
        };
        self.numbers[by][frame] = Some(number);
        Ok(number)
    }
}

/// Frames of a partition in the making are all in memory.
fn frame_index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Pool;
    use crate::objects::{Directory, Objects};
    use crate::partition::Partition;
    use crate::version::{Metadata, Origin};

    struct Texts(Pool, Vec<Vec<String>>);

    impl Contents for Texts {
        fn content(&self, file: usize, version: usize) -> Result<(Arc<[u8]>, ContentDigest)> {
            let content = self.1[file][version].as_bytes();
            Ok((content.into(), self.0.digest(content)))
        }

        fn anchor(&self, _: Lean) -> Result<Option<Anchor>> {
            Ok(None)
        }
    }

    impl Texts {
        /// One of the files, with all its versions.
        fn file(&self, at: usize, path: &str) -> Unsealed {
            let version = |(recorded, text): (i64, &String)| {
                let content = self.0.digest(text.as_bytes()).into();
                let (length, metadata) = (text.len() as u64, Metadata::default());
                let state = State::Present { content, length, metadata };
                Version { recorded, state, origin: Origin::default() }
            };
            let versions = (0..).zip(&self.1[at]).map(version).collect();
            let path = FilePath::new(path).unwrap();
            Unsealed { item: Item([1; 16]), path, versions, anchor: None }
        }
    }

    fn texts(name: usize) -> Vec<String> {
        let line = |number: usize| format!("option {} of {name} = {}\n", number, number * 7919);
        let mut lines: Vec<String> = (0..40).map(line).collect();
        let alter = |version: usize| {
            lines[version % 40] = line(version + 1000);
            lines.concat()
        };
        // Longer than one chain.
        (0..70).map(alter).collect()
    }

    #[test]
    fn several_encoders_seal_the_same_as_one() {
        let pool = Pool::new(&[1; 32]);
        let key = DataKey::new([2; 32].into());
        let mut all: Vec<Vec<String>> = (0..6).map(texts).collect();
        // What one file ends with, another one begins with: perhaps another encoder's, at the end of a chain.
        for file in 1..6 {
            let last = all[file - 1].last().cloned().unwrap();
            let copies = (0..40).map(|line| format!("{last}line {line}\n"));
            let copies: Vec<_> = std::iter::once(last.clone()).chain(copies).collect();
            all[file].splice(0..0, copies);
        }
        let contents = Texts(pool.clone(), all);
        let files = || -> Vec<_> {
            (0..6).map(|at| contents.file(at, &format!("/{at}/{at}.conf"))).collect()
        };
        let folder = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(Directory::open(folder.path()).unwrap());
        for encoders in [1, 2, 4] {
            let encoded = encode(3, &files(), encoders, &contents).unwrap();
            assert_eq!(encoded.encoders.len(), encoders);
            let writer = Writer::new(1, &key, &[3; 32]);
            let sealed = put_in_order(writer, Committer::new(&key), files(), encoded).unwrap();
            let name = format!("by-{encoders}");
            objects.put(&name, &sealed.object.bytes).unwrap();

            let partition = Partition::open(Arc::clone(&objects), &name, &key).unwrap();
            let none = |_: Lean| -> Result<Arc<[u8]>> { panic!("nothing leans") };
            let verified = partition.verify(&key, &pool, &none).unwrap();
            let count: usize = contents.1.iter().map(Vec::len).sum();
            assert_eq!(verified.versions, count as u64);
            for (file, texts) in files().into_iter().zip(&contents.1) {
                let found = partition.versions(file.item, &file.path).unwrap();
                let read = |found: &Found| partition.content(found.frame.unwrap()).unwrap();
                assert!(found.iter().map(read).eq(texts.iter().map(String::as_bytes)));
            }
            let whole: usize = texts(0)[0].len() * count;
            assert!(sealed.object.bytes.len() * 8 < whole, "{}", sealed.object.bytes.len());
        }
    }

    #[test]
    fn files_of_a_fleet_lean_on_one_key_frame() {
        let pool = Pool::new(&[1; 32]);
        let key = DataKey::new([2; 32].into());
        let common = texts(0).remove(0);
        let host = |number: usize| format!("{common}this is host {number}\n");
        // As each is like the one before, too, they could be one long chain.
        let contents = Texts(pool, (0..30).map(|number| vec![host(number)]).collect());
        let files = (0..30).map(|at| contents.file(at, &format!("/{at:02}/conf"))).collect();

        let sealed = seal(1, &key, &[3; 32], 3, files, &contents).unwrap();

        let folder = tempfile::tempdir().unwrap();
        let objects: Arc<dyn Objects> = Arc::new(Directory::open(folder.path()).unwrap());
        objects.put("fleet", &sealed.object.bytes).unwrap();
        let partition = Partition::open(objects, "fleet", &key).unwrap();
        let depths = (0..30).map(|frame| partition.chain(frame).unwrap().unwrap().depth);
        assert_eq!(depths.map(|depth| depth.min(1)).sum::<u32>(), 29);
        assert!((0..30).all(|frame| partition.chain(frame).unwrap().unwrap().depth <= 1));
    }

    #[test]
    fn a_large_file_that_alters_often_has_one_key_frame() {
        let pool = Pool::new(&[1; 32]);
        let key = DataKey::new([2; 32].into());
        // Longer than a chain of whole contents may be.
        let line = |number: usize| blake3::hash(&number.to_le_bytes()).to_hex().to_string() + "\n";
        let mut lines: Vec<String> = (0..8000).map(line).collect();
        let alter = |version: usize| {
            lines[version * 31 % 8000] = line(version + 10_000);
            lines.concat()
        };
        let contents = Texts(pool, vec![(0..60).map(alter).collect()]);
        let file = contents.file(0, "/large");

        let sealed = seal(1, &key, &[3; 32], 3, vec![file], &contents).unwrap();

        // Of each digit half a byte is left.
        let whole = contents.1[0][0].len() / 2;
        assert!(
            sealed.object.bytes.len() < whole * 11 / 10,
            "{} of {whole}",
            sealed.object.bytes.len()
        );
    }
}
