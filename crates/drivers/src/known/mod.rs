//! Snapshots of machines that somebody else runs with QEMU on this host: inside their qcow2 disk.
//!
//! While a machine runs, its QEMU is asked (QMP); while it is off, qemu-img does it, and QEMU's own
//! lock on the file keeps the two apart. Going back needs the disk at rest: the machine is asked to
//! shut down, and whoever runs it starts it again.

mod qmp;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use self::qmp::{Qmp, is_gone};
use crate::clock::Clock;
use crate::driver::DriverError;
use crate::program::{self, ProgramError};
use crate::snapshots::{SnapshotName, Snapshots};

const QEMU_IMG: &str = "qemu-img";
/// Counting what a large disk uses takes a while.
const PATIENCE: Duration = Duration::from_secs(600);

const PACE: Duration = Duration::from_millis(250);
/// A system that has just come up may not have been listening yet.
const PRESS_AGAIN: Duration = Duration::from_secs(15);

/// What qemu-img says of a disk that a QEMU has open.
const LOCKED: &str = "lock";

/// A machine that somebody else runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownMachine {
    /// What it is called.
    pub name: String,
    /// Its only writable disk, qcow2.
    pub disk: PathBuf,
    /// Where its QEMU listens for us (`-qmp unix:PATH,server=on,wait=off`). While the machine is
    /// off, nobody does.
    pub qmp: PathBuf,
}

/// Why a machine on this host was not kept or brought back.
#[derive(Debug, thiserror::Error)]
pub enum KnownMachineError {
    /// Nobody told of such a machine.
    #[error("there is no machine `{machine}`")]
    Unknown {
        /// The machine.
        machine: String,
    },
    /// Its QEMU does not answer or does not do it.
    #[error("QEMU of `{machine}`, asked at `{}`: {error}", socket.display())]
    Qmp {
        /// The machine.
        machine: String,
        /// Where it was asked.
        socket: PathBuf,
        /// What it said.
        #[source]
        error: io::Error,
    },
    /// qemu-img does not do it.
    #[error("qemu-img cannot do it with `{}`: {message}", disk.display())]
    Disk {
        /// The disk.
        disk: PathBuf,
        /// What it said.
        message: String,
    },
    /// The machine that listens has no such disk.
    #[error("the machine that listens at `{}` does not have `{}` as a qcow2 disk", socket.display(), disk.display())]
    OtherMachine {
        /// Where it was asked.
        socket: PathBuf,
        /// The disk.
        disk: PathBuf,
    },
    /// It writes to more than the one disk.
    #[error("`{machine}` writes to another disk too: `{device}`")]
    OtherDisk {
        /// The machine.
        machine: String,
        /// What QEMU calls it.
        device: String,
    },
    /// There is no such snapshot.
    #[error("`{machine}` has no snapshot `{snapshot}`")]
    NoSnapshot {
        /// The machine.
        machine: String,
        /// The snapshot.
        snapshot: SnapshotName,
    },
    /// It did not shut down, or was started again.
    #[error("`{machine}` is not off {seconds} s after its power button was pressed")]
    StillRuns {
        /// The machine.
        machine: String,
        /// The limit.
        seconds: u64,
    },
}

impl KnownMachineError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Unknown { .. } => Some("tell its name, its disk and its QMP socket first"),
            Self::Qmp { .. } => {
                Some("QEMU speaks with one client at a time; give this one a QMP socket of its own")
            }
            Self::Disk { .. } => Some("`qemu-img info -U` shows the disk; it must be qcow2"),
            Self::OtherMachine { .. } => Some("is the socket that of another machine?"),
            Self::OtherDisk { .. } => {
                Some("keep it by other means: disks that are not kept at one instant do not fit")
            }
            Self::NoSnapshot { .. } => None,
            Self::StillRuns { .. } => Some(
                "it must heed its power button and its QEMU must end; or switch it off, keep it off, and ask again",
            ),
        }
    }
}

