//! What audits of many items came to, as others read it: JSON, comma-separated values, or a page that needs nothing
//! else, to be printed, sent and filed.

use std::fmt::Write as _;

use axum::Json;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse as _, Response};
use domain::cloud::{CiId, words};
use domain::configuration::audit::{Attribute, Score, Survey, SurveyRow};
use domain::configuration::baseline::Outcome;
use maud::{DOCTYPE, Markup, PreEscaped, html};

words! {
    /// In which form it is asked for.
    Format {
        /// For programs.
        Json = "json",
        /// For spreadsheets: a line for each item.
        Csv = "csv",
        /// For people without an account.
        Html = "html",
    }
}

/// Of the page that stands alone: what the console's style says, and no more.
const STYLE: &str = include_str!("../assets/survey.css");

impl Format {
    /// A survey in this form.
    pub(crate) fn answer(self, survey: &Survey) -> Response {
        let kept = |name: &str| {
            let day = survey.asked.at.strftime("%F");
            let name = format!("attachment; filename=\"audit-{day}.{name}\"");
            HeaderValue::from_str(&name).unwrap_or(HeaderValue::from_static("attachment"))
        };
        match self {
            Self::Json => Json(survey).into_response(),
            Self::Csv => {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8")),
                    (header::CONTENT_DISPOSITION, kept("csv")),
                ];
                (headers, csv(survey)).into_response()
            }
            Self::Html => {
                let policy = "default-src 'none'; style-src 'unsafe-inline'; sandbox";
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
                    (header::CONTENT_DISPOSITION, kept("html")),
                    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy)),
                ];
                (headers, alone(survey).into_string()).into_response()
            }
        }
    }
}

/// A line for each item (RFC 4180).
fn csv(survey: &Survey) -> String {
    let mut head: Vec<String> =
        ["item", "id", "tenant", "class", "audited_at"].map(str::to_owned).into();
    head.extend(Attribute::ALL.iter().map(ToString::to_string));
    head.extend(["drift", "failing", "unknown", "waived", "left_out"].map(str::to_owned));
    let mut text = line(&head);
    for row in &survey.items {
        let mut cells = vec![
            row.name.clone(),
            row.ci.to_string(),
            row.tenant.to_string(),
            row.class.to_string(),
            row.audited_at.map(|at| at.to_string()).unwrap_or_default(),
        ];
        cells.extend(Attribute::ALL.iter().map(|it| of(row, *it).to_string()));
        cells.push(row.drift.map(|it| it.to_string()).unwrap_or_default());
        let lists = [&row.failing, &row.unknown, &row.waived, &row.left_out];
        cells.extend(lists.map(|list| list.join("; ")));
        text.push_str(&line(&cells));
    }
    text
}

fn line(cells: &[String]) -> String {
    let mut text = String::new();
    for (at, cell) in cells.iter().enumerate() {
        // Spreadsheets take what begins so for a formula (OWASP, CSV injection).
        let guard = if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
        let comma = if at == 0 { "" } else { "," };
        // Writing into a string cannot fail.
        let _ = write!(text, "{comma}\"{guard}{}\"", cell.replace('"', "\"\""));
    }
    text.push_str("\r\n");
    text
}

/// What an attribute came to.
pub(crate) fn of(row: &SurveyRow, attribute: Attribute) -> Outcome {
    row.attributes.get(&attribute).copied().unwrap_or(Outcome::Unknown)
}

/// What it came to, with its colour and, for whoever sees none, its sign.
pub(crate) fn outcome(outcome: Outcome) -> Markup {
    html! { @match outcome {
        Outcome::Pass => span.latest { "✓ pass" },
        Outcome::Fail => span.outdated { "✗ fail" },
        Outcome::Unknown => span.unknown { "? unknown" },
        Outcome::NotApplicable => span.quiet { "not applicable" },
        Outcome::Waived => span.quiet { "– waived" },
    } }
}

/// How far something is from being kept.
pub(crate) fn drift(drift: Option<u8>) -> Markup {
    html! { @match drift {
        None => span.quiet { "–" },
        Some(0) => span.latest { "0\u{a0}%" },
        Some(drift) => span.outdated { (drift) "\u{a0}%" },
    } }
}

