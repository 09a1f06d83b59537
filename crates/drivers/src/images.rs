//! Images that a cloud keeps in stores of its own: told, and fetched whole.
//!
//! A store's words and bytes are others'. What it tells is bounded and looked over; what it hands
//! over is no longer than it said, has the digest that it told, and stands alone; anything else is
//! no image. Nothing of a store is altered.

use std::fmt;
use std::fs::File;
use std::io::{self, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::{BaseImage, Format, ImageError};
use md5::Md5;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::libvirt::{HypervisorError, LibvirtError};
use crate::openstack::OpenStackError;

/// How long fetching one image may take.
pub(crate) const FETCH: Duration = Duration::from_secs(3600);

/// Most images of a store that are told of.
pub(crate) const MOST_IMAGES: usize = 1000;

/// Longest name that is told, in characters.
const LONGEST_NAME: usize = 255;

/// What is left out of a file where it is nothing but zeros, in bytes.
const BLOCK: usize = 64 << 10;

/// A place where a cloud keeps images.
pub trait ImageStore: fmt::Debug + Send + Sync {
    /// Its kind in reports.
    fn kind(&self) -> &'static str;

    /// What it holds: 1,000 images at most.
    ///
    /// # Errors
    /// If it does not answer, or holds more.
    fn list(&self) -> Result<Vec<StoredImage>, ImageStoreError>;

    /// What it tells of one image.
    ///
    /// # Errors
    /// [`ImageStoreError::NoImage`] where it has none.
    fn look(&self, id: &str) -> Result<StoredImage, ImageStoreError>;

    /// Fetches one, as it was told of, into a file that is not there yet. A file that came only in
    /// part is left to whoever asked.
    ///
    /// # Errors
    /// If it altered since, is larger than `largest`, or is not what the store tells.
    fn fetch(&self, image: &StoredImage, to: &Path, largest: u64) -> Result<(), ImageStoreError>;
}

/// An image of a store, as that tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredImage {
    /// By what it is known in its store, and nothing else there.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Length of its file in bytes, where it is told.
    pub size: Option<u64>,
    /// Whether it can be read.
    pub fitness: Fitness,
}

/// Whether an image of a store can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fitness {
    /// It can.
    Fit {
        /// How its bytes are laid out.
        format: Format,
        /// What tells what it is from what it was: a digest, or when it altered.
        version: String,
    },
    /// It is left out.
    Unfit {
        /// Why, as the rest of a sentence that begins with the image.
        because: String,
    },
}

impl StoredImage {
    /// What tells what it is from what it was.
    ///
    /// # Errors
    /// [`ImageStoreError::Unfit`] where it cannot be read.
    pub fn version(&self) -> Result<&str, ImageStoreError> {
        match &self.fitness {
            Fitness::Fit { version, .. } => Ok(version),
            Fitness::Unfit { because } => Err(self.unfit(because.clone())),
        }
    }

    pub(crate) fn unfit(&self, because: String) -> ImageStoreError {
        ImageStoreError::Unfit { image: self.id.clone(), because }
    }

    /// Its format, and how many bytes are fetched.
    pub(crate) fn wanted(&self, largest: u64) -> Result<(Format, u64), ImageStoreError> {
        let format = match &self.fitness {
            Fitness::Fit { format, .. } => *format,
            Fitness::Unfit { because } => return Err(self.unfit(because.clone())),
        };
        let size = self.size.unwrap_or_default();
        if size == 0 || size > largest {
            return Err(ImageStoreError::Size { image: self.id.clone(), size, largest });
        }
        Ok((format, size))
    }
}

