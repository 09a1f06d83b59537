//! Images and patches that mean harm: contained within their limits (requirements.md, T12).

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use domain::proof::Reason;
use lab::{BaseImage, ProveError};
use support::{Deb, World, image, run};

/// Where the root begins on the disks of `make-image`.
const ROOT_OFFSET: u64 = 33 << 20;

/// A raw copy of an image with files put into its root, nothing mounted.
fn altered(image: &BaseImage, place: &Path, commands: &[String]) -> BaseImage {
    let raw = place.join("altered.raw");
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(image.path()).arg(&raw));
    let script = place.join("debugfs.commands");
    fs::write(&script, commands.join("\n")).expect("the target directory is writable");
    run(Command::new("/sbin/debugfs")
        .arg("-w")
        .arg("-f")
        .arg(&script)
        .arg(format!("{}?offset={ROOT_OFFSET}", raw.display())));
    BaseImage::open(&raw).expect("qemu-img wrote it")
}

fn file(place: &Path, name: &str, content: &str) -> PathBuf {
    let path = place.join(name);
    fs::write(&path, content).expect("the target directory is writable");
    path
}

#[test]
fn a_fork_bomb_at_boot_is_ended_in_time() {
    let mut world = World::new("fork-bomb", image("bookworm", "minimal"));
    let unit = file(
        &world.place,
        "bomb.service",
        "[Unit]\nDefaultDependencies=no\n[Service]\nTasksMax=infinity\n\
         ExecStart=/bin/sh -c 'bomb() { bomb | bomb & }; bomb; sleep infinity'\n",
    );
    let wants = "/etc/systemd/system/sysinit.target.wants";
    let commands = [
        format!("write {} /etc/systemd/system/bomb.service", unit.display()),
        format!("mkdir {wants}"),
        format!("symlink {wants}/bomb.service /etc/systemd/system/bomb.service"),
    ];
    world.image = altered(&world.image, &world.place, &commands);
    world.limits.boot = Duration::from_secs(90);
    let patch = Deb::new("web-patch", "1.0").build(&world.place);

    let began = Instant::now();
    let outcome = world.prove(&[patch], &[], &[]);

    assert!(matches!(outcome, Err(ProveError::Unfit { .. })), "{outcome:?}");
    assert!(began.elapsed() < Duration::from_secs(240));
    world.assert_clean();
}

#[test]
fn a_guest_that_writes_without_end_is_ended_at_its_limit() {
    let mut world = World::new("writes-without-end", image("bookworm", "minimal"));
    world.limits.disk_bytes = 300 << 20;
    let patch = Deb::new("web-patch", "1.0")
        .postinst(
            "truncate -s 100G /var/sparse\n\
             dd if=/dev/urandom of=/var/fill bs=1M count=1000 conv=fsync",
        )
        .build(&world.place);

    let proof = world.prove(&[patch], &[], &[]).unwrap();

    let reasons: Vec<&Reason> = proof.verdict.reasons().collect();
    let [Reason::DiskLimit { stage, limit }] = reasons[..] else { panic!("{reasons:#?}") };
    assert_eq!((stage.as_str(), *limit), ("install", 300 << 20));
    world.assert_clean();
}

#[test]
fn an_image_that_names_a_file_of_the_host_is_not_opened() {
    let place = support::empty("names-the-host");
    let secret = file(&place, "secret", &"s".repeat(65536));
    let overlay = place.join("overlay.qcow2");
    run(Command::new("qemu-img")
        .args(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"])
        .arg(&secret)
        .arg(&overlay));

    let refused = BaseImage::open(&overlay).unwrap_err();

    assert!(refused.to_string().contains("is an overlay"), "{refused}");
    assert!(refused.help().is_some());
}
