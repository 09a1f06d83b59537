//! Red Hat's kin: rpm, with dnf for what repositories list.
//!
//! An order names exactly what is to be installed, so nothing is left to choose, and rpm alone alters what
//! is installed, in one transaction. What an interruption left is found by what was written down before
//! rpm began ([`unfinished`]).

mod header;
mod hold;
mod ini;
mod repack;
mod repositories;
mod unfinished;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::ExactPackage;
use domain::version::VersionKind;
use serde::{Deserialize, Serialize};

pub use repositories::HostRepositories;

use self::header::Header;
use self::hold::Holds;
use self::unfinished::Unfinished;
use super::command::Output;
use super::packages::{
    Alteration, Completeness, Direction, Found, Hold, Newer, PackageFault, PackageSystem,
};
use super::settings;
use super::tools::{Tools, ended};

/// Nothing beside the packages' own scripts restarts anything.
const ENVIRONMENT: [(&str, &str); 2] = [("NEEDRESTART_SUSPEND", "1"), ("NEEDRESTART_MODE", "l")];

/// How a package is told in a line of its own; other lines are something else that rpm says.
const FORMAT: &str = "--qf=P\\t%{NAME}\\t%{ARCH}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n";

/// Keys are kept as packages of this name.
const KEY: &str = "gpg-pubkey";

/// What packages provide whose versions stand beside one another, as dnf has it where nobody says
/// something else (`installonlypkgs`).
const STANDING_BESIDE: [&str; 6] = [
    "kernel",
    "kernel-PAE",
    "installonlypkg(kernel)",
    "installonlypkg(kernel-module)",
    "installonlypkg(vm)",
    "multiversion(kernel)",
];

/// What rpm leaves beside a configuration file that it did not replace, or that it did.
const LEFT_BESIDE: [&str; 3] = ["rpmnew", "rpmsave", "rpmorig"];

/// How rpm says that a script failed; after a package is unpacked it goes on all the same.
const SCRIPT_FAILED: &str = "scriptlet failed";

/// Where rpm's lock lies, in its database.
const LOCK: &str = ".rpm.lock";

/// What is there already is installed once more: it may lack something.
const FORWARD: [&str; 1] = ["--replacepkgs"];

/// All files known, whatever else: what is mended goes again.
const MEND: [&str; 6] =
    ["--replacepkgs", "--oldpackage", "--replacefiles", "--nodeps", "--noscripts", "--notriggers"];

/// What was there before needs nothing that was not. It is packed from the disk, and signed by nobody.
const BACK: [&str; 7] = [
    "--replacepkgs",
    "--oldpackage",
    "--replacefiles",
    "--nodeps",
    "--nosignature",
    "--nodigest",
    "--nofiledigest",
];

/// Where scripts are what stands in the way.
const WITHOUT_SCRIPTS: [&str; 2] = ["--noscripts", "--notriggers"];

/// rpm of the system below a root.
#[derive(Debug, Clone)]
pub struct Dnf {
    tools: Tools,
}

/// A package as exactly as rpm names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Named {
    name: String,
    architecture: String,
    version: String,
}

impl Named {
    fn of(found: &Found) -> Self {
        let Found { name, architecture, version, .. } = found.clone();
        Self { name, architecture, version }
    }

    /// As rpm and dnf are told of it.
    fn full(&self) -> String {
        let Self { name, architecture, version } = self;
        format!("{name}-{version}.{architecture}")
    }

    fn is_other_version_of(&self, other: &Self) -> bool {
        self.name == other.name
            && self.architecture == other.architecture
            && self.version != other.version
    }
}

/// A package file to install.
#[derive(Debug, Clone)]
struct Pack {
    named: Named,
    /// Inside of the root.
    file: String,
    newer: Newer,
}

