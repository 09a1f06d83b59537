//! The steps of changes and obligations, each with what follows from it in the same commit.

use domain::change::{self, ChangeEffect, ChangeStage, Countersign, Decision, Phase, Plan, Sight};
use domain::cloud::{ChangeId, CiId, EventKind, FindingId, TenantId, UserId};
use domain::obligation::{Effect, Event, KeptObligation, Obligation};
use domain::sla::{Approval, Moment, Party, Policy, Rung, Silence, State};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::load::{self, Loaded, must_see, text};
use super::{
    ChangeStep, Matter, Move, Outcome, POSTPONED, TrackedChange, alarms, lists, look, notices, open,
};
use crate::actor::Actor;
use crate::bakes;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::fleet::findings;
use crate::history;
use crate::releases;
use crate::value::{get, parsed};
use crate::writer::Tx;

/// What time alone brings about was brought about; whoever says that it is due again at once is
/// wrong, and must not keep the timer busy.
const SOONEST: SignedDuration = SignedDuration::from_secs(60);

/// How soon what is to be verified is looked at again where nothing new came in.
const RELOOK: SignedDuration = SignedDuration::from_mins(5);

/// Stands between the reason of an acceptance that a tenant signed, and the key.
pub(crate) const SIGNED_BY: &str = " (signed by ";

pub(crate) async fn step_change(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: ChangeId,
    step: &ChangeStep,
) -> Result<Outcome<TrackedChange>, StoreError> {
    tx.hold("changes", "id", &id.to_string()).await?;
    tx.look_at_clock();
    let mut tracked = lists::change(&mut *tx.connection, by.scope(), id).await?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS unsettled FROM obligations WHERE change_id = $1 AND is_settled = 0",
    )
    .bind(id.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    let unsettled = u32::try_from(get::<i64>(&row, "unsettled")?).unwrap_or(u32::MAX);
    let event = step.event(by, unsettled)?;
    let (next, effects) = match tracked.change.step(event, tx.now) {
        Ok(stepped) => stepped,
        Err(refusal) => {
            let (reason, version) = (refusal.to_string(), signed(tracked.change.version()));
            let (tenant, object) = (tracked.found_by, id.to_string());
            refused(tx, by, tenant, object, version, &reason);
            return Ok(Outcome::refused(&refusal, refusal.help()));
        }
    };
    tracked.change = next;
    sqlx::query("UPDATE changes SET record = $1, stage = $2, version = $3 WHERE id = $4")
        .bind(text(&tracked.change)?)
        .bind(tracked.change.stage().as_str())
        .bind(signed(tracked.change.version()))
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    for effect in effects {
        match effect {
            ChangeEffect::Record { version, from, to } => tx.record(NewEvent {
                tenant: tracked.found_by,
                kind: EventKind::ChangeAltered,
                by: by.clone(),
                object: id.to_string(),
                version: signed(version),
                payload: json!({ "from": from, "to": to, "stage": tracked.change.stage() }),
            }),
            // Each tenant's part learns of it when it is looked at, which is now.
            ChangeEffect::Plan | ChangeEffect::Withdraw => {
                // In parallel, what new VMs are made from.
                if effect == ChangeEffect::Plan {
                    bakes::begin(tx, id).await?;
                }
                sqlx::query(
                    "UPDATE obligations SET wakes_at = $1
                     WHERE change_id = $2 AND phase NOT IN ('verified', 'withdrawn', 'closed')",
                )
                .bind(tx.now.as_microsecond())
                .bind(id.to_string())
                .execute(&mut *tx.connection)
                .await?;
            }
            ChangeEffect::Prove => {}
        }
    }
    Ok(Outcome::Done(tracked))
}

