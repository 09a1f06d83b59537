//! Items as CSV and as JSON lines.
//!
//! CSV (RFC 4180) has a header: `class` and `name` are needed, `tenant` where no tenant is given
//! otherwise; a column `label.KEY` for each label, a column for each kind of relation with the names
//! of the items it leads to, parted by `;`. Other columns of an export (`id`, `duty`) are passed over.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead, Read, Write};

use domain::cloud::{Class, LabelKey, Name, RelationKind};
use serde::{Deserialize, Serialize};

/// Most lines that are told to be wrong; the rest is counted.
const MOST_TOLD: usize = 20;

/// Longest line of JSON taken.
const LONGEST_LINE: u64 = 1 << 20;

/// How items are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// A table with a header.
    Csv,
    /// One JSON object on each line.
    Jsonl,
}

/// A configuration item outside of its control plane: what it hangs together with is named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Item {
    /// Whose, by short name or id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    pub(crate) class: Class,
    pub(crate) name: Name,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<LabelKey, String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) relations: BTreeMap<RelationKind, BTreeSet<String>>,
}

/// Lines that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{} cannot be used:\n  {}", lines(*.total), .told.join("\n  "))]
pub(crate) struct WrongLines {
    told: Vec<String>,
    total: usize,
}

/// Items that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    /// Some lines are wrong.
    #[error(transparent)]
    Lines(#[from] WrongLines),
    /// The header lacks a column.
    #[error("the header has no column `{0}`")]
    NoColumn(&'static str),
    /// The header has a column twice.
    #[error("the header has the column `{0}` twice")]
    Twice(String),
    /// CSV that is none.
    #[error("this is no CSV")]
    Csv(#[from] csv::Error),
    /// A name that a CSV cell cannot hold.
    #[error("`{0}` has a `;` in its name, which parts names in a cell of CSV")]
    Semicolon(String),
    /// Reading or writing failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// JSON that cannot be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

fn lines(total: usize) -> String {
    if total == 1 { "1 line".to_owned() } else { format!("{total} lines") }
}

/// Collects items, or what is wrong with their lines.
#[derive(Default)]
struct Reading {
    items: Vec<Item>,
    told: Vec<String>,
    wrong: usize,
}

impl Reading {
    fn take(&mut self, line: u64, item: Result<Item, String>) {
        match item {
            Ok(item) => self.items.push(item),
            Err(reason) => {
                self.wrong += 1;
                if self.told.len() < MOST_TOLD {
                    self.told.push(format!("line {line}: {reason}"));
                }
            }
        }
    }

    fn done(self) -> Result<Vec<Item>, WrongLines> {
        if self.wrong == 0 {
            return Ok(self.items);
        }
        Err(WrongLines { told: self.told, total: self.wrong })
    }
}

/// Reads items; either all of them can be used, or each line that cannot is told.
pub(crate) fn read(input: impl BufRead, format: Format) -> Result<Vec<Item>, TableError> {
    match format {
        Format::Csv => read_csv(input),
        Format::Jsonl => read_jsonl(input),
    }
}

fn read_jsonl(mut input: impl BufRead) -> Result<Vec<Item>, TableError> {
    let mut reading = Reading::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let length = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)? as u64;
        if length == 0 {
            break;
        }
        if length == LONGEST_LINE && !line.ends_with(b"\n") {
            reading.take(number, Err(format!("longer than {LONGEST_LINE} bytes")));
            break;
        }
        if !line.trim_ascii().is_empty() {
            reading.take(number, serde_json::from_slice(&line).map_err(|error| error.to_string()));
        }
    }
    Ok(reading.done()?)
}

/// What a column of a CSV table means.
enum Column {
    Tenant,
    Class,
    Name,
    Label(LabelKey),
    Relation(RelationKind),
    Other,
}

fn read_csv(input: impl Read) -> Result<Vec<Item>, TableError> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::Fields).from_reader(input);
    let mut seen = BTreeSet::new();
    let mut columns = Vec::new();
    let headers = reader.headers()?.clone();
    for header in &headers {
        let header = header.trim_start_matches('\u{feff}').trim();
        if !header.is_empty() && !seen.insert(header.to_owned()) {
            return Err(TableError::Twice(header.to_owned()));
        }
        columns.push(match header {
            "tenant" => Column::Tenant,
            "class" => Column::Class,
            "name" => Column::Name,
            other => match (other.strip_prefix("label."), other.parse()) {
                (Some(key), _) => Column::Label(key.parse().map_err(|error| WrongLines {
                    told: vec![format!("line 1: {error}")],
                    total: 1,
                })?),
                (None, Ok(kind)) => Column::Relation(kind),
                (None, Err(_)) => Column::Other,
            },
        });
    }
    for needed in ["class", "name"] {
        if !seen.contains(needed) {
            return Err(TableError::NoColumn(needed));
        }
    }
    let mut reading = Reading::default();
    for record in reader.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                reading.take(line, read_record(&columns, &record));
            }
            Err(error) => match error.position().map(csv::Position::line) {
                Some(line) if !error.is_io_error() => {
                    reading.take(line, Err(error.to_string()));
                }
                _ => return Err(error.into()),
            },
        }
    }
    Ok(reading.done()?)
}

