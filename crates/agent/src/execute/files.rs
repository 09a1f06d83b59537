//! Files that an order alters: each from exactly what it is to exactly what it is to be.
//!
//! A file is reached from the root name by name, and none of the names may be a link: what the plan names
//! is what is written. The new content is whole beside the old one before it takes its place, so that a
//! file is never half of either, whenever an interruption comes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::{self, FileChange, FileHash, Intended, Mode};
use domain::order::{LARGEST_CONTENT, Refusal};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode as Bits, OFlags, RenameFlags, Stat, Timespec, Timestamps,
    Uid, XattrFlags, fchmod, fchown, fgetxattr, flistxattr, fremovexattr, fsetxattr, fstat,
    futimens, openat, renameat, renameat_with, statat, unlinkat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::interruption::may_end_here;
use crate::names::Names;

/// How the new file is called until it takes its place. One file is written at a time.
const BESIDE: &str = ".patchwright-new";

/// Largest value of an extended attribute, and largest list of their names, in bytes (`xattr(7)`).
const LARGEST_ATTRIBUTE: usize = 64 * 1024;

/// Who else may do something with a file (`acl(5)`).
const ACCESS_LIST: &str = "system.posix_acl_access";

/// Attributes that say something of the content itself: those of the old one are wrong for the new.
const OF_THE_CONTENT: [&str; 2] = ["security.evm", "security.ima"];

/// The files of a system, as far as orders may write them.
#[derive(Debug, Clone)]
pub struct HostFiles {
    root: PathBuf,
    own: Vec<PathBuf>,
}

/// A file as it was before an order altered it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// Absolute, inside of the root.
    pub path: String,
    /// `None` where there was no such file.
    pub was: Option<KeptContent>,
}

/// What a file held, and whose it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptContent {
    /// Name of the copy in the directory of the way back.
    pub copy: String,
    /// Of the content.
    pub sha256: FileHash,
    /// Who may do what with it.
    pub access: Access,
    /// When it was altered last, in seconds and nanoseconds since 1970.
    pub modified: (i64, i64),
}

/// Whose a file is, and who may do what with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// Permissions, with the bits for another owner's rights.
    pub mode: u32,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Extended attributes, access lists among them, in base64.
    pub attributes: BTreeMap<String, String>,
}

/// Why a file is not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileFault {
    /// Its name leads elsewhere, or to what is no plain file.
    #[error("`{path}` is not written: `{at}` {is}")]
    NotPlain { path: String, at: String, is: &'static str },
    /// The directory is not there.
    #[error("`{path}` is not written: `{at}` is not there")]
    NoDirectory { path: String, at: String },
    /// The agent goes by it.
    #[error("`{path}` is this agent's own, or its owner's word to it")]
    Own { path: String },
    /// It is not what it was to be.
    #[error("`{path}` {}, and not {}", is(.found), is(.expected))]
    Other { path: String, expected: Box<Intended>, found: Box<Intended> },
    /// It is to be somebody's whom the host does not have.
    #[error("`{path}` is to belong to `{account}`: {because}")]
    Account { path: String, account: change::Account, because: String },
    /// The disk failed.
    #[error("cannot use `{path}`")]
    Disk { path: String, source: io::Error },
}

impl FileFault {
    /// The refusal that it is while nothing was altered.
    pub(super) fn into_refusal(self) -> Refusal {
        match self {
            Self::NotPlain { path, at, is } => Refusal::NotPlain { path, at, is: is.to_owned() },
            Self::NoDirectory { path, at } => {
                Refusal::NotPlain { path, at, is: "is not there".to_owned() }
            }
            Self::Own { path } => Refusal::OwnFile { path },
            Self::Other { path, expected, found } => other(path, &expected, &found),
            Self::Account { path, account, because } => Refusal::Account { path, account, because },
            Self::Disk { path, source } => Refusal::NotKept { path, because: source.to_string() },
        }
    }
}

fn is(what: &Intended) -> String {
    match what {
        Intended::Absent => "is not there".to_owned(),
        Intended::Content { .. } => format!("is {what}"),
    }
}

