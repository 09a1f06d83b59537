//! Worlds for the lab's tests: real images, packages built on the spot.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lab::{
    BaseImage, Job, Limits, Observer, PackageFile, Profile, Proof, ProveError, Stage, Thoroughness,
    WorkArea,
};

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
pub fn empty(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        fs::remove_dir_all(&path).unwrap();
    }
    fs::create_dir_all(&path).unwrap();
    path
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
    pub place: PathBuf,
    pub area: WorkArea,
    pub image: BaseImage,
    pub limits: Limits,
    pub profile: Profile,
    pub thoroughness: Thoroughness,
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
             http = { port = 80, path = \"/\", status = 200, contains = \"nginx\" }\n\
             [[probe]]\nname = \"no network\"\n\
             command = { argv = [\"/bin/sh\", \"-c\", \"test $(ls /sys/class/net) = lo\"] }\n",
        )
        .unwrap();
        let thoroughness = Thoroughness::UntilRejected;
        Self { place, area, image, limits, profile, thoroughness }
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
    let place = place.canonicalize().unwrap();
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
        self.fields += &format!("{name}: {value}\n");
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

/// The archive of the packages that an image was made of.
pub fn original(release: &str, package: &str) -> PackageFile {
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/images");
    let kept = kept.join(format!("{release}-archives"));
    let prefix = format!("{package}_");
    let found = fs::read_dir(&kept)
        .unwrap()
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with(&prefix))
        .unwrap_or_else(|| panic!("no {package} in {}", kept.display()));
    described(&found.path())
}
