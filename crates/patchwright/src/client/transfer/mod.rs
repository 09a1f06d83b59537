//! `patchwright import` and `patchwright export`: items by the thousand, into a control plane and out
//! of it.

mod libvirt;
pub(crate) mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{ArgGroup, Args};
use domain::cloud::{PROVIDER, RelationKind};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use self::table::{Format, Item};
use super::connection::{Change, Connection};
use super::contexts::{Access, connect};
use super::kind::Kind;
use super::names::Names;
use super::output::text;
use crate::failure::{helped, usage};
use crate::text::{count, plain};

/// Items of one request: all of them are taken up, or none.
const AT_ONCE: usize = 1000;

/// Take up many configuration items: from a file, or the domains of a libvirt host.
///
/// What is there already stays as it is, so that an import can be run again. CSV has a header with
/// `class` and `name`, and may have `tenant`, `label.KEY` and columns of relations (`runs_on`, …) with
/// names parted by `;`. JSON lines have the same fields: `labels` is an object, `relations` one of lists.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("source").required(true).args(["file", "libvirt"])))]
pub(crate) struct ImportArgs {
    /// The file; `-` is standard input.
    file: Option<PathBuf>,
    /// The domains of this libvirt connection instead, such as `qemu:///system`. Needs `virsh`.
    #[arg(long, value_name = "URI")]
    libvirt: Option<String>,
    /// The item that the domains run on, by name.
    #[arg(long, value_name = "ITEM", requires = "libvirt")]
    host: Option<String>,
    /// What the file holds, where its name does not tell.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// Whose items, where they do not say; by id or short name. By default one's own tenant.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only let the server say what it would do. Relations to items that are not there yet are not
    /// looked at.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    access: Access,
}

/// Write all configuration items down, with labels and relations, as `import` reads them.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// How.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "csv")]
    output: Format,
    /// Only this tenant's, by id or short name.
    #[arg(long, value_name = "TENANT")]
    tenant: Option<String>,
    /// Only this group's, by id or name.
    #[arg(long, value_name = "GROUP", conflicts_with = "tenant")]
    group: Option<String>,
    #[command(flatten)]
    access: Access,
}

/// What became of an import.
#[derive(Default)]
struct Outcome {
    created: usize,
    there: usize,
    related: usize,
}

