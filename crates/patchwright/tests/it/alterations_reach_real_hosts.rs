//! An alteration of a file on a real Debian system: proposed, signed by its tenant, written by its agent, borne out by
//! the history, and taken back; refused where somebody altered the file meanwhile, which is then put back.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use crate::client::World;
use crate::cloud::{Cloud, Host, WAVES, is_possible};

const FILE: &str = "/etc/demo.conf";
const WAS: &str = "greeting = welcome\n";
const NEW: &str = "greeting = hello\n";

/// A host of a tenant that signs, and what is done with a file of it.
struct Altered {
    cloud: Cloud,
    host: Host,
}

impl Altered {
    /// One of a name of its own: tests run beside each other.
    fn new(name: &str) -> Self {
        let cloud = Cloud::new();
        cloud.olga(&["consent", "key", "new", "tenant.key"]);
        cloud.olga(&["consent", "key", "register", "tenant.key"]);
        let host = Host::new(name);
        let it = Self { cloud, host };
        it.write(WAS);
        let (token, agents) = (it.cloud.join_token(), it.cloud.world.up.agents.clone());
        let join = ["join", &agents, "--token", &token, "--name", "web-1"];
        it.host.does(&[&join[..], &["--consent", "signature"]].concat());
        it.host.does(&["run", "--once"]);
        it.host.does(&["run", "--once"]);
        it
    }

    fn world(&self) -> &World {
        &self.cloud.world
    }

    fn write(&self, content: &str) {
        fs::write(self.host.root.join(&FILE[1..]), content).unwrap();
    }

    fn place(&self) -> std::path::PathBuf {
        self.host.root.join(&FILE[1..])
    }

    /// Permissions of the file, and whose it is.
    fn access(&self) -> (u32, u32, u32) {
        let found = fs::symlink_metadata(self.place()).unwrap();
        (found.mode() & 0o7777, found.uid(), found.gid())
    }

    fn content(&self) -> String {
        fs::read_to_string(self.host.root.join(&FILE[1..])).unwrap()
    }

    /// A change of the file, reviewed.
    fn proposed(&self, content: &str) -> String {
        let file = format!("{FILE}={}", self.world().file("demo.conf", content));
        self.proposed_to_be(&["--file", &file])
    }

    fn proposed_to_be(&self, said: &[&str]) -> String {
        let world = self.world();
        let opened = world.ok(&["change", "open", "a greeting", "--tenant", "acme"]);
        let change = opened.split_once(' ').unwrap().0.to_owned();
        world.ok(&[&["change", "propose", &change, "acme/web-1"], said].concat());
        world.ok(&["change", "step", &change, "prove"]);
        let evidence = "07".repeat(32);
        world.ok(&["change", "step", &change, "pass", "--evidence", &evidence]);
        change
    }

    /// A release of a change, as a file of waves has it.
    fn planned(&self, change: &str, waves: &str) -> String {
        let world = self.world();
        let plan = world.home.path().join("plan.json").display().to_string();
        world.ok(&["release", "plan", change, "--profile", waves, "--out", &plan]);
        let release = world.json(&["release", "apply", &plan, "-o", "json"]);
        release["id"].as_str().unwrap().to_owned()
    }

    /// The tenant signs, and the order waits for the agent.
    fn ordered(&self, change: &str, release: &str) {
        self.cloud.until("the notice", |world| {
            let share = world.json(&["change", "show", change, "acme", "-o", "json"]);
            (share["phase"] == "notified").then_some(())
        });
        self.cloud.olga(&["consent", "approve", change, "--key", "tenant.key"]);
        self.cloud.until("the order", |world| {
            (phase(&release_of(world, release)) == "ordered").then_some(())
        });
    }

    /// Lets the agent go around until its item stands so.
    fn until(&self, release: &str, wanted: &str) {
        self.cloud.until(wanted, |world| {
            self.host.does(&["run", "--once"]);
            (phase(&release_of(world, release)) == wanted).then_some(())
        });
    }

