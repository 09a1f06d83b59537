//! `patchwright config break-glass`: leave to alter files first and to explain it afterwards.

use std::io;

use anyhow::Result;
use clap::{ArgGroup, Subcommand};
use serde_json::{Value, json};

use super::configuration::{listed, print};
use super::connection::{Change, Connection, encoded};
use super::names::Names;
use super::output::{BAD, Cell, GOOD, Table, WARN, moment, text};
use crate::text::plain;

#[derive(Debug, Subcommand)]
pub(crate) enum BreakGlass {
    /// Open one: what is altered under it is not drift until somebody else has reviewed it.
    #[command(group(ArgGroup::new("cover").required(true).args(["ci", "group"])))]
    Open {
        /// The item, by id or name.
        ci: Option<String>,
        /// The items of this group instead, by id.
        #[arg(long)]
        group: Option<String>,
        /// What it is called where you keep track of it.
        #[arg(long)]
        ticket: String,
        /// Why.
        #[arg(long, value_name = "WORDS")]
        reason: String,
        /// Files that may be altered: `/etc/nginx/**`. As often as you like.
        #[arg(long = "file", value_name = "PATTERN", required = true)]
        files: Vec<String>,
        /// An account that may; anybody where none is named. As often as you like.
        #[arg(long = "login", value_name = "ACCOUNT")]
        logins: Vec<String>,
        /// For how many minutes at most, up to a day; an hour where it is left out.
        #[arg(long)]
        minutes: Option<u16>,
        /// Within how many hours after its end somebody else has to review it; 24 where it is left out.
        #[arg(long, value_name = "HOURS")]
        review_hours: Option<u16>,
    },
    /// Close one before its time is over.
    Close {
        /// Its id.
        id: String,
    },
    /// Say whether what was done under it may stay. Whoever opened it does not.
    #[command(group(ArgGroup::new("outcome").required(true).args(["accept", "reject"])))]
    Review {
        /// Its id.
        id: String,
        /// It may stay, and is what the files are to be.
        #[arg(long)]
        accept: bool,
        /// It may not: it is drift that nobody agreed to.
        #[arg(long)]
        reject: bool,
        /// Why.
        #[arg(long, value_name = "WORDS")]
        reason: String,
    },
    /// Print one, with the files that were altered under it.
    Show {
        /// Its id.
        id: String,
    },
    /// List those that are open, or wait for a review.
    List {
        /// Only those of this item alone, by id or name.
        ci: Option<String>,
        /// Those that were reviewed, too.
        #[arg(long)]
        all: bool,
    },
}

/// Does what is asked.
pub(crate) fn run(command: &BreakGlass, connection: &Connection, is_json: bool) -> Result<()> {
    let out = &mut io::stdout().lock();
    let names = Names::new(connection);
    let post = |path: &str, body: &Value| -> Result<Value> {
        let change = Change { body: Some(body), ..Change::of("POST", path) };
        Ok(connection.change(&change)?.body)
    };
    let of = |id: &str| format!("/break-glass/{}", encoded(id));
    match command {
        BreakGlass::Open { ci, group, ticket, reason, files, logins, minutes, review_hours } => {
            let ci = ci.as_ref().map(|ci| names.ci_id(ci)).transpose()?;
            let body = json!({
                "ci": ci, "group": group, "ticket": ticket, "reason": reason, "files": files,
                "logins": logins, "minutes": minutes, "review_hours": review_hours,
            });
            let opened = post("/break-glass", &body)?;
            print(out, is_json, &opened, |it| {
                let (id, until) = (text(&it["id"]), moment(&it["until"]));
                let review_by = moment(&it["review_by"]);
                format!("{id} is open until {until}; somebody else reviews it by {review_by}.\n")
            })
        }
        BreakGlass::Close { id } => {
            let closed = post(&format!("{}/close", of(id)), &json!({}))?;
            print(out, is_json, &closed, |it| {
                format!(
                    "It permits nothing more; the review is due {}.\n",
                    moment(&it["review_by"])
                )
            })
        }
        BreakGlass::Review { id, accept, reason, .. } => {
            let seen = connection.get(&of(id))?;
            let outcome = if *accept { "accepted" } else { "rejected" };
            let body = json!({ "outcome": outcome, "reason": reason, "version": seen["version"] });
            let done = post(&format!("{}/review", of(id)), &body)?;
            print(out, is_json, &done, |_| {
                let words = if *accept { "It may stay" } else { "It may not stay, and is drift" };
                format!("{words}; that is recorded.\n")
            })
        }
        BreakGlass::Show { id } => {
            let found = connection.get(&of(id))?;
            print(out, is_json, &found, |it| one(it, &names))
        }
        BreakGlass::List { ci, all } => {
            let mut query = "limit=1000".to_owned();
            if let Some(ci) = ci {
                query = format!("{query}&ci={}", encoded(&names.ci_id(ci)?));
            }
            let mut found = connection.get(&format!("/break-glass?{query}"))?;
            if let (false, Some(items)) = (all, found["items"].as_array_mut()) {
                items.retain(|it| matches!(it["state"].as_str(), Some("open" | "in_review")));
            }
            print(out, is_json, &found, table)
        }
    }
}

