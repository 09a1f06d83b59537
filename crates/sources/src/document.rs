//! What leaves this crate of what was seen.

use std::fmt;

use domain::configuration::secret::{FingerprintKey, redact};

/// A regular file that somebody may read.
pub(crate) const READABLE: u32 = 0o100_644;

/// A symbolic link.
pub(crate) const LINK: u32 = 0o120_777;

/// What is said in place of what is not seen begins so.
const UNSEEN: &str = "<unseen:";

/// One file or document, without its secrets. It cannot be made otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    path: String,
    mode: u32,
    owner: String,
    text: String,
}

impl Document {
    /// What may be known of a file: its secrets give way to markers, under the item's key. Of what is too large to be
    /// looked into, is no text, or is a secret as a whole, nothing is left but size and fingerprint.
    pub(crate) fn file(path: &str, mode: u32, bytes: &[u8], key: &FingerprintKey) -> Self {
        Self::said(path, mode, redact(path, bytes, key).into_text())
    }

    /// A link with its target.
    pub(crate) fn link(path: &str, mode: u32, target: &[u8]) -> Self {
        Self::said(path, mode, plain(&String::from_utf8_lossy(target)))
    }

    /// Something of which it is only said why it is not seen.
    pub(crate) fn unseen(path: &str, because: &str) -> Self {
        Self::said(path, 0, format!("{UNSEEN}{}>\n", plain(because)))
    }

    /// Whether it is only said why it is not seen.
    pub fn is_unseen(&self) -> bool {
        self.mode == 0 && self.text.starts_with(UNSEEN)
    }

    /// Something of which nothing is left but `text`.
    pub(crate) fn said(path: &str, mode: u32, text: String) -> Self {
        Self { path: path.to_owned(), mode, owner: String::new(), text }
    }

    pub(crate) fn of(self, owner: String) -> Self {
        Self { owner, ..self }
    }

    /// Its path where it was seen, from the root: `/conf/a.ini`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What it is, with its permissions, as in an inode.
    pub const fn mode(&self) -> u32 {
        self.mode
    }

    /// Whose it is; empty where nobody says.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// What is known of it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Control characters are replaced: history has no such paths, and nobody's terminal needs them.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it }).collect()
}

/// Without the text.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}, {} bytes)", self.path, self.text.len())
    }
}
