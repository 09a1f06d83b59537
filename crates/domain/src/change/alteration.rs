//! What an alteration makes of a file, held against what is known of the file.

use super::digest::FileHash;
use super::file::{Access, Account, FileChange, FileState, Intended, Mode};
use super::plan::{Action, check_path};
use crate::configuration::secret::{FingerprintKey, Redaction, is_partial, redact};
use crate::order::LARGEST_CONTENT;

/// Most files that a change alters.
pub const MOST_FILES: u16 = 500;

/// What is known of a file, by what its host told last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It is not there, or it is, and this is it.
    Is(Intended),
    /// It is there, and not all of it is told: something in it is secret.
    Withheld,
    /// It is there, and is no file: a link, a directory.
    NotPlain,
    /// Nothing is told of what lies in its place.
    Unobserved,
    /// It was erased what it held.
    Erased,
}

/// What is wanted of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// That it is not there.
    Absent,
    /// That it has this content.
    Content {
        /// Of the content.
        sha256: FileHash,
        /// And is theirs.
        access: Named,
    },
}

/// What is said of whose a file is to be. What is not said stays as it is; of a new file it is as [`Access::usual`] has
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Permissions.
    pub mode: Option<Mode>,
    /// The account.
    pub owner: Option<Account>,
    /// The group.
    pub group: Option<Account>,
}

impl Named {
    /// Everything.
    pub fn all(access: Access) -> Self {
        let Access { mode, owner, group } = access;
        Self { mode: Some(mode), owner: Some(owner), group: Some(group) }
    }

    /// Whether anything is said.
    pub fn is_silent(&self) -> bool {
        *self == Self::default()
    }

    fn over(self, was: Access) -> Access {
        Access {
            mode: self.mode.unwrap_or(was.mode),
            owner: self.owner.unwrap_or(was.owner),
            group: self.group.unwrap_or(was.group),
        }
    }
}

/// Why a plan does not write a file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// It is another one than when its new content was proposed.
    #[error("`{path}` was altered since that was proposed: it {}, and not {}", said(.found), said(.seen))]
    Altered {
        /// Which file.
        path: String,
        /// What it was then.
        seen: Box<Intended>,
        /// What it is now.
        found: Box<Intended>,
    },
    /// There is nothing to do.
    #[error("`{path}` is as proposed already")]
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
    /// It has no content that could stay.
    #[error("`{path}` is not there, and it is not said what it is to hold")]
    NotThere {
        /// Which file.
        path: String,
    },
    /// It could not be given back whole.
    #[error("nothing is told of whose `{path}` is, so it could not be given back whole")]
    Unowned {
        /// Which file.
        path: String,
    },
    /// Whoever runs it would have rights of its owner or group.
    #[error(
        "`{path}` would let whoever runs it have rights of its owner or group, which it did not before"
    )]
    Rights {
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
            Self::NotThere { .. } => "say its content",
            Self::Unowned { .. } => "wait until an agent tells it",
            Self::Rights { .. } => {
                "have it brought by a package, or leave setuid and setgid out of its mode"
            }
            Self::Erased { .. } => "wait for what its agent tells next",
            Self::Path { .. } => "name the file from the root on, without `.` and `..`",
            Self::TooLarge { .. } => "have it brought by a package",
            Self::Marker { .. } => "give the whole content: `patchwright config original` tells it",
        }
    }
}

fn said(what: &Intended) -> String {
    match what {
        Intended::Absent => "is not there".to_owned(),
        Intended::Content { .. } => format!("is {what}"),
    }
}

/// What a file is and what it is to be, of what is wanted of it, where a plan may say so.
///
/// # Errors
/// If no plan may, or nobody could see whether it was done.
pub fn propose(
    path: &str,
    wanted: Wanted,
    known: &Known,
) -> Result<(Intended, Intended), Unwritable> {
    let found = holds(path, known)?;
    let after = match wanted {
        Wanted::Absent => Intended::Absent,
        Wanted::Content { sha256, access } => {
            let access = match (&found, access.is_silent()) {
                (Intended::Absent, _) => Some(access.over(Access::usual())),
                (Intended::Content { .. }, true) => None,
                (Intended::Content { access: was, .. }, false) => {
                    let was =
                        was.clone().ok_or_else(|| Unwritable::Unowned { path: path.into() })?;
                    // What is so already stays as it is.
                    Some(access.over(was.clone())).filter(|access| *access != was)
                }
            };
            Intended::Content { sha256, access }
        }
    };
    match between(path, &found, &after) {
        // What is so already is left out of the plan, with others or by itself.
        Ok(_) | Err(Unwritable::Already { .. }) => Ok((found, after)),
        Err(because) => Err(because),
    }
}

