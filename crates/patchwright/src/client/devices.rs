//! `patchwright device`: how network and security devices are looked at over SSH.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::changes::Form;
use super::connection::{Change, encoded};
use super::contexts::{Access, connect};
use super::names::Names;
use super::output::{Fields, json as to_json, moment, styled, text};
use crate::failure::usage;
use crate::text::plain;

/// Largest file with a password or key, in bytes.
const LARGEST: u64 = 64 << 10;

/// Say how network and security devices are looked at over SSH, and see how that goes. What they are configured
/// by is shown by `patchwright config`.
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
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
    /// Say how an item is looked at. It is looked at soon.
    Set(Box<SetArgs>),
    /// Print how an item is looked at, and how that goes.
    Show {
        /// The item, by id or name.
        ci: String,
    },
    /// Have an item looked at soon.
    Look {
        /// The item, by id or name.
        ci: String,
    },
    /// Look at an item no more. What was recorded stays.
    Remove {
        /// The item, by id or name.
        ci: String,
    },
}

#[derive(Debug, Args)]
struct SetArgs {
    /// The item, by id or name.
    ci: String,
    /// What it is: `ios`, `junos`, `frr` and others, as docs/devices.md lists them.
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// Its name or address.
    #[arg(long, value_name = "HOST")]
    address: String,
    /// Where it speaks SSH.
    #[arg(long, default_value_t = 22, value_parser = clap::value_parser!(u16).range(1..))]
    port: u16,
    /// As whom it is looked at.
    #[arg(long, value_name = "ACCOUNT")]
    user: String,
    /// A file with the password that lets us in; `-` reads it from the input.
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    password_file: Option<String>,
    /// A file with the private key that lets us in: Ed25519 or ECDSA, as OpenSSH writes it, without a passphrase.
    #[arg(long, value_name = "FILE")]
    key_file: Option<String>,
    /// A file with the password that the device asks of whoever wants to see everything.
    #[arg(long, value_name = "FILE")]
    enable_file: Option<String>,
    /// The fingerprint of the one host key that counts, as `ssh-keygen -l` prints it.
    #[arg(long, value_name = "SHA256:…", conflicts_with = "trust_first_key")]
    host_key: Option<String>,
    /// Take the host key that the device shows next, whoever answers there.
    #[arg(long)]
    trust_first_key: bool,
    /// How often it is looked at: `15m`, `1h`.
    #[arg(long, value_name = "TIME", default_value = "15m")]
    every: SignedDuration,
}

/// Runs the command.
pub(crate) fn run(arguments: &DeviceArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let path =
        |ci: &str| Ok::<_, anyhow::Error>(format!("/cis/{}/device", encoded(&names.ci_id(ci)?)));
    let device = match &arguments.command {
        Command::Set(wanted) => {
            let body = body(wanted)?;
            let path = path(&wanted.ci)?;
            connection.change(&Change { body: Some(&body), ..Change::of("PUT", &path) })?.body
        }
        Command::Show { ci } => connection.get(&path(ci)?)?,
        Command::Look { ci } => {
            connection.change(&Change::of("POST", &format!("{}/look", path(ci)?)))?.body
        }
        Command::Remove { ci } => {
            connection.change(&Change::of("DELETE", &path(ci)?))?;
            println!("{} is looked at no more; what was recorded stays", plain(ci));
            return Ok(ExitCode::SUCCESS);
        }
    };
    let out = &mut io::stdout().lock();
    if arguments.output == Form::Json {
        writeln!(out, "{}", to_json(&device, true))?;
    } else {
        styled(out, &shown(&device))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn body(wanted: &SetArgs) -> Result<Value> {
    let mut body = json!({
        "model": wanted.model, "address": wanted.address, "port": wanted.port, "user": wanted.user,
        "every_seconds": wanted.every.as_secs(), "trust_first_key": wanted.trust_first_key,
    });
    for (name, file) in [
        ("password", &wanted.password_file),
        ("key", &wanted.key_file),
        ("enable", &wanted.enable_file),
    ] {
        if let Some(file) = file {
            let secret = secret(file)?;
            // A key is taken as it is; the line break behind a password is no part of it.
            let word = if name == "key" { secret } else { one_line(&secret) };
            body[name] = word.into();
        }
    }
    if let Some(host_key) = &wanted.host_key {
        body["host_key"] = host_key.as_str().into();
    }
    Ok(body)
}

/// Without the line break at its end.
pub(super) fn one_line(text: &str) -> String {
    text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text)).to_owned()
}

/// What a file with something secret holds; `-` is the input.
pub(super) fn secret(file: &str) -> Result<String> {
    let mut text = String::new();
    let attempt = || format!("cannot read `{}`", plain(file));
    let read = if file == "-" {
        io::stdin().lock().take(LARGEST + 1).read_to_string(&mut text)
    } else {
        let opened = fs::File::open(Path::new(file)).with_context(attempt)?;
        opened.take(LARGEST + 1).read_to_string(&mut text)
    };
    if read.with_context(attempt)? as u64 > LARGEST {
        return Err(usage(
            format!("`{}` has more than {LARGEST} bytes", plain(file)),
            "give a file with the password or key alone",
        ));
    }
    Ok(text)
}

fn shown(device: &Value) -> String {
    let of = |name: &str| plain(&text(&device[name]));
    let mut fields = Fields::default();
    fields
        .add("model", of("model"))
        .add("address", format!("{} port {}", of("address"), of("port")))
        .add("user", format!("{}, by {}", of("user"), of("method")))
        .add("every", format!("{} s", of("every_seconds")))
        .add(
            "host key",
            match &device["host_key"] {
                Value::Null => "the first that it shows".to_owned(),
                _ => of("host_key"),
            },
        )
        .add("it showed", of("offered_key"))
        .add("state", of("state"))
        .add("seen", moment(&device["seen_at"]))
        .add("looked at", moment(&device["looked_at"]))
        .add("next look", moment(&device["due_at"]));
    if device["failures"] != 0 {
        fields.add("failures", of("failures"));
    }
    let mut shown = fields.text(0);
    if let Some(reason) = device["reason"].as_str() {
        for line in reason.lines() {
            shown.push_str("  ");
            shown.push_str(&plain(line));
            shown.push('\n');
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_no_part_of_a_password() {
        for (text, expected) in [("a b\n", "a b"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n")] {
            assert_eq!(one_line(text), expected);
        }
    }

    #[test]
    fn a_device_is_shown_with_what_stands_in_the_way() {
        let device = json!({
            "model": "ios", "address": "192.0.2.7", "port": 22, "user": "observer", "method": "key",
            "every_seconds": 900, "host_key": null, "offered_key": null, "state": "unreachable",
            "failures": 2, "looked_at": "2026-11-30T10:11:12Z", "seen_at": null,
            "due_at": "2026-11-30T10:26:12Z", "reason": "cannot connect\n\u{1b}[31mred",
        });
        let shown = anstream::adapter::strip_str(&shown(&device)).to_string();
        for part in
            ["192.0.2.7 port 22", "the first that it shows", "failures:", "  cannot connect\n"]
        {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains('\u{1b}'));
    }
}
