//! The index over advisories, and what one system lacks.

use std::collections::BTreeMap;

use crate::advisory::{Advisory, PackageScope};
use crate::inventory::{InstalledPackage, Inventory};
use crate::version::VersionKind;

use super::advised::{FixedVersion, Verdict, statements};
use super::ecosystem::release_of;
use super::lane::{Lane, LaneDirectory, LaneId, LaneName, Said, Stream, number};

/// Advisories, prepared for matching. Holds no reference to the records it was built from; a match
/// names them by position.
///
/// ```no_run
/// # use domain::{advisory::Advisory, inventory::Inventory, matching::Index};
/// # fn example(advisories: &[Advisory], inventory: &Inventory) {
/// let index = Index::new(advisories);
/// for found in index.matches(inventory) {
///     let package = &inventory.packages[found.package];
///     let advisory = &advisories[found.advisory];
///     println!("{} lacks {} {:?}", package.name, advisory.id, advisory.cves);
/// }
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Index {
    directory: LaneDirectory,
    lanes: Vec<Lane>,
    /// The lanes in which each advisory has a statement.
    lanes_of: Vec<Box<[LaneId]>>,
}

/// An advisory that concerns an installed package.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match<'a> {
    /// Position of the package in [`Inventory::packages`].
    pub package: usize,
    /// Position of the advisory among those the index was built from.
    pub advisory: usize,
    /// The nearest version with the fix, of the source or the binary package, whichever the
    /// advisory speaks of; `None` where no fix is known.
    pub fixed: Option<&'a str>,
}

impl Index {
    /// Prepares advisories for matching.
    pub fn new(advisories: &[Advisory]) -> Self {
        let mut index = Self::default();
        index.rebuild(advisories);
        index
    }

    /// Every advisory that concerns an installed package, ordered by package, then advisory, each
    /// pair once.
    pub fn matches(&self, inventory: &Inventory) -> Vec<Match<'_>> {
        let kind = inventory.family.version_kind();
        let Some(release) = release_of(&inventory.os) else { return Vec::new() };
        let mut matches = Vec::new();
        let mut key = Vec::new();
        for (position, package) in inventory.packages.iter().enumerate() {
            let mut lacking: BTreeMap<u32, Option<&FixedVersion>> = BTreeMap::new();
            for (lane, version) in lanes_of_package(&release, kind, package) {
                let Some(lane) = self.directory.find(lane) else { continue };
                key.clear();
                kind.write_key(version, &mut key);
                for (advisory, verdict) in self.at(lane).lacking(&key) {
                    keep_nearest(lacking.entry(advisory).or_default(), verdict);
                }
            }
            matches.extend(lacking.into_iter().map(|(advisory, fixed)| Match {
                package: position,
                advisory: advisory as usize,
                fixed: fixed.map(|fixed| &*fixed.text),
            }));
        }
        matches
    }

    /// Forgets all statements and takes these; lanes keep their numbers.
    pub(super) fn rebuild(&mut self, advisories: &[Advisory]) {
        self.lanes.iter_mut().for_each(Lane::clear);
        self.lanes_of.clear();
        for advisory in advisories {
            let number = number(self.lanes_of.len());
            let statements = statements(advisory).into_iter().map(|(lane, statement)| {
                let lane = self.lane(lane);
                self.lanes[lane.position()].push(number, statement);
                lane
            });
            let lanes = statements.collect();
            self.lanes_of.push(lanes);
        }
        self.lanes.iter_mut().for_each(Lane::sort);
    }

    /// Takes one more advisory; returns its number.
    pub(super) fn add(&mut self, advisory: &Advisory) -> u32 {
        let number = number(self.lanes_of.len());
        let statements = statements(advisory).into_iter().map(|(lane, statement)| {
            let lane = self.lane(lane);
            self.lanes[lane.position()].insert(number, statement);
            lane
        });
        let lanes = statements.collect();
        self.lanes_of.push(lanes);
        number
    }

    /// Forgets what an advisory says.
    pub(super) fn remove(&mut self, advisory: u32) {
        for lane in std::mem::take(&mut self.lanes_of[advisory as usize]) {
            self.lanes[lane.position()].remove(advisory);
        }
    }

    /// What an advisory says, lane by lane.
    pub(super) fn said_by(&self, advisory: u32) -> impl Iterator<Item = (LaneId, Said<'_>)> {
        let lanes = self.lanes_of.get(advisory as usize).map_or(&[][..], |lanes| lanes);
        lanes.iter().filter_map(move |&lane| Some((lane, self.at(lane).said_by(advisory)?)))
    }

    pub(super) fn at(&self, lane: LaneId) -> &Lane {
        &self.lanes[lane.position()]
    }

    /// The lane of this name, a new one where there is none.
    pub(super) fn lane(&mut self, name: LaneName<'_>) -> LaneId {
        let lane = self.directory.find_or_add(name);
        if lane.position() == self.lanes.len() {
            self.lanes.push(Lane::default());
        }
        lane
    }
}

/// Of several statements of one advisory about one package, a fix counts before none, and the
/// nearest fix before others.
fn keep_nearest<'a>(kept: &mut Option<&'a FixedVersion>, verdict: Verdict<'a>) {
    if let Verdict::FixedBy(fixed) = verdict
        && kept.is_none_or(|kept| fixed < kept)
    {
        *kept = Some(fixed);
    }
}

/// Where advisories about an installed package would stand, each with the version they judge.
fn lanes_of_package<'a>(
    ecosystem: &'a str,
    kind: VersionKind,
    package: &'a InstalledPackage,
) -> [(LaneName<'a>, &'a str); 2] {
    let lane = |scope, name: &'a str, version: &'a str| {
        let stream = Stream::of(kind, version);
        (LaneName { ecosystem, name, kind, scope, stream }, version)
    };
    [
        lane(PackageScope::Source, &package.source.name, &package.source.version),
        lane(PackageScope::Binary, &package.name, &package.version),
    ]
}
