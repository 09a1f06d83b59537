//! On real Debian roots the findings are, package by package and version by version, what apt
//! itself offers inside the root with the same sources at the same time.

use std::fs;
use std::path::Path;

use crate::support::{
    AptInChroot, Mirror, Profile, check, copy_of, empty, offers, qcow2_of, report, run,
};

const BOOKWORM_MINIMAL: Profile = Profile {
    name: "bookworm-minimal",
    release: "bookworm",
    include: &["debian-archive-keyring"],
    architectures: "amd64",
};
const BULLSEYE_MINIMAL: Profile =
    Profile { name: "bullseye-minimal", release: "bullseye", ..BOOKWORM_MINIMAL };
const BOOKWORM_SERVER: Profile = Profile {
    name: "bookworm-server",
    release: "bookworm",
    include: &[
        "debian-archive-keyring",
        "docker.io",
        "linux-image-amd64",
        "nginx",
        "openssh-server",
        "postgresql",
        "python3",
    ],
    architectures: "amd64",
};
const BULLSEYE_SERVER: Profile =
    Profile { name: "bullseye-server", release: "bullseye", ..BOOKWORM_SERVER };
const BOOKWORM_MULTIARCH: Profile = Profile {
    name: "bookworm-multiarch",
    release: "bookworm",
    include: &["debian-archive-keyring", "openssl", "libssl3:i386", "libsystemd0:i386"],
    architectures: "amd64,i386",
};

fn sources_file(release: &str, backports: bool, directory: &Path) -> (String, std::path::PathBuf) {
    let text = Mirror::of_this_machine().sources(release, backports);
    let path = directory.join("all.sources");
    fs::write(&path, &text).expect("scratch is writable");
    (text, path)
}

fn assert_equals_apt(profile: &Profile) {
    let root = profile.root();
    let place = empty(&format!("{}-s", profile.name));
    let (text, path) = sources_file(profile.release, false, &place);

    let ours = report(check(&root).args(["--max-age", "36500", "--sources"]).arg(&path));
    let apt = AptInChroot::new(&root, &text).upgradable();

    assert!(!apt.is_empty(), "the root is up to date: this test would prove nothing");
    assert_eq!(offers(&ours), apt);
    assert_eq!(ours["status"], "outdated");
}

#[test]
fn minimal_bookworm() {
    assert_equals_apt(&BOOKWORM_MINIMAL);
}

#[test]
fn minimal_bullseye() {
    assert_equals_apt(&BULLSEYE_MINIMAL);
}

#[test]
fn bookworm_server() {
    assert_equals_apt(&BOOKWORM_SERVER);
}

#[test]
fn bullseye_server() {
    assert_equals_apt(&BULLSEYE_SERVER);
}

#[test]
fn pins_holds_backports_and_foreign_architectures() {
    let root = copy_of(&BOOKWORM_MULTIARCH.root(), "pinned");
    let place = empty("pinned-s");
    let (text, path) = sources_file("bookworm", true, &place);
    let pins = "Package: libsystemd0:i386\nPin: release a=*-backports\nPin-Priority: 700\n\n\
                Package: openssl\nPin: release l=Debian-Security\nPin-Priority: -1\n\n\
                Package: src:systemd\nPin: release n=bookworm-backports\nPin-Priority: 600\n\n\
                Package: perl*\nPin: release a=*-security\nPin-Priority: 50\n";
    fs::write(root.join("etc/apt/preferences.d/test"), pins).expect("writable root");
    let apt = AptInChroot::new(&root, &text);
    run(apt.in_root("apt-mark").args(["hold", "libc6"]));

    let ours = report(check(&root).arg("--sources").arg(&path));
    let offered = apt.upgradable();

    assert_eq!(offers(&ours), offered);
    let findings = ours["findings"].as_array().expect("findings");
    assert!(findings.iter().any(|finding| finding["architecture"] == "i386"), "{offered:?}");
    assert!(findings.iter().any(|finding| {
        finding["candidate"].as_str().is_some_and(|version| version.contains("~bpo12"))
    }));
    for finding in findings {
        let is_held = finding["package"] == "libc6" && finding["architecture"] == "amd64";
        assert_eq!(finding["held"], is_held, "{finding}");
    }
}

#[test]
fn an_updated_root_is_latest() {
    for profile in [&BOOKWORM_MINIMAL, &BULLSEYE_MINIMAL] {
        let name = format!("{}-updated", profile.name);
        let root = copy_of(&profile.root(), &name);
        let place = empty(&format!("{name}-s"));
        let (text, path) = sources_file(profile.release, false, &place);
        let apt = AptInChroot::new(&root, &text);
        apt.dist_upgrade();
        drop(apt);

        // bullseye's support has ended and its archive rests, which we would call unknown.
        let ours = report(check(&root).args(["--max-age", "36500", "--sources"]).arg(&path));

        assert_eq!(ours["findings"], serde_json::json!([]), "{name}");
        assert_eq!(ours["unknown"], serde_json::json!([]), "{name}");
        assert_eq!(ours["status"], "latest", "{name}");
    }
}

#[test]
fn an_image_of_the_root_gives_the_same_report() {
    let root = BOOKWORM_SERVER.root();
    let place = empty("image");
    let (_, path) = sources_file("bookworm", false, &place);
    let image = qcow2_of(&root, &place);
    let at = run(std::process::Command::new("date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]));

    let text_of = |target: &Path| {
        let mut command = check(target);
        command.args(["--at", at.trim(), "--format", "json", "--sources"]).arg(&path);
        run(&mut command).replace(target.to_str().expect("UTF-8"), "TARGET")
    };

    assert_eq!(text_of(&image), text_of(&root));
}
