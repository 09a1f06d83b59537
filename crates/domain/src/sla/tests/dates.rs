//! The dates that a change gets, deferrals, and an emergency's.

use jiff::SignedDuration;

use super::*;

const TOLD: [(Moment, &str); 5] = [
    (Moment::VendorPublished, "2026-05-31T00:00:00Z"),
    (Moment::Collected, "2026-06-01T00:00:00Z"),
    (Moment::Evaluated, "2026-06-01T02:00:00Z"),
    (Moment::Tested, "2026-06-01T10:00:00Z"),
    (Moment::Notified, "2026-06-01T12:00:00Z"),
];

#[test]
fn the_default_gives_a_change_these_dates() {
    let waits = Approval::Required { silence: Silence::Waits };
    let approves = Approval::Required { silence: Silence::Approves };
    // Told on 2026-06-01 at 12:00, collected that day at 00:00.
    let table = [
        (
            facts(Priority::Critical),
            Approval::Notice,
            "2026-06-02T12:00:00Z",
            None,
            "2026-06-04T00:00:00Z",
            0,
            0,
        ),
        (
            facts(Priority::High),
            approves,
            "2026-06-04T12:00:00Z",
            Some("2026-06-06T12:00:00Z"),
            "2026-06-15T00:00:00Z",
            1,
            3,
        ),
        (
            facts(Priority::Medium),
            approves,
            "2026-06-08T12:00:00Z",
            Some("2026-06-08T12:00:00Z"),
            "2026-07-01T00:00:00Z",
            1,
            5,
        ),
        (
            facts(Priority::Low),
            waits,
            "2026-06-15T12:00:00Z",
            Some("2026-06-25T12:00:00Z"),
            "2026-08-30T00:00:00Z",
            2,
            14,
        ),
        // Exploited and exposed: four hours, and one day.
        (
            exploited(Priority::Critical),
            Approval::Notice,
            "2026-06-01T16:00:00Z",
            None,
            "2026-06-04T00:00:00Z",
            0,
            0,
        ),
        (
            exploited(Priority::High),
            approves,
            "2026-06-02T12:00:00Z",
            Some("2026-06-06T12:00:00Z"),
            "2026-06-15T00:00:00Z",
            1,
            3,
        ),
    ];
    for (facts, approval, earliest, answer_by, due, deferrals_left, days) in table {
        let priority = facts.priority;
        // A day from the collection, as nobody says when it was listed.
        let evidence_by = (facts.path() == Path::Emergency).then(|| at("2026-06-02T00:00:00Z"));
        let world = World::new(default_policy(), facts, instants(&TOLD));
        let dates = world.case().dates(at("2026-06-01T12:00:00Z")).unwrap();
        assert_eq!(
            dates,
            Dates {
                approval,
                earliest_start: Some(at(earliest)),
                answer_by: answer_by.map(at),
                evidence_by,
                due: at(due),
                deferrals_left,
                longest_deferral: SignedDuration::from_hours(24 * days),
            },
            "{priority}"
        );
    }
}

#[test]
fn nothing_starts_before_a_notice() {
    let world = World::new(default_policy(), facts(Priority::High), instants(&TOLD[..4]));
    let dates = world.case().dates(at("2026-06-01T12:00:00Z")).unwrap();
    assert_eq!((dates.earliest_start, dates.answer_by), (None, None));
}

#[test]
fn nothing_starts_in_a_freeze_or_before_it_is_old_enough() {
    let policy = negotiated(
        "calendar.zone = \"Asia/Kathmandu\"\nhigh.soak = \"5d\"\n[[calendar.freezes]]\nfrom = \
         \"2026-06-05T00:00:00\"\nuntil = \"2026-06-07T00:00:00\"\nreason = \"x\"\nexcept = \
         [\"critical\"]",
    );
    let world = World::new(&policy, facts(Priority::High), instants(&TOLD));
    let earliest = world.case().dates(at("2026-06-01T12:00:00Z")).unwrap().earliest_start;
    // Published on May 31st + 5 days is June 5th 00:00 UTC, in the freeze, which is over on the
    // 7th at midnight in Kathmandu, 5:45 before universal time.
    assert_eq!(earliest, Some(at("2026-06-06T18:15:00Z")));
}

