//! Takes orders, and sees them through.

use std::fs;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::agent::{AtWork, HandedOrder, ProbeOutcome};
use domain::order::{
    Accepted, Bundle, Ended, ExecutionId, Local, OrderResult, Policy, Refusal, Trusted, Versions,
    verify,
};
use jiff::Timestamp;
use probes::{Probe, Profile};

use super::open::open;
use super::record::Entry;
use crate::execute::{
    ExecuteError, Executor, HostFiles, PackageSystem, Paused, System, TrustedPackages, versions_of,
};
use crate::show::plain;
use crate::state::{Lock, State};

/// How long another process may take that ends, or looks for something to go on with.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How long a look waits for probes that fail at first; each is tried once at the least.
const LOOK_PATIENCE: Duration = Duration::from_secs(60);

/// Most characters told of a probe's name, and of why it failed.
const LONGEST_TOLD: usize = 300;

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
    /// Another process is at it.
    #[error("another process carries out an order, or pins, with the state in `{directory}`")]
    Busy {
        /// Where.
        directory: PathBuf,
    },
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
            Self::Busy { .. } => {
                "wait until it ends; `patchwright agent orders` says what came of it"
            }
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
    /// What the owner declares that must work; there may be no such file.
    pub probes: &'a Path,
    /// Alters what is installed.
    pub packages: &'a dyn PackageSystem,
    /// Knows which packages are their vendor's.
    pub archives: &'a dyn TrustedPackages,
    /// What runs.
    pub system: &'a dyn System,
    /// Files that orders write.
    pub files: &'a HostFiles,
    /// The time.
    pub clock: &'a dyn Fn() -> Timestamp,
}

