//! The rules: which differences between pictures speak against a patch.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::impact::{self, Impact};
use super::picture::{Picture, SpecialWhy, Unit};
use super::reason::{Difference, Reason, Side, Verdict, WayBack};
use crate::version::VersionKind;

/// What a patch promises.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The packages that are installed.
    pub patched: Vec<Patched>,
    /// What they are said to fix.
    pub claims: Vec<Claim>,
}

/// A package of the patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Patched {
    /// Binary package.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// The source that it was built from.
    pub source: String,
}

impl Patched {
    /// `name:architecture`, as pictures name it.
    pub fn key(&self) -> String {
        format!("{}:{}", self.package, self.architecture)
    }
}

/// What a patch is said to fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The source package.
    pub source: String,
    /// The source version from which on it is fixed.
    pub version: String,
    /// What is fixed: CVEs and advisories.
    pub ids: Vec<String>,
}

/// How the installation went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installation {
    /// apt's exit status; `None` where a signal ended it.
    pub exit: Option<i32>,
    /// The time limit, where it ended the installation.
    pub hung_after_seconds: Option<u64>,
    /// The end of what was printed.
    pub output: String,
    /// When it began, in milliseconds since the kernel started.
    pub began_ms: u64,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What is known of the way back.
#[derive(Debug, Clone)]
pub enum WayBackEvidence<'a> {
    /// The picture after the previous packages were installed again.
    Tried(&'a Picture),
    /// They could not be.
    Failed(String),
    /// Nobody tried.
    Untried(String),
}

/// Everything that a proof gathered. What is `None` did not come about.
#[derive(Debug, Clone)]
pub struct Evidence<'a> {
    /// What the patch promises.
    pub expectation: &'a Expectation,
    /// The picture before.
    pub before: &'a Picture,
    /// How the installation went.
    pub installation: Option<&'a Installation>,
    /// The picture after the installation.
    pub after: Option<&'a Picture>,
    /// The picture after the restart.
    pub after_reboot: Option<&'a Picture>,
    /// From the request to restart until the new kernel started, in milliseconds.
    pub kernel_started_ms: Option<u64>,
    /// Where the system was lost on the way.
    pub lost: Vec<Reason>,
    /// The way back.
    pub way_back: WayBackEvidence<'a>,
}

impl Evidence<'_> {
    /// Whether the patch brings another build of the kernel that runs.
    pub(super) fn replaces_running_kernel(&self) -> bool {
        let name = format!("linux-image-{}", self.before.kernel_release);
        let mut patched = self.expectation.patched.iter();
        patched.any(|it| it.package == name && !self.before.kernel_version.contains(&it.version))
    }
}

/// Compares the pictures.
pub fn judge(evidence: &Evidence<'_>) -> (Verdict, Impact) {
    let mut reasons = Reasons { found: evidence.lost.clone() };
    installation(evidence, &mut reasons);
    for after in evidence.after.iter().chain(&evidence.after_reboot) {
        packages(evidence, after, &mut reasons);
        opened(evidence.before, after, &mut reasons);
        units(evidence.before, after, &mut reasons);
        probes(evidence.before, after, &mut reasons);
        disks(evidence.before, after, &mut reasons);
    }
    if let Some(last) = evidence.after_reboot.or(evidence.after) {
        claims(evidence, last, &mut reasons);
        unchanged(evidence, last, &mut reasons);
    }
    if let Some(rebooted) = evidence.after_reboot {
        running(evidence, rebooted, &mut reasons);
    }
    unseen(evidence, &mut reasons);
    let (security, adaptability) =
        reasons.found.into_iter().partition(|reason| reason.side() == Side::Security);
    let verdict = Verdict { security, adaptability, way_back: way_back(evidence) };
    (verdict, impact::measure(evidence))
}

/// Reasons in the order of their finding, each once: two pictures may show the same one.
struct Reasons {
    found: Vec<Reason>,
}

impl Reasons {
    fn add(&mut self, reason: Reason) {
        if !self.found.contains(&reason) {
            self.found.push(reason);
        }
    }
}

fn installation(evidence: &Evidence<'_>, reasons: &mut Reasons) {
    let Some(installation) = evidence.installation else { return };
    let output = installation.output.clone();
    if let Some(seconds) = installation.hung_after_seconds {
        reasons.add(Reason::InstallHung { seconds, output });
    } else if installation.exit != Some(0) {
        reasons.add(Reason::InstallFailed { exit: installation.exit, output });
    }
}

