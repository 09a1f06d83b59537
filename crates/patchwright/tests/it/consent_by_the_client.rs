//! Both sides of a change at the command line: from taking it up to the tenant's answer.

use serde_json::{Value, json};

use crate::client::{Said, World, steady};

const OWNERS_PASSWORD: &str = "another password of many words";

/// A tenant with a VM, and a person of it who may answer.
const CLOUD: &str = "\
{kind: tenant, slug: acme, name: Acme Corporation, model: iaas}
---
{kind: ci, tenant: acme, name: web-1, class: vm}
---
kind: user
login: olga
name: Olga
role: tenant_owner
tenant: acme
password: another password of many words
";

/// A provider who took up an alteration for a tenant, whose owner is signed in beside.
struct Both {
    world: World,
    change: String,
}

impl Both {
    fn new() -> Self {
        let world = World::new();
        let file = world.file("cloud.yaml", CLOUD);
        world.ok(&["apply", "-f", &file]);
        let url = world.up.console.clone();
        let signed_in = ["login", &url, "--login", "olga", "--context", "olga"];
        let said = world.typed(&signed_in, OWNERS_PASSWORD);
        assert_eq!(said.code, 0, "{}", said.err);
        world.ok(&["context", "use", "default"]);
        let opened = world.ok(&["change", "open", "no passwords over SSH", "--tenant", "acme"]);
        let (change, rest) = opened.split_once(' ').unwrap();
        assert_eq!(rest, "is found: no passwords over SSH\n");
        Self { change: change.to_owned(), world }
    }

    fn prove(&self) {
        let evidence = "07".repeat(32);
        self.world.ok(&["change", "step", &self.change, "prove"]);
        self.world.ok(&["change", "step", &self.change, "pass", "--evidence", &evidence]);
    }

    fn plan(&self, content: &str) -> Said {
        let ci = self.world.json(&["get", "ci", "acme/web-1", "-o", "json"]);
        let hash = |byte: &str| byte.repeat(32);
        let stages = json!([{
            "window": { "from": "2099-12-01T02:00:00Z", "until": "2099-12-01T04:00:00Z" },
            "items": [{
                "ci": ci["id"], "duty": ci["duty"],
                "actions": [
                    { "do": "write_file", "path": "/etc/ssh/sshd_config.d/10-keys.conf",
                        "before": null, "after": hash(content) },
                    { "do": "restart_unit", "unit": "ssh.service" },
                ],
                "rollback": { "by": "files" },
            }],
        }]);
        let file = self.world.file("stages.json", &stages.to_string());
        self.world.run(&["change", "plan", &self.change, "acme", &file])
    }

