//! What an agent does again and again: goes on with what it began, tells what came of it, looks, reports,
//! and takes orders.
//!
//! ```text
//! resume ─► results that are not told yet ─► look ─► report ─► orders? ─► take ─► answer
//!    │                                        ▲                            │
//!    └─► the system restarts                  └──────── something ended ───┘
//! ```

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::Duration;

use domain::agent::{AtWork, HandedOrder, Need, OrderAnswer, OrderProgress, Report};
use domain::change::Payload as _;
use domain::order::OrderResult;

use crate::client::AgentError;
use crate::configuration::{Eyes, Look};
use crate::look::look;
use crate::orders::{Answer, Desk};
use crate::plane::ControlPlane;
use crate::show::plain;

/// Most orders that are looked at in one round. Refusing one costs whoever sends it nothing.
const MOST_REFUSED: usize = 32;
/// Most reports of one round: after each order that ended, one.
const MOST_REPORTS: usize = 32;

/// One round of an agent.
pub struct Round<'a> {
    /// Where it takes orders.
    pub desk: &'a Desk<'a>,
    /// The system that it looks at and alters.
    pub root: &'a Path,
    /// What it sees of configuration files; nothing is told of them without.
    pub eyes: Option<&'a RefCell<Eyes>>,
}

/// What follows a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Another one, after so long.
    Wait(Duration),
    /// The system restarts: nothing until then.
    Rebooting,
}

/// How orders were taken.
enum Taken {
    /// One is over: the host may be another one now.
    Ended,
    /// There are none for now.
    None,
    /// The system restarts.
    Rebooting,
}

impl Round<'_> {
    /// Goes around once. What was begun ends also where no control plane is reached: `connect` is asked
    /// after that.
    ///
    /// # Errors
    /// Whatever goes wrong first. What is not told yet is kept, and told in the next round.
    pub fn go<P: ControlPlane>(
        &self,
        connect: impl FnOnce() -> Result<P, AgentError>,
    ) -> Result<Next, AgentError> {
        let resumed = self.desk.resume();
        if let Ok(Some(Answer::Rebooting)) = resumed {
            return Ok(Next::Rebooting);
        }
        let plane = connect()?;
        for _ in 1..MOST_REPORTS {
            self.tell(&plane)?;
            let (wait, has_orders) = self.report(&plane)?;
            // Reported all the same: what hinders orders hinders nothing else.
            if let Err(error) = resumed {
                return Err(error.into());
            }
            if !has_orders {
                return Ok(Next::Wait(wait));
            }
            match self.take(&plane)? {
                Taken::Ended => {}
                Taken::None => return Ok(Next::Wait(wait)),
                Taken::Rebooting => return Ok(Next::Rebooting),
            }
        }
        self.tell(&plane)?;
        self.report(&plane).map(|(wait, _)| Next::Wait(wait))
    }

    /// Tells results that the control plane does not have yet, the oldest first, and drops them then.
    fn tell(&self, plane: &impl ControlPlane) -> Result<(), AgentError> {
        let kept = |source| AgentError::state(self.desk.state, source);
        for result in self.desk.state.results().map_err(kept)? {
            match again(|| plane.answer(&self.signed(&result)?)) {
                Ok(()) => self.desk.state.drop_result(result.execution).map_err(kept)?,
                // Somebody has to look at it there; meanwhile this host is to be heard of.
                Err(error @ AgentError::Refused { .. }) => {
                    eprintln!("warning: the result {} is kept: {error}", result.execution);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What came of an order, signed. It was handed by its nonce, which the result names.
    fn signed(&self, result: &OrderResult) -> Result<OrderAnswer, AgentError> {
        let attestor = self.desk.state.attestor();
        let attestor = attestor.map_err(|source| AgentError::state(self.desk.state, source))?;
        let unsigned = |reason: String| AgentError::Unsigned { reason };
        let envelope =
            attestor.sign(&result.to_payload()).map_err(|error| unsigned(error.to_string()))?;
        let envelope = serde_json::to_string(&envelope).map_err(|it| unsigned(it.to_string()))?;
        Ok(OrderAnswer::Ended { order: result.order, envelope })
    }

    /// Looks and reports; how long to wait then, and whether there are orders.
    fn report(&self, plane: &impl ControlPlane) -> Result<(Duration, bool), AgentError> {
        let state = self.desk.state;
        let (set, mut facts) = look(self.root)?;
        if facts.runtime.is_some() {
            facts.probes = self.desk.tried();
        }
        let seen = self.eyes.map(|eyes| eyes.borrow_mut().look((self.desk.clock)()));
        let report = Report {
            counter: state.count().map_err(|source| AgentError::state(state, source))?,
            package_set: set.digest(),
            facts: facts.digest(),
            files: seen.as_ref().map(Look::digest),
            observed_at: (self.desk.clock)(),
        };
        let answer = plane.report(&report, &set, &facts)?;
        let is_told = match (self.eyes, &seen) {
            (Some(eyes), Some(seen)) if answer.need.contains(&Need::Files) => {
                let told = seen.tell(&mut eyes.borrow_mut(), state, plane, report.observed_at);
                told.unwrap_or_else(|error| {
                    // The next report asks again.
                    eprintln!("warning: files are not told: {error}\nhelp: {}", error.help());
                    false
                })
            }
            _ => true,
        };
        if let (true, Some(eyes), Some(seen)) = (is_told, self.eyes, &seen) {
            eyes.borrow_mut().forget(seen);
        }
        let wait = Duration::from_secs(answer.interval.into());
        Ok((wait, answer.need.contains(&Need::Orders)))
    }

    /// Takes orders until one is over: what follows is looked at on a host that may have changed.
    fn take(&self, plane: &impl ControlPlane) -> Result<Taken, AgentError> {
        let mut refused = None;
        for _ in 0..MOST_REFUSED {
            let Some(handed) = again(|| plane.next_order())? else { return Ok(Taken::None) };
            // The same again, although it was answered: the next round is early enough.
            if refused == Some(handed.order) {
                return Ok(Taken::None);
            }
            // Whoever watches is told as long as they hear of it: the work is not held up twice.
            let is_heard = Cell::new(true);
            let watch = |at: AtWork| {
                if is_heard.get() {
                    is_heard.set(plane.progress(OrderProgress { order: handed.order, at }).is_ok());
                }
            };
            match self.desk.take_watched(&handed, &watch)? {
                Answer::Ended(_) => return Ok(Taken::Ended),
                Answer::Rebooting => return Ok(Taken::Rebooting),
                Answer::Refused(refusal) => {
                    let HandedOrder { order, .. } = handed;
                    let said = plain(&refusal.to_string());
                    eprintln!("refused an order: {said}\nhelp: {}", refusal.help());
                    let answer = OrderAnswer::Refused { order, refusal: Box::new(refusal) };
                    match again(|| plane.answer(&answer)) {
                        // It stands in the agent's record.
                        Err(error @ AgentError::Refused { .. }) => eprintln!("warning: {error}"),
                        told => told?,
                    }
                    refused = Some(order);
                }
            }
        }
        Ok(Taken::None)
    }
}

/// Asks once more where the answer was lost, perhaps: the same again has the same effect.
pub(crate) fn again<T>(ask: impl Fn() -> Result<T, AgentError>) -> Result<T, AgentError> {
    match ask() {
        Err(AgentError::Unreachable { .. }) => ask(),
        answer => answer,
    }
}
