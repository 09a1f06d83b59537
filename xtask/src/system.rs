//! Processes and system packages.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Debian packages that the tests use, each with the program that shows it is there.
const NEEDED: &[(&str, &str)] = &[
    ("apt-utils", "/usr/bin/apt-ftparchive"),
    ("createrepo-c", "/usr/bin/createrepo_c"),
    ("debian-archive-keyring", "/usr/share/keyrings/debian-archive-keyring.gpg"),
    ("debsecan", "/usr/bin/debsecan"),
    ("distro-info-data", "/usr/share/distro-info/debian.csv"),
    ("e2fsprogs", "/sbin/mke2fs"),
    ("fdisk", "/sbin/sfdisk"),
    ("frr", "/usr/bin/vtysh"),
    ("git", "/usr/bin/git"),
    ("gnupg", "/usr/bin/gpg"),
    ("grub-common", "/usr/bin/grub-mkimage"),
    ("grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/moddep.lst"),
    ("golang-go", "/usr/bin/go"),
    ("golang-golang-x-mod-dev", "/usr/share/gocode/src/golang.org/x/mod/sumdb/tlog/tlog.go"),
    ("iproute2", "/sbin/ip"),
    ("iptables", "/usr/sbin/iptables-legacy-save"),
    ("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a"),
    ("libvirt-clients", "/usr/bin/virsh"),
    ("libvirt-daemon", "/usr/sbin/libvirtd"),
    (
        "libvirt-daemon-driver-qemu",
        "/usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    ),
    ("mariadb-server", "/usr/sbin/mariadbd"),
    ("make", "/usr/bin/make"),
    ("mmdebstrap", "/usr/bin/mmdebstrap"),
    ("mtools", "/usr/bin/mcopy"),
    ("nftables", "/usr/sbin/nft"),
    ("openssh-client", "/usr/bin/ssh-keygen"),
    ("openssh-server", "/usr/sbin/sshd"),
    ("openssl", "/usr/bin/openssl"),
    ("ovmf", "/usr/share/OVMF/OVMF_CODE_4M.fd"),
    ("postgresql", "/usr/lib/postgresql"),
    ("python3-apt", "/usr/lib/python3/dist-packages/apt/__init__.py"),
    ("python3-rpm", "/usr/lib/python3/dist-packages/rpm/__init__.py"),
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("qemu-utils", "/usr/bin/qemu-img"),
    ("rpm", "/usr/bin/rpm"),
    ("sudo", "/usr/bin/cvtsudoers"),
    ("zstd", "/usr/bin/zstd"),
];

/// The workspace's root directory.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies one level below the workspace's root")
        .to_owned()
}

/// Runs a program in the workspace's root with its output shown.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    run_with(program, arguments, &[])
}

/// The same with further environment variables.
pub(crate) fn run_with(
    program: &str,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> Result<()> {
    eprintln!("  + {program} {}", arguments.join(" "));
    let status = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .current_dir(root())
        .status()
        .with_context(|| format!("cannot start `{program}`"))?;
    if !status.success() {
        bail!("`{program} {}` ended with {status}", arguments.join(" "));
    }
    Ok(())
}

/// Runs a program in the workspace's root, with its errors shown; what it wrote.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    eprintln!("  + {program} {}", arguments.join(" "));
    let output = Command::new(program)
        .args(arguments)
        .current_dir(root())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!("`{program} {}` ended with {}", arguments.join(" "), output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("`{program}` wrote no text"))
}

