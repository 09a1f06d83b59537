//! Packets of git's protocol: four hexadecimal digits of length, and what follows (`gitprotocol-common`).

use crate::error::SourceError;

/// Largest packet, with its length.
const LARGEST: usize = 65_520;

/// A packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    Data(&'a [u8]),
    Flush,
}

/// The packets of a text, one after another.
pub(super) struct Packets<'a>(pub(super) &'a [u8]);

impl<'a> Packets<'a> {
    /// The next one, `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Packet<'a>>, SourceError> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let length = length(self.0)?.ok_or_else(cut)?;
        if length == 0 {
            self.0 = &self.0[4..];
            return Ok(Some(Packet::Flush));
        }
        let data = self.0.get(4..length).ok_or_else(cut)?;
        self.0 = &self.0[length..];
        Ok(Some(Packet::Data(data)))
    }
}

/// The length that a text begins with, with its own four digits; `None` where there are not as many yet.
pub(super) fn length(text: &[u8]) -> Result<Option<usize>, SourceError> {
    let Some(digits) = text.get(..4) else { return Ok(None) };
    let is_digits = digits.iter().all(u8::is_ascii_hexdigit);
    let digits = str::from_utf8(digits).ok().filter(|_| is_digits);
    let length = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    match length {
        Some(length @ (0 | 4..=LARGEST)) => Ok(Some(length)),
        _ => Err(SourceError::malformed("a packet has no length")),
    }
}

/// Whether a text has a packet that ends a part; how long it is until then.
pub(super) fn first_flush(text: &[u8], from: usize) -> Result<(usize, bool), SourceError> {
    let mut at = from;
    while let Some(length) = length(&text[at.min(text.len())..])? {
        if length == 0 {
            return Ok((at + 4, true));
        }
        if at + length > text.len() {
            break;
        }
        at += length;
    }
    Ok((at, false))
}

fn cut() -> SourceError {
    SourceError::malformed("a packet breaks off")
}

/// Writes a packet with a line.
pub(super) fn line(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{:04x}{text}\n", text.len() + 5).as_bytes());
}

/// Writes the packet that ends a part.
pub(super) fn flush(out: &mut Vec<u8>) {
    out.extend_from_slice(b"0000");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_read_as_they_were_written() {
        let mut text = Vec::new();
        line("want x", &mut text);
        flush(&mut text);
        line("done", &mut text);
        assert_eq!(text, b"000bwant x\n00000009done\n");
        let mut packets = Packets(&text);
        assert_eq!(packets.next().unwrap(), Some(Packet::Data(b"want x\n")));
        assert_eq!(packets.next().unwrap(), Some(Packet::Flush));
        assert_eq!(packets.next().unwrap(), Some(Packet::Data(b"done\n")));
        assert_eq!(packets.next().unwrap(), None);
        assert_eq!(first_flush(&text, 0).unwrap(), (15, true));
        assert_eq!(first_flush(&text[..13], 0).unwrap(), (11, false));
        assert_eq!(first_flush(&text[..2], 0).unwrap(), (0, false));
    }

    #[test]
    fn what_is_no_packet_is_refused() {
        for text in [&b"000"[..], b"0003", b"0001", b"zzzz", b"+005x", b"fff1", b"0009don"] {
            assert!(Packets(text).next().is_err(), "{text:?}");
        }
    }
}
