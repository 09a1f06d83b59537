//! Grows a log to look at, or to measure verifiers on: `grow DIRECTORY COUNT` prints its key.

use std::error::Error;

use ledger::{Commitment, Directory, Envelope, KeyKind, Log, Signer};

const ORIGIN: &str = "example.invalid/audit";
const BATCH: u64 = 50_000;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(directory), Some(count)) = (arguments.next(), arguments.next()) else {
        return Err("usage: grow DIRECTORY COUNT".into());
    };
    let count: u64 = count.parse()?;
    // A key that everyone knows: this log proves nothing.
    let key = Signer::new(KeyKind::Log, ORIGIN, &[0x42; 32])?;
    println!("{}", key.verifier());
    let mut log = Log::open(Directory::new(directory), ORIGIN, vec![key])?;
    while log.size() < count {
        let first = log.size();
        let entries = (first..count.min(first + BATCH))
            .map(|sequence| event(sequence).to_canonical())
            .collect::<Result<Vec<_>, _>>()?;
        log.integrate(first, &entries)?;
    }
    log.publish()?;
    Ok(())
}

fn event(sequence: u64) -> Envelope {
    Envelope {
        sequence,
        at: jiff::Timestamp::UNIX_EPOCH,
        clock: "clk_01jq8zv7c2e4r".into(),
        actor: format!("agt_{:026}", sequence % 97),
        role: "agent".into(),
        tenant: Some(format!("tnt_{:016x}", sequence % 11)),
        kind: "ci.observed".into(),
        object: format!("ci_{:026}", sequence % 1009),
        version: sequence / 1009 + 1,
        commitments: vec![Commitment::new("report", &[1; 32], &sequence.to_be_bytes())],
        previous: None,
    }
}
