//! Deadlines on calendars, reckoned by hand.

use super::*;

fn calendar(zone: &str, holidays: &[&str]) -> Calendar {
    Calendar {
        zone: Zone::named(zone).unwrap(),
        holidays: holidays.iter().map(|day| day.parse().unwrap()).collect(),
        ..Calendar::plain()
    }
}

/// Zone, start, wait, end.
const TABLE: [(&str, &str, &str, &str); 25] = [
    // Hours and days are real time, whatever clocks on walls do.
    ("UTC", "2026-11-26T09:00:00Z", "4h", "2026-11-26T13:00:00Z"),
    ("Europe/Berlin", "2026-03-28T12:00:00+01:00", "1d", "2026-03-29T13:00:00+02:00"),
    ("Europe/Berlin", "2026-10-24T12:00:00+02:00", "1d", "2026-10-25T11:00:00+01:00"),
    ("America/New_York", "2026-03-07T12:00:00-05:00", "24h", "2026-03-08T13:00:00-04:00"),
    ("UTC", "2026-01-01T00:00:00Z", "0.5d", "2026-01-01T12:00:00Z"),
    // Over a leap day: 2028-02-28 + 2 days is March 1st; 2027 has no such day.
    ("UTC", "2028-02-28T10:00:00Z", "2d", "2028-03-01T10:00:00Z"),
    ("UTC", "2027-02-28T10:00:00Z", "2d", "2027-03-02T10:00:00Z"),
    ("Asia/Kathmandu", "2028-02-28T10:00:00+05:45", "2bd", "2028-03-01T10:00:00+05:45"),
    ("UTC", "2028-02-29T10:00:00Z", "1bd", "2028-03-01T10:00:00Z"),
    // 2027-12-31 is a Friday; 366 days later is 2028-12-31.
    ("UTC", "2027-12-31T00:00:00Z", "366d", "2028-12-31T00:00:00Z"),
    // Over a weekend: 2026-11-27 is a Friday.
    ("Europe/Berlin", "2026-11-27T15:00:00+01:00", "1bd", "2026-11-30T15:00:00+01:00"),
    ("Europe/Berlin", "2026-11-26T15:00:00+01:00", "5bd", "2026-12-03T15:00:00+01:00"),
    // From a day without business: the count begins with Monday.
    ("Europe/Berlin", "2026-11-28T15:00:00+01:00", "1bd", "2026-12-01T00:00:00+01:00"),
    // Sunday 23:30 in Berlin is Monday 04:15 in Kathmandu.
    ("Europe/Berlin", "2026-11-29T23:30:00+01:00", "1bd", "2026-12-01T00:00:00+01:00"),
    ("Asia/Kathmandu", "2026-11-29T23:30:00+01:00", "1bd", "2026-12-01T04:15:00+05:45"),
    // Over Christmas: the 25th (Friday) is a holiday, 26th and 27th are a weekend.
    ("Europe/Berlin", "2026-12-24T10:00:00+01:00", "1bd", "2026-12-28T10:00:00+01:00"),
    // And over New Year's Day, a Friday: 28, 29, 30, 31, then Monday the 4th.
    ("Europe/Berlin", "2026-12-24T10:00:00+01:00", "5bd", "2027-01-04T10:00:00+01:00"),
    // Friday to Monday over the change of clocks: the same time of the day, an hour less.
    ("Europe/Berlin", "2026-03-27T12:00:00+01:00", "1bd", "2026-03-30T12:00:00+02:00"),
    ("America/New_York", "2026-10-30T12:00:00-04:00", "1bd", "2026-11-02T12:00:00-05:00"),
    // FedRAMP SCN: 30 business days are six weeks without a holiday, from Monday 2026-02-02.
    ("America/New_York", "2026-02-02T09:00:00-05:00", "30bd", "2026-03-16T09:00:00-04:00"),
    ("America/New_York", "2026-02-02T09:00:00-05:00", "10bd", "2026-02-16T09:00:00-05:00"),
    ("America/New_York", "2026-02-02T09:00:00-05:00", "5bd", "2026-02-09T09:00:00-05:00"),
    // Nothing takes nothing, also on a Sunday.
    ("UTC", "2026-11-29T10:00:00Z", "0bd", "2026-11-29T10:00:00Z"),
    ("UTC", "2026-11-29T10:00:00Z", "0h", "2026-11-29T10:00:00Z"),
    // A leap second has no instant of its own: 23:59:60 is read as 23:59:59.
    ("UTC", "2016-12-31T23:59:60Z", "1h", "2017-01-01T00:59:59Z"),
];

#[test]
fn waits_end_as_reckoned_by_hand() {
    for (zone, start, wait, end) in TABLE {
        let calendar = calendar(zone, &["2026-12-25", "2027-01-01"]);
        let found = calendar.end(at(start), wait.parse().unwrap());
        assert_eq!(found, at(end), "{start} + {wait} in {zone}");
    }
}

