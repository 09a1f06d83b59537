//! Where machines live that snapshots can be taken of, as the file of `up --places` says.
//!
//! ```toml
//! [rack-1]
//! libvirt = "qemu+ssh://patchwright@rack-1.example.org/system"
//!
//! [desk]                                # QEMU started by hand or by a unit
//! [desk.machines.acme-web-1]
//! disk = "/srv/vm/acme-web-1.qcow2"
//! qmp = "/run/vm/acme-web-1.qmp"
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use domain::cloud::SnapshotId;
use drivers::{
    DriverError, Hypervisor, KnownMachine, KnownMachines, SnapshotName, Snapshots, SystemClock,
};
use serde::Deserialize;
use store::Placement;

use crate::failure::helped;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// How long a machine may take to switch itself off.
const SHUTDOWN: Duration = Duration::from_secs(120);

const SHOWN: &str = "docs/drivers.md shows such a file";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlaceTable {
    libvirt: Option<String>,
    #[serde(default)]
    machines: BTreeMap<String, MachineTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MachineTable {
    disk: PathBuf,
    qmp: PathBuf,
}

/// The places by their names.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeMap<String, Arc<dyn Snapshots>>);

impl Places {
    /// Reads the file; none means no place.
    pub(crate) fn read(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let attempt = || format!("cannot use the places' file `{}`", path.display());
        let length = fs::metadata(path).with_context(attempt)?.len();
        anyhow::ensure!(length <= LARGEST, "the places' file `{}` is too long", path.display());
        let text = fs::read_to_string(path).with_context(attempt)?;
        Self::parse(&text).map_err(|error| error.context(attempt()))
    }

    fn parse(text: &str) -> Result<Self> {
        let tables: BTreeMap<String, PlaceTable> = toml::from_str(text)
            .map_err(|error| helped(anyhow!("{}", error.to_string().trim()), SHOWN))?;
        let places = tables.into_iter().map(|(name, table)| {
            let place = open(table).with_context(|| format!("cannot use the place `{name}`"))?;
            Ok((name, place))
        });
        Ok(Self(places.collect::<Result<_>>()?))
    }

    fn at(&self, at: &Placement, snapshot: SnapshotId, act: Act) -> Result<(), String> {
        let place = self.0.get(&at.place).ok_or_else(|| {
            format!("this control plane knows no place `{}` (`up --places`)", at.place)
        })?;
        let id = snapshot.to_string();
        let name = SnapshotName::new(id.rsplit('_').next().unwrap_or(&id))
            .map_err(|error| error.to_string())?;
        act(&**place, &at.machine, &name).map_err(|error| match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        })
    }
}

type Act = fn(&dyn Snapshots, &str, &SnapshotName) -> Result<(), DriverError>;

impl server::Places for Places {
    fn take(&self, at: &Placement, snapshot: SnapshotId) -> Result<(), String> {
        self.at(at, snapshot, |place, machine, name| place.take(machine, name))
    }

    fn bring_back(&self, at: &Placement, snapshot: SnapshotId) -> Result<(), String> {
        self.at(at, snapshot, |place, machine, name| place.revert(machine, name))
    }

    fn remove(&self, at: &Placement, snapshot: SnapshotId) -> Result<(), String> {
        self.at(at, snapshot, |place, machine, name| place.remove(machine, name))
    }
}

fn open(table: PlaceTable) -> Result<Arc<dyn Snapshots>> {
    let clock = Arc::new(SystemClock::default());
    match (table.libvirt, table.machines) {
        (Some(uri), machines) if machines.is_empty() => {
            let opened = Hypervisor::open(&uri, clock);
            let opened = opened.map_err(|error| match error.help() {
                Some(help) => helped(error, help),
                None => error.into(),
            })?;
            Ok(Arc::new(opened))
        }
        (None, machines) if !machines.is_empty() => {
            let machines = machines
                .into_iter()
                .map(|(name, MachineTable { disk, qmp })| KnownMachine { name, disk, qmp });
            Ok(Arc::new(KnownMachines::new(machines, SHUTDOWN, clock)))
        }
        _ => Err(helped(anyhow!("it has to have either `libvirt` or `machines`"), SHOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_hypervisor_or_machines() {
        let places = Places::parse(
            "[rack-1]\nlibvirt = \"qemu:///system\"\n\
             [desk.machines.web]\ndisk = \"/srv/web.qcow2\"\nqmp = \"/run/web.qmp\"\n",
        )
        .unwrap();

        let names: Vec<_> = places.0.iter().map(|(name, it)| (name.as_str(), it.name())).collect();
        assert_eq!(names.iter().map(|it| it.0).collect::<Vec<_>>(), ["desk", "rack-1"]);
        for wrong in [
            "[rack-1]\n",
            "[rack-1]\nlibvirt = \"-x\"\n",
            "[rack-1]\nuri = \"qemu:///system\"\n",
            "[a]\nlibvirt = \"qemu:///system\"\n[a.machines.b]\ndisk = \"/x\"\nqmp = \"/y\"\n",
        ] {
            assert!(Places::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_that_nobody_knows_is_named() {
        let at = Placement { place: "rack-9".to_owned(), machine: "web".to_owned() };
        let snapshot = SnapshotId::of_content([7; 16]);

        let refused = server::Places::take(&Places::default(), &at, snapshot).unwrap_err();

        assert!(refused.contains("rack-9") && refused.contains("--places"), "{refused}");
    }
}
