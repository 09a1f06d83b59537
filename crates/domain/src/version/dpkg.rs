//! The order of dpkg: Debian Policy 5.6.12, `deb-version(7)`.
//!
//! `[epoch:]upstream[-revision]`. The epoch is a number (none is 0); upstream and revision (none
//! is empty) are each split into alternating runs of non-digits and digits. Digits compare as
//! numbers of any size. Non-digits compare character by character: `~` before the end of the run,
//! the end before letters, letters (by ASCII) before everything else.
//!
//! Strings that dpkg refuses: a colon without digits alone before it separates nothing and counts
//! as an ordinary character, as does white space; an empty upstream version or revision compares
//! like `0`.
//!
//! # Key layout
//!
//! `number(epoch) runs(upstream) runs(revision)`, where `runs` is, for each pair of runs, one
//! byte for each character (`~` = 1, letters 3 to 54, others from 55 in ASCII order),
//! [`END_OF_RUN`] and the number; and a last [`END_OF_RUN`]. That last one needs no number: a run
//! of non-digits between two numbers is never empty, so only the end of the string has it there.

use std::cmp::Ordering;

use super::invalid::InvalidVersionReason as Reason;
use super::key::{NumberCode, compare_digits, push_digits, split_run};

/// Stands after a run of non-digits; sorts after `~` and before every other character.
const END_OF_RUN: u8 = 2;
/// dpkg stores the epoch in a C `int`.
const LARGEST_EPOCH: u32 = i32::MAX.unsigned_abs();

/// A version cut into its parts.
struct Parts<'a> {
    /// Decimal digits, possibly none.
    epoch: &'a [u8],
    upstream: &'a [u8],
    revision: &'a [u8],
}

impl<'a> Parts<'a> {
    fn of(version: &'a str) -> Self {
        let bytes = version.as_bytes();
        let (digits, rest) = split_run(bytes, u8::is_ascii_digit);
        let (epoch, rest) = match rest.strip_prefix(b":") {
            Some(rest) if !digits.is_empty() => (digits, rest),
            _ => (&bytes[..0], bytes),
        };
        let (upstream, revision) = match rest.iter().rposition(|&byte| byte == b'-') {
            Some(hyphen) => (&rest[..hyphen], &rest[hyphen + 1..]),
            None => (rest, &rest[..0]),
        };
        Self { epoch, upstream, revision }
    }
}

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    compare_digits(a.epoch, b.epoch)
        .then_with(|| compare_runs(a.upstream, b.upstream))
        .then_with(|| compare_runs(a.revision, b.revision))
}

fn compare_runs(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (text_a, rest_a) = split_run(a, |byte| !byte.is_ascii_digit());
        let (text_b, rest_b) = split_run(b, |byte| !byte.is_ascii_digit());
        let text = compare_text(text_a, text_b);
        if text != Ordering::Equal {
            return text;
        }
        let (number_a, rest_a) = split_run(rest_a, u8::is_ascii_digit);
        let (number_b, rest_b) = split_run(rest_b, u8::is_ascii_digit);
        let number = compare_digits(number_a, number_b);
        if number != Ordering::Equal {
            return number;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight_at = |text: &[u8], at| text.get(at).map_or(END_OF_RUN, |&byte| weight(byte));
    (0..a.len().max(b.len()))
        .map(|at| weight_at(a, at).cmp(&weight_at(b, at)))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Place of a non-digit among its kind; never [`END_OF_RUN`].
const fn weight(byte: u8) -> u8 {
    WEIGHTS[byte as usize]
}

/// [`weight`] of every byte: `~`, then letters, then the rest; digits have none.
const WEIGHTS: [u8; 256] = {
    let mut weights = [0; 256];
    weights[b'~' as usize] = 1;
    let letter = 3;
    let mut letters = 0;
    let other = letter + 2 * 26;
    let mut others = 0;
    let mut byte = 0_u8;
    loop {
        if byte.is_ascii_alphabetic() {
            weights[byte as usize] = letter + letters;
            letters += 1;
        } else if !byte.is_ascii_digit() && byte != b'~' {
            weights[byte as usize] = other + others;
            others += 1;
        }
        if byte == u8::MAX {
            break weights;
        }
        byte += 1;
    }
};

pub(super) fn write_key(version: &str, out: &mut Vec<u8>) {
    let parts = Parts::of(version);
    push_digits(parts.epoch, NumberCode::WHOLE_BYTE, out);
    push_runs(parts.upstream, out);
    push_runs(parts.revision, out);
}

fn push_runs(mut rest: &[u8], out: &mut Vec<u8>) {
    // An empty part equals `0`, which is an empty run and a number.
    loop {
        let (text, after) = split_run(rest, |byte| !byte.is_ascii_digit());
        let (number, after) = split_run(after, u8::is_ascii_digit);
        out.extend(text.iter().map(|&byte| weight(byte)));
        out.push(END_OF_RUN);
        push_digits(number, NumberCode::WHOLE_BYTE, out);
        if after.is_empty() {
            break;
        }
        rest = after;
    }
    out.push(END_OF_RUN);
}

/// What `dpkg --validate-version` refuses, except that it ignores white space around a version.
pub(super) fn validate(version: &str) -> Result<(), (usize, Reason)> {
    if version.is_empty() {
        return Err((0, Reason::Empty));
    }
    let after_epoch = match version.find(':') {
        Some(colon) => {
            validate_epoch(&version[..colon])?;
            colon + 1
        }
        None => 0,
    };
    let (end_of_upstream, revision) = match version[after_epoch..].rfind('-') {
        Some(hyphen) => (after_epoch + hyphen, Some(after_epoch + hyphen + 1)),
        None => (version.len(), None),
    };
    let upstream = &version[after_epoch..end_of_upstream];
    if upstream.is_empty() {
        return Err((after_epoch, Reason::VersionEmpty));
    }
    if revision == Some(version.len()) {
        return Err((version.len(), Reason::RevisionEmpty));
    }
    if !upstream.starts_with(|first: char| first.is_ascii_digit()) {
        return Err((after_epoch, Reason::DigitExpected));
    }
    only(upstream, after_epoch, ".-+~:")?;
    match revision {
        Some(start) => only(&version[start..], start, ".+~"),
        None => Ok(()),
    }
}

fn validate_epoch(epoch: &str) -> Result<(), (usize, Reason)> {
    if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((0, Reason::EpochNotANumber));
    }
    match epoch.parse::<u32>() {
        Ok(value) if value <= LARGEST_EPOCH => Ok(()),
        _ => Err((0, Reason::EpochTooLarge { limit: LARGEST_EPOCH })),
    }
}

/// Refuses everything but ASCII letters, digits and `others`.
fn only(part: &str, start: usize, others: &str) -> Result<(), (usize, Reason)> {
    let stranger = part
        .char_indices()
        .find(|(_, found)| !found.is_ascii_alphanumeric() && !others.contains(*found));
    match stranger {
        Some((offset, found)) => Err((start + offset, Reason::Character { found })),
        None => Ok(()),
    }
}
