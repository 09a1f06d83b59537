//! What could not be told, and why. Nothing of it may ever look compliant.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};

use super::content::Content;
use super::{OfferedSuite, Question, SourceReport, SourceState, Unknown, UnknownAbout};
use super::{compare, native_for_all, offers_by_name};
use crate::inventory::{InstalledPackage, Inventory};

/// Refused and missing sources.
pub(super) fn sources(question: &Question<'_>) -> BTreeSet<Unknown> {
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
            help: Some("name archives with --sources PATH, or records with --osv PATH".to_owned()),
        });
    }
    unknown
}

/// Damaged or unfinished parts of the inventory.
pub(super) fn inventory(inventory: &Inventory) -> Vec<Unknown> {
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
        let Some(state) = package.state.trouble() else { continue };
        let reason = format!("dpkg left it {state}, so which version works is not certain");
        let help = "finish or repair it there: dpkg --configure -a";
        unknown.push(about_inventory(&package.name, reason, Some(help)));
    }
    unknown
}

/// A patch whose content could not be read.
pub(super) fn content(source: &str, content: &Content) -> Option<Unknown> {
    let reason = content.unreadable.as_ref()?;
    Some(Unknown {
        about: UnknownAbout::Content,
        subject: source.to_owned(),
        reason: format!("what the patch fixes is not known: {reason}"),
        help: None,
    })
}

/// Packages about which no verified suite says anything.
pub(super) fn unoffered_packages(question: &Question<'_>, suites: &[OfferedSuite]) -> Vec<Unknown> {
    let inventory = question.inventory;
    let is_refused = |source: &SourceReport| matches!(source.state, SourceState::Refused { .. });
    let (reason, help) = if question.sources.iter().any(is_refused) {
        ("only a refused source may know whether it is at its latest", None)
    } else {
        (
            "no verified source offers it, so nobody says whether it is at its latest",
            Some("add the source it came from, or remove it if nothing needs it"),
        )
    };
    let offers = offers_by_name(inventory, suites);
    let mut newest_of_source: HashMap<&str, &str> = HashMap::new();
    for package in &inventory.packages {
        let source = &package.source;
        let newest = newest_of_source.entry(&source.name).or_insert(&source.version);
        if compare(inventory, &source.version, newest) == Ordering::Greater {
            *newest = &source.version;
        }
    }
    // A kernel kept as a fallback beside a newer one is not what the system is meant to run.
    let is_fallback_kernel = |package: &InstalledPackage| {
        let newest = newest_of_source[package.source.name.as_str()];
        package.name.starts_with("linux-")
            && compare(inventory, &package.source.version, newest) == Ordering::Less
    };
    let is_offered = |package: &InstalledPackage| {
        let architecture = native_for_all(&package.architecture, inventory);
        offers.contains_key(&(package.name.as_str(), architecture))
    };
    inventory
        .packages
        .iter()
        .filter(|package| !is_offered(package) && !is_fallback_kernel(package))
        .map(|package| Unknown {
            about: UnknownAbout::Package,
            subject: package.name.clone(),
            reason: reason.to_owned(),
            help: help.map(str::to_owned),
        })
        .collect()
}
