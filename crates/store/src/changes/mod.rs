//! Changes, what each asks of both sides, and what tenants said and were told.
//!
//! ```text
//! findings, advisories ─► change ─► obligation of each tenant ─► tidings ─► notices ─► deliveries
//!                            ▲            ▲    └ wakes_at: the timer
//!                 proof ─────┘   plans, consents, keys, rules, policies
//! ```
//!
//! An obligation is stepped in one transaction with all that it looks at: the change, the tenant's
//! keys and rules as they are then. So nothing starts that was withdrawn, and no consent counts that
//! was revoked, whatever happens at the same time.
//!
//! What the domain refuses is recorded and answered as [`Outcome::Refused`]: it is no failure of the
//! store.

pub(crate) mod advance;
mod alarms;
mod channels;
mod claims;
mod deliveries;
mod errands;
pub(crate) mod exclusions;
pub(crate) mod gathering;
pub(crate) mod lists;
pub(crate) mod load;
mod look;
mod notices;
pub(crate) mod open;
mod policies;
pub(crate) mod signers;
mod standing;

use std::collections::{BTreeMap, BTreeSet};

use domain::change::{
    Change, ChangeEvent, FileHash, KeyId, Kind, Nonce, Outcome as Rollout, Plan, PlanHash, Reason,
    Sight, StandingRule, Statement, Verified,
};
use domain::cloud::{AdvisoryId, ChangeId, ChannelId, NoticeId, PatchId, TenantId, words};
use domain::obligation::Obligation;
use domain::priority::{PolicyRef, Priority};
use domain::sla::{Cause, Errand, Facts, Interruption, Party, Policy};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::Store;
use crate::actor::Actor;
use crate::answers::Once;
use crate::error::StoreError;
use crate::page::{Page, PageRequest};

pub use alarms::{Alarm, Alarms, CLOCKS};
pub use channels::{Channel, ChannelKind, ChannelRecord, NewChannel};
pub use deliveries::{Attempt, Delivery, DeliveryState, Tried, Waiting};
pub use exclusions::Excluded;
pub(crate) use notices::dispute;
pub use notices::{Dispute, NoticeFilter, NoticeRow, Subject, Tidings, Told, Written};
pub use signers::{ConsentKey, NewConsentKey};
pub use standing::{ChangeCounts, ClockStanding, ClockTotals};

/// A change, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedChange {
    /// How it stands.
    pub change: Change,
    /// What people call it.
    pub title: String,
    /// Who found it: [`PROVIDER`](domain::cloud::PROVIDER), or the tenant that brought the advisory.
    pub found_by: TenantId,
    /// The advisory that it came from.
    pub advisory: Option<AdvisoryId>,
    /// The patches that it installs.
    pub patches: Vec<PatchId>,
    /// Who took it up.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
}

/// A change that is to be.
#[derive(Debug, Clone)]
pub struct NewChange {
    /// Patch or alteration.
    pub kind: Kind,
    /// What people call it.
    pub title: String,
    /// The patches that it installs.
    pub patches: Vec<PatchId>,
    /// Tenants that it concerns, beside those whose items lack one of the patches.
    pub tenants: Vec<TenantId>,
    /// How urgent, for those tenants.
    pub priority: Priority,
}

/// An obligation with all that stands beside it.
#[derive(Debug, Clone)]
pub struct Matter {
    /// The obligation.
    pub obligation: Obligation,
    /// The change.
    pub change: TrackedChange,
    /// The policy that governs.
    pub policy: Policy,
    /// The tenant's keys.
    pub keys: domain::change::KeyRing,
    /// The rules by which the tenant agreed ahead.
    pub standing: Vec<domain::change::Standing>,
}

impl Matter {
    /// What its share lacks to start now; `None` where there is no plan.
    pub fn lacks(&self, now: Timestamp) -> Option<Vec<domain::change::Lack>> {
        let share = self.obligation.share()?;
        let context = domain::change::Context {
            change: &self.change.change,
            keys: &self.keys,
            standing: &self.standing,
        };
        let lacks = share.permit(&context, now).err();
        Some(lacks.map(|lacks| lacks.iter().cloned().collect()).unwrap_or_default())
    }
}

