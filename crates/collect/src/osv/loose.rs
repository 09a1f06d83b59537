//! `database_specific` and `ecosystem_specific`: values of which only each database knows the
//! form, so that nothing in them may make a record unreadable.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Longest severity word that is taken.
const MAX_WORD: usize = 40;

/// The words about severity among a database's own fields: `urgency` before `severity`.
pub(super) fn severity_word(specific: Option<&RawValue>) -> Option<String> {
    let fields: Fields<'_> = serde_json::from_str(specific?.get()).ok()?;
    [fields.urgency, fields.severity].into_iter().flatten().find_map(|value| {
        let word: String = serde_json::from_str(value.get()).ok()?;
        (!word.is_empty() && word.len() <= MAX_WORD).then_some(word)
    })
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, default)]
    urgency: Option<&'a RawValue>,
    #[serde(borrow, default)]
    severity: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(json: &str) -> Option<String> {
        let raw: &RawValue = serde_json::from_str(json).unwrap();
        severity_word(Some(raw))
    }

    #[test]
    fn words_are_taken_and_anything_else_is_ignored() {
        assert_eq!(word(r#"{"urgency":"low"}"#).as_deref(), Some("low"));
        assert_eq!(word(r#"{"x":[{}],"severity":"HIGH"}"#).as_deref(), Some("HIGH"));
        assert_eq!(word(r#"{"urgency":null,"severity":"HIGH"}"#).as_deref(), Some("HIGH"));
        assert_eq!(word(r#"{"urgency":{"level":3},"severity":[1]}"#), None);
        assert_eq!(word(r#"{"urgency":""}"#), None);
        assert_eq!(word("[1,2]"), None);
        assert_eq!(word("7"), None);
        assert_eq!(severity_word(None), None);
    }
}
