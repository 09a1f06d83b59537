//! What templates see: every name is there in every notice, and `none` where there is nothing.

use domain::change::Shortfall;
use domain::cloud::{Name, TenantId, is_invisible};
use domain::proof::{Impact, RebootCause};
use serde::Serialize;

use super::time::{Length, Span, Time};
use crate::content::{Ask, Draft, Notice, Rollback};

/// How many items a message names; the link leads to the others.
const NAMED: usize = 20;

/// Longest foreign word that is shown, in characters.
const LONGEST_WORD: usize = 120;

/// A notice, as templates see it.
#[derive(Debug, Serialize)]
pub(super) struct Context {
    id: String,
    kind: &'static str,
    category: &'static str,
    priority: String,
    title: String,
    description: String,
    sequence: u32,
    tenant: Tenant,
    change: String,
    plan: Option<String>,
    published: Time,
    /// When it happens or happened.
    window: Option<Span>,
    /// When it was planned and does not happen.
    before: Option<Span>,
    /// When it started, of what started.
    started: Option<Time>,
    ask: Asked,
    reason: Option<String>,
    shortfall: Option<&'static str>,
    advisories: Listed<String>,
    impact: Option<Measured>,
    due: Option<Time>,
    items: Items,
    rollback: Vec<WayBack>,
    contact: Contact,
    link: String,
}

/// Several notices of one tenant, as templates see them.
#[derive(Debug, Serialize)]
pub(super) struct DigestContext {
    tenant: Tenant,
    total: usize,
    /// How many of all ask for something.
    asking: usize,
    /// The most urgent ones.
    notices: Vec<Context>,
    /// How many are not among them.
    more: usize,
    link: String,
}

#[derive(Debug, Serialize)]
pub(super) struct Tenant {
    id: String,
    name: String,
    zone: String,
}

/// Whose systems something concerns.
#[derive(Debug, Serialize)]
pub(super) struct Whose {
    id: String,
    name: String,
}

