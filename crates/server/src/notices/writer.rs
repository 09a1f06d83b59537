//! Writes what a tenant is to be told: the change, the plan, the contract's dates, the findings and
//! what was measured, as one document.

use std::collections::{BTreeMap, BTreeSet};

use domain::change::{
    self, Action, ChangeStage, FileChange, Phase, Plan, Reason, Shortfall, Window,
};
use domain::cloud::{CiId, NoticeId};
use domain::fleet::FindingState;
use domain::sla::{Approval, Moment, Path, Silence, Terms, Zone};
use jiff::{SignedDuration, Timestamp};
use notices::Notice;
use notices::content::{
    AdvisoryName, Ask, Draft, InvalidNotice, InvalidText, Item, ItemState, Line, MOST_ADVISORIES,
    MOST_WAYS_BACK, News, Rollback, Tenant, Text, WayBack,
};
use store::{
    Actor, Finding, FindingFilter, LONGEST_PAGE, Matter, PageRequest, StoreError, Subject, Tidings,
    Told, Written,
};

use super::Notices;
use super::impact::impact;

/// How many packages, files and units a description names.
const NAMED: usize = 20;

/// Why something cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unwritten {
    /// What it is about cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A notice may not be like this.
    #[error(transparent)]
    Notice(#[from] InvalidNotice),
    /// What a host says may not stand in it.
    #[error(transparent)]
    Text(#[from] InvalidText),
    /// There is no word for it.
    #[error("nothing visible is left of the {0}")]
    Invisible(&'static str),
}

/// What comes of tidings.
pub(super) enum Said {
    /// They are a notice.
    Written(Written),
    /// They are looked at again then.
    Later(Timestamp),
    /// Nobody need be told any more.
    Nothing,
}

/// How long until it is looked again whether the tenant has what it is to be reminded of.
const LOOK_AGAIN: SignedDuration = SignedDuration::from_hours(1);

/// How long before its latest time a reminder is written.
const MARGIN: SignedDuration = SignedDuration::from_mins(5);

/// What a notice is made of.
struct Sources<'a> {
    tidings: &'a Tidings,
    matter: &'a Matter,
    plan: &'a Plan,
    told: &'a [Told],
    now: Timestamp,
}

impl Notices {
    /// Writes one notice. Its time and its number come from the store's environment.
    pub(super) async fn write(&self, tidings: &Tidings) -> Result<Said, Unwritten> {
        let (by, store) = (Actor::System, &self.store);
        let matter = store.matter(&by, tidings.change, tidings.tenant).await?;
        let plan = store.plan(&by, tidings.plan).await?;
        let told = store.told(tidings.change, tidings.tenant).await?;
        let tenant = store.tenant(&by, tidings.tenant).await?;
        let (now, mut random) = (store.environment().now(), [0; 10]);
        let sources = Sources { tidings, matter: &matter, plan: &plan, told: &told, now };
        if tidings.what == Subject::Reminder {
            match sources.need_of_a_reminder() {
                Need::Now => {}
                Need::Later => return Ok(Said::Later(now + LOOK_AGAIN)),
                Need::Never => return Ok(Said::Nothing),
            }
        }
        let findings = self.findings(&matter).await?;
        let items = self.items(&sources, &findings).await?;
        store.environment().fill(&mut random);
        let id = NoticeId::new(now, random);
        let sequence = u32::try_from(told.len()).unwrap_or(u32::MAX);
        let zone = matter.policy.calendar().zone.clone();
        let title = Line::fit(&matter.change.title).ok_or(Unwritten::Invisible("title"))?;
        let notice = Notice::new(Draft {
            id,
            tenant: Tenant { id: tenant.id, name: tenant.name, zone: zone.clone() },
            change: tidings.change,
            plan: Some(tidings.plan),
            sequence,
            published_at: now,
            news: sources.news(&items)?,
            category: matter.change.change.kind,
            priority: matter.obligation.facts().priority,
            title,
            description: sources.description(&zone)?,
            advisories: advisories(&findings),
            impact: impact(store, tidings.tenant, &matter.change.change).await?,
            due: matter.obligation.dues().binding().map(|date| date.due),
            items,
            rollback: ways_back(&plan)?,
            contact: self.contact.clone(),
            link_base: self.base.clone(),
        })?;
        let kind = notice.kind().as_str().to_owned();
        let remind_at = sources.remind_at(&notice.draft().news);
        Ok(Said::Written(Written { id, kind, sequence, document: notice.to_json()?, remind_at }))
    }

    /// What the tenant's items lack, or lacked, of the change's patches.
    async fn findings(&self, matter: &Matter) -> Result<Vec<Finding>, StoreError> {
        let mut findings = Vec::new();
        for &patch in &matter.change.patches {
            let tenant = Some(matter.obligation.tenant());
            let filter = FindingFilter { tenant, patch: Some(patch), ..FindingFilter::default() };
            let mut request = PageRequest { after: None, limit: LONGEST_PAGE };
            loop {
                let page = self.store.findings(&Actor::System, &filter, &request).await?;
                findings.extend(page.items);
                if page.next.is_none() {
                    break;
                }
                request.after = page.next;
            }
        }
        Ok(findings)
    }

    /// The plan's items by name, each with how it stands.
    async fn items(
        &self,
        sources: &Sources<'_>,
        findings: &[Finding],
    ) -> Result<Vec<Item>, StoreError> {
        let seen = states(findings, sources.now);
        let mut cis: BTreeSet<CiId> = sources.plan.items().map(|item| item.ci).collect();
        if let Subject::Dispute(dispute) = &sources.tidings.what {
            cis = BTreeSet::from([dispute.item]);
        }
        let mut items = Vec::with_capacity(cis.len());
        for ci in cis {
            let name = match self.store.ci(&Actor::System, ci).await {
                Ok(ci) => ci.name,
                Err(StoreError::NotFound { .. }) => ci.to_string().parse().map_err(|_| {
                    StoreError::Corrupt { what: format!("the id of {ci} is no name") }
                })?,
                Err(error) => return Err(error),
            };
            let state = sources.state(seen.get(&ci).copied());
            items.push(Item { ci, name, state });
        }
        Ok(items)
    }
}

impl Sources<'_> {
    fn news(&self, items: &[Item]) -> Result<News, Unwritten> {
        let (window, at) = (self.plan.span(), self.tidings.created_at);
        let what = match &self.tidings.what {
            Subject::Step(what) => what,
            Subject::Reminder => {
                return Ok(News::Reminder { window, ask: self.open_question() });
            }
            Subject::Dispute(dispute) => {
                let name = items.first().map_or("a system", |item| item.name.as_str());
                let said = format!("{name} {}", dispute.because);
                return Ok(News::Disputed { window, reason: fitted(&said)? });
            }
        };
        Ok(match what {
            change::Notice::Planned => {
                let ask = self.ask();
                match self.matter.obligation.facts().path() {
                    Path::Ordinary => News::Planned { window, ask },
                    Path::Emergency => News::Emergency { window, ask },
                }
            }
            change::Notice::Lapsed => {
                let dates = self.matter.obligation.share().map(|share| &share.terms().dates);
                let answer_by = dates.and_then(|dates| dates.answer_by).unwrap_or(at);
                News::Lapsed { window, answer_by }
            }
            change::Notice::Started => News::Started { window, at },
            change::Notice::Completed => News::Completed { ran: self.ran() },
            change::Notice::Failed => match self.shortfall() {
                // It was not tried: that is another thing than a failure, and nobody need look at
                // systems that nobody touched.
                Shortfall::WindowMissed => News::Delayed {
                    before: window,
                    window: None,
                    reason: reason("Its window passed before everything was there to start")?,
                    ask: Ask::Nothing,
                },
                shortfall => News::Failed { window, shortfall, reason: None },
            },
            change::Notice::Withdrawn => {
                let reason = match self.matter.change.change.stage() {
                    ChangeStage::Withdrawn { reason, .. } => reason.clone(),
                    _ => reason("It was taken back for this tenant")?,
                };
                News::Cancelled { before: window, reason }
            }
        })
    }

    /// Whether the tenant is to be reminded of the plan now.
    fn need_of_a_reminder(&self) -> Need {
        let share =
            self.matter.obligation.share().filter(|it| it.plan().hash() == self.plan.hash());
        let Some(share) = share.filter(|_| self.now < self.plan.span().from) else {
            return Need::Never;
        };
        match share.phase() {
            // Nobody has the notice that it would remind of.
            Phase::Planned => Need::Later,
            Phase::Notified => Need::Now,
            // The contract wants one of what takes place, asked or answered.
            Phase::Lapsed | Phase::Approved { .. } | Phase::Scheduled { .. }
                if self.by_contract().is_some() =>
            {
                Need::Now
            }
            _ => Need::Never,
        }
    }

    /// What is left to ask: nothing once the tenant agreed.
    fn open_question(&self) -> Ask {
        match self.matter.obligation.share().map(change::Share::phase) {
            Some(Phase::Approved { .. } | Phase::Scheduled { .. }) => Ask::Nothing,
            _ => self.ask(),
        }
    }

    /// When it is to be looked whether the tenant is to be reminded of what it is told: by the
    /// contract's date where it has one, else when three quarters of the time to answer are over.
    fn remind_at(&self, told: &News) -> Option<Timestamp> {
        let (News::Planned { ask, .. } | News::Emergency { ask, .. }) = told else { return None };
        let at = match (self.by_contract(), ask) {
            (Some(latest), _) => latest - MARGIN,
            (None, Ask::Answer { by, .. }) => *by - by.duration_since(self.now) / 4,
            (None, _) => return None,
        };
        (self.now < at).then_some(at)
    }

    /// The latest time of a reminder by the contract, where that wants one.
    fn by_contract(&self) -> Option<Timestamp> {
        let window = self.plan.span();
        let case = self.matter.obligation.case(&self.matter.policy);
        case.notices(window.from, window.until).reminder_by
    }

    /// The contract's terms for it.
    fn terms(&self) -> Terms {
        let facts = self.matter.obligation.facts();
        self.matter.policy.terms(facts.priority).on(facts.path())
    }

    /// What was given with an earlier notice of this plan, where there was one.
    fn dates(&self) -> Option<&domain::sla::Dates> {
        let share = self.matter.obligation.share()?;
        let is_told = share.plan().hash() == self.plan.hash() && share.notified_at().is_some();
        is_told.then(|| &share.terms().dates)
    }

    /// What is asked. Before the tenant has the notice its time does not run: the date is that of
    /// a notice which arrives at once, the earliest that it can be.
    fn ask(&self) -> Ask {
        let terms = self.terms();
        let silence = match terms.approval.approval() {
            Approval::NotNeeded => return Ask::Nothing,
            Approval::Notice => return Ask::Told,
            Approval::Required { silence } => silence,
        };
        let by = match (self.dates().and_then(|dates| dates.answer_by), terms.approval) {
            (Some(by), _) => Some(by),
            (None, domain::sla::Asked::Required { answer, .. }) => {
                Some(self.matter.policy.calendar().end(self.now, answer))
            }
            (None, _) => None,
        };
        match (by.filter(|&by| by > self.now), silence) {
            (Some(by), silence) => Ask::Answer { by, silence },
            // Its time is over.
            (None, Silence::Waits) => Ask::Explicit,
            (None, Silence::Approves) => Ask::Told,
        }
    }

    /// The first instant at which it may start, if the tenant has the notice at once.
    fn earliest_start(&self) -> Timestamp {
        if let Some(start) = self.dates().and_then(|dates| dates.earliest_start) {
            return start;
        }
        let (obligation, calendar) = (&self.matter.obligation, self.matter.policy.calendar());
        let terms = self.terms();
        let lead = match terms.approval.approval() {
            Approval::NotNeeded => self.now,
            Approval::Required { .. } | Approval::Notice => {
                calendar.end(self.now, terms.notice.lead)
            }
        };
        let instants = obligation.instants();
        let since = instants.at(Moment::VendorPublished).or(instants.at(Moment::Collected));
        let ripe = since.map_or(lead, |since| calendar.end(since, terms.soak));
        calendar.thawed(lead.max(ripe), obligation.facts().priority)
    }

    /// From its start, as that was told, until the last item had it.
    fn ran(&self) -> Window {
        let started = self.told.iter().rev().find(|it| {
            it.kind == notices::content::Kind::Started.as_str() && it.plan == self.plan.hash()
        });
        let from = started.map_or(self.plan.span().from, |it| it.at);
        let installed = self.matter.obligation.instants().at(Moment::Installed);
        let until = installed.unwrap_or(self.tidings.created_at);
        Window { from, until: until.max(from + SignedDuration::from_secs(1)) }
    }

    /// How it falls short; what is not known any more is told as unknown.
    fn shortfall(&self) -> Shortfall {
        match self.matter.obligation.share().map(domain::change::Share::phase) {
            Some(Phase::NonCompliant { shortfall }) => shortfall,
            _ => Shortfall::Unknown,
        }
    }

    /// How an item stands, where the findings say this of it.
    fn state(&self, seen: Option<ItemState>) -> ItemState {
        let what = match &self.tidings.what {
            Subject::Step(what) => what,
            Subject::Reminder => {
                return seen.filter(|it| *it == ItemState::Accepted).unwrap_or(ItemState::Pending);
            }
            // Whatever its findings say: that is what is disputed.
            Subject::Dispute(_) => return ItemState::Failed,
        };
        let by_notice = match what {
            change::Notice::Planned | change::Notice::Lapsed | change::Notice::Started => {
                ItemState::Pending
            }
            change::Notice::Completed => ItemState::Done,
            change::Notice::Failed if self.shortfall() == Shortfall::WindowMissed => {
                ItemState::Pending
            }
            change::Notice::Failed => ItemState::Failed,
            change::Notice::Withdrawn => ItemState::Skipped,
        };
        match (seen, what) {
            (Some(ItemState::Accepted), _) => ItemState::Accepted,
            (Some(ItemState::Done), change::Notice::Failed) => ItemState::Done,
            _ => by_notice,
        }
    }

    fn description(&self, zone: &Zone) -> Result<Text, Unwritten> {
        let mut lines = described(self.plan);
        if self.tidings.what == Subject::Step(change::Notice::Planned) {
            let start = zone.wall(self.earliest_start()).strftime("%Y-%m-%d, %H:%M").to_string();
            lines.push(format!(
                "By the contract it starts at {start} ({}) at the earliest.",
                zone.name()
            ));
        }
        Text::fit(&lines.join("\n")).ok_or(Unwritten::Invisible("description"))
    }
}

