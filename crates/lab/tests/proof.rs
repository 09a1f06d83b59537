//! Real pending security patches on a real image.

mod support;

use std::fs;

use domain::proof::{Claim, RebootCause, WayBack};
use lab::{PackageFile, Proof, Thoroughness};
use support::{World, claim, image, is_small, original, pending};

fn is_kernel(package: &PackageFile) -> bool {
    package.package.starts_with("linux-image-")
}

fn claims(patches: &[PackageFile]) -> Vec<Claim> {
    patches.iter().map(|package| claim(&package.path)).collect()
}

fn assert_passes(proof: &Proof) {
    let reasons: Vec<String> = proof.verdict.reasons().map(ToString::to_string).collect();
    assert!(reasons.is_empty(), "{reasons:#?}");
    eprintln!("{:#?}\noverhead {:.2}", proof.stages, proof.overhead());
}

#[test]
fn pending_patches_pass_and_the_way_back_restores() {
    let mut world = World::new("pending", image("bookworm", "minimal"));
    world.thoroughness = Thoroughness::Whole;
    let patches = pending(&world.image, "bookworm", is_small);
    assert!(patches.iter().any(|it| it.source == "nginx"), "nothing is pending: {patches:#?}");
    let previous: Vec<PackageFile> =
        patches.iter().map(|patch| original(&world.image, "bookworm", &patch.package)).collect();

    let proof = world.prove(&patches, &previous, &claims(&patches)).unwrap();

    world.assert_clean();
    assert_passes(&proof);
    assert_eq!(proof.verdict.way_back, WayBack::Restores);
    let impact = &proof.impact;
    assert_eq!(impact.packages.len(), patches.len());
    assert!(impact.restarted.contains_key("nginx.service"), "{:#?}", impact.restarted);
    assert!(impact.reboot.downtime_ms.is_some_and(|downtime| downtime > 1000));
    assert!(impact.reboot.units.contains_key("nginx.service"));
    assert!(impact.files_touched.iter().any(|path| path.contains("nginx")));
    for item in &proof.evidence {
        let kept = fs::metadata(world.evidence().join(&item.sha256)).unwrap();
        assert_eq!(kept.len(), item.bytes, "{}", item.name);
    }
}

#[test]
fn a_pending_kernel_runs_after_the_restart() {
    let world = World::new("kernel", image("bookworm", "minimal"));
    let patches = pending(&world.image, "bookworm", is_kernel);
    assert!(!patches.is_empty(), "no kernel is pending");

    let proof = world.prove(&patches, &[], &claims(&patches)).unwrap();

    world.assert_clean();
    assert_passes(&proof);
    let causes = &proof.impact.reboot.causes;
    let kernel = |cause: &RebootCause| matches!(cause, RebootCause::Kernel { .. });
    assert!(causes.iter().any(kernel), "{causes:#?}");
    assert!(matches!(proof.verdict.way_back, WayBack::Untried { .. }));
}
