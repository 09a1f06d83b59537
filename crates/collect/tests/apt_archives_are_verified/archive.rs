//! Real archives: packages by `dpkg-deb`, lists by `apt-ftparchive`, signatures by `gpg`.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// When keys are made and releases signed, as `gpg --faked-system-time` wants it.
const KEY_MADE: &str = "20261001T000000";
const SIGNED: &str = "20261110T000000";

/// Runs a peer and returns its output; stops the test where it fails.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A throwaway signing key in a `GnuPG` home of its own.
pub(crate) struct Key {
    home: TempDir,
    pub(crate) fingerprint: String,
}

pub(crate) const USER_ID: &str = "Example Archive <archive@example.org>";

impl Key {
    pub(crate) fn new() -> Self {
        Self::made(KEY_MADE, "ed25519", "never")
    }

    pub(crate) fn made(at: &str, algorithm: &str, lifetime: &str) -> Self {
        let home = tempfile::Builder::new().prefix("gpg").tempdir().unwrap();
        let mut new = Self { home, fingerprint: String::new() };
        new.gpg(at, &["--quick-generate-key", USER_ID, algorithm, "sign", lifetime], b"");
        let listing = new.gpg(at, &["--with-colons", "--list-keys"], b"");
        let listing = String::from_utf8(listing).unwrap();
        let line = listing.lines().find(|line| line.starts_with("fpr:")).unwrap();
        let fingerprint = line.trim_matches(':').rsplit(':').next().unwrap().to_owned();
        new.fingerprint = fingerprint;
        new
    }

    fn gpg(&self, at: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.arg("--homedir").arg(self.home.path());
        command.args(["--batch", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""]);
        command.args(["--faked-system-time", &format!("{at}!")]).args(arguments);
        run(&mut command, input)
    }

    pub(crate) fn clearsign(&self, text: &str) -> String {
        self.clearsign_at(SIGNED, &[], text)
    }

    pub(crate) fn clearsign_at(&self, at: &str, options: &[&str], text: &str) -> String {
        let arguments = [options, &["--clearsign"]].concat();
        String::from_utf8(self.gpg(at, &arguments, text.as_bytes())).unwrap()
    }

    pub(crate) fn detached(&self, text: &str) -> Vec<u8> {
        self.gpg(SIGNED, &["--armor", "--detach-sign"], text.as_bytes())
    }

    pub(crate) fn public(&self) -> Vec<u8> {
        self.gpg(SIGNED, &["--export"], b"")
    }

    pub(crate) fn armored(&self) -> String {
        String::from_utf8(self.gpg(SIGNED, &["--armor", "--export"], b"")).unwrap()
    }

    /// Adds a subkey, which signs from then on.
    pub(crate) fn add_subkey(&self, at: &str, lifetime: &str) {
        self.gpg(at, &["--quick-add-key", &self.fingerprint, "ed25519", "sign", lifetime], b"");
    }

    /// Publishes the revocation certificate that gpg prepared with the key.
    pub(crate) fn revoke(&self) {
        let prepared = self.home.path().join(format!("openpgp-revocs.d/{}.rev", self.fingerprint));
        // gpg guards against its accidental use by a colon.
        let certificate =
            fs::read_to_string(prepared).unwrap().replace(":-----BEGIN", "-----BEGIN");
        self.gpg(SIGNED, &["--import"], certificate.as_bytes());
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let home = self.home.path();
        let kill = ["--kill", "gpg-agent"];
        let _ = Command::new("gpgconf").arg("--homedir").arg(home).args(kill).status();
    }
}

/// A suite of an archive: what it is to offer and to say about itself.
#[derive(Clone)]
pub(crate) struct Edition {
    pub(crate) suite: &'static str,
    pub(crate) codename: &'static str,
    pub(crate) date: &'static str,
    pub(crate) valid_until: Option<&'static str>,
    pub(crate) version: &'static str,
    pub(crate) components: &'static [&'static str],
    pub(crate) formats: &'static [&'static str],
}

impl Default for Edition {
    fn default() -> Self {
        Self {
            suite: "oldstable-security",
            codename: "bookworm-security",
            date: "Fri, 20 Nov 2026 10:00:00 UTC",
            valid_until: Some("Fri, 27 Nov 2026 10:00:00 UTC"),
            version: "1.0-1",
            components: &["main"],
            formats: &["xz", "gz"],
        }
    }
}