/// Whether somebody is to be reminded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// They are.
    Now,
    /// That is to be seen.
    Later,
    /// They are not.
    Never,
}

/// What a plan does, a line for each kind of action.
fn described(plan: &Plan) -> Vec<String> {
    let mut packages = BTreeSet::new();
    let (mut files, mut gone, mut given) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut units, mut probes) = (BTreeSet::new(), BTreeSet::new());
    let mut reboots = 0_usize;
    for action in plan.items().flat_map(|item| &item.actions) {
        match action {
            Action::Upgrade { packages: exact } => packages.extend(
                exact.iter().map(|package| format!("{} {}", package.name, package.version)),
            ),
            Action::AlterFile { path, change } => {
                let (is, was) = (change.after().sha256(), change.before().sha256());
                if is.is_none() {
                    gone.insert(path.clone());
                } else if is != was {
                    files.insert(path.clone());
                }
                if matches!(change, FileChange::Replace { .. }) {
                    given.insert(path.clone());
                }
            }
            Action::RestartUnit { unit } => drop(units.insert(unit.clone())),
            Action::Reboot => reboots += 1,
            Action::Probe { probe } => drop(probes.insert(probe.clone())),
        }
    }
    let mut lines = Vec::new();
    for (verb, names) in [
        ("Installs", &packages),
        ("Writes", &files),
        ("Takes away", &gone),
        ("Sets owner and permissions of", &given),
        ("Restarts", &units),
        ("Looks whether they work:", &probes),
    ] {
        if !names.is_empty() {
            let named: Vec<&str> = names.iter().take(NAMED).map(String::as_str).collect();
            let more = names.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            lines.push(format!("{verb} {}{more}.", named.join(", ")));
        }
    }
    if reboots > 0 {
        let noun = if reboots == 1 { "system" } else { "systems" };
        lines.push(format!("Restarts {reboots} {noun}."));
    }
    lines
}

