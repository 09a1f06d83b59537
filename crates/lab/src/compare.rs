//! What differs between two images, and why.
//!
//! A bake explains itself with this: what was altered because of which package, and what else was.
//! It also tells how far two bakes of the same inputs are from each other. Nothing is run or
//! mounted; both images are read file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use domain::files::FileError;
use domain::inventory::Inventory;
use inspect::{Attributes, InspectError, MetKind, OpenError, Target};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// Files that are larger are compared by nothing, and told as such.
const LARGEST_FILE: u64 = 1 << 30;

/// A package's list of files; the kernel's has 400 kB.
const LARGEST_LIST: u64 = 32 << 20;

/// What differs between two images.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Comparison {
    /// Packages that came, went, or have another version.
    pub packages: Vec<PackageChange>,
    /// Files, directories and links that came, went, or are others.
    pub files: Vec<FileChange>,
    /// What could not be compared, in words.
    pub problems: Vec<String>,
}

/// A package that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PackageChange {
    /// Binary package.
    pub package: String,
    /// Its architecture.
    pub architecture: String,
    /// Version in the first image; `None` where it was not installed.
    pub before: Option<String>,
    /// Version in the second image; `None` where it is not installed.
    pub after: Option<String>,
}

/// A name that differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FileChange {
    /// Where it is.
    pub path: String,
    /// What happened to it.
    pub change: Change,
    /// Why.
    #[serde(flatten)]
    pub because: Because,
}

/// What happened to a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is only in the second image.
    Added,
    /// It is only in the first image.
    Removed,
    /// It has other content, or is something else.
    Content,
    /// Its owner, group or permissions are others.
    Attributes,
}

/// Why a name differs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Because {
    /// It belongs to a package that differs.
    Package {
        /// The package.
        package: String,
    },
    /// dpkg, apt and their helpers keep their records there.
    PackageRecords,
    /// It is made from installed packages: initial RAM filesystem, boot menu, indexes of kernel
    /// modules, links of services and alternatives, caches.
    Generated,
    /// A log.
    Log,
    /// What only one machine may have.
    Identity,
    /// Nothing here explains it.
    Unexplained,
}

/// Why two images cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// An image cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// What is installed cannot be read.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
}

impl CompareError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Open(error) => error.help(),
            Self::Inspect(error) => error.help(),
            Self::File(_) => None,
        }
    }
}

impl Comparison {
    /// What nothing explains.
    pub fn unexplained(&self) -> impl Iterator<Item = &FileChange> {
        self.files.iter().filter(|file| file.because == Because::Unexplained)
    }

    /// Whether everything was compared, and nothing differs.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.files.is_empty() && self.problems.is_empty()
    }
}

/// Compares two images, or root directories.
pub fn compare(before: &Path, after: &Path) -> Result<Comparison, CompareError> {
    let (before, after) = (inspect::open(before, None)?, inspect::open(after, None)?);
    let packages = package_changes(&before.inventory()?, &after.inventory()?);
    let mut problems = Vec::new();
    let old = Tree::read(&before, "before", &mut problems)?;
    let new = Tree::read(&after, "after", &mut problems)?;
    let owners = owners(&packages, &[(&before, &old), (&after, &new)])?;
    let mut files = Vec::new();
    let paths: BTreeSet<&String> = old.names.keys().chain(new.names.keys()).collect();
    for path in paths {
        let change = match (old.names.get(path), new.names.get(path)) {
            (None, Some(_)) => Change::Added,
            (Some(_), None) => Change::Removed,
            (Some(old), Some(new)) if old.what != new.what => Change::Content,
            (Some(old), Some(new)) if old.attributes != new.attributes => Change::Attributes,
            _ => continue,
        };
        let because = match owners.get(path) {
            Some(package) => Because::Package { package: package.clone() },
            None => explain(path, &old, &new),
        };
        files.push(FileChange { path: path.clone(), change, because });
    }
    Ok(Comparison { packages, files, problems })
}

fn package_changes(before: &Inventory, after: &Inventory) -> Vec<PackageChange> {
    let versions = |inventory: &Inventory| -> BTreeMap<(String, String), String> {
        let packages = inventory.packages.iter();
        packages
            .map(|it| ((it.name.clone(), it.architecture.clone()), it.version.clone()))
            .collect()
    };
    let (before, after) = (versions(before), versions(after));
    let names: BTreeSet<&(String, String)> = before.keys().chain(after.keys()).collect();
    names
        .into_iter()
        .filter(|name| before.get(*name) != after.get(*name))
        .map(|name| PackageChange {
            package: name.0.clone(),
            architecture: name.1.clone(),
            before: before.get(name).cloned(),
            after: after.get(name).cloned(),
        })
        .collect()
}

