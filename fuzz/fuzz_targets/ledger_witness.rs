//! Any bytes as a request to a witness: an answer of the specification, and never a cosignature,
//! because the log's key signed none of it.
#![no_main]

use std::convert::Infallible;

use ledger::witness::{AddCheckpoint, Advance, Memory, Witness};
use ledger::{KeyKind, Policy, SignedCheckpoint, Signer};
use libfuzzer_sys::fuzz_target;

struct Nothing;

impl Memory for Nothing {
    type Error = Infallible;

    fn latest(&self, _origin: &str) -> Result<Option<SignedCheckpoint>, Infallible> {
        Ok(None)
    }

    fn advance(&mut self, _from: u64, _next: &SignedCheckpoint) -> Result<Advance, Infallible> {
        unreachable!("cosigned what the log never signed")
    }
}

fuzz_target!(|data: &[u8]| {
    let log = Signer::new(KeyKind::Log, "log.example", &[7; 32]).unwrap();
    let signer = Signer::new(KeyKind::Witness, "w.example", &[8; 32]).unwrap();
    let witness = Witness::new(signer, Policy::of_logs([log.verifier().clone()]));
    let now = jiff::Timestamp::UNIX_EPOCH;
    let reply = witness.add_checkpoint(&mut Nothing, data, now).unwrap();
    assert!([400, 403, 404].contains(&reply.status));
    if let Ok(request) = AddCheckpoint::parse(data) {
        assert_eq!(request.to_bytes(), data);
    }
});
