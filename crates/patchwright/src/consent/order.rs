//! Orders about a tenant's keys, signed with one of them, and the recovery where none is left.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use domain::change::{KeyId, KeyKind, KeyOrder, NewKey, Order, Verified};
use domain::cloud::{TenantId, UserId};
use ledger::attestation::LARGEST_ENVELOPE;
use serde_json::{Value, json};

use super::remote::list;
use super::{DIM, Form, GOOD, WARN, fresh_nonce, key, payload_of, read, signed, write_new};
use crate::client::connection::{Change, Connection, encoded};
use crate::client::contexts::{Access, connect};
use crate::client::names::Names;
use crate::client::output::{json as to_json, moment, text};
use crate::failure::{during, helped, usage};
use crate::text::plain;

/// With which key an order is signed, and where it goes.
#[derive(Debug, Args)]
pub(super) struct Signing {
    /// The private key that signs it (PEM): one of the tenant's in force.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed order goes as well.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Only sign, for the tenant of this id, without a connection.
    #[arg(long, value_name = "ID")]
    tenant: Option<TenantId>,
    #[command(flatten)]
    access: Access,
}

/// How a key is ended: as an owner, or by an order that a key signs.
#[derive(Debug, Args)]
pub(super) struct Revoking {
    /// The private key that signs an order (PEM): one of the tenant's in force.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Where the signed order goes as well.
    #[arg(long, value_name = "FILE", requires = "key")]
    out: Option<PathBuf>,
    /// Only sign, for the tenant of this id, without a connection.
    #[arg(long, value_name = "ID", requires = "key")]
    tenant: Option<TenantId>,
    #[command(flatten)]
    access: Access,
}

/// A key that an order brings.
#[derive(Debug, Args)]
pub(super) struct Brought {
    /// The new key: its public half, or the private one, of which only the public half is sent (PEM).
    new: PathBuf,
    /// It is a passkey; compare its id with its person first.
    #[arg(long)]
    passkey: bool,
    /// Who will hold it, by the id of their account; by default yourself.
    #[arg(long, value_name = "USER")]
    holder: Option<UserId>,
    /// What people call it.
    #[arg(long, default_value = "")]
    label: String,
}

/// What owners do where no key is left to sign with.
#[derive(Debug, Subcommand)]
pub(super) enum Recovery {
    /// Ask for a key without a signature, or be the second owner to ask for the same.
    Ask {
        /// The key: its public half, or the private one, of which only the public half is sent (PEM).
        new: PathBuf,
        /// It is a passkey.
        #[arg(long)]
        passkey: bool,
        /// What people call it.
        #[arg(long, default_value = "")]
        label: String,
        #[command(flatten)]
        access: Access,
    },
    /// Tell what is asked for, by whom, and when it can come into force.
    Show {
        /// How to print it.
        #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
        output: Form,
        #[command(flatten)]
        access: Access,
    },
    /// Object to it: nothing comes of it then.
    Object {
        #[command(flatten)]
        access: Access,
    },
    /// Bring it into force, once its time is over; all other keys end.
    Complete {
        #[command(flatten)]
        access: Access,
    },
}

/// The key that a file holds, with its id.
struct Public {
    id: KeyId,
    pem: String,
    kind: KeyKind,
}

fn public(path: &Path, is_passkey: bool) -> Result<Public> {
    let (id, pem, kind) = if is_passkey {
        let key = key::read_passkey(path)?;
        (key.id_bytes(), key.to_string(), KeyKind::Passkey)
    } else {
        let key = key::either(path)?;
        (key.id_bytes(), key.to_string(), KeyKind::Ed25519)
    };
    Ok(Public { id: id.into(), pem, kind })
}

