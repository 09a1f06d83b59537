//! What the store takes from the world: time and randomness.

use jiff::Timestamp;

/// Time and randomness, so that a test or a simulation can give its own.
pub trait Environment: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Fills with randomness fit for keys.
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's clock and random numbers.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

impl Environment for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn fill(&self, bytes: &mut [u8]) {
        getrandom::fill(bytes).expect("the system gives random numbers");
    }
}

/// Random bytes, as many as the type wants.
pub(crate) fn random<const N: usize>(environment: &dyn Environment) -> [u8; N] {
    let mut bytes = [0; N];
    environment.fill(&mut bytes);
    bytes
}
