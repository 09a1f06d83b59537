//! Rules by which a tenant agrees ahead: signed here, like any consent, and handed in.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::{Args, Subcommand};
use domain::change::{Disruption, Kind, Nonce, Scope, StandingRule, Verified, WeeklyWindow};
use domain::cloud::TenantId;
use domain::priority::Priority;
use jiff::Timestamp;
use ledger::attestation::LARGEST_ENVELOPE;
use serde_json::Value;

use super::weekly::weekly;
use super::{
    BOLD, DIM, Form, GOOD, WARN, fresh_nonce, key, opened, payload_of, read, signed, write_new,
};
use crate::client::changes::word;
use crate::client::connection::{Change, Connection, encoded};
use crate::client::contexts::{Access, connect};
use crate::client::names::Names;
use crate::client::output::{json as to_json, moment, text};
use crate::failure::{during, helped, usage};
use crate::text::{count, plain};

/// Items that are told one by one.
const TOLD: usize = 20;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Agree ahead: sign a rule with your tenant's key, and hand it in.
    Make(Box<MakeArgs>),
    /// Hand in a rule that was signed elsewhere.
    Send {
        /// The rule, as it was signed (DSSE in JSON).
        rule: PathBuf,
        #[command(flatten)]
        access: Access,
    },
    /// Print what a rule says.
    Show {
        /// A rule of your tenant's, by its nonce, or a file with one as it was signed.
        rule: String,
        /// The tenant's public key (PEM) that is to have signed the file; may be given several times.
        #[arg(long, value_name = "FILE")]
        public_key: Vec<PathBuf>,
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
        #[command(flatten)]
        access: Access,
    },
    /// List the rules by which a tenant agreed ahead.
    List {
        /// Whose, by id or short name; by default your own tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
        #[command(flatten)]
        access: Access,
    },
    /// Take a rule back; that needs no key, since it only makes less happen.
    Withdraw {
        /// Which, by its nonce.
        nonce: Nonce,
        #[command(flatten)]
        access: Access,
    },
}

/// What is agreed to ahead, with which key, and where it goes.
#[derive(Debug, Args)]
pub(super) struct MakeArgs {
    /// To which kinds of changes: `patch`, `alteration`; may be given several times.
    #[arg(long = "kind", value_name = "KIND", default_value = "patch", value_parser = word::<Kind>)]
    kinds: Vec<Kind>,
    /// Of which priorities: `low`, `medium`, `high`, `critical`, separated by commas.
    #[arg(long = "priority", value_name = "PRIORITY", required = true, value_delimiter = ',',
        value_parser = word::<Priority>)]
    priorities: Vec<Priority>,
    /// On this item, by id or name; may be given several times.
    #[arg(long = "item", value_name = "ITEM", required_unless_present = "all_items")]
    items: Vec<String>,
    /// On all items of the tenant, also those that come later.
    #[arg(long, conflicts_with = "items")]
    all_items: bool,
    /// Disturbing no more than this: `harmless`, `restarts` or `reboots`.
    #[arg(long, value_name = "WHAT", default_value = "restarts", value_parser = word::<Disruption>)]
    disruption: Disruption,
    /// Inside this span of each week, in UTC: day, time and length (`"tue 02:00 4h"`); may be given
    /// several times. A plan's stage has to lie in one of them.
    #[arg(long = "window", value_name = "SPAN", required = true, value_parser = weekly)]
    windows: Vec<WeeklyWindow>,
    /// From when on it counts; by default from now on.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Until before when it counts (2027-06-30T00:00:00Z).
    #[arg(long, value_name = "TIME")]
    until: Timestamp,
    /// The tenant's private key (PEM, as `patchwright consent key new` or OpenSSL makes it).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed rule goes as well.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only sign, for the tenant of this id, without a connection; items are named by their ids then.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    #[command(flatten)]
    access: Access,
}

pub(super) fn run(command: &Command, out: &mut impl Write) -> Result<()> {
    match command {
        Command::Make(arguments) => make(arguments, out),
        Command::Send { rule, access } => {
            let envelope = String::from_utf8_lossy(&read(rule, LARGEST_ENVELOPE)?).into_owned();
            let said = said(&envelope, rule)?;
            let connection = connect(access)?;
            send(&connection, said.tenant, &envelope, out)
        }
        Command::Show { rule, public_key, output, access } => {
            show(rule, public_key, *output, access, out)
        }
        Command::List { tenant, output, access } => {
            let connection = connect(access)?;
            let rules = connection.get(&path_of(&connection, tenant.as_deref())?)?;
            match output {
                Form::Json => Ok(writeln!(out, "{}", to_json(&rules, true))?),
                Form::Table => list(&rules, Timestamp::now(), out),
            }
        }
        Command::Withdraw { nonce, access } => {
            let connection = connect(access)?;
            let path = format!("{}/{nonce}", path_of(&connection, None)?);
            connection.change(&Change::of("DELETE", &path))?;
            writeln!(out, "{GOOD}✓{GOOD:#} the rule {nonce} counts no more")?;
            Ok(())
        }
    }
}

