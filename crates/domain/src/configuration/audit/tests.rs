use std::collections::BTreeMap;

use super::*;
use crate::configuration::baseline::{ObservedFile, Subject};

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

/// What the attribute came to, with the first of its reasons.
fn told(audited: &Audited, attribute: Attribute) -> String {
    let rules: Vec<Baseline> = Baseline::parse(
        "id = \"t\"\nversion = \"1\"\ntitle = \"t\"\n[[rule]]\nid = \"t-kptr\"\ntitle = \"t\"\nseverity = \"low\"\nwhy = \"w\"\nsource = \"s\"\nexpected = \"e\"\ncheck = 'number(\"sysctl.kernel.kptr_restrict\") == 1'\n",
    )
    .into_iter()
    .collect();
    let report = AuditReport::of(audited, &rules);
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
    let report = AuditReport::of(&audited(GOOD), &[]);
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
    let report = AuditReport::of(&audited(&[]), Baseline::built_in());
    for attribute in Attribute::ALL {
        assert_eq!(report.outcome(*attribute), Outcome::Unknown, "{attribute}");
    }
    assert!(report.rules.iter().all(|it| it.outcome != Outcome::Pass));
    let (one, other) = (audited(GOOD), audited(GOOD));
    let hash = |it: &Audited| AuditReport::of(it, Baseline::built_in()).hash();
    assert_eq!(hash(&one), hash(&other));
    assert_ne!(hash(&one), hash(&audited(&[])));
    let report = AuditReport::of(&one, Baseline::built_in());
    assert_eq!(serde_json::from_slice::<AuditReport>(&report.to_bytes()).unwrap(), report);
}
