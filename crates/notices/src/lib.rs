//! Tells tenants of changes, and keeps at it until they were told.
//!
//! A [`Notice`] is data: what is planned, starts, is done or fails, with the tenant's affected items
//! and the measured impact (ISO/IEC 27017 12.1.2). Everything else follows from it:
//!
//! ```text
//!            ┌─► Templates ─► Message: subject, text, HTML ─┐
//!  Notice ───┼─► CloudEvent: for programs ──────────────────┼─► Parcel ─► Deliver ─► Receipt
//!            │                                              │     ▲          │ Mailbox, Webhook
//!            └─► Feed: calendar, Atom                       │     └─ Retry ◄─┘ DeliveryError
//!                  └────────────────────────────────────────┘
//! ```
//!
//! No clock and no chance is in it: both come from the caller. An attempt to deliver is one call that
//! blocks; when to make the next is said by [`Retry`](delivery::Retry), a pure function. What is sent
//! again has the same id and the same content.
//!
//! ```
//! use notices::content::Kind;
//! use notices::sample::{Fullness, sample};
//! use notices::{Feed, Templates};
//!
//! let templates = Templates::english();
//! let notice = sample(Kind::Planned, Fullness::Full);
//!
//! let message = templates.message("en", &notice)?;
//! assert!(message.subject.as_str().starts_with("Answer by 9 March, 10:00 CET: openssl"));
//!
//! let draft = notice.draft();
//! let notices = [notice.clone()];
//! let feed = Feed::new(&draft.tenant, &draft.link_base, &notices)?;
//! assert!(feed.calendar(&templates, "en")?.contains("\r\nDTSTART:20260310T220000Z\r\n"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod content;
pub mod delivery;
mod event;
mod feed;
mod message;
pub mod sample;

pub use content::Notice;
pub use delivery::{Deliver, DeliveryError, Parcel, Receipt};
pub use event::{CloudEvent, LARGEST_EVENT};
pub use feed::{Course, Feed, Standing, Stranger};
pub use message::{DigestError, ENGLISH, MOST_IN_DIGEST, Message, TemplateError, Templates};
