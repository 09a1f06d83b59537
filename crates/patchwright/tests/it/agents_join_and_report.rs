//! Agents over real TLS: joining, reporting, and what a copy, a replay or a stranger meets.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::up::{self, Up};
use serde_json::{Value, json};

const PROVIDER: &str = "ten_00000000000000000000000000";
const PROXY: [&str; 2] = ["--agents-behind-proxy", "127.0.0.1:0"];

/// A control plane with somebody who may ask.
struct Plane {
    up: Up,
    token: String,
}

impl Plane {
    fn start(data: &Path) -> Self {
        let up = Up::start_with(data, &PROXY, &[]).unwrap();
        let token = up.sign_in();
        Self { up, token }
    }

    fn get(&self, path: &str) -> Value {
        let (status, answer) = self.up.ask(&self.token, "GET", path, &Value::Null, "").unwrap();
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// The text with which a host joins.
    fn join_token(&self, more: &Value) -> String {
        let mut body = json!({ "tenant": PROVIDER });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let (status, answer) =
            self.up.ask(&self.token, "POST", "/agent-tokens", &body, "").unwrap();
        assert_eq!(status, 201, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// Sends what an agent would, as a proxy passes it on.
    fn proxied(&self, key: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder().http_status_as_error(false).build(),
        );
        let address = format!("{}/agent/v1/{path}", self.up.proxy.as_ref().unwrap());
        let request = match method {
            "PUT" => agent.put(address),
            _ => agent.post(address),
        };
        let mut response = request
            .header("content-type", "application/json")
            .header("x-patchwright-agent-key", key)
            .send(body.to_string())
            .unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        (response.status().as_u16(), serde_json::from_str(&text).unwrap_or_default())
    }
}

fn agent(arguments: &[&str], state: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .arg("agent")
        .args(arguments)
        .arg("--state")
        .arg(state)
        .output()
        .unwrap()
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A Debian system with one package, small enough to be looked at at once.
fn root(directory: &Path, version: &str) -> PathBuf {
    let root = directory.join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    fs::write(
        root.join("etc/os-release"),
        "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n",
    )
    .unwrap();
    let package = |name: &str, version: &str| {
        format!(
            "Package: {name}\nStatus: install ok installed\nArchitecture: amd64\n\
             Version: {version}\nDescription: x\n\n"
        )
    };
    let status = package("dpkg", "1.21.22") + &package("web", version);
    fs::write(root.join("var/lib/dpkg/status"), status).unwrap();
    root
}

#[test]
fn a_host_joins_once_reports_and_is_checked() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start(&directory.path().join("data"));
    let state = directory.path().join("state");
    let token = plane.join_token(&json!({ "labels": { "env": "test" } }));

    let early = agent(&["run", "--once"], &state);
    assert!(told(&early).contains("has not joined"), "{}", told(&early));
    let joined = agent(&["join", &plane.up.agents, "--token", &token, "--name", "web-1"], &state);
    assert!(joined.status.success(), "{}", told(&joined));
    let again = agent(&["join", &plane.up.agents, "--token", &token], &directory.path().join("2"));
    assert!(told(&again).contains("unknown, spent or expired"), "{}", told(&again));

    let root = root(directory.path(), "1.0");
    let run = |root: &Path| agent(&["run", "--once", "--root", root.to_str().unwrap()], &state);
    let first = run(&root);
    assert!(first.status.success(), "{}", told(&first));
    let ci = plane.get("/cis?name=web-1")["items"][0].clone();
    assert_eq!((&ci["class"], &ci["labels"]["env"]), (&json!("vm"), &json!("test")));
    let facts = plane.get(&format!("/cis/{}/facts", ci["id"].as_str().unwrap()));
    assert!(facts["facts"]["host_name"].is_string());
    let agents = plane.get("/agents");
    assert_eq!(agents["items"][0]["state"], "active");
    assert_eq!(agents["items"][0]["ci"], ci["id"]);

    // An upgrade: a difference is enough, and it is the set that the host has.
    fs::write(
        root.join("var/lib/dpkg/status"),
        fs::read_to_string(root.join("var/lib/dpkg/status")).unwrap().replace("1.0", "1.1"),
    )
    .unwrap();
    let second = run(&root);
    assert!(second.status.success(), "{}", told(&second));
    let third = run(&root);
    assert!(third.status.success(), "{}", told(&third));
    let key = plane.up.key.clone();
    let data = directory.path().join("data");
    assert!(plane.up.end("-TERM"));
    let plane = Plane::start(&data);
    let observed = events(&plane, "ci.observed");
    assert_eq!(observed, 2, "one for each set; the third report brought nothing new");
    assert_eq!(events(&plane, "agent.joined"), 1);
    up::verify(&data, &key, &directory.path().join("kept"), false);

    // After an orderly end or a crash alike it is known again.
    let fourth = run(&root);
    assert!(told(&fourth).contains("cannot talk to"), "the port is another: {}", told(&fourth));
}

fn events(plane: &Plane, kind: &str) -> usize {
    // What was told last is published within a second; an orderly start has published all before.
    let events = plane.get("/events?limit=1000");
    events["items"].as_array().unwrap().iter().filter(|event| event["kind"] == kind).count()
}

#[test]
fn strangers_are_not_let_in() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start(&directory.path().join("one"));
    let other = Plane::start(&directory.path().join("other"));
    let state = directory.path().join("state");
    let root = root(directory.path(), "1.0");
    let run = || agent(&["run", "--once", "--root", root.to_str().unwrap()], &state);

    // Whom an agent believes comes with the token: another control plane cannot speak for this one.
    let token = plane.join_token(&json!({}));
    let elsewhere = agent(&["join", &other.up.agents, "--token", &token], &state);
    assert!(told(&elsewhere).contains("cannot talk to"), "{}", told(&elsewhere));
    assert!(agent(&["join", &plane.up.agents, "--token", &token], &state).status.success());

    // A certificate of another authority does not even get through the handshake.
    let identity = state.join("identity.json");
    let own = fs::read_to_string(&identity).unwrap();
    let theirs = directory.path().join("theirs");
    let token = other.join_token(&json!({}));
    assert!(agent(&["join", &other.up.agents, "--token", &token], &theirs).status.success());
    let foreign: Value =
        serde_json::from_str(&fs::read_to_string(theirs.join("identity.json")).unwrap()).unwrap();
    let mut mixed: Value = serde_json::from_str(&own).unwrap();
    mixed["certificate"] = foreign["certificate"].clone();
    fs::write(&identity, mixed.to_string()).unwrap();
    let key = fs::read(state.join("key.pem")).unwrap();
    fs::copy(theirs.join("key.pem"), state.join("key.pem")).unwrap();
    let refused = run();
    assert!(told(&refused).contains("cannot talk to"), "{}", told(&refused));
    fs::write(state.join("key.pem"), key).unwrap();
    fs::write(&identity, own).unwrap();
    assert!(run().status.success());

    // Ended at once.
    let id = plane.get("/agents")["items"][0]["id"].as_str().unwrap().to_owned();
    let client = ureq::Agent::new_with_defaults();
    let ended = client
        .delete(format!("{}/api/v1/agents/{id}", plane.up.console))
        .header("authorization", format!("Bearer {}", plane.token))
        .call()
        .unwrap();
    assert_eq!(ended.status(), 200);
    let refused = run();
    assert!(told(&refused).contains("no agent that is believed"), "{}", told(&refused));

    // No certificate at all, or the key of nobody.
    let report = report(1, "a");
    assert_eq!(plane.proxied("", "POST", "report", &report).0, 401);
    assert_eq!(plane.proxied(&"0".repeat(64), "POST", "report", &report).0, 401);
}

fn report(counter: u64, set: &str) -> Value {
    json!({
        "counter": counter, "package_set": set.repeat(64), "facts": "f".repeat(64),
        "observed_at": jiff::Timestamp::now(),
    })
}

/// An agent that joined, by its key.
fn joined(plane: &Plane, state: &Path) -> String {
    let token = plane.join_token(&json!({}));
    let name = state.file_name().unwrap().to_str().unwrap();
    let joined = agent(&["join", &plane.up.agents, "--token", &token, "--name", name], state);
    assert!(joined.status.success(), "{}", told(&joined));
    let identity: Value =
        serde_json::from_str(&fs::read_to_string(state.join("identity.json")).unwrap()).unwrap();
    let id = identity["agent"].as_str().unwrap();
    plane.get(&format!("/agents/{id}"))["key_sha256"].as_str().unwrap().to_owned()
}

#[test]
fn a_copy_of_an_agent_is_found_out_and_neither_is_believed() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start(&directory.path().join("data"));
    let state = directory.path().join("host");
    let key = joined(&plane, &state);
    let send = |report: &Value| plane.proxied(&key, "POST", "report", report).0;

