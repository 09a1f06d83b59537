//! A notice of clocks in words.

use domain::sla::{Party, Stage};
use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use super::context::{Contact, Tenant, Whose};
use super::time::Time;
use super::{Message, TemplateError, Templates};
use crate::content::{ClockCounts, ClockDraft, ClockNotice, LateClock};
use domain::cloud::PROVIDER;

/// The name of its templates.
pub(super) const NAME: &str = "clocks";

/// How many clocks a message shows; the link leads to the others.
const SHOWN: usize = 50;

/// A notice of clocks, as templates see it.
#[derive(Debug, Serialize)]
struct Context {
    id: String,
    tenant: Tenant,
    published: Time,
    total: u64,
    counts: ClockCounts,
    /// The most urgent ones.
    clocks: Vec<Clock>,
    /// How many are not among them.
    more: u64,
    contact: Contact,
    link: String,
}

#[derive(Debug, Serialize)]
struct Clock {
    title: String,
    change: String,
    /// Whose systems it concerns.
    tenant: Whose,
    priority: String,
    /// `warned`, `overdue`, `breached`.
    lateness: &'static str,
    share: Option<u8>,
    /// Since when it is late.
    late: Option<Time>,
    /// `evaluate`, `test`, `notify`, `answer`, `lead`, `install`, `verify`; `none` where it is settled.
    stage: Option<&'static str>,
    /// `provider`, `tenant`, `vendor`, `host_unreachable`, `change_freeze`; `none` with the stage.
    holder: Option<&'static str>,
    /// Whether that is who reads it.
    mine: bool,
    held_since: Time,
    /// Of the stage.
    deadline: Option<Time>,
    due: Option<Time>,
    link: String,
}

impl Templates {
    /// A notice of clocks in words, in a language (`de-AT`) or the nearest there is.
    ///
    /// # Errors
    /// If a template cannot do this notice, which the trial at loading makes unlikely.
    pub fn clocks(&self, language: &str, notice: &ClockNotice) -> Result<Message, TemplateError> {
        self.render(language, NAME, &context(notice))
    }
}

/// What the templates see.
pub(super) fn context(notice: &ClockNotice) -> Value {
    let draft = notice.draft();
    let ClockDraft { tenant, counts, clocks, contact, .. } = draft;
    let shown: Vec<Clock> = clocks.iter().take(SHOWN).map(|it| Clock::new(notice, it)).collect();
    let more = counts.total().saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
    Value::from(Serde(Context {
        id: draft.id.to_string(),
        tenant: Tenant::of(tenant),
        published: Time::new(draft.published_at, &tenant.zone),
        total: counts.total(),
        counts: *counts,
        clocks: shown,
        more,
        contact: Contact::of(contact),
        link: draft.link_base.to(&["clocks"]),
    }))
}

impl Clock {
    fn new(notice: &ClockNotice, clock: &LateClock) -> Self {
        let reader = &notice.draft().tenant;
        let time = |at| Time::new(at, &reader.zone);
        let is_provider = reader.id == PROVIDER;
        Self {
            title: clock.title.to_string(),
            change: clock.change.to_string(),
            tenant: Whose::new(clock.of, &clock.of_name),
            priority: clock.priority.to_string(),
            lateness: clock.lateness.as_str(),
            share: clock.share,
            late: clock.late_since.map(time),
            stage: clock.stage.map(stage),
            holder: clock.holder.map(holder),
            mine: match clock.holder {
                Some(Party::Provider) => is_provider,
                Some(Party::Tenant) => clock.of == reader.id,
                Some(Party::Vendor | Party::HostUnreachable | Party::ChangeFreeze) | None => false,
            },
            held_since: time(clock.held_since),
            deadline: clock.stage_deadline.map(time),
            due: clock.due.map(time),
            link: notice.link_of(clock),
        }
    }
}

const fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Evaluate => "evaluate",
        Stage::Test => "test",
        Stage::Notify => "notify",
        Stage::Answer => "answer",
        Stage::Lead => "lead",
        Stage::Install => "install",
        Stage::Verify => "verify",
    }
}

const fn holder(party: Party) -> &'static str {
    match party {
        Party::Provider => "provider",
        Party::Tenant => "tenant",
        Party::Vendor => "vendor",
        Party::HostUnreachable => "host_unreachable",
        Party::ChangeFreeze => "change_freeze",
    }
}
