//! Snapshots of real machines in a real libvirt: machines with disks and without a system, whose
//! QEMU is told what to write.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/session.rs"]
mod session;
mod support;

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use drivers::{
    DriverError, Hypervisor, HypervisorError, Refusal, SnapshotName, Snapshots as _, SystemClock,
};
use session::{Session, place};
use support::run;

const CONNECTION: &str = "qemu:///session";
const NAME: &str = "web 1 & more";
const MIB: u64 = 1 << 20;

/// Which firmware a machine has.
#[derive(Clone, Copy)]
enum Firmware {
    Bios,
    Uefi,
}

/// A machine of somebody's, with two disks of its own and one that it only reads; gone when
/// dropped.
struct Tenant {
    name: &'static str,
    hypervisor: Hypervisor,
    /// As libvirt told of it before anything was done.
    defined: String,
}

/// The disks: what they are called at their start, by what libvirt calls them.
const DISKS: [(&str, &str, &str); 2] = [("vda", "a, b'.raw", "raw"), ("vdb", "b.qcow2", "qcow2")];

fn virsh(arguments: &[&str]) -> String {
    run(Command::new("virsh").args(["-q", "-c", CONNECTION]).args(arguments))
}

fn name(id: &str) -> SnapshotName {
    SnapshotName::new(id).unwrap()
}

fn images() -> PathBuf {
    place().join("images")
}

fn hypervisor() -> Hypervisor {
    Hypervisor::open(CONNECTION, Arc::new(SystemClock::default())).unwrap()
}

fn escaped(path: &Path) -> String {
    path.to_str().unwrap().replace('\'', "&apos;")
}

fn definition(name: &str, firmware: Firmware, disks: &str) -> String {
    let (flash, memory) = match firmware {
        Firmware::Bios => (String::new(), 16),
        Firmware::Uefi => {
            let variables = place().join("variables.fd");
            let fresh = fs::read("/usr/share/OVMF/OVMF_VARS_4M.fd").unwrap();
            fs::write(&variables, fresh).unwrap();
            let code = "/usr/share/OVMF/OVMF_CODE_4M.fd";
            let flash = format!(
                "<loader readonly='yes' type='pflash'>{code}</loader><nvram>{}</nvram>",
                variables.display()
            );
            (flash, 128)
        }
    };
    format!(
        "<domain type='qemu'><name>{}</name><memory unit='MiB'>{memory}</memory><vcpu>1</vcpu>\
         <metadata><x:note xmlns:x='urn:theirs'>theirs</x:note></metadata>\
         <os><type arch='x86_64' machine='q35'>hvm</type>{flash}</os><features><acpi/></features>\
         <devices>{disks}<graphics type='vnc' socket='{}' passwd='secret'/>\
         <controller type='usb' model='none'/><memballoon model='none'/></devices></domain>",
        name.replace('&', "&amp;"),
        place().join("vnc").display(),
    )
}

fn define(definition: &str) {
    let file = place().join("domain.xml");
    fs::write(&file, definition).unwrap();
    virsh(&["define", file.to_str().unwrap()]);
}

impl Tenant {
    fn new(firmware: Firmware) -> Self {
        fs::create_dir_all(images()).unwrap();
        let mut disks = String::new();
        for (target, file, format) in DISKS {
            let file = images().join(file);
            run(Command::new("qemu-img").args(["create", "-q", "-f", format]).arg(&file).arg("8M"));
            let file = escaped(&file);
            let _ = write!(
                disks,
                "<disk type='file' device='disk'>\
                 <driver name='qemu' type='{format}' cache='writethrough'/>\
                 <source file='{file}'/><target dev='{target}' bus='virtio'/></disk>",
            );
        }
        let inserted = images().join("cd.iso");
        fs::write(&inserted, [0; 4096]).unwrap();
        let inserted = escaped(&inserted);
        let _ = write!(
            disks,
            "<disk type='file' device='cdrom'><driver name='qemu' type='raw'/>\
             <source file='{inserted}'/><target dev='sda' bus='sata'/><readonly/></disk>",
        );
        define(&definition(NAME, firmware, &disks));
        Self { name: NAME, hypervisor: hypervisor(), defined: defined() }
    }

