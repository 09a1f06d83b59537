//! What tenants read, of each kind: calm, clear, complete.

use crate::support::altered;
use domain::cloud::CiId;
use domain::proof::RebootCause;
use jiff::Timestamp;
use notices::content::{ClockNotice, InvalidNotice, Item, ItemState, Kind, MOST_CLOCKS, Notice};
use notices::sample::{Fullness, sample, sample_clocks};
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
