//! What a drill leaves: a report in JSON, the same signed, and the same as a page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use ledger::attestation::{Attestor, Digest, Statement};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::course::{Act, Outcome};
use super::faults::Fault;
use super::terms::Term;

/// What the signed statement's predicate is.
const PREDICATE: &str = "urn:patchwright:drill:v1";

/// The names of X.1642's requirements, as far as a drill exercises them.
const REQUIREMENTS: [(&str, &str); 34] = [
    ("R1", "exposure falls while stability holds"),
    ("R2", "provider and tenants patch together"),
    ("R3", "new patches are found in time"),
    ("R4", "each patch is tested for security and adaptability"),
    ("R5", "the image is patched, and a new one made"),
    ("R6", "tenants are informed and helped"),
    ("R7", "nothing starts from an old image any more"),
    ("R8", "a VM is really made from the new image"),
    ("R9", "tenants find patches"),
    ("R10", "tenants' machines are updated in time"),
    ("R11", "duty follows control"),
    ("R12", "inventory of what is patched"),
    ("R13", "a closed loop"),
    ("R14", "official sources, automatically"),
    ("R15", "tested before release, with a way back"),
    ("R16", "tenants are told before patching"),
    ("R17", "services are not harmed, as agreed together"),
    ("R18", "the whole platform is checked"),
    ("R19", "patching records"),
    ("R20", "archived for audit"),
    ("R21", "waits for each priority"),
    ("R22", "approval for each priority"),
    ("R23", "images in parallel with machines"),
    ("R24", "new machines from the new image"),
    ("R25", "a scan proves the update"),
    ("R32", "logs kept and archived"),
    ("R34", "illegal change is seen"),
    ("R37", "terms negotiable per tenant"),
    ("R38", "patching is an item of the SLA"),
    ("R39", "strong authentication"),
    ("R45", "drills recorded and reported"),
    ("R46", "recovery"),
    ("R47", "an audit trail that is shared"),
    ("R49", "evidence by program"),
];

/// The whole report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The form of this document.
    pub(super) schema: &'static str,
    /// Whether everything was as it was to be.
    pub(super) passed: bool,
    /// Why not.
    pub(super) because: Option<String>,
    /// What went wrong on purpose, and what had to come of it.
    pub(super) faults: Vec<Injected>,
    /// When it began.
    pub(super) began_at: Timestamp,
    /// When it ended.
    pub(super) ended_at: Timestamp,
    /// How long it took.
    pub(super) took_seconds: f64,
    /// The program.
    pub(super) version: &'static str,
    /// What the machines were made from.
    pub(super) image: Image,
    /// How their code was run.
    pub(super) accelerator: lab::Accelerator,
    /// One minute of the drill stands for so many of the contract's waits. Time itself is real.
    pub(super) time_scale: u32,
    /// The waits of the contracts, and of the drill.
    pub(super) terms: Vec<Term>,
    /// What was done.
    pub(super) acts: Vec<Act>,
    /// The requirements of X.1642 that were exercised by what was done as it was to be.
    pub(super) requirements: Vec<Requirement>,
    /// The record of it all.
    pub(super) ledger: Option<Record>,
}

/// A fault, and its right end.
#[derive(Debug, Serialize)]
pub(super) struct Injected {
    pub(super) name: Fault,
    pub(super) expected: &'static str,
}

/// The current image.
#[derive(Debug, Serialize)]
pub(super) struct Image {
    pub(super) name: String,
    pub(super) sha256: String,
}

/// A requirement.
#[derive(Debug, Serialize)]
pub(super) struct Requirement {
    pub(super) number: &'static str,
    pub(super) asks: &'static str,
}

/// The exported ledger.
#[derive(Debug, Serialize)]
pub(super) struct Record {
    pub(super) size: u64,
    pub(super) root: String,
    pub(super) key: String,
}

/// Which requirements were exercised, in their order.
pub(super) fn exercised(acts: &[Act]) -> Vec<Requirement> {
    let done = acts.iter().filter(|act| act.outcome == Outcome::Done);
    let numbers: BTreeSet<&str> = done.flat_map(|act| act.requirements.iter().copied()).collect();
    let known =
        REQUIREMENTS.iter().filter(|(number, _)| numbers.contains(number) || *number == "R45");
    known.map(|(number, asks)| Requirement { number, asks }).collect()
}

/// Where the parts of a report lie.
pub(super) struct Written {
    pub(super) json: PathBuf,
    pub(super) signed: PathBuf,
    pub(super) page: PathBuf,
}

