//! Content history in the background: what was recorded lately is sealed into objects, and objects that nobody
//! names are removed. Each tenant's objects are worked by one process at a time, by a lease of the history.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use store::{History, SealRule, Store, StoreError};

/// A tenant's partition is sealed when it has grown so large, or so old.
const RULE: SealRule = SealRule { versions: 20_000, age: SignedDuration::from_hours(24) };

/// How often is looked.
const LOOK: Duration = Duration::from_secs(60);

/// How often objects that nobody names are looked for.
const TIDY: SignedDuration = SignedDuration::from_hours(24);

/// What works the history of a store.
pub struct Histories {
    store: Store,
    history: History,
    holder: String,
}

impl Histories {
    /// One that does not run yet.
    pub fn new(store: Store, history: History) -> Self {
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        let holder = format!("{:016x}", u64::from_be_bytes(random));
        Self { store, history, holder }
    }

    /// Runs until `end` comes. A sealing that is cut off is done again: until it has ended the rows count.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut tidied = self.store.environment().now();
        loop {
            if let Err(error) = self.step(&mut tidied).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "history is not sealed yet");
            }
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn step(&self, tidied: &mut Timestamp) -> Result<(), StoreError> {
        for tenant in self.history.due_for_sealing(RULE).await? {
            for sealed in self.history.seal(tenant, &self.holder).await? {
                let store::SealedPartition { number, versions, size } = sealed;
                tracing::info!(%tenant, number, versions, size, "a partition of history was sealed");
            }
        }
        let now = self.store.environment().now();
        if now.duration_since(*tidied) >= TIDY {
            self.history.remove_garbage().await?;
            *tidied = now;
        }
        Ok(())
    }
}