pub(crate) async fn advance(
    tx: &mut Tx<'_>,
    by: &Actor,
    change: ChangeId,
    tenant: TenantId,
    action: &Move,
) -> Result<Outcome<Matter>, StoreError> {
    must_see(by, tenant)?;
    let tracked = lists::change(&mut *tx.connection, by.scope(), change).await?;
    let loaded = load::held(tx, change, tenant).await?;
    let loaded = learn_told(tx, loaded).await?;
    if let Move::Plan { plan, .. } = action
        && let Some(reason) = strange_item(tx, plan, tenant).await?
    {
        let version = signed(loaded.obligation.version());
        refused(tx, by, tenant, change.to_string(), version, &reason);
        let help = "name items as `get cis` has them, each with the side that must patch it";
        return Ok(Outcome::refused(&reason, help));
    }
    let event = event(tx, by, &loaded, action).await?;
    if let Event::Scanned { sight: Sight::Unknown, .. } = event {
        // Nothing is decided by it, and the clock runs on.
        let version = signed(loaded.obligation.version());
        let reason = "no check since then tells whether it is done everywhere";
        refused(tx, by, tenant, change.to_string(), version, reason);
        let help = "wait for the next reports; `describe ci` says when an item was heard of";
        return Ok(Outcome::refused(&reason, help));
    }
    match take(tx, by, &loaded, event).await? {
        Outcome::Done(obligation) => {
            if let Move::Answer { statement, envelope } = action {
                keep_consent(tx, by, tenant, statement.said(), statement.key(), envelope).await?;
            }
            let Loaded { policy, keys, standing, .. } = loaded;
            Ok(Outcome::Done(Matter { obligation, change: tracked, policy, keys, standing }))
        }
        Outcome::Refused { reason, help } => Ok(Outcome::Refused { reason, help }),
    }
}

/// What is wrong with an item of a plan: a tenant's yes reaches no other tenant's items, and nobody
/// gets around the rules for the provider's items by calling them the tenant's.
async fn strange_item(
    tx: &mut Tx<'_>,
    plan: &Plan,
    tenant: TenantId,
) -> Result<Option<String>, StoreError> {
    for item in plan.items() {
        let ci = match cis::find(&mut *tx.connection, Some(tenant), item.ci).await {
            Ok(ci) => ci,
            Err(StoreError::NotFound { .. }) => {
                return Ok(Some(format!("{} is no item of this tenant", item.ci)));
            }
            Err(error) => return Err(error),
        };
        if ci.retired_at.is_some() {
            return Ok(Some(format!("{} ({}) left the cloud", ci.name, ci.id)));
        }
        if ci.duty != item.duty {
            let reason = format!(
                "{} ({}) is the {}'s to patch, and the plan says the {}'s",
                ci.name, ci.id, ci.duty, item.duty
            );
            return Ok(Some(reason));
        }
    }
    Ok(None)
}

/// Has an obligation know that its tenant was told how it ended; one that ended before obligations knew
/// of it does not.
async fn learn_told(tx: &mut Tx<'_>, loaded: Loaded) -> Result<Loaded, StoreError> {
    let Some(at) = notices::done_told(tx, &loaded).await? else { return Ok(loaded) };
    let (change, tenant) = (loaded.obligation.change(), loaded.obligation.tenant());
    take(tx, &Actor::System, &loaded, Event::DoneTold { at }).await?;
    load::held(tx, change, tenant).await
}

/// What time brings about for an obligation.
pub(super) async fn wake(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
) -> Result<(), StoreError> {
    let mut loaded = load::held(tx, change, tenant).await?;
    if let Some(at) = look::restarted(tx, &loaded.obligation).await? {
        take(tx, &Actor::System, &loaded, Event::Restarted { at }).await?;
        loaded = load::held(tx, change, tenant).await?;
    }
    loaded = learn_told(tx, loaded).await?;
    if let Some(event) = look::news(tx, &loaded).await? {
        if let (Event::Scanned { sight: Sight::Missing, .. }, ChangeStage::Closed) =
            (&event, loaded.change.stage())
        {
            let reason = "a patch of it is missing again".parse();
            let reason = reason.map_err(|error| load::corrupt("a reason", &error))?;
            step_change(tx, &Actor::System, change, &ChangeStep::Reopen(reason)).await?;
            loaded = load::held(tx, change, tenant).await?;
        }
        take(tx, &Actor::System, &loaded, event).await?;
        loaded = load::held(tx, change, tenant).await?;
    }
    match take(tx, &Actor::System, &loaded, Event::Tick).await? {
        Outcome::Done(_) => Ok(()),
        Outcome::Refused { reason, help: _ } => {
            Err(StoreError::Refused { reason, help: "set the clock, or look at the obligation" })
        }
    }
}

