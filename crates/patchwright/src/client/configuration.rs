//! `patchwright config`: what items are and were configured by.

mod audit;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::ops::Range;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::{Args, Subcommand};
use domain::configuration::diff::{Line, Part, diff};
use domain::configuration::document::aspect;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::alterations;
use super::break_glass::{self, BreakGlass};
use super::changes::Form;
use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::names::Names;
use super::output::{
    BAD, BOLD, Cell, DIM, GOOD, Table, WARN, json as to_json, moment, styled, text,
};
use super::releases;
use crate::failure::helped;
use crate::text::plain;

/// How far `log` and `diff` look back where nobody says it.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(7 * 24);

/// See what items are and were configured by: files, policies, profiles and database servers as they were recorded,
/// without what is secret in them.
#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
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
    /// List the files of an item, and its policies and profiles.
    List {
        /// The item, by id or name.
        ci: String,
        /// As they were at this time.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
        /// Only those whose path or name begins with this.
        #[arg(long, value_name = "PATH")]
        below: Option<String>,
    },
    /// Print what a file held.
    Show {
        /// The item, by id or name.
        ci: String,
        /// The file's absolute path, or a name such as `policy:sshd`.
        path: String,
        /// At this time.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
    /// List the versions of a file, the newest first; of an item, the files that altered.
    Log {
        /// The item, by id or name.
        ci: String,
        /// The file's absolute path, or a name such as `policy:sshd`.
        path: Option<String>,
        /// Since this time; a week ago where it is left out, and no file is named.
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
    },
    /// List what all items of a group or a tenant were configured by at a time.
    At {
        /// As it was recorded at this time.
        time: Timestamp,
        #[command(flatten)]
        across: Across,
        /// Only files whose path or name begins with this.
        #[arg(long, value_name = "PATH")]
        below: Option<String>,
    },
    /// Print what differs between two times, in one file or in all; of a group or a tenant, which files of its items do.
    Diff {
        /// The item, by id or name.
        #[arg(required_unless_present_any = ["group", "tenant"], conflicts_with_all = ["group", "tenant"])]
        ci: Option<String>,
        /// The file's absolute path, or a name such as `policy:sshd`.
        path: Option<String>,
        /// From this time; a week ago where it is left out.
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,
        /// From another item instead, by id or name: what this one has otherwise, such as a later version of an image.
        #[arg(long, value_name = "ITEM", conflicts_with = "from")]
        with: Option<String>,
        /// To this time; now where it is left out.
        #[arg(long, value_name = "TIME")]
        to: Option<Timestamp>,
        #[command(flatten)]
        across: AcrossOrItem,
    },
    /// Print what happened to an item on one axis: configuration, packages, orders, looks, drift, the newest first.
    Timeline {
        /// The item, by id or name.
        ci: String,
        /// Since this time; thirty days ago where it is left out.
        #[arg(long, value_name = "TIME")]
        since: Option<Timestamp>,
    },
    /// List what fails where an item fails, the nearest first.
    Impact {
        /// The item, by id or name.
        ci: String,
    },
    /// Print a file with its secrets, where its host's owner lets the original be kept. Who reads it, and why, is
    /// recorded first.
    Original {
        /// The item, by id or name.
        ci: String,
        /// The file's absolute path.
        path: String,
        /// Why.
        #[arg(long, value_name = "WORDS")]
        reason: String,
        /// At this time.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
    /// List the alterations that nobody agreed to, or nobody can explain, and how they stand.
    Drift {
        /// Only those of this item, by id or name.
        ci: Option<String>,
        /// Those that were settled, too.
        #[arg(long)]
        all: bool,
    },
    /// Say that an alteration may stay: from then on it is what the file is to be.
    Adopt {
        /// The drift.
        drift: String,
        /// Why.
        #[arg(long, value_name = "WORDS")]
        reason: String,
    },
    /// Take up an alteration that puts the file back, and plan it: it goes out once its tenant agrees.
    PutBack {
        /// The drift.
        drift: String,
        /// `default`, `accelerated` or `emergency`, or a file with a wave profile (docs/releases.md).
        #[arg(long, default_value = "emergency")]
        profile: String,
    },
    /// In an emergency: have files altered first and explained afterwards.
    BreakGlass {
        #[command(subcommand)]
        command: BreakGlass,
    },
    /// Print of each line of a file since when it is there, and by whom.
    Blame {
        /// The item, by id or name.
        ci: String,
        /// The file's absolute path.
        path: String,
        /// As it was at this time.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
    },
    /// Look for something in what items are configured by now.
    Search {
        /// Words that are on one line, in whatever case.
        #[arg(required_unless_present_any = ["regex", "parameter"])]
        words: Vec<String>,
        /// A pattern for lines instead.
        #[arg(long, value_name = "PATTERN", conflicts_with_all = ["words", "parameter"])]
        regex: Option<String>,
        /// A parameter instead, as it counts: `sshd.PermitRootLogin=yes`.
        #[arg(long, value_name = "NAME[=VALUE]", conflicts_with = "words")]
        parameter: Option<String>,
        /// Only in items of this class.
        #[arg(long)]
        class: Option<String>,
        /// Only in items of this group, by id.
        #[arg(long)]
        group: Option<String>,
    },
    /// Is what an item is configured by correct, consistent, complete, valid and traceable?
    Audit(audit::AuditArgs),
}

/// Of which items.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Across {
    /// Of the items of this group, by id.
    #[arg(long)]
    group: Option<String>,
    /// Of this tenant's items, by id or short name.
    #[arg(long)]
    tenant: Option<String>,
}

