//! What the store takes from the world: time and randomness.

use std::sync::{Mutex, PoisonError};

use domain::sla::{Jump, Reading, Steady};
use jiff::{SignedDuration, Timestamp};

/// Time and randomness, so that a test or a simulation can give its own.
pub trait Environment: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Timestamp;

    /// Fills with randomness fit for keys.
    fn fill(&self, bytes: &mut [u8]);

    /// How far the wall clock is from the time that goes on evenly, where they parted.
    fn jump(&self) -> Option<Jump> {
        None
    }
}

/// The system's time as long as its clocks agree: a wall clock that is set by an hour or by ten
/// years breaches no SLA and ends no lead time. Starting anew believes the wall clock again.
#[derive(Debug)]
pub struct SteadySystem {
    steady: Mutex<Steady>,
}

impl Default for SteadySystem {
    fn default() -> Self {
        Self { steady: Mutex::new(Steady::new(reading(), None)) }
    }
}

impl SteadySystem {
    fn tell(&self) -> (Timestamp, Option<Jump>) {
        self.steady.lock().unwrap_or_else(PoisonError::into_inner).tell(reading())
    }
}

impl Environment for SteadySystem {
    fn now(&self) -> Timestamp {
        self.tell().0
    }

    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
    }

    fn jump(&self) -> Option<Jump> {
        self.tell().1
    }
}

/// Both clocks: the wall's, and the one that counts on while the system sleeps.
fn reading() -> Reading {
    let counted = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let nanoseconds = i32::try_from(counted.tv_nsec).unwrap_or(0);
    Reading { wall: Timestamp::now(), counted: SignedDuration::new(counted.tv_sec, nanoseconds) }
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
