//! Every row of every regulation, as dates.

use super::*;
use crate::priority::{
    Automatable, LikelyExploitable, PotentialImpact, SystemImpact, TechnicalImpact,
};

#[expect(clippy::unnecessary_wraps, reason = "every fact may be missing")]
fn by<T>(value: T) -> Option<Sourced<T>> {
    Some(Sourced::new(value, "test"))
}

fn records() -> Instants {
    instants(&[
        (Moment::VendorPublished, "2028-02-20T00:00:00Z"),
        (Moment::Collected, "2028-02-25T06:00:00Z"),
        (Moment::Evaluated, "2028-02-26T12:00:00Z"),
        (Moment::KevAdded, "2028-02-28T18:00:00Z"),
    ])
}

fn verified_by(name: &str, facts: &Facts, instants: &Instants) -> Option<DueDate> {
    let dates = Regulation::builtin(name).unwrap().due(facts, instants);
    dates.into_iter().find(|date| date.goal == Goal::Verified)
}

#[test]
fn vdr_sets_its_36_dates_from_the_evaluation() {
    // Evaluated on 2028-02-26 at 12:00, in a leap year; February has 29 days. Per row: reachable
    // and likely, likely only, not likely; for low, moderate, high.
    let rows = [
        (
            PotentialImpact::N5,
            [
                ["2028-03-01T12:00:00Z", "2028-03-05T12:00:00Z", "2028-03-29T12:00:00Z"],
                ["2028-02-28T12:00:00Z", "2028-03-01T12:00:00Z", "2028-03-13T12:00:00Z"],
                ["2028-02-27T00:00:00Z", "2028-02-27T12:00:00Z", "2028-03-05T12:00:00Z"],
            ],
        ),
        (
            PotentialImpact::N4,
            [
                ["2028-03-05T12:00:00Z", "2028-03-29T12:00:00Z", "2028-04-30T12:00:00Z"],
                ["2028-03-01T12:00:00Z", "2028-03-05T12:00:00Z", "2028-04-30T12:00:00Z"],
                ["2028-02-28T12:00:00Z", "2028-03-05T12:00:00Z", "2028-03-29T12:00:00Z"],
            ],
        ),
        (
            PotentialImpact::N3,
            [
                ["2028-03-29T12:00:00Z", "2028-04-30T12:00:00Z", "2028-09-05T12:00:00Z"],
                ["2028-03-13T12:00:00Z", "2028-03-29T12:00:00Z", "2028-07-03T12:00:00Z"],
                ["2028-03-05T12:00:00Z", "2028-03-13T12:00:00Z", "2028-04-30T12:00:00Z"],
            ],
        ),
        (
            PotentialImpact::N2,
            [
                ["2028-06-01T12:00:00Z", "2028-08-04T12:00:00Z", "2028-09-05T12:00:00Z"],
                ["2028-04-14T12:00:00Z", "2028-07-03T12:00:00Z", "2028-09-05T12:00:00Z"],
                ["2028-03-21T12:00:00Z", "2028-06-01T12:00:00Z", "2028-09-05T12:00:00Z"],
            ],
        ),
    ];
    let columns = [
        (LikelyExploitable::Yes, Exposure::Open),
        (LikelyExploitable::Yes, Exposure::Controlled),
        (LikelyExploitable::No, Exposure::Open),
    ];
    for (impact, levels) in rows {
        for (level, dates) in ["low", "moderate", "high"].into_iter().zip(levels) {
            for ((likely, exposure), date) in columns.into_iter().zip(dates) {
                let mut facts = facts(Priority::Medium);
                facts.patch.potential_impact = by(impact);
                facts.patch.likely_exploitable = by(likely);
                facts.asset.exposure = by(exposure);
                // The regulation is chosen for a level; what else is said of the item gives way.
                facts.asset.system_impact = by(SystemImpact::Low);

                let found = verified_by(&format!("fedramp-vdr-{level}"), &facts, &records());

                let found = found.expect("every row has a date");
                assert_eq!(found.due, at(date), "{impact} {likely} {exposure} {level}");
                assert_eq!(
                    (found.start, found.started),
                    (Moment::Evaluated, at("2028-02-26T12:00:00Z"))
                );
            }
        }
    }
}

