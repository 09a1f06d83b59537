//! A notice as a `CloudEvent` 1.0, for programs.
//!
//! Its size is bounded: what everybody forwards is 64 KiB (`CloudEvents` 1.0, "Size Limits"). Of long
//! lists it says how long they are and how they begin; the link leads to the rest.

use domain::change::{Kind as Category, PlanHash};
use domain::cloud::{ChangeId, NoticeId, TenantId};
use domain::priority::Priority;
use jiff::Timestamp;
use serde::Serialize;

use crate::content::{
    ClockCounts, ClockNotice, Draft, DriftCounts, DriftNotice, Item, ItemState, LateClock,
    LinkBase, News, Notice, OpenBreakGlass, OpenDrift, Rollback, Text,
};
use crate::message::short;

/// Largest event, in bytes.
pub const LARGEST_EVENT: usize = 64 << 10;

/// The form of the data.
const SCHEMA: &str = "patchwright.notice.event/1";

/// The form of the data of an event of clocks.
const CLOCKS_SCHEMA: &str = "patchwright.clocks.event/1";

/// The form of the data of an event of drift.
const DRIFT_SCHEMA: &str = "patchwright.drift.event/1";

/// What a list of an event may take of it, in bytes.
const LARGEST_LIST: usize = 8 << 10;

/// The media type of an event in structured mode.
pub(crate) const MEDIA_TYPE: &str = "application/cloudevents+json";

/// A notice, for programs: `patchwright.notice.planned.v1` and so on.
#[derive(Debug, Clone, Serialize)]
pub struct CloudEvent<'a> {
    specversion: &'static str,
    id: NoticeId,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<ChangeId>,
    time: Timestamp,
    datacontenttype: &'static str,
    data: Said<'a>,
}

#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
enum Said<'a> {
    Notice(Box<Data<'a>>),
    Clocks(Box<OfClocks<'a>>),
    Drift(Box<OfDrift<'a>>),
}

/// What a [`ClockNotice`] says under the same names, with its list cut.
#[derive(Debug, Clone, Serialize)]
struct OfClocks<'a> {
    /// Of this form.
    schema: &'static str,
    tenant: Tenant<'a>,
    published_at: Timestamp,
    counts: ClockCounts,
    clocks: Listed<&'a LateClock>,
    contact: Contact<'a>,
    link: String,
}

/// What a [`DriftNotice`] says under the same names, with its list cut.
#[derive(Debug, Clone, Serialize)]
struct OfDrift<'a> {
    /// Of this form.
    schema: &'static str,
    tenant: Tenant<'a>,
    published_at: Timestamp,
    counts: DriftCounts,
    drifts: Listed<LinkedDrift<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    break_glass: Option<Listed<LinkedBreakGlass<'a>>>,
    contact: Contact<'a>,
    link: String,
}

/// A drift, with where it is settled.
#[derive(Debug, Clone, Serialize)]
struct LinkedDrift<'a> {
    #[serde(flatten)]
    drift: &'a OpenDrift,
    link: String,
}

/// Break-glass, with where it is closed and reviewed.
#[derive(Debug, Clone, Serialize)]
struct LinkedBreakGlass<'a> {
    #[serde(flatten)]
    break_glass: &'a OpenBreakGlass,
    link: String,
}

/// What a [`Notice`] says under the same names, with long lists cut.
#[derive(Debug, Clone, Serialize)]
struct Data<'a> {
    /// Of this form.
    schema: &'static str,
    tenant: Tenant<'a>,
    change: ChangeId,
    plan: Option<PlanHash>,
    sequence: u32,
    published_at: Timestamp,
    news: &'a News,
    category: Category,
    priority: Priority,
    title: &'a str,
    description: &'a Text,
    advisories: Listed<String>,
    impact: Option<Impact>,
    due: Option<Timestamp>,
    counts: Vec<Count>,
    items: Listed<&'a Item>,
    rollback: Listed<WayBack<'a>>,
    contact: Contact<'a>,
    link: String,
}

#[derive(Debug, Clone, Serialize)]
struct Tenant<'a> {
    id: TenantId,
    name: &'a str,
    zone: &'a str,
}

#[derive(Debug, Clone, Serialize)]
struct Contact<'a> {
    name: &'a str,
    at: &'a str,
}

#[derive(Debug, Clone, Serialize)]
struct WayBack<'a> {
    items: u32,
    way: &'static str,
    reason: Option<&'a str>,
}

#[derive(Debug, Clone, Serialize)]
struct Count {
    state: ItemState,
    count: usize,
}

#[derive(Debug, Clone, Serialize)]
struct Impact {
    install_ms: u64,
    restarts: Listed<Restart>,
    reboot_needed: bool,
    /// `null` where it was not measured.
    reboot_ms: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct Restart {
    unit: String,
    times: u32,
    milliseconds: u64,
}

/// A list, or its beginning.
#[derive(Debug, Clone, Serialize)]
struct Listed<T> {
    total: usize,
    first: Vec<T>,
}

impl<T: Serialize> Listed<T> {
    /// As many as there is room for.
    fn new(all: impl ExactSizeIterator<Item = T>) -> Self {
        let total = all.len();
        let mut room = LARGEST_LIST;
        let mut first = Vec::new();
        for one in all {
            let size = serde_json::to_vec(&one).map_or(usize::MAX, |json| json.len() + 1);
            let Some(left) = room.checked_sub(size) else { break };
            room = left;
            first.push(one);
        }
        Self { total, first }
    }

