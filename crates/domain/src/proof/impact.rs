//! What a tenant will notice of a patch, measured on the copy.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::change::is_restartable;

use super::judge::{Evidence, Installation};
use super::picture::{Picture, UnitStep};

/// The impact of a patch. Times are those of the lab's machine, which the tenant's differs from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Impact {
    /// How long the installation took, in milliseconds.
    pub install_ms: u64,
    /// Units that were down during the installation, and for how long.
    pub restarted: BTreeMap<String, Downtime>,
    /// Whether a restart of the system is needed for the patch to protect.
    pub reboot: Reboot,
    /// Files that the installation touched, without logs and caches; sorted.
    pub files_touched: Vec<String>,
    /// Files below `/etc` that are new, changed or gone.
    pub configuration_changed: Vec<String>,
    /// Packages and their versions before and after; an absent one was not there.
    pub packages: BTreeMap<String, (Option<String>, Option<String>)>,
    /// Bytes that the disks' filesystems lost.
    pub disk_bytes: i64,
    /// Errors in the journal that were not there before.
    pub new_errors: Vec<String>,
}

/// How often and how long a unit was down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Downtime {
    /// How often it went down.
    pub times: u32,
    /// Milliseconds in all, until it was up again or the picture was taken.
    pub milliseconds: u64,
}

/// Whether a restart of the system is needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Reboot {
    /// Why it is needed; empty where it is not.
    pub causes: Vec<RebootCause>,
    /// From the request until systemd had finished starting, in milliseconds, where it was tried.
    pub downtime_ms: Option<u64>,
    /// Milliseconds from the request until each unit was up again.
    pub units: BTreeMap<String, u64>,
}

/// Why a restart is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum RebootCause {
    /// A newer kernel is installed than runs.
    Kernel {
        /// What runs.
        running: String,
        /// What is installed.
        installed: String,
    },
    /// A package asked for it.
    Asked {
        /// The packages.
        by: Vec<String>,
    },
    /// A process still runs replaced code. Restarting its unit would do as well.
    StaleCode {
        /// The process.
        command: String,
        /// Its unit, where it has one.
        unit: Option<String>,
    },
}

impl RebootCause {
    /// Whether nothing less than a restart of the system does: no kernel is replaced otherwise, and what runs
    /// outside of a unit that can be restarted by itself, as the first process, goes on with old code.
    pub fn needs_restart(&self) -> bool {
        match self {
            Self::Kernel { .. } | Self::Asked { .. } => true,
            Self::StaleCode { unit, .. } => !unit.as_deref().is_some_and(is_restartable),
        }
    }
}

/// Files whose change says nothing about the patch.
const NOISE: [&str; 7] = [
    "/var/log/",
    "/var/cache/",
    "/var/lib/apt/",
    "/var/lib/systemd/",
    "/var/lib/dpkg/",
    "/var/tmp/",
    "/etc/ld.so.cache",
];

pub(super) fn measure(evidence: &Evidence<'_>) -> Impact {
    let before = evidence.before;
    let install_ms = evidence.installation.map_or(0, |installation| installation.took_ms);
    let after = evidence.after.unwrap_or(before);
    let touched = after.touched.iter();
    let telling = |path: &&String| !NOISE.iter().any(|noise| path.starts_with(noise));
    Impact {
        install_ms,
        restarted: evidence.installation.map(|it| downtimes(after, it)).unwrap_or_default(),
        reboot: reboot(evidence, after),
        files_touched: touched.filter(telling).cloned().collect(),
        configuration_changed: changed(&before.configuration, &after.configuration),
        packages: packages(before, after),
        disk_bytes: available(before).saturating_sub(available(after)),
        new_errors: after.errors.difference(&before.errors).cloned().collect(),
    }
}

