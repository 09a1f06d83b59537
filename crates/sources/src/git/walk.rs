//! From one commit to another: which commits lie between, and what each altered.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use domain::configuration::secret::{FingerprintKey, LARGEST, Withheld};
use domain::source::SourceSettings;
use jiff::Timestamp;

use super::Movement;
use super::objects::{Commit, Entry, Kept, Objects, Person};
use super::pack::ObjectId;
use crate::document::{Document, LINK, READABLE};
use crate::error::SourceError;

/// Most files of a commit that are told.
const MOST_FILES: usize = 10_000;

/// Most names that are met in the directories of a commit.
const MOST_NAMES: usize = 1_000_000;

/// How deep directories lie within each other at most.
const DEEPEST: usize = 64;

/// Most bytes of what is told of a commit.
const MOST_BYTES: usize = 64 << 20;

/// Longest path from the root, in bytes.
const LONGEST_PATH: usize = 3000;

/// Most commits that are looked for a way.
const MOST_COMMITS: usize = 200_000;

/// Most commits that are told of one look; the rest is told of the next one.
const MOST_STEPS: usize = 256;

/// What is said to people of one commit, in lines.
const MOST_NOTES: usize = 20;

/// An executable file.
const EXECUTABLE: u32 = 0o100_755;

/// What a commit made of the files that are wanted.
#[derive(Debug)]
pub struct Step {
    /// Its name.
    pub commit: String,
    /// Who wrote it, and who committed it where that is somebody else: by their own word.
    pub who: String,
    /// The mail address of whoever committed it, by their own word.
    pub committer: String,
    /// When it was committed, by the committer's clock.
    pub at: Option<Timestamp>,
    /// Whether these are all files, and not those alone that the commit altered.
    pub is_whole: bool,
    /// Files that are there.
    pub documents: Vec<Document>,
    /// Files that are there no more, by their paths.
    pub gone: Vec<String>,
    /// What is not told of it, in words.
    pub notes: Vec<String>,
}

/// The commits that are to be told, the oldest first.
pub struct Walk {
    objects: Objects,
    settings: SourceSettings,
    key: FingerprintKey,
    /// What the first of them is compared with; none where all of it is told.
    before: Option<ObjectId>,
    steps: VecDeque<ObjectId>,
    tip: ObjectId,
    has_more: bool,
}

impl std::fmt::Debug for Walk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Walk({} commits to {})", self.steps.len(), self.tip)
    }
}

/// A way, and what it says of the reference.
pub(crate) struct Found {
    pub(crate) movement: Movement,
    pub(crate) walk: Walk,
}

/// A file in a tree.
type File = (Kept, ObjectId);

impl Walk {
    /// The way from what is known to the tip. `cut` are commits whose parents were not sent.
    pub(crate) fn find(
        objects: Objects,
        target: ObjectId,
        known: Option<ObjectId>,
        cut: &[ObjectId],
        (settings, key): (SourceSettings, FingerprintKey),
    ) -> Result<Found, SourceError> {
        let tip = objects.peel(target)?;
        let way = match known {
            None => past(&objects, tip, past_of(&settings))?,
            Some(known) => way(&objects, known, tip, cut)?,
        };
        let before = known.filter(|_| way.movement == Movement::Followed);
        let mut steps = VecDeque::from(way.steps);
        let has_more = known.is_some() && steps.len() > MOST_STEPS;
        if has_more {
            steps.truncate(MOST_STEPS);
        }
        let walk = Self { objects, settings, key, before, steps, tip, has_more };
        Ok(Found { movement: way.movement, walk })
    }

    pub(crate) const fn tip(&self) -> ObjectId {
        self.tip
    }

    /// Whether more commits are to be told than these: look again soon.
    pub const fn has_more(&self) -> bool {
        self.has_more
    }

    /// What the next commit made of the files; none after the last. Reads and computes: not for a thread that answers
    /// requests.
    ///
    /// # Errors
    /// [`SourceError`]
    pub fn step(&mut self) -> Result<Option<Step>, SourceError> {
        let Some(id) = self.steps.pop_front() else { return Ok(None) };
        let missing = || SourceError::malformed(format!("the commit {id} was not sent"));
        let commit = self.objects.commit(id)?.ok_or_else(missing)?;
        let mut told = Told::default();
        let before = match self.before {
            Some(before) => self.objects.commit(before)?.map(|it| it.tree),
            None => None,
        };
        self.compare(before, Some(commit.tree), "", &mut told)?;
        let is_whole = before.is_none();
        let documents = self.documents(&told)?;
        self.before = Some(id);
        let Told { gone, notes, .. } = told;
        Ok(Some(Step {
            commit: id.to_string(),
            who: who(&commit),
            committer: commit.committer.mail.clone(),
            at: commit.committer.at,
            is_whole,
            documents,
            gone: gone.into_iter().collect(),
            notes,
        }))
    }

