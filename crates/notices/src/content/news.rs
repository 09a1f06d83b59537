//! What a notice tells, and what it asks.

use domain::change::{Reason, Shortfall, Window};
use domain::cloud::words;
use domain::sla::Silence;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

words! {
    /// The kinds of notices, each with its own templates.
    Kind {
        /// What is planned (ISO/IEC 27017 12.1.2: before the change).
        Planned = "planned",
        /// The same again, because it is near.
        Reminder = "reminder",
        /// Planned at short notice: it is being exploited.
        Emergency = "emergency",
        /// The tenant's answer is overdue.
        Lapsed = "lapsed",
        /// It started (ISO/IEC 27017 12.1.2).
        Started = "started",
        /// It is done and verified (ISO/IEC 27017 12.1.2).
        Completed = "completed",
        /// It does not happen in its window.
        Delayed = "delayed",
        /// It does not happen.
        Cancelled = "cancelled",
        /// It was tried and is not done.
        Failed = "failed",
        /// A system contradicts what it was ordered, or what is said of it.
        Disputed = "disputed",
    }
}

/// What is told, with what only this kind of notice knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum News {
    /// What is planned.
    Planned {
        /// When.
        window: Window,
        /// What is asked.
        ask: Ask,
    },
    /// It is near.
    Reminder {
        /// When.
        window: Window,
        /// What is still asked.
        ask: Ask,
    },
    /// It is urgent.
    Emergency {
        /// When.
        window: Window,
        /// What is asked.
        ask: Ask,
    },
    /// The answer is overdue, and the change waits for it.
    Lapsed {
        /// When it was planned.
        window: Window,
        /// Until when the answer was due.
        answer_by: Timestamp,
    },
    /// It started.
    Started {
        /// Until when it may go on.
        window: Window,
        /// When it did.
        at: Timestamp,
    },
    /// It is done, and a scan showed it.
    Completed {
        /// From when until when it ran.
        ran: Window,
    },
    /// It does not happen as planned.
    Delayed {
        /// When it was planned.
        before: Window,
        /// When it is planned now, where that is known.
        window: Option<Window>,
        /// Why.
        reason: Reason,
        /// What is asked.
        ask: Ask,
    },
    /// It does not happen.
    Cancelled {
        /// When it was planned.
        before: Window,
        /// Why.
        reason: Reason,
    },
    /// It is not done.
    Failed {
        /// When it was tried.
        window: Window,
        /// How it falls short.
        shortfall: Shortfall,
        /// What is known of why.
        reason: Option<Reason>,
    },
    /// A system refused what no honest control plane orders, or a look saw that what its agent says is
    /// not so.
    Disputed {
        /// When it was planned.
        window: Window,
        /// What contradicts what.
        reason: Reason,
    },
}

/// What is asked of the tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case", deny_unknown_fields)]
pub enum Ask {
    /// Nothing: it happens as its contract says.
    Nothing,
    /// Nothing, but it was told ahead so that it can object.
    Told,
    /// An answer in time.
    Answer {
        /// The first instant that is too late.
        by: Timestamp,
        /// What no answer means.
        silence: Silence,
    },
    /// A yes; nothing happens without it, however long it takes.
    Explicit,
}

impl News {
    /// Which kind it is.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Planned { .. } => Kind::Planned,
            Self::Reminder { .. } => Kind::Reminder,
            Self::Emergency { .. } => Kind::Emergency,
            Self::Lapsed { .. } => Kind::Lapsed,
            Self::Started { .. } => Kind::Started,
            Self::Completed { .. } => Kind::Completed,
            Self::Delayed { .. } => Kind::Delayed,
            Self::Cancelled { .. } => Kind::Cancelled,
            Self::Failed { .. } => Kind::Failed,
            Self::Disputed { .. } => Kind::Disputed,
        }
    }

    /// When it happens, or happened; `None` where it does not, or nobody knows when.
    pub const fn window(&self) -> Option<Window> {
        match self {
            Self::Planned { window, .. }
            | Self::Reminder { window, .. }
            | Self::Emergency { window, .. }
            | Self::Lapsed { window, .. }
            | Self::Started { window, .. }
            | Self::Completed { ran: window }
            | Self::Failed { window, .. }
            | Self::Disputed { window, .. } => Some(*window),
            Self::Delayed { window, .. } => *window,
            Self::Cancelled { .. } => None,
        }
    }

    /// When it was planned and does not happen.
    pub const fn before(&self) -> Option<Window> {
        match self {
            Self::Delayed { before, .. } | Self::Cancelled { before, .. } => Some(*before),
            _ => None,
        }
    }

    /// What is asked; `None` where there is nothing left to ask.
    pub const fn ask(&self) -> Option<Ask> {
        match self {
            Self::Planned { ask, .. }
            | Self::Reminder { ask, .. }
            | Self::Emergency { ask, .. }
            | Self::Delayed { ask, .. } => Some(*ask),
            // What lapsed was silence that waits: it goes on only with a yes.
            Self::Lapsed { .. } => Some(Ask::Explicit),
            _ => None,
        }
    }

    /// The same, once the answer is there and it takes place: nothing is left to ask.
    #[must_use]
    pub fn answered(&self) -> Self {
        let ask = Ask::Nothing;
        match self.clone() {
            Self::Planned { window, .. } | Self::Lapsed { window, .. } => {
                Self::Planned { window, ask }
            }
            Self::Reminder { window, .. } => Self::Reminder { window, ask },
            Self::Emergency { window, .. } => Self::Emergency { window, ask },
            Self::Delayed { before, window, reason, .. } => {
                Self::Delayed { before, window, reason, ask }
            }
            other => other,
        }
    }

    /// Why, in somebody's words.
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Delayed { reason, .. }
            | Self::Cancelled { reason, .. }
            | Self::Disputed { reason, .. } => Some(reason),
            Self::Failed { reason, .. } => reason.as_ref(),
            _ => None,
        }
    }

    /// When it started.
    pub const fn started(&self) -> Option<Timestamp> {
        match self {
            Self::Started { at, .. } => Some(*at),
            _ => None,
        }
    }

    /// Until when an answer was due that did not come.
    pub const fn answer_was_due(&self) -> Option<Timestamp> {
        match self {
            Self::Lapsed { answer_by, .. } => Some(*answer_by),
            _ => None,
        }
    }

    /// How it falls short.
    pub const fn shortfall(&self) -> Option<Shortfall> {
        match self {
            Self::Failed { shortfall, .. } => Some(*shortfall),
            _ => None,
        }
    }
}