#[derive(Debug, Serialize)]
struct Asked {
    /// `nothing`, `told`, `answer`, `explicit`; `none` where there is nothing left to ask.
    mode: &'static str,
    by: Option<Time>,
    /// `approves`, `waits`.
    silence: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Listed<T> {
    total: usize,
    first: Vec<T>,
    more: usize,
}

#[derive(Debug, Serialize)]
struct Measured {
    install: Length,
    restarts: Listed<Restart>,
    reboot: Reboot,
    packages: Listed<Package>,
    configuration: Listed<String>,
}

#[derive(Debug, Serialize)]
struct Restart {
    unit: String,
    times: u32,
    down: Length,
}

#[derive(Debug, Serialize)]
struct Reboot {
    needed: bool,
    /// `none` where it was not measured.
    down: Option<Length>,
    causes: Listed<Cause>,
}

#[derive(Debug, Serialize)]
struct Cause {
    /// `kernel`, `asked`, `stale-code`.
    cause: &'static str,
    /// The new kernel, who asks, what runs.
    what: String,
}

#[derive(Debug, Serialize)]
struct Package {
    name: String,
    before: Option<String>,
    after: Option<String>,
}

#[derive(Debug, Serialize)]
struct Items {
    total: usize,
    counts: Vec<Count>,
    first: Vec<Item>,
    more: usize,
}

#[derive(Debug, Serialize)]
struct Count {
    state: &'static str,
    count: usize,
}

#[derive(Debug, Serialize)]
struct Item {
    name: String,
    state: &'static str,
}

#[derive(Debug, Serialize)]
struct WayBack {
    /// `packages`, `files`, `snapshot`, `impossible`.
    way: &'static str,
    items: u32,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
pub(super) struct Contact {
    name: String,
    at: String,
}

impl Context {
    pub(super) fn new(notice: &Notice) -> Self {
        let draft = notice.draft();
        let Draft { news, tenant, items, .. } = draft;
        let zone = &tenant.zone;
        let first = items.iter().take(NAMED);
        Self {
            id: draft.id.to_string(),
            kind: notice.kind().as_str(),
            category: draft.category.as_str(),
            priority: draft.priority.to_string(),
            title: draft.title.to_string(),
            description: draft.description.to_string(),
            sequence: draft.sequence,
            tenant: Tenant::of(tenant),
            change: draft.change.to_string(),
            plan: draft.plan.map(|hash| hash.to_string()),
            published: Time::new(draft.published_at, zone),
            window: news.window().map(|window| Span::new(window, zone)),
            before: news.before().map(|window| Span::new(window, zone)),
            started: news.started().map(|at| Time::new(at, zone)),
            ask: Asked::new(draft),
            reason: news.reason().map(|reason| clean(reason.as_str(), usize::MAX)),
            shortfall: news.shortfall().map(word),
            advisories: Listed::new(&draft.advisories, ToString::to_string),
            impact: draft.impact.as_ref().map(Measured::new),
            due: draft.due.map(|due| Time::new(due, zone)),
            items: Items {
                total: items.len(),
                counts: notice
                    .counts()
                    .into_iter()
                    .map(|(state, count)| Count { state: state.as_str(), count })
                    .collect(),
                first: first
                    .map(|item| Item { name: item.name.to_string(), state: item.state.as_str() })
                    .collect(),
                more: items.len().saturating_sub(NAMED),
            },
            rollback: draft.rollback.iter().map(WayBack::new).collect(),
            contact: Contact::of(&draft.contact),
            link: notice.link(),
        }
    }
}

impl DigestContext {
    /// Of notices in their order, all of one tenant; the first says where the link begins.
    pub(super) fn new(first: &Notice, notices: &[&Notice], shown: usize) -> Self {
        let asks = |notice: &&&Notice| {
            matches!(notice.draft().news.ask(), Some(Ask::Answer { .. } | Ask::Explicit))
        };
        Self {
            tenant: Tenant::of(&first.draft().tenant),
            total: notices.len(),
            asking: notices.iter().filter(asks).count(),
            notices: notices.iter().take(shown).map(|notice| Context::new(notice)).collect(),
            more: notices.len().saturating_sub(shown),
            link: first.draft().link_base.to(&["notices"]),
        }
    }
}

impl Tenant {
    pub(super) fn of(tenant: &crate::content::Tenant) -> Self {
        Self {
            id: tenant.id.to_string(),
            name: tenant.name.to_string(),
            zone: tenant.zone.name().to_owned(),
        }
    }
}

impl Whose {
    pub(super) fn new(id: TenantId, name: &Name) -> Self {
        Self { id: id.to_string(), name: name.to_string() }
    }
}

impl Contact {
    pub(super) fn of(contact: &crate::content::Contact) -> Self {
        Self { name: contact.name.to_string(), at: contact.at.to_string() }
    }
}

impl Asked {
    fn new(draft: &Draft) -> Self {
        let time = |at| Some(Time::new(at, &draft.tenant.zone));
        let (mode, by, silence) = match draft.news.ask() {
            None => ("none", draft.news.answer_was_due().and_then(time), None),
            Some(Ask::Nothing) => ("nothing", None, None),
            Some(Ask::Told) => ("told", None, None),
            Some(Ask::Answer { by, silence }) => {
                let silence = match silence {
                    domain::sla::Silence::Approves => "approves",
                    domain::sla::Silence::Waits => "waits",
                };
                ("answer", time(by), Some(silence))
            }
            Some(Ask::Explicit) => {
                ("explicit", draft.news.answer_was_due().and_then(time), Some("waits"))
            }
        };
        Self { mode, by, silence }
    }
}

impl<T> Listed<T> {
    fn new<S>(all: impl IntoIterator<Item = S>, each: impl Fn(S) -> T) -> Self {
        let mut first: Vec<T> = Vec::new();
        let mut total = 0;
        for one in all {
            total += 1;
            if total <= NAMED {
                first.push(each(one));
            }
        }
        Self { total, more: total - first.len(), first }
    }
}

impl Measured {
    fn new(impact: &Impact) -> Self {
        let reboot = &impact.reboot;
        Self {
            install: Length::new(impact.install_ms),
            restarts: Listed::new(&impact.restarted, |(unit, downtime)| Restart {
                unit: short(unit),
                times: downtime.times,
                down: Length::new(downtime.milliseconds),
            }),
            reboot: Reboot {
                needed: !reboot.causes.is_empty(),
                down: reboot.downtime_ms.map(Length::new),
                causes: Listed::new(&reboot.causes, Cause::new),
            },
            packages: Listed::new(&impact.packages, |(name, (before, after))| Package {
                name: short(name),
                before: before.as_deref().map(short),
                after: after.as_deref().map(short),
            }),
            configuration: Listed::new(&impact.configuration_changed, |path| short(path)),
        }
    }
}

impl Cause {
    fn new(cause: &RebootCause) -> Self {
        let (cause, what) = match cause {
            RebootCause::Kernel { installed, .. } => ("kernel", installed.clone()),
            RebootCause::Asked { by } => ("asked", by.join(", ")),
            RebootCause::StaleCode { command, unit } => {
                ("stale-code", unit.as_ref().unwrap_or(command).clone())
            }
        };
        Self { cause, what: short(&what) }
    }
}

impl WayBack {
    fn new(way_back: &crate::content::WayBack) -> Self {
        let (way, reason) = match &way_back.by {
            Rollback::Packages => ("packages", None),
            Rollback::Files => ("files", None),
            Rollback::Snapshot => ("snapshot", None),
            Rollback::Impossible { reason } => ("impossible", Some(reason)),
        };
        let reason = reason.map(|reason| clean(reason.as_str(), usize::MAX));
        Self { way, items: way_back.items, reason }
    }
}

const fn word(shortfall: Shortfall) -> &'static str {
    match shortfall {
        Shortfall::WindowMissed => "window_missed",
        Shortfall::Failed => "failed",
        Shortfall::RolledBack => "rolled_back",
        Shortfall::StillMissing => "still_missing",
        Shortfall::Unknown => "unknown",
    }
}

/// A word out of an image, which may be hostile.
pub(crate) fn short(text: &str) -> String {
    clean(text, LONGEST_WORD)
}

fn clean(text: &str, longest: usize) -> String {
    let harmless = |c| if is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c };
    let mut clean: String = text.chars().take(longest).map(harmless).collect();
    if text.chars().nth(longest).is_some() {
        clean.pop();
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_cannot_end_a_line() {
        assert_eq!(short("a\r\nb\u{202e}c"), "a\u{fffd}\u{fffd}b\u{fffd}c");
        assert_eq!(short(&"x".repeat(300)).chars().count(), LONGEST_WORD);
    }
}
