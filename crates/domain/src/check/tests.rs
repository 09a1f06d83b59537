use super::*;
use crate::advisory::{
    Affected, AffectedRange, ChangelogEntry, PackageScope, Provenance, RangeEnd,
};
use crate::inventory::{OsRelease, PackageFamily, PackageState, SourcePackage};
use crate::priority::Priority;
use crate::version::VersionKind;

/// A Debian system, what archives offer it, and what is said about it.
struct World {
    inventory: Inventory,
    suites: Vec<OfferedSuite>,
    changelogs: BTreeMap<(String, String), Result<Changelog, String>>,
    sources: Vec<SourceReport>,
    advisories: Option<Vec<Advisory>>,
    exploited: Option<BTreeSet<String>>,
    scope: Scope,
    reads_archives: bool,
}

impl World {
    fn with(installed: &[(&str, &str)]) -> Self {
        let os = OsRelease {
            id: "debian".into(),
            id_like: Vec::new(),
            version_id: Some("12".into()),
            codename: Some("bookworm".into()),
            pretty_name: "Debian 12".into(),
        };
        let packages = installed.iter().map(|&(name, version)| InstalledPackage {
            name: name.into(),
            architecture: "amd64".into(),
            version: version.into(),
            source: source(name, version),
            state: PackageState::Installed,
            held: false,
        });
        Self {
            inventory: Inventory {
                os,
                family: PackageFamily::Dpkg,
                architecture: "amd64".into(),
                foreign_architectures: Vec::new(),
                packages: packages.collect(),
                installed_kernels: Vec::new(),
                runtime: None,
                problems: Vec::new(),
            },
            suites: Vec::new(),
            changelogs: BTreeMap::new(),
            sources: Vec::new(),
            advisories: None,
            exploited: None,
            scope: Scope::Everything,
            reads_archives: true,
        }
    }

    fn suite(mut self, name: &str, offered: &[(&str, &str)]) -> Self {
        let facts = SuiteFacts {
            uri: "http://archive.example.org".into(),
            suite: name.into(),
            components: vec!["main".into()],
            architectures: vec!["amd64".into()],
            origin: Some("Debian".into()),
            label: Some(
                if name.ends_with("-security") { "Debian-Security" } else { "Debian" }.into(),
            ),
            release_suite: Some(name.into()),
            codename: Some(name.into()),
            version: None,
            date: "2026-11-01T00:00:00Z".parse().unwrap(),
            valid_until: None,
            signed_by: Vec::new(),
            release_sha256: String::new(),
            not_automatic: false,
            but_automatic_upgrades: false,
        };
        let packages = offered.iter().map(|&(name, version)| OfferedPackage {
            name: name.into(),
            architecture: "amd64".into(),
            version: version.into(),
            source: source(name, version),
            component: "main".into(),
            filename: format!("pool/{name}_{version}.deb"),
            size: 1,
            sha256: String::new(),
            phased_percentage: None,
        });
        self.suites.push(OfferedSuite { facts, packages: packages.collect() });
        self
    }

    /// The changelog of the candidate `(name, newest entry)`: `(version, CVEs)`, newest first.
    fn changelog(mut self, name: &str, entries: &[(&str, &[&str])]) -> Self {
        let entries: Vec<_> = entries
            .iter()
            .map(|&(version, cves)| ChangelogEntry {
                version: version.into(),
                distributions: vec!["bookworm".into()],
                urgency: "medium".into(),
                date: None,
                cves: cves.iter().map(|&cve| cve.into()).collect(),
            })
            .collect();
        let key = (name.to_owned(), entries[0].version.clone());
        let provenance =
            Provenance::DerivedFromChangelog { filename: String::new(), sha256: String::new() };
        let changelog = Changelog { source: name.into(), entries, provenance };
        self.changelogs.insert(key, Ok(changelog));
        self
    }

    fn refused_source(mut self) -> Self {
        self.sources.push(SourceReport {
            kind: SourceKind::Apt,
            uri: "http://archive.example.org".into(),
            suite: Some("bookworm-security".into()),
            components: Vec::new(),
            state: SourceState::Refused { reason: "its signature is wrong".into(), help: None },
            origin: None,
            label: None,
            codename: None,
            version: None,
            signed_by: Vec::new(),
            date: None,
            valid_until: None,
            sha256: None,
            records: None,
        });
        self
    }

