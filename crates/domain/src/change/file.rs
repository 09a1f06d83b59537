//! What a plan makes of a file: from exactly what it is to exactly what it is to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::digest::{FileHash, InvalidDigest};

/// Permissions of a file, with the bits by which a program has its file's rights; written as `chmod` does: `0644`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

/// An account or a group as its host calls it, as the history records it: by its name, or by its number where it has
/// none. Number 0 is `root`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Account(String);

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Access {
    /// Permissions.
    pub mode: Mode,
    /// The account.
    pub owner: Account,
    /// The group.
    pub group: Account,
}

/// A file, as exactly as a plan can say it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileState {
    /// Of its content.
    pub sha256: FileHash,
    /// Whose it is.
    pub access: Access,
}

/// What a plan makes of a file. Each can be gone the other way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileChange {
    /// It gets another content; whose it is stays as it is.
    Rewrite {
        /// The content that it is to have before.
        before: FileHash,
        /// The content that it is to have.
        after: FileHash,
    },
    /// It is new.
    Create {
        /// What it is to be.
        after: FileState,
    },
    /// It is taken away.
    Remove {
        /// What it is to be before.
        before: FileState,
    },
    /// It gets another owner, other permissions, and perhaps another content.
    Replace {
        /// What it is to be before.
        before: FileState,
        /// What it is to be.
        after: FileState,
    },
}

/// What a file is or is to be, as far as it is said. As text: `absent`, a SHA-256, or `SHA-256 0644 root:root`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Intended {
    /// It is not there.
    Absent,
    /// It is there.
    Content {
        /// Of its content.
        sha256: FileHash,
        /// Whose it is; `None` where that is not said: it is whose it was.
        access: Option<Access>,
    },
}

/// A text that is none of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFile {
    /// No permissions.
    #[error("{given:?} is no mode of a file: four octal digits, as `0644`")]
    Mode {
        /// The text.
        given: String,
    },
    /// No account or group.
    #[error("{given:?} is no name or number of an account or group")]
    Account {
        /// The text.
        given: String,
    },
    /// No SHA-256.
    #[error(transparent)]
    Hash(#[from] InvalidDigest),
}

/// Programs run with the rights of their file's owner, or of its group.
const RIGHTS: u16 = 0o6000;

impl Mode {
    /// Permissions of a file that was not there, where nothing is said of them: as most of what lies below `/etc`.
    pub const USUAL: Self = Self(0o644);

    /// Those that `st_mode` says (inode(7)), whatever else it says.
    pub const fn of(bits: u32) -> Self {
        Self((bits & 0o7777) as u16)
    }

    /// As `chmod` takes them.
    pub const fn bits(self) -> u32 {
        self.0 as u32
    }

    const fn rights(self) -> u16 {
        self.0 & RIGHTS
    }
}

impl Account {
    /// Who may do everything.
    pub fn root() -> Self {
        Self("root".to_owned())
    }

    /// As the host calls it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Access {
    /// Of a file that was not there, where nothing is said of it: root's, 0644.
    pub fn usual() -> Self {
        Self { mode: Mode::USUAL, owner: Account::root(), group: Account::root() }
    }

    /// As the history records it: kind and permissions, and `owner:group`. `None` where it does not say whose it is.
    pub fn recorded(mode: u32, owner: &str) -> Option<Self> {
        let (owner, group) = owner.split_once(':')?;
        Some(Self { mode: Mode::of(mode), owner: owner.parse().ok()?, group: group.parse().ok()? })
    }

    /// Whether programs would run with rights of its owner or group that they did not have by `before`.
    fn gives_rights(&self, before: Option<&Self>) -> bool {
        let given = self.mode.rights();
        let had = before.is_some_and(|it| {
            (&it.owner, &it.group) == (&self.owner, &self.group) && given & !it.mode.rights() == 0
        });
        given != 0 && !had
    }
}

