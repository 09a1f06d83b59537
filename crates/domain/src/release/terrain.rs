//! The fleet with numbers in the place of names: what hangs together with what.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::fleet::{Condition, Fleet, Mobility, Target};
use crate::cloud::{CiId, Class, Name, TenantId};

/// Place of an item in [`Terrain::nodes`].
pub(super) type Node = u32;

/// Everything that availability and order are decided from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terrain {
    pub(super) nodes: Vec<Item>,
    pub(super) zones: Vec<Name>,
    pub(super) domains: Vec<Domain>,
    pub(super) services: Vec<Members>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Item {
    pub(super) ci: CiId,
    pub(super) tenant: TenantId,
    pub(super) class: Class,
    pub(super) zone: Option<u32>,
    pub(super) domain: Option<u32>,
    pub(super) services: Vec<u32>,
    pub(super) depends_on: Vec<Node>,
    pub(super) runs_on: Option<Node>,
    pub(super) mobility: Mobility,
    pub(super) condition: Condition,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Domain {
    pub(super) name: Name,
    pub(super) size: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Members {
    pub(super) ci: CiId,
    pub(super) name: Name,
    pub(super) size: u32,
    /// Most of them that may be out.
    pub(super) spare: u32,
}

/// Why a fleet cannot be planned for at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFleet {
    /// An item or a service stands in it twice.
    #[error("{ci} stands twice in the fleet")]
    Twice {
        /// Which.
        ci: CiId,
    },
    /// A relation leads out of it.
    #[error("{of} {relation} {to}, which is not in the fleet")]
    Unknown {
        /// The item.
        of: CiId,
        /// `depends on`, `runs on`, `is a member of`.
        relation: &'static str,
        /// What is not there.
        to: CiId,
    },
    /// Items that wait for each other for ever.
    #[error(
        "these items depend on each other in a circle: {}",
        .items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" → ")
    )]
    Circle {
        /// The circle, from one item until before it comes again.
        items: Vec<CiId>,
    },
}

impl InvalidFleet {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Twice { .. } => "name it once",
            Self::Unknown { .. } => {
                "add the item to the view, with nothing to do, or end the relation"
            }
            Self::Circle { .. } => "end one of these relations, or release the items one by one",
        }
    }
}

impl Item {
    /// All of it, for a hash.
    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let Self { ci, tenant, class, zone, domain, services, depends_on, runs_on, .. } = self;
        let Self { mobility, condition, .. } = self;
        bytes.extend(ci.as_bytes());
        bytes.extend(tenant.as_bytes());
        for word in [class.as_str(), mobility.as_str(), condition.as_str()] {
            bytes.extend(word.as_bytes());
            bytes.push(0);
        }
        for place in [zone, domain, runs_on] {
            // No fleet has so many items that the last number is one of them.
            bytes.extend(place.unwrap_or(u32::MAX).to_le_bytes());
        }
        for places in [services, depends_on] {
            bytes.extend(places.len().to_le_bytes());
            for place in places {
                bytes.extend(place.to_le_bytes());
            }
        }
    }

    /// Whether it is emptied before it restarts.
    pub(super) const fn is_drained(&self) -> bool {
        matches!(self.class, Class::Hypervisor | Class::Host)
    }
}

/// An item and all that stops when it restarts: what runs on it and does not move, and what runs on
/// that.
pub(super) fn stopping(terrain: &Terrain, residents: &[Vec<Node>], node: Node) -> Vec<Node> {
    let mut nodes = vec![node];
    let mut next = 0;
    while let Some(&host) = nodes.get(next) {
        next += 1;
        for &resident in &residents[host as usize] {
            if terrain.node(resident).mobility == Mobility::Stops && !nodes.contains(&resident) {
                nodes.push(resident);
            }
        }
    }
    nodes
}

impl Terrain {
    /// # Errors
    /// As [`InvalidFleet`].
    pub(super) fn new(fleet: &Fleet) -> Result<Self, InvalidFleet> {
        let places = places(fleet.targets.iter().map(|target| target.ci))?;
        let services = places_of_services(fleet)?;
        let mut zones = Names::default();
        let mut domains = Names::default();
        let mut nodes = Vec::with_capacity(fleet.targets.len());
        for target in &fleet.targets {
            nodes.push(Item {
                ci: target.ci,
                tenant: target.tenant,
                class: target.class,
                zone: target.zone.as_ref().map(|name| zones.place(name)),
                domain: target.domain.as_ref().map(|name| domains.place(name)),
                services: found(target, "is a member of", &target.member_of, &services)?,
                depends_on: found(target, "depends on", &target.depends_on, &places)?,
                runs_on: found(target, "runs on", target.runs_on.as_slice(), &places)?.pop(),
                mobility: target.mobility,
                condition: target.condition,
            });
        }
        let mut domain_sizes = vec![0_u32; domains.names.len()];
        let mut service_sizes = vec![0_u32; fleet.services.len()];
        for node in &nodes {
            node.domain.into_iter().for_each(|domain| domain_sizes[domain as usize] += 1);
            node.services.iter().for_each(|&service| service_sizes[service as usize] += 1);
        }
        let domains = domains.names.into_iter().zip(domain_sizes);
        let members = fleet.services.iter().zip(service_sizes).map(|(service, size)| {
            let by_min = size.saturating_sub(service.min_available.at_least(size));
            let by_max = service.max_unavailable.map_or(size, |most| most.at_most(size));
            let (ci, name) = (service.ci, service.name.clone());
            Members { ci, name, size, spare: u32::min(by_min, by_max) }
        });
        Ok(Self {
            nodes,
            zones: zones.names.into_iter().cloned().collect(),
            domains: domains.map(|(name, size)| Domain { name: name.clone(), size }).collect(),
            services: members.collect(),
        })
    }

