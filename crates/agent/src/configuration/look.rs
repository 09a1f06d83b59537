//! Looks at configuration files.
//!
//! Directories are walked name by name and no link is followed, so that what is seen under a path is what has it.
//! Everything is bounded; what lies beyond a bound is said not to have been seen.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use domain::cloud::words;
use domain::configuration::secret::{FingerprintKey, LARGEST, Redaction, Withheld, redact};
use domain::order::{ConfigurationRules, PathPattern};
use jiff::Timestamp;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::observation::{Kind, Observation, Original, Seen, Unseen};
use crate::execute::{Access, attributes};

/// Most names of a look. `/etc` of a server has some 1,500.
const MOST_FILES: usize = 50_000;

/// Most bytes of contents that a look reads.
const MOST_BYTES: u64 = 256 << 20;

/// Largest file of which even a fingerprint is made, in bytes.
const LARGEST_FINGERPRINT: u64 = 64 << 20;

/// How deep directories are walked.
const DEEPEST: usize = 64;

/// How long a file has to rest until its times alone tell that it is the same, in seconds: times of files are as
/// coarse as the kernel's ticks, and on some file systems as two seconds.
const SETTLED_SECONDS: i64 = 3;

/// How the files begin that editors keep beside one that is open: vim (`memline.c`: `BLOCK0_ID0`, `BLOCK0_ID1` and
/// its version) and nano, which writes the same (`files.c`: `write_lockfile`).
const SWAPS: [&[u8; 6]; 2] = [b"b0VIM ", b"b0nano"];

/// No name leads elsewhere, and nothing waits.
const SAFELY: OFlags =
    OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

words! {
    /// How closely is looked.
    Depth {
        /// Files whose inode, size and time of last change are as before are not read again. Whoever can set the
        /// host's clock, or write to its disk beside the kernel, can deceive it.
        Quick = "quick",
        /// Every file is read.
        Full = "full",
    }
}

/// Looks at the configuration files of a system again and again. It keeps nothing of what files hold: only what tells
/// that they are the same.
#[derive(Debug)]
pub struct Observer {
    root: PathBuf,
    rules: ConfigurationRules,
    key: FingerprintKey,
    known: BTreeMap<String, Mark>,
}

/// What tells that a file is still the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    size: i64,
    changed: (i64, u64),
}

impl Mark {
    fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// What a look finds under a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// This.
    Seen(Seen),
    /// A file that is as the look before saw it, by what a quick look goes by.
    Same,
}

/// One look.
struct Look<'a> {
    observer: &'a Observer,
    depth: Depth,
    /// Files whose last change is older than this are settled.
    settled_before: i64,
    bytes: u64,
    paths: usize,
    known: BTreeMap<String, Mark>,
    unseen: Vec<Unseen>,
    is_full: bool,
}

/// Who is told what a look finds.
type Tell<'a> = dyn FnMut(&str, Found) + 'a;

impl Observer {
    /// Of the system below a root. `key` is the item's.
    pub fn new(root: impl Into<PathBuf>, rules: ConfigurationRules, key: FingerprintKey) -> Self {
        Self { root: root.into(), rules, key, known: BTreeMap::new() }
    }

    /// Looks once, and tells path by path what it finds. `now` is the host's own clock. Gives what could not be seen.
    pub fn look(
        &mut self,
        depth: Depth,
        now: Timestamp,
        mut tell: impl FnMut(&str, Found),
    ) -> Vec<Unseen> {
        let settled_before = now.as_second() - SETTLED_SECONDS;
        let mut look = Look::new(self, depth, settled_before);
        let mut bases: Vec<_> = self.rules.watch.iter().map(PathPattern::base).collect();
        bases.sort_unstable();
        // What lies below another one is walked with it.
        bases.dedup_by(|later, first| {
            later.strip_prefix(*first).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        for base in bases {
            match look.open(base) {
                Ok(Some(directory)) => look.directory(&directory, base, 0, &mut tell),
                Ok(None) => {}
                Err(error) => look.cannot(base, error.to_string()),
            }
        }
        let Look { known, mut unseen, .. } = look;
        unseen.sort();
        self.known = known;
        unseen
    }

    /// All that there is, held at once: every file is read.
    pub fn observe(&mut self, now: Timestamp) -> Observation {
        let mut files = BTreeMap::new();
        let unseen = self.look(Depth::Full, now, |path, found| {
            // A full look reads everything.
            if let Found::Seen(seen) = found {
                files.insert(path.to_owned(), seen);
            }
        });
        Observation { files, unseen }
    }

    /// What a path has by now, which a look found before.
    pub(super) fn again(&self, path: &str) -> io::Result<Seen> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let (directory, name) = path.rsplit_once('/').ok_or_else(gone)?;
        let mut look = Look::new(self, Depth::Full, i64::MIN);
        let directory = look.open(directory)?.ok_or_else(gone)?;
        let stat = statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match look.seen(&directory, name, path, &stat)? {
            Found::Seen(seen) => Ok(seen),
            Found::Same => Err(gone()),
        }
    }
}

impl<'a> Look<'a> {
    fn new(observer: &'a Observer, depth: Depth, settled_before: i64) -> Self {
        let (known, unseen) = (BTreeMap::new(), Vec::new());
        let (bytes, paths, is_full) = (0, 0, false);
        Self { observer, depth, settled_before, bytes, paths, known, unseen, is_full }
    }

