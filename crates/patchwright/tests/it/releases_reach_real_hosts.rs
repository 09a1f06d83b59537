//! The whole loop on a real Debian system: what it lacks becomes a change, its tenant signs the plan, its
//! agent installs exactly that from its own archives, and another look bears it out.

use std::fs;
use std::path::PathBuf;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{World, said};
use crate::support::{Mirror, Profile, as_root, copy_of, run};
use crate::up::{PASSWORD, Up};

const BOOKWORM_MINIMAL: Profile = Profile {
    name: "bookworm-minimal",
    release: "bookworm",
    include: &["debian-archive-keyring"],
    architectures: "amd64",
};

const OWNERS_PASSWORD: &str = "another password of many words";

/// How long anything may take that the control plane does by itself.
const PATIENCE: Duration = Duration::from_secs(300);

const CLOUD: &str = "\
{kind: tenant, slug: acme, name: Acme Corporation, model: iaas}
---
kind: user
login: olga
name: Olga
role: tenant_owner
tenant: acme
password: another password of many words
";

/// Nobody waits for anything but the tenant's signature.
const SLA: &str = r#"version = "at-once"

[critical]
soak = "0h"
emergency = { lead = "0h", evidence = "1d", re_evaluate = "3d" }
notice = { lead = "0h" }
approval = { mode = "required", answer = "1d", silence = "waits" }
[high]
soak = "0h"
emergency = { lead = "0h", evidence = "1d", re_evaluate = "3d" }
notice = { lead = "0h" }
approval = { mode = "required", answer = "1d", silence = "waits" }
[medium]
soak = "0h"
notice = { lead = "0h" }
approval = { mode = "required", answer = "1d", silence = "waits" }
[low]
soak = "0h"
notice = { lead = "0h" }
approval = { mode = "required", answer = "1d", silence = "waits" }
"#;

/// All at once, and watched by nobody.
const WAVES: &str = r#"schema = "patchwright.waves/1"
name = "at-once"
title = "All at once"
source = "this test"
patience = "30m"
on_failure = "roll_back"

[canary]
labels = {}
soak = "0h"
max_failed = 0
max_silent = 0

[[waves]]
percent = 100
soak = "0h"
max_failed = 0
max_silent = 0
"#;

/// A system with its agent, in a namespace where nothing else runs.
struct Host {
    root: PathBuf,
}

impl Host {
    fn new(name: &str) -> Self {
        let root = copy_of(&BOOKWORM_MINIMAL.root(), name);
        let sources = Mirror::of_this_machine().sources("bookworm", false);
        let sources_list = root.join("etc/apt");
        let _ = fs::remove_file(sources_list.join("sources.list"));
        fs::create_dir_all(sources_list.join("sources.list.d")).unwrap();
        fs::write(sources_list.join("sources.list.d/debian.sources"), sources).unwrap();
        let program = root.join("usr/local/bin/patchwright");
        fs::copy(env!("CARGO_BIN_EXE_patchwright"), &program).unwrap();
        Self { root }
    }

    fn agent(&self, arguments: &[&str]) -> Output {
        let proc = format!("--mount-proc={}", self.root.join("proc").display());
        let mut command = as_root("unshare");
        command
            .args(["--fork", "--pid", "--mount", &proc, "chroot"])
            .arg(&self.root)
            .args(["/usr/local/bin/patchwright", "agent"])
            .args(arguments);
        command.output().unwrap()
    }

    fn does(&self, arguments: &[&str]) -> String {
        let output = self.agent(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &told
    }

    /// Installed version of a package.
    fn version(&self, package: &str) -> String {
        let mut command = as_root("chroot");
        command.arg(&self.root).args(["dpkg-query", "--show", "--showformat=${Version}", package]);
        run(&mut command)
    }
}

/// A provider whose SLA lets everything happen at once, and a tenant's owner beside.
struct Cloud {
    world: World,
}

impl Cloud {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join("sources")).unwrap();
        let sources = Mirror::of_this_machine().sources("bookworm", false);
        fs::write(data.path().join("sources/debian-bookworm.sources"), sources).unwrap();
        let up = Up::start(data.path());
        let world = World { up, home: tempfile::tempdir().unwrap(), data };
        let url = world.up.console.clone();
        assert_eq!(world.typed(&["login", &url, "--login", "admin"], PASSWORD).code, 0);
        let file = world.file("cloud.yaml", CLOUD);
        world.ok(&["apply", "-f", &file]);
        let signed_in = ["login", &url, "--login", "olga", "--context", "olga"];
        assert_eq!(world.typed(&signed_in, OWNERS_PASSWORD).code, 0);
        world.ok(&["context", "use", "default"]);
        let file = world.file("sla.toml", SLA);
        world.ok(&["sla", "policy", "propose", &file]);
        Self { world }
    }

    fn olga(&self, arguments: &[&str]) -> String {
        let mut command = self.world.command(arguments);
        command.env("PATCHWRIGHT_CONTEXT", "olga").current_dir(self.world.home.path());
        let said = said(command, "");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}: {}", said.out);
        said.out
    }

    fn join_token(&self) -> String {
        let tenant = self.world.json(&["get", "tenants", "acme", "-o", "json"]);
        let token = self.world.up.sign_in();
        let body = json!({ "tenant": tenant["id"] });
        let made = self.world.up.ask(&token, "POST", "/agent-tokens", &body, "").unwrap();
        made.1["token"].as_str().unwrap().to_owned()
    }

    /// Waits for something that happens by itself.
    fn until<T>(&self, what: &str, found: impl Fn(&World) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = found(&self.world) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "{what} does not come");
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// A change that replaces few packages, and nothing that everything runs on.
    fn small_change(&self, waves: &str) -> (String, Value) {
        let evidence = "07".repeat(32);
        let changes = self.world.json(&["get", "changes", "-o", "json"]);
        for change in changes["items"].as_array().unwrap() {
            let id = change["id"].as_str().unwrap();
            if change["stage"]["is"] == "found" {
                self.world.ok(&["change", "step", id, "prove"]);
                self.world.ok(&["change", "step", id, "pass", "--evidence", &evidence]);
            }
            self.until("its clock", |world| {
                let clocks = world.json(&["clocks", "-o", "json"]);
                let of = |it: &&Value| it["change"] == change["id"];
                let clock = clocks.as_array().unwrap().iter().find(of)?.clone();
                (clock["phase"] == "tested").then_some(())
            });
            let shown = ["release", "plan", id, "--profile", waves, "-o", "json"];
            let shown = self.world.json(&shown);
            let packages = shown["turns"][0]["actions"][0]["packages"].as_array().unwrap().len();
            if shown["turns_total"] == 1 && packages <= 2 {
                return (id.to_owned(), shown);
            }
        }
        panic!("no change is small: {changes}");
    }
}

