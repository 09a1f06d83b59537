//! What a package manager brought: by its own records.
//!
//! | of | at work, by | what it has of files |
//! |---|---|---|
//! | dpkg | `dpkg.log` (dpkg(1)): from each line to the next | checksums of configuration files in its status, and those that `ucf` keeps |
//! | rpm | the time of installation of each package in its database | SHA-256 of each file in the same headers, and whether it is `%config` |
//! | apk | when its database was written, at the end of a run | SHA-1 of each file in it |
//!
//! rpm and apk do not say what they took away, nor when they ended: what is gone is not explained by them.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use domain::agent::Installed;
use domain::configuration::verdict::Actor;
use inspect::packages::{self, Checksum, PackageFiles};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use rustix::process::{Flock, FlockType, fcntl_getlk};
use sha1::Sha1;
use sha2::Sha256;

/// Most of `dpkg.log` that is read, from its end: some ten thousand packages.
const MOST_LOG: u64 = 4 << 20;

/// Most of dpkg's status and of ucf's files that is read.
const MOST_STATUS: u64 = 64 << 20;

/// Largest file that is compared with a package's.
const LARGEST: u64 = 1 << 20;

/// The log has whole seconds, and what a script did last may be written after its line.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// How long rpm is at work on a package at most after it began, where no other one follows: its scripts with it.
const RPM_AT_WORK: SignedDuration = SignedDuration::from_mins(1);

/// How long a run of apk takes at most before its database is written.
const APK_AT_WORK: SignedDuration = SignedDuration::from_mins(10);

/// Seconds since 1970 that a clock may show: until the year 3000.
const CLOCKS: std::ops::Range<i64> = 86_400..32_503_680_000;

/// Below what files are asked for.
const CONFIGURATION: &str = "/etc/";

/// apk's own package: what its triggers and scripts wrote is told as its doing, for its records name nobody else.
const APK: &str = "apk-tools";

/// rpm's databases, and the logs of them.
const RPM_DATABASES: [&str; 6] = [
    "/var/lib/rpm/rpmdb.sqlite",
    "/var/lib/rpm/rpmdb.sqlite-wal",
    "/var/lib/rpm/Packages.db",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite-wal",
    "/usr/lib/sysimage/rpm/Packages.db",
];

/// apk's.
const APK_DATABASES: [&str; 2] = ["/lib/apk/db/installed", "/usr/lib/apk/db/installed"];

/// What package managers call what they lay beside a file that somebody altered: their own, or the one that was there.
const THEIRS: [&str; 2] = [".rpmnew", ".apk-new"];
const SAVED: [&str; 2] = [".rpmsave", ".rpmorig"];

/// What packages are at work on, lately, and what they own.
#[derive(Debug, Default)]
pub(super) struct Installs {
    spans: Vec<Span>,
    /// Of files: whose, and what came with it.
    owned: BTreeMap<String, Vec<Owner>>,
}

/// A package that has a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    package: String,
    /// `None` of what has none, such as links.
    checksum: Option<Checksum>,
    /// Whether its package manager lays another one beside it where somebody altered it.
    is_configuration: bool,
}

/// A package manager was at work on one package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    package: String,
    version: String,
    from: Timestamp,
    until: Timestamp,
    /// Whether its records say what it took away, by saying when it ended.
    tells_gone: bool,
}

/// A path as it is now.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now<'a> {
    /// Absolute, inside of the root.
    pub path: &'a str,
    /// When it was altered last; `None` where it is gone.
    pub changed_at: Option<Timestamp>,
    /// By whom.
    pub who: &'a Actor,
    /// The span of time in which it was altered or went, by looks.
    pub between: (Timestamp, Timestamp),
}

