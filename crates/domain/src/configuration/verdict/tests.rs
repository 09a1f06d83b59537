use proptest::prelude::*;

use super::*;

const SSHD: &str = "/etc/ssh/sshd_config";

fn instant(text: &str) -> Timestamp {
    format!("2026-11-30T{text}Z").parse().unwrap()
}

/// A file; 0 is none.
fn state(content: u8) -> Option<FileState> {
    (content > 0).then(|| FileState { content: [content; 32].into(), access: [0; 32].into() })
}

fn change(number: u128) -> ChangeId {
    ChangeId::of_content(number.to_be_bytes())
}

fn by(number: u128) -> Approval {
    Approval::Change { change: change(number) }
}

fn person(login: &str) -> Actor {
    Actor::Person { login: login.to_owned() }
}

/// At noon, by the agent for the first change, from content 1 to content 2.
fn alteration() -> Alteration {
    Alteration {
        path: SSHD.to_owned(),
        before: state(1),
        after: state(2),
        when: Happened::at(instant("12:00:00")),
        actor: Actor::Agent { change: change(1) },
        extent: Extent::Matters,
        evidence: Evidence::Complete,
    }
}

/// The first change has content 2, between eleven and one.
fn knowledge() -> Knowledge {
    Knowledge {
        expectations: vec![Expectation {
            change: change(1),
            path: SSHD.to_owned(),
            after: state(2),
            not_before: instant("11:00:00"),
            not_after: instant("13:00:00"),
            executor: Some(Executor::Agent),
        }],
        ..Knowledge::default()
    }
}

fn judged(alteration: &Alteration, knowledge: &Knowledge) -> (Verdict, Confidence) {
    let Judgement { verdict, confidence, .. } = judge(alteration, knowledge, instant("14:00:00"));
    (verdict, confidence)
}

fn shipped() -> Shipped {
    Shipped {
        package: "openssh-server".to_owned(),
        version: "1:9.2p1-2+deb12u3".to_owned(),
        path: SSHD.to_owned(),
        after: state(2),
        from: instant("11:59:00"),
        until: instant("12:05:00"),
        change: Some(change(7)),
    }
}

fn break_glass() -> BreakGlassId {
    BreakGlassId::of_content([7; 16])
}

fn emergency() -> Emergency {
    Emergency {
        id: break_glass(),
        ticket: "INC-1".to_owned(),
        logins: vec!["carol".to_owned(), "alice".to_owned()],
        files: vec![PathPattern::try_from("/etc/ssh/**".to_owned()).unwrap()],
        from: instant("11:30:00"),
        until: instant("12:30:00"),
        review_by: instant("16:00:00"),
    }
}

#[test]
fn what_was_approved_is_authorised_in_its_window_by_its_hand() {
    let is = |alter: &dyn Fn(&mut Alteration)| {
        let mut it = alteration();
        alter(&mut it);
        judged(&it, &knowledge())
    };
    let authorised = Verdict::Authorised { change: change(1) };
    let irregular = |because: &[Irregularity]| Verdict::AuthorisedIrregular {
        change: change(1),
        because: because.to_vec(),
    };

    assert_eq!(is(&|_| {}), (authorised.clone(), Confidence::High));
    assert_eq!(is(&|it| it.actor = Actor::Unknown), (authorised.clone(), Confidence::Medium));
    let seen_late = |it: &mut Alteration| it.when.by = instant("15:00:00");
    assert_eq!(is(&seen_late), (authorised.clone(), Confidence::Medium));
    let both = |it: &mut Alteration| {
        seen_late(it);
        it.actor = Actor::Unknown;
    };
    assert_eq!(is(&both), (authorised.clone(), Confidence::Low));
    assert_eq!(is(&|it| it.evidence = Evidence::Gap), (authorised.clone(), Confidence::Low));
    // The window ends a minute later than it says, for clocks differ.
    assert_eq!(
        is(&|it| it.when = Happened::at(instant("13:00:59"))),
        (authorised, Confidence::High)
    );

    assert_eq!(
        is(&|it| it.when = Happened::at(instant("13:01:00"))),
        (irregular(&[Irregularity::Late]), Confidence::High)
    );
    assert_eq!(
        is(&|it| it.when = Happened::at(instant("10:58:59"))),
        (irregular(&[Irregularity::Early]), Confidence::High)
    );
    assert_eq!(
        is(&|it| it.actor = person("alice")),
        (irregular(&[Irregularity::OtherHand]), Confidence::High)
    );
    assert_eq!(
        is(&|it| it.actor = Actor::Agent { change: change(2) }),
        (irregular(&[Irregularity::OtherHand]), Confidence::High)
    );
}

