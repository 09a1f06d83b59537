//! One OSV record: from JSON (schema 1.7, unknown fields ignored) to an advisory.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeSet;

use domain::advisory::{Advisory, Affected, AffectedRange, PackageScope, Provenance, RangeEnd};
use domain::version::VersionKind;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Wanted;
use super::loose::severity_word;

/// Longest id, package name or version that is taken.
const MAX_NAME: usize = 256;
/// Longest summary that is kept, in characters.
const MAX_SUMMARY: usize = 300;
/// Most events of one range; real ranges have two to ten.
const MAX_EVENTS: usize = 1_000;
/// Most CVE ids that one record may name; the largest kernel advisories name about two thousand.
const MAX_CVES: usize = 20_000;
/// Most CVSS vectors that are kept of one record.
const MAX_VECTORS: usize = 1_000;

/// What a record turned out to be.
#[derive(Debug)]
pub(super) enum Reading {
    /// It speaks of wanted packages.
    Wanted {
        advisory: Box<Advisory>,
        /// When the record was last changed.
        modified: Timestamp,
    },
    /// It speaks of other ecosystems only.
    Elsewhere,
}

/// Why a record cannot be used.
#[derive(Debug)]
pub(super) struct Damage {
    /// Line inside the record, where the JSON itself is broken.
    pub(super) line: Option<u64>,
    pub(super) reason: String,
}

impl Damage {
    fn new(reason: impl Into<String>) -> Self {
        Self { line: None, reason: reason.into() }
    }
}

/// Reads one record.
pub(super) fn read(json: &[u8], wanted: &Wanted) -> Result<Reading, Damage> {
    let record: Record<'_> = serde_json::from_slice(json).map_err(|error| Damage {
        line: u64::try_from(error.line()).ok(),
        reason: error.to_string(),
    })?;
    let id = plain(&record.id, "id")?;
    let modified = time(&record.modified.0, "modified")?;
    let published = record.published.map(|text| time(&text.0, "published")).transpose()?;
    let withdrawn = record.withdrawn.map(|text| time(&text.0, "withdrawn")).transpose()?;

    let mut affected = Vec::new();
    let mut cvss_vectors: Vec<String> = Vec::new();
    let mut ubuntu_severity = None;
    take_severities(record.severity, &mut cvss_vectors, &mut ubuntu_severity);
    let mut speaks_of_wanted = false;
    for written in record.affected.unwrap_or_default() {
        let Some(package) = &written.package else { continue };
        let Some(rules) = Rules::of(&package.ecosystem.0) else { continue };
        if !wanted.wants(&package.ecosystem.0) {
            continue;
        }
        speaks_of_wanted = true;
        affected.extend(written.into_affected(rules, &mut cvss_vectors)?);
    }
    if !speaks_of_wanted {
        return Ok(Reading::Elsewhere);
    }
    if affected.is_empty() {
        return Err(Damage::new("it names no versions that a package manager could compare"));
    }

    let names = [record.aliases, record.related, record.upstream].into_iter().flatten().flatten();
    let mut cves: BTreeSet<String> = BTreeSet::new();
    cves.extend(super::cve_in(id).map(str::to_owned));
    cves.extend(names.filter_map(|name| super::cve_in(&name.0).map(str::to_owned)));
    if cves.len() > MAX_CVES {
        return Err(Damage::new(format!("it names more than {MAX_CVES} CVE ids")));
    }
    let summary: Option<String> =
        record.summary.map(|text| text.0.chars().take(MAX_SUMMARY).collect());
    let vendor_severity = ubuntu_severity
        .or_else(|| severity_word(record.database_specific))
        .or_else(|| summary.as_deref().and_then(severity_of_summary).map(str::to_owned));
    cvss_vectors.sort_unstable();
    cvss_vectors.dedup();
    cvss_vectors.truncate(MAX_VECTORS);
    let advisory = Advisory {
        id: id.to_owned(),
        cves: cves.into_iter().collect(),
        summary,
        published,
        withdrawn,
        cvss_vectors,
        vendor_severity,
        affected,
        provenance: Provenance::Osv { id: id.to_owned() },
    };
    Ok(Reading::Wanted { advisory: Box::new(advisory), modified })
}

