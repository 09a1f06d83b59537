//! The firmware that boots an image by the image's own boot loader.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use inspect::DiskError;

use crate::image::BaseImage;
use crate::work::JobDirectory;

/// Debian's OVMF (package `ovmf`): the program, and what its memory is before the first start.
const OVMF: [(&str, &str); 2] = [
    ("/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd"),
    ("/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd"),
];

/// What a machine starts with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Firmware {
    /// The BIOS that QEMU brings.
    Bios,
    /// UEFI, with a memory of the machine's own.
    Uefi {
        /// The firmware's program; only read.
        code: PathBuf,
        /// What it remembers; the machine writes to it.
        variables: PathBuf,
    },
}

/// Why there is no firmware for an image.
#[derive(Debug, thiserror::Error)]
pub enum FirmwareError {
    /// It cannot be told which the image needs.
    #[error("cannot tell which firmware boots `{}`: {error}", path.display())]
    Image {
        /// The image.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: DiskError,
    },
    /// The image needs UEFI, which this machine does not have.
    #[error("the image boots by UEFI, but `{}` is not there", path.display())]
    NoUefi {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The machine's own memory for UEFI could not be made.
    #[error("cannot write `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl FirmwareError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Image { error, .. } => error.help(),
            Self::NoUefi { .. } => Some("install the Debian package `ovmf`"),
            Self::Io { .. } => None,
        }
    }
}

impl Firmware {
    /// The firmware that an image is made for; what it remembers lies in the job's directory.
    pub fn for_image(image: &BaseImage, job: &JobDirectory) -> Result<Self, FirmwareError> {
        let needed = inspect::firmware_of(image.path())
            .map_err(|error| FirmwareError::Image { path: image.path().to_owned(), error })?;
        match needed {
            inspect::Firmware::Bios => Ok(Self::Bios),
            inspect::Firmware::Uefi => uefi(&OVMF, &job.path().join("uefi-variables.fd")),
        }
    }
}

fn uefi(places: &[(&str, &str)], variables: &Path) -> Result<Firmware, FirmwareError> {
    let found =
        places.iter().find(|(code, memory)| [code, memory].iter().all(|file| is_there(file)));
    let Some((code, memory)) = found else {
        let path = places.first().map(|(code, _)| PathBuf::from(code)).unwrap_or_default();
        return Err(FirmwareError::NoUefi { path });
    };
    // Not `fs::copy`: the original may be read-only, and the copy must not be.
    fs::read(memory)
        .and_then(|content| fs::write(variables, content))
        .map_err(|error| FirmwareError::Io { path: variables.to_owned(), error })?;
    Ok(Firmware::Uefi { code: PathBuf::from(code), variables: variables.to_owned() })
}

fn is_there(path: &str) -> bool {
    Path::new(path).is_file()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_has_a_memory_of_its_own_or_is_told_what_is_missing() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let (code, memory, own) = (at("code"), at("memory"), place.path().join("own"));

        let missing = uefi(&[(&code, &memory)], &own).unwrap_err();
        assert!(missing.help().unwrap().contains("ovmf"));

        fs::write(&code, "code").unwrap();
        fs::write(&memory, "fresh").unwrap();
        let firmware = uefi(&[(&code, &memory)], &own).unwrap();
        assert_eq!(firmware, Firmware::Uefi { code: PathBuf::from(code), variables: own.clone() });
        assert_eq!(fs::read_to_string(own).unwrap(), "fresh");
    }
}
