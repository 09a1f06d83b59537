//! What tenants read, of each kind: calm, clear, complete.

use crate::support::altered;
use domain::cloud::{CiId, is_invisible};
use domain::configuration::verdict::Standing;
use domain::proof::RebootCause;
use jiff::Timestamp;
use notices::content::{
    ClockNotice, DriftCounts, DriftNotice, InvalidNotice, Item, ItemState, Kind, Line,
    MOST_BREAK_GLASS, MOST_CLOCKS, MOST_DRIFTS, Notice, OpenDrift,
};
use notices::sample::{Fullness, sample, sample_clocks, sample_drift};
use notices::{CloudEvent, DigestError, ENGLISH, LARGEST_EVENT, Message, Templates};

fn message(notice: &Notice) -> Message {
    Templates::english().message(ENGLISH, notice).unwrap()
}

#[test]
fn each_kind_in_full() {
    for &kind in Kind::ALL {
        let Message { subject, text, html } = message(&sample(kind, Fullness::Full));
        insta::assert_snapshot!(format!("{kind}.txt"), format!("Subject: {subject}\n\n{text}"));
        insta::assert_snapshot!(format!("{kind}.html"), html);
    }
}

#[test]
fn each_kind_with_the_least_that_is_known() {
    for &kind in Kind::ALL {
        let Message { subject, text, .. } = message(&sample(kind, Fullness::Bare));
        insta::assert_snapshot!(
            format!("{kind}.bare.txt"),
            format!("Subject: {subject}\n\n{text}")
        );
    }
}

/// Snapshots show one page; this is the rest that all pages have to keep to.
#[test]
fn what_comes_out_of_an_image_stays_text() {
    let hostile = "<script>alert(1)</script>\r\nBcc: x@example.org\u{202e}";
    let notice = altered(Kind::Planned, |draft| {
        draft.title = "<b>&\"openssl\"</b>".parse().unwrap();
        draft.description = "</p><script>alert(1)</script> a/b &#x2f;".parse().unwrap();
        draft.items[0].name = "<script>alert(1)</script>".parse().unwrap();
        let impact = draft.impact.as_mut().unwrap();
        let downtime = impact.restarted["ssh.service"];
        impact.restarted.insert(hostile.to_owned(), downtime);
        impact.configuration_changed.push(hostile.to_owned());
        impact.reboot.causes.push(RebootCause::Asked { by: vec![hostile.to_owned()] });
    });

    let Message { subject, text, html } = message(&notice);

    assert!(!html.contains("<script") && !html.contains("<b>"), "{html}");
    assert!(html.contains("&lt;script&gt;"), "{html}");
    assert!(html.contains("a/b &amp;#x2f;"), "{html}");
    assert!(subject.as_str().contains("<b>&\"openssl\"</b>"), "nothing is escaped in a subject");
    for read in [subject.as_str(), &text, &html] {
        assert!(!read.contains('\r') && !read.contains('\u{202e}'));
        assert!(!read.contains("\nBcc:"));
    }
}

#[test]
fn a_notice_of_five_thousand_systems_is_one_short_message() {
    let notice = altered(Kind::Completed, |draft| {
        let item = |place: u16| Item {
            ci: CiId::new(
                Timestamp::UNIX_EPOCH,
                [place.to_be_bytes(); 5].concat().try_into().unwrap(),
            ),
            name: format!("web-{place:04}").parse().unwrap(),
            state: if place.is_multiple_of(1000) { ItemState::Failed } else { ItemState::Done },
        };
        draft.items = (1..=5000).rev().map(item).collect();
    });

    let Message { text, html, .. } = message(&notice);

    assert!(text.contains("YOUR SYSTEMS (5000: 4995 done, 5 failed)"), "{text}");
    for named in ["web-0001", "web-0020"] {
        assert!(text.contains(named) && html.contains(named));
    }
    assert!(!text.contains("web-0021") && !html.contains("web-0021"));
    assert!(text.contains(&format!("and 4980 more: {}", notice.link())), "{text}");
    assert!(text.len() < 4_000 && html.len() < 8_000);
}

#[test]
fn clocks_say_what_is_late_since_when_and_what_to_do() {
    for (name, fullness) in [("clocks", Fullness::Full), ("clocks.bare", Fullness::Bare)] {
        let notice = sample_clocks(fullness);
        let message = Templates::english().clocks(ENGLISH, &notice).unwrap();
        let Message { subject, text, html } = message;
        insta::assert_snapshot!(format!("{name}.txt"), format!("Subject: {subject}\n\n{text}"));
        insta::assert_snapshot!(format!("{name}.html"), html);
        assert_eq!(ClockNotice::parse(&notice.to_json().unwrap()), Ok(notice));
    }
}

