//! Consent given ahead: what a tenant agrees to without being asked each time.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::canonical::to_canonical;
use super::consent::NotHeard;
use super::digest::{KeyId, Nonce, sha256};
use super::keyring::KeyRing;
use super::lifecycle::Kind;
use super::plan::{Disruption, Plan, Window};
use super::signed::{Payload, Verified};
use crate::cloud::{CiId, TenantId};
use crate::priority::Priority;

/// A rule such as "low and medium patches, on Tuesday nights", signed like any consent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandingRule {
    /// The tenant that agrees.
    pub tenant: TenantId,
    /// To patches, alterations, or both.
    pub kinds: BTreeSet<Kind>,
    /// Of these priorities.
    pub priorities: BTreeSet<Priority>,
    /// On which items.
    pub items: Scope,
    /// Disturbing no more than this.
    pub disruption: Disruption,
    /// Inside one of these.
    pub windows: Vec<WeeklyWindow>,
    /// From when on it counts.
    pub from: Timestamp,
    /// Until before when it counts.
    pub until: Timestamp,
    /// When it was given, by the clock of whoever signed.
    pub given_at: Timestamp,
    /// Different in each rule.
    pub nonce: Nonce,
}

/// Which of a tenant's items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "on", rename_all = "snake_case", deny_unknown_fields)]
pub enum Scope {
    /// All, also those that come later.
    All,
    /// These.
    These {
        /// Their ids.
        items: BTreeSet<CiId>,
    },
}

/// A span that comes back each week, in UTC: what both sides signed must not move with a
/// government's decision on summer time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeeklyWindow {
    /// When it begins, in minutes after Monday 00:00 UTC.
    pub begins: u16,
    /// How long it is, in minutes; a week at most counts.
    pub minutes: u16,
}

/// As people read it: `tue 02:00 UTC for 4h`.
impl fmt::Display for WeeklyWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
        let Self { begins, minutes } = *self;
        let day = DAYS[usize::from(begins / (24 * 60) % 7)];
        let (hour, minute) = (begins % (24 * 60) / 60, begins % 60);
        let length = match (minutes / 60, minutes % 60) {
            (0, minutes) => format!("{minutes}m"),
            (hours, 0) => format!("{hours}h"),
            (hours, minutes) => format!("{hours}h {minutes}m"),
        };
        f.pad(&format!("{day} {hour:02}:{minute:02} UTC for {length}"))
    }
}

/// A rule that was received while its key was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    rule: StandingRule,
    key: KeyId,
    withdrawn: Option<Timestamp>,
}

/// Why a standing rule does not cover a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// It is another tenant's.
    #[error("it is a rule of {rule}, and the plan is for {plan}")]
    Tenant {
        /// Whose it is.
        rule: TenantId,
        /// Whose items are in the plan.
        plan: TenantId,
    },
    /// The tenant took it back.
    #[error("it was withdrawn at {at}")]
    Withdrawn {
        /// When.
        at: Timestamp,
    },
    /// Its key was taken back.
    #[error("its key {key} was revoked at {at}")]
    KeyRevoked {
        /// The key.
        key: KeyId,
        /// When.
        at: Timestamp,
    },
    /// It does not count yet, or no more.
    #[error("it counts from {from} until {until}, and the plan runs from {starts} until {ends}")]
    Validity {
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        until: Timestamp,
        /// The plan's beginning.
        starts: Timestamp,
        /// The plan's end.
        ends: Timestamp,
    },
    /// It speaks of other kinds of changes.
    #[error("it does not speak of a {kind}")]
    Kind {
        /// Of the change.
        kind: Kind,
    },
    /// It speaks of other priorities.
    #[error("it does not speak of {priority} priority")]
    Priority {
        /// Of the change.
        priority: Priority,
    },
    /// The plan touches an item that it leaves out.
    #[error("it leaves out {item}")]
    Item {
        /// The first such item.
        item: CiId,
    },
    /// The plan disturbs more than it allows.
    #[error("it allows what {allowed}, and the plan {needed}")]
    Disruption {
        /// By the rule.
        allowed: Disruption,
        /// By the plan.
        needed: Disruption,
    },
    /// A stage lies in none of its windows.
    #[error("the stage from {from} until {until} lies in none of its windows")]
    Window {
        /// The stage's beginning.
        from: Timestamp,
        /// The stage's end.
        until: Timestamp,
    },
}