    /// What differs between two directories.
    fn compare(
        &self,
        before: Option<ObjectId>,
        after: Option<ObjectId>,
        path: &str,
        told: &mut Told,
    ) -> Result<(), SourceError> {
        if before == after {
            return Ok(());
        }
        if path.matches('/').count() > DEEPEST {
            return Err(SourceError::TooMany {
                most: DEEPEST,
                of: "directories within each other",
            });
        }
        let before = self.names(before, path, &mut Told::default())?;
        let after = self.names(after, path, told)?;
        told.met += before.len() + after.len();
        if told.met > MOST_NAMES {
            return Err(SourceError::TooMany { most: MOST_NAMES, of: "names" });
        }
        let all: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in all {
            let (was, is) = (before.get(name), after.get(name));
            if was == is {
                continue;
            }
            let path = format!("{path}/{name}");
            let tree = |it: Option<&File>| {
                it.and_then(|(kept, id)| (*kept == Kept::Directory).then_some(*id))
            };
            let file = |it: Option<&File>| {
                it.copied().filter(|(kept, _)| matches!(kept, Kept::File { .. } | Kept::Link))
            };
            if (tree(was).is_some() || tree(is).is_some()) && self.settings.reaches(&path) {
                self.compare(tree(was), tree(is), &path, told)?;
            }
            if !self.settings.wants(&path) {
                continue;
            }
            if let Some((Kept::Submodule, at)) = is {
                told.note(format!("`{path}` is another repository, at {at}: not fetched"));
            }
            match (file(was), file(is)) {
                (_, Some(file)) => {
                    told.there.insert(path, file);
                }
                (Some(_), None) => {
                    told.gone.insert(path);
                }
                (None, None) => {}
            }
            if told.there.len() + told.gone.len() > MOST_FILES {
                return Err(SourceError::TooMany { most: MOST_FILES, of: "files: say which" });
            }
        }
        Ok(())
    }

    /// The names of a directory that can be told.
    fn names(
        &self,
        tree: Option<ObjectId>,
        path: &str,
        told: &mut Told,
    ) -> Result<BTreeMap<String, File>, SourceError> {
        let Some(tree) = tree else { return Ok(BTreeMap::new()) };
        let mut names = BTreeMap::new();
        for Entry { name, kept, id } in self.objects.tree(tree)? {
            match plain_name(&name).filter(|name| path.len() + name.len() < LONGEST_PATH) {
                Some(name) => {
                    names.insert(name.to_owned(), (kept, id));
                }
                None => told.note(format!(
                    "{:?} in `{path}/` is no name of a file: not told",
                    String::from_utf8_lossy(&name).chars().take(60).collect::<String>()
                )),
            }
        }
        Ok(names)
    }

    fn documents(&self, told: &Told) -> Result<Vec<Document>, SourceError> {
        let (mut documents, mut bytes) = (Vec::with_capacity(told.there.len()), 0);
        for (path, (kept, id)) in &told.there {
            let mode = match kept {
                Kept::Link => LINK,
                Kept::File { is_executable: true } => EXECUTABLE,
                _ => READABLE,
            };
            let document = match self.objects.blob(*id)? {
                Some(content) if *kept == Kept::Link && content.len() <= LONGEST_PATH => {
                    Document::link(path, mode, &content)
                }
                Some(content) => Document::file(path, mode, &content, &self.key),
                // Its server left it out, as it was asked to: its name stands for it.
                None => {
                    let print = self.key.of(path, id.as_bytes());
                    let text =
                        format!("<withheld:{}:over {LARGEST}:{print}>\n", Withheld::TooLarge);
                    Document::said(path, mode, text)
                }
            };
            bytes += document.text().len();
            if bytes > MOST_BYTES {
                let what = "what a commit altered";
                return Err(SourceError::TooLarge { what, most: MOST_BYTES as u64 });
            }
            documents.push(document);
        }
        Ok(documents)
    }
}

