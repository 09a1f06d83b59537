//! The time that clocks of the SLA go by: a host's clock that jumps is not believed.
//!
//! A wall clock can be set by an hour or by ten years, forward or back; a clock that only counts
//! cannot. As long as both agree, the wall clock is right. Where they part, time goes on from the
//! last agreement, and somebody has to say which is right. So a jump neither breaches an SLA nor
//! lets a tenant's silence approve.

use jiff::{SignedDuration, Timestamp};

use super::calendar::later;

/// How far the clocks may part between two readings: more than a leap second, or the smear of one,
/// and what time synchronisation corrects without a step (RFC 5905: up to 128 ms).
pub const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// What both clocks of a host show at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The wall clock.
    pub wall: Timestamp,
    /// The clock that only counts, from any start that stays the same.
    pub counted: SignedDuration,
}

/// The clocks parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// What the wall clock shows.
    pub shown: Timestamp,
    /// What it should show.
    pub expected: Timestamp,
}

/// Time that goes on evenly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Steady {
    /// The last moment at which both clocks agreed.
    agreed: Reading,
}

impl Steady {
    /// Begins with a reading that is believed. Where something is recorded already, time is not
    /// before it.
    pub fn new(reading: Reading, latest_record: Option<Timestamp>) -> Self {
        let wall = latest_record.map_or(reading.wall, |latest| latest.max(reading.wall));
        Self { agreed: Reading { wall, ..reading } }
    }

    /// The time at a reading, and the jump if the clocks parted. It never goes back.
    pub fn tell(&mut self, reading: Reading) -> (Timestamp, Option<Jump>) {
        // A counting clock that went back is another one: nothing has passed that could be told.
        let passed = reading.counted.saturating_sub(self.agreed.counted).max(SignedDuration::ZERO);
        let expected = later(self.agreed.wall, passed);
        let apart = reading.wall.duration_since(expected);
        if apart.abs() > TOLERANCE {
            return (expected, Some(Jump { shown: reading.wall, expected }));
        }
        // Following the wall clock keeps up with slow corrections, however long the host runs.
        let wall = reading.wall.max(self.agreed.wall);
        self.agreed = Reading { wall, counted: reading.counted.max(self.agreed.counted) };
        (wall, None)
    }

    /// Takes the wall clock as right after a jump, by a person's decision or a trusted source's.
    pub fn trust(&mut self, reading: Reading) {
        self.agreed = reading;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600;
    const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

    fn reading(wall: i64, counted: i64) -> Reading {
        let wall = Timestamp::from_second(1_800_000_000 + wall).unwrap();
        Reading { wall, counted: SignedDuration::from_secs(counted) }
    }

    #[test]
    fn a_jump_is_told_and_not_believed() {
        for jump in [HOUR, -HOUR, TEN_YEARS, -TEN_YEARS] {
            let mut steady = Steady::new(reading(0, 50), None);
            assert_eq!(steady.tell(reading(60, 110)), (reading(60, 0).wall, None));

            let expected = reading(120, 0).wall;
            let shown = reading(120 + jump, 0).wall;
            assert_eq!(
                steady.tell(reading(120 + jump, 170)),
                (expected, Some(Jump { shown, expected }))
            );
            assert!(steady.tell(reading(180 + jump, 230)).1.is_some(), "until somebody decides");
            assert_eq!(
                steady.tell(reading(240, 290)),
                (reading(240, 0).wall, None),
                "or it is set"
            );

            steady.trust(reading(300 + jump, 350));
            assert_eq!(steady.tell(reading(301 + jump, 351)), (reading(301 + jump, 0).wall, None));
        }
    }

    #[test]
    fn a_leap_second_is_no_jump_and_time_does_not_go_back() {
        let mut steady = Steady::new(reading(0, 0), None);
        assert_eq!(steady.tell(reading(10, 10)).0, reading(10, 0).wall);
        // The wall shows one second twice.
        assert_eq!(steady.tell(reading(10, 11)), (reading(10, 0).wall, None));
        assert_eq!(steady.tell(reading(9, 11)), (reading(10, 0).wall, None));
        assert_eq!(steady.tell(reading(11, 12)), (reading(11, 0).wall, None));
    }

    #[test]
    fn slow_corrections_add_up_without_a_jump() {
        let mut steady = Steady::new(reading(0, 0), None);
        for step in 1..=1_000 {
            // A second is won in each minute.
            assert_eq!(steady.tell(reading(61 * step, 60 * step)).1, None);
        }
    }

    #[test]
    fn nothing_begins_before_what_is_recorded() {
        let record = reading(500, 0).wall;
        let mut steady = Steady::new(reading(0, 0), Some(record));
        assert!(steady.tell(reading(1, 1)).0 > record);
    }
}
