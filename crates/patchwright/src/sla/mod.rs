//! `patchwright sla`: what an SLA policy says, whether it can be kept, what differs, what it would have
//! made of the patches that were, and how both sides agree on one.

mod negotiate;
mod simulate;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use domain::sla::{
    Exclusion, PRIORITIES, Path as Way, Policy, PolicyError, Regulation, WorstPath, diff,
};
use jiff::SignedDuration;

use crate::failure::{during, helped};
use crate::text::{count, plain};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();

/// Read SLA policies between provider and tenant: what they say, and whether they can be kept.
#[derive(Debug, Args)]
pub(crate) struct SlaArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check a policy: it is refused, with the key and its place, where even everybody's keeping all
    /// waits would break it; what regulations ask beyond it is told.
    Check {
        /// A file, or the name of a built-in policy.
        #[arg(default_value = DEFAULT)]
        policy: String,
        /// What a file was negotiated from: a file, or the name of a built-in policy.
        #[arg(long, value_name = "POLICY", default_value = DEFAULT)]
        base: String,
    },
    /// Print a whole policy, with what it takes from the one that it was negotiated from.
    Show {
        /// A file, or the name of a built-in policy.
        #[arg(default_value = DEFAULT)]
        policy: String,
        /// What a file was negotiated from: a file, or the name of a built-in policy.
        #[arg(long, value_name = "POLICY", default_value = DEFAULT)]
        base: String,
    },
    /// Tell what differs between two policies; status 3 where anything does and `--exit-code` is given.
    Diff {
        /// The first: a file, or the name of a built-in policy.
        before: String,
        /// The second.
        after: String,
        /// What a file was negotiated from: a file, or the name of a built-in policy.
        #[arg(long, value_name = "POLICY", default_value = DEFAULT)]
        base: String,
        /// End with status 3 where anything differs.
        #[arg(long)]
        exit_code: bool,
    },
    /// Judge what was by another policy: which patches of the last quarter would have been in time.
    Simulate(simulate::SimulateArgs),
    /// Negotiate a policy with the other side, at the control plane.
    Policy(negotiate::PolicyArgs),
}

const DEFAULT: &str = "x1642-default";

/// Something differs.
const DIFFERS: u8 = 3;

