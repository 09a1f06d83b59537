//! Files as they should be, held against an item's: those of an item that is as all of its kind should be, or those
//! that a release wrote.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};

use super::observed::{Content, Observed, ObservedFile};
use super::{Evidence, Outcome};
use crate::configuration::diff::{Line, Part, diff};
use crate::configuration::mask::{Masks, Subject as Masked};
use crate::order::PathPattern;

/// Lines of a difference that are told.
const MOST_LINES: usize = 10;

/// Some files as they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// Where nothing else should be.
    pub patterns: Vec<PathPattern>,
    /// Those that should be there, by their paths.
    pub files: BTreeMap<String, GoldenFile>,
}

/// A file as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoldenFile {
    /// Kind and permissions, as `st_mode` has them; none where nothing is said of them.
    pub mode: Option<u32>,
    /// User and group; none where nothing is said of them.
    pub owner: Option<String>,
    /// What is kept of it.
    pub content: Content,
}

impl From<ObservedFile> for GoldenFile {
    fn from(ObservedFile { mode, owner, content }: ObservedFile) -> Self {
        Self { mode: Some(mode), owner: Some(owner), content }
    }
}

/// What a file came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileResult {
    /// Which file.
    pub path: String,
    /// What it came to.
    pub outcome: Outcome,
    /// What differs.
    pub evidence: Vec<Evidence>,
}

impl Golden {
    /// Of an item, the files for which the patterns stand.
    pub fn of(item: &Observed, patterns: Vec<PathPattern>) -> Self {
        let is_meant = |path: &str| patterns.iter().any(|pattern| pattern.has(path));
        let files = item.files().iter().filter(|(path, _)| is_meant(path));
        let files = files.map(|(path, file)| (path.clone(), file.clone().into())).collect();
        Self { patterns, files }
    }

    /// What each of the files comes to for another item, and each that only the other has.
    pub fn judge(&self, item: &Observed, masks: &Masks) -> Vec<FileResult> {
        let is_meant = |path: &str| self.patterns.iter().any(|pattern| pattern.has(path));
        let more =
            item.files().keys().filter(|path| is_meant(path) && !self.files.contains_key(*path));
        let mut paths: Vec<&String> = self.files.keys().chain(more).collect();
        paths.sort_unstable();
        let result = |path: &String| {
            let (outcome, evidence) = self.file(path, item, masks);
            FileResult { path: path.clone(), outcome, evidence }
        };
        paths.into_iter().map(result).collect()
    }

    fn file(&self, path: &str, item: &Observed, masks: &Masks) -> (Outcome, Vec<Evidence>) {
        let say = |text: String| vec![Evidence::file(path, text)];
        if let Err(because) = item.believable() {
            return (Outcome::Unknown, vec![Evidence::words(because)]);
        }
        // Of what was erased it is not even known whether it was there.
        let erased = ObservedFile::erased();
        let (wanted, found) = (self.files.get(path), item.files().get(path));
        if wanted.is_some_and(|it| it.content == erased.content) || found == Some(&erased) {
            return (Outcome::Unknown, say("it was erased what it was".to_owned()));
        }
        let (wanted, found) = match (wanted, found) {
            (Some(wanted), Some(found)) => (wanted, found),
            (Some(_), None) => return (Outcome::Fail, say("it is not there".to_owned())),
            (None, _) => return (Outcome::Fail, say("it should not be there".to_owned())),
        };
        let mut evidence = Vec::new();
        if let Some(mode) = wanted.mode.filter(|mode| *mode != found.mode) {
            let (found, mode) = (found.mode & 0o7777, mode & 0o7777);
            let text = format!("mode {found:04o}, and should be {mode:04o}");
            evidence.push(Evidence::file(path, text));
        }
        if let Some(owner) = wanted.owner.as_ref().filter(|owner| **owner != found.owner) {
            let text = format!("owner {}, and should be {owner}", found.owner);
            evidence.push(Evidence::file(path, text));
        }
        match (&wanted.content, &found.content) {
            (Content::Kept { because }, _) | (_, Content::Kept { because }) => {
                evidence.insert(0, Evidence::file(path, because.clone()));
                return (Outcome::Unknown, evidence);
            }
            (Content::Text(wanted), Content::Text(found)) => {
                let subject = Masked::of_class(item.subject().class, path);
                let (wanted, found) =
                    (masks.masked(&subject, wanted), masks.masked(&subject, found));
                let (wanted, found) = (unprinted(&wanted), unprinted(&found));
                if wanted != found {
                    evidence.extend(lines(path, &wanted, &found));
                }
            }
            (wanted, found) if wanted != found => {
                evidence.push(Evidence::file(path, "it leads elsewhere, or is of another kind"));
            }
            _ => {}
        }
        (if evidence.is_empty() { Outcome::Pass } else { Outcome::Fail }, evidence)
    }
}

/// The text without fingerprints of secrets: each item has its own key for them, so that they differ where secrets do
/// not.
fn unprinted(text: &str) -> Cow<'_, str> {
    static MARKER: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new("<redacted:([a-z-]{1,32}):[0-9a-f]{16}>").expect("a test reads the pattern")
    });
    MARKER.replace_all(text, "<redacted:$1>")
}

/// The first lines that differ.
fn lines(path: &str, wanted: &str, found: &str) -> Vec<Evidence> {
    let Ok(differs) = diff(wanted, found) else {
        return vec![Evidence::file(path, "it differs; it is too large to say in what")];
    };
    let mut told = Vec::new();
    for hunk in &differs.hunks {
        let mut number = hunk.after.start;
        for line in &hunk.lines {
            let (sign, parts) = match line {
                Line::Same { .. } => {
                    number += 1;
                    continue;
                }
                Line::Removed { parts } => ('-', parts),
                Line::Added { parts } => ('+', parts),
            };
            let words = parts.iter().map(|part| match part {
                Part::Same(text) | Part::Changed(text) => text.as_str(),
            });
            let words: String = words.collect::<String>().chars().take(400).collect();
            let text = format!("{sign}{}", words.trim_end_matches('\n'));
            told.push(Evidence { path: Some(path.to_owned()), line: Some(number + 1), text });
            number += usize::from(sign == '+');
        }
    }
    let more = told.len().saturating_sub(MOST_LINES);
    told.truncate(MOST_LINES);
    if more > 0 {
        told.push(Evidence::file(path, format!("and {more} more lines")));
    }
    told
}
