//! Which advisories' release a system belongs to, in OSV's spelling of ecosystems.

use crate::inventory::OsRelease;

/// The OSV ecosystems whose advisories apply to a system; empty where OSV has none, or where the
/// system does not say its release.
///
/// Ubuntu's long-term releases have two spellings, with and without `:LTS`; both mean the same
/// here. The ecosystems of extended support (`Ubuntu:Pro:…`) are left out: their fixes cannot be
/// installed without a subscription.
///
/// ```
/// use domain::inventory::OsRelease;
/// use domain::matching::ecosystems_of;
///
/// let debian = OsRelease { id: "debian".into(), version_id: Some("12".into()), ..Default::default() };
/// assert_eq!(ecosystems_of(&debian), ["Debian:12"]);
/// ```
pub fn ecosystems_of(os: &OsRelease) -> Vec<String> {
    let Some(version) = os.version_id.as_deref() else { return Vec::new() };
    let mut numbers = version.split('.');
    let major = numbers.next().unwrap_or_default();
    let minor = numbers.next();
    match os.id.as_str() {
        "debian" => vec![format!("Debian:{major}")],
        "ubuntu" if is_long_term(version) => {
            vec![format!("Ubuntu:{version}:LTS"), format!("Ubuntu:{version}")]
        }
        "ubuntu" => vec![format!("Ubuntu:{version}")],
        "almalinux" => vec![format!("AlmaLinux:{major}")],
        "rocky" => vec![format!("Rocky Linux:{major}")],
        "alpine" => minor.map(|minor| format!("Alpine:v{major}.{minor}")).into_iter().collect(),
        _ => Vec::new(),
    }
}

/// Every second April since 6.06 (which was late): even year, `.04`.
fn is_long_term(version: &str) -> bool {
    version
        .strip_suffix(".04")
        .is_some_and(|year| year.parse::<u32>().is_ok_and(|year| year % 2 == 0))
}

/// The one ecosystem that matching looks into for a system, in its canonical spelling.
pub(super) fn release_of(os: &OsRelease) -> Option<String> {
    ecosystems_of(os).first().map(|ecosystem| canonical(ecosystem).to_owned())
}

/// One spelling for each release.
pub(super) fn canonical(ecosystem: &str) -> &str {
    match ecosystem.strip_suffix(":LTS") {
        Some(release) if ecosystem.starts_with("Ubuntu:") => release,
        _ => ecosystem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_have_their_ecosystems() {
        let cases: &[(&str, &str, &[&str])] = &[
            ("debian", "12", &["Debian:12"]),
            ("ubuntu", "22.04", &["Ubuntu:22.04:LTS", "Ubuntu:22.04"]),
            ("ubuntu", "24.10", &["Ubuntu:24.10"]),
            ("ubuntu", "25.04", &["Ubuntu:25.04"]),
            ("almalinux", "9.4", &["AlmaLinux:9"]),
            ("rocky", "8.10", &["Rocky Linux:8"]),
            ("alpine", "3.20.1", &["Alpine:v3.20"]),
            ("alpine", "3", &[]),
            ("arch", "20260101", &[]),
        ];
        for (id, version, ecosystems) in cases {
            let os = OsRelease {
                id: (*id).to_owned(),
                version_id: Some((*version).to_owned()),
                ..OsRelease::default()
            };
            assert_eq!(ecosystems_of(&os), *ecosystems, "{id} {version}");
        }
        let sid = OsRelease { id: "debian".to_owned(), ..OsRelease::default() };
        assert_eq!(ecosystems_of(&sid), [""; 0]);
    }

    #[test]
    fn long_term_spellings_are_one_release() {
        assert_eq!(canonical("Ubuntu:22.04:LTS"), canonical("Ubuntu:22.04"));
        assert_ne!(canonical("Ubuntu:Pro:22.04:LTS"), canonical("Ubuntu:22.04:LTS"));
        assert_eq!(canonical("Debian:12"), "Debian:12");
    }
}
