//! The machine that QEMU is told to be: as little of one as a Debian image needs.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::Timestamp;
use serde_json::json;

use crate::accelerator::Accelerator;
use crate::firmware::Firmware;
use crate::image::Format;
use crate::limits::Limits;

pub(crate) const QEMU: &str = "qemu-system-x86_64";

/// util-linux's; asks the kernel to end the process with its parent, then becomes QEMU.
pub(crate) const KEEPER: &str = "setpriv";

pub(super) const QMP_SOCKET: &str = "qmp.sock";
pub(super) const GUEST_SOCKET: &str = "guest.sock";

/// A disk of the machine.
#[derive(Debug)]
pub(crate) struct Disk<'a> {
    /// The image.
    pub(crate) file: &'a Path,
    /// Its format; never probed.
    pub(crate) format: Format,
    /// The image below an overlay, named here so that no header decides it.
    pub(crate) backing: Option<(&'a Path, Format)>,
    /// Whether the guest may write.
    pub(crate) access: Access,
    /// The serial number that the guest sees.
    pub(crate) serial: &'a str,
}

/// Whether a guest may write to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Read,
    Write,
}

/// How the machine starts.
#[derive(Debug)]
pub(crate) enum Boot<'a> {
    /// The image's kernel, with our addition to its initial RAM filesystem.
    Kernel { kernel: &'a Path, initrd: &'a Path, command_line: &'a str },
    /// The image's own boot loader, which knows nothing of us: no guest program will speak.
    Firmware(&'a Firmware),
}

/// Everything about a machine.
#[derive(Debug)]
pub(crate) struct Hardware<'a> {
    pub(crate) accelerator: Accelerator,
    pub(crate) limits: &'a Limits,
    pub(crate) disks: Vec<Disk<'a>>,
    /// Where the machine's clock begins; now, where not given.
    pub(crate) clock: Option<Timestamp>,
    pub(crate) boot: Boot<'a>,
    pub(crate) network: &'a Network,
    pub(crate) restart: Restart,
}

/// What a machine can reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing: there is no network device.
    #[default]
    None,
    /// What this host reaches, and this host's loopback as 10.0.2.2 (QEMU's user networking). For
    /// machines of one's own making alone.
    Host {
        /// How this host reaches the machine; not at all where there are none.
        doors: Vec<Door>,
    },
}

/// A TCP port of this host's loopback that leads to one of the machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Door {
    /// The port here.
    pub here: u16,
    /// The port there.
    pub there: u16,
}

/// What follows when a system restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Restart {
    /// The machine ends: it may have another kernel, and is started anew by whoever asked for it.
    #[default]
    Ends,
    /// It goes through its firmware again, as a real machine does.
    GoesOn,
}

impl Hardware<'_> {
    pub(super) fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(KEEPER);
        command
            .args(["--pdeathsig", "KILL", "--no-new-privs", "--", QEMU])
            .args(["-name", "patchwright-lab", "-nodefaults", "-no-user-config"])
            // No second program, no other user, no system call that QEMU does not need.
            .args(["-sandbox", SANDBOX])
            .args(["-machine", &self.boot.machine(), "-accel", self.accelerator.argument()])
            .args(["-cpu", self.accelerator.cpu()])
            .args(["-smp", &self.limits.processors.to_string()])
            .args(["-m", &format!("{}M", self.limits.memory_mib)])
            .args(["-nic", &self.network.argument(), "-display", "none", "-vga", "none"])
            .args(["-rtc", &self.clock()])
            .args(["-chardev", &format!("socket,id=qmp,path={QMP_SOCKET},server=on,wait=off")])
            .args(["-mon", "chardev=qmp,mode=control"])
            .args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"])
            .args(["-device", "virtio-rng-pci"])
            .current_dir(directory);
        if self.restart == Restart::Ends {
            command.arg("-no-reboot");
        }
        if matches!(self.boot, Boot::Kernel { .. }) {
            let socket = format!("socket,id=guest,path={GUEST_SOCKET},server=on,wait=off");
            let port = format!("virtserialport,chardev=guest,name={}", guest::PORT);
            command.args(["-device", "virtio-serial-pci", "-chardev", &socket]);
            command.args(["-device", &port]);
        }
        for (number, disk) in self.disks.iter().enumerate() {
            let (node, device) = disk.arguments(number);
            command.args(["-blockdev", &node, "-device", &device]);
        }
        match &self.boot {
            Boot::Kernel { kernel, initrd, command_line } => {
                command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
                command.args(["-append", command_line]);
            }
            Boot::Firmware(Firmware::Bios) => {}
            Boot::Firmware(Firmware::Uefi { code, variables }) => {
                for (name, file, read_only) in [(CODE, code, true), (VARIABLES, variables, false)] {
                    let file = json!({ "driver": "file", "filename": absolute(file) });
                    let node = json!({
                        "node-name": name, "driver": "raw", "read-only": read_only, "file": file,
                    });
                    command.args(["-blockdev", &node.to_string()]);
                }
            }
        }
        command
    }

    /// In UTC, as QEMU reads it.
    fn clock(&self) -> String {
        self.clock.map_or("base=utc".to_owned(), |begins| {
            format!("base={}", begins.strftime("%Y-%m-%dT%H:%M:%S"))
        })
    }
}

impl Network {
    fn argument(&self) -> String {
        let Self::Host { doors } = self else { return "none".to_owned() };
        let mut argument = "user,model=virtio-net-pci,ipv6=off".to_owned();
        for Door { here, there } in doors {
            let _ = write!(argument, ",hostfwd=tcp:127.0.0.1:{here}-:{there}");
        }
        argument
    }
}

/// The flash chips of UEFI: its program, and what it remembers.
const CODE: &str = "code";
const VARIABLES: &str = "variables";

