//! `patchwright get`: lists, and what changes in them.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use serde_json::{Value, json};

use super::connection::{Connection, encoded, is_missing};
use super::contexts::{Access, connect};
use super::kind::{Filter, Kind};
use super::names::{Names, plural};
use super::output::{Format, Table, json as to_json, text, yaml};
use crate::failure::usage;

/// List objects, or read some.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  patchwright get findings --priority critical --state open
  patchwright get cis -l env=prod -o wide
  patchwright get patches openssl -o json
  patchwright get findings --watch")]
pub(crate) struct GetArgs {
    /// What.
    #[arg(value_enum, ignore_case = true)]
    kind: Kind,
    /// Only these, by id or name; all otherwise.
    #[arg(value_name = "ID|NAME")]
    names: Vec<String>,
    /// How to print it.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// Print at most so many.
    #[arg(long, value_name = "NUMBER", conflicts_with = "all",
        value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Print all of them, however many pages that takes; it does so anyway.
    #[arg(long)]
    all: bool,
    /// Then follow what happens, and print again what changes (as JSON: one object a line).
    #[arg(short, long, conflicts_with_all = ["limit"])]
    watch: bool,
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    access: Access,
}

/// By what the list is narrowed.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Only those")]
struct Wanted {
    /// Of this tenant, by id or short name; `provider` for the provider's own.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Of this group of items, by id or name.
    #[arg(long, value_name = "GROUP")]
    group: Option<String>,
    /// Items of this class.
    #[arg(long, value_name = "CLASS")]
    class: Option<String>,
    /// Items with this in the name, capitals aside; versions of the image series of this name.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Items with this label; several must all be there.
    #[arg(short = 'l', long, visible_alias = "label", value_name = "KEY=VALUE", value_parser = label)]
    selector: Vec<(String, String)>,
    /// Also items that are gone.
    #[arg(long)]
    retired: bool,
    /// Of this item, by id or name.
    #[arg(long, value_name = "CI")]
    ci: Option<String>,
    /// Findings of this patch, by id or source package.
    #[arg(long, value_name = "PATCH")]
    patch: Option<String>,
    /// Findings in this state: open, fixed, withdrawn or retired.
    #[arg(long, value_name = "STATE")]
    state: Option<String>,
    /// Findings of this priority: critical, high, medium or low.
    #[arg(long, value_name = "PRIORITY")]
    priority: Option<String>,
    /// Findings of this source package.
    #[arg(long, value_name = "PACKAGE")]
    source: Option<String>,
    /// Jobs with this version of an image, by id or `SERIES:NUMBER`.
    #[arg(long, value_name = "IMAGE")]
    image: Option<String>,
    /// Events from this place in the ledger on.
    #[arg(long, value_name = "PLACE")]
    from: Option<u64>,
}

/// `key=value`.
pub(super) fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as key=value".to_owned()),
    }
}

/// What is wanted, with ids in place of names.
#[derive(Debug, Default)]
struct Filters {
    tenant: Option<String>,
    /// The whole group: it says who belongs to it.
    group: Option<Value>,
    class: Option<String>,
    name: Option<String>,
    labels: Vec<(String, String)>,
    retired: bool,
    ci: Option<String>,
    patch: Option<String>,
    state: Option<String>,
    priority: Option<String>,
    source: Option<String>,
    image: Option<String>,
    from: Option<u64>,
}

impl Wanted {
    fn given(&self) -> Vec<(Filter, &'static str)> {
        let all = [
            (Filter::Tenant, "--tenant", self.tenant.is_some()),
            (Filter::Group, "--group", self.group.is_some()),
            (Filter::Class, "--class", self.class.is_some()),
            (Filter::Name, "--name", self.name.is_some()),
            (Filter::Label, "--selector", !self.selector.is_empty()),
            (Filter::Retired, "--retired", self.retired),
            (Filter::Ci, "--ci", self.ci.is_some()),
            (Filter::Patch, "--patch", self.patch.is_some()),
            (Filter::State, "--state", self.state.is_some()),
            (Filter::Priority, "--priority", self.priority.is_some()),
            (Filter::Source, "--source", self.source.is_some()),
            (Filter::Image, "--image", self.image.is_some()),
            (Filter::From, "--from", self.from.is_some()),
        ];
        all.into_iter()
            .filter(|(.., given)| *given)
            .map(|(filter, flag, _)| (filter, flag))
            .collect()
    }

