//! A witness answers as C2SP tlog-witness says.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::world::{
    self, Memory, ORIGIN, OneMemory, entries, open, trust, trust_with_witness, witness_key,
};
use jiff::Timestamp;
use ledger::errors::LogError;
use ledger::verify::{Against, verify};
use ledger::witness::{AddCheckpoint, Reply, Witness};
use ledger::{Hash, KeyKind, Policy, SignedCheckpoint, Signer, keep_answers};

fn now() -> Timestamp {
    "2026-03-02T00:00:00Z".parse().unwrap()
}

struct World {
    witness: Witness,
    memory: OneMemory,
}

impl World {
    fn new() -> Self {
        let witness = Witness::new(witness_key(1), trust());
        Self { witness, memory: OneMemory::default() }
    }

    fn ask(&mut self, body: &[u8]) -> Reply {
        self.witness.add_checkpoint(&mut self.memory, body, now()).unwrap()
    }
}

fn request(old: u64, size: u64) -> AddCheckpoint {
    let storage = world::log(size);
    let log = open(&storage).unwrap();
    let proof = log.tree().consistency(old).unwrap();
    AddCheckpoint::new(old, proof, log.published().unwrap().clone())
}

#[test]
fn a_log_that_grows_is_cosigned_each_time() {
    let mut world = World::new();
    let wanted = trust_with_witness(&witness_key(1));
    let storage = Memory::new();
    let mut log = open(&storage).unwrap();
    let mut old = 0;

    for until in [1, 2, 255, 256, 300] {
        log.integrate(old, &entries(old..until)).unwrap();
        let published = log.publish().unwrap().clone();
        assert!(published.verify(&wanted).is_err(), "nobody has cosigned it yet");
        let proof = log.tree().consistency(old).unwrap();
        let reply = world.ask(&AddCheckpoint::new(old, proof, published).to_bytes());
        assert_eq!(reply.status, 200, "{reply}");

        let trusted = log.cosign(&reply.body, &wanted).unwrap().verify(&wanted).unwrap();

        assert_eq!(trusted.size(), until);
        assert_eq!(trusted.cosigned()[0].at, now());
        old = until;
    }
    // The cosignature is published, and a restart keeps it.
    let log = open(&storage).unwrap();
    assert!(log.published().unwrap().verify(&wanted).is_ok());
}

#[test]
fn the_same_checkpoint_is_cosigned_again() {
    let mut world = World::new();

    assert_eq!(world.ask(&request(0, 300).to_bytes()).status, 200);
    assert_eq!(world.ask(&request(300, 300).to_bytes()).status, 200);
}

#[test]
fn an_old_size_that_is_not_the_last_one_is_answered_with_the_last_one() {
    let mut world = World::new();
    world.ask(&request(0, 300).to_bytes());

    let reply = world.ask(&request(100, 400).to_bytes());

    assert_eq!(
        reply,
        Reply { status: 409, content_type: "text/x.tlog.size", body: b"300\n".to_vec() }
    );
    assert_eq!(World::new().ask(&request(100, 400).to_bytes()).body, b"0\n");
}

#[test]
fn a_request_that_lost_a_race_is_a_conflict_and_keeps_nothing() {
    let mut world = World::new();
    world.memory.race = Some(request(0, 500));

    let reply = world.ask(&request(0, 300).to_bytes());

    assert_eq!((reply.status, reply.body.as_slice()), (409, &b"500\n"[..]));
}

#[test]
fn a_proof_that_does_not_hold_is_unprocessable() {
    let mut world = World::new();
    world.ask(&request(0, 300).to_bytes());
    let storage = world::log(400);
    let checkpoint = SignedCheckpoint::parse(&storage.file("checkpoint")).unwrap();

    for proof in [Vec::new(), vec![Hash::of(b"x")], vec![Hash::of(b"x"); 63]] {
        let asked = AddCheckpoint::new(300, proof, checkpoint.clone());
        assert_eq!(world.ask(&asked.to_bytes()).status, 422);
    }
    // From nothing, no proof is the only proof.
    let asked = AddCheckpoint::new(0, vec![Hash::of(b"x")], checkpoint);
    assert_eq!(World::new().ask(&asked.to_bytes()).status, 422);
}

#[test]
fn an_old_size_beyond_the_checkpoint_is_a_bad_request() {
    let storage = world::log(300);
    let checkpoint = SignedCheckpoint::parse(&storage.file("checkpoint")).unwrap();

    let asked = AddCheckpoint::new(301, Vec::new(), checkpoint);

    assert_eq!(World::new().ask(&asked.to_bytes()).status, 400);
}

#[test]
fn an_unknown_log_is_not_found() {
    let other = Signer::new(KeyKind::Log, "other.example", &[5; 32]).unwrap();
    let mut witness = World::new();
    witness.witness = Witness::new(witness_key(1), Policy::of_logs([other.verifier().clone()]));

    assert_eq!(witness.ask(&request(0, 300).to_bytes()).status, 404);
}

#[test]
fn a_checkpoint_without_a_good_signature_by_its_log_is_forbidden() {
    let other = Signer::new(KeyKind::Log, ORIGIN, &[5; 32]).unwrap();
    let mut stranger = World::new();
    stranger.witness = Witness::new(witness_key(1), Policy::of_logs([other.verifier().clone()]));
    assert_eq!(stranger.ask(&request(0, 300).to_bytes()).status, 403, "unknown key");

    // Another size under the same signature.
    let forged =
        String::from_utf8(request(0, 300).to_bytes()).unwrap().replace("\n300\n", "\n301\n");
    assert_eq!(World::new().ask(forged.as_bytes()).status, 403, "false signature");
}