    /// Puts the open drift back, which its tenant signs, until nothing of it is left.
    fn put_back(&self, waves: &str) {
        let world = self.world();
        let drift = self.cloud.until("the drift", |world| {
            self.host.does(&["run", "--once"]);
            let drifts = world.json(&["config", "drift", "-o", "json"]);
            drifts["items"][0]["id"].as_str().map(str::to_owned)
        });
        let put = world.json(&["config", "put-back", &drift, "--profile", waves, "-o", "json"]);
        let change = put["drift"]["change"].as_str().unwrap();
        let release = put["release"]["id"].as_str().unwrap();
        self.ordered(change, release);
        self.until(release, "done");
        self.cloud.until("nothing that drifted", |world| {
            let drifts = world.json(&["config", "drift", "-o", "json"]);
            (drifts["items"] == json!([])).then_some(())
        });
    }

    /// What the newest version of the file is held to be.
    fn verdict(&self) -> Value {
        self.cloud.until("a verdict", |world| {
            let log = world.json(&["config", "log", "acme/web-1", FILE, "-o", "json"]);
            let newest = log["items"][0]["verdict"].clone();
            (!newest.is_null()).then_some(newest)
        })
    }
}

fn release_of(world: &World, release: &str) -> Value {
    world.json(&["release", "show", release, "-o", "json"])
}

