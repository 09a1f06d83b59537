//! Advisories that apply to the inventory, by installed package.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use super::content::Content;
use super::{Finding, OfferedBy, Question, Unfixed, Upgrade, compare};
use crate::advisory::Advisory;
use crate::inventory::Inventory;

/// Advisories that apply, by position of the installed package in the inventory.
pub(super) struct MatchedAdvisories<'a> {
    by_package: BTreeMap<usize, Vec<Matched<'a>>>,
}

/// One advisory that applies to one installed package.
struct Matched<'a> {
    advisory: &'a Advisory,
    /// `None` where no fix is known.
    fixed: Option<String>,
}

impl<'a> MatchedAdvisories<'a> {
    pub(super) fn new(question: &Question<'a>) -> Self {
        let mut by_package: BTreeMap<usize, Vec<Matched<'a>>> = BTreeMap::new();
        if let Some(knowledge) = question.advisories {
            for found in knowledge.index.matches(question.inventory) {
                by_package.entry(found.package).or_default().push(Matched {
                    advisory: &knowledge.advisories[found.advisory],
                    fixed: found.fixed.map(str::to_owned),
                });
            }
        }
        Self { by_package }
    }

    /// Adds to an upgrade's content the advisories whose fix it contains.
    pub(super) fn add_fixed_by(
        &self,
        upgrade: &Upgrade<'_>,
        inventory: &Inventory,
        content: &mut Content,
    ) {
        for matched in self.of(upgrade.position) {
            if let Some(fixed) = &matched.fixed
                && reaches(upgrade, fixed, inventory)
            {
                content.add_advisory(matched.advisory, fixed);
            }
        }
    }

    /// Findings for fixes that only advisories know: no upgrade on offer reaches them.
    pub(super) fn findings(
        &self,
        question: &Question<'_>,
        upgrades: &[Upgrade<'_>],
    ) -> Vec<Finding> {
        let inventory = question.inventory;
        let upgrade_of: BTreeMap<usize, &Upgrade<'_>> =
            upgrades.iter().map(|upgrade| (upgrade.position, upgrade)).collect();
        let mut findings = Vec::new();
        for (&position, matched) in &self.by_package {
            let mut content = Content::default();
            let mut newest: Option<&str> = None;
            for one in matched {
                let Some(fixed) = one.fixed.as_deref() else { continue };
                if upgrade_of.get(&position).is_some_and(|it| reaches(it, fixed, inventory)) {
                    continue;
                }
                content.add_advisory(one.advisory, fixed);
                if newest.is_none_or(|best| compare(inventory, fixed, best) == Ordering::Greater) {
                    newest = Some(fixed);
                }
            }
            let Some(newest) = newest else { continue };
            let installed = &inventory.packages[position];
            findings.push(Finding {
                package: installed.name.clone(),
                architecture: installed.architecture.clone(),
                source: installed.source.name.clone(),
                installed: installed.version.clone(),
                installed_source: installed.source.version.clone(),
                candidate: newest.to_owned(),
                candidate_source: newest.to_owned(),
                offered_by: OfferedBy::Advisory,
                decision: content.decide(question),
                security: true,
                held: installed.held,
                exploited: content.exploited(question),
                cves: content.cves.into_iter().collect(),
                advisories: content.advisories,
            });
        }
        findings
    }

    /// Vulnerabilities for which no fix is known.
    pub(super) fn unfixed(&self, inventory: &Inventory) -> Vec<Unfixed> {
        let mut unfixed = Vec::new();
        for (&position, matched) in &self.by_package {
            let cves: BTreeSet<String> = matched
                .iter()
                .filter(|one| one.fixed.is_none())
                .flat_map(|one| match one.advisory.cves.as_slice() {
                    [] => vec![one.advisory.id.clone()],
                    cves => cves.to_vec(),
                })
                .collect();
            if !cves.is_empty() {
                let installed = &inventory.packages[position];
                unfixed.push(Unfixed {
                    package: installed.name.clone(),
                    source: installed.source.name.clone(),
                    installed: installed.version.clone(),
                    cves: cves.into_iter().collect(),
                });
            }
        }
        unfixed
    }

    fn of(&self, position: usize) -> &[Matched<'a>] {
        self.by_package.get(&position).map_or(&[], Vec::as_slice)
    }
}

/// Whether the candidate is at or beyond the fix.
fn reaches(upgrade: &Upgrade<'_>, fixed: &str, inventory: &Inventory) -> bool {
    compare(inventory, fixed, &upgrade.offer.package.source.version) != Ordering::Greater
}
