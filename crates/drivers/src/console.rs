//! What a console tells: a kernel's release, a login prompt, or why there will be none.
//!
//! The words come from the image, so they are only ever compared, never believed further than
//! that: an image that prints a prompt of its own deceives nobody but its owner.

use std::collections::VecDeque;

/// What is kept for reports.
const MAX_TAIL: usize = 16 << 10;
/// Longest line that is looked at; a longer one goes on as the next.
const MAX_LINE: usize = 4 << 10;
/// uname(2) has room for 64 bytes.
const MAX_RELEASE: usize = 64;

/// Where a system stopped on its way up and waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Halt {
    /// The firmware found nothing to boot.
    Firmware,
    /// The boot loader waits at its prompt.
    BootLoader,
    /// The initial RAM filesystem gave up finding the root.
    InitialRamFilesystem,
    /// systemd went into its emergency mode.
    EmergencyMode,
}

impl Halt {
    /// Where that is, as the rest of a sentence.
    pub const fn place(self) -> &'static str {
        match self {
            Self::Firmware => "in the firmware, which found nothing to boot",
            Self::BootLoader => "at the boot loader's prompt",
            Self::InitialRamFilesystem => "in the initial RAM filesystem's shell",
            Self::EmergencyMode => "in systemd's emergency mode",
        }
    }
}

/// All that one machine's console printed, reduced to what matters.
#[derive(Debug, Default)]
pub(crate) struct Transcript {
    tail: VecDeque<u8>,
    line: Vec<u8>,
    kernel: Option<String>,
    panic: Option<String>,
    halt: Option<Halt>,
    login: bool,
    system_spoke: bool,
}

impl Transcript {
    /// Takes what came next.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.tail.extend(bytes);
        let surplus = self.tail.len().saturating_sub(MAX_TAIL);
        self.tail.drain(..surplus);
        for &byte in bytes {
            if byte == b'\n' || self.line.len() == MAX_LINE {
                self.consider(Line::Whole);
                self.line.clear();
            }
            if byte != b'\n' {
                self.line.push(byte);
            }
        }
        // A prompt is a line that does not end.
        self.consider(Line::SoFar);
    }

    /// The release in the kernel's first words.
    pub(crate) fn kernel(&self) -> Option<&str> {
        self.kernel.as_deref()
    }

    /// The kernel's last words.
    pub(crate) fn panic(&self) -> Option<&str> {
        self.panic.as_deref()
    }

    /// Where it stopped, if it does not go on.
    pub(crate) fn halt(&self) -> Option<Halt> {
        self.halt
    }

    /// Whether it asks who logs in.
    pub(crate) fn asks_for_login(&self) -> bool {
        self.login
    }

    /// Whether kernel or init were heard at all; firmware and boot loaders do not count.
    pub(crate) fn system_spoke(&self) -> bool {
        self.system_spoke
    }

    /// The end of it, readable.
    pub(crate) fn tail(&self) -> String {
        let bytes: Vec<u8> = self.tail.iter().copied().collect();
        plain(&bytes)
    }

    fn consider(&mut self, extent: Line) {
        let line = plain(&self.line);
        let line = line.trim();
        if line.is_empty() {
            return;
        }
        let stamped = stamped(line);
        let message = stamped.unwrap_or(line);
        if extent == Line::Whole {
            self.take_kernels_words(message);
        }
        self.system_spoke |= stamped.is_some() || is_of_the_system(line);
        self.login |= is_login_prompt(line);
        if self.halt.is_none() {
            self.halt = halt(line);
        }
    }

    /// The first of each counts: whoever prints it again is not the kernel.
    fn take_kernels_words(&mut self, message: &str) {
        if let Some(banner) = message.strip_prefix("Linux version ") {
            let release = banner.split_whitespace().next().filter(|release| is_release(release));
            self.kernel = self.kernel.take().or_else(|| release.map(str::to_owned));
        }
        if message.starts_with("Kernel panic - not syncing") && self.panic.is_none() {
            self.panic = Some(message.chars().take(200).collect());
        }
    }
}

/// How much of a line is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    Whole,
    SoFar,
}

/// Whether this can be a kernel's release: `6.1.0-32-amd64`.
pub(crate) fn is_release(text: &str) -> bool {
    let is_release_like = |c: char| c.is_ascii_alphanumeric() || "._+-~".contains(c);
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.len() <= MAX_RELEASE
        && text.chars().all(is_release_like)
}

/// What follows the kernel's time: `[    0.000000] Linux version …`.
fn stamped(line: &str) -> Option<&str> {
    let (time, message) = line.strip_prefix('[')?.split_once("] ")?;
    let (seconds, fraction) = time.trim_start().split_once('.')?;
    let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    (is_number(seconds) && is_number(fraction)).then_some(message)
}

fn is_of_the_system(line: &str) -> bool {
    const SIGNS: [&str; 6] =
        ["Linux version ", "[  OK  ]", "[FAILED]", "[DEPEND]", "Begin: ", "systemd["];
    SIGNS.iter().any(|sign| line.starts_with(sign))
}

