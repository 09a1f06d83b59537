//! Carries an accepted order out, so that it ends patched or as it was, whatever happens meanwhile.
//!
//! ```text
//! accepted ─► fetched ─► way back kept ─► started ─► finished ─► restarted ─► done
//!     │          │             │             └── failed ─► turned back ─► as it was (or stuck)
//!     └──────────┴─────────────┴─► refused: nothing was altered
//! ```
//!
//! Each step is in the [`Journal`] before the next one begins. After a crash, a kill or a loss of power
//! [`Executor::resume`] repairs what the package system was in the middle of, looks at what is installed,
//! and goes on: forward while the window is open, else back. The system's own restart is a step like any
//! other: what follows it is done after it.

mod apt;
mod archives;
mod back;
mod command;
mod dpkg_files;
mod executor;
mod files;
mod host;
mod interruption;
mod journal;
mod packages;
mod progress;
mod repack;
mod rpm;
mod settings;
mod space;
mod system;
#[cfg(test)]
mod tests;
mod tools;
mod unattended;

pub use apt::Apt;
pub use archives::HostArchives;
pub use executor::{ExecuteError, Executor, Paused};
pub(crate) use files::attributes;
pub use files::{Access, HostFiles, KeptContent, KeptFile};
pub use host::Packages;
pub use journal::{Journal, Step};
pub(crate) use packages::versions_of;
pub use packages::{
    Alteration, Completeness, Direction, Found, Hold, KeptPackage, Newer, PackageFault,
    PackageSystem, Room, TrustedPackages,
};
pub use rpm::{Dnf, HostRepositories};
pub use system::{AtRest, System, Systemd, UnitTime, UnitTimes};
