//! Whether what was done to an item is really so: what somebody else saw, held against the plan.
//!
//! "Done" is what the one says who did it. "Verified" needs a look that is newer than the action, and
//! in it the planned versions installed, no process that still runs the files they replaced, and the
//! newest kernel running where the system was to restart (X.1642 8.6.2; design.md, section 2).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::change::{Action, ExactPackage};
use crate::inventory::{Inventory, Runtime, StaleProcess};

/// What a look says of what was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Borne {
    /// It is so.
    Out,
    /// It is not so, whatever was claimed.
    Not {
        /// The first thing that is not.
        because: Contradiction,
    },
    /// The look does not tell.
    Unknown {
        /// What it does not tell.
        missing: Untold,
    },
}

/// What a look sees that cannot be where the plan was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "saw", rename_all = "snake_case")]
pub enum Contradiction {
    /// A package is not there.
    Absent {
        /// Which.
        package: Box<ExactPackage>,
    },
    /// It is older than planned.
    Older {
        /// What was planned.
        package: Box<ExactPackage>,
        /// What is there.
        installed: String,
    },
    /// It was unpacked or half configured, and not brought to its end.
    Broken {
        /// What was planned.
        package: Box<ExactPackage>,
    },
    /// A process still maps files that were replaced.
    OldFiles {
        /// Its command.
        command: String,
        /// Its unit, where it has one.
        unit: Option<String>,
        /// One of the files.
        file: String,
    },
    /// Another kernel runs than the newest that is installed.
    OldKernel {
        /// What runs.
        running: String,
        /// What is installed.
        installed: String,
    },
    /// A package still asks for a restart of the system.
    RestartAsked,
}

/// What a look cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untold {
    /// What runs: it was no live system that was looked at.
    Runtime,
    /// What some processes map: whoever looked may not see them.
    Processes,
}

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent { package } => write!(f, "{} is not installed", package.name),
            Self::Older { package, installed } => {
                let ExactPackage { name, version, .. } = &**package;
                write!(f, "{name} is at {installed}, and {version} was planned")
            }
            Self::Broken { package } => {
                write!(f, "{} {} is not configured", package.name, package.version)
            }
            Self::OldFiles { command, unit: Some(unit), file } => {
                write!(f, "{command} of {unit} still runs {file}, which was replaced")
            }
            Self::OldFiles { command, unit: None, file } => {
                write!(f, "{command} still runs {file}, which was replaced")
            }
            Self::OldKernel { running, installed } => {
                write!(f, "kernel {running} runs, and {installed} is installed")
            }
            Self::RestartAsked => f.write_str("a package still asks for a restart of the system"),
        }
    }
}

/// Holds a look at an item against what was planned for it. `restarts_later` says that the plan has a
/// restart of the system still ahead: until then old files and an old kernel may run.
pub fn verify(
    actions: &[Action],
    restarts_later: bool,
    installed: &Inventory,
    runtime: Option<&Runtime>,
) -> Borne {
    let planned = actions.iter().filter_map(|action| match action {
        Action::Upgrade { packages } => Some(packages),
        _ => None,
    });
    let mut packages = planned.flatten();
    if let Some(because) = packages.find_map(|it| unlike(it, installed)) {
        return Borne::Not { because };
    }
    if restarts_later {
        return Borne::Out;
    }
    let Some(runtime) = runtime else { return Borne::Unknown { missing: Untold::Runtime } };
    if actions.contains(&Action::Reboot)
        && let Some(because) = not_restarted(runtime)
    {
        return Borne::Not { because };
    }
    // What another change replaced is that change's to answer for. After a restart nothing old may run.
    let upgraded = || {
        let all = actions.iter().filter_map(|action| match action {
            Action::Upgrade { packages } => Some(packages),
            _ => None,
        });
        all.flatten().map(|it| it.name.as_str())
    };
    let counts =
        |process: &&StaleProcess| actions.contains(&Action::Reboot) || process.may_run(upgraded());
    let stale = runtime.stale_processes.iter().find(counts);
    if let Some(process) = stale.filter(|_| touches(actions)) {
        let because = Contradiction::OldFiles {
            command: process.command.clone(),
            unit: process.unit.clone(),
            file: process.deleted_files.first().cloned().unwrap_or_default(),
        };
        return Borne::Not { because };
    }
    if runtime.unreadable_processes > 0 && touches(actions) {
        return Borne::Unknown { missing: Untold::Processes };
    }
    Borne::Out
}