    fn advisory(mut self, id: &str, package: &str, end: RangeEnd) -> Self {
        self.advisories.get_or_insert_default().push(Advisory {
            id: id.into(),
            cves: vec![format!("CVE-2026-{}", id.len())],
            summary: None,
            published: None,
            withdrawn: None,
            cvss_vectors: Vec::new(),
            vendor_severity: None,
            affected: vec![Affected {
                ecosystem: "Debian:12".into(),
                scope: PackageScope::Source,
                package: package.into(),
                version_kind: VersionKind::Dpkg,
                ranges: vec![AffectedRange { introduced: None, end }],
                versions: Vec::new(),
                urgency: None,
            }],
            provenance: Provenance::Osv { id: id.into() },
        });
        self
    }

    fn check(&self) -> Report {
        let upgrades = upgrades(&self.inventory, &self.suites, &Preferences::default());
        let index = Index::new(self.advisories.as_deref().unwrap_or_default());
        let asset = AssetFacts::default();
        check(&Question {
            target: "web-1",
            at: "2026-11-23T00:00:00Z".parse().unwrap(),
            inventory: &self.inventory,
            sources: &self.sources,
            gaps: &[],
            archive: self.reads_archives.then_some(ArchiveKnowledge {
                suites: &self.suites,
                upgrades: &upgrades,
                changelogs: &self.changelogs,
            }),
            advisories: self
                .advisories
                .as_deref()
                .map(|advisories| AdvisoryKnowledge { advisories, index: &index }),
            exploited: self
                .exploited
                .as_ref()
                .map(|cves| ExploitedCatalogue { name: "CISA KEV 1", cves }),
            policy: Policy::builtin("default").unwrap(),
            asset: &asset,
            scope: self.scope,
        })
    }
}

fn source(name: &str, version: &str) -> SourcePackage {
    SourcePackage { name: name.into(), version: version.into() }
}

fn unknown_subjects(report: &Report) -> Vec<&str> {
    report.unknown.iter().map(|one| one.subject.as_str()).collect()
}

#[test]
fn latest_needs_every_package_offered_and_nothing_newer() {
    let report = World::with(&[("web", "1.0")]).suite("bookworm", &[("web", "1.0")]).check();

    assert_eq!(report.status, Status::Latest);
    assert!(report.findings.is_empty() && report.unknown.is_empty());
}

#[test]
fn without_any_source_nothing_is_latest() {
    let mut world = World::with(&[("web", "1.0")]);
    world.reads_archives = false;

    assert_eq!(world.check().status, Status::Unknown);
}

#[test]
fn a_refused_source_leaves_the_verdict_open() {
    let world = World::with(&[("web", "1.0")]).suite("bookworm", &[("web", "1.0")]);

    let report = world.refused_source().check();

    assert_eq!(report.status, Status::Unknown);
    assert_eq!(unknown_subjects(&report), ["http://archive.example.org bookworm-security"]);
}

#[test]
fn a_package_that_nobody_offers_is_unknown() {
    let world = World::with(&[("local", "1"), ("web", "1.0")]).suite("bookworm", &[("web", "1.0")]);

    let report = world.check();

    assert_eq!(report.status, Status::Unknown);
    assert_eq!(unknown_subjects(&report), ["local"]);
}

#[test]
fn an_unfinished_installation_is_unknown_and_a_pending_trigger_is_not() {
    let mut world =
        World::with(&[("db", "1"), ("web", "1")]).suite("bookworm", &[("db", "1"), ("web", "1")]);
    world.inventory.packages[0].state = PackageState::Triggers;
    assert_eq!(world.check().status, Status::Latest);

    world.inventory.packages[1].state = PackageState::HalfConfigured;

    let report = world.check();
    assert_eq!(report.status, Status::Unknown);
    assert_eq!(unknown_subjects(&report), ["web"]);
}

#[test]
fn an_empty_database_is_unknown() {
    assert_eq!(World::with(&[]).suite("bookworm", &[]).check().status, Status::Unknown);
}

#[test]
fn only_a_fallback_kernel_may_be_missing_from_every_source() {
    let world =
        World::with(&[("linux-image-6.1.0-9", "6.1.9-1"), ("linux-image-6.1.0-8", "6.1.8-1")]);
    let mut world = world.suite("bookworm", &[("linux-image-6.1.0-9", "6.1.9-1")]);
    for package in &mut world.inventory.packages {
        package.source.name = "linux".into();
    }
    assert_eq!(world.check().status, Status::Latest);

    world.inventory.packages.remove(0);

    assert_eq!(world.check().status, Status::Unknown);
}