impl FileChange {
    /// What plans said of files before they could say whose these are: from a content, or from not being there.
    pub fn content(before: Option<FileHash>, after: FileHash) -> Self {
        match before {
            Some(before) => Self::Rewrite { before, after },
            None => Self::Create { after: FileState { sha256: after, access: Access::usual() } },
        }
    }

    /// What the file is to be before.
    pub fn before(&self) -> Intended {
        match self {
            Self::Create { .. } => Intended::Absent,
            Self::Rewrite { before, .. } => Intended::Content { sha256: *before, access: None },
            Self::Remove { before } | Self::Replace { before, .. } => before.clone().into(),
        }
    }

    /// What it is to be.
    pub fn after(&self) -> Intended {
        match self {
            Self::Remove { .. } => Intended::Absent,
            Self::Rewrite { after, .. } => Intended::Content { sha256: *after, access: None },
            Self::Create { after } | Self::Replace { after, .. } => after.clone().into(),
        }
    }

    /// The same, the other way round.
    #[must_use]
    pub fn back(&self) -> Self {
        match self.clone() {
            Self::Rewrite { before, after } => Self::Rewrite { before: after, after: before },
            Self::Create { after } => Self::Remove { before: after },
            Self::Remove { before } => Self::Create { after: before },
            Self::Replace { before, after } => Self::Replace { before: after, after: before },
        }
    }

    /// What it makes of a file that is what it is to be before.
    pub fn of(&self, found: &Intended) -> Intended {
        match (self, found) {
            (Self::Rewrite { after, .. }, Intended::Content { access, .. }) => {
                Intended::Content { sha256: *after, access: access.clone() }
            }
            _ => self.after(),
        }
    }

    /// Whether it says more of whose the file is to be than that it is as it was, or as usual.
    pub fn is_of_access(&self) -> bool {
        match self {
            Self::Create { after } => after.access != Access::usual(),
            Self::Replace { .. } => true,
            Self::Rewrite { .. } | Self::Remove { .. } => false,
        }
    }

    /// Whether programs would run with rights that they did not have (setuid, setgid). No plan says so.
    pub fn gives_rights(&self) -> bool {
        match self {
            Self::Rewrite { .. } | Self::Remove { .. } => false,
            Self::Create { after } => after.access.gives_rights(None),
            Self::Replace { before, after } => after.access.gives_rights(Some(&before.access)),
        }
    }

    /// Whether a file went back to what it was before, as far as that was altered.
    pub fn is_undone(&self, found: &Intended) -> bool {
        match self {
            Self::Create { .. } => *found == Intended::Absent,
            Self::Rewrite { before, after } => before != after && found.sha256() == Some(*before),
            Self::Replace { before, after } if before.sha256 == after.sha256 => {
                Intended::from(before.clone()).is(found)
            }
            Self::Remove { before } | Self::Replace { before, .. } => {
                found.sha256() == Some(before.sha256)
            }
        }
    }
}

impl Intended {
    /// Of the content, where there is one.
    pub const fn sha256(&self) -> Option<FileHash> {
        match self {
            Self::Absent => None,
            Self::Content { sha256, .. } => Some(*sha256),
        }
    }

    /// Whose it is, where that is said.
    pub const fn access(&self) -> Option<&Access> {
        match self {
            Self::Content { access: Some(access), .. } => Some(access),
            Self::Absent | Self::Content { access: None, .. } => None,
        }
    }

    /// Whether what is found is this, in all that this says.
    pub fn is(&self, found: &Self) -> bool {
        self.sha256() == found.sha256()
            && self.access().is_none_or(|access| found.access() == Some(access))
    }
}

impl From<FileState> for Intended {
    fn from(FileState { sha256, access }: FileState) -> Self {
        Self::Content { sha256, access: Some(access) }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:04o}", self.0))
    }
}

impl fmt::Debug for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Mode {
    type Err = InvalidFile;

