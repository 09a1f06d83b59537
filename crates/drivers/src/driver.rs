//! What a place where machines live must be able to do.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use lab::BaseImage;

use crate::known::KnownMachineError;
use crate::libvirt::{HypervisorError, LibvirtError};
use crate::limits::Limits;
use crate::local::LocalError;
use crate::openstack::OpenStackError;

/// How every machine of a trial is called, so that leftovers are recognised.
pub const PREFIX: &str = "patchwright-trial-";

/// A place where machines live.
pub trait Driver: fmt::Debug + Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Makes a machine from an image and switches it on. What it made before it failed is removed.
    fn create(&self, image: &BaseImage, limits: &Limits) -> Result<Box<dyn Machine>, DriverError>;

    /// Removes what trials left whose process is gone; those that run are left alone.
    fn sweep(&self) -> Result<Swept, DriverError>;

    /// How often its machines may be asked.
    fn pace(&self) -> Duration;
}

/// A machine made for a trial.
pub trait Machine: fmt::Debug + Send {
    /// What it is called at its place; begins with [`PREFIX`].
    fn name(&self) -> &str;

    /// Whether it runs.
    fn state(&mut self) -> Result<State, DriverError>;

    /// What its console printed since this was asked last, bounded; the rest comes next time.
    fn read_console(&mut self) -> Result<Vec<u8>, DriverError>;

    /// Presses the power button (ACPI), also again. Never switches off by force within the limit
    /// for shutting down that the machine was created with.
    fn press_power_button(&mut self) -> Result<(), DriverError>;

    /// Its disk as an image that `inspect` reads; only of a machine that is off. The file goes
    /// when the machine is deleted.
    fn disk(&mut self) -> Result<PathBuf, DriverError>;

    /// Ends it, if it runs, and removes all that belongs to it. May be asked again after a failure.
    fn delete(&mut self) -> Result<(), DriverError>;
}

/// Whether a machine runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Its place still makes it.
    Starting,
    /// It runs.
    Running,
    /// It is off, its disk at rest.
    Off(Cause),
    /// Its place ended it or could not run it.
    Failed {
        /// Why, in the place's words.
        reason: String,
    },
}

/// Why a machine is off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// Its system switched it off.
    PoweredOff,
    /// Its system asked for a restart, which ends a machine of a trial.
    Restarted,
    /// Its system gave up.
    Crashed,
    /// Its place does not tell.
    Untold,
}

impl fmt::Display for Cause {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Self::PoweredOff => "it switched itself off",
            Self::Restarted => "it restarted",
            Self::Crashed => "it crashed",
            Self::Untold => "it went off or restarted",
        })
    }
}

/// What a sweep removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Machines that were ended or removed.
    pub machines: usize,
    /// Copies of disks, or images, that were removed.
    pub disks: usize,
}

/// Why a place did not do what it was asked. Says nothing about an image.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// On this host.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// In libvirt.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// In an OpenStack cloud.
    #[error(transparent)]
    OpenStack(#[from] OpenStackError),
    /// With snapshots of a libvirt's machines.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// With snapshots of machines on this host.
    #[error(transparent)]
    Known(#[from] KnownMachineError),
}

impl DriverError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Local(error) => error.help(),
            Self::Libvirt(error) => error.help(),
            Self::OpenStack(error) => error.help(),
            Self::Hypervisor(error) => error.help(),
            Self::Known(error) => error.help(),
        }
    }
}
