//! What an advisory says about the versions of one package, in keys.

use crate::advisory::{Advisory, AffectedRange, RangeEnd};
use crate::version::{VersionKey, VersionKind};

use super::ecosystem::canonical;
use super::lane::{LaneName, Stream};

/// A version that contains a fix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FixedVersion {
    pub(super) key: VersionKey,
    pub(super) text: Box<str>,
}

impl FixedVersion {
    fn new(kind: VersionKind, version: &str) -> Self {
        Self { key: kind.key(version), text: version.into() }
    }
}

/// An advisory's statement about the versions in one lane.
#[derive(Debug, Clone)]
pub(super) enum Statement {
    /// Every version before this one is affected: nearly all statements, and the fast path.
    FixedBy(FixedVersion),
    /// Anything else.
    Ranges(Ranges),
}

/// Affected intervals and single versions.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges {
    intervals: Vec<Interval>,
    versions: Vec<VersionKey>,
}

#[derive(Debug, Clone)]
struct Interval {
    /// Inclusive; `None` is the beginning.
    introduced: Option<VersionKey>,
    end: End,
}

#[derive(Debug, Clone)]
enum End {
    Fixed(FixedVersion),
    LastAffected(VersionKey),
    Open,
}

/// Whether a version is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    NotAffected,
    /// Affected, and this version has the fix.
    FixedBy(&'a FixedVersion),
    /// Affected, and no fix is known.
    Unfixed,
}

impl Ranges {
    /// Judges a version. Of several fixes the nearest counts.
    pub(super) fn judge(&self, version: &[u8]) -> Verdict<'_> {
        let listed = self.versions.iter().any(|listed| listed.as_bytes() == version);
        let affected = listed || self.intervals.iter().any(|interval| interval.holds(version));
        if !affected {
            return Verdict::NotAffected;
        }
        // A version listed by itself is fixed by whatever fix comes after it.
        let nearest = self
            .intervals
            .iter()
            .filter(|interval| listed || interval.holds(version))
            .filter_map(|interval| match &interval.end {
                End::Fixed(fixed) if fixed.key.as_bytes() > version => Some(fixed),
                _ => None,
            })
            .min();
        nearest.map_or(Verdict::Unfixed, Verdict::FixedBy)
    }
}

impl Interval {
    fn new(kind: VersionKind, range: &AffectedRange) -> Self {
        // OSV: the version `0` stands for "before any other version".
        let introduced = range.introduced.as_deref().filter(|version| *version != "0");
        let end = match &range.end {
            RangeEnd::Fixed(version) => End::Fixed(FixedVersion::new(kind, version)),
            RangeEnd::LastAffected(version) => End::LastAffected(kind.key(version)),
            RangeEnd::Unfixed => End::Open,
        };
        Self { introduced: introduced.map(|version| kind.key(version)), end }
    }

    fn holds(&self, version: &[u8]) -> bool {
        let has_begun =
            self.introduced.as_ref().is_none_or(|introduced| introduced.as_bytes() <= version);
        has_begun
            && match &self.end {
                End::Fixed(fixed) => version < fixed.key.as_bytes(),
                End::LastAffected(last) => version <= last.as_bytes(),
                End::Open => true,
            }
    }
}

/// One piece of an advisory, before the pieces of a lane are put together.
enum Piece {
    Interval(Interval),
    Version(VersionKey),
}

/// What an advisory says, lane by lane; nothing once it has been withdrawn.
pub(super) fn statements(advisory: &Advisory) -> Vec<(LaneName<'_>, Statement)> {
    if advisory.withdrawn.is_some() {
        return Vec::new();
    }
    let mut pieces = pieces(advisory);
    // Stable: the order of pieces inside a lane stays that of the record.
    pieces.sort_by_key(|(lane, _)| *lane);
    let mut statements: Vec<(LaneName<'_>, Ranges)> = Vec::with_capacity(pieces.len());
    for (lane, piece) in pieces {
        if statements.last().is_none_or(|(last, _)| *last != lane) {
            statements.push((lane, Ranges::default()));
        }
        let Some((_, ranges)) = statements.last_mut() else { continue };
        match piece {
            Piece::Interval(interval) => ranges.intervals.push(interval),
            Piece::Version(version) => ranges.versions.push(version),
        }
    }
    statements.into_iter().map(|(lane, ranges)| (lane, ranges.simplified())).collect()
}

impl Ranges {
    fn simplified(mut self) -> Statement {
        let is_one_fix = self.versions.is_empty()
            && matches!(
                self.intervals.as_slice(),
                [Interval { introduced: None, end: End::Fixed(_) }]
            );
        match self.intervals.pop() {
            Some(Interval { end: End::Fixed(fixed), .. }) if is_one_fix => {
                Statement::FixedBy(fixed)
            }
            last => {
                self.intervals.extend(last);
                Statement::Ranges(self)
            }
        }
    }
}

fn pieces(advisory: &Advisory) -> Vec<(LaneName<'_>, Piece)> {
    let mut pieces = Vec::new();
    for affected in &advisory.affected {
        let kind = affected.version_kind;
        let lane = |stream| LaneName {
            ecosystem: canonical(&affected.ecosystem),
            kind,
            scope: affected.scope,
            name: &affected.package,
            stream,
        };
        for range in &affected.ranges {
            let interval = Interval::new(kind, range);
            match &range.end {
                RangeEnd::Fixed(version) | RangeEnd::LastAffected(version) => {
                    pieces.push((lane(Stream::of(kind, version)), Piece::Interval(interval)));
                }
                RangeEnd::Unfixed => {
                    for &stream in Stream::all(kind) {
                        pieces.push((lane(stream), Piece::Interval(interval.clone())));
                    }
                }
            }
        }
        for version in &affected.versions {
            let piece = Piece::Version(kind.key(version));
            pieces.push((lane(Stream::of(kind, version)), piece));
        }
    }
    pieces
}
