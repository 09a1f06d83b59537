//! Who may do what as whom: the rules of sudo with all files that they include (sudoers(5)).

use super::Page;
use super::host::{Host, Question};
use super::page::{Unseen, in_order, words};

/// How deep files include others; sudo itself stops at 128.
const DEEPEST: usize = 32;

/// Most rules.
const MOST: usize = 50_000;

const FIRST: &str = "/etc/sudoers";

/// The rules in their order: the last one that fits counts. sudo's own program reads them, with aliases written out; where
/// there is none, they are read here, with aliases as they stand.
pub(super) fn sudoers(host: &dyn Host) -> Page {
    if let Err(error) = host.status(FIRST)
        && error.kind() == std::io::ErrorKind::NotFound
    {
        return Ok(in_order([format!("`{FIRST}` is not there: nobody may do anything by sudo")]));
    }
    // Without the configuration of its own, which could have it do otherwise.
    let argv = ["cvtsudoers", "-c", "/dev/null", "-e", "-f", "sudoers", FIRST];
    if let Ok(answer) = host.ask(&Question::new(&argv))
        && let Ok(text) = answer.told("cvtsudoers")
    {
        return Ok(in_order(rules(&text)));
    }
    let mut facts = Vec::new();
    read(host, FIRST, 0, &mut facts)?;
    Ok(in_order(facts))
}

/// Lines that belong together as one, without comments.
fn rules(text: &str) -> Vec<String> {
    let joined = text.replace("\\\n", " ");
    let rules = joined.lines().map(|line| words(without_comment(line)));
    rules.filter(|it| !it.is_empty()).collect()
}

fn read(host: &dyn Host, path: &str, depth: usize, facts: &mut Vec<String>) -> Result<(), Unseen> {
    if depth > DEEPEST {
        return Err(Unseen::new(format!("`{path}` is included in itself, or too deep")));
    }
    let text = host.read(path).map_err(|error| Unseen::file(path, &error))?;
    for line in rules(&String::from_utf8_lossy(&text)) {
        let included = ["@include ", "#include "].iter().find_map(|it| line.strip_prefix(it));
        let directory =
            ["@includedir ", "#includedir "].iter().find_map(|it| line.strip_prefix(it));
        if let Some(included) = included {
            read(host, &absolute(path, included), depth + 1, facts)?;
        } else if let Some(directory) = directory {
            let directory = absolute(path, directory);
            for name in host.names(&directory).unwrap_or_default() {
                // As sudo does: neither backups nor what package managers leave.
                if !name.contains('.') && !name.ends_with('~') {
                    read(host, &format!("{directory}/{name}"), depth + 1, facts)?;
                }
            }
        } else {
            facts.push(line);
        }
        if facts.len() > MOST {
            return Err(Unseen::new(format!("there are more than {MOST} rules")));
        }
    }
    Ok(())
}

fn absolute(from: &str, path: &str) -> String {
    let path = path.trim_matches('"');
    if path.starts_with('/') {
        return path.to_owned();
    }
    format!("{}/{path}", from.rsplit_once('/').map_or("", |(directory, _)| directory))
}

/// `#` begins a comment, but for directives, numbers of users, and within quotes.
fn without_comment(line: &str) -> &str {
    if line.starts_with("#include") {
        return line;
    }
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, letter) in line.char_indices() {
        match letter {
            _ if is_escaped => is_escaped = false,
            '\\' => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            '#' if !is_quoted => {
                let is_number =
                    line[at + 1..].starts_with(|it: char| it.is_ascii_digit() || it == '-');
                if !is_number {
                    return &line[..at];
                }
            }
            _ => {}
        }
    }
    line
}

#[cfg(test)]
mod tests;