#[test]
fn vdr_wants_the_evaluation_first_and_sets_no_other_date_before() {
    let collected = instants(&[(Moment::Collected, "2028-02-25T06:00:00Z")]);
    let dates = [
        ("fedramp-vdr-low", "2028-03-03T06:00:00Z"),
        ("fedramp-vdr-moderate", "2028-03-01T06:00:00Z"),
        ("fedramp-vdr-high", "2028-02-27T06:00:00Z"),
    ];
    for (name, due) in dates {
        let mut facts = facts(Priority::High);
        facts.patch.potential_impact = by(PotentialImpact::N5);
        facts.patch.likely_exploitable = by(LikelyExploitable::Yes);
        assert!(verified_by(name, &facts, &records()).is_some());

        let found = Regulation::builtin(name).unwrap().due(&facts, &collected);
        let found: Vec<_> = found.iter().map(|date| (date.goal, date.due)).collect();
        assert_eq!(found, [(Goal::Evaluated, at(due))], "{name}");
    }
}

#[test]
fn bod_26_04_sets_the_dates_of_its_16_rows() {
    // Collected 2028-02-25 06:00, listed 2028-02-28 18:00: what is listed counts from there.
    let (three, three_listed) = (Some("2028-02-28T06:00:00Z"), Some("2028-03-02T18:00:00Z"));
    let (fourteen, fourteen_listed) = (Some("2028-03-10T06:00:00Z"), Some("2028-03-13T18:00:00Z"));
    let sixty = Some("2028-04-25T06:00:00Z");
    // Listed, exposed, automatable; then partial, total. `None` is the next upgrade.
    let rows = [
        ((false, false, false), None, None),
        ((false, false, true), sixty, sixty),
        ((false, true, false), sixty, fourteen),
        ((false, true, true), fourteen, three),
        ((true, false, false), fourteen_listed, fourteen_listed),
        ((true, false, true), fourteen_listed, three_listed),
        ((true, true, false), fourteen_listed, three_listed),
        ((true, true, true), three_listed, three_listed),
    ];
    for ((listed, exposed, automatable), partial, total) in rows {
        for (impact, due) in [(TechnicalImpact::Partial, partial), (TechnicalImpact::Total, total)]
        {
            let mut facts = facts(Priority::Medium);
            let listing = if listed { KevListing::Listed } else { KevListing::NotListed };
            facts.patch.known_exploited = by(listing);
            facts.asset.exposure = by(if exposed { Exposure::Open } else { Exposure::Controlled });
            facts.patch.automatable =
                by(if automatable { Automatable::Yes } else { Automatable::No });
            facts.patch.technical_impact = by(impact);

            let found = verified_by("bod-26-04", &facts, &records());

            assert_eq!(
                found.map(|date| date.due),
                due.map(at),
                "listed {listed} exposed {exposed} automatable {automatable} {impact}"
            );
        }
    }
}

#[test]
fn bod_19_02_and_pci_count_days_by_priority_from_their_own_starts() {
    let table = [
        // 15 and 30 days from the collection on 2028-02-25 at 06:00.
        ("bod-19-02", facts(Priority::Critical), Some("2028-03-11T06:00:00Z")),
        ("bod-19-02", facts(Priority::High), Some("2028-03-26T06:00:00Z")),
        ("bod-19-02", facts(Priority::Medium), None),
        ("bod-19-02", facts(Priority::Low), None),
        // 14 from the listing on 2028-02-28 at 18:00, whatever the priority.
        ("bod-19-02", exploited(Priority::Critical), Some("2028-03-13T18:00:00Z")),
        ("bod-19-02", exploited(Priority::Low), Some("2028-03-13T18:00:00Z")),
        // 30 from the publication on 2028-02-20.
        ("pci-dss-4.0.1", facts(Priority::Critical), Some("2028-03-21T00:00:00Z")),
        ("pci-dss-4.0.1", facts(Priority::High), None),
        ("pci-dss-4.0.1", facts(Priority::Medium), None),
        ("pci-dss-4.0.1", facts(Priority::Low), None),
    ];
    for (name, facts, due) in table {
        let found = verified_by(name, &facts, &records());
        assert_eq!(found.map(|date| date.due), due.map(at), "{name} {}", facts.priority);
    }
}