/// What differs, as it is found.
#[derive(Default)]
struct Told {
    there: BTreeMap<String, File>,
    gone: BTreeSet<String>,
    notes: Vec<String>,
    met: usize,
}

impl Told {
    fn note(&mut self, note: String) {
        if self.notes.len() < MOST_NOTES {
            self.notes.push(note);
        }
    }
}

/// A name that may stand in a path: no way up, no way around, nothing that is not seen.
fn plain_name(name: &[u8]) -> Option<&str> {
    let name = str::from_utf8(name).ok()?;
    let is_odd = name.is_empty()
        || matches!(name, "." | "..")
        || name.eq_ignore_ascii_case(".git")
        || name.contains(|it: char| it == '/' || it.is_control());
    (!is_odd).then_some(name)
}

fn who(commit: &Commit) -> String {
    let told = |it: &Person| format!("{} <{}>", it.name, it.mail);
    let (author, committer) = (told(&commit.author), told(&commit.committer));
    if author == committer { author } else { format!("{author}, committed by {committer}") }
}

/// How a reference went.
struct Way {
    movement: Movement,
    /// The commits after the known one, the oldest first.
    steps: Vec<ObjectId>,
}

/// How many commits before the tip are wanted when it is seen first.
pub(super) const fn past_of(settings: &SourceSettings) -> u16 {
    match settings {
        SourceSettings::Git { past, .. } => *past,
        SourceSettings::Http { .. } | SourceSettings::Image | SourceSettings::ImageStore { .. } => {
            0
        }
    }
}

/// The way to the tip by first parents, of so many commits before it, as far as they were sent.
fn past(objects: &Objects, tip: ObjectId, commits: u16) -> Result<Way, SourceError> {
    let (mut steps, mut at) = (vec![tip], tip);
    for _ in 0..commits {
        let parent = objects.commit(at)?.and_then(|commit| commit.parents.first().copied());
        let Some(parent) = parent.filter(|&parent| objects.has(parent)) else { break };
        steps.push(parent);
        at = parent;
    }
    steps.reverse();
    Ok(Way { movement: Movement::First, steps })
}

/// The way from a known commit to the tip: by first parents, which is how the reference itself went; where the known
/// one is not there, by the fewest commits.
fn way(
    objects: &Objects,
    known: ObjectId,
    tip: ObjectId,
    cut: &[ObjectId],
) -> Result<Way, SourceError> {
    let mut steps = vec![tip];
    let mut at = tip;
    while steps.len() < MOST_COMMITS {
        let first = objects.commit(at)?.and_then(|it| it.parents.first().copied());
        match first {
            Some(parent) if parent == known && objects.has(known) => {
                steps.reverse();
                return Ok(Way { movement: Movement::Followed, steps });
            }
            Some(parent) if objects.has(parent) => {
                steps.push(parent);
                at = parent;
            }
            _ => break,
        }
    }
    let mut child = HashMap::from([(tip, None)]);
    let mut waiting = VecDeque::from([tip]);
    while let Some(at) = waiting.pop_front() {
        let Some(commit) = objects.commit(at)? else { continue };
        for parent in commit.parents {
            if child.contains_key(&parent) || !objects.has(parent) {
                continue;
            }
            child.insert(parent, Some(at));
            if parent == known {
                return Ok(Way { movement: Movement::Followed, steps: back(&child, known) });
            }
            waiting.push_back(parent);
        }
        if child.len() > MOST_COMMITS {
            return Ok(Way { movement: Movement::Beyond, steps: vec![tip] });
        }
    }
    // All of its history is here and the known one is not in it; or a part was not sent.
    let is_cut = cut.iter().any(|id| child.contains_key(id));
    let movement = if is_cut { Movement::Beyond } else { Movement::Rewritten };
    Ok(Way { movement, steps: vec![tip] })
}

fn back(child: &HashMap<ObjectId, Option<ObjectId>>, known: ObjectId) -> Vec<ObjectId> {
    let mut steps = Vec::new();
    let mut at = known;
    while let Some(Some(next)) = child.get(&at) {
        steps.push(*next);
        at = *next;
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_elsewhere_are_none() {
        for name in ["a.ini", ".gitignore", "...", "süd", "a b"] {
            assert_eq!(plain_name(name.as_bytes()), Some(name));
        }
        for name in [&b""[..], b".", b"..", b".git", b".GIT", b"a/b", b"a\nb", b"\x1b[31m", b"\xff"]
        {
            assert_eq!(plain_name(name), None, "{name:?}");
        }
    }
}
