//! From facts to a policy's inputs: what was given is written down, what follows is derived,
//! what nobody says about the asset is assumed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use super::InputValue;
use super::facts::{
    AssetFacts, Exploitation, InputProvenance, KevListing, LikelyExploitable, PotentialImpact,
    PriorityInputs, Sourced, SuiteKind,
};
use super::pack::Pack;
use super::vector;

/// Inputs by name. The names are part of the recorded form and of every pack.
pub(super) type Inputs = BTreeMap<String, InputValue>;

/// All names there are.
pub(super) const NAMES: [&str; 19] = [
    "automatable",
    "changelog_cves",
    "changelog_urgency",
    "cvss",
    "cvss_score",
    "epss",
    "exploitation",
    "human_impact",
    "internet_reachable",
    "known_exploited",
    "likely_exploitable",
    "potential_impact",
    "publicly_exposed",
    "security_content",
    "suite",
    "system_exposure",
    "system_impact",
    "technical_impact",
    "vendor_severity",
];

/// EPSS probability from which exploitation counts as more than theory. Only a few in a hundred
/// of all scored CVEs reach it.
const EPSS_NOTABLE: f64 = 0.1;

/// Longest vector that is recorded.
const MAX_VECTOR: usize = 512;

/// Longest severity word that is recorded.
const MAX_WORD: usize = 40;

