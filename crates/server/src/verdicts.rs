//! Verdicts in the background: what was recorded of files is judged as soon as it is there, and drifts that stand open
//! for too long escalate, as does break-glass that nobody reviews. One process at a time does so, by a lease.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use store::{History, Store, StoreError};

use crate::turn::Turn;

/// How long a process may judge before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked for what is not judged yet.
const LOOK: Duration = Duration::from_millis(500);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Batches, and drifts, of one step.
const AT_ONCE: u16 = 64;

/// What judges alterations of files.
pub struct Verdicts {
    store: Store,
    history: History,
    turn: Turn,
}

impl Verdicts {
    /// One that does not run yet.
    pub fn new(store: Store, history: History) -> Self {
        let turn = Turn::new(&store, "verdicts", LEASE);
        Self { store, history, turn }
    }

    /// Runs until `end` comes. What is cut off is judged again: a verdict stands with all that follows from it, or
    /// not at all.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            let pause = match self.step().await {
                Ok(judged) if judged >= usize::from(AT_ONCE) => Duration::ZERO,
                Ok(_) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "alterations are not judged yet");
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

    /// Judges what is there, and escalates what is due; says how many batches were judged.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<usize, StoreError> {
        let is_due = self.history.has_unjudged().await?
            || self.store.has_drifts_to_escalate().await?
            || self.store.has_break_glass_to_escalate().await?;
        if !is_due {
            return Ok(0);
        }
        if !self.turn.is_ours().await? {
            return Ok(0);
        }
        self.store.escalate_drifts(AT_ONCE).await?;
        self.store.escalate_break_glass(AT_ONCE).await?;
        self.history.judge(AT_ONCE).await
    }
}
