//! Looks at the host.

use std::path::Path;

use domain::agent::Facts;
use domain::fleet::{PackageSet, VersionChoice};
use domain::inventory::PackageFamily;

use crate::client::AgentError;

/// What the system below a root has installed and runs.
pub(crate) fn look(root: &Path) -> Result<(PackageSet, Facts), AgentError> {
    let unreadable = |error: &dyn std::error::Error| AgentError::Look { reason: chain(error) };
    let target = inspect::open(root, None).map_err(|error| unreadable(&error))?;
    let inventory = target.inventory().map_err(|error| unreadable(&error))?;
    let choice = VersionChoice::read(target.files()).map_err(|error| unreadable(&error))?;
    let facts = Facts {
        host_name: host_name(),
        agent: env!("CARGO_PKG_VERSION").to_owned(),
        boot: inventory.runtime.is_some().then(boot).flatten(),
        runtime: inventory.runtime.clone(),
        probes: Vec::new(),
    };
    Ok((PackageSet::new(inventory, choice), facts))
}

/// Which package manager's database the system below a root has.
pub(crate) fn family(root: &Path) -> Result<PackageFamily, AgentError> {
    let unreadable = |error: &dyn std::error::Error| AgentError::Look { reason: chain(error) };
    let target = inspect::open(root, None).map_err(|error| unreadable(&error))?;
    target.family().map_err(|error| unreadable(&error))
}

/// The host's name, as the kernel knows it.
pub(crate) fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "host".to_owned() } else { name.to_owned() }
}

/// Which boot it is.
fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        text = format!("{text}: {next}");
        cause = next.source();
    }
    text
}
