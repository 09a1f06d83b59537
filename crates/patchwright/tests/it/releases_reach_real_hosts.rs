//! The whole loop on a real Debian system: what it lacks becomes a change, its tenant signs the plan, its
//! agent installs exactly that from its own archives, and another look bears it out.

use crate::cloud::{Cloud, Host, WAVES, is_possible};

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
