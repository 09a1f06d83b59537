//! Which layers an image has (OCI image specification 1.1; Docker image specification 1.2).

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::ImageError;
use super::store::Store;
use super::stream::hex;

/// Descriptions are some kilobytes; the specification advises 4 MiB at most.
const MAX_DESCRIPTION: u64 = 4 << 20;

/// Indexes may name indexes; tools write two levels.
const MAX_INDEX_DEPTH: usize = 4;

/// An overlay filesystem takes 500 layers at most.
const MAX_LAYERS: usize = 1000;

/// The platform taken where an image has several.
const PREFERRED: (&str, &str) = ("linux", "amd64");

/// One layer, lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) path: String,
    pub(super) checksum: Checksum,
}

/// What the image promises of a layer, SHA-256 in lower-case hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Checksum {
    /// Of the blob as it lies there, with its size.
    Packed { sha256: String, size: u64 },
    /// Of the tar archive in it.
    Unpacked { sha256: String },
}

#[derive(Debug, Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Config {
    rootfs: RootFs,
}

#[derive(Debug, Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// The layers of the one image in an OCI layout.
pub(super) fn of_oci(store: &Store) -> Result<Vec<Layer>, ImageError> {
    let index: Index = parse("index.json", &required(store, "index.json")?)?;
    let mut candidates = index.manifests;
    for _ in 0..MAX_INDEX_DEPTH {
        let chosen = choose(candidates)?;
        let path = blob_path(&chosen)?;
        let content = required(store, &path)?;
        verify(&path, &content, &chosen)?;
        if !chosen.media_type.contains("index") && !chosen.media_type.contains("manifest.list") {
            let manifest: Manifest = parse(&path, &content)?;
            return manifest
                .layers
                .iter()
                .map(oci_layer)
                .collect::<Result<_, _>>()
                .and_then(bounded);
        }
        candidates = parse::<Index>(&path, &content)?.manifests;
    }
    let reason = format!("its indexes are nested more than {MAX_INDEX_DEPTH} deep");
    Err(ImageError::Damaged { path: "index.json".to_owned(), reason })
}

/// The layers of the one image in what `docker save` wrote.
pub(super) fn of_docker(store: &Store) -> Result<Vec<Layer>, ImageError> {
    let path = "manifest.json";
    let mut images: Vec<DockerImage> = parse(path, &required(store, path)?)?;
    let image = match (images.len(), images.pop()) {
        (1, Some(image)) => image,
        (_, None) => {
            return Err(ImageError::NoImage { reason: format!("`{path}` names none") });
        }
        (_, Some(last)) => {
            images.push(last);
            let name = |image: &DockerImage| {
                image
                    .repo_tags
                    .as_ref()
                    .and_then(|tags| tags.first())
                    .unwrap_or(&image.config)
                    .clone()
            };
            return Err(ImageError::Ambiguous { choices: images.iter().map(name).collect() });
        }
    };
    let content = required(store, &image.config)?;
    verify_named(&image.config, &content)?;
    let config: Config = parse(&image.config, &content)?;
    let diff_ids = config.rootfs.diff_ids;
    if diff_ids.len() != image.layers.len() {
        let reason =
            format!("it has {} layers, its configuration {}", image.layers.len(), diff_ids.len());
        return Err(ImageError::Damaged { path: path.to_owned(), reason });
    }
    let layer = |(path, diff_id): (String, String)| {
        let sha256 = sha256_of(&diff_id)?.to_owned();
        Ok(Layer { path, checksum: Checksum::Unpacked { sha256 } })
    };
    image.layers.into_iter().zip(diff_ids).map(layer).collect::<Result<_, _>>().and_then(bounded)
}

fn bounded(layers: Vec<Layer>) -> Result<Vec<Layer>, ImageError> {
    match layers.len() {
        0 => Err(ImageError::NoImage { reason: "the image has no layers".to_owned() }),
        1..=MAX_LAYERS => Ok(layers),
        many => Err(ImageError::NoImage { reason: format!("it has {many} layers") }),
    }
}

