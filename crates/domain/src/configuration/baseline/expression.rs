//! What a rule says, in the Common Expression Language (CEL, <https://cel.dev>), and what it is asked of.
//!
//! Expressions compare; they do not compute. What is not listed here is refused when a rule is read, so that
//! each one ends soon whatever it says: no sums of lists or texts, no comprehension within another, patterns only
//! in writing. A thing that cannot be told is an error of CEL, and its `&&`, `||`, `all` and `exists` say
//! whether it matters.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use cel::common::ast::{Expr, LiteralValue};
use cel::extractors::Arguments;
use cel::{Context, Env, ExecutionError, IdedExpr, Program, Value};
use regex::{Regex, RegexBuilder};

use super::Evidence;
use super::observed::{Content, Observed};
use crate::configuration::parameter::{Force, Parameter};
use crate::order::PathPattern;

/// Longest expression, in bytes.
const LONGEST: usize = 2_000;

/// How deep brackets lie in each other.
const DEEPEST: usize = 24;

/// How deep an expression is once it is read.
const DEEPEST_TREE: usize = 200;

/// Most entries of a list.
const MOST_ENTRIES: usize = 2_000;

/// Longest text that an expression sees, in bytes.
const LONGEST_TEXT: usize = 4_096;

/// How much text one expression looks through.
const MOST_BYTES: usize = 64 << 20;

/// Most places that are noted.
const MOST_NOTED: usize = 500;

/// Operators, functions of CEL and ours, with how many arguments each takes.
const KNOWN: &[(&str, &[usize])] = &[
    ("_&&_", &[2]),
    ("_||_", &[2]),
    ("!_", &[1]),
    ("_?_:_", &[3]),
    ("_==_", &[2]),
    ("_!=_", &[2]),
    ("_<_", &[2]),
    ("_<=_", &[2]),
    ("_>_", &[2]),
    ("_>=_", &[2]),
    ("-_", &[1]),
    ("@in", &[2]),
    ("_[_]", &[2]),
    ("@not_strictly_false", &[1]),
    ("size", &[1]),
    ("startsWith", &[2]),
    ("endsWith", &[2]),
    ("contains", &[2]),
    ("int", &[1]),
    ("setting", &[1, 2]),
    ("settings", &[1, 2]),
    ("number", &[1, 2]),
    ("is_set", &[1]),
    ("present", &[1]),
    ("mode_within", &[2]),
    ("owner", &[1]),
    ("lines", &[2]),
    ("captures", &[2]),
    ("like", &[2]),
    ("words", &[1]),
    ("lower", &[1]),
    ("unknown", &[1]),
];

/// An expression that was read and may be asked.
#[derive(Clone)]
pub struct Expression(Arc<Read>);

struct Read {
    text: String,
    program: Program,
    patterns: BTreeMap<String, Regex>,
    paths: BTreeMap<String, PathPattern>,
}

/// An expression that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidExpression {
    /// More than anybody writes.
    #[error("the expression has {size} bytes, more than {LONGEST}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// It is nested too deeply.
    #[error("the expression is nested too deeply")]
    TooDeep,
    /// It is no CEL.
    #[error("the expression cannot be read: {0}")]
    Unreadable(String),
    /// It says something that expressions may not say.
    #[error("an expression may not say {0}")]
    Refused(String),
    /// A pattern is none, or would take too much room.
    #[error("the pattern `{pattern}` cannot be used: {because}")]
    Pattern {
        /// Which.
        pattern: String,
        /// What is wrong with it.
        because: String,
    },
}

