//! Why a store cannot be used, and what to do then.

use std::io;
use std::path::PathBuf;

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// It is no address of a store. What was given is not repeated: it may hold what should not be in it.
    #[error("it is no address of an object store: {why}")]
    Address {
        /// What is wrong with it.
        why: &'static str,
    },
    /// There are no credentials, or not all of them.
    #[error("there are no credentials for the object store: {name} is missing in {place}")]
    Credentials {
        /// What is missing.
        name: &'static str,
        /// Where it was looked for.
        place: String,
    },
    /// Others may read the credentials.
    #[error("others may read the credentials in `{}`", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
    },
    /// A file that the address names cannot be used.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store did not do what it was asked for.
    #[error("cannot use the object store `{address}`")]
    Store {
        /// Which one.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The store replaces objects although it was asked not to.
    #[error("the object store `{address}` replaces objects although it is asked not to")]
    Replaces {
        /// Which one.
        address: String,
    },
    /// Another installation keeps its objects there.
    #[error("the objects in `{address}` are another installation's, with the ledger `{owner}`")]
    Owned {
        /// Which store.
        address: String,
        /// Whose they are.
        owner: String,
    },
}

impl S3Error {
    /// The way out, for a person.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Address { .. } => {
                "give `s3://BUCKET/PREFIX?region=REGION`, with `&endpoint=https://HOST` where it is not Amazon's"
            }
            Self::Credentials { .. } => {
                "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or name a file that sets them with `credentials=FILE` \
                 in the address"
            }
            Self::Open { .. } => "make it readable for its owner alone: chmod 600",
            Self::File { .. } => "see what the system says, then try again",
            Self::Store { .. } => {
                "look at the address, the credentials' rights, and the store itself"
            }
            Self::Replaces { .. } => {
                "use a store that knows conditional puts (`If-None-Match: *`), or a later release of this one"
            }
            Self::Owned { .. } => {
                "name a prefix of its own; if that installation is gone for good, remove the object `.owner-…` there"
            }
        }
    }
}
