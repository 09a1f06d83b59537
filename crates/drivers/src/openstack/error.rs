//! Why a cloud did not do what it was asked.

use std::io;
use std::path::PathBuf;

use lab::{ImageError, WorkError};

/// Why a cloud did not do what it was asked. Never holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum OpenStackError {
    /// There is no place for what is downloaded.
    #[error(transparent)]
    Work(#[from] WorkError),
    /// Secrets do not go over the network in the clear.
    #[error("`{url}` is neither https nor this machine")]
    InTheClear {
        /// The address.
        url: String,
    },
    /// Who we are was not accepted.
    #[error("the identity service at `{url}` refused to let us in (status {status})")]
    NotLetIn {
        /// Its address.
        url: String,
        /// HTTP status.
        status: u16,
    },
    /// The catalogue has no such service.
    #[error("the cloud's catalogue has no public `{service}` endpoint{}", in_region(region.as_deref()))]
    NoService {
        /// The service's type.
        service: &'static str,
        /// The region that was asked for.
        region: Option<String>,
    },
    /// The service could not be reached, or the connection broke.
    #[error("`{method} {url}` got no answer: {reason}")]
    Unreachable {
        /// The method.
        method: &'static str,
        /// The address.
        url: String,
        /// What the network says.
        reason: String,
    },
    /// The project may not have more.
    #[error("over the project's limit: {message} (`{method} {url}`, status {status})")]
    OverLimit {
        /// The method.
        method: &'static str,
        /// The address.
        url: String,
        /// HTTP status: 413, or 403 with words about a quota.
        status: u16,
        /// What the service says.
        message: String,
    },
    /// The service refused, or failed for longer than was waited.
    #[error("`{method} {url}` answers with status {status}: {message}")]
    Refused {
        /// The method.
        method: &'static str,
        /// The address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the service says.
        message: String,
    },
    /// The answer is not what the service's reference says.
    #[error("the answer to `{method} {url}` lacks {what}")]
    NotUnderstood {
        /// The method.
        method: &'static str,
        /// The address.
        url: String,
        /// What is missing or wrong.
        what: &'static str,
    },
    /// An image did not become usable.
    #[error("the image `{name}` became `{status}` in place of `active`")]
    ImageLost {
        /// The image.
        name: String,
        /// Its last status.
        status: String,
    },
    /// Something took too long.
    #[error("{what} was not done within {seconds} s")]
    TooLate {
        /// What.
        what: &'static str,
        /// The limit.
        seconds: u64,
    },
    /// The disk that came back cannot be taken.
    #[error(transparent)]
    Snapshot(#[from] ImageError),
    /// The disk that came back has another size than was said, or more than allowed.
    #[error("the snapshot has {got} bytes in place of {wanted}")]
    SnapshotSize {
        /// What was said, or is allowed.
        wanted: u64,
        /// What came, or was announced.
        got: u64,
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
    /// Something failed, and what had been made could not be removed either.
    #[error("{error}; and `{name}` could not be removed: {cleaning}")]
    Uncleaned {
        /// What failed first.
        #[source]
        error: Box<OpenStackError>,
        /// What is left.
        name: String,
        /// Why it is left.
        cleaning: Box<OpenStackError>,
    },
}

fn in_region(region: Option<&str>) -> String {
    region.map(|region| format!(" in the region `{region}`")).unwrap_or_default()
}

impl OpenStackError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Work(error) => error.help(),
            Self::Snapshot(error) => error.help(),
            Self::InTheClear { .. } => Some("use the cloud's https endpoints"),
            Self::NotLetIn { .. } => {
                Some("check the credential, its domain and its project; has it expired?")
            }
            Self::NoService { .. } => Some("`openstack catalog list` shows regions and endpoints"),
            Self::Unreachable { .. } => Some("check the network and the service's certificate"),
            Self::OverLimit { .. } => Some(
                "`openstack limits show --absolute` shows quotas; a sweep removes leftovers of trials",
            ),
            Self::Uncleaned { .. } => Some("a later sweep removes it"),
            Self::TooLate { .. } => Some("give it more time, or look at the cloud's load"),
            Self::Refused { .. }
            | Self::NotUnderstood { .. }
            | Self::ImageLost { .. }
            | Self::SnapshotSize { .. }
            | Self::Io { .. } => None,
        }
    }

    /// Whether this is an answer with a status.
    pub(super) fn is_status(&self, wanted: u16) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }
}
