//! The lab: proves patches on copies of real images, in virtual machines without a network.
//!
//! A [`BaseImage`] is only ever read. A [`Vm`] is a copy-on-write overlay of it in a job's own
//! directory below a [`WorkArea`], run by QEMU with the image's own kernel; a guest program that
//! the image knows nothing of answers from inside. [`prove`] boots such a copy, takes a picture,
//! installs a patch, takes another, restarts, takes a third, goes the way back, and has
//! [`domain::proof::judge`] compare them. An [`Appliance`] is a copy that boots by firmware and by
//! its own boot loader, as a user's machine would, and is seen from outside only.
//!
//! ```text
//!           image (raw, qcow2)            packages (.deb, SHA-256)      application profile
//!                 │ overlay                     │ read-only disk               │ probes
//!                 ▼                             ▼                              ▼
//! WorkArea ─► Vm: qemu -nic none -sandbox on, limits for time, memory, processors, disk
//!                 │ pictures, installation, serial console ─► evidence, by content
//!                 ▼
//!           domain::proof::judge ─► Proof { verdict, impact, stages, evidence }
//! ```
//!
//! What a guest says is hostile (requirements.md, T12): messages are bounded and typed, each step
//! has a time limit, and whatever happens to this process, QEMU ends with it and what it leaves is
//! removed when the area is opened next. `docs/lab.md` says what an image must have.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{path::Path, sync::Arc};
//! use lab::{BaseImage, Job, Limits, Profile, Thoroughness, Unobserved, WorkArea};
//!
//! let (area, _leftovers) = WorkArea::open(Path::new("/var/lib/patchwright/lab"))?;
//! let image = BaseImage::open(Path::new("/srv/images/web.qcow2"))?;
//! let patches = []; // verified packages
//! let proof = lab::prove(
//!     &area,
//!     &Job {
//!         image: &image,
//!         patches: &patches,
//!         previous: &[],
//!         claims: &[],
//!         profile: &Profile::default(),
//!         limits: &Limits::default(),
//!         thoroughness: Thoroughness::UntilRejected,
//!     },
//!     Path::new("/var/lib/patchwright/evidence"),
//!     Arc::new(Unobserved),
//! )?;
//! println!("passes: {}", proof.verdict.passes());
//! # Ok(())
//! # }
//! ```

mod accelerator;
mod appliance;
mod bake;
mod boot;
mod clock;
mod compare;
mod evidence;
mod firmware;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod limits;
mod machine;
mod observer;
mod packages;
mod proof;
mod vm;
mod work;

pub use accelerator::Accelerator;
pub use appliance::{Appliance, Power, Setting};
pub use bake::{BakeError, Baked, Recipe, bake, remove_unfinished};
pub use boot::BootError;
pub use compare::{Because, Change, CompareError, Comparison, FileChange, PackageChange, compare};
pub use evidence::{EvidenceItem, digest};
pub use firmware::{Firmware, FirmwareError};
pub use guest::{Generalised, Hello, Installed, PictureRequest, RawPicture, Settled};
pub use image::{BaseImage, Format, ImageError};
pub use limits::Limits;
pub use machine::{Door, MachineError, Network, Restart, Usage, Writes};
pub use observer::{Observer, Stage, Unobserved};
pub use packages::{PackageError, PackageFile, PackageSet};
pub use probes::{Probe, Profile, ProfileError};
pub use proof::{Job, Proof, ProveError, Thoroughness, prove, read_picture};
pub use vm::{Booted, Misstep, Vm, VmError};
pub use work::{JobDirectory, Leftovers, WorkArea, WorkError};