/// What was not seen is never taken for good.
fn unseen(evidence: &Evidence<'_>, reasons: &mut Reasons) {
    let stages = [
        ("before", Some(evidence.before)),
        ("after", evidence.after),
        ("after-reboot", evidence.after_reboot),
    ];
    // A proof that is lost goes no further, and needs no second reason for that.
    let accounted = !reasons.found.is_empty();
    for (stage, picture) in stages {
        let mut add = |what: &str| {
            reasons.add(Reason::Unseen { stage: stage.to_owned(), what: what.to_owned() });
        };
        match picture {
            Some(picture) => picture.problems.iter().for_each(|problem| add(problem)),
            None if accounted => {}
            None => add("no picture was taken"),
        }
    }
}

fn packages(evidence: &Evidence<'_>, after: &Picture, reasons: &mut Reasons) {
    for patched in &evidence.expectation.patched {
        let found = after.package(&patched.package, &patched.architecture);
        let found = found.map(|package| package.version.clone());
        if found.as_ref() != Some(&patched.version) {
            let (package, expected) = (patched.package.clone(), patched.version.clone());
            reasons.add(Reason::NotInstalled { package, expected, found });
        }
    }
    for before in &evidence.before.packages {
        let package = before.name.clone();
        match after.package(&before.name, &before.architecture) {
            None => reasons.add(Reason::Removed { package, version: before.version.clone() }),
            Some(now) if older(&now.version, &before.version) => reasons.add(Reason::Downgraded {
                package,
                before: before.version.clone(),
                after: now.version.clone(),
            }),
            Some(_) => {}
        }
    }
}

fn claims(evidence: &Evidence<'_>, last: &Picture, reasons: &mut Reasons) {
    // Until the restart, what will run is the newest.
    let release = match evidence.after_reboot {
        Some(rebooted) => Some(&rebooted.kernel_release),
        None => last.newest_kernel.as_ref(),
    };
    let running = release.map(|release| format!("linux-image-{release}"));
    for claim in &evidence.expectation.claims {
        for package in last.packages.iter().filter(|it| it.source.name == claim.source) {
            // Kernels kept as a fallback are not what runs; that the right one runs is a rule of
            // its own.
            let is_kernel = package.name.starts_with("linux-image-");
            let fallback = is_kernel && Some(&package.name) != running.as_ref();
            if !fallback && older(&package.source.version, &claim.version) {
                reasons.add(Reason::NotFixed {
                    package: package.name.clone(),
                    source: claim.source.clone(),
                    found: package.source.version.clone(),
                    fixed: claim.version.clone(),
                    ids: claim.ids.clone(),
                });
            }
        }
    }
}

/// A source of which every binary is, file by file, what it was. Documentation does not count:
/// every version brings a new changelog.
fn unchanged(evidence: &Evidence<'_>, last: &Picture, reasons: &mut Reasons) {
    let mut sources: BTreeMap<&str, Vec<&Patched>> = BTreeMap::new();
    for patched in &evidence.expectation.patched {
        sources.entry(&patched.source).or_default().push(patched);
    }
    for (source, binaries) in sources {
        let same = |patched: &&Patched| {
            let key = patched.key();
            let before = telling_files(evidence.before, &key);
            before.is_some() && before == telling_files(last, &key)
        };
        if binaries.iter().all(same) {
            let packages = binaries.iter().map(|it| it.package.clone()).collect();
            reasons.add(Reason::ChangesNothing { source: source.to_owned(), packages });
        }
    }
}

fn telling_files<'a>(picture: &'a Picture, package: &str) -> Option<BTreeMap<&'a str, &'a str>> {
    let files = picture.package_files.get(package)?.iter();
    let telling = files.filter(|(path, _)| !path.starts_with("/usr/share/doc/"));
    Some(telling.map(|(path, digest)| (path.as_str(), digest.as_str())).collect())
}

/// New ways in.
fn opened(before: &Picture, after: &Picture, reasons: &mut Reasons) {
    for listener in after.listeners.difference(&before.listeners) {
        reasons.add(Reason::NewListener { listener: listener.clone() });
    }
    for path in after.special_paths.difference(&before.special_paths) {
        reasons.add(match path.why {
            SpecialWhy::ConffileLeftover => Reason::ConffileConflict { path: path.path.clone() },
            _ => Reason::NewSpecialPath { path: path.clone() },
        });
    }
}

/// Kinds of units whose being active means that something works.
const WORKING: [&str; 5] = [".service", ".socket", ".timer", ".mount", ".path"];

fn ran(name: &str, unit: &Unit) -> bool {
    unit.active == "active" && WORKING.iter().any(|kind| name.ends_with(kind))
}

