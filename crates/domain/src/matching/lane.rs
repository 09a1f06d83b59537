//! Lanes: everything said about one package of one release, ready to be compared with.

use std::collections::HashMap;
use std::ops::Add as _;

use crate::advisory::PackageScope;
use crate::version::VersionKind;

use super::advised::{FixedVersion, Ranges, Statement, Verdict};
use super::missing::Missing;

/// Whether an rpm package was built in a module stream.
///
/// A stream's packages carry the stream's own, often lower or higher, versions: a fix in one says
/// nothing about the other. The record does not name the stream, but a module build shows in the
/// release (`1.2-3.module_el9.4.0+12+abc`, `….module+el8…`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Stream {
    Outside,
    Module,
}

impl Stream {
    pub(super) fn of(kind: VersionKind, version: &str) -> Self {
        let in_module = kind == VersionKind::Rpm
            && (version.contains(".module_") || version.contains(".module+"));
        if in_module { Self::Module } else { Self::Outside }
    }

    /// The streams that versions of this kind can be in.
    pub(super) const fn all(kind: VersionKind) -> &'static [Self] {
        match kind {
            VersionKind::Rpm => &[Self::Outside, Self::Module],
            VersionKind::Dpkg | VersionKind::Apk => &[Self::Outside],
        }
    }
}

/// Which lane a package or an advisory belongs to.
///
/// The version kind is part of it, so that keys of different orders never meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LaneName<'a> {
    /// In its canonical spelling.
    pub(super) ecosystem: &'a str,
    pub(super) name: &'a str,
    pub(super) kind: VersionKind,
    pub(super) scope: PackageScope,
    pub(super) stream: Stream,
}

/// Position of a lane; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(pub(super) u32);

impl LaneId {
    pub(super) const fn position(self) -> usize {
        self.0 as usize
    }
}

/// The numbers of lanes by their names.
#[derive(Debug, Clone, Default)]
pub(super) struct LaneDirectory {
    symbols: HashMap<Box<str>, u32>,
    lanes: HashMap<LaneKey, LaneId>,
}

/// A [`LaneName`] with numbers for its texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct LaneKey {
    ecosystem: u32,
    name: u32,
    kind: VersionKind,
    scope: PackageScope,
    stream: Stream,
}

impl LaneDirectory {
    pub(super) fn find(&self, lane: LaneName<'_>) -> Option<LaneId> {
        let key = lane.key(|text| self.symbols.get(text).copied())?;
        self.lanes.get(&key).copied()
    }

    /// The lane of this name, a new one where there is none.
    pub(super) fn find_or_add(&mut self, lane: LaneName<'_>) -> LaneId {
        let symbols = &mut self.symbols;
        let key = lane.key(|text| {
            let next = number(symbols.len());
            Some(symbols.get(text).copied().unwrap_or_else(|| {
                symbols.insert(text.into(), next);
                next
            }))
        });
        let key = key.expect("every text was given a number");
        let next = LaneId(number(self.lanes.len()));
        *self.lanes.entry(key).or_insert(next)
    }
}

impl LaneName<'_> {
    fn key(self, mut number_of: impl FnMut(&str) -> Option<u32>) -> Option<LaneKey> {
        Some(LaneKey {
            ecosystem: number_of(self.ecosystem)?,
            name: number_of(self.name)?,
            kind: self.kind,
            scope: self.scope,
            stream: self.stream,
        })
    }
}

/// Lanes, cells and sets are numbered with 32 bits.
pub(super) fn number(position: usize) -> u32 {
    u32::try_from(position).expect("fewer than 2^32 of them fit into memory")
}

/// The advisories that speak about one package.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// Ascending by fixed version, then by advisory.
    fixes: Vec<Fix>,
    ranges: Vec<(u32, Ranges)>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Fix {
    fixed: FixedVersion,
    advisory: u32,
}

/// A statement in its lane.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'a> {
    FixedBy(&'a FixedVersion),
    Ranges(&'a Ranges),
}

impl Lane {
    /// Adds a statement at the end; [`Lane::sort`] must follow.
    pub(super) fn push(&mut self, advisory: u32, statement: Statement) {
        match statement {
            Statement::FixedBy(fixed) => self.fixes.push(Fix { fixed, advisory }),
            Statement::Ranges(ranges) => self.ranges.push((advisory, ranges)),
        }
    }

    pub(super) fn sort(&mut self) {
        self.fixes.sort_unstable();
    }

    pub(super) fn clear(&mut self) {
        self.fixes.clear();
        self.ranges.clear();
    }

    /// Adds a statement at its place.
    pub(super) fn insert(&mut self, advisory: u32, statement: Statement) {
        match statement {
            Statement::FixedBy(fixed) => {
                let fix = Fix { fixed, advisory };
                let place = self.fixes.partition_point(|other| *other < fix);
                self.fixes.insert(place, fix);
            }
            Statement::Ranges(ranges) => self.ranges.push((advisory, ranges)),
        }
    }

    pub(super) fn remove(&mut self, advisory: u32) {
        self.fixes.retain(|fix| fix.advisory != advisory);
        self.ranges.retain(|(other, _)| *other != advisory);
    }

    /// What one advisory says here; the lane holds at most one statement of each.
    pub(super) fn said_by(&self, advisory: u32) -> Option<Said<'_>> {
        let fix = self.fixes.iter().find(|fix| fix.advisory == advisory);
        fix.map(|fix| Said::FixedBy(&fix.fixed)).or_else(|| {
            let ranges = self.ranges.iter().find(|(other, _)| *other == advisory);
            ranges.map(|(_, ranges)| Said::Ranges(ranges))
        })
    }

    /// The advisories that a version lacks, each once.
    pub(super) fn lacking<'a, 'v>(
        &'a self,
        version: &'v [u8],
    ) -> impl Iterator<Item = (u32, Verdict<'a>)> + use<'a, 'v> {
        let suffix = &self.fixes[self.first_lacking(version)..];
        let fixes = suffix.iter().map(|fix| (fix.advisory, Verdict::FixedBy(&fix.fixed)));
        let judged =
            self.ranges.iter().map(|(advisory, ranges)| (*advisory, ranges.judge(version)));
        fixes.chain(judged.filter(|(_, verdict)| *verdict != Verdict::NotAffected))
    }

    /// How many advisories a version lacks, by whether a fix is known.
    pub(super) fn count(&self, version: &[u8]) -> Missing {
        let fixable = number(self.fixes.len() - self.first_lacking(version));
        let judged = self.ranges.iter().map(|(_, ranges)| Missing::of(ranges.judge(version)));
        judged.fold(Missing { fixable, unfixed: 0 }, Missing::add)
    }

    /// Where the fixes begin that come after this version.
    fn first_lacking(&self, version: &[u8]) -> usize {
        self.fixes.partition_point(|fix| fix.fixed.key.as_bytes() <= version)
    }
}
