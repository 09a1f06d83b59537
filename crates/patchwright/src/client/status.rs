//! `patchwright status`: how the cloud stands, on one screen.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::connection::{Connection, encoded};
use super::contexts::{Access, connect};
use super::get::size_of;
use super::kind::Kind;
use super::names::Names;
use super::output::{
    BAD, BOLD, Cell, DIM, Fields, GOOD, Table, WARN, json as to_json, moment, style_of, styled,
    text, yaml,
};
use crate::text::count;

/// How many patches, tenants and agents are shown before it says how to see the rest.
const ROWS: usize = 10;

/// How far back in the ledger is looked for what was found missing lately, and how much is shown.
const EVENTS_BACK: u64 = 1000;
const LATELY: usize = 5;

/// A patch is missing.
const OUTDATED: u8 = 3;
/// Something could not be told.
const UNKNOWN: u8 = 4;

const PRIORITIES: [&str; 4] = ["critical", "high", "medium", "low"];

/// Tell whether the cloud is at its latest, and what is not.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Only this tenant's, by id or short name.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only this group's, by id or name.
    #[arg(long, value_name = "GROUP", conflicts_with = "tenant")]
    group: Option<String>,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Form,
    /// End with 3 where a patch is missing, else with 4 where something is unknown.
    #[arg(long)]
    exit_code: bool,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// One screen.
    Table,
    /// `status`, `patches`, `agents` and `ledger`, as the API has them.
    Json,
    /// The same as YAML.
    Yaml,
}

/// What is the case.
struct Picture {
    /// As `/status` answers.
    status: Value,
    /// The most urgent patches that are missing.
    patches: Vec<Value>,
    /// How many are missing in all.
    patches_missing: usize,
    /// What was found missing last, from the end of the ledger.
    lately: Vec<Value>,
    /// Agents that were not heard of for long.
    silent: Vec<Value>,
    agents: usize,
    /// As `/ledger` answers.
    ledger: Value,
    /// Whether it is about all that one may see.
    is_whole: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &StatusArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let picture = Picture::taken(arguments, &connection, &names)?;
    let out = &mut io::stdout().lock();
    match arguments.output {
        Form::Table => styled(out, &picture.screen(&names, connection.url()))?,
        Form::Json => writeln!(out, "{}", to_json(&picture.data(), true))?,
        Form::Yaml => write!(out, "{}", yaml(&picture.data()))?,
    }
    Ok(if arguments.exit_code {
        ExitCode::from(verdict(&picture.status))
    } else {
        ExitCode::SUCCESS
    })
}

/// What is missing wins over what is unknown, as in `patchwright check`.
fn verdict(status: &Value) -> u8 {
    let number = |field: &str| status[field].as_u64().unwrap_or(0);
    // A risk that somebody bears is still a patch that is missing.
    if number("outdated") > 0 {
        OUTDATED
    } else if number("latest") == number("items") && number("items") > 0 {
        0
    } else {
        UNKNOWN
    }
}

