//! Results of the lab as one calm screen.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use domain::check::{Report, Status};
use domain::proof::{Reason, RebootCause, Side, WayBack};
use lab::{Baked, Because, Change, Comparison, FileChange, Proof};
use serde_json::{Value, json};

use super::trial::Trial;
use crate::check::Patches;
use crate::text::{count, fit, plain};

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Lines of a list before the rest is counted.
const SHOWN: usize = 12;

/// The verdict on patches, why, and what a tenant will notice.
pub(super) fn proof(image: &str, patches: &Patches, proof: &Proof) -> String {
    let mut out = String::new();
    let verdict = &proof.verdict;
    let (style, word) = if verdict.passes() { (GOOD, "PASSES") } else { (BAD, "DOES NOT PASS") };
    let _ = writeln!(out, "\n{style}{word}{style:#}  {} on {}", named(patches), plain(image));
    out.push('\n');
    for (name, side, clear) in [
        ("security", Side::Security, "the fixes run, nothing is gone, nothing new is open"),
        ("adaptability", Side::Adaptability, "it starts, and what ran and answered still does"),
    ] {
        let reasons: Vec<&Reason> =
            verdict.reasons().filter(|reason| reason.side() == side).collect();
        if reasons.is_empty() {
            line(
                &mut out,
                name,
                if verdict.passes() { clear } else { "nothing was found against them" },
            );
        }
        for (number, reason) in reasons.iter().enumerate() {
            let name = if number == 0 { name } else { "" };
            let _ =
                writeln!(out, "  {} {BAD}✗{BAD:#} {}", fit(name, 14), plain(&reason.to_string()));
        }
    }
    let _ = match &verdict.way_back {
        WayBack::Restores => {
            writeln!(out, "  {} restores what was before", fit("way back", 14))
        }
        WayBack::Differs { differences } => writeln!(
            out,
            "  {} works, and leaves {}",
            fit("way back", 14),
            count(differences.len(), "difference", "differences")
        ),
        WayBack::Fails { reason } => {
            let last = reason.lines().last().unwrap_or_default();
            writeln!(out, "  {} fails: {}", fit("way back", 14), plain(last))
        }
        WayBack::Untried { reason } => {
            let reason = patches.no_way_back.as_deref().unwrap_or(reason);
            writeln!(out, "  {} not tried: {}", fit("way back", 14), plain(reason))
        }
    };
    impact(&mut out, proof);
    further(&mut out, patches);
    let _ = writeln!(
        out,
        "\n{DIM}Proven in {} s ({} evidence files; times are those of this machine, {}).{DIM:#}",
        seconds(proof.took_ms),
        proof.evidence.len(),
        proof.accelerator,
    );
    out
}

fn impact(out: &mut String, proof: &Proof) {
    let impact = &proof.impact;
    let _ = writeln!(out, "\nWhat a tenant will notice");
    let causes: Vec<String> = impact.reboot.causes.iter().take(3).map(cause).collect();
    if causes.is_empty() {
        line(out, "restart", "not needed");
    } else {
        line(out, "restart", &format!("needed: {}", causes.join("; ")));
    }
    if let Some(downtime) = impact.reboot.downtime_ms {
        let word = if causes.is_empty() { "would take" } else { "takes" };
        line(out, "", &format!("{word} {} s until all services are up", seconds(downtime)));
    }
    let down = &impact.restarted;
    if down.is_empty() {
        line(out, "services", "none goes down during the installation");
    }
    for (number, (unit, downtime)) in down.iter().enumerate().take(SHOWN) {
        let name = if number == 0 { "services" } else { "" };
        line(out, name, &format!("{} down for {} s", plain(unit), seconds(downtime.milliseconds)));
    }
    rest(out, down.len());
    let changed = &impact.configuration_changed;
    if !changed.is_empty() {
        let few: Vec<String> = changed.iter().take(4).map(|path| plain(path)).collect();
        let more = if changed.len() > 4 { " and more" } else { "" };
        line(out, "configuration", &format!("{}{more}", few.join(", ")));
    }
    line(
        out,
        "touched",
        &format!(
            "{} of {}, {:+} MB",
            count(impact.files_touched.len(), "file", "files"),
            count(impact.packages.len(), "package", "packages"),
            impact.disk_bytes / 1_000_000
        ),
    );
}

