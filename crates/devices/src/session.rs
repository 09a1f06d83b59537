//! A session in a device's terminal: bytes in, what to send out. It knows no network and no clock.
//!
//! ```text
//! Entering ─► Enabling ─► Preparing(0..) ─► Asking(0..) ─► Ended
//! ```
//!
//! A prompt counts where it is the last line, nothing follows it for a moment (the transport says when:
//! [`Session::quiet`]), and it is the very one that came first: what a configuration has in it is none.

use regex::Regex;
use zeroize::Zeroizing;

use crate::error::LookError;
use crate::look::Refused;
use crate::model::{Model, Shell};
use crate::target::Secret;
use crate::terminal::Terminal;

/// Longest part of what a device says that goes into an error.
const SAID: usize = 160;

/// One answer, as it came: with its secrets.
pub(crate) struct Answer {
    /// Which of the model's documents.
    pub(crate) document: usize,
    pub(crate) text: Zeroizing<String>,
}

/// What a session comes to.
#[derive(Default)]
pub(crate) struct Answers {
    pub(crate) answers: Vec<Answer>,
    /// Optional documents that the device refuses.
    pub(crate) refused: Vec<Refused>,
}

/// What to do after a moment without anything new.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this.
    Send(Zeroizing<Vec<u8>>),
    /// It has not said all yet.
    Wait,
    /// All is asked.
    Ended,
}

pub(crate) struct Session<'m> {
    model: &'m Model,
    shell: &'m Shell,
    enable: Option<&'m Secret>,
    /// Most bytes of one answer.
    most: usize,
    terminal: Terminal,
    stage: Stage,
    /// The prompt that is waited for, once one was seen.
    prompt: Option<String>,
    /// Which questions before the first prompt were answered.
    is_said: Vec<bool>,
    outcome: Answers,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Entering,
    Enabling { is_told: bool },
    Preparing(usize),
    Asking(usize),
    Ended,
}

impl<'m> Session<'m> {
    pub(crate) fn new(
        model: &'m Model,
        shell: &'m Shell,
        enable: Option<&'m Secret>,
        most: usize,
    ) -> Self {
        Self {
            model,
            shell,
            enable,
            most,
            terminal: Terminal::default(),
            stage: Stage::Entering,
            prompt: None,
            is_said: vec![false; shell.login.len()],
            outcome: Answers::default(),
        }
    }

    /// Takes in what came; gives what is to be sent at once, to go on behind a pager.
    pub(crate) fn received(&mut self, bytes: &[u8]) -> Result<Option<&'static [u8]>, LookError> {
        self.terminal.feed(bytes);
        if self.terminal.size() > self.most {
            return Err(LookError::TooLong { command: self.command(), most: self.most });
        }
        let waits = self.shell.pager.as_ref().is_some_and(|pager| {
            let line = self.terminal.last_line();
            // Nobody answers the same pager twice.
            !line.is_empty() && pager.is_match(&line)
        });
        if !waits || !matches!(self.stage, Stage::Preparing(_) | Stage::Asking(_)) {
            return Ok(None);
        }
        self.terminal.answered();
        Ok(Some(b" "))
    }

    /// Nothing new came for a moment.
    pub(crate) fn quiet(&mut self) -> Result<Next, LookError> {
        let line = self.terminal.last_line();
        match self.stage {
            Stage::Entering => Ok(self.enter(&line)),
            Stage::Enabling { is_told } => self.enable(&line, is_told),
            Stage::Preparing(_) | Stage::Asking(_) if Some(&line) == self.prompt.as_ref() => {
                self.answered()
            }
            Stage::Preparing(_) | Stage::Asking(_) => Ok(Next::Wait),
            Stage::Ended => Ok(Next::Ended),
        }
    }

    /// It says nothing more: why that is an error.
    pub(crate) fn stuck(&self) -> LookError {
        match self.stage {
            // Nothing secret was asked for yet.
            Stage::Entering => LookError::NoPrompt { said: said(&self.terminal.last_line()) },
            Stage::Enabling { .. } => LookError::NotEnabled,
            _ => LookError::Silent { command: self.command() },
        }
    }

    pub(crate) fn end(self) -> Answers {
        self.outcome
    }

    fn enter(&mut self, line: &str) -> Next {
        for (asked, is_said) in self.shell.login.iter().zip(&mut self.is_said) {
            if !*is_said && asked.asks.is_match(line) {
                *is_said = true;
                self.terminal.take();
                return self.send(&asked.say);
            }
        }
        if !self.shell.prompt.is_match(line) {
            return Next::Wait;
        }
        let is_privileged =
            self.shell.privileged.as_ref().is_none_or(|privileged| privileged.is_match(line));
        match &self.shell.enable {
            Some(enable) if !is_privileged => {
                self.stage = Stage::Enabling { is_told: false };
                self.terminal.take();
                self.send(&enable.say)
            }
            _ => {
                self.prompt = Some(line.to_owned());
                self.go_on(Stage::Preparing(0))
            }
        }
    }

    fn enable(&mut self, line: &str, is_told: bool) -> Result<Next, LookError> {
        let matches =
            |pattern: &Option<Regex>| pattern.as_ref().is_some_and(|it| it.is_match(line));
        if self.shell.prompt.is_match(line) {
            if !matches(&self.shell.privileged) {
                return Err(LookError::NotEnabled);
            }
            self.prompt = Some(line.to_owned());
            return Ok(self.go_on(Stage::Preparing(0)));
        }
        if !self.shell.enable.as_ref().is_some_and(|enable| enable.asks.is_match(line)) {
            return Ok(Next::Wait);
        }
        // A second question is a no to the first answer.
        let (Some(secret), false) = (self.enable, is_told) else {
            return Err(LookError::NotEnabled);
        };
        self.stage = Stage::Enabling { is_told: true };
        self.terminal.take();
        let mut sent = Zeroizing::new(secret.reveal().as_bytes().to_vec());
        sent.extend_from_slice(self.shell.enter.as_bytes());
        Ok(Next::Send(sent))
    }

    /// The prompt is there again.
    fn answered(&mut self) -> Result<Next, LookError> {
        let prompt = self.prompt.clone().unwrap_or_default();
        let command = self.command();
        let text = Zeroizing::new(self.terminal.take());
        match self.stage {
            // Whatever it says to that: pagers are answered, too.
            Stage::Preparing(at) => Ok(self.go_on(Stage::Preparing(at + 1))),
            Stage::Asking(at) => {
                let text = trimmed(&text, &prompt, &command, &self.shell.around);
                take_in(self.model, at, text, &mut self.outcome)?;
                Ok(self.go_on(Stage::Asking(at + 1)))
            }
            Stage::Entering | Stage::Enabling { .. } | Stage::Ended => Ok(Next::Wait),
        }
    }

    fn go_on(&mut self, stage: Stage) -> Next {
        self.stage = match stage {
            Stage::Preparing(at) if at >= self.shell.prepare.len() => Stage::Asking(0),
            other => other,
        };
        if matches!(self.stage, Stage::Asking(at) if at >= self.model.documents.len()) {
            self.stage = Stage::Ended;
            return Next::Ended;
        }
        self.terminal.take();
        let command = self.command();
        self.send(&command)
    }

    /// What was asked last.
    fn command(&self) -> String {
        let command = match self.stage {
            Stage::Entering | Stage::Ended => return String::new(),
            Stage::Enabling { .. } => self.shell.enable.as_ref().map(|enable| &enable.say),
            Stage::Preparing(at) => self.shell.prepare.get(at),
            Stage::Asking(at) => self.model.documents.get(at).map(|wanted| &wanted.command),
        };
        command.cloned().unwrap_or_default()
    }

    fn send(&self, line: &str) -> Next {
        Next::Send(Zeroizing::new([line.as_bytes(), self.shell.enter.as_bytes()].concat()))
    }
}

