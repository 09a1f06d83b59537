//! What differs between two policies, key by key, in words.

use std::collections::BTreeSet;
use std::fmt;

use toml::{Table, Value};

use super::{Policy, Wait, read};

/// One key that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key's path (`high.notice.lead`).
    pub key: String,
    /// The value before; `None` where the key is new.
    pub before: Option<String>,
    /// The value after; `None` where the key is gone.
    pub after: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => {
                write!(formatter, "`{key}` changes from {before} to {after}")?;
                match (before.parse::<Wait>(), after.parse::<Wait>()) {
                    (Ok(before), Ok(after)) => match (before.exact(), after.exact()) {
                        (Some(before), Some(after)) if after < before => {
                            formatter.write_str(": shorter")
                        }
                        (Some(_), Some(_)) => formatter.write_str(": longer"),
                        _ => Ok(()),
                    },
                    _ => Ok(()),
                }
            }
            (None, Some(after)) => write!(formatter, "`{key}` is added: {after}"),
            (Some(before), None) => write!(formatter, "`{key}` is removed; it was {before}"),
            (None, None) => write!(formatter, "`{key}` is the same"),
        }
    }
}

/// What changes from one policy to another, in the order of keys.
pub fn diff(before: &Policy, after: &Policy) -> Vec<Difference> {
    let mut differences = Vec::new();
    let tables = (read::to_table(before.document()), read::to_table(after.document()));
    compare(&tables.0, &tables.1, "", &mut differences);
    differences
}

fn compare(before: &Table, after: &Table, path: &str, differences: &mut Vec<Difference>) {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in keys {
        let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        match (before.get(name), after.get(name)) {
            (Some(Value::Table(before)), Some(Value::Table(after))) => {
                compare(before, after, &key, differences);
            }
            (before, after) if before != after => differences.push(Difference {
                key,
                before: before.map(in_words),
                after: after.map(in_words),
            }),
            _ => {}
        }
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(in_words).collect::<Vec<_>>().join(", "),
        Value::Table(table) => {
            let parts: Vec<String> =
                table.iter().map(|(key, value)| format!("{key} {}", in_words(value))).collect();
            format!("({})", parts.join("; "))
        }
        other => other.to_string(),
    }
}
