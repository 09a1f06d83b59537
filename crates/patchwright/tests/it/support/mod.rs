//! Worlds for the integration tests: real Debian roots, real archives, the real program.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use scratch::Scratch;
use serde_json::Value;

/// The program under test.
pub const PATCHWRIGHT: &str = env!("CARGO_BIN_EXE_patchwright");

/// One missing patch as both sides name it: package, architecture, version.
pub type Offer = (String, String, String);

/// Runs a program to its end and returns its standard output; a failure fails the test with
/// everything that the program said.
pub fn run(command: &mut Command) -> String {
    let output = attempt(command);
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).expect("the tool speaks UTF-8")
}

/// Runs a program to its end, whatever its exit status.
pub fn attempt(command: &mut Command) -> Output {
    command
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}; run `cargo xtask test`"))
}

/// Where this test run keeps what it makes.
pub fn scratch(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).expect("the target directory is writable");
    path
}

/// A fresh, empty directory below [`scratch`].
pub fn empty(name: &str) -> Scratch {
    Scratch::empty(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
}

/// A command that sees root's view of files which mmdebstrap made.
pub fn as_root(program: &str) -> Command {
    if rustix_euid() == 0 {
        return Command::new(program);
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--unshare-helper", program]);
    command
}

fn rustix_euid() -> u32 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("Uid:")).expect("has a Uid line");
    line.split_whitespace().nth(2).and_then(|uid| uid.parse().ok()).expect("effective uid")
}

/// The machine's own Debian mirror, from its apt configuration.
pub struct Mirror {
    /// Base URI of the main archive.
    pub debian: String,
    /// Base URI of the security archive.
    pub security: String,
}

impl Mirror {
    /// Asks apt which archives this machine uses.
    pub fn of_this_machine() -> Self {
        let targets = run(Command::new("apt-get").args([
            "indextargets",
            "--format",
            "$(REPO_URI) $(RELEASE)",
            "Created-By: Packages",
        ]));
        let find = |wanted: fn(&str) -> bool| {
            targets
                .lines()
                .filter_map(|line| line.split_once(' '))
                .find(|(_, release)| wanted(release))
                .map(|(uri, _)| uri.to_owned())
        };
        let security = find(|release| release.ends_with("-security"))
            .expect("this machine's apt sources name a Debian security archive");
        let debian = find(|release| !release.contains('-') && release.starts_with(['b', 't', 'f']))
            .expect("this machine's apt sources name a Debian archive");
        Self { debian, security }
    }

    /// deb822 sources for main, updates and security of a release. Security for amd64 only:
    /// mirrors do not always hold the other architectures of an old release whole.
    pub fn sources(&self, release: &str, backports: bool) -> String {
        let backports = if backports { format!(" {release}-backports") } else { String::new() };
        let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
        format!(
            "Types: deb\nURIs: {}\nSuites: {release} {release}-updates{backports}\n\
             Components: main\nSigned-By: {keyring}\n\n\
             Types: deb\nURIs: {}\nSuites: {release}-security\n\
             Components: main\nArchitectures: amd64\nSigned-By: {keyring}\n",
            self.debian, self.security
        )
    }
}

/// A Debian root made of `main` only, as it was at its point release.
pub struct Profile {
    /// Directory name of the root.
    pub name: &'static str,
    /// Release to install.
    pub release: &'static str,
    /// Packages beside the minimal ones.
    pub include: &'static [&'static str],
    /// Architectures, the native one first.
    pub architectures: &'static str,
}

static BUILDING: Mutex<()> = Mutex::new(());

impl Profile {
    /// The root's directory, made on first use and kept for later runs.
    pub fn root(&self) -> PathBuf {
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        let root = scratch("roots").join(self.name);
        if root.join("etc/os-release").exists() {
            return root;
        }
        let making = empty(&format!("roots/{}.making", self.name));
        let mirror = Mirror::of_this_machine();
        let mut command = Command::new("mmdebstrap");
        command
            .arg("--variant=minbase")
            .arg(format!("--architectures={}", self.architectures))
            .arg("--aptopt=Acquire::Languages \"none\"")
            .arg(format!("--include={}", self.include.join(",")));
        if self.include.is_empty() {
            command = Command::new("mmdebstrap");
            command.arg("--variant=minbase").arg(format!("--architectures={}", self.architectures));
        }
        command.arg(self.release).arg(&making).arg(&mirror.debian);
        run(&mut command);
        // What the mirror is called on this machine has to be known inside as well.
        let resolver = making.join("etc/resolv.conf");
        if Path::new("/etc/resolv.conf").exists() {
            run(as_root("cp").arg("-L").arg("/etc/resolv.conf").arg(&resolver));
        }
        fs::rename(&making, &root).expect("same file system");
        root
    }
}