/// Everything that a name is, in a size that does not depend on its content.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    what: What,
    attributes: Option<(u32, u32, u32)>,
}

#[derive(Debug, PartialEq, Eq)]
enum What {
    Directory,
    File([u8; 32]),
    Link(Vec<u8>),
    Other,
    Unread,
}

#[derive(Debug, Default)]
struct Tree {
    names: BTreeMap<String, Name>,
}

impl Tree {
    fn read(target: &Target, which: &str, problems: &mut Vec<String>) -> Result<Self, FileError> {
        let mut tree = Self::default();
        target.walk(LARGEST_FILE, &mut |met| {
            let what = match met.kind {
                MetKind::Directory => What::Directory,
                MetKind::File(content) => What::File(Sha256::digest(content).into()),
                MetKind::Link(target) => What::Link(target.to_vec()),
                MetKind::Other => What::Other,
                MetKind::Unread(reason) => {
                    problems.push(format!("{which}: `{}`: {reason}", met.path));
                    What::Unread
                }
            };
            let attributes = met.attributes.map(|Attributes { mode, uid, gid }| (mode, uid, gid));
            tree.names.insert(met.path.to_owned(), Name { what, attributes });
        })?;
        Ok(tree)
    }

    /// Where a path of a package's list really lies: Debian's `/lib` is a link to `usr/lib`.
    fn real(&self, path: &str) -> String {
        let Some((top, rest)) = path.get(1..).and_then(|path| path.split_once('/')) else {
            return path.to_owned();
        };
        match self.names.get(&format!("/{top}")).map(|name| &name.what) {
            Some(What::Link(target)) => {
                let target = String::from_utf8_lossy(target);
                format!("/{}/{rest}", target.trim_start_matches('/').trim_end_matches('/'))
            }
            _ => path.to_owned(),
        }
    }
}

/// The files of packages that differ, by the lists that dpkg keeps.
fn owners(
    packages: &[PackageChange],
    images: &[(&Target, &Tree)],
) -> Result<BTreeMap<String, String>, FileError> {
    let mut owners = BTreeMap::new();
    for PackageChange { package, architecture, .. } in packages {
        for (target, tree) in images {
            for stem in [package.clone(), format!("{package}:{architecture}")] {
                let list = format!("/var/lib/dpkg/info/{stem}.list");
                let Some(list) = target.files().read(&list, LARGEST_LIST)? else { continue };
                for path in String::from_utf8_lossy(&list).lines().filter(|path| *path != "/.") {
                    owners.entry(tree.real(path)).or_insert_with(|| package.clone());
                }
            }
        }
    }
    Ok(owners)
}

/// Places whose content follows from what is installed, or from a machine's life.
fn explain(path: &str, old: &Tree, new: &Tree) -> Because {
    const RECORDS: [&str; 6] = [
        "/var/lib/dpkg/",
        "/var/lib/apt/",
        "/var/lib/ucf/",
        "/var/lib/pam/",
        "/var/lib/systemd/deb-systemd-",
        "/var/lib/initramfs-tools/",
    ];
    const IDENTITY: [&str; 5] = [
        "/etc/machine-id",
        "/var/lib/dbus/machine-id",
        "/etc/ssh/ssh_host_",
        "/var/lib/systemd/random-seed",
        "/var/lib/systemd/credential.secret",
    ];
    let is_in = |places: &[&str]| places.iter().any(|place| path.starts_with(place));
    if is_in(&RECORDS) {
        Because::PackageRecords
    } else if is_in(&IDENTITY) {
        Because::Identity
    } else if path.starts_with("/var/log/") {
        Because::Log
    } else if is_generated(path, old, new) {
        Because::Generated
    } else {
        Because::Unexplained
    }
}