/// What all of it comes to, in one sentence.
pub(crate) fn verdict(survey: &Survey) -> String {
    let all = survey.items.len();
    let (failing, unknown) =
        (survey.items_with(Outcome::Fail), survey.items_with(Outcome::Unknown));
    match (all, failing, unknown) {
        (0, ..) => "There is nothing to audit.".to_owned(),
        (_, 0, 0) => "Everything is as it should be.".to_owned(),
        (_, 0, _) => format!("Nothing is known to be wrong; unknown: {unknown} of {all} items."),
        (_, _, 0) => format!("{failing} of {all} items are not as they should be."),
        _ => format!("{failing} of {all} items are not as they should be; unknown: {unknown}."),
    }
}

/// The baselines, the worst first; those of which nothing applies in one line.
pub(crate) fn scores(scores: &[Score]) -> Markup {
    let is_about = |it: &&Score| it.drift.is_some() || it.waived > 0;
    let (told, others): (Vec<&Score>, Vec<&Score>) = scores.iter().partition(is_about);
    let others: Vec<&str> = others.iter().map(|it| it.baseline.as_str()).collect();
    html! {
        div.wide { table.stack {
            thead { tr {
                th { "Baseline" } th.number { "Drift" } th.number { "Items" } th.number { "Rules hold" }
                th.number { "Do not" } th.number { "Unknown" } th.number { "Waived" }
            } }
            tbody { @for score in told { tr {
                td { (score.baseline) " " span.quiet {
                    @for (at, version) in score.versions.iter().enumerate() { @if at > 0 { ", " } (version) }
                } }
                td.number data-label="Drift" { (drift(score.drift)) }
                td.number data-label="Items" { (score.items) }
                td.number data-label="Rules hold" { (score.pass) }
                td.number data-label="Do not" { (score.fail) }
                td.number data-label="Unknown" { (score.unknown) }
                td.number data-label="Waived" { (score.waived) }
            } } }
        } }
        @if !others.is_empty() { p.quiet { "Nothing of these applies: " (others.join(", ")) "." } }
    }
}

/// What an item does not keep, of what nobody can tell, and for what somebody answers; with links to its audit, where it
/// is told in the console.
pub(crate) fn because(row: &SurveyRow, audit_of: Option<CiId>) -> Markup {
    let lists = [
        ("fails", &row.failing),
        ("unknown", &row.unknown),
        ("waived", &row.waived),
        ("not held to", &row.left_out),
    ];
    html! {
        @for (word, list) in lists.iter().filter(|(_, list)| !list.is_empty()) {
            div { span.quiet { (word) ": " } @for (at, name) in list.iter().enumerate() {
                @if at > 0 { ", " }
                @match audit_of.filter(|_| name.contains('/')) {
                    Some(ci) => a.quiet href={ "/cis/" (ci) "/audit#" (name) } { (name) },
                    None => (name),
                }
            } }
        }
    }
}