/// How items stand by what was found: one that lacks any of the patches lacks the change.
fn states(findings: &[Finding], now: Timestamp) -> BTreeMap<CiId, ItemState> {
    let mut states: BTreeMap<CiId, ItemState> = BTreeMap::new();
    for finding in findings {
        let is_borne = finding.acceptance.as_ref().is_some_and(|it| it.until > now);
        let state = match finding.state {
            FindingState::Open if is_borne => ItemState::Accepted,
            FindingState::Open => ItemState::Pending,
            FindingState::Fixed | FindingState::Withdrawn | FindingState::Retired => {
                ItemState::Done
            }
        };
        let rank = |state| match state {
            ItemState::Done => 0,
            ItemState::Accepted => 1,
            _ => 2,
        };
        let known = states.entry(finding.ci).or_insert(state);
        if rank(state) > rank(*known) {
            *known = state;
        }
    }
    states
}

/// What the patches fix, by the names that a notice may hold.
fn advisories(findings: &[Finding]) -> Vec<AdvisoryName> {
    let names = findings.iter().flat_map(|it| it.patch.advisories.iter().chain(&it.patch.cves));
    let names: BTreeSet<AdvisoryName> = names.filter_map(|name| name.parse().ok()).collect();
    names.into_iter().take(MOST_ADVISORIES).collect()
}

