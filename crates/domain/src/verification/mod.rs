//! Whether what was done to an item is really so: what somebody else saw, held against the plan.
//!
//! "Done" is what the one says who did it. "Verified" needs a look that is newer than the action, and
//! in it the planned versions installed, no process that still runs the files they replaced, and the
//! newest kernel running where the system was to restart (X.1642 8.6.2; design.md, section 2).

mod record;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::change::{Access, Action, ExactPackage, FileChange, FileHash, Intended};
use crate::inventory::{InstalledPackage, Inventory, PackageFamily, Runtime, StaleProcess};

pub use record::{Claim, Knowledge, Occasion, Record, Sighting, SourceUsed};

/// Most contradictions, and most newer packages, that a verdict names: it is kept for ever.
const MOST_NAMED: usize = 32;

/// What a look says of what was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Verdict {
    /// It is so.
    Verified {
        /// Packages of which more than planned is there, the first of them: that is fine.
        newer: Vec<Newer>,
    },
    /// It is not so, whatever was claimed.
    Conflict {
        /// What is not.
        contradictions: Contradictions,
    },
    /// The look does not tell.
    Undecided {
        /// What it does not tell.
        because: Untold,
    },
}

/// A package of which a newer version is there than was planned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Newer {
    /// Its name.
    pub name: String,
    /// What was planned.
    pub planned: String,
    /// What is there.
    pub installed: String,
}

/// What a look sees that cannot be, at least one thing: the first of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Contradiction>", into = "Vec<Contradiction>")]
pub struct Contradictions(Vec<Contradiction>);

impl Contradictions {
    /// In the order in which they were seen.
    pub fn iter(&self) -> impl Iterator<Item = &Contradiction> {
        self.0.iter()
    }
}

impl TryFrom<Vec<Contradiction>> for Contradictions {
    type Error = &'static str;

    fn try_from(mut all: Vec<Contradiction>) -> Result<Self, Self::Error> {
        all.truncate(MOST_NAMED);
        if all.is_empty() {
            Err("a conflict has at least one contradiction")
        } else {
            Ok(Self(all))
        }
    }
}

impl From<Contradictions> for Vec<Contradiction> {
    fn from(all: Contradictions) -> Self {
        all.0
    }
}

/// The first in words, and how many more there are.
impl fmt::Display for Contradictions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for first in self.0.iter().take(1) {
            write!(f, "{first}")?;
        }
        match self.0.len() {
            0 | 1 => Ok(()),
            more => write!(f, " (and {} more)", more - 1),
        }
    }
}

impl Verdict {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Verified { .. } => "verified",
            Self::Conflict { .. } => "conflict",
            Self::Undecided { .. } => "undecided",
        }
    }

    /// A conflict, where something is contradicted.
    fn conflict(all: Vec<Contradiction>) -> Option<Self> {
        let contradictions = Contradictions::try_from(all).ok()?;
        Some(Self::Conflict { contradictions })
    }
}

/// What there is to say beside the word: what is contradicted, what is not told, what is newer.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict { contradictions } => contradictions.fmt(f),
            Self::Undecided { because } => because.fmt(f),
            Self::Verified { newer } => {
                let Some(Newer { name, planned, installed }) = newer.first() else { return Ok(()) };
                write!(f, "{name} is at {installed} by now, after {planned}")?;
                match newer.len() {
                    1 => Ok(()),
                    more => write!(f, " (and {} more)", more - 1),
                }
            }
        }
    }
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
    /// A file has another content.
    OtherFile {
        /// Which.
        path: String,
        /// What was planned.
        planned: FileHash,
        /// What it has; none where it is not there.
        found: Option<FileHash>,
    },
    /// A file is there that was to be taken away.
    FileThere {
        /// Which.
        path: String,
        /// What it has.
        found: FileHash,
    },
    /// A file is another's, or others may do something with it.
    OtherAccess {
        /// Which.
        path: String,
        /// What was planned.
        planned: Box<Access>,
        /// What is so.
        found: Box<Access>,
    },
}

