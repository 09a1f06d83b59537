//! The SLA between provider and tenant, as rules that a machine keeps.

mod approval;

pub use approval::{Approval, Silence};
