//! Words that tenants read. Foreign text (changelogs, names of units) comes in through `fit`, which
//! makes it harmless; what people write is refused where it is not.

use std::fmt;
use std::str::FromStr;

use domain::cloud::is_invisible;
use serde::{Deserialize, Deserializer, Serialize};

/// A text that may not stand in a notice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidText {
    /// Nothing is said.
    #[error("the {what} is empty")]
    Empty {
        /// Which text.
        what: &'static str,
    },
    /// Too much is said.
    #[error("the {what} has {length} characters, more than {longest}")]
    TooLong {
        /// Which text.
        what: &'static str,
        /// Its length in characters.
        length: usize,
        /// The most it may have.
        longest: usize,
    },
    /// It could end a header, hide, or show as something else than it is.
    #[error("the {what} has a character that may not be in it at character {at}")]
    Character {
        /// Which text.
        what: &'static str,
        /// Counted from 0.
        at: usize,
    },
}

impl InvalidText {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "say something, or leave the whole of it out",
            Self::TooLong { .. } => "say it shorter; the link leads to the rest",
            Self::Character { .. } => "write plain visible text",
        }
    }
}

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident($what:literal, $longest:literal, $allows:expr);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// In characters.
            pub const LONGEST: usize = $longest;

            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidText;

            fn from_str(text: &str) -> Result<Self, InvalidText> {
                check(text, $what, $longest, $allows)?;
                Ok(Self(text.to_owned()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

texts! {
    /// One line: a title, a subject.
    Line("line", 200, |c| !is_invisible(c));
    /// Some paragraphs of plain text.
    Text("text", 4000, |c| c == '\n' || !is_invisible(c));
    /// The name of an advisory: `DSA-5673-1`, `CVE-2026-1234`, `RHSA-2026:0123`.
    AdvisoryName("name of an advisory", 40, |c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
}

impl Line {
    /// Foreign text as one harmless line; `None` if nothing visible is left of it.
    pub fn fit(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.split_whitespace().collect();
        fitted(&words.join(" "), Self::LONGEST, |c| !is_invisible(c)).map(Self)
    }
}

impl Text {
    /// Foreign text with only line ends kept of what cannot be seen; `None` if nothing visible is
    /// left of it.
    pub fn fit(text: &str) -> Option<Self> {
        let text = text.replace("\r\n", "\n").replace('\t', "    ");
        fitted(&text, Self::LONGEST, |c| c == '\n' || !is_invisible(c)).map(Self)
    }
}

/// The path of a file on an item, exactly as it is there: what finds it again. It may look like something else;
/// [`Line::fit`] makes it fit to be read.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct FileName(String);

impl FileName {
    /// In bytes: the longest that Linux has.
    pub const LONGEST: usize = 4096;

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for FileName {
    type Err = InvalidText;

    /// What a path of content history may be, which is all that a host may say it is.
    fn from_str(text: &str) -> Result<Self, InvalidText> {
        let what = "path";
        if text.is_empty() {
            return Err(InvalidText::Empty { what });
        }
        if text.len() > Self::LONGEST {
            let length = text.len();
            return Err(InvalidText::TooLong { what, length, longest: Self::LONGEST });
        }
        match text.chars().position(char::is_control) {
            Some(at) => Err(InvalidText::Character { what, at }),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

fn check(
    text: &str,
    what: &'static str,
    longest: usize,
    allows: fn(char) -> bool,
) -> Result<(), InvalidText> {
    if text.trim().is_empty() {
        return Err(InvalidText::Empty { what });
    }
    let length = text.chars().count();
    if length > longest {
        return Err(InvalidText::TooLong { what, length, longest });
    }
    match text.chars().position(|c| !allows(c)) {
        Some(at) => Err(InvalidText::Character { what, at }),
        None => Ok(()),
    }
}

fn fitted(text: &str, longest: usize, allows: fn(char) -> bool) -> Option<String> {
    let text = text.trim();
    let harmless = |c| if allows(c) { c } else { char::REPLACEMENT_CHARACTER };
    let mut fitted: String = text.chars().take(longest).map(harmless).collect();
    if text.chars().nth(longest).is_some() {
        fitted.pop();
        fitted.push('…');
    }
    fitted.chars().any(|c| c != char::REPLACEMENT_CHARACTER && !c.is_whitespace()).then_some(fitted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line() {
        assert!("openssl 3.0.15-1~deb12u1: “Süd”".parse::<Line>().is_ok());
        for text in
            ["", " ", "a\nb", "a\rBcc: x@example.org", "a\u{202e}b", "a\u{85}b", "a\u{2028}b"]
        {
            assert!(text.parse::<Line>().is_err(), "{text:?}");
        }
        assert!("x".repeat(201).parse::<Line>().is_err());
        assert!("a\nb".parse::<Text>().is_ok());
        assert!("a\u{1b}[2Jb".parse::<Text>().is_err());
        assert!("CVE-2026-1; rm".parse::<AdvisoryName>().is_err());
        for path in ["/etc/motd", "/a\u{202e}b", " "] {
            assert_eq!(path.parse::<FileName>().unwrap().as_str(), path);
        }
        for path in ["", "/a\nb", "/a\u{1b}[2J", "/a\u{9b}2J", &"x".repeat(4097)] {
            assert!(path.parse::<FileName>().is_err(), "{path:?}");
        }
    }

    #[test]
    fn foreign_text_is_made_harmless() {
        let line = |text: &str| Line::fit(text).map(|line| line.to_string());

        assert_eq!(line(" a\r\nBcc:\tb\u{202e}c "), Some("a Bcc: b\u{fffd}c".to_owned()));
        assert_eq!(line("\u{200b}\u{1b}"), None);
        assert_eq!(line(&"ä".repeat(300)), Some("ä".repeat(199) + "…"));
        assert_eq!(Text::fit("a\r\nb\u{7}").unwrap().as_str(), "a\nb\u{fffd}");
    }

    proptest::proptest! {
        #[test]
        fn what_was_fitted_is_allowed(text in "\\PC{0,20}(\r\n|\u{202e}|\u{1b}|\u{ffff}|\t|.){0,300}") {
            if let Some(line) = Line::fit(&text) {
                proptest::prop_assert_eq!(line.as_str().parse::<Line>(), Ok(line.clone()));
            }
            if let Some(fitted) = Text::fit(&text) {
                proptest::prop_assert_eq!(fitted.as_str().parse::<Text>(), Ok(fitted.clone()));
            }
        }
    }
}
