//! Targets: recognising what a path holds and opening it.

use std::fmt;
use std::path::{Path, PathBuf};

use domain::files::FileView;
use domain::inventory::Inventory;

use crate::inventory::{self, InspectError, Liveness};
use crate::tree::{DirectoryTree, Tree};

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
            Self::Unsupported { help, .. } => Some(help),
        }
    }
}

/// One system, opened for reading.
pub struct Target {
    kind: TargetKind,
    files: Box<dyn FileView + Send + Sync>,
}

impl fmt::Debug for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Target").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// Opens a target; `kind` overrides what the path looks like.
pub fn open(path: &Path, kind: Option<TargetKind>) -> Result<Target, OpenError> {
    let kind = match kind {
        Some(kind) => kind,
        None => recognise(path).map_err(|error| OpenError::Io { path: path.to_owned(), error })?,
    };
    let io = |error| OpenError::Io { path: path.to_owned(), error };
    let files: Box<dyn FileView + Send + Sync> = match kind {
        TargetKind::LiveRoot | TargetKind::Directory => {
            Box::new(Tree(DirectoryTree::open(path).map_err(io)?))
        }
        _ => {
            return Err(OpenError::Unsupported {
                path: path.to_owned(),
                what: "an image",
                help: "name a root directory",
            });
        }
    };
    Ok(Target { kind, files })
}

fn recognise(path: &Path) -> Result<TargetKind, std::io::Error> {
    let canonical = path.canonicalize()?;
    if canonical == Path::new("/") {
        return Ok(TargetKind::LiveRoot);
    }
    if canonical.is_dir() { Ok(TargetKind::Directory) } else { Ok(TargetKind::RawDisk) }
}

impl Target {
    /// What kind of thing holds the system.
    pub fn kind(&self) -> TargetKind {
        self.kind
    }

    /// The system's files, read-only; links stay inside.
    pub fn files(&self) -> &dyn FileView {
        &*self.files
    }

    /// Reads what is installed and, of a live root, what runs.
    pub fn inventory(&self) -> Result<Inventory, InspectError> {
        let life = match self.kind {
            TargetKind::LiveRoot => Liveness::Live { proc: Path::new("/proc") },
            _ => Liveness::Still,
        };
        inventory::read(&*self.files, life)
    }
}
