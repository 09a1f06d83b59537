//! Container images, packed in every way, read like the layers they are made of.

#![allow(clippy::unwrap_used)] // In tests, also outside of test functions.

mod support;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use inspect::{ImageError, OpenError, TargetKind};
use serde_json::json;
use sha2::{Digest, Sha256};
use support::{data, run, text, write};

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"))
}

/// Packs a directory's content with the real tar.
fn tar(directory: &Path) -> Vec<u8> {
    let archive = directory.with_extension("tar");
    run("tar", &["--sort=name", "-C", text(directory), "-cf", text(&archive), "."]);
    std::fs::read(archive).unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A system in three layers: the base, a removal and an update, a change of the status.
fn layers(place: &Path) -> Vec<Vec<u8>> {
    let status = data("dpkg-status-bookworm-minbase.gz");
    let (one, two, three) = (place.join("one"), place.join("two"), place.join("three"));
    write(&one.join("usr/lib/os-release"), "ID=debian\nPRETTY_NAME=Debian\nVERSION_ID=12\n");
    std::fs::create_dir_all(one.join("etc")).unwrap();
    std::os::unix::fs::symlink("../usr/lib/os-release", one.join("etc/os-release")).unwrap();
    write(&one.join("etc/apt/sources.list.d/old.list"), "deb http://old.example.org x main\n");
    write(&one.join("etc/apt/removed"), "x");
    write(&one.join("usr/bin/tool"), vec![7; 300_000]);
    write(&one.join(format!("usr/share/{}/{}", "d".repeat(90), "f".repeat(120))), "long name");
    write(
        &one.join("var/lib/dpkg/status"),
        "Package: old\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n",
    );
    write(&two.join("etc/apt/.wh.removed"), "");
    write(&two.join("etc/apt/sources.list.d/.wh..wh..opq"), "");
    write(&two.join("etc/apt/sources.list.d/new.list"), "deb http://new.example.org x main\n");
    write(&three.join("var/lib/dpkg/status"), status);
    vec![tar(&one), tar(&two), tar(&three)]
}

fn assert_merged(path: &Path, kind: TargetKind) {
    let target = inspect::open(path, None).unwrap_or_else(|error| panic!("{kind}: {error}"));
    let inventory = target.inventory().unwrap();

    assert_eq!(target.kind(), kind);
    assert_eq!(inventory.packages.len(), 96);
    assert_eq!(inventory.os.version_id.as_deref(), Some("12"));
    assert_eq!(inventory.problems, Vec::<String>::new());
    let names = |directory: &str| -> Vec<String> {
        target.files().list(directory).unwrap().into_iter().map(|entry| entry.name).collect()
    };
    assert_eq!(names("/etc/apt/sources.list.d"), ["new.list"]);
    assert_eq!(names("/etc/apt"), ["sources.list.d"]);
    assert_eq!(names(&format!("/usr/share/{}", "d".repeat(90))), ["f".repeat(120)]);
}

/// An OCI layout as files.
struct Layout(BTreeMap<String, Vec<u8>>);

impl Layout {
    fn new() -> Self {
        let marker = json!({"imageLayoutVersion": "1.0.0"}).to_string().into_bytes();
        Self(BTreeMap::from([("oci-layout".to_owned(), marker)]))
    }

    fn blob(&mut self, media_type: &str, content: Vec<u8>) -> serde_json::Value {
        let digest = sha256(&content);
        let size = content.len();
        self.0.insert(format!("blobs/sha256/{digest}"), content);
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size})
    }

    fn image(&mut self, layers: Vec<Vec<u8>>) -> serde_json::Value {
        let config = self.blob("application/vnd.oci.image.config.v1+json", b"{}".to_vec());
        let layers: Vec<_> = layers
            .into_iter()
            .map(|layer| self.blob("application/vnd.oci.image.layer.v1.tar", layer))
            .collect();
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": layers});
        self.blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().into_bytes())
    }

    fn index(&mut self, manifests: &[serde_json::Value]) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        self.0.insert("index.json".to_owned(), index.to_string().into_bytes());
    }

    fn of(layers: Vec<Vec<u8>>) -> Self {
        let mut layout = Self::new();
        let manifest = layout.image(layers);
        layout.index(&[manifest]);
        layout
    }

    fn write(&self, place: &Path) -> PathBuf {
        let directory = place.join("layout");
        let _ = std::fs::remove_dir_all(&directory);
        for (path, content) in &self.0 {
            write(&directory.join(path), content);
        }
        directory
    }
}

