//! Messages: notices in words, by templates.
//!
//! Each kind has a subject, a text and an HTML page. The English ones come with the program; a
//! directory of the operator's, `<language>/<kind>.{subject,txt,html}`, takes their places one by
//! one or adds languages. All of it is tried when it is loaded, with a full and a bare notice of
//! each kind, so that a template that names what there is not is refused before anybody waits for
//! its message.

mod check;
mod clocks;
mod context;
mod digest;
mod drift;
mod error;
mod time;

pub(crate) use context::short;
pub use digest::{DigestError, MOST_IN_DIGEST};
pub use error::TemplateError;

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};

use crate::content::{Kind, Line, Notice};
use check::check;
use context::Context;

/// A notice in words. No subject has more than one line, whatever a template does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// What it is about.
    pub subject: Line,
    /// Plain text.
    pub text: String,
    /// The same as an HTML page of its own, without anything to be fetched.
    pub html: String,
}

/// The language that is always there.
pub const ENGLISH: &str = "en";

/// Largest template, in bytes.
const LARGEST_TEMPLATE: u64 = 256 << 10;

/// Steps that one rendering may take: some hundred times what the largest digest needs.
const FUEL: u64 = 20_000_000;

/// The name of the block of a page that a feed takes.
const CONTENT: &str = "content";

/// The three forms of a message.
const FORMS: [&str; 3] = ["subject", "txt", "html"];

/// The page, the facts and the questions that all kinds share begin with this.
const PART: char = '_';

macro_rules! english {
    ($($name:literal)+) => {
        &[$(($name, include_str!(concat!("../../templates/en/", $name)))),+]
    };
}

/// By their names below `en/`.
const ENGLISH_TEMPLATES: &[(&str, &str)] = english!(
    "_ask.html" "_ask.txt" "_facts.html" "_facts.txt" "_layout.html" "_words.txt"
    "planned.subject" "planned.txt" "planned.html"
    "reminder.subject" "reminder.txt" "reminder.html"
    "emergency.subject" "emergency.txt" "emergency.html"
    "lapsed.subject" "lapsed.txt" "lapsed.html"
    "started.subject" "started.txt" "started.html"
    "completed.subject" "completed.txt" "completed.html"
    "delayed.subject" "delayed.txt" "delayed.html"
    "cancelled.subject" "cancelled.txt" "cancelled.html"
    "failed.subject" "failed.txt" "failed.html"
    "disputed.subject" "disputed.txt" "disputed.html"
    "digest.subject" "digest.txt" "digest.html"
    "_clocks.txt" "clocks.subject" "clocks.txt" "clocks.html"
    "_drift.txt" "drift.subject" "drift.txt" "drift.html"
);

/// All templates of all languages, tried.
#[derive(Clone)]
pub struct Templates {
    environment: Arc<Environment<'static>>,
    languages: Vec<String>,
    gaps: Vec<(String, Vec<&'static str>)>,
}

impl Templates {
    /// The English ones that come with the program.
    ///
    /// # Panics
    /// Never: the tests load them.
    pub fn english() -> Self {
        Self::of(BTreeMap::new(), Vec::new()).expect("the templates that come along are right")
    }

    /// Those of a directory over the English ones: `<language>/<kind>.{subject,txt,html}`, and parts
    /// whose names begin with `_`. What a language lacks is taken from the English.
    ///
    /// # Errors
    /// If a file cannot be read, has a name that nothing asks for, or does not do for every kind of
    /// notice that it is for.
    pub fn load(directory: &Path) -> Result<Self, TemplateError> {
        let mut files = BTreeMap::new();
        let mut languages = Vec::new();
        for language in names(directory)? {
            if !is_language(&language) {
                return Err(TemplateError::Language { name: language });
            }
            let place = directory.join(&language);
            for name in names(&place)? {
                if !name.starts_with(PART) && !is_asked_for(&name) {
                    return Err(TemplateError::Unknown { file: format!("{language}/{name}") });
                }
                let source = read(&place.join(&name), &format!("{language}/{name}"))?;
                files.insert(format!("{language}/{name}"), source);
            }
            languages.push(language);
        }
        Self::of(files, languages)
    }

    /// The languages that there are.
    pub fn languages(&self) -> impl Iterator<Item = &str> {
        let others = self.languages.iter().map(String::as_str).filter(|&it| it != ENGLISH);
        std::iter::once(ENGLISH).chain(others)
    }

    /// Whether there are templates in a language (`de-AT`) or in the wider one (`de`).
    pub fn speaks(&self, language: &str) -> bool {
        is_language(language) && self.found(language).is_some()
    }

