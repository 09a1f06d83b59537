//! Writes what a side is to be told of its clocks: all of it in one notice.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use domain::cloud::{ChangeId, Name, NoticeId, PROVIDER, Side, TenantId};
use domain::obligation::Obligation;
use domain::sla::{ClockView, Rung};
use jiff::Timestamp;
use notices::content::{
    ClockCounts, ClockDraft, ClockNotice, LateClock, Lateness, Line, MOST_CLOCKS,
};
use store::{Actor, Alarm, Alarms, CLOCKS, StoreError, Written};

use super::Notices;
use super::writer::Unwritten;

impl Notices {
    /// Tells a side of its clocks.
    pub(super) async fn tell_clocks(&self, to: TenantId) -> Result<(), Unwritten> {
        let most = u16::try_from(MOST_CLOCKS).unwrap_or(u16::MAX);
        let Some(alarms) = self.store.alarms(to, most).await? else { return Ok(()) };
        let written = match self.clock_notice(&alarms).await? {
            Some(notice) => Some(Written {
                id: notice.id(),
                kind: CLOCKS.to_owned(),
                sequence: 0,
                document: notice.to_json()?,
                remind_at: None,
            }),
            None => None,
        };
        self.store.tell_alarms(alarms, written).await?;
        Ok(())
    }

    /// The notice; `None` where nothing of it is so any more.
    async fn clock_notice(&self, alarms: &Alarms) -> Result<Option<ClockNotice>, Unwritten> {
        let (by, store) = (Actor::System, &self.store);
        let mut steps: BTreeMap<(ChangeId, TenantId), Vec<&Rung>> = BTreeMap::new();
        for Alarm { change, tenant, step, .. } in &alarms.first {
            steps.entry((*change, *tenant)).or_default().push(step);
        }
        let [warned, overdue, breached] = alarms.clocks;
        let mut counts = ClockCounts { breached, overdue, warned };
        let (mut names, mut clocks) = (BTreeMap::new(), Vec::with_capacity(steps.len()));
        for ((change, of), steps) in steps {
            // Counted as it is now, where it is named.
            let counted = steps.iter().map(|step| lateness(step)).max();
            let before = count(&mut counts, counted.unwrap_or(Lateness::Warned));
            *before = before.saturating_sub(1);
            let of_name = match names.entry(of) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(unknown) => unknown.insert(store.tenant(&by, of).await?.name),
            };
            let late = self.late(alarms.to, change, (of, of_name), &steps).await?;
            let Some(clock) = late else { continue };
            *count(&mut counts, clock.lateness) += 1;
            clocks.push(clock);
        }
        if clocks.is_empty() {
            return Ok(None);
        }
        let tenant = self.reader(alarms.to).await?;
        let (now, mut random) = (store.environment().now(), [0; 10]);
        store.environment().fill(&mut random);
        Ok(Some(ClockNotice::new(ClockDraft {
            id: NoticeId::new(now, random),
            tenant,
            published_at: now,
            counts,
            clocks,
            contact: self.contact.clone(),
            link_base: self.base.clone(),
        })?))
    }

    /// A clock as it stands now; `None` where its side need not be told any more.
    async fn late(
        &self,
        to: TenantId,
        change: ChangeId,
        (of, of_name): (TenantId, &Name),
        steps: &[&Rung],
    ) -> Result<Option<LateClock>, Unwritten> {
        let matter = match self.store.matter(&Actor::System, change, of).await {
            Ok(matter) => matter,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (obligation, now) = (&matter.obligation, self.store.environment().now());
        let Some(clock) = obligation.clock(&matter.policy, now) else { return Ok(None) };
        let is_theirs = mover(&clock, obligation) == Some(to);
        let true_still = steps.iter().copied().filter(|step| is_so(step, &clock, is_theirs));
        let Some(worst) = true_still.max_by_key(|step| (lateness(step), share(step))) else {
            return Ok(None);
        };
        Ok(Some(LateClock {
            change,
            title: Line::fit(&matter.change.title).ok_or(Unwritten::Invisible("title"))?,
            of,
            of_name: of_name.clone(),
            priority: obligation.facts().priority,
            lateness: lateness(worst),
            share: share(worst),
            late_since: late_since(worst, &clock),
            stage: clock.stage,
            holder: clock.holder,
            held_since: clock.since,
            stage_deadline: clock.stage_deadline,
            due: obligation.dues().binding().map(|date| date.due),
        }))
    }
}

/// Who can move a clock on now; nobody where it is settled.
fn mover(clock: &ClockView, obligation: &Obligation) -> Option<TenantId> {
    let holder = clock.holder.filter(|_| !obligation.is_settled())?;
    Some(match holder.mover(obligation.duty()) {
        Side::Provider => PROVIDER,
        Side::Tenant => obligation.tenant(),
    })
}

/// Whether a step is as it was taken. A date that passed is told whatever became of it since; what is
/// only near or overdue, to whom it still concerns.
fn is_so(step: &Rung, clock: &ClockView, is_theirs: bool) -> bool {
    match step {
        Rung::Share { .. } => is_theirs,
        Rung::Stage { stage, .. } => is_theirs && clock.stage == Some(*stage),
        // The provider owes each, whoever holds the ball.
        Rung::Errand { errand, .. } => {
            clock.owed.iter().any(|owed| owed.errand == *errand && owed.is_open())
        }
        Rung::Due { .. } => true,
    }
}

const fn lateness(step: &Rung) -> Lateness {
    match step {
        Rung::Share { .. } => Lateness::Warned,
        Rung::Stage { .. } | Rung::Errand { .. } => Lateness::Overdue,
        Rung::Due { .. } => Lateness::Breached,
    }
}

const fn share(step: &Rung) -> Option<u8> {
    match step {
        Rung::Share { percent, .. } => Some(*percent),
        Rung::Stage { .. } | Rung::Errand { .. } | Rung::Due { .. } => None,
    }
}

/// The first instant that was too late.
fn late_since(step: &Rung, clock: &ClockView) -> Option<Timestamp> {
    match step {
        Rung::Share { .. } => None,
        Rung::Stage { .. } => clock.stage_deadline.or(Some(clock.since)),
        Rung::Errand { errand, .. } => {
            clock.owed.iter().find(|owed| owed.errand == *errand).map(|owed| owed.by)
        }
        Rung::Due { pack, goal, .. } => {
            let is_it = |it: &&domain::sla::DueDate| it.pack.name == *pack && it.goal == *goal;
            // One that was moved or dropped since is told by the clock's own date.
            let date = clock.due.iter().find(is_it).or(clock.due.first());
            Some(date.map_or(clock.since, |date| date.due))
        }
    }
}

const fn count(counts: &mut ClockCounts, lateness: Lateness) -> &mut u64 {
    match lateness {
        Lateness::Warned => &mut counts.warned,
        Lateness::Overdue => &mut counts.overdue,
        Lateness::Breached => &mut counts.breached,
    }
}
