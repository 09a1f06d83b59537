//! Targets: recognising what a path holds and opening it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::files::{FileError, FileView};
use domain::inventory::{Inventory, PackageFamily};

use crate::disk::{BlockRead, DiskError, Qcow2Disk, RawDisk, find_root};
use crate::image::{self, Archive, Description, Image, ImageError};
use crate::inventory::{self, InspectError, Liveness};
use crate::recognise::{Recognised, recognise};
use crate::tree::{DirectoryTree, Met, Tree, Walk};

/// What kind of thing holds a system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TargetKind {
    /// The system that runs here.
    LiveRoot,
    /// The root directory of a system that does not run.
    Directory,
    /// A disk image without a format of its own.
    RawDisk,
    /// A disk image in QEMU's qcow2 format.
    Qcow2Disk,
    /// A directory in OCI image layout.
    OciLayout,
    /// A tar archive (plain, gzip or zstd) with an OCI image layout in it.
    OciArchive,
    /// A tar archive (plain, gzip or zstd) written by `docker save`.
    DockerArchive,
}

impl TargetKind {
    /// All kinds, for menus and messages.
    pub const ALL: [Self; 7] = [
        Self::LiveRoot,
        Self::Directory,
        Self::RawDisk,
        Self::Qcow2Disk,
        Self::OciLayout,
        Self::OciArchive,
        Self::DockerArchive,
    ];

    /// Its name on the command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LiveRoot => "live-root",
            Self::Directory => "directory",
            Self::RawDisk => "raw-disk",
            Self::Qcow2Disk => "qcow2-disk",
            Self::OciLayout => "oci-layout",
            Self::OciArchive => "oci-archive",
            Self::DockerArchive => "docker-archive",
        }
    }
}

impl fmt::Display for TargetKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a target could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The path could not be opened.
    #[error("cannot open `{}`: {error}", path.display())]
    Io {
        /// The target.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// The disk image cannot be read, or holds no system.
    #[error("`{}`: {error}", path.display())]
    Disk {
        /// The target.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: DiskError,
    },
    /// The container image cannot be read.
    #[error("`{}`: {error}", path.display())]
    Image {
        /// The target.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: ImageError,
    },
    /// The path holds something that is not read.
    #[error("`{}` is {what}, which is not read", path.display())]
    Unsupported {
        /// The target.
        path: PathBuf,
        /// What it is, with its article.
        what: &'static str,
        /// What to do about it.
        help: &'static str,
    },
}

impl OpenError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => None,
            Self::Disk { error, .. } => error.help(),
            Self::Image { error, .. } => error.help(),
            Self::Unsupported { help, .. } => Some(help),
        }
    }
}

/// A tree of files with both ways to look at it.
trait System: FileView + Walk + Send + Sync {}

impl<T: FileView + Walk + Send + Sync> System for T {}

