//! Packages by the archives that the host's own apt configuration names and trusts.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use collect::apt::config::{self, Source};
use collect::apt::{Collector, Freshness, PackageWant, Suite, Trust};
use collect::fetch::Fetcher;
use domain::apt_conf::AptConf;
use domain::archive::OfferedPackage;
use domain::change::ExactPackage;
use domain::order::Refusal;
use jiff::Timestamp;

use super::packages::{Room, TrustedPackages};

/// Where apt's configuration lies.
const ETC_APT: &str = "/etc/apt";

/// The signed archives of the system below a root. What a source may be signed with is the host's to say
/// (`Signed-By`), never the control plane's; one that the host takes unsigned vouches for nothing here.
#[derive(Debug, Clone)]
pub struct HostArchives {
    root: PathBuf,
    data: PathBuf,
    now: Timestamp,
}

impl HostArchives {
    /// Those of the system below a root, with a directory for what was fetched; judged by the time `now`.
    pub fn new(root: impl Into<PathBuf>, data: impl Into<PathBuf>, now: Timestamp) -> Self {
        Self { root: root.into(), data: data.into(), now }
    }

    /// The sources with signatures, and what to read them for.
    fn sources(&self) -> Result<(Vec<Source>, Vec<String>, AptConf), String> {
        let target = inspect::open(&self.root, None).map_err(|error| error.to_string())?;
        let files = target.files();
        let inventory = target.inventory().map_err(|error| error.to_string())?;
        let mut architectures = vec![inventory.architecture];
        architectures.extend(inventory.foreign_architectures);
        let sources = config::read_sources(files, ETC_APT).map_err(|error| error.to_string())?;
        let signed = sources.into_iter().filter(|it| matches!(it.trust, Trust::Keys(_))).collect();
        let conf = AptConf::read(files, ETC_APT).unwrap_or_default();
        Ok((signed, architectures, conf))
    }
}

impl TrustedPackages for HostArchives {
    fn bring(
        &self,
        packages: &[ExactPackage],
        into: &Path,
        room: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        let Some(first) = packages.first() else { return Ok(Vec::new()) };
        let unusable = |because: String| {
            let because = format!("; {because}");
            Refusal::NotVouched { package: Box::new(first.clone()), because }
        };
        let (sources, architectures, conf) = self.sources().map_err(unusable)?;
        let fetcher =
            Fetcher::new(Box::new(move |scheme, host| conf.proxy(scheme, host).map(str::to_owned)));
        let freshness = Freshness::default();
        let collector = Collector::new(&self.data, Some(fetcher), freshness, self.now);
        let names: HashSet<&str> = packages.iter().map(|package| package.name.as_str()).collect();
        let mut offers: Vec<(Suite, Vec<OfferedPackage>)> = Vec::new();
        let mut unread = String::new();
        for (source, suite) in sources.iter().zip(collector.refresh(&sources, &architectures, &()))
        {
            let read = suite.map_err(|refusal| refusal.to_string()).and_then(|suite| {
                let offered = suite.packages(&|name, _| names.contains(name));
                Ok((suite, offered.map_err(|error| error.to_string())?))
            });
            match read {
                Ok(offer) => offers.push(offer),
                Err(error) => {
                    unread = format!("{unread}; {} is not used: {error}", source.suite);
                }
            }
        }
        let mut wants = Vec::with_capacity(packages.len());
        for package in packages {
            let sha256 = package.sha256.to_string();
            let is_it = |offered: &&OfferedPackage| {
                offered.name == package.name
                    && offered.architecture == package.architecture
                    && offered.version == package.version
                    && offered.sha256 == sha256
            };
            let mut all = offers.iter();
            let found = all.find_map(|(suite, offered)| Some((suite, offered.iter().find(is_it)?)));
            let Some((suite, offered)) = found else {
                let (package, because) = (Box::new(package.clone()), unread);
                return Err(Refusal::NotVouched { package, because });
            };
            wants.push(PackageWant { suite, package: offered });
        }
        // Two copies, where the places lie on two file systems.
        let size = wants.iter().map(|want| want.package.size).sum();
        room(&[(self.data.as_path(), size), (into, size)])?;
        let files = collector.packages(&wants, &());
        packages
            .iter()
            .zip(files)
            .map(|(package, file)| {
                let failed = |because: String| Refusal::NotFetched {
                    package: Box::new(package.clone()),
                    because,
                };
                let kept = file.map_err(|error| failed(error.to_string()))?;
                let to = into.join(format!("{}.deb", package.sha256));
                link(&kept, &to).map_err(|error| failed(error.to_string()))?;
                Ok(to)
            })
            .collect()
    }
}

/// A second name, and a second copy only where there cannot be one: nobody writes to a package that lies there
/// whole.
fn link(kept: &Path, to: &Path) -> io::Result<()> {
    match fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        // Of an earlier try.
        _ => {}
    }
    fs::hard_link(kept, to).or_else(|_| fs::copy(kept, to).map(drop))
}
