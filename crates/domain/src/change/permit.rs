//! The one rule by which a plan may start, or exactly what it lacks.
//!
//! It runs in the control plane before each start, and can run again wherever somebody does not
//! want to trust the control plane: it needs the plan, what was signed, and the tenant's keys.

use std::collections::BTreeSet;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::consent::{Decision, Heard};
use super::digest::{KeyId, Nonce, PlanHash};
use super::keyring::KeyRing;
use super::lifecycle::Kind;
use super::plan::{Plan, Window};
use super::standing::{NotCovered, Standing};
use crate::cloud::UserId;
use crate::priority::Priority;
use crate::sla::Dates;
use crate::sla::{Approval, Silence};

/// How many of the provider's people agree to a large plan (T15).
pub const PROVIDER_APPROVERS: usize = 2;

/// What is agreed about a change for one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// A patch or an alteration.
    pub kind: Kind,
    /// How urgent.
    pub priority: Priority,
    /// The SLA's dates.
    pub dates: Dates,
    /// More items than this that the provider must patch need two of its people.
    pub two_persons_above: usize,
}

/// One of the provider's people agrees to a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Countersign {
    /// Who.
    pub by: UserId,
    /// To which plan.
    pub plan: PlanHash,
}

/// All that the rule looks at.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// The plan.
    pub plan: &'a Plan,
    /// Who wrote it: its author agrees to nothing.
    pub author: UserId,
    /// What is agreed.
    pub terms: &'a Terms,
    /// What the tenant said.
    pub consents: &'a [Heard],
    /// What it agreed to ahead.
    pub standing: &'a [Standing],
    /// Who of the provider agrees.
    pub approvals: &'a [Countersign],
    /// The tenant's keys as they are now.
    pub keys: &'a KeyRing,
}

/// A plan may start now. Only [`permit`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    plan: PlanHash,
    basis: Basis,
    granted_at: Timestamp,
    window: Window,
}

impl Permit {
    /// The plan.
    pub const fn plan(&self) -> PlanHash {
        self.plan
    }

    /// What it rests on.
    pub const fn basis(&self) -> Basis {
        self.basis
    }

    /// When it was given.
    pub const fn granted_at(&self) -> Timestamp {
        self.granted_at
    }

    /// When its first stage may be carried out; nothing is begun after it.
    pub const fn window(&self) -> Window {
        self.window
    }
}

/// What a permit rests on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Basis {
    /// The tenant said yes to this plan.
    Consent {
        /// The key that signed.
        key: KeyId,
        /// The statement's nonce.
        nonce: Nonce,
    },
    /// The tenant agreed ahead.
    Standing {
        /// The key that signed the rule.
        key: KeyId,
        /// The rule's nonce.
        rule: Nonce,
    },
    /// The tenant said nothing in time, and by the SLA that is a yes.
    Silence {
        /// When the time was over.
        since: Timestamp,
    },
    /// The SLA asks for a notice alone.
    Notice,
    /// The SLA asks for nothing.
    NotNeeded,
}

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Lack {
    /// The tenant was not told.
    #[error("the tenant has no notice of the plan yet")]
    Notice,
    /// It was told too short a time ago.
    #[error("the lead time of the notice is not over until {until}")]
    LeadTime {
        /// When it is.
        until: Timestamp,
    },
    /// The window is not open.
    #[error("the window opens at {opens}")]
    WindowAhead {
        /// When it does.
        opens: Timestamp,
    },
    /// The window is past.
    #[error("the window was over at {closed}")]
    WindowOver {
        /// Since when.
        closed: Timestamp,
    },
    /// What the patch may wipe is not saved.
    #[error(
        "it is known to be exploited, and what the patch may wipe is not saved; it waits for that until {until}"
    )]
    Evidence {
        /// When it starts without.
        until: Timestamp,
    },
    /// The tenant has to agree and did not.
    #[error("the tenant's consent to {plan} is required")]
    Consent {
        /// The plan.
        plan: PlanHash,
    },
    /// The tenant agreed to something else.
    #[error("the consent is to {consented}, not to {plan}")]
    OtherPlan {
        /// What was agreed to.
        consented: PlanHash,
        /// What is to be done.
        plan: PlanHash,
    },
    /// The key of the consent was taken back after it.
    #[error("the consent was signed by {key}, which was revoked at {at}")]
    KeyRevoked {
        /// The key.
        key: KeyId,
        /// When.
        at: Timestamp,
    },
    /// A standing rule does not reach the plan.
    #[error("the standing rule {rule} does not cover the plan: {because}")]
    Standing {
        /// The rule's nonce.
        rule: Nonce,
        /// Why not.
        because: NotCovered,
    },
    /// The tenant said later.
    #[error("the tenant deferred the plan until {until}")]
    Deferred {
        /// Until when.
        until: Timestamp,
    },
    /// The tenant said no.
    #[error("the tenant refused the plan, and bears the risk until {until}")]
    Refused {
        /// Until when.
        until: Timestamp,
    },
    /// The provider's people have not agreed to so large a plan.
    #[error(
        "{items} items of the provider are more than {above}: {PROVIDER_APPROVERS} people beside \
         the author have to agree, and {agreed} did"
    )]
    Approvers {
        /// How many items that the provider must patch.
        items: usize,
        /// How many one person may decide on.
        above: usize,
        /// How many agreed.
        agreed: usize,
    },
}