/// A directory that holds an archive.
pub(crate) struct Archive {
    root: TempDir,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self { root: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn root(&self) -> &Path {
        self.root.path()
    }

    /// Directory of the suite's release file.
    pub(crate) fn dists(&self, edition: &Edition) -> PathBuf {
        self.root().join("dists").join(edition.codename)
    }

    /// Publishes a suite anew, signed; what it was before is gone.
    pub(crate) fn publish(&self, edition: &Edition, key: &Key) {
        self.lists(edition);
        let text = self.release(edition);
        self.sign(edition, key, &text);
    }

    /// Writes the package lists of one small package per component.
    pub(crate) fn lists(&self, edition: &Edition) {
        let dists = self.dists(edition);
        let _ = fs::remove_dir_all(&dists);
        for component in edition.components {
            let pool = self.root().join("pool").join(component);
            let _ = fs::remove_dir_all(&pool);
            let name = format!("tool-{component}");
            Deb { name: &name, version: edition.version, ..Deb::default() }.build(&pool);
            let directory = dists.join(component).join("binary-amd64");
            fs::create_dir_all(&directory).unwrap();
            let plain = self.packages(component);
            fs::write(directory.join("Packages"), &plain).unwrap();
            for format in edition.formats {
                fs::write(directory.join(format!("Packages.{format}")), pack(format, &plain))
                    .unwrap();
            }
        }
    }

    /// `Packages` of everything in a component's pool.
    pub(crate) fn packages(&self, component: &str) -> Vec<u8> {
        let mut command = Command::new("apt-ftparchive");
        command.current_dir(self.root()).args(["packages", &format!("pool/{component}")]);
        run(&mut command, b"")
    }

    /// The text of the release file for the lists that lie there, and their links by hash.
    pub(crate) fn release(&self, edition: &Edition) -> String {
        let dists = self.dists(edition);
        let components = edition.components.join(" ");
        let mut command = Command::new("apt-ftparchive");
        command.current_dir(self.root());
        for (name, value) in [
            ("Origin", "Example"),
            ("Label", "Example-Security"),
            ("Suite", edition.suite),
            ("Codename", edition.codename),
            ("Architectures", "amd64 arm64"),
            ("Components", &components),
            ("Acquire-By-Hash", "yes"),
        ] {
            command.args(["-o", &format!("APT::FTPArchive::Release::{name}={value}")]);
        }
        command.arg("release").arg(&dists);
        let text = String::from_utf8(run(&mut command, b"")).unwrap();
        self.link_by_hash(edition);
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            if line.starts_with("Date:") {
                lines.push(format!("Date: {}", edition.date));
                lines.extend(edition.valid_until.map(|until| format!("Valid-Until: {until}")));
            } else if !line.starts_with("Valid-Until:") {
                lines.push(line.to_owned());
            }
        }
        lines.join("\n") + "\n"
    }

    fn link_by_hash(&self, edition: &Edition) {
        for component in edition.components {
            let directory = self.dists(edition).join(component).join("binary-amd64");
            let by_hash = directory.join("by-hash/SHA256");
            fs::create_dir_all(&by_hash).unwrap();
            for entry in fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_file() {
                    let bytes = fs::read(&path).unwrap();
                    fs::write(by_hash.join(sha256(&bytes)), bytes).unwrap();
                }
            }
        }
    }

    /// Signs this text as the suite's `InRelease`.
    pub(crate) fn sign(&self, edition: &Edition, key: &Key, text: &str) {
        self.put_inline(edition, &key.clearsign(text));
    }

    /// Publishes these bytes as the suite's `InRelease`.
    pub(crate) fn put_inline(&self, edition: &Edition, file: &str) {
        fs::write(self.dists(edition).join("InRelease"), file).unwrap();
    }

    /// Publishes `Release`, with `Release.gpg` where there is a signature, and no `InRelease`.
    pub(crate) fn put_detached(&self, edition: &Edition, text: &str, signature: Option<&[u8]>) {
        let dists = self.dists(edition);
        let _ = fs::remove_file(dists.join("InRelease"));
        fs::write(dists.join("Release"), text).unwrap();
        if let Some(signature) = signature {
            fs::write(dists.join("Release.gpg"), signature).unwrap();
        }
    }
}

/// A small package.
pub(crate) struct Deb<'a> {
    pub(crate) name: &'a str,
    pub(crate) version: &'a str,
    pub(crate) changelog: Option<&'a str>,
    /// Bytes of ballast, which order packages by size.
    pub(crate) ballast: usize,
}

impl Default for Deb<'_> {
    fn default() -> Self {
        Self { name: "tool", version: "1.0-1", changelog: None, ballast: 0 }
    }
}

impl Deb<'_> {
    /// Builds it into a directory; returns its path.
    pub(crate) fn build(&self, into: &Path) -> PathBuf {
        let tree = tempfile::tempdir().unwrap();
        let root = tree.path().join("root");
        let doc = root.join("usr/share/doc").join(self.name);
        fs::create_dir_all(root.join("DEBIAN")).unwrap();
        fs::create_dir_all(doc.parent().unwrap()).unwrap();
        let control = format!(
            "Package: {}\nSource: tool\nVersion: {}\nArchitecture: amd64\n\
             Maintainer: A Person <person@example.org>\nDescription: an example\n",
            self.name, self.version
        );
        fs::write(root.join("DEBIAN/control"), control).unwrap();
        match self.changelog {
            Some(text) => {
                fs::create_dir(&doc).unwrap();
                fs::write(doc.join("changelog.Debian.gz"), pack("gz", text.as_bytes())).unwrap();
            }
            None => std::os::unix::fs::symlink("tool-doc", &doc).unwrap(),
        }
        fs::create_dir_all(root.join("usr/lib")).unwrap();
        fs::write(root.join("usr/lib").join(self.name), noise(self.ballast)).unwrap();
        fs::create_dir_all(into).unwrap();
        let path = into.join(format!("{}_{}_amd64.deb", self.name, self.version));
        let mut command = Command::new("dpkg-deb");
        // The same package each time.
        command.env("SOURCE_DATE_EPOCH", "1790000000");
        command.args(["--root-owner-group", "--build"]).arg(&root).arg(&path);
        run(&mut command, b"");
        path
    }
}

/// Bytes that do not compress, the same each time.
pub(crate) fn noise(length: usize) -> Vec<u8> {
    let blocks = (0..=length / 32).flat_map(|block| Sha256::digest(block.to_le_bytes()).to_vec());
    blocks.take(length).collect()
}

/// Compresses in one of an archive's formats.
pub(crate) fn pack(format: &str, plain: &[u8]) -> Vec<u8> {
    match format {
        "gz" => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "xz" => {
            let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 3);
            encoder.write_all(plain).unwrap();
            encoder.finish().unwrap()
        }
        "zst" => zstd::encode_all(plain, 3).unwrap(),
        other => panic!("no format `{other}`"),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    collect::fetch::hex(&Sha256::digest(bytes))
}
