//! An item as it is held against a baseline: its files at a time, and what they set.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use crate::cloud::Class;
use crate::configuration::parameter::{self, Force, Format, Parameter, Unknown};
use crate::files::{Entry, EntryKind, FileError, FileView};
use crate::order::PathPattern;

/// How many links lead to a file.
const MOST_LINKS: usize = 8;

/// What the item is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Its class.
    pub class: Class,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// What is kept of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// This, without what is secret.
    Text(String),
    /// Nothing: it was withheld, could not be seen, or was erased.
    Kept {
        /// Why.
        because: String,
    },
    /// A link.
    Link(String),
    /// No file.
    Directory,
    /// Something else.
    Other,
}

/// A file of an item at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObservedFile {
    /// Kind and permissions, as `st_mode` has them.
    pub mode: u32,
    /// User and group: `root:shadow`.
    pub owner: String,
    /// What is kept of it.
    pub content: Content,
}

/// All that is known of an item's configuration at a time.
#[derive(Debug)]
pub struct Observed {
    subject: Subject,
    files: BTreeMap<String, ObservedFile>,
    /// Why nothing of it can be believed, where that is so.
    stale: Option<String>,
    settings: OnceLock<Settings>,
}

/// What files set, of all programs.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// What counts, or may.
    pub(super) parameters: Vec<Parameter>,
    /// What was not understood.
    pub(super) unknown: Vec<Unknown>,
    /// Files from which a program's reading began: of each one, a default holds where nothing is set.
    pub(super) roots: BTreeMap<String, BTreeSet<String>>,
}

impl ObservedFile {
    /// A file as history keeps it: with the marks that agents set for what they do not tell.
    pub fn new(mode: u32, owner: impl Into<String>, content: &[u8]) -> Self {
        let kept = |because: String| Content::Kept { because };
        let content = match (mode & 0o170_000, std::str::from_utf8(content)) {
            (0o040_000, _) => Content::Directory,
            (0o120_000, Ok(target)) => Content::Link(target.to_owned()),
            (_, Err(_)) => kept("it is no text".to_owned()),
            (kind, Ok(text)) => match marked(text) {
                Some(because) => kept(because),
                None if kind == 0o100_000 => Content::Text(text.to_owned()),
                None => Content::Other,
            },
        };
        Self { mode, owner: owner.into(), content }
    }

    /// A file of which it was erased what it was.
    pub fn erased() -> Self {
        let because = "it was erased what it was".to_owned();
        Self { mode: 0, owner: String::new(), content: Content::Kept { because } }
    }
}

/// Why a file's content is not told, where the agent says so in its place.
fn marked(text: &str) -> Option<String> {
    let inner = text.strip_prefix('<')?.trim_end().strip_suffix('>')?;
    if inner.contains('\n') {
        return None;
    }
    let (word, because) = inner.split_once(':')?;
    match word {
        "withheld" => {
            let because = because.split(':').next().unwrap_or_default();
            Some(format!("it is withheld ({because})"))
        }
        "unseen" => Some(format!("it could not be seen ({because})")),
        _ => None,
    }
}

impl Observed {
    /// An item with its files by their absolute paths.
    pub fn new(subject: Subject, files: impl IntoIterator<Item = (String, ObservedFile)>) -> Self {
        let files = files.into_iter().collect();
        Self { subject, files, stale: None, settings: OnceLock::new() }
    }

    /// The same, of which nothing can be believed any more.
    #[must_use]
    pub fn stale(mut self, because: impl Into<String>) -> Self {
        self.stale = Some(because.into());
        self
    }

    /// What it is.
    pub const fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Its files.
    pub const fn files(&self) -> &BTreeMap<String, ObservedFile> {
        &self.files
    }

    /// Nothing, or why nothing can be said of it.
    pub fn believable(&self) -> Result<(), String> {
        match &self.stale {
            Some(because) => Err(because.clone()),
            None if self.files.is_empty() => Err("nothing is recorded of it".to_owned()),
            None => Ok(()),
        }
    }

