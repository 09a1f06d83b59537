//! Holds the rules against a text.

use std::collections::BTreeSet;
use std::ops::Range;

use aho_corasick::AhoCorasick;

use super::rules::{Fields, Rule, Rules, Value};
use super::value::{self, Context};
use super::{Found, OPENING, SecretKind, block, marker};

/// Shortest secret whose other occurrences in the same file are taken out too, in bytes. A shorter one may be
/// a word of the language.
const DISTINCT: usize = 12;

/// Longest such secret, and most of them.
const LONGEST_REPEATED: usize = 512;
const MOST_REPEATED: usize = 256;

/// Every secret in a text that is no marker yet, in their order and apart from each other.
pub(super) fn all(rules: &Rules, path: &str, text: &str) -> Vec<Found> {
    let bytes = text.as_bytes();
    let is_script = bytes.starts_with(b"#!");
    let mut found = Vec::new();
    block::find(text, &mut found);
    for fields in rules.fields_of(path) {
        by_fields(rules, fields, bytes, &mut found);
    }
    for rule in rules.concerning(path, bytes) {
        by_rule(rules, rule, bytes, is_script, &mut found);
    }
    let markers = markers(bytes);
    // A marker's own words are none of the file's: whatever begins within one is left, and so is a marker alone.
    let is_marked = |span: &Range<usize>| {
        let next = markers.partition_point(|it| it.end <= span.start);
        markers.get(next).is_some_and(|it| {
            it.start < span.start || (it.start == span.start && span.end <= it.end)
        })
    };
    found.retain(|it| !it.span.is_empty() && !is_marked(&it.span));
    repeated(bytes, &mut found);
    for it in &mut found {
        while !text.is_char_boundary(it.span.start) {
            it.span.start -= 1;
        }
        while !text.is_char_boundary(it.span.end) {
            it.span.end += 1;
        }
    }
    merged(found)
}

/// How much a kind says.
const fn rank(kind: SecretKind) -> u8 {
    match kind {
        SecretKind::Secret => 0,
        SecretKind::Password => 1,
        SecretKind::ApiToken => 2,
        SecretKind::PrivateKey => 4,
        _ => 3,
    }
}

/// In their order, and what overlaps as one: of the kind that says most.
pub(super) fn merged(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by(|a, b| {
        let order = a.span.start.cmp(&b.span.start).then(b.span.end.cmp(&a.span.end));
        order.then(a.detector.cmp(b.detector))
    });
    let mut apart: Vec<Found> = Vec::with_capacity(found.len());
    for it in found {
        match apart.last_mut() {
            Some(last) if it.span.start < last.span.end => {
                last.span.end = last.span.end.max(it.span.end);
                if rank(it.kind) > rank(last.kind) {
                    (last.kind, last.detector) = (it.kind, it.detector);
                }
            }
            _ => apart.push(it),
        }
    }
    apart
}

fn by_rule(rules: &Rules, rule: &Rule, text: &[u8], is_script: bool, found: &mut Vec<Found>) {
    // What lies within a secret already is not looked at again.
    let mut taken = 0;
    let mut take = |span: Range<usize>, asks: bool| {
        let secret = &text[span.clone()];
        let context = Context { is_comment: value::is_comment(text, span.start), is_script };
        let is_known = rule.allow.iter().any(|it| it.as_bytes() == secret);
        let is_dull = rule.entropy.is_some_and(|least| !value::is_random(secret, least));
        let is_stand_in = asks && value::stands_in(&rules.placeholders, secret, context);
        if !(is_known || is_dull || is_stand_in) {
            let end = span.end;
            found.push(Found { kind: rule.kind, detector: rule.id, span });
            return end;
        }
        0
    };
    let pattern = rule.pattern.ready();
    if rule.value == Value::Match {
        for captures in pattern.captures_iter(text) {
            let at = captures.get(0).map_or(0, |it| it.start());
            if rule.entropy.is_some() && value::names_something_public(text, at) {
                continue;
            }
            if let Some(secret) = captures.name("secret").or_else(|| captures.name("secret2")) {
                let _ = take(secret.range(), rule.except);
            }
        }
        return;
    }
    for at in pattern.find_iter(text) {
        if at.start() < taken {
            continue;
        }
        let (span, asks) = match rule.value {
            Value::Line => (Some(value::line(text, at.end())), rule.except),
            _ => (value::assigned(text, at.start(), at.end()), true),
        };
        taken = span.map_or(0, |span| take(span, asks)).max(taken);
    }
}

