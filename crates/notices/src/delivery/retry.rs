//! When to try again: exponential backoff with full jitter, then no more.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::DeliveryError;

/// The schedule of attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Shortest wait.
    pub shortest: Duration,
    /// Longest wait of our own choice.
    pub longest: Duration,
    /// How long after the first attempt the last may be.
    pub patience: Duration,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Try again then.
    Attempt(Timestamp),
    /// It failed for good: somebody has to look.
    Dead,
    /// The recipient wants no more.
    Unsubscribe,
}

impl Default for Retry {
    /// From 5 seconds to 6 hours, for 3 days.
    fn default() -> Self {
        Self {
            shortest: Duration::from_secs(5),
            longest: Duration::from_secs(6 * 3600),
            patience: Duration::from_secs(3 * 86_400),
        }
    }
}

impl Retry {
    /// What follows the failure of an attempt, the first of which was at `first`. `attempts` counts
    /// all that were made, this one included; the wait is drawn by `seed`, which is to differ
    /// between deliveries, so that those which failed together do not come back together.
    pub fn next(
        &self,
        attempts: u32,
        first: Timestamp,
        now: Timestamp,
        error: &DeliveryError,
        seed: u64,
    ) -> Next {
        match error {
            DeliveryError::Never { .. } => return Next::Dead,
            DeliveryError::Gone { .. } => return Next::Unsubscribe,
            DeliveryError::Later { .. } => {}
        }
        // Where clocks jump, the first attempt may lie ahead.
        match (self.again(attempts, now, error, seed), plus(first.min(now), self.patience)) {
            (Some(next), Some(last)) if next <= last => Next::Attempt(next),
            _ => Next::Dead,
        }
    }

    /// When whoever failed so often in a row is tried again, with whatever waits for it then; `None`
    /// where it was not a failure that goes away with time, or no such time comes.
    pub fn again(
        &self,
        attempts: u32,
        now: Timestamp,
        error: &DeliveryError,
        seed: u64,
    ) -> Option<Timestamp> {
        let DeliveryError::Later { after, .. } = error else { return None };
        plus(now, self.wait(attempts, seed).max(after.unwrap_or_default()))
    }

    /// Anything from the shortest wait to what doubles with each attempt.
    fn wait(&self, attempts: u32, seed: u64) -> Duration {
        let doubled = 2_u32.checked_pow(attempts.clamp(1, 31)).unwrap_or(u32::MAX);
        let ceiling = self.shortest.saturating_mul(doubled).min(self.longest).max(self.shortest);
        let span = ceiling.saturating_sub(self.shortest).as_millis().min(u128::from(u64::MAX));
        let random = u128::from(mixed(seed.wrapping_add(u64::from(attempts))));
        let drawn = (random * (span + 1)) >> 64;
        let drawn = Duration::from_millis(u64::try_from(drawn).unwrap_or(u64::MAX));
        self.shortest.saturating_add(drawn)
    }
}

fn plus(at: Timestamp, by: Duration) -> Option<Timestamp> {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok())
}

/// `SplitMix64`: neighbouring seeds have nothing in common.
const fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Timestamp = Timestamp::UNIX_EPOCH;

    fn failed(after: Option<Duration>) -> DeliveryError {
        DeliveryError::Later { text: String::new(), after }
    }

    /// All attempts until it is given up, where each fails at once.
    fn attempts(seed: u64, after: Option<Duration>) -> Vec<Timestamp> {
        let mut made = vec![FIRST];
        loop {
            let now = made[made.len() - 1];
            let count = u32::try_from(made.len()).unwrap();
            match Retry::default().next(count, FIRST, now, &failed(after), seed) {
                Next::Attempt(at) => made.push(at),
                Next::Dead => return made,
                Next::Unsubscribe => panic!(),
            }
        }
    }

    fn secs(from: Timestamp, until: Timestamp) -> f64 {
        (until - from).as_secs_f64()
    }

    proptest! {
        #[test]
        fn waits_are_bounded_and_end_after_three_days(seed: u64) {
            let made = attempts(seed, None);

            let patience = 3.0 * 86_400.0;
            for (place, pair) in made.windows(2).enumerate() {
                let wait = secs(pair[0], pair[1]);
                let doubled = 5.0 * 2_f64.powi(i32::try_from(place).unwrap() + 1);
                prop_assert!((5.0..=doubled.min(21_600.0)).contains(&wait), "{place}: {wait}");
            }
            let last = secs(FIRST, made[made.len() - 1]);
            prop_assert!((patience - 21_600.0..=patience).contains(&last), "{last}");
            prop_assert!((20..200).contains(&made.len()), "{} attempts", made.len());
            prop_assert_eq!(attempts(seed, None), made, "the same seed draws the same waits");
        }

        #[test]
        fn the_other_side_is_left_alone_as_long_as_it_wants(seed: u64, hours in 1_u64..72) {
            let after = Duration::from_secs(hours * 3600);
            for pair in attempts(seed, Some(after)).windows(2) {
                prop_assert!(secs(pair[0], pair[1]) >= after.as_secs_f64());
            }
        }

        #[test]
        fn nothing_makes_it_panic(
            attempts: u32, seed: u64, first in 0_i64..200_000_000_000, now in 0_i64..200_000_000_000,
            after: u64,
        ) {
            let at = |second| Timestamp::from_second(second).unwrap();
            let error = failed(Some(Duration::from_secs(after)));
            let next = Retry::default().next(attempts, at(first), at(now), &error, seed);
            if let Next::Attempt(next) = next {
                prop_assert!(next > at(now));
            }
        }
    }

    #[test]
    fn waits_are_spread_over_their_whole_span() {
        let thousand = (0..1000).map(|seed| Retry::default().wait(30, seed).as_secs());
        let (mut low, mut high) = (0, 0);
        for wait in thousand {
            low += u32::from(wait < 5400);
            high += u32::from(wait >= 16_200);
        }
        assert!((200..300).contains(&low) && (200..300).contains(&high), "{low}, {high}");
    }

    #[test]
    fn what_is_of_no_use_is_not_tried_again() {
        let next = |error| Retry::default().next(1, FIRST, FIRST, &error, 1);
        assert_eq!(next(DeliveryError::never("550")), Next::Dead);
        assert_eq!(next(DeliveryError::Gone { text: "410".into() }), Next::Unsubscribe);
        let week = Some(Duration::from_secs(7 * 86_400));
        assert_eq!(next(failed(week)), Next::Dead, "too late by then");
    }
}