    fn take(&self, id: &str) -> Result<(), DriverError> {
        self.hypervisor.take(NAME, &name(id))
    }

    fn revert(&self, id: &str) -> Result<(), DriverError> {
        self.hypervisor.revert(NAME, &name(id))
    }

    fn remove(&self, id: &str) -> Result<(), DriverError> {
        self.hypervisor.remove(NAME, &name(id))
    }

    fn list(&self) -> Vec<SnapshotName> {
        self.hypervisor.list(NAME).unwrap()
    }

    fn start(&self) {
        virsh(&["start", self.name]);
    }

    fn destroy(&self) {
        virsh(&["destroy", self.name]);
    }

    fn state(&self) -> String {
        virsh(&["domstate", self.name]).trim().to_owned()
    }

    fn runs(&self) -> bool {
        self.state() == "running"
    }

    /// Writes to both disks, as the machine would.
    fn write(&self, pattern: u8) {
        let write = format!("write -P {pattern} {MIB} 64k");
        if self.state() == "shut off" {
            for (file, format) in self.files() {
                run(Command::new("qemu-io").args(["-f", format, "-c", &write]).arg(file));
            }
            return;
        }
        for number in 0..DISKS.len() {
            let disk = format!("/machine/peripheral/virtio-disk{number}/virtio-backend");
            let command = format!("qemu-io -d {disk} \"{write}\"");
            virsh(&["qemu-monitor-command", self.name, "--hmp", &command]);
        }
    }

    /// Whether both disks have what was written.
    fn assert_has(&self, pattern: u8) {
        let read = format!("read -P {pattern} {MIB} 64k");
        for (file, format) in self.files() {
            let mut io = Command::new("qemu-io");
            let said = run(io.args(["-r", "-U", "-f", format, "-c", &read]).arg(&file));
            assert!(!said.contains("verification failed"), "{file} has not {pattern}: {said}");
            assert!(said.contains("read 65536/65536"), "{said}");
        }
    }

    /// The files that the disks are, with their formats.
    fn files(&self) -> Vec<(String, &'static str)> {
        let said = virsh(&["domblklist", self.name, "--inactive"]);
        let find = |(target, at_first, format): &(&str, &str, &'static str)| {
            let line = said.lines().find_map(|line| line.trim_start().strip_prefix(target));
            let file = line.unwrap().trim().to_owned();
            let is_first = Path::new(&file).file_name() == Some(at_first.as_ref());
            (file, if is_first { *format } else { "qcow2" })
        };
        DISKS.iter().map(find).collect()
    }

    /// Nothing of ours is left, and the machine is defined as before.
    fn assert_as_before(&self) {
        assert_eq!(defined(), self.defined);
        let mut files: Vec<_> = fs::read_dir(images())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        assert_eq!(files, ["a, b'.raw", "b.qcow2", "cd.iso"]);
        assert_eq!(virsh(&["pool-list", "--all", "--name"]).trim(), "");
    }
}

impl Drop for Tenant {
    fn drop(&mut self) {
        let _ = Command::new("/usr/bin/virsh").args(["-c", CONNECTION, "destroy", NAME]).output();
    }
}

/// As libvirt tells of it, without its way to say that nothing is below a file, which it may say
/// anew.
fn defined() -> String {
    let said = virsh(&["dumpxml", NAME, "--inactive", "--security-info"]);
    said.lines().filter(|line| line.trim() != "<backingStore/>").collect::<Vec<_>>().join("\n")
}

fn refusal(result: Result<(), DriverError>) -> Refusal {
    match result {
        Err(DriverError::Hypervisor(HypervisorError::Refused { refusal, .. })) => refusal,
        other => panic!("{other:?}"),
    }
}