fn cause(cause: &RebootCause) -> String {
    match cause {
        RebootCause::Kernel { running, installed } => {
            format!("the kernel {} for {}", plain(installed), plain(running))
        }
        RebootCause::Asked { by } => format!("{} asked for it", plain(&by.join(", "))),
        RebootCause::StaleCode { command, unit } => {
            let name = unit.as_deref().unwrap_or(command);
            format!("{} runs replaced code", plain(name))
        }
    }
}

/// A new image: what it has, what it bears no more, and what is signed about it.
pub(super) fn baked(
    from: &str,
    patches: &Patches,
    baked: &Baked,
    check: &Report,
    attestations: &[PathBuf],
) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "\n{GOOD}BAKED{GOOD:#}  {} into {}\n", named(patches), plain(from));
    line(&mut out, "image", &baked.path.display().to_string());
    line(&mut out, "size", &format!("{} MB, {}", baked.bytes / 1_000_000, baked.format.name()));
    let (style, word) = match check.status {
        Status::Latest => (GOOD, "at the latest"),
        Status::Outdated => (BAD, "patches are missing"),
        Status::Unknown => (BAD, "unknown whether patches are missing"),
    };
    let _ = writeln!(out, "  {} {style}{word}{style:#}", fit("check", 14));
    let generalised = &baked.generalised;
    line(
        &mut out,
        "taken out",
        &format!(
            "{} removed, {} emptied",
            count(generalised.removed.len(), "file", "files"),
            generalised.emptied.len()
        ),
    );
    for (number, place) in attestations.iter().enumerate() {
        line(&mut out, if number == 0 { "signed" } else { "" }, &place.display().to_string());
    }
    for warning in &baked.warnings {
        let _ = writeln!(out, "  {} {BAD}!{BAD:#} {}", fit("", 14), plain(warning));
    }
    further(&mut out, patches);
    let _ = writeln!(out, "\n{DIM}Baked in {} s.{DIM:#}", seconds(baked.took_ms));
    out
}

/// A machine that was made from an image.
pub(super) fn trial(image: &str, trial: &Trial) -> String {
    let mut out = String::new();
    let (style, word) = if trial.passes() { (GOOD, "PASSES") } else { (BAD, "DOES NOT PASS") };
    let _ = writeln!(out, "\n{style}{word}{style:#}  {}\n", plain(image));
    if let Some(seen) = &trial.seen {
        line(&mut out, "came up", &format!("seen by {}", seen.evidence));
        if let Some(to_login) = seen.to_login {
            line(&mut out, "", &format!("{:.1} s to the login prompt", to_login.as_secs_f64()));
        }
        if let Some(kernel) = &seen.kernel {
            line(&mut out, "kernel", &kernel.release);
        }
        let off = seen.to_off.as_secs_f64();
        line(&mut out, "went down", &format!("{off:.1} s after its power button"));
    }
    if let Some(scan) = &trial.scan {
        let word = match scan.status {
            Status::Latest => "at the latest",
            Status::Outdated => "patches are missing",
            Status::Unknown => "unknown whether patches are missing",
        };
        line(&mut out, "scan", &format!("{word}, {}", count(scan.packages, "package", "packages")));
    }
    for problem in &trial.problems {
        let _ = writeln!(out, "  {} {BAD}✗{BAD:#} {}", fit("", 14), plain(problem));
    }
    if !trial.console.is_empty() {
        let _ = writeln!(out, "\n{DIM}The end of its console{DIM:#}");
        let lines: Vec<&str> = trial.console.lines().collect();
        for text in &lines[lines.len().saturating_sub(SHOWN)..] {
            let _ = writeln!(out, "  {}", plain(text));
        }
    }
    out
}

