//! A history beside which stands what was recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use backup::{Backup, Repository, Source};
use domain::cloud::{CiId, TenantId};
use jiff::Timestamp;
use store::{
    Actor, Environment as _, Erasure, FilePath, FileVersion, History, MasterKey, Metadata,
    NewBatch, NewFile, NewState, ObjectDirectory, Objects, Past, Restoration, System,
};
use tempfile::TempDir;

use super::{World, vm};

/// Where objects lie in tests, and what goes wrong there.
pub(crate) struct Faulty {
    objects: Arc<dyn Objects>,
    fault: AtomicU8,
}

/// What goes wrong when an object is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Nothing is written.
    Before,
    /// It is written, and nobody hears of it.
    After,
    /// Half of it is written, and said to be all.
    Half,
    /// A bit of it is another one.
    Bit,
}

const FAULTS: [Fault; 5] = [Fault::None, Fault::Before, Fault::After, Fault::Half, Fault::Bit];

impl Faulty {
    fn at(place: &Path) -> Arc<Self> {
        Self::over(Arc::new(ObjectDirectory::open(place).unwrap()))
    }

    fn over(objects: Arc<dyn Objects>) -> Arc<Self> {
        Arc::new(Self { objects, fault: AtomicU8::new(0) })
    }

    pub(crate) fn set(&self, fault: Fault) {
        let number = FAULTS.iter().position(|it| *it == fault).unwrap();
        self.fault.store(u8::try_from(number).unwrap(), Ordering::SeqCst);
    }
}

impl Objects for Faulty {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let broken = || io::Error::other("broken off");
        match FAULTS[usize::from(self.fault.load(Ordering::SeqCst))] {
            Fault::None => self.objects.put(name, bytes),
            Fault::Before => Err(broken()),
            Fault::After => {
                self.objects.put(name, bytes)?;
                Err(broken())
            }
            Fault::Half => self.objects.put(name, &bytes[..bytes.len() / 2]),
            Fault::Bit => {
                let mut bytes = bytes.to_vec();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 4;
                self.objects.put(name, &bytes)
            }
        }
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        self.objects.read(name, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        self.objects.size(name)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        self.objects.delete(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.objects.list()
    }
}

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
}

/// Content and mode.
type State = Option<(Vec<u8>, u32)>;

pub(crate) struct Remembered {
    pub(crate) at: Timestamp,
    state: State,
    /// In which partition it was sealed.
    number: Option<i64>,
}

/// A tenant with some items, its history, and all that was recorded.
pub(crate) struct Remembering {
    pub(crate) world: World,
    pub(crate) folder: TempDir,
    /// Where the objects lie, in `history`.
    pub(crate) data: PathBuf,
    pub(crate) master: Arc<MasterKey>,
    pub(crate) objects: Arc<Faulty>,
    pub(crate) history: History,
    pub(crate) tenant: TenantId,
    pub(crate) owner: Actor,
    pub(crate) cis: Vec<CiId>,
    pub(crate) random: Random,
    pub(crate) oracle: BTreeMap<(usize, FilePath), Vec<Remembered>>,
    pub(crate) erased: BTreeSet<i64>,
    pub(crate) kept_from: Timestamp,
}

/// What a question comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    Content(Vec<u8>, u32),
    Absent,
    Erased,
    Forgotten,
}

pub(crate) const HOLDER: &str = "the test";

impl Remembering {
    pub(crate) async fn new(world: World, seed: u64) -> Self {
        let folder = super::memory::directory();
        let objects = Faulty::at(&folder.path().join("objects/history"));
        Self::over(world, seed, folder, objects).await
    }

    /// The same with objects elsewhere.
    pub(crate) async fn elsewhere(world: World, seed: u64, objects: Arc<dyn Objects>) -> Self {
        Self::over(world, seed, super::memory::directory(), Faulty::over(objects)).await
    }

    async fn over(world: World, seed: u64, folder: TempDir, objects: Arc<Faulty>) -> Self {
        let data = folder.path().join("objects");
        let master = MasterKey::open(&folder.path().join("master.key"), &System).unwrap();
        let master = Arc::new(master);
        let history = world.store.history(Arc::clone(&master), objects.clone());
        let tenant = world.tenant("acme").await;
        let owner = world.owner(&tenant).await;
        let mut cis = Vec::new();
        for number in 0..3 {
            let new = vm(tenant.id, &format!("web-{number}"));
            cis.push(world.store.create_ci(&world.admin, None, new).await.unwrap().id);
        }
        Self {
            world,
            folder,
            data,
            master,
            objects,
            history,
            tenant: tenant.id,
            owner,
            cis,
            random: Random(seed),
            oracle: BTreeMap::new(),
            erased: BTreeSet::new(),
            kept_from: Timestamp::MIN,
        }
    }

    pub(crate) fn path(&mut self) -> FilePath {
        FilePath::new(format!("/etc/d{}/f{}", self.random.below(3), self.random.below(6))).unwrap()
    }

