//! What the kernel was started with, has loaded and mounted, how its clock is kept, and what is installed.

use super::Page;
use super::host::Host;
use super::page::{Unseen, in_order, sorted};

/// Where weaknesses of processors are listed, with what is done about each.
const WEAKNESSES: &str = "/sys/devices/system/cpu/vulnerabilities";

/// Mounts that come and go with sessions, containers and services.
const PASSING: &[&str] = &[
    "/proc/sys/fs/binfmt_misc",
    "/run/containerd/",
    "/run/credentials/",
    "/run/docker/",
    "/run/netns",
    "/run/user/",
    "/var/lib/containerd/",
    "/var/lib/containers/",
    "/var/lib/docker/",
    "/var/lib/kubelet/pods/",
];

/// Arguments in their order, lockdown, weaknesses.
pub(super) fn kernel(host: &dyn Host) -> Page {
    let path = "/proc/cmdline";
    let text = host.read(path).map_err(|error| Unseen::file(path, &error))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let mut facts: Vec<_> = text.split_whitespace().map(|it| format!("argument {it}")).collect();
    // `none [integrity] confidentiality`
    let lockdown = host.read("/sys/kernel/security/lockdown").unwrap_or_default();
    let lockdown = String::from_utf8_lossy(&lockdown).into_owned();
    if let Some((_, rest)) = lockdown.split_once('[') {
        facts.push(format!("lockdown {}", rest.split(']').next().unwrap_or_default()));
    }
    for name in host.names(WEAKNESSES).unwrap_or_default() {
        if let Ok(text) = host.read(&format!("{WEAKNESSES}/{name}")) {
            facts.push(format!("weakness {name}: {}", String::from_utf8_lossy(&text).trim()));
        }
    }
    Ok(in_order(facts))
}

/// Modules that are loaded.
pub(super) fn modules(host: &dyn Host) -> Page {
    let path = "/proc/modules";
    match host.read(path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text).into_owned();
            let name = |line: &str| line.split(' ').next().map(str::to_owned);
            Ok(sorted(text.lines().filter_map(name)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(in_order(["this kernel has no modules".to_owned()]))
        }
        Err(error) => Err(Unseen::file(path, &error)),
    }
}

/// What is mounted where, and how (proc(5), mountinfo).
pub(super) fn mounts(host: &dyn Host) -> Page {
    let path = "/proc/self/mountinfo";
    let text = host.read(path).map_err(|error| Unseen::file(path, &error))?;
    let text = String::from_utf8_lossy(&text).into_owned();
    let fact = |line: &str| {
        let (place, what) = line.split_once(" - ")?;
        let place: Vec<_> = place.split(' ').collect();
        let [_, _, _, root, mountpoint, options, ..] = place[..] else { return None };
        let mut what = what.split(' ');
        let (kind, source, whole) = (what.next()?, what.next()?, what.next()?);
        let is_passing = PASSING.iter().any(|it| mountpoint.starts_with(it));
        let part = if root == "/" { String::new() } else { format!(" of {root}") };
        let is_own = kind != "nsfs" && !is_passing;
        is_own.then(|| format!("{mountpoint} {kind} {source}{part} {options} {whole}"))
    };
    Ok(sorted(text.lines().filter_map(fact)))
}

/// The zone, how the clock of the hardware is read, and whether systemd sets the clock from elsewhere. Whoever else may do
/// that is a service. Nobody is asked: that would start one.
pub(super) fn time(host: &dyn Host) -> Page {
    let path = "/etc/localtime";
    let zone = match host.target(path) {
        Ok(target) => target.rsplit("zoneinfo/").next().unwrap_or_default().to_owned(),
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound => "UTC".to_owned(),
            // It is no link (readlink(2)).
            std::io::ErrorKind::InvalidInput => "of a file of its own".to_owned(),
            _ => return Err(Unseen::file(path, &error)),
        },
    };
    // The third line (adjtime_config(5)).
    let adjusted = host.read("/etc/adjtime").unwrap_or_default();
    let is_local = String::from_utf8_lossy(&adjusted).lines().nth(2) == Some("LOCAL");
    let synchronised = host.status("/run/systemd/timesync/synchronized").is_ok();
    let mut facts = vec![
        format!("zone {zone}"),
        format!("clock of the hardware in {}", if is_local { "local time" } else { "UTC" }),
    ];
    if synchronised {
        facts.push("synchronised by systemd-timesyncd".to_owned());
    }
    Ok(in_order(facts))
}

/// Packages, by names.
pub(super) fn packages(host: &dyn Host) -> Page {
    Ok(sorted(host.packages()?))
}

#[cfg(test)]
mod tests;
