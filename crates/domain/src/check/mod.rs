//! The check: what is installed × what is known → which patches are missing.
//!
//! A pure function in two steps, because what a patch fixes stands in changelogs that are worth
//! fetching only for patches that are missing:
//!
//! 1. [`upgrades`] finds the newer versions that apt would install;
//! 2. [`check`] joins them with changelogs, advisories and the priority policy into a [`Report`].

mod report;

pub use report::{
    AdvisoryRef, Finding, OfferedBy, Report, SCHEMA, SourceKind, SourceReport, SourceState, Status,
    Unfixed, Unknown, UnknownAbout,
};

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use crate::advisory::{Advisory, Changelog, ChangelogEntry, Provenance};
use crate::archive::{OfferedPackage, SuiteFacts};
use crate::candidate::{self, Offer, Preferences};
use crate::inventory::{InstalledPackage, Inventory, PackageState};
use crate::matching::Index;
use crate::priority::{AssetFacts, Decision, Policy};

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
    /// Knowledge from archives; `None` where the target's family has none that we read.
    pub archive: Option<ArchiveKnowledge<'a>>,
    /// Knowledge from advisory records; `None` where none were given.
    pub advisories: Option<AdvisoryKnowledge<'a>>,
    /// CVE ids known to be exploited; `None` where no catalogue was given.
    pub exploited: Option<&'a BTreeSet<String>>,
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
        .filter_map(|installed| {
            let key = (installed.name.as_str(), native_for_all(&installed.architecture, inventory));
            let offer = candidate::upgrade(
                installed,
                &inventory.architecture,
                offers.get(&key)?,
                preferences,
            )?;
            Some(Upgrade { installed, offer })
        })
        .collect()
}

/// apt keeps packages of architecture `all` together with those of the native one.
fn native_for_all<'a>(architecture: &'a str, inventory: &'a Inventory) -> &'a str {
    if architecture == "all" { &inventory.architecture } else { architecture }
}

type OffersByName<'a> = HashMap<(&'a str, &'a str), Vec<Offer<'a>>>;

