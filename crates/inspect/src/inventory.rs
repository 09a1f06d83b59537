//! From a tree of files to the inventory of the system in it.

use std::path::Path;

use domain::files::{EntryKind, FileError, FileView};
use domain::inventory::{Inventory, OsRelease, PackageFamily, Runtime};

use crate::packages::rpm::RpmError;
use crate::packages::{Listing, apk, dpkg, rpm};
use crate::{kernels, os_release, runtime};

/// Why no inventory could be made.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// A file that decides could not be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Nothing in the tree says which operating system it is.
    #[error("no operating system found: there is neither /etc/os-release nor /usr/lib/os-release{}", found(.top))]
    NoSystem {
        /// Names at the top of the tree, for the reader to recognise what it is.
        top: Vec<String>,
    },
    /// The system is of no family that we know, and has no database that we read.
    #[error("`{system}` ({id}) has no package database of dpkg, rpm or apk")]
    UnknownFamily {
        /// Its name for people.
        system: String,
        /// Its `ID` in os-release.
        id: String,
    },
    /// rpm's database is there, but cannot be read.
    #[error("rpm's database cannot be read: {0}")]
    Rpm(#[from] RpmError),
    /// The system promises a package database that is not in the tree.
    #[error("`{system}` keeps its packages in {place}, and there is nothing")]
    NoDatabase {
        /// Its name for people.
        system: String,
        /// Where its family keeps the database.
        place: &'static str,
    },
    /// The process filesystem of a live root could not be opened.
    #[error("cannot look at the running processes: {0}")]
    Processes(#[source] std::io::Error),
}

fn found(top: &[String]) -> String {
    if top.is_empty() { String::new() } else { format!(" (found {})", top.join(", ")) }
}

impl InspectError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NoSystem { .. } => Some(
                "name the root of a system: /, a directory with etc/ and usr/ in it, a disk image (raw or qcow2) or a container image (OCI layout or docker-save tar)",
            ),
            Self::UnknownFamily { .. } => Some(
                "systems with dpkg (Debian, Ubuntu), rpm (Red Hat, SUSE) and apk (Alpine) are read; name the image or root directory of one of these",
            ),
            Self::Rpm(RpmError::BerkeleyDb { .. }) => Some(
                "rpm's sqlite and ndb databases are read; copy the root and run `rpmdb --root COPY --rebuilddb` of rpm 4.16 or newer on the copy, then name it",
            ),
            Self::NoDatabase { .. } => Some(
                "where /var or /usr lies on a volume of its own, mount the whole and name the directory",
            ),
            Self::Processes(_) => Some("is /proc mounted?"),
            Self::File(_) | Self::Rpm(_) => None,
        }
    }
}

/// Whether the tree is the system that runs, or one that lies still.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Liveness<'a> {
    /// It runs; its process filesystem is here.
    Live {
        /// Where `/proc` is.
        proc: &'a Path,
    },
    /// It does not run.
    Still,
}

/// What the database of whichever family says.
struct Found {
    family: PackageFamily,
    listing: Listing,
    architecture: String,
    foreign_architectures: Vec<String>,
}

/// Reads everything of one system.
pub(crate) fn read(files: &dyn FileView, life: Liveness<'_>) -> Result<Inventory, InspectError> {
    let Some(os) = os_release::read(files)? else {
        return Err(InspectError::NoSystem { top: top(files) });
    };
    let found = database(files, &os)?;
    let mut problems = found.listing.problems;
    if found.listing.packages.is_empty() {
        problems.push(empty_database(found.family));
    }
    let installed_kernels = kernels::installed(files).unwrap_or_else(|error| {
        problems.push(format!("installed kernels are unknown: {error}"));
        Vec::new()
    });
    let runtime: Option<Runtime> = match life {
        Liveness::Live { proc } => Some(
            runtime::observe(files, proc, &installed_kernels).map_err(InspectError::Processes)?,
        ),
        Liveness::Still => None,
    };
    Ok(Inventory {
        os,
        family: found.family,
        architecture: found.architecture,
        foreign_architectures: found.foreign_architectures,
        packages: found.listing.packages,
        installed_kernels,
        runtime,
        problems,
    })
}