/// Writes the report, and signs it.
pub(super) fn write(report: &Report, attestor: &Attestor, into: &Path) -> Result<Written> {
    let written = Written {
        json: into.join("drill.json"),
        signed: into.join("drill.dsse.json"),
        page: into.join("drill.html"),
    };
    let text = serde_json::to_vec_pretty(report)?;
    let page = page(report, &attestor.key().to_string()).into_string();
    let statement = Statement::new(PREDICATE)
        .about("drill.json", Digest::of(&text))
        .about("drill.html", Digest::of(page.as_bytes()))
        .saying(report)?;
    let envelope = serde_json::to_vec(&attestor.attest(&statement)?)?;
    for (place, bytes) in
        [(&written.json, &text[..]), (&written.signed, &envelope), (&written.page, page.as_bytes())]
    {
        fs::write(place, bytes).with_context(|| format!("cannot write `{}`", place.display()))?;
    }
    Ok(written)
}

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1b1f24;--dim:#667;--line:#d8dbe0;--good:#127a43;--bad:#b3261e;--soft:#f5f6f8;--paper:#fff}
@media(prefers-color-scheme:dark){:root{--ink:#e6e8eb;--dim:#99a;--line:#353a42;--good:#5fd08f;--bad:#ff8a80;--soft:#1d2127;--paper:#14171b}}
body{font:16px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);max-width:60rem;margin:3rem auto;padding:0 1.5rem}
h1{font-size:1.9rem;margin:0 0 .3rem}h2{font-size:1.15rem;margin:2.6rem 0 .8rem}
p.lead{font-size:1.1rem;color:var(--dim);margin:0 0 1.4rem}
.good{color:var(--good)}.bad{color:var(--bad)}.dim{color:var(--dim)}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.4rem;margin:0}dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}
ol{list-style:none;padding:0;margin:0}li.act{border-top:1px solid var(--line);padding:.9rem 0}
.head{display:flex;gap:.8rem;align-items:baseline}.head b{flex:1;font-weight:600}.head time{color:var(--dim);font-variant-numeric:tabular-nums}
.act dl{margin:.4rem 0 0 1.6rem;font-size:.92rem}.tags{margin:.4rem 0 0 1.6rem}
.tag{display:inline-block;font-size:.78rem;border:1px solid var(--line);border-radius:.8rem;padding:0 .55rem;margin-right:.3rem;color:var(--dim)}
table{border-collapse:collapse;width:100%;font-size:.92rem}th{text-align:left;font-weight:600;color:var(--dim)}
th,td{border-bottom:1px solid var(--line);padding:.3rem .8rem .3rem 0;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
svg text{fill:var(--dim);font-size:11px}code{font-size:.88rem;overflow-wrap:anywhere}
details summary{cursor:pointer;color:var(--dim)}
";

fn page(report: &Report, key: &str) -> Markup {
    let word = if report.passed { "passed" } else { "failed" };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width,initial-scale=1";
                title { "Drill of " (day(report.began_at)) ": " (word) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 {
                    @if report.passed { span.good { "✓ " } "The drill passed" }
                    @else { span.bad { "✗ " } "The drill failed" }
                }
                p.lead {
                    "The whole loop of ITU-T X.1642 8.7 on scratch machines, "
                    (day(report.began_at)) ", in " (minutes(report.took_seconds)) "."
                }
                @if let Some(because) = &report.because { p.bad { (because) } }
                @for fault in &report.faults {
                    p { "On purpose: " b { (word_of(fault.name)) } ". It had to end so: " (fault.expected) "." }
                }
                dl {
                    dt { "image" } dd { (report.image.name) " " code { (report.image.sha256) } }
                    dt { "machines" } dd { "QEMU with " (report.accelerator) }
                    dt { "time" } dd {
                        "real; the waits of the contracts are " (report.time_scale)
                        " times shorter than agreed, and no shorter than a minute"
                    }
                    @if let Some(record) = &report.ledger {
                        dt { "record" } dd { (record.size) " entries, root " code { (record.root) } }
                        dt { "its key" } dd { code { (record.key) } }
                    }
                    dt { "program" } dd { "patchwright " (report.version) }
                }
                h2 { "What was done" }
                (timeline(report))
                ol { @for act in &report.acts { (shown(act)) } }
                h2 { "What X.1642 asks, and was exercised" }
                table {
                    @for it in &report.requirements { tr { td { b { (it.number) } } td { (it.asks) } } }
                }
                h2 { "The waits" }
                details {
                    summary { "As agreed, and as the drill had them" }
                    table {
                        tr { th { "tenant" } th { "priority" } th { "wait" } th { "agreed" } th { "here" } }
                        @for term in &report.terms {
                            tr {
                                td { (term.tenant) } td { (term.priority) } td { (term.wait) }
                                td.n { (span(term.contract_minutes)) } td.n { (term.drill_minutes) " min" }
                            }
                        }
                    }
                }
                h2 { "Who says so" }
                p {
                    "drill.dsse.json beside this page is an in-toto statement in a DSSE envelope. It names the SHA-256 of "
                    "this page and of drill.json. Whoever has the key below verifies it with OpenSSL, as docs/drill.md says."
                }
                pre { code { (key) } }
            }
        }
    }
}

