//! Patches that must not pass, each rejected for its own reason, and nothing left of them.

mod support;

use std::fs;
use std::process::Command;
use std::time::Duration;

use domain::proof::Reason;
use support::{Deb, World, image, original, packed, run};

fn world(name: &str) -> World {
    World::new(name, image("bookworm", "minimal"))
}

/// The reasons against a patch of one package that is made on the spot.
fn rejected(world: &World, deb: &Deb) -> Vec<Reason> {
    let package = deb.build(&world.place);
    let proof = world.prove(&[package], &[], &[]).expect("the image is fit");
    world.assert_clean();
    let reasons: Vec<Reason> = proof.verdict.reasons().cloned().collect();
    assert!(!reasons.is_empty(), "it passed");
    reasons
}

#[test]
fn one_that_breaks_a_service() {
    let world = world("breaks-a-service");
    let deb = Deb::new("web-patch", "1.0").postinst(
        "echo 'this is no directive;' >> /etc/nginx/nginx.conf\nsystemctl restart nginx || true",
    );

    let reasons = rejected(&world, &deb);

    let failed = Reason::UnitFailed { unit: "nginx.service".into() };
    assert!(reasons.contains(&failed), "{reasons:#?}");
    let probe = |reason: &Reason| matches!(reason, Reason::ProbeFailed { probe, .. } if probe == "home page");
    assert!(reasons.iter().any(probe), "{reasons:#?}");
}

#[test]
fn one_that_breaks_the_boot() {
    let world = world("breaks-the-boot");
    let deb = Deb::new("web-patch", "1.0").postinst(": > /boot/initrd.img-$(uname -r)");

    let reasons = rejected(&world, &deb);

    let [Reason::Lost { stage, what, console }] = &reasons[..] else { panic!("{reasons:#?}") };
    assert_eq!(stage, "reboot");
    assert!(what.contains("went down"), "{what}");
    assert!(console.contains("Kernel panic"), "{console}");
}

#[test]
fn one_that_claims_a_fix_but_changes_nothing() {
    let world = world("changes-nothing");
    let tree = world.place.join("zstd-tree");
    run(Command::new("dpkg-deb")
        .arg("-R")
        .arg(original(&world.image, "bookworm", "zstd").path)
        .arg(&tree));
    let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    let risen = control.lines().map(|line| match line.strip_prefix("Version: ") {
        Some(version) => format!("Version: {version}+fixed1\n"),
        None => format!("{line}\n"),
    });
    fs::write(tree.join("DEBIAN/control"), risen.collect::<String>()).unwrap();
    let package = packed(&tree, &world.place);

    let proof = world.prove(&[package], &[], &[]).unwrap();

    world.assert_clean();
    let reasons: Vec<&Reason> = proof.verdict.reasons().collect();
    let [Reason::ChangesNothing { packages, .. }] = reasons[..] else { panic!("{reasons:#?}") };
    assert_eq!(packages, &["zstd"]);
}

#[test]
fn one_that_removes_another_package() {
    let world = world("removes-a-package");
    let deb = Deb::new("web-patch", "1.0").field("Conflicts", "zstd");

    let reasons = rejected(&world, &deb);

    let removed =
        |reason: &Reason| matches!(reason, Reason::Removed { package, .. } if package == "zstd");
    assert!(reasons.iter().any(removed), "{reasons:#?}");
}

#[test]
fn one_that_opens_a_port() {
    let world = world("opens-a-port");
    let deb = Deb::new("web-patch", "1.0").postinst(
        "echo 'server { listen 4444; }' > /etc/nginx/conf.d/open.conf\nsystemctl reload nginx",
    );

    let reasons = rejected(&world, &deb);

    let [Reason::NewListener { listener }] = &reasons[..] else { panic!("{reasons:#?}") };
    assert_eq!(listener.port, 4444);
}

#[test]
fn one_that_fills_the_disk() {
    let world = world("fills-the-disk");
    let deb = Deb::new("web-patch", "1.0").postinst(
        "free=$(df --output=avail / | tail -1)\nfallocate -l $((free - 4000))K /var/fill",
    );

    let reasons = rejected(&world, &deb);

    let short = |reason: &Reason| matches!(reason, Reason::SpaceShort { mount_point, .. } if mount_point == "/");
    assert!(reasons.iter().any(short), "{reasons:#?}");
}

#[test]
fn one_that_hangs() {
    let mut world = world("hangs");
    world.limits.install = Duration::from_secs(60);
    let deb = Deb::new("web-patch", "1.0").postinst("echo waiting for ever\nsleep infinity");

    let reasons = rejected(&world, &deb);

    let [Reason::InstallHung { seconds, output }] = &reasons[..] else { panic!("{reasons:#?}") };
    assert_eq!(*seconds, 60);
    assert!(output.contains("waiting for ever"), "{output}");
}
