//! What alters by itself in a file and is left out where two versions are compared. The bytes themselves are kept.
//!
//! ```
//! use domain::configuration::mask::{Masks, Subject};
//!
//! let router = Subject::of_class(domain::cloud::Class::NetworkDevice, "running-config");
//! let before = "! Last configuration change at 10:11:12 UTC Mon Nov 30 2026 by bob\nhostname r1\n";
//! let after = "! Last configuration change at 11:00:00 UTC Tue Dec 1 2026 by bob\nhostname r1\n";
//! assert!(Masks::built_in().only_volatile(&router, before, after));
//! ```

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::cloud::Class;
use crate::order::PathPattern;

/// Largest file of masks, in bytes.
const LONGEST: usize = 1 << 20;

/// Most masks of one file.
const MOST: usize = 1_000;

/// What stands where something was left out.
const LEFT_OUT: &str = "<volatile>";

/// Which file of what is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    class: Option<Class>,
    path: &'a str,
}

impl<'a> Subject<'a> {
    /// A file of a system whose class says nothing of its files.
    pub const fn path(path: &'a str) -> Self {
        Self { class: None, path }
    }

    /// A file of an item of a class. A device's configuration has the name by which it was fetched.
    pub const fn of_class(class: Class, path: &'a str) -> Self {
        Self { class: Some(class), path }
    }
}

/// What is left out, of which files.
#[derive(Debug, Clone)]
pub struct Masks(Vec<Mask>);

#[derive(Debug, Clone)]
struct Mask {
    classes: Vec<Class>,
    paths: Vec<PathPattern>,
    pattern: Regex,
}

/// A file of masks that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMasks {
    /// More than anybody writes.
    #[error("the masks have {size} bytes, more than {LONGEST}")]
    TooLong {
        /// Their size in bytes.
        size: usize,
    },
    /// More than anybody needs.
    #[error("there are {count} masks, more than {MOST}")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// They do not say what they could.
    #[error("the masks cannot be read: {0}")]
    Unreadable(String),
    /// A pattern is none, or would take too much room.
    #[error("the pattern of mask `{id}` cannot be used: {because}")]
    Pattern {
        /// Whose.
        id: String,
        /// What is wrong with it.
        because: String,
    },
}

impl InvalidMasks {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::TooMany { .. } => "use patterns for paths",
            Self::Unreadable(_) => "correct the line as described in docs/configuration.md",
            Self::Pattern { .. } => "bound the repetitions of the pattern, as in `[0-9]{1,12}`",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    mask: Vec<WrittenMask>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMask {
    id: String,
    #[serde(rename = "source")]
    _source: String,
    #[serde(default)]
    classes: Vec<Class>,
    #[serde(default)]
    paths: Vec<PathPattern>,
    pattern: String,
}

impl Masks {
    /// Those that come with the program (`data/configuration/masks.toml`).
    pub fn built_in() -> &'static Self {
        static MASKS: LazyLock<Masks> = LazyLock::new(|| {
            let text = include_str!("../../data/configuration/masks.toml");
            Masks::parse(text).expect("a test reads the masks that come with the program")
        });
        &MASKS
    }

    /// Reads masks (TOML).
    ///
    /// # Errors
    /// If anything in them is not understood: a mask that covers more than was meant hides alterations.
    pub fn parse(text: &str) -> Result<Self, InvalidMasks> {
        if text.len() > LONGEST {
            return Err(InvalidMasks::TooLong { size: text.len() });
        }
        let written: Written =
            toml::from_str(text).map_err(|error| InvalidMasks::Unreadable(error.to_string()))?;
        if written.mask.len() > MOST {
            return Err(InvalidMasks::TooMany { count: written.mask.len() });
        }
        let ready = |WrittenMask { id, classes, paths, pattern, .. }: WrittenMask| {
            let built = RegexBuilder::new(&pattern).size_limit(1 << 20).build();
            match built {
                Ok(pattern) => Ok(Mask { classes, paths, pattern }),
                Err(error) => Err(InvalidMasks::Pattern { id, because: error.to_string() }),
            }
        };
        Ok(Self(written.mask.into_iter().map(ready).collect::<Result<_, _>>()?))
    }

    /// The text as it is compared.
    pub fn masked<'t>(&self, subject: &Subject<'_>, text: &'t str) -> Cow<'t, str> {
        let mut masked = Cow::Borrowed(text);
        for mask in self.0.iter().filter(|mask| mask.is_for(subject)) {
            if let Cow::Owned(next) = mask.leave_out(&masked) {
                masked = Cow::Owned(next);
            }
        }
        masked
    }

    /// Whether two versions differ in nothing but what alters by itself.
    pub fn only_volatile(&self, subject: &Subject<'_>, before: &str, after: &str) -> bool {
        before != after && self.masked(subject, before) == self.masked(subject, after)
    }
}

impl Mask {
    fn is_for(&self, subject: &Subject<'_>) -> bool {
        let has_class = self.classes.is_empty()
            || subject.class.is_some_and(|class| self.classes.contains(&class));
        has_class && (self.paths.is_empty() || self.paths.iter().any(|path| path.has(subject.path)))
    }