#[test]
fn business_days_of_a_notice_are_those_of_the_tenant() {
    let policy = negotiated(
        "calendar.zone = \"Europe/Berlin\"\ncalendar.holidays = [\"2026-06-04\"]\nlow.notice = { \
         preset = \"fedramp-scn-transformative\" }\nlow.deferrals = { count = 0, longest = \"0h\" \
         }",
    );
    let world = World::new(&policy, facts(Priority::Low), instants(&TOLD));
    let dates = world.case().dates(at("2026-06-01T12:00:00Z")).unwrap();
    // Monday the 1st of June, over Corpus Christi: six weeks and a day, to Tuesday July 14th.
    assert_eq!(dates.earliest_start, Some(at("2026-07-14T12:00:00Z")));

    let notices = world.case().notices(at("2026-07-14T12:00:00Z"), at("2026-07-17T12:00:00Z"));
    assert_eq!(notices.first_by, at("2026-06-01T12:00:00Z"));
    assert_eq!(notices.reminder_by, Some(at("2026-06-30T12:00:00Z")));
    assert_eq!(notices.done_by, at("2026-07-24T12:00:00Z"));
}

#[test]
fn a_deferral_is_granted_within_number_length_and_every_regulation() {
    let policy = negotiated("regulations = [\"bod-26-04\"]");
    let mut world = World::new(&policy, facts(Priority::High), instants(&TOLD));
    let now = at("2026-06-02T00:00:00Z");
    let (three_days, longer) = (at("2026-06-05T00:00:00Z"), at("2026-06-05T00:00:01Z"));

    assert_eq!(
        world.case().defer(three_days, now),
        Ok(Deferral { at: now, until: three_days, again: false })
    );
    assert_eq!(
        world.case().defer(longer, now),
        Err(NotDeferred::TooLong { until: longer, latest: three_days })
    );
    assert_eq!(world.case().defer(now, now), Err(NotDeferred::Past { until: now }));

    // The vulnerability is listed: due 14 days after, on the 5th; a day to install, one to verify.
    world.facts.patch.known_exploited = Some(Sourced::new(KevListing::Listed, "test"));
    world.instants.record(Moment::KevAdded, at("2026-05-22T00:00:00Z")).unwrap();
    world.dues = world.dues.reassess(world.policy.due_dates(&world.facts, &world.instants));
    let until = at("2026-06-03T00:00:01Z");
    assert_eq!(
        world.case().defer(until, now),
        Err(NotDeferred::BreaksDue {
            until,
            pack: "bod-26-04".to_owned(),
            due: at("2026-06-05T00:00:00Z"),
            latest: at("2026-06-03T00:00:00Z"),
        })
    );
    assert!(world.case().defer(at("2026-06-03T00:00:00Z"), now).is_ok());
    let dates = world.case().dates(now).unwrap();
    assert_eq!(dates.longest_deferral.as_hours(), 24);
    assert_eq!(dates.due, at("2026-06-05T00:00:00Z"));

    world.deferrals.push(Deferral { at: now, until: three_days, again: false });
    assert_eq!(
        world.case().defer(three_days, now),
        Err(NotDeferred::NoneLeft { allowed: 1, used: 1 })
    );
    assert_eq!(world.case().dates(now).unwrap().deferrals_left, 0);
    world.instants.record(Moment::Installed, at("2026-06-05T00:00:00Z")).unwrap();
    assert_eq!(world.case().defer(three_days, now), Err(NotDeferred::NothingWaits));
}