fn table(found: &Value) -> String {
    let mut table = Table::new(&[
        "BREAK-GLASS",
        "TICKET",
        "ON",
        "OPENED",
        "UNTIL",
        "FILES",
        "REVIEW BY",
        "STANDS",
    ]);
    for it in listed(found) {
        table.row(vec![
            Cell::from(text(&it["id"])),
            Cell::from(plain(&text(&it["ticket"]))),
            Cell::from(plain(&text(&it["name"]))),
            Cell::from(moment(&it["opened_at"])),
            Cell::from(moment(&it["until"])),
            Cell::from(text(&it["altered"])),
            Cell::from(moment(&it["review_by"])),
            stands(it),
        ]);
    }
    table.take()
}

fn stands(it: &Value) -> Cell {
    match (it["state"].as_str().unwrap_or_default(), it["escalated_at"].is_null()) {
        ("open", _) => Cell::from("open").styled(WARN),
        ("in_review", true) => Cell::from("in review").styled(WARN),
        ("in_review", false) => Cell::from("in review, escalated").styled(BAD),
        ("accepted", _) => Cell::from("accepted").styled(GOOD),
        (other, _) => Cell::from(other.to_owned()).styled(BAD),
    }
}

fn one(it: &Value, names: &Names<'_>) -> String {
    let words = |list: &Value| {
        let words: Vec<_> = list.as_array().into_iter().flatten().map(text).collect();
        plain(&words.join(" "))
    };
    let logins = words(&it["logins"]);
    let mut facts = Table::new(&["BREAK-GLASS", ""]);
    for (name, value) in [
        ("ticket", plain(&text(&it["ticket"]))),
        ("on", plain(&text(&it["name"]))),
        ("why", plain(&text(&it["reason"]))),
        ("files", words(&it["files"])),
        ("accounts", if logins.is_empty() { "anybody".to_owned() } else { logins }),
        (
            "opened",
            format!("{} by {}", moment(&it["opened_at"]), names.person(&text(&it["opened_by"]))),
        ),
        ("until", moment(&it["until"])),
        ("review by", moment(&it["review_by"])),
        ("reviewed by", names.person(&text(&it["reviewed_by"]))),
        ("review", plain(&text(&it["review"]))),
    ] {
        facts.row(vec![Cell::from(name), Cell::from(value)]);
    }
    facts.row(vec![Cell::from("stands"), stands(it)]);
    let mut files = Table::new(&["ITEM", "PATH", "IS", "TIMES", "BY", "RECORDED"]);
    for file in it["altered_files"].as_array().into_iter().flatten() {
        files.row(vec![
            Cell::from(plain(&text(&file["ci_name"]))),
            Cell::from(plain(&text(&file["path"]))),
            Cell::from(text(&file["what"])),
            Cell::from(text(&file["alterations"])),
            Cell::from(plain(file["by"].as_str().unwrap_or("nobody knows"))),
            Cell::from(moment(&file["recorded_at"])),
        ]);
    }
    format!("{}\n{}", facts.take(), files.take())
}