/// Machines on this host that somebody else runs.
#[derive(Debug)]
pub struct KnownMachines {
    machines: BTreeMap<String, KnownMachine>,
    shutdown: Duration,
    clock: Arc<dyn Clock>,
}

impl KnownMachines {
    /// Tells of machines, and how long they may take to shut down.
    pub fn new(
        machines: impl IntoIterator<Item = KnownMachine>,
        shutdown: Duration,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let machines = machines.into_iter().map(|machine| (machine.name.clone(), machine));
        Self { machines: machines.collect(), shutdown, clock }
    }

    fn machine(&self, name: &str) -> Result<&KnownMachine, KnownMachineError> {
        let unknown = || KnownMachineError::Unknown { machine: name.chars().take(255).collect() };
        self.machines.get(name).ok_or_else(unknown)
    }

    fn go_back(
        &self,
        machine: &KnownMachine,
        snapshot: &SnapshotName,
    ) -> Result<(), KnownMachineError> {
        if !machine.names()?.contains(snapshot) {
            return Err(machine.no_snapshot(snapshot));
        }
        let began = self.clock.now();
        let mut pressed = None;
        loop {
            let since = self.clock.now().saturating_sub(began);
            if let Some(mut qmp) = machine.connect()? {
                if pressed.is_none_or(|at| since.saturating_sub(at) >= PRESS_AGAIN) {
                    machine.ask(&mut qmp, "system_powerdown", &json!({}))?;
                    pressed = Some(since);
                }
            } else {
                match machine.qemu_img(&["snapshot", "-q", "-a", snapshot.as_str()]) {
                    // QEMU does not listen any more and is about to close it.
                    Err(KnownMachineError::Disk { message, .. }) if message.contains(LOCKED) => {}
                    other => return other.map(|_| ()),
                }
            }
            if since >= self.shutdown {
                return Err(KnownMachineError::StillRuns {
                    machine: machine.name.clone(),
                    seconds: self.shutdown.as_secs(),
                });
            }
            self.clock.wait(PACE);
        }
    }
}

