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
