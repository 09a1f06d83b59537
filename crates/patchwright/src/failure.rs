//! How a failure is told: what failed, why, and the way out.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::text::plain;

const ERROR: Style = AnsiColor::Red.on_default().bold();
const CAUSE: Style = Style::new().bold();
const HELP: Style = AnsiColor::Cyan.on_default().bold();

/// An error with the next step for whoever reads it.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(crate) struct Helped {
    source: anyhow::Error,
    help: String,
}

/// Attaches the next step to an error.
pub(crate) fn helped(source: impl Into<anyhow::Error>, help: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Helped { source: source.into(), help: help.into() })
}

/// Prints `error:`, `caused by:` and `help:` lines and gives the exit status of a failure.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    // Whoever closed the pipe has seen enough.
    let broken_pipe = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe);
    if !broken_pipe {
        anstream::eprint!("{}", describe(error));
    }
    ExitCode::FAILURE
}

fn describe(error: &anyhow::Error) -> String {
    let (chain, help) = match error.downcast_ref::<Helped>() {
        Some(helped) => (helped.source.chain(), Some(helped.help.as_str())),
        None => (error.chain(), None),
    };
    let mut text = String::new();
    let mut last = String::new();
    for (depth, cause) in chain.enumerate() {
        let message = cause.to_string();
        if message == last {
            continue; // Transparent wrappers repeat what they wrap.
        }
        let _ = if depth == 0 {
            writeln!(text, "{ERROR}error:{ERROR:#} {}", plain(&message))
        } else {
            writeln!(text, "  {CAUSE}caused by:{CAUSE:#} {}", plain(&message))
        };
        last = message;
    }
    if let Some(help) = help {
        let _ = writeln!(text, "  {HELP}help:{HELP:#} {}", plain(help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_cause_and_way_out() {
        let error = anyhow::anyhow!("no such file").context("cannot read `a.json`");

        let text = describe(&helped(error, "name a file that exists"));

        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "error: cannot read `a.json`\n  caused by: no such file\n  help: name a file that exists\n"
        );
    }
}