/// What a look cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Untold {
    /// What runs: it was no live system that was looked at.
    Runtime,
    /// What some processes map: whoever looked may not see them.
    Processes,
    /// Anything: the item was not heard of.
    Silent,
    /// What files hold: not all of them were told.
    Files,
}

impl fmt::Display for Untold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Runtime => "what runs is not known",
            Self::Processes => "what some processes run is not known",
            Self::Silent => "the item was not heard of",
            Self::Files => "what files hold is not known",
        })
    }
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
            Self::OtherFile { path, planned, found: Some(found) } => {
                write!(f, "{path} has the SHA-256 {found}, and {planned} was planned")
            }
            Self::OtherFile { path, found: None, .. } => write!(f, "{path} is not there"),
            Self::FileThere { path, found } => {
                write!(f, "{path} is there with the SHA-256 {found}, and was to be taken away")
            }
            Self::OtherAccess { path, planned, found } => {
                write!(f, "{path} is {found}, and {planned} was planned")
            }
        }
    }
}

/// What files are by the history of an item, by their paths. What is not in it, nobody can tell.
pub type Files = BTreeMap<String, Intended>;

/// Holds a look at an item against what was planned for it. `restarts_later` says that the plan has a
/// restart of the system still ahead: until then old files and an old kernel may run.
pub fn verify(
    actions: &[Action],
    restarts_later: bool,
    installed: &Inventory,
    runtime: Option<&Runtime>,
    files: &Files,
) -> Verdict {
    let (mut contradictions, newer) = hold(actions, installed);
    contradictions.extend(
        altered(actions).filter_map(|(path, it)| otherwise(path, &it.after(), files.get(path)?)),
    );
    if let Some(runtime) = runtime.filter(|_| !restarts_later) {
        if actions.contains(&Action::Reboot) {
            contradictions.extend(not_restarted(runtime));
        }
        // What another change replaced is that change's to answer for. After a restart nothing old may run.
        let counts = |process: &&StaleProcess| {
            let names = upgraded(actions).map(|package| package.name.as_str());
            actions.contains(&Action::Reboot) || process.may_run(names)
        };
        let stale = runtime.stale_processes.iter().filter(|_| touches(actions)).filter(counts);
        contradictions.extend(stale.map(|process| Contradiction::OldFiles {
            command: process.command.clone(),
            unit: process.unit.clone(),
            file: process.deleted_files.first().cloned().unwrap_or_default(),
        }));
    }
    if let Some(conflict) = Verdict::conflict(contradictions) {
        return conflict;
    }
    if altered(actions).any(|(path, it)| !files.get(path).is_some_and(|found| it.after().is(found)))
    {
        return Verdict::Undecided { because: Untold::Files };
    }
    match runtime {
        _ if restarts_later || !runs(actions) => Verdict::Verified { newer },
        None => Verdict::Undecided { because: Untold::Runtime },
        Some(runtime) if runtime.unreadable_processes > 0 && touches(actions) => {
            Verdict::Undecided { because: Untold::Processes }
        }
        Some(_) => Verdict::Verified { newer },
    }
}

/// Holds a later look at an item against what it was verified to be by then. `actions` are all that were
/// planned, `kernel_then` is what ran when they were verified. What others did since is no contradiction: a
/// newer package, a kernel that waits for its restart, files that were replaced once more, a file with a third content:
/// each alteration has a verdict of its own. One that has what it had before the plan went back.
pub fn verify_again(
    actions: &[Action],
    kernel_then: Option<&str>,
    installed: &Inventory,
    runtime: Option<&Runtime>,
    files: &Files,
) -> Verdict {
    let (mut contradictions, newer) = hold(actions, installed);
    contradictions.extend(altered(actions).filter_map(|(path, it)| {
        let found = files.get(path).filter(|found| it.is_undone(found))?;
        otherwise(path, &it.after(), found)
    }));
    let restarted = actions.contains(&Action::Reboot);
    if let Some(runtime) = runtime.filter(|_| restarted) {
        contradictions.extend(other_kernel(runtime, kernel_then));
    }
    if let Some(conflict) = Verdict::conflict(contradictions) {
        return conflict;
    }
    match runtime {
        None if restarted => Verdict::Undecided { because: Untold::Runtime },
        _ => Verdict::Verified { newer },
    }
}