    fn cannot(&mut self, path: &str, because: impl Into<String>) {
        self.unseen.push(Unseen { path: path.to_owned(), because: because.into() });
    }

    /// A directory, reached name by name; `None` where it is not there.
    fn open(&mut self, base: &str) -> io::Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let mut here = openat(CWD, &self.observer.root, flags, Mode::empty())?;
        for name in base.split('/').filter(|name| !name.is_empty()) {
            here = match openat(&here, name, flags | OFlags::NOFOLLOW, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT) => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    return Err(io::Error::other("it is a link, or no directory"));
                }
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Some(here))
    }

    fn directory(&mut self, directory: &OwnedFd, path: &str, depth: usize, tell: &mut Tell<'_>) {
        let entries = Dir::read_from(directory).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_owned()))
                .collect::<Result<Vec<_>, _>>()
        });
        let mut names = match entries {
            Ok(names) => names,
            Err(error) => return self.cannot(path, error.to_string()),
        };
        // The order in which a disk has them is no difference.
        names.sort();
        for name in names {
            let bytes = name.to_bytes();
            if bytes == b"." || bytes == b".." {
                continue;
            }
            let Ok(name) = str::from_utf8(bytes) else {
                let lossy = format!("{path}/{}", String::from_utf8_lossy(bytes));
                if self.observer.rules.watches(&lossy) {
                    self.cannot(&lossy, "its name is no UTF-8");
                }
                continue;
            };
            if self.is_full {
                return;
            }
            self.entry(directory, name, &format!("{path}/{name}"), depth, tell);
        }
    }

    fn entry(
        &mut self,
        directory: &OwnedFd,
        name: &str,
        path: &str,
        depth: usize,
        tell: &mut Tell<'_>,
    ) {
        let is_watched = self.observer.rules.watches(path);
        let is_way = self.observer.rules.reaches(path);
        if !is_watched && !is_way {
            return;
        }
        let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            // It went while the directory was read.
            Err(Errno::NOENT) => return,
            Err(error) => return self.cannot(path, error.to_string()),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::RegularFile && is_swap(directory, name, &stat) {
            return;
        }
        if is_watched {
            if self.paths == MOST_FILES {
                self.is_full = true;
                return self
                    .cannot(path, format!("it and what follows are more than {MOST_FILES} names"));
            }
            match self.seen(directory, name, path, &stat) {
                Ok(found) => {
                    self.paths += 1;
                    tell(path, found);
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(error) => self.cannot(path, error.to_string()),
            }
        }
        if kind == FileType::Directory && is_way {
            if depth == DEEPEST {
                return self.cannot(path, format!("it lies deeper than {DEEPEST} directories"));
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | SAFELY;
            match openat(directory, name, flags, Mode::empty()) {
                Ok(inner) => self.directory(&inner, path, depth + 1, tell),
                Err(Errno::NOENT) => {}
                Err(error) => self.cannot(path, error.to_string()),
            }
        }
    }

    fn seen(
        &mut self,
        directory: &OwnedFd,
        name: &str,
        path: &str,
        stat: &Stat,
    ) -> io::Result<Found> {
        let seen = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.file(directory, name, path, stat),
            FileType::Symlink => link(directory, name, stat)?,
            FileType::Directory => Seen::new(Kind::Directory, opened(directory, name, stat)?.1),
            _ => Seen::new(Kind::Other, access(stat, BTreeMap::new())),
        };
        Ok(Found::Seen(seen))
    }

    fn file(
        &mut self,
        directory: &OwnedFd,
        name: &str,
        path: &str,
        stat: &Stat,
    ) -> io::Result<Found> {
        let mark = Mark::of(stat);
        if self.depth == Depth::Quick && self.observer.known.get(path) == Some(&mark) {
            self.known.insert(path.to_owned(), mark);
            return Ok(Found::Same);
        }
        let (file, access) = opened(directory, name, stat)?;
        let mut file = File::from(file);
        let (content, original) = self.content(path, &mut file)?;
        let after = fstat(&file)?;
        if Mark::of(&after) != mark {
            return Err(io::Error::other("it was altered while it was read"));
        }
        let seen = Seen { kind: Kind::File { content }, access, original };
        if mark.changed.0 < self.settled_before {
            self.known.insert(path.to_owned(), mark);
        }
        Ok(Found::Seen(seen))
    }

    /// What of a content may leave the host, and all of it where its owner lets it be kept.
    fn content(
        &mut self,
        path: &str,
        file: &mut File,
    ) -> io::Result<(Redaction, Option<Original>)> {
        let key = &self.observer.key;
        let mut bytes = Zeroizing::new(Vec::new());
        let mut begun = file.take(LARGEST as u64 + 1);
        begun.read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        if self.bytes > MOST_BYTES {
            self.is_full = true;
            return Err(io::Error::other(format!(
                "it and what follows are more than {MOST_BYTES} bytes"
            )));
        }
        let mut because = Withheld::Owner;
        if bytes.len() <= LARGEST {
            if !self.observer.rules.withholds(path) {
                let redaction = redact(path, &bytes, key);
                let is_whole = matches!(&redaction, Redaction::Text(it) if it.text.as_bytes() == bytes.as_slice());
                let is_kept = !is_whole && self.observer.rules.keeps_original(path);
                return Ok((redaction, is_kept.then(|| Original(bytes))));
            }
        } else if !self.observer.rules.withholds(path) {
            because = Withheld::TooLarge;
        }
        let mut size = bytes.len() as u64;
        let mut fingerprint = key.begin(path);
        fingerprint.add(&bytes);
        let file = begun.into_inner();
        let mut piece = vec![0; 64 << 10];
        loop {
            let length = file.read(&mut piece)?;
            if length == 0 {
                break;
            }
            size += length as u64;
            if size > LARGEST_FINGERPRINT {
                return Err(io::Error::other(format!(
                    "it has more than {LARGEST_FINGERPRINT} bytes"
                )));
            }
            fingerprint.add(&piece[..length]);
        }
        Ok((Redaction::Withheld { because, size, fingerprint: fingerprint.end() }, None))
    }
}

