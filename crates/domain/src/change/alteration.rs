//! What an alteration makes of a file, held against what is known of the file.

use super::digest::FileHash;
use super::plan::{Action, check_path};
use crate::configuration::secret::{FingerprintKey, Redaction, is_partial, redact};
use crate::order::LARGEST_CONTENT;

/// Most files that a change alters.
pub const MOST_FILES: u16 = 500;

/// What is known of a file, by what its host told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It is not there.
    Absent,
    /// It is there, with this content.
    Holds(FileHash),
    /// It is there, and not all of it is told: something in it is secret.
    Withheld,
    /// It is there, and is no file: a link, a directory.
    NotPlain,
    /// Nothing is told of what lies in its place.
    Unobserved,
    /// It was erased what it held.
    Erased,
}

/// Why a plan does not write a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// It is another one than when its new content was proposed.
    #[error("`{path}` was altered since its content was proposed: it has {}, and not {}", said(.found.as_ref()), said(.seen.as_ref()))]
    Altered {
        /// Which file.
        path: String,
        /// What it held then.
        seen: Option<FileHash>,
        /// What it holds now.
        found: Option<FileHash>,
    },
    /// There is nothing to do.
    #[error("`{path}` has the proposed content already")]
    Already {
        /// Which file.
        path: String,
    },
    /// Nobody could see whether it was written.
    #[error(
        "of `{path}` not all is told, as something in it is secret: nobody could see whether it was written"
    )]
    Withheld {
        /// Which file.
        path: String,
    },
    /// Orders write files alone.
    #[error("`{path}` is no plain file")]
    NotPlain {
        /// What has its name.
        path: String,
    },
    /// Nobody could see whether it was written.
    #[error("nothing is told of where `{path}` lies: nobody could see whether it was written")]
    Unobserved {
        /// Which file.
        path: String,
    },
    /// It cannot be said any more what it is.
    #[error("it was erased what `{path}` held")]
    Erased {
        /// Which file.
        path: String,
    },
    /// Not the name of a file that an order may write.
    #[error("`{path}` is no absolute path of a file")]
    Path {
        /// What was given.
        path: String,
    },
    /// More than an order carries.
    #[error("the content for `{path}` has {size} bytes, and {LARGEST_CONTENT} are the most")]
    TooLarge {
        /// Which file.
        path: String,
        /// How many it has.
        size: usize,
    },
    /// What is left of a file without its secrets is no content for it.
    #[error("the content for `{path}` has a marker where a secret was")]
    Marker {
        /// Which file.
        path: String,
    },
}

impl Unwritable {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Altered { .. } => {
                "look at what it is now, and propose its content in a change of its own"
            }
            Self::Already { .. } => "leave it out",
            Self::Withheld { .. } => {
                "have the host's owner keep its original: `[configuration] originals` in agent-policy.toml"
            }
            Self::NotPlain { .. } => "name the file where it lies",
            Self::Unobserved { .. } => {
                "have its directory observed: `[configuration] watch` in the host's agent-policy.toml"
            }
            Self::Erased { .. } => "wait for what its agent tells next",
            Self::Path { .. } => "name the file from the root on, without `.` and `..`",
            Self::TooLarge { .. } => "have it brought by a package",
            Self::Marker { .. } => "give the whole content: `patchwright config original` tells it",
        }
    }
}

fn said(hash: Option<&FileHash>) -> String {
    hash.map_or_else(|| "no content".to_owned(), |hash| format!("the SHA-256 {hash}"))
}

/// What a plan says of a file that is to get a content. `seen` is what it held when that was proposed: an agent writes
/// from exactly one content to exactly another, and people agreed to both.
///
/// # Errors
/// As [`Unwritable`].
pub fn write_file(
    path: &str,
    seen: Option<FileHash>,
    after: FileHash,
    known: Known,
) -> Result<Action, Unwritable> {
    let found = holds(path, known)?;
    let path = path.to_owned();
    if found == Some(after) {
        return Err(Unwritable::Already { path });
    }
    if found != seen {
        return Err(Unwritable::Altered { path, seen, found });
    }
    Ok(Action::WriteFile { path, before: found, after })
}

/// Whether somebody could see that a file has a content: all of it is told, or its original is kept.
///
/// # Errors
/// If not, or if no order carries it.
pub fn check_content(path: &str, content: &[u8], keeps_original: bool) -> Result<(), Unwritable> {
    let (given, size) = (|| path.chars().take(256).collect::<String>(), content.len());
    if check_path(path).is_err() {
        return Err(Unwritable::Path { path: given() });
    }
    if size > LARGEST_CONTENT {
        return Err(Unwritable::TooLarge { path: given(), size });
    }
    if str::from_utf8(content).is_ok_and(is_partial) {
        return Err(Unwritable::Marker { path: given() });
    }
    // Which key it is does not matter: it is asked whether there is anything secret.
    let told = redact(path, content, &FingerprintKey::from([0; 32]));
    let is_whole = matches!(&told, Redaction::Text(text) if text.secrets.is_empty());
    if is_whole || keeps_original {
        return Ok(());
    }
    Err(Unwritable::Withheld { path: given() })
}

