//! Alterations of a real Debian system, as they happen: what a package brings is its vendor's, what was agreed is
//! authorised, what somebody writes by hand has their name, and what alters by itself is quiet.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cloud::{Cloud, Host, is_possible};
use crate::support::{as_root, run};

/// A host on which an agent keeps running, in namespaces of their own.
struct Running {
    host: Host,
    agent: Child,
    /// A process of theirs, by its number outside.
    inside: u32,
}

impl Running {
    fn start(host: Host) -> Self {
        let proc = format!("--mount-proc={}", host.root.join("proc").display());
        let mut command = as_root("unshare");
        command.args(["--fork", "--kill-child", "--pid", "--mount", &proc, "chroot"]);
        command.arg(&host.root).args(["/usr/local/bin/patchwright", "agent", "run"]);
        let said = fs::File::create(host.root.join("tmp/agent.log")).unwrap();
        let agent =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn().unwrap();
        let inside = until("the agent", || child_of(agent.id()));
        Self { host, agent, inside }
    }

    /// Runs a program beside the agent, in a session that an account began.
    fn as_user(&self, login: u32, arguments: &[&str]) {
        let session = r#"echo "$0" > /proc/self/loginuid && exec "$@""#;
        let mut command = as_root("sh");
        command.args(["-c", session, &login.to_string(), "nsenter"]);
        self.beside(&mut command, arguments);
    }

    /// The same where no session began.
    fn does(&self, arguments: &[&str]) {
        self.beside(&mut as_root("nsenter"), arguments);
    }

    fn beside(&self, command: &mut Command, arguments: &[&str]) {
        let target = self.inside.to_string();
        command.args(["--target", &target, "--pid", "--mount", "chroot"]).arg(&self.host.root);
        run(command.args(["env", "DEBIAN_FRONTEND=noninteractive", "TERM=dumb"]).args(arguments));
    }

    fn path(&self, path: &str) -> PathBuf {
        self.host.root.join(path)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.agent.kill();
        let _ = self.agent.wait();
    }
}

/// The child of a process, once it runs the agent.
fn child_of(process: u32) -> Option<u32> {
    let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).ok()?;
    let child: u32 = children.split_whitespace().next()?.parse().ok()?;
    let executable = fs::read_link(format!("/proc/{child}/exe")).ok()?;
    executable.ends_with("patchwright").then_some(child)
}

fn until<T>(what: &str, found: impl Fn() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begin.elapsed() < Duration::from_secs(120), "{what} does not come");
        thread::sleep(Duration::from_millis(50));
    }
}

/// A package with a configuration file, and a script that makes another one.
fn package(root: &Path, version: &str) -> String {
    let work = root.join("tmp").join(format!("demo-{version}"));
    let write = |path: &str, text: &str| {
        fs::create_dir_all(work.join(path).parent().unwrap()).unwrap();
        fs::write(work.join(path), text).unwrap();
    };
    write(
        "DEBIAN/control",
        &format!(
            "Package: demo\nVersion: {version}\nArchitecture: all\nMaintainer: M <m@example.org>\n\
             Description: a service\n"
        ),
    );
    write("DEBIAN/conffiles", "/etc/demo/demo.conf\n");
    let script = format!(
        "#!/bin/sh\nset -e\nprintf 'made for %s\\n' {version} > /etc/demo/made.conf.new\n\
         mv /etc/demo/made.conf.new /etc/demo/made.conf\n\
         ln -sfn demo-{version} /etc/demo/current\n"
    );
    write("DEBIAN/postinst", &script);
    run(Command::new("chmod").arg("755").arg(work.join("DEBIAN/postinst")));
    write("etc/demo/demo.conf", &format!("version = {version}\n"));
    let file = format!("tmp/demo_{version}.deb");
    run(Command::new("dpkg-deb")
        .args(["--build", "--root-owner-group"])
        .arg(&work)
        .arg(root.join(&file)));
    format!("/{file}")
}

struct Judged<'a> {
    cloud: &'a Cloud,
}

impl Judged<'_> {
    fn versions(&self, path: &str) -> Vec<Value> {
        let found = self.cloud.world.json(&["config", "log", "web-1", path, "-o", "json"]);
        found["items"].as_array().unwrap().clone()
    }

    /// The verdict on a file's next version, which an act makes; says how long that took.
    fn next(&self, path: &str, act: impl FnOnce()) -> Value {
        let known = self.cloud.world.run(&["config", "log", "web-1", path, "-o", "json"]);
        let before = match known.code {
            0 => self.versions(path).len(),
            _ => 0,
        };
        act();
        let begin = Instant::now();
        let newest = until(path, || {
            let known = self.cloud.world.run(&["config", "log", "web-1", path, "-o", "json"]);
            let found: Value = serde_json::from_str(&known.out).ok()?;
            let items = found["items"].as_array()?;
            let newest = items.first()?;
            (items.len() > before && !newest["verdict"].is_null()).then(|| newest.clone())
        });
        eprintln!("{path}: judged {:.1} s after it was written", begin.elapsed().as_secs_f64());
        newest
    }
}