    /// A file behind the links that lead to it; an error where it cannot be told whether it is there.
    pub(super) fn file(&self, path: &str) -> Result<Option<(&str, &ObservedFile)>, String> {
        self.believable()?;
        let mut at = path.to_owned();
        for _ in 0..MOST_LINKS {
            let Some((path, file)) = self.files.get_key_value(&at) else {
                if let Some(through) = self.through_a_link(&at) {
                    at = through;
                    continue;
                }
                return if self.looks_into(&at) {
                    Ok(None)
                } else {
                    Err(format!("nothing is recorded of where `{at}` would be"))
                };
            };
            match &file.content {
                Content::Link(target) => at = resolved(path, target),
                _ => return Ok(Some((path, file))),
            }
        }
        Err(format!("`{path}` leads through too many links"))
    }

    /// The path behind a directory that is a link.
    fn through_a_link(&self, path: &str) -> Option<String> {
        path.match_indices('/').skip(1).find_map(|(end, _)| {
            let file = self.files.get(&path[..end])?;
            let Content::Link(target) = &file.content else { return None };
            Some(format!("{}{}", resolved(&path[..end], target), &path[end..]))
        })
    }

    /// Whether something is recorded below the same directory of the root: then what is not is not there.
    fn looks_into(&self, path: &str) -> bool {
        let Some(end) = path.get(1..).and_then(|rest| rest.find('/')) else {
            return self.files.keys().any(|it| it.rfind('/') == Some(0));
        };
        let top = &path[..end + 2];
        self.files.range(top.to_owned()..).next().is_some_and(|(it, _)| it.starts_with(top))
    }

    /// Files, links aside, that a pattern stands for.
    pub(super) fn matching<'a>(
        &'a self,
        pattern: &'a PathPattern,
    ) -> impl Iterator<Item = (&'a str, &'a ObservedFile)> {
        let is_file =
            |file: &ObservedFile| matches!(file.content, Content::Text(_) | Content::Kept { .. });
        let files =
            self.files.iter().filter(move |(path, file)| is_file(file) && pattern.has(path));
        files.map(|(path, file)| (path.as_str(), file))
    }

    /// What its files set, as far as it counts or may.
    pub fn parameters(&self) -> &[Parameter] {
        &self.settings().parameters
    }

    /// What of files of known formats is not understood, but for files that are withheld.
    pub fn not_understood(&self) -> impl Iterator<Item = &Unknown> {
        let is_text = |it: &&Unknown| {
            let file = self.files.get(&it.path);
            // What nginx includes below its own directory is read by itself.
            file.is_some_and(|file| matches!(file.content, Content::Text(_)))
                && !(it.path.starts_with("/etc/nginx/") && it.because.starts_with("files that"))
        };
        self.settings().unknown.iter().filter(is_text)
    }

    /// Whether a link leads to where something would be recorded, and is not.
    pub fn leads_nowhere(&self, path: &str) -> bool {
        matches!(self.file(path), Ok(None))
    }

    /// What its files set.
    pub(super) fn settings(&self) -> &Settings {
        self.settings.get_or_init(|| Settings::read(self))
    }
}

