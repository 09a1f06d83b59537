//! Somebody who got hold of a machine's disk, and speaks as its agent.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use domain::files::{EntryKind, FileView};

/// Where an agent keeps its state.
const STATE: &str = "/var/lib/patchwright-agent";

/// Larger files are none of an agent's keys.
const LARGEST: u64 = 64 << 20;

/// Where dpkg keeps what is installed.
const STATUS: &str = "/var/lib/dpkg/status";

/// Copies an agent's state from a disk at rest, and makes a system that claims to have every patch of
/// `fixed`: versions by the names of packages.
pub(super) fn steal(disk: &Path, into: &Path, fixed: &BTreeMap<String, String>) -> Result<()> {
    let target = inspect::open(disk, None)?;
    let files: &dyn FileView = target.files();
    copy(files, STATE, &into.join("state"))?;
    let root = into.join("root");
    for path in ["/usr/lib/os-release", "/etc/os-release", STATUS] {
        let bytes = files.read(path, LARGEST)?.with_context(|| format!("no {path} on the disk"))?;
        let bytes = if path == STATUS {
            lied(&String::from_utf8(bytes)?, fixed).into_bytes()
        } else {
            bytes
        };
        let place = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(place.parent().context("a path without a directory")?)?;
        fs::write(place, bytes)?;
    }
    Ok(())
}

/// Speaks as that agent, once.
pub(super) fn report(program: &Path, from: &Path, control_plane: &str) -> Result<()> {
    // The machine reaches the control plane by its gateway; the thief sits beside it.
    let identity = from.join("state/identity.json");
    let text = fs::read_to_string(&identity)?;
    let mut identity_of: serde_json::Value = serde_json::from_str(&text)?;
    identity_of["url"] = control_plane.into();
    fs::write(&identity, serde_json::to_vec(&identity_of)?)?;
    let output = Command::new(program)
        .args(["agent", "run", "--once", "--state"])
        .arg(from.join("state"))
        .arg("--root")
        .arg(from.join("root"))
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", program.display()))?;
    if !output.status.success() {
        bail!("the thief is not heard: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn copy(files: &dyn FileView, from: &str, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in files.list(from)? {
        let (path, place) = (format!("{from}/{}", entry.name), to.join(&entry.name));
        match entry.kind {
            EntryKind::Directory => copy(files, &path, &place)?,
            EntryKind::File => {
                if let Some(bytes) = files.read(&path, LARGEST)? {
                    fs::write(place, bytes)?;
                }
            }
            EntryKind::Other => {}
        }
    }
    Ok(())
}

/// dpkg's status with other versions.
fn lied(status: &str, fixed: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(status.len());
    let mut package = "";
    for line in status.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("Package: ") {
            package = name.trim();
        }
        match fixed.get(package) {
            Some(version) if line.starts_with("Version: ") => {
                out.extend(["Version: ", version, "\n"]);
            }
            _ => out.push_str(line),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lie_is_about_the_version_and_nothing_else() {
        let status = "Package: a\nVersion: 1\nDepends: b\n\nPackage: b\nVersion: 2\n";
        let fixed = BTreeMap::from([("b".to_owned(), "3".to_owned())]);
        assert_eq!(lied(status, &fixed), status.replace("Version: 2", "Version: 3"));
    }
}
