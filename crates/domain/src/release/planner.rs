//! From a fleet and an order to a layout with the plans that tenants agree to.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::fleet::{Fleet, Order, Target};
use super::layout::{Body, Layout, NoLayout, Return, Slot, StepKind, Task, Wave};
use super::schedule::{Placed, Span, schedule, soak, step_of};
use super::seats::seats;
use super::terrain::Terrain;
use crate::change::{Action, Draft, Item, Plan, PlanHash, Rollback, Stage, Window};
use crate::cloud::TenantId;

/// Lays a release out: who has its turn in which wave, what is done, and when.
///
/// An item goes behind all that it depends on. What cannot be placed stands in
/// [`Layout::unplaced`] with the reason, and nothing of it in any plan. The same fleet, order and
/// time give the same layout.
///
/// # Errors
/// Where there is nothing to lay out: as [`NoLayout`].
pub fn plan(fleet: &Fleet, order: &Order<'_>, now: Timestamp) -> Result<Layout, NoLayout> {
    if order.until <= now {
        return Err(NoLayout::NoTime { now, until: order.until });
    }
    for target in &fleet.targets {
        check(target)?;
    }
    let terrain = Terrain::new(fleet)?;
    let in_order = terrain.in_order()?;
    let seats = seats(order, &fleet.targets, &terrain, &in_order);
    let mut scheduled = schedule(order, &fleet.targets, &terrain, &seats, now);
    // Within a wave in the order in which they begin.
    scheduled.placed.sort_by_key(|placed| (placed.wave, placed.install.at));
    let waves = waves(order, &scheduled.placed);
    let (plans, slots) = plans(fleet, order, &scheduled.placed)?;
    let mut wave_of = 0;
    let tasks = scheduled.placed.iter().zip(slots).enumerate().map(|(place, (placed, slots))| {
        while waves[wave_of].tasks.end <= place {
            wave_of += 1;
        }
        let [install, reboot] = slots;
        let work = fleet.targets[placed.node as usize].work.as_ref();
        let can_return = match work.map(|work| &work.content.rollback) {
            None | Some(Rollback::Impossible { .. }) => Return::Impossible,
            Some(Rollback::Snapshot) => Return::Snapshot,
            Some(Rollback::Packages { .. } | Rollback::Files) => Return::Possible,
        };
        let wave = u16::try_from(wave_of).unwrap_or(u16::MAX);
        let install = install.unwrap_or_else(|| slot_of(placed.install, 0, placed.install.at));
        Task { node: placed.node, wave, install, reboot, can_return }
    });
    let tasks = tasks.collect();
    let unplaced = scheduled.unplaced.into_iter();
    let unplaced = unplaced.map(|(node, because)| (terrain.node(node).ci, because)).collect();
    Ok(Layout::seal(Body {
        release: order.release,
        change: order.change,
        profile: order.profile.name().to_owned(),
        patience: order.profile.patience(),
        on_failure: order.profile.on_failure(),
        caps: order.caps,
        waves,
        tasks,
        terrain,
        plans,
        unplaced,
    }))
}

/// What cannot be planned with at all.
fn check(target: &Target) -> Result<(), NoLayout> {
    let Some(work) = &target.work else { return Ok(()) };
    let reboot = work.reboot.as_ref().map(|reboot| reboot.takes);
    if let Some(takes) =
        [Some(work.takes), reboot].into_iter().flatten().find(|it| it.as_mins() < 1)
    {
        return Err(NoLayout::Takes { ci: target.ci, seconds: takes.as_secs() });
    }
    if work.content.actions.contains(&Action::Reboot) {
        return Err(NoLayout::HiddenReboot { ci: target.ci });
    }
    Ok(())
}

fn waves(order: &Order<'_>, placed: &[Placed]) -> Vec<Wave> {
    let mut start = 0;
    let parts = placed.chunk_by(|a, b| a.wave == b.wave);
    let waves = parts.filter_map(|part| {
        let number = part.first()?.wave;
        let tasks = start..start + part.len();
        start = tasks.end;
        let gate = step_of(order, number).map_or(order.profile.canary().gate, |step| step.gate);
        Some(Wave { number, soak: soak(order, number), gate, tasks })
    });
    waves.collect()
}

