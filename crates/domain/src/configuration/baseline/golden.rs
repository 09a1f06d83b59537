//! An item that is as all of its kind should be: its files at a time, held against others'.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use regex::Regex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::observed::{Content, Observed, ObservedFile};
use super::{Evidence, Outcome};
use crate::change::FileHash;
use crate::configuration::diff::{Line, Part, diff};
use crate::configuration::mask::{Masks, Subject as Masked};
use crate::order::PathPattern;

/// Lines of a difference that are told.
const MOST_LINES: usize = 10;

/// Some files of an item at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// Which files.
    pub patterns: Vec<PathPattern>,
    /// Those there were, by their paths.
    pub files: BTreeMap<String, GoldenFile>,
}

/// A file as it should be.
pub type GoldenFile = ObservedFile;

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
        let files = files.map(|(path, file)| (path.clone(), file.clone())).collect();
        Self { patterns, files }
    }

    /// What all of it is, in one word: another file, another word.
    pub fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        for (path, file) in &self.files {
            add(path.as_bytes());
            add(&file.mode.to_be_bytes());
            add(file.owner.as_bytes());
            match &file.content {
                Content::Text(text) => add(text.as_bytes()),
                Content::Link(target) => add(target.as_bytes()),
                Content::Kept { because } => add(because.as_bytes()),
                Content::Directory | Content::Other => add(b""),
            }
        }
        FileHash::from(<[u8; 32]>::from(hash.finalize())).to_string()
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
        let of_both = [self.files.get(path), item.files().get(path)];
        if of_both.contains(&Some(&erased)) {
            return (Outcome::Unknown, say("it was erased what it was".to_owned()));
        }
        let (wanted, found) = match (of_both[0], of_both[1]) {
            (Some(wanted), Some(found)) => (wanted, found),
            (Some(_), None) => return (Outcome::Fail, say("it is not there".to_owned())),
            (None, _) => return (Outcome::Fail, say("it should not be there".to_owned())),
        };
        let mut evidence = Vec::new();
        if wanted.mode != found.mode {
            evidence.push(Evidence::file(
                path,
                format!(
                    "mode {:04o}, and should be {:04o}",
                    found.mode & 0o7777,
                    wanted.mode & 0o7777
                ),
            ));
        }
        if wanted.owner != found.owner {
            let text = format!("owner {}, and should be {}", found.owner, wanted.owner);
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
