//! `patchwright create`.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use super::contexts::{Access, connect};
use super::draft::Draft;
use super::get::label;
use super::kind::Kind;
use super::login::{line_of_stdin, typed_password};
use super::names::Names;
use super::output::{Format, json, text, yaml};
use crate::failure::{helped, usage};
use crate::text::plain;

/// Largest file of a record.
const LARGEST_RECORD: u64 = 4 << 20;

/// Create an object.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    #[command(subcommand)]
    what: What,
}

/// How it is made and told.
#[derive(Debug, Args)]
struct Manner {
    /// `server`: the server checks it and says what would be, and makes nothing.
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none",
        num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: DryRun,
    /// How to print what was made.
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    #[command(flatten)]
    access: Access,
}

/// Whether it is only tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    /// It is done.
    None,
    /// The server says what would be.
    Server,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Take up a tenant.
    Tenant {
        /// Its short name, for commands and addresses.
        slug: String,
        /// Its name, for people; the short name otherwise.
        #[arg(long)]
        name: Option<String>,
        /// How it uses the cloud: iaas, paas or saas.
        #[arg(long)]
        model: String,
        #[command(flatten)]
        manner: Manner,
    },
    /// Give a person access. The password is asked for, or read from standard input.
    User {
        /// With what it signs in.
        login: String,
        /// Its name; the login otherwise.
        #[arg(long)]
        name: Option<String>,
        /// operator, approver, auditor or admin (provider); `tenant_owner`, `tenant_approver` or
        /// `tenant_viewer` (tenant).
        #[arg(long)]
        role: String,
        /// Whose person it is; of one's own tenant otherwise.
        #[arg(long)]
        tenant: Option<String>,
        #[command(flatten)]
        manner: Manner,
    },
    /// Take up a configuration item.
    Ci {
        /// Its name, unique within its tenant.
        name: String,
        /// hypervisor, host, vm, image, `network_device`, `security_device`, `database_server`,
        /// `management_terminal`, application or service.
        #[arg(long)]
        class: String,
        /// Whose it is; of one's own tenant otherwise.
        #[arg(long)]
        tenant: Option<String>,
        /// A label; several with several flags.
        #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        manner: Manner,
    },
    /// Group the items of a tenant that have a class and labels, whichever they are at the moment.
    Group {
        /// Its name, unique within its tenant.
        name: String,
        /// What it is for.
        #[arg(long)]
        description: Option<String>,
        /// Whose items; one's own tenant's otherwise.
        #[arg(long)]
        tenant: Option<String>,
        /// Only items of this class.
        #[arg(long)]
        class: Option<String>,
        /// Only items with this label; several with several flags.
        #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        #[command(flatten)]
        manner: Manner,
    },
    /// Make an API token for oneself. Its secret is told this once.
    Token {
        /// What it is for.
        name: String,
        /// read or write.
        #[arg(long, default_value = "read")]
        access: String,
        /// Days for which it is good, 366 at most.
        #[arg(long, default_value_t = 90)]
        days: u16,
        #[command(flatten)]
        manner: Manner,
    },
    /// Make a token with which hosts join. It is told this once.
    AgentToken {
        /// Whose agents it lets in; the item's tenant's, or one's own otherwise.
        #[arg(long)]
        tenant: Option<String>,
        /// The item that the agent will speak for; otherwise each use takes up a new one.
        #[arg(long, value_name = "ID|NAME")]
        ci: Option<String>,
        /// What new items are; vm otherwise.
        #[arg(long)]
        class: Option<String>,
        /// A label of new items; several with several flags.
        #[arg(short = 'l', long = "label", value_name = "KEY=VALUE", value_parser = label)]
        labels: Vec<(String, String)>,
        /// How often it may be used.
        #[arg(long, value_name = "NUMBER")]
        uses: Option<u32>,
        /// Minutes for which it is good; an hour otherwise, 7 days at most.
        #[arg(long, value_name = "MINUTES")]
        lifetime: Option<u32>,
        #[command(flatten)]
        manner: Manner,
    },
    /// Bring an advisory: an OSV record.
    Advisory {
        /// The record's file; `-` for standard input.
        #[arg(value_name = "FILE|-")]
        record: String,
        /// What the provider should know about it.
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        manner: Manner,
    },
    /// Relate a configuration item to another.
    Relation {
        /// From which item, by id or name.
        from: String,
        /// `runs_on`, `built_from`, `member_of`, `depends_on` or `connects_to`.
        relation: String,
        /// To which item.
        to: String,
        #[command(flatten)]
        manner: Manner,
    },
}

impl What {
    fn manner(&self) -> &Manner {
        match self {
            Self::Tenant { manner, .. }
            | Self::User { manner, .. }
            | Self::Ci { manner, .. }
            | Self::Group { manner, .. }
            | Self::Token { manner, .. }
            | Self::AgentToken { manner, .. }
            | Self::Advisory { manner, .. }
            | Self::Relation { manner, .. } => manner,
        }
    }

