//! Files that go back and forth: told a few times, then once as that, and again when they rest.
//!
//! Only contents that were seen before are held back. Whatever is new is told at once, however often the file
//! alters, so that nobody hides an alteration behind many.
//!
//! ```
//! use domain::configuration::flapping::{Flapping, Signal};
//! use jiff::Timestamp;
//!
//! let minute = |count: i64| Timestamp::from_second(60 * count).unwrap();
//! let mut file = Flapping::new([0; 32].into());
//! let mut last = Signal::Tell;
//! for count in 1..=6 {
//!     let content = u8::try_from(count % 2).unwrap();
//!     last = file.altered([content; 32].into(), minute(count));
//! }
//! assert_eq!(last, Signal::Hold);
//! assert_eq!(file.rested(minute(70)), Some(1), "one was held back");
//! ```

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::change::FileHash;

/// How many returns to contents that were seen make a file one that goes back and forth.
pub const RETURNS: usize = 4;

/// Within which time.
pub const WITHIN: SignedDuration = SignedDuration::from_hours(1);

/// How long a file rests until that is over.
pub const REST: SignedDuration = SignedDuration::from_hours(1);

/// Most contents that are remembered.
const REMEMBERED: usize = 8;

/// What is remembered of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flapping {
    /// Contents that were seen last; the newest is the last.
    seen: VecDeque<FileHash>,
    /// When it returned to one of them, the newest last.
    returns: VecDeque<Timestamp>,
    /// Since it goes back and forth: how many alterations were held back, and when the last one came.
    held: Option<(u64, Timestamp)>,
}

/// What to do with an alteration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Tell of it.
    Tell,
    /// Tell that the file goes back and forth, and no more of its returns.
    TellFlapping,
    /// Count it.
    Hold,
}

impl Flapping {
    /// A file that has some content.
    pub fn new(content: FileHash) -> Self {
        Self { seen: VecDeque::from([content]), returns: VecDeque::new(), held: None }
    }

    /// The file has another content.
    pub fn altered(&mut self, content: FileHash, now: Timestamp) -> Signal {
        let place = self.seen.iter().position(|seen| *seen == content);
        if let Some(place) = place {
            self.seen.remove(place);
        }
        self.seen.push_back(content);
        if self.seen.len() > REMEMBERED {
            self.seen.pop_front();
        }
        if place.is_none() {
            return Signal::Tell;
        }
        if let Some((count, _)) = self.held {
            self.held = Some((count + 1, now));
            return Signal::Hold;
        }
        self.returns.push_back(now);
        while self.returns.front().is_some_and(|first| now.duration_since(*first) > WITHIN) {
            self.returns.pop_front();
        }
        if self.returns.len() < RETURNS {
            return Signal::Tell;
        }
        self.held = Some((0, now));
        Signal::TellFlapping
    }

    /// How many alterations were held back, once the file has rested; to be asked from time to time.
    pub fn rested(&mut self, now: Timestamp) -> Option<u64> {
        let (count, last) = self.held?;
        if now.duration_since(last) < REST {
            return None;
        }
        self.held = None;
        self.returns.clear();
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Signal::{Hold, Tell, TellFlapping};
    use super::*;

    fn content(number: u8) -> FileHash {
        [number; 32].into()
    }

    fn minute(count: i64) -> Timestamp {
        Timestamp::from_second(60 * count).unwrap()
    }

    #[test]
    fn a_file_that_goes_back_and_forth_is_told_so_once() {
        let mut file = Flapping::new(content(0));
        let signals: Vec<_> = (1..=8)
            .map(|count| file.altered(content(u8::try_from(count % 2).unwrap()), minute(count)))
            .collect();

        assert_eq!(signals, [Tell, Tell, Tell, Tell, TellFlapping, Hold, Hold, Hold]);
        assert_eq!(file.rested(minute(67)), None);
        assert_eq!(file.rested(minute(68)), Some(3));
        assert_eq!(file.rested(minute(69)), None, "it is told once");
        assert_eq!(file.altered(content(1), minute(70)), Tell);
    }

    #[test]
    fn slow_returns_are_told_each() {
        let mut file = Flapping::new(content(0));
        for count in 1..50 {
            let signal =
                file.altered(content(u8::try_from(count % 2).unwrap()), minute(30 * count));
            assert_eq!(signal, Signal::Tell);
        }
    }

    proptest! {
        #[test]
        fn what_was_never_seen_is_always_told(contents in prop::collection::vec(0_u8..12, 1..60)) {
            let mut file = Flapping::new(content(0));
            let mut ever = vec![0];
            for (at, number) in (1..).zip(contents) {
                let signal = file.altered(content(number), minute(at));
                if !ever.contains(&number) {
                    prop_assert_eq!(signal, Signal::Tell);
                    ever.push(number);
                }
            }
        }
    }
}
