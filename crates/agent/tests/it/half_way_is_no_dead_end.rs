//! From each state in which an interruption leaves packages, both ways are open, and neither leaves anything
//! behind.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use agent::execute::{
    Alteration, Apt, AtRest, Completeness, Direction, Found, PackageFault, PackageSystem,
};
use agent::orders::{Answer, Desk};
use domain::change::ExactPackage;
use domain::order::Ended;
use domain::version::VersionKind;
use jiff::Timestamp;

use crate::support::{Deb, Host, Told, runs_as_root, upgrade};

/// In their alphabetical order the wrong one is first, as it is with `libpam-modules`.
const NAMES: [&str; 2] = ["pair", "pair-bin"];

fn pair(version: &str) -> [Deb; 2] {
    let mut first = Deb::new(NAMES[0], version);
    first.pre_depends = format!("{} (= {version})", NAMES[1]);
    [first, Deb::new(NAMES[1], version)]
}

/// Interrupted between two packages of which one needs the very version of the other: each of them is whole,
/// and what one needs is not there. The one that is needed is new, the one that needs it is old.
fn host(name: &str) -> Host {
    let host = Host::new(name);
    for version in ["1.0-1", "1.0-2"] {
        for deb in pair(version) {
            host.offer(&deb);
        }
    }
    for (name, version) in [(NAMES[1], "1.0-1"), (NAMES[0], "1.0-1"), (NAMES[1], "1.0-2")] {
        let file = format!("/var/tmp/debs/{name}_{version}_amd64.deb");
        host.in_root(&["dpkg", "--force-depends", "--install", &file]);
    }
    assert_eq!(host.in_root(&["dpkg", "--audit"]), "", "each of them is whole");
    host
}

fn alter(host: &Host, direction: Direction, version: &str) {
    let packages = Apt::new(&host.root, host.state().directory().join("work"));
    let files = NAMES.map(|name| host.debs.join(format!("{name}_{version}_amd64.deb")));
    packages.alter(&Alteration { direction, files: &files, remove: &[] }).unwrap();
    assert_eq!(NAMES.map(|name| host.version(name)), [version, version]);
    host.in_root(&["apt-get", "check"]);
}

#[test]
fn it_goes_forward() {
    if runs_as_root("half_way_is_no_dead_end::it_goes_forward") {
        alter(&host("half-forward"), Direction::Forward, "1.0-2");
    }
}

#[test]
fn it_goes_back() {
    if runs_as_root("half_way_is_no_dead_end::it_goes_back") {
        alter(&host("half-back"), Direction::Back, "1.0-1");
    }
}

#[test]
fn it_goes_back_without_apt_as_well() {
    if runs_as_root("half_way_is_no_dead_end::it_goes_back_without_apt_as_well") {
        let host = host("half-back-dpkg");
        let apt = host.root.join("usr/bin/apt-get");
        std::fs::rename(&apt, apt.with_extension("kept")).unwrap();
        host.write("/usr/bin/apt-get", "#!/bin/sh\nexit 100\n");
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&apt, permissions).unwrap();
        let packages = Apt::new(&host.root, host.state().directory().join("work"));
        let files = NAMES.map(|name| host.debs.join(format!("{name}_1.0-1_amd64.deb")));
        let alteration = Alteration { direction: Direction::Back, files: &files, remove: &[] };

        packages.alter(&alteration).unwrap();

        assert_eq!(NAMES.map(|name| host.version(name)), ["1.0-1", "1.0-1"]);
    }
}

