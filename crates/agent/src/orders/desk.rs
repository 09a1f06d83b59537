//! Takes orders, and sees them through.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use domain::order::{
    Bundle, Ended, ExecutionId, Local, OrderResult, Policy, Refusal, Trusted, Versions, verify,
};
use jiff::Timestamp;

use super::open::open;
use crate::execute::{ExecuteError, Executor, PackageSystem, Paused, System, TrustedPackages};
use crate::state::State;

/// What came of an order so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing was altered.
    Refused(Refusal),
    /// It is over; the result is kept in the agent's [`State`] until it is told.
    Ended(Box<OrderResult>),
    /// The system restarts, and [`Desk::resume`] goes on.
    Rebooting,
}

/// Why an order can neither be refused nor carried out.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// Nothing was pinned when the host joined.
    #[error("this agent takes no orders: nothing was pinned for it")]
    NothingPinned,
    /// The agent's state cannot be read or written.
    #[error("cannot use the agent's state in `{directory}`")]
    State {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no randomness.
    #[error("the system gives no randomness")]
    Randomness,
    /// The execution cannot go on.
    #[error(transparent)]
    Execute(#[from] ExecuteError),
}

impl OrderError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::NothingPinned => "pin the provider's and the tenant's keys, see docs/orders.md",
            Self::State { .. } => "check space and permissions there",
            Self::Randomness => "try again",
            Self::Execute(error) => error.help(),
        }
    }
}

/// Where an agent takes orders.
pub struct Desk<'a> {
    /// What the agent keeps.
    pub state: &'a State,
    /// The owner's policy; there may be no such file.
    pub policy: &'a Path,
    /// Alters what is installed.
    pub packages: &'a dyn PackageSystem,
    /// Knows which packages are their vendor's.
    pub archives: &'a dyn TrustedPackages,
    /// What runs.
    pub system: &'a dyn System,
    /// The time.
    pub clock: &'a dyn Fn() -> Timestamp,
}

impl Desk<'_> {
    /// Judges an order and carries it out.
    ///
    /// # Errors
    /// If the agent cannot keep its state, or carries out another one.
    pub fn take(&self, bundle: &Bundle) -> Result<Answer, OrderError> {
        if let Some(unfinished) = self.resume()? {
            // What comes first is told first; the order may be shown again.
            return Ok(unfinished);
        }
        let trusted = self.state.trusted().map_err(|error| self.state_error(error))?;
        let trusted = trusted.ok_or(OrderError::NothingPinned)?;
        let now = (self.clock)();
        let opened = match open(bundle, &trusted, now) {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        if opened.trusted != trusted {
            self.keep(&opened.trusted)?;
        }
        let policy = match self.read_policy() {
            Ok(policy) => policy,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        let installed = match self.installed() {
            Ok(installed) => installed,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        let local = Local { policy: &policy, installed: &installed };
        let (accepted, next) = match verify(opened.carried, &opened.trusted, &local, now) {
            Ok(accepted) => accepted,
            Err(refusal) => return Ok(Answer::Refused(refusal)),
        };
        // Before anything is done: interrupted here, the order is lost and cannot be shown again.
        self.keep(&next)?;
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(|_| OrderError::Randomness)?;
        let id = ExecutionId::new(now, random);
        let paused = self.executor(&policy).begin(&accepted, id)?;
        self.conclude(paused, &policy)
    }

    /// Goes on with what was interrupted: at the agent's start, and after the system's. `None` where
    /// nothing was.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn resume(&self) -> Result<Option<Answer>, OrderError> {
        // What is half done has to end, also where the policy cannot be read any more.
        let policy = self.read_policy().unwrap_or_default();
        let Some(paused) = self.executor(&policy).resume()? else { return Ok(None) };
        self.conclude(paused, &policy).map(Some)
    }

    /// Keeps what came of it, and forgets how.
    fn conclude(&self, paused: Paused, policy: &Policy) -> Result<Answer, OrderError> {
        let Paused::Ended(result) = paused else { return Ok(Answer::Rebooting) };
        let executor = self.executor(policy);
        if result.ended == Ended::Done
            && let Some(order) = executor.order()?
            && let Some(trusted) = self.state.trusted().map_err(|error| self.state_error(error))?
        {
            self.keep(&trusted.done(&order))?;
        }
        self.state.keep_result(&result).map_err(|error| self.state_error(error))?;
        executor.forget()?;
        Ok(Answer::Ended(result))
    }

    fn executor<'a>(&'a self, policy: &'a Policy) -> Executor<'a> {
        Executor {
            directory: self.state.directory().join("orders"),
            packages: self.packages,
            archives: self.archives,
            system: self.system,
            policy,
            clock: self.clock,
        }
    }

    /// The owner's rules; without a file nothing is narrowed, with a wrong one nothing is allowed.
    fn read_policy(&self) -> Result<Policy, Refusal> {
        let unusable = |because: String| Refusal::Policy { because };
        match fs::read_to_string(self.policy) {
            Ok(text) => Policy::parse(&text).map_err(|error| unusable(error.to_string())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Policy::default()),
            Err(error) => Err(unusable(error.to_string())),
        }
    }

    fn installed(&self) -> Result<Versions, Refusal> {
        let found = self.packages.installed();
        let found = found.map_err(|fault| Refusal::NotInOrder { because: fault.to_string() })?;
        let mut versions = Versions::none(self.packages.versions());
        for package in found {
            versions.raise(&package.name, &package.architecture, &package.version);
        }
        Ok(versions)
    }

    fn keep(&self, trusted: &Trusted) -> Result<(), OrderError> {
        self.state.keep_trusted(trusted).map_err(|error| self.state_error(error))
    }

    fn state_error(&self, source: io::Error) -> OrderError {
        OrderError::State { directory: self.state.directory().to_owned(), source }
    }
}
