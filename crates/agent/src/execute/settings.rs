//! Configuration files, kept as they are and given back.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::dpkg_files::Written;
use super::packages::{Found, PackageFault};

/// What was kept, in the directory of the way back.
const LIST: &str = "settings.json";

/// What dpkg leaves beside a configuration file that it did not replace, or that it did.
const LEFT_BESIDE: [&str; 3] = ["dpkg-dist", "dpkg-new", "dpkg-old"];

#[derive(Debug, Serialize, Deserialize)]
struct Setting {
    /// Absolute, inside of the root.
    path: String,
    /// `None` where the owner took it away.
    was: Option<Content>,
    /// Endings of files that lay beside it already.
    beside: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    /// Name of the copy.
    copy: String,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Copies the configuration files of packages.
pub(super) fn keep(root: &Path, packages: &[Found], into: &Path) -> Result<(), PackageFault> {
    let mut settings = Vec::new();
    for package in packages {
        for path in Written::read(root, package)?.conffiles {
            let lies = root.join(path.trim_start_matches('/'));
            let copy = format!("setting-{}", settings.len());
            let was = copy_of(&lies, &into.join(&copy), copy).map_err(PackageFault::disk(&lies))?;
            let is_there = |ending: &&&str| beside(&lies, ending).symlink_metadata().is_ok();
            let beside = LEFT_BESIDE.iter().filter(is_there).map(|it| (*it).to_owned()).collect();
            settings.push(Setting { path, was, beside });
        }
    }
    let list = into.join(LIST);
    let write = || -> io::Result<()> {
        let mut file = File::create(&list)?;
        file.write_all(&serde_json::to_vec(&settings)?)?;
        file.sync_all()
    };
    write().map_err(PackageFault::disk(&list))
}

/// Gives configuration files the content that they had, and takes away what was left beside them.
pub(super) fn restore(root: &Path, from: &Path) -> Result<(), PackageFault> {
    let list = from.join(LIST);
    let read = || -> io::Result<Vec<Setting>> { Ok(serde_json::from_slice(&fs::read(&list)?)?) };
    for Setting { path, was, beside: there } in read().map_err(PackageFault::disk(&list))? {
        let lies = root.join(path.trim_start_matches('/'));
        let failed = PackageFault::disk(&lies);
        let give_back = || -> io::Result<()> {
            for ending in LEFT_BESIDE.iter().filter(|ending| !there.iter().any(|it| it == *ending))
            {
                remove(&beside(&lies, ending))?;
            }
            match &was {
                Some(content) => write_back(&from.join(&content.copy), &lies, content),
                None => remove(&lies),
            }
        };
        give_back().map_err(failed)?;
    }
    Ok(())
}

fn copy_of(path: &Path, to: &Path, copy: String) -> io::Result<Option<Content>> {
    let data = match fs::symlink_metadata(path) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // dpkg follows a link here as well.
    fs::copy(path, to)?;
    File::open(to)?.sync_all()?;
    fs::set_permissions(to, Permissions::from_mode(0o600))?;
    Ok(Some(Content { copy, mode: data.mode() & 0o7777, uid: data.uid(), gid: data.gid() }))
}

/// Beside its place, flushed and renamed; nothing where it has that content already.
fn write_back(copy: &Path, to: &Path, content: &Content) -> io::Result<()> {
    let bytes = fs::read(copy)?;
    if fs::read(to).is_ok_and(|now| now == bytes) {
        return Ok(());
    }
    // The file itself where its name is a link.
    let to = fs::canonicalize(to).unwrap_or_else(|_| to.to_owned());
    let new = beside(&to, "patchwright-new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new)?;
    file.write_all(&bytes)?;
    chown(&new, Some(content.uid), Some(content.gid))?;
    file.set_permissions(Permissions::from_mode(content.mode))?;
    file.sync_all()?;
    fs::rename(&new, &to)
}

fn beside(path: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
