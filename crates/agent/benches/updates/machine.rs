//! One run: a fresh copy of the image, updated by one of the two, seen from outside.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use agent::State;
use domain::agent::OrderAnswer;
use domain::change::{ExactPackage, KeyId, Verified};
use domain::inventory::Runtime;
use domain::order::{Ended, OrderResult};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use lab::{
    Appliance, BaseImage, Door, Limits, Network, Power, Restart, Setting, Unobserved, Usage,
    WorkArea,
};
use ledger::attestation;

use crate::mirror::Mirror;
use crate::plane::Plane;
use crate::prober::{self, Prober, Service};
use crate::support::{Told, trusted, upgrade};

/// Processors and memory of a machine.
const LIMITS: (u8, u32) = (1, 1024);

/// How the machine sees this one.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);

/// Until a machine that was switched on does what it is for.
const START: Duration = Duration::from_secs(900);
/// An update.
const UPDATE: Duration = Duration::from_secs(2 * 3600);
/// From one look at a machine that is waited for to the next.
const GLANCE: Duration = Duration::from_secs(1);
/// Anything else.
const LITTLE: Duration = Duration::from_secs(300);

/// A machine has come to rest when it works for less than a fifth of such a time.
const CALM: Duration = Duration::from_secs(5);
/// How long is asked before an update begins, and after it ended.
const AROUND: Duration = Duration::from_secs(5);

const STATE: &str = "var/lib/patchwright-agent";
const PROGRAM: &str = "usr/bin/patchwright-agent";
/// Has the name that the image starts.
const UNIT: &str = "etc/systemd/system/patchwright-agent.service";

/// PostgreSQL answers this machine as well, and asks for a password.
const REACHABLE: [(&str, &str); 2] = [
    ("etc/postgresql/15/main/conf.d/reachable.conf", "listen_addresses = '*'\n"),
    (
        "etc/postgresql/15/main/pg_hba.conf",
        "local all postgres peer\nhost all all 10.0.2.2/32 scram-sha-256\n",
    ),
];

/// Name, architecture and version of each package.
pub(crate) type Installed = BTreeSet<(String, String, String)>;

/// Who updates.
pub(crate) enum Worker {
    /// unattended-upgrades as Debian sets it up.
    Peer,
    /// The agent, ordered to install exactly these.
    Agent(Vec<ExactPackage>),
}

/// What came of a run.
pub(crate) struct Outcome {
    pub(crate) worker: &'static str,
    /// From the beginning until all of it lies on the disk.
    pub(crate) took: Duration,
    /// Of that: until the last package was brought, until the package system began, until it ended, to the end.
    pub(crate) parts: [Duration; 4],
    /// In that time.
    pub(crate) used: Usage,
    /// How long which service did not answer.
    pub(crate) down: [Duration; 2],
    /// The longest answer of each.
    pub(crate) slowest: [Duration; 2],
    /// What ran old code afterwards.
    pub(crate) stale: BTreeSet<String>,
    pub(crate) installed: Installed,
}

/// Where machines are made.
pub(crate) struct World {
    area: WorkArea,
    image: BaseImage,
    place: PathBuf,
    sources: String,
    mirror: Mirror,
    plane: Plane,
}

impl World {
    /// With machines from an image, which get packages from these sources.
    pub(crate) fn open(image: &Path, sources: &str) -> Self {
        let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join("updates");
        let mirror = Mirror::open(sources);
        Self {
            area: WorkArea::open(&place.join("machines")).unwrap().0,
            image: BaseImage::open(image).unwrap(),
            sources: mirror.sources(sources),
            place,
            mirror,
            plane: Plane::seen_at(GATEWAY),
        }
    }

