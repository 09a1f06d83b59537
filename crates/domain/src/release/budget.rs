//! What is out at the moment, and what may still go out: the one place where the limits of
//! availability stand. The planner asks it in planned time, the run in real time.

use super::fleet::{Caps, Condition};
use super::terrain::{Node, Terrain};

/// Most of an update domain that is out at a time, in percent; one item always may.
pub const DOMAIN_PERCENT: u32 = 20;

/// Counts of what is out.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    max_unavailable: u32,
    /// By node, for how many reasons it is out.
    reasons: Vec<u8>,
    /// By node, whether it stopped to keep other zones waiting.
    is_aside: Vec<bool>,
    /// By node, whether its services lack it for other reasons than the release.
    is_lacking: Vec<bool>,
    total: u32,
    zones: Vec<u32>,
    domains: Vec<u32>,
    services: Vec<u32>,
}

/// A limit that would be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    Total {
        down: u32,
        most: u32,
    },
    /// Another zone has items out.
    Zone {
        zone: u32,
        down: u32,
    },
    Domain {
        domain: u32,
        down: u32,
        most: u32,
    },
    Service {
        service: u32,
        down: u32,
    },
}

impl Budget {
    pub(super) fn new(terrain: &Terrain, caps: &Caps) -> Self {
        let mut budget = Self {
            max_unavailable: caps.max_unavailable.get(),
            reasons: vec![0; terrain.nodes.len()],
            is_aside: vec![false; terrain.nodes.len()],
            is_lacking: vec![false; terrain.nodes.len()],
            total: 0,
            zones: vec![0; terrain.zones.len()],
            domains: vec![0; terrain.domains.len()],
            services: vec![0; terrain.services.len()],
        };
        for (node, item) in (0..).zip(&terrain.nodes) {
            if item.condition == Condition::Down {
                budget.lack(terrain, node);
            }
        }
        budget
    }

    /// Whether nothing at all may go out.
    pub(super) const fn is_spent(&self) -> bool {
        self.total >= self.max_unavailable
    }

    /// The zone that has items out, if the others have to wait for it.
    pub(super) fn zone(&self) -> Option<u32> {
        let place = self.zones.iter().position(|&down| down > 0)?;
        u32::try_from(place).ok()
    }

    /// The first limit that would be broken if all of these went out together.
    pub(super) fn limit(&self, terrain: &Terrain, nodes: &[Node]) -> Option<Limit> {
        debug_assert!(!nodes.is_empty(), "somebody goes out");
        let new = || nodes.iter().copied().filter(|&node| self.reasons[node as usize] == 0);
        let adding = u32::try_from(new().count()).unwrap_or(u32::MAX);
        if adding > 0 && self.total + adding > self.max_unavailable {
            return Some(Limit::Total { down: self.total, most: self.max_unavailable });
        }
        for (place, node) in new().enumerate() {
            let item = terrain.node(node);
            // With those of the list ahead of it.
            let ahead = |is_same: &dyn Fn(Node) -> bool| {
                let count = new().take(place).filter(|&other| is_same(other)).count();
                u32::try_from(count).unwrap_or(u32::MAX)
            };
            if let Some(zone) = item.zone {
                let is_other =
                    |other: Node| terrain.node(other).zone.is_some_and(|other| other != zone);
                let busy = (0..).zip(&self.zones).find(|&(other, &down)| other != zone && down > 0);
                if let Some((zone, &down)) = busy {
                    return Some(Limit::Zone { zone, down });
                }
                if ahead(&is_other) > 0 {
                    return Some(Limit::Zone { zone, down: 0 });
                }
            }
            if let Some(domain) = item.domain {
                let is_same = |other: Node| terrain.node(other).domain == Some(domain);
                let most =
                    u32::max(1, terrain.domains[domain as usize].size * DOMAIN_PERCENT / 100);
                let down = self.domains[domain as usize];
                if down + ahead(&is_same) >= most {
                    return Some(Limit::Domain { domain, down, most });
                }
            }
            for &service in &item.services {
                if self.is_lacking[node as usize] {
                    continue;
                }
                let is_same = |other: Node| {
                    let is_lacking = self.is_lacking[other as usize];
                    !is_lacking && terrain.node(other).services.contains(&service)
                };
                let down = self.services[service as usize];
                if down + ahead(&is_same) >= terrain.services[service as usize].spare {
                    return Some(Limit::Service { service, down });
                }
            }
        }
        None
    }

    /// An item goes out, for one more reason.
    pub(super) fn take(&mut self, terrain: &Terrain, node: Node) {
        let reasons = &mut self.reasons[node as usize];
        *reasons += 1;
        if *reasons == 1 {
            self.total += 1;
            self.count(terrain, node, |count| *count += 1);
        }
    }

    /// A reason for which an item is out is over.
    pub(super) fn give_back(&mut self, terrain: &Terrain, node: Node) {
        let reasons = &mut self.reasons[node as usize];
        debug_assert!(*reasons > 0, "nothing is given back that was not taken");
        *reasons = reasons.saturating_sub(1);
        if *reasons == 0 {
            self.total -= 1;
            self.count(terrain, node, |count| *count -= 1);
            self.is_aside[node as usize] = false;
        }
    }

    /// An item that is out keeps the other zones waiting no more. It stays out for all else.
    pub(super) fn set_aside(&mut self, terrain: &Terrain, node: Node) {
        if !std::mem::replace(&mut self.is_aside[node as usize], true) {
            let zone = terrain.node(node).zone;
            if let Some(zone) = zone {
                self.zones[zone as usize] -= 1;
            }
        }
    }

    /// An item works no more, and that is not the release's doing: its services lack it all the same.
    pub(super) fn lack(&mut self, terrain: &Terrain, node: Node) {
        let was_lacking = std::mem::replace(&mut self.is_lacking[node as usize], true);
        if !was_lacking && self.reasons[node as usize] == 0 {
            let services = &terrain.node(node).services;
            for &service in services {
                self.services[service as usize] += 1;
            }
        }
    }

    /// It works again.
    pub(super) fn mend(&mut self, terrain: &Terrain, node: Node) {
        let was_lacking = std::mem::replace(&mut self.is_lacking[node as usize], false);
        if was_lacking && self.reasons[node as usize] == 0 {
            let services = &terrain.node(node).services;
            for &service in services {
                self.services[service as usize] -= 1;
            }
        }
    }

    fn count(&mut self, terrain: &Terrain, node: Node, count: impl Fn(&mut u32)) {
        let item = terrain.node(node);
        if let (Some(zone), false) = (item.zone, self.is_aside[node as usize]) {
            count(&mut self.zones[zone as usize]);
        }
        if let Some(domain) = item.domain {
            count(&mut self.domains[domain as usize]);
        }
        if !self.is_lacking[node as usize] {
            item.services.iter().for_each(|&service| count(&mut self.services[service as usize]));
        }
    }
}
