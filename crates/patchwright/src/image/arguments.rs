//! What can be asked of `patchwright image` and `patchwright lab`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use lab::Limits;

use super::trial::DriverName;
use crate::check::SourceArgs;
use crate::client::contexts::Access;
use crate::client::images;

/// Prove patches on images, and bake images with them.
#[derive(Debug, Args)]
pub(crate) struct ImageArgs {
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Prove the patches that an image lacks, on a copy of it in a virtual machine.
    ///
    /// The copy is booted, the patches are installed, it is restarted, the way back is tried, and
    /// what it was like each time is compared. The image itself is only read. Exit status 3 says
    /// that something speaks against the patches.
    Prove(ProveArgs),
    /// Make a new image with the patches that an image lacks.
    ///
    /// None of the image's services runs while it is made, so it bears nothing of a machine. Its
    /// provenance and its list of components are signed.
    Bake(BakeArgs),
    /// Make a virtual machine from an image, see it start and stop, and scan its disk.
    ///
    /// The machine starts with the image's own boot loader and has nothing of ours in it. Exit
    /// status 3 says that something speaks against the image.
    Test(TestArgs),
    /// Tell what differs between two images, and why.
    Diff(DiffArgs),
    /// Print the public key that this machine attests with.
    Key(KeyArgs),
    /// Have the control plane's lab prove, bake or test a version that it has.
    Submit(SubmitArgs),
    #[command(flatten)]
    Catalogue(images::ImageCommand),
}

/// Look around in a copy of an image.
#[derive(Debug, Args)]
pub(crate) struct LabCommand {
    #[command(subcommand)]
    pub(super) verb: LabVerb,
}

#[derive(Debug, Subcommand)]
pub(super) enum LabVerb {
    /// Start a copy of an image with a shell on this terminal; the copy is thrown away afterwards.
    ///
    /// The image's services run, without a network. The shell is root's; `exit` ends the machine.
    Run(RunArgs),
}

#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The image: raw or qcow2, standing alone.
    pub(super) image: PathBuf,

    #[command(flatten)]
    pub(super) machine: MachineArgs,

    /// Where the lab works.
    #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
    pub(super) data: Option<PathBuf>,
}

/// Which patches, and where the lab works.
#[derive(Debug, Args)]
pub(super) struct LabArgs {
    /// The image: raw or qcow2, standing alone.
    pub(super) image: PathBuf,

    /// Only patches of this package or source package; may be given several times.
    #[arg(long = "package", value_name = "NAME")]
    pub(super) packages: Vec<String>,

    /// Only patches that close a vulnerability.
    #[arg(long)]
    pub(super) security_only: bool,

    #[command(flatten)]
    pub(super) from: SourceArgs,

    /// Where raw evidence is kept, each piece by its hash; below the data directory where not
    /// given.
    #[arg(long, value_name = "DIR")]
    pub(super) evidence: Option<PathBuf>,

    #[command(flatten)]
    pub(super) machine: MachineArgs,

    /// Longest time for an installation, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1800, help_heading = "Virtual machine")]
    pub(super) install_seconds: u64,

    /// Show the serial console.
    #[arg(long)]
    pub(super) serial: bool,

    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(super) format: Format,
}

/// Bounds of the virtual machine.
#[derive(Debug, Args)]
#[command(next_help_heading = "Virtual machine")]
pub(super) struct MachineArgs {
    /// Virtual processors.
    #[arg(long, value_name = "NUMBER", default_value_t = 2)]
    pub(super) processors: u8,

    /// Memory in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    pub(super) memory: u32,

    /// How much the image may grow, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 8)]
    pub(super) growth: u64,

    /// Longest time for a boot, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) boot_seconds: u64,
}

impl MachineArgs {
    pub(super) fn limits(&self) -> Limits {
        Limits {
            processors: self.processors,
            memory_mib: self.memory,
            disk_bytes: self.growth << 30,
            boot: Duration::from_secs(self.boot_seconds),
            ..Limits::default()
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct ProveArgs {
    #[command(flatten)]
    pub(super) lab: LabArgs,

    /// The image's application profile, with probes of what must work: docs/lab.md.
    #[arg(long, value_name = "FILE")]
    pub(super) profile: Option<PathBuf>,

    /// Go on after the first reasons against the patches, to find all of them.
    #[arg(long)]
    pub(super) whole: bool,

    /// Do not try the way back.
    #[arg(long)]
    pub(super) no_way_back: bool,

    /// Write the signed attestation there (in-toto test result, DSSE).
    #[arg(long, value_name = "FILE")]
    pub(super) attestation: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct BakeArgs {
    #[command(flatten)]
    pub(super) lab: LabArgs,

    /// Directory of the new image, whose name is its hash, and of its attestations.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(super) into: PathBuf,

    /// The instant at which the virtual machine's clock begins, for the same result each time
    /// (RFC 3339); when the newest source was published, where not given.
    #[arg(long, value_name = "TIME")]
    pub(super) clock: Option<Timestamp>,
}

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    /// The image: raw or qcow2, standing alone.
    pub(super) image: PathBuf,

    /// Where the machine is made.
    #[arg(long, value_enum, default_value_t)]
    pub(super) driver: DriverName,

    /// Which cloud, for the driver `openstack`: docs/drivers.md.
    #[arg(long, value_name = "FILE")]
    pub(super) cloud: Option<PathBuf>,

    #[command(flatten)]
    pub(super) from: SourceArgs,

    #[command(flatten)]
    pub(super) machine: MachineArgs,

    /// Write the signed attestation there (in-toto test result, DSSE).
    #[arg(long, value_name = "FILE")]
    pub(super) attestation: Option<PathBuf>,

    /// Show the serial console.
    #[arg(long)]
    pub(super) serial: bool,

    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    /// The image, or root directory, to begin with.
    pub(super) before: PathBuf,

    /// The image, or root directory, to end with.
    pub(super) after: PathBuf,

    /// Show every file, not only those that nothing explains.
    #[arg(long)]
    pub(super) all: bool,

    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(super) format: Format,
}

#[derive(Debug, Args)]
pub(super) struct SubmitArgs {
    /// What is to be done.
    #[arg(value_enum)]
    pub(super) work: Work,

    /// With which version: an id, or `SERIES:NUMBER`.
    pub(super) image: String,

    /// Only patches of this package or source package; may be given several times.
    #[arg(long = "package", value_name = "NAME")]
    pub(super) packages: Vec<String>,

    /// Only patches that close a vulnerability.
    #[arg(long)]
    pub(super) security_only: bool,

    /// The image's application profile, for a proof.
    #[arg(long, value_name = "FILE")]
    pub(super) profile: Option<PathBuf>,

    /// Where the machine is made, for a test.
    #[arg(long, value_enum, default_value_t)]
    pub(super) driver: DriverName,

    /// Follow the job to its end; exit status 1 where nothing good came of it.
    #[arg(long)]
    pub(super) wait: bool,

    #[command(flatten)]
    pub(super) access: Access,
}

/// What the lab does with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Work {
    /// Prove the patches that it lacks.
    Prove,
    /// Make the next version of its series, with the patches that it lacks.
    Bake,
    /// Make a machine from it and scan it; a version that passes may be published.
    Test,
}

#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    /// Where the key is kept.
    #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
    pub(super) data: Option<PathBuf>,
}

/// Forms of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Human,
    /// Everything.
    Json,
}
