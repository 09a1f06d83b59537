//! A log's world: events, keys, storages that forget and fail.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::{SignedDuration, Timestamp};
use ledger::errors::{LogError, StorageError};
use ledger::witness::{AddCheckpoint, Advance, Witness};
use ledger::{
    Commitment, Envelope, Hash, KeyKind, Log, Policy, ReadStorage, SignedCheckpoint, Signer,
    Storage,
};

pub(crate) const ORIGIN: &str = "cloud.example/audit";

pub(crate) fn key() -> Signer {
    Signer::new(KeyKind::Log, ORIGIN, &[7; 32]).unwrap()
}

pub(crate) fn witness_key(seed: u8) -> Signer {
    Signer::new(KeyKind::Witness, &format!("w{seed}.example"), &[seed; 32]).unwrap()
}

pub(crate) fn trust() -> Policy {
    Policy::of_logs([key().verifier().clone()])
}

/// The log's key, and a witness whose cosignature is asked for.
pub(crate) fn trust_with_witness(witness: &Signer) -> Policy {
    let policy = format!("log {}\nwitness w {}\nquorum w\n", key().verifier(), witness.verifier());
    Policy::parse(policy.as_bytes()).unwrap()
}

pub(crate) fn payload(sequence: u64) -> ([u8; 32], Vec<u8>) {
    (*Hash::of(&sequence.to_be_bytes()).as_bytes(), format!("payload {sequence}").into_bytes())
}

pub(crate) fn event(sequence: u64) -> Envelope {
    let begin: Timestamp = "2026-03-01T08:00:00Z".parse().unwrap();
    let (salt, payload) = payload(sequence);
    Envelope {
        sequence,
        at: begin + SignedDuration::from_millis(i64::try_from(sequence).unwrap() * 37),
        clock: "clk_01jq8zv7c2e4r".into(),
        actor: format!("agt_{:026}", sequence % 97),
        role: "agent".into(),
        tenant: (!sequence.is_multiple_of(3)).then(|| format!("tnt_{:016x}", sequence % 11)),
        kind: ["ci.observed", "change.approved", "order.done"]
            [usize::try_from(sequence % 3).unwrap()]
        .into(),
        object: format!("ci_{:026}", sequence % 1009),
        version: sequence / 1009 + 1,
        commitments: vec![Commitment::new("report", &salt, &payload)],
        previous: (sequence >= 1009).then(|| Hash::of(&(sequence - 1009).to_be_bytes())),
    }
}

pub(crate) fn entries(range: std::ops::Range<u64>) -> Vec<Vec<u8>> {
    range.map(|sequence| event(sequence).to_canonical().unwrap()).collect()
}

/// A storage in memory.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    files: Mutex<BTreeMap<String, Vec<u8>>>,
    /// Number of puts and removals that still succeed.
    patience: AtomicUsize,
    frail: bool,
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// One that dies at its `count`th alteration and from then on.
    pub(crate) fn dying_after(files: BTreeMap<String, Vec<u8>>, count: usize) -> Self {
        Self { files: Mutex::new(files), patience: AtomicUsize::new(count), frail: true }
    }

    pub(crate) fn of(files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { files: Mutex::new(files), ..Self::default() }
    }

    pub(crate) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.files.lock().unwrap().clone()
    }

    pub(crate) fn file(&self, path: &str) -> Vec<u8> {
        self.files.lock().unwrap()[path].clone()
    }

    pub(crate) fn alter(&self, path: &str, alter: impl FnOnce(&mut Vec<u8>)) {
        alter(self.files.lock().unwrap().get_mut(path).unwrap());
    }

    pub(crate) fn lose(&self, path: &str) {
        self.files.lock().unwrap().remove(path).unwrap();
    }

    fn tire(&self, path: &str) -> Result<(), StorageError> {
        let tired = self.frail
            && self
                .patience
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_err();
        if tired {
            let source = io::Error::other("the power went");
            return Err(StorageError { action: "write", path: path.to_owned(), source });
        }
        Ok(())
    }
}

