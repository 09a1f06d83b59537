//! Gathers what is known: the target's archives, advisory records, the KEV catalogue.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::env;
use std::path::Path;

use anyhow::{Context as _, Result};
use collect::apt::config::{self, Source};
use collect::apt::{ChangelogWant, Collector, Freshness, Progress, Refusal, Suite};
use collect::fetch::Fetcher;
use collect::osv::{OsvLoad, Wanted};
use collect::{kev, osv};
use domain::advisory::Changelog;
use domain::apt_conf::{AptConf, ETC_APT};
use domain::candidate::Preferences;
use domain::check::{
    OfferedSuite, SourceKind, SourceReport, SourceState, Unknown, UnknownAbout, Upgrade, upgrades,
};
use domain::files::FileView;
use domain::fleet::VersionChoice;
use domain::inventory::Inventory;
use domain::matching::ecosystems_of;
use jiff::{SignedDuration, Timestamp};

use super::arguments::SourceArgs;
use super::fleet::OfficialSources;
use super::progress::Watch;
use crate::failure::helped;

/// Who says which archives a system follows.
#[derive(Clone, Copy)]
pub(crate) enum Origin<'a> {
    /// Whoever asks, or else the system itself.
    Own(&'a SourceArgs),
    /// The operator: a tenant's system could name an archive and a key of its own making.
    Official(&'a OfficialSources),
}

impl Origin<'_> {
    pub(super) fn arguments(&self) -> &SourceArgs {
        match self {
            Self::Own(arguments) => arguments,
            Self::Official(official) => official.from(),
        }
    }
}

/// What the target's archives say.
pub(super) struct Archives {
    pub(super) shelf: Shelf,
    pub(super) preferences: Preferences,
    pub(super) changelogs: Changelogs,
}

/// Changelogs by source package and version, or why one could not be had.
pub(super) type Changelogs = BTreeMap<(String, String), Result<Changelog, String>>;

/// What a system's archives offer.
pub(super) struct Shelf {
    collector: Collector,
    suites: Vec<Suite>,
    /// What they offer of the packages asked for.
    pub(super) offered: Vec<OfferedSuite>,
    /// How each source fared.
    pub(super) sources: Vec<SourceReport>,
}

impl Archives {
    /// Refreshes all sources, reads what they offer for this inventory, and the changelogs of
    /// what is missing. `None` where no source is configured.
    pub(super) fn gather(
        origin: Origin<'_>,
        files: &dyn FileView,
        inventory: &Inventory,
        at: Timestamp,
        watch: &Watch,
    ) -> Result<Option<Self>> {
        let host =
            inspect::open(Path::new("/"), None).context("cannot read this machine's files")?;
        let sources = match origin {
            Origin::Own(arguments) => sources(arguments, files, host.files())?,
            Origin::Official(official) => official.archives(&inventory.os, host.files())?,
        };
        if sources.is_empty() {
            return Ok(None);
        }
        let collector = collector(origin.arguments(), host.files(), at)?;
        let names = inventory.packages.iter().map(|package| package.name.as_str()).collect();
        let shelf = Shelf::fill(collector, &sources, &architectures(inventory), &names, watch);
        let preferences = preferences(files)?;
        let missing = upgrades(inventory, &shelf.offered, &preferences);
        let changelogs = shelf.changelogs(&missing, watch);
        Ok(Some(Self { shelf, preferences, changelogs }))
    }
}

impl Shelf {
    /// Refreshes sources and reads what they offer of the packages with these names.
    pub(super) fn fill(
        collector: Collector,
        sources: &[Source],
        architectures: &[String],
        names: &HashSet<&str>,
        progress: &dyn Progress,
    ) -> Self {
        let outcomes = collector.refresh(sources, architectures, progress);
        let (mut suites, mut offered, mut reports) = (Vec::new(), Vec::new(), Vec::new());
        for (source, outcome) in sources.iter().zip(outcomes) {
            let outcome = outcome.and_then(|suite| {
                let packages = suite.packages(&|name, _| names.contains(name))?;
                Ok((packages, suite))
            });
            match outcome {
                Ok((packages, suite)) => {
                    reports.push(verified(&suite));
                    offered.push(OfferedSuite { facts: suite.facts.clone(), packages });
                    suites.push(suite);
                }
                Err(refusal) => reports.push(refused(source, &refusal)),
            }
        }
        Self { collector, suites, offered, sources: reports }
    }

    /// Who fetches.
    pub(super) fn collector(&self) -> &Collector {
        &self.collector
    }

    /// The verified suites.
    pub(super) fn suites(&self) -> &[Suite] {
        &self.suites
    }

