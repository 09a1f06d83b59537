//! A patch's clock: what it waits for, who holds the ball, by when, and when to look again.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::due::{DueDate, Goal};
use super::instants::Moment;
use super::notices::{Errand, Owed};
use super::timeline::{Case, Party, Phase, Span, Stage};

/// A clock as it stands. It stays the same until [`ClockView::next_wake`], unless something is
/// recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockView {
    /// What the patch waits for; `None` once it is verified or withdrawn.
    pub stage: Option<Stage>,
    /// Who holds the ball; `None` with the stage.
    pub holder: Option<Party>,
    /// Since when that party holds it.
    pub since: Timestamp,
    /// The first instant that is too late for the stage. `None` where the wait ends by itself.
    pub stage_deadline: Option<Timestamp>,
    /// The dates that bind, the earliest first.
    pub due: Vec<DueDate>,
    /// What is owed beside the patch; also what is left of that once it is verified.
    pub owed: Vec<Owed>,
    /// How it stands.
    pub state: State,
    /// Every step of escalation that is reached.
    pub reached: Vec<Rung>,
    /// The one instant to come at which anything changes by itself; `None` if never.
    pub next_wake: Option<Timestamp>,
}

/// How a clock stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// In time.
    Ok,
    /// In time, and this share of it is used, in percent.
    Warn {
        /// The highest share of the policy's list that is reached.
        share: u8,
    },
    /// The stage, or what is owed beside it, took longer than agreed; the due dates can still be
    /// kept.
    Overdue {
        /// Since when.
        since: Timestamp,
    },
    /// A due date passed.
    Breached(Box<Breach>),
    /// Verified in time.
    Met,
    /// The vendor took the patch back in time.
    Withdrawn,
}

/// A due date that passed, to whom it is attributed, and the facts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Breach {
    /// The date that passed first.
    pub date: DueDate,
    /// The party that took most time beyond what it was given; where nobody did, the one that held
    /// the ball at the due date.
    pub by: Party,
    /// Who held the ball when it passed.
    pub held_by: Party,
    /// How much time each party took beyond what it was given, up to the due date. All of an
    /// interruption is beyond.
    pub overruns: BTreeMap<Party, SignedDuration>,
    /// The attribution ledger up to the due date.
    pub ledger: Vec<Span>,
}

/// A step of escalation. Each is taken once, however often a clock is looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "rung", rename_all = "snake_case")]
pub enum Rung {
    /// A share of the time to the binding due date is used.
    Share {
        /// In percent.
        percent: u8,
        /// How often the patch was lost before.
        round: usize,
    },
    /// A stage is overdue.
    Stage {
        /// Which.
        stage: Stage,
        /// How often the way had begun anew: the patch was lost, or the tenant asked again.
        round: usize,
    },
    /// What is owed beside the patch is overdue.
    Errand {
        /// What.
        errand: Errand,
        /// How often the way had begun anew.
        round: usize,
    },
    /// A due date passed.
    Due {
        /// Whose.
        pack: String,
        /// For what.
        goal: Goal,
        /// How often the patch was lost before.
        round: usize,
    },
}

impl ClockView {
    /// The steps of escalation to take now: those that are reached and not recorded as taken.
    /// Record them with their effects, and no step is taken twice, whatever clocks do.
    pub fn escalations(&self, taken: &BTreeSet<Rung>) -> Vec<Rung> {
        self.reached.iter().filter(|rung| !taken.contains(rung)).cloned().collect()
    }
}

