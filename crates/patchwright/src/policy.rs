//! `patchwright policy`: who may do what, and whether that is what was meant.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use domain::cloud::{Access, Role};
use server::{Action, Difference, Expectations, ExpectationsError, Outcome, Policies, Situation};

use crate::failure::{during, helped};
use crate::text::{count, plain};

/// Differences of a case that are told one by one.
const TOLD: usize = 5;

/// The file of expectations in a directory of policies.
const BESIDE: &str = "expectations.toml";

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Tell who may do what, and check that it is what was meant.
#[derive(Debug, Args)]
pub(crate) struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Ask the policies all that a file says they should answer; status 1 where one answers otherwise.
    ///
    /// Without FILE, what Patchwright ships is asked: every question that there is.
    Test {
        /// The expectations (TOML). By default those beside the policies.
        file: Option<PathBuf>,
        /// Other policies than those shipped: a directory of `.cedar` files.
        #[arg(long, value_name = "DIR")]
        policies: Option<PathBuf>,
    },
    /// Print what each role may do.
    Show {
        /// Other policies than those shipped: a directory of `.cedar` files.
        #[arg(long, value_name = "DIR")]
        policies: Option<PathBuf>,
        /// With a token for reading alone.
        #[arg(long)]
        read_only: bool,
        /// Where more than a password is asked of the provider's people (`up --require-mfa`).
        #[arg(long)]
        require_mfa: bool,
        /// For somebody who has proven a password alone.
        #[arg(long)]
        password_only: bool,
    },
}

