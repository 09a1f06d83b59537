//! Interrupted between two packages of which one needs the very version of the other, all of them are
//! whole and what they need is not there. From such a state both ways are open.

use agent::execute::{Alteration, Apt, Direction, PackageSystem as _};

use crate::support::{Deb, Host, runs_as_root};

/// In their alphabetical order the wrong one is first, as it is with `libpam-modules`.
const NAMES: [&str; 2] = ["pair", "pair-bin"];

fn pair(version: &str) -> [Deb; 2] {
    let mut first = Deb::new(NAMES[0], version);
    first.pre_depends = format!("{} (= {version})", NAMES[1]);
    [first, Deb::new(NAMES[1], version)]
}

/// Half way: the one that is needed is new, the one that needs it is old.
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
    if runs_as_root("dependencies_may_not_hold_in_between::it_goes_forward") {
        alter(&host("half-forward"), Direction::Forward, "1.0-2");
    }
}

#[test]
fn it_goes_back() {
    if runs_as_root("dependencies_may_not_hold_in_between::it_goes_back") {
        alter(&host("half-back"), Direction::Back, "1.0-1");
    }
}

#[test]
fn it_goes_back_without_apt_as_well() {
    if runs_as_root("dependencies_may_not_hold_in_between::it_goes_back_without_apt_as_well") {
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
