//! Clocks: who holds the ball, since when, until when, and what is said about it.

use std::collections::BTreeSet;

use super::*;

/// A high patch: collected on a Monday, everything as fast as the policy allows.
const WAY: [(Moment, &str); 6] = [
    (Moment::Collected, "2026-06-01T00:00:00Z"),
    (Moment::Evaluated, "2026-06-01T20:00:00Z"),
    (Moment::Tested, "2026-06-03T20:00:00Z"),
    (Moment::Notified, "2026-06-03T21:00:00Z"),
    (Moment::Installed, "2026-06-09T08:00:00Z"),
    (Moment::Verified, "2026-06-09T20:00:00Z"),
];

fn high(known: usize) -> World {
    World::new(default_policy(), facts(Priority::High), instants(&WAY[..known]))
}

#[test]
fn each_stage_has_its_holder_its_deadline_and_its_next_wake() {
    // Records known, now; stage, holder, since, deadline, next wake.
    let table = [
        (
            1,
            "2026-06-01T10:00:00Z",
            Stage::Evaluate,
            Party::Provider,
            "2026-06-01T00:00:00Z",
            Some("2026-06-02T00:00:00Z"),
            "2026-06-02T00:00:00Z",
        ),
        (
            2,
            "2026-06-02T10:00:00Z",
            Stage::Test,
            Party::Provider,
            "2026-06-01T00:00:00Z",
            Some("2026-06-04T20:00:00Z"),
            "2026-06-04T20:00:00Z",
        ),
        // No wait of its own: the notice shares the deadline of the test.
        (
            3,
            "2026-06-03T20:30:00Z",
            Stage::Notify,
            Party::Provider,
            "2026-06-01T00:00:00Z",
            Some("2026-06-04T20:00:00Z"),
            "2026-06-04T20:00:00Z",
        ),
        // Half of 14 days comes before the five to answer are over.
        (
            4,
            "2026-06-04T00:00:00Z",
            Stage::Answer,
            Party::Tenant,
            "2026-06-03T21:00:00Z",
            Some("2026-06-08T21:00:00Z"),
            "2026-06-08T00:00:00Z",
        ),
        (
            4,
            "2026-06-08T00:00:00Z",
            Stage::Answer,
            Party::Tenant,
            "2026-06-03T21:00:00Z",
            Some("2026-06-08T21:00:00Z"),
            "2026-06-08T21:00:00Z",
        ),
        // Silence approves, and the ball is the provider's.
        (
            4,
            "2026-06-08T21:00:00Z",
            Stage::Install,
            Party::Provider,
            "2026-06-08T21:00:00Z",
            Some("2026-06-09T21:00:00Z"),
            "2026-06-09T21:00:00Z",
        ),
        (
            5,
            "2026-06-09T09:00:00Z",
            Stage::Verify,
            Party::Provider,
            "2026-06-08T21:00:00Z",
            Some("2026-06-10T08:00:00Z"),
            "2026-06-10T08:00:00Z",
        ),
    ];
    for (known, now, stage, holder, since, deadline, wake) in table {
        let view = high(known).view(now);
        assert_eq!((view.stage, view.holder), (Some(stage), Some(holder)), "{now}");
        assert_eq!(view.since, at(since), "{now} {stage:?}");
        assert_eq!(view.stage_deadline, deadline.map(at), "{now} {stage:?}");
        assert_eq!(view.next_wake, Some(at(wake)), "{now} {stage:?}");
    }
    let view = high(6).view("2030-01-01T00:00:00Z");
    assert_eq!((view.stage, view.holder, view.next_wake), (None, None, None));
    assert_eq!(view.state, State::Met);
}

#[test]
fn nothing_collected_has_no_clock() {
    let world = World::new(default_policy(), facts(Priority::High), Instants::new());
    assert_eq!(world.case().clock(at("2026-06-01T00:00:00Z")), None);
    assert_eq!(world.case().dates(at("2026-06-01T00:00:00Z")), None);
}

