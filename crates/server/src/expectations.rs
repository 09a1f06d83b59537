//! What policies are expected to say: a file that people can read, asked of the policies case by case.
//!
//! A case stands for every question that its lists make: roles × access × proofs × actions. The shipped
//! file covers all questions that there are, so that a policy cannot be altered, nor an action added,
//! without somebody having to say what was meant.

use std::collections::BTreeSet;
use std::path::Path;

use domain::cloud::{Access, Role, Side};
use serde::Deserialize;

use crate::gate::{Action, Gate, PolicyError, Ruling};

const SHIPPED: &str = include_str!("../policies/expectations.toml");

/// Why expectations cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ExpectationsError {
    /// They are not as they should be written.
    #[error("the expectations cannot be understood")]
    Malformed(#[source] Box<toml::de::Error>),
    /// A word in them is none.
    #[error("case `{case}`: `{word}` is no {what}")]
    Unknown {
        /// Which case.
        case: String,
        /// What was meant.
        what: &'static str,
        /// What was written.
        word: String,
    },
}

/// Policies as they are where more than a password is asked for, and where it is not.
pub struct Policies {
    lenient: Gate,
    strict: Gate,
}

/// A question to the policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Situation {
    /// Whether `up --require-mfa` is in force.
    pub requires_mfa: bool,
    /// As what somebody asks.
    pub role: Role,
    /// With what access.
    pub access: Access,
    /// Whether more than a password was proven.
    pub mfa: bool,
    /// For what.
    pub action: Action,
}

/// What is expected of the policies.
#[derive(Debug)]
pub struct Expectations(Vec<Case>);

/// Questions with one answer.
#[derive(Debug)]
pub struct Case {
    /// Why the answer is this.
    pub title: String,
    /// Whether it is permitted.
    pub is_permitted: bool,
    /// The policies that are to decide; any, where it is not said.
    pub by: Option<BTreeSet<String>>,
    situations: Vec<Situation>,
}

/// What became of a case.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// Which.
    pub case: &'a Case,
    /// Questions asked.
    pub asked: usize,
    /// Those with another answer.
    pub differences: Vec<Difference>,
}

/// An answer that was not expected.
#[derive(Debug)]
pub struct Difference {
    /// To what.
    pub situation: Situation,
    /// The answer.
    pub found: Ruling,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    case: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    who: Words,
    action: Words,
    #[serde(default)]
    except: Option<Words>,
    #[serde(default)]
    access: Option<Words>,
    #[serde(default)]
    mfa: Option<bool>,
    #[serde(default)]
    require_mfa: Option<bool>,
    expect: Answer,
    #[serde(default)]
    by: Option<BTreeSet<String>>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Answer {
    Allow,
    Deny,
}

/// One word or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Several(Vec<String>),
}

impl Words {
    fn iter(&self) -> impl Iterator<Item = &str> {
        let words = match self {
            Self::One(word) => std::slice::from_ref(word),
            Self::Several(words) => words,
        };
        words.iter().map(String::as_str)
    }
}

impl Policies {
    /// Those that Patchwright ships.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn shipped() -> Result<Self, PolicyError> {
        Ok(Self { lenient: Gate::shipped(false)?, strict: Gate::shipped(true)? })
    }

    /// Those of a directory.
    ///
    /// # Errors
    /// If they cannot be read, do not parse or break the schema.
    pub fn read(directory: &Path) -> Result<Self, PolicyError> {
        let [lenient, strict] = [false, true].map(|strict| Gate::read(directory, strict));
        Ok(Self { lenient: lenient?, strict: strict? })
    }

    /// What they say.
    pub fn rule(&self, situation: Situation) -> Ruling {
        let Situation { requires_mfa, role, access, mfa, action } = situation;
        let gate = if requires_mfa { &self.strict } else { &self.lenient };
        gate.rule(role, access, mfa, action)
    }
}

impl Situation {
    /// Every question that there is.
    pub fn all() -> impl Iterator<Item = Self> {
        let bools = [false, true];
        bools.into_iter().flat_map(move |requires_mfa| {
            Role::ALL.iter().flat_map(move |&role| {
                Access::ALL.iter().flat_map(move |&access| {
                    bools.into_iter().flat_map(move |mfa| {
                        let of = move |&action| Self { requires_mfa, role, access, mfa, action };
                        Action::ALL.iter().map(of)
                    })
                })
            })
        })
    }

    /// Whether the person has proven what is asked of it.
    fn has_proven(self) -> bool {
        self.mfa || !self.requires_mfa || self.role.side() == Side::Tenant
    }
}

impl Expectations {
    /// Those that Patchwright ships: of every question.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn shipped() -> Result<Self, ExpectationsError> {
        Self::parse(SHIPPED)
    }

    /// Reads expectations.
    ///
    /// # Errors
    /// If they are not TOML, or hold a word that is none.
    pub fn parse(text: &str) -> Result<Self, ExpectationsError> {
        let file: File =
            toml::from_str(text).map_err(|error| ExpectationsError::Malformed(Box::new(error)))?;
        file.case.into_iter().map(Case::of).collect::<Result<_, _>>().map(Self)
    }

    /// Asks the policies, case by case.
    pub fn ask(&self, policies: &Policies) -> Vec<Outcome<'_>> {
        self.0.iter().map(|case| case.ask(policies)).collect()
    }

    /// The questions that no case asks.
    pub fn unasked(&self) -> Vec<Situation> {
        let asked: BTreeSet<_> = self.0.iter().flat_map(|case| &case.situations).collect();
        Situation::all().filter(|situation| !asked.contains(situation)).collect()
    }
}

