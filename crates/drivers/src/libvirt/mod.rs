//! Machines in the user's own libvirt (`qemu:///session`), through `virsh`.
//!
//! Each machine's files lie in a directory of its own below the driver's, locked for as long as
//! the process that asked for it lives. libvirt keeps machines running whatever happens to us:
//! one whose directory is gone is a leftover. Names bear a number made of the driver's directory,
//! so that several drivers in one session leave each other's machines alone.

mod domain;
mod snapshots;
mod virsh;
mod volumes;
mod xml;

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{
    Accelerator, BaseImage, Firmware, FirmwareError, ImageError, JobDirectory, WorkArea, WorkError,
};
use sha2::{Digest as _, Sha256};

pub use self::snapshots::{Hypervisor, HypervisorError, Refusal};
pub use self::volumes::VolumePools;

use self::domain::Domain;
use self::virsh::{argument, virsh};
use crate::driver::{Cause, Driver, DriverError, Machine, PREFIX, State, Swept};
use crate::limits::Limits;
use crate::log::Log;

/// Each question starts a program.
const PACE: Duration = Duration::from_secs(1);

/// What virsh says of a machine that is not there, or not running.
const NO_DOMAIN: &str = "failed to get domain";
const NOT_RUNNING: &str = "domain is not running";

/// Why libvirt did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LibvirtError {
    /// Root has no session.
    #[error("root has no libvirt session")]
    Root,
    /// There is no place to work.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// The image cannot be used.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// There is no firmware for the image.
    #[error(transparent)]
    Firmware(#[from] FirmwareError),
    /// virsh could not be run.
    #[error("cannot run `virsh`: {error}")]
    Start {
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// virsh did not come to an end.
    #[error("`virsh {command}` did not end within {seconds} s")]
    Hangs {
        /// What was asked.
        command: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// libvirt refused.
    #[error("`virsh {command}` failed: {message}")]
    Refused {
        /// What was asked.
        command: &'static str,
        /// What it said.
        message: String,
    },
    /// A path cannot be told to libvirt.
    #[error("`{}` is not UTF-8, which libvirt needs", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// A file of a machine could not be used.
    #[error("cannot use `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The disk of a machine that runs is nobody else's to read.
    #[error("the disk of `{machine}` is not at rest")]
    Runs {
        /// The machine.
        machine: String,
    },
    /// The machine was deleted.
    #[error("`{machine}` was deleted")]
    Deleted {
        /// The machine.
        machine: String,
    },
}

impl LibvirtError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Root => Some(
                "run as a user of its own: sessions (`qemu:///session`) are for users without privileges",
            ),
            Self::Work(error) => error.help(),
            Self::Image(error) => error.help(),
            Self::Firmware(error) => error.help(),
            Self::Start { .. } => {
                Some("install libvirt-clients, libvirt-daemon and libvirt-daemon-driver-qemu")
            }
            Self::Hangs { .. } | Self::Refused { .. } => Some(
                "`virsh -c qemu:///session list --all` as the same user shows what libvirt sees; XDG_RUNTIME_DIR must be a directory of that user",
            ),
            Self::Path { .. } => Some("use a directory whose name is UTF-8"),
            Self::Runs { .. } => Some("press its power button and wait until it is off"),
            Self::Io { .. } | Self::Deleted { .. } => None,
        }
    }

    fn says(&self, words: &str) -> bool {
        matches!(self, Self::Refused { message, .. } if message.contains(words))
    }
}

/// The user's own libvirt.
#[derive(Debug)]
pub struct Libvirt {
    area: WorkArea,
    /// How its machines are called, up to the name of their directory.
    prefix: String,
}

impl Libvirt {
    /// Keeps the machines' files below a directory; leftovers there are removed.
    pub fn open(directory: &Path) -> Result<Self, LibvirtError> {
        if rustix::process::geteuid().is_root() {
            return Err(LibvirtError::Root);
        }
        let (area, _) = WorkArea::open(directory)?;
        let digest = Sha256::digest(area.path().as_os_str().as_bytes());
        let number = digest.iter().take(4).fold(String::new(), |mut number, byte| {
            let _ = write!(number, "{byte:02x}");
            number
        });
        let driver = Self { area, prefix: format!("{PREFIX}{number}-") };
        driver.remove_leftovers()?;
        Ok(driver)
    }

    fn start(&self, image: &BaseImage, limits: &Limits) -> Result<Domestic, LibvirtError> {
        let job = self.area.job()?;
        let overlay = image.overlay(&job)?;
        let firmware = Firmware::for_image(image, &job)?;
        let name = format!("{}{}", self.prefix, job.name());
        let console = job.path().join("console.log");
        let description = job.path().join("domain.xml");
        let domain = Domain {
            name: &name,
            accelerator: Accelerator::of_this_machine(),
            firmware: &firmware,
            limits,
            overlay: &overlay,
            base: image,
            console: &console,
        };
        fs::write(&description, domain.xml()?)
            .map_err(|error| LibvirtError::Io { path: description.clone(), error })?;
        let mut machine = Domestic {
            log: Log::of(&console),
            console,
            overlay,
            disk_bytes: limits.disk_bytes,
            job: Some(job),
            name,
        };
        let started = virsh("define", &["--validate", "--file", argument(&description)?])
            .and_then(|_| virsh("start", &["--domain", &machine.name]));
        if let Err(error) = started {
            machine.remove()?;
            return Err(error);
        }
        Ok(machine)
    }

