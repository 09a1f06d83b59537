//! Somebody holds the whole machine of the control plane, with the key that signs orders, and hands a real
//! host whatever they like over the host's own connection. Nothing of the host is altered, each attempt has
//! its name in the host's own record, and the tenant is told of it as soon as the control plane hears it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use domain::agent::HandedOrder;
use domain::change::{Action, Draft, ExactPackage};
use domain::order::{Handover, Order};
use jiff::SignedDuration;
use ledger::attestation::Attestor;
use serde_json::Value;

use crate::attacker::{Attacker, Forger, envelope};
use crate::cloud::{Cloud, Host, WAVES, is_possible};

/// Where the agent keeps its own; all else of the root is the host.
const STATE: &str = "var/lib/patchwright-agent";

/// Each file of a host, by what no write leaves as it was.
fn picture(root: &Path) -> BTreeMap<PathBuf, [i64; 6]> {
    fn look(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, [i64; 6]>) {
        for entry in fs::read_dir(root.join(below)).unwrap() {
            let path = below.join(entry.unwrap().file_name());
            let data = fs::symlink_metadata(root.join(&path)).unwrap();
            if path == Path::new("proc") || path == Path::new(STATE) {
                continue;
            }
            if data.is_dir() {
                look(root, &path, files);
            }
            let number = |it: u64| it.cast_signed();
            let (inode, size, mode) = (number(data.ino()), number(data.size()), data.mode().into());
            let told = [inode, size, mode, data.ctime(), data.ctime_nsec(), data.uid().into()];
            files.insert(path, told);
        }
    }
    let mut files = BTreeMap::new();
    look(root, Path::new(""), &mut files);
    files
}

/// A host under attack.
struct Attacked<'a> {
    host: Host,
    attacker: &'a Attacker,
}

impl Attacked<'_> {
    /// The host's own record, the oldest first: what `agent orders` prints.
    fn record(&self) -> Vec<Value> {
        let lines = fs::read_to_string(self.host.root.join(STATE).join("orders.log"));
        let lines = lines.unwrap_or_default();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Hands something over, sees it refused by this name, and that nothing else came of it.
    fn refuses(&self, what: &str, name: &str, handed: &HandedOrder) {
        let (before, recorded) = (picture(&self.host.root), self.record().len());
        self.attacker.shows(serde_json::to_vec(handed).unwrap());
        self.host.does(&["run", "--once"]);
        let record = self.record();
        let entry = record.last().unwrap();
        assert_eq!(record.len(), recorded + 1, "{what}: {entry}");
        assert_eq!(
            (&entry["came"], &entry["refused"]),
            (&"refused".into(), &name.into()),
            "{what}: {entry}"
        );
        assert_eq!(entry["order"], handed.order.to_string(), "{what}");
        assert!(!entry["help"].as_str().unwrap().is_empty(), "{what}");
        assert!(picture(&self.host.root) == before, "{what} altered the host");
        assert_eq!(self.attacker.hears().len(), 1, "{what}: it is told once");
    }

    /// Hands over what is no order at all: the host asks once more, gets nothing, and goes on as ever.
    fn stumbles(&self, what: &str, bytes: Vec<u8>) {
        let (before, recorded) = (picture(&self.host.root), self.record().len());
        self.attacker.shows(bytes);
        self.host.does(&["run", "--once"]);
        assert!(self.attacker.has_shown(), "{what}");
        assert_eq!(self.record().len(), recorded, "{what}");
        assert!(picture(&self.host.root) == before, "{what} altered the host");
    }
}

fn packages(draft: &mut Draft) -> &mut Vec<ExactPackage> {
    match &mut draft.stages[0].items[0].actions[0] {
        Action::Upgrade { packages } => packages,
        other => panic!("{other:?}"),
    }
}

/// What the tenant never signed.
fn unconsented(host: &Attacked<'_>, forger: &Forger, other: &ExactPackage) {
    let stolen = |number| forger.hand(&forger.anew(number));

    let mut bare = stolen(1);
    bare.bundle.consents.clear();
    host.refuses("a plan without consent", "consent", &bare);

    let mut own = stolen(2);
    own.bundle.consents = vec![envelope(&forger.own, &forger.consent)];
    own.bundle.public_keys.push(forger.own.key().to_string());
    host.refuses("a consent by a key that nobody registered", "consent", &own);

    let to_other = |draft: &mut Draft| *packages(draft) = vec![other.clone()];
    let mut borrowed = forger.by_another_plan(3, &forger.own, to_other);
    borrowed.bundle.consents.clone_from(&forger.honest.bundle.consents);
    host.refuses("the consent to another plan", "consent", &borrowed);

    let mut strange = stolen(4);
    strange.bundle.order = envelope(&forger.own, &forger.anew(4));
    strange.bundle.public_keys.push(forger.own.key().to_string());
    let keys = [forger.own.key().id_bytes().into()].into();
    strange.bundle.handovers = vec![envelope(&forger.own, &Handover { version: 2, keys })];
    host.refuses("an order by a key that it names itself", "envelope", &strange);
}