/// Why a store of images did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ImageStoreError {
    /// In libvirt.
    #[error(transparent)]
    Libvirt(#[from] LibvirtError),
    /// With a libvirt's address or words.
    #[error(transparent)]
    Hypervisor(#[from] HypervisorError),
    /// In an OpenStack cloud.
    #[error(transparent)]
    OpenStack(#[from] OpenStackError),
    /// It has no such image.
    #[error("the store has no image `{image}`")]
    NoImage {
        /// Which.
        image: String,
    },
    /// It has more than are told of.
    #[error("the store has more than {MOST_IMAGES} images")]
    TooMany,
    /// It cannot be read.
    #[error("the image `{image}` {because}")]
    Unfit {
        /// Which.
        image: String,
        /// Why, as the rest of the sentence.
        because: String,
    },
    /// It is empty, or larger than may be.
    #[error("the image `{image}` has {size} bytes; 1 to {largest} are taken")]
    Size {
        /// Which.
        image: String,
        /// Its length as the store tells it.
        size: u64,
        /// Most bytes.
        largest: u64,
    },
    /// It altered while it was fetched, or since it was told of.
    #[error("the image `{image}` altered while it was looked at")]
    Altered {
        /// Which.
        image: String,
    },
    /// Fewer or more bytes came than were told of.
    #[error("of the image `{image}` came {got} bytes in place of {wanted}")]
    Length {
        /// Which.
        image: String,
        /// As many were told of.
        wanted: u64,
        /// As many came; one more than was told of stands for any number.
        got: u64,
    },
    /// What came is something else.
    #[error("what came of the image `{image}` has the digest {got}, and not {wanted}")]
    Digest {
        /// Which.
        image: String,
        /// As it was told.
        wanted: String,
        /// Of what came.
        got: String,
    },
    /// A file of this machine could not be used.
    #[error("cannot use `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl ImageStoreError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Libvirt(_) => Some(
                "try `virsh -c ADDRESS pool-list --all` and `vol-list POOL` as the same user; the storage driver of libvirt must be there",
            ),
            Self::Hypervisor(error) => error.help(),
            Self::OpenStack(error) => error.help(),
            Self::NoImage { .. } => Some("`patchwright source images STORE` tells what it has"),
            Self::TooMany => Some("give images a pool or a project of their own"),
            Self::Unfit { .. } => Some("raw and qcow2 images are read that stand alone"),
            Self::Size { .. } => Some("`up --largest-image` says how large images may be"),
            Self::Altered { .. } => Some("it is looked at again"),
            Self::Length { .. } | Self::Digest { .. } | Self::Io { .. } => None,
        }
    }
}

/// What makes a digest as a store tells it: `sha512:…`.
pub(crate) enum Hasher {
    Md5(Md5),
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// By its name, with how many hexadecimal digits it makes; `None` of those that are not known.
    pub(crate) fn named(name: &str) -> Option<(Self, usize)> {
        Some(match name {
            "md5" => (Self::Md5(Md5::new()), 32),
            "sha256" => (Self::Sha256(Sha256::new()), 64),
            "sha384" => (Self::Sha384(Sha384::new()), 96),
            "sha512" => (Self::Sha512(Sha512::new()), 128),
            _ => return None,
        })
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Md5(it) => it.update(bytes),
            Self::Sha256(it) => it.update(bytes),
            Self::Sha384(it) => it.update(bytes),
            Self::Sha512(it) => it.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Md5(it) => format!("md5:{}", hex(&it.finalize())),
            Self::Sha256(it) => format!("sha256:{}", hex(&it.finalize())),
            Self::Sha384(it) => format!("sha384:{}", hex(&it.finalize())),
            Self::Sha512(it) => format!("sha512:{}", hex(&it.finalize())),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Takes the bytes of one image into a file: as many as were told of, with holes where they are
/// zeros.
pub(crate) struct Sink<'a> {
    image: &'a str,
    path: &'a Path,
    file: File,
    wanted: u64,
    got: u64,
    block: Vec<u8>,
    hasher: Option<Hasher>,
}

impl<'a> Sink<'a> {
    pub(crate) fn new(
        image: &'a str,
        path: &'a Path,
        wanted: u64,
        hasher: Option<Hasher>,
    ) -> Result<Self, ImageStoreError> {
        let failed = |error| ImageStoreError::Io { path: path.to_owned(), error };
        let file = File::create_new(path).map_err(failed)?;
        let block = Vec::with_capacity(BLOCK);
        Ok(Self { image, path, file, wanted, got: 0, block, hasher })
    }

    /// Takes what comes next. More than was told of is refused at once.
    pub(crate) fn take(&mut self, mut piece: &[u8]) -> Result<(), ImageStoreError> {
        self.got += piece.len() as u64;
        if self.got > self.wanted {
            self.got = self.wanted + 1;
            return Err(self.length());
        }
        if let Some(hasher) = &mut self.hasher {
            hasher.update(piece);
        }
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            if self.block.len() == BLOCK {
                self.write()?;
            }
            piece = later;
        }
        Ok(())
    }

    fn write(&mut self) -> Result<(), ImageStoreError> {
        let is_hole = self.block.iter().all(|byte| *byte == 0);
        let written = if is_hole {
            let length = i64::try_from(self.block.len()).unwrap_or_default();
            self.file.seek(SeekFrom::Current(length)).map(drop)
        } else {
            self.file.write_all(&self.block)
        };
        self.block.clear();
        written.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: io::Error) -> ImageStoreError {
        ImageStoreError::Io { path: self.path.to_owned(), error }
    }