/// Whether an item has nothing of what was planned: it is what it was, as far as packages tell.
pub fn is_back(actions: &[Action], installed: &Inventory) -> bool {
    let mut packages = actions.iter().filter_map(|action| match action {
        Action::Upgrade { packages } => Some(packages),
        _ => None,
    });
    packages.all(|packages| packages.iter().all(|it| unlike(it, installed).is_some()))
}

/// Whether processes have something to do with it.
fn touches(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Upgrade { .. } | Action::Reboot))
}

/// What is not as planned of one package.
fn unlike(planned: &ExactPackage, installed: &Inventory) -> Option<Contradiction> {
    let kind = installed.family.version_kind();
    // One for all architectures takes the place of one for a single one, and the other way round.
    let is_same = |architecture: &str| {
        architecture == planned.architecture
            || architecture == "all"
            || planned.architecture == "all"
    };
    let there = installed
        .packages
        .iter()
        .filter(|it| it.name == planned.name && is_same(&it.architecture))
        .max_by(|a, b| kind.compare(&a.version, &b.version));
    let package = || Box::new(planned.clone());
    match there {
        None => Some(Contradiction::Absent { package: package() }),
        Some(it) if kind.compare(&it.version, &planned.version).is_lt() => {
            Some(Contradiction::Older { package: package(), installed: it.version.clone() })
        }
        Some(it) if it.state.trouble().is_some() => {
            Some(Contradiction::Broken { package: package() })
        }
        Some(_) => None,
    }
}