/// What is done to an order before it is signed.
type Turn<'a> = &'a dyn Fn(&mut Order);

/// The honest order with something in it turned.
fn turned(host: &Attacked<'_>, forger: &Forger) {
    let turn = |number, alter: Turn<'_>| {
        let mut order = forger.anew(number);
        alter(&mut order);
        forger.hand(&order)
    };
    let hour = SignedDuration::from_hours(1);
    let cases: [(&str, &str, Turn<'_>); 8] = [
        ("another agent's", "agent", &|it| it.agent = domain::cloud::Id::of_content([9; 16])),
        ("another item's", "item", &|it| it.ci = domain::cloud::Id::of_content([9; 16])),
        ("more than planned", "actions", &|it| it.actions.push(Action::Reboot)),
        ("a wider window", "window", &|it| it.window.until += hour),
        ("an expired one", "expired", &|it| {
            (it.issued_at, it.expires) = (it.issued_at - hour * 2, it.issued_at - hour);
        }),
        ("one of the future", "future", &|it| {
            (it.issued_at, it.expires) = (it.issued_at + hour, it.expires + hour);
        }),
        ("one for ever", "life", &|it| it.expires = it.issued_at + hour * 24 * 365),
        ("another stage", "not_planned", &|it| it.stage = 7),
    ];
    for (number, (what, name, alter)) in (10..).zip(cases) {
        host.refuses(what, name, &turn(number, alter));
    }
}

/// Options, paths and commands in the places of names. The tenant signed each, talked into it.
fn smuggled(host: &Attacked<'_>, forger: &Forger, tenant: &Attestor) {
    let package = packages(&mut forger.plan.draft().clone())[0].clone();
    let name = format!("\"name\":\"{}\"", package.name);
    for (number, word) in (30..).zip([
        "-oDpkg::Pre-Invoke::=/tmp/owned",
        "--purge",
        "../../../etc/passwd",
        "a b",
        "a;touch",
        "tool-",
        "*",
    ]) {
        let spelled = forger.spelled(number, tenant, &name, &format!("\"name\":\"{word}\""));
        host.refuses(word, "plan", &spelled);
    }
    let version = format!("\"version\":\"{}\"", package.version);
    let spelled = forger.spelled(40, tenant, &version, "\"version\":\"1.0;reboot\"");
    host.refuses("a command for a version", "version", &spelled);
    let actions = "\"actions\":[";
    let units = ["--now", "../x.service", "*.service", "emergency.service", "x.service y.service"];
    for (number, unit) in (41..).zip(units) {
        let first = format!("{actions}{{\"do\":\"restart_unit\",\"unit\":\"{unit}\"}},");
        host.refuses(unit, "plan", &forger.spelled(number, tenant, actions, &first));
    }
}

/// What is left once an order was carried out: it again, numbers that were used, and what its tenant was
/// talked into.
fn afterwards(host: &Attacked<'_>, forger: &Forger, tenant: &Attestor, before: &str) {
    host.refuses("the order again", "replayed", &forger.honest);
    host.refuses("its plan by another order", "done", &forger.hand(&forger.anew(60)));
    let mut lower = forger.anew(61);
    lower.sequence = forger.order.sequence;
    host.refuses("a number that was used", "sequence", &forger.hand(&lower));
    let mut earlier = forger.anew(62);
    earlier.issued_at = forger.order.issued_at - SignedDuration::from_mins(1);
    host.refuses("an earlier one", "backdated", &forger.hand(&earlier));
    let back = forger.by_another_plan(63, tenant, |draft| {
        before.clone_into(&mut packages(draft)[0].version);
    });
    host.refuses("the older package", "older", &back);
    // It is newer, and rightly named, and no archive of the host's knows it.
    let other = forger.by_another_plan(64, tenant, |draft| {
        let package = &mut packages(draft)[0];
        package.version = format!("{}.1", package.version);
        package.sha256 = [6; 32].into();
    });
    host.refuses("a package of the attacker's", "not_vouched", &other);
    let same = forger.by_another_plan(65, tenant, |draft| {
        packages(draft)[0].sha256 = [7; 32].into();
    });
    host.refuses("other bytes under the right version", "not_vouched", &same);
}