    /// With what is counted and not named told as its rest.
    fn of(self, total: u64) -> Self {
        Self { total: usize::try_from(total).unwrap_or(usize::MAX), ..self }
    }
}

impl<'a> CloudEvent<'a> {
    /// The event of a notice. Its id is the notice's, so that a second delivery is recognised.
    pub fn new(notice: &'a Notice) -> Self {
        let draft = notice.draft();
        Self {
            specversion: "1.0",
            id: draft.id,
            source: draft.link_base.to(&["tenants", &draft.tenant.id.to_string()]),
            kind: event_type(notice.kind().as_str()),
            subject: Some(draft.change),
            time: draft.published_at,
            datacontenttype: "application/json",
            data: Said::Notice(Box::new(Data::new(notice, draft))),
        }
    }

    /// The event of a notice of clocks, which is about no single change.
    pub fn of_clocks(notice: &'a ClockNotice) -> Self {
        let draft = notice.draft();
        let data = Said::Clocks(Box::new(OfClocks {
            schema: CLOCKS_SCHEMA,
            tenant: Tenant::of(&draft.tenant),
            published_at: draft.published_at,
            counts: draft.counts,
            clocks: Listed::new(draft.clocks.iter()).of(draft.counts.total()),
            contact: Contact::of(&draft.contact),
            link: notice.link(),
        }));
        let base = &draft.link_base;
        Self::of_many("clocks", draft.id, (draft.tenant.id, base), draft.published_at, data)
    }

    /// The event of a notice of drift, which is about no single change.
    pub fn of_drift(notice: &'a DriftNotice) -> Self {
        let draft = notice.draft();
        let linked = |drift| LinkedDrift { drift, link: notice.link_of(drift) };
        let opened =
            |it| LinkedBreakGlass { break_glass: it, link: notice.link_of_break_glass(it) };
        let is_some = !draft.break_glass.is_empty();
        let data = Said::Drift(Box::new(OfDrift {
            schema: DRIFT_SCHEMA,
            tenant: Tenant::of(&draft.tenant),
            published_at: draft.published_at,
            counts: draft.counts,
            drifts: Listed::new(draft.drifts.iter().map(linked)).of(draft.counts.total()),
            break_glass: is_some.then(|| Listed::new(draft.break_glass.iter().map(opened))),
            contact: Contact::of(&draft.contact),
            link: notice.link(),
        }));
        let base = &draft.link_base;
        Self::of_many("drift", draft.id, (draft.tenant.id, base), draft.published_at, data)
    }

    /// An event about no single change, to a tenant.
    fn of_many(
        kind: &str,
        id: NoticeId,
        (tenant, base): (TenantId, &LinkBase),
        time: Timestamp,
        data: Said<'a>,
    ) -> Self {
        Self {
            specversion: "1.0",
            id,
            source: base.to(&["tenants", &tenant.to_string()]),
            kind: event_type(kind),
            subject: None,
            time,
            datacontenttype: "application/json",
            data,
        }
    }

    /// In structured mode (`CloudEvents` JSON format 1.0): `application/cloudevents+json`.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| unreachable!("all keys are texts"))
    }
}

/// `patchwright.notice.planned.v1`.
fn event_type(kind: &str) -> String {
    format!("patchwright.notice.{kind}.v1")
}

impl<'a> Data<'a> {
    fn new(notice: &'a Notice, draft: &'a Draft) -> Self {
        Self {
            schema: SCHEMA,
            tenant: Tenant::of(&draft.tenant),
            change: draft.change,
            plan: draft.plan,
            sequence: draft.sequence,
            published_at: draft.published_at,
            news: &draft.news,
            category: draft.category,
            priority: draft.priority,
            title: draft.title.as_str(),
            description: &draft.description,
            advisories: Listed::new(draft.advisories.iter().map(ToString::to_string)),
            impact: draft.impact.as_ref().map(Impact::new),
            due: draft.due,
            counts: notice
                .counts()
                .into_iter()
                .map(|(state, count)| Count { state, count })
                .collect(),
            items: Listed::new(draft.items.iter()),
            rollback: Listed::new(draft.rollback.iter().map(WayBack::new)),
            contact: Contact::of(&draft.contact),
            link: notice.link(),
        }
    }
}

impl Impact {
    fn new(impact: &domain::proof::Impact) -> Self {
        let restart = |(unit, downtime): (&String, &domain::proof::Downtime)| Restart {
            unit: short(unit),
            times: downtime.times,
            milliseconds: downtime.milliseconds,
        };
        Self {
            install_ms: impact.install_ms,
            restarts: Listed::new(impact.restarted.iter().map(restart)),
            reboot_needed: !impact.reboot.causes.is_empty(),
            reboot_ms: impact.reboot.downtime_ms,
        }
    }
}

impl<'a> Tenant<'a> {
    fn of(tenant: &'a crate::content::Tenant) -> Self {
        Self { id: tenant.id, name: tenant.name.as_str(), zone: tenant.zone.name() }
    }
}

impl<'a> Contact<'a> {
    fn of(contact: &'a crate::content::Contact) -> Self {
        Self { name: contact.name.as_str(), at: contact.at.as_str() }
    }
}

impl<'a> WayBack<'a> {
    fn new(way_back: &'a crate::content::WayBack) -> Self {
        let (way, reason) = match &way_back.by {
            Rollback::Packages => ("packages", None),
            Rollback::Files => ("files", None),
            Rollback::Snapshot => ("snapshot", None),
            Rollback::Impossible { reason } => ("impossible", Some(reason.as_str())),
        };
        Self { items: way_back.items, way, reason }
    }
}
