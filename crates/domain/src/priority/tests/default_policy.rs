//! The default policy, step by step.

use super::*;

fn decided(inputs: &PriorityInputs) -> (Priority, String, bool) {
    let decision = policy("default").decide(inputs, &AssetFacts::default());
    (decision.priority, decision.reason, decision.unscored)
}

fn scored(priority: Priority, reason: &str) -> (Priority, String, bool) {
    (priority, reason.to_owned(), false)
}

#[test]
fn what_is_known_to_be_exploited_is_critical() {
    let inputs = PriorityInputs {
        known_exploited: Some(by(KevListing::Listed)),
        cvss_vectors: words(&[MILD]),
        ..PriorityInputs::default()
    };

    assert_eq!(decided(&inputs), scored(Priority::Critical, "KEV-listed"));
}

#[test]
fn cvss_bands_come_next() {
    let bands = [
        (HARMFUL, Priority::Critical, "CVSS 9.8"),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", Priority::High, "CVSS 7.5"),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", Priority::Medium, "CVSS 6.1"),
        (MILD, Priority::Low, "CVSS 1.8"),
    ];
    for (vector, priority, reason) in bands {
        let inputs = PriorityInputs {
            known_exploited: Some(by(KevListing::NotListed)),
            cvss_vectors: words(&[vector]),
            vendor_severities: words(&["Critical"]),
            ..PriorityInputs::default()
        };
        assert_eq!(decided(&inputs), scored(priority, reason));
    }
}

#[test]
fn words_of_vendors_and_trackers_come_next() {
    let severities = [
        ("Critical", Priority::Critical, "severity critical"),
        ("Important", Priority::High, "severity important"),
        ("Moderate", Priority::Medium, "severity moderate"),
        ("Low", Priority::Low, "severity low"),
        ("low**", Priority::Low, "severity low"),
        ("unimportant", Priority::Low, "severity unimportant"),
        ("negligible", Priority::Low, "severity negligible"),
    ];
    for (word, priority, reason) in severities {
        let inputs = PriorityInputs {
            vendor_severities: words(&[word]),
            changelog_urgencies: words(&["emergency"]),
            ..PriorityInputs::default()
        };
        assert_eq!(decided(&inputs), scored(priority, reason));
    }
}

#[test]
fn of_several_words_the_most_urgent_counts() {
    let inputs = PriorityInputs {
        vendor_severities: words(&["low", "Important", "untriaged", "moderate"]),
        ..PriorityInputs::default()
    };

    assert_eq!(decided(&inputs), scored(Priority::High, "severity important"));
}

#[test]
fn words_that_promise_a_later_judgement_decide_nothing() {
    let inputs = PriorityInputs {
        vendor_severities: words(&["not yet assigned", "untriaged"]),
        ..PriorityInputs::default()
    };

    assert_eq!(decided(&inputs), (Priority::Medium, "severity unknown".to_owned(), true));
}

#[test]
fn changelog_urgency_comes_last() {
    let urgencies = [
        ("emergency", Priority::Critical),
        ("critical", Priority::Critical),
        ("high", Priority::High),
        ("medium", Priority::Medium),
        ("low", Priority::Low),
    ];
    for (word, priority) in urgencies {
        let inputs = PriorityInputs {
            changelog_urgencies: words(&[word]),
            changelog_cves: Some(by(3)),
            suite: Some(by(SuiteKind::Security)),
            ..PriorityInputs::default()
        };
        assert_eq!(decided(&inputs), scored(priority, &format!("urgency {word}")));
    }
}

#[test]
fn an_update_without_security_content_is_low() {
    let plain = PriorityInputs {
        changelog_urgencies: words(&["medium"]),
        changelog_cves: Some(by(0)),
        suite: Some(by(SuiteKind::Ordinary)),
        ..PriorityInputs::default()
    };
    let from_security = PriorityInputs { suite: Some(by(SuiteKind::Security)), ..plain.clone() };
    let with_cve = PriorityInputs { changelog_cves: Some(by(1)), ..plain.clone() };
    let urgent = PriorityInputs { changelog_urgencies: words(&["high"]), ..plain.clone() };

    assert_eq!(decided(&plain), scored(Priority::Low, "no security content"));
    assert_eq!(decided(&from_security), scored(Priority::Medium, "urgency medium"));
    assert_eq!(decided(&with_cve), scored(Priority::Medium, "urgency medium"));
    assert_eq!(decided(&urgent), scored(Priority::High, "urgency high"));
}

#[test]
fn nothing_known_is_medium_and_flagged() {
    let unread =
        PriorityInputs { suite: Some(by(SuiteKind::Ordinary)), ..PriorityInputs::default() };

    assert_eq!(decided(&unread), (Priority::Medium, "severity unknown".to_owned(), true));
}
