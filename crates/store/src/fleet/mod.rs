//! What systems have installed, what they lack, and since when.
//!
//! ```text
//! observe ─► systems ─┐                       record_set_check
//! package set ────────┴─► sets_to_check ─► (check) ─┘ ─► pending ─► apply_checks ─► findings
//! ```

pub(crate) mod advisories;
pub(crate) mod checks;
pub(crate) mod findings;
mod pack;
pub(crate) mod systems;

use std::collections::BTreeMap;

use domain::check::Report;
use domain::cloud::{AdvisoryId, CiId, FindingId, GroupId, PatchId, TenantId};
use domain::fleet::{PackageSet, SetDigest};
use jiff::Timestamp;

use crate::actor::Actor;
use crate::answers::Once;
use crate::error::StoreError;
use crate::page::{Page, PageRequest};
use crate::{Store, cis};

pub use advisories::{Advisory, AdvisoryDecision, AdvisoryState, NewAdvisory};
pub use checks::{Check, CheckTotals, Counts, SetToCheck};
pub use findings::{Acceptance, Finding, FindingFilter, NewAcceptance, Patch};
pub use systems::{Observation, System as ObservedSystem};

/// Observations.
impl Store {
    /// Keeps a package set of a tenant; nothing happens where it is there already.
    pub async fn add_package_set(
        &self,
        by: &Actor,
        tenant: TenantId,
        set: PackageSet,
    ) -> Result<SetDigest, StoreError> {
        self.write((by.clone(), set), move |tx, (by, set)| {
            Box::pin(systems::add_set(tx, by, tenant, set))
        })
        .await
    }

    /// A package set of a tenant that the actor may see.
    pub async fn package_set(
        &self,
        by: &Actor,
        tenant: TenantId,
        digest: SetDigest,
    ) -> Result<Option<PackageSet>, StoreError> {
        systems::set(&mut *self.pool.acquire().await?, by.scope(), tenant, digest).await
    }

    /// Notes which package set a configuration item has. `false` where that set is not here yet:
    /// then nothing was noted, and the set is to be added first.
    pub async fn observe(
        &self,
        by: &Actor,
        ci: CiId,
        digest: SetDigest,
        observed_at: Timestamp,
    ) -> Result<bool, StoreError> {
        self.write(by.clone(), move |tx, by| {
            Box::pin(systems::observe(tx, by, ci, digest, observed_at))
        })
        .await
    }

    /// Notes when configuration items were last heard of; times never go back.
    pub async fn note_seen(&self, seen: Vec<(CiId, Timestamp)>) -> Result<(), StoreError> {
        self.write(seen, |tx, seen| Box::pin(systems::note_seen(tx, seen))).await
    }

    /// Which package sets a configuration item had, the newest first.
    pub async fn observations(
        &self,
        by: &Actor,
        ci: CiId,
        at_most: u16,
    ) -> Result<Vec<Observation>, StoreError> {
        let ci = self.ci(by, ci).await?;
        systems::history(&self.pool, ci.id, at_most).await
    }

    /// The systems that were observed with another package set since an instant, and have one.
    pub async fn systems_observed_since(
        &self,
        since: Timestamp,
    ) -> Result<Vec<ObservedSystem>, StoreError> {
        systems::since(&self.pool, since).await
    }

    /// The configuration items that left the cloud since an instant.
    pub async fn cis_retired_since(&self, since: Timestamp) -> Result<Vec<CiId>, StoreError> {
        systems::retired_since(&self.pool, since).await
    }

    /// Every observed system after an item, in the order of their ids, at most so many.
    pub async fn systems(
        &self,
        after: Option<CiId>,
        at_most: u32,
    ) -> Result<Vec<ObservedSystem>, StoreError> {
        systems::list(&self.pool, after, at_most).await
    }
}

/// Checks.
impl Store {
    /// Package sets in use that were not checked since an instant, or not since another one where
    /// something could not be told; at most so many.
    pub async fn sets_to_check(
        &self,
        before: Timestamp,
        unknown_before: Timestamp,
        at_most: u16,
    ) -> Result<Vec<SetToCheck>, StoreError> {
        checks::to_check(&self.pool, before, unknown_before, at_most).await
    }

    /// Keeps what a check of a package set found, in place of what the last one did.
    pub async fn record_set_check(
        &self,
        tenant: TenantId,
        digest: SetDigest,
        report: Report,
    ) -> Result<(), StoreError> {
        self.write(report, move |tx, report| Box::pin(checks::record(tx, tenant, digest, report)))
            .await
    }

    /// Carries new checks over to the findings of systems that wait for it, at most so many; says
    /// how many there were.
    pub async fn apply_checks(&self, at_most: u16) -> Result<u64, StoreError> {
        self.write((), move |tx, ()| Box::pin(checks::apply(tx, at_most))).await
    }

    /// The last check of a configuration item; `None` where it was never checked.
    pub async fn check(&self, by: &Actor, id: CiId) -> Result<Option<Check>, StoreError> {
        let ci = self.ci(by, id).await?;
        checks::of(&self.pool, &ci).await
    }

