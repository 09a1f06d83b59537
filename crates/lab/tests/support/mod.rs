//! Worlds for the lab's tests: real images, packages built on the spot.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lab::{
    BaseImage, Job, Limits, Observer, PackageFile, Profile, Proof, ProveError, Stage, Thoroughness,
    WorkArea,
};
use scratch::Scratch;

/// Runs a program to its end and returns its output; a failure fails the test with everything.
pub fn run(command: &mut Command) -> String {
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
    String::from_utf8(output.stdout).expect("the tool speaks UTF-8")
}

/// The image that `cargo xtask make-image` makes, or made before.
pub fn image(release: &str, profile: &str) -> BaseImage {
    let path = run(Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--", "make-image", release])
        .args(["--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    BaseImage::open(Path::new(path.trim())).unwrap()
}

/// A fresh, empty directory of this test run.
pub fn empty(name: &str) -> Scratch {
    Scratch::empty(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
}

/// Prints where a job is.
#[derive(Debug)]
pub struct Printed(pub String);

impl Observer for Printed {
    fn stage(&self, stage: Stage, elapsed: Duration) {
        eprintln!("{}: {:>6.1} s {stage}", self.0, elapsed.as_secs_f64());
    }
}

/// Everything that a proof needs but the patch.
pub struct World {
    pub area: WorkArea,
    pub image: BaseImage,
    pub limits: Limits,
    pub profile: Profile,
    pub thoroughness: Thoroughness,
    /// Gone when nothing works in it any more.
    pub place: Scratch,
}

impl World {
    pub fn new(name: &str, image: BaseImage) -> Self {
        let place = empty(name);
        let (area, _) = WorkArea::open(&place.join("lab")).unwrap();
        let limits = Limits {
            processors: 1,
            memory_mib: 512,
            boot: Duration::from_secs(600),
            picture: Duration::from_secs(300),
            ..Limits::default()
        };
        let profile = Profile::parse(
            "[[probe]]\nname = \"home page\"\n\
             http = { port = 80, path = \"/\", status = 200, contains = \"nginx\" }\nwithin_seconds = 10\n\
             [[probe]]\nname = \"no network\"\n\
             command = { argv = [\"/bin/sh\", \"-c\", \"test $(ls /sys/class/net) = lo\"] }\n",
        )
        .unwrap();
        let thoroughness = Thoroughness::UntilRejected;
        Self { area, image, limits, profile, thoroughness, place }
    }

    pub fn prove(
        &self,
        patches: &[PackageFile],
        previous: &[PackageFile],
        claims: &[domain::proof::Claim],
    ) -> Result<Proof, ProveError> {
        let name = self.place.file_name().unwrap().to_string_lossy().into_owned();
        let job = Job {
            image: &self.image,
            patches,
            previous,
            claims,
            profile: &self.profile,
            limits: &self.limits,
            thoroughness: self.thoroughness,
        };
        lab::prove(&self.area, &job, &self.evidence(), Arc::new(Printed(name)))
    }

    pub fn evidence(&self) -> PathBuf {
        self.place.join("evidence")
    }

    /// Nothing of a job may be left: neither files nor a machine.
    pub fn assert_clean(&self) {
        let left: Vec<_> = fs::read_dir(self.place.join("lab")).unwrap().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert_eq!(machines_in(&self.place), Vec::<u32>::new());
    }
}

/// Processes that work in a directory below this one.
pub fn machines_in(place: &Path) -> Vec<u32> {
    // The process that is looked for may be making it just now.
    let Ok(place) = place.canonicalize() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let works_at = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        if command.starts_with("qemu") && works_at.starts_with(&place) {
            found.push(pid);
        }
    }
    found
}

/// A package while it is built.
pub struct Deb {
    name: String,
    version: String,
    fields: String,
    postinst: Option<String>,
    files: Vec<(String, String)>,
}

impl Deb {
    pub fn new(name: &str, version: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: version.to_owned(),
            fields: String::new(),
            postinst: None,
            files: vec![(format!("/usr/share/{name}/version"), version.to_owned())],
        }
    }

    pub fn field(mut self, name: &str, value: &str) -> Self {
        writeln!(self.fields, "{name}: {value}").unwrap();
        self
    }

    pub fn postinst(mut self, script: &str) -> Self {
        self.postinst = Some(format!("#!/bin/sh\nset -e\n{script}\n"));
        self
    }

    pub fn build(&self, place: &Path) -> PackageFile {
        let tree = place.join(format!("{}-tree", self.name));
        fs::create_dir_all(tree.join("DEBIAN")).unwrap();
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: Test <test@example.org>\n\
             {}Description: made by a test\n",
            self.name, self.version, self.fields
        );
        fs::write(tree.join("DEBIAN/control"), control).unwrap();
        if let Some(script) = &self.postinst {
            let path = tree.join("DEBIAN/postinst");
            fs::write(&path, script).unwrap();
            run(Command::new("chmod").arg("755").arg(&path));
        }
        for (path, content) in &self.files {
            let path = tree.join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        packed(&tree, place)
    }
}

/// Packs a tree and describes what comes out.
pub fn packed(tree: &Path, place: &Path) -> PackageFile {
    let file = place.join(format!("{}.deb", tree.file_name().unwrap().to_string_lossy()));
    run(Command::new("dpkg-deb").args(["--root-owner-group", "-Zgzip", "-b"]).arg(tree).arg(&file));
    described(&file)
}

/// What a .deb says of itself, with its hash.
pub fn described(file: &Path) -> PackageFile {
    let control = run(Command::new("dpkg-deb")
        .args(["--show", "--showformat=${Package}\n${Architecture}\n${Version}\n${source:Package}"])
        .arg(file));
    let fields: Vec<&str> = control.lines().collect();
    let sum = run(Command::new("sha256sum").arg(file));
    let source = domain::inventory::SourcePackage::resolve_signed(fields[3], fields[2]);
    PackageFile {
        path: file.to_owned(),
        sha256: sum.split(' ').next().unwrap().to_owned(),
        package: fields[0].to_owned(),
        architecture: fields[1].to_owned(),
        version: fields[2].to_owned(),
        source: source.name,
    }
}

/// What a patched package is said to fix: everything before its source's version.
pub fn claim(file: &Path) -> domain::proof::Claim {
    let control = run(Command::new("dpkg-deb")
        .args(["--show", "--showformat=${source:Package}\n${source:Version}"])
        .arg(file));
    let (source, version) = control.split_once('\n').unwrap();
    let source = domain::inventory::SourcePackage::resolve_signed(source, version);
    domain::proof::Claim {
        source: source.name,
        version: source.version,
        ids: vec!["all that its changelog names".to_owned()],
    }
}

/// A patch that TCG installs in seconds; what brings a service and a library into other versions is among them.
pub fn is_small(package: &PackageFile) -> bool {
    matches!(package.source.as_str(), "nginx" | "openssl")
}

/// The patches that apt would install on an image, of those that are wanted, fetched from the mirror of this
/// machine's apt.
pub fn pending(
    image: &BaseImage,
    release: &str,
    is_wanted: impl Fn(&PackageFile) -> bool,
) -> Vec<PackageFile> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let place = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{release}-pending"));
    for directory in ["lists/partial", "cache/archives/partial", "sources"] {
        fs::create_dir_all(place.join(directory)).unwrap();
    }
    let target = inspect::open(image.path(), None).unwrap();
    let status = target.files().read("/var/lib/dpkg/status", 64 << 20).unwrap().unwrap();
    fs::write(place.join("status"), status).unwrap();
    fs::write(place.join("sources/all.sources"), sources(release)).unwrap();
    let apt = |arguments: &[&str]| {
        let option = |name: &str, value: &str| format!("-o{name}={}", place.join(value).display());
        run(Command::new("apt-get")
            .args([
                "-oDir::Etc::SourceList=/dev/null",
                "-oAcquire::Languages=none",
                "-oAPT::Install-Recommends=0",
            ])
            .args(["-oAPT::Sandbox::User=root", "-oDebug::NoLocking=1", "-qq", "--yes"])
            .arg(option("Dir::Etc::SourceParts", "sources/"))
            .arg(option("Dir::State::Lists", "lists"))
            .arg(option("Dir::State::status", "status"))
            .arg(option("Dir::Cache", "cache"))
            .args(arguments))
    };
    apt(&["update"]);
    // What an earlier run has fetched may be of another day.
    apt(&["autoclean"]);
    let simulated = apt(&["--simulate", "dist-upgrade"]);
    apt(&["--download-only", "dist-upgrade"]);
    let wanted = simulated.lines().filter_map(|line| {
        let mut words = line.strip_prefix("Inst ")?.split_whitespace();
        let name = words.next()?;
        let version = words.find_map(|word| word.strip_prefix('('))?;
        Some((name.to_owned(), version.to_owned()))
    });
    let packages = wanted.map(|(name, version)| {
        let prefix = format!("{name}_{}_", version.replace(':', "%3a"));
        let found = fs::read_dir(place.join("cache/archives"))
            .unwrap()
            .flatten()
            .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix));
        described(&found.unwrap_or_else(|| panic!("apt did not fetch {prefix}")).path())
    });
    packages.filter(is_wanted).collect()
}