fn other(path: String, expected: &Intended, found: &Intended) -> Refusal {
    if expected.sha256() != found.sha256() {
        return Refusal::OtherFile { path, expected: expected.sha256(), found: found.sha256() };
    }
    if let Some((expected, found)) = expected.access().zip(found.access()) {
        let (expected, found) = (Box::new(expected.clone()), Box::new(found.clone()));
        return Refusal::OtherAccess { path, expected, found };
    }
    let is = "belongs to an account whose name no plan can say".to_owned();
    Refusal::NotPlain { at: path.clone(), path, is }
}

/// A file as it is.
struct Seen {
    bytes: Vec<u8>,
    sha256: FileHash,
    access: Access,
    modified: (i64, i64),
}

/// What is about to be a file.
struct New<'a> {
    bytes: &'a [u8],
    access: &'a Access,
    /// Now, where nothing is said.
    modified: Option<(i64, i64)>,
}

impl HostFiles {
    /// Those below a root. `own` are the files and directories that the agent goes by, which no order
    /// writes, whoever signed it.
    pub fn new(root: impl Into<PathBuf>, own: Vec<PathBuf>) -> Self {
        Self { root: root.into(), own }
    }

    /// What the agent goes by, as it is called inside of the root: by the names that were given, and by
    /// those under which it really lies.
    pub(crate) fn own(&self) -> Vec<String> {
        let root = fs::canonicalize(&self.root).unwrap_or_else(|_| self.root.clone());
        let given = self.own.iter().map(|path| (path.clone(), &self.root));
        let real = self.own.iter().filter_map(|path| fs::canonicalize(path).ok());
        let inside = |(path, root): (PathBuf, &PathBuf)| {
            let below = path.strip_prefix(root).ok()?.to_str()?.to_owned();
            (!below.is_empty()).then(|| format!("/{below}"))
        };
        given.chain(real.map(|path| (path, &root))).filter_map(inside).collect()
    }

    /// Where a file lies, from outside of the root; for questions about room alone.
    pub(super) fn outside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What a file is, as the history records it, and its size.
    pub(super) fn look(&self, path: &str) -> Result<(Intended, u64), FileFault> {
        let (directory, name) = self.directory(path)?;
        let seen = self.see(&directory, path, name)?;
        let size = seen.as_ref().map_or(0, |seen| seen.bytes.len() as u64);
        Ok((as_told(seen.as_ref(), &self.names()), size))
    }

    fn names(&self) -> Names {
        Names::read(&self.root)
    }

    /// Whether the host has whom a file is to belong to.
    pub(super) fn check_accounts(&self, path: &str, change: &FileChange) -> Result<(), FileFault> {
        match change.after().access() {
            Some(access) => numbers(path, access, &self.names()).map(drop),
            None => Ok(()),
        }
    }

    /// Copies a file as it is, for the way back.
    pub(super) fn keep(
        &self,
        path: &str,
        into: &Path,
        copy: String,
    ) -> Result<KeptFile, FileFault> {
        let seen = match self.directory(path) {
            Ok((directory, name)) => self.see(&directory, path, name)?,
            // An upgrade that comes first may make it.
            Err(FileFault::NoDirectory { .. }) => None,
            Err(fault) => return Err(fault),
        };
        let Some(Seen { bytes, sha256, access, modified }) = seen else {
            return Ok(KeptFile { path: path.to_owned(), was: None });
        };
        put_apart(&into.join(&copy), &bytes).map_err(disk(path))?;
        let was = Some(KeptContent { copy, sha256, access, modified });
        Ok(KeptFile { path: path.to_owned(), was })
    }

