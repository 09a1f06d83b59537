//! What the log costs: hashing, integrating, verifying, proving.
//!
//! Entries are those of a busy day: about 450 bytes, one commitment each.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{LazyLock, Mutex};

use divan::Bencher;
use divan::counter::ItemsCount;
use ledger::errors::StorageError;
use ledger::verify::{Against, inclusion, verify};
use ledger::{
    Commitment, Directory, Envelope, Hash, KeyKind, Log, Policy, ReadStorage, Signer, Storage, Tree,
};

const ORIGIN: &str = "cloud.example/audit";
const SIZE: u64 = 100_000;

fn main() {
    divan::main();
}

fn key() -> Signer {
    Signer::new(KeyKind::Log, ORIGIN, &[7; 32]).expect("the name is good")
}

static ENTRIES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| (0..SIZE).map(entry).collect());
static LOG: LazyLock<Memory> = LazyLock::new(|| {
    let storage = Memory::default();
    grow(&storage);
    storage
});

fn entry(sequence: u64) -> Vec<u8> {
    let envelope = Envelope {
        sequence,
        at: "2026-03-01T08:00:00.123456Z".parse().expect("a time"),
        clock: "clk_01jq8zv7c2e4r".into(),
        actor: format!("agt_{:026}", sequence % 97),
        role: "agent".into(),
        tenant: Some(format!("tnt_{:016x}", sequence % 11)),
        kind: "ci.observed".into(),
        object: format!("ci_{:026}", sequence % 1009),
        version: sequence / 1009 + 1,
        commitments: vec![Commitment::new("report", &[1; 32], &sequence.to_be_bytes())],
        previous: None,
    };
    envelope.to_canonical().expect("a valid event")
}

fn grow<S: Storage>(storage: S) {
    let mut log = Log::open(storage, ORIGIN, vec![key()]).expect("an empty log");
    log.integrate(0, &ENTRIES).expect("good entries");
    log.publish().expect("a good log");
}

/// Without a disk, to see our own cost.
#[derive(Default)]
struct Memory(Mutex<BTreeMap<String, Vec<u8>>>);

impl Memory {
    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().expect("nobody panicked")
    }
}

impl ReadStorage for Memory {
    fn get(&self, path: &str, _limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        Ok(self.files().get(path).cloned())
    }

    fn list(&self, _folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        Ok(Some(Vec::new()))
    }
}

impl Storage for Memory {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.files().insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.files().remove(path);
        Ok(())
    }
}

#[divan::bench]
fn hash_entries(bencher: Bencher<'_, '_>) {
    let entries = &*ENTRIES;
    bencher
        .counter(ItemsCount::new(SIZE))
        .bench(|| entries.iter().fold(0, |sum, entry| sum ^ Hash::of_entry(entry).as_bytes()[0]));
}

#[divan::bench]
fn parse_entries(bencher: Bencher<'_, '_>) {
    let entries = &*ENTRIES;
    bencher
        .counter(ItemsCount::new(SIZE))
        .bench(|| entries.iter().filter(|entry| Envelope::parse(entry).is_ok()).count());
}

#[divan::bench(sample_count = 10)]
fn integrate_100k_in_memory(bencher: Bencher<'_, '_>) {
    LazyLock::force(&ENTRIES);
    bencher.counter(ItemsCount::new(SIZE)).bench(|| grow(Memory::default()));
}

/// Every file flushed to the disk before the checkpoint is.
#[divan::bench(sample_count = 5)]
fn integrate_100k_durably(bencher: Bencher<'_, '_>) {
    LazyLock::force(&ENTRIES);
    bencher
        .counter(ItemsCount::new(SIZE))
        .with_inputs(|| tempfile::tempdir().expect("a folder"))
        .bench_values(|folder| grow(Directory::new(folder.path())));
}

/// One second's events and a checkpoint, as a server does it.
#[divan::bench(sample_count = 20)]
fn publish_5000_more_durably(bencher: Bencher<'_, '_>) {
    LazyLock::force(&ENTRIES);
    bencher
        .counter(ItemsCount::new(5000_u64))
        .with_inputs(|| {
            let folder = tempfile::tempdir().expect("a folder");
            let mut log = Log::open(Directory::new(folder.path()), ORIGIN, vec![key()])
                .expect("an empty log");
            log.integrate(0, &ENTRIES[..10_100]).expect("good entries");
            log.publish().expect("a good log");
            (folder, log)
        })
        .bench_values(|(folder, mut log)| {
            log.integrate(10_100, &ENTRIES[10_100..15_100]).expect("good entries");
            log.publish().expect("a good log");
            folder
        });
}

#[divan::bench(args = [1, 2], sample_count = 10)]
fn verify_100k(bencher: Bencher<'_, '_>, threads: usize) {
    let policy = Policy::of_logs([key().verifier().clone()]);
    let threads = NonZeroUsize::new(threads).expect("one or two");
    let against = Against { threads, ..Against::policy(&policy) };
    LazyLock::force(&LOG);
    bencher
        .counter(ItemsCount::new(SIZE))
        .bench(|| verify(&*LOG, &against).expect("a sound log").size);
}

#[divan::bench(sample_count = 10)]
fn verify_100k_from_disk(bencher: Bencher<'_, '_>) {
    let folder = tempfile::tempdir().expect("a folder");
    let storage = Directory::new(folder.path());
    for (path, bytes) in LOG.files().iter() {
        storage.put(path, bytes).expect("a disk");
    }
    let policy = Policy::of_logs([key().verifier().clone()]);
    bencher
        .counter(ItemsCount::new(SIZE))
        .bench(|| verify(&storage, &Against::policy(&policy)).expect("a sound log").size);
}

fn tree() -> Tree<&'static Memory> {
    let log = Log::open(&*LOG, ORIGIN, vec![key()]).expect("a log");
    let head = log.published().expect("it is published").claimed();
    Tree::new(&*LOG, head.size, head.root)
}

#[divan::bench]
fn make_inclusion(bencher: Bencher<'_, '_>) {
    let tree = tree();
    let mut index = 0;
    bencher.counter(ItemsCount::new(1_u64)).bench_local(|| {
        index = (index + 7919) % SIZE;
        tree.inclusion(index).expect("a proof")
    });
}

#[divan::bench]
fn verify_inclusion_proof(bencher: Bencher<'_, '_>) {
    let tree = tree();
    let proof = tree.inclusion(54_321).expect("a proof");
    let leaf = Hash::of_entry(&ENTRIES[54_321]);
    bencher
        .counter(ItemsCount::new(1_u64))
        .bench(|| inclusion(54_321, leaf, tree.size(), tree.root(), &proof));
}