    /// Waits until the tenant was told of the plan in force; the control plane does that by itself.
    fn told(&self) {
        for _ in 0..600 {
            let notices = self.world.json(&["get", "notices", "-o", "json"]);
            let plan = self.share()["share"]["plan"].clone();
            let given = |it: &Value| it["plan"] == plan && it["given_at"].is_string();
            if notices["items"].as_array().unwrap().iter().any(given) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
        panic!("nobody is told");
    }

    fn share(&self) -> Value {
        self.world.json(&["change", "show", &self.change, "acme", "-o", "json"])
    }

    fn as_olga(&self, arguments: &[&str]) -> Said {
        let mut command = self.world.command(arguments);
        command.env("PATCHWRIGHT_CONTEXT", "olga").current_dir(self.world.home.path());
        crate::client::said(command, "")
    }

    fn olga(&self, arguments: &[&str]) -> String {
        let said = self.as_olga(arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{arguments:?}: {}", said.out);
        said.out
    }
}

#[test]
fn a_tenant_reads_signs_and_hands_in() {
    let both = Both::new();
    let (world, change) = (&both.world, &both.change);
    insta::assert_snapshot!("get_changes", steady(&world.ok(&["get", "changes"])));
    let early = both.as_olga(&["consent", "show", change]);
    assert_eq!(early.code, 1);
    assert!(early.err.contains("there is no plan for"), "{}", early.err);
    both.prove();
    let planned = both.plan("08");
    assert_eq!(planned.code, 0, "{}", planned.err);
    both.told();

    insta::assert_snapshot!("clocks", steady_times(&world.ok(&["clocks"])));
    let shown = both.olga(&["consent", "show", change]);
    assert!(shown.contains("/etc/ssh/sshd_config.d/10-keys.conf"), "{shown}");
    let none = both.olga(&["consent", "key", "list"]);
    assert!(none.contains("patchwright consent key register FILE"), "{none}");
    both.olga(&["consent", "key", "new", "tenant.key"]);
    let registered = both.olga(&["consent", "key", "register", "tenant.key", "--label", "laptop"]);
    assert!(registered.contains("laptop") && registered.contains("held by olga"), "{registered}");

    let approved =
        both.olga(&["consent", "approve", change, "--key", "tenant.key", "--out", "yes.json"]);

    assert!(approved.contains("received by"), "{approved}");
    assert!(approved.contains("no passwords over SSH is scheduled"), "{approved}");
    assert!(approved.contains("waits the window opens at 2099-12-01"), "{approved}");
    assert_eq!(both.share()["phase"], "scheduled");
    let notices = world.json(&["get", "notices", "-o", "json"]);
    let notice = notices["items"][0]["id"].as_str().unwrap();
    let read = both.olga(&["notice", "acknowledge", notice]);
    assert_eq!(read, "no passwords over SSH acknowledged\n");
    assert!(world.ok(&["get", "notices"]).contains("olga"));

    // What was handed in counts once, and a plan that takes the place of this one asks anew.
    let again = both.as_olga(&["consent", "send", "yes.json"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("nonce"), "{}", again.err);
    assert_eq!(both.plan("09").code, 0);
    assert_ne!(both.share()["phase"], "scheduled");
    let shown = both.olga(&["consent", "show", change]);
    assert!(shown.contains("generation  1, in the place of"), "{shown}");
}

#[test]
fn the_past_is_judged_by_another_policy() {
    let both = Both::new();
    let world = &both.world;
    let kept = world.home.path().join("quarter.json");
    let kept = kept.to_str().unwrap();

    let asked = world.ok(&["sla", "simulate", "--save", kept]);

    insta::assert_snapshot!("simulated", steady(&asked));
    let policy =
        world.file("strict.toml", "version = \"strict-1\"\nmedium.deferrals = { count = 0 }\n");
    let later = ["sla", "simulate", &policy, kept, "--at", "2099-01-01T00:00:00Z"];
    let said = world.ok(&later);
    assert!(said.contains("no passwords over SSH, acme"), "{said}");
    assert!(said.contains("provider took"), "{said}");
    let judged: Value = world.json(&[&later[..], &["-o", "json"]].concat());
    assert_eq!(judged[0]["verdict"]["is"], "breached");
    assert_eq!(judged[0]["verdict"]["by"], "provider");
    let over = world.run(&["sla", "simulate", "--save", kept]);
    assert_eq!(over.code, 1, "no file is written over");
    let odd = world.file("odd.json", "{}");
    let odd = world.run(&["sla", "simulate", "x1642-default", &odd]);
    assert!(odd.err.contains("holds no histories"), "{}", odd.err);
}

#[test]
fn a_tenants_channels_are_its_own() {
    let both = Both::new();

    let none = both.olga(&["channel", "list"]);
    let refused = both.as_olga(&["channel", "add", "https://acme.example/hook"]);

    assert!(none.contains("patchwright channel add"), "{none}");
    assert_eq!(refused.code, 1, "webhooks are off where nobody switched them on");
    assert!(refused.err.contains("help:"), "{}", refused.err);
}

/// Without how much time is left.
fn steady_times(text: &str) -> String {
    let text = steady(text);
    let is_left = |word: &str| {
        let mut parts = word.split(' ');
        parts.next().is_some_and(|it| it.parse::<u32>().is_ok()) && word.contains(" d ")
    };
    let line = |line: &str| {
        let words = line.split("  ").map(|it| if is_left(it) { "LEFT" } else { it });
        words.collect::<Vec<_>>().join("  ")
    };
    text.lines().map(|it| line(it) + "\n").collect()
}
