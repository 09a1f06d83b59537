//! What a tenant says to a plan: yes, later, or no.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::{KeyId, Nonce, PlanHash};
use super::keyring::{KeyKind, KeyRing, NotInForce};
use super::plan::Plan;
use super::share::Refusal;
use super::signed::{Payload, Verified};
use super::text::Reason;
use crate::cloud::{ChangeId, Name, TenantId};

/// How far the clock of whoever signs may be off.
pub const CLOCK_TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

/// How long after it was made up a statement may come in that a passkey signed. It is made up and
/// signed in one go, in a browser; one that comes later was kept back by somebody. A key's statements
/// may be carried by hand for as long as their plan is in force.
pub const PASSKEY_TOLERANCE: SignedDuration = SignedDuration::from_mins(10);

/// For how long a risk is borne at most before somebody looks at it again.
pub const LONGEST_RISK: SignedDuration = SignedDuration::from_hours(366 * 24);

/// A tenant's word on exactly one plan (X.1642 8.7.2(3), R17, R22; CCM CCC-05).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The change, for people; the plan's hash decides.
    pub change: ChangeId,
    /// The plan.
    pub plan: PlanHash,
    /// The tenant that speaks.
    pub tenant: TenantId,
    /// What it says.
    pub decision: Decision,
    /// When, by the clock of whoever signed.
    pub given_at: Timestamp,
    /// Different in each statement.
    pub nonce: Nonce,
}

/// Yes, later, or no.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case", deny_unknown_fields)]
pub enum Decision {
    /// The plan may be carried out.
    Approve,
    /// Not before a time; the tenant is asked again then.
    Defer {
        /// The time.
        until: Timestamp,
        /// Who bears the risk meanwhile.
        acceptance: Acceptance,
    },
    /// Not at all; the tenant is asked again once nobody bears the risk any more.
    Refuse {
        /// Who bears the risk.
        acceptance: Acceptance,
    },
}

/// Somebody bears the risk of what stays unpatched: the finding becomes an accepted one (AT19,
/// NIS2 6.6.2, CCM CCC-08).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acceptance {
    /// Why.
    pub reason: Reason,
    /// Who bears the risk.
    pub risk_owner: Name,
    /// Until when.
    pub expiry: Timestamp,
}

impl Payload for Statement {
    const KIND: &'static str = "urn:patchwright:consent:v1";

    fn subject(&self) -> (String, [u8; 32]) {
        (self.change.to_string(), *self.plan.as_bytes())
    }
}

impl Decision {
    /// The word for it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Defer { .. } => "defer",
            Self::Refuse { .. } => "refuse",
        }
    }

    /// Until when it keeps the plan from being carried out.
    pub const fn holds_until(&self) -> Option<Timestamp> {
        match self {
            Self::Approve => None,
            Self::Defer { until, .. } => Some(*until),
            Self::Refuse { acceptance } => Some(acceptance.expiry),
        }
    }

    /// Whether it makes sense at all: it reaches further than now, and somebody bears the risk for as
    /// long as nothing is done. What the SLA allows beyond that is asked of the share.
    ///
    /// # Errors
    /// [`Refusal::Past`], [`Refusal::RiskUncovered`] or [`Refusal::RiskTooLong`].
    pub fn makes_sense(&self, now: Timestamp) -> Result<(), Refusal> {
        if let Self::Defer { acceptance, .. } | Self::Refuse { acceptance } = self {
            let (expiry, latest) = (acceptance.expiry, now + LONGEST_RISK);
            if latest < expiry {
                return Err(Refusal::RiskTooLong { expiry, latest });
            }
        }
        match self {
            Self::Defer { until, .. } if *until <= now => Err(Refusal::Past { until: *until, now }),
            Self::Defer { until, acceptance } if acceptance.expiry < *until => {
                Err(Refusal::RiskUncovered { expiry: acceptance.expiry, until: *until })
            }
            Self::Refuse { acceptance } if acceptance.expiry <= now => {
                Err(Refusal::RiskUncovered { expiry: acceptance.expiry, until: now })
            }
            Self::Approve | Self::Defer { .. } | Self::Refuse { .. } => Ok(()),
        }
    }

    /// Of two statements of one instant the one that does less is believed.
    const fn caution(&self) -> u8 {
        match self {
            Self::Approve => 0,
            Self::Defer { .. } => 1,
            Self::Refuse { .. } => 2,
        }
    }
}