#[test]
fn a_patch_carries_what_changed_since_the_installed_version_and_no_more() {
    let report = World::with(&[("web", "1.1")])
        .suite("bookworm-security", &[("web", "1.3")])
        .changelog(
            "web",
            &[("1.3", &["CVE-2026-3"]), ("1.2", &["CVE-2026-2"]), ("1.1", &["CVE-2026-1"])],
        )
        .check();

    assert_eq!(report.status, Status::Outdated);
    let [finding] = report.findings.as_slice() else { panic!("{:?}", report.findings) };
    assert_eq!(finding.cves, ["CVE-2026-2", "CVE-2026-3"]);
    assert_eq!((finding.candidate.as_str(), finding.security), ("1.3", true));
}

#[test]
fn a_patch_of_unknown_content_is_a_finding_and_an_unknown() {
    let report = World::with(&[("web", "1.0")]).suite("bookworm", &[("web", "1.1")]).check();

    assert_eq!(report.status, Status::Outdated);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.unknown[0].about, UnknownAbout::Content);
}

#[test]
fn security_only_leaves_out_ordinary_updates() {
    let mut world = World::with(&[("db", "1"), ("web", "1.0")])
        .suite("bookworm", &[("db", "2"), ("web", "1.0")])
        .suite("bookworm-security", &[("web", "1.1")])
        .changelog("db", &[("2", &[])])
        .changelog("web", &[("1.1", &["CVE-2026-9"])]);
    assert_eq!(world.check().findings.len(), 2);

    world.scope = Scope::SecurityOnly;

    let report = world.check();
    let names: Vec<&str> = report.findings.iter().map(|it| it.package.as_str()).collect();
    assert_eq!(names, ["web"]);
}

#[test]
fn a_held_package_is_still_missing_its_patch() {
    let mut world = World::with(&[("web", "1.0")])
        .suite("bookworm", &[("web", "1.1")])
        .changelog("web", &[("1.1", &[])]);
    world.inventory.packages[0].held = true;

    let report = world.check();

    assert_eq!(report.status, Status::Outdated);
    assert!(report.findings[0].held);
}

#[test]
fn a_fix_beyond_every_offer_is_a_finding_of_its_own() {
    let report = World::with(&[("web", "1.0")])
        .suite("bookworm", &[("web", "1.1")])
        .changelog("web", &[("1.1", &[])])
        .advisory("A", "web", RangeEnd::Fixed("1.1".into()))
        .advisory("BB", "web", RangeEnd::Fixed("1.2".into()))
        .check();

    let found: Vec<_> =
        report.findings.iter().map(|it| (it.candidate.as_str(), it.cves.as_slice())).collect();
    assert!(found.contains(&("1.1", &["CVE-2026-1".to_owned()][..])), "{found:?}");
    assert!(found.contains(&("1.2", &["CVE-2026-2".to_owned()][..])), "{found:?}");
    let beyond = report.findings.iter().find(|it| it.candidate == "1.2").unwrap();
    assert_eq!(beyond.offered_by, OfferedBy::Advisory);
}

#[test]
fn a_vulnerability_without_a_fix_is_told_but_no_patch_is_missing() {
    let report = World::with(&[("web", "1.0")])
        .suite("bookworm", &[("web", "1.0")])
        .advisory("A", "web", RangeEnd::Unfixed)
        .check();

    assert_eq!(report.status, Status::Latest);
    assert_eq!(report.unfixed[0].cves, ["CVE-2026-1"]);
}

#[test]
fn what_is_exploited_comes_first() {
    let mut world = World::with(&[("a", "1"), ("z", "1")])
        .suite("bookworm-security", &[("a", "2"), ("z", "2")])
        .changelog("a", &[("2", &["CVE-2026-1"])])
        .changelog("z", &[("2", &["CVE-2026-2"])]);
    assert_eq!(world.check().findings[0].package, "a");

    world.exploited = Some(BTreeSet::from(["CVE-2026-2".to_owned()]));

    let report = world.check();
    assert_eq!(report.findings[0].package, "z");
    assert_eq!(report.findings[0].decision.priority, Priority::Critical);
    assert_eq!(report.findings[0].exploited, ["CVE-2026-2"]);
    assert!(report.findings[1].exploited.is_empty());
}
