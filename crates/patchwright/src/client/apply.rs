//! `patchwright apply`: the cloud's description from a file.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::Value;

use super::connection::{Change, Connection, encoded, is_missing};
use super::contexts::{Access, connect};
use super::create::{DryRun, read_all};
use super::draft::{Draft, told};
use super::kind::Kind;
use super::names::Names;
use super::output::text;
use crate::failure::{during, helped, report};
use crate::text::{count, plain};

/// Largest file.
const LARGEST: u64 = 64 << 20;

/// Make the cloud's description what a file says.
///
/// The file holds YAML documents, JSON, or JSON lines, each with `kind` and the fields that `create` has as
/// flags. What is missing is created, what differs is altered, what is so already stays; nothing is ever
/// deleted. A document that fails does not keep the others back.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  kind: tenant
  slug: acme
  name: Acme
  model: iaas
  ---
  kind: ci
  tenant: acme
  name: web-1
  class: vm
  labels: {env: prod}
  ---
  {kind: relation, from: acme/web-1, relation: runs_on, to: host-1}")]
pub(crate) struct ApplyArgs {
    /// The file; `-` for standard input.
    #[arg(short, long, value_name = "FILE|-")]
    file: String,
    /// `server`: the server says what would be, and nothing is made.
    #[arg(long, value_enum, value_name = "WHERE", default_value = "none",
        num_args = 0..=1, require_equals = true, default_missing_value = "server")]
    dry_run: DryRun,
    #[command(flatten)]
    access: Access,
}

/// What became of a document.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Altered(String),
    Unchanged,
}

/// Runs the command.
pub(crate) fn run(arguments: &ApplyArgs) -> Result<ExitCode> {
    let text = read_all(&arguments.file, LARGEST)?;
    // A file that cannot be read as a whole alters nothing.
    let drafts = drafts(&text).map_err(|error| {
        let name = match arguments.file.as_str() {
            "-" => "standard input".to_owned(),
            file => format!("`{file}`"),
        };
        during(error, format!("{name} cannot be read, and nothing was done"))
    })?;
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let is_dry = arguments.dry_run == DryRun::Server;
    let mut work = Work { connection: &connection, names: &names, is_dry, dreamt: BTreeSet::new() };
    let mut failed = 0;
    for (at, draft) in drafts.iter().enumerate() {
        let kind = draft.checked_kind();
        let title = kind.as_ref().map_or_else(|_| draft.kind.clone(), |kind| draft.title(*kind));
        let outcome = kind.and_then(|kind| work.apply(kind, draft));
        let dry = if is_dry { " (dry run)" } else { "" };
        let out = &mut io::stdout().lock();
        let title = plain(&title);
        match outcome {
            Ok(Outcome::Created) => writeln!(out, "{title} created{dry}")?,
            Ok(Outcome::Altered(what)) => writeln!(out, "{title} altered{dry}  {}", plain(&what))?,
            Ok(Outcome::Unchanged) => writeln!(out, "{title} unchanged{dry}")?,
            Err(error) => {
                failed += 1;
                let place = format!("document {} ({title})", at + 1);
                report(&during(error, place));
            }
        }
    }
    if failed == 0 {
        return Ok(ExitCode::SUCCESS);
    }
    let error = anyhow!("{} failed of {}", count(failed, "document", "documents"), drafts.len());
    Err(helped(error, "mend them and apply the file again: what is done stays as it is"))
}

struct Work<'a> {
    connection: &'a Connection,
    names: &'a Names<'a>,
    is_dry: bool,
    /// What a dry run would have made by now, by the names that others may call it.
    dreamt: BTreeSet<(Kind, String)>,
}

