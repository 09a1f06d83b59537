//! Worlds of rpm: a root with a database of its own, packages made by `rpmbuild`, a repository made by
//! `createrepo_c`, signed by `gpg`, and read by the root's own dnf.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::PoisonError;

use agent::State;
use agent::execute::{AtRest, HostFiles, Packages};
use agent::orders::{Answer, Desk};
use domain::change::{Action, ExactPackage, FileHash};
use domain::inventory::PackageFamily;
use domain::order::{Ended, OrderResult, Refusal};
use domain::version::VersionKind;
use jiff::Timestamp;
use scratch::Scratch;
use sha2::{Digest as _, Sha256};

use crate::support::{BUILDING, Told, mirror, run, trusted_of};

/// A copy of a root that has nothing installed by rpm. Its programs are Debian's.
fn root(name: &str) -> Scratch {
    let roots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("roots");
    let base = roots.join("rpm-orders");
    {
        let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
        if !base.join("etc/rpm/macros").exists() {
            let making = roots.join("rpm-orders.making");
            let _ = fs::remove_dir_all(&making);
            fs::create_dir_all(&roots).unwrap();
            let mut command = Command::new("mmdebstrap");
            command.args(["--variant=apt", "--include=rpm,dnf,dnf-plugins-core,gpg"]);
            for left_out in ["doc", "locale", "man"] {
                command.arg(format!("--dpkgopt=path-exclude=/usr/share/{left_out}/*"));
            }
            command.args(["--aptopt=Acquire::Languages \"none\"", "bookworm"]);
            run(command.arg(&making).arg(mirror()));
            let system = "ID=almalinux\nVERSION_ID=9.4\nPRETTY_NAME=\"A root of rpm's\"\n";
            fs::write(making.join("usr/lib/os-release"), system).unwrap();
            fs::create_dir_all(making.join("etc/rpm")).unwrap();
            // Debian's own is in root's home.
            fs::write(making.join("etc/rpm/macros"), "%_dbpath /var/lib/rpm\n").unwrap();
            fs::rename(&making, &base).unwrap();
        }
    }
    let copy = Scratch::absent(roots.join(format!("rpm-orders-{name}")));
    run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(&base).arg(&copy));
    copy
}

