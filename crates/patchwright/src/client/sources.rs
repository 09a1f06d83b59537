//! `patchwright source`: git repositories, documents behind addresses and images, ours and those of the cloud's stores,
//! as what items are configured by.

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Subcommand};
use domain::cloud::Slug;
use jiff::SignedDuration;
use serde_json::{Map, Value, json};

use super::changes::Form;
use super::connection::{Change, encoded};
use super::contexts::{Access, connect};
use super::create::read_all;
use super::devices::{one_line, secret};
use super::names::Names;
use super::output::{BAD, Cell, Fields, GOOD, Table, WARN, json as to_json, moment, styled, text};
use crate::failure::usage;
use crate::text::plain;

/// Largest file of certificates, in bytes.
const LARGEST_AUTHORITY: u64 = 64 << 10;

/// Say from where items are told what they are configured by, beside agents and devices, and see how that goes. What
/// that is, is shown by `patchwright config`.
#[derive(Debug, Args)]
pub(crate) struct SourceArgs {
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
    /// Say how a source is looked at, a new one or one that is there. It is looked at soon.
    #[command(subcommand, visible_alias = "add")]
    Set(SetCommand),
    /// List the sources of an item.
    List {
        /// The item, by id or name.
        ci: String,
    },
    /// Print how a source is looked at, and how that goes.
    Show(Which),
    /// Have a source looked at soon.
    Look(Which),
    /// Look at a source no more. What was recorded stays.
    Remove(Which),
    /// List the stores of images that the control plane reads.
    Stores,
    /// Ask a store what images it holds, and which of them are items. May take minutes.
    Images {
        /// What the operator calls the store.
        store: String,
    },
}

#[derive(Debug, Args)]
struct Which {
    /// The item, by id or name.
    ci: String,
    /// What the source is called among the item's.
    name: Slug,
}

#[derive(Debug, Subcommand)]
enum SetCommand {
    /// A branch or tag of a git repository: each commit becomes versions of the files that it altered.
    Git(Box<GitArgs>),
    /// One JSON document, or text, behind an address.
    Http(Box<HttpArgs>),
    /// An image that lies in a store of the cloud's: the files below its `/etc`, again whenever it alters.
    Store(Box<StoreArgs>),
}

#[derive(Debug, Args)]
struct GitArgs {
    #[command(flatten)]
    which: Which,
    /// Its address: `https://HOST/PATH` or `ssh://[USER@]HOST[:PORT]/PATH`.
    #[arg(long, value_name = "URL")]
    url: String,
    /// The branch; whichever the repository calls HEAD where it is left out.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["tag", "reference"])]
    branch: Option<String>,
    /// A tag instead.
    #[arg(long, value_name = "NAME", conflicts_with = "reference")]
    tag: Option<String>,
    /// Any reference by its whole name: `refs/heads/main`.
    #[arg(long, value_name = "NAME")]
    reference: Option<String>,
    /// Only files below this directory; may be given several times.
    #[arg(long, value_name = "DIR")]
    below: Vec<String>,
    /// Only files like this, from the repository's root: `/conf/*.ini`; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    files: Vec<String>,
    /// How many commits before the first one that is seen are taken in with it.
    #[arg(long, value_name = "COMMITS", default_value_t = 0)]
    past: u16,
    /// As whom somebody signs in.
    #[arg(long, value_name = "ACCOUNT")]
    user: Option<String>,
    /// A file with the password or token that lets us in; `-` reads it from the input.
    #[arg(long, value_name = "FILE", conflicts_with = "key_file")]
    password_file: Option<String>,
    /// A file with the private key that lets us in over SSH: Ed25519 or ECDSA, as OpenSSH writes it, without a
    /// passphrase.
    #[arg(long, value_name = "FILE")]
    key_file: Option<String>,
    /// Over SSH, the fingerprint of the one host key that counts, as `ssh-keygen -l` prints it.
    #[arg(long, value_name = "SHA256:…", conflicts_with = "trust_first_key")]
    host_key: Option<String>,
    /// Over SSH, take the host key that is shown next, whoever answers there.
    #[arg(long)]
    trust_first_key: bool,
    /// Over https, a file with the certificates (PEM) of the authorities that count, in place of the public ones.
    #[arg(long, value_name = "FILE")]
    authority: Option<String>,
    /// How often it is looked at: `15m`, `1h`.
    #[arg(long, value_name = "TIME", default_value = "15m")]
    every: SignedDuration,
}

#[derive(Debug, Args)]
struct HttpArgs {
    #[command(flatten)]
    which: Which,
    /// Its address: `https://HOST/PATH`. No secret belongs into it.
    #[arg(long, value_name = "URL")]
    url: String,
    /// Take it as text, and not as JSON.
    #[arg(long, conflicts_with = "volatile")]
    text: bool,
    /// What of it alters by itself, as a JSON pointer: `/stats/uptime`, `/nodes/*/seen`; may be given several times.
    #[arg(long, value_name = "POINTER")]
    volatile: Vec<String>,
    /// A header that opens it, with the file that has its value: `Authorization=token.txt`; may be given several times.
    #[arg(long, value_name = "NAME=FILE")]
    header: Vec<String>,
    /// Over https, a file with the certificates (PEM) of the authorities that count, in place of the public ones.
    #[arg(long, value_name = "FILE")]
    authority: Option<String>,
    /// How often it is looked at: `15m`, `1h`.
    #[arg(long, value_name = "TIME", default_value = "15m")]
    every: SignedDuration,
}