#[test]
fn silence_that_only_waits_leaves_the_ball_with_the_tenant() {
    let records = [
        (Moment::Collected, "2026-06-01T00:00:00Z"),
        (Moment::Evaluated, "2026-06-02T00:00:00Z"),
        (Moment::Tested, "2026-06-03T00:00:00Z"),
        (Moment::Notified, "2026-06-03T00:00:00Z"),
    ];
    let world = World::new(default_policy(), facts(Priority::Low), instants(&records));

    let view = world.view("2026-08-01T00:00:00Z");

    assert_eq!((view.stage, view.holder), (Some(Stage::Answer), Some(Party::Tenant)));
    // 24 days to answer.
    assert_eq!(view.state, State::Overdue { since: at("2026-06-27T00:00:00Z") });
    // Collected + 90 days.
    let State::Breached(breach) = world.view("2026-08-30T00:00:00Z").state else { panic!() };
    assert_eq!((breach.by, breach.held_by), (Party::Tenant, Party::Tenant));
    assert_eq!(breach.overruns[&Party::Tenant].as_hours(), (30 - 26 + 31 + 29) * 24);
}

#[test]
fn a_breach_is_attributed_to_whoever_took_more_than_was_given() {
    // The provider tests for ten days instead of three; the tenant holds the ball at the end, and
    // is within its five days.
    let records = [
        (Moment::Collected, "2026-06-01T00:00:00Z"),
        (Moment::Evaluated, "2026-06-01T12:00:00Z"),
        (Moment::Tested, "2026-06-11T12:00:00Z"),
        (Moment::Notified, "2026-06-11T12:00:00Z"),
    ];
    let world = World::new(default_policy(), facts(Priority::High), instants(&records));

    assert!(matches!(world.view("2026-06-14T23:59:59Z").state, State::Warn { share: 75 }));
    let State::Breached(breach) = world.view("2026-06-15T00:00:00Z").state else { panic!() };

    assert_eq!((breach.by, breach.held_by), (Party::Provider, Party::Tenant));
    assert_eq!(breach.overruns[&Party::Provider].as_hours(), 7 * 24);
    assert_eq!(breach.overruns.get(&Party::Tenant), None);
    assert_eq!(breach.date.due, at("2026-06-15T00:00:00Z"));
    let booked: i64 = breach.ledger.iter().map(|span| span.length().as_hours()).sum();
    assert_eq!(booked, 14 * 24);
}

#[test]
fn what_was_verified_too_late_stays_a_breach_and_at_the_last_moment_is_none() {
    let state = |verified: &str| {
        let mut records = WAY;
        records[5].1 = verified;
        World::new(default_policy(), facts(Priority::High), instants(&records))
            .view("2027-01-01T00:00:00Z")
            .state
    };
    assert_eq!(state("2026-06-14T23:59:59Z"), State::Met);
    // A deadline is the first instant that is too late.
    let State::Breached(breach) = state("2026-06-15T00:00:00Z") else { panic!() };
    assert_eq!(breach.by, Party::Provider);
}

#[test]
fn time_is_booked_to_whoever_or_whatever_stood_in_the_way() {
    let policy = negotiated(
        "[[calendar.freezes]]\nfrom = \"2026-06-09T00:00:00\"\nuntil = \"2026-06-10T00:00:00\"\n\
         reason = \"x\"",
    );
    let records = instants(&WAY[..4]);
    let mut world = World::new(&policy, facts(Priority::High), records);
    world.interruptions = vec![
        Interruption {
            cause: Cause::Vendor,
            from: at("2026-06-02T00:00:00Z"),
            until: Some(at("2026-06-02T06:00:00Z")),
        },
        // Both at once: the freeze comes first.
        Interruption {
            cause: Cause::HostUnreachable,
            from: at("2026-06-09T12:00:00Z"),
            until: None,
        },
    ];

    let now = at("2026-06-10T12:00:00Z");
    let hours: Vec<(Party, i64)> = world
        .case()
        .attributed(now)
        .into_iter()
        .map(|(party, time)| (party, time.as_hours()))
        .collect();

    assert_eq!(
        hours,
        [
            // 69 hours to the notice less 6 of the vendor, and 3 from the deemed approval on the
            // 8th at 21:00 to the freeze.
            (Party::Provider, 69 - 6 + 3),
            (Party::Tenant, 5 * 24),
            (Party::Vendor, 6),
            (Party::HostUnreachable, 12),
            (Party::ChangeFreeze, 24),
        ]
    );
    assert_eq!(hours.iter().map(|(_, hours)| hours).sum::<i64>(), 9 * 24 + 12);
}

