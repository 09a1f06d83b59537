//! The first process of a system that stands still: its disk is there, none of its services runs.
//!
//! An image is altered like this when it is baked. Nothing that only a running machine makes
//! (keys, identities, logs, data of services) gets into it, and the same packages give the same
//! files.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use probes::command;
use rustix::mount::{MountFlags, mount, mount_remount, unmount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, wait};
use rustix::system::{RebootCommand, reboot};

/// Services that a package's script started in spite of all go within this time.
const GOING: Duration = Duration::from_secs(5);

/// Starts the worker, buries orphans until the worker ends, and brings the machine to rest.
pub(crate) fn first_process() -> Result<(), String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let worker = Command::new(program)
        .arg("still")
        .spawn()
        .map_err(|error| format!("cannot start the worker: {error}"))?;
    let worker = Pid::from_raw(worker.id().cast_signed());
    let status = loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((process, status))) if Some(process) == worker => break status,
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("cannot wait for the worker: {error}")),
        }
    };
    if status.exit_status() != Some(0) {
        // The first process must not end; the kernel's panic is what the lab sees.
        return Err("the worker failed".to_owned());
    }
    rest()?;
    reboot(RebootCommand::PowerOff).map_err(|error| format!("cannot power off: {error}"))
}

/// What the service manager would have done before any service starts.
pub(crate) fn prepare() -> Result<(), String> {
    let failed = |what: &str| {
        let what = what.to_owned();
        move |error: rustix::io::Errno| format!("cannot mount {what}: {error}")
    };
    mount_remount("/", MountFlags::empty(), c"").map_err(failed("/"))?;
    for (kind, place, options) in
        [("devpts", "/dev/pts", c"mode=620,gid=5"), ("tmpfs", "/dev/shm", c"mode=1777")]
    {
        fs::create_dir_all(place).map_err(|error| format!("`{place}`: {error}"))?;
        mount(kind, place, kind, MountFlags::NOSUID, options).map_err(failed(place))?;
    }
    let limit = Duration::from_secs(120);
    let others = command::run(&["mount", "-a", "-O", "no_netdev"], limit)?;
    if others.exit != Some(0) {
        return Err(format!("cannot mount what /etc/fstab names: {}", others.text.trim()));
    }
    // udev would have done it; a kernel that has it built in says that there is no such module.
    command::run(&["modprobe", "--quiet", "virtio_console"], limit).map(drop)
}

/// Ends what still runs, and leaves every filesystem whole.
fn rest() -> Result<(), String> {
    for signal in [Signal::TERM, Signal::KILL] {
        signal_everybody(signal);
        let deadline = Instant::now() + GOING;
        while Instant::now() < deadline {
            match wait(WaitOptions::NOHANG) {
                Err(rustix::io::Errno::CHILD) => break,
                Ok(Some(_)) => {}
                _ => thread::sleep(Duration::from_millis(20)),
            }
        }
    }
    rustix::fs::sync();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut places: Vec<&str> = mounts
        .lines()
        .filter(|line| line.split_once(" - ").is_some_and(|(_, of)| of.contains(" /dev/")))
        .filter_map(|line| line.split(' ').nth(4))
        .filter(|place| *place != "/")
        .collect();
    // Inner ones were mounted last.
    places.reverse();
    for place in places {
        unmount(place, rustix::mount::UnmountFlags::empty())
            .map_err(|error| format!("cannot unmount `{place}`: {error}"))?;
    }
    mount_remount("/", MountFlags::RDONLY, c"")
        .map_err(|error| format!("something still writes to the disk: {error}"))?;
    rustix::fs::sync();
    Ok(())
}

/// Every process but this one; threads of the kernel do not mind.
fn signal_everybody(signal: Signal) {
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let number = entry.file_name().to_string_lossy().parse().ok().and_then(Pid::from_raw);
        if let Some(process) = number.filter(|process| *process != Pid::INIT) {
            let _ = kill_process(process, signal);
        }
    }
}
