//! Orders from the control plane: opened with the keys that are pinned, judged, and carried out.
//!
//! ```text
//! Bundle ─► open ─► Carried ─► domain::order::verify ─► Trusted kept ─► execute ─► OrderResult kept
//!              └────────────── Refusal ─────────────────────────────────────────────────┘
//! ```

mod desk;
mod open;

pub use desk::{Answer, Desk, OrderError};
pub use open::{Opened, open};
