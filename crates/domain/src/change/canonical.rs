//! One spelling for each document (RFC 8785), because a hash or a signature is over bytes.
//!
//! We keep to texts, whole numbers below 2⁵³, lists and objects with names in ASCII: there canonical
//! means members in the order of their names, no white space and the shortest escapes.

use std::fmt::Write as _;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Bytes that are not the one spelling of a document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCanonical {
    /// More than anybody needs.
    #[error("the document has {size} bytes, more than {limit}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Something else than the document expected.
    #[error("the document cannot be read: {0}")]
    Unreadable(String),
    /// The same document has another spelling: members in another order, more or fewer of them,
    /// blanks, other escapes.
    #[error("the document is not in its canonical form: it differs from byte {at}")]
    OtherSpelling {
        /// Offset of the first byte that differs.
        at: usize,
    },
}

impl NotCanonical {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => {
                "split it: a plan for each tenant and window, a rule for some of the items"
            }
            Self::Unreadable(_) => "give the bytes as they were published",
            Self::OtherSpelling { .. } => {
                "sign the bytes as they were published; do not format them"
            }
        }
    }
}

/// The one spelling of a document.
pub(super) fn to_canonical(document: &impl Serialize) -> Vec<u8> {
    let value = serde_json::to_value(document)
        .expect("our documents are texts, whole numbers, lists and objects");
    let mut text = String::with_capacity(512);
    write(&mut text, &value);
    text.into_bytes()
}

/// The document that these bytes are the one spelling of.
pub(super) fn from_canonical<T>(bytes: &[u8], limit: usize) -> Result<T, NotCanonical>
where
    T: Serialize + DeserializeOwned,
{
    if bytes.len() > limit {
        return Err(NotCanonical::TooLong { size: bytes.len(), limit });
    }
    let document: T = serde_json::from_slice(bytes)
        .map_err(|error| NotCanonical::Unreadable(error.to_string()))?;
    let ours = to_canonical(&document);
    if ours == bytes {
        return Ok(document);
    }
    let same = ours.iter().zip(bytes).take_while(|(ours, theirs)| ours == theirs).count();
    Err(NotCanonical::OtherSpelling { at: same })
}

fn write(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => {
            // Whether the map is sorted depends on what else is in the build.
            let mut members: Vec<_> = members.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            text.push('{');
            for (place, (name, value)) in members.into_iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                debug_assert!(name.is_ascii(), "sorted by UTF-16 units elsewhere: {name}");
                let _ = write!(text, "{}:", Value::from(name.as_str()));
                write(text, value);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (place, value) in values.iter().enumerate() {
                if place > 0 {
                    text.push(',');
                }
                write(text, value);
            }
            text.push(']');
        }
        Value::Number(_) | Value::String(_) | Value::Bool(_) | Value::Null => {
            debug_assert!(!value.is_f64(), "a fraction has more than one spelling: {value}");
            let _ = write!(text, "{value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_sorted_at_each_depth_and_escapes_are_the_shortest() {
        let value = json!({"b": [{"z": 1, "a": "\u{7}\n\"é"}], "a": null});

        let bytes = to_canonical(&value);

        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, "{\"a\":null,\"b\":[{\"a\":\"\\u0007\\n\\\"é\",\"z\":1}]}");
    }

    #[test]
    fn another_spelling_of_the_same_is_refused_and_the_place_told() {
        for (bytes, at) in [(r#"{"a": 1}"#, 5), (r#"{"b":1,"a":1}"#, 2), (r#"{"\u0061":1}"#, 2)] {
            let error = from_canonical::<Value>(bytes.as_bytes(), 100).unwrap_err();
            assert_eq!(error, NotCanonical::OtherSpelling { at }, "{bytes}");
        }
        assert!(from_canonical::<Value>(br#"{"a":1,"b":1}"#, 100).is_ok());
    }

    #[test]
    fn a_long_document_is_not_read() {
        let error = from_canonical::<Value>(b"[1,2]", 4).unwrap_err();

        assert_eq!(error, NotCanonical::TooLong { size: 5, limit: 4 });
    }
}