/// Signs an order that brings a key, beside the one that signs or in its place.
pub(super) fn bring(
    brought: &Brought,
    signing: &Signing,
    order: fn(NewKey) -> Order,
    out: &mut impl Write,
) -> Result<()> {
    let Public { id, pem, kind } = public(&brought.new, brought.passkey)?;
    let connection = connection(signing)?;
    let holder = match (brought.holder, &connection) {
        (Some(holder), _) => holder,
        (None, Some(connection)) => text(&connection.get("/session")?["user"]).parse()?,
        (None, None) => {
            return Err(usage(
                "nobody says who will hold the key",
                "name the id of their account with --holder: `patchwright get users -o wide`",
            ));
        }
    };
    let body = json!({ "public_key": pem, "label": brought.label });
    place(order(NewKey { id, kind, holder }), signing, connection.as_ref(), body, out)
}

/// Ends a key: by an order that a key signs, or without one by an owner, since it only makes less happen.
pub(super) fn revoke(id: KeyId, by: &Revoking, out: &mut impl Write) -> Result<()> {
    let Revoking { key, out: file, tenant, access } = by;
    if let Some(key) = key {
        let (key, out_file, access) = (key.clone(), file.clone(), access.clone());
        let signing = Signing { key, out: out_file, tenant: *tenant, access };
        let connection = connection(&signing)?;
        return place(Order::Revoke { key: id }, &signing, connection.as_ref(), json!({}), out);
    }
    let connection = connect(access)?;
    let path = format!("{}/{id}", keys_of(&connection)?);
    let keys = connection.change(&Change::of("DELETE", &path))?.body;
    writeln!(out, "{GOOD}✓{GOOD:#} the key {id} counts no more\n")?;
    list(&keys, &Names::new(&connection), out)
}

fn connection(signing: &Signing) -> Result<Option<Connection>> {
    match signing.tenant {
        Some(_) => Ok(None),
        None => Ok(Some(connect(&signing.access)?)),
    }
}

fn keys_of(connection: &Connection) -> Result<String> {
    Ok(format!("/keys/{}", encoded(&Names::new(connection).own_tenant()?)))
}

/// Signs an order, and hands it in where there is somebody to hand it to.
fn place(
    order: Order,
    signing: &Signing,
    connection: Option<&Connection>,
    body: Value,
    out: &mut impl Write,
) -> Result<()> {
    let tenant = match (signing.tenant, connection) {
        (Some(tenant), _) => tenant,
        (None, connection) => {
            let connection = connection.context("whoever names no tenant has a connection")?;
            Names::new(connection).own_tenant()?.parse()?
        }
    };
    let attestor = key::read(&signing.key)?;
    let envelope = signed(&attestor, &KeyOrder { tenant, order, nonce: fresh_nonce()? })?;
    if let Some(path) = &signing.out {
        write_new(path, &envelope)?;
    } else if connection.is_none() {
        out.write_all(envelope.as_bytes())?;
        return Ok(());
    }
    writeln!(out, "{GOOD}✓{GOOD:#} signed, by the key {}", attestor.key().id())?;
    tell(&order, out)?;
    if let Some(path) = &signing.out {
        writeln!(out, "  written to {}", path.display())?;
    }
    match connection {
        Some(connection) => hand_in(connection, &envelope, body, out),
        None => Ok(()),
    }
}

fn tell(order: &Order, out: &mut impl Write) -> Result<()> {
    match order {
        Order::Add { key } => writeln!(out, "  adds        {}, held by {}", key.id, key.holder)?,
        Order::Rotate { key } => {
            writeln!(out, "  rotates to  {}, held by {}", key.id, key.holder)?;
        }
        Order::Revoke { key } => writeln!(out, "  revokes     {key}")?,
    }
    Ok(())
}