/// Takes in what a device answered to the command of a document: what is whole, and no refusal.
pub(crate) fn take_in(
    model: &Model,
    document: usize,
    text: Zeroizing<String>,
    outcome: &mut Answers,
) -> Result<(), LookError> {
    let wanted = &model.documents[document];
    let is_whole = |end: &Regex| {
        let last = text.lines().rev().find(|line| !line.trim().is_empty());
        last.is_some_and(|last| end.is_match(last.trim_end()))
    };
    let refusal = match model.error_in(&text) {
        Some(line) => {
            Some(LookError::Refused { command: wanted.command.clone(), said: said(line) })
        }
        None if text.trim().is_empty() => {
            Some(LookError::Empty { command: wanted.command.clone() })
        }
        None if !wanted.ends.as_ref().is_none_or(is_whole) => {
            Some(LookError::Incomplete { command: wanted.command.clone() })
        }
        None => None,
    };
    match refusal {
        None => outcome.answers.push(Answer { document, text }),
        Some(error) => return refuse(model, document, error, outcome),
    }
    Ok(())
}

/// Notes that a device does not tell a document; an error where it has to.
pub(crate) fn refuse(
    model: &Model,
    document: usize,
    error: LookError,
    outcome: &mut Answers,
) -> Result<(), LookError> {
    let wanted = &model.documents[document];
    if !wanted.is_optional {
        return Err(error);
    }
    let path = format!("/{}", wanted.name);
    outcome.refused.push(Refused { path, because: error.to_string() });
    Ok(())
}

/// The answer without what stands around it: the command as it was echoed, the prompt, notes of the shell.
fn trimmed(text: &str, prompt: &str, command: &str, around: &[Regex]) -> Zeroizing<String> {
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    let is_echo = |line: &str| {
        let line = line.trim();
        line == command || line.strip_prefix(prompt.trim()).is_some_and(|it| it.trim() == command)
    };
    if lines.first().is_some_and(|line| is_echo(line)) {
        lines.remove(0);
    }
    let is_around = |line: &str| around.iter().any(|it| it.is_match(line.trim_end()));
    while lines.last().is_some_and(|line| is_around(line)) {
        lines.pop();
    }
    let begin = lines.iter().position(|line| !is_around(line)).unwrap_or(lines.len());
    Zeroizing::new(lines.drain(begin..).collect())
}

/// A short part of what a device said.
pub(crate) fn said(line: &str) -> String {
    let line = line.trim();
    let plain = line.chars().map(|it| if it.is_control() { ' ' } else { it });
    let mut said: String = plain.take(SAID).collect();
    if said.len() < line.len() {
        said.push('…');
    }
    said
}