impl Picture {
    fn taken(arguments: &StatusArgs, connection: &Connection, names: &Names<'_>) -> Result<Self> {
        let query = match (&arguments.tenant, &arguments.group) {
            (Some(tenant), _) => format!("?tenant={}", encoded(&names.tenant_id(tenant)?)),
            (None, Some(group)) => {
                let group = names.find(Kind::Group, group)?;
                format!("?group={}", encoded(&text(&group["id"])))
            }
            (None, None) => String::new(),
        };
        let is_whole = query.is_empty();
        let status = connection.get(&format!("/status{query}"))?;
        let mut patches = Vec::new();
        let mut silent = Vec::new();
        let mut agents = 0;
        if is_whole {
            patches = connection.items("/patches", "", 1000).collect::<Result<_>>()?;
            let since = text(&status["fresh_since"]).parse::<jiff::Timestamp>();
            for agent in connection.items("/agents", "", 1000) {
                let agent = agent?;
                if agent["state"] != "active" {
                    continue;
                }
                agents += 1;
                let seen = text(&agent["seen_at"]).parse::<jiff::Timestamp>();
                if let (Ok(since), Ok(seen)) = (&since, seen)
                    && seen < *since
                {
                    silent.push(agent);
                }
            }
        }
        let rank = |it: &Value| PRIORITIES.iter().position(|word| it["priority"] == *word);
        patches.sort_by_cached_key(|it| (rank(it), std::cmp::Reverse(it["items"].as_u64())));
        let patches_missing = patches.len();
        patches.truncate(ROWS);
        let ledger = connection.get("/ledger")?;
        let end = size_of(ledger["checkpoint"].as_str().unwrap_or_default());
        let mut recent = Vec::new();
        if is_whole {
            let from = end.saturating_sub(EVENTS_BACK);
            let mut page = connection.get(&format!("/events?from={from}&limit=1000"))?;
            recent = page["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        }
        let lately = found_lately(&recent);
        Ok(Self { status, patches, patches_missing, lately, silent, agents, ledger, is_whole })
    }

    fn data(&self) -> Value {
        let mut data = json!({ "status": self.status, "ledger": self.ledger });
        if self.is_whole {
            data["patches"] = json!(self.patches);
            data["found_lately"] = json!(self.lately);
            data["agents"] = json!({ "active": self.agents, "silent": self.silent });
        }
        data
    }

    fn screen(&self, names: &Names<'_>, url: &str) -> String {
        let mut out = String::new();
        let number = |field: &str| self.status[field].as_u64().unwrap_or(0);
        let items = number("items");
        let unknown = number("unknown") + number("silent") + number("unchecked");
        let url = crate::text::plain(url);
        let _ = writeln!(
            out,
            "{BOLD}{url}{BOLD:#}  {} · {}",
            of(items, "item"),
            moment(&self.status["at"])
        );
        let _ = writeln!(out);
        let _ = if number("outdated") > 0 {
            writeln!(
                out,
                "{BAD}✗ outdated{BAD:#}  {} of {items} lack patches; {} at the latest, {unknown} unknown",
                number("outdated"),
                number("latest"),
            )
        } else if items == 0 {
            writeln!(out, "{WARN}? unknown{WARN:#}  there is no item to tell anything about")
        } else if unknown > 0 {
            writeln!(
                out,
                "{WARN}? unknown{WARN:#}  {unknown} of {items} could not be told; {} at the latest",
                number("latest"),
            )
        } else {
            writeln!(out, "{GOOD}✓ latest{GOOD:#}  all {items} are at their latest")
        };
        self.missing(&mut out);
        self.unknown(&mut out);
        if self.is_whole {
            self.patches(&mut out);
            self.lately(&mut out);
        }
        self.tenants(&mut out, names);
        if self.is_whole {
            self.agents(&mut out, names);
        }
        let size = size_of(self.ledger["checkpoint"].as_str().unwrap_or_default());
        let _ = writeln!(out, "\n{BOLD}Ledger{BOLD:#}");
        let mut fields = Fields::default();
        fields.add(
            "entries",
            Cell::from(if size == 0 { "none yet".to_owned() } else { size.to_string() }),
        );
        let checkpoint = self.ledger["checkpoint"].as_str().unwrap_or_default();
        fields.add("root", Cell::from(checkpoint.lines().nth(2).unwrap_or_default()));
        fields.add("key", Cell::from(text(&self.ledger["key"])));
        out.push_str(&fields.text(2));
        out
    }

    fn missing(&self, out: &mut String) {
        let missing = &self.status["missing"];
        if PRIORITIES.iter().all(|word| missing[word].as_u64().unwrap_or(0) == 0) {
            return;
        }
        let _ = writeln!(out, "\n{BOLD}Missing, item by item{BOLD:#}");
        let mut fields = Fields::default();
        for word in PRIORITIES {
            let number = missing[word].as_u64().unwrap_or(0);
            let accepted = self.status["accepted"][word].as_u64().unwrap_or(0);
            let accepted =
                if accepted > 0 { format!(" ({accepted} accepted)") } else { String::new() };
            let style = if number > 0 { style_of(word) } else { DIM };
            fields.add(word, Cell::from(format!("{number}{accepted}")).styled(style));
        }
        out.push_str(&fields.text(2));
    }

    fn unknown(&self, out: &mut String) {
        let told = [
            ("unknown", "checked, but something could not be told"),
            ("silent", "not checked or heard of for too long"),
            ("unchecked", "never checked"),
        ];
        let mut fields = Fields::default();
        let mut is_empty = true;
        for (field, why) in told {
            let number = self.status[field].as_u64().unwrap_or(0);
            if number > 0 {
                is_empty = false;
                fields.add(field, Cell::from(format!("{number}  {why}")));
            }
        }
        if !is_empty {
            let _ = writeln!(out, "\n{BOLD}Unknown{BOLD:#}");
            out.push_str(&fields.text(2));
        }
    }

    fn lately(&self, out: &mut String) {
        if self.lately.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{BOLD}Found missing lately{BOLD:#}");
        let mut table = Table::new(&["AT", "PRIORITY", "SOURCE", "FIXED"]).indented(2);
        for patch in &self.lately {
            let word = text(&patch["priority"]);
            table.row(vec![
                Cell::from(moment(&patch["at"])),
                Cell::from(&word).styled(style_of(&word)),
                Cell::from(text(&patch["source"])),
                Cell::from(text(&patch["candidate"])),
            ]);
        }
        out.push_str(&table.take());
    }

    fn patches(&self, out: &mut String) {
        if self.patches.is_empty() {
            return;
        }
        let _ = writeln!(out, "\n{BOLD}Most urgent patches{BOLD:#}");
        let mut table =
            Table::new(&["PRIORITY", "SOURCE", "FIXED", "RELEASE", "ITEMS"]).indented(2);
        for patch in &self.patches {
            let word = text(&patch["priority"]);
            table.row(vec![
                Cell::from(&word).styled(style_of(&word)),
                Cell::from(text(&patch["source"])),
                Cell::from(text(&patch["candidate"])),
                Cell::from(text(&patch["release"])),
                Cell::from(text(&patch["items"])),
            ]);
        }
        out.push_str(&table.take());
        let more = self.patches_missing - self.patches.len();
        if more > 0 {
            let _ = writeln!(out, "  {DIM}… {more} more: patchwright get patches{DIM:#}");
        }
    }

    /// One by one where there are several: a tenant's own people see one, and know it already.
    fn tenants(&self, out: &mut String, names: &Names<'_>) {
        let tenants = self.status["tenants"].as_array().map_or(&[][..], Vec::as_slice);
        if tenants.len() < 2 {
            return;
        }
        let _ = writeln!(out, "\n{BOLD}Tenants{BOLD:#}");
        let heads = [
            "TENANT", "ITEMS", "LATEST", "OUTDATED", "UNKNOWN", "CRITICAL", "HIGH", "MEDIUM", "LOW",
        ];
        let mut table = Table::new(&heads).indented(2);
        let mut tenants: Vec<&Value> = tenants.iter().collect();
        let missing = |it: &Value| PRIORITIES.map(|word| it["missing"][word].as_u64().unwrap_or(0));
        tenants.sort_by_key(|it| std::cmp::Reverse(missing(it)));
        for tenant in tenants.iter().take(ROWS) {
            let number = |field: &str| tenant[field].as_u64().unwrap_or(0);
            let unknown = number("unknown") + number("silent") + number("unchecked");
            let mut row = vec![Cell::from(names.tenant(&text(&tenant["tenant"])))];
            let counts = [number("items"), number("latest"), number("outdated"), unknown];
            row.extend(counts.map(|number| Cell::from(number.to_string())));
            for (word, number) in PRIORITIES.into_iter().zip(missing(tenant)) {
                let style = if number > 0 { style_of(word) } else { DIM };
                row.push(Cell::from(number.to_string()).styled(style));
            }
            table.row(row);
        }
        out.push_str(&table.take());
        if tenants.len() > ROWS {
            let more = tenants.len() - ROWS;
            let _ = writeln!(out, "  {DIM}… {more} more: patchwright status -o json{DIM:#}");
        }
    }

    fn agents(&self, out: &mut String, names: &Names<'_>) {
        if self.agents == 0 {
            return;
        }
        let _ = writeln!(out, "\n{BOLD}Agents{BOLD:#}");
        let silent = self.silent.len();
        let _ = writeln!(out, "  {}, {silent} silent", of(self.agents as u64, "agent"));
        if silent == 0 {
            return;
        }
        let mut table = Table::new(&["ITEM", "LAST SEEN", "AGENT"]).indented(2);
        for agent in self.silent.iter().take(ROWS) {
            table.row(vec![
                Cell::from(names.ci(&text(&agent["ci"]))),
                Cell::from(moment(&agent["seen_at"])),
                Cell::from(text(&agent["id"])),
            ]);
        }
        out.push_str(&table.take());
        if silent > ROWS {
            let more = silent - ROWS;
            let _ = writeln!(out, "  {DIM}… {more} more: patchwright status -o json{DIM:#}");
        }
    }
}

/// The patches that these events found missing, the latest first, each once.
fn found_lately(events: &[Value]) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for event in events.iter().rev().filter(|event| event["kind"] == "ci.checked") {
        let changed = &event["payload"]["findings"];
        let opened = changed["opened"].as_array().into_iter().flatten();
        // A known finding with a later candidate is a new patch as well.
        for patch in opened.chain(changed["altered"].as_array().into_iter().flatten()) {
            let same = |it: &Value| {
                it["source"] == patch["source"] && it["candidate"] == patch["candidate"]
            };
            if found.len() < LATELY && !found.iter().any(same) {
                found.push(json!({
                    "at": event["at"], "priority": patch["priority"], "source": patch["source"],
                    "candidate": patch["candidate"],
                }));
            }
        }
    }
    found
}

fn of(number: u64, word: &str) -> String {
    count(usize::try_from(number).unwrap_or(usize::MAX), word, &format!("{word}s"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(latest: u64, outdated: u64, unknown: u64) -> Value {
        json!({
            "items": latest + outdated + unknown, "latest": latest, "outdated": outdated,
            "unknown": 0, "silent": unknown, "unchecked": 0,
        })
    }

    #[test]
    fn what_is_missing_wins_and_unknown_is_never_latest() {
        assert_eq!(verdict(&status(3, 0, 0)), 0);
        assert_eq!(verdict(&status(3, 1, 1)), OUTDATED);
        assert_eq!(verdict(&status(3, 0, 1)), UNKNOWN);
        assert_eq!(verdict(&status(0, 0, 0)), UNKNOWN);
        assert_eq!(verdict(&json!({})), UNKNOWN);
    }

    fn checked(at: &str, source: &str, candidate: &str) -> Value {
        let patch = json!({ "source": source, "candidate": candidate, "priority": "critical" });
        json!({ "kind": "ci.checked", "at": at, "payload": { "findings": { "opened": [patch] } } })
    }

    #[test]
    fn a_screen_tells_all_and_no_deadlines() {
        let connection = Connection::new("http://127.0.0.1:1", None, None).unwrap();
        let names = Names::new(&connection);
        let standing = |outdated: u64| {
            json!({
                "items": 5, "latest": 1, "outdated": outdated, "unknown": 1, "silent": 1, "unchecked": 0,
                "missing": { "critical": 1, "high": 2, "medium": 0, "low": 0 },
                "accepted": { "critical": 0, "high": 1, "medium": 0, "low": 0 },
                "tenant": "ten_00000000000000000000000000",
            })
        };
        let mut status = standing(2);
        status["at"] = json!("2026-11-24T02:00:00Z");
        status["tenants"] = json!([standing(2), standing(0)]);
        let picture = Picture {
            status,
            patches: vec![json!({
                "priority": "critical", "source": "openssl", "candidate": "3.0-2", "release": "debian:12",
                "items": 2,
            })],
            patches_missing: 3,
            lately: found_lately(&[
                checked("2026-11-24T01:00:00Z", "openssl", "3.0-2"),
                checked("2026-11-24T01:30:00Z", "web", "2.0"),
                checked("2026-11-24T01:59:00Z", "openssl", "3.0-2"),
                json!({ "kind": "ci.created", "payload": {} }),
            ]),
            silent: Vec::new(),
            agents: 4,
            ledger: json!({ "key": "patchwright/1+abc", "checkpoint": "patchwright/1\n42\nroot=\n" }),
            is_whole: true,
        };

        let screen = picture.screen(&names, "https://cloud.example");

        insta::assert_snapshot!(anstream::adapter::strip_str(&screen).to_string(), @r"
        https://cloud.example  5 items · 2026-11-24 02:00Z

        ✗ outdated  2 of 5 lack patches; 1 at the latest, 2 unknown

        Missing, item by item
          critical: 1
          high:     2 (1 accepted)
          medium:   0
          low:      0

        Unknown
          unknown: 1  checked, but something could not be told
          silent:  1  not checked or heard of for too long

        Most urgent patches
          PRIORITY  SOURCE   FIXED  RELEASE    ITEMS
          critical  openssl  3.0-2  debian:12  2
          … 2 more: patchwright get patches

        Found missing lately
          AT                 PRIORITY  SOURCE   FIXED
          2026-11-24 01:59Z  critical  openssl  3.0-2
          2026-11-24 01:30Z  critical  web      2.0

        Tenants
          TENANT    ITEMS  LATEST  OUTDATED  UNKNOWN  CRITICAL  HIGH  MEDIUM  LOW
          provider  5      1       2         2        1         2     0       0
          provider  5      1       0         2        1         2     0       0

        Agents
          4 agents, 0 silent

        Ledger
          entries: 42
          root:    root=
          key:     patchwright/1+abc
        ");
    }
}
