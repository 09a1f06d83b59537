//! The patches that an image lacks, as files that can be installed: with what their new versions
//! need beside them, and with the versions that they replace.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use collect::apt::{PackageWant, Progress as _, Suite};
use domain::archive::{OfferedPackage, SuiteFacts};
use domain::check::{Report, Scope, SourceReport, SourceState, Upgrade, upgrades};
use domain::deb822;
use domain::dependency::{Alternative, Relations, Unmet, complete};
use domain::files::FileView;
use domain::inventory::{Inventory, PackageFamily};
use domain::priority::Policy;
use domain::proof::Claim;
use domain::version::VersionKind;
use jiff::Timestamp;
use lab::PackageFile;

use super::arguments::CheckArgs;
use super::ask;
use super::knowledge::{Archives, Origin, Records, Shelf};
use super::progress::Watch;
use crate::failure::helped;

/// dpkg's status file of a server with 3,000 packages has 3 MB.
const STATUS_LIMIT: u64 = 128 << 20;

/// Why there can be no patches, however often they are asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unpatchable {
    /// Its packages are of another kind.
    #[error("it is no system of the Debian family")]
    Family,
    /// Nothing of this is missing, or it is held.
    #[error("no patch is missing for `{0}`, or it is held")]
    NotMissing(String),
    /// More than any system misses.
    #[error(
        "{packages} packages of {megabytes} MB would have to be fetched; at most {MOST_PACKAGES} of {MOST_MEGABYTES} MB are"
    )]
    TooMany {
        /// How many.
        packages: usize,
        /// How large in all.
        megabytes: u64,
    },
}

/// Packages that are fetched for one image; a server with everything outdated needs a third.
const MOST_PACKAGES: usize = 4000;
/// Their size in all.
const MOST_MEGABYTES: u64 = 8000;

/// Which patches are meant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Selection<'a> {
    /// All, or only those that close a vulnerability.
    pub(crate) scope: Scope,
    /// Only those of these packages or source packages; of all, where none is named.
    pub(crate) only: &'a [String],
}

/// Verified packages that bring an image to the latest, and what is known of them.
#[derive(Debug)]
pub(crate) struct Patches {
    /// The check that found them.
    pub(crate) report: Report,
    /// The new versions, and what they need beside them.
    pub(crate) files: Vec<PackageFile>,
    /// Those of them that the image does not have in any version.
    pub(crate) further: Vec<String>,
    /// The versions that they replace, all of them; empty where one cannot be had any more.
    pub(crate) previous: Vec<PackageFile>,
    /// Why `previous` is empty.
    pub(crate) no_way_back: Option<String>,
    /// What they are said to fix.
    pub(crate) claims: Vec<Claim>,
    /// What they ask for that no source offers; apt will say whether it matters.
    pub(crate) unmet: Vec<Unmet>,
    /// When the newest of the sources was published.
    pub(crate) as_of: Timestamp,
}

/// Finds and fetches them.
pub(crate) fn gather(
    image: &Path,
    origin: Origin<'_>,
    selection: Selection<'_>,
    watch: &Watch,
) -> Result<Patches> {
    let from = origin.arguments();
    let arguments = CheckArgs::of_an_image(image, from, selection.scope);
    let at = from.at.unwrap_or_else(Timestamp::now);
    let target = inspect::open(image, None).map_err(|error| {
        let help = error.help().unwrap_or("name a disk image");
        helped(error, help)
    })?;
    let inventory = target.inventory().context("cannot read what the image has installed")?;
    if inventory.family != PackageFamily::Dpkg {
        return Err(helped(
            Unpatchable::Family,
            "its patches are found by `patchwright check`, and not proven",
        ));
    }
    let archives = Archives::gather(origin, target.files(), &inventory, at, watch)?;
    if watch.is_called_off() {
        bail!("finding patches was called off");
    }
    let Some(archives) = archives else {
        let error = anyhow::anyhow!("the image names no archive to take patches from");
        return Err(helped(error, "name one with --sources: see sources.list(5)"));
    };
    if let Some(error) = archives.shelf.sources.iter().find_map(refusal) {
        return Err(error);
    }
    let records = Records::gather(from, &inventory)?;
    let policy = Policy::builtin("default").context("cannot rank patches")?;
    let report = ask(&arguments, &inventory, Some(&archives), &records, policy, at);
    let upgrades = upgrades(&inventory, &archives.shelf.offered, &archives.preferences);
    let chosen = choose(&upgrades, &report, selection)?;
    let patches = fetch(&archives.shelf, target.files(), &chosen, &inventory, watch)?;
    let claims = claims(&report, &chosen);
    let as_of = archives.shelf.offered.iter().map(|suite| suite.facts.date).max().unwrap_or(at);
    watch.done();
    let Fetched { files, further, previous, no_way_back, unmet } = patches;
    Ok(Patches { report, files, further, previous, no_way_back, claims, unmet, as_of })
}