/// From the moment a unit begins to stop, or fails, until it is up.
fn downtimes(after: &Picture, installation: &Installation) -> BTreeMap<String, Downtime> {
    let mut down_since: BTreeMap<&str, u64> = BTreeMap::new();
    let mut downtimes: BTreeMap<String, Downtime> = BTreeMap::new();
    let during = after.unit_events.iter().filter(|event| event.at_ms >= installation.began_ms);
    for event in during {
        match event.step {
            // Going down has several steps; the first counts.
            UnitStep::Stopping | UnitStep::Failed | UnitStep::Stopped => {
                if !down_since.contains_key(event.unit.as_str()) {
                    down_since.insert(&event.unit, event.at_ms);
                    downtimes.entry(event.unit.clone()).or_default().times += 1;
                }
            }
            UnitStep::Started => {
                if let Some(since) = down_since.remove(event.unit.as_str())
                    && let Some(downtime) = downtimes.get_mut(&event.unit)
                {
                    downtime.milliseconds += event.at_ms.saturating_sub(since);
                }
            }
            UnitStep::Starting => {}
        }
    }
    let end = installation.began_ms + installation.took_ms;
    for (unit, since) in down_since {
        if let Some(downtime) = downtimes.get_mut(unit) {
            downtime.milliseconds += end.saturating_sub(since);
        }
    }
    downtimes
}

fn reboot(evidence: &Evidence<'_>, after: &Picture) -> Reboot {
    let mut causes = BTreeSet::new();
    if let Some(installed) = &after.newest_kernel
        && (*installed != after.kernel_release || evidence.replaces_running_kernel())
    {
        causes.insert(RebootCause::Kernel {
            running: after.kernel_release.clone(),
            installed: installed.clone(),
        });
    }
    if let Some(by) = &after.reboot_required_by {
        causes.insert(RebootCause::Asked { by: by.clone() });
    }
    causes.extend(after.stale_processes.iter().map(|process| RebootCause::StaleCode {
        command: process.command.clone(),
        unit: process.unit.clone(),
    }));
    let mut units = BTreeMap::new();
    if let (Some(rebooted), Some(down)) = (evidence.after_reboot, evidence.kernel_started_ms) {
        for (name, unit) in &rebooted.units {
            let ran = evidence.before.units.get(name).is_some_and(|unit| unit.active == "active");
            if ran && name.ends_with(".service") && unit.activated_ms > 0 {
                units.insert(name.clone(), down + unit.activated_ms);
            }
        }
    }
    Reboot {
        causes: causes.into_iter().collect(),
        downtime_ms: evidence
            .kernel_started_ms
            .zip(evidence.after_reboot)
            .map(|(down, rebooted)| down + rebooted.boot_ms),
        units,
    }
}

/// Files below `/etc` that every boot may write.
const VOLATILE: [&str; 6] = [
    "/etc/.pwd.lock",
    "/etc/.updated",
    "/etc/adjtime",
    "/etc/ld.so.cache",
    "/etc/machine-id",
    "/etc/resolv.conf",
];

/// Names of files that are new, changed or gone.
pub(super) fn changed(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<String> {
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let differs = |name: &&String| before.get(*name) != after.get(*name);
    let lasting = |name: &&String| !VOLATILE.contains(&name.as_str());
    names.into_iter().filter(differs).filter(lasting).cloned().collect()
}

/// Packages whose versions differ, as `name:architecture`.
pub(super) fn packages(
    before: &Picture,
    after: &Picture,
) -> BTreeMap<String, (Option<String>, Option<String>)> {
    let versions = |picture: &Picture| -> BTreeMap<String, String> {
        let named = picture.packages.iter();
        named.map(|it| (format!("{}:{}", it.name, it.architecture), it.version.clone())).collect()
    };
    let (before, after) = (versions(before), versions(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .map(|name| (name.clone(), (before.get(name).cloned(), after.get(name).cloned())))
        .filter(|(_, (before, after))| before != after)
        .collect()
}

fn available(picture: &Picture) -> i64 {
    let bytes = picture.filesystems.values().map(|filesystem| filesystem.available).sum::<u64>();
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_restarted_by_itself_asks_for_a_restart() {
        let stale = |unit: Option<&str>| RebootCause::StaleCode {
            command: "it".to_owned(),
            unit: unit.map(str::to_owned),
        };
        assert!(!stale(Some("nginx.service")).needs_restart());
        for unit in [None, Some("init.scope"), Some("dbus.service"), Some("user@0.service")] {
            assert!(stale(unit).needs_restart(), "{unit:?}");
        }
        assert!(RebootCause::Asked { by: vec!["libc6".to_owned()] }.needs_restart());
    }
}
