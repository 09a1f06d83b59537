//! Trying an image: a machine is made from it, must come up and go down, and is looked at.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use lab::BaseImage;
use serde::{Deserialize, Serialize};

use crate::boot_record;
use crate::clock::Clock;
use crate::console::{Halt, Transcript};
use crate::driver::{Cause, Driver, DriverError, Machine, State};
use crate::limits::Limits;
use crate::observer::{Observer, Step};

/// The button is pressed again after so long: a system that has just come up may not have been
/// listening yet, and a press is not remembered for it.
const AGAIN: Duration = Duration::from_secs(15);

/// Under which conditions an image is tried.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// What it may take.
    pub limits: &'a Limits,
    /// Who watches.
    pub observer: &'a dyn Observer,
    /// Which time counts.
    pub clock: &'a dyn Clock,
}

/// By what a machine was found to be up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Its console asked who logs in.
    LoginPrompt,
    /// Its console kept silent, but it switched itself off when its power button was pressed:
    /// only a system that runs does that.
    PowerButton,
}

/// Who told a kernel's release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KernelSource {
    /// The kernel, on the console.
    Console,
    /// The system, in the record of its start on its disk (`/var/log/wtmp`).
    BootRecord,
}

/// The kernel that ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// As `uname -r` has it.
    pub release: String,
    /// Who told.
    pub told_by: KernelSource,
}

/// What was seen of a machine that came up and went down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What the machine was called.
    pub machine: String,
    /// How it is known that it was up.
    pub evidence: Evidence,
    /// The kernel that ran, if anybody told.
    pub kernel: Option<Kernel>,
    /// From running until the login prompt, if there was one.
    pub to_login: Option<Duration>,
    /// From the power button until it was off.
    pub to_off: Duration,
    /// The end of what its console printed.
    pub console: String,
}

/// A trial that an image passed.
#[derive(Debug)]
pub struct Outcome<T> {
    /// What was seen.
    pub seen: Seen,
    /// What reading the disk gave.
    pub scanned: T,
    /// Why the machine could not be deleted afterwards; a sweep will find it.
    pub left_behind: Option<Box<DriverError>>,
}

/// Why an image did not pass, with the end of what its console printed.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct TrialError {
    /// What happened.
    #[source]
    pub reason: Reason,
    /// What the machine was called, if there was one.
    pub machine: Option<String>,
    /// The end of what its console printed.
    pub console: String,
    /// Why the machine could not be deleted afterwards; a sweep will find it.
    pub left_behind: Option<Box<DriverError>>,
}

/// What happened in place of coming up and going down.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// There was no login prompt in time, and the system was heard or ignored its power button.
    #[error("the machine did not come up within {} s", limit.as_secs())]
    NeverCameUp {
        /// The limit.
        limit: Duration,
    },
    /// It waits for a person.
    #[error("the machine stopped {}", halt.place())]
    Halted {
        /// Where.
        halt: Halt,
    },
    /// The kernel gave up.
    #[error("{message}")]
    Panicked {
        /// Its last words.
        message: String,
    },
    /// It went down before it was told to, or otherwise than it was told to.
    #[error("the machine went down by itself during `{step}`: {cause}")]
    WentDown {
        /// What it was to do.
        step: Step,
        /// How.
        cause: Cause,
    },
    /// It was up and ignored its power button.
    #[error("the machine was up but did not switch itself off within {} s of its power button", limit.as_secs())]
    DidNotPowerOff {
        /// The limit.
        limit: Duration,
    },
    /// The place ended it or could not run it.
    #[error("the machine was lost during `{step}`: {reason}")]
    Lost {
        /// What it was to do.
        step: Step,
        /// In the place's words.
        reason: String,
    },
    /// The place did not get it to run in time.
    #[error("the machine did not run within {} s of being asked for", limit.as_secs())]
    NeverRan {
        /// The limit.
        limit: Duration,
    },
    /// Nobody wants it any more.
    #[error("it was called off during `{step}`")]
    CalledOff {
        /// What the machine was to do.
        step: Step,
    },
    /// The place did not do what it was asked.
    #[error("`{step}` failed: {error}")]
    Driver {
        /// What it was to do.
        step: Step,
        /// What it said.
        #[source]
        error: Box<DriverError>,
    },
}

