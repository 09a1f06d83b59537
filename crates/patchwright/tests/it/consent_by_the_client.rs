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
fn a_tenant_agrees_ahead_by_rules() {
    let both = Both::new();
    both.olga(&["consent", "key", "new", "tenant.key"]);
    both.olga(&["consent", "key", "register", "tenant.key"]);
    let empty = both.olga(&["consent", "rule", "list"]);
    assert!(empty.contains("patchwright consent rule make"), "{empty}");
    let begin = ["consent", "rule", "make", "--key", "tenant.key", "--priority", "medium,low"];
    let rest = ["--kind", "alteration", "--window", "tue 02:00 4h", "--window", "sat 22:00 6h"];
    let until = ["--item", "web-1", "--until", "2099-06-30T00:00:00Z"];
    let line = [&begin[..], &rest, &until, &["--out", "rule.json"]].concat();

    let made = both.olga(&line);

    insta::assert_snapshot!("rule_made", steady_rule(&made));
    insta::assert_snapshot!("rules", steady_rule(&both.olga(&["consent", "rule", "list"])));
    let rules: Value =
        serde_json::from_str(&both.olga(&["consent", "rule", "list", "-o", "json"])).unwrap();
    let nonce = rules[0]["says"]["nonce"].as_str().unwrap();
    assert_eq!(rules[0]["says"]["windows"][0], json!({ "begins": 1560, "minutes": 240 }));
    let shown = both.olga(&["consent", "rule", "show", nonce]);
    insta::assert_snapshot!("rule_shown", steady_rule(&shown));
    let file = ["consent", "rule", "show", "rule.json"];
    assert!(both.olga(&file).contains("nobody looked at its signature"));
    let public = both.olga(&["consent", "key", "show", "tenant.key"]);
    std::fs::write(both.world.home.path().join("tenant.pub"), public).unwrap();
    let held = both.olga(&[&file[..], &["--public-key", "tenant.pub"]].concat());
    assert!(held.contains("the signature holds"), "{held}");
    // What came in once does not come in again, and the provider cannot speak for the tenant.
    let again = both.as_olga(&["consent", "rule", "send", "rule.json"]);
    assert!(again.code == 1 && again.err.contains("already"), "{}", again.err);
    let others = both.world.run(&["consent", "rule", "withdraw", nonce]);
    assert_eq!(others.code, 1, "{}", others.out);

    let withdrawn = both.olga(&["consent", "rule", "withdraw", nonce]);
    assert!(withdrawn.contains("counts no more"), "{withdrawn}");
    assert!(both.olga(&["consent", "rule", "list"]).contains("withdrawn"), "it stays to be seen");
    let over = [&begin[..], &rest, &["--all-items", "--until", "2020-06-30T00:00:00Z"]].concat();
    assert_eq!(both.as_olga(&over).code, 2, "a rule that never counts is a mistake");
}

#[test]
fn keys_are_added_rotated_revoked_and_not_recovered_by_a_new_owner() {
    let both = Both::new();
    for number in ["1", "2", "3"] {
        both.olga(&["consent", "key", "new", &format!("{number}.key")]);
    }
    let id = |number: &str| {
        let shown = both.olga(&["consent", "key", "show", &format!("{number}.key")]);
        shown.split_whitespace().nth(2).unwrap().to_owned()
    };
    both.olga(&["consent", "key", "register", "1.key", "--label", "first"]);

    let added = both.olga(&["consent", "key", "add", "2.key", "--key", "1.key", "--label", "two"]);
    assert!(added.contains(&format!("adds        {}, held by usr_", id("2"))), "{added}");
    assert!(added.contains("  two\n") && added.contains("  first\n"), "{added}");
    let rotate = ["consent", "key", "rotate", "3.key", "--key", "1.key", "--out", "order.json"];
    let rotated = both.olga(&rotate);
    assert!(rotated.contains(&format!("rotates to  {}", id("3"))), "{rotated}");
    let again = both.as_olga(&["consent", "key", "order", "order.json", "--public-key", "3.key"]);
    assert!(again.code == 1 && again.err.contains("was rotated to"), "{}", again.err);

    // Signed elsewhere, and handed in here; and by an owner without any key.
    let tenant = both.world.json(&["get", "tenants", "acme", "-o", "json"]);
    let tenant = tenant["id"].as_str().unwrap();
    let revoke = ["consent", "key", "revoke", &id("2"), "--key", "3.key", "--tenant", tenant];
    let order = both.olga(&revoke);
    std::fs::write(both.world.home.path().join("revoke.json"), order).unwrap();
    let sent = both.olga(&["consent", "key", "order", "revoke.json"]);
    assert!(sent.contains(&format!("revokes     {}", id("2"))), "{sent}");
    both.olga(&["consent", "key", "revoke", &id("3")]);
    let keys: Value =
        serde_json::from_str(&both.olga(&["consent", "key", "list", "-o", "json"])).unwrap();
    let ended = |it: &Value| it["ended"]["by"].as_str().unwrap_or("in force").to_owned();
    let mut ends: Vec<_> = keys.as_array().unwrap().iter().map(ended).collect();
    ends.sort();
    assert_eq!(ends, ["revocation", "revocation", "rotation"]);

    let ask = both.as_olga(&["consent", "key", "recover", "ask", "1.key"]);
    assert!(ask.err.contains("is registered already"), "{}", ask.err);
    both.olga(&["consent", "key", "new", "4.key"]);
    let ask = both.as_olga(&["consent", "key", "recover", "ask", "4.key"]);
    assert_eq!(ask.code, 1, "an owner of today: {}", ask.out);
    assert!(ask.err.contains("who are owners for 72 hours"), "{}", ask.err);
    let none = both.olga(&["consent", "key", "recover", "show"]);
    assert_eq!(none, "no recovery is under way\n");
    assert_eq!(both.olga(&["consent", "key", "recover", "show", "-o", "json"]), "null\n");
    assert_eq!(both.as_olga(&["consent", "key", "recover", "object"]).code, 1);
}