impl Installs {
    /// Reads them, for what was altered between two looks. What cannot be read explains nothing.
    pub(super) fn read(root: &Path, between: (Timestamp, Timestamp)) -> Self {
        let place = |path: &str| root.join(path.trim_start_matches('/'));
        // Before the log: what ends meanwhile has its last lines there.
        let works_at = is_held(&place("/var/lib/dpkg/lock")).then_some(between.1);
        let zone = fs::read(place("/etc/localtime")).ok();
        let zone = zone.and_then(|bytes| TimeZone::tzif("localtime", &bytes).ok());
        let log = tail(&place("/var/log/dpkg.log"), MOST_LOG).unwrap_or_default();
        let spans = spans(&log, &zone.unwrap_or(TimeZone::UTC), works_at);
        let status = tail(&place("/var/lib/dpkg/status"), MOST_STATUS).unwrap_or_default();
        let mut owned = conffiles(&status);
        let hashes = tail(&place("/var/lib/ucf/hashfile"), MOST_STATUS).unwrap_or_default();
        let registry = tail(&place("/var/lib/ucf/registry"), MOST_STATUS).unwrap_or_default();
        ucf(&hashes, &registry, &mut owned);
        let mut found = Self { spans, owned };
        let was_written =
            |paths: &[&str]| written(root, paths).filter(|at| *at + SECOND >= between.0);
        if was_written(&RPM_DATABASES).is_some() {
            found.add_rpm(root, between.0);
        }
        if let Some(at) = was_written(&APK_DATABASES) {
            found.add_apk(root, at);
        }
        found
    }

    /// Packages of rpm that were installed since a time. Each is at work until the next one begins.
    fn add_rpm(&mut self, root: &Path, since: Timestamp) {
        let Ok(target) = inspect::open(root, None) else { return };
        let since = since.checked_sub(RPM_AT_WORK).unwrap_or(Timestamp::MIN);
        let found = packages::files_of_rpm(target.files(), CONFIGURATION, since);
        let Ok(mut found) = found else { return };
        found.sort_by_key(|it| it.installed_at);
        let begins: Vec<_> = found.iter().filter_map(|it| it.installed_at).collect();
        for package in found {
            let Some(from) = package.installed_at else { continue };
            let last = from + RPM_AT_WORK;
            // Times are whole seconds: several packages may begin in one.
            let next = begins.iter().copied().find(|begin| *begin > from).unwrap_or(last);
            self.add(package, (from, next.min(last)));
        }
    }

    /// Packages of apk, whose last run ended at a time: any of them may have been installed in it.
    fn add_apk(&mut self, root: &Path, until: Timestamp) {
        let Ok(target) = inspect::open(root, None) else { return };
        let Ok(found) = packages::files_of_apk(target.files(), CONFIGURATION) else { return };
        let from = until.checked_sub(APK_AT_WORK).unwrap_or(Timestamp::MIN);
        for package in found {
            self.add(package, (from, until));
        }
        let Ok(inventory) = target.inventory() else { return };
        let own = inventory.packages.into_iter().find(|it| it.name == APK);
        if let Some(own) = own {
            let (package, version, tells_gone) = (own.name, own.version, false);
            self.spans.push(Span { package, version, from, until, tells_gone });
        }
    }

    fn add(&mut self, found: PackageFiles, (from, until): (Timestamp, Timestamp)) {
        let PackageFiles { package, version, files, .. } = found;
        for file in files {
            let (package, is_configuration) = (package.clone(), file.is_configuration);
            let owner = Owner { package, checksum: file.checksum, is_configuration };
            self.owned.entry(file.path).or_default().push(owner);
        }
        self.spans.push(Span { package, version, from, until, tells_gone: false });
    }

