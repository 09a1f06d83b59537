//! What differs between two versions of a file, line by line, and within a line word by word.
//!
//! ```
//! let diff = domain::configuration::diff::diff("a = 1\nb = 2\n", "a = 1\nb = 3\n")?;
//! assert_eq!(diff.unified("before", "after"), "\
//! --- before
//! +++ after
//! @@ -1,2 +1,2 @@
//!  a = 1
//! -b = 2
//! +b = 3
//! ");
//! # Ok::<(), domain::configuration::diff::TooLarge>(())
//! ```

use std::fmt::Write as _;
use std::ops::Range;

use imara_diff::{Algorithm, Diff as Differing, InternedInput, TokenSource};
use serde::{Deserialize, Serialize};

/// Largest version that is compared, in bytes.
pub const LARGEST: usize = 4 << 20;

/// Lines that are shown before and after what differs.
const CONTEXT: usize = 3;

/// Longest line that is looked into, in bytes, and most lines of one place.
const LONGEST_LINE: usize = 2 << 10;
const MOST_PAIRS: usize = 64;

/// What differs; nothing where there are no hunks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diff {
    /// In their order, apart from each other.
    pub hunks: Vec<Hunk>,
    /// Lines that are new.
    pub added: usize,
    /// Lines that are gone.
    pub removed: usize,
}

/// One place that differs, with the lines around it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hunk {
    /// Its lines in the version before, from 0.
    pub before: Range<usize>,
    /// Its lines in the version after, from 0.
    pub after: Range<usize>,
    /// Its lines in the order in which they are shown.
    pub lines: Vec<Line>,
}

/// One line, with its end if it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Line {
    /// In both.
    Same {
        /// Its text.
        text: String,
    },
    /// Gone.
    Removed {
        /// Its text in parts.
        parts: Vec<Part>,
    },
    /// New.
    Added {
        /// Its text in parts.
        parts: Vec<Part>,
    },
}

/// A part of a line that took another's place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", content = "text", rename_all = "snake_case")]
pub enum Part {
    /// As in the other line.
    Same(String),
    /// Not as in the other line; or there is no other line.
    Changed(String),
}

/// A version is too large to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a version has {size} bytes, more than {LARGEST}")]
pub struct TooLarge {
    /// Its size in bytes.
    pub size: usize,
}

impl TooLarge {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        "download both versions and compare them with a program of your own"
    }
}

/// Compares two versions.
///
/// # Errors
/// Where one has more than [`LARGEST`] bytes.
pub fn diff(before: &str, after: &str) -> Result<Diff, TooLarge> {
    for size in [before.len(), after.len()] {
        if size > LARGEST {
            return Err(TooLarge { size });
        }
    }
    let input = InternedInput::new(before, after);
    let mut differing = Differing::compute(Algorithm::Histogram, &input);
    differing.postprocess_lines(&input);
    let old: Vec<_> = input.before.iter().map(|token| input.interner[*token]).collect();
    let new: Vec<_> = input.after.iter().map(|token| input.interner[*token]).collect();
    let changes = differing.hunks().map(|it| (range(&it.before), range(&it.after)));
    let mut diff = Diff::default();
    let mut near: Vec<(Range<usize>, Range<usize>)> = Vec::new();
    for change in changes {
        diff.removed += change.0.len();
        diff.added += change.1.len();
        if near.last().is_some_and(|last| change.0.start > last.0.end + 2 * CONTEXT) {
            diff.hunks.push(hunk(&near, &old, &new));
            near.clear();
        }
        near.push(change);
    }
    if !near.is_empty() {
        diff.hunks.push(hunk(&near, &old, &new));
    }
    Ok(diff)
}