fn read_record(columns: &[Column], record: &csv::StringRecord) -> Result<Item, String> {
    let (mut tenant, mut class, mut name) = (None, None, None);
    let (mut labels, mut relations) = (BTreeMap::new(), BTreeMap::new());
    for (column, cell) in columns.iter().zip(record) {
        let cell = unguarded(cell);
        if cell.is_empty() {
            continue;
        }
        match column {
            Column::Tenant => tenant = Some(cell.to_owned()),
            Column::Class => {
                let wrong =
                    |error: domain::cloud::UnknownWord| format!("{error}: {}", error.help());
                class = Some(cell.parse().map_err(wrong)?);
            }
            Column::Name => {
                let wrong =
                    |error: domain::cloud::InvalidName| format!("{error}: {}", error.help());
                name = Some(cell.parse().map_err(wrong)?);
            }
            Column::Label(key) => {
                labels.insert(key.clone(), cell.to_owned());
            }
            Column::Relation(kind) => {
                let names = cell.split(';').map(|name| name.trim().to_owned());
                relations.insert(*kind, names.filter(|name| !name.is_empty()).collect());
            }
            Column::Other => {}
        }
    }
    let class = class.ok_or("no class")?;
    let name = name.ok_or("no name")?;
    Ok(Item { tenant, class, name, labels, relations })
}

/// Writes items.
pub(crate) fn write(items: &[Item], format: Format, out: impl Write) -> Result<(), TableError> {
    match format {
        Format::Csv => write_csv(items, out),
        Format::Jsonl => write_jsonl(items, out),
    }
}

