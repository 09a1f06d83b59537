//! A store of images as a directory, which tests alter. It is called `rack-1`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::oneshot;

use server::{FetchedImage, ImageStores, StoredImage};

/// An image with its version; without one, what stands in the way.
type Shelved = (Result<String, String>, PathBuf);

#[derive(Debug, Default)]
pub(crate) struct Shelf {
    images: Mutex<BTreeMap<String, Shelved>>,
    pub(crate) fetched: AtomicUsize,
    /// Why what comes is found to be no image, once it is there.
    pub(crate) unfit: Mutex<Option<String>>,
    /// Told once an image comes, which then waits until it may go on.
    pub(crate) gate: Mutex<Option<(oneshot::Sender<()>, oneshot::Receiver<()>)>>,
    /// Files that were handed out.
    pub(crate) handed: Mutex<Vec<PathBuf>>,
}

impl Shelf {
    pub(crate) fn put(&self, image: &str, version: &str, file: &Path) {
        let entry = (Ok(version.to_owned()), file.to_owned());
        self.images.lock().unwrap().insert(image.to_owned(), entry);
    }

    pub(crate) fn refuse(&self, image: &str, because: &str) {
        let entry = (Err(because.to_owned()), PathBuf::new());
        self.images.lock().unwrap().insert(image.to_owned(), entry);
    }
}

impl ImageStores for Shelf {
    fn names(&self) -> Vec<(String, &'static str)> {
        vec![("rack-1".to_owned(), "libvirt")]
    }

    fn list(&self, _: &str) -> Result<Vec<StoredImage>, String> {
        let images = self.images.lock().unwrap();
        let told = images.iter().map(|(id, (version, _))| StoredImage {
            id: id.clone(),
            name: id.clone(),
            size: Some(7),
            fitness: version.clone().map(|version| ("raw".to_owned(), version)),
        });
        Ok(told.collect())
    }

    fn fetch(
        &self,
        store: &str,
        image: &str,
        known: Option<&str>,
    ) -> Result<Option<FetchedImage>, String> {
        assert_eq!(store, "rack-1");
        let found = self.images.lock().unwrap().get(image).cloned();
        let (version, file) = found.ok_or_else(|| format!("the store has no image `{image}`"))?;
        let version = version?;
        if known == Some(version.as_str()) {
            return Ok(None);
        }
        self.fetched.fetch_add(1, Ordering::SeqCst);
        if let Some((comes, may_go_on)) = self.gate.lock().unwrap().take() {
            comes.send(()).unwrap();
            may_go_on.blocking_recv().unwrap();
        }
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(&file, copy.path()).unwrap();
        self.handed.lock().unwrap().push(copy.path().to_owned());
        let file: Box<dyn AsRef<Path> + Send> = Box::new(copy);
        let unfit = self.unfit.lock().unwrap().clone();
        Ok(Some(FetchedImage { version, file: unfit.map_or(Ok(file), Err) }))
    }
}