impl Lack {
    /// When it passes by itself; `None` where somebody has to do something.
    pub const fn passes_at(&self) -> Option<Timestamp> {
        match self {
            Self::LeadTime { until: at }
            | Self::Evidence { until: at }
            | Self::WindowAhead { opens: at } => Some(*at),
            _ => None,
        }
    }

    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Notice => "send the notice",
            Self::LeadTime { .. } | Self::WindowAhead { .. } => "wait",
            Self::WindowOver { .. } => "make a new plan with a later window",
            Self::Evidence { .. } => "save it, and record that: `patchwright change evidence`",
            Self::Consent { .. } => "the tenant signs the plan's statement, or a standing rule",
            Self::OtherPlan { .. } => "ask for consent again: a changed plan is another plan",
            Self::KeyRevoked { .. } => "the tenant signs again with a key in force",
            Self::Standing { .. } => "ask for consent to this plan",
            Self::Deferred { .. } | Self::Refused { .. } => "wait, or talk with the tenant",
            Self::Approvers { .. } => "have approvers look at the plan",
        }
    }
}

/// All that is missing; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacks(Vec<Lack>);

impl Lacks {
    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &Lack> {
        self.0.iter()
    }

    /// When nothing is missing any more, if only time is.
    pub fn pass_at(&self) -> Option<Timestamp> {
        self.0.iter().map(Lack::passes_at).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

impl fmt::Display for Lacks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, lack) in self.0.iter().enumerate() {
            let before = if place == 0 { "" } else { "; " };
            write!(f, "{before}{lack}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Lacks {}

/// What the tenant's side of a plan rests on.
///
/// # Errors
/// All that it lacks there.
pub(crate) fn consented(case: &Case<'_>, now: Timestamp) -> Result<Basis, Lacks> {
    basis(case, now).map_err(Lacks)
}

/// Whether a plan may start now.
///
/// # Errors
/// All that it lacks.
pub fn permit(case: &Case<'_>, now: Timestamp) -> Result<Permit, Lacks> {
    let mut lacks: Vec<_> = lacks_time(case, now).chain(lacks_approvers(case)).collect();
    match basis(case, now) {
        Ok(basis) if lacks.is_empty() => Ok(Permit {
            plan: case.plan.hash(),
            basis,
            granted_at: now,
            window: case.plan.draft().stages[0].window,
        }),
        Ok(_) => Err(Lacks(lacks)),
        Err(more) => {
            lacks.extend(more);
            Err(Lacks(lacks))
        }
    }
}

/// Notice, evidence and window (X.1642 8.7.2(3), AT8).
fn lacks_time(case: &Case<'_>, now: Timestamp) -> impl Iterator<Item = Lack> {
    let Dates { approval, earliest_start, evidence_by, .. } = case.terms.dates;
    let evidence = evidence_by.filter(|until| now < *until).map(|until| Lack::Evidence { until });
    let lead = match (approval, earliest_start) {
        (Approval::NotNeeded, None) => None,
        (Approval::Notice | Approval::Required { .. }, None) => Some(Lack::Notice),
        (_, Some(until)) => (now < until).then_some(Lack::LeadTime { until }),
    };
    let Window { from: opens, until: closed } = case.plan.draft().stages[0].window;
    let window = if now < opens {
        Some(Lack::WindowAhead { opens })
    } else {
        (closed <= now).then_some(Lack::WindowOver { closed })
    };
    lead.into_iter().chain(evidence).chain(window)
}

/// What the tenant's side of it rests on, or what is lacking there.
fn basis(case: &Case<'_>, now: Timestamp) -> Result<Basis, Vec<Lack>> {
    let mut lacks = Vec::new();
    let plan = case.plan.hash();
    match last_word(case, &mut lacks).map(|heard| (heard, &heard.statement().decision)) {
        Some((_, Decision::Defer { until, .. })) if now < *until => {
            return Err(vec![Lack::Deferred { until: *until }]);
        }
        Some((_, Decision::Refuse { acceptance })) if now < acceptance.expiry => {
            return Err(vec![Lack::Refused { until: acceptance.expiry }]);
        }
        Some((heard, Decision::Approve)) => {
            return Ok(Basis::Consent { key: heard.key(), nonce: heard.statement().nonce });
        }
        // It was to wait, it did, and the tenant is asked again.
        Some((_, Decision::Defer { .. } | Decision::Refuse { .. })) | None => {}
    }
    let dates = &case.terms.dates;
    let silence = match dates.approval {
        Approval::NotNeeded => return Ok(Basis::NotNeeded),
        Approval::Notice => return Ok(Basis::Notice),
        Approval::Required { silence } => silence,
    };
    let Terms { kind, priority, .. } = *case.terms;
    for standing in case.standing {
        let (key, rule) = (standing.key(), standing.rule().nonce);
        match standing.covers(case.plan, kind, priority, case.keys) {
            Ok(()) => return Ok(Basis::Standing { key, rule }),
            Err(because) => lacks.push(Lack::Standing { rule, because }),
        }
    }
    if let (Silence::Approves, Some(since)) = (silence, dates.answer_by)
        && since <= now
    {
        return Ok(Basis::Silence { since });
    }
    let said = case.consents.iter().map(Heard::statement);
    let other = said.rev().find(|it| it.plan != plan && it.decision == Decision::Approve);
    lacks.extend(other.map(|other| Lack::OtherPlan { consented: other.plan, plan }));
    lacks.push(Lack::Consent { plan });
    Err(lacks)
}

/// What the tenant said last. A yes counts for its plan alone, and with a key that was not revoked
/// since; a later or no stays what it is whatever becomes of plan and key, so that no new plan gets
/// round it.
fn last_word<'a>(case: &Case<'a>, lacks: &mut Vec<Lack>) -> Option<&'a Heard> {
    let draft = case.plan.draft();
    let of_tenant = case.consents.iter().filter(|heard| {
        let said = heard.statement();
        said.tenant == draft.tenant && said.change == draft.change
    });
    let counts = of_tenant.filter(|heard| {
        if heard.statement().decision != Decision::Approve {
            return true;
        }
        let revoked = case.keys.revoked_at(heard.key());
        if let (true, Some(at)) = (heard.is_about(case.plan), revoked) {
            lacks.push(Lack::KeyRevoked { key: heard.key(), at });
        }
        heard.is_about(case.plan) && revoked.is_none()
    });
    counts.reduce(|last, next| if last.outweighs(next) { last } else { next })
}

/// Two-person approval of what the provider does at a large scale (T15, X.1631 CLD.12.1.5).
fn lacks_approvers(case: &Case<'_>) -> Option<Lack> {
    let (items, above) = (case.plan.provider_items(), case.terms.two_persons_above);
    let plan = case.plan.hash();
    let agreed: BTreeSet<_> = case
        .approvals
        .iter()
        .filter(|approval| approval.plan == plan && approval.by != case.author)
        .map(|approval| approval.by)
        .collect();
    (items > above && agreed.len() < PROVIDER_APPROVERS).then_some(Lack::Approvers {
        items,
        above,
        agreed: agreed.len(),
    })
}