/// An obligation as lists show it, without what only its own page needs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRow {
    /// The change.
    pub change: ChangeId,
    /// What people call it.
    pub title: String,
    /// Whose part of it.
    pub tenant: TenantId,
    /// How urgent.
    pub priority: Priority,
    /// Where it stands.
    pub phase: String,
    /// Who holds the ball.
    pub holder: Option<Party>,
    /// How the clock stood when it was last looked at: `ok`, `warn`, `overdue`, `breached`, `met`,
    /// `withdrawn`.
    pub state: String,
    /// The first instant that is too late.
    pub due: Option<Timestamp>,
    /// The first instant that is too late for what it waits for.
    pub stage_deadline: Option<Timestamp>,
    /// When it is looked at next.
    pub wakes_at: Option<Timestamp>,
    /// Whether nothing is left to do, but for what is owed.
    pub is_settled: bool,
    /// What is owed beside the patch, the first of it; also of what is settled.
    pub owed: Option<Errand>,
    /// The first instant that is too late for that.
    pub owed_by: Option<Timestamp>,
    /// How the clock stands now.
    pub standing: ClockStanding,
}

/// Which obligations are asked for.
#[derive(Debug, Clone, Default)]
pub struct ClockFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// Of one change.
    pub change: Option<ChangeId>,
    /// Due before an instant.
    pub due_before: Option<Timestamp>,
    /// Also those where nothing is left to do.
    pub settled: bool,
    /// Only those of which a date passed, settled ones too where these are asked for.
    pub overdue: bool,
    /// Only those of which nobody knows how they stand; with `overdue`, both.
    pub unknown: bool,
}

/// Which past is asked for.
#[derive(Debug, Clone, Default)]
pub struct HistoryFilter {
    /// Of one tenant.
    pub tenant: Option<TenantId>,
    /// Of changes taken up since then.
    pub since: Option<Timestamp>,
}

/// What happened to an obligation, settled or not.
#[derive(Debug, Clone, PartialEq)]
pub struct PastObligation {
    /// The change.
    pub change: ChangeId,
    /// Whose part of it.
    pub tenant: TenantId,
    /// The policy that governs it.
    pub policy: domain::priority::PolicyRef,
    /// What happened.
    pub history: domain::sla::History,
}

/// What became of something that was asked of a change or an obligation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome<T> {
    /// It happened.
    Done(T),
    /// The rules do not allow it; that is recorded.
    Refused {
        /// Why.
        reason: String,
        /// The way out.
        help: String,
    },
}

/// What people do with a change.
#[derive(Debug, Clone)]
pub enum ChangeStep {
    /// The proof begins.
    Prove,
    /// Nothing speaks against it.
    Pass(FileHash),
    /// Something does.
    Fail(FileHash),
    /// The proof came to no end.
    Lose,
    /// It is taken back.
    Withdraw(Reason),
    /// Everything is settled.
    Close,
    /// It is needed again.
    Reopen(Reason),
}

/// What people and tools do with an obligation.
#[derive(Debug, Clone)]
pub enum Move {
    /// What is known of it is this now.
    Assess(Box<Facts>),
    /// A plan, or another in its place.
    Plan {
        /// The plan.
        plan: Plan,
        /// More items than this that the provider must patch need two of its people.
        two_persons_above: usize,
    },
    /// Somebody of the tenant read the notice.
    Acknowledge,
    /// The tenant speaks.
    Answer {
        /// What it said.
        statement: Verified<Statement>,
        /// As it was signed.
        envelope: String,
    },
    /// One of the provider's people agrees to a plan.
    Countersign(PlanHash),
    /// Something stands in the way.
    Interrupt(Interruption),
    /// The rollout is at its end.
    Finish {
        /// Of which plan.
        plan: PlanHash,
        /// How it went.
        outcome: Rollout,
    },
    /// It is looked whether the findings are gone.
    Scan,
    /// Somebody looked where no scan can: at what an alteration did.
    Saw {
        /// What was seen.
        sight: Sight,
        /// SHA-256 of what was kept of it.
        evidence: FileHash,
    },
    /// In an emergency: what the patch may wipe was saved.
    SaveEvidence {
        /// What, and where it is kept.
        what: Reason,
        /// Its SHA-256.
        sha256: FileHash,
    },
    /// After an emergency: it was judged again.
    ReEvaluate {
        /// What came of it.
        conclusion: Reason,
    },
    /// It is taken back for this tenant.
    Withdraw,
    /// It is settled.
    Close,
}

words! {
    /// How a version of an SLA policy stands.
    PolicyState {
        /// One side proposed it.
        Proposed = "proposed",
        /// Both sides agreed.
        Agreed = "agreed",
    }
}

