//! Byte keys whose `memcmp` order is a version order.
//!
//! The orders share the encoding of numbers ([`push_number`], [`push_digits`]): equal numbers
//! give equal bytes, smaller numbers give smaller bytes, and no number's bytes are a prefix of
//! another's, so whatever follows decides only between equal numbers.
//!
//! | value | bytes above the order's `base` |
//! |---|---|
//! | 0 ..= `small` - 1 | one byte: the value |
//! | to 2⁶⁴ - 1 | `small + n - 1`, then the `n` (1..=8) significant bytes, big-endian |
//! | beyond | `small + 8`, the count of decimal digits (8 bytes, big-endian), then the digits |

use std::borrow::Borrow;

/// An order-preserving key, made by [`VersionKind::key`](super::VersionKind::key).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionKey(Box<[u8]>);

impl VersionKey {
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }

    /// The bytes; their lexicographic order is the version order.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A key whose bytes were written by [`VersionKind::write_key`](super::VersionKind::write_key).
impl From<&[u8]> for VersionKey {
    fn from(written: &[u8]) -> Self {
        Self(written.into())
    }
}

impl Borrow<[u8]> for VersionKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Where in the byte range an order places its numbers.
///
/// Uses the bytes `base ..= base + small + 8`.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberCode {
    /// First byte of zero.
    pub(super) base: u8,
    /// How many numbers take a single byte.
    pub(super) small: u8,
}

impl NumberCode {
    /// Numbers may start with any byte.
    pub(super) const WHOLE_BYTE: Self = Self { base: 0, small: 247 };
}

/// Appends a number below 2⁶⁴.
pub(super) fn push_number(value: u64, code: NumberCode, out: &mut Vec<u8>) {
    if let Ok(byte) = u8::try_from(value)
        && byte < code.small
    {
        out.push(code.base + byte);
        return;
    }
    let bytes = value.to_be_bytes();
    let leading_zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
    let significant = &bytes[leading_zeros..];
    out.push(code.base + code.small - 1 + u8::try_from(significant.len()).unwrap_or(8));
    out.extend_from_slice(significant);
}

/// Appends a number of any size, written in ASCII digits; none at all are zero.
pub(super) fn push_digits(digits: &[u8], code: NumberCode, out: &mut Vec<u8>) {
    // Two digits are below every `small`, and nearly all numbers in versions.
    match *digits {
        [units] => return out.push(code.base + (units - b'0')),
        [tens, units] => return out.push(code.base + (tens - b'0') * 10 + (units - b'0')),
        _ => {}
    }
    let digits = without_leading_zeros(digits);
    if let Some(value) = small_number(digits) {
        push_number(value, code, out);
    } else {
        out.push(code.base + code.small + 8);
        out.extend_from_slice(&(digits.len() as u64).to_be_bytes());
        out.extend_from_slice(digits);
    }
}

/// The value of ASCII digits, where it is below 2⁶⁴.
fn small_number(digits: &[u8]) -> Option<u64> {
    digits
        .iter()
        .try_fold(0_u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Orders two numbers of any size, written in ASCII digits; none at all are zero.
pub(super) fn compare_digits(a: &[u8], b: &[u8]) -> std::cmp::Ordering {
    let (a, b) = (without_leading_zeros(a), without_leading_zeros(b));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

fn without_leading_zeros(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    &digits[zeros..]
}

/// Splits after the longest run of bytes that satisfy `belongs`.
pub(super) fn split_run(bytes: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|&byte| belongs(byte)).count())
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use super::*;

    fn bytes_of(digits: &str, code: NumberCode) -> Vec<u8> {
        let mut out = Vec::new();
        push_digits(digits.as_bytes(), code, &mut out);
        out
    }

    #[test]
    fn numbers_keep_their_order_and_none_is_a_prefix_of_another() {
        let codes = [NumberCode::WHOLE_BYTE, NumberCode { base: 0x7f, small: 120 }];
        let ascending = [
            "0",
            "1",
            "119",
            "120",
            "246",
            "247",
            "255",
            "256",
            "65535",
            "65536",
            "18446744073709551615",
            "18446744073709551616",
            "99999999999999999999",
            "100000000000000000000",
        ];
        for code in codes {
            for (i, a) in ascending.iter().enumerate() {
                for (j, b) in ascending.iter().enumerate() {
                    let (key_a, key_b) = (bytes_of(a, code), bytes_of(b, code));
                    assert_eq!(key_a.cmp(&key_b), i.cmp(&j), "{a} and {b}");
                    assert_eq!(compare_digits(a.as_bytes(), b.as_bytes()), i.cmp(&j));
                    assert!(i == j || !key_b.starts_with(&key_a), "{a} begins {b}");
                }
            }
        }
    }

    #[test]
    fn leading_zeros_and_absence_do_not_count() {
        let code = NumberCode::WHOLE_BYTE;

        assert_eq!(bytes_of("007", code), bytes_of("7", code));
        assert_eq!(bytes_of("", code), bytes_of("000", code));
        assert_eq!(
            bytes_of("000018446744073709551616", code),
            bytes_of("18446744073709551616", code)
        );
        assert_eq!(compare_digits(b"", b"00"), Ordering::Equal);
    }
}
