//! Files below `/etc` of an image that does not run.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use domain::configuration::secret::FingerprintKey;
use domain::files::FileView;
use inspect::{Attributes, Met, MetKind, TargetKind};

use crate::document::{Document, plain};
use crate::error::SourceError;

/// Where configuration lies.
const BASE: &str = "/etc";

/// Most names that are told, as of hosts. More are a refusal: half of a configuration is never told as all of it.
const MOST_FILES: usize = 10_000;

/// Largest file of which a fingerprint is made, in bytes; of larger ones only that they are there is known.
const LARGEST: u64 = 16 << 20;

/// Largest list of accounts that is read, in bytes.
const LARGEST_LIST: u64 = 1 << 20;

/// Bytes of all files that are read.
const MOST_BYTES: usize = 256 << 20;

/// Reads the files below `/etc` of a raw or qcow2 image, each without its secrets. Mounts and runs nothing.
///
/// # Errors
/// [`SourceError::Image`] or [`SourceError::TooMany`].
pub fn look(image: &Path, key: &FingerprintKey) -> Result<Vec<Document>, SourceError> {
    let unreadable = |reason: String| SourceError::Image { reason };
    let target = inspect::open(image, None).map_err(|error| {
        // Where it lies is nobody's to know.
        unreadable(error.to_string().replace(&image.display().to_string(), "it"))
    })?;
    if !matches!(target.kind(), TargetKind::RawDisk | TargetKind::Qcow2Disk) {
        return Err(unreadable(format!("it is no disk image, but {}", target.kind())));
    }
    let names = Names::read(target.files());
    let mut documents: Vec<Document> = Vec::new();
    // A directory is met, and met again where what is in it cannot be read.
    let mut directories = HashMap::new();
    let (mut bytes, mut is_full) = (0, false);
    let mut meet = |met: Met<'_>| {
        if let MetKind::File(content) = met.kind {
            bytes += content.len();
        }
        let again = match met.kind {
            MetKind::Directory => {
                directories.insert(met.path.to_owned(), documents.len());
                None
            }
            MetKind::Unread(_) => directories.get(met.path).copied(),
            _ => None,
        };
        is_full |= documents.len() >= MOST_FILES || bytes > MOST_BYTES;
        match again.and_then(|place| documents.get_mut(place)) {
            Some(directory) => *directory = document(&met, &names, key),
            None if is_full => {}
            None => documents.push(document(&met, &names, key)),
        }
    };
    target.walk_below(BASE, LARGEST, &mut meet).map_err(|error| unreadable(error.to_string()))?;
    if is_full {
        let reason = format!("below {BASE} are more than {MOST_FILES} names or {MOST_BYTES} bytes");
        return Err(unreadable(reason));
    }
    Ok(documents)
}

fn document(met: &Met<'_>, names: &Names, key: &FingerprintKey) -> Document {
    let path = plain(met.path);
    let Attributes { mode, uid, gid } =
        met.attributes.unwrap_or(Attributes { mode: 0, uid: 0, gid: 0 });
    let mode = |kind: u32| kind | (mode & 0o7777);
    let document = match &met.kind {
        MetKind::Directory => Document::said(&path, mode(0o040_000), String::new()),
        MetKind::File(content) => Document::file(&path, mode(0o100_000), content, key),
        MetKind::Link(target) => Document::link(&path, mode(0o120_000), target),
        MetKind::Other => Document::said(&path, mode(0), String::new()),
        MetKind::Unread(because) => return Document::unseen(&path, because),
    };
    document.of(format!("{}:{}", names.user(uid), names.group(gid)))
}

/// Accounts and groups of the image by their numbers, as agents call them on hosts.
struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    fn read(files: &dyn FileView) -> Self {
        let list = |path: &str| {
            let text = files.read(path, LARGEST_LIST).ok().flatten().unwrap_or_default();
            let mut names = BTreeMap::new();
            for line in String::from_utf8_lossy(&text).lines() {
                let mut fields = line.split(':');
                let (name, number) = (fields.next(), fields.nth(1));
                if let (Some(name), Some(Ok(number))) = (name, number.map(str::parse)) {
                    names.entry(number).or_insert_with(|| plain(name).chars().take(64).collect());
                }
            }
            names
        };
        Self { users: list("/etc/passwd"), groups: list("/etc/group") }
    }

    fn user(&self, number: u32) -> String {
        self.users.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }

    fn group(&self, number: u32) -> String {
        self.groups.get(&number).cloned().unwrap_or_else(|| number.to_string())
    }
}
