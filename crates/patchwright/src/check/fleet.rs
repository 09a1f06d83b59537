//! What official sources say about the package sets of a fleet.
//!
//! Which archives a system *ought* to follow is for the operator to say, not for the system: a
//! tenant's machine could name an archive and a key of its own making, and we would fetch from it
//! and believe it.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use collect::apt::config::{self, Source};
use domain::advisory::Advisory;
use domain::apt_conf::ETC_APT;
use domain::candidate::Preferences;
use domain::check::{AdvisoryKnowledge, Report, Unknown, UnknownAbout, upgrades};
use domain::files::FileView;
use domain::inventory::{Inventory, OsRelease, PackageFamily};
use domain::matching::Index;
use domain::priority::Policy;
use domain::release::Content;
use jiff::Timestamp;
use server::{Case, Judge, Want};

use super::arguments::{CheckArgs, SourceArgs};
use super::knowledge::{Records, Shelf, architectures, collector};
use super::progress::Watch;
use super::{Changelogs, Facts, contents};

/// Judges package sets by the archives of their distributions.
pub(crate) struct OfficialSources {
    arguments: CheckArgs,
    /// Where the operator describes archives: `ubuntu-noble.sources`.
    directory: PathBuf,
    policy: &'static Policy,
}

impl OfficialSources {
    /// With state and descriptions of archives below `data`.
    pub(crate) fn new(data: &Path, osv: Option<String>, kev: Option<String>) -> Result<Self> {
        let arguments = CheckArgs::of_a_fleet(data, osv, kev);
        let policy = Policy::builtin(&arguments.policy).context("cannot rank patches")?;
        Ok(Self { arguments, directory: data.join("sources"), policy })
    }

    /// Where state is kept, and which records are read.
    pub(super) fn from(&self) -> &SourceArgs {
        &self.arguments.from
    }

    /// Judges sets of one release and architecture together: they share what archives offer.
    fn judge_alike(&self, cases: &[&Case], at: Timestamp) -> Vec<Report> {
        match Alike::gather(self, cases, at) {
            Ok(alike) => cases.iter().map(|case| alike.judge(self, case, at)).collect(),
            Err(error) => {
                tracing::warn!(error = %format!("{error:#}"), "a release cannot be checked");
                let gap = |case: &&Case| Unknown {
                    about: UnknownAbout::Source,
                    subject: name(&case.set.inventory().os),
                    reason: format!("{error:#}"),
                    help: None,
                };
                cases.iter().map(|case| self.unknown(case, gap(case), at)).collect()
            }
        }
    }

    /// A report that says nothing but why nothing can be said.
    fn unknown(&self, case: &Case, gap: Unknown, at: Timestamp) -> Report {
        Facts {
            shelf: None,
            preferences: &Preferences::default(),
            changelogs: &BTreeMap::new(),
            advisories: None,
            records: &Records::default(),
            gaps: &[gap],
        }
        .judge(&self.arguments, "", case.set.inventory(), self.policy, at)
    }

    /// The archives that systems of a release ought to follow: those that the operator describes,
    /// or this machine's own, for another release of its distribution with that one's suites.
    pub(super) fn archives(&self, os: &OsRelease, host: &dyn FileView) -> Result<Vec<Source>> {
        for stem in [os.codename.as_deref(), os.version_id.as_deref()].into_iter().flatten() {
            for ending in ["sources", "list"] {
                let path = self.directory.join(format!("{}-{stem}.{ending}", os.id));
                // Names come from foreign systems.
                let is_plain = stem
                    .bytes()
                    .chain(os.id.bytes())
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
                if is_plain && path.is_file() {
                    let path = path.display().to_string();
                    return config::read_sources_file(host, &path, ETC_APT)
                        .with_context(|| format!("cannot use `{path}`"));
                }
            }
        }
        let this = inspect::open(Path::new("/"), None).context("cannot read this machine's files");
        let host_os = this?.inventory().map(|inventory| inventory.os).unwrap_or_default();
        if host_os.id != os.id {
            return Ok(Vec::new());
        }
        let own = config::read_sources(host, ETC_APT).context("cannot read apt's sources")?;
        let (Some(here), Some(there)) = (&host_os.codename, &os.codename) else {
            return Ok(Vec::new());
        };
        let of_release = own.into_iter().filter_map(|source| {
            let rest = source.suite.strip_prefix(here.as_str())?;
            Some(Source { suite: format!("{there}{rest}"), ..source.clone() })
        });
        Ok(of_release.collect())
    }

    /// What the operator has to do about a release without archives.
    fn no_archive(&self, os: &OsRelease) -> Unknown {
        let stem = os.codename.as_deref().or(os.version_id.as_deref()).unwrap_or("RELEASE");
        let file = self.directory.join(format!("{}-{stem}.sources", os.id));
        Unknown {
            about: UnknownAbout::Source,
            subject: name(os),
            reason: "no official archive is known for it".to_owned(),
            help: Some(format!(
                "the provider describes it in {} (sources.list(5))",
                file.display()
            )),
        }
    }
}

