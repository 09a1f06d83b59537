//! Who has an account: users with their groups and whether a password lets them in, never which.

use std::collections::BTreeMap;

use super::Page;
use super::host::Host;
use super::page::{Unseen, sorted};

/// Most lines of a file that are looked at.
const MOST: usize = 100_000;

/// Users and groups.
pub(super) fn accounts(host: &dyn Host) -> Page {
    let read = |path: &str| match host.read(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(Unseen::file(path, &error)),
    };
    let (users, groups) = (read("/etc/passwd")?, read("/etc/group")?);
    let shadow = read("/etc/shadow");
    let passwords: BTreeMap<String, Vec<String>> = fields(shadow.as_deref().unwrap_or_default())
        .filter_map(|fields| Some((fields.first()?.clone(), fields)))
        .collect();
    let group_names: BTreeMap<String, String> =
        fields(&groups).filter_map(|it| Some((it.get(2)?.clone(), it.first()?.clone()))).collect();
    let mut facts = Vec::new();
    for user in fields(&users) {
        let [name, password, uid, gid, _, home, shell] = &user[..] else {
            facts.push("a line of `/etc/passwd` is not understood".to_owned());
            continue;
        };
        let group = group_names.get(gid).unwrap_or(gid);
        facts.push(format!("user {name}: uid {uid}, group {group}, home {home}, shell {shell}"));
        let (lets, expires) = match (password.as_str(), passwords.get(name), &shadow) {
            ("x", _, Err(because)) => (format!("unseen: {because}"), None),
            ("x", None, Ok(_)) => ("no password".to_owned(), None),
            ("x", Some(entry), Ok(_)) => {
                let expires = entry.get(7).filter(|it| !it.is_empty());
                (lets(entry.get(1).map_or("", String::as_str)), expires)
            }
            (other, ..) => (lets(other), None),
        };
        facts.push(format!("user {name}: {lets}"));
        if let Some(days) = expires {
            facts.push(format!("user {name}: expires on day {days} since 1970"));
        }
    }
    for group in fields(&groups) {
        let [name, _, gid, members] = &group[..] else {
            facts.push("a line of `/etc/group` is not understood".to_owned());
            continue;
        };
        facts.push(format!("group {name}: gid {gid}"));
        for member in members.split(',').filter(|it| !it.is_empty()) {
            facts.push(format!("group {name}: member {member}"));
        }
    }
    Ok(sorted(facts))
}

/// What a field for a password lets somebody do (shadow(5)).
fn lets(field: &str) -> String {
    let word = match field {
        "" => "no password is asked for",
        "*" | "x" => "no password",
        // `!` before a hash: it was locked and may be unlocked.
        locked if locked.starts_with('!') && locked.len() > 2 => "password locked",
        none if none.starts_with(['!', '*']) => "no password",
        _ => "has a password",
    };
    word.to_owned()
}

fn fields(text: &str) -> impl Iterator<Item = Vec<String>> + '_ {
    let lines = text.lines().take(MOST).filter(|it| !it.trim().is_empty() && !it.starts_with('#'));
    lines.map(|line| line.split(':').map(str::to_owned).collect())
}

/// Names of users by their numbers; the first one counts, as it does for the system.
pub(super) fn names(host: &dyn Host) -> BTreeMap<u32, String> {
    let text = host.read("/etc/passwd").unwrap_or_default();
    let mut names = BTreeMap::new();
    for it in fields(&String::from_utf8_lossy(&text)) {
        if let (Some(name), Some(Ok(uid))) = (it.first(), it.get(2).map(|it| it.parse())) {
            names.entry(uid).or_insert_with(|| name.clone());
        }
    }
    names
}

/// The name of a user.
pub(super) fn name(host: &dyn Host, uid: u32) -> Option<String> {
    names(host).remove(&uid)
}

#[cfg(test)]
mod tests;
