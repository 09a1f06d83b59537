//! Mail through a real server (aiosmtpd), read by Python's email library.

use crate::support::{Identity, Server, altered, python};
use domain::cloud::NoticeId;
use jiff::Timestamp;
use notices::content::{Kind, Notice};
use notices::delivery::{Credentials, Next, Retry, Secret, Smtp, SmtpSettings, SmtpTls};
use notices::sample::{Fullness, sample};
use notices::{Deliver, DeliveryError, ENGLISH, Parcel, Templates};
use serde_json::{Value, json};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn settings(port: u16, tls: SmtpTls) -> SmtpSettings {
    SmtpSettings {
        host: "127.0.0.1".to_owned(),
        port,
        tls,
        credentials: None,
        roots: None,
        from: "patch@cloud.example".parse().unwrap(),
        from_name: "Cloud Süd, patching".parse().unwrap(),
    }
}

fn sent(settings: SmtpSettings, parcel: &Parcel) -> Result<String, DeliveryError> {
    let mailbox = Smtp::new(settings).unwrap().mailbox("Ops@acme.example".parse().unwrap());
    mailbox.deliver(parcel, NOW).map(|receipt| receipt.text)
}

fn parcel(notice: &Notice) -> Parcel {
    Parcel::of(notice, &Templates::english(), ENGLISH).unwrap()
}

fn account(password: &str) -> Credentials {
    let password = Secret::new(password.to_owned());
    Credentials { user: "patchwright".to_owned(), password }
}

#[test]
fn what_is_sent_is_what_a_mail_program_reads() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, "smtp.py", &["plain"]);
    let notice = altered(Kind::Planned, |draft| {
        draft.title = "Süd 𝄞: openssl, with a long name that no header has room for on one line"
            .parse()
            .unwrap();
        // A line that would end the mail, and one that is longer than a line may be.
        draft.description = format!("a\n.\n..\nQUIT\n{}", "ä".repeat(1500)).parse().unwrap();
    });
    let message = Templates::english().message(ENGLISH, &notice).unwrap();

    let receipt = sent(settings(server.port, SmtpTls::None), &parcel(&notice)).unwrap();

    assert_eq!(receipt, "250 2.0.0 Ok: queued as 4711");
    let got = server.next();
    assert_eq!(got["hello"], "cloud.example");
    assert_eq!(
        (&got["from"], &got["to"]),
        (&json!("patch@cloud.example"), &json!(["Ops@acme.example"]))
    );
    let headers = &got["headers"];
    assert_eq!(headers["subject"], message.subject.as_str());
    assert_eq!(headers["from"], "\"Cloud Süd, patching\" <patch@cloud.example>");
    assert_eq!(headers["to"], "Ops@acme.example");
    assert_eq!(headers["date"], "Mon, 02 Mar 2026 09:00:00 +0000");
    assert_eq!(headers["auto-submitted"], "auto-generated");
    assert_eq!(headers["patchwright-notice"], notice.id().to_string());
    let draft = notice.draft();
    let thread = format!("<{}.{}@cloud.example>", draft.change, draft.tenant.id);
    assert_eq!(headers["references"], thread.as_str());
    assert!(headers["message-id"].as_str().unwrap().starts_with(&format!("<{}.", notice.id())));
    let mut names: Vec<&str> =
        got["names"].as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "auto-submitted",
            "content-type",
            "date",
            "from",
            "message-id",
            "mime-version",
            "patchwright-notice",
            "references",
            "subject",
            "to"
        ]
    );
    assert_eq!(
        got["shape"],
        json!([
            "multipart/mixed",
            "multipart/alternative",
            "text/plain",
            "text/html",
            "text/calendar"
        ])
    );
    assert_eq!((&got["bare"], &got["defects"]), (&json!(false), &json!([])));
    assert!(got["longest"].as_u64().unwrap() <= 998, "RFC 5322 2.1.1: {}", got["longest"]);
    let parts = got["parts"].as_array().unwrap();
    let same =
        |content: &Value| content.as_str().unwrap().replace("\r\n", "\n").trim_end().to_owned();
    assert_eq!(same(&parts[0]["content"]), message.text.trim_end());
    assert_eq!(same(&parts[1]["content"]), message.html.trim_end());
    assert_eq!(parts[2]["method"], "PUBLISH");
    assert_eq!(
        (&parts[2]["disposition"], &parts[2]["file"]),
        (&json!("attachment"), &json!("change.ics"))
    );
    let calendar = same(&parts[2]["content"]);
    assert!(calendar.starts_with("BEGIN:VCALENDAR\n") && calendar.ends_with("\nEND:VCALENDAR"));
    for part in parts {
        assert_eq!((&part["charset"], &part["defects"]), (&json!("utf-8"), &json!([])));
    }
}

#[test]
fn a_second_copy_is_recognised() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, "smtp.py", &["plain"]);
    let notice = sample(Kind::Started, Fullness::Full);
    let smtp = Smtp::new(settings(server.port, SmtpTls::None)).unwrap();
    let mut raw = |to: &str| {
        smtp.mailbox(to.parse().unwrap()).deliver(&parcel(&notice), NOW).unwrap();
        let got = server.next();
        (got["headers"]["message-id"].clone(), got["raw"].clone())
    };

    let first = raw("ops@acme.example");

    assert_eq!(raw("ops@acme.example"), first, "byte for byte");
    assert_ne!(raw("other@acme.example").0, first.0, "of each recipient's own");
}

