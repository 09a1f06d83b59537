//! The index over advisories, and what one system lacks.

use std::num::NonZeroUsize;
use std::thread;

use crate::advisory::{Advisory, PackageScope};
use crate::inventory::{InstalledPackage, Inventory};
use crate::version::VersionKind;

use super::advised::{Fixed, Statement, Verdict, push_statements};
use super::ecosystem::release_of;
use super::lane::{LaneDirectory, LaneId, LaneName, Stream, number};
use super::rows::{Lane, Said};

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
    /// The lanes in which advisories have a statement, one advisory's behind the other's.
    lanes_spoken_of: Vec<LaneId>,
    /// By advisory, where its own lie among them.
    spans: Vec<std::ops::Range<u32>>,
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

/// A statement on its way into its lane.
struct Entry<'a> {
    lane: LaneId,
    advisory: u32,
    kind: VersionKind,
    statement: Statement<'a>,
}

impl Index {
    /// Prepares advisories for matching.
    pub fn new(advisories: &[Advisory]) -> Self {
        let mut index = Self::default();
        index.rebuild(advisories, NonZeroUsize::MIN);
        index
    }

    /// Every advisory that concerns an installed package, ordered by package, then advisory, each
    /// pair once.
    pub fn matches(&self, inventory: &Inventory) -> Vec<Match<'_>> {
        let kind = inventory.family.version_kind();
        let Some(release) = release_of(&inventory.os) else { return Vec::new() };
        let mut matches = Vec::new();
        let mut key = Vec::new();
        let mut lacking = Vec::new();
        let mut lookup = self.directory.lookup();
        for (position, package) in inventory.packages.iter().enumerate() {
            for (lane, version) in lanes_of_package(&release, kind, package) {
                let Some(lane) = lookup.find(lane) else { continue };
                key.clear();
                kind.write_key(version, &mut key);
                lacking.extend(self.at(lane).lacking(&key));
            }
            lacking.sort_unstable_by_key(|(advisory, verdict)| (*advisory, rank(verdict)));
            lacking.dedup_by_key(|(advisory, _)| *advisory);
            matches.extend(lacking.drain(..).map(|(advisory, verdict)| Match {
                package: position,
                advisory: advisory as usize,
                fixed: fixed(&verdict).map(|fixed| fixed.text),
            }));
        }
        matches
    }

    /// Forgets all statements and takes these, on as many threads as given; lanes keep their
    /// numbers.
    pub(super) fn rebuild(&mut self, advisories: &[Advisory], workers: NonZeroUsize) {
        self.lanes_spoken_of.clear();
        self.spans.clear();
        let entries = self.entries(advisories, workers);
        thread::scope(|scope| {
            let mut lanes = self.lanes.as_mut_slice();
            let mut first = 0;
            for end in shares(lanes.len(), &entries, workers) {
                let (filled, others) = lanes.split_at_mut(end - first);
                let entries = &entries;
                scope.spawn(move || fill(filled, first, entries));
                (lanes, first) = (others, end);
            }
        });
    }

    /// The statements of all advisories in their order, with their lanes found or added.
    fn entries<'a>(&mut self, advisories: &'a [Advisory], workers: NonZeroUsize) -> Vec<Entry<'a>> {
        let share = advisories.len().div_ceil(workers.get()).max(1);
        let directory = &self.directory;
        // Most lanes are known from before: looking them up needs no order.
        let found: Vec<Vec<Sought<'a>>> = thread::scope(|scope| {
            let sought: Vec<_> = advisories
                .chunks(share)
                .map(|advisories| scope.spawn(move || seek(directory, advisories)))
                .collect();
            sought.into_iter().map(|share| share.join().expect("seeking does not panic")).collect()
        });
        let mut entries = Vec::with_capacity(advisories.len());
        for (sought, advisories) in found.into_iter().zip(advisories.chunks(share)) {
            let mut sought = sought.into_iter().peekable();
            for position in 0..advisories.len() {
                let advisory = self.begin_advisory();
                while let Some(Sought { name, lane, statement, .. }) =
                    sought.next_if(|sought| sought.advisory == position)
                {
                    let lane = lane.unwrap_or_else(|| self.lane(name));
                    self.speak_of(lane);
                    entries.push(Entry { lane, advisory, kind: name.kind, statement });
                }
            }
        }
        entries
    }

    /// Takes one more advisory; returns its number.
    pub(super) fn add(&mut self, advisory: &Advisory) -> u32 {
        let number = self.begin_advisory();
        let mut statements = Vec::new();
        push_statements(advisory, &mut statements);
        for (name, statement) in statements {
            let lane = self.lane(name);
            self.speak_of(lane);
            self.lanes[lane.position()].insert(number, name.kind, statement);
        }
        number
    }

    /// Forgets what an advisory says.
    pub(super) fn remove(&mut self, advisory: u32) {
        let Some(span) = self.spans.get_mut(advisory as usize) else { return };
        let span = std::mem::take(span);
        for lane in &self.lanes_spoken_of[span.start as usize..span.end as usize] {
            self.lanes[lane.position()].remove(advisory);
        }
    }

    /// What an advisory says, lane by lane.
    pub(super) fn said_by(&self, advisory: u32) -> impl Iterator<Item = (LaneId, Said<'_>)> {
        let span = self.spans.get(advisory as usize).cloned().unwrap_or_default();
        let lanes = &self.lanes_spoken_of[span.start as usize..span.end as usize];
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

    /// The lanes of these names, new ones where there are none.
    pub(super) fn lanes<'a>(
        &mut self,
        names: impl Iterator<Item = LaneName<'a>> + Clone,
    ) -> Vec<LaneId> {
        let mut lookup = self.directory.lookup();
        // Most are known: looking them up together is cheaper than one by one.
        let known: Vec<Option<LaneId>> = names.clone().map(|name| lookup.find(name)).collect();
        let found = known.into_iter().zip(names);
        found.map(|(known, name)| known.unwrap_or_else(|| self.lane(name))).collect()
    }

    fn begin_advisory(&mut self) -> u32 {
        let next = number(self.lanes_spoken_of.len());
        self.spans.push(next..next);
        number(self.spans.len() - 1)
    }

    /// The last advisory speaks of this lane.
    fn speak_of(&mut self, lane: LaneId) {
        self.lanes_spoken_of.push(lane);
        if let Some(span) = self.spans.last_mut() {
            span.end += 1;
        }
    }
}

