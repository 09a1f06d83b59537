//! `patchwright config audit`: is what items are configured by as it should be?

use std::fmt::Write as _;
use std::io;

use anyhow::{Result, anyhow};
use clap::{Args, ValueEnum};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::connection::{Change, Connection, encoded};
use super::super::kind::Kind;
use super::super::names::Names;
use super::super::output::{BAD, BOLD, Cell, DIM, GOOD, Table, WARN, moment, text};
use super::super::transfer::table::guarded;
use crate::failure::helped;
use crate::text::plain;

/// Largest report that is read, in bytes.
const LARGEST: usize = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    /// The item, by id or name; without one the audits that were kept are listed.
    #[arg(conflicts_with_all = ["group", "tenant", "now"])]
    ci: Option<String>,
    /// As it was recorded at this time.
    #[arg(long, value_name = "TIME", requires = "ci")]
    at: Option<Timestamp>,
    /// As comma-separated values, one line for each attribute and rule.
    #[arg(long, requires = "ci")]
    csv: bool,
    /// Audit an item now, and keep what that came to.
    #[arg(long, value_name = "ITEM", conflicts_with_all = ["group", "tenant"])]
    now: Option<String>,
    /// What the last audits of a group's items came to, the worst first; the group by id or name.
    #[arg(long, conflicts_with = "tenant")]
    group: Option<String>,
    /// What the last audits of a tenant's items came to, the worst first; the tenant by id or short name.
    #[arg(long)]
    tenant: Option<String>,
    /// The same as a file: for programs, spreadsheets, or people.
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

/// In which form a report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// As the API has it.
    Json,
    /// A line for each item.
    Csv,
    /// A page that needs nothing else.
    Html,
}

/// Runs the command.
pub(super) fn run(
    wanted: &AuditArgs,
    connection: &Connection,
    names: &Names<'_>,
    is_json: bool,
    out: &mut impl io::Write,
) -> Result<()> {
    if let Some(ci) = &wanted.now {
        let body = json!({ "ci": names.ci_id(ci)? });
        let change =
            Change { body: Some(&body), is_repeatable: true, ..Change::of("POST", "/audits") };
        let kept = connection.change(&change)?.body;
        let words = |kept: &Value| audits(&json!([kept]), names);
        return super::print(out, is_json, &kept, words);
    }
    if let Some(ci) = &wanted.ci {
        let at = wanted.at.map(|at| format!("?at={}", encoded(&at.to_string())));
        let id = encoded(&names.ci_id(ci)?);
        let found = connection.get(&format!("/cis/{id}/audit{}", at.unwrap_or_default()))?;
        if wanted.csv {
            return write_csv(&found, out);
        }
        return super::print(out, is_json, &found, audited);
    }
    let query = match (&wanted.group, &wanted.tenant) {
        (Some(group), _) => {
            format!("&group={}", encoded(&text(&names.find(Kind::Group, group)?["id"])))
        }
        (None, Some(tenant)) => format!("&tenant={}", encoded(&names.tenant_id(tenant)?)),
        (None, None) if wanted.format.is_some() => String::new(),
        (None, None) => {
            let found = connection.get("/audits")?;
            return super::print(out, is_json, &found, |found| audits(found, names));
        }
    };
    let file = |format: &str| -> Result<Vec<u8>> {
        let path = format!("api/v1/audits/report?format={format}{query}");
        let gone = || helped(anyhow!("there is no such group or tenant"), "list what you may see");
        connection.file(&path, LARGEST)?.ok_or_else(gone)
    };
    match wanted.format {
        Some(Format::Csv) => Ok(out.write_all(&file("csv")?)?),
        Some(Format::Html) => Ok(out.write_all(&file("html")?)?),
        Some(Format::Json) | None => {
            let is_json = is_json || wanted.format.is_some();
            let found = connection.get(&format!("/audits/report?format=json{query}"))?;
            super::print(out, is_json, &found, survey)
        }
    }
}

/// In percent, where anything applies.
fn drift(of: &Value) -> Cell {
    match of["drift"].as_u64() {
        None => Cell::from("-").styled(DIM),
        Some(0) => Cell::from("0 %").styled(GOOD),
        Some(drift) => Cell::from(format!("{drift} %")).styled(BAD),
    }
}

