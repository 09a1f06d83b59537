//! A receipt proves one entry to someone who has neither the log nor a network.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use crate::world::{self, entries, open, trust, trust_with_witness, witness_key};
use ledger::errors::ReceiptError;
use ledger::{Policy, Receipt};

#[test]
fn a_receipt_holds_for_its_entry_and_no_other() {
    let storage = world::log(600);
    let log = open(&storage).unwrap();

    for index in [0, 255, 256, 511, 599] {
        let text = log.receipt(index).unwrap().to_text();
        let receipt = Receipt::parse(text.as_bytes()).unwrap();

        let entry = &entries(index..index + 1)[0];
        assert_eq!(receipt.index(), index);
        assert_eq!(receipt.verify(entry, &trust()).unwrap().size(), 600);
        let refused = receipt.verify(&entries(7..8)[0], &trust());
        assert!(matches!(refused, Err(ReceiptError::NotIncluded { .. })));
        assert_eq!(receipt.to_text(), text);
    }
    assert!(log.receipt(600).is_err());
}

#[test]
fn a_receipt_is_the_specification_s_text() {
    let storage = world::log(3);
    let text = open(&storage).unwrap().receipt(1).unwrap().to_text();

    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[..2], ["c2sp.org/tlog-proof@v1", "index 1"]);
    assert_eq!(lines[2..4].iter().map(|line| line.len()).collect::<Vec<_>>(), [44, 44]);
    assert_eq!(lines[4..7], ["", world::ORIGIN, "3"]);

    // Extra data is kept, and means nothing.
    let extra = text.replacen("\nindex", "\nextra aGVsbG8=\nindex", 1);
    let receipt = Receipt::parse(extra.as_bytes()).unwrap();
    assert_eq!(receipt.to_text(), extra);
    assert!(receipt.verify(&entries(1..2)[0], &trust()).is_ok());
}

#[test]
fn a_receipt_is_only_as_good_as_its_checkpoint() {
    let storage = world::log(3);
    let text = open(&storage).unwrap().receipt(1).unwrap().to_text();
    let receipt = Receipt::parse(text.as_bytes()).unwrap();
    let entry = &entries(1..2)[0];

    let witnessed = receipt.verify(entry, &trust_with_witness(&witness_key(1)));
    let nobody = receipt.verify(entry, &Policy::of_logs([]));

    assert!(matches!(witnessed, Err(ReceiptError::Checkpoint(_))));
    assert!(matches!(nobody, Err(ReceiptError::Checkpoint(_))));
}

#[test]
fn what_is_no_receipt_is_refused() {
    let storage = world::log(3);
    let text = open(&storage).unwrap().receipt(1).unwrap().to_text();

    for other in [
        String::new(),
        text.replace("@v1", "@v2"),
        text.replace("index 1", "index 01"),
        text.replace("index 1", "index -1"),
        text.replace("index 1", "index"),
        text.replacen("\n\n", "\n", 1),
        text.replacen("index 1\n", "index 1\nAAAA\n", 1),
        text.replacen("index 1\n", "index 1\nextra aGVsbG8=\n", 1),
        text.trim_end().to_owned(),
    ] {
        assert!(Receipt::parse(other.as_bytes()).is_err(), "{other}");
    }
}
