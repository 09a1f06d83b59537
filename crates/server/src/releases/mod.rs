//! Releases: how they are planned from what is known of the cloud, and what drives them.
//!
//! One process at a time drives them, by a lease. A late holder does no harm: each step of a release is
//! a transaction of its own, and an event that comes twice does nothing twice. What looks at items came to
//! is signed here, with the verifier's own key.

mod plan;
mod verifier;

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use ledger::attestation::AttestorKey;
use store::{History, MasterKey, Store, StoreError};

pub(crate) use plan::{Asked, NoContent, Restart, draw, usual_caps};
use verifier::Verifier;

/// How long a process may drive releases before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked for releases whose time has come.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Releases that are stepped one after another before the lease is asked for again.
const TOGETHER: u16 = 32;

/// What drives the releases of a store.
pub struct Releases {
    store: Store,
    history: History,
    holder: String,
    verifier: Arc<dyn store::Verifier>,
    key: AttestorKey,
}

impl Releases {
    /// One that does not run yet, with the key that the store keeps sealed for its verifier.
    ///
    /// # Errors
    /// If the key does not open.
    pub async fn open(
        store: Store,
        history: History,
        master: &Arc<MasterKey>,
    ) -> Result<Self, StoreError> {
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        let holder = format!("{:016x}", u64::from_be_bytes(random));
        let verifier = Verifier::new(&*store.key(master, "verifier").await?);
        let key = verifier.public();
        Ok(Self { store, history, holder, verifier: Arc::new(verifier), key })
    }

    /// With which key it is signed what looks at items came to.
    pub fn key(&self) -> AttestorKey {
        self.key.clone()
    }

    /// Runs until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let pause = match self.step().await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "releases do not go on");
                    PAUSE
                }
            };
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        if let Err(error) = self.store.give_lease_back("releases", &self.holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the lease runs out by itself");
        }
    }

    /// One step; says whether there may be more to do at once.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<bool, StoreError> {
        if self.store.take_lease("releases", &self.holder, LEASE).await?.is_none() {
            return Ok(false);
        }
        let (stepped, failed) =
            self.store.step_releases(&self.verifier, &self.history, TOGETHER).await?;
        for unstepped in failed {
            let error = &unstepped.error as &dyn std::error::Error;
            tracing::error!(error, release = %unstepped.release, "a release does not go on");
        }
        let (looked, failed) =
            self.store.verify_again(&self.verifier, &self.history, TOGETHER).await?;
        for (verified, error) in failed {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, %verified, "what was verified is not looked at again");
        }
        Ok(stepped.max(looked) == usize::from(TOGETHER))
    }
}