fn survey(found: &Value) -> String {
    let listed = |name: &str| found[name].as_array().map(Vec::as_slice).unwrap_or_default();
    let mut table =
        Table::new(&["BASELINE", "DRIFT", "ITEMS", "HOLD", "DO NOT", "UNKNOWN", "WAIVED"]);
    for score in listed("baselines") {
        let mut row = vec![Cell::from(plain(&text(&score["baseline"]))), drift(score)];
        let counts = ["items", "pass", "fail", "unknown", "waived"];
        row.extend(counts.map(|count| Cell::from(text(&score[count]))));
        table.row(row);
    }
    let mut printed = table.take();
    printed.push('\n');
    let mut table = Table::new(&[
        "ITEM",
        "CORRECT",
        "CONSISTENT",
        "COMPLETE",
        "VALID",
        "TRACEABLE",
        "DRIFT",
        "AUDITED",
    ]);
    for item in listed("items") {
        let mut row = vec![Cell::from(plain(&text(&item["name"])))];
        row.extend(ATTRIBUTES.map(|it| came_to(&text(&item["attributes"][it]))));
        row.extend([drift(item), Cell::from(moment(&item["audited_at"]))]);
        table.row(row);
    }
    printed.push_str(&table.take());
    for item in listed("items") {
        for (list, style) in [("failing", BAD), ("unknown", WARN), ("waived", DIM)] {
            let all = item[list].as_array().into_iter().flatten().map(text);
            let all = all.map(|it| plain(&it)).collect::<Vec<_>>().join(", ");
            if !all.is_empty() {
                let name = plain(&text(&item["name"]));
                let _ = writeln!(printed, "\n{BOLD}{name}{BOLD:#} {style}{list}{style:#} {all}");
            }
        }
    }
    printed
}

/// What something came to, with its colour.
fn came_to(outcome: &str) -> Cell {
    let style = match outcome {
        "pass" => GOOD,
        "fail" => BAD,
        "unknown" => WARN,
        _ => DIM,
    };
    Cell::from(plain(outcome)).styled(style)
}

const ATTRIBUTES: [&str; 5] =
    ["correctness", "consistency", "completeness", "validity", "traceability"];

fn audits(found: &Value, names: &Names<'_>) -> String {
    let mut table = Table::new(&[
        "AT",
        "ITEM",
        "CORRECT",
        "CONSISTENT",
        "COMPLETE",
        "VALID",
        "TRACEABLE",
        "AUDIT",
    ]);
    for audit in found.as_array().into_iter().flatten() {
        let of = |attribute: &str| came_to(&text(&audit["outcomes"]["attributes"][attribute]));
        let mut row = vec![
            Cell::from(moment(&audit["at"])),
            Cell::from(plain(&names.ci(&text(&audit["ci"])))),
        ];
        row.extend(ATTRIBUTES.map(of));
        row.push(Cell::from(text(&audit["id"])));
        table.row(row);
    }
    table.take()
}

/// A place and what is there: `/etc/motd:3: text`.
fn place(evidence: &Value) -> String {
    let text = text(&evidence["text"]);
    match (evidence["path"].as_str(), evidence["line"].as_u64()) {
        (Some(path), Some(line)) => format!("{path}:{line}: {text}"),
        (Some(path), None) => format!("{path}: {text}"),
        (None, _) => text,
    }
}

fn places(of: &Value) -> Vec<String> {
    of["evidence"].as_array().into_iter().flatten().map(place).collect()
}

fn audited(found: &Value) -> String {
    let mut table = Table::new(&["IT IS", "COMES TO", "BECAUSE"]);
    for it in found["attributes"].as_array().into_iter().flatten() {
        let because = places(it).into_iter().next().unwrap_or_default();
        table.row(vec![
            Cell::from(text(&it["attribute"])),
            came_to(&text(&it["outcome"])),
            Cell::from(plain(&because)),
        ]);
    }
    let mut printed = table.take();
    for rule in found["rules"].as_array().into_iter().flatten() {
        let outcome = text(&rule["outcome"]);
        let style = match outcome.as_str() {
            "fail" => BAD,
            "unknown" => WARN,
            "waived" => DIM,
            _ => continue,
        };
        let (name, title) = (plain(&text(&rule["rule"])), plain(&text(&rule["title"])));
        let _ = writeln!(printed, "\n{style}{outcome}{style:#} {BOLD}{name}{BOLD:#} {title}");
        for place in places(rule) {
            let _ = writeln!(printed, "  found     {}", plain(&place));
        }
        let _ = writeln!(printed, "  expected  {}", plain(&text(&rule["expected"])));
    }
    printed
}

fn write_csv(found: &Value, out: &mut impl io::Write) -> Result<()> {
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(["about", "outcome", "severity", "evidence", "expected"])?;
    let all = |list: &'static str| found[list].as_array().into_iter().flatten();
    for it in all("attributes").chain(all("rules")) {
        let about = if it["rule"].is_string() { text(&it["rule"]) } else { text(&it["attribute"]) };
        let evidence = places(it).join("\n");
        let cells =
            [about, text(&it["outcome"]), text(&it["severity"]), evidence, text(&it["expected"])];
        csv.write_record(cells.iter().map(|cell| guarded(cell)))?;
    }
    csv.flush()?;
    Ok(())
}
