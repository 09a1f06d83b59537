//! `patchwright delete`: what ends, and how it is called then.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::connection::{Change, Connection, encoded};
use super::contexts::{Access, connect};
use super::create::DryRun;
use super::kind::Kind;
use super::names::Names;
use super::output::text;
use crate::failure::usage;
use crate::text::plain;

/// Retire an item, end an agent or relation, take a token or somebody's access back.
///
/// Nothing is forgotten: an item is retired, an agent and a token are revoked, a person is disabled, a
/// relation ends, a group is dissolved. Their history stays.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// Of which kind: cis, groups, agents, tokens, users or relations.
    #[arg(value_enum, ignore_case = true)]
    kind: Kind,
    /// Which one; of a relation: FROM KIND TO.
    #[arg(value_name = "ID|NAME", required = true, num_args = 1..=3)]
    name: Vec<String>,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// `server`: the server says what would be, and nothing ends.
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none",
        num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: DryRun,
    #[command(flatten)]
    access: Access,
}

/// What is to end.
struct End {
    path: String,
    title: String,
    /// What it is then.
    word: &'static str,
    version: Option<String>,
}

/// Runs the command.
pub(crate) fn run(arguments: &DeleteArgs) -> Result<ExitCode> {
    let kind = arguments.kind;
    let wanted = if kind == Kind::Relation { 3 } else { 1 };
    if arguments.name.len() != wanted {
        let help = if wanted == 3 { "name it as FROM KIND TO" } else { "name one" };
        return Err(usage(format!("that names no {}", kind.word()), help));
    }
    if !matches!(
        kind,
        Kind::Ci | Kind::Group | Kind::Agent | Kind::Token | Kind::User | Kind::Relation
    ) {
        return Err(usage(
            format!("a {} cannot be ended", kind.word()),
            "cis, groups, agents, tokens, users and relations can",
        ));
    }
    let connection = connect(&arguments.access)?;
    let end = End::of(kind, &arguments.name, &connection)?;
    let is_dry = arguments.dry_run == DryRun::Server;
    if !is_dry && !arguments.yes && !confirmed(&end.title, end.word)? {
        println!("{} stays as it is", plain(&end.title));
        return Ok(ExitCode::FAILURE);
    }
    let change = Change {
        if_match: end.version.as_deref(),
        dry_run: is_dry,
        ..Change::of("DELETE", &end.path)
    };
    connection.change(&change)?;
    println!("{} {}{}", plain(&end.title), end.word, if is_dry { " (dry run)" } else { "" });
    Ok(ExitCode::SUCCESS)
}

impl End {
    fn of(kind: Kind, name: &[String], connection: &Connection) -> Result<Self> {
        let names = Names::new(connection);
        if let (Kind::Relation, [from, relation, to]) = (kind, name) {
            let (from_id, to_id) = (names.ci_id(from)?, names.ci_id(to)?);
            return Ok(Self {
                path: format!(
                    "/cis/{}/relations/{}/{}",
                    encoded(&from_id),
                    encoded(relation),
                    encoded(&to_id)
                ),
                title: format!("relation/{from} {relation} {to}"),
                word: "ended",
                version: None,
            });
        }
        let object = names.find(kind, &name[0])?;
        let path = format!("{}/{}", kind.path(), encoded(&text(&object["id"])));
        let word = match kind {
            Kind::Ci => "retired",
            Kind::User => "disabled",
            Kind::Group => "dissolved",
            _ => "revoked",
        };
        // An item that somebody altered meanwhile is not the one that was meant.
        let version =
            matches!(kind, Kind::Ci | Kind::Group).then(|| format!("\"{}\"", object["version"]));
        let title = match kind {
            Kind::Agent => names.ci(&text(&object["ci"])),
            kind => kind.name_of(&object),
        };
        Ok(Self { path, title: format!("{}/{title}", kind.word()), word, version })
    }
}

/// Whether whoever types means it: what it is, and what becomes of it.
pub(crate) fn confirmed(what: &str, word: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Err(usage(
            format!("{what} would be {word} without anybody being asked"),
            "say --yes where that is meant",
        ));
    }
    eprint!("{} will be {word}. Sure? [y/N] ", plain(what));
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
