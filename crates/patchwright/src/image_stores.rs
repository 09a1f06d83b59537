//! Where the cloud keeps images of its own, as the file of `up --image-stores` says.
//!
//! ```toml
//! [rack-1]
//! libvirt = "qemu+ssh://patchwright@rack-1.example.org/system"
//! pools = ["images"]             # those that hold images; in others are the disks of machines
//!
//! [north]
//! openstack = "openstack.toml"   # beside this file, as for `up --lab-cloud`
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, anyhow};
use drivers::{
    Fitness, Glance, ImageStore, ImageStoreError, StoredImage, SystemClock, VolumePools,
};
use lab::{JobDirectory, WorkArea};
use serde::Deserialize;
use server::FetchedImage;

use crate::failure::helped;
use crate::image::read_cloud;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

const SHOWN: &str = "docs/drivers.md shows such a file";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreTable {
    libvirt: Option<String>,
    #[serde(default)]
    pools: Vec<String>,
    openstack: Option<PathBuf>,
}

/// The stores by their names.
#[derive(Debug, Default)]
pub(crate) struct ImageStores {
    stores: BTreeMap<String, Arc<dyn ImageStore>>,
    /// Where images lie while they are read; what a killed process left there is removed at the next start.
    area: Option<WorkArea>,
    /// Largest image, in bytes.
    largest: u64,
}

impl ImageStores {
    /// Reads the file; none means no store. Images are kept below `data` while they are read.
    pub(crate) fn read(path: Option<&Path>, data: &Path, largest: u64) -> Result<Self> {
        let Some(path) = path else { return Ok(Self::default()) };
        let attempt = || format!("cannot use the image stores' file `{}`", path.display());
        let length = fs::metadata(path).with_context(attempt)?.len();
        anyhow::ensure!(
            length <= LARGEST,
            "the image stores' file `{}` is too long",
            path.display()
        );
        let text = fs::read_to_string(path).with_context(attempt)?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let stores = parse(&text, beside).map_err(|error| error.context(attempt()))?;
        let (area, leftovers) = WorkArea::open(&data.join("lab/stores"))?;
        if leftovers.directories > 0 {
            let directories = leftovers.directories;
            tracing::info!(directories, "removed images that were not read to the end");
        }
        Ok(Self { stores, area: Some(area), largest })
    }

    fn store(&self, name: &str) -> Result<&Arc<dyn ImageStore>, String> {
        self.stores.get(name).ok_or_else(|| {
            format!("this control plane knows no store `{name}` of images (`up --image-stores`)")
        })
    }

    fn bring(&self, store: &dyn ImageStore, image: &StoredImage) -> Result<InJob, ImageStoreError> {
        let failed = |error: &dyn std::fmt::Display| ImageStoreError::Io {
            path: PathBuf::from("lab/stores"),
            error: std::io::Error::other(error.to_string()),
        };
        let area = self.area.as_ref().ok_or_else(|| failed(&"there is no place for it"))?;
        let job = area.job().map_err(|error| failed(&error))?;
        let file = job.path().join("image");
        store.fetch(image, &file, self.largest)?;
        Ok(InJob { file, _job: job })
    }
}

/// A file in a directory that goes with it.
struct InJob {
    file: PathBuf,
    _job: JobDirectory,
}

impl AsRef<Path> for InJob {
    fn as_ref(&self) -> &Path {
        &self.file
    }
}

impl server::ImageStores for ImageStores {
    fn names(&self) -> Vec<(String, &'static str)> {
        self.stores.iter().map(|(name, store)| (name.clone(), store.kind())).collect()
    }

    fn list(&self, store: &str) -> Result<Vec<server::StoredImage>, String> {
        let listed = self.store(store)?.list().map_err(|error| match error.help() {
            Some(help) => format!("{error} ({help})"),
            None => error.to_string(),
        })?;
        Ok(listed.into_iter().map(told).collect())
    }

    fn fetch(
        &self,
        store: &str,
        image: &str,
        known: Option<&str>,
    ) -> Result<Option<FetchedImage>, String> {
        let name = store;
        let store = &**self.store(name)?;
        let fetched = store.look(image).and_then(|image| {
            let version = image.version()?.to_owned();
            if known == Some(version.as_str()) {
                return Ok(None);
            }
            let file = match self.bring(store, &image) {
                Ok(file) => Ok(Box::new(file) as Box<dyn AsRef<Path> + Send>),
                // It came, and would come again as it is.
                Err(ImageStoreError::Unfit { because, .. }) => Err(format!("it {because}")),
                Err(error) => return Err(error),
            };
            Ok(Some(FetchedImage { version, file }))
        });
        fetched.map_err(|error| match error {
            // Where the store is, and how it is reached, is not for whoever sees the item.
            ImageStoreError::Libvirt(_)
            | ImageStoreError::Hypervisor(_)
            | ImageStoreError::OpenStack(_)
            | ImageStoreError::Io { .. } => {
                tracing::warn!(%error, store = %name, image, "a store of images does not answer");
                format!(
                    "the store `{name}` does not hand it over; the control plane's log says why"
                )
            }
            error => error.to_string(),
        })
    }
}

