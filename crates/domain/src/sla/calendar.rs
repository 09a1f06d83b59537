//! The contract's calendar: its time zone, business days, holidays and freezes.
//!
//! Wall-clock times that do not exist (clocks go forward) are taken at the first instant after the
//! gap; those that exist twice (clocks go back) at the first of the two. Time zones come from the
//! database within the program, never from the host.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Wait;
use crate::priority::Priority;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// A time zone of the IANA database, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    name: String,
    rules: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), rules: TimeZone::UTC }
    }

    /// The zone of this name (`Europe/Berlin`); `None` where there is none.
    pub fn named(name: &str) -> Option<Self> {
        if name == "UTC" {
            return Some(Self::utc());
        }
        let rules = ZONES.get(name).ok()?;
        Some(Self { name: name.to_owned(), rules })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What a clock on the wall shows.
    pub fn wall(&self, at: Timestamp) -> DateTime {
        self.rules.to_datetime(at)
    }

    /// The instant at which a clock on the wall shows this: the first after a gap, the first of
    /// two.
    pub fn instant(&self, wall: DateTime) -> Timestamp {
        let ambiguous = self.rules.to_ambiguous_timestamp(wall);
        let found = match ambiguous.offset() {
            // Read with the offset from before the gap, the time lies behind the transition, which
            // is the first instant that exists.
            AmbiguousOffset::Gap { .. } => ambiguous.later().ok().map(|behind| {
                let transition = self.rules.preceding(behind + SignedDuration::from_secs(1)).next();
                transition.map_or(behind, |transition| transition.timestamp())
            }),
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => {
                ambiguous.earlier().ok()
            }
        };
        found.unwrap_or(Timestamp::MAX)
    }
}

impl Serialize for Zone {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.name)
    }
}

impl<'de> Deserialize<'de> for Zone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        Self::named(&name).ok_or_else(|| {
            D::Error::custom(format!(
                "there is no time zone `{name}`; write a name of the IANA database, such as \
                 `Europe/Berlin`"
            ))
        })
    }
}

/// A time in which the tenant's items are not altered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// When it begins, on the wall clock of the policy's zone.
    pub from: DateTime,
    /// When it is over, likewise.
    pub until: DateTime,
    /// Why.
    pub reason: String,
    /// Priorities that are installed all the same.
    #[serde(default)]
    pub except: BTreeSet<Priority>,
}

/// Days and times that a policy reckons with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calendar {
    /// The contract's time zone.
    pub zone: Zone,
    /// Days of the week without business.
    #[serde(with = "weekdays")]
    pub weekend: BTreeSet<DayOfWeek>,
    /// Other days without business.
    #[serde(default)]
    pub holidays: BTreeSet<Date>,
    /// Times without alterations.
    #[serde(default)]
    pub freezes: Vec<Freeze>,
}

/// A day of the week, Monday first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum DayOfWeek {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl From<Weekday> for DayOfWeek {
    fn from(day: Weekday) -> Self {
        match day {
            Weekday::Monday => Self::Monday,
            Weekday::Tuesday => Self::Tuesday,
            Weekday::Wednesday => Self::Wednesday,
            Weekday::Thursday => Self::Thursday,
            Weekday::Friday => Self::Friday,
            Weekday::Saturday => Self::Saturday,
            Weekday::Sunday => Self::Sunday,
        }
    }
}

impl Calendar {
    /// Monday to Friday in universal time, without holidays or freezes.
    pub fn plain() -> Self {
        Self {
            zone: Zone::utc(),
            weekend: [DayOfWeek::Saturday, DayOfWeek::Sunday].into(),
            holidays: BTreeSet::new(),
            freezes: Vec::new(),
        }
    }

    /// The first instant after a day.
    pub fn end_of(&self, day: Date) -> Timestamp {
        day.tomorrow().map_or(Timestamp::MAX, |next| self.zone.instant(next.at(0, 0, 0, 0)))
    }

    /// Whether there is business on a day.
    pub fn is_business_day(&self, day: Date) -> bool {
        !self.weekend.contains(&day.weekday().into()) && !self.holidays.contains(&day)
    }

    /// When a wait that begins at `start` is over.
    ///
    /// Business days end at the same time of the day. What begins on a day without business counts
    /// from the first minute of the next business day, so that one business day from a Saturday is
    /// over when Monday is.
    pub fn end(&self, start: Timestamp, wait: Wait) -> Timestamp {
        match wait {
            Wait::Minutes(minutes) => later(start, SignedDuration::from_mins(minutes.into())),
            Wait::BusinessDays(0) => start,
            Wait::BusinessDays(count) => {
                let mut wall = self.zone.wall(start);
                while !self.is_business_day(wall.date()) {
                    let Ok(day) = wall.date().tomorrow() else { return Timestamp::MAX };
                    wall = day.to_datetime(Time::midnight());
                }
                self.step(wall, count, Date::tomorrow).map_or(Timestamp::MAX, |wall| {
                    // A start in a repeated hour must not end before one a moment earlier.
                    self.zone.instant(wall).max(start)
                })
            }
        }
    }