fn path_of(connection: &Connection, tenant: Option<&str>) -> Result<String> {
    let names = Names::new(connection);
    let tenant = match tenant {
        Some(tenant) => names.tenant_id(tenant)?,
        None => names.own_tenant()?,
    };
    Ok(format!("/rules/{}", encoded(&tenant)))
}

fn make(arguments: &MakeArgs, out: &mut impl Write) -> Result<()> {
    let MakeArgs { key, until, .. } = arguments;
    let now = Timestamp::now();
    let from = arguments.from.unwrap_or(now);
    if *until <= from || *until <= now {
        return Err(usage(
            format!("it would count from {from} until {until}: never"),
            "name an end that is ahead, and after the beginning",
        ));
    }
    let attestor = key::read(key)?;
    let connection = match arguments.tenant {
        Some(_) => None,
        None => Some(connect(&arguments.access)?),
    };
    let tenant = match (&arguments.tenant, &connection) {
        (Some(tenant), _) => *tenant,
        (None, Some(connection)) => Names::new(connection).own_tenant()?.parse()?,
        (None, None) => return Err(anyhow!("whoever names no tenant has a connection")),
    };
    let rule = StandingRule {
        tenant,
        kinds: arguments.kinds.iter().copied().collect(),
        priorities: arguments.priorities.iter().copied().collect(),
        items: scope(arguments, connection.as_ref())?,
        disruption: arguments.disruption,
        windows: arguments.windows.clone(),
        from,
        until: *until,
        given_at: now,
        nonce: fresh_nonce()?,
    };
    let envelope = signed(&attestor, &rule)?;
    if let Some(path) = &arguments.out {
        write_new(path, &envelope)?;
    } else if connection.is_none() {
        out.write_all(envelope.as_bytes())?;
        return Ok(());
    }
    writeln!(out, "{GOOD}✓{GOOD:#} signed, by the key {}", attestor.key().id())?;
    tell(&rule, out)?;
    if let Some(path) = &arguments.out {
        writeln!(out, "\n  written to {}", path.display())?;
    }
    if let Some(connection) = &connection {
        writeln!(out)?;
        send(connection, tenant, &envelope, out)?;
    }
    Ok(())
}

fn scope(arguments: &MakeArgs, connection: Option<&Connection>) -> Result<Scope> {
    if arguments.all_items {
        return Ok(Scope::All);
    }
    let names = connection.map(Names::new);
    let mut items = BTreeSet::new();
    for item in &arguments.items {
        let id = match &names {
            Some(names) => names.ci_id(item)?,
            None => item.clone(),
        };
        items.insert(id.parse().map_err(|_| {
            usage(
                format!("`{}` is no item's id", plain(item)),
                "without a connection, name items by their ids: `patchwright get cis -o wide`",
            )
        })?);
    }
    Ok(Scope::These { items })
}

fn send(
    connection: &Connection,
    tenant: TenantId,
    envelope: &str,
    out: &mut impl Write,
) -> Result<()> {
    let body: Value = serde_json::from_str(envelope)?;
    let path = format!("/rules/{tenant}");
    let change = Change { body: Some(&body), ..Change::of("POST", &path) };
    let kept = connection.change(&change)?.body;
    writeln!(out, "{GOOD}✓{GOOD:#} received by {}", connection.url())?;
    let nonce = text(&kept["says"]["nonce"]);
    writeln!(out, "  take it back with `patchwright consent rule withdraw {}`", plain(&nonce))?;
    Ok(())
}

/// What a file says, before anybody looked at its signature.
fn said(envelope: &str, path: &Path) -> Result<StandingRule> {
    let told = || format!("`{}` is no rule", path.display());
    let help = "give a file that `patchwright consent rule make` wrote";
    let payload = payload_of(envelope).map_err(|error| during(helped(error, help), told()))?;
    // Of whose key, does not matter here: the control plane tells whether it counts.
    let said = Verified::<StandingRule>::signed_by([0; 32].into(), &payload);
    let said = said.map_err(|error| {
        let help = error.help();
        during(helped(error, help), told())
    })?;
    Ok(said.said().clone())
}

