//! The images that machines are copied from, and the overlays that they write to.
//!
//! An image's header was written by whoever made the image. It may not name further files: QEMU
//! would open them with our rights and show them to the guest.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};

use crate::machine;
use crate::observer::{Observer, Unobserved};
use crate::work::JobDirectory;

/// A disk image that machines may be copied from. It is only ever read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseImage {
    path: PathBuf,
    format: Format,
}

/// How an image's bytes are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// The disk's bytes as they are.
    Raw,
    /// QEMU's own format.
    Qcow2,
}

impl Format {
    /// QEMU's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The system refused to read it.
    #[error("cannot read the image `{}`: {error}", path.display())]
    Io {
        /// The image.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// Its header names something outside the image, or asks for what the lab does not do.
    #[error("the image `{}` {feature}", path.display())]
    Refused {
        /// The image.
        path: PathBuf,
        /// What it does, as the rest of a sentence.
        feature: &'static str,
    },
    /// qemu-img could not write an image that stands alone.
    #[error("cannot write the image `{}`: {reason}", path.display())]
    Flatten {
        /// The new image.
        path: PathBuf,
        /// What qemu-img said.
        reason: String,
    },
    /// qemu-img could not lay an overlay over it.
    #[error("cannot make a copy of the image `{}`: {reason}", path.display())]
    Overlay {
        /// The image.
        path: PathBuf,
        /// What qemu-img said.
        reason: String,
    },
}

impl ImageError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Io { .. } => None,
            Self::Refused { .. } => {
                Some("`qemu-img convert -O qcow2 OLD NEW` writes an image that stands alone")
            }
            Self::Flatten { .. } => Some("is there enough space, and is qemu-utils installed?"),
            Self::Overlay { .. } => Some("`qemu-img check` tells more; is qemu-utils installed?"),
        }
    }
}

