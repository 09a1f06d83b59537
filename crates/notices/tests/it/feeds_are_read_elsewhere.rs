//! Calendars and feed readers of others see in our feeds what is meant.

use std::collections::BTreeMap;

use crate::support::{altered, asked, python};
use domain::cloud::{ChangeId, NoticeId};
use jiff::{SignedDuration, Timestamp};
use notices::content::{Ask, Kind, LinkBase, News, Notice, Tenant};
use notices::sample::{Fullness, sample};
use notices::{Course, ENGLISH, Feed, Standing, Templates};
use serde_json::{Value, json};

const ODD_TITLE: &str = r#"a; b, c\d "e" <f> & Süd 𝄞 \n"#;

/// A change of each kind, and an earlier notice of the last one.
fn notices() -> Vec<Notice> {
    let mut notices: Vec<Notice> = Kind::ALL
        .iter()
        .zip(1..)
        .map(|(&kind, number)| {
            altered(kind, |draft| {
                draft.change = ChangeId::new(Timestamp::UNIX_EPOCH, [number; 10]);
                draft.id = NoticeId::new(Timestamp::UNIX_EPOCH, [number; 10]);
                draft.title = format!("{ODD_TITLE} {kind}").parse().unwrap();
                draft.published_at += SignedDuration::from_secs(i64::from(number));
                if kind == Kind::Started {
                    draft.contact.name = "The \"desk\"; Süd: all, day".parse().unwrap();
                    draft.contact.at = "+49 30 1234 (ask for \"patching\")".parse().unwrap();
                }
            })
        })
        .collect();
    let failed = notices.last().unwrap().draft().clone();
    let earlier = altered(Kind::Planned, |draft| {
        draft.change = failed.change;
        draft.id = NoticeId::new(Timestamp::UNIX_EPOCH, [99; 10]);
        draft.title = "What was planned once".parse().unwrap();
        draft.sequence = failed.sequence - 1;
    });
    notices.push(earlier);
    notices
}

fn tenant() -> (Tenant, LinkBase) {
    let draft = sample(Kind::Planned, Fullness::Full).draft().clone();
    (draft.tenant, draft.link_base)
}

fn calendar(notices: &[Notice]) -> String {
    let (tenant, base) = tenant();
    let feed = Feed::new(&tenant, &base, notices).unwrap();
    feed.calendar(&Templates::english(), ENGLISH).unwrap()
}

fn atom(notices: &[Notice]) -> String {
    let (tenant, base) = tenant();
    let feed = Feed::new(&tenant, &base, notices).unwrap();
    feed.atom(&Templates::english(), ENGLISH).unwrap()
}

#[test]
fn two_calendars_and_a_reader_agree() {
    let Some(python) = python() else { return };
    let notices = notices();
    let given = json!({ "calendar": calendar(&notices), "atom": atom(&notices) });

    let read = asked(&python, "feeds.py", &given.to_string());

    assert_eq!(read["icalendar"], read["vobject"]);
    let calendar = &read["icalendar"];
    assert_eq!(calendar["method"], "PUBLISH");
    assert_eq!(calendar["name"], "Changes: Sparkasse Süd");
    assert_eq!(calendar["errors"], json!([]));
    let events = calendar["events"].as_array().unwrap();
    assert_eq!(events.len(), Kind::ALL.len(), "one event for each change");
    for notice in &notices[..Kind::ALL.len()] {
        let draft = notice.draft();
        let uid = format!("{}.{}@patchwright", draft.change, draft.tenant.id);
        let event = events.iter().find(|event| event["uid"] == uid.as_str()).unwrap();
        let window = draft.news.window().or(draft.news.before()).unwrap();
        let time = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S+00:00").to_string();
        assert_eq!(event["summary"], draft.title.as_str());
        assert_eq!(event["sequence"], draft.sequence);
        assert_eq!(event["stamp"], time(draft.published_at).as_str());
        assert_eq!(event["start"], time(window.from).as_str());
        assert_eq!(event["end"], time(window.until).as_str());
        assert_eq!(event["url"], notice.link().as_str());
        assert_eq!(event["organizer_name"], draft.contact.name.as_str().replace('"', "'"));
        let organizer = if notice.kind() == Kind::Started {
            "https://patch.cloud.example/"
        } else {
            "mailto:ops@cloud.example"
        };
        assert_eq!(event["organizer"], organizer);
        let text = Templates::english().message(ENGLISH, notice).unwrap().text;
        assert_eq!(event["description"], text.trim_end());
        let status = match draft.news.kind() {
            Kind::Cancelled => "CANCELLED",
            Kind::Planned | Kind::Reminder | Kind::Lapsed | Kind::Delayed => "TENTATIVE",
            Kind::Emergency | Kind::Started | Kind::Completed | Kind::Failed | Kind::Disputed => {
                "CONFIRMED"
            }
        };
        assert_eq!(event["status"], status, "{}", notice.kind());
    }

    reader_sees(&read["feedparser"], &notices);
}

