//! Devices through the API, and what comes of looks at them in the history.

use std::sync::{Arc, Mutex};

use devices::{Credential, Document, HostKey, Look, LookError, Model, Refused, Target};
use domain::cloud::{Access, CiId, EventKind, PROVIDER, Role};
use domain::configuration::secret::FingerprintKey;
use domain::device::HostKeyFingerprint;
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::{Eyes, Looking, Observers};
use store::{Actor, Environment as _, FilePath, History, Labels, NewCi, ObjectDirectory, Past};

use crate::support::World;

const SHOWN: &str = "SHA256:bLknzLbwa54SRvK9JZX2XQTBIL42i7D6voyfzrQMEG8";
const OTHER: &str = "SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8";
const PASSWORD: &str = "c4nary-of-the-0bserver";

/// A device that says what it is told to.
#[derive(Debug)]
struct Told {
    /// Path and text of what it answers; none where nobody answers.
    answers: Mutex<Option<Vec<(String, String)>>>,
    shown: Mutex<HostKeyFingerprint>,
    targets: Mutex<Vec<Target>>,
}

impl Told {
    fn new() -> Arc<Self> {
        let (answers, targets) = (Mutex::default(), Mutex::default());
        Arc::new(Self { answers, shown: Mutex::new(SHOWN.parse().unwrap()), targets })
    }

    fn says(&self, answers: &[(&str, &str)]) {
        let answers = answers.iter().map(|(path, text)| ((*path).into(), (*text).into()));
        *self.answers.lock().unwrap() = Some(answers.collect());
    }
}

impl Eyes for Told {
    fn look<'a>(
        &'a self,
        _: &'static Model,
        target: &'a Target,
        key: &'a FingerprintKey,
    ) -> Looking<'a> {
        self.targets.lock().unwrap().push(target.clone());
        let shown = self.shown.lock().unwrap().clone();
        let answers = self.answers.lock().unwrap().clone();
        Box::pin(async move {
            if let HostKey::Pinned(pinned) = &target.host_key
                && *pinned != shown
            {
                return Err(LookError::KeyDiffers { pinned: pinned.clone(), offered: shown });
            }
            let answers = answers.ok_or_else(|| LookError::Unreachable {
                address: target.address.clone(),
                port: target.port,
                reason: "nobody is there".to_owned(),
            })?;
            let documents =
                answers.iter().map(|(path, text)| Document::new(path, text, key)).collect();
            let refused = vec![Refused { path: "/version".into(), because: "not told".into() }];
            Ok(Look { host_key: shown, documents, refused })
        })
    }
}

struct Case {
    world: World,
    ci: CiId,
    token: String,
    told: Arc<Told>,
    observers: Observers,
    history: History,
}

impl Case {
    async fn new() -> Self {
        let world = World::new().await;
        let tenant = world.tenant("acme").await;
        let class = domain::cloud::Class::Vm;
        let new = NewCi { tenant, class, name: "edge-1".parse().unwrap(), labels: Labels::new() };
        let ci = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
        let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
        let objects = ObjectDirectory::open(world.directory.path().join("history")).unwrap();
        let history = world.store.history(Arc::clone(&world.master), Arc::new(objects));
        let vault = store::Vault::new(&world.store.key(&world.master, "factors").await.unwrap());
        let told = Told::new();
        let observers = Observers::open(
            world.store.clone(),
            &world.master,
            vault,
            history.clone(),
            Arc::clone(&told) as Arc<dyn Eyes>,
            (reach::Reach::public(), Arc::clone(&world.lab), world.shelf.clone()),
        );
        let observers = observers.await.unwrap();
        Self { world, ci, token, told, observers, history }
    }

    async fn ask(&self, method: &str, below: &str, body: Option<Value>) -> (u16, Value) {
        let path = format!("/api/v1/cis/{}/device{below}", self.ci);
        let answer = self.world.ask(&self.token, method, &path, body).await;
        let body = if answer.text.is_empty() { Value::Null } else { answer.json() };
        assert!(!answer.text.contains(PASSWORD), "{}", answer.text);
        (answer.status.as_u16(), body)
    }

    async fn set(&self, alter: Value) -> (u16, Value) {
        let mut body = json!({
            "model": "ios", "address": "192.0.2.7", "user": "observer", "password": PASSWORD,
            "host_key": SHOWN,
        });
        for (name, value) in alter.as_object().unwrap() {
            body[name] = value.clone();
        }
        self.ask("PUT", "", Some(body)).await
    }