#[test]
fn a_wall_time_that_does_not_exist_is_the_first_that_does_and_of_two_the_first() {
    // Zone, time on the wall, instant in universal time.
    let table = [
        ("Europe/Berlin", "2026-03-29T02:30:00", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-03-29T01:59:59", "2026-03-29T00:59:59Z"),
        ("Europe/Berlin", "2026-03-29T03:00:00", "2026-03-29T01:00:00Z"),
        ("Europe/Berlin", "2026-10-25T02:30:00", "2026-10-25T00:30:00Z"),
        ("America/New_York", "2026-03-08T02:00:01", "2026-03-08T07:00:00Z"),
        ("America/New_York", "2026-11-01T01:30:00", "2026-11-01T05:30:00Z"),
        // Half an hour of daylight saving time: 02:00 becomes 02:30.
        ("Australia/Lord_Howe", "2026-10-04T02:10:00", "2026-10-03T15:30:00Z"),
        ("Asia/Kathmandu", "2026-06-01T12:00:00", "2026-06-01T06:15:00Z"),
    ];
    for (zone, wall, instant) in table {
        let found = Zone::named(zone).unwrap().instant(wall.parse().unwrap());
        assert_eq!(found, at(instant), "{wall} in {zone}");
    }
}

#[test]
fn business_days_end_at_the_first_valid_instant_of_a_day_that_lacks_the_hour() {
    // In Cairo, the last Friday of April 2026 (the 24th) has no midnight hour: 00:00 becomes 01:00.
    let mut calendar = calendar("Africa/Cairo", &[]);
    calendar.weekend = [DayOfWeek::Saturday, DayOfWeek::Sunday].into();
    let end = calendar.end(at("2026-04-23T00:30:00+02:00"), Wait::BusinessDays(1));
    assert_eq!(end, at("2026-04-23T22:00:00Z"));
}

#[test]
fn the_latest_notice_leaves_as_many_business_days_as_promised() {
    let calendar = calendar("America/New_York", &["2026-02-16"]);
    // Monday 2026-03-16 09:00 EDT, back over Presidents' Day: one day more than six weeks.
    let start = at("2026-03-16T09:00:00-04:00");
    assert_eq!(
        calendar.latest_start(start, Wait::BusinessDays(30)),
        at("2026-01-30T09:00:00-05:00")
    );
    assert_eq!(
        calendar.latest_start(start, Wait::BusinessDays(10)),
        at("2026-03-02T09:00:00-05:00")
    );
    // A Sunday has no business: what leaves ten days on Friday leaves them on Sunday as well.
    let sunday = at("2026-03-15T09:00:00-04:00");
    assert_eq!(
        calendar.latest_start(sunday, Wait::BusinessDays(10)),
        at("2026-02-27T00:00:00-05:00")
    );
    assert_eq!(calendar.latest_start(start, Wait::hours(4)), at("2026-03-16T05:00:00-04:00"));
}

fn frozen(zone: &str) -> Calendar {
    let freeze = |from: &str, until: &str, except: &[Priority]| Freeze {
        from: from.parse().unwrap(),
        until: until.parse().unwrap(),
        reason: "end of year".to_owned(),
        except: except.iter().copied().collect(),
    };
    Calendar {
        freezes: vec![
            freeze("2026-12-20T00:00:00", "2027-01-03T00:00:00", &[Priority::Critical]),
            freeze("2026-12-31T00:00:00", "2027-01-04T06:00:00", &[Priority::Critical]),
        ],
        ..calendar(zone, &[])
    }
}

#[test]
fn a_freeze_pauses_the_contract_and_thaws_on_the_walls_of_its_zone() {
    let calendar = frozen("Europe/Berlin");
    // Frozen from the 19th 23:00 UTC to the 4th 05:00 UTC: 15 days and 6 hours.
    let thaw = at("2027-01-04T05:00:00Z");
    assert_eq!(calendar.thawed(at("2026-12-25T00:00:00Z"), Priority::High), thaw);
    assert_eq!(
        calendar.thawed(at("2026-12-19T22:59:59Z"), Priority::High),
        at("2026-12-19T22:59:59Z")
    );
    assert_eq!(calendar.thawed(at("2026-12-19T23:00:00Z"), Priority::High), thaw);
    assert_eq!(calendar.thawed(thaw, Priority::High), thaw);
    let christmas = at("2026-12-25T00:00:00Z");
    assert_eq!(calendar.thawed(christmas, Priority::Critical), christmas);

    let end = |start: &str, priority| calendar.end_with_pauses(at(start), Wait::days(14), priority);
    assert_eq!(end("2026-12-10T00:00:00Z", Priority::High), at("2027-01-08T06:00:00Z"));
    assert_eq!(end("2026-12-10T00:00:00Z", Priority::Critical), at("2026-12-24T00:00:00Z"));
    assert_eq!(end("2026-12-25T00:00:00Z", Priority::High), at("2027-01-18T05:00:00Z"));
    assert_eq!(end("2026-11-20T00:00:00Z", Priority::High), at("2026-12-04T00:00:00Z"));
}

#[test]
fn the_longest_case_of_business_days_is_found_over_holidays() {
    // From Saturday 00:00: Saturday, Sunday, and Monday.
    assert_eq!(calendar("UTC", &[]).longest(Wait::BusinessDays(1)).as_hours(), 72);
    // Good Friday and Easter Monday 2027: from Friday the 26th of March 00:00 to the end of
    // Tuesday the 30th, five days, one of them an hour short.
    let easter = calendar("Europe/Berlin", &["2027-03-26", "2027-03-29"]);
    assert_eq!(easter.longest(Wait::BusinessDays(1)).as_hours(), 5 * 24 - 1);
    assert_eq!(easter.longest(Wait::days(3)).as_hours(), 72);
}

#[test]
fn only_zones_of_the_database_are_zones() {
    for name in ["Europe/Atlantis", "", "../etc/passwd", "Berlin"] {
        assert_eq!(Zone::named(name), None, "{name}");
    }
}