impl Dnf {
    /// That below a root, with a directory to work in that lies below it as well.
    pub fn new(root: impl Into<PathBuf>, work: impl Into<PathBuf>) -> Self {
        Self { tools: Tools::new(root.into(), work.into(), &ENVIRONMENT) }
    }

    /// What rpm has written down as installed.
    fn listed(&self) -> Result<Vec<Named>, PackageFault> {
        let (output, text) = self.tools.ask_long(&["rpm", "-qa", FORMAT], "installed")?;
        if output.exit != Some(0) {
            return Err(ended("rpm", &output));
        }
        let mut listed = packages_in(&text)?;
        listed.retain(|it| it.name != KEY);
        listed.sort();
        Ok(listed)
    }

    /// Names of installed packages whose versions stand beside one another.
    fn standing_beside(&self) -> Result<BTreeSet<String>, PackageFault> {
        let mut argv = vec!["rpm", "-q", FORMAT, "--whatprovides"];
        argv.extend(STANDING_BESIDE);
        // It ends with how many of these nobody provides.
        let (_, text) = self.tools.ask_long(&argv, "beside")?;
        Ok(packages_in(&text)?.into_iter().map(|it| it.name).collect())
    }

    /// What a package file holds.
    fn pack(&self, file: &Path) -> Result<Pack, PackageFault> {
        let file = self.tools.inside(file)?;
        let output = self.tools.ask(&["rpm", "-qp", FORMAT, "--", &file])?;
        let named = packages_in(&output.text)?;
        let ([named], Some(0)) = (named.as_slice(), output.exit) else {
            return Err(ended("rpm", &output));
        };
        let (_, provides) =
            self.tools.ask_long(&["rpm", "-qp", "--provides", "--", &file], "provides")?;
        let mut provides = provides.lines().filter_map(|line| line.split_whitespace().next());
        let stands_beside = provides.any(|it| STANDING_BESIDE.contains(&it));
        let newer = if stands_beside { Newer::StandsBeside } else { Newer::Replaces };
        Ok(Pack { named: named.clone(), file, newer })
    }

    /// The header of an installed package, as its vendor made it.
    fn header(&self, package: &Named) -> Result<Header, PackageFault> {
        let name = package.full();
        // Other lines may stand around it.
        let format = "--qf=<\\n%{HEADERIMMUTABLE:base64}\\n>\\n";
        let (output, text) = self.tools.ask_long(&["rpm", "-q", format, "--", &name], "header")?;
        let unusable = |reason: String| PackageFault::Database { reason };
        let parts = text.split_once("<\n").and_then(|(_, rest)| rest.split_once("\n>"));
        let Some((encoded, rest)) = parts.filter(|_| output.exit == Some(0)) else {
            return Err(ended("rpm", &output));
        };
        if rest.contains("<\n") {
            return Err(unusable(format!("{name} is there more than once")));
        }
        let encoded: String = encoded.split_whitespace().collect();
        let blob = BASE64_STANDARD.decode(encoded);
        let blob = blob.map_err(|error| unusable(format!("{name} has no header: {error}")))?;
        Header::new(blob).map_err(|reason| unusable(format!("{name}: {reason}")))
    }

    /// Files of an installed package.
    fn files(&self, package: &Named) -> Result<Vec<header::PackedFile>, PackageFault> {
        let files = self.header(package)?.files();
        files.map_err(|reason| PackageFault::Database { reason: format!("{package:?}: {reason}") })
    }

    /// Whether exactly this version is there, and no other in its place.
    fn is_whole(listed: &[Named], pack: &Pack) -> bool {
        listed.contains(&pack.named)
            && (pack.newer == Newer::StandsBeside
                || !listed.iter().any(|it| it.is_other_version_of(&pack.named)))
    }

