//! Passwords, codes, recovery codes, passkeys: what opens a session, and what does not.

use crate::support::authenticator::Authenticator;
use crate::support::{Answer, PASSWORD, World};
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use domain::cloud::{Access, PROVIDER, Role};
use serde_json::{Value, json};

async fn sign_in(world: &World, password: &str, code: Option<&str>) -> Answer {
    let body = json!({ "login": "root", "password": password, "code": code });
    world.ask("", "POST", "/api/v1/session", Some(body)).await
}

fn secret(answer: &Answer) -> String {
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["secret"].as_str().unwrap().to_owned()
}

/// The code that an app shows some steps from now.
fn code(setup: &Value, steps: i64) -> String {
    let secret = totp_rs::Secret::try_from_base32(setup["secret"].as_str().unwrap()).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build_noncompliant();
    let second = jiff::Timestamp::now().as_second() + steps * 30;
    totp.generate(u64::try_from(second).unwrap()).to_string()
}

/// Sets codes up in a session; gives the setup and the recovery codes.
async fn set_up_codes(world: &World, session: &str) -> (Value, Vec<String>) {
    let setup = world.ask(session, "POST", "/api/v1/session/codes", None).await;
    assert_eq!(setup.status, 201, "{}", setup.text);
    let setup = setup.json();
    let body = json!({ "code": code(&setup, -1) });
    let confirmed = world.ask(session, "PUT", "/api/v1/session/codes", Some(body)).await;
    assert_eq!(confirmed.status, 200, "{}", confirmed.text);
    let recovery = serde_json::from_value(confirmed.json()["recovery_codes"].clone()).unwrap();
    (setup, recovery)
}

#[tokio::test]
async fn a_code_is_asked_for_and_taken_once() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let other = secret(&sign_in(&world, PASSWORD, None).await);
    let setup = world.ask(&session, "POST", "/api/v1/session/codes", None).await.json();
    // Nothing is asked for before one was shown.
    secret(&sign_in(&world, PASSWORD, None).await);
    let wrong = json!({ "code": "000000" });
    let wrong = world.ask(&session, "PUT", "/api/v1/session/codes", Some(wrong)).await;
    assert_eq!(wrong.status, 422, "{}", wrong.text);
    let right = json!({ "code": code(&setup, -1) });
    let right = world.ask(&session, "PUT", "/api/v1/session/codes", Some(right)).await;
    assert_eq!(right.json()["recovery_codes"].as_array().unwrap().len(), 10);

    let account = world.ask(&session, "GET", "/api/v1/session", None).await.json();
    assert_eq!(account["mfa"], true);
    let ended = world.ask(&other, "GET", "/api/v1/session", None).await;
    assert_eq!(ended.status, 401, "a session from before could be a thief's");

    let missing = sign_in(&world, PASSWORD, None).await;
    assert_eq!(
        (missing.status.as_u16(), &missing.json()["type"]),
        (401, &json!("/problems/second-factor"))
    );
    let unknown = sign_in(&world, "wrong", Some("000000")).await;
    assert_eq!(unknown.json()["type"], "/problems/unauthenticated", "the password comes first");
    let wrong = sign_in(&world, PASSWORD, Some("000000")).await;
    assert_eq!(wrong.status, 401);

    let now = code(&setup, 0);
    let strong = secret(&sign_in(&world, PASSWORD, Some(&now)).await);
    assert_eq!(world.ask(&strong, "GET", "/api/v1/session", None).await.json()["mfa"], true);
    let again = sign_in(&world, PASSWORD, Some(&now)).await;
    assert_eq!(
        (again.status.as_u16(), &again.json()["type"]),
        (401, &json!("/problems/second-factor"))
    );
    secret(&sign_in(&world, PASSWORD, Some(&code(&setup, 1))).await);
}

#[tokio::test]
async fn a_recovery_code_opens_once() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let (_, recovery) = set_up_codes(&world, &session).await;

    let typed = recovery[3].replace('-', " ").to_uppercase();
    let strong = secret(&sign_in(&world, PASSWORD, Some(&typed)).await);
    assert_eq!(sign_in(&world, PASSWORD, Some(&recovery[3])).await.status, 401);
    let factors = world.ask(&strong, "GET", "/api/v1/session/factors", None).await.json();
    assert_eq!(factors["recovery_codes"], 9);
    let gone = world.ask(&strong, "DELETE", "/api/v1/session/codes", None).await;
    assert_eq!(gone.status, 204);
    secret(&sign_in(&world, PASSWORD, None).await);
}

#[tokio::test]
async fn guessing_codes_is_slowed_down_though_the_password_is_right() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let (setup, _) = set_up_codes(&world, &session).await;
    for _ in 0..5 {
        assert_eq!(sign_in(&world, PASSWORD, Some("000000")).await.status, 401);
    }
    assert_eq!(sign_in(&world, PASSWORD, Some(&code(&setup, 0))).await.status, 429);
}