fn not_restarted(runtime: &Runtime) -> Option<Contradiction> {
    let Runtime { running_kernel, newest_installed_kernel, reboot_required_by, .. } = runtime;
    match newest_installed_kernel {
        Some(installed) if installed != running_kernel => Some(Contradiction::OldKernel {
            running: running_kernel.clone(),
            installed: installed.clone(),
        }),
        _ if reboot_required_by.is_some() => Some(Contradiction::RestartAsked),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::change::FileHash;
    use crate::inventory::{
        InstalledPackage, OsRelease, PackageFamily, PackageState, SourcePackage, StaleProcess,
    };

    fn exact(version: &str) -> ExactPackage {
        ExactPackage {
            name: "libssl3".to_owned(),
            architecture: "amd64".to_owned(),
            version: version.to_owned(),
            sha256: FileHash::from([7; 32]),
        }
    }

    fn upgrade() -> Vec<Action> {
        vec![Action::Upgrade { packages: vec![exact("3.0.15-1")] }]
    }

    fn with(version: &str, state: PackageState) -> Inventory {
        let package = InstalledPackage {
            name: "libssl3".to_owned(),
            architecture: "amd64".to_owned(),
            version: version.to_owned(),
            source: SourcePackage { name: "openssl".to_owned(), version: version.to_owned() },
            state,
            held: false,
        };
        Inventory {
            os: OsRelease::default(),
            family: PackageFamily::Dpkg,
            architecture: "amd64".to_owned(),
            foreign_architectures: Vec::new(),
            packages: vec![package],
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        }
    }

    fn runtime() -> Runtime {
        Runtime {
            running_kernel: "6.1.0-2".to_owned(),
            newest_installed_kernel: Some("6.1.0-2".to_owned()),
            ..Runtime::default()
        }
    }

    fn stale() -> Runtime {
        let process = StaleProcess {
            pid: 7,
            command: "nginx".to_owned(),
            unit: Some("nginx.service".to_owned()),
            deleted_files: vec!["/usr/lib/libssl.so.3".to_owned()],
            packages: BTreeSet::new(),
        };
        Runtime { stale_processes: vec![process], ..runtime() }
    }

    /// In words: borne out, `not: why` or `unknown`.
    fn told(borne: &Borne) -> String {
        match borne {
            Borne::Out => "out".to_owned(),
            Borne::Not { because } => because.to_string(),
            Borne::Unknown { missing } => format!("unknown {missing:?}"),
        }
    }

    #[test]
    fn a_claim_is_borne_out_by_versions_by_what_runs_and_by_nothing_less() {
        let ok = PackageState::Installed;
        let judged = |installed: &Inventory, runtime: Option<&Runtime>| {
            told(&verify(&upgrade(), false, installed, runtime))
        };

        assert_eq!(judged(&with("3.0.15-1", ok), Some(&runtime())), "out");
        assert_eq!(judged(&with("3.0.16-1", ok), Some(&runtime())), "out");
        assert_eq!(
            judged(&with("3.0.14-1", ok), Some(&runtime())),
            "libssl3 is at 3.0.14-1, and 3.0.15-1 was planned"
        );
        let half = with("3.0.15-1", PackageState::HalfConfigured);
        assert_eq!(judged(&half, Some(&runtime())), "libssl3 3.0.15-1 is not configured");
        let mut none = with("3.0.15-1", ok);
        none.packages.clear();
        assert_eq!(judged(&none, Some(&runtime())), "libssl3 is not installed");
        assert_eq!(
            judged(&with("3.0.15-1", ok), Some(&stale())),
            "nginx of nginx.service still runs /usr/lib/libssl.so.3, which was replaced"
        );
        assert_eq!(judged(&with("3.0.15-1", ok), None), "unknown Runtime");
        let blind = Runtime { unreadable_processes: 3, ..runtime() };
        assert_eq!(judged(&with("3.0.15-1", ok), Some(&blind)), "unknown Processes");
    }

    #[test]
    fn old_code_of_another_package_is_another_change_s_until_a_restart() {
        let installed = with("3.0.15-1", PackageState::Installed);
        let of = |package: &str| {
            let mut runtime = stale();
            runtime.stale_processes[0].packages = BTreeSet::from([package.to_owned()]);
            runtime
        };
        assert_eq!(told(&verify(&upgrade(), false, &installed, Some(&of("libexpat1")))), "out");
        let own = told(&verify(&upgrade(), false, &installed, Some(&of("libssl3"))));
        assert!(own.contains("still runs"), "{own}");
        let restarted = verify(&[Action::Reboot], false, &installed, Some(&of("libexpat1")));
        assert!(told(&restarted).contains("still runs"), "nothing old survives a restart");
    }

    #[test]
    fn before_its_restart_old_files_may_run_and_after_it_no_old_kernel() {
        let installed = with("3.0.15-1", PackageState::Installed);
        let old = Runtime { running_kernel: "6.1.0-1".to_owned(), ..stale() };
        assert_eq!(verify(&upgrade(), true, &installed, Some(&old)), Borne::Out);

        let reboot = [Action::Reboot];
        assert_eq!(
            told(&verify(&reboot, false, &installed, Some(&old))),
            "kernel 6.1.0-1 runs, and 6.1.0-2 is installed"
        );
        let asked = Runtime { reboot_required_by: Some(Vec::new()), ..runtime() };
        assert_eq!(
            told(&verify(&reboot, false, &installed, Some(&asked))),
            "a package still asks for a restart of the system"
        );
        assert_eq!(verify(&reboot, false, &installed, Some(&runtime())), Borne::Out);
    }

    #[test]
    fn what_is_back_has_nothing_of_the_plan() {
        let ok = PackageState::Installed;
        assert!(is_back(&upgrade(), &with("3.0.14-1", ok)));
        assert!(!is_back(&upgrade(), &with("3.0.15-1", ok)));
    }
}
