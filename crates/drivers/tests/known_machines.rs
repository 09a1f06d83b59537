//! Snapshots inside the disk of a QEMU that is not ours.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use drivers::{
    DriverError, KnownMachine, KnownMachineError, KnownMachines, SnapshotName, Snapshots as _,
    SystemClock,
};
use scratch::Scratch;
use support::{empty, run, wait_until};

/// Real mode: says so when it is ready, waits for the power button and switches itself off. `SeaBIOS` puts the power
/// management of QEMU's `pc` at 0x600 (ACPI 4.8.3: status, enable, control).
const HEEDS_BUTTON: [u8; 34] = [
    0xBA, 0x02, 0x06, // mov dx, 0x602
    0xB8, 0x00, 0x01, // mov ax, PWRBTN_EN
    0xEF, // out dx, ax
    0xBA, 0xF8, 0x03, // mov dx, 0x3F8
    0xB0, 0x2E, // mov al, '.'
    0xEE, // out dx, al
    0xBA, 0x00, 0x06, // mov dx, 0x600
    0xFB, // wait: sti
    0xF4, // hlt
    0xED, // in ax, dx
    0xF6, 0xC4, 0x01, // test ah, PWRBTN_STS
    0x74, 0xF8, // jz wait
    0xBA, 0x04, 0x06, // mov dx, 0x604
    0xB8, 0x00, 0x20, // mov ax, SLP_EN
    0xEF, // out dx, ax
    0xF4, // end: hlt
    0xEB, 0xFD, // jmp end
];

/// Real mode: stands still.
const HEEDS_NOTHING: [u8; 4] = [0xFA, 0xF4, 0xEB, 0xFC];

struct Tenant {
    machine: KnownMachine,
    qemu: Option<Child>,
    machines: KnownMachines,
    /// Gone when QEMU has ended.
    _place: Scratch,
}

impl Tenant {
    fn new(place: &str, code: &[u8], shutdown: Duration) -> Self {
        let place = empty(place);
        let raw = place.join("raw");
        let mut content = code.to_vec();
        content.resize(510, 0);
        content.extend([0x55, 0xAA]);
        content.resize(8 << 20, 0);
        fs::write(&raw, content).unwrap();
        let disk = place.join("disk, 1.qcow2");
        run(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&raw).arg(&disk));
        let machine = KnownMachine { name: "web".to_owned(), disk, qmp: place.join("qmp") };
        let clock = Arc::new(SystemClock::default());
        let machines = KnownMachines::new([machine.clone()], shutdown, clock);
        Self { machine, qemu: None, machines, _place: place }
    }

    /// Starts it as its owner would, with more disks where there are any.
    fn start(&mut self, more: &[&str]) {
        let _ = fs::remove_file(&self.machine.qmp);
        let _ = fs::remove_file(self.serial());
        let node = serde_json::json!({
            "driver": "qcow2", "node-name": "root",
            "file": { "driver": "file", "filename": self.machine.disk },
        });
        // Addresses of sockets are short.
        let place = self.machine.qmp.parent().unwrap();
        let child = Command::new("qemu-system-x86_64")
            .args(["-machine", "pc", "-accel", "tcg", "-m", "16", "-display", "none"])
            .args(["-nodefaults", "-vga", "none", "-serial", "file:serial"])
            .args(["-qmp", "unix:qmp,server=on,wait=off"])
            .args(["-blockdev", &node.to_string()])
            .args(["-device", "virtio-blk-pci,drive=root,id=root"])
            .args(more)
            .current_dir(place)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        self.qemu = Some(child);
        wait_until("QEMU listens", || self.machine.qmp.exists());
    }

    fn serial(&self) -> PathBuf {
        self.machine.qmp.with_file_name("serial")
    }

    fn wait_until_ready(&self) {
        let said = || fs::read(self.serial()).unwrap_or_default();
        wait_until("the machine is ready", || said().starts_with(b"."));
    }

    fn end(&mut self) {
        if let Some(mut qemu) = self.qemu.take() {
            let _ = qemu.kill();
            qemu.wait().unwrap();
        }
    }

    /// Only while it is off: a QEMU that runs is not ours to write with.
    fn io(&self, command: &str) -> String {
        run(Command::new("qemu-io").args(["-f", "qcow2", "-c", command]).arg(&self.machine.disk))
    }

    fn write(&self, pattern: u8) {
        self.io(&format!("write -P {pattern} 1M 64k"));
    }

    fn assert_has(&self, pattern: u8) {
        let said = self.io(&format!("read -P {pattern} 1M 64k"));
        assert!(!said.contains("verification failed"), "not {pattern}: {said}");
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        self.end();
    }
}