#[test]
fn nothing_that_it_hands_over_alters_a_host() {
    if !is_possible() {
        eprintln!("warning: no namespaces here; a compromised server is not tried on a real host");
        return;
    }
    let cloud = Cloud::new();
    let world = &cloud.world;
    cloud.olga(&["consent", "key", "new", "tenant.key"]);
    cloud.olga(&["consent", "key", "register", "tenant.key"]);
    let tenant = fs::read_to_string(world.home.path().join("tenant.key")).unwrap();
    let tenant = Attestor::from_pem(&tenant).unwrap();
    let token = cloud.join_token();
    let proxy = world.up.proxy.clone().unwrap();
    let attacker = Attacker::rob(world.data.path(), &proxy, &token);
    let host = Host::new("attacked-host");
    let joined =
        ["join", &attacker.url, "--token", &token, "--name", "web-1", "--consent", "signature"];
    host.does(&joined);
    host.does(&["run", "--once"]);
    cloud.until("a change", |world| {
        let changes = world.json(&["get", "changes", "-o", "json"]);
        (changes["items"].as_array().unwrap().len() > 2).then_some(())
    });
    let waves = world.file("waves.toml", WAVES);
    let mut small = cloud.small_changes(&waves, 2);
    let (_, other) = small.pop().unwrap();
    let (change, _) = small.pop().unwrap();
    let other = &other["turns"][0]["actions"][0]["packages"][0];
    let other: ExactPackage = serde_json::from_value(other.clone()).unwrap();
    let plan = world.home.path().join("plan.json").display().to_string();
    world.ok(&["release", "plan", &change, "--profile", &waves, "--out", &plan]);
    let release = world.json(&["release", "apply", &plan, "-o", "json"]);
    let release = release["id"].as_str().unwrap().to_owned();
    cloud.until("the notice", |world| {
        let share = world.json(&["change", "show", &change, "acme", "-o", "json"]);
        (share["phase"] == "notified").then_some(())
    });
    cloud.olga(&["consent", "approve", &change, "--key", "tenant.key"]);
    cloud.until("the order", |world| {
        let release = world.json(&["release", "show", &release, "-o", "json"]);
        (release["turns"][0]["phase"]["is"] == "ordered").then_some(())
    });
    attacker.keeps_back();
    let forger = cloud.until("an order to keep back", |_| {
        host.does(&["run", "--once"]);
        attacker.forger()
    });
    let host = Attacked { host, attacker: &attacker };

    unconsented(&host, &forger, &other);
    turned(&host, &forger);
    smuggled(&host, &forger, &tenant);
    let mut flood = forger.hand(&forger.anew(50));
    flood.bundle.consents = vec![forger.honest.bundle.consents[0].clone(); 10_000];
    host.refuses("ten thousand consents", "envelope", &flood);
    let mut flood = forger.hand(&forger.anew(51));
    flood.bundle.plan = " ".repeat(70 << 20);
    host.refuses("a plan of seventy megabytes", "envelope", &flood);
    flood.bundle.plan = " ".repeat(120 << 20);
    host.stumbles("more than an agent reads", serde_json::to_vec(&flood).unwrap());
    host.stumbles("no order at all", b"{\"run\":\"touch /tmp/owned\"}".to_vec());
    let told = cloud.until("a notice", |_| {
        let told = cloud.olga(&["get", "notices", "-o", "json"]);
        told.contains("disputed").then_some(told)
    });
    assert!(told.contains(&change), "{told}");

    // After all of it, what the tenant agreed to is still done.
    let package = packages(&mut forger.plan.draft().clone())[0].clone();
    let before = host.host.version(&package.name);
    assert_ne!(before, package.version, "this would prove nothing");
    attacker.lets_pass();
    cloud.until("the order's end", |world| {
        host.host.does(&["run", "--once"]);
        let release = world.json(&["release", "show", &release, "-o", "json"]);
        (release["ended"] == "released").then_some(())
    });
    assert_eq!(host.host.version(&package.name), package.version);
    attacker.hears();

    afterwards(&host, &forger, &tenant, &before);
    assert_eq!(host.host.version(&package.name), package.version);
    let printed = host.host.does(&["orders", "--format", "json"]);
    let printed = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert_eq!(printed.collect::<Vec<_>>(), host.record());
    let events = cloud.olga(&["get", "events", "-o", "json"]);
    for known in ["never given", "answered before", "the tenant's side is missing"] {
        assert!(events.contains(known), "the tenant sees it: {events}");
    }
}
