//! What leaves this crate of a device's answers.

use std::fmt;

use domain::configuration::secret::{FingerprintKey, redact};

/// One document of a device, without its secrets. It cannot be made otherwise.
#[derive(Clone, PartialEq, Eq)]
pub struct Document {
    path: String,
    text: String,
}

impl Document {
    /// What may be known of an answer: its secrets give way to markers, under the item's key. Of what is too
    /// large to be looked into, or has too many secrets, nothing is left but size and fingerprint.
    pub fn new(path: &str, answer: &str, key: &FingerprintKey) -> Self {
        Self { path: path.to_owned(), text: redact(path, answer.as_bytes(), key).into_text() }
    }

    /// Its absolute path in the item's history.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// What is known of it.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// Without the text.
impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Document({}, {} bytes)", self.path, self.text.len())
    }
}