    fn draft(&self) -> Result<Draft> {
        let empty = Draft::default();
        let some = |text: &str| Some(text.to_owned());
        let map = |labels: &[(String, String)]| -> Option<BTreeMap<String, String>> {
            if labels.is_empty() { None } else { Some(labels.iter().cloned().collect()) }
        };
        let draft = match self {
            Self::Tenant { slug, name, model, .. } => Draft {
                kind: "tenant".to_owned(),
                slug: some(slug),
                name: name.clone().or_else(|| some(slug)),
                model: some(model),
                ..empty
            },
            Self::User { login, name, role, tenant, .. } => Draft {
                kind: "user".to_owned(),
                login: some(login),
                name: name.clone().or_else(|| some(login)),
                role: some(role),
                tenant: tenant.clone(),
                password: Some(new_password()?),
                ..empty
            },
            Self::Ci { name, class, tenant, labels, .. } => Draft {
                kind: "ci".to_owned(),
                name: some(name),
                class: some(class),
                tenant: tenant.clone(),
                labels: map(labels),
                ..empty
            },
            Self::Group { name, description, tenant, class, labels, .. } => Draft {
                kind: "group".to_owned(),
                name: some(name),
                description: description.clone(),
                tenant: tenant.clone(),
                class: class.clone(),
                labels: map(labels),
                ..empty
            },
            Self::Token { name, access, days, .. } => Draft {
                kind: "token".to_owned(),
                name: some(name),
                access: some(access),
                days: Some(*days),
                ..empty
            },
            Self::AgentToken { tenant, ci, class, labels, uses, lifetime, .. } => Draft {
                kind: "agent-token".to_owned(),
                tenant: tenant.clone(),
                ci: ci.clone(),
                class: class.clone(),
                labels: map(labels),
                uses: *uses,
                lifetime_minutes: *lifetime,
                ..empty
            },
            Self::Advisory { record, note, .. } => Draft {
                kind: "advisory".to_owned(),
                osv: Some(read_record(record)?),
                note: note.clone(),
                ..empty
            },
            Self::Relation { from, relation, to, .. } => Draft {
                kind: "relation".to_owned(),
                from: some(from),
                relation: some(relation),
                to: some(to),
                ..empty
            },
        };
        Ok(draft)
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &CreateArgs) -> Result<ExitCode> {
    let Manner { dry_run, output, access } = arguments.what.manner();
    let is_dry = *dry_run == DryRun::Server;
    let connection = connect(access)?;
    let names = Names::new(&connection);
    let draft = arguments.what.draft()?;
    let kind = draft.checked_kind()?;
    let made = draft.order(kind, &names)?.send(&connection, is_dry)?;
    let out = &mut io::stdout().lock();
    match output {
        Format::Json => writeln!(out, "{}", json(&made, true))?,
        Format::Yaml => write!(out, "{}", yaml(&made))?,
        Format::Name => {
            let object = if kind == Kind::Token { &made["token"] } else { &made };
            writeln!(out, "{}", plain(&kind.name_line(object)))?;
        }
        Format::Table | Format::Wide => {
            let id = if kind == Kind::Token { &made["token"]["id"] } else { &made["id"] };
            let id = text(id);
            let title = plain(&draft.title(kind));
            let id = if id.is_empty() { id } else { format!("  {}", plain(&id)) };
            writeln!(out, "{title} created{}{id}", if is_dry { " (dry run)" } else { "" })?;
            let secret = if kind == Kind::Token { &made["secret"] } else { &made["token"] };
            // That of a dry run opens nothing.
            if let Some(secret) = secret.as_str().filter(|_| !is_dry) {
                writeln!(out, "secret  {}  (shown this once: keep it)", plain(secret))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn new_password() -> Result<String> {
    if !io::stdin().is_terminal() {
        return line_of_stdin("password");
    }
    let first = typed_password("password of the new person: ")?;
    let second = typed_password("once more: ")?;
    if first != second {
        return Err(usage("the two passwords differ", "type the same one twice"));
    }
    Ok(first.reveal().to_owned())
}

fn read_record(name: &str) -> Result<Value> {
    let text = read_all(name, LARGEST_RECORD)?;
    serde_json::from_str(&text).map_err(|error| {
        let error = anyhow!(error).context(format!("`{name}` is no JSON"));
        helped(error, "give one record in the OSV format")
    })
}

/// A file's text, or standard input's.
pub(super) fn read_all(name: &str, most: u64) -> Result<String> {
    let mut text = String::new();
    let unreadable = || format!("cannot read `{name}`");
    if name == "-" {
        io::stdin().lock().take(most + 1).read_to_string(&mut text)
    } else {
        fs::File::open(name).and_then(|file| file.take(most + 1).read_to_string(&mut text))
    }
    .with_context(unreadable)?;
    if text.len() as u64 > most {
        let error = anyhow!("`{name}` is larger than {} MiB", most >> 20);
        return Err(helped(error, "split it"));
    }
    Ok(text)
}
