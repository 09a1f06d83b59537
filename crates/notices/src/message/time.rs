//! Times and durations as tenants read them: in their own zone, with UTC beside it.

use std::sync::LazyLock;

use domain::change::Window;
use domain::sla::Zone;
use jiff::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use serde::Serialize;

/// Those that come with the program, as the SLA's.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// An instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Time {
    /// `Tuesday 10 March 2026, 23:00 CET (22:00 UTC)`.
    text: String,
    /// `10 March, 23:00 CET`.
    short: String,
    /// `2026-03-10`, in the tenant's zone.
    date: String,
    /// `23:00`, in the tenant's zone.
    clock: String,
    /// `CET`.
    zone: String,
    /// `2026-03-10 22:00`, in UTC.
    utc: String,
}

/// A span of time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Span {
    /// `Tuesday 10 March 2026, 22:00 to 23:30 CET (21:00 to 22:30 UTC)`.
    text: String,
    from: Time,
    until: Time,
    length: Length,
}

/// How long something takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Length {
    /// `1 min 24 s`.
    text: String,
    milliseconds: u64,
}

/// An instant on the walls of two places.
struct Walls {
    day: String,
    clock: String,
    zone: String,
    utc_day: String,
    utc_clock: String,
    is_utc: bool,
    at: Timestamp,
    rules: TimeZone,
}

impl Walls {
    fn of(at: Timestamp, zone: &Zone) -> Self {
        let rules = rules(zone);
        let (here, utc) =
            (at.to_zoned_datetime(rules.clone()), at.to_zoned_datetime(TimeZone::UTC));
        let name = here.strftime("%Z").to_string();
        // Zones without a name of their own have digits there.
        let zone = if name.starts_with(['+', '-']) { format!("UTC{name}") } else { name };
        Self {
            day: here.strftime("%A %-d %B %Y").to_string(),
            clock: here.strftime("%H:%M").to_string(),
            is_utc: rules == TimeZone::UTC || zone == "UTC",
            zone,
            utc_day: utc.strftime("%A %-d %B %Y").to_string(),
            utc_clock: utc.strftime("%H:%M").to_string(),
            at,
            rules,
        }
    }

    /// `23:00`, or `11 March, 01:00` where that is another day than here.
    fn utc(&self) -> String {
        if self.utc_day == self.day {
            return self.utc_clock.clone();
        }
        self.at.to_zoned_datetime(TimeZone::UTC).strftime("%-d %B, %H:%M").to_string()
    }

    fn text(&self) -> String {
        let Self { day, clock, zone, .. } = self;
        if self.is_utc {
            return format!("{day}, {clock} UTC");
        }
        format!("{day}, {clock} {zone} ({} UTC)", self.utc())
    }
}

impl Time {
    pub(super) fn new(at: Timestamp, zone: &Zone) -> Self {
        let walls = Walls::of(at, zone);
        let here = at.to_zoned_datetime(walls.rules.clone());
        Self {
            text: walls.text(),
            short: format!("{} {}", here.strftime("%-d %B, %H:%M"), walls.zone),
            date: here.strftime("%Y-%m-%d").to_string(),
            utc: at.to_zoned_datetime(TimeZone::UTC).strftime("%Y-%m-%d %H:%M").to_string(),
            clock: walls.clock,
            zone: walls.zone,
        }
    }
}

impl Span {
    pub(super) fn new(window: Window, zone: &Zone) -> Self {
        let (from, until) = (Walls::of(window.from, zone), Walls::of(window.until, zone));
        let milliseconds = window.until.as_millisecond() - window.from.as_millisecond();
        // Where the clocks are put forward or back meanwhile, each time has its own.
        let zone_of_from = if from.zone == until.zone { "" } else { &format!(" {}", from.zone) };
        let day_of_until = if from.day == until.day { "" } else { &format!("{}, ", until.day) };
        let text = format!(
            "{}, {}{zone_of_from} to {day_of_until}{} {}",
            from.day, from.clock, until.clock, until.zone
        );
        let text = if from.is_utc {
            text
        } else {
            format!("{text} ({} to {} UTC)", from.utc(), until.utc())
        };
        Self {
            text,
            from: Time::new(window.from, zone),
            until: Time::new(window.until, zone),
            length: Length::new(u64::try_from(milliseconds).unwrap_or(0)),
        }
    }
}

