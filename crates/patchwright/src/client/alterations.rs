//! What alterations make of files: `patchwright change propose` and `change files`, and how what is put back is planned.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read as _, Write as _};

use anyhow::{Context as _, Result, anyhow};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Args;
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
    /// The file's absolute path on the item, and a local file with all that it is to hold; may be given several times.
    #[arg(long = "file", value_name = "PATH=LOCALFILE", required = true)]
    files: Vec<String>,
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

/// Proposes what files are to hold, one after the other.
pub(crate) fn propose(
    arguments: &ProposeArgs,
    connection: &Connection,
    is_json: bool,
) -> Result<()> {
    let ProposeArgs { change, ci, files } = arguments;
    let ci = Names::new(connection).ci_id(ci)?;
    // All of them are read before one is sent.
    let files: Vec<(&str, Vec<u8>)> = files.iter().map(|it| read(it)).collect::<Result<_>>()?;
    let mut proposed = Vec::with_capacity(files.len());
    for (path, content) in files {
        let body = json!({ "ci": ci, "path": path, "content": BASE64_STANDARD.encode(content) });
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

fn read(argument: &str) -> Result<(&str, Vec<u8>)> {
    let Some((path, local)) = argument.split_once('=') else {
        let error = anyhow!("`{argument}` names no local file");
        return Err(helped(error, "write `--file /etc/motd=motd.txt`"));
    };
    let mut content = Vec::new();
    let most = LARGEST_CONTENT as u64 + 1;
    File::open(local)
        .and_then(|file| file.take(most).read_to_end(&mut content))
        .with_context(|| format!("cannot read `{local}`"))?;
    if content.len() > LARGEST_CONTENT {
        let error = anyhow!("`{local}` has more than {LARGEST_CONTENT} bytes");
        return Err(helped(error, "have it brought by a package"));
    }
    Ok((path, content))
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
        let mut table = Table::new(&["ITEM", "FILE", "HELD", "IS TO HOLD", "BYTES", "PROPOSED"]);
        for file in all {
            table.row(vec![
                Cell::from(text(&file["ci_name"])),
                Cell::from(text(&file["path"])),
                Cell::from(short(&file["held"])),
                Cell::from(short(&file["after"])),
                Cell::from(text(&file["bytes"])),
                Cell::from(moment(&file["proposed_at"])),
            ]);
        }
        return table.take();
    }
    for it in all {
        let (ci, path) = (text(&it["file"]["ci_name"]), text(&it["file"]["path"]));
        let _ = writeln!(out, "{BOLD}{} {}{BOLD:#}", plain(&ci), plain(&path));
        match it["diff"].as_str() {
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
fn short(hash: &Value) -> String {
    match hash.as_str() {
        Some(hash) => hash.chars().take(12).collect(),
        None => "not there".to_owned(),
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
    fn a_local_file_is_named() {
        let refused = read("/etc/motd").unwrap_err();
        assert!(refused.to_string().contains("names no local file"), "{refused}");
    }
}
