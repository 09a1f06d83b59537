//! Against two readers that share no code with ours (`debugfs`, the crate `ext4-view`), and
//! against whoever means us harm.

use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use domain::files::{EntryKind, FileError, FileView};
use proptest::prelude::*;

use super::*;
use crate::disk::RawDisk;
use crate::support::{mke2fs, run, run_with, text, write};
use crate::tree::Tree;

const LIMIT: u64 = 64 << 20;

fn open(image: &Path) -> Result<Tree<Ext4Tree>, Damage> {
    let disk = RawDisk::named_by_user(image).map_err(|error| error.to_string())?;
    Ext4Tree::open(Box::new(disk)).map(Tree)
}

/// Everything that is awkward to store.
fn awkward_root(place: &Path) -> PathBuf {
    let root = place.join("awkward");
    write(&root.join("empty"), "");
    write(&root.join("tiny"), "t");
    write(&root.join("inline-size"), "i".repeat(150));
    write(
        &root.join("large"),
        (0..3_000_000_u32).map(|at| at.to_le_bytes()[1]).collect::<Vec<u8>>(),
    );
    for number in 0..3000 {
        write(&root.join(format!("many/a-rather-long-file-name-{number:05}")), format!("{number}"));
    }
    let sparse = std::fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(40 << 20).unwrap();
    for place in [0, 5_000_000, 13_000_000, (40 << 20) - 7] {
        sparse.write_at(b"island", place).unwrap();
    }
    symlink("tiny", root.join("short-link")).unwrap();
    std::fs::create_dir_all(root.join("d".repeat(100))).unwrap();
    symlink(format!("/{}/../tiny", "d".repeat(100)), root.join("long-link")).unwrap();
    symlink("../../../../tiny", root.join("climbing")).unwrap();
    symlink("loop", root.join("loop")).unwrap();
    root
}

fn paths(view: &ext4_view::Ext4, directory: &str, found: &mut Vec<(String, bool)>) {
    for entry in view.read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().as_str().unwrap().to_owned();
        if name == "." || name == ".." {
            continue;
        }
        let path = format!("{}/{name}", directory.trim_end_matches('/'));
        let kind = entry.file_type().unwrap();
        found.push((path.clone(), kind.is_dir()));
        if kind.is_dir() {
            paths(view, &path, found);
        }
    }
}

#[test]
fn content_is_what_another_reader_says() {
    let place = tempfile::tempdir().unwrap();
    let root = awkward_root(place.path());
    for options in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-O", "^extents,^64bit,^metadata_csum", "-b", "1024"],
        &["-t", "ext2"],
    ] {
        let image = place.path().join("image");
        mke2fs(&root, &image, 96, options);
        let ours = open(&image).unwrap();
        let theirs = ext4_view::Ext4::load(Box::new(std::fs::read(&image).unwrap())).unwrap();

        let mut all = Vec::new();
        paths(&theirs, "/", &mut all);

        assert!(all.len() > 3000, "{options:?}");
        for (path, is_directory) in all {
            if is_directory {
                let names = |listed: Vec<domain::files::Entry>| -> Vec<String> {
                    listed.into_iter().map(|entry| entry.name).collect()
                };
                let mut expected: Vec<String> = theirs
                    .read_dir(path.as_str())
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().as_str().unwrap().to_owned())
                    .filter(|name| name != "." && name != "..")
                    .collect();
                expected.sort();
                assert_eq!(names(ours.list(&path).unwrap()), expected, "{options:?} {path}");
            } else if path == "/loop" {
                assert!(matches!(ours.read(&path, LIMIT), Err(FileError::LinkLoop { .. })));
            } else {
                // The other reader does not know holes of whole tables in ext2's block maps.
                let expected = match theirs.read(path.as_str()) {
                    Ok(content) => content,
                    Err(_) => std::fs::read(root.join(&path[1..])).unwrap(),
                };
                let read = ours.read(&path, LIMIT).unwrap();
                assert!(read.as_ref() == Some(&expected), "{options:?} {path}");
            }
        }
    }
}

#[test]
fn small_files_and_directories_in_their_inodes() {
    let place = tempfile::tempdir().unwrap();
    let root = awkward_root(place.path());
    write(&root.join("few/one"), "1");
    write(&root.join("few/a-name-that-needs-the-second-part-of-the-inode"), "2");
    write(&root.join("few/and-another-name-that-needs-it"), "3");
    let image = place.path().join("image");
    mke2fs(&root, &image, 96, &["-t", "ext4", "-O", "inline_data", "-I", "512"]);

    let tree = open(&image).unwrap();

    for name in
        ["empty", "tiny", "inline-size", "large", "few/one", "many/a-rather-long-file-name-02999"]
    {
        let expected = std::fs::read(root.join(name)).unwrap();
        assert!(tree.read(&format!("/{name}"), LIMIT).unwrap() == Some(expected), "{name}");
    }
    for directory in ["few", "many"] {
        let listed = tree.list(&format!("/{directory}")).unwrap();
        assert_eq!(listed.len(), std::fs::read_dir(root.join(directory)).unwrap().count());
        assert!(listed.iter().all(|entry| entry.kind == EntryKind::File));
    }
    assert_eq!(tree.read("/long-link", LIMIT).unwrap().as_deref(), Some(&b"t"[..]));
    assert_eq!(tree.read("/climbing", LIMIT).unwrap().as_deref(), Some(&b"t"[..]));
}

