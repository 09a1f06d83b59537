//! `patchwright sla policy`: what provider and tenant agreed to, and what one of them proposes.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use domain::cloud::PROVIDER;
use domain::sla::{Policy, diff};
use serde_json::{Value, json};

use super::{BOLD, DEFAULT, DIM, GOOD, WARN, refused};
use crate::client::connection::{Change, Connection, encoded};
use crate::client::contexts::{Access, connect};
use crate::client::delete::confirmed;
use crate::client::names::Names;
use crate::client::output::{Cell, Table, json as to_json, moment, style_of, styled, text};
use crate::failure::helped;
use crate::text::plain;

/// Largest policy that is read, in bytes; the control plane takes no longer one.
const LARGEST: u64 = 256 << 10;

/// Negotiate a policy with the other side, at the control plane.
#[derive(Debug, Args)]
pub(super) struct PolicyArgs {
    #[command(subcommand)]
    command: Command,
    /// Whose, by id or short name; by default your own tenant's, and of the provider's people the
    /// default for all tenants.
    #[arg(long, value_name = "TENANT", global = true)]
    tenant: Option<String>,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the versions, and which of them is in force.
    List {
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
    },
    /// Print a whole version (TOML); by default the one in force.
    Show {
        /// Which.
        #[arg(value_name = "VERSION")]
        which: Option<String>,
    },
    /// Propose a version: what differs from the one in force, with a `version` of its own, or a whole
    /// policy. It is in force once the other side agrees; the provider's default is at once.
    Propose {
        /// The file (TOML).
        policy: PathBuf,
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
    },
    /// Agree to a version that the other side proposed; it governs what is collected from then on.
    Agree {
        /// Which.
        #[arg(value_name = "VERSION")]
        which: String,
        /// Do not ask.
        #[arg(short, long)]
        yes: bool,
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// As the API has it.
    Json,
}

/// What a control plane has of a tenant's policy.
struct Negotiation<'a> {
    connection: &'a Connection,
    tenant: String,
    versions: Vec<Value>,
}

