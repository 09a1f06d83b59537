//! Orders from the control plane: opened with the keys that are pinned, judged, and carried out.
//!
//! ```text
//! Bundle ─► open ─► Carried ─► domain::order::verify ─► Trusted kept ─► execute ─► OrderResult kept
//!              └────────────── Refusal ─────────────────────────────────────────────────┘
//! ```

mod desk;
mod open;
mod record;

pub use desk::{Answer, Desk, OrderError};
pub(crate) use desk::{alone, read_policy};
pub use open::{Opened, open};
pub use record::{Came, Entry};
