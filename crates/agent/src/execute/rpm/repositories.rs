//! Packages by the repositories that the host's own dnf configuration names and trusts.
//!
//! dnf brings lists and packages: it knows mirrors, proxies and certificates of the host. What it brings is
//! held here against what was ordered, and against the host's keys, as dnf itself does it before it installs
//! something, and never less:
//!
//! - A repository vouches by its list where the list is signed (`repo_gpgcheck`) with a key that lies on the
//!   host, or by its packages where these are signed (`gpgcheck`) with a key that rpm was given already, or
//!   that lies on the host. A key that is fetched when it is needed is nobody's word.
//! - Where it is configured to do both, both have to hold. One that does neither vouches for nothing.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use collect::rpm::{Listed, listed};
use domain::change::ExactPackage;
use domain::order::Refusal;

use super::super::executor::hash_of;
use super::super::packages::{PackageFault, Room, TrustedPackages};
use super::super::tools::{Tools, ended};
use super::{ENVIRONMENT, Named, ini};

/// dnf's own configuration.
const CONFIGURATION: &str = "/etc/dnf/dnf.conf";
/// Where it looks for repositories, unless it is told otherwise (`reposdir`).
const DIRECTORIES: [&str; 3] = ["/etc/yum.repos.d", "/etc/yum/repos.d", "/etc/distro.repos.d"];

/// The repositories of the system below a root.
#[derive(Debug, Clone)]
pub struct HostRepositories {
    tools: Tools,
}

/// A repository that is used, and how it vouches.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Repository {
    id: String,
    /// Its packages are signed.
    signs_packages: bool,
    /// Its list is signed.
    signs_list: bool,
    /// Keys as configured.
    keys: Vec<String>,
}

impl Repository {
    /// Whether its signed list is enough: it is signed by keys of the host's, and by no others.
    fn list_vouches(&self) -> bool {
        self.signs_list && !self.keys.is_empty() && self.keys.iter().all(|it| is_local(it))
    }

    /// Its keys that lie on the host. One whose name dnf has to complete counts once rpm was given it.
    fn local_keys(&self) -> impl Iterator<Item = &str> {
        let keys = self.keys.iter().filter(|key| is_local(key) && !key.contains('$'));
        keys.map(|key| key.strip_prefix("file://").unwrap_or(key))
    }
}

fn is_local(key: &str) -> bool {
    key.starts_with('/') || key.starts_with("file:///")
}

/// A package and who vouches for it.
struct Offer<'a> {
    repository: &'a Repository,
    listed: Listed,
}

impl HostRepositories {
    /// Those of the system below a root, with a directory for what is fetched that lies below it as well.
    pub fn new(root: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        Self { tools: Tools::new(root.into(), work.into(), &ENVIRONMENT) }
    }

    /// Repositories that are used and signed in some way.
    fn repositories(&self) -> Result<Vec<Repository>, PackageFault> {
        let text = self.text(CONFIGURATION)?.unwrap_or_default();
        let mut sections = ini::parse(&text);
        let mut directories: Vec<_> = DIRECTORIES.map(str::to_owned).into();
        let main = sections.iter().filter(|(name, _)| name == "main");
        let main: Vec<_> = main.flat_map(|(_, values)| values.clone()).collect();
        if let Some(named) = value(&main, &["reposdir"]) {
            directories = ini::words(named).collect();
        }
        for directory in &directories {
            for file in self.files_in(directory)? {
                sections.extend(ini::parse(&self.text(&file)?.unwrap_or_default()));
            }
        }
        Ok(used(&sections, &main))
    }