impl ReadStorage for Memory {
    fn get(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, StorageError> {
        match self.files.lock().unwrap().get(path) {
            Some(bytes) if bytes.len() > limit => Err(StorageError::too_long(path, limit)),
            bytes => Ok(bytes.cloned()),
        }
    }

    fn list(&self, folder: &str) -> Result<Option<Vec<String>>, StorageError> {
        let files = self.files.lock().unwrap();
        let inside = files.keys().filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
        Ok(Some(inside.filter(|name| !name.contains('/')).map(str::to_owned).collect()))
    }
}

impl Storage for Memory {
    fn put(&self, path: &str, bytes: &[u8]) -> Result<(), StorageError> {
        self.tire(path)?;
        self.files.lock().unwrap().insert(path.to_owned(), bytes.to_vec());
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<(), StorageError> {
        self.tire(path)?;
        self.files.lock().unwrap().remove(path);
        Ok(())
    }
}

pub(crate) fn open<S: Storage>(storage: S) -> Result<Log<S>, LogError> {
    Log::open(storage, ORIGIN, vec![key()])
}

/// A published log of `size` entries.
pub(crate) fn log(size: u64) -> Memory {
    let storage = Memory::new();
    let mut log = open(&storage).unwrap();
    log.integrate(0, &entries(0..size)).unwrap();
    log.publish().unwrap();
    drop(log);
    storage
}

/// RFC 6962 §2.1, word by word.
pub(crate) mod oracle {
    use ledger::Hash;

    pub(crate) fn leaf(entry: &[u8]) -> Hash {
        Hash::of(&[&[0], entry].concat())
    }

    fn node(left: Hash, right: Hash) -> Hash {
        Hash::of(&[&[1], &left.as_bytes()[..], right.as_bytes()].concat())
    }

    /// The largest power of two smaller than n.
    fn split(n: usize) -> usize {
        let mut k = 1;
        while k * 2 < n {
            k *= 2;
        }
        k
    }

    pub(crate) fn root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Hash::of(b""),
            [one] => *one,
            more => {
                let (left, right) = more.split_at(split(more.len()));
                node(root(left), root(right))
            }
        }
    }

    pub(crate) fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() == 1 {
            return Vec::new();
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut path, other) =
            if m < k { (path(m, left), root(right)) } else { (path(m - k, right), root(left)) };
        path.push(other);
        path
    }

    pub(crate) fn proof(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        subproof(m, leaves, true)
    }

    fn subproof(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![root(leaves)] };
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut proof, other) = if m <= k {
            (subproof(m, left, whole), root(right))
        } else {
            (subproof(m - k, right, false), root(left))
        };
        proof.push(other);
        proof
    }
}

/// A log of any bytes, made without our own [`Log`], by someone with its key. One tile long.
pub(crate) fn forged_log(entries: &[Vec<u8>]) -> Memory {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use ed25519_dalek::Signer as _;

    assert!(entries.len() < 256);
    let mut bundle = Vec::new();
    for entry in entries {
        bundle.extend(u16::try_from(entry.len()).unwrap().to_be_bytes());
        bundle.extend(entry);
    }
    let leaves: Vec<Hash> = entries.iter().map(|entry| oracle::leaf(entry)).collect();
    let tile = leaves.iter().flat_map(|leaf| *leaf.as_bytes()).collect();
    let text = format!("{ORIGIN}\n{}\n{}\n", entries.len(), oracle::root(&leaves));
    let vkey = key().verifier().to_string();
    let id = u32::from_str_radix(vkey.split('+').nth(1).unwrap(), 16).unwrap();
    let signature = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).sign(text.as_bytes());
    let line = BASE64_STANDARD.encode([&id.to_be_bytes()[..], &signature.to_bytes()].concat());
    let checkpoint = format!("{text}\n— {ORIGIN} {line}\n").into_bytes();
    Memory::of(BTreeMap::from([
        ("checkpoint".to_owned(), checkpoint),
        (format!("tile/0/000.p/{}", entries.len()), tile),
        (format!("tile/entries/000.p/{}", entries.len()), bundle),
    ]))
}

/// A witness' memory of one log.
#[derive(Default)]
pub(crate) struct OneMemory {
    pub(crate) kept: Option<SignedCheckpoint>,
    /// A request that another thread answers in between.
    pub(crate) race: Option<AddCheckpoint>,
}

impl ledger::witness::Memory for OneMemory {
    type Error = std::convert::Infallible;

    fn latest(&self, origin: &str) -> Result<Option<SignedCheckpoint>, Self::Error> {
        Ok(self.kept.clone().filter(|kept| kept.claimed().origin == origin))
    }

    fn advance(&mut self, from: u64, next: &SignedCheckpoint) -> Result<Advance, Self::Error> {
        if let Some(race) = self.race.take() {
            let other = Witness::new(witness_key(1), trust());
            let now = "2026-03-02T00:00:00Z".parse().unwrap();
            assert_eq!(other.add_checkpoint(self, &race.to_bytes(), now).unwrap().status, 200);
        }
        let size = self.kept.as_ref().map_or(0, |kept| kept.claimed().size);
        if size != from {
            return Ok(Advance::Raced);
        }
        self.kept = Some(next.clone());
        Ok(Advance::Kept)
    }
}
