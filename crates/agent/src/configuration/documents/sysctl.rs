//! What of the running kernel can be set, as it is: `/proc/sys` (sysctl(8)).

use super::Page;
use super::host::Host;
use super::page::{Unseen, sorted};

/// How deep it is looked.
const DEEPEST: usize = 12;

/// Most values.
const MOST: usize = 50_000;

/// May be set, but alter by themselves, do something where they are read, or are secret.
const LEFT_OUT: &[&str] = &[
    "dev.cdrom.",
    "fs.binfmt_misc.",
    "kernel.cad_pid",
    "kernel.hung_task_warnings",
    "kernel.ns_last_pid",
    "kernel.perf_event_max_sample_rate",
    "kernel.random.",
    "kernel.sched_domain.",
    "net.core.netdev_rss_key",
    "net.ipv4.tcp_fastopen_key",
    "vm.compact_memory",
    "vm.drop_caches",
    "vm.stat_refresh",
];

/// Interfaces that come and go with containers and guests: what holds for them, `default` says.
const PASSING: &[&str] = &["veth", "tap", "vnet", "cali", "lxc", "fwpr", "fwln", "vif", "gcrf"];

/// All values that somebody may set.
pub(super) fn sysctl(host: &dyn Host) -> Page {
    let mut facts = Vec::new();
    let first = host.names("/proc/sys").map_err(|error| Unseen::file("/proc/sys", &error))?;
    walk(host, "/proc/sys", "", first, 0, &mut facts)?;
    Ok(sorted(facts))
}

fn walk(
    host: &dyn Host,
    directory: &str,
    key: &str,
    names: Vec<String>,
    depth: usize,
    facts: &mut Vec<String>,
) -> Result<(), Unseen> {
    for name in names {
        let path = format!("{directory}/{name}");
        // Dots are letters of an interface's name, and slashes none (sysctl.d(5)).
        let shown = name.replace('.', "/");
        let key = if key.is_empty() { shown } else { format!("{key}.{shown}") };
        if is_left_out(&key) {
            continue;
        }
        // What went in the meantime is not there.
        let Ok(status) = host.status(&path) else { continue };
        if status.mode & 0o170_000 == 0o040_000 {
            if depth < DEEPEST
                && let Ok(names) = host.names(&path)
            {
                walk(host, &path, &key, names, depth + 1, facts)?;
            }
            continue;
        }
        let is_readable_and_set = status.mode & 0o444 != 0 && status.mode & 0o222 != 0;
        if !is_readable_and_set {
            continue;
        }
        if facts.len() == MOST {
            return Err(Unseen::new(format!("there are more than {MOST} values")));
        }
        // Some are for other processors, file systems or rights than there are: that is what is so.
        if let Ok(value) = host.read(&path) {
            let value = String::from_utf8_lossy(&value);
            let value: Vec<_> = value.split_whitespace().collect();
            facts.push(format!("{key} = {}", value.join(" ")));
        }
    }
    Ok(())
}

fn is_left_out(key: &str) -> bool {
    let is_secret = key.ends_with(".stable_secret");
    let is_passing = [
        "net.ipv4.conf.",
        "net.ipv4.neigh.",
        "net.ipv6.conf.",
        "net.ipv6.neigh.",
        "net.mpls.conf.",
    ]
    .iter()
    .filter_map(|before| key.strip_prefix(before))
    .any(|interface| PASSING.iter().any(|it| interface.starts_with(it)));
    is_secret
        || is_passing
        || LEFT_OUT.iter().any(|it| key == *it || (it.ends_with('.') && key.starts_with(it)))
}