/// What is missing without a source would be left out: a patch set is whole or none.
pub(super) fn refusal(source: &SourceReport) -> Option<anyhow::Error> {
    let SourceState::Refused { reason, help } = &source.state else { return None };
    let suite = source.suite.as_deref().unwrap_or_default();
    let error = anyhow::anyhow!("{reason}").context(format!("`{} {suite}` is refused", source.uri));
    Some(match help {
        Some(help) => helped(error, help.clone()),
        None => error,
    })
}

/// The upgrades that are meant.
fn choose<'a, 'b>(
    upgrades: &'a [Upgrade<'b>],
    report: &Report,
    selection: Selection<'_>,
) -> Result<Vec<&'a Upgrade<'b>>> {
    let is_named = |upgrade: &Upgrade<'_>, name: &String| {
        *name == upgrade.installed.name || *name == upgrade.installed.source.name
    };
    let found: BTreeSet<(&str, &str)> = report
        .findings
        .iter()
        .filter(|finding| !finding.held)
        .map(|finding| (finding.package.as_str(), finding.architecture.as_str()))
        .collect();
    let chosen: Vec<_> = upgrades
        .iter()
        .filter(|upgrade| {
            let installed = upgrade.installed;
            found.contains(&(installed.name.as_str(), installed.architecture.as_str()))
                && (selection.only.is_empty()
                    || selection.only.iter().any(|name| is_named(upgrade, name)))
        })
        .collect();
    let idle = |name: &&String| !chosen.iter().any(|upgrade| is_named(upgrade, name));
    if let Some(name) = selection.only.iter().find(idle) {
        let error = Unpatchable::NotMissing((*name).clone());
        return Err(helped(error, "`patchwright check IMAGE --all` lists what is missing"));
    }
    Ok(chosen)
}

/// What the chosen patches are said to fix, by source.
fn claims(report: &Report, chosen: &[&Upgrade<'_>]) -> Vec<Claim> {
    let is_chosen = |package: &str, architecture: &str| {
        chosen.iter().any(|upgrade| {
            upgrade.installed.name == package && upgrade.installed.architecture == architecture
        })
    };
    let mut claims: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for finding in &report.findings {
        if is_chosen(&finding.package, &finding.architecture) {
            let source = (finding.source.clone(), finding.candidate_source.clone());
            claims.entry(source).or_default().extend(finding.cves.iter().cloned());
        }
    }
    let claim = |((source, version), ids): ((String, String), BTreeSet<String>)| Claim {
        source,
        version,
        ids: ids.into_iter().collect(),
    };
    claims.into_iter().map(claim).collect()
}

struct Fetched {
    files: Vec<PackageFile>,
    further: Vec<String>,
    previous: Vec<PackageFile>,
    no_way_back: Option<String>,
    unmet: Vec<Unmet>,
}

/// A package and who offers it.
pub(super) type Taken<'a> = (&'a Suite, OfferedPackage);

fn fetch(
    shelf: &Shelf,
    files: &dyn FileView,
    chosen: &[&Upgrade<'_>],
    inventory: &Inventory,
    watch: &Watch,
) -> Result<Fetched> {
    let mut wanted: Vec<Taken<'_>> = Vec::new();
    for upgrade in chosen {
        wanted.push((shelf.suite(upgrade.offer.suite)?, upgrade.offer.package.clone()));
    }
    let installed = installed(files)?;
    let (brought, unmet) = companions(shelf, &installed, &wanted, inventory)?;
    let further = brought.iter().map(|(_, package)| package.name.clone()).collect();
    wanted.extend(brought);
    let (old, gone) = replaced(shelf, chosen)?;
    let new = download(shelf, &wanted, watch)?;
    let names = gone.join(", ");
    let no_way_back =
        (!gone.is_empty()).then(|| format!("no source offers the replaced versions of {names}"));
    let previous = if gone.is_empty() { download(shelf, &old, watch)? } else { Vec::new() };
    Ok(Fetched { files: new, further, previous, no_way_back, unmet })
}

/// What dpkg says of the packages that are there.
fn installed(files: &dyn FileView) -> Result<Vec<Relations>> {
    let status = files
        .read("/var/lib/dpkg/status", STATUS_LIMIT)
        .context("cannot read the image's packages")?
        .unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let is_installed = |paragraph: &deb822::Paragraph<'_>| {
        paragraph.get("Status").is_some_and(|status| status.ends_with(" installed"))
    };
    Ok(deb822::paragraphs(&status)
        .filter(is_installed)
        .filter_map(Relations::of_paragraph)
        .collect())
}

