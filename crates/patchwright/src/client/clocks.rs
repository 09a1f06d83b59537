//! `patchwright clocks`: what is overdue or about to be, and who holds the ball.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::connection::{Connection, encoded};
use super::contexts::{Access, connect};
use super::names::Names;
use super::output::{
    BAD, BOLD, Cell, DIM, GOOD, Table, WARN, json as to_json, moment, style_of, styled, text, yaml,
};
use crate::failure::usage;
use crate::text::{count, fit};

/// Widest title shown.
const WIDEST: usize = 44;

/// A due date passed, or what a change waits for is late.
const OVERDUE: u8 = 3;

/// List the clocks of the SLA that run, the earliest due first, and who holds the ball.
#[derive(Debug, Args)]
pub(crate) struct ClocksArgs {
    /// Only this tenant's, by id or short name.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only what is due within this time, such as `3d` or `12h`.
    #[arg(long, value_name = "TIME", value_parser = within)]
    within: Option<SignedDuration>,
    /// Only what is late.
    #[arg(long)]
    overdue: bool,
    /// Also what is settled.
    #[arg(long)]
    all: bool,
    /// Clocks at most.
    #[arg(long, value_name = "NUMBER", default_value_t = 200,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Form,
    /// End with 3 where anything shown is late.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// A line for each clock.
    Table,
    /// As the API has them.
    Json,
    /// The same as YAML.
    Yaml,
}

fn within(text: &str) -> Result<SignedDuration, String> {
    let wait: domain::sla::Wait =
        text.parse().map_err(|error: domain::sla::NoWait| error.to_string())?;
    wait.exact().ok_or_else(|| "business days have no length of their own".to_owned())
}

/// Runs the command.
pub(crate) fn run(arguments: &ClocksArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let now = Timestamp::now();
    let clocks = asked(arguments, &connection, &names, now)?;
    let is_late = clocks.iter().any(late);
    let out = &mut io::stdout().lock();
    match arguments.output {
        Form::Table => styled(out, &screen(&clocks, &names, now, arguments.limit))?,
        Form::Json => writeln!(out, "{}", to_json(&Value::Array(clocks), true))?,
        Form::Yaml => write!(out, "{}", yaml(&Value::Array(clocks)))?,
    }
    Ok(if arguments.exit_code && is_late { ExitCode::from(OVERDUE) } else { ExitCode::SUCCESS })
}

fn asked(
    arguments: &ClocksArgs,
    connection: &Connection,
    names: &Names<'_>,
    now: Timestamp,
) -> Result<Vec<Value>> {
    let mut path = format!("/clocks?limit={}", arguments.limit);
    if let Some(tenant) = &arguments.tenant {
        let _ = write!(path, "&tenant={}", encoded(&names.tenant_id(tenant)?));
    }
    if let Some(within) = arguments.within {
        let before = now.checked_add(within).map_err(|_| {
            usage("the time reaches further than there are dates", "name a shorter one")
        })?;
        let _ = write!(path, "&due_before={}", encoded(&before.to_string()));
    }
    if arguments.all {
        path.push_str("&settled=true");
    }
    let mut answer = connection.get(&path)?;
    let mut clocks = answer.as_array_mut().map(std::mem::take).unwrap_or_default();
    if arguments.overdue {
        clocks.retain(late);
    }
    Ok(clocks)
}

/// Whether a date is missed, or what it waits for took longer than agreed.
fn late(clock: &Value) -> bool {
    matches!(clock["state"].as_str(), Some("overdue" | "breached"))
}

fn screen(clocks: &[Value], names: &Names<'_>, now: Timestamp, limit: u16) -> String {
    let mut out = String::new();
    if clocks.is_empty() {
        let _ = writeln!(out, "{GOOD}✓{GOOD:#} no clock runs");
        return out;
    }
    let of = |state: &str| clocks.iter().filter(|clock| clock["state"] == state).count();
    let (breached, overdue, warned) = (of("breached"), of("overdue"), of("warn"));
    let _ = write!(out, "{BOLD}{}{BOLD:#}", count(clocks.len(), "clock", "clocks"));
    for (number, word, style) in
        [(breached, "breached", BAD), (overdue, "overdue", WARN), (warned, "about to be", WARN)]
    {
        if number > 0 {
            let _ = write!(out, "  {style}{number} {word}{style:#}");
        }
    }
    let _ = writeln!(out, "\n");
    let heads = ["DUE", "LEFT", "STATE", "PRIORITY", "TENANT", "CHANGE", "STANDS AT", "BALL"];
    let mut table = Table::new(&heads);
    for clock in clocks {
        let (state, priority) = (text(&clock["state"]), text(&clock["priority"]));
        let style = match &*state {
            "breached" => BAD,
            "overdue" | "warn" => WARN,
            "met" => GOOD,
            _ => DIM,
        };
        let due = clock["due"].as_str().and_then(|text| text.parse().ok());
        table.row(vec![
            Cell::from(moment(&clock["due"])),
            Cell::from(due.map_or_else(|| "–".to_owned(), |due| left(due, now))),
            Cell::from(&state).styled(style),
            Cell::from(&priority).styled(style_of(&priority)),
            Cell::from(names.tenant(&text(&clock["tenant"]))),
            Cell::from(fit(&text(&clock["title"]), WIDEST)),
            Cell::from(text(&clock["phase"]).replace('_', " ")),
            Cell::from(clock["holder"].as_str().unwrap_or("–").replace('_', " ")),
        ]);
    }
    out.push_str(&table.take());
    if clocks.len() == usize::from(limit) {
        let _ = writeln!(out, "{DIM}… there may be more: --limit, --within, --tenant{DIM:#}");
    }
    out
}

/// How much time is left, or how much too much was taken.
pub(super) fn left(due: Timestamp, now: Timestamp) -> String {
    let seconds = due.duration_since(now).as_secs();
    let (sign, seconds) = if seconds < 0 { ("−", -seconds) } else { ("", seconds) };
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours) {
        (0, 0) => format!("{sign}{minutes} min"),
        (0, _) => format!("{sign}{hours} h {minutes} min"),
        _ => format!("{sign}{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_left_is_told_in_two_units() {
        let now = Timestamp::UNIX_EPOCH;
        let after = |seconds| left(Timestamp::from_second(seconds).unwrap(), now);

        assert_eq!(after(59), "0 min");
        assert_eq!(after(3 * 3600 + 120), "3 h 2 min");
        assert_eq!(after(2 * 86_400 + 5 * 3600), "2 d 5 h");
        assert_eq!(after(-90_000), "−1 d 1 h");
    }

    #[test]
    fn a_time_is_a_wait_of_the_sla() {
        assert_eq!(within("3d"), Ok(SignedDuration::from_hours(72)));
        assert!(within("3bd").is_err() && within("soon").is_err());
    }
}
