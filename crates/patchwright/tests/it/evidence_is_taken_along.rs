//! `patchwright ledger export`: what is taken along verifies without the control plane, holds what its
//! reader may see and nothing else, and catches a control plane that tells another story later.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::up::{PASSWORD, Up};

const CANARY: &str = "canary-of-b";

/// What a command said.
struct Said {
    is_ok: bool,
    out: String,
    err: String,
}

/// A control plane, and a place for exports.
struct World {
    up: Up,
    data: TempDir,
    place: TempDir,
    admin: String,
}

impl World {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let up = Up::start(data.path());
        let admin = up.sign_in();
        Self { up, data, place: tempfile::tempdir().unwrap(), admin }
    }

    fn post(&self, token: &str, path: &str, body: &Value) -> Value {
        let key = format!("{path}{body}").replace(' ', "");
        let (status, made) = self.up.ask(token, "POST", path, body, &key).unwrap();
        assert!(status < 300, "{path}: {made}");
        made
    }

    /// A tenant with an item: the session of its owner, and its id.
    fn tenant(&self, slug: &str, ci: &str) -> (String, Value) {
        let tenant = json!({ "slug": slug, "name": slug, "model": "iaas" });
        let id = self.post(&self.admin, "/tenants", &tenant)["id"].clone();
        let login = format!("owner-{slug}");
        let owner = json!({
            "tenant": id, "login": login, "name": slug, "role": "tenant_owner", "password": PASSWORD,
        });
        self.post(&self.admin, "/users", &owner);
        let body = json!({ "login": login, "password": PASSWORD });
        let (_, session) = self.up.ask("", "POST", "/session", &body, "").unwrap();
        let session = session["secret"].as_str().unwrap().to_owned();
        self.post(&session, "/cis", &json!({ "tenant": id, "class": "vm", "name": ci }));
        (session, id)
    }

    fn groups(&self, (owner, tenant): &(String, Value), number: u32) {
        for number in 0..number {
            let name = format!("group-{number}");
            self.post(owner, "/groups", &json!({ "tenant": tenant, "name": name }));
        }
    }

    /// Waits until what happened is in the ledger.
    fn settle(&self) {
        let mut seen = Vec::new();
        while seen.len() < 5 || seen[seen.len() - 5..].iter().any(|it| *it != seen[seen.len() - 1])
        {
            let head = self.up.ask(&self.admin, "GET", "/ledger", &Value::Null, "").unwrap().1;
            seen.push(head["checkpoint"].clone());
            thread::sleep(Duration::from_millis(300));
        }
    }

    fn directory(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn export(&self, token: &str, name: &str, arguments: &[&str]) -> Said {
        self.settle();
        let directory = self.directory(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command
            .args(["ledger", "export"])
            .arg(directory)
            .args(arguments)
            .env_clear()
            .env("HOME", self.place.path())
            .env("PATCHWRIGHT_URL", &self.up.console)
            .env("PATCHWRIGHT_TOKEN", token);
        said(command)
    }

    fn exported(&self, token: &str, name: &str) -> String {
        let said = self.export(token, name, &[]);
        assert!(said.is_ok, "{}", said.err);
        said.out
    }

    fn verified(&self, name: &str) -> Said {
        let directory = self.directory(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command.args(["ledger", "verify"]).arg(&directory).args(["--key", &self.up.key]);
        command.arg("--payloads").arg(directory.join("payloads"));
        said(command)
    }

    /// Stops it, lets something be done to its data, and starts it again.
    fn restart(&mut self, between: impl FnOnce(&Path)) {
        let stopped = Command::new("kill").arg(self.up.process.id().to_string()).status().unwrap();
        assert!(stopped.success());
        self.up.process.wait().unwrap();
        between(self.data.path());
        self.up = Up::start(self.data.path());
        self.admin = self.up.sign_in();
    }
}

fn said(mut command: Command) -> Said {
    let output = command.output().unwrap();
    Said {
        is_ok: output.status.success(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn the_provider_takes_all_and_a_tenant_its_own() {
    let world = World::new();
    let (of_a, _) = world.tenant("acme", "=web");
    world.tenant(CANARY, &format!("{CANARY}-db"));

    let all = world.exported(&world.admin, "all");
    let own = world.exported(&of_a, "own");

    for (name, has_canary) in [("all", true), ("own", false)] {
        let verified = world.verified(name);
        assert!(verified.is_ok, "{}", verified.err);
        let directory = world.directory(name);
        let has = |path: &PathBuf| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(CANARY.len()).any(|it| it == CANARY.as_bytes())
        };
        let found: Vec<_> = files(&directory).into_iter().filter(has).collect();
        assert_eq!(!found.is_empty(), has_canary, "{found:?}");
        assert!(fs::read_to_string(directory.join("README.md")).unwrap().contains("## Verify it"));
    }
    assert!(all.contains("of others, ") && all.contains("0 of others"), "{all}");
    assert!(own.contains("others") && own.contains("records.retrieved"), "{own}");
    let csv = fs::read_to_string(world.directory("all").join("events.csv")).unwrap();
    assert!(csv.lines().count() > 10 && csv.starts_with("sequence,at,kind,tenant,"), "{csv}");
    // Each of its records is its own, each of all entries has one of the provider's.
    let records = lines(&world.directory("own").join("events.jsonl"));
    let tenants: std::collections::BTreeSet<_> =
        records.iter().map(|it| it["record"]["tenant"].to_string()).collect();
    assert_eq!(tenants.len(), 1);
    let all = lines(&world.directory("all").join("events.jsonl"));
    let places: Vec<_> = all.iter().map(|it| it["sequence"].as_u64().unwrap()).collect();
    assert_eq!(places, (0..all.len() as u64).collect::<Vec<_>>());
    // The provider's export is told to the tenant.
    let told = |it: &&Value| it["record"]["kind"] == "records.retrieved";
    let told: Vec<_> = records.iter().filter(told).collect();
    assert_eq!(told[0]["record"]["payload"]["what"], "records");
    assert_eq!(told[0]["record"]["role"], "admin");
}

#[test]
fn a_second_export_takes_what_is_new_and_a_flipped_bit_is_found() {
    let world = World::new();
    let acme = world.tenant("acme", "web");
    let of_a = &acme.0;
    let first = world.exported(of_a, "own");
    assert!(first.contains("this is the first export"), "{first}");
    let before = files(&world.directory("own").join("payloads"));
    let kept = world.directory("kept");
    fs::copy(world.directory("own").join("checkpoint"), &kept).unwrap();
    world.groups(&acme, 300);

    let second = world.exported(of_a, "own");

    assert!(second.contains("what was here before"), "{second}");
    let payloads = files(&world.directory("own").join("payloads"));
    assert_eq!(
        payloads.len(),
        before.len() + 301,
        "the record of the first export, and 300 groups"
    );
    assert!(second.contains("301 new"), "{second}");
    assert!(world.verified("own").is_ok);
    let since = ["--since", &kept.display().to_string(), "--key", &world.up.key].map(str::to_owned);
    let since: Vec<&str> = since.iter().map(String::as_str).collect();
    let again = world.export(of_a, "other", &since);
    assert!(again.is_ok, "{}", again.err);

    let mut bytes = fs::read(&payloads[17]).unwrap();
    bytes[40] ^= 1;
    fs::write(&payloads[17], &bytes).unwrap();
    let verified = world.verified("own");
    assert!(!verified.is_ok && verified.err.contains("was altered"), "{}", verified.err);
    let again = world.export(of_a, "own", &[]);
    assert!(!again.is_ok && again.err.contains("was altered"), "{}", again.err);
    fs::remove_file(&payloads[17]).unwrap();
    let again = world.export(of_a, "own", &[]);
    assert!(!again.is_ok && again.err.contains("without a record"), "{}", again.err);
}

#[test]
fn a_log_that_was_rewritten_or_rolled_back_is_refused() {
    let mut world = World::new();
    let acme = world.tenant("acme", "web");
    let earlier = world.directory("earlier");
    world.restart(|data| copy(data, &earlier));
    world.groups(&acme, 20);
    world.exported(&world.admin, "all");
    let before = files(&world.directory("all"));

    // With the real database and the real key.
    world.restart(|data| {
        let edit = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute(\
            \"UPDATE events SET role = 'owner' WHERE kind = 'tenant.created'\"); c.commit()";
        let database = data.join("patchwright.db");
        let edited = Command::new("python3").args(["-c", edit]).arg(database).status().unwrap();
        assert!(edited.success());
        fs::remove_dir_all(data.join("ledger")).unwrap();
    });
    let said = world.export(&world.admin, "all", &[]);
    assert!(!said.is_ok && said.err.contains("was rewritten"), "{}", said.err);
    assert_eq!(files(&world.directory("all")), before, "nothing was written");

    world.restart(|data| {
        for entry in fs::read_dir(data).unwrap() {
            let path = entry.unwrap().path();
            let removed = Command::new("rm").arg("-r").arg(path).status().unwrap();
            assert!(removed.success());
        }
        copy(&earlier.join("."), data);
    });
    let said = world.export(&world.admin, "all", &[]);
    assert!(!said.is_ok && said.err.contains("rolled back"), "{}", said.err);
    assert_eq!(files(&world.directory("all")), before, "nothing was written");
    assert!(world.verified("all").is_ok, "what was exported still holds");
}

#[test]
fn what_is_no_export_is_left_alone() {
    let world = World::new();
    fs::create_dir(world.directory("mine")).unwrap();
    fs::write(world.directory("mine").join("letter"), "dear").unwrap();

    for name in ["mine", &world.data.path().join("ledger").display().to_string()] {
        let said = world.export(&world.admin, name, &[]);
        assert!(!said.is_ok && said.err.contains("no export"), "{}", said.err);
    }
    let other =
        "patchwright/0000000000000000+3be31f24+AfGRyIvsE6A6iKMLhkzhM3wTF6tdiX+U4KGEgH2ZKDmj";
    let said = world.export(&world.admin, "new", &["--key", other]);
    assert!(!said.is_ok, "{}", said.out);
    assert!(!world.directory("new").exists());
}