/// Hands in an order that was signed elsewhere.
pub(super) fn send(
    path: &Path,
    new: Option<&Path>,
    label: &str,
    access: &Access,
    out: &mut impl Write,
) -> Result<()> {
    let envelope = String::from_utf8_lossy(&read(path, LARGEST_ENVELOPE)?).into_owned();
    let told = || format!("`{}` is no order about keys", path.display());
    let help = "give a file that `patchwright consent key add|rotate|revoke --out` wrote";
    let payload = payload_of(&envelope).map_err(|error| during(helped(error, help), told()))?;
    let said = Verified::<KeyOrder>::signed_by([0; 32].into(), &payload).map_err(|error| {
        let help = error.help();
        during(helped(error, help), told())
    })?;
    let order = said.said().order;
    let body = match (order, new) {
        (Order::Revoke { .. }, _) => json!({}),
        (Order::Add { key } | Order::Rotate { key }, Some(new)) => {
            let public = public(new, key.kind == KeyKind::Passkey)?;
            json!({ "public_key": public.pem, "label": label })
        }
        (Order::Add { .. } | Order::Rotate { .. }, None) => {
            return Err(usage("the order brings a key", "give its public half with --public-key"));
        }
    };
    tell(&order, out)?;
    hand_in(&connect(access)?, &envelope, body, out)
}

fn hand_in(
    connection: &Connection,
    envelope: &str,
    mut body: Value,
    out: &mut impl Write,
) -> Result<()> {
    body["envelope"] = serde_json::from_str(envelope)?;
    let path = format!("{}/orders", keys_of(connection)?);
    let change = Change { body: Some(&body), ..Change::of("POST", &path) };
    let keys = connection.change(&change)?.body;
    writeln!(out, "{GOOD}✓{GOOD:#} received by {}\n", connection.url())?;
    list(&keys, &Names::new(connection), out)
}

/// Runs `patchwright consent key recover`.
pub(super) fn recover(command: &Recovery, out: &mut impl Write) -> Result<()> {
    let (Recovery::Ask { access, .. }
    | Recovery::Show { access, .. }
    | Recovery::Object { access }
    | Recovery::Complete { access }) = command;
    let connection = connect(access)?;
    let path = format!("{}/recovery", keys_of(&connection)?);
    match command {
        Recovery::Ask { new, passkey, label, .. } => {
            let Public { pem, kind, .. } = public(new, *passkey)?;
            let body = json!({ "public_key": pem, "kind": kind, "label": label });
            let change = Change { body: Some(&body), ..Change::of("POST", &path) };
            connection.change(&change)?;
            under_way(&connection.get(&path)?, &Names::new(&connection), out)
        }
        Recovery::Show { output, .. } => {
            let recovery = Names::new(&connection).if_any(&path)?;
            match output {
                Form::Json => Ok(writeln!(out, "{}", to_json(&recovery, true))?),
                Form::Table => under_way(&recovery, &Names::new(&connection), out),
            }
        }
        Recovery::Object { .. } => {
            connection.change(&Change::of("DELETE", &path))?;
            writeln!(out, "{GOOD}✓{GOOD:#} nothing comes of it; the keys stay as they are")?;
            Ok(())
        }
        Recovery::Complete { .. } => {
            let change = connection.change(&Change::of("POST", &format!("{path}/completion")));
            let keys = change?.body;
            writeln!(out, "{GOOD}✓{GOOD:#} it is in force, and no other key is\n")?;
            list(&keys, &Names::new(&connection), out)
        }
    }
}

/// What is asked for without a signature.
pub(super) fn under_way(recovery: &Value, names: &Names<'_>, out: &mut impl Write) -> Result<()> {
    if recovery.is_null() {
        writeln!(out, "no recovery is under way")?;
        return Ok(());
    }
    let by = |name: &str| plain(&names.person(&text(&recovery[name])));
    writeln!(out, "{WARN}!{WARN:#} a key is asked for without a signature")?;
    writeln!(out, "  key         {}", plain(&text(&recovery["key"])))?;
    writeln!(out, "  held by     {}", by("holder"))?;
    writeln!(out, "  asked by    {}, {}", by("asked_by"), moment(&recovery["asked_at"]))?;
    if recovery["completes_at"].is_null() {
        writeln!(out, "  waits for   another owner to ask for the same")?;
    } else {
        writeln!(out, "  agreed by   {}", by("agreed_by"))?;
        writeln!(out, "  in force    {} at the earliest", moment(&recovery["completes_at"]))?;
    }
    writeln!(
        out,
        "  {DIM}whoever did not want that objects: patchwright consent key recover object{DIM:#}"
    )?;
    Ok(())
}