/// Runs the command.
pub(super) fn run(arguments: &PolicyArgs, out: &mut impl Write) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let tenant = match &arguments.tenant {
        Some(tenant) => names.tenant_id(tenant)?,
        None => names.own_tenant()?,
    };
    let negotiation = Negotiation::of(&connection, tenant)?;
    match &arguments.command {
        Command::List { output: Form::Json } => json_of(&json!(negotiation.versions), out)?,
        Command::List { output: Form::Table } => negotiation.list(&names, out)?,
        Command::Show { which } => {
            let policy = match which {
                Some(version) => negotiation.named(version)?,
                None => negotiation.in_force()?,
            };
            out.write_all(policy.to_toml().as_bytes())?;
        }
        Command::Propose { policy, output } => {
            let before = negotiation.in_force()?;
            let version = negotiation.propose(&document(policy)?)?;
            match output {
                Form::Json => json_of(&version, out)?,
                Form::Table => proposed(&version, &before, &names, out)?,
            }
        }
        Command::Agree { which, yes, output } => {
            return negotiation.agree(which, *yes, *output, out);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn json_of(value: &Value, out: &mut impl Write) -> Result<()> {
    Ok(writeln!(out, "{}", to_json(value, true))?)
}

fn document(path: &Path) -> Result<String> {
    let attempt = || format!("cannot read `{}`", path.display());
    let size = fs::metadata(path).with_context(attempt)?.len();
    if size > LARGEST {
        let error = anyhow!("it has {size} bytes, more than {LARGEST}").context(attempt());
        return Err(helped(error, "say only what differs from the policy in force"));
    }
    fs::read_to_string(path).with_context(attempt)
}

fn read(version: &Value) -> Result<Policy> {
    Policy::from_toml(&text(&version["document"])).map_err(refused)
}

impl<'a> Negotiation<'a> {
    fn of(connection: &'a Connection, tenant: String) -> Result<Self> {
        let mut versions = connection.get(&format!("/policies/{}", encoded(&tenant)))?;
        let versions = versions.as_array_mut().map(std::mem::take).unwrap_or_default();
        Ok(Self { connection, tenant, versions })
    }

    fn path(&self) -> String {
        format!("/policies/{}", encoded(&self.tenant))
    }

    /// The tenant's last that both agreed to, else the provider's; where there is none, the shipped one.
    fn governs(&self) -> Option<&Value> {
        let of = |whose: &str| {
            let agreed = self.versions.iter().filter(move |it| it["tenant"] == whose);
            let since = |it: &&Value| {
                it["since"].as_str().and_then(|at| at.parse::<jiff::Timestamp>().ok())
            };
            agreed.filter(|it| since(it).is_some()).max_by_key(since)
        };
        of(&self.tenant).or_else(|| of(&PROVIDER.to_string()))
    }

    fn in_force(&self) -> Result<Policy> {
        match self.governs() {
            Some(version) => read(version),
            None => Policy::builtin(DEFAULT).cloned().map_err(refused),
        }
    }

    /// The tenant's own version of this name, else the provider's.
    fn find(&self, version: &str) -> Result<&Value> {
        let found = self.versions.iter().find(|it| it["policy"]["version"] == version);
        found.ok_or_else(|| {
            let help = "see `patchwright sla policy list`";
            helped(anyhow!("there is no version `{}`", plain(version)), help)
        })
    }

    fn named(&self, version: &str) -> Result<Policy> {
        let shipped = || {
            let policy = Policy::builtin(DEFAULT).ok()?;
            (policy.reference().version == version).then(|| policy.clone())
        };
        match self.find(version) {
            Ok(version) => read(version),
            Err(error) => shipped().ok_or(error),
        }
    }

    fn list(&self, names: &Names<'_>, out: &mut impl Write) -> Result<()> {
        let mut table =
            Table::new(&["VERSION", "NAME", "OF", "STATE", "SINCE", "PROPOSED BY", "AGREED BY"]);
        let governs = self.governs();
        for version in &self.versions {
            let is_in_force = governs.is_some_and(|it| std::ptr::eq(it, version));
            let state = match text(&version["state"]) {
                _ if is_in_force => "current".to_owned(),
                word if word == "proposed" => "open".to_owned(),
                word => word,
            };
            let (told, style) = match state.as_str() {
                "current" => ("in force", style_of("current")),
                "open" => ("proposed", style_of("open")),
                _ => ("agreed", style_of("replaced")),
            };
            table.row(vec![
                Cell::from(text(&version["policy"]["version"])),
                Cell::from(text(&version["policy"]["name"])),
                Cell::from(names.tenant(&text(&version["tenant"]))),
                Cell::from(told).styled(style),
                Cell::from(moment(&version["since"])),
                Cell::from(proposer(version, names)),
                Cell::from(names.person(&text(&version["agreed_by"]))),
            ]);
        }
        if governs.is_none() {
            let shipped = self.in_force()?.reference();
            table.row(vec![
                Cell::from(shipped.version),
                Cell::from(shipped.name),
                Cell::from("patchwright"),
                Cell::from("in force").styled(style_of("current")),
                Cell::from(""),
                Cell::from("shipped"),
            ]);
        }
        styled(out, &table.take())
    }

    fn propose(&self, document: &str) -> Result<Value> {
        let body = json!({ "document": document });
        let path = self.path();
        let change = Change { body: Some(&body), ..Change::of("POST", &path) };
        Ok(self.connection.change(&change)?.body)
    }

    fn agree(
        &self,
        version: &str,
        is_sure: bool,
        output: Form,
        out: &mut impl Write,
    ) -> Result<ExitCode> {
        let (before, after) = (self.in_force()?, read(self.find(version)?)?);
        if output == Form::Table {
            differences(&before, &after, out)?;
        }
        let what = format!("the version {version}");
        if !is_sure && !confirmed(&what, "in force for what is collected from then on")? {
            writeln!(out, "nothing is agreed to")?;
            return Ok(ExitCode::FAILURE);
        }
        let (body, path) = (json!({ "version": version }), format!("{}/agreement", self.path()));
        let change = Change { body: Some(&body), ..Change::of("POST", &path) };
        let agreed = self.connection.change(&change)?.body;
        match output {
            Form::Json => json_of(&agreed, out)?,
            Form::Table => writeln!(
                out,
                "{GOOD}✓{GOOD:#} {} is in force since {}",
                plain(version),
                moment(&agreed["since"])
            )?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Which side proposed it, and who.
fn proposer(version: &Value, names: &Names<'_>) -> String {
    let by = text(&version["proposed_by"]);
    match by.split_once(':') {
        Some((side, who)) => format!("{} ({side})", names.person(who)),
        None => by,
    }
}

fn differences(before: &Policy, after: &Policy, out: &mut impl Write) -> Result<()> {
    let (old, new) = (before.reference(), after.reference());
    writeln!(
        out,
        "{BOLD}{}{BOLD:#} {} {DIM}beside the one in force: {} {}{DIM:#}",
        plain(&new.name),
        plain(&new.version),
        plain(&old.name),
        plain(&old.version)
    )?;
    let changes = diff(before, after);
    let said = changes.iter().map(ToString::to_string).filter(|it| !it.starts_with("`version`"));
    let said: Vec<_> = said.collect();
    if said.is_empty() {
        writeln!(out, "  nothing differs")?;
    }
    for difference in said {
        writeln!(out, "  {}", plain(&difference))?;
    }
    Ok(())
}

fn proposed(
    version: &Value,
    before: &Policy,
    names: &Names<'_>,
    out: &mut impl Write,
) -> Result<()> {
    differences(before, &read(version)?, out)?;
    if !version["since"].is_null() {
        writeln!(out, "{GOOD}✓{GOOD:#} it is in force")?;
        return Ok(());
    }
    let (number, tenant) = (plain(&text(&version["policy"]["version"])), text(&version["tenant"]));
    let is_tenants = text(&version["proposed_by"]).starts_with("tenant:");
    let (other, whose) = if is_tenants {
        ("the provider", format!(" --tenant {}", plain(&names.tenant(&tenant))))
    } else {
        ("the tenant", String::new())
    };
    writeln!(out, "{WARN}!{WARN:#} proposed; it governs nothing until {other} agrees:")?;
    writeln!(out, "  patchwright sla policy agree {number}{whose}")?;
    Ok(())
}
