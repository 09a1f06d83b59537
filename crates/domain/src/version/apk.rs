//! The order of apk-tools 3.
//!
//! `digits{.digits}{letter}{_suffix{number}}{~hash}{-rN}`, read as tokens. Two versions compare
//! token by token; the first that differs decides:
//!
//! - of the same kind, by value: the first digits, suffix numbers and `-rN` as numbers; later
//!   digits as numbers too, but as text once one of them begins with `0` (`1.10` > `1.9`, but
//!   `1.010` < `1.09`); letters and hashes as text; suffixes as
//!   `_alpha` < `_beta` < `_pre` < `_rc` < none < `_cvs` < `_svn` < `_git` < `_hg` < `_p`;
//! - of different kinds, the kind: pre-release suffix < invalid < end < `-rN` < `~hash` < suffix
//!   number < suffix < letter < digits.
//!
//! What breaks the grammar is one token, *invalid*, which ends the comparison. apk computes with
//! 64 bits and wraps; so do we, for the answers must be apk's.
//!
//! In one case we say more than apk-tools 3: where the grammar breaks at the same place in both
//! versions, apk calls them equal, and we order what remains (digits as numbers, the rest as
//! text). Alpine shipped such versions while apk-tools 2 took them (sudo `1.9.5p1` < `1.9.5p2`),
//! and calling them equal would hide a fix. What remains from `-` on stays out of it, as in both.
//!
//! # Key layout
//!
//! Each token is a byte for its kind, in the order above, and its value: a number; a letter;
//! a suffix needs none; later digits are [`AS_TEXT`], the text, [`END_OF_TEXT`] where they begin
//! with `0`, else [`AS_NUMBER`] and the number; a hash is its text and [`END_OF_TEXT`]; the
//! remains of an invalid version are [`DIGITS`] and the number for digits, each other byte plus
//! one, and [`END_OF_TEXT`].

use std::cmp::Ordering;

use super::invalid::InvalidVersionReason as Reason;
use super::key::{NumberCode, compare_digits, push_digits, push_number, split_run};

const END_OF_TEXT: u8 = 0;
const AS_TEXT: u8 = 0;
const AS_NUMBER: u8 = 1;
/// Where the digits stand among the other bytes of what remains.
const DIGITS: u8 = b'0' + 1;

/// What a suffix says about the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Suffix {
    Alpha,
    Beta,
    Pre,
    Rc,
    Cvs,
    Svn,
    Git,
    Hg,
    P,
}

impl Suffix {
    fn named(name: &[u8]) -> Option<Self> {
        Some(match name {
            b"alpha" => Self::Alpha,
            b"beta" => Self::Beta,
            b"pre" => Self::Pre,
            b"rc" => Self::Rc,
            b"cvs" => Self::Cvs,
            b"svn" => Self::Svn,
            b"git" => Self::Git,
            b"hg" => Self::Hg,
            b"p" => Self::P,
            _ => return None,
        })
    }

    fn is_pre_release(self) -> bool {
        self <= Self::Rc
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token<'a> {
    FirstDigits(u64),
    Digits { text: &'a [u8], number: u64 },
    Letter(u8),
    Suffix(Suffix),
    SuffixNumber(u64),
    Hash(&'a [u8]),
    Revision(u64),
    End,
    Invalid { reason: Reason, remains: &'a [u8] },
}

impl Token<'_> {
    /// Place among the kinds of token; the first byte in the key.
    fn rank(self) -> u8 {
        match self {
            Self::Suffix(suffix) if suffix.is_pre_release() => suffix as u8,
            Self::Invalid { .. } => 4,
            Self::End => 5,
            Self::Revision(_) => 6,
            Self::Hash(_) => 7,
            Self::SuffixNumber(_) => 8,
            Self::Suffix(suffix) => 9 + suffix as u8,
            Self::Letter(_) => 20,
            Self::Digits { .. } => 21,
            Self::FirstDigits(_) => 22,
        }
    }

    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::FirstDigits(a), Self::FirstDigits(b))
            | (Self::SuffixNumber(a), Self::SuffixNumber(b))
            | (Self::Revision(a), Self::Revision(b)) => a.cmp(&b),
            (Self::Digits { text: a, number: m }, Self::Digits { text: b, number: n }) => {
                if a.starts_with(b"0") || b.starts_with(b"0") { a.cmp(b) } else { m.cmp(&n) }
            }
            (Self::Letter(a), Self::Letter(b)) => a.cmp(&b),
            (Self::Hash(a), Self::Hash(b)) => a.cmp(b),
            (Self::Invalid { remains: a, .. }, Self::Invalid { remains: b, .. }) => {
                compare_remains(a, b)
            }
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn is_last(self) -> bool {
        matches!(self, Self::End | Self::Invalid { .. })
    }
}

/// Reads tokens; which may follow depends on the one before.
struct Tokens<'a> {
    rest: &'a [u8],
    previous: Option<Token<'a>>,
}

impl<'a> Tokens<'a> {
    fn of(version: &'a str) -> Self {
        Self { rest: version.as_bytes(), previous: None }
    }

    /// The next token; after the last one there is nothing to ask for.
    fn next(&mut self) -> Token<'a> {
        let token = self.read().unwrap_or_else(|reason| {
            let is_revision =
                self.rest.starts_with(b"-") || matches!(self.previous, Some(Token::Revision(_)));
            let remains = if is_revision { &[] } else { self.rest };
            Token::Invalid { reason, remains }
        });
        self.previous = Some(token);
        token
    }

