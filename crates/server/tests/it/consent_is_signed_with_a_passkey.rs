//! A tenant answers a plan with a passkey: all the way, and each way that leads nowhere.

use crate::support::authenticator::Authenticator;
use crate::support::{self, Answer, PASSWORD, World};
use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::{
    Action, Draft, FileHash, Item, PASSKEY_TOLERANCE, Plan, Rollback, Stage, Window,
};
use domain::cloud::{CiId, Class, Duty, Role, TenantId};
use jiff::SignedDuration;
use ledger::passkey::{PasskeyKey, Site};
use serde_json::{Value, json};
use store::{ChangeStep, Environment as _, Labels, Move, NewCi, Outcome, PageRequest};

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// A tenant that was told of a plan, and its owner in a session with a passkey.
struct Case {
    world: World,
    tenant: TenantId,
    ci: CiId,
    change: domain::cloud::ChangeId,
    owner: String,
    authenticator: Authenticator,
    /// Of the owner's passkey, as the account tells it.
    passkey: Value,
}

fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        Outcome::Refused { reason, .. } => panic!("{reason}"),
    }
}

/// Somebody of a tenant, signed in.
async fn person(world: &World, tenant: TenantId, login: &str, role: Role) -> String {
    let new =
        world.app.person(tenant, login.parse().unwrap(), login.parse().unwrap(), role, PASSWORD);
    world.store.create_user(&store::Actor::System, None, new.unwrap()).await.unwrap();
    let body = json!({ "login": login, "password": PASSWORD });
    let answer = world.ask("", "POST", "/api/v1/session", Some(body)).await;
    answer.json()["secret"].as_str().unwrap().to_owned()
}

impl Case {
    /// The owner has a passkey, and the tenant no key yet.
    async fn unregistered(authenticator: Authenticator) -> Self {
        let world = World::new().await;
        let tenant = world.tenant("a").await;
        let owner = person(&world, tenant, "olga", Role::TenantOwner).await;
        let passkey = authenticator.add_to(&world, &owner).await;
        let (name, labels) = ("web".parse().unwrap(), Labels::new());
        let new = NewCi { tenant, class: Class::Vm, name, labels };
        let ci = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
        let body = Some(json!({ "osv": support::osv("X-1", "web", "2") }));
        let brought = world.ask(&owner, "POST", "/api/v1/advisories", body).await;
        assert_eq!(brought.status, 201, "{}", brought.text);
        world.observe(ci, tenant, &[("web", "1")]).await;
        world.check_fleet().await;
        world.open_obligations(100).await;
        let all = PageRequest { after: None, limit: 10 };
        let change = world.store.changes(&world.admin, &all).await.unwrap().items.remove(0);
        let change = change.change.id;
        for step in [ChangeStep::Prove, ChangeStep::Pass(FileHash::from([3; 32]))] {
            done(world.store.step_change(&world.admin, change, step).await.unwrap());
        }
        let case = Self { world, tenant, ci, change, owner, authenticator, passkey };
        case.wake().await;
        case.plan(None).await;
        case
    }

    /// The owner's passkey is the tenant's key.
    async fn new() -> Self {
        Self::of(Authenticator::p256(1)).await
    }

    async fn of(authenticator: Authenticator) -> Self {
        let case = Self::unregistered(authenticator).await;
        let registered = case.register(&case.owner, &case.passkey).await;
        assert_eq!(registered.status, 201, "{}", registered.text);
        case
    }

    async fn wake(&self) {
        while self.world.store.wake_obligations(100).await.unwrap().0 > 0 {}
    }

    /// Plans, and tells the tenant.
    async fn plan(&self, parent: Option<&Plan>) -> Plan {
        let from = self.world.clock.now() + DAY * 10;
        let item = Item {
            ci: self.ci,
            duty: Duty::Tenant,
            actions: vec![Action::Reboot],
            rollback: Rollback::Snapshot,
        };
        let plan = Plan::new(Draft {
            change: self.change,
            tenant: self.tenant,
            generation: parent.map_or(0, |it| it.draft().generation + 1),
            parent: parent.map(Plan::hash),
            stages: vec![Stage { window: Window { from, until: from + DAY }, items: vec![item] }],
        })
        .unwrap();
        let action = Move::Plan { plan: plan.clone(), two_persons_above: 9 };
        let advanced =
            self.world.store.advance(&self.world.admin, self.change, self.tenant, action);
        done(advanced.await.unwrap());
        while self.world.notices.step().await.unwrap() {}
        plan
    }

