//! What alterations make of files: `patchwright change propose` and `change files`, and how what is put back is planned.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
use domain::change::{Account, Mode};
use domain::cloud::ChangeId;
use domain::order::LARGEST_CONTENT;
use serde_json::{Value, json};

use super::connection::{Change, Connection, encoded};
use super::names::Names;
use super::output::{BOLD, Cell, DIM, Table, json as to_json, moment, styled, text};
use crate::failure::{during, helped};
use crate::text::plain;

/// What is proposed.
#[derive(Debug, Args)]
pub(crate) struct ProposeArgs {
    /// Which alteration.
    change: ChangeId,
    /// The item, by id or name.
    ci: String,
    /// The file's absolute path on the item, and a local file with all that it is to hold; without one it keeps what it
    /// holds. May be given several times.
    #[arg(long = "file", value_name = "PATH[=LOCALFILE]", required_unless_present = "remove")]
    files: Vec<String>,

    /// The absolute path of a file that is to be taken away; may be given several times.
    #[arg(long, value_name = "PATH")]
    remove: Vec<String>,

    /// Permissions of what `--file` names, as `chmod` takes them in digits; unsaid they stay, and a new file has 0644.
    #[arg(long, requires = "files")]
    mode: Option<Mode>,

    /// Who owns what `--file` names, by the name that its host has; unsaid it stays, and a new file is root's.
    #[arg(long, value_name = "ACCOUNT", requires = "files")]
    owner: Option<Account>,

    /// The group of what `--file` names, in the same way.
    #[arg(long, requires = "files")]
    group: Option<Account>,
}

/// What is told of an alteration.
#[derive(Debug, Args)]
pub(crate) struct FilesArgs {
    /// Which alteration.
    change: ChangeId,
    /// Also what differs from what the files are now, without what is secret.
    #[arg(long)]
    diff: bool,
}

/// Proposes what is to be made of files, one after the other.
pub(crate) fn propose(
    arguments: &ProposeArgs,
    connection: &Connection,
    is_json: bool,
) -> Result<()> {
    let ProposeArgs { change, ci, files, remove, mode, owner, group } = arguments;
    let is_silent = mode.is_none() && owner.is_none() && group.is_none();
    if let Some(path) = files.iter().find(|it| is_silent && !it.contains('=')) {
        let error = anyhow!("`{path}` is to hold what it holds, and to be whose it is");
        return Err(helped(
            error,
            "write `--file /etc/motd=motd.txt`, or say `--mode`, `--owner` or `--group`",
        ));
    }
    let ci = Names::new(connection).ci_id(ci)?;
    // All of them are read before one is sent.
    let files: Vec<_> = files.iter().map(|it| read(it)).collect::<Result<_>>()?;
    let mut bodies = Vec::with_capacity(files.len() + remove.len());
    for (path, content) in files {
        let mut body = json!({ "ci": ci, "path": path });
        let said = [
            ("content", content.map(|content| BASE64_STANDARD.encode(content))),
            ("mode", mode.map(|it| it.to_string())),
            ("owner", owner.as_ref().map(ToString::to_string)),
            ("group", group.as_ref().map(ToString::to_string)),
        ];
        for (name, value) in said.into_iter().filter_map(|(name, it)| Some((name, it?))) {
            body[name] = value.into();
        }
        bodies.push(body);
    }
    bodies.extend(remove.iter().map(|path| json!({ "ci": ci, "path": path, "absent": true })));
    let mut proposed = Vec::with_capacity(bodies.len());
    for body in bodies {
        let to = format!("/changes/{change}/files");
        let put = Change { body: Some(&body), is_repeatable: true, ..Change::of("PUT", &to) };
        proposed.push(connection.change(&put)?.body);
    }
    tell(&proposed.into(), is_json)
}

/// Lists what an alteration makes of files.
pub(crate) fn files(arguments: &FilesArgs, connection: &Connection, is_json: bool) -> Result<()> {
    let FilesArgs { change, diff } = arguments;
    let mut found = connection.get(&format!("/changes/{change}/files"))?;
    if *diff && let Some(files) = found.as_array_mut() {
        for file in files {
            let (ci, path) = (text(&file["ci"]), text(&file["path"]));
            let (ci, path) = (encoded(&ci), encoded(&path));
            *file = connection.get(&format!("/changes/{change}/files/diff?ci={ci}&path={path}"))?;
        }
    }
    tell(&found, is_json)
}

/// Plans what is to be put back; it goes out once its tenant agrees.
pub(crate) fn plan(connection: &Connection, drift: &Value, profile: &str) -> Result<Value> {
    let change = text(&drift["change"]);
    let body = json!({ "change": change, "profile": profile });
    let post = Change { body: Some(&body), ..Change::of("POST", "/releases") };
    let planned = connection.change(&post).map_err(|error| {
        during(error, format!("`{change}` is to put it back, and is not planned yet"))
    })?;
    Ok(planned.body)
}

