//! From text to a document, and from a key back to its place in the text.

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use super::error::{Place, PolicyError};
use super::policy::Document;

/// Longest text that is read; the built-in policy has about 4 KiB.
const MAX_TEXT: usize = 256 * 1024;

/// The text as a table.
pub(super) fn table(text: &str) -> Result<Table, PolicyError> {
    if text.len() > MAX_TEXT {
        let reason = format!("it has {} bytes, more than {MAX_TEXT}", text.len());
        return Err(PolicyError::Syntax { place: None, reason });
    }
    text.parse().map_err(|error: toml::de::Error| PolicyError::Syntax {
        place: error.span().map(|span| place(text, span.start)),
        reason: error.message().to_owned(),
    })
}

/// The table as a document; errors are told with their place in `text`.
pub(super) fn document(table: Table, text: &str) -> Result<Document, PolicyError> {
    from_table(table).map_err(|error| error.located(text))
}

/// The table as what it is to be.
pub(super) fn from_table<T: DeserializeOwned>(table: Table) -> Result<T, PolicyError> {
    Value::Table(table).try_into().map_err(|error: toml::de::Error| PolicyError::Key {
        key: key_of(&error),
        place: None,
        reason: error.message().to_owned(),
    })
}

/// The path of the key that an error is about. The library keeps it private and says it in the
/// last line of its text only (``in `high.notice` ``); it adds the name of a field itself where
/// one is missing or unknown.
fn key_of(error: &toml::de::Error) -> String {
    let text = error.to_string();
    let path = text.trim_end().lines().last().and_then(|line| line.strip_prefix("in `"));
    let path = path.and_then(|path| path.strip_suffix('`')).unwrap_or_default();
    let message = error.message();
    let of_a_field = ["missing field `", "unknown field `"]
        .iter()
        .find_map(|start| message.strip_prefix(start)?.split('`').next());
    match (path, of_a_field) {
        (path, None) => path.to_owned(),
        ("", Some(field)) => field.to_owned(),
        // An unknown key may already stand at the end of the path.
        (path, Some(field)) if path.rsplit('.').next() == Some(field) => path.to_owned(),
        (path, Some(field)) => format!("{path}.{field}"),
    }
}

/// A document as a table.
pub(super) fn to_table(document: &impl Serialize) -> Table {
    Table::try_from(document).expect("every part of a policy has a form in TOML")
}

/// Puts the values of `over` in place of those below. Tables are joined, all else is replaced; a
/// table with another `mode` or a `preset` is replaced, as the other keys belong to the old one.
pub(super) fn lay_over(below: &mut Table, over: Table) {
    for (key, value) in over {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(over))
                if !over.contains_key("preset")
                    && over.get("mode").is_none_or(|mode| below.get("mode") == Some(mode)) =>
            {
                lay_over(below, over);
            }
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// Where a key stands; where it does not, the nearest table around it that does.
pub(super) fn locate(text: &str, key: &str) -> Option<Place> {
    let root = DeTable::parse(text).ok()?;
    let mut table: &DeTable<'_> = root.get_ref();
    let mut found = None;
    for part in key.split('.') {
        let Some((name, value)) = table.iter().find(|(name, _)| name.get_ref() == part) else {
            break;
        };
        found = Some(name.span().start);
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => break,
        }
    }
    found.map(|offset| place(text, offset))
}

fn place(text: &str, offset: usize) -> Place {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Place {
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}