/// A kernel runs that is neither the one that ran then nor the newest.
fn other_kernel(runtime: &Runtime, then: Option<&str>) -> Option<Contradiction> {
    let (running, newest) = (&runtime.running_kernel, runtime.newest_installed_kernel.as_ref()?);
    (running != newest && Some(running.as_str()) != then)
        .then(|| Contradiction::OldKernel { running: running.clone(), installed: newest.clone() })
}

/// What is contradicted of the planned packages, and which are newer than planned.
fn hold(actions: &[Action], installed: &Inventory) -> (Vec<Contradiction>, Vec<Newer>) {
    let contradictions = upgraded(actions).filter_map(|it| unlike(it, installed)).collect();
    let newer = upgraded(actions).filter_map(|it| newer(it, installed)).take(MOST_NAMED);
    (contradictions, newer.collect())
}

/// The packages that are planned.
fn upgraded(actions: &[Action]) -> impl Iterator<Item = &ExactPackage> {
    let packages = actions.iter().filter_map(|action| match action {
        Action::Upgrade { packages } => Some(packages),
        _ => None,
    });
    packages.flatten()
}

/// The files that are planned, and what is made of them.
fn altered(actions: &[Action]) -> impl Iterator<Item = (&str, &FileChange)> {
    actions.iter().filter_map(|action| match action {
        Action::AlterFile { path, change } => Some((path.as_str(), change)),
        _ => None,
    })
}

/// What of a file is not as planned.
fn otherwise(path: &str, planned: &Intended, found: &Intended) -> Option<Contradiction> {
    let path = path.to_owned();
    match (planned, found) {
        (Intended::Absent, Intended::Absent) => None,
        (Intended::Absent, Intended::Content { sha256, .. }) => {
            Some(Contradiction::FileThere { path, found: *sha256 })
        }
        (Intended::Content { sha256: planned, .. }, _) if found.sha256() != Some(*planned) => {
            Some(Contradiction::OtherFile { path, planned: *planned, found: found.sha256() })
        }
        (Intended::Content { .. }, _) => {
            let (planned, found) = planned.access().zip(found.access())?;
            (planned != found).then(|| Contradiction::OtherAccess {
                path,
                planned: Box::new(planned.clone()),
                found: Box::new(found.clone()),
            })
        }
    }
}

/// Whether an item is what it was, as far as packages and files tell.
pub fn is_back(actions: &[Action], installed: &Inventory, files: &Files) -> bool {
    let is_before = |(path, it): (&str, &FileChange)| {
        files.get(path).is_some_and(|found| it.before().is(found))
    };
    has_none(actions, installed, files) && altered(actions).all(is_before)
}

/// Whether an item has nothing of what was planned. What somebody else made of a file meanwhile, for which the order
/// was refused, is not the plan's.
pub fn has_none(actions: &[Action], installed: &Inventory, files: &Files) -> bool {
    let is_none = |(path, it): (&str, &FileChange)| {
        files.get(path).is_some_and(|found| !it.after().is(found))
    };
    upgraded(actions).all(|it| unlike(it, installed).is_some()) && altered(actions).all(is_none)
}

/// Whether a plan alters files.
pub fn alters_files(actions: &[Action]) -> bool {
    altered(actions).next().is_some()
}

/// Whether it matters what runs: files that are altered alone leave all of that as it is.
fn runs(actions: &[Action]) -> bool {
    !actions.iter().all(|action| matches!(action, Action::AlterFile { .. } | Action::Probe { .. }))
}

/// Whether processes have something to do with it.
fn touches(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Upgrade { .. } | Action::Reboot))
}

/// What is installed of a package; its newest version, where there are several.
fn found<'a>(planned: &ExactPackage, installed: &'a Inventory) -> Option<&'a InstalledPackage> {
    let kind = installed.family.version_kind();
    installed
        .packages
        .iter()
        .filter(|it| planned.takes_place_of(&it.name, &it.architecture))
        .max_by(|a, b| kind.compare(&a.version, &b.version))
}

