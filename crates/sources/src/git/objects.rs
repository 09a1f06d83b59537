//! What a pack holds: commits, trees, files.

use jiff::Timestamp;

use super::pack::{Kind, ObjectId, Pack};
use crate::document::plain;
use crate::error::SourceError;

/// Tags that may lead to each other.
const MOST_TAGS: usize = 8;

/// Most parents of a commit that are looked at.
const MOST_PARENTS: usize = 64;

/// The objects of a pack.
pub(crate) struct Objects(Pack);

/// A commit.
#[derive(Debug, Clone)]
pub(crate) struct Commit {
    pub(crate) tree: ObjectId,
    pub(crate) parents: Vec<ObjectId>,
    pub(crate) author: Person,
    pub(crate) committer: Person,
}

/// Who, by their own word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) mail: String,
    pub(crate) at: Option<Timestamp>,
}

/// What a name in a tree stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Directory,
    File {
        is_executable: bool,
    },
    Link,
    /// Another repository, at a commit of it.
    Submodule,
}

/// A name in a tree.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) kept: Kept,
    pub(crate) id: ObjectId,
}

impl Objects {
    /// Reads a pack, in which `wanted` has to be.
    pub(crate) fn of(pack: Vec<u8>, wanted: ObjectId) -> Result<Self, SourceError> {
        let pack = Pack::read(pack)?;
        if !pack.has(wanted) {
            return Err(SourceError::malformed("what was asked for is not in the pack"));
        }
        Ok(Self(pack))
    }

    pub(crate) fn has(&self, id: ObjectId) -> bool {
        self.0.has(id)
    }

    /// An object of a kind; `None` where the pack does not have it.
    fn find(&self, id: ObjectId, kind: Kind) -> Result<Option<Vec<u8>>, SourceError> {
        match self.0.find(id)? {
            Some((found, content)) if found == kind => Ok(Some(content)),
            Some((found, _)) => {
                let (found, kind) = (found.word(), kind.word());
                Err(odd(id, &format!("it is a {found} where a {kind} should be")))
            }
            None => Ok(None),
        }
    }

    /// The commit that a reference leads to, by way of tags.
    pub(crate) fn peel(&self, id: ObjectId) -> Result<ObjectId, SourceError> {
        let mut at = id;
        for _ in 0..MOST_TAGS {
            let (kind, content) = self.0.find(at)?.ok_or_else(|| odd(at, "it was not sent"))?;
            match kind {
                Kind::Commit => return Ok(at),
                Kind::Tag => {
                    let line = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
                    let target = line.strip_prefix(b"object ").and_then(ObjectId::from_hex);
                    at = target.ok_or_else(|| odd(at, "it is no tag"))?;
                }
                Kind::Tree | Kind::Blob => {
                    return Err(odd(at, "the reference leads to no commit"));
                }
            }
        }
        Err(SourceError::malformed("tags lead to tags without an end"))
    }

    /// A commit; `None` where it was not sent.
    pub(crate) fn commit(&self, id: ObjectId) -> Result<Option<Commit>, SourceError> {
        let Some(content) = self.find(id, Kind::Commit)? else { return Ok(None) };
        commit(&content).map(Some).ok_or_else(|| odd(id, "it is no commit"))
    }

    /// The names of a directory.
    pub(crate) fn tree(&self, id: ObjectId) -> Result<Vec<Entry>, SourceError> {
        let content = self.find(id, Kind::Tree)?.ok_or_else(|| odd(id, "it was not sent"))?;
        tree(&content).ok_or_else(|| odd(id, "it is no directory"))
    }

    /// What a file holds; `None` where it was left out for its size.
    pub(crate) fn blob(&self, id: ObjectId) -> Result<Option<Vec<u8>>, SourceError> {
        self.find(id, Kind::Blob)
    }
}

fn odd(id: ObjectId, reason: &str) -> SourceError {
    SourceError::malformed(format!("the object {id}: {reason}"))
}

