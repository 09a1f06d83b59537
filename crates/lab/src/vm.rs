//! A copy of an image that runs: booted, asked, restarted, each within its time.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use guest::{GeneraliseRequest, Generalised, Hello, InstallRequest, Installed, Message, PROTOCOL};
use guest::{PictureRequest, RawPicture, Request, Settled};
use jiff::Timestamp;

use crate::accelerator::Accelerator;
use crate::boot::{self, BootError, BootFiles, Start};
use crate::firmware::FirmwareError;
use crate::image::{BaseImage, Format, ImageError};
use crate::limits::Limits;
use crate::machine::{self, Access, Boot, Disk, Event, Hardware, Machine, MachineError, Shutdown};
use crate::observer::Observer;
use crate::packages::{self, PackageError, PackageFile, PackageSet};
use crate::work::{JobDirectory, WorkArea, WorkError};

/// The guest needs so much longer than the limit it was given, at most, to say so.
const GRACE: Duration = Duration::from_secs(30);

/// Why the lab itself could not do its work. Says nothing about a patch.
#[derive(Debug, thiserror::Error)]
pub enum VmError {
    /// There is no place to work.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// QEMU could not be started or went away.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// It cannot be told how the image boots.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// There is no firmware for the image.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// The guest did not do what it was asked.
    #[error(transparent)]
    Guest(#[from] Misstep),
}

impl VmError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Work(error) => error.help(),
            Self::Image(error) => error.help(),
            Self::Machine(error) => error.help(),
            Self::Boot(error) => error.help(),
            Self::Firmware(error) => error.help(),
            Self::Guest(error) => error.help(),
        }
    }
}

/// How often a job is asked whether anybody still wants it.
const LOOK: Duration = Duration::from_millis(500);

/// What a guest did instead of what it was asked. After a patch, this is the patch's doing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(tag = "misstep", rename_all = "kebab-case")]
pub enum Misstep {
    /// It did not answer in time.
    #[error("no answer to `{step}` within {seconds} s")]
    TimedOut {
        /// What it was to do.
        step: String,
        /// The limit.
        seconds: u64,
    },
    /// systemd did not finish starting up.
    #[error("the start was not finished within {seconds} s; still waiting: {jobs}")]
    NeverSettled {
        /// The limit.
        seconds: u64,
        /// Jobs that were left, as systemd lists them.
        jobs: String,
    },
    /// It went down or restarted by itself.
    #[error("the guest went down during `{step}` ({how})")]
    WentDown {
        /// What it was to do.
        step: String,
        /// In QEMU's words: `reset`, `power off`, `panic`.
        how: String,
    },
    /// It wrote more than the limit.
    #[error("the guest wrote more than {limit} bytes to its disk")]
    DiskLimit {
        /// The limit.
        limit: u64,
    },
    /// Its disk could not be written, for another reason.
    #[error("the guest's disk failed: {reason}")]
    DiskFailed {
        /// What QEMU said.
        reason: String,
    },
    /// It said what nobody asked.
    #[error("the guest's answer to `{step}` is not understood: {reason}")]
    Nonsense {
        /// What it was to do.
        step: String,
        /// What is wrong.
        reason: String,
    },
    /// It could not do it.
    #[error("the guest could not `{step}`: {reason}")]
    Failed {
        /// What it was to do.
        step: String,
        /// Why not.
        reason: String,
    },
    /// Nobody wants the job any more.
    #[error("called off during `{step}`")]
    CalledOff {
        /// What the guest was to do.
        step: String,
    },
    /// QEMU itself ended.
    #[error("QEMU ended during `{step}`: {status}")]
    MachineLost {
        /// What the guest was to do.
        step: String,
        /// Its exit status.
        status: String,
    },
}

impl Misstep {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::TimedOut { .. } | Self::NeverSettled { .. } => Some(
                "look at the serial log; where the image is only slow here, give it more time or KVM",
            ),
            Self::DiskLimit { .. } => Some("raise the lab's disk limit if the image needs it"),
            _ => None,
        }
    }
}