/// As dpkg leaves a package whose files are in their places, and which it has not written down yet: a new
/// one, or a newer one in the place of another.
fn torn(name: &str, before: &[&str]) -> Host {
    let host = Host::new(name);
    let mut old = Deb::new("torn", "1.0-1");
    old.files.push(("/usr/lib/torn/both".to_owned(), "old".to_owned()));
    let mut new = Deb::new("torn", "1.0-2");
    new.files.push(("/usr/lib/torn/both".to_owned(), "new".to_owned()));
    new.files.push(("/usr/lib/torn/only-new".to_owned(), "new".to_owned()));
    for deb in [old, new] {
        host.offer(&deb);
    }
    for file in before {
        host.in_root(&["dpkg", "--install", file]);
    }
    let place = host.root.join("usr/lib/torn");
    std::fs::create_dir_all(&place).unwrap();
    for file in ["both", "only-new", "version.dpkg-new"] {
        std::fs::write(place.join(file), "new").unwrap();
    }
    let status = host.read("/var/lib/dpkg/status");
    let whole = "Package: torn\nStatus: install ok installed\n";
    let half = "Package: torn\nStatus: install reinstreq half-installed\n";
    let status = if before.is_empty() {
        format!(
            "{status}\n{half}Maintainer: A <a@example.org>\nArchitecture: amd64\nVersion: 1.0-2\n"
        )
    } else {
        assert!(status.contains(whole));
        status.replace(whole, half)
    };
    host.write("/var/lib/dpkg/status", &status);
    assert_ne!(host.in_root(&["dpkg", "--audit"]), "");
    host
}

/// The torn package, as it is told.
fn torn_one(packages: &Apt) -> [Found; 1] {
    let mut installed = packages.installed().unwrap();
    installed.retain(|it| it.name == "torn");
    installed.try_into().unwrap()
}

fn mend(host: &Host) -> Apt {
    let packages = Apt::new(&host.root, host.state().directory().join("work"));
    let is_torn = |packages: &Apt| {
        let mut installed = packages.installed().unwrap().into_iter();
        installed.any(|it| it.name == "torn" && it.completeness == Completeness::Torn)
    };
    assert!(is_torn(&packages));
    packages.mend(&[host.debs.join("torn_1.0-2_amd64.deb")]).unwrap();
    assert!(!is_torn(&packages));
    packages
}

#[test]
fn a_torn_package_that_was_not_there_goes_with_all_its_files() {
    if runs_as_root(
        "half_way_is_no_dead_end::a_torn_package_that_was_not_there_goes_with_all_its_files",
    ) {
        let host = torn("torn-added", &[]);
        let packages = mend(&host);
        let remove = torn_one(&packages);
        let direction = Direction::Back;
        packages.alter(&Alteration { direction, files: &[], remove: &remove }).unwrap();

        assert_eq!(host.version("torn"), "");
        assert!(!host.root.join("usr/lib/torn").exists());
        assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
    }
}

#[test]
fn what_only_a_torn_package_has_goes_where_the_older_one_comes_back() {
    if runs_as_root(
        "half_way_is_no_dead_end::what_only_a_torn_package_has_goes_where_the_older_one_comes_back",
    ) {
        let host = torn("torn-replaced", &["/var/tmp/debs/torn_1.0-1_amd64.deb"]);
        let files = [host.debs.join("torn_1.0-1_amd64.deb")];
        let direction = Direction::Back;
        mend(&host).alter(&Alteration { direction, files: &files, remove: &[] }).unwrap();

        assert_eq!(host.version("torn"), "1.0-1");
        assert_eq!(host.read("/usr/lib/torn/both"), "old");
        let place = host.root.join("usr/lib/torn");
        let mut left: Vec<_> =
            std::fs::read_dir(place).unwrap().map(|it| it.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["both", "version"], "and nothing of the newer one");
    }
}

#[test]
fn a_torn_package_that_cannot_be_mended_goes_all_the_same() {
    if runs_as_root(
        "half_way_is_no_dead_end::a_torn_package_that_cannot_be_mended_goes_all_the_same",
    ) {
        let host = torn("torn-lost", &[]);
        let packages = Apt::new(&host.root, host.state().directory().join("work"));
        let remove = torn_one(&packages);
        let direction = Direction::Back;
        packages.alter(&Alteration { direction, files: &[], remove: &remove }).unwrap();

        assert_eq!(host.version("torn"), "");
        assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
    }
}

