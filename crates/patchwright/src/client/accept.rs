//! `patchwright accept`: somebody bears the risk of a finding for a while.

use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use jiff::civil::Date;
use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::connection::{Change, encoded};
use super::contexts::{Access, connect};
use super::create::DryRun;
use super::kind::Kind;
use super::names::Names;
use super::output::{moment, text};
use crate::failure::usage;
use crate::text::plain;

/// Accept the risk of a finding for a while.
///
/// The side that must patch the item bears its risk. It ends with its time, when the patch comes back, and
/// when its priority rises.
#[derive(Debug, Args)]
pub(crate) struct AcceptArgs {
    /// Which finding, by id.
    #[arg(value_name = "FINDING")]
    finding: String,
    /// Why.
    #[arg(long, required_unless_present = "end")]
    reason: Option<String>,
    /// Who bears it.
    #[arg(long, value_name = "NAME", required_unless_present = "end")]
    owner: Option<String>,
    /// Until when, 366 days at most: a day (`2026-12-31`, to its end in UTC) or a time.
    #[arg(long, value_name = "DATE", required_unless_present = "end", value_parser = end_of)]
    until: Option<Timestamp>,
    /// End the acceptance of this finding.
    #[arg(long, conflicts_with_all = ["reason", "owner", "until"])]
    end: bool,
    /// `server`: the server says what would be, and nothing is accepted.
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none",
        num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: DryRun,
    #[command(flatten)]
    access: Access,
}

/// A time, or the end of a day.
fn end_of(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let end = |day: Date| {
        TimeZone::UTC.to_timestamp(day.at(23, 59, 59, 0)).map_err(|error| error.to_string())
    };
    text.parse::<Date>().map_err(|_| "write a day as 2026-12-31".to_owned()).and_then(end)
}

/// Runs the command.
pub(crate) fn run(arguments: &AcceptArgs) -> Result<ExitCode> {
    if !Kind::Finding.is_id(&arguments.finding) {
        return Err(usage(
            format!("`{}` is no finding's id", plain(&arguments.finding)),
            "see `patchwright get findings --state open`",
        ));
    }
    let connection = connect(&arguments.access)?;
    let path = format!("/findings/{}/acceptance", encoded(&arguments.finding));
    let dry_run = arguments.dry_run == DryRun::Server;
    let dry = if dry_run { " (dry run)" } else { "" };
    let names = Names::new(&connection);
    if arguments.end {
        let change = Change { dry_run, ..Change::of("DELETE", &path) };
        let finding = connection.change(&change)?.body;
        let on = plain(&names.ci(&text(&finding["ci"])));
        println!("{} on {on} not accepted any more{dry}", plain(&text(&finding["source"])));
        return Ok(ExitCode::SUCCESS);
    }
    let (Some(reason), Some(owner), Some(until)) =
        (&arguments.reason, &arguments.owner, arguments.until)
    else {
        return Err(anyhow!("the command line was read wrongly"));
    };
    let body = json!({ "reason": reason, "risk_owner": owner, "until": until });
    let change =
        Change { body: Some(&body), is_repeatable: true, dry_run, ..Change::of("PUT", &path) };
    let finding = connection.change(&change)?.body;
    println!(
        "{} on {} accepted until {}, at the risk of {}{dry}",
        plain(&text(&finding["source"])),
        plain(&names.ci(&text(&finding["ci"]))),
        moment(&finding["acceptance"]["until"]),
        plain(&text(&finding["acceptance"]["risk_owner"])),
    );
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_lasts_to_its_end() {
        assert_eq!(end_of("2026-12-31").unwrap().to_string(), "2026-12-31T23:59:59Z");
        assert_eq!(
            end_of("2026-12-31T12:00:00+01:00").unwrap().to_string(),
            "2026-12-31T11:00:00Z"
        );
        assert!(end_of("tomorrow").is_err());
    }
}
