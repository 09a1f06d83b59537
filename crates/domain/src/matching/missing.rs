//! How much is missing.

use std::ops::{Add, AddAssign, SubAssign};

use super::advised::Verdict;

/// How many advisories concern a package, a set of packages or a system.
///
/// Of a set, an advisory counts once for each package that it names and the set holds: once for a
/// source package, however many binaries were built from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Missing {
    /// Those with a fix that is not installed.
    pub fixable: u32,
    /// Those without a known fix.
    pub unfixed: u32,
}

impl Missing {
    /// What one verdict adds.
    pub(super) const fn of(verdict: Verdict<'_>) -> Self {
        match verdict {
            Verdict::NotAffected => Self { fixable: 0, unfixed: 0 },
            Verdict::FixedBy(_) => Self { fixable: 1, unfixed: 0 },
            Verdict::Unfixed => Self { fixable: 0, unfixed: 1 },
        }
    }
}

impl Add for Missing {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { fixable: self.fixable + other.fixable, unfixed: self.unfixed + other.unfixed }
    }
}

impl AddAssign for Missing {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Missing {
    fn sub_assign(&mut self, other: Self) {
        self.fixable -= other.fixable;
        self.unfixed -= other.unfixed;
    }
}