fn told(image: StoredImage) -> server::StoredImage {
    let StoredImage { id, name, size, fitness } = image;
    let fitness = match fitness {
        Fitness::Fit { format, version } => Ok((format.name().to_owned(), version)),
        Fitness::Unfit { because } => Err(because),
    };
    server::StoredImage { id, name, size, fitness }
}

fn parse(text: &str, beside: &Path) -> Result<BTreeMap<String, Arc<dyn ImageStore>>> {
    let tables: BTreeMap<String, StoreTable> = toml::from_str(text)
        .map_err(|error| helped(anyhow!("{}", error.to_string().trim()), SHOWN))?;
    let stores = tables.into_iter().map(|(name, table)| {
        let is_odd = |it: char| it.is_control() || it.is_whitespace();
        if name.is_empty() || name.chars().any(is_odd) {
            return Err(helped(anyhow!("{name:?} is no name of a store"), SHOWN));
        }
        let opened =
            open(table, beside).with_context(|| format!("cannot use the store `{name}`"))?;
        Ok((name, opened))
    });
    stores.collect()
}

fn open(table: StoreTable, beside: &Path) -> Result<Arc<dyn ImageStore>> {
    let clock = Arc::new(SystemClock::default());
    match table {
        StoreTable { libvirt: Some(uri), pools, openstack: None } if !pools.is_empty() => {
            let opened = VolumePools::open(&uri, pools, clock);
            let opened = opened.map_err(|error| match error.help() {
                Some(help) => helped(error, help),
                None => error.into(),
            })?;
            Ok(Arc::new(opened))
        }
        StoreTable { libvirt: None, pools, openstack: Some(file) } if pools.is_empty() => {
            let opened = Glance::open(read_cloud(&beside.join(file))?, clock);
            let opened = opened.map_err(|error| match error.help() {
                Some(help) => helped(error, help),
                None => error.into(),
            })?;
            Ok(Arc::new(opened))
        }
        _ => Err(helped(anyhow!("it has to have `libvirt` with `pools`, or `openstack`"), SHOWN)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_some_pools_of_a_libvirt_or_a_cloud() {
        let place = tempfile::tempdir().unwrap();
        let cloud = "identity = \"https://keystone.example.org/v3\"\nflavor = \"small\"\n\
                     [application-credential]\nid = \"one\"\nsecret-file = \"secret\"\n";
        fs::write(place.path().join("cloud.toml"), cloud).unwrap();
        fs::write(place.path().join("secret"), "hush\n").unwrap();
        let stores = "[rack-1]\nlibvirt = \"qemu:///system\"\npools = [\"images\"]\n\
                      [north]\nopenstack = \"cloud.toml\"\n";
        let file = place.path().join("stores.toml");
        fs::write(&file, stores).unwrap();

        let read = ImageStores::read(Some(&file), place.path(), 1).unwrap();

        let kinds = [("north".to_owned(), "openstack"), ("rack-1".to_owned(), "libvirt")];
        assert_eq!(server::ImageStores::names(&read), kinds);
        assert!(!format!("{read:?}").contains("hush"));
        for wrong in [
            "[a]\n",
            "[a]\nlibvirt = \"qemu:///system\"\n",
            "[a]\nlibvirt = \"qemu:///system\"\npools = [\"--all\"]\n",
            "[a]\nlibvirt = \"qemu+tcp://x/system\"\npools = [\"images\"]\n",
            "[a]\nopenstack = \"cloud.toml\"\npools = [\"images\"]\n",
            "[a]\nopenstack = \"nowhere.toml\"\n",
            "[\"a b\"]\nopenstack = \"cloud.toml\"\n",
        ] {
            assert!(parse(wrong, place.path()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_store_that_nobody_knows_is_named() {
        let none = ImageStores::default();
        let refused = server::ImageStores::fetch(&none, "rack-9", "x", None).unwrap_err();
        assert!(refused.contains("rack-9") && refused.contains("--image-stores"), "{refused}");
    }
}