fn phase(release: &Value) -> String {
    release["turns"][0]["phase"]["is"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_file_is_written_as_agreed_taken_back_and_put_back() {
    if !is_possible() {
        eprintln!("warning: no namespaces here; alterations of a real host are not tested");
        return;
    }
    let it = Altered::new("altered-host");
    let world = it.world();
    let watched = world.file("watched.toml", &WAVES.replace("soak = \"0h\"", "soak = \"1h\""));
    let at_once = world.file("waves.toml", WAVES);

    // Written, and taken back while it is watched.
    let change = it.proposed(NEW);
    let shown = it.cloud.olga(&["change", "files", &change, "--diff"]);
    assert!(
        shown.contains("-greeting = welcome") && shown.contains("+greeting = hello"),
        "{shown}"
    );
    let release = it.planned(&change, &watched);
    it.host.does(&["run", "--once"]);
    assert_eq!(it.content(), WAS, "nobody agreed yet");
    it.ordered(&change, &release);
    it.until(&release, "done");
    assert_eq!(it.content(), NEW);
    let verdict = it.verdict();
    let authorised = json!({ "verdict": "authorised", "change": change });
    assert_eq!(verdict["verdict"], authorised, "{verdict}");
    let looks = world.ok(&["release", "verifications", "--change", &change]);
    assert!(looks.contains("verified"), "{looks}");
    world.ok(&["release", "roll-back", &release, "--reason", "nobody likes it"]);
    it.until(&release, "rolled_back");
    assert_eq!(it.content(), WAS);
    assert_eq!(it.verdict()["verdict"], authorised);
    assert_eq!(world.json(&["config", "drift", "-o", "json"])["items"], json!([]));

    // Somebody is faster than the agent: it refuses, and says so.
    let change = it.proposed(NEW);
    let release = it.planned(&change, &at_once);
    it.ordered(&change, &release);
    it.write("greeting = none of yours\n");
    it.until(&release, "rolled_back");
    assert_eq!(it.content(), "greeting = none of yours\n");
    let orders = it.cloud.olga(&["release", "orders", "--change", &change]);
    assert!(orders.contains("refused") && orders.contains(FILE), "{orders}");

    // What they did is nobody's agreement, and is put back by one command and a signature.
    let drift = it.cloud.until("the drift", |world| {
        let drifts = world.json(&["config", "drift", "-o", "json"]);
        drifts["items"][0]["id"].as_str().map(str::to_owned)
    });
    let put = world.json(&["config", "put-back", &drift, "--profile", &at_once, "-o", "json"]);
    let change = put["drift"]["change"].as_str().unwrap();
    let release = put["release"]["id"].as_str().unwrap();
    it.ordered(change, release);
    it.until(release, "done");
    assert_eq!(it.content(), WAS);
    it.cloud.until("the end", |world| {
        let share = world.json(&["change", "show", change, "acme", "-o", "json"]);
        (share["phase"] == "verified").then_some(())
    });
    it.verdict();
    assert_eq!(world.json(&["config", "drift", "-o", "json"])["items"], json!([]));

    it.holds_others_to(change, release);
}

impl Altered {
    /// What a release wrote, borne out, is what items are held to from then on; by whom it is for.
    fn holds_others_to(&self, change: &str, release: &str) {
        let world = self.world();
        self.cloud.until("the end of the release", |world| {
            (release_of(world, release)["ended"] == "released").then_some(())
        });
        let put = self.cloud.olga(&["baseline", "released", "greeting", "--from", release]);
        assert!(put.starts_with("greeting 1 is kept as bsl_"), "{put}");
        let again = world.ok(&["baseline", "released", "greeting", "--from", release]);
        assert!(again.starts_with("greeting 2 is kept as bsl_"), "{again}");
        let shown = self.cloud.olga(&["baseline", "show", "greeting", "1"]);
        let plan = release_of(world, release)["plans"].as_object().unwrap().clone();
        let plan = plan.values().next().unwrap().as_str().unwrap().to_owned();
        for told in [release, change, plan.as_str(), FILE, "as on ", "web-1"] {
            assert!(shown.contains(told), "{told}: {shown}");
        }
        self.cloud.olga(&["baseline", "bind", "greeting", "--ci", "acme/web-1"]);
        let came = |world: &World| {
            let audit = world.json(&["config", "audit", "acme/web-1", "-o", "json"]);
            let rules = audit["rules"].as_array().unwrap().clone();
            let of = rules.into_iter().find(|it| it["baseline"] == "greeting").unwrap();
            format!("{} {}", of["rule"].as_str().unwrap(), of["outcome"].as_str().unwrap())
        };
        assert_eq!(came(world), format!("{FILE} pass"));
        self.write("greeting = go away\n");
        self.cloud.until("what differs", |world| {
            self.host.does(&["run", "--once"]);
            (came(world) == format!("{FILE} fail")).then_some(())
        });
    }
}

#[test]
fn a_file_is_taken_away_given_to_others_and_what_came_goes_again() {
    if !is_possible() {
        eprintln!("warning: no namespaces here; alterations of a real host are not tested");
        return;
    }
    let it = Altered::new("given-host");
    let world = it.world();
    let watched = world.file("watched.toml", &WAVES.replace("soak = \"0h\"", "soak = \"1h\""));
    let at_once = world.file("waves.toml", WAVES);
    let before = it.access();

    // Given to others, which is all that is altered.
    let change = it.proposed_to_be(&["--file", FILE, "--mode", "0640", "--group", "adm"]);
    let shown = it.cloud.olga(&["change", "files", &change, "--diff"]);
    assert!(shown.contains("0644 root:root → 0640 root:adm"), "{shown}");
    let release = it.planned(&change, &at_once);
    it.ordered(&change, &release);
    it.until(&release, "done");
    assert_eq!((it.access().0, it.content().as_str()), (0o640, WAS));
    assert_ne!(it.access().2, before.2, "it is another group's");
    let authorised = |change: &str| json!({ "verdict": "authorised", "change": change });
    assert_eq!(it.verdict()["verdict"], authorised(&change));
    let given = it.access();

    // Taken away, and brought back whole.
    let change = it.proposed_to_be(&["--remove", FILE]);
    let shown = it.cloud.olga(&["change", "files", &change, "--diff"]);
    assert!(shown.contains("is taken away") && shown.contains("-greeting = welcome"), "{shown}");
    let release = it.planned(&change, &watched);
    it.ordered(&change, &release);
    it.until(&release, "done");
    assert!(!it.place().exists());
    assert_eq!(it.verdict()["verdict"], authorised(&change));
    world.ok(&["release", "roll-back", &release, "--reason", "it was missed"]);
    it.until(&release, "rolled_back");
    assert_eq!((it.access(), it.content().as_str()), (given, WAS));
    assert_eq!(it.verdict()["verdict"], authorised(&change));
    assert_eq!(world.json(&["config", "drift", "-o", "json"])["items"], json!([]));

    // Somebody opens it to everybody; it is put back, content and all.
    fs::set_permissions(it.place(), fs::Permissions::from_mode(0o666)).unwrap();
    it.put_back(&at_once);
    assert_eq!((it.access(), it.content().as_str()), (given, WAS));

    // Somebody takes it away; it comes back as it was.
    fs::remove_file(it.place()).unwrap();
    it.put_back(&at_once);
    assert_eq!((it.access(), it.content().as_str()), (given, WAS));

    // Somebody brings another; it goes.
    let came = it.place().with_file_name("came.conf");
    fs::write(&came, "theirs\n").unwrap();
    it.put_back(&at_once);
    assert!(!came.exists());
}
