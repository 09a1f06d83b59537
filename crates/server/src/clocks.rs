//! The timers: changes and obligations begin when a patch is found missing, and each obligation is
//! looked at when its time comes.
//!
//! One process at a time does this, by a lease; what a late holder still does is harmless, because
//! each look is a transaction of its own that does nothing where nothing is due. Timers are an index
//! of the store: nothing is in memory, and a restart has nothing to restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use domain::sla::Jump;
use jiff::{SignedDuration, Timestamp};
use store::{Opening, Store, StoreError, Unopened};

use crate::turn::Turn;

/// How long a process may keep the timers before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked for what others brought about.
const LOOK: Duration = Duration::from_secs(1);

/// How often is looked for patches that have no change yet.
const SWEEP: SignedDuration = SignedDuration::from_secs(10);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Obligations that are looked at together: they share a commit.
const TOGETHER: u16 = 256;

/// How long what cannot be opened is left alone.
const ASIDE: SignedDuration = SignedDuration::from_mins(5);

/// The timers of a process.
pub struct Clocks {
    store: Store,
    turn: Turn,
}

/// How far what has no clock yet was looked for.
#[derive(Default)]
struct Sweep {
    /// When it is looked again.
    next: Timestamp,
    /// What could not be opened, and until when it is left alone.
    aside: BTreeMap<Opening, Timestamp>,
}

impl Sweep {
    /// What is left alone now.
    fn aside(&mut self, now: Timestamp) -> BTreeSet<Opening> {
        self.aside.retain(|_, until| now < *until);
        self.aside.keys().copied().collect()
    }
}

impl Clocks {
    /// Timers that do not run yet.
    pub fn new(store: Store) -> Self {
        let turn = Turn::new(&store, "clocks", LEASE);
        Self { store, turn }
    }

    /// Runs until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let (mut sweep, mut jumped) = (Sweep::default(), None);
        loop {
            self.tell_jump(&mut jumped);
            let pause = match self.step(&mut sweep).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "the clocks of the SLA are not looked at");
                    PAUSE
                }
            };
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.turn.give_back().await;
    }

    /// One step; says whether there may be more to do at once.
    async fn step(&self, sweep: &mut Sweep) -> Result<bool, StoreError> {
        if !self.turn.is_ours().await? {
            return Ok(false);
        }
        let opened = self.open(sweep).await;
        let (woken, failed) = self.store.wake_obligations(TOGETHER).await?;
        for unwoken in failed {
            let error = &unwoken.error as &dyn std::error::Error;
            let (change, tenant) = (unwoken.change, unwoken.tenant);
            tracing::error!(error, %change, %tenant, "an obligation could not be looked at");
        }
        Ok(opened || woken > 0)
    }

    /// Opens what has no change or no obligation yet, if it is time; says whether there may be more. What
    /// cannot be opened is left alone for a while: it keeps neither the others nor the clocks waiting.
    async fn open(&self, sweep: &mut Sweep) -> bool {
        let now = self.store.environment().now();
        if now < sweep.next {
            return false;
        }
        let aside = sweep.aside(now);
        match self.store.open_obligations(TOGETHER, &aside).await {
            Ok((opened, failed)) => {
                for Unopened { what, error } in failed {
                    // That is no fault of this one.
                    let is_its_own = !matches!(error, StoreError::Busy);
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, ?what, "a change or an obligation could not be opened");
                    if is_its_own {
                        sweep.aside.insert(what, now + ASIDE);
                    }
                }
                if opened == 0 {
                    sweep.next = now + SWEEP;
                }
                opened > 0
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "it cannot be seen what is to be opened");
                sweep.next = now + SWEEP;
                false
            }
        }
    }

    /// Says once that the wall clock jumped, and once that it is right again.
    fn tell_jump(&self, before: &mut Option<Jump>) {
        let jump = self.store.environment().jump();
        match (&jump, before.is_some()) {
            (Some(Jump { shown, expected }), false) => tracing::error!(
                %shown, %expected,
                "the wall clock jumped and is not believed: set it right, or start Patchwright anew \
                 to believe it"
            ),
            (None, true) => tracing::info!("the wall clock is right again"),
            _ => {}
        }
        *before = jump;
    }
}
