//! What time it is, when the wall clock cannot be believed.
//!
//! Notices, consents and windows are instants. A wall clock that jumps ten years ahead would end
//! every lead time at once, and nobody could tell from the record. So the time that the machines
//! here are given goes on by the steady clock (`CLOCK_BOOTTIME`: it only goes forward, and goes on
//! while processes restart), and follows the wall clock as far as a sane one can drift. A wall clock
//! that deviates by more is reported, and believed again only by somebody's recorded decision.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A clock in good order drifts by less: NTP corrects at up to 500 ppm (RFC 5905, `ntp_adjtime`).
const DRIFT: i128 = 1000;

/// Tells the time. Kept with the record, so that it goes on after a restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    time: Timestamp,
    steady: SignedDuration,
}

/// The wall clock is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the wall clock says {wall}, and by the steady clock it is {time}")]
pub struct Deviation {
    /// What it says.
    pub wall: Timestamp,
    /// What time it is by the steady clock.
    pub time: Timestamp,
}

impl Deviation {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "set the host's clock; if it is right now, have an administrator set the time here"
    }
}

impl Watch {
    /// Set by somebody's decision, or when the installation begins.
    pub const fn set(wall: Timestamp, steady: SignedDuration) -> Self {
        Self { time: wall, steady }
    }

    /// The time, by both clocks; it never goes back. A deviation is to be recorded once it begins.
    #[must_use]
    pub fn read(
        self,
        wall: Timestamp,
        steady: SignedDuration,
    ) -> (Self, Timestamp, Option<Deviation>) {
        // A steady clock that went back is another boot's: no time is known to have passed.
        let passed = steady.saturating_sub(self.steady).max(SignedDuration::ZERO);
        let time = self.time.checked_add(passed).unwrap_or(Timestamp::MAX);
        let drift = wall.as_nanosecond() - time.as_nanosecond();
        if drift.abs() <= passed.as_nanos() / DRIFT {
            let time = wall.max(self.time);
            return (Self { time, steady }, time, None);
        }
        // Within what a clock can be read at all there is nothing to report, and nothing to follow.
        let is_far = wall.duration_since(time).abs() > TOLERANCE;
        (Self { time, steady }, time, is_far.then_some(Deviation { wall, time }))
    }
}

/// Two readings of one instant differ by what lies between them.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn secs(seconds: i64) -> SignedDuration {
        SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_sane_clock_is_followed() {
        let watch = Watch::set(at(0), secs(50));

        let (watch, time, deviation) = watch.read(at(10_005), secs(10_050));

        assert_eq!((time, deviation), (at(10_005), None));
        assert_eq!(watch.read(at(10_006), secs(10_051)).1, at(10_006));
    }

    #[test]
    fn a_clock_that_jumps_is_reported_and_not_believed() {
        for jump in [3600, -3600, 10 * 365 * 86_400, -10 * 365 * 86_400] {
            let watch = Watch::set(at(0), secs(0));

            let (watch, time, deviation) = watch.read(at(60 + jump), secs(60));

            assert_eq!(time, at(60));
            assert_eq!(deviation, Some(Deviation { wall: at(60 + jump), time: at(60) }));
            assert_eq!(watch.read(at(120), secs(120)).1, at(120), "it is right again");
        }
    }

    #[test]
    fn time_never_goes_back() {
        let watch = Watch::set(at(0), secs(1000));

        let (watch, time, _) = watch.read(at(5), secs(3));

        assert_eq!(time, at(0), "another boot: nothing is known to have passed");
        assert!(watch.read(at(5), secs(8)).1 >= time);
    }
}
