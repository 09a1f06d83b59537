//! Secrets of several lines that say themselves where they begin: keys in PEM, those of `PuTTY`, vaults.

use std::ops::Range;

use super::{Found, SecretKind};

/// How far the end of a block is looked for, in bytes. A key of RSA with 16384 bits has 13 KiB.
const LONGEST: usize = 16 << 10;

/// Fewest letters of a body: less is a text about keys.
const FEWEST: usize = 16;

/// Longest label between the dashes.
const LONGEST_LABEL: usize = 64;

/// Labels (RFC 7468 §10, OpenSSH's `PROTOCOL.key`, RFC 9580 §6.2, `OpenVPN`) whose body is secret.
const SECRET_LABELS: [&str; 4] =
    ["PRIVATE KEY", "OpenVPN Static key", "OpenVPN tls-crypt-v2", "SECRET KEY"];

/// Whatever begins with a word of its own.
pub(super) fn find(text: &str, found: &mut Vec<Found>) {
    let private = SecretKind::PrivateKey;
    each(text, "BEGIN ", found, (private, "private-key-block"), |at| pem(text, at));
    each(text, "$ANSIBLE_VAULT;", found, (SecretKind::Vault, "ansible-vault"), |at| {
        lines(text, at, usize::MAX, |line| line.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    each(text, "Private-Lines: ", found, (private, "putty-key"), |at| {
        let count = text[at..].lines().next()?.trim().parse().ok()?;
        lines(text, at, count, |_| true)
    });
}

/// Takes what begins right behind each occurrence of a word, but for those within what was taken.
fn each(
    text: &str,
    word: &str,
    found: &mut Vec<Found>,
    (kind, detector): (SecretKind, &'static str),
    body: impl Fn(usize) -> Option<Range<usize>>,
) {
    let mut at = 0;
    while let Some(next) = text[at..].find(word) {
        at += next + word.len();
        if let Some(span) = body(at) {
            at = at.max(span.end);
            found.push(Found { kind, detector, span });
        }
    }
}

/// The body of a PEM block, of which `at` stands behind `BEGIN `.
fn pem(text: &str, at: usize) -> Option<Range<usize>> {
    if !text[..at - "BEGIN ".len()].trim_end_matches(' ').ends_with("--") {
        return None;
    }
    let length = text.as_bytes()[at..].iter().take(LONGEST_LABEL).position(|byte| *byte == b'-')?;
    let label = text[at..at + length].trim_end();
    if !SECRET_LABELS.iter().any(|it| label.contains(it)) {
        return None;
    }
    let dashes = text[at + length..].bytes().take_while(|byte| *byte == b'-').count();
    let start = at + length + dashes;
    let room = &text[start..floor(text, start.saturating_add(LONGEST))];
    let ending = format!("END {label}");
    let body = match room.find(&ending) {
        Some(end) => room[..end].trim_end_matches(['-', ' ']),
        None => &room[..cut_off(room)],
    };
    let trimmed = body.trim();
    let letters = trimmed.bytes().filter(u8::is_ascii_alphanumeric).count();
    if letters < FEWEST {
        return None;
    }
    let start = start + (body.len() - body.trim_start().len());
    Some(start..start + trimmed.len())
}

/// How much of a text is the body of a block that never ends.
fn cut_off(text: &str) -> usize {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=\\".contains(&byte);
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        let inner = line.trim();
        let is_header = inner.split_once(": ").is_some_and(|(name, _)| {
            name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        });
        let letters = inner.bytes().take_while(|byte| is_letter(*byte)).count();
        if letters < inner.len() && !is_header {
            // A string in quotes goes on until they are closed.
            return if end == 0 || letters >= FEWEST {
                end + (line.len() - line.trim_start().len()) + letters
            } else {
                end
            };
        }
        end += line.len();
    }
    end
}

/// Lines that follow the one in which `at` lies, as long as they are what they have to be.
fn lines(
    text: &str,
    at: usize,
    most: usize,
    is_part: impl Fn(&str) -> bool,
) -> Option<Range<usize>> {
    let first = at + text[at..].find('\n')? + 1;
    let mut end = first;
    for line in text[first..].split_inclusive('\n').take(most) {
        let inner = line.trim();
        if inner.is_empty() || !is_part(inner) {
            break;
        }
        end += line.len();
    }
    let body = text[first..end].trim();
    let start = first + (text[first..end].len() - text[first..end].trim_start().len());
    (!body.is_empty()).then(|| start..start + body.len())
}

/// The last place at which a character begins, not behind `at`.
fn floor(text: &str, at: usize) -> usize {
    if at >= text.len() {
        return text.len();
    }
    (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
