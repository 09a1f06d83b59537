//! What can be wrong with a container image.

use std::path::PathBuf;

/// Why a container image could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The system refused to read.
    #[error("cannot read `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: std::io::Error,
    },
    /// Something that the image names is not in it.
    #[error("the image names `{path}`, which is not in it")]
    Missing {
        /// The missing part.
        path: String,
    },
    /// A part does not have the content that the image promises.
    #[error("`{path}` should have the SHA-256 {expected}, but has {found}")]
    WrongDigest {
        /// The part.
        path: String,
        /// Digest promised, lower-case hex.
        expected: String,
        /// Digest found.
        found: String,
    },
    /// A part breaks its format's rules.
    #[error("`{path}` is damaged: {reason}")]
    Damaged {
        /// The part.
        path: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// A part unpacks to more than is reasonable.
    #[error("`{path}` unpacks to more than {limit} bytes from {packed}, which is refused")]
    Bomb {
        /// The part.
        path: String,
        /// Bytes read so far.
        packed: u64,
        /// Most bytes that these may unpack to.
        limit: u64,
    },
    /// More content would have to be held in memory than is reasonable.
    #[error("the files to be kept from `{path}` exceed {limit} {unit}")]
    TooMuch {
        /// The layer.
        path: String,
        /// The limit.
        limit: u64,
        /// What is counted.
        unit: &'static str,
    },
    /// There are several images, and none is the obvious one.
    #[error("there is more than one image: {}", choices.join(", "))]
    Ambiguous {
        /// Names or digests with platforms.
        choices: Vec<String>,
    },
    /// There is no image for a system.
    #[error("there is no container image in it: {reason}")]
    NoImage {
        /// What is there instead.
        reason: String,
    },
    /// The image uses something that is not read.
    #[error("`{path}` is {what}, which is not read")]
    Unsupported {
        /// The part.
        path: String,
        /// What it is.
        what: String,
    },
}

impl ImageError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Ambiguous { .. } => Some(
                "copy the one you mean out, for instance with `skopeo copy --override-arch amd64 oci:DIR:TAG oci:NEW`",
            ),
            Self::Missing { .. } | Self::WrongDigest { .. } | Self::Damaged { .. } => {
                Some("save or copy the image again; what was read does not match what it promises")
            }
            Self::NoImage { .. } | Self::Unsupported { .. } => Some(
                "an OCI image layout (directory or tar) or the output of `docker save` is read",
            ),
            Self::Bomb { .. } | Self::TooMuch { .. } => Some(
                "unpack the image in a sandbox with enough room and name the root directory instead",
            ),
            Self::Io { .. } => None,
        }
    }
}
