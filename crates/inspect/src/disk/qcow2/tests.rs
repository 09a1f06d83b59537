//! Against `qemu-img`, and against whoever means us harm.

use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;
use crate::support::{run, text};

/// A disk with data, zeros and holes; compressible in parts.
fn raw_disk(place: &Path) -> PathBuf {
    let mut content = vec![0_u8; 5 << 20];
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    for (at, byte) in content.iter_mut().enumerate() {
        *byte = match at >> 17 {
            block if block % 5 == 0 => {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state.to_le_bytes()[0]
            }
            block if block % 5 == 1 => at.to_le_bytes()[0] / 16,
            _ => 0,
        };
    }
    // Not a multiple of a cluster.
    content.truncate((5 << 20) - 3 * 512);
    let path = place.join("disk.raw");
    std::fs::write(&path, content).unwrap();
    path
}

fn convert(from: &Path, to: &Path, options: &[&str]) {
    let mut arguments = vec!["convert", "-O", "qcow2"];
    arguments.extend(options);
    arguments.extend([text(from), text(to)]);
    run("qemu-img", &arguments);
}

fn content(image: &Path) -> Result<Vec<u8>, DiskError> {
    let disk = Qcow2Disk::open(image)?;
    let mut content = vec![0; usize::try_from(disk.size()).unwrap()];
    disk.read_at(0, &mut content)?;
    Ok(content)
}

#[test]
fn content_is_what_qemu_says_byte_for_byte() {
    let place = tempfile::tempdir().unwrap();
    let raw = raw_disk(place.path());
    let expected = std::fs::read(&raw).unwrap();
    for options in [
        &[][..],
        &["-o", "compat=0.10"],
        &["-c"],
        &["-c", "-o", "compat=0.10"],
        &["-c", "-o", "compression_type=zstd"],
        &["-c", "-o", "compression_type=zstd,cluster_size=2M"],
        &["-o", "extended_l2=on,cluster_size=16k"],
        &["-o", "cluster_size=512"],
        &["-o", "preallocation=full"],
    ] {
        let image = place.path().join("image.qcow2");
        convert(&raw, &image, options);

        assert!(content(&image).unwrap() == expected, "{options:?}");
    }
}

#[test]
fn an_overlay_written_in_places_is_what_qemu_says() {
    let place = tempfile::tempdir().unwrap();
    raw_disk(place.path());
    for options in ["cluster_size=64k", "cluster_size=64k,extended_l2=on", "compat=0.10"] {
        let overlay = place.path().join("overlay.qcow2");
        // Larger than what is below.
        let arguments =
            ["create", "-q", "-f", "qcow2", "-b", "disk.raw", "-F", "raw", "-o", options];
        run("qemu-img", &[&arguments[..], &[text(&overlay), "6M"]].concat());
        for command in ["write -P 7 70000 5000", "write -z 1M 300k", "write -P 9 5242000 4096"] {
            run("qemu-io", &["-f", "qcow2", "-c", command, text(&overlay)]);
        }
        let flat = place.path().join("flat.raw");
        run("qemu-img", &["convert", "-f", "qcow2", "-O", "raw", text(&overlay), text(&flat)]);

        assert!(content(&overlay).unwrap() == std::fs::read(&flat).unwrap(), "{options}");
    }
}

#[test]
fn reads_at_any_offset_agree() {
    let place = tempfile::tempdir().unwrap();
    let raw = raw_disk(place.path());
    let expected = std::fs::read(&raw).unwrap();
    let image = place.path().join("image.qcow2");
    convert(&raw, &image, &["-c", "-o", "cluster_size=4k"]);
    let disk = Qcow2Disk::open(&image).unwrap();

    for (offset, length) in [(0, 1), (4095, 2), (100_000, 70_000), (5_241_343, 1), (1, 5_000_000)] {
        let mut buffer = vec![0; length];
        disk.read_at(offset, &mut buffer).unwrap();
        let start = usize::try_from(offset).unwrap();
        assert!(buffer == expected[start..start + length], "{offset} {length}");
    }
    let mut behind = [0; 2];
    let refused = disk.read_at(disk.size() - 1, &mut behind);
    assert!(matches!(refused, Err(DiskError::OutOfRange { .. })));
}

/// An image whose bytes are altered before it is opened.
struct Victim {
    place: tempfile::TempDir,
    bytes: Vec<u8>,
}

impl Victim {
    fn new(options: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let raw = raw_disk(place.path());
        let image = place.path().join("image.qcow2");
        convert(&raw, &image, options);
        let bytes = std::fs::read(&image).unwrap();
        Self { place, bytes }
    }

    fn u64_at(&self, at: usize) -> u64 {
        u64::from_be_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }

    fn l1(&self) -> usize {
        usize::try_from(self.u64_at(40)).unwrap()
    }