/// Writes down what was given.
pub(super) fn given(inputs: &PriorityInputs, asset: &AssetFacts) -> Inputs {
    // A catalogue entry outdates an older statement that nobody exploits it.
    let listed = matches!(&inputs.known_exploited, Some(fact) if fact.value == KevListing::Listed);
    let exploitation = inputs
        .exploitation
        .as_ref()
        .filter(|stated| !listed || stated.value == Exploitation::Active);
    let likely = inputs
        .likely_exploitable
        .as_ref()
        .filter(|stated| !listed || stated.value == LikelyExploitable::Yes);
    let epss = inputs.epss.as_ref().filter(|stated| (0.0..=1.0).contains(&stated.value));

    [
        ("automatable", stated(inputs.automatable.as_ref())),
        ("changelog_cves", stated(inputs.changelog_cves.as_ref())),
        ("changelog_urgency", stated_list(&inputs.changelog_urgencies, ", ", plain_word)),
        ("cvss", stated_list(&inputs.cvss_vectors, " ", plain_vector)),
        ("epss", stated(epss)),
        ("exploitation", stated(exploitation)),
        ("human_impact", stated(asset.human_impact.as_ref())),
        ("known_exploited", stated(inputs.known_exploited.as_ref())),
        ("likely_exploitable", stated(likely)),
        ("potential_impact", stated(inputs.potential_impact.as_ref())),
        ("suite", stated(inputs.suite.as_ref())),
        ("system_exposure", stated(asset.exposure.as_ref())),
        ("system_impact", stated(asset.system_impact.as_ref())),
        ("technical_impact", stated(inputs.technical_impact.as_ref())),
        ("vendor_severity", stated_list(&inputs.vendor_severities, ", ", plain_word)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect()
}

fn stated<T: Display>(fact: Option<&Sourced<T>>) -> Option<InputValue> {
    let Sourced { value, by } = fact?;
    let provenance = InputProvenance::Given { by: by.clone() };
    Some(InputValue { value: value.to_string(), provenance })
}

/// Several statements as one input: sorted, each once, with everyone who made one of them.
fn stated_list(
    facts: &[Sourced<String>],
    separator: &str,
    plain: impl Fn(&str) -> Option<String>,
) -> Option<InputValue> {
    let mut values = BTreeSet::new();
    let mut sources = BTreeSet::new();
    for fact in facts {
        if let Some(value) = plain(&fact.value) {
            values.insert(value);
            sources.insert(fact.by.as_str());
        }
    }
    if values.is_empty() {
        return None;
    }
    let join = |parts: Vec<&str>, separator| parts.join(separator);
    Some(InputValue {
        value: join(values.iter().map(String::as_str).collect(), separator),
        provenance: InputProvenance::Given { by: join(sources.into_iter().collect(), ", ") },
    })
}

/// A severity word as packs spell it: lower case, without the tracker's `low**` asterisks.
fn plain_word(text: &str) -> Option<String> {
    let word = text.trim().trim_end_matches('*').to_ascii_lowercase();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, ' ' | '-' | '_');
    (!word.is_empty() && word.len() <= MAX_WORD && word.chars().all(is_plain)).then_some(word)
}

fn plain_vector(text: &str) -> Option<String> {
    let text = text.trim();
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    (is_plain && text.len() <= MAX_VECTOR).then(|| text.to_owned())
}

/// Adds to the given inputs what the pack needs and what follows from them or is assumed.
pub(super) fn complete(mut inputs: Inputs, pack: &Pack) -> Inputs {
    for name in pack.used_inputs() {
        if inputs.contains_key(name) {
            continue;
        }
        if let Some((value, from)) = derive(name, &inputs) {
            let provenance = InputProvenance::Derived { from: from.to_owned() };
            inputs.insert(name.to_owned(), InputValue { value, provenance });
        } else if let Some(value) = pack.assumed(name) {
            let provenance = InputProvenance::Assumed;
            inputs.insert(name.to_owned(), InputValue { value: value.to_owned(), provenance });
        }
    }
    inputs
}

/// The value that follows from other inputs, and from which.
fn derive(name: &str, inputs: &Inputs) -> Option<(String, &'static str)> {
    let value_of = |name: &str| inputs.get(name).map(|input| input.value.as_str());
    let cvss = || vector::read(value_of("cvss")?);
    let yes_no = |yes: bool| if yes { "yes".to_owned() } else { "no".to_owned() };
    let listed = value_of("known_exploited") == Some(KevListing::Listed.word());
    let active = value_of("exploitation") == Some(Exploitation::Active.word());
    let likely_by_epss = value_of("epss")
        .and_then(|value| value.parse::<f64>().ok())
        .is_some_and(|probability| probability >= EPSS_NOTABLE);

    match name {
        "cvss_score" => Some((format!("{:.1}", cvss()?.score), "cvss")),
        "automatable" => Some((cvss()?.automatable.to_string(), "cvss")),
        "technical_impact" => Some((cvss()?.technical_impact.to_string(), "cvss")),
        "exploitation" if listed => Some((Exploitation::Active.to_string(), "known_exploited")),
        "exploitation" => {
            if let Some(stated) = cvss().and_then(|reading| reading.exploitation) {
                return Some((stated.to_string(), "cvss"));
            }
            if likely_by_epss {
                return Some((Exploitation::PublicPoc.to_string(), "epss"));
            }
            // Not listed means: no exploitation known. A public proof of concept stays possible,
            // so the next value below `active` is the cautious one.
            value_of("known_exploited")?;
            Some((Exploitation::PublicPoc.to_string(), "known_exploited"))
        }
        "likely_exploitable" if listed => Some((yes_no(true), "known_exploited")),
        "likely_exploitable" if active => Some((yes_no(true), "exploitation")),
        "likely_exploitable" if likely_by_epss => Some((yes_no(true), "epss")),
        "likely_exploitable" => Some((yes_no(cvss()?.easy), "cvss")),
        "potential_impact" => Some((impact_of(cvss()?.score).to_string(), "cvss")),
        "publicly_exposed" | "internet_reachable" => {
            Some((yes_no(value_of("system_exposure")? == "open"), "system_exposure"))
        }
        "security_content" => security_content(inputs),
        _ => None,
    }
}

/// CVSS severity bands (v3.1 §5, v4.0 §6) as the N-rating of the damage.
fn impact_of(score: f64) -> PotentialImpact {
    match score {
        9.0.. => PotentialImpact::N5,
        7.0.. => PotentialImpact::N4,
        4.0.. => PotentialImpact::N3,
        0.1.. => PotentialImpact::N2,
        _ => PotentialImpact::N1,
    }
}

/// `none` only where the changelog was read, names no CVE, no security suite offers the patch,
/// and nothing else speaks of a vulnerability.
fn security_content(inputs: &Inputs) -> Option<(String, &'static str)> {
    const ABOUT_A_VULNERABILITY: [&str; 8] = [
        "cvss",
        "vendor_severity",
        "automatable",
        "technical_impact",
        "exploitation",
        "potential_impact",
        "likely_exploitable",
        "epss",
    ];
    let is = |name: &str, value: &str| inputs.get(name).is_some_and(|input| input.value == value);
    let is_given = |name: &str| {
        inputs
            .get(name)
            .is_some_and(|input| matches!(input.provenance, InputProvenance::Given { .. }))
    };
    let read_and_empty = is("changelog_cves", "0") && is("suite", SuiteKind::Ordinary.word());
    let silent = !is("known_exploited", KevListing::Listed.word())
        && !ABOUT_A_VULNERABILITY.iter().any(|name| is_given(name));
    (read_and_empty && silent).then(|| ("none".to_owned(), "changelog_cves, suite"))
}