#[test]
fn a_deferral_moves_the_ball_and_no_due_date() {
    let mut world = high(4);
    let before = world.view("2026-06-09T00:00:00Z");
    assert_eq!(before.holder, Some(Party::Provider));
    world.deferrals = vec![Deferral {
        at: at("2026-06-08T22:00:00Z"),
        until: at("2026-06-11T22:00:00Z"),
        again: false,
    }];

    let view = world.view("2026-06-09T00:00:00Z");

    assert_eq!((view.stage, view.holder), (Some(Stage::Lead), Some(Party::Tenant)));
    assert_eq!(view.since, at("2026-06-08T22:00:00Z"));
    assert_eq!(view.due, before.due);
    let view = world.view("2026-06-11T22:00:00Z");
    assert_eq!((view.stage, view.holder), (Some(Stage::Install), Some(Party::Provider)));
    assert_eq!(view.stage_deadline, Some(at("2026-06-12T22:00:00Z")));
}

#[test]
fn where_the_tenant_installs_it_holds_the_ball_until_it_did() {
    let mut world = high(4);
    world.duty = Duty::Tenant;
    assert_eq!(world.view("2026-06-09T00:00:00Z").holder, Some(Party::Tenant));
    let mut world = high(5);
    world.duty = Duty::Tenant;
    assert_eq!(world.view("2026-06-09T09:00:00Z").holder, Some(Party::Provider), "who scans");
}

#[test]
fn every_step_of_escalation_is_taken_once_whatever_the_clock_does() {
    let world = high(4);
    let mut taken = BTreeSet::new();
    let mut said = Vec::new();
    // Forward, an hour back, ten years on, back again, on.
    for now in [
        "2026-06-08T00:00:00Z",
        "2026-06-07T23:00:00Z",
        "2036-06-08T00:00:00Z",
        "2026-06-09T00:00:00Z",
        "2016-06-09T00:00:00Z",
        "2036-06-09T00:00:00Z",
    ] {
        let new = world.view(now).escalations(&taken);
        said.push(new.len());
        taken.extend(new);
    }
    // Half; then three quarters, the overdue installation and the breach.
    assert_eq!(said, [1, 0, 3, 0, 0, 0]);
    assert!(taken.contains(&Rung::Share { percent: 50, round: 0 }));
    assert!(taken.contains(&Rung::Stage { stage: Stage::Install, round: 0 }));
}

#[test]
fn what_was_missed_while_nobody_looked_is_told_later_once() {
    let mut records = WAY;
    records[5].1 = "2026-06-16T00:00:00Z";
    let world = World::new(default_policy(), facts(Priority::High), instants(&records));
    let due = Rung::Due { pack: "x1642-default".to_owned(), goal: Goal::Verified, round: 0 };

    let new = world.view("2026-07-01T00:00:00Z").escalations(&BTreeSet::new());

    assert!(new.contains(&due), "{new:?}");
    assert!(new.contains(&Rung::Stage { stage: Stage::Verify, round: 0 }));
}

#[test]
fn a_clock_that_is_set_back_does_not_undo_what_is_recorded() {
    let world = high(4);
    let view = world.view("2016-06-01T00:00:00Z");
    assert_eq!(view, world.view("2026-06-03T21:00:00Z"));
    assert_eq!(view.holder, Some(Party::Tenant));
}