fn by_fields(rules: &Rules, fields: &Fields, text: &[u8], found: &mut Vec<Found>) {
    let context = Context { is_comment: false, is_script: false };
    let mut start = 0;
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let begin = start;
        start += line.len();
        let line = line.trim_ascii_end();
        if line.trim_ascii_start().first().is_none_or(|byte| *byte == b'#') {
            continue;
        }
        let Some(span) = field(line, fields) else { continue };
        if !value::stands_in(&rules.placeholders, &line[span.clone()], context) {
            let span = begin + span.start..begin + span.end;
            found.push(Found { kind: fields.kind, detector: fields.id, span });
        }
    }
}

/// Where the secret field of a line stands.
fn field(line: &[u8], fields: &Fields) -> Option<Range<usize>> {
    let is_blank = fields.separator == b' ';
    let is_separator = |byte: u8| {
        if is_blank { byte == b' ' || byte == b'\t' } else { byte == fields.separator }
    };
    let mut at = 0;
    for number in 1.. {
        if is_blank {
            at += line[at..].iter().take_while(|byte| is_separator(**byte)).count();
        }
        if at > line.len() {
            return None;
        }
        let mut end = at;
        let quote = line.get(at).copied().filter(|byte| is_blank && matches!(byte, b'"' | b'\''));
        if quote.is_some() {
            end += 1;
        }
        while let Some(&byte) = line.get(end) {
            if byte == b'\\' && (fields.escapes || quote.is_some()) {
                end += 1;
            } else if quote == Some(byte) {
                end += 1;
                break;
            } else if quote.is_none() && is_separator(byte) {
                break;
            }
            end += 1;
        }
        let end = end.min(line.len());
        if number == fields.field {
            let end = if fields.rest { line.len() } else { end };
            let is_closed = quote.is_some() && end > at + 1 && line.get(end - 1) == quote.as_ref();
            let span = if is_closed { at + 1..end - 1 } else { at..end };
            return (!span.is_empty()).then_some(span);
        }
        if end >= line.len() {
            return None;
        }
        at = end + usize::from(!is_blank);
    }
    None
}

/// Where markers stand already.
fn markers(text: &[u8]) -> Vec<Range<usize>> {
    let mut markers = Vec::new();
    let mut at = 0;
    while let Some(found) = position(&text[at..], OPENING.as_bytes()) {
        let start = at + found;
        at = match marker(&text[start..]) {
            Some(length) => {
                markers.push(start..start + length);
                start + length
            }
            None => start + 1,
        };
    }
    markers
}

fn position(text: &[u8], word: &[u8]) -> Option<usize> {
    text.windows(word.len()).position(|it| it == word)
}

/// What was found once is secret wherever the file has it: in a comment, in a command line.
fn repeated(text: &[u8], found: &mut Vec<Found>) {
    let is_distinct = |it: &&Found| {
        let secret = &text[it.span.clone()];
        (DISTINCT..=LONGEST_REPEATED).contains(&secret.len())
            && secret.iter().any(u8::is_ascii_digit)
            && secret.iter().any(u8::is_ascii_alphabetic)
            && position(secret, OPENING.as_bytes()).is_none()
    };
    let mut values = BTreeSet::new();
    let mut sources = Vec::new();
    for it in found.iter().filter(is_distinct) {
        if values.len() < MOST_REPEATED && values.insert(&text[it.span.clone()]) {
            sources.push((it.kind, it.detector, &text[it.span.clone()]));
        }
    }
    if sources.is_empty() {
        return;
    }
    // Words of bounded number and length: their automaton is built or, for want of room, nothing is added.
    let Ok(words) = AhoCorasick::new(sources.iter().map(|(_, _, value)| value)) else { return };
    let again: Vec<_> = words
        .find_iter(text)
        .map(|it| {
            let (kind, detector, _) = sources[it.pattern().as_usize()];
            Found { kind, detector, span: it.range() }
        })
        .collect();
    found.extend(again);
}
