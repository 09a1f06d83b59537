//! What can be asked of `patchwright check`.

use std::path::{Path, PathBuf};

use clap::{Args, Parser as _, ValueEnum};
use domain::check::Scope;
use domain::priority::{AssetFacts, Exposure, HumanImpact, Sourced, SystemImpact};
use jiff::Timestamp;

/// Tell which patches a system, running or stopped, is missing.
///
/// TARGET is the live system (`/`), a root directory, a raw or qcow2 disk image, or a container
/// image (OCI layout or docker-save tar). Nothing of it is run or mounted.
#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// What to check.
    #[arg(default_value = "/")]
    pub(super) target: PathBuf,

    #[command(flatten)]
    pub(super) from: SourceArgs,

    /// Priority policy: default, bod-26-04, ssvc-deployer, fedramp-vdr.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub(super) policy: String,

    /// Exposure of the asset, for policies that ask; assumed `open` where not given.
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Asset")]
    exposure: Option<ExposureWord>,

    /// Mission and safety impact of losing the asset; assumed `high` where not given.
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Asset")]
    human_impact: Option<HumanImpactWord>,

    /// Impact level of the system (FIPS 199); assumed `high` where not given.
    #[arg(long, value_enum, value_name = "LEVEL", help_heading = "Asset")]
    system_impact: Option<SystemImpactWord>,

    /// Only patches that close a vulnerability.
    #[arg(long)]
    security_only: bool,

    /// How to show the result.
    #[arg(long, value_enum, default_value_t = Format::Human)]
    pub(super) format: Format,

    /// Show every patch, not only the first screen.
    #[arg(long)]
    pub(super) all: bool,

    /// Show everything about one package or source package.
    #[arg(long, value_name = "PACKAGE", conflicts_with = "all")]
    pub(super) explain: Option<String>,

    /// Exit with 3 when patches are missing, with 4 when that is unknown.
    #[arg(long)]
    pub(super) exit_code: bool,
}

/// Where it is told from what a system lacks.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct SourceArgs {
    /// Archives to check against in place of the target's own: a sources file (one-line or
    /// deb822) or a directory laid out like /etc/apt.
    #[arg(long, value_name = "PATH")]
    pub(crate) sources: Option<PathBuf>,

    /// Advisory records in OSV format: a directory, .json, .jsonl, .jsonl.gz or .zip, or the URL
    /// of such a file.
    #[arg(long, value_name = "PATH|URL")]
    pub(super) osv: Option<String>,

    /// CISA's catalogue of known exploited vulnerabilities, as JSON, or its URL.
    #[arg(long, value_name = "PATH|URL")]
    pub(super) kev: Option<String>,

    /// Use only what was fetched before.
    #[arg(long)]
    pub(super) offline: bool,

    /// Judge freshness as of TIME (RFC 3339) in place of now.
    #[arg(long, value_name = "TIME")]
    pub(super) at: Option<Timestamp>,

    /// Accept suites without an expiry date of their own up to this age; 120 days for those that
    /// carry updates and 400 for point releases where not given.
    #[arg(long, value_name = "DAYS")]
    pub(super) max_age: Option<u32>,

    /// Where verified state is kept.
    #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
    pub(crate) data: Option<PathBuf>,
}

/// Forms of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Human,
    /// The whole report, stable: docs/check-json.md.
    Json,
    /// CycloneDX 1.6: inventory and vulnerabilities.
    Cyclonedx,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ExposureWord {
    Small,
    Controlled,
    Open,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum HumanImpactWord {
    Low,
    Medium,
    High,
    VeryHigh,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum SystemImpactWord {
    Low,
    Moderate,
    High,
}

/// [`CheckArgs`] with all defaults, as the command line gives them.
#[derive(clap::Parser)]
struct Defaults {
    #[command(flatten)]
    arguments: CheckArgs,
}

impl CheckArgs {
    /// What `patchwright check --data DATA --osv OSV --kev KEV` asks.
    pub(super) fn of_a_fleet(data: &Path, osv: Option<String>, kev: Option<String>) -> Self {
        let Defaults { mut arguments } = Defaults::parse_from(["check"]);
        arguments.from = SourceArgs { data: Some(data.to_owned()), osv, kev, ..arguments.from };
        arguments
    }

    /// What `patchwright check TARGET` asks, with the given sources.
    pub(super) fn of_an_image(target: &Path, from: &SourceArgs, scope: Scope) -> Self {
        let Defaults { mut arguments } = Defaults::parse_from(["check"]);
        (arguments.target, arguments.from) = (target.to_owned(), from.clone());
        arguments.security_only = scope == Scope::SecurityOnly;
        arguments
    }

    /// What the operator says about the asset.
    pub(super) fn asset_facts(&self) -> AssetFacts {
        let exposure = |word| match word {
            ExposureWord::Small => Exposure::Small,
            ExposureWord::Controlled => Exposure::Controlled,
            ExposureWord::Open => Exposure::Open,
        };
        let human_impact = |word| match word {
            HumanImpactWord::Low => HumanImpact::Low,
            HumanImpactWord::Medium => HumanImpact::Medium,
            HumanImpactWord::High => HumanImpact::High,
            HumanImpactWord::VeryHigh => HumanImpact::VeryHigh,
        };
        let system_impact = |word| match word {
            SystemImpactWord::Low => SystemImpact::Low,
            SystemImpactWord::Moderate => SystemImpact::Moderate,
            SystemImpactWord::High => SystemImpact::High,
        };
        let by = "command line";
        AssetFacts {
            exposure: self.exposure.map(|word| Sourced::new(exposure(word), by)),
            human_impact: self.human_impact.map(|word| Sourced::new(human_impact(word), by)),
            system_impact: self.system_impact.map(|word| Sourced::new(system_impact(word), by)),
        }
    }

    /// Which findings are asked for.
    pub(super) fn scope(&self) -> Scope {
        if self.security_only { Scope::SecurityOnly } else { Scope::Everything }
    }
}