/// How versions and names of an ecosystem are meant.
#[derive(Debug, Clone, Copy)]
struct Rules {
    kind: VersionKind,
    scope: PackageScope,
}

impl Rules {
    /// `None` for ecosystems that no supported package manager installs.
    ///
    /// The schema says "source package" of `AlmaLinux`, but its records name binary packages.
    /// Rocky Linux publishes source packages only (resf/distro-tools, `api_osv.py`).
    fn of(ecosystem: &str) -> Option<Self> {
        let family = ecosystem.split(':').next().unwrap_or(ecosystem);
        let (kind, scope) = match family {
            "Debian" | "Ubuntu" => (VersionKind::Dpkg, PackageScope::Source),
            "Alpine" => (VersionKind::Apk, PackageScope::Source),
            "Rocky Linux" => (VersionKind::Rpm, PackageScope::Source),
            "AlmaLinux" | "Red Hat" => (VersionKind::Rpm, PackageScope::Binary),
            _ => return None,
        };
        Some(Self { kind, scope })
    }
}

/// A string, borrowed from the input where it holds no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Record<'a> {
    #[serde(borrow)]
    id: Text<'a>,
    #[serde(borrow)]
    modified: Text<'a>,
    #[serde(borrow, default)]
    published: Option<Text<'a>>,
    #[serde(borrow, default)]
    withdrawn: Option<Text<'a>>,
    #[serde(borrow, default)]
    aliases: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    related: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    upstream: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    summary: Option<Text<'a>>,
    #[serde(borrow, default)]
    severity: Option<Vec<Severity<'a>>>,
    #[serde(borrow, default)]
    affected: Option<Vec<WrittenAffected<'a>>>,
    #[serde(borrow, default)]
    database_specific: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Severity<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow)]
    score: Text<'a>,
}

#[derive(Deserialize)]
struct WrittenAffected<'a> {
    #[serde(borrow, default)]
    package: Option<Package<'a>>,
    #[serde(borrow, default)]
    severity: Option<Vec<Severity<'a>>>,
    #[serde(borrow, default)]
    ranges: Option<Vec<WrittenRange<'a>>>,
    #[serde(borrow, default)]
    versions: Option<Vec<Text<'a>>>,
    #[serde(borrow, default)]
    ecosystem_specific: Option<&'a RawValue>,
    #[serde(borrow, default)]
    database_specific: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Package<'a> {
    #[serde(borrow)]
    ecosystem: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
}

#[derive(Deserialize)]
struct WrittenRange<'a> {
    #[serde(borrow, rename = "type")]
    kind: Text<'a>,
    #[serde(borrow, default)]
    events: Vec<WrittenEvent<'a>>,
}

#[derive(Deserialize)]
struct WrittenEvent<'a> {
    #[serde(borrow, default)]
    introduced: Option<Text<'a>>,
    #[serde(borrow, default)]
    fixed: Option<Text<'a>>,
    #[serde(borrow, default)]
    last_affected: Option<Text<'a>>,
    #[serde(borrow, default)]
    limit: Option<Text<'a>>,
}