    fn from_str(text: &str) -> Result<Self, InvalidFile> {
        let is_octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        let bits = u16::from_str_radix(text, 8).ok().filter(|bits| *bits <= 0o7777);
        match bits.filter(|_| is_octal && (3..=4).contains(&text.len())) {
            Some(bits) => Ok(Self(bits)),
            None => Err(InvalidFile::Mode { given: text.chars().take(64).collect() }),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Account {
    type Err = InvalidFile;

    fn from_str(text: &str) -> Result<Self, InvalidFile> {
        let wrong = || InvalidFile::Account { given: text.chars().take(64).collect() };
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && c != ':';
        // As long as agents tell names.
        if text.is_empty() || text.chars().count() > 64 || !text.chars().all(is_plain) {
            return Err(wrong());
        }
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self(text.to_owned()));
        }
        match text.parse() {
            Ok(0) => Ok(Self::root()),
            // That says "none" to the system (chown(2)).
            Ok(u32::MAX) | Err(_) => Err(wrong()),
            Ok(number) => Ok(Self(number.to_string())),
        }
    }
}

impl TryFrom<String> for Account {
    type Error = InvalidFile;

    fn try_from(text: String) -> Result<Self, InvalidFile> {
        text.parse()
    }
}

impl From<Account> for String {
    fn from(Account(name): Account) -> Self {
        name
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}:{}", self.mode, self.owner, self.group)
    }
}

impl fmt::Display for Intended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absent => f.write_str("absent"),
            Self::Content { sha256, access: None } => write!(f, "{sha256}"),
            Self::Content { sha256, access: Some(access) } => write!(f, "{sha256} {access}"),
        }
    }
}

impl Serialize for Intended {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for Intended {
    type Err = InvalidFile;

