//! Baking: a new image from an old one and verified packages.
//!
//! ```text
//! verify packages ─► start still ─► install ─► generalise ─► power off ─► compact ─► verify ─► SHA-256
//!                    (no service)             (one machine's identity,    (one file that stands alone)
//!                                              logs, caches; trim)
//! ```
//!
//! The copy is started with our program in place of its service manager, so nothing of a running
//! machine gets into the new image, and the same inputs give the same files: its clock begins at a
//! given instant, which programs that build files are told as well (`SOURCE_DATE_EPOCH`). What
//! differs all the same, [`crate::compare`] tells.
//!
//! The new image appears under its own hash, whole and flushed, or not at all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::files::{FileError, FileView};
use domain::inventory::{InstalledPackage, Inventory};
use guest::Generalised;
use inspect::{InspectError, OpenError};
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::boot::{self, BootError};
use crate::clock::StageClock;
use crate::evidence::{EvidenceItem, EvidenceStore, digest};
use crate::image::{BaseImage, Format, ImageError};
use crate::limits::Limits;
use crate::observer::{Observer, Stage};
use crate::packages::{PackageError, PackageFile, PackageSet};
use crate::vm::{Vm, VmError};
use crate::work::WorkArea;

/// What is to be baked.
#[derive(Debug, Clone)]
pub struct Recipe<'a> {
    /// The image that it begins with; it is only read.
    pub image: &'a BaseImage,
    /// Packages to install, all in one transaction.
    pub patches: &'a [PackageFile],
    /// The instant at which the machine's clock begins. A part of the inputs: give the same for the
    /// same result, for example the date of the archive's release.
    pub clock: Timestamp,
    /// Bounds of the virtual machine.
    pub limits: &'a Limits,
}

/// A new image.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baked {
    /// Where it is; its name is its hash.
    pub path: PathBuf,
    /// SHA-256 of its file, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of the file that it was made from.
    pub from_sha256: String,
    /// Length of its file, in bytes.
    pub bytes: u64,
    /// How its bytes are laid out: as those of the image before.
    pub format: Format,
    /// What only one machine may have, and was taken out.
    pub generalised: Generalised,
    /// What whoever uses the image should know.
    pub warnings: Vec<String>,
    /// How the guest's code was run; times are to be read with it.
    pub accelerator: Accelerator,
    /// How long each stage took, in milliseconds.
    pub stages: BTreeMap<Stage, u64>,
    /// From the beginning to the end, in milliseconds.
    pub took_ms: u64,
    /// The raw evidence, by content.
    pub evidence: Vec<EvidenceItem>,
}

/// Why there is no new image.
#[derive(Debug, thiserror::Error)]
pub enum BakeError {
    /// The lab could not do its work, or the image did not do what it was asked.
    #[error("{error}")]
    Vm {
        /// What went wrong.
        #[source]
        error: Box<VmError>,
        /// The end of the serial console.
        console: String,
    },
    /// The packages are not those that were verified, or cannot be put on a disk.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// apt did not install them.
    #[error("apt ended with {}: {output}", .exit.map_or("a signal".to_owned(), |exit| format!("status {exit}")))]
    Installation {
        /// Its exit status.
        exit: Option<i32>,
        /// The end of what it printed.
        output: String,
    },
    /// What only one machine may have could not be taken out.
    #[error("the new image still bears the machine's own: {}", problems.join("; "))]
    NotGeneralised {
        /// What could not be done.
        problems: Vec<String>,
    },
    /// The new image is not what it should be.
    #[error("the new image is not sound: {}", problems.join("; "))]
    Unsound {
        /// What is wrong with it.
        problems: Vec<String>,
    },
    /// An image could not be read or written.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The image cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is installed cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A file in the image cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It cannot be told how the new image boots.
    #[error(transparent)]
    Boot(#[from] BootError),
    /// A file of ours could not be written.
    #[error("cannot write `{}`: {error}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl BakeError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Vm { error, .. } => error.help(),
            Self::Packages(error) => error.help(),
            Self::Image(error) => error.help(),
            Self::Open(error) => error.help(),
            Self::Boot(error) => error.help(),
            Self::Installation { .. } => {
                Some("prove the patch on this image first; a proof tells more")
            }
            Self::NotGeneralised { .. } => {
                Some("look at these files in the image it was made from")
            }
            Self::Unsound { .. } => Some("the packages did not do what they say: prove them first"),
            Self::Inspect(_) | Self::File(_) | Self::Io { .. } => None,
        }
    }
}

