//! Releases on their way, and the orders that agents get for them.
//!
//! ```text
//! Layout ─► plans ─► (consent) ─► permit ─► run ─tick─► orders ─► answers ─► checks ─► verifications
//! ```
//!
//! A release is stepped in one transaction with all that follows: the orders that begin, what they
//! came to, and the end of each tenant's part. An order is signed outside, when an agent fetches it.

mod checks;
mod fleet;
mod followups;
mod order_keys;
mod orders;
mod runs;
mod snapshots;
mod verifications;

use std::collections::BTreeSet;
use std::sync::Arc;

use domain::agent::{AtWork, OrderAnswer, OrderProgress};
use domain::change::{FileHash, KeyId, Nonce, Plan, PlanHash};
use domain::cloud::{AgentId, ChangeId, CiId, ReleaseId, TenantId, VerificationId};
use domain::order::OrderResult;
use domain::release::{Command, Layout, Run};
use domain::verification::Record;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::actor::Actor;
use crate::changes::Outcome;
use crate::error::StoreError;
use crate::history::History;
use crate::keys::MasterKey;
use crate::page::{Page, PageRequest};

pub use fleet::{Ground, Lacking};
pub use order_keys::{NewOrderKey, OrderHandover, OrderKeys};
pub(crate) use orders::keep_key_order;
pub(crate) use runs::{asked, looked, permitted, settled};
pub use snapshots::{Placement, Snapshot, SnapshotAct, SnapshotFilter, SnapshotState};
pub use verifications::Verifier;
pub(crate) use verifications::last_verdict;

/// A release with all that is known of it.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// The change that it carries out.
    pub change: ChangeId,
    /// Who planned it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// How it stands, on its layout.
    pub run: Run,
}

/// A release as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRow {
    /// Its id.
    pub id: ReleaseId,
    /// The change that it carries out.
    pub change: ChangeId,
    /// `running`, `held`, `rolling_back` or `aborted`.
    pub mode: String,
    /// `released`, `aborted` or `rolled_back`, once it has ended.
    pub ended: Option<String>,
    /// Who planned it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// An order, as both sides see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRow {
    /// What names it.
    pub nonce: Nonce,
    /// For which release.
    pub release: ReleaseId,
    /// For which change.
    pub change: ChangeId,
    /// Whose item.
    pub tenant: TenantId,
    /// On which item.
    pub ci: CiId,
    /// By which plan.
    pub plan: PlanHash,
    /// In which of its stages, from 0.
    pub stage: u32,
    /// When it was made.
    pub created_at: Timestamp,
    /// The agent that fetched it, once one has.
    pub agent: Option<AgentId>,
    /// When it did.
    pub handed_at: Option<Timestamp>,
    /// What the agent says that it is at, while it carries it out.
    pub at_work: Option<AtWork>,
    /// `refused`, `done`, `conflict`, `rolled_back`, `stuck` or `called_off`, once it is over.
    pub outcome: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// What the agent answered: its signed result, or its refusal.
    pub answer: Option<String>,
    /// When.
    pub answered_at: Option<Timestamp>,
}

/// An order as it was signed for an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// What names it.
    pub nonce: Nonce,
    /// Its number.
    pub sequence: u64,
    /// Which version of the order keys signed it.
    pub key_version: u64,
    /// As it was signed.
    pub envelope: String,
}

/// Which orders are asked for.
#[derive(Debug, Clone, Default)]
pub struct OrderFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// For one change.
    pub change: Option<ChangeId>,
    /// On one item.
    pub ci: Option<CiId>,
    /// For one release.
    pub release: Option<ReleaseId>,
}

/// An order that is about to be fetched: all that it takes to sign it, or the bytes that were signed.
#[derive(Debug, Clone)]
pub struct Fetched {
    /// What names it.
    pub nonce: Nonce,
    /// The plan.
    pub plan: Plan,
    /// The stage, from 0.
    pub stage: u32,
    /// Whether it takes back what the stage made of files.
    pub is_back: bool,
    /// How urgent the provider says it is.
    pub priority: domain::priority::Priority,
    /// The number that an order signed now has.
    pub sequence: u64,
    /// As it was signed, where the agent has fetched it before.
    pub envelope: Option<String>,
    /// What the tenant said about this plan, as it was signed.
    pub consents: Vec<String>,
    /// The rules by which it agreed ahead, as they were signed.
    pub rules: Vec<String>,
    /// What it ordered about its keys, as it was signed.
    pub key_orders: Vec<String>,
    /// The keys that it took back.
    pub revoked: Vec<domain::change::KeyId>,
    /// The tenant's public keys, in PEM.
    pub public_keys: Vec<String>,
}