/// Leaves an obligation alone for a while.
pub(super) async fn postpone(
    tx: &mut Tx<'_>,
    change: ChangeId,
    tenant: TenantId,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE obligations SET wakes_at = $1 WHERE change_id = $2 AND tenant_id = $3")
        .bind((tx.now + POSTPONED).as_microsecond())
        .bind(change.to_string())
        .bind(tenant.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Has a tenant's obligations looked at that are about patches of a source package: a check saw
/// something new of it, also where one is verified or closed.
pub(crate) async fn wake_source(
    tx: &mut Tx<'_>,
    tenant: TenantId,
    release: &str,
    source: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE obligations SET wakes_at = $1
         WHERE tenant_id = $2 AND phase <> 'withdrawn' AND (wakes_at IS NULL OR wakes_at > $1)
             AND change_id IN (SELECT change_id FROM change_patches
                               WHERE source = $3 AND release = $4)",
    )
    .bind(tx.now.as_microsecond())
    .bind(tenant.to_string())
    .bind(source)
    .bind(release)
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// The same for all that an item lacks or lacked: it leaves the cloud.
pub(crate) async fn wake_sources_of(tx: &mut Tx<'_>, ci: CiId) -> Result<(), StoreError> {
    let rows = sqlx::query("SELECT tenant_id, release, source FROM findings WHERE ci_id = $1")
        .bind(ci.to_string())
        .fetch_all(&mut *tx.connection)
        .await?;
    for row in &rows {
        let (release, source): (String, String) = (get(row, "release")?, get(row, "source")?);
        wake_source(tx, parsed(row, "tenant_id")?, &release, &source).await?;
    }
    Ok(())
}

/// Has all obligations of a tenant looked at: its keys or its rules are others.
pub(super) async fn wake_tenant(tx: &mut Tx<'_>, tenant: TenantId) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE obligations SET wakes_at = $1
         WHERE tenant_id = $2 AND phase NOT IN ('verified', 'withdrawn', 'closed')",
    )
    .bind(tx.now.as_microsecond())
    .bind(tenant.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Steps a loaded obligation, and keeps it with all that follows.
pub(super) async fn take(
    tx: &mut Tx<'_>,
    by: &Actor,
    loaded: &Loaded,
    event: Event,
) -> Result<Outcome<Obligation>, StoreError> {
    let obligation = &loaded.obligation;
    match obligation.step(event, &loaded.context(), tx.now) {
        Ok((next, effects)) => {
            follow(tx, by, &next, effects).await?;
            save(tx, &next, &loaded.policy, false).await?;
            if obligation.phase() != next.phase()
                && let Some(share) = next.share()
                && share.phase() == Phase::Notified
            {
                let (tenant, plan) = (next.tenant(), share.plan().hash());
                let dates = &share.terms().dates;
                let is_deemed =
                    matches!(dates.approval, Approval::Required { silence: Silence::Approves });
                let deemed_at = dates.answer_by.filter(|_| is_deemed);
                Box::pin(releases::asked(tx, tenant, plan, deemed_at)).await?;
            }
            Ok(Outcome::Done(next))
        }
        Err(refusal) => {
            let (tenant, object) = (obligation.tenant(), obligation.change().to_string());
            let version = signed(obligation.version());
            refused(tx, by, tenant, object, version, &refusal.to_string());
            Ok(Outcome::refused(&refusal, refusal.help()))
        }
    }
}

/// Keeps an obligation.
pub(super) async fn save(
    tx: &mut Tx<'_>,
    obligation: &Obligation,
    policy: &Policy,
    is_new: bool,
) -> Result<(), StoreError> {
    let clock = obligation.clock(policy, tx.now);
    let state = clock.as_ref().map_or("ok", |clock| state_word(&clock.state));
    let owed = clock.iter().flat_map(|clock| &clock.owed).filter(|owed| owed.is_open());
    let owed = owed.min_by_key(|owed| owed.by).copied();
    let holder = clock.as_ref().and_then(|clock| clock.holder).map(|holder| text(&holder));
    let holder = holder.transpose()?.map(|word| word.trim_matches('"').to_owned());
    let wakes_at = obligation
        .wakes_at(policy, tx.now)
        .map(|at| if at <= tx.now { tx.now + SOONEST } else { at });
    // What is to be verified is looked at until it can be told.
    let looks_at = (obligation.phase() == "verifying").then(|| tx.now + RELOOK);
    let wakes_at = wakes_at.into_iter().chain(looks_at).min();
    let statement = if is_new {
        "INSERT INTO obligations (record, phase, holder, state, priority, due, stage_deadline,
                                  wakes_at, is_settled, version, withdrawn_at, owed, owed_by,
                                  change_id, tenant_id)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    } else {
        "UPDATE obligations SET record = $1, phase = $2, holder = $3, state = $4, priority = $5,
             due = $6, stage_deadline = $7, wakes_at = $8, is_settled = $9, version = $10,
             withdrawn_at = $11, owed = $12, owed_by = $13
         WHERE change_id = $14 AND tenant_id = $15"
    };
    let micros = Timestamp::as_microsecond;
    sqlx::query(statement)
        .bind(text(&obligation.to_kept())?)
        .bind(obligation.phase())
        .bind(holder)
        .bind(state)
        .bind(findings::rank(obligation.facts().priority))
        .bind(obligation.dues().binding().map(|date| micros(date.due)))
        .bind(clock.and_then(|clock| clock.stage_deadline).map(micros))
        .bind(wakes_at.map(micros))
        .bind(i64::from(obligation.is_settled()))
        .bind(signed(obligation.version()))
        .bind(obligation.instants().at(Moment::Withdrawn).map(micros))
        .bind(owed.map(|owed| owed.errand.as_str()))
        .bind(owed.map(|owed| micros(owed.by)))
        .bind(obligation.change().to_string())
        .bind(obligation.tenant().to_string())
        .execute(&mut *tx.connection)
        .await
        .map_err(StoreError::exists("obligation", &obligation.change()))?;
    Ok(())
}

/// Records what happened, and passes on what is to be done.
pub(super) async fn follow(
    tx: &mut Tx<'_>,
    by: &Actor,
    obligation: &Obligation,
    effects: Vec<Effect>,
) -> Result<(), StoreError> {
    let (change, tenant) = (obligation.change(), obligation.tenant());
    let version = signed(obligation.version());
    let record = |tx: &mut Tx<'_>, kind, version, payload| {
        tx.record(NewEvent {
            tenant,
            kind,
            by: by.clone(),
            object: change.to_string(),
            version,
            payload,
        });
    };
    // Who held the ball when the date passed that is told next.
    let mut held_by = None;
    for (place, effect) in (0_i64..).zip(effects) {
        match effect {
            Effect::Record { version: 1, .. } => {
                let payload = json!({
                    "policy": obligation.policy(), "instants": obligation.instants(),
                    "due": obligation.dues(), "duty": obligation.duty(),
                });
                record(tx, EventKind::ObligationOpened, 1, payload);
            }
            Effect::Record { version, event, from, to } => {
                let payload = json!({ "event": event, "from": from, "to": to });
                record(tx, EventKind::ObligationAltered, signed(version), payload);
            }
            Effect::Escalate { rung, holder } => {
                let payload = json!({ "step": rung, "holder": holder });
                record(tx, EventKind::ObligationEscalated, version, payload);
                // What nobody holds any more is settled; only a date that passed is told even so, and what
                // the provider still owes.
                let holder = match &rung {
                    Rung::Errand { .. } => Some(Party::Provider),
                    Rung::Share { .. } | Rung::Stage { .. } | Rung::Due { .. } => {
                        holder.or(held_by.take())
                    }
                };
                if let Some(holder) = holder {
                    alarms::raise(tx, obligation, place, &rung, holder).await?;
                }
            }
            Effect::Breach(breach) => {
                held_by = Some(breach.held_by);
                record(tx, EventKind::ObligationBreached, version, json!({ "breach": breach }));
            }
            Effect::Share(change::Effect::Notify { notice, plan }) => {
                sqlx::query(
                    "INSERT INTO tidings (change_id, tenant_id, version, place, what, plan_hash,
                                          created_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)",
                )
                .bind(change.to_string())
                .bind(tenant.to_string())
                .bind(version)
                .bind(place)
                .bind(text(&notice)?)
                .bind(plan.to_string())
                .bind(tx.now.as_microsecond())
                .execute(&mut *tx.connection)
                .await?;
            }
            Effect::Share(change::Effect::Start(permit)) => {
                let payload = json!({
                    "plan": permit.plan(), "basis": permit.basis(),
                    "granted_at": permit.granted_at(), "window": permit.window(),
                });
                record(tx, EventKind::RolloutPermitted, version, payload);
                history::expect(tx, tenant, &permit).await?;
                Box::pin(releases::permitted(tx, tenant, permit)).await?;
            }
            Effect::Share(change::Effect::AcceptFinding { acceptance, key }) => {
                accept_findings(tx, by, obligation, &acceptance, key).await?;
            }
            Effect::Share(change::Effect::EndAcceptance) => {
                for id in open_findings(tx, obligation).await? {
                    findings::end_signed_acceptance(tx, by, id).await?;
                }
            }
            // In the record, and in when the obligation wakes.
            Effect::Share(_) => {}
        }
    }
    Ok(())
}