    fn filters(&self, names: &Names<'_>) -> Result<Filters> {
        let id = |kind, wanted: &Option<String>| {
            wanted.as_deref().map(|it| names.find(kind, it).map(|it| text(&it["id"]))).transpose()
        };
        Ok(Filters {
            tenant: self.tenant.as_deref().map(|it| names.tenant_id(it)).transpose()?,
            group: self.group.as_deref().map(|it| names.find(Kind::Group, it)).transpose()?,
            class: self.class.clone(),
            name: self.name.clone(),
            labels: self.selector.clone(),
            retired: self.retired,
            ci: self.ci.as_deref().map(|it| names.ci_id(it)).transpose()?,
            patch: id(Kind::Patch, &self.patch)?,
            state: self.state.clone(),
            priority: self.priority.clone(),
            source: self.source.clone(),
            image: id(Kind::Image, &self.image)?,
            from: self.from,
        })
    }
}

impl Filters {
    /// As the API takes them.
    fn query(&self) -> String {
        let mut parts = Vec::new();
        let mut add = |name: &str, value: Option<&str>| {
            parts.extend(value.map(|value| format!("{name}={}", encoded(value))));
        };
        add("tenant", self.tenant.as_deref());
        add("group", self.group.as_ref().and_then(|group| group["id"].as_str()));
        add("class", self.class.as_deref());
        add("name", self.name.as_deref());
        // It takes one label; the others are looked at here.
        let label = self.labels.first().map(|(key, value)| format!("{key}={value}"));
        add("label", label.as_deref());
        add("retired", self.retired.then_some("true"));
        add("ci", self.ci.as_deref());
        add("patch", self.patch.as_deref());
        add("state", self.state.as_deref());
        add("priority", self.priority.as_deref());
        add("source", self.source.as_deref());
        add("image", self.image.as_deref());
        add("from", self.from.map(|from| from.to_string()).as_deref());
        parts.join("&")
    }

    /// Whether an object is wanted.
    fn are_met_by(&self, object: &Value) -> bool {
        let same = |field: &str, wanted: &Option<String>| {
            wanted.as_deref().is_none_or(|wanted| object[field] == wanted)
        };
        let holds = |wanted: &str| {
            object["name"]
                .as_str()
                .is_some_and(|it| it.to_lowercase().contains(&wanted.to_lowercase()))
        };
        // Only items say of themselves what groups go by; the server is asked about the rest.
        let group = self.group.as_ref().filter(|_| object["class"].is_string());
        let belongs = |group: &Value| {
            let selector = &group["selector"];
            let mut labels = selector["labels"].as_object().into_iter().flatten();
            group["tenant"] == object["tenant"]
                && (selector["class"].is_null() || selector["class"] == object["class"])
                && labels.all(|(key, value)| object["labels"][key] == *value)
        };
        group.is_none_or(belongs)
            && same("tenant", &self.tenant)
            && same("class", &self.class)
            && self.name.as_deref().is_none_or(holds)
            && self.labels.iter().all(|(key, value)| object["labels"][key] == value.as_str())
            && (self.retired || object["retired_at"].is_null())
            && same("ci", &self.ci)
            && same("patch", &self.patch)
            && same("state", &self.state)
            && same("priority", &self.priority)
            && same("source", &self.source)
            && same("image", &self.image)
    }
}

/// Lists versions of images, of one series where asked for.
pub(crate) fn images(series: Option<&str>, access: &Access) -> Result<ExitCode> {
    run(&GetArgs {
        kind: Kind::Image,
        names: Vec::new(),
        output: Format::Table,
        limit: None,
        all: false,
        watch: false,
        wanted: Wanted { name: series.map(str::to_owned), ..Wanted::default() },
        access: access.clone(),
    })
}

