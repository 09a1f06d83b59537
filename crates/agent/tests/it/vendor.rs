//! What Debian's security team offers: its own signed list, and packages by their hashes in it, fetched
//! once from the archive that this machine's apt uses.

#![allow(dead_code, reason = "each of those who use it use their part")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use domain::change::ExactPackage;

use crate::support::{archive, run};

/// Where it lies in a root.
const PLACE: &str = "srv/vendor";

/// The list that is read.
const LIST: &str = "main/binary-amd64/Packages.xz";

/// A suite of the vendor's.
pub(crate) struct Vendor {
    uri: String,
    suite: String,
    kept: PathBuf,
    list: Vec<Offered>,
}

struct Offered {
    package: ExactPackage,
    source: String,
    file: String,
}

impl Vendor {
    /// Fetches the list as it is now.
    pub(crate) fn security() -> Self {
        let (uri, suite) = archive(|codename| codename == "bookworm-security");
        let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vendor");
        let mut vendor = Self { uri, suite, kept, list: Vec::new() };
        let base = format!("{}/dists/{}", vendor.uri, vendor.suite);
        let release = vendor.kept.join("InRelease");
        fetch(&format!("{base}/InRelease"), &release, None);
        let text = fs::read_to_string(&release).unwrap();
        let hash = text.lines().filter(|line| line.ends_with(&format!(" {LIST}")));
        let mut hash = hash.filter_map(|line| line.split_whitespace().next());
        let hash = hash.rfind(|it| it.len() == 64).expect("the list has a hash");
        let list = vendor.kept.join(hash);
        let directory = LIST.rsplit_once('/').unwrap().0;
        fetch(&format!("{base}/{directory}/by-hash/SHA256/{hash}"), &list, Some(hash));
        let list =
            run(Command::new("xz").args(["--decompress", "--stdout", "--format=xz"]).arg(list));
        vendor.list = list.split("\n\n").filter_map(offered).collect();
        vendor
    }

    /// A package with its hash.
    pub(crate) fn offered(
        &self,
        name: &str,
        architecture: &str,
        version: &str,
    ) -> Option<ExactPackage> {
        let mut packages = self.list.iter().map(|it| &it.package);
        let is_it = |it: &&ExactPackage| {
            it.name == name && it.architecture == architecture && it.version == version
        };
        packages.find(is_it).cloned()
    }

    /// The newest packages of some sources, of which the root has older ones or which are named.
    pub(crate) fn newer(&self, root: &Path, sources: &[&str], added: &[&str]) -> Vec<ExactPackage> {
        let installed = run(Command::new("chroot").arg(root).args([
            "dpkg-query",
            "--show",
            "--showformat=${Package} ${Version}\\n",
        ]));
        let installed: BTreeMap<_, _> =
            installed.lines().filter_map(|line| line.split_once(' ')).collect();
        let mut newest = BTreeMap::<&str, &ExactPackage>::new();
        for Offered { package, source, .. } in &self.list {
            let name = package.name.as_str();
            let is_wanted = sources.contains(&source.as_str())
                && match installed.get(name) {
                    Some(version) => is_newer(&package.version, version),
                    None => added.contains(&name),
                };
            let is_newest = |known: &&ExactPackage| is_newer(&package.version, &known.version);
            if is_wanted && newest.get(name).is_none_or(is_newest) {
                newest.insert(name, package);
            }
        }
        assert!(!newest.is_empty(), "nothing of {sources:?} is newer: this would prove nothing");
        newest.into_values().cloned().collect()
    }

    /// Puts the list and packages into a root, whose apt uses nothing else from then on.
    pub(crate) fn supply(&self, root: &Path, packages: &[ExactPackage]) {
        let place = root.join(PLACE);
        let suite = place.join("dists").join(&self.suite);
        fs::create_dir_all(suite.join(LIST).parent().unwrap()).unwrap();
        fs::copy(self.kept.join("InRelease"), suite.join("InRelease")).unwrap();
        let text = fs::read_to_string(self.kept.join("InRelease")).unwrap();
        let is_list = |hash: &&str| hash.len() == 64 && self.kept.join(hash).exists();
        let lines = text.lines().filter(|line| line.ends_with(&format!(" {LIST}")));
        let hash = lines.filter_map(|line| line.split_whitespace().next()).find(is_list).unwrap();
        fs::copy(self.kept.join(hash), suite.join(LIST)).unwrap();
        for package in packages {
            let offered = self.list.iter().find(|it| it.package == *package).unwrap();
            let (hash, to) = (package.sha256.to_string(), place.join(&offered.file));
            let kept = self.kept.join(format!("{hash}.deb"));
            fetch(&format!("{}/{}", self.uri, offered.file), &kept, Some(&hash));
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            fs::copy(kept, to).unwrap();
        }
        let apt = root.join("etc/apt");
        let _ = fs::remove_file(apt.join("sources.list"));
        let source = format!(
            "Types: deb\nURIs: file:///{PLACE}\nSuites: {}\nComponents: main\nArchitectures: amd64\n\
             Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n",
            self.suite
        );
        fs::write(apt.join("sources.list.d/vendor.sources"), source).unwrap();
    }
}

/// A stanza of a list.
fn offered(stanza: &str) -> Option<Offered> {
    let field = |name: &str| {
        let mut lines = stanza.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(field, _)| *field == name).map(|(_, value)| value.trim())
    };
    let name = field("Package")?;
    let package = ExactPackage {
        name: name.to_owned(),
        architecture: field("Architecture")?.to_owned(),
        version: field("Version")?.to_owned(),
        sha256: field("SHA256")?.parse().ok()?,
    };
    let source = field("Source").and_then(|it| it.split(' ').next()).unwrap_or(name);
    Some(Offered { package, source: source.to_owned(), file: field("Filename")?.to_owned() })
}

fn is_newer(one: &str, other: &str) -> bool {
    let asked = ["--compare-versions", one, "gt", other];
    Command::new("dpkg").args(asked).status().unwrap().success()
}

/// A file by this machine's apt, and what it goes through; one with a hash is fetched once.
fn fetch(uri: &str, to: &Path, hash: Option<&str>) {
    if hash.is_some() && to.exists() {
        return;
    }
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    // Several test programs may do so at a time.
    let beside = to.with_extension(std::process::id().to_string());
    let mut command = Command::new("/usr/lib/apt/apt-helper");
    command.args(["-oAPT::Sandbox::User=root", "download-file", uri]).arg(&beside);
    command.args(hash.map(|hash| format!("SHA256:{hash}")));
    run(&mut command);
    fs::rename(&beside, to).unwrap();
}