/// A statement, and its lane where there is one already.
struct Sought<'a> {
    /// Position among the advisories of the share.
    advisory: usize,
    name: LaneName<'a>,
    lane: Option<LaneId>,
    statement: Statement<'a>,
}

fn seek<'a>(directory: &LaneDirectory, advisories: &'a [Advisory]) -> Vec<Sought<'a>> {
    let mut found = Vec::with_capacity(advisories.len());
    let mut statements = Vec::new();
    let mut lookup = directory.lookup();
    for (advisory, published) in advisories.iter().enumerate() {
        push_statements(published, &mut statements);
        found.extend(statements.drain(..).map(|(name, statement)| {
            let lane = lookup.find(name);
            Sought { advisory, name, lane, statement }
        }));
    }
    found
}

/// Where to cut the lanes so that each worker gets about as many entries; the last cut is the end.
fn shares(lanes: usize, entries: &[Entry<'_>], workers: NonZeroUsize) -> Vec<usize> {
    let mut entries_of = vec![0_usize; lanes];
    for entry in entries {
        entries_of[entry.lane.position()] += 1;
    }
    let share = entries.len().div_ceil(workers.get()).max(1);
    let mut cuts = Vec::with_capacity(workers.get());
    let mut taken = 0;
    for (lane, count) in entries_of.into_iter().enumerate() {
        taken += count;
        if taken >= share {
            cuts.push(lane + 1);
            taken = 0;
        }
    }
    if cuts.last() != Some(&lanes) {
        cuts.push(lanes);
    }
    cuts
}

/// Empties lanes and fills them with those of the entries that are theirs.
fn fill(lanes: &mut [Lane], first: usize, entries: &[Entry<'_>]) {
    lanes.iter_mut().for_each(Lane::clear);
    for entry in entries {
        let lane = entry.lane.position().checked_sub(first).and_then(|at| lanes.get_mut(at));
        if let Some(lane) = lane {
            lane.push(entry.advisory, entry.kind, &entry.statement);
        }
    }
    lanes.iter_mut().for_each(Lane::sort);
}

/// Of several statements of one advisory about one package, a fix counts before none, and the
/// nearest fix before others.
fn rank<'a>(verdict: &Verdict<'a>) -> (bool, Option<Fixed<'a>>) {
    let fixed = fixed(verdict);
    (fixed.is_none(), fixed)
}

fn fixed<'a>(verdict: &Verdict<'a>) -> Option<Fixed<'a>> {
    match verdict {
        Verdict::FixedBy(fixed) => Some(*fixed),
        Verdict::NotAffected | Verdict::Unfixed => None,
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
