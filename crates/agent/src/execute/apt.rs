//! Debian and its kin: dpkg, with apt for the order of things.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use domain::change::ExactPackage;
use domain::version::VersionKind;
use tar::Archive;

use super::command::Output;
use super::dpkg_files::Written;
use super::packages::{
    Alteration, Completeness, Direction, Found, Hold, Newer, PackageFault, PackageSystem,
};
use super::tools::{Tools, ended};
use super::{repack, settings};

/// Nobody is there to answer, nothing beside the packages' own scripts restarts anything, and
/// configuration files stay as the owner left them.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("DEBIAN_PRIORITY", "critical"),
    ("DEBCONF_NONINTERACTIVE_SEEN", "true"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("NEEDRESTART_SUSPEND", "1"),
    ("NEEDRESTART_MODE", "l"),
    ("UCF_FORCE_CONFFOLD", "1"),
];

/// A file that was not altered becomes the new one, one that was stays.
const KEEP_SETTINGS: [&str; 2] = ["--force-confdef", "--force-confold"];

/// What dpkg leaves beside a configuration file that it did not replace, or that it did.
const LEFT_BESIDE: [&str; 3] = ["dpkg-dist", "dpkg-new", "dpkg-old"];

/// apt looks at the given files and at what is installed, and nowhere else.
const OPTIONS: [&str; 12] = [
    "--yes",
    "--no-install-recommends",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    "--option=Dpkg::Use-Pty=0",
    "--option=DPkg::Lock::Timeout=900",
    "--option=Dir::Etc::SourceList=/dev/null",
    "--option=Dir::Etc::SourceParts=/dev/null",
    "--option=Dir::Cache::pkgcache=",
    "--option=Dir::Cache::srcpkgcache=",
    "--option=APT::Sandbox::User=root",
    "--option=APT::Get::AutomaticRemove=false",
];

/// dpkg and apt of the system below a root.
#[derive(Debug, Clone)]
pub struct Apt {
    tools: Tools,
}

impl Apt {
    /// Those below a root, with a directory to work in that lies below it as well.
    pub fn new(root: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        Self { tools: Tools::new(root.into(), work.into(), &ENVIRONMENT) }
    }

    /// Configuration files of a package that are not as it brought them.
    fn altered_settings(&self, package: &Found) -> Result<BTreeSet<String>, PackageFault> {
        let (_, text) = self.tools.ask_long(
            &["dpkg", "--verify", &known_as(&package.name, &package.architecture)],
            "verified",
        )?;
        // `??5?????? c /etc/tool.conf`, `missing   c /etc/tool.conf` (dpkg(1), --verify-format).
        let settings = text.lines().filter_map(|line| line.split_once(" c "));
        Ok(settings.map(|(_, path)| path.trim().to_owned()).collect())
    }

