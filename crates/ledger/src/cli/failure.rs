//! How a failure is told: what failed, why, and the way out.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use super::render::plain;
use crate::errors::VerifyError;

/// What failed, why, and the way out.
///
/// Shows itself as `error:`, `caused by:` and `help:` lines, safe for a terminal.
#[derive(Debug)]
pub struct Failure {
    /// The failure and its causes, outermost first.
    chain: Vec<String>,
    help: Option<String>,
    is_usage: bool,
}

impl Failure {
    /// Exit status: 1 where verification failed, 2 where the command was not understood.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(if self.is_usage { 2 } else { 1 })
    }

    pub(super) fn of(error: &dyn Error, help: Option<String>) -> Self {
        let mut chain = Vec::new();
        let mut next = Some(error);
        while let Some(error) = next {
            let message = error.to_string();
            // Transparent wrappers repeat what they wrap; some quote their cause.
            if chain.last().is_none_or(|last: &String| !last.contains(&message)) {
                chain.push(message);
            }
            next = error.source();
        }
        Self { chain, help, is_usage: false }
    }

    pub(super) fn usage(message: String, help: &str) -> Self {
        Self { chain: vec![message], help: Some(help.to_owned()), is_usage: true }
    }

    pub(super) fn into_usage(self) -> Self {
        Self { is_usage: true, ..self }
    }

    pub(super) fn in_file(mut self, file: &Path) -> Self {
        self.chain.insert(0, format!("`{}` is not usable", file.display()));
        self
    }

    pub(super) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "sound": false,
            "error": self.chain.first(),
            "causes": self.chain.get(1..).unwrap_or_default(),
            "help": self.help,
        })
    }
}

impl From<VerifyError> for Failure {
    fn from(error: VerifyError) -> Self {
        Self::of(&error, error.help())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (depth, message) in self.chain.iter().enumerate() {
            let label = if depth == 0 { "error:" } else { "\n  caused by:" };
            write!(f, "{label} {}", plain(message))?;
        }
        match &self.help {
            Some(help) => write!(f, "\n  help: {}", plain(help)),
            None => Ok(()),
        }
    }
}

impl Error for Failure {}
