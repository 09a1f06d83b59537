//! A provider's cloud with one tenant, and real hosts of it.

use std::fs;
use std::process::Output;
use std::thread;
use std::time::{Duration, Instant};

use domain::change::FileHash;
use jiff::{SignedDuration, Timestamp};
use scratch::Scratch;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

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
pub(crate) const WAVES: &str = r#"schema = "patchwright.waves/1"
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
pub(crate) struct Host {
    pub(crate) root: Scratch,
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
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

    pub(crate) fn agent(&self, arguments: &[&str]) -> Output {
        let proc = format!("--mount-proc={}", self.root.join("proc").display());
        let mut command = as_root("unshare");
        command
            .args(["--fork", "--pid", "--mount", &proc, "chroot"])
            .arg(&self.root)
            .args(["/usr/local/bin/patchwright", "agent"])
            .args(arguments);
        command.output().unwrap()
    }

    pub(crate) fn does(&self, arguments: &[&str]) -> String {
        let output = self.agent(arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &told
    }

    /// Installed version of a package.
    pub(crate) fn version(&self, package: &str) -> String {
        let mut command = as_root("chroot");
        command.arg(&self.root).args(["dpkg-query", "--show", "--showformat=${Version}", package]);
        run(&mut command)
    }
}

/// A provider whose SLA lets everything happen at once, and a tenant's owner beside. Its agents may come
/// through a proxy as well.
pub(crate) struct Cloud {
    pub(crate) world: World,
}

impl Cloud {
    pub(crate) fn new() -> Self {
        Self::with(&["--agents-behind-proxy", "127.0.0.1:0"])
    }

    /// With further arguments for the control plane.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let data = crate::memory::directory();
        fs::create_dir_all(data.path().join("sources")).unwrap();
        let sources = Mirror::of_this_machine().sources("bookworm", false);
        fs::write(data.path().join("sources/debian-bookworm.sources"), sources).unwrap();
        let up = Up::start_with(data.path(), arguments, &[]).unwrap();
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

    pub(crate) fn olga(&self, arguments: &[&str]) -> String {
        let mut command = self.world.command(arguments);
        command.env("PATCHWRIGHT_CONTEXT", "olga").current_dir(self.world.home.path());
        let said = said(command, "");
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}: {}", said.out);
        said.out
    }

    pub(crate) fn join_token(&self) -> String {
        let tenant = self.world.json(&["get", "tenants", "acme", "-o", "json"]);
        let token = self.world.up.sign_in();
        let body = json!({ "tenant": tenant["id"] });
        let made = self.world.up.ask(&token, "POST", "/agent-tokens", &body, "").unwrap();
        made.1["token"].as_str().unwrap().to_owned()
    }

    /// Waits for something that happens by itself.
    pub(crate) fn until<T>(&self, what: &str, found: impl Fn(&World) -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = found(&self.world) {
                return found;
            }
            assert!(begin.elapsed() < PATIENCE, "{what} does not come");
            thread::sleep(Duration::from_millis(200));
        }
    }

    /// A change of one file that the tenant signed, and that may be carried out now.
    pub(crate) fn agree(&self, path: &str, content: &str) {
        let world = &self.world;
        self.olga(&["consent", "key", "new", "tenant.key"]);
        self.olga(&["consent", "key", "register", "tenant.key"]);
        let opened = world.ok(&["change", "open", "a banner", "--tenant", "acme"]);
        let change = opened.split_once(' ').unwrap().0.to_owned();
        world.ok(&["change", "step", &change, "prove"]);
        let evidence = "07".repeat(32);
        world.ok(&["change", "step", &change, "pass", "--evidence", &evidence]);
        let ci = world.json(&["get", "ci", "acme/web-1", "-o", "json"]);
        let hash = FileHash::from(<[u8; 32]>::from(Sha256::digest(content)));
        let (from, until) = (Timestamp::now(), Timestamp::now() + SignedDuration::from_hours(2));
        let stages = json!([{
            "window": { "from": from, "until": until },
            "items": [{
                "ci": ci["id"], "duty": ci["duty"],
                "actions": [{ "do": "write_file", "path": path, "before": null, "after": hash }],
                "rollback": { "by": "files" },
            }],
        }]);
        let file = world.file("stages.json", &stages.to_string());
        world.ok(&["change", "plan", &change, "acme", &file]);
        let phase = |wanted: &str| {
            self.until(wanted, |world| {
                let share = world.json(&["change", "show", &change, "acme", "-o", "json"]);
                (share["phase"] == wanted).then_some(())
            });
        };
        phase("notified");
        self.olga(&["consent", "approve", &change, "--key", "tenant.key"]);
        phase("rolling_out");
    }

    /// A change that replaces few packages, and nothing that everything runs on.
    pub(crate) fn small_change(&self, waves: &str) -> (String, Value) {
        self.small_changes(waves, 1).remove(0)
    }

    /// So many of them, each with how it would be released.
    pub(crate) fn small_changes(&self, waves: &str, count: usize) -> Vec<(String, Value)> {
        let evidence = "07".repeat(32);
        let changes = self.world.json(&["get", "changes", "-o", "json"]);
        let mut small = Vec::new();
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
                small.push((id.to_owned(), shown));
            }
            if small.len() == count {
                return small;
            }
        }
        panic!("fewer than {count} changes are small: {changes}");
    }
}

/// Whether a namespace of one's own can be had.
pub(crate) fn is_possible() -> bool {
    let mut command = as_root("unshare");
    command.args(["--fork", "--pid", "--mount", "--mount-proc", "true"]);
    command.output().is_ok_and(|output| output.status.success())
}
