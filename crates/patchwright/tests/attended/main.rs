//! What is written on a real virtual machine is noticed within seconds, and held to be what it is: a person's, a
//! package's, what was agreed, or nothing. By itself, as it needs the machine that it runs on.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive;
#[allow(dead_code, reason = "others use its other part")]
#[path = "../it/support/client.rs"]
mod client;
#[allow(dead_code, reason = "others use its other part")]
#[path = "../it/support/cloud.rs"]
mod cloud;
mod machine;
#[path = "../../../store/tests/it/support/memory.rs"]
mod memory;
#[path = "../it/support/mod.rs"]
mod support;
mod terminal;
#[path = "../it/support/up.rs"]
mod up;

use std::cell::RefCell;
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lab::Accelerator;
use serde_json::{Value, json};

use crate::cloud::Cloud;
use crate::machine::{GATEWAY, LOGIN, Machine, NAME};
use crate::terminal::{PROMPT, Terminal};

/// How often the agent reports where nothing is touched.
const INTERVAL: Duration = Duration::from_secs(30);

/// From the write until it is recorded, where somebody watches: what is promised of a machine that has processors of
/// its own. Without KVM it does all ten times slower, beside whatever else is done here; then the figures are printed,
/// and only what comes with no look of its own is too late.
fn soon() -> SignedDuration {
    match Accelerator::of_this_machine() {
        Accelerator::Kvm => SignedDuration::from_secs(5),
        Accelerator::Tcg => SignedDuration::try_from(INTERVAL).unwrap(),
    }
}

/// The same where nobody does: waits between reports vary by a tenth.
fn at_last() -> SignedDuration {
    SignedDuration::try_from(INTERVAL + INTERVAL / 10).unwrap() + soon()
}

/// How long the machine may take for anything else.
const PATIENCE: Duration = Duration::from_secs(300);

/// The unit with less than it has, as its owner would say so, in a place that is not observed.
const LESS: &str = "/run/systemd/system/patchwright-agent.service.d";

struct Observed<'a> {
    cloud: &'a Cloud,
    machine: RefCell<Machine>,
    /// A second session, which watches the agent.
    beside: RefCell<Terminal>,
    token: String,
    ci: String,
}