/// Bakes an image into a directory; evidence goes into another, by its hash.
pub fn bake(
    area: &WorkArea,
    recipe: &Recipe<'_>,
    into: &Path,
    evidence: &Path,
    observer: &Arc<dyn Observer>,
) -> Result<Baked, BakeError> {
    let mut clock = StageClock::start(Arc::clone(observer));
    let not_kept = |error| BakeError::Io { path: evidence.to_owned(), error };
    let mut kept = EvidenceStore::open(evidence).map_err(not_kept)?;
    std::fs::create_dir_all(into)
        .and_then(|()| remove_unfinished(into))
        .map_err(|error| BakeError::Io { path: into.to_owned(), error })?;
    let before = inspect::open(recipe.image.path(), None)?;
    let host_keys = HostKeys::of(before.files())?;
    let before = before.inventory()?;
    let from_sha256 = hashed(recipe.image.path())?.0;

    let mut vm = Vm::new(area, recipe.image, recipe.limits, Arc::clone(observer))
        .map_err(|error| BakeError::Vm { error: error.into(), console: String::new() })?;
    vm.attach(recipe.patches, &[])?;
    let altered = alter(&mut vm, recipe, host_keys, &mut kept, &mut clock);
    let console = std::fs::read(vm.serial_log()).unwrap_or_default();
    kept.keep("serial console", &console).map_err(not_kept)?;
    let generalised = altered?;

    clock.enter(Stage::Compact);
    // Hidden, and removed with this value wherever the way ends early.
    let (_held, new) =
        unfinished(into).map_err(|error| BakeError::Io { path: into.to_owned(), error })?;
    // Compressed clusters become plain ones; more than that, no honest image grows.
    let length = std::fs::metadata(recipe.image.path()).map_or(0, |found| found.len());
    let limit = length.saturating_mul(MOST_UNPACKED).saturating_add(recipe.limits.disk_bytes);
    recipe.image.flatten(vm.overlay(), &new, limit, recipe.limits.install, observer.as_ref())?;
    let accelerator = vm.accelerator();
    drop(vm);

    clock.enter(Stage::Verify);
    sound(&new, recipe.patches, &before)?;
    let (sha256, bytes) = hashed(&new)?;
    let path = into.join(format!("{sha256}.{}", recipe.image.format().name()));
    publish(new, into, &path).map_err(|error| BakeError::Io { path: path.clone(), error })?;
    let (stages, took_ms) = clock.stop();
    Ok(Baked {
        path,
        sha256,
        from_sha256,
        bytes,
        format: recipe.image.format(),
        generalised,
        warnings: host_keys.warning().into_iter().collect(),
        accelerator,
        stages,
        took_ms,
        evidence: kept.into_items(),
    })
}

/// How the names of files begin that are not whole yet.
const UNFINISHED: &str = ".baking-";

/// How many times as long as its file an image may become when its clusters are unpacked.
const MOST_UNPACKED: u64 = 8;

/// A file for a new image, which this process holds for as long as it writes to it.
fn unfinished(into: &Path) -> io::Result<(File, tempfile::TempPath)> {
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(into)?;
    flock(file.as_file(), FlockOperation::LockExclusive)?;
    Ok(file.into_parts())
}

/// Removes what bakes left in a directory whose process was killed; says how much it was.
pub fn remove_unfinished(into: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(into)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// From the copy as it was to the copy as it shall be, at rest.
fn alter(
    vm: &mut Vm,
    recipe: &Recipe<'_>,
    host_keys: HostKeys,
    kept: &mut EvidenceStore,
    clock: &mut StageClock,
) -> Result<Generalised, BakeError> {
    let seen = |error: VmError, vm: &Vm| BakeError::Vm {
        error: Box::new(error),
        console: vm.serial_tail(),
    };
    clock.enter(Stage::Boot);
    vm.boot_still(recipe.clock).map_err(|error| seen(error, vm))?;
    if !recipe.patches.is_empty() {
        clock.enter(Stage::Install);
        let installed =
            vm.install_as_of(PackageSet::Patches, recipe.clock).map_err(|error| seen(error, vm))?;
        kept.keep("installation", installed.output.as_bytes())
            .map_err(|error| BakeError::Io { path: PathBuf::from("installation"), error })?;
        if installed.exit != Some(0) {
            let output = crate::proof::tail(&installed.output);
            return Err(BakeError::Installation { exit: installed.exit, output });
        }
    }
    clock.enter(Stage::Generalise);
    let generalised = vm.generalise(host_keys.are_removed()).map_err(|error| seen(error, vm))?;
    if !generalised.problems.is_empty() {
        return Err(BakeError::NotGeneralised { problems: generalised.problems });
    }
    vm.power_off().map_err(|error| seen(error, vm))?;
    Ok(generalised)
}

/// Whether an image carries SSH's keys of a machine, and whether its VMs make their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostKeys {
    /// It has none: what the packages make is removed again.
    None,
    /// It has some, and cloud-init makes others at each first boot.
    MadeAnew,
    /// It has some, and nothing would make others: without them, nobody could log in.
    Needed,
}