#[test]
fn another_content_path_or_owner_is_not_what_was_approved() {
    let is = |alter: &dyn Fn(&mut Alteration)| {
        let mut it = alteration();
        alter(&mut it);
        judged(&it, &knowledge())
    };
    let unauthorised = (Verdict::Unauthorised, Confidence::High);

    assert_eq!(is(&|it| it.after = state(3)), unauthorised);
    assert_eq!(is(&|it| it.after = None), unauthorised);
    assert_eq!(is(&|it| "/etc/ssh/ssh_config".clone_into(&mut it.path)), unauthorised);
    let open_to_all = |it: &mut Alteration| it.after.as_mut().unwrap().access = [9; 32].into();
    assert_eq!(is(&open_to_all), unauthorised);
}

#[test]
fn of_changes_that_have_the_same_it_is_the_one_whose_turn_came_last() {
    // As where one is rolled back to what another one made.
    let mut known = knowledge();
    let later = Expectation {
        change: change(0),
        not_before: instant("11:30:00"),
        ..known.expectations[0].clone()
    };
    known.expectations.push(later);
    let unseen = Alteration { actor: Actor::Unknown, ..alteration() };
    for _ in 0..2 {
        let (verdict, _) = judged(&unseen, &known);
        assert_eq!(verdict, Verdict::Authorised { change: change(0) });
        known.expectations.reverse();
    }
}

#[test]
fn a_hand_that_was_named_is_the_only_one() {
    let mut knowledge = knowledge();
    knowledge.expectations[0].executor = None;
    let anybody = Alteration { actor: person("bob"), ..alteration() };
    let authorised = Verdict::Authorised { change: change(1) };
    assert_eq!(judged(&anybody, &knowledge), (authorised, Confidence::Medium));

    knowledge.expectations[0].executor = Some(Executor::Person { login: "alice".to_owned() });
    let by = |actor| judged(&Alteration { actor, ..alteration() }, &knowledge).0.standing();

    assert_eq!(by(person("alice")), Standing::Authorised);
    assert!(matches!(
        judged(&Alteration { actor: person("bob"), ..alteration() }, &knowledge).0,
        Verdict::AuthorisedIrregular { .. }
    ));
}

#[test]
fn what_a_package_brought_is_the_vendors_while_it_was_installed() {
    let knowledge = Knowledge { shipped: vec![shipped()], ..Knowledge::default() };
    let is = |actor, at: &str| {
        judged(&Alteration { actor, when: Happened::at(instant(at)), ..alteration() }, &knowledge)
    };
    let vendor = Verdict::Vendor {
        package: "openssh-server".to_owned(),
        version: "1:9.2p1-2+deb12u3".to_owned(),
        change: Some(change(7)),
    };

    assert_eq!(is(Actor::PackageManager, "12:00:00"), (vendor.clone(), Confidence::High));
    assert_eq!(is(Actor::Unknown, "12:00:00"), (vendor, Confidence::Medium));
    assert_eq!(is(person("mallory"), "12:00:00").0, Verdict::Unauthorised);
    assert_eq!(is(Actor::Unknown, "12:30:00").0, Verdict::Unauthorised, "back to the stock file");
}

#[test]
fn an_emergency_covers_its_files_time_and_person_and_is_looked_at() {
    let knowledge = Knowledge { emergencies: vec![emergency()], ..Knowledge::default() };
    let it = Alteration { actor: person("alice"), ..alteration() };
    let review_by = instant("16:00:00");
    let verdict = |review| Verdict::Emergency {
        break_glass: break_glass(),
        ticket: "INC-1".to_owned(),
        review_by,
        review,
    };

    assert_eq!(judge(&it, &knowledge, instant("15:59:59")).verdict, verdict(Review::Due));
    assert_eq!(judge(&it, &knowledge, instant("16:00:00")).verdict, verdict(Review::Overdue));
    let other = |alter: &dyn Fn(&mut Alteration)| {
        let mut it = it.clone();
        alter(&mut it);
        judged(&it, &knowledge).0
    };
    assert_eq!(other(&|it| it.actor = person("bob")), Verdict::Unauthorised);
    assert_eq!(other(&|it| "/etc/shadow".clone_into(&mut it.path)), Verdict::Unauthorised);
    assert_eq!(other(&|it| it.when = Happened::at(instant("12:31:01"))), Verdict::Unauthorised);
    assert_eq!(other(&|it| it.actor = person("carol")), verdict(Review::Due));

    let done = judge(&it, &knowledge, instant("14:00:00"));
    let rejected = rejected(&done);
    assert_eq!((&rejected.verdict, &rejected.actor), (&Verdict::Unauthorised, &done.actor));
    let last = rejected.trace.last().unwrap();
    assert!(last.rule == Rule::Emergency && last.because.contains("rejected"), "{last:?}");
    assert_eq!(rejected.trace.len(), done.trace.len());
}