/// Takes items up.
pub(crate) fn import(arguments: &ImportArgs) -> Result<ExitCode> {
    let items = match (&arguments.file, &arguments.libvirt) {
        (Some(file), _) => read(file, arguments.format)?,
        (None, Some(uri)) => libvirt::domains(uri, arguments.host.as_deref())?,
        (None, None) => {
            return Err(usage(
                "there is nothing to import",
                "name a file, or a libvirt connection",
            ));
        }
    };
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let own = match &arguments.tenant {
        Some(tenant) => names.tenant_id(tenant)?,
        None => names.own_tenant()?,
    };
    let mut asked: BTreeMap<&str, String> = BTreeMap::new();
    for tenant in items.iter().filter_map(|item| item.tenant.as_deref()) {
        if !asked.contains_key(tenant) {
            asked.insert(tenant, names.tenant_id(tenant)?);
        }
    }
    let whose = |item: &Item| item.tenant.as_deref().map_or(&own, |tenant| &asked[tenant]).clone();
    let of: Vec<String> = items.iter().map(whose).collect();
    let mut import = Import {
        connection: &connection,
        dry_run: arguments.dry_run,
        known: known(&connection)?,
        outcome: Outcome::default(),
    };
    import.create(&items, &of)?;
    import.relate(&items, &of)?;
    let Outcome { created, there, related } = import.outcome;
    let dry = if arguments.dry_run { "  (dry run)" } else { "" };
    println!("{} created, {there} there already{dry}", count(created, "item", "items"));
    if related > 0 {
        println!("{} created", count(related, "relation", "relations"));
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes items down.
pub(crate) fn export(arguments: &ExportArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let query = match (&arguments.tenant, &arguments.group) {
        (Some(tenant), _) => format!("tenant={}", names.tenant_id(tenant)?),
        (None, Some(group)) => format!("group={}", text(&names.find(Kind::Group, group)?["id"])),
        (None, None) => String::new(),
    };
    let mut called = BTreeMap::new();
    for ci in connection.items(Kind::Ci.path(), "retired=true", AT_ONCE) {
        let ci = ci?;
        called.insert(text(&ci["id"]), text(&ci["name"]));
    }
    let mut relations: BTreeMap<String, BTreeMap<RelationKind, BTreeSet<String>>> = BTreeMap::new();
    for relation in connection.items("/relations", "", AT_ONCE) {
        let relation = relation?;
        let to = text(&relation["to"]);
        // What one may not see is named by its id.
        let to = called.get(&to).cloned().unwrap_or(to);
        let kind = text(&relation["kind"]).parse()?;
        relations.entry(text(&relation["from"])).or_default().entry(kind).or_default().insert(to);
    }
    let mut items = Vec::new();
    for ci in connection.items(Kind::Ci.path(), &query, AT_ONCE) {
        let ci = ci?;
        let mut item: Item = serde_json::from_value(ci.clone())
            .context("an item of the control plane cannot be read")?;
        item.tenant = Some(names.tenant(&text(&ci["tenant"])));
        item.relations = relations.remove(&text(&ci["id"])).unwrap_or_default();
        items.push(item);
    }
    // The same cloud is the same text, so that two exports can be compared.
    items.sort_by(|a, b| (&a.tenant, &a.name).cmp(&(&b.tenant, &b.name)));
    let out = BufWriter::new(io::stdout().lock());
    table::write(&items, arguments.output, out)
        .map_err(|error| helped(error, "use `-o jsonl`, which holds any name"))?;
    Ok(ExitCode::SUCCESS)
}

/// What each item's id is, by whose it is and what it is called.
type Known = BTreeMap<(String, String), String>;

fn known(connection: &Connection) -> Result<Known> {
    let mut known = Known::new();
    for ci in connection.items(Kind::Ci.path(), "", AT_ONCE) {
        let ci = ci?;
        known.insert((text(&ci["tenant"]), text(&ci["name"])), text(&ci["id"]));
    }
    Ok(known)
}

struct Import<'a> {
    connection: &'a Connection,
    dry_run: bool,
    known: Known,
    outcome: Outcome,
}

impl Import<'_> {
    /// Takes up what is not there, a thousand at a time.
    fn create(&mut self, items: &[Item], of: &[String]) -> Result<()> {
        let is_new = |(item, tenant): &(&Item, &String)| {
            !self.known.contains_key(&((*tenant).clone(), item.name.to_string()))
        };
        let new: Vec<_> = items.iter().zip(of).filter(is_new).collect();
        self.outcome.there = items.len() - new.len();
        let bar = progress(new.len(), "items");
        for (at, batch) in new.chunks(AT_ONCE).enumerate() {
            let bodies: Vec<Value> = batch
                .iter()
                .map(|(item, tenant)| {
                    json!({
                        "tenant": tenant, "class": item.class, "name": item.name,
                        "labels": item.labels,
                    })
                })
                .collect();
            let body = json!({ "items": bodies });
            let change = Change {
                body: Some(&body),
                is_repeatable: true,
                dry_run: self.dry_run,
                ..Change::of("POST", "/cis/import")
            };
            let answer = self.connection.change(&change).map_err(|error| {
                let first = at * AT_ONCE;
                error.context(format!(
                    "items {} to {} were not taken up; {} before them were",
                    first + 1,
                    first + batch.len(),
                    self.outcome.created,
                ))
            })?;
            for ci in answer.body["items"].as_array().into_iter().flatten() {
                if !self.dry_run {
                    self.known.insert((text(&ci["tenant"]), text(&ci["name"])), text(&ci["id"]));
                }
                self.outcome.created += 1;
            }
            bar.inc(batch.len() as u64);
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Relates what is not related.
    fn relate(&mut self, items: &[Item], of: &[String]) -> Result<()> {
        let wanted: Vec<_> = items
            .iter()
            .zip(of)
            .flat_map(|(item, tenant)| {
                let named = item.relations.iter();
                named.flat_map(move |(kind, to)| to.iter().map(move |to| (item, tenant, *kind, to)))
            })
            .collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let mut there = BTreeSet::new();
        for relation in self.connection.items("/relations", "", AT_ONCE) {
            let relation = relation?;
            there.insert((text(&relation["from"]), text(&relation["kind"]), text(&relation["to"])));
        }
        let bar = progress(wanted.len(), "relations");
        for (item, tenant, kind, to) in wanted {
            bar.inc(1);
            let from = self.known.get(&(tenant.clone(), item.name.to_string()));
            let (Some(from), Some(to_id)) = (from, self.resolve(tenant, to)) else {
                if self.dry_run {
                    continue;
                }
                let error = anyhow!("`{}` {kind} `{to}`: there is no such item", item.name);
                return Err(helped(
                    error,
                    "take it up first; all items are taken up, and this import can be run again",
                ));
            };
            if there.contains(&(from.clone(), kind.to_string(), to_id.clone())) {
                continue;
            }
            let (path, body) =
                (format!("/cis/{from}/relations"), json!({ "kind": kind, "to": to_id }));
            let change = Change {
                body: Some(&body),
                // Relating what is related changes nothing.
                is_repeatable: true,
                dry_run: self.dry_run,
                ..Change::of("POST", &path)
            };
            let told = || format!("`{}` {kind} `{}`", item.name, plain(to));
            self.connection.change(&change).with_context(told)?;
            self.outcome.related += 1;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The item that a relation leads to: of the same tenant, of the provider, or named by its id.
    fn resolve(&self, tenant: &str, name: &str) -> Option<String> {
        let of = |tenant: String| self.known.get(&(tenant, name.to_owned())).cloned();
        of(tenant.to_owned())
            .or_else(|| of(PROVIDER.to_string()))
            .or_else(|| Kind::Ci.is_id(name).then(|| name.to_owned()))
    }
}

fn read(file: &Path, format: Option<Format>) -> Result<Vec<Item>> {
    let is_stdin = file == Path::new("-");
    let by_name = match file.extension().and_then(|it| it.to_str()) {
        Some("csv") => Some(Format::Csv),
        Some("jsonl" | "ndjson") => Some(Format::Jsonl),
        _ => None,
    };
    let format = format.or(by_name).ok_or_else(|| {
        usage(
            format!("`{}` does not tell by its name what it holds", file.display()),
            "say so with --format csv or --format jsonl",
        )
    })?;
    let read = if is_stdin {
        table::read(io::stdin().lock(), format)
    } else {
        let opened = File::open(file).with_context(|| format!("cannot read `{}`", file.display()));
        table::read(BufReader::new(opened?), format)
    };
    read.map_err(|error| {
        let error = anyhow!(error).context(format!("cannot use `{}`", file.display()));
        helped(error, "nothing was taken up: mend it, then try again")
    })
}

/// Shown on a terminal, where there is something to wait for.
pub(super) fn progress(length: usize, what: &'static str) -> ProgressBar {
    if length <= AT_ONCE {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(length as u64).with_message(what);
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} · {eta} left");
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