fn write_jsonl(items: &[Item], mut out: impl Write) -> Result<(), TableError> {
    for item in items {
        serde_json::to_writer(&mut out, item)?;
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

fn write_csv(items: &[Item], out: impl Write) -> Result<(), TableError> {
    let labels: BTreeSet<&LabelKey> = items.iter().flat_map(|item| item.labels.keys()).collect();
    let kinds: BTreeSet<RelationKind> =
        items.iter().flat_map(|item| item.relations.keys().copied()).collect();
    let mut writer = csv::Writer::from_writer(out);
    let mut header = vec!["tenant".to_owned(), "class".to_owned(), "name".to_owned()];
    header.extend(kinds.iter().map(ToString::to_string));
    header.extend(labels.iter().map(|key| format!("label.{key}")));
    writer.write_record(&header)?;
    for item in items {
        let mut record = vec![
            guarded(item.tenant.as_deref().unwrap_or_default()),
            item.class.to_string(),
            guarded(item.name.as_str()),
        ];
        for kind in &kinds {
            record.push(guarded(&joined(item.relations.get(kind))?));
        }
        for key in &labels {
            record.push(guarded(item.labels.get(*key).map_or("", String::as_str)));
        }
        writer.write_record(&record)?;
    }
    Ok(writer.flush()?)
}

fn joined(names: Option<&BTreeSet<String>>) -> Result<String, TableError> {
    let names: Vec<&str> = names.into_iter().flatten().map(String::as_str).collect();
    match names.iter().find(|name| name.contains(';')) {
        Some(name) => Err(TableError::Semicolon((*name).to_owned())),
        None => Ok(names.join(";")),
    }
}

/// What a spreadsheet would take for a formula (OWASP, CSV injection).
fn is_formula(cell: &str) -> bool {
    cell.starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// A cell that no spreadsheet takes for a formula; [`unguarded`] takes the guard away.
pub(crate) fn guarded(cell: &str) -> String {
    if is_formula(cell.trim_start_matches('\'')) { format!("'{cell}") } else { cell.to_owned() }
}

fn unguarded(cell: &str) -> &str {
    match cell.strip_prefix('\'') {
        Some(inner) if is_formula(inner.trim_start_matches('\'')) => inner,
        _ => cell,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(items: &[Item], format: Format) -> String {
        let mut out = Vec::new();
        write(items, format, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn item(name: &str) -> Item {
        let (labels, relations) = (BTreeMap::new(), BTreeMap::new());
        Item { tenant: None, class: Class::Vm, name: name.parse().unwrap(), labels, relations }
    }

    #[test]
    fn a_table_from_a_spreadsheet_is_read() {
        let table = "\u{feff}name,class,label.env,runs_on,remark\r\n\
                     web 1,vm,prod,node-1; node-2,\"front, end\"\r\n\
                     \"say \"\"hi\"\"\",host,,,\r\n";

        let items = read(table.as_bytes(), Format::Csv).unwrap();

        assert_eq!(items.len(), 2);
        assert_eq!(items[0].labels[&"env".parse().unwrap()], "prod");
        assert_eq!(
            items[0].relations[&RelationKind::RunsOn].iter().collect::<Vec<_>>(),
            ["node-1", "node-2"]
        );
        assert_eq!(items[1], Item { class: Class::Host, ..item("say \"hi\"") });
    }

    #[test]
    fn every_line_that_is_wrong_is_named() {
        let table = "class,name\nvm,web\nvmm,x\nvm,\nvm,a,b\n";
        let wrong = read(table.as_bytes(), Format::Csv).unwrap_err().to_string();
        assert!(
            wrong.starts_with("3 lines cannot be used:\n  line 3: `vmm` is not a Class"),
            "{wrong}"
        );
        assert!(wrong.contains("\n  line 4: no name\n"), "{wrong}");
        assert!(wrong.contains("\n  line 5: "), "{wrong}");

        let lines = "{\"class\":\"vm\",\"name\":\"web\"}\n\n{\"class\":\"vm\"}\n[\n";
        let wrong = read(lines.as_bytes(), Format::Jsonl).unwrap_err().to_string();
        assert!(wrong.contains("line 3: missing field `name`"), "{wrong}");
        assert!(wrong.contains("line 4: "), "{wrong}");

        let wrong = read("name\nweb\n".as_bytes(), Format::Csv).unwrap_err();
        assert_eq!(wrong.to_string(), "the header has no column `class`");
        let wrong = read("name,class,name\n".as_bytes(), Format::Csv).unwrap_err();
        assert_eq!(wrong.to_string(), "the header has the column `name` twice");
    }

    #[test]
    fn what_is_written_is_no_formula() {
        let table = text(&[item("=HYPERLINK(1)")], Format::Csv);
        assert_eq!(table, "tenant,class,name\n,vm,'=HYPERLINK(1)\n");
    }

    #[test]
    fn a_line_without_an_end_is_not_read_into_memory() {
        let endless = io::BufReader::new(io::repeat(b'x'));
        let wrong = read(endless, Format::Jsonl).unwrap_err().to_string();
        assert!(wrong.contains("line 1: longer than"), "{wrong}");
    }

    proptest! {
        /// What is exported is imported again as it was, whatever people call their things.
        #[test]
        fn what_is_written_is_read_again(
            names in prop::collection::vec("[!-:<-~ü€'=+@-]([ -:<-~]{0,10}[!-:<-~])?", 1..5),
            value in "[!-~'=+@-]{1,10}",
            to in prop::collection::btree_set("[!-:<-~'=]{1,8}", 1..3),
        ) {
            let items: Vec<Item> = names
                .iter()
                .map(|name| Item {
                    tenant: Some("acme".into()),
                    labels: [("k".parse().unwrap(), value.clone())].into(),
                    relations: [(RelationKind::DependsOn, to.clone())].into(),
                    ..item(name)
                })
                .collect();
            for format in [Format::Csv, Format::Jsonl] {
                let text = text(&items, format);
                prop_assert_eq!(&read(text.as_bytes(), format).unwrap(), &items, "{}", text);
            }
        }
    }
}