/// getty's: the host's name, if it is told, and the question. Kernel's words may come behind it.
fn is_login_prompt(line: &str) -> bool {
    let mut words = line.split_whitespace();
    let is_name = |word: &str| word.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c));
    match words.next() {
        Some("login:") => true,
        Some(name) if is_name(name) => words.next() == Some("login:"),
        _ => false,
    }
}

fn halt(line: &str) -> Option<Halt> {
    // SeaBIOS, OVMF; GRUB; initramfs-tools; systemd (`emergency.service`).
    const WORDS: [(&str, Halt); 8] = [
        ("No bootable device", Halt::Firmware),
        ("UEFI Interactive Shell", Halt::Firmware),
        ("Shell>", Halt::Firmware),
        ("grub>", Halt::BootLoader),
        ("grub rescue>", Halt::BootLoader),
        ("(initramfs)", Halt::InitialRamFilesystem),
        ("You are in emergency mode", Halt::EmergencyMode),
        ("Cannot open access to console, the root account is locked", Halt::EmergencyMode),
    ];
    WORDS.iter().find(|(words, _)| line.starts_with(words)).map(|(_, halt)| *halt)
}

/// Without what only a terminal needs: escape sequences (ECMA-48 §5.4) and control characters.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' if characters.next_if_eq(&'[').is_some() => {
                while characters.next_if(|&c| !('@'..='~').contains(&c)).is_some() {}
                characters.next();
            }
            '\n' | '\t' => plain.push(character),
            _ if character.is_control() => {}
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Transcript {
        let mut transcript = Transcript::default();
        // In pieces, as it comes.
        for piece in text.as_bytes().chunks(7) {
            transcript.hear(piece);
        }
        transcript
    }

    #[test]
    fn a_boot_tells_its_kernel_and_ends_at_the_prompt() {
        let transcript = heard(
            "\u{1b}[2J\u{1b}[01;01HBdsDxe: starting Boot0001\r\n\
             [    0.000000] Linux version 6.1.0-32-amd64 (debian-kernel@lists) (gcc-12)\r\n\
             [\u{1b}[0;32m  OK  \u{1b}[0m] Reached target basic.target.\r\n\r\n\
             Debian GNU/Linux 12 web-1 ttyS0\r\n\r\nweb-1 login: ",
        );

        assert_eq!(transcript.kernel(), Some("6.1.0-32-amd64"));
        assert!(transcript.asks_for_login());
        assert!(transcript.system_spoke());
        assert_eq!((transcript.panic(), transcript.halt()), (None, None));
        assert!(transcript.tail().contains("[  OK  ] Reached target"));
    }

    #[test]
    fn late_words_of_the_kernel_do_not_hide_the_prompt() {
        assert!(heard("web-1 login: [   25.1] random: crng init done\n").asks_for_login());
        assert!(heard("login:").asks_for_login());
        assert!(!heard("[    3.1] systemd[1]: Starting User login: Management").asks_for_login());
        assert!(!heard("Last login: Tue\n").system_spoke());
    }

    #[test]
    fn a_panic_is_heard() {
        let transcript = heard(
            "[    2.0] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\n\
             [    2.1] CPU: 0 PID: 1 Comm: swapper/0\n",
        );
        assert!(transcript.panic().unwrap().ends_with("unknown-block(0,0)"));
    }

    #[test]
    fn whoever_waits_for_a_person_has_stopped() {
        for (text, halt) in [
            ("Booting from Hard Disk...\nNo bootable device.\n", Halt::Firmware),
            (
                "error: no such device: root.\nEntering rescue mode...\ngrub rescue> ",
                Halt::BootLoader,
            ),
            ("\u{1b}[0;37m\u{1b}[40mgrub> ", Halt::BootLoader),
            (
                "ALERT! does not exist. Dropping to a shell!\n(initramfs) ",
                Halt::InitialRamFilesystem,
            ),
            ("You are in emergency mode. After logging in, type\n", Halt::EmergencyMode),
        ] {
            assert_eq!(heard(text).halt(), Some(halt), "{text}");
        }
    }

    #[test]
    fn firmware_and_boot_loader_are_not_the_system() {
        let transcript = heard(
            "BdsDxe: loading Boot0001 \"UEFI Misc Device\"\nWelcome to GRUB!\n\
             Booting `Debian'\nEFI stub: Loaded initrd from LINUX_EFI_INITRD_MEDIA_GUID\n",
        );
        assert!(!transcript.system_spoke());
    }

    #[test]
    fn a_console_that_prints_for_ever_fills_nothing() {
        let transcript = heard(&"x".repeat(100_000));
        assert_eq!(transcript.tail().len(), MAX_TAIL);
        assert!(transcript.line.len() <= MAX_LINE);
    }

    proptest::proptest! {
        #[test]
        fn no_console_is_too_strange(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..3000)) {
            let mut transcript = Transcript::default();
            transcript.hear(&bytes);
            let is_shown = |c: char| c == '\n' || c == '\t' || !c.is_control();
            proptest::prop_assert!(transcript.tail().chars().all(is_shown));
        }
    }
}
