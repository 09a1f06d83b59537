//! A directory of this machine as the root of a system; `/` is the live root.
//!
//! Every step is an `openat` of one name that refuses links (`O_NOFOLLOW`), so the kernel never
//! follows a link for us and a link swapped in while we look is an error, not an escape. Files
//! are opened only after they were seen to be regular, without blocking, and checked again.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use domain::files::FileError;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use super::resolve::{Resolved, resolve};
use super::walk::Attributes;
use super::{Answer, Child, Named, NodeError, Nodes, Tree};

/// A directory tree below one open directory.
#[derive(Debug)]
pub(crate) struct DirectoryTree {
    root: Arc<OwnedFd>,
}

/// A regular file as it was seen: opened only when it is read.
#[derive(Debug)]
pub(crate) struct FileIn {
    directory: Arc<OwnedFd>,
    name: Vec<u8>,
}

impl DirectoryTree {
    /// Opens `root`; the path itself is the caller's and may lead through links.
    pub(crate) fn open(root: &Path) -> Result<Self, std::io::Error> {
        let root =
            openat(CWD, root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root: Arc::new(root) })
    }
}

impl Nodes for DirectoryTree {
    type Directory = Arc<OwnedFd>;
    type File = FileIn;

    fn root(&self) -> Self::Directory {
        Arc::clone(&self.root)
    }

    fn child(
        &self,
        directory: &Self::Directory,
        name: &[u8],
    ) -> Result<Option<Child<Self::Directory, Self::File>>, NodeError> {
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT)
        {
            Ok(stat) => stat,
            Err(error) => return absent_or(error),
        };
        let child = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                Child::File(FileIn { directory: Arc::clone(directory), name: name.to_vec() })
            }
            FileType::Directory => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                match openat(directory, name, flags, Mode::empty()) {
                    Ok(opened) => Child::Directory(Arc::new(opened)),
                    Err(error) => return absent_or(error),
                }
            }
            FileType::Symlink => match readlinkat(directory, name, Vec::new()) {
                Ok(target) => Child::Link(target.into_bytes()),
                Err(error) => return absent_or(error),
            },
            _ => Child::Other,
        };
        Ok(Some(child))
    }

    fn children(
        &self,
        directory: &Self::Directory,
        limit: usize,
    ) -> Result<Vec<Named<Self::Directory, Self::File>>, NodeError> {
        // The descriptor at hand is for walking only; reading wants one of its own.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = openat(directory, ".", flags, Mode::empty()).map_err(NodeError::failed)?;
        let listing = Dir::new(opened).map_err(NodeError::failed)?;
        let mut children = Vec::new();
        for entry in listing {
            let entry = entry.map_err(NodeError::failed)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                let child = self.child(directory, name).unwrap_or(None);
                children.push((name.to_vec(), child));
            }
            if children.len() >= limit {
                break;
            }
        }
        Ok(children)
    }

    fn attributes(&self, directory: &Self::Directory, name: &[u8]) -> Answer<Option<Attributes>> {
        match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT) {
            Ok(stat) => {
                let (mode, uid, gid) = (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
                Ok(Some(Attributes { mode, uid, gid }))
            }
            Err(error) => absent_or(error),
        }
    }

    fn read(&self, file: &Self::File, limit: u64) -> Result<Option<Vec<u8>>, NodeError> {
        let Some((opened, size)) = file.open().map_err(NodeError::failed)? else {
            return Ok(None);
        };
        if size > limit {
            return Err(NodeError::TooLarge);
        }
        // Files of /proc say they are empty and are not; files may also grow while we read.
        let mut content = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
        opened
            .take(limit.saturating_add(1))
            .read_to_end(&mut content)
            .map_err(NodeError::failed)?;
        if content.len() as u64 > limit { Err(NodeError::TooLarge) } else { Ok(Some(content)) }
    }
}

