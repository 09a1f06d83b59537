//! How documents are written: so that the same state is the same text, and each alteration a line of its own.

use std::fmt;

/// Longest fact, in letters.
const LONGEST: usize = 16 << 10;

/// Why something could not be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unseen(String);

impl Unseen {
    pub(super) fn new(because: impl AsRef<str>) -> Self {
        Self(line(because.as_ref()).chars().take(300).collect())
    }

    /// A file that could not be read.
    pub(super) fn file(path: &str, error: &std::io::Error) -> Self {
        Self::new(format!("`{path}`: {error}"))
    }
}

impl fmt::Display for Unseen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A fact on one line, whatever letters somebody put into names: control characters are written as `\u{1b}`.
pub(super) fn line(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for letter in text.chars().take(LONGEST) {
        match letter {
            '\t' => written.push(' '),
            // They could show a line other than it is.
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                written.extend(letter.escape_unicode());
            }
            letter if letter.is_control() => written.extend(letter.escape_default()),
            letter => written.push(letter),
        }
    }
    written
}

/// The same with what lies between words reduced to one space.
pub(super) fn words(text: &str) -> String {
    line(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// Facts whose order means nothing: sorted, each once.
pub(super) fn sorted(facts: impl IntoIterator<Item = String>) -> String {
    let mut facts: Vec<String> = facts.into_iter().map(|it| line(&it)).collect();
    facts.sort();
    facts.dedup();
    written(facts)
}

/// Facts whose order is one.
pub(super) fn in_order(facts: impl IntoIterator<Item = String>) -> String {
    written(facts.into_iter().map(|it| line(&it)))
}

fn written(facts: impl IntoIterator<Item = String>) -> String {
    let mut text = String::new();
    for fact in facts {
        text.push_str(&fact);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_name_makes_a_line_of_its_own() {
        let hostile = "nginx\ntcp 0.0.0.0:22 /usr/sbin/sshd\u{1b}[2J\r\u{202e}";
        let text = sorted([hostile.to_owned()]);
        assert_eq!(text.lines().count(), 1);
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
        assert!(text.contains("\\n") && text.contains("\\u{1b}") && text.contains("\\u{202e}"));
    }

    proptest! {
        #[test]
        fn the_order_in_which_facts_come_is_no_difference(
            (facts, shuffled) in prop::collection::vec(".{0,12}", 0..20)
                .prop_flat_map(|facts| (Just(facts.clone()), Just(facts).prop_shuffle()))
        ) {
            prop_assert_eq!(sorted(facts), sorted(shuffled));
        }

        #[test]
        fn a_fact_is_a_line(facts in prop::collection::vec(any::<String>(), 0..20)) {
            let text = in_order(facts.clone());
            prop_assert_eq!(text.matches('\n').count(), facts.len());
        }
    }
}
