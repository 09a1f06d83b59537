//! What an agent asks of its control plane.

use domain::agent::{
    Facts, FilesSent, HandedOrder, OrderAnswer, OrderProgress, PinsOffered, PinsRequest, Report,
    ReportAnswer,
};
use domain::fleet::PackageSet;

use crate::client::AgentError;

/// The control plane, as an agent sees it (`domain::agent`).
///
/// All of it may be asked again: what was asked once has the same effect twice.
pub trait ControlPlane {
    /// Reports, and sends what the control plane does not have of the package set and the facts.
    ///
    /// # Errors
    /// If it cannot be reached, or refuses.
    fn report(
        &self,
        report: &Report,
        set: &PackageSet,
        facts: &Facts,
    ) -> Result<ReportAnswer, AgentError>;

    /// Tells files that it does not have.
    ///
    /// # Errors
    /// As [`report`](Self::report); refused with 409 where it follows on what the control plane does not have.
    fn files(&self, sent: &FilesSent) -> Result<(), AgentError>;

    /// What it would have the agent go by.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    fn pins(&self, request: &PinsRequest) -> Result<PinsOffered, AgentError>;

    /// The next order; `None` where there is none.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    fn next_order(&self) -> Result<Option<HandedOrder>, AgentError>;

    /// Tells how far it is with an order. The work waits meanwhile, so it takes two seconds at most.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    fn progress(&self, progress: OrderProgress) -> Result<(), AgentError>;

    /// Tells what came of an order.
    ///
    /// # Errors
    /// As [`report`](Self::report).
    fn answer(&self, answer: &OrderAnswer) -> Result<(), AgentError>;
}
