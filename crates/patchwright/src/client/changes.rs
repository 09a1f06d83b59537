//! `patchwright change`: what the provider's people do with changes, and what each tenant is asked.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use domain::change::{FileHash, Kind as ChangeKind, Reason, Sight};
use domain::cloud::ChangeId;
use domain::priority::{Exposure, Priority};
use domain::sla::Cause;
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::alterations;
use super::clocks::left;
use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::create::read_all;
use super::names::Names;
use super::output::{
    BOLD, Cell, DIM, Fields, Table, WARN, json as to_json, moment, style_of, styled, text,
};
use crate::failure::{during, helped};
use crate::text::plain;

/// Largest file of stages, in bytes.
const LARGEST_STAGES: u64 = 16 << 20;

/// Take up changes, plan them for each tenant, and see what they wait for.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    #[command(subcommand)]
    command: Command,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table", global = true)]
    output: Form,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// As the API has it.
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take up a change; patches that are found missing get theirs by themselves.
    Open {
        /// What people will call it.
        title: String,
        /// `patch` or `alteration`.
        #[arg(long, default_value = "alteration", value_parser = word::<ChangeKind>)]
        kind: ChangeKind,
        /// A patch that it installs, by id; may be given several times.
        #[arg(long = "patch", value_name = "ID")]
        patches: Vec<String>,
        /// A tenant that it concerns, by id or short name; may be given several times.
        #[arg(long = "tenant", value_name = "TENANT")]
        tenants: Vec<String>,
        /// How urgent: `critical`, `high`, `medium` or `low`.
        #[arg(long, default_value = "medium", value_parser = word::<Priority>)]
        priority: Priority,
    },
    /// Say what an alteration makes of files of an item, until it is proven.
    Propose(alterations::ProposeArgs),
    /// List what an alteration makes of files.
    Files(alterations::FilesArgs),
    /// Take a step with a change, for all of its tenants.
    Step {
        /// Which change.
        change: ChangeId,
        /// `prove`, `pass`, `fail`, `lose`, `withdraw`, `close` or `reopen`.
        step: String,
        /// SHA-256 of the attestation that says so, for `pass` and `fail`.
        #[arg(long, value_name = "SHA256")]
        evidence: Option<String>,
        /// Why, for `withdraw` and `reopen`.
        #[arg(long)]
        reason: Option<Reason>,
    },
    /// Tell where a tenant's share of a change stands, by when what is due, and whose time it was.
    Show(Share),
    /// Give a tenant's share a plan, or another in the place of the one in force.
    Plan {
        /// Which change.
        change: ChangeId,
        /// Whose share, by id or short name.
        tenant: String,
        /// Its stages in JSON: `[{"window": {"from", "until"}, "items": […]}]`; `-` is standard input.
        stages: String,
    },
    /// Agree to the plan in force as a second of the provider's people.
    Countersign(Share),
    /// Say how urgent it is for a tenant: dates only become earlier by it.
    Assess {
        #[command(flatten)]
        share: Share,
        /// `critical`, `high`, `medium` or `low`.
        #[arg(long, value_parser = word::<Priority>)]
        priority: Priority,
        /// Who lists it as known to be exploited (`CISA KEV 2026.11.26`), if anybody does.
        #[arg(long, value_name = "SOURCE")]
        exploited_by: Option<String>,
        /// How far the items can be reached from outside: `open`, `controlled` or `small`.
        #[arg(long, value_parser = word::<Exposure>)]
        exposure: Option<Exposure>,
    },
    /// Record what stands in the way of both sides, as your own word; without `--until`, it lasts.
    Interrupt {
        #[command(flatten)]
        share: Share,
        /// `vendor` or `host_unreachable`; a freeze is agreed in the policy's calendar.
        #[arg(long, value_parser = word::<Cause>)]
        cause: Cause,
        /// Since when; within the last 24 hours. To end it, the same again with `--until`.
        #[arg(long, value_name = "TIME")]
        from: Timestamp,
        /// Until when.
        #[arg(long, value_name = "TIME")]
        until: Option<Timestamp>,
    },
    /// Say what you saw of an alteration that was carried out by hand, as your own word: releases have the history look.
    Saw {
        #[command(flatten)]
        share: Share,
        /// `clean` where everything is as it was to be, or `missing`.
        #[arg(long, value_parser = word::<Sight>)]
        sight: Sight,
        /// SHA-256 of what was kept of it.
        #[arg(long, value_name = "SHA256")]
        evidence: FileHash,
    },
    /// Record that what a patch may wipe was saved: in an emergency it waits for that.
    Evidence {
        #[command(flatten)]
        share: Share,
        /// What was saved, and where it is kept.
        #[arg(long)]
        what: Reason,
        /// Its SHA-256.
        #[arg(long)]
        sha256: FileHash,
    },
    /// Record what came of judging it again after an emergency.
    ReEvaluate {
        #[command(flatten)]
        share: Share,
        /// In a paragraph.
        #[arg(long)]
        conclusion: Reason,
    },
    /// Take it back for a tenant, before it starts.
    Withdraw(Share),
    /// Close what is verified or refused.
    Close(Share),
}