    fn leave_out<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut left = String::new();
        let mut at = 0;
        for captures in self.pattern.captures_iter(text) {
            let Some(part) = captures.name("volatile").or_else(|| captures.get(0)) else {
                continue;
            };
            left.push_str(&text[at..part.start()]);
            left.push_str(LEFT_OUT);
            at = part.end();
        }
        if at == 0 && left.is_empty() {
            return Cow::Borrowed(text);
        }
        left.push_str(&text[at..]);
        Cow::Owned(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_noise(subject: Subject<'_>, before: &str, after: &str) -> bool {
        Masks::built_in().only_volatile(&subject, before, after)
    }

    #[test]
    fn what_alters_by_itself_is_left_out_where_it_does() {
        let device = |name| Subject::of_class(Class::NetworkDevice, name);
        for (subject, before, after) in [
            (
                device("running"),
                "ntp clock-period 17180000\nhostname a\n",
                "ntp clock-period 17180123\nhostname a\n",
            ),
            (
                device("running"),
                "Current configuration : 2212 bytes\n",
                "Current configuration : 2213 bytes\n",
            ),
            (
                device("running"),
                "## Last commit: 2026-11-30 10:00:00 UTC by bob\n",
                "## Last commit: 2026-12-01 10:00:00 UTC by eve\n",
            ),
            (
                device("running"),
                "# nov/30/2026 10:11:12 by RouterOS 6.49\n/ip\n",
                "# 2026-12-01 10:11:13 by RouterOS 6.49\n/ip\n",
            ),
            (
                Subject::path("/etc/iptables/rules.v4"),
                ":INPUT DROP [10:400]\n",
                ":INPUT DROP [11:460]\n",
            ),
            (
                Subject::path("/etc/iptables/rules.v4"),
                "# Generated by iptables-save v1.8.9 on Mon Nov 30 10:00:00 2026\n",
                "# Generated by iptables-save v1.8.9 on Tue Dec  1 10:00:00 2026\n",
            ),
            (
                Subject::path("/etc/adjtime"),
                "0.0 0 0.0\n0\nUTC\n",
                "0.1 1700000000 0.0\n1700000000\nUTC\n",
            ),
        ] {
            assert!(is_noise(subject, before, after), "{before}");
        }
    }

    #[test]
    fn what_somebody_sets_is_never_left_out() {
        let device = Subject::of_class(Class::NetworkDevice, "running");
        for (subject, before, after) in [
            (device, "ntp clock-period 1\nhostname a\n", "ntp clock-period 2\nhostname b\n"),
            (device, "no ip http server\n", "ip http server\n"),
            (
                Subject::path("/etc/iptables/rules.v4"),
                ":INPUT DROP [10:400]\n",
                ":INPUT ACCEPT [10:400]\n",
            ),
            (
                Subject::path("/etc/iptables/rules.v4"),
                "-A INPUT -p tcp --dport 22 -j DROP\n",
                "-A INPUT -p tcp --dport 23 -j DROP\n",
            ),
            (Subject::path("/etc/adjtime"), "0.0 0 0.0\n0\nUTC\n", "0.0 0 0.0\n0\nLOCAL\n"),
            (Subject::path("/etc/passwd"), ":INPUT DROP [1:1]\n", ":INPUT DROP [2:2]\n"),
            (Subject::path("/etc/resolv.conf"), "nameserver 10.0.0.1\n", "nameserver 10.0.0.2\n"),
        ] {
            assert!(!is_noise(subject, before, after), "{after}");
        }
        assert!(!is_noise(device, "same\n", "same\n"), "what is the same has no noise either");
    }

    #[test]
    fn a_class_of_another_item_has_no_masks() {
        let (before, after) = ("ntp clock-period 1\n", "ntp clock-period 2\n");
        assert!(!is_noise(Subject::path("running"), before, after));
        assert!(!is_noise(Subject::of_class(Class::Host, "running"), before, after));
    }

    #[test]
    fn owners_may_write_their_own_and_slips_are_errors() {
        let own = "[[mask]]\nid = \"serial\"\nsource = \"zone\"\npaths = [\"/etc/zone\"]\npattern = '[0-9]{10} ; serial'\n";
        let masks = Masks::parse(own).unwrap();
        let zone = Subject::path("/etc/zone");
        assert!(masks.only_volatile(&zone, "2026113001 ; serial\n", "2026113002 ; serial\n"));

        assert!(matches!(Masks::parse("[[mask]]\nid = 1"), Err(InvalidMasks::Unreadable(_))));
        let broken = own.replace("[0-9]{10}", "[0-9");
        assert!(matches!(Masks::parse(&broken), Err(InvalidMasks::Pattern { .. })));
        let vast = own.replace("[0-9]{10}", "(a{1000}){1000}");
        assert!(matches!(Masks::parse(&vast), Err(InvalidMasks::Pattern { .. })));
        let long = " ".repeat(LONGEST + 1);
        assert!(matches!(Masks::parse(&long), Err(InvalidMasks::TooLong { .. })));
    }
}
