//! Who held the ball when: a patch's way cut into stages, and those into spans of one party each.

use std::collections::BTreeMap;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::Wait;
use super::dates::Deferral;
use super::due::{DueDates, Facts};
use super::instants::{Instants, Moment};
use super::policy::Policy;
use super::terms::{Asked, Path, Terms};
use crate::cloud::{Duty, Side};

/// One patch on one tenant's items, with everything that its clock depends on.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The policy that governs: the version in force at the collection.
    pub policy: &'a Policy,
    /// What is known of patch and item.
    pub facts: &'a Facts,
    /// Who installs.
    pub duty: Duty,
    /// What happened.
    pub instants: &'a Instants,
    /// What the tenant put off.
    pub deferrals: &'a [Deferral],
    /// What kept both sides from going on.
    pub interruptions: &'a [Interruption],
    /// The dates that bind.
    pub dues: &'a DueDates,
}

/// Something that stands in the way of whoever holds the ball.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Interruption {
    /// What.
    pub cause: Cause,
    /// Since when.
    pub from: Timestamp,
    /// Until when; `None` while it lasts.
    pub until: Option<Timestamp>,
}

/// What can stand in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The vendor: its patch is broken, its archive away.
    Vendor,
    /// The item does not answer.
    HostUnreachable,
    /// Both agreed not to alter anything.
    ChangeFreeze,
    /// The tenant refused, and bears the risk meanwhile.
    Refusal,
}

/// To whom time is booked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The provider.
    Provider,
    /// The tenant.
    Tenant,
    /// The vendor of the patch.
    Vendor,
    /// An item that does not answer.
    HostUnreachable,
    /// A freeze that both agreed to.
    ChangeFreeze,
}

impl Party {
    /// The side that can move the ball, and is told when it is late. Where neither holds it, the
    /// provider asks vendors, and systems and freezes are a matter of who installs.
    pub const fn mover(self, duty: Duty) -> Side {
        match (self, duty) {
            (Self::Tenant, _) | (Self::HostUnreachable | Self::ChangeFreeze, Duty::Tenant) => {
                Side::Tenant
            }
            (Self::Provider | Self::Vendor, _)
            | (Self::HostUnreachable | Self::ChangeFreeze, Duty::Provider) => Side::Provider,
        }
    }
}

impl From<Cause> for Party {
    fn from(cause: Cause) -> Self {
        match cause {
            Cause::Vendor => Self::Vendor,
            Cause::HostUnreachable => Self::HostUnreachable,
            Cause::ChangeFreeze => Self::ChangeFreeze,
            Cause::Refusal => Self::Tenant,
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Provider => "provider",
            Self::Tenant => "tenant",
            Self::Vendor => "vendor",
            Self::HostUnreachable => "host unreachable",
            Self::ChangeFreeze => "change freeze",
        })
    }
}

/// What a patch waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// To be evaluated.
    Evaluate,
    /// To be tested.
    Test,
    /// For the notice.
    Notify,
    /// For the tenant's answer.
    Answer,
    /// For the end of lead time, least age, freeze and deferral.
    Lead,
    /// To be installed.
    Install,
    /// To be verified.
    Verify,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Evaluate => "evaluation",
            Self::Test => "test",
            Self::Notify => "notice",
            Self::Answer => "answer",
            Self::Lead => "lead time",
            Self::Install => "installation",
            Self::Verify => "verification",
        })
    }
}

/// A stage from its beginning to its end, or until now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    pub(super) stage: Stage,
    pub(super) from: Timestamp,
    /// `None` while it lasts.
    pub(super) until: Option<Timestamp>,
    /// The first instant that is too late; `None` where the wait is agreed and has its own end.
    pub(super) deadline: Option<Timestamp>,
    /// When it ends by itself.
    pub(super) ends: Option<Timestamp>,
    /// How often the way had begun anew by then.
    pub(super) restarts: usize,
}

/// A time in which one party held the ball.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// From then.
    pub from: Timestamp,
    /// Until then.
    pub until: Timestamp,
    /// Who held it.
    pub party: Party,
    /// At which stage.
    pub stage: Stage,
}

impl Span {
    /// How long.
    pub fn length(&self) -> SignedDuration {
        self.until.duration_since(self.from)
    }
}

