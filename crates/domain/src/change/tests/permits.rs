use super::*;

/// What the rule looks at, with a yes to the plan.
struct Parts {
    plan: Plan,
    terms: Terms,
    consents: Vec<Heard>,
    standing: Vec<Standing>,
    approvals: Vec<Countersign>,
    keys: KeyRing,
}

impl Parts {
    fn new(consents: &[Statement]) -> Self {
        let mut parts = Self {
            plan: plan(),
            terms: terms(dates(0)),
            consents: Vec::new(),
            standing: Vec::new(),
            approvals: Vec::new(),
            keys: ring(),
        };
        parts.consents = consents.iter().map(|said| heard(&parts.keys, said)).collect();
        parts
    }

    fn agreed() -> Self {
        Self::new(&[statement(&plan(), Decision::Approve, at(1), 1)])
    }

    fn judge(&self, now: Timestamp) -> Result<Permit, Lacks> {
        let Self { plan, terms, consents, standing, approvals, keys } = self;
        let author = id(8);
        permit(&Case { plan, author, terms, consents, standing, approvals, keys }, now)
    }

    fn lacks(&self, now: Timestamp) -> Vec<Lack> {
        self.judge(now).map_or_else(|lacks| lacks.iter().cloned().collect(), |_| Vec::new())
    }
}

fn heard(keys: &KeyRing, said: &Statement) -> Heard {
    Heard::admit(signed(1, said), keys, at(30)).unwrap()
}

fn yes() -> Basis {
    Basis::Consent { key: key(1), nonce: nonce(1) }
}

#[test]
fn a_permit_says_what_for_on_what_and_since_when() {
    let mut parts = Parts::agreed();
    parts.plan =
        Plan::new(Draft { stages: vec![stage(48, 60, &[3]), stage(61, 70, &[3])], ..draft() })
            .unwrap();
    parts.consents = vec![heard(&ring(), &statement(&parts.plan, Decision::Approve, at(1), 1))];

    let permit = parts.judge(at(50)).unwrap();

    assert_eq!(permit.plan(), parts.plan.hash());
    assert_eq!(permit.basis(), yes());
    assert_eq!(permit.granted_at(), at(50));
    assert_eq!(permit.window(), Window { from: at(48), until: at(60) });
}

#[test]
fn lead_time_and_window_begin_and_end_at_an_instant() {
    let mut parts = Parts::agreed();
    parts.terms.dates.earliest_start = Some(at(50));
    let lead = || Lack::LeadTime { until: at(50) };
    assert_eq!(parts.lacks(at(50) - SECOND), [lead()]);
    assert!(parts.judge(at(50)).is_ok());
    assert_eq!(parts.lacks(at(40)), [lead(), Lack::WindowAhead { opens: at(48) }]);
    let until = parts.judge(at(40)).unwrap_err().pass_at();
    assert_eq!(until, Some(at(50)), "the last of both");

    parts.terms.dates.earliest_start = Some(at(10));
    assert_eq!(parts.lacks(at(48) - SECOND), [Lack::WindowAhead { opens: at(48) }]);
    assert!(parts.judge(at(48)).is_ok());
    assert!(parts.judge(at(60) - SECOND).is_ok());
    assert_eq!(parts.lacks(at(60)), [Lack::WindowOver { closed: at(60) }]);
    assert_eq!(parts.judge(at(60)).unwrap_err().pass_at(), None);
}

#[test]
fn who_is_to_be_told_was_told() {
    let mut parts = Parts::agreed();
    parts.terms.dates.earliest_start = None;
    for (approval, lacks) in [
        (WAITS, vec![Lack::Notice]),
        (APPROVES, vec![Lack::Notice]),
        (Approval::Notice, vec![Lack::Notice]),
        (Approval::NotNeeded, vec![]),
    ] {
        parts.terms.dates.approval = approval;
        assert_eq!(parts.lacks(at(50)), lacks, "{approval:?}");
    }
    // Who need not agree is still heard.
    assert_eq!(parts.judge(at(50)).unwrap().basis(), yes());
    parts.consents.clear();
    assert_eq!(parts.judge(at(50)).unwrap().basis(), Basis::NotNeeded);
    parts.terms.dates = Dates { approval: Approval::Notice, ..dates(0) };
    assert_eq!(parts.judge(at(50)).unwrap().basis(), Basis::Notice);
    parts.terms.dates = dates(0);
    assert_eq!(parts.lacks(at(50)), [Lack::Consent { plan: parts.plan.hash() }]);
}

