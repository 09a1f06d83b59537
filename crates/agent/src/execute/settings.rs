//! Configuration files, kept as they are and given back.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::packages::PackageFault;

/// What was kept, in the directory of the way back.
const LIST: &str = "settings.json";

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
    /// Where the file itself lay, where its name was a link.
    file: PathBuf,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// Copies files of packages. `left_beside` are the endings of what the package system leaves beside one that
/// it did not replace, or that it did.
pub(super) fn keep(
    root: &Path,
    paths: &[String],
    left_beside: &[&str],
    into: &Path,
) -> Result<(), PackageFault> {
    let mut settings = Vec::new();
    let mut copy = |path: String, beside: Vec<String>| {
        let lies = root.join(path.trim_start_matches('/'));
        let copy = format!("setting-{}", settings.len());
        let was = copy_of(&lies, &into.join(&copy), copy).map_err(PackageFault::disk(&lies))?;
        settings.push(Setting { path, was, beside });
        Ok(())
    };
    for path in paths {
        let lies = root.join(path.trim_start_matches('/'));
        let is = |ending: &str| beside(&lies, ending).symlink_metadata();
        let there: Vec<_> = left_beside.iter().filter(|ending| is(ending).is_ok()).collect();
        copy(path.clone(), there.iter().map(|ending| (**ending).to_owned()).collect())?;
        // What lay beside it before is written over.
        for ending in there.into_iter().filter(|ending| is(ending).is_ok_and(|it| it.is_file())) {
            copy(format!("{path}.{ending}"), Vec::new())?;
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

/// Gives them the content again that they had, and takes away what was left beside them.
pub(super) fn restore(root: &Path, left_beside: &[&str], from: &Path) -> Result<(), PackageFault> {
    let list = from.join(LIST);
    let read = || -> io::Result<Vec<Setting>> { Ok(serde_json::from_slice(&fs::read(&list)?)?) };
    for Setting { path, was, beside: there } in read().map_err(PackageFault::disk(&list))? {
        let lies = root.join(path.trim_start_matches('/'));
        let failed = PackageFault::disk(&lies);
        let give_back = || -> io::Result<()> {
            for ending in left_beside.iter().filter(|ending| !there.iter().any(|it| it == *ending))
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
    match fs::symlink_metadata(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    }
    // Package systems follow a link here as well; modes and owner are those of the file, not of the link.
    let file = fs::canonicalize(path)?;
    let data = fs::symlink_metadata(&file)?;
    fs::copy(&file, to)?;
    File::open(to)?.sync_all()?;
    fs::set_permissions(to, Permissions::from_mode(0o600))?;
    let (mode, uid, gid) = (data.mode() & 0o7777, data.uid(), data.gid());
    Ok(Some(Content { copy, file, mode, uid, gid }))
}

/// Beside its place, flushed and renamed; nothing where it has that content already, and is whose it was.
fn write_back(copy: &Path, to: &Path, content: &Content) -> io::Result<()> {
    let bytes = fs::read(copy)?;
    let is_whose = |now: &fs::Metadata| {
        (now.mode() & 0o7777, now.uid(), now.gid()) == (content.mode, content.uid, content.gid)
    };
    if fs::read(to).is_ok_and(|now| now == bytes) && fs::metadata(to).is_ok_and(|it| is_whose(&it))
    {
        return Ok(());
    }
    // The file itself where its name is a link; a link that leads elsewhere by now is somebody's who
    // would have root write there.
    let leads = fs::canonicalize(to).unwrap_or_else(|_| content.file.clone());
    if leads != content.file {
        return Err(io::Error::other(format!(
            "it led to `{}` and leads to `{}` now",
            content.file.display(),
            leads.display()
        )));
    }
    let new = beside(&content.file, "patchwright-new");
    // Of an earlier try. What is put there in between, as a link, is not opened.
    remove(&new)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&bytes)?;
    fchown(&file, Some(content.uid), Some(content.gid))?;
    file.set_permissions(Permissions::from_mode(content.mode))?;
    file.sync_all()?;
    fs::rename(&new, &content.file)
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A file and its copy, in a directory where somebody else may write.
    fn kept(name: &str) -> (tempfile::TempDir, PathBuf, PathBuf, Content) {
        let directory = tempfile::tempdir().unwrap();
        let (path, copy) = (directory.path().join(name), directory.path().join("copy"));
        fs::write(&path, "old").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        let content = copy_of(&path, &copy, "copy".into()).unwrap().unwrap();
        (directory, path, copy, content)
    }

    #[test]
    fn a_link_that_lies_in_wait_is_not_written_through() {
        let (directory, path, copy, content) = kept("a.conf");
        let victim = directory.path().join("shadow");
        fs::write(&victim, "secret").unwrap();
        symlink(&victim, beside(&path, "patchwright-new")).unwrap();
        fs::write(&path, "new").unwrap();

        write_back(&copy, &path, &content).unwrap();

        assert_eq!(fs::read_to_string(&victim).unwrap(), "secret");
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640);
    }

    #[test]
    fn a_name_that_leads_elsewhere_by_now_is_left_alone() {
        let (directory, path, copy, content) = kept("a.conf");
        let victim = directory.path().join("shadow");
        fs::write(&victim, "secret").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();

        assert!(write_back(&copy, &path, &content).is_err());

        assert_eq!(fs::read_to_string(&victim).unwrap(), "secret");
    }

    #[test]
    fn a_linked_file_keeps_its_own_mode() {
        let (directory, path, copy, _) = kept("a.real");
        let link = directory.path().join("a.conf");
        symlink(&path, &link).unwrap();
        let content = copy_of(&link, &copy, "copy".into()).unwrap().unwrap();
        fs::write(&path, "new").unwrap();

        write_back(&copy, &link, &content).unwrap();

        assert!(link.symlink_metadata().unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o640, "not a link's 0777");
    }
}