#[test]
fn a_notice_of_clocks_names_some_and_counts_all() {
    let mut draft = sample_clocks(Fullness::Bare).draft().clone();
    draft.clocks = vec![draft.clocks[0].clone(); MOST_CLOCKS];
    draft.counts.warned = 5_000;
    let notice = ClockNotice::new(draft.clone()).unwrap();

    let text = Templates::english().clocks(ENGLISH, &notice).unwrap().text;

    assert!(text.contains("\n50. ") && !text.contains("\n51. "));
    assert!(text.contains("And 4950 more."), "{text}");
    assert!(CloudEvent::of_clocks(&notice).to_json().len() < LARGEST_EVENT);
    draft.clocks.push(draft.clocks[0].clone());
    assert!(matches!(ClockNotice::new(draft.clone()), Err(InvalidNotice::TooMany { .. })));
    draft.clocks.clear();
    assert_eq!(ClockNotice::new(draft), Err(InvalidNotice::NoClocks));
}

#[test]
fn drift_says_what_happened_where_since_when_and_what_to_do() {
    for (name, fullness) in [("drift", Fullness::Full), ("drift.bare", Fullness::Bare)] {
        let notice = sample_drift(fullness);
        let message = Templates::english().drift(ENGLISH, &notice).unwrap();
        let Message { subject, text, html } = message;
        insta::assert_snapshot!(format!("{name}.txt"), format!("Subject: {subject}\n\n{text}"));
        insta::assert_snapshot!(format!("{name}.html"), html);
        assert_eq!(DriftNotice::parse(&notice.to_json().unwrap()), Ok(notice));
    }
}

/// A notice of one drift, altered.
fn of_one(alter: impl FnOnce(&mut OpenDrift)) -> DriftNotice {
    let mut draft = sample_drift(Fullness::Bare).draft().clone();
    alter(&mut draft.drifts[0]);
    DriftNotice::new(draft).unwrap()
}

#[test]
fn a_subject_says_the_worst_in_one_line() {
    let subject = |notice: &DriftNotice| {
        Templates::english().drift(ENGLISH, notice).unwrap().subject.to_string()
    };
    let full = sample_drift(Fullness::Full);

    assert_eq!(subject(&of_one(|_| {})), "Unauthorised: /etc/ssh/sshd_config on web-1");
    assert_eq!(
        subject(&of_one(|drift| {
            drift.verdict = Standing::Unknown;
            drift.step = notices::content::DriftStep::Escalated;
        })),
        "Escalated: Unexplained: /etc/ssh/sshd_config on web-1"
    );
    let drift = "2 escalated, 997 new, on 40 systems";
    assert_eq!(
        subject(&full),
        format!("Not reviewed: INC-4700 on web servers, and 1 more; drift: {drift}: Example Cloud")
    );
    let mut terms = full.draft().clone();
    let glass = std::mem::take(&mut terms.break_glass);
    assert_eq!(
        subject(&DriftNotice::new(terms.clone()).unwrap()),
        format!("Drift: {drift}: Example Cloud")
    );
    (terms.drifts, terms.counts) = (Vec::new(), DriftCounts::default());
    terms.break_glass = glass[..1].to_vec();
    let alone = DriftNotice::new(terms.clone()).unwrap();
    assert_eq!(subject(&alone), "Not reviewed: INC-4700 on web servers: Example Cloud");
    let text = Templates::english().drift(ENGLISH, &alone).unwrap().text;
    assert!(
        text.starts_with("Files may be altered, or were,") && !text.contains("0 files"),
        "{text}"
    );
    terms.break_glass = vec![glass[0].clone(); MOST_BREAK_GLASS];
    let many = DriftNotice::new(terms.clone()).unwrap();
    assert!(CloudEvent::of_drift(&many).to_json().len() < LARGEST_EVENT);
    terms.break_glass.push(glass[0].clone());
    assert!(matches!(DriftNotice::new(terms), Err(InvalidNotice::TooMany { .. })));
}

#[test]
fn what_is_most_urgent_comes_first() {
    let full = sample_drift(Fullness::Full);
    let steps: Vec<_> =
        full.draft().drifts.iter().map(|it| (it.step.as_str(), it.verdict.as_str())).collect();
    assert_eq!(
        steps,
        [
            ("escalated", "unauthorised"),
            ("escalated", "unknown"),
            ("opened", "unauthorised"),
            ("opened", "unauthorised"),
            ("opened", "unknown"),
            ("opened", "vendor"),
            ("opened", "authorised"),
        ]
    );
}

#[test]
fn a_notice_of_drift_names_some_and_counts_all() {
    let mut draft = sample_drift(Fullness::Bare).draft().clone();
    draft.drifts = vec![draft.drifts[0].clone(); MOST_DRIFTS];
    draft.counts = DriftCounts { opened: 4_990, escalated: 10, items: 700 };
    let notice = DriftNotice::new(draft.clone()).unwrap();

    let Message { text, html, .. } = Templates::english().drift(ENGLISH, &notice).unwrap();

    assert!(text.contains("\n50. ") && !text.contains("\n51. "));
    assert!(text.contains("And 4950 more."), "{text}");
    assert!(
        text.starts_with("5000 files are not as agreed: 10 escalated, 4990 new, on 700 systems")
    );
    assert!(html.contains("And 4950 more.") && html.len() < 100_000, "{}", html.len());
    assert!(CloudEvent::of_drift(&notice).to_json().len() < LARGEST_EVENT);
    draft.drifts.push(draft.drifts[0].clone());
    assert!(matches!(DriftNotice::new(draft.clone()), Err(InvalidNotice::TooMany { .. })));
    draft.drifts.clear();
    assert_eq!(DriftNotice::new(draft), Err(InvalidNotice::NoDrifts));
    let json = notice.to_json().unwrap().replacen("drift/1", "drift/2", 1);
    let error = DriftNotice::parse(&json).unwrap_err().to_string();
    assert_eq!(error, "the document is a `patchwright.drift/2`, not a `patchwright.drift/1`");
}

