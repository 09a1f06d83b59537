//! `patchwright describe`: everything about one object.

use std::fmt::Write as _;
use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::Value;

use super::connection::{Connection, encoded};
use super::contexts::{Access, connect};
use super::get::place;
use super::kind::{Kind, beside as stands_beside, labels, list, yes};
use super::names::Names;
use super::output::{BOLD, Cell, DIM, Fields, Table, moment, style_of, styled, text};
use crate::failure::usage;
use crate::text::{count, plain};

/// How far back in the ledger the events of an object are looked for, and how many are shown.
const EVENTS_BACK: u64 = 1000;
const EVENTS_SHOWN: usize = 10;

/// Longest log read, and how many lines of its end are shown.
const LONGEST_LOG: usize = 64 << 20;
const LOG_LINES: usize = 20;

/// How many findings or items of a kind are shown before it says how to see the rest.
const ROWS: usize = 50;

/// Tell everything about one object.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Of which kind.
    #[arg(value_enum, ignore_case = true)]
    kind: Kind,
    /// Which one.
    #[arg(value_name = "ID|NAME")]
    name: String,
    #[command(flatten)]
    access: Access,
}

/// Describes one.
pub(crate) fn one(kind: Kind, name: &str, access: &Access) -> Result<ExitCode> {
    run(&DescribeArgs { kind, name: name.to_owned(), access: access.clone() })
}

/// Runs the command.
pub(crate) fn run(arguments: &DescribeArgs) -> Result<ExitCode> {
    let kind = arguments.kind;
    if matches!(kind, Kind::AgentToken | Kind::Relation) {
        return Err(usage(
            format!("one {} cannot be described", kind.word()),
            "describe the item: `patchwright describe ci NAME`",
        ));
    }
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let object = names.find(kind, &arguments.name)?;
    let page = Page { connection: &connection, names: &names, out: String::new() };
    let text = page.of(kind, &object)?;
    styled(&mut io::stdout().lock(), &text)?;
    Ok(ExitCode::SUCCESS)
}

/// What is told, section by section.
struct Page<'a> {
    connection: &'a Connection,
    names: &'a Names<'a>,
    out: String,
}

