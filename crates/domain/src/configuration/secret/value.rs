//! Where a value begins and ends, and what only stands in a secret's place.

use std::ops::Range;

use super::rules::Placeholders;

/// Longest value in quotes, and longest block of a value, in bytes.
const LONGEST: usize = 8 << 10;

/// How far the beginning of a line is looked for, so that one line of a megabyte costs no more than many.
const LONGEST_BEFORE: usize = 4 << 10;

/// Most lines that are continued by a backslash.
const MOST_CONTINUED: usize = 16;

/// What surrounds a value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context {
    /// Its line is a comment.
    pub(super) is_comment: bool,
    /// The file is a program, so that `$name` is a variable.
    pub(super) is_script: bool,
}

/// What follows to the end of the line, without blanks around it.
pub(super) fn line(text: &[u8], at: usize) -> Range<usize> {
    let end = line_end(text, at);
    trim(text, at..end, b"")
}

/// The value that begins at a place. `key` is somewhere in the key that it belongs to.
pub(super) fn assigned(text: &[u8], key: usize, at: usize) -> Option<Range<usize>> {
    let (start, end) = (line_start(text, key), line_end_within(text, at, LONGEST));
    let at = at + text[at..end].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    let first = *text.get(at).filter(|_| at < end)?;
    let key =
        start + text[start..key].iter().rposition(|byte| !is_of_name(*byte)).map_or(0, |it| it + 1);
    if text[start..key].ends_with(b"${") {
        return default_of_variable(text, at, end);
    }
    // "NAME=value" in quotes as a whole, as in units of systemd.
    let around = text[start..key].last().filter(|byte| matches!(byte, b'"' | b'\''));
    let around = around.filter(|quote| **quote != first && !text[key..at].contains(quote));
    if let Some(close) = around.and_then(|quote| closing(text, at, end, *quote)) {
        return (close > at).then_some(at..close);
    }
    match first {
        // A comparison, a pattern, an array of a shell.
        b'=' | b'~' | b'(' => None,
        b'"' | b'\'' | b'`' => quoted(text, at, first),
        b'[' => list(text, at, end),
        b'{' if matches!(
            text.get(at + 1),
            None | Some(b' ' | b'\t' | b'\r' | b'\n' | b'"' | b'\'' | b'}')
        ) =>
        {
            None
        }
        _ if is_block_head(text[at..end].trim_ascii()) => block(text, start, end),
        _ if is_first(&text[start..key]) => {
            let span = trim(text, at..continued(text, line_end(text, at)), b";,");
            // A sentence about passwords assigns none.
            let is_prose =
                is_comment(text, at) && text[span.clone()].iter().any(u8::is_ascii_whitespace);
            (!is_prose).then_some(span)
        }
        _ => {
            let length = text[at..end].iter().position(u8::is_ascii_whitespace);
            // "…the password: it is asked for" says something, and assigns nothing.
            let has_more =
                length.is_some_and(|length| !text[at + length..end].trim_ascii().is_empty());
            let is_colon = text[..at].trim_ascii_end().ends_with(b":");
            if has_more && is_colon && is_comment(text, at) {
                return None;
            }
            Some(trim(text, at..length.map_or(end, |length| at + length), b";,"))
        }
    }
}

/// `${NAME:-value}`.
fn default_of_variable(text: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    let operator = text.get(at)?;
    if !b"-=".contains(operator) {
        return None;
    }
    let length = text[at..end].iter().position(|byte| *byte == b'}').unwrap_or(end - at);
    (length > 1).then(|| at + 1..at + length)
}

/// What stands in quotes.
fn quoted(text: &[u8], at: usize, quote: u8) -> Option<Range<usize>> {
    let triple = [quote; 3];
    let limit = text.len().min(at + LONGEST);
    if text[at..].starts_with(&triple) {
        let start = at + 3;
        let rest = &text[start..limit.max(start)];
        let length = rest.windows(3).position(|it| it == triple).unwrap_or(rest.len());
        return (length > 0).then(|| trim(text, start..start + length, b""));
    }
    let on_line = closing(text, at + 1, line_end_within(text, at, LONGEST), quote);
    let anywhere = || closing(text, at + 1, limit, quote).filter(|_| !is_comment(text, at));
    let Some(close) = on_line.or_else(anywhere) else {
        return Some(trim(text, at + 1..line_end(text, at), b""));
    };
    // What stands right behind it belongs to it, as in 'a'"b".
    let tail = text[close + 1..].iter();
    let is_more = |byte: &&u8| !byte.is_ascii_whitespace() && !b",;:)]}>/#.\\\"'`&|".contains(byte);
    let more = tail.take_while(is_more).count();
    let is_joined = matches!(text.get(close + 1), Some(b'"' | b'\''))
        && text.get(close + 2).is_some_and(u8::is_ascii_alphanumeric);
    if more > 0 || is_joined {
        let end = line_end_within(text, close, LONGEST);
        let word = text[close..end].iter().position(u8::is_ascii_whitespace);
        return Some(trim(text, at..word.map_or(end, |word| close + word), b";,)"));
    }
    (close > at + 1).then_some(at + 1..close)
}

