//! In which wave an item has its turn.
//!
//! Canaries first. Every other item draws a seat between 0 and 1 from its id and the release's: a
//! plan made anew, or for a fleet that has grown, leaves it where it was, and it is not always the
//! same items that go first. Then everything only ever moves to a later wave: behind what it depends
//! on, and out of a wave that is full.

use std::collections::HashMap;

use super::fleet::{Order, Target};
use super::profile::Step;
use super::terrain::{Node, Terrain};
use crate::cloud::{CiId, ReleaseId, TenantId};

/// Position in [`Rules`], 0 for the canaries.
pub(super) type WaveNumber = u16;

/// Where an item sits: its wave, and its place among the wave's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    pub(super) wave: WaveNumber,
    /// A number drawn over all numbers of 64 bits.
    pub(super) draw: u64,
}

/// The number that an item draws in a release.
fn draw(release: ReleaseId, ci: CiId) -> u64 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&release.as_bytes());
    bytes[16..].copy_from_slice(&ci.as_bytes());
    let hash = blake3::hash(&bytes);
    hash.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The first wave that reaches as far as the drawn number, counted from 1.
fn reached(draw: u64, steps: &[Step]) -> WaveNumber {
    // In parts of 2³², which is fine enough for whole percent.
    let part = draw >> 32;
    let reaches = |step: &Step| part * 100 < u64::from(step.percent.get()) << 32;
    let place = steps.iter().position(reaches).unwrap_or(steps.len() - 1);
    WaveNumber::try_from(place + 1).unwrap_or(WaveNumber::MAX)
}

fn is_canary(order: &Order<'_>, target: &Target) -> bool {
    let labels = &order.profile.canary().labels;
    order.canaries.contains(&target.ci)
        || target.labels.iter().any(|(key, value)| labels.get(key) == Some(value))
}

/// Seats of all items, by node; those with nothing to do have the one that others would have to
/// follow. `in_order` has each item behind what it depends on.
pub(super) fn seats(
    order: &Order<'_>,
    targets: &[Target],
    terrain: &Terrain,
    in_order: &[(Node, u32)],
) -> Vec<Seat> {
    let steps = order.profile.steps();
    let mut seats: Vec<Seat> = targets
        .iter()
        .map(|target| {
            let draw = draw(order.release, target.ci);
            let wave = match &target.work {
                None => 0,
                Some(_) if is_canary(order, target) => 0,
                Some(_) => reached(draw, steps),
            };
            Seat { wave, draw }
        })
        .collect();
    for &(node, _) in in_order {
        behind(&mut seats, terrain, node);
    }
    // Whoever is depended on has its place before the others ask for theirs.
    let mut turns: Vec<(WaveNumber, u32, u64, Node)> = in_order
        .iter()
        .map(|&(node, depth)| {
            let Seat { wave, draw } = seats[node as usize];
            (wave, depth, draw, node)
        })
        .collect();
    turns.sort_unstable();
    let mut room = Room { order, waves: HashMap::new(), tenants: HashMap::new(), full: 0 };
    for (_, _, _, node) in turns {
        behind(&mut seats, terrain, node);
        if targets[node as usize].work.is_some() {
            let wave = &mut seats[node as usize].wave;
            *wave = room.place(*wave, terrain.node(node).tenant);
        }
    }
    seats
}

fn behind(seats: &mut [Seat], terrain: &Terrain, node: Node) {
    let needs = terrain.node(node).depends_on.iter().map(|&on| seats[on as usize].wave).max();
    let seat = &mut seats[node as usize];
    seat.wave = seat.wave.max(needs.unwrap_or(0));
}

/// What the caps leave in each wave.
struct Room<'a> {
    order: &'a Order<'a>,
    waves: HashMap<WaveNumber, u32>,
    tenants: HashMap<(TenantId, WaveNumber), u32>,
    /// Waves from 1 until before this one are known to be full.
    full: WaveNumber,
}

impl Room<'_> {
    /// The first wave from `wave` on that has room.
    fn place(&mut self, mut wave: WaveNumber, tenant: TenantId) -> WaveNumber {
        let caps = &self.order.caps;
        loop {
            if (1..self.full).contains(&wave) {
                wave = self.full;
            }
            let in_wave = self.waves.entry(wave).or_default();
            if *in_wave >= caps.per_wave.get() && wave < WaveNumber::MAX {
                if wave == self.full || (self.full == 0 && wave == 1) {
                    self.full = wave + 1;
                }
                wave += 1;
                continue;
            }
            let of_tenant = self.tenants.entry((tenant, wave)).or_default();
            if *of_tenant >= caps.per_tenant.get() && wave < WaveNumber::MAX {
                wave += 1;
                continue;
            }
            *in_wave += 1;
            *of_tenant += 1;
            return wave;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::profile::Profile;
    use super::*;

    #[test]
    fn a_wave_gets_its_part_of_the_fleet() {
        let profile = Profile::builtin("default").unwrap();
        let release = ReleaseId::of_content([9; 16]);
        let mut counts = [0_i32; 8];
        for number in 0..20_000_u32 {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            counts[usize::from(reached(draw(release, CiId::of_content(id)), profile.steps()))] += 1;
        }

        for (count, percent) in counts.into_iter().zip([0, 1, 4, 10, 25, 20, 30, 10]) {
            assert!((count - percent * 200).abs() < 200, "{count} for {percent} %");
        }
    }

    #[test]
    fn another_release_begins_with_other_items() {
        let ci = CiId::of_content([1; 16]);
        let releases = [1, 2].map(|number| ReleaseId::of_content([number; 16]));

        assert_ne!(draw(releases[0], ci), draw(releases[1], ci));
        assert_eq!(draw(releases[0], ci), draw(releases[0], ci));
    }
}