/// The family whose database is there, by the names of its files alone.
pub(crate) fn family(files: &dyn FileView) -> Result<PackageFamily, InspectError> {
    let Some(os) = os_release::read(files)? else {
        return Err(InspectError::NoSystem { top: top(files) });
    };
    for family in families(&os) {
        let paths: &[&str] = match family {
            PackageFamily::Dpkg => &["/var/lib/dpkg/status"],
            PackageFamily::Rpm => &rpm::DATABASES,
            PackageFamily::Apk => &apk::PATHS,
        };
        for path in paths {
            match files.read(path, 0) {
                Ok(None) => {}
                Ok(Some(_)) | Err(FileError::TooLarge { .. }) => return Ok(family),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Err(no_database(&os))
}

/// Families in the order in which they are asked. The database that is there decides; a Debian host may
/// well have rpm installed as a tool, so dpkg is asked first unless the system calls itself something else.
fn families(os: &OsRelease) -> [PackageFamily; 3] {
    let mut families = [PackageFamily::Dpkg, PackageFamily::Rpm, PackageFamily::Apk];
    if let Some(own) = family_by_name(os) {
        families.sort_by_key(|family| *family != own);
    }
    families
}

fn no_database(os: &OsRelease) -> InspectError {
    let system = os.pretty_name.clone();
    match family_by_name(os) {
        Some(family) => InspectError::NoDatabase { system, place: place(family) },
        None => InspectError::UnknownFamily { system, id: os.id.clone() },
    }
}

fn database(files: &dyn FileView, os: &OsRelease) -> Result<Found, InspectError> {
    for family in families(os) {
        let found = match family {
            PackageFamily::Dpkg => dpkg::read(files)?.map(|database| Found {
                family,
                listing: database.listing,
                architecture: database.architecture,
                foreign_architectures: database.foreign_architectures,
            }),
            PackageFamily::Rpm => rpm::read(files)?.map(|database| Found {
                family,
                listing: database.listing,
                architecture: database.architecture,
                foreign_architectures: Vec::new(),
            }),
            PackageFamily::Apk => apk::read(files)?.map(|database| Found {
                family,
                listing: database.listing,
                architecture: database.architecture,
                foreign_architectures: Vec::new(),
            }),
        };
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(no_database(os))
}

/// The family that a system's names promise.
fn family_by_name(os: &OsRelease) -> Option<PackageFamily> {
    std::iter::once(&os.id).chain(&os.id_like).find_map(|id| match id.as_str() {
        "debian" | "ubuntu" => Some(PackageFamily::Dpkg),
        "rhel" | "fedora" | "centos" | "almalinux" | "rocky" | "ol" | "amzn" | "suse"
        | "opensuse" | "sles" => Some(PackageFamily::Rpm),
        "alpine" => Some(PackageFamily::Apk),
        _ => None,
    })
}

fn place(family: PackageFamily) -> &'static str {
    match family {
        PackageFamily::Dpkg => "/var/lib/dpkg",
        PackageFamily::Rpm => "/var/lib/rpm or /usr/lib/sysimage/rpm",
        PackageFamily::Apk => "/lib/apk/db",
    }
}

fn empty_database(family: PackageFamily) -> String {
    format!(
        "the database in {} lists no package; is it on another volume than the rest?",
        place(family)
    )
}

fn top(files: &dyn FileView) -> Vec<String> {
    let entries = files.list("/").unwrap_or_default();
    let show = |kind: EntryKind, name: String| match kind {
        EntryKind::Directory => format!("{name}/"),
        EntryKind::File | EntryKind::Other => name,
    };
    entries.into_iter().take(12).map(|entry| show(entry.kind, entry.name)).collect()
}
