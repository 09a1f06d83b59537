//! What a device says and what it waits for, written down.
//!
//! ```text
//! # a note
//! raw "…"              bytes, with \r \n \xNN
//! prompt "R1# "        the prompt from now on
//! > COMMAND            waits for this line, which it echoes; without a terminal, the answer to it follows
//! ask "Password: "     writes this and
//! < SECRET             waits for this line, which it does not echo
//! more "--More--" "…"  writes a pager, waits for a space, erases it with the rest
//! | TEXT               a line of the answer; \xNN is a byte
//! ```

/// A part of a transcript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Write(Vec<u8>),
    Prompt(Vec<u8>),
    Command(String),
    Secret(String),
    More(Vec<u8>),
}

/// Reads a transcript.
pub(super) fn parse(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            "" | "#" => {}
            "raw" | "ask" => steps.push(Step::Write(quoted(rest).0)),
            "prompt" => steps.push(Step::Prompt(quoted(rest).0)),
            ">" => steps.push(Step::Command(rest.to_owned())),
            "<" => steps.push(Step::Secret(rest.to_owned())),
            "more" => {
                let (pager, rest) = quoted(rest);
                steps.push(Step::Write(pager));
                steps.push(Step::More(quoted(rest.trim()).0));
            }
            "|" => steps.push(Step::Write([&bytes(rest)[..], b"\r\n"].concat())),
            other => panic!("{other:?} begins no line of a transcript"),
        }
    }
    steps
}

fn quoted(text: &str) -> (Vec<u8>, &str) {
    let inner = text.strip_prefix('"').unwrap_or_else(|| panic!("{text:?} has no quote"));
    let (inner, rest) = inner.split_once('"').unwrap();
    (bytes(inner), rest)
}

fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('\\') {
        bytes.extend(before.as_bytes());
        let (byte, length) = match after.as_bytes()[0] {
            b'r' => (b'\r', 1),
            b'n' => (b'\n', 1),
            b't' => (b'\t', 1),
            b'x' => (u8::from_str_radix(&after[1..3], 16).unwrap(), 3),
            other => panic!("\\{} in a transcript", char::from(other)),
        };
        bytes.push(byte);
        rest = &after[length..];
    }
    bytes.extend(rest.as_bytes());
    bytes
}

/// A device that plays a transcript in a terminal.
pub(super) struct Player {
    steps: std::vec::IntoIter<Step>,
    waits: Option<Step>,
    prompt: Vec<u8>,
    typed: Vec<u8>,
}

impl Player {
    /// One that has not begun, and what it writes first.
    pub(super) fn begin(steps: Vec<Step>) -> (Self, Vec<u8>) {
        let mut player =
            Self { steps: steps.into_iter(), waits: None, prompt: Vec::new(), typed: Vec::new() };
        let written = player.go_on();
        (player, written)
    }

    /// What it writes to what is typed.
    pub(super) fn typed(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut written = Vec::new();
        for byte in bytes {
            match &self.waits {
                Some(Step::More(erasing)) => {
                    assert_eq!(*byte, b' ', "a pager wants a space");
                    written.extend(erasing);
                    written.extend(self.go_on());
                }
                Some(Step::Command(command)) if *byte == b'\n' => {
                    let typed = String::from_utf8(std::mem::take(&mut self.typed)).unwrap();
                    assert_eq!(typed.trim_start(), command.as_str());
                    written.extend(b"\r\n");
                    written.extend(self.go_on());
                }
                Some(Step::Secret(secret)) if *byte == b'\n' => {
                    let typed = String::from_utf8(std::mem::take(&mut self.typed)).unwrap();
                    assert_eq!(typed, *secret);
                    written.extend(b"\r\n");
                    written.extend(self.go_on());
                }
                Some(Step::Command(_)) => {
                    self.typed.push(*byte);
                    written.push(*byte);
                }
                Some(Step::Secret(_)) => self.typed.push(*byte),
                Some(Step::Write(_) | Step::Prompt(_)) | None => {
                    panic!("{:?} is typed, and nothing is waited for", char::from(*byte))
                }
            }
        }
        written
    }

    fn go_on(&mut self) -> Vec<u8> {
        let mut written = Vec::new();
        loop {
            self.waits = self.steps.next();
            match &self.waits {
                Some(Step::Write(bytes)) => written.extend(bytes),
                Some(Step::Prompt(prompt)) => self.prompt.clone_from(prompt),
                Some(Step::Command(_)) | None => {
                    written.extend(&self.prompt);
                    return written;
                }
                Some(Step::Secret(_) | Step::More(_)) => return written,
            }
        }
    }
}

/// The answers of a device that is asked without a terminal.
pub(super) fn answers(steps: &[Step]) -> Vec<(String, Vec<u8>)> {
    let mut answers: Vec<(String, Vec<u8>)> = Vec::new();
    for step in steps {
        match step {
            Step::Command(command) => answers.push((command.clone(), Vec::new())),
            Step::Write(bytes) => answers.last_mut().unwrap().1.extend(bytes),
            other => panic!("{other:?} without a terminal"),
        }
    }
    answers
}

/// The transcript of each model.
pub(super) const ALL: &[(&str, &str)] = &[
    ("eos", include_str!("transcripts/eos.txt")),
    ("fortios", include_str!("transcripts/fortios.txt")),
    ("frr", include_str!("transcripts/frr.txt")),
    ("frr-vtysh", include_str!("transcripts/frr-vtysh.txt")),
    ("ios", include_str!("transcripts/ios.txt")),
    ("junos", include_str!("transcripts/junos.txt")),
    ("nftables", include_str!("transcripts/nftables.txt")),
    ("nxos", include_str!("transcripts/nxos.txt")),
    ("routeros", include_str!("transcripts/routeros.txt")),
    ("vrp", include_str!("transcripts/vrp.txt")),
    ("vyos", include_str!("transcripts/vyos.txt")),
];