/// A copy of a root that a test may change.
pub fn copy_of(root: &Path, name: &str) -> Scratch {
    let copy = empty(name);
    run(as_root("cp").args(["-a", "--reflink=auto"]).arg(root.join(".")).arg(&copy));
    copy
}

/// The real apt inside a root, looking at the given sources only.
pub struct AptInChroot<'a> {
    root: &'a Path,
}

impl<'a> AptInChroot<'a> {
    /// Loads the sources' lists inside the root.
    pub fn new(root: &'a Path, sources: &str) -> Self {
        let apt = Self { root };
        for directory in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(root.join("tmp/apt").join(directory)).expect("writable root");
        }
        fs::write(root.join("tmp/apt/all.sources"), sources).expect("writable root");
        run(apt.command("apt-get").arg("update"));
        apt
    }

    /// What `apt list --upgradable` offers.
    pub fn upgradable(&self) -> BTreeSet<Offer> {
        run(self.command("apt").args(["list", "--upgradable"]))
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.split_once('/')?;
                let mut words = rest.split(' ').skip(1);
                let (version, architecture) = (words.next()?, words.next()?);
                Some((name.to_owned(), architecture.to_owned(), version.to_owned()))
            })
            .collect()
    }

    /// Brings the root up to date.
    pub fn dist_upgrade(&self) {
        run(self.command("apt-get").args(["--yes", "dist-upgrade"]));
    }

    /// Runs another program inside the root.
    pub fn in_root(&self, program: &str) -> Command {
        let mut command = as_root("chroot");
        command.arg(self.root).arg(program).env("DEBIAN_FRONTEND", "noninteractive");
        command
    }

    fn command(&self, program: &str) -> Command {
        let mut command = self.in_root(program);
        command.args([
            "-oDir::Etc::SourceList=/dev/null",
            "-oDir::Etc::SourceParts=/tmp/apt/",
            "-oDir::State::Lists=/tmp/apt/lists",
            "-oDir::Cache=/tmp/apt/cache",
            "-oAcquire::Languages=none",
            "-oAPT::Sandbox::User=root",
        ]);
        command
    }
}

impl Drop for AptInChroot<'_> {
    fn drop(&mut self) {
        // Leaves the root as it was: later tests read it too.
        let _ = as_root("rm").args(["-rf"]).arg(self.root.join("tmp/apt")).output();
    }
}

/// A `patchwright check` with a cache shared by the whole test run.
pub fn check(target: &Path) -> Command {
    check_keeping(target, &scratch("data"))
}

/// A `patchwright check` that keeps its state in `data`.
pub fn check_keeping(target: &Path, data: &Path) -> Command {
    let mut command = Command::new(PATCHWRIGHT);
    command.arg("check").arg(target).arg("--data").arg(data);
    command
}

/// Runs a check with JSON output.
pub fn report(command: &mut Command) -> Value {
    let text = run(command.args(["--format", "json"]));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// The report's findings as apt would name them.
pub fn offers(report: &Value) -> BTreeSet<Offer> {
    let field = |finding: &Value, name: &str| {
        finding[name].as_str().unwrap_or_else(|| panic!("no `{name}` in {finding}")).to_owned()
    };
    report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .map(|finding| {
            (field(finding, "package"), field(finding, "architecture"), field(finding, "candidate"))
        })
        .collect()
}

/// A qcow2 image with one ext4 file system that holds the root.
pub fn qcow2_of(root: &Path, directory: &Path) -> PathBuf {
    let (raw, image) = (directory.join("disk.raw"), directory.join("disk.qcow2"));
    let kilobytes = run(as_root("du").args(["-sk"]).arg(root));
    let kilobytes: u64 =
        kilobytes.split_whitespace().next().and_then(|size| size.parse().ok()).expect("du");
    run(as_root("mke2fs")
        .args(["-q", "-t", "ext4", "-d"])
        .arg(root)
        .arg(&raw)
        .arg(format!("{}k", kilobytes * 5 / 4 + 100_000)));
    run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&image));
    fs::remove_file(&raw).expect("just made");
    image
}