#[test]
fn both_sides_agree_on_a_policy() {
    let both = Both::new();
    let policy = "version = \"acme-1\"\nmedium.deferrals = { count = 0 }\n";
    let file = both.world.file("acme.toml", policy);
    insta::assert_snapshot!("policies_shipped", both.olga(&["sla", "policy", "list"]));

    let proposed = both.olga(&["sla", "policy", "propose", &file]);

    insta::assert_snapshot!("policy_proposed", proposed);
    let own = both.as_olga(&["sla", "policy", "agree", "acme-1", "--yes"]);
    assert!(own.code == 1 && own.err.contains("the other side"), "{}", own.err);
    let of_acme = ["sla", "policy", "agree", "acme-1", "--tenant", "acme"];
    let unasked = both.world.run(&of_acme);
    assert_eq!(unasked.code, 2, "nobody can be asked: {}", unasked.err);
    let odd = both.world.run(&["sla", "policy", "agree", "acme-2", "--tenant", "acme", "--yes"]);
    assert!(odd.code == 1 && odd.err.contains("no version `acme-2`"), "{}", odd.err);
    let agreed = both.world.ok(&[&of_acme[..], &["--yes"]].concat());
    insta::assert_snapshot!("policy_agreed", steady(&agreed));
    insta::assert_snapshot!("policies", steady(&both.olga(&["sla", "policy", "list"])));
    let shown = both.olga(&["sla", "policy", "show"]);
    assert!(shown.contains("version = \"acme-1\""), "{shown}");
    let again = both.as_olga(&["sla", "policy", "propose", &file]);
    assert!(again.code == 1 && again.err.contains("already"), "{}", again.err);
    let listed: Value =
        serde_json::from_str(&both.olga(&["sla", "policy", "list", "-o", "json"])).unwrap();
    assert_eq!(listed[0]["state"], "agreed");
}

#[test]
fn what_stands_in_the_way_is_told_with_whose_word_it_is() {
    let both = Both::new();
    let change = &both.change;
    let line = ["change", "interrupt", change, "acme", "--cause", "vendor", "--from"];
    let before = both.world.run(&[&line[..], &["2020-01-01T00:00:00Z"]].concat());
    assert!(
        before.code == 1 && before.err.contains("before the patch was collected"),
        "{}",
        before.err
    );

    let said = both.world.ok(&[&line[..], &[&jiff::Timestamp::now().to_string()]].concat());

    assert!(said.contains("the provider's: admin"), "{said}");
    let seen = both.olga(&["change", "show", change]);
    let (_, told) = seen.split_once("what stood in the way\n").unwrap();
    assert!(told.contains("vendor") && told.contains("the provider's: "), "{told}");
    let freeze = ["change", "interrupt", change, "acme", "--cause", "change_freeze", "--from"];
    let freeze = both.world.run(&[&freeze[..], &[&jiff::Timestamp::now().to_string()]].concat());
    assert!(freeze.err.contains("agreed by both sides"), "{}", freeze.err);
}

/// Without what is another's each time: nonces, ids of keys.
fn steady_rule(text: &str) -> String {
    let text = steady(text);
    let line = |line: &str| {
        let words = line.split(' ').map(|word| {
            let core = word.trim_matches(|c: char| "`,".contains(c));
            let is_hex = core.len() >= 32 && core.chars().all(|c| c.is_ascii_hexdigit());
            if is_hex { word.replace(core, "HEX") } else { word.to_owned() }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    text.lines().map(|it| line(it) + "\n").collect()
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
