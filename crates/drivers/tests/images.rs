//! Volumes of a real libvirt's pools as images: where root runs the tests, they run themselves again as nobody,
//! each with a libvirt of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/session.rs"]
mod session;
mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use drivers::{Fitness, ImageStore as _, ImageStoreError, SystemClock, VolumePools};
use lab::Format;
use session::{Session, place};
use support::run;

const MIB: u64 = 1 << 20;

fn virsh(arguments: &[&str]) -> String {
    run(Command::new("virsh").args(["-q", "-c", "qemu:///session"]).args(arguments))
}

/// A pool of a directory that is there.
fn pool(name: &str) -> PathBuf {
    let directory = place().join(name);
    fs::create_dir(&directory).unwrap();
    let target = directory.to_str().unwrap();
    virsh(&["pool-create-as", "--name", name, "--type", "dir", "--target", target]);
    directory
}

fn store() -> VolumePools {
    let clock = Arc::new(SystemClock::default());
    VolumePools::open("qemu:///session", vec!["images".to_owned()], clock).unwrap()
}

fn qemu_img(arguments: &[&str]) {
    run(Command::new("qemu-img").args(arguments));
}

/// A file system with one file below `/etc`.
fn system(file: &std::path::Path, content: &str) {
    let root = place().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::write(root.join("etc/app.ini"), content).unwrap();
    let _ = fs::remove_file(file);
    run(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(file).arg("16M"));
}

#[test]
#[ignore = "run by the test below, without privileges"]
fn reads() {
    let images = pool("images");
    let raw = images.join("web 1, b'.raw");
    system(&raw, "listen = 80\n");
    let path = |name: &str| images.join(name).display().to_string();
    let (from, qcow2) = (raw.display().to_string(), path("web.qcow2"));
    qemu_img(&["convert", "-q", "-f", "raw", "-O", "qcow2", &from, &qcow2]);
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", &qcow2, &path("over.qcow2")]);
    qemu_img(&["create", "-q", "-f", "vmdk", &path("odd.vmdk"), "1M"]);
    let (store, to) = (store(), place().join("fetched"));

    let listed = store.list().unwrap();

    let ids: Vec<_> = listed.iter().map(|it| it.id.as_str()).collect();
    let wanted =
        ["images/odd.vmdk", "images/over.qcow2", "images/web 1, b'.raw", "images/web.qcow2"];
    assert_eq!(ids, wanted);
    for (at, because) in [(0, "has the format `vmdk`"), (1, "is an overlay over another image")] {
        let unfit = Fitness::Unfit { because: because.to_owned() };
        assert_eq!(listed[at].fitness, unfit);
        assert!(store.fetch(&listed[at], &to, MIB << 6).unwrap_err().to_string().contains(because));
    }
    for (at, format, file) in
        [(2, Format::Raw, &raw), (3, Format::Qcow2, &images.join("web.qcow2"))]
    {
        let image = &listed[at];
        assert!(
            matches!(&image.fitness, Fitness::Fit { format: it, .. } if *it == format),
            "{image:?}"
        );
        assert_eq!(&store.look(&image.id).unwrap(), image, "it is as it was");
        store.fetch(image, &to, MIB << 6).unwrap();
        assert_eq!(fs::read(&to).unwrap(), fs::read(file).unwrap());
        fs::remove_file(&to).unwrap();
    }
    let large = store.fetch(&listed[2], &to, MIB).unwrap_err();
    assert!(matches!(large, ImageStoreError::Size { largest: MIB, .. }), "{large}");

    // What was written to is another version, and nothing of the old one is fetched; by its name it is found anew.
    let before = &listed[2];
    system(&raw, "listen = 8080\n");
    let altered = store.fetch(before, &to, MIB << 6).unwrap_err();
    assert!(matches!(altered, ImageStoreError::Altered { .. }), "{altered}");
    assert!(!to.exists());
    let after = store.look(&before.id).unwrap();
    assert_ne!(after.version().unwrap(), before.version().unwrap());
    store.fetch(&after, &to, MIB << 6).unwrap();
    assert!(fs::read(&to).unwrap() == fs::read(&raw).unwrap());
    fs::remove_file(&to).unwrap();
    // What came since libvirt looked is found as well, what left is not.
    fs::copy(&raw, images.join("late.raw")).unwrap();
    assert!(store.look("images/late.raw").is_ok());
    fs::remove_file(&raw).unwrap();
    assert!(store.look(&before.id).is_err());

    // Other pools are not asked.
    let machines = pool("machines");
    fs::copy(images.join("late.raw"), machines.join("disk.raw")).unwrap();
    let (whole, path) =
        (format!("images/{}", machines.join("disk.raw").display()), "machines/disk.raw");
    for id in [whole.as_str(), path, "images/disk.raw", "images/--help"] {
        let none = store.look(id).unwrap_err();
        assert!(matches!(none, ImageStoreError::NoImage { .. }), "{id}: {none}");
    }
}

#[test]
fn volumes_are_told_and_fetched_as_they_are() {
    let session = Session::new();
    session.passes("reads");
}