    /// That nothing goes but what is replaced: rpm takes away what a new package declares obsolete.
    fn check_obsoletes(&self, packs: &[Pack], listed: &[Named]) -> Result<(), PackageFault> {
        let format =
            "--qf=[O\\t%{OBSOLETENAME}\\t%{OBSOLETEFLAGS:depflags}\\t%{OBSOLETEVERSION}\\n]";
        let mut packages = Vec::new();
        for pack in packs {
            let (_, text) =
                self.tools.ask_long(&["rpm", "-qp", format, "--", &pack.file], "obsoletes")?;
            for line in text.lines().filter_map(|line| line.strip_prefix("O\t")) {
                let mut parts = line.split('\t').map(str::trim);
                let mut next = || parts.next().unwrap_or_default();
                let (name, operator, version) = (next(), next(), next());
                let is_gone = |it: &&Named| {
                    it.name == name
                        && it.name != pack.named.name
                        && is_in(&it.version, operator, version)
                };
                packages.extend(listed.iter().filter(is_gone).map(Named::full));
            }
        }
        if packages.is_empty() { Ok(()) } else { Err(PackageFault::WouldRemove { packages }) }
    }

    /// Configuration files of what packages take the place of, with what lies beside them already.
    fn settings(
        &self,
        packs: &[Pack],
        listed: &[Named],
    ) -> Result<BTreeMap<String, Option<u64>>, PackageFault> {
        let mut settings = BTreeMap::new();
        let is_replaced =
            |it: &&Named| packs.iter().any(|pack| pack.named.name == it.name && pack.named != **it);
        for package in listed.iter().filter(is_replaced) {
            for file in self.files(package)?.iter().filter(|file| file.is_setting()) {
                // One whose name is no text is rpm's alone to treat.
                let Some(path) = file.path.to_str() else { continue };
                let inode = inode(&saved(&self.tools.outside(path)));
                let inode = inode.map_err(PackageFault::disk(Path::new(path)))?;
                settings.insert(path.to_owned(), inode);
            }
        }
        Ok(settings)
    }

    /// The owner's altered files stay: where rpm moved one away, it comes back, and the new one lies beside
    /// it, as for one that its package does not replace.
    fn keep_owners(&self, settings: &BTreeMap<String, Option<u64>>) -> Result<(), PackageFault> {
        for (path, before) in settings {
            let place = self.tools.outside(path);
            let keep = || -> io::Result<()> {
                let saved = saved(&place);
                let now = inode(&saved)?;
                if now.is_none() || now == *before {
                    return Ok(());
                }
                if inode(&place)?.is_some() {
                    fs::rename(&place, beside(&place, "rpmnew"))?;
                }
                fs::rename(&saved, &place)
            };
            keep().map_err(PackageFault::disk(&place))?;
        }
        Ok(())
    }

    /// Installs files in one transaction, or in two: what stands beside is installed, the rest takes the
    /// place of something. Errors are as those of [`transact`](Self::transact).
    fn install(
        &self,
        packs: &[Pack],
        options: &[&str],
    ) -> Result<Result<(), PackageFault>, PackageFault> {
        let (beside, replacing): (Vec<_>, Vec<_>) =
            packs.iter().partition(|pack| pack.newer == Newer::StandsBeside);
        // A kernel may need what comes with it, and nothing needs a new kernel.
        for (mode, packs) in [("-U", replacing), ("-i", beside)] {
            if packs.is_empty() {
                continue;
            }
            let mut argv = vec!["rpm", mode];
            argv.extend(options);
            argv.push("--");
            argv.extend(packs.iter().map(|pack| pack.file.as_str()));
            if let Err(fault) = self.transact(&argv)? {
                return Ok(Err(fault));
            }
        }
        Ok(Ok(()))
    }

    /// Runs rpm. The outer error is that it did not end by itself; the inner one what it said.
    fn transact(&self, argv: &[&str]) -> Result<Result<(), PackageFault>, PackageFault> {
        let output = self.tools.act(argv)?;
        match output.exit {
            None => Err(ended("rpm", &output)),
            Some(0) => match self.tools.said(SCRIPT_FAILED)? {
                Some(text) => Ok(Err(ended("rpm", &Output { text, ..output }))),
                None => Ok(Ok(())),
            },
            Some(_) => Ok(Err(ended("rpm", &output))),
        }
    }

