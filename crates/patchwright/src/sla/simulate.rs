//! `patchwright sla simulate`: what a policy would have made of the patches that were.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use domain::sla::{History, Judged, Policy, Stage, Verdict, simulate, tally};
use jiff::{SignedDuration, Timestamp};

use super::{BOLD, DEFAULT, DIM, GOOD, PRIORITIES, WARN, read, span};
use crate::client::connection::encoded;
use crate::client::contexts::{Access, connect};
use crate::client::names::Names;
use crate::failure::{during, helped, usage};
use crate::text::{count, fit, plain};

/// Largest file of histories that is read, in bytes.
const LARGEST: u64 = 1 << 30;

/// Histories asked for at once.
const PAGE: usize = 500;

/// A quarter, in days.
const QUARTER: i64 = 92;

/// Widest name shown.
const WIDEST: usize = 48;

/// Most breaches that are listed.
const LISTED: usize = 50;

/// What is judged, and by which policy.
#[derive(Debug, Args)]
pub(super) struct SimulateArgs {
    /// The policy: a file, or the name of a built-in one.
    #[arg(default_value = DEFAULT)]
    policy: String,
    /// What was, from a file that `--save` wrote; without it, the control plane is asked.
    histories: Option<PathBuf>,
    /// What a policy's file was negotiated from: a file, or the name of a built-in policy.
    #[arg(long, value_name = "POLICY", default_value = DEFAULT)]
    base: String,
    /// Only changes taken up since then (2026-07-01T00:00:00Z); by default 92 days ago.
    #[arg(long, value_name = "TIME", conflicts_with = "histories")]
    since: Option<Timestamp>,
    /// Only what this tenant was asked for, by id or short name.
    #[arg(long, value_name = "TENANT", conflicts_with = "histories")]
    tenant: Option<String>,
    /// Judge as of then; by default now.
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// Also keep what was in a file, for judging the same again.
    #[arg(long, value_name = "FILE", conflicts_with = "histories")]
    save: Option<PathBuf>,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Form,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Counts, and what was not in time.
    Table,
    /// Each history with its dates and its verdict, in JSON.
    Json,
}

/// Runs the command.
pub(super) fn run(arguments: &SimulateArgs, out: &mut impl Write) -> Result<()> {
    let policy = read(&arguments.policy, &arguments.base)?;
    let now = arguments.at.unwrap_or_else(Timestamp::now);
    let histories = match &arguments.histories {
        Some(path) => kept(path)?,
        None => asked(arguments, Timestamp::now())?,
    };
    if let Some(path) = &arguments.save {
        keep(path, &histories)?;
    }
    let judged = simulate(&policy, &histories, now);
    match arguments.output {
        Form::Table => screen(&policy, &judged, out),
        Form::Json => {
            serde_json::to_writer_pretty(&mut *out, &judged)?;
            Ok(writeln!(out)?)
        }
    }
}

fn asked(arguments: &SimulateArgs, now: Timestamp) -> Result<Vec<History>> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let since = match arguments.since {
        Some(since) => since,
        None => now
            .checked_sub(SignedDuration::from_hours(QUARTER * 24))
            .context("there is no quarter before now")?,
    };
    let mut query = format!("since={}", encoded(&since.to_string()));
    if let Some(tenant) = &arguments.tenant {
        query.push_str("&tenant=");
        query.push_str(&encoded(&names.tenant_id(tenant)?));
    }
    let mut histories = Vec::new();
    for item in connection.items("/histories", &query, PAGE) {
        let mut item = item?;
        let mut history: History = serde_json::from_value(item["history"].take())
            .context("the control plane tells of a history that cannot be read")
            .map_err(|error| helped(error, "bring `patchwright` to the version of the server"))?;
        if arguments.tenant.is_none() {
            let tenant = names.tenant(item["tenant"].as_str().unwrap_or_default());
            history.name = format!("{}, {tenant}", history.name);
        }
        histories.push(history);
    }
    Ok(histories)
}