    /// Who has a path: as its own, as what a package manager laid beside it, or as what was there before it.
    fn owners<'a>(&'a self, path: &'a str) -> (&'a [Owner], Beside<'a>) {
        let owners = |path: &str| self.owned.get(path).map(Vec::as_slice).unwrap_or_default();
        let of = |suffixes: &[&str]| suffixes.iter().find_map(|it| path.strip_suffix(it));
        match (of(&THEIRS), of(&SAVED)) {
            (Some(base), _) => (owners(base), Beside::Theirs),
            (None, Some(base)) => (owners(base), Beside::Saved(base)),
            (None, None) => (owners(path), Beside::Nothing),
        }
    }

    /// The package that a path's last alteration came from, where the records speak for one.
    pub(super) fn explains(&self, root: &Path, now: &Now<'_>) -> Option<Installed> {
        let is_at_work = |span: &&Span| match now.changed_at {
            Some(at) => span.from - SECOND <= at && at <= span.until + SECOND,
            // It went at some time between two looks.
            None => span.from <= now.between.1 && now.between.0 <= span.until + SECOND,
        };
        let mut at_work: Vec<&Span> = self.spans.iter().filter(is_at_work).collect();
        let (owners, beside) = self.owners(now.path);
        let is_owner = |span: &Span| owners.iter().any(|it| it.package == span.package);
        let outside = |path: &str| root.join(path.trim_start_matches('/'));
        let is_link = fs::symlink_metadata(outside(now.path)).is_ok_and(|it| !it.is_file());
        let is_as_shipped = |path: &str| {
            let content = if owners.is_empty() { None } else { content_of(&outside(path)).ok() };
            content.is_some_and(|content| {
                owners.iter().any(|it| is_of(&content, it.checksum.as_ref()))
            })
        };
        let is_explained = match (now.changed_at, now.who, beside) {
            // Nobody is seen to make links, or to take something away.
            (_, Actor::PackageManager, _) => true,
            (None, Actor::Unknown, _) => {
                at_work.retain(|span| span.tells_gone);
                true
            }
            // What was there before stands beside what came: nobody wrote it anew.
            (Some(_), Actor::Unknown, Beside::Saved(base)) => {
                at_work.retain(|span| is_owner(span));
                owners.iter().any(|it| it.is_configuration) && is_as_shipped(base)
            }
            (Some(_), Actor::Unknown, _) => {
                // Where nobody says when it ended, only what is the package's own is its doing.
                at_work.retain(|span| span.tells_gone || is_owner(span));
                is_link || is_as_shipped(now.path)
            }
            _ => false,
        };
        if !is_explained {
            return None;
        }
        // Of what shares a second, the owner; else the one within whose lines it is; else the last one.
        let is_within =
            |span: &Span| now.changed_at.is_some_and(|at| span.from <= at && at <= span.until);
        at_work.sort_by_key(|span| (is_owner(span), is_within(span), span.from));
        let Span { package, version, from, until, .. } = at_work.pop()?.clone();
        Some(Installed { package, version, from, until: until + SECOND })
    }
}

/// What a path is beside.
#[derive(Debug, Clone, Copy)]
enum Beside<'a> {
    Nothing,
    /// A file that somebody altered; the package manager's stands beside it.
    Theirs,
    /// This file of a package, in whose place it was.
    Saved(&'a str),
}

/// When one of some files was written last; `None` where there is none.
fn written(root: &Path, paths: &[&str]) -> Option<Timestamp> {
    let of = |path: &&str| {
        let found = fs::metadata(root.join(path.trim_start_matches('/'))).ok()?;
        // Whoever may write it may say anything of when: what no clock has shown is no time.
        let second = Some(found.mtime()).filter(|second| CLOCKS.contains(second))?;
        Timestamp::new(second, i32::try_from(found.mtime_nsec()).ok()?).ok()
    };
    paths.iter().filter_map(of).max()
}

fn is_of(content: &[u8], checksum: Option<&Checksum>) -> bool {
    let Some(checksum) = checksum else { return false };
    match checksum {
        Checksum::Md5(hash) => Md5::digest(content)[..] == hash[..],
        Checksum::Sha1(hash) => Sha1::digest(content)[..] == hash[..],
        Checksum::Sha256(hash) => Sha256::digest(content)[..] == hash[..],
    }
}

/// Whether a process holds a lock on a file, as dpkg does while it works (`fcntl(2)`, `F_GETLK`).
fn is_held(path: &Path) -> bool {
    let wanted = Flock::from(FlockType::WriteLock);
    File::open(path).is_ok_and(|file| matches!(fcntl_getlk(&file, &wanted), Ok(Some(_))))
}

/// The end of a file, from the beginning of a line.
fn tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    let skipped = length.saturating_sub(most);
    file.seek(SeekFrom::Start(skipped))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    if skipped == 0 {
        return Ok(text);
    }
    Ok(text.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap_or_default())
}

fn content_of(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("too large"));
    }
    Ok(bytes)
}