#[test]
fn what_is_no_request_is_a_bad_request() {
    let sound = String::from_utf8(request(0, 300).to_bytes()).unwrap();
    let hash = Hash::of(b"x");

    for (what, body) in [
        ("nothing", String::new()),
        ("leading zero", sound.replacen("old 0\n", "old 00\n", 1)),
        ("sign", sound.replacen("old 0\n", "old +0\n", 1)),
        ("word", sound.replacen("old 0\n", "new 0\n", 1)),
        ("64 hashes", sound.replacen('\n', &format!("\n{}", format!("{hash}\n").repeat(64)), 1)),
        ("short hash", sound.replacen('\n', "\nAAAA\n", 1)),
        ("no empty line", sound.replacen("\n\n", "\n", 1)),
        ("no signature", sound.split_inclusive('\n').take(6).collect()),
        ("carriage returns", sound.replace('\n', "\r\n")),
    ] {
        assert_eq!(World::new().ask(body.as_bytes()).status, 400, "{what}");
    }
    assert_eq!(World::new().ask(&[0xff; 10]).status, 400);
    assert_eq!(World::new().ask(sound.as_bytes()).status, 200);
}

#[test]
fn what_a_witness_keeps_carries_the_log_s_signature_and_its_own() {
    let mut world = World::new();
    let mut body = request(0, 300).to_bytes();
    // A line by someone unknown is not taken into the witness' own copy.
    body.extend("— stranger.example AAAAAAAAAAAAAAAAAAAAAAAAAAAA\n".as_bytes());

    assert_eq!(world.ask(&body).status, 200);

    let kept = world.memory.kept.unwrap();
    assert!(kept.verify(&trust_with_witness(&witness_key(1))).is_ok());
    assert!(!String::from_utf8(kept.to_bytes()).unwrap().contains("stranger"));
}

#[test]
fn an_answer_by_strangers_adds_nothing_and_a_false_one_is_refused() {
    let storage = world::log(300);
    let mut log = open(&storage).unwrap();
    let wanted = trust_with_witness(&witness_key(1));
    let mut world = World::new();
    let answer = world.ask(&request(0, 300).to_bytes()).body;
    let stale = World::new().ask(&request(0, 299).to_bytes()).body;

    assert!(matches!(log.cosign(&stale, &wanted), Err(LogError::Checkpoint(_))));
    let before = storage.file("checkpoint");
    log.cosign(&answer, &trust_with_witness(&witness_key(2))).unwrap();
    assert_eq!(storage.file("checkpoint"), before);
    log.cosign(&answer, &wanted).unwrap();
    assert_ne!(storage.file("checkpoint"), before);
}

/// A busy log is ahead of its witnesses: who asks for them verifies what they have seen, and learns how
/// much is waiting.
#[test]
fn a_log_ahead_of_its_witnesses_is_verified_as_far_as_they_saw() {
    let mut world = World::new();
    let wanted = trust_with_witness(&witness_key(1));
    let storage = world::log(100);
    let mut log = open(&storage).unwrap();
    let seen = log.published().unwrap().clone();
    let answer = world.ask(&AddCheckpoint::new(0, Vec::new(), seen.clone()).to_bytes()).body;
    log.integrate(100, &entries(100..130)).unwrap();
    log.publish().unwrap();
    assert!(verify(&storage, &Against::policy(&wanted)).is_err(), "nobody has cosigned anything");

    let kept = keep_answers(&storage, &seen, &[answer], &wanted).unwrap();

    assert_eq!(kept.claimed().size, 100);
    assert_eq!(open(&storage).unwrap().published_size(), 130, "the current one stays");
    let verified = verify(&storage, &Against::policy(&wanted)).unwrap();
    assert_eq!((verified.size, verified.awaiting), (100, 30));
    assert_eq!(verified.cosigned.len(), 1);
    let verified = verify(&storage, &Against::policy(&trust())).unwrap();
    assert_eq!((verified.size, verified.awaiting), (130, 0), "who asks for none verifies all");

    // What the witnesses saw is later taken back, with the real key.
    let mut other = entries(0..130);
    let mut event = world::event(50);
    event.kind = "ci.retired".to_owned();
    other[50] = event.to_canonical().unwrap();
    let mut files = world::forged_log(&other).files();
    files.insert("checkpoint.witnessed".to_owned(), storage.file("checkpoint.witnessed"));
    assert!(verify(&Memory::of(files), &Against::policy(&wanted)).is_err());
}

#[test]
fn an_answer_that_comes_late_replaces_nothing() {
    let wanted = trust_with_witness(&witness_key(1));
    let storage = world::log(130);
    let answer = |old: u64, size: u64| World::new().ask(&request(old, size).to_bytes()).body;
    let checkpoint = |size: u64| open(&world::log(size)).unwrap().published().unwrap().clone();

    keep_answers(&storage, &checkpoint(120), &[answer(0, 120)], &wanted).unwrap();
    let kept = storage.file("checkpoint.witnessed");
    keep_answers(&storage, &checkpoint(100), &[answer(0, 100)], &wanted).unwrap();
    assert_eq!(storage.file("checkpoint.witnessed"), kept);

    // The current one gets the cosignature beside the log's own.
    keep_answers(&storage, &checkpoint(130), &[answer(0, 130)], &wanted).unwrap();
    assert_eq!(storage.file("checkpoint.witnessed"), storage.file("checkpoint"));
    let verified = verify(&storage, &Against::policy(&wanted)).unwrap();
    assert_eq!((verified.size, verified.awaiting), (130, 0));
}
