use super::*;
use crate::inventory::{PackageState, SourcePackage};

const NATIVE: &str = "amd64";

struct World {
    suites: Vec<SuiteFacts>,
    offered: Vec<(usize, OfferedPackage)>,
    preferences: Preferences,
}

impl World {
    fn new() -> Self {
        Self { suites: Vec::new(), offered: Vec::new(), preferences: Preferences::default() }
    }

    fn suite(mut self, name: &str, versions: &[&str]) -> Self {
        self.suites.push(SuiteFacts {
            uri: format!("http://{name}.example.org/debian"),
            suite: name.to_owned(),
            components: vec!["main".to_owned()],
            architectures: vec![NATIVE.to_owned()],
            origin: Some("Debian".to_owned()),
            label: Some("Debian".to_owned()),
            release_suite: Some(name.to_owned()),
            codename: Some(format!("{name}-codename")),
            version: Some("12.1".to_owned()),
            date: "2026-11-01T00:00:00Z".parse().unwrap(),
            valid_until: None,
            signed_by: Vec::new(),
            release_sha256: String::new(),
            not_automatic: false,
            but_automatic_upgrades: false,
        });
        for version in versions {
            let package = OfferedPackage {
                name: "web".to_owned(),
                architecture: NATIVE.to_owned(),
                version: (*version).to_owned(),
                source: SourcePackage { name: "web-src".into(), version: (*version).into() },
                component: "main".to_owned(),
                filename: String::new(),
                size: 0,
                sha256: String::new(),
                phased_percentage: None,
            };
            self.offered.push((self.suites.len() - 1, package));
        }
        self
    }

    fn not_automatic(mut self, upgrades: bool) -> Self {
        let last = self.suites.last_mut().unwrap();
        last.not_automatic = true;
        last.but_automatic_upgrades = upgrades;
        self
    }

    fn pins(mut self, text: &str) -> Self {
        self.preferences.add("preferences", text).unwrap();
        self
    }

    fn default_release(mut self, release: &str) -> Self {
        self.preferences = self.preferences.with_default_release(release).unwrap();
        self
    }

    fn upgrade_of(&self, version: &str) -> Option<&str> {
        let installed = InstalledPackage {
            name: "web".to_owned(),
            architecture: NATIVE.to_owned(),
            version: version.to_owned(),
            source: SourcePackage { name: "web-src".into(), version: version.into() },
            state: PackageState::Installed,
            held: false,
        };
        let offers: Vec<Offer<'_>> = self
            .offered
            .iter()
            .map(|(suite, package)| Offer { suite: &self.suites[*suite], package })
            .collect();
        upgrade(&installed, NATIVE, &offers, &self.preferences)
            .map(|offer| offer.package.version.as_str())
    }
}

#[test]
fn the_newest_of_equal_suites_wins() {
    let world = World::new().suite("stable", &["1.0"]).suite("security", &["1.2", "1.1"]);

    assert_eq!(world.upgrade_of("1.0"), Some("1.2"));
    assert_eq!(world.upgrade_of("1.2"), None);
    assert_eq!(world.upgrade_of("2.0"), None);
}

#[test]
fn not_automatic_suites_offer_nothing_by_themselves() {
    let world = World::new().suite("stable", &["1.0"]).suite("experimental", &["2.0"]);

    assert_eq!(world.not_automatic(false).upgrade_of("1.0"), None);
}

#[test]
fn backports_upgrade_only_what_came_from_backports() {
    let world = || World::new().suite("stable", &["1.0"]).suite("backports", &["2.0", "2.1"]);

    assert_eq!(world().not_automatic(true).upgrade_of("1.0"), None);
    assert_eq!(world().not_automatic(true).upgrade_of("2.0"), Some("2.1"));
}

#[test]
fn a_local_version_yields_to_a_newer_automatic_upgrade_only() {
    let world = || World::new().suite("backports", &["2.0"]);

    assert_eq!(world().not_automatic(true).upgrade_of("1.5"), Some("2.0"));
    assert_eq!(world().not_automatic(false).upgrade_of("1.5"), None);
}

#[test]
fn specific_pins_rule_and_the_first_one_counts() {
    let world = World::new().suite("stable", &["1.0"]).suite("testing", &["2.0"]).pins(
        "Package: web\nPin: release a=testing\nPin-Priority: -1\n\n\
         Package: web\nPin: version 2.0\nPin-Priority: 999\n",
    );

    assert_eq!(world.upgrade_of("0.9"), Some("1.0"));
}

#[test]
fn version_pins_keep_a_package_where_it_is() {
    let world = World::new()
        .suite("stable", &["1.0"])
        .suite("security", &["1.1"])
        .pins("Package: w*\nPin: version 1.0*\nPin-Priority: 990\n");

    assert_eq!(world.upgrade_of("1.0"), None);
    assert_eq!(world.upgrade_of("0.9"), Some("1.0"));
}

#[test]
fn pins_for_other_packages_architectures_and_sources_do_not_count() {
    let world = || World::new().suite("stable", &["1.1"]);

    let pin = |package: &str| format!("Package: {package}\nPin: version *\nPin-Priority: -1\n");
    assert_eq!(world().pins(&pin("other")).upgrade_of("1.0"), Some("1.1"));
    assert_eq!(world().pins(&pin("web:arm64")).upgrade_of("1.0"), Some("1.1"));
    assert_eq!(world().pins(&pin("src:web")).upgrade_of("1.0"), Some("1.1"));
    assert_eq!(world().pins(&pin("src:web-src")).upgrade_of("1.0"), None);
    assert_eq!(world().pins(&pin("web:amd64")).upgrade_of("1.0"), None);
    assert_eq!(world().pins(&pin("web")).upgrade_of("1.0"), None);
}

#[test]
fn general_pins_set_the_priority_of_suites() {
    let world = World::new().suite("stable", &["1.0"]).suite("testing", &["2.0"]);

    let world = world.pins(
        "Package: *\nPin: release n=testing-codename\nPin-Priority: 50\n\n\
         Package: *\nPin: origin \"testing.example.org\"\nPin-Priority: 999\n",
    );

    assert_eq!(world.upgrade_of("0.9"), Some("1.0"));
    assert_eq!(world.upgrade_of("1.0"), None);
}

#[test]
fn the_default_release_comes_first() {
    let world = World::new().suite("stable", &["1.0"]).suite("testing", &["2.0"]);

    assert_eq!(world.default_release("stable").upgrade_of("0.9"), Some("1.0"));
}

#[test]
fn a_forced_downgrade_is_no_missing_patch() {
    let world = World::new()
        .suite("stable", &["1.0"])
        .suite("testing", &["3.0"])
        .pins("Package: *\nPin: release a=stable\nPin-Priority: 1001\n");

    assert_eq!(world.upgrade_of("2.0"), None);
}