/// A stage of a tenant's plan: what has its turn with one wave, in one window.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct StageKey {
    wave: u16,
    closes: Timestamp,
    step: StepKind,
}

struct Group {
    from: Timestamp,
    /// Places in the list of those placed.
    members: Vec<usize>,
}

type Slots = Vec<[Option<Slot>; 2]>;

/// A plan for each tenant, and where in it each item has its slots.
fn plans(
    fleet: &Fleet,
    order: &Order<'_>,
    placed: &[Placed],
) -> Result<(BTreeMap<TenantId, Plan>, Slots), NoLayout> {
    let mut groups: BTreeMap<TenantId, BTreeMap<StageKey, Group>> = BTreeMap::new();
    for (place, it) in placed.iter().enumerate() {
        let tenant = fleet.targets[it.node as usize].tenant;
        let stages = groups.entry(tenant).or_default();
        let spans = [(StepKind::Install, Some(it.install)), (StepKind::Reboot, it.reboot)];
        for (step, span) in spans {
            let Some(span) = span else { continue };
            let key = StageKey { wave: it.wave, closes: span.closes, step };
            let group = stages.entry(key).or_insert(Group { from: span.at, members: Vec::new() });
            group.from = group.from.min(span.at);
            group.members.push(place);
        }
    }
    let mut slots = vec![[None; 2]; placed.len()];
    let mut plans = BTreeMap::new();
    for (tenant, stages) in groups {
        let mut stages: Vec<(StageKey, Group)> = stages.into_iter().collect();
        stages.sort_by_key(|(key, group)| (group.from, *key));
        let mut written = Vec::with_capacity(stages.len());
        for ((key, group), stage) in stages.into_iter().zip(0..) {
            let window = Window { from: group.from, until: key.closes };
            for &place in &group.members {
                let Placed { install, reboot, .. } = placed[place];
                let (which, span) = match key.step {
                    StepKind::Install => (0, Some(install)),
                    StepKind::Reboot => (1, reboot),
                };
                slots[place][which] = span.map(|span| slot_of(span, stage, window.from));
            }
            let items = group.members.iter();
            let items =
                items.filter_map(|&it| item(&fleet.targets[placed[it].node as usize], key.step));
            written.push(Stage { window, items: items.collect() });
        }
        let (generation, parent) = previous(order, tenant)?;
        let change = order.change;
        let draft = Draft { change, tenant, generation, parent, stages: written };
        let plan = Plan::new(draft).map_err(|because| NoLayout::Plan { tenant, because })?;
        plans.insert(tenant, plan);
    }
    Ok((plans, slots))
}

const fn slot_of(span: Span, stage: u32, from: Timestamp) -> Slot {
    let Span { at, takes, closes } = span;
    Slot { stage, at, window: Window { from, until: closes }, takes }
}

fn item(target: &Target, step: StepKind) -> Option<Item> {
    let content = &target.work.as_ref()?.content;
    let actions = match step {
        StepKind::Install => content.actions.clone(),
        StepKind::Reboot => vec![Action::Reboot],
    };
    let (ci, duty, rollback) = (target.ci, target.duty, content.rollback.clone());
    Some(Item { ci, duty, actions, rollback })
}

/// Generation and parent of a tenant's new plan.
fn previous(order: &Order<'_>, tenant: TenantId) -> Result<(u32, Option<PlanHash>), NoLayout> {
    let Some(plan) = order.previous.get(&tenant) else { return Ok((0, None)) };
    let draft = plan.draft();
    if draft.change != order.change || draft.tenant != tenant {
        let (change, of) = (draft.change, draft.tenant);
        return Err(NoLayout::Previous { tenant, change, of });
    }
    Ok((draft.generation.saturating_add(1), Some(plan.hash())))
}
