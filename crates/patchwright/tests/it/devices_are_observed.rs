//! `FRRouting` in a network namespace, looked at over SSH: what alters is seen, what alters by itself is quiet, no
//! password gets anywhere, and a device with another host key is none.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::configuration_is_kept::holds;
use crate::up::Up;
use serde_json::{Value, json};

const PROVIDER: &str = "ten_00000000000000000000000000";

/// What must get nowhere: the router's passwords, and what lets us in.
const SECRETS: &[&str] = &["Zebra-Pa55", "Bgp-Pa55word", "S3cret-of-netop"];

/// How long something may take that has no reason to.
const PATIENCE: Duration = Duration::from_secs(60);

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A router; gone with its processes where it is dropped.
struct Router {
    namespaces: Child,
    /// Its first process.
    first: String,
    directory: PathBuf,
    address: String,
}

impl Router {
    fn start(directory: &Path) -> Self {
        let directory = directory.to_owned();
        for name in ["host", "client"] {
            Self::make_key(&directory.join(name));
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/frr.sh");
        let namespaces = Command::new("unshare")
            .args(["--mount", "--net", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["bash".as_ref(), script.as_os_str(), directory.as_os_str()])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let id = namespaces.id();
        // Of this run alone, out of what is set apart for tests of networks (RFC 2544).
        let net = format!("198.18.{}.{}", id % 256, (id / 256) % 64 * 4);
        let base = net.rsplit_once('.').unwrap();
        let host = |more: u32| format!("{}.{}", base.0, base.1.parse::<u32>().unwrap() + more);
        let mut router = Self { namespaces, first: String::new(), directory, address: host(2) };
        router.wait_for("its namespaces", |router| {
            let children = format!("/proc/{id}/task/{id}/children");
            let children = fs::read_to_string(children).unwrap_or_default();
            children.trim().clone_into(&mut router.first);
            !router.first.is_empty() && router.directory.join("sshd.pid").exists()
        });
        let (outer, inner) = (format!("pwo{id}"), format!("pwi{id}"));
        let ip = |arguments: &[&str]| run(Command::new("ip").args(arguments));
        let peer = ["peer", "name", &inner, "netns", &router.first];
        ip(&[&["link", "add", &outer, "type", "veth"], &peer[..]].concat());
        ip(&["addr", "add", &format!("{}/30", host(1)), "dev", &outer]);
        ip(&["link", "set", &outer, "up"]);
        router.inside(&["ip", "addr", "add", &format!("{}/30", router.address), "dev", &inner]);
        router.inside(&["ip", "link", "set", &inner, "up"]);
        router
    }

    fn make_key(path: &Path) {
        for old in [path.to_owned(), path.with_extension("pub")] {
            let _ = fs::remove_file(old);
        }
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path));
    }

    fn host_key(&self) -> String {
        let listed =
            run(Command::new("ssh-keygen").arg("-lf").arg(self.directory.join("host.pub")));
        listed.split(' ').nth(1).unwrap().to_owned()
    }

    fn inside(&self, command: &[&str]) -> String {
        let enter = ["--target", &self.first, "--mount", "--net", "--uts", "--pid"];
        run(Command::new("nsenter").args(enter).args(command))
    }

    /// It has another host key from now on.
    fn takes_another_host_key(&self) {
        Self::make_key(&self.directory.join("host"));
        let kill = format!("kill $(cat {}/sshd.pid)", self.directory.display());
        self.inside(&["sh", "-c", &kill]);
    }

    fn wait_for(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "the router has no {what}");
            let ended = self.namespaces.try_wait().unwrap();
            assert!(ended.is_none(), "the router ended before it had {what}: {ended:?}");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // Its first process ends with it, and with that one all of them.
        let _ = self.namespaces.kill();
        let _ = self.namespaces.wait();
    }
}

struct Cloud {
    up: Up,
    token: String,
    directory: tempfile::TempDir,
}