fn closing(text: &[u8], start: usize, limit: usize, quote: u8) -> Option<usize> {
    let mut at = start;
    while at < limit {
        match text[at] {
            b'\\' => at += 1,
            byte if byte == quote => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// The strings of a list on one line.
fn list(text: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    let inner = &text[at + 1..end];
    let length = inner.iter().rposition(|byte| *byte == b']')?;
    let has_string = inner[..length].iter().any(|byte| matches!(byte, b'"' | b'\''));
    has_string.then(|| trim(text, at + 1..at + 1 + length, b""))
}

/// `|` and `>` with what may follow them (YAML 1.2 §8.1).
fn is_block_head(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| b"|>".contains(byte))
        && value[1..].iter().all(|byte| b"+-0123456789".contains(byte))
}

/// Lines that are further in than the one with the key.
fn block(text: &[u8], key_line: usize, line_end: usize) -> Option<Range<usize>> {
    let indent = |line: &[u8]| line.iter().take_while(|byte| **byte == b' ').count();
    let outer = indent(&text[key_line..line_end]);
    let start = (line_end + 1).min(text.len());
    let mut end = start;
    for line in text[start..].split_inclusive(|byte| *byte == b'\n') {
        let is_inside = line.trim_ascii().is_empty() || indent(line) > outer;
        if !is_inside || end - start > LONGEST {
            break;
        }
        end += line.len();
    }
    let span = trim(text, start..end, b"");
    (!span.is_empty()).then_some(span)
}

/// The end of a line, or of the last of those that it continues on.
fn continued(text: &[u8], mut end: usize) -> usize {
    for _ in 0..MOST_CONTINUED {
        if !text[..end].trim_ascii_end().ends_with(b"\\") || end + 1 >= text.len() {
            break;
        }
        end = line_end(text, end + 1);
    }
    end
}

/// Whether nothing of weight stands before a key: marks of lists and comments, words that set a variable.
fn is_first(before: &[u8]) -> bool {
    let inner = before.iter().position(|byte| !b" \t#;/-*!\"'$[".contains(byte));
    let Some(inner) = inner else { return true };
    matches!(
        before[inner..].trim_ascii(),
        b"export"
            | b"set"
            | b"setenv"
            | b"local"
            | b"readonly"
            | b"declare"
            | b"typeset"
            | b"const"
            | b"let"
            | b"var"
    )
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)
}

/// Whether the key around a place is one that anybody may see.
pub(super) fn names_something_public(text: &[u8], at: usize) -> bool {
    let before = text[..at].iter().rev().take(64).take_while(|byte| is_of_name(**byte)).count();
    let behind = text[at..].iter().take(64).take_while(|byte| is_of_name(**byte)).count();
    let name = text[at - before..at + behind].to_ascii_lowercase();
    let has = |word: &str| name.windows(word.len()).any(|it| it == word.as_bytes());
    has("pub") || has("fingerprint") || has("signed") || has("sshfp")
}

/// Whether the line of a place is a comment.
pub(super) fn is_comment(text: &[u8], at: usize) -> bool {
    let line = text[line_start(text, at)..at].trim_ascii_start();
    matches!(line.first(), Some(b'#' | b';'))
        || line.starts_with(b"//")
        || line.starts_with(b"<!--")
}

/// Whether a value only stands in a secret's place.
pub(super) fn stands_in(known: &Placeholders, value: &[u8], context: Context) -> bool {
    let value = value.trim_ascii();
    let bare = value
        .strip_prefix(b"\"")
        .and_then(|it| it.strip_suffix(b"\""))
        .or_else(|| value.strip_prefix(b"'").and_then(|it| it.strip_suffix(b"'")))
        .unwrap_or(value);
    if bare.is_empty() || known.patterns.iter().any(|it| it.ready().is_match(bare)) {
        return true;
    }
    if context.is_script && bare.first() == Some(&b'$') && !is_hash(bare) {
        return true;
    }
    let is_in = |words: &[String], word: &[u8]| {
        words.iter().any(|it| it.as_bytes().eq_ignore_ascii_case(word))
    };
    let mut words = bare.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    words.all(|word| {
        let word = word.trim_ascii_end();
        is_in(&known.words, word) || (context.is_comment && is_in(&known.comment_words, word))
    })
}

/// `$id$` of crypt(5), which is no variable.
fn is_hash(value: &[u8]) -> bool {
    value[1..].iter().take(16).any(|byte| *byte == b'$')
}

/// Whether a value looks as if nobody had thought of it: digits and letters, and many bits in each byte.
pub(super) fn is_random(value: &[u8], least: f64) -> bool {
    value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
        && entropy(value) >= least
}

/// Shannon's, in bits for each byte.
fn entropy(value: &[u8]) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in value {
        counts[usize::from(*byte)] += 1;
    }
    let length = u32::try_from(value.len()).map_or(f64::INFINITY, f64::from);
    let share = |count: &u32| f64::from(*count) / length;
    counts.iter().filter(|count| **count > 0).map(|count| -share(count) * share(count).log2()).sum()
}

fn line_start(text: &[u8], at: usize) -> usize {
    let from = at.saturating_sub(LONGEST_BEFORE);
    text[from..at].iter().rposition(|byte| *byte == b'\n').map_or(from, |it| from + it + 1)
}

fn line_end_within(text: &[u8], at: usize, longest: usize) -> usize {
    line_end(&text[..text.len().min(at.saturating_add(longest))], at)
}

fn line_end(text: &[u8], at: usize) -> usize {
    text[at..].iter().position(|byte| *byte == b'\n').map_or(text.len(), |it| at + it)
}

/// Without blanks around it, nor any of some bytes behind it.
fn trim(text: &[u8], span: Range<usize>, behind: &[u8]) -> Range<usize> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace();
    let inner = &text[span.clone()];
    let Some(first) = inner.iter().position(|byte| !is_blank(byte)) else {
        return span.start..span.start;
    };
    let last = inner.iter().rposition(|byte| !is_blank(byte) && !behind.contains(byte));
    let last = last.unwrap_or(first).max(first);
    span.start + first..span.start + last + 1
}