/// How many items go back by which way.
fn ways_back(plan: &Plan) -> Result<Vec<WayBack>, Unwritten> {
    let (mut packages, mut files, mut snapshots) = (0, 0, 0);
    let mut impossible: BTreeMap<&Reason, u32> = BTreeMap::new();
    for item in plan.items() {
        match &item.rollback {
            change::Rollback::Packages { .. } => packages += 1,
            change::Rollback::Files => files += 1,
            change::Rollback::Snapshot => snapshots += 1,
            change::Rollback::Impossible { reason } => *impossible.entry(reason).or_default() += 1,
        }
    }
    let usual =
        [(packages, Rollback::Packages), (files, Rollback::Files), (snapshots, Rollback::Snapshot)];
    let mut ways: Vec<WayBack> = usual
        .into_iter()
        .filter(|(items, _)| *items > 0)
        .map(|(items, by)| WayBack { items, by })
        .collect();
    let room = MOST_WAYS_BACK - ways.len() - 1;
    let rest: u32 = impossible.values().skip(room).sum();
    ways.extend(impossible.iter().take(room).map(|(reason, items)| {
        let reason = (*reason).clone();
        WayBack { items: *items, by: Rollback::Impossible { reason } }
    }));
    if rest > 0 {
        let by = Rollback::Impossible { reason: reason("Several; the plan names them")? };
        ways.push(WayBack { items: rest, by });
    }
    Ok(ways)
}

fn reason(text: &str) -> Result<Reason, Unwritten> {
    text.parse().map_err(|_| Unwritten::Invisible("reason"))
}

/// Somebody else's words as a reason: one line of what can be seen, cut where it is long.
fn fitted(text: &str) -> Result<Reason, Unwritten> {
    let visible = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let text: String = visible.take(Reason::LONGEST).collect();
    text.parse().or_else(|_| reason("A system contradicts what was ordered there"))
}