    /// Whether a package is noted to have brought something else than a configuration file has that is just
    /// as it brought it. `dpkg --verify` does not go by these notes.
    fn is_misnoted(&self, file: &str) -> Result<bool, PackageFault> {
        let package = self.held(file)?;
        let noted = Written::read(self.tools.root(), &package)?.conffiles;
        let lies = |path: &String| self.tools.outside(path);
        let there: Vec<_> = noted.keys().filter(|path| lies(path).is_file()).collect();
        let found = self.md5_of(&there)?;
        let is_other = |path: &&String| found.get(*path) != noted.get(*path);
        let others: BTreeSet<_> = there.into_iter().filter(is_other).collect();
        if others.is_empty() {
            return Ok(false);
        }
        let (output, brought) =
            self.tools.ask_apart(&["dpkg-deb", "--fsys-tarfile", file], "brought")?;
        if output.exit != Some(0) {
            return Err(ended("dpkg-deb", &output));
        }
        let look = || -> io::Result<bool> {
            for entry in Archive::new(File::open(&brought)?).entries()? {
                let mut entry = entry?;
                let path = entry.path()?.to_string_lossy().into_owned();
                // `./etc/tool.conf` in a package as it came, `etc/tool.conf` in one that was packed here.
                let path = format!("/{}", path.trim_start_matches("./"));
                if !others.contains(&path) || !entry.header().entry_type().is_file() {
                    continue;
                }
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                if fs::read(lies(&path)).is_ok_and(|there| there == content) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        let is_misnoted = look().map_err(PackageFault::disk(&brought))?;
        fs::remove_file(&brought).map_err(PackageFault::disk(&brought))?;
        Ok(is_misnoted)
    }

    /// The hashes of files by which dpkg knows them.
    fn md5_of(&self, paths: &[&String]) -> Result<BTreeMap<String, String>, PackageFault> {
        if paths.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut argv = vec!["md5sum", "--zero", "--"];
        argv.extend(paths.iter().map(|path| path.as_str()));
        let (output, text) = self.tools.ask_long(&argv, "hashes")?;
        if output.exit != Some(0) {
            return Err(ended("md5sum", &output));
        }
        let lines = text.split('\0').filter_map(|line| line.split_once("  "));
        Ok(lines.map(|(hash, path)| (path.to_owned(), hash.to_owned())).collect())
    }

    /// Waits until nobody else alters packages.
    fn wait_for_others(&self) -> Result<(), PackageFault> {
        let locks = ["lock-frontend", "lock"];
        let locks = locks.map(|name| self.tools.outside("/var/lib/dpkg").join(name));
        self.tools.wait_for_others(&["chroot", "apt-get", "dpkg"], &locks)
    }

    fn apt(&self, alteration: &Alteration<'_>) -> Result<Output, PackageFault> {
        let lists = self.tools.work().join("lists");
        let partial = lists.join("partial");
        fs::create_dir_all(&partial).map_err(PackageFault::disk(&partial))?;
        let lists = format!("--option=Dir::State::Lists={}", self.tools.inside(&lists)?);
        let mut argv = vec!["apt-get"];
        argv.extend(OPTIONS);
        argv.push(&lists);
        match alteration.direction {
            Direction::Forward => argv.push("--no-remove"),
            Direction::Back => argv.extend(["--allow-downgrades", "--purge"]),
        }
        let files = self.files(alteration)?;
        let mut named =
            files.iter().map(|file| self.called(file)).collect::<Result<Vec<_>, _>>()?;
        named.extend(
            alteration.remove.iter().map(|it| format!("{}-", known_as(&it.name, &it.architecture))),
        );
        argv.push("install");
        argv.extend(files.iter().map(String::as_str));
        argv.extend(named.iter().map(String::as_str));
        self.tools.act(&argv)
    }

    /// A line for each package that dpkg knows.
    fn listed(&self) -> Result<String, PackageFault> {
        let format =
            "--showformat=${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Abbrev}\\n";
        let argv = ["dpkg-query", "--show", format];
        let (output, text) = self.tools.ask_long(&argv, "installed")?;
        if output.exit == Some(0) { Ok(text) } else { Err(ended("dpkg-query", &output)) }
    }

    /// What a package file holds.
    fn held(&self, file: &str) -> Result<Found, PackageFault> {
        let format = "--showformat=${Package}\\t${Architecture}\\t${Version}\\tii ";
        let output = self.tools.ask(&["dpkg-deb", "--show", format, file])?;
        match found(&output.text) {
            Ok(Some(held)) if output.exit == Some(0) => Ok(held),
            _ => Err(ended("dpkg-deb", &output)),
        }
    }

    /// A package file as apt is told of it: `libpam0g:amd64=1.5.2-6`. Given files alone, apt does not begin
    /// where an interruption left dependencies that do not hold; given names as well, it looks whether they
    /// hold in the end.
    fn called(&self, file: &str) -> Result<String, PackageFault> {
        let Found { name, architecture, version, .. } = self.held(file)?;
        match architecture.as_str() {
            "all" => Ok(format!("{name}={version}")),
            architecture => Ok(format!("{name}:{architecture}={version}")),
        }
    }

    fn files(&self, alteration: &Alteration<'_>) -> Result<Vec<String>, PackageFault> {
        alteration.files.iter().map(|file| self.tools.inside(file)).collect()
    }

    /// Without apt, which refuses to begin on what an interruption left.
    fn dpkg(&self, alteration: &Alteration<'_>) -> Result<Output, PackageFault> {
        let files = self.files(alteration)?;
        if !alteration.remove.is_empty() {
            // Also what could not be mended: it was not there before.
            let mut argv = vec!["dpkg", "--force-remove-reinstreq", "--purge", "--"];
            let names = alteration.remove.iter().map(|it| known_as(&it.name, &it.architecture));
            let names: Vec<_> = names.collect();
            argv.extend(names.iter().map(String::as_str));
            let removed = self.tools.act(&argv)?;
            if removed.exit != Some(0) || files.is_empty() {
                return Ok(removed);
            }
        }
        let mut argv = vec!["dpkg"];
        argv.extend(KEEP_SETTINGS);
        argv.extend(["--install", "--"]);
        argv.extend(files.iter().map(String::as_str));
        // dpkg leaves out what needs another one of them to be configured first. Each time at least one
        // more is there, or it gets no better.
        let mut output = self.tools.act(&argv)?;
        for _ in &files {
            if output.exit == Some(0) {
                break;
            }
            output = self.tools.act(&argv)?;
        }
        Ok(output)
    }
}

impl PackageSystem for Apt {
    fn versions(&self) -> VersionKind {
        VersionKind::Dpkg
    }

    fn ending(&self) -> &'static str {
        "deb"
    }

    fn installed(&self) -> Result<Vec<Found>, PackageFault> {
        let text = self.listed()?;
        text.lines().filter_map(|line| found(line).transpose()).collect()
    }

    fn audit(&self) -> Result<(), PackageFault> {
        let output = self.tools.ask(&["dpkg", "--audit"])?;
        let said = output.text.trim();
        if output.exit == Some(0) && said.is_empty() {
            return Ok(());
        }
        Err(PackageFault::InPart { packages: vec![said.to_owned()] })
    }

    fn repair(&self) -> Result<(), PackageFault> {
        self.wait_for_others()?;
        let mut argv = vec!["dpkg"];
        argv.extend(KEEP_SETTINGS);
        argv.extend(["--configure", "--pending"]);
        let output = self.tools.act(&argv)?;
        if output.exit == Some(0) { Ok(()) } else { Err(ended("dpkg", &output)) }
    }

    fn mend(&self, files: &[PathBuf]) -> Result<(), PackageFault> {
        let files = files.iter().map(|it| self.tools.inside(it)).collect::<Result<Vec<_>, _>>()?;
        let mut argv = vec!["dpkg", "--unpack", "--"];
        argv.extend(files.iter().map(String::as_str));
        let output = self.tools.act(&argv)?;
        if output.exit == Some(0) { Ok(()) } else { Err(ended("dpkg", &output)) }
    }

    fn settle(&self, files: &[PathBuf]) -> Result<(), PackageFault> {
        let files = files.iter().map(|it| self.tools.inside(it)).collect::<Result<Vec<_>, _>>()?;
        let mut misnoted = Vec::new();
        for file in &files {
            if self.is_misnoted(file)? {
                misnoted.push(file.as_str());
            }
        }
        if misnoted.is_empty() {
            return Ok(());
        }
        self.wait_for_others()?;
        // dpkg writes down what is equal once it sees it beside each other.
        let mut argv = vec!["dpkg"];
        argv.extend(KEEP_SETTINGS);
        argv.extend(["--install", "--"]);
        argv.extend(misnoted);
        let output = self.tools.act(&argv)?;
        if output.exit == Some(0) { Ok(()) } else { Err(ended("dpkg", &output)) }
    }

    fn clear(&self, packages: &[ExactPackage]) -> Result<(), PackageFault> {
        let listed = self.listed()?;
        let is_left = |package: &&ExactPackage| {
            let ExactPackage { name, architecture, version, .. } = package;
            let line = format!("{name}\t{architecture}\t{version}\t");
            let mut states = listed.lines().filter_map(|it| it.strip_prefix(&line));
            // Removed but for its configuration files (dpkg-query(1), db:Status-Abbrev).
            states.any(|state| state.chars().nth(1) == Some('c'))
        };
        let left = packages.iter().filter(is_left);
        let names: Vec<_> = left.map(|it| known_as(&it.name, &it.architecture)).collect();
        if names.is_empty() {
            return Ok(());
        }
        self.wait_for_others()?;
        let mut argv = vec!["dpkg", "--purge", "--"];
        argv.extend(names.iter().map(String::as_str));
        let output = self.tools.act(&argv)?;
        if output.exit == Some(0) { Ok(()) } else { Err(ended("dpkg", &output)) }
    }

    fn unpacked_size(&self, file: &Path) -> Result<u64, PackageFault> {
        let file = self.tools.inside(file)?;
        let output = self.tools.ask(&["dpkg-deb", "--field", &file, "Installed-Size"])?;
        let text = output.text.trim();
        match text.parse::<u64>() {
            Ok(kib) if output.exit == Some(0) => Ok(kib.saturating_mul(1024)),
            // The field is optional (Debian Policy 5.6.20).
            _ if output.exit == Some(0) && text.is_empty() => Ok(0),
            _ => Err(ended("dpkg-deb", &output)),
        }
    }

    fn unpacks_to(&self) -> PathBuf {
        self.tools.root().join("usr")
    }

    fn repack(&self, package: &Found, into: &Path) -> Result<PathBuf, PackageFault> {
        let altered = self.altered_settings(package)?;
        repack::repack(self.tools.root(), package, &altered, into)
    }

    fn keep_settings(&self, packages: &[Found], into: &Path) -> Result<(), PackageFault> {
        let mut paths = Vec::new();
        for package in packages {
            paths.extend(Written::read(self.tools.root(), package)?.conffiles.into_keys());
        }
        settings::keep(self.tools.root(), &paths, &LEFT_BESIDE, into)
    }

    fn restore_settings(&self, from: &Path) -> Result<(), PackageFault> {
        settings::restore(self.tools.root(), &LEFT_BESIDE, from)
    }

    fn alter(&self, alteration: &Alteration<'_>) -> Result<(), PackageFault> {
        let by_apt = self.apt(alteration)?;
        let is_whole = self.audit().is_ok();
        // apt takes what was left half installed in the version that it is to have for what it is to be.
        if by_apt.exit == Some(0) && is_whole {
            return Ok(());
        }
        // What is whole was not begun, or apt said no for a reason; what is in part has to end somewhere.
        if is_whole && alteration.direction == Direction::Forward {
            return Err(ended("apt-get", &by_apt));
        }
        let by_dpkg = self.dpkg(alteration)?;
        match (by_dpkg.exit, by_apt.exit) {
            (Some(0), _) => Ok(()),
            (_, Some(0)) => Err(ended("dpkg", &by_dpkg)),
            _ => Err(ended("apt-get", &by_apt)),
        }
    }
}

/// As apt and dpkg call it.
fn known_as(name: &str, architecture: &str) -> String {
    match architecture {
        "all" => name.to_owned(),
        architecture => format!("{name}:{architecture}"),
    }
}

/// A line of `dpkg-query`; `None` for what is not installed.
fn found(line: &str) -> Result<Option<Found>, PackageFault> {
    let strange = || PackageFault::Database { reason: format!("dpkg-query says {line:?}") };
    let mut fields = line.split('\t');
    let mut next = || fields.next().ok_or_else(strange);
    let (name, architecture, version, status) = (next()?, next()?, next()?, next()?);
    // Wanted, is, and an error (dpkg-query(1), db:Status-Abbrev).
    let mut letters = status.chars();
    let mut letter = || letters.next().unwrap_or(' ');
    let (wanted, is, error) = (letter(), letter(), letter());
    if matches!(is, 'n' | 'c') {
        return Ok(None);
    }
    let completeness = match (is, error) {
        ('i', ' ') => Completeness::Whole,
        ('H', _) | (_, 'R') => Completeness::Torn,
        _ => Completeness::Part,
    };
    Ok(Some(Found {
        name: name.to_owned(),
        architecture: architecture.to_owned(),
        version: version.to_owned(),
        completeness,
        hold: if wanted == 'h' { Hold::Held } else { Hold::Free },
        // Kernels have their versions in their names.
        newer: Newer::Replaces,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_whole_held_in_part_or_not_there() {
        let read = |status: &str| found(&format!("nginx\tamd64\t1.0-1\t{status}")).unwrap();

        assert_eq!(read("ii ").unwrap().completeness, Completeness::Whole);
        assert_eq!(read("hi ").unwrap().hold, Hold::Held);
        for status in ["iU ", "iF ", "iW ", "it "] {
            assert_eq!(read(status).unwrap().completeness, Completeness::Part, "{status}");
        }
        for status in ["iH ", "iHR", "iUR"] {
            assert_eq!(read(status).unwrap().completeness, Completeness::Torn, "{status}");
        }
        assert_eq!(read("rc "), None);
        assert!(found("nginx").is_err());
    }
}
