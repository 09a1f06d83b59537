//! Worlds: a real Debian root, packages made by `dpkg-deb`, orders signed with real keys.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use agent::State;
use agent::execute::{
    Apt, AtRest, HostFiles, PackageSystem, Room, System, TrustedPackages, UnitTimes,
};
use agent::orders::{Answer, Desk};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::agent::HandedOrder;
use domain::change::{
    Action, Decision, Draft, ExactPackage, FileChange, FileHash, Item, KeyEvent, KeyId, KeyKind,
    KeyRing, NewKey, Nonce, Payload, Plan, Rollback, Stage, Statement, Window,
};
use domain::cloud::{Duty, Id, IdKind};
use domain::order::{Bundle, Demand, Order, Pins, Ranking, Refusal, Terms, Trusted};
use domain::priority::Priority;
use domain::version::VersionKind;
use jiff::{SignedDuration, Timestamp};
use ledger::attestation::Attestor;
use probes::{Probe, ProbeResult};
use scratch::Scratch;
use sha2::{Digest as _, Sha256};

pub(crate) fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().unwrap_or_else(|error| {
        panic!("cannot start {command:?}: {error}; run `cargo xtask test`")
    });
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).unwrap()
}

/// Whether this test has to go on as root; where it does not run so, it is run again in a namespace
/// where it is root, as mmdebstrap makes its roots.
pub(crate) fn runs_as_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    let itself = std::env::current_exe().unwrap();
    let mut command = Command::new("mmdebstrap");
    command.arg("--unshare-helper").arg(itself).args(["--exact", test, "--nocapture"]);
    println!("{}", run(&mut command));
    false
}

pub(crate) static BUILDING: Mutex<()> = Mutex::new(());

/// A copy of a minimal Debian root, in which packages can be altered.
pub(crate) fn root(name: &str) -> Scratch {
    let roots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("roots");
    let base = roots.join("orders");
    {
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        if !base.join("etc/os-release").exists() {
            let making = roots.join("orders.making");
            let _ = fs::remove_dir_all(&making);
            fs::create_dir_all(&roots).unwrap();
            let mut command = Command::new("mmdebstrap");
            command.args(["--variant=apt", "--aptopt=Acquire::Languages \"none\"", "bookworm"]);
            run(command.arg(&making).arg(mirror()));
            fs::rename(&making, &base).unwrap();
        }
    }
    let copy = Scratch::absent(roots.join(format!("orders-{name}")));
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&base).arg(&copy));
    copy
}

/// The Debian archive that this machine's apt uses.
pub(crate) fn mirror() -> String {
    archive(|codename| !codename.contains('-')).0
}

/// The archive that this machine's apt uses for a suite, and the suite.
pub(crate) fn archive(is_it: fn(&str) -> bool) -> (String, String) {
    let format = "$(REPO_URI) $(CODENAME)";
    let asked = ["indextargets", "--format", format, "Created-By: Packages"];
    let targets = run(Command::new("apt-get").args(asked));
    let mut lines = targets.lines().filter_map(|line| line.split_once(' '));
    let found = lines.find(|(_, codename)| is_it(codename));
    let (uri, codename) = found.expect("this machine's apt names the Debian archives");
    (uri.trim_end_matches('/').to_owned(), codename.to_owned())
}

/// A package to build.
#[derive(Clone)]
pub(crate) struct Deb {
    pub(crate) name: &'static str,
    pub(crate) version: String,
    pub(crate) depends: String,
    pub(crate) pre_depends: String,
    /// Further files and their content; those below `/etc` are configuration files.
    pub(crate) files: Vec<(String, String)>,
    pub(crate) postinst: String,
    /// Further scripts: `preinst`, and what it does.
    pub(crate) scripts: Vec<(&'static str, &'static str)>,
}

impl Deb {
    pub(crate) fn new(name: &'static str, version: &str) -> Self {
        Self {
            name,
            version: version.to_owned(),
            depends: String::new(),
            pre_depends: String::new(),
            files: vec![(format!("/usr/lib/{name}/version"), version.to_owned())],
            postinst: "true".to_owned(),
            scripts: Vec::new(),
        }
    }

