//! A wait as a contract writes it: `4h`, `0.5d`, `1d 12h`, `10bd`.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// How long something may take, or has to be waited for.
///
/// A day is exactly 24 hours wherever it stands (`d`); only business days (`bd`) know of a
/// calendar and a time zone. So a deadline in days means the same in every country and does not
/// move with the clocks in spring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// So many minutes of real time.
    Minutes(u32),
    /// So many business days of the policy's calendar.
    BusinessDays(u16),
}

/// Longest wait: ten years. What is longer is a mistake in writing.
const MAX_MINUTES: u32 = 10 * 366 * DAY;
/// Most business days: a year of weeks of five.
const MAX_BUSINESS_DAYS: u16 = 260;
const DAY: u32 = 24 * 60;

/// A text that is no wait.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` is no wait; write minutes, hours, days or business days: `30m`, `4h`, `0.5d`, \
     `1d 12h`, `10bd`, at most ten years or 260 business days"
)]
pub struct NoWait {
    /// The text.
    pub text: String,
}

impl Wait {
    /// No wait at all: at once.
    pub const NONE: Self = Self::Minutes(0);

    /// So many hours.
    pub const fn hours(hours: u32) -> Self {
        Self::Minutes(hours * 60)
    }

    /// So many days of 24 hours.
    pub const fn days(days: u32) -> Self {
        Self::Minutes(days * DAY)
    }

    /// Whether it is over as soon as it begins.
    pub const fn is_none(self) -> bool {
        matches!(self, Self::Minutes(0) | Self::BusinessDays(0))
    }

    /// The wait in real time, where no calendar is needed to tell.
    pub fn exact(self) -> Option<SignedDuration> {
        match self {
            Self::Minutes(minutes) => Some(SignedDuration::from_mins(i64::from(minutes))),
            Self::BusinessDays(0) => Some(SignedDuration::ZERO),
            Self::BusinessDays(_) => None,
        }
    }
}

impl FromStr for Wait {
    type Err = NoWait;

    fn from_str(text: &str) -> Result<Self, NoWait> {
        let refused = || NoWait { text: text.chars().take(60).collect() };
        if let Some(days) = text.strip_suffix("bd") {
            let days: u16 = days.parse().map_err(|_| refused())?;
            return if days <= MAX_BUSINESS_DAYS {
                Ok(Self::BusinessDays(days))
            } else {
                Err(refused())
            };
        }
        let mut parts = text.split(' ').peekable();
        parts.peek().filter(|part| !part.is_empty()).ok_or_else(refused)?;
        let minutes = parts.try_fold(0, |sum: u32, part| sum.checked_add(minutes(part)?));
        minutes.filter(|&sum| sum <= MAX_MINUTES).map(Self::Minutes).ok_or_else(refused)
    }
}

/// One part, `12h` or `0.5d`, in whole minutes.
fn minutes(part: &str) -> Option<u32> {
    let unit = match part.chars().last()? {
        'm' => 1,
        'h' => 60,
        'd' => DAY,
        _ => return None,
    };
    let number = &part[..part.len() - 1];
    let (whole, tenths) = match number.split_once('.') {
        None => (number, 0),
        // One decimal is enough for half days, and cannot hide a rounding.
        Some((whole, tenth)) if tenth.len() == 1 => (whole, tenth.parse::<u32>().ok()?),
        Some(_) => return None,
    };
    if whole.is_empty() || !whole.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let tenths = whole.parse::<u32>().ok()?.checked_mul(10)?.checked_add(tenths)?;
    let minutes = tenths.checked_mul(unit)?;
    (minutes % 10 == 0).then_some(minutes / 10)
}

impl fmt::Display for Wait {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minutes = match *self {
            Self::BusinessDays(days) => return formatter.pad(&format!("{days}bd")),
            Self::Minutes(minutes) => minutes,
        };
        let parts = [(minutes / DAY, "d"), (minutes % DAY / 60, "h"), (minutes % 60, "m")];
        let written: Vec<String> = parts
            .iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, unit)| format!("{count}{unit}"))
            .collect();
        formatter.pad(&if written.is_empty() { "0h".to_owned() } else { written.join(" ") })
    }
}

impl Serialize for Wait {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Wait {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_read_as_people_write_it() {
        let read = |text: &str| text.parse::<Wait>();
        assert_eq!(read("4h"), Ok(Wait::Minutes(240)));
        assert_eq!(read("0.5d"), Ok(Wait::Minutes(720)), "FedRAMP counts half days");
        assert_eq!(read("1d 12h"), Ok(Wait::Minutes(2160)));
        assert_eq!(read("30bd"), Ok(Wait::BusinessDays(30)));
        for text in
            ["", "4", "h", "-1h", "+1h", "1.25d", "4 h", "1h ", "4w", "9999999d", "261bd", "0.1m"]
        {
            assert_eq!(read(text), Err(NoWait { text: text.to_owned() }));
        }
    }

    #[test]
    fn a_wait_is_written_so_that_it_reads_the_same() {
        for (minutes, text) in [(0, "0h"), (45, "45m"), (720, "12h"), (2160, "1d 12h")] {
            assert_eq!(Wait::Minutes(minutes).to_string(), text);
            assert_eq!(text.parse(), Ok(Wait::Minutes(minutes)));
        }
    }
}
