//! The rules, as they are written in `data/secret/rules.toml`, made ready.

use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use aho_corasick::{AhoCorasick, MatchKind};
use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::SecretKind;
use crate::order::PathPattern;

const BUILT_IN: &str = include_str!("../../../data/secret/rules.toml");

/// All rules, and what tells quickly which of them a text may concern.
pub(super) struct Rules {
    patterns: Vec<Rule>,
    pub(super) fields: Vec<Fields>,
    whole: Vec<PathPattern>,
    keywords: AhoCorasick,
    /// For each keyword the rule that has it.
    owners: Vec<usize>,
    pub(super) placeholders: Placeholders,
}

/// A pattern and what it leads to.
pub(super) struct Rule {
    pub(super) id: &'static str,
    pub(super) kind: SecretKind,
    pub(super) pattern: Pattern,
    pub(super) value: Value,
    /// Whether what refers to a secret, or shows a syntax, is none. Values of assignments always ask.
    pub(super) except: bool,
    /// Bits for each byte that a secret has at least.
    pub(super) entropy: Option<f64>,
    pub(super) allow: Vec<String>,
    paths: Vec<PathPattern>,
    except_paths: Vec<PathPattern>,
}

/// Where a secret stands, seen from the match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Value {
    /// It is the group `secret` or `secret2`.
    #[default]
    Match,
    /// From the end of the match to the end of the line.
    Line,
    /// A value in quotes, a word, a line or a block that begins at the end of the match.
    Assigned,
}

/// Lines of fields, one of them secret.
pub(super) struct Fields {
    pub(super) id: &'static str,
    pub(super) kind: SecretKind,
    /// A blank stands for any blanks.
    pub(super) separator: u8,
    /// From 1.
    pub(super) field: usize,
    /// Whether what follows belongs to it as well, to the end of the line.
    pub(super) rest: bool,
    /// Whether a backslash takes a separator's meaning away.
    pub(super) escapes: bool,
    paths: Vec<PathPattern>,
}

/// What stands in a secret's place.
pub(super) struct Placeholders {
    pub(super) words: Vec<String>,
    pub(super) comment_words: Vec<String>,
    pub(super) patterns: Vec<Pattern>,
}

/// A pattern that is made ready once a text may concern it. Repetitions that are bounded make large automata: all of
/// them with what they remember of texts take some 20 MiB, as written they take 10 KiB.
pub(super) struct Pattern {
    written: String,
    ready: RwLock<Option<Arc<Regex>>>,
}

impl Pattern {
    const fn new(written: String) -> Self {
        Self { written, ready: RwLock::new(None) }
    }

    /// Made ready where it is not.
    pub(super) fn ready(&self) -> Arc<Regex> {
        if let Some(regex) = &*self.ready.read().unwrap_or_else(PoisonError::into_inner) {
            return Arc::clone(regex);
        }
        let mut ready = self.ready.write().unwrap_or_else(PoisonError::into_inner);
        let make = || compiled(&self.written).map(Arc::new);
        let regex = ready.get_or_insert_with(|| make().expect("a test makes every pattern ready"));
        Arc::clone(regex)
    }

    fn put_away(&self) {
        *self.ready.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    #[cfg(test)]
    fn is_ready(&self) -> bool {
        self.ready.read().unwrap().is_some()
    }
}

impl Rules {
    /// Every pattern, of rules and of placeholders.
    fn every(&self) -> impl Iterator<Item = &Pattern> {
        self.patterns.iter().map(|rule| &rule.pattern).chain(&self.placeholders.patterns)
    }

    /// Lets go of what was made ready.
    pub(super) fn put_away(&self) {
        self.every().for_each(Pattern::put_away);
    }

    /// Whether a file is a secret as a whole.
    pub(super) fn is_whole(&self, path: &str) -> bool {
        self.whole.iter().any(|it| it.has(path))
    }

    /// The rules that may find something in a text.
    pub(super) fn concerning<'a>(
        &'a self,
        path: &'a str,
        text: &[u8],
    ) -> impl Iterator<Item = &'a Rule> {
        let mut has_keyword = vec![false; self.patterns.len()];
        // Overlapping, so that no keyword hides another.
        for found in self.keywords.find_overlapping_iter(text) {
            has_keyword[self.owners[found.pattern().as_usize()]] = true;
        }
        let rules = self.patterns.iter().zip(has_keyword).filter(|(_, has_it)| *has_it);
        rules.map(|(rule, _)| rule).filter(|rule| rule.is_for(path))
    }

    /// What is known of the fields of a file.
    pub(super) fn fields_of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Fields> {
        self.fields.iter().filter(|it| it.paths.iter().any(|pattern| pattern.has(path)))
    }
}

impl Rule {
    fn is_for(&self, path: &str) -> bool {
        let is_in = |patterns: &[PathPattern]| patterns.iter().any(|it| it.has(path));
        (self.paths.is_empty() || is_in(&self.paths)) && !is_in(&self.except_paths)
    }
}