impl FileIn {
    /// Opens the file with its size, `None` where it is gone or no regular file any more.
    fn open(&self) -> Result<Option<(File, u64)>, std::io::Error> {
        let flags =
            OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = match openat(&*self.directory, self.name.as_slice(), flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&opened)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Ok(None);
        }
        Ok(Some((opened.into(), u64::try_from(stat.st_size).unwrap_or(0))))
    }
}

impl Tree<DirectoryTree> {
    /// Opens a file to be read as a stream, with its size; `None` where there is none.
    pub(crate) fn open_file(&self, path: &str) -> Result<Option<(File, u64)>, FileError> {
        let found = resolve(&self.0, path.as_bytes()).map_err(|stop| stop.at(path))?;
        let Resolved::File(file) = found else { return Ok(None) };
        file.open().map_err(|error| FileError::Unreadable {
            path: path.to_owned(),
            reason: error.to_string(),
        })
    }
}

/// A name that is gone, or was swapped for something else while we looked, is absent.
fn absent_or<T>(error: Errno) -> Result<Option<T>, NodeError> {
    match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG => Ok(None),
        other => Err(NodeError::failed(other)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use domain::files::{EntryKind, FileView};
    use rustix::fs::mkfifoat;

    use super::*;

    fn tree(root: &Path) -> Tree<DirectoryTree> {
        Tree(DirectoryTree::open(root).unwrap())
    }

    fn write(path: &Path, content: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    #[test]
    fn links_stay_inside_the_root() {
        let outer = tempfile::tempdir().unwrap();
        write(&outer.path().join("etc/secret"), "outside");
        let root = outer.path().join("root");
        write(&root.join("etc/secret"), "inside");
        symlink("/etc/secret", root.join("absolute")).unwrap();
        symlink("../../../../etc/secret", root.join("climbing")).unwrap();
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("../../../..", root.join("a/b/up")).unwrap();

        let tree = tree(&root);

        for path in [
            "/etc/secret",
            "/absolute",
            "/climbing",
            "/a/b/up/etc/secret",
            "/../../etc/secret",
            "/a/b/up/../etc/./secret",
        ] {
            assert_eq!(tree.read(path, 100).unwrap().as_deref(), Some(&b"inside"[..]), "{path}");
        }
    }

    #[test]
    fn loops_devices_and_dangling_links_are_survived() {
        let root = tempfile::tempdir().unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        symlink("nowhere", root.path().join("dangling")).unwrap();
        mkfifoat(CWD, root.path().join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
        symlink("pipe", root.path().join("to-pipe")).unwrap();
        write(&root.path().join("file"), "x");

        let tree = tree(root.path());

        assert!(matches!(tree.read("/a", 10), Err(FileError::LinkLoop { .. })));
        for nothing in ["/dangling", "/pipe", "/to-pipe", "/file/below", "/missing", "/"] {
            assert_eq!(tree.read(nothing, 10).unwrap(), None, "{nothing}");
        }
        let kinds: Vec<_> =
            tree.list("/").unwrap().into_iter().map(|entry| (entry.name, entry.kind)).collect();
        let other = |name: &str| (name.to_owned(), EntryKind::Other);
        assert_eq!(
            kinds,
            [
                other("a"),
                other("b"),
                other("dangling"),
                ("file".to_owned(), EntryKind::File),
                other("pipe"),
                other("to-pipe"),
            ]
        );
    }

    #[test]
    fn a_file_larger_than_the_limit_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        let huge = File::create(root.path().join("huge")).unwrap();
        huge.set_len(1 << 40).unwrap();

        let refused = tree(root.path()).read("/huge", 1024);

        assert!(matches!(refused, Err(FileError::TooLarge { limit: 1024, .. })));
    }

    #[test]
    fn a_file_that_hides_its_size_is_read_whole() {
        let tree = tree(Path::new("/"));

        let version = tree.read("/proc/version", 4096).unwrap().unwrap();

        assert!(version.starts_with(b"Linux"));
    }
}