    let (first, second) = (report(1, "a"), report(2, "a"));
    assert_eq!(send(&first), 200);
    assert_eq!(send(&first), 200, "the answer was lost: the same report has the same answer");
    assert_eq!(send(&second), 200);
    // The copy goes on from where it was copied.
    let copy = report(2, "b");
    assert_eq!(send(&copy), 409);
    // From now on neither is believed, however far it counts.
    assert_eq!([send(&report(3, "a")), send(&report(90, "b"))], [409, 409]);
    let agents = plane.get("/agents");
    assert_eq!(agents["items"][0]["state"], "quarantined");

    // Somebody lets the host join again for the same item: one conflict is on record.
    let ci = agents["items"][0]["ci"].clone();
    let token = plane.join_token(&json!({ "ci": ci }));
    assert!(agent(&["join", &plane.up.agents, "--token", &token], &state).status.success());
    let agents = plane.get("/agents");
    let states: Vec<_> =
        agents["items"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, ["replaced", "active"]);
    assert_eq!(send(&report(100, "a")), 401);
}

#[test]
fn replays_and_odd_clocks_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let plane = Plane::start(&directory.path().join("data"));
    let key = joined(&plane, &directory.path().join("one"));
    let other = joined(&plane, &directory.path().join("two"));
    let send = |key: &str, report: &Value| plane.proxied(key, "POST", "report", report);

    for years in [-10, 10] {
        let mut odd = report(1, "a");
        let off = jiff::SignedDuration::from_hours(years * 365 * 24);
        odd["observed_at"] = json!(jiff::Timestamp::now() + off);
        let (status, problem) = send(&key, &odd);
        assert_eq!(status, 409);
        assert!(problem["help"].as_str().unwrap().contains("clock"), "{problem}");
    }
    // It did not count: the agent goes on where it was.
    let (status, answer) = send(&key, &report(1, "a"));
    assert_eq!((status, &answer["need"]), (200, &json!(["package_set", "facts"])));
    // What another one needs is its own business.
    let (status, answer) = send(&other, &report(1, "a"));
    assert_eq!((status, &answer["need"]), (200, &json!(["package_set", "facts"])));
    for odd in [json!({}), json!({ "counter": -1 }), json!([]), json!({ "x": 1 })] {
        assert_eq!(send(&key, &odd).0, 400, "{odd}");
    }
    let (status, _) = plane.proxied(&key, "PUT", "package-set", &json!({ "x": 1 }));
    assert_eq!(status, 400);
    let delta = json!({
        "base": "a".repeat(64), "result": "b".repeat(64), "removed": [], "added": [],
        "installed_kernels": [],
    });
    let (status, problem) = plane.proxied(&key, "POST", "package-set/delta", &delta);
    assert_eq!(status, 409, "{problem}");
}