/// A package with configuration files: one as it came, one that the owner altered, and one that only newer
/// versions have.
fn settings(version: &str) -> Deb {
    let mut deb = Deb::new("noted", version);
    for name in ["plain", "altered"] {
        deb.files.push((format!("/etc/noted-{name}.conf"), format!("{name} of {version}\n")));
    }
    if version != "1.0-1" {
        deb.files.push(("/etc/noted-added.conf".to_owned(), format!("added by {version}\n")));
    }
    deb
}

const OWNERS: &str = "the owner's own\n";

fn noted(name: &str) -> Host {
    let host = Host::new(name);
    for version in ["1.0-1", "1.0-2", "1.0-3"] {
        host.offer(&settings(version));
    }
    host.in_root(&["dpkg", "--install", "/var/tmp/debs/noted_1.0-1_amd64.deb"]);
    host.write("/etc/noted-altered.conf", OWNERS);
    host
}

/// As a loss of power leaves dpkg's notes: its new configuration files are in their places, and that was not
/// written down. What was noted before still stands, or that a file is new.
fn forget(host: &Host, version_before: &str) {
    let status = host.read("/var/lib/dpkg/status");
    let brought = format!("/var/tmp/debs/noted_{version_before}_amd64.deb");
    let taken = host.root.join("var/tmp/brought");
    let _ = std::fs::remove_dir_all(&taken);
    host.in_root(&["dpkg-deb", "--extract", &brought, "/var/tmp/brought"]);
    let line = |line: &str| {
        let noted = line.strip_prefix(" /etc/noted-").and_then(|rest| rest.split_once(' '));
        let Some((path, hash)) = noted else { return line.to_owned() };
        if hash.ends_with("obsolete") {
            return line.to_owned();
        }
        let before = format!("/var/tmp/brought/etc/noted-{path}");
        let hash = if host.root.join(&before[1..]).exists() {
            host.in_root(&["md5sum", &before]).split(' ').next().unwrap().to_owned()
        } else {
            "newconffile".to_owned()
        };
        format!(" /etc/noted-{path} {hash}")
    };
    let forgotten: String = status.lines().map(|it| line(it) + "\n").collect();
    assert_ne!(forgotten, status);
    host.write("/var/lib/dpkg/status", &forgotten);
}

/// What dpkg takes for altered: whatever is not as its notes say.
fn altered(host: &Host) -> Vec<String> {
    let status = host.read("/var/lib/dpkg/status");
    let noted = status.lines().filter_map(|line| line.strip_prefix(" /etc/noted-"));
    let noted = noted.filter_map(|line| line.split_once(' '));
    let is_other = |(name, hash): &(&str, &str)| {
        let found = host.in_root(&["md5sum", &format!("/etc/noted-{name}")]);
        !hash.ends_with("obsolete") && !found.starts_with(hash)
    };
    noted.filter(is_other).map(|(name, _)| name.to_owned()).collect()
}

/// What the next version makes of it: dpkg goes by its notes.
fn next_version(host: &Host) {
    host.in_root(&["dpkg", "--force-confold", "--install", "/var/tmp/debs/noted_1.0-3_amd64.deb"]);
    assert_eq!(host.read("/etc/noted-plain.conf"), "plain of 1.0-3\n");
    assert_eq!(host.read("/etc/noted-added.conf"), "added by 1.0-3\n");
    assert_eq!(host.read("/etc/noted-altered.conf"), OWNERS);
}

