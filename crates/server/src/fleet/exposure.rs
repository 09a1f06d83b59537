//! The fleet in memory: whom an advisory concerns, at once.

use std::collections::{BTreeMap, HashMap};

use domain::advisory::Advisory;
use domain::cloud::{AdvisoryId, CiId, TenantId};
use domain::fleet::SetDigest;
use domain::matching::{self, VmId};
use jiff::{SignedDuration, Timestamp};
use store::{Actor, ObservedSystem, Store, StoreError};

use super::read_osv;

/// Systems read at once.
const CHUNK: u32 = 10_000;

/// How far back is looked again: another process's clock and commits may be so much behind.
const OVERLAP: SignedDuration = SignedDuration::from_secs(30);

/// Who has what installed, and what people brought about it.
#[derive(Default)]
pub(crate) struct Exposure {
    fleet: matching::Fleet,
    tenants: BTreeMap<TenantId, matching::TenantId>,
    systems: HashMap<CiId, (VmId, SetDigest)>,
    /// What matching knows of a set that at least one system had.
    sets: HashMap<SetDigest, matching::PackageSet>,
    advisories: HashMap<AdvisoryId, matching::AdvisoryId>,
    /// Up to when changes are here; none before everything was read once.
    read_until: Option<Timestamp>,
}

/// What is not in memory yet.
pub(super) struct Missing {
    since: Option<Timestamp>,
    now: Timestamp,
}

/// The same, read.
pub(super) struct News {
    until: Timestamp,
    systems: Vec<ObservedSystem>,
    sets: HashMap<SetDigest, matching::PackageSet>,
    retired: Vec<CiId>,
}

impl Exposure {
    /// How many systems an advisory concerns, by tenant.
    pub(crate) fn of(&mut self, id: AdvisoryId, document: &str) -> BTreeMap<TenantId, u32> {
        let known = match self.advisories.get(&id) {
            Some(&known) => known,
            None => match read_osv(document) {
                Some(advisory) => self.add(id, &advisory),
                None => return BTreeMap::new(),
            },
        };
        let concerned: BTreeMap<_, _> =
            self.fleet.exposed_to(known).tenants().into_iter().collect();
        self.tenants
            .iter()
            .filter_map(|(&tenant, number)| Some((tenant, *concerned.get(number)?)))
            .collect()
    }

    fn add(&mut self, id: AdvisoryId, advisory: &Advisory) -> matching::AdvisoryId {
        let added = self.fleet.add_advisory(advisory).advisory();
        self.advisories.insert(id, added);
        added
    }

    pub(super) fn missing_from(&self, store: &Store) -> Missing {
        Missing {
            since: self.read_until.map(|until| until - OVERLAP),
            now: store.environment().now(),
        }
    }

    pub(super) fn take(&mut self, news: News) {
        self.sets.extend(news.sets);
        for system in &news.systems {
            self.observe(system);
        }
        for ci in news.retired {
            if let Some((vm, _)) = self.systems.remove(&ci) {
                self.fleet.retire(vm);
            }
        }
        self.read_until = Some(news.until);
    }

    fn observe(&mut self, system: &ObservedSystem) {
        let ObservedSystem { ci, tenant, digest } = *system;
        if self.systems.get(&ci).is_some_and(|(_, known)| *known == digest) {
            return;
        }
        let Some(set) = self.sets.get(&digest) else { return };
        let vm = if let Some(&(vm, _)) = self.systems.get(&ci) {
            vm
        } else {
            let fleet = &mut self.fleet;
            let owner = *self.tenants.entry(tenant).or_insert_with(|| fleet.add_tenant());
            self.fleet.enrol(owner)
        };
        self.fleet.observe(vm, set);
        self.systems.insert(ci, (vm, digest));
    }

    pub(super) fn knows(&self, key: &SetDigest) -> bool {
        self.sets.contains_key(key)
    }
}

impl Missing {
    /// Reads all of it. Sets are read once each.
    pub(super) async fn load(
        self,
        store: &Store,
        is_known: impl Fn(&SetDigest) -> bool,
    ) -> Result<News, StoreError> {
        let mut news = News {
            until: self.now,
            systems: Vec::new(),
            sets: HashMap::new(),
            retired: Vec::new(),
        };
        if let Some(since) = self.since {
            news.systems = store.systems_observed_since(since).await?;
            news.retired = store.cis_retired_since(since).await?;
        } else {
            news.systems = all_systems(store).await?;
        }
        for system in &news.systems {
            let key = system.digest;
            if is_known(&key) || news.sets.contains_key(&key) {
                continue;
            }
            let set = store.package_set(&Actor::System, system.tenant, system.digest).await?;
            if let Some(set) = set {
                news.sets.insert(key, matching::PackageSet::of(set.inventory()));
            }
        }
        Ok(news)
    }
}

async fn all_systems(store: &Store) -> Result<Vec<ObservedSystem>, StoreError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let chunk = store.systems(after, CHUNK).await?;
        after = chunk.last().map(|system| system.ci);
        let is_last = chunk.len() < CHUNK as usize;
        all.extend(chunk);
        if is_last {
            return Ok(all);
        }
    }
}
