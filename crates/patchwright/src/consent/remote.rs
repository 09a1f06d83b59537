//! Plans from the control plane, and statements to it.

use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, anyhow};
use domain::change::{LARGEST_PLAN, Plan, PlanHash};
use domain::cloud::ChangeId;
use serde_json::{Value, json};

use super::order::under_way;
use super::{BOLD, DIM, Form, GOOD, read_plan};
use crate::client::changes::waits;
use crate::client::connection::{Change, Connection, encoded};
use crate::client::contexts::{Access, connect};
use crate::client::names::Names;
use crate::client::output::{json as to_json, moment, text};
use crate::failure::helped;
use crate::text::plain;

/// How a plan is named.
#[derive(Debug, Clone)]
pub(super) enum Named {
    /// The plan in force for one's own share of a change.
    Change(ChangeId),
    /// A plan of the control plane, by its hash.
    Hash(PlanHash),
    /// A file.
    File(PathBuf),
}

impl FromStr for Named {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match (text.parse(), text.parse()) {
            (Ok(change), _) => Self::Change(change),
            (_, Ok(hash)) => Self::Hash(hash),
            _ => Self::File(PathBuf::from(text)),
        })
    }
}

/// A plan, and where an answer to it goes.
pub(super) struct Found {
    pub(super) plan: Plan,
    /// `None` where it came from a file: whoever has no connection signs all the same.
    pub(super) connection: Option<Connection>,
}

/// Finds a plan. One from the control plane is believed only as far as its hash goes.
pub(super) fn find(named: &Named, access: &Access) -> Result<Found> {
    let (connection, hash) = match named {
        Named::File(path) => return Ok(Found { plan: read_plan(path)?, connection: None }),
        Named::Hash(hash) => (connect(access)?, *hash),
        Named::Change(change) => {
            let connection = connect(access)?;
            let tenant = Names::new(&connection).own_tenant()?;
            let obligation =
                connection.get(&format!("/obligations/{change}/{}", encoded(&tenant)))?;
            let hash = obligation["share"]["plan"].as_str().and_then(|hash| hash.parse().ok());
            let hash = hash.ok_or_else(|| {
                let stands = text(&obligation["phase"]).replace('_', " ");
                helped(
                    anyhow!("there is no plan for {change} yet: it is {stands}"),
                    "you are told when there is one; `patchwright clocks` shows what runs",
                )
            })?;
            (connection, hash)
        }
    };
    let bytes = connection.file(&format!("api/v1/plans/{hash}"), LARGEST_PLAN)?;
    let bytes = bytes.ok_or_else(|| {
        helped(anyhow!("there is no plan {hash}"), "name one of your tenant's changes")
    })?;
    let odd = |error: anyhow::Error| {
        let help = "do not sign it, and tell your provider: consent would be to something else";
        helped(error.context(format!("what the control plane gives for {hash} is not it")), help)
    };
    let plan = Plan::parse(&bytes).map_err(|error| odd(error.into()))?;
    if plan.hash() != hash {
        return Err(odd(anyhow!("its hash is {}", plan.hash())));
    }
    Ok(Found { plan, connection: Some(connection) })
}

/// Hands a signed statement in, and tells what it led to.
pub(super) fn send(
    connection: &Connection,
    plan: &Plan,
    envelope: &str,
    out: &mut impl Write,
) -> Result<()> {
    let draft = plan.draft();
    let path = format!("/obligations/{}/{}/answer", draft.change, draft.tenant);
    let body: Value = serde_json::from_str(envelope)?;
    let change = Change { body: Some(&body), ..Change::of("POST", &path) };
    let obligation = connection.change(&change)?.body;
    writeln!(out, "{GOOD}✓{GOOD:#} received by {}", connection.url())?;
    stands(&obligation, out)
}

/// Where an obligation stands, and what it waits for.
fn stands(obligation: &Value, out: &mut impl Write) -> Result<()> {
    let phase = text(&obligation["phase"]).replace('_', " ");
    writeln!(out, "  {BOLD}{}{BOLD:#} is {phase}", plain(&text(&obligation["title"])))?;
    let mut waiting = String::new();
    waits(&mut waiting, obligation);
    write!(out, "{waiting}")?;
    let due = &obligation["clock"]["due"][0]["due"];
    if !due.is_null() {
        writeln!(out, "  due    {}", moment(due))?;
    }
    Ok(())
}

/// Registers a tenant's first key.
pub(super) fn register(
    pem: &str,
    label: &str,
    access: &Access,
    out: &mut impl Write,
) -> Result<()> {
    let connection = connect(access)?;
    let tenant = Names::new(&connection).own_tenant()?;
    let body = json!({ "public_key": pem, "label": label });
    let path = format!("/keys/{}", encoded(&tenant));
    let change = Change { body: Some(&body), ..Change::of("POST", &path) };
    let keys = connection.change(&change)?.body;
    writeln!(out, "{GOOD}✓{GOOD:#} registered with {}\n", connection.url())?;
    list(&keys, &Names::new(&connection), out)
}

/// The keys that one's tenant signs with.
pub(super) fn keys(output: Form, access: &Access, out: &mut impl Write) -> Result<()> {
    let connection = connect(access)?;
    let names = Names::new(&connection);
    let path = format!("/keys/{}", encoded(&names.own_tenant()?));
    let keys = connection.get(&path)?;
    if output == Form::Json {
        return Ok(writeln!(out, "{}", to_json(&keys, true))?);
    }
    list(&keys, &names, out)?;
    let recovery = names.if_any(&format!("{path}/recovery"))?;
    if !recovery.is_null() {
        writeln!(out)?;
        under_way(&recovery, &names, out)?;
    }
    Ok(())
}

pub(super) fn list(keys: &Value, names: &Names<'_>, out: &mut impl Write) -> Result<()> {
    let keys = keys.as_array().map(Vec::as_slice).unwrap_or_default();
    if keys.is_empty() {
        writeln!(out, "no key is registered: `patchwright consent key register FILE` does")?;
    }
    for key in keys {
        let (mark, state) = if key["ended"].is_null() {
            (format!("{GOOD}✓{GOOD:#}"), format!("counts since {}", moment(&key["since"])))
        } else {
            (
                format!("{DIM}–{DIM:#}"),
                format!("counts no more since {}", moment(&key["ended"]["at"])),
            )
        };
        writeln!(out, "{mark} {}  {}", text(&key["id"]), plain(&text(&key["label"])))?;
        writeln!(
            out,
            "  {DIM}held by {}, {state}{DIM:#}",
            plain(&names.person(&text(&key["holder"])))
        )?;
    }
    Ok(())
}