impl BaseImage {
    /// Looks at an image's header.
    pub fn open(path: &Path) -> Result<Self, ImageError> {
        let failed = |error| ImageError::Io { path: path.to_owned(), error };
        let path = path.canonicalize().map_err(failed)?;
        let mut header = Vec::new();
        File::open(&path)
            .and_then(|file| file.take(104).read_to_end(&mut header))
            .map_err(|error| ImageError::Io { path: path.clone(), error })?;
        match recognise(&header) {
            Ok(format) => Ok(Self { path, format }),
            Err(feature) => Err(ImageError::Refused { path, feature }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How its bytes are laid out.
    pub fn format(&self) -> Format {
        self.format
    }

    /// A copy-on-write overlay for a job.
    pub fn overlay(&self, job: &JobDirectory) -> Result<PathBuf, ImageError> {
        let overlay = job.path().join("overlay.qcow2");
        let arguments: [&OsStr; 9] = [
            "create".as_ref(),
            "-q".as_ref(),
            "-f".as_ref(),
            "qcow2".as_ref(),
            "-F".as_ref(),
            self.format.name().as_ref(),
            "-b".as_ref(),
            self.path.as_ref(),
            overlay.as_ref(),
        ];
        let made = qemu_img(&arguments, None, MOMENT, &Unobserved);
        let failed = |reason| ImageError::Overlay { path: self.path.clone(), reason };
        made.map(|()| overlay.clone()).map_err(failed)
    }

    /// One file that stands alone, of this image's format, with what an overlay over it has.
    /// What the overlay gave back takes no place in it. A hostile image may name one cluster a
    /// million times: the file gets no longer than the limit, and it takes no longer than that.
    pub(crate) fn flatten(
        &self,
        overlay: &Path,
        to: &Path,
        limit: u64,
        time: Duration,
        observer: &dyn Observer,
    ) -> Result<(), ImageError> {
        let node = machine::node(overlay, Format::Qcow2, Some((&self.path, self.format)));
        let source = format!("json:{node}");
        let made = qemu_img(
            &[
                "convert".as_ref(),
                "-q".as_ref(),
                "-O".as_ref(),
                self.format.name().as_ref(),
                source.as_ref(),
                to.as_ref(),
            ],
            Some(limit),
            time,
            observer,
        );
        made.map_err(|reason| ImageError::Flatten { path: to.to_owned(), reason })
    }
}

/// Making an overlay takes a moment.
const MOMENT: Duration = Duration::from_secs(120);

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// Runs qemu-img to its end, within a limit for the files that it writes. It ends with us.
fn qemu_img(
    arguments: &[&OsStr],
    limit: Option<u64>,
    time: Duration,
    observer: &dyn Observer,
) -> Result<(), String> {
    let mut child = Command::new(machine::KEEPER)
        .args(["--pdeathsig", "KILL", "--no-new-privs", "--", "qemu-img"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let ended = wait(&mut child, limit, time, observer);
    if ended.is_err() {
        let _ = child.kill();
        let _ = child.wait();
    }
    if ended? {
        return Ok(());
    }
    let mut said = String::new();
    if let Some(errors) = child.stderr.take() {
        let _ = errors.take(MOST_SAID).read_to_string(&mut said);
    }
    Err(if said.trim().is_empty() {
        "it grew too large".to_owned()
    } else {
        said.trim().to_owned()
    })
}

/// What is shown of what qemu-img says.
const MOST_SAID: u64 = 4096;

/// Whether it ended well.
fn wait(
    child: &mut Child,
    limit: Option<u64>,
    time: Duration,
    observer: &dyn Observer,
) -> Result<bool, String> {
    if let (Some(limit), Some(process)) = (limit, Pid::from_raw(child.id().cast_signed())) {
        let limit = Rlimit { current: Some(limit), maximum: Some(limit) };
        // It may have ended already.
        let _ = prlimit(Some(process), Resource::Fsize, limit);
    }
    let deadline = Instant::now() + time;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Ok(status.success());
        }
        if observer.is_called_off() {
            return Err("called off".to_owned());
        }
        if Instant::now() > deadline {
            return Err(format!("it did not end within {} s", time.as_secs()));
        }
        thread::sleep(LOOK);
    }
}

/// Offsets in the header: QEMU's `docs/interop/qcow2.txt`.
fn recognise(header: &[u8]) -> Result<Format, &'static str> {
    const BACKING_OFFSET: usize = 8;
    const ENCRYPTION: usize = 32;
    const INCOMPATIBLE_FEATURES: usize = 72;
    const EXTERNAL_DATA: u64 = 1 << 2;

    if !header.starts_with(b"QFI\xFB") {
        return Ok(Format::Raw);
    }
    if number::<4>(header, 4) < 2 || header.len() < INCOMPATIBLE_FEATURES {
        return Err("is an old or torn qcow image");
    }
    if number::<8>(header, BACKING_OFFSET) != 0 {
        return Err("is an overlay over another image");
    }
    if number::<4>(header, ENCRYPTION) != 0 {
        return Err("is encrypted");
    }
    let version_3 = number::<4>(header, 4) >= 3;
    if version_3 && number::<8>(header, INCOMPATIBLE_FEATURES) & EXTERNAL_DATA != 0 {
        return Err("keeps its data in another file");
    }
    Ok(Format::Qcow2)
}

fn number<const LENGTH: usize>(header: &[u8], offset: usize) -> u64 {
    let bytes = header.get(offset..offset + LENGTH).unwrap_or_default();
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Vec<u8> {
        let mut header = vec![0; 104];
        header[..8].copy_from_slice(b"QFI\xFB\0\0\0\x03");
        header
    }

    #[test]
    fn an_image_that_stands_alone_is_taken() {
        assert_eq!(recognise(&header()), Ok(Format::Qcow2));
        assert_eq!(recognise(&[0; 104]), Ok(Format::Raw));
        assert_eq!(recognise(&[]), Ok(Format::Raw));
    }

    #[test]
    fn what_is_flattened_has_its_limits() {
        let place = tempfile::tempdir().unwrap();
        let (area, _) = crate::work::WorkArea::open(&place.path().join("lab")).unwrap();
        let job = area.job().unwrap();
        let base = place.path().join("base.raw");
        // Nothing that is left out as zeros.
        std::fs::write(&base, vec![7; 8 << 20]).unwrap();
        let base = BaseImage::open(&base).unwrap();
        let overlay = base.overlay(&job).unwrap();
        let to = place.path().join("flat");
        let flatten = |limit, time| base.flatten(&overlay, &to, limit, time, &Unobserved);

        flatten(16 << 20, MOMENT).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), vec![7; 8 << 20]);
        let large = flatten(1 << 20, MOMENT).unwrap_err();
        assert!(matches!(large, ImageError::Flatten { .. }), "{large}");
        let slow = flatten(16 << 20, Duration::ZERO).unwrap_err();
        assert!(slow.to_string().contains("did not end"), "{slow}");
    }

    #[test]
    fn an_image_that_names_other_files_is_refused() {
        let mut overlay = header();
        overlay[15] = 0x70;
        assert!(recognise(&overlay).unwrap_err().contains("overlay"));

        let mut external = header();
        external[79] = 1 << 2;
        assert!(recognise(&external).unwrap_err().contains("another file"));

        assert!(recognise(&header()[..20]).unwrap_err().contains("torn"));
    }
}