fn range(range: &Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// What lies near each other, with its context.
fn hunk(near: &[(Range<usize>, Range<usize>)], old: &[&str], new: &[&str]) -> Hunk {
    let (first, last) = (&near[0], &near[near.len() - 1]);
    let lead = CONTEXT.min(first.0.start);
    let trail = CONTEXT.min(old.len() - last.0.end);
    let before = first.0.start - lead..last.0.end + trail;
    let after = first.1.start - lead..last.1.end + trail;
    let same =
        |range: Range<usize>| old[range].iter().map(|text| Line::Same { text: (*text).to_owned() });
    let mut lines = Vec::new();
    let mut at = before.start;
    for (gone, come) in near {
        lines.extend(same(at..gone.start));
        let (gone_parts, come_parts) = parts(&old[gone.clone()], &new[come.clone()]);
        lines.extend(gone_parts.into_iter().map(|parts| Line::Removed { parts }));
        lines.extend(come_parts.into_iter().map(|parts| Line::Added { parts }));
        at = gone.end;
    }
    lines.extend(same(at..before.end));
    Hunk { before, after, lines }
}

/// The lines of one place in parts: each is held against the one that took its place, where as many came as went.
fn parts(gone: &[&str], come: &[&str]) -> (Vec<Vec<Part>>, Vec<Vec<Part>>) {
    let whole = |line: &&str| vec![Part::Changed((*line).to_owned())];
    if gone.len() != come.len() || gone.len() > MOST_PAIRS {
        return (gone.iter().map(whole).collect(), come.iter().map(whole).collect());
    }
    gone.iter().zip(come).map(|(gone, come)| words(gone, come)).unzip()
}

/// Two lines, word by word. Lines that have less than half in common are other lines.
fn words(gone: &str, come: &str) -> (Vec<Part>, Vec<Part>) {
    let whole = |line: &str| vec![Part::Changed(line.to_owned())];
    if gone.len().max(come.len()) > LONGEST_LINE {
        return (whole(gone), whole(come));
    }
    let input = InternedInput::new(Words(gone), Words(come));
    let mut differing = Differing::compute(Algorithm::Histogram, &input);
    differing.postprocess_no_heuristic(&input);
    let side = |tokens: &[imara_diff::Token], is_changed: &dyn Fn(u32) -> bool| {
        let mut parts: Vec<Part> = Vec::new();
        for (at, token) in (0..).zip(tokens) {
            let word = input.interner[*token];
            match (parts.last_mut(), is_changed(at)) {
                (Some(Part::Changed(text)), true) | (Some(Part::Same(text)), false) => {
                    text.push_str(word);
                }
                (_, true) => parts.push(Part::Changed(word.to_owned())),
                (_, false) => parts.push(Part::Same(word.to_owned())),
            }
        }
        parts
    };
    let old = side(&input.before, &|at| differing.is_removed(at));
    let new = side(&input.after, &|at| differing.is_added(at));
    let common = |parts: &[Part]| -> usize {
        let same = parts.iter().map(|part| match part {
            Part::Same(text) => text.trim().len(),
            Part::Changed(_) => 0,
        });
        same.sum()
    };
    if 2 * common(&old) < gone.trim().len().min(come.trim().len()) {
        return (whole(gone), whole(come));
    }
    (old, new)
}

/// A line as words, blanks and marks.
struct Words<'a>(&'a str);

impl<'a> TokenSource for Words<'a> {
    type Token = &'a str;
    type Tokenizer = std::vec::IntoIter<&'a str>;

    fn tokenize(&self) -> Self::Tokenizer {
        let kind = |letter: char| match letter {
            _ if letter.is_alphanumeric() || letter == '_' => 0,
            _ if letter.is_whitespace() => 1,
            _ => 2,
        };
        let mut words = Vec::new();
        let mut start = 0;
        let mut last = None;
        for (at, letter) in self.0.char_indices() {
            let now = kind(letter);
            if last.is_some_and(|last| last != now || now == 2) {
                words.push(&self.0[start..at]);
                start = at;
            }
            last = Some(now);
        }
        if start < self.0.len() {
            words.push(&self.0[start..]);
        }
        words.into_iter()
    }

    fn estimate_tokens(&self) -> u32 {
        u32::try_from(self.0.len() / 4).unwrap_or(u32::MAX)
    }
}

impl Diff {
    /// Whether both versions are the same.
    pub fn is_empty(&self) -> bool {
        self.hunks.is_empty()
    }

    /// In the unified format, as `diff -u` writes it; nothing where nothing differs.
    pub fn unified(&self, before: &str, after: &str) -> String {
        let mut text = String::new();
        if self.is_empty() {
            return text;
        }
        let _ = writeln!(text, "--- {before}\n+++ {after}");
        for hunk in &self.hunks {
            let _ = writeln!(text, "@@ -{} +{} @@", place(&hunk.before), place(&hunk.after));
            for line in &hunk.lines {
                let (mark, content) = match line {
                    Line::Same { text } => (' ', text.clone()),
                    Line::Removed { parts } => ('-', joined(parts)),
                    Line::Added { parts } => ('+', joined(parts)),
                };
                text.push(mark);
                text.push_str(&content);
                if !content.ends_with('\n') {
                    text.push_str("\n\\ No newline at end of file\n");
                }
            }
        }
        text
    }
}

fn joined(parts: &[Part]) -> String {
    let text = |part: &Part| match part {
        Part::Same(text) | Part::Changed(text) => text.clone(),
    };
    parts.iter().map(text).collect()
}