#[test]
fn the_change_of_clocks_does_not_touch_days() {
    let policy = negotiated("calendar.zone = \"America/New_York\"");
    let records = instants(&[(Moment::Collected, "2026-03-07T12:00:00-05:00")]);
    let world = World::new(&policy, facts(Priority::Critical), records);
    let view = world.view("2026-03-07T13:00:00-05:00");
    assert_eq!(view.stage_deadline, Some(at("2026-03-07T16:00:00-05:00")));
    assert_eq!(view.due[0].due, at("2026-03-10T13:00:00-04:00"), "72 hours");
}

#[test]
fn an_instant_is_recorded_once_and_never_overwritten() {
    let mut instants = instants(&WAY[..2]);
    let (evaluated, other) = (at("2026-06-01T20:00:00Z"), at("2026-06-01T21:00:00Z"));
    assert_eq!(instants.record(Moment::Evaluated, evaluated), Ok(()));
    assert_eq!(
        instants.record(Moment::Evaluated, other),
        Err(NotRecorded::Recorded { moment: Moment::Evaluated, recorded: evaluated, given: other })
    );
    assert_eq!(instants.records().len(), 2);
    let lost = instants.record(Moment::Regressed, other);
    assert_eq!(lost, Err(NotRecorded::NothingToLose { given: other }));
    let json = serde_json::to_string(&instants).unwrap();
    assert_eq!(serde_json::from_str::<Instants>(&json).unwrap(), instants);
    let twice = r#"[{"moment":"collected","at":"2026-06-01T00:00:00Z"},{"moment":"collected","at":"2026-06-02T00:00:00Z"}]"#;
    assert!(serde_json::from_str::<Instants>(twice).is_err());
}

#[test]
fn a_patch_that_is_lost_has_a_new_clock_and_keeps_its_record() {
    let mut world = high(6);
    let old = world.dues.clone();
    world.instants.record(Moment::Regressed, at("2026-07-01T00:00:00Z")).unwrap();
    world.dues = old.reassess(world.policy.due_dates(&world.facts, &world.instants));

    let view = world.view("2026-07-01T12:00:00Z");

    assert_eq!((view.stage, view.holder), (Some(Stage::Notify), Some(Party::Provider)));
    assert_eq!(view.stage_deadline, Some(at("2026-07-02T00:00:00Z")));
    assert_eq!(view.due.len(), 1);
    assert_eq!(
        (view.due[0].start, view.due[0].due),
        (Moment::Regressed, at("2026-07-15T00:00:00Z"))
    );
    assert_eq!(view.state, State::Ok);
    world.instants.record(Moment::Notified, at("2026-07-01T13:00:00Z")).unwrap();
    assert_eq!(world.view("2026-07-02T00:00:00Z").stage, Some(Stage::Answer));
    assert_eq!(world.instants.records().len(), 8);
}

#[test]
fn what_the_vendor_takes_back_has_no_clock_any_more() {
    let mut world = high(3);
    world.instants.record(Moment::Withdrawn, at("2026-06-05T00:00:00Z")).unwrap();
    let view = world.view("2026-08-01T00:00:00Z");
    assert_eq!((view.state, view.stage, view.next_wake), (State::Withdrawn, None, None));
    let booked: i64 = world
        .case()
        .attribution(at("2026-08-01T00:00:00Z"))
        .iter()
        .map(|span| span.length().as_hours())
        .sum();
    assert_eq!(booked, 4 * 24);
}

#[test]
fn what_somebody_installed_before_any_notice_is_installed() {
    let records =
        [(Moment::Collected, "2026-06-01T00:00:00Z"), (Moment::Installed, "2026-06-01T06:00:00Z")];
    let world = World::new(default_policy(), facts(Priority::High), instants(&records));
    let view = world.view("2026-06-01T07:00:00Z");
    assert_eq!((view.stage, view.holder), (Some(Stage::Verify), Some(Party::Provider)));
    assert_eq!(view.stage_deadline, Some(at("2026-06-02T06:00:00Z")));
}