impl Case {
    fn of(written: Written) -> Result<Self, ExpectationsError> {
        let Written { title, who, action, except, access, mfa, require_mfa, expect, by } = written;
        let unknown = |what: &'static str| {
            let case = title.clone();
            move |word: String| ExpectationsError::Unknown { case, what, word }
        };
        let roles = chosen(&who, Role::ALL, |role, word| match word {
            "anybody" => true,
            "provider" | "tenant" => role.side().as_str() == word,
            _ => role.as_str() == word,
        })
        .map_err(unknown("role or side"))?;
        let fits = |action: Action, word: &str| match word {
            "anything" => true,
            "read" => action.only_reads(),
            "write" => !action.only_reads(),
            _ => action.as_str() == word,
        };
        let mut actions = chosen(&action, Action::ALL, fits).map_err(unknown("action"))?;
        if let Some(except) = except {
            let except = chosen(&except, Action::ALL, fits).map_err(unknown("action"))?;
            actions.retain(|action| !except.contains(action));
        }
        let accesses = match access {
            Some(access) => chosen(&access, Access::ALL, |access, word| access.as_str() == word)
                .map_err(unknown("access"))?,
            None => Access::ALL.to_vec(),
        };
        let is_meant = |it: &Situation| {
            // Left out, it is whoever has proven what is asked of them.
            (mfa.is_some() || it.has_proven())
                && mfa.is_none_or(|mfa| mfa == it.mfa)
                && require_mfa.is_none_or(|require| require == it.requires_mfa)
                && roles.contains(&it.role)
                && accesses.contains(&it.access)
                && actions.contains(&it.action)
        };
        let situations = Situation::all().filter(is_meant).collect();
        Ok(Self { title, is_permitted: expect == Answer::Allow, by, situations })
    }

    fn ask(&self, policies: &Policies) -> Outcome<'_> {
        let differences = self.situations.iter().filter_map(|&situation| {
            let found = policies.rule(situation);
            let is_by = |by: &BTreeSet<String>| by.iter().eq(&found.by);
            let is_as_expected =
                found.is_permitted == self.is_permitted && self.by.as_ref().is_none_or(is_by);
            (!is_as_expected).then_some(Difference { situation, found })
        });
        Outcome { case: self, asked: self.situations.len(), differences: differences.collect() }
    }
}

/// What words name; the first word that names nothing is the error.
fn chosen<T: Copy>(
    words: &Words,
    all: &[T],
    fits: impl Fn(T, &str) -> bool,
) -> Result<Vec<T>, String> {
    if let Some(word) = words.iter().find(|word| !all.iter().any(|&it| fits(it, word))) {
        return Err(word.to_owned());
    }
    Ok(all.iter().copied().filter(|&it| words.iter().any(|word| fits(it, word))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_policies_say_what_is_expected_to_every_question() {
        let expectations = Expectations::shipped().unwrap();

        let outcomes = expectations.ask(&Policies::shipped().unwrap());

        for outcome in &outcomes {
            assert!(outcome.differences.is_empty(), "{outcome:#?}");
            assert!(outcome.asked > 0, "{}", outcome.case.title);
        }
        assert_eq!(expectations.unasked(), []);
        let asked: usize = outcomes.iter().map(|outcome| outcome.asked).sum();
        assert_eq!(asked, Situation::all().count(), "a question is asked twice");
    }

    #[test]
    fn a_policy_that_says_something_else_is_found_out() {
        let policies = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(policies.path().join("own.cedar"), text).unwrap();
        let expectations = |more: &str| {
            let text = format!("[[case]]\ntitle = \"x\"\nwho = \"auditor\"\n{more}");
            Expectations::parse(&text)
        };
        write("@id(\"all\") permit (principal, action, resource);");
        let own = Policies::read(policies.path()).unwrap();
        let differences = |more: &str| {
            expectations(more).unwrap().ask(&own).iter().map(|it| it.differences.len()).sum()
        };

        let none: usize = differences("action = \"ci.create\"\nexpect = \"allow\"\nby = [\"all\"]");
        assert_eq!(none, 0);
        let other: usize = differences("action = \"ci.create\"\nexpect = \"allow\"\nby = [\"x\"]");
        assert_eq!(other, 6, "two accesses, three ways to have proven enough");
        let all: usize = differences("action = \"anything\"\nexpect = \"deny\"");
        assert_eq!(all, 6 * Action::ALL.len());
        for odd in
            ["action = \"ci.crate\"\nexpect = \"deny\"", "action = \"read\"\nexpect = \"maybe\""]
        {
            assert!(expectations(odd).is_err(), "{odd}");
        }
        write("permit (principal, action, resource) when { principal.rank == 1 };");
        assert!(Policies::read(policies.path()).is_err());
    }
}