#[test]
fn a_start_that_nobody_knows_is_taken_at_the_collection_and_says_so() {
    let collected = instants(&[(Moment::Collected, "2028-02-25T06:00:00Z")]);
    let found = verified_by("pci-dss-4.0.1", &facts(Priority::Critical), &collected).unwrap();
    assert_eq!((found.start, found.due), (Moment::Collected, at("2028-03-26T06:00:00Z")));
}

#[test]
fn of_several_packs_the_earliest_date_wins_and_all_are_kept() {
    let policy = negotiated(
        r#"regulations = ["bod-26-04", "pci-dss-4.0.1", "fedramp-vdr-high", "bod-19-02"]"#,
    );
    let mut facts = exploited(Priority::Critical);
    facts.patch.automatable = by(Automatable::Yes);
    facts.patch.technical_impact = by(TechnicalImpact::Total);
    facts.patch.potential_impact = by(PotentialImpact::N4);

    let dues = DueDates::new(policy.due_dates(&facts, &records()));

    let found: Vec<(&str, Timestamp)> =
        dues.all().iter().map(|date| (date.pack.name.as_str(), date.due)).collect();
    assert_eq!(
        found,
        [
            ("fedramp-vdr-high", at("2028-02-27T06:00:00Z")), // evaluate within 2 days
            ("x1642-default", at("2028-02-28T06:00:00Z")),
            ("fedramp-vdr-high", at("2028-02-28T12:00:00Z")),
            ("bod-26-04", at("2028-03-02T18:00:00Z")),
            ("bod-19-02", at("2028-03-13T18:00:00Z")),
            ("pci-dss-4.0.1", at("2028-03-21T00:00:00Z")),
        ]
    );
    assert_eq!(dues.binding().unwrap().pack.name, "x1642-default");
}

#[test]
fn an_agreed_freeze_moves_the_contract_and_no_regulation() {
    let policy = negotiated(
        r#"
        regulations = ["bod-19-02"]
        [[calendar.freezes]]
        from = "2028-03-01T00:00:00"
        until = "2028-03-11T00:00:00"
        reason = "election"
        "#,
    );
    let dues = DueDates::new(policy.due_dates(&facts(Priority::High), &records()));

    // 14 days from 2028-02-25 06:00 is 03-10 06:00, and ten days of freeze later 03-20 06:00.
    let found: Vec<Timestamp> = dues.all().iter().map(|date| date.due).collect();
    assert_eq!(found, [at("2028-03-20T06:00:00Z"), at("2028-03-26T06:00:00Z")]);
}

#[test]
fn what_the_default_does_not_meet_is_known() {
    let unmet = |name: &str| {
        let unmet = Regulation::builtin(name).unwrap().unmet(default_policy());
        let words = unmet.iter().map(|it| format!("{}: {}", it.priority, it.clause));
        words.collect::<Vec<_>>()
    };

    // It promises 3, 14, 30 and 90 days, and an evaluation within 4 hours, 1, 3 and 7 days.
    assert_eq!(unmet("fedramp-vdr-low"), ["high: 8 days"]);
    assert_eq!(
        unmet("fedramp-vdr-moderate"),
        ["critical: 2 days", "low: evaluate within 5d", "high: 8 days"]
    );
    assert_eq!(
        unmet("fedramp-vdr-high"),
        [
            "critical: 0.5 days",
            "critical: 1 day",
            "critical: 2 days",
            "medium: evaluate within 2d",
            "low: evaluate within 2d",
            "high: 8 days",
            "medium: 24 days"
        ]
    );
    assert_eq!(unmet("bod-26-04"), [""; 0]);
    // Only where a priority policy ranks what is exploited below high.
    assert_eq!(unmet("bod-19-02"), ["medium: 14d", "low: 14d"]);
    assert_eq!(unmet("pci-dss-4.0.1"), [""; 0]);
}