impl Work<'_> {
    fn apply(&mut self, kind: Kind, draft: &Draft) -> Result<Outcome> {
        if matches!(kind, Kind::Token | Kind::AgentToken) {
            let error = anyhow!("each time it is made, a {} is another one", kind.word());
            return Err(helped(error, format!("use `patchwright create {}`", kind.word())));
        }
        if self.needs_what_is_dreamt(draft) {
            self.dream(kind, draft);
            return Ok(Outcome::Created);
        }
        let Some(is) = self.existing(kind, draft)? else {
            draft.order(kind, self.names)?.send(self.connection, self.is_dry)?;
            if self.is_dry {
                self.dream(kind, draft);
            }
            return Ok(Outcome::Created);
        };
        if kind == Kind::Relation {
            return Ok(Outcome::Unchanged);
        }
        let path = format!("{}/{}", kind.path(), encoded(&text(&is["id"])));
        let answer = self.connection.read(&path)?;
        let Some(alteration) = draft.alteration(kind, &answer.body, self.names)? else {
            return Ok(Outcome::Unchanged);
        };
        let told = told(&alteration, &answer.body);
        let change = Change {
            body: Some(&alteration),
            if_match: answer.etag.as_deref(),
            dry_run: self.is_dry,
            ..Change::of("PATCH", &path)
        };
        self.connection.change(&change)?;
        Ok(Outcome::Altered(told))
    }

    /// The object that a draft means, if it is there.
    fn existing(&self, kind: Kind, draft: &Draft) -> Result<Option<Value>> {
        if let Some(id) = &draft.id {
            return self.connection.get(&format!("{}/{}", kind.path(), encoded(id))).map(Some);
        }
        match kind {
            Kind::Ci | Kind::Group => {
                let tenant = match &draft.tenant {
                    Some(tenant) => self.names.tenant_id(tenant)?,
                    None => self.names.own_tenant()?,
                };
                let name = draft.name.as_deref().unwrap_or_default();
                if kind == Kind::Ci {
                    return self.names.item_in(&tenant, name);
                }
                self.first(kind, |it| it["tenant"] == tenant.as_str() && it["name"] == name)
            }
            Kind::Relation => {
                let end =
                    |name: &Option<String>| self.names.ci_id(name.as_deref().unwrap_or_default());
                let (from, to) = (end(&draft.from)?, end(&draft.to)?);
                let all = self.connection.get(&format!("/cis/{}/relations", encoded(&from)))?;
                let is_it = |it: &&Value| {
                    it["from"] == from.as_str()
                        && it["to"] == to.as_str()
                        && Some(text(&it["kind"])) == draft.relation
                };
                Ok(all["items"].as_array().into_iter().flatten().find(is_it).cloned())
            }
            kind => {
                let (field, wanted) = match kind {
                    Kind::Tenant => ("slug", draft.slug.clone()),
                    Kind::User => ("login", draft.login.clone()),
                    _ => ("name", draft.osv.as_ref().map(|osv| text(&osv["id"]))),
                };
                let wanted = wanted.unwrap_or_default();
                self.first(kind, |it| it[field] == wanted.as_str())
            }
        }
    }

    fn first(&self, kind: Kind, is_it: impl Fn(&Value) -> bool) -> Result<Option<Value>> {
        let mut all = self.connection.items(kind.path(), "", 1000);
        all.find(|it| it.as_ref().map_or(true, &is_it)).transpose()
    }

    fn dream(&mut self, kind: Kind, draft: &Draft) {
        let names = match kind {
            Kind::Tenant => vec![draft.slug.clone(), draft.name.clone()],
            Kind::Ci => {
                let whole = draft.tenant.iter().zip(&draft.name);
                let whole = whole.map(|(tenant, name)| format!("{tenant}/{name}")).next();
                vec![draft.name.clone(), whole]
            }
            _ => Vec::new(),
        };
        self.dreamt.extend(names.into_iter().flatten().map(|name| (kind, name)));
    }

    /// Whether a draft speaks of something that only a dry run made: the server cannot know it.
    fn needs_what_is_dreamt(&self, draft: &Draft) -> bool {
        let is_dreamt = |kind: Kind, name: &Option<String>| {
            let Some(name) = name else { return false };
            self.dreamt.contains(&(kind, name.clone())) && self.is_absent(kind, name)
        };
        is_dreamt(Kind::Tenant, &draft.tenant)
            || is_dreamt(Kind::Ci, &draft.from)
            || is_dreamt(Kind::Ci, &draft.to)
    }

    /// Whether there is no such thing. Where that cannot be told, asking for it will say why.
    fn is_absent(&self, kind: Kind, name: &str) -> bool {
        self.names.find(kind, name).is_err_and(|error| is_missing(&error))
    }
}