/// Commands to `debugfs`, which can write a journal without replaying it.
fn debugfs(image: &Path, commands: &str) {
    let script = image.with_extension("commands");
    write(&script, commands);
    run("debugfs", &["-w", "-f", text(&script), text(image)]);
}

/// The block on which a file's content begins.
fn first_block(image: &Path, file: &str) -> u64 {
    let printed = run("debugfs", &["-R", &format!("bmap {file} 0"), text(image)]);
    printed.trim().parse().unwrap()
}

#[test]
fn a_journal_that_was_not_replayed_is_newer_than_the_disk() {
    let place = tempfile::tempdir().unwrap();
    let root = place.path().join("root");
    for name in ["first", "second", "third", "untouched"] {
        write(&root.join(name), "old ".repeat(1024));
    }
    for options in [
        &["-t", "ext4", "-b", "4096"][..],
        &["-t", "ext4", "-b", "4096", "-O", "^64bit,^metadata_csum"],
        &["-t", "ext3", "-b", "4096"],
    ] {
        let image = place.path().join("image");
        mke2fs(&root, &image, 32, options);
        let block = |file: &str| first_block(&image, file);
        let (first, second, third) = (block("/first"), block("/second"), block("/third"));
        let content = |name: &str, start: &[u8]| {
            let path = place.path().join(name);
            let mut bytes = start.to_vec();
            bytes.resize(4096, b'.');
            write(&path, bytes);
            path
        };
        let one = content("one", b"one");
        let two = content("two", b"two");
        // Data that looks like the journal's own.
        let magic = content("magic", &[0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 2]);
        debugfs(
            &image,
            &format!(
                "jo\njw -b {first} {one}\njw -b {third} {one}\njw -b {first} {two}\njw -b {second} {magic}\njw -r {third}\njc\n",
                one = one.display(),
                two = two.display(),
                magic = magic.display()
            ),
        );

        let tree = open(&image).unwrap();
        let read = |name: &str| tree.read(name, 8192).unwrap().unwrap();
        let ours = ["/first", "/second", "/third", "/untouched"].map(read);

        // What the kernel would make of it.
        run_with("sh", &["-c", "e2fsck -fy \"$0\" || test $? = 1", text(&image)], |command| {
            command
        });
        let replayed = open(&image).unwrap();
        assert!(replayed.0.superblock.journal_to_replay.is_none());
        let theirs = ["/first", "/second", "/third", "/untouched"]
            .map(|name| replayed.read(name, 8192).unwrap().unwrap());
        assert!(ours == theirs, "{options:?}");
        assert!(ours[0].starts_with(b"two") && ours[1].starts_with(&[0xC0, 0x3B]), "{options:?}");
        assert!(ours[2].starts_with(b"old"), "a revoked block came back: {options:?}");
    }
}