    fn l2(&self) -> usize {
        usize::try_from(self.u64_at(self.l1()) & cluster::OFFSET_MASK).unwrap()
    }

    fn read_with(&self, at: usize, bytes: &[u8]) -> Result<Vec<u8>, DiskError> {
        let mut altered = self.bytes.clone();
        altered[at..at + bytes.len()].copy_from_slice(bytes);
        self.read(&altered)
    }

    fn read(&self, bytes: &[u8]) -> Result<Vec<u8>, DiskError> {
        let image = self.place.path().join("hostile.qcow2");
        std::fs::write(&image, bytes).unwrap();
        content(&image)
    }

    fn refusal(&self, at: usize, bytes: &[u8]) -> String {
        let error = self.read_with(at, bytes).map(|_| "it was read").unwrap_err();
        assert!(error.help().is_some(), "{error}");
        error.to_string()
    }
}

#[test]
fn tables_that_point_wrong_are_refused() {
    let victim = Victim::new(&[]);
    let (l1, l2) = (victim.l1(), victim.l2());
    let place = |offset: usize| (offset as u64).to_be_bytes();

    let on_l1 = victim.refusal(l1, &place(l1));
    let behind = victim.refusal(l1, &place(1 << 40));
    let crooked = victim.refusal(l1, &place(l2 + 512));
    let data_on_l2 = victim.refusal(l2, &place(l2));
    let data_on_l1 = victim.refusal(l2, &place(l1));
    let data_behind = victim.refusal(l2, &place(1 << 40));

    assert!(on_l1.contains("on the L1 table"), "{on_l1}");
    assert!(behind.contains("but the file ends at"), "{behind}");
    assert!(crooked.contains("cluster boundary"), "{crooked}");
    assert!(data_on_l2.contains("own tables"), "{data_on_l2}");
    assert!(data_on_l1.contains("own tables"), "{data_on_l1}");
    assert!(data_behind.contains("but the file ends at"), "{data_behind}");
}

#[test]
fn two_l1_entries_may_not_share_a_table() {
    let victim = Victim::new(&["-o", "cluster_size=4k"]);
    let l1 = victim.l1();
    let first = victim.bytes[l1..l1 + 8].to_vec();

    let refusal = victim.refusal(l1 + 8, &first);

    assert!(refusal.contains("share the L2 table"), "{refusal}");
}

#[test]
fn absurd_headers_are_refused_without_memory() {
    let victim = Victim::new(&[]);
    let cases: [(&str, usize, &[u8]); 9] = [
        ("entries in the L1 table", 24, &u64::MAX.to_be_bytes()),
        ("clusters of 2^40", 20, &40_u32.to_be_bytes()),
        ("behind the file's end", 40, &(1_u64 << 60).to_be_bytes()),
        ("the L1 table lies at 0", 40, &[0; 8]),
        ("encryption", 32, &1_u32.to_be_bytes()),
        ("version 9", 4, &9_u32.to_be_bytes()),
        ("an external data file", 72, &4_u64.to_be_bytes()),
        ("unknown features", 72, &(1_u64 << 40).to_be_bytes()),
        ("the header claims", 100, &u32::MAX.to_be_bytes()),
    ];
    for (said, at, bytes) in cases {
        let refusal = victim.refusal(at, bytes);
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    // As large as the table is: everything would be in order but for the size.
    let mut huge = victim.bytes.clone();
    huge[24..32].copy_from_slice(&(1_u64 << 62).to_be_bytes());
    huge[36..40].copy_from_slice(&u32::MAX.to_be_bytes());
    let refusal = victim.read(&huge).unwrap_err().to_string();
    assert!(refusal.contains("entries in the L1 table") || refusal.contains("beyond reason"));
}

#[test]
fn damaged_compressed_clusters_are_refused() {
    for options in [&["-c"][..], &["-c", "-o", "compression_type=zstd"]] {
        let victim = Victim::new(options);
        // The first two clusters do not compress and are stored plain.
        let l2 = victim.l2() + 2 * 8;
        let host = usize::try_from(victim.u64_at(l2) & 0x0000_FFFF_FFFF).unwrap();

        let packed = victim.refusal(host, &[0xFF; 64]);
        let behind = victim.refusal(l2, &(1_u64 << 62 | 1 << 40).to_be_bytes());

        assert!(packed.contains("compressed cluster"), "{packed}");
        assert!(behind.contains("but the file ends at"), "{behind}");
    }
}

#[test]
fn every_truncation_is_survived() {
    let victim = Victim::new(&["-c"]);
    // What is written last are the reference counts, which reading does not need.
    for length in (0..200).chain((200..victim.bytes.len() / 2).step_by(40_009)) {
        assert!(victim.read(&victim.bytes[..length]).is_err(), "{length}");
    }
}

fn create_over(place: &Path, name: &str, backing: &str, format: Option<&str>) -> PathBuf {
    let image = place.join(name);
    let format = format.map_or(vec![], |format| vec!["-F", format]);
    let arguments = [&["create", "-q", "-u", "-f", "qcow2", "-b", backing][..], &format].concat();
    run("qemu-img", &[&arguments[..], &[text(&image), "1M"]].concat());
    image
}

/// `qemu-img` insists on a backing format; older images have none.
fn forget_backing_format(image: &Path) {
    let mut bytes = std::fs::read(image).unwrap();
    let at = bytes.windows(4).position(|four| four == [0xE2, 0x79, 0x2A, 0xCA]).unwrap();
    bytes[at..at + 4].copy_from_slice(&[0x11, 0x22, 0x33, 0x44]);
    std::fs::write(image, bytes).unwrap();
}

#[test]
fn chains_that_return_or_leave_this_machine_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let one = create_over(place.path(), "one", "two", Some("qcow2"));
    create_over(place.path(), "two", "one", Some("qcow2"));
    let own = create_over(place.path(), "own", "own", Some("qcow2"));
    let json = create_over(place.path(), "json", "json:{\"driver\":\"null-co\"}", Some("raw"));
    let network = create_over(place.path(), "nbd", "nbd://example.org/x", Some("raw"));
    let device = create_over(place.path(), "device", "/dev/zero", Some("raw"));
    let missing = create_over(place.path(), "missing", "nowhere.raw", Some("raw"));
    let vmdk = create_over(place.path(), "vmdk", "one", Some("vmdk"));

    let refusal = |image: &Path| {
        let error = content(image).map(|_| "it was read").unwrap_err();
        assert!(error.help().unwrap().contains("rebase"), "{error}");
        error.to_string()
    };

    assert!(refusal(&one).contains("leads back"));
    assert!(refusal(&own).contains("leads back"));
    assert!(refusal(&json).contains("`json:` is not a file"));
    assert!(refusal(&network).contains("`nbd:` is not a file"));
    assert!(refusal(&device).contains("neither a regular file"));
    assert!(refusal(&missing).contains("nowhere.raw"));
    assert!(refusal(&vmdk).contains("`vmdk`"));
}

