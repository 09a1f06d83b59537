//! Feeds: a tenant's notices for its calendars and readers, which come for them by themselves.

mod atom;
mod calendar;

use std::collections::BTreeMap;

use domain::cloud::{ChangeId, TenantId};

use crate::content::{LinkBase, Notice, Tenant};

/// One tenant's notices, for those who fetch them. Everything in a feed follows from the notices, and
/// from how their changes stand where that is said: who fetches it twice gets the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    tenant: &'a Tenant,
    base: &'a LinkBase,
    notices: &'a [Notice],
    standings: Option<&'a BTreeMap<ChangeId, Standing>>,
}

/// How a change stands now, where that is later than its newest notice: answers make none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// What has come of it.
    pub course: Course,
    /// Rises with everything that happens to it.
    pub revision: u32,
}

/// What has come of a change since its newest notice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It is as the notice says.
    AsTold,
    /// Nothing is left to ask: it takes place.
    Agreed,
    /// It does not take place as the notice says: it was put off, refused or taken back.
    Off,
}

/// A notice of another tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a notice of {other} is none for the feed of {tenant}")]
pub struct Stranger {
    /// Whose feed it is.
    pub tenant: TenantId,
    /// Whose notice it is.
    pub other: TenantId,
}

impl Stranger {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "make each tenant's feed of its own notices"
    }
}

impl<'a> Feed<'a> {
    /// Of a tenant's notices, in any order; there may be none.
    ///
    /// # Errors
    /// If one is another tenant's.
    pub fn new(
        tenant: &'a Tenant,
        base: &'a LinkBase,
        notices: &'a [Notice],
    ) -> Result<Self, Stranger> {
        let others = notices.iter().map(|notice| notice.draft().tenant.id);
        match others.into_iter().find(|&other| other != tenant.id) {
            Some(other) => Err(Stranger { tenant: tenant.id, other }),
            None => Ok(Self { tenant, base, notices, standings: None }),
        }
    }

    /// The same, with how changes stand now; those of which nothing is said stand as they were told.
    #[must_use]
    pub const fn standing(self, standings: &'a BTreeMap<ChangeId, Standing>) -> Self {
        Self { standings: Some(standings), ..self }
    }

    /// How the change of a notice stands.
    fn standing_of(&self, notice: &Notice) -> Standing {
        let draft = notice.draft();
        let told = Standing { course: Course::AsTold, revision: draft.sequence };
        let known = self.standings.and_then(|all| all.get(&draft.change));
        known.map_or(told, |it| Standing { revision: it.revision.max(draft.sequence), ..*it })
    }

    /// The newest notice of each change.
    fn newest(&self) -> BTreeMap<ChangeId, &'a Notice> {
        let mut newest: BTreeMap<ChangeId, &Notice> = BTreeMap::new();
        for notice in self.notices {
            let known = newest.entry(notice.draft().change).or_insert(notice);
            if notice.is_newer(known) {
                *known = notice;
            }
        }
        newest
    }
}
