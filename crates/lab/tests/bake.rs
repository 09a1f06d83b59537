//! A new image from a real one, with the patches that are really pending.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::fs;
use std::process::Command;
use std::sync::Arc;

use lab::{BakeError, Baked, BaseImage, Because, Observer, PackageFile, Recipe, bake, compare};
use support::{Deb, Printed, World, image, is_small, pending, run};

const CLOCK: &str = "2026-11-01T00:00:00Z";

fn baked(world: &World, patches: &[PackageFile]) -> Result<Baked, BakeError> {
    let recipe = Recipe {
        image: &world.image,
        patches,
        clock: CLOCK.parse().unwrap(),
        limits: &world.limits,
    };
    let name = world.place.file_name().unwrap().to_string_lossy().into_owned();
    let observer: Arc<dyn Observer> = Arc::new(Printed(name));
    bake(&world.area, &recipe, &world.place.join("images"), &world.evidence(), &observer)
}

/// Files in the directory of new images.
fn images(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.place.join("images")).unwrap().flatten();
    names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn pending_patches_are_baked_and_the_same_inputs_give_the_same_image() {
    let world = World::new("bake", image("bookworm", "minimal"));
    // All that is pending is baked in the command's own test.
    let patches = pending(&world.image, "bookworm", is_small);
    assert!(patches.iter().any(|it| it.source == "nginx"), "{patches:#?}");

    let first = baked(&world, &patches).unwrap();

    world.assert_clean();
    eprintln!("{:#?} {} bytes", first.stages, first.bytes);
    assert_eq!(images(&world), [format!("{}.qcow2", first.sha256)]);
    let sum = run(Command::new("sha256sum").arg(&first.path));
    assert!(sum.starts_with(&first.sha256));
    run(Command::new("qemu-img").args(["check", "-q"]).arg(&first.path));
    // It stands alone, and nothing of a machine that ran is in it.
    BaseImage::open(&first.path).unwrap();
    let target = inspect::open(&first.path, None).unwrap();
    let read = |path: &str| target.files().read(path, 1 << 20).unwrap();
    assert_eq!(read("/etc/machine-id"), Some(Vec::new()));
    for gone in ["/usr/sbin/policy-rc.d", "/var/lib/systemd/random-seed"] {
        assert_eq!(read(gone), None, "{gone}");
    }
    assert!(first.generalised.trimmed.contains("trimmed"), "{:?}", first.generalised);

    // Each difference is one of the patches', or follows from them.
    let difference = compare(world.image.path(), &first.path).unwrap();
    assert_eq!(difference.problems, Vec::<String>::new());
    let unexplained: Vec<_> = difference.unexplained().collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert_eq!(difference.packages.len(), patches.len(), "{:#?}", difference.packages);
    for patch in &patches {
        let change = difference.packages.iter().find(|it| it.package == patch.package).unwrap();
        assert_eq!(change.after.as_ref(), Some(&patch.version));
    }

    let second = baked(&world, &patches).unwrap();

    let difference = compare(&first.path, &second.path).unwrap();
    assert!(difference.is_empty(), "{difference:#?}");
}

#[test]
fn packages_that_do_not_install_make_no_image() {
    let world = World::new("bake-fails", image("bookworm", "minimal"));
    let patch = Deb::new("broken", "1").postinst("echo no way; exit 7").build(&world.place);

    let error = baked(&world, &[patch]).unwrap_err();

    let BakeError::Installation { exit: Some(100), output } = &error else { panic!("{error:?}") };
    assert!(output.contains("no way"), "{output}");

    // Nor do packages that another one would have to go for.
    let patch = Deb::new("jealous", "1").field("Conflicts", "nginx-light").build(&world.place);
    let error = baked(&world, &[patch]).unwrap_err();

    let BakeError::Installation { output, .. } = &error else { panic!("{error:?}") };
    assert!(output.contains("nginx-light"), "{output}");
    assert_eq!(images(&world), Vec::<String>::new());
    world.assert_clean();
}

#[test]
fn what_is_baked_again_without_patches_differs_by_nothing_that_matters() {
    let world = World::new("bake-nothing", image("bookworm", "minimal"));
    fs::create_dir_all(world.place.join("images")).unwrap();

    let new = baked(&world, &[]).unwrap();

    let difference = compare(world.image.path(), &new.path).unwrap();
    assert_eq!(difference.packages, []);
    let is_harmless = |because: &Because| {
        matches!(because, Because::Log | Because::Generated | Because::PackageRecords)
    };
    let others: Vec<_> = difference.files.iter().filter(|it| !is_harmless(&it.because)).collect();
    assert!(others.is_empty(), "{others:#?}");
}