/// First line from 1, and how many: the line before where there are none; one is not counted.
fn place(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_diff_reads_as_people_know_it() {
        let before = "Port 22\n# a\n# b\n# c\n# d\nPermitRootLogin yes\nUsePAM yes\n";
        let after = "Port 22\n# a\n# b\n# c\n# d\nPermitRootLogin no\nUsePAM yes\nX11Forwarding no";

        let diff = diff(before, after).unwrap();

        insta::assert_snapshot!(diff.unified("sshd_config @1", "sshd_config @2"), @r"
        --- sshd_config @1
        +++ sshd_config @2
        @@ -3,5 +3,6 @@
         # b
         # c
         # d
        -PermitRootLogin yes
        +PermitRootLogin no
         UsePAM yes
        +X11Forwarding no
        \ No newline at end of file
        ");
        assert_eq!((diff.removed, diff.added), (1, 2));
    }

    #[test]
    fn words_that_changed_within_a_line_stand_apart() {
        let diff = diff("listen 80 default_server;\n", "listen 8080 default_server;\n").unwrap();

        let same = |text: &str| Part::Same(text.to_owned());
        let changed = |text: &str| Part::Changed(text.to_owned());
        assert_eq!(
            diff.hunks[0].lines,
            [
                Line::Removed {
                    parts: vec![same("listen "), changed("80"), same(" default_server;\n")]
                },
                Line::Added {
                    parts: vec![same("listen "), changed("8080"), same(" default_server;\n")]
                },
            ]
        );
    }

    #[test]
    fn lines_that_have_little_in_common_are_other_lines() {
        let diff = diff("root /srv/www;\n", "proxy_pass http://127.0.0.1:8080;\n").unwrap();

        let whole = |line: &Line| match line {
            Line::Removed { parts } | Line::Added { parts } => {
                matches!(parts.as_slice(), [Part::Changed(_)])
            }
            Line::Same { .. } => false,
        };
        assert!(diff.hunks[0].lines.iter().all(whole));
    }

    #[test]
    fn places_far_from_each_other_are_hunks_of_their_own() {
        let text = |first: &str, last: &str| {
            let middle = (0..10).map(|number| format!("{number}\n")).collect::<Vec<_>>().concat();
            format!("{first}\n{middle}{last}\n")
        };
        let diff = diff(&text("a", "b"), &text("c", "d")).unwrap();

        assert_eq!(diff.hunks.len(), 2);
        assert_eq!((diff.hunks[0].before.clone(), diff.hunks[1].before.clone()), (0..4, 8..12));
    }

    #[test]
    fn what_is_too_large_is_not_compared() {
        let large = "a".repeat(LARGEST + 1);
        assert_eq!(diff(&large, ""), Err(TooLarge { size: LARGEST + 1 }));
        assert_eq!(diff("", &large), Err(TooLarge { size: LARGEST + 1 }));
    }

    /// The version after, made of the one before and a unified diff by its rules alone.
    fn patched(before: &str, unified: &str) -> String {
        let old: Vec<_> = before.split_inclusive('\n').collect();
        let mut text = String::new();
        let mut at = 0;
        let mut lines = unified.split_inclusive('\n').skip(2).peekable();
        while let Some(line) = lines.next() {
            if let Some(rest) = line.strip_prefix("@@ -") {
                let place = rest.split(' ').next().unwrap();
                let (start, count) = place.split_once(',').unwrap_or((place, "1"));
                let (start, count): (usize, usize) =
                    (start.parse().unwrap(), count.parse().unwrap());
                let start = if count == 0 { start } else { start - 1 };
                text.extend(old[at..start].iter().copied());
                at = start;
                continue;
            }
            let is_cut = lines.peek().is_some_and(|next| next.starts_with("\\ "));
            let content = if is_cut { line[1..].trim_end_matches('\n') } else { &line[1..] };
            match &line[..1] {
                " " => {
                    assert_eq!(old[at], content);
                    text.push_str(content);
                    at += 1;
                }
                "-" => {
                    assert_eq!(old[at], content);
                    at += 1;
                }
                "+" => text.push_str(content),
                _ => {}
            }
        }
        text.extend(old[at..].iter().copied());
        text
    }

    fn files() -> impl Strategy<Value = String> {
        let line = prop::sample::select(
            &["a\n", "b\n", "c = 1\n", "c = 2\n", "\n", "d\r\n", "ä", "  x\n"][..],
        );
        prop::collection::vec(line, 0..40).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn the_version_after_follows_from_the_one_before(before in files(), after in files()) {
            let diff = diff(&before, &after).unwrap();

            prop_assert_eq!(diff.is_empty(), before == after);
            if before != after {
                prop_assert_eq!(patched(&before, &diff.unified("a", "b")), after);
            }
        }
    }
}