#[test]
fn an_emergency_saves_evidence_first_and_judges_again_afterwards() {
    let mut world = World::new(default_policy(), exploited(Priority::Critical), instants(&TOLD));
    world.instants.record(Moment::KevAdded, at("2026-06-02T00:00:00Z")).unwrap();
    let dates = world.case().emergency().unwrap();
    assert_eq!(dates.evidence_by, at("2026-06-03T00:00:00Z"));
    assert_eq!(dates.re_evaluate_by, None);
    world.instants.record(Moment::Verified, at("2026-06-02T12:00:00Z")).unwrap();
    assert_eq!(world.case().emergency().unwrap().re_evaluate_by, Some(at("2026-06-05T12:00:00Z")));

    let mut ordinary = exploited(Priority::Critical);
    ordinary.asset.exposure = Some(Sourced::new(Exposure::Controlled, "test"));
    assert_eq!(ordinary.path(), Path::Ordinary);
    ordinary.asset.exposure = None;
    assert_eq!(ordinary.path(), Path::Emergency, "an exposure that nobody knows counts as open");
    let world = World::new(default_policy(), facts(Priority::Critical), Instants::new());
    assert_eq!(world.case().emergency(), None);
}

#[test]
fn what_items_say_of_their_exposure_gives_way_to_a_person_but_for_the_worst() {
    let says = |exposure, by: &str| Some(Sourced::new(exposure, by));
    let after = |known: Option<Sourced<Exposure>>, said| {
        let mut facts = exploited(Priority::Critical);
        facts.asset.exposure = known;
        facts.expose(said);
        facts.asset.exposure.map(|it| it.value)
    };
    let person = || says(Exposure::Controlled, Facts::ASSESSED);

    assert_eq!(after(None, says(Exposure::Small, "items")), Some(Exposure::Small));
    assert_eq!(after(says(Exposure::Small, "items"), None), None, "one of them is silent");
    assert_eq!(after(person(), None), Some(Exposure::Controlled));
    assert_eq!(after(person(), says(Exposure::Small, "items")), Some(Exposure::Controlled));
    assert_eq!(after(person(), says(Exposure::Open, "items")), Some(Exposure::Open));
}

#[test]
fn no_date_moves_later() {
    let policy = negotiated("regulations = [\"bod-26-04\"]");
    let mut facts = facts(Priority::High);
    let records = instants(&TOLD);
    let first = DueDates::new(policy.due_dates(&facts, &records));
    facts.priority = Priority::Critical;
    let sooner = first.reassess(policy.due_dates(&facts, &records));
    assert_eq!(sooner.binding().unwrap().due, at("2026-06-04T00:00:00Z"));
    facts.priority = Priority::Low;
    let again = sooner.reassess(policy.due_dates(&facts, &records));
    assert_eq!(again, sooner, "another evaluation moves nothing later");
}

#[test]
fn what_the_provider_lost_does_not_cost_the_tenant_its_deferral() {
    let mut records = TOLD;
    // Twelve of fourteen days are gone before the tenant is told.
    records[3].1 = "2026-06-12T12:00:00Z";
    records[4].1 = "2026-06-12T12:00:00Z";
    let world = World::new(default_policy(), facts(Priority::High), instants(&records));
    let now = at("2026-06-13T00:00:00Z");

    let dates = world.case().dates(now).unwrap();

    assert_eq!(dates.due, at("2026-06-15T00:00:00Z"));
    assert_eq!(dates.longest_deferral.as_hours(), 72);
    assert!(world.case().defer(at("2026-06-16T00:00:00Z"), now).is_ok());
}

