//! `patchwright version compare`: our comparators, open to anyone's check.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read as _, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use domain::version::VersionKind;

use crate::failure::helped;
use crate::text::plain;

/// Longest line of a batch; real versions have a few dozen bytes.
const MAX_LINE: u64 = 64 * 1024;

/// Compare versions as dpkg, rpm and apk do.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    #[command(subcommand)]
    command: VersionCommand,
}

#[derive(Debug, Subcommand)]
enum VersionCommand {
    /// Print `<`, `=` or `>`, or check a batch of comparisons.
    Compare(CompareArgs),
}

#[derive(Debug, Args)]
struct CompareArgs {
    /// Whose rules order the versions.
    #[arg(long, value_enum)]
    kind: Kind,

    /// Read lines `A OP B` from FILE (`-` for standard input) and print `ok` or
    /// `wrong A OP B: is X` for each; OP is one of < <= = >= > lt le eq ge gt. Empty lines and
    /// what follows a `#` are skipped.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["a", "b"])]
    batch: Option<PathBuf>,

    /// First version.
    #[arg(required_unless_present = "batch", requires = "b", allow_hyphen_values = true)]
    a: Option<String>,

    /// Second version.
    #[arg(allow_hyphen_values = true)]
    b: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Debian, Ubuntu.
    Dpkg,
    /// Red Hat family, SUSE.
    Rpm,
    /// Alpine.
    Apk,
}

impl From<Kind> for VersionKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Dpkg => Self::Dpkg,
            Kind::Rpm => Self::Rpm,
            Kind::Apk => Self::Apk,
        }
    }
}

/// A line of a batch that is no comparison.
#[derive(Debug, thiserror::Error)]
#[error("line {number} is no comparison: `{line}`")]
struct BadLine {
    /// Counted from 1.
    number: u64,
    /// The line, shortened and made harmless.
    line: String,
}

/// Runs `patchwright version`. The exit status is 1 where any comparison of a batch is wrong.
pub(crate) fn run(
    arguments: VersionArgs,
    stdin: impl BufRead,
    stdout: impl Write,
) -> anyhow::Result<ExitCode> {
    let VersionCommand::Compare(CompareArgs { kind, batch, a, b }) = arguments.command;
    let kind = VersionKind::from(kind);
    let mut out = BufWriter::new(stdout);
    let all_right = match batch {
        Some(path) if path.as_os_str() == "-" => check_batch(kind, stdin, &mut out)?,
        Some(path) => {
            let file =
                File::open(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
            check_batch(kind, BufReader::new(file), &mut out)?
        }
        None => {
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            writeln!(out, "{}", sign(kind.compare(&a, &b)))?;
            true
        }
    };
    out.flush()?;
    Ok(if all_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether all comparisons of the batch are right.
fn check_batch(
    kind: VersionKind,
    mut lines: impl BufRead,
    out: &mut impl Write,
) -> anyhow::Result<bool> {
    let mut all_right = true;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        if (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        let bad = |line: &[u8]| {
            let text: String = String::from_utf8_lossy(line).trim().chars().take(80).collect();
            let help = "write `A OP B`, with one of < <= = >= > lt le eq ge gt for OP";
            helped(BadLine { number, line: plain(&text) }, help)
        };
        let is_whole = line.last() == Some(&b'\n') || (line.len() as u64) < MAX_LINE;
        let text = std::str::from_utf8(&line).ok().filter(|_| is_whole);
        let mut words = text.ok_or_else(|| bad(&line))?.split_whitespace();
        let words = words.by_ref().take_while(|word| !word.starts_with('#'));
        match words.collect::<Words<'_>>() {
            Words::None => {}
            Words::Comparison(a, operator, b) => {
                let accepts = accepted(operator).ok_or_else(|| bad(&line))?;
                let order = kind.compare(a, b);
                if accepts.contains(&order) {
                    out.write_all(b"ok\n")?;
                } else {
                    all_right = false;
                    let comparison = plain(&format!("{a} {operator} {b}"));
                    writeln!(out, "wrong {comparison}: is {}", sign(order))?;
                }
            }
            Words::Other => return Err(bad(&line)),
        }
    }
    Ok(all_right)
}

/// The words of a line, without an allocation.
enum Words<'a> {
    None,
    Comparison(&'a str, &'a str, &'a str),
    Other,
}

impl<'a> FromIterator<&'a str> for Words<'a> {
    fn from_iter<I: IntoIterator<Item = &'a str>>(words: I) -> Self {
        let mut words = words.into_iter();
        match (words.next(), words.next(), words.next(), words.next()) {
            (None, ..) => Self::None,
            (Some(a), Some(operator), Some(b), None) => Self::Comparison(a, operator, b),
            _ => Self::Other,
        }
    }
}

