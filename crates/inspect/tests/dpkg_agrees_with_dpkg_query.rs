//! What we read from dpkg's files is what dpkg itself says.

#![allow(clippy::unwrap_used)] // In tests, also outside of test functions.

mod support;

use domain::inventory::{InstalledPackage, PackageFamily, SourcePackage};
use inspect::TargetKind;
use support::{data, debian_root, run, text, write};

const FORMAT: &str = "${db:Status-Status}\t${Package}\t${Architecture}\t${Version}\t${source:Package}\t${source:Version}\t${db:Status-Want}\n";

/// dpkg's own answer, in our order; sources as in the status file, unresolved.
fn dpkg_query(admin_directory: &str) -> Vec<(String, String, String, SourcePackage, bool)> {
    let printed = run("dpkg-query", &["--admindir", admin_directory, "-W", "-f", FORMAT]);
    let mut packages: Vec<_> = printed
        .lines()
        .map(|line| line.split('\t').map(str::to_owned).collect::<Vec<String>>())
        .filter(|fields| !matches!(fields[0].as_str(), "not-installed" | "config-files"))
        .map(|fields| {
            let source = SourcePackage::resolve_signed(&fields[4], &fields[5]);
            (fields[1].clone(), fields[2].clone(), fields[3].clone(), source, fields[6] == "hold")
        })
        .collect();
    packages.sort();
    packages
}

fn ours(packages: &[InstalledPackage]) -> Vec<(String, String, String, SourcePackage, bool)> {
    packages
        .iter()
        .map(|package| {
            (
                package.name.clone(),
                package.architecture.clone(),
                package.version.clone(),
                package.source.clone(),
                package.held,
            )
        })
        .collect()
}

#[test]
fn on_real_systems() {
    for (name, count) in [
        ("dpkg-status-bullseye-minbase.gz", 96),
        ("dpkg-status-bookworm-minbase.gz", 96),
        ("dpkg-status-trixie-minbase.gz", 78),
        ("dpkg-status-bookworm-server-main-only.gz", 348),
    ] {
        let place = tempfile::tempdir().unwrap();
        let root = debian_root(place.path(), &data(name));

        let target = inspect::open(&root, None).unwrap();
        let inventory = target.inventory().unwrap();

        assert_eq!(target.kind(), TargetKind::Directory);
        assert_eq!(inventory.family, PackageFamily::Dpkg);
        assert_eq!(inventory.architecture, "amd64");
        assert_eq!(inventory.foreign_architectures, ["i386"]);
        assert_eq!(inventory.problems, Vec::<String>::new(), "{name}");
        assert_eq!(inventory.runtime, None);
        let asked = dpkg_query(text(&root.join("var/lib/dpkg")));
        assert_eq!(ours(&inventory.packages), asked, "{name}");
        assert_eq!(inventory.packages.len(), count, "{name}");
    }
}

#[test]
fn on_the_system_that_runs_the_test() {
    let inventory = inspect::open("/".as_ref(), None).unwrap().inventory().unwrap();

    assert_eq!(ours(&inventory.packages), dpkg_query("/var/lib/dpkg"));
    assert!(inventory.runtime.is_some());
}

#[test]
fn on_a_system_with_every_state() {
    let place = tempfile::tempdir().unwrap();
    let stanza = |name: &str, status: &str, architecture: &str, more: &str| {
        format!(
            "Package: {name}\nStatus: {status}\nMaintainer: A <a@example.org>\nArchitecture: {architecture}\nVersion: 1:2.0-1+b1\n{more}Description: x\n y\n\n"
        )
    };
    let status = [
        stanza("a", "hold ok installed", "amd64", "Multi-Arch: same\nSource: a (1:2.0-1)\n"),
        stanza("a", "install ok installed", "i386", "Multi-Arch: same\nSource: a (1:2.0-1)\n"),
        stanza("b", "deinstall ok config-files", "all", ""),
        stanza("c", "install ok half-configured", "amd64", "Source: sea\n"),
        stanza("d", "install ok triggers-awaited", "amd64", "Triggers-Awaited: c\n"),
        stanza("e", "install reinstreq half-installed", "amd64", ""),
    ]
    .concat();
    let root = debian_root(place.path(), status.as_bytes());

    let inventory = inspect::open(&root, None).unwrap().inventory().unwrap();

    assert_eq!(ours(&inventory.packages), dpkg_query(text(&root.join("var/lib/dpkg"))));
    assert_eq!(inventory.packages.len(), 5);
}

#[test]
fn a_system_without_its_database_says_so() {
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("etc/os-release"), "ID=debian\nPRETTY_NAME=Debian\n");

    let error = inspect::open(place.path(), None).unwrap().inventory().unwrap_err();

    assert!(error.to_string().contains("/var/lib/dpkg"), "{error}");
    assert!(error.help().unwrap().contains("/var"), "{error}");
}

#[test]
fn an_unknown_system_says_what_was_found() {
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("etc/os-release"), "ID=acme\nPRETTY_NAME=\"Acme 1\"\n");
    let unknown = inspect::open(place.path(), None).unwrap().inventory().unwrap_err();

    let nothing = tempfile::tempdir().unwrap();
    write(&nothing.path().join("photos/cat.jpg"), "");
    let none = inspect::open(nothing.path(), None).unwrap().inventory().unwrap_err();

    assert!(unknown.to_string().contains("Acme 1"), "{unknown}");
    assert!(none.to_string().contains("photos/"), "{none}");
    assert!(unknown.help().is_some() && none.help().is_some());
}