impl Boot<'_> {
    fn machine(&self) -> String {
        let flash = match self {
            Self::Firmware(Firmware::Uefi { .. }) => format!(",pflash0={CODE},pflash1={VARIABLES}"),
            Self::Firmware(Firmware::Bios) | Self::Kernel { .. } => String::new(),
        };
        format!("q35,vmport=off{flash}")
    }
}

const SANDBOX: &str = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny";

impl Disk<'_> {
    /// The block node and the device that shows it. JSON, because QEMU's other syntax gives
    /// commas in a file's name a meaning.
    fn arguments(&self, number: usize) -> (String, String) {
        let read_only = self.access == Access::Read;
        let mut node = node(self.file, self.format, self.backing);
        node["node-name"] = json!(node_name(number));
        node["read-only"] = json!(read_only);
        if !read_only {
            node["discard"] = json!("unmap");
        }
        let mut device = json!({
            "driver": "virtio-blk-pci", "drive": node_name(number), "serial": self.serial,
        });
        if !read_only {
            device["werror"] = json!("stop");
            device["rerror"] = json!("report");
        }
        (node.to_string(), device.to_string())
    }
}

/// What QEMU calls a disk, by its place.
pub(super) fn node_name(number: usize) -> String {
    format!("disk{number}")
}

/// An image as QEMU is told to open it: its format and what lies below are said here, whatever its
/// header says.
pub(crate) fn node(
    file: &Path,
    format: Format,
    backing: Option<(&Path, Format)>,
) -> serde_json::Value {
    // Nothing of a throw-away copy has to survive a power cut.
    let place = |path: &Path| json!({ "driver": "file", "filename": absolute(path), "cache": { "no-flush": true } });
    let mut node = json!({ "driver": format.name(), "file": place(file) });
    if let Some((below, format)) = backing {
        node["backing"] =
            json!({ "driver": format.name(), "file": place(below), "read-only": true });
        if format == Format::Qcow2 {
            node["backing"]["backing"] = json!(null);
        }
    } else if format == Format::Qcow2 {
        node["backing"] = json!(null);
    }
    node
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(limits: &Limits, boot: Boot<'_>, network: &Network) -> Vec<String> {
        let hardware = Hardware {
            accelerator: Accelerator::Tcg,
            limits,
            disks: vec![Disk {
                file: Path::new("/job/overlay,1.qcow2"),
                format: Format::Qcow2,
                backing: Some((Path::new("/images/web.qcow2"), Format::Qcow2)),
                access: Access::Write,
                serial: "root",
            }],
            clock: "2026-11-25T18:00:00Z".parse().ok(),
            boot,
            network,
            restart: Restart::default(),
        };
        let command = hardware.command(Path::new("/job"));
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect()
    }

    fn after<'a>(arguments: &'a [String], name: &str) -> &'a str {
        let place = arguments.iter().position(|argument| argument == name).unwrap();
        arguments[place + 1].as_str()
    }

    #[test]
    fn there_is_no_network_and_no_image_names_another() {
        let boot = Boot::Kernel {
            kernel: Path::new("vmlinuz"),
            initrd: Path::new("initrd"),
            command_line: "root=LABEL=root ro",
        };
        let arguments = arguments(&Limits::default(), boot, &Network::default());

        let after = |name: &str| after(&arguments, name);
        assert_eq!(after("-nic"), "none");
        assert!(arguments.iter().any(|argument| argument == "-no-reboot"));
        assert!(after("-sandbox").starts_with("on,"));
        assert_eq!(after("-rtc"), "base=2026-11-25T18:00:00");
        let node: serde_json::Value = serde_json::from_str(after("-blockdev")).unwrap();
        assert_eq!(node["file"]["filename"], "/job/overlay,1.qcow2");
        assert_eq!(node["backing"]["backing"], serde_json::Value::Null);
        assert!(node["backing"].as_object().unwrap().contains_key("backing"));
    }

    #[test]
    fn doors_open_on_this_hosts_loopback_alone() {
        let doors = vec![Door { here: 40_080, there: 80 }, Door { here: 40_432, there: 5432 }];
        let boot = Boot::Firmware(&Firmware::Bios);
        let arguments = arguments(&Limits::default(), boot, &Network::Host { doors });

        let nic = after(&arguments, "-nic");
        assert!(nic.starts_with("user,"), "{nic}");
        assert!(nic.contains(",hostfwd=tcp:127.0.0.1:40080-:80,"), "{nic}");
        assert!(nic.ends_with(",hostfwd=tcp:127.0.0.1:40432-:5432"), "{nic}");
    }

    #[test]
    fn firmware_boots_what_the_image_brings_and_nothing_of_ours() {
        let uefi = Firmware::Uefi {
            code: PathBuf::from("/usr/share/OVMF/CODE.fd"),
            variables: PathBuf::from("/job/vars,1.fd"),
        };
        let boot = Boot::Firmware(&uefi);
        let arguments = arguments(&Limits::default(), boot, &Network::default());

        assert!(!arguments.iter().any(|argument| argument == "-kernel"));
        assert!(!arguments.iter().any(|argument| argument.contains("virtserialport")));
        assert!(after(&arguments, "-machine").ends_with("pflash0=code,pflash1=variables"));
        let nodes: Vec<serde_json::Value> = arguments
            .windows(2)
            .filter(|pair| pair[0] == "-blockdev")
            .map(|pair| serde_json::from_str(&pair[1]).unwrap())
            .collect();
        let node = |name: &str| nodes.iter().find(|node| node["node-name"] == name).unwrap();
        assert_eq!(node("code")["read-only"], true);
        assert_eq!(node("variables")["file"]["filename"], "/job/vars,1.fd");
        assert_eq!(after(&arguments, "-nic"), "none");
    }
}