/// What an expression said of an item.
pub(super) struct Said {
    /// Whether it holds; why nobody can tell.
    pub(super) answer: Result<bool, String>,
    /// What it looked at.
    pub(super) looked_at: Vec<Evidence>,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// If it is none, or says what expressions may not say.
    pub fn parse(text: &str) -> Result<Self, InvalidExpression> {
        if text.len() > LONGEST {
            return Err(InvalidExpression::TooLong { size: text.len() });
        }
        let mut depth = 0_usize;
        for letter in text.chars() {
            match letter {
                '(' | '[' | '{' | '?' => depth += 1,
                ')' | ']' | '}' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth > DEEPEST {
                return Err(InvalidExpression::TooDeep);
            }
        }
        // The parser is generated and large: whatever it trips over must not end more than this rule.
        let read = catch_unwind(AssertUnwindSafe(|| Program::compile(text)));
        let unreadable = |reason: String| {
            InvalidExpression::Unreadable(reason.lines().next().unwrap_or_default().to_owned())
        };
        let program = match read {
            Ok(read) => read.map_err(|errors| unreadable(errors.to_string()))?,
            Err(_) => return Err(unreadable("the parser gave up".to_owned())),
        };
        let mut look = Look { patterns: BTreeMap::new(), paths: BTreeMap::new() };
        look.at(program.expression(), &mut Vec::new(), 0)?;
        let Look { patterns, paths } = look;
        Ok(Self(Arc::new(Read { text: text.to_owned(), program, patterns, paths })))
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// What it says of an item.
    pub(super) fn of(&self, item: &Arc<Observed>) -> Said {
        static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));
        let asked =
            Asked { item: Arc::clone(item), read: Arc::clone(&self.0), notes: Arc::default() };
        if let Err(because) = item.believable() {
            return Said { answer: Err(because), looked_at: Vec::new() };
        }
        let answer = catch_unwind(AssertUnwindSafe(|| {
            let mut context = Context::with_env(Arc::clone(&ENV));
            asked.offer(&mut context)?;
            match self.0.program.execute(&context) {
                Ok(Value::Bool(holds)) => Ok(holds),
                Ok(_) => Err("the rule does not say whether it holds".to_owned()),
                Err(ExecutionError::FunctionError { message, .. }) => Err(message),
                Err(error) => Err(error.to_string().chars().take(200).collect()),
            }
        }));
        let answer = answer.unwrap_or_else(|_| Err("the rule cannot be worked out".to_owned()));
        let looked_at = asked.notes().noted.clone();
        Said { answer, looked_at }
    }
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Expression").field(&self.0.text).finish()
    }
}

/// Looks whether an expression says only what it may.
struct Look {
    patterns: BTreeMap<String, Regex>,
    paths: BTreeMap<String, PathPattern>,
}

impl Look {
    fn at(
        &mut self,
        expression: &IdedExpr,
        names: &mut Vec<String>,
        depth: usize,
    ) -> Result<(), InvalidExpression> {
        if depth > DEEPEST_TREE {
            return Err(InvalidExpression::TooDeep);
        }
        let refused = |what: &str| Err(InvalidExpression::Refused(what.to_owned()));
        match &expression.expr {
            Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if name == "item" || names.contains(name) => Ok(()),
            Expr::Ident(name) => refused(&format!("`{name}`")),
            Expr::List(list) if list.optional_indices.is_empty() => {
                list.elements.iter().try_for_each(|it| self.at(it, names, depth + 1))
            }
            Expr::Select(select) => self.at(&select.operand, names, depth + 1),
            Expr::Call(call) => {
                let given: Vec<&IdedExpr> =
                    call.target.as_deref().into_iter().chain(&call.args).collect();
                let name = call.func_name.as_str();
                let known = KNOWN.iter().find(|(known, _)| *known == name);
                match known {
                    None => return refused(&format!("`{name}`")),
                    Some((_, takes)) if !takes.contains(&given.len()) => {
                        return refused(&format!("`{name}` with {} arguments", given.len()));
                    }
                    Some(_) => {}
                }
                self.written(name, &given)?;
                given.into_iter().try_for_each(|it| self.at(it, names, depth + 1))
            }
            Expr::Comprehension(of) => {
                if !names.is_empty() {
                    return refused("`all` or `exists` within another");
                }
                self.at(&of.iter_range, names, depth + 1)?;
                names.extend([of.iter_var.clone(), of.accu_var.clone()]);
                for part in [&of.accu_init, &of.loop_cond, &of.loop_step, &of.result] {
                    self.at(part, names, depth + 1)?;
                }
                names.clear();
                Ok(())
            }
            Expr::List(_) | Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => {
                refused("maps or types")
            }
        }
    }

