//! What is looked for in what items are configured by.
//!
//! ```
//! use domain::cloud::Class;
//! use domain::configuration::baseline::{Observed, ObservedFile, Subject};
//! use domain::configuration::search::Query;
//!
//! let file = ObservedFile::new(0o100_644, "root:root", b"Port 22\nPermitRootLogin yes\n");
//! let subject = Subject { class: Class::Vm, labels: Default::default() };
//! let item = Observed::new(subject, [("/etc/ssh/sshd_config".to_owned(), file)]);
//!
//! let found = Query::parameter("sshd.PermitRootLogin=yes").unwrap().find(&item, 10);
//! assert_eq!(found.hits[0].to_string(), "/etc/ssh/sshd_config:2: sshd.PermitRootLogin=yes");
//! ```

use regex::{Regex, RegexBuilder};

use super::baseline::{Content, Evidence, Observed, is_like};
use super::parameter::Force;

/// Longest question, in bytes.
const LONGEST: usize = 500;

/// Longest line that is shown, in letters.
const LONGEST_LINE: usize = 400;

/// What is looked for.
#[derive(Debug, Clone)]
pub struct Query(Kind);

#[derive(Debug, Clone)]
enum Kind {
    /// Lines that match.
    Lines(Vec<Regex>),
    /// What counts of a parameter.
    Parameter { name: String, value: Option<String> },
}

/// A question that cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// Nothing is looked for, or too much.
    #[error("what is looked for has {size} bytes; it may have 1 to {LONGEST}")]
    Length {
        /// Its size in bytes.
        size: usize,
    },
    /// The pattern is none, or would take too much room.
    #[error("the pattern cannot be used: {because}")]
    Pattern {
        /// What is wrong with it.
        because: String,
    },
    /// It names no parameter.
    #[error("`{given}` is no parameter: `program.Name` or `program.Name=value`")]
    Parameter {
        /// What it says.
        given: String,
    },
}

impl InvalidQuery {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Length { .. } => "look for a few words",
            Self::Pattern { .. } => {
                "see docs.rs/regex for what a pattern may say; back-references are not known"
            }
            Self::Parameter { .. } => {
                "say for example `sshd.PermitRootLogin=yes`, or `nginx.*autoindex`"
            }
        }
    }
}

/// What was found of an item.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Found {
    /// In the order of files and lines.
    pub hits: Vec<Evidence>,
    /// Whether there is more.
    pub has_more: bool,
}

impl Query {
    /// Lines in which all these words are, in whatever case.
    ///
    /// # Errors
    /// If there are none, or too many.
    pub fn words(text: &str) -> Result<Self, InvalidQuery> {
        let text = checked(text)?;
        let pattern = |word: &str| built(&regex::escape(word), true);
        Ok(Self(Kind::Lines(text.split_whitespace().map(pattern).collect::<Result<_, _>>()?)))
    }

    /// Lines that match a pattern; the time it takes is in proportion to the text.
    ///
    /// # Errors
    /// If it is none, or would take too much room.
    pub fn regex(pattern: &str) -> Result<Self, InvalidQuery> {
        Ok(Self(Kind::Lines(vec![built(checked(pattern)?, false)?])))
    }

    /// What counts of a parameter, with this value where one is said; `*` in its name is any part of it.
    ///
    /// # Errors
    /// If it names none.
    pub fn parameter(text: &str) -> Result<Self, InvalidQuery> {
        let text = checked(text)?;
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name.trim(), Some(value.trim().to_owned())),
            None => (text.trim(), None),
        };
        if !name.contains('.') || name.chars().any(char::is_whitespace) {
            return Err(InvalidQuery::Parameter { given: text.to_owned() });
        }
        Ok(Self(Kind::Parameter { name: name.to_owned(), value }))
    }

    /// What of it an item has, at most so much.
    pub fn find(&self, item: &Observed, most: usize) -> Found {
        let mut hits: Box<dyn Iterator<Item = Evidence> + '_> = match &self.0 {
            Kind::Lines(patterns) => Box::new(lines(patterns, item)),
            Kind::Parameter { name, value } => Box::new(parameters(name, value.as_deref(), item)),
        };
        let found = hits.by_ref().take(most).collect();
        Found { hits: found, has_more: hits.next().is_some() }
    }
}

fn lines<'a>(
    patterns: &'a [Regex],
    item: &'a Observed,
) -> impl Iterator<Item = Evidence> + use<'a> {
    let texts = item.files().iter().filter_map(|(path, file)| match &file.content {
        Content::Text(text) => Some((path, text)),
        _ => None,
    });
    // A file without one of the words has no line with all of them.
    let meant = texts.filter(|(_, text)| patterns.iter().all(|it| it.is_match(text)));
    meant.flat_map(|(path, text)| {
        let numbered = (1..).zip(text.lines());
        let hits = numbered.filter(|(_, line)| patterns.iter().all(|it| it.is_match(line)));
        hits.map(|(number, line)| Evidence {
            path: Some(path.clone()),
            line: Some(number),
            text: line.chars().take(LONGEST_LINE).collect(),
        })
    })
}

