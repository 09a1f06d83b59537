//! What a drill does, act by act: shown while it happens, kept for the report.

use std::io::{IsTerminal as _, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::Serialize;

use crate::text::plain;

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// How an act ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// As it was to.
    Done,
    /// Otherwise.
    Failed,
}

/// Something that was done.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Act {
    /// What, as a heading.
    pub(super) title: String,
    /// The numbered requirements of X.1642 that it exercises (`R4`).
    pub(super) requirements: Vec<&'static str>,
    /// When it began.
    pub(super) at: Timestamp,
    /// How long it took.
    pub(super) took_seconds: f64,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// What was seen, in the order in which it was.
    pub(super) facts: Vec<Fact>,
}

/// Something that was seen.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fact {
    /// Of what.
    pub(super) of: String,
    /// What.
    pub(super) seen: String,
}

/// All acts so far, and the screen on which they appear.
pub(super) struct Course {
    acts: Mutex<Vec<Act>>,
    screen: MultiProgress,
    is_live: bool,
}

/// An act that is under way.
pub(super) struct Stage {
    bar: ProgressBar,
    facts: Mutex<Vec<Fact>>,
}

impl Course {
    /// Nothing was done yet.
    pub(super) fn new() -> Self {
        let is_live = std::io::stderr().is_terminal();
        Self { acts: Mutex::default(), screen: MultiProgress::new(), is_live }
    }

    /// All that was done, in the order in which it ended.
    pub(super) fn acts(&self) -> Vec<Act> {
        lock(&self.acts).clone()
    }

    /// Does something, shows it, and keeps how it ended.
    pub(super) fn act<T>(
        &self,
        title: &str,
        requirements: &[&'static str],
        play: impl FnOnce(&Stage) -> Result<T>,
    ) -> Result<T> {
        let (at, began) = (Timestamp::now(), Instant::now());
        let stage = Stage { bar: self.bar(title), facts: Mutex::default() };
        if !self.is_live {
            self.line(&format!("{DIM}· {title}{DIM:#}"));
        }
        let result = play(&stage);
        stage.bar.finish_and_clear();
        let facts = stage.facts.into_inner().unwrap_or_else(PoisonError::into_inner);
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        let took = began.elapsed();
        self.ended(title, outcome, took, &facts);
        lock(&self.acts).push(Act {
            title: title.to_owned(),
            requirements: requirements.to_vec(),
            at,
            took_seconds: (took.as_secs_f64() * 10.0).round() / 10.0,
            outcome,
            facts,
        });
        result
    }

    fn bar(&self, title: &str) -> ProgressBar {
        if !self.is_live {
            return ProgressBar::hidden();
        }
        let style =
            ProgressStyle::with_template("{spinner:.cyan} {prefix}  {msg:.dim} {elapsed:.dim}");
        let bar = self.screen.add(ProgressBar::new_spinner());
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(title.to_owned());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    fn ended(&self, title: &str, outcome: Outcome, took: Duration, facts: &[Fact]) {
        let took = took.as_secs_f64();
        self.line(&match outcome {
            Outcome::Done => format!("{GOOD}✓{GOOD:#} {title:<58} {DIM}{took:>6.1} s{DIM:#}"),
            Outcome::Failed => format!("{BAD}✗ {title:<58}{BAD:#} {DIM}{took:>6.1} s{DIM:#}"),
        });
        for fact in facts {
            self.line(&format!("    {:<12} {DIM}{}{DIM:#}", fact.of, plain(&fact.seen)));
        }
    }

    /// A line that stays.
    pub(super) fn line(&self, text: &str) {
        self.screen.suspend(|| {
            // Whoever does not listen misses nothing that is not in the report.
            let _ = writeln!(anstream::stderr(), "{text}");
        });
    }
}

impl Stage {
    /// What is going on right now.
    pub(super) fn says(&self, what: impl Into<String>) {
        self.bar.set_message(plain(&what.into()));
    }

    /// Keeps what was seen.
    pub(super) fn fact(&self, of: impl Into<String>, seen: impl Into<String>) {
        let fact = Fact { of: of.into(), seen: seen.into() };
        self.says(format!("{}: {}", fact.of, fact.seen));
        lock(&self.facts).push(fact);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
