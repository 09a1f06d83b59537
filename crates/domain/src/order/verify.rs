//! What an agent asks of an order before it does anything.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::policy::Policy;
use super::refusal::Refusal;
use super::said::{LONGEST_LIFE, Order};
use super::trusted::{Demand, Ranking, Trusted};
use super::versions::Versions;
use crate::change::alteration::back;
use crate::change::{
    Action, Basis, CLOCK_TOLERANCE, Case, ExactPackage, FileChange, FileHash, Heard, KeyId, Kind,
    Lacks, Plan, Rollback, Standing, StandingRule, Statement, Terms as PlanTerms, Verified,
    consented,
};
use crate::cloud::{ChangeId, UserId};
use crate::priority::Priority;
use crate::sla::{Approval, Dates, Silence};

/// Sequences are whole numbers that every JSON reader keeps (RFC 8259, 6).
const LARGEST_SEQUENCE: u64 = (1 << 53) - 1;

/// Every priority: a rule that covers them all needs nobody's ranking.
const PRIORITIES: [Priority; 4] =
    [Priority::Low, Priority::Medium, Priority::High, Priority::Critical];

/// An order and what came with it, each envelope opened with the keys that are pinned.
#[derive(Debug, Clone)]
pub struct Carried<'a> {
    /// The order.
    pub order: Verified<Order>,
    /// The plan's published bytes.
    pub plan: &'a [u8],
    /// What the tenant said.
    pub consents: Vec<Verified<Statement>>,
    /// What it agreed to ahead.
    pub rules: Vec<Verified<StandingRule>>,
    /// Envelopes that none of the pinned keys signed, in words. They count for nothing.
    pub unopened: Vec<String>,
    /// Contents of files, each under the SHA-256 that was made of it.
    pub contents: BTreeMap<FileHash, Vec<u8>>,
}

/// What is so on the host itself.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// What its owner allows.
    pub policy: &'a Policy,
    /// What is installed.
    pub installed: &'a Versions,
    /// Files and directories that the agent goes by: no order writes there.
    pub own: &'a [String],
}

/// An order that may be carried out now. Only [`verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    order: Order,
    key: KeyId,
    change: ChangeId,
    basis: Basis,
    rollback: Rollback,
    at: Timestamp,
    contents: BTreeMap<FileHash, Vec<u8>>,
}

impl Accepted {
    /// The order.
    pub const fn order(&self) -> &Order {
        &self.order
    }

    /// The provider's key that signed it.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// Of which change the plan is.
    pub const fn change(&self) -> ChangeId {
        self.change
    }

    /// What it rests on at the tenant's side.
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// The way back, by the plan.
    pub const fn rollback(&self) -> &Rollback {
        &self.rollback
    }

    /// When it was accepted.
    pub const fn at(&self) -> Timestamp {
        self.at
    }

    /// The contents of the files that it writes, all of them and no others.
    pub const fn contents(&self) -> &BTreeMap<FileHash, Vec<u8>> {
        &self.contents
    }
}

/// Whether an agent may carry an order out now, and what it goes by from then on. The latter is to be
/// durable before anything is done.
///
/// # Errors
/// The first reason against it. Nothing is remembered of what is refused.
pub fn verify(
    mut carried: Carried<'_>,
    trusted: &Trusted,
    local: &Local<'_>,
    now: Timestamp,
) -> Result<(Accepted, Trusted), Refusal> {
    let order = carried.order.said();
    check_for_us(order, carried.order.key(), trusted)?;
    check_new(order, trusted)?;
    check_time(order, trusted, now)?;
    let plan = the_plan(order, carried.plan, trusted)?;
    let (rollback, direction) = check_planned(order, &plan)?;
    if direction == Direction::Forth
        && trusted.done.iter().any(|done| done.plan == order.plan && done.stage == order.stage)
    {
        return Err(Refusal::Done { stage: order.stage });
    }
    check_window(order, now)?;
    let key = carried.order.key();
    let order = order.clone();
    let contents = std::mem::take(&mut carried.contents);
    let basis = tenants_side(carried, &plan, trusted, local, now)?;
    for action in &order.actions {
        if let Action::Upgrade { packages } = action {
            packages.iter().try_for_each(|package| check_newer(package, trusted, local))?;
        }
    }
    let contents = contents_of(&order, contents, local)?;
    local.policy.allows(&order.actions, local.installed, now).map_err(Refusal::Forbidden)?;
    let next = remember(trusted, &order, now);
    let change = plan.draft().change;
    Ok((Accepted { order, key, change, basis, rollback, at: now, contents }, next))
}