/// A version of an SLA policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVersion {
    /// Whose: the provider's is every tenant's default.
    pub tenant: TenantId,
    /// Name and version.
    pub policy: PolicyRef,
    /// The whole policy in TOML.
    pub document: String,
    /// Who proposed it.
    pub proposed_by: String,
    /// When.
    pub proposed_at: Timestamp,
    /// How it stands.
    pub state: PolicyState,
    /// Who agreed for the other side.
    pub agreed_by: Option<String>,
    /// Since when it is in force.
    pub since: Option<Timestamp>,
}

/// A rule by which a tenant agreed ahead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptRule {
    /// The rule.
    pub standing: domain::change::Standing,
    /// As it was signed.
    pub envelope: String,
    /// When it came in.
    pub created_at: Timestamp,
}

/// What a tenant said to a plan, as it was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consent {
    /// About which change.
    pub change: ChangeId,
    /// About which plan.
    pub plan: PlanHash,
    /// `approve`, `defer` or `refuse`.
    pub decision: String,
    /// The key that signed it.
    pub key: KeyId,
    /// The nonce.
    pub nonce: Nonce,
    /// The DSSE envelope, or the passkey's assertion, in JSON.
    pub envelope: String,
    /// Through whom it came in.
    pub received_by: String,
    /// When.
    pub received_at: Timestamp,
}

/// Who said that something stood in the way of both sides; what exactly, is in the obligation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InterruptionClaim {
    /// What is said to have stood in the way.
    pub cause: Cause,
    /// Since when.
    pub from: Timestamp,
    /// Until when; `None` while it lasts.
    pub until: Option<Timestamp>,
    /// Who of the provider's people said so.
    pub claimed_by: String,
    /// When they did.
    pub claimed_at: Timestamp,
}

/// What one of the provider's people did of what an obligation owes beside the patch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrandRecord {
    /// What was owed.
    pub errand: Errand,
    /// What was saved and where it is kept, or what came of the evaluation.
    pub said: Reason,
    /// SHA-256 of what was saved.
    pub sha256: Option<FileHash>,
    /// Who did it.
    pub recorded_by: String,
    /// When they said so.
    pub recorded_at: Timestamp,
}

/// An obligation could not be looked at when its time came.
#[derive(Debug)]
pub struct Unwoken {
    /// The change.
    pub change: ChangeId,
    /// The tenant.
    pub tenant: TenantId,
    /// Why; it is tried again after [`POSTPONED`].
    pub error: StoreError,
}

/// What is opened by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Opening {
    /// A change for a patch.
    Change(PatchId),
    /// A tenant's part of a change.
    Obligation(ChangeId, TenantId),
}

/// Something could not be opened.
#[derive(Debug)]
pub struct Unopened {
    /// What.
    pub what: Opening,
    /// Why.
    pub error: StoreError,
}

/// How long an obligation that could not be looked at is left alone.
pub(crate) const POSTPONED: SignedDuration = SignedDuration::from_mins(5);