impl Payload for StandingRule {
    const KIND: &'static str = "urn:patchwright:standing-consent:v1";

    /// About two thousand items one by one; more are named by [`Scope::All`], or by several rules.
    const LONGEST: usize = 64 << 10;

    /// It is about itself: the rule's own canonical form.
    fn subject(&self) -> (String, [u8; 32]) {
        ("standing consent".to_owned(), sha256(&to_canonical(self)))
    }
}

impl Standing {
    /// Takes a rule in.
    ///
    /// # Errors
    /// If its key is not one of the tenant's in force, it comes from the future, or was kept back.
    pub fn admit(
        rule: Verified<StandingRule>,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<Self, NotHeard> {
        let key = rule.key();
        let StandingRule { tenant, given_at, .. } = *rule.said();
        NotHeard::check((tenant, given_at), key, keys, now)?;
        Ok(Self { rule: rule.into_said(), key, withdrawn: None })
    }

    /// Takes a rule in that the control plane took in before, as an agent does.
    ///
    /// # Errors
    /// If its key is not one of the tenant's in force, or it comes from the future.
    pub fn carried(
        rule: Verified<StandingRule>,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<Self, NotHeard> {
        let key = rule.key();
        let StandingRule { tenant, given_at, .. } = *rule.said();
        NotHeard::check_carried((tenant, given_at), key, keys, now)?;
        Ok(Self { rule: rule.into_said(), key, withdrawn: None })
    }

    /// The tenant takes it back. That needs no signature: it only makes less happen.
    #[must_use]
    pub fn withdraw(self, now: Timestamp) -> Self {
        Self { withdrawn: self.withdrawn.or(Some(now)), ..self }
    }

    /// What it says.
    pub const fn rule(&self) -> &StandingRule {
        &self.rule
    }

    /// The key that signed it.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// When the tenant took it back.
    pub const fn withdrawn(&self) -> Option<Timestamp> {
        self.withdrawn
    }

    /// Whether it agrees to a plan.
    ///
    /// # Errors
    /// Why not.
    pub fn covers(
        &self,
        plan: &Plan,
        kind: Kind,
        priority: Priority,
        keys: &KeyRing,
    ) -> Result<(), NotCovered> {
        let Self { rule, key, withdrawn } = self;
        let draft = plan.draft();
        if rule.tenant != draft.tenant {
            return Err(NotCovered::Tenant { rule: rule.tenant, plan: draft.tenant });
        }
        if let Some(at) = *withdrawn {
            return Err(NotCovered::Withdrawn { at });
        }
        if let Some(at) = keys.revoked_at(*key) {
            return Err(NotCovered::KeyRevoked { key: *key, at });
        }
        let Window { from: starts, until: ends } = plan.span();
        if starts < rule.from || rule.until < ends {
            let (from, until) = (rule.from, rule.until);
            return Err(NotCovered::Validity { from, until, starts, ends });
        }
        if !rule.kinds.contains(&kind) {
            return Err(NotCovered::Kind { kind });
        }
        if !rule.priorities.contains(&priority) {
            return Err(NotCovered::Priority { priority });
        }
        if let Scope::These { items } = &rule.items
            && let Some(item) = plan.items().find(|item| !items.contains(&item.ci))
        {
            return Err(NotCovered::Item { item: item.ci });
        }
        let (allowed, needed) = (rule.disruption, plan.disruption());
        if needed > allowed {
            return Err(NotCovered::Disruption { allowed, needed });
        }
        let is_outside = |window: &Window| !rule.windows.iter().any(|weekly| weekly.holds(window));
        if let Some(Window { from, until }) =
            draft.stages.iter().map(|stage| stage.window).find(is_outside)
        {
            return Err(NotCovered::Window { from, until });
        }
        Ok(())
    }
}

impl WeeklyWindow {
    /// Whether all of a window lies in one occurrence of it.
    pub fn holds(&self, window: &Window) -> bool {
        const MINUTE: i128 = 60 * 1_000_000_000;
        const WEEK: i128 = 7 * 24 * 60 * MINUTE;
        // 1970-01-05 was a Monday.
        const MONDAY: i128 = 4 * 24 * 60 * MINUTE;
        let (from, until) = (window.from.as_nanosecond(), window.until.as_nanosecond());
        let into = (from - MONDAY - i128::from(self.begins) * MINUTE).rem_euclid(WEEK);
        into + (until - from) <= (i128::from(self.minutes) * MINUTE).min(WEEK)
    }
}