fn platform(mut descriptor: serde_json::Value, os: &str, architecture: &str) -> serde_json::Value {
    descriptor["platform"] = json!({"os": os, "architecture": architecture});
    descriptor
}

fn image_error(path: &Path) -> ImageError {
    match inspect::open(path, None).map(|_| "it was read").unwrap_err() {
        OpenError::Image { error, .. } => {
            assert!(error.help().is_some(), "{error}");
            error
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_oci_layout_with_every_compression() {
    let place = tempfile::tempdir().unwrap();
    let [one, two, three]: [Vec<u8>; 3] = layers(place.path()).try_into().unwrap();
    let layout = Layout::of(vec![gzip(&one), zstd(&two), three]);

    assert_merged(&layout.write(place.path()), TargetKind::OciLayout);
}

#[test]
fn an_oci_archive_plain_and_compressed() {
    let place = tempfile::tempdir().unwrap();
    let layout = Layout::of(layers(place.path()).iter().map(|layer| gzip(layer)).collect());
    let plain = tar(&layout.write(place.path()));

    for (name, content) in
        [("a.tar", plain.clone()), ("a.tar.gz", gzip(&plain)), ("a.tar.zst", zstd(&plain))]
    {
        let archive = place.path().join(name);
        write(&archive, content);

        assert_merged(&archive, TargetKind::OciArchive);
    }
}

/// What `docker save` wrote before it wrote OCI layouts; a shared layer is a link.
fn docker_save(place: &Path, layers: &[Vec<u8>], diff_ids: &[String]) -> PathBuf {
    let directory = place.join("docker");
    let mut names = Vec::new();
    for (number, layer) in layers.iter().enumerate() {
        let real = format!("layer{number}-content/layer.tar");
        write(&directory.join(&real), layer);
        let linked = format!("layer{number}/layer.tar");
        std::fs::create_dir_all(directory.join(format!("layer{number}"))).unwrap();
        std::os::unix::fs::symlink(format!("../{real}"), directory.join(&linked)).unwrap();
        names.push(linked);
    }
    let config = json!({"rootfs": {"type": "layers", "diff_ids": diff_ids}}).to_string();
    let config_name = format!("{}.json", sha256(config.as_bytes()));
    write(&directory.join(&config_name), config);
    let manifest = json!([{"Config": config_name, "RepoTags": ["a:1"], "Layers": names}]);
    write(&directory.join("manifest.json"), manifest.to_string());
    let archive = place.join("docker.tar");
    write(&archive, tar(&directory));
    archive
}

#[test]
fn what_docker_save_wrote() {
    let place = tempfile::tempdir().unwrap();
    let layers = layers(place.path());
    let diff_ids: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();

    assert_merged(&docker_save(place.path(), &layers, &diff_ids), TargetKind::DockerArchive);
}

#[test]
fn a_layer_that_is_not_the_promised_one_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let layers = layers(place.path());
    let mut diff_ids: Vec<_> =
        layers.iter().map(|layer| format!("sha256:{}", sha256(layer))).collect();
    diff_ids[1] = format!("sha256:{}", "0".repeat(64));
    let docker = docker_save(place.path(), &layers, &diff_ids);
    let mut oci = Layout::of(layers.clone());
    let blob = format!("blobs/sha256/{}", sha256(&layers[2]));
    let end = layers[2].len() - 1;
    oci.0.get_mut(&blob).unwrap()[end] = 1;

    assert!(matches!(image_error(&docker), ImageError::WrongDigest { .. }));
    assert!(matches!(image_error(&oci.write(place.path())), ImageError::WrongDigest { .. }));

    oci.0.get_mut(&blob).unwrap().truncate(end);
    assert!(matches!(image_error(&oci.write(place.path())), ImageError::Damaged { .. }));

    oci.0.remove(&blob);
    assert!(matches!(image_error(&oci.write(place.path())), ImageError::Missing { .. }));
}

#[test]
fn of_several_images_the_one_for_this_kind_of_cloud_is_taken() {
    let place = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let wanted = layout.image(layers(place.path()));
    let other = layout.image(vec![tar(&place.path().join("two"))]);
    let attestation = layout.image(vec![tar(&place.path().join("three"))]);
    let index = json!({"schemaVersion": 2, "manifests": [
        platform(other.clone(), "linux", "arm64"),
        platform(wanted.clone(), "linux", "amd64"),
        platform(attestation, "unknown", "unknown"),
    ]});
    let nested =
        layout.blob("application/vnd.oci.image.index.v1+json", index.to_string().into_bytes());
    layout.index(&[nested]);

    assert_merged(&layout.write(place.path()), TargetKind::OciLayout);

    layout.index(&[platform(other, "linux", "arm64"), platform(wanted, "linux", "riscv64")]);
    let error = image_error(&layout.write(place.path()));
    assert!(matches!(error, ImageError::Ambiguous { .. }), "{error}");
    assert!(
        error.to_string().contains("linux/arm64") && error.to_string().contains("linux/riscv64")
    );
}

#[test]
fn digests_do_not_become_paths() {
    let place = tempfile::tempdir().unwrap();
    write(&place.path().join("secret"), "{}");
    let mut layout = Layout::new();
    layout.index(&[json!({"mediaType": "x", "digest": "sha256:../../../secret", "size": 2})]);

    let error = image_error(&layout.write(place.path()));

    assert!(matches!(error, ImageError::Unsupported { .. }), "{error}");
}

#[test]
fn indexes_that_name_themselves_come_to_an_end() {
    let place = tempfile::tempdir().unwrap();
    let mut layout = Layout::new();
    let mut inner = layout.image(layers(place.path()));
    for _ in 0..10 {
        let index = json!({"schemaVersion": 2, "manifests": [inner]}).to_string();
        inner = layout.blob("application/vnd.oci.image.index.v1+json", index.into_bytes());
    }
    layout.index(&[inner]);

    let error = image_error(&layout.write(place.path()));

    assert!(error.to_string().contains("nested"), "{error}");
}

/// One tar header by hand, for what the real tar refuses to write.
fn member(path: &str, kind: u8, link: &str, content: &[u8], size: u64) -> Vec<u8> {
    let mut header = [0; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..263].copy_from_slice(b"ustar\0");
    header[148..156].fill(b' ');
    let sum: u64 = header.iter().map(|&byte| u64::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut bytes = header.to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

#[test]
fn members_that_lead_out_or_lie_are_left_out_or_refused() {
    let place = tempfile::tempdir().unwrap();
    let file = |path: &str, content: &str| {
        member(path, b'0', "", content.as_bytes(), content.len() as u64)
    };
    let layer = [
        file("etc/os-release", "ID=debian\n"),
        file("etc/../../outside", "x"),
        member("etc/out", b'2', "../../../../../etc/os-release", b"", 0),
        member("etc/pipe", b'6', "", b"", 0),
        file(
            "var/lib/dpkg/status",
            "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n",
        ),
    ]
    .concat();
    let target = inspect::open(&Layout::of(vec![layer]).write(place.path()), None).unwrap();
    let inventory = target.inventory().unwrap();
    assert_eq!(inventory.packages.len(), 1);
    assert_eq!(inventory.problems.len(), 1, "{:?}", inventory.problems);
    assert!(inventory.problems[0].contains("outside"));
    let through = target.files().read("/etc/out", 100).unwrap().unwrap();
    assert_eq!(through, b"ID=debian\n");
    assert_eq!(target.files().read("/etc/pipe", 100).unwrap(), None);

    for (said, layer) in [
        ("exceed", member("etc/huge", b'0', "", b"", 7 << 30)),
        ("damaged", member("etc/cut", b'0', "", b"short", 4096)),
        ("extension", member("x", b'L', "", b"", 1 << 30)),
        ("extension", member("x", b'x', "", b"", 1 << 30)),
        ("number is damaged", vec![0xAA; 1024]),
        ("checksum", [b"x", &member("etc/a", b'5', "", b"", 0)[1..]].concat()),
    ] {
        let error = image_error(&Layout::of(vec![layer]).write(place.path()));
        assert!(error.to_string().contains(said), "{said}: {error}");
    }
}

#[test]
fn a_bomb_is_stopped() {
    let place = tempfile::tempdir().unwrap();
    // 5 GiB of zeros, 2.7 million to one: made frame by frame, as its author would.
    let frame = zstd(&vec![0; 64 << 20]);
    let header = member("usr/zeros", b'0', "", b"", 5 << 30);
    let layer = [zstd(&header), frame.repeat(80)].concat();

    let error = image_error(&Layout::of(vec![layer]).write(place.path()));

    assert!(matches!(error, ImageError::Bomb { .. }), "{error}");
}