impl HostKeys {
    fn of(files: &dyn FileView) -> Result<Self, FileError> {
        let there = files.list("/etc/ssh")?.iter().any(|it| it.name.starts_with("ssh_host_"));
        if !there {
            return Ok(Self::None);
        }
        let cloud_init = files.list("/usr/bin")?.iter().any(|it| it.name == "cloud-init");
        Ok(if cloud_init { Self::MadeAnew } else { Self::Needed })
    }

    fn are_removed(self) -> bool {
        self != Self::Needed
    }

    fn warning(self) -> Option<String> {
        (self == Self::Needed).then(|| {
            "the image carries SSH host keys, which all its VMs share, and nothing in it makes \
             new ones: they were left"
                .to_owned()
        })
    }
}

/// Looks at the new image as anybody would: it can be read and booted, every package of the patches
/// is at its version and every other as it was, none is half installed, and nothing is wrong with it
/// that was not wrong before.
fn sound(image: &Path, patches: &[PackageFile], before: &Inventory) -> Result<(), BakeError> {
    let target = inspect::open(image, None)?;
    boot::choose(target.files())?;
    let inventory = target.inventory()?;
    let problems = unsoundness(&inventory, patches, before);
    if problems.is_empty() { Ok(()) } else { Err(BakeError::Unsound { problems }) }
}

fn unsoundness(inventory: &Inventory, patches: &[PackageFile], before: &Inventory) -> Vec<String> {
    let is_new = |problem: &&String| !before.problems.contains(problem);
    let mut problems: Vec<String> = inventory.problems.iter().filter(is_new).cloned().collect();
    for patch in patches {
        let of_patch = |it: &&InstalledPackage| {
            it.name == patch.package && it.architecture == patch.architecture
        };
        match inventory.packages.iter().find(of_patch) {
            Some(found) if found.version == patch.version => {}
            Some(found) => problems.push(format!(
                "{} is at {}, not at {}",
                patch.package, found.version, patch.version
            )),
            None => problems.push(format!("{} is not installed", patch.package)),
        }
    }
    let is_patch = |package: &InstalledPackage| {
        // A new version may be built for all architectures where the old one was not.
        let same = |one: &str, other: &str| one == other || one == "all" || other == "all";
        patches
            .iter()
            .any(|it| it.package == package.name && same(&it.architecture, &package.architecture))
    };
    let version = |inventory: &Inventory, package: &InstalledPackage| {
        let same = |it: &&InstalledPackage| {
            it.name == package.name && it.architecture == package.architecture
        };
        inventory.packages.iter().find(same).map(|it| it.version.clone())
    };
    for package in before.packages.iter().filter(|package| !is_patch(package)) {
        match version(inventory, package) {
            Some(found) if found == package.version => {}
            Some(found) => problems.push(format!(
                "{} went from {} to {found}, which nobody asked for",
                package.name, package.version
            )),
            None => problems.push(format!("{} was removed", package.name)),
        }
    }
    for package in inventory.packages.iter().filter(|package| !is_patch(package)) {
        if version(before, package).is_none() {
            problems.push(format!("{} was installed, which nobody asked for", package.name));
        }
    }
    let troubled = inventory.packages.iter().filter_map(|it| Some((it, it.state.trouble()?)));
    problems.extend(troubled.map(|(package, trouble)| format!("{} is {trouble}", package.name)));
    problems
}

fn hashed(path: &Path) -> Result<(String, u64), BakeError> {
    digest(path).map_err(|error| BakeError::Io { path: path.to_owned(), error })
}

/// On the disk before it has its name, and its name on the disk before anybody hears of it.
fn publish(new: tempfile::TempPath, into: &Path, path: &Path) -> io::Result<()> {
    File::open(&new)?.sync_all()?;
    new.persist(path).map_err(|error| error.error)?;
    File::open(into)?.sync_all()
}
