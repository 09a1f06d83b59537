//! The order of rpm: `rpmvercmp` over `[epoch:]version[-release]`.
//!
//! Epoch first, as a number, none being 0. Then version and release, each read as segments of
//! letters or of digits; every other character only separates. Segments of digits are numbers of
//! any size and newer than letters; letters compare by ASCII. `~` sorts before everything, even
//! the end; `^` after the end and before any segment.
//!
//! A missing release is older than any release, even an empty one (`1` < `1-`), as in rpm's own
//! `rpmverCmp`: to ask whether an installed package has a fix named without release, compare
//! version parts alone.
//!
//! # Key layout
//!
//! `number(epoch) segments(version) release`. `segments` is a byte or more for each token and
//! [`END`]: [`TILDE`], [`CARET`], letters as themselves closed by [`END_OF_LETTERS`], numbers from
//! `0x80` on. `release` is [`NO_RELEASE`] or [`RELEASE`] and `segments`.

use std::cmp::Ordering;

use super::invalid::InvalidVersionReason as Reason;
use super::key::{NumberCode, compare_digits, push_digits, split_run};

const END_OF_LETTERS: u8 = 0;
const TILDE: u8 = 1;
const END: u8 = 2;
const CARET: u8 = 3;
const NUMBER: NumberCode = NumberCode { base: 0x80, small: 119 };

const NO_RELEASE: u8 = 0;
const RELEASE: u8 = 1;

/// Parts as in rpm's `rpmverParse`.
struct Parts<'a> {
    /// Decimal digits, possibly none.
    epoch: &'a [u8],
    version: &'a [u8],
    release: Option<&'a [u8]>,
}

impl<'a> Parts<'a> {
    fn of(evr: &'a str) -> Self {
        let bytes = evr.as_bytes();
        let (digits, rest) = split_run(bytes, u8::is_ascii_digit);
        let (epoch, rest) = match rest.strip_prefix(b":") {
            Some(rest) => (digits, rest),
            None => (&bytes[..0], bytes),
        };
        match rest.iter().rposition(|&byte| byte == b'-') {
            Some(hyphen) => {
                Self { epoch, version: &rest[..hyphen], release: Some(&rest[hyphen + 1..]) }
            }
            None => Self { epoch, version: rest, release: None },
        }
    }
}

/// What a version or a release consists of, in ascending order at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Token<'a> {
    Tilde,
    End,
    Caret,
    Letters(&'a [u8]),
    Digits(&'a [u8]),
}

/// Takes the next token off the front.
fn next_token<'a>(rest: &mut &'a [u8]) -> Token<'a> {
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'~' | b'^');
    let (_, from_token) = split_run(rest, |byte| !is_token(byte));
    let (token, after) = match from_token {
        [] => (Token::End, from_token),
        [b'~', after @ ..] => (Token::Tilde, after),
        [b'^', after @ ..] => (Token::Caret, after),
        [first, ..] if first.is_ascii_digit() => {
            let (digits, after) = split_run(from_token, u8::is_ascii_digit);
            (Token::Digits(digits), after)
        }
        _ => {
            let (letters, after) = split_run(from_token, u8::is_ascii_alphabetic);
            (Token::Letters(letters), after)
        }
    };
    *rest = after;
    token
}

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (Parts::of(a), Parts::of(b));
    compare_digits(a.epoch, b.epoch).then_with(|| compare_segments(a.version, b.version)).then_with(
        || match (a.release, b.release) {
            (Some(a), Some(b)) => compare_segments(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        },
    )
}

fn compare_segments(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let order = match (next_token(&mut a), next_token(&mut b)) {
            (Token::End, Token::End) => return Ordering::Equal,
            (Token::Digits(a), Token::Digits(b)) => compare_digits(a, b),
            (a, b) => a.cmp(&b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

pub(super) fn write_key(evr: &str, out: &mut Vec<u8>) {
    let parts = Parts::of(evr);
    push_digits(parts.epoch, NumberCode::WHOLE_BYTE, out);
    push_segments(parts.version, out);
    match parts.release {
        None => out.push(NO_RELEASE),
        Some(release) => {
            out.push(RELEASE);
            push_segments(release, out);
        }
    }
}

fn push_segments(mut rest: &[u8], out: &mut Vec<u8>) {
    loop {
        match next_token(&mut rest) {
            Token::Tilde => out.push(TILDE),
            Token::Caret => out.push(CARET),
            Token::Letters(letters) => {
                out.extend_from_slice(letters);
                out.push(END_OF_LETTERS);
            }
            Token::Digits(digits) => push_digits(digits, NUMBER, out),
            Token::End => {
                out.push(END);
                return;
            }
        }
    }
}

/// What rpmbuild refuses in `Epoch`, `Version` and `Release`; reading a package back, rpm itself
/// accepts anything that is not empty.
pub(super) fn validate(evr: &str) -> Result<(), (usize, Reason)> {
    if evr.is_empty() {
        return Err((0, Reason::Empty));
    }
    let after_epoch = match evr.find(':') {
        Some(colon) => {
            validate_epoch(&evr[..colon])?;
            colon + 1
        }
        None => 0,
    };
    let (end_of_version, release) = match evr[after_epoch..].rfind('-') {
        Some(hyphen) => (after_epoch + hyphen, Some(after_epoch + hyphen + 1)),
        None => (evr.len(), None),
    };
    if end_of_version == after_epoch {
        return Err((after_epoch, Reason::VersionEmpty));
    }
    if release == Some(evr.len()) {
        return Err((evr.len(), Reason::RevisionEmpty));
    }
    let stranger = |found: char| !found.is_ascii_alphanumeric() && !"._+~^".contains(found);
    let parts = [(after_epoch, end_of_version), (release.unwrap_or(evr.len()), evr.len())];
    for (start, end) in parts {
        if let Some((offset, found)) = evr[start..end].char_indices().find(|&(_, c)| stranger(c)) {
            return Err((start + offset, Reason::Character { found }));
        }
    }
    Ok(())
}

fn validate_epoch(epoch: &str) -> Result<(), (usize, Reason)> {
    if epoch.is_empty() || !epoch.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err((0, Reason::EpochNotANumber));
    }
    match epoch.parse::<u32>() {
        Ok(_) => Ok(()),
        Err(_) => Err((0, Reason::EpochTooLarge { limit: u32::MAX })),
    }
}
