//! Where machines live, and whether a new image makes one that comes up.
//!
//! A [`Driver`] creates a [`Machine`] from an image: [`Local`] with QEMU on this host, [`Libvirt`]
//! in a session of libvirt, [`OpenStack`] in a cloud. All a driver must be able to do is what each
//! of these really can: create, look at the console, press the power button, hand over the disk
//! once it is at rest, delete. Nothing of ours is inside such a machine; it is a user's machine.
//!
//! [`trial`] does with any of them what must go well before an image is offered to anybody:
//!
//! ```text
//! image ─► create ─► console: a login prompt? ─► power button ─► off ─► disk ─► scan ─► delete
//!                       │ kernel's release          │ within its limit    │ read by `inspect`
//!                       └─ panic, boot loader's prompt, restart, silence ─┴─► TrialError, delete
//! ```
//!
//! The machine is deleted in every case; what a killed process left is removed by
//! [`Driver::sweep`], which knows its own by their names. `docs/drivers.md` says what an image and
//! a host must have.
//!
//! Machines that are not ours are left alone, but for [`Snapshots`]: what a risky step may spoil is
//! kept before it and brought back after it, by [`Hypervisor`] in a libvirt and by
//! [`KnownMachines`] of QEMU alone.
//!
//! Images that a cloud keeps itself are read and never altered: an [`ImageStore`] lists them and
//! fetches one whole, [`VolumePools`] from a libvirt, [`Glance`] from an OpenStack cloud.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::path::Path;
//! use drivers::{Conditions, Limits, Local, SystemClock, Unobserved};
//!
//! let driver = Local::open(Path::new("/var/lib/patchwright/trials"))?;
//! let image = lab::BaseImage::open(Path::new("/srv/images/web-2.qcow2"))?;
//! let conditions = Conditions {
//!     limits: &Limits::default(),
//!     observer: &Unobserved,
//!     clock: &SystemClock::default(),
//! };
//! let outcome = drivers::trial(&driver, &image, &conditions, |disk| {
//!     inspect::open(disk, None).map(|target| target.inventory())
//! })?;
//! println!("up after {:?}", outcome.seen.to_login);
//! # Ok(())
//! # }
//! ```
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # fn upgrade() -> Result<(), drivers::DriverError> { Ok(()) }
//! use std::sync::Arc;
//! use drivers::{Hypervisor, SnapshotName, Snapshots, SystemClock};
//!
//! let place = Hypervisor::open("qemu:///system", Arc::new(SystemClock::default()))?;
//! let before = SnapshotName::new("01JDX3")?;
//! place.take("web-1", &before)?;
//! if upgrade().is_err() {
//!     place.revert("web-1", &before)?;
//! }
//! place.remove("web-1", &before)?;
//! # Ok(())
//! # }
//! ```

mod boot_record;
mod clock;
mod console;
mod driver;
#[doc(hidden)]
pub mod fuzzing;
mod images;
mod known;
mod libvirt;
mod limits;
mod local;
mod log;
mod observer;
mod openstack;
mod program;
mod snapshots;
mod trial;

pub use clock::{Clock, SystemClock};
pub use console::Halt;
pub use driver::{Cause, Driver, DriverError, Machine, PREFIX, State, Swept};
pub use images::{Fitness, ImageStore, ImageStoreError, StoredImage};
pub use known::{KnownMachine, KnownMachineError, KnownMachines};
pub use libvirt::{Hypervisor, HypervisorError, Libvirt, LibvirtError, Refusal, VolumePools};
pub use limits::Limits;
pub use local::{Local, LocalError};
pub use observer::{Observer, Step, Unobserved};
pub use openstack::{Cloud, Glance, Login, OpenStack, OpenStackError, Secret};
pub use snapshots::{SNAPSHOT_PREFIX, SnapshotName, SnapshotNameError, Snapshots};
pub use trial::{
    Conditions, Evidence, Fault, Kernel, KernelSource, Outcome, Reason, Seen, TrialError, trial,
};
