//! The program inside the lab's virtual machines.
//!
//! ```text
//! stage   in the initial RAM filesystem: puts the program and its unit into memory below /run
//! serve   as that unit: answers the lab's requests, one after the other
//! (none)  as the first process, in place of the image's own: the same, with the system at rest
//! ```
//!
//! It is one static binary because the images know nothing of it: it must run on any C library,
//! or on none. It runs as root inside the guest and is never on the guest's disk.

mod generalise;
mod install;
mod picture;
mod port;
mod stage;
mod still;
mod walk;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};
use std::time::Duration;

use guest::{Hello, Message, PROTOCOL, Request, Settled};
use probes::command;

fn main() -> ExitCode {
    // What the kernel hands to the first process is not meant for us.
    let is_first = std::process::id() == 1;
    let done = match std::env::args().nth(1).as_deref() {
        _ if is_first => still::first_process(),
        Some("stage") => stage::stage(),
        Some("serve") => serve(System::Runs),
        Some("shell") => Err(shell()),
        Some("off") => command::run(&["systemctl", "--no-block", "poweroff"], ORDER).map(drop),
        Some("still") => still::prepare().and_then(|()| serve(System::Still)),
        _ => Err("usage: patchwright-guest stage|serve".to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("patchwright-guest: {reason}");
            ExitCode::FAILURE
        }
    }
}

/// Orders to systemd are taken within this time.
const ORDER: Duration = Duration::from_secs(60);

/// Becomes the image's shell; says why not, where it does not.
fn shell() -> String {
    let shells = ["/bin/bash", "/bin/sh"].map(|shell| {
        let mut command = Command::new(shell);
        let error = command.arg("-l").env("HOME", "/root").env("TERM", "xterm").exec();
        format!("`{shell}`: {error}")
    });
    shells.join("; ")
}

/// Whether the image's services run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum System {
    Runs,
    /// This program stands in place of its service manager.
    Still,
}

fn serve(system: System) -> Result<(), String> {
    let mut port = port::Port::open()?;
    port.say(&Message::Hello(Hello {
        protocol: PROTOCOL,
        boot_id: picture::boot_id(),
        uptime_ms: picture::uptime_ms(),
    }))?;
    loop {
        let request = port.hear()?;
        let (answer, leave) = match request {
            Request::Settle { seconds } => (Message::Settled(settle(seconds)), None),
            Request::Picture(request) => {
                (Message::Picture(Box::new(picture::take(&request))), None)
            }
            Request::Install(request) => (
                install::install(&request, system)
                    .map_or_else(|reason| Message::Failed { reason }, Message::Installed),
                None,
            ),
            Request::Generalise(request) => {
                (Message::Generalised(generalise::generalise(&request)), None)
            }
            Request::Reboot => (Message::Going, Some("reboot")),
            Request::PowerOff => (Message::Going, Some("poweroff")),
        };
        port.say(&answer)?;
        if let Some(verb) = leave {
            // The first process brings everything to rest.
            if system == System::Still {
                return Ok(());
            }
            // `--no-block`: this unit is stopped by what it asks for.
            command::run(&["systemctl", "--no-block", verb], ORDER)?;
        }
    }
}

/// Waits until nothing is left to start.
fn settle(seconds: u64) -> Settled {
    let limit = Duration::from_secs(seconds);
    let waited = command::run(&["systemctl", "is-system-running", "--wait"], limit);
    let state = match waited {
        Ok(output) if !output.timed_out => output.text.trim().to_owned(),
        _ => "starting".to_owned(),
    };
    let jobs = command::run(&["systemctl", "list-jobs", "--no-legend"], Duration::from_secs(20));
    Settled {
        state,
        jobs: jobs.map(|output| output.text).unwrap_or_default(),
        uptime_ms: picture::uptime_ms(),
    }
}