    /// Of each language of the directory, the files that it lacks: of a narrower language (`de-AT`) those
    /// of the wider one (`de`) stand in, else the English ones. Only languages that lack something.
    pub fn gaps(&self) -> impl Iterator<Item = (&str, &[&'static str])> {
        self.gaps.iter().map(|(language, gaps)| (language.as_str(), &**gaps))
    }

    /// A notice in words, in a language (`de-AT`) or the nearest there is (`de`, English).
    ///
    /// # Errors
    /// If a template cannot do this notice, which the trial at loading makes unlikely.
    pub fn message(&self, language: &str, notice: &Notice) -> Result<Message, TemplateError> {
        let context = Value::from(Serde(Context::new(notice)));
        self.render(language, notice.kind().as_str(), &context)
    }

    /// The subject of a notice, and its page without head and foot, as HTML for a feed.
    pub(crate) fn entry(
        &self,
        language: &str,
        notice: &Notice,
    ) -> Result<(Line, String), TemplateError> {
        let context = Value::from(Serde(Context::new(notice)));
        let (language, kind) = (self.nearest(language), notice.kind().as_str());
        let subject = self.subject(language, kind, &context)?;
        let template = self.environment.get_template(&format!("{language}/{kind}.html"))?;
        let mut page = template.render_captured(context)?;
        let html = page.with_state_mut(|state| state.render_block(CONTENT))?;
        Ok((subject, readable(&html)))
    }

    fn of(files: BTreeMap<String, String>, languages: Vec<String>) -> Result<Self, TemplateError> {
        let gaps = languages.iter().filter(|it| *it != ENGLISH).filter_map(|language| {
            let lacks = |name: &str| !files.contains_key(&format!("{language}/{name}"));
            let names = ENGLISH_TEMPLATES.iter().map(|(name, _)| *name);
            let lacking: Vec<_> = names.filter(|name| lacks(name)).collect();
            (!lacking.is_empty()).then(|| (language.clone(), lacking))
        });
        let gaps = gaps.collect();
        let templates = Self { environment: Arc::new(environment(files)), languages, gaps };
        for language in templates.languages() {
            check(&templates, language)?;
        }
        Ok(templates)
    }

    fn nearest<'a>(&'a self, language: &'a str) -> &'a str {
        self.found(language).unwrap_or(ENGLISH)
    }

    /// The language of the templates that are read for a language; `None` where there are none.
    fn found<'a>(&'a self, language: &'a str) -> Option<&'a str> {
        [language, wider(language)].into_iter().find(|name| self.languages().any(|it| it == *name))
    }

    fn render(
        &self,
        language: &str,
        name: &str,
        context: &Value,
    ) -> Result<Message, TemplateError> {
        let language = self.nearest(language);
        let form = |form: &str| -> Result<String, TemplateError> {
            let template = self.environment.get_template(&format!("{language}/{name}.{form}"))?;
            Ok(template.render(context.clone())?)
        };
        Ok(Message {
            subject: self.subject(language, name, context)?,
            text: tidy(&form("txt")?),
            html: readable(&form("html")?),
        })
    }

    fn subject(&self, language: &str, name: &str, context: &Value) -> Result<Line, TemplateError> {
        let file = format!("{language}/{name}.subject");
        let template = self.environment.get_template(&file)?;
        let subject = template.render(context.clone())?;
        Line::fit(&subject).ok_or(TemplateError::NoSubject { file })
    }
}

impl fmt::Debug for Templates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Templates").field("languages", &self.languages).finish_non_exhaustive()
    }
}

fn environment(files: BTreeMap<String, String>) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_loader(move |name| Ok(source(&files, name)));
    // What a template takes in is of its own language.
    environment.set_path_join_callback(|name, parent| {
        let language = parent.split_once('/').map_or(ENGLISH, |(language, _)| language);
        format!("{language}/{name}").into()
    });
    environment.set_auto_escape_callback(|name| {
        let form = name.rsplit_once('.').map_or("", |(_, form)| form);
        if form == "html" { AutoEscape::Html } else { AutoEscape::None }
    });
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    // Statements that stand on lines of their own leave no lines behind.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are Jinja's own"));
    environment.set_fuel(Some(FUEL));
    // An error then names the variable that is not there.
    environment.set_debug(true);
    environment
}

fn source(files: &BTreeMap<String, String>, name: &str) -> Option<String> {
    if let Some(source) = files.get(name) {
        return Some(source.clone());
    }
    let (language, name) = name.split_once('/')?;
    if let Some(source) = files.get(&format!("{}/{name}", wider(language))) {
        return Some(source.clone());
    }
    let english = || ENGLISH_TEMPLATES.iter().find(|(known, _)| *known == name);
    files
        .get(&format!("{ENGLISH}/{name}"))
        .cloned()
        .or_else(|| english().map(|(_, source)| (*source).to_owned()))
}

/// Whether a message of some kind is made of a file of this name.
fn is_asked_for(name: &str) -> bool {
    let others = [digest::NAME, clocks::NAME, drift::NAME];
    let kinds = Kind::ALL.iter().map(|kind| kind.as_str()).chain(others);
    name.split_once('.').is_some_and(|(kind, form)| {
        kinds.clone().any(|known| known == kind) && FORMS.contains(&form)
    })
}

/// `de` of `de-AT`.
fn wider(language: &str) -> &str {
    language.split('-').next().unwrap_or(language)
}

/// `de`, `de-AT`.
fn is_language(name: &str) -> bool {
    let mut parts = name.split('-');
    parts.next().is_some_and(|base| {
        (2..=3).contains(&base.len()) && base.bytes().all(|byte| byte.is_ascii_lowercase())
    }) && parts.all(|part| {
        (2..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn names(directory: &Path) -> Result<Vec<String>, TemplateError> {
    let failed = |source| TemplateError::File { path: directory.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name().to_string_lossy().into_owned();
        // What editors and version control leave there.
        if !name.starts_with('.') {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

fn read(path: &Path, file: &str) -> Result<String, TemplateError> {
    let failed = |source| TemplateError::File { path: path.to_owned(), source };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > LARGEST_TEMPLATE {
        return Err(TemplateError::TooLarge { file: file.to_owned(), size });
    }
    fs::read_to_string(path).map_err(failed)
}

/// With plain slashes, which need no escape: not every gateway that looks at links decodes them.
fn readable(html: &str) -> String {
    html.replace("&#x2f;", "/")
}

/// Without blanks at the ends of lines, and at most one empty line in a row.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut empty = 0;
    for line in text.lines().map(str::trim_end) {
        empty = if line.is_empty() { empty + 1 } else { 0 };
        if empty < 2 && !(tidy.is_empty() && line.is_empty()) {
            tidy.push_str(line);
            tidy.push('\n');
        }
    }
    tidy.truncate(tidy.trim_end().len());
    tidy.push('\n');
    tidy
}
