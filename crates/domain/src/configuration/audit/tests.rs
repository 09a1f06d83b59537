use std::collections::BTreeMap;

use super::*;
use crate::cloud::{BaselineId, CiId, Side, WaiverId};
use crate::configuration::baseline::{
    Baseline, BaselineRef, FilesSource, Golden, GoldenSource, HeldFiles, Hold, Measure,
    ObservedFile, Standard, Subject, Waiver,
};
use crate::priority::Priority;

fn time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

const NOW: i64 = 1_000_000;

const GOOD: &[(&str, u32, &str)] = &[
    ("/etc/group", 0o100_644, "root:x:0:\n"),
    ("/etc/hostname", 0o100_644, "web-1\n"),
    ("/etc/passwd", 0o100_644, "root:x:0:0::/root:/bin/sh\n"),
    ("/etc/sysctl.d/a.conf", 0o100_644, "kernel.kptr_restrict = 1\n"),
];

fn audited(files: &[(&str, u32, &str)]) -> Audited {
    let subject = Subject { class: Class::Vm, labels: BTreeMap::new() };
    let file = |(path, mode, text): &(&str, u32, &str)| {
        ((*path).to_owned(), ObservedFile::new(*mode, "root:root", text.as_bytes()))
    };
    Audited {
        item: Arc::new(Observed::new(subject, files.iter().map(file))),
        at: time(NOW),
        since: time(NOW - 86_400),
        seen_at: Some(time(NOW - 60)),
        said: Some(SetDigest::from([1; 32])),
        recorded: Some(SetDigest::from([1; 32])),
        altered: Ok(Vec::new()),
        drifts: 0,
    }
}

fn with(more: (&'static str, u32, &'static str)) -> Audited {
    let mut files = GOOD.to_vec();
    files.retain(|(path, ..)| *path != more.0);
    files.push(more);
    audited(&files)
}

fn altered(by: Option<&str>) -> Altered {
    Altered {
        path: "/etc/motd".to_owned(),
        recorded_at: time(NOW - 100),
        observed_at: time(NOW - 101),
        source: "agent".to_owned(),
        by: by.map(str::to_owned),
        change: None,
        is_first: false,
    }
}

const OWN: [u8; 16] = [7; 16];

/// Rules that somebody put in, and to which the item's owner holds it.
fn held_to(baseline: Baseline) -> Standards {
    let judged_by = JudgedBy {
        id: baseline.id.clone(),
        version: baseline.version.clone(),
        own: Some(BaselineId::of_content(OWN)),
        hold: Hold::Tenant,
    };
    let measure = Measure::Rules(Arc::new(baseline));
    Standards { held: vec![Standard { judged_by, measure }], ..Standards::default() }
}

/// What the attribute came to, with the first of its reasons.
fn told(audited: &Audited, attribute: Attribute) -> String {
    let rules = Baseline::parse(
        "id = \"t\"\nversion = \"1\"\ntitle = \"t\"\n[[rule]]\nid = \"t-kptr\"\ntitle = \"t\"\nseverity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = 'number(\"sysctl.kernel.kptr_restrict\") == 1'\n",
    );
    let report = AuditReport::of(audited, &held_to(rules.unwrap()));
    let found = report.attributes.into_iter().find(|it| it.attribute == attribute).unwrap();
    format!("{} {}", found.outcome, found.evidence[0])
}

#[test]
fn an_item_as_it_should_be_passes_all_five() {
    for attribute in Attribute::ALL {
        let told = told(&audited(GOOD), *attribute);
        assert!(told.starts_with("pass "), "{attribute}: {told}");
    }
}