/// One system, opened for reading.
pub struct Target {
    kind: TargetKind,
    files: Box<dyn System>,
    /// What the reader should know about the thing that holds the system.
    notes: Vec<String>,
    /// The process filesystem of a live root.
    proc: Option<PathBuf>,
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Target").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Opens a target as what it looks like, or as the `kind` that it is said to be.
///
/// Opening reads no more than is needed to find the system in it; of a container image, that is
/// all its layers.
pub fn open(path: &Path, kind: Option<TargetKind>) -> Result<Target, OpenError> {
    match kind {
        Some(kind) => open_as(path, kind),
        None => match recognise(path).map_err(|error| io(path, error))? {
            Recognised::Kind(kind) => open_as(path, kind),
            Recognised::Archive => open_archive(path, None),
            Recognised::Unread { what, help } => {
                Err(OpenError::Unsupported { path: path.to_owned(), what, help })
            }
        },
    }
}

fn open_as(path: &Path, kind: TargetKind) -> Result<Target, OpenError> {
    match kind {
        TargetKind::LiveRoot | TargetKind::Directory => {
            let tree = DirectoryTree::open(path).map_err(|error| io(path, error))?;
            // Seen from a container, the host's root may be mounted elsewhere, with its /proc.
            let proc = (kind == TargetKind::LiveRoot).then(|| path.join("proc"));
            Ok(Target { kind, files: Box::new(Tree(tree)), notes: Vec::new(), proc })
        }
        TargetKind::RawDisk => {
            let disk = RawDisk::named_by_user(path).map_err(|error| disk_error(path, error))?;
            open_disk(path, kind, Arc::new(disk), Vec::new())
        }
        TargetKind::Qcow2Disk => {
            let disk = Qcow2Disk::open(path).map_err(|error| disk_error(path, error))?;
            let notes = disk.notes().to_vec();
            open_disk(path, kind, Arc::new(disk), notes)
        }
        TargetKind::OciLayout => {
            let image = image::open_layout(path).map_err(|error| image_error(path, error))?;
            Ok(of_image(kind, image))
        }
        TargetKind::OciArchive => open_archive(path, Some(Description::Oci)),
        TargetKind::DockerArchive => open_archive(path, Some(Description::Docker)),
    }
}

fn open_disk(
    path: &Path,
    kind: TargetKind,
    disk: Arc<dyn BlockRead>,
    mut notes: Vec<String>,
) -> Result<Target, OpenError> {
    let root = find_root(disk).map_err(|error| disk_error(path, error))?;
    notes.extend(root.notes);
    Ok(Target { kind, files: Box::new(root.tree), notes, proc: None })
}

fn open_archive(path: &Path, stated: Option<Description>) -> Result<Target, OpenError> {
    let archive = Archive::open(path).map_err(|error| image_error(path, error))?;
    let description = stated.or_else(|| archive.description()).ok_or_else(|| {
        let reason = "the archive has neither an `index.json` nor a `manifest.json`".to_owned();
        image_error(path, ImageError::NoImage { reason })
    })?;
    let image = archive.image(description).map_err(|error| image_error(path, error))?;
    let kind = match description {
        Description::Oci => TargetKind::OciArchive,
        Description::Docker => TargetKind::DockerArchive,
    };
    Ok(of_image(kind, image))
}

fn of_image(kind: TargetKind, image: Image) -> Target {
    Target { kind, files: Box::new(Tree(image.tree)), notes: image.notes, proc: None }
}

fn io(path: &Path, error: std::io::Error) -> OpenError {
    OpenError::Io { path: path.to_owned(), error }
}

fn disk_error(path: &Path, error: DiskError) -> OpenError {
    OpenError::Disk { path: path.to_owned(), error }
}

fn image_error(path: &Path, error: ImageError) -> OpenError {
    OpenError::Image { path: path.to_owned(), error }
}

impl Target {
    /// What kind of thing holds the system.
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// The system's files, read-only; links stay inside.
    ///
    /// Of a container image only package databases, configuration and keyrings have content.
    pub fn files(&self) -> &(dyn FileView + Send + Sync) {
        &*self.files
    }

    /// Meets every name in the system but its root, without following a link: directories before
    /// what is in them. Files of more than `limit` bytes are told as unread.
    ///
    /// # Errors
    /// If there are more or deeper names than any system has.
    pub fn walk(&self, limit: u64, meet: &mut dyn FnMut(Met<'_>)) -> Result<(), FileError> {
        self.files.walk(limit, meet)
    }

    /// The same of what lies below a directory (`/etc`) that no link leads to, and of nothing else.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub fn walk_below(
        &self,
        base: &str,
        limit: u64,
        meet: &mut dyn FnMut(Met<'_>),
    ) -> Result<(), FileError> {
        self.files.walk_below(base, limit, meet)
    }

    /// Which package manager's database is there, whether or not it can be read.
    pub fn family(&self) -> Result<PackageFamily, InspectError> {
        inventory::family(&*self.files)
    }

    /// Reads what is installed and, of a live root, what runs.
    pub fn inventory(&self) -> Result<Inventory, InspectError> {
        let life = self.proc.as_deref().map_or(Liveness::Still, |proc| Liveness::Live { proc });
        let mut inventory = inventory::read(&*self.files, life)?;
        inventory.problems.extend(self.notes.iter().cloned());
        Ok(inventory)
    }
}
