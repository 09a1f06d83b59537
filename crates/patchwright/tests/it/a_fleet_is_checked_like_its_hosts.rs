//! Real Debian roots whose agents report: the fleet check says of each what `patchwright check` says
//! of it, and that an upgrade fixed what it fixed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{AptInChroot, Mirror, Profile, check, copy_of, empty, report, run};
use crate::up::Up;
use scratch::Scratch;
use serde_json::{Value, json};

const BOOKWORM_MINIMAL: Profile = Profile {
    name: "bookworm-minimal",
    release: "bookworm",
    include: &["debian-archive-keyring"],
    architectures: "amd64",
};

/// How long the first check may take, which fetches what archives offer.
const PATIENCE: Duration = Duration::from_secs(300);

fn agent(arguments: &[&str], state: &Path) {
    run(Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .arg("agent")
        .args(arguments)
        .arg("--state")
        .arg(state));
}

struct Host<'a> {
    up: &'a Up,
    token: &'a str,
    state: Scratch,
    ci: String,
}

impl<'a> Host<'a> {
    fn join(up: &'a Up, token: &'a str, name: &str) -> Self {
        let state = empty(&format!("agent-{name}"));
        let body = json!({ "tenant": "ten_00000000000000000000000000" });
        let (_, made) = up.ask(token, "POST", "/agent-tokens", &body, "").unwrap();
        let secret = made["token"].as_str().unwrap();
        agent(&["join", &up.agents, "--token", secret, "--name", name], &state);
        let path = format!("/cis?name={name}");
        let (_, found) = up.ask(token, "GET", &path, &Value::Null, "").unwrap();
        let ci = found["items"][0]["id"].as_str().unwrap().to_owned();
        Self { up, token, state, ci }
    }

    fn report(&self, root: &Path) {
        agent(&["run", "--once", "--root", root.to_str().unwrap()], &self.state);
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.up.ask(self.token, "GET", path, &Value::Null, "").unwrap()
    }

    /// The check of what it reported last.
    fn checked(&self, is_it: impl Fn(&Value) -> bool) -> Value {
        let begin = Instant::now();
        loop {
            let (status, check) = self.get(&format!("/cis/{}/check", self.ci));
            if status == 200 && is_it(&check) {
                return check;
            }
            assert!(begin.elapsed() < PATIENCE, "{status} {check}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn findings(&self, state: &str) -> Vec<Value> {
        let (_, page) = self.get(&format!("/findings?limit=1000&ci={}&state={state}", self.ci));
        page["items"].as_array().unwrap().clone()
    }
}

/// What a report says, beside when and where it was made.
fn essence(report: &Value) -> Vec<(String, String, String, String, Value)> {
    let text = |it: &Value, field: &str| it[field].as_str().unwrap().to_owned();
    let mut all: Vec<_> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| {
            let package = format!("{}:{}", text(it, "package"), text(it, "architecture"));
            let versions = (text(it, "installed"), text(it, "candidate"));
            (package, versions.0, versions.1, text(it, "priority"), it["cves"].clone())
        })
        .collect();
    all.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
    all
}

#[test]
fn the_fleet_check_says_what_a_check_of_each_host_says() {
    let place = empty("fleet-data");
    let data = place.join("data");
    fs::create_dir_all(data.join("sources")).unwrap();
    let sources = Mirror::of_this_machine().sources("bookworm", false);
    let file = data.join("sources/debian-bookworm.sources");
    fs::write(&file, &sources).unwrap();
    let plain = BOOKWORM_MINIMAL.root();
    let pinned = copy_of(&plain, "fleet-pinned");
    let pins = "Package: *\nPin: release l=Debian-Security\nPin-Priority: -1\n";
    fs::create_dir_all(pinned.join("etc/apt/preferences.d")).unwrap();
    fs::write(pinned.join("etc/apt/preferences.d/test"), pins).unwrap();
    let up = Up::start(&data);
    let token = up.sign_in();

    for (name, root) in [("plain", &*plain), ("pinned", &*pinned)] {
        let host = Host::join(&up, &token, name);
        host.report(root);
        let by_fleet = host.checked(|_| true);
        let by_check = report(check(root).arg("--sources").arg(&file));
        assert_eq!(essence(&by_fleet), essence(&by_check), "{name}");
        assert_eq!(by_fleet["status"], by_check["status"], "{name}");
        assert_eq!(by_fleet["unknown"], by_check["unknown"], "{name}");
        assert_eq!(by_fleet["target"], name);
    }

    let upgraded = copy_of(&plain, "fleet-upgraded");
    let host = Host::join(&up, &token, "upgraded");
    host.report(&upgraded);
    let before = host.checked(|_| true);
    assert_eq!(before["status"], "outdated", "this would prove nothing");
    let apt = AptInChroot::new(&upgraded, &sources);
    apt.dist_upgrade();
    drop(apt);
    host.report(&upgraded);
    let after = host.checked(|check| check["status"] != "outdated");
    assert_eq!(after["status"], "latest", "{}", after["unknown"]);
    let begin = Instant::now();
    while !host.findings("open").is_empty() {
        assert!(begin.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(100));
    }
    let fixed = host.findings("fixed");
    let sources_of = |report: &Value| {
        let all = report["findings"].as_array().unwrap().iter();
        all.map(|it| it["source"].as_str().unwrap().to_owned())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(fixed.len(), sources_of(&before).len());
    assert!(fixed.iter().all(|it| it["closed_at"].is_string()));
}