/// Whether a program can be started.
pub(crate) fn has(program: &str, probe: &[&str]) -> bool {
    Command::new(program)
        .args(probe)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Installs what is missing through apt, saying so; does nothing where all is there.
///
/// What is installed may push out what was there: a QEMU of the release, for example, takes the place of
/// tools from backports. So it looks again afterwards.
pub(crate) fn ensure_packages() -> Result<()> {
    for round in 0..3 {
        let missing = missing_packages();
        if missing.is_empty() {
            return Ok(());
        }
        install(&missing, round == 0)?;
    }
    match missing_packages()[..] {
        [] => Ok(()),
        ref missing => bail!(
            "what the tests need cannot all be there at once; still missing: {}\n\
             help: `apt-get install {}` says what stands in the way",
            missing.join(" "),
            missing.join(" ")
        ),
    }
}

fn missing_packages() -> Vec<&'static str> {
    let mut missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(_, witness)| !present(witness))
        .map(|(package, _)| *package)
        .collect();
    // Where its files lie depends on the version of Python.
    if !has("python3", &["-c", "import ensurepip, venv"]) {
        missing.push("python3-venv");
    }
    missing
}

fn install(missing: &[&str], updates: bool) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!(
            "the tests compare Patchwright with Debian's own tools and need: {}\n\
             help: run them on a Debian or Ubuntu machine, or in a container of one",
            missing.join(" ")
        );
    }
    eprintln!("Installing what the tests need: {}", missing.join(" "));
    // An unreachable third-party source must not stop us: install fails by itself if it matters.
    if updates && let Err(error) = apt(&["update"]) {
        eprintln!("warning: {error}");
    }
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(missing);
    apt(&arguments)
}

/// Programs from `PyPI` that tests use, each with what is pinned with hashes.
const PYTHON: &[(&str, &str)] = &[
    ("notices", "crates/notices/tests/peers/notices.txt"),
    ("s3", "crates/s3/tests/peers/s3.txt"),
    ("schemathesis", "crates/patchwright/tests/peers/schemathesis.txt"),
    ("securesystemslib", "crates/ledger/tests/peers/securesystemslib.txt"),
];

/// Installs them below `target`, if what is pinned is not there yet. Where one cannot be had the test
/// that uses it says so and is skipped.
pub(crate) fn ensure_python() {
    for (name, pinned) in PYTHON {
        if let Err(error) = install_python(name, pinned) {
            eprintln!("warning: {name} cannot be installed, its test will be skipped: {error:#}");
        }
    }
}

/// Installs programs from `PyPI` below `target`, by the hashes that a file pins; where they lie.
pub(crate) fn install_python(name: &str, requirements: &str) -> Result<PathBuf> {
    let place = root().join("target").join(name);
    let pinned = std::fs::read(root().join(requirements)).context("cannot read what is pinned")?;
    // Written last: an installation that was cut off does not count.
    let installed = place.join("installed.txt");
    if std::fs::read(&installed).is_ok_and(|installed| installed == pinned) {
        return Ok(place.join("bin"));
    }
    eprintln!("Installing {name} into target/{name}");
    // The interpreter alone does not make environments: that takes a package of its own.
    if !has("python3", &["-c", "import ensurepip, venv"]) {
        ensure_packages()?;
    }
    let directory = place.display().to_string();
    run("python3", &["-m", "venv", "--clear", &directory])?;
    let pip = format!("{directory}/bin/pip");
    run(&pip, &["install", "--quiet", "--require-hashes", "--requirement", requirements])?;
    std::fs::write(&installed, pinned).context("cannot note that it is installed")?;
    Ok(place.join("bin"))
}

fn present(witness: &str) -> bool {
    // A program may be this machine's own.
    let local =
        witness.strip_prefix("/usr/bin/").map(|name| Path::new("/usr/local/bin").join(name));
    Path::new(witness).exists()
        || Path::new("/usr").join(&witness[1..]).exists()
        || local.is_some_and(|local| local.exists())
}

fn apt(arguments: &[&str]) -> Result<()> {
    let environment = [("DEBIAN_FRONTEND", "noninteractive")];
    if has("test", &["-w", "/var/lib/dpkg/lock"]) {
        return run_with("apt-get", arguments, &environment);
    }
    let mut with_sudo = vec!["DEBIAN_FRONTEND=noninteractive", "apt-get"];
    with_sudo.extend(arguments);
    run("sudo", &with_sudo)
}
