//! A history in miniature: a tail in memory, sealed partitions in a directory, and beside it what was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

use history::{
    Anchor, Attribution, ContentDigest, Contents, DataKey, FilePath, Found, HistoryError, Item,
    Keep, Lean, Metadata, Micros, Objects, Origin, Partition, Pool, State, Unsealed, Version, seal,
};

/// `SplitMix64`.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub(crate) fn bytes(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for chunk in bytes.chunks_mut(8) {
            chunk.copy_from_slice(&self.next().to_le_bytes());
        }
        bytes
    }
}

/// Objects in memory: a disk would be asked to flush ten thousand times.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Arc<[u8]>>>);

impl Memory {
    fn get(&self, name: &str) -> io::Result<Arc<[u8]>> {
        let found = self.0.lock().unwrap().get(name).cloned();
        found.ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Objects for Memory {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes.into());
        Ok(())
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let object = self.get(name)?;
        let offset = usize::try_from(offset).unwrap();
        let range = object.get(offset..offset.saturating_add(length));
        Ok(range.ok_or(io::ErrorKind::UnexpectedEof)?.to_vec())
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.get(name)?.len() as u64)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().keys().cloned().collect())
    }
}

pub(crate) type File = (Item, FilePath);
type Recorded = (Version, Option<Arc<[u8]>>);

struct Sealed {
    name: String,
    key: DataKey,
    span: (Micros, Micros),
    leans: Vec<u64>,
}

/// What is there at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Content(Arc<[u8]>),
    Absent,
    Erased,
    Forgotten,
}

/// From when on a file held what; nothing where it was gone.
pub(crate) type Held = (Micros, Option<Arc<[u8]>>);

pub(crate) struct World {
    pub(crate) objects: Arc<dyn Objects>,
    pub(crate) random: Random,
    pub(crate) pool: Pool,
    pub(crate) now: Micros,
    key: DataKey,
    next: u64,
    tail: BTreeMap<File, Vec<Recorded>>,
    /// For each file, in which partitions it altered, since when in each, and what may be leaned on.
    spans: BTreeMap<File, Vec<(Micros, u64)>>,
    anchors: BTreeMap<File, Lean>,
    sealed: BTreeMap<u64, Option<Sealed>>,
    pub(crate) oracle: BTreeMap<File, Vec<Held>>,
    erased: Vec<(Micros, Micros)>,
    kept_from: Micros,
    /// Whether some files are large.
    pub(crate) has_large: bool,
}

/// What is in the tail, on its way into a partition.
struct Tail<'a> {
    world: &'a World,
    files: Vec<&'a Vec<Recorded>>,
}