/// Runs the command.
pub(crate) fn run(arguments: &GetArgs) -> Result<ExitCode> {
    check(arguments)?;
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let mut printer = Printer::new(arguments.kind, arguments.output, &names);
    // The place comes first: what happens after it is told even if the list did not show it yet.
    let place = if arguments.watch { place(&connection)? } else { 0 };
    if !arguments.names.is_empty() {
        let found: Vec<Value> = arguments
            .names
            .iter()
            .map(|name| names.find(arguments.kind, name))
            .collect::<Result<_>>()?;
        if arguments.watch {
            let ids: Vec<Value> = found.iter().map(|it| it["id"].clone()).collect();
            let is_named = |it: &Value| ids.contains(&it["id"]);
            let watched = Watched { kind: arguments.kind, connection: &connection, group: None };
            return watch(&watched, &mut printer, found, is_named, place);
        }
        let is_one = found.len() == 1;
        printer.all(found, is_one)?;
        return Ok(ExitCode::SUCCESS);
    }
    let filters = arguments.wanted.filters(&names)?;
    let found = listed(&connection, arguments.kind, &filters, arguments.limit)?;
    if arguments.watch {
        let is_wanted = |it: &Value| filters.are_met_by(it);
        let group = filters.group.as_ref().map(|group| text(&group["id"]));
        let place = if arguments.kind == Kind::Event {
            let last = found.last().and_then(|event| event["sequence"].as_u64());
            last.map_or(filters.from.unwrap_or(0), |last| last + 1)
        } else {
            place
        };
        let watched = Watched { kind: arguments.kind, connection: &connection, group };
        return watch(&watched, &mut printer, found, is_wanted, place);
    }
    printer.all(found, false)?;
    Ok(ExitCode::SUCCESS)
}

/// What the kind does not have is told before anything is asked.
fn check(arguments: &GetArgs) -> Result<()> {
    let kind = arguments.kind;
    if kind == Kind::AgentToken {
        return Err(usage(
            "tokens for joining are not told again",
            "make one with `patchwright create agent-token`; its uses are among the events",
        ));
    }
    let given = arguments.wanted.given();
    if let Some((_, flag)) = given.iter().find(|(filter, _)| !kind.filters().contains(filter)) {
        return Err(usage(
            format!("{} cannot be narrowed by {flag}", plural(kind)),
            "see what belongs to which kind with `patchwright get --help`",
        ));
    }
    if !arguments.names.is_empty()
        && let Some((_, flag)) = given.first()
    {
        return Err(usage(
            format!("{flag} narrows a list, and names say which ones"),
            "leave one of them out",
        ));
    }
    if kind == Kind::Event && arguments.watch && !arguments.names.is_empty() {
        return Err(usage("what happened does not change", "leave --watch or the places out"));
    }
    if kind == Kind::Relation && arguments.watch {
        return Err(usage(
            "relations cannot be followed",
            "they are among the events: `patchwright get events --watch`",
        ));
    }
    if kind == Kind::Relation && (arguments.wanted.ci.is_none() || !arguments.names.is_empty()) {
        return Err(usage(
            "relations are told of one item",
            "name it: `patchwright get relations --ci NAME`",
        ));
    }
    Ok(())
}

fn listed(
    connection: &Connection,
    kind: Kind,
    filters: &Filters,
    limit: Option<u32>,
) -> Result<Vec<Value>> {
    if let (Kind::Relation, Some(ci)) = (kind, &filters.ci) {
        let mut all = connection.get(&format!("/cis/{}/relations", encoded(ci)))?;
        let items = all["items"].as_array_mut().map(std::mem::take).unwrap_or_default();
        return Ok(items.into_iter().take(limit.map_or(usize::MAX, |it| it as usize)).collect());
    }
    let limit = limit.map_or(usize::MAX, |limit| limit as usize);
    // Only what is left of labels is looked at here: what else was asked for, the server knows best.
    let has_labels =
        |it: &Value| filters.labels.iter().all(|(key, value)| it["labels"][key] == value.as_str());
    connection
        .items(kind.path(), &filters.query(), limit)
        .filter(|it| it.as_ref().map_or(true, has_labels))
        .take(limit)
        .collect()
}

