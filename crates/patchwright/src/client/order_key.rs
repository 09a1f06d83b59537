//! `patchwright order-key`: the key with which orders are signed, and how it is handed over.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::changes::Form;
use super::connection::Change;
use super::contexts::{Access, connect};
use super::output::{json as to_json, text};
use crate::text::plain;

/// Read or hand over the key with which orders are signed.
#[derive(Debug, Args)]
pub(crate) struct OrderKeyArgs {
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
    /// Print which key that is: what the owner of a host compares, and pins with `--order-key`.
    Show,
    /// Make a new key, and have the one in force sign the handover to it. Hosts take it over with their next
    /// order.
    Rotate,
}

/// Runs the command.
pub(crate) fn run(arguments: &OrderKeyArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let in_force = connection.get("/order-keys")?;
    let key = match arguments.command {
        Command::Show => in_force,
        Command::Rotate => {
            let body = json!({ "after": in_force["version"] });
            connection
                .change(&Change { body: Some(&body), ..Change::of("POST", "/order-keys") })?
                .body
        }
    };
    let out = &mut io::stdout().lock();
    if arguments.output == Form::Json {
        writeln!(out, "{}", to_json(&key, true))?;
    } else {
        write!(out, "{}", shown(&key))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shown(key: &Value) -> String {
    format!("version  {}\nkey      {}\n", key["version"], plain(&text(&key["id"])))
}
