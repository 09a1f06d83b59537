//! A way in for fuzzers: what a machine's console prints. No part of the public face.

use crate::console::Transcript;

/// Hears pieces of a console, and asks all that a trial asks.
pub fn console(pieces: &[&[u8]]) {
    let mut transcript = Transcript::default();
    for piece in pieces {
        transcript.hear(piece);
        let _ = (transcript.kernel(), transcript.panic(), transcript.halt());
        let _ = (transcript.asks_for_login(), transcript.system_spoke());
    }
    assert!(transcript.tail().len() <= 64 << 10);
}
