//! Why something does not happen now: each reason with what it would take.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::Reason;
use crate::cloud::{CiId, Name, TenantId, UserId};

/// An instant as people write it, to the minute: `Sat 2026-11-28 02:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UtcMinute(pub(super) Timestamp);

impl fmt::Display for UtcMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.strftime("%a %Y-%m-%d %H:%MZ"))
    }
}

/// What an item, or the whole release, waits for.
///
/// What is asked is what decides: an item starts if, and only if, there is none of these.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Waiting {
    /// The release is held.
    Held(Hold),
    /// Its wave has not come: an earlier one is at work.
    Wave {
        /// The wave at work.
        wave: u16,
        /// How many of its items are not settled.
        left: u32,
    },
    /// Its wave has not come: an earlier one is watched.
    Soak {
        /// The wave that is watched.
        wave: u16,
        /// Until when.
        until: Timestamp,
    },
    /// The tenant's plan has no permit.
    Consent {
        /// The tenant.
        tenant: TenantId,
        /// When its silence is a yes, if it ever is.
        deemed_at: Option<Timestamp>,
    },
    /// Its window is not open.
    Window {
        /// When it opens.
        opens: Timestamp,
    },
    /// What is left of its window is too short.
    WindowOver {
        /// When the window closes, or closed.
        closes: Timestamp,
    },
    /// What it depends on is not done.
    Dependency {
        /// That.
        on: CiId,
    },
    /// Its hypervisor or host restarts.
    HostAway {
        /// That.
        on: CiId,
    },
    /// Something that runs on it is at work itself.
    ResidentBusy {
        /// That.
        resident: CiId,
    },
    /// VMs have to leave it before it restarts.
    Drain {
        /// How many are left.
        left: u32,
        /// How many there were, with those that came since.
        of: u32,
    },
    /// The rate fuse: so many steps began within an hour.
    Rate {
        /// How many.
        per_hour: u32,
        /// When the next may begin.
        until: Timestamp,
    },
    /// So many items are out as may be at a time.
    Unavailable {
        /// How many are.
        down: u32,
        /// How many may.
        most: u32,
    },
    /// Another zone has items out.
    Zone {
        /// The zone.
        zone: Name,
        /// How many it has out.
        down: u32,
    },
    /// So much of its update domain is out as may be at a time.
    Domain {
        /// The domain.
        domain: Name,
        /// How many are.
        down: u32,
        /// How many may.
        most: u32,
    },
    /// A service can lack no more members.
    Service {
        /// The service.
        service: Name,
        /// How many it lacks.
        down: u32,
        /// How many it has.
        of: u32,
    },
    /// Something that depends on it goes back first.
    Dependent {
        /// That.
        dependent: CiId,
    },
    /// It works on its step, or is verified.
    Report {
        /// Since when nothing was heard.
        since: Timestamp,
    },
    /// It says nothing any more.
    Silence {
        /// Since when.
        since: Timestamp,
    },
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(hold) => write!(f, "held: {hold}"),
            Self::Wave { wave, left } => {
                write!(f, "waiting for wave {wave}: {left} of its items are not settled")
            }
            Self::Soak { wave, until } => {
                write!(f, "waiting for wave {wave} to soak until {}", UtcMinute(*until))
            }
            Self::Consent { tenant, deemed_at: None } => {
                write!(f, "waiting for consent of {tenant}")
            }
            Self::Consent { tenant, deemed_at: Some(at) } => {
                write!(f, "waiting for consent of {tenant}, deemed at {}", UtcMinute(*at))
            }
            Self::Window { opens } => {
                write!(f, "waiting for the window, which opens {}", UtcMinute(*opens))
            }
            Self::WindowOver { closes } => {
                write!(f, "too late for the window, which closes {}", UtcMinute(*closes))
            }
            Self::Dependency { on } => write!(f, "waiting for {on}, which it depends on"),
            Self::HostAway { on } => write!(f, "waiting for {on}, which it runs on, to restart"),
            Self::ResidentBusy { resident } => {
                write!(f, "waiting for {resident}, which runs on it and is at work")
            }
            Self::Drain { left, of } => {
                write!(f, "waiting to be emptied: {left} of {of} still run on it")
            }
            Self::Rate { per_hour, until } => write!(
                f,
                "waiting for the rate fuse until {}: {per_hour} began within an hour",
                UtcMinute(*until)
            ),
            Self::Unavailable { down, most } => {
                write!(f, "waiting for others: {down} of {most} that may be out are")
            }
            Self::Zone { zone, down } => {
                write!(f, "waiting for zone {zone}: {down} of its items are out")
            }
            Self::Domain { domain, down, most } => {
                write!(
                    f,
                    "waiting for update domain {domain}: {down} of {most} that may be out are"
                )
            }
            Self::Service { service, down, of } => {
                write!(f, "waiting for service {service}: {down} of {of} down already")
            }
            Self::Dependent { dependent } => {
                write!(f, "waiting for {dependent}, which depends on it, to go back first")
            }
            Self::Report { since } => {
                write!(f, "waiting for its report since {}", UtcMinute(*since))
            }
            Self::Silence { since } => write!(f, "silent since {}", UtcMinute(*since)),
        }
    }
}

/// Why a release is held.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Hold {
    /// More items of a wave failed than its gate lets pass.
    Failed {
        /// How many.
        failed: u32,
        /// Of how many.
        of: u32,
        /// The wave.
        wave: u16,
    },
    /// More items of a wave are silent than its gate lets pass.
    Silent {
        /// How many.
        silent: u32,
        /// Of how many.
        of: u32,
        /// The wave.
        wave: u16,
    },
    /// An item says that it is done, and a scan sees that it is not: one of the two is wrong.
    Conflict {
        /// The item.
        item: CiId,
    },
    /// Somebody holds it.
    Operator {
        /// Who.
        user: UserId,
        /// Why.
        reason: Reason,
    },
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed { failed, of, wave } => {
                write!(f, "{failed} of {of} failed in wave {wave}")
            }
            Self::Silent { silent, of, wave } => {
                write!(f, "{silent} of {of} are silent in wave {wave}")
            }
            Self::Conflict { item } => {
                write!(f, "{item} says that it is done, and a scan sees that it is not")
            }
            Self::Operator { user, reason } => write!(f, "by {user}: {reason}"),
        }
    }
}

impl Waiting {
    /// What can be done about it.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Held(_) => "look at what failed, then resume, roll back or abort",
            Self::Consent { .. } => "ask the tenant, or set its items aside",
            Self::WindowOver { .. } => "plan again with a later window",
            Self::Drain { .. } => "see what keeps the VMs from moving",
            Self::Zone { .. } | Self::Silence { .. } => {
                "repair what is out, or set it aside so that others need not wait for it"
            }
            _ => "wait",
        }
    }

    /// When it passes by itself; `None` where something has to happen.
    pub const fn passes_at(&self) -> Option<Timestamp> {
        match self {
            Self::Soak { until: at, .. }
            | Self::Window { opens: at }
            | Self::Rate { until: at, .. } => Some(*at),
            _ => None,
        }
    }
}