impl Page<'_> {
    fn of(mut self, kind: Kind, object: &Value) -> Result<String> {
        let title = match kind {
            Kind::Finding => {
                format!("{} on {}", text(&object["source"]), self.names.ci(&text(&object["ci"])))
            }
            Kind::Agent => self.names.ci(&text(&object["ci"])),
            Kind::Event => text(&object["sequence"]),
            kind => kind.name_of(object),
        };
        let _ = writeln!(self.out, "{BOLD}{} {}{BOLD:#}", kind.word(), plain(&title));
        let mut fields = Fields::default();
        // Sections of their own, or told by the title.
        let elsewhere = [
            "selector",
            "labels",
            "acceptance",
            "excluded",
            "concerns",
            "osv",
            "payload",
            "note",
            "decision",
            "request",
            "result",
            "document",
            "stage",
        ];
        let own = object.as_object().into_iter().flatten();
        for (name, value) in own.filter(|(name, _)| !elsewhere.contains(&name.as_str())) {
            fields.add(&name.replace('_', " "), self.told(name, value));
        }
        if kind == Kind::Patch {
            self.why(object, &mut fields)?;
        }
        self.out.push_str(&fields.text(2));
        match kind {
            Kind::Ci => self.ci(object)?,
            Kind::Group => self.group(object)?,
            Kind::Tenant => self.tenant(object)?,
            Kind::Finding => self.finding(object)?,
            Kind::Patch => self.patch(object)?,
            Kind::Advisory => self.advisory(object),
            Kind::Event => self.payload(object),
            Kind::Image => self.image(object)?,
            Kind::Job => self.job(object)?,
            Kind::Change => self.change(object)?,
            Kind::Notice => self.notice(object)?,
            _ => {}
        }
        // Patches have no events of their own: items have.
        if !matches!(kind, Kind::Event | Kind::Patch) {
            self.events(object)?;
        }
        Ok(self.out)
    }

    /// A field's value as people read it: names beside ids, times to the minute.
    fn told(&self, name: &str, value: &Value) -> Cell {
        let word = text(value);
        match (name, value) {
            ("tenant", Value::String(id)) => beside(&self.names.tenant(id), id),
            ("image" | "parent" | "made", Value::String(id)) => beside(&self.names.image(id), id),
            (
                "user" | "actor" | "submitted_by" | "decided_by" | "created_by",
                Value::String(id),
            ) => beside(&self.names.person(id), id),
            ("ci", Value::String(id)) => beside(&self.names.ci(id), id),
            (_, Value::Array(_)) => Cell::from(list(value)),
            (_, Value::Bool(_)) => Cell::from(yes(value)),
            (name, Value::String(_)) if name == "at" || name.ends_with("_at") => {
                Cell::from(moment(value))
            }
            ("state" | "priority", Value::String(_)) => Cell::from(&word).styled(style_of(&word)),
            _ => Cell::from(word),
        }
    }

    fn section(&mut self, title: &str) {
        let _ = writeln!(self.out, "\n{BOLD}{title}{BOLD:#}");
    }

    fn note(&mut self, text: &str) {
        let _ = writeln!(self.out, "  {DIM}{}{DIM:#}", plain(text));
    }

    fn table(&mut self, mut table: Table) {
        self.out.push_str(&table.take());
    }

    fn ci(&mut self, ci: &Value) -> Result<()> {
        let id = text(&ci["id"]);
        let path = format!("/cis/{}", encoded(&id));
        self.labels(ci);
        self.relations(&id, &self.connection.get(&format!("{path}/relations"))?);
        let facts = self.names.if_any(&format!("{path}/facts"))?;
        self.facts(&facts);
        let report = self.names.if_any(&format!("{path}/check"))?;
        self.check(&report);
        self.findings(&format!("ci={}", encoded(&id)), &format!("--ci {id}"), false)
    }

    fn labels(&mut self, object: &Value) {
        self.section("labels");
        let mut fields = Fields::default();
        let labels = object["labels"].as_object();
        for (key, value) in labels.into_iter().flatten() {
            fields.add(key, Cell::from(text(value)));
        }
        if labels.is_none_or(serde_json::Map::is_empty) {
            self.note("none");
        }
        self.out.push_str(&fields.text(2));
    }

    fn relations(&mut self, id: &str, relations: &Value) {
        self.section("relations");
        let items = relations["items"].as_array().map_or(&[][..], Vec::as_slice);
        if items.is_empty() {
            return self.note("none");
        }
        let mut table = Table::new(&["", "KIND", "ITEM", "ID"]).indented(2);
        for relation in items {
            let is_out = relation["from"] == id;
            let other = text(&relation[if is_out { "to" } else { "from" }]);
            table.row(vec![
                Cell::from(if is_out { "→" } else { "←" }),
                Cell::from(text(&relation["kind"])),
                Cell::from(self.names.ci(&other)),
                Cell::from(other),
            ]);
        }
        self.table(table);
    }

    fn facts(&mut self, facts: &Value) {
        self.section("facts");
        if facts.is_null() {
            return self.note("unknown: no agent told any");
        }
        let mut fields = Fields::default();
        fields.add("told", Cell::from(moment(&facts["recorded_at"])));
        flat(&mut fields, "", &facts["facts"]);
        self.out.push_str(&fields.text(2));
    }

    fn check(&mut self, report: &Value) {
        self.section("last check");
        if report.is_null() {
            return self.note("unknown: it was not checked yet");
        }
        let status = text(&report["status"]);
        let mut fields = Fields::default();
        fields
            .add("status", Cell::from(&status).styled(style_of(&status)))
            .add("checked at", Cell::from(moment(&report["checked_at"])))
            .add("system", Cell::from(text(&report["os"]["pretty_name"])))
            .add("architecture", Cell::from(text(&report["architecture"])))
            .add("packages", Cell::from(text(&report["packages"])));
        let unknown = report["unknown"].as_array().map_or(0, Vec::len);
        if unknown > 0 {
            let what = count(unknown, "thing", "things");
            fields.add("unknown", Cell::from(format!("{what} could not be told")));
        }
        self.out.push_str(&fields.text(2));
    }

    fn group(&mut self, group: &Value) -> Result<()> {
        self.section("who belongs to it");
        let selector = &group["selector"];
        let mut fields = Fields::default();
        let class = text(&selector["class"]);
        fields.add("class", Cell::from(if class.is_empty() { "any".to_owned() } else { class }));
        fields.add("labels", Cell::from(labels(selector)));
        self.out.push_str(&fields.text(2));
        let id = text(&group["id"]);
        let query = format!("group={}", encoded(&id));
        let mut members = self.connection.items("/cis", &query, ROWS + 1);
        let shown: Vec<Value> = members.by_ref().take(ROWS).collect::<Result<_>>()?;
        self.section("items");
        if shown.is_empty() {
            self.note("none");
            return Ok(());
        }
        let mut table = Table::new(&["NAME", "CLASS", "ID"]).indented(2);
        for ci in &shown {
            table.row(vec![
                Cell::from(text(&ci["name"])),
                Cell::from(text(&ci["class"])),
                Cell::from(text(&ci["id"])),
            ]);
        }
        self.table(table);
        if members.next().transpose()?.is_some() {
            self.note(&format!("… and more: patchwright get cis --group {id}"));
        }
        Ok(())
    }

    fn tenant(&mut self, tenant: &Value) -> Result<()> {
        let id = text(&tenant["id"]);
        let mut classes = std::collections::BTreeMap::new();
        for ci in self.connection.items("/cis", &format!("tenant={}", encoded(&id)), 1000) {
            *classes.entry(text(&ci?["class"])).or_insert(0_usize) += 1;
        }
        self.section("configuration items");
        if classes.is_empty() {
            self.note("none");
        }
        let mut fields = Fields::default();
        for (class, number) in classes {
            fields.add(&class, Cell::from(number.to_string()));
        }
        self.out.push_str(&fields.text(2));
        let query = format!("state=open&tenant={}", encoded(&id));
        let mut priorities = std::collections::BTreeMap::new();
        for finding in self.connection.items("/findings", &query, 1000) {
            *priorities.entry(text(&finding?["priority"])).or_insert(0_usize) += 1;
        }
        self.section("open findings");
        if priorities.is_empty() {
            self.note("none");
        }
        let mut fields = Fields::default();
        for word in ["critical", "high", "medium", "low"] {
            if let Some(number) = priorities.get(word) {
                fields.add(word, Cell::from(number.to_string()).styled(style_of(word)));
            }
        }
        self.out.push_str(&fields.text(2));
        self.section("people");
        let mut table = Table::new(&["LOGIN", "NAME", "ROLE", "STATE"]).indented(2);
        let mut is_empty = true;
        for user in self.connection.items("/users", "", 1000) {
            let user = user?;
            if user["tenant"] == id.as_str() {
                is_empty = false;
                let state = if user["disabled_at"].is_null() { "active" } else { "disabled" };
                table.row(vec![
                    Cell::from(text(&user["login"])),
                    Cell::from(text(&user["name"])),
                    Cell::from(text(&user["role"])),
                    Cell::from(state),
                ]);
            }
        }
        if is_empty {
            self.note("none that you may see");
        } else {
            self.table(table);
        }
        Ok(())
    }

    fn finding(&mut self, finding: &Value) -> Result<()> {
        self.section("acceptance");
        let acceptance = &finding["acceptance"];
        if acceptance.is_null() {
            self.note("nobody accepted the risk");
        } else {
            let mut fields = Fields::default();
            fields
                .add("reason", Cell::from(text(&acceptance["reason"])))
                .add("risk owner", Cell::from(text(&acceptance["risk_owner"])))
                .add("until", Cell::from(moment(&acceptance["until"])))
                .add("accepted by", Cell::from(self.names.person(&text(&acceptance["by"]))))
                .add("accepted at", Cell::from(moment(&acceptance["at"])));
            self.out.push_str(&fields.text(2));
        }
        let excluded = &finding["excluded"];
        if !excluded.is_null() {
            self.section("excluded from the SLA");
            let policy = &excluded["policy"];
            let policy = format!("{} {}", text(&policy["name"]), text(&policy["version"]));
            let mut fields = Fields::default();
            fields
                .add("what", Cell::from(text(&excluded["what"])))
                .add("reason", Cell::from(text(&excluded["reason"])))
                .add("until", Cell::from(moment(&excluded["until"])))
                .add("policy", Cell::from(policy));
            self.out.push_str(&fields.text(2));
        }
        let patch = encoded(&text(&finding["patch"]));
        let patch = self.names.if_any(&format!("/patches/{patch}"))?;
        if !patch.is_null() {
            self.section("patch");
            let mut fields = Fields::default();
            fields
                .add("id", Cell::from(text(&patch["id"])))
                .add("items that lack it", Cell::from(text(&patch["items"])))
                .add("tenants", Cell::from(text(&patch["tenants"])));
            self.out.push_str(&fields.text(2));
        }
        Ok(())
    }

    /// What the findings of a patch say about it.
    fn why(&self, patch: &Value, fields: &mut Fields) -> Result<()> {
        let query = format!("patch={}", encoded(&text(&patch["id"])));
        if let Some(finding) = self.connection.items("/findings", &query, 1).next().transpose()? {
            fields
                .add("why", Cell::from(text(&finding["reason"])))
                .add("cves", Cell::from(list(&finding["cves"])))
                .add("advisories", Cell::from(list(&finding["advisories"])));
        }
        Ok(())
    }

    fn patch(&mut self, patch: &Value) -> Result<()> {
        let id = text(&patch["id"]);
        self.findings(&format!("patch={}", encoded(&id)), &format!("--patch {id}"), true)
    }

    fn advisory(&mut self, advisory: &Value) {
        for (name, title) in [("note", "note"), ("decision", "decision")] {
            let words = text(&advisory[name]);
            if !words.is_empty() {
                self.section(title);
                for line in words.lines() {
                    let _ = writeln!(self.out, "  {}", plain(line));
                }
            }
        }
        self.section("concerns");
        let mut table = Table::new(&["TENANT", "ITEMS"]).indented(2);
        let concerned = advisory["concerns"].as_array().map_or(&[][..], Vec::as_slice);
        for one in concerned {
            table.row(vec![
                Cell::from(self.names.tenant(&text(&one["tenant"]))),
                Cell::from(text(&one["items"])),
            ]);
        }
        if concerned.is_empty() {
            self.note("no item that you may see");
        } else {
            self.table(table);
        }
        self.section("record");
        let mut fields = Fields::default();
        flat(&mut fields, "", &advisory["osv"]);
        self.out.push_str(&fields.text(2));
    }

    fn image(&mut self, image: &Value) -> Result<()> {
        let id = text(&image["id"]);
        let path = format!("/images/{}", encoded(&id));
        self.section("may VMs be made from it");
        let admission = self.connection.get(&format!("{path}/admission"))?;
        let mut fields = Fields::default();
        fields.add("admitted", Cell::from(yes(&admission["admitted"])));
        for (name, field) in [("why not", "detail"), ("because", "because"), ("help", "help")] {
            fields.add(name, Cell::from(text(&admission[field])));
        }
        self.out.push_str(&fields.text(2));
        self.section("attestations");
        let attested = self.connection.get(&format!("{path}/attestations"))?;
        let attested = attested["items"].as_array().map_or(&[][..], Vec::as_slice);
        if attested.is_empty() {
            self.note("none");
        } else {
            let mut table = Table::new(&["KEPT", "WHAT"]).indented(2);
            for one in attested {
                table.row(vec![
                    Cell::from(moment(&one["created_at"])),
                    Cell::from(text(&one["predicate_type"])),
                ]);
            }
            self.table(table);
        }
        self.jobs(&id)?;
        let ci = text(&image["ci"]);
        self.findings(&format!("ci={}", encoded(&ci)), &format!("--ci {ci}"), false)
    }

    fn jobs(&mut self, image: &str) -> Result<()> {
        self.section("jobs");
        let query = format!("image={}", encoded(image));
        let mut jobs: Vec<Value> =
            self.connection.items("/jobs", &query, 1000).collect::<Result<_>>()?;
        if jobs.is_empty() {
            self.note("none");
            return Ok(());
        }
        jobs.reverse();
        let mut table = Table::new(&["KIND", "STATE", "STAGE", "CREATED", "ID"]).indented(2);
        for job in jobs.iter().take(ROWS) {
            let state = text(&job["state"]);
            table.row(vec![
                Cell::from(text(&job["kind"])),
                Cell::from(&state).styled(style_of(&state)),
                Cell::from(text(&job["stage"])),
                Cell::from(moment(&job["created_at"])),
                Cell::from(text(&job["id"])),
            ]);
        }
        self.table(table);
        if jobs.len() > ROWS {
            let more = jobs.len() - ROWS;
            self.note(&format!("… {more} more: patchwright get jobs --image {image}"));
        }
        Ok(())
    }

    fn job(&mut self, job: &Value) -> Result<()> {
        for name in ["request", "result"] {
            self.section(name);
            let mut fields = Fields::default();
            flat(&mut fields, "", &job[name]);
            let told = fields.text(2);
            if told.is_empty() {
                self.note("none");
            }
            self.out.push_str(&told);
        }
        self.section("end of the log");
        let path = format!("api/v1/jobs/{}/log", encoded(&text(&job["id"])));
        let log = self.connection.file(&path, LONGEST_LOG)?.unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        if lines.is_empty() {
            self.note("nothing yet");
        }
        for line in &lines[lines.len().saturating_sub(LOG_LINES)..] {
            let _ = writeln!(self.out, "  {}", plain(line.trim_end()));
        }
        Ok(())
    }

    fn change(&mut self, change: &Value) -> Result<()> {
        self.section("how it stands");
        let mut fields = Fields::default();
        flat(&mut fields, "", &change["stage"]);
        self.out.push_str(&fields.text(2));
        self.section("tenants");
        let path = format!("/changes/{}/obligations", encoded(&text(&change["id"])));
        let clocks = self.connection.get(&path)?;
        let clocks = clocks.as_array().map_or(&[][..], Vec::as_slice);
        if clocks.is_empty() {
            self.note("it asks nothing of a tenant that you may see");
            return Ok(());
        }
        let heads = ["TENANT", "PRIORITY", "STANDS AT", "BALL", "CLOCK", "DUE"];
        let mut table = Table::new(&heads).indented(2);
        for clock in clocks.iter().take(ROWS) {
            let priority = text(&clock["priority"]);
            table.row(vec![
                Cell::from(self.names.tenant(&text(&clock["tenant"]))),
                Cell::from(&priority).styled(style_of(&priority)),
                Cell::from(text(&clock["phase"]).replace('_', " ")),
                Cell::from(text(&clock["holder"]).replace('_', " ")),
                Cell::from(text(&clock["state"])),
                Cell::from(moment(&clock["due"])),
            ]);
        }
        self.table(table);
        if clocks.len() > ROWS {
            self.note(&format!("… {} more: patchwright clocks --all", clocks.len() - ROWS));
        }
        Ok(())
    }

    fn notice(&mut self, notice: &Value) -> Result<()> {
        self.section("what it says");
        let mut fields = Fields::default();
        flat(&mut fields, "", &notice["document"]);
        self.out.push_str(&fields.text(2));
        self.section("deliveries");
        let path = format!("/notices/{}/deliveries", encoded(&text(&notice["id"])));
        let deliveries = self.connection.get(&path)?;
        let deliveries = deliveries["items"].as_array().map_or(&[][..], Vec::as_slice);
        if deliveries.is_empty() {
            self.note("in the console alone: the tenant has no channel");
            return Ok(());
        }
        let mut table = Table::new(&["KIND", "ADDRESS", "STATE", "TRIES", "ANSWER"]).indented(2);
        for delivery in deliveries {
            table.row(vec![
                Cell::from(text(&delivery["kind"])),
                Cell::from(text(&delivery["address"])),
                Cell::from(text(&delivery["state"]).replace('_', " ")),
                Cell::from(text(&delivery["attempts"])),
                Cell::from(text(&delivery["answer"])),
            ]);
        }
        self.table(table);
        Ok(())
    }

    fn payload(&mut self, event: &Value) {
        self.section("what exactly");
        let mut fields = Fields::default();
        flat(&mut fields, "", &event["payload"]);
        self.out.push_str(&fields.text(2));
    }

    /// Findings, open ones first, the most urgent first among them.
    fn findings(&mut self, query: &str, flags: &str, tells_items: bool) -> Result<()> {
        let all: Vec<Value> =
            self.connection.items("/findings", query, 1000).collect::<Result<_>>()?;
        let mut all = all;
        let rank = |it: &Value| {
            let priority = ["critical", "high", "medium", "low"];
            let place = priority.iter().position(|word| it["priority"] == *word);
            (it["state"] != "open", place, text(&it["source"]))
        };
        all.sort_by_cached_key(rank);
        self.section(if tells_items { "where it is missing" } else { "findings" });
        if all.is_empty() {
            self.note("none");
            return Ok(());
        }
        let last = if tells_items { "ITEM" } else { "ID" };
        let mut table =
            Table::new(&["PRIORITY", "STATE", "SOURCE", "INSTALLED → FIXED", "SINCE", last])
                .indented(2);
        self.names.learn(&all[..all.len().min(ROWS)]);
        for finding in all.iter().take(ROWS) {
            let word = |field: &str| {
                let word = text(&finding[field]);
                Cell::from(&word).styled(style_of(&word))
            };
            let versions =
                format!("{} → {}", text(&finding["installed"]), text(&finding["candidate"]));
            let state = match stands_beside(finding) {
                Some(beside) => Cell::from(beside).styled(DIM),
                None => word("state"),
            };
            let last = if tells_items {
                let tenant = self.names.tenant(&text(&finding["tenant"]));
                format!("{tenant}/{}", self.names.ci(&text(&finding["ci"])))
            } else {
                text(&finding["id"])
            };
            table.row(vec![
                word("priority"),
                state,
                Cell::from(text(&finding["source"])),
                Cell::from(versions),
                Cell::from(moment(&finding["opened_at"])),
                Cell::from(last),
            ]);
        }
        self.table(table);
        if all.len() > ROWS {
            let more = all.len() - ROWS;
            self.note(&format!("… {more} more: patchwright get findings {flags}"));
        }
        Ok(())
    }

    /// The latest events, from the end of the ledger: looking through all of it would take as long as the
    /// cloud is old.
    fn events(&mut self, object: &Value) -> Result<()> {
        let id = &object["id"];
        // What opens and closes a finding is the check of its item.
        let is_of_item = |event: &Value| {
            Kind::Finding.is_id(&text(id))
                && event["object"] == object["ci"]
                && event["kind"] == "ci.checked"
        };
        let end = place(self.connection)?;
        let from = end.saturating_sub(EVENTS_BACK);
        let page = self.connection.get(&format!("/events?from={from}&limit=1000"))?;
        let events: Vec<&Value> = page["items"]
            .as_array()
            .into_iter()
            .flatten()
            .rev()
            .filter(|event| event["object"] == *id || is_of_item(event))
            .take(EVENTS_SHOWN)
            .collect();
        self.section("latest events");
        if events.is_empty() {
            self.note(&format!("none among the last {EVENTS_BACK} of the ledger"));
            return Ok(());
        }
        let mut table = Table::new(&["AT", "KIND", "BY", "PLACE"]).indented(2);
        for event in events {
            table.row(vec![
                Cell::from(moment(&event["at"])),
                Cell::from(text(&event["kind"])),
                Cell::from(self.names.person(&text(&event["actor"]))),
                Cell::from(text(&event["sequence"])),
            ]);
        }
        self.table(table);
        Ok(())
    }
}