    /// Makes of a file what an order says, from exactly what it is to be before. What is not said of whose it is stays,
    /// and so do its attributes. `bytes` is the content that it is to have, where it is to have one.
    pub(super) fn alter(
        &self,
        path: &str,
        change: &FileChange,
        bytes: &[u8],
    ) -> Result<(), FileFault> {
        let (directory, name) = self.directory(path)?;
        let (seen, names) = (self.see(&directory, path, name)?, self.names());
        let (before, after) = (change.before(), change.after());
        expect(path, &before, &as_told(seen.as_ref(), &names))?;
        if after == Intended::Absent {
            remove(&directory, name).map_err(disk(path))?;
            may_end_here();
            return sync(&directory).map_err(disk(path));
        }
        let held = seen.map(|seen| seen.access);
        let access = match (after.access(), held) {
            (None, Some(held)) => held,
            (said, held) => {
                let usual = change::Access::usual();
                let (uid, gid) = numbers(path, said.unwrap_or(&usual), &names)?;
                let mode = said.map_or(Mode::USUAL, |it| it.mode).bits();
                let attributes = held.map(|held| held.attributes).unwrap_or_default();
                Access { mode, uid, gid, attributes }
            }
        };
        let new = New { bytes, access: &access, modified: None };
        self.put(&directory, path, name, (&before, &after), &new)
    }

    /// Makes durable what a file has, where an interruption may have come right before that, and takes away
    /// what it left beside it.
    pub(super) fn settle(&self, path: &str) -> Result<(), FileFault> {
        let (directory, name) = self.directory(path)?;
        remove(&directory, BESIDE).map_err(disk(path))?;
        let synced = match openat(&directory, name, OFlags::RDONLY | SAFELY, Bits::empty()) {
            Ok(file) => File::from(file).sync_all(),
            // It was taken away.
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        };
        synced.and_then(|()| sync(&directory)).map_err(disk(path))
    }

    /// Makes a file what it was. `ours` is what the order made of it: anything else is somebody else's, and
    /// stays.
    pub(super) fn give_back(
        &self,
        kept: &KeptFile,
        from: &Path,
        ours: &BTreeSet<Option<FileHash>>,
    ) -> Result<(), FileFault> {
        let path = kept.path.as_str();
        let (directory, name) = match self.directory(path) {
            Ok(found) => found,
            Err(FileFault::NoDirectory { .. }) if kept.was.is_none() => return Ok(()),
            Err(fault) => return Err(fault),
        };
        remove(&directory, BESIDE).map_err(disk(path))?;
        let seen = self.see(&directory, path, name)?;
        let found = seen.as_ref().map(|seen| seen.sha256);
        let was = kept.was.as_ref().map(|was| was.sha256);
        if found == was {
            let is_same = |was: &KeptContent| {
                seen.is_some_and(|it| it.access == was.access && it.modified == was.modified)
            };
            if kept.was.as_ref().is_none_or(is_same) {
                return sync(&directory).map_err(disk(path));
            }
        } else if !ours.contains(&found) {
            let (expected, found) = (Box::new(content(was)), Box::new(content(found)));
            return Err(FileFault::Other { path: path.to_owned(), expected, found });
        }
        let Some(was) = &kept.was else {
            remove(&directory, name).map_err(disk(path))?;
            may_end_here();
            return sync(&directory).map_err(disk(path));
        };
        let bytes = fs::read(from.join(&was.copy)).map_err(disk(path))?;
        if sha256(&bytes) != was.sha256 {
            return Err(disk(path)(io::Error::other("the copy that was kept of it is damaged")));
        }
        let (access, modified) = (&was.access, Some(was.modified));
        let (from, to) = (content(found), content(Some(was.sha256)));
        self.put(&directory, path, name, (&from, &to), &New { bytes: &bytes, access, modified })
    }