fn shown(act: &Act) -> Markup {
    html! {
        li.act {
            div.head {
                @if act.outcome == Outcome::Done { span.good { "✓" } } @else { span.bad { "✗" } }
                b { (act.title) }
                time { (format!("{:.1} s", act.took_seconds)) }
            }
            dl { @for fact in &act.facts { dt { (fact.of) } dd { (fact.seen) } } }
            div.tags { @for number in &act.requirements { span.tag { (number) } } }
        }
    }
}

/// When each act was under way.
fn timeline(report: &Report) -> Markup {
    const WIDTH: f64 = 900.0;
    const ROW: u32 = 20;
    let whole = report.took_seconds.max(1.0);
    let mut acts: Vec<&Act> = report.acts.iter().collect();
    acts.sort_by_key(|act| act.at);
    let rows = u32::try_from(acts.len()).unwrap_or(u32::MAX);
    let height = f64::from(ROW.saturating_mul(rows)) + 24.0;
    let mut bars = String::new();
    for (row, act) in (0_u32..).zip(&acts) {
        let from = act.at.duration_since(report.began_at).as_secs_f64();
        let (x, y) = (from / whole * WIDTH, f64::from(ROW.saturating_mul(row)));
        let width = (act.took_seconds / whole * WIDTH).max(2.0);
        let colour = if act.outcome == Outcome::Done { "var(--good)" } else { "var(--bad)" };
        // Where there is no room behind it, the words stand before it, or else in it.
        let (at, anchor) = if x + width < WIDTH * 0.6 {
            (x + width + 6.0, "start")
        } else if x > WIDTH * 0.4 {
            (x - 6.0, "end")
        } else {
            (x + 6.0, "start")
        };
        let title = html! { (act.title) }.into_string();
        let _ = write!(
            bars,
            "<rect x='{x:.1}' y='{:.1}' width='{width:.1}' height='11' rx='2' fill='{colour}' opacity='.75'/>\
             <text x='{at:.1}' y='{:.1}' text-anchor='{anchor}'>{title}</text>",
            y + 4.0,
            y + 13.5
        );
    }
    let step = if whole > 360.0 { 120.0 } else { 60.0 };
    let mut at = 0.0;
    // The words need room.
    while at / whole * WIDTH < WIDTH - 45.0 {
        let x = at / whole * WIDTH;
        let _ = write!(
            bars,
            "<line x1='{x:.1}' x2='{x:.1}' y1='0' y2='{:.1}' stroke='var(--line)'/>\
             <text x='{:.1}' y='{:.1}'>{} min</text>",
            height - 18.0,
            x + 3.0,
            height - 5.0,
            at / 60.0
        );
        at += step;
    }
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {height}")) width="100%" role="img" aria-label="When each act was under way" {
            (PreEscaped(bars))
        }
    }
}

fn day(at: Timestamp) -> String {
    at.strftime("%-d %B %Y, %H:%M UTC").to_string()
}

fn minutes(seconds: f64) -> String {
    let whole = Duration::from_secs_f64(seconds.max(0.0)).as_secs();
    format!("{} min {} s", whole / 60, whole % 60)
}

fn span(minutes: u32) -> String {
    match (minutes / 1440, minutes % 1440 / 60) {
        (0, 0) if minutes == 0 => "–".to_owned(),
        (0, hours) => format!("{hours} h"),
        (days, 0) => format!("{days} d"),
        (days, hours) => format!("{days} d {hours} h"),
    }
}

/// A fault as it is named on the command line.
fn word_of(fault: Fault) -> String {
    use clap::ValueEnum as _;
    fault.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
