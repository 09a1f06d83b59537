//! Words of people that are kept for ever and shown to others.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// Why somebody decided as they did, in their words: one paragraph, up to [`Reason::LONGEST`]
/// characters, nothing that cannot be seen.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Reason(String);

/// A text that is no reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReason {
    /// Nothing is said.
    #[error("the reason is empty")]
    Empty,
    /// Too much is said.
    #[error("the reason has {length} characters, more than {}", Reason::LONGEST)]
    TooLong {
        /// Its length in characters.
        length: usize,
    },
    /// It could show as something else than it is, or as more than one line of a record.
    #[error("the reason has a control character at character {at}")]
    Control {
        /// Counted from 0.
        at: usize,
    },
}

impl InvalidReason {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Empty => "say why: whoever audits this reads it later",
            Self::TooLong { .. } => "say it shorter, and name the document that says the rest",
            Self::Control { .. } => "write one paragraph of plain text",
        }
    }
}

impl Reason {
    /// In characters.
    pub const LONGEST: usize = 2000;

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reason {
    type Err = InvalidReason;

    fn from_str(text: &str) -> Result<Self, InvalidReason> {
        if text.trim().is_empty() {
            return Err(InvalidReason::Empty);
        }
        let length = text.chars().count();
        if length > Self::LONGEST {
            return Err(InvalidReason::TooLong { length });
        }
        // Beside the controls, what turns the direction of a text or hides in it.
        let deceives = |c: char| {
            c.is_control()
                || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                    | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}')
        };
        if let Some(at) = text.chars().position(deceives) {
            return Err(InvalidReason::Control { at });
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_one_visible_paragraph() {
        assert!("Quarter-end close until Friday; Süd has agreed.".parse::<Reason>().is_ok());

        assert_eq!(" ".parse::<Reason>(), Err(InvalidReason::Empty));
        assert_eq!("a\nb".parse::<Reason>(), Err(InvalidReason::Control { at: 1 }));
        assert_eq!("a\u{202e}b".parse::<Reason>(), Err(InvalidReason::Control { at: 1 }));
        let long = "x".repeat(2001);
        assert_eq!(long.parse::<Reason>(), Err(InvalidReason::TooLong { length: 2001 }));
    }
}
