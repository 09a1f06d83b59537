//! Delivery: one attempt at a time, and when to try again.

mod excerpt;
mod mail;
mod parcel;
mod retry;
mod roots;
mod secret;
mod signature;
mod smtp;
mod webhook;

use std::time::Duration;

use jiff::Timestamp;

pub use mail::{InvalidMailAddress, MailAddress};
pub use parcel::{Parcel, ParcelError};
pub use reach::{IpNet, Reach, Unreachable};
pub use retry::{Next, Retry};
pub use roots::InvalidRoots;
pub use secret::Secret;
pub use signature::{InvalidSecret, WebhookSecret};
pub use smtp::{Credentials, InvalidSmtp, Mailbox, Smtp, SmtpSettings, SmtpTls};
pub use webhook::Webhook;

/// Whoever takes parcels to one recipient.
///
/// An attempt blocks, for a bounded time. It may arrive although it is said to have failed: what
/// is sent again is the same, under the same id.
pub trait Deliver: Send + Sync {
    /// Tries once.
    ///
    /// # Errors
    /// As [`DeliveryError`], which says whether it is of use to try again.
    fn deliver(&self, parcel: &Parcel, now: Timestamp) -> Result<Receipt, DeliveryError>;
}

/// The other side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What it said, to be recorded.
    pub text: String,
}

/// It was not delivered. The text may be recorded and shown: it holds no secret, no address beyond
/// the host, and of what the other side said one short harmless line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeliveryError {
    /// It may go better later.
    #[error("not delivered yet: {text}")]
    Later {
        /// Why.
        text: String,
        /// How long the other side wants to be left alone.
        after: Option<Duration>,
    },
    /// It will go no better later.
    #[error("cannot be delivered: {text}")]
    Never {
        /// Why.
        text: String,
    },
    /// The recipient wants no more of these (410).
    #[error("the recipient wants no more notices: {text}")]
    Gone {
        /// What it said.
        text: String,
    },
}

impl DeliveryError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Later { .. } => "wait: it is tried again for about three days",
            Self::Never { .. } => "correct the recipient's address or what it accepts, then resend",
            Self::Gone { .. } => "remove the recipient, or ask its owner to register again",
        }
    }

    fn later(text: impl Into<String>) -> Self {
        Self::Later { text: text.into(), after: None }
    }

    fn never(text: impl Into<String>) -> Self {
        Self::Never { text: text.into() }
    }
}