    /// Patterns are written out, so that they are known to be some before anybody is asked.
    fn written(&mut self, function: &str, given: &[&IdedExpr]) -> Result<(), InvalidExpression> {
        let literal = |at: usize| match &given[at].expr {
            Expr::Literal(LiteralValue::String(text)) => Ok(text.inner().to_owned()),
            _ => Err(InvalidExpression::Refused(format!(
                "`{function}` with a pattern that is not written out"
            ))),
        };
        if matches!(function, "lines" | "captures" | "like") {
            let pattern = literal(1)?;
            let built = RegexBuilder::new(&pattern).size_limit(1 << 20).build();
            let wrong = |error: regex::Error| InvalidExpression::Pattern {
                pattern: pattern.clone(),
                because: error.to_string().lines().last().unwrap_or_default().to_owned(),
            };
            let built = built.map_err(wrong)?;
            self.patterns.insert(pattern.clone(), built);
        }
        if matches!(function, "lines" | "captures" | "present") {
            let path = literal(0)?;
            let wrong = |because| InvalidExpression::Pattern { pattern: path.clone(), because };
            let pattern = PathPattern::try_from(path.clone()).map_err(wrong)?;
            self.paths.insert(path, pattern);
        }
        Ok(())
    }
}

/// An item that is asked, and what was looked at.
#[derive(Clone)]
struct Asked {
    item: Arc<Observed>,
    read: Arc<Read>,
    notes: Arc<Mutex<Notes>>,
}

#[derive(Default)]
struct Notes {
    noted: Vec<Evidence>,
    known: BTreeSet<Evidence>,
    bytes: usize,
    /// What was found of lines and captures: a loop asks again and again.
    found: BTreeMap<(bool, String, String), Result<Value, String>>,
}

type Answer = Result<Value, String>;

/// What an expression may call, with what it hands over.
type Function = fn(&Asked, &[Value]) -> Answer;

impl Asked {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what was looked at.
    fn note(&self, evidence: Evidence) {
        let mut notes = self.notes();
        if notes.noted.len() < MOST_NOTED && notes.known.insert(evidence.clone()) {
            notes.noted.push(evidence);
        }
    }