impl TrialError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        self.reason.help()
    }
}

/// Whom a failed trial speaks against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The image: another trial would fail as well.
    Image,
    /// The place where it was tried: nothing is known of the image.
    Place,
}

impl Reason {
    /// Whom it speaks against.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NeverCameUp { .. }
            | Self::Halted { .. }
            | Self::Panicked { .. }
            | Self::WentDown { .. }
            | Self::DidNotPowerOff { .. } => Fault::Image,
            Self::Lost { .. }
            | Self::NeverRan { .. }
            | Self::CalledOff { .. }
            | Self::Driver { .. } => Fault::Place,
        }
    }

    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NeverCameUp { .. } => Some(
                "look at the console; where the image is only slow here, give it more time or KVM; a getty on ttyS0 shows that it is up",
            ),
            Self::Halted { halt: Halt::Firmware } => Some(
                "does the image have a boot loader for its firmware? docs/drivers.md says how that is chosen",
            ),
            Self::Halted { .. } | Self::Panicked { .. } | Self::WentDown { .. } => {
                Some("the end of the console says more")
            }
            Self::DidNotPowerOff { .. } => {
                Some("systemd-logind heeds the power button; is it installed and running?")
            }
            Self::Lost { .. } | Self::NeverRan { .. } | Self::CalledOff { .. } => None,
            Self::Driver { error, .. } => error.help(),
        }
    }
}

/// Makes a machine from an image, waits until it is up, switches it off by its power button, gives
/// its disk to `scan`, and deletes it, whatever happened.
pub fn trial<T>(
    driver: &dyn Driver,
    image: &BaseImage,
    conditions: &Conditions<'_>,
    scan: impl FnOnce(&Path) -> T,
) -> Result<Outcome<T>, TrialError> {
    let began = conditions.clock.now();
    conditions.observer.step(Step::Create, Duration::ZERO);
    let machine = driver.create(image, conditions.limits).map_err(|error| TrialError {
        reason: failed(Step::Create)(error),
        machine: None,
        console: String::new(),
        left_behind: None,
    })?;
    let name = machine.name().to_owned();
    let mut attempt = Attempt {
        machine: Kept(machine),
        transcript: Transcript::default(),
        conditions,
        pace: driver.pace(),
        began,
    };
    let result = attempt.run(image, scan);
    attempt.begin(Step::Delete);
    let left_behind = attempt.machine.0.delete().err().map(Box::new);
    let console = attempt.transcript.tail();
    match result {
        Ok((witnessed, kernel, scanned)) => {
            let Witnessed { evidence, to_login, to_off } = witnessed;
            let seen = Seen { machine: name, evidence, kernel, to_login, to_off, console };
            Ok(Outcome { seen, scanned, left_behind })
        }
        Err(reason) => Err(TrialError { reason, machine: Some(name), console, left_behind }),
    }
}

fn failed(step: Step) -> impl Fn(DriverError) -> Reason {
    move |error| Reason::Driver { step, error: Box::new(error) }
}

/// A machine that is deleted also where the scan panics.
#[derive(Debug)]
struct Kept(Box<dyn Machine>);

impl Drop for Kept {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let _ = self.0.delete();
        }
    }
}

struct Attempt<'a> {
    machine: Kept,
    transcript: Transcript,
    conditions: &'a Conditions<'a>,
    pace: Duration,
    began: Duration,
}

struct Witnessed {
    evidence: Evidence,
    to_login: Option<Duration>,
    to_off: Duration,
}