/// What an agent answered, after its signature was checked.
#[derive(Debug, Clone)]
pub struct Answered {
    /// As it came.
    pub answer: OrderAnswer,
    /// What the agent signed, where it did.
    pub result: Option<OrderResult>,
    /// SHA-256 of the envelope, for the record.
    pub digest: Option<FileHash>,
}

/// What a look after an order came to, as it is kept for ever.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verification {
    /// What is signed.
    pub record: Record,
    /// The key that signed it.
    pub key: KeyId,
    /// The DSSE envelope, in JSON.
    pub envelope: String,
}

/// Which verifications are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerificationFilter {
    /// All that the actor may see.
    All,
    /// Those of an item.
    Item(CiId),
    /// Those of a change.
    Change(ChangeId),
}

/// A release that could not be looked at when its time came.
#[derive(Debug)]
pub struct Unstepped {
    /// Which.
    pub release: ReleaseId,
    /// Why; it is tried again after a while.
    pub error: StoreError,
}

/// Releases.
impl Store {
    /// All that a release of a change is planned from.
    pub async fn ground(&self, by: &Actor, change: ChangeId) -> Result<Ground, StoreError> {
        fleet::ground(self, by, change).await
    }

    /// Takes a release up: each tenant is asked for its plan.
    ///
    /// # Errors
    /// Where a plan is refused, nothing of the release is kept.
    pub async fn create_release(
        &self,
        by: &Actor,
        layout: Arc<Layout>,
        two_persons_above: usize,
    ) -> Result<Release, StoreError> {
        self.write((by.clone(), layout), move |tx, (by, layout)| {
            Box::pin(runs::create(tx, by, layout, two_persons_above))
        })
        .await
    }

    /// One release. Only the provider's people see whole releases; a tenant sees its plan and its orders.
    pub async fn release(&self, by: &Actor, id: ReleaseId) -> Result<Release, StoreError> {
        runs::find(&mut *self.pool.acquire().await?, by, id).await
    }

    /// Releases, the newest first.
    pub async fn releases(
        &self,
        by: &Actor,
        change: Option<ChangeId>,
        page: &PageRequest,
    ) -> Result<Page<ReleaseRow>, StoreError> {
        runs::list(&self.pool, by, change, page).await
    }

    /// Somebody of the provider decides about a release.
    pub async fn command_release(
        &self,
        by: &Actor,
        id: ReleaseId,
        command: Command,
    ) -> Result<Outcome<Release>, StoreError> {
        self.write((by.clone(), command), move |tx, (by, command)| {
            Box::pin(runs::command(tx, by, id, command))
        })
        .await
    }