fn parameters<'a>(
    name: &'a str,
    value: Option<&'a str>,
    item: &'a Observed,
) -> impl Iterator<Item = Evidence> + use<'a> {
    let is_it = move |it: &&super::parameter::Parameter| {
        is_like(name, &it.name) && value.is_none_or(|value| it.value == value)
    };
    item.parameters().iter().filter(is_it).map(|it| {
        let condition = it.condition.as_ref().map(|it| format!(" [{it}]")).unwrap_or_default();
        let unsure =
            if it.force == Force::Unknown { " (may be set otherwise elsewhere)" } else { "" };
        let text = format!("{it}{condition}{unsure}").chars().take(LONGEST_LINE).collect();
        Evidence { path: Some(it.path.clone()), line: Some(it.line), text }
    })
}

fn checked(text: &str) -> Result<&str, InvalidQuery> {
    if text.trim().is_empty() || text.len() > LONGEST {
        return Err(InvalidQuery::Length { size: text.len() });
    }
    Ok(text)
}

fn built(pattern: &str, in_any_case: bool) -> Result<Regex, InvalidQuery> {
    let mut builder = RegexBuilder::new(pattern);
    // Anchors mean lines, also where a whole file is asked first.
    let builder = builder.case_insensitive(in_any_case).multi_line(true).size_limit(1 << 20);
    builder.build().map_err(|error| InvalidQuery::Pattern {
        because: error.to_string().lines().last().unwrap_or_default().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::cloud::Class;
    use crate::configuration::baseline::{ObservedFile, Subject};

    fn item(files: &[(&str, &str)]) -> Observed {
        let subject = Subject { class: Class::Vm, labels: BTreeMap::new() };
        let file = |(path, text): &(&str, &str)| {
            ((*path).to_owned(), ObservedFile::new(0o100_644, "root:root", text.as_bytes()))
        };
        Observed::new(subject, files.iter().map(file))
    }

    fn told(query: &Result<Query, InvalidQuery>, item: &Observed) -> Vec<String> {
        query.as_ref().unwrap().find(item, 100).hits.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn words_are_found_on_one_line_in_whatever_case() {
        let item = item(&[("/etc/a", "Listen on 80\nlisten\n80\n"), ("/etc/b", "nothing\n")]);

        assert_eq!(told(&Query::words("80 LISTEN"), &item), ["/etc/a:1: Listen on 80"]);
        assert_eq!(told(&Query::words("listen."), &item), Vec::<String>::new());
    }

    #[test]
    fn patterns_are_for_lines() {
        let item =
            item(&[("/etc/a", "a 1\nb 2\n"), ("/etc/b", "<withheld:binary:3:0123456789abcdef>\n")]);

        assert_eq!(told(&Query::regex("^b [0-9]$"), &item), ["/etc/a:2: b 2"]);
        assert!(told(&Query::regex("withheld"), &item).is_empty());
        assert!(matches!(Query::regex("(a{1000}){1000}"), Err(InvalidQuery::Pattern { .. })));
        assert!(matches!(Query::regex(r"(a)\1"), Err(InvalidQuery::Pattern { .. })));
    }

    #[test]
    fn of_parameters_is_found_what_counts() {
        let text = "PermitRootLogin no\nPermitRootLogin yes\nMatch User x\nPermitRootLogin yes\n";
        let item = item(&[("/etc/ssh/sshd_config", text)]);

        let found = told(&Query::parameter("sshd.PermitRootLogin=yes"), &item);
        assert_eq!(found, ["/etc/ssh/sshd_config:4: sshd.PermitRootLogin=yes [User x]"]);
        assert_eq!(told(&Query::parameter("sshd.*Login"), &item).len(), 2);
        assert!(matches!(Query::parameter("PermitRootLogin"), Err(InvalidQuery::Parameter { .. })));
    }

    #[test]
    fn what_is_too_much_is_said() {
        let item = item(&[("/etc/a", &"x\n".repeat(5))]);
        let found = Query::words("x").unwrap().find(&item, 3);
        assert_eq!((found.hits.len(), found.has_more), (3, true));
        let found = Query::words("x").unwrap().find(&item, 5);
        assert_eq!((found.hits.len(), found.has_more), (5, false));
        assert!(matches!(Query::words(" "), Err(InvalidQuery::Length { .. })));
        assert!(matches!(Query::words(&"a".repeat(501)), Err(InvalidQuery::Length { .. })));
    }

    proptest! {
        /// Looking into the whole file first leaves nothing out.
        #[test]
        fn each_line_with_the_words_is_found(lines in prop::collection::vec("[abA ]{0,6}", 0..20)) {
            let text = lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect::<String>();
            let found = Query::words("a b").unwrap().find(&item(&[("/etc/a", &text)]), 100).hits;
            let has_both = |line: &&String| line.to_lowercase().contains('a') && line.contains('b');
            prop_assert_eq!(found.len(), lines.iter().filter(has_both).count());
        }
    }
}