#[derive(Debug, Args)]
struct StoreArgs {
    #[command(flatten)]
    which: Which,
    /// What the operator calls the store.
    #[arg(long, value_name = "NAME")]
    store: String,
    /// By what the image is known there: `POOL/VOLUME` in libvirt, its id in OpenStack.
    #[arg(long, value_name = "IMAGE")]
    image: String,
    /// How often the store is asked whether it altered: `15m`, `1h`.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    every: SignedDuration,
}

/// Runs the command.
pub(crate) fn run(arguments: &SourceArgs) -> Result<ExitCode> {
    let connection = connect(&arguments.access)?;
    let names = Names::new(&connection);
    let all =
        |ci: &str| Ok::<_, anyhow::Error>(format!("/cis/{}/sources", encoded(&names.ci_id(ci)?)));
    let path =
        |which: &Which| Ok::<_, anyhow::Error>(format!("{}/{}", all(&which.ci)?, which.name));
    let is_json = arguments.output == Form::Json;
    let out = &mut io::stdout().lock();
    let source = match &arguments.command {
        Command::Set(wanted) => {
            let (which, body) = match wanted {
                SetCommand::Git(wanted) => (&wanted.which, git(wanted)?),
                SetCommand::Http(wanted) => (&wanted.which, http(wanted)?),
                SetCommand::Store(wanted) => (&wanted.which, stored(wanted)),
            };
            let path = path(which)?;
            connection.change(&Change { body: Some(&body), ..Change::of("PUT", &path) })?.body
        }
        Command::List { .. } | Command::Stores | Command::Images { .. } => {
            let (path, shown): (_, fn(&Value) -> String) = match &arguments.command {
                Command::List { ci } => (all(ci)?, list),
                Command::Images { store } => {
                    (format!("/image-stores/{}/images", encoded(store)), images)
                }
                _ => ("/image-stores".to_owned(), stores),
            };
            let found = match &arguments.command {
                Command::Images { .. } => connection.get_slowly(&path)?,
                _ => connection.get(&path)?,
            };
            if is_json {
                writeln!(out, "{}", to_json(&found, true))?;
            } else {
                styled(out, &shown(&found))?;
            }
            return Ok(ExitCode::SUCCESS);
        }
        Command::Show(which) => connection.get(&path(which)?)?,
        Command::Look(which) => {
            connection.change(&Change::of("POST", &format!("{}/look", path(which)?)))?.body
        }
        Command::Remove(which) => {
            connection.change(&Change::of("DELETE", &path(which)?))?;
            writeln!(out, "{} is looked at no more; what was recorded stays", which.name)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if is_json {
        writeln!(out, "{}", to_json(&source, true))?;
    } else {
        styled(out, &shown(&source))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn git(wanted: &GitArgs) -> Result<Value> {
    let whole = |kind: &str, name: &String| format!("refs/{kind}/{name}");
    let branch = wanted.branch.as_ref().map(|name| whole("heads", name));
    let tag = wanted.tag.as_ref().map(|name| whole("tags", name));
    let below = wanted.below.iter().map(|it| format!("/{}/**", it.trim_matches('/')));
    let files: Vec<String> = below.chain(wanted.files.iter().cloned()).collect();
    let mut body = json!({
        "kind": "git", "url": wanted.url, "files": files, "past": wanted.past,
        "every_seconds": wanted.every.as_secs(), "trust_first_key": wanted.trust_first_key,
    });
    let reference = branch.or(tag).or_else(|| wanted.reference.clone());
    for (name, word) in
        [("reference", &reference), ("user", &wanted.user), ("host_key", &wanted.host_key)]
    {
        if let Some(word) = word {
            body[name] = word.as_str().into();
        }
    }
    if let Some(file) = &wanted.authority {
        body["authority"] = read_all(file, LARGEST_AUTHORITY)?.into();
    }
    if let Some(file) = &wanted.password_file {
        body["password"] = one_line(&secret(file)?).into();
    }
    if let Some(file) = &wanted.key_file {
        body["key"] = secret(file)?.into();
    }
    Ok(body)
}

fn http(wanted: &HttpArgs) -> Result<Value> {
    let form = if wanted.text { "text" } else { "json" };
    let mut body = json!({
        "kind": "http", "url": wanted.url, "form": form, "volatile": wanted.volatile,
        "every_seconds": wanted.every.as_secs(),
    });
    if let Some(file) = &wanted.authority {
        body["authority"] = read_all(file, LARGEST_AUTHORITY)?.into();
    }
    if !wanted.header.is_empty() {
        let mut headers = Map::new();
        for header in &wanted.header {
            let Some((name, file)) = header.split_once('=') else {
                return Err(usage(
                    format!("`{}` names no header and file", plain(header)),
                    "give `Authorization=token.txt`; what the header says stands in the file",
                ));
            };
            headers.insert(name.to_owned(), one_line(&secret(file)?).into());
        }
        body["headers"] = headers.into();
    }
    Ok(body)
}

fn stored(wanted: &StoreArgs) -> Value {
    json!({
        "kind": "image_store", "store": wanted.store, "image": wanted.image,
        "every_seconds": wanted.every.as_secs(),
    })
}

fn stores(found: &Value) -> String {
    let mut table = Table::new(&["STORE", "KIND"]);
    for store in found["items"].as_array().into_iter().flatten() {
        let of = |name: &str| plain(&text(&store[name]));
        table.row(vec![of("name").into(), of("kind").into()]);
    }
    table.take()
}

/// What a store holds. What is no item, nobody knows what it is configured by.
fn images(found: &Value) -> String {
    let mut table = Table::new(&["IMAGE", "NAME", "FORMAT", "BYTES", "ITEM", ""]);
    for image in found["items"].as_array().into_iter().flatten() {
        let of = |name: &str| plain(&text(&image[name]));
        let (item, unfit) = (of("ci"), of("unfit"));
        let item = match (item.is_empty(), unfit.is_empty()) {
            (false, _) => Cell::from(item).styled(GOOD),
            (true, true) => Cell::from("unknown").styled(WARN),
            (true, false) => Cell::from("left out").styled(BAD),
        };
        let unfit = if unfit.is_empty() { unfit } else { format!("it {unfit}") };
        table.row(vec![
            of("image").into(),
            of("name").into(),
            of("format").into(),
            of("size").into(),
            item,
            unfit.into(),
        ]);
    }
    table.take()
}

fn list(found: &Value) -> String {
    let mut table = Table::new(&["NAME", "KIND", "STATE", "SEEN", "WHERE"]);
    for source in found["items"].as_array().into_iter().flatten() {
        let of = |name: &str| plain(&text(&source[name]));
        let state = of("state");
        let style = match state.as_str() {
            "seen" => GOOD,
            "new" => WARN,
            _ => BAD,
        };
        table.row(vec![
            of("name").into(),
            of("kind").into(),
            Cell::from(state).styled(style),
            moment(&source["seen_at"]).into(),
            if source["store"].is_null() { of("url") } else { stored_at(source) }.into(),
        ]);
    }
    table.take()
}

fn shown(source: &Value) -> String {
    let of = |name: &str| plain(&text(&source[name]));
    let words = |name: &str| {
        let all = source[name].as_array().into_iter().flatten();
        all.map(|it| plain(&text(it))).collect::<Vec<_>>().join(", ")
    };
    let mut fields = Fields::default();
    fields
        .add("name", of("name"))
        .add("kind", of("kind"))
        .add("url", of("url"))
        .add("image", if source["store"].is_null() { String::new() } else { stored_at(source) })
        .add("reference", of("reference"))
        .add("user", of("user"))
        .add("files", words("files"))
        .add("past", if source["past"] == 0 { String::new() } else { of("past") })
        .add("form", of("form"))
        .add("volatile", words("volatile"))
        .add("headers", words("headers"))
        .add("authority", authorities(source))
        .add("kept as", of("place"))
        .add("every", format!("{} s", of("every_seconds")))
        .add("host key", of("host_key"))
        .add("it showed", of("offered_key"))
        .add("state", of("state"))
        .add("seen", moment(&source["seen_at"]))
        .add("looked at", moment(&source["looked_at"]))
        .add("next look", moment(&source["due_at"]))
        .add("recorded up to", of("progress"));
    if source["failures"] != 0 {
        fields.add("failures", of("failures"));
    }
    let mut shown = fields.text(0);
    for line in source["reason"].as_str().into_iter().flat_map(str::lines) {
        shown.push_str("  ");
        shown.push_str(&plain(line));
        shown.push('\n');
    }
    shown
}

/// Where an image of the cloud's lies.
fn stored_at(source: &Value) -> String {
    let of = |name: &str| plain(&text(&source[name]));
    format!("{} in {}", of("image"), of("store"))
}

/// Whose certificates count, and until when; nothing where it is the public authorities'.
fn authorities(source: &Value) -> String {
    let all = source["authorities"].as_array().into_iter().flatten();
    let told =
        all.map(|it| format!("{} until {}", plain(&text(&it["subject"])), moment(&it["until"])));
    told.collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_shown_with_what_stands_in_the_way() {
        let source = json!({
            "name": "app", "kind": "git", "url": "https://git.acme.example/app.git",
            "reference": "refs/heads/main", "files": ["/conf/**"], "place": "git:app/",
            "authorities": [{ "subject": "CN=Acme root\u{7}", "until": "2027-01-01T00:00:00Z" }],
            "state": "unreachable", "failures": 2, "reason": "no way through\n\u{1b}[31mred",
        });
        let shown = anstream::adapter::strip_str(&shown(&source)).to_string();
        for part in [
            "CN=Acme root",
            " until 2027-01-01",
            "refs/heads/main",
            "/conf/**",
            "failures:",
            "  no way through\n",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}'));
    }
}
