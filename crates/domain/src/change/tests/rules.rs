use super::*;

fn judge(rule: &StandingRule) -> Result<(), NotCovered> {
    standing(rule).covers(&plan(), Kind::Patch, Priority::Medium, &ring())
}

#[test]
fn a_rule_covers_what_it_speaks_of_and_nothing_beside_it() {
    let rule = rule();
    assert_eq!(judge(&rule), Ok(()), "to the instant");
    let (starts, ends) = (at(48), at(60));
    let validity = |from, until| NotCovered::Validity { from, until, starts, ends };
    let disruption = Disruption::Restarts;
    let windows = vec![WeeklyWindow { begins: 0, minutes: 60 }];
    for (altered, because) in [
        (StandingRule { from: at(48) + SECOND, ..rule.clone() }, validity(at(48) + SECOND, at(60))),
        (
            StandingRule { until: at(60) - SECOND, ..rule.clone() },
            validity(at(48), at(60) - SECOND),
        ),
        (
            StandingRule { kinds: BTreeSet::from([Kind::Alteration]), ..rule.clone() },
            NotCovered::Kind { kind: Kind::Patch },
        ),
        (
            StandingRule { priorities: BTreeSet::from([Priority::Low]), ..rule.clone() },
            NotCovered::Priority { priority: Priority::Medium },
        ),
        (
            StandingRule { items: Scope::These { items: BTreeSet::from([id(4)]) }, ..rule.clone() },
            NotCovered::Item { item: id(3) },
        ),
        (
            StandingRule { disruption, ..rule.clone() },
            NotCovered::Disruption { allowed: disruption, needed: Disruption::Reboots },
        ),
        (
            StandingRule { windows: windows.clone(), ..rule.clone() },
            NotCovered::Window { from: starts, until: ends },
        ),
    ] {
        assert_eq!(judge(&altered), Err(because));
    }
    let both = [windows, rule.windows.clone()].concat();
    assert_eq!(judge(&StandingRule { windows: both, ..rule.clone() }), Ok(()), "one is enough");
    assert_eq!(judge(&StandingRule { items: Scope::All, ..rule }), Ok(()));
}

#[test]
fn every_stage_and_every_item_is_looked_at() {
    let two = |second: Stage| {
        let stages = vec![stage(48, 50, &[3]), second];
        let plan = Plan::new(Draft { stages, ..draft() }).unwrap();
        let rule = StandingRule { until: at(200), ..rule() };
        standing(&rule).covers(&plan, Kind::Patch, Priority::Medium, &ring())
    };
    assert_eq!(two(stage(51, 60, &[4])), Ok(()));
    assert_eq!(two(stage(51, 60, &[5])), Err(NotCovered::Item { item: id(5) }));
    let outside = NotCovered::Window { from: at(51), until: at(61) };
    assert_eq!(two(stage(51, 61, &[4])), Err(outside));
}

#[test]
fn a_rule_ends_with_its_withdrawal_and_with_its_key() {
    let covers = |standing: &Standing, plan: &Plan, keys: &KeyRing| {
        standing.covers(plan, Kind::Patch, Priority::Medium, keys)
    };
    let ended = standing(&rule()).withdraw(at(5)).withdraw(at(6));
    assert_eq!(covers(&ended, &plan(), &ring()), Err(NotCovered::Withdrawn { at: at(5) }));
    let lost = revoked(&ring(), 1, at(7));
    let because = NotCovered::KeyRevoked { key: key(1), at: at(7) };
    assert_eq!(covers(&standing(&rule()), &plan(), &lost), Err(because));
    let of_other = Plan::new(Draft { tenant: id(7), ..draft() }).unwrap();
    let because = NotCovered::Tenant { rule: id(2), plan: id(7) };
    assert_eq!(covers(&standing(&rule()), &of_other, &ring()), Err(because));
}

#[test]
fn a_rule_is_heard_like_a_statement() {
    let heard = |rule: &StandingRule, by, keys: &KeyRing| {
        Standing::admit(signed(by, rule), keys, at(0)).map(|it| it.key())
    };
    let ahead = |by| StandingRule { given_at: at(0) + by, ..rule() };
    assert_eq!(heard(&ahead(CLOCK_TOLERANCE), 1, &ring()), Ok(key(1)));
    let (given_at, now) = (at(0) + CLOCK_TOLERANCE + SECOND, at(0));
    let future = NotHeard::Future { given_at, now };
    assert_eq!(heard(&ahead(CLOCK_TOLERANCE + SECOND), 1, &ring()), Err(future));
    let unknown = NotHeard::Key(NotInForce::Unknown { key: key(2) });
    assert_eq!(heard(&rule(), 2, &ring()), Err(unknown));
    let tenant = NotHeard::Tenant { given: id(2), expected: id(7) };
    assert_eq!(heard(&rule(), 1, &ring_of(7)), Err(tenant));
}

#[test]
fn a_weekly_window_holds_what_lies_in_one_of_its_occurrences() {
    let holds = |begins: u16, minutes: u16, from: i64, until: Timestamp| {
        WeeklyWindow { begins, minutes }.holds(&Window { from: at(from), until })
    };
    let friday = (4 * 24 + 8) * 60;
    assert!(holds(friday, 60, 0, at(1)));
    assert!(!holds(friday, 60, 0, at(1) + SignedDuration::from_nanos(1)));
    assert!(!holds(friday + 1, 60, 0, at(1)), "it begins a minute later");
    assert!(holds(friday - 60, 120, 0, at(1)));
    assert!(holds(friday, 60, 7 * 24, at(7 * 24 + 1)), "a week later");
    assert!(holds(friday, 60, -7 * 24 * 3000, at(1 - 7 * 24 * 3000)), "long before 1970");
    // Over the end of the week, from Sunday evening on.
    assert!(holds((6 * 24 + 20) * 60, 8 * 60, 62, at(66)));
    // A week at most.
    assert!(holds(friday, 7 * 24 * 60, 0, at(7 * 24)));
    assert!(!holds(friday, 8 * 24 * 60, 0, at(7 * 24) + SECOND));
}