    fn erase(
        &self,
        packages: &[Named],
        options: &[&str],
    ) -> Result<Result<(), PackageFault>, PackageFault> {
        let names: Vec<_> = packages.iter().map(Named::full).collect();
        let mut argv = vec!["rpm", "-e", "--nodeps"];
        argv.extend(options);
        argv.push("--");
        argv.extend(names.iter().map(String::as_str));
        self.transact(&argv)
    }

    /// Takes packages away, as if they had never been there.
    fn remove(&self, packages: &[Named]) -> Result<Result<(), PackageFault>, PackageFault> {
        if packages.is_empty() {
            return Ok(Ok(()));
        }
        let mut settings = Vec::new();
        for package in packages {
            for file in self.files(package)?.iter().filter(|file| file.is_setting()) {
                let saved = saved(&repack::below(self.tools.root(), &file.path));
                if matches!(inode(&saved), Ok(None)) {
                    settings.push(saved);
                }
            }
        }
        let mut outcome = self.erase(packages, &[])?;
        let listed = self.listed()?;
        let rest: Vec<_> = packages.iter().filter(|it| listed.contains(it)).cloned().collect();
        if !rest.is_empty() {
            outcome = self.erase(&rest, &WITHOUT_SCRIPTS)?;
        }
        for saved in settings {
            match fs::remove_file(&saved) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(PackageFault::disk(&saved)(error));
                }
                _ => {}
            }
        }
        Ok(outcome)
    }

    /// To what was ordered.
    fn forward(
        &self,
        packs: &[Pack],
        settings: &BTreeMap<String, Option<u64>>,
    ) -> Result<Result<(), PackageFault>, PackageFault> {
        let installed = self.install(packs, &FORWARD)?;
        if installed.is_ok() {
            self.keep_owners(settings)?;
        }
        Ok(installed)
    }

    /// To what was there before: with the packages' scripts, and where these stand in the way, without.
    fn back(
        &self,
        packs: &[Pack],
        gone: &[Named],
    ) -> Result<Result<(), PackageFault>, PackageFault> {
        let mut outcome = self.install(packs, &BACK)?;
        let listed = self.listed()?;
        let rest: Vec<_> =
            packs.iter().filter(|pack| !Self::is_whole(&listed, pack)).cloned().collect();
        if !rest.is_empty() {
            outcome = self.install(&rest, &[&BACK[..], &WITHOUT_SCRIPTS[..]].concat())?;
        }
        let there: Vec<_> = gone.iter().filter(|it| listed.contains(it)).cloned().collect();
        let removed = self.remove(&there)?;
        let listed = self.listed()?;
        let is_back = packs.iter().all(|pack| Self::is_whole(&listed, pack));
        if is_back && !gone.iter().any(|it| listed.contains(it)) {
            // What scripts said on the way does not matter any more.
            return Ok(Ok(()));
        }
        Ok(outcome.and(removed))
    }

    fn end(&self) -> Result<(), PackageFault> {
        Unfinished::end(self.tools.root(), self.tools.work())
    }

    fn unfinished(&self) -> Result<Option<Unfinished>, PackageFault> {
        Unfinished::read(self.tools.work())
    }

    /// Takes away what rpm left beside the places of files that it was unpacking.
    fn sweep(&self, unfinished: &Unfinished) -> Result<(), PackageFault> {
        let mut paths = Vec::new();
        for (_, file) in &unfinished.packages {
            // A file that is gone by now was not what rpm was at.
            let (output, text) = self.tools.ask_long(&["rpm", "-qpl", "--", file], "files")?;
            if output.exit == Some(0) {
                paths.extend(text.lines().filter(|it| it.starts_with('/')).map(PathBuf::from));
            }
        }
        let root = self.tools.root();
        unfinished::sweep(root, &paths).map_err(PackageFault::disk(root))
    }
}

