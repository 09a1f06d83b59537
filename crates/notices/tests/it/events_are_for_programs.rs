//! `CloudEvents`: what the SDK reads, and that they fit through everything.

use crate::support::{altered, asked, python};
use domain::change::Reason;
use domain::cloud::CiId;
use domain::proof::Downtime;
use jiff::Timestamp;
use notices::content::{
    AdvisoryName, DriftNotice, Item, ItemState, Kind, News, Notice, Rollback, WayBack,
};
use notices::sample::{Fullness, sample, sample_drift};
use notices::{CloudEvent, LARGEST_EVENT};
use serde_json::Value;

fn event(notice: &Notice) -> Value {
    serde_json::from_str(&CloudEvent::new(notice).to_json()).unwrap()
}

#[test]
fn an_event_says_what_the_notice_says() {
    // What else is built beside decides whether `serde_json` keeps the order of members.
    insta::with_settings!({ sort_maps => true }, {
        insta::assert_json_snapshot!(event(&sample(Kind::Planned, Fullness::Full)));
    });
}

#[test]
fn an_event_of_drift_links_to_where_each_is_settled() {
    let notice = sample_drift(Fullness::Full);
    let event: Value = serde_json::from_str(&CloudEvent::of_drift(&notice).to_json()).unwrap();

    assert_eq!(event["type"], "patchwright.notice.drift.v1");
    assert_eq!(event["data"]["drifts"]["total"], 999);
    assert_eq!(event.get("subject"), None);
    insta::with_settings!({ sort_maps => true }, { insta::assert_json_snapshot!(event) });
}

#[test]
fn drifts_of_the_longest_paths_make_an_event_that_everybody_forwards() {
    let mut draft = sample_drift(Fullness::Full).draft().clone();
    draft.contact.name = "𝄞".repeat(200).parse().unwrap();
    let mut long = draft.drifts[0].clone();
    long.path = format!("/{}", "\"".repeat(4095)).parse().unwrap();
    long.ci_name = "𝄞".repeat(120).parse().unwrap();
    long.by = Some("\\".repeat(200).parse().unwrap());
    draft.drifts = vec![long; notices::content::MOST_DRIFTS];
    let notice = DriftNotice::new(draft).unwrap();

    let json = CloudEvent::of_drift(&notice).to_json();

    assert!(json.len() <= LARGEST_EVENT, "{} bytes", json.len());
    assert!(notice.to_json().unwrap().len() < notices::content::LARGEST_NOTICE);
}

#[test]
fn the_sdk_reads_each_kind() {
    let Some(python) = python() else { return };
    for &kind in Kind::ALL {
        let notice = sample(kind, Fullness::Full);
        let ours = event(&notice);

        let read = asked(&python, "event.py", &ours.to_string());

        assert_eq!(read["type"], format!("patchwright.notice.{kind}.v1"));
        assert_eq!(read["id"], notice.id().to_string());
        assert_eq!(read["time"], "2026-03-02T09:00:00+00:00");
        for same in ["source", "specversion", "subject", "datacontenttype", "data"] {
            assert_eq!(read[same], ours[same], "{same}");
        }
    }
}

#[test]
fn the_largest_notice_makes_an_event_that_everybody_forwards() {
    let wide = |length: usize| "𝄞".repeat(length);
    let notice = altered(Kind::Cancelled, |draft| {
        let reason: Reason = wide(Reason::LONGEST).parse().unwrap();
        let News::Cancelled { reason: why, .. } = &mut draft.news else { panic!() };
        *why = reason.clone();
        draft.tenant.name = wide(120).parse().unwrap();
        draft.title = wide(200).parse().unwrap();
        draft.contact.name = wide(200).parse().unwrap();
        draft.contact.at = wide(200).parse().unwrap();
        draft.description = wide(4000).parse().unwrap();
        draft.rollback = vec![WayBack { items: 1, by: Rollback::Impossible { reason } }; 16];
        let advisory = |number: u32| -> AdvisoryName { format!("{number:0>40}").parse().unwrap() };
        draft.advisories = (0..2000).map(advisory).collect();
        draft.items = (0_u32..5000)
            .map(|number| Item {
                ci: CiId::of_content([number.to_be_bytes(); 4].concat().try_into().unwrap()),
                name: format!("{}{number:04}", wide(116)).parse().unwrap(),
                state: if number < 7 { ItemState::Failed } else { ItemState::Done },
            })
            .collect();
        let restarted = &mut draft.impact.as_mut().unwrap().restarted;
        for number in 0..1000 {
            restarted.insert(format!("{}{number}", wide(1000)), Downtime::default());
        }
    });

    let json = CloudEvent::new(&notice).to_json();

    assert!(json.len() <= LARGEST_EVENT, "{} bytes", json.len());
    let data = &event(&notice)["data"];
    assert_eq!(data["items"]["total"], 5000);
    assert!(data["items"]["first"].as_array().unwrap().len() >= 10);
    assert_eq!(data["counts"][0], serde_json::json!({ "state": "done", "count": 4993 }));
    assert_eq!(data["advisories"]["total"], 2000);
    assert_eq!(data["link"], notice.link());
}

#[test]
fn a_second_event_of_the_same_notice_is_the_same() {
    let notice = sample(Kind::Started, Fullness::Full);
    let kept = Notice::parse(&notice.to_json().unwrap()).unwrap();

    assert_eq!(CloudEvent::new(&notice).to_json(), CloudEvent::new(&kept).to_json());
    assert_ne!(notice.draft().published_at, Timestamp::UNIX_EPOCH);
}