#[test]
fn what_dpkg_did_not_write_down_of_configuration_files_is_put_right() {
    if runs_as_root(
        "half_way_is_no_dead_end::what_dpkg_did_not_write_down_of_configuration_files_is_put_right",
    ) {
        let host = noted("noted");
        let deb = "/var/tmp/debs/noted_1.0-2_amd64.deb";
        host.in_root(&["dpkg", "--force-confold", "--install", deb]);
        let packages = Apt::new(&host.root, host.state().directory().join("work"));
        let files = [host.debs.join("noted_1.0-2_amd64.deb")];
        assert_eq!(altered(&host), ["altered.conf"]);
        forget(&host, "1.0-1");
        assert!(altered(&host).len() > 1);

        packages.settle(&files).unwrap();

        assert_eq!(altered(&host), ["altered.conf"]);
        assert_eq!(host.in_root(&["dpkg", "--audit"]), "");
        // Where nothing is wrong nothing is installed again.
        let log = host.read("/var/log/dpkg.log");
        packages.settle(&files).unwrap();
        assert_eq!(host.read("/var/log/dpkg.log"), log);
        next_version(&host);
    }
}

/// dpkg, which loses power right after it did what it was told: its last notes are gone. Or before it did all of it.
struct Forgetful<'a> {
    host: &'a Host,
    apt: Apt,
    before: Cell<Option<&'static str>>,
    /// As far as it gets with what is to go.
    half_gone: Cell<Option<&'static str>>,
}

impl Forgetful<'_> {
    fn desk<T>(&self, ask: impl FnOnce(&Desk<'_>) -> T) -> T {
        self.host.at_desk_by(self, &self.host.pool, &AtRest, &Timestamp::now, ask)
    }
}

impl PackageSystem for Forgetful<'_> {
    fn versions(&self) -> VersionKind {
        self.apt.versions()
    }

    fn ending(&self) -> &'static str {
        self.apt.ending()
    }

    fn installed(&self) -> Result<Vec<Found>, PackageFault> {
        self.apt.installed()
    }

    fn audit(&self) -> Result<(), PackageFault> {
        self.apt.audit()
    }

    fn repair(&self) -> Result<(), PackageFault> {
        self.apt.repair()
    }

    fn mend(&self, files: &[PathBuf]) -> Result<(), PackageFault> {
        self.apt.mend(files)
    }

    fn settle(&self, files: &[PathBuf]) -> Result<(), PackageFault> {
        self.apt.settle(files)
    }

    fn clear(&self, packages: &[ExactPackage]) -> Result<(), PackageFault> {
        self.apt.clear(packages)
    }

    fn unpacked_size(&self, file: &Path) -> Result<u64, PackageFault> {
        self.apt.unpacked_size(file)
    }

    fn unpacks_to(&self) -> PathBuf {
        self.apt.unpacks_to()
    }

    fn repack(&self, package: &Found, into: &Path) -> Result<PathBuf, PackageFault> {
        self.apt.repack(package, into)
    }

    fn keep_settings(&self, packages: &[Found], into: &Path) -> Result<(), PackageFault> {
        self.apt.keep_settings(packages, into)
    }

    fn restore_settings(&self, from: &Path) -> Result<(), PackageFault> {
        self.apt.restore_settings(from)
    }

    fn alter(&self, alteration: &Alteration<'_>) -> Result<(), PackageFault> {
        if !alteration.remove.is_empty()
            && let Some(name) = self.half_gone.take()
        {
            self.host.in_root(&["dpkg", "--remove", name]);
            panic!("the power is gone");
        }
        self.apt.alter(alteration)?;
        if let Some(before) = self.before.take() {
            forget(self.host, before);
            panic!("the power is gone");
        }
        Ok(())
    }
}

