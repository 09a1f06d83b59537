//! A small signed archive, with a package in two versions.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::run;

/// A package with a configuration file, whose script makes another one, and lets it wait: that of real ones do more.
/// Its second version has other configuration.
pub(crate) const PACKAGE: &str = "demo";

/// How long the script works before it writes, in seconds: longer than a file is left to settle.
pub(crate) const WORKS: u32 = 8;

/// Makes the archive as it is (`srv/archive`) and as it will be (`srv/next`) below a machine's seed, and its key.
pub(crate) fn make(seed: &Path) {
    let keys = tempfile::tempdir().unwrap();
    let gpg = |arguments: &[&str]| {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(keys.path());
        command.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        run(command.args(arguments));
    };
    gpg(&["--quick-generate-key", "Archive <a@example.org>", "ed25519", "sign", "never"]);
    let keyring = seed.join("etc/apt/keyrings/demo.gpg");
    fs::create_dir_all(keyring.parent().unwrap()).unwrap();
    gpg(&["--output", keyring.to_str().unwrap(), "--export"]);
    for (directory, version) in [("srv/archive", "1.0"), ("srv/next", "2.0")] {
        let directory = seed.join(directory);
        fs::create_dir_all(&directory).unwrap();
        build(&directory, version);
        let list =
            |what: &[&str]| run(Command::new("apt-ftparchive").current_dir(&directory).args(what));
        fs::write(directory.join("Packages"), list(&["packages", "."])).unwrap();
        let release = list(&["-o", "APT::FTPArchive::Release::Suite=stable", "release", "."]);
        let unsigned = keys.path().join("Release");
        fs::write(&unsigned, release).unwrap();
        let signed = directory.join("InRelease");
        let (signed, unsigned) = (signed.to_str().unwrap(), unsigned.to_str().unwrap());
        gpg(&["--output", signed, "--clearsign", unsigned]);
    }
}

fn build(directory: &Path, version: &str) {
    let work = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = work.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let control = format!(
        "Package: {PACKAGE}\nVersion: {version}\nArchitecture: all\n\
         Maintainer: M <m@example.org>\nDescription: a service\n"
    );
    write("DEBIAN/control", &control);
    write("DEBIAN/conffiles", "/etc/demo/demo.conf\n");
    write("etc/demo/demo.conf", &format!("version = {version}\n"));
    let script = format!(
        "#!/bin/sh\nset -e\nsleep {WORKS}\n\
         printf 'made for %s\\n' {version} > /etc/demo/made.conf.new\n\
         mv /etc/demo/made.conf.new /etc/demo/made.conf\nsleep {WORKS}\n"
    );
    write("DEBIAN/postinst", &script);
    let script = work.path().join("DEBIAN/postinst");
    run(Command::new("chmod").args(["0755"]).args([&script, work.path()]));
    let mut command = Command::new("dpkg-deb");
    command.args(["--build", "--root-owner-group"]).arg(work.path());
    run(command.arg(directory.join(format!("{PACKAGE}_{version}_all.deb"))));
}