#[test]
fn the_last_word_counts_until_its_end() {
    let consent = || Lack::Consent { plan: plan().hash() };
    let yes = |hour, number| statement(&plan(), Decision::Approve, at(hour), number);
    let deferred = Parts::new(&[yes(1, 1), statement(&plan(), later(50), at(2), 2)]);
    assert_eq!(deferred.lacks(at(50) - SECOND), [Lack::Deferred { until: at(50) }]);
    assert_eq!(deferred.lacks(at(50)), [consent()], "and the tenant is asked again");
    let refused = Parts::new(&[yes(1, 1), statement(&plan(), no(50), at(2), 2)]);
    assert_eq!(refused.lacks(at(50) - SECOND), [Lack::Refused { until: at(50) }]);
    assert_eq!(refused.lacks(at(50)), [consent()]);
    // It is the time of saying that counts, not that of coming in.
    let reversed = Parts::new(&[statement(&plan(), no(55), at(2), 2), yes(1, 1)]);
    assert_eq!(reversed.lacks(at(50)), [Lack::Refused { until: at(55) }]);
    let again = Parts::new(&[statement(&plan(), no(55), at(2), 2), yes(3, 1)]);
    assert!(again.judge(at(50)).is_ok());
    let at_once = Parts::new(&[yes(2, 1), statement(&plan(), later(55), at(2), 2)]);
    assert_eq!(at_once.lacks(at(50)), [Lack::Deferred { until: at(55) }]);
}

#[test]
fn a_yes_is_to_one_plan_and_a_no_to_the_change() {
    let next = successor(&plan());
    let mut parts = Parts::agreed();
    parts.plan = next.clone();
    let other = Lack::OtherPlan { consented: plan().hash(), plan: next.hash() };
    assert_eq!(parts.lacks(at(50)), [other, Lack::Consent { plan: next.hash() }]);

    for (decision, lack) in
        [(later(55), Lack::Deferred { until: at(55) }), (no(55), Lack::Refused { until: at(55) })]
    {
        let mut parts = Parts::new(&[statement(&plan(), decision, at(2), 2)]);
        parts.plan = next.clone();
        assert_eq!(parts.lacks(at(50)), [lack]);
    }
}

#[test]
fn words_of_other_tenants_and_on_other_changes_are_none() {
    let mut parts = Parts::agreed();
    let no = statement(&plan(), no(55), at(2), 2);
    let of_other = Statement { tenant: id(7), ..no.clone() };
    parts.consents.push(heard(&ring_of(7), &of_other));
    parts.consents.push(heard(&ring(), &Statement { change: id(7), ..no }));

    assert_eq!(parts.judge(at(50)).unwrap().basis(), yes());
}

#[test]
fn a_key_that_was_revoked_starts_nothing_and_still_stops() {
    let mut parts = Parts::agreed();
    parts.keys = revoked(&ring(), 1, at(10));
    let lack = Lack::KeyRevoked { key: key(1), at: at(10) };
    assert_eq!(parts.lacks(at(50)), [lack, Lack::Consent { plan: parts.plan.hash() }]);

    let mut parts = Parts::new(&[statement(&plan(), no(55), at(2), 2)]);
    parts.keys = revoked(&ring(), 1, at(10));
    assert_eq!(parts.lacks(at(50)), [Lack::Refused { until: at(55) }]);
}

#[test]
fn silence_approves_where_it_does_and_not_before_its_time() {
    let mut parts = Parts::new(&[]);
    parts.terms.dates.answer_by = Some(at(50));
    assert_eq!(parts.lacks(at(55)).len(), 1, "it waits");
    parts.terms.dates.approval = APPROVES;
    assert_eq!(parts.lacks(at(50) - SECOND), [Lack::Consent { plan: parts.plan.hash() }]);
    assert_eq!(parts.judge(at(50)).unwrap().basis(), Basis::Silence { since: at(50) });
}

#[test]
fn a_rule_agrees_where_it_covers_the_plan_and_says_why_not() {
    let mut parts = Parts::new(&[]);
    parts.standing = vec![standing(&rule())];
    let basis = Basis::Standing { key: key(1), rule: nonce(50) };
    assert_eq!(parts.judge(at(50)).unwrap().basis(), basis);

    parts.terms.priority = Priority::High;
    let because = NotCovered::Priority { priority: Priority::High };
    let lack = Lack::Standing { rule: nonce(50), because };
    assert_eq!(parts.lacks(at(50)), [lack, Lack::Consent { plan: parts.plan.hash() }]);
}

#[test]
fn a_large_plan_needs_two_people_beside_its_author() {
    let mut parts = Parts::agreed();
    parts.plan = Plan::new(Draft { stages: vec![stage(48, 60, &[3, 4, 5])], ..draft() }).unwrap();
    let said = statement(&parts.plan, Decision::Approve, at(1), 1);
    parts.consents = vec![heard(&ring(), &said)];
    parts.terms.two_persons_above = 2;
    let by = |number: u8, plan: &Plan| Countersign { by: id(number), plan: plan.hash() };
    let (this, other) = (parts.plan.clone(), plan());
    for (approvals, agreed) in [
        (vec![], 0),
        (vec![by(1, &this)], 1),
        (vec![by(1, &this), by(1, &this)], 1),
        (vec![by(1, &this), by(8, &this)], 1),
        (vec![by(1, &this), by(2, &other)], 1),
    ] {
        parts.approvals = approvals;
        let lack = Lack::Approvers { items: 3, above: 2, agreed };
        assert_eq!(parts.lacks(at(50)), [lack], "{:?}", parts.approvals);
    }
    parts.approvals = vec![by(1, &this), by(2, &this)];
    assert!(parts.judge(at(50)).is_ok());
    (parts.approvals, parts.terms.two_persons_above) = (vec![], 3);
    assert!(parts.judge(at(50)).is_ok(), "three are not more than three");
}