/// One tenant's share of a change.
#[derive(Debug, Args)]
struct Share {
    /// Which change.
    change: ChangeId,
    /// Whose share, by id or short name; one's own where none is named.
    tenant: Option<String>,
}

/// A word that the API knows.
pub(crate) fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(text)).map_err(|error| error.to_string())
}

/// Runs the command.
pub(crate) fn run(arguments: &ChangeArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let of = |share: &Share, verb: &str| -> Result<String> {
        let tenant = match &share.tenant {
            Some(tenant) => names.tenant_id(tenant)?,
            None => names.own_tenant()?,
        };
        Ok(format!("/obligations/{}/{}{verb}", share.change, encoded(&tenant)))
    };
    let post = |path: &str, body: &Value| -> Result<Value> {
        let change = Change { body: Some(body), ..Change::of("POST", path) };
        Ok(connection.change(&change)?.body)
    };
    let obligation = match &arguments.command {
        Command::Open { title, kind, patches, tenants, priority } => {
            let tenants: Vec<_> =
                tenants.iter().map(|it| names.tenant_id(it)).collect::<Result<_>>()?;
            let body = json!({
                "kind": kind, "title": title, "patches": patches, "tenants": tenants,
                "priority": priority,
            });
            return told(&connection, "/changes", &body, arguments.output);
        }
        Command::Propose(propose) => {
            alterations::propose(propose, &connection, arguments.output == Form::Json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Files(files) => {
            alterations::files(files, &connection, arguments.output == Form::Json)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Step { change, step, evidence, reason } => {
            let body = json!({ "do": step, "evidence": evidence, "reason": reason });
            let path = format!("/changes/{change}/steps");
            return told(&connection, &path, &body, arguments.output);
        }
        Command::Show(share) => {
            let mut shown = connection.get(&of(share, "")?)?;
            shown["sides"] = connection.get(&format!("/changes/{}/sides", share.change))?;
            shown
        }
        Command::Plan { change, tenant, stages } => {
            let share = Share { change: *change, tenant: Some(tenant.clone()) };
            post(&of(&share, "/plan")?, &json!({ "stages": read_stages(stages)? }))?
        }
        Command::Countersign(share) => {
            let plan = connection.get(&of(share, "")?)?["share"]["plan"].take();
            if plan.is_null() {
                let error = anyhow!("there is no plan to agree to yet");
                return Err(helped(error, "make one: `patchwright change plan`"));
            }
            post(&of(share, "/countersign")?, &json!({ "plan": plan }))?
        }
        Command::Assess { share, priority, exploited_by, exposure } => {
            let body = json!({
                "priority": priority, "exploited_by": exploited_by, "exposure": exposure,
            });
            post(&of(share, "/assess")?, &body)?
        }
        Command::Interrupt { share, cause, from, until } => {
            let body = json!({ "cause": cause, "from": from, "until": until });
            post(&of(share, "/interruptions")?, &body)?
        }
        Command::Evidence { share, what, sha256 } => {
            post(&of(share, "/evidence")?, &json!({ "what": what, "sha256": sha256 }))?
        }
        Command::ReEvaluate { share, conclusion } => {
            post(&of(share, "/re-evaluation")?, &json!({ "conclusion": conclusion }))?
        }
        Command::Saw { share, sight, evidence } => {
            let body = json!({ "sight": sight, "evidence": evidence });
            post(&of(share, "/sight")?, &body)?
        }
        Command::Withdraw(share) => {
            connection.change(&Change::of("POST", &of(share, "/withdraw")?))?.body
        }
        Command::Close(share) => {
            connection.change(&Change::of("POST", &of(share, "/close")?))?.body
        }
    };
    let out = &mut io::stdout().lock();
    match arguments.output {
        Form::Table => styled(out, &page(&obligation, &names, Timestamp::now()))?,
        Form::Json => writeln!(out, "{}", to_json(&obligation, true))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes a change of a change, and tells how it stands then. Taking one up is repeatable.
fn told(connection: &Connection, path: &str, body: &Value, output: Form) -> Result<ExitCode> {
    let is_repeatable = path == "/changes";
    let change = Change { body: Some(body), is_repeatable, ..Change::of("POST", path) };
    let change = connection.change(&change)?.body;
    if output == Form::Json {
        println!("{}", to_json(&change, true));
        return Ok(ExitCode::SUCCESS);
    }
    let (id, title) = (text(&change["id"]), text(&change["title"]));
    println!("{} is {}: {}", plain(&id), plain(&text(&change["stage"]["is"])), plain(&title));
    Ok(ExitCode::SUCCESS)
}

fn read_stages(name: &str) -> Result<Value> {
    let text = read_all(name, LARGEST_STAGES)?;
    serde_json::from_str(&text).map_err(|error| {
        let help = "give a list of stages, as docs/consent.md shows one";
        during(helped(error, help), format!("`{name}` is no JSON"))
    })
}

/// A tenant's share of a change, for people.
fn page(obligation: &Value, names: &Names<'_>, now: Timestamp) -> String {
    let mut out = String::new();
    let clock = &obligation["clock"];
    let (tenant, priority) = (text(&obligation["tenant"]), text(&obligation["priority"]));
    let _ = writeln!(out, "{BOLD}{}{BOLD:#}", plain(&text(&obligation["title"])));
    let exploited = obligation["exploited_by"].as_str().unwrap_or("not known");
    let exposure = match obligation["exposure"].as_str() {
        Some(said) => format!("{said}: {}", text(&obligation["exposure_by"])),
        None => "unknown, counts as open".to_owned(),
    };
    let mut fields = Fields::default();
    fields
        .add("change", Cell::from(text(&obligation["change"])))
        .add("tenant", Cell::from(names.tenant(&tenant)))
        .add("priority", Cell::from(&priority).styled(style_of(&priority)))
        .add("exploited", Cell::from(exploited))
        .add("exposure", Cell::from(exposure))
        .add("who installs", Cell::from(text(&obligation["duty"])))
        .add("stands at", Cell::from(words(&obligation["phase"])))
        .add("waits for", Cell::from(words(&clock["stage"])))
        .add("ball", Cell::from(words(&clock["holder"])))
        .add("clock", Cell::from(words(&clock["state"]["state"])))
        .add("plan", Cell::from(text(&obligation["share"]["plan"])));
    out.push_str(&fields.text(2));
    waits(&mut out, obligation);
    let all = |name: &str| obligation[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let due = clock["due"].as_array().map(Vec::as_slice).unwrap_or_default();
    let _ = writeln!(out, "\n{BOLD}due{BOLD:#}");
    let mut table = Table::new(&["AT", "LEFT", "GOAL", "SET BY", "CLAUSE"]).indented(2);
    for date in due {
        let at = date["due"].as_str().and_then(|at| at.parse().ok());
        table.row(vec![
            Cell::from(moment(&date["due"])),
            Cell::from(at.map_or_else(String::new, |at| left(at, now))),
            Cell::from(words(&date["goal"])),
            Cell::from(text(&date["pack"]["name"])),
            Cell::from(text(&date["clause"])),
        ]);
    }
    out.push_str(&table.take());
    let _ = writeln!(out, "\n{BOLD}what happened{BOLD:#}");
    let mut table = Table::new(&["AT", "WHAT"]).indented(2);
    for record in all("instants") {
        table.row(vec![Cell::from(moment(&record["at"])), Cell::from(words(&record["moment"]))]);
    }
    out.push_str(&table.take());
    let _ = writeln!(out, "\n{BOLD}whose time it was{BOLD:#}");
    let mut fields = Fields::default();
    for (party, time) in booked(all("attribution")) {
        fields.add(&party, Cell::from(lasted(time)));
    }
    out.push_str(&fields.text(2));
    stood_in_the_way(&mut out, all("interruptions"), names);
    beside(&mut out, clock, all("errands"), names);
    both_sides(&mut out, &obligation["sides"], names);
    out
}

/// How far the change is with what runs, and with what new VMs are made from.
fn both_sides(out: &mut String, sides: &Value, names: &Names<'_>) {
    let all = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let machines = &sides["machines"];
    let count = |name: &str| machines[name].as_u64().unwrap_or_default();
    let (lacking, fixed) = (count("lacking"), count("fixed"));
    if lacking + fixed > 0 {
        let _ = writeln!(out, "\n{BOLD}what runs{BOLD:#}");
        let _ = writeln!(out, "  {fixed} of {} have it", lacking + fixed);
        for release in all(&machines["releases"]) {
            let stands = if release["ended"].is_null() { "mode" } else { "ended" };
            let (id, stands) = (text(&release["id"]), words(&release[stands]));
            let _ = writeln!(out, "  {} {DIM}{}{DIM:#}", plain(&id), plain(&stands));
        }
    }
    let images = all(&sides["images"]);
    if images.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{BOLD}what new VMs are made from{BOLD:#}");
    let mut table = Table::new(&["IMAGE", "TENANT", "BAKE", "JOB", "NEW VERSION"]).indented(2);
    for image in &images {
        let job =
            if image["job"].is_null() { "none yet".to_owned() } else { words(&image["job_state"]) };
        let made = match image["made"]["number"].as_u64() {
            None => "–".to_owned(),
            Some(number) => match image["made"]["state"].as_str() {
                Some("current") => format!("v{number}, published"),
                _ => format!("v{number}, {}", words(&image["made"]["state"])),
            },
        };
        let version = format!("{} v{}", text(&image["name"]), text(&image["image"]["number"]));
        table.row(vec![
            Cell::from(version),
            Cell::from(names.tenant(&text(&image["tenant"]))),
            Cell::from(job),
            Cell::from(text(&image["job"])),
            Cell::from(made),
        ]);
    }
    out.push_str(&table.take());
}

/// What is owed beside the patch, and what was done of it.
fn beside(out: &mut String, clock: &Value, done: &[Value], names: &Names<'_>) {
    let owed = clock["owed"].as_array().map(Vec::as_slice).unwrap_or_default();
    let open: Vec<_> = owed.iter().filter(|owed| owed["ended"].is_null()).collect();
    if open.is_empty() && done.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{BOLD}beside the patch{BOLD:#}");
    let mut table = Table::new(&["WHAT", "BY", "DONE AT", "WHO", "SAID"]).indented(2);
    for one in open {
        table.row(vec![
            Cell::from(words(&one["errand"])),
            Cell::from(moment(&one["by"])),
            Cell::from("–"),
            Cell::from("provider"),
            Cell::from(""),
        ]);
    }
    for one in done {
        table.row(vec![
            Cell::from(words(&one["errand"])),
            Cell::from(""),
            Cell::from(moment(&one["recorded_at"])),
            Cell::from(names.person(&text(&one["recorded_by"]))),
            Cell::from(text(&one["said"])),
        ]);
    }
    out.push_str(&table.take());
}

/// On whose word time is booked to nobody.
fn stood_in_the_way(out: &mut String, interruptions: &[Value], names: &Names<'_>) {
    if interruptions.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{BOLD}what stood in the way{BOLD:#}");
    let mut table = Table::new(&["FROM", "UNTIL", "WHAT", "ON WHOSE WORD", "SAID AT"]).indented(2);
    for one in interruptions {
        let word = match (one["claimed_by"].as_str(), one["cause"].as_str()) {
            (Some(by), _) => format!("the provider's: {}", names.person(by)),
            (None, Some("refusal")) => "the tenant's, signed".to_owned(),
            (None, _) => "the provider's".to_owned(),
        };
        table.row(vec![
            Cell::from(moment(&one["from"])),
            Cell::from(moment(&one["until"])),
            Cell::from(words(&one["cause"])),
            Cell::from(word),
            Cell::from(moment(&one["claimed_at"])),
        ]);
    }
    out.push_str(&table.take());
}

/// What a share lacks to start, and when that passes by itself.
pub(crate) fn waits(out: &mut String, obligation: &Value) {
    for lack in obligation["share"]["lacks"].as_array().into_iter().flatten() {
        let until = match lack["passes_at"].as_str() {
            Some(_) => format!(" {DIM}(until {}){DIM:#}", moment(&lack["passes_at"])),
            None => String::new(),
        };
        let _ = writeln!(out, "  {WARN}waits{WARN:#} {}{until}", plain(&text(&lack["what"])));
        if lack["passes_at"].is_null() {
            let _ = writeln!(out, "        {DIM}{}{DIM:#}", plain(&text(&lack["help"])));
        }
    }
}

/// How much time is booked to whom.
fn booked(spans: &[Value]) -> BTreeMap<String, SignedDuration> {
    let mut booked = BTreeMap::new();
    for span in spans {
        let at = |name: &str| span[name].as_str().and_then(|at| at.parse::<Timestamp>().ok());
        if let (Some(from), Some(until)) = (at("from"), at("until")) {
            let total: &mut SignedDuration = booked.entry(words(&span["party"])).or_default();
            *total = total.saturating_add(until.duration_since(from));
        }
    }
    booked
}

fn lasted(time: SignedDuration) -> String {
    let at = |seconds| Timestamp::from_second(seconds).unwrap_or_default();
    left(at(time.as_secs()), at(0))
}

/// A word of the API as people read it.
fn words(value: &Value) -> String {
    text(value).replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_booked_once_for_each_party() {
        let span = |from: &str, until: &str, party: &str| json!({ "from": from, "until": until, "party": party });
        let spans = [
            span("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", "provider"),
            span("2026-01-02T00:00:00Z", "2026-01-02T03:00:00Z", "host_unreachable"),
            span("2026-01-02T03:00:00Z", "2026-01-03T04:00:00Z", "provider"),
        ];

        let booked = booked(&spans);

        assert_eq!(lasted(booked["provider"]), "2 d 1 h");
        assert_eq!(lasted(booked["host unreachable"]), "3 h 0 min");
    }
}