/// A package to build.
#[derive(Clone)]
pub(crate) struct Rpm {
    pub(crate) name: &'static str,
    /// `1.0-1`
    pub(crate) version: String,
    /// Lines of its preamble: `Requires: tool-lib = 1.0-1`.
    pub(crate) preamble: Vec<String>,
    /// Files with what stands before them in the list of files, and their content.
    pub(crate) files: Vec<(String, &'static str, String)>,
    /// Sections with what they do: `%post`.
    pub(crate) scripts: Vec<(&'static str, String)>,
    /// What further is done to the tree that is packed, and the lines of the list of files for it.
    pub(crate) further: Vec<(String, String)>,
}

impl Rpm {
    pub(crate) fn new(name: &'static str, version: &str) -> Self {
        let file = (format!("/usr/lib/{name}/version"), "", version.to_owned());
        Self {
            name,
            version: version.to_owned(),
            preamble: Vec::new(),
            files: vec![file],
            scripts: Vec::new(),
            // Its own directory, which goes with it.
            further: vec![(
                format!("mkdir -p %{{buildroot}}/usr/lib/{name}"),
                format!("%dir /usr/lib/{name}"),
            )],
        }
    }

    fn spec(&self) -> String {
        let (version, release) = self.version.split_once('-').unwrap();
        let mut spec = format!(
            "Name: {}\nVersion: {version}\nRelease: {release}\nSummary: an example\nLicense: none\n",
            self.name
        );
        for line in &self.preamble {
            let _ = writeln!(spec, "{line}");
        }
        let _ = write!(spec, "%description\nan example\n%install\n");
        let mut list = String::new();
        for (number, (path, kind, _)) in self.files.iter().enumerate() {
            let _ =
                writeln!(spec, "install -D -m 644 %{{_sourcedir}}/{number} %{{buildroot}}{path}");
            let _ = writeln!(list, "{kind} {path}");
        }
        for (does, lists) in &self.further {
            let _ = writeln!(spec, "{does}");
            let _ = writeln!(list, "{lists}");
        }
        for (section, does) in &self.scripts {
            let _ = writeln!(spec, "{section}\n{does}");
        }
        let _ = write!(spec, "%files\n{list}");
        spec
    }
}

/// A host: a root with an agent's state and a signed repository in it.
pub(crate) struct RpmHost {
    pub(crate) root: Scratch,
    /// The vendor's keys; they lie outside of the root.
    keys: PathBuf,
}

/// The vendor whose key the host has.
pub(crate) const VENDOR: &str = "Example Vendor <vendor@example.org>";
/// Somebody else.
pub(crate) const STRANGER: &str = "A Stranger <stranger@example.org>";

const REPOSITORY: &str = "srv/repository";

impl RpmHost {
    /// A host where nothing is installed but what scripts need; packages are signed, and the vendor's key
    /// lies where the repository's configuration says.
    pub(crate) fn new(name: &str) -> Self {
        let root = root(name);
        let keys = root.with_extension("keys");
        let host = Self { root, keys };
        let _ = fs::remove_dir_all(&host.keys);
        run(Command::new("mkdir").args(["-m", "700"]).arg(&host.keys));
        // It is there when this returns; gpg would not wait for it long enough on a busy machine.
        let mut agent = Command::new("gpg-agent");
        run(agent.arg("--homedir").arg(&host.keys).args(["--quiet", "--daemon"]));
        for user in [VENDOR, STRANGER] {
            host.gpg(&["--quick-generate-key", user, "rsa2048", "sign", "never"]);
        }
        fs::create_dir_all(host.root.join("etc/pki")).unwrap();
        for (user, file) in [(VENDOR, "vendor"), (STRANGER, "stranger")] {
            let file = host.root.join("etc/pki").join(file);
            host.gpg(&["--armor", "--output", file.to_str().unwrap(), "--export", user]);
        }
        fs::create_dir_all(host.root.join(REPOSITORY)).unwrap();
        host.configure("gpgcheck=1\ngpgkey=file:///etc/pki/vendor\n");
        let mut shell = Rpm::new("shell", "1.0-1");
        shell.preamble = vec!["Provides: /bin/sh".to_owned()];
        let shell = host.offer(&shell);
        host.install(&[shell]);
        host.state().keep_trusted(&trusted_of(VersionKind::Rpm)).unwrap();
        host
    }

    /// One that was made before, by another process.
    pub(crate) fn again(root: PathBuf) -> Self {
        Self { keys: root.with_extension("keys"), root: Scratch::of_another(root) }
    }

    pub(crate) fn state(&self) -> State {
        State::new(self.root.join("var/lib/patchwright-agent"))
    }

    fn gpg(&self, arguments: &[&str]) {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(&self.keys);
        command.args(["--batch", "--quiet", "--yes", "--pinentry-mode", "loopback"]);
        run(command.args(["--passphrase", ""]).args(arguments));
    }

    /// How the host is told of the repository.
    pub(crate) fn configure(&self, trust: &str) {
        let text = format!("[vendor]\nname=a vendor\nbaseurl=file:///{REPOSITORY}\n{trust}");
        self.write("/etc/yum.repos.d/vendor.repo", &text);
    }

    /// Builds a package that nobody signed.
    pub(crate) fn build(&self, rpm: &Rpm) -> PathBuf {
        let tree = tempfile::tempdir().unwrap();
        let sources = tree.path().join("SOURCES");
        fs::create_dir_all(&sources).unwrap();
        for (number, (_, _, content)) in rpm.files.iter().enumerate() {
            fs::write(sources.join(number.to_string()), content).unwrap();
        }
        let spec = tree.path().join("package.spec");
        fs::write(&spec, rpm.spec()).unwrap();
        let repository = self.root.join(REPOSITORY);
        let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
        let mut command = Command::new("rpmbuild");
        command.args(["-bb", "--quiet"]);
        command.args(define("_topdir", tree.path().to_str().unwrap()));
        command.args(define("_rpmdir", repository.to_str().unwrap()));
        command.args(define("_rpmfilename", "%%{NAME}-%%{VERSION}-%%{RELEASE}.rpm"));
        command.args(define("_build_id_links", "none"));
        command.args(define("__os_install_post", "%{nil}"));
        command.args(["--target", "x86_64-linux"]);
        run(command.arg(&spec));
        repository.join(format!("{}-{}.rpm", rpm.name, rpm.version))
    }

    pub(crate) fn sign(&self, file: &Path, by: &str) {
        let keys = self.keys.to_str().unwrap();
        let define = |name: &str, value: &str| ["--define".to_owned(), format!("{name} {value}")];
        let mut command = Command::new("rpmsign");
        command.args(define("_gpg_name", by)).args(define("__gpg", "/usr/bin/gpg"));
        command.args(define("_gpg_path", keys)).env("GNUPGHOME", keys);
        run(command.arg("--addsign").arg(file));
    }

    /// Makes the list anew.
    pub(crate) fn publish(&self) {
        let repository = self.root.join(REPOSITORY);
        run(Command::new("createrepo_c").args(["--quiet", "--no-database"]).arg(&repository));
    }

    pub(crate) fn list(&self) -> PathBuf {
        self.root.join(REPOSITORY).join("repodata/repomd.xml")
    }

    pub(crate) fn sign_list(&self, by: &str) {
        let list = self.list();
        let to = list.with_extension("xml.asc");
        let (list, to) = (list.to_str().unwrap(), to.to_str().unwrap());
        self.gpg(&["--local-user", by, "--armor", "--output", to, "--detach-sign", list]);
    }

    /// What a plan calls a package that was built.
    pub(crate) fn named(&self, rpm: &Rpm) -> ExactPackage {
        let file = self.root.join(REPOSITORY).join(format!("{}-{}.rpm", rpm.name, rpm.version));
        let sha256: [u8; 32] = Sha256::digest(fs::read(file).unwrap()).into();
        ExactPackage {
            name: rpm.name.to_owned(),
            architecture: "x86_64".to_owned(),
            version: rpm.version.clone(),
            sha256: FileHash::from(sha256),
        }
    }

    /// Builds a package and offers it, signed by the vendor.
    pub(crate) fn offer(&self, rpm: &Rpm) -> ExactPackage {
        let file = self.build(rpm);
        self.sign(&file, VENDOR);
        self.publish();
        self.named(rpm)
    }

    /// Installs what is there before.
    pub(crate) fn install(&self, packages: &[ExactPackage]) {
        let file = |it: &ExactPackage| format!("/{REPOSITORY}/{}-{}.rpm", it.name, it.version);
        let mut command = Command::new("chroot");
        command.arg(&self.root).args(["rpm", "--upgrade"]).args(packages.iter().map(file));
        run(&mut command);
    }

    pub(crate) fn in_root(&self, argv: &[&str]) -> String {
        run(Command::new("chroot").arg(&self.root).args(argv))
    }

    /// Installed versions of a package; empty where it is not there.
    pub(crate) fn version(&self, name: &str) -> String {
        let format = "--qf=%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE} ";
        let asked = ["rpm", "-q", format, name];
        let output = Command::new("chroot").arg(&self.root).args(asked).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        if output.status.success() { text.trim().to_owned() } else { String::new() }
    }

    pub(crate) fn read(&self, path: &str) -> String {
        fs::read_to_string(self.root.join(path.trim_start_matches('/'))).unwrap_or_default()
    }

    pub(crate) fn write(&self, path: &str, content: &str) {
        let path = self.root.join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Calls on the desk of this host's agent, whose archives are the host's own.
    pub(crate) fn at_desk<T>(
        &self,
        now: &dyn Fn() -> Timestamp,
        ask: impl FnOnce(&Desk<'_>) -> T,
    ) -> T {
        let state = self.state();
        let work = state.directory().join("work");
        let packages = Packages::of(PackageFamily::Rpm, &self.root, &work, now());
        let policy = self.root.join("etc/patchwright/policy.toml");
        let files = HostFiles::new(&self.root, vec![state.directory().to_owned()]);
        ask(&Desk {
            state: &state,
            policy: &policy,
            probes: &self.root.join("etc/patchwright/probes.toml"),
            packages: &*packages.system,
            archives: &*packages.archives,
            system: &AtRest,
            files: &files,
            clock: now,
        })
    }

    pub(crate) fn take(&self, actions: Vec<Action>, sequence: u64) -> Answer {
        let told = Told::to(actions, sequence);
        self.at_desk(&Timestamp::now, |desk| desk.take(&told.handed()).unwrap())
    }

    pub(crate) fn result(&self, actions: Vec<Action>, sequence: u64) -> OrderResult {
        match self.take(actions, sequence) {
            Answer::Ended(result) => *result,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn refusal(&self, actions: Vec<Action>, sequence: u64) -> Refusal {
        match self.take(actions, sequence) {
            Answer::Refused(refusal) => refusal,
            Answer::Ended(result) => match result.ended {
                Ended::Refused { refusal } => refusal,
                other => panic!("{other:?}"),
            },
            Answer::Rebooting => panic!("it restarts"),
        }
    }

    /// All that is installed, as rpm and the files say.
    pub(crate) fn system(&self) -> System {
        let mut packages: Vec<_> =
            self.in_root(&["rpm", "-qa"]).lines().map(str::to_owned).collect();
        packages.sort();
        // It ends with how much is altered.
        let altered = Command::new("chroot").arg(&self.root).args(["rpm", "-Va"]).output().unwrap();
        let mut files = BTreeMap::new();
        for directory in ["etc", "usr/lib", "usr/share", "opt", "boot"] {
            look(&self.root.join(directory), &mut files);
        }
        // When a file was written is nothing that is given back.
        let altered = String::from_utf8(altered.stdout).unwrap().replace("T. ", ".. ");
        System { packages, altered, files }
    }
}

impl Drop for RpmHost {
    /// gpg's agent lives as long as its directory does.
    fn drop(&mut self) {
        let mut command = Command::new("gpgconf");
        command.arg("--homedir").arg(&self.keys).args(["--kill", "gpg-agent"]);
        let _ = command.output();
    }
}

/// What a system is, as far as packages have to do with it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct System {
    pub(crate) packages: Vec<String>,
    pub(crate) altered: String,
    files: BTreeMap<PathBuf, String>,
}

impl System {
    /// That it is another one, in words.
    pub(crate) fn assert_is(&self, before: &Self, when: &str) {
        assert_eq!(self.packages, before.packages, "{when}");
        assert_eq!(self.altered, before.altered, "{when}");
        let is_other = |path: &&PathBuf| self.files.get(*path) != before.files.get(*path);
        let all = self.files.keys().chain(before.files.keys());
        let other: Vec<_> = all
            .filter(is_other)
            .map(|path| (path, before.files.get(path), self.files.get(path)))
            .collect();
        assert!(other.is_empty(), "{when}: before and after: {other:#?}");
    }
}

fn look(path: &Path, files: &mut BTreeMap<PathBuf, String>) {
    let Ok(data) = path.symlink_metadata() else { return };
    let is = format!("{:o} {}:{}", data.mode(), data.uid(), data.gid());
    let content = if data.is_symlink() {
        fs::read_link(path).unwrap().display().to_string()
    } else if data.is_file() {
        // Programs of the root itself are nothing that an order alters.
        if data.len() > 65536 { data.len().to_string() } else { content(path) }
    } else {
        String::new()
    };
    files.insert(path.to_owned(), format!("{is} {content}"));
    if data.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            look(&entry.unwrap().path(), files);
        }
    }
}

fn content(path: &Path) -> String {
    let hash = Sha256::digest(fs::read(path).unwrap());
    FileHash::from(<[u8; 32]>::from(hash)).to_string()
}

/// A library and a program that needs exactly its version, with files of all kinds.
pub(crate) fn tool(version: &str) -> [Rpm; 2] {
    let library = Rpm::new("tool-lib", version);
    let mut program = Rpm::new("tool", version);
    program.preamble = vec![format!("Requires: tool-lib = {version}")];
    for (path, kind) in [
        ("/etc/tool.conf", "%config(noreplace)"),
        ("/etc/tool-plain.conf", "%config(noreplace)"),
        ("/etc/tool-replaced.conf", "%config"),
        ("/etc/tool-gone.conf", "%config(noreplace)"),
        ("/usr/lib/tool/patched", ""),
        ("/usr/lib/tool/gone", ""),
        ("/usr/lib/tool/one", ""),
    ] {
        program.files.push((path.to_owned(), kind, format!("{path} of {version}\n")));
    }
    program.files.push((format!("/usr/lib/tool/only-{version}"), "", "only".to_owned()));
    let further = [
        ("ln %{buildroot}/usr/lib/tool/one %{buildroot}/usr/lib/tool/other", "/usr/lib/tool/other"),
        ("ln -s version %{buildroot}/usr/lib/tool/link", "/usr/lib/tool/link"),
        ("mkdir -p %{buildroot}/usr/lib/tool/directory", "%dir /usr/lib/tool/directory"),
        ("touch %{buildroot}/usr/lib/tool/ghost", "%ghost /usr/lib/tool/ghost"),
    ];
    program.further.extend(further.map(|(does, lists)| (does.to_owned(), lists.to_owned())));
    [library, program]
}

/// A host where that is installed, and whose owner has altered something of each kind.
pub(crate) fn host(name: &str) -> RpmHost {
    let host = RpmHost::new(name);
    let old: Vec<_> = tool("1.0-1").iter().map(|rpm| host.offer(rpm)).collect();
    host.install(&old);
    host.write("/etc/tool.conf", "the owner's own\n");
    host.write("/etc/tool-replaced.conf", "the owner's own as well\n");
    host.write("/usr/lib/tool/patched", "patched by hand\n");
    for path in ["etc/tool-gone.conf", "usr/lib/tool/gone"] {
        fs::remove_file(host.root.join(path)).unwrap();
    }
    host
}
