//! Debian changelogs (Debian Policy 4.4, `deb-changelog(5)`), read for what they say about fixes.

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::advisory::ChangelogEntry;

/// Most entries that are kept; the longest real changelogs have some 1,500.
const ENTRIES_LIMIT: usize = 10_000;
/// Most CVE ids that are kept for one entry; kernel updates name over a thousand.
const CVES_LIMIT: usize = 10_000;

/// All entries of a changelog, newest first as written. What is not understood is skipped.
pub fn parse(text: &str) -> Vec<ChangelogEntry> {
    let mut entries: Vec<ChangelogEntry> = Vec::new();
    for line in text.lines() {
        if let Some(entry) = header(line) {
            if entries.len() == ENTRIES_LIMIT {
                break;
            }
            if let Some(finished) = entries.last_mut() {
                finish(finished);
            }
            entries.push(entry);
            continue;
        }
        let Some(entry) = entries.last_mut() else { continue };
        if let Some(trailer) = line.strip_prefix(" -- ") {
            entry.date = date(trailer);
        } else if entry.cves.len() < CVES_LIMIT {
            collect_cves(line, &mut entry.cves);
        }
    }
    if let Some(finished) = entries.last_mut() {
        finish(finished);
    }
    entries
}

fn finish(entry: &mut ChangelogEntry) {
    entry.cves.sort();
    entry.cves.dedup();
}

/// `source (version) distribution…; urgency=medium`
fn header(line: &str) -> Option<ChangelogEntry> {
    if !line.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        return None;
    }
    let (_, rest) = line.split_once(" (")?;
    let (version, rest) = rest.split_once(')')?;
    let (distributions, metadata) = rest.split_once(';')?;
    if version.is_empty() || version.contains(char::is_whitespace) {
        return None;
    }
    let urgency = metadata
        .split(',')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("urgency"))
        // `urgency=high (security fix)` is written now and then.
        .and_then(|(_, word)| word.split_whitespace().next())
        .unwrap_or_default();
    Some(ChangelogEntry {
        version: version.to_owned(),
        distributions: distributions.split_whitespace().map(str::to_owned).collect(),
        urgency: urgency.to_ascii_lowercase(),
        date: None,
        cves: Vec::new(),
    })
}

/// `Name <mail>  Sat, 21 Nov 2026 10:00:00 +0100`
fn date(trailer: &str) -> Option<Timestamp> {
    let (_, date) = trailer.rsplit_once('>')?;
    DateTimeParser::new().relaxed_weekday(true).parse_timestamp(date.trim()).ok()
}

/// Adds every CVE id in the line, in upper case.
pub fn collect_cves(line: &str, into: &mut Vec<String>) {
    let bytes = line.as_bytes();
    let mut at = 0;
    while at + 9 < bytes.len() {
        if !bytes[at..at + 4].eq_ignore_ascii_case(b"CVE-") {
            at += 1;
            continue;
        }
        let digits = |from: usize| {
            bytes[from.min(bytes.len())..].iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let number_at = at + 9;
        let has_year = digits(at + 4) == 4 && bytes[at + 8] == b'-';
        let number = digits(number_at);
        if has_year && (4..=10).contains(&number) {
            let end = number_at + number;
            into.push(String::from_utf8_lossy(&bytes[at..end]).to_ascii_uppercase());
            at = end;
        } else {
            at += 4;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
expat (2.5.0-1+deb12u2) bookworm-security; urgency=high

  * Fix CVE-2025-59375, cve-2026-1234 (and CVE-2026-1234 again).
  * Not an id: CVE-2026, CVE-20-12345, CVE-2026-123, XCVE-2025-11111.

 -- A Person <person@example.org>  Thu, 22 Oct 2026 10:00:00 +0200

expat (2.5.0-1) unstable; urgency=medium, binary-only=yes

  * New upstream release.

 -- A Person <person@example.org>  Sun, 30 Oct 2022 10:00:00 +0100
";

    #[test]
    fn entries_are_read_with_their_facts() {
        let entries = parse(TEXT);

        assert_eq!(entries.len(), 2);
        assert_eq!(entries[0].version, "2.5.0-1+deb12u2");
        assert_eq!(entries[0].distributions, ["bookworm-security"]);
        assert_eq!(entries[0].urgency, "high");
        assert_eq!(entries[0].cves, ["CVE-2025-11111", "CVE-2025-59375", "CVE-2026-1234"]);
        assert_eq!(entries[0].date, Some("2026-10-22T08:00:00Z".parse().unwrap()));
        assert_eq!(entries[1].urgency, "medium");
        assert!(entries[1].cves.is_empty());
    }

    #[test]
    fn nonsense_gives_nothing() {
        assert_eq!(parse("no header\n  * CVE-2025-12345\n -- x\n"), []);
        assert_eq!(parse("a (1 2) x; urgency=low\n"), []);
        assert_eq!(parse(&"(".repeat(100_000)), []);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[ -~\n]{0,400}") {
            let _ = parse(&text);
        }
    }
}