/// A name, with its id behind it where that is something else.
fn beside(name: &str, id: &str) -> Cell {
    if name == id { Cell::from(id) } else { Cell::from(format!("{name} ({id})")) }
}

/// An object's fields line by line, the inner ones behind the outer ones' names.
fn flat(fields: &mut Fields, name: &str, value: &Value) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let key = key.replace('_', " ");
                let name = if name.is_empty() { key } else { format!("{name} {key}") };
                flat(fields, &name, value);
            }
        }
        Value::Array(items) if items.iter().any(|it| it.is_object() || it.is_array()) => {
            for (at, item) in items.iter().enumerate() {
                flat(fields, &format!("{name} {}", at + 1), item);
            }
        }
        Value::Array(_) => {
            fields.add(name, Cell::from(list(value)));
        }
        Value::Bool(_) => {
            fields.add(name, Cell::from(yes(value)));
        }
        Value::Null => {}
        other => {
            let is_time = name == "at" || name == "until" || name.ends_with(" at");
            let told = if is_time { moment(other) } else { text(other) };
            fields.add(name, Cell::from(told));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn inner_fields_stand_behind_outer_names() {
        let mut fields = Fields::default();
        flat(
            &mut fields,
            "",
            &json!({
                "host_name": "web", "none": null,
                "runtime": { "reboot": true, "list": ["a", "b"] },
                "sets": [{ "x": 1 }, { "x": "\u{1b}[2J" }],
            }),
        );

        let text = anstream::adapter::strip_str(&fields.text(2)).to_string();

        assert_eq!(
            text,
            "  host name:      web\n  runtime reboot: yes\n  runtime list:   a, b\n  \
             sets 1 x:       1\n  sets 2 x:       \u{fffd}[2J\n"
        );
    }
}