impl Case<'_> {
    /// The terms of its priority, on its path.
    pub fn terms(&self) -> Terms {
        self.policy.terms(self.facts.priority).on(self.facts.path())
    }

    /// The attribution ledger: every instant from the start of the clock to its end or to `now`
    /// belongs to exactly one span, in order and without gap, so that the spans sum to the elapsed
    /// time. Empty before anything was collected.
    pub fn attribution(&self, now: Timestamp) -> Vec<Span> {
        self.spans(&self.phases(now), self.believed(now))
    }

    /// The ledger's sums, by party.
    pub fn attributed(&self, now: Timestamp) -> BTreeMap<Party, SignedDuration> {
        let mut sums = BTreeMap::new();
        for span in self.attribution(now) {
            let sum = sums.entry(span.party).or_insert(SignedDuration::ZERO);
            *sum = sum.saturating_add(span.length());
        }
        sums
    }

    /// No earlier than what is recorded: a clock that was set back does not undo the past.
    pub(super) fn believed(&self, now: Timestamp) -> Timestamp {
        self.instants.latest().map_or(now, |latest| latest.max(now))
    }

    /// The stages so far; the last one is the present one unless it has an end.
    pub(super) fn phases(&self, now: Timestamp) -> Vec<Phase> {
        let now = self.believed(now);
        let Some(start) = self.instants.start() else { return Vec::new() };
        let terms = self.terms();
        let calendar = self.policy.calendar();
        let lost = self.instants.regressed().is_some();
        let withdrawn = self.instants.at(Moment::Withdrawn);

        let reached = self.reached();
        let restarts = self.instants.restarts();
        let mut walk = Walk { phases: Vec::new(), at: start, now, shared: None, restarts };
        let again = self.instants.before_asked_again();
        if let Some((before, asked)) = &again {
            walk.begin_anew(self.until(before, *asked), *asked);
        } else if lost {
            // After a loss the patch is known and tested: the way begins at the notice, within the
            // time that an evaluation has.
            walk.shared = Some(calendar.end(start, terms.evaluate));
        }
        let steps: [(Stage, Moment, OfTerms); 3] = [
            (Stage::Evaluate, Moment::Evaluated, |terms| terms.evaluate),
            (Stage::Test, Moment::Tested, |terms| terms.test),
            (Stage::Notify, Moment::Notified, |terms| terms.notify),
        ];
        for (stage, moment, wait) in steps {
            if (lost || again.is_some()) && stage != Stage::Notify {
                continue;
            }
            let until = reached(moment);
            let deadline =
                self.deadline(&mut walk, until, &terms, wait, |at, wait| calendar.end(at, wait));
            walk.pass(stage, until, Some(deadline), None);
        }
        let installed = reached(Moment::Installed);
        if matches!(terms.approval, Asked::Required { .. }) {
            let deemed = self.deemed_at(&terms);
            let approved = reached(Moment::Approved);
            let answered = match deemed {
                Some(deemed) if deemed <= now => {
                    Some(approved.map_or(deemed, |approved| approved.min(deemed)))
                }
                _ => approved,
            };
            walk.pass(Stage::Answer, answered, self.answer_by(&terms), deemed);
        }
        // A deferral puts the start off even where the lead time is over.
        let put_off = self.deferrals_used().map(|deferral| deferral.until).max();
        let go = self.earliest_start(&terms).max(put_off).unwrap_or(walk.at).max(walk.at);
        let gone = installed.map_or((go <= now).then_some(go), |installed| Some(installed.min(go)));
        walk.pass(Stage::Lead, gone, None, Some(go));
        walk.shared = None;
        let deadline = self.deadline(
            &mut walk,
            installed,
            &terms,
            |it| it.install,
            |at, wait| calendar.end_with_pauses(at, wait, self.facts.priority),
        );
        walk.pass(Stage::Install, installed, Some(deadline), None);
        let verified = reached(Moment::Verified);
        let deadline = self.deadline(
            &mut walk,
            verified,
            &terms,
            |it| it.verify,
            |at, wait| calendar.end(at, wait),
        );
        walk.pass(Stage::Verify, verified, Some(deadline), None);

        let mut phases = walk.phases;
        if let Some(end) = withdrawn {
            phases.retain(|phase| phase.from < end);
            for phase in &mut phases {
                phase.until = Some(phase.until.map_or(end, |until| until.min(end)));
            }
        }
        phases
    }

    /// The stages up to when the tenant was asked anew.
    fn until(&self, before: &Instants, asked: Timestamp) -> Vec<Phase> {
        let put_off = self.deferrals.iter().take_while(|deferral| deferral.at < asked).count();
        let deferrals = &self.deferrals[..put_off];
        let mut phases = Case { instants: before, deferrals, ..*self }.phases(asked);
        for phase in &mut phases {
            phase.until.get_or_insert(asked.max(phase.from));
        }
        phases
    }

    /// The deadline of the stage that begins where the walk is. An emergency shortens from the
    /// listing on: what was over by then keeps the ordinary wait, and what lasted then has the
    /// shorter one from there, unless its ordinary wait is over before.
    fn deadline(
        &self,
        walk: &mut Walk,
        until: Option<Timestamp>,
        terms: &Terms,
        wait: OfTerms,
        end: impl Fn(Timestamp, Wait) -> Timestamp,
    ) -> Timestamp {
        let usual = wait(self.policy.terms(self.facts.priority));
        let short = wait(terms);
        let listed = self.instants.at(Moment::KevAdded);
        match listed.filter(|_| self.facts.path() == Path::Emergency) {
            Some(listed) if until.is_some_and(|until| until <= listed) => {
                walk.deadline(usual, |at| end(at, usual))
            }
            Some(listed) => {
                walk.deadline(short, |at| end(at, usual).min(end(at.max(listed), short)))
            }
            None => walk.deadline(short, |at| end(at, short)),
        }
    }

    /// When a milestone was reached. One that was passed over was reached with the next one that
    /// was not: what somebody installed before any notice is installed.
    fn reached(&self) -> impl Fn(Moment) -> Option<Timestamp> {
        const WAY: [Moment; 6] = [
            Moment::Evaluated,
            Moment::Tested,
            Moment::Notified,
            Moment::Approved,
            Moment::Installed,
            Moment::Verified,
        ];
        |moment| {
            let from = WAY.iter().position(|one| *one == moment)?;
            WAY[from..].iter().find_map(|one| self.instants.at(*one))
        }
    }

    /// Cuts phases where the ball changes hands.
    pub(super) fn spans(&self, phases: &[Phase], now: Timestamp) -> Vec<Span> {
        let mut edges: Vec<Timestamp> = self.edges();
        edges.sort_unstable();
        let mut spans: Vec<Span> = Vec::new();
        for phase in phases {
            let until = phase.until.unwrap_or(now);
            let mut from = phase.from;
            let inner = edges.iter().copied().filter(|edge| *edge > phase.from && *edge < until);
            for edge in inner.chain([until]) {
                if edge <= from {
                    continue;
                }
                let party = self.party(phase.stage, from);
                match spans.last_mut() {
                    Some(last) if last.party == party && last.stage == phase.stage => {
                        last.until = edge;
                    }
                    _ => spans.push(Span { from, until: edge, party, stage: phase.stage }),
                }
                from = edge;
            }
        }
        spans
    }

    /// Instants at which the ball may change hands within a stage.
    pub(super) fn edges(&self) -> Vec<Timestamp> {
        let interruptions =
            self.interruptions.iter().flat_map(|one| [Some(one.from), one.until]).flatten();
        let deferrals = self.deferrals.iter().flat_map(|one| [one.at, one.until]);
        let frozen = self.policy.calendar().frozen(self.facts.priority);
        let frozen = frozen.into_iter().flat_map(|(from, until)| [from, until]);
        interruptions.chain(deferrals).chain(frozen).collect()
    }

    /// Who holds the ball at a stage, at an instant. A freeze comes before an item that does not
    /// answer, that before the vendor, and those before the parties.
    pub(super) fn party(&self, stage: Stage, at: Timestamp) -> Party {
        let on_the_items = matches!(stage, Stage::Lead | Stage::Install | Stage::Verify);
        let interrupted = |cause: Cause| {
            self.interruptions.iter().any(|one| {
                one.cause == cause && one.from <= at && one.until.is_none_or(|until| at < until)
            })
        };
        let deferred =
            self.deferrals_used().any(|deferral| deferral.at <= at && at < deferral.until);
        let frozen = self.policy.calendar().thawed(at, self.facts.priority) > at;
        match stage {
            Stage::Answer => Party::Tenant,
            Stage::Lead | Stage::Install if deferred => Party::Tenant,
            Stage::Notify | Stage::Lead | Stage::Install if interrupted(Cause::Refusal) => {
                Party::Tenant
            }
            Stage::Lead | Stage::Install if frozen || interrupted(Cause::ChangeFreeze) => {
                Party::ChangeFreeze
            }
            _ if on_the_items && interrupted(Cause::HostUnreachable) => Party::HostUnreachable,
            _ if interrupted(Cause::Vendor) => Party::Vendor,
            Stage::Install if self.duty == Duty::Tenant => Party::Tenant,
            _ => Party::Provider,
        }
    }
}

