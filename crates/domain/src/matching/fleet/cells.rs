//! Cells: one version in one lane, shared by all sets that hold it.

use std::cmp::Ordering;
use std::num::NonZeroUsize;
use std::thread;

use roaring::RoaringBitmap;

use super::{AdvisoryId, SetId};
use crate::matching::index::Index;
use crate::matching::lane::{LaneId, number};
use crate::matching::missing::Missing;
use crate::matching::rows::{Prefix, Said, prefix};
use crate::version::VersionKey;

/// Position of a cell; reused once no set holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellId(u32);

impl CellId {
    const fn position(self) -> usize {
        self.0 as usize
    }
}

/// All cells of a fleet.
#[derive(Debug, Clone, Default)]
pub(super) struct Cells {
    all: Vec<Cell>,
    /// Beside the cells, because totals read nothing else.
    missing: Vec<Missing>,
    /// By position of the lane, ascending by version.
    of_lane: Vec<Vec<Placed>>,
    free: Vec<CellId>,
}

#[derive(Debug, Clone)]
struct Cell {
    lane: LaneId,
    version: VersionKey,
    /// The sets that hold it.
    sets: RoaringBitmap,
}

/// A cell among those of its lane, with its version's first bytes: they decide nearly every
/// comparison, and the cells themselves lie far apart.
#[derive(Debug, Clone, Copy)]
struct Placed {
    prefix: Prefix,
    cell: CellId,
}

impl Cells {
    /// How many are in use.
    pub(super) fn len(&self) -> usize {
        self.all.len() - self.free.len()
    }

    /// The cell of a version, a new one where there is none.
    pub(super) fn find_or_add(&mut self, lane: LaneId, version: &[u8], index: &Index) -> CellId {
        if self.of_lane.len() <= lane.position() {
            self.of_lane.resize_with(lane.position() + 1, Vec::new);
        }
        let Self { all, of_lane, missing, free } = self;
        let of_lane = &mut of_lane[lane.position()];
        let prefix = prefix(version);
        match of_lane.binary_search_by(|placed| order(all, placed, prefix, version)) {
            Ok(place) => of_lane[place].cell,
            Err(place) => {
                let cell = Cell { lane, version: version.into(), sets: RoaringBitmap::new() };
                let lacking = index.at(lane).count(version);
                let id = free.pop().unwrap_or(CellId(number(all.len())));
                if let Some(slot) = all.get_mut(id.position()) {
                    *slot = cell;
                    missing[id.position()] = lacking;
                } else {
                    all.push(cell);
                    missing.push(lacking);
                }
                of_lane.insert(place, Placed { prefix, cell: id });
                id
            }
        }
    }

    pub(super) fn enter(&mut self, cell: CellId, set: SetId) {
        self.all[cell.position()].sets.insert(set.0);
    }

    /// The set no longer holds the cell; a cell that no set holds is dropped.
    pub(super) fn leave(&mut self, id: CellId, set: SetId) {
        let cell = &mut self.all[id.position()];
        cell.sets.remove(set.0);
        if cell.sets.is_empty() {
            self.of_lane[cell.lane.position()].retain(|other| other.cell != id);
            self.missing[id.position()] = Missing::default();
            self.free.push(id);
        }
    }

    pub(super) fn sets_of(&self, cell: CellId) -> impl Iterator<Item = SetId> {
        self.all[cell.position()].sets.iter().map(SetId)
    }

    pub(super) fn bitmap_of(&self, cell: CellId) -> &RoaringBitmap {
        &self.all[cell.position()].sets
    }

    pub(super) fn missing_mut(&mut self, cell: CellId) -> &mut Missing {
        &mut self.missing[cell.position()]
    }

    pub(super) fn total(&self, cells: &[CellId]) -> Missing {
        cells.iter().fold(Missing::default(), |sum, cell| sum + self.missing[cell.position()])
    }

    /// The cells that an advisory concerns, and how each counts.
    pub(super) fn affected(&self, index: &Index, advisory: AdvisoryId) -> Vec<(CellId, Missing)> {
        let mut affected = Vec::new();
        for (lane, said) in index.said_by(advisory.0) {
            let Some(cells) = self.of_lane.get(lane.position()) else { continue };
            match said {
                Said::FixedBy(fixed) => {
                    let start = prefix(fixed.key);
                    let before = cells.partition_point(|placed| {
                        order(&self.all, placed, start, fixed.key).is_lt()
                    });
                    let one = Missing { fixable: 1, unfixed: 0 };
                    affected.extend(cells[..before].iter().map(|placed| (placed.cell, one)));
                }
                Said::Ranges(ranges) => {
                    let judged = cells.iter().map(|placed| {
                        let version = self.all[placed.cell.position()].version.as_bytes();
                        (placed.cell, Missing::of(ranges.judge(version)))
                    });
                    affected.extend(judged.filter(|(_, missing)| *missing != Missing::default()));
                }
            }
        }
        affected
    }

    /// Counts every cell anew.
    pub(super) fn recount(&mut self, index: &Index, workers: NonZeroUsize) {
        let share = self.all.len().div_ceil(workers.get()).max(1);
        thread::scope(|scope| {
            for (cells, missing) in self.all.chunks(share).zip(self.missing.chunks_mut(share)) {
                scope.spawn(move || {
                    for (cell, missing) in cells.iter().zip(missing) {
                        let is_used = !cell.sets.is_empty();
                        *missing = if is_used {
                            index.at(cell.lane).count(cell.version.as_bytes())
                        } else {
                            Missing::default()
                        };
                    }
                });
            }
        });
    }
}

fn order(all: &[Cell], placed: &Placed, start: Prefix, version: &[u8]) -> Ordering {
    let whole = || all[placed.cell.position()].version.as_bytes().cmp(version);
    placed.prefix.cmp(&start).then_with(whole)
}