#[test]
fn a_crash_of_the_server_makes_no_honest_agent_a_copy() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let plane = Plane::start(&data);
    let key = joined(&plane, &directory.path().join("host"));
    let send = |plane: &Plane, report: &Value| plane.proxied(&key, "POST", "report", report).0;
    for counter in 1..=20 {
        assert_eq!(send(&plane, &report(counter, "a")), 200);
    }
    let last = report(21, "a");
    assert_eq!(send(&plane, &last), 200);
    plane.up.end("-KILL");

    let plane = Plane::start(&data);
    // Its last answer may have been lost as well.
    assert_eq!(send(&plane, &last), 200);
    assert_eq!(send(&plane, &report(22, "a")), 200);
    assert!(plane.up.end("-TERM"));

    // An orderly end forgets nothing: what came before is known to be old.
    let plane = Plane::start(&data);
    assert_eq!(send(&plane, &report(22, "b")), 409);
}

#[test]
fn a_report_without_news_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let plane = Plane::start(&data);
    let key = joined(&plane, &directory.path().join("host"));
    assert_eq!(plane.proxied(&key, "POST", "report", &report(1, "a")).0, 200);
    let size = || {
        let mut sizes = Vec::new();
        for name in ["patchwright.db", "patchwright.db-wal"] {
            let file = fs::metadata(data.join(name)).unwrap();
            sizes.push((file.len(), file.modified().unwrap()));
        }
        sizes
    };
    // Leases are renewed all the time: only the number of records tells.
    let before = (plane.get("/agents"), plane.get("/ledger"));
    for counter in 2..=50 {
        assert_eq!(plane.proxied(&key, "POST", "report", &report(counter, "a")).0, 200);
    }
    let after = (plane.get("/agents"), plane.get("/ledger"));
    assert_eq!(before.0["items"][0]["seen_at"], after.0["items"][0]["seen_at"]);
    assert_eq!(before.1["size"], after.1["size"]);
    assert_eq!(size().len(), 2);
}
