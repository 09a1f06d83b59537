//! Mandatory access control: `AppArmor` and `SELinux`, as the kernel has them.

use super::Page;
use super::host::Host;
use super::page::{Unseen, in_order, sorted};

/// Where `SELinux` shows what it is at.
const SELINUX: &str = "/sys/fs/selinux";

/// Profiles that are loaded, with their modes.
pub(super) fn apparmor(host: &dyn Host) -> Page {
    let enabled = host.read("/sys/module/apparmor/parameters/enabled").unwrap_or_default();
    if !enabled.starts_with(b"Y") {
        return Ok(in_order(["not enabled in this kernel".to_owned()]));
    }
    let path = "/sys/kernel/security/apparmor/profiles";
    let text = host.read(path).map_err(|error| Unseen::file(path, &error))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let fact = |line: &str| {
        let (name, mode) = line.strip_suffix(')')?.rsplit_once(" (")?;
        // One for each guest that runs: libvirt loads it with the guest.
        let is_passing = name.starts_with("libvirt-") && name.len() > 40;
        (!is_passing).then(|| format!("profile {name}: {mode}"))
    };
    Ok(sorted(text.lines().filter_map(fact).chain(["enabled".to_owned()])))
}

/// Whether it enforces, and what booleans say.
pub(super) fn selinux(host: &dyn Host) -> Page {
    let value = |path: &str| {
        let bytes = host.read(path)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&bytes).trim().to_owned())
    };
    let path = format!("{SELINUX}/enforce");
    let enforces = match value(&path) {
        Ok(enforces) => enforces,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(in_order(["not enabled in this kernel".to_owned()]));
        }
        Err(error) => return Err(Unseen::file(&path, &error)),
    };
    let mut facts = vec![if enforces == "1" { "enforcing" } else { "permissive" }.to_owned()];
    for name in ["deny_unknown", "mls", "policyvers", "checkreqprot"] {
        if let Ok(value) = value(&format!("{SELINUX}/{name}")) {
            facts.push(format!("{name} = {value}"));
        }
    }
    for name in host.names(&format!("{SELINUX}/booleans")).unwrap_or_default() {
        // The value, and the one that waits to be committed.
        if let Ok(values) = value(&format!("{SELINUX}/booleans/{name}")) {
            facts
                .push(format!("boolean {name} = {}", values.split(' ').next().unwrap_or_default()));
        }
    }
    Ok(sorted(facts))
}

#[cfg(test)]
mod tests;
