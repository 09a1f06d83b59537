//! A report as one calm screen.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use domain::advisory::Provenance;
use domain::check::{
    Finding, OfferedBy, Report, SourceKind, SourceReport, SourceState, Status, UnknownAbout,
};
use domain::priority::{InputProvenance, Priority};
use jiff::Timestamp;

use crate::text::{count, fit, plain};

/// How many patches one screen shows before it says how to see the rest.
const ROWS: usize = 20;
/// How many unknown things it shows of each kind.
const UNKNOWN_ROWS: usize = 5;

/// How much of a report to show.
#[derive(Debug, Clone)]
pub(crate) enum Detail {
    /// One screen.
    Screen,
    /// Every patch.
    All,
    /// Everything about one package.
    Explain(String),
}

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();

/// Renders a report for a terminal of `width` columns.
pub(crate) fn render(report: &Report, detail: &Detail, width: usize) -> String {
    let mut out = String::new();
    heading(&mut out, report);
    if let Detail::Explain(package) = detail {
        explain(&mut out, report, package);
        return out;
    }
    sources(&mut out, report, width);
    verdict(&mut out, report);
    patches(&mut out, report, detail, width);
    runtime(&mut out, report);
    unknown(&mut out, report, detail, width);
    footer(&mut out, report, detail);
    out
}

fn heading(out: &mut String, report: &Report) {
    let os = if report.os.pretty_name.is_empty() { &report.os.id } else { &report.os.pretty_name };
    let _ = writeln!(
        out,
        "{BOLD}{}{BOLD:#}  {} · {} · {}",
        plain(&report.target),
        plain(os),
        plain(&report.architecture),
        count(report.packages, "package", "packages"),
    );
}

fn sources(out: &mut String, report: &Report, width: usize) {
    let _ = writeln!(out, "\n{BOLD}Checked against{BOLD:#}");
    let label = |source: &SourceReport| match source.kind {
        SourceKind::Apt => plain(source.suite.as_deref().unwrap_or("")),
        SourceKind::Osv => "OSV records".to_owned(),
        SourceKind::Kev => "CISA KEV".to_owned(),
    };
    let column = report.sources.iter().map(|source| label(source).chars().count()).max();
    let column = column.unwrap_or(0).min(28);
    for source in &report.sources {
        let name = fit(&label(source), column);
        match &source.state {
            SourceState::Refused { reason, help } => {
                let room = width.saturating_sub(column + 6).max(40);
                let what = format!("{}  {}", plain(&source.uri), plain(reason));
                let _ = writeln!(out, "  {BAD}✗{BAD:#} {name}  {}", fit(&what, room).trim_end());
                if let Some(help) = help {
                    let _ =
                        writeln!(out, "    {}  {DIM}help: {}{DIM:#}", fit("", column), plain(help));
                }
            }
            SourceState::Verified => {
                let _ =
                    writeln!(out, "  {GOOD}✓{GOOD:#} {name}  {}", archive_facts(source, report));
            }
            SourceState::Unsigned => {
                let facts = archive_facts(source, report);
                let _ = writeln!(out, "  {WARN}•{WARN:#} {name}  {facts}");
            }
        }
    }
}

fn archive_facts(source: &SourceReport, report: &Report) -> String {
    let mut facts = Vec::new();
    if source.kind != SourceKind::Apt {
        facts.push(plain(&source.uri));
    }
    if let Some(version) = &source.version {
        let whose = source.origin.as_deref().unwrap_or("version");
        facts.push(plain(&format!("{whose} {version}")));
    }
    if let Some(records) = source.records {
        facts.push(count(records, "record", "records"));
    }
    if let Some(date) = source.date {
        facts.push(format!("of {}, {}", day(date), age(date, report.checked_at)));
    }
    if let Some(until) = source.valid_until {
        facts.push(format!("valid until {}", day(until)));
    }
    facts.push(match source.signed_by.first() {
        Some(signer) => {
            let more = source.signed_by.len() - 1;
            let more = if more == 0 { String::new() } else { format!(" +{more}") };
            format!("signed by {}{more}", plain(short_name(&signer.user_id)))
        }
        None => "not signed".to_owned(),
    });
    facts.join(" · ")
}

/// User id without its mail address.
fn short_name(user_id: &str) -> &str {
    user_id.split_once(" <").map_or(user_id, |(name, _)| name)
}