fn oci_layer(layer: &Descriptor) -> Result<Layer, ImageError> {
    let path = blob_path(layer)?;
    let sha256 = sha256_of(&layer.digest)?.to_owned();
    Ok(Layer { path, checksum: Checksum::Packed { sha256, size: layer.size } })
}

/// The only image, or the only one for the preferred platform. Attestations stand beside images
/// as if they were images, for no platform.
fn choose(candidates: Vec<Descriptor>) -> Result<Descriptor, ImageError> {
    let mut images: Vec<Descriptor> = candidates
        .into_iter()
        .filter(|candidate| {
            let unknown = |platform: &Platform| platform.os == "unknown";
            !candidate.platform.as_ref().is_some_and(unknown)
                && !candidate.annotations.contains_key("vnd.docker.reference.type")
        })
        .collect();
    let preferred = |image: &Descriptor| {
        image.platform.as_ref().is_some_and(|platform| {
            (platform.os.as_str(), platform.architecture.as_str()) == PREFERRED
        })
    };
    let digests: std::collections::BTreeSet<&str> =
        images.iter().map(|image| image.digest.as_str()).collect();
    if digests.len() == 1 {
        return Ok(images.swap_remove(0));
    }
    if digests.is_empty() {
        return Err(ImageError::NoImage { reason: "its index names none".to_owned() });
    }
    if images.iter().filter(|image| preferred(image)).count() == 1 {
        images.retain(preferred);
        return Ok(images.swap_remove(0));
    }
    Err(ImageError::Ambiguous { choices: images.iter().map(describe).collect() })
}

fn describe(image: &Descriptor) -> String {
    let name = image
        .annotations
        .get("org.opencontainers.image.ref.name")
        .or_else(|| image.annotations.get("io.containerd.image.name"))
        .unwrap_or(&image.digest);
    match &image.platform {
        Some(platform) => format!("{name} ({}/{})", platform.os, platform.architecture),
        None => name.clone(),
    }
}

fn blob_path(descriptor: &Descriptor) -> Result<String, ImageError> {
    Ok(format!("blobs/sha256/{}", sha256_of(&descriptor.digest)?))
}

/// The hex of `sha256:hex`; nothing else may become part of a path.
fn sha256_of(digest: &str) -> Result<&str, ImageError> {
    digest.strip_prefix("sha256:").filter(|hex| is_sha256(hex)).ok_or_else(|| {
        ImageError::Unsupported {
            path: digest.to_owned(),
            what: "a digest of another kind than sha256".to_owned(),
        }
    })
}

fn is_sha256(hex: &str) -> bool {
    hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn required(store: &Store, path: &str) -> Result<Vec<u8>, ImageError> {
    store.read(path, MAX_DESCRIPTION)?.ok_or_else(|| ImageError::Missing { path: path.to_owned() })
}

fn parse<'a, T: Deserialize<'a>>(path: &str, content: &'a [u8]) -> Result<T, ImageError> {
    serde_json::from_slice(content)
        .map_err(|error| ImageError::Damaged { path: path.to_owned(), reason: error.to_string() })
}

fn verify(path: &str, content: &[u8], promised: &Descriptor) -> Result<(), ImageError> {
    verify_digest(path, content, sha256_of(&promised.digest)?)
}

/// `docker save` names a configuration after its digest, but not a layer.
fn verify_named(path: &str, content: &[u8]) -> Result<(), ImageError> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_suffix(".json").unwrap_or(name);
    if is_sha256(name) { verify_digest(path, content, name) } else { Ok(()) }
}

fn verify_digest(path: &str, content: &[u8], expected: &str) -> Result<(), ImageError> {
    let found = hex(&Sha256::digest(content));
    if found == expected {
        return Ok(());
    }
    Err(ImageError::WrongDigest { path: path.to_owned(), expected: expected.to_owned(), found })
}