    /// Looks at the releases whose time has come, at most so many; each by itself. What files hold, `history`
    /// says; what looks at items came to is signed by `verifier`. Says how many releases there were, and those
    /// that failed.
    pub async fn step_releases(
        &self,
        verifier: &Arc<dyn Verifier>,
        history: &History,
        at_most: u16,
    ) -> Result<(usize, Vec<Unstepped>), StoreError> {
        let due = runs::due(&self.pool, self.environment.now(), at_most).await?;
        let mut failed = Vec::new();
        for &release in &due {
            let stepped = match history.sights(release).await {
                Ok(sights) => {
                    let with = (Arc::clone(verifier), sights);
                    self.write(with, move |tx, (verifier, sights)| {
                        Box::pin(runs::wake(tx, &**verifier, sights, release))
                    })
                    .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = stepped {
                self.write((), move |tx, ()| Box::pin(runs::postpone(tx, release))).await?;
                failed.push(Unstepped { release, error });
            }
        }
        Ok((due.len(), failed))
    }
}

/// What looks after orders came to.
impl Store {
    /// Looks again at items that were verified a day or a week ago, at most so many; each by itself. Says how
    /// many there were, and those that failed, which are tried again after a minute.
    pub async fn verify_again(
        &self,
        verifier: &Arc<dyn Verifier>,
        history: &History,
        at_most: u16,
    ) -> Result<(usize, Vec<(VerificationId, StoreError)>), StoreError> {
        let due = followups::due(&self.pool, self.environment.now(), at_most).await?;
        let mut failed = Vec::new();
        for &(verified, occasion) in &due {
            let looked = match history.sights_again(verified, followups::EARLY).await {
                Ok(files) => {
                    let with = (Arc::clone(verifier), files);
                    self.write(with, move |tx, (verifier, files)| {
                        let files = files.as_ref();
                        Box::pin(followups::look(tx, &**verifier, files, verified, occasion))
                    })
                    .await
                }
                Err(error) => Err(error),
            };
            if let Err(error) = looked {
                self.write((), move |tx, ()| Box::pin(followups::postpone(tx, verified, occasion)))
                    .await?;
                failed.push((verified, error));
            }
        }
        Ok((due.len(), failed))
    }

    /// Verifications, the newest first: how an item complied with what was planned for it.
    pub async fn verifications(
        &self,
        by: &Actor,
        filter: VerificationFilter,
        page: &PageRequest,
    ) -> Result<Page<Verification>, StoreError> {
        verifications::list(&self.pool, by, filter, page).await
    }

    /// One verification.
    pub async fn verification(
        &self,
        by: &Actor,
        id: VerificationId,
    ) -> Result<Verification, StoreError> {
        verifications::find(&mut *self.pool.acquire().await?, by, id).await
    }
}

/// Orders.
impl Store {
    /// The agents for which an order waits, or of whose items somebody waits to see something.
    pub async fn awaited_agents(&self) -> Result<BTreeSet<AgentId>, StoreError> {
        orders::awaited(&self.pool, self.environment.now()).await
    }

    /// Notes with which key an agent signs what came of orders.
    pub async fn pin_attestor(
        &self,
        by: &Actor,
        agent: AgentId,
        key: String,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), key), move |tx, (by, key)| {
            Box::pin(orders::pin(tx, by, agent, key))
        })
        .await
    }

    /// The key with which an agent signs, in PEM.
    pub async fn attestor_of(&self, agent: AgentId) -> Result<Option<String>, StoreError> {
        orders::attestor(&self.pool, agent).await
    }

    /// The keys with which the provider signs orders. The first is [`Store::key`]'s `orders`.
    pub async fn signing_keys(&self, master: &MasterKey) -> Result<OrderKeys, StoreError> {
        order_keys::read(&self.pool, master).await
    }

    /// Puts another order key into force, by a handover that the one before it signed.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it does not follow the one in force.
    pub async fn hand_orders_over(
        &self,
        by: &Actor,
        master: &Arc<MasterKey>,
        new: NewOrderKey,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), Arc::clone(master), new), |tx, (by, master, new)| {
            Box::pin(order_keys::hand_over(tx, by, master, new))
        })
        .await
    }

    /// The order that waits for an agent, the oldest first.
    pub async fn order_for(&self, by: &Actor) -> Result<Option<Fetched>, StoreError> {
        orders::waiting(self, by).await
    }

    /// Keeps an order as it was signed for an agent. The envelope that counts is answered: an earlier
    /// one, where the order was fetched before.
    pub async fn issue_order(&self, by: &Actor, issued: Issued) -> Result<String, StoreError> {
        self.write((by.clone(), issued), |tx, (by, issued)| Box::pin(orders::issue(tx, by, issued)))
            .await
    }

    /// Notes how far an agent is with an order.
    ///
    /// # Errors
    /// Where it has no such order, or answered it already.
    pub async fn note_progress(
        &self,
        by: &Actor,
        progress: OrderProgress,
    ) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(orders::progress(tx, by, progress))).await
    }

    /// Takes in what came of an order; nothing happens where it was answered before.
    pub async fn answer_order(&self, by: &Actor, answered: Answered) -> Result<(), StoreError> {
        self.write((by.clone(), answered), |tx, (by, answered)| {
            Box::pin(orders::answer(tx, by, answered))
        })
        .await
    }

    /// Notes that the history has all files that an agent saw by then.
    pub async fn note_files_complete(
        &self,
        agent: AgentId,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.write((), move |tx, ()| Box::pin(checks::files_complete(tx, agent, at))).await
    }

    /// Notes that all that an agent saw of its host is known now.
    pub async fn note_complete(&self, agent: AgentId, at: Timestamp) -> Result<(), StoreError> {
        self.write((), move |tx, ()| Box::pin(checks::complete(tx, agent, at))).await
    }

    /// Orders that the actor may see, the newest first.
    pub async fn orders(
        &self,
        by: &Actor,
        filter: &OrderFilter,
        at_most: u16,
    ) -> Result<Vec<OrderRow>, StoreError> {
        orders::list(&self.pool, by, filter, at_most).await
    }
}