/// A page that needs nothing else.
fn alone(survey: &Survey) -> Markup {
    let title = format!("Configuration audit: {}", survey.asked.about);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p.lead { "As of " (survey.asked.at.strftime("%F %R UTC"))
                    " · X.1642 8.8: correctness, consistency, completeness, validity, traceability" }
                p.verdict { (verdict(survey)) }
                h2 { "Attributes" }
                table {
                    thead { tr { th { "Items are" } th.number { "Pass" } th.number { "Fail" } th.number { "Unknown" } } }
                    tbody { @for (attribute, counts) in &survey.attributes { tr {
                        td { (attribute) }
                        @for came in [Outcome::Pass, Outcome::Fail, Outcome::Unknown] {
                            td.number { (counts.get(&came).copied().unwrap_or(0)) }
                        }
                    } } }
                }
                h2 { "Baselines, the worst first" }
                (scores(&survey.baselines))
                h2 { "Items, the worst first" }
                table.stack {
                    thead { tr {
                        th { "Item" }
                        @for attribute in Attribute::ALL { th { (attribute) } }
                        th.number { "Drift" } th { "Audited" }
                    } }
                    @for row in &survey.items { tbody {
                        tr {
                            td { strong { (row.name) } br; span.quiet { (row.class) } }
                            @for attribute in Attribute::ALL { td data-label=(attribute) { (outcome(of(row, *attribute))) } }
                            td.number data-label="Drift" { (drift(row.drift)) }
                            td data-label="Audited" { @match row.audited_at {
                                Some(at) => (at.strftime("%F %R UTC")),
                                None => span.unknown { "never" },
                            } }
                        }
                        tr.because { td colspan="8" { (because(row, None)) } }
                    } }
                }
                p.quiet { "Drift is the weight of rules that fail or are unknown, of the weight of all that apply; a \
                    rule weighs 8 where it is critical, else 4, 2, 1. What is waived counts on neither side. What nobody can \
                    tell never passes." }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use domain::cloud::{Class, TenantId};
    use domain::configuration::audit::{Asked, Outcomes, RuleOutcome, Surveyed};
    use domain::configuration::baseline::{Hold, JudgedBy};
    use domain::priority::Priority;
    use jiff::Timestamp;

    use super::*;

    fn survey() -> Survey {
        let at: Timestamp = "2026-12-01T06:00:00Z".parse().unwrap();
        let rule = |rule: &str, severity, outcome| RuleOutcome {
            baseline: "sshd".to_owned(),
            rule: rule.to_owned(),
            severity,
            outcome,
            count: 1,
        };
        let judged_by = JudgedBy {
            id: "sshd".to_owned(),
            version: "1".to_owned(),
            own: None,
            hold: Hold::Class,
        };
        let outcomes = |correctness, rules| Outcomes {
            baselines: vec![judged_by.clone()],
            left_out: Vec::new(),
            waivers: Vec::new(),
            attributes: Attribute::ALL
                .iter()
                .map(|it| {
                    (*it, if *it == Attribute::Correctness { correctness } else { Outcome::Pass })
                })
                .collect(),
            rules,
        };
        let item = |number: u8, name: &str, last| Surveyed {
            ci: CiId::of_content([number; 16]),
            tenant: TenantId::of_content([9; 16]),
            name: name.to_owned(),
            class: Class::Vm,
            last,
        };
        let bad = outcomes(
            Outcome::Fail,
            vec![
                rule("sshd-root-login", Priority::High, Outcome::Fail),
                rule("sshd-keys", Priority::Low, Outcome::Pass),
                rule("sshd-x11", Priority::Low, Outcome::Unknown),
                rule("sshd-tcp", Priority::Low, Outcome::Waived),
            ],
        );
        let good = outcomes(Outcome::Pass, vec![rule("sshd-keys", Priority::Low, Outcome::Pass)]);
        let items = [
            item(1, "calm", Some((at, good.clone()))),
            item(2, "=cmd()<script>", Some((at, bad))),
            item(3, "new", None),
            item(4, "silent", Some((at - jiff::SignedDuration::from_hours(72), good))),
        ];
        Survey::of(Asked { about: "group front ends".to_owned(), at }, &items)
    }

    #[test]
    fn the_worst_comes_first_and_what_nobody_can_tell_has_its_name() {
        let survey = survey();
        let names: Vec<_> = survey.items.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["=cmd()<script>", "new", "silent", "calm"]);
        assert_eq!(survey.items[0].drift, Some(84), "5 of 6, rounded up");
        assert_eq!(survey.items[0].unknown, ["sshd/sshd-x11"]);
        let never = survey.items.iter().find(|row| row.name == "new").unwrap();
        assert_eq!(never.unknown[0], "it was never audited");
        let silent = survey.items.iter().find(|row| row.name == "silent").unwrap();
        assert!(silent.attributes.values().all(|it| *it == Outcome::Unknown), "{silent:?}");
        assert_eq!(survey.baselines[0].drift, Some(72), "5 of 7, rounded up, without what is old");
        let counts: BTreeMap<_, _> = survey.attributes[&Attribute::Correctness].clone();
        assert_eq!(counts[&Outcome::Unknown], 2);
    }

    #[test]
    fn what_is_exported_stands_alone_and_carries_nothing_that_runs() {
        let page = alone(&survey()).into_string();
        insta::assert_snapshot!(page.replace("</tr>", "</tr>\n").replace("</style>", "</style>\n"));
        assert!(!page.contains("<script") && !page.contains("href") && !page.contains("src="));
        let csv = csv(&survey());
        insta::assert_snapshot!(csv);
        assert!(csv.contains("\"'=cmd()<script>\""), "{csv}");
    }
}
