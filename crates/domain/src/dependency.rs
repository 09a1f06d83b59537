//! What else has to be installed for a new version to work (Debian Policy 7.1 and 7.2).
//!
//! A patch is a newer version of an installed package, and now and then it asks for a package that
//! is not there: the kernel's metapackage for the next kernel, a library for one that was split.
//! [`complete`] follows `Depends` and `Pre-Depends` from the chosen versions until nothing is
//! missing. It chooses as apt does where nothing is in the way: the first alternative that is
//! there, else the first that is offered. Whether all of it goes together is for apt to decide,
//! in the lab.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::deb822::Paragraph;
use crate::version::VersionKind;

/// What a version of a package asks of those beside it, and what else it counts as.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    /// Binary package name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// Its version.
    pub version: String,
    /// `Pre-Depends` and `Depends`, joined by a comma.
    pub depends: String,
    /// `Provides`.
    pub provides: String,
}

/// A package that would do, in one of the versions that would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Alternative<'a> {
    /// Package name.
    pub name: &'a str,
    /// Which versions do; any, where nothing is said.
    pub version: Option<(Bound, &'a str)>,
}

/// How a version has to compare with the one named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

/// What has to be installed beside the chosen versions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completion {
    /// Packages that are not installed, in the order in which they were asked for.
    pub further: Vec<Relations>,
    /// What is asked for and nowhere offered.
    pub unmet: Vec<Unmet>,
}

/// A package asks for something that is nowhere offered.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unmet {
    /// The package.
    pub package: String,
    /// What it asks for, as written.
    pub relation: String,
}

impl Relations {
    /// From a paragraph of dpkg's status file or of a package list; `None` where it names no
    /// version of a package.
    pub fn of_paragraph(paragraph: Paragraph<'_>) -> Option<Self> {
        let mut relations = Self::default();
        for field in paragraph.fields() {
            match field.name {
                "Package" => field.value.clone_into(&mut relations.name),
                "Version" => field.value.clone_into(&mut relations.version),
                "Architecture" => field.value.clone_into(&mut relations.architecture),
                "Provides" => field.value.clone_into(&mut relations.provides),
                "Pre-Depends" | "Depends" => {
                    if !relations.depends.is_empty() {
                        relations.depends.push_str(", ");
                    }
                    relations.depends.push_str(field.value);
                }
                _ => {}
            }
        }
        (!relations.name.is_empty() && !relations.version.is_empty()).then_some(relations)
    }
}

impl Bound {
    /// Whether a version does.
    pub fn admits(self, version: &str, named: &str) -> bool {
        let order = VersionKind::Dpkg.compare(version, named);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }
}

impl Alternative<'_> {
    /// Whether a version of the package does.
    pub fn admits(&self, version: &str) -> bool {
        self.version.is_none_or(|(bound, named)| bound.admits(version, named))
    }
}

/// The groups of a relation field with each group's alternatives. What cannot be read is left out.
pub fn groups(field: &str) -> impl Iterator<Item = (&str, Vec<Alternative<'_>>)> {
    field.split(',').map(str::trim).filter(|group| !group.is_empty()).map(|group| {
        (group, group.split('|').filter_map(|text| alternative(text.trim())).collect())
    })
}

/// `name[:qualifier] [(bound version)]`, with restrictions of architectures and profiles behind.
fn alternative(text: &str) -> Option<Alternative<'_>> {
    let end = text.find(|c: char| c.is_whitespace() || "([<:".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    if name.is_empty() {
        return None;
    }
    let version = match rest.split_once('(') {
        None => None,
        Some((_, inside)) => Some(bound(inside.split_once(')')?.0.trim())?),
    };
    Some(Alternative { name, version })
}

fn bound(text: &str) -> Option<(Bound, &str)> {
    let signs = [
        ("<<", Bound::Earlier),
        ("<=", Bound::EarlierOrEqual),
        (">>", Bound::Later),
        (">=", Bound::LaterOrEqual),
        ("=", Bound::Equal),
        // Deprecated, and not what they look like (Policy 7.1).
        ("<", Bound::EarlierOrEqual),
        (">", Bound::LaterOrEqual),
    ];
    signs.into_iter().find_map(|(sign, bound)| Some((bound, text.strip_prefix(sign)?.trim())))
}

/// Follows what the chosen versions ask for until nothing is missing.
///
/// `offered` names the version of a package that would be installed for an alternative, and is
/// asked at most once for each of a package's alternatives.
///
/// # Errors
/// Whatever `offered` fails with.
pub fn complete<E>(
    installed: &[Relations],
    chosen: &[Relations],
    mut offered: impl FnMut(&Alternative<'_>) -> Result<Option<Relations>, E>,
) -> Result<Completion, E> {
    let mut there = There::default();
    let replaced: BTreeSet<(&str, &str)> =
        chosen.iter().map(|it| (it.name.as_str(), it.architecture.as_str())).collect();
    for package in installed {
        if !replaced.contains(&(&package.name, &package.architecture)) {
            there.add(package);
        }
    }
    for package in chosen {
        there.add(package);
    }
    let mut completion = Completion::default();
    let mut waiting: Vec<Relations> = chosen.iter().rev().cloned().collect();
    while let Some(package) = waiting.pop() {
        'groups: for (written, alternatives) in groups(&package.depends) {
            if alternatives.iter().any(|alternative| there.meets(alternative)) {
                continue;
            }
            for alternative in &alternatives {
                if let Some(further) = offered(alternative)? {
                    there.add(&further);
                    completion.further.push(further.clone());
                    waiting.push(further);
                    continue 'groups;
                }
            }
            let (package, relation) = (package.name.clone(), written.to_owned());
            completion.unmet.push(Unmet { package, relation });
        }
    }
    Ok(completion)
}

