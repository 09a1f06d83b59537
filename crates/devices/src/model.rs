//! What is particular to a vendor, as data: `models/*.toml`.

use std::sync::LazyLock;

use domain::cloud::Class;
use domain::configuration::mask::Subject;
use regex::{Regex, RegexBuilder};
use serde::Deserialize;

/// Those that come with the program, each with its file's name.
const BUILT_IN: &[(&str, &str)] = &[
    ("eos", include_str!("../models/eos.toml")),
    ("fortios", include_str!("../models/fortios.toml")),
    ("frr", include_str!("../models/frr.toml")),
    ("frr-vtysh", include_str!("../models/frr-vtysh.toml")),
    ("ios", include_str!("../models/ios.toml")),
    ("junos", include_str!("../models/junos.toml")),
    ("nftables", include_str!("../models/nftables.toml")),
    ("nxos", include_str!("../models/nxos.toml")),
    ("routeros", include_str!("../models/routeros.toml")),
    ("vrp", include_str!("../models/vrp.toml")),
    ("vyos", include_str!("../models/vyos.toml")),
];

/// How one kind of device is looked at.
#[derive(Debug)]
pub struct Model {
    name: String,
    title: String,
    class: Class,
    pub(crate) way: Way,
    pub(crate) documents: Vec<Wanted>,
    errors: Vec<Regex>,
}

/// How commands get there.
#[derive(Debug)]
pub(crate) enum Way {
    /// One channel for each, without a terminal.
    Exec,
    /// All in one terminal.
    Shell(Box<Shell>),
}

/// How its terminal talks.
#[derive(Debug)]
pub(crate) struct Shell {
    /// The last line, where it waits for a command.
    pub(crate) prompt: Regex,
    /// A prompt of somebody who may see everything; others have to [`Enable`] first.
    pub(crate) privileged: Option<Regex>,
    pub(crate) enable: Option<Enable>,
    /// The last line, where it waits for somebody who has read so far.
    pub(crate) pager: Option<Regex>,
    /// What goes before the first document: no paging, a wide terminal. It may be refused.
    pub(crate) prepare: Vec<String>,
    /// What it asks of somebody who signs in, and what is said to that.
    pub(crate) login: Vec<Asked>,
    /// Lines around an answer that do not belong to it.
    pub(crate) around: Vec<Regex>,
    /// What ends a line that is sent.
    pub(crate) enter: String,
}

/// How somebody becomes who may see everything.
#[derive(Debug)]
pub(crate) struct Enable {
    pub(crate) say: String,
    /// The last line, where it waits for the password.
    pub(crate) asks: Regex,
}

/// A question before the first prompt.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) asks: Regex,
    pub(crate) say: String,
}

