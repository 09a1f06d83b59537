//! Real machines on this host: images that come up and images that do not.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use drivers::{Driver as _, Evidence, Fault, Halt, KernelSource, Local, Reason};
use support::{
    attempt, empty, entry, files, image, limits, machines_in, scan, wait_until, with_grub,
};

const PLACE: &str = "DRIVERS_TEST_PLACE";

fn assert_nothing_is_left(place: &Path) {
    assert_eq!(files(&place.join("machines")), 0);
    assert_eq!(machines_in(place), Vec::<u32>::new());
}

#[test]
fn an_image_comes_up_by_its_own_boot_loader_and_its_disk_is_read() {
    let place = empty("local-comes-up");
    let driver = Local::open(&place.join("machines")).unwrap();
    let image = image();

    let outcome = attempt("comes up", &driver, &image, &limits(), scan).unwrap();

    assert_eq!(outcome.seen.evidence, Evidence::LoginPrompt, "{}", outcome.seen.console);
    assert!(outcome.seen.to_login.unwrap() > Duration::ZERO);
    assert!(outcome.seen.machine.starts_with("patchwright-trial-"));
    // The recipe says `quiet`: the kernel's first words do not reach the console.
    let kernel = outcome.seen.kernel.unwrap();
    assert_eq!(kernel.told_by, KernelSource::BootRecord);
    assert_eq!(kernel.release, outcome.scanned.newest_kernel);
    assert_eq!(scan(image.path()).machine_id, "");
    assert_eq!(outcome.scanned.machine_id.len(), 32, "{:?}", outcome.scanned);
    assert!(outcome.left_behind.is_none());
    assert_nothing_is_left(&place);
}

#[test]
fn an_image_without_a_serial_console_is_up_if_it_heeds_its_power_button() {
    let place = empty("local-silent");
    let driver = Local::open(&place.join("machines")).unwrap();
    let silent = entry("root=LABEL=root ro quiet", true);
    let silent = with_grub(&image(), &place, "silent", &silent);
    let limits = drivers::Limits { boot: Duration::from_secs(90), ..limits() };

    let outcome = attempt("silent", &driver, &silent, &limits, scan).unwrap();

    assert_eq!(outcome.seen.evidence, Evidence::PowerButton);
    assert_eq!(outcome.seen.to_login, None);
    assert_eq!(outcome.seen.kernel.unwrap().release, outcome.scanned.newest_kernel);
    assert_nothing_is_left(&place);
}

#[test]
fn a_boot_loader_without_its_configuration_is_told_from_a_kernel_without_its_root() {
    let place = empty("local-broken");
    let driver = Local::open(&place.join("machines")).unwrap();
    let image = image();
    let never = |_: &Path| panic!("there is no disk at rest to look at");

    let lost = with_grub(&image, &place, "lost", "");
    let failed = attempt("lost", &driver, &lost, &limits(), never).unwrap_err();
    let halted = matches!(failed.reason, Reason::Halted { halt: Halt::BootLoader });
    assert!(halted, "{failed:?}");
    assert_eq!(failed.reason.fault(), Fault::Image);
    assert!(failed.console.contains("grub>"), "{}", failed.console);

    let rootless = entry("root=LABEL=root ro console=ttyS0", false);
    let rootless = with_grub(&image, &place, "rootless", &rootless);
    let failed = attempt("rootless", &driver, &rootless, &limits(), never).unwrap_err();
    let Reason::Panicked { message } = &failed.reason else { panic!("{failed:?}") };
    assert!(message.contains("Unable to mount root fs"), "{message}");

    assert_nothing_is_left(&place);
}

/// Real mode: prints a prompt on the first serial port and waits for ever.
fn boot_sector() -> [u8; 512] {
    const CODE: [u8; 22] = [
        0xFC, // cld
        0xBA, 0xF8, 0x03, // mov dx, 0x3F8
        0x31, 0xC0, // xor ax, ax
        0x8E, 0xD8, // mov ds, ax
        0xBE, 0x16, 0x7C, // mov si, text
        0xAC, // lodsb
        0x84, 0xC0, // test al, al
        0x74, 0x03, // jz end
        0xEE, // out dx, al
        0xEB, 0xF8, // jmp lodsb
        0xF4, // end: hlt
        0xEB, 0xFD, // jmp end
    ];
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[CODE.len()..][..7].copy_from_slice(b"login: ");
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

#[test]
fn a_disk_for_a_bios_is_booted_by_one_and_must_heed_its_power_button() {
    let place = empty("local-bios");
    let driver = Local::open(&place.join("machines")).unwrap();
    let disk = place.join("disk.raw");
    let mut content = boot_sector().to_vec();
    content.resize(1 << 20, 0);
    std::fs::write(&disk, content).unwrap();
    let disk = lab::BaseImage::open(&disk).unwrap();
    let limits = drivers::Limits { shutdown: Duration::from_secs(2), ..limits() };

    let failed = attempt("bios", &driver, &disk, &limits, scan).unwrap_err();

    assert_eq!(failed.console, "login: ");
    assert!(matches!(failed.reason, Reason::DidNotPowerOff { .. }), "{failed:?}");
    assert_nothing_is_left(&place);
}

/// Not a test of its own: the process that the test kills.
#[test]
#[ignore = "started and killed by the test below"]
fn victim() {
    let place = empty("local-victim-images");
    let machines = std::env::var(PLACE).expect("the test names a place");
    let driver = Local::open(Path::new(&machines)).unwrap();
    let outcome = attempt("victim", &driver, &image(), &limits(), scan);
    panic!("it was not killed: {outcome:?} {place:?}");
}

#[test]
fn nothing_survives_the_process() {
    let place = empty("local-killed");
    let machines = place.join("machines");
    image();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--ignored"])
        .env(PLACE, &machines)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("QEMU runs", || !machines_in(&place).is_empty());

    victim.kill().unwrap();
    victim.wait().unwrap();

    wait_until("QEMU is gone", || machines_in(&place).is_empty());
    assert!(files(&machines) > 0, "the killed process could not tidy up");
    // As a process that lives on would: its driver was open before.
    let elsewhere = Local::open(&place.join("elsewhere")).unwrap();
    assert_eq!(elsewhere.sweep().unwrap().disks, 0);
    Local::open(&machines).unwrap().sweep().unwrap();
    assert_nothing_is_left(&place);
}