impl Desk<'_> {
    /// Judges an order and carries it out. What came of it stands in the agent's record afterwards.
    ///
    /// # Errors
    /// If the agent cannot keep its state, or another process is at it.
    pub fn take(&self, handed: &HandedOrder) -> Result<Answer, OrderError> {
        self.take_watched(handed, &|_| {})
    }

    /// The same, and `watch` is told what begins.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn take_watched(
        &self,
        handed: &HandedOrder,
        watch: &dyn Fn(AtWork),
    ) -> Result<Answer, OrderError> {
        let _alone = self.alone()?;
        if let Some(unfinished) = self.go_on()? {
            // What comes first is told first; the order may be shown again.
            return Ok(unfinished);
        }
        let now = (self.clock)();
        let (accepted, next) = match self.judge(&handed.bundle, now)? {
            Ok(accepted) => accepted,
            Err(refusal) => {
                let entry = Entry::refused(handed.order, &refusal, now);
                self.state.enter(&entry).map_err(|error| self.state_error(error))?;
                return Ok(Answer::Refused(refusal));
            }
        };
        // Before anything is done: interrupted here, the order is lost and cannot be shown again.
        self.keep(&next)?;
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(|_| OrderError::Randomness)?;
        let id = ExecutionId::new(now, random);
        let (owner, probes) = (|| read_policy(self.policy), || read_probes(self.probes));
        let executor = self.executor(&owner, &probes, watch);
        self.conclude(executor.begin(&accepted, id)?, &executor)
    }

    /// Goes on with what was interrupted: at the agent's start, and after the system's. `None` where
    /// nothing was.
    ///
    /// # Errors
    /// As [`take`](Self::take).
    pub fn resume(&self) -> Result<Option<Answer>, OrderError> {
        let _alone = self.alone()?;
        self.go_on()
    }

    fn go_on(&self) -> Result<Option<Answer>, OrderError> {
        let (owner, probes) = (|| read_policy(self.policy), || read_probes(self.probes));
        let executor = self.executor(&owner, &probes, &|_| {});
        let Some(paused) = executor.resume()? else { return Ok(None) };
        self.conclude(paused, &executor).map(Some)
    }

    /// Whether an order is to be carried out now. What it says about keys is kept either way.
    fn judge(
        &self,
        bundle: &Bundle,
        now: Timestamp,
    ) -> Result<Result<(Accepted, Trusted), Refusal>, OrderError> {
        let trusted = self.state.trusted().map_err(|error| self.state_error(error))?;
        let Some(trusted) = trusted else {
            let because = "no key is pinned on this host (`patchwright agent pin`)".to_owned();
            return Ok(Err(Refusal::Envelope { because }));
        };
        let opened = match open(bundle, &trusted, now) {
            Ok(opened) => opened,
            Err(refusal) => return Ok(Err(refusal)),
        };
        if opened.trusted != trusted {
            self.keep(&opened.trusted)?;
        }
        let verified = read_policy(self.policy).and_then(|policy| {
            let installed = self.installed()?;
            let own = self.files.own();
            let local = Local { policy: &policy, installed: &installed, own: &own };
            verify(opened.carried, &opened.trusted, &local, now)
        });
        Ok(verified)
    }

    /// Keeps what came of it, and forgets how.
    fn conclude(&self, paused: Paused, executor: &Executor<'_>) -> Result<Answer, OrderError> {
        let Paused::Ended(result) = paused else { return Ok(Answer::Rebooting) };
        if result.ended == Ended::Done
            && let Some(order) = executor.order()?
            && let Some(trusted) = self.state.trusted().map_err(|error| self.state_error(error))?
        {
            self.keep(&trusted.done(&order))?;
        }
        let entered = self.state.enter(&Entry::ended(&result));
        entered.map_err(|error| self.state_error(error))?;
        self.state.keep_result(&result).map_err(|error| self.state_error(error))?;
        executor.forget()?;
        Ok(Answer::Ended(result))
    }

    /// Tries what the owner expects of this host, all of it within [`LOOK_PATIENCE`] or a try of each.
    pub(crate) fn tried(&self) -> Vec<ProbeOutcome> {
        let told = |text: &str| -> String { plain(text).chars().take(LONGEST_TOLD).collect() };
        let outcome = |name: &str, failure: Option<String>| ProbeOutcome {
            name: told(name),
            failure: failure.map(|text| told(&text)),
        };
        let profile = match read_probes(self.probes) {
            Ok(profile) => profile,
            // What cannot be tried does not pass.
            Err(refusal) => return vec![outcome("the probes' file", Some(refusal.to_string()))],
        };
        let mut left = LOOK_PATIENCE.as_millis();
        let mut outcomes = Vec::new();
        for probe in profile.probes() {
            let patience = u64::try_from(left / 1000).unwrap_or(u64::MAX);
            let within_seconds = probe.within_seconds.min(patience);
            let result = self.system.probe(&Probe { within_seconds, ..probe.clone() });
            left = left.saturating_sub(result.took_ms.into());
            outcomes.push(outcome(&result.name, result.failure));
        }
        outcomes
    }

    fn executor<'a>(
        &'a self,
        owner: &'a dyn Fn() -> Result<Policy, Refusal>,
        probes: &'a dyn Fn() -> Result<Profile, Refusal>,
        watch: &'a dyn Fn(AtWork),
    ) -> Executor<'a> {
        Executor {
            directory: self.state.directory().join("orders"),
            packages: self.packages,
            archives: self.archives,
            system: self.system,
            files: self.files,
            probes,
            owner,
            clock: self.clock,
            watch,
        }
    }

    fn installed(&self) -> Result<Versions, Refusal> {
        let found = self.packages.installed();
        let found = found.map_err(|fault| Refusal::NotInOrder { because: fault.to_string() })?;
        Ok(versions_of(self.packages.versions(), &found))
    }

    fn keep(&self, trusted: &Trusted) -> Result<(), OrderError> {
        self.state.keep_trusted(trusted).map_err(|error| self.state_error(error))
    }

    fn alone(&self) -> Result<File, OrderError> {
        alone(self.state)
    }

    fn state_error(&self, source: io::Error) -> OrderError {
        OrderError::State { directory: self.state.directory().to_owned(), source }
    }
}

/// The desk of an agent for this process: whoever has it may alter what the agent goes by.
pub(crate) fn alone(state: &State) -> Result<File, OrderError> {
    let directory = || state.directory().to_owned();
    let lock = state
        .lock(Lock::Desk, LOCK_PATIENCE)
        .map_err(|source| OrderError::State { directory: directory(), source })?;
    lock.ok_or_else(|| OrderError::Busy { directory: directory() })
}

/// The owner's rules; without a file nothing is narrowed, with a wrong one nothing is allowed.
///
/// # Errors
/// [`Refusal::Policy`] if the file cannot be read or is none.
pub(crate) fn read_policy(path: &Path) -> Result<Policy, Refusal> {
    let unusable = |because: String| Refusal::Policy { because };
    match fs::read_to_string(path) {
        Ok(text) => Policy::parse(&text).map_err(|error| unusable(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Policy::default()),
        Err(error) => Err(unusable(error.to_string())),
    }
}

/// The probes that the owner declares; without a file there are none.
fn read_probes(path: &Path) -> Result<Profile, Refusal> {
    let unusable = |because: String| Refusal::Probes { because };
    match fs::read_to_string(path) {
        Ok(text) => Profile::parse(&text).map_err(|error| unusable(error.to_string())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Profile::default()),
        Err(error) => Err(unusable(error.to_string())),
    }
}
