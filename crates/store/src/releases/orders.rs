//! Orders: made when a step begins, signed when an agent fetches them, answered once.

use std::collections::BTreeSet;

use domain::agent::{OrderAnswer, OrderProgress};
use domain::change::{KeyId, Nonce};
use domain::cloud::{AgentId, CiId, EventKind, ReleaseId, TenantId};
use domain::order::Ended;
use domain::release::{Job, Report};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::runs::{self, corrupt, signed};
use super::{Answered, Fetched, Issued, OrderFilter, OrderRow, Release, checks, order_keys};
use crate::actor::Actor;
use crate::changes::{self, Dispute, load, signers};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;
use crate::{Store, agents};

/// Longest reason that is kept, in bytes; agents tell what programs said.
const LONGEST_REASON: usize = 2000;

/// A step begins: an order waits for the item's agent. An earlier one that nobody answered is called off.
/// One of the way `back` takes back what the plan's stage made of files.
pub(super) async fn make(
    tx: &mut Tx<'_>,
    release: &Release,
    job: &Job,
    back: bool,
) -> Result<(), StoreError> {
    call_off(tx, release.id, job.item, "another order takes its place").await?;
    let nonce = Nonce::from(tx.random::<16>());
    sqlx::query(
        "INSERT INTO orders (nonce, release_id, change_id, tenant_id, ci_id, plan_hash, stage,
                             attempt, created_at, is_back)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(nonce.to_string())
    .bind(release.id.to_string())
    .bind(release.change.to_string())
    .bind(job.warrant.tenant().to_string())
    .bind(job.item.to_string())
    .bind(job.warrant.plan().to_string())
    .bind(i64::from(job.stage))
    .bind(i64::from(job.attempt))
    .bind(tx.now.as_microsecond())
    .bind(i64::from(back))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

pub(super) async fn call_off(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
    reason: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE orders SET outcome = 'called_off', reason = $1
         WHERE release_id = $2 AND ci_id = $3 AND outcome IS NULL",
    )
    .bind(reason)
    .bind(release.to_string())
    .bind(ci.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Nobody waits for any order of a release any more.
pub(super) async fn call_all_off(tx: &mut Tx<'_>, release: ReleaseId) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE orders SET outcome = 'called_off', reason = $1
         WHERE release_id = $2 AND outcome IS NULL",
    )
    .bind("the release ended")
    .bind(release.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A look saw that what the agent said of the last order on an item is not so.
pub(super) async fn contradict(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
    because: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE orders SET outcome = 'conflict', reason = $1
         WHERE release_id = $2 AND ci_id = $3 AND attempt = (
             SELECT MAX(attempt) FROM orders WHERE release_id = $2 AND ci_id = $3)",
    )
    .bind(because)
    .bind(release.to_string())
    .bind(ci.to_string())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// A later look saw that what the agent said of an order is not so any more. Says which attempt it was.
pub(super) async fn contradict_later(
    tx: &mut Tx<'_>,
    order: Nonce,
    because: &str,
) -> Result<u32, StoreError> {
    sqlx::query("UPDATE orders SET outcome = 'conflict', reason = $1 WHERE nonce = $2")
        .bind(because)
        .bind(order.to_string())
        .execute(&mut *tx.connection)
        .await?;
    let row = sqlx::query("SELECT attempt FROM orders WHERE nonce = $1")
        .bind(order.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?
        .ok_or_else(|| StoreError::not_found("order", &order))?;
    small(&row, "attempt")
}

/// The stage that an attempt was about.
pub(super) async fn stage_of(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
    attempt: u32,
) -> Result<u32, StoreError> {
    let row = sqlx::query(
        "SELECT stage FROM orders WHERE release_id = $1 AND ci_id = $2 AND attempt = $3",
    )
    .bind(release.to_string())
    .bind(ci.to_string())
    .bind(i64::from(attempt))
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("order", &ci))?;
    small(&row, "stage")
}

/// What the last order on an item came to; `None` where there was none, or it is not answered.
pub(super) async fn last_outcome(
    tx: &mut Tx<'_>,
    release: ReleaseId,
    ci: CiId,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT outcome FROM orders WHERE release_id = $1 AND ci_id = $2
         ORDER BY attempt DESC LIMIT 1",
    )
    .bind(release.to_string())
    .bind(ci.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    row.map_or(Ok(None), |row| get(&row, "outcome"))
}

/// Who is not heard of for that long is not waited for as if it came at any moment.
const AWAITED: SignedDuration = SignedDuration::from_hours(8 * 24);

pub(super) async fn awaited(
    pool: &AnyPool,
    now: Timestamp,
) -> Result<BTreeSet<AgentId>, StoreError> {
    let since = now.checked_sub(AWAITED).unwrap_or(Timestamp::MIN);
    let rows = sqlx::query(
        // From the few that are waited for to their agents, which are many.
        "SELECT a.id AS id FROM orders o JOIN agents a ON a.ci_id = o.ci_id AND a.state = 'active'
         WHERE o.outcome IS NULL AND o.created_at > $1
         UNION
         SELECT a.id AS id FROM release_checks c
         JOIN agents a ON a.ci_id = c.ci_id AND a.state = 'active'
         WHERE c.since > $1
         UNION
         SELECT a.id AS id FROM verifications_due d
         JOIN agents a ON a.ci_id = d.ci_id AND a.state = 'active'
         WHERE d.due_at <= $2",
    )
    .bind(since.as_microsecond())
    .bind(now.as_microsecond())
    .fetch_all(pool)
    .await?;
    rows.iter().map(|row| parsed(row, "id")).collect()
}

pub(super) async fn pin(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: AgentId,
    key: &str,
) -> Result<(), StoreError> {
    let agent = agents::find(&mut *tx.connection, by.scope(), id).await?;
    if !by.speaks_of(agent.ci) {
        return Err(StoreError::not_found("agent", &id));
    }
    let altered = sqlx::query(
        "UPDATE agents SET attestor = $1 WHERE id = $2 AND (attestor IS NULL OR attestor <> $1)",
    )
    .bind(key)
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if altered > 0 {
        tx.record(NewEvent {
            tenant: agent.tenant,
            kind: EventKind::AgentPinned,
            by: by.clone(),
            object: id.to_string(),
            version: agent.version,
            payload: json!({ "ci": agent.ci, "attestor": key }),
        });
    }
    Ok(())
}

pub(super) async fn attestor(pool: &AnyPool, id: AgentId) -> Result<Option<String>, StoreError> {
    let row = sqlx::query("SELECT attestor FROM agents WHERE id = $1")
        .bind(id.to_string())
        .fetch_optional(pool)
        .await?;
    row.map_or(Ok(None), |row| get(&row, "attestor"))
}

/// Who asks has to be an agent.
fn agent_of(by: &Actor) -> Result<(AgentId, TenantId, CiId), StoreError> {
    match by {
        Actor::Agent { agent, tenant, ci } => Ok((*agent, *tenant, *ci)),
        Actor::System | Actor::Person { .. } => Err(StoreError::Refused {
            reason: "orders are fetched and answered by agents alone".to_owned(),
            help: "let the host join, and run its agent",
        }),
    }
}

/// For how long an agent that said something is done gets no other order before somebody has looked: what is
/// seen is then of the one order alone. A look that does not tell may not keep all else away for ever.
const LOOKED_AT_FIRST: SignedDuration = SignedDuration::from_mins(15);

pub(super) async fn waiting(store: &Store, by: &Actor) -> Result<Option<Fetched>, StoreError> {
    let (agent, tenant, ci) = agent_of(by)?;
    let mut connection = store.pool.acquire().await?;
    let unseen = store.environment.now() - LOOKED_AT_FIRST;
    let row = sqlx::query(
        "SELECT o.nonce, o.change_id, o.stage, o.is_back, o.agent_id, o.envelope, p.body, a.ordered
         FROM orders o JOIN plans p ON p.hash = o.plan_hash JOIN agents a ON a.id = $1
         WHERE o.ci_id = $2 AND o.tenant_id = $3 AND o.outcome IS NULL
             -- One that was handed over may be asked for again.
             AND (o.envelope IS NOT NULL OR NOT EXISTS (
                 SELECT 1 FROM release_checks c WHERE c.ci_id = o.ci_id AND c.since > $4))
             -- First what the machine may have to go back to is kept.
             AND NOT EXISTS (
                 SELECT 1 FROM snapshots s WHERE s.release_id = o.release_id AND s.ci_id = o.ci_id
                     AND s.state = 'wanted')
         ORDER BY o.created_at, o.nonce LIMIT 1",
    )
    .bind(agent.to_string())
    .bind(ci.to_string())
    .bind(tenant.to_string())
    .bind(unseen.as_microsecond())
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let plan = load::read_plan(&row)?;
    let change = parsed(&row, "change_id")?;
    let now = store.environment.now();
    let loaded = load::obligation(&mut connection, change, tenant, now).await?;
    let signed_for: Option<AgentId> = parsed_or_none(&row, "agent_id")?;
    let envelope: Option<String> = get(&row, "envelope")?;
    let consents = sqlx::query(
        "SELECT envelope FROM consents WHERE tenant_id = $1 AND change_id = $2 AND plan_hash = $3
         ORDER BY received_at, nonce",
    )
    .bind(tenant.to_string())
    .bind(change.to_string())
    .bind(plan.hash().to_string())
    .fetch_all(&mut *connection)
    .await?;
    let key_orders =
        sqlx::query("SELECT envelope FROM key_orders WHERE tenant_id = $1 ORDER BY version")
            .bind(tenant.to_string())
            .fetch_all(&mut *connection)
            .await?;
    let in_force: Vec<String> = signers::rules(&mut connection, tenant)
        .await?
        .into_iter()
        .filter(|rule| rule.standing.withdrawn().is_none() && now < rule.standing.rule().until)
        .map(|rule| rule.envelope)
        .collect();
    let keys = signers::public_keys(&mut connection, tenant).await?;
    let revoked: Vec<KeyId> = loaded
        .keys
        .keys()
        .filter(|key| loaded.keys.in_force(key.key.id).is_err())
        .map(|key| key.key.id)
        .collect();
    let ordered: i64 = get(&row, "ordered")?;
    Ok(Some(Fetched {
        nonce: parsed(&row, "nonce")?,
        plan,
        stage: small(&row, "stage")?,
        is_back: get::<i64>(&row, "is_back")? != 0,
        priority: loaded.obligation.facts().priority,
        sequence: u64::try_from(ordered).unwrap_or(0) + 1,
        // Another agent of the item cannot do anything with it.
        envelope: envelope.filter(|_| signed_for == Some(agent)),
        consents: texts(&consents)?,
        rules: in_force,
        key_orders: texts(&key_orders)?,
        revoked,
        public_keys: keys
            .into_iter()
            .map(|key| String::from_utf8_lossy(&key.public_key).into_owned())
            .collect(),
    }))
}

pub(super) async fn issue(
    tx: &mut Tx<'_>,
    by: &Actor,
    issued: &Issued,
) -> Result<String, StoreError> {
    let Issued { nonce, sequence, key_version, envelope } = issued;
    let (agent, tenant, ci) = agent_of(by)?;
    tx.hold("orders", "nonce", &nonce.to_string()).await?;
    let row = sqlx::query(
        "SELECT release_id, change_id, plan_hash, stage, attempt, agent_id, envelope FROM orders
         WHERE nonce = $1 AND ci_id = $2 AND tenant_id = $3 AND outcome IS NULL",
    )
    .bind(nonce.to_string())
    .bind(ci.to_string())
    .bind(tenant.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("order", &nonce))?;
    let signed_for: Option<AgentId> = parsed_or_none(&row, "agent_id")?;
    let before: Option<String> = get(&row, "envelope")?;
    if let (Some(before), true) = (before, signed_for == Some(agent)) {
        return Ok(before);
    }
    if order_keys::in_force(tx).await? != *key_version {
        return Err(StoreError::Refused {
            reason: "the order key was handed over at the same time".to_owned(),
            help: "fetch it again",
        });
    }
    // The number is the agent's next one, whatever was fetched at the same time.
    let counted = sqlx::query("UPDATE agents SET ordered = $1 WHERE id = $2 AND ordered = $1 - 1")
        .bind(signed(*sequence))
        .bind(agent.to_string())
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    if counted == 0 {
        return Err(StoreError::Refused {
            reason: "another order was fetched at the same time".to_owned(),
            help: "fetch it again",
        });
    }
    sqlx::query("UPDATE orders SET agent_id = $1, envelope = $2, handed_at = $3 WHERE nonce = $4")
        .bind(agent.to_string())
        .bind(envelope.as_str())
        .bind(tx.now.as_microsecond())
        .bind(nonce.to_string())
        .execute(&mut *tx.connection)
        .await?;
    let (release, attempt) = (parsed(&row, "release_id")?, small(&row, "attempt")?);
    let (plan, stage): (String, u32) = (get(&row, "plan_hash")?, small(&row, "stage")?);
    let change: String = get(&row, "change_id")?;
    tx.record(NewEvent {
        tenant,
        kind: EventKind::OrderIssued,
        by: Actor::System,
        object: ci.to_string(),
        version: signed(*sequence),
        payload: json!({
            "order": nonce, "agent": agent, "release": release, "change": change, "plan": plan,
            "stage": stage + 1, "envelope": envelope,
        }),
    });
    runs::report(tx, release, ci, attempt, Report::Started).await?;
    Ok(envelope.clone())
}

pub(super) async fn answer(
    tx: &mut Tx<'_>,
    by: &Actor,
    answered: &Answered,
) -> Result<(), StoreError> {
    let (agent, tenant, ci) = agent_of(by)?;
    let nonce = answered.answer.order();
    tx.hold("orders", "nonce", &nonce.to_string()).await?;
    let row = sqlx::query(
        "SELECT release_id, change_id, plan_hash, stage, is_back, attempt, outcome, answer, answered_at
         FROM orders WHERE nonce = $1 AND ci_id = $2 AND tenant_id = $3 AND agent_id = $4",
    )
    .bind(nonce.to_string())
    .bind(ci.to_string())
    .bind(tenant.to_string())
    .bind(agent.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return strange(tx, by, answered).await };
    if get::<Option<i64>>(&row, "answered_at")?.is_some() {
        let is_another = get::<Option<String>>(&row, "answer")? != Some(came(answered)?.3);
        // What is told again is told in the same words. A refusal after that is of an order that somebody
        // showed once more.
        return if is_another { strange(tx, by, answered).await } else { Ok(()) };
    }
    let was_called_off = get::<Option<String>>(&row, "outcome")?.is_some();
    let (outcome, reason, report, body) = came(answered)?;
    let reason = reason.map(|it| shortened(&it, LONGEST_REASON));
    sqlx::query(
        "UPDATE orders SET outcome = $1, reason = $2, answer = $3, answered_at = $4, execution = $5,
             answer_sha256 = $6
         WHERE nonce = $7",
    )
    .bind(outcome)
    .bind(reason.as_deref())
    .bind(&body)
    .bind(tx.now.as_microsecond())
    .bind(answered.result.as_ref().map(|result| result.execution.to_string()))
    .bind(answered.digest.map(|digest| digest.to_string()))
    .bind(nonce.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let (release, attempt): (ReleaseId, u32) =
        (parsed(&row, "release_id")?, small(&row, "attempt")?);
    let change: String = get(&row, "change_id")?;
    tx.record(NewEvent {
        tenant,
        kind: EventKind::OrderAnswered,
        by: by.clone(),
        object: ci.to_string(),
        version: i64::from(attempt),
        payload: json!({
            "order": nonce, "release": release, "change": change, "outcome": outcome,
            "reason": reason, "answer_sha256": answered.digest, "answer": body,
        }),
    });
    if let (Some(reason), true) = (&reason, accuses(answered)) {
        let about = (parsed(&row, "change_id")?, parsed(&row, "plan_hash")?);
        let dispute = Dispute { item: ci, because: format!("refused an order: {reason}") };
        changes::dispute(tx, about, tenant, &dispute).await?;
    }
    if was_called_off {
        // It is known and recorded; the release went on without it.
        return Ok(());
    }
    if get::<i64>(&row, "is_back")? != 0 && report == Report::Succeeded {
        // Somebody looks whether it is what it was.
        let stage = small(&row, "stage")?;
        return checks::ask(tx, release, ci, attempt, checks::What::Back, stage).await;
    }
    runs::report(tx, release, ci, attempt, report).await
}

/// An agent answers an order that was not given, or not any more: somebody else gives orders in our name,
/// and is recorded and told. Of a result that is told again in other words nothing is.
async fn strange(tx: &mut Tx<'_>, by: &Actor, answered: &Answered) -> Result<(), StoreError> {
    let (agent, tenant, ci) = agent_of(by)?;
    let nonce = answered.answer.order();
    let is_known = sqlx::query("SELECT 1 FROM orders WHERE nonce = $1 AND agent_id = $2")
        .bind(nonce.to_string())
        .bind(agent.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?
        .is_some();
    if is_known && !accuses(answered) {
        return Ok(());
    }
    let (outcome, reason, _, body) = came(answered)?;
    let reason = reason.map(|it| shortened(&it, LONGEST_REASON));
    tx.record(NewEvent {
        tenant,
        kind: EventKind::OrderAnswered,
        by: by.clone(),
        object: ci.to_string(),
        version: 0,
        payload: json!({
            "order": nonce, "agent": agent, "outcome": outcome, "reason": reason,
            "disputed": if is_known { "answered before" } else { "never given" },
            "answer_sha256": answered.digest, "answer": body,
        }),
    });
    // It is told with the last change that something was ordered of there; the record has it all.
    let last = sqlx::query(
        "SELECT change_id, plan_hash FROM orders WHERE ci_id = $1 AND tenant_id = $2
         ORDER BY created_at DESC, nonce LIMIT 1",
    )
    .bind(ci.to_string())
    .bind(tenant.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = last else { return Ok(()) };
    let which = if is_known { "that it had answered before" } else { "that nobody gave" };
    let because = match reason {
        Some(reason) => format!("{} an order {which}: {reason}", outcome.replace('_', " ")),
        None => format!("carried out an order {which}"),
    };
    let about = (parsed(&row, "change_id")?, parsed(&row, "plan_hash")?);
    changes::dispute(tx, about, tenant, &Dispute { item: ci, because }).await
}

/// Whether an answer accuses whoever gave the order.
fn accuses(answered: &Answered) -> bool {
    match (&answered.answer, &answered.result) {
        (OrderAnswer::Refused { refusal, .. }, _) => refusal.accuses(),
        (_, Some(result)) => {
            matches!(&result.ended, Ended::Refused { refusal } if refusal.accuses())
        }
        (OrderAnswer::Ended { .. }, None) => false,
    }
}

/// What an answer means: the word for it, why, what the release hears, and what is kept of it.
fn came(answered: &Answered) -> Result<(&'static str, Option<String>, Report, String), StoreError> {
    match (&answered.answer, &answered.result) {
        (OrderAnswer::Refused { refusal, .. }, _) => {
            Ok(("refused", Some(refusal.to_string()), Report::Failed, runs::text(&**refusal)?))
        }
        (OrderAnswer::Ended { envelope, .. }, Some(result)) => {
            let (word, reason, report) = match &result.ended {
                Ended::Done => ("done", None, Report::Succeeded),
                Ended::Refused { refusal } => {
                    ("refused", Some(refusal.to_string()), Report::Failed)
                }
                Ended::RolledBack { because } => {
                    ("rolled_back", Some(because.clone()), Report::Failed)
                }
                Ended::Stuck { because } => ("stuck", Some(because.clone()), Report::Failed),
            };
            Ok((word, reason, report, envelope.clone()))
        }
        (OrderAnswer::Ended { .. }, None) => {
            Err(StoreError::Corrupt { what: "an answer whose signature nobody checked".into() })
        }
    }
}

/// The beginning of a text, at most so many bytes long.
pub(super) fn shortened(text: &str, at_most: usize) -> String {
    let mut end = text.len().min(at_most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

pub(super) async fn list(
    pool: &AnyPool,
    by: &Actor,
    filter: &OrderFilter,
    at_most: u16,
) -> Result<Vec<OrderRow>, StoreError> {
    let (low, high) = range(by.scope());
    let word = |id: Option<String>| id.unwrap_or_default();
    let rows = sqlx::query(
        "SELECT nonce, release_id, change_id, tenant_id, ci_id, plan_hash, stage, created_at,
                agent_id, handed_at, at_work, outcome, reason, answer, answered_at
         FROM orders
         WHERE tenant_id BETWEEN $1 AND $2 AND ($3 = '' OR tenant_id = $3)
             AND ($4 = '' OR change_id = $4) AND ($5 = '' OR ci_id = $5)
             AND ($6 = '' OR release_id = $6)
         ORDER BY created_at DESC, nonce LIMIT $7",
    )
    .bind(low)
    .bind(high)
    .bind(word(filter.tenant.map(|it| it.to_string())))
    .bind(word(filter.change.map(|it| it.to_string())))
    .bind(word(filter.ci.map(|it| it.to_string())))
    .bind(word(filter.release.map(|it| it.to_string())))
    .bind(i64::from(at_most))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

fn read(row: &AnyRow) -> Result<OrderRow, StoreError> {
    Ok(OrderRow {
        nonce: parsed(row, "nonce")?,
        release: parsed(row, "release_id")?,
        change: parsed(row, "change_id")?,
        tenant: parsed(row, "tenant_id")?,
        ci: parsed(row, "ci_id")?,
        plan: parsed(row, "plan_hash")?,
        stage: small(row, "stage")?,
        created_at: time(row, "created_at")?,
        agent: parsed_or_none(row, "agent_id")?,
        handed_at: time_or_none(row, "handed_at")?,
        at_work: parsed_or_none(row, "at_work")?,
        outcome: get(row, "outcome")?,
        reason: get(row, "reason")?,
        answer: get(row, "answer")?,
        answered_at: time_or_none(row, "answered_at")?,
    })
}

fn texts(rows: &[AnyRow]) -> Result<Vec<String>, StoreError> {
    rows.iter().map(|row| get(row, "envelope")).collect()
}

pub(super) fn small(row: &AnyRow, column: &'static str) -> Result<u32, StoreError> {
    let number: i64 = get(row, column)?;
    u32::try_from(number).map_err(|error| corrupt(column, &error))
}

/// Notes how far an agent is with an order that it fetched. Nothing follows from it, so it is no part of the
/// record; of an order that is over, or that another agent has, there is none.
pub(super) async fn progress(
    tx: &mut Tx<'_>,
    by: &Actor,
    progress: OrderProgress,
) -> Result<(), StoreError> {
    let Actor::Agent { agent, ci, .. } = by else {
        return Err(StoreError::not_found("order", &progress.order));
    };
    let noted = sqlx::query(
        "UPDATE orders SET at_work = $1
         WHERE nonce = $2 AND ci_id = $3 AND agent_id = $4 AND outcome IS NULL",
    )
    .bind(progress.at.as_str())
    .bind(progress.order.to_string())
    .bind(ci.to_string())
    .bind(agent.to_string())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if noted == 0 {
        return Err(StoreError::not_found("open order", &progress.order));
    }
    Ok(())
}

/// Keeps what a tenant ordered about its keys, as it was signed.
pub(crate) async fn keep_key_order(
    connection: &mut AnyConnection,
    tenant: TenantId,
    version: u64,
    envelope: &str,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO key_orders (tenant_id, version, envelope) VALUES ($1, $2, $3)")
        .bind(tenant.to_string())
        .bind(signed(version))
        .bind(envelope)
        .execute(connection)
        .await?;
    Ok(())
}