impl WrittenAffected<'_> {
    /// `None` where it says nothing about versions of packages (only about commits).
    fn into_affected(
        self,
        rules: Rules,
        cvss_vectors: &mut Vec<String>,
    ) -> Result<Option<Affected>, Damage> {
        let Some(package) = &self.package else { return Ok(None) };
        let ecosystem = plain(&package.ecosystem, "ecosystem")?.to_owned();
        let name = plain(&package.name, "package name")?.to_owned();
        let mut severity = None;
        take_severities(self.severity, cvss_vectors, &mut severity);
        let urgency = severity
            .or_else(|| severity_word(self.ecosystem_specific))
            .or_else(|| severity_word(self.database_specific));

        let mut ranges = Vec::new();
        for range in self.ranges.unwrap_or_default() {
            match &*range.kind.0 {
                "ECOSYSTEM" => ranges.extend(range.intervals(rules.kind)?),
                "GIT" => {}
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(Damage::new(format!("range type `{other}` fits no {ecosystem}")));
                }
            }
        }
        // Publishers list the versions inside their ranges one by one as well; only those outside
        // say something new.
        let mut versions = Vec::new();
        for version in self.versions.unwrap_or_default() {
            let version = plain(&version, "version")?;
            if !ranges.iter().any(|range| holds(rules.kind, range, version)) {
                versions.push(version.to_owned());
            }
        }
        if ranges.is_empty() && versions.is_empty() {
            return Ok(None);
        }
        let Rules { kind: version_kind, scope } = rules;
        Ok(Some(Affected {
            ecosystem,
            scope,
            package: name,
            version_kind,
            ranges,
            versions,
            urgency,
        }))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Introduced,
    Fixed,
    LastAffected,
}

impl WrittenRange<'_> {
    /// The timeline as intervals (schema, "Evaluation": events in version order).
    fn intervals(&self, kind: VersionKind) -> Result<Vec<AffectedRange>, Damage> {
        if self.events.len() > MAX_EVENTS {
            return Err(Damage::new(format!("a range has more than {MAX_EVENTS} events")));
        }
        let mut events = Vec::with_capacity(self.events.len());
        for event in &self.events {
            events.extend(event.change()?);
        }
        if !events.iter().any(|(change, _)| *change == Change::Introduced) {
            return Err(Damage::new("a range introduces nothing"));
        }
        // `introduced: 0` stands before every version. Stable, so that of events at one version
        // the later written one counts, as in the schema's evaluation.
        let is_start =
            |(change, version): &(Change, &str)| *change == Change::Introduced && *version == "0";
        events.sort_by(|a, b| match (is_start(a), is_start(b)) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            (false, false) => kind.compare(a.1, b.1),
        });

        let mut intervals = Vec::new();
        let mut open: Option<Option<String>> = None;
        for event in &events {
            let version = || event.1.to_owned();
            match event.0 {
                Change::Introduced => {
                    open.get_or_insert_with(|| (!is_start(event)).then(version));
                }
                Change::Fixed | Change::LastAffected => {
                    let Some(introduced) = open.take() else { continue };
                    let end = match event.0 {
                        Change::LastAffected => RangeEnd::LastAffected(version()),
                        _ => RangeEnd::Fixed(version()),
                    };
                    intervals.push(AffectedRange { introduced, end });
                }
            }
        }
        if let Some(introduced) = open {
            intervals.push(AffectedRange { introduced, end: RangeEnd::Unfixed });
        }
        Ok(intervals)
    }
}

impl WrittenEvent<'_> {
    fn change(&self) -> Result<Option<(Change, &str)>, Damage> {
        let (change, version) =
            match (&self.introduced, &self.fixed, &self.last_affected, &self.limit) {
                (Some(version), None, None, None) => (Change::Introduced, version),
                (None, Some(version), None, None) => (Change::Fixed, version),
                (None, None, Some(version), None) => (Change::LastAffected, version),
                (None, None, None, Some(limit)) if limit.0 == "*" => return Ok(None),
                (None, None, None, Some(_)) => {
                    return Err(Damage::new("a `limit` means nothing for package versions"));
                }
                _ => return Err(Damage::new("an event is not exactly one change")),
            };
        Ok(Some((change, plain(version, "version")?)))
    }
}

fn holds(kind: VersionKind, range: &AffectedRange, version: &str) -> bool {
    let begun = range
        .introduced
        .as_deref()
        .is_none_or(|introduced| kind.compare(introduced, version) != Ordering::Greater);
    begun
        && match &range.end {
            RangeEnd::Fixed(fixed) => kind.compare(version, fixed) == Ordering::Less,
            RangeEnd::LastAffected(last) => kind.compare(version, last) != Ordering::Greater,
            RangeEnd::Unfixed => true,
        }
}