    fn last(&self, ci: usize, path: &FilePath) -> Option<&Remembered> {
        self.oracle.get(&(ci, path.clone()))?.last()
    }

    /// An item tells some of its files, altered or not.
    pub(crate) async fn record(&mut self) {
        let (ci, files) = self.draw(&BTreeMap::new());
        self.tell(ci, files).await;
    }

    /// Some files of an item, altered or not, where others are pending.
    fn draw(
        &mut self,
        pending: &BTreeMap<(usize, FilePath), State>,
    ) -> (usize, BTreeMap<FilePath, State>) {
        let ci = usize::try_from(self.random.below(3)).unwrap();
        let mut files: BTreeMap<FilePath, State> = BTreeMap::new();
        for _ in 0..=self.random.below(4) {
            let path = self.path();
            let state = match pending.get(&(ci, path.clone())) {
                Some(state) => state.clone(),
                None => self.last(ci, &path).and_then(|it| it.state.clone()),
            };
            let state = match (state, self.random.below(12)) {
                (state, 0..3) => state,
                (_, 3) => None,
                (_, 4) => Some((b"shared by all\n".to_vec(), 0o644)),
                (Some((content, mode)), 5) => Some((content, mode ^ 0o111)),
                (Some((content, mode)), _) => {
                    let line = format!("edited = {}\n", self.random.next());
                    Some(([line.into_bytes(), content].concat(), mode))
                }
                (None, _) => {
                    let lines = self.random.below(40);
                    let text = (0..lines).map(|n| format!("option_{n} = {}\n", n * n));
                    Some((text.collect::<String>().into_bytes(), 0o600))
                }
            };
            files.insert(path, state);
        }
        (ci, files)
    }

    /// Items tell several batches of files at once, which are sealed.
    pub(crate) async fn backfill(&mut self) {
        self.seal().await;
        let mut pending: BTreeMap<(usize, FilePath), State> = BTreeMap::new();
        let (mut batches, mut told) = (Vec::new(), Vec::new());
        for _ in 0..=self.random.below(6) {
            let (ci, files) = self.draw(&pending);
            let is_new = |path: &FilePath, state: &State| match pending.get(&(ci, path.clone())) {
                Some(before) => before != state,
                None => self.is_new(ci, path, state),
            };
            let new: Vec<_> = files.iter().filter(|(path, state)| is_new(path, state)).collect();
            let new: Vec<_> = new.into_iter().map(|(p, s)| (p.clone(), s.clone())).collect();
            pending.extend(new.iter().map(|(path, state)| ((ci, path.clone()), state.clone())));
            let files = files.into_iter().map(|(path, state)| file(path, state)).collect();
            batches.push(NewBatch { ci: self.cis[ci], files });
            told.push((ci, new));
        }

        let recorded = self.history.backfill(&self.owner, batches, HOLDER).await.unwrap();

        let newest = self.objects.list().unwrap().into_iter().filter_map(|name| {
            name.split('.').nth(1).and_then(|number| number.parse::<i64>().ok())
        });
        let number = newest.max();
        assert_eq!(recorded.len(), told.len());
        for (recorded, (ci, new)) in recorded.into_iter().zip(told) {
            assert_eq!(recorded.as_ref().map_or(0, |it| it.versions as usize), new.len());
            for (path, state) in new {
                let at = recorded.as_ref().unwrap().at;
                let remembered = Remembered { at, state, number };
                self.oracle.entry((ci, path)).or_default().push(remembered);
            }
        }
    }

    fn is_new(&self, ci: usize, path: &FilePath, state: &State) -> bool {
        match self.last(ci, path) {
            Some(last) => {
                let is_erased = last.number.is_some_and(|number| self.erased.contains(&number));
                is_erased || last.state != *state
            }
            None => state.is_some(),
        }
    }

    pub(crate) async fn tell(&mut self, ci: usize, files: BTreeMap<FilePath, State>) {
        let new: Vec<_> = files
            .iter()
            .filter(|(p, s)| self.is_new(ci, p, s))
            .map(|(p, s)| (p.clone(), s.clone()))
            .collect();
        let told = files.into_iter().map(|(path, state)| file(path, state)).collect();
        let recorded = self.history.record(&self.owner, self.cis[ci], told).await.unwrap();
        assert_eq!(recorded.as_ref().map_or(0, |it| it.versions as usize), new.len());
        for (path, state) in new {
            let at = recorded.as_ref().unwrap().at;
            let remembered = Remembered { at, state, number: None };
            self.oracle.entry((ci, path)).or_default().push(remembered);
        }
    }

    pub(crate) async fn seal(&mut self) {
        let sealed = self.history.seal(self.tenant, HOLDER).await.unwrap();
        assert!(sealed.len() < 2);
        for partition in sealed {
            let all = self.oracle.values_mut().flatten().filter(|it| it.number.is_none());
            let count = all.map(|it| it.number = Some(partition.number)).count();
            assert_eq!(count as u64, partition.versions);
        }
    }