impl Case<'_> {
    /// The clock at an instant; `None` before anything was collected.
    pub fn clock(&self, now: Timestamp) -> Option<ClockView> {
        let start = self.instants.start()?;
        let now = self.believed(now);
        let phases = self.phases(now);
        let spans = self.spans(&phases, now);
        let present = phases.last().filter(|phase| phase.until.is_none());
        // Whatever is closed is judged by the time at which it was.
        let judged = phases.last().and_then(|phase| phase.until).unwrap_or(now);
        let holder = present.map(|phase| self.party(phase.stage, now));

        let timed = self.rungs(&phases, start);
        let reached: Vec<Rung> = timed
            .iter()
            .filter(|(at, rung)| self.is_reached(*at, rung, judged, now))
            .map(|(_, rung)| rung.clone())
            .collect();
        // What is over has no step to come, but for what is still owed.
        let steps = timed
            .iter()
            .filter(|(_, rung)| present.is_some() || matches!(rung, Rung::Errand { .. }));
        let own = present.into_iter().flat_map(|phase| self.edges().into_iter().chain(phase.ends));
        let next_wake = steps.map(|(at, _)| *at).chain(own).filter(|at| *at > now).min();
        Some(ClockView {
            stage: present.map(|phase| phase.stage),
            holder,
            since: holder.map_or(judged, |holder| held_since(&spans, holder, now)),
            stage_deadline: present.and_then(|phase| phase.deadline),
            due: self.dues.all().to_vec(),
            owed: self.owed(),
            state: self.state(present, &phases, &reached, judged, now),
            reached,
            next_wake,
        })
    }

    /// How a due date that passed is attributed.
    pub fn breach_of(&self, date: &DueDate, now: Timestamp) -> Breach {
        let now = self.believed(now);
        self.breach(date, &self.phases(now), now)
    }

    fn is_reached(&self, at: Timestamp, rung: &Rung, judged: Timestamp, now: Timestamp) -> bool {
        match rung {
            Rung::Errand { .. } => at <= now,
            Rung::Due { goal, .. } => at <= self.instants.at(goal.moment()).unwrap_or(judged),
            Rung::Share { .. } | Rung::Stage { .. } => at <= judged,
        }
    }

    /// All steps of escalation with the instants at which they are reached.
    fn rungs(&self, phases: &[Phase], start: Timestamp) -> Vec<(Timestamp, Rung)> {
        let round = self.instants.round();
        let mut rungs: Vec<(Timestamp, Rung)> = phases
            .iter()
            // What ends by itself, as silence that approves, is never overdue.
            .filter(|phase| phase.ends.is_none())
            .filter_map(|phase| {
                let at = phase.deadline?;
                // A stage that ended before its deadline is never overdue, nor one that was due at
                // once and was over at once.
                let missed =
                    phase.until.is_none_or(|until| at < until || (at == until && phase.from < at));
                missed.then_some((at, Rung::Stage { stage: phase.stage, round: phase.restarts }))
            })
            .collect();
        let round_of_all = self.instants.restarts();
        rungs.extend(self.owed().into_iter().filter_map(|owed| {
            let Owed { errand, by, ended } = owed;
            let missed = ended.is_none_or(|ended| by <= ended);
            missed.then_some((by, Rung::Errand { errand, round: round_of_all }))
        }));
        if let Some(binding) = self.dues.binding() {
            // Shares of the time since the patch was known: a start long before it, such as a
            // listing, would spend them all at once.
            let from = binding.started.max(start).min(binding.due);
            let whole = binding.due.duration_since(from).as_secs();
            // A whole share is the due date, which has a step of its own.
            for &percent in self.terms().escalate.iter().filter(|&&share| share < 100) {
                let part = SignedDuration::from_secs(
                    whole / 100 * i64::from(percent) + whole % 100 * i64::from(percent) / 100,
                );
                rungs.push((super::calendar::later(from, part), Rung::Share { percent, round }));
            }
        }
        rungs.extend(self.dues.all().iter().map(|date| {
            let (pack, goal) = (date.pack.name.clone(), date.goal);
            (date.due, Rung::Due { pack, goal, round })
        }));
        rungs.sort();
        rungs
    }

    fn state(
        &self,
        present: Option<&Phase>,
        phases: &[Phase],
        reached: &[Rung],
        judged: Timestamp,
        now: Timestamp,
    ) -> State {
        let missed = self
            .dues
            .all()
            .iter()
            .find(|date| date.due <= self.instants.at(date.goal.moment()).unwrap_or(judged));
        if let Some(date) = missed {
            return State::Breached(Box::new(self.breach(date, phases, now)));
        }
        let Some(present) = present else {
            let is_verified = self.instants.at(Moment::Verified).is_some();
            return if is_verified { State::Met } else { State::Withdrawn };
        };
        let owed = self.owed().into_iter().filter(|it| it.is_open() && it.is_missed(now));
        let late = present.deadline.filter(|deadline| *deadline <= now).into_iter();
        if let Some(since) = late.chain(owed.map(|it| it.by)).min() {
            return State::Overdue { since };
        }
        let shares = reached.iter().filter_map(|rung| match rung {
            Rung::Share { percent, .. } => Some(*percent),
            Rung::Stage { .. } | Rung::Errand { .. } | Rung::Due { .. } => None,
        });
        shares.max().map_or(State::Ok, |share| State::Warn { share })
    }

    fn breach(&self, date: &DueDate, phases: &[Phase], now: Timestamp) -> Breach {
        let ledger: Vec<Span> = self
            .spans(phases, now)
            .into_iter()
            .filter(|span| span.from < date.due)
            .map(|span| Span { until: span.until.min(date.due), ..span })
            .collect();
        let mut overruns: BTreeMap<Party, SignedDuration> = BTreeMap::new();
        for span in &ledger {
            let phase = phases.iter().find(|phase| {
                phase.stage == span.stage
                    && phase.from <= span.from
                    && phase.until.is_none_or(|until| span.from < until)
            });
            let deadline = phase.and_then(|phase| phase.deadline);
            let beyond = match (span.party, deadline) {
                (Party::Provider | Party::Tenant, None) => continue,
                (Party::Provider | Party::Tenant, Some(deadline)) => {
                    span.until.duration_since(deadline.max(span.from))
                }
                (Party::Vendor | Party::HostUnreachable | Party::ChangeFreeze, _) => span.length(),
            };
            if beyond.is_positive() {
                let sum = overruns.entry(span.party).or_insert(SignedDuration::ZERO);
                *sum = sum.saturating_add(beyond);
            }
        }
        // A date that had passed before the clock started was never anybody's but the provider's,
        // who collects.
        let held_by = ledger.last().map_or(Party::Provider, |span| span.party);
        let most = overruns.values().max().copied();
        let by = match most {
            Some(most) if overruns.get(&held_by) != Some(&most) => {
                overruns.iter().find(|(_, beyond)| **beyond == most).map_or(held_by, |(by, _)| *by)
            }
            _ => held_by,
        };
        Breach { date: date.clone(), by, held_by, overruns, ledger }
    }
}

/// Since when the present holder has held the ball without a break.
fn held_since(spans: &[Span], holder: Party, now: Timestamp) -> Timestamp {
    let mut since = now;
    for span in spans.iter().rev() {
        if span.party != holder {
            break;
        }
        since = span.from;
    }
    since
}