    /// Gives the context all that an expression may ask.
    fn offer(&self, context: &mut Context<'_, '_>) -> Result<(), String> {
        let subject = self.item.subject();
        let labels: BTreeMap<_, _> = subject.labels.clone();
        let map = |of: std::collections::HashMap<String, Value>| Value::from(of);
        let labels = map(labels.into_iter().map(|(key, value)| (key, text(value))).collect());
        let class = text(subject.class.to_string());
        let item = [("class".to_owned(), class), ("labels".to_owned(), labels)];
        context.add_variable_from_value("item", map(item.into_iter().collect()));
        let functions: [(&'static str, Function); 13] = [
            ("setting", |it, given| it.setting(word(given, 0)?, default(given)?).map(text)),
            ("settings", |it, given| it.settings(word(given, 0)?, default(given)?)),
            ("number", |it, given| it.number(given)),
            ("is_set", |it, given| it.is_set(word(given, 0)?)),
            ("present", |it, given| it.present(word(given, 0)?)),
            ("mode_within", |it, given| it.mode_within(word(given, 0)?, word(given, 1)?)),
            ("owner", |it, given| it.owner(word(given, 0)?)),
            ("lines", |it, given| it.found(false, word(given, 0)?, word(given, 1)?)),
            ("captures", |it, given| it.found(true, word(given, 0)?, word(given, 1)?)),
            ("like", |it, given| Ok(it.like(word(given, 0)?, word(given, 1)?))),
            ("words", |_, given| Ok(words(word(given, 0)?))),
            ("lower", |_, given| Ok(text(word(given, 0)?.to_ascii_lowercase()))),
            ("unknown", |_, given| Err(word(given, 0)?.to_owned())),
        ];
        for (name, function) in functions {
            let asked = self.clone();
            let answer = move |Arguments(given): Arguments| -> Result<Value, ExecutionError> {
                function(&asked, &given)
                    .map_err(|because| ExecutionError::function_error(name, because))
            };
            context.add_function(name, answer).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// What counts of a parameter, in the order of files: the condition aside, or with all conditions.
    fn counting(&self, name: &str, with_conditions: bool) -> Result<Vec<&Parameter>, String> {
        let settings = self.item.settings();
        let program = name.split('.').next().unwrap_or_default();
        let program = settings
            .roots
            .keys()
            .find(|root| name.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('.')))
            .ok_or_else(|| format!("no file of `{program}` is recorded"))?;
        let is_meant = |it: &&Parameter| {
            is_like(name, &it.name) && (with_conditions || it.condition.is_none())
        };
        let found: Vec<&Parameter> = settings.parameters.iter().filter(is_meant).collect();
        for it in &found {
            let condition = it.condition.as_ref().map(|it| format!(" [{it}]")).unwrap_or_default();
            let said = format!("{it}{condition}").chars().take(LONGEST_TEXT).collect();
            self.note(Evidence { path: Some(it.path.clone()), line: Some(it.line), text: said });
        }
        if let Some(unsure) = found.iter().find(|it| it.force == Force::Unknown) {
            let at = format!("{}:{}", unsure.path, unsure.line);
            return Err(format!("{at}: another file may set `{}` otherwise", unsure.name));
        }
        if let Some(long) = found.iter().find(|it| it.value.len() > LONGEST_TEXT) {
            return Err(format!("{}:{}: the value is too long", long.path, long.line));
        }
        if found.len() > MOST_ENTRIES {
            return Err(format!("`{name}` is set more than {MOST_ENTRIES} times"));
        }
        // What was not understood may have set it; a keyword that nobody knows is another.
        let files = &settings.roots[program];
        let may_set = |it: &&crate::configuration::parameter::Unknown| {
            (files.contains(&it.path) || it.path.starts_with("/etc/ssh/") && program == "sshd")
                && it.because != "the keyword is not known"
                // Whatever lies below is read by itself.
                && !(program == "nginx" && it.because.starts_with("files that it includes"))
        };
        if found.is_empty()
            && let Some(blind) = settings.unknown.iter().find(may_set)
        {
            return Err(format!("{}:{}: {}", blind.path, blind.line, blind.because));
        }
        Ok(found)
    }

    fn setting(&self, name: &str, default: Option<&str>) -> Result<String, String> {
        let found = self.counting(name, false)?;
        let values: BTreeSet<&str> = found.iter().map(|it| it.value.as_str()).collect();
        match values.len() {
            0 => self.by_default(name, default),
            1 => Ok(found[0].value.clone()),
            _ => Err(format!("`{name}` is set to several values")),
        }
    }

    fn by_default(&self, name: &str, default: Option<&str>) -> Result<String, String> {
        let Some(default) = default else {
            return Err(format!("no file that is recorded sets `{name}`"));
        };
        self.note(Evidence::words(format!("{name} is not set; by default it is `{default}`")));
        Ok(default.to_owned())
    }

    fn settings(&self, name: &str, default: Option<&str>) -> Answer {
        let found = self.counting(name, true)?;
        let mut values: Vec<Value> = found.iter().map(|it| text(it.value.as_str())).collect();
        if let Some(default) = default {
            // Of each server that has files of its own the default counts where it says nothing.
            let program = name.split('.').next().unwrap_or_default();
            let settings = self.item.settings();
            let roots = settings.roots.get(program).into_iter().flatten();
            let says = |root: &str| {
                let below = root.rsplit_once('/').map_or("", |(below, _)| below);
                let unconditional = |it: &&&Parameter| it.condition.is_none();
                found
                    .iter()
                    .filter(unconditional)
                    .any(|it| program != "postgresql" || it.path.starts_with(below))
            };
            let silent: Vec<_> = roots.filter(|root| !says(root)).collect();
            let silent = if program == "postgresql" { silent.len() } else { silent.len().min(1) };
            for _ in 0..silent {
                values.push(text(self.by_default(name, Some(default))?));
            }
        }
        Ok(Value::List(Arc::new(values)))
    }

    fn number(&self, given: &[Value]) -> Answer {
        let name = word(given, 0)?;
        let default = match given.get(1) {
            None => None,
            Some(Value::Int(number)) => Some(number.to_string()),
            Some(_) => return Err("a default of another kind".to_owned()),
        };
        let value = self.setting(name, default.as_deref())?;
        value.parse().map(Value::Int).map_err(|_| format!("`{name}` is no whole number"))
    }

    fn is_set(&self, name: &str) -> Answer {
        self.counting(name, true).map(|found| Value::Bool(!found.is_empty()))
    }

    fn present(&self, path: &str) -> Answer {
        if path.contains('*') {
            self.item.believable()?;
            let found = self.item.matching(&self.read.paths[path]).next();
            if let Some((path, _)) = found {
                self.note(Evidence::file(path, "is there"));
            }
            return Ok(Value::Bool(found.is_some()));
        }
        let found = self.item.file(path)?;
        let said = if found.is_some() { "is there" } else { "is not there" };
        self.note(Evidence::file(path, said));
        Ok(Value::Bool(found.is_some()))
    }

    fn mode_within(&self, path: &str, most: &str) -> Answer {
        let most = u32::from_str_radix(most, 8).map_err(|_| format!("`{most}` is no mode"))?;
        let file = self.there(path)?;
        self.note(Evidence::file(path, format!("mode {:04o}", file.mode & 0o7777)));
        Ok(Value::Bool(file.mode & 0o7777 & !most == 0))
    }

    fn owner(&self, path: &str) -> Answer {
        let file = self.there(path)?;
        self.note(Evidence::file(path, format!("owner {}", file.owner)));
        Ok(text(file.owner.as_str()))
    }

    fn there(&self, path: &str) -> Result<&super::ObservedFile, String> {
        match self.item.file(path)? {
            // What was not seen has no owner and no mode that anybody knows.
            Some((_, file)) if file.owner.is_empty() => match &file.content {
                Content::Kept { because } => Err(format!("{path}: {because}")),
                _ => Ok(file),
            },
            Some((_, file)) => Ok(file),
            None => Err(format!("`{path}` is not there")),
        }
    }

    fn found(&self, is_capture: bool, path: &str, pattern: &str) -> Answer {
        let asked = (is_capture, path.to_owned(), pattern.to_owned());
        if let Some(found) = self.notes().found.get(&asked) {
            return found.clone();
        }
        let found = self.look_through(is_capture, &self.read.paths[path], pattern, path);
        self.notes().found.insert(asked, found.clone());
        found
    }

    fn look_through(
        &self,
        is_capture: bool,
        paths: &PathPattern,
        pattern: &str,
        path: &str,
    ) -> Answer {
        self.item.believable()?;
        let pattern = &self.read.patterns[pattern];
        let mut found = Vec::new();
        let mut is_any = false;
        for (path, file) in self.item.matching(paths) {
            is_any = true;
            let held = match &file.content {
                Content::Text(held) => held,
                Content::Kept { because } => return Err(format!("{path}: {because}")),
                _ => continue,
            };
            {
                let mut notes = self.notes();
                notes.bytes += held.len();
                if notes.bytes > MOST_BYTES {
                    return Err("there is more text than one rule looks through".to_owned());
                }
            }
            for (number, line) in (1..).zip(held.lines()) {
                let Some(captures) = pattern.captures(line) else { continue };
                let taken = if is_capture { captures.get(1) } else { captures.get(0) };
                let Some(taken) = taken else { continue };
                let taken = if is_capture { taken.as_str() } else { line };
                if line.len() > LONGEST_TEXT || found.len() == MOST_ENTRIES {
                    return Err(format!("{path}:{number}: too much for a rule"));
                }
                let said = line.trim().to_owned();
                self.note(Evidence { path: Some(path.to_owned()), line: Some(number), text: said });
                found.push(text(taken));
            }
        }
        if is_any {
            Ok(Value::List(Arc::new(found)))
        } else {
            Err(format!("no file `{path}` is recorded"))
        }
    }

    fn like(&self, of: &str, pattern: &str) -> Value {
        Value::Bool(self.read.patterns[pattern].is_match(of))
    }
}

/// Whether a name is what is asked for; `*` stands for any part of it.
pub(in crate::configuration) fn is_like(asked: &str, name: &str) -> bool {
    let Some((first, rest)) = asked.split_once('*') else { return asked == name };
    let Some(mut left) = name.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return left.ends_with(part);
        }
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    true
}

fn word(given: &[Value], at: usize) -> Result<&str, String> {
    match given.get(at) {
        Some(Value::String(text)) => Ok(text),
        _ => Err("an argument that is no text".to_owned()),
    }
}

fn default(given: &[Value]) -> Result<Option<&str>, String> {
    if given.len() > 1 { word(given, 1).map(Some) } else { Ok(None) }
}

fn text(of: impl Into<String>) -> Value {
    Value::String(Arc::new(of.into()))
}

/// What blanks and commas divide.
fn words(of: &str) -> Value {
    let divides = |letter: char| letter == ',' || letter.is_whitespace();
    let words = of.split(divides).filter(|word| !word.is_empty());
    Value::List(Arc::new(words.map(text).collect()))
}
