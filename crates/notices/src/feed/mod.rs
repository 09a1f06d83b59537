//! Feeds: a tenant's notices for its calendars and readers, which come for them by themselves.

mod atom;
mod calendar;

use std::collections::BTreeMap;

use domain::cloud::{ChangeId, TenantId};

use crate::content::{LinkBase, Notice, Tenant};

/// One tenant's notices, for those who fetch them. Everything in a feed follows from the notices:
/// who fetches it twice gets the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Feed<'a> {
    tenant: &'a Tenant,
    base: &'a LinkBase,
    notices: &'a [Notice],
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
            None => Ok(Self { tenant, base, notices }),
        }
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