/// Changes and obligations.
impl Store {
    /// Takes up a change.
    pub async fn create_change(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewChange,
    ) -> Result<TrackedChange, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(open::create(tx, by, new))).await
    }

    /// Takes up a change for each patch that is missing somewhere and has none, and an obligation for
    /// each tenant that lacks one; at most so many of both, without those that are set `aside`. Says how
    /// many there were, and those that failed: each is opened by itself, so that none stands in the way
    /// of the others.
    ///
    /// # Errors
    /// If it cannot be read what is to be opened.
    pub async fn open_obligations(
        &self,
        at_most: u16,
        aside: &BTreeSet<Opening>,
    ) -> Result<(u64, Vec<Unopened>), StoreError> {
        let (now, mut opened, mut failed) = (self.environment.now(), 0, Vec::new());
        if exclusions::is_any_over(&self.pool, now).await? {
            self.write((), move |tx, ()| Box::pin(exclusions::end_over(tx, at_most))).await?;
        }
        let mut note = |what: Opening, new: Result<bool, StoreError>| match new {
            Ok(is_new) => opened += u64::from(is_new),
            Err(error) => failed.push(Unopened { what, error }),
        };
        // What is set aside takes nobody's place among those that are looked at.
        let looked_at = i64::from(at_most) + i64::try_from(aside.len()).unwrap_or(i64::MAX / 2);
        let patches = open::patches_without(&self.pool, looked_at, now).await?;
        let patches = patches.into_iter().map(|patch| (patch, Opening::Change(patch)));
        let patches = patches.filter(|(_, what)| !aside.contains(what));
        for (patch, what) in patches.take(usize::from(at_most)) {
            note(what, self.write((), move |tx, ()| Box::pin(open::open_change(tx, patch))).await);
        }
        let tenants = open::tenants_without(&self.pool, looked_at, now).await?;
        let tenants = tenants.into_iter().map(|it| (it, Opening::Obligation(it.0, it.1)));
        let tenants = tenants.filter(|(_, what)| !aside.contains(what));
        for ((change, tenant), what) in tenants.take(usize::from(at_most)) {
            let new = self
                .write((), move |tx, ()| Box::pin(open::open_obligation(tx, change, tenant)))
                .await;
            note(what, new);
        }
        Ok((opened, failed))
    }

    /// Takes a step with a change, and all that follows from it for its tenants.
    pub async fn step_change(
        &self,
        by: &Actor,
        id: ChangeId,
        step: ChangeStep,
    ) -> Result<Outcome<TrackedChange>, StoreError> {
        self.write((by.clone(), step), move |tx, (by, step)| {
            Box::pin(advance::step_change(tx, by, id, step))
        })
        .await
    }

    /// Does something with a tenant's obligation.
    pub async fn advance(
        &self,
        by: &Actor,
        change: ChangeId,
        tenant: TenantId,
        action: Move,
    ) -> Result<Outcome<Matter>, StoreError> {
        self.write((by.clone(), action), move |tx, (by, action)| {
            Box::pin(async move {
                match action {
                    Move::Interrupt(claim) => {
                        claims::interrupt(tx, by, change, tenant, claim).await
                    }
                    Move::SaveEvidence { .. } | Move::ReEvaluate { .. } => {
                        errands::done(tx, by, change, tenant, action).await
                    }
                    Move::Saw { sight, evidence } => {
                        claims::saw(tx, by, change, tenant, *sight, *evidence).await
                    }
                    action => advance::advance(tx, by, change, tenant, action).await,
                }
            })
        })
        .await
    }

    /// One change.
    pub async fn change(&self, by: &Actor, id: ChangeId) -> Result<TrackedChange, StoreError> {
        lists::change(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// The changes that the actor may see: for a tenant those that ask something of it.
    pub async fn changes(
        &self,
        by: &Actor,
        page: &PageRequest,
    ) -> Result<Page<TrackedChange>, StoreError> {
        lists::changes(&self.pool, by.scope(), page).await
    }

    /// One tenant's obligation.
    pub async fn matter(
        &self,
        by: &Actor,
        change: ChangeId,
        tenant: TenantId,
    ) -> Result<Matter, StoreError> {
        let mut connection = self.pool.acquire().await?;
        load::must_see(by, tenant)?;
        let mut change_of = lists::change(&mut connection, by.scope(), change).await?;
        // What Patchwright itself looks at, it looks at to tell that tenant.
        if *by == Actor::System {
            lists::for_reader(&mut connection, &mut change_of, Some(tenant)).await?;
        }
        let loaded =
            load::obligation(&mut connection, change, tenant, self.environment.now()).await?;
        let load::Loaded { obligation, policy, keys, standing, .. } = loaded;
        Ok(Matter { obligation, change: change_of, policy, keys, standing })
    }

    /// What the provider's people said that stood in the way of both sides, the oldest first.
    pub async fn interruption_claims(
        &self,
        by: &Actor,
        change: ChangeId,
        tenant: TenantId,
    ) -> Result<Vec<InterruptionClaim>, StoreError> {
        load::must_see(by, tenant)?;
        claims::claims(&self.pool, change, tenant).await
    }

    /// What the provider's people did of what an obligation owes beside the patch, the oldest first.
    pub async fn errand_records(
        &self,
        by: &Actor,
        change: ChangeId,
        tenant: TenantId,
    ) -> Result<Vec<ErrandRecord>, StoreError> {
        load::must_see(by, tenant)?;
        errands::records(&self.pool, change, tenant).await
    }

    /// Obligations, the earliest due first.
    pub async fn clocks(
        &self,
        by: &Actor,
        filter: &ClockFilter,
        at_most: u16,
    ) -> Result<Vec<ClockRow>, StoreError> {
        lists::clocks(&self.pool, by.scope(), filter, at_most, self.environment.now()).await
    }

    /// How many of the clocks that the actor may see stand how.
    pub async fn clock_totals(&self, by: &Actor) -> Result<ClockTotals, StoreError> {
        standing::totals(&self.pool, by.scope(), self.environment.now()).await
    }

    /// What of some changes is open, of what the actor may see.
    pub async fn change_counts(
        &self,
        by: &Actor,
        ids: &[ChangeId],
    ) -> Result<BTreeMap<ChangeId, ChangeCounts>, StoreError> {
        standing::counts(&self.pool, by.scope(), ids, self.environment.now()).await
    }

    /// What happened to obligations, for judging them under another policy: by tenant, then the
    /// longest known first.
    pub async fn histories(
        &self,
        by: &Actor,
        filter: &HistoryFilter,
        page: &PageRequest,
    ) -> Result<Page<PastObligation>, StoreError> {
        lists::histories(&self.pool, by.scope(), filter, page).await
    }

    /// The bytes of a plan.
    pub async fn plan(&self, by: &Actor, hash: PlanHash) -> Result<Plan, StoreError> {
        lists::plan(&self.pool, by.scope(), hash).await
    }

    /// What a tenant said about a change, in the order in which it came in.
    pub async fn consents(
        &self,
        by: &Actor,
        change: ChangeId,
        tenant: TenantId,
    ) -> Result<Vec<Consent>, StoreError> {
        load::must_see(by, tenant)?;
        lists::consents(&self.pool, change, tenant).await
    }

    /// Looks at the obligations whose time has come, at most so many; each by itself, so that none
    /// stands in the way of the others. Says how many there were, and those that failed.
    pub async fn wake_obligations(
        &self,
        at_most: u16,
    ) -> Result<(usize, Vec<Unwoken>), StoreError> {
        let due = lists::due(&self.pool, self.environment.now(), at_most).await?;
        let looks = due.iter().map(|&(change, tenant)| async move {
            let looked =
                self.write((), move |tx, ()| Box::pin(advance::wake(tx, change, tenant))).await;
            looked.err().map(|error| Unwoken { change, tenant, error })
        });
        let failed: Vec<_> =
            futures_util::future::join_all(looks).await.into_iter().flatten().collect();
        for Unwoken { change, tenant, .. } in &failed {
            let (change, tenant) = (*change, *tenant);
            self.write((), move |tx, ()| Box::pin(advance::postpone(tx, change, tenant))).await?;
        }
        Ok((due.len(), failed))
    }

    /// When the next obligation is to be looked at.
    pub async fn next_wake(&self) -> Result<Option<Timestamp>, StoreError> {
        lists::next_wake(&self.pool).await
    }

    /// How many obligations are open.
    pub async fn open_clocks(&self) -> Result<u64, StoreError> {
        lists::count_open(&self.pool).await
    }
}

/// SLA policies.
impl Store {
    /// Proposes a version: of the provider's default, which is in force at once, or of a tenant's,
    /// which the other side has to agree to.
    pub async fn propose_policy(
        &self,
        by: &Actor,
        tenant: TenantId,
        policy: Policy,
    ) -> Result<PolicyVersion, StoreError> {
        self.write((by.clone(), policy), move |tx, (by, policy)| {
            Box::pin(policies::propose(tx, by, tenant, policy))
        })
        .await
    }

    /// Agrees to a version that the other side proposed; it is in force from now on.
    pub async fn agree_to_policy(
        &self,
        by: &Actor,
        tenant: TenantId,
        version: String,
    ) -> Result<PolicyVersion, StoreError> {
        self.write((by.clone(), version), move |tx, (by, version)| {
            Box::pin(policies::agree(tx, by, tenant, version))
        })
        .await
    }

    /// All versions of a tenant's policy, the newest first, then those of the provider's default.
    pub async fn policy_versions(
        &self,
        by: &Actor,
        tenant: TenantId,
    ) -> Result<Vec<PolicyVersion>, StoreError> {
        load::must_see(by, tenant)?;
        policies::versions(&self.pool, tenant).await
    }

    /// The policy in force for a tenant now.
    pub async fn policy_in_force(
        &self,
        by: &Actor,
        tenant: TenantId,
    ) -> Result<Policy, StoreError> {
        load::must_see(by, tenant)?;
        let now = self.environment.now();
        policies::governing(&mut *self.pool.acquire().await?, tenant, now).await
    }
}

/// Keys and rules of tenants.
impl Store {
    /// What a key event does to a tenant's keys; `key` is the public key of the one it brings.
    pub async fn alter_keys(
        &self,
        by: &Actor,
        tenant: TenantId,
        event: domain::change::KeyEvent,
        key: Option<NewConsentKey>,
    ) -> Result<Outcome<domain::change::KeyRing>, StoreError> {
        self.write((by.clone(), event, key), move |tx, (by, event, key)| {
            Box::pin(signers::alter(tx, by, tenant, event, key.as_ref()))
        })
        .await
    }

    /// What a signed order does to a tenant's keys; `envelope` is kept for agents, which verify it anew.
    pub async fn order_keys(
        &self,
        by: &Actor,
        tenant: TenantId,
        order: Verified<domain::change::KeyOrder>,
        key: Option<NewConsentKey>,
        envelope: String,
    ) -> Result<Outcome<domain::change::KeyRing>, StoreError> {
        self.write((by.clone(), order, key, envelope), move |tx, (by, order, key, envelope)| {
            Box::pin(signers::order(tx, by, tenant, order, key.as_ref(), envelope))
        })
        .await
    }

    /// An owner asks for a key without a signature, or is the second one to ask for the same.
    pub async fn ask_recovery(
        &self,
        by: &Actor,
        tenant: TenantId,
        key: NewConsentKey,
    ) -> Result<Outcome<domain::change::KeyRing>, StoreError> {
        self.write((by.clone(), key), move |tx, (by, key)| {
            Box::pin(signers::ask_recovery(tx, by, tenant, key))
        })
        .await
    }

    /// A tenant's keys.
    pub async fn key_ring(
        &self,
        by: &Actor,
        tenant: TenantId,
    ) -> Result<(domain::change::KeyRing, Vec<ConsentKey>), StoreError> {
        load::must_see(by, tenant)?;
        let mut connection = self.pool.acquire().await?;
        let ring = load::key_ring(&mut connection, tenant).await?;
        Ok((ring, signers::public_keys(&mut connection, tenant).await?))
    }

    /// Takes a rule in by which a tenant agrees ahead.
    pub async fn add_rule(
        &self,
        by: &Actor,
        tenant: TenantId,
        rule: Verified<StandingRule>,
        envelope: String,
    ) -> Result<Outcome<KeptRule>, StoreError> {
        self.write((by.clone(), rule, envelope), move |tx, (by, rule, envelope)| {
            Box::pin(signers::add_rule(tx, by, tenant, rule, envelope))
        })
        .await
    }

    /// The tenant takes a rule back.
    pub async fn withdraw_rule(
        &self,
        by: &Actor,
        tenant: TenantId,
        nonce: Nonce,
    ) -> Result<KeptRule, StoreError> {
        self.write(by.clone(), move |tx, by| {
            Box::pin(signers::withdraw_rule(tx, by, tenant, nonce))
        })
        .await
    }

    /// A tenant's rules, the oldest first.
    pub async fn rules(&self, by: &Actor, tenant: TenantId) -> Result<Vec<KeptRule>, StoreError> {
        load::must_see(by, tenant)?;
        signers::rules(&mut *self.pool.acquire().await?, tenant).await
    }
}

/// What tenants are told.
impl Store {
    /// What is to be written, the oldest first, at most so many.
    pub async fn tidings(&self, at_most: u16) -> Result<Vec<Tidings>, StoreError> {
        notices::tidings(&self.pool, self.environment.now(), at_most).await
    }

    /// Leaves what cannot be written alone until then, and what the tenant is to be told of the same
    /// change after it.
    pub async fn postpone_tidings(
        &self,
        tidings: Tidings,
        until: Timestamp,
    ) -> Result<(), StoreError> {
        self.write(tidings, move |tx, tidings| Box::pin(notices::postpone(tx, tidings, until)))
            .await
    }

    /// Leaves out what need not be told any more.
    pub async fn drop_tidings(&self, tidings: Tidings) -> Result<(), StoreError> {
        self.write(tidings, |tx, tidings| {
            Box::pin(async move { notices::take(tx, tidings).await.map(drop) })
        })
        .await
    }

    /// Publishes what was written of some tidings: in the console at once, on the tenant's channels
    /// as soon as they take it. Where none is the tenant's own, it is given now. False where another
    /// process was faster.
    pub async fn publish_notice(
        &self,
        tidings: Tidings,
        written: Written,
    ) -> Result<bool, StoreError> {
        self.write((tidings, written), |tx, (tidings, written)| {
            Box::pin(notices::publish(tx, tidings, written))
        })
        .await
    }

    /// The sides that are to be told now of clocks that warn, are overdue or passed a due date, at most
    /// so many: tenants, and [`PROVIDER`](domain::cloud::PROVIDER) for the provider's people.
    pub async fn alarmed(&self, at_most: u16) -> Result<Vec<TenantId>, StoreError> {
        alarms::GATHERING.due(&self.pool, self.environment.now(), at_most).await
    }

    /// All that a side is to be told of clocks, of which at most so many are read; `None` where that is
    /// nothing.
    pub async fn alarms(&self, to: TenantId, at_most: u16) -> Result<Option<Alarms>, StoreError> {
        alarms::of_side(&self.pool, to, at_most).await
    }

    /// Publishes what was written of a side's alarms, as [`publish_notice`](Self::publish_notice) does;
    /// where nothing was, they are dropped. False where another process was faster.
    ///
    /// # Errors
    /// [`StoreError::Busy`] where another alarm came in beside; then all of them stay.
    pub async fn tell_alarms(
        &self,
        alarms: Alarms,
        written: Option<Written>,
    ) -> Result<bool, StoreError> {
        let read = alarms.read();
        self.write(written, move |tx, written| {
            Box::pin(alarms::GATHERING.tell(tx, read, written.as_ref()))
        })
        .await
    }

    /// Leaves a side's alarms that cannot be written alone until then.
    pub async fn postpone_alarms(&self, to: TenantId, until: Timestamp) -> Result<(), StoreError> {
        self.write((), move |tx, ()| Box::pin(alarms::GATHERING.postpone(tx, to, until))).await
    }

    /// Channels on which something waits and whose time has come, without those that are `busy`:
    /// `of_tenant` of each tenant at most, and every tenant's first before anybody's second.
    pub async fn due_channels(
        &self,
        busy: &[ChannelId],
        of_tenant: u16,
        at_most: u16,
    ) -> Result<Vec<Channel>, StoreError> {
        channels::due(&self.pool, self.environment.now(), busy, of_tenant, at_most).await
    }

    /// What waits on a channel, the oldest first, at most so many.
    pub async fn waiting_on(
        &self,
        channel: ChannelId,
        at_most: u16,
    ) -> Result<Vec<Waiting>, StoreError> {
        deliveries::waiting(&self.pool, channel, at_most).await
    }

    /// When the next channel is to be tried.
    pub async fn next_delivery(&self) -> Result<Option<Timestamp>, StoreError> {
        channels::next(&self.pool).await
    }

    /// Notes how an attempt on a channel went. A notice of a plan is given when the first of the
    /// tenant's own channels has it.
    pub async fn record_attempt(
        &self,
        channel: ChannelId,
        attempt: Attempt,
    ) -> Result<(), StoreError> {
        self.write(attempt, move |tx, attempt| Box::pin(deliveries::record(tx, channel, attempt)))
            .await
    }

    /// Tries a delivery again that was given up.
    pub async fn retry_delivery(
        &self,
        by: &Actor,
        notice: NoticeId,
        channel: ChannelId,
    ) -> Result<Delivery, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(deliveries::retry(tx, by, notice, channel)))
            .await
    }

    /// One notice.
    pub async fn notice(&self, by: &Actor, id: NoticeId) -> Result<NoticeRow, StoreError> {
        notices::notice(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// The notices that the actor may see, the newest first.
    pub async fn notices(
        &self,
        by: &Actor,
        filter: &NoticeFilter,
        page: &PageRequest,
    ) -> Result<Page<NoticeRow>, StoreError> {
        notices::notices(&self.pool, by.scope(), filter, page).await
    }

    /// How many notices of the actor's own tenant nobody has read yet.
    pub async fn unread_notices(&self, by: &Actor) -> Result<u64, StoreError> {
        notices::count_unread(&self.pool, by.tenant()).await
    }

    /// What a tenant was told of a change, the oldest first.
    pub async fn told(&self, change: ChangeId, tenant: TenantId) -> Result<Vec<Told>, StoreError> {
        notices::told(&self.pool, change, tenant).await
    }

    /// Where a tenant's part of each change stands, from a change on: the phase in a word, and how
    /// often it was altered.
    pub async fn courses(
        &self,
        by: &Actor,
        tenant: TenantId,
        from: ChangeId,
    ) -> Result<BTreeMap<ChangeId, (String, u64)>, StoreError> {
        load::must_see(by, tenant)?;
        notices::courses(&self.pool, tenant, from).await
    }

    /// How a notice fares on each channel.
    pub async fn deliveries(
        &self,
        by: &Actor,
        notice: NoticeId,
    ) -> Result<Vec<Delivery>, StoreError> {
        deliveries::deliveries(&self.pool, by.scope(), notice).await
    }

    /// The same for several notices; of one that is on no channel nothing.
    pub async fn deliveries_of(
        &self,
        by: &Actor,
        notices: &[NoticeId],
    ) -> Result<BTreeMap<NoticeId, Vec<Delivery>>, StoreError> {
        deliveries::of_all(&self.pool, by.scope(), notices).await
    }

    /// Somebody of the tenant says that they read it.
    pub async fn acknowledge_notice(
        &self,
        by: &Actor,
        id: NoticeId,
    ) -> Result<NoticeRow, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(notices::acknowledge(tx, by, id))).await
    }

    /// Adds a channel of a tenant.
    pub async fn create_channel(
        &self,
        by: &Actor,
        tenant: TenantId,
        new: NewChannel,
    ) -> Result<Channel, StoreError> {
        self.write((by.clone(), new), move |tx, (by, new)| {
            Box::pin(channels::create(tx, by, tenant, new))
        })
        .await
    }

    /// Has a channel written to in another language; `None` for the provider's.
    pub async fn set_channel_language(
        &self,
        by: &Actor,
        id: ChannelId,
        language: Option<String>,
    ) -> Result<Channel, StoreError> {
        self.write((by.clone(), language), move |tx, (by, language)| {
            Box::pin(channels::speak(tx, by, id, language.as_deref()))
        })
        .await
    }

    /// The channels in use that are written to in a language of their own.
    pub async fn channel_languages(&self) -> Result<Vec<(ChannelId, String)>, StoreError> {
        channels::languages(&self.pool).await
    }

    /// Ends a channel; what waits for it is given up. With the last of the tenant's own, what none has
    /// taken is given in the console.
    pub async fn end_channel(&self, by: &Actor, id: ChannelId) -> Result<Channel, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(channels::end(tx, by, id))).await
    }

    /// The channels of a tenant that are in use.
    pub async fn channels(&self, by: &Actor, tenant: TenantId) -> Result<Vec<Channel>, StoreError> {
        load::must_see(by, tenant)?;
        channels::of_tenant(&mut *self.pool.acquire().await?, tenant).await
    }

    /// Webhooks whose address stands in the clear, as those do that were made when all did.
    pub async fn unsealed_channels(&self) -> Result<Vec<Channel>, StoreError> {
        channels::unsealed(&self.pool).await
    }

    /// Keeps the address of a webhook sealed; in the clear only what everybody may see of it.
    pub async fn seal_channel(&self, id: ChannelId, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.write(sealed, move |tx, sealed| Box::pin(channels::seal(tx, id, sealed))).await
    }

    /// How the channels of a tenant fared so far; nothing of those that nothing was sent on.
    pub async fn channel_records(
        &self,
        by: &Actor,
        tenant: TenantId,
    ) -> Result<BTreeMap<ChannelId, ChannelRecord>, StoreError> {
        load::must_see(by, tenant)?;
        channels::records(&self.pool, tenant).await
    }
}

impl<T> Outcome<T> {
    fn refused(error: &impl std::fmt::Display, help: impl Into<String>) -> Self {
        Self::Refused { reason: error.to_string(), help: help.into() }
    }
}

impl ChangeStep {
    /// Only who takes a change back has to be a person.
    fn event(&self, by: &Actor, unsettled: u32) -> Result<ChangeEvent, StoreError> {
        Ok(match self.clone() {
            Self::Prove => ChangeEvent::Prove,
            Self::Pass(evidence) => ChangeEvent::Pass { evidence },
            Self::Fail(evidence) => ChangeEvent::Fail { evidence },
            Self::Lose => ChangeEvent::Lose,
            Self::Withdraw(reason) => ChangeEvent::Withdraw { by: advance::person(by)?, reason },
            Self::Close => ChangeEvent::Close { unsettled },
            Self::Reopen(reason) => ChangeEvent::Reopen { reason },
        })
    }
}