/// Runs the command.
pub(crate) fn run(arguments: &SlaArgs, out: &mut impl Write) -> Result<ExitCode> {
    match &arguments.command {
        Command::Check { policy, base } => {
            check(&read(policy, base)?, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Show { policy, base } => {
            out.write_all(read(policy, base)?.to_toml().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff { before, after, base, exit_code } => {
            let differences = diff(&read(before, base)?, &read(after, base)?);
            if differences.is_empty() {
                writeln!(out, "{GOOD}✓{GOOD:#} nothing differs")?;
            }
            for difference in &differences {
                writeln!(out, "{}", plain(&difference.to_string()))?;
            }
            let differs = *exit_code && !differences.is_empty();
            Ok(if differs { ExitCode::from(DIFFERS) } else { ExitCode::SUCCESS })
        }
        Command::Simulate(arguments) => {
            simulate::run(arguments, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Policy(arguments) => negotiate::run(arguments, out),
    }
}

/// A policy by its name, or from a file, laid over what it was negotiated from.
fn read(name: &str, base: &str) -> Result<Policy> {
    if Policy::builtin_names().contains(&name) {
        return Policy::builtin(name).cloned().map_err(refused);
    }
    let path = Path::new(name);
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let known = Policy::builtin_names().join(", ");
            let error = anyhow::Error::new(error).context(format!("cannot read `{name}`"));
            return Err(helped(error, format!("name a file, or one of: {known}")));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read `{name}`")),
    };
    let policy = match Policy::builtin(base) {
        Ok(base) => base.negotiate(&text),
        Err(_) if base == name => Policy::from_toml(&text),
        Err(_) => read(base, base)?.negotiate(&text),
    };
    policy.map_err(|error| during(refused(error), format!("cannot use `{name}`")))
}

fn refused(error: PolicyError) -> anyhow::Error {
    let help = error.help().unwrap_or_default();
    helped(error, help)
}

fn check(policy: &Policy, out: &mut impl Write) -> Result<()> {
    let document = policy.document();
    writeln!(
        out,
        "{BOLD}{}{BOLD:#} {} {DIM}{}{DIM:#}\n",
        plain(&document.name),
        plain(&document.version),
        plain(&document.title)
    )?;
    writeln!(
        out,
        "  {BOLD}{:<9} {:>8} {:>11}  {:<34} {:<12} DEFERRALS{BOLD:#}",
        "PRIORITY", "DEADLINE", "WORST PATH", "APPROVAL", "LEAD TIME"
    )?;
    for priority in PRIORITIES {
        let terms = policy.terms(priority);
        let worst = WorstPath::of(terms, Way::Ordinary, policy.calendar());
        let deferrals = match terms.deferrals.count {
            0 => "none".to_owned(),
            count => format!("{count} × {}", terms.deferrals.longest),
        };
        writeln!(
            out,
            "  {:<9} {:>8} {:>11}  {:<34} {:<12} {deferrals}",
            priority.to_string(),
            terms.deadline.to_string(),
            span(worst.total()),
            terms.approval.to_string(),
            terms.notice.lead.to_string(),
        )?;
    }
    writeln!(out, "\n{GOOD}✓{GOOD:#} it can be kept: no worst path is longer than its deadline")?;
    if document.snapshots {
        writeln!(
            out,
            "\n  Snapshots: the provider may keep machines' disks before a restart, and go back to them."
        )?;
    }
    if let Some(hours) = document.drift_hours {
        writeln!(
            out,
            "\n  Drift: alterations to which nobody agreed escalate after {hours} hours."
        )?;
    }
    excluded(&document.exclusions, out)?;
    regulations(policy, out)
}

/// What the policy does not cover, and whether that is said to the control plane or to people alone.
fn excluded(exclusions: &[Exclusion], out: &mut impl Write) -> Result<()> {
    if exclusions.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{BOLD}Not covered{BOLD:#}")?;
    for one in exclusions {
        let until = one.until.map(|last| format!(" until {last}")).unwrap_or_default();
        writeln!(out, "  {}{until} {DIM}({}){DIM:#}", plain(&one.what), plain(&one.reason))?;
        let mut parts: Vec<String> = one.class.iter().map(|it| format!("class {it}")).collect();
        parts.extend(one.labels.iter().map(|(key, value)| format!("label {key}={}", plain(value))));
        if !one.sources.is_empty() {
            parts.push(format!("of {}", plain(&one.sources.join(", "))));
        }
        if parts.is_empty() {
            parts.push("in words alone: no finding is excluded by it".to_owned());
        }
        writeln!(out, "      {DIM}{}{DIM:#}", parts.join(", "))?;
    }
    Ok(())
}

/// What each regulation asks beyond the policy. Those that bind are kept beside it, so that their
/// dates hold all the same.
fn regulations(policy: &Policy, out: &mut impl Write) -> Result<()> {
    writeln!(out, "\n{BOLD}Regulations{BOLD:#}")?;
    let binding: Vec<_> = policy.regulations().map(|it| it.reference().name).collect();
    for name in Regulation::builtin_names() {
        let regulation = Regulation::builtin(name)?;
        let unmet = regulation.unmet(policy);
        let binds = if binding.iter().any(|it| it == name) { ", binds as well" } else { "" };
        if unmet.is_empty() {
            writeln!(out, "  {GOOD}✓{GOOD:#} {name:<22} nothing beyond it{binds}")?;
            continue;
        }
        let more = count(unmet.len(), "row asks for less time", "rows ask for less time");
        writeln!(out, "  {WARN}!{WARN:#} {name:<22} {more}{binds}")?;
        for row in &unmet {
            let (allowed, promised) = (span(row.allowed), span(row.promised));
            let what = format!("{}: {}", row.priority, plain(&row.clause));
            writeln!(out, "      {what:<44} {allowed} {DIM}(promised: {promised}){DIM:#}")?;
        }
    }
    Ok(())
}

/// In days where it is whole days, else in hours, rounded up.
fn span(duration: SignedDuration) -> String {
    let minutes = duration.as_mins();
    match (minutes % (24 * 60), minutes % 60) {
        (0, _) if minutes > 0 => format!("{}d", minutes / (24 * 60)),
        (_, 0) => format!("{}h", minutes / 60),
        _ => format!("{}h{}m", minutes / 60, minutes % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(command: Command) -> Result<String> {
        let mut out = anstream::StripStream::new(Vec::new());
        run(&SlaArgs { command }, &mut out)?;
        Ok(String::from_utf8(out.into_inner())?)
    }

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().expect("there is room for a file");
        fs::write(file.path(), text).expect("it can be written");
        file
    }

    #[test]
    fn the_default_is_told_with_what_it_does_not_meet() {
        let policy = DEFAULT.to_owned();
        let said =
            said(Command::Check { policy, base: DEFAULT.to_owned() }).expect("it is built in");

        assert!(said.contains("critical        3d         44h  told before, not asked"), "{said}");
        assert!(said.contains("it can be kept"), "{said}");
        assert!(said.contains("! fedramp-vdr-high"), "{said}");
        assert!(said.contains("pci-dss-4.0.1"), "{said}");
    }

    #[test]
    fn what_was_negotiated_differs_where_it_says_so() {
        let ours = file("version = \"acme-1\"\nmedium.deferrals = { count = 0 }\n");
        let after = ours.path().display().to_string();

        let said = said(Command::Diff {
            before: DEFAULT.to_owned(),
            after,
            base: DEFAULT.to_owned(),
            exit_code: false,
        })
        .expect("both are policies");

        assert!(said.contains("`medium.deferrals.count` changes from 1 to 0"), "{said}");
        assert!(!said.contains("high."), "{said}");
    }

    #[test]
    fn a_policy_that_cannot_be_kept_is_refused_with_its_place() {
        let ours = file("version = \"acme-2\"\nhigh.test = \"4d\"\n");
        let policy = ours.path().display().to_string();

        let error =
            said(Command::Check { policy, base: DEFAULT.to_owned() }).expect_err("15 of 14 d");

        let text = format!("{error:#}");
        assert!(text.contains("`high.test` (line 2") || text.contains("15d"), "{text}");
    }
}