fn goes_both_ways(firmware: Firmware) {
    let tenant = Tenant::new(firmware);
    tenant.start();
    tenant.write(0x11);

    tenant.take("a").unwrap();
    tenant.take("a").unwrap();
    assert_eq!(tenant.list(), [name("a")]);
    tenant.write(0x22);
    tenant.take("b").unwrap();
    tenant.write(0x33);
    assert_eq!(tenant.list(), [name("a"), name("b")]);

    let later = refusal(tenant.revert("a"));
    assert_eq!(later, Refusal::Later { later: vec![name("b")] });
    tenant.assert_has(0x33);

    tenant.revert("b").unwrap();
    assert!(tenant.runs());
    tenant.assert_has(0x22);
    tenant.write(0x44);
    tenant.revert("b").unwrap();
    tenant.assert_has(0x22);
    tenant.write(0x55);

    tenant.remove("a").unwrap();
    tenant.remove("a").unwrap();
    assert!(tenant.runs());
    assert_eq!(tenant.list(), [name("b")]);
    tenant.assert_has(0x55);

    tenant.revert("b").unwrap();
    tenant.assert_has(0x22);
    tenant.write(0x66);
    tenant.remove("b").unwrap();
    assert!(tenant.runs());
    tenant.assert_has(0x66);
    assert_eq!(tenant.list(), []);
    tenant.assert_as_before();
    tenant.destroy();
    tenant.assert_has(0x66);
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn goes_both_ways_with_bios() {
    goes_both_ways(Firmware::Bios);
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn goes_both_ways_with_uefi() {
    goes_both_ways(Firmware::Uefi);
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn goes_both_ways_while_off() {
    let tenant = Tenant::new(Firmware::Bios);
    tenant.write(0x11);
    tenant.take("a").unwrap();
    tenant.write(0x22);
    tenant.take("b").unwrap();
    tenant.write(0x33);

    tenant.revert("b").unwrap();
    assert!(!tenant.runs());
    tenant.assert_has(0x22);
    tenant.write(0x44);

    tenant.remove("a").unwrap();
    assert_eq!(tenant.state(), "shut off");
    assert_eq!(tenant.list(), [name("b")]);
    tenant.assert_has(0x44);
    tenant.revert("b").unwrap();
    tenant.assert_has(0x22);
    tenant.write(0x55);

    tenant.remove("b").unwrap();
    assert_eq!(tenant.state(), "shut off");
    tenant.assert_has(0x55);
    tenant.assert_as_before();
}

#[test]
fn a_machine_goes_back_and_what_was_kept_is_given_up() {
    Session::new().passes("goes_both_ways_with_bios");
    Session::new().passes("goes_both_ways_while_off");
}

#[test]
fn a_machine_with_uefi_goes_back() {
    Session::new().passes("goes_both_ways_with_uefi");
}

/// Commands that alter something, of which only so many are carried out.
struct Stopping {
    left: PathBuf,
}

impl Stopping {
    /// Puts a `virsh` of the tests before the real one.
    fn install() -> Self {
        let bin = place().join("bin");
        fs::create_dir_all(&bin).unwrap();
        let left = place().join("left");
        let script = format!(
            "#!/bin/sh\n\
             case \"$4 $*\" in\n\
             blockjob*--info*|dominfo*|dumpxml*|*-list*|*-dumpxml*) ;;\n\
             *) if [ -e {left} ]; then\n\
             n=$(cat {left})\n\
             [ $n -gt 0 ] || {{ echo 'error: stopped' >&2; exit 1; }}\n\
             echo $((n - 1)) > {left}\n\
             fi;;\n\
             esac\n\
             exec /usr/bin/virsh \"$@\"\n",
            left = left.display()
        );
        fs::write(bin.join("virsh"), script).unwrap();
        fs::set_permissions(bin.join("virsh"), fs::Permissions::from_mode(0o755)).unwrap();
        Self { left }
    }

    /// Does something that stops after so many commands, as if its process had been killed.
    /// Whether that was too early.
    fn after(&self, commands: usize, work: impl FnOnce() -> Result<(), DriverError>) -> bool {
        fs::write(&self.left, commands.to_string()).unwrap();
        let result = work();
        let unused = fs::read_to_string(&self.left).unwrap().trim() != "0";
        fs::remove_file(&self.left).unwrap();
        if let Err(error) = &result {
            assert!(error.to_string().contains("stopped"), "{error}");
            assert!(!unused, "{error}");
        }
        !unused
    }
}

/// More than any verb needs.
const MOST: usize = 40;

fn is_finished_after_any_interruption(tenant: &Tenant, runs: bool) {
    let stopping = Stopping::install();
    let on = || {
        if runs && !tenant.runs() {
            tenant.start();
        }
    };
    on();

    let mut reached = 0;
    for commands in 0.. {
        assert!(commands < MOST);
        let id = format!("take-{commands}");
        tenant.write(0x11);
        let early = stopping.after(commands, || tenant.take(&id));
        tenant.take(&id).unwrap();
        assert_eq!(tenant.runs(), runs);
        tenant.write(0x22);
        tenant.revert(&id).unwrap();
        tenant.assert_has(0x11);
        tenant.remove(&id).unwrap();
        tenant.assert_as_before();
        if !early {
            break;
        }
        reached = commands;
    }
    assert!(reached >= 1, "{reached}");

    tenant.write(0x11);
    tenant.take("back").unwrap();
    for commands in 0.. {
        assert!(commands < MOST);
        tenant.write(0x22);
        let early = stopping.after(commands, || tenant.revert("back"));
        assert_eq!(tenant.list(), [name("back")]);
        tenant.revert("back").unwrap();
        tenant.assert_has(0x11);
        assert_eq!(tenant.runs(), runs, "after {commands} commands");
        if !early {
            break;
        }
        reached = commands;
    }
    assert!(reached >= 7, "{reached}");
    tenant.remove("back").unwrap();
    tenant.assert_as_before();

    for commands in 0.. {
        assert!(commands < MOST);
        tenant.write(0x11);
        tenant.take("away").unwrap();
        tenant.write(0x22);
        let early = stopping.after(commands, || tenant.remove("away"));
        tenant.remove("away").unwrap();
        assert_eq!(tenant.list(), []);
        assert_eq!(tenant.runs(), runs, "after {commands} commands");
        tenant.assert_has(0x22);
        tenant.assert_as_before();
        if !early {
            break;
        }
        reached = commands;
    }
    assert!(reached >= 7, "{reached}");
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn is_interrupted_while_running() {
    is_finished_after_any_interruption(&Tenant::new(Firmware::Bios), true);
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn is_interrupted_while_off() {
    is_finished_after_any_interruption(&Tenant::new(Firmware::Bios), false);
}

#[test]
fn what_was_stopped_after_any_command_is_finished_by_the_next_call() {
    Session::new().passes("is_interrupted_while_running");
}

#[test]
fn the_same_of_a_machine_that_is_off() {
    Session::new().passes("is_interrupted_while_off");
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn given_up() {
    let tenant = Tenant::new(Firmware::Bios);
    let stopping = Stopping::install();

    // Noted; ended; gone back, but not started.
    for (commands, pattern) in [(6, 0x22), (7, 0x22), (8, 0x11)] {
        if !tenant.runs() {
            tenant.start();
        }
        tenant.write(0x11);
        tenant.take("a").unwrap();
        tenant.write(0x22);
        assert!(stopping.after(commands, || tenant.revert("a")));
        let unfinished = refusal(tenant.take("b"));
        assert!(matches!(unfinished, Refusal::Unfinished { .. }), "{unfinished:?}");
        assert!(unfinished.help().unwrap().contains("again"));
        tenant.remove("a").unwrap();
        assert_eq!(tenant.runs(), commands == 6);
        tenant.assert_has(pattern);
        tenant.assert_as_before();
    }

    tenant.write(0x11);
    tenant.take("a").unwrap();
    tenant.write(0x22);
    // Somebody lets the machine run which we had started for merging.
    let merging = (1..MOST).find(|commands| {
        assert!(stopping.after(*commands, || tenant.remove("a")));
        tenant.state() == "paused"
    });
    assert!(merging.is_some());
    let unfinished = refusal(tenant.revert("a"));
    assert!(matches!(unfinished, Refusal::Unfinished { .. }), "{unfinished:?}");
    virsh(&["resume", NAME]);
    tenant.remove("a").unwrap();
    assert!(tenant.runs());
    tenant.assert_has(0x22);
    tenant.assert_as_before();
}

#[test]
fn what_was_begun_may_be_given_up() {
    Session::new().passes("given_up");
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn refuses() {
    let tenant = Tenant::new(Firmware::Bios);
    tenant.take("a").unwrap();
    tenant.write(0x11);

    // Somebody's snapshots lie on ours.
    virsh(&["snapshot-create-as", NAME, "theirs", "--disk-only"]);
    for result in [tenant.revert("a"), tenant.remove("a")] {
        let foreign = refusal(result);
        assert_eq!(foreign, Refusal::Foreign { snapshot: "theirs".to_owned() });
    }
    virsh(&["snapshot-delete", NAME, "theirs", "--metadata"]);
    let moved = refusal(tenant.revert("a"));
    assert!(matches!(moved, Refusal::Moved { .. }), "{moved:?}");
    tenant.assert_has(0x11);

    define(&tenant.defined);
    tenant.start();
    virsh(&["managedsave", NAME]);
    let saved = tenant.take("b").unwrap_err();
    assert!(matches!(saved, DriverError::Hypervisor(HypervisorError::Saved { .. })), "{saved}");
    virsh(&["managedsave-remove", NAME]);

    let missing = refusal(tenant.revert("c"));
    assert_eq!(missing, Refusal::NoSnapshot);
    tenant.remove("c").unwrap();

    for (disk, reason) in [
        ("<disk type='block' device='disk'><source dev='/dev/null'/>", "block device"),
        ("<disk type='file' device='disk'><source file='/x'/><shareable/>", "shared"),
        (
            "<disk type='network' device='disk'><source protocol='nbd'><host name='localhost'/>\
             </source>",
            "network",
        ),
    ] {
        define(&definition("other", Firmware::Bios, &format!("{disk}<target dev='vda'/></disk>")));
        let unfit = refusal(tenant.hypervisor.take("other", &name("a")));
        assert!(unfit.to_string().contains(reason), "{unfit}");
        assert!(!virsh(&["dumpxml", "other"]).contains("patchwright"));
        virsh(&["undefine", "other"]);
    }
    define(&definition("other", Firmware::Bios, ""));
    assert_eq!(refusal(tenant.hypervisor.take("other", &name("a"))), Refusal::NoDisks);

    // A name that is a number, where another machine has that number.
    tenant.start();
    let number = virsh(&["domid", NAME]);
    let ambiguous = tenant.hypervisor.take(number.trim(), &name("a")).unwrap_err();
    let is_so = matches!(ambiguous, DriverError::Hypervisor(HypervisorError::Ambiguous { .. }));
    assert!(is_so, "{ambiguous}");
    for odd in ["no such machine", "--all", "-c", "a\nb", ""] {
        let error = tenant.hypervisor.take(odd, &name("a")).unwrap_err();
        assert!(error.help().unwrap().contains("virsh list"), "{error}");
    }

    let transient = place().join("transient.xml");
    fs::write(&transient, definition("passing", Firmware::Bios, "")).unwrap();
    let transient_name = transient.to_str().unwrap();
    virsh(&["destroy", NAME]);
    virsh(&["create", transient_name]);
    let error = tenant.hypervisor.take("passing", &name("a")).unwrap_err();
    virsh(&["destroy", "passing"]);
    let is_so = matches!(error, DriverError::Hypervisor(HypervisorError::Transient { .. }));
    assert!(is_so, "{error}");
}

#[test]
fn what_cannot_be_kept_or_is_somebody_elses_is_refused() {
    Session::new().passes("refuses");
}
