//! Watching a trial while it runs.

use std::fmt;
use std::time::Duration;

/// Where a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The machine is made from the image.
    Create,
    /// It starts.
    Boot,
    /// Its power button is pressed.
    PowerOff,
    /// Its disk is fetched.
    HandOver,
    /// Its disk is read.
    Scan,
    /// It is removed.
    Delete,
}

impl Step {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Boot => "boot",
            Self::PowerOff => "power-off",
            Self::HandOver => "hand-over",
            Self::Scan => "scan",
            Self::Delete => "delete",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// Told what happens in a trial, from its thread.
pub trait Observer: Send + Sync + fmt::Debug {
    /// A step begins, so long after the trial began.
    fn step(&self, step: Step, elapsed: Duration);

    /// The console printed something.
    fn console(&self, _bytes: &[u8]) {}

    /// Whether nobody wants the trial any more; asked each time that the machine is looked at.
    fn is_called_off(&self) -> bool {
        false
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn step(&self, _: Step, _: Duration) {}
}
