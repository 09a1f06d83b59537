//! How an image boots: its kernel as its boot loader would choose it, and our program in front.
//!
//! Stock images know nothing of us, and what is proven must be the image as it is. So nothing is
//! written to its disk: the kernel and the initial RAM filesystem are read out of the image, QEMU
//! boots them directly, and a second archive behind the image's own (the kernel unpacks both)
//! brings the guest program. A line of shell in `conf/conf.d`, which initramfs-tools reads first
//! of all, adds it as the last step before the real root is entered.

mod cpio;
mod grub;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use domain::files::{FileError, FileView};
use domain::version::VersionKind;
use inspect::OpenError;

use crate::work::JobDirectory;

/// Debian's kernels have 8 MB, its initial RAM filesystems 40 MB; with all firmware 200 MB.
const MAX_BOOT_FILE: u64 = 512 << 20;
const MAX_TEXT: u64 = 1 << 20;

/// The guest program, static, built with this crate.
const PROGRAM: &[u8] = include_bytes!(env!("PATCHWRIGHT_GUEST"));

const HOOK: &str = "echo '/patchwright/guest stage' >> /scripts/init-bottom/ORDER\n";

/// What the lab adds to the image's command line: the console it reads, and no waiting for a
/// person where the kernel or the initial RAM filesystem gives up.
const ADDED: &str = "console=ttyS0,115200 panic=1";

/// What the kernel starts first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The image's own service manager.
    System,
    /// The guest program alone.
    Still,
    /// The image's own service manager, and a shell on the console.
    Shell,
}

impl Start {
    const fn added(self) -> &'static str {
        match self {
            Self::System => "",
            Self::Still => guest::STILL,
            Self::Shell => guest::SHELL,
        }
    }
}

/// Why it cannot be told how an image boots.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The image cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A file in the image cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The image has no kernel where boot loaders look.
    #[error("no kernel found: neither /boot/grub/grub.cfg, nor /vmlinuz, nor /boot names one")]
    NoKernel,
    /// A file that the boot loader would load is not there.
    #[error("the boot loader's configuration names `{path}`, which is not in the image")]
    Missing {
        /// The file.
        path: String,
    },
    /// Nothing says which filesystem is the root.
    #[error("neither /boot/grub/grub.cfg nor /etc/fstab says which filesystem is the root")]
    NoRoot,
    /// A file of the job could not be written.
    #[error("cannot write `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl BootError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Open(error) => error.help(),
            Self::NoKernel | Self::Missing { .. } | Self::NoRoot => {
                Some("docs/lab.md says what an image must have to be booted by the lab")
            }
            Self::File(_) | Self::Io { .. } => None,
        }
    }
}

/// What is loaded into memory when the image boots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) kernel: String,
    pub(crate) initrd: String,
    pub(crate) command_line: String,
}

/// The files of a boot, in the job's directory.
#[derive(Debug)]
pub(crate) struct BootFiles {
    pub(crate) kernel: PathBuf,
    pub(crate) initrd: PathBuf,
    pub(crate) command_line: String,
}

/// Reads the kernel out of the image as it is now, and adds the guest program.
pub(crate) fn prepare(
    image: &Path,
    job: &JobDirectory,
    start: Start,
) -> Result<BootFiles, BootError> {
    let target = inspect::open(image, None)?;
    let files = target.files();
    let choice = choose(files)?;
    let read = |path: &str| {
        files.read(path, MAX_BOOT_FILE)?.ok_or_else(|| BootError::Missing { path: path.to_owned() })
    };
    let mut initrd = read(&choice.initrd)?;
    // Each archive begins at a multiple of four.
    initrd.resize(initrd.len().next_multiple_of(4), 0);
    initrd.extend(addition());
    let write = |name: &str, content: &[u8]| {
        let path = job.path().join(name);
        fs::write(&path, content)
            .map_err(|error| BootError::Io { path: path.clone(), error })
            .map(|()| path)
    };
    Ok(BootFiles {
        kernel: write("vmlinuz", &read(&choice.kernel)?)?,
        initrd: write("initrd.img", &initrd)?,
        command_line: format!("{} {ADDED} {}", choice.command_line, start.added()),
    })
}

fn addition() -> Vec<u8> {
    let mut archive = cpio::Archive::default();
    archive.directory("conf");
    archive.directory("conf/conf.d");
    archive.file("conf/conf.d/zz-patchwright", 0o644, HOOK.as_bytes());
    archive.directory("patchwright");
    archive.file("patchwright/guest", 0o755, PROGRAM);
    archive.finish()
}

/// Whether a boot loader's configuration has an entry that we would boot.
pub(crate) fn names_an_entry(configuration: &str) -> bool {
    grub::default_entry(configuration).is_some()
}