#[tokio::test]
async fn where_it_is_required_the_providers_people_prove_more() {
    let world = World::strict().await;
    let weak = secret(&sign_in(&world, PASSWORD, None).await);
    let refused = world.ask(&weak, "GET", "/api/v1/cis", None).await;
    assert_eq!(refused.status, 403);
    assert!(
        refused.json()["detail"].as_str().unwrap().contains("second factor"),
        "{}",
        refused.text
    );
    assert!(refused.json()["help"].as_str().unwrap().contains("/account"), "{}", refused.text);
    let token = json!({ "name": "x", "access": "write", "days": 1 });
    let made = world.ask(&weak, "POST", "/api/v1/tokens", Some(token.clone())).await;
    assert_eq!(made.status, 403, "a token would outlive the weak session");

    set_up_codes(&world, &weak).await;
    assert_eq!(world.ask(&weak, "GET", "/api/v1/cis", None).await.status, 200);
    let made = world.ask(&weak, "POST", "/api/v1/tokens", Some(token)).await.json();
    let token = made["secret"].as_str().unwrap();
    assert_eq!(world.ask(token, "GET", "/api/v1/cis", None).await.status, 200);

    // A tenant's people are the tenant's to judge.
    let a = world.tenant("a").await;
    let owner = world.token(a, Role::TenantOwner, Access::Write).await;
    assert_eq!(world.ask(&owner, "GET", "/api/v1/cis", None).await.status, 200);
    let operator = world.token(PROVIDER, Role::Operator, Access::Write).await;
    assert_eq!(world.ask(&operator, "GET", "/api/v1/cis", None).await.status, 403);
}

#[tokio::test]
async fn a_token_cannot_make_itself_at_home() {
    let world = World::new().await;
    let token = world.token(PROVIDER, Role::Admin, Access::Write).await;
    for (method, path, body) in [
        ("PUT", "/api/v1/session/password", Some(json!({ "old": "x", "new": PASSWORD }))),
        ("POST", "/api/v1/session/codes", None),
        ("POST", "/api/v1/session/passkey-registration", None),
    ] {
        let answer = world.ask(&token, method, path, body).await;
        assert_eq!(answer.status, 422, "{method} {path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_password_is_changed_by_whoever_knows_it() {
    const NEW: &str = "a quite different password";
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let other = secret(&sign_in(&world, PASSWORD, None).await);
    let change = async |old: &str, new: &str| {
        let body = json!({ "old": old, "new": new });
        world.ask(&session, "PUT", "/api/v1/session/password", Some(body)).await.status.as_u16()
    };

    assert_eq!(change("wrong", NEW).await, 422);
    assert_eq!(change(PASSWORD, "short").await, 400);
    assert_eq!(change(PASSWORD, NEW).await, 204);

    assert_eq!(world.ask(&session, "GET", "/api/v1/session", None).await.status, 200);
    assert_eq!(world.ask(&other, "GET", "/api/v1/session", None).await.status, 401);
    assert_eq!(sign_in(&world, PASSWORD, None).await.status, 401);
    secret(&sign_in(&world, NEW, None).await);
}

#[tokio::test]
async fn whoever_lost_everything_is_let_in_anew_by_an_admin() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    set_up_codes(&world, &session).await;
    let root = world.ask(&session, "GET", "/api/v1/session", None).await.json();
    let path = format!("/api/v1/users/{}/reset", root["user"].as_str().unwrap());
    assert_eq!(world.ask(&session, "POST", &path, None).await.status, 422, "not oneself");
    let operator = world.token(PROVIDER, Role::Operator, Access::Write).await;
    assert_eq!(world.ask(&operator, "POST", &path, None).await.status, 403);

    let admin = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let reset = world.ask(&admin, "POST", &path, None).await;
    assert_eq!(reset.status, 200, "{}", reset.text);

    assert_eq!(world.ask(&session, "GET", "/api/v1/session", None).await.status, 401);
    let password = reset.json()["password"].as_str().unwrap().to_owned();
    secret(&sign_in(&world, &password, None).await);
}

/// What is in the database opens nothing.
#[tokio::test]
async fn secrets_are_sealed_at_rest() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let (setup, recovery) = set_up_codes(&world, &session).await;
    let shown = setup["secret"].as_str().unwrap();
    let raw = totp_rs::Secret::try_from_base32(shown).unwrap();

    let read = |file| std::fs::read(world.directory.path().join(file)).unwrap();
    let bytes = [read("patchwright.db"), read("patchwright.db-wal")].concat();
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|part| part == needle);
    assert!(has(b"factor.added"), "this is what is looked into");
    for needle in [raw.as_ref(), shown.as_bytes(), recovery[0].as_bytes(), session.as_bytes()] {
        assert!(!has(needle));
    }
}

