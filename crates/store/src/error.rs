//! What can go wrong, and what to do then.

use std::sync::Arc;

/// Why the store did not do as asked. Nothing of the request has happened then, except where
/// [`StoreError::OutcomeUnknown`] says so.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No such thing, or it is another tenant's, which must not be told apart.
    #[error("there is no {what} `{id}`")]
    NotFound {
        /// Kind of thing.
        what: &'static str,
        /// What was asked for.
        id: String,
    },
    /// The name is taken.
    #[error("there is a {what} `{name}` already")]
    Exists {
        /// Kind of thing.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// Somebody altered it since the caller read it.
    #[error("{what} `{id}` is at version {found}, not {expected}")]
    Stale {
        /// Kind of thing.
        what: &'static str,
        /// Which one.
        id: String,
        /// Version that the caller had read.
        expected: i64,
        /// Version that there is.
        found: i64,
    },
    /// A rule forbids it.
    #[error("{reason}")]
    Refused {
        /// The rule.
        reason: String,
        /// The way out.
        help: &'static str,
    },
    /// The idempotency key was used for a different request.
    #[error("idempotency key `{key}` was used for another request")]
    KeyReused {
        /// The key.
        key: String,
    },
    /// More requests wait than the store takes.
    #[error("the store has too much to write")]
    Busy,
    /// The disk is full.
    #[error("the disk of the database is full")]
    Full,
    /// The database failed in a way after which nothing may be written: what the disk holds is not
    /// certain.
    #[error("the database failed before and takes no more changes: {reason}")]
    Failed {
        /// The first failure.
        reason: String,
    },
    /// The connection broke while committing.
    #[error("the connection broke while committing: the change may have happened or not")]
    OutcomeUnknown(#[source] Arc<sqlx::Error>),
    /// A row holds what it never should.
    #[error("the database holds what it should not: {what}")]
    Corrupt {
        /// Which row and why.
        what: String,
    },
    /// The file is of a later Patchwright.
    #[error("the database has schema {found}; this Patchwright knows {known}")]
    TooNew {
        /// Schema found.
        found: i64,
        /// Schema known.
        known: i64,
    },
    /// The address of the database cannot be read.
    #[error("`{given}` is not the address of a database")]
    BadAddress {
        /// As given, without a password.
        given: String,
    },
    /// Contents of files, or the objects that they lie in.
    #[error("{0}")]
    Content(#[source] Arc<history::HistoryError>),
    /// Anything else that the database says.
    #[error("the database refused")]
    Database(#[source] Arc<sqlx::Error>),
}

impl StoreError {
    /// The way out, for a person.
    pub const fn help(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotFound { .. } => "list what there is; ids are never reused",
            Self::Exists { .. } => "choose another name, or alter the one that exists",
            Self::Stale { .. } => "read it again and decide anew",
            Self::Refused { help, .. } => help,
            Self::KeyReused { .. } => "use a new key for each different request",
            Self::Busy => "try again in a moment",
            Self::Full => "free space where the database lies; nothing acknowledged was lost",
            Self::Failed { .. } => "check the disk, then start Patchwright again",
            Self::OutcomeUnknown(_) => "send the same request with the same idempotency key again",
            Self::Corrupt { .. } => "restore the last backup, and verify the ledger against it",
            Self::TooNew { .. } => "use the Patchwright that wrote it, or a later one",
            Self::BadAddress { .. } => "give a file's path, or postgres://user@host/database",
            Self::Content(_) => "let fsck tell what is damaged, and restore that from a backup",
            Self::Database(_) => return None,
        })
    }

    pub(crate) fn exists(
        what: &'static str,
        name: &impl ToString,
    ) -> impl FnOnce(sqlx::Error) -> Self {
        let name = name.to_string();
        move |error| {
            let is_taken = error
                .as_database_error()
                .is_some_and(sqlx::error::DatabaseError::is_unique_violation);
            if is_taken { Self::Exists { what, name } } else { error.into() }
        }
    }

    pub(crate) fn not_found(what: &'static str, id: &impl ToString) -> Self {
        Self::NotFound { what, id: id.to_string() }
    }

    /// Whether what the disk holds is not certain any more.
    pub(crate) fn is_fatal(&self) -> bool {
        // SQLITE_IOERR, SQLITE_CORRUPT, SQLITE_NOTADB.
        matches!(self, Self::Database(error) if [10, 11, 26].contains(&primary_code(error)))
    }

    /// Whether this transaction gave way to another one: they waited for each other, or this one for
    /// too long. Nothing is wrong with what was asked for.
    pub(crate) fn is_entangled(&self) -> bool {
        // serialization_failure, deadlock_detected, lock_not_available (PostgreSQL, appendix A).
        let Self::Database(error) = self else { return false };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| matches!(&*code, "40001" | "40P01" | "55P03"))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        const SQLITE_FULL: i32 = 13;
        const POSTGRES_DISK_FULL: &str = "53100";
        let code =
            error.as_database_error().and_then(|it| it.code().map(std::borrow::Cow::into_owned));
        if primary_code(&error) == SQLITE_FULL || code.as_deref() == Some(POSTGRES_DISK_FULL) {
            return Self::Full;
        }
        Self::Database(Arc::new(error))
    }
}

impl From<history::HistoryError> for StoreError {
    fn from(error: history::HistoryError) -> Self {
        use history::HistoryError::{NotAPath, TooLarge};
        match error {
            TooLarge { .. } | NotAPath { .. } => {
                Self::Refused { reason: error.to_string(), help: error.help() }
            }
            error => Self::Content(Arc::new(error)),
        }
    }
}

/// SQLite's primary result code; -1 where it is not SQLite that speaks.
fn primary_code(error: &sqlx::Error) -> i32 {
    let Some(error) = error.as_database_error() else { return -1 };
    // SQLSTATE has five characters, and SQLite's codes are shorter or are extended ones.
    error
        .code()
        .filter(|code| code.len() < 5)
        .and_then(|code| code.parse::<i32>().ok())
        .map_or(-1, |code| code & 0xff)
}
