//! Killed, or without power, at any instant of real updates: the agent as it is shipped, Debian's own
//! packages by its own signed list, dpkg as Debian ships it on a file system of its own. After the agent
//! starts again all of it is patched or as it was, and the agent says which.
//!
//! A few updates are interrupted each time. `PATCHWRIGHT_POWER_CUTS=500` interrupts more, and
//! `PATCHWRIGHT_KILL_SEED=<seed>` draws other instants.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use domain::agent::OrderAnswer;
use domain::change::{ExactPackage, KeyId, Verified};
use domain::order::{Ended, OrderResult, Refusal};
use jiff::{SignedDuration, Timestamp};
use ledger::attestation;

use agent::State;

use crate::disk::{self, Disk, Image};
use crate::plane::Plane;
use crate::support::{Random, Told, number, root, run, runs_as_root, trusted, upgrade};
use crate::vendor::Vendor;

const UPDATES: u64 = 12;

const STATE: &str = "var/lib/patchwright-agent";
const PROGRAM: &str = "usr/local/bin/patchwright-agent";

/// A file that comes with one of the packages, and that the owner altered.
const OWNERS: &str = "etc/security/limits.conf";

/// What is no part of the system's state, or is asked of dpkg and apt themselves.
const APART: [&str; 14] = [
    "dev",
    "etc/ld.so.cache",
    "lost+found",
    "proc",
    "run",
    "srv",
    "sys",
    "tmp",
    "var/backups",
    "var/cache",
    "var/lib/apt",
    "var/lib/dpkg",
    "var/log",
    STATE,
];

/// What is updated at once: sources, and packages that are not there yet.
const CASES: [(&[&str], &[&str]); 4] = [
    // Programs and their configuration, that scripts write together.
    (&["pam"], &[]),
    // The tools themselves.
    (&["apt"], &[]),
    // Something new beside what is replaced: it has to go again on the way back.
    (&["openssl", "libzstd", "xz-utils"], &["openssl", "libssl3"]),
    // What is essential, and what the scripts of others run with.
    (&["perl"], &[]),
];

/// One update, and what came of it where nothing interrupted it.
struct Case {
    packages: Vec<ExactPackage>,
    before: System,
    after: System,
    /// How long it takes.
    takes: Duration,
    /// Lines of the agent's journal and of dpkg's log.
    lines: Lines,
}

#[derive(Debug, Clone, Copy, Default)]
struct Lines {
    journal: u64,
    dpkg: u64,
}

/// All that is installed, as its own tools and its files say.
#[derive(PartialEq, Eq)]
struct System {
    /// What dpkg says is installed, and how.
    packages: String,
    /// What dpkg finds altered of the packages concerned.
    altered: String,
    files: BTreeMap<PathBuf, String>,
}

/// What interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kill {
    /// All that runs there ends at once.
    All,
    /// The same, and what was not flushed to the disk is lost.
    Power,
    /// The agent alone: its apt goes on.
    Agent,
}

/// When.
#[derive(Debug, Clone, Copy)]
enum Moment {
    After(Duration),
    /// As soon as the agent's journal has so many lines more.
    Journal(u64),
    /// As soon as dpkg's log has so many lines more.
    Dpkg(u64),
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    Patched,
    RolledBack,
    /// Nothing had begun.
    Refused,
    /// The order was used up and nothing had begun.
    Lost,
}

/// Where a system runs, with its agent.
struct World {
    plane: Plane,
    image: Image,
    key: attestation::AttestorKey,
}

impl World {
    fn new(vendor: &Vendor) -> (Self, Vec<Vec<ExactPackage>>) {
        let base = root("interrupted");
        let newer = |(sources, added): &(&[&str], &[&str])| vendor.newer(&base, sources, added);
        let cases: Vec<_> = CASES.iter().map(newer).collect();
        vendor.supply(&base, &cases.concat());
        fs::copy(env!("CARGO_BIN_EXE_patchwright-agent"), base.join(PROGRAM)).unwrap();
        fs::write(base.join(OWNERS), "# the owner's own\n").unwrap();
        fs::write(base.join("var/log/dpkg.log"), "").unwrap();
        let state = State::new(base.join(STATE));
        state.keep_trusted(&trusted()).unwrap();
        let plane = Plane::start();
        plane.join(&state);
        let key = state.attestor().unwrap().key();
        let image = Image::of(&base);
        (Self { plane, image, key }, cases)
    }

