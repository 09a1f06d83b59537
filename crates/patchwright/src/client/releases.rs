//! `patchwright release`: how a change goes out over the fleet.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use domain::cloud::ChangeId;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::changes::Form;
use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::create::read_all;
use super::names::Names;
use super::output::{
    BAD, BOLD, Cell, DIM, Fields, GOOD, Table, WARN, json as to_json, moment, styled, text,
};
use crate::failure::{during, helped};
use crate::text::plain;

/// Largest file that is read, in bytes.
const LARGEST: u64 = 16 << 20;

/// Take a change out over the fleet, wave by wave, and see what waits for what.
#[derive(Debug, Args)]
pub(crate) struct ReleaseArgs {
    #[command(subcommand)]
    command: Command,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table", global = true)]
    output: Form,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show exactly what would happen where and when. Nothing is planned by it.
    Plan(PlanArgs),
    /// Have exactly what `release plan --out FILE` showed; refused where the cloud is another by now.
    Apply {
        /// The file; `-` is standard input.
        file: String,
    },
    /// List releases, the newest first.
    List {
        /// Only those of a change.
        #[arg(long, value_name = "CHANGE")]
        change: Option<ChangeId>,
    },
    /// Tell how a release stands, and what waits for what.
    Show {
        /// Which release.
        release: String,
    },
    /// Begin nothing more until it is resumed; what has begun ends.
    Hold(Decision),
    /// Let it go on; what failed until now is let pass.
    Resume(Decision),
    /// Begin nothing more, for good; what is done stays.
    Abort(Decision),
    /// Have everything become what it was, as far as there is a way back.
    RollBack(Decision),
    /// Wait for some items no more.
    SetAside {
        #[command(flatten)]
        decision: Decision,
        /// Which items, by id or name; may be given several times.
        #[arg(long = "item", value_name = "CI", required = true)]
        items: Vec<String>,
    },
    /// List what agents were told, and what came of it.
    Orders {
        /// For a change.
        #[arg(long, value_name = "CHANGE")]
        change: Option<ChangeId>,
        /// For a release.
        #[arg(long, value_name = "RELEASE")]
        release: Option<String>,
        /// On an item, by id or name.
        #[arg(long, value_name = "CI")]
        ci: Option<String>,
    },
    /// List what looks at items came to after orders, the newest first; of an item, its compliance history.
    Verifications {
        /// Of an item, by id or name.
        #[arg(long, value_name = "CI", conflicts_with = "change")]
        ci: Option<String>,
        /// Of a change.
        #[arg(long, value_name = "CHANGE")]
        change: Option<ChangeId>,
        /// At most so many.
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: usize,
    },
    /// Print what a look came to as the verifier signed it, for whoever verifies that elsewhere.
    Verification {
        /// Which, as the list names it.
        verification: String,
    },
    /// Print the public key of the verifier.
    VerifierKey,
    /// List the snapshots that were taken of machines before they restart, the newest first.
    Snapshots {
        /// Of an item, by id or name.
        #[arg(long, value_name = "CI")]
        ci: Option<String>,
        /// Of a release.
        #[arg(long, value_name = "RELEASE")]
        release: Option<String>,
    },
    /// Show where the machine of an item lives, so that snapshots can be taken of it, or say it.
    Machine(MachineArgs),
}

#[derive(Debug, Args)]
struct MachineArgs {
    /// Of which item, by id or name.
    ci: String,
    /// At which of the places that the file of `up --places` names.
    #[arg(long, value_name = "PLACE", requires = "machine")]
    place: Option<String>,
    /// What it is called there.
    #[arg(long, value_name = "NAME", requires = "place")]
    machine: Option<String>,
    /// It lives at none of them any more.
    #[arg(long, conflicts_with = "place")]
    forget: bool,
}

