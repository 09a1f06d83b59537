//! Patches that fix several vulnerabilities.

use super::*;

#[test]
fn the_most_urgent_cve_decides_over_a_patch() {
    let cve = |cve: &str, vector: &str| CveFacts {
        cve: cve.to_owned(),
        inputs: PriorityInputs { cvss_vectors: words(&[vector]), ..PriorityInputs::default() },
    };
    let cves = [cve("CVE-2026-1", MILD), cve("CVE-2026-2", HARMFUL), cve("CVE-2026-3", MILD)];

    let decision =
        policy("default").decide_patch(&PriorityInputs::default(), &cves, &AssetFacts::default());

    assert_eq!(decision.decided_by.as_deref(), Some("CVE-2026-2"));
    assert_eq!(decision.reason, "CVSS 9.8");
}

#[test]
fn an_unscored_cve_keeps_a_patch_from_being_low() {
    let unscored = CveFacts { cve: "CVE-2026-9".to_owned(), inputs: PriorityInputs::default() };
    let mild = CveFacts {
        cve: "CVE-2026-8".to_owned(),
        inputs: PriorityInputs { cvss_vectors: words(&[MILD]), ..PriorityInputs::default() },
    };

    let decision = policy("default").decide_patch(
        &PriorityInputs::default(),
        &[mild, unscored],
        &AssetFacts::default(),
    );

    assert_eq!(decision.decided_by.as_deref(), Some("CVE-2026-9"));
    assert_eq!((decision.priority, decision.unscored), (Priority::Medium, true));
}

#[test]
fn a_cve_without_facts_takes_those_of_the_patch() {
    let patch =
        PriorityInputs { vendor_severities: words(&["Important"]), ..PriorityInputs::default() };
    let cve = CveFacts { cve: "CVE-2026-1".to_owned(), inputs: PriorityInputs::default() };

    let decision = policy("default").decide_patch(&patch, &[cve], &AssetFacts::default());

    assert_eq!(decision.priority, Priority::High);
}