    /// Builds it; what a plan calls it.
    pub(crate) fn build(&self, into: &Path) -> ExactPackage {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path();
        let mut conffiles = String::new();
        for (path, content) in &self.files {
            let place = root.join(path.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::write(place, content).unwrap();
            if path.starts_with("/etc/") {
                conffiles.push_str(path);
                conffiles.push('\n');
            }
        }
        let control = root.join("DEBIAN");
        fs::create_dir_all(&control).unwrap();
        let mut depends = String::new();
        for (field, on) in [("Depends", &self.depends), ("Pre-Depends", &self.pre_depends)] {
            if !on.is_empty() {
                let _ = writeln!(depends, "{field}: {on}");
            }
        }
        let text = format!(
            "Package: {}\nVersion: {}\nArchitecture: amd64\nMaintainer: A <a@example.org>\n\
             Installed-Size: 64\n{depends}Description: an example\n with a second line\n",
            self.name, self.version
        );
        fs::write(control.join("control"), text).unwrap();
        if !conffiles.is_empty() {
            fs::write(control.join("conffiles"), conffiles).unwrap();
        }
        let scripts = self.scripts.iter().copied();
        for (script, does) in scripts.chain([("postinst", self.postinst.as_str())]) {
            let path = control.join(script);
            fs::write(&path, format!("#!/bin/sh\nset -e\n{does}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all(into).unwrap();
        let deb = into.join(format!("{}_{}_amd64.deb", self.name, self.version));
        let build = ["--root-owner-group", "-Zgzip", "-z1", "--build"];
        run(Command::new("dpkg-deb").args(build).arg(root).arg(&deb));
        let sha256: [u8; 32] = Sha256::digest(fs::read(&deb).unwrap()).into();
        ExactPackage {
            name: self.name.to_owned(),
            architecture: "amd64".to_owned(),
            version: self.version.clone(),
            sha256: FileHash::from(sha256),
        }
    }
}

/// Packages that stand for those of a signed archive.
#[derive(Default)]
pub(crate) struct Pool {
    files: RefCell<BTreeMap<ExactPackage, PathBuf>>,
}

impl Pool {
    pub(crate) fn offer(&self, package: &ExactPackage, directory: &Path) {
        let ExactPackage { name, version, .. } = package;
        let file = directory.join(format!("{name}_{version}_amd64.deb"));
        self.files.borrow_mut().insert(package.clone(), file);
    }
}

impl TrustedPackages for Pool {
    fn bring(
        &self,
        packages: &[ExactPackage],
        into: &Path,
        room: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let files = self.files.borrow();
        let find = |package: &ExactPackage| {
            let because = String::new();
            let file = files.get(package).cloned();
            file.ok_or(Refusal::NotVouched { package: Box::new(package.clone()), because })
        };
        let found = packages.iter().map(find).collect::<Result<Vec<_>, _>>()?;
        room(&[(into, found.iter().map(|file| file.metadata().unwrap().len()).sum())])?;
        let copy = |file: PathBuf| {
            let to = into.join(file.file_name().unwrap());
            fs::copy(file, &to).unwrap();
            to
        };
        Ok(found.into_iter().map(copy).collect())
    }
}

pub(crate) fn id<K: IdKind>(number: u8) -> Id<K> {
    Id::of_content([number; 16])
}

pub(crate) fn provider() -> Attestor {
    Attestor::new(&[1; 32])
}

pub(crate) fn tenant() -> Attestor {
    Attestor::new(&[2; 32])
}

pub(crate) fn key(of: &Attestor) -> KeyId {
    KeyId::from(of.key().id_bytes())
}

pub(crate) fn envelope(by: &Attestor, said: &impl Payload) -> String {
    serde_json::to_string(&by.sign(&said.to_payload()).unwrap()).unwrap()
}

/// What an agent goes by that joined an hour ago; a patch needs the tenant's signature.
pub(crate) fn trusted() -> Trusted {
    trusted_by(&provider(), 1, VersionKind::Dpkg)
}

/// The same, of a host with another package manager.
pub(crate) fn trusted_of(versions: VersionKind) -> Trusted {
    trusted_by(&provider(), 1, versions)
}

/// The same where the provider signs with another key, of which it is the so manieth.
pub(crate) fn trusted_since(provider: &Attestor, order_key_version: u64) -> Trusted {
    trusted_by(provider, order_key_version, VersionKind::Dpkg)
}

fn trusted_by(provider: &Attestor, order_key_version: u64, versions: VersionKind) -> Trusted {
    let now = Timestamp::now() - SignedDuration::from_hours(1);
    let first = NewKey { id: key(&tenant()), kind: KeyKind::Ed25519, holder: id(1) };
    let register = KeyEvent::Register { key: first, by: id(1) };
    let pins = Pins {
        agent: id(5),
        ci: id(3),
        versions,
        order_keys: [key(provider)].into(),
        order_key_version,
        consent_keys: KeyRing::new(id(2)).step(register, now).unwrap().0,
        origins: [].into(),
        terms: Terms {
            patches: Demand::Signature,
            alterations: Demand::Signature,
            ranking: Ranking::Unproven,
        },
    };
    Trusted::join(pins, now)
}

/// An order for one stage, an hour around now.
pub(crate) struct Told {
    pub(crate) plan: Plan,
    pub(crate) order: Order,
    pub(crate) consent: Statement,
}

impl Told {
    pub(crate) fn to(actions: Vec<Action>, sequence: u64) -> Self {
        Self::until(actions, sequence, Timestamp::now() + SignedDuration::from_hours(1))
    }

    /// The same, with another end of the window, to the second.
    pub(crate) fn until(actions: Vec<Action>, sequence: u64, until: Timestamp) -> Self {
        let whole = |time: Timestamp| Timestamp::from_second(time.as_second()).unwrap();
        let now = whole(Timestamp::now());
        let hour = SignedDuration::from_hours(1);
        let window = Window { from: now - hour, until: whole(until) };
        let item = Item { ci: id(3), duty: Duty::Provider, actions, rollback: Rollback::Snapshot };
        let stages = vec![Stage { window, items: vec![item] }];
        let draft = Draft { change: id(1), tenant: id(2), generation: 0, parent: None, stages };
        let plan = Plan::new(draft).unwrap();
        let actions = plan.draft().stages[0].items[0].actions.clone();
        let mut nonce = [0; 16];
        nonce[..8].copy_from_slice(&sequence.to_le_bytes());
        let order = Order {
            agent: id(5),
            ci: id(3),
            plan: plan.hash(),
            stage: 1,
            window,
            actions,
            priority: Priority::Medium,
            sequence,
            issued_at: now,
            expires: now + hour,
            nonce: Nonce::from(nonce),
        };
        let consent = Statement {
            change: id(1),
            plan: plan.hash(),
            tenant: id(2),
            decision: Decision::Approve,
            given_at: now,
            nonce: Nonce::from(nonce),
        };
        Self { plan, order, consent }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle {
            order: envelope(&provider(), &self.order),
            plan: String::from_utf8(self.plan.to_bytes()).unwrap(),
            consents: vec![envelope(&tenant(), &self.consent)],
            public_keys: vec![provider().key().to_string(), tenant().key().to_string()],
            ..Bundle::default()
        }
    }
}

impl Told {
    /// The bundle, with contents of files that the order writes.
    pub(crate) fn bundle_with(&self, contents: &[&[u8]]) -> Bundle {
        let contents = contents.iter().map(|content| BASE64_STANDARD.encode(content)).collect();
        Bundle { contents, ..self.bundle() }
    }

    /// As the control plane hands it over.
    pub(crate) fn handed(&self) -> HandedOrder {
        HandedOrder { order: self.order.nonce, bundle: self.bundle() }
    }
}

/// A host: a root with an agent's state in it.
pub(crate) struct Host {
    pub(crate) root: Scratch,
    pub(crate) pool: Pool,
    pub(crate) debs: PathBuf,
}

impl Host {
    pub(crate) fn new(name: &str) -> Self {
        let root = root(name);
        let host = Self { debs: root.join("var/tmp/debs"), pool: Pool::default(), root };
        fs::create_dir_all(&host.debs).unwrap();
        host.state().keep_trusted(&trusted()).unwrap();
        host
    }

    pub(crate) fn state(&self) -> State {
        State::new(self.root.join("var/lib/patchwright-agent"))
    }

    /// Builds a package and offers it.
    pub(crate) fn offer(&self, deb: &Deb) -> ExactPackage {
        let package = deb.build(&self.debs);
        self.pool.offer(&package, &self.debs);
        package
    }

    /// Installs what is there before.
    pub(crate) fn install(&self, packages: &[ExactPackage]) {
        let file =
            |it: &ExactPackage| format!("/var/tmp/debs/{}_{}_amd64.deb", it.name, it.version);
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["dpkg", "--install"]).args(packages.iter().map(file));
        run(&mut command);
    }

    pub(crate) fn in_root(&self, argv: &[&str]) -> String {
        run(Command::new("chroot").arg(&self.root).args(argv))
    }

    /// Installed version of a package; empty where it is not there.
    pub(crate) fn version(&self, name: &str) -> String {
        let format = "${db:Status-Abbrev}${Version}";
        let asked = ["dpkg-query", "--show", "--showformat", format, name];
        let output = Command::new("chroot").arg(&self.root).args(asked).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let version = text.strip_prefix("ii ").or_else(|| text.strip_prefix("hi "));
        version.unwrap_or_default().to_owned()
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Calls on the desk of this host's agent.
    pub(crate) fn at_desk<T>(
        &self,
        now: &dyn Fn() -> Timestamp,
        ask: impl FnOnce(&Desk<'_>) -> T,
    ) -> T {
        self.at_desk_with(&self.pool, now, ask)
    }

    /// The same with other archives.
    pub(crate) fn at_desk_with<T>(
        &self,
        archives: &dyn TrustedPackages,
        now: &dyn Fn() -> Timestamp,
        ask: impl FnOnce(&Desk<'_>) -> T,
    ) -> T {
        self.at_desk_of(archives, &AtRest, now, ask)
    }

    /// The same with another running system.
    pub(crate) fn at_desk_of<T>(
        &self,
        archives: &dyn TrustedPackages,
        system: &dyn System,
        now: &dyn Fn() -> Timestamp,
        ask: impl FnOnce(&Desk<'_>) -> T,
    ) -> T {
        let packages = Apt::new(&self.root, self.state().directory().join("work"));
        self.at_desk_by(&packages, archives, system, now, ask)
    }

    /// The same where something else alters the host.
    pub(crate) fn at_desk_by<T>(
        &self,
        packages: &dyn PackageSystem,
        archives: &dyn TrustedPackages,
        system: &dyn System,
        now: &dyn Fn() -> Timestamp,
        ask: impl FnOnce(&Desk<'_>) -> T,
    ) -> T {
        let state = self.state();
        let owners = self.root.join("etc/patchwright");
        let files = HostFiles::new(&self.root, vec![state.directory().to_owned(), owners.clone()]);
        ask(&Desk {
            state: &state,
            policy: &owners.join("policy.toml"),
            probes: &owners.join("probes.toml"),
            packages,
            archives,
            system,
            files: &files,
            clock: now,
        })
    }

    pub(crate) fn take(&self, bundle: &Bundle) -> Answer {
        self.at_desk(&Timestamp::now, |desk| desk.take(&handed(bundle)).unwrap())
    }

    pub(crate) fn refusal(&self, bundle: &Bundle) -> Refusal {
        match self.take(bundle) {
            Answer::Refused(refusal) => refusal,
            Answer::Ended(result) => match result.ended {
                domain::order::Ended::Refused { refusal } => refusal,
                other => panic!("{other:?}"),
            },
            Answer::Rebooting => panic!("it restarts"),
        }
    }
}

/// A system whose probes are tried; nothing of it restarts.
pub(crate) struct Running;

impl System for Running {
    fn boot(&self) -> String {
        AtRest.boot()
    }

    fn reboot(&self) -> Result<(), String> {
        AtRest.reboot()
    }

    fn restart(&self, unit: &str) -> Result<(), String> {
        AtRest.restart(unit)
    }

    fn stale_units(&self) -> BTreeSet<String> {
        AtRest.stale_units()
    }

    fn times(&self) -> UnitTimes {
        AtRest.times()
    }

    fn probe(&self, probe: &Probe) -> ProbeResult {
        probes::run(probe)
    }
}

/// A bundle as it is handed over. What it is called then is not what it is judged by.
pub(crate) fn handed(bundle: &Bundle) -> HandedOrder {
    HandedOrder { order: Nonce::from([0; 16]), bundle: bundle.clone() }
}

pub(crate) fn upgrade(packages: &[ExactPackage]) -> Action {
    Action::Upgrade { packages: packages.to_vec() }
}

/// Writes a file, from one content to another.
pub(crate) fn write(path: &str, before: Option<&str>, after: &str) -> Action {
    let hash = |text: &str| FileHash::from(<[u8; 32]>::from(Sha256::digest(text)));
    let change = FileChange::content(before.map(hash), hash(after));
    Action::AlterFile { path: path.to_owned(), change }
}

/// xorshift64*: the same draws from the same seed.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

/// A number out of the environment.
pub(crate) fn number(variable: &str) -> Option<u64> {
    Some(std::env::var(variable).ok()?.parse().expect("a whole number"))
}