/// Whoever alters a file chooses its path, and a host what it says of who did it.
#[test]
fn what_a_host_says_of_itself_stays_text() {
    let notice = of_one(|drift| {
        drift.path =
            "/etc/<script>alert(1)</script>\"'{{ 7*7 }}\u{202e}gnp\u{200b}&x=1".parse().unwrap();
        drift.ci_name = "<img src=x>".parse().unwrap();
        drift.by = Line::fit("=HYPERLINK(\"x\")\r\nBcc: x@example.org\u{1b}[2J</td><b>");
    });

    let Message { subject, text, html } = Templates::english().drift(ENGLISH, &notice).unwrap();

    for inserted in ["<script", "<img", "<b>", "</td><"] {
        assert!(!html.replace("</td></tr>", "").contains(inserted), "{inserted}: {html}");
    }
    assert!(html.contains("{{ 7*7 }}") && !html.contains("49"), "{html}");
    assert!(html.contains("&lt;script&gt;"), "{html}");
    for read in [subject.as_str(), &text, &html] {
        let hides = |c: char| c != '\n' && is_invisible(c);
        assert!(!read.contains(hides), "{read:?}");
        assert!(!read.contains("\nBcc:"), "{read}");
    }
    let link = text.lines().find_map(|line| line.trim().strip_prefix("The file: ")).unwrap();
    let asked = url::Url::parse(link).unwrap().query_pairs().into_owned().collect::<Vec<_>>();
    let path = notice.draft().drifts[0].path.as_str().to_owned();
    assert_eq!(asked, [("path".to_owned(), path)], "one question, with all of the path");
    assert_eq!(DriftNotice::parse(&notice.to_json().unwrap()), Ok(notice));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]

    #[test]
    fn no_word_of_a_host_alters_the_form_of_a_message(
        path in "/(\\PC|[<>\"'&%?#=+ /\u{202e}\u{2028}]){0,200}",
        by in "(\\PC|[<>\"'&%\r\n\t\u{1b}\u{202e}\u{2028}]){1,200}",
    ) {
        let Ok(path) = path.parse() else { return Ok(()) };
        let notice = of_one(|drift| {
            drift.path = path;
            drift.by = Line::fit(&by);
        });
        let plain = of_one(|drift| {
            drift.by = notice.draft().drifts[0].by.as_ref().map(|_| "root".parse().unwrap());
        });
        let templates = Templates::english();

        let message = templates.drift(ENGLISH, &notice).unwrap();

        let plain = templates.drift(ENGLISH, &plain).unwrap();
        proptest::prop_assert_eq!(message.text.lines().count(), plain.text.lines().count());
        let tags = |html: &str| html.matches(['<', '>', '"']).count();
        proptest::prop_assert_eq!(tags(&message.html), tags(&plain.html));
        let hides = |c: char| c != '\n' && is_invisible(c);
        for read in [message.subject.as_str(), &message.text, &message.html] {
            proptest::prop_assert!(!read.contains(hides), "{:?}", read);
        }
        proptest::prop_assert_eq!(DriftNotice::parse(&notice.to_json().unwrap()), Ok(notice));
    }
}

#[test]
fn a_digest_begins_with_what_cannot_wait() {
    let notices: Vec<Notice> =
        Kind::ALL.iter().rev().map(|&kind| sample(kind, Fullness::Full)).collect();

    let Message { subject, text, html } = Templates::english().digest(ENGLISH, &notices).unwrap();

    insta::assert_snapshot!("digest.txt", format!("Subject: {subject}\n\n{text}"));
    insta::assert_snapshot!("digest.html", html);
}

#[test]
fn a_digest_is_of_one_tenant_and_has_an_end() {
    let templates = Templates::english();
    let notices = vec![sample(Kind::Planned, Fullness::Full); 60];

    let text = templates.digest(ENGLISH, &notices).unwrap().text;
    assert!(text.contains("\n50. ") && !text.contains("\n51. "));
    assert!(text.contains("And 10 more."));

    assert!(matches!(templates.digest(ENGLISH, &[]), Err(DigestError::Empty)));
    let other = altered(Kind::Planned, |draft| draft.tenant.id = domain::cloud::PROVIDER);
    assert!(matches!(
        templates.digest(ENGLISH, &[notices[0].clone(), other]),
        Err(DigestError::Tenants { .. })
    ));
}