    fn path(&self) -> String {
        format!("/api/v1/obligations/{}/{}", self.change, self.tenant)
    }

    async fn obligation(&self) -> Value {
        self.world.ask(&self.owner, "GET", &self.path(), None).await.json()
    }

    async fn in_force(&self) -> Value {
        self.obligation().await["share"]["plan"].clone()
    }

    async fn register(&self, session: &str, passkey: &Value) -> Answer {
        let path = format!("/api/v1/keys/{}/passkey", self.tenant);
        let body = json!({ "passkey": passkey["id"] });
        self.world.ask(session, "POST", &path, Some(body)).await
    }

    async fn begin(&self, session: &str, decision: Value) -> Answer {
        let body = json!({ "plan": self.in_force().await, "decision": decision });
        let path = format!("{}/answer/passkey", self.path());
        self.world.ask(session, "POST", &path, Some(body)).await
    }

    /// What the owner's passkey signs.
    async fn approval(&mut self) -> Value {
        let begun = self.begin(&self.owner, json!({ "is": "approve" })).await;
        assert_eq!(begun.status, 200, "{}", begun.text);
        self.authenticator.sign_statement(&begun.json())
    }

    async fn answer(&self, session: &str, envelope: &Value) -> Answer {
        let path = format!("{}/answer", self.path());
        self.world.ask(session, "POST", &path, Some(envelope.clone())).await
    }

    async fn consents(&self) -> Vec<Value> {
        let path = format!("{}/consents", self.path());
        let list = self.world.ask(&self.owner, "GET", &path, None).await.json();
        list.as_array().unwrap().clone()
    }

    async fn is_refused(&self, session: &str, envelope: &Value, why: &str) {
        let answer = self.answer(session, envelope).await;
        assert_eq!(answer.status, 422, "{}", answer.text);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(why), "{detail}, not {why}");
        assert_eq!(self.obligation().await["share"]["phase"]["is"], "notified");
    }
}

#[tokio::test]
async fn with_a_passkey_a_plan_is_agreed_to_and_starts() {
    for authenticator in [Authenticator::p256(1), Authenticator::new(1)] {
        let mut case = Case::of(authenticator).await;
        let keys = format!("/api/v1/keys/{}", case.tenant);
        let keys = case.world.ask(&case.owner, "GET", &keys, None).await.json();
        assert_eq!((&keys[0]["kind"], &keys[0]["label"]), (&json!("passkey"), &json!("key ring")));
        assert_eq!(keys[0]["id"], case.passkey["key"]);

        let envelope = case.approval().await;
        let answered = case.answer(&case.owner, &envelope).await;

        assert_eq!(answered.status, 200, "{}", answered.text);
        let phase = &answered.json()["share"]["phase"];
        assert!(["approved", "scheduled"].contains(&phase["is"].as_str().unwrap()), "{phase}");
        let kept = &case.consents().await[0];
        assert_eq!((&kept["decision"], &kept["key"]), (&json!("approve"), &keys[0]["id"]));
        assert_eq!(kept["envelope"], envelope);

        // Whoever has the public key alone.
        let key: PasskeyKey = keys[0]["pem"].as_str().unwrap().parse().unwrap();
        let sites = [Site::at("http://localhost:7878").unwrap()];
        let opened = ledger::passkey::open(kept["envelope"].to_string().as_bytes(), &[key], &sites);
        let statement: Value = serde_json::from_slice(&opened.unwrap().payload).unwrap();
        assert_eq!(statement["predicate"]["plan"], kept["plan"]);
        assert_eq!(statement["predicate"]["decision"]["is"], "approve");

        case.world.clock.pass(DAY * 10 + SignedDuration::from_mins(1));
        case.wake().await;
        let matter = case.world.store.matter(&case.world.admin, case.change, case.tenant).await;
        let obligation = matter.unwrap().obligation;
        assert_eq!(obligation.phase(), "rolling_out");
    }
}

