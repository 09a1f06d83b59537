//! `patchwright-agent`: the agent as a program of its own, small enough for every host.

use std::process::ExitCode;

use clap::Parser as _;
use tikv_jemallocator::Jemalloc;

/// Gives back what a look needed once the agent rests; the C library's keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Tells the control plane what this host has installed.
#[derive(clap::Parser)]
#[command(name = "patchwright-agent", version, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    agent: agent::AgentArgs,
}

fn main() -> ExitCode {
    agent::main(&Arguments::parse().agent)
}