/// Prints objects in the form that was asked for.
struct Printer<'a> {
    kind: Kind,
    format: Format,
    names: &'a Names<'a>,
    table: Table,
}

impl<'a> Printer<'a> {
    fn new(kind: Kind, format: Format, names: &'a Names<'a>) -> Self {
        let heads: Vec<_> = columns(kind, format).map(|column| column.head).collect();
        Self { kind, format, names, table: Table::new(&heads) }
    }

    /// All of them at once; as the API has them, one by itself or several as a list.
    fn all(&mut self, mut objects: Vec<Value>, is_one: bool) -> Result<()> {
        let out = &mut io::stdout().lock();
        let mut whole = || {
            if is_one {
                objects.remove(0)
            } else {
                json!({ "items": std::mem::take(&mut objects) })
            }
        };
        match self.format {
            Format::Json => writeln!(out, "{}", to_json(&whole(), true))?,
            Format::Yaml => write!(out, "{}", yaml(&whole()))?,
            Format::Table | Format::Wide if objects.is_empty() => {
                writeln!(out, "no {} that you may see", plural(self.kind))?;
            }
            _ => self.some(&objects)?,
        }
        Ok(())
    }

    /// These now, others may follow.
    fn some(&mut self, objects: &[Value]) -> Result<()> {
        let out = &mut io::stdout().lock();
        match self.format {
            Format::Table | Format::Wide => {
                self.names.learn(objects);
                for object in objects {
                    let cells = columns(self.kind, self.format);
                    let cells = cells.map(|column| (column.cell)(object, self.names)).collect();
                    self.table.row(cells);
                }
                self.table.print(out)?;
            }
            Format::Name => {
                for object in objects {
                    writeln!(out, "{}", crate::text::plain(&self.kind.name_line(object)))?;
                }
            }
            Format::Json => {
                for object in objects {
                    writeln!(out, "{}", to_json(object, false))?;
                }
            }
            Format::Yaml => {
                for object in objects {
                    write!(out, "---\n{}", yaml(object))?;
                }
            }
        }
        out.flush()?;
        Ok(())
    }
}

fn columns(kind: Kind, format: Format) -> impl Iterator<Item = &'static super::kind::Column> {
    kind.columns().iter().filter(move |column| !column.is_wide || format == Format::Wide)
}

/// How far the ledger has come: events from here on are news.
pub(super) fn place(connection: &Connection) -> Result<u64> {
    let head = connection.get("/ledger")?;
    Ok(size_of(head["checkpoint"].as_str().unwrap_or_default()))
}

/// A checkpoint's second line is the size of the log.
pub(super) fn size_of(checkpoint: &str) -> u64 {
    checkpoint.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}

/// What is followed.
struct Watched<'a> {
    kind: Kind,
    connection: &'a Connection,
    /// The id of the group that it belongs to, where only that is wanted.
    group: Option<String>,
}