#[test]
fn correctness_is_what_rules_say() {
    let of = |text: &'static str| {
        told(&with(("/etc/sysctl.d/a.conf", 0o100_644, text)), Attribute::Correctness)
    };
    assert_eq!(
        of("kernel.kptr_restrict = 0\n"),
        "fail t-kptr: /etc/sysctl.d/a.conf:1: sysctl.kernel.kptr_restrict=0"
    );
    assert_eq!(
        of("a = 0\n"),
        "unknown t-kptr: no file that is recorded sets `sysctl.kernel.kptr_restrict`"
    );
    let report = AuditReport::of(&audited(GOOD), &Standards::default());
    assert_eq!(report.outcome(Attribute::Correctness), Outcome::Unknown);
}

#[test]
fn consistency_is_that_nothing_contradicts() {
    let mut other = audited(GOOD);
    other.recorded = Some(SetDigest::from([2; 32]));
    assert!(told(&other, Attribute::Consistency).starts_with("fail the agent said 0101"));
    other.recorded = None;
    assert!(told(&other, Attribute::Consistency).starts_with("unknown a part"));
    other.said = None;
    assert!(told(&other, Attribute::Consistency).starts_with("unknown what the agent said"));
    let dangling = with(("/etc/l", 0o120_777, "/etc/none"));
    assert_eq!(
        told(&dangling, Attribute::Consistency),
        "fail /etc/l: leads to `/etc/none`, which is not there"
    );
    // Where nobody looks, something may be.
    let elsewhere = with(("/etc/l", 0o120_777, "/usr/share/x"));
    assert!(told(&elsewhere, Attribute::Consistency).starts_with("pass "));
    let contradiction = with(("/etc/sysctl.conf", 0o100_644, "kernel.kptr_restrict = 0\n"));
    assert!(told(&contradiction, Attribute::Consistency).starts_with("unknown /etc/sysctl.conf:1"));
}

#[test]
fn completeness_is_that_all_is_there() {
    let without: Vec<_> = GOOD.iter().copied().filter(|it| it.0 != "/etc/passwd").collect();
    assert_eq!(
        told(&audited(&without), Attribute::Completeness),
        "fail /etc/passwd: is not recorded"
    );
    let unseen = with(("/etc/x", 0, "<unseen:permission denied>\n"));
    assert!(
        told(&unseen, Attribute::Completeness).starts_with("fail /etc/x: it could not be seen")
    );
    let large = with(("/etc/x", 0o100_644, "<withheld:too_large:9:0123456789abcdef>\n"));
    assert!(told(&large, Attribute::Completeness).starts_with("unknown /etc/x"));
    let key = with(("/etc/x", 0o100_600, "<withheld:key_file:9:0123456789abcdef>\n"));
    assert!(told(&key, Attribute::Completeness).starts_with("pass "));
}

#[test]
fn validity_is_that_it_is_understood_and_of_now() {
    let odd = with(("/etc/sysctl.d/b.conf", 0o100_644, "nothing\n"));
    assert_eq!(told(&odd, Attribute::Validity), "unknown /etc/sysctl.d/b.conf:1: there is no `=`");
    let mut silent = audited(GOOD);
    silent.seen_at = Some(time(NOW - 86_401));
    assert!(told(&silent, Attribute::Validity).starts_with("fail it was heard of last at"));
    silent.seen_at = None;
    assert!(told(&silent, Attribute::Validity).starts_with("unknown "));
}

#[test]
fn traceability_is_that_somebody_is_known() {
    let mut it = audited(GOOD);
    it.altered = Ok(vec![altered(Some("anna by /usr/bin/vi"))]);
    assert!(told(&it, Attribute::Traceability).starts_with("pass 1 files altered"));
    it.altered = Ok(vec![altered(None)]);
    assert!(told(&it, Attribute::Traceability).starts_with("unknown /etc/motd: altered at"));
    it.altered = Ok(vec![Altered { is_first: true, ..altered(None) }]);
    assert!(told(&it, Attribute::Traceability).starts_with("pass "));
    it.altered = Ok(vec![Altered { observed_at: time(NOW + 900), ..altered(Some("a")) }]);
    assert!(told(&it, Attribute::Traceability).starts_with("fail /etc/motd: seen at"));
    it.altered = Err("it was erased".to_owned());
    assert_eq!(told(&it, Attribute::Traceability), "unknown it was erased");
    it.drifts = 2;
    assert!(told(&it, Attribute::Traceability).starts_with("fail drifts that are open: 2"));
}

