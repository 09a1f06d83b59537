//! What is looked at from outside: devices over SSH, git repositories, documents behind addresses, and images, ours and
//! those of the cloud's stores.
//!
//! ```text
//! due ─┬─ device ─► Eyes::look ───┐
//!      ├─ git, http ─► sources ───┼─► without secrets ─► what is new ─► History
//!      ├─ image ─► sources::image ┤
//!      └─ stored image ─► fetched ┘
//!             └─► what the look came to ─────────────────────────────► Store
//! ```
//!
//! One process at a time works them, by a lease. A look that was cut off is made again, from where it was.

mod devices;
mod sources;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::cloud::{CiId, Slug};
use jiff::{SignedDuration, Timestamp};
use reach::Reach;
use store::{
    Actor, Attribution, FilePath, History, Key, MasterKey, NewFile, NewState, Store, StoreError,
    Telling, Vault,
};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

pub(crate) use self::devices::Opening;
pub use self::devices::{Eyes, Looking, Ssh};
pub(crate) use self::sources::SourceOpening;
use crate::image_stores::ImageStores;
use crate::images::Lab;
use crate::turn::Turn;

/// How long a process may work before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked for what is due.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure of our own, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Looks at a time. Each may hold the answers of one device, or a pack of one repository.
const AT_ONCE: usize = 8;

/// Images of the cloud's stores among them: each may take an hour, and as much room as images may be large.
const STORED_AT_ONCE: usize = 2;

/// What looks at the devices and sources of a store.
pub struct Observers(Arc<Parts>);

struct Parts {
    store: Store,
    history: History,
    vault: Vault,
    /// Of which the key of each item's fingerprints is made.
    fingerprints: Key,
    eyes: Arc<dyn Eyes>,
    /// Where sources of the provider may be; those of tenants are on the public Internet.
    reach: Reach,
    images: Arc<Lab>,
    /// Where the cloud keeps images of its own.
    stores: Arc<dyn ImageStores>,
    fetching: Arc<Semaphore>,
    turn: Turn,
    /// What is being looked at.
    busy: Mutex<BTreeSet<Busy>>,
}

/// What is looked at.
type Busy = (CiId, Option<Slug>);

impl Observers {
    /// One that does not run yet. `vault` is the one that seals for the API, `reach` where the provider's sources
    /// may be, `images` has what images hold, and `stores` those that are the cloud's.
    ///
    /// # Errors
    /// If the key of fingerprints cannot be read or made.
    pub async fn open(
        store: Store,
        master: &Arc<MasterKey>,
        vault: Vault,
        history: History,
        eyes: Arc<dyn Eyes>,
        (reach, images, stores): (Reach, Arc<Lab>, Arc<dyn ImageStores>),
    ) -> Result<Self, StoreError> {
        let fingerprints = store.key(master, "device fingerprints").await?;
        let turn = Turn::new(&store, "observers", LEASE);
        let busy = Mutex::default();
        let fetching = Arc::new(Semaphore::new(STORED_AT_ONCE));
        Ok(Self(Arc::new(Parts {
            store,
            history,
            vault,
            fingerprints,
            eyes,
            reach,
            images,
            stores,
            fetching,
            turn,
            busy,
        })))
    }

    /// Runs until `end` comes. Looks that are under way are given up then: they alter nothing.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut looks = JoinSet::new();
        loop {
            let pause = match self.begin(&mut looks).await {
                Ok(()) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "devices and sources are not looked at");
                    PAUSE
                }
            };
            while looks.try_join_next().is_some() {}
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        looks.shutdown().await;
        self.0.turn.give_back().await;
    }

    /// Begins what is due, and waits for it.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<(), StoreError> {
        let mut looks = JoinSet::new();
        self.begin(&mut looks).await?;
        while looks.join_next().await.is_some() {}
        Ok(())
    }

    async fn begin(&self, looks: &mut JoinSet<()>) -> Result<(), StoreError> {
        let Parts { store, turn, .. } = &*self.0;
        if !turn.is_ours().await? {
            return Ok(());
        }
        for (device, sealed) in store.due_devices(64).await? {
            let Some(place) = Place::take(&self.0, (device.ci, None)) else { continue };
            looks.spawn(async move {
                let outcome = place.parts.look_at_device(&device, &sealed).await;
                place.leave(outcome).await;
            });
        }
        for (source, sealed) in store.due_sources(64).await? {
            let busy = (source.ci, Some(source.name.clone()));
            let Some(place) = Place::take(&self.0, busy) else { continue };
            looks.spawn(async move {
                let outcome = place.parts.look_at_source(&source, sealed.as_deref()).await;
                place.leave(outcome).await;
            });
        }
        for source in store.due_stored_images(64).await? {
            let Ok(turn) = Arc::clone(&self.0.fetching).try_acquire_owned() else { break };
            let busy = (source.ci, Some(source.name.clone()));
            let Some(place) = Place::take(&self.0, busy) else { continue };
            looks.spawn(async move {
                let outcome = place.parts.look_at_source(&source, None).await;
                drop(turn);
                place.leave(outcome).await;
            });
        }
        Ok(())
    }
}

/// A place among those that are looked at, given up when it is dropped.
struct Place {
    parts: Arc<Parts>,
    what: Busy,
}

impl Place {
    fn take(parts: &Arc<Parts>, what: Busy) -> Option<Self> {
        let mut busy = parts.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let is_taken = busy.len() < AT_ONCE && busy.insert(what.clone());
        is_taken.then(|| Self { parts: Arc::clone(parts), what })
    }

    /// Gives it up, after a while where our own side failed: it is due still, and nobody hammers at it because of us.
    async fn leave(self, outcome: Result<(), StoreError>) {
        if let Err(error) = outcome {
            {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, ci = %self.what.0, "it is looked at again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.parts.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.what);
    }
}

/// What is said of all files of one batch.
struct Told {
    at: Timestamp,
    /// Who says what they are.
    source: String,
    by: Option<Attribution>,
}

impl Told {
    fn file(&self, path: FilePath, state: NewState) -> NewFile {
        NewFile {
            path,
            state,
            observed_at: self.at,
            source: self.source.clone(),
            by: self.by.clone(),
            change: None,
        }
    }
}

impl Parts {
    /// Records files; to be judged where it is told how they came about.
    async fn record(
        &self,
        ci: CiId,
        files: Vec<NewFile>,
        telling: Option<Telling>,
    ) -> Result<(), StoreError> {
        if files.is_empty() {
            return Ok(());
        }
        match telling {
            Some(telling) => self.history.record_told(&Actor::System, ci, files, telling).await?,
            None => self.history.record(&Actor::System, ci, files).await?,
        };
        Ok(())
    }
}