#[test]
fn an_unknown_regulation_names_those_there_are() {
    let error = Regulation::builtin("sox").unwrap_err();
    assert_eq!(error.to_string(), "there is no regulation `sox`");
    assert_eq!(
        error.help().as_deref(),
        Some(
            "choose one of: fedramp-vdr-low, fedramp-vdr-moderate, fedramp-vdr-high, bod-26-04, \
             bod-19-02, pci-dss-4.0.1"
        )
    );
}

#[test]
fn the_contract_sets_these_dates_in_every_calendar() {
    // Zone, freeze, collected; then critical, high, medium, low. A day is 24 hours in all of them;
    // a freeze of five days moves what it does not except.
    let freeze = "[[calendar.freezes]]\nfrom = \"2028-03-01T00:00:00\"\nuntil = \
                  \"2028-03-06T00:00:00\"\nreason = \"x\"\nexcept = [\"critical\"]";
    let table = [
        // Over the leap day.
        (
            "UTC",
            "",
            "2028-02-28T12:00:00Z",
            [
                "2028-03-02T12:00:00Z",
                "2028-03-13T12:00:00Z",
                "2028-03-29T12:00:00Z",
                "2028-05-28T12:00:00Z",
            ],
        ),
        // On the leap day, in a zone of a quarter of an hour.
        (
            "Asia/Kathmandu",
            "",
            "2028-02-29T00:00:00+05:45",
            [
                "2028-03-03T00:00:00+05:45",
                "2028-03-14T00:00:00+05:45",
                "2028-03-30T00:00:00+05:45",
                "2028-05-29T00:00:00+05:45",
            ],
        ),
        // Over the missing hour: an hour later on the wall.
        (
            "Europe/Berlin",
            "",
            "2028-03-25T12:00:00+01:00",
            [
                "2028-03-28T13:00:00+02:00",
                "2028-04-08T13:00:00+02:00",
                "2028-04-24T13:00:00+02:00",
                "2028-06-23T13:00:00+02:00",
            ],
        ),
        // Over the repeated hour: an hour earlier.
        (
            "America/New_York",
            "",
            "2028-11-04T12:00:00-04:00",
            [
                "2028-11-07T11:00:00-05:00",
                "2028-11-18T11:00:00-05:00",
                "2028-12-04T11:00:00-05:00",
                "2029-02-02T11:00:00-05:00",
            ],
        ),
        // Over a freeze.
        (
            "UTC",
            freeze,
            "2028-02-28T12:00:00Z",
            [
                "2028-03-02T12:00:00Z",
                "2028-03-18T12:00:00Z",
                "2028-04-03T12:00:00Z",
                "2028-06-02T12:00:00Z",
            ],
        ),
        // Collected in it: the 23 hours that are left count, until midnight in Berlin.
        (
            "Europe/Berlin",
            freeze,
            "2028-03-05T00:00:00Z",
            [
                "2028-03-08T00:00:00Z",
                "2028-03-19T23:00:00Z",
                "2028-04-04T23:00:00Z",
                "2028-06-03T23:00:00Z",
            ],
        ),
    ];
    let priorities = [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];
    for (zone, freeze, collected, dates) in table {
        let policy = negotiated(&format!("calendar.zone = \"{zone}\"\n{freeze}"));
        for (priority, date) in priorities.into_iter().zip(dates) {
            let instants = instants(&[(Moment::Collected, collected)]);
            let found = policy.due(&facts(priority), &instants).unwrap();
            assert_eq!(found.due, at(date), "{zone} {collected} {priority}");
            assert_eq!((found.start, found.started), (Moment::Collected, at(collected)));
        }
    }
}
