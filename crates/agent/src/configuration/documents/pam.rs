//! How each service authenticates: the stacks of PAM with all that they include (pam.d(5)).

use std::collections::{BTreeMap, BTreeSet};

use super::Page;
use super::host::Host;
use super::page::{Unseen, in_order, words};

/// Where services are described; the first directory that has one counts.
const DIRECTORIES: [&str; 3] = ["/etc/pam.d", "/usr/lib/pam.d", "/usr/etc/pam.d"];

/// How deep files include others. PAM itself stops at 32 (libpam, `PAM_SUBSTACK_MAX_LEVEL`).
const DEEPEST: usize = 16;

/// Most rules of all services.
const MOST: usize = 50_000;

/// What rules may be for.
const KINDS: [&str; 4] = ["account", "auth", "password", "session"];

/// All services' rules, in their order.
pub(super) fn pam(host: &dyn Host) -> Page {
    let mut places: BTreeMap<String, &str> = BTreeMap::new();
    let mut first = None;
    for directory in DIRECTORIES {
        match host.names(directory) {
            Ok(names) => {
                for name in names {
                    places.entry(name).or_insert(directory);
                }
            }
            Err(error) => first = first.or(Some(Unseen::file(directory, &error))),
        }
    }
    if let (true, Some(because)) = (places.is_empty(), first) {
        return Err(because);
    }
    let mut stacks = Stacks { host, places: &places, facts: Vec::new() };
    for service in places.keys() {
        let is_backup =
            [".dpkg-", ".rpmsave", ".rpmnew", ".ucf-"].iter().any(|it| service.contains(it));
        if is_backup || service.ends_with('~') {
            continue;
        }
        for kind in KINDS {
            stacks.stack(service, service, kind, &mut BTreeSet::new(), "");
        }
        if stacks.facts.len() > MOST {
            return Err(Unseen::new(format!("there are more than {MOST} rules")));
        }
    }
    Ok(in_order(stacks.facts))
}

struct Stacks<'a> {
    host: &'a dyn Host,
    places: &'a BTreeMap<String, &'a str>,
    facts: Vec<String>,
}

impl Stacks<'_> {
    /// The rules of a kind in a file, for a service.
    fn stack(
        &mut self,
        service: &str,
        file: &str,
        kind: &str,
        within: &mut BTreeSet<String>,
        mark: &str,
    ) {
        let cannot = |because: &str| format!("{service} {kind} {mark}{file}: {because}");
        if within.len() == DEEPEST || !within.insert(file.to_owned()) {
            return self.facts.push(cannot("it is included in itself, or too deep"));
        }
        let place = match file.strip_prefix('/') {
            Some(_) => Some(file.to_owned()),
            None => self.places.get(file).map(|directory| format!("{directory}/{file}")),
        };
        let text = place.ok_or_else(|| "it is not there".to_owned()).and_then(|place| {
            let bytes = self.host.read(&place).map_err(|error| error.to_string())?;
            Ok(String::from_utf8_lossy(&bytes).replace("\\\n", " "))
        });
        match text {
            Ok(text) => {
                for line in text.lines() {
                    self.rule(service, line, kind, within, mark);
                    if self.facts.len() > MOST {
                        break;
                    }
                }
            }
            Err(because) => self.facts.push(cannot(&because)),
        }
        within.remove(file);
    }

    fn rule(
        &mut self,
        service: &str,
        line: &str,
        kind: &str,
        within: &mut BTreeSet<String>,
        mark: &str,
    ) {
        let line = words(without_comment(line));
        if let Some(file) = line.strip_prefix("@include ") {
            return self.stack(service, file, kind, within, mark);
        }
        let Some((its, rest)) = line.split_once(' ') else { return };
        // `-session`: no complaint where the module is missing.
        if its.trim_start_matches('-').to_ascii_lowercase() != kind {
            return;
        }
        let mut parts = rest.split(' ');
        match (parts.next(), parts.next()) {
            (Some("include"), Some(file)) => self.stack(service, file, kind, within, mark),
            (Some("substack"), Some(file)) => {
                // What ends such a stack early does not end the whole.
                let mark = format!("{mark}{file} > ");
                self.stack(service, file, kind, within, &mark);
            }
            _ => {
                let dash = if its.starts_with('-') { "-" } else { "" };
                self.facts.push(format!("{service} {dash}{kind} {mark}{rest}"));
            }
        }
    }
}

/// Comments begin with `#`, wherever it stands.
fn without_comment(line: &str) -> &str {
    line.split('#').next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
