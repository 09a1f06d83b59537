//! A notice of drift in words.

use minijinja::Value;
use minijinja::value::Serde;
use serde::Serialize;

use super::context::{Contact, Tenant, Whose, short};
use super::time::Time;
use super::{Message, TemplateError, Templates};
use crate::content::{DriftCounts, DriftDraft, DriftNotice, OpenBreakGlass, OpenDrift};

/// The name of its templates.
pub(super) const NAME: &str = "drift";

/// How many drifts a message shows; the link leads to the others.
const SHOWN: usize = 50;

/// A notice of drift, as templates see it.
#[derive(Debug, Serialize)]
struct Context {
    id: String,
    tenant: Tenant,
    published: Time,
    total: u64,
    counts: DriftCounts,
    /// The most urgent ones.
    drifts: Vec<Drift>,
    /// How many are not among them.
    more: u64,
    /// Break-glass that was opened, or that nobody has reviewed in time.
    break_glass: Vec<BreakGlass>,
    contact: Contact,
    /// The board of all of them.
    link: String,
}

#[derive(Debug, Serialize)]
struct Drift {
    id: String,
    /// The item on which the file is.
    item: Item,
    /// Whose item it is.
    tenant: Whose,
    path: String,
    /// `opened`, `escalated`.
    step: &'static str,
    /// `came`, `altered`, `gone`.
    what: &'static str,
    /// `unauthorised`, `unknown`; `vendor` and `authorised` where what happened last is.
    verdict: &'static str,
    /// `low`, `medium`, `high`.
    confidence: &'static str,
    /// As the host tells it; `none` where it does not.
    by: Option<String>,
    /// When it happened the last time.
    happened: Time,
    /// Since when it is open.
    opened: Time,
    alterations: u32,
    /// Where it is settled.
    link: String,
    /// Where the file is shown.
    file: String,
}

#[derive(Debug, Serialize)]
struct BreakGlass {
    id: String,
    /// What the item or the group is called.
    on: String,
    /// Whose it is.
    tenant: Whose,
    /// `opened`, `escalated`.
    step: &'static str,
    ticket: String,
    reason: String,
    /// Who opened it.
    by: String,
    opened: Time,
    until: Time,
    review_by: Time,
    /// Which files, as patterns.
    patterns: Vec<String>,
    /// How many files were altered under it.
    altered: u64,
    /// Where it is closed and reviewed.
    link: String,
}

#[derive(Debug, Serialize)]
struct Item {
    id: String,
    name: String,
}

impl Templates {
    /// A notice of drift in words, in a language (`de-AT`) or the nearest there is.
    ///
    /// # Errors
    /// If a template cannot do this notice, which the trial at loading makes unlikely.
    pub fn drift(&self, language: &str, notice: &DriftNotice) -> Result<Message, TemplateError> {
        self.render(language, NAME, &context(notice))
    }
}

/// What the templates see.
pub(super) fn context(notice: &DriftNotice) -> Value {
    let draft = notice.draft();
    let DriftDraft { tenant, counts, drifts, contact, .. } = draft;
    let break_glass = draft.break_glass.iter().take(SHOWN);
    let break_glass = break_glass.map(|it| BreakGlass::new(notice, it)).collect();
    let shown: Vec<Drift> = drifts.iter().take(SHOWN).map(|it| Drift::new(notice, it)).collect();
    let more = counts.total().saturating_sub(u64::try_from(shown.len()).unwrap_or(u64::MAX));
    Value::from(Serde(Context {
        id: draft.id.to_string(),
        tenant: Tenant::of(tenant),
        published: Time::new(draft.published_at, &tenant.zone),
        total: counts.total(),
        counts: *counts,
        drifts: shown,
        more,
        break_glass,
        contact: Contact::of(contact),
        link: draft.link_base.to(&["drifts"]),
    }))
}

impl Drift {
    fn new(notice: &DriftNotice, drift: &OpenDrift) -> Self {
        let time = |at| Time::new(at, &notice.draft().tenant.zone);
        Self {
            id: drift.id.to_string(),
            item: Item { id: drift.ci.to_string(), name: drift.ci_name.to_string() },
            tenant: Whose::new(drift.of, &drift.of_name),
            path: short(drift.path.as_str()),
            step: drift.step.as_str(),
            what: drift.what.as_str(),
            verdict: drift.verdict.as_str(),
            confidence: drift.confidence.as_str(),
            by: drift.by.as_ref().map(|by| short(by.as_str())),
            happened: time(drift.happened_at),
            opened: time(drift.opened_at),
            alterations: drift.alterations,
            link: notice.link_of(drift),
            file: notice.file_of(drift),
        }
    }
}

impl BreakGlass {
    fn new(notice: &DriftNotice, it: &OpenBreakGlass) -> Self {
        let time = |at| Time::new(at, &notice.draft().tenant.zone);
        Self {
            id: it.id.to_string(),
            on: short(it.on.as_str()),
            tenant: Whose::new(it.of, &it.of_name),
            step: it.step.as_str(),
            ticket: short(it.ticket.as_str()),
            reason: short(it.reason.as_str()),
            by: short(it.opened_by.as_str()),
            opened: time(it.opened_at),
            until: time(it.until),
            review_by: time(it.review_by),
            patterns: it.patterns.iter().map(|it| short(it.as_str())).collect(),
            altered: it.altered,
            link: notice.link_of_break_glass(it),
        }
    }
}
