//! The inventory of a server, 348 packages, from whatever holds it.
//!
//! `cargo bench -p inspect`. The target is 50 ms for a stopped qcow2 image (design, section 7).
//! Each pass opens the target anew, as a scan of many images does; the image is in the page cache.

#![allow(clippy::unwrap_used)] // A world that cannot be made ends the bench.

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use divan::Bencher;
use support::{data, debian_root, mke2fs, run, text, write};

struct World {
    place: tempfile::TempDir,
}

/// Made once: making it takes longer than all that is measured.
static WORLD: LazyLock<World> = LazyLock::new(|| {
    let place = tempfile::tempdir().unwrap();
    let root = debian_root(place.path(), &data("dpkg-status-bookworm-server-main-only.gz"));
    // As many neighbours as a real server's database has.
    for number in 0..1500 {
        write(&root.join(format!("var/lib/dpkg/info/package-{number}.list")), "/.\n");
    }
    let raw = place.path().join("disk.raw");
    mke2fs(&root, &raw, 2048, &["-t", "ext4"]);
    for (name, options) in [("disk.qcow2", &[][..]), ("packed.qcow2", &["-c"])] {
        let image = place.path().join(name);
        let arguments = [&["convert", "-O", "qcow2"][..], options, &[text(&raw), text(&image)]];
        run("qemu-img", &arguments.concat());
    }
    World { place }
});

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }
}

fn inventory(path: &Path) -> usize {
    inspect::open(path, None).unwrap().inventory().unwrap().packages.len()
}

#[divan::bench(args = ["root", "disk.raw", "disk.qcow2", "packed.qcow2"])]
fn server(bencher: Bencher<'_, '_>, holder: &str) {
    let path = WORLD.path(holder);
    assert_eq!(inventory(&path), 348);
    bencher.bench_local(|| inventory(&path));
}

fn main() {
    divan::main();
}