impl Attempt<'_> {
    fn run<T>(
        &mut self,
        image: &BaseImage,
        scan: impl FnOnce(&Path) -> T,
    ) -> Result<(Witnessed, Option<Kernel>, T), Reason> {
        let running_since = self.start()?;
        self.begin(Step::Boot);
        let to_login = self.come_up(running_since)?;
        self.begin(Step::PowerOff);
        let evidence = to_login.map_or(Evidence::PowerButton, |_| Evidence::LoginPrompt);
        let to_off = self.go_down(evidence)?;
        self.begin(Step::HandOver);
        let disk = self.machine.0.disk().map_err(failed(Step::HandOver))?;
        self.begin(Step::Scan);
        let kernel = self.kernel(image, &disk);
        let scanned = scan(&disk);
        Ok((Witnessed { evidence, to_login, to_off }, kernel, scanned))
    }

    /// Until its place has it running; since when.
    fn start(&mut self) -> Result<Duration, Reason> {
        let limit = self.conditions.limits.create;
        loop {
            if self.look(Step::Create)? != State::Starting {
                return Ok(self.now());
            }
            if self.now().saturating_sub(self.began) > limit {
                return Err(Reason::NeverRan { limit });
            }
            self.pause();
        }
    }

    /// Until the login prompt, and how long that took; `None` where nothing of the system was
    /// heard, so that only the power button can tell.
    fn come_up(&mut self, since: Duration) -> Result<Option<Duration>, Reason> {
        let limit = self.conditions.limits.boot;
        loop {
            let state = self.look(Step::Boot)?;
            if self.transcript.asks_for_login() {
                return Ok(Some(self.now().saturating_sub(since)));
            }
            if let Some(halt) = self.transcript.halt() {
                return Err(Reason::Halted { halt });
            }
            if let State::Off(cause) = state {
                return Err(Reason::WentDown { step: Step::Boot, cause });
            }
            if self.now().saturating_sub(since) > limit {
                let silent = !self.transcript.system_spoke();
                return if silent { Ok(None) } else { Err(Reason::NeverCameUp { limit }) };
            }
            self.pause();
        }
    }

    /// Until it is off, and how long that took.
    fn go_down(&mut self, evidence: Evidence) -> Result<Duration, Reason> {
        let limits = self.conditions.limits;
        let began = self.now();
        let mut pressed_at = None;
        loop {
            match self.look(Step::PowerOff)? {
                State::Off(Cause::PoweredOff | Cause::Untold) if pressed_at.is_some() => {
                    return Ok(self.now().saturating_sub(began));
                }
                State::Off(cause) => return Err(Reason::WentDown { step: Step::PowerOff, cause }),
                _ => {}
            }
            if self.now().saturating_sub(began) > limits.shutdown {
                return Err(match evidence {
                    Evidence::LoginPrompt => Reason::DidNotPowerOff { limit: limits.shutdown },
                    Evidence::PowerButton => Reason::NeverCameUp { limit: limits.boot },
                });
            }
            if pressed_at.is_none_or(|at| self.now() >= at + AGAIN) {
                let pressed = self.machine.0.press_power_button();
                pressed.map_err(failed(Step::PowerOff))?;
                pressed_at = Some(self.now());
            }
            self.pause();
        }
    }

    /// What its place and its console say by now.
    fn look(&mut self, step: Step) -> Result<State, Reason> {
        if self.conditions.observer.is_called_off() {
            return Err(Reason::CalledOff { step });
        }
        let state = self.machine.0.state().map_err(failed(step))?;
        // After the state: what a machine that is gone printed last is still heard.
        loop {
            let piece = self.machine.0.read_console().map_err(failed(step))?;
            self.transcript.hear(&piece);
            if !piece.is_empty() {
                self.conditions.observer.console(&piece);
            }
            // Of one that runs, the rest is heard next time: it may print without end.
            if piece.is_empty() || !matches!(state, State::Off(_) | State::Failed { .. }) {
                break;
            }
        }
        if let Some(message) = self.transcript.panic() {
            return Err(Reason::Panicked { message: message.to_owned() });
        }
        match state {
            State::Failed { reason } => Err(Reason::Lost { step, reason }),
            state => Ok(state),
        }
    }

    fn kernel(&self, image: &BaseImage, disk: &Path) -> Option<Kernel> {
        let told = |release: String, told_by| Kernel { release, told_by };
        let heard = self.transcript.kernel().map(str::to_owned);
        heard.map(|release| told(release, KernelSource::Console)).or_else(|| {
            boot_record::new_kernel(image.path(), disk)
                .map(|release| told(release, KernelSource::BootRecord))
        })
    }

    fn begin(&self, step: Step) {
        self.conditions.observer.step(step, self.now().saturating_sub(self.began));
    }

    fn now(&self) -> Duration {
        self.conditions.clock.now()
    }

    fn pause(&self) {
        self.conditions.clock.wait(self.pace);
    }
}

impl fmt::Display for Evidence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::LoginPrompt => "a login prompt",
            Self::PowerButton => "its power button",
        })
    }
}
