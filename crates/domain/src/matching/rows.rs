//! Lanes: everything said about one package of one release, ready to be compared with.

use std::cmp::Ordering;
use std::ops::Add as _;

use crate::version::VersionKind;

use super::advised::{Fixed, Ranges, Statement, Verdict};
use super::lane::number;
use super::missing::Missing;

/// The advisories that speak about one package.
///
/// Keys and texts of the fixed versions lie one behind the other, so that a lane is filled and
/// emptied without an allocation for each, and searching it reads few cache lines.
#[derive(Debug, Clone, Default)]
pub(super) struct Lane {
    /// Ascending by fixed version, then by advisory.
    fixes: Vec<Fix>,
    keys: Vec<u8>,
    texts: String,
    ranges: Vec<(u32, Ranges)>,
}

/// A fix; its key and its text end where the next ones begin.
#[derive(Debug, Clone, Copy)]
struct Fix {
    /// The key's first bytes, which decide nearly every comparison.
    prefix: Prefix,
    advisory: u32,
    key: Span,
    text: Span,
}

#[derive(Debug, Clone, Copy)]
struct Span {
    start: u32,
    end: u32,
}

impl Span {
    fn new(start: usize, end: usize) -> Self {
        Self { start: number(start), end: number(end) }
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// What one advisory says in a lane.
#[derive(Debug, Clone, Copy)]
pub(super) enum Said<'a> {
    FixedBy(Fixed<'a>),
    Ranges(&'a Ranges),
}

impl Lane {
    /// Adds a statement at the end; [`Lane::sort`] must follow.
    pub(super) fn push(&mut self, advisory: u32, kind: VersionKind, statement: &Statement<'_>) {
        match statement {
            Statement::FixedBy(version) => {
                let fix = self.store(advisory, kind, version);
                self.fixes.push(fix);
            }
            Statement::Ranges(ranges) => self.ranges.push((advisory, ranges.clone())),
        }
    }

    pub(super) fn sort(&mut self) {
        let Self { fixes, keys, .. } = self;
        fixes.sort_unstable_by(|a, b| {
            order(keys, a, b.prefix, &keys[b.key.range()]).then(a.advisory.cmp(&b.advisory))
        });
    }

    pub(super) fn clear(&mut self) {
        self.fixes.clear();
        self.keys.clear();
        self.texts.clear();
        self.ranges.clear();
    }

    /// Adds a statement at its place.
    pub(super) fn insert(&mut self, advisory: u32, kind: VersionKind, statement: Statement<'_>) {
        match statement {
            Statement::FixedBy(version) => {
                let fix = self.store(advisory, kind, version);
                // Numbers of advisories ascend, so it comes after all of the same version.
                let place = self.first_lacking(&self.keys[fix.key.range()]);
                self.fixes.insert(place, fix);
            }
            Statement::Ranges(ranges) => self.ranges.push((advisory, ranges)),
        }
    }

    /// Forgets a statement; its key and text stay until the lane is cleared.
    pub(super) fn remove(&mut self, advisory: u32) {
        self.fixes.retain(|fix| fix.advisory != advisory);
        self.ranges.retain(|(other, _)| *other != advisory);
    }

    fn store(&mut self, advisory: u32, kind: VersionKind, version: &str) -> Fix {
        let (key, text) = (self.keys.len(), self.texts.len());
        kind.write_key(version, &mut self.keys);
        self.texts.push_str(version);
        Fix {
            prefix: prefix(&self.keys[key..]),
            advisory,
            key: Span::new(key, self.keys.len()),
            text: Span::new(text, self.texts.len()),
        }
    }

    /// What one advisory says here; the lane holds at most one statement of each.
    pub(super) fn said_by(&self, advisory: u32) -> Option<Said<'_>> {
        let fix = self.fixes.iter().find(|fix| fix.advisory == advisory);
        fix.map(|fix| Said::FixedBy(self.fixed(fix))).or_else(|| {
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
        let fixes = suffix.iter().map(|fix| (fix.advisory, Verdict::FixedBy(self.fixed(fix))));
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

    fn fixed(&self, fix: &Fix) -> Fixed<'_> {
        Fixed { key: &self.keys[fix.key.range()], text: &self.texts[fix.text.range()] }
    }

    /// Where the fixes begin that come after this version.
    fn first_lacking(&self, version: &[u8]) -> usize {
        let start = prefix(version);
        self.fixes.partition_point(|fix| order(&self.keys, fix, start, version).is_le())
    }
}

fn order(keys: &[u8], fix: &Fix, start: Prefix, version: &[u8]) -> Ordering {
    fix.prefix.cmp(&start).then_with(|| keys[fix.key.range()].cmp(version))
}

/// A key's first bytes as numbers that order as they do.
pub(super) type Prefix = [u64; 4];

/// The first 32 bytes of a key; a shorter one is filled up with zeros, so equal prefixes decide
/// nothing. What stable updates append to a version (`+deb12u3`) begins to differ after the
/// sixteenth.
pub(super) fn prefix(key: &[u8]) -> Prefix {
    let mut first = [0; 32];
    let length = key.len().min(first.len());
    first[..length].copy_from_slice(&key[..length]);
    let mut words = Prefix::default();
    for (word, bytes) in words.iter_mut().zip(first.as_chunks().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    words
}
