//! Time, passed in: a cloud takes minutes, its tests must not.

use std::fmt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Tells time and lets it pass.
pub trait Clock: fmt::Debug + Send + Sync {
    /// Time since a moment of the clock's own; never goes back.
    fn now(&self) -> Duration;

    /// Seconds since 1970, to be compared between machines.
    fn unix(&self) -> u64;

    /// Returns after so long.
    fn wait(&self, duration: Duration);
}

/// The machine's own clock.
#[derive(Debug)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn unix(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    fn wait(&self, duration: Duration) {
        std::thread::sleep(duration);
    }
}