impl Length {
    pub(super) fn new(milliseconds: u64) -> Self {
        // Rounded up: nobody is to be told less than was measured.
        let seconds = milliseconds.div_ceil(1000);
        let text = match milliseconds {
            0..100 => "less than 0.1 s".to_owned(),
            100..9_900 => {
                let tenths = milliseconds.div_ceil(100);
                format!("{}.{} s", tenths / 10, tenths % 10)
            }
            _ => match (seconds / 3600, seconds % 3600 / 60, seconds % 60) {
                (0, 0, seconds) => format!("{seconds} s"),
                (0, minutes, 0) => format!("{minutes} min"),
                (0, minutes, seconds) => format!("{minutes} min {seconds} s"),
                (hours, 0, _) => format!("{hours} h"),
                (hours, minutes, _) => format!("{hours} h {minutes} min"),
            },
        };
        Self { text, milliseconds }
    }
}

fn rules(zone: &Zone) -> TimeZone {
    ZONES.get(zone.name()).unwrap_or(TimeZone::UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: &str, until: &str) -> Window {
        Window { from: from.parse().unwrap(), until: until.parse().unwrap() }
    }

    fn text(from: &str, until: &str, zone: &str) -> String {
        Span::new(window(from, until), &Zone::named(zone).unwrap()).text
    }

    #[test]
    fn times_are_those_of_the_tenant_with_utc_beside() {
        let at = "2026-03-10T22:00:00Z".parse().unwrap();
        let text = |zone: &str| Time::new(at, &Zone::named(zone).unwrap()).text;

        assert_eq!(text("UTC"), "Tuesday 10 March 2026, 22:00 UTC");
        assert_eq!(text("Europe/Berlin"), "Tuesday 10 March 2026, 23:00 CET (22:00 UTC)");
        assert_eq!(text("Asia/Tokyo"), "Wednesday 11 March 2026, 07:00 JST (10 March, 22:00 UTC)");
        assert_eq!(
            text("Asia/Dubai"),
            "Wednesday 11 March 2026, 02:00 UTC+04 (10 March, 22:00 UTC)"
        );
    }

    #[test]
    fn spans_say_what_differs() {
        assert_eq!(
            text("2026-03-10T21:00:00Z", "2026-03-10T22:30:00Z", "Europe/Berlin"),
            "Tuesday 10 March 2026, 22:00 to 23:30 CET (21:00 to 22:30 UTC)"
        );
        assert_eq!(
            text("2026-03-10T22:00:00Z", "2026-03-11T00:00:00Z", "Europe/Berlin"),
            "Tuesday 10 March 2026, 23:00 to Wednesday 11 March 2026, 01:00 CET \
             (22:00 to 00:00 UTC)"
        );
        assert_eq!(
            text("2026-03-10T23:30:00Z", "2026-03-11T00:30:00Z", "Europe/Berlin"),
            "Wednesday 11 March 2026, 00:30 to 01:30 CET (10 March, 23:30 to 00:30 UTC)"
        );
        // The night in which the clocks go forward.
        assert_eq!(
            text("2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z", "Europe/Berlin"),
            "Sunday 29 March 2026, 01:30 CET to 03:30 CEST (00:30 to 01:30 UTC)"
        );
        assert_eq!(
            text("2026-03-10T22:00:00Z", "2026-03-11T00:00:00Z", "UTC"),
            "Tuesday 10 March 2026, 22:00 to Wednesday 11 March 2026, 00:00 UTC"
        );
    }

    #[test]
    fn lengths_are_never_told_shorter_than_measured() {
        for (milliseconds, text) in [
            (0, "less than 0.1 s"),
            (60, "less than 0.1 s"),
            (1_240, "1.3 s"),
            (9_899, "9.9 s"),
            (9_999, "10 s"),
            (23_200, "24 s"),
            (60_000, "1 min"),
            (84_000, "1 min 24 s"),
            (3_600_000, "1 h"),
            (5_400_000, "1 h 30 min"),
        ] {
            assert_eq!(Length::new(milliseconds).text, text);
        }
    }
}