/// What boots: a copy-on-write copy of an image in a directory of its own.
#[derive(Debug)]
pub struct Vm {
    machine: Option<Machine>,
    overlay: PathBuf,
    base: BaseImage,
    packages: Option<PathBuf>,
    accelerator: Accelerator,
    limits: Limits,
    observer: Arc<dyn Observer>,
    /// Removed last: the machine must be gone before.
    job: JobDirectory,
}

/// A boot that came up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booted {
    /// The guest's first words.
    pub hello: Hello,
    /// How the start ended.
    pub settled: Settled,
    /// When the guest spoke first.
    pub(crate) spoke_at: Instant,
    /// From power-on until the guest program spoke.
    pub to_guest: Duration,
    /// From power-on until systemd had finished.
    pub to_settled: Duration,
}

impl Vm {
    /// A copy that does not run yet.
    pub fn new(
        area: &WorkArea,
        image: &BaseImage,
        limits: &Limits,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, VmError> {
        let job = area.job()?;
        let overlay = image.overlay(&job)?;
        Ok(Self {
            machine: None,
            overlay,
            base: image.clone(),
            packages: None,
            accelerator: Accelerator::of_this_machine(),
            limits: limits.clone(),
            observer,
            job,
        })
    }

    /// Verifies packages and puts them on a disk that the guest sees from its next boot on.
    pub fn attach(
        &mut self,
        patches: &[PackageFile],
        previous: &[PackageFile],
    ) -> Result<(), PackageError> {
        self.packages = Some(packages::disk(&self.job, patches, previous)?);
        Ok(())
    }

    /// How the guest's code is run.
    pub fn accelerator(&self) -> Accelerator {
        self.accelerator
    }

    /// The overlay with everything that the guest wrote.
    pub fn overlay(&self) -> &Path {
        &self.overlay
    }

    /// The serial console's log of all boots of this copy, at most 8 MiB a boot.
    pub fn serial_log(&self) -> PathBuf {
        self.job.path().join("serial.log")
    }

    /// The end of what the serial console printed in this boot.
    pub fn serial_tail(&self) -> String {
        self.machine.as_ref().map(|machine| machine.serial().tail()).unwrap_or_default()
    }

    /// Boots the kernel that the image has now, and waits until the system is up.
    pub fn boot(&mut self) -> Result<Booted, VmError> {
        let powered_on = Instant::now();
        let deadline = powered_on + self.limits.boot;
        let hello = self.start(Start::System, None)?;
        let spoke_at = Instant::now();
        let settled = self.settle(deadline.saturating_duration_since(spoke_at))?;
        let to_guest = spoke_at - powered_on;
        let to_settled = powered_on.elapsed();
        Ok(Booted { hello, settled, spoke_at, to_guest, to_settled })
    }

    /// Boots the kernel that the image has now, with the guest program in place of the image's
    /// first process: its disk is there, none of its services runs. The machine's clock begins at
    /// the given instant.
    pub fn boot_still(&mut self, clock: Timestamp) -> Result<Hello, VmError> {
        self.start(Start::Still, Some(clock))
    }

    /// Boots the copy with a shell on its console, which is this process's terminal, until somebody
    /// ends the shell.
    pub fn shell(&mut self) -> Result<(), VmError> {
        self.machine = None;
        let files = boot::prepare(&self.overlay, &self.job, Start::Shell)?;
        let hardware = self.hardware(&files, None);
        let status = machine::run_interactively(&self.job, &hardware)?;
        if machine::exceeded_disk(status) {
            return Err(Misstep::DiskLimit { limit: self.limits.disk_bytes }.into());
        }
        if !status.success() {
            let (step, status) = ("shell".to_owned(), status.to_string());
            return Err(Misstep::MachineLost { step, status }.into());
        }
        Ok(())
    }

    /// Powers a machine on and waits for the guest's first words.
    fn start(&mut self, how: Start, clock: Option<Timestamp>) -> Result<Hello, VmError> {
        // One machine at a time writes to the overlay.
        self.machine = None;
        let files = boot::prepare(&self.overlay, &self.job, how)?;
        let deadline = Instant::now() + self.limits.boot;
        let hardware = self.hardware(&files, clock);
        let machine = Machine::start(&self.job, &hardware, Arc::clone(&self.observer))?;
        self.machine = Some(machine);
        match self.answer("boot", deadline, self.limits.boot)? {
            Message::Hello(hello) if hello.protocol == PROTOCOL => Ok(hello),
            other => Err(unexpected("boot", &other).into()),
        }
    }

    fn hardware<'a>(&'a self, files: &'a BootFiles, clock: Option<Timestamp>) -> Hardware<'a> {
        let mut disks = vec![Disk {
            file: &self.overlay,
            format: Format::Qcow2,
            backing: Some((self.base.path(), self.base.format())),
            access: Access::Write,
            serial: "root",
        }];
        if let Some(packages) = &self.packages {
            disks.push(Disk {
                file: packages,
                format: Format::Raw,
                backing: None,
                access: Access::Read,
                serial: guest::PACKAGE_DISK,
            });
        }
        Hardware {
            accelerator: self.accelerator,
            limits: &self.limits,
            disks,
            clock,
            network: &machine::Network::None,
            restart: machine::Restart::Ends,
            boot: Boot::Kernel {
                kernel: &files.kernel,
                initrd: &files.initrd,
                command_line: &files.command_line,
            },
        }
    }

    /// Waits until systemd has nothing left to start.
    pub fn settle(&mut self, limit: Duration) -> Result<Settled, VmError> {
        let seconds = limit.as_secs();
        match self.ask("settle", &Request::Settle { seconds }, limit + GRACE)? {
            Message::Settled(settled) if is_up(&settled.state) => Ok(settled),
            Message::Settled(settled) => Err(Misstep::NeverSettled {
                seconds: self.limits.boot.as_secs(),
                jobs: settled.jobs.trim().to_owned(),
            }
            .into()),
            other => Err(unexpected("settle", &other).into()),
        }
    }

    /// Takes a picture.
    pub fn picture(&mut self, request: PictureRequest) -> Result<RawPicture, VmError> {
        let limit = self.limits.picture;
        match self.ask("picture", &Request::Picture(request), limit)? {
            Message::Picture(picture) => Ok(*picture),
            other => Err(unexpected("picture", &other).into()),
        }
    }

    /// Installs attached packages and removes others, in one transaction. That apt failed or hung
    /// is no error: it is in the answer.
    pub fn install(&mut self, set: PackageSet, remove: Vec<String>) -> Result<Installed, VmError> {
        self.run_install(set, remove, None)
    }

    /// Installs attached packages; programs that build files are told what time it is.
    pub fn install_as_of(&mut self, set: PackageSet, at: Timestamp) -> Result<Installed, VmError> {
        self.run_install(set, Vec::new(), Some(at.as_second()))
    }

    fn run_install(
        &mut self,
        set: PackageSet,
        remove: Vec<String>,
        source_date_epoch: Option<i64>,
    ) -> Result<Installed, VmError> {
        let request = InstallRequest {
            directory: set.directory().to_owned(),
            remove,
            downgrades: set.downgrades(),
            seconds: self.limits.install.as_secs(),
            source_date_epoch,
        };
        let limit = self.limits.install + GRACE;
        match self.ask("install", &Request::Install(request), limit)? {
            Message::Installed(installed) => Ok(installed),
            other => Err(unexpected("install", &other).into()),
        }
    }

    /// Takes out what only one machine may have.
    pub fn generalise(&mut self, ssh_host_keys: bool) -> Result<Generalised, VmError> {
        let request = Request::Generalise(GeneraliseRequest { ssh_host_keys });
        match self.ask("generalise", &request, self.limits.install)? {
            Message::Generalised(generalised) => Ok(generalised),
            other => Err(unexpected("generalise", &other).into()),
        }
    }

    /// Restarts the guest, with the kernel that the image has by then.
    pub fn reboot(&mut self) -> Result<Booted, VmError> {
        self.go_down("reboot", &Request::Reboot, Shutdown::Reset)?;
        self.boot()
    }

    /// Shuts the guest down; the overlay is then at rest.
    pub fn power_off(&mut self) -> Result<(), VmError> {
        self.go_down("power off", &Request::PowerOff, Shutdown::PowerOff)
    }

    fn go_down(&mut self, step: &str, request: &Request, wanted: Shutdown) -> Result<(), VmError> {
        let limit = self.limits.shutdown;
        let deadline = Instant::now() + limit;
        match self.ask(step, request, limit)? {
            Message::Going => {}
            other => return Err(unexpected(step, &other).into()),
        }
        loop {
            match self.next(step, deadline, limit)? {
                Event::Shutdown(how) if how == wanted => break,
                Event::Shutdown(how) => return Err(went_down(step, how).into()),
                _ => {}
            }
        }
        // QEMU flushes and ends by itself.
        while !matches!(self.next(step, deadline, limit)?, Event::Ended(_)) {}
        self.machine = None;
        Ok(())
    }

    fn ask(&mut self, step: &str, request: &Request, limit: Duration) -> Result<Message, VmError> {
        let deadline = Instant::now() + limit;
        let asked = match &mut self.machine {
            Some(machine) => machine.ask(request),
            None => Err(std::io::Error::other("it does not run")),
        };
        match asked {
            Ok(()) => self.answer(step, deadline, limit),
            Err(error) => Err(failed(step, error.to_string()).into()),
        }
    }

    fn answer(
        &mut self,
        step: &str,
        deadline: Instant,
        limit: Duration,
    ) -> Result<Message, VmError> {
        match self.next(step, deadline, limit)? {
            Event::Said(Message::Failed { reason }) => Err(failed(step, reason).into()),
            Event::Said(message) => Ok(message),
            Event::Nonsense(reason) => {
                Err(Misstep::Nonsense { step: step.to_owned(), reason }.into())
            }
            Event::Shutdown(how) => Err(went_down(step, how).into()),
            Event::Ended(status) => {
                let status = status.to_string();
                Err(Misstep::MachineLost { step: step.to_owned(), status }.into())
            }
            Event::DiskFailed { reason } => Err(Misstep::DiskFailed { reason }.into()),
        }
    }

    /// The next event; the disk's limit and the end of time are missteps.
    fn next(&mut self, step: &str, deadline: Instant, limit: Duration) -> Result<Event, Misstep> {
        let timed_out = || Misstep::TimedOut { step: step.to_owned(), seconds: limit.as_secs() };
        let machine = self.machine.as_mut().ok_or_else(|| failed(step, "it is off".to_owned()))?;
        let event = loop {
            if self.observer.is_called_off() {
                return Err(Misstep::CalledOff { step: step.to_owned() });
            }
            let look = deadline.min(Instant::now() + LOOK);
            match machine.next(look) {
                Some(event) => break event,
                None if Instant::now() >= deadline => return Err(timed_out()),
                None => {}
            }
        };
        let disk_limit = self.limits.disk_bytes;
        match &event {
            Event::Ended(status) if machine::exceeded_disk(*status) => {
                Err(Misstep::DiskLimit { limit: disk_limit })
            }
            // EFBIG is what the kernel says at the limit of a file's size.
            Event::DiskFailed { reason } if reason.contains("too large") => {
                Err(Misstep::DiskLimit { limit: disk_limit })
            }
            _ => Ok(event),
        }
    }
}

fn is_up(state: &str) -> bool {
    matches!(state, "running" | "degraded")
}

fn failed(step: &str, reason: String) -> Misstep {
    Misstep::Failed { step: step.to_owned(), reason }
}

fn went_down(step: &str, how: Shutdown) -> Misstep {
    let how = match how {
        Shutdown::Reset => "reset",
        Shutdown::PowerOff => "power off",
        Shutdown::Panic => "panic",
        Shutdown::Other => "other",
    };
    Misstep::WentDown { step: step.to_owned(), how: how.to_owned() }
}

fn unexpected(step: &str, message: &Message) -> Misstep {
    let said = match message {
        Message::Hello(_) => "hello again: it restarted, or speaks another protocol",
        Message::Settled(_) => "settled",
        Message::Picture(_) => "a picture",
        Message::Installed(_) => "installed",
        Message::Generalised(_) => "generalised",
        Message::Going => "going",
        Message::Failed { .. } => "failed",
    };
    Misstep::Nonsense { step: step.to_owned(), reason: format!("it said: {said}") }
}
