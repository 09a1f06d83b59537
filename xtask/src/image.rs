//! `cargo xtask make-image`: bootable Debian images with security patches pending.

use anyhow::{Result, anyhow};
use bootstrap::{Purpose, Recipe, Release};

use crate::system::{ensure_packages, root};

/// Options of `cargo xtask make-image`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Debian release.
    #[arg(value_enum, default_value = "bookworm")]
    release: ReleaseName,
    /// What the image is for.
    #[arg(long, value_enum, default_value = "server")]
    profile: Profile,
    /// Build it again, also where there is one.
    #[arg(long)]
    fresh: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum ReleaseName {
    Bookworm,
    Bullseye,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Profile {
    /// A small web server that boots fast without KVM.
    Minimal,
    /// nginx, PostgreSQL, SSH, and drivers for real machines.
    Server,
    /// What `patchwright drill` makes its virtual machines from.
    Tenant,
    /// What `cargo xtask bench updates` patches.
    SideBySide,
    /// What people work at: SSH, sudo, cron, editors.
    Attended,
}

/// Prints the path of the image, which is made where it is not there.
pub(crate) fn make(arguments: &Arguments) -> Result<()> {
    ensure_packages()?;
    let recipe = Recipe {
        release: match arguments.release {
            ReleaseName::Bookworm => Release::Bookworm,
            ReleaseName::Bullseye => Release::Bullseye,
        },
        purpose: match arguments.profile {
            Profile::Minimal => Purpose::Minimal,
            Profile::Server => Purpose::Server,
            Profile::Tenant => Purpose::Tenant,
            Profile::SideBySide => Purpose::SideBySide,
            Profile::Attended => Purpose::Attended,
        },
    };
    let image = bootstrap::make(recipe, &root().join("target/images"), arguments.fresh);
    let image = image.map_err(|error| match error.help() {
        Some(help) => anyhow!("{error}\nhelp: {help}"),
        None => error.into(),
    })?;
    println!("{}", image.display());
    Ok(())
}