/// Names that are there, as packages or as what packages count as.
#[derive(Default)]
struct There {
    versions: BTreeMap<String, Vec<String>>,
    /// With the version that the name counts as, where one is said.
    provided: BTreeMap<String, Vec<Option<String>>>,
}

impl There {
    fn add(&mut self, package: &Relations) {
        self.versions.entry(package.name.clone()).or_default().push(package.version.clone());
        for (_, provided) in groups(&package.provides) {
            for name in provided {
                let version = name.version.map(|(_, version)| version.to_owned());
                self.provided.entry(name.name.to_owned()).or_default().push(version);
            }
        }
    }

    fn meets(&self, alternative: &Alternative<'_>) -> bool {
        let real = self.versions.get(alternative.name).into_iter().flatten();
        let provided = self.provided.get(alternative.name).into_iter().flatten();
        // What is provided without a version meets no bound (Policy 7.5).
        real.map(String::as_str).any(|version| alternative.admits(version))
            || provided.into_iter().any(|version| match version {
                Some(version) => alternative.admits(version),
                None => alternative.version.is_none(),
            })
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn package(name: &str, version: &str, depends: &str, provides: &str) -> Relations {
        Relations {
            name: name.to_owned(),
            architecture: "amd64".to_owned(),
            version: version.to_owned(),
            depends: depends.to_owned(),
            provides: provides.to_owned(),
        }
    }

    fn completed(
        installed: &[Relations],
        chosen: &[Relations],
        archive: &[Relations],
    ) -> (Vec<String>, Vec<String>) {
        let offered = |wanted: &Alternative<'_>| {
            let found =
                archive.iter().find(|it| it.name == wanted.name && wanted.admits(&it.version));
            Ok::<_, Infallible>(found.cloned())
        };
        let done = complete(installed, chosen, offered).unwrap();
        let unmet = done.unmet.into_iter().map(|it| format!("{}: {}", it.package, it.relation));
        (done.further.into_iter().map(|it| it.name).collect(), unmet.collect())
    }

    #[test]
    fn a_metapackage_brings_the_next_kernel_and_what_that_needs() {
        let installed = [
            package("linux-image-amd64", "6.1.1-1", "linux-image-6.1.0-1-amd64 (= 6.1.1-1)", ""),
            package("kmod", "30", "", ""),
        ];
        let chosen =
            [package("linux-image-amd64", "6.1.9-1", "linux-image-6.1.0-9-amd64 (= 6.1.9-1)", "")];
        let archive = [
            package(
                "linux-image-6.1.0-9-amd64",
                "6.1.9-1",
                "kmod, linux-base (>= 4.3~), initramfs-tools | dracut",
                "",
            ),
            package("linux-base", "4.9", "", ""),
            package("initramfs-tools", "0.142", "", ""),
            package("dracut", "059", "", ""),
        ];

        let (further, unmet) = completed(&installed, &chosen, &archive);

        assert_eq!(further, ["linux-image-6.1.0-9-amd64", "linux-base", "initramfs-tools"]);
        assert!(unmet.is_empty(), "{unmet:?}");
    }

    #[test]
    fn what_is_there_in_any_way_is_not_asked_for() {
        let installed = [
            package("mawk", "1.3", "", "awk"),
            package("libfoo2t64", "2.0", "", "libfoo2 (= 2.0)"),
            package("python3", "3.11", "", ""),
        ];
        let depends = "awk, libfoo2 (>= 1.5), python3:any (>= 3.9), nothing | mawk";

        let (further, unmet) = completed(&installed, &[package("web", "2", depends, "")], &[]);

        assert_eq!((further.len(), unmet.len()), (0, 0), "{unmet:?}");
    }

    #[test]
    fn a_name_provided_without_a_version_meets_no_bound() {
        let installed = [package("mawk", "1.3", "", "awk")];

        let (_, unmet) = completed(&installed, &[package("web", "2", "awk (>= 1)", "")], &[]);

        assert_eq!(unmet, ["web: awk (>= 1)"]);
    }

    #[test]
    fn a_chosen_version_stands_for_the_installed_one() {
        let installed = [package("libfoo", "1", "", ""), package("tool", "1", "", "")];
        let chosen = [package("libfoo", "2", "", ""), package("tool", "2", "libfoo (= 2)", "")];

        assert_eq!(completed(&installed, &chosen, &[]), (Vec::new(), Vec::new()));
        let (_, unmet) = completed(&installed, &chosen[1..], &[]);
        assert_eq!(unmet, ["tool: libfoo (= 2)"]);
    }

    #[test]
    fn packages_that_need_each_other_come_to_an_end() {
        let archive = [package("a", "1", "b", ""), package("b", "1", "a", "")];

        let (further, _) = completed(&[], &[package("web", "1", "a", "")], &archive);

        assert_eq!(further, ["a", "b"]);
    }

    #[test]
    fn bounds_are_read_as_policy_says() {
        let read = |text| groups(text).flat_map(|(_, group)| group).collect::<Vec<_>>();
        let one = |bound, version| Alternative { name: "a", version: Some((bound, version)) };

        assert_eq!(
            read("a (<< 1)|a(<=2), a:any (= 3) [amd64] <!nocheck>, a (>=4) , a (>> 5)"),
            [
                one(Bound::Earlier, "1"),
                one(Bound::EarlierOrEqual, "2"),
                one(Bound::Equal, "3"),
                one(Bound::LaterOrEqual, "4"),
                one(Bound::Later, "5"),
            ]
        );
        assert_eq!(
            read("a (< 1), a (> 1)"),
            [one(Bound::EarlierOrEqual, "1"), one(Bound::LaterOrEqual, "1")]
        );
        assert_eq!(read(" ,|, (= 1), a (= 1"), []);
    }
}
