//! In the initial RAM filesystem, after the image's root is mounted and before it is entered.
//!
//! Only memory is written: `/run` is a tmpfs that initramfs-tools moves into the real root, and
//! systemd reads units there as it reads those on the disk.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use guest::{HOME, SHELL, STILL, UNIT};
use rustix::mount::{MountFlags, mount};

/// Where the lab's addition to the initial RAM filesystem has the program.
const PROGRAM: &str = "/patchwright/guest";

const UNIT_TEXT: &str = "\
[Unit]
Description=Guest program of the Patchwright lab

[Service]
ExecStart=/run/patchwright/guest serve
KillMode=process
OOMScoreAdjust=-1000
TasksMax=infinity
";

/// As systemd's own `debug-shell.service`.
const SHELL_TEXT: &str = "\
[Unit]
Description=Shell of the Patchwright lab
After=multi-user.target

[Service]
Type=idle
ExecStart=/run/patchwright/guest shell
ExecStopPost=/run/patchwright/guest off
StandardInput=tty-force
StandardOutput=inherit
StandardError=inherit
TTYPath=/dev/ttyS0
TTYReset=yes
TTYVHangup=yes
KillMode=process
IgnoreSIGPIPE=no
SendSIGHUP=yes
TasksMax=infinity
";

/// Who else would ask for a login on the console.
const GETTY: &str = "/run/systemd/system/serial-getty@ttyS0.service";

pub(crate) fn stage() -> Result<(), String> {
    let failed = |what: &str, error: std::io::Error| format!("{what}: {error}");
    fs::create_dir_all(HOME).map_err(|error| failed(HOME, error))?;
    // A filesystem of its own, because Debian mounts `/run` noexec.
    let options = c"mode=0700,size=64m";
    mount("patchwright", HOME, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options)
        .map_err(|error| failed("cannot mount a tmpfs", error.into()))?;
    let program = format!("{HOME}/guest");
    fs::copy(PROGRAM, &program).map_err(|error| failed(&program, error))?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))
        .map_err(|error| failed(&program, error))?;
    // Without a service manager there must be no trace of one: packages' scripts look for it.
    let command_line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let says = |word: &str| command_line.split_whitespace().any(|other| other == word);
    if says(STILL) {
        return Ok(());
    }
    let wants = "/run/systemd/system/multi-user.target.wants";
    fs::create_dir_all(wants).map_err(|error| failed(wants, error))?;
    let unit = format!("/run/systemd/system/{UNIT}");
    let text = if says(SHELL) { SHELL_TEXT } else { UNIT_TEXT };
    fs::write(&unit, text).map_err(|error| failed(&unit, error))?;
    if says(SHELL) {
        symlink("/dev/null", GETTY).map_err(|error| failed(GETTY, error))?;
    }
    symlink(format!("../{UNIT}"), format!("{wants}/{UNIT}")).map_err(|error| failed(wants, error))
}
