//! A synthetic cloud from a seed: advisories, systems, and which VM has which.
//!
//! | what | how it is drawn |
//! |---|---|
//! | sources | [`SOURCES`], each with a history of 4 to 35 versions in Debian's syntax |
//! | advisories | each for one source, drawn with weight 1/(rank + 100): 90 for the first, 3 for the last; fixed in any version of its history but the oldest |
//! | images | [`IMAGES`], 400 packages each: the 150 first sources (the base system), the others by weight 1/rank |
//! | package sets | an image at a patch level, the highest of eight draws between oldest (0) and current (1); nine packages in ten at that level, one at a level of its own |
//! | VMs of sets | by weight 1/rank: the most common set has an eighth of the VMs |
//! | VMs of tenants | [`TENANTS`]; seven VMs in ten belong to one of the eight tenants at home with their set, the others to any |
//!
//! Versions are mixed harder than fleets that update from one archive, so there are more distinct
//! versions than in reality, not fewer.

#[path = "../../tests/support/random.rs"]
mod random;

use domain::advisory::{Advisory, Affected, AffectedRange, PackageScope, Provenance, RangeEnd};
use domain::inventory::{
    InstalledPackage, Inventory, OsRelease, PackageFamily, PackageState, SourcePackage,
};
use domain::version::VersionKind;
use random::Random;

pub(crate) const SEED: u64 = 20_261_123;
pub(crate) const SOURCES: usize = 3_000;
pub(crate) const IMAGES: usize = 40;
pub(crate) const PACKAGES: usize = 400;
pub(crate) const TENANTS: usize = 1_000;

const BASE_SYSTEM: usize = 150;

/// The archive's history and the images made from it.
pub(crate) struct Cloud {
    random: Random,
    /// Versions of each source, ascending.
    histories: Vec<Vec<String>>,
    images: Vec<Vec<usize>>,
    by_advisories: Ranks,
}

/// Draws a rank with weight 1/(rank + head).
struct Ranks {
    cumulated: Vec<u64>,
}

impl Ranks {
    fn new(count: usize, head: u64) -> Self {
        let mut sum = 0;
        let cumulated = (head + 1..=head + count as u64).map(|rank| {
            sum += 1_000_000_000 / rank;
            sum
        });
        Self { cumulated: cumulated.collect() }
    }

    fn draw(&self, random: &mut Random) -> usize {
        let total = self.cumulated.last().copied().unwrap_or(1);
        let drawn = random.next() % total;
        self.cumulated.partition_point(|&sum| sum <= drawn)
    }
}

impl Cloud {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let histories = (0..SOURCES).map(|_| history(&mut random)).collect();
        let by_rank = Ranks::new(SOURCES, 0);
        let by_advisories = Ranks::new(SOURCES, 100);
        let images = (0..IMAGES)
            .map(|_| {
                let mut packages: Vec<usize> = (0..BASE_SYSTEM).collect();
                while packages.len() < PACKAGES {
                    let source = by_rank.draw(&mut random);
                    if !packages.contains(&source) {
                        packages.push(source);
                    }
                }
                packages
            })
            .collect();
        Self { random, histories, images, by_advisories }
    }

    /// Advisories, each for one source package.
    pub(crate) fn advisories(&mut self, count: usize) -> Vec<Advisory> {
        (0..count).map(|number| self.advisory(number)).collect()
    }

    pub(crate) fn advisory(&mut self, number: usize) -> Advisory {
        let source = self.by_advisories.draw(&mut self.random);
        let history = &self.histories[source];
        let fixed = &history[1 + self.random.below(history.len() - 1)];
        let id = format!("SYN-{number}");
        Advisory {
            id: id.clone(),
            cves: vec![format!("CVE-2026-{number}")],
            summary: None,
            published: None,
            withdrawn: None,
            cvss_vectors: Vec::new(),
            vendor_severity: None,
            affected: vec![Affected {
                ecosystem: "Debian:12".to_owned(),
                scope: PackageScope::Source,
                package: name(source),
                version_kind: VersionKind::Dpkg,
                ranges: vec![AffectedRange {
                    introduced: None,
                    end: RangeEnd::Fixed(fixed.clone()),
                }],
                versions: Vec::new(),
                urgency: None,
            }],
            provenance: Provenance::Osv { id },
        }
    }

    /// A system made from one of the images, at some patch level.
    pub(crate) fn system(&mut self) -> Inventory {
        let image = self.random.below(IMAGES);
        let level = level_of(&mut self.random);
        let mut packages = Vec::with_capacity(PACKAGES);
        for &source in &self.images[image] {
            let history = &self.histories[source];
            let level = if self.random.below(10) == 0 { level_of(&mut self.random) } else { level };
            let version = &history[level * history.len() / 1_000];
            packages.push(InstalledPackage {
                name: format!("{}-bin", name(source)),
                architecture: "amd64".to_owned(),
                version: version.clone(),
                source: SourcePackage { name: name(source), version: version.clone() },
                state: PackageState::Installed,
                held: false,
            });
        }
        Inventory {
            os: OsRelease {
                id: "debian".to_owned(),
                version_id: Some("12".to_owned()),
                ..OsRelease::default()
            },
            family: PackageFamily::Dpkg,
            architecture: "amd64".to_owned(),
            foreign_architectures: Vec::new(),
            packages,
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        }
    }

    /// For each VM its tenant and its set, both as positions.
    pub(crate) fn population(&mut self, vms: usize, sets: usize) -> Vec<(usize, usize)> {
        let popularity = Ranks::new(sets, 0);
        (0..vms)
            .map(|_| {
                let set = popularity.draw(&mut self.random);
                let is_at_home = self.random.below(10) < 7;
                let tenant = if is_at_home {
                    set * 7 + self.random.below(8)
                } else {
                    self.random.below(TENANTS)
                };
                (tenant % TENANTS, set)
            })
            .collect()
    }
}

/// Thousandths of the way from the oldest version to the current one.
fn level_of(random: &mut Random) -> usize {
    (0..8).map(|_| random.below(1_000)).max().unwrap_or_default()
}

fn name(source: usize) -> String {
    format!("source-{source:04}")
}

fn history(random: &mut Random) -> Vec<String> {
    let mut versions = Vec::new();
    let length = 4 + random.below(32);
    let (mut major, mut minor) = (random.below(9), random.below(20));
    let epoch = if random.below(12) == 0 { "1:" } else { "" };
    while versions.len() < length {
        if random.below(8) == 0 {
            major += 1;
            minor = 0;
        } else {
            minor += 1 + random.below(3);
        }
        versions.push(format!("{epoch}{major}.{minor}-1"));
        for update in 1..=random.below(5) {
            versions.push(format!("{epoch}{major}.{minor}-1+deb12u{update}"));
        }
    }
    versions
}