/// An image to be altered in places.
struct Victim {
    place: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Victim {
    fn new(options: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().join("root");
        write(&root.join("etc/os-release"), "ID=debian\n");
        write(&root.join("var/lib/dpkg/status"), "Package: a\n".repeat(3000));
        symlink("x".repeat(80), root.join("link")).unwrap();
        let image = place.path().join("image");
        mke2fs(
            &root,
            &image,
            4,
            &[&["-t", "ext4", "-b", "1024", "-O", "^metadata_csum"], options].concat(),
        );
        let bytes = std::fs::read(&image).unwrap();
        Self { place, bytes }
    }

    fn image(&self) -> PathBuf {
        self.place.path().join("image")
    }

    fn altered(&self, at: usize, bytes: &[u8]) -> Result<Tree<Ext4Tree>, Damage> {
        let image = self.place.path().join(format!("altered-{at}"));
        std::fs::write(&image, &self.bytes).unwrap();
        let file = OpenOptions::new().write(true).open(&image).unwrap();
        file.write_all_at(bytes, at as u64).unwrap();
        open(&image)
    }

    /// Where an inode lies in the image.
    fn inode(&self, path: &str) -> usize {
        let printed = run("debugfs", &["-R", &format!("imap {path}"), text(&self.image())]);
        let (_, located) = printed.split_once("located at block ").unwrap();
        let (block, offset) = located.split_once(", offset 0x").unwrap();
        let offset = usize::from_str_radix(offset.trim(), 16).unwrap();
        block.parse::<usize>().unwrap() * 1024 + offset
    }
}

#[test]
fn absurd_superblocks_are_refused_without_memory() {
    let victim = Victim::new(&[]);
    let cases: [(&str, usize, &[u8]); 8] = [
        ("magic number", 0x38, &[0, 0]),
        ("but its volume", 0x4, &u32::MAX.to_le_bytes()),
        ("blocks of 2^", 0x18, &u32::MAX.to_le_bytes()),
        ("a group has 0 blocks", 0x20, &[0; 4]),
        ("and 0 inodes", 0x28, &[0; 4]),
        ("inodes of 3 bytes", 0x58, &3_u16.to_le_bytes()),
        ("group descriptors of 1 bytes", 0xFE, &1_u16.to_le_bytes()),
        ("not known", 0x60, &u32::MAX.to_le_bytes()),
    ];
    for (said, at, bytes) in cases {
        let refusal = victim.altered(1024 + at, bytes).unwrap_err();
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
}

#[test]
fn absurd_inodes_are_refused_without_memory_or_time() {
    let victim = Victim::new(&[]);
    let size_high = 0x6C;
    let huge = 1_u32 << 20;

    let file = victim
        .altered(victim.inode("/var/lib/dpkg/status") + size_high, &huge.to_le_bytes())
        .unwrap();
    let directory = victim.altered(victim.inode("/etc") + size_high, &huge.to_le_bytes()).unwrap();
    let link = victim.altered(victim.inode("/link") + size_high, &huge.to_le_bytes()).unwrap();

    let refusal = file.read("/var/lib/dpkg/status", LIMIT).map(|_| "it was read").unwrap_err();
    assert!(matches!(refusal, FileError::TooLarge { .. }), "{refusal}");
    let refusal = directory.read("/etc/os-release", LIMIT).unwrap_err().to_string();
    assert!(refusal.contains("beyond reason"), "{refusal}");
    assert!(directory.list("/etc").is_err());
    let refusal = link.read("/link", LIMIT).unwrap_err().to_string();
    assert!(refusal.contains("link target of"), "{refusal}");
    assert!(link.list("/").unwrap().iter().any(|entry| entry.name == "etc"));
}

#[test]
fn extents_that_lead_in_circles_or_away_are_refused() {
    let victim = Victim::new(&[]);
    let root = victim.inode("/var/lib/dpkg/status") + 0x28;
    // A tree of depth 3 whose only child is a block of the same kind, and so on.
    let node = |depth: u16, child: u32| -> Vec<u8> {
        let mut node = Vec::new();
        for word in [0xF30A, 1, 4, depth, 0, 0] {
            node.extend(word.to_le_bytes());
        }
        node.extend([0; 4]);
        node.extend(child.to_le_bytes());
        node.extend([0; 4]);
        node
    };
    let itself = u32::try_from(root / 1024).unwrap();

    for (said, bytes) in [
        ("no extents", node(9, itself)),
        ("is asked for", node(3, u32::MAX)),
        ("extents", node(3, itself)),
        ("more than there is room", [&[0x0A, 0xF3, 0xFF, 0xFF][..], &[0; 8]].concat()),
    ] {
        let refusal = victim.altered(root, &bytes).unwrap().read("/var/lib/dpkg/status", LIMIT);
        let refusal = refusal.map(|_| "it was read").unwrap_err().to_string();
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
}

#[test]
fn directory_entries_that_do_not_fit_are_refused() {
    let victim = Victim::new(&[]);
    let block = usize::try_from(first_block(&victim.image(), "/etc")).unwrap() * 1024;

    let too_long = victim.altered(block + 4, &0xFFF0_u16.to_le_bytes()).unwrap();
    let endless = victim.altered(block + 4, &[0, 0]).unwrap();

    for tree in [too_long, endless] {
        let refusal = tree.read("/etc/os-release", LIMIT).unwrap_err().to_string();
        assert!(refusal.contains("does not fit"), "{refusal}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn no_damage_panics(hits in prop::collection::vec((0..4_u8, any::<usize>(), any::<u8>()), 1..10)) {
        thread_local! {
            static VICTIM: (Victim, [usize; 4]) = {
                let victim = Victim::new(&[]);
                let places = ["/", "/etc", "/var/lib/dpkg/status", "/link"].map(|path| victim.inode(path));
                (victim, places)
            };
        }
        VICTIM.with(|(victim, inodes)| {
            let mut bytes = victim.bytes.clone();
            for (kind, offset, byte) in &hits {
                let at = match kind {
                    0 => 1024 + offset % 1024,
                    1 => inodes[offset % 4] + offset % 128,
                    // Group descriptors and what follows them.
                    2 => 2048 + offset % 65536,
                    _ => offset % bytes.len(),
                };
                bytes[at] = *byte;
            }
            let image = victim.place.path().join("damaged");
            std::fs::write(&image, &bytes).unwrap();
            if let Ok(tree) = open(&image) {
                let _ = tree.list("/");
                let _ = tree.list("/etc");
                for path in ["/etc/os-release", "/var/lib/dpkg/status", "/link", "/etc/../link/x"] {
                    let _ = tree.read(path, LIMIT);
                }
            }
        });
    }
}