/// Sorts severities into CVSS vectors and Ubuntu's own priority word.
fn take_severities(
    severities: Option<Vec<Severity<'_>>>,
    cvss_vectors: &mut Vec<String>,
    ubuntu: &mut Option<String>,
) {
    for severity in severities.unwrap_or_default() {
        if severity.score.0.len() > MAX_NAME {
            continue;
        }
        match &*severity.kind.0 {
            "CVSS_V2" | "CVSS_V3" | "CVSS_V4" => cvss_vectors.push(severity.score.0.into_owned()),
            "Ubuntu" => *ubuntu = Some(severity.score.0.into_owned()),
            _ => {}
        }
    }
}

/// The Red Hat family writes its severity in front of the summary: `Important: sudo update`.
fn severity_of_summary(summary: &str) -> Option<&str> {
    let (word, _) = summary.split_once(':')?;
    ["Critical", "Important", "Moderate", "Low"].contains(&word).then_some(word)
}

/// A name or version: short, not empty, without white space and control characters at its ends
/// or inside (spaces inside are left to ecosystems, which have them).
fn plain<'a>(text: &'a Text<'_>, what: &str) -> Result<&'a str, Damage> {
    let text: &str = &text.0;
    let allowed = |c: char| !c.is_control() && (c == ' ' || !c.is_whitespace());
    let is_plain = !text.is_empty()
        && text.len() <= MAX_NAME
        && text.trim() == text
        && text.chars().all(allowed);
    if is_plain {
        return Ok(text);
    }
    let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
    Err(Damage::new(format!("`{shown}` is no {what}")))
}