/// What a plan makes of a file. `seen` is what it was when that was proposed: an agent goes from exactly the one to
/// exactly the other, and people agreed to both.
///
/// # Errors
/// As [`Unwritable`].
pub fn alter_file(
    path: &str,
    seen: &Intended,
    after: &Intended,
    known: &Known,
) -> Result<Action, Unwritable> {
    let found = holds(path, known)?;
    let change = between(path, &found, after)?;
    // Where the content alone is written, whose it is stays as it is, whoever altered that meanwhile.
    let is_seen = match change {
        FileChange::Rewrite { .. } => found.sha256() == seen.sha256(),
        _ => seen.is(&found),
    };
    if !is_seen {
        let (seen, found) = (Box::new(seen.clone()), Box::new(found));
        return Err(Unwritable::Altered { path: path.to_owned(), seen, found });
    }
    Ok(Action::AlterFile { path: path.to_owned(), change })
}

fn between(path: &str, found: &Intended, after: &Intended) -> Result<FileChange, Unwritable> {
    let path = || path.to_owned();
    let whole = |sha256: FileHash, access: Option<&Access>| match access {
        Some(access) => Ok(FileState { sha256, access: access.clone() }),
        None => Err(Unwritable::Unowned { path: path() }),
    };
    if after.is(found) {
        return Err(Unwritable::Already { path: path() });
    }
    let change = match (found, after) {
        (Intended::Absent, Intended::Absent) => return Err(Unwritable::Already { path: path() }),
        (Intended::Absent, Intended::Content { sha256, access }) => {
            let access = access.clone().unwrap_or_else(Access::usual);
            FileChange::Create { after: FileState { sha256: *sha256, access } }
        }
        (Intended::Content { sha256, access }, Intended::Absent) => {
            FileChange::Remove { before: whole(*sha256, access.as_ref())? }
        }
        (
            Intended::Content { sha256: before, .. },
            Intended::Content { sha256: after, access: None },
        ) => FileChange::Rewrite { before: *before, after: *after },
        (
            Intended::Content { sha256: before, access: was },
            Intended::Content { sha256: after, access },
        ) => FileChange::Replace {
            before: whole(*before, was.as_ref())?,
            after: whole(*after, access.as_ref())?,
        },
    };
    if change.gives_rights() {
        return Err(Unwritable::Rights { path: path() });
    }
    Ok(change)
}

/// Whether a name is one of a file that an order may alter.
///
/// # Errors
/// If not.
pub fn check_name(path: &str) -> Result<(), Unwritable> {
    check_path(path).map_err(|_| Unwritable::Path { path: path.chars().take(256).collect() })
}

