//! An inventory does not depend on what holds the system.

#![allow(clippy::unwrap_used)] // In tests, also outside of test functions.

mod support;

use std::path::{Path, PathBuf};

use domain::inventory::Inventory;
use inspect::{DiskError, OpenError, TargetKind};
use support::{data, debian_root, mke2fs, run, run_with, text, write};

struct World {
    place: tempfile::TempDir,
    root: PathBuf,
    expected: Inventory,
}

fn world() -> World {
    let place = tempfile::tempdir().unwrap();
    let root = debian_root(place.path(), &data("dpkg-status-bookworm-minbase.gz"));
    let expected = inspect::open(&root, None).unwrap().inventory().unwrap();
    assert_eq!(expected.installed_kernels, ["6.1.0-50-amd64", "6.1.0-9-amd64"]);
    World { place, root, expected }
}

impl World {
    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn filesystem(&self, name: &str, options: &[&str]) -> PathBuf {
        let image = self.path(name);
        mke2fs(&self.root, &image, 24, options);
        image
    }

    fn assert_reads_alike(&self, image: &Path, kind: TargetKind) {
        let target = inspect::open(image, None)
            .unwrap_or_else(|error| panic!("{}: {error}", image.display()));

        assert_eq!(target.kind(), kind);
        assert_eq!(target.inventory().unwrap(), self.expected, "{}", image.display());
        let sources = target.files().read("/etc/apt/sources.list", 1000).unwrap().unwrap();
        assert_eq!(sources, std::fs::read(self.root.join("etc/apt/sources.list")).unwrap());
    }
}

#[test]
fn every_ext_filesystem() {
    let world = world();
    for (name, options) in [
        ("ext2", &["-t", "ext2"][..]),
        ("ext3", &["-t", "ext3", "-b", "1024"]),
        ("ext4", &["-t", "ext4"]),
        ("ext4-1k", &["-t", "ext4", "-b", "1024"]),
        ("ext4-64k", &["-t", "ext4", "-b", "65536"]),
        ("ext4-inline", &["-t", "ext4", "-O", "inline_data", "-I", "512"]),
        ("ext4-narrow", &["-t", "ext4", "-O", "^64bit,^metadata_csum", "-I", "128"]),
        (
            "ext4-meta-groups",
            &["-t", "ext4", "-b", "1024", "-g", "512", "-O", "meta_bg,^resize_inode"],
        ),
        ("ext4-sparse2", &["-t", "ext4", "-O", "sparse_super2"]),
    ] {
        world.assert_reads_alike(&world.filesystem(name, options), TargetKind::RawDisk);
    }
}

#[test]
fn every_qcow2_image() {
    let world = world();
    let raw = world.filesystem("raw", &["-t", "ext4"]);
    for (name, options) in [
        ("v3", &[][..]),
        ("v2", &["-o", "compat=0.10"]),
        ("packed", &["-c"]),
        ("packed-zstd", &["-c", "-o", "compression_type=zstd"]),
        ("extended", &["-o", "extended_l2=on"]),
        ("small-clusters", &["-o", "cluster_size=512"]),
        ("large-clusters", &["-o", "cluster_size=2M"]),
        ("preallocated", &["-o", "preallocation=metadata"]),
    ] {
        let image = world.path(name);
        let mut arguments = vec!["convert", "-O", "qcow2"];
        arguments.extend(options);
        arguments.extend([text(&raw), text(&image)]);
        run("qemu-img", &arguments);

        world.assert_reads_alike(&image, TargetKind::Qcow2Disk);
    }
}

#[test]
fn an_overlay_over_overlays() {
    let world = world();
    let base = world.filesystem("base.raw", &["-t", "ext4"]);
    let mut below = ("raw", base);
    for name in ["one.qcow2", "two.qcow2"] {
        let overlay = world.path(name);
        // Relative to the overlay's own directory, not to ours.
        let backing = below.1.file_name().unwrap().to_str().unwrap();
        run(
            "qemu-img",
            &["create", "-q", "-f", "qcow2", "-b", backing, "-F", below.0, text(&overlay)],
        );
        below = ("qcow2", overlay);
    }

    world.assert_reads_alike(&below.1, TargetKind::Qcow2Disk);
}

