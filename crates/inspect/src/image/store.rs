//! Where an image's parts lie: a directory, or the members of a tar archive.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::ImageError;
use super::stream::{Hashed, Packing, Unpacked, allowance};
use super::tar::{Forward, MemberKind, Members};
use crate::tree::{DirectoryTree, Tree};

/// Members of an archive: layers and some descriptions.
const MAX_MEMBERS: usize = 100_000;

/// `docker save` once wrote a layer shared by two images as a link to the other.
const MAX_LINKS: usize = 8;

/// An image's parts by path.
#[derive(Debug)]
pub(super) enum Store {
    Directory(Tree<DirectoryTree>),
    Archive { file: File, members: BTreeMap<String, Place> },
}

/// Where a member lies.
#[derive(Debug, Clone)]
pub(super) enum Place {
    Content { offset: u64, size: u64 },
    Link(String),
}

/// A part, ready to be read.
pub(super) struct Part<'a> {
    pub(super) content: Box<dyn Read + 'a>,
    pub(super) size: u64,
}

impl Store {
    pub(super) fn directory(path: &Path) -> Result<Self, ImageError> {
        let tree = DirectoryTree::open(path)
            .map_err(|error| ImageError::Io { path: path.to_owned(), error })?;
        Ok(Self::Directory(Tree(tree)))
    }

    pub(super) fn archive(path: &Path) -> Result<Self, ImageError> {
        let io = |error| ImageError::Io { path: path.to_owned(), error };
        let mut file = File::open(path).map_err(io)?;
        let mut start = [0; 8];
        let count = file.read_at(&mut start, 0).map_err(io)?;
        match Packing::of(&start[..count]) {
            Packing::Plain => {}
            Packing::Other(what) => {
                let path = path.display().to_string();
                return Err(ImageError::Unsupported { path, what: what.to_owned() });
            }
            packing => file = unpacked(path, file, packing)?,
        }
        let members = members(&mut file).map_err(|error| {
            let path = path.display().to_string();
            ImageError::Damaged { path, reason: error.to_string() }
        })?;
        Ok(Self::Archive { file, members })
    }

    pub(super) fn has(&self, path: &str) -> bool {
        matches!(self.open(path), Ok(Some(_)))
    }

    /// Opens a part, `None` where there is none of that path.
    pub(super) fn open(&self, path: &str) -> Result<Option<Part<'_>>, ImageError> {
        match self {
            Self::Directory(tree) => {
                let opened = tree.open_file(path).map_err(|error| ImageError::Io {
                    path: PathBuf::from(path),
                    error: io::Error::other(error),
                })?;
                Ok(opened.map(|(file, size)| Part { content: Box::new(file), size }))
            }
            Self::Archive { file, members } => {
                let mut path = normal(path.as_bytes());
                for _ in 0..MAX_LINKS {
                    match members.get(&path) {
                        None => return Ok(None),
                        Some(Place::Link(target)) => path.clone_from(target),
                        Some(&Place::Content { offset, size }) => {
                            let content = Box::new(Window { file, at: offset, end: offset + size });
                            return Ok(Some(Part { content, size }));
                        }
                    }
                }
                Err(ImageError::Damaged { path, reason: "its links form a loop".to_owned() })
            }
        }
    }

    /// The whole of a small part.
    pub(super) fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some(part) = self.open(path)? else { return Ok(None) };
        if part.size > limit {
            let reason = format!("it has {} bytes, more than {limit}", part.size);
            return Err(ImageError::Damaged { path: path.to_owned(), reason });
        }
        let mut content = Vec::new();
        part.content
            .take(limit)
            .read_to_end(&mut content)
            .map_err(|error| ImageError::Io { path: PathBuf::from(path), error })?;
        Ok(Some(content))
    }
}

/// Unpacks a compressed archive to a file without a name: parts are needed in another order
/// than they lie in it.
fn unpacked(path: &Path, file: File, packing: Packing) -> Result<File, ImageError> {
    let io = |error| ImageError::Io { path: path.to_owned(), error };
    let mut plain = tempfile::tempfile().map_err(io)?;
    let hashed = Hashed::new(file);
    let packed = hashed.count();
    let mut stream = Unpacked::new(hashed, packing, packed.clone()).map_err(io)?;
    io::copy(&mut stream, &mut plain).map_err(|error| match error.kind() {
        io::ErrorKind::QuotaExceeded => ImageError::Bomb {
            path: path.display().to_string(),
            packed: packed.get(),
            limit: allowance(packed.get()),
        },
        _ => io(error),
    })?;
    Ok(plain)
}

fn members(file: &mut File) -> io::Result<BTreeMap<String, Place>> {
    file.seek(SeekFrom::Start(0))?;
    let end = file.metadata()?.len();
    let mut members = Members::new(Seeking(BufReader::new(&*file)));
    let mut places = BTreeMap::new();
    while let Some(member) = members.next()? {
        let place = match member.kind {
            MemberKind::File => {
                let (offset, size) = (member.offset, member.size);
                if offset.checked_add(size).is_none_or(|content_end| content_end > end) {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Place::Content { offset, size }
            }
            MemberKind::HardLink => Place::Link(normal(&member.link)),
            MemberKind::Link => {
                let beside = member.path.rsplitn(2, |&byte| byte == b'/').nth(1).unwrap_or(b"");
                Place::Link(normal(&[beside, b"/", &member.link].concat()))
            }
            MemberKind::Directory | MemberKind::Other => continue,
        };
        places.insert(normal(&member.path), place);
        if places.len() > MAX_MEMBERS {
            let reason = format!("the archive has more than {MAX_MEMBERS} members");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
    }
    Ok(places)
}

/// `./a//b/../c` → `a/c`; never above the top.
fn normal(path: &[u8]) -> String {
    let mut components: Vec<String> = Vec::new();
    for component in path.split(|&byte| byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => {
                components.pop();
            }
            name => components.push(String::from_utf8_lossy(name).into_owned()),
        }
    }
    components.join("/")
}

/// Skips by seeking.
struct Seeking<'a>(BufReader<&'a File>);

impl Read for Seeking<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Forward for Seeking<'_> {
    fn skip(&mut self, count: u64) -> io::Result<()> {
        let count = i64::try_from(count).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        self.0.seek_relative(count)
    }
}

/// Part of a file, independent of where others read in it.
struct Window<'a> {
    file: &'a File,
    at: u64,
    end: u64,
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX);
        let length = left.min(buffer.len());
        let count = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_never_climb_above_the_top() {
        assert_eq!(normal(b"./a//b/../c"), "a/c");
        assert_eq!(normal(b"../../x"), "x");
        assert_eq!(normal(b"/"), "");
    }
}
