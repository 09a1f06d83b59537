//! Trees of files, whatever holds them, behind one path resolution.
//!
//! A holder (a directory, an ext4 filesystem, merged container layers) only says what a name in
//! one directory is. Walking paths and following links is done once, in [`resolve`], so that no
//! holder can get "inside the root" wrong on its own.

mod directory;
mod ext4;
mod merged;
mod resolve;
mod walk;

use domain::files::{Entry, EntryKind, FileError, FileView};

pub(crate) use directory::DirectoryTree;
pub(crate) use ext4::Ext4Tree;
pub(crate) use merged::{Full, MergedTree, Piece};
use resolve::{Resolved, Stop, Trail};
pub(crate) use walk::Walk;
pub use walk::{Attributes, Met, MetKind};

/// Most names that a directory may have before reading it is given up.
const MAX_ENTRIES: usize = 200_000;

/// What a name in a directory stands for.
#[derive(Debug)]
pub(crate) enum Child<D, F> {
    /// A directory to walk on in.
    Directory(D),
    /// A regular file.
    File(F),
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// Device, socket or pipe: never opened.
    Other,
}

/// A name with what it stands for.
pub(crate) type Named<D, F> = (Vec<u8>, Option<Child<D, F>>);

/// Why a holder could not answer.
#[derive(Debug)]
pub(crate) enum NodeError {
    /// The file holds more than the caller's limit.
    TooLarge,
    /// The medium failed or is damaged; in words.
    Failed(String),
}

impl std::fmt::Display for NodeError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooLarge => formatter.write_str("it is larger than what is read"),
            Self::Failed(reason) => formatter.write_str(reason),
        }
    }
}

impl NodeError {
    pub(crate) fn failed(reason: impl std::fmt::Display) -> Self {
        Self::Failed(reason.to_string())
    }
}

/// What a holder answers.
pub(crate) type Answer<T> = Result<T, NodeError>;

/// A holder of files: answers about single names, knows nothing of paths.
pub(crate) trait Nodes {
    /// A directory.
    type Directory: Clone;
    /// A regular file.
    type File;

    fn root(&self) -> Self::Directory;

    /// What `name` is in `directory`, `None` where there is no such name.
    fn child(
        &self,
        directory: &Self::Directory,
        name: &[u8],
    ) -> Answer<Option<Child<Self::Directory, Self::File>>>;

    /// The names in `directory` with what they stand for, without `.` and `..`, at most `limit`
    /// of them, in any order; `None` where it cannot be told.
    fn children(
        &self,
        directory: &Self::Directory,
        limit: usize,
    ) -> Answer<Vec<Named<Self::Directory, Self::File>>>;

    /// Who may do what with a name, `None` where that is not kept.
    fn attributes(&self, _: &Self::Directory, _: &[u8]) -> Answer<Option<Attributes>> {
        Ok(None)
    }

    /// The content of `file`, `None` where it turned out to be no regular file.
    fn read(&self, file: &Self::File, limit: u64) -> Result<Option<Vec<u8>>, NodeError>;
}

/// A holder seen as the tree of files of one system.
#[derive(Debug)]
pub(crate) struct Tree<N>(pub(crate) N);

impl<N: Nodes> FileView for Tree<N> {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
        let found = resolve::resolve(&self.0, path.as_bytes()).map_err(|stop| stop.at(path))?;
        let Resolved::File(file) = found else { return Ok(None) };
        self.0.read(&file, limit).map_err(|error| match error {
            NodeError::TooLarge => FileError::TooLarge { path: path.to_owned(), limit },
            NodeError::Failed(reason) => FileError::Unreadable { path: path.to_owned(), reason },
        })
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let found = resolve::resolve(&self.0, path.as_bytes()).map_err(|stop| stop.at(path))?;
        let Resolved::Directory(trail) = found else { return Ok(Vec::new()) };
        let children = self
            .0
            .children(trail.last(), MAX_ENTRIES)
            .map_err(|error| Stop::Node(error).at(path))?;
        if children.len() >= MAX_ENTRIES {
            let reason = format!("the directory holds {MAX_ENTRIES} names or more");
            return Err(FileError::Unreadable { path: path.to_owned(), reason });
        }
        let mut entries = Vec::with_capacity(children.len());
        for (name, child) in children {
            // A hostile filesystem may hold names that are paths; nothing leads to them.
            if name.contains(&b'/') || name == b"." || name == b".." {
                continue;
            }
            let kind = match child {
                Some(Child::Directory(_)) => EntryKind::Directory,
                Some(Child::File(_)) => EntryKind::File,
                Some(Child::Link(_)) => self.behind(&trail, &name),
                Some(Child::Other) | None => EntryKind::Other,
            };
            entries.push(Entry { name: String::from_utf8_lossy(&name).into_owned(), kind });
        }
        entries.sort();
        Ok(entries)
    }
}

impl<N: Nodes> Tree<N> {
    /// What a link leads to; one that leads in circles must not hide its neighbours.
    fn behind(&self, trail: &Trail<N::Directory>, link: &[u8]) -> EntryKind {
        match resolve::resolve_from(&self.0, trail.clone(), link) {
            Ok(Resolved::Directory(_)) => EntryKind::Directory,
            Ok(Resolved::File(_)) => EntryKind::File,
            Ok(Resolved::Other | Resolved::Nothing) | Err(_) => EntryKind::Other,
        }
    }
}