impl PackageSystem for Dnf {
    fn versions(&self) -> VersionKind {
        VersionKind::Rpm
    }

    fn ending(&self) -> &'static str {
        "rpm"
    }

    fn installed(&self) -> Result<Vec<Found>, PackageFault> {
        let listed = self.listed()?;
        let beside = self.standing_beside()?;
        let holds = Holds::read(self.tools.root())?;
        let unfinished = self.unfinished()?.unwrap_or_default();
        let not_noted = unfinished.packages.iter().map(|(it, _)| it);
        let not_noted: Vec<_> = not_noted.filter(|it| !listed.contains(it)).cloned().collect();
        let found = |package: Named| {
            let hold = if holds.hold(&package) { Hold::Held } else { Hold::Free };
            let stands_beside = beside.contains(&package.name);
            let newer = if stands_beside { Newer::StandsBeside } else { Newer::Replaces };
            let is_torn = unfinished.names(&package);
            let completeness = if is_torn { Completeness::Torn } else { Completeness::Whole };
            let Named { name, architecture, version } = package;
            Found { name, architecture, version, completeness, hold, newer }
        };
        Ok(listed.into_iter().chain(not_noted).map(found).collect())
    }

    fn audit(&self) -> Result<(), PackageFault> {
        if let Some(unfinished) = self.unfinished()? {
            let names = unfinished.packages.iter().map(|(it, _)| it).chain(&unfinished.gone);
            let mut packages: Vec<_> = names.map(Named::full).collect();
            let note = self.tools.work().join("rpm-unfinished.json");
            packages.push(format!("rpm was interrupted at these, as `{}` says", note.display()));
            return Err(PackageFault::InPart { packages });
        }
        let listed = self.listed()?;
        let twice: BTreeSet<_> = listed
            .windows(2)
            .filter(|pair| pair[0].is_other_version_of(&pair[1]) || pair[0] == pair[1])
            .flat_map(|pair| pair.iter().cloned())
            .collect();
        if twice.is_empty() {
            return Ok(());
        }
        let beside = self.standing_beside()?;
        let twice = twice.iter().filter(|it| !beside.contains(&it.name));
        let packages: Vec<_> = twice.map(Named::full).collect();
        if packages.is_empty() { Ok(()) } else { Err(PackageFault::InPart { packages }) }
    }

    fn repair(&self) -> Result<(), PackageFault> {
        let output = self.tools.ask(&["rpm", "--eval", "%_dbpath"])?;
        let database = output.text.lines().find(|line| line.starts_with('/'));
        let database = database.ok_or_else(|| ended("rpm", &output))?;
        let database = self.tools.outside(database);
        if database.is_dir() {
            self.tools.wait_for_others(&["chroot", "rpm"], &[database.join(LOCK)])?;
        }
        if let Some(unfinished) = self.unfinished()? {
            self.sweep(&unfinished)?;
        }
        let output = self.tools.ask(&["rpmdb", "--verifydb"])?;
        if output.exit == Some(0) { Ok(()) } else { Err(ended("rpmdb", &output)) }
    }

    fn mend(&self, files: &[PathBuf]) -> Result<(), PackageFault> {
        let packs = files.iter().map(|it| self.pack(it)).collect::<Result<Vec<_>, _>>()?;
        self.install(&packs, &MEND)?
    }

    fn settle(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        // rpm holds a configuration file against its header each time, and keeps no note of it.
        Ok(())
    }

    fn clear(&self, _: &[ExactPackage]) -> Result<(), PackageFault> {
        // rpm keeps no note of a package that is gone, and beside it nothing but what its owner altered.
        Ok(())
    }

    fn unpacked_size(&self, file: &Path) -> Result<u64, PackageFault> {
        let file = self.tools.inside(file)?;
        let format = "--qf=S\\t%{LONGSIZE}\\n";
        let output = self.tools.ask(&["rpm", "-qp", format, "--", &file])?;
        let mut sizes = output.text.lines().filter_map(|line| line.strip_prefix("S\t"));
        let size = sizes.next().and_then(|text| text.parse().ok());
        size.filter(|_| output.exit == Some(0)).ok_or_else(|| ended("rpm", &output))
    }

    fn unpacks_to(&self) -> PathBuf {
        self.tools.root().join("usr")
    }

    fn repack(&self, package: &Found, into: &Path) -> Result<PathBuf, PackageFault> {
        let named = Named::of(package);
        let header = self.header(&named)?;
        let root = self.tools.root();
        for file in self.files(&named)?.iter().filter(|it| !it.is_ghost() && !it.is_setting()) {
            if is_something_else(root, file).map_err(PackageFault::disk(&file.path))? {
                let path = file.path.display();
                let reason = format!("`{path}` is something else than {} brought", named.full());
                return Err(PackageFault::Database { reason });
            }
        }
        let path = into.join(format!("{}.rpm", named.full().replace(':', "%3a")));
        repack::write(root, &named.full(), &header, &path).map_err(PackageFault::disk(&path))?;
        Ok(path)
    }

    fn keep_settings(&self, packages: &[Found], into: &Path) -> Result<(), PackageFault> {
        let root = self.tools.root();
        let mut paths = Vec::new();
        for package in packages {
            for file in self.files(&Named::of(package))?.iter().filter(|it| !it.is_ghost()) {
                let is_altered = is_altered(root, file).map_err(PackageFault::disk(&file.path))?;
                if file.is_setting() || is_altered {
                    let path = file.path.to_str().ok_or_else(|| PackageFault::Database {
                        reason: format!("the name of `{}` is no text", file.path.display()),
                    })?;
                    paths.push(path.to_owned());
                }
            }
        }
        settings::keep(root, &paths, &LEFT_BESIDE, into)
    }

    fn restore_settings(&self, from: &Path) -> Result<(), PackageFault> {
        settings::restore(self.tools.root(), &LEFT_BESIDE, from)
    }

    fn alter(&self, alteration: &Alteration<'_>) -> Result<(), PackageFault> {
        let was_unfinished = self.unfinished()?.unwrap_or_default();
        let listed = self.listed()?;
        let packs = alteration.files.iter().map(|it| self.pack(it));
        let mut packs = packs.collect::<Result<Vec<_>, _>>()?;
        // What is there and whole is not touched.
        packs.retain(|it| was_unfinished.names(&it.named) || !Self::is_whole(&listed, it));
        let gone: Vec<_> = alteration.remove.iter().map(Named::of).collect();
        if packs.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let settings = match alteration.direction {
            Direction::Forward => {
                self.check_obsoletes(&packs, &listed)?;
                self.settings(&packs, &listed)?
            }
            Direction::Back => BTreeMap::new(),
        };
        let packages = packs.iter().map(|it| (it.named.clone(), it.file.clone())).collect();
        let begun = Unfinished { packages, gone: gone.clone(), settings };
        let Unfinished { settings, .. } = begun.begin(self.tools.work())?;
        let outcome = match alteration.direction {
            Direction::Forward => self.forward(&packs, &settings)?,
            Direction::Back => self.back(&packs, &gone)?,
        };
        // rpm ended by itself, well or not: its database says what is there.
        self.end()?;
        outcome
    }
}