fn reader_sees(feed: &Value, notices: &[Notice]) {
    assert_eq!((&feed["well_formed"], &feed["version"]), (&json!(true), &json!("atom10")));
    assert_eq!(feed["title"], "Changes: Sparkasse Süd");
    let entries = feed["entries"].as_array().unwrap();
    assert_eq!(entries.len(), notices.len(), "every notice, older ones too");
    let dates: Vec<&str> = entries.iter().map(|it| it["updated"].as_str().unwrap()).collect();
    assert!(dates.is_sorted_by(|a, b| a >= b), "the newest first: {dates:?}");
    assert_eq!(feed["updated"], dates[0]);
    for notice in notices {
        let draft = notice.draft();
        let id = format!("tag:patch.cloud.example,2026:{}", draft.id);
        let entry = entries.iter().find(|entry| entry["id"] == id.as_str()).unwrap();
        let subject = Templates::english().message(ENGLISH, notice).unwrap().subject;
        assert_eq!(entry["title"], subject.as_str());
        assert_eq!(entry["link"], notice.link().as_str());
        assert_eq!(entry["author"], draft.contact.name.as_str());
        assert_eq!(entry["type"], "text/html");
        assert_eq!(entry["tags"][0], notice.kind().as_str());
        let html = entry["html"].as_str().unwrap();
        assert!(html.starts_with("<h1>") && !html.contains("<style>"), "{html}");
        assert!(html.contains("&lt;f&gt; &amp; Süd 𝄞") || draft.title.as_str().starts_with("What"));
    }
}

#[test]
fn an_empty_feed_is_one_too() {
    let Some(python) = python() else { return };
    let given = json!({ "calendar": calendar(&[]), "atom": atom(&[]) });

    let read = asked(&python, "feeds.py", &given.to_string());

    assert_eq!(read["icalendar"]["events"], json!([]));
    assert_eq!(read["icalendar"], read["vobject"]);
    assert_eq!(read["feedparser"]["well_formed"], true);
    assert_eq!(read["feedparser"]["entries"], json!([]));
}

#[test]
fn who_fetches_twice_gets_the_same_and_order_does_not_matter() {
    let notices = notices();
    let reversed: Vec<Notice> = notices.iter().rev().cloned().collect();

    assert_eq!(calendar(&notices), calendar(&reversed));
    assert_eq!(atom(&notices), atom(&reversed));
    insta::assert_snapshot!("calendar", calendar(&notices[..1]).replace("\r\n", "\n"));
    insta::assert_snapshot!("atom", atom(&notices[..1]));
}

#[test]
fn a_change_keeps_its_event_until_it_is_cancelled() {
    let property = |notices: &[Notice], name: &str| {
        let calendar = calendar(notices);
        let mut lines = calendar.lines().filter_map(|line| line.strip_prefix(name));
        let found = lines.next().unwrap().to_owned();
        assert_eq!(lines.next(), None);
        found
    };
    let planned = sample(Kind::Planned, Fullness::Full);
    let put_off = altered(Kind::Delayed, |draft| {
        let News::Delayed { window, ask, .. } = &mut draft.news else { panic!() };
        (*window, *ask) = (None, Ask::Nothing);
    });
    let told = altered(Kind::Planned, |draft| {
        let News::Planned { ask, .. } = &mut draft.news else { panic!() };
        *ask = Ask::Told;
    });

    assert_eq!(property(std::slice::from_ref(&planned), "STATUS:"), "TENTATIVE");
    assert_eq!(property(&[told], "STATUS:"), "CONFIRMED");
    let both = [planned.clone(), put_off];
    assert_eq!(property(&both, "STATUS:"), "CANCELLED");
    assert_eq!(property(&both, "UID:"), property(&[planned], "UID:"));
    assert_eq!(property(&both, "DTSTART:"), "20260310T220000Z");
}

#[test]
fn nobody_gets_the_notices_of_another() {
    let (tenant, base) = tenant();
    let other = altered(Kind::Planned, |draft| draft.tenant.id = domain::cloud::PROVIDER);

    let refused = Feed::new(&tenant, &base, std::slice::from_ref(&other)).unwrap_err();

    assert_eq!((refused.tenant, refused.other), (tenant.id, domain::cloud::PROVIDER));
}

/// Answers make no notice, and alter what is so.
#[test]
fn an_event_stands_as_its_change_does() {
    let asks = altered(Kind::Planned, |_| {});
    let lapsed = altered(Kind::Lapsed, |_| {});
    let cancelled = altered(Kind::Cancelled, |_| {});
    let (tenant, base) = tenant();
    let shown = |notice: &Notice, standing: Option<(Course, u32)>| {
        let standings = standing.map(|(course, revision)| {
            BTreeMap::from([(notice.draft().change, Standing { course, revision })])
        });
        let notices = [notice.clone()];
        let mut feed = Feed::new(&tenant, &base, &notices).unwrap();
        if let Some(standings) = &standings {
            feed = feed.standing(standings);
        }
        feed.calendar(&Templates::english(), ENGLISH).unwrap().replace("\r\n ", "")
    };
    let says = |calendar: &str, status: &str, sequence: u32| {
        assert!(calendar.contains(&format!("\r\nSTATUS:{status}\r\n")), "{calendar}");
        assert!(calendar.contains(&format!("\r\nSEQUENCE:{sequence}\r\n")), "{calendar}");
    };
    let (first, late) = (asks.draft().sequence, lapsed.draft().sequence);

    says(&shown(&asks, None), "TENTATIVE", first);
    says(&shown(&asks, Some((Course::AsTold, first + 3))), "TENTATIVE", first + 3);
    let agreed = shown(&asks, Some((Course::Agreed, first + 4)));
    says(&agreed, "CONFIRMED", first + 4);
    assert!(!agreed.contains("Please answer before"), "{agreed}");
    assert!(shown(&asks, None).contains("Please answer before"));
    says(&shown(&asks, Some((Course::Off, first + 5))), "CANCELLED", first + 5);
    says(&shown(&lapsed, Some((Course::Agreed, 99))), "CONFIRMED", 99);
    says(&shown(&lapsed, Some((Course::AsTold, 0))), "TENTATIVE", late);
    says(&shown(&cancelled, Some((Course::Agreed, 99))), "CANCELLED", 99);
}