    fn from_str(text: &str) -> Result<Self, InvalidFile> {
        if text == "absent" {
            return Ok(Self::Absent);
        }
        let Some((sha256, access)) = text.split_once(' ') else {
            return Ok(Self::Content { sha256: text.parse()?, access: None });
        };
        let (mode, owner) = access.split_once(' ').unwrap_or((access, ""));
        let (owner, group) = owner.split_once(':').unwrap_or((owner, ""));
        let (mode, owner, group) = (mode.parse()?, owner.parse()?, group.parse()?);
        Ok(Self::Content { sha256: sha256.parse()?, access: Some(Access { mode, owner, group }) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn access() -> impl Strategy<Value = Access> {
        let account = || prop_oneof![Just("root"), Just("www-data"), Just("1000"), Just("0")];
        (0_u32..0o10000, account(), account()).prop_map(|(mode, owner, group)| Access {
            mode: Mode::of(mode),
            owner: owner.parse().unwrap(),
            group: group.parse().unwrap(),
        })
    }

    fn state() -> impl Strategy<Value = FileState> {
        (0_u8..3, access())
            .prop_map(|(byte, access)| FileState { sha256: [byte; 32].into(), access })
    }

    fn change() -> impl Strategy<Value = FileChange> {
        let hash = || (0_u8..3).prop_map(|byte| FileHash::from([byte; 32]));
        prop_oneof![
            (hash(), hash()).prop_map(|(before, after)| FileChange::Rewrite { before, after }),
            state().prop_map(|after| FileChange::Create { after }),
            state().prop_map(|before| FileChange::Remove { before }),
            (state(), state()).prop_map(|(before, after)| FileChange::Replace { before, after }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_gone_both_ways_is_where_it_was(change in change()) {
            prop_assert_eq!(change.back().back(), change.clone());
            prop_assert_eq!(change.back().before(), change.after());
            prop_assert_eq!(change.back().after(), change.before());
            // Of two directions one gives rights that the other takes, or neither does.
            let is_moved = matches!(&change, FileChange::Replace { before, after }
                if (&before.access.owner, &before.access.group) != (&after.access.owner, &after.access.group)
                    || before.access.mode.rights() != after.access.mode.rights());
            if change.gives_rights() && change.back().gives_rights() {
                prop_assert!(is_moved);
            }
        }

        #[test]
        fn what_is_said_of_a_file_reads_back(change in change()) {
            for said in [change.before(), change.after()] {
                prop_assert_eq!(said.to_string().parse(), Ok(said));
            }
        }
    }

    #[test]
    fn modes_and_accounts_are_read_as_the_system_writes_them() {
        for (given, is) in [("0644", "0644"), ("644", "0644"), ("4755", "4755"), ("000", "0000")] {
            assert_eq!(given.parse::<Mode>().unwrap().to_string(), is);
        }
        for given in ["", "44", "00644", "0688", "+644", "rw-r--r--", "0x1f"] {
            assert!(given.parse::<Mode>().is_err(), "{given}");
        }
        for (given, is) in
            [("root", "root"), ("0", "root"), ("033", "33"), ("www-data", "www-data")]
        {
            assert_eq!(given.parse::<Account>().unwrap().as_str(), is);
        }
        let long = "a".repeat(65);
        for given in ["", "a:b", "a b", "a\n", "4294967295", "4294967296", &long] {
            assert!(given.parse::<Account>().is_err(), "{given}");
        }
        let recorded = Access::recorded(0o100_640, "root:adm").unwrap();
        assert_eq!(recorded.to_string(), "0640 root:adm");
        for owner in ["", "root", "a b:c"] {
            assert_eq!(Access::recorded(0o100_640, owner), None, "{owner}");
        }
    }

    #[test]
    fn no_change_gives_a_file_the_rights_of_its_owner() {
        let state = |mode: u32, owner: &str| FileState {
            sha256: [1; 32].into(),
            access: Access {
                mode: Mode::of(mode),
                owner: owner.parse().unwrap(),
                group: Account::root(),
            },
        };
        let gives = |before: Option<FileState>, after: FileState| {
            match before {
                Some(before) => FileChange::Replace { before, after },
                None => FileChange::Create { after },
            }
            .gives_rights()
        };
        assert!(gives(None, state(0o4755, "root")) && gives(None, state(0o2755, "root")));
        assert!(!gives(None, state(0o1777, "root")));
        assert!(gives(Some(state(0o755, "root")), state(0o4755, "root")));
        assert!(gives(Some(state(0o2755, "root")), state(0o6755, "root")));
        assert!(!gives(Some(state(0o4755, "root")), state(0o4700, "root")), "it had it");
        assert!(gives(Some(state(0o4755, "anna")), state(0o4755, "root")), "of somebody else");
        assert!(!gives(Some(state(0o4755, "anna")), state(0o755, "root")));
        assert!(!FileChange::Remove { before: state(0o4755, "root") }.gives_rights());
    }

    #[test]
    fn a_file_is_what_is_said_of_it_and_no_more_is_asked() {
        let said = |text: &str| -> Intended { text.parse().unwrap() };
        let (a, b) = ("01".repeat(32), "02".repeat(32));
        let with = |hash: &str, access: &str| said(&format!("{hash} {access}"));
        assert!(said(&a).is(&with(&a, "0600 root:root")) && !said(&a).is(&said(&b)));
        assert!(with(&a, "0600 root:root").is(&with(&a, "0600 0:root")));
        for other in [with(&a, "0640 root:root"), with(&a, "0600 root:adm"), said(&a)] {
            assert!(!with(&a, "0600 root:root").is(&other), "{other}");
        }
        assert!(said("absent").is(&Intended::Absent) && !said("absent").is(&said(&a)));
        for wrong in
            ["", "gone", "absent 0644 root:root", &format!("{a} 0644"), &format!("{a} 0644 root")]
        {
            assert!(wrong.parse::<Intended>().is_err(), "{wrong}");
        }
    }
}
