//! What is delivered, by whichever way.

use domain::cloud::{ChangeId, NoticeId, TenantId};
use jiff::Timestamp;
use serde_json::json;

use crate::content::{ClockNotice, DriftNotice, LinkBase, Notice, Tenant};
use crate::event::CloudEvent;
use crate::feed::Feed;
use crate::message::{DigestError, Message, TemplateError, Templates};

/// A notice, or a digest of several, ready to go. It follows from notices and templates alone, so
/// that what is sent again is the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    pub(super) id: NoticeId,
    pub(super) at: Timestamp,
    pub(super) message: Message,
    /// An event for calendars, where there is a window.
    pub(super) calendar: Option<String>,
    /// The `CloudEvent`.
    pub(super) event: String,
    /// What holds mails about the same thing together.
    pub(super) thread: Option<(ChangeId, TenantId)>,
}

/// Why there is no parcel.
#[derive(Debug, thiserror::Error)]
pub enum ParcelError {
    /// The notices cannot be joined, or a template fails.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl ParcelError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::Digest(error) => error.help(),
        }
    }
}

/// Most notices that the event of a digest names.
const NAMED: usize = 100;

impl Parcel {
    /// Of one notice, in a language.
    ///
    /// # Errors
    /// If a template cannot do it.
    pub fn of(
        notice: &Notice,
        templates: &Templates,
        language: &str,
    ) -> Result<Self, TemplateError> {
        let draft = notice.draft();
        let message = templates.message(language, notice)?;
        let has_time = draft.news.window().or(draft.news.before()).is_some();
        let calendar = if has_time { Some(calendar(notice, templates, language)?) } else { None };
        Ok(Self {
            id: draft.id,
            at: draft.published_at,
            message,
            calendar,
            event: CloudEvent::new(notice).to_json(),
            thread: Some((draft.change, draft.tenant.id)),
        })
    }

    /// Of several notices of one tenant, as of a time, under an id of its own.
    ///
    /// # Errors
    /// If they cannot be joined.
    pub fn digest(
        id: NoticeId,
        at: Timestamp,
        notices: &[Notice],
        templates: &Templates,
        language: &str,
    ) -> Result<Self, ParcelError> {
        let message = templates.digest(language, notices)?;
        let first = notices.first().ok_or(DigestError::Empty)?.draft();
        let event = digest_event(id, at, &first.tenant, &first.link_base, notices);
        Ok(Self { id, at, message, calendar: None, event, thread: None })
    }

    /// Of a notice of clocks, in a language. It is one message however many clocks it tells of.
    ///
    /// # Errors
    /// If a template cannot do it.
    pub fn clocks(
        notice: &ClockNotice,
        templates: &Templates,
        language: &str,
    ) -> Result<Self, TemplateError> {
        let (at, event) = (notice.draft().published_at, CloudEvent::of_clocks(notice));
        Ok(Self::of_many(notice.id(), at, templates.clocks(language, notice)?, &event))
    }

    /// Of a notice of drift, in a language. It is one message however many drifts it tells of.
    ///
    /// # Errors
    /// If a template cannot do it.
    pub fn drift(
        notice: &DriftNotice,
        templates: &Templates,
        language: &str,
    ) -> Result<Self, TemplateError> {
        let (at, event) = (notice.draft().published_at, CloudEvent::of_drift(notice));
        Ok(Self::of_many(notice.id(), at, templates.drift(language, notice)?, &event))
    }

    /// Of what is about no single change.
    fn of_many(id: NoticeId, at: Timestamp, message: Message, event: &CloudEvent<'_>) -> Self {
        Self { id, at, message, calendar: None, event: event.to_json(), thread: None }
    }

    /// Its id: the notice's, or the digest's.
    pub const fn id(&self) -> NoticeId {
        self.id
    }
}

fn calendar(
    notice: &Notice,
    templates: &Templates,
    language: &str,
) -> Result<String, TemplateError> {
    let draft = notice.draft();
    let notices = [notice.clone()];
    match Feed::new(&draft.tenant, &draft.link_base, &notices) {
        Ok(feed) => feed.calendar(templates, language),
        Err(_) => unreachable!("a notice is of its own tenant"),
    }
}

/// Names the notices, whose own events say the rest.
fn digest_event(
    id: NoticeId,
    at: Timestamp,
    tenant: &Tenant,
    base: &LinkBase,
    notices: &[Notice],
) -> String {
    let named = notices.iter().take(NAMED).map(|notice| {
        let draft = notice.draft();
        json!({
            "id": draft.id, "change": draft.change, "kind": notice.kind(),
            "priority": draft.priority, "link": notice.link(),
        })
    });
    json!({
        "specversion": "1.0",
        "id": id,
        "source": base.to(&["tenants", &tenant.id.to_string()]),
        "type": "patchwright.notice.digest.v1",
        "time": at,
        "datacontenttype": "application/json",
        "data": {
            "schema": "patchwright.notice.digest/1",
            "tenant": { "id": tenant.id, "name": tenant.name },
            "total": notices.len(),
            "first": named.collect::<Vec<_>>(),
            "link": base.to(&["notices"]),
        },
    })
    .to_string()
}