/// Lays partitions out with sfdisk and puts the filesystem into one of them.
fn partitioned(world: &World, name: &str, script: &str, start_sector: u64) -> PathBuf {
    let filesystem = world.filesystem(&format!("{name}.fs"), &["-t", "ext4"]);
    let disk = world.path(name);
    std::fs::File::create(&disk).unwrap().set_len(64 << 20).unwrap();
    let layout = world.path("layout");
    write(&layout, script);
    run_with("sfdisk", &["-q", text(&disk)], |command| {
        command.stdin(std::fs::File::open(&layout).unwrap())
    });
    let seek = format!("seek={start_sector}");
    let (from, to) = (format!("if={}", text(&filesystem)), format!("of={}", text(&disk)));
    run("dd", &[&from, &to, "bs=512", &seek, "conv=notrunc", "status=none"]);
    disk
}

#[test]
fn every_partition_table() {
    let world = world();
    let gpt = "label: gpt\nstart=2048,size=4096,type=U\nstart=8192,size=49152,type=L\n";
    let mbr = "label: dos\nstart=2048,size=4096,type=82\nstart=8192,size=49152,type=83\n";
    let logical = "label: dos\nstart=2048,size=4096,type=83\nstart=8192,type=5\nstart=10240,size=2048\nstart=16384,size=49152\n";

    for (name, script, start) in
        [("gpt", gpt, 8192), ("mbr", mbr, 8192), ("logical", logical, 16384)]
    {
        let disk = partitioned(&world, name, script, start);

        world.assert_reads_alike(&disk, TargetKind::RawDisk);
    }
}

#[test]
fn the_second_partition_table_stands_in_for_the_first() {
    let world = world();
    let disk = partitioned(&world, "gpt", "label: gpt\nstart=8192,size=49152,type=L\n", 8192);
    let mut bytes = std::fs::read(&disk).unwrap();
    bytes[512..1024].fill(0);
    std::fs::write(&disk, &bytes).unwrap();
    world.assert_reads_alike(&disk, TargetKind::RawDisk);

    let last = bytes.len() - 512;
    bytes[last..].fill(0);
    std::fs::write(&disk, &bytes).unwrap();
    let error = inspect::open(&disk, None).unwrap_err();

    assert!(error.to_string().contains("GPT"), "{error}");
}

#[test]
fn what_is_not_read_is_named_with_what_to_do() {
    let world = world();
    for (name, offset, magic, said) in [
        ("xfs", 0, &b"XFSB"[..], "XFS"),
        ("btrfs", 0x10040, b"_BHRfS_M", "Btrfs"),
        ("luks", 0, b"LUKS\xBA\xBE", "LUKS"),
        ("lvm", 536, b"LVM2 001", "LVM"),
    ] {
        let image = world.path(name);
        let mut bytes = vec![0; 1 << 20];
        bytes[offset..offset + magic.len()].copy_from_slice(magic);
        std::fs::write(&image, bytes).unwrap();

        let error = inspect::open(&image, None).unwrap_err();

        assert!(error.to_string().contains(said), "{error}");
        assert!(error.help().unwrap().contains("virt-tar-out"), "{error}");
    }
    let empty = world.path("zeros");
    std::fs::write(&empty, vec![0; 1 << 20]).unwrap();

    let error = inspect::open(&empty, None).unwrap_err();

    assert!(matches!(error, OpenError::Disk { error: DiskError::NoRoot { .. }, .. }), "{error}");
}

#[test]
fn a_filesystem_cut_short_is_refused() {
    let world = world();
    let image = world.filesystem("cut", &["-t", "ext4"]);
    std::fs::OpenOptions::new().write(true).open(&image).unwrap().set_len(10 << 20).unwrap();

    let error = inspect::open(&image, None).unwrap_err();

    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn two_systems_on_one_disk_are_told() {
    let world = world();
    let script = "label: gpt\nstart=2048,size=49152,type=L\nstart=53248,size=49152,type=L\n";
    let disk = partitioned(&world, "both", script, 2048);
    let from = format!("if={}", text(&world.path("both.fs")));
    let to = format!("of={}", text(&disk));
    run("dd", &[&from, &to, "bs=512", "seek=53248", "conv=notrunc", "status=none"]);

    let inventory = inspect::open(&disk, None).unwrap().inventory().unwrap();

    assert_eq!(inventory.packages, world.expected.packages);
    assert_eq!(inventory.problems, ["partition 1 was read; partition 2 holds a system too"]);
}
