//! The names of lanes: which package of which release something is said about.

use std::collections::HashMap;

use crate::advisory::PackageScope;
use crate::version::VersionKind;

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
    /// By ecosystem.
    releases: HashMap<Box<str>, Packages>,
    lanes: usize,
}

/// The lanes of one release by package.
type Packages = HashMap<Box<str>, Vec<(Variant, LaneId)>>;

/// What else is in a [`LaneName`]; one or two of them share a package's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    kind: VersionKind,
    scope: PackageScope,
    stream: Stream,
}

impl LaneName<'_> {
    const fn variant(self) -> Variant {
        Variant { kind: self.kind, scope: self.scope, stream: self.stream }
    }
}

impl LaneDirectory {
    /// Looks lanes up one after the other.
    pub(super) fn lookup(&self) -> Lookup<'_> {
        Lookup { directory: self, ecosystem: String::new(), packages: None }
    }

    /// The lane of this name, a new one where there is none.
    pub(super) fn find_or_add(&mut self, lane: LaneName<'_>) -> LaneId {
        self.lookup().find(lane).unwrap_or_else(|| {
            let added = LaneId(number(self.lanes));
            self.lanes += 1;
            let packages = self.releases.entry(lane.ecosystem.into()).or_default();
            packages.entry(lane.name.into()).or_default().push((lane.variant(), added));
            added
        })
    }
}

/// Looks lanes up; remembers the release last asked for, because names of one release come
/// together.
#[derive(Debug, Clone)]
pub(super) struct Lookup<'a> {
    directory: &'a LaneDirectory,
    ecosystem: String,
    packages: Option<&'a Packages>,
}

impl Lookup<'_> {
    pub(super) fn find(&mut self, lane: LaneName<'_>) -> Option<LaneId> {
        if self.packages.is_none() || self.ecosystem != lane.ecosystem {
            lane.ecosystem.clone_into(&mut self.ecosystem);
            self.packages = self.directory.releases.get(lane.ecosystem);
        }
        let variants = self.packages?.get(lane.name)?;
        let found = variants.iter().find(|(variant, _)| *variant == lane.variant());
        found.map(|(_, lane)| *lane)
    }
}

/// Lanes, cells and sets are numbered with 32 bits.
pub(super) fn number(position: usize) -> u32 {
    u32::try_from(position).expect("fewer than 2^32 of them fit into memory")
}
