//! Real machines in a session of libvirt, which is for users without privileges: where root runs
//! the tests, they run themselves again as nobody, each with a session of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/session.rs"]
mod session;
mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::Command;

use drivers::{Driver as _, Evidence, Halt, KernelSource, Libvirt, LibvirtError, Reason, Swept};
use lab::BaseImage;
use session::{Session, place};
use support::{
    attempt, entry, files, image, limits, machines_in, run, scan, wait_until, with_grub,
};

/// Puts an image there whose boot loader is told this.
fn with_image(session: &Session, configuration: &str) {
    let image = with_grub(&image(), session.path(), "image", configuration);
    assert_eq!(image.path(), session.path().join("image.raw"));
}

fn driver() -> Libvirt {
    Libvirt::open(&place().join("machines")).unwrap()
}

fn brought_image() -> BaseImage {
    BaseImage::open(&place().join("image.raw")).unwrap()
}

fn assert_nothing_is_left() {
    assert_eq!(files(&place().join("machines")), 0);
    assert_eq!(machines_in(&place()), Vec::<u32>::new());
    let domains =
        run(Command::new("virsh").args(["-c", "qemu:///session", "list", "--all", "--name"]));
    assert_eq!(domains.trim(), "");
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn comes_up() {
    let (driver, image) = (driver(), brought_image());

    let outcome = attempt("libvirt", &driver, &image, &limits(), scan).unwrap();

    assert_eq!(outcome.seen.evidence, Evidence::LoginPrompt);
    let kernel = outcome.seen.kernel.unwrap();
    assert_eq!(kernel.told_by, KernelSource::Console);
    assert_eq!(kernel.release, outcome.scanned.newest_kernel);
    assert_eq!(scan(image.path()).machine_id, "");
    assert_eq!(outcome.scanned.machine_id.len(), 32, "{:?}", outcome.scanned);
    assert!(outcome.left_behind.is_none());
    assert_nothing_is_left();
}

#[test]
fn an_image_comes_up_in_a_session_and_its_disk_is_read() {
    let session = Session::new();
    with_image(&session, &entry("root=LABEL=root ro console=ttyS0", true));
    session.passes("comes_up");
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn does_not_come_up() {
    let driver = driver();
    let failed = attempt("lost", &driver, &brought_image(), &limits(), scan).unwrap_err();
    let halted = matches!(failed.reason, Reason::Halted { halt: Halt::BootLoader });
    assert!(halted, "{failed:?}");
    assert_nothing_is_left();
}

/// Not a test of its own: the process that the test kills.
#[test]
#[ignore = "started and killed by the test below"]
fn victim() {
    let outcome = attempt("victim", &driver(), &brought_image(), &limits(), scan);
    panic!("it was not killed: {outcome:?}");
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn sweeps() {
    let another = Libvirt::open(&place().join("another")).unwrap();
    assert_eq!(another.sweep().unwrap(), Swept::default());
    assert!(
        !machines_in(&place().join("machines")).is_empty(),
        "another driver's machine was swept"
    );
    driver();
    assert_nothing_is_left();
}

#[test]
fn an_image_that_does_not_boot_fails_and_a_killed_process_leaves_nothing_to_the_next() {
    let session = Session::new();
    with_image(&session, "");
    session.passes("does_not_come_up");

    with_image(&session, &entry("root=LABEL=root ro console=ttyS0", true));
    let mut victim = session.command("victim").spawn().unwrap();
    // Not those that libvirt and the lab only try themselves with.
    let machines = session.path().join("machines");
    wait_until("QEMU runs", || !machines_in(&machines).is_empty());
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(!machines_in(&machines).is_empty(), "libvirt keeps its machines");

    session.passes("sweeps");
}

#[test]
fn root_is_told_that_it_has_no_session() {
    let place = tempfile::tempdir().unwrap();
    if fs::metadata(place.path()).unwrap().uid() == 0 {
        let refused = Libvirt::open(place.path()).unwrap_err();
        assert!(matches!(refused, LibvirtError::Root), "{refused}");
        assert!(refused.help().unwrap().contains("user"));
    }
}