    fn read(&mut self) -> Result<Token<'a>, Reason> {
        let Some(previous) = self.previous else {
            return Ok(Token::FirstDigits(self.digits()?.1));
        };
        let in_digits = matches!(previous, Token::FirstDigits(_) | Token::Digits { .. });
        let before_suffix = in_digits
            || matches!(previous, Token::Letter(_) | Token::Suffix(_) | Token::SuffixNumber(_));
        let Some((&first, after)) = self.rest.split_first() else {
            return Ok(Token::End);
        };
        match first {
            b'a'..=b'z' if in_digits => {
                self.rest = after;
                Ok(Token::Letter(first))
            }
            b'.' if in_digits => {
                self.rest = after;
                let (text, number) = self.digits()?;
                Ok(Token::Digits { text, number })
            }
            b'0'..=b'9' if matches!(previous, Token::Suffix(_)) => {
                Ok(Token::SuffixNumber(self.digits()?.1))
            }
            b'_' if before_suffix => {
                let (name, rest) = split_run(after, u8::is_ascii_lowercase);
                let suffix = Suffix::named(name).ok_or(Reason::UnknownSuffix)?;
                self.rest = rest;
                Ok(Token::Suffix(suffix))
            }
            b'~' if before_suffix => {
                let (hash, rest) =
                    split_run(after, |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if hash.is_empty() {
                    return Err(Reason::HashExpected);
                }
                self.rest = rest;
                Ok(Token::Hash(hash))
            }
            b'-' if !matches!(previous, Token::Revision(_)) && after.starts_with(b"r") => {
                let number_at = &after[1..];
                let has_number = number_at.first().is_some_and(u8::is_ascii_digit);
                if !has_number {
                    return Err(Reason::RevisionNumberExpected);
                }
                self.rest = number_at;
                Ok(Token::Revision(self.digits()?.1))
            }
            _ => Err(Reason::Character { found: self.first_char() }),
        }
    }

    /// A run of at least one digit, with its value modulo 2⁶⁴.
    fn digits(&mut self) -> Result<(&'a [u8], u64), Reason> {
        let (digits, rest) = split_run(self.rest, u8::is_ascii_digit);
        if digits.is_empty() {
            return Err(Reason::DigitExpected);
        }
        self.rest = rest;
        let value = digits.iter().fold(0_u64, |value, digit| {
            value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
        });
        Ok((digits, value))
    }

    fn first_char(&self) -> char {
        let valid = str::from_utf8(self.rest).ok();
        valid.and_then(|rest| rest.chars().next()).unwrap_or(char::REPLACEMENT_CHARACTER)
    }
}

pub(super) fn compare(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (Tokens::of(a), Tokens::of(b));
    loop {
        let (token_a, token_b) = (a.next(), b.next());
        let order = token_a.compare(token_b);
        if order != Ordering::Equal || token_a.is_last() {
            return order;
        }
    }
}

fn compare_remains(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        let (text_a, rest_a) = split_run(a, |byte| !byte.is_ascii_digit());
        let (text_b, rest_b) = split_run(b, |byte| !byte.is_ascii_digit());
        // Text ends where a digit or nothing follows, which decides if the text does not.
        let end_of = |rest: &[u8]| if rest.is_empty() { 0 } else { DIGITS };
        let texts = text_a.iter().map(|byte| byte + 1).chain([end_of(rest_a)]);
        let text = texts.cmp(text_b.iter().map(|byte| byte + 1).chain([end_of(rest_b)]));
        if text != Ordering::Equal || rest_a.is_empty() {
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
}

fn push_remains(mut remains: &[u8], out: &mut Vec<u8>) {
    loop {
        let (text, rest) = split_run(remains, |byte| !byte.is_ascii_digit());
        // UTF-8 has no byte 0xff, so one more never overflows.
        out.extend(text.iter().map(|byte| byte + 1));
        if rest.is_empty() {
            return out.push(END_OF_TEXT);
        }
        let (digits, rest) = split_run(rest, u8::is_ascii_digit);
        out.push(DIGITS);
        push_digits(digits, NumberCode::WHOLE_BYTE, out);
        remains = rest;
    }
}

pub(super) fn write_key(version: &str, out: &mut Vec<u8>) {
    let mut tokens = Tokens::of(version);
    loop {
        let token = tokens.next();
        out.push(token.rank());
        match token {
            Token::FirstDigits(number) | Token::SuffixNumber(number) | Token::Revision(number) => {
                push_number(number, NumberCode::WHOLE_BYTE, out);
            }
            Token::Digits { text, .. } if text.starts_with(b"0") => {
                out.push(AS_TEXT);
                out.extend_from_slice(text);
                out.push(END_OF_TEXT);
            }
            Token::Digits { number, .. } => {
                out.push(AS_NUMBER);
                push_number(number, NumberCode::WHOLE_BYTE, out);
            }
            Token::Letter(letter) => out.push(letter),
            Token::Hash(text) => {
                out.extend_from_slice(text);
                out.push(END_OF_TEXT);
            }
            Token::Suffix(_) => {}
            Token::Invalid { remains, .. } => return push_remains(remains, out),
            Token::End => return,
        }
    }
}

/// What `apk version --check` refuses.
pub(super) fn validate(version: &str) -> Result<(), (usize, Reason)> {
    if version.is_empty() {
        return Err((0, Reason::Empty));
    }
    let mut tokens = Tokens::of(version);
    loop {
        match tokens.next() {
            Token::End => return Ok(()),
            Token::Invalid { reason, .. } => {
                return Err((version.len() - tokens.rest.len(), reason));
            }
            _ => {}
        }
    }
}