/// Whether somebody could see that a file has a content: all of it is told, or its original is kept.
///
/// # Errors
/// If not, or if no order carries it.
pub fn check_content(path: &str, content: &[u8], keeps_original: bool) -> Result<(), Unwritable> {
    let (given, size) = (|| path.chars().take(256).collect::<String>(), content.len());
    check_name(path)?;
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

/// What takes files back to what they were, the last one first; `None` where something else than files was altered.
pub fn back(actions: &[Action]) -> Option<Vec<Action>> {
    let mut back = Vec::with_capacity(actions.len());
    for action in actions.iter().rev() {
        match action {
            Action::AlterFile { path, change } => {
                back.push(Action::AlterFile { path: path.clone(), change: change.back() });
            }
            Action::Probe { .. } => {}
            Action::Upgrade { .. } | Action::RestartUnit { .. } | Action::Reboot => return None,
        }
    }
    (!back.is_empty()).then_some(back)
}

/// What a file is known to be, where an order could make something else of it.
///
/// # Errors
/// Where none could, or nobody could see it.
pub fn holds(path: &str, known: &Known) -> Result<Intended, Unwritable> {
    let path = || path.to_owned();
    match known {
        Known::Is(what) => Ok(what.clone()),
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

    fn access(mode: u32, owner: &str) -> Access {
        Access::recorded(mode, owner).unwrap()
    }

    /// A file that is told with whose it is.
    fn is(byte: u8, access: &Access) -> Intended {
        Intended::Content { sha256: hash(byte), access: Some(access.clone()) }
    }

    fn state(byte: u8, access: &Access) -> FileState {
        FileState { sha256: hash(byte), access: access.clone() }
    }

    fn content(byte: u8) -> Intended {
        Intended::Content { sha256: hash(byte), access: None }
    }

    #[test]
    fn a_file_is_altered_from_what_was_seen_to_what_was_proposed() {
        let alter = |seen: &Intended, after: &Intended, known: &Intended| {
            alter_file(PATH, seen, after, &Known::Is(known.clone()))
        };
        let planned = |change| Ok(Action::AlterFile { path: PATH.to_owned(), change });
        let (usual, private) = (Access::usual(), access(0o600, "root:adm"));
        let (one, two) = (is(1, &private), is(2, &private));

        let rewritten = FileChange::Rewrite { before: hash(1), after: hash(2) };
        assert_eq!(alter(&one, &content(2), &one), planned(rewritten.clone()));
        assert_eq!(
            alter(&content(1), &content(2), &one),
            planned(rewritten.clone()),
            "as it was kept once"
        );
        assert_eq!(
            alter(&is(1, &usual), &content(2), &one),
            planned(rewritten),
            "whose it is stays"
        );
        let created = FileChange::Create { after: state(2, &private) };
        assert_eq!(alter(&Intended::Absent, &two, &Intended::Absent), planned(created));
        let created = FileChange::Create { after: state(2, &usual) };
        assert_eq!(alter(&Intended::Absent, &content(2), &Intended::Absent), planned(created));
        let removed = FileChange::Remove { before: state(1, &private) };
        assert_eq!(alter(&one, &Intended::Absent, &one), planned(removed));
        let replaced = FileChange::Replace { before: state(1, &private), after: state(1, &usual) };
        assert_eq!(alter(&one, &is(1, &usual), &one), planned(replaced));

        // Whoever did so did what was wanted.
        for (after, known) in
            [(content(2), &two), (two.clone(), &two), (Intended::Absent, &Intended::Absent)]
        {
            let already = alter(&one, &after, known).unwrap_err();
            assert!(matches!(already, Unwritable::Already { .. }), "{already}");
        }
        // People looked at another file, or at another's.
        for (seen, after, known) in [
            (&one, content(2), is(3, &private)),
            (&Intended::Absent, content(2), one.clone()),
            (&one, content(2), Intended::Absent),
            (&one, Intended::Absent, is(1, &usual)),
            (&one, is(1, &access(0o640, "root:adm")), is(1, &usual)),
        ] {
            let refused = alter(seen, &after, &known).unwrap_err();
            assert!(matches!(refused, Unwritable::Altered { .. }), "{refused}");
        }
    }

    #[test]
    fn what_is_not_said_of_a_file_stays_as_it_is() {
        let private = access(0o600, "root:adm");
        let wants = |known: &Intended, access: Named| {
            let wanted = Wanted::Content { sha256: hash(2), access };
            Ok::<_, Unwritable>(propose(PATH, wanted, &Known::Is(known.clone()))?.1)
        };
        let named = |mode: Option<&str>, owner: Option<&str>| Named {
            mode: mode.map(|it| it.parse().unwrap()),
            owner: owner.map(|it| it.parse().unwrap()),
            group: None,
        };
        let one = is(1, &private);
        assert_eq!(wants(&one, named(None, None)), Ok(content(2)));
        assert_eq!(wants(&one, named(Some("0640"), None)), Ok(is(2, &access(0o640, "root:adm"))));
        assert_eq!(wants(&one, named(None, Some("www"))), Ok(is(2, &access(0o600, "www:adm"))));
        assert_eq!(wants(&one, Named::all(private.clone())), Ok(content(2)), "so it is already");
        let new = Intended::Absent;
        assert_eq!(wants(&new, named(None, None)), Ok(is(2, &Access::usual())));
        assert_eq!(wants(&new, named(Some("0600"), None)), Ok(is(2, &access(0o600, "root:root"))));

        let rights = wants(&one, named(Some("4755"), None)).unwrap_err();
        assert!(matches!(rights, Unwritable::Rights { .. }), "{rights}");
        let unowned = wants(&content(1), named(Some("0640"), None)).unwrap_err();
        assert!(matches!(unowned, Unwritable::Unowned { .. }), "{unowned}");
        let unowned = propose(PATH, Wanted::Absent, &Known::Is(content(1))).unwrap_err();
        assert!(matches!(unowned, Unwritable::Unowned { .. }), "{unowned}");
        let removed = propose(PATH, Wanted::Absent, &Known::Is(one.clone()));
        assert_eq!(removed, Ok((one, Intended::Absent)));
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
    fn files_go_back_to_what_they_were_and_nothing_else_does() {
        let alter =
            |path: &str, change: FileChange| Action::AlterFile { path: path.to_owned(), change };
        let write = |path: &str, before: u8, after: u8| {
            alter(path, FileChange::Rewrite { before: hash(before), after: hash(after) })
        };
        let probe = Action::Probe { probe: "web".to_owned() };
        let new = state(2, &access(0o600, "root:adm"));
        let (created, removed) =
            (FileChange::Create { after: new.clone() }, FileChange::Remove { before: new.clone() });
        let done = [write("/etc/a", 1, 2), alter("/etc/b", created.clone()), probe.clone()];
        let taken = [alter("/etc/b", removed.clone()), write("/etc/a", 2, 1)];
        assert_eq!(back(&done), Some(taken.to_vec()));
        assert_eq!(back(&[alter("/etc/a", removed)]), Some(vec![alter("/etc/a", created)]));
        assert_eq!(back(&[write("/etc/a", 1, 2), Action::Reboot]), None);
        assert_eq!(back(&[probe]), None);
    }

    #[test]
    fn what_nobody_could_verify_is_not_planned() {
        for known in [Known::Withheld, Known::NotPlain, Known::Unobserved, Known::Erased] {
            let refused = alter_file(PATH, &content(1), &content(2), &known).unwrap_err();
            assert!(refused.to_string().contains(PATH) && !refused.help().is_empty(), "{refused}");
            for wanted in
                [Wanted::Absent, Wanted::Content { sha256: hash(2), access: Named::default() }]
            {
                assert_eq!(propose(PATH, wanted, &known), Err(refused.clone()));
            }
        }
    }
}