    /// Machines of ours whose directory is gone.
    fn remove_leftovers(&self) -> Result<usize, LibvirtError> {
        let mut removed = 0;
        for name in virsh("list", &["--all", "--name"])?.lines().map(str::trim) {
            let Some(directory) = name.strip_prefix(&self.prefix) else { continue };
            if !self.area.path().join(directory).exists() {
                remove(name)?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

impl Driver for Libvirt {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn create(&self, image: &BaseImage, limits: &Limits) -> Result<Box<dyn Machine>, DriverError> {
        Ok(Box::new(self.start(image, limits)?))
    }

    fn sweep(&self) -> Result<Swept, DriverError> {
        // First the directories of dead processes: then the machines that had them are known.
        let (_, leftovers) = WorkArea::open(self.area.path()).map_err(LibvirtError::Work)?;
        let machines = self.remove_leftovers()?;
        Ok(Swept { machines, disks: leftovers.directories })
    }

    fn pace(&self) -> Duration {
        PACE
    }
}

/// Ends a machine and makes libvirt forget it; one that is not there is removed already.
fn remove(name: &str) -> Result<(), LibvirtError> {
    let is_known = |error: &LibvirtError| !error.says(NO_DOMAIN) && !error.says(NOT_RUNNING);
    for (command, arguments) in [
        ("destroy", vec!["--domain", name]),
        // What UEFI remembers lies in the machine's directory.
        ("undefine", vec!["--domain", name, "--keep-nvram"]),
    ] {
        match virsh(command, &arguments) {
            Err(error) if is_known(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A domain of a session.
#[derive(Debug)]
struct Domestic {
    name: String,
    overlay: PathBuf,
    console: PathBuf,
    log: Log,
    disk_bytes: u64,
    job: Option<JobDirectory>,
}

impl Domestic {
    fn look(&self) -> Result<State, LibvirtError> {
        if self.job.is_none() {
            return Err(LibvirtError::Deleted { machine: self.name.clone() });
        }
        let said = virsh("domstate", &["--domain", &self.name, "--reason"])?;
        let state = state(said.trim());
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        if state == State::Running && size(&self.overlay) > self.disk_bytes {
            virsh("destroy", &["--domain", &self.name])?;
            let reason = format!("it wrote more than {} bytes to its disk", self.disk_bytes);
            return Ok(State::Failed { reason });
        }
        Ok(state)
    }

    fn remove(&mut self) -> Result<(), LibvirtError> {
        if self.job.is_some() {
            remove(&self.name)?;
            self.job = None;
        }
        Ok(())
    }
}

/// What `domstate --reason` says: `running (booted)`.
fn state(said: &str) -> State {
    match said {
        // QEMU ends at a restart too, and libvirt does not tell which it was.
        "shut off (shutdown)" => State::Off(Cause::Untold),
        "crashed (panicked)" => State::Off(Cause::Crashed),
        _ if said.starts_with("running") || said.starts_with("in shutdown") => State::Running,
        // QEMU died, was ended from outside, or could not write.
        _ => State::Failed { reason: format!("libvirt says: {said}") },
    }
}

impl Machine for Domestic {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&mut self) -> Result<State, DriverError> {
        Ok(self.look()?)
    }

    fn read_console(&mut self) -> Result<Vec<u8>, DriverError> {
        let read = self.log.read_on();
        Ok(read.map_err(|error| LibvirtError::Io { path: self.console.clone(), error })?)
    }

    fn press_power_button(&mut self) -> Result<(), DriverError> {
        match virsh("shutdown", &["--domain", &self.name, "--mode", "acpi"]) {
            // It went down meanwhile: its state will tell how.
            Err(error) if error.says(NOT_RUNNING) => Ok(()),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    fn disk(&mut self) -> Result<PathBuf, DriverError> {
        if self.look()? == State::Running {
            return Err(LibvirtError::Runs { machine: self.name.clone() }.into());
        }
        Ok(self.overlay.clone())
    }

    fn delete(&mut self) -> Result<(), DriverError> {
        Ok(self.remove()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_system_did_itself_is_being_off() {
        assert_eq!(state("running (booted)"), State::Running);
        assert_eq!(state("in shutdown (user)"), State::Running);
        assert_eq!(state("shut off (shutdown)"), State::Off(Cause::Untold));
        for lost in ["shut off (crashed)", "shut off (destroyed)", "paused (I/O error)", "nonsense"]
        {
            assert!(matches!(state(lost), State::Failed { .. }), "{lost}");
        }
    }
}
