//! Walking a path inside a root, one component at a time.
//!
//! The root is the ceiling: `..` at the root stays there, and the absolute target of a link
//! starts at the root again. There is no string that leads out.

use domain::files::FileError;

use super::{Child, NodeError, Nodes};

/// Links followed in one walk, as many as Linux follows.
const MAX_LINKS: usize = 40;

/// Components walked for one path, links' targets included.
const MAX_STEPS: usize = 4096;

/// Longest link target followed; `PATH_MAX` of Linux.
const MAX_TARGET: usize = 4096;

/// The directories from the root to the present one, so that `..` needs no question asked.
#[derive(Debug, Clone)]
pub(crate) struct Trail<D> {
    root: D,
    below: Vec<D>,
}

impl<D> Trail<D> {
    pub(crate) fn last(&self) -> &D {
        self.below.last().unwrap_or(&self.root)
    }

    /// All of them, the root first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &D> {
        std::iter::once(&self.root).chain(&self.below)
    }
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Resolved<D, F> {
    Directory(Trail<D>),
    File(F),
    /// Device, socket or pipe.
    Other,
    /// No such name, or a link that leads nowhere.
    Nothing,
}

/// Why a walk was given up.
#[derive(Debug)]
pub(crate) enum Stop {
    LinkLoop,
    Node(NodeError),
}

impl Stop {
    pub(crate) fn at(self, path: &str) -> FileError {
        let path = path.to_owned();
        match self {
            Self::LinkLoop => FileError::LinkLoop { path },
            Self::Node(NodeError::TooLarge) => {
                FileError::Unreadable { path, reason: "it is too large".to_owned() }
            }
            Self::Node(NodeError::Failed(reason)) => FileError::Unreadable { path, reason },
        }
    }
}

/// Walks `path` from the root.
pub(crate) fn resolve<N: Nodes>(
    nodes: &N,
    path: &[u8],
) -> Result<Resolved<N::Directory, N::File>, Stop> {
    resolve_from(nodes, Trail { root: nodes.root(), below: Vec::new() }, path)
}

/// Walks `path` from the directory at the end of `trail`.
pub(crate) fn resolve_from<N: Nodes>(
    nodes: &N,
    mut trail: Trail<N::Directory>,
    path: &[u8],
) -> Result<Resolved<N::Directory, N::File>, Stop> {
    // Components still to walk, the next one last.
    let mut ahead: Vec<Vec<u8>> = Vec::new();
    push_components(&mut ahead, path);
    if path.starts_with(b"/") {
        trail.below.clear();
    }
    let (mut links, mut steps) = (0, 0);
    while let Some(name) = ahead.pop() {
        steps += 1;
        if steps > MAX_STEPS {
            return Err(Stop::LinkLoop);
        }
        match name.as_slice() {
            b"." => continue,
            b".." => {
                trail.below.pop();
                continue;
            }
            _ => {}
        }
        match nodes.child(trail.last(), &name).map_err(Stop::Node)? {
            None => return Ok(Resolved::Nothing),
            Some(Child::Directory(directory)) => trail.below.push(directory),
            Some(Child::Link(target)) => {
                links += 1;
                if links > MAX_LINKS || target.len() > MAX_TARGET {
                    return Err(Stop::LinkLoop);
                }
                if target.is_empty() {
                    return Ok(Resolved::Nothing);
                }
                if target.starts_with(b"/") {
                    trail.below.clear();
                }
                push_components(&mut ahead, &target);
            }
            // A file in the middle of a path: Linux says ENOTDIR, we say there is no such name.
            Some(Child::File(_) | Child::Other) if !ahead.is_empty() => {
                return Ok(Resolved::Nothing);
            }
            Some(Child::File(file)) => return Ok(Resolved::File(file)),
            Some(Child::Other) => return Ok(Resolved::Other),
        }
    }
    Ok(Resolved::Directory(trail))
}

fn push_components(ahead: &mut Vec<Vec<u8>>, path: &[u8]) {
    let components = path.split(|&byte| byte == b'/').filter(|component| !component.is_empty());
    ahead.extend(components.rev().map(<[u8]>::to_vec));
}
