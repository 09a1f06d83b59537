//! Names that people give. They end up on screens, in mails and in files, so what could hide,
//! reorder or end a line is refused where it comes in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// A name that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} {problem}")]
pub struct InvalidName {
    what: &'static str,
    given: String,
    problem: &'static str,
    rule: &'static str,
}

impl InvalidName {
    /// The rule.
    pub const fn help(&self) -> &'static str {
        self.rule
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident($what:literal, $check:ident, $rule:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Its text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match $check(text) {
                    Ok(()) => Ok(Self(text.to_owned())),
                    Err(problem) => Err(InvalidName {
                        what: $what,
                        given: text.chars().take(64).collect(),
                        problem,
                        rule: $rule,
                    }),
                }
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

names! {
    /// A name for people: `web 1`, `Sparkasse Süd`.
    Name("name", check_name, "use 1 to 120 visible characters, no line breaks, no blanks at the ends");
    /// A name for commands and addresses: `acme-prod`.
    Slug("short name", check_slug, "use 1 to 63 of a-z, 0-9 and -, beginning and ending with a letter or digit");
    /// What a person signs in with: a word or a mail address.
    Login("login", check_login, "use 1 to 120 of a-z, 0-9 and . _ - + @, beginning with a letter or digit");
    /// Key of a label: `env`, `example.org/team`.
    LabelKey("label", check_label, "use 1 to 63 of a-z, 0-9 and . _ - /, beginning and ending with a letter or digit");
}

fn check_name(text: &str) -> Result<(), &'static str> {
    check_length(text, 120)?;
    if text.trim() != text {
        return Err("begins or ends with a blank");
    }
    if text.chars().any(is_invisible) {
        return Err("has a character that cannot be seen");
    }
    Ok(())
}

fn check_slug(text: &str) -> Result<(), &'static str> {
    check_word(text, 63, |byte| byte == b'-')?;
    check_end(text)
}

fn check_label(text: &str) -> Result<(), &'static str> {
    check_word(text, 63, |byte| b"._-/".contains(&byte))?;
    check_end(text)
}

fn check_login(text: &str) -> Result<(), &'static str> {
    check_word(text, 120, |byte| b"._-+@".contains(&byte))
}

fn check_word(text: &str, longest: usize, more: fn(u8) -> bool) -> Result<(), &'static str> {
    check_length(text, longest)?;
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if !text.bytes().all(|byte| is_letter(byte) || more(byte)) {
        return Err("has a character that may not be in it");
    }
    if !text.bytes().next().is_some_and(is_letter) {
        return Err("does not begin with a letter or digit");
    }
    Ok(())
}

fn check_end(text: &str) -> Result<(), &'static str> {
    if text.ends_with(|c: char| c.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err("does not end with a letter or digit")
    }
}

fn check_length(text: &str, longest: usize) -> Result<(), &'static str> {
    match text.chars().count() {
        0 => Err("is empty"),
        count if count > longest => Err("is too long"),
        _ => Ok(()),
    }
}

/// Controls, line and paragraph ends, and what makes text look like other text (zero widths,
/// directional marks, tags). Also the two that XML cannot hold.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_people_use() {
        for name in ["web 1", "Sparkasse Süd", "東京-2", "O'Neil & Söhne <x>"] {
            assert_eq!(name.parse::<Name>().unwrap().as_str(), name);
        }
        for slug in ["a", "acme-prod", "7up"] {
            assert!(slug.parse::<Slug>().is_ok(), "{slug}");
        }
        assert!("anna.b+x@example.org".parse::<Login>().is_ok());
        assert!("example.org/team".parse::<LabelKey>().is_ok());
    }

    #[test]
    fn names_that_could_deceive() {
        let long = "x".repeat(121);
        for name in ["", " a", "a\n", "a\u{202e}b", "a\u{200b}", "a\u{1b}[31m", "a\u{85}b", &long] {
            assert!(name.parse::<Name>().is_err(), "{name:?}");
        }
        for slug in ["", "-a", "a-", "A", "a_b", "a.b", "ä"] {
            assert!(slug.parse::<Slug>().is_err(), "{slug:?}");
        }
    }

    #[test]
    fn a_refusal_tells_the_rule() {
        let refused = "Acme".parse::<Slug>().unwrap_err();

        assert_eq!(
            refused.to_string(),
            "short name \"Acme\" has a character that may not be in it"
        );
        assert!(refused.help().contains("a-z"));
    }
}