#[derive(Debug, Args)]
struct PlanArgs {
    /// Which change.
    change: ChangeId,
    /// `default`, `accelerated`, `emergency`, or a file with a wave profile (docs/releases.md).
    #[arg(long, default_value = "default")]
    profile: String,
    /// From when on items may be altered; now where it is left out.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Nothing is planned beyond this; two weeks later where it is left out.
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// When items may be altered, `FROM/UNTIL`; may be given several times.
    #[arg(long = "window", value_name = "FROM/UNTIL", value_parser = window)]
    windows: Vec<(Timestamp, Timestamp)>,
    /// An item that goes first, by id or name; may be given several times.
    #[arg(long = "canary", value_name = "CI")]
    canaries: Vec<String>,
    /// Only this item, by id or name; may be given several times.
    #[arg(long = "item", value_name = "CI")]
    items: Vec<String>,
    /// Most items that are out at a time.
    #[arg(long, value_name = "N")]
    max_unavailable: Option<u32>,
    /// Most steps that begin within an hour.
    #[arg(long, value_name = "N")]
    per_hour: Option<u32>,
    /// Whether items restart: `if_needed`, `always` or `never`.
    #[arg(long, default_value = "if_needed")]
    restart: String,
    /// How long an installation takes until it is verified, in minutes.
    #[arg(long, value_name = "MINUTES")]
    install_minutes: Option<u32>,
    /// The same for a restart.
    #[arg(long, value_name = "MINUTES")]
    restart_minutes: Option<u32>,
    /// Keep what was shown, for `release apply`.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct Decision {
    /// Which release.
    release: String,
    /// Why.
    #[arg(long)]
    reason: String,
}

/// `2026-12-05T22:00:00Z/2026-12-06T04:00:00Z`
fn window(text: &str) -> Result<(Timestamp, Timestamp), String> {
    let (from, until) = text.split_once('/').ok_or("write it as FROM/UNTIL")?;
    let instant = |text: &str| text.parse::<Timestamp>().map_err(|error| error.to_string());
    Ok((instant(from)?, instant(until)?))
}