impl Observed<'_> {
    /// Waits for something that the machine makes happen.
    fn until<T>(&self, what: &str, found: impl Fn() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(found) = found() {
                return found;
            }
            self.machine.borrow_mut().must_run();
            let console = || self.machine.borrow().console();
            assert!(begin.elapsed() < PATIENCE, "{what} does not come\n{}", console());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// A file's versions, the oldest first.
    fn versions(&self, path: &str) -> Vec<Value> {
        let asked = format!("/cis/{}/files/versions?path={path}", self.ci);
        let (status, found) =
            self.cloud.world.up.ask(&self.token, "GET", &asked, &Value::Null, "").unwrap();
        match status {
            200 => found["items"].as_array().unwrap().clone(),
            404 => Vec::new(),
            _ => panic!("{found}"),
        }
    }

    /// How many reports the agent has made. The control plane knows it minutes later only, where nothing alters.
    fn reports(&self) -> u64 {
        let counted = self.beside.borrow_mut().runs("cat /var/lib/patchwright-agent/counter");
        counted.parse().unwrap_or_else(|_| panic!("{counted:?}"))
    }

    /// Waits until the agent has looked and reported once more.
    fn is_looked_at(&self) {
        let before = self.reports();
        self.until("a report", || (self.reports() > before).then_some(()));
    }

    /// The next version of a file, which an act makes, once it is judged.
    fn next(&self, path: &str, act: impl FnOnce()) -> Value {
        let before = self.versions(path).len();
        act();
        self.until(path, || {
            let next = self.versions(path).into_iter().nth(before)?;
            (!next["verdict"].is_null()).then_some(next)
        })
    }

    /// All paths of which a drift is open.
    fn drifts(&self) -> Vec<String> {
        let drifts = self.cloud.world.json(&["config", "drift", NAME, "-o", "json"]);
        let items = drifts["items"].as_array().unwrap();
        let mut paths: Vec<_> =
            items.iter().map(|it| it["path"].as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    }
}

/// A person at work, and how far the machine's clock is ahead of this one's.
struct Person {
    terminal: Terminal,
    ahead: SignedDuration,
    /// What was noticed later than it was to be.
    late: Vec<String>,
}

impl Person {
    fn at(machine: &Machine) -> Self {
        let mut terminal = machine.at_work();
        // The quickest answer says it best.
        let asked = (0..5).map(|_| {
            let before = Timestamp::now();
            let there = instant(&terminal.runs("date +%s.%N"));
            let round = Timestamp::now().duration_since(before);
            (round, there.duration_since(before + round / 2))
        });
        let (round, ahead) = asked.min().unwrap();
        eprintln!("the machine's clock is {ahead:#} ahead, give or take {:#}", round / 2);
        Self { terminal, ahead, late: Vec::new() }
    }

    /// How long after it was written a version was recorded.
    fn noticed(&mut self, version: &Value) -> SignedDuration {
        let path = version["path"].as_str().unwrap();
        let written = instant(&self.terminal.runs(&format!("stat --format=%.9Z {path}")));
        let recorded: Timestamp = version["recorded_at"].as_str().unwrap().parse().unwrap();
        recorded.duration_since(written - self.ahead)
    }

    /// The same, held against a limit.
    fn is_noticed_within(&mut self, limit: SignedDuration, version: &Value) {
        let took = self.noticed(version);
        let (path, verdict) = (&version["path"], &version["verdict"]["verdict"]["verdict"]);
        let told = format!(
            "{} {}: recorded {:.1} s after it was written; {}",
            path.as_str().unwrap(),
            version["by"].as_str().unwrap_or("by nobody that is known"),
            took.as_secs_f64(),
            verdict.as_str().unwrap()
        );
        eprintln!("{told}");
        if took > limit {
            self.late.push(format!("{told}, and not within {limit:#}"));
        }
    }

    fn inode(&mut self, path: &str) -> String {
        self.terminal.runs(&format!("stat --format=%i {path}"))
    }

    /// Opens an editor, adds a line, and leaves the editor open.
    fn begins_to_edit(&mut self, editor: &str, path: &str, shown: &str, line: &str) {
        self.terminal.types(&format!("{editor} {path}\n"));
        self.terminal.sees(shown);
        self.terminal.types(&format!("Go{line}\x1b"));
        self.terminal.sees(line);
    }

    fn writes_and_leaves(&mut self) {
        self.terminal.types(":wq\r");
        self.terminal.sees(PROMPT);
    }
}

/// Seconds since 1970, as `date` and `stat` print them.
fn instant(text: &str) -> Timestamp {
    let (seconds, nanoseconds) = text.split_once('.').unwrap_or_else(|| panic!("{text:?}"));
    Timestamp::new(seconds.parse().unwrap(), nanoseconds.parse().unwrap()).unwrap()
}

#[test]
fn what_is_written_on_a_real_machine_is_noticed_and_judged() {
    // Without KVM it takes ten minutes of a processor.
    let is_asked_for = std::env::var_os("PATCHWRIGHT_VM").is_some();
    if !is_asked_for && Accelerator::of_this_machine() == Accelerator::Tcg {
        eprintln!(
            "SKIPPED: there is no KVM; `PATCHWRIGHT_VM=1 cargo test --test attended` takes ten minutes"
        );
        return;
    }
    let seconds = INTERVAL.as_secs().to_string();
    let cloud = Cloud::with(&["--agents-name", GATEWAY, "--report-every", &seconds]);
    let began = Instant::now();
    let machine = RefCell::new(Machine::start(&cloud));
    let ci = cloud.until("the machine, which joins", |world| {
        machine.borrow_mut().must_run();
        let items = world.json(&["get", "cis", "--tenant", "acme", "-o", "json"]);
        Some(items["items"][0]["id"].as_str()?.to_owned())
    });
    let token = cloud.world.up.sign_in();
    let mut anna = Person::at(&machine.borrow());
    let beside = RefCell::new(machine.borrow().at_work());
    let observed = Observed { cloud: &cloud, machine, beside, token, ci };
    observed.until("its first look", || (!observed.versions("/etc/motd").is_empty()).then_some(()));
    observed.is_looked_at();
    eprintln!(
        "joined and looked at {:.0} s after it was switched on",
        began.elapsed().as_secs_f64()
    );

    by_hand(&observed, &mut anna);
    by_a_package(&observed, &mut anna);
    as_agreed(&observed, &mut anna);
    by_cron(&observed, &mut anna);
    eprintln!("drifts: {:?}", observed.drifts());

    // Without the privilege that fanotify needs, then without inotify too.
    let less = "CapabilityBoundingSet=~CAP_SYS_ADMIN";
    with_less(&observed, &mut anna, less, "inotify", soon());
    let less =
        "SystemCallFilter=~fanotify_init inotify_init inotify_init1\nSystemCallErrorNumber=EPERM";
    with_less(&observed, &mut anna, less, "", at_last());
    eprintln!("{:.0} s in all", began.elapsed().as_secs_f64());
    // An agent that may do less is also shown less of the kernel's settings: that is said of `policy:sysctl`.
    let mut drifts = observed.drifts();
    drifts.retain(|path| path.starts_with('/'));
    assert_eq!(drifts, ["/etc/hosts", "/etc/motd", "/etc/ssh/sshd_config"]);
    assert_eq!(anna.late, Vec::<String>::new());
}

/// A person writes with editors: in place, and by another file that takes the name.
fn by_hand(observed: &Observed<'_>, anna: &mut Person) {
    let vim = "/usr/bin/vim.tiny";
    let ways = [
        ("vi", "/etc/motd", "welcome", true, "/usr/bin/nvi"),
        ("vim.tiny -c 'set backupcopy=no writebackup'", "/etc/hosts", "localhost", false, vim),
        ("vim.tiny -c 'set backupcopy=yes'", "/etc/ssh/sshd_config", "Include", true, vim),
    ];
    for (editor, path, shown, is_in_place, executable) in ways {
        let inode = anna.inode(path);
        let version = observed.next(path, || {
            anna.begins_to_edit(editor, path, shown, "# byhand");
            // While it is open, what editors keep beside the file is there to be seen.
            observed.is_looked_at();
            anna.writes_and_leaves();
        });
        assert_eq!(anna.inode(path) == inode, is_in_place, "{editor}");
        assert_eq!(version["verdict"]["standing"], "unauthorised", "{version}");
        assert_eq!(version["verdict"]["actor"], json!({ "who": "person", "login": LOGIN }));
        assert_eq!(version["by"], format!("{LOGIN} by {executable}"), "{version}");
        anna.is_noticed_within(soon(), &version);
    }
}

/// A package is brought up to date by a person, from a signed archive.
fn by_a_package(observed: &Observed<'_>, anna: &mut Person) {
    anna.terminal.runs("mv /srv/next/* /srv/archive/");
    let mut told = String::new();
    let version = observed.next("/etc/demo/demo.conf", || {
        let upgrade = "apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -q -y upgrade";
        told = anna.terminal.runs(upgrade);
    });
    assert!(told.contains("Setting up demo (2.0)"), "{told}");
    anna.is_noticed_within(soon(), &version);
    let made = observed.until("what the package's script made", || {
        let made = observed.versions("/etc/demo/made.conf").into_iter().nth(1)?;
        (!made["verdict"].is_null()).then_some(made)
    });
    anna.is_noticed_within(soon(), &made);
    for version in [version, made] {
        assert_eq!(version["verdict"]["standing"], "vendor", "{version}");
        assert_eq!(version["verdict"]["verdict"]["package"], archive::PACKAGE);
        assert_eq!(version["verdict"]["verdict"]["version"], "2.0");
    }
}

/// A change that the tenant signed is done by hand, as it says.
fn as_agreed(observed: &Observed<'_>, anna: &mut Person) {
    let path = "/etc/demo/banner.conf";
    observed.cloud.agree(path, "Banner /etc/issue.net\n");
    let version = observed.next(path, || {
        anna.terminal.runs(&format!("echo 'Banner /etc/issue.net' > {path}"));
    });
    assert_eq!(version["verdict"]["standing"], "authorised", "{version}");
    assert_eq!(version["verdict"]["verdict"]["verdict"], "authorised", "{version}");
    anna.is_noticed_within(soon(), &version);
}

/// What cron saves of counters each minute is quiet.
fn by_cron(observed: &Observed<'_>, anna: &mut Person) {
    let version = observed.next("/etc/iptables/rules.v4", || {});
    assert_eq!(version["verdict"]["verdict"]["verdict"], "noise", "{version}");
    anna.is_noticed_within(soon(), &version);
}

/// The agent starts anew with less than it has; what it watches by then.
fn with_less(
    observed: &Observed<'_>,
    anna: &mut Person,
    less: &str,
    means: &str,
    limit: SignedDuration,
) {
    let unit = format!(
        "mkdir -p {LESS} && printf '[Service]\\n{}\\n' > {LESS}/less.conf && systemctl daemon-reload \
         && systemctl restart patchwright-agent.service",
        less.replace('\n', "\\n")
    );
    anna.terminal.runs(&unit);
    observed.is_looked_at();
    observed.is_looked_at();
    let watches = anna.terminal.runs(
        "ls -l /proc/$(systemctl show --property=MainPID --value patchwright-agent.service)/fd \
         | grep -o '[a-z]*notify' | sort -u",
    );
    assert_eq!(watches, means);
    let path = "/etc/motd";
    let version = observed.next(path, || {
        anna.begins_to_edit("vi", path, "welcome", "# again");
        anna.writes_and_leaves();
    });
    // It is somebody's all the same, and nobody knows whose.
    assert_eq!(version["verdict"]["standing"], "unauthorised", "{version}");
    assert_eq!(version["verdict"]["actor"], json!({ "who": "unknown" }), "{version}");
    anna.is_noticed_within(limit, &version);
}
