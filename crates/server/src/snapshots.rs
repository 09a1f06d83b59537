//! Snapshots at the places where machines live: what releases want of them is done here.
//!
//! One process at a time works them, by a lease. What it was at when it died is done again: each act at a place
//! may be asked for again.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::cloud::SnapshotId;
use jiff::SignedDuration;
use store::{Placement, Snapshot, SnapshotAct, Store, StoreError};
use tokio::task::JoinSet;

use crate::turn::Turn;

/// How long a process may work them before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked for what is due.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Acts at a time; each of them keeps a disk busy.
const AT_ONCE: usize = 8;

/// The places where machines live.
pub trait Places: fmt::Debug + Send + Sync {
    /// Keeps a machine's disks as they are, under the snapshot's id. Nothing happens where that is done.
    ///
    /// # Errors
    /// Why not, in words for people.
    fn take(&self, at: &Placement, snapshot: SnapshotId) -> Result<(), String>;

    /// Brings them back; the machine starts again if it ran. May be asked again.
    ///
    /// # Errors
    /// Why not, in words for people.
    fn bring_back(&self, at: &Placement, snapshot: SnapshotId) -> Result<(), String>;

    /// Gives up what was kept; the machine goes on. Nothing happens where that is done.
    ///
    /// # Errors
    /// Why not, in words for people.
    fn remove(&self, at: &Placement, snapshot: SnapshotId) -> Result<(), String>;
}

/// What works the snapshots of a store.
pub struct Snapshots {
    store: Store,
    places: Arc<dyn Places>,
    turn: Turn,
    /// Those that are being worked.
    busy: Arc<Mutex<BTreeSet<SnapshotId>>>,
}

impl Snapshots {
    /// One that does not run yet.
    pub fn new(store: Store, places: Arc<dyn Places>) -> Self {
        let turn = Turn::new(&store, "snapshots", LEASE);
        Self { store, places, turn, busy: Arc::default() }
    }

    /// Runs until `end` comes. What is under way then ends first.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut acts = JoinSet::new();
        loop {
            let pause = match self.begin(&mut acts).await {
                Ok(()) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "snapshots do not go on");
                    PAUSE
                }
            };
            while acts.try_join_next().is_some() {}
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        while acts.join_next().await.is_some() {}
        self.turn.give_back().await;
    }

    /// Begins what is due, and waits for it.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<(), StoreError> {
        let mut acts = JoinSet::new();
        self.begin(&mut acts).await?;
        while acts.join_next().await.is_some() {}
        Ok(())
    }

    async fn begin(&self, acts: &mut JoinSet<()>) -> Result<(), StoreError> {
        if !self.turn.is_ours().await? {
            return Ok(());
        }
        for (snapshot, act) in self.store.due_snapshots(64).await? {
            {
                let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
                if busy.len() >= AT_ONCE {
                    break;
                }
                if !busy.insert(snapshot.id) {
                    continue;
                }
            }
            let (store, places) = (self.store.clone(), Arc::clone(&self.places));
            let busy = Arc::clone(&self.busy);
            acts.spawn(async move {
                let id = snapshot.id;
                let done = tokio::task::spawn_blocking(move || perform(&*places, &snapshot, act));
                let outcome = done.await.unwrap_or_else(|_| Err("it was not finished".to_owned()));
                if let Err(reason) = &outcome {
                    tracing::warn!(%reason, snapshot = %id, ?act, "a place refused");
                }
                if let Err(error) = store.snapshot_came(id, act, outcome).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, snapshot = %id, "what came of it is asked again");
                }
                busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
            });
        }
        Ok(())
    }
}

fn perform(places: &dyn Places, snapshot: &Snapshot, act: SnapshotAct) -> Result<(), String> {
    let at = &snapshot.placement;
    if at.place.is_empty() {
        return Err("nobody says where its machine lives".to_owned());
    }
    match act {
        SnapshotAct::Take => places.take(at, snapshot.id),
        SnapshotAct::Return => places.bring_back(at, snapshot.id),
        SnapshotAct::Remove => places.remove(at, snapshot.id),
    }
}
