//! Webhooks to a real receiver that verifies them with the standard's own library, and to ones that
//! mean us no good.

use std::env;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Identity, Server, python};
use domain::cloud::NoticeId;
use jiff::{SignedDuration, Timestamp};
use notices::content::Kind;
use notices::delivery::{Next, Reach, Retry, Webhook, WebhookSecret};
use notices::sample::{Fullness, sample};
use notices::{CloudEvent, Deliver, DeliveryError, ENGLISH, LARGEST_EVENT, Parcel, Templates};
use serde_json::Value;

fn secret() -> WebhookSecret {
    WebhookSecret::of([7; 32])
}

/// This machine, which nothing but an operator's word opens.
fn here() -> Reach {
    Reach::also(vec!["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()])
}

fn receiver(python: &std::path::Path) -> Server {
    Server::start(python, "webhook.py", &[&secret().reveal()])
}

fn webhook(server: &Server, path: &str) -> Webhook {
    let address = format!("http://127.0.0.1:{}/{path}", server.port);
    Webhook::new(&address, secret(), here()).unwrap()
}

fn parcel() -> Parcel {
    Parcel::of(&sample(Kind::Planned, Fullness::Full), &Templates::english(), ENGLISH).unwrap()
}

/// The library holds the time against its own clock.
fn deliver(webhook: &Webhook) -> Result<String, DeliveryError> {
    webhook.deliver(&parcel(), Timestamp::now()).map(|receipt| receipt.text)
}

#[test]
fn the_standards_own_library_verifies_it() {
    let Some(python) = python() else { return };
    let mut server = receiver(&python);

    assert_eq!(deliver(&webhook(&server, "hook?token=t0k3n")).unwrap(), "HTTP 204");

    let got = server.next();
    assert_eq!((&got["verified"], &got["path"]), (&true.into(), &"/hook?token=t0k3n".into()));
    assert_eq!(got["headers"]["content-type"], "application/cloudevents+json");
    let notice = sample(Kind::Planned, Fullness::Full);
    assert_eq!(got["headers"]["webhook-id"], notice.id().to_string());
    assert_eq!(got["body"], CloudEvent::new(&notice).to_json());
}

#[test]
fn a_digest_names_its_notices() {
    let Some(python) = python() else { return };
    let mut server = receiver(&python);
    let (id, now) = (NoticeId::new(Timestamp::UNIX_EPOCH, [3; 10]), Timestamp::now());
    let notices = vec![sample(Kind::Planned, Fullness::Full); 5000];
    let templates = Templates::english();
    let digest = Parcel::digest(id, now, &notices, &templates, ENGLISH).unwrap();

    webhook(&server, "hook").deliver(&digest, now).unwrap();

    let got = server.next();
    assert_eq!(got["verified"], true);
    let body = got["body"].as_str().unwrap();
    assert!(body.len() < LARGEST_EVENT);
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["type"], "patchwright.notice.digest.v1");
    assert_eq!(event["id"], got["headers"]["webhook-id"]);
    assert_eq!(event["data"]["total"], 5000);
    assert_eq!(event["data"]["first"][99]["link"], notices[0].link());
}

#[test]
fn a_secret_is_replaced_without_a_gap() {
    let Some(python) = python() else { return };
    let mut server = receiver(&python);
    let address = format!("http://127.0.0.1:{}/", server.port);
    let newer = || Webhook::new(&address, WebhookSecret::of([8; 32]), here()).unwrap();

    deliver(&newer().and_with(secret())).unwrap();
    let got = server.next();
    assert_eq!(got["verified"], true, "by the older");
    let signatures = got["headers"]["webhook-signature"].as_str().unwrap().to_owned();
    assert_eq!(signatures.matches("v1,").count(), 2);

    deliver(&newer()).unwrap();
    assert_eq!(server.next()["verified"], "No matching signature found", "the older is gone");
}

#[test]
fn a_signature_is_of_its_time() {
    let Some(python) = python() else { return };
    let mut server = receiver(&python);

    let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
    webhook(&server, "hook").deliver(&parcel(), hour_ago).unwrap();

    assert_eq!(server.next()["verified"], "Message timestamp too old");
}

#[test]
fn answers_mean_what_the_standard_says() {
    let Some(python) = python() else { return };
    let server = receiver(&python);
    let answer = |path: &str| deliver(&webhook(&server, path));

    for accepted in ["200", "201", "202", "204"] {
        assert!(answer(accepted).is_ok(), "{accepted}");
    }
    for later in ["408", "425", "429", "500", "502", "503", "504"] {
        assert!(matches!(answer(later), Err(DeliveryError::Later { after: None, .. })), "{later}");
    }
    for never in ["413", "400", "401", "403", "404", "405", "422"] {
        let error = answer(never).unwrap_err();
        assert!(matches!(error, DeliveryError::Never { .. }), "{never}: {error}");
    }
    let gone = answer("410").unwrap_err();
    assert_eq!(
        gone.to_string(),
        "the recipient wants no more notices: `127.0.0.1` answered HTTP 410"
    );

    let busy = answer("busy").unwrap_err();
    let minutes = Some(Duration::from_secs(120));
    let text = "`127.0.0.1` answered HTTP 429: {\"error\": \"too many\"}".to_owned();
    assert_eq!(busy, DeliveryError::Later { text, after: minutes });
    let now = Timestamp::UNIX_EPOCH;
    let Next::Attempt(next) = Retry::default().next(1, now, now, &busy, 7) else { panic!() };
    assert_eq!(next - now, SignedDuration::from_secs(120));
}

#[test]
fn a_redirect_to_a_neighbour_is_not_followed() {
    let Some(python) = python() else { return };
    let server = receiver(&python);

    for status in [301, 302, 303, 307, 308] {
        let error = deliver(&webhook(&server, &format!("redirect{status}"))).unwrap_err();
        let DeliveryError::Never { text } = &error else { panic!("{error}") };
        assert!(text.ends_with("(redirects are not followed)"), "{text}");
    }

    let asked: Vec<String> =
        server.rest().iter().map(|got| got["path"].as_str().unwrap().to_owned()).collect();
    assert_eq!(asked.len(), 5);
    assert!(asked.iter().all(|path| path.starts_with("/redirect")), "{asked:?}");
}

#[test]
fn nobody_holds_us_up() {
    let Some(python) = python() else { return };
    let server = receiver(&python);

    std::thread::scope(|scope| {
        for path in ["slow", "drip"] {
            let webhook = webhook(&server, path);
            scope.spawn(move || {
                let began = Instant::now();
                let error = deliver(&webhook).unwrap_err();
                assert!(began.elapsed() < Duration::from_secs(20), "{path}");
                assert_eq!(
                    error.to_string(),
                    "not delivered yet: no answer in time from `127.0.0.1`"
                );
            });
        }
    });
}

#[test]
fn an_endless_answer_is_not_read() {
    let Some(python) = python() else { return };
    let mut server = receiver(&python);

    let error = deliver(&webhook(&server, "giant")).unwrap_err();
    let DeliveryError::Later { text, .. } = &error else { panic!("{error}") };
    assert!(text.starts_with("`127.0.0.1` answered HTTP 500: giant \u{fffd}[2Jgiant"), "{text}");
    assert!(text.chars().count() < 220 && !text.contains(char::is_control), "{text}");
    server.next();
    let sent = server.next()["sent"].as_u64().unwrap();
    assert!(sent < 64 << 20, "{sent} bytes were sent before it noticed");

    for path in ["giant-head", "nonsense"] {
        let error = deliver(&webhook(&server, path)).unwrap_err();
        assert!(matches!(error, DeliveryError::Later { .. }), "{path}: {error}");
    }
}

#[test]
fn a_name_that_stands_for_a_neighbour_is_not_asked() {
    let Some(python) = python() else { return };
    let server = receiver(&python);
    let other = Reach::also(vec!["10.0.0.0/8".parse().unwrap()]);
    for scheme in ["http", "https"] {
        let address = format!("{scheme}://localhost:{}/hook/s3cr3t", server.port);
        let webhook = Webhook::new(&address, secret(), other.clone()).unwrap();

        let error = deliver(&webhook).unwrap_err();

        assert_eq!(
            error.to_string(),
            "not delivered yet: `localhost` has no address that may be reached"
        );
    }
    assert!(server.rest().is_empty(), "nobody came");
    for closed in ["https://localhost/", "https://127.0.0.1/", "http://acme.example/"] {
        assert!(Webhook::new(closed, secret(), Reach::public()).is_err());
    }
}

#[test]
fn only_the_right_certificate_is_believed() {
    let Some(python) = python() else { return };
    let identity = Identity::new();
    let [cert, key] = identity.files();
    let mut server = Server::start(&python, "webhook.py", &[&secret().reveal(), &cert, &key]);
    let address = format!("https://localhost:{}/hook/s3cr3t", server.port);
    let webhook = || Webhook::new(&address, secret(), here()).unwrap();

    deliver(&webhook().believing(&identity.pem).unwrap()).unwrap();
    assert_eq!(server.next()["verified"], true);

    for other in [webhook(), webhook().believing(&Identity::new().pem).unwrap()] {
        let error = deliver(&other).unwrap_err();
        assert!(matches!(error, DeliveryError::Later { .. }), "{error}");
        assert!(error.to_string().contains("no TLS with `localhost`"), "{error}");
        assert!(!error.to_string().contains("s3cr3t"), "{error}");
    }
    assert!(webhook().believing(b"nothing").is_err());
    assert!(server.rest().is_empty());
}

/// Runs itself again where the environment names a proxy at which nobody listens.
#[test]
fn no_proxy_of_the_environment_is_asked() {
    if python().is_none() {
        return;
    }
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut again = Command::new(env::current_exe().unwrap());
    let one = concat!(module_path!(), "::the_standards_own_library_verifies_it");
    again.args(["--exact", one.split_once("::").unwrap().1]);
    for name in ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
    {
        again.env(name, format!("http://{nobody}"));
    }

    let output = again.env_remove("NO_PROXY").env_remove("no_proxy").output().unwrap();

    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}
