//! Several notices of one tenant in one message, the most urgent first.

use std::cmp::Reverse;

use domain::cloud::TenantId;
use domain::priority::Priority;
use jiff::Timestamp;
use minijinja::Value;
use minijinja::value::Serde;

use super::context::DigestContext;
use super::{Message, TemplateError, Templates};
use crate::content::{Ask, Kind, Notice};

/// The name of its templates.
pub(super) const NAME: &str = "digest";

/// How many notices a digest shows. Whoever is to be told all of them joins no more.
pub const MOST_IN_DIGEST: usize = 50;

/// Why notices cannot be joined.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// There are none.
    #[error("there is no notice to join")]
    Empty,
    /// They are not all for the same reader.
    #[error("the notices are of tenants {one} and {other}")]
    Tenants {
        /// Of the first notice.
        one: TenantId,
        /// Of another.
        other: TenantId,
    },
    /// The template cannot do it.
    #[error(transparent)]
    Template(#[from] TemplateError),
}

impl DigestError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::Empty => "send nothing".to_owned(),
            Self::Tenants { .. } => "join the notices of each tenant by themselves".to_owned(),
            Self::Template(error) => error.help(),
        }
    }
}

impl Templates {
    /// Notices of one tenant as one message, the most urgent first.
    ///
    /// # Errors
    /// If there are none, or they are of several tenants.
    pub fn digest(&self, language: &str, notices: &[Notice]) -> Result<Message, DigestError> {
        let first = notices.first().ok_or(DigestError::Empty)?;
        let one = first.draft().tenant.id;
        let others = notices.iter().map(|notice| notice.draft().tenant.id);
        if let Some(other) = others.into_iter().find(|&other| other != one) {
            return Err(DigestError::Tenants { one, other });
        }
        let notices: Vec<&Notice> = notices.iter().collect();
        Ok(self.render(language, NAME, &context(&notices))?)
    }
}

/// What the templates of a digest see, of at least one notice.
pub(super) fn context(notices: &[&Notice]) -> Value {
    let mut notices = notices.to_vec();
    notices.sort_by_key(|notice| urgency(notice));
    match notices.first() {
        Some(first) => Value::from(Serde(DigestContext::new(first, &notices, MOST_IN_DIGEST))),
        None => Value::UNDEFINED,
    }
}

/// What a reader must see first sorts first: what goes wrong, what waits for an answer and by when,
/// then by priority and time.
fn urgency(notice: &Notice) -> impl Ord + use<> {
    let draft = notice.draft();
    let rank = match (notice.kind(), draft.news.ask()) {
        (Kind::Emergency | Kind::Disputed, _) => 0,
        (Kind::Failed, _) => 1,
        (Kind::Lapsed, _) => 2,
        (_, Some(Ask::Answer { .. } | Ask::Explicit)) => 3,
        (Kind::Delayed, _) => 4,
        (Kind::Started, _) => 5,
        (Kind::Reminder, _) => 6,
        (Kind::Planned, _) => 7,
        (Kind::Cancelled, _) => 8,
        (Kind::Completed, _) => 9,
    };
    let by = match draft.news.ask() {
        Some(Ask::Answer { by, .. }) => by,
        _ => Timestamp::MAX,
    };
    let from = draft.news.window().map_or(Timestamp::MAX, |window| window.from);
    (rank, by, Reverse::<Priority>(draft.priority), from, draft.id)
}
