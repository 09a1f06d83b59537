//! What an alteration is about to do, durable before rpm begins, and gone once rpm has ended.
//!
//! rpm notes a package when all of its files are in their places, and runs its scripts after that: after an
//! interruption its database cannot tell what was unpacked in part, nor which scripts never ran. Nothing
//! that is named here counts as whole.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::super::journal::sync_up;
use super::super::packages::PackageFault;
use super::Named;

/// Its file, in the directory to work in.
const FILE: &str = "rpm-unfinished.json";

/// An alteration that has begun, and has not ended as far as anybody knows.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Unfinished {
    /// What is installed, with the file that it comes from, inside of the root.
    pub(super) packages: Vec<(Named, String)>,
    /// What is taken away.
    pub(super) gone: Vec<Named>,
    /// Configuration files of what is replaced, with the inode of what lay beside each as `.rpmsave`.
    pub(super) settings: BTreeMap<String, Option<u64>>,
}

impl Unfinished {
    /// What was begun and did not end; `None` where nothing was.
    pub(super) fn read(work: &Path) -> Result<Option<Self>, PackageFault> {
        let path = work.join(FILE);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(PackageFault::disk(&path)(error)),
        };
        let read = serde_json::from_slice(&bytes).map_err(io::Error::from);
        read.map(Some).map_err(PackageFault::disk(&path))
    }

    /// Whether a package is named here, in whichever version.
    pub(super) fn names(&self, package: &Named) -> bool {
        let is_it = |it: &Named| it.name == package.name && it.architecture == package.architecture;
        self.packages.iter().map(|(it, _)| it).chain(&self.gone).any(is_it)
    }

    /// Begins, with what was begun before and did not end.
    pub(super) fn begin(mut self, work: &Path) -> Result<Self, PackageFault> {
        if let Some(before) = Self::read(work)? {
            for package in before.packages {
                if !self.packages.iter().any(|(it, _)| *it == package.0) {
                    self.packages.push(package);
                }
            }
            self.gone.extend(before.gone);
            // What lay beside them when all of this began.
            self.settings.extend(before.settings);
        }
        let path = work.join(FILE);
        let beside = path.with_extension("new");
        let write = || -> io::Result<()> {
            fs::create_dir_all(work)?;
            let mut file = File::create(&beside)?;
            file.write_all(&serde_json::to_vec(&self)?)?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            sync_up(work)
        };
        write().map_err(PackageFault::disk(&path))?;
        Ok(self)
    }

    /// Ends it. rpm does not wait for the disk: everything below the root is flushed before.
    pub(super) fn end(root: &Path, work: &Path) -> Result<(), PackageFault> {
        let path = work.join(FILE);
        let end = || -> io::Result<()> {
            for place in [root.to_owned(), root.join("usr"), root.join("var"), root.join("etc")] {
                if let Ok(directory) = File::open(place) {
                    rustix::fs::syncfs(directory)?;
                }
            }
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => sync_up(work),
            }
        };
        end().map_err(PackageFault::disk(&path))
    }
}

/// Takes away what rpm leaves beside the places of files while it unpacks them: `tool;65f1a2b3`.
pub(super) fn sweep(root: &Path, files: &[PathBuf]) -> io::Result<()> {
    let mut names = BTreeMap::<PathBuf, Vec<&std::ffi::OsStr>>::new();
    for file in files {
        let (Some(directory), Some(name)) = (file.parent(), file.file_name()) else { continue };
        let directory = root.join(directory.strip_prefix("/").unwrap_or(directory));
        names.entry(directory).or_default().push(name);
    }
    for (directory, names) in names {
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if super::repack::is_nothing(&error) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let is_left = |name: &&std::ffi::OsStr| is_left_of(&entry.file_name(), name);
            if names.iter().any(is_left) && !entry.file_type()?.is_dir() {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// Whether one name is another one with the number of a transaction of rpm's behind it.
fn is_left_of(name: &std::ffi::OsStr, of: &std::ffi::OsStr) -> bool {
    let (name, of) = (name.as_encoded_bytes(), of.as_encoded_bytes());
    let number = name.strip_prefix(of).and_then(|rest| rest.strip_prefix(b";"));
    number.is_some_and(|it| it.len() == 8 && it.iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, version: &str) -> Named {
        let [name, architecture, version] = [name, "x86_64", version].map(str::to_owned);
        Named { name, architecture, version }
    }

    #[test]
    fn what_did_not_end_stays_named_until_it_does() {
        let directory = tempfile::tempdir().unwrap();
        let work = directory.path().join("work");
        assert!(Unfinished::read(&work).unwrap().is_none());
        let forward = Unfinished {
            packages: vec![(named("tool", "2"), "/new".to_owned())],
            settings: [("/etc/tool.conf".to_owned(), None)].into(),
            ..Unfinished::default()
        };
        forward.begin(&work).unwrap();
        // Going back from there, an `.rpmsave` lies there already: ours.
        let back = Unfinished {
            packages: vec![(named("tool", "1"), "/old".to_owned())],
            gone: vec![named("extra", "2")],
            settings: [("/etc/tool.conf".to_owned(), Some(7))].into(),
        };
        back.begin(&work).unwrap();

        let all = Unfinished::read(&work).unwrap().unwrap();
        assert_eq!(all.packages.len(), 2);
        assert_eq!(all.settings["/etc/tool.conf"], None);
        assert!(all.names(&named("tool", "9")) && all.names(&named("extra", "2")));
        assert!(!all.names(&named("other", "1")));

        Unfinished::end(directory.path(), &work).unwrap();
        assert!(Unfinished::read(&work).unwrap().is_none());
    }

    #[test]
    fn only_what_rpm_leaves_is_swept() {
        let directory = tempfile::tempdir().unwrap();
        let names = ["tool", "tool;65f1a2b3", "tool;65f1a2b", "other;65f1a2b3", "tool;65f1a2bx"];
        for name in names {
            fs::write(directory.path().join(name), "").unwrap();
        }
        let files = [PathBuf::from("/tool"), PathBuf::from("/nowhere/tool")];
        sweep(directory.path(), &files).unwrap();

        let there = names.map(|name| directory.path().join(name).exists());
        assert_eq!(there, [true, false, true, true, true]);
    }
}