#[test]
fn of_nothing_all_is_unknown_and_the_same_makes_the_same_report() {
    let report = AuditReport::of(&audited(&[]), &Standards::built_in(Class::Vm));
    for attribute in Attribute::ALL {
        assert_eq!(report.outcome(*attribute), Outcome::Unknown, "{attribute}");
    }
    assert!(report.rules.iter().all(|it| it.outcome != Outcome::Pass));
    let (one, other) = (audited(GOOD), audited(GOOD));
    let hash = |it: &Audited| AuditReport::of(it, &Standards::built_in(Class::Vm)).hash();
    assert_eq!(hash(&one), hash(&other));
    assert_ne!(hash(&one), hash(&audited(&[])));
    let report = AuditReport::of(&one, &Standards::built_in(Class::Vm));
    assert_eq!(serde_json::from_slice::<AuditReport>(&report.to_bytes()).unwrap(), report);
}

const KPTR: &str = "id = \"t\"\nversion = \"1\"\ntitle = \"t\"\n[[rule]]\nid = \"t-kptr\"\ntitle = \"t\"\nseverity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = 'number(\"sysctl.kernel.kptr_restrict\") == 1'\n";

fn waiver(by: Side, until: i64) -> Waiver {
    Waiver {
        id: WaiverId::of_content([8; 16]),
        baseline: BaselineRef::Own(BaselineId::of_content(OWN)),
        rule: "t-kptr".to_owned(),
        by,
        owner: "Anna".to_owned(),
        reason: "a probe needs it".to_owned(),
        until: time(until),
    }
}

/// What the only rule comes to where an item breaks it.
fn waived(hold: Hold, waiver: Waiver, is_providers: bool) -> AuditReport {
    let mut standards = held_to(Baseline::parse(KPTR).unwrap());
    standards.held[0].judged_by.hold = hold;
    let standards = standards.waived(vec![waiver], is_providers);
    let bad = with(("/etc/sysctl.d/a.conf", 0o100_644, "kernel.kptr_restrict = 0\n"));
    AuditReport::of(&bad, &standards)
}

#[test]
fn a_waived_rule_is_shown_as_waived_and_never_passes() {
    let report = waived(Hold::Tenant, waiver(Side::Tenant, NOW + 1), false);
    let [rule] = report.rules.as_slice() else { panic!("{:?}", report.rules) };
    assert_eq!(rule.outcome, Outcome::Waived);
    let said = rule.evidence[0].to_string();
    assert!(said.starts_with("it came to fail; Anna answers for it until 1970-"), "{said}");
    assert!(rule.evidence[1].to_string().contains("kptr_restrict=0"), "{:?}", rule.evidence);
    assert_eq!(report.waivers, [WaiverId::of_content([8; 16])]);
    assert_eq!(report.outcome(Attribute::Correctness), Outcome::Unknown, "nothing else holds");

    let over = waived(Hold::Tenant, waiver(Side::Tenant, NOW), false);
    assert_eq!(over.rules[0].outcome, Outcome::Fail, "until then, and not then");
    assert!(over.waivers.is_empty());
}

#[test]
fn whoever_holds_an_item_to_a_rule_waives_it() {
    let counts = |hold, by, is_providers| {
        waived(hold, waiver(by, NOW + 1), is_providers).rules[0].outcome == Outcome::Waived
    };
    assert!(counts(Hold::Tenant, Side::Tenant, false) && counts(Hold::Class, Side::Tenant, true));
    assert!(!counts(Hold::Provider, Side::Tenant, false));
    assert!(counts(Hold::Provider, Side::Provider, false));
    assert!(!counts(Hold::Tenant, Side::Provider, false), "the tenant keeps it");
    assert!(counts(Hold::Class, Side::Provider, true));
}