fn kept(path: &Path) -> Result<Vec<History>> {
    let attempt = || format!("cannot read `{}`", path.display());
    let file = File::open(path).with_context(attempt)?;
    if file.metadata().with_context(attempt)?.len() > LARGEST {
        return Err(usage(
            format!("`{}` has more than 1 GiB", path.display()),
            "ask for a shorter time with `--since` when you `--save`",
        ));
    }
    serde_json::from_reader(BufReader::new(file.take(LARGEST))).map_err(|error| {
        let help = "give a file that `patchwright sla simulate --save FILE` wrote";
        during(helped(error, help), format!("`{}` holds no histories", path.display()))
    })
}

fn keep(path: &Path, histories: &[History]) -> Result<()> {
    let attempt = || format!("cannot write `{}`", path.display());
    let mut file = BufWriter::new(File::create_new(path).map_err(|error| {
        helped(anyhow::Error::new(error).context(attempt()), "name a file that is not there yet")
    })?);
    serde_json::to_writer(&mut file, histories).with_context(attempt)?;
    file.flush().with_context(attempt)
}

fn screen(policy: &Policy, judged: &[Judged], out: &mut impl Write) -> Result<()> {
    let document = policy.document();
    writeln!(
        out,
        "{BOLD}{}{BOLD:#} {} on {}\n",
        plain(&document.name),
        plain(&document.version),
        count(judged.len(), "obligation", "obligations")
    )?;
    let tallies = tally(judged);
    writeln!(out, "  {BOLD}PRIORITY   KEPT  BREACHED  OPEN  NO CLOCK{BOLD:#}")?;
    for priority in PRIORITIES {
        let tally = tallies.get(&priority).copied().unwrap_or_default();
        let style = if tally.breached > 0 { WARN } else { DIM };
        writeln!(
            out,
            "  {:<9} {:>5}  {style}{:>8}{style:#} {:>5}  {:>8}",
            priority.to_string(),
            tally.kept,
            tally.breached,
            tally.open,
            tally.without
        )?;
    }
    if judged.is_empty() {
        writeln!(out, "\nnothing was collected in this time")?;
        return Ok(());
    }
    breaches(judged, out)?;
    asides(judged, out)
}

fn breaches(judged: &[Judged], out: &mut impl Write) -> Result<()> {
    let late: Vec<_> = judged
        .iter()
        .filter_map(|one| match &one.verdict {
            Verdict::Breached(breach) => Some((one, breach)),
            Verdict::Kept | Verdict::Open | Verdict::Withdrawn | Verdict::NotStarted => None,
        })
        .collect();
    if late.is_empty() {
        writeln!(out, "\n{GOOD}✓{GOOD:#} no due date would have been missed")?;
        return Ok(());
    }
    writeln!(out, "\n{BOLD}Not in time{BOLD:#}")?;
    for (one, breach) in late.iter().take(LISTED) {
        let over = breach.overruns.get(&breach.by).copied().unwrap_or_default();
        writeln!(
            out,
            "  {WARN}!{WARN:#} {:<9} {:<WIDEST$}  due {} {DIM}({}){DIM:#}  {} took {} too much",
            one.priority.to_string(),
            fit(&plain(&one.name), WIDEST),
            breach.date.due.strftime("%Y-%m-%d %H:%M"),
            plain(&breach.date.pack.name),
            breach.by,
            span(over),
        )?;
    }
    if late.len() > LISTED {
        writeln!(out, "  {DIM}… {} more: --output json{DIM:#}", late.len() - LISTED)?;
    }
    Ok(())
}

/// What a due date that was kept does not show.
fn asides(judged: &[Judged], out: &mut impl Write) -> Result<()> {
    let mut slow: BTreeMap<Stage, usize> = BTreeMap::new();
    for stage in judged.iter().flat_map(|one| &one.slow) {
        *slow.entry(*stage).or_default() += 1;
    }
    let deferrals: usize = judged.iter().map(|one| one.deferrals_too_many).sum();
    if !slow.is_empty() {
        let stages: Vec<_> =
            slow.iter().map(|(stage, times)| format!("{stage} {times}×")).collect();
        writeln!(out, "\nlonger than the policy allows: {}", stages.join(", "))?;
    }
    if deferrals > 0 {
        let more = count(deferrals, "deferral", "deferrals");
        writeln!(out, "\n{more} beyond those that the policy allows")?;
    }
    Ok(())
}
