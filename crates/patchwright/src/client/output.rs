//! What is printed: tables for people, JSON and YAML for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::Value;
use unicode_width::UnicodeWidthStr as _;

use crate::text::plain;

pub(crate) const BOLD: Style = Style::new().bold();
pub(crate) const DIM: Style = Style::new().dimmed();
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default();
pub(crate) const WARN: Style = AnsiColor::Yellow.on_default();

/// In which form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns, for people.
    Table,
    /// More columns.
    Wide,
    /// The API's objects.
    Json,
    /// The same as YAML.
    Yaml,
    /// `KIND/ID` lines.
    Name,
}

/// A text of a table, made harmless, and how it looks.
#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    style: Style,
}

impl<T: AsRef<str>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: plain(text.as_ref()), style: Style::new() }
    }
}

impl Cell {
    /// The same, in a style.
    pub(crate) fn styled(self, style: Style) -> Self {
        Self { style, ..self }
    }
}

/// Aligned columns below one header.
#[derive(Debug)]
pub(crate) struct Table {
    heads: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
    indent: usize,
    widths: Vec<usize>,
    has_head: bool,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(heads: &[&'static str]) -> Self {
        let widths = heads.iter().map(|head| head.width()).collect();
        Self { heads: heads.to_vec(), rows: Vec::new(), indent: 0, widths, has_head: true }
    }

    /// The same, further to the right.
    pub(crate) fn indented(self, indent: usize) -> Self {
        Self { indent, ..self }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, row: Vec<Cell>) {
        for (width, cell) in self.widths.iter_mut().zip(&row) {
            *width = (*width).max(cell.text.width());
        }
        self.rows.push(row);
    }

    /// The rows so far as text, under the header unless that was told before. Rows which come later keep
    /// the widths of those before.
    pub(crate) fn take(&mut self) -> String {
        let mut out = String::new();
        let rows = std::mem::take(&mut self.rows);
        if self.has_head {
            let heads: Vec<Cell> =
                self.heads.iter().map(|head| Cell::from(*head).styled(DIM)).collect();
            self.line(&mut out, &heads);
            self.has_head = false;
        }
        for row in &rows {
            self.line(&mut out, row);
        }
        out
    }

    /// Prints what [`Table::take`] gives.
    pub(crate) fn print(&mut self, out: &mut impl Write) -> Result<()> {
        let text = self.take();
        styled(out, &text)
    }

    fn line(&self, out: &mut String, cells: &[Cell]) {
        out.push_str(&" ".repeat(self.indent));
        // Spaces stand between texts, never at the end.
        let mut gap = 0;
        for (cell, width) in cells.iter().zip(&self.widths) {
            let taken = cell.text.width();
            if taken > 0 {
                let Cell { text, style } = cell;
                let _ = write!(out, "{}{style}{text}{style:#}", " ".repeat(gap));
                gap = 0;
            }
            gap += width.saturating_sub(taken) + 2;
        }
        out.push('\n');
    }
}

/// Prints text with styles: a terminal sees them, nothing else does.
pub(crate) fn styled(out: &mut impl Write, text: &str) -> Result<()> {
    // Whether styles belong there is for standard output to say, which `out` is or leads to.
    let keeps = anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never;
    if keeps {
        out.write_all(text.as_bytes())?;
    } else {
        write!(out, "{}", anstream::adapter::strip_str(text))?;
    }
    Ok(())
}

/// `key: value` lines, aligned.
#[derive(Debug, Default)]
pub(crate) struct Fields {
    rows: Vec<(String, Cell)>,
}

impl Fields {
    /// Adds a line; nothing where there is no value.
    pub(crate) fn add(&mut self, key: &str, value: impl Into<Cell>) -> &mut Self {
        let value = value.into();
        if !value.text.is_empty() {
            self.rows.push((plain(key), value));
        }
        self
    }

    /// As text.
    pub(crate) fn text(&self, indent: usize) -> String {
        let widest = self.rows.iter().map(|(key, _)| key.width()).max().unwrap_or(0);
        let mut out = String::new();
        for (key, Cell { text, style }) in &self.rows {
            let gap = " ".repeat(widest - key.width() + 1);
            let _ = writeln!(
                out,
                "{}{DIM}{key}:{DIM:#}{gap}{style}{text}{style:#}",
                " ".repeat(indent)
            );
        }
        out
    }
}

/// A JSON text which no terminal obeys: what it could obey is escaped, and means the same.
pub(crate) fn json(value: &Value, is_pretty: bool) -> String {
    let text = if is_pretty { format!("{value:#}") } else { value.to_string() };
    harmless(&text)
}

/// Control characters stand only in strings there, where they may be escaped.
fn harmless(json: &str) -> String {
    json.chars().fold(String::new(), |mut out, character| {
        let is_layout = character == '\n';
        if !is_layout && plain(character.encode_utf8(&mut [0; 4])).starts_with('\u{fffd}') {
            let _ = write!(out, "\\u{:04x}", u32::from(character));
        } else {
            out.push(character);
        }
        out
    })
}

/// A value as YAML. Texts that could mean something else, or drive a terminal, are quoted as in JSON,
/// which YAML reads the same way.
pub(crate) fn yaml(value: &Value) -> String {
    let mut out = String::new();
    yaml_below(&mut out, value, 0, false);
    out
}

fn yaml_below(out: &mut String, value: &Value, depth: usize, is_in_list: bool) {
    let pad = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (key, value)) in fields.iter().enumerate() {
                // The first field stands behind the dash of its list.
                let pad = if at == 0 && is_in_list { "" } else { &pad };
                let _ = write!(out, "{pad}{}:", yaml_text(key));
                yaml_value(out, value, depth);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                let _ = write!(out, "{pad}- ");
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        yaml_below(out, item, depth + 1, true);
                    }
                    Value::Array(items) if !items.is_empty() => {
                        // A list in a list: as JSON, on one line.
                        let _ = writeln!(out, "{}", json(item, false));
                    }
                    scalar => {
                        let _ = writeln!(out, "{}", yaml_scalar(scalar));
                    }
                }
            }
        }
        scalar => {
            let _ = writeln!(out, "{}", yaml_scalar(scalar));
        }
    }
}