    /// Backs up the installation, where it has a file.
    pub(crate) async fn begin_backup(&self) -> Option<Backup> {
        let database = self.world.file.clone()?;
        let objects = Repository::directory(&self.folder.path().join("repository")).unwrap();
        let secrets = self.world.store.backup_keys(&self.master).await.unwrap();
        let wrapping = self.master.derive("a test's backups");
        let (repository, writing) =
            Repository::adopt(objects, &wrapping, secrets, |bytes| System.fill(bytes)).unwrap();
        let source =
            Source { data: self.data.clone(), database: Some(database), with_images: false };
        Some(Backup::begin(repository, writing, source).unwrap())
    }

    /// The installation is lost, and comes back from what was backed up last.
    pub(crate) async fn restore(&mut self, backup: &Backup, at: Timestamp) {
        let manifest = backup.repository().newest(None).unwrap();
        assert_eq!(manifest.at, at);
        let into = self.folder.path().join(&manifest.id);
        backup.repository().restore(&manifest, &into).unwrap();
        self.world.move_to(&into.join("patchwright.db")).await;
        let restoration = Restoration {
            backup: manifest.id,
            taken_at: manifest.at,
            checkpoint: None,
            same_ledger: false,
        };
        self.world.store.record_restoration(&Actor::System, restoration).await.unwrap();
        self.objects = Faulty::at(&into.join("history"));
        self.history = self.world.store.history(Arc::clone(&self.master), self.objects.clone());
        self.data = into;
    }

    pub(crate) async fn erase(&mut self, number: i64) {
        self.seal().await;
        let what = Erasure::Partition(number);
        let erased = self.history.erase(&self.owner, self.tenant, what, "asked for", HOLDER).await;
        if erased.is_ok() {
            self.erased.insert(number);
        }
    }

    pub(crate) async fn forget(&mut self, before: Timestamp) {
        self.history.forget(&self.owner, self.tenant, before, HOLDER).await.unwrap();
        self.kept_from = self.kept_from.max(before);
    }

    pub(crate) async fn ask(&self, ci: usize, path: &FilePath, at: Timestamp) -> Answer {
        match self.history.file_at(&self.owner, self.cis[ci], path, at).await.unwrap() {
            Past::Kept(version) => version.map_or(Answer::Absent, answer),
            Past::Erased => Answer::Erased,
            Past::Forgotten { kept_from } => {
                assert_eq!(kept_from, self.kept_from);
                Answer::Forgotten
            }
        }
    }

    pub(crate) fn expected(&self, ci: usize, path: &FilePath, at: Timestamp) -> Answer {
        if at < self.kept_from {
            return Answer::Forgotten;
        }
        let versions = self.oracle.get(&(ci, path.clone())).into_iter().flatten();
        match versions.take_while(|it| it.at <= at).last() {
            None => Answer::Absent,
            Some(it) if it.number.is_some_and(|number| self.erased.contains(&number)) => {
                Answer::Erased
            }
            Some(it) => match &it.state {
                None => Answer::Absent,
                Some((content, mode)) => Answer::Content(content.clone(), *mode),
            },
        }
    }

    /// All instants at which something was recorded.
    pub(crate) fn instants(&self) -> Vec<Timestamp> {
        let all: BTreeSet<_> = self.oracle.values().flatten().map(|it| it.at).collect();
        all.into_iter().collect()
    }

    pub(crate) async fn fsck(&self) -> store::Fsck {
        self.history.fsck(&self.owner, self.tenant).await.unwrap()
    }

    /// Everything that can be asked is answered as it was recorded, and nothing is damaged.
    pub(crate) async fn check(&self) {
        for ((ci, path), versions) in &self.oracle {
            for at in versions.iter().map(|it| it.at) {
                let (answer, expected) =
                    (self.ask(*ci, path, at).await, self.expected(*ci, path, at));
                assert!(answer == expected, "{path} at {at}: {answer:?}, not {expected:?}");
            }
        }
        let fsck = self.fsck().await;
        assert!(fsck.damages.is_empty(), "{:?}", fsck.damages);
    }
}

pub(crate) fn file(path: FilePath, state: State) -> NewFile {
    let state = match state {
        None => NewState::Gone,
        Some((content, mode)) => NewState::Present {
            content,
            metadata: Metadata { mode, owner: "root:root".to_owned(), label: Vec::new() },
        },
    };
    NewFile {
        path,
        state,
        observed_at: Timestamp::UNIX_EPOCH,
        source: "agent".to_owned(),
        by: None,
        change: None,
    }
}

fn answer(version: FileVersion) -> Answer {
    assert_eq!(version.observed_at, Timestamp::UNIX_EPOCH);
    assert_eq!(version.source, "agent");
    match (version.state, version.content) {
        (store::State::Present { metadata, length, .. }, Some(content)) => {
            assert_eq!(length, content.len() as u64);
            Answer::Content(content, metadata.mode)
        }
        (store::State::Gone, None) => Answer::Absent,
        (state, _) => panic!("{state:?} without its content"),
    }
}