#[test]
fn what_a_host_lacks_is_agreed_to_installed_and_seen() {
    if !is_possible() {
        eprintln!("warning: no namespaces here; the whole loop is not tested");
        return;
    }
    let cloud = Cloud::new();
    let world = &cloud.world;
    cloud.olga(&["consent", "key", "new", "tenant.key"]);
    cloud.olga(&["consent", "key", "register", "tenant.key"]);
    let host = Host::new("release-host");
    let token = cloud.join_token();
    let agents = world.up.agents.clone();
    let joined = ["join", &agents, "--token", &token, "--name", "web-1", "--consent", "signature"];
    host.does(&joined);
    host.does(&["run", "--once"]);
    cloud.until("a change", |world| {
        let changes = world.json(&["get", "changes", "-o", "json"]);
        (!changes["items"].as_array().unwrap().is_empty()).then_some(())
    });
    let waves = world.file("waves.toml", WAVES);
    let (change, shown) = cloud.small_change(&waves);
    let package = &shown["turns"][0]["actions"][0]["packages"][0];
    let (name, version) = (package["name"].as_str().unwrap(), package["version"].as_str().unwrap());
    assert_ne!(host.version(name), version, "this would prove nothing");

    let plan = world.home.path().join("plan.json").display().to_string();
    let told = world.ok(&["release", "plan", &change, "--profile", &waves, "--out", &plan]);
    assert!(told.contains(name) && told.contains("web-1"), "{told}");
    let release = world.json(&["release", "apply", &plan, "-o", "json"]);
    let id = release["id"].as_str().unwrap();
    cloud.until("the notice", |world| {
        let share = world.json(&["change", "show", &change, "acme", "-o", "json"]);
        (share["phase"] == "notified").then_some(())
    });
    let waits = world.ok(&["release", "show", id]);
    assert!(waits.contains("waiting for consent of acme"), "{waits}");
    host.does(&["run", "--once"]);
    assert_ne!(host.version(name), version, "nobody agreed yet");

    cloud.olga(&["consent", "approve", &change, "--key", "tenant.key"]);
    cloud.until("the order", |world| {
        let release = world.json(&["release", "show", id, "-o", "json"]);
        (release["turns"][0]["phase"]["is"] == "ordered").then_some(())
    });
    cloud.until("its end", |world| {
        host.does(&["run", "--once"]);
        let release = world.json(&["release", "show", id, "-o", "json"]);
        assert_eq!(release["mode"]["is"], "running", "{release}\n{}", host.does(&["orders"]));
        (release["ended"] == "released").then_some(())
    });

    assert_eq!(host.version(name), version);
    let release = world.ok(&["release", "show", id]);
    assert!(release.contains("released") && release.contains("1 done"), "{release}");
    let orders = cloud.olga(&["release", "orders", "--change", &change]);
    assert!(orders.contains("done") && orders.contains("web-1"), "{orders}");
    let own = host.does(&["orders"]);
    assert!(own.contains("done"), "{own}");
    cloud.until("the verification", |world| {
        host.does(&["run", "--once"]);
        let share = world.json(&["change", "show", &change, "acme", "-o", "json"]);
        (share["phase"] == "verified").then_some(())
    });
}

/// Whether a namespace of one's own can be had.
fn is_possible() -> bool {
    let mut command = as_root("unshare");
    command.args(["--fork", "--pid", "--mount", "--mount-proc", "true"]);
    command.output().is_ok_and(|output| output.status.success())
}