    /// Looks once, after so long.
    async fn look(&self, after: SignedDuration) {
        self.world.clock.pass(after);
        self.observers.step().await.unwrap();
    }

    async fn state(&self) -> Value {
        self.ask("GET", "", None).await.1
    }

    async fn versions(&self, path: &str) -> usize {
        let path = FilePath::new(path).unwrap();
        self.history.versions(&Actor::System, self.ci, &path).await.unwrap().versions.len()
    }

    async fn content(&self, path: &str) -> Option<String> {
        let (path, now) = (FilePath::new(path).unwrap(), self.world.clock.now());
        let found = self.history.file_at(&Actor::System, self.ci, &path, now).await.unwrap();
        let Past::Kept(found) = found else { panic!("{found:?}") };
        found?.content.map(|bytes| String::from_utf8(bytes).unwrap())
    }

    async fn events(&self, kind: EventKind) -> usize {
        self.world.recorder.finish().await.unwrap();
        let by = self.world.admin.clone();
        let events = self.world.store.events(&by, store::Retrieval::Events, 0, 10_000).await;
        events.unwrap().iter().filter(|event| event.kind == kind).count()
    }
}

const QUARTER: SignedDuration = SignedDuration::from_mins(15);

fn running(time: &str, preference: u32) -> String {
    format!(
        "! Last configuration change at {time} by bob\nhostname r1\n\
         neighbor 10.0.0.2 password 7 094F471A1A0A57\nset local-preference {preference}\nend\n"
    )
}

#[tokio::test]
async fn what_a_device_says_is_recorded_where_it_is_news() {
    let case = Case::new().await;
    let (status, set) = case.set(json!({})).await;
    assert_eq!((status, &set["state"]), (200, &json!("new")), "{set}");
    case.told.says(&[("/running-config", &running("10:11:12 UTC Mon Nov 30 2026", 100))]);
    case.look(SignedDuration::ZERO).await;

    let state = case.state().await;
    assert_eq!((&state["state"], &state["reason"]), (&json!("seen"), &json!("/version: not told")));
    let content = case.content("/running-config").await.unwrap();
    assert!(content.contains("10:11:12") && content.contains("password 7 <redacted:password:"));
    assert!(!content.contains("094F471A1A0A57"));

    // Only the clock goes on: that is no version, and what was recorded stays as it was.
    case.told.says(&[("/running-config", &running("10:26:12 UTC Mon Nov 30 2026", 100))]);
    case.look(QUARTER).await;
    assert_eq!(case.versions("/running-config").await, 1);
    assert_eq!(case.content("/running-config").await.unwrap(), content);

    case.told.says(&[("/running-config", &running("10:41:12 UTC Mon Nov 30 2026", 200))]);
    case.look(QUARTER).await;
    assert_eq!(case.versions("/running-config").await, 2);
    let content = case.content("/running-config").await.unwrap();
    assert!(content.contains("preference 200") && content.contains("10:41:12"), "{content}");
    assert_eq!(case.told.targets.lock().unwrap().len(), 3);
    case.look(SignedDuration::from_secs(1)).await;
    assert_eq!(case.told.targets.lock().unwrap().len(), 3, "it is not due");

    // Of another model it has other documents.
    let (status, _) = case.set(json!({ "model": "junos" })).await;
    assert_eq!(status, 200);
    case.told.says(&[("/configuration", "system { host-name r1; }\n")]);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.content("/running-config").await, None);
    assert!(case.content("/configuration").await.is_some());

    let target = case.told.targets.lock().unwrap()[0].clone();
    assert_eq!((target.port, target.user.as_str()), (22, "observer"));
    let Credential::Password(password) = &target.credential else { panic!("{target:?}") };
    assert_eq!(password.reveal(), PASSWORD);
    let (status, _) = case.ask("DELETE", "", None).await;
    assert_eq!(status, 204);
    assert_eq!(case.ask("GET", "", None).await.0, 404);
    assert!(case.content("/configuration").await.is_some(), "what was recorded stays");
}

#[tokio::test]
async fn who_does_not_answer_is_told_once_and_looked_at_again() {
    let case = Case::new().await;
    case.set(json!({})).await;
    for after in [SignedDuration::ZERO, QUARTER, QUARTER * 2] {
        case.look(after).await;
    }
    let state = case.state().await;
    assert_eq!((&state["state"], &state["failures"]), (&json!("unreachable"), &json!(3)));
    assert_eq!(state["reason"], "cannot connect to 192.0.2.7 port 22: nobody is there");
    assert_eq!(case.events(EventKind::DeviceUnreachable).await, 1);

    case.told.says(&[("/running-config", "end\n")]);
    let (status, _) = case.ask("POST", "/look", None).await;
    assert_eq!(status, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.state().await["state"], "seen");
    assert_eq!(case.events(EventKind::DeviceRecovered).await, 1);
}