/// Runs the command.
pub(crate) fn run(arguments: &ReleaseArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let out = &mut io::stdout().lock();
    let decide = |decision: &Decision, what: &str, items: &[String]| -> Result<Value> {
        let body = json!({ "do": what, "reason": decision.reason, "items": items });
        let path = format!("/releases/{}/commands", encoded(&decision.release));
        Ok(connection.change(&Change { body: Some(&body), ..Change::of("POST", &path) })?.body)
    };
    let is_json = arguments.output == Form::Json;
    let release = match &arguments.command {
        Command::Plan(plan) => {
            rehearse(&connection, &names, plan, is_json, out)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Apply { file } => {
            let written = read_all(file, LARGEST)?;
            let request: Value = serde_json::from_str(&written).map_err(|error| {
                let help = "write it with `patchwright release plan CHANGE --out FILE`";
                during(helped(error, help), format!("`{file}` is no plan of a release"))
            })?;
            if request["layout"].is_null() {
                let error = anyhow!("`{file}` does not say what was shown");
                return Err(helped(error, "write it with `patchwright release plan --out FILE`"));
            }
            let change = Change { body: Some(&request), ..Change::of("POST", "/releases") };
            connection.change(&change)?.body
        }
        Command::List { change } => {
            let filter = change.map(|change| format!("?change={change}")).unwrap_or_default();
            let listed = connection.get(&format!("/releases{filter}"))?;
            if is_json {
                writeln!(out, "{}", to_json(&listed, true))?;
            } else {
                styled(out, &list(&listed["items"], &names))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Show { release } => connection.get(&format!("/releases/{}", encoded(release)))?,
        Command::Hold(decision) => decide(decision, "hold", &[])?,
        Command::Resume(decision) => decide(decision, "resume", &[])?,
        Command::Abort(decision) => decide(decision, "abort", &[])?,
        Command::RollBack(decision) => decide(decision, "roll_back", &[])?,
        Command::SetAside { decision, items } => {
            decide(decision, "set_aside", &ids(items, &names)?)?
        }
        Command::Orders { change, release, ci } => {
            let mut query = Vec::new();
            query.extend(change.map(|change| format!("change={change}")));
            query.extend(release.as_ref().map(|release| format!("release={}", encoded(release))));
            if let Some(ci) = ci {
                query.push(format!("ci={}", encoded(&names.ci_id(ci)?)));
            }
            let query =
                if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
            let listed = connection.get(&format!("/orders{query}"))?;
            if is_json {
                writeln!(out, "{}", to_json(&listed, true))?;
            } else {
                styled(out, &orders(&listed, &names))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Verifications { ci, change, limit } => {
            let kept = looked(&connection, &names, (ci.as_deref(), *change), *limit)?;
            if is_json {
                writeln!(out, "{}", to_json(&kept.into(), true))?;
            } else {
                styled(out, &verifications(&kept, &names))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Verification { verification } => {
            let kept = connection.get(&format!("/verifications/{}", encoded(verification)))?;
            writeln!(out, "{}", to_json(&kept["envelope"], true))?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::VerifierKey => {
            write!(out, "{}", verifier_key(&connection, is_json)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Snapshots { ci, release } => {
            let listed = kept_of(&connection, &names, ci.as_deref(), release.as_deref())?;
            if is_json {
                writeln!(out, "{}", to_json(&listed, true))?;
            } else {
                styled(out, &snapshots(&listed, &names))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Machine(machine) => {
            write!(out, "{}", lives(&connection, &names, machine, is_json)?)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if is_json {
        writeln!(out, "{}", to_json(&release, true))?;
    } else {
        styled(out, &page(&release, &names))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Shows what would happen, and keeps it where that is wanted.
fn rehearse(
    connection: &Connection,
    names: &Names<'_>,
    plan: &PlanArgs,
    is_json: bool,
    out: &mut impl io::Write,
) -> Result<()> {
    let mut request = request(plan, names)?;
    let change = Change { body: Some(&request), ..Change::of("POST", "/releases?dry_run=true") };
    let shown = connection.change(&change)?.body;
    if is_json {
        writeln!(out, "{}", to_json(&shown, true))?;
    } else {
        styled(out, &planned(&shown, names))?;
    }
    let next = if let Some(file) = &plan.out {
        request["release"] = shown["id"].clone();
        request["from"] = shown["from"].clone();
        request["layout"] = shown["layout"].clone();
        std::fs::write(file, to_json(&request, true) + "\n")
            .with_context(|| format!("cannot write `{}`", file.display()))?;
        let file = plain(&file.display().to_string());
        format!("Kept. Nothing is planned yet: `patchwright release apply {file}`.")
    } else {
        "Keep it with --out FILE, then `patchwright release apply FILE`.".to_owned()
    };
    if !is_json {
        styled(out, &format!("\n{DIM}{next}{DIM:#}\n"))?;
    }
    Ok(())
}

fn ids(items: &[String], names: &Names<'_>) -> Result<Vec<String>> {
    items.iter().map(|item| names.ci_id(item)).collect()
}

/// A wave profile as the API takes it: the name of one, or all of a file.
pub(crate) fn profile(given: &str) -> Result<String> {
    if std::path::Path::new(given).is_file() {
        read_all(given, LARGEST)
    } else {
        Ok(given.to_owned())
    }
}

fn request(plan: &PlanArgs, names: &Names<'_>) -> Result<Value> {
    let profile = profile(&plan.profile)?;
    let windows: Vec<Value> =
        plan.windows.iter().map(|(from, until)| json!({ "from": from, "until": until })).collect();
    let mut request = json!({
        "change": plan.change, "profile": profile, "from": plan.from, "until": plan.until,
        "windows": windows, "canaries": ids(&plan.canaries, names)?,
        "items": ids(&plan.items, names)?, "max_unavailable": plan.max_unavailable,
        "per_hour": plan.per_hour, "restart": plan.restart,
    });
    let minutes =
        [("install_minutes", plan.install_minutes), ("restart_minutes", plan.restart_minutes)];
    for (name, minutes) in minutes {
        if let Some(minutes) = minutes {
            request[name] = minutes.into();
        }
    }
    Ok(request)
}

fn all<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// What would happen.
fn planned(release: &Value, names: &Names<'_>) -> String {
    let mut out = String::new();
    let waves = all(release, "waves");
    let _ = writeln!(out, "{BOLD}waves{BOLD:#}");
    let mut table = Table::new(&["WAVE", "ITEMS", "WATCHED FOR"]).indented(2);
    for wave in waves {
        let number = wave["number"].as_u64().unwrap_or_default();
        let name = if number == 0 { "canaries".to_owned() } else { number.to_string() };
        table.row(vec![
            Cell::from(name),
            Cell::from(text(&wave["items"])),
            Cell::from(minutes(&wave["soak_minutes"])),
        ]);
    }
    out.push_str(&table.take());
    turns(&mut out, release, names);
    left_out(&mut out, release, names);
    plans(&mut out, release, names);
    out
}

/// How a release stands.
fn page(release: &Value, names: &Names<'_>) -> String {
    let mut out = String::new();
    let mut fields = Fields::default();
    let mode = text(&release["mode"]["is"]);
    let (word, style) = match (release["ended"].as_str(), mode.as_str()) {
        (Some("released"), _) => ("released".to_owned(), GOOD),
        (Some(end), _) => (end.replace('_', " "), WARN),
        (None, "running") => ("running".to_owned(), GOOD),
        (None, "held") => ("held".to_owned(), BAD),
        (None, other) => (other.replace('_', " "), WARN),
    };
    let tally = &release["tally"];
    let counts = ["done", "at_work", "waiting", "failed", "silent", "rolled_back", "skipped"];
    let counted: Vec<String> = counts
        .iter()
        .filter(|name| tally[**name].as_u64().unwrap_or_default() > 0)
        .map(|name| format!("{} {}", text(&tally[*name]), name.replace('_', " ")))
        .collect();
    let wave = match release["wave"].as_u64() {
        None => "all are through".to_owned(),
        Some(0) => "the canaries".to_owned(),
        Some(number) => format!("{number} of {}", all(release, "waves").len()),
    };
    fields
        .add("release", Cell::from(text(&release["id"])))
        .add("change", Cell::from(text(&release["change"])))
        .add("stands at", Cell::from(word).styled(style))
        .add("wave", Cell::from(wave))
        .add("items", Cell::from(counted.join(", ")));
    out.push_str(&fields.text(0));
    for wait in all(release, "waits") {
        let items = wait["items"].as_u64().unwrap_or_default();
        let items = if items == 1 { "1 item".to_owned() } else { format!("{items} items") };
        let what = named(&text(&wait["what"]), names);
        let _ = writeln!(out, "{WARN}waits{WARN:#} {} {DIM}({items}){DIM:#}", plain(&what));
    }
    turns(&mut out, release, names);
    left_out(&mut out, release, names);
    plans(&mut out, release, names);
    out
}

fn turns(out: &mut String, release: &Value, names: &Names<'_>) {
    let shown = all(release, "turns");
    let _ = writeln!(out, "\n{BOLD}who, what and when{BOLD:#}");
    let mut table =
        Table::new(&["WAVE", "AT", "TAKES", "ITEM", "STEP", "WHAT", "STANDS"]).indented(2);
    for turn in shown {
        let phase = text(&turn["phase"]["is"]);
        let stands = match turn["waits_for"].as_str() {
            Some(what) => format!("{phase}: {}", named(what, names)),
            None => phase,
        };
        table.row(vec![
            Cell::from(text(&turn["wave"])),
            Cell::from(moment(&turn["at"])),
            Cell::from(minutes(&turn["takes_minutes"])),
            Cell::from(names.ci(&text(&turn["ci"]))),
            Cell::from(text(&turn["step"])),
            Cell::from(actions(&turn["actions"])),
            Cell::from(stands),
        ]);
    }
    out.push_str(&table.take());
    let total = release["turns_total"].as_u64().unwrap_or_default();
    let more = total.saturating_sub(shown.len() as u64);
    if more > 0 {
        let _ = writeln!(out, "  {DIM}and {more} more: -o json has the first thousand{DIM:#}");
    }
}

fn left_out(out: &mut String, release: &Value, names: &Names<'_>) {
    let unplaced = all(release, "unplaced");
    if unplaced.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{BOLD}not in it{BOLD:#}");
    for item in unplaced {
        let name = names.ci(&text(&item["ci"]));
        let _ =
            writeln!(out, "  {WARN}{}{WARN:#} {}", plain(&name), plain(&text(&item["because"])));
        let _ = writeln!(out, "    {DIM}{}{DIM:#}", plain(&text(&item["help"])));
    }
}

fn plans(out: &mut String, release: &Value, names: &Names<'_>) {
    let _ = writeln!(out, "\n{BOLD}what tenants are asked{BOLD:#}");
    let mut fields = Fields::default();
    for (tenant, plan) in release["plans"].as_object().into_iter().flatten() {
        fields.add(&names.tenant(tenant), Cell::from(text(plan)));
    }
    out.push_str(&fields.text(2));
}

fn list(releases: &Value, names: &Names<'_>) -> String {
    let mut table = Table::new(&["RELEASE", "CHANGE", "STANDS AT", "PLANNED BY", "AT"]);
    for release in releases.as_array().into_iter().flatten() {
        let stands = release["ended"].as_str().or(release["mode"].as_str()).unwrap_or_default();
        table.row(vec![
            Cell::from(text(&release["id"])),
            Cell::from(text(&release["change"])),
            Cell::from(stands.replace('_', " ")),
            Cell::from(names.person(&text(&release["created_by"]))),
            Cell::from(moment(&release["created_at"])),
        ]);
    }
    table.take()
}

fn orders(orders: &Value, names: &Names<'_>) -> String {
    let mut table = Table::new(&["MADE", "ITEM", "STAGE", "FETCHED", "CAME TO", "WHY"]);
    for order in orders.as_array().into_iter().flatten() {
        let is_handed = !order["handed_at"].is_null();
        let outcome = order["outcome"].as_str();
        let style = match outcome {
            Some("done") => GOOD,
            None | Some("called_off") => DIM,
            Some(_) => BAD,
        };
        let at_work = order["at_work"].as_str().unwrap_or("at work");
        let outcome = outcome.unwrap_or(if is_handed { at_work } else { "waits" });
        table.row(vec![
            Cell::from(moment(&order["created_at"])),
            Cell::from(names.ci(&text(&order["ci"]))),
            Cell::from(text(&order["stage"])),
            Cell::from(moment(&order["handed_at"])),
            Cell::from(outcome.replace('_', " ")).styled(style),
            Cell::from(text(&order["reason"])),
        ]);
    }
    table.take()
}

/// What looks came to, and what there is to say beside it.
fn verifications(kept: &[Value], names: &Names<'_>) -> String {
    let mut table = Table::new(&["AT", "ITEM", "OCCASION", "VERDICT", "BECAUSE", "VERIFICATION"]);
    for one in kept {
        let verdict = text(&one["verdict"]["is"]);
        let style = match verdict.as_str() {
            "verified" => GOOD,
            "conflict" => BAD,
            _ => WARN,
        };
        table.row(vec![
            Cell::from(moment(&one["verified_at"])),
            Cell::from(names.ci(&text(&one["ci"]))),
            Cell::from(text(&one["occasion"]).replace('_', " ")),
            Cell::from(verdict).styled(style),
            Cell::from(text(&one["because"])),
            Cell::from(text(&one["id"])),
        ]);
    }
    table.take()
}

/// What looks came to: of an item, of a change, or all.
fn looked(
    connection: &Connection,
    names: &Names<'_>,
    of: (Option<&str>, Option<ChangeId>),
    limit: usize,
) -> Result<Vec<Value>> {
    let query = match of {
        (Some(ci), _) => format!("ci={}", encoded(&names.ci_id(ci)?)),
        (None, Some(change)) => format!("change={change}"),
        (None, None) => String::new(),
    };
    connection.items("/verifications", &query, limit).take(limit).collect()
}

/// The public key of the verifier.
fn verifier_key(connection: &Connection, is_json: bool) -> Result<String> {
    let key = connection.get("/verifications/key")?;
    Ok(if is_json { to_json(&key, true) + "\n" } else { plain_lines(&text(&key["public_key"])) })
}

/// Snapshots of an item, or of a release.
fn kept_of(
    connection: &Connection,
    names: &Names<'_>,
    ci: Option<&str>,
    release: Option<&str>,
) -> Result<Value> {
    let mut query = Vec::new();
    if let Some(ci) = ci {
        query.push(format!("ci={}", encoded(&names.ci_id(ci)?)));
    }
    if let Some(release) = release {
        query.push(format!("release={}", encoded(release)));
    }
    connection.get(&format!("/snapshots?{}", query.join("&")))
}

/// Says where the machine of an item lives, or has it said.
fn lives(
    connection: &Connection,
    names: &Names<'_>,
    machine: &MachineArgs,
    is_json: bool,
) -> Result<String> {
    let MachineArgs { ci, place, machine, forget } = machine;
    let path = format!("/cis/{}/machine", encoded(&names.ci_id(ci)?));
    if *forget {
        connection.change(&Change::of("DELETE", &path))?;
        return Ok(format!("The machine of {} lives at none of the places.\n", plain(ci)));
    }
    let lives = match (place, machine) {
        (Some(place), Some(machine)) => {
            let body = json!({ "place": place, "machine": machine });
            let change = Change { body: Some(&body), ..Change::of("PUT", &path) };
            connection.change(&change)?.body
        }
        _ => connection.get(&path)?,
    };
    if is_json {
        return Ok(to_json(&lives, true) + "\n");
    }
    let (place, machine) = (text(&lives["place"]), text(&lives["machine"]));
    Ok(format!("The machine of {} is `{machine}` at `{place}`.\n", plain(ci)))
}

/// What is kept of machines, and what became of it.
fn snapshots(listed: &Value, names: &Names<'_>) -> String {
    let mut table = Table::new(&["AT", "ITEM", "STATE", "BECAUSE", "SNAPSHOT"]);
    for one in listed.as_array().into_iter().flatten() {
        let state = text(&one["state"]);
        let style = match state.as_str() {
            "taken" => GOOD,
            "failed" => BAD,
            "returning" | "returned" => WARN,
            _ => DIM,
        };
        table.row(vec![
            Cell::from(moment(&one["created_at"])),
            Cell::from(names.ci(&text(&one["ci"]))),
            Cell::from(state).styled(style),
            Cell::from(text(&one["reason"])),
            Cell::from(text(&one["id"])),
        ]);
    }
    table.take()
}

/// A text of several lines, each made harmless.
fn plain_lines(text: &str) -> String {
    text.lines().map(|line| plain(line) + "\n").collect()
}

/// A sentence of the API with names in the place of ids.
fn named(sentence: &str, names: &Names<'_>) -> String {
    let word = |word: &str| {
        let id = word.trim_end_matches([',', '.', ':', ';']);
        let rest = &word[id.len()..];
        match id.split_once('_') {
            Some(("ten", _)) => names.tenant(id) + rest,
            Some(("ci", _)) => names.ci(id) + rest,
            _ => word.to_owned(),
        }
    };
    sentence.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// What is done, in a few words.
fn actions(actions: &Value) -> String {
    let word = |action: &Value| match action["do"].as_str() {
        Some("upgrade") => {
            let packages = all(action, "packages");
            let names: Vec<String> = packages
                .iter()
                .take(2)
                .map(|it| format!("{} {}", text(&it["name"]), text(&it["version"])))
                .collect();
            match packages.len().saturating_sub(names.len()) {
                0 => names.join(", "),
                more => format!("{} and {more} more", names.join(", ")),
            }
        }
        Some("reboot") => "restart of the system".to_owned(),
        Some("restart_unit") => format!("restart of {}", text(&action["unit"])),
        Some("write_file") => text(&action["path"]),
        Some("alter_file") => {
            let path = text(&action["path"]);
            let access =
                |it: &Value| ["mode", "owner", "group"].map(|name| text(&it["access"][name]));
            let (was, is) = (&action["before"], &action["after"]);
            match (was.is_null(), is.is_null()) {
                (_, true) => format!("{path} is taken away"),
                (false, false) if access(was) != access(is) => {
                    let [mode, owner, group] = access(is);
                    format!("{path} becomes {mode} {owner}:{group}")
                }
                _ => path,
            }
        }
        other => other.unwrap_or_default().to_owned(),
    };
    let words: Vec<String> = actions.as_array().into_iter().flatten().map(word).collect();
    words.join("; ")
}

fn minutes(value: &Value) -> String {
    let minutes = value.as_u64().unwrap_or_default();
    match (minutes / 1440, minutes % 1440 / 60, minutes % 60) {
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, 0) => format!("{hours} h"),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, 0, _) => format!("{days} d"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_told_in_its_largest_words() {
        for (given, told) in [
            (0, "0 min"),
            (45, "45 min"),
            (60, "1 h"),
            (90, "1 h 30 min"),
            (1440, "1 d"),
            (1500, "1 d 1 h"),
        ] {
            assert_eq!(minutes(&given.into()), told);
        }
    }

    #[test]
    fn a_window_has_two_ends() {
        assert!(window("2026-12-05T22:00:00Z/2026-12-06T04:00:00Z").is_ok());
        assert!(window("2026-12-05T22:00:00Z").is_err());
        assert!(window("tomorrow/later").is_err());
    }
}
