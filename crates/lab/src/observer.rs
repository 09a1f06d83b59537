//! Watching a job while it runs.

use std::fmt;
use std::time::Duration;

/// Where a job is.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Packages are verified, the overlay and the package disk are made.
    Prepare,
    /// The copy boots as it is.
    Boot,
    /// The picture before.
    Before,
    /// The patches are installed.
    Install,
    /// The picture after the installation.
    After,
    /// The system is restarted.
    Reboot,
    /// The picture after the restart.
    AfterReboot,
    /// The previous packages are installed again.
    WayBack,
    /// The picture after the way back.
    AfterWayBack,
    /// The pictures are compared.
    Judge,
    /// What only one machine may have is taken out.
    Generalise,
    /// The copy becomes a file that stands alone.
    Compact,
    /// The new image is looked at, and hashed.
    Verify,
}

impl Stage {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Boot => "boot",
            Self::Before => "before",
            Self::Install => "install",
            Self::After => "after",
            Self::Reboot => "reboot",
            Self::AfterReboot => "after-reboot",
            Self::WayBack => "way-back",
            Self::AfterWayBack => "after-way-back",
            Self::Judge => "judge",
            Self::Generalise => "generalise",
            Self::Compact => "compact",
            Self::Verify => "verify",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Told what happens, from the threads where it happens.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A stage begins, so long after the job began.
    fn stage(&self, stage: Stage, elapsed: Duration);

    /// The serial console printed something.
    fn serial(&self, _bytes: &[u8]) {}

    /// Whether nobody wants the job any more; asked twice a second while a machine works.
    fn is_called_off(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn stage(&self, _: Stage, _: Duration) {}
}