#[test]
fn only_what_is_in_force_may_come_back() {
    let approved = |superseded_by| Approved {
        path: SSHD.to_owned(),
        state: state(2),
        by: by(3),
        superseded_by,
    };
    let it = Alteration { actor: person("bob"), ..alteration() };
    let with = |superseded_by| Knowledge {
        approved: vec![approved(superseded_by)],
        ..Knowledge::default()
    };

    assert_eq!(judged(&it, &with(None)).0, Verdict::Reverted { to: by(3) });
    let judgement = judge(&it, &with(Some(by(4))), instant("14:00:00"));
    assert_eq!(judgement.verdict, Verdict::Unauthorised);
    let step = judgement.trace.iter().find(|step| step.rule == Rule::Reverted).unwrap();
    assert!(step.because.contains(&change(4).to_string()), "{}", step.because);
}

#[test]
fn noise_is_only_noise_where_nothing_else_differs() {
    let noise = Alteration { extent: Extent::OnlyVolatile, actor: Actor::Unknown, ..alteration() };
    let is = |it: &Alteration| judged(it, &Knowledge::default()).0;

    assert_eq!(is(&noise), Verdict::Noise);
    let mut other_mode = noise.clone();
    other_mode.after.as_mut().unwrap().access = [9; 32].into();
    assert_eq!(is(&other_mode), Verdict::Unauthorised);
    assert_eq!(is(&Alteration { after: None, ..noise }), Verdict::Unauthorised);
}

#[test]
fn where_reports_are_missing_nobody_is_accused() {
    let it = Alteration { evidence: Evidence::Gap, ..alteration() };

    assert_eq!(judged(&it, &Knowledge::default()), (Verdict::Unknown, Confidence::Low));
    let noise = Alteration { extent: Extent::OnlyVolatile, ..it };
    assert_eq!(judged(&noise, &Knowledge::default()), (Verdict::Noise, Confidence::Low));
}

#[test]
fn the_first_rule_that_holds_decides() {
    let approved =
        Approved { path: SSHD.to_owned(), state: state(2), by: by(3), superseded_by: None };
    let mut all = Knowledge {
        shipped: vec![shipped()],
        emergencies: vec![Emergency { logins: Vec::new(), ..emergency() }],
        approved: vec![approved],
        ..knowledge()
    };
    let it = Alteration {
        extent: Extent::OnlyVolatile,
        evidence: Evidence::Gap,
        actor: Actor::Unknown,
        ..alteration()
    };
    let last = |all: &Knowledge| judge(&it, all, instant("14:00:00")).trace.pop().unwrap().rule;

    assert_eq!(last(&all), Rule::Expected);
    all.expectations[0].not_after = instant("11:30:00");
    assert_eq!(last(&all), Rule::Irregular);
    all.expectations.clear();
    assert_eq!(last(&all), Rule::Vendor);
    all.shipped.clear();
    assert_eq!(last(&all), Rule::Emergency);
    all.emergencies.clear();
    assert_eq!(last(&all), Rule::Reverted);
    all.approved.clear();
    assert_eq!(last(&all), Rule::Noise);
    let matters = Alteration { extent: Extent::Matters, ..it.clone() };
    assert_eq!(judge(&matters, &all, instant("14:00:00")).trace.pop().unwrap().rule, Rule::Gap);
    let complete = Alteration { evidence: Evidence::Complete, ..matters };
    let trace = judge(&complete, &all, instant("14:00:00")).trace;
    let asked: Vec<_> = trace.iter().map(|step| step.rule).collect();
    assert_eq!(asked, Rule::ALL[..Rule::ALL.len() - 1]);
    let followed = follow(SSHD, &judge(&complete, &all, instant("14:00:00")));
    assert_eq!(followed.verdict, Verdict::Unauthorised);
    assert_eq!(followed.trace[0].rule, Rule::Follows);
}