/// A statement that was received while its key was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    statement: Statement,
    key: KeyId,
    received_at: Timestamp,
}

/// Why a statement does not count, whatever the plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHeard {
    /// It speaks for another tenant than the key ring's.
    #[error("the statement speaks for {given}, its key is asked for among those of {expected}")]
    Tenant {
        /// Whom it speaks for.
        given: TenantId,
        /// Whose keys were asked.
        expected: TenantId,
    },
    /// Its key does not count.
    #[error(transparent)]
    Key(#[from] NotInForce),
    /// It was given after it came in.
    #[error("the statement was given at {given_at}, and it is {now}")]
    Future {
        /// When it says it was given.
        given_at: Timestamp,
        /// When it came in.
        now: Timestamp,
    },
    /// A passkey's statement was kept back.
    #[error("the statement was made up at {given_at} for a passkey to sign, and it is {now}")]
    Late {
        /// When it was made up.
        given_at: Timestamp,
        /// When it came in.
        now: Timestamp,
    },
}

impl NotHeard {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Tenant { .. } => "sign as the tenant whose items are in the plan",
            Self::Key(error) => error.help(),
            Self::Future { .. } => "set the clock of the machine that signs, and sign again",
            Self::Late { .. } => "begin again, and sign within ten minutes",
        }
    }

    /// Whether something counts that a tenant says with a key: the key is one of its own in force, and
    /// it is said now.
    pub(super) fn check(
        (tenant, given_at): (TenantId, Timestamp),
        key: KeyId,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Self> {
        if tenant != keys.tenant() {
            return Err(Self::Tenant { given: tenant, expected: keys.tenant() });
        }
        let kind = keys.in_force(key)?.key.kind;
        if given_at.duration_since(now) > CLOCK_TOLERANCE {
            return Err(Self::Future { given_at, now });
        }
        if kind == KeyKind::Passkey && now.duration_since(given_at) > PASSKEY_TOLERANCE {
            return Err(Self::Late { given_at, now });
        }
        Ok(())
    }

    /// The same for what others took in before and carry on: a passkey's may be older.
    pub(super) fn check_carried(
        said: (TenantId, Timestamp),
        key: KeyId,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<(), Self> {
        match Self::check(said, key, keys, now) {
            Err(Self::Late { .. }) => Ok(()),
            outcome => outcome,
        }
    }
}

impl Heard {
    /// Takes a statement in.
    ///
    /// # Errors
    /// If its key is not one of the tenant's in force, it comes from the future, or was kept back.
    pub fn admit(
        statement: Verified<Statement>,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<Self, NotHeard> {
        let key = statement.key();
        let Statement { tenant, given_at, .. } = *statement.said();
        NotHeard::check((tenant, given_at), key, keys, now)?;
        Ok(Self { statement: statement.into_said(), key, received_at: now })
    }

    /// Takes a statement in that the control plane took in before, as an agent does. How long a
    /// passkey's was under way cannot be seen here; the plan's window is its limit.
    ///
    /// # Errors
    /// If its key is not one of the tenant's in force, or it comes from the future.
    pub fn carried(
        statement: Verified<Statement>,
        keys: &KeyRing,
        now: Timestamp,
    ) -> Result<Self, NotHeard> {
        let key = statement.key();
        let Statement { tenant, given_at, .. } = *statement.said();
        NotHeard::check_carried((tenant, given_at), key, keys, now)?;
        Ok(Self { statement: statement.into_said(), key, received_at: now })
    }

    /// What was said.
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The key that signed it.
    pub const fn key(&self) -> KeyId {
        self.key
    }

    /// When it came in, by our clock.
    pub const fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// Whether it is about this plan.
    pub fn is_about(&self, plan: &Plan) -> bool {
        self.statement.plan == plan.hash() && self.statement.tenant == plan.draft().tenant
    }

    /// Whether it was said after another one, or is the more careful of two of one instant.
    pub fn outweighs(&self, other: &Self) -> bool {
        let weight = |it: &Self| (it.statement.given_at, it.statement.decision.caution());
        weight(self) > weight(other)
    }
}
