//! What people read of an export: a page in Markdown, and the events as CSV and as JSON lines.
//!
//! All of it comes from the files of the export itself and can be made again from them; what is proven are
//! those.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use ledger::Envelope;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use super::tally::Tally;
use super::{Taken, verify_command};
use crate::client::names::Names;
use crate::client::output::text;
use crate::client::transfer::table::guarded;
use crate::text::plain;

const COLUMNS: [&str; 12] = [
    "sequence",
    "at",
    "kind",
    "tenant",
    "actor",
    "role",
    "object",
    "version",
    "payload",
    "tenant_id",
    "actor_id",
    "sha256",
];

/// The reports in the making; beside their places until the export is sound.
pub(super) struct Report {
    directory: PathBuf,
    csv: csv::Writer<NamedTempFile>,
    lines: BufWriter<NamedTempFile>,
}

impl Report {
    pub(super) fn begin(directory: &Path) -> Result<Self> {
        let csv = beside(directory)?;
        let mut csv = csv::Writer::from_writer(csv);
        csv.write_record(COLUMNS)?;
        let lines = BufWriter::new(beside(directory)?);
        Ok(Self { directory: directory.to_owned(), csv, lines })
    }

    /// Adds an event.
    pub(super) fn add(
        &mut self,
        entry: &Envelope,
        record: &Value,
        names: &Names<'_>,
    ) -> Result<()> {
        let member = |name: &str| text(&record[name]);
        let (tenant, actor) = (names.tenant(&member("tenant")), names.person(&member("actor")));
        let sha256 = entry.commitments.first().map(|it| it.sha256.to_hex()).unwrap_or_default();
        let cells = [
            entry.sequence.to_string(),
            member("at"),
            member("kind"),
            tenant,
            actor,
            member("role"),
            member("object"),
            member("version"),
            record["payload"].to_string(),
            member("tenant"),
            member("actor"),
            sha256.clone(),
        ];
        self.csv.write_record(cells.iter().map(|cell| guarded(cell)))?;
        let line = json!({ "sequence": entry.sequence, "sha256": sha256, "record": record });
        serde_json::to_writer(&mut self.lines, &line)?;
        self.lines.write_all(b"\n")?;
        Ok(())
    }

    /// Puts the reports in their places.
    pub(super) fn keep(
        self,
        taken: &Taken,
        tally: &Tally,
        names: &Names<'_>,
        account: &Value,
    ) -> Result<()> {
        let csv = self.csv.into_inner().map_err(csv::IntoInnerError::into_error)?;
        let lines = self.lines.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        let mut page = beside(&self.directory)?;
        page.write_all(readme(taken, tally, names, account).as_bytes())?;
        for (file, name) in [(csv, "events.csv"), (lines, "events.jsonl"), (page, "README.md")] {
            file.as_file().sync_all()?;
            let place = self.directory.join(name);
            file.persist(&place).with_context(|| format!("cannot write `{}`", place.display()))?;
        }
        Ok(())
    }
}

fn beside(directory: &Path) -> Result<NamedTempFile> {
    let failed = || format!("cannot write in `{}`", directory.display());
    fs::create_dir_all(directory).with_context(failed)?;
    // Records of a tenant are for whoever exported them alone.
    tempfile::Builder::new()
        .prefix(".report")
        .permissions(Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .with_context(failed)
}

fn readme(taken: &Taken, tally: &Tally, names: &Names<'_>, account: &Value) -> String {
    let verified = &taken.verified;
    let whom = if taken.sees_all {
        "all tenants' records".to_owned()
    } else {
        format!("the records of {}", cell(&names.tenant(&text(&account["tenant"]))))
    };
    let span = verified.span.map_or_else(
        || "–".to_owned(),
        |(first, last)| format!("{} to {}", first.strftime("%F %TZ"), last.strftime("%F %TZ")),
    );
    let (held, absent) = verified.payloads.map_or((0, 0), |count| (count.held, count.absent));
    let signed_by = verified.signed_by.iter().map(|key| format!("`{key}`"));
    let facts = [
        ("log", cell(&verified.origin)),
        ("taken from", cell(&taken.from)),
        ("by", {
            let (person, role) = (names.person(&text(&account["user"])), text(&account["role"]));
            format!("{}, {}; {whom}", cell(&person), cell(&role))
        }),
        ("entries", format!("{}, {span}", verified.size)),
        ("records", format!("{held} here and as committed, {absent} of others")),
        ("root", format!("`{}`", verified.root)),
        ("signed by", signed_by.collect::<Vec<_>>().join(", ")),
    ];
    let mut page = format!("# Evidence of {}\n\n| | |\n|---|---|\n", cell(&verified.origin));
    for (name, value) in facts {
        // Writing into a string cannot fail.
        let _ = writeln!(page, "| {name} | {value} |");
    }
    let _ = write!(page, "{ABOUT}```console\n$ {}\n```\n", verify_command(&taken.key, "."));
    page.push_str(WHAT_IT_PROVES);
    page.push_str(
        "\n## What happened\n\n| tenant | kind | entries | records |\n|---|---|--:|--:|\n",
    );
    for (tenant, kind, count) in tally.rows() {
        let (tenant, records) = match tenant {
            "" => ("others".to_owned(), "–".to_owned()),
            tenant => (cell(&names.tenant(tenant)), count.records.to_string()),
        };
        let _ = writeln!(page, "| {tenant} | {} | {} | {records} |", cell(kind), count.entries);
    }
    page.push_str(
        "\nEntries and records are the same in number for each tenant whose records are here.\n",
    );
    page
}

/// A text that ends no cell and begins no markup.
fn cell(text: &str) -> String {
    let mut safe = String::new();
    for character in plain(text).chars() {
        if "\\`*_[]<>|#!".contains(character) {
            safe.push('\\');
        }
        safe.push(character);
    }
    safe
}

const ABOUT: &str = "
## What is here

| file | holds |
|---|---|
| `checkpoint` | the log's size and root, signed: keep a copy of it apart, it holds the log to its word |
| `checkpoint.witnessed` | the latest one that witnesses cosigned, where there are any |
| `tile/` | the log itself: each entry, and the hashes over them (C2SP tlog-tiles) |
| `payloads/` | the records, each named by its SHA-256, with its salt in the first 32 bytes |
| `ledger.key` | the key that the log is signed with; compare it with the operator's word |
| `events.csv`, `events.jsonl` | the same records to read: made from `payloads/`, proven by nothing else |

A `'` in front of a cell of the CSV keeps a spreadsheet from taking it for a formula.

## Verify it

Without the control plane, with a small program of the same source or with other people's tools for
tlog-tiles:

";

const WHAT_IT_PROVES: &str = "
It fails if an entry or a record was altered, removed, put in or reordered since the checkpoint was signed.
With `--since FILE` it holds the log to a checkpoint that you kept before, with `--policy FILE` to witnesses.
That what was recorded is true, it cannot prove.
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_ends_no_cell() {
        assert_eq!(cell("a|b\n`c`<i>"), "a\\|b\u{fffd}\\`c\\`\\<i\\>");
    }
}
