//! What brings systems of a fleet to the latest, by exact packages: what releases install.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use domain::change::{Action, ExactPackage, Rollback};
use domain::check::upgrades;
use domain::dependency::Relations;
use domain::inventory::{Inventory, PackageFamily};
use domain::release::Content;
use jiff::Timestamp;
use server::Want;

use super::fleet::{OfficialSources, fill};
use super::knowledge::{Shelf, architectures};
use super::patches::{Taken, companions, replaced};
use super::progress::Watch;

/// One answer for each system, in their order; those of one release and architecture share what is read.
pub(super) fn contents(
    official: &OfficialSources,
    wants: &[Want],
    at: Timestamp,
) -> Vec<Result<Content, String>> {
    let mut groups: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for (position, want) in wants.iter().enumerate() {
        let inventory = want.set.inventory();
        let key = (inventory.os.release(), inventory.family, architectures(inventory));
        groups.entry(key).or_default().push(position);
    }
    let mut found: Vec<(usize, Result<Content, String>)> = Vec::with_capacity(wants.len());
    for positions in groups.values() {
        let alike: Vec<&Want> = positions.iter().map(|&at| &wants[at]).collect();
        let words = |error: &anyhow::Error| format!("{error:#}");
        match shelf(official, &alike, at) {
            Ok(shelf) => found.extend(positions.iter().zip(&alike).map(|(&position, want)| {
                (position, content(&shelf, want).map_err(|error| words(&error)))
            })),
            Err(error) => found.extend(positions.iter().map(|&at| (at, Err(words(&error))))),
        }
    }
    found.sort_by_key(|(position, _)| *position);
    found.into_iter().map(|(_, content)| content).collect()
}

/// What the archives of one release offer.
fn shelf(official: &OfficialSources, wants: &[&Want], at: Timestamp) -> Result<Shelf> {
    let inventories: Vec<&Inventory> = wants.iter().map(|want| want.set.inventory()).collect();
    let Some(first) = inventories.first() else { bail!("there is nothing to look for") };
    if first.family != PackageFamily::Dpkg {
        bail!("releases install packages of Debian and its kin only");
    }
    let watch = Watch::new(true);
    let shelf = fill(official, &inventories, at, &watch)?;
    watch.done();
    let shelf = shelf.with_context(|| format!("no archive is known for {}", first.os.release()))?;
    if let Some(error) = shelf.sources.iter().find_map(super::patches::refusal) {
        return Err(error);
    }
    Ok(shelf)
}

fn content(shelf: &Shelf, want: &Want) -> Result<Content> {
    let inventory = want.set.inventory();
    let preferences = want.set.choice().preferences().context("apt's preferences")?;
    let all = upgrades(inventory, &shelf.offered, &preferences);
    let meant: Vec<_> = all
        .iter()
        .filter(|upgrade| !upgrade.installed.held)
        .filter(|upgrade| want.sources.contains(&upgrade.installed.source.name))
        .collect();
    let missing = want
        .sources
        .iter()
        .find(|source| !meant.iter().any(|upgrade| upgrade.installed.source.name == **source));
    if let Some(source) = missing {
        bail!("no newer version of `{source}` is offered, or it is held");
    }
    let mut wanted: Vec<Taken<'_>> = Vec::with_capacity(meant.len());
    for upgrade in &meant {
        wanted.push((shelf.suite(upgrade.offer.suite)?, upgrade.offer.package.clone()));
    }
    let (further, _) = companions(shelf, &installed(shelf, inventory)?, &wanted, inventory)?;
    wanted.extend(further);
    let (old, _) = replaced(shelf, &meant)?;
    Ok(Content {
        actions: vec![Action::Upgrade { packages: exact(&wanted)? }],
        rollback: Rollback::Packages { packages: exact(&old)? },
    })
}

/// What is installed, and what it counts as. A package set does not say the latter: what the offered
/// version of the same name says is taken for it, and apt has the last word on the host.
fn installed(shelf: &Shelf, inventory: &Inventory) -> Result<Vec<Relations>> {
    let names: BTreeSet<&str> = inventory.packages.iter().map(|it| it.name.as_str()).collect();
    let offered = shelf.relations(&|name| names.contains(name))?;
    let provides: BTreeMap<&str, &str> =
        offered.iter().map(|it| (it.name.as_str(), it.provides.as_str())).collect();
    let relations = |package: &domain::inventory::InstalledPackage| Relations {
        name: package.name.clone(),
        architecture: package.architecture.clone(),
        version: package.version.clone(),
        depends: String::new(),
        provides: provides.get(package.name.as_str()).copied().unwrap_or_default().to_owned(),
    };
    Ok(inventory.packages.iter().map(relations).collect())
}

fn exact(taken: &[Taken<'_>]) -> Result<Vec<ExactPackage>> {
    let mut packages = Vec::with_capacity(taken.len());
    for (_, package) in taken {
        let sha256 = package.sha256.parse();
        packages.push(ExactPackage {
            name: package.name.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
            sha256: sha256.with_context(|| format!("the hash of {}", package.name))?,
        });
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}