/// A document, and the command that yields it.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) command: String,
    /// The last line of a whole one.
    pub(crate) ends: Option<Regex>,
    /// Whether a device may refuse it.
    pub(crate) is_optional: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    title: String,
    /// The vendor's documents that it follows.
    #[serde(rename = "source")]
    _source: String,
    class: Class,
    #[serde(default)]
    shell: Option<WrittenShell>,
    #[serde(default)]
    errors: Vec<String>,
    document: Vec<WrittenDocument>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenShell {
    prompt: String,
    #[serde(default)]
    privileged: Option<String>,
    #[serde(default)]
    enable: Option<WrittenAsked>,
    #[serde(default)]
    pager: Option<String>,
    #[serde(default)]
    prepare: Vec<String>,
    #[serde(default)]
    login: Vec<WrittenAsked>,
    #[serde(default)]
    around: Vec<String>,
    #[serde(default = "newline")]
    enter: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenAsked {
    asks: String,
    say: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenDocument {
    name: String,
    command: String,
    #[serde(default)]
    ends: Option<String>,
    #[serde(default)]
    optional: bool,
}

fn newline() -> String {
    "\n".to_owned()
}

impl Model {
    /// All that come with the program, by name.
    pub fn all() -> &'static [Self] {
        static MODELS: LazyLock<Vec<Model>> = LazyLock::new(|| {
            let read = |(name, text): &(&str, &str)| {
                Model::parse(name, text)
                    .expect("a test reads the models that come with the program")
            };
            BUILT_IN.iter().map(read).collect()
        });
        &MODELS
    }

    /// The one of a name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::all().iter().find(|model| model.name == name)
    }

    /// What it is called in a device's settings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is, in words.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The paths of its documents.
    pub fn paths(&self) -> impl Iterator<Item = String> + '_ {
        self.documents.iter().map(|wanted| format!("/{}", wanted.name))
    }

    /// What says which lines of a document alter by themselves, whatever class its item has: a router may well
    /// be a virtual machine.
    pub const fn subject<'a>(&self, path: &'a str) -> Subject<'a> {
        Subject::of_class(self.class, path)
    }

    /// The line of an answer that says that it is none.
    ///
    /// Errors are short; within a configuration such a line is somebody's banner.
    pub(crate) fn error_in<'a>(&self, answer: &'a str) -> Option<&'a str> {
        const LONGEST_ERROR: usize = 12;
        if answer.lines().filter(|line| !line.trim().is_empty()).count() > LONGEST_ERROR {
            return None;
        }
        answer.lines().find(|line| self.errors.iter().any(|error| error.is_match(line)))
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let written: Written = toml::from_str(text).map_err(|error| error.to_string())?;
        if written.document.is_empty() {
            return Err("it has no document".to_owned());
        }
        let documents = written.document.into_iter().map(|it| {
            let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if it.name.is_empty() || !it.name.chars().all(is_name) {
                return Err(format!("`{}` is no document's name", it.name));
            }
            Ok(Wanted {
                command: line(it.command)?,
                ends: it.ends.map(|ends| pattern(&ends)).transpose()?,
                is_optional: it.optional,
                name: it.name,
            })
        });
        let way = match written.shell {
            None => Way::Exec,
            Some(it) => Way::Shell(Box::new(Shell {
                prompt: whole(&it.prompt)?,
                privileged: it.privileged.map(|it| pattern(&it)).transpose()?,
                enable: it
                    .enable
                    .map(|it| {
                        Ok::<_, String>(Enable { say: line(it.say)?, asks: whole(&it.asks)? })
                    })
                    .transpose()?,
                pager: it.pager.map(|it| whole(&it)).transpose()?,
                prepare: it.prepare.into_iter().map(line).collect::<Result<_, _>>()?,
                login: it
                    .login
                    .into_iter()
                    .map(|it| Ok(Asked { asks: whole(&it.asks)?, say: line(it.say)? }))
                    .collect::<Result<_, String>>()?,
                around: it.around.iter().map(|it| whole(it)).collect::<Result<_, _>>()?,
                enter: it.enter,
            })),
        };
        Ok(Self {
            name: name.to_owned(),
            title: written.title,
            class: written.class,
            way,
            documents: documents.collect::<Result<_, _>>()?,
            errors: written.errors.iter().map(|it| pattern(it)).collect::<Result<_, _>>()?,
        })
    }
}

/// What is sent is one line.
fn line(text: String) -> Result<String, String> {
    if text.chars().any(char::is_control) { Err(format!("{text:?} is no line")) } else { Ok(text) }
}

fn pattern(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(1 << 18).build();
    built.map_err(|error| error.to_string())
}

/// A pattern for a whole line.
fn whole(text: &str) -> Result<Regex, String> {
    pattern(&format!("^(?:{text})$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_models_that_come_with_the_program_can_be_read() {
        let mut names = Vec::new();
        for (name, text) in BUILT_IN {
            let model = Model::parse(name, text).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(!model.documents[0].is_optional, "{name}: of a device something is known");
            assert!(!model.errors.is_empty(), "{name}");
            names.push(*name);
        }
        assert!(names.is_sorted());
        assert_eq!(Model::all().len(), names.len());
        assert_eq!(Model::named("ios").unwrap().title(), "Cisco IOS and IOS XE");
        assert!(Model::named("../ios").is_none());
    }

    #[test]
    fn slips_in_a_model_are_errors() {
        let good = include_str!("../models/ios.toml");
        for (from, to) in [
            ("class = ", "klass = "),
            ("\"running-config\"", "\"../running-config\""),
            ("\"show running-config\"", "\"show running-config\\nreload\""),
            ("'^% ", "'(^% "),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            assert!(Model::parse("ios", &bad).is_err(), "{to}");
        }
        assert!(Model::parse("ios", good).is_ok());
    }

    #[test]
    fn an_error_is_short() {
        let ios = Model::named("ios").unwrap();
        let refused = "show x\n     ^\n% Invalid input detected at '^' marker.\n";
        assert_eq!(ios.error_in(refused), Some("% Invalid input detected at '^' marker."));
        let banner = format!("banner motd ^C\n% Invalid input\n{}", "line\n".repeat(20));
        assert_eq!(ios.error_in(&banner), None);
    }
}