/// What has a name, opened to be read: exactly what was seen under it.
fn opened(directory: &OwnedFd, name: &str, stat: &Stat) -> io::Result<(OwnedFd, Access)> {
    let file = openat(directory, name, OFlags::RDONLY | SAFELY, Mode::empty())?;
    let found = fstat(&file)?;
    if (found.st_dev, found.st_ino) != (stat.st_dev, stat.st_ino) {
        return Err(io::Error::other("something else took its name while it was looked at"));
    }
    let access = access(&found, attributes(&file)?);
    Ok((file, access))
}

/// Whether it is there only while somebody has a file open in an editor (`.sshd_config.swp`), by its name and by how it
/// begins: under that name alone anything could be kept.
fn is_swap(directory: &OwnedFd, name: &str, stat: &Stat) -> bool {
    let of = name.strip_prefix('.').and_then(|name| name.rsplit_once(".sw"));
    if !of.is_some_and(|(of, end)| !of.is_empty() && matches!(end.as_bytes(), [b'a'..=b'p'])) {
        return false;
    }
    let Ok((file, _)) = opened(directory, name, stat) else { return false };
    let mut begin = [0; 6];
    File::from(file).read_exact(&mut begin).is_ok() && SWAPS.contains(&&begin)
}

fn link(directory: &OwnedFd, name: &str, stat: &Stat) -> io::Result<Seen> {
    let target = readlinkat(directory, name, Vec::new())?;
    let target = target.to_string_lossy().into_owned();
    Ok(Seen::new(Kind::Link { target }, access(stat, BTreeMap::new())))
}

fn access(stat: &Stat, attributes: BTreeMap<String, String>) -> Access {
    Access { mode: stat.st_mode & 0o7777, uid: stat.st_uid, gid: stat.st_gid, attributes }
}

#[cfg(test)]
mod tests;