/// What is written, where orders write at all. Whoever could write what the agent goes by would be asked
/// for nothing any more.
fn contents_of(
    order: &Order,
    mut carried: BTreeMap<FileHash, Vec<u8>>,
    local: &Local<'_>,
) -> Result<BTreeMap<FileHash, Vec<u8>>, Refusal> {
    let mut contents = BTreeMap::new();
    for action in &order.actions {
        let Action::AlterFile { path, change } = action else { continue };
        if local.own.iter().any(|own| is_at(path, own)) || is_of_the_agents_unit(path) {
            return Err(Refusal::OwnFile { path: path.clone() });
        }
        let Some(after) = change.after().sha256().filter(|it| !contents.contains_key(it)) else {
            continue;
        };
        let none = || Refusal::NoContent { path: path.clone(), expected: after };
        contents.insert(after, carried.remove(&after).ok_or_else(none)?);
    }
    Ok(contents)
}

/// Whether a path is that of a file or directory, or lies below it.
fn is_at(path: &str, own: &str) -> bool {
    path.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What the service manager starts the agent by, wherever it looks for it.
fn is_of_the_agents_unit(path: &str) -> bool {
    path.split('/').any(|name| name.starts_with("patchwright-agent.service"))
}

/// By the provider, for this agent and its item.
fn check_for_us(order: &Order, key: KeyId, trusted: &Trusted) -> Result<(), Refusal> {
    if !trusted.order_keys.contains(&key) {
        return Err(Refusal::Key { key });
    }
    if order.agent != trusted.agent {
        return Err(Refusal::Agent { given: order.agent, ours: trusted.agent });
    }
    if order.ci != trusted.ci {
        return Err(Refusal::Item { given: order.ci, ours: trusted.ci });
    }
    Ok(())
}

/// Neither seen before nor out of turn.
fn check_new(order: &Order, trusted: &Trusted) -> Result<(), Refusal> {
    if trusted.nonces.contains_key(&order.nonce) {
        return Err(Refusal::Replayed { nonce: order.nonce });
    }
    let (given, seen) = (order.sequence, trusted.sequence);
    if given <= seen || given > LARGEST_SEQUENCE {
        return Err(Refusal::Sequence { given, seen });
    }
    Ok(())
}

/// The host's clock does not go back, and the order lies between its beginning and its end.
fn check_time(order: &Order, trusted: &Trusted, now: Timestamp) -> Result<(), Refusal> {
    let Order { issued_at, expires, .. } = *order;
    if trusted.seen_at.duration_since(now) > CLOCK_TOLERANCE {
        return Err(Refusal::Clock { now, seen: trusted.seen_at });
    }
    let life = expires.duration_since(issued_at);
    if life <= SignedDuration::ZERO || life > LONGEST_LIFE {
        return Err(Refusal::Life { issued_at, expires });
    }
    if issued_at.duration_since(now) > CLOCK_TOLERANCE {
        return Err(Refusal::Future { issued_at, now });
    }
    if issued_at < trusted.issued_at {
        return Err(Refusal::Backdated { issued_at, seen: trusted.issued_at });
    }
    if expires <= now {
        return Err(Refusal::Expired { expires, now });
    }
    Ok(())
}

/// The plan that the order names, for this tenant.
fn the_plan(order: &Order, bytes: &[u8], trusted: &Trusted) -> Result<Plan, Refusal> {
    let plan = Plan::parse(bytes).map_err(|error| Refusal::Plan { because: error.to_string() })?;
    if plan.hash() != order.plan {
        return Err(Refusal::OtherPlan { given: order.plan, carried: plan.hash() });
    }
    let (given, ours) = (plan.draft().tenant, trusted.consent_keys.tenant());
    if given != ours {
        return Err(Refusal::Tenant { given, ours });
    }
    Ok(plan)
}

/// Whether an order does what its plan says, or takes it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forth,
    /// The way back that the plan names: files get from exactly what it made of them to exactly what they were before.
    /// Windows do not bound it.
    Back,
}

/// The order says what the plan says, no more and no less; or the way back of it, where that is by files.
fn check_planned(order: &Order, plan: &Plan) -> Result<(Rollback, Direction), Refusal> {
    let none = || Refusal::NotPlanned { stage: order.stage, ci: order.ci };
    let place = usize::try_from(order.stage).ok().and_then(|stage| stage.checked_sub(1));
    let stage = place.and_then(|place| plan.draft().stages.get(place)).ok_or_else(none)?;
    let item = stage.items.iter().find(|item| item.ci == order.ci).ok_or_else(none)?;
    if item.rollback == Rollback::Files && back(&item.actions).as_ref() == Some(&order.actions) {
        return Ok((item.rollback.clone(), Direction::Back));
    }
    if order.actions != item.actions {
        let same = order.actions.iter().zip(&item.actions).take_while(|(a, b)| a == b).count();
        return Err(Refusal::Actions { at: same + 1 });
    }
    if order.window != stage.window {
        return Err(Refusal::Window { given: order.window, planned: stage.window });
    }
    Ok((item.rollback.clone(), Direction::Forth))
}

fn check_window(order: &Order, now: Timestamp) -> Result<(), Refusal> {
    if now < order.window.from {
        return Err(Refusal::Early { opens: order.window.from, now });
    }
    if order.window.until <= now {
        return Err(Refusal::Late { closed: order.window.until, now });
    }
    Ok(())
}