#[test]
fn each_alteration_of_a_real_system_is_judged_as_it_happens() {
    if !is_possible() || fs::read_to_string("/proc/self/loginuid").is_err() {
        eprintln!(
            "warning: no namespaces or logins here; verdicts on a real system are not tested"
        );
        return;
    }
    let cloud = Cloud::new();
    let host = Host::new("judged-host");
    run(as_root("chroot").arg(&host.root).args(["useradd", "--uid", "1234", "anna"]));
    let deb = package(&host.root, "1.0");
    run(as_root("chroot").arg(&host.root).args(["dpkg", "--install", &deb]));
    fs::write(host.root.join("etc/motd"), "welcome\n").unwrap();
    fs::create_dir_all(host.root.join("etc/iptables")).unwrap();
    let rules =
        |packets: u32| format!("*filter\n:INPUT ACCEPT [{packets}:{}]\nCOMMIT\n", packets * 60);
    fs::write(host.root.join("etc/iptables/rules.v4"), rules(1)).unwrap();
    let token = cloud.join_token();
    let agents = cloud.world.up.agents.clone();
    host.does(&["join", &agents, "--token", &token, "--name", "web-1"]);
    host.does(&["run", "--once"]);
    host.does(&["run", "--once"]);
    let running = Running::start(host);
    let judged = Judged { cloud: &cloud };
    let log = running.path("tmp/agent.log");
    until("its first round", || {
        let round = cloud.world.json(&["get", "agents", "-o", "json"]);
        let seen: Timestamp = round["items"][0]["seen_at"].as_str()?.parse().ok()?;
        (Timestamp::now().duration_since(seen) < SignedDuration::from_secs(5)).then_some(())
    });
    assert_eq!(fs::read_to_string(&log).unwrap(), "");

    // Nothing of what was there from the beginning is an alteration.
    assert!(judged.versions("/etc/motd")[0]["verdict"].is_null());

    // A package is brought up to date.
    let deb = package(&running.host.root, "2.0");
    let verdict =
        judged.next("/etc/demo/demo.conf", || running.as_user(1234, &["dpkg", "-i", &deb]));
    assert_eq!(verdict["verdict"]["standing"], "vendor", "{verdict}");
    assert_eq!(verdict["verdict"]["verdict"]["package"], "demo");
    assert_eq!(verdict["verdict"]["verdict"]["version"], "2.0");
    for path in ["/etc/demo/made.conf", "/etc/demo/current"] {
        let newest = until(path, || {
            let newest = judged.versions(path).remove(0);
            (!newest["verdict"].is_null()).then_some(newest)
        });
        assert_eq!(newest["verdict"]["standing"], "vendor", "{path}: {newest}");
    }

    // Somebody who had logged in writes by hand.
    let verdict = judged.next("/etc/motd", || {
        running.as_user(1234, &["sed", "-i", "s/welcome/hello/", "/etc/motd"]);
    });
    assert_eq!(verdict["verdict"]["standing"], "unauthorised", "{verdict}");
    assert_eq!(verdict["verdict"]["actor"], json!({ "who": "person", "login": "anna" }));
    let drifts = cloud.world.ok(&["config", "drift", "web-1"]);
    assert!(drifts.contains("/etc/motd") && drifts.contains("anna by /usr/bin/sed"), "{drifts}");

    // They put it back: it is as it was, whoever did so.
    let verdict = judged.next("/etc/motd", || {
        running.does(&["sed", "-i", "s/hello/welcome/", "/etc/motd"]);
    });
    assert_eq!(verdict["verdict"]["verdict"]["verdict"], "reverted", "{verdict}");
    let drifts = cloud.world.ok(&["config", "drift", "web-1"]);
    assert!(!drifts.contains("/etc/motd"), "{drifts}");

    // What a cron job saves of counters is quiet.
    let counters = rules(77);
    let verdict = judged.next("/etc/iptables/rules.v4", || {
        let write = format!("printf '{}' > /etc/iptables/rules.v4", counters.replace('\n', "\\n"));
        running.does(&["sh", "-c", &write]);
    });
    assert_eq!(verdict["verdict"]["verdict"]["verdict"], "noise", "{verdict}");
    assert_eq!(cloud.world.json(&["config", "drift", "-o", "json"])["items"], json!([]));

    // A change that its tenant signed is done by hand, as it says.
    let content = "Banner /etc/issue.net\n";
    cloud.agree("/etc/demo/banner.conf", content);
    let verdict = judged.next("/etc/demo/banner.conf", || {
        running
            .as_user(1234, &["sh", "-c", "echo 'Banner /etc/issue.net' > /etc/demo/banner.conf"]);
    });
    assert_eq!(verdict["verdict"]["standing"], "authorised", "{verdict}");

    // Something else in the same file is not what was agreed; its owner lets it stay.
    let verdict = judged.next("/etc/demo/banner.conf", || {
        running.as_user(1234, &["sh", "-c", "echo 'Banner none' > /etc/demo/banner.conf"]);
    });
    assert_eq!(verdict["verdict"]["standing"], "unauthorised", "{verdict}");
    let drifts = cloud.world.json(&["config", "drift", "-o", "json"]);
    let id = drifts["items"][0]["id"].as_str().unwrap();
    let refused = cloud.world.run(&["config", "adopt", id, "--reason", "by the provider"]);
    assert!(refused.code == 1 && refused.err.contains("the tenant decides"), "{}", refused.err);
    cloud.olga(&["config", "adopt", id, "--reason", "we want none"]);
    assert_eq!(cloud.world.json(&["config", "drift", "-o", "json"])["items"], json!([]));
    let all = cloud.olga(&["config", "drift", "--all"]);
    assert!(all.contains("adopted") && all.contains("reverted"), "{all}");
    assert_eq!(fs::read_to_string(&log).unwrap(), "", "the agent has nothing to complain of");
}