/// What is not as planned of one package.
fn unlike(planned: &ExactPackage, installed: &Inventory) -> Option<Contradiction> {
    let package = || Box::new(planned.clone());
    let is_older = |version: &str| compare(installed.family, version, &planned.version).is_lt();
    match found(planned, installed) {
        None => Some(Contradiction::Absent { package: package() }),
        Some(it) if is_older(&it.version) => {
            Some(Contradiction::Older { package: package(), installed: it.version.clone() })
        }
        Some(it) if it.state.trouble().is_some() => {
            Some(Contradiction::Broken { package: package() })
        }
        Some(_) => None,
    }
}

/// What is newer than planned of one package.
fn newer(planned: &ExactPackage, installed: &Inventory) -> Option<Newer> {
    let it = found(planned, installed)?;
    compare(installed.family, &it.version, &planned.version).is_gt().then(|| Newer {
        name: planned.name.clone(),
        planned: planned.version.clone(),
        installed: it.version.clone(),
    })
}

fn compare(family: PackageFamily, a: &str, b: &str) -> std::cmp::Ordering {
    family.version_kind().compare(a, b)
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
    use crate::change::FileState;
    use crate::inventory::{OsRelease, PackageState, SourcePackage, StaleProcess};

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

    /// The word, and what there is to say beside it.
    fn told(verdict: &Verdict) -> String {
        format!("{} {verdict}", verdict.as_str()).trim_end().to_owned()
    }

    #[test]
    fn a_claim_is_borne_out_by_versions_by_what_runs_and_by_nothing_less() {
        let ok = PackageState::Installed;
        let judged = |installed: &Inventory, runtime: Option<&Runtime>| {
            told(&verify(&upgrade(), false, installed, runtime, &Files::new()))
        };

        assert_eq!(judged(&with("3.0.15-1", ok), Some(&runtime())), "verified");
        assert_eq!(
            judged(&with("3.0.16-1", ok), Some(&runtime())),
            "verified libssl3 is at 3.0.16-1 by now, after 3.0.15-1"
        );
        assert_eq!(
            judged(&with("3.0.14-1", ok), Some(&runtime())),
            "conflict libssl3 is at 3.0.14-1, and 3.0.15-1 was planned"
        );
        let half = with("3.0.15-1", PackageState::HalfConfigured);
        assert_eq!(judged(&half, Some(&runtime())), "conflict libssl3 3.0.15-1 is not configured");
        let mut none = with("3.0.15-1", ok);
        none.packages.clear();
        assert_eq!(judged(&none, Some(&runtime())), "conflict libssl3 is not installed");
        assert_eq!(
            judged(&with("3.0.15-1", ok), Some(&stale())),
            "conflict nginx of nginx.service still runs /usr/lib/libssl.so.3, which was replaced"
        );
        assert_eq!(judged(&with("3.0.15-1", ok), None), "undecided what runs is not known");
        let blind = Runtime { unreadable_processes: 3, ..runtime() };
        assert_eq!(
            judged(&with("3.0.15-1", ok), Some(&blind)),
            "undecided what some processes run is not known"
        );
    }

    #[test]
    fn all_that_is_contradicted_is_told_also_where_what_runs_is_not_known() {
        let old = with("3.0.14-1", PackageState::Installed);
        let mut actions = upgrade();
        actions.push(Action::Upgrade {
            packages: vec![ExactPackage { name: "libssl-dev".to_owned(), ..exact("3.0.15-1") }],
        });
        let verdict = verify(&actions, false, &old, None, &Files::new());
        assert_eq!(
            told(&verdict),
            "conflict libssl3 is at 3.0.14-1, and 3.0.15-1 was planned (and 1 more)"
        );
        let Verdict::Conflict { contradictions } = verdict else { panic!("{verdict:?}") };
        let all: Vec<_> = contradictions.iter().map(ToString::to_string).collect();
        assert_eq!(all[1], "libssl-dev is not installed");
        assert!(serde_json::from_str::<Contradictions>("[]").is_err(), "nothing is no conflict");
    }

    #[test]
    fn old_code_of_another_package_is_another_change_s_until_a_restart() {
        let installed = with("3.0.15-1", PackageState::Installed);
        let of = |package: &str| {
            let mut runtime = stale();
            runtime.stale_processes[0].packages = BTreeSet::from([package.to_owned()]);
            runtime
        };
        assert_eq!(
            told(&verify(&upgrade(), false, &installed, Some(&of("libexpat1")), &Files::new())),
            "verified"
        );
        let own = told(&verify(&upgrade(), false, &installed, Some(&of("libssl3")), &Files::new()));
        assert!(own.contains("still runs"), "{own}");
        let restarted =
            verify(&[Action::Reboot], false, &installed, Some(&of("libexpat1")), &Files::new());
        assert!(told(&restarted).contains("still runs"), "nothing old survives a restart");
    }

    #[test]
    fn before_its_restart_old_files_may_run_and_after_it_no_old_kernel() {
        let installed = with("3.0.15-1", PackageState::Installed);
        let old = Runtime { running_kernel: "6.1.0-1".to_owned(), ..stale() };
        assert_eq!(
            verify(&upgrade(), true, &installed, Some(&old), &Files::new()),
            Verdict::Verified { newer: Vec::new() }
        );

        let reboot = [Action::Reboot];
        assert_eq!(
            told(&verify(&reboot, false, &installed, Some(&old), &Files::new())),
            "conflict kernel 6.1.0-1 runs, and 6.1.0-2 is installed (and 1 more)"
        );
        let asked = Runtime { reboot_required_by: Some(Vec::new()), ..runtime() };
        assert_eq!(
            told(&verify(&reboot, false, &installed, Some(&asked), &Files::new())),
            "conflict a package still asks for a restart of the system"
        );
        assert_eq!(
            verify(&reboot, false, &installed, Some(&runtime()), &Files::new()),
            Verdict::Verified { newer: Vec::new() }
        );
    }

    #[test]
    fn a_later_look_sees_what_went_back_and_lets_pass_what_went_on() {
        let ok = PackageState::Installed;
        let actions = [upgrade(), vec![Action::Reboot]].concat();
        let runs = |running: &str, newest: &str| Runtime {
            running_kernel: running.to_owned(),
            newest_installed_kernel: Some(newest.to_owned()),
            ..stale()
        };
        let judged = |version: &str, runtime: Option<&Runtime>| {
            told(&verify_again(
                &actions,
                Some("6.1.0-2"),
                &with(version, ok),
                runtime,
                &Files::new(),
            ))
        };

        assert_eq!(judged("3.0.15-1", Some(&runs("6.1.0-2", "6.1.0-2"))), "verified");
        // Another release is on its way: its kernel waits for the restart.
        assert_eq!(
            judged("3.0.16-1", Some(&runs("6.1.0-2", "6.1.0-3"))),
            "verified libssl3 is at 3.0.16-1 by now, after 3.0.15-1"
        );
        assert_eq!(judged("3.0.15-1", Some(&runs("6.1.0-3", "6.1.0-3"))), "verified");
        assert_eq!(
            judged("3.0.15-1", Some(&runs("6.1.0-1", "6.1.0-2"))),
            "conflict kernel 6.1.0-1 runs, and 6.1.0-2 is installed"
        );
        assert_eq!(
            judged("3.0.14-1", Some(&runs("6.1.0-2", "6.1.0-2"))),
            "conflict libssl3 is at 3.0.14-1, and 3.0.15-1 was planned"
        );
        assert_eq!(judged("3.0.15-1", None), "undecided what runs is not known");
        assert_eq!(
            told(&verify_again(&upgrade(), None, &with("3.0.15-1", ok), None, &Files::new())),
            "verified"
        );
    }

    #[test]
    fn what_is_back_has_nothing_of_the_plan() {
        let ok = PackageState::Installed;
        assert!(is_back(&upgrade(), &with("3.0.14-1", ok), &Files::new()));
        assert!(!is_back(&upgrade(), &with("3.0.15-1", ok), &Files::new()));
    }

    #[test]
    fn a_file_is_what_history_has_of_it() {
        let (motd, hash) = ("/etc/motd".to_owned(), |byte: u8| FileHash::from([byte; 32]));
        let change = FileChange::Rewrite { before: hash(1), after: hash(2) };
        let write = Action::AlterFile { path: motd.clone(), change };
        let installed = with("3.0.15-1", PackageState::Installed);
        let told_as = |found: Option<FileHash>| {
            let access = Some(Access::usual());
            let is = found.map_or(Intended::Absent, |sha256| Intended::Content { sha256, access });
            Files::from([(motd.clone(), is)])
        };
        let now = |files: &Files| {
            told(&verify(std::slice::from_ref(&write), false, &installed, None, files))
        };
        assert_eq!(now(&told_as(Some(hash(2)))), "verified", "what runs does not matter");
        let old =
            format!("conflict /etc/motd has the SHA-256 {}, and {} was planned", hash(1), hash(2));
        assert_eq!(now(&told_as(Some(hash(1)))), old);
        assert_eq!(now(&told_as(None)), "conflict /etc/motd is not there");
        assert_eq!(now(&Files::new()), "undecided what files hold is not known");

        let later = |files: &Files| {
            let actions = std::slice::from_ref(&write);
            told(&verify_again(actions, None, &installed, None, files))
        };
        assert_eq!(later(&told_as(Some(hash(1)))), old, "it went back");
        assert_eq!(later(&told_as(Some(hash(3)))), "verified", "that has a verdict of its own");

        let back = |files: &Files| is_back(std::slice::from_ref(&write), &installed, files);
        assert!(back(&told_as(Some(hash(1)))));
        assert!(!back(&told_as(Some(hash(2)))) && !back(&told_as(None)) && !back(&Files::new()));
        let none = |files: &Files| has_none(std::slice::from_ref(&write), &installed, files);
        assert!(none(&told_as(Some(hash(3)))), "it was refused for that");
        assert!(!none(&told_as(Some(hash(2)))) && !none(&Files::new()));
    }

    #[test]
    fn a_file_that_is_taken_away_is_not_there_and_whose_it_is_counts() {
        let (motd, sha256) = ("/etc/motd".to_owned(), FileHash::from([1; 32]));
        let state = |mode: &str| FileState {
            sha256,
            access: Access { mode: mode.parse().unwrap(), ..Access::usual() },
        };
        let installed = with("3.0.15-1", PackageState::Installed);
        let told_as = |found: &Intended| Files::from([(motd.clone(), found.clone())]);
        let look = |change: &FileChange, found: &Intended| {
            let actions = [Action::AlterFile { path: motd.clone(), change: change.clone() }];
            let files = told_as(found);
            let now = told(&verify(&actions, false, &installed, None, &files));
            let later = told(&verify_again(&actions, None, &installed, None, &files));
            (
                now,
                later,
                is_back(&actions, &installed, &files),
                has_none(&actions, &installed, &files),
            )
        };
        let verified = || ("verified".to_owned(), "verified".to_owned(), false, false);
        let undone = |because: String| (because.clone(), because, true, true);
        let (absent, private, open) = (Intended::Absent, state("0600"), state("0644"));
        let silent = Intended::Content { sha256, access: None };

        let removed = FileChange::Remove { before: open.clone() };
        assert_eq!(look(&removed, &absent), verified());
        let there = "conflict /etc/motd is there with the SHA-256 ".to_owned()
            + &format!("{sha256}, and was to be taken away");
        assert_eq!(look(&removed, &open.clone().into()), undone(there.clone()));
        // Another one's is what went back all the same, but the item is not what it was.
        let not_whole = (there.clone(), there, false, true);
        assert_eq!(look(&removed, &private.clone().into()), not_whole);

        let created = FileChange::Create { after: private.clone() };
        assert_eq!(look(&created, &private.clone().into()), verified());
        assert_eq!(look(&created, &absent), undone("conflict /etc/motd is not there".to_owned()));

        let replaced = FileChange::Replace { before: open.clone(), after: private.clone() };
        assert_eq!(look(&replaced, &private.into()), verified());
        let other = "conflict /etc/motd is 0644 root:root, and 0600 root:root was planned";
        assert_eq!(look(&replaced, &open.into()), undone(other.to_owned()));
        let untold = look(&replaced, &silent).0;
        assert_eq!(untold, "undecided what files hold is not known", "nobody says whose it is");
    }
}
