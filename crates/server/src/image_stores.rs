//! Where clouds keep images of their own.

use std::fmt;
use std::path::Path;

/// The stores of images that the operator names.
pub trait ImageStores: fmt::Debug + Send + Sync {
    /// Their names, each with what it is.
    fn names(&self) -> Vec<(String, &'static str)>;

    /// What a store holds. May take minutes.
    ///
    /// # Errors
    /// Why that is not known, in words for the provider's people.
    fn list(&self, store: &str) -> Result<Vec<StoredImage>, String>;

    /// Fetches an image, unless it is what it was when it was known by `known`. May take an hour.
    ///
    /// # Errors
    /// Why not, in words for whoever sees the item: nothing of where the store is.
    fn fetch(
        &self,
        store: &str,
        image: &str,
        known: Option<&str>,
    ) -> Result<Option<FetchedImage>, String>;
}

/// Of a control plane whose operator names none.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoImageStores;

impl ImageStores for NoImageStores {
    fn names(&self) -> Vec<(String, &'static str)> {
        Vec::new()
    }

    fn list(&self, store: &str) -> Result<Vec<StoredImage>, String> {
        Err(format!("there is no store `{store}` of images"))
    }

    fn fetch(&self, store: &str, _: &str, _: Option<&str>) -> Result<Option<FetchedImage>, String> {
        Err(format!("there is no store `{store}` of images"))
    }
}

/// An image of a store, as that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// By what it is known there.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Length of its file in bytes.
    pub size: Option<u64>,
    /// How its bytes are laid out and what tells what it is from what it was; or why it is left out.
    pub fitness: Result<(String, String), String>,
}

/// An image that was fetched.
pub struct FetchedImage {
    /// What tells what it is from what it was.
    pub version: String,
    /// Its file, which goes with this; or why what came is no image that can be read, in words for whoever sees the item.
    pub file: Result<Box<dyn AsRef<Path> + Send>, String>,
}

impl fmt::Debug for FetchedImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchedImage({})", self.version)
    }
}