fn day(at: Timestamp) -> String {
    at.strftime("%-d %b %Y").to_string()
}

fn age(at: Timestamp, now: Timestamp) -> String {
    let hours = now.duration_since(at).as_hours();
    match hours {
        ..=-1 => "from the future".to_owned(),
        0..=47 => format!("{hours} h old"),
        _ => format!("{} d old", hours / 24),
    }
}

fn verdict(out: &mut String, report: &Report) {
    let patches = grouped(report);
    let by_priority = |wanted: Priority| {
        patches.iter().filter(|patch| patch.first().decision.priority == wanted).count()
    };
    let _ = writeln!(out);
    match report.status {
        Status::Latest => {
            let _ = writeln!(out, "{GOOD}✓ latest{GOOD:#}  no patch is missing");
        }
        Status::Unknown => {
            let what = count(report.unknown.len(), "thing", "things");
            let _ = writeln!(
                out,
                "{WARN}? unknown{WARN:#}  no missing patch was found, but {what} could not be told"
            );
        }
        Status::Outdated => {
            let parts: Vec<String> = PRIORITIES
                .into_iter()
                .map(|priority| (priority, by_priority(priority)))
                .filter(|(_, number)| *number > 0)
                .map(|(priority, number)| {
                    let style = style_of(priority);
                    format!("{style}{number} {}{style:#}", word(priority))
                })
                .collect();
            let packages = count(report.findings.len(), "package", "packages");
            let _ = writeln!(
                out,
                "{BAD}✗ outdated{BAD:#}  {} missing on {packages}: {}",
                count(patches.len(), "patch is", "patches are"),
                parts.join(", ")
            );
        }
    }
}

const PRIORITIES: [Priority; 4] =
    [Priority::Critical, Priority::High, Priority::Medium, Priority::Low];

fn word(priority: Priority) -> &'static str {
    match priority {
        Priority::Critical => "critical",
        Priority::High => "high",
        Priority::Medium => "medium",
        Priority::Low => "low",
    }
}

fn style_of(priority: Priority) -> Style {
    match priority {
        Priority::Critical => BAD.bold(),
        Priority::High => BAD,
        Priority::Medium => WARN,
        Priority::Low => DIM,
    }
}

/// The findings of one patch: same source package, same fixed version.
struct Patch<'a> {
    findings: Vec<&'a Finding>,
}

impl<'a> Patch<'a> {
    fn first(&self) -> &'a Finding {
        self.findings[0]
    }

    fn cves(&self) -> BTreeSet<&'a str> {
        self.findings.iter().flat_map(|finding| &finding.cves).map(String::as_str).collect()
    }
}

/// Patches in the order of their most urgent finding.
fn grouped(report: &Report) -> Vec<Patch<'_>> {
    let mut patches: Vec<Patch<'_>> = Vec::new();
    let mut known: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for finding in &report.findings {
        let key = (finding.source.as_str(), finding.candidate_source.as_str());
        let at = *known.entry(key).or_insert_with(|| {
            patches.push(Patch { findings: Vec::new() });
            patches.len() - 1
        });
        patches[at].findings.push(finding);
    }
    patches
}

fn patches(out: &mut String, report: &Report, detail: &Detail, width: usize) {
    let all = grouped(report);
    if all.is_empty() {
        return;
    }
    let shown = if matches!(detail, Detail::All) { all.len() } else { all.len().min(ROWS) };
    let rows: Vec<Row> = all[..shown].iter().map(Row::of).collect();
    let widest = |pick: fn(&Row) -> &str, most: usize| {
        rows.iter().map(|row| pick(row).chars().count()).max().unwrap_or(0).min(most)
    };
    let source = widest(|row| &row.source, 28).max(6);
    let versions = widest(|row| &row.versions, (width / 2).max(30)).max(17);
    let cves = widest(|row| &row.cves, 20).max(4);
    let _ = writeln!(
        out,
        "\n  {DIM}{}  {}  {}  {}  WHY{DIM:#}",
        fit("PRIORITY", 8),
        fit("SOURCE", source),
        fit("INSTALLED → FIXED", versions),
        fit("CVES", cves),
    );
    for row in &rows {
        let style = style_of(row.priority);
        let _ = writeln!(
            out,
            "  {style}{}{style:#}  {}  {}  {}  {}",
            fit(word(row.priority), 8),
            fit(&row.source, source),
            fit(&row.versions, versions),
            fit(&row.cves, cves),
            row.why,
        );
    }
    if shown < all.len() {
        let _ = writeln!(out, "  {DIM}… {} more: --all{DIM:#}", all.len() - shown);
    }
}

