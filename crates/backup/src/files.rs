//! Which files of a data directory are backed up, beside the database.
//!
//! | | |
//! |---|---|
//! | `history/` | sealed objects: never altered under their names |
//! | `images/sha256/` | images by their hashes: never altered |
//! | `sources/` | which archives systems follow: read each time |
//! | `ledger/checkpoint.witnessed` | what witnesses cosigned: the one thing in the ledger that is not made again from the database |
//!
//! Never the master key, nor what is fetched again, nor the lab's logs.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::error::{BackupError, Result};

/// Whether a file can alter under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Fixed,
    Alterable,
}

/// What lies there now, by its path below the data directory.
pub(crate) fn listing(data: &Path, with_images: bool) -> Result<BTreeMap<String, Kind>> {
    let mut found = BTreeMap::new();
    below(data, "history", Kind::Fixed, &mut found)?;
    if with_images {
        for shard in names(&data.join("images/sha256"))? {
            below(data, &format!("images/sha256/{shard}"), Kind::Fixed, &mut found)?;
        }
    }
    below(data, "sources", Kind::Alterable, &mut found)?;
    let witnessed = "ledger/checkpoint.witnessed";
    if data.join(witnessed).is_file() {
        found.insert(witnessed.to_owned(), Kind::Alterable);
    }
    Ok(found)
}

fn below(data: &Path, folder: &str, kind: Kind, found: &mut BTreeMap<String, Kind>) -> Result<()> {
    for name in names(&data.join(folder))? {
        let is_whole = !name.starts_with('.') && name.strip_suffix(".new").is_none();
        let path = format!("{folder}/{name}");
        if is_whole && data.join(&path).is_file() {
            found.insert(path, kind);
        }
    }
    Ok(())
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        Err(source) => return Err(BackupError::File { path: folder.to_owned(), source }),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(BackupError::file(folder))?;
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// Whether a path of a backup stays below the directory that it is restored to.
pub(crate) fn is_below(path: &str) -> bool {
    use std::path::Component;
    let mut components = Path::new(path).components().peekable();
    components.peek().is_some() && components.all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_half_written_or_secret_is_left_out() {
        let data = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = data.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"x").unwrap();
        };
        for path in [
            "master.key",
            "patchwright.db",
            "history/a",
            "history/b.new",
            "images/.lock",
            "images/sha256/ab/abc",
            "images/sha256/.new-1",
            "sources/debian-trixie.sources",
            "ledger/checkpoint",
            "ledger/checkpoint.witnessed",
            "ledger/tile/0/000",
        ] {
            put(path);
        }

        let found: Vec<_> = listing(data.path(), true).unwrap().into_keys().collect();

        assert_eq!(
            found,
            [
                "history/a",
                "images/sha256/ab/abc",
                "ledger/checkpoint.witnessed",
                "sources/debian-trixie.sources"
            ]
        );
        assert_eq!(listing(data.path(), false).unwrap().len(), 3);
    }

    #[test]
    fn no_path_leads_out() {
        assert!(is_below("history/a"));
        for path in ["", "/etc/passwd", "../x", "a/../../b", "."] {
            assert!(!is_below(path), "{path}");
        }
    }
}
