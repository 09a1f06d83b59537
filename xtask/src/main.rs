//! Developer commands: `cargo xtask COMMAND`.

mod bench;
mod fuzz;
mod image;
mod programs;
mod system;
mod test;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Developer commands of Patchwright")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install what the tests need, then run every test.
    Test(test::Arguments),
    /// Format, lints, dependency policy.
    Lint,
    /// Measure, side by side with peers.
    Bench(bench::Arguments),
    /// Run fuzz targets for a while each.
    Fuzz(fuzz::Arguments),
    /// Build a bootable Debian image with patches pending; prints its path.
    MakeImage(image::Arguments),
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Test(arguments) => test::run_tests(&arguments),
        Command::Lint => test::lint(),
        Command::Bench(arguments) => bench::run_benches(&arguments),
        Command::Fuzz(arguments) => fuzz::run_targets(&arguments),
        Command::MakeImage(arguments) => image::make(&arguments),
    }
}