#[test]
fn an_order_that_lost_power_there_leaves_the_notes_right() {
    if runs_as_root(
        "half_way_is_no_dead_end::an_order_that_lost_power_there_leaves_the_notes_right",
    ) {
        let host = noted("noted-order");
        let new = host.offer(&settings("1.0-2"));
        let told = Told::to(vec![upgrade(&[new])], 1);
        let apt = Apt::new(&host.root, host.state().directory().join("work"));
        let packages = Forgetful {
            host: &host,
            apt,
            before: Cell::new(Some("1.0-1")),
            half_gone: Cell::default(),
        };
        assert!(
            catch_unwind(AssertUnwindSafe(|| packages.desk(|it| it.take(&told.handed())))).is_err()
        );
        assert!(altered(&host).len() > 1);

        let answer = packages.desk(|it| it.resume().unwrap());

        let Some(Answer::Ended(result)) = answer else { panic!("{answer:?}") };
        assert_eq!(result.ended, Ended::Done);
        assert_eq!(host.version("noted"), "1.0-2");
        assert_eq!(altered(&host), ["altered.conf"]);
        next_version(&host);
    }
}

/// The same on the way back: what is there again counts as it came.
#[test]
fn a_way_back_that_lost_power_there_leaves_the_notes_right_as_well() {
    if runs_as_root(
        "half_way_is_no_dead_end::a_way_back_that_lost_power_there_leaves_the_notes_right_as_well",
    ) {
        let host = noted("noted-back");
        let mut bad = settings("1.0-2");
        bad.postinst = "exit 1".to_owned();
        let new = host.offer(&bad);
        let told = Told::to(vec![upgrade(&[new])], 1);
        let apt = Apt::new(&host.root, host.state().directory().join("work"));
        // What fails loses nothing; the way back does.
        let packages = Forgetful {
            host: &host,
            apt,
            before: Cell::new(Some("1.0-2")),
            half_gone: Cell::default(),
        };
        assert!(
            catch_unwind(AssertUnwindSafe(|| packages.desk(|it| it.take(&told.handed())))).is_err()
        );
        assert_eq!(host.version("noted"), "1.0-1");

        let answer = packages.desk(|it| it.resume().unwrap());

        let Some(Answer::Ended(result)) = answer else { panic!("{answer:?}") };
        assert!(matches!(result.ended, Ended::RolledBack { .. }), "{:?}", result.ended);
        assert_eq!(host.version("noted"), "1.0-1");
        assert_eq!(altered(&host), ["altered.conf"]);
        next_version(&host);
    }
}

/// What was new is removed, and its settings are there still.
#[test]
fn a_way_back_that_lost_power_between_a_removal_and_its_settings_leaves_none() {
    if runs_as_root(
        "half_way_is_no_dead_end::a_way_back_that_lost_power_between_a_removal_and_its_settings_leaves_none",
    ) {
        let host = Host::new("noted-gone");
        let other = Deb::new("other", "1.0-1");
        host.install(&[host.offer(&other)]);
        let added = host.offer(&settings("1.0-2"));
        let mut bad = Deb::new("other", "1.0-2");
        bad.postinst = "exit 1".to_owned();
        let told = Told::to(vec![upgrade(&[added, host.offer(&bad)])], 1);
        let apt = Apt::new(&host.root, host.state().directory().join("work"));
        let half_gone = Cell::new(Some("noted"));
        let packages = Forgetful { host: &host, apt, before: Cell::default(), half_gone };
        assert!(
            catch_unwind(AssertUnwindSafe(|| packages.desk(|it| it.take(&told.handed())))).is_err()
        );
        assert!(host.read("/var/lib/dpkg/status").contains("deinstall ok config-files"));
        host.write("/etc/noted-plain.conf.dpkg-new", "half of it");

        let answer = packages.desk(|it| it.resume().unwrap());

        let Some(Answer::Ended(result)) = answer else { panic!("{answer:?}") };
        assert!(matches!(result.ended, Ended::RolledBack { .. }), "{:?}", result.ended);
        assert!(!host.read("/var/lib/dpkg/status").contains("config-files"));
        let left = std::fs::read_dir(host.root.join("etc")).unwrap();
        let left = left
            .filter(|it| it.as_ref().unwrap().file_name().to_string_lossy().starts_with("noted"));
        assert_eq!(left.count(), 0);
        assert_eq!(host.version("other"), "1.0-1");
    }
}