    fn text(&self, path: &str) -> Result<Option<String>, PackageFault> {
        let path = self.tools.outside(path);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PackageFault::disk(&path)(error)),
        }
    }

    /// Files that name repositories, in their order.
    fn files_in(&self, directory: &str) -> Result<Vec<String>, PackageFault> {
        let place = self.tools.outside(directory);
        let entries = match fs::read_dir(&place) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(PackageFault::disk(&place)(error)),
        };
        let mut files = Vec::new();
        for entry in entries {
            let name = entry.map_err(PackageFault::disk(&place))?.file_name();
            if let Some(name) = name
                .to_str()
                .filter(|name| Path::new(name).extension().is_some_and(|end| end == "repo"))
            {
                files.push(format!("{directory}/{name}"));
            }
        }
        files.sort();
        Ok(files)
    }

    /// Runs dnf with one repository alone.
    fn dnf(&self, repository: &Repository, rest: &[&str]) -> Result<(), PackageFault> {
        let cache = self.tools.work().join("lists");
        fs::create_dir_all(&cache).map_err(PackageFault::disk(&cache))?;
        let id = &repository.id;
        let options = [
            format!("--enablerepo={id}"),
            format!("--setopt=cachedir={}", self.tools.inside(&cache)?),
            // What cannot be had is told, and lists are read as everybody packs them.
            "--setopt=*.skip_if_unavailable=0".to_owned(),
            "--setopt=zchunk=0".to_owned(),
        ];
        let mut argv = vec!["dnf", "--assumeyes", "--quiet", "--disablerepo=*"];
        argv.extend(options.iter().map(String::as_str));
        argv.extend(rest);
        self.tools.fetch(&argv).map(drop)
    }

    /// What a repository lists now of packages with these names.
    fn list(&self, repository: &Repository, names: &HashSet<&str>) -> Result<Vec<Listed>, String> {
        let refresh = || {
            self.forget_keys(repository).map_err(|error| error.to_string())?;
            let fetched = self.dnf(repository, &["--refresh", "makecache"]);
            fetched.map_err(|fault| fault.to_string())
        };
        refresh()?;
        let places = || self.places(repository).map_err(|error| error.to_string());
        let mut now = places()?;
        if now.len() > 1 {
            // Of another address that it had once: only one is what dnf reads now.
            for place in now {
                fs::remove_dir_all(place).map_err(|error| error.to_string())?;
            }
            refresh()?;
            now = places()?;
        }
        let [place] = now.as_slice() else { return Err("dnf kept no list of it".to_owned()) };
        listed(&place.join("repodata"), &|name| names.contains(name))
            .map_err(|error| error.to_string())
    }

    /// Where dnf keeps what it has of a repository: `ID-` and sixteen digits.
    fn places(&self, repository: &Repository) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(self.tools.work().join("lists")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let is_its = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digits = name.strip_prefix(&repository.id).and_then(|it| it.strip_prefix('-'));
            digits.is_some_and(|it| it.len() == 16 && it.bytes().all(|it| it.is_ascii_hexdigit()))
        };
        Ok(entries.flatten().map(|entry| entry.path()).filter(is_its).collect())
    }

    /// A list is to be signed with a key that is configured now, not with one that once was.
    fn forget_keys(&self, repository: &Repository) -> io::Result<()> {
        for place in self.places(repository)? {
            match fs::remove_dir_all(place.join("pubring")) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Brings one package, and holds it against what was ordered and against the host's keys.
    fn fetch(
        &self,
        offer: &Offer<'_>,
        package: &ExactPackage,
        into: &Path,
    ) -> Result<PathBuf, Refusal> {
        let failed =
            |because: String| Refusal::NotFetched { package: Box::new(package.clone()), because };
        let place = into.join(format!("fetched-{}", package.sha256));
        let fetched = || -> Result<PathBuf, PackageFault> {
            fs::create_dir_all(&place).map_err(PackageFault::disk(&place))?;
            let to = format!("--destdir={}", self.tools.inside(&place)?);
            let ExactPackage { name, architecture, version, .. } = package.clone();
            let spec = Named { name, architecture, version }.full();
            self.dnf(offer.repository, &["download", &to, "--", &spec])?;
            let entries = fs::read_dir(&place).map_err(PackageFault::disk(&place))?;
            let files: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
            match files.as_slice() {
                [file] => Ok(file.clone()),
                _ => Err(PackageFault::Database {
                    reason: format!("dnf brought {} files for {spec}", files.len()),
                }),
            }
        };
        let file = fetched().map_err(|fault| failed(fault.to_string()))?;
        let hash = hash_of(&file).map_err(|error| failed(error.to_string()))?;
        if hash != package.sha256 {
            return Err(failed(format!("its file has the SHA-256 {hash}")));
        }
        if offer.repository.signs_packages {
            self.check_signature(offer.repository, &file).map_err(|because| {
                let because = format!("; {because}");
                Refusal::NotVouched { package: Box::new(package.clone()), because }
            })?;
        }
        let to = into.join(format!("{}.rpm", package.sha256));
        let moved = fs::rename(&file, &to).and_then(|()| fs::remove_dir(&place));
        moved.map_err(|error| failed(error.to_string()))?;
        Ok(to)
    }

    /// Whether a key of the host's signed a package: one that rpm was given, or one of the repository's that
    /// lies there.
    fn check_signature(&self, repository: &Repository, file: &Path) -> Result<(), String> {
        let file = self.tools.inside(file).map_err(|fault| fault.to_string())?;
        let by_rpms = self.signature(&[], &file).map_err(|fault| fault.to_string())?;
        if by_rpms.is_ok() {
            return Ok(());
        }
        let keys = self.tools.work().join("keys");
        let given = || -> Result<bool, PackageFault> {
            let _ = fs::remove_dir_all(&keys);
            fs::create_dir_all(&keys).map_err(PackageFault::disk(&keys))?;
            let database = format!("--dbpath={}", self.tools.inside(&keys)?);
            let mut is_given = false;
            for key in repository.local_keys() {
                let output = self.tools.ask(&["rpmkeys", &database, "--import", "--", key])?;
                is_given |= output.exit == Some(0);
            }
            Ok(is_given && self.signature(&[database.as_str()], &file)?.is_ok())
        };
        match given() {
            Ok(true) => Ok(()),
            Ok(false) => by_rpms,
            Err(fault) => Err(fault.to_string()),
        }
    }

    /// What rpm says of a package's signature, with the keys of some database.
    fn signature(&self, database: &[&str], file: &str) -> Result<Result<(), String>, PackageFault> {
        let level = ["--define", "_pkgverify_level all", "--checksig", "--verbose", "--", file];
        let output = self.tools.ask(&[&["rpmkeys"][..], database, &level[..]].concat())?;
        if output.exit.is_none() {
            return Err(ended("rpmkeys", &output));
        }
        if output.exit == Some(0) && is_signed(&output.text) {
            return Ok(Ok(()));
        }
        Ok(Err(format!("no key of this host signed its file: {}", output.text.trim())))
    }
}

/// Whether rpm says of a signature that it holds, and of nothing that it does not. `Header RSA signature:
/// NOTFOUND` and digests alone are none.
fn is_signed(text: &str) -> bool {
    let mut lines = text.lines().filter_map(|line| line.rsplit_once(": "));
    let is_signature = |what: &str| what.to_ascii_lowercase().contains("signature");
    lines.any(|(what, how)| is_signature(what) && how.trim() == "OK")
}

fn value<'a>(values: &'a [(String, String)], keys: &[&str]) -> Option<&'a str> {
    // The last one holds, as everywhere in dnf.
    let named = values.iter().rev().find(|(key, _)| keys.contains(&key.as_str()));
    named.map(|(_, value)| value.as_str())
}

