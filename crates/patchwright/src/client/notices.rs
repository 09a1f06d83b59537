//! `patchwright notice`, `channel` and `feed`: what tenants are told, and where it goes.

use std::io;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::names::Names;
use super::output::{Cell, Table, moment, text};
use crate::text::plain;

/// Say that a notice was read, and send it again.
#[derive(Debug, Args)]
pub(crate) struct NoticeArgs {
    #[command(subcommand)]
    command: NoticeCommand,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum NoticeCommand {
    /// Say that you read a notice of your tenant; it agrees to nothing.
    Acknowledge {
        /// Which one, by id.
        notice: String,
    },
    /// Try deliveries of a notice again that were given up.
    Retry {
        /// Which one, by id.
        notice: String,
    },
}

/// Where a tenant's notices go, beside the console.
#[derive(Debug, Args)]
pub(crate) struct ChannelArgs {
    #[command(subcommand)]
    command: ChannelCommand,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum ChannelCommand {
    /// List a tenant's channels.
    List {
        /// Whose, by id or short name; by default your own tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Send all notices from now on to an address of mail, or to a webhook (https).
    Add {
        /// `ops@acme.example`, or `https://acme.example/hook`.
        address: String,
        /// The language in which they are written there, of those that the provider has: `de`; by
        /// default the provider's.
        #[arg(long)]
        language: Option<String>,
        /// Whose, by id or short name; by default your own tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Write to a channel in another language, from what is sent next on.
    Language {
        /// Which one, by id.
        channel: String,
        /// `de`, of those that the provider has; without it, the provider's.
        language: Option<String>,
    },
    /// Send nothing there any more; what waits is given up.
    End {
        /// Which one, by id.
        channel: String,
    },
}

/// A tenant's changes in somebody's calendar or reader.
#[derive(Debug, Args)]
pub(crate) struct FeedArgs {
    #[command(subcommand)]
    command: FeedCommand,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Subcommand)]
enum FeedCommand {
    /// List the feeds of a tenant that you may see.
    List {
        /// Whose, by id or short name; by default your own tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Make addresses that a calendar and a reader subscribe to; they are shown once, and each is a
    /// secret.
    Add {
        /// Which program will fetch it: `calendar on my phone`.
        name: String,
        /// How long the addresses are good.
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=366))]
        days: u16,
        /// Whose, by id or short name; by default your own tenant's.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// End one: its addresses open nothing any more.
    End {
        /// Which one, by id.
        feed: String,
    },
}

/// Runs `patchwright notice`.
pub(crate) fn run(arguments: &NoticeArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    match &arguments.command {
        NoticeCommand::Acknowledge { notice } => {
            let notice = post(&connection, &format!("/notices/{}/acknowledge", encoded(notice)))?;
            println!("{} acknowledged", plain(&text(&notice["title"])));
        }
        NoticeCommand::Retry { notice } => {
            let path = format!("/notices/{}/deliveries", encoded(notice));
            let deliveries = connection.get(&path)?;
            let given_up = |it: &&Value| it["state"] == "given_up";
            let all = deliveries["items"].as_array().into_iter().flatten().filter(given_up);
            let mut tried = 0;
            for delivery in all {
                post(
                    &connection,
                    &format!("{path}/{}/retry", encoded(&text(&delivery["channel"]))),
                )?;
                println!("{} is tried again", plain(&text(&delivery["address"])));
                tried += 1;
            }
            if tried == 0 {
                println!("nothing was given up: there is nothing to try again");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn post(connection: &Connection, path: &str) -> Result<Value> {
    Ok(connection.change(&Change::of("POST", path))?.body)
}

/// Runs `patchwright channel`.
pub(crate) fn channel(arguments: &ChannelArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let of = |tenant: &Option<String>| of_tenant(&names, tenant.as_deref(), "channels");
    match &arguments.command {
        ChannelCommand::List { tenant } => list(&connection.get(&of(tenant)?)?)?,
        ChannelCommand::Add { address, language, tenant } => {
            let kind = if address.contains("://") { "webhook" } else { "mail" };
            let body = json!({ "kind": kind, "address": address, "language": language });
            let path = of(tenant)?;
            let change = Change { body: Some(&body), ..Change::of("POST", &path) };
            let made = connection.change(&change)?.body;
            let channel = &made["channel"];
            println!("notices go to {} from now on", plain(&text(&channel["address"])));
            println!("id      {}", plain(&text(&channel["id"])));
            if let Some(secret) = made["secret"].as_str() {
                println!("secret  {}  (shown this once: keep it)", plain(secret));
            }
        }
        ChannelCommand::Language { channel, language } => {
            let path = format!("/channels/{}", encoded(channel));
            let body = json!({ "language": language });
            let change = Change { body: Some(&body), ..Change::of("PATCH", &path) };
            let altered = connection.change(&change)?.body;
            let address = plain(&text(&altered["address"]));
            match altered["language"].as_str() {
                Some(language) => println!("{address} is written to in `{}`", plain(language)),
                None => println!("{address} is written to in the provider's language"),
            }
        }
        ChannelCommand::End { channel } => {
            let path = format!("/channels/{}", encoded(channel));
            let ended = connection.change(&Change::of("DELETE", &path))?.body;
            println!("nothing goes to {} any more", plain(&text(&ended["address"])));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What a tenant has of something; one's own where none is named.
fn of_tenant(names: &Names<'_>, tenant: Option<&str>, what: &str) -> Result<String> {
    let tenant = match tenant {
        Some(tenant) => names.tenant_id(tenant)?,
        None => names.own_tenant()?,
    };
    Ok(format!("/tenants/{}/{what}", encoded(&tenant)))
}

/// Runs `patchwright feed`.
pub(crate) fn feed(arguments: &FeedArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    match &arguments.command {
        FeedCommand::List { tenant } => {
            list_feeds(&connection.get(&of_tenant(&names, tenant.as_deref(), "feeds")?)?)?;
        }
        FeedCommand::Add { name, days, tenant } => {
            let body = json!({ "name": name, "days": days });
            let path = of_tenant(&names, tenant.as_deref(), "feeds")?;
            let change = Change { body: Some(&body), ..Change::of("POST", &path) };
            let made = connection.change(&change)?.body;
            println!("calendar  {}", plain(&text(&made["calendar"])));
            println!("reader    {}", plain(&text(&made["atom"])));
            println!("id        {}", plain(&text(&made["feed"]["id"])));
            println!("until     {}", moment(&made["feed"]["expires_at"]));
            println!("(shown this once; whoever has an address reads the notices)");
        }
        FeedCommand::End { feed } => {
            let path = format!("/tokens/{}", encoded(feed));
            let ended = connection.change(&Change::of("DELETE", &path))?.body;
            println!("{} opens nothing any more", plain(&text(&ended["name"])));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list_feeds(feeds: &Value) -> Result<()> {
    let items = feeds["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        println!("no feed: subscribe with `patchwright feed add NAME`");
        return Ok(());
    }
    let mut table = Table::new(&["NAME", "UNTIL", "USED", "ID"]);
    for feed in items {
        table.row(vec![
            Cell::from(text(&feed["name"])),
            Cell::from(moment(&feed["expires_at"])),
            Cell::from(moment(&feed["used_at"])),
            Cell::from(text(&feed["id"])),
        ]);
    }
    table.print(&mut io::stdout().lock())
}

fn list(channels: &Value) -> Result<()> {
    let items = channels["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() {
        println!(
            "no channel: notices are in the console alone; add one: `patchwright channel add`"
        );
        return Ok(());
    }
    let mut table = Table::new(&["KIND", "ADDRESS", "LANGUAGE", "SINCE", "ID"]);
    for channel in items {
        // With what goes there nothing counts as given.
        let copies = if channel["is_own"] == false { " (copies)" } else { "" };
        table.row(vec![
            Cell::from(text(&channel["kind"])),
            Cell::from(format!("{}{copies}", text(&channel["address"]))),
            // The provider's own is not known here.
            Cell::from(channel["language"].as_str().unwrap_or("–").to_owned()),
            Cell::from(moment(&channel["created_at"])),
            Cell::from(text(&channel["id"])),
        ]);
    }
    table.print(&mut io::stdout().lock())
}