impl Cloud {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let up = Up::start_with(&directory.path().join("data"), &[], &[]).unwrap();
        let token = up.sign_in();
        Self { up, token, directory }
    }

    fn item(&self, class: &str, name: &str) {
        let body = json!({ "tenant": PROVIDER, "class": class, "name": name });
        let (status, made) = self.up.ask(&self.token, "POST", "/cis", &body, name).unwrap();
        assert_eq!(status, 201, "{made}");
    }

    fn outcome(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(arguments)
            .env("HOME", self.directory.path())
            .env("PATCHWRIGHT_URL", &self.up.console)
            .env("PATCHWRIGHT_TOKEN", &self.token)
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }

    fn client(&self, arguments: &[&str]) -> String {
        let output = self.outcome(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn device(&self, name: &str) -> Value {
        serde_json::from_str(&self.client(&["device", "show", name, "-o", "json"])).unwrap()
    }

    /// An agent for an item tells all files of a host, for the first time.
    fn agent_tells(&self, name: &str) {
        let place = |path: &str| self.directory.path().join(path);
        for (path, text) in [
            ("root/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n"),
            (
                "root/var/lib/dpkg/status",
                "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\n\
                 Version: 1.21.22\nDescription: x\n\n",
            ),
        ] {
            fs::create_dir_all(place(path).parent().unwrap()).unwrap();
            fs::write(place(path), text).unwrap();
        }
        let ci = self.device(name)["ci"].clone();
        let body = json!({ "tenant": PROVIDER, "ci": ci });
        let (_, made) = self.up.ask(&self.token, "POST", "/agent-tokens", &body, "join").unwrap();
        let text = |path: &str| place(path).display().to_string();
        let (state, root, policy) = (text("state"), text("root"), text("none.toml"));
        let (agents, token) = (&self.up.agents, made["token"].as_str().unwrap());
        let state = ["--state", &state];
        let join = ["agent", "join", agents, "--token", token, "--name", name];
        self.client(&[&join[..], &state].concat());
        let tell = ["agent", "run", "--once", "--root", &root, "--policy", &policy];
        self.client(&[&tell[..], &state].concat());
    }

    /// Has it looked at now, and waits until that is done.
    fn look(&self, name: &str) -> Value {
        let before = self.device(name)["looked_at"].clone();
        self.client(&["device", "look", name]);
        self.looked(name, &before)
    }

    fn looked(&self, name: &str, before: &Value) -> Value {
        let begun = Instant::now();
        loop {
            let device = self.device(name);
            if device["looked_at"] != *before {
                return device;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody looks: {device}");
            thread::sleep(Duration::from_millis(100));
        }
    }

    fn versions(&self, name: &str, path: &str) -> usize {
        let log = self.client(&["config", "log", name, path, "-o", "json"]);
        let log: Value = serde_json::from_str(&log).unwrap();
        log["items"].as_array().unwrap().len()
    }

    /// The events of a kind that are published, once there is one.
    fn events(&self, kind: &str) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let path = "/events?limit=1000";
            let (_, page) = self.up.ask(&self.token, "GET", path, &Value::Null, "").unwrap();
            let items = page["items"].as_array().unwrap();
            let found: Vec<_> =
                items.iter().filter(|event| event["kind"] == kind).cloned().collect();
            if !found.is_empty() {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "nothing of {kind} is published");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

fn is_root() -> bool {
    let id = run(Command::new("id").arg("-u"));
    id.trim() == "0"
}

/// What is the same for each of the router's items.
fn set(cloud: &Cloud, router: &Router, name: &str, model: &str, more: &[&str]) -> Value {
    let same = ["--address", &router.address, "--port", "2222", "--every", "1h"];
    let arguments = [&["device", "set", name, "--model", model], &same[..], more].concat();
    cloud.client(&arguments);
    let device = cloud.looked(name, &Value::Null);
    assert_eq!(device["state"], "seen", "{device}");
    device
}

#[test]
fn a_router_is_looked_at_and_what_alters_is_seen() {
    if !is_root() {
        eprintln!("SKIPPED: a router in a network namespace needs root; run this test as root");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let router = Router::start(place.path());
    let cloud = Cloud::start();
    let key_file = place.path().join("client").display().to_string();
    let host_key = router.host_key();
    let by_key = ["--user", "root", "--key-file", &key_file, "--host-key", &host_key];
    let password_file = place.path().join("password").display().to_string();
    fs::write(&password_file, "S3cret-of-netop\n").unwrap();

    // By vtysh -c, by vtysh as a shell, and the host's packet filter.
    cloud.item("network_device", "r1");
    cloud.item("vm", "r1-shell");
    cloud.item("security_device", "r1-filter");
    set(&cloud, &router, "r1", "frr", &by_key);
    let first = ["--user", "netop", "--password-file", &password_file, "--trust-first-key"];
    let pinned = set(&cloud, &router, "r1-shell", "frr-vtysh", &first);
    assert_eq!(pinned["host_key"], host_key.as_str());
    set(&cloud, &router, "r1-filter", "nftables", &by_key);

    let shown = cloud.client(&["config", "show", "r1", "/running-config"]);
    assert!(shown.contains(" set local-preference 100\n") && shown.ends_with("end\n"), "{shown}");
    assert!(shown.contains("password <redacted:password:"), "{shown}");
    let by_shell = cloud.client(&["config", "show", "r1-shell", "/running-config"]);
    let without_marks = |text: &str| -> String {
        let lines = text.lines().map(|line| line.split("<redacted:").next().unwrap());
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_marks(&by_shell), without_marks(&shown), "both ways show the same");
    let listed = cloud.client(&["config", "list", "r1"]);
    assert!(listed.contains("/version"), "{listed}");

    // Nothing altered but counters, by our looking alone.
    let counted = router.inside(&["nft", "list", "ruleset"]);
    for name in ["r1", "r1-shell", "r1-filter"] {
        assert_eq!(cloud.look(name)["state"], "seen");
    }
    assert_ne!(router.inside(&["nft", "list", "ruleset"]), counted);
    for (name, path) in
        [("r1", "/running-config"), ("r1-shell", "/running-config"), ("r1-filter", "/ruleset")]
    {
        assert_eq!(cloud.versions(name, path), 1, "{name}");
    }

    // What an agent tells of all files of the same item says nothing of what was asked over SSH.
    cloud.agent_tells("r1-shell");
    let listed = cloud.client(&["config", "list", "r1-shell"]);
    assert!(listed.contains("/running-config") && listed.contains("/etc/os-release"), "{listed}");

    let before = jiff::Timestamp::now().to_string();
    let preference = "set local-preference 200";
    let map = ["-c", "configure terminal", "-c", "route-map IN permit 10", "-c", preference];
    router.inside(&[&["vtysh"], &map[..]].concat());
    router.inside(&["nft", "add rule inet filter input tcp dport 23 drop"]);
    for name in ["r1", "r1-shell", "r1-filter"] {
        cloud.look(name);
        cloud.look(name);
    }
    for name in ["r1", "r1-shell"] {
        assert_eq!(cloud.versions(name, "/running-config"), 2, "{name}");
        let differs = cloud.client(&["config", "diff", name, "--from", &before]);
        let altered: Vec<_> = differs
            .lines()
            .filter(|line| {
                (line.starts_with('-') && !line.starts_with("---"))
                    || (line.starts_with('+') && !line.starts_with("+++"))
            })
            .collect();
        assert_eq!(altered, ["- set local-preference 100", "+ set local-preference 200"]);
    }
    assert_eq!(cloud.versions("r1-filter", "/ruleset"), 2);

    another_key_is_refused(&cloud, &router, &key_file);

    let data = cloud.directory.path().join("data");
    for secret in SECRETS {
        assert_eq!(holds(&data, secret.as_bytes()), None, "{secret}");
        let place = holds(place.path(), secret.as_bytes());
        assert!(place.is_some(), "{secret} is looked for rightly");
    }
}

/// Another host key: refused, recorded, and nobody tries again until it is said what is so.
fn another_key_is_refused(cloud: &Cloud, router: &Router, key_file: &str) {
    router.takes_another_host_key();
    let begun = Instant::now();
    let refused = loop {
        let device = cloud.look("r1");
        if device["state"] != "unreachable" {
            break device;
        }
        assert!(begun.elapsed() < PATIENCE, "sshd does not come back: {device}");
    };
    assert_eq!(refused["state"], "key_differs", "{refused}");
    assert_eq!(refused["offered_key"], router.host_key().as_str());
    assert_eq!(refused["due_at"], Value::Null);
    let told = cloud.events("device.key_differs");
    assert_eq!(told.len(), 1);
    assert_eq!(told[0]["payload"]["offered_key"], router.host_key().as_str(), "{told:?}");
    let again = cloud.outcome(&["device", "look", "r1"]);
    assert!(!again.status.success());
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(said.contains("another host key") && said.contains("help"), "{said}");
    let shown = cloud.client(&["device", "show", "r1"]);
    assert!(shown.contains("it showed") && shown.contains("key_differs"), "{shown}");
    assert_eq!(cloud.versions("r1", "/running-config"), 2);

    let before = cloud.device("r1")["looked_at"].clone();
    let new_key = router.host_key();
    let same = ["--address", &router.address, "--port", "2222", "--user", "root"];
    let opens = ["--key-file", key_file, "--host-key", &new_key];
    cloud.client(&[&["device", "set", "r1", "--model", "frr"], &same[..], &opens].concat());
    assert_eq!(cloud.looked("r1", &before)["state"], "seen");
    assert_eq!(cloud.events("device.recovered").len(), 1);
    cloud.client(&["device", "remove", "r1"]);
    assert_eq!(cloud.versions("r1", "/running-config"), 2, "what was recorded stays");
}