/// GRUB's default entry; else the links that Debian's kernels keep; else the newest in `/boot`.
pub(crate) fn choose(files: &dyn FileView) -> Result<Choice, BootError> {
    let configuration = files.read("/boot/grub/grub.cfg", MAX_TEXT)?.unwrap_or_default();
    if let Some(entry) = grub::default_entry(&String::from_utf8_lossy(&configuration)) {
        return Ok(Choice {
            kernel: place(files, &entry.linux)?,
            initrd: place(files, &entry.initrd)?,
            command_line: entry.command_line,
        });
    }
    let (kernel, initrd) = linked(files)?.map_or_else(|| newest(files), Ok)?;
    let fstab = files.read("/etc/fstab", MAX_TEXT)?.unwrap_or_default();
    let fstab = String::from_utf8_lossy(&fstab);
    let root = root_device(&fstab).ok_or(BootError::NoRoot)?;
    Ok(Choice { kernel, initrd, command_line: format!("root={root} ro") })
}

/// A file of the boot loader's configuration, whose root may be `/boot`'s own filesystem.
fn place(files: &dyn FileView, path: &str) -> Result<String, BootError> {
    for place in [path.to_owned(), format!("/boot{path}")] {
        if is_there(files, &place)? {
            return Ok(place);
        }
    }
    Err(BootError::Missing { path: path.to_owned() })
}

fn linked(files: &dyn FileView) -> Result<Option<(String, String)>, BootError> {
    for directory in ["", "/boot"] {
        let pair = (format!("{directory}/vmlinuz"), format!("{directory}/initrd.img"));
        if is_there(files, &pair.0)? && is_there(files, &pair.1)? {
            return Ok(Some(pair));
        }
    }
    Ok(None)
}

fn newest(files: &dyn FileView) -> Result<(String, String), BootError> {
    let names = files.list("/boot")?;
    let releases = names.iter().filter_map(|entry| entry.name.strip_prefix("vmlinuz-"));
    let newest = releases.max_by(|a, b| VersionKind::Dpkg.compare(a, b));
    let release = newest.ok_or(BootError::NoKernel)?;
    Ok((format!("/boot/vmlinuz-{release}"), format!("/boot/initrd.img-{release}")))
}

/// Whether there is a regular file, links followed inside the image.
fn is_there(files: &dyn FileView, path: &str) -> Result<bool, FileError> {
    match files.read(path, 0) {
        Ok(found) => Ok(found.is_some()),
        Err(FileError::TooLarge { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

/// The first column of the line for `/`.
fn root_device(fstab: &str) -> Option<&str> {
    fstab.lines().find_map(|line| {
        let mut columns = line.split_whitespace();
        let device = columns.next().filter(|device| !device.starts_with('#'))?;
        (columns.next() == Some("/")).then_some(device)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn image(files: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        files.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_boot_loaders_default_is_taken() {
        let files = image(&[
            (
                "/boot/grub/grub.cfg",
                "menuentry 'Debian' {\n\tlinux /boot/vmlinuz-6.1.0-9 root=UUID=1 ro quiet\n\tinitrd /boot/initrd.img-6.1.0-9\n}",
            ),
            ("/boot/vmlinuz-6.1.0-9", "k"),
            ("/boot/initrd.img-6.1.0-9", "i"),
            ("/boot/vmlinuz-6.1.0-32", "k"),
            ("/boot/initrd.img-6.1.0-32", "i"),
        ]);

        let choice = choose(&files).unwrap();

        assert_eq!(choice.kernel, "/boot/vmlinuz-6.1.0-9");
        assert_eq!(choice.command_line, "root=UUID=1 ro quiet");
    }

    #[test]
    fn paths_may_be_relative_to_a_boot_filesystem() {
        let files = image(&[
            (
                "/boot/grub/grub.cfg",
                "menuentry 'x' {\nlinux /vmlinuz-1 root=UUID=1\ninitrd /initrd.img-1\n}",
            ),
            ("/boot/vmlinuz-1", "k"),
            ("/boot/initrd.img-1", "i"),
        ]);
        assert_eq!(choose(&files).unwrap().initrd, "/boot/initrd.img-1");
    }

    #[test]
    fn a_kernel_that_the_boot_loader_would_not_find_is_no_kernel() {
        let files = image(&[
            (
                "/boot/grub/grub.cfg",
                "menuentry 'x' {\nlinux /boot/gone root=UUID=1\ninitrd /boot/gone\n}",
            ),
            ("/boot/vmlinuz-1", "k"),
            ("/boot/initrd.img-1", "i"),
            ("/etc/fstab", "UUID=1 / ext4 defaults 0 1"),
        ]);
        assert!(matches!(choose(&files), Err(BootError::Missing { .. })));
    }

    #[test]
    fn without_a_boot_loader_the_newest_kernel_and_fstab_decide() {
        let files = image(&[
            ("/boot/vmlinuz-6.1.0-9", "k"),
            ("/boot/initrd.img-6.1.0-9", "i"),
            ("/boot/vmlinuz-6.1.0-32", "k"),
            ("/boot/initrd.img-6.1.0-32", "i"),
            (
                "/etc/fstab",
                "# a comment\nUUID=2 /boot ext4 defaults 0 2\nLABEL=root\t/ ext4 defaults 0 1",
            ),
        ]);

        let choice = choose(&files).unwrap();

        assert_eq!(choice.kernel, "/boot/vmlinuz-6.1.0-32");
        assert_eq!(choice.command_line, "root=LABEL=root ro");
        assert!(matches!(choose(&image(&[])), Err(BootError::NoKernel)));
    }
}