    /// The directory that a file lies in, and its name there.
    fn directory<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), FileFault> {
        let own: Vec<_> = self.own.iter().filter_map(|it| fs::metadata(it).ok()).collect();
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = openat(CWD, &self.root, flags | OFlags::DIRECTORY, Bits::empty());
        let mut here = root.map_err(io::Error::from).map_err(disk(path))?;
        let below = path.trim_start_matches('/');
        let (directories, name) = below.rsplit_once('/').unwrap_or(("", below));
        let mut at = String::new();
        for step in directories.split('/').filter(|step| !step.is_empty()) {
            at = format!("{at}/{step}");
            let (path, at) = (path.to_owned(), at.clone());
            let next = match openat(&here, step, flags | OFlags::NOFOLLOW, Bits::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Err(FileFault::NoDirectory { path, at }),
                Err(error) => return Err(disk(&path)(error.into())),
            };
            let stat = fstat(&next).map_err(io::Error::from).map_err(disk(&path))?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => {}
                FileType::Symlink => {
                    return Err(FileFault::NotPlain { path, at, is: "is a symbolic link" });
                }
                _ => return Err(FileFault::NotPlain { path, at, is: "is no directory" }),
            }
            // Also where another name leads there, as that of a mount does.
            if own.iter().any(|own| is_of(&stat, own)) {
                return Err(FileFault::Own { path });
            }
            here = next;
        }
        Ok((here, name))
    }

    /// A file in its directory; `None` where it is not there.
    fn see(&self, directory: &OwnedFd, path: &str, name: &str) -> Result<Option<Seen>, FileFault> {
        let not_plain = |is| {
            let path = path.to_owned();
            Err(FileFault::NotPlain { at: path.clone(), path, is })
        };
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(disk(path)(error.into())),
        };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {}
            FileType::Symlink => return not_plain("is a symbolic link"),
            FileType::Directory => return not_plain("is a directory"),
            _ => return not_plain("is no file"),
        }
        let mut own = self.own.iter().filter_map(|it| fs::metadata(it).ok());
        if own.any(|own| is_of(&stat, &own)) {
            return Err(FileFault::Own { path: path.to_owned() });
        }
        if stat.st_nlink > 1 {
            return not_plain("has another name as well, which would keep the old content");
        }
        let read = || -> io::Result<(Stat, Vec<u8>, BTreeMap<String, String>)> {
            let file = openat(directory, name, OFlags::RDONLY | SAFELY, Bits::empty())?;
            let stat = fstat(&file)?;
            let attributes = attributes(&file)?;
            let mut bytes = Vec::new();
            File::from(file).take(LARGEST_CONTENT as u64 + 1).read_to_end(&mut bytes)?;
            Ok((stat, bytes, attributes))
        };
        let (stat, bytes, attributes) = read().map_err(disk(path))?;
        if bytes.len() > LARGEST_CONTENT {
            return not_plain("is larger than what an order writes or replaces");
        }
        let access =
            Access { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, attributes };
        let modified = (stat.st_mtime, stat.st_mtime_nsec.cast_signed());
        Ok(Some(Seen { sha256: sha256(&bytes), bytes, access, modified }))
    }

    /// Puts a new file into the place of what is expected there.
    fn put(
        &self,
        directory: &OwnedFd,
        path: &str,
        name: &str,
        (before, after): (&Intended, &Intended),
        new: &New<'_>,
    ) -> Result<(), FileFault> {
        let names = self.names();
        let expect = |expected: &Intended| {
            expect(path, expected, &as_told(self.see(directory, path, name)?.as_ref(), &names))
        };
        // Of an earlier try. What is put there in between, as a link, is not opened.
        remove(directory, BESIDE).map_err(disk(path))?;
        let placed = || -> Result<(), FileFault> {
            make(directory, new).map_err(disk(path))?;
            may_end_here();
            // Once more, right before it is gone.
            expect(before)?;
            let place = match before {
                Intended::Content { .. } => renameat(directory, BESIDE, directory, name),
                Intended::Absent => {
                    renameat_with(directory, BESIDE, directory, name, RenameFlags::NOREPLACE)
                }
            };
            place.map_err(io::Error::from).map_err(disk(path))
        };
        let outcome = placed();
        if outcome.is_err() {
            // What hinders that comes to light when the next file is written.
            let _ = remove(directory, BESIDE);
        }
        outcome?;
        may_end_here();
        sync(directory).map_err(disk(path))?;
        // Where others may write into the directory, another file may have been given the name.
        expect(after)
    }
}