fn time(text: &str, what: &str) -> Result<Timestamp, Damage> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(40).flat_map(char::escape_default).collect();
        Damage::new(format!("{what} `{shown}` is no time"))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn advisory(json: &str) -> Advisory {
        match read(json.as_bytes(), &Wanted::Everything) {
            Ok(Reading::Wanted { advisory, .. }) => *advisory,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_debian_record_is_read() {
        let advisory = advisory(
            r#"{"id":"DEBIAN-CVE-2024-1234","modified":"2026-01-02T03:04:05Z",
            "published":"2025-01-01T00:00:00Z","upstream":["CVE-2024-1234"],
            "severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N"}],"details":"…",
            "affected":[{"package":{"ecosystem":"Debian:12","name":"apt","purl":"pkg:deb/x"},
            "ranges":[{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"2.6.2"}]}],
            "versions":["2.6.1","3.0"],"ecosystem_specific":{"urgency":"low","binaries":[[]]}},
            {"package":{"ecosystem":"npm","name":"apt"},"versions":["1"]}]}"#,
        );

        assert_eq!(advisory.cves, ["CVE-2024-1234"]);
        assert_eq!(advisory.cvss_vectors, ["CVSS:3.1/AV:N"]);
        assert_eq!(advisory.published.unwrap().to_string(), "2025-01-01T00:00:00Z");
        assert_eq!((advisory.withdrawn, advisory.vendor_severity), (None, None));
        assert_eq!(advisory.affected.len(), 1);
        let affected = &advisory.affected[0];
        assert_eq!(
            (affected.scope, affected.version_kind),
            (PackageScope::Source, VersionKind::Dpkg)
        );
        assert_eq!(affected.urgency.as_deref(), Some("low"));
        assert_eq!(affected.ranges[0].end, RangeEnd::Fixed("2.6.2".to_owned()));
        assert_eq!(affected.versions, ["3.0"], "2.6.1 stands in the range");
    }

    #[test]
    fn an_ubuntu_record_keeps_the_priority_of_ubuntu() {
        let advisory = advisory(
            r#"{"id":"UBUNTU-CVE-2026-1000","modified":"2026-01-02T03:04:05Z",
            "withdrawn":"2026-02-01T00:00:00Z","severity":[{"type":"Ubuntu","score":"high"}],
            "affected":[{"package":{"ecosystem":"Ubuntu:22.04:LTS","name":"linux"},"severity":
            [{"type":"Ubuntu","score":"negligible"},{"type":"CVSS_V2","score":"AV:N"}],
            "versions":["5.15.0-1.1"]}]}"#,
        );

        assert_eq!(advisory.cves, ["CVE-2026-1000"]);
        assert_eq!(advisory.vendor_severity.as_deref(), Some("high"));
        assert_eq!(advisory.affected[0].urgency.as_deref(), Some("negligible"));
        assert_eq!(advisory.cvss_vectors, ["AV:N"]);
        assert!(advisory.withdrawn.is_some());
    }

    #[test]
    fn each_distribution_names_packages_in_its_own_way() {
        let rules = |ecosystem: &str| Rules::of(ecosystem).map(|rules| (rules.kind, rules.scope));

        assert_eq!(rules("Debian:12"), Some((VersionKind::Dpkg, PackageScope::Source)));
        assert_eq!(rules("Ubuntu:24.04:LTS"), Some((VersionKind::Dpkg, PackageScope::Source)));
        assert_eq!(rules("Alpine:v3.20"), Some((VersionKind::Apk, PackageScope::Source)));
        assert_eq!(rules("AlmaLinux:9"), Some((VersionKind::Rpm, PackageScope::Binary)));
        assert_eq!(rules("Rocky Linux:9"), Some((VersionKind::Rpm, PackageScope::Source)));
        assert_eq!(
            rules("Red Hat:enterprise_linux:9::baseos"),
            Some((VersionKind::Rpm, PackageScope::Binary))
        );
        assert_eq!(rules("PyPI"), None);
        assert_eq!(rules("Debianish:1"), None);
    }

    #[test]
    fn red_hat_family_summaries_begin_with_the_severity() {
        assert_eq!(severity_of_summary("Important: sudo security update"), Some("Important"));
        assert_eq!(severity_of_summary("CVE-2024-1: sudo"), None);
        assert_eq!(severity_of_summary("Low"), None);
    }

    /// The schema's own evaluation, word for word, as the oracle.
    fn affected_by_the_schema(version: u8, events: &[(u8, u8)]) -> bool {
        let mut sorted = events.to_vec();
        sorted.sort_by_key(|(_, at)| *at);
        let mut vulnerable = false;
        for (kind, at) in sorted {
            match kind {
                0 if version >= at => vulnerable = true,
                1 if version >= at => vulnerable = false,
                2 if version > at => vulnerable = false,
                _ => {}
            }
        }
        vulnerable
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn intervals_hold_what_the_schema_calls_affected(
            events in prop::collection::btree_map(1_u8..12, 0_u8..2, 0..6),
            last_affected in any::<bool>(),
            unsorted in any::<bool>(),
        ) {
            // The schema allows either `fixed` or `last_affected` in one range.
            let end = if last_affected { 2 } else { 1 };
            let mut events: Vec<(u8, u8)> = events
                .into_iter()
                .map(|(at, kind)| (if kind == 0 { 0 } else { end }, at))
                .collect();
            events.push((0, 0));
            events.sort_by_key(|(_, at)| *at);
            if unsorted {
                events.reverse();
            }
            let written: Vec<String> = events
                .iter()
                .map(|(kind, at)| {
                    let name = ["introduced", "fixed", "last_affected"][usize::from(*kind)];
                    format!(r#"{{"{name}":"{at}"}}"#)
                })
                .collect();
            let json = format!(r#"{{"type":"ECOSYSTEM","events":[{}]}}"#, written.join(","));
            let range: WrittenRange<'_> = serde_json::from_str(&json).unwrap();

            let intervals = range.intervals(VersionKind::Dpkg).unwrap();

            for version in 0..14 {
                let found = intervals
                    .iter()
                    .any(|interval| holds(VersionKind::Dpkg, interval, &version.to_string()));
                prop_assert_eq!(found, affected_by_the_schema(version, &events), "{}", version);
            }
        }
    }
}
