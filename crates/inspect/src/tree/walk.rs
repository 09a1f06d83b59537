//! One walk over a whole tree, without following a link.

use domain::files::FileError;

use super::{Child, MAX_ENTRIES, Nodes, Tree};

/// A hostile filesystem's directories may hold each other.
const MAX_DEPTH: usize = 256;

/// Names met in one walk. A server has 100,000.
const MAX_MET: usize = 8_000_000;

/// Bytes of all paths that wait to be walked or were met.
const MAX_PATHS: usize = 1 << 30;

/// Who may do what with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, in full.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// A name that a walk meets.
#[derive(Debug)]
pub struct Met<'a> {
    /// Where it is; names that are not UTF-8 are converted lossily.
    pub path: &'a str,
    /// What it is.
    pub kind: MetKind<'a>,
    /// Who may do what with it; `None` where the holder does not keep that.
    pub attributes: Option<Attributes>,
}

/// What a name is.
#[derive(Debug)]
pub enum MetKind<'a> {
    /// A directory; what is in it is met next.
    Directory,
    /// A regular file with its content.
    File(&'a [u8]),
    /// A link with its target.
    Link(&'a [u8]),
    /// Device, socket or pipe.
    Other,
    /// It cannot be read, or has more than the limit.
    Unread(String),
}

/// A tree that can be walked.
pub(crate) trait Walk {
    /// Meets every name but the root, directories before what is in them, each directory's names
    /// in their order. Files of more than `limit` bytes are told as unread.
    ///
    /// # Errors
    /// If there are more or deeper names than any system has.
    fn walk(&self, limit: u64, meet: &mut dyn FnMut(Met<'_>)) -> Result<(), FileError> {
        self.walk_below("", limit, meet)
    }

    /// The same of what lies below a directory, which no link leads to. Nothing is met where there is no such
    /// directory.
    fn walk_below(
        &self,
        base: &str,
        limit: u64,
        meet: &mut dyn FnMut(Met<'_>),
    ) -> Result<(), FileError>;
}

impl<N: Nodes> Walk for Tree<N> {
    fn walk_below(
        &self,
        base: &str,
        limit: u64,
        meet: &mut dyn FnMut(Met<'_>),
    ) -> Result<(), FileError> {
        let (mut count, mut told) = (0_usize, 0_usize);
        let mut top = self.0.root();
        for step in base.split('/').filter(|step| !step.is_empty()) {
            let children = self.0.children(&top, MAX_ENTRIES).map_err(|error| {
                FileError::Unreadable { path: base.to_owned(), reason: error.to_string() }
            })?;
            let found = children.into_iter().find(|(name, _)| name == step.as_bytes());
            let Some((_, Some(Child::Directory(next)))) = found else { return Ok(()) };
            top = next;
        }
        let mut waiting = vec![(base.to_owned(), top, 0_usize)];
        while let Some((path, directory, depth)) = waiting.pop() {
            let beyond = |reason: String| FileError::Unreadable { path: path.clone(), reason };
            if depth > MAX_DEPTH {
                return Err(beyond(format!("directories lie more than {MAX_DEPTH} deep")));
            }
            let mut children = match self.0.children(&directory, MAX_ENTRIES) {
                Ok(children) => children,
                Err(error) => {
                    let kind = MetKind::Unread(error.to_string());
                    meet(Met { path: &path, kind, attributes: None });
                    continue;
                }
            };
            count += children.len();
            told += children.iter().map(|(name, _)| path.len() + name.len()).sum::<usize>();
            if children.len() >= MAX_ENTRIES || count > MAX_MET || told > MAX_PATHS {
                return Err(beyond(format!("there are {count} names or more")));
            }
            children.sort_by(|(a, _), (b, _)| a.cmp(b));
            let mut below = Vec::new();
            for (name, child) in children {
                if name.contains(&b'/') || name == b"." || name == b".." {
                    continue;
                }
                let place = format!("{path}/{}", String::from_utf8_lossy(&name));
                let attributes = self.0.attributes(&directory, &name).unwrap_or_default();
                let content;
                let kind = match child {
                    Some(Child::Directory(next)) => {
                        below.push((place.clone(), next, depth + 1));
                        MetKind::Directory
                    }
                    Some(Child::File(file)) => match self.0.read(&file, limit) {
                        Ok(Some(bytes)) => {
                            content = bytes;
                            MetKind::File(&content)
                        }
                        Ok(None) => MetKind::Other,
                        Err(error) => MetKind::Unread(error.to_string()),
                    },
                    Some(Child::Link(target)) => {
                        content = target;
                        MetKind::Link(&content)
                    }
                    Some(Child::Other) => MetKind::Other,
                    None => MetKind::Unread("its inode is damaged".to_owned()),
                };
                meet(Met { path: &place, kind, attributes });
            }
            waiting.extend(below.into_iter().rev());
        }
        Ok(())
    }
}
