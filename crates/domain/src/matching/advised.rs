//! What an advisory says about the versions of one package.

use crate::advisory::{Advisory, Affected, AffectedRange, RangeEnd};
use crate::version::{VersionKey, VersionKind};

use super::ecosystem::canonical;
use super::lane::{LaneName, Stream};

/// A version that contains a fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fixed<'a> {
    pub(super) key: &'a [u8],
    pub(super) text: &'a str,
}

/// An advisory's statement about the versions in one lane.
#[derive(Debug, Clone)]
pub(super) enum Statement<'a> {
    /// Every version before this one is affected: nearly all statements, and the fast path.
    FixedBy(&'a str),
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
    Fixed { key: VersionKey, text: Box<str> },
    LastAffected(VersionKey),
    Open,
}

/// Whether a version is affected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict<'a> {
    NotAffected,
    /// Affected, and this version has the fix.
    FixedBy(Fixed<'a>),
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
        let speaking = self.intervals.iter().filter(|interval| listed || interval.holds(version));
        let later = speaking.filter_map(Interval::fixed).filter(|fixed| fixed.key > version);
        later.min().map_or(Verdict::Unfixed, Verdict::FixedBy)
    }
}

impl Interval {
    fn new(kind: VersionKind, range: &AffectedRange) -> Self {
        let end = match &range.end {
            RangeEnd::Fixed(version) => {
                End::Fixed { key: kind.key(version), text: version.as_str().into() }
            }
            RangeEnd::LastAffected(version) => End::LastAffected(kind.key(version)),
            RangeEnd::Unfixed => End::Open,
        };
        Self { introduced: introduced(range).map(|version| kind.key(version)), end }
    }

    fn holds(&self, version: &[u8]) -> bool {
        let has_begun =
            self.introduced.as_ref().is_none_or(|introduced| introduced.as_bytes() <= version);
        has_begun
            && match &self.end {
                End::Fixed { key, .. } => version < key.as_bytes(),
                End::LastAffected(last) => version <= last.as_bytes(),
                End::Open => true,
            }
    }

    fn fixed(&self) -> Option<Fixed<'_>> {
        match &self.end {
            End::Fixed { key, text } => Some(Fixed { key: key.as_bytes(), text }),
            End::LastAffected(_) | End::Open => None,
        }
    }
}

/// The first affected version; OSV writes `0` for "before any other version".
fn introduced(range: &AffectedRange) -> Option<&str> {
    range.introduced.as_deref().filter(|version| *version != "0")
}

/// Appends what an advisory says, one statement for each lane; nothing once it was withdrawn.
pub(super) fn push_statements<'a>(
    advisory: &'a Advisory,
    out: &mut Vec<(LaneName<'a>, Statement<'a>)>,
) {
    if advisory.withdrawn.is_some() {
        return;
    }
    if let [affected] = advisory.affected.as_slice()
        && let Some(fixed) = one_fix(affected)
    {
        out.push((
            lane(affected, Stream::of(affected.version_kind, fixed)),
            Statement::FixedBy(fixed),
        ));
        return;
    }
    let mut pieces: Vec<(LaneName<'a>, Piece<'a>)> = Vec::new();
    for affected in &advisory.affected {
        push_pieces(affected, &mut pieces);
    }
    // Stable: the order of pieces inside a lane stays that of the record.
    pieces.sort_by_key(|(lane, _)| *lane);
    for of_lane in pieces.chunk_by(|(a, _), (b, _)| a == b) {
        let name = of_lane[0].0;
        out.push((name, statement(name.kind, of_lane.iter().map(|(_, piece)| *piece))));
    }
}

/// The fix, where that is all there is to say.
fn one_fix(affected: &Affected) -> Option<&str> {
    match affected.ranges.as_slice() {
        [range @ AffectedRange { end: RangeEnd::Fixed(fixed), .. }]
            if introduced(range).is_none() && affected.versions.is_empty() =>
        {
            Some(fixed)
        }
        _ => None,
    }
}

fn lane(affected: &Affected, stream: Stream) -> LaneName<'_> {
    LaneName {
        ecosystem: canonical(&affected.ecosystem),
        name: &affected.package,
        kind: affected.version_kind,
        scope: affected.scope,
        stream,
    }
}

/// A part of what is said about one lane.
#[derive(Clone, Copy)]
enum Piece<'a> {
    Range(&'a AffectedRange),
    Version(&'a str),
}

fn push_pieces<'a>(affected: &'a Affected, pieces: &mut Vec<(LaneName<'a>, Piece<'a>)>) {
    let kind = affected.version_kind;
    for range in &affected.ranges {
        match &range.end {
            RangeEnd::Fixed(version) | RangeEnd::LastAffected(version) => {
                pieces.push((lane(affected, Stream::of(kind, version)), Piece::Range(range)));
            }
            RangeEnd::Unfixed => {
                let streams = Stream::all(kind).iter();
                pieces.extend(streams.map(|&it| (lane(affected, it), Piece::Range(range))));
            }
        }
    }
    for version in &affected.versions {
        pieces.push((lane(affected, Stream::of(kind, version)), Piece::Version(version)));
    }
}

fn statement<'a>(
    kind: VersionKind,
    pieces: impl ExactSizeIterator<Item = Piece<'a>>,
) -> Statement<'a> {
    let is_single = pieces.len() == 1;
    let mut ranges = Ranges::default();
    for piece in pieces {
        match piece {
            Piece::Range(range @ AffectedRange { end: RangeEnd::Fixed(fixed), .. })
                if is_single && introduced(range).is_none() =>
            {
                return Statement::FixedBy(fixed);
            }
            Piece::Range(range) => ranges.intervals.push(Interval::new(kind, range)),
            Piece::Version(version) => ranges.versions.push(kind.key(version)),
        }
    }
    Statement::Ranges(ranges)
}