impl Snapshots for KnownMachines {
    fn name(&self) -> &'static str {
        "local"
    }

    fn take(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError> {
        let machine = self.machine(machine)?;
        Ok(machine.alter(snapshot, Wish::There)?)
    }

    /// The machine is asked to shut down and stays off: whoever runs it starts it again.
    fn revert(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError> {
        let machine = self.machine(machine)?;
        Ok(self.go_back(machine, snapshot)?)
    }

    fn remove(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError> {
        let machine = self.machine(machine)?;
        Ok(machine.alter(snapshot, Wish::Gone)?)
    }

    fn list(&self, machine: &str) -> Result<Vec<SnapshotName>, DriverError> {
        Ok(self.machine(machine)?.names()?)
    }
}

/// What is to become of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    There,
    Gone,
}

/// The disk of a machine that runs, as its QEMU tells of it.
#[derive(Debug, PartialEq, Eq)]
struct Inserted {
    /// What QEMU calls it.
    node: String,
    snapshots: Vec<SnapshotName>,
}

impl KnownMachine {
    fn connect(&self) -> Result<Option<Qmp>, KnownMachineError> {
        Qmp::connect(&self.qmp).map_err(|error| self.failed(error))
    }

    fn names(&self) -> Result<Vec<SnapshotName>, KnownMachineError> {
        if let Some(mut qmp) = self.connect()? {
            let disks = self.ask(&mut qmp, "query-block", &json!({}))?;
            return Ok(self.find(&disks)?.snapshots);
        }
        let told = self.qemu_img(&["info", "--output=json"])?;
        let told: Value = serde_json::from_str(&told).map_err(|error| KnownMachineError::Disk {
            disk: self.disk.clone(),
            message: error.to_string(),
        })?;
        Ok(names(&told["snapshots"]))
    }

    /// Makes a snapshot or gives one up, unless it is so already.
    fn alter(&self, snapshot: &SnapshotName, wish: Wish) -> Result<(), KnownMachineError> {
        let is_so = |names: &[SnapshotName]| names.contains(snapshot) == (wish == Wish::There);
        let Some(mut qmp) = self.connect()? else {
            if is_so(&self.names()?) {
                return Ok(());
            }
            let what = if wish == Wish::There { "-c" } else { "-d" };
            self.qemu_img(&["snapshot", "-q", what, snapshot.as_str()])?;
            return Ok(());
        };
        let disks = self.ask(&mut qmp, "query-block", &json!({}))?;
        let disk = self.find(&disks)?;
        if is_so(&disk.snapshots) {
            return Ok(());
        }
        let command = match wish {
            Wish::There => {
                if let Some(device) = self.others(&disks) {
                    return Err(KnownMachineError::OtherDisk {
                        machine: self.name.clone(),
                        device,
                    });
                }
                "blockdev-snapshot-internal-sync"
            }
            Wish::Gone => "blockdev-snapshot-delete-internal-sync",
        };
        let arguments = json!({ "device": disk.node, "name": snapshot.as_str() });
        self.ask(&mut qmp, command, &arguments)?;
        Ok(())
    }

    fn ask(
        &self,
        qmp: &mut Qmp,
        command: &str,
        arguments: &Value,
    ) -> Result<Value, KnownMachineError> {
        match qmp.ask(command, arguments) {
            // It was told to go, and went.
            Err(error) if is_gone(&error) && command == "system_powerdown" => Ok(Value::Null),
            other => other.map_err(|error| self.failed(error)),
        }
    }

    /// Our disk among those that `query-block` tells of.
    fn find(&self, disks: &Value) -> Result<Inserted, KnownMachineError> {
        let other = || KnownMachineError::OtherMachine {
            socket: self.qmp.clone(),
            disk: self.disk.clone(),
        };
        let disk = writable(disks).find(|disk| self.is_it(disk)).ok_or_else(other)?;
        let name = |name: Option<&str>| name.filter(|it| !it.is_empty()).map(str::to_owned);
        let node = name(disk["inserted"]["node-name"].as_str());
        let node = node.or_else(|| name(disk["device"].as_str())).ok_or_else(other)?;
        Ok(Inserted { node, snapshots: names(&disk["inserted"]["image"]["snapshots"]) })
    }

    fn is_it(&self, disk: &Value) -> bool {
        let inserted = &disk["inserted"];
        inserted["drv"] == "qcow2"
            && inserted["file"].as_str().is_some_and(|file| is_same(&self.disk, file))
    }

    /// A disk that a snapshot would not keep. What UEFI remembers is none.
    fn others(&self, disks: &Value) -> Option<String> {
        let other = writable(disks).find(|disk| {
            let place = disk["qdev"].as_str().unwrap_or_default();
            let device = disk["device"].as_str().unwrap_or_default();
            !self.is_it(disk)
                && !place.starts_with("/machine/system.flash")
                && !device.starts_with("pflash")
        })?;
        Some(other["inserted"]["file"].as_str().unwrap_or("without a name").to_owned())
    }

    /// Runs qemu-img on the disk, as qcow2 whatever is in it.
    fn qemu_img(&self, arguments: &[&str]) -> Result<String, KnownMachineError> {
        let failed = |message| KnownMachineError::Disk { disk: self.disk.clone(), message };
        let Some(disk) = self.disk.to_str() else {
            return Err(failed("its path is not UTF-8".to_owned()));
        };
        let disk = disk.replace(',', ",,");
        let mut command = Command::new(QEMU_IMG);
        command.args(arguments).arg("--image-opts");
        command.arg(format!("driver=qcow2,file.driver=file,file.filename={disk}"));
        program::run(&mut command, None, PATIENCE).map_err(|error| match error {
            ProgramError::Start(error) => failed(format!("it cannot be run: {error}")),
            ProgramError::Hangs => failed(format!("no end within {} s", PATIENCE.as_secs())),
            ProgramError::Failed(message) => failed(message),
        })
    }

    fn failed(&self, error: io::Error) -> KnownMachineError {
        KnownMachineError::Qmp { machine: self.name.clone(), socket: self.qmp.clone(), error }
    }

    fn no_snapshot(&self, snapshot: &SnapshotName) -> KnownMachineError {
        KnownMachineError::NoSnapshot { machine: self.name.clone(), snapshot: snapshot.clone() }
    }
}

fn writable(disks: &Value) -> impl Iterator<Item = &Value> {
    let disks = disks.as_array().map(Vec::as_slice).unwrap_or_default();
    disks.iter().filter(|disk| disk["inserted"]["ro"] == false)
}

/// The names of ours among the snapshots of a disk.
fn names(snapshots: &Value) -> Vec<SnapshotName> {
    let snapshots = snapshots.as_array().map(Vec::as_slice).unwrap_or_default();
    snapshots.iter().filter_map(|it| it["name"].as_str()?.parse().ok()).collect()
}

/// Whether QEMU's name of a file, also one that it made up (`json:`), is this file.
fn is_same(disk: &Path, told: &str) -> bool {
    let told = match told.strip_prefix("json:") {
        Some(options) => {
            let options = serde_json::from_str::<Value>(options).unwrap_or_default();
            let name = options["file"]["filename"].as_str();
            name.or_else(|| options["file.filename"].as_str()).unwrap_or_default().to_owned()
        }
        None => told.to_owned(),
    };
    let identity = |path: &Path| fs::metadata(path).ok().map(|it| (it.dev(), it.ino()));
    identity(disk).is_some_and(|disk| identity(Path::new(&told)) == Some(disk))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(place: &Path) -> KnownMachine {
        let disk = place.join("disk,1.qcow2");
        fs::write(&disk, "").unwrap();
        KnownMachine { name: "web".to_owned(), disk, qmp: place.join("qmp") }
    }

    fn disk(node: &str, file: &str, snapshots: &[&str]) -> Value {
        let snapshots: Vec<_> = snapshots.iter().map(|name| json!({ "name": name })).collect();
        json!({
            "device": "", "qdev": "/machine/peripheral/disk0/virtio-backend",
            "inserted": {
                "ro": false, "drv": "qcow2", "node-name": node, "file": file,
                "image": { "snapshots": snapshots },
            },
        })
    }

    #[test]
    fn the_machines_disk_is_found_by_what_it_is() {
        let place = tempfile::tempdir().unwrap();
        let machine = machine(place.path());
        let other = place.path().join("other");
        fs::write(&other, "").unwrap();
        let made_up = format!("json:{}", json!({ "file": { "filename": machine.disk } }));
        let disks = json!([
            disk("a", other.to_str().unwrap(), &[]),
            disk("b", &made_up, &["patchwright-snp_1", "theirs"]),
        ]);

        let found = machine.find(&disks).unwrap();

        let name = SnapshotName::new("1").unwrap();
        assert_eq!(found, Inserted { node: "b".to_owned(), snapshots: vec![name] });
        assert_eq!(machine.others(&disks).as_deref(), other.to_str());
        let refused = machine.find(&json!([disks[0]])).unwrap_err();
        assert!(matches!(refused, KnownMachineError::OtherMachine { .. }), "{refused}");
    }

    #[test]
    fn what_uefi_remembers_and_what_is_only_read_is_no_other_disk() {
        let place = tempfile::tempdir().unwrap();
        let machine = machine(place.path());
        let mut only_read = disk("c", "/cd.iso", &[]);
        only_read["inserted"]["ro"] = json!(true);
        let mut flash = disk("d", "/vars.fd", &[]);
        flash["qdev"] = json!("/machine/system.flash1");

        let disks = json!([only_read, flash, { "device": "floppy0" }]);

        assert_eq!(machine.others(&disks), None);
    }
}