async fn begin(world: &World, token: &str, path: &str) -> (Value, Value) {
    let begun = world.ask(token, "POST", path, None).await;
    assert_eq!(begun.status, 201, "{}", begun.text);
    let begun = begun.json();
    (begun["ceremony"].clone(), begun["options"].clone())
}

async fn register(
    world: &World,
    session: &str,
    authenticator: &Authenticator,
) -> (Answer, Vec<u8>) {
    let (ceremony, options) = begin(world, session, "/api/v1/session/passkey-registration").await;
    let handle = BASE64URL.decode(options["user"]["id"].as_str().unwrap()).unwrap();
    let answer = authenticator.create(&options);
    let body = json!({ "ceremony": ceremony, "name": "key ring", "answer": answer });
    (world.ask(session, "POST", "/api/v1/session/passkeys", Some(body)).await, handle)
}

async fn open(world: &World, authenticator: &mut Authenticator, handle: &[u8]) -> Answer {
    let (ceremony, options) = begin(world, "", "/api/v1/session/passkey-challenge").await;
    let body = json!({ "ceremony": ceremony, "answer": authenticator.get(&options, handle) });
    world.ask("", "POST", "/api/v1/session/passkey", Some(body)).await
}

#[tokio::test]
async fn a_passkey_signs_in_without_a_password() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let mut authenticator = Authenticator::new(1);
    let (added, handle) = register(&world, &session, &authenticator).await;
    assert_eq!(added.status, 201, "{}", added.text);
    let id = added.json()["id"].as_str().unwrap().to_owned();

    let opened = secret(&open(&world, &mut authenticator, &handle).await);
    assert_eq!(world.ask(&opened, "GET", "/api/v1/session", None).await.json()["mfa"], true);
    let (again, _) = register(&world, &opened, &authenticator).await;
    assert_eq!(again.status, 409, "the same credential twice");

    // With the password alone one cannot take the passkey away.
    let weak = secret(&sign_in(&world, PASSWORD, None).await);
    let path = format!("/api/v1/session/passkeys/{id}");
    assert_eq!(world.ask(&weak, "DELETE", &path, None).await.status, 403);
    assert_eq!(world.ask(&opened, "DELETE", &path, None).await.status, 204);
    assert_eq!(open(&world, &mut authenticator, &handle).await.status, 401);
}

#[tokio::test]
async fn a_passkey_is_bound_to_place_person_challenge_and_counter() {
    let world = World::new().await;
    let session = secret(&sign_in(&world, PASSWORD, None).await);
    let mut authenticator = Authenticator::new(1);

    let elsewhere = Authenticator { origin: "http://evil.example", ..Authenticator::new(2) };
    assert_eq!(register(&world, &session, &elsewhere).await.0.status, 422);
    let untouched = Authenticator { flags: 0b001, ..Authenticator::new(3) };
    assert_eq!(register(&world, &session, &untouched).await.0.status, 422, "nobody was verified");
    let (added, handle) = register(&world, &session, &authenticator).await;
    assert_eq!(added.status, 201, "{}", added.text);

    // Another key for the same credential; another place; nobody verified; another person.
    let mut forged = Authenticator { credential: [1; 32], ..Authenticator::new(9) };
    assert_eq!(open(&world, &mut forged, &handle).await.status, 401);
    let mut elsewhere = Authenticator { origin: "http://evil.example", ..Authenticator::new(1) };
    assert_eq!(open(&world, &mut elsewhere, &handle).await.status, 401);
    let mut unverified = Authenticator { flags: 0b001, ..Authenticator::new(1) };
    assert_eq!(open(&world, &mut unverified, &handle).await.status, 401);
    assert_eq!(open(&world, &mut authenticator, &[7; 16]).await.status, 401);

    // An answer counts once, and only for its own challenge.
    let (ceremony, options) = begin(&world, "", "/api/v1/session/passkey-challenge").await;
    let (other, _) = begin(&world, "", "/api/v1/session/passkey-challenge").await;
    let answer = authenticator.get(&options, &handle);
    let send = async |ceremony: &Value| {
        let body = json!({ "ceremony": ceremony, "answer": answer });
        world.ask("", "POST", "/api/v1/session/passkey", Some(body)).await.status.as_u16()
    };
    assert_eq!(send(&other).await, 401);
    assert_eq!(send(&ceremony).await, 201);
    assert_eq!(send(&ceremony).await, 422);

    // A copy of the authenticator falls behind the counter.
    secret(&open(&world, &mut authenticator, &handle).await);
    let mut copy = Authenticator { counter: 1, ..Authenticator::new(1) };
    assert_eq!(open(&world, &mut copy, &handle).await.status, 401);
    secret(&open(&world, &mut authenticator, &handle).await);
}
