//! The JSON report keeps its form: scripts and auditors build on it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{self, check_keeping, empty, run};

/// A local archive with one patch, an installed system that lacks it, one package of nobody.
fn world(directory: &Path) {
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().expect("below scratch")).expect("writable");
        fs::write(path, text).expect("writable");
    };
    write(
        "root/etc/os-release",
        "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n",
    );
    let installed = |name: &str, status: &str, version: &str| {
        format!("Package: {name}\nStatus: {status}\nArchitecture: amd64\nVersion: {version}\n\n")
    };
    let status = [
        installed("dpkg", "install ok installed", "1.21.22"),
        installed("web", "hold ok installed", "1.0-1"),
        installed("local-tool", "install ok installed", "0.1"),
        installed("half", "install ok half-configured", "1.0"),
    ];
    write("root/var/lib/dpkg/status", &status.concat());
    make_deb(directory);
    let archive = directory.join("archive");
    let packages =
        run(Command::new("apt-ftparchive").args(["packages", "pool"]).current_dir(&archive));
    let known = |name: &str, version: &str| {
        format!(
            "Package: {name}\nArchitecture: amd64\nVersion: {version}\nFilename: pool/{name}.deb\n\
             Size: 1\nSHA256: {:064}\n\n",
            0
        )
    };
    let packages = format!("{packages}{}{}", known("dpkg", "1.21.22"), known("half", "1.0"));
    write("archive/dists/test-security/main/binary-amd64/Packages", &packages);
    let release = run(Command::new("apt-ftparchive")
        .args(["release", "dists/test-security"])
        .current_dir(&archive));
    let sums = &release[release.find("SHA256:").expect("apt-ftparchive lists hashes")..];
    let head = "Origin: Test\nLabel: Test-Security\nSuite: test-security\nCodename: test-security\n\
                Date: Sat, 21 Nov 2026 00:00:00 UTC\nArchitectures: amd64\nComponents: main\n";
    write("archive/dists/test-security/Release", &format!("{head}{sums}"));
    let sources = format!("deb [trusted=yes] file:{} test-security main\n", archive.display());
    write("all.list", &sources);
}

/// A real package whose changelog names a CVE.
fn make_deb(directory: &Path) {
    let tree = directory.join("web");
    let doc = tree.join("usr/share/doc/web");
    fs::create_dir_all(&doc).expect("writable");
    fs::create_dir_all(tree.join("DEBIAN")).expect("writable");
    let control = "Package: web\nVersion: 1.0-1+deb12u1\nArchitecture: amd64\n\
                   Maintainer: Nobody <nobody@example.org>\nDescription: nothing\n";
    fs::write(tree.join("DEBIAN/control"), control).expect("writable");
    let changelog = "web (1.0-1+deb12u1) bookworm-security; urgency=high\n\n  * Fix CVE-2026-12345.\n\n \
                     -- Nobody <nobody@example.org>  Fri, 20 Nov 2026 00:00:00 +0000\n\n\
                     web (1.0-1) unstable; urgency=low\n\n  * CVE-2020-1111 was fixed before.\n\n \
                     -- Nobody <nobody@example.org>  Fri, 20 Nov 2020 00:00:00 +0000\n";
    let file = doc.join("changelog.Debian");
    fs::write(&file, changelog).expect("writable");
    run(Command::new("gzip").arg("-n9").arg(&file));
    let pool = directory.join("archive/pool");
    fs::create_dir_all(&pool).expect("writable");
    run(Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(&tree)
        .arg(pool.join("web.deb"))
        .env("SOURCE_DATE_EPOCH", "1"));
}

/// The program's output over the world, with what differs from run to run taken out.
fn output(directory: &Path, arguments: &[&str]) -> String {
    let mut command = check_keeping(Path::new("root"), Path::new("data"));
    command.current_dir(directory).args(["--sources", "all.list", "--at", "2026-11-23T00:00:00Z"]);
    let text = run(command.args(arguments));
    let mut lines = Vec::new();
    for line in text.replace(&directory.display().to_string(), "WORLD").lines() {
        // Hashes of what the tools of this machine packed.
        let is_hash =
            |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
        let line = line
            .split('"')
            .map(|word| if is_hash(word) { "SHA256" } else { word })
            .collect::<Vec<_>>()
            .join("\"");
        lines.push(line);
    }
    lines.join("\n")
}

#[test]
fn json_report() {
    let directory = empty("json");
    world(&directory);

    insta::assert_snapshot!(output(&directory, &["--format", "json"]));
}

#[test]
fn human_screens() {
    let directory = empty("human");
    world(&directory);

    insta::assert_snapshot!("screen", output(&directory, &[]));
    insta::assert_snapshot!("explain", output(&directory, &["--explain", "web"]));
}

#[test]
fn exit_statuses_are_for_scripts() {
    let directory = empty("exit");
    world(&directory);
    let status = |arguments: &[&str]| {
        let mut command = check_keeping(Path::new("root"), Path::new("data"));
        command.current_dir(&directory).args(["--at", "2026-11-23T00:00:00Z"]).args(arguments);
        support::attempt(&mut command).status.code()
    };

    assert_eq!(status(&["--sources", "all.list"]), Some(0));
    assert_eq!(status(&["--sources", "all.list", "--exit-code"]), Some(3));
    assert_eq!(status(&["--exit-code"]), Some(4), "no source is configured: unknown");
    assert_eq!(status(&["--sources", "missing.list"]), Some(1));
    assert_eq!(status(&["--policy", "none-such"]), Some(1));
    assert_eq!(status(&["--no-such-option"]), Some(2));
}