/// The documents of a file.
fn drafts(text: &str) -> Result<Vec<Draft>> {
    let first = text.trim_start();
    if !first.starts_with(['{', '[']) {
        return yaml_drafts(text);
    }
    // JSON: one value, a list, or one after the other. What is no JSON may be YAML of the same look.
    let mut drafts = Vec::new();
    for (at, value) in serde_json::Deserializer::from_str(text).into_iter::<Value>().enumerate() {
        let Ok(value) = value else { return yaml_drafts(text) };
        let values = match value {
            Value::Array(values) => values,
            Value::Object(mut object)
                if object.contains_key("items") && !object.contains_key("kind") =>
            {
                match object.remove("items") {
                    Some(Value::Array(values)) => values,
                    _ => Vec::new(),
                }
            }
            value => vec![value],
        };
        for value in values {
            let number = drafts.len().max(at) + 1;
            let draft = serde_json::from_value(value);
            drafts.push(draft.map_err(|error| unreadable(number, &error.to_string()))?);
        }
    }
    Ok(drafts)
}

fn yaml_drafts(text: &str) -> Result<Vec<Draft>> {
    let all: Vec<Option<Draft>> = serde_saphyr::from_multiple(text).map_err(|error| {
        helped(
            anyhow!("{}", first_line(&error.to_string())),
            "see `patchwright apply --help` for an example",
        )
    })?;
    Ok(all.into_iter().flatten().collect())
}

/// What is wrong, without the picture of it.
fn first_line(text: &str) -> String {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty());
    line.unwrap_or_default().trim_start_matches("error: ").to_owned()
}

fn unreadable(number: usize, why: &str) -> anyhow::Error {
    let error = anyhow!("document {number}: {why}");
    helped(error, "see `patchwright apply --help` for an example")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        drafts(text).unwrap().into_iter().map(|draft| draft.name.unwrap()).collect()
    }

    #[test]
    fn yaml_json_and_json_lines_are_the_same() {
        let wanted = ["a", "b"];
        assert_eq!(names("kind: ci\nname: a\n---\nkind: ci\nname: b\n"), wanted);
        assert_eq!(
            names("---\nkind: ci\nname: a\n---\n# nothing\n---\n{kind: ci, name: b}\n"),
            wanted
        );
        assert_eq!(
            names("{\"kind\":\"ci\",\"name\":\"a\"}\n{\"kind\":\"ci\",\"name\":\"b\"}\n"),
            wanted
        );
        assert_eq!(
            names("[{\"kind\":\"ci\",\"name\":\"a\"},{\"kind\":\"ci\",\"name\":\"b\"}]"),
            wanted
        );
        assert_eq!(names("{\"items\":[{\"name\":\"a\"},{\"name\":\"b\"}]}"), wanted);
        assert_eq!(names("{kind: ci, name: a}\n---\n{kind: ci, name: b}\n"), wanted);
        assert!(drafts("").unwrap().is_empty());
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let told = |text: &str| drafts(text).unwrap_err().to_string();

        assert!(
            told("kind: ci\nnmae: web\n").contains("nmae"),
            "{}",
            told("kind: ci\nnmae: web\n")
        );
        assert!(told("[{\"kind\":\"ci\"},{\"kind\":\"ci\",\"x\":1}]").contains("document 2"));
        assert!(drafts("kind: ci\n\tname: [").is_err());
    }

    #[test]
    fn aliases_cannot_make_much_of_little() {
        let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for at in 1..12 {
            let below = format!("*a{},", at - 1).repeat(10);
            bomb = format!("{bomb}a{at}: &a{at} [{below}]\n");
        }
        assert!(
            drafts(&format!("kind: advisory\nosv:\n  {}", bomb.replace('\n', "\n  "))).is_err()
        );
    }
}