/// What the new versions need beside them and the system has not.
pub(super) fn companions<'a>(
    shelf: &'a Shelf,
    installed: &[Relations],
    wanted: &[Taken<'a>],
    inventory: &Inventory,
) -> Result<(Vec<Taken<'a>>, Vec<Unmet>)> {
    let names: BTreeSet<&str> = wanted.iter().map(|(_, package)| package.name.as_str()).collect();
    let related = shelf.relations(&|name| names.contains(name))?;
    let mut chosen = Vec::new();
    for (_, package) in wanted {
        let found = related.iter().find(|it| {
            it.name == package.name
                && it.architecture == package.architecture
                && it.version == package.version
        });
        let Some(found) = found else {
            bail!("the package list does not say what {} {} needs", package.name, package.version);
        };
        chosen.push(found.clone());
    }
    let mut brought = Vec::new();
    let completion = complete(installed, &chosen, |alternative| {
        let Some((suite, package)) = shelf.newest(alternative, &inventory.architecture)? else {
            return Ok::<_, anyhow::Error>(None);
        };
        let related = shelf.relations(&|name| name == package.name)?;
        let found = related
            .into_iter()
            .find(|it| it.architecture == package.architecture && it.version == package.version);
        if found.is_some() {
            brought.push((suite, package));
        }
        Ok(found)
    })?;
    Ok((brought, completion.unmet))
}

/// The replaced versions as the sources still offer them, and the names of those that none does.
pub(super) fn replaced<'a>(
    shelf: &'a Shelf,
    chosen: &[&Upgrade<'_>],
) -> Result<(Vec<Taken<'a>>, Vec<String>)> {
    let (mut old, mut gone) = (Vec::new(), Vec::new());
    for upgrade in chosen {
        let installed = upgrade.installed;
        let offered = shelf.offered.iter().find_map(|suite| {
            let package = suite.packages.iter().find(|it| {
                it.name == installed.name
                    && it.architecture == installed.architecture
                    && it.version == installed.version
            });
            package.map(|package| (&suite.facts, package))
        });
        match offered {
            Some((facts, package)) => old.push((shelf.suite(facts)?, package.clone())),
            None => gone.push(installed.name.clone()),
        }
    }
    Ok((old, gone))
}

fn download(shelf: &Shelf, wanted: &[Taken<'_>], watch: &Watch) -> Result<Vec<PackageFile>> {
    let megabytes = wanted.iter().map(|(_, package)| package.size / 1_000_000).sum();
    if wanted.len() > MOST_PACKAGES || megabytes > MOST_MEGABYTES {
        let error = Unpatchable::TooMany { packages: wanted.len(), megabytes };
        return Err(helped(error, "name packages, or begin with a newer image"));
    }
    let wants: Vec<PackageWant<'_>> =
        wanted.iter().map(|(suite, package)| PackageWant { suite, package }).collect();
    let outcomes = shelf.collector().packages(&wants, watch);
    let mut files = Vec::new();
    for ((_, package), outcome) in wanted.iter().zip(outcomes) {
        let path = outcome.map_err(|error| {
            let help = error.help().unwrap_or_default();
            let context = format!("cannot fetch {} {}", package.name, package.version);
            helped(anyhow::Error::new(error).context(context), help)
        })?;
        files.push(PackageFile {
            path,
            sha256: package.sha256.clone(),
            package: package.name.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
            source: package.source.name.clone(),
        });
    }
    Ok(files)
}

impl Shelf {
    /// The suite with these facts.
    pub(super) fn suite(&self, facts: &SuiteFacts) -> Result<&Suite> {
        let is_it = |suite: &&Suite| {
            suite.facts.uri == facts.uri
                && suite.facts.suite == facts.suite
                && suite.facts.release_sha256 == facts.release_sha256
        };
        self.suites().iter().find(is_it).context("a package is offered by no suite")
    }

    pub(super) fn relations(&self, want: &dyn Fn(&str) -> bool) -> Result<Vec<Relations>> {
        let mut all = Vec::new();
        for suite in self.suites() {
            all.extend(suite.relations(want)?);
        }
        Ok(all)
    }

    /// The newest version that would do, of suites that apt installs from by itself where one of
    /// them has any.
    fn newest(
        &self,
        alternative: &Alternative<'_>,
        architecture: &str,
    ) -> Result<Option<Taken<'_>>> {
        let mut best: Option<Taken<'_>> = None;
        for suite in self.suites() {
            for package in suite.packages(&|name, _| name == alternative.name)? {
                let fits = (package.architecture == architecture || package.architecture == "all")
                    && alternative.admits(&package.version);
                let is_better = best.as_ref().is_none_or(|(other, taken)| {
                    let automatic = |suite: &Suite| !suite.facts.not_automatic;
                    let newer = VersionKind::Dpkg.compare(&package.version, &taken.version).is_gt();
                    match (automatic(suite), automatic(other)) {
                        (true, false) => true,
                        (false, true) => false,
                        _ => newer,
                    }
                });
                if fits && is_better {
                    best = Some((suite, package));
                }
            }
        }
        Ok(best)
    }
}
