//! Images of Glance, read and never altered. Whatever the login may see counts: what is the cloud's
//! own, the project's, and what is shared with it.

use std::path::Path;
use std::sync::Arc;

use lab::Format;
use serde_json::Value;

use super::error::OpenStackError;
use super::session::{Body, Cloud, Repeat, Request, Service, Session};
use super::{MAX_PAGES, PAGE, id, is_id};
use crate::clock::Clock;
use crate::images::{
    FETCH, Fitness, Hasher, ImageStore, ImageStoreError, MOST_IMAGES, Sink, StoredImage, shown,
};

/// Glance as a store of images.
#[derive(Debug)]
pub struct Glance {
    session: Session,
}

impl Glance {
    /// Prepares to use a cloud, whose flavor does not matter. Nothing is asked of it yet.
    ///
    /// # Errors
    /// If secrets would go there in the clear.
    pub fn open(cloud: Cloud, clock: Arc<dyn Clock>) -> Result<Self, OpenStackError> {
        Ok(Self { session: Session::new(cloud, clock)? })
    }

    /// What follows an image in the list, and whether that is the rest of it.
    fn page(&self, after: Option<&str>) -> Result<(Vec<StoredImage>, bool), OpenStackError> {
        let marker = after.map(|id| format!("&marker={id}")).unwrap_or_default();
        let path = format!("/images?sort=created_at:asc&limit={PAGE}{marker}");
        let answer = self.session.get(Service::Image, &path)?;
        let lacking =
            || OpenStackError::NotUnderstood { method: "GET", url: path.clone(), what: "images" };
        let entries = answer["images"].as_array().ok_or_else(lacking)?;
        // A page may be shorter than was asked for.
        let is_last = entries.is_empty() || !answer["next"].is_string();
        let page = entries.iter().map(|entry| told(entry, &path)).collect::<Result<_, _>>()?;
        Ok((page, is_last))
    }
}

impl ImageStore for Glance {
    fn kind(&self) -> &'static str {
        "openstack"
    }

    fn list(&self) -> Result<Vec<StoredImage>, ImageStoreError> {
        let mut found: Vec<StoredImage> = Vec::new();
        for _ in 0..MAX_PAGES {
            let after = found.last().map(|it| it.id.clone());
            let (page, is_last) = self.page(after.as_deref())?;
            found.extend(page);
            if found.len() > MOST_IMAGES {
                return Err(ImageStoreError::TooMany);
            }
            if is_last {
                return Ok(found);
            }
        }
        Err(ImageStoreError::TooMany)
    }

    fn look(&self, id: &str) -> Result<StoredImage, ImageStoreError> {
        let none = || ImageStoreError::NoImage { image: shown(id) };
        // It becomes a part of an address.
        if !is_id(id) {
            return Err(none());
        }
        let path = format!("/images/{id}");
        let answer = match self.session.get(Service::Image, &path) {
            Err(error) if error.is_status(404) => return Err(none()),
            other => other?,
        };
        let image = told(&answer, &path)?;
        if image.id == id { Ok(image) } else { Err(none()) }
    }

    fn fetch(&self, image: &StoredImage, to: &Path, largest: u64) -> Result<(), ImageStoreError> {
        let (format, wanted) = image.wanted(largest)?;
        let digest = image.version()?;
        let hasher = digest.split_once(':').and_then(|(name, _)| Hasher::named(name));
        let Some((hasher, _)) = hasher.filter(|_| is_id(&image.id)) else {
            return Err(image.unfit("has no digest that can be verified".to_owned()));
        };
        let mut sink = Sink::new(&image.id, to, wanted, Some(hasher))?;
        let request = Request {
            service: Service::Image,
            method: "GET",
            path: &format!("/images/{}/file", image.id),
            body: Body::Nothing,
            // Whoever asked comes again by itself.
            repeat: Repeat::Never,
            limit: FETCH,
        };
        self.session.stream(request, wanted, |piece| sink.take(piece))?;
        sink.finish(format, Some(digest))
    }
}

/// An image as Glance's reference, "Show image", describes it.
fn told(entry: &Value, path: &str) -> Result<StoredImage, OpenStackError> {
    let id = id(entry, path)?;
    let name = shown(entry["name"].as_str().unwrap_or_default());
    let size = entry["size"].as_u64();
    let fitness = fitness(entry).unwrap_or_else(|because| Fitness::Unfit { because });
    Ok(StoredImage { id, name, size, fitness })
}

fn fitness(entry: &Value) -> Result<Fitness, String> {
    let word = |name: &str| entry[name].as_str().unwrap_or("untold");
    let is = |name: &str| format!("has the {} `{}`", name.replace('_', " "), shown(word(name)));
    if word("status") != "active" {
        return Err(is("status"));
    }
    let format = match word("disk_format") {
        "raw" => Format::Raw,
        "qcow2" => Format::Qcow2,
        _ => return Err(is("disk_format")),
    };
    if word("container_format") != "bare" {
        return Err(is("container_format"));
    }
    Ok(Fitness::Fit { format, version: digest(entry)? })
}

/// The digest that is told: since Rocky (2018) one that was chosen, MD5 before.
fn digest(entry: &Value) -> Result<String, String> {
    let told = |name: &str| entry[name].as_str().filter(|it| !it.is_empty());
    let (name, value) = match (told("os_hash_algo"), told("os_hash_value")) {
        (Some(name), Some(value)) => (name, value),
        _ => ("md5", told("checksum").ok_or("has no digest")?),
    };
    let Some((_, length)) = Hasher::named(name) else {
        return Err(format!("has a digest by `{}`, which cannot be verified", shown(name)));
    };
    let is_hex = |it: char| it.is_ascii_hexdigit();
    if value.len() != length || !value.chars().all(is_hex) {
        return Err(format!("has a digest that is none by `{name}`"));
    }
    Ok(format!("{name}:{}", value.to_ascii_lowercase()))
}