fn yaml_value(out: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push('\n');
            yaml_below(out, value, depth + 1, false);
        }
        Value::Array(items) if !items.is_empty() => {
            out.push('\n');
            yaml_below(out, value, depth, false);
        }
        scalar => {
            let _ = writeln!(out, " {}", yaml_scalar(scalar));
        }
    }
}

fn yaml_scalar(value: &Value) -> String {
    match value {
        Value::String(text) => yaml_text(text),
        other => json(other, false),
    }
}

/// Plain where it is surely read as this text again.
fn yaml_text(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_-./+@".contains(c);
    let begins_plainly = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let words = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    let means_else = words.contains(&text.to_ascii_lowercase().as_str());
    if begins_plainly && !means_else && text.chars().all(is_word) {
        text.to_owned()
    } else {
        json(&Value::String(text.to_owned()), false)
    }
}

/// A time as people read it, to the minute, in UTC.
pub(crate) fn moment(at: &Value) -> String {
    let Some(text) = at.as_str() else { return String::new() };
    match text.parse::<Timestamp>() {
        Ok(at) => at.strftime("%Y-%m-%d %H:%MZ").to_string(),
        Err(_) => text.to_owned(),
    }
}

/// A field's text; numbers and truths as they are written.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// `critical` and its like in their colours.
pub(crate) fn style_of(word: &str) -> Style {
    match word {
        "critical" => BAD.bold(),
        "high" | "outdated" | "quarantined" | "failed" | "rejected" => BAD,
        "medium" | "unknown" | "silent" | "open" | "superseded" => WARN,
        "low" | "fixed" | "withdrawn" | "retired" | "revoked" | "replaced" | "cancelled" => DIM,
        "latest" | "active" | "current" => GOOD,
        _ => Style::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_in_display_width_and_end_without_spaces() {
        let mut table = Table::new(&["NAME", "CLASS", "ID"]);
        table.row(vec!["日本".into(), "vm".into(), "ci_1".into()]);
        table.row(vec!["a".into(), "".into(), "ci_2".into()]);
        table.row(vec!["evil\u{1b}[2J\n".into(), "host".into(), "".into()]);

        let text = anstream::adapter::strip_str(&table.take()).to_string();

        assert_eq!(
            text,
            "NAME       CLASS  ID\n\
             日本       vm     ci_1\n\
             a                 ci_2\n\
             evil\u{fffd}[2J\u{fffd}  host\n"
        );
        table.row(vec!["b".into(), "vm".into(), "ci_3".into()]);
        assert_eq!(table.take(), "b          vm     ci_3\n", "later rows keep the columns");
    }

    #[test]
    fn json_means_the_same_and_drives_no_terminal() {
        let value = json!({ "a": "x\u{9b}2J\u{202e}y\u{1b}\u{7f}", "b": [1, "ü"] });
        for text in [json(&value, true), json(&value, false), yaml(&value)] {
            assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
            assert!(!text.contains('\u{202e}'), "{text:?}");
        }
        assert_eq!(serde_json::from_str::<Value>(&json(&value, true)).unwrap(), value);
    }

    #[test]
    fn yaml_is_read_as_what_it_was() {
        let value = json!({
            "items": [
                {
                    "name": "web-1", "odd": "no", "number": "1.10", "date": "2026-11-24T00:00:00Z",
                    "empty": "", "list": ["a", 1, null, true, 1.5, -2], "none": [], "nothing": {},
                    "labels": { "env": "prod", "on": "off", "a: b": "# c", "x": "- y" },
                    "nested": [[1, "b"], [{ "c": "d" }], { "e": ["f"] }],
                    "text": "two\nlines\t", "quote": "\"'\\", "hex": "0x1F", "tilde": "~",
                    "hostile": "\u{9b}\u{2028}\u{feff}\u{202e}", "anchor": "&a *b !c", "inf": ".inf",
                },
                "plain",
                {},
            ],
            "next": null
        });

        let text = yaml(&value);

        assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), value, "{text}");
        assert!(text.starts_with("items:\n- name: web-1\n"), "{text}");
    }
}
