//! Packet filters: rulesets of nftables, and of iptables where it keeps its own.

use std::collections::BTreeMap;

use super::Page;
use super::host::{Host, Question};
use super::page::{self, words};

/// The ruleset of nftables without counters and handles.
pub(super) fn nftables(host: &dyn Host) -> Page {
    let answer = host.ask(&Question::new(&["nft", "-s", "list", "ruleset"]))?;
    Ok(canonical(&answer.told("nft")?))
}

/// The tables of iptables, as far as it keeps them itself: its newer programs write them to nftables, and there they are
/// seen.
pub(super) fn iptables(host: &dyn Host) -> Page {
    let families = [
        ("ip", "/proc/net/ip_tables_names", "iptables-legacy-save", "iptables-save"),
        ("ip6", "/proc/net/ip6_tables_names", "ip6tables-legacy-save", "ip6tables-save"),
    ];
    // The list names only tables of the kernel's older interface, to root alone.
    let names = families.map(|(_, names, ..)| host.read(names).unwrap_or_default());
    if names.iter().all(Vec::is_empty) {
        return Ok(page::in_order(["none beside those of nftables".to_owned()]));
    }
    let mut facts = Vec::new();
    for (family, _, legacy, usual) in families {
        let text = match host.ask(&Question::new(&[legacy])) {
            Ok(answer) => answer.told(legacy)?,
            Err(_) => host.ask(&Question::new(&[usual]))?.told(usual)?,
        };
        facts.extend(saved(family, &text));
    }
    Ok(page::in_order(facts))
}

/// Rules as `iptables-save` writes them: tables by their names, the rules of each in their order.
fn saved(family: &str, text: &str) -> Vec<String> {
    let mut tables: BTreeMap<&str, (Vec<String>, Vec<String>)> = BTreeMap::new();
    let mut table = "";
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
        } else if let Some(chain) = line.strip_prefix(':') {
            // `INPUT ACCEPT [12:3456]`
            let chain = chain.rsplit_once(" [").map_or(chain, |(chain, _)| chain);
            tables.entry(table).or_default().0.push(format!("{family} {table}: chain {chain}"));
        } else if !line.is_empty() && !line.starts_with('#') && line != "COMMIT" {
            let rule = without_counters(line);
            tables.entry(table).or_default().1.push(format!("{family} {table}: {rule}"));
        }
    }
    let in_order = tables.into_values().flat_map(|(mut chains, rules)| {
        chains.sort();
        chains.extend(rules);
        chains
    });
    in_order.collect()
}

/// `[12:3456] -A INPUT -j ACCEPT`, as `-c` writes it.
fn without_counters(rule: &str) -> &str {
    match rule.strip_prefix('[').and_then(|rest| rest.split_once("] ")) {
        Some((counters, rule)) if counters.bytes().all(|it| it.is_ascii_digit() || it == b':') => {
            rule
        }
        _ => rule,
    }
}

/// One line for each rule and each element of a set, with the table and chain that it belongs to. Tables, chains and sets
/// are sorted by name; rules of a chain stay in their order. Elements that packets put into sets, and those that go after a
/// while, are left out.
fn canonical(ruleset: &str) -> String {
    let mut blocks: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let (mut table, mut block) = (None::<String>, None::<String>);
    let mut pending = String::new();
    for text in ruleset.lines().map(str::trim) {
        if text.is_empty() || (pending.is_empty() && text.starts_with('#')) {
            continue;
        }
        if pending.is_empty() && text == "}" {
            // The chain ends first, then its table.
            if block.take().is_none() {
                table = None;
            }
            continue;
        }
        if let (true, None, Some(head)) = (pending.is_empty(), &block, text.strip_suffix('{')) {
            let head = words(head);
            match &table {
                None => {
                    blocks.entry(head.clone()).or_default();
                    table = Some(head);
                }
                Some(table) => {
                    let name = format!("{table} {head}");
                    blocks.entry(name.clone()).or_default();
                    block = Some(name);
                }
            }
            continue;
        }
        if !pending.is_empty() {
            pending.push(' ');
        }
        pending.push_str(text);
        if is_open(&pending) {
            continue;
        }
        let place = block.as_ref().or(table.as_ref()).cloned().unwrap_or_default();
        blocks.entry(place).or_default().push(words(&std::mem::take(&mut pending)));
    }
    let mut facts = Vec::new();
    for (name, lines) in blocks {
        let is_dynamic = lines.iter().any(|it| it.starts_with("flags ") && it.contains("dynamic"));
        facts.push(name.clone());
        for line in lines {
            match line.strip_prefix("elements = {").and_then(|it| it.strip_suffix('}')) {
                Some(_) if is_dynamic => {}
                Some(elements) => {
                    let mut elements = split(elements);
                    elements.sort();
                    facts.extend(elements.into_iter().map(|it| format!("{name}: element {it}")));
                }
                None => facts.push(format!("{name}: {line}")),
            }
        }
    }
    page::in_order(facts)
}

/// Whether a brace of it is not closed yet; those within quotes are letters.
fn is_open(text: &str) -> bool {
    let (mut depth, mut is_quoted) = (0_i32, false);
    for letter in text.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            '{' if !is_quoted => depth += 1,
            '}' if !is_quoted => depth -= 1,
            _ => {}
        }
    }
    depth > 0
}

/// Elements of a set that stay.
fn split(elements: &str) -> Vec<String> {
    let (mut found, mut is_quoted) = (vec![String::new()], false);
    for letter in elements.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                found.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = found.last_mut() {
            last.push(letter);
        }
    }
    let elements = found.into_iter().map(|it| words(&it)).filter(|it| !it.is_empty());
    elements.filter(|it| !it.contains(" timeout ")).collect()
}

#[cfg(test)]
mod tests;