    /// The latest instant from which a wait is over at `end` or before (FedRAMP SCN: notices so
    /// many business days before a change); up to a day earlier where `end` lies on a day without
    /// business.
    pub fn latest_start(&self, end: Timestamp, wait: Wait) -> Timestamp {
        match wait {
            Wait::Minutes(minutes) => {
                end.checked_sub(SignedDuration::from_mins(minutes.into())).unwrap_or(Timestamp::MIN)
            }
            Wait::BusinessDays(0) => end,
            Wait::BusinessDays(count) => {
                let mut wall = self.zone.wall(end);
                while !self.is_business_day(wall.date()) {
                    let Ok(day) = wall.date().yesterday() else { return Timestamp::MIN };
                    wall = day.to_datetime(Time::midnight());
                }
                self.step(wall, count, Date::yesterday)
                    .map_or(Timestamp::MIN, |wall| self.zone.instant(wall).min(end))
            }
        }
    }

    /// So many business days away, at the same time of the day.
    fn step(
        &self,
        from: DateTime,
        count: u16,
        next: fn(Date) -> Result<Date, jiff::Error>,
    ) -> Option<DateTime> {
        let mut day = from.date();
        for _ in 0..count {
            day = next(day).ok()?;
            while !self.is_business_day(day) {
                day = next(day).ok()?;
            }
        }
        Some(day.to_datetime(from.time()))
    }

    /// The freezes that hold a priority up, as instants, in order and without overlap.
    pub fn frozen(&self, priority: Priority) -> Vec<(Timestamp, Timestamp)> {
        let mut spans: Vec<(Timestamp, Timestamp)> = self
            .freezes
            .iter()
            .filter(|freeze| !freeze.except.contains(&priority))
            .map(|freeze| (self.zone.instant(freeze.from), self.zone.instant(freeze.until)))
            .filter(|(from, until)| from < until)
            .collect();
        spans.sort_unstable();
        let mut joined: Vec<(Timestamp, Timestamp)> = Vec::new();
        for (from, until) in spans {
            match joined.last_mut() {
                Some((_, end)) if from <= *end => *end = until.max(*end),
                _ => joined.push((from, until)),
            }
        }
        joined
    }

    /// The first instant from `at` on at which a priority may be installed.
    pub fn thawed(&self, at: Timestamp, priority: Priority) -> Timestamp {
        let frozen = self.frozen(priority);
        frozen.iter().find(|(from, until)| *from <= at && at < *until).map_or(at, |(_, end)| *end)
    }

    /// When a wait of the contract is over that stands still while a freeze holds the priority up.
    /// Clocks of regulations never stand still; they take [`Calendar::end`].
    pub fn end_with_pauses(&self, start: Timestamp, wait: Wait, priority: Priority) -> Timestamp {
        let mut end = self.end(start, wait);
        for (from, until) in self.frozen(priority) {
            if from < end {
                let paused = until.duration_since(from.max(start));
                if paused.is_positive() {
                    end = later(end, paused);
                }
            }
        }
        end
    }

    /// The longest that a wait can take in real time, whenever it begins: over the year 2026 and
    /// all time around the holidays that the calendar lists.
    pub fn longest(&self, wait: Wait) -> SignedDuration {
        let count = match (wait, wait.exact()) {
            (_, Some(exact)) => return exact,
            (Wait::BusinessDays(count), None) => count,
            (Wait::Minutes(_), None) => return SignedDuration::ZERO,
        };
        // A week has at least one business day, so that whatever begins earlier than this before a
        // holiday is over by then.
        let reach = SignedDuration::from_hours(24 * (i64::from(count) * 7 + 14));
        let year = [jiff::civil::date(2026, 1, 1), jiff::civil::date(2026, 12, 31)];
        let anchors = self.holidays.iter().copied().chain(year);
        let (first, last) =
            anchors.fold((year[0], year[1]), |(first, last), day| (first.min(day), last.max(day)));
        let first = first.checked_sub(reach).unwrap_or(first);
        let last = last.checked_add(reach).unwrap_or(last);
        let business: Vec<Date> = first
            .series(jiff::Span::new().days(1))
            .take_while(|day| *day <= last)
            .filter(|day| self.is_business_day(*day))
            .collect();
        // The longest way begins with the first minute after a business day, and is over with so
        // many business days after the next one.
        let mut most = 0;
        let mut ways: Vec<(Date, Date)> = Vec::new();
        for ends in business.windows(usize::from(count) + 2) {
            let (Some(before), Some(end)) = (ends.first(), ends.last()) else { continue };
            let Ok(start) = before.tomorrow() else { continue };
            let days = end.duration_since(start).as_hours();
            if days > most {
                most = days;
                ways.clear();
            }
            if days == most {
                ways.push((start, *end));
            }
        }
        let midnight = |day: Date| self.zone.instant(day.to_datetime(Time::midnight()));
        let real =
            ways.into_iter().map(|(start, end)| midnight(end).duration_since(midnight(start)));
        real.max().unwrap_or_default()
    }
}

/// An instant so much later, or the end of time.
pub(super) fn later(at: Timestamp, by: SignedDuration) -> Timestamp {
    at.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// A week always has a business day: otherwise no wait would end.
mod weekdays {
    use super::{BTreeSet, DayOfWeek, Deserialize, Deserializer, Serialize, Serializer};
    use serde::de::Error as _;

    pub(super) fn serialize<S: Serializer>(
        days: &BTreeSet<DayOfWeek>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        days.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeSet<DayOfWeek>, D::Error> {
        let days = BTreeSet::deserialize(deserializer)?;
        if days.len() > 6 {
            return Err(D::Error::custom("a week needs at least one business day"));
        }
        Ok(days)
    }
}