/// What differs between two images.
pub(super) fn comparison(comparison: &Comparison, all: bool) -> String {
    let mut out = String::new();
    if comparison.is_empty() {
        let _ = writeln!(out, "{GOOD}No difference{GOOD:#}");
    }
    if !comparison.packages.is_empty() {
        let number = comparison.packages.len();
        let _ = writeln!(out, "{}", count(number, "package differs", "packages differ"));
        let shown = if all { usize::MAX } else { SHOWN };
        for change in comparison.packages.iter().take(shown) {
            let version = |version: &Option<String>| plain(version.as_deref().unwrap_or("—"));
            let _ = writeln!(
                out,
                "  {} {} → {}",
                fit(&plain(&change.package), 34),
                version(&change.before),
                version(&change.after)
            );
        }
        if !all {
            rest(&mut out, number);
        }
        out.push('\n');
    }
    if !comparison.files.is_empty() {
        let _ = writeln!(out, "{}", count(comparison.files.len(), "name differs", "names differ"));
        let of = |wanted: fn(&Because) -> bool| {
            comparison.files.iter().filter(|file| wanted(&file.because)).count()
        };
        for (name, number) in [
            ("of packages that differ", of(|it| matches!(it, Because::Package { .. }))),
            ("records of dpkg and apt", of(|it| *it == Because::PackageRecords)),
            ("made from packages", of(|it| *it == Because::Generated)),
            ("logs", of(|it| *it == Because::Log)),
            ("one machine's own", of(|it| *it == Because::Identity)),
            ("not explained", of(|it| *it == Because::Unexplained)),
        ] {
            if number > 0 {
                let _ = writeln!(out, "  {number:>7}  {name}");
            }
        }
        let files: Vec<&FileChange> = if all {
            comparison.files.iter().collect()
        } else {
            comparison.unexplained().collect()
        };
        if !files.is_empty() {
            out.push('\n');
        }
        for file in files {
            let sign = match file.change {
                Change::Added => "+",
                Change::Removed => "-",
                Change::Content => "~",
                Change::Attributes => "m",
            };
            let _ = writeln!(out, "  {sign} {}", plain(&file.path));
        }
    }
    for problem in &comparison.problems {
        let _ = writeln!(out, "{BAD}not compared:{BAD:#} {}", plain(problem));
    }
    out
}

/// Nothing to prove.
pub(super) fn nothing(patches: &Patches) -> String {
    match patches.report.status {
        Status::Latest => format!("{GOOD}At the latest{GOOD:#}: there is nothing to prove\n"),
        _ => format!(
            "{BAD}Nothing to prove{BAD:#}: no patch is at hand; `patchwright check` tells more\n"
        ),
    }
}

/// The patches for programs.
pub(super) fn listed(patches: &Patches) -> Vec<Value> {
    let listed = patches.files.iter().map(|file| {
        json!({
            "package": file.package,
            "architecture": file.architecture,
            "version": file.version,
            "source": file.source,
            "sha256": file.sha256,
        })
    });
    listed.collect()
}

/// What is asked for and nowhere offered, for programs.
pub(super) fn unmet(patches: &Patches) -> Vec<Value> {
    let unmet = patches.unmet.iter();
    unmet.map(|it| json!({ "package": it.package, "relation": it.relation })).collect()
}

fn named(patches: &Patches) -> String {
    let sources: BTreeSet<&str> = patches.files.iter().map(|file| file.source.as_str()).collect();
    let ids: BTreeSet<&String> = patches.claims.iter().flat_map(|claim| &claim.ids).collect();
    let packages = count(patches.files.len(), "package", "packages");
    let sources = count(sources.len(), "source", "sources");
    match ids.len() {
        0 => format!("{packages} of {sources}"),
        number => format!("{packages} of {sources} for {}", count(number, "CVE", "CVEs")),
    }
}

fn further(out: &mut String, patches: &Patches) {
    if !patches.further.is_empty() {
        line(out, "with them", &format!("new: {}", patches.further.join(", ")));
    }
    for unmet in &patches.unmet {
        let text = format!("{} asks for {}, which no source offers", unmet.package, unmet.relation);
        line(out, "unmet", &text);
    }
}

fn line(out: &mut String, name: &str, text: &str) {
    let _ = writeln!(out, "  {} {}", fit(name, 14), plain(text));
}

fn rest(out: &mut String, number: usize) {
    if number > SHOWN {
        let _ = writeln!(out, "  {} and {} more", fit("", 14), number - SHOWN);
    }
}

fn seconds(milliseconds: u64) -> String {
    format!("{:.1}", std::time::Duration::from_millis(milliseconds).as_secs_f64())
}