    /// The changelogs of what is missing.
    pub(super) fn changelogs(
        &self,
        missing: &[Upgrade<'_>],
        progress: &dyn Progress,
    ) -> Changelogs {
        changelogs(&self.collector, &self.suites, missing, progress)
    }
}

/// The configured sources: those named on the command line, or the target's own.
fn sources(
    arguments: &SourceArgs,
    target: &dyn FileView,
    host: &dyn FileView,
) -> Result<Vec<Source>> {
    let read = match &arguments.sources {
        None => config::read_sources(target, ETC_APT),
        Some(path) => {
            let path = std::path::absolute(path)
                .with_context(|| format!("cannot find `{}`", path.display()))?;
            let name = path.display().to_string();
            if path.is_dir() {
                config::read_sources(host, &name)
            } else if path.is_file() {
                config::read_sources_file(host, &name, ETC_APT)
            } else {
                let error = anyhow::anyhow!("there is no `{name}`");
                return Err(helped(error, "name a sources file or directory with --sources"));
            }
        }
    };
    let sources = read.map_err(|error| {
        let help = error.help().unwrap_or_default();
        helped(error, help)
    })?;
    if sources.is_empty() && arguments.sources.is_some() {
        let error = anyhow::anyhow!("`--sources` names no enabled `deb` source");
        return Err(helped(error, "see sources.list(5) for both formats"));
    }
    Ok(sources)
}

pub(super) fn architectures(inventory: &Inventory) -> Vec<String> {
    let mut all = vec![inventory.architecture.clone()];
    all.extend(inventory.foreign_architectures.iter().cloned());
    all
}

/// The target's own pins and default release: they decide what apt would install there.
fn preferences(files: &dyn FileView) -> Result<Preferences> {
    let choice = VersionChoice::read(files).context("cannot read apt's configuration")?;
    choice.preferences().map_err(|error| {
        let help = error.help();
        helped(error, help)
    })
}

/// How bytes get here; `None` where they may not.
fn fetcher(arguments: &SourceArgs, host: &dyn FileView) -> Option<Fetcher> {
    if arguments.offline {
        return None;
    }
    Some(online(host))
}

/// How to reach archives is this machine's business, not the target's.
fn online(host: &dyn FileView) -> Fetcher {
    let conf = AptConf::read(host, ETC_APT).unwrap_or_default();
    Fetcher::new(Box::new(move |scheme, host| {
        conf.proxy(scheme, host).map(str::to_owned).or_else(|| proxy_of_environment(scheme, host))
    }))
}

/// Reaches archives as this machine's apt does.
pub(crate) fn archive_fetcher() -> Result<Fetcher> {
    let host = inspect::open(Path::new("/"), None).context("cannot read this machine's files")?;
    Ok(online(host.files()))
}

pub(super) fn collector(
    arguments: &SourceArgs,
    host: &dyn FileView,
    at: Timestamp,
) -> Result<Collector> {
    let data = match &arguments.data {
        Some(directory) => directory.clone(),
        None => crate::data::data_directory()?,
    };
    let data = std::path::absolute(&data).context("cannot find the data directory")?;
    let freshness = arguments.max_age.map_or_else(Freshness::default, |days| {
        let limit = SignedDuration::from_hours(i64::from(days) * 24);
        Freshness { moving: limit, point: limit }
    });
    Ok(Collector::new(data, fetcher(arguments, host), freshness, at))
}

/// The proxy that curl and apt would take from the environment.
fn proxy_of_environment(scheme: &str, host: &str) -> Option<String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let exceptions = variable("no_proxy").or_else(|| variable("NO_PROXY")).unwrap_or_default();
    let excepted = exceptions.split(',').map(str::trim).any(|name| {
        let name = name.trim_start_matches('.');
        name == "*" || (!name.is_empty() && (host == name || host.ends_with(&format!(".{name}"))))
    });
    if excepted {
        return None;
    }
    variable(&format!("{scheme}_proxy")).or_else(|| variable("all_proxy"))
}

fn changelogs(
    collector: &Collector,
    suites: &[Suite],
    missing: &[Upgrade<'_>],
    progress: &dyn Progress,
) -> Changelogs {
    let mut wants: Vec<ChangelogWant<'_>> = Vec::new();
    for suite in suites {
        let mut sources: BTreeSet<(&str, &str)> = BTreeSet::new();
        for upgrade in missing {
            let is_here = upgrade.offer.suite.uri == suite.facts.uri
                && upgrade.offer.suite.suite == suite.facts.suite;
            if is_here {
                let source = &upgrade.offer.package.source;
                sources.insert((&source.name, &source.version));
            }
        }
        if sources.is_empty() {
            continue;
        }
        let names: HashSet<&str> = sources.iter().map(|(name, _)| *name).collect();
        let built = suite.packages(&|_, source| names.contains(source)).unwrap_or_default();
        for (name, version) in sources {
            let packages = built
                .iter()
                .filter(|package| package.source.name == name && package.source.version == version)
                .cloned()
                .collect();
            let (source, version) = (name.to_owned(), version.to_owned());
            wants.push(ChangelogWant { source, version, suite, packages });
        }
    }
    let outcomes = collector.changelogs(&wants, progress);
    wants
        .iter()
        .zip(outcomes)
        .map(|(want, outcome)| {
            let key = (want.source.clone(), want.version.clone());
            (key, outcome.map_err(|error| chain(&error)))
        })
        .collect()
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let message = next.to_string();
        if !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        cause = next.source();
    }
    text
}

