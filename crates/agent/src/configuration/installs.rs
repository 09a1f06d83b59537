//! What a package manager brought: by its own records, `dpkg.log` (dpkg(1)), the checksums of configuration files in
//! dpkg's status, and those that `ucf` keeps.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use domain::agent::Installed;
use domain::configuration::verdict::Actor;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use md5::{Digest as _, Md5};
use rustix::process::{Flock, FlockType, fcntl_getlk};

/// Most of `dpkg.log` that is read, from its end: some ten thousand packages.
const MOST_LOG: u64 = 4 << 20;

/// Most of dpkg's status and of ucf's files that is read.
const MOST_STATUS: u64 = 64 << 20;

/// Largest file that is compared with a package's.
const LARGEST: u64 = 1 << 20;

/// The log has whole seconds, and what a script did last may be written after its line.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// What packages are at work on, lately, and what they own.
#[derive(Debug, Default)]
pub(super) struct Installs {
    spans: Vec<Span>,
    /// Of configuration files: whose, and MD5 of what came with it.
    owned: BTreeMap<String, Vec<(String, String)>>,
}

/// dpkg was at work on one package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    package: String,
    version: String,
    from: Timestamp,
    until: Timestamp,
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
    /// Reads them. What cannot be read explains nothing. `at` is when was looked at what they are to explain.
    pub(super) fn read(root: &Path, at: Timestamp) -> Self {
        let place = |path: &str| root.join(path.trim_start_matches('/'));
        // Before the log: what ends meanwhile has its last lines there.
        let works_at = is_held(&place("/var/lib/dpkg/lock")).then_some(at);
        let zone = fs::read(place("/etc/localtime")).ok();
        let zone = zone.and_then(|bytes| TimeZone::tzif("localtime", &bytes).ok());
        let log = tail(&place("/var/log/dpkg.log"), MOST_LOG).unwrap_or_default();
        let spans = spans(&log, &zone.unwrap_or(TimeZone::UTC), works_at);
        let status = tail(&place("/var/lib/dpkg/status"), MOST_STATUS).unwrap_or_default();
        let mut owned = conffiles(&status);
        let hashes = tail(&place("/var/lib/ucf/hashfile"), MOST_STATUS).unwrap_or_default();
        let registry = tail(&place("/var/lib/ucf/registry"), MOST_STATUS).unwrap_or_default();
        ucf(&hashes, &registry, &mut owned);
        Self { spans, owned }
    }

    /// The package that a path's last alteration came from, where the records speak for one.
    pub(super) fn explains(&self, root: &Path, now: &Now<'_>) -> Option<Installed> {
        let is_at_work = |span: &&Span| match now.changed_at {
            Some(at) => span.from - SECOND <= at && at <= span.until + SECOND,
            // It went at some time between two looks.
            None => span.from <= now.between.1 && now.between.0 <= span.until + SECOND,
        };
        let mut at_work: Vec<&Span> = self.spans.iter().filter(is_at_work).collect();
        let owners = self.owned.get(now.path).map(Vec::as_slice).unwrap_or_default();
        let is_owner = |span: &Span| owners.iter().any(|(name, _)| *name == span.package);
        let outside = root.join(now.path.trim_start_matches('/'));
        let is_link = fs::symlink_metadata(&outside).is_ok_and(|it| !it.is_file());
        let is_as_shipped = || {
            let found = checksum(&outside).ok();
            found.is_some_and(|found| owners.iter().any(|(_, shipped)| *shipped == found))
        };
        let is_explained = match (now.changed_at, now.who) {
            // Nobody is seen to make links, or to take something away.
            (_, Actor::PackageManager) | (None, Actor::Unknown) => true,
            (Some(_), Actor::Unknown) => is_link || is_as_shipped(),
            _ => false,
        };
        if !is_explained {
            return None;
        }
        // Of what shares a second, the owner; else the one within whose lines it is; else the last one.
        let is_within =
            |span: &Span| now.changed_at.is_some_and(|at| span.from <= at && at <= span.until);
        at_work.sort_by_key(|span| (is_owner(span), is_within(span), span.from));
        let Span { package, version, from, until } = at_work.pop()?.clone();
        Some(Installed { package, version, from, until: until + SECOND })
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

fn checksum(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("no file"));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other("too large"));
    }
    let digest = <[u8; 16]>::from(Md5::digest(&bytes));
    Ok(format!("{:032x}", u128::from_be_bytes(digest)))
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
                spans.push(Span { package, version, from: at, until: at });
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

/// Configuration files of installed packages, by path: package and MD5.
fn conffiles(status: &str) -> BTreeMap<String, Vec<(String, String)>> {
    let mut owned: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
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
            owned.entry(path.to_owned()).or_default().push((package.to_owned(), hash.to_owned()));
        } else {
            is_list = false;
        }
    }
    owned
}

/// What ucf(1) installed: `MD5  PATH` and `PACKAGE PATH`.
fn ucf(hashes: &str, registry: &str, owned: &mut BTreeMap<String, Vec<(String, String)>>) {
    let packages: BTreeMap<&str, &str> = registry
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(package, path)| (path.trim(), package))
        .collect();
    for (hash, path) in hashes.lines().filter_map(|line| line.split_once(char::is_whitespace)) {
        let path = path.trim();
        if let Some(package) = packages.get(path) {
            let entry = ((*package).to_owned(), hash.to_owned());
            owned.entry(path.to_owned()).or_default().push(entry);
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
        let until = || Installs::read(root.path(), at("12:00:20")).spans.pop().unwrap().until;
        assert_eq!(until(), at("12:00:07"), "there is no lock");
        fs::write(&lock, "").unwrap();
        assert_eq!(until(), at("12:00:07"), "nobody holds it");

        // Another process: one's own locks are no obstacle to oneself.
        let script = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'w'), fcntl.LOCK_EX); \
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
        assert_eq!(owned["/etc/old"][0].1, "0cc175b9c0f1b6a831c399e269772661");

        let mut owned = BTreeMap::new();
        ucf("0cc175b9c0f1b6a831c399e269772661  /etc/x y\n", "base-files /etc/x y\n", &mut owned);
        assert_eq!(owned["/etc/x y"][0].0, "base-files");
    }
}