/// The orders that an operator accepts, `None` where it is none.
fn accepted(operator: &str) -> Option<&'static [Ordering]> {
    use Ordering::{Equal, Greater, Less};
    Some(match operator {
        "<" | "lt" => &[Less],
        "<=" | "le" => &[Less, Equal],
        "=" | "eq" => &[Equal],
        ">=" | "ge" => &[Greater, Equal],
        ">" | "gt" => &[Greater],
        _ => return None,
    })
}

fn sign(order: Ordering) -> &'static str {
    match order {
        Ordering::Less => "<",
        Ordering::Equal => "=",
        Ordering::Greater => ">",
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct CommandLine {
        #[command(flatten)]
        version: VersionArgs,
    }

    struct Outcome {
        printed: String,
        code: ExitCode,
    }

    fn compare(arguments: &str, input: &str) -> anyhow::Result<Outcome> {
        let words = ["version", "compare"].into_iter().chain(arguments.split(' '));
        let parsed = CommandLine::try_parse_from(words)?;
        let mut printed = Vec::new();
        let code = run(parsed.version, input.as_bytes(), &mut printed)?;
        Ok(Outcome { printed: String::from_utf8(printed)?, code })
    }

    #[test]
    fn two_versions_print_their_order() {
        let printed = |arguments: &str| compare(arguments, "").unwrap().printed;

        assert_eq!(printed("--kind dpkg 1.0~rc1-1 1.0-1"), "<\n");
        assert_eq!(printed("--kind rpm 1.05 1.5"), "=\n");
        assert_eq!(printed("--kind apk 1.2.3_p1-r0 1.2.3-r7"), ">\n");
        assert_eq!(printed("--kind dpkg -1 1"), "<\n");
    }

    #[test]
    fn a_batch_says_of_each_line_whether_it_is_right() {
        let lines = "# comment\n\n1.0 < 1.1\n1.0\tgt\t1.1 # no\r\n1.0 <= 1.0\n2 eq 2\n2 lt 2";

        let outcome = compare("--kind dpkg --batch -", lines).unwrap();

        assert_eq!(outcome.printed, "ok\nwrong 1.0 gt 1.1: is <\nok\nok\nwrong 2 lt 2: is =\n");
        assert_eq!(outcome.code, ExitCode::FAILURE);
    }

    #[test]
    fn a_batch_without_a_wrong_line_succeeds() {
        let right = compare("--kind rpm --batch -", "1.0-1 ne 1\n");
        let outcome = compare("--kind rpm --batch -", "1.0-1.el9 lt 1.0-2.el9\n").unwrap();

        assert!(right.is_err());
        assert_eq!(outcome.code, ExitCode::SUCCESS);
    }

    #[test]
    fn every_operator_accepts_what_it_says() {
        for operator in ["<", "<=", "lt", "le"] {
            assert!(accepted(operator).unwrap().contains(&Ordering::Less));
        }
        for operator in ["=", "<=", ">=", "eq", "le", "ge"] {
            assert!(accepted(operator).unwrap().contains(&Ordering::Equal));
        }
        for operator in [">", ">=", "gt", "ge"] {
            assert!(accepted(operator).unwrap().contains(&Ordering::Greater));
        }
        for operator in ["==", "!=", "<<", "", "LT"] {
            assert_eq!(accepted(operator), None);
        }
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        for line in ["1.0 < ", "1.0 ~ 1.1", "1 < 2 < 3", "\u{1b}[2J"] {
            let error = compare("--kind apk --batch -", &format!("1 < 2\n{line}\n")).err().unwrap();
            let expected = format!("line 2 is no comparison: `{}`", plain(line.trim()));
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn an_endless_line_is_refused() {
        let line = "1".repeat(2 * 64 * 1024);

        let error = compare("--kind dpkg --batch -", &line).err().unwrap();

        assert!(error.to_string().starts_with("line 1 is no comparison: `1111"));
    }

    #[test]
    fn a_batch_may_stand_in_a_file() {
        let file = std::env::temp_dir().join(format!("patchwright-batch-{}", std::process::id()));
        std::fs::write(&file, "1 < 2\n").unwrap();

        let outcome = compare(&format!("--kind apk --batch {}", file.display()), "");
        std::fs::remove_file(&file).unwrap();

        assert_eq!(outcome.unwrap().printed, "ok\n");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = compare("--kind apk --batch /nowhere/batch", "").err().unwrap();

        assert_eq!(error.to_string(), "cannot read `/nowhere/batch`");
    }

    #[test]
    fn half_a_comparison_is_a_usage_error() {
        assert!(compare("--kind apk 1.0", "").is_err());
        assert!(compare("--kind apk --batch - 1.0 1.1", "").is_err());
        assert!(compare("1.0 1.1", "").is_err());
    }
}
