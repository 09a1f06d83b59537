//! From each state in which an interruption leaves packages, both ways are open, and neither leaves anything
//! behind.

use agent::execute::{Alteration, Apt, Completeness, Direction, Found, PackageSystem as _};

use crate::support::{Deb, Host, runs_as_root};

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