    /// The counts of the last checks of some configuration items that the actor may see.
    pub async fn check_counts(
        &self,
        by: &Actor,
        ids: &[CiId],
    ) -> Result<BTreeMap<CiId, Counts>, StoreError> {
        checks::counts(&self.pool, by.scope(), ids).await
    }

    /// How the configuration items stand that the actor may see, those that are gone aside. What
    /// was checked or heard of before `fresh_since` is unknown.
    pub async fn check_totals(
        &self,
        by: &Actor,
        fresh_since: Timestamp,
    ) -> Result<CheckTotals, StoreError> {
        let totals = self.check_totals_by_tenant(by, None, fresh_since).await?;
        Ok(totals.into_iter().map(|(_, totals)| totals).sum())
    }

    /// The same for each tenant that the actor may see; of one group, where one is named.
    pub async fn check_totals_by_tenant(
        &self,
        by: &Actor,
        group: Option<GroupId>,
        fresh_since: Timestamp,
    ) -> Result<Vec<(TenantId, CheckTotals)>, StoreError> {
        checks::totals(&self.pool, by.scope(), group, fresh_since, self.environment.now()).await
    }
}

/// Findings and patches.
impl Store {
    /// The findings that the actor may see.
    pub async fn findings(
        &self,
        by: &Actor,
        filter: &FindingFilter,
        page: &PageRequest,
    ) -> Result<Page<Finding>, StoreError> {
        findings::list(&self.pool, by.scope(), filter, page).await
    }

    /// One finding.
    pub async fn finding(&self, by: &Actor, id: FindingId) -> Result<Finding, StoreError> {
        findings::find(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// Accepts the risk of a finding for a while. Only the side whose duty the item is may do so.
    pub async fn accept_finding(
        &self,
        by: &Actor,
        once: Option<Once>,
        id: FindingId,
        acceptance: NewAcceptance,
    ) -> Result<Finding, StoreError> {
        self.write_once(by, once, acceptance, move |tx, (by, acceptance)| {
            Box::pin(findings::accept(tx, by, id, acceptance))
        })
        .await
    }

    /// Ends the acceptance of a finding's risk.
    pub async fn end_acceptance(&self, by: &Actor, id: FindingId) -> Result<Finding, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(findings::end_acceptance(tx, by, id))).await
    }

    /// Ends acceptances whose time is over, at most so many; says how many.
    pub async fn expire_acceptances(&self, at_most: u16) -> Result<u64, StoreError> {
        self.write((), move |tx, ()| Box::pin(findings::expire(tx, at_most))).await
    }

    /// The patches that systems lack which the actor may see.
    pub async fn patches(&self, by: &Actor, page: &PageRequest) -> Result<Page<Patch>, StoreError> {
        findings::patches(&self.pool, by.scope(), None, page).await
    }

    /// One patch that systems lack which the actor may see.
    pub async fn patch(&self, by: &Actor, id: PatchId) -> Result<Patch, StoreError> {
        let request = PageRequest { after: None, limit: 1 };
        let page = findings::patches(&self.pool, by.scope(), Some(id), &request).await?;
        page.items.into_iter().next().ok_or_else(|| StoreError::not_found("patch", &id))
    }
}

/// Advisories that people bring.
impl Store {
    /// Takes an advisory in. It concerns the submitter's own systems until the provider accepts
    /// it for everybody's.
    pub async fn submit_advisory(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewAdvisory,
    ) -> Result<Advisory, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(advisories::submit(tx, by, new)))
            .await
    }

    /// Decides about an advisory; with `expected`, only if it is still at that version.
    pub async fn decide_advisory(
        &self,
        by: &Actor,
        id: AdvisoryId,
        expected: Option<i64>,
        decision: AdvisoryDecision,
    ) -> Result<Advisory, StoreError> {
        self.write((by.clone(), decision), move |tx, (by, decision)| {
            Box::pin(advisories::decide(tx, by, id, expected, decision))
        })
        .await
    }

    /// The advisories that the actor may see: its own side's, and those accepted for everybody.
    pub async fn advisories(
        &self,
        by: &Actor,
        page: &PageRequest,
    ) -> Result<Page<Advisory>, StoreError> {
        advisories::list(&self.pool, by.scope(), page).await
    }

    /// One advisory.
    pub async fn advisory(&self, by: &Actor, id: AdvisoryId) -> Result<Advisory, StoreError> {
        advisories::find(&mut *self.pool.acquire().await?, by.scope(), id).await
    }
}

/// A configuration item of the actor's scope that is still part of the cloud.
async fn alive(
    tx: &mut crate::writer::Tx<'_>,
    by: &Actor,
    id: CiId,
) -> Result<cis::Ci, StoreError> {
    if !by.speaks_of(id) {
        return Err(StoreError::not_found("configuration item", &id));
    }
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    match ci.retired_at {
        None => Ok(ci),
        Some(_) => Err(StoreError::Refused {
            reason: format!("`{}` is retired", ci.name),
            help: "create a new configuration item instead",
        }),
    }
}
