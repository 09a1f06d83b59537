//! Whose turn it is with work that one of several processes does at a time, by a lease.

use jiff::SignedDuration;
use store::{Store, StoreError};

/// One process's part in such work.
pub(crate) struct Turn {
    store: Store,
    work: &'static str,
    holder: String,
    lifetime: SignedDuration,
}

impl Turn {
    /// For work of this name; who takes it and is heard of no more keeps it so long.
    pub(crate) fn new(store: &Store, work: &'static str, lifetime: SignedDuration) -> Self {
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        let holder = format!("{:016x}", u64::from_be_bytes(random));
        Self { store: store.clone(), work, holder, lifetime }
    }

    /// What this process is called, also in other work.
    pub(crate) fn holder(&self) -> &str {
        &self.holder
    }

    /// Takes it, or keeps it; whether it is this process's turn.
    pub(crate) async fn is_ours(&self) -> Result<bool, StoreError> {
        Ok(self.store.take_lease(self.work, &self.holder, self.lifetime).await?.is_some())
    }

    /// Lets another process begin at once.
    pub(crate) async fn give_back(&self) {
        if let Err(error) = self.store.give_lease_back(self.work, &self.holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, work = self.work, "the lease runs out by itself");
        }
    }
}