/// The rules that come with the program.
pub(super) fn built_in() -> &'static Rules {
    static RULES: LazyLock<Rules> = LazyLock::new(|| {
        ready(BUILT_IN).expect("a test reads the rules that come with the program")
    });
    &RULES
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    placeholders: WrittenPlaceholders,
    whole: Vec<WrittenWhole>,
    fields: Vec<WrittenFields>,
    rule: Vec<WrittenRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPlaceholders {
    words: Vec<String>,
    comment_words: Vec<String>,
    patterns: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWhole {
    #[serde(rename = "id")]
    _id: String,
    #[serde(rename = "kind")]
    _kind: SecretKind,
    #[serde(rename = "source")]
    _source: String,
    paths: Vec<PathPattern>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFields {
    id: String,
    kind: SecretKind,
    #[serde(rename = "source")]
    _source: String,
    paths: Vec<PathPattern>,
    separator: String,
    field: usize,
    #[serde(default)]
    rest: bool,
    #[serde(default)]
    escapes: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRule {
    id: String,
    kind: SecretKind,
    #[serde(rename = "source")]
    _source: String,
    keywords: Vec<String>,
    #[serde(default)]
    paths: Vec<PathPattern>,
    #[serde(default)]
    except_paths: Vec<PathPattern>,
    pattern: String,
    #[serde(default)]
    value: Value,
    #[serde(default)]
    except: bool,
    #[serde(default)]
    entropy: Option<f64>,
    #[serde(default)]
    allow: Vec<String>,
}

fn compiled(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(pattern).unicode(false).size_limit(32 << 20).build();
    built.map_err(|error| format!("{pattern}: {error}"))
}

/// Names live as long as the program: the rules are read once.
fn kept(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

fn ready(text: &str) -> Result<Rules, String> {
    let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
    let (mut keywords, mut owners) = (Vec::new(), Vec::new());
    let mut rules = Vec::new();
    for rule in written.rule {
        for keyword in rule.keywords {
            keywords.push(keyword);
            owners.push(rules.len());
        }
        rules.push(Rule {
            pattern: Pattern::new(rule.pattern),
            id: kept(rule.id),
            kind: rule.kind,
            value: rule.value,
            except: rule.except,
            entropy: rule.entropy,
            allow: rule.allow,
            paths: rule.paths,
            except_paths: rule.except_paths,
        });
    }
    let fields = written.fields.into_iter().map(|it| Fields {
        id: kept(it.id),
        kind: it.kind,
        separator: it.separator.bytes().next().unwrap_or(b':'),
        field: it.field,
        rest: it.rest,
        escapes: it.escapes,
        paths: it.paths,
    });
    let keywords = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::Standard)
        .build(keywords)
        .map_err(|error| error.to_string())?;
    let WrittenPlaceholders { words, comment_words, patterns } = written.placeholders;
    let patterns = patterns.into_iter().map(Pattern::new).collect();
    Ok(Rules {
        patterns: rules,
        fields: fields.collect(),
        whole: written.whole.into_iter().flat_map(|it| it.paths).collect(),
        keywords,
        owners,
        placeholders: Placeholders { words, comment_words, patterns },
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::find;
    use super::*;

    #[test]
    fn the_rules_can_be_read_and_have_names_of_their_own() {
        let rules = ready(BUILT_IN).unwrap();

        let fields = rules.fields.iter().map(|it| it.id);
        let mut names = BTreeSet::new();
        for name in rules.patterns.iter().map(|it| it.id).chain(fields) {
            assert!(names.insert(name), "two rules are called {name}");
        }
        for pattern in rules.every() {
            assert!(compiled(&pattern.written).is_ok(), "{}", pattern.written);
        }
        assert!(rules.patterns.iter().all(|rule| {
            let pattern = rule.pattern.ready();
            let groups: Vec<_> = pattern.capture_names().flatten().collect();
            groups.contains(&"secret") == (rule.value == Value::Match)
        }));
    }

    #[test]
    fn only_patterns_that_a_text_may_concern_are_made_ready_and_all_can_be_put_away() {
        let rules = ready(BUILT_IN).unwrap();
        let count = || rules.every().filter(|it| it.is_ready()).count();
        let look = |text: &str| find::all(&rules, "/etc/app.ini", text).len();

        assert_eq!(look("nothing of interest\n"), 0);
        assert_eq!(count(), 0);
        assert_eq!(look("password = Tr0ub4dor&3\n"), 1);
        let some = count();
        assert!(some > 0 && some < rules.every().count() / 2, "{some}");
        rules.put_away();
        assert_eq!(count(), 0);
        assert_eq!(look("password = Tr0ub4dor&3\n"), 1, "it is made ready again");
        assert_eq!(count(), some);
    }

    #[test]
    fn every_repetition_of_a_pattern_is_bounded() {
        let written: Written = toml::from_str(BUILT_IN).unwrap();

        for rule in written.rule {
            let hir = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build();
            let longest = hir.clone().parse(&rule.pattern).unwrap().properties().maximum_len();
            assert!(longest.is_some_and(|it| it < 16_384), "{}: {longest:?}", rule.id);
        }
    }

    #[test]
    fn keywords_are_lower_case_and_every_rule_has_one() {
        let written: Written = toml::from_str(BUILT_IN).unwrap();

        for rule in written.rule {
            assert!(!rule.keywords.is_empty(), "{}", rule.id);
            let is_lower = |it: &String| it.to_ascii_lowercase() == *it;
            assert!(rule.keywords.iter().all(is_lower), "{}", rule.id);
        }
    }
}