/// The same where an item may be named instead.
#[derive(Debug, Args)]
#[group(multiple = false)]
struct AcrossOrItem {
    /// Of the items of this group instead, by id.
    #[arg(long)]
    group: Option<String>,
    /// Of this tenant's items instead, by id or short name.
    #[arg(long)]
    tenant: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &ConfigArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let is_json = arguments.output == Form::Json;
    let out = &mut io::stdout().lock();
    let files =
        |ci: &str| Ok::<_, anyhow::Error>(format!("/cis/{}/files", encoded(&names.ci_id(ci)?)));
    match &arguments.command {
        Command::BreakGlass { command } => break_glass::run(command, &connection, is_json)?,
        more @ (Command::At { .. }
        | Command::Blame { .. }
        | Command::Search { .. }
        | Command::Audit(_)
        | Command::Diff { ci: None, .. }) => {
            return across(more, &connection, &names, is_json);
        }
        Command::List { ci, at, below } => {
            let query = at.map(|at| format!("?at={}", encoded(&at.to_string())));
            let mut found =
                connection.get(&format!("{}{}", files(ci)?, query.unwrap_or_default()))?;
            if let (Some(below), Some(items)) = (below, found["items"].as_array_mut()) {
                items.retain(|file| text(&file["path"]).starts_with(below.as_str()));
            }
            if is_json {
                writeln!(out, "{}", to_json(&found, true))?;
                return Ok(ExitCode::SUCCESS);
            }
            styled(out, &list(&found))?;
            let erased = found["erased"].as_array().map_or(0, Vec::len);
            if erased > 0 {
                let told = format!("{WARN}of {erased} more it was erased what they were{WARN:#}\n");
                styled(out, &told)?;
            }
        }
        Command::Show { ci, path, at } => {
            let found = connection.get(&content_of(&files(ci)?, path, *at))?;
            if is_json {
                writeln!(out, "{}", to_json(&found, true))?;
                return Ok(ExitCode::SUCCESS);
            }
            let Some(content) = found["content"].as_str() else {
                let gone = anyhow!("`{}` was not there", plain(path));
                return Err(helped(gone, "`config log` tells when it was"));
            };
            for line in content.lines() {
                writeln!(out, "{}", plain(line))?;
            }
        }
        Command::Log { ci, path: Some(path), since } => {
            let query = format!("{}/versions?path={}", files(ci)?, encoded(path));
            let mut found = connection.get(&query)?;
            if let Some(items) = found["items"].as_array_mut() {
                items.reverse();
                items.retain(|it| since.is_none_or(|since| recorded(it) >= since));
            }
            print(out, is_json, &found, versions)?;
        }
        Command::Log { ci, path: None, since } => {
            let found = changes(&connection, &files(ci)?, *since, None)?;
            print(out, is_json, &found, altered)?;
        }
        Command::Diff { .. } => differences(&arguments.command, &connection, is_json)?,
        Command::Original { .. }
        | Command::Timeline { .. }
        | Command::Impact { .. }
        | Command::Drift { .. }
        | Command::Adopt { .. }
        | Command::PutBack { .. } => decide(&arguments.command, &connection, is_json)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What differs between two times, or between two items.
fn differences(command: &Command, connection: &Connection, is_json: bool) -> Result<()> {
    let Command::Diff { ci: Some(ci), path, from, with, to, .. } = command else {
        return Ok(());
    };
    let (names, out) = (Names::new(connection), &mut io::stdout().lock());
    let files =
        |ci: &str| Ok::<_, anyhow::Error>(format!("/cis/{}/files", encoded(&names.ci_id(ci)?)));
    let (after, before) = (files(ci)?, files(with.as_ref().unwrap_or(ci))?);
    let (from, found) = if let Some(with) = with {
        let until = to.map(|to| format!("&until={}", encoded(&to.to_string())));
        let with = encoded(&names.ci_id(with)?);
        let query = format!("with={with}{}", until.unwrap_or_default());
        (*to, connection.get(&format!("{after}/changes?{query}"))?)
    } else {
        let from = Some(from.unwrap_or_else(|| Timestamp::now() - LOOK_BACK));
        (from, changes(connection, &after, from, *to)?)
    };
    let meant =
        |change: &&Value| path.as_ref().is_none_or(|path| change["path"].as_str() == Some(path));
    let meant: Vec<&Value> = listed(&found).filter(meant).collect();
    if is_json {
        writeln!(out, "{}", to_json(&meant.into_iter().cloned().collect(), true))?;
        return Ok(());
    }
    for change in meant {
        let path = text(&change["path"]);
        let held = |files: &str, at: Option<Timestamp>, side: &str| -> Result<String> {
            if change[side]["is_present"] != true {
                return Ok(String::new());
            }
            let found = connection.get(&content_of(files, &path, at))?;
            Ok(found["content"].as_str().unwrap_or_default().to_owned())
        };
        let held = (held(&before, from, "before")?, held(&after, *to, "after")?);
        styled(out, &difference(&path, change, (&held.0, &held.1))?)?;
    }
    Ok(())
}

/// What happened to an item, what stands open, and what becomes of it.
fn decide(command: &Command, connection: &Connection, is_json: bool) -> Result<()> {
    let out = &mut io::stdout().lock();
    let post = |path: &str, body: &Value| -> Result<Value> {
        let change = Change { body: Some(body), ..Change::of("POST", path) };
        Ok(connection.change(&change)?.body)
    };
    let id = |ci: &str| Ok::<_, anyhow::Error>(encoded(&Names::new(connection).ci_id(ci)?));
    match command {
        Command::Original { ci, path, reason, at } => {
            let body = json!({ "path": path, "reason": reason, "at": at });
            let found = post(&format!("/cis/{}/files/original", id(ci)?), &body)?;
            if is_json {
                return print(out, true, &found, |_| String::new());
            }
            let content = found["content"].as_str().unwrap_or_default();
            Ok(out.write_all(&BASE64_STANDARD.decode(content)?)?)
        }
        Command::Timeline { ci, since } => {
            let since = since.map(|since| format!("&from={}", encoded(&since.to_string())));
            let path = format!("/cis/{}/timeline?limit=1000", id(ci)?);
            let found = connection.get(&format!("{path}{}", since.unwrap_or_default()))?;
            print(out, is_json, &found, timeline)
        }
        Command::Impact { ci } => {
            let found = connection.get(&format!("/cis/{}/impact", id(ci)?))?;
            print(out, is_json, &found, impact)
        }
        Command::Drift { ci, all } => {
            let mut query = vec!["limit=1000".to_owned()];
            if let Some(ci) = ci {
                query.push(format!("ci={}", id(ci)?));
            }
            if !all {
                query.push("state=open".to_owned());
            }
            let found = connection.get(&format!("/drifts?{}", query.join("&")))?;
            print(out, is_json, &found, drifts)
        }
        Command::Adopt { drift, reason } => {
            let path = format!("/drifts/{}", encoded(drift));
            let seen = connection.get(&path)?;
            let body = json!({ "reason": reason, "recorded_at": seen["recorded_at"] });
            let done = post(&format!("{path}/adopt"), &body)?;
            print(out, is_json, &done, |_| "It may stay; that is recorded.\n".to_owned())
        }
        Command::PutBack { drift, profile } => {
            let profile = releases::profile(profile)?;
            let done = post(&format!("/drifts/{}/put-back", encoded(drift)), &json!({}))?;
            let planned = alterations::plan(connection, &done, &profile)?;
            let both = json!({ "drift": done, "release": planned });
            print(out, is_json, &both, |both| {
                let (change, id) = (&both["drift"]["change"], &both["release"]["id"]);
                let (change, id) = (plain(&text(change)), plain(&text(id)));
                format!(
                    "{change} is to put it back: planned as {id}, which waits for its tenant.\n"
                )
            })
        }
        // Done where they are told apart.
        Command::List { .. }
        | Command::Show { .. }
        | Command::Log { .. }
        | Command::At { .. }
        | Command::Diff { .. }
        | Command::BreakGlass { .. }
        | Command::Blame { .. }
        | Command::Search { .. }
        | Command::Audit(_) => Ok(()),
    }
}

pub(crate) fn print(
    out: &mut impl io::Write,
    is_json: bool,
    found: &Value,
    words: impl Fn(&Value) -> String,
) -> Result<()> {
    if is_json {
        writeln!(out, "{}", to_json(found, true))?;
    } else {
        styled(out, &words(found))?;
    }
    Ok(())
}

fn timeline(found: &Value) -> String {
    let mut table = Table::new(&["WHEN", "WHAT", "OF", "BY", "FILES"]);
    for moment in listed(found) {
        let files = moment["files"].as_array().map(Vec::as_slice).unwrap_or_default();
        let named = files
            .iter()
            .take(3)
            .map(|file| format!("{} ({})", plain(&text(&file["path"])), text(&file["standing"])));
        let mut named = named.collect::<Vec<_>>().join(", ");
        if files.len() > 3 {
            let _ = write!(named, " and {} more", files.len() - 3);
        }
        table.row(vec![
            Cell::from(self::moment(&moment["at"])),
            Cell::from(text(&moment["kind"])),
            Cell::from(text(&moment["object"])),
            Cell::from(plain(&text(&moment["by"]))),
            Cell::from(named),
        ]);
    }
    table.take()
}

fn impact(found: &Value) -> String {
    let mut table = Table::new(&["ITEM", "HOW", "OVER"]);
    for it in listed(found) {
        table.row(vec![
            Cell::from(plain(&text(&it["name"]))),
            Cell::from(text(&it["by"])),
            Cell::from(text(&it["distance"])),
        ]);
    }
    table.take()
}

fn drifts(found: &Value) -> String {
    let mut table =
        Table::new(&["DRIFT", "SINCE", "ITEM", "PATH", "IS", "HELD TO BE", "BY", "STANDS"]);
    for drift in listed(found) {
        let stands = match (drift["state"].as_str(), drift["escalated_at"].is_null()) {
            (Some("open"), false) => Cell::from("open, escalated").styled(BAD),
            (Some("open"), true) => Cell::from("open").styled(WARN),
            (state, _) => Cell::from(state.unwrap_or_default().to_owned()),
        };
        table.row(vec![
            Cell::from(text(&drift["id"])),
            Cell::from(moment(&drift["since"])),
            Cell::from(plain(&text(&drift["ci_name"]))),
            Cell::from(plain(&text(&drift["path"]))),
            Cell::from(text(&drift["what"])),
            held_to_be(&drift["verdict"]),
            Cell::from(plain(drift["by"].as_str().unwrap_or("nobody knows"))),
            stands,
        ]);
    }
    table.take()
}

/// What an alteration is held to be; nothing where nobody judged it.
fn held_to_be(verdict: &Value) -> Cell {
    let standing = text(&verdict["standing"]);
    match standing.as_str() {
        "" => Cell::from(""),
        "authorised" | "vendor" => Cell::from(standing).styled(GOOD),
        "unauthorised" => Cell::from(standing).styled(BAD),
        _ => Cell::from(standing).styled(WARN),
    }
}

/// Files, and below them what hosts are configured by beside these.
fn list(found: &Value) -> String {
    let is_document = |file: &&Value| aspect(&text(&file["path"])).is_some();
    let (documents, files): (Vec<_>, Vec<_>) = listed(found).partition(is_document);
    let mut table = Table::new(&["PATH", "MODE", "OWNER", "BYTES", "RECORDED"]);
    for file in files {
        table.row(vec![
            Cell::from(plain(&text(&file["path"]))),
            Cell::from(mode(file)),
            Cell::from(plain(&text(&file["owner"]))),
            Cell::from(text(&file["length"])),
            Cell::from(moment(&file["recorded_at"])),
        ]);
    }
    let mut printed = table.take();
    if !documents.is_empty() {
        let mut table = Table::new(&["POLICIES AND PROFILES", "BYTES", "RECORDED"]);
        for document in documents {
            table.row(vec![
                Cell::from(plain(&text(&document["path"]))),
                Cell::from(text(&document["length"])),
                Cell::from(moment(&document["recorded_at"])),
            ]);
        }
        if !printed.is_empty() {
            printed.push('\n');
        }
        printed.push_str(&table.take());
    }
    printed
}

/// Questions about more than one version, or more than one file.
fn across(
    command: &Command,
    connection: &Connection,
    names: &Names<'_>,
    is_json: bool,
) -> Result<ExitCode> {
    let out = &mut io::stdout().lock();
    match command {
        Command::At { time, across, below } => {
            let query = everywhere(
                names,
                across.group.as_deref(),
                across.tenant.as_deref(),
                below.as_deref(),
            )?;
            let query = format!("/configuration/files?at={}{query}", encoded(&time.to_string()));
            pages(connection, &query, is_json, out, at_once)?;
        }
        Command::Diff { ci: None, from, to, across, .. } => {
            // Both times stay the same on each page.
            let to = to.unwrap_or_else(Timestamp::now);
            let from = from.unwrap_or_else(|| to - LOOK_BACK);
            let (from, to) = (encoded(&from.to_string()), encoded(&to.to_string()));
            let query = everywhere(names, across.group.as_deref(), across.tenant.as_deref(), None)?;
            let query = format!("/configuration/changes?from={from}&at={to}{query}");
            pages(connection, &query, is_json, out, altered_somewhere)?;
        }
        Command::Blame { ci, path, at } => {
            let at = at.map(|at| format!("&at={}", encoded(&at.to_string()))).unwrap_or_default();
            let files = format!("/cis/{}/files", encoded(&names.ci_id(ci)?));
            let query = format!("{files}/blame?path={}{at}", encoded(path));
            let found = connection.get(&query)?;
            if is_json {
                writeln!(out, "{}", to_json(&found, true))?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = Table::new(&["RECORDED", "BY", "LINE", ""]);
            for line in found.as_array().into_iter().flatten() {
                let older = if line["is_older"] == true { " or before" } else { "" };
                table.row(vec![
                    Cell::from(format!("{}{older}", moment(&line["recorded_at"]))),
                    Cell::from(who(line)),
                    Cell::from(text(&line["line"])),
                    Cell::from(plain(&text(&line["text"]))),
                ]);
            }
            styled(out, &table.take())?;
        }
        Command::Search { words, regex, parameter, class, group } => {
            let (how, what) = match (regex, parameter) {
                (Some(regex), _) => ("regex", regex.clone()),
                (None, Some(parameter)) => ("parameter", parameter.clone()),
                (None, None) => ("words", words.join(" ")),
            };
            let mut query = format!("/configuration/search?{how}={}", encoded(&what));
            for (name, value) in [("class", class), ("group", group)] {
                if let Some(value) = value {
                    let _ = write!(query, "&{name}={}", encoded(value));
                }
            }
            search(connection, &query, is_json, out)?;
        }
        Command::Audit(wanted) => audit::run(wanted, connection, names, is_json, out)?,
        // Done where they are told apart.
        Command::List { .. }
        | Command::Show { .. }
        | Command::Log { .. }
        | Command::Diff { .. }
        | Command::BreakGlass { .. }
        | Command::Original { .. }
        | Command::Timeline { .. }
        | Command::Impact { .. }
        | Command::Drift { .. }
        | Command::Adopt { .. }
        | Command::PutBack { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Whose files, as a question has it.
fn everywhere(
    names: &Names<'_>,
    group: Option<&str>,
    tenant: Option<&str>,
    below: Option<&str>,
) -> Result<String> {
    let mut query = String::from("&limit=1000");
    if let Some(group) = group {
        let _ = write!(query, "&group={}", encoded(group));
    }
    if let Some(tenant) = tenant {
        let _ = write!(query, "&tenant={}", encoded(&names.tenant_id(tenant)?));
    }
    if let Some(below) = below {
        let _ = write!(query, "&below={}", encoded(below));
    }
    Ok(query)
}

/// All pages of a list, in the order of items and paths.
fn pages(
    connection: &Connection,
    query: &str,
    is_json: bool,
    out: &mut impl io::Write,
    words: impl Fn(&Value) -> String,
) -> Result<()> {
    let (mut all, mut after) = (Vec::new(), String::new());
    let mut whole = loop {
        let mut page = connection.get(&format!("{query}{after}"))?;
        all.extend(page["items"].as_array_mut().map(std::mem::take).unwrap_or_default());
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => break page,
        }
    };
    all.sort_by_cached_key(|it| (text(&it["ci_name"]), text(&it["ci"]), text(&it["path"])));
    whole["items"] = Value::Array(all);
    print(out, is_json, &whole, words)
}

fn at_once(found: &Value) -> String {
    let mut table = Table::new(&["ITEM", "PATH", "MODE", "OWNER", "BYTES", "RECORDED"]);
    for it in listed(found) {
        let file = &it["file"];
        let recorded = if file.is_null() {
            Cell::from("erased").styled(WARN)
        } else {
            Cell::from(moment(&file["recorded_at"]))
        };
        table.row(vec![
            Cell::from(plain(&text(&it["ci_name"]))),
            Cell::from(plain(&text(&it["path"]))),
            Cell::from(mode(file)),
            Cell::from(plain(&text(&file["owner"]))),
            Cell::from(text(&file["length"])),
            recorded,
        ]);
    }
    table.take()
}

fn altered_somewhere(found: &Value) -> String {
    let mut table = Table::new(&["ITEM", "PATH", "IS", "RECORDED", "BY"]);
    for it in listed(found) {
        let (word, style) = if it["is_erased"] == true { ("erased", WARN) } else { became(it) };
        let after = &it["after"];
        table.row(vec![
            Cell::from(plain(&text(&it["ci_name"]))),
            Cell::from(plain(&text(&it["path"]))),
            Cell::from(word).styled(style),
            Cell::from(if after.is_null() { String::new() } else { moment(&after["recorded_at"]) }),
            Cell::from(who(after)),
        ]);
    }
    table.take()
}

pub(crate) fn listed(found: &Value) -> impl Iterator<Item = &Value> {
    found["items"].as_array().into_iter().flatten()
}

/// When it was recorded; what cannot be read was long ago.
fn recorded(version: &Value) -> Timestamp {
    text(&version["recorded_at"]).parse().unwrap_or(Timestamp::MIN)
}

fn content_of(files: &str, path: &str, at: Option<Timestamp>) -> String {
    let at = at.map(|at| format!("&at={}", encoded(&at.to_string()))).unwrap_or_default();
    format!("{files}/content?path={}{at}", encoded(path))
}

fn changes(
    connection: &Connection,
    files: &str,
    from: Option<Timestamp>,
    until: Option<Timestamp>,
) -> Result<Value> {
    let from = from.unwrap_or_else(|| Timestamp::now() - LOOK_BACK);
    let until = until.map(|until| format!("&until={}", encoded(&until.to_string())));
    let query = format!("from={}{}", encoded(&from.to_string()), until.unwrap_or_default());
    connection.get(&format!("{files}/changes?{query}"))
}

/// Permissions as `ls` shows them in octal, with the kind where it is not a file; none where there are none to show.
fn mode(file: &Value) -> String {
    let Some(mode @ 1..) = file["mode"].as_u64() else { return String::new() };
    let kind = match mode & 0o170_000 {
        0o120_000 => "link ",
        0o040_000 => "dir ",
        _ => "",
    };
    format!("{kind}{:04o}", mode & 0o7777)
}

fn who(version: &Value) -> String {
    match (version["by"].as_str(), version["confidence"].as_u64()) {
        (Some(by), Some(100) | None) => plain(by),
        (Some(by), Some(sure)) => format!("{} ({sure} %)", plain(by)),
        (None, _) => String::new(),
    }
}

fn versions(found: &Value) -> String {
    let mut table =
        Table::new(&["RECORDED", "SEEN", "WAS", "BYTES", "MODE", "OWNER", "HELD TO BE", "BY"]);
    for version in listed(found) {
        let is_present = version["is_present"] == true;
        let was = if is_present {
            Cell::from("there").styled(GOOD)
        } else {
            Cell::from("gone").styled(BAD)
        };
        table.row(vec![
            Cell::from(moment(&version["recorded_at"])),
            Cell::from(moment(&version["observed_at"])),
            was,
            Cell::from(text(&version["length"])),
            Cell::from(mode(version)),
            Cell::from(plain(&text(&version["owner"]))),
            held_to_be(&version["verdict"]),
            Cell::from(who(version)),
        ]);
    }
    let mut printed = table.take();
    if found["is_erased"] == true {
        let _ = writeln!(printed, "{WARN}older versions were erased{WARN:#}");
    }
    printed
}

/// What became of a file between two times.
fn became(change: &Value) -> (&'static str, anstyle::Style) {
    match (change["before"]["is_present"] == true, change["after"]["is_present"] == true) {
        (false, true) => ("new", GOOD),
        (true, false) => ("gone", BAD),
        _ => ("altered", WARN),
    }
}

fn altered(found: &Value) -> String {
    let mut table = Table::new(&["RECORDED", "PATH", "IS", "HELD TO BE", "BY"]);
    for change in listed(found) {
        let (word, style) = became(change);
        let after = &change["after"];
        table.row(vec![
            Cell::from(moment(&after["recorded_at"])),
            Cell::from(plain(&text(&change["path"]))),
            Cell::from(word).styled(style),
            held_to_be(&after["verdict"]),
            Cell::from(who(after)),
        ]);
    }
    table.take()
}

/// What differs, as `diff -u` shows it.
fn difference(path: &str, change: &Value, (before, after): (&str, &str)) -> Result<String> {
    let (word, style) = became(change);
    let mut printed = format!("{BOLD}{}{BOLD:#} {style}{word}{style:#}", plain(path));
    for (name, shown) in [("mode", mode as fn(&Value) -> String), ("owner", owner)] {
        let (was, is) = (shown(&change["before"]), shown(&change["after"]));
        if was != is && !was.is_empty() && !is.is_empty() {
            let _ = write!(printed, " {DIM}{name} {was} → {is}{DIM:#}");
        }
    }
    printed.push('\n');
    let found = diff(before, after).map_err(|error| helped(error, error.help()))?;
    for hunk in found.hunks {
        // Of no lines, the one before them is named (diff, unified format).
        let first = |range: &Range<usize>| range.start + usize::from(!range.is_empty());
        let span = |range: &Range<usize>| format!("{},{}", first(range), range.len());
        let (old, new) = (span(&hunk.before), span(&hunk.after));
        let _ = writeln!(printed, "{DIM}@@ -{old} +{new} @@{DIM:#}");
        for line in hunk.lines {
            match line {
                Line::Same { text } => {
                    let _ = writeln!(printed, " {}", plain(text.trim_end_matches('\n')));
                }
                Line::Removed { parts } => {
                    let _ = writeln!(printed, "{BAD}-{}{BAD:#}", joined(&parts));
                }
                Line::Added { parts } => {
                    let _ = writeln!(printed, "{GOOD}+{}{GOOD:#}", joined(&parts));
                }
            }
        }
    }
    Ok(printed)
}

fn owner(file: &Value) -> String {
    plain(&text(&file["owner"]))
}

fn joined(parts: &[Part]) -> String {
    let text = parts.iter().map(|part| match part {
        Part::Same(text) | Part::Changed(text) => text.as_str(),
    });
    plain(text.collect::<String>().trim_end_matches('\n'))
}

/// Prints what was found, as it is found.
fn search(
    connection: &Connection,
    query: &str,
    is_json: bool,
    out: &mut impl io::Write,
) -> Result<()> {
    let (mut after, mut searched, mut partly) = (String::new(), 0, 0);
    let mut all = Vec::new();
    loop {
        let found = connection.get(&format!("{query}{after}"))?;
        searched += found["searched"].as_u64().unwrap_or_default();
        partly += found["partly"].as_u64().unwrap_or_default();
        for item in listed(&found) {
            if is_json {
                all.push(item.clone());
                continue;
            }
            let mut printed = format!("{BOLD}{}{BOLD:#}\n", plain(&text(&item["name"])));
            for hit in item["hits"].as_array().into_iter().flatten() {
                let (path, line) = (plain(&text(&hit["path"])), text(&hit["line"]));
                let _ =
                    writeln!(printed, "  {DIM}{path}:{line}{DIM:#} {}", plain(&text(&hit["text"])));
            }
            if item["has_more"] == true {
                let _ = writeln!(printed, "  {WARN}there is more{WARN:#}");
            }
            styled(out, &printed)?;
        }
        match found["next"].as_str() {
            Some(next) => after = format!("&after={}", encoded(next)),
            None => break,
        }
    }
    if is_json {
        let all = serde_json::json!({ "items": all, "searched": searched, "partly": partly });
        writeln!(out, "{}", to_json(&all, true))?;
    } else {
        let told =
            format!("{DIM}{searched} items were looked into; of {partly} not all is told{DIM:#}\n");
        styled(out, &told)?;
    }
    Ok(())
}