/// A commit by the lines that it begins with; what follows on the first empty one is for people.
fn commit(content: &[u8]) -> Option<Commit> {
    let mut lines = content.split(|byte| *byte == b'\n');
    let tree = lines.next()?.strip_prefix(b"tree ").and_then(ObjectId::from_hex)?;
    let (mut parents, mut author, mut committer) = (Vec::new(), None, None);
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(parent) = line.strip_prefix(b"parent ") {
            parents.push(ObjectId::from_hex(parent)?);
        } else if let Some(line) = line.strip_prefix(b"author ") {
            author.get_or_insert_with(|| person(line));
        } else if let Some(line) = line.strip_prefix(b"committer ") {
            committer.get_or_insert_with(|| person(line));
        }
    }
    parents.truncate(MOST_PARENTS);
    Some(Commit { tree, parents, author: author?, committer: committer? })
}

/// The entries of a tree: mode, name, a NUL byte, twenty bytes.
fn tree(content: &[u8]) -> Option<Vec<Entry>> {
    let (mut entries, mut rest) = (Vec::new(), content);
    while !rest.is_empty() {
        let space = rest.iter().position(|byte| *byte == b' ')?;
        let mode = str::from_utf8(&rest[..space]).ok()?;
        let mode = u32::from_str_radix(mode, 8).ok()?;
        rest = &rest[space + 1..];
        let nul = rest.iter().position(|byte| *byte == 0)?;
        let (name, id) = (rest[..nul].to_vec(), rest.get(nul + 1..nul + 21)?);
        let id: [u8; 20] = id.try_into().ok()?;
        rest = &rest[nul + 21..];
        let kept = match mode & 0o170_000 {
            0o040_000 => Kept::Directory,
            0o120_000 => Kept::Link,
            0o160_000 => Kept::Submodule,
            0o100_000 => Kept::File { is_executable: mode & 0o111 != 0 },
            _ => return None,
        };
        entries.push(Entry { name, kept, id: ObjectId::from(id) });
    }
    Some(entries)
}

/// Who a line of a commit names, and when: `Ada <ada@acme.example> 1764547200 +0100`.
fn person(line: &[u8]) -> Person {
    let line = plain(&String::from_utf8_lossy(line));
    let (name, rest) = line.split_once('<').unwrap_or((&line, ""));
    let (mail, rest) = rest.split_once('>').unwrap_or((rest, ""));
    let seconds = rest.split_whitespace().next().and_then(|it| it.parse().ok());
    let at = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    let short = |text: &str| text.trim().chars().take(60).collect();
    Person { name: short(name), mail: short(mail), at }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "95d09f2b10159347eece71399a7e2e907ea3df4f";

    #[test]
    fn a_commit_is_read_by_its_first_lines() {
        let text = format!(
            "tree {ID}\nparent {ID}\nparent {ID}\nauthor Ada \x1b[31m<ada@acme.example> 1764547200 +0100\n\
             committer Bob <bob@acme.example> soon\ngpgsig -----BEGIN\n more\n\nauthor Eve <e> 1 +0000\n"
        );
        let read = commit(text.as_bytes()).unwrap();
        assert_eq!((read.tree.to_string().as_str(), read.parents.len()), (ID, 2));
        assert_eq!(read.author.name, "Ada \u{fffd}[31m");
        assert_eq!(read.author.at.unwrap().to_string(), "2025-12-01T00:00:00Z");
        assert_eq!((read.committer.mail.as_str(), read.committer.at), ("bob@acme.example", None));
        for wrong in ["", "tree x\n", &format!("tree {ID}\n\n"), &format!("parent {ID}\n")] {
            assert!(commit(wrong.as_bytes()).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn a_tree_is_read_whole_or_not_at_all() {
        let one = |mode: &str| [mode.as_bytes(), b" name\0", &[7; 20]].concat();
        let modes = ["40000", "100644", "100755", "120000", "160000", "100664"];
        let all: Vec<u8> = modes.iter().flat_map(|mode| one(mode)).collect();
        let kept: Vec<_> = tree(&all).unwrap().iter().map(|it| it.kept).collect();
        let file = |is_executable| Kept::File { is_executable };
        let expected =
            [Kept::Directory, file(false), file(true), Kept::Link, Kept::Submodule, file(false)];
        assert_eq!(kept, expected);
        for wrong in [&b"x"[..], b"100644 a", b"100644 a\0short", &one("20666"), &one("+1")] {
            assert!(tree(wrong).is_none(), "{wrong:?}");
        }
    }
}