    /// What an update leads to where nothing interrupts it.
    fn undisturbed(&self, packages: Vec<ExactPackage>) -> Case {
        let disk = self.image.copy();
        let before = System::of(disk.root(), &packages);
        self.plane.hand(Told::to(vec![upgrade(&packages)], 1).handed());
        let begin = Instant::now();
        let mut agent = agent(disk.root(), Kill::All);
        let mut lines = Lines::default();
        while agent.try_wait().unwrap().is_none() {
            lines = lines.or_more(Lines::of(disk.root()));
            thread::sleep(Duration::from_millis(1));
        }
        let takes = begin.elapsed();
        let came = self.came();
        assert_eq!(came, Some(Came::Patched), "{}", said(disk.root()));
        let after = System::of(disk.root(), &packages);
        for ExactPackage { name, version, .. } in &packages {
            assert!(after.packages.contains(&format!("\n{name} {version} ii")), "{name} {version}");
        }
        assert!(before.packages != after.packages && before.files != after.files);
        assert_eq!(fs::read_to_string(disk.root().join(OWNERS)).unwrap(), "# the owner's own\n");
        check(disk.root());
        Case { packages, before, after, takes, lines }
    }

    /// What the agent told; every time the same.
    fn came(&self) -> Option<Came> {
        let answers = self.plane.answers();
        let told: Vec<_> = answers.iter().map(|answer| self.read(answer)).collect();
        assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
        told.first().copied()
    }

    fn read(&self, answer: &OrderAnswer) -> Came {
        let envelope = match answer {
            OrderAnswer::Ended { envelope, .. } => envelope,
            OrderAnswer::Refused { refusal, .. } => match **refusal {
                Refusal::Replayed { .. } => return Came::Lost,
                Refusal::Late { .. } => return Came::Refused,
                ref other => panic!("{other}"),
            },
        };
        let keys = std::slice::from_ref(&self.key);
        let opened = attestation::open(envelope.as_bytes(), keys).unwrap();
        let key = KeyId::from(opened.key.id_bytes());
        let said = Verified::<OrderResult>::signed_by(key, &opened.payload).unwrap();
        match &said.said().ended {
            Ended::Done => Came::Patched,
            Ended::RolledBack { .. } => Came::RolledBack,
            Ended::Refused { .. } => Came::Refused,
            Ended::Stuck { because } => panic!("stuck: {because}"),
        }
    }
}

impl System {
    fn of(root: &Path, packages: &[ExactPackage]) -> Self {
        let format = "--showformat=${Package} ${Version} ${db:Status-Abbrev}\\n";
        let installed = run(in_root(root, "dpkg-query").args(["--show", format]));
        let is_installed = |name: &&str| installed.contains(&format!("\n{name} "));
        let names = packages.iter().map(|it| it.name.as_str()).filter(is_installed);
        // It says what is altered by its status as well.
        let verified = in_root(root, "dpkg").arg("--verify").args(names).output().unwrap();
        let mut files = BTreeMap::new();
        walk(root, Path::new(""), &mut files);
        Self {
            packages: format!("\n{installed}"),
            altered: String::from_utf8(verified.stdout).unwrap(),
            files,
        }
    }

    /// What another one has otherwise, for people.
    fn differs(&self, other: &Self) -> String {
        let lines = |of: &Self| of.packages.lines().map(str::to_owned).collect::<Vec<_>>();
        let (ours, theirs) = (lines(self), lines(other));
        let mut told: Vec<_> = theirs.iter().filter(|it| !ours.contains(it)).cloned().collect();
        if self.altered != other.altered {
            told.push(format!("altered: {:?}, not {:?}", other.altered, self.altered));
        }
        for path in self.files.keys().chain(other.files.keys()) {
            let (ours, theirs) = (self.files.get(path), other.files.get(path));
            if ours != theirs {
                told.push(format!("{}: {theirs:?}, not {ours:?}", path.display()));
            }
        }
        told.sort();
        told.dedup();
        told.truncate(40);
        told.join("\n")
    }
}

fn in_root(root: &Path, program: &str) -> Command {
    let mut command = Command::new("chroot");
    command.arg(root).arg(program);
    command
}

/// Kind, mode, owner and content of everything below a directory.
fn walk(root: &Path, below: &Path, files: &mut BTreeMap<PathBuf, String>) {
    for entry in fs::read_dir(root.join(below)).unwrap() {
        let name = entry.unwrap().file_name();
        let path = below.join(name);
        if APART.iter().any(|it| path == Path::new(it)) {
            continue;
        }
        let data = fs::symlink_metadata(root.join(&path)).unwrap();
        let kind = data.file_type();
        let is = if kind.is_symlink() {
            format!("link to {}", fs::read_link(root.join(&path)).unwrap().display())
        } else if kind.is_file() {
            blake3::hash(&fs::read(root.join(&path)).unwrap()).to_string()
        } else if kind.is_dir() {
            walk(root, &path, files);
            "directory".to_owned()
        } else {
            format!("special {}", kind.is_fifo())
        };
        files.insert(path, format!("{:o} {}:{} {is}", data.mode(), data.uid(), data.gid()));
    }
}