/// When dpkg was at work on which package: from each line that says so to the next one. `works_at` is when it was
/// seen to be at work still: scripts run between two lines, for as long as they like.
fn spans(log: &str, zone: &TimeZone, works_at: Option<Timestamp>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut last: Option<Timestamp> = None;
    let mut is_open = false;
    for line in log.lines() {
        let mut words = line.split(' ');
        let (Some(date), Some(time), Some(what)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        let Ok(civil) = format!("{date}T{time}").parse::<DateTime>() else { continue };
        let Ok(at) = zone.to_timestamp(civil) else { continue };
        if is_open && let Some(span) = spans.last_mut() {
            span.until = at;
        }
        last = Some(at);
        match what {
            "install" | "upgrade" | "configure" | "trigproc" | "remove" | "purge" => {
                let (Some(package), Some(old), Some(new)) =
                    (words.next(), words.next(), words.next())
                else {
                    continue;
                };
                let is_new = matches!(what, "install" | "upgrade");
                let version = if is_new { new } else { old }.to_owned();
                let package = package.split(':').next().unwrap_or(package).to_owned();
                spans.push(Span { package, version, from: at, until: at, tells_gone: true });
                is_open = true;
            }
            "startup" => is_open = false,
            _ => {}
        }
    }
    // Of the last one nothing says that it has ended.
    if is_open && let (Some(span), Some(last)) = (spans.last_mut(), last) {
        span.until = works_at.map_or(last, |at| at.max(last));
    }
    spans
}

/// Configuration files of installed packages, by path.
fn conffiles(status: &str) -> BTreeMap<String, Vec<Owner>> {
    let mut owned: BTreeMap<String, Vec<Owner>> = BTreeMap::new();
    let (mut package, mut is_list) = ("", false);
    for line in status.lines() {
        if let Some(name) = line.strip_prefix("Package: ") {
            (package, is_list) = (name.trim(), false);
        } else if line.starts_with("Conffiles:") {
            is_list = true;
        } else if is_list && let Some(entry) = line.strip_prefix(' ') {
            // `/etc/name md5`, and `obsolete` where the package has it no longer.
            let mut words = entry.rsplitn(2, ' ');
            let (Some(hash), Some(path)) = (words.next(), words.next()) else { continue };
            let (hash, path) = match hash {
                "obsolete" | "remove-on-upgrade" => {
                    let Some((path, hash)) = path.rsplit_once(' ') else { continue };
                    (hash, path)
                }
                hash => (hash, path),
            };
            owned.entry(path.to_owned()).or_default().extend(owner(package, hash));
        } else {
            is_list = false;
        }
    }
    owned
}

/// `None` where the hash is none, as of files that are yet to come.
fn owner(package: &str, hash: &str) -> Option<Owner> {
    let checksum = Some(Checksum::from_hex(hash.as_bytes())?);
    Some(Owner { package: package.to_owned(), checksum, is_configuration: true })
}

/// What ucf(1) installed: `MD5  PATH` and `PACKAGE PATH`.
fn ucf(hashes: &str, registry: &str, owned: &mut BTreeMap<String, Vec<Owner>>) {
    let packages: BTreeMap<&str, &str> = registry
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(package, path)| (path.trim(), package))
        .collect();
    for (hash, path) in hashes.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
        let path = path.trim();
        if let Some(package) = packages.get(path) {
            owned.entry(path.to_owned()).or_default().extend(owner(package, hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    const LOG: &str = "\
2026-11-30 12:00:00 startup archives unpack
2026-11-30 12:00:01 upgrade openssh-server:amd64 1:9.2p1-2 1:9.2p1-3
2026-11-30 12:00:01 status half-installed openssh-server:amd64 1:9.2p1-2
2026-11-30 12:00:02 status unpacked openssh-server:amd64 1:9.2p1-3
2026-11-30 12:00:03 startup packages configure
2026-11-30 12:00:04 configure openssh-server:amd64 1:9.2p1-3 <none>
2026-11-30 12:00:04 conffile /etc/ssh/moduli install
2026-11-30 12:00:06 status installed openssh-server:amd64 1:9.2p1-3
2026-11-30 12:00:06 trigproc libc-bin:amd64 2.36-9 <none>
2026-11-30 12:00:07 status installed libc-bin:amd64 2.36-9
";

    const STATUS: &str = "\
Package: openssh-server
Status: install ok installed
Conffiles:
 /etc/default/ssh 500e3cf069fe9a7b9936108eb9d9c035
 /etc/ssh/moduli 5d41402abc4b2a76b9719d911017c592
 /etc/old 0cc175b9c0f1b6a831c399e269772661 obsolete
Description: secure shell
 /etc/none 0cc175b9c0f1b6a831c399e269772661

Package: libc-bin
Version: 2.36-9
";

    fn at(text: &str) -> Timestamp {
        format!("2026-11-30T{text}Z").parse().unwrap()
    }

    fn installs() -> Installs {
        Installs { spans: spans(LOG, &TimeZone::UTC, None), owned: conffiles(STATUS) }
    }

    fn root() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/ssh")).unwrap();
        fs::write(root.path().join("etc/ssh/moduli"), "hello").unwrap();
        std::os::unix::fs::symlink("x", root.path().join("etc/link")).unwrap();
        root
    }

    fn explained(path: &str, time: Option<&str>, who: &Actor) -> Option<String> {
        let between = (at("11:59:00"), at("12:01:00"));
        let now = Now { path, changed_at: time.map(at), who, between };
        installs().explains(root().path(), &now).map(|it| format!("{} {}", it.package, it.version))
    }

    #[test]
    fn the_log_says_when_dpkg_was_at_work_on_what() {
        let told: Vec<_> = spans(LOG, &TimeZone::UTC, None)
            .into_iter()
            .map(|span| (span.package, span.version, span.from, span.until))
            .collect();
        let ssh = |version: &str, from, until| {
            ("openssh-server".to_owned(), version.to_owned(), at(from), at(until))
        };
        assert_eq!(
            told,
            [
                ssh("1:9.2p1-3", "12:00:01", "12:00:03"),
                ssh("1:9.2p1-3", "12:00:04", "12:00:06"),
                ("libc-bin".to_owned(), "2.36-9".to_owned(), at("12:00:06"), at("12:00:07")),
            ]
        );
    }

    #[test]
    fn a_script_that_works_for_long_is_at_work_until_dpkg_ends() {
        let (log, _) = LOG.split_once("2026-11-30 12:00:06 status").unwrap();
        let told = |works_at| spans(log, &TimeZone::UTC, works_at).pop().unwrap().until;

        assert_eq!(told(None), at("12:00:04"));
        assert_eq!(told(Some(at("12:00:20"))), at("12:00:20"));
        // The clock of whoever looked was read before the last line.
        assert_eq!(told(Some(at("12:00:03"))), at("12:00:04"));
    }

    #[test]
    fn dpkg_is_at_work_while_its_lock_is_held() {
        let root = root();
        let lock = root.path().join("var/lib/dpkg/lock");
        fs::create_dir_all(lock.parent().unwrap()).unwrap();
        fs::create_dir_all(root.path().join("var/log")).unwrap();
        fs::write(root.path().join("var/log/dpkg.log"), LOG).unwrap();
        let between = (at("12:00:00"), at("12:00:20"));
        let until = || Installs::read(root.path(), between).spans.pop().unwrap().until;
        assert_eq!(until(), at("12:00:07"), "there is no lock");
        fs::write(&lock, "").unwrap();
        assert_eq!(until(), at("12:00:07"), "nobody holds it");

        // Another process: one's own locks are no obstacle to oneself.
        let script = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.lockf(f, fcntl.LOCK_EX); \
                      print('held', flush=True); sys.stdin.read()";
        let mut holder = Command::new("python3")
            .args(["-c", script])
            .arg(&lock)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut told = [0; 4];
        holder.stdout.as_mut().unwrap().read_exact(&mut told).unwrap();
        assert_eq!(until(), at("12:00:20"));
        drop(holder.stdin.take());
        holder.wait().unwrap();
        assert_eq!(until(), at("12:00:07"));
    }

    #[test]
    fn times_of_the_log_are_the_hosts() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(spans(LOG, &zone, None)[0].from, at("10:00:01"));
    }

    #[test]
    fn what_came_with_a_package_is_its() {
        let ssh = Some("openssh-server 1:9.2p1-3".to_owned());
        assert_eq!(explained("/etc/ssh/moduli", Some("12:00:04"), &Actor::Unknown), ssh);
        // By a script of it, whatever it holds.
        let by = Actor::PackageManager;
        assert_eq!(explained("/etc/ssh/sshd_config", Some("12:00:05"), &by), ssh);
        let libc = Some("libc-bin 2.36-9".to_owned());
        assert_eq!(explained("/etc/ld.so.cache", Some("12:00:07"), &by), libc);
        assert_eq!(explained("/etc/link", Some("12:00:05"), &Actor::Unknown), ssh);
        assert_eq!(
            explained("/etc/ssh/gone", None, &Actor::Unknown).as_deref(),
            Some("libc-bin 2.36-9")
        );
    }

    #[test]
    fn what_somebody_wrote_meanwhile_is_not() {
        let person = Actor::Person { login: "anna".to_owned() };
        assert_eq!(explained("/etc/ssh/moduli", Some("12:00:04"), &person), None);
        let program = Actor::Program { executable: "/usr/bin/x".to_owned() };
        assert_eq!(explained("/etc/ssh/moduli", Some("12:00:04"), &program), None);
        // A file that the package does not have, by nobody.
        assert_eq!(explained("/etc/ssh/sshd_config", Some("12:00:05"), &Actor::Unknown), None);
        // Another time.
        assert_eq!(explained("/etc/ssh/moduli", Some("12:05:00"), &Actor::Unknown), None);
        assert_eq!(explained("/etc/ssh/x", Some("11:59:00"), &Actor::PackageManager), None);
    }

    #[test]
    fn conffiles_are_those_of_the_list() {
        let owned = conffiles(STATUS);
        let paths: Vec<_> = owned.keys().map(String::as_str).collect();
        assert_eq!(paths, ["/etc/default/ssh", "/etc/old", "/etc/ssh/moduli"]);
        let hash = |text: &str| Checksum::from_hex(text.as_bytes());
        assert_eq!(owned["/etc/old"][0].checksum, hash("0cc175b9c0f1b6a831c399e269772661"));

        let mut owned = BTreeMap::new();
        ucf("0cc175b9c0f1b6a831c399e269772661  /etc/x y\n", "base-files /etc/x y\n", &mut owned);
        assert_eq!(owned["/etc/x y"][0].package, "base-files");
    }

    fn run(command: &mut std::process::Command) {
        let done = command.output().unwrap();
        assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// An rpm with a configuration file that is replaced, one that is not, one that is none, and one that its script
    /// makes; in a version.
    fn rpm(folder: &Path, version: &str) -> std::path::PathBuf {
        let spec = format!(
            "Name: app\nVersion: {version}\nRelease: 1\nSummary: an example\nLicense: none\n\
             %description\nan example\n%install\nmkdir -p %{{buildroot}}/etc/app\n\
             for name in replaced kept plain; do echo $name {version} > %{{buildroot}}/etc/app/$name; done\n\
             %files\n%config /etc/app/replaced\n%config(noreplace) /etc/app/kept\n/etc/app/plain\n"
        );
        let place = folder.join("app.spec");
        fs::write(&place, spec).unwrap();
        let mut command = std::process::Command::new("rpmbuild");
        command.args(["-bb", "--quiet", "--target", "x86_64-linux"]);
        let folder = folder.to_str().unwrap();
        for (name, value) in [
            ("_topdir", folder),
            ("_rpmdir", folder),
            ("_rpmfilename", "%%{NAME}-%%{VERSION}.rpm"),
            ("_build_id_links", "none"),
        ] {
            command.args(["--define", &format!("{name} {value}")]);
        }
        run(command.arg(&place));
        Path::new(folder).join(format!("app-{version}.rpm"))
    }

    fn install(root: &Path, file: &Path) {
        let mut command = std::process::Command::new("rpm");
        command.arg("--root").arg(root).args(["--dbpath", "/var/lib/rpm", "--nodeps", "-U"]);
        run(command.arg(file));
    }

    /// What explains each file of a directory, as if nobody had been seen.
    fn told(root: &Path, before: Timestamp, who: &Actor) -> BTreeMap<String, Option<String>> {
        let between = (before, Timestamp::now());
        let installs = Installs::read(root, between);
        let names = fs::read_dir(root.join("etc/app")).unwrap();
        names
            .map(|entry| {
                let entry = entry.unwrap();
                let (found, name) =
                    (entry.metadata().unwrap(), entry.file_name().into_string().unwrap());
                let changed =
                    Timestamp::new(found.ctime(), i32::try_from(found.ctime_nsec()).unwrap());
                let path = format!("/etc/app/{name}");
                let now = Now { path: &path, changed_at: changed.ok(), who, between };
                let explained = installs.explains(root, &now);
                (name, explained.map(|it| format!("{} {}", it.package, it.version)))
            })
            .collect()
    }

    #[test]
    fn what_a_real_rpm_brought_is_its() {
        if fs::File::open("/etc/shadow").is_err() {
            return eprintln!("skipped: only root may install into a root");
        }
        let (folder, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let root = root.path();
        let (older, newer) = (rpm(folder.path(), "1"), rpm(folder.path(), "2"));
        let before = Timestamp::now();
        install(root, &older);
        let one = Some("app 1-1".to_owned());
        let first = told(root, before, &Actor::Unknown);
        assert_eq!(first["replaced"], one);
        assert_eq!((&first["kept"], &first["plain"]), (&one, &one));

        for name in ["replaced", "kept", "own"] {
            fs::write(root.join("etc/app").join(name), "mine\n").unwrap();
        }
        install(root, &newer);

        let second = told(root, before, &Actor::Unknown);
        let two = Some("app 2-1".to_owned());
        for name in ["replaced", "replaced.rpmsave", "kept.rpmnew", "plain"] {
            assert_eq!(second[name], two, "{name}: {second:?}");
        }
        // What is not the package's is nobody's, whatever it is called.
        std::os::unix::fs::symlink("plain", root.join("etc/app/link")).unwrap();
        assert_eq!(told(root, before, &Actor::Unknown)["link"], None);
        assert_eq!((&second["kept"], &second["own"]), (&None, &None));
        let person = Actor::Person { login: "anna".to_owned() };
        assert!(told(root, before, &person).values().all(Option::is_none));
        for name in ["kept.rpmnew", "replaced", "own"] {
            fs::write(root.join("etc/app").join(name), "mine\n").unwrap();
        }
        let third = told(root, before, &Actor::Unknown);
        for name in ["replaced", "replaced.rpmsave", "kept.rpmnew"] {
            assert_eq!(third[name], None, "{name}");
        }
        assert_eq!(
            told(root, before, &Actor::PackageManager)["own"],
            two,
            "a script of it wrote it"
        );

        // What is gone, no record of rpm's tells.
        let between = (before, Timestamp::now());
        let now = Now { path: "/etc/app/x", changed_at: None, who: &Actor::Unknown, between };
        assert_eq!(Installs::read(root, between).explains(root, &now), None);
        // Nor what nobody wrote the database for.
        let later = Timestamp::now() + SignedDuration::from_mins(5);
        assert!(Installs::read(root, (later, later)).spans.is_empty());
    }

    #[test]
    fn what_apk_brought_is_its() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::create_dir_all(root.join("lib/apk/db")).unwrap();
        fs::create_dir_all(root.join("etc/app")).unwrap();
        fs::write(root.join("etc/os-release"), "ID=alpine\nVERSION_ID=3.22\n").unwrap();
        let before = Timestamp::now();
        for (name, content) in [
            ("app.conf", "hello"),
            ("app.conf.apk-new", "hello"),
            ("mine", "hello"),
            ("other", "x"),
        ] {
            fs::write(root.join("etc/app").join(name), content).unwrap();
        }
        // SHA-1 of `hello`.
        let database = "P:app\nV:1.2-r0\nA:x86_64\nF:etc\nF:etc/app\nM:0:0:755\nR:app.conf\na:0:0:644\n\
            Z:Q1qvTGHdzF6KLavt4PO0gs2a6pQ00=\nR:other\nZ:Q1qvTGHdzF6KLavt4PO0gs2a6pQ00=\n\n\
            P:apk-tools\nV:2.14.9-r2\nA:x86_64\n\n";
        fs::write(root.join("lib/apk/db/installed"), database).unwrap();

        let found = told(root, before, &Actor::Unknown);

        let app = Some("app 1.2-r0".to_owned());
        assert_eq!((&found["app.conf"], &found["app.conf.apk-new"]), (&app, &app));
        assert_eq!((&found["mine"], &found["other"]), (&None, &None));
        let script = told(root, before, &Actor::PackageManager);
        assert_eq!(script["other"], app);
        assert_eq!(script["mine"], Some("apk-tools 2.14.9-r2".to_owned()));
        // Longer ago than a run takes.
        let file = File::options().write(true).open(root.join("lib/apk/db/installed")).unwrap();
        file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(3600))
            .unwrap();
        assert_eq!(told(root, before, &Actor::Unknown)["app.conf"], None);
    }
}
