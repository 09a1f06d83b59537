//! deb822 sources (`sources.list(5)`, "DEB822-STYLE FORMAT").

use domain::deb822::{self, Paragraph};

use super::{ConfigError, Written};

pub(super) fn parse(path: &str, text: &str, written: &mut Vec<Written>) -> Result<(), ConfigError> {
    for (index, paragraph) in deb822::paragraphs(text).enumerate() {
        let place = format!("`{path}`, stanza {}", index + 1);
        if paragraph.fields().next().is_none() {
            continue; // A paragraph of comments.
        }
        let disabled = matches!(flag(paragraph, "Enabled"), Some(false));
        if disabled || !words(paragraph, "Types").iter().any(|kind| kind == "deb") {
            continue;
        }
        let source = Written {
            uris: words(paragraph, "URIs"),
            suites: words(paragraph, "Suites"),
            components: words(paragraph, "Components"),
            architectures: words(paragraph, "Architectures"),
            signed_by: paragraph.get("Signed-By").map(str::to_owned),
            trusted: flag(paragraph, "Trusted"),
            check_valid_until: flag(paragraph, "Check-Valid-Until"),
            place: place.clone(),
        };
        for (name, values) in [("URIs", &source.uris), ("Suites", &source.suites)] {
            if values.is_empty() {
                return Err(ConfigError::Source { place, reason: format!("it has no `{name}`") });
            }
        }
        if source.components.is_empty() && source.suites.iter().any(|suite| !suite.ends_with('/')) {
            let reason = "it has no `Components`, which only flat archives do without".to_owned();
            return Err(ConfigError::Source { place, reason });
        }
        written.push(source);
    }
    Ok(())
}

fn words(paragraph: Paragraph<'_>, name: &str) -> Vec<String> {
    let value = paragraph.get(name).unwrap_or_default();
    // Comment lines may stand between continuation lines.
    value
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(str::split_whitespace)
        .map(str::to_owned)
        .collect()
}

fn flag(paragraph: Paragraph<'_>, name: &str) -> Option<bool> {
    super::conf::parse_bool(paragraph.get(name)?)
}