    /// Has a new machine updated.
    pub(crate) fn run(&self, name: &str, worker: &Worker) -> Outcome {
        println!("run {name}: {}", worker.name());
        self.mirror.forget();
        let seed = self.seed(worker);
        let asked_at = [Service::Nginx, Service::PostgreSql].map(|service| (service, free_port()));
        let doors = asked_at.map(|(service, here)| Door { here, there: service.port() }).to_vec();
        let network = Network::Host { doors };
        let setting = Setting { network, restart: Restart::GoesOn, seed: Some(seed.path) };
        let limits = Limits { processors: LIMITS.0, memory_mib: LIMITS.1, ..Limits::default() };
        let appliance =
            Appliance::start(&self.area, &self.image, &limits, setting, Arc::new(Unobserved));
        let mut machine = Machine(appliance.unwrap());

        let waits = |signal: &str, patience| self.mirror.signal(signal, patience);
        machine.await_signal(|| waits("begin", GLANCE), START, "come up");
        machine.await_signal(
            || asked_at.iter().all(|(service, port)| service.answers(*port)).then(Instant::now),
            START,
            "serve",
        );
        machine.rest();
        if let Worker::Agent(packages) = worker {
            self.plane.hand(Told::to(vec![upgrade(packages)], 1).handed());
        }
        let probers = asked_at.map(|(service, port)| Prober::begin(service, port));
        thread::sleep(AROUND);
        let before = machine.0.usage().unwrap();
        let (clock, began) = (Timestamp::now(), self.mirror.begin());
        let ended = machine.await_signal(|| waits("end", GLANCE), UPDATE, "update");
        let after = machine.0.usage().unwrap();
        let clock_after = Timestamp::now();
        thread::sleep(AROUND);
        machine.await_signal(
            || asked_at.iter().all(|(service, port)| service.answers(*port)).then(Instant::now),
            LITTLE,
            "serve again",
        );
        let asked = probers.map(Prober::end);
        if let Worker::Agent(_) = worker {
            let answers = self.plane.answers();
            assert!(!answers.is_empty(), "the agent answers nothing\n{}", machine.console());
            for answer in &answers {
                must_be_done(&seed.key, answer);
            }
            for (what, at) in self.plane.began() {
                println!("  {what:?} after {:.2} s", (at - began).as_secs_f64());
            }
        }
        machine.await_signal(|| waits("looked", GLANCE), UPDATE, "look");
        let runtime = self.plane.facts().and_then(|facts| facts.runtime).expect("it looked");
        let disk = machine.switch_off();

        let took = ended - began;
        let brought = self.mirror.brought().expect("packages were brought") - began;
        let (first, last) = dpkg_worked(&disk, clock, clock_after);
        let parts = [
            brought,
            first.saturating_sub(brought),
            last.saturating_sub(first.max(brought)),
            took.saturating_sub(last),
        ];
        Outcome {
            worker: worker.name(),
            took,
            parts,
            used: since(&before, &after),
            down: asked.each_ref().map(|it| prober::without_answer(it)),
            slowest: asked.each_ref().map(|it| prober::slowest(it)),
            stale: stale(&runtime),
            installed: crate::installed(&disk),
        }
    }

    /// A disk with what makes the machine one that is updated so.
    fn seed(&self, worker: &Worker) -> Seed {
        let root = self.place.join("seed");
        let _ = fs::remove_dir_all(&root);
        let file = |path: &str, text: &str| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file(UNIT, &self.unit(worker));
        file("etc/apt/sources.list.d/debian.sources", &self.sources);
        // The agent reads no translations either.
        file("etc/apt/apt.conf.d/90languages", "Acquire::Languages \"none\";\n");
        for (path, text) in REACHABLE {
            file(path, text);
        }
        let program = root.join(PROGRAM);
        fs::create_dir_all(program.parent().unwrap()).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_patchwright-agent"), &program).unwrap();
        let state = State::new(root.join(STATE));
        state.keep_trusted(&trusted()).unwrap();
        self.plane.join(&state);
        let key = state.attestor().unwrap().key();
        let path = self.place.join("seed.img");
        bootstrap::seed(&root, &path).unwrap();
        Seed { path, key }
    }

    /// Waits for its signal, updates, and lets the agent look at what runs then.
    fn unit(&self, worker: &Worker) -> String {
        let agent = format!("/{PROGRAM} run --once");
        let update = match worker {
            Worker::Peer => vec!["/usr/bin/apt-get -qq update", "/usr/bin/unattended-upgrade"],
            Worker::Agent(_) => vec![agent.as_str()],
        };
        let signal = |name: &str| {
            format!(
                "/usr/lib/apt/apt-helper -oAcquire::http::Timeout=7200 -oAPT::Sandbox::User=root \
                 download-file {} /run/{name}",
                self.mirror.address(name)
            )
        };
        let begin = [
            "/lib/systemd/systemd-networkd-wait-online --timeout=120".to_owned(),
            "/bin/systemctl restart nginx.service postgresql@15-main.service".to_owned(),
            signal("begin"),
        ];
        let end = ["/bin/sync".to_owned(), signal("end"), agent.clone(), signal("looked")];
        let mut unit = String::from(
            "[Unit]\nDescription=One update, begun and measured from outside\n\n\
             [Service]\nType=oneshot\nKillMode=process\n\
             StateDirectory=patchwright-agent\nStateDirectoryMode=0700\n\
             StandardOutput=journal+console\nStandardError=journal+console\n",
        );
        for line in begin.into_iter().chain(update.into_iter().map(str::to_owned)).chain(end) {
            unit.push_str("ExecStart=");
            unit.push_str(&line);
            unit.push('\n');
        }
        unit
    }
}

/// What a machine is handed, and the key by which its agent signs.
struct Seed {
    path: PathBuf,
    key: attestation::AttestorKey,
}

