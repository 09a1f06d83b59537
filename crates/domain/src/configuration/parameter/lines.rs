//! Files of one parameter a line.

use super::{Force, Parameters};
use crate::files::{Entry, EntryKind, FileView};

/// Lines with their numbers, without blanks around them, empty ones and comments.
fn lines<'t>(text: &'t str, comments: &'static [char]) -> impl Iterator<Item = (usize, &'t str)> {
    let trimmed = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    trimmed.filter(move |(_, line)| !line.is_empty() && !line.starts_with(comments))
}

/// `sysctl.d(5)`, `sysctl.conf(5)`: `-` before a name lets it fail, `/` and `.` divide it.
pub(super) fn sysctl(path: &str, text: &str, program: &str, found: &mut Parameters) {
    for (number, line) in lines(text, &['#', ';']) {
        let Some((name, value)) = line.split_once('=') else {
            found.unknown(path, number, "there is no `=`");
            continue;
        };
        let name = name.trim().trim_start_matches('-');
        // Where the first divider is a slash, dots belong to names (interfaces of VLANs).
        let is_slashed = name.find(['/', '.']).is_some_and(|at| name[at..].starts_with('/'));
        let name = if is_slashed {
            name.chars()
                .map(|it| match it {
                    '/' => '.',
                    '.' => '/',
                    other => other,
                })
                .collect()
        } else {
            name.to_owned()
        };
        found.set(path, number, format!("{program}.{name}"), value.trim());
    }
    found.last_counts();
}

/// `[section]`, `key = value`, a key alone; keys may come more than once, and then all of them count.
pub(super) fn ini(path: &str, text: &str, program: &str, found: &mut Parameters) {
    let mut section = String::new();
    let mut continued: Option<(usize, String)> = None;
    for (number, raw) in (1..).zip(text.lines()) {
        let line = raw.trim();
        if continued.is_none() && (line.is_empty() || line.starts_with(['#', ';'])) {
            continue;
        }
        // A backslash at the end (systemd.syntax(7)); comments in between are left out.
        let (number, line) = match continued.take() {
            Some((first, before)) if line.starts_with(['#', ';']) => {
                continued = Some((first, before));
                continue;
            }
            Some((first, before)) => (first, format!("{before} {line}")),
            None => (number, line.to_owned()),
        };
        if let Some(before) = line.strip_suffix('\\') {
            continued = Some((number, before.trim_end().to_owned()));
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            match name.strip_suffix(']') {
                Some(name) => name.trim().clone_into(&mut section),
                None => found.unknown(path, number, "a section does not end"),
            }
            continue;
        }
        if line.starts_with('!') {
            found.unknown(path, number, "files that it includes are not looked into");
            continue;
        }
        let (name, value) = line.split_once('=').unwrap_or((line.as_str(), ""));
        let prefix =
            if section.is_empty() { program.to_owned() } else { format!("{program}.{section}") };
        found.set(path, number, format!("{prefix}.{}", name.trim()), unquoted(value.trim()));
    }
    if let Some((number, _)) = continued {
        found.unknown(path, number, "a line goes on behind the end of the file");
    }
}

/// `NAME=value` as a shell reads it, where no shell is needed to know it.
pub(super) fn shell(path: &str, text: &str, program: &str, found: &mut Parameters) {
    for (number, line) in lines(text, &['#']) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((name, value)) = line.split_once('=') else {
            found.unknown(path, number, "it is no assignment");
            continue;
        };
        let name = name.trim();
        if name.is_empty()
            || !name.chars().all(|it| it.is_ascii_alphanumeric() || "_-.".contains(it))
        {
            found.unknown(path, number, "it is no assignment");
            continue;
        }
        let value = value.trim();
        let inner = unquoted(value);
        let is_bare = inner.len() == value.len();
        // One word in quotes ends where they do.
        if !is_bare && inner.contains(&value[..1]) {
            found.unknown(path, number, "a value of several parts");
        } else if !value.starts_with('\'') && inner.contains(['$', '`']) {
            found.unknown(path, number, "only a shell can tell the value");
        } else if is_bare && value.starts_with(['"', '\'']) {
            found.unknown(path, number, "a value of several lines");
        } else {
            let value =
                if is_bare { value.split(" #").next().unwrap_or(value).trim_end() } else { inner };
            found.set(path, number, format!("{program}.{name}"), value);
        }
    }
    found.last_counts();
}

/// How deep files of PostgreSQL include each other (its own limit).
const DEEPEST: usize = 10;

/// Most files that are included.
const MOST_INCLUDED: usize = 256;