/// What takes files back to what they held, the last one first; `None` where something else than files was altered, or
/// one of them was not there: no order takes a file away.
pub fn back(actions: &[Action]) -> Option<Vec<Action>> {
    let mut back = Vec::with_capacity(actions.len());
    for action in actions.iter().rev() {
        match action {
            Action::WriteFile { path, before, after } => back.push(Action::WriteFile {
                path: path.clone(),
                before: Some(*after),
                after: (*before)?,
            }),
            Action::Probe { .. } => {}
            Action::Upgrade { .. } | Action::RestartUnit { .. } | Action::Reboot => return None,
        }
    }
    (!back.is_empty()).then_some(back)
}

/// The content that a file is known to have, where an order could write it.
///
/// # Errors
/// Where none could, or nobody could see it.
pub fn holds(path: &str, known: Known) -> Result<Option<FileHash>, Unwritable> {
    let path = || path.to_owned();
    match known {
        Known::Absent => Ok(None),
        Known::Holds(hash) => Ok(Some(hash)),
        Known::Withheld => Err(Unwritable::Withheld { path: path() }),
        Known::NotPlain => Err(Unwritable::NotPlain { path: path() }),
        Known::Unobserved => Err(Unwritable::Unobserved { path: path() }),
        Known::Erased => Err(Unwritable::Erased { path: path() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/etc/motd";

    fn hash(byte: u8) -> FileHash {
        FileHash::from([byte; 32])
    }

    #[test]
    fn a_file_is_written_from_what_was_seen_to_what_was_proposed() {
        let write = |seen, known| write_file(PATH, seen, hash(2), known);
        let planned = |before| Action::WriteFile { path: PATH.to_owned(), before, after: hash(2) };

        assert_eq!(write(Some(hash(1)), Known::Holds(hash(1))), Ok(planned(Some(hash(1)))));
        assert_eq!(write(None, Known::Absent), Ok(planned(None)));
        let (path, found) = (PATH.to_owned(), Some(hash(3)));
        let altered = Unwritable::Altered { path, seen: Some(hash(1)), found };
        assert_eq!(write(Some(hash(1)), Known::Holds(hash(3))), Err(altered));
        for (seen, known) in [(None, Known::Holds(hash(1))), (Some(hash(1)), Known::Absent)] {
            let refused = write(seen, known).unwrap_err();
            assert!(matches!(refused, Unwritable::Altered { .. }), "{refused}");
        }
        // Whoever did so did what was wanted.
        let already = write(Some(hash(1)), Known::Holds(hash(2))).unwrap_err();
        assert!(matches!(already, Unwritable::Already { .. }), "{already}");
    }

    #[test]
    fn a_content_is_one_that_is_told_whole() {
        let check = |path: &str, content: &[u8], keeps| check_content(path, content, keeps);
        assert_eq!(check(PATH, b"hello\n", false), Ok(()));
        let secret = b"password = Tr0ub4dor-and-three\n";
        let refused = check("/etc/app.ini", secret, false).unwrap_err();
        assert!(matches!(refused, Unwritable::Withheld { .. }), "{refused}");
        assert_eq!(check("/etc/app.ini", secret, true), Ok(()), "its original tells");
        let marked = b"password = <redacted:password:0123456789abcdef>\n";
        assert!(matches!(check(PATH, marked, true), Err(Unwritable::Marker { .. })));
        for path in ["etc/motd", "/etc/../motd", "policy:sshd", "/"] {
            assert!(matches!(check(path, b"x", true), Err(Unwritable::Path { .. })), "{path}");
        }
        let large = vec![b'x'; LARGEST_CONTENT + 1];
        assert!(matches!(check(PATH, &large, true), Err(Unwritable::TooLarge { .. })));
    }

    #[test]
    fn files_go_back_to_what_they_held_and_nothing_else_does() {
        let write = |path: &str, before: Option<u8>, after: u8| Action::WriteFile {
            path: path.to_owned(),
            before: before.map(hash),
            after: hash(after),
        };
        let probe = Action::Probe { probe: "web".to_owned() };
        let done = [write("/etc/a", Some(1), 2), write("/etc/b", Some(3), 4), probe.clone()];
        let taken = [write("/etc/b", Some(4), 3), write("/etc/a", Some(2), 1)];
        assert_eq!(back(&done), Some(taken.to_vec()));
        assert_eq!(back(&[write("/etc/a", None, 2)]), None, "no order takes a file away");
        assert_eq!(back(&[write("/etc/a", Some(1), 2), Action::Reboot]), None);
        assert_eq!(back(&[probe]), None);
    }

    #[test]
    fn what_nobody_could_verify_is_not_planned() {
        for known in [Known::Withheld, Known::NotPlain, Known::Unobserved, Known::Erased] {
            let refused = write_file(PATH, Some(hash(1)), hash(2), known).unwrap_err();
            assert!(refused.to_string().contains(PATH) && !refused.help().is_empty(), "{refused}");
        }
    }
}