/// By the one rule by which a plan may start, with what is pinned in the place of what a control plane
/// says.
fn tenants_side(
    carried: Carried<'_>,
    plan: &Plan,
    trusted: &Trusted,
    local: &Local<'_>,
    now: Timestamp,
) -> Result<Basis, Refusal> {
    let keys = &trusted.consent_keys;
    let kind = kind_of(plan);
    let demand = demand(kind, &carried.order.said().actions, trusted, local);
    let ranked = carried.order.said().priority;
    let mut lacks = carried.unopened;
    let mut consents = Vec::new();
    for statement in carried.consents {
        match Heard::carried(statement, keys, now) {
            Ok(heard) => consents.push(heard),
            Err(error) => lacks.push(error.to_string()),
        }
    }
    let mut standing = Vec::new();
    for rule in carried.rules {
        match Standing::carried(rule, keys, now) {
            Ok(rule) => standing.push(rule),
            Err(error) => lacks.push(error.to_string()),
        }
    }
    let ask = |priority| {
        let terms = terms(kind, priority, demand);
        let case = Case {
            plan,
            author: UserId::of_content([0; 16]),
            terms: &terms,
            consents: &consents,
            standing: &standing,
            approvals: &[],
            keys,
        };
        consented(&case, now)
    };
    let answer: Result<Vec<Basis>, Lacks> = match trusted.terms.ranking {
        Ranking::Provider => ask(ranked).map(|basis| vec![basis]),
        Ranking::Unproven => PRIORITIES.into_iter().map(ask).collect(),
    };
    let none = |because: &Lacks| because.iter().map(ToString::to_string).collect::<Vec<_>>();
    match answer {
        Ok(bases) => bases.first().copied().ok_or(Refusal::Consent { lacks }),
        Err(because) => {
            lacks.extend(none(&because));
            Err(Refusal::Consent { lacks })
        }
    }
}

/// What has to be signed. Whoever writes any file runs any program, as by a file in `/etc/cron.d`: where
/// nothing has to be signed, that holds for the files that the host's owner names, and for no others.
fn demand(kind: Kind, actions: &[Action], trusted: &Trusted, local: &Local<'_>) -> Demand {
    let is_unnamed = |action: &Action| match action {
        // Who may read a file is more than what it holds: with the latter nothing becomes known.
        Action::AlterFile { change: FileChange::Replace { .. }, .. } => true,
        Action::AlterFile { path, .. } => !local.policy.names_file(path),
        _ => false,
    };
    if actions.iter().any(is_unnamed) {
        return Demand::Signature;
    }
    trusted.terms.demand(kind)
}

/// What a plan is, by what it does: nobody's word is needed for that.
fn kind_of(plan: &Plan) -> Kind {
    let is_of_file = |action: &Action| matches!(action, Action::AlterFile { .. });
    let alters = plan.items().flat_map(|item| &item.actions).any(is_of_file);
    if alters { Kind::Alteration } else { Kind::Patch }
}

/// What is agreed, as far as an agent can know it: no notice, and no silence that counts.
const fn terms(kind: Kind, priority: Priority, demand: Demand) -> PlanTerms {
    let approval = match demand {
        Demand::Signature => Approval::Required { silence: Silence::Waits },
        Demand::Nothing => Approval::NotNeeded,
    };
    let dates = Dates {
        approval,
        earliest_start: None,
        answer_by: None,
        evidence_by: None,
        due: Timestamp::MAX,
        deferrals_left: 0,
        longest_deferral: SignedDuration::ZERO,
    };
    PlanTerms { kind, priority, dates, two_persons_above: usize::MAX }
}

/// Neither older than what is installed, nor than what an order installed once.
fn check_newer(
    package: &ExactPackage,
    trusted: &Trusted,
    local: &Local<'_>,
) -> Result<(), Refusal> {
    let floors = [local.installed, &trusted.floors];
    if let Err(because) = local.installed.validate(&package.version) {
        return Err(Refusal::Version { package: Box::new(package.clone()), because });
    }
    for versions in floors {
        if let Some(floor) = versions.replaced_by(package)
            && versions.compare(&package.version, floor).is_lt()
        {
            return Err(Refusal::Older {
                package: Box::new(package.clone()),
                floor: floor.to_owned(),
            });
        }
    }
    Ok(())
}

fn remember(trusted: &Trusted, order: &Order, now: Timestamp) -> Trusted {
    let mut next = trusted.clone();
    next.sequence = order.sequence;
    next.issued_at = order.issued_at;
    next.seen_at = next.seen_at.max(now);
    // One that expired is refused for that, whatever its nonce: the clock does not go back.
    let past = next.seen_at.checked_sub(CLOCK_TOLERANCE).unwrap_or(Timestamp::MIN);
    next.nonces.retain(|_, expires| *expires > past);
    next.nonces.insert(order.nonce, order.expires);
    next
}