fn offers_by_name<'a>(
    inventory: &'a Inventory,
    suites: &'a [OfferedSuite],
) -> OffersByName<'a> {
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
    let mut findings = Vec::new();
    let mut unknown = unknown_sources(question);
    unknown.extend(unknown_inventory(question.inventory));
    let advisories = MatchedAdvisories::new(question);
    let mut decisions = Decisions { question, made: HashMap::new() };

    if let Some(archive) = question.archive {
        for upgrade in archive.upgrades {
            let content = Content::of(upgrade, archive, &advisories, question.inventory);
            if let Some(reason) = &content.unreadable {
                unknown.insert(Unknown {
                    about: UnknownAbout::Content,
                    subject: upgrade.offer.package.source.name.clone(),
                    reason: format!("what the patch fixes is not known: {reason}"),
                    help: None,
                });
            }
            findings.push(archive_finding(upgrade, content, &mut decisions));
        }
        unknown.extend(unoffered_packages(question, archive));
    }
    findings.extend(advisory_findings(question, &advisories, &mut decisions));
    if question.scope == Scope::SecurityOnly {
        findings.retain(|finding| finding.security);
    }
    findings.sort_by(|a, b| rank(a).cmp(&rank(b)));

    let status = if !findings.is_empty() {
        Status::Outdated
    } else if !unknown.is_empty() {
        Status::Unknown
    } else {
        Status::Latest
    };
    Report {
        schema: SCHEMA.to_owned(),
        target: question.target.to_owned(),
        checked_at: question.at,
        os: question.inventory.os.clone(),
        architecture: question.inventory.architecture.clone(),
        packages: question.inventory.packages.len(),
        sources: question.sources.to_vec(),
        policy: question.policy.reference(),
        status,
        findings,
        unfixed: advisories.unfixed(question.inventory),
        unknown: unknown.into_iter().collect(),
        runtime: question.inventory.runtime.clone(),
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

fn unknown_sources(question: &Question<'_>) -> BTreeSet<Unknown> {
    let mut unknown = BTreeSet::new();
    for source in question.sources {
        if let SourceState::Refused { reason, help } = &source.state {
            let suite = source.suite.as_deref().unwrap_or("");
            unknown.insert(Unknown {
                about: UnknownAbout::Source,
                subject: format!("{} {suite}", source.uri).trim_end().to_owned(),
                reason: reason.clone(),
                help: help.clone(),
            });
        }
    }
    if question.archive.is_none() && question.advisories.is_none() {
        unknown.insert(Unknown {
            about: UnknownAbout::Source,
            subject: question.inventory.os.id.clone(),
            reason: "no source says which patches exist for this system".to_owned(),
            help: Some("name advisory records with --osv PATH".to_owned()),
        });
    }
    unknown
}

fn unknown_inventory(inventory: &Inventory) -> Vec<Unknown> {
    let about_inventory = |subject: &str, reason: String, help: Option<&str>| Unknown {
        about: UnknownAbout::Inventory,
        subject: subject.to_owned(),
        reason,
        help: help.map(str::to_owned),
    };
    let mut unknown: Vec<Unknown> = inventory
        .problems
        .iter()
        .map(|problem| about_inventory("inventory", problem.clone(), None))
        .collect();
    if inventory.packages.is_empty() {
        let reason = "its database lists no installed package".to_owned();
        unknown.push(about_inventory("packages", reason, None));
    }
    for package in &inventory.packages {
        let state = match package.state {
            // A pending trigger leaves the package's own files in place.
            PackageState::Installed | PackageState::Triggers => continue,
            PackageState::HalfInstalled => "half-installed",
            PackageState::Unpacked => "unpacked but not configured",
            PackageState::HalfConfigured => "half-configured",
        };
        let reason = format!("dpkg left it {state}, so which version works is not certain");
        let help = "finish or repair it there: dpkg --configure -a";
        unknown.push(about_inventory(&package.name, reason, Some(help)));
    }
    unknown
}

/// Packages about which no verified suite says anything.
fn unoffered_packages(question: &Question<'_>, archive: ArchiveKnowledge<'_>) -> Vec<Unknown> {
    let inventory = question.inventory;
    let offers = offers_by_name(inventory, archive.suites);
    let mut newest_of_source: HashMap<&str, &str> = HashMap::new();
    for package in &inventory.packages {
        let source = &package.source;
        let newest = newest_of_source.entry(&source.name).or_insert(&source.version);
        if compare(inventory, &source.version, newest) == Ordering::Greater {
            *newest = &source.version;
        }
    }
    let is_old_kernel = |package: &InstalledPackage| {
        package.name.starts_with("linux-")
            && compare(
                inventory,
                &package.source.version,
                newest_of_source[package.source.name.as_str()],
            ) == Ordering::Less
    };
    inventory
        .packages
        .iter()
        .filter(|package| {
            let key = (package.name.as_str(), native_for_all(&package.architecture, inventory));
            !offers.contains_key(&key)
        })
        // A kernel kept as a fallback beside a newer one is not what the system is meant to run.
        .filter(|package| !is_old_kernel(package))
        .map(|package| Unknown {
            about: UnknownAbout::Package,
            subject: package.name.clone(),
            reason: "no verified source offers it, so nobody says whether it is at its latest"
                .to_owned(),
            help: Some("add the source it came from, or remove it if nothing needs it".to_owned()),
        })
        .collect()
}

fn compare(inventory: &Inventory, a: &str, b: &str) -> Ordering {
    inventory.family.version_kind().compare(a, b)
}

/// What a patch brings, as far as it is known.
struct Content {
    cves: BTreeSet<String>,
    advisories: Vec<AdvisoryRef>,
    urgencies: Vec<String>,
    cvss_vectors: Vec<String>,
    vendor_severities: Vec<String>,
    from_security_suite: bool,
    /// Why the changelog could not be read, where it could not.
    unreadable: Option<String>,
}

impl Content {
    fn of(
        upgrade: &Upgrade<'_>,
        archive: ArchiveKnowledge<'_>,
        advisories: &MatchedAdvisories<'_>,
        inventory: &Inventory,
    ) -> Self {
        let source = &upgrade.offer.package.source;
        let mut content = Self {
            cves: BTreeSet::new(),
            advisories: Vec::new(),
            urgencies: Vec::new(),
            cvss_vectors: Vec::new(),
            vendor_severities: Vec::new(),
            from_security_suite: upgrade.offer.suite.is_security(),
            unreadable: None,
        };
        match archive.changelogs.get(&(source.name.clone(), source.version.clone())) {
            Some(Ok(changelog)) => content.add_changelog(changelog, upgrade, inventory),
            Some(Err(reason)) => content.unreadable = Some(reason.clone()),
            None => content.unreadable = Some("its changelog was not asked for".to_owned()),
        }
        for (advisory, fixed) in advisories.fixed_for(upgrade.installed) {
            if compare(inventory, fixed, &source.version) != Ordering::Greater {
                content.add_advisory(advisory, Some(fixed));
            }
        }
        content
    }

    /// Takes the entries that are newer than what is installed and no newer than the candidate.
    fn add_changelog(&mut self, changelog: &Changelog, upgrade: &Upgrade<'_>, inventory: &Inventory) {
        let installed = &upgrade.installed.source.version;
        let candidate = &upgrade.offer.package.source.version;
        for entry in &changelog.entries {
            let is_new = compare(inventory, &entry.version, installed) == Ordering::Greater
                && compare(inventory, &entry.version, candidate) != Ordering::Greater;
            if !is_new {
                continue;
            }
            self.from_security_suite |= targets_security(entry);
            self.urgencies.push(entry.urgency.clone());
            self.cves.extend(entry.cves.iter().cloned());
            if !entry.cves.is_empty() || targets_security(entry) {
                self.advisories.push(AdvisoryRef {
                    id: format!("{} {}", changelog.source, entry.version),
                    fixed: Some(entry.version.clone()),
                    cves: entry.cves.clone(),
                    urgency: Some(entry.urgency.clone()).filter(|word| !word.is_empty()),
                    published: entry.date,
                    provenance: changelog.provenance.clone(),
                });
            }
        }
    }

    fn add_advisory(&mut self, advisory: &Advisory, fixed: Option<&str>) {
        self.cves.extend(advisory.cves.iter().cloned());
        self.cvss_vectors.extend(advisory.cvss_vectors.iter().cloned());
        self.vendor_severities.extend(advisory.vendor_severity.clone());
        self.advisories.push(AdvisoryRef {
            id: advisory.id.clone(),
            fixed: fixed.map(str::to_owned),
            cves: advisory.cves.clone(),
            urgency: advisory.vendor_severity.clone(),
            published: advisory.published,
            provenance: advisory.provenance.clone(),
        });
    }

    fn is_security(&self) -> bool {
        self.from_security_suite || !self.cves.is_empty() || !self.advisories.is_empty()
    }
}

fn targets_security(entry: &ChangelogEntry) -> bool {
    entry.distributions.iter().any(|name| name.ends_with("-security"))
}