/// Held to the file of a golden item, of which so many were recorded.
fn held_to_files(files: Result<Golden, String>, count: usize) -> Standards {
    let source = GoldenSource {
        ci: CiId::of_content([3; 16]),
        at: time(1),
        paths: vec!["/etc/sysctl.d/*".to_owned().try_into().unwrap()],
        severity: Priority::High,
        files: count,
    };
    let mut standards = held_to(Baseline::parse(KPTR).unwrap());
    let source = FilesSource::Item(source);
    standards.held[0].measure = Measure::Files(Box::new(HeldFiles { source, files }));
    standards
}

#[test]
fn a_golden_item_is_held_against_others_and_what_was_lost_of_it_is_unknown() {
    let of = |item: &Audited| {
        Golden::of(&item.item, vec!["/etc/sysctl.d/*".to_owned().try_into().unwrap()])
    };
    let outcome = |item: &Audited, files, count| {
        let report = AuditReport::of(item, &held_to_files(files, count));
        let [rule] = report.rules.as_slice() else { panic!("{:?}", report.rules) };
        (rule.outcome, rule.evidence.first().map(ToString::to_string).unwrap_or_default())
    };
    let good = audited(GOOD);
    assert_eq!(outcome(&good, Ok(of(&good)), 1).0, Outcome::Pass);
    let bad = with(("/etc/sysctl.d/a.conf", 0o100_644, "kernel.kptr_restrict = 0\n"));
    let (came, said) = outcome(&bad, Ok(of(&good)), 1);
    assert_eq!(came, Outcome::Fail);
    assert!(said.starts_with("/etc/sysctl.d/a.conf:1: -kernel.kptr_restrict = 1"), "{said}");

    let (came, said) = outcome(&good, Err("it was erased".to_owned()), 1);
    assert_eq!((came, said.as_str()), (Outcome::Unknown, "it was erased"));
    let (came, said) = outcome(&good, Ok(of(&good)), 2);
    assert_eq!((came, said.as_str()), (Outcome::Unknown, "what the golden item held is lost"));
    let path = "/etc/sysctl.d/a.conf".to_owned();
    let mut erased = of(&good);
    erased.files.insert(path.clone(), ObservedFile::erased().into());
    assert_eq!(outcome(&good, Ok(erased.clone()), 1).0, Outcome::Unknown);
    // Nor does it say that a file should be there, or should not.
    let none: Vec<_> = GOOD.iter().copied().filter(|it| it.0 != path).collect();
    assert_eq!(outcome(&audited(&none), Ok(erased), 1).0, Outcome::Unknown);
}

#[test]
fn outcomes_name_no_file() {
    let good = audited(GOOD);
    let golden = Golden::of(&good.item, vec!["/etc/*".to_owned().try_into().unwrap()]);
    let count = golden.files.len();
    let mut standards = held_to_files(Ok(golden), count);
    standards.left_out = vec!["sshd".to_owned()];
    let report = AuditReport::of(&good, &standards);
    assert_eq!(report.rules.len(), 3);

    let outcomes = Outcomes::from(&report);

    let [rule] = outcomes.rules.as_slice() else { panic!("{outcomes:?}") };
    assert_eq!((rule.rule.as_str(), rule.count, rule.severity), ("files", 3, Priority::High));
    let text = serde_json::to_string(&outcomes).unwrap();
    assert!(!text.contains("/etc"), "{text}");
    assert_eq!(serde_json::from_str::<Outcomes>(&text).unwrap(), outcomes);
}

#[test]
fn outcomes_that_were_kept_before_are_read() {
    let kept = r#"{"baselines":[{"id":"sshd","version":"1"}],"attributes":{"validity":"pass"},
        "rules":[{"rule":"sshd-x","outcome":"pass"}]}"#;
    let outcomes: Outcomes = serde_json::from_str(kept).unwrap();
    assert_eq!((outcomes.rules[0].count, outcomes.baselines[0].hold), (1, Hold::Class));
}