/// A file is opened by its last name as well only where that is no link, and nothing waits for it.
const SAFELY: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// Makes the new file beside the old one, whole and durable.
fn make(directory: &OwnedFd, new: &New<'_>) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | SAFELY;
    let mut file = File::from(openat(directory, BESIDE, flags, Bits::RUSR | Bits::WUSR)?);
    may_end_here();
    let (first, rest) = new.bytes.split_at(new.bytes.len() / 2);
    file.write_all(first)?;
    may_end_here();
    file.write_all(rest)?;
    let Access { mode, uid, gid, attributes } = new.access;
    fchown(&file, Some(Uid::from_raw(*uid)), Some(Gid::from_raw(*gid)))?;
    // A list that the directory gives to whatever is new in it.
    if !attributes.contains_key(ACCESS_LIST) {
        match fremovexattr(&file, ACCESS_LIST) {
            Ok(()) | Err(Errno::NODATA | Errno::NOTSUP) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (name, value) in attributes {
        let value = BASE64_STANDARD.decode(value).map_err(io::Error::other)?;
        fsetxattr(&file, name.as_str(), &value, XattrFlags::empty())?;
    }
    // At last: a list says what the group may, too.
    fchmod(&file, Bits::from_raw_mode(*mode))?;
    if let Some((tv_sec, tv_nsec)) = new.modified {
        let last_modification = Timespec { tv_sec, tv_nsec: tv_nsec as _ };
        let last_access = last_modification;
        futimens(&file, &Timestamps { last_access, last_modification })?;
    }
    file.sync_all()
}

/// Extended attributes of what is open, access lists and labels among them, in base64.
pub(crate) fn attributes(file: &OwnedFd) -> io::Result<BTreeMap<String, String>> {
    let mut names = vec![0; LARGEST_ATTRIBUTE];
    let length = match flistxattr(file, names.as_mut_slice()) {
        Ok(length) => length,
        // The file system has none.
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.into()),
    };
    let mut attributes = BTreeMap::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = str::from_utf8(name).map_err(io::Error::other)?;
        if OF_THE_CONTENT.contains(&name) {
            continue;
        }
        let mut value = vec![0; LARGEST_ATTRIBUTE];
        let length = fgetxattr(file, name, value.as_mut_slice())?;
        attributes.insert(name.to_owned(), BASE64_STANDARD.encode(&value[..length]));
    }
    Ok(attributes)
}

/// Writes a file of the agent's own, durable and for its owner alone.
pub(super) fn put_apart(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

pub(super) fn sha256(bytes: &[u8]) -> FileHash {
    <[u8; 32]>::from(Sha256::digest(bytes)).into()
}

pub(super) fn expect(path: &str, expected: &Intended, found: &Intended) -> Result<(), FileFault> {
    if expected.is(found) {
        return Ok(());
    }
    let (expected, found) = (Box::new(expected.clone()), Box::new(found.clone()));
    Err(FileFault::Other { path: path.to_owned(), expected, found })
}

/// A file as the history records it.
fn as_told(seen: Option<&Seen>, names: &Names) -> Intended {
    let Some(Seen { sha256, access, .. }) = seen else { return Intended::Absent };
    let owner = format!("{}:{}", names.user(access.uid), names.group(access.gid));
    let access = change::Access::recorded(access.mode, &owner);
    Intended::Content { sha256: *sha256, access }
}

fn content(sha256: Option<FileHash>) -> Intended {
    sha256.map_or(Intended::Absent, |sha256| Intended::Content { sha256, access: None })
}

/// Account and group by their numbers.
fn numbers(path: &str, access: &change::Access, names: &Names) -> Result<(u32, u32), FileFault> {
    let none = |account: &change::Account| {
        let (path, account) = (path.to_owned(), account.clone());
        move |because| FileFault::Account { path, account, because }
    };
    let uid = names.uid(&access.owner).map_err(none(&access.owner))?;
    let gid = names.gid(&access.group).map_err(none(&access.group))?;
    Ok((uid, gid))
}

fn is_of(stat: &Stat, own: &fs::Metadata) -> bool {
    stat.st_dev == own.dev() && stat.st_ino == own.ino()
}

fn sync(directory: &OwnedFd) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    File::from(openat(directory, ".", flags, Bits::empty())?).sync_all()
}

fn remove(directory: &OwnedFd, name: &str) -> io::Result<()> {
    match unlinkat(directory, name, AtFlags::empty()) {
        Err(error) if error != Errno::NOENT => Err(error.into()),
        _ => Ok(()),
    }
}

fn disk(path: &str) -> impl FnOnce(io::Error) -> FileFault {
    let path = path.to_owned();
    move |source| FileFault::Disk { path, source }
}