/// A path, and all that is to lie there; nothing where that stays.
fn read(argument: &str) -> Result<(&str, Option<Vec<u8>>)> {
    let Some((path, local)) = argument.split_once('=') else { return Ok((argument, None)) };
    let mut content = Vec::new();
    let most = LARGEST_CONTENT as u64 + 1;
    File::open(local)
        .and_then(|file| file.take(most).read_to_end(&mut content))
        .with_context(|| format!("cannot read `{local}`"))?;
    if content.len() > LARGEST_CONTENT {
        let error = anyhow!("`{local}` has more than {LARGEST_CONTENT} bytes");
        return Err(helped(error, "have it brought by a package"));
    }
    Ok((path, Some(content)))
}

fn tell(found: &Value, is_json: bool) -> Result<()> {
    let out = &mut io::stdout().lock();
    if is_json {
        writeln!(out, "{}", to_json(found, true))?;
    } else {
        styled(out, &page(found))?;
    }
    Ok(())
}

/// Files of an alteration, for people; with what differs, where that is told.
fn page(found: &Value) -> String {
    let all = found.as_array().map(Vec::as_slice).unwrap_or_default();
    if all.is_empty() {
        return "It makes nothing of any file yet.\n".to_owned();
    }
    let mut out = String::new();
    if all.iter().all(|it| it["file"].is_null()) {
        let mut table =
            Table::new(&["ITEM", "FILE", "HELD", "IS TO HOLD", "IS TO BE", "BYTES", "PROPOSED"]);
        for file in all {
            table.row(vec![
                Cell::from(text(&file["ci_name"])),
                Cell::from(text(&file["path"])),
                Cell::from(short(&file["held"], "not there")),
                Cell::from(short(&file["after"], "taken away")),
                Cell::from(whose(&file["access"]).unwrap_or_default()),
                Cell::from(text(&file["bytes"])),
                Cell::from(moment(&file["proposed_at"])),
            ]);
        }
        return table.take();
    }
    for it in all {
        let (ci, path) = (text(&it["file"]["ci_name"]), text(&it["file"]["path"]));
        let _ = writeln!(out, "{BOLD}{} {}{BOLD:#}", plain(&ci), plain(&path));
        let made = made(&it["file"]);
        if let Some(made) = &made {
            let _ = writeln!(out, "{}", plain(made));
        }
        match it["diff"].as_str() {
            Some("") if made.is_some() => {}
            Some("") => {
                let _ =
                    writeln!(out, "{DIM}nothing differs but what is secret, if anything{DIM:#}");
            }
            Some(diff) => diff.lines().for_each(|line| {
                let _ = writeln!(out, "{}", plain(line));
            }),
            None => {
                let _ = writeln!(out, "{DIM}cannot be told any more{DIM:#}");
            }
        }
    }
    out
}

/// Enough of a hash to tell it from others.
fn short(hash: &Value, none: &str) -> String {
    match hash.as_str() {
        Some(hash) => hash.chars().take(12).collect(),
        None => none.to_owned(),
    }
}

/// `0644 root:root`, where it is said.
fn whose(access: &Value) -> Option<String> {
    let [mode, owner, group] = ["mode", "owner", "group"].map(|name| text(&access[name]));
    (!access.is_null()).then(|| format!("{mode} {owner}:{group}"))
}

/// What is made of a file beside its content.
fn made(file: &Value) -> Option<String> {
    if file["after"].is_null() {
        return Some("is taken away".to_owned());
    }
    let is = whose(&file["access"])?;
    match whose(&file["held_access"]) {
        None => Some(format!("is new: {is}")),
        Some(was) if was != is => Some(format!("{was} → {is}")),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_without_control_characters() {
        let file = json!({ "ci_name": "web-1", "path": "/etc/motd", "held": null, "after": "ab" });
        let listed = page(&json!([file]));
        assert!(listed.contains("not there") && listed.contains("/etc/motd"), "{listed}");
        let shown = page(&json!([{ "file": file, "diff": "+\u{1b}[2Jhello\n" }]));
        assert!(shown.contains("hello") && !shown.contains("\u{1b}[2J"), "{shown}");
    }

    #[test]
    fn what_is_made_of_a_file_beside_its_content_is_said() {
        let whose = |mode: &str| json!({ "mode": mode, "owner": "root", "group": "adm" });
        let file = |held: &Value, after: &Value, access: &Value| {
            json!({ "file": {
                "ci_name": "web-1", "path": "/etc/motd", "held": "ab", "held_access": held,
                "after": after, "access": access,
            }, "diff": "" })
        };
        let shown = |file: Value| anstream::adapter::strip_str(&page(&json!([file]))).to_string();
        let (none, hash) = (&Value::Null, &json!("ab"));
        let gone = shown(file(&whose("0600"), none, none));
        assert_eq!(gone, "web-1 /etc/motd\nis taken away\n");
        let given = shown(file(&whose("0600"), hash, &whose("0640")));
        assert_eq!(given, "web-1 /etc/motd\n0600 root:adm → 0640 root:adm\n");
        let new = shown(file(none, hash, &whose("0640")));
        assert_eq!(new, "web-1 /etc/motd\nis new: 0640 root:adm\n");
        let same = shown(file(&whose("0600"), hash, none));
        assert!(same.contains("nothing differs"), "{same}");
    }

    #[test]
    fn a_local_file_is_named_or_its_content_stays() {
        assert_eq!(read("/etc/motd").unwrap(), ("/etc/motd", None));
        assert!(read("/etc/motd=/no/such/file").is_err());
    }
}