fn states() -> impl Strategy<Value = Option<FileState>> {
    (0_u8..4).prop_map(state)
}

fn instants() -> impl Strategy<Value = Timestamp> {
    (0_i64..24).prop_map(|hour| Timestamp::from_second(1_796_000_000 + hour * 3_600).unwrap())
}

fn actors() -> impl Strategy<Value = Actor> {
    prop_oneof![
        Just(Actor::Unknown),
        (1_u128..3).prop_map(|number| Actor::Agent { change: change(number) }),
        Just(Actor::PackageManager),
        prop::sample::select(&["alice", "bob"][..]).prop_map(person),
        Just(Actor::Program { executable: "/usr/bin/x".to_owned() }),
    ]
}

fn alterations() -> impl Strategy<Value = Alteration> {
    (
        states(),
        states(),
        instants(),
        instants(),
        actors(),
        prop::sample::select(Extent::ALL),
        prop::sample::select(Evidence::ALL),
    )
        .prop_map(|(before, after, one, other, actor, extent, evidence)| Alteration {
            path: SSHD.to_owned(),
            before,
            after,
            when: Happened { after: one.min(other), by: one.max(other) },
            actor,
            extent,
            evidence,
        })
}

fn knowing() -> impl Strategy<Value = Knowledge> {
    let expectation =
        (1_u128..3, states(), instants(), instants()).prop_map(|(number, after, one, other)| {
            Expectation {
                change: change(number),
                path: SSHD.to_owned(),
                after,
                not_before: one.min(other),
                not_after: one.max(other),
                executor: Some(Executor::Agent),
            }
        });
    let shipping = (states(), instants()).prop_map(|(after, from)| Shipped {
        after,
        from,
        until: from.checked_add(1.hour()).unwrap(),
        ..shipped()
    });
    let approval = (states(), any::<bool>()).prop_map(|(state, is_old)| Approved {
        path: SSHD.to_owned(),
        state,
        by: by(3),
        superseded_by: is_old.then(|| by(4)),
    });
    let several = 0..3_usize;
    (
        prop::collection::vec(expectation, several.clone()),
        prop::collection::vec(shipping, several.clone()),
        prop::collection::vec(approval, several),
    )
        .prop_map(|(expectations, shipped, approved)| Knowledge {
            expectations,
            shipped,
            emergencies: Vec::new(),
            approved,
        })
}

proptest! {
    #[test]
    fn nothing_is_authorised_that_nobody_knows_of(it in alterations(), known in knowing()) {
        let Judgement { verdict, trace, .. } = judge(&it, &known, instant("14:00:00"));

        let is_explained = known.expectations.iter().any(|known| known.after == it.after)
            || known.shipped.iter().any(|known| known.after == it.after)
            || known.approved.iter().any(|known| known.state == it.after);
        if !is_explained && it.extent == Extent::Matters {
            let evidence = it.evidence;
            prop_assert_eq!(
                verdict.standing(),
                if evidence == Evidence::Gap { Standing::Unknown } else { Standing::Unauthorised }
            );
        }
        // The trace is the order of the rules, without holes.
        let rules: Vec<_> = trace.iter().map(|step| step.rule).collect();
        prop_assert_eq!(&rules[..], &Rule::ALL[..rules.len()]);
    }

    #[test]
    fn to_know_more_accuses_nobody_more(it in alterations(), known in knowing(), more in knowing()) {
        let standing = |known: &Knowledge| judge(&it, known, instant("14:00:00")).verdict.standing();
        let before = standing(&known);
        let mut all = known.clone();
        all.expectations.extend(more.expectations);
        all.shipped.extend(more.shipped);
        all.approved.extend(more.approved);

        if before != Standing::Unauthorised && before != Standing::Unknown {
            prop_assert!(!matches!(standing(&all), Standing::Unauthorised | Standing::Unknown));
        }
    }

    #[test]
    fn a_superseded_content_never_comes_back_by_itself(it in alterations()) {
        let approved = Approved {
            path: SSHD.to_owned(), state: it.after, by: by(3), superseded_by: Some(by(4)),
        };
        let known = Knowledge { approved: vec![approved], ..Knowledge::default() };
        let verdict = judge(&it, &known, instant("14:00:00")).verdict;
        prop_assert!(!matches!(verdict, Verdict::Reverted { .. }), "{:?}", verdict);
    }
}
