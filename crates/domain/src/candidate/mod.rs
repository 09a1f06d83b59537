//! Which version apt would install: the candidate.
//!
//! The rules are those of `apt_preferences(5)` as apt ≥ 1.1 implements them: a version's priority
//! is that of the first specific pin that matches it, otherwise the highest priority of the
//! suites that offer it; the candidate is the version of the highest priority, the newest among
//! equals, and never older than the installed one below priority 1000.

mod pattern;
mod preferences;

pub use pattern::{InvalidPattern, Pattern};
pub use preferences::{PinPriority, Preferences, PreferencesError};

use std::cmp::Ordering;

use crate::archive::{OfferedPackage, SuiteFacts};
use crate::inventory::InstalledPackage;
use crate::version::VersionKind;
use preferences::NameScope;

/// A version of the package as one suite offers it.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// The suite.
    pub suite: &'a SuiteFacts,
    /// The package in it.
    pub package: &'a OfferedPackage,
}

/// Priorities of suites without any pin (`apt_preferences(5)`, "APT's Default Priority
/// Assignments").
mod default_priority {
    use super::PinPriority;

    pub(super) const SUITE: PinPriority = 500;
    pub(super) const INSTALLED: PinPriority = 100;
    pub(super) const BUT_AUTOMATIC_UPGRADES: PinPriority = 100;
    pub(super) const NOT_AUTOMATIC: PinPriority = 1;
}

/// From this priority on a version may replace a newer installed one.
const DOWNGRADE_PRIORITY: PinPriority = 1000;

/// The newer version that apt would install in place of `installed`, `None` where the installed
/// version is (or stays) the candidate. `native` is the system's own architecture.
///
/// `offers` are the versions of this package in all suites, in any order. Where several suites
/// offer the same version, the one with the highest priority is named.
pub fn upgrade<'a>(
    installed: &InstalledPackage,
    native: &str,
    offers: &[Offer<'a>],
    preferences: &Preferences,
) -> Option<Offer<'a>> {
    let order = |a: &str, b: &str| VersionKind::Dpkg.compare(a, b);
    let mut best_priority = installed_priority(installed, native, offers, preferences);
    let mut best: Option<Offer<'a>> = None;
    let mut newest_first: Vec<Offer<'a>> = offers.to_vec();
    newest_first.sort_by(|a, b| order(&b.package.version, &a.package.version));

    for group in newest_first.chunk_by(|a, b| {
        order(&a.package.version, &b.package.version) == Ordering::Equal
    }) {
        let version = &group[0].package.version;
        let against_installed = order(version, &installed.version);
        if against_installed == Ordering::Equal {
            continue; // Its priority is already in `best_priority`.
        }
        let (offer, priority) = version_priority(installed, native, group, preferences);
        if priority == 0 {
            continue;
        }
        // apt walks from the newest version down and replaces only for a higher priority, so
        // among equals the newest wins.
        let beats = match &best {
            None if against_installed == Ordering::Greater => priority >= best_priority,
            _ => priority > best_priority,
        };
        let allowed = against_installed == Ordering::Greater || priority >= DOWNGRADE_PRIORITY;
        if beats && allowed && priority > -1 {
            best_priority = priority;
            best = Some(offer);
        }
    }
    best.filter(|offer| order(&offer.package.version, &installed.version) == Ordering::Greater)
}

/// Priority of the installed version: that of its own pin, or the best of the status file and the
/// suites that still offer it.
fn installed_priority(
    installed: &InstalledPackage,
    native: &str,
    offers: &[Offer<'_>],
    preferences: &Preferences,
) -> PinPriority {
    let same: Vec<Offer<'_>> = offers
        .iter()
        .filter(|offer| {
            VersionKind::Dpkg.compare(&offer.package.version, &installed.version)
                == Ordering::Equal
        })
        .copied()
        .collect();
    let subject = Subject {
        name: &installed.name,
        architecture: effective_architecture(&installed.architecture, native),
        native,
        source: &installed.source.name,
        version: &installed.version,
    };
    if let Some(pinned) = specific_priority(&subject, &same, true, preferences) {
        return pinned;
    }
    let status = preferences
        .general
        .iter()
        .find(|pin| pin.target.matches_status_file())
        .map_or(default_priority::INSTALLED, |pin| pin.priority);
    same.iter().map(|offer| suite_priority(offer, preferences)).fold(status, PinPriority::max)
}

/// Priority of a version that is not installed, and the offer that gives it.
fn version_priority<'a>(
    installed: &InstalledPackage,
    native: &str,
    group: &[Offer<'a>],
    preferences: &Preferences,
) -> (Offer<'a>, PinPriority) {
    let subject = Subject {
        name: &installed.name,
        architecture: effective_architecture(&installed.architecture, native),
        native,
        source: &group[0].package.source.name,
        version: &group[0].package.version,
    };
    let mut best = (group[0], suite_priority(&group[0], preferences));
    for offer in &group[1..] {
        let priority = suite_priority(offer, preferences);
        if priority > best.1 {
            best = (*offer, priority);
        }
    }
    match specific_priority(&subject, group, false, preferences) {
        Some(pinned) => (best.0, pinned),
        None => best,
    }
}

/// What a specific pin is matched against.
struct Subject<'a> {
    name: &'a str,
    architecture: &'a str,
    native: &'a str,
    source: &'a str,
    version: &'a str,
}

fn specific_priority(
    subject: &Subject<'_>,
    offers: &[Offer<'_>],
    is_installed: bool,
    preferences: &Preferences,
) -> Option<PinPriority> {
    let pin = preferences.specific.iter().find(|pin| {
        let name = match pin.scope {
            NameScope::Binary => subject.name,
            NameScope::Source => subject.source,
        };
        let is_native = subject.architecture == subject.native;
        let right_architecture = match pin.architecture.as_deref() {
            // The manual does not say so, but apt looks up a bare name as native, and does not
            // know the word `native` here.
            None => is_native,
            Some("any") => true,
            Some(other) => subject.architecture == other,
        };
        let selects = || match &pin.target {
            preferences::PinTarget::Version(version) => version.matches(subject.version),
            target => {
                (is_installed && target.matches_status_file())
                    || offers.iter().any(|offer| {
                        let package = offer.package;
                        target.matches_suite(
                            offer.suite,
                            &package.component,
                            effective_architecture(&package.architecture, subject.native),
                        )
                    })
            }
        };
        right_architecture && pin.package.matches(name) && selects()
    })?;
    Some(pin.priority)
}

/// Priority of the suite (package list) that an offer stands in.
fn suite_priority(offer: &Offer<'_>, preferences: &Preferences) -> PinPriority {
    let package = offer.package;
    preferences
        .general
        .iter()
        .find(|pin| {
            pin.target.matches_suite(offer.suite, &package.component, &package.architecture)
        })
        .map_or_else(
            || match (offer.suite.not_automatic, offer.suite.but_automatic_upgrades) {
                (true, true) => default_priority::BUT_AUTOMATIC_UPGRADES,
                (true, false) => default_priority::NOT_AUTOMATIC,
                (false, _) => default_priority::SUITE,
            },
            |pin| pin.priority,
        )
}

/// apt files packages of architecture `all` under the native architecture.
fn effective_architecture<'a>(architecture: &'a str, native: &'a str) -> &'a str {
    if architecture == "all" { native } else { architecture }
}

#[cfg(test)]
mod tests;
