//! One-line sources (`sources.list(5)`, "ONE-LINE-STYLE FORMAT").

use super::{ConfigError, Kind, Written};

pub(super) fn parse(path: &str, text: &str, written: &mut Vec<Written>) -> Result<(), ConfigError> {
    for (index, line) in text.lines().enumerate() {
        let place = format!("`{path}`, line {}", index + 1);
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let refuse =
            |reason: &str| ConfigError::Source { place: place.clone(), reason: reason.to_owned() };
        let (kind, rest) =
            line.split_once(char::is_whitespace).ok_or_else(|| refuse("it names no archive"))?;
        let kind = match kind {
            "deb" => Kind::Binary,
            "deb-src" => Kind::Source,
            _ => return Err(refuse("it starts with neither `deb` nor `deb-src`")),
        };
        let mut source = Written { kind, place: place.clone(), ..Written::default() };
        let mut rest = rest.trim_start();
        if let Some(after) = rest.strip_prefix('[') {
            let (options, after) =
                after.split_once(']').ok_or_else(|| refuse("its `[` is not closed"))?;
            read_options(options, &mut source).map_err(|reason| refuse(&reason))?;
            rest = after;
        }
        let mut words = rest.split_whitespace().map(str::to_owned);
        let uri = words.next().ok_or_else(|| refuse("it has no URI"))?;
        let suite = words.next().ok_or_else(|| refuse("it has no suite"))?;
        source.components = words.collect();
        if source.components.is_empty() && !suite.ends_with('/') {
            return Err(refuse("it has no component, which only flat archives do without"));
        }
        source.uris = vec![uri];
        source.suites = vec![suite];
        written.push(source);
    }
    Ok(())
}

fn read_options(options: &str, source: &mut Written) -> Result<(), String> {
    for option in options.split_whitespace() {
        let (name, value) =
            option.split_once('=').ok_or_else(|| format!("its option `{option}` has no value"))?;
        let belief = &mut source.belief;
        match name {
            "arch" => source.architectures.only = names(value),
            "arch+" => source.architectures.added = names(value),
            "arch-" => source.architectures.removed = names(value),
            "signed-by" => belief.signed_by = Some(value.to_owned()),
            "trusted" => belief.trusted = domain::apt_conf::parse_bool(value),
            "check-valid-until" => belief.check_valid_until = domain::apt_conf::parse_bool(value),
            _ => {} // Options that change neither trust nor content.
        }
    }
    Ok(())
}

fn names(list: &str) -> Vec<String> {
    list.split(',').map(str::to_owned).collect()
}