/// Repositories that are enabled and signed in some way, with what the section `main` says for all.
fn used(
    sections: &[(String, Vec<(String, String)>)],
    main: &[(String, String)],
) -> Vec<Repository> {
    let mut used = Vec::new();
    for (id, values) in sections.iter().filter(|(id, _)| id != "main") {
        let is = |keys: &[&str], without: bool| {
            let named = value(values, keys).or_else(|| value(main, keys));
            // What is neither yes nor no is nothing to rely on.
            named.map_or(without, |text| ini::boolean(text).unwrap_or(false))
        };
        let keys = value(values, &["gpgkey"]).map(|keys| ini::words(keys).collect());
        let repository = Repository {
            id: id.clone(),
            signs_packages: is(&["gpgcheck", "pkg_gpgcheck"], false),
            signs_list: is(&["repo_gpgcheck"], false),
            keys: keys.unwrap_or_default(),
        };
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
        let is_named = !id.is_empty() && id.bytes().all(is_plain);
        let is_enabled =
            value(values, &["enabled"]).is_none_or(|it| ini::boolean(it) == Some(true));
        if is_enabled && is_named && (repository.signs_packages || repository.list_vouches()) {
            used.push(repository);
        }
    }
    used
}

impl TrustedPackages for HostRepositories {
    fn bring(
        &self,
        packages: &[ExactPackage],
        into: &Path,
        room: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let Some(first) = packages.first() else { return Ok(Vec::new()) };
        let repositories = self.repositories().map_err(|fault| {
            let because = format!("; {fault}");
            Refusal::NotVouched { package: Box::new(first.clone()), because }
        })?;
        let names: HashSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        let mut offers = Vec::new();
        let mut unread = String::new();
        for repository in &repositories {
            match self.list(repository, &names) {
                Ok(listed) => {
                    offers.extend(listed.into_iter().map(|listed| Offer { repository, listed }));
                }
                Err(error) => unread = format!("{unread}; {} is not used: {error}", repository.id),
            }
        }
        let mut wants = Vec::with_capacity(packages.len());
        for package in packages {
            let sha256 = package.sha256.to_string();
            let is_it = |offer: &&Offer<'_>| {
                offer.listed.name == package.name
                    && offer.listed.architecture == package.architecture
                    && offer.listed.version == package.version
                    && offer.listed.sha256 == sha256
            };
            let found = offers.iter().find(is_it).ok_or_else(|| Refusal::NotVouched {
                package: Box::new(package.clone()),
                because: unread.clone(),
            })?;
            wants.push((found, package));
        }
        let size = wants.iter().map(|(offer, _)| offer.listed.size).sum();
        room(&[(into, size)])?;
        wants.into_iter().map(|(offer, package)| self.fetch(offer, package, into)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used_of(text: &str) -> Vec<Repository> {
        let sections = ini::parse(text);
        let main = sections.iter().find(|(name, _)| name == "main");
        used(&sections, &main.map(|(_, values)| values.clone()).unwrap_or_default())
    }

    fn ids(text: &str) -> Vec<String> {
        used_of(text).into_iter().map(|it| it.id).collect()
    }

    #[test]
    fn a_repository_vouches_where_it_is_enabled_and_signed() {
        let text = "[main]\ngpgcheck=1\n\
            [packages]\ngpgkey=https://vendor/key\n\
            [off]\nenabled=0\n\
            [unsigned]\ngpgcheck = no\n\
            [list]\ngpgcheck=0\nrepo_gpgcheck=True\ngpgkey=file:///etc/pki/a\n /etc/pki/b\n\
            [remote-key]\ngpgcheck=0\nrepo_gpgcheck=1\ngpgkey=file:///etc/pki/a, https://vendor/key\n\
            [no-key]\ngpgcheck=0\nrepo_gpgcheck=1\n\
            [strange]\ngpgcheck=maybe\n";
        let used = used_of(text);

        let named: Vec<_> = used.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(named, ["packages", "list"]);
        assert!(used[0].signs_packages && !used[0].signs_list);
        assert_eq!(used[0].local_keys().count(), 0);
        assert!(used[1].signs_list && !used[1].signs_packages);
        assert_eq!(used[1].local_keys().collect::<Vec<_>>(), ["/etc/pki/a", "/etc/pki/b"]);
        // Nothing is checked unless somebody says so.
        assert_eq!(ids("[main]\n[a]\nbaseurl=http://a\n"), [""; 0]);
        assert_eq!(ids("[a b]\ngpgcheck=1\n[--x=*]\ngpgcheck=1\n"), [""; 0]);
    }

    #[test]
    fn only_a_signature_that_holds_is_one() {
        assert!(is_signed("a.rpm:\n    Header V4 RSA/SHA256 Signature, key ID 177a5fc4: OK\n"));
        for text in [
            "a.rpm:\n    Header SHA256 digest: OK\n    MD5 digest: OK\n",
            "a.rpm:\n    Header RSA signature: NOTFOUND\n",
            "a.rpm:\n    Header V4 RSA/SHA256 Signature, key ID 177a5fc4: NOKEY\n",
            "a.rpm:\n    Header V4 RSA/SHA256 Signature, key ID 177a5fc4: BAD\n",
        ] {
            assert!(!is_signed(text), "{text}");
        }
    }
}