#[test]
fn a_header_that_a_guest_wrote_leads_nowhere() {
    let place = tempfile::tempdir().unwrap();
    std::fs::write(place.path().join("secret"), vec![b'x'; 1 << 20]).unwrap();
    // The guest's raw disk begins like a qcow2 image over a file of the host.
    create_over(place.path(), "guest.raw", "secret", Some("raw"));
    let unstated = create_over(place.path(), "unstated", "guest.raw", Some("raw"));
    forget_backing_format(&unstated);
    let stated = create_over(place.path(), "stated", "guest.raw", Some("raw"));

    let refusal = content(&unstated).unwrap_err().to_string();

    assert!(refusal.contains("a guest may have written"), "{refusal}");
    assert!(content(&stated).unwrap().starts_with(&header::MAGIC));
}

#[test]
fn an_image_in_use_or_marked_corrupt_is_read_and_told() {
    let victim = Victim::new(&["-o", "lazy_refcounts=on"]);
    let image = victim.place.path().join("marked.qcow2");
    let mut bytes = victim.bytes.clone();
    bytes[79] |= 3;
    std::fs::write(&image, &bytes).unwrap();

    let disk = Qcow2Disk::open(&image).unwrap();

    assert_eq!(disk.notes().len(), 2, "{:?}", disk.notes());
    assert!(disk.notes()[0].contains("corrupt") && disk.notes()[1].contains("closed cleanly"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_damage_panics(hits in prop::collection::vec((0..0x40_u64, 0..0x1_0000_usize, any::<u8>()), 1..12)) {
        thread_local! {
            static VICTIM: Victim = Victim::new(&["-c", "-o", "cluster_size=64k"]);
        }
        VICTIM.with(|victim| {
            let mut bytes = victim.bytes.clone();
            for (kind, offset, byte) in &hits {
                // The tables are where it hurts.
                let at = match kind % 4 {
                    0 => offset % 128,
                    1 => victim.l1() + offset % 64,
                    2 => victim.l2() + offset % 1024,
                    _ => offset % bytes.len(),
                };
                bytes[at] = *byte;
            }
            let _ = victim.read_bounded(&bytes);
        });
    }
}

impl Victim {
    /// Like `read`, but the disk may claim any size now: the first megabytes will do.
    fn read_bounded(&self, bytes: &[u8]) -> Result<(), DiskError> {
        let image = self.place.path().join("damaged.qcow2");
        std::fs::write(&image, bytes).unwrap();
        let disk = Qcow2Disk::open(&image)?;
        let mut buffer = vec![0; usize::try_from(disk.size().min(4 << 20)).unwrap()];
        disk.read_at(0, &mut buffer)
    }
}