#[tokio::test]
async fn what_is_asked_for_is_what_is_signed() {
    let case = Case::new().await;
    let until = (case.world.clock.now() + DAY).to_string();
    let acceptance = json!({ "reason": "quarter-end", "risk_owner": "J. Doe", "expiry": until });
    let later = json!({ "is": "defer", "until": until, "acceptance": acceptance });

    let begun = case.begin(&case.owner, later).await;

    assert_eq!(begun.status, 200, "{}", begun.text);
    let begun = begun.json();
    let payload = BASE64_STANDARD.decode(begun["payload"].as_str().unwrap()).unwrap();
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(statement["predicateType"], "urn:patchwright:consent:v1");
    assert_eq!(statement["predicate"]["plan"], case.in_force().await);
    assert_eq!(statement["predicate"]["decision"]["acceptance"]["risk_owner"], "J. Doe");
    let options = &begun["options"];
    assert_eq!(
        (&options["rpId"], &options["userVerification"]),
        (&json!("localhost"), &json!("required"))
    );
    assert_eq!(options["allowCredentials"].as_array().unwrap().len(), 1);
    assert_eq!(options["allowCredentials"][0]["id"], begun["keys"][0]["credential"]);

    let past = json!({ "is": "defer", "until": "2020-01-01T00:00:00Z", "acceptance": acceptance });
    assert_eq!(case.begin(&case.owner, past).await.status, 422);
    let body = json!({ "plan": "07".repeat(32), "decision": { "is": "approve" } });
    let path = format!("{}/answer/passkey", case.path());
    let other = case.world.ask(&case.owner, "POST", &path, Some(body)).await;
    assert_eq!(other.status, 422, "{}", other.text);
}

#[tokio::test]
async fn another_persons_passkey_is_not_ones_own() {
    let mut case = Case::new().await;
    let anna = person(&case.world, case.tenant, "anna", Role::TenantApprover).await;
    let mut hers = Authenticator::p256(2);
    let passkey = hers.add_to(&case.world, &anna).await;
    let approve = json!({ "is": "approve" });

    // Hers is no key yet, and she cannot make it one; nor can the owner register a second one.
    let none = case.begin(&anna, approve.clone()).await;
    assert!(none.text.contains("none of your passkeys is a key"), "{}", none.text);
    assert_eq!(case.register(&anna, &passkey).await.status, 403);
    assert_eq!(case.register(&case.owner, &passkey).await.status, 404, "it is not hers");
    // The owner's assertion does not count in her session.
    let envelope = case.approval().await;
    case.is_refused(&anna, &envelope, "another person's").await;
    // Hers, under the name of the owner's key.
    let begun = case.begin(&case.owner, approve.clone()).await.json();
    hers.credential = case.authenticator.credential;
    let forged = hers.sign_statement(&begun);
    case.is_refused(&case.owner, &forged, "did not sign this").await;
    hers.credential = [2; 32];

    // An order that the owner's passkey signs makes hers a key.
    let session = case.world.ask(&anna, "GET", "/api/v1/session", None).await.json();
    let key = json!({ "id": passkey["key"], "kind": "passkey", "holder": session["user"] });
    let body = json!({ "order": { "do": "add", "key": key } });
    let orders = format!("/api/v1/keys/{}/orders", case.tenant);
    let path = format!("{orders}/passkey");
    let begun = case.world.ask(&case.owner, "POST", &path, Some(body)).await;
    assert_eq!(begun.status, 200, "{}", begun.text);
    let envelope = case.authenticator.sign_statement(&begun.json());
    let order = |pem: &Value| json!({ "envelope": envelope, "public_key": pem, "label": "Anna's" });
    let wrong = Some(order(&case.passkey["public_key"]));
    assert_eq!(case.world.ask(&case.owner, "POST", &orders, wrong).await.status, 400);
    let right = order(&passkey["public_key"]);
    let ordered = case.world.ask(&case.owner, "POST", &orders, Some(right.clone())).await;
    assert_eq!(ordered.status, 200, "{}", ordered.text);
    assert_eq!(ordered.json().as_array().unwrap().len(), 2);
    let again = case.world.ask(&case.owner, "POST", &orders, Some(right)).await;
    assert_eq!(again.status, 422, "{}", again.text);

    let begun = case.begin(&anna, approve).await.json();
    let envelope = hers.sign_statement(&begun);
    case.is_refused(&case.owner, &envelope, "another person's").await;
    let answered = case.answer(&anna, &envelope).await;
    assert_eq!(answered.status, 200, "{}", answered.text);
}