fn sources(release: &str) -> String {
    let targets = run(Command::new("apt-get").args([
        "indextargets",
        "--format",
        "$(REPO_URI) $(RELEASE)",
        "Created-By: Packages",
    ]));
    let uri = |wanted: fn(&str) -> bool| {
        let mut targets = targets.lines().filter_map(|line| line.split_once(' '));
        targets.find(|(_, suite)| wanted(suite)).expect("apt's sources name Debian's archives").0
    };
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    format!(
        "Types: deb\nURIs: {}\nSuites: {release}\nComponents: main\nSigned-By: {keyring}\n\n\
         Types: deb\nURIs: {}\nSuites: {release}-security\nComponents: main\n\
         Signed-By: {keyring}\n",
        uri(|suite| !suite.contains('-') && suite.starts_with(['b', 't', 'f'])),
        uri(|suite| suite.ends_with("-security")),
    )
}

/// A package in the version that an image was made with. Other images of the release may have been made with others.
pub fn original(image: &BaseImage, release: &str, package: &str) -> PackageFile {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images");
    let kept = kept.join(format!("{release}-archives"));
    let inventory = inspect::open(image.path(), None).unwrap().inventory().unwrap();
    let installed = inventory.packages.iter().find(|it| it.name == package);
    let version = &installed.unwrap_or_else(|| panic!("the image has no {package}")).version;
    let prefix = format!("{package}_{}_", version.replace(':', "%3a"));
    let found = fs::read_dir(&kept)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .unwrap_or_else(|| panic!("no {prefix} in {}", kept.display()));
    described(&found.path())
}