fn verified(suite: &Suite) -> SourceReport {
    let facts = &suite.facts;
    SourceReport {
        kind: SourceKind::Apt,
        uri: facts.uri.clone(),
        suite: Some(facts.suite.clone()),
        components: facts.components.clone(),
        state: if facts.signed_by.is_empty() {
            SourceState::Unsigned
        } else {
            SourceState::Verified
        },
        origin: facts.origin.clone(),
        label: facts.label.clone(),
        codename: facts.codename.clone(),
        version: facts.version.clone(),
        signed_by: facts.signed_by.clone(),
        date: Some(facts.date),
        valid_until: facts.valid_until,
        sha256: Some(facts.release_sha256.clone()),
        records: None,
    }
}

fn refused(source: &Source, refusal: &Refusal) -> SourceReport {
    SourceReport {
        kind: SourceKind::Apt,
        uri: source.public_uri(),
        suite: Some(source.suite.clone()),
        components: source.components.clone(),
        state: SourceState::Refused { reason: chain(refusal), help: refusal.help() },
        origin: None,
        label: None,
        codename: None,
        version: None,
        signed_by: Vec::new(),
        date: None,
        valid_until: None,
        sha256: None,
        records: None,
    }
}

/// What advisory records and catalogues say.
#[derive(Default)]
pub(super) struct Records {
    pub(super) osv: Option<OsvLoad>,
    /// Name and CVE ids of the KEV catalogue.
    pub(super) exploited: Option<(String, BTreeSet<String>)>,
    pub(super) sources: Vec<SourceReport>,
    /// Records that could not be read.
    pub(super) gaps: Vec<Unknown>,
}

impl Records {
    /// Loads the records that the command line names.
    pub(super) fn gather(arguments: &SourceArgs, inventory: &Inventory) -> Result<Self> {
        let mut records = Self::default();
        if let Some(place) = &arguments.osv {
            let wanted = Wanted::Ecosystems(ecosystems_of(&inventory.os).into_iter().collect());
            let load = match Place::of(place, arguments)? {
                Place::File(path) => osv::load(path, &wanted),
                Place::Network(fetcher) => osv::fetch(place, &fetcher, &wanted),
            };
            let load = load.map_err(|error| {
                let help = error.help().unwrap_or_default();
                helped(error, help)
            })?;
            let mut report = unsigned(SourceKind::Osv, place);
            report.date = load.newest;
            report.sha256 = Some(load.sha256.clone());
            report.records = Some(load.advisories.len());
            records.sources.push(report);
            records.gaps = gaps(place, &load);
            records.osv = Some(load);
        }
        if let Some(place) = &arguments.kev {
            let catalogue = match Place::of(place, arguments)? {
                Place::File(path) => kev::load(path),
                Place::Network(fetcher) => kev::fetch(place, &fetcher),
            };
            let catalogue = catalogue.map_err(|error| {
                let help = error.help().unwrap_or_default();
                helped(error, help)
            })?;
            let mut report = unsigned(SourceKind::Kev, place);
            report.version = Some(catalogue.version.clone());
            report.date = Some(catalogue.released);
            report.sha256 = Some(catalogue.sha256.clone());
            report.records = Some(catalogue.entries.len());
            records.sources.push(report);
            let cves = catalogue.entries.keys().cloned().collect();
            records.exploited = Some((format!("CISA KEV {}", catalogue.version), cves));
        }
        Ok(records)
    }
}

/// Where records lie.
enum Place<'a> {
    File(&'a Path),
    Network(Fetcher),
}

impl<'a> Place<'a> {
    fn of(written: &'a str, arguments: &SourceArgs) -> Result<Self> {
        if !written.contains("://") {
            return Ok(Self::File(Path::new(written)));
        }
        let host =
            inspect::open(Path::new("/"), None).context("cannot read this machine's files")?;
        fetcher(arguments, host.files()).map(Self::Network).ok_or_else(|| {
            let error = anyhow::anyhow!("`{written}` cannot be fetched offline");
            helped(error, "name a file, or leave out --offline")
        })
    }
}

/// Damaged records: what they would have said is unknown.
fn gaps(place: &str, load: &OsvLoad) -> Vec<Unknown> {
    let gap = |subject: String, reason: String| Unknown {
        about: UnknownAbout::Source,
        subject,
        reason,
        help: Some("get the records again from their publisher".to_owned()),
    };
    let mut gaps: Vec<Unknown> = load
        .skipped
        .iter()
        .map(|skipped| {
            let line = skipped.line.map(|line| format!(", line {line}")).unwrap_or_default();
            gap(format!("{}{line}", skipped.file), skipped.reason.clone())
        })
        .collect();
    let further = load.skipped_count - load.skipped.len();
    if further > 0 {
        let reason = format!("{further} further records are damaged");
        gaps.push(gap(place.to_owned(), reason));
    }
    gaps
}

fn unsigned(kind: SourceKind, place: &str) -> SourceReport {
    SourceReport {
        kind,
        uri: place.to_owned(),
        suite: None,
        components: Vec::new(),
        state: SourceState::Unsigned,
        origin: None,
        label: None,
        codename: None,
        version: None,
        signed_by: Vec::new(),
        date: None,
        valid_until: None,
        sha256: None,
        records: None,
    }
}
