//! Patterns of `apt_preferences(5)`: shell globs and `/regular expressions/`.

use regex::{Regex, RegexBuilder};

/// Largest compiled pattern, in bytes: preferences are foreign input when an image is checked.
const COMPILED_LIMIT: usize = 1 << 20;

/// A name pattern as apt understands it.
///
/// `/…/` is a POSIX extended regular expression that matches anywhere, everything else is an
/// `fnmatch(3)` glob over the whole name; both without regard to case.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    matcher: Matcher,
}

#[derive(Debug, Clone)]
enum Matcher {
    Literal,
    Expression(Regex),
}

/// A pattern that cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is not a valid pattern: {reason}")]
pub struct InvalidPattern {
    /// The pattern as written.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        let regex = if let Some(inner) = regular_expression(text) {
            Some(compile(inner, text)?)
        } else if is_glob(text) {
            Some(compile(&glob_to_regex(text), text)?)
        } else {
            None
        };
        let matcher = regex.map_or(Matcher::Literal, Matcher::Expression);
        Ok(Self { text: text.to_owned(), matcher })
    }

    /// Whether the whole name (glob, literal) or a part of it (regular expression) matches.
    pub fn matches(&self, name: &str) -> bool {
        match &self.matcher {
            Matcher::Literal => self.text.eq_ignore_ascii_case(name),
            Matcher::Expression(regex) => regex.is_match(name),
        }
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn regular_expression(text: &str) -> Option<&str> {
    text.strip_prefix('/')?.strip_suffix('/')
}

fn is_glob(text: &str) -> bool {
    text.contains(['*', '[', '?', '\\'])
}

fn compile(expression: &str, written: &str) -> Result<Regex, InvalidPattern> {
    RegexBuilder::new(expression)
        .case_insensitive(true)
        .dot_matches_new_line(true)
        .size_limit(COMPILED_LIMIT)
        .build()
        .map_err(|error| InvalidPattern {
            pattern: written.to_owned(),
            reason: error.to_string().lines().last().unwrap_or("malformed").to_owned(),
        })
}

/// Translates an `fnmatch(3)` glob without flags: `*` and `?` match any character, `/` included.
fn glob_to_regex(glob: &str) -> String {
    let mut regex = String::from("^");
    let mut rest = glob.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' if rest.clone().skip(1).any(|later| later == ']') => {
                regex.push('[');
                if rest.next_if(|&next| next == '!' || next == '^').is_some() {
                    regex.push('^');
                }
                let mut first = true;
                for inside in rest.by_ref() {
                    match inside {
                        ']' if !first => break,
                        '-' => regex.push('-'),
                        other => regex.push_str(&regex::escape(&other.to_string())),
                    }
                    first = false;
                }
                regex.push(']');
            }
            '\\' => {
                if let Some(escaped) = rest.next() {
                    regex.push_str(&regex::escape(&escaped.to_string()));
                }
            }
            other => regex.push_str(&regex::escape(&other.to_string())),
        }
    }
    regex.push('$');
    regex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_the_whole_name() {
        let pattern = Pattern::new("linux-image-*").unwrap();

        assert!(pattern.matches("linux-image-6.1.0-42-amd64"));
        assert!(!pattern.matches("my-linux-image-6"));
        assert!(Pattern::new("lib[a-c]?").unwrap().matches("libbz"));
        assert!(!Pattern::new("lib[!a-c]?").unwrap().matches("libbz"));
    }

    #[test]
    fn expressions_match_anywhere_in_any_case() {
        let pattern = Pattern::new("/SSL[0-9]/").unwrap();

        assert!(pattern.matches("libssl3"));
        assert!(!pattern.matches("libssl"));
    }

    #[test]
    fn origins_match_in_any_case() {
        assert!(Pattern::new("debian").unwrap().matches("Debian"));
        assert!(Pattern::new("debian*").unwrap().matches("Debian Backports"));
    }

    #[test]
    fn names_with_regex_characters_stay_literal() {
        assert!(Pattern::new("g++").unwrap().matches("g++"));
        assert!(!Pattern::new("a.c").unwrap().matches("abc"));
        assert!(Pattern::new("a.c*").unwrap().matches("a.c1"));
        assert!(!Pattern::new("a.c*").unwrap().matches("abc1"));
    }

    #[test]
    fn a_bad_expression_is_named() {
        let error = Pattern::new("/(/").unwrap_err();

        assert!(error.to_string().starts_with("`/(/` is not a valid pattern"), "{error}");
    }
}
