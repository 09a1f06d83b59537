//! deb822 sources (`sources.list(5)`, "DEB822-STYLE FORMAT").

use domain::deb822::{self, Paragraph};

use super::belief::Belief;
use super::{Architectures, ConfigError, Kind, Written};

pub(super) fn parse(path: &str, text: &str, written: &mut Vec<Written>) -> Result<(), ConfigError> {
    // Comments may stand anywhere, also between the lines of one field.
    let text: String = text.split_inclusive('\n').filter(|line| !line.starts_with('#')).collect();
    for (index, paragraph) in deb822::paragraphs(&text).enumerate() {
        let place = format!("`{path}`, stanza {}", index + 1);
        if flag(paragraph, "Enabled") == Some(false) {
            continue;
        }
        let types = words(paragraph, "Types");
        let kind = if types.iter().any(|kind| kind == "deb") {
            Kind::Binary
        } else if types.iter().any(|kind| kind == "deb-src") {
            Kind::Source
        } else {
            let reason = "its `Types` name neither `deb` nor `deb-src`".to_owned();
            return Err(ConfigError::Source { place, reason });
        };
        let source = Written {
            kind,
            uris: words(paragraph, "URIs"),
            suites: words(paragraph, "Suites"),
            components: words(paragraph, "Components"),
            architectures: Architectures {
                only: words(paragraph, "Architectures"),
                added: words(paragraph, "Architectures-Add"),
                removed: words(paragraph, "Architectures-Remove"),
            },
            belief: Belief {
                signed_by: paragraph.get("Signed-By").map(str::to_owned),
                trusted: flag(paragraph, "Trusted"),
                check_valid_until: flag(paragraph, "Check-Valid-Until"),
            },
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
    value.split_whitespace().map(str::to_owned).collect()
}

fn flag(paragraph: Paragraph<'_>, name: &str) -> Option<bool> {
    domain::apt_conf::parse_bool(paragraph.get(name)?)
}