/// Packages in what rpm says.
fn packages_in(text: &str) -> Result<Vec<Named>, PackageFault> {
    text.lines().filter_map(|line| line.strip_prefix("P\t")).map(package_in).collect()
}

fn package_in(line: &str) -> Result<Named, PackageFault> {
    let parts: Vec<_> = line.split('\t').collect();
    match parts[..] {
        [name, architecture, version] => {
            // To rpm no epoch and epoch 0 are the same.
            let version = version.strip_prefix("0:").unwrap_or(version);
            let [name, architecture, version] = [name, architecture, version].map(str::to_owned);
            Ok(Named { name, architecture, version })
        }
        _ => Err(PackageFault::Database { reason: format!("rpm says {line:?}") }),
    }
}

/// Whether an installed version lies in what a package declares obsolete: `< 2.0`. Without a release any
/// release of the version is meant.
fn is_in(installed: &str, operator: &str, version: &str) -> bool {
    if version.is_empty() {
        return true;
    }
    let installed = match (version.contains('-'), installed.rsplit_once('-')) {
        (false, Some((without_release, _))) => without_release,
        _ => installed,
    };
    let order = VersionKind::Rpm.compare(installed, version);
    operator.bytes().any(|it| match it {
        b'<' => order.is_lt(),
        b'>' => order.is_gt(),
        b'=' => order.is_eq(),
        _ => false,
    })
}