#[test]
fn the_notice_that_it_is_done_has_a_date_of_its_own() {
    // Installed at noon of these days; Thursday June 4th is a holiday, the zone is Berlin's.
    let table = [
        ("fedramp-scn-transformative", "2026-06-01T12:00:00Z", "2026-06-09T12:00:00Z"),
        ("fedramp-scn-transformative", "2026-06-05T12:00:00Z", "2026-06-12T12:00:00Z"),
        // On a Saturday it counts from the beginning of Monday.
        ("fedramp-scn-transformative", "2026-06-06T12:00:00Z", "2026-06-14T22:00:00Z"),
        // Over the end of summer time the hour on the wall stays.
        ("fedramp-scn-transformative", "2026-10-22T12:00:00Z", "2026-10-29T13:00:00Z"),
        ("fedramp-scn-adaptive", "2026-06-01T12:00:00Z", "2026-06-16T12:00:00Z"),
    ];
    for (preset, installed, by) in table {
        let policy = negotiated(&format!(
            "calendar.zone = \"Europe/Berlin\"\ncalendar.holidays = [\"2026-06-04\"]\nlow.notice = {{ \
             preset = \"{preset}\" }}\nlow.deferrals = {{ count = 0, longest = \"0h\" }}"
        ));
        let mut world = World::new(&policy, facts(Priority::Low), instants(&TOLD));
        assert_eq!(world.case().owed(), [], "nothing is done yet");
        world.instants.record(Moment::Installed, at(installed)).unwrap();
        world.instants.record(Moment::Verified, at(installed)).unwrap();
        let owed = Owed { errand: Errand::DoneNotice, by: at(by), ended: None };
        assert_eq!(world.case().owed(), [owed], "{preset} {installed}");

        let rung = Rung::Errand { errand: Errand::DoneNotice, round: 0 };
        let reached = |world: &World, now: &str| world.view(now).reached.contains(&rung);
        assert_eq!(world.view(installed).next_wake, Some(at(by)), "verified, and still to be told");
        assert!(reached(&world, by));
        world.instants.record(Moment::DoneTold, at(by) - SignedDuration::from_secs(1)).unwrap();
        assert!(!reached(&world, by), "told in the last second");
        assert_eq!(world.view(installed).next_wake, None);
    }
}

#[test]
fn what_an_emergency_asks_for_is_owed_until_it_is_done() {
    let mut world = World::new(default_policy(), exploited(Priority::Critical), instants(&TOLD));
    let evidence = |ended| Owed { errand: Errand::Evidence, by: at("2026-06-02T00:00:00Z"), ended };
    assert_eq!(world.case().owed(), [evidence(None)]);
    let late = world.view("2026-06-02T00:00:00Z");
    assert!(late.reached.contains(&Rung::Errand { errand: Errand::Evidence, round: 0 }));

    // What is saved stays saved when the tenant is asked anew, and not when the patch is lost.
    let saved = at("2026-06-01T13:00:00Z");
    world.instants.record(Moment::EvidenceSaved, saved).unwrap();
    world.instants.record(Moment::AskedAgain, at("2026-06-01T14:00:00Z")).unwrap();
    assert_eq!(world.case().owed(), [evidence(Some(saved))]);
    let verified = at("2026-06-02T12:00:00Z");
    world.instants.record(Moment::Verified, verified).unwrap();
    let again = Owed { errand: Errand::ReEvaluation, by: at("2026-06-05T12:00:00Z"), ended: None };
    assert_eq!(world.case().owed(), [evidence(Some(saved)), again]);
    assert_eq!(world.view("2026-06-03T00:00:00Z").next_wake, Some(again.by));
    world.instants.record(Moment::ReEvaluated, at("2026-06-03T00:00:00Z")).unwrap();
    assert_eq!(world.view("2026-06-09T00:00:00Z").next_wake, None);
    world.instants.record(Moment::Regressed, at("2026-07-01T00:00:00Z")).unwrap();
    let anew = Owed { by: at("2026-07-02T00:00:00Z"), ..evidence(None) };
    assert_eq!(world.case().owed(), [anew]);
}

#[test]
fn evidence_is_asked_for_from_when_both_patch_and_listing_are_known() {
    let mut world = World::new(default_policy(), exploited(Priority::High), instants(&TOLD));
    world.instants.record(Moment::KevAdded, at("2025-01-01T00:00:00Z")).unwrap();
    let evidence_by = world.case().emergency().unwrap().evidence_by;
    assert_eq!(evidence_by, at("2026-06-02T00:00:00Z"), "a day from the collection");
}
