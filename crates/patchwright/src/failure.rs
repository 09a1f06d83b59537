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
    is_usage: bool,
}

/// Attaches the next step to an error.
pub(crate) fn helped(source: impl Into<anyhow::Error>, help: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Helped { source: source.into(), help: help.into(), is_usage: false })
}

/// The command line asks for something that there is not: exit status 2, as for any other mistake in it.
pub(crate) fn usage(message: impl Into<String>, help: impl Into<String>) -> anyhow::Error {
    let source = anyhow::anyhow!(message.into());
    anyhow::Error::new(Helped { source, help: help.into(), is_usage: true })
}

/// The same error with what was attempted in front of it; the next step stays.
pub(crate) fn during(error: anyhow::Error, attempt: impl Into<String>) -> anyhow::Error {
    match error.downcast::<Helped>() {
        Ok(helped) => {
            anyhow::Error::new(Helped { source: helped.source.context(attempt.into()), ..helped })
        }
        Err(error) => error.context(attempt.into()),
    }
}

/// The cause of this type, if there is one.
pub(crate) fn find<T: std::error::Error + Send + Sync + 'static>(
    error: &anyhow::Error,
) -> Option<&T> {
    match error.downcast_ref::<Helped>() {
        Some(helped) => helped.source.downcast_ref(),
        None => error.downcast_ref(),
    }
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
    match error.downcast_ref::<Helped>() {
        Some(Helped { is_usage: true, .. }) => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// An error as it is told.
pub(crate) fn describe(error: &anyhow::Error) -> String {
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

    #[test]
    fn what_was_attempted_goes_in_front_and_the_way_out_stays() {
        let error = during(helped(io::Error::other("full"), "make room"), "document 2");

        let text = anstream::adapter::strip_str(&describe(&error)).to_string();

        assert_eq!(text, "error: document 2\n  caused by: full\n  help: make room\n");
        assert!(find::<io::Error>(&error).is_some());
    }
}
