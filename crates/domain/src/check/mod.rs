//! The check: what is installed × what is known → which patches are missing.
//!
//! A pure function in two steps, because what a patch fixes stands in changelogs that are worth
//! fetching only for patches that are missing:
//!
//! 1. [`upgrades`] finds the newer versions that apt would install;
//! 2. [`check`] joins them with changelogs, advisories and the priority policy into a [`Report`].

mod content;
mod matched;
mod report;
#[cfg(test)]
mod tests;
mod unknown;

pub use report::{
    AdvisoryRef, Finding, OfferedBy, Report, SCHEMA, SourceKind, SourceReport, SourceState, Status,
    Unfixed, Unknown, UnknownAbout,
};

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::advisory::{Advisory, Changelog};
use crate::archive::{OfferedPackage, SuiteFacts};
use crate::candidate::{self, Offer, Preferences};
use crate::inventory::{InstalledPackage, Inventory};
use crate::matching::Index;
use crate::priority::{AssetFacts, Policy};
use content::Content;
use matched::MatchedAdvisories;

/// A verified suite with those of its packages that may matter to the target.
#[derive(Debug, Clone)]
pub struct OfferedSuite {
    /// The suite.
    pub facts: SuiteFacts,
    /// Every version it offers of every installed package.
    pub packages: Vec<OfferedPackage>,
}

/// A newer version that apt would install.
#[derive(Debug, Clone, Copy)]
pub struct Upgrade<'a> {
    /// Position of the installed package in the inventory.
    pub position: usize,
    /// What is installed.
    pub installed: &'a InstalledPackage,
    /// What would replace it.
    pub offer: Offer<'a>,
}

/// What is known from archives.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveKnowledge<'a> {
    /// The verified suites.
    pub suites: &'a [OfferedSuite],
    /// The upgrades found in them.
    pub upgrades: &'a [Upgrade<'a>],
    /// Changelogs by source package and source version of the candidate; an `Err` says why the
    /// changelog could not be had.
    pub changelogs: &'a BTreeMap<(String, String), Result<Changelog, String>>,
}

/// What is known from advisory records.
#[derive(Debug, Clone, Copy)]
pub struct AdvisoryKnowledge<'a> {
    /// The records.
    pub advisories: &'a [Advisory],
    /// The matching index over them.
    pub index: &'a Index,
}

/// A catalogue of vulnerabilities that are known to be exploited.
#[derive(Debug, Clone, Copy)]
pub struct ExploitedCatalogue<'a> {
    /// Name and version, for the record (`CISA KEV 2025.08.25`).
    pub name: &'a str,
    /// CVE ids in it.
    pub cves: &'a BTreeSet<String>,
}

/// Which findings are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Every missing patch.
    Everything,
    /// Only patches that close a vulnerability.
    SecurityOnly,
}

/// A question to the check.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Name of the target, for the report.
    pub target: &'a str,
    /// The instant at which freshness was judged.
    pub at: Timestamp,
    /// What is installed.
    pub inventory: &'a Inventory,
    /// All sources and how they fared.
    pub sources: &'a [SourceReport],
    /// What gathering them could not read (damaged records).
    pub gaps: &'a [Unknown],
    /// Knowledge from archives; `None` where the target's family has none that we read.
    pub archive: Option<ArchiveKnowledge<'a>>,
    /// Knowledge from advisory records; `None` where none were given.
    pub advisories: Option<AdvisoryKnowledge<'a>>,
    /// Vulnerabilities known to be exploited; `None` where no catalogue was given.
    pub exploited: Option<ExploitedCatalogue<'a>>,
    /// How findings are ranked.
    pub policy: &'a Policy,
    /// What is known about the asset itself.
    pub asset: &'a AssetFacts,
    /// Which findings are asked for.
    pub scope: Scope,
}

/// The newer versions that apt would install, in the inventory's order.
pub fn upgrades<'a>(
    inventory: &'a Inventory,
    suites: &'a [OfferedSuite],
    preferences: &Preferences,
) -> Vec<Upgrade<'a>> {
    let offers = offers_by_name(inventory, suites);
    inventory
        .packages
        .iter()
        .enumerate()
        .filter_map(|(position, installed)| {
            let key = (installed.name.as_str(), native_for_all(&installed.architecture, inventory));
            let offer = candidate::upgrade(
                installed,
                &inventory.architecture,
                offers.get(&key)?,
                preferences,
            )?;
            Some(Upgrade { position, installed, offer })
        })
        .collect()
}

