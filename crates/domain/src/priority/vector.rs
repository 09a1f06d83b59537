//! What CVSS vectors say: the base score, and what SSVC inputs follow from their metrics.

use std::collections::HashMap;

use cvss::Cvss;

use super::facts::{Automatable, Exploitation, TechnicalImpact};

/// Longest vector worth reading; a complete v4.0 vector with all groups has about 230 bytes.
const MAX_LENGTH: usize = 512;

/// Versions in order of preference: a newer version of the standard wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standard {
    V20,
    V30,
    V31,
    V40,
}

/// What several vectors of one vulnerability or patch say together: the vectors of the newest
/// standard among them count, and of each answer the most urgent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reading {
    /// Highest score, 0.0 to 10.0: the base score; for v4.0 with the threat and environmental
    /// metrics that the vector itself carries, as that standard has it.
    pub(super) score: f64,
    /// AV:N, AC:L, no privileges, no user interaction (and AT:N in v4.0), or v4.0's own AU:Y.
    pub(super) automatable: Automatable,
    /// Complete loss of confidentiality, integrity and availability.
    pub(super) technical_impact: TechnicalImpact,
    /// From the exploit maturity metric, where a vector carries it.
    pub(super) exploitation: Option<Exploitation>,
    /// Easy enough for a likely threat actor: low complexity without special privileges.
    pub(super) easy: bool,
}

/// Reads white-space separated vectors; those that are damaged or incomplete say nothing.
pub(super) fn read(vectors: &str) -> Option<Reading> {
    let all: Vec<(Standard, Reading)> = vectors.split_whitespace().filter_map(read_one).collect();
    let newest = all.iter().map(|(standard, _)| *standard).max()?;
    all.iter().filter(|(standard, _)| *standard == newest).map(|(_, reading)| *reading).reduce(
        |a, b| Reading {
            score: a.score.max(b.score),
            automatable: a.automatable.max(b.automatable),
            technical_impact: a.technical_impact.max(b.technical_impact),
            exploitation: a.exploitation.max(b.exploitation),
            easy: a.easy || b.easy,
        },
    )
}

fn read_one(text: &str) -> Option<(Standard, Reading)> {
    if text.len() > MAX_LENGTH {
        return None;
    }
    let text = text.trim_start_matches('(').trim_end_matches(')');
    let vector: Cvss = text.parse().ok()?;
    let metrics: HashMap<String, String> = text
        .split('/')
        .filter_map(|metric| metric.split_once(':'))
        .map(|(name, value)| (name.to_ascii_uppercase(), value.to_ascii_uppercase()))
        .collect();
    let has = |name: &str, value: &str| metrics.get(name).is_some_and(|found| found == value);
    let all = |wanted: &[(&str, &str)]| wanted.iter().all(|(name, value)| has(name, value));

    let (standard, mandatory): (_, &[&str]) = match vector {
        Cvss::CvssV20(_) => (Standard::V20, &["AV", "AC", "AU", "C", "I", "A"]),
        Cvss::CvssV30(_) => (Standard::V30, &["AV", "AC", "PR", "UI", "S", "C", "I", "A"]),
        Cvss::CvssV31(_) => (Standard::V31, &["AV", "AC", "PR", "UI", "S", "C", "I", "A"]),
        Cvss::CvssV40(_) => {
            (Standard::V40, &["AV", "AC", "AT", "PR", "UI", "VC", "VI", "VA", "SC", "SI", "SA"])
        }
        _ => return None,
    };
    // The crate scores an incomplete v3 vector as if nothing were lost. A truncated vector must
    // not make a patch look harmless.
    if !mandatory.iter().all(|name| metrics.contains_key(*name)) {
        return None;
    }

    let automatable = match standard {
        Standard::V20 => all(&[("AV", "N"), ("AC", "L"), ("AU", "N")]),
        Standard::V30 | Standard::V31 => all(&[("AV", "N"), ("AC", "L"), ("PR", "N"), ("UI", "N")]),
        Standard::V40 if has("AU", "Y") => true,
        Standard::V40 if has("AU", "N") => false,
        Standard::V40 => all(&[("AV", "N"), ("AC", "L"), ("AT", "N"), ("PR", "N"), ("UI", "N")]),
    };
    let total = match standard {
        Standard::V20 => all(&[("C", "C"), ("I", "C"), ("A", "C")]),
        Standard::V30 | Standard::V31 => all(&[("C", "H"), ("I", "H"), ("A", "H")]),
        Standard::V40 => all(&[("VC", "H"), ("VI", "H"), ("VA", "H")]),
    };
    let easy = match standard {
        Standard::V20 => !has("AC", "H") && !has("AU", "M"),
        Standard::V30 | Standard::V31 => has("AC", "L") && !has("PR", "H"),
        Standard::V40 => has("AC", "L") && has("AT", "N") && !has("PR", "H"),
    };
    let exploitation = match (standard, metrics.get("E").map(String::as_str)) {
        (Standard::V40, Some("A")) => Some(Exploitation::Active),
        (Standard::V40, Some("P"))
        | (Standard::V30 | Standard::V31, Some("P" | "F" | "H"))
        | (Standard::V20, Some("POC" | "F" | "H")) => Some(Exploitation::PublicPoc),
        (_, Some("U")) => Some(Exploitation::None),
        _ => None,
    };
    let reading = Reading {
        score: vector.score(),
        automatable: if automatable { Automatable::Yes } else { Automatable::No },
        technical_impact: if total { TechnicalImpact::Total } else { TechnicalImpact::Partial },
        exploitation,
        easy,
    };
    Some((standard, reading))
}
