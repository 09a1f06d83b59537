//! Machines on this host, run by QEMU within the lab's bounds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lab::{Appliance, BaseImage, Power, VmError, WorkArea, WorkError};

use crate::driver::{Cause, Driver, DriverError, Machine, PREFIX, State, Swept};
use crate::limits::Limits;
use crate::log::Log;

const PACE: Duration = Duration::from_millis(250);

/// Why a machine on this host could not be had.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// There is no place to work.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// QEMU could not be started, or not with this image.
    #[error(transparent)]
    Vm(#[from] VmError),
    /// The console's log could not be read.
    #[error("cannot read the console of `{machine}`: {error}")]
    Console {
        /// The machine.
        machine: String,
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

impl LocalError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Work(error) => error.help(),
            Self::Vm(error) => error.help(),
            Self::Runs { .. } => Some("press its power button and wait until it is off"),
            Self::Console { .. } | Self::Deleted { .. } => None,
        }
    }
}

/// QEMU on this host: no network, and gone with this process.
#[derive(Debug)]
pub struct Local {
    area: WorkArea,
}

impl Local {
    /// Keeps the machines' files below a directory, where leftovers are removed.
    pub fn open(directory: &Path) -> Result<Self, LocalError> {
        let (area, _) = WorkArea::open(directory)?;
        Ok(Self { area })
    }
}

impl Driver for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn create(&self, image: &BaseImage, limits: &Limits) -> Result<Box<dyn Machine>, DriverError> {
        let limits = limits.of_lab();
        let (setting, observer) = (lab::Setting::default(), Arc::new(lab::Unobserved));
        let appliance = Appliance::start(&self.area, image, &limits, setting, observer)
            .map_err(LocalError::Vm)?;
        Ok(Box::new(LocalMachine {
            name: format!("{PREFIX}{}", appliance.name()),
            log: Log::of(&appliance.serial_log()),
            appliance: Some(appliance),
        }))
    }

    fn sweep(&self) -> Result<Swept, DriverError> {
        let (_, leftovers) = WorkArea::open(self.area.path()).map_err(LocalError::Work)?;
        Ok(Swept { machines: leftovers.machines, disks: leftovers.directories })
    }

    fn pace(&self) -> Duration {
        PACE
    }
}

#[derive(Debug)]
struct LocalMachine {
    name: String,
    log: Log,
    appliance: Option<Appliance>,
}

impl LocalMachine {
    fn appliance(&mut self) -> Result<&mut Appliance, LocalError> {
        let deleted = LocalError::Deleted { machine: self.name.clone() };
        self.appliance.as_mut().ok_or(deleted)
    }
}

impl Machine for LocalMachine {
    fn name(&self) -> &str {
        &self.name
    }

    fn state(&mut self) -> Result<State, DriverError> {
        Ok(match self.appliance()?.power() {
            Power::On => State::Running,
            Power::Off => State::Off(Cause::PoweredOff),
            Power::Restarted => State::Off(Cause::Restarted),
            Power::Panicked => State::Off(Cause::Crashed),
            Power::Lost { reason } => State::Failed { reason: reason.clone() },
        })
    }

    fn read_console(&mut self) -> Result<Vec<u8>, DriverError> {
        let failed = |error| LocalError::Console { machine: self.name.clone(), error };
        Ok(self.log.read_on().map_err(failed)?)
    }

    fn press_power_button(&mut self) -> Result<(), DriverError> {
        Ok(self.appliance()?.press_power_button().map_err(LocalError::Vm)?)
    }

    fn disk(&mut self) -> Result<PathBuf, DriverError> {
        let machine = self.name.clone();
        let appliance = self.appliance()?;
        if *appliance.power() == Power::On {
            return Err(LocalError::Runs { machine }.into());
        }
        Ok(appliance.overlay().to_owned())
    }

    fn delete(&mut self) -> Result<(), DriverError> {
        // Ends QEMU and removes its directory.
        self.appliance = None;
        Ok(())
    }
}