#[tokio::test]
async fn another_host_key_is_loud_and_stops_everything() {
    let case = Case::new().await;
    case.told.says(&[("/running-config", "end\n")]);
    let (status, set) = case.set(json!({ "host_key": null, "trust_first_key": true })).await;
    assert_eq!((status, &set["host_key"]), (200, &Value::Null));
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.state().await["host_key"], SHOWN);

    *case.told.shown.lock().unwrap() = OTHER.parse().unwrap();
    case.look(QUARTER).await;
    let state = case.state().await;
    assert_eq!((&state["state"], &state["offered_key"]), (&json!("key_differs"), &json!(OTHER)));
    assert_eq!(case.events(EventKind::DeviceKeyDiffers).await, 1);
    let looks = case.told.targets.lock().unwrap().len();
    case.look(QUARTER * 1000).await;
    assert_eq!(case.told.targets.lock().unwrap().len(), looks);
    let token = case.world.token_of(&case.world.admin, Access::Write).await;
    let case = Case { token, ..case };
    assert_eq!(case.ask("POST", "/look", None).await.0, 422);

    // It really has another one: what opens it is given again with it.
    let (status, refused) = case.set(json!({ "host_key": OTHER, "password": null })).await;
    assert_eq!(status, 422, "{refused}");
    assert_eq!(case.set(json!({ "host_key": OTHER })).await.0, 200);
    case.look(SignedDuration::ZERO).await;
    assert_eq!(case.state().await["state"], "seen");
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_a_way_out() {
    let case = Case::new().await;
    for (alter, field) in [
        (json!({ "model": "toaster" }), "model"),
        (json!({ "host_key": "MD5:aa" }), "host_key"),
        (json!({ "trust_first_key": true }), "trust_first_key"),
        (json!({ "key": "x" }), "password"),
        (json!({ "password": null, "key": "x" }), "key"),
        (json!({ "password": "a\nb" }), "password"),
        (json!({ "enable": "a\nb" }), "enable"),
        (json!({ "password": null, "enable": "x" }), "enable"),
    ] {
        let (status, refused) = case.set(alter).await;
        assert_eq!(status, 400, "{refused}");
        assert!(refused["detail"].as_str().unwrap().starts_with(field), "{refused}");
    }
    for alter in [
        json!({ "address": "a b" }),
        json!({ "every_seconds": 1 }),
        json!({ "host_key": null }),
        json!({ "password": null }),
    ] {
        let (status, refused) = case.set(alter).await;
        assert_eq!(status, 422, "{refused}");
        assert!(refused["help"].is_string(), "{refused}");
    }
    assert_eq!(case.ask("GET", "", None).await.0, 404, "nothing was set");

    // The tenant sees how its item is looked at, and cannot say it.
    assert_eq!(case.set(json!({})).await.0, 200);
    let tenant = case.world.store.ci(&case.world.admin, case.ci).await.unwrap().tenant;
    let token = case.world.token(tenant, Role::TenantOwner, Access::Write).await;
    let case = Case { token, ..case };
    assert_eq!(case.ask("GET", "", None).await.0, 200);
    for (method, below) in [("PUT", ""), ("DELETE", ""), ("POST", "/look")] {
        assert_eq!(case.ask(method, below, Some(json!({}))).await.0, 403, "{method}");
    }
    let other = case.world.tenant("other").await;
    let token = case.world.token(other, Role::TenantOwner, Access::Read).await;
    let case = Case { token, ..case };
    assert_eq!(case.ask("GET", "", None).await.0, 404);
}

#[tokio::test]
async fn an_installation_keeps_what_opens_devices_sealed() {
    let case = Case::new().await;
    case.set(json!({ "enable": "c4nary-to-enable" })).await;
    case.told.says(&[("/running-config", "end\n")]);
    case.look(SignedDuration::ZERO).await;
    case.world.recorder.finish().await.unwrap();
    let mut found = Vec::new();
    let mut directories = vec![case.world.directory.path().to_owned()];
    let mut files = 0;
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            files += 1;
            let bytes = std::fs::read(&path).unwrap();
            if bytes.windows(6).any(|part| part == b"c4nary") {
                found.push(path);
            }
        }
    }
    assert!(files > 3, "{files}");
    assert!(found.is_empty(), "{found:?}");
}