/// Prints the list, then each object that an event altered, as it is after it.
fn watch(
    watched: &Watched<'_>,
    printer: &mut Printer<'_>,
    found: Vec<Value>,
    is_wanted: impl Fn(&Value) -> bool,
    place: u64,
) -> Result<ExitCode> {
    let mut shown = Shown::default();
    let found = shown.news(watched.kind, found, &is_wanted);
    printer.some(&found)?;
    for event in watched.connection.follow(place) {
        let event = event?;
        let touched =
            if watched.kind == Kind::Event { vec![event] } else { watched.touched(&event)? };
        let news = shown.news(watched.kind, touched, &is_wanted);
        if !news.is_empty() {
            printer.some(&news)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What was shown last of each object.
#[derive(Debug, Default)]
struct Shown {
    objects: BTreeMap<String, Value>,
}

impl Shown {
    /// Those that are wanted, or were shown and are wanted no longer, where they differ from what was
    /// shown.
    fn news(
        &mut self,
        kind: Kind,
        objects: Vec<Value>,
        is_wanted: impl Fn(&Value) -> bool,
    ) -> Vec<Value> {
        let mut news = Vec::new();
        for object in objects {
            let id = kind.name_line(&object);
            let is_news = match self.objects.get(&id) {
                Some(shown) => *shown != object,
                None => is_wanted(&object),
            };
            if is_news {
                if is_wanted(&object) {
                    self.objects.insert(id, object.clone());
                } else {
                    // It left: that is told once.
                    self.objects.remove(&id);
                }
                news.push(object);
            }
        }
        news
    }
}

impl Watched<'_> {
    /// The objects that an event says something about, as they are now.
    fn touched(&self, event: &Value) -> Result<Vec<Value>> {
        let object = text(&event["object"]);
        let what = text(&event["kind"]);
        let items = |path: &str, query: &str| self.connection.items(path, query, 1000).collect();
        match self.kind {
            // A check of an item opens, alters and closes findings.
            Kind::Finding if Kind::Ci.is_id(&object) && what != "ci.created" => {
                let group = self.group.as_ref().map(|group| format!("&group={}", encoded(group)));
                let query = format!("ci={}{}", encoded(&object), group.unwrap_or_default());
                return items("/findings", &query);
            }
            Kind::Patch if matches!(what.as_str(), "ci.checked" | "ci.retired") => {
                return items("/patches", "");
            }
            Kind::Token if self.kind.is_id(&object) => {
                let all: Vec<Value> = items("/tokens", "")?;
                return Ok(all.into_iter().filter(|it| it["id"] == object.as_str()).collect());
            }
            kind if kind.has_one() && kind.is_id(&object) => {}
            _ => return Ok(Vec::new()),
        }
        match self.connection.get(&format!("{}/{}", self.kind.path(), encoded(&object))) {
            Ok(object) => Ok(vec![object]),
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_mean_here_what_they_mean_to_the_server() {
        let ci = json!({
            "id": "ci_1", "tenant": "ten_1", "class": "vm", "name": "Web-1",
            "labels": { "env": "prod", "zone": "a" }, "retired_at": null
        });
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let filters = Filters {
            tenant: Some("ten_1".to_owned()),
            name: Some("wEb".to_owned()),
            labels: vec![pair("env", "prod"), pair("zone", "a")],
            ..Filters::default()
        };

        assert!(filters.are_met_by(&ci));
        assert_eq!(filters.query(), "tenant=ten_1&name=wEb&label=env%3Dprod");
        let mut gone = ci.clone();
        gone["retired_at"] = json!("2026-11-24T00:00:00Z");
        assert!(!filters.are_met_by(&gone));
        let other = Filters { labels: vec![pair("zone", "b")], ..Filters::default() };
        assert!(!other.are_met_by(&ci));
    }

    #[test]
    fn what_changed_is_told_once_and_so_is_what_left() {
        let ci = |version: i64, state: &str| json!({ "id": "fnd_1", "version": version, "state": state });
        let is_open = |it: &Value| it["state"] == "open";
        let mut shown = Shown::default();
        let mut news = |object: Value| shown.news(Kind::Finding, vec![object], is_open).len();

        assert_eq!(news(ci(1, "open")), 1);
        assert_eq!(news(ci(1, "open")), 0);
        assert_eq!(news(ci(2, "open")), 1);
        assert_eq!(news(ci(3, "fixed")), 1);
        assert_eq!(news(ci(4, "fixed")), 0);
        assert_eq!(news(ci(5, "open")), 1);
    }

    #[test]
    fn a_checkpoint_says_how_far_the_ledger_is() {
        assert_eq!(size_of("patchwright/1\n42\nabc=\n\n— sig"), 42);
        assert_eq!(size_of(""), 0);
    }
}
