//! Container images: OCI layouts and what `docker save` writes, as directory or archive.
//!
//! ```text
//! store (directory │ tar) ─► manifest ─► layers ─► digest checked ─► unpacked ─► merged tree
//! ```
//!
//! Layers are streamed: nothing is unpacked to disk, and only the files that readers of packages
//! and of apt configuration may ask for are held in memory.

mod error;
mod layer;
mod manifest;
mod store;
mod stream;
mod tar;

use std::path::Path;

pub use error::ImageError;
use manifest::Layer;
use store::Store;

use crate::tree::MergedTree;

/// A container image, merged.
#[derive(Debug)]
pub(crate) struct Image {
    pub(crate) tree: MergedTree,
    pub(crate) notes: Vec<String>,
}

/// How an archive describes the image in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Description {
    /// `oci-layout` and `index.json`.
    Oci,
    /// `manifest.json`.
    Docker,
}

/// Opens a directory in OCI image layout.
pub(crate) fn open_layout(path: &Path) -> Result<Image, ImageError> {
    let store = Store::directory(path)?;
    let layers = manifest::of_oci(&store)?;
    merge(&store, &layers)
}

/// An archive whose members are known, so that it can be told what it is.
#[derive(Debug)]
pub(crate) struct Archive {
    store: Store,
}

impl Archive {
    /// Reads the archive's table of members; a compressed one is unpacked to an unnamed file.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        Ok(Self { store: Store::archive(path)? })
    }

    /// What the archive holds; an archive that is both is taken as OCI, which is stricter.
    pub(crate) fn description(&self) -> Option<Description> {
        if self.store.has("index.json") && self.store.has("oci-layout") {
            Some(Description::Oci)
        } else if self.store.has("manifest.json") {
            Some(Description::Docker)
        } else {
            None
        }
    }

    /// Merges the image.
    pub(crate) fn image(&self, description: Description) -> Result<Image, ImageError> {
        let layers = match description {
            Description::Oci => manifest::of_oci(&self.store)?,
            Description::Docker => manifest::of_docker(&self.store)?,
        };
        merge(&self.store, &layers)
    }
}

fn merge(store: &Store, layers: &[Layer]) -> Result<Image, ImageError> {
    let mut tree = MergedTree::default();
    let mut notes = Vec::new();
    for layer in layers {
        let missing = || ImageError::Missing { path: layer.path.clone() };
        let part = store.open(&layer.path)?.ok_or_else(missing)?;
        layer::apply(layer, part, &mut tree, &mut notes)?;
    }
    Ok(Image { tree, notes })
}

/// Merges one layer whose promise is not looked at: for fuzzers, which cannot make digests.
pub(crate) fn merge_unchecked(archive: &[u8]) {
    let layer = Layer {
        path: "layer".to_owned(),
        checksum: manifest::Checksum::Unpacked { sha256: String::new() },
    };
    let part = store::Part { content: Box::new(archive), size: archive.len() as u64 };
    let mut tree = MergedTree::default();
    let _ = layer::apply(&layer, part, &mut tree, &mut Vec::new());
    let tree = crate::tree::Tree(tree);
    for directory in ["/", "/etc", "/lib"] {
        let _ = domain::files::FileView::list(&tree, directory);
    }
}