fn name(id: &str) -> SnapshotName {
    SnapshotName::new(id).unwrap()
}

fn known(error: DriverError) -> KnownMachineError {
    match error {
        DriverError::Known(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_disk_goes_back_once_its_machine_has_shut_down() {
    let mut tenant = Tenant::new("known-back", &HEEDS_BUTTON, Duration::from_secs(60));
    tenant.write(0x11);
    tenant.start(&[]);

    tenant.machines.take("web", &name("a")).unwrap();
    tenant.machines.take("web", &name("a")).unwrap();
    assert_eq!(tenant.machines.list("web").unwrap(), [name("a")]);
    tenant.end();
    tenant.write(0x22);
    tenant.machines.take("web", &name("b")).unwrap();
    tenant.machines.take("web", &name("b")).unwrap();
    assert_eq!(tenant.machines.list("web").unwrap(), [name("a"), name("b")]);
    tenant.write(0x33);
    tenant.start(&[]);
    tenant.wait_until_ready();

    tenant.machines.revert("web", &name("a")).unwrap();
    let mut qemu = tenant.qemu.take().unwrap();
    assert!(qemu.wait().unwrap().success());
    tenant.assert_has(0x11);
    tenant.machines.revert("web", &name("b")).unwrap();
    tenant.assert_has(0x22);

    tenant.start(&[]);
    tenant.machines.remove("web", &name("a")).unwrap();
    tenant.machines.remove("web", &name("a")).unwrap();
    assert_eq!(tenant.machines.list("web").unwrap(), [name("b")]);
    let missing = known(tenant.machines.revert("web", &name("a")).unwrap_err());
    assert!(matches!(missing, KnownMachineError::NoSnapshot { .. }), "{missing}");
    assert!(tenant.qemu.as_mut().unwrap().try_wait().unwrap().is_none(), "it was switched off");
    tenant.end();
    tenant.machines.remove("web", &name("b")).unwrap();
    tenant.assert_has(0x22);
    assert_eq!(tenant.machines.list("web").unwrap(), []);
}

#[test]
fn a_machine_that_does_not_shut_down_keeps_its_disk() {
    let mut tenant = Tenant::new("known-stays", &HEEDS_NOTHING, Duration::from_secs(1));
    tenant.write(0x11);
    tenant.machines.take("web", &name("a")).unwrap();
    tenant.write(0x22);
    tenant.start(&[]);

    let refused = known(tenant.machines.revert("web", &name("a")).unwrap_err());

    assert!(matches!(refused, KnownMachineError::StillRuns { .. }), "{refused}");
    tenant.end();
    tenant.assert_has(0x22);
    tenant.machines.revert("web", &name("a")).unwrap();
    tenant.assert_has(0x11);
}

#[test]
fn other_disks_and_other_machines_are_refused() {
    let mut tenant = Tenant::new("known-other", &HEEDS_NOTHING, Duration::from_secs(1));
    let place = tenant.machine.disk.parent().map(Path::to_owned).unwrap();
    let second: PathBuf = place.join("raw");
    let node = serde_json::json!({
        "driver": "raw", "node-name": "second", "file": { "driver": "file", "filename": second },
    });
    tenant.start(&["-blockdev", &node.to_string(), "-device", "virtio-blk-pci,drive=second"]);

    let refused = known(tenant.machines.take("web", &name("a")).unwrap_err());
    assert!(matches!(refused, KnownMachineError::OtherDisk { .. }), "{refused}");
    assert_eq!(tenant.machines.list("web").unwrap(), []);

    let wrong = KnownMachine { disk: second, ..tenant.machine.clone() };
    let clock = Arc::new(SystemClock::default());
    let wrong = KnownMachines::new([wrong], Duration::ZERO, clock);
    for result in [
        wrong.take("web", &name("a")),
        wrong.revert("web", &name("a")),
        wrong.remove("web", &name("a")),
    ] {
        let refused = known(result.unwrap_err());
        assert!(matches!(refused, KnownMachineError::OtherMachine { .. }), "{refused}");
    }
    let unknown = known(tenant.machines.take("--all", &name("a")).unwrap_err());
    assert!(matches!(unknown, KnownMachineError::Unknown { .. }), "{unknown}");
}