/// Where a link leads that stands at a path.
fn resolved(path: &str, target: &str) -> String {
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let whole =
        if target.starts_with('/') { target.to_owned() } else { format!("{directory}/{target}") };
    let mut names: Vec<&str> = Vec::new();
    for name in whole.split('/') {
        match name {
            "" | "." => {}
            ".." => {
                names.pop();
            }
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

impl FileView for Observed {
    fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, FileError> {
        let unreadable = |reason| FileError::Unreadable { path: path.to_owned(), reason };
        let found = self.file(path).map_err(unreadable)?;
        match found.map(|(_, file)| &file.content) {
            None | Some(Content::Directory | Content::Other | Content::Link(_)) => Ok(None),
            Some(Content::Kept { because }) => Err(unreadable(because.clone())),
            Some(Content::Text(text)) if text.len() as u64 > limit => {
                Err(FileError::TooLarge { path: path.to_owned(), limit })
            }
            Some(Content::Text(text)) => Ok(Some(text.clone().into_bytes())),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let below = format!("{}/", path.trim_end_matches('/'));
        let mut entries: BTreeMap<&str, EntryKind> = BTreeMap::new();
        for (path, file) in self.files.range(below.clone()..) {
            let Some(rest) = path.strip_prefix(&below) else { break };
            let (name, kind) = match rest.split_once('/') {
                Some((directory, _)) => (directory, EntryKind::Directory),
                None => (rest, self.kind_of(path, file)),
            };
            entries.entry(name).or_insert(kind);
        }
        let entry = |(name, kind): (&str, EntryKind)| Entry { name: name.to_owned(), kind };
        Ok(entries.into_iter().map(entry).collect())
    }
}

impl Observed {
    fn kind_of(&self, path: &str, file: &ObservedFile) -> EntryKind {
        match &file.content {
            Content::Text(_) | Content::Kept { .. } => EntryKind::File,
            Content::Directory => EntryKind::Directory,
            Content::Other => EntryKind::Other,
            // What lies behind a link that nobody can follow may be read and is then said to be unreadable.
            Content::Link(_) => match self.file(path) {
                Ok(Some((_, file))) if !matches!(file.content, Content::Link(_)) => {
                    self.kind_of(path, file)
                }
                Ok(_) => EntryKind::Other,
                Err(_) => EntryKind::File,
            },
        }
    }
}

impl Settings {
    fn read(item: &Observed) -> Self {
        let mut settings = Self::default();
        let mut sysctl = Vec::new();
        for (path, file) in &item.files {
            let Some((format, program)) = parameter::format_of(path) else { continue };
            let is_main = match format {
                Format::Sshd => path == "/etc/ssh/sshd_config",
                // What it includes is read at its place.
                Format::Postgresql => path.ends_with("/postgresql.conf"),
                _ => true,
            };
            if !is_main {
                continue;
            }
            let text = match &file.content {
                Content::Text(text) => text,
                Content::Kept { because } => {
                    let (path, because) = (path.clone(), because.clone());
                    settings.roots.entry(program).or_default().insert(path.clone());
                    settings.unknown.push(Unknown { path, line: 1, because });
                    continue;
                }
                Content::Link(_) | Content::Directory | Content::Other => continue,
            };
            let Some(read) = parameter::read(path, text, item) else { continue };
            settings.roots.entry(program).or_default().insert(path.clone());
            settings.unknown.extend(read.unknown);
            let counting = read.parameters.into_iter().filter(|it| it.force != Force::Overridden);
            if format == Format::Sysctl {
                sysctl.push((path.clone(), counting.collect()));
            } else {
                settings.parameters.extend(counting);
            }
        }
        settings.parameters.extend(applied(item, sysctl));
        settings
    }
}

/// `sysctl.d(5)`: files of all directories in the order of their names, of one name that below `/etc`. Where
/// `/etc/sysctl.conf` stands among them depends on what reads it, but for a link in `sysctl.d` to it.
fn applied(item: &Observed, mut files: Vec<(String, Vec<Parameter>)>) -> Vec<Parameter> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let own: BTreeSet<String> = files
        .iter()
        .filter(|(path, _)| path.starts_with("/etc/sysctl.d/"))
        .map(|(path, _)| name(path))
        .collect();
    files.retain(|(path, _)| !path.starts_with("/usr/") || !own.contains(&name(path)));
    let main = "/etc/sysctl.conf";
    let link = item.files.iter().find_map(|(path, file)| match &file.content {
        Content::Link(target) if path.starts_with("/etc/sysctl.d/") => {
            (resolved(path, target) == main).then(|| name(path))
        }
        _ => None,
    });
    let place = |path: &str| match &link {
        Some(link) if path == main => link.clone(),
        _ => name(path),
    };
    files.sort_by(|(one, _), (other, _)| match (one == main, other == main) {
        (true, false) if link.is_none() => Ordering::Greater,
        (false, true) if link.is_none() => Ordering::Less,
        _ => place(one).cmp(&place(other)),
    });
    let mut last: BTreeMap<String, Parameter> = BTreeMap::new();
    for (path, parameters) in files {
        for mut parameter in parameters {
            let before = last.get(&parameter.name);
            let differs = before.is_some_and(|before| before.value != parameter.value);
            if path == main && link.is_none() && differs {
                parameter.force = Force::Unknown;
            }
            last.insert(parameter.name.clone(), parameter);
        }
    }
    last.into_values().collect()
}