impl Judge for OfficialSources {
    fn judge(&self, cases: &[Case], at: Timestamp) -> Vec<Report> {
        let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (position, case) in cases.iter().enumerate() {
            let inventory = case.set.inventory();
            let key = (inventory.os.release(), inventory.family, architectures(inventory));
            groups.entry(key).or_default().push(position);
        }
        let mut reports: Vec<(usize, Report)> = Vec::with_capacity(cases.len());
        for positions in groups.values() {
            let alike: Vec<&Case> = positions.iter().map(|&at| &cases[at]).collect();
            reports.extend(positions.iter().copied().zip(self.judge_alike(&alike, at)));
        }
        reports.sort_by_key(|(position, _)| *position);
        reports.into_iter().map(|(_, report)| report).collect()
    }

    fn contents(&self, wants: &[Want], at: Timestamp) -> Vec<Result<Content, String>> {
        contents::contents(self, wants, at)
    }
}

/// What is known about sets of one release and architecture.
struct Alike {
    shelf: Option<Shelf>,
    changelogs: Changelogs,
    records: Records,
    gaps: Vec<Unknown>,
    /// The records with what people brought, by the list that they brought.
    advisories: BTreeMap<usize, (Vec<Advisory>, Index)>,
}

impl Alike {
    fn gather(official: &OfficialSources, cases: &[&Case], at: Timestamp) -> Result<Self> {
        let Some(inventory) = cases.first().map(|case| case.set.inventory()) else {
            anyhow::bail!("there is nothing to judge");
        };
        let records = Records::gather(&official.arguments.from, inventory)?;
        let mut gaps = records.gaps.clone();
        let watch = Watch::new(true);
        let shelf = match inventory.family {
            PackageFamily::Dpkg => {
                let all: Vec<&Inventory> = cases.iter().map(|case| case.set.inventory()).collect();
                fill(official, &all, at, &watch)?
            }
            PackageFamily::Rpm | PackageFamily::Apk => None,
        };
        if shelf.is_none() && records.osv.is_none() {
            gaps.push(official.no_archive(&inventory.os));
        }
        let changelogs =
            shelf.as_ref().map(|shelf| changelogs(shelf, cases, &watch)).unwrap_or_default();
        watch.done();
        let mut advisories = BTreeMap::new();
        for case in cases {
            advisories.entry(key(&case.advisories)).or_insert_with(|| {
                let published = records.osv.iter().flat_map(|osv| osv.advisories.iter().cloned());
                let all: Vec<_> = published.chain(case.advisories.iter().cloned()).collect();
                let index = Index::new(&all);
                (all, index)
            });
        }
        Ok(Self { shelf, changelogs, records, gaps, advisories })
    }

    fn judge(&self, official: &OfficialSources, case: &Case, at: Timestamp) -> Report {
        let mut gaps = self.gaps.clone();
        let preferences = case.set.choice().preferences().unwrap_or_else(|error| {
            gaps.push(Unknown {
                about: UnknownAbout::Inventory,
                subject: "apt preferences".to_owned(),
                reason: error.to_string(),
                help: Some(error.help().to_owned()),
            });
            Preferences::default()
        });
        let brought =
            self.advisories.get(&key(&case.advisories)).filter(|(all, _)| !all.is_empty());
        Facts {
            shelf: self.shelf.as_ref(),
            preferences: &preferences,
            changelogs: &self.changelogs,
            advisories: brought.map(|(advisories, index)| AdvisoryKnowledge { advisories, index }),
            records: &self.records,
            gaps: &gaps,
        }
        .judge(&official.arguments, "", case.set.inventory(), official.policy, at)
    }
}

/// What archives offer of all that is installed on any of the systems, which are of one release and
/// architecture; `None` where no archive is known for it.
pub(super) fn fill(
    official: &OfficialSources,
    systems: &[&Inventory],
    at: Timestamp,
    watch: &Watch,
) -> Result<Option<Shelf>> {
    let Some(inventory) = systems.first() else { return Ok(None) };
    let host = inspect::open(Path::new("/"), None).context("cannot read this machine's files")?;
    let sources = official.archives(&inventory.os, host.files())?;
    if sources.is_empty() {
        return Ok(None);
    }
    let collector = collector(&official.arguments.from, host.files(), at)?;
    let packages = systems.iter().flat_map(|inventory| &inventory.packages);
    let names: HashSet<&str> = packages.map(|package| package.name.as_str()).collect();
    Ok(Some(Shelf::fill(collector, &sources, &architectures(inventory), &names, watch)))
}

/// The changelogs of all that any of the systems lacks.
fn changelogs(shelf: &Shelf, cases: &[&Case], watch: &Watch) -> Changelogs {
    let mut missing = Vec::new();
    for case in cases {
        let preferences = case.set.choice().preferences().unwrap_or_default();
        missing.extend(upgrades(case.set.inventory(), &shelf.offered, &preferences));
    }
    shelf.changelogs(&missing, watch)
}

/// Cases of one tenant share one list.
fn key(advisories: &Arc<Vec<Advisory>>) -> usize {
    Arc::as_ptr(advisories).addr()
}

fn name(os: &OsRelease) -> String {
    if os.pretty_name.is_empty() { os.release() } else { os.pretty_name.clone() }
}