/// Whether all that is installed is so whole, as dpkg and apt see it.
fn check(root: &Path) {
    assert_eq!(run(in_root(root, "dpkg").arg("--audit")), "");
    run(in_root(root, "apt-get").args(["check", "--quiet"]));
}

impl Lines {
    fn of(root: &Path) -> Self {
        let count = |path: PathBuf| {
            let text = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&text).lines().count() as u64
        };
        let journal = count(root.join(STATE).join("orders/journal"));
        Self { journal, dpkg: count(root.join("var/log/dpkg.log")) }
    }

    fn or_more(self, other: Self) -> Self {
        Self { journal: self.journal.max(other.journal), dpkg: self.dpkg.max(other.dpkg) }
    }
}

/// The agent's process: in a namespace that ends with its first process, or not.
fn agent(root: &Path, kill: Kill) -> Child {
    let mut command = match kill {
        Kill::Agent => Command::new("chroot"),
        Kill::All | Kill::Power => {
            let proc = format!("--mount-proc={}", root.join("proc").display());
            let mut command = Command::new("unshare");
            command.args(["--pid", "--fork", "--kill-child=KILL", "--mount", &proc, "chroot"]);
            command
        }
    };
    let log = fs::File::options().append(true).create(true).open(root.join("tmp/agent.log"));
    command
        .arg(root)
        .arg(format!("/{PROGRAM}"))
        .args(["run", "--once"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.unwrap())
        .spawn()
        .unwrap()
}

/// What agents said there, and what stands in their journal and in dpkg's log.
fn said(root: &Path) -> String {
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    let read = |path: &str| text(&root.join(path));
    let state = root.join(STATE);
    let (journal, work) =
        (text(&state.join("orders/journal")), text(&state.join("work").join("log")));
    let dpkg = read("var/log/dpkg.log");
    format!("{}\njournal: {journal}\nlast program: {work}\n{dpkg}", read("tmp/agent.log"))
}

impl Moment {
    fn draw(case: &Case, random: &mut Random) -> Self {
        match random.below(8) {
            0 | 1 => Self::Journal(1 + random.below(case.lines.journal)),
            2..5 => Self::Dpkg(1 + random.below(case.lines.dpkg)),
            _ => {
                let takes = u64::try_from(case.takes.as_micros()).unwrap();
                Self::After(Duration::from_micros(random.below(takes)))
            }
        }
    }

    /// Waits for it; whether the agent runs then.
    fn comes(self, root: &Path, agent: &mut Child) -> bool {
        let (begin, before) = (Instant::now(), Lines::of(root));
        loop {
            if agent.try_wait().unwrap().is_some() {
                return false;
            }
            let is_now = match self {
                Self::After(time) => begin.elapsed() >= time,
                Self::Journal(lines) => Lines::of(root).journal >= before.journal + lines,
                Self::Dpkg(lines) => Lines::of(root).dpkg >= before.dpkg + lines,
            };
            if is_now {
                return true;
            }
            thread::sleep(Duration::from_micros(300));
        }
    }
}

/// Interrupts what runs on a disk; where its power is cut, nothing is flushed before.
fn interrupt(disk: &mut Disk, mut agent: Child, kill: Kill) {
    let children = format!("/proc/{0}/task/{0}/children", agent.id());
    let children = fs::read_to_string(children).unwrap_or_default();
    match (kill, children.split_whitespace().next()) {
        // When the first process of a namespace is gone, all others are.
        (Kill::All | Kill::Power, Some(first)) => {
            let _ = Command::new("kill").args(["-KILL", first]).output();
        }
        _ => agent.kill().unwrap(),
    }
    agent.wait().unwrap();
    if kill == Kill::Power {
        disk.cut_power();
    }
}

/// The step that was begun last.
fn last_step(root: &Path) -> String {
    let journal = root.join(STATE).join("orders/journal");
    let text = fs::read_to_string(journal).unwrap_or_default();
    let last = text.lines().rfind(|line| line.ends_with('}'));
    let step = last.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    step.map_or_else(|| "none".to_owned(), |step| step["step"].as_str().unwrap().to_owned())
}

/// How often what came, by what was interrupted first and how.
#[derive(Default)]
struct Tally {
    came: BTreeMap<(String, Kill), BTreeMap<Came, u64>>,
    /// How often something ran that was interrupted, the first time or again.
    interruptions: u64,
}

impl Tally {
    fn count(&mut self, step: String, kill: Kill, came: Came) {
        *self.came.entry((step, kill)).or_default().entry(came).or_default() += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const CAME: [Came; 4] = [Came::Patched, Came::RolledBack, Came::Refused, Came::Lost];
        writeln!(f, "| last step | interrupted | patched | rolled back | refused | lost |")?;
        writeln!(f, "|---|---|---|---|---|---|")?;
        let mut sum = [0; 4];
        for ((step, kill), came) in &self.came {
            let counts = CAME.map(|it| came.get(&it).copied().unwrap_or(0));
            let [patched, back, refused, lost] = counts;
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
            let kill = match kill {
                Kill::All => "all at once",
                Kill::Power => "power",
                Kill::Agent => "the agent alone",
            };
            writeln!(f, "| {step} | {kill} | {patched} | {back} | {refused} | {lost} |")?;
        }
        let [patched, back, refused, lost] = sum;
        writeln!(f, "| all | | {patched} | {back} | {refused} | {lost} |")?;
        writeln!(f, "interrupted {} times in all", self.interruptions)
    }
}

/// Interrupts one update, perhaps again while the agent goes on with it, and checks what came of it.
fn interrupted(world: &World, case: &Case, random: &mut Random, tally: &mut Tally) {
    let mut disk = world.image.copy();
    let root = &disk.root().to_owned();
    let kill = match random.below(8) {
        0 => Kill::Agent,
        1..3 => Kill::All,
        _ => Kill::Power,
    };
    // Where the window is over when the agent starts again, it goes back.
    let is_late = random.below(3) == 0;
    let takes = u64::try_from(case.takes.as_millis()).unwrap();
    let short = SignedDuration::from_millis(i64::try_from(1000 + random.below(takes)).unwrap());
    let until = Timestamp::now() + if is_late { short } else { SignedDuration::from_hours(1) };
    let order = Told::until(vec![upgrade(&case.packages)], 1, until);
    let until = order.order.window.until;
    world.plane.hand(order.handed());

    let moment = Moment::draw(case, random);
    println!("  {kill:?} at {moment:?}{}", if is_late { ", late" } else { "" });
    let mut process = agent(root, kill);
    let step = if moment.comes(root, &mut process) {
        interrupt(&mut disk, process, kill);
        tally.interruptions += 1;
        last_step(root)
    } else {
        "ended before".to_owned()
    };
    if let (true, Ok(wait)) = (is_late, Duration::try_from(until.duration_since(Timestamp::now())))
    {
        thread::sleep(wait);
    }
    while random.below(3) == 0 {
        let moment = Moment::draw(case, random);
        println!("  and again at {moment:?}");
        let mut process = agent(root, kill);
        if moment.comes(root, &mut process) {
            interrupt(&mut disk, process, kill);
            tally.interruptions += 1;
        }
    }
    let status = agent(root, kill).wait().unwrap();
    assert!(status.success(), "the agent does not start again: {}", said(root));
    let told = world.came().unwrap_or_else(|| panic!("it tells nothing: {}", said(root)));
    check(root);
    let now = System::of(root, &case.packages);
    let expected = if told == Came::Patched { &case.after } else { &case.before };
    let is_so = now == *expected;
    assert!(is_so, "{told:?}, but:\n{}\n{}", expected.differs(&now), said(root));
    let journal = root.join(STATE).join("orders/journal");
    assert!(!journal.exists(), "it is over and not forgotten");
    println!("  interrupted in {step}: {told:?}");
    tally.count(step, kill, told);
}

#[test]
fn a_system_is_patched_or_as_it_was_and_its_agent_says_which() {
    const THIS: &str = "killed_in_the_middle_of_real_updates::a_system_is_patched_or_as_it_was_and_its_agent_says_which";
    if !disk::is_possible() {
        eprintln!("warning: no disk can be mounted here; power is cut from nothing");
        return;
    }
    assert!(runs_as_root(THIS));
    let updates = number("PATCHWRIGHT_POWER_CUTS").unwrap_or(UPDATES);
    let seed = number("PATCHWRIGHT_KILL_SEED").unwrap_or(1);
    let mut random = Random::new(seed);
    let (world, cases) = World::new(&Vendor::security());
    let mut known = BTreeMap::new();
    let mut tally = Tally::default();
    for update in 0..updates {
        let which = usize::try_from(update).unwrap() % cases.len();
        let case = known.entry(which).or_insert_with(|| {
            let case = world.undisturbed(cases[which].clone());
            println!("{:?}: {:?}, {:?}", CASES[which], case.takes, case.lines);
            case
        });
        println!("seed {seed}, update {update} of {:?}", CASES[which]);
        interrupted(&world, case, &mut random, &mut tally);
    }
    println!("{updates} updates, seed {seed}:\n{tally}");
}
