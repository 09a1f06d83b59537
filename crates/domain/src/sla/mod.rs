//! The SLA between provider and tenant, as rules that a machine keeps (X.1642 8.7.2; R21, R22,
//! R36, R37).
//!
//! ```text
//! Policy (TOML) ─┐
//! Facts ─────────┼─► due_dates ─► DueDates (earliest wins, all are kept)
//! Instants ──────┘                   │
//!   what happened, when              ▼
//!                                  Case ─► dates        what a change needs
//!                                       ─► clock        who holds the ball, until when, next wake
//!                                       ─► attribution  whose time it was, to the last instant
//! ```
//!
//! Nothing here reads a clock, or the host's time zones: the same records give the same answers
//! everywhere and for ever. A deadline is the first instant that is too late.
//!
//! ```
//! use domain::priority::Priority;
//! use domain::sla::{Policy, Wait};
//!
//! let policy = Policy::builtin("x1642-default")?;
//! assert_eq!(policy.terms(Priority::Critical).deadline, Wait::days(3));
//!
//! let negotiated = policy.negotiate(
//!     r#"
//!     version = "acme-1"
//!     [calendar]
//!     zone = "Europe/Berlin"
//!     [medium]
//!     deferrals = { count = 0 }
//!     "#,
//! )?;
//! assert_eq!(negotiated.terms(Priority::Medium).deferrals.count, 0);
//!
//! let refused = policy.negotiate("version = \"acme-2\"\nhigh.test = \"4d\"").unwrap_err();
//! assert!(refused.to_string().contains("15d, longer than the deadline of 14d"));
//! # Ok::<(), domain::sla::PolicyError>(())
//! ```

mod approval;
mod calendar;
mod clock;
mod dates;
mod diff;
mod due;
mod error;
mod governing;
mod instants;
mod lint;
mod notices;
mod policy;
mod read;
mod regulation;
mod simulate;
mod steady;
mod terms;
mod timeline;
mod wait;

#[cfg(test)]
mod tests;

pub use approval::{Approval, Silence};
pub use calendar::{Calendar, DayOfWeek, Freeze, Zone};
pub use clock::{Breach, ClockView, Rung, State};
pub use dates::{Dates, Deferral, NotDeferred};
pub use diff::{Difference, diff};
pub use due::{DueDate, DueDates, Facts, Goal};
pub use error::{Place, PolicyError};
pub use governing::{InForce, governing};
pub use instants::{Instants, Moment, NotRecorded, Record};
pub use lint::{Leg, WorstPath};
pub use notices::{EmergencyDates, Errand, NoticeDates, Owed};
pub use policy::{DRIFT_HOURS, Document, Exclusion, PRIORITIES, Policy, SCHEMA};
pub use regulation::{Regulation, Unmet};
pub use simulate::{History, Judged, Tally, Verdict, simulate, tally};
pub use steady::{Jump, Reading, Steady, TOLERANCE};
pub use terms::{Asked, Deferrals, Emergency, Notice, Path, Terms};
pub use timeline::{Case, Cause, Interruption, Party, Span, Stage};
pub use wait::{NoWait, Wait};
