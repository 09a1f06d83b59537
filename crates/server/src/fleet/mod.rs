//! The fleet check: keeps telling what every observed system lacks.
//!
//! One process at a time judges package sets whose turn it is, or that something new may concern,
//! and carries what it finds over to the findings of the systems that have them. Every process
//! keeps the fleet in memory ([`Exposure`]), to say at once whom a new advisory concerns.

mod exposure;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use collect::osv;
use domain::advisory::Advisory;
use domain::check::Report;
use domain::cloud::TenantId;
use domain::fleet::PackageSet;
use domain::release::Content;
use jiff::{SignedDuration, Timestamp};
use store::{Actor, AdvisoryState, LONGEST_PAGE, PageRequest, SetToCheck, Store, StoreError};
use tokio::sync::Notify;

use crate::turn::Turn;

pub(crate) use exposure::Exposure;

/// How old a check may be before it says nothing about now.
pub(crate) const FRESH: SignedDuration = SignedDuration::from_hours(24);

/// How often a package set is checked again; archives publish several times a day.
const EVERY: SignedDuration = SignedDuration::from_hours(6);

/// How soon it is tried again where something could not be told.
const AGAIN: SignedDuration = SignedDuration::from_mins(15);

/// How long a process may judge before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(10);

/// How often is looked for something to do.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Package sets judged together: they share what is read from archives, and their reports are in
/// memory at once.
const TOGETHER: u16 = 200;

/// Systems whose findings are brought up to date in one commit.
const CARRIED: u16 = 100;

/// Tells what package sets lack, with all that official sources say. It may take its time: it runs
/// on a thread of its own.
pub trait Judge: Send + Sync + 'static {
    /// One report for each case, in their order.
    fn judge(&self, cases: &[Case], at: Timestamp) -> Vec<Report>;

    /// What brings each system to the latest of the source packages that are named, by their exact
    /// packages; or why that is not known, in words. In their order.
    fn contents(&self, wants: &[Want], _at: Timestamp) -> Vec<Result<Content, String>> {
        wants.iter().map(|_| Err("no official source is known".to_owned())).collect()
    }
}

/// A system that is to be brought to the latest.
#[derive(Debug, Clone)]
pub struct Want {
    /// What is installed.
    pub set: PackageSet,
    /// The source packages whose patches are wanted.
    pub sources: BTreeSet<String>,
}

/// A package set to be judged.
#[derive(Debug, Clone)]
pub struct Case {
    /// What is installed.
    pub set: PackageSet,
    /// What people brought that concerns the set's tenant; many cases share one list.
    pub advisories: Arc<Vec<Advisory>>,
}

/// The fleet check of a process.
pub struct Fleet {
    store: Store,
    judge: Arc<dyn Judge>,
    turn: Turn,
    wake: Notify,
    exposure: Mutex<Exposure>,
}

impl Fleet {
    /// A fleet check that has not begun.
    pub fn new(store: Store, judge: Arc<dyn Judge>) -> Self {
        let turn = Turn::new(&store, "fleet", LEASE);
        Self { store, judge, turn, wake: Notify::new(), exposure: Mutex::default() }
    }

    /// Looks for something to do at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Checks until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let pause = match self.step().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the fleet is not checked"
                    );
                    PAUSE
                }
            };
            tokio::select! {
                () = &mut end => break,
                () = self.wake.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.turn.give_back().await;
    }

    /// One step; says whether there may be more to do at once.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<bool, StoreError> {
        self.follow().await?;
        if !self.turn.is_ours().await? {
            return Ok(false);
        }
        let judged = self.judge_some().await?;
        let carried = self.store.apply_checks(CARRIED).await?;
        let expired = self.store.expire_acceptances(CARRIED).await?;
        Ok(judged + carried + expired > 0)
    }

    /// Judges package sets whose turn it is; says how many there were.
    async fn judge_some(&self) -> Result<u64, StoreError> {
        let now = self.store.environment().now();
        let sets = self.store.sets_to_check(now - EVERY, now - AGAIN, TOGETHER).await?;
        if sets.is_empty() {
            return Ok(0);
        }
        let advisories = Brought::load(&self.store).await?;
        let cases: Vec<Case> = sets
            .iter()
            .map(|SetToCheck { tenant, set, .. }| Case {
                set: set.clone(),
                advisories: advisories.of(*tenant),
            })
            .collect();
        let judge = Arc::clone(&self.judge);
        let reports =
            tokio::task::spawn_blocking(move || judge.judge(&cases, now)).await.map_err(|_| {
                StoreError::Corrupt { what: "a package set made the check fail".into() }
            })?;
        for (set, report) in sets.iter().zip(reports) {
            self.store.record_set_check(set.tenant, set.digest, report).await?;
        }
        Ok(sets.len() as u64)
    }

    /// What brings systems to the latest, or why that is not known; in their order.
    pub(crate) async fn contents(&self, wants: Vec<Want>) -> Vec<Result<Content, String>> {
        let (judge, now, count) =
            (Arc::clone(&self.judge), self.store.environment().now(), wants.len());
        let found = tokio::task::spawn_blocking(move || judge.contents(&wants, now)).await;
        found.unwrap_or_else(|_| vec![Err("looking for packages failed".to_owned()); count])
    }

    /// Brings the fleet in memory to what the store says.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn follow(&self) -> Result<(), StoreError> {
        let missing = self.exposure().missing_from(&self.store);
        let news = missing.load(&self.store, |set| self.exposure().knows(set)).await?;
        self.exposure().take(news);
        Ok(())
    }

    pub(crate) fn exposure(&self) -> MutexGuard<'_, Exposure> {
        self.exposure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The advisories that people brought, for whom they concern.
struct Brought {
    everybody: Arc<Vec<Advisory>>,
    /// With those for everybody.
    of_tenant: BTreeMap<TenantId, Arc<Vec<Advisory>>>,
}

impl Brought {
    async fn load(store: &Store) -> Result<Self, StoreError> {
        let (mut everybody, mut own) = (Vec::new(), BTreeMap::<_, Vec<Advisory>>::new());
        let mut request = PageRequest { after: None, limit: LONGEST_PAGE };
        loop {
            let page = store.advisories(&Actor::System, &request).await?;
            for brought in page.items {
                // It was whole when it was taken in.
                let Some(advisory) = read_osv(&brought.document) else { continue };
                match brought.state {
                    AdvisoryState::Accepted => everybody.push(advisory),
                    AdvisoryState::Submitted => {
                        own.entry(brought.tenant).or_default().push(advisory);
                    }
                    AdvisoryState::Rejected | AdvisoryState::Withdrawn => {}
                }
            }
            if page.next.is_none() {
                break;
            }
            request.after = page.next;
        }
        let of_tenant = own
            .into_iter()
            .map(|(tenant, mut advisories)| {
                advisories.extend(everybody.iter().cloned());
                (tenant, Arc::new(advisories))
            })
            .collect();
        Ok(Self { everybody: Arc::new(everybody), of_tenant })
    }

    fn of(&self, tenant: TenantId) -> Arc<Vec<Advisory>> {
        Arc::clone(self.of_tenant.get(&tenant).unwrap_or(&self.everybody))
    }
}

/// An OSV record that concerns some distribution.
pub(crate) fn read_osv(document: &str) -> Option<Advisory> {
    let load = osv::load_bytes("record.json", document.as_bytes(), &osv::Wanted::Everything);
    load.ok().and_then(|load| load.advisories.into_iter().next())
}