    fn length(&self) -> ImageStoreError {
        let (image, wanted, got) = (self.image.to_owned(), self.wanted, self.got);
        ImageStoreError::Length { image, wanted, got }
    }

    /// Says whether it is what was told of: in length, digest and format.
    pub(crate) fn finish(
        mut self,
        format: Format,
        digest: Option<&str>,
    ) -> Result<(), ImageStoreError> {
        if self.got != self.wanted {
            return Err(self.length());
        }
        self.write()?;
        self.file.set_len(self.wanted).map_err(|error| self.failed(error))?;
        let image = self.image.to_owned();
        if let (Some(hasher), Some(wanted)) = (self.hasher, digest) {
            let got = hasher.finish();
            if got != wanted {
                return Err(ImageStoreError::Digest { image, wanted: wanted.to_owned(), got });
            }
        }
        let unfit = |because: String| ImageStoreError::Unfit { image, because };
        // It came from elsewhere: it may name no other file of this machine.
        let found = match BaseImage::open(self.path) {
            Ok(found) => found.format(),
            Err(ImageError::Refused { feature, .. }) => return Err(unfit(feature.to_owned())),
            // Where it lies is nobody's to know.
            Err(ImageError::Io { path, error }) => {
                return Err(ImageStoreError::Io { path, error });
            }
            Err(error) => return Err(unfit(format!("cannot be opened: {error}"))),
        };
        if found != format {
            let (told, found) = (format.name(), found.name());
            return Err(unfit(format!("is {found}, though its store calls it {told}")));
        }
        Ok(())
    }
}

/// As much as is told of a name, in one line.
pub(crate) fn shown(name: &str) -> String {
    let plain = |it: char| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it };
    name.chars().take(LONGEST_NAME).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> StoredImage {
        let version = "sha256:00".to_owned();
        let fitness = Fitness::Fit { format: Format::Raw, version };
        StoredImage { id: "a".to_owned(), name: "a".to_owned(), size: Some(10), fitness }
    }

    #[test]
    fn only_as_much_as_may_be_is_wanted() {
        assert_eq!(image().wanted(10).unwrap(), (Format::Raw, 10));
        let none = StoredImage { size: None, ..image() };
        for (refused, largest) in [(&image(), 9), (&none, 10)] {
            let refused = refused.wanted(largest).unwrap_err();
            assert!(matches!(refused, ImageStoreError::Size { .. }), "{refused}");
        }
        let unfit = Fitness::Unfit { because: "is a VMDK".to_owned() };
        let refused = StoredImage { fitness: unfit, ..image() }.wanted(10).unwrap_err();
        assert_eq!(refused.to_string(), "the image `a` is a VMDK");
    }

    #[test]
    fn what_came_is_kept_with_its_holes_and_held_to_what_was_told() {
        let place = tempfile::tempdir().unwrap();
        let mut bytes = vec![7; 3 * BLOCK + 5];
        bytes[BLOCK..2 * BLOCK].fill(0);
        bytes.extend_from_slice(&[0; 3]);
        let wanted = bytes.len() as u64;
        let digest = format!("sha256:{}", hex(&Sha256::digest(&bytes)));
        let taken = |name: &str, pieces: &[&[u8]], format, digest: &str| {
            let path = place.path().join(name);
            let hasher = Hasher::named("sha256").map(|it| it.0);
            let mut sink = Sink::new("a", &path, wanted, hasher).unwrap();
            pieces.iter().try_for_each(|it| sink.take(it))?;
            sink.finish(format, Some(digest))?;
            Ok::<_, ImageStoreError>(std::fs::read(&path).unwrap())
        };
        let (first, rest) = bytes.split_at(BLOCK + 17);

        assert_eq!(taken("whole", &[first, rest], Format::Raw, &digest).unwrap(), bytes);

        let short = taken("short", &[first], Format::Raw, &digest).unwrap_err();
        assert!(matches!(short, ImageStoreError::Length { .. }), "{short}");
        let long = taken("long", &[&bytes, b"x"], Format::Raw, &digest).unwrap_err();
        assert!(matches!(long, ImageStoreError::Length { .. }), "{long}");
        let other = taken("other", &[rest, first], Format::Raw, &digest).unwrap_err();
        assert!(matches!(other, ImageStoreError::Digest { .. }), "{other}");
        let format = taken("format", &[first, rest], Format::Qcow2, &digest).unwrap_err();
        assert!(format.to_string().contains("is raw, though its store calls it qcow2"), "{format}");
    }
}