struct Row {
    priority: Priority,
    source: String,
    versions: String,
    cves: String,
    why: String,
}

impl Row {
    fn of(patch: &Patch<'_>) -> Self {
        let finding = patch.first();
        let cves = patch.cves();
        let cves = match (cves.first(), cves.len()) {
            (None, _) => "–".to_owned(),
            (Some(first), 1) => plain(first),
            (Some(_), _) => {
                let newest = cves.iter().max_by_key(|cve| cve_number(cve)).expect("not empty");
                format!("{} +{}", plain(newest), cves.len() - 1)
            }
        };
        let mut why = plain(&finding.decision.reason);
        if finding.decision.unscored && !why.contains("unscored") {
            why.push_str(", unscored");
        }
        if patch.findings.iter().any(|finding| finding.held) {
            why.push_str(", held");
        }
        if finding.offered_by == OfferedBy::Advisory {
            why.push_str(", not in the configured archives");
        }
        Self {
            priority: finding.decision.priority,
            source: plain(&finding.source),
            versions: plain(&format!(
                "{} → {}",
                finding.installed_source, finding.candidate_source
            )),
            cves,
            why,
        }
    }
}

/// Year and number of a CVE id, for ordering.
fn cve_number(cve: &str) -> (u32, u32) {
    let mut parts = cve.split('-').skip(1).map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn runtime(out: &mut String, report: &Report) {
    let Some(runtime) = &report.runtime else { return };
    let mut lines = Vec::new();
    match &runtime.newest_installed_kernel {
        Some(newest) if *newest != runtime.running_kernel => lines.push(format!(
            "reboot: kernel {} runs, {} is installed",
            plain(&runtime.running_kernel),
            plain(newest)
        )),
        _ => {}
    }
    if let Some(packages) = &runtime.reboot_required_by {
        let by = if packages.is_empty() {
            String::new()
        } else {
            format!(" by {}", packages.join(", "))
        };
        lines.push(format!("reboot: requested{}", plain(&by)));
    }
    let mut by_unit: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for process in &runtime.stale_processes {
        let who = process.unit.clone().unwrap_or_else(|| process.command.clone());
        by_unit.entry(who).or_default().extend(process.deleted_files.iter().map(String::as_str));
    }
    for (who, files) in &by_unit {
        let first = files.first().copied().unwrap_or("");
        let name = first.rsplit('/').next().unwrap_or(first);
        let more = if files.len() > 1 { format!(" +{}", files.len() - 1) } else { String::new() };
        lines.push(format!("restart: {} still uses replaced {}{more}", plain(who), plain(name)));
    }
    if runtime.unreadable_processes > 0 {
        lines.push(format!(
            "{} could not be looked into, what they use is unknown",
            count(runtime.unreadable_processes as usize, "process", "processes")
        ));
    }
    if lines.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{BOLD}Running{BOLD:#}");
    for line in lines {
        let _ = writeln!(out, "  {WARN}↻{WARN:#} {line}");
    }
}

fn unknown(out: &mut String, report: &Report, detail: &Detail, width: usize) {
    if report.unknown.is_empty() && report.unfixed.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n{BOLD}Unknown{BOLD:#}");
    // One line for each reason, however many subjects share it.
    let mut by_reason: BTreeMap<(UnknownAbout, &str, Option<&str>), Vec<&str>> = BTreeMap::new();
    for item in &report.unknown {
        by_reason
            .entry((item.about, &item.reason, item.help.as_deref()))
            .or_default()
            .push(&item.subject);
    }
    for ((about, reason, help), subjects) in &by_reason {
        let shown = if matches!(detail, Detail::All) { subjects.len() } else { UNKNOWN_ROWS };
        let mut names: Vec<String> = subjects.iter().take(shown).map(|name| plain(name)).collect();
        if subjects.len() > shown {
            names.push(format!("+{}", subjects.len() - shown));
        }
        if *about == UnknownAbout::Source {
            // The reason already stands beside the source above.
            let _ = writeln!(out, "  {WARN}?{WARN:#} what only {} knows", names.join(", "));
            continue;
        }
        let room = width.saturating_sub(4).max(60);
        let line = format!("{}: {}", names.join(", "), plain(reason));
        for (index, part) in wrap(&line, room).iter().enumerate() {
            let mark = if index == 0 { "?" } else { " " };
            let _ = writeln!(out, "  {WARN}{mark}{WARN:#} {part}");
        }
        if let Some(help) = help {
            let _ = writeln!(out, "    {DIM}help: {}{DIM:#}", plain(help));
        }
    }
    if !report.unfixed.is_empty() {
        let cves: BTreeSet<&str> =
            report.unfixed.iter().flat_map(|item| &item.cves).map(String::as_str).collect();
        let _ = writeln!(
            out,
            "  {DIM}!{DIM:#} {} without a fix yet (see --format json)",
            count(cves.len(), "known vulnerability is", "known vulnerabilities are")
        );
    }
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let last = lines.last_mut().expect("starts with one line");
        if !last.is_empty() && last.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}

fn footer(out: &mut String, report: &Report, detail: &Detail) {
    if report.findings.is_empty() || matches!(detail, Detail::All) {
        return;
    }
    let _ = writeln!(
        out,
        "\n{DIM}priority by policy {} · more: --all, --explain PACKAGE, --format json{DIM:#}",
        report.policy.name
    );
}

fn explain(out: &mut String, report: &Report, name: &str) {
    let found: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.package == name || finding.source == name)
        .collect();
    let unknown: Vec<_> = report.unknown.iter().filter(|item| item.subject == name).collect();
    if found.is_empty() && unknown.is_empty() {
        let _ = writeln!(out, "\nNo patch is missing for `{}`.", plain(name));
        return;
    }
    for finding in found {
        explain_finding(out, finding);
    }
    for item in unknown {
        let _ =
            writeln!(out, "\n{WARN}?{WARN:#} {}: {}", plain(&item.subject), plain(&item.reason));
        if let Some(help) = &item.help {
            let _ = writeln!(out, "  {DIM}help: {}{DIM:#}", plain(help));
        }
    }
}

fn explain_finding(out: &mut String, finding: &Finding) {
    let decision = &finding.decision;
    let style = style_of(decision.priority);
    let _ = writeln!(
        out,
        "\n{BOLD}{}{BOLD:#} {} ({})",
        plain(&finding.package),
        plain(&finding.architecture),
        plain(&finding.source)
    );
    let mut field = |name: &str, value: String| {
        let _ = writeln!(out, "  {DIM}{}{DIM:#}  {value}", fit(name, 10));
    };
    field("installed", plain(&finding.installed));
    field("candidate", plain(&finding.candidate));
    field(
        "offered by",
        match &finding.offered_by {
            OfferedBy::Archive { suite, filename, .. } => plain(&format!("{suite}  {filename}")),
            OfferedBy::Advisory => "an advisory only; no configured archive has it".to_owned(),
        },
    );
    field(
        "priority",
        format!(
            "{style}{}{style:#}  {} ({} {})",
            word(decision.priority),
            plain(&decision.reason),
            decision.policy.name,
            decision.policy.version
        ),
    );
    for (input, value) in &decision.inputs {
        let by = match &value.provenance {
            InputProvenance::Given { by } => by.clone(),
            InputProvenance::Derived { from } => format!("derived from {from}"),
            InputProvenance::Assumed => "assumed".to_owned(),
        };
        let line = plain(&format!("{input}: {}  ({by})", value.value));
        field("", format!("{DIM}{line}{DIM:#}"));
    }
    if finding.held {
        field("held", "the administrator holds this package; apt will not upgrade it".to_owned());
    }
    if finding.cves.is_empty() {
        field("CVEs", "none named".to_owned());
    }
    for (row, chunk) in finding.cves.chunks(5).enumerate() {
        field(if row == 0 { "CVEs" } else { "" }, plain(&chunk.join("  ")));
    }
    for advisory in &finding.advisories {
        let derived = match &advisory.provenance {
            Provenance::DerivedFromChangelog { .. } => "  (derived from the package's changelog)",
            Provenance::Osv { .. } => "",
        };
        let date = advisory.published.map(|at| format!("  {}", day(at))).unwrap_or_default();
        let urgency =
            advisory.urgency.as_deref().map(|word| format!("  urgency {word}")).unwrap_or_default();
        field("advisory", plain(&format!("{}{date}{urgency}{derived}", advisory.id)));
    }
}