fn units(before: &Picture, after: &Picture, reasons: &mut Reasons) {
    for (name, unit) in &before.units {
        let now = after.units.get(name);
        let state = now.map_or("gone", |now| now.active.as_str());
        // What is started when it is needed may rest; what does its work once may have found
        // nothing to do.
        let may_rest = unit.on_demand || unit.kind == "oneshot";
        let works = matches!(state, "active" | "reloading");
        if ran(name, unit) && !works && state != "failed" && !may_rest {
            let sub = now.map_or(String::new(), |now| format!(" ({})", now.sub));
            reasons.add(Reason::UnitStopped {
                unit: name.clone(),
                before: format!("{} ({})", unit.active, unit.sub),
                after: format!("{state}{sub}"),
            });
        }
    }
    let failed = |picture: &Picture, name: &str| {
        picture.units.get(name).is_some_and(|unit| unit.active == "failed")
    };
    for name in after.units.keys().filter(|name| failed(after, name)) {
        if !failed(before, name) {
            reasons.add(Reason::UnitFailed { unit: name.clone() });
        }
    }
}

fn probes(before: &Picture, after: &Picture, reasons: &mut Reasons) {
    for probe in &after.probes {
        let passed = before.probes.iter().any(|it| it.name == probe.name && it.failure.is_none());
        if let Some(failure) = probe.failure.clone().filter(|_| passed) {
            reasons.add(Reason::ProbeFailed { probe: probe.name.clone(), failure });
        }
    }
}

/// A fiftieth of a filesystem must stay free: logs go on being written.
const SPACE_SHARE: u64 = 50;

fn disks(before: &Picture, after: &Picture, reasons: &mut Reasons) {
    for (mount_point, was) in &before.filesystems {
        let Some(is) = after.filesystems.get(mount_point) else { continue };
        let needed = was.total / SPACE_SHARE;
        if is.available < needed && is.available < was.available {
            reasons.add(Reason::SpaceShort {
                mount_point: mount_point.clone(),
                before: was.available,
                after: is.available,
                needed,
            });
        }
        if is.read_only && !was.read_only {
            reasons.add(Reason::ReadOnly { mount_point: mount_point.clone() });
        }
    }
}

/// After the restart, only what was installed may run.
fn running(evidence: &Evidence<'_>, rebooted: &Picture, reasons: &mut Reasons) {
    for process in &rebooted.stale_processes {
        reasons.add(Reason::StaleCode { process: process.clone() });
    }
    let mut patched = evidence.expectation.patched.iter();
    let kernel = patched.find(|it| {
        let release = it.package.strip_prefix("linux-image-");
        release.is_some() && release == rebooted.newest_kernel.as_deref()
    });
    if let Some(kernel) = kernel {
        let newest = rebooted.newest_kernel.clone().unwrap_or_default();
        let is_newest = rebooted.kernel_release == newest;
        if !is_newest || !rebooted.kernel_version.contains(&kernel.version) {
            reasons.add(Reason::OldKernelRuns {
                running: format!("{} {}", rebooted.kernel_release, rebooted.kernel_version),
                newest: format!("{newest} {}", kernel.version),
            });
        }
    }
}

fn way_back(evidence: &Evidence<'_>) -> WayBack {
    let restored = match &evidence.way_back {
        WayBackEvidence::Failed(reason) => return WayBack::Fails { reason: reason.clone() },
        WayBackEvidence::Untried(reason) => return WayBack::Untried { reason: reason.clone() },
        WayBackEvidence::Tried(restored) => restored,
    };
    let before = evidence.before;
    let mut differences: Vec<Difference> = impact::packages(before, restored)
        .into_iter()
        .map(|(name, (before, after))| Difference {
            what: format!("package {name}"),
            before,
            after,
        })
        .collect();
    for name in impact::changed(&before.configuration, &restored.configuration) {
        differences.push(Difference {
            before: before.configuration.get(&name).cloned(),
            after: restored.configuration.get(&name).cloned(),
            what: format!("file {name}"),
        });
    }
    for (name, unit) in before.units.iter().filter(|(name, unit)| ran(name, unit)) {
        let now = restored.units.get(name).map(|unit| unit.active.clone());
        let may_rest = unit.on_demand || unit.kind == "oneshot";
        if now.as_deref() != Some("active") && (!may_rest || now.as_deref() == Some("failed")) {
            let before = Some(unit.active.clone());
            differences.push(Difference { what: format!("unit {name}"), before, after: now });
        }
    }
    if differences.is_empty() { WayBack::Restores } else { WayBack::Differs { differences } }
}

fn older(a: &str, b: &str) -> bool {
    VersionKind::Dpkg.compare(a, b) == Ordering::Less
}

#[cfg(test)]
mod tests;