/// A tenant's no or later leaves findings open: their risk is somebody's meanwhile.
async fn accept_findings(
    tx: &mut Tx<'_>,
    by: &Actor,
    obligation: &Obligation,
    acceptance: &change::Acceptance,
    key: change::KeyId,
) -> Result<(), StoreError> {
    let new = crate::NewAcceptance {
        reason: format!("{}{SIGNED_BY}{key})", acceptance.reason),
        risk_owner: acceptance.risk_owner.to_string(),
        until: acceptance.expiry,
    };
    for id in open_findings(tx, obligation).await? {
        findings::accept_for(tx, by, id, &new).await?;
    }
    Ok(())
}

/// What a tenant lacks of an obligation's patches.
async fn open_findings(
    tx: &mut Tx<'_>,
    obligation: &Obligation,
) -> Result<Vec<FindingId>, StoreError> {
    let rows = sqlx::query(
        "SELECT findings.id AS id FROM findings
         JOIN change_patches ON change_patches.patch_id = findings.patch_id
         WHERE change_id = $1 AND tenant_id = $2 AND state = 'open' ORDER BY findings.id",
    )
    .bind(obligation.change().to_string())
    .bind(obligation.tenant().to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

async fn event(
    tx: &mut Tx<'_>,
    by: &Actor,
    loaded: &Loaded,
    action: &Move,
) -> Result<Event, StoreError> {
    Ok(match action.clone() {
        Move::Assess(mut facts) => {
            if facts.asset.exposure.is_none() {
                facts.expose(open::exposure_for(tx, &loaded.obligation).await?);
            }
            Event::Assess { facts }
        }
        Move::Plan { plan, two_persons_above } => {
            sqlx::query(
                "INSERT INTO plans (hash, tenant_id, change_id, body, created_by, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(plan.hash().to_string())
            .bind(loaded.obligation.tenant().to_string())
            .bind(loaded.obligation.change().to_string())
            .bind(plan.to_bytes())
            .bind(by.id())
            .bind(tx.now.as_microsecond())
            .execute(&mut *tx.connection)
            .await?;
            let elsewhere = provider_items_elsewhere(tx, loaded).await?;
            let two_persons_above = two_persons_above.saturating_sub(elsewhere);
            Event::Plan { plan, author: person(by)?, two_persons_above }
        }
        Move::Acknowledge => Event::Acknowledged,
        Move::Answer { statement, envelope: _ } => Event::Answer(statement),
        Move::Countersign(plan) => Event::Countersign(Countersign { by: person(by)?, plan }),
        Move::Interrupt(interruption) => Event::Interrupt { interruption },
        Move::Finish { plan, outcome } => Event::Finished { plan, outcome },
        Move::Scan => {
            let sight = look::sight(tx, loaded).await?;
            Event::Scanned { taken_at: tx.now, sight }
        }
        Move::Saw { sight, evidence: _ } => Event::Scanned { taken_at: tx.now, sight },
        Move::SaveEvidence { .. } => Event::EvidenceSaved,
        Move::ReEvaluate { .. } => Event::ReEvaluated,
        Move::Withdraw => Event::Withdraw,
        Move::Close => Event::Close,
    })
}

/// How many items of the provider's duty the same change touches for other tenants: one person does
/// not get around another's look by splitting it (T15).
async fn provider_items_elsewhere(tx: &mut Tx<'_>, loaded: &Loaded) -> Result<usize, StoreError> {
    let (change, tenant) = (loaded.obligation.change(), loaded.obligation.tenant());
    let rows = sqlx::query(
        "SELECT plans.body AS body, obligations.record AS record FROM plans
         JOIN obligations ON obligations.change_id = plans.change_id
             AND obligations.tenant_id = plans.tenant_id
         WHERE plans.change_id = $1 AND plans.tenant_id <> $2
             AND obligations.phase <> 'withdrawn'",
    )
    .bind(change.to_string())
    .bind(tenant.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut items = 0;
    for row in &rows {
        let plan = load::read_plan(row)?;
        let kept: KeptObligation = load::json(row, "record")?;
        if kept.plan() == Some(plan.hash()) {
            items += plan.provider_items();
        }
    }
    Ok(items)
}

async fn keep_consent(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    said: &change::Statement,
    key: change::KeyId,
    envelope: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO consents (tenant_id, nonce, change_id, plan_hash, decision, key_id, envelope,
                               received_by, received_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(tenant.to_string())
    .bind(said.nonce.to_string())
    .bind(said.change.to_string())
    .bind(said.plan.to_string())
    .bind(said.decision.as_str())
    .bind(key.to_string())
    .bind(envelope)
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("statement", &said.nonce))?;
    let until: Option<Timestamp> = Decision::holds_until(&said.decision);
    tx.record(NewEvent {
        tenant,
        kind: EventKind::ConsentGiven,
        by: by.clone(),
        object: said.change.to_string(),
        version: 1,
        payload: json!({
            "plan": said.plan, "decision": said.decision.as_str(), "until": until, "key": key,
            "envelope": envelope,
        }),
    });
    Ok(())
}

pub(super) fn refused(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    object: String,
    version: i64,
    reason: &str,
) {
    let payload = json!({ "reason": reason });
    let (kind, by) = (EventKind::ChangeRefused, by.clone());
    tx.record(NewEvent { tenant, kind, by, object, version, payload });
}

/// Somebody with a name: a plan has an author, a decision somebody who made it.
pub(crate) fn person(by: &Actor) -> Result<UserId, StoreError> {
    match by {
        Actor::Person { user, .. } => Ok(*user),
        Actor::System | Actor::Agent { .. } => Err(StoreError::Refused {
            reason: "a person has to decide this".to_owned(),
            help: "sign in as a person, or use a person's token",
        }),
    }
}

pub(super) fn signed(version: u64) -> i64 {
    i64::try_from(version).unwrap_or(i64::MAX)
}

const fn state_word(state: &State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warn { .. } => "warn",
        State::Overdue { .. } => "overdue",
        State::Breached(_) => "breached",
        State::Met => "met",
        State::Withdrawn => "withdrawn",
    }
}
