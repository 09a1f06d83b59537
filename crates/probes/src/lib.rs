//! Probes: what must work on a system, as its owner says, and how that is tried.
//!
//! An owner writes them into a file ([`Profile`]): a port that is open, a page, a unit that is active, a
//! program that ends well. The lab tries an image's own before and after a patch, an agent those of its
//! host. The file alone names programs; nobody who only knows a probe's name can have another one run.

pub mod command;
#[cfg(feature = "profile")]
mod profile;
mod run;

use serde::{Deserialize, Serialize};

#[cfg(feature = "profile")]
pub use profile::{Profile, ProfileError};
pub use run::run;

/// Something that must work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Its name for people.
    pub name: String,
    /// What is tried.
    #[serde(flatten)]
    pub kind: ProbeKind,
    /// It may fail for this long before it counts as failed, in seconds.
    pub within_seconds: u64,
}

/// What a probe tries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeKind {
    /// A TCP connection to a port of the loopback.
    Tcp(TcpProbe),
    /// A GET request to the loopback.
    Http(HttpProbe),
    /// A systemd unit that must be active.
    Unit(String),
    /// A program that must end with a status.
    Command(CommandProbe),
}

/// A TCP connection to the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// The port.
    pub port: u16,
}

/// A GET request to the loopback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The port.
    pub port: u16,
    /// The path asked for, beginning with `/`.
    pub path: String,
    /// The status that must be answered.
    pub status: u16,
    /// Text that the answer must hold.
    #[serde(default)]
    pub contains: Option<String>,
}

/// A program that must end with a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandProbe {
    /// Program and arguments; no shell is between.
    pub argv: Vec<String>,
    /// The exit status that it must have.
    #[serde(default)]
    pub exit: i32,
}

/// How a probe ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// The probe's name.
    pub name: String,
    /// What failed at the last try; `None` where it passed.
    pub failure: Option<String>,
    /// How long until it passed or was given up, in milliseconds.
    pub took_ms: u64,
}