fn show(
    named: &str,
    keys: &[PathBuf],
    output: Form,
    access: &Access,
    out: &mut impl Write,
) -> Result<()> {
    let Ok(nonce) = named.parse::<Nonce>() else {
        let path = Path::new(named);
        let bytes = read(path, LARGEST_ENVELOPE)?;
        let envelope = String::from_utf8_lossy(&bytes).into_owned();
        let rule = said(&envelope, path)?;
        if output == Form::Json {
            let rule = serde_json::to_value(&rule)?;
            return Ok(writeln!(out, "{}", to_json(&rule, true))?);
        }
        if keys.is_empty() {
            writeln!(
                out,
                "{WARN}!{WARN:#} nobody looked at its signature: --public-key FILE does"
            )?;
        } else {
            let key = opened(&bytes, keys, &[], &|| format!("`{named}` is not signed so"))?;
            writeln!(out, "{GOOD}✓{GOOD:#} the signature holds, by the key {key}")?;
        }
        return tell(&rule, out);
    };
    let connection = connect(access)?;
    let rules = connection.get(&path_of(&connection, None)?)?;
    let is_it = |rule: &&Value| rule["says"]["nonce"] == nonce.to_string();
    let kept = rules.as_array().into_iter().flatten().find(is_it).ok_or_else(|| {
        helped(anyhow!("there is no rule {nonce}"), "see `patchwright consent rule list`")
    })?;
    if output == Form::Json {
        return Ok(writeln!(out, "{}", to_json(kept, true))?);
    }
    writeln!(out, "{BOLD}Rule{BOLD:#} {nonce}, {}", stands(kept, Timestamp::now()))?;
    writeln!(out, "  signed by   {}", plain(&text(&kept["key"])))?;
    writeln!(out, "  came in     {}", moment(&kept["created_at"]))?;
    tell(&serde_json::from_value(kept["says"].clone())?, out)
}

/// What a rule says.
fn tell(rule: &StandingRule, out: &mut impl Write) -> Result<()> {
    let StandingRule { tenant, kinds, priorities, items, disruption, windows, .. } = rule;
    let kinds: Vec<_> = kinds.iter().map(ToString::to_string).collect();
    let priorities: Vec<_> = priorities.iter().map(ToString::to_string).collect();
    writeln!(out, "  tenant      {tenant}")?;
    writeln!(out, "  agrees to   {} of priority {}", kinds.join(", "), priorities.join(", "))?;
    match items {
        Scope::All => writeln!(out, "  on          all items, also those that come later")?,
        Scope::These { items } => {
            writeln!(out, "  on          {}", count(items.len(), "item", "items"))?;
            for item in items.iter().take(TOLD) {
                writeln!(out, "              {item}")?;
            }
            if let Some(more) = items.len().checked_sub(TOLD).filter(|more| *more > 0) {
                writeln!(out, "              {DIM}and {more} more{DIM:#}")?;
            }
        }
    }
    writeln!(out, "  disturbing  {disruption} at most")?;
    for (place, window) in windows.iter().enumerate() {
        let head = if place == 0 { "in" } else { "or" };
        writeln!(out, "  {head:<10}  {window}")?;
    }
    writeln!(out, "  counts      {} until {}", rule.from, rule.until)?;
    writeln!(out, "  given at    {}", rule.given_at)?;
    writeln!(out, "  nonce       {}", rule.nonce)?;
    Ok(())
}

fn list(rules: &Value, now: Timestamp, out: &mut impl Write) -> Result<()> {
    let rules = rules.as_array().map(Vec::as_slice).unwrap_or_default();
    if rules.is_empty() {
        writeln!(out, "nothing is agreed to ahead: `patchwright consent rule make` does")?;
    }
    for kept in rules {
        let rule: StandingRule = serde_json::from_value(kept["says"].clone())?;
        let (state, nonce) = (stands(kept, now), rule.nonce);
        let mark = if state.starts_with("counts until") {
            format!("{GOOD}✓{GOOD:#}")
        } else {
            format!("{DIM}–{DIM:#}")
        };
        let priorities: Vec<_> = rule.priorities.iter().map(ToString::to_string).collect();
        let on = match &rule.items {
            Scope::All => "all items".to_owned(),
            Scope::These { items } => count(items.len(), "item", "items"),
        };
        writeln!(out, "{mark} {nonce}  {} on {on}, {}", priorities.join(", "), rule.disruption)?;
        let windows: Vec<_> = rule.windows.iter().map(ToString::to_string).collect();
        writeln!(out, "  {DIM}{}; {state}{DIM:#}", windows.join(", "))?;
    }
    Ok(())
}

/// Whether it counts.
fn stands(kept: &Value, now: Timestamp) -> String {
    let at = |name: &str| kept["says"][name].as_str().and_then(|at| at.parse::<Timestamp>().ok());
    if !kept["withdrawn_at"].is_null() {
        return format!("withdrawn {}", moment(&kept["withdrawn_at"]));
    }
    match (at("from"), at("until")) {
        (_, Some(until)) if until <= now => {
            format!("counted until {}", moment(&kept["says"]["until"]))
        }
        (Some(from), _) if now < from => format!("counts from {}", moment(&kept["says"]["from"])),
        _ => format!("counts until {}", moment(&kept["says"]["until"])),
    }
}