    pub(super) fn node(&self, node: Node) -> &Item {
        &self.nodes[node as usize]
    }

    /// All nodes, each after those that it depends on, with the number of steps to the furthest of
    /// them.
    ///
    /// # Errors
    /// [`InvalidFleet::Circle`].
    pub(super) fn in_order(&self) -> Result<Vec<(Node, u32)>, InvalidFleet> {
        let dependents = self.dependents();
        let mut missing: Vec<usize> = self.nodes.iter().map(|it| it.depends_on.len()).collect();
        let mut depths = vec![0; self.nodes.len()];
        let mut order: Vec<(Node, u32)> = self
            .nodes()
            .filter(|&node| missing[node as usize] == 0)
            .map(|node| (node, 0))
            .collect();
        let mut next = 0;
        while let Some(&(node, depth)) = order.get(next) {
            next += 1;
            for &after in &dependents[node as usize] {
                let place = after as usize;
                depths[place] = u32::max(depths[place], depth + 1);
                missing[place] -= 1;
                if missing[place] == 0 {
                    order.push((after, depths[place]));
                }
            }
        }
        if order.len() == self.nodes.len() {
            return Ok(order);
        }
        Err(self.circle(&missing))
    }

    /// By node, those that depend on it.
    pub(super) fn dependents(&self) -> Vec<Vec<Node>> {
        let mut dependents = vec![Vec::new(); self.nodes.len()];
        for (node, item) in self.nodes().zip(&self.nodes) {
            item.depends_on.iter().for_each(|&on| dependents[on as usize].push(node));
        }
        dependents
    }

    /// By node, those that run on it.
    pub(super) fn residents(&self) -> Vec<Vec<Node>> {
        let mut residents = vec![Vec::new(); self.nodes.len()];
        for (node, item) in self.nodes().zip(&self.nodes) {
            item.runs_on.into_iter().for_each(|on| residents[on as usize].push(node));
        }
        residents
    }

    fn nodes(&self) -> impl Iterator<Item = Node> + use<> {
        0..u32::try_from(self.nodes.len()).unwrap_or(Node::MAX)
    }

    /// Each node that still misses something depends on another such one: following that leads
    /// round.
    fn circle(&self, missing: &[usize]) -> InvalidFleet {
        let is_stuck = |node: &Node| missing[*node as usize] > 0;
        let mut way: Vec<Node> = Vec::new();
        let mut at = self.nodes().find(is_stuck);
        while let Some(node) = at {
            if let Some(start) = way.iter().position(|&seen| seen == node) {
                let items = way[start..].iter().map(|&node| self.node(node).ci).collect();
                return InvalidFleet::Circle { items };
            }
            way.push(node);
            at = self.node(node).depends_on.iter().copied().find(is_stuck);
        }
        InvalidFleet::Circle { items: Vec::new() }
    }
}

fn places(ids: impl Iterator<Item = CiId>) -> Result<HashMap<CiId, u32>, InvalidFleet> {
    let mut places = HashMap::with_capacity(ids.size_hint().0);
    for (ci, place) in ids.zip(0..) {
        if places.insert(ci, place).is_some() {
            return Err(InvalidFleet::Twice { ci });
        }
    }
    Ok(places)
}

fn places_of_services(fleet: &Fleet) -> Result<HashMap<CiId, u32>, InvalidFleet> {
    places(fleet.services.iter().map(|service| service.ci))
}

/// Where these are, each once.
fn found(
    target: &Target,
    relation: &'static str,
    ids: &[CiId],
    places: &HashMap<CiId, u32>,
) -> Result<Vec<u32>, InvalidFleet> {
    let place = |to: &CiId| {
        let unknown = InvalidFleet::Unknown { of: target.ci, relation, to: *to };
        places.get(to).copied().ok_or(unknown)
    };
    let mut found = ids.iter().map(place).collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Names, in the order in which they come first.
#[derive(Default)]
struct Names<'a> {
    names: Vec<&'a Name>,
    places: HashMap<&'a Name, u32>,
}

impl<'a> Names<'a> {
    fn place(&mut self, name: &'a Name) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        *self.places.entry(name).or_insert_with(|| {
            self.names.push(name);
            next
        })
    }
}
