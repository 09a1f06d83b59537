//! What a patch brings, from its changelog and from advisories, and how urgent that makes it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::{AdvisoryRef, Question, Upgrade, compare};
use crate::advisory::{Advisory, Changelog, ChangelogEntry};
use crate::inventory::Inventory;
use crate::priority::{CveFacts, Decision, KevListing, PriorityInputs, Sourced, SuiteKind};

/// What a patch brings, as far as it is known.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) cves: BTreeSet<String>,
    pub(super) advisories: Vec<AdvisoryRef>,
    /// Facts about the patch as a whole.
    patch: PriorityInputs,
    /// Facts that advisories state about single CVEs.
    per_cve: BTreeMap<String, PriorityInputs>,
    from_security_suite: bool,
    /// Why the changelog could not be read, where it could not.
    pub(super) unreadable: Option<String>,
}

impl Content {
    /// What an upgrade brings, given the changelog of its candidate.
    pub(super) fn of_upgrade(
        upgrade: &Upgrade<'_>,
        changelog: Option<&Result<Changelog, String>>,
        inventory: &Inventory,
    ) -> Self {
        let mut content =
            Self { from_security_suite: upgrade.offer.suite.is_security(), ..Self::default() };
        match changelog {
            Some(Ok(changelog)) => content.add_changelog(changelog, upgrade, inventory),
            Some(Err(reason)) => content.unreadable = Some(reason.clone()),
            None => content.unreadable = Some("its changelog was not read".to_owned()),
        }
        let kind =
            if content.from_security_suite { SuiteKind::Security } else { SuiteKind::Ordinary };
        content.patch.suite = Some(Sourced::new(kind, &upgrade.offer.suite.suite));
        content
    }

    /// Takes the entries that are newer than what is installed and no newer than the candidate.
    fn add_changelog(
        &mut self,
        changelog: &Changelog,
        upgrade: &Upgrade<'_>,
        inventory: &Inventory,
    ) {
        let installed = &upgrade.installed.source.version;
        let candidate = &upgrade.offer.package.source.version;
        let is_new = |entry: &&ChangelogEntry| {
            compare(inventory, &entry.version, installed) == Ordering::Greater
                && compare(inventory, &entry.version, candidate) != Ordering::Greater
        };
        for entry in changelog.entries.iter().filter(is_new) {
            let id = format!("{} {}", changelog.source, entry.version);
            self.from_security_suite |= targets_security(entry);
            self.cves.extend(entry.cves.iter().cloned());
            if !entry.urgency.is_empty() {
                self.patch.changelog_urgencies.push(Sourced::new(entry.urgency.clone(), &id));
            }
            if !entry.cves.is_empty() || targets_security(entry) {
                self.advisories.push(AdvisoryRef {
                    id,
                    fixed: Some(entry.version.clone()),
                    cves: entry.cves.clone(),
                    urgency: Some(entry.urgency.clone()).filter(|word| !word.is_empty()),
                    published: entry.date,
                    provenance: changelog.provenance.clone(),
                });
            }
        }
        let read = format!("changelog of {} {candidate}", changelog.source);
        self.patch.changelog_cves = Some(Sourced::new(self.cves.len(), read));
    }

    /// Takes an advisory whose fix the patch contains.
    pub(super) fn add_advisory(&mut self, advisory: &Advisory, fixed: &str) {
        self.cves.extend(advisory.cves.iter().cloned());
        let stated = |inputs: &mut PriorityInputs| {
            let by = |text: &String| Sourced::new(text.clone(), &advisory.id);
            inputs.cvss_vectors.extend(advisory.cvss_vectors.iter().map(by));
            inputs.vendor_severities.extend(advisory.vendor_severity.iter().map(by));
        };
        if advisory.cves.is_empty() {
            stated(&mut self.patch);
        }
        for cve in &advisory.cves {
            stated(self.per_cve.entry(cve.clone()).or_default());
        }
        self.advisories.push(AdvisoryRef {
            id: advisory.id.clone(),
            fixed: Some(fixed.to_owned()),
            cves: advisory.cves.clone(),
            urgency: advisory.vendor_severity.clone(),
            published: advisory.published,
            provenance: advisory.provenance.clone(),
        });
    }

    /// Whether the patch closes a vulnerability.
    pub(super) fn is_security(&self) -> bool {
        self.from_security_suite || !self.advisories.is_empty()
    }

    /// Those of its vulnerabilities that are known to be exploited, sorted.
    pub(super) fn exploited(&self, question: &Question<'_>) -> Vec<String> {
        let is_listed = |cve: &&String| {
            question.exploited.is_some_and(|catalogue| catalogue.cves.contains(*cve))
        };
        self.cves.iter().filter(is_listed).cloned().collect()
    }

    /// How urgent the patch is by the question's policy.
    pub(super) fn decide(&self, question: &Question<'_>) -> Decision {
        let cves: Vec<CveFacts> = self
            .cves
            .iter()
            .map(|cve| {
                let mut inputs = self.per_cve.get(cve).cloned().unwrap_or_default();
                inputs.known_exploited = question.exploited.map(|catalogue| {
                    let listed = catalogue.cves.contains(cve);
                    let word = if listed { KevListing::Listed } else { KevListing::NotListed };
                    Sourced::new(word, catalogue.name)
                });
                CveFacts { cve: cve.clone(), inputs }
            })
            .collect();
        question.policy.decide_patch(&self.patch, &cves, question.asset)
    }
}

fn targets_security(entry: &ChangelogEntry) -> bool {
    entry.distributions.iter().any(|name| name.ends_with("-security"))
}
