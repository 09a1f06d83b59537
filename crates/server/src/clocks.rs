//! The timers: changes and obligations begin when a patch is found missing, and each obligation is
//! looked at when its time comes.
//!
//! One process at a time does this, by a lease; what a late holder still does is harmless, because
//! each look is a transaction of its own that does nothing where nothing is due. Timers are an index
//! of the store: nothing is in memory, and a restart has nothing to restore.

use std::sync::Arc;
use std::time::Duration;

use domain::sla::Jump;
use jiff::{SignedDuration, Timestamp};
use store::{Store, StoreError};

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

/// The timers of a process.
pub struct Clocks {
    store: Store,
    holder: String,
}

impl Clocks {
    /// Timers that do not run yet.
    pub fn new(store: Store) -> Self {
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        Self { store, holder: format!("{:016x}", u64::from_be_bytes(random)) }
    }

    /// Runs until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let (mut swept, mut jumped) = (Timestamp::MIN, None);
        loop {
            self.tell_jump(&mut jumped);
            let pause = match self.step(&mut swept).await {
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
        if let Err(error) = self.store.give_lease_back("clocks", &self.holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the lease runs out by itself");
        }
    }

    /// One step; says whether there may be more to do at once.
    async fn step(&self, swept: &mut Timestamp) -> Result<bool, StoreError> {
        if self.store.take_lease("clocks", &self.holder, LEASE).await?.is_none() {
            return Ok(false);
        }
        let now = self.store.environment().now();
        let mut opened = 0;
        if *swept < now - SWEEP {
            // What cannot be opened must not keep the clocks from being looked at.
            opened = self.store.open_obligations(TOGETHER).await.unwrap_or_else(|error| {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "a change or an obligation could not be opened");
                0
            });
            if opened == 0 {
                *swept = now;
            }
        }
        let (woken, failed) = self.store.wake_obligations(TOGETHER).await?;
        for unwoken in failed {
            let error = &unwoken.error as &dyn std::error::Error;
            let (change, tenant) = (unwoken.change, unwoken.tenant);
            tracing::error!(error, %change, %tenant, "an obligation could not be looked at");
        }
        Ok(opened > 0 || woken > 0)
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