impl Contents for Tail<'_> {
    fn content(
        &self,
        file: usize,
        version: usize,
    ) -> Result<(Arc<[u8]>, ContentDigest), HistoryError> {
        let content = self.files[file][version].1.clone().unwrap();
        let digest = self.world.pool.digest(&content);
        Ok((content, digest))
    }

    fn anchor(&self, lean: Lean) -> Result<Option<Anchor>, HistoryError> {
        Ok(self.world.anchor(lean))
    }
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        Self {
            objects: Arc::new(Memory::default()),
            pool: Pool::new(&random.bytes()),
            now: 1_800_000_000_000_000,
            key: DataKey::new(random.bytes().into()),
            next: 1,
            tail: BTreeMap::new(),
            spans: BTreeMap::new(),
            anchors: BTreeMap::new(),
            sealed: BTreeMap::new(),
            oracle: BTreeMap::new(),
            erased: Vec::new(),
            kept_from: Micros::MIN,
            has_large: true,
            random,
        }
    }

    fn file(&mut self) -> File {
        let item = Item([u8::try_from(self.random.below(4)).unwrap(); 16]);
        let path = format!("/etc/d{}/file-{}.conf", self.random.below(3), self.random.below(12));
        (item, FilePath::new(path).unwrap())
    }

    /// Some files of one item alter.
    pub(crate) fn record(&mut self) {
        self.now += 1 + self.random.below(5_000_000).cast_signed();
        let item = self.file().0;
        for _ in 0..=self.random.below(5) {
            let file = (item, self.file().1);
            let last = self.oracle.get(&file).and_then(|it| it.last().cloned());
            if last.as_ref().is_some_and(|(recorded, _)| *recorded == self.now) {
                continue;
            }
            let content = match (last.and_then(|(_, content)| content), self.random.below(20)) {
                (Some(_), 0) => None,
                // What another file has.
                (_, 1) => Some(Arc::from(&b"shared by all\n"[..])),
                (Some(before), 2..) => Some(self.edited(&before)),
                _ => Some(self.fresh()),
            };
            self.put(file, content);
        }
    }

    fn fresh(&mut self) -> Arc<[u8]> {
        let lines = match self.random.below(30) {
            0 => 0,
            1 if self.has_large => 8000,
            _ => 3 + self.random.below(120),
        };
        let mut text = Vec::new();
        for n in 0..lines {
            let line = format!("option_{n} = {}\n", self.random.below(100_000));
            text.extend_from_slice(line.as_bytes());
        }
        text.into()
    }

    fn edited(&mut self, before: &[u8]) -> Arc<[u8]> {
        let text = String::from_utf8(before.to_vec()).unwrap();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let at = usize::try_from(self.random.below(lines.len() as u64 + 1)).unwrap();
        lines.insert(at, format!("edited = {}", self.random.next()));
        (lines.join("\n") + "\n").into_bytes().into()
    }

    pub(crate) fn put(&mut self, file: File, content: Option<Arc<[u8]>>) {
        let state = content.as_ref().map_or(State::Gone, |content| State::Present {
            content: self.pool.digest(content).into(),
            length: content.len() as u64,
            metadata: Metadata {
                mode: 0o640,
                owner: "root:adm".into(),
                label: self.random.below(2).to_le_bytes().to_vec(),
            },
        });
        let by = (self.random.below(2) == 0)
            .then(|| Attribution { actor: "uid 1000".into(), confidence: 80 });
        let origin = Origin { observed: self.now - 1234, source: "agent".into(), by, change: None };
        let version = Version { recorded: self.now, state, origin };
        self.oracle.entry(file.clone()).or_default().push((self.now, content.clone()));
        self.tail.entry(file).or_default().push((version, content));
    }

    pub(crate) fn seal(&mut self) {
        let number = self.next;
        let tail = std::mem::take(&mut self.tail);
        if tail.is_empty() {
            return;
        }
        let salt = self.random.bytes();
        let files = tail.iter().map(|((item, path), versions)| Unsealed {
            item: *item,
            path: path.clone(),
            versions: versions.iter().map(|(version, _)| version.clone()).collect(),
            anchor: self.anchors.get(&(*item, path.clone())).copied(),
        });
        let contents = Tail { world: self, files: tail.values().collect() };
        let sealed = seal(number, &self.key, &salt, 3, files.collect(), &contents).unwrap();
        for file in sealed.files {
            let name = (file.item, file.path);
            if let Some(frame) = file.anchor {
                self.anchors.insert(name.clone(), Lean { partition: number, frame });
            }
            self.spans.entry(name).or_default().push((file.first, number));
        }
        let key = std::mem::replace(&mut self.key, DataKey::new(self.random.bytes().into()));
        let name = format!("p{number}");
        self.objects.put(&name, &sealed.object.bytes).unwrap();
        let span = (sealed.object.first, sealed.object.last);
        let leans = sealed.object.leans;
        self.sealed.insert(number, Some(Sealed { name, key, span, leans }));
        self.next += 1;
    }

    fn anchor(&self, lean: Lean) -> Option<Anchor> {
        let partition = self.open(lean.partition)?;
        let chain = partition.chain(lean.frame).ok()??;
        let content = partition.content(lean.frame).unwrap().into();
        Some(Anchor { lean, content, chain })
    }

    pub(crate) fn open(&self, number: u64) -> Option<Partition> {
        let sealed = self.sealed.get(&number)?.as_ref()?;
        Some(Partition::open(Arc::clone(&self.objects), &sealed.name, &sealed.key).unwrap())
    }

    fn leaned(&self, lean: Lean) -> Result<Arc<[u8]>, HistoryError> {
        let partition =
            self.open(lean.partition).ok_or(HistoryError::NoFrame { number: lean.frame })?;
        // Never a third object.
        partition.content(lean.frame).map(Into::into)
    }

    fn content(&self, partition: &Partition, found: &Found) -> Answer {
        let Some(frame) = found.frame else { return Answer::Absent };
        let content = partition.whole_content(frame, &|lean| self.leaned(lean)).unwrap();
        assert_eq!(Some(self.pool.digest(&content).into()), found.version.state.content());
        Answer::Content(content.into())
    }

    pub(crate) fn at(&self, file: &File, time: Micros) -> Answer {
        if time < self.kept_from {
            return Answer::Forgotten;
        }
        let tail = self.tail.get(file).into_iter().flatten();
        if let Some((_, content)) = tail.take_while(|(v, _)| v.recorded <= time).last() {
            return content.clone().map_or(Answer::Absent, Answer::Content);
        }
        let spans = self.spans.get(file).into_iter().flatten();
        let Some((_, number)) = spans.take_while(|(first, _)| *first <= time).last() else {
            return Answer::Absent;
        };
        let Some(partition) = self.open(*number) else {
            return if self.sealed.contains_key(number) { Answer::Erased } else { Answer::Absent };
        };
        let found = partition.at(file.0, &file.1, time).unwrap();
        found.map_or(Answer::Absent, |found| self.content(&partition, &found))
    }

    pub(crate) fn expected(&self, file: &File, time: Micros) -> Answer {
        if time < self.kept_from {
            return Answer::Forgotten;
        }
        let versions = self.oracle.get(file).into_iter().flatten();
        let Some((recorded, content)) = versions.take_while(|(at, _)| *at <= time).last() else {
            return Answer::Absent;
        };
        if self.erased.iter().any(|(first, last)| (first..=last).contains(&recorded)) {
            return Answer::Erased;
        }
        content.clone().map_or(Answer::Absent, Answer::Content)
    }

    /// Takes what is older than a moment, but what was in force at it.
    pub(crate) fn forget(&mut self, before: Micros) {
        self.kept_from = self.kept_from.max(before);
        let numbers: Vec<u64> = self.sealed.keys().copied().rev().collect();
        let mut superseded: BTreeSet<File> = BTreeSet::new();
        for (file, versions) in &self.tail {
            if versions[0].0.recorded <= before {
                superseded.insert(file.clone());
            }
        }
        for number in numbers {
            let Some(partition) = self.open(number) else { continue };
            let mut files = BTreeSet::new();
            partition
                .each_version(&mut |item, path, found| {
                    if found.version.recorded <= before {
                        files.insert((item, path.clone()));
                    }
                    Ok(())
                })
                .unwrap();
            if partition.span().1 < before {
                let others = self.sealed.keys().filter_map(|it| self.open(*it));
                let frames = others
                    .flat_map(|it| it.leans().to_vec())
                    .filter(|lean| lean.partition == number)
                    .map(|lean| lean.frame)
                    .collect();
                let keep = Keep {
                    since: Some(before),
                    superseded: superseded.clone(),
                    frames,
                    without: BTreeSet::new(),
                };
                self.rewrite(number, &keep);
            }
            superseded.extend(files);
        }
    }

    fn rewrite(&mut self, number: u64, keep: &Keep) {
        let partition = self.open(number).unwrap();
        let salt = self.random.bytes();
        let old = self.sealed.remove(&number).flatten().unwrap();
        let (key, span) = (old.key.clone(), old.span);
        let object = partition.rewrite(keep, &key, &salt, 3, &|lean| self.leaned(lean)).unwrap();
        self.objects.delete(&old.name).unwrap();
        if let Some(object) = object {
            let name = format!("p{number}.{}", self.random.next());
            self.objects.put(&name, &object.bytes).unwrap();
            self.sealed.insert(number, Some(Sealed { name, key, span, leans: object.leans }));
        }
    }

    /// Destroys the key of a partition, after those that lean on it do so no more.
    pub(crate) fn erase(&mut self, number: u64) {
        if self.sealed.get(&number).is_none_or(Option::is_none) {
            return;
        }
        let leaning: Vec<u64> = self
            .sealed
            .iter()
            .filter(|(_, it)| it.as_ref().is_some_and(|it| it.leans.contains(&number)))
            .map(|(number, _)| *number)
            .collect();
        for other in leaning {
            let frames = self
                .sealed
                .keys()
                .filter_map(|it| self.open(*it))
                .flat_map(|it| it.leans().to_vec())
                .filter(|lean| lean.partition == other)
                .map(|lean| lean.frame)
                .collect();
            let without = BTreeSet::from([number]);
            self.rewrite(other, &Keep { frames, without, ..Keep::default() });
        }
        let sealed = self.sealed.insert(number, None).flatten().unwrap();
        self.erased.push(sealed.span);
    }

    pub(crate) fn partitions(&self) -> Vec<u64> {
        self.sealed.iter().filter(|(_, it)| it.is_some()).map(|(number, _)| *number).collect()
    }

    pub(crate) fn verify(&self, number: u64) -> Result<history::Verified, HistoryError> {
        let sealed = self.sealed[&number].as_ref().unwrap();
        let partition = Partition::open(Arc::clone(&self.objects), &sealed.name, &sealed.key)?;
        partition.verify(&sealed.key, &self.pool, &|lean| self.leaned(lean))
    }

    pub(crate) fn name(&self, number: u64) -> String {
        self.sealed[&number].as_ref().unwrap().name.clone()
    }

    pub(crate) fn random_file(&mut self) -> File {
        self.file()
    }
}