/// Whether a file is to be kept apart: it has another size than it came with, or is not there.
fn is_altered(root: &Path, file: &header::PackedFile) -> io::Result<bool> {
    if file.is_regular() {
        return Ok(!repack::is_as_large(root, file)?);
    }
    if file.is_link() {
        return match fs::symlink_metadata(repack::below(root, &file.path)) {
            Ok(_) => Ok(false),
            Err(error) if repack::is_nothing(&error) => Ok(true),
            Err(error) => Err(error),
        };
    }
    Ok(false)
}

/// Whether a link leads elsewhere than it came, or lies where a file came, or the other way round. rpm
/// would put its own in that place, and nobody could give it back.
fn is_something_else(root: &Path, file: &header::PackedFile) -> io::Result<bool> {
    let place = repack::below(root, &file.path);
    let data = match fs::symlink_metadata(&place) {
        Ok(data) => data,
        Err(error) if repack::is_nothing(&error) => return Ok(false),
        Err(error) => return Err(error),
    };
    if file.is_link() {
        return Ok(!data.is_symlink() || fs::read_link(&place)? != file.target);
    }
    Ok(file.is_regular() && !data.is_file())
}

fn saved(path: &Path) -> PathBuf {
    beside(path, "rpmsave")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

/// Which file lies there; `None` where none does.
fn inode(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(data) => Ok(Some(data.ino())),
        Err(error) if repack::is_nothing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_read_whatever_else_rpm_says() {
        let text =
            "rpm: use another tool!\nP\ttool\tx86_64\t0:1.0-1\nP\tbind\tnoarch\t32:9-3.el9\n";
        let packages = packages_in(text).unwrap();

        let full: Vec<_> = packages.iter().map(Named::full).collect();
        assert_eq!(full, ["tool-1.0-1.x86_64", "bind-32:9-3.el9.noarch"]);
        assert!(packages_in("P\ttool\t1.0-1\n").is_err());
    }

    #[test]
    fn what_is_declared_obsolete_is_told_as_rpm_tells_it() {
        for (installed, operator, version) in [
            ("1.0-1", "", ""),
            ("1.0-1", "<", "2.0"),
            ("2.0-5", "<=", "2.0"),
            ("2.0-5", "=", "2.0"),
            ("2.0-1", "<", "2.0-2"),
            ("1:0.5-1", ">", "2.0"),
        ] {
            assert!(is_in(installed, operator, version), "{installed} {operator} {version}");
        }
        for (installed, operator, version) in [
            ("2.0-5", "<", "2.0"),
            ("2.0-2", "<", "2.0-2"),
            ("1:1.0-1", "<=", "2.0"),
            ("2.1-1", "=", "2.0"),
        ] {
            assert!(!is_in(installed, operator, version), "{installed} {operator} {version}");
        }
    }
}
