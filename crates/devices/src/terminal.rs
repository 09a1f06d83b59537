//! What a device writes to a terminal, as the lines that somebody before it would read.
//!
//! Devices draw: they erase pagers with backspaces, repeat prompts after a carriage return, colour words. Of all
//! that only what moves or erases within the line has an effect; every other control character is left out.

use std::mem;

use zeroize::Zeroize as _;

/// Furthest column that something moves to.
const WIDEST: usize = 512;

/// Longest control sequence; what is longer is none.
const LONGEST_SEQUENCE: usize = 64;

/// Stands where a pager was, until the device erases it.
const ERASED: u8 = 0;

/// A terminal of endless height, whose finished lines are taken out.
#[derive(Debug, Default)]
pub(crate) struct Terminal {
    /// Finished lines, each with its line break.
    text: Vec<u8>,
    /// The line that is being written.
    line: Vec<u8>,
    cursor: usize,
    state: State,
    /// Whether a pager was in this line.
    is_paged: bool,
    /// Bytes since the text was taken last, whatever came of them.
    received: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Ground,
    Escape,
    /// One more byte belongs to it.
    Charset,
    /// `ESC [`, its parameters.
    Sequence(Vec<u8>),
    /// `ESC ]` and the like: to the bell or `ESC \`.
    Text {
        length: usize,
        is_escaped: bool,
    },
}

impl Terminal {
    /// Takes in what came.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.received = self.received.saturating_add(bytes.len());
        for byte in bytes {
            self.byte(*byte);
        }
    }

    /// How much came since the text was taken, or what was made of it, where that is more.
    pub(crate) fn size(&self) -> usize {
        self.received.max(self.text.len() + self.line.len())
    }

    /// The line that is not finished, as it is seen.
    pub(crate) fn last_line(&self) -> String {
        decoded(&self.line)
    }

    /// The pager in the last line was answered: it does not belong to the text.
    pub(crate) fn answered(&mut self) {
        self.line.fill(ERASED);
        self.is_paged = true;
    }

    /// The finished lines; what follows begins with nothing.
    pub(crate) fn take(&mut self) -> String {
        let mut text = mem::take(&mut self.text);
        self.line.zeroize();
        (self.cursor, self.received, self.is_paged) = (0, 0, false);
        let lines = decoded_lines(&text);
        text.zeroize();
        lines
    }

    /// The finished lines, and the last one where there is one.
    pub(crate) fn take_all(&mut self) -> String {
        if !self.line.is_empty() {
            self.finish();
        }
        self.take()
    }

    fn byte(&mut self, byte: u8) {
        match mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Escape => {
                self.state = match byte {
                    b'[' => State::Sequence(Vec::new()),
                    b']' | b'P' | b'X' | b'^' | b'_' => {
                        State::Text { length: 0, is_escaped: false }
                    }
                    b'(' | b')' | b'*' | b'+' | b'#' | b'%' => State::Charset,
                    0x1b => State::Escape,
                    _ => State::Ground,
                };
            }
            State::Charset => {}
            State::Sequence(mut parameters) => match byte {
                0x20..=0x3f if parameters.len() < LONGEST_SEQUENCE => {
                    parameters.push(byte);
                    self.state = State::Sequence(parameters);
                }
                0x40..=0x7e => self.sequence(byte, &parameters),
                0x1b => self.state = State::Escape,
                // What breaks off is no sequence; a line break stays one.
                b'\n' | b'\r' => self.ground(byte),
                _ => {}
            },
            State::Text { length, is_escaped } => {
                let is_end = byte == 0x07 || (is_escaped && byte == b'\\');
                if !is_end && length < LONGEST_SEQUENCE * 16 {
                    self.state = State::Text { length: length + 1, is_escaped: byte == 0x1b };
                }
            }
        }
    }

    fn ground(&mut self, byte: u8) {
        match byte {
            b'\n' => self.finish(),
            b'\r' => self.cursor = 0,
            0x08 => self.cursor = self.cursor.saturating_sub(1),
            0x1b => self.state = State::Escape,
            b'\t' | 0x20..=0x7e | 0x80.. => self.put(byte),
            _ => {}
        }
    }

    fn put(&mut self, byte: u8) {
        if let Some(there) = self.line.get_mut(self.cursor) {
            *there = byte;
        } else {
            self.line.resize(self.cursor, b' ');
            self.line.push(byte);
        }
        self.cursor += 1;
    }

    fn finish(&mut self) {
        let mut line = mem::take(&mut self.line);
        let was_left = self.is_paged && self.cursor >= line.len() && line.contains(&ERASED);
        self.cursor = 0;
        if mem::take(&mut self.is_paged) {
            line.retain(|byte| *byte != ERASED);
            let end = line.iter().rposition(|byte| *byte != b' ').map_or(0, |at| at + 1);
            line.truncate(end);
            // The pager had a line to itself, which was never erased.
            if line.is_empty() && was_left {
                return;
            }
        }
        self.text.append(&mut line);
        self.text.push(b'\n');
    }

    fn sequence(&mut self, last: u8, parameters: &[u8]) {
        let text = str::from_utf8(parameters).unwrap_or_default();
        let number = text.split(';').next().and_then(|it| it.parse::<usize>().ok());
        let times = number.unwrap_or(1).clamp(1, WIDEST);
        let to = match last {
            b'D' => self.cursor.saturating_sub(times),
            b'C' => self.cursor.saturating_add(times).min(WIDEST.max(self.cursor)),
            b'G' => times - 1,
            b'K' | b'J' => return self.erase(number.unwrap_or(0)),
            _ => return,
        };
        self.cursor = to;
    }

    fn erase(&mut self, which: usize) {
        match which {
            0 => self.line.truncate(self.cursor),
            1 => {
                let end = self.line.len().min(self.cursor.saturating_add(1));
                self.line[..end].fill(b' ');
            }
            _ => self.line.clear(),
        }
    }
}