#[tokio::test]
async fn an_assertion_is_for_its_plan_its_moment_and_one_time() {
    let mut case = Case::new().await;
    let hash = case.in_force().await.as_str().unwrap().parse().unwrap();
    let parent = case.world.store.plan(&case.world.admin, hash).await.unwrap();

    // The plan is another one by the time that the answer comes.
    let early = case.approval().await;
    case.plan(Some(&parent)).await;
    case.is_refused(&case.owner, &early, "plan").await;
    // The answer was kept back.
    let kept_back = case.approval().await;
    case.world.clock.pass(PASSKEY_TOLERANCE + SignedDuration::from_secs(1));
    case.is_refused(&case.owner, &kept_back, "made up at").await;
    // One byte of what it says.
    let mut altered = case.approval().await;
    let payload = BASE64_STANDARD.decode(altered["payload"].as_str().unwrap()).unwrap();
    let text = String::from_utf8(payload).unwrap().replace("approve", "refuse!");
    altered["payload"] = BASE64_STANDARD.encode(text).into();
    case.is_refused(&case.owner, &altered, "the challenge is").await;
    // As a DSSE envelope.
    let mut other = case.approval().await;
    other["signatures"] = json!([{ "sig": other["assertion"]["signature"] }]);
    case.is_refused(&case.owner, &other, "no envelope").await;
    other.as_object_mut().unwrap().remove("assertion");
    case.is_refused(&case.owner, &other, "trusted keys signed").await;
    assert_eq!(case.consents().await.len(), 0);

    let envelope = case.approval().await;
    assert_eq!(case.answer(&case.owner, &envelope).await.status, 200);
    let again = case.answer(&case.owner, &envelope).await;
    assert_eq!(again.status, 422, "{}", again.text);
    assert!(again.text.contains("came in before"), "{}", again.text);
    assert_eq!(case.consents().await.len(), 1);
}

#[tokio::test]
async fn an_assertion_is_made_here_by_somebody_who_was_verified() {
    let mut case = Case::new().await;
    let begun = case.begin(&case.owner, json!({ "is": "approve" })).await.json();

    case.authenticator.flags = 0b001;
    let envelope = case.authenticator.sign_statement(&begun);
    case.is_refused(&case.owner, &envelope, "verified its user").await;
    case.authenticator.flags = 0b101;
    case.authenticator.origin = "http://evil.example";
    let envelope = case.authenticator.sign_statement(&begun);
    case.is_refused(&case.owner, &envelope, "signed at http://evil.example").await;
    case.authenticator.origin = support::authenticator::ORIGIN;

    // A revoked key signs nothing.
    let envelope = case.authenticator.sign_statement(&begun);
    let key = case.passkey["key"].as_str().unwrap();
    let path = format!("/api/v1/keys/{}/{key}", case.tenant);
    assert_eq!(case.world.ask(&case.owner, "DELETE", &path, None).await.status, 200);
    case.is_refused(&case.owner, &envelope, "was revoked").await;
    let none = case.begin(&case.owner, json!({ "is": "approve" })).await;
    assert_eq!(none.status, 422, "{}", none.text);
}

#[tokio::test]
async fn the_page_says_what_is_signed_and_offers_it_to_whoever_may() {
    let case = Case::unregistered(Authenticator::p256(1)).await;
    let page = async |session: &str| {
        let request = Request::builder()
            .uri(format!("/obligations/{}/{}", case.change, case.tenant))
            .header("cookie", format!("patchwright_session={session}"));
        let answer = case.world.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.text
    };
    let plan = case.in_force().await.as_str().unwrap().to_owned();

    let first = page(&case.owner).await;
    assert!(first.contains(&plan) && first.contains("restarts the system"), "{first}");
    assert!(first.contains("data-passkey=\"key\"") && !first.contains("data-passkey=\"consent\""));
    assert_eq!(case.register(&case.owner, &case.passkey).await.status, 201);
    let ready = page(&case.owner).await;
    assert!(ready.contains("Your passkey signs one statement"), "{ready}");
    for is in ["approve", "defer", "refuse"] {
        assert!(ready.contains(&format!("name=\"is\" value=\"{is}\"")), "{is}");
    }
    let viewer = person(&case.world, case.tenant, "vera", Role::TenantViewer).await;
    let looks = page(&viewer).await;
    assert!(looks.contains(&plan) && !looks.contains("data-passkey"), "{looks}");
    let anna = person(&case.world, case.tenant, "anna", Role::TenantApprover).await;
    assert!(page(&anna).await.contains("You have no passkey yet"));
    let other = case.world.tenant("b").await;
    let stranger = person(&case.world, other, "bob", Role::TenantOwner).await;
    let request = Request::builder()
        .uri(format!("/obligations/{}/{}", case.change, case.tenant))
        .header("cookie", format!("patchwright_session={stranger}"));
    let answer = case.world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, 404);
}
