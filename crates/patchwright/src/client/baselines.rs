//! `patchwright baseline`: what items are held against beside what comes with the program.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use domain::cloud::PROVIDER;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::changes::Form;
use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::create::read_all;
use super::kind::Kind;
use super::names::Names;
use super::output::{Cell, DIM, Table, WARN, json as to_json, moment, styled, text};
use crate::text::plain;

/// Largest file of rules, in bytes.
const LARGEST: u64 = 1 << 20;

/// Put baselines in, say to which items they apply, and answer for rules that an item does not keep. What audits come to
/// is shown by `patchwright config audit`.
#[derive(Debug, Args)]
pub(crate) struct BaselineArgs {
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
    /// List the baselines that people put in.
    List {
        /// Those that were withdrawn, too.
        #[arg(long)]
        all: bool,
    },
    /// Print a baseline: its rules, or of which files it is made and where these come from.
    Show {
        /// The baseline, by id or name.
        baseline: String,
        /// Another version than the newest.
        #[arg(value_name = "VERSION")]
        which: Option<String>,
    },
    /// Put in a file of rules, or another version of it. It is held against nothing before it is bound.
    Put {
        /// The file (TOML); `-` is standard input.
        file: String,
        /// Whose, by id or short name; one's own tenant where it is left out.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Make a baseline of files of an item that is as all of its kind should be.
    Golden {
        /// What it is called.
        name: String,
        /// The item, by id or name.
        #[arg(long, value_name = "ITEM")]
        from: String,
        /// Which files: `/etc/nginx/**`. May be given several times.
        #[arg(long = "path", value_name = "PATTERN", required = true)]
        paths: Vec<String>,
        /// As they were recorded until then; now where it is left out.
        #[arg(long, value_name = "TIME")]
        at: Option<Timestamp>,
        /// In words.
        #[arg(long, value_name = "WORDS")]
        title: Option<String>,
        /// How bad it is where one differs: `critical`, `high`, `medium` or `low`.
        #[arg(long, value_name = "SEVERITY", default_value = "medium")]
        severity: String,
    },
    /// Make a baseline of the files that a release of an alteration wrote, as looks bore them out.
    Released {
        /// What it is called.
        name: String,
        /// The release. It went through.
        #[arg(long, value_name = "RELEASE")]
        from: String,
        /// What it wrote on this item alone, by id or name: where it wrote a file otherwise on others.
        #[arg(long, value_name = "ITEM")]
        ci: Option<String>,
        /// Which of its files: `/etc/nginx/**`. May be given several times; all of them where it is left out.
        #[arg(long = "path", value_name = "PATTERN")]
        paths: Vec<String>,
        /// Whose items, by id or short name, where the release has several tenants'.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// In words.
        #[arg(long, value_name = "WORDS")]
        title: Option<String>,
        /// How bad it is where one differs: `critical`, `high`, `medium` or `low`.
        #[arg(long, value_name = "SEVERITY", default_value = "medium")]
        severity: String,
    },
    /// Hold a baseline against nothing any more. Its versions stay.
    Withdraw {
        /// The baseline, by id or name.
        baseline: String,
    },
    /// List to which items baselines apply.
    Bindings {
        /// Those that ended, too.
        #[arg(long)]
        all: bool,
    },
    /// Say that items are held to a baseline, or are not, from their next audit on.
    Bind(BindArgs),
    /// Take a binding back.
    Unbind {
        /// Its id.
        binding: String,
    },
    /// List the rules for which somebody answers.
    Waivers {
        /// Those that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// Answer for a rule that an item, or a group, does not keep, until a day.
    Waive(WaiveArgs),
    /// Take a waiver back: from the next audit on the rule counts again.
    Unwaive {
        /// Its id.
        waiver: String,
    },
}

#[derive(Debug, Args)]
struct BindArgs {
    /// The baseline, by id or name; those that come with the program too.
    baseline: String,
    #[command(flatten)]
    target: BindTarget,
    /// Whose items of the class, by id or short name; one's own where it is left out. The provider's own means everybody's.
    #[arg(long, value_name = "TENANT", requires = "class")]
    tenant: Option<String>,
    /// That they are not held to it.
    #[arg(long)]
    not: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct BindTarget {
    /// Items of this class.
    #[arg(long)]
    class: Option<String>,
    /// Items of this group, by id or name.
    #[arg(long)]
    group: Option<String>,
    /// One item, by id or name.
    #[arg(long, value_name = "ITEM")]
    ci: Option<String>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct WaiveTarget {
    /// For the items of this group, by id or name.
    #[arg(long)]
    group: Option<String>,
    /// For one item, by id or name.
    #[arg(long, value_name = "ITEM")]
    ci: Option<String>,
}

#[derive(Debug, Args)]
struct WaiveArgs {
    /// The baseline, by id or name; those that come with the program too.
    baseline: String,
    /// The rule, as the audit tells it; of a baseline of files, the path of one.
    rule: String,
    #[command(flatten)]
    target: WaiveTarget,
    /// Who answers for it.
    #[arg(long, value_name = "WORDS")]
    owner: String,
    /// Why.
    #[arg(long, value_name = "WORDS")]
    reason: String,
    /// Until when it counts, at most 366 days from now.
    #[arg(long, value_name = "TIME")]
    until: Timestamp,
}

/// Runs the command.
pub(crate) fn run(arguments: &BaselineArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let is_json = arguments.output == Form::Json;
    let (found, words) = match &arguments.command {
        Command::List { .. } | Command::Bindings { .. } | Command::Waivers { .. } => {
            lists(&arguments.command, &connection)?
        }
        Command::Show { baseline, which } => {
            let path = path_of(&connection, baseline)?;
            let version = match which {
                Some(word) => word.clone(),
                None => text(&connection.get(&path)?["version"]),
            };
            let found = connection.get(&format!("{path}/versions/{}", encoded(&version)))?;
            let words = shown(&found, &Names::new(&connection));
            (found, words)
        }
        other => done(other, &connection)?,
    };
    let out = &mut io::stdout().lock();
    if is_json {
        writeln!(out, "{}", to_json(&found, true))?;
    } else {
        styled(out, &words)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A list, and as a table.
fn lists(command: &Command, connection: &Connection) -> Result<(Value, String)> {
    let names = Names::new(connection);
    let (path, all, table): (_, _, fn(&[Value], &Names<'_>) -> String) = match command {
        Command::Bindings { all } => ("/baseline-bindings", *all, bindings),
        Command::Waivers { all } => ("/rule-waivers", *all, waivers),
        Command::List { all } => ("/baselines", *all, baselines),
        _ => ("/baselines", false, baselines),
    };
    let found: Vec<Value> =
        connection.items(path, &format!("all={all}"), 1000).collect::<Result<_>>()?;
    let words = table(&found, &names);
    Ok((json!({ "items": found }), words))
}

/// Does what alters something, and says what was done.
fn done(command: &Command, connection: &Connection) -> Result<(Value, String)> {
    let names = Names::new(connection);
    let post = |path: &str, body: &Value| -> Result<Value> {
        let change = Change { body: Some(body), is_repeatable: true, ..Change::of("POST", path) };
        Ok(connection.change(&change)?.body)
    };
    let end =
        |path: &str| -> Result<Value> { Ok(connection.change(&Change::of("DELETE", path))?.body) };
    let put = |done: &Value| {
        let (name, version) = (plain(&text(&done["name"])), plain(&text(&done["version"])));
        format!("{name} {version} is kept as {}; bind it to hold items to it.\n", text(&done["id"]))
    };
    Ok(match command {
        Command::Put { file, tenant } => {
            let tenant =
                tenant.as_ref().map_or_else(|| names.own_tenant(), |it| names.tenant_id(it))?;
            let rules = read_all(file, LARGEST)?;
            let done = post("/baselines", &json!({ "tenant": tenant, "rules": rules }))?;
            let words = put(&done);
            (done, words)
        }
        Command::Golden { name, from, paths, at, title, severity } => {
            let ci = connection.get(&format!("/cis/{}", encoded(&names.ci_id(from)?)))?;
            let title = title.clone().unwrap_or_else(|| format!("As on {}", text(&ci["name"])));
            let golden = json!({
                "name": name, "title": title, "ci": ci["id"], "at": at, "paths": paths,
                "severity": severity,
            });
            let done = post("/baselines", &json!({ "tenant": ci["tenant"], "golden": golden }))?;
            let words = put(&done);
            (done, words)
        }
        Command::Released { name, from: release, ci, paths, tenant, title, severity } => {
            let tenant = match tenant {
                Some(tenant) => names.tenant_id(tenant)?,
                None => tenant_of(connection, &names, release)?,
            };
            let title = title.clone().unwrap_or_else(|| format!("As {release} wrote it"));
            let ci = ci.as_ref().map(|it| names.ci_id(it)).transpose()?;
            let release = json!({
                "name": name, "title": title, "release": release, "ci": ci, "paths": paths,
                "severity": severity,
            });
            let done = post("/baselines", &json!({ "tenant": tenant, "release": release }))?;
            let words = put(&done);
            (done, words)
        }
        Command::Withdraw { baseline } => {
            let done = end(&path_of(connection, baseline)?)?;
            let words =
                format!("{} is withdrawn; its versions stay.\n", plain(&text(&done["name"])));
            (done, words)
        }
        Command::Bind(wanted) => {
            let BindArgs { baseline, target, tenant, not } = wanted;
            let BindTarget { class, group, ci } = target;
            let body = json!({
                "baseline": reference(connection, baseline)?,
                "tenant": tenant.as_ref().map(|it| names.tenant_id(it)).transpose()?,
                "class": class, "group": group_id(&names, group.as_deref())?,
                "ci": ci.as_ref().map(|it| names.ci_id(it)).transpose()?, "holds": !not,
            });
            let done = post("/baseline-bindings", &body)?;
            let words = format!("{} holds from the next audit on.\n", text(&done["id"]));
            (done, words)
        }
        Command::Waive(wanted) => {
            let WaiveArgs { baseline, rule, target, owner, reason, until } = wanted;
            let WaiveTarget { group, ci } = target;
            let body = json!({
                "baseline": reference(connection, baseline)?, "rule": rule,
                "group": group_id(&names, group.as_deref())?,
                "ci": ci.as_ref().map(|it| names.ci_id(it)).transpose()?,
                "owner": owner, "reason": reason, "until": until,
            });
            let done = post("/rule-waivers", &body)?;
            let words = format!("{} counts until {until}.\n", text(&done["id"]));
            (done, words)
        }
        Command::Unbind { binding } => {
            let done = end(&format!("/baseline-bindings/{}", encoded(binding)))?;
            (done, "It ends with the next audit.\n".to_owned())
        }
        Command::Unwaive { waiver } => {
            let done = end(&format!("/rule-waivers/{}", encoded(waiver)))?;
            (done, "The rule counts again from the next audit on.\n".to_owned())
        }
        // Shown where they are told apart.
        Command::List { .. }
        | Command::Show { .. }
        | Command::Bindings { .. }
        | Command::Waivers { .. } => (Value::Null, String::new()),
    })
}

/// Whose items of a release are meant: the reader's own; for the provider's people those of the one tenant that it is
/// about.
fn tenant_of(connection: &Connection, names: &Names<'_>, release: &str) -> Result<String> {
    let own = names.own_tenant()?;
    if own != PROVIDER.to_string() {
        return Ok(own);
    }
    let found = connection.get(&format!("/releases/{}", encoded(release)))?;
    let plans = found["plans"].as_object();
    match plans.into_iter().flatten().collect::<Vec<_>>()[..] {
        [(tenant, _)] => Ok(tenant.clone()),
        _ => bail!("the release is about several tenants' items: add --tenant"),
    }
}

fn group_id(names: &Names<'_>, group: Option<&str>) -> Result<Option<Value>> {
    group.map(|group| Ok(names.find(Kind::Group, group)?["id"].clone())).transpose()
}

/// The id of a baseline that somebody put in, or the name of one that comes with the program.
fn reference(connection: &Connection, wanted: &str) -> Result<String> {
    let all = connection.items("/baselines", "", 1000).collect::<Result<Vec<_>>>()?;
    let own = all.iter().find(|it| it["name"] == wanted);
    Ok(own.map_or_else(|| wanted.to_owned(), |it| text(&it["id"])))
}

fn path_of(connection: &Connection, wanted: &str) -> Result<String> {
    Ok(format!("/baselines/{}", encoded(&reference(connection, wanted)?)))
}

fn baselines(found: &[Value], names: &Names<'_>) -> String {
    let mut table = Table::new(&["NAME", "VERSION", "OF", "TENANT", "SINCE", "TITLE", "ID"]);
    for it in found {
        let name = plain(&text(&it["name"]));
        let name = if it["withdrawn_at"].is_null() {
            Cell::from(name)
        } else {
            Cell::from(format!("{name} (withdrawn)")).styled(DIM)
        };
        table.row(vec![
            name,
            Cell::from(plain(&text(&it["version"]))),
            Cell::from(text(&it["kind"])),
            Cell::from(plain(&names.tenant(&text(&it["tenant"])))),
            Cell::from(moment(&it["created_at"])),
            Cell::from(plain(&text(&it["title"]))),
            Cell::from(text(&it["id"])),
        ]);
    }
    table.take()
}

/// What is meant, as people call it.
fn target(it: &Value, names: &Names<'_>) -> String {
    let target = &it["target"];
    match (target["class"].as_str(), target["group"].as_str(), target["ci"].as_str()) {
        (Some(class), ..) => format!("class {class}"),
        (_, Some(group), _) => {
            let found = names.find(Kind::Group, group);
            format!("group {}", found.map_or_else(|_| group.to_owned(), |it| text(&it["name"])))
        }
        (_, _, Some(ci)) => names.ci(ci),
        _ => String::new(),
    }
}

fn bindings(found: &[Value], names: &Names<'_>) -> String {
    let mut table = Table::new(&["BASELINE", "APPLIES", "TO", "TENANT", "SAID BY", "SINCE", "ID"]);
    for it in found {
        let applies = match (it["ended_at"].is_null(), it["holds"] == true) {
            (false, _) => Cell::from("ended").styled(DIM),
            (true, true) => Cell::from("yes"),
            (true, false) => Cell::from("no").styled(WARN),
        };
        table.row(vec![
            Cell::from(plain(&text(&it["baseline"]))),
            applies,
            Cell::from(plain(&target(it, names))),
            Cell::from(plain(&names.tenant(&text(&it["tenant"])))),
            Cell::from(text(&it["side"])),
            Cell::from(moment(&it["bound_at"])),
            Cell::from(text(&it["id"])),
        ]);
    }
    table.take()
}

fn waivers(found: &[Value], names: &Names<'_>) -> String {
    let mut table = Table::new(&["RULE", "FOR", "OWNER", "UNTIL", "REASON", "ID"]);
    for it in found {
        let (baseline, rule) = (plain(&text(&it["baseline"])), plain(&text(&it["rule"])));
        let until = if it["ended_at"].is_null() {
            Cell::from(moment(&it["until"]))
        } else {
            Cell::from("taken back").styled(DIM)
        };
        table.row(vec![
            Cell::from(format!("{baseline}/{rule}")),
            Cell::from(plain(&target(it, names))),
            Cell::from(plain(&text(&it["owner"]))),
            until,
            Cell::from(plain(&text(&it["reason"]))),
            Cell::from(text(&it["id"])),
        ]);
    }
    table.take()
}

/// A version of a baseline: the file as it was put in, or of what files it is made.
fn shown(it: &Value, names: &Names<'_>) -> String {
    if let Some(rules) = it["rules"].as_str() {
        return rules.lines().map(|line| plain(line) + "\n").collect();
    }
    if let Some(files) = it["release"]["files"].as_object() {
        let from = &it["release"];
        let lines = files.iter().map(|(path, file)| {
            let item = plain(&names.ci(&text(&file["ci"])));
            let (sha256, at) = (text(&file["sha256"]), text(&file["at"]));
            format!("  {}\n    SHA-256 {sha256}, as on {item} at {at}\n", plain(path))
        });
        return format!(
            "{} files as {} wrote them\nfor the change {}\nby the plan {}:\n{}",
            files.len(),
            text(&from["release"]),
            text(&from["change"]),
            text(&from["plan"]),
            lines.collect::<String>()
        );
    }
    let golden = &it["golden"];
    let paths = golden["paths"].as_array().into_iter().flatten().map(text);
    let paths: Vec<_> = paths.map(|path| format!("  {}\n", plain(&path))).collect();
    let (files, ci) = (text(&golden["files"]), text(&golden["ci"]));
    format!("{files} files of {ci} as recorded until {}:\n{}", text(&golden["at"]), paths.concat())
}