/// Holds configurations with their secrets.
impl Drop for Terminal {
    fn drop(&mut self) {
        self.text.zeroize();
        self.line.zeroize();
    }
}

fn decoded_lines(text: &[u8]) -> String {
    let mut decoded_text = String::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        decoded_text.push_str(&decoded(line));
        decoded_text.push('\n');
    }
    decoded_text
}

/// A line of what is no UTF-8 is ISO 8859-1, in which each byte is a letter: so each line stays another one.
fn decoded(line: &[u8]) -> String {
    let text = match str::from_utf8(line) {
        Ok(text) => text.to_owned(),
        Err(_) => line.iter().map(|byte| char::from(*byte)).collect(),
    };
    if text.chars().any(is_odd) { text.chars().filter(|it| !is_odd(*it)).collect() } else { text }
}

fn is_odd(letter: char) -> bool {
    letter.is_control() && letter != '\t'
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> String {
        let mut terminal = Terminal::default();
        terminal.feed(bytes);
        terminal.take_all()
    }

    #[test]
    fn lines_are_as_somebody_reads_them() {
        for (bytes, expected) in [
            (&b"a\r\nb\n"[..], "a\nb\n"),
            (b"abc\rx\n", "xbc\n"),
            (b"abx\x08c\n", "abc\n"),
            (b"\x1b[1;31mred\x1b[0m\n", "red\n"),
            (b"abc\x1b[2D\x1b[Kx\n", "ax\n"),
            (b"old\x1b[2K\rnew\n", "new\n"),
            (b"\x1b]0;title\x07text\n", "text\n"),
            (b"\x1b]0;title\x1b\\text\n", "text\n"),
            (b"\x1b(Btext\x07\x00\n", "text\n"),
            (b"a\tb\n", "a\tb\n"),
            ("Zürich\n".as_bytes(), "Zürich\n"),
            (b"Z\xfcrich\n", "Zürich\n"),
            ("a\u{9b}31mb\n".as_bytes(), "a31mb\n"),
            (b"\x1b[999999999999999999999Cx\n", " x\n"),
            (b"end", "end\n"),
            (b"\n\n", "\n\n"),
        ] {
            assert_eq!(read(bytes), expected, "{:?}", String::from_utf8_lossy(bytes));
        }
    }

    /// As Cisco, Fortinet, Huawei erase what they asked; and as who only goes on below.
    #[test]
    fn of_a_pager_nothing_is_left() {
        for erasing in [
            &b"\x08\x08\x08\x08\x08\x08\x08\x08\x08        \x08\x08\x08\x08\x08\x08\x08\x08\x08"[..],
            b"\r         \r",
            b"\x1b[9D         \x1b[9D",
            b"\r\x1b[K",
            b"\n",
        ] {
            let mut terminal = Terminal::default();
            terminal.feed(b"one\r\n--More-- ");
            assert_eq!(terminal.last_line(), "--More-- ");
            terminal.answered();
            terminal.feed(erasing);
            terminal.feed(b"t\r\n\r\nthree\r\n");
            assert_eq!(terminal.take(), "one\nt\n\nthree\n", "{erasing:?}");
        }
    }

    proptest! {
        /// However it is split, the same comes out, and never more than went in and the widest line.
        #[test]
        fn pieces_make_no_difference(
            pieces in prop::collection::vec(prop::collection::vec(
                prop_oneof![
                    any::<u8>(), Just(b'\n'), Just(0x1b), Just(b'['), Just(b'D'), Just(b'K'),
                ], 0..40), 0..12),
        ) {
            let whole: Vec<u8> = pieces.concat();
            let mut terminal = Terminal::default();
            for piece in &pieces {
                terminal.feed(piece);
            }
            prop_assert!(terminal.size() >= whole.len());
            let text = terminal.take_all();
            prop_assert_eq!(&text, &read(&whole));
            prop_assert!(text.chars().all(|it| it == '\n' || !is_odd(it)));
            prop_assert!(text.len() <= 2 * whole.len() + WIDEST * (1 + whole.len() / 4));
        }
    }
}