#[test]
fn without_a_time_there_is_no_calendar_and_a_digest_is_a_mail_too() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, "smtp.py", &["plain"]);
    let id = NoticeId::new(NOW, [3; 10]);
    let notices = [sample(Kind::Planned, Fullness::Full), sample(Kind::Failed, Fullness::Bare)];
    let digest = Parcel::digest(id, NOW, &notices, &Templates::english(), ENGLISH).unwrap();

    sent(settings(server.port, SmtpTls::None), &digest).unwrap();

    let got = server.next();
    assert_eq!(got["shape"], json!(["multipart/alternative", "text/plain", "text/html"]));
    assert_eq!(got["headers"]["subject"], "1 of 2 notices need your answer: Sparkasse Süd");
    assert_eq!(got["headers"]["patchwright-notice"], id.to_string());
}

#[test]
fn tls_is_wanted_and_believed_only_with_the_right_certificate() {
    let Some(python) = python() else { return };
    let identity = Identity::new();
    let [cert, key] = identity.files();
    let parcel = parcel(&sample(Kind::Completed, Fullness::Full));
    for (mode, tls) in [("starttls+auth", SmtpTls::StartTls), ("implicit", SmtpTls::Implicit)] {
        let mut server = Server::start(&python, "smtp.py", &[mode, &cert, &key]);
        let believed = SmtpSettings {
            roots: Some(identity.pem.clone()),
            credentials: mode.ends_with("auth").then(|| account("pass word")),
            ..settings(server.port, tls)
        };

        sent(believed.clone(), &parcel).unwrap();
        let got = server.next();
        if mode.ends_with("auth") {
            assert_eq!((&got["tls"], &got["user"]), (&json!(true), &json!("patchwright")));
        }

        let public = SmtpSettings { roots: None, ..believed.clone() };
        let other = SmtpSettings { roots: Some(Identity::new().pem), ..believed.clone() };
        let named = SmtpSettings { host: "localhost".to_owned(), ..believed };
        for unbelieved in [public, other] {
            let error = sent(unbelieved, &parcel).unwrap_err();
            assert!(matches!(&error, DeliveryError::Later { .. }), "{error}");
            assert!(error.to_string().contains("127.0.0.1"), "{error}");
        }
        sent(named, &parcel).unwrap();
        assert_eq!(server.rest().len(), 1, "nothing else came through");
    }
}

#[test]
fn a_server_without_starttls_gets_neither_mail_nor_password() {
    let Some(python) = python() else { return };
    for (mode, credentials) in [("plain", None), ("plain+auth", Some(account("pass word")))] {
        let server = Server::start(&python, "smtp.py", &[mode]);
        let settings = SmtpSettings {
            roots: Some(Identity::new().pem),
            credentials,
            ..settings(server.port, SmtpTls::StartTls)
        };

        let error = sent(settings, &parcel(&sample(Kind::Planned, Fullness::Full))).unwrap_err();

        assert!(matches!(error, DeliveryError::Later { .. }), "{error}");
        assert!(server.rest().is_empty(), "{mode}");
    }
}

#[test]
fn who_is_busy_is_asked_again_and_takes_it() {
    let Some(python) = python() else { return };
    let mut server = Server::start(&python, "smtp.py", &["plain+busy"]);
    let settings = settings(server.port, SmtpTls::None);
    let parcel = parcel(&sample(Kind::Planned, Fullness::Full));

    let error = sent(settings.clone(), &parcel).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not delivered yet: `127.0.0.1` said: 451 4.7.1 Greylisted, come again"
    );
    assert!(matches!(Retry::default().next(1, NOW, NOW, &error, 1), Next::Attempt(_)));

    sent(settings, &parcel).unwrap();
    assert_eq!(server.next()["to"], json!(["Ops@acme.example"]));
}

#[test]
fn a_mailbox_that_is_not_there_is_given_up() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, "smtp.py", &["plain+no"]);

    let notice = sample(Kind::Planned, Fullness::Full);
    let error = sent(settings(server.port, SmtpTls::None), &parcel(&notice)).unwrap_err();

    let DeliveryError::Never { text } = &error else { panic!("{error}") };
    assert!(text.contains("550 5.1.1 There is no"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn a_wrong_password_is_ours_to_correct_and_not_told() {
    let Some(python) = python() else { return };
    let server = Server::start(&python, "smtp.py", &["plain+auth"]);
    let settings = SmtpSettings {
        credentials: Some(account("wrong word")),
        ..settings(server.port, SmtpTls::None)
    };

    let notice = sample(Kind::Planned, Fullness::Full);
    let error = sent(settings, &parcel(&notice)).unwrap_err();

    assert_eq!(error.to_string(), "not delivered yet: `127.0.0.1` does not take our account (535)");
}

#[test]
fn nobody_listens() {
    let notice = sample(Kind::Planned, Fullness::Full);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();

    let error = sent(settings(port, SmtpTls::None), &parcel(&notice)).unwrap_err();

    assert!(matches!(error, DeliveryError::Later { after: None, .. }), "{error}");
}