/// One of the waits that terms have.
type OfTerms = fn(&Terms) -> Wait;

/// Walks along the stages; each begins where the one before ends.
struct Walk {
    phases: Vec<Phase>,
    at: Timestamp,
    now: Timestamp,
    /// The deadline that a stage without a wait of its own shares.
    shared: Option<Timestamp>,
    restarts: usize,
}

impl Walk {
    /// Goes on after what was before the tenant was asked anew.
    fn begin_anew(&mut self, before: Vec<Phase>, asked: Timestamp) {
        self.phases = before;
        let last = self.phases.last().and_then(|phase| phase.until);
        self.at = last.unwrap_or(self.at).max(asked).min(self.now);
        if let Some(phase) = self.phases.last_mut() {
            phase.until = Some(self.at);
        }
    }

    fn deadline(&mut self, wait: Wait, end: impl Fn(Timestamp) -> Timestamp) -> Timestamp {
        if !wait.is_none() {
            self.shared = Some(end(self.at));
        }
        // Without any wait before it, it is to happen at once.
        self.shared.map_or(self.at, |shared| shared.max(self.at))
    }

    /// Adds a stage, unless the one before still lasts. Records that are out of order, because a
    /// clock was set, never make time run backwards.
    fn pass(
        &mut self,
        stage: Stage,
        reached: Option<Timestamp>,
        deadline: Option<Timestamp>,
        ends: Option<Timestamp>,
    ) {
        if self.phases.last().is_some_and(|phase| phase.until.is_none()) {
            return;
        }
        let until = reached.map(|until| until.max(self.at).min(self.now.max(self.at)));
        let Self { at: from, restarts, .. } = *self;
        self.phases.push(Phase { stage, from, until, deadline, ends, restarts });
        self.at = until.unwrap_or(self.at);
    }
}
