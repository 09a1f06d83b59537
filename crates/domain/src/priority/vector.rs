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
    /// Highest base score, 0.0 to 10.0. Threat and environmental metrics do not count: they
    /// speak of the day and of the site of whoever wrote the vector.
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
        score: base_score(&vector, text, mandatory)?,
        automatable: if automatable { Automatable::Yes } else { Automatable::No },
        technical_impact: if total { TechnicalImpact::Total } else { TechnicalImpact::Partial },
        exploitation,
        easy,
    };
    Some((standard, reading))
}

/// The crate's scores of v2 and v3 vectors are base scores; a v4.0 vector is cut down to its base
/// metrics first, as that standard knows one formula only.
fn base_score(vector: &Cvss, text: &str, mandatory: &[&str]) -> Option<f64> {
    if !matches!(vector, Cvss::CvssV40(_)) {
        return Some(vector.score());
    }
    let is_base = |metric: &&str| {
        let name = metric.split(':').next().unwrap_or_default();
        name.eq_ignore_ascii_case(cvss::PREFIX) || mandatory.contains(&name)
    };
    let base: Vec<&str> = text.split('/').filter(is_base).collect();
    Some(base.join("/").parse::<Cvss>().ok()?.score())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scores computed with an independent implementation.
    const SCORES: [(&str, f64); 25] = [
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:C/C:H/I:H/A:H", 10.0),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:N/A:N", 7.5),
        ("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:H", 8.1),
        ("CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N", 6.1),
        ("CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", 1.8),
        ("CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:N/I:N/A:N", 0.0),
        ("CVSS:3.1/AV:A/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", 6.5),
        ("CVSS:3.1/AV:N/AC:L/PR:H/UI:N/S:C/C:H/I:H/A:H", 9.1),
        ("CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", 7.5),
        ("CVSS:3.0/AV:L/AC:L/PR:L/UI:N/S:C/C:H/I:N/A:N", 6.5),
        ("CVSS:3.0/AV:N/AC:H/PR:L/UI:R/S:U/C:L/I:L/A:L", 4.6),
        ("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H/E:P/RL:O/RC:C", 9.8),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:H/SI:H/SA:H", 10.0),
        ("CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:N/VC:L/VI:L/VA:N/SC:N/SI:N/SA:N", 6.3),
        ("CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 8.5),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:P/VC:N/VI:N/VA:H/SC:N/SI:N/SA:N/E:A", 7.1),
        ("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:U", 9.3),
        ("CVSS:4.0/AV:N/AC:H/AT:P/PR:H/UI:A/VC:L/VI:N/VA:N/SC:N/SI:N/SA:N/AU:Y", 1.8),
        ("AV:N/AC:L/Au:N/C:C/I:C/A:C", 10.0),
        ("AV:N/AC:M/Au:N/C:P/I:P/A:P", 6.8),
        ("AV:L/AC:H/Au:M/C:P/I:N/A:N", 0.8),
        ("(AV:N/AC:L/Au:N/C:N/I:N/A:P)", 5.0),
    ];

    #[test]
    fn base_scores_agree_with_the_standards() {
        for (vector, score) in SCORES {
            let found = read(vector).map(|reading| format!("{:.1}", reading.score));
            assert_eq!(found, Some(format!("{score:.1}")), "{vector}");
        }
    }

    #[test]
    fn the_newest_standard_counts_and_of_its_vectors_the_highest() {
        let newest = read(
            "AV:N/AC:L/Au:N/C:C/I:C/A:C \
             CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N \
             CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:C/C:L/I:L/A:N \
             CVSS:3.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
        );

        assert_eq!(newest.map(|reading| format!("{:.1}", reading.score)).as_deref(), Some("6.1"));
    }

    #[test]
    fn damaged_vectors_say_nothing() {
        let damaged = [
            "",
            "CVSS:3.1",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H",
            "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:X",
            "CVSS:3.1/AV:N/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
            "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N",
            "CVSS:5.0/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H",
            "AV:N/AC:L/Au:N/C:C/I:C",
            "high",
        ];

        for vector in damaged {
            assert_eq!(read(vector), None, "{vector}");
        }
    }

    #[test]
    fn ssvc_inputs_follow_from_the_metrics() {
        let reading = |vector: &str| {
            let reading = read(vector).expect("a whole vector");
            (reading.automatable.word(), reading.technical_impact.word(), reading.easy)
        };

        assert_eq!(reading("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"), ("yes", "total", true));
        assert_eq!(reading("CVSS:3.1/AV:N/AC:L/PR:N/UI:R/S:U/C:H/I:H/A:H"), ("no", "total", true));
        assert_eq!(
            reading("CVSS:3.1/AV:N/AC:H/PR:N/UI:N/S:U/C:H/I:H/A:L"),
            ("no", "partial", false)
        );
        assert_eq!(reading("AV:N/AC:L/Au:N/C:C/I:C/A:C"), ("yes", "total", true));
        let v4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N";
        assert_eq!(reading(v4), ("yes", "total", true));
        assert_eq!(reading(&format!("{v4}/AU:N")), ("no", "total", true));
        assert_eq!(
            reading("CVSS:4.0/AV:N/AC:L/AT:P/PR:N/UI:N/VC:H/VI:H/VA:N/SC:N/SI:N/SA:N"),
            ("no", "partial", false)
        );
    }

    #[test]
    fn exploit_maturity_is_evidence_of_exploitation() {
        let exploitation = |vector: &str| read(vector).expect("a whole vector").exploitation;
        let v3 = "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H";
        let v4 = "CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N";

        assert_eq!(exploitation(v3), None);
        assert_eq!(exploitation(&format!("{v3}/E:U")), Some(Exploitation::None));
        assert_eq!(exploitation(&format!("{v3}/E:F")), Some(Exploitation::PublicPoc));
        assert_eq!(exploitation(&format!("{v4}/E:P")), Some(Exploitation::PublicPoc));
        assert_eq!(exploitation(&format!("{v4}/E:A")), Some(Exploitation::Active));
    }
}
