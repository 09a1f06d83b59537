//! Reads any system without running anything of it.
//!
//! Whatever holds the system, a live root, a directory, a disk image, a container image, comes
//! out as one [`Target`] with two faces: its files, read-only, and its [`Inventory`]: which
//! operating system, which packages from which sources, which kernels, and of a live root what
//! is still running of what was replaced.
//!
//! ```text
//! path ─► open ─► tree (a FileView: links stay inside the root)
//!                  ▲                    │
//!       disk image │ container image    ├─► os-release ─► which family
//!       qcow2/raw ─► partition ─► ext4  ├─► dpkg │ rpm │ apk database ─► packages
//!       layers ─► merged files          └─► kernels, and of a live root what it runs
//! ```
//!
//! Nothing read here is trusted: every length, offset and link comes from someone who may be
//! hostile (requirements.md, T12). Reading is bounded in memory and time, never follows a link
//! out of the root, never opens a device, and answers damage with an error that says where.
//!
//! ```no_run
//! let target = inspect::open(std::path::Path::new("/srv/images/web-1.qcow2"), None)?;
//! let inventory = target.inventory()?;
//! println!("{}: {} packages", inventory.os.pretty_name, inventory.packages.len());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`Inventory`]: domain::inventory::Inventory

mod disk;
#[doc(hidden)]
pub mod fuzzing;
mod image;
mod inventory;
mod kernels;
mod os_release;
pub mod packages;
mod recognise;
mod runtime;
#[cfg(test)]
#[path = "../tests/support/mod.rs"]
mod support;
mod target;
mod tree;

pub use disk::{DiskError, Firmware, firmware_of};
pub use image::ImageError;
pub use inventory::InspectError;
pub use kernels::newest as newest_kernel;
pub use runtime::{deleted_code, unit as unit_of_cgroup};
pub use target::{OpenError, Target, TargetKind, open};
pub use tree::{Attributes, Met, MetKind};