/// apt keeps packages of architecture `all` together with those of the native one.
fn native_for_all<'a>(architecture: &'a str, inventory: &'a Inventory) -> &'a str {
    if architecture == "all" { &inventory.architecture } else { architecture }
}

type OffersByName<'a> = HashMap<(&'a str, &'a str), Vec<Offer<'a>>>;

fn offers_by_name<'a>(inventory: &'a Inventory, suites: &'a [OfferedSuite]) -> OffersByName<'a> {
    let mut offers = OffersByName::new();
    for suite in suites {
        for package in &suite.packages {
            let key = (package.name.as_str(), native_for_all(&package.architecture, inventory));
            offers.entry(key).or_default().push(Offer { suite: &suite.facts, package });
        }
    }
    offers
}

/// Joins everything that is known into a report.
pub fn check(question: &Question<'_>) -> Report {
    let inventory = question.inventory;
    let mut unknown = unknown::sources(question);
    unknown.extend(question.gaps.iter().cloned());
    unknown.extend(unknown::inventory(inventory));
    let matched = MatchedAdvisories::new(question);
    let upgrades = question.archive.map_or(&[][..], |archive| archive.upgrades);

    let mut findings = matched.findings(question, upgrades);
    if let Some(archive) = question.archive {
        for upgrade in upgrades {
            let source = &upgrade.offer.package.source;
            let changelog = archive.changelogs.get(&(source.name.clone(), source.version.clone()));
            let mut content = Content::of_upgrade(upgrade, changelog, inventory);
            matched.add_fixed_by(upgrade, inventory, &mut content);
            unknown.extend(unknown::content(&source.name, &content));
            findings.push(finding_of(upgrade, content, question));
        }
        unknown.extend(unknown::unoffered_packages(question, archive.suites));
    }
    if question.scope == Scope::SecurityOnly {
        findings.retain(|finding| finding.security);
    }
    findings.sort_by(|a, b| rank(a).cmp(&rank(b)));

    let status = match (findings.is_empty(), unknown.is_empty()) {
        (false, _) => Status::Outdated,
        (true, false) => Status::Unknown,
        (true, true) => Status::Latest,
    };
    Report {
        schema: SCHEMA.to_owned(),
        target: question.target.to_owned(),
        checked_at: question.at,
        os: inventory.os.clone(),
        architecture: inventory.architecture.clone(),
        packages: inventory.packages.len(),
        sources: question.sources.to_vec(),
        policy: question.policy.reference(),
        status,
        findings,
        unfixed: matched.unfixed(inventory),
        unknown: unknown.into_iter().collect(),
        runtime: inventory.runtime.clone(),
    }
}

fn finding_of(upgrade: &Upgrade<'_>, content: Content, question: &Question<'_>) -> Finding {
    let (installed, offered) = (upgrade.installed, upgrade.offer.package);
    Finding {
        package: installed.name.clone(),
        architecture: installed.architecture.clone(),
        source: offered.source.name.clone(),
        installed: installed.version.clone(),
        installed_source: installed.source.version.clone(),
        candidate: offered.version.clone(),
        candidate_source: offered.source.version.clone(),
        offered_by: OfferedBy::Archive {
            suite: upgrade.offer.suite.suite.clone(),
            filename: offered.filename.clone(),
            sha256: offered.sha256.clone(),
        },
        decision: content.decide(question),
        security: content.is_security(),
        held: installed.held,
        exploited: content.exploited(question),
        cves: content.cves.into_iter().collect(),
        advisories: content.advisories,
    }
}

/// Most urgent first; then security before the rest, then by name so that the order is stable.
fn rank(finding: &Finding) -> impl Ord + '_ {
    (
        Reverse(finding.decision.priority),
        Reverse(finding.security),
        &finding.source,
        &finding.package,
        &finding.architecture,
        &finding.installed,
    )
}

fn compare(inventory: &Inventory, a: &str, b: &str) -> Ordering {
    inventory.family.version_kind().compare(a, b)
}