/// Whether packages' scripts make it of what is installed.
fn is_generated(path: &str, old: &Tree, new: &Tree) -> bool {
    const FILES: [&str; 7] = [
        "/vmlinuz",
        "/vmlinuz.old",
        "/initrd.img",
        "/initrd.img.old",
        "/etc/ld.so.cache",
        "/etc/.updated",
        "/var/.updated",
    ];
    const PLACES: [&str; 6] = [
        "/boot/grub/",
        "/boot/efi/",
        "/etc/alternatives/",
        "/var/cache/",
        "/var/lib/systemd/catalog/",
        "/usr/share/mime/",
    ];
    let is_there = |path: &str| old.names.contains_key(path) || new.names.contains_key(path);
    if FILES.contains(&path) || PLACES.iter().any(|place| path.starts_with(place)) {
        return true;
    }
    let (directory, name) = path.rsplit_once('/').unwrap_or_default();
    // The initial RAM filesystem of a kernel that is there.
    if let Some(release) = path.strip_prefix("/boot/initrd.img-") {
        return is_there(&format!("/boot/vmlinuz-{release}"));
    }
    // What Python compiled of a source that is there.
    if let Some(of) = directory.strip_suffix("/__pycache__") {
        let module = name.split('.').next().unwrap_or_default();
        return name.rsplit_once('.').is_some_and(|(_, kind)| kind == "pyc")
            && is_there(&format!("{of}/{module}.py"));
    }
    if name == "__pycache__" {
        return true;
    }
    // Units and levels are enabled by links; whatever else lies there is somebody's own.
    let level = path.strip_prefix("/etc/rc").and_then(|rest| rest.get(..4));
    let enables = path.starts_with("/etc/systemd/system/")
        || level.is_some_and(|level| {
            level.ends_with(".d/") && level.starts_with(|c: char| "0123456S".contains(c))
        });
    if enables {
        let is_no_file = |tree: &Tree| {
            let what = tree.names.get(path).map(|name| &name.what);
            matches!(what, None | Some(What::Link(_) | What::Directory))
        };
        return is_no_file(old) && is_no_file(new);
    }
    directory.contains("/modules/") && name.starts_with("modules.")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn status(version: &str) -> String {
        format!(
            "Package: web\nStatus: install ok installed\nArchitecture: all\nVersion: {version}\n"
        )
    }

    /// A root directory with one package, whose list names a file through a link.
    fn root(version: &str, content: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("etc/os-release", "ID=debian\nVERSION_ID=12\n");
        write("var/lib/dpkg/status", &status(version));
        write("var/lib/dpkg/info/web.list", "/.\n/lib\n/lib/web\n/lib/web/code\n");
        write("usr/lib/web/code", content);
        symlink("usr/lib", root.path().join("lib")).unwrap();
        root
    }

    #[test]
    fn equal_systems_do_not_differ() {
        let (one, two) = (root("1", "x"), root("1", "x"));
        let comparison = compare(one.path(), two.path()).unwrap();
        assert!(comparison.is_empty(), "{comparison:#?}");
    }

    #[test]
    fn what_somebody_put_where_packages_work_is_not_explained() {
        let (one, two) = (root("1", "x"), root("1", "x"));
        let add = |path: &str| {
            let path = two.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "evil").unwrap();
        };
        let put = [
            "boot/initrd.img-evil",
            "etc/rc.local",
            "etc/rc2.d/S99evil",
            "etc/systemd/system/evil.service",
            "usr/lib/web/__pycache__/evil.cpython-311.pyc",
            "vmlinuz-evil",
        ];
        put.into_iter().for_each(add);

        let comparison = compare(one.path(), two.path()).unwrap();

        let unexplained: Vec<&str> =
            comparison.unexplained().map(|file| file.path.trim_start_matches('/')).collect();
        for path in put {
            assert!(unexplained.contains(&path), "{path}: {unexplained:?}");
        }
    }

    #[test]
    fn each_difference_is_told_with_its_reason() {
        let (one, two) = (root("1", "x"), root("2", "y"));
        fs::write(two.path().join("etc/passwd"), "eve").unwrap();
        fs::create_dir_all(one.path().join("var/log")).unwrap();
        fs::create_dir_all(two.path().join("var/log")).unwrap();
        fs::write(one.path().join("var/log/syslog"), "x").unwrap();
        let mode = fs::Permissions::from_mode(0o777);
        fs::set_permissions(two.path().join("etc/os-release"), mode).unwrap();

        let comparison = compare(one.path(), two.path()).unwrap();

        let change = PackageChange {
            package: "web".into(),
            architecture: "all".into(),
            before: Some("1".into()),
            after: Some("2".into()),
        };
        assert_eq!(comparison.packages, [change]);
        let told: Vec<(&str, Change, Because)> = comparison
            .files
            .iter()
            .map(|it| (it.path.as_str(), it.change, it.because.clone()))
            .collect();
        assert_eq!(
            told,
            [
                ("/etc/os-release", Change::Attributes, Because::Unexplained),
                ("/etc/passwd", Change::Added, Because::Unexplained),
                ("/usr/lib/web/code", Change::Content, Because::Package { package: "web".into() }),
                ("/var/lib/dpkg/status", Change::Content, Because::PackageRecords),
                ("/var/log/syslog", Change::Removed, Because::Log),
            ]
        );
        assert_eq!(comparison.unexplained().count(), 2);
    }
}