/// One that runs.
struct Machine(Appliance);

impl Machine {
    /// Waits for something that it does.
    fn await_signal(
        &mut self,
        look: impl Fn() -> Option<Instant>,
        patience: Duration,
        what: &str,
    ) -> Instant {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(at) = look() {
                return at;
            }
            let power = self.0.power().clone();
            assert_eq!(power, Power::On, "it was to {what}\n{}", self.console());
            assert!(Instant::now() < deadline, "it does not {what}\n{}", self.console());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has nothing to do any more.
    fn rest(&self) {
        let deadline = Instant::now() + START;
        let mut worked = self.0.usage().unwrap().processor;
        loop {
            thread::sleep(CALM);
            let now = self.0.usage().unwrap().processor;
            if now.saturating_sub(worked) < CALM / 5 {
                return;
            }
            worked = now;
            assert!(Instant::now() < deadline, "it never comes to rest\n{}", self.console());
        }
    }

    /// Switches it off by its power button; its disk is at rest then.
    fn switch_off(&mut self) -> PathBuf {
        self.0.press_power_button().unwrap();
        let deadline = Instant::now() + LITTLE;
        while *self.0.power() == Power::On {
            assert!(Instant::now() < deadline, "it does not go down\n{}", self.console());
            thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(*self.0.power(), Power::Off);
        self.0.overlay().to_owned()
    }

    /// The end of what it printed.
    fn console(&self) -> String {
        let text = fs::read(self.0.serial_log()).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

impl Worker {
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::Peer => "unattended-upgrades",
            Self::Agent(_) => "agent",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = |times: &[Duration]| {
            let times: Vec<_> = times.iter().map(|it| format!("{:.2}", it.as_secs_f64())).collect();
            times.join(" + ")
        };
        let Self { worker, took, parts, used, down, slowest, stale, .. } = self;
        writeln!(f, "  {worker}: {} s = {}", seconds(&[*took]), seconds(parts))?;
        writeln!(f, "  processor {} s, {:?}", seconds(&[used.processor]), used.disk)?;
        writeln!(f, "  without an answer: nginx {:?}, PostgreSQL {:?}", down[0], down[1])?;
        writeln!(f, "  slowest answer: nginx {:?}, PostgreSQL {:?}", slowest[0], slowest[1])?;
        write!(f, "  old code runs in: {stale:?}")
    }
}

/// The agent says, by its own key, that all was done.
fn must_be_done(key: &attestation::AttestorKey, answer: &OrderAnswer) {
    let envelope = match answer {
        OrderAnswer::Ended { envelope, .. } => envelope,
        OrderAnswer::Refused { refusal, .. } => panic!("{refusal}\n{}", refusal.help()),
    };
    let opened = attestation::open(envelope.as_bytes(), std::slice::from_ref(key)).unwrap();
    let id = KeyId::from(opened.key.id_bytes());
    let result = Verified::<OrderResult>::signed_by(id, &opened.payload).unwrap();
    let OrderResult { ended, downtime, .. } = result.said();
    assert_eq!(*ended, Ended::Done);
    println!("  the agent's own measure: {downtime:?}");
}

fn since(before: &Usage, after: &Usage) -> Usage {
    let mut used = *after;
    used.processor -= before.processor;
    used.disk.bytes -= before.disk.bytes;
    used.disk.requests -= before.disk.requests;
    used.disk.flushes -= before.disk.flushes;
    used
}

/// Units that map what was replaced, or processes where these belong to none.
fn stale(runtime: &Runtime) -> BTreeSet<String> {
    let processes = runtime.stale_processes.iter();
    processes.map(|it| it.unit.clone().unwrap_or_else(|| it.command.clone())).collect()
}

/// From the beginning until dpkg wrote its first and its last line of this run, to the second.
fn dpkg_worked(disk: &Path, began: Timestamp, ended: Timestamp) -> (Duration, Duration) {
    let target = inspect::open(disk, None).unwrap();
    let log = target.files().read("/var/log/dpkg.log", 64 << 20).unwrap().unwrap_or_default();
    let log = String::from_utf8(log).unwrap();
    let at = |line: &str| -> Option<Timestamp> {
        let time: DateTime = line.get(..19)?.parse().ok()?;
        TimeZone::UTC.to_timestamp(time).ok()
    };
    let second = SignedDuration::from_secs(1);
    let within = |it: &Timestamp| (began - second..=ended + second).contains(it);
    let times: Vec<_> = log.lines().filter_map(at).filter(within).collect();
    let since = |at: Option<&Timestamp>| {
        let at = at.expect("dpkg worked").duration_since(began);
        Duration::try_from(at).unwrap_or_default()
    };
    (since(times.first()), since(times.last()))
}

/// A port of this host's loopback that nobody uses.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}