/// Runs the command.
pub(crate) fn run(arguments: &PolicyArgs, out: &mut impl Write) -> Result<ExitCode> {
    match &arguments.command {
        Command::Test { file, policies } => {
            let expectations = expectations(file.as_deref(), policies.as_deref())?;
            test(&read(policies.as_deref())?, &expectations, out)
        }
        Command::Show { policies, read_only, require_mfa, password_only } => {
            let policies = read(policies.as_deref())?;
            let access = if *read_only { Access::Read } else { Access::Write };
            show(&policies, access, *require_mfa, !*password_only, out)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn read(directory: Option<&Path>) -> Result<Policies> {
    let policies = directory.map_or_else(Policies::shipped, Policies::read);
    policies.map_err(|error| helped(error, "see the shipped ones in crates/server/policies"))
}

/// The file that is named, or lies beside the policies, or is shipped.
fn expectations(file: Option<&Path>, policies: Option<&Path>) -> Result<Expectations> {
    let beside = policies.map(|it| it.join(BESIDE)).filter(|it| it.is_file());
    let file = file.map(Path::to_owned).or(beside);
    let understood = |read: Result<Expectations, ExpectationsError>| {
        read.map_err(|error| helped(error, "see crates/server/policies/expectations.toml"))
    };
    let Some(file) = file else { return understood(Expectations::shipped()) };
    let text = fs::read_to_string(&file)
        .map_err(|error| anyhow!(error).context(format!("cannot read `{}`", file.display())))
        .map_err(|error| helped(error, "name a file of expectations"))?;
    understood(Expectations::parse(&text))
        .map_err(|error| during(error, format!("cannot use `{}`", file.display())))
}

fn test(
    policies: &Policies,
    expectations: &Expectations,
    out: &mut impl Write,
) -> Result<ExitCode> {
    let outcomes = expectations.ask(policies);
    let mut asked = 0;
    let mut differing = 0;
    for outcome in &outcomes {
        asked += outcome.asked;
        differing += outcome.differences.len();
        tell(outcome, out)?;
    }
    let what = format!(
        "{} in {}",
        count(asked, "question", "questions"),
        count(outcomes.len(), "case", "cases")
    );
    let unasked = expectations.unasked().len();
    writeln!(out)?;
    match differing {
        0 => writeln!(out, "{GOOD}✓{GOOD:#} {what}: all as expected")?,
        _ => writeln!(out, "{BAD}✗{BAD:#} {what}: {differing} answered otherwise")?,
    }
    if unasked > 0 {
        writeln!(
            out,
            "{DIM}  {} not asked{DIM:#}",
            count(unasked, "question is", "questions are")
        )?;
    }
    Ok(if differing == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(outcome: &Outcome<'_>, out: &mut impl Write) -> std::io::Result<()> {
    let Outcome { case, asked, differences } = outcome;
    let (mark, style) = if differences.is_empty() { ("✓", GOOD) } else { ("✗", BAD) };
    let word = if case.is_permitted { "allow" } else { "deny" };
    writeln!(out, "{style}{mark}{style:#} {word:<6}{asked:>5}  {}", plain(&case.title))?;
    for difference in differences.iter().take(TOLD) {
        let Difference { situation, found } = difference;
        let decision = if found.is_permitted { "allowed" } else { "denied" };
        let by = match found.by.as_slice() {
            [] => "nothing permits it".to_owned(),
            by => format!("by {}", plain(&by.join(", "))),
        };
        let Situation { role, access, action, .. } = situation;
        let proof = proof(*situation);
        writeln!(
            out,
            "      {role}, {access} access, {proof}: {action} is {decision} {DIM}({by}){DIM:#}"
        )?;
    }
    if differences.len() > TOLD {
        writeln!(out, "      {DIM}and {} more{DIM:#}", differences.len() - TOLD)?;
    }
    Ok(())
}

fn proof(situation: Situation) -> &'static str {
    match (situation.requires_mfa, situation.mfa) {
        (false, false) => "a password",
        (false, true) => "two factors",
        (true, false) => "a password where two factors are required",
        (true, true) => "two factors where they are required",
    }
}

fn show(
    policies: &Policies,
    access: Access,
    requires_mfa: bool,
    mfa: bool,
    out: &mut impl Write,
) -> std::io::Result<()> {
    let width = Action::ALL.iter().map(|action| action.as_str().len()).max().unwrap_or_default();
    write!(out, "{BOLD}{:width$}", "")?;
    for role in Role::ALL {
        write!(out, "  {role}")?;
    }
    writeln!(out, "{BOLD:#}")?;
    for &action in Action::ALL {
        write!(out, "{action:width$}")?;
        for &role in Role::ALL {
            let ruling = policies.rule(Situation { requires_mfa, role, access, mfa, action });
            let (word, style) = if ruling.is_permitted { ("yes", GOOD) } else { ("-", DIM) };
            // Nothing stands after the last word of a line.
            let is_last = Role::ALL.last() == Some(&role);
            let pad = if is_last { 0 } else { role.as_str().len() - word.len() };
            write!(out, "  {style}{word}{style:#}{:pad$}", "")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(policies: &Policies, expectations: &str) -> (bool, String) {
        let expectations = Expectations::parse(expectations).unwrap();
        let mut out = Vec::new();
        let status = test(policies, &expectations, &mut out).unwrap();
        let text = anstream::adapter::strip_bytes(&out).into_vec();
        (status == ExitCode::SUCCESS, String::from_utf8(text).unwrap())
    }

    #[test]
    fn what_is_not_as_expected_is_told() {
        let policies = Policies::shipped().unwrap();
        let expectations = "[[case]]\ntitle = \"auditors retire\"\nwho = \"auditor\"\n\
            action = \"ci.retire\"\naccess = \"write\"\nmfa = true\nrequire_mfa = false\n\
            expect = \"allow\"";

        let (is_good, text) = told(&policies, expectations);

        assert!(!is_good);
        // Each action of the API adds to the questions that this one case leaves open.
        let questions = Situation::all().count();
        assert_eq!(
            text,
            format!(
                "✗ allow     1  auditors retire\n\
                 \x20     auditor, write access, two factors: ci.retire is denied (nothing permits it)\n\n\
                 ✗ 1 question in 1 case: 1 answered otherwise\n  {} questions are not asked\n",
                questions - 1
            )
        );
        let (is_good, text) = told(&policies, &expectations.replace("allow", "deny"));
        assert!(is_good, "{text}");
    }

    #[test]
    fn the_matrix_has_a_row_for_each_action() {
        let mut out = Vec::new();
        show(&Policies::shipped().unwrap(), Access::Write, false, true, &mut out).unwrap();
        let text = String::from_utf8(anstream::adapter::strip_bytes(&out).into_vec()).unwrap();

        assert_eq!(text.lines().count(), 1 + Action::ALL.len());
        assert!(text.lines().any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words == ["ci.create", "yes", "-", "-", "yes", "yes", "-", "-"]
        }));
    }
}