#[test]
fn a_listing_long_before_the_patch_does_not_spend_all_warnings_at_once() {
    let policy = negotiated("regulations = [\"bod-26-04\"]");
    let records = instants(&[
        (Moment::KevAdded, "2026-05-22T00:00:00Z"),
        (Moment::Collected, "2026-06-01T00:00:00Z"),
    ]);
    let world = World::new(&policy, exploited(Priority::High), records);
    // Due on the 5th, 14 days after the listing: half of the four days left is the 3rd.
    assert_eq!(world.view("2026-06-01T00:00:00Z").state, State::Ok);
    assert_eq!(world.view("2026-06-01T00:00:00Z").due[0].due, at("2026-06-05T00:00:00Z"));
    let half = Rung::Share { percent: 50, round: 0 };
    assert!(!world.view("2026-06-02T23:59:59Z").reached.contains(&half));
    assert!(world.view("2026-06-03T00:00:00Z").reached.contains(&half));
}

#[test]
fn an_emergency_shortens_from_the_listing_on() {
    let policy = negotiated(
        "high.emergency = { evaluate = \"2h\", test = \"6h\", lead = \"4h\", evidence = \"1h\", \
         re_evaluate = \"3d\" }",
    );
    let deadline = |records: &[(Moment, &str)]| {
        let world = World::new(&policy, exploited(Priority::High), instants(records));
        let view = world.view("2026-06-01T20:30:00Z");
        assert!(view.reached.is_empty(), "{:?}", view.reached);
        view.stage_deadline.unwrap()
    };
    let collected = (Moment::Collected, "2026-06-01T00:00:00Z");
    let evaluated = (Moment::Evaluated, "2026-06-01T20:00:00Z");
    let listed = |time| (Moment::KevAdded, time);

    // Listed during the test, after twenty hours for an evaluation that has two in an emergency.
    let during = deadline(&[collected, evaluated, listed("2026-06-01T20:15:00Z")]);
    assert_eq!(during, at("2026-06-02T02:15:00Z"));
    // Listed before the evaluation was over, two hours before its ordinary end.
    let late = deadline(&[collected, listed("2026-06-01T20:00:00Z")]);
    assert_eq!(late, at("2026-06-01T22:00:00Z"));
    // Listed so late that the ordinary wait is over before the shorter one.
    let usual = World::new(
        &policy,
        exploited(Priority::High),
        instants(&[collected, listed("2026-06-01T23:30:00Z")]),
    );
    let view = usual.view("2026-06-01T23:45:00Z");
    assert_eq!(view.stage_deadline, Some(at("2026-06-02T00:00:00Z")));
    // Listed before it was collected: short from the beginning.
    let early = World::new(
        &policy,
        exploited(Priority::High),
        instants(&[collected, listed("2026-05-01T00:00:00Z")]),
    );
    let view = early.view("2026-06-01T01:00:00Z");
    assert_eq!(view.stage_deadline, Some(at("2026-06-01T02:00:00Z")));
}

#[test]
fn a_notice_that_was_in_time_stays_so_after_a_listing() {
    let policy = negotiated("critical.notify = \"10h\"");
    let world = World::new(
        &policy,
        exploited(Priority::Critical),
        instants(&[
            (Moment::Collected, "2026-06-01T00:00:00Z"),
            (Moment::Evaluated, "2026-06-01T01:00:00Z"),
            (Moment::Tested, "2026-06-01T12:30:00Z"),
            (Moment::Notified, "2026-06-01T20:00:00Z"),
            (Moment::KevAdded, "2026-06-01T21:00:00Z"),
        ]),
    );
    // In an emergency the notice goes out with the test; then, nobody knew.
    let view = world.view("2026-06-01T21:30:00Z");
    assert_eq!((view.stage, view.reached), (Some(Stage::Lead), vec![]));
}