/// `postgresql.conf`: `name = value` or `name value`; the last one counts; others are included at their place.
pub(super) fn postgresql(
    path: &str,
    text: &str,
    program: &str,
    others: &dyn FileView,
    found: &mut Parameters,
) {
    let mut blind = None;
    let mut reader = Included { program, others, files: 0, blind: &mut blind };
    reader.file(path, text, 0, found);
    found.last_counts();
    // What stands before an inclusion that nobody can follow may be set otherwise in there.
    if let Some(known) = blind {
        let before = found.parameters[..known].iter_mut();
        before.filter(|it| it.force == Force::InForce).for_each(|it| it.force = Force::Unknown);
    }
}

struct Included<'a> {
    program: &'a str,
    others: &'a dyn FileView,
    files: usize,
    /// How many parameters stand before the last inclusion that nobody can follow.
    blind: &'a mut Option<usize>,
}

impl Included<'_> {
    fn file(&mut self, path: &str, text: &str, depth: usize, found: &mut Parameters) {
        for (number, line) in lines(text, &['#']) {
            let end = line.find(|it: char| it.is_whitespace() || it == '=').unwrap_or(line.len());
            let (name, rest) = line.split_at(end);
            let rest = rest.trim_start().strip_prefix('=').unwrap_or(rest).trim_start();
            let value = match rest.strip_prefix('\'') {
                Some(quoted) => {
                    let Some(end) = closing(quoted) else {
                        found.unknown(path, number, "a value in quotes does not end");
                        continue;
                    };
                    quoted[..end].replace("''", "'")
                }
                None => rest.split(['#', ' ', '\t']).next().unwrap_or_default().to_owned(),
            };
            if name.is_empty() || value.is_empty() && !rest.starts_with('\'') {
                found.unknown(path, number, "there is no value");
                continue;
            }
            if matches!(name, "include" | "include_if_exists" | "include_dir") {
                if self.include((path, number), name, &value, depth, found).is_none() {
                    found.unknown(path, number, "files that it includes are not looked into");
                    *self.blind = Some(found.parameters.len());
                }
                continue;
            }
            // Names are the same in any case.
            found.set(
                path,
                number,
                format!("{}.{}", self.program, name.to_ascii_lowercase()),
                &value,
            );
        }
    }

    /// Reads what a line includes; `None` where that is not at hand.
    fn include(
        &mut self,
        (path, number): (&str, usize),
        how: &str,
        what: &str,
        depth: usize,
        found: &mut Parameters,
    ) -> Option<()> {
        let (directory, _) = path.rsplit_once('/')?;
        let what =
            if what.starts_with('/') { what.to_owned() } else { format!("{directory}/{what}") };
        let what = what.trim_end_matches('/');
        let files = if how == "include_dir" {
            let entries = self.others.list(what).ok()?;
            let (above, name) = what.rsplit_once('/')?;
            let is_it = |entry: &Entry| entry.name == name && entry.kind == EntryKind::Directory;
            if entries.is_empty() && !self.others.list(above).ok()?.iter().any(is_it) {
                return None;
            }
            let is_read = |entry: &Entry| {
                let name = &entry.name;
                let is_conf = name.strip_suffix(".conf").is_some();
                entry.kind == EntryKind::File && is_conf && !name.starts_with('.')
            };
            let files = entries.into_iter().filter(is_read);
            files.map(|entry| format!("{what}/{}", entry.name)).collect()
        } else {
            vec![what.to_owned()]
        };
        for file in files {
            self.files += 1;
            if depth == DEEPEST || self.files > MOST_INCLUDED {
                return None;
            }
            let held = self.others.read(&file, super::LARGEST as u64).ok()?;
            let text = String::from_utf8(held?).ok()?;
            self.file(&file, &text, depth + 1, found);
            if !found.has_room(path, number) {
                return None;
            }
        }
        Some(())
    }
}

/// Where a value in single quotes ends; two of them are one, and a backslash takes the next letter along.
fn closing(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\'' if bytes.get(at + 1) == Some(&b'\'') => at += 1,
            b'\'' => return Some(at),
            b'\\' => at += 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// A word, blanks, a value.
pub(super) fn words(path: &str, text: &str, program: &str, found: &mut Parameters) {
    for (number, line) in lines(text, &['#']) {
        match line.split_once(char::is_whitespace) {
            Some((name, value)) => {
                found.set(path, number, format!("{program}.{name}"), unquoted(value.trim()));
            }
            None => found.unknown(path, number, "there is no value"),
        }
    }
    found.last_counts();
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}
