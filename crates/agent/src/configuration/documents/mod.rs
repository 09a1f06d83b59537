//! What a host is configured by beside its files: security policies, profiles of what runs, database servers.
//!
//! ```text
//! Host (files of the kernel, programs, services) ─► Collector ─► canonical text ─► redact ─► name, content
//! ```
//!
//! Each aspect is a document of its own name. Its text is the same as long as the host is: facts are sorted where their
//! order means nothing, counters and numbers that only one run has are left out. What cannot be seen says why in its
//! document's place, and is never left out.

mod accounts;
mod host;
mod kernel;
mod libvirt;
mod logins;
mod lsm;
mod mariadb;
mod nftables;
mod page;
mod pam;
mod postgresql;
mod sockets;
mod sshd;
mod sudoers;
mod sysctl;
mod systemd;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use domain::configuration::document::DocumentRules;
use domain::configuration::login::LOGINS;
use domain::configuration::secret::{Fingerprint, FingerprintKey, Redaction, redact};

use self::host::{Host, Live};
use self::page::{Unseen, line};
use super::Depth;

/// Most documents of one collector.
const MOST: usize = 1_000;

/// What is dear is looked at more rarely: one look in so many times as long as it took.
const REST: u32 = 200;

/// A document, or why there is none.
type Page = Result<String, Unseen>;

/// The documents of one collector by their names; an error where not even their names are known.
type Pages = Result<BTreeMap<String, Page>, Unseen>;

/// What sees some aspect of a host.
struct Collector {
    /// The name of its document; where there may be several, what their names begin with, up to a slash.
    names: &'static str,
    see: See,
}

/// How it is looked.
enum See {
    /// At an aspect that each host has.
    One(fn(&dyn Host) -> Page),
    /// At whatever there is of a kind.
    Several(fn(&dyn Host) -> Pages),
    /// At what the owner names.
    Named(fn(&dyn Host, &DocumentRules) -> Pages),
}

const fn one(names: &'static str, see: fn(&dyn Host) -> Page) -> Collector {
    Collector { names, see: See::One(see) }
}

const fn several(names: &'static str, see: fn(&dyn Host) -> Pages) -> Collector {
    Collector { names, see: See::Several(see) }
}

/// All there are.
const COLLECTORS: &[Collector] = &[
    one("policy:apparmor", lsm::apparmor),
    one("policy:iptables", nftables::iptables),
    several("policy:libvirt/", libvirt::guests),
    one("policy:nftables", nftables::nftables),
    one("policy:pam", pam::pam),
    one("policy:selinux", lsm::selinux),
    one("policy:sshd", sshd::sshd),
    one("policy:sudoers", sudoers::sudoers),
    one("policy:sysctl", sysctl::sysctl),
    Collector { names: "policy:tls/", see: See::Named(tls::endpoints) },
    one("profile:accounts", accounts::accounts),
    one("profile:kernel", kernel::kernel),
    one(LOGINS, logins::logins),
    one("profile:modules", kernel::modules),
    one("profile:mounts", kernel::mounts),
    one("profile:packages", kernel::packages),
    one("profile:services", systemd::services),
    one("profile:sockets", sockets::sockets),
    one("profile:time", kernel::time),
    one("profile:units", systemd::units),
    several("database:mariadb/", mariadb::servers),
    several("database:postgresql/", postgresql::clusters),
];

impl Collector {
    fn look(&self, host: &dyn Host, rules: &DocumentRules) -> Pages {
        match self.see {
            See::One(see) => Ok([(self.names.to_owned(), see(host))].into()),
            See::Several(see) => see(host),
            See::Named(see) => see(host, rules),
        }
    }

    fn has(&self, name: &str) -> bool {
        match self.see {
            See::One(_) => name == self.names,
            See::Several(_) | See::Named(_) => name.starts_with(self.names) || name == self.kind(),
        }
    }

    /// What stands for all of its documents where none can be named.
    fn kind(&self) -> &str {
        self.names.trim_end_matches('/')
    }
}

/// The documents of this host, looked at again and again.
///
/// ```no_run
/// use agent::configuration::{Depth, Documents};
/// use domain::configuration::document::DocumentRules;
/// use domain::configuration::secret::FingerprintKey;
///
/// let rules = DocumentRules::default();
/// let mut documents = Documents::of_this_host(rules, FingerprintKey::from([0; 32]), []);
/// for (name, content) in documents.look(Depth::Full) {
///     println!("{name}: {} bytes", content.len());
/// }
/// ```
pub struct Documents {
    host: Box<dyn Host>,
    rules: DocumentRules,
    key: FingerprintKey,
    /// What each collector saw last.
    seen: Vec<Seen>,
}

#[derive(Default)]
struct Seen {
    contents: BTreeMap<String, String>,
    /// Fingerprints of the texts that they were made of: what is the same is not looked through again.
    made_of: BTreeMap<String, Fingerprint>,
    /// When it is looked at again.
    due: Duration,
}

impl Documents {
    /// `key` is the item's; `known` are the names of those that there were.
    pub fn of_this_host(
        rules: DocumentRules,
        key: FingerprintKey,
        known: impl IntoIterator<Item = String>,
    ) -> Self {
        Self::with(Box::new(Live::new()), rules, key, known)
    }

    fn with(
        host: Box<dyn Host>,
        rules: DocumentRules,
        key: FingerprintKey,
        known: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut seen: Vec<Seen> = COLLECTORS.iter().map(|_| Seen::default()).collect();
        for name in known {
            if let Some(place) = COLLECTORS.iter().position(|it| it.has(&name)) {
                seen[place].contents.insert(name, String::new());
            }
        }
        Self { host, rules, key, seen }
    }

    /// What of each document may leave the host, by its name. A quick look asks nobody again who was asked lately, for how
    /// long that took.
    pub fn look(&mut self, depth: Depth) -> BTreeMap<String, String> {
        let Self { host, rules, key, seen } = self;
        for (collector, seen) in COLLECTORS.iter().zip(&mut *seen) {
            let begun = host.clock();
            let is_due = depth == Depth::Full || seen.due <= begun;
            if !rules.reaches(collector.names) || !is_due {
                continue;
            }
            let pages = collector.look(&**host, rules);
            told(collector, pages, seen, rules, key);
            let ended = host.clock();
            seen.due = ended + ended.saturating_sub(begun) * REST;
        }
        let all = seen.iter().flat_map(|it| it.contents.clone());
        all.filter(|(name, _)| rules.wants(name)).collect()
    }

    /// What the last look saw of one.
    pub(super) fn content(&self, name: &str) -> Option<&str> {
        self.seen.iter().find_map(|it| it.contents.get(name)).map(String::as_str)
    }
}

/// Puts what may leave the host of what a collector saw in the place of what it saw before.
fn told(
    collector: &Collector,
    pages: Pages,
    seen: &mut Seen,
    rules: &DocumentRules,
    key: &FingerprintKey,
) {
    let before = std::mem::take(&mut seen.contents);
    let made_of = std::mem::take(&mut seen.made_of);
    let pages = pages.unwrap_or_else(|because| {
        let mut names: BTreeSet<&str> = before.keys().map(String::as_str).collect();
        if names.is_empty() {
            names.insert(collector.kind());
        }
        names.into_iter().map(|name| (name.to_owned(), Err(because.clone()))).collect()
    });
    for (name, page) in pages {
        // Names of guests and of clusters are anybody's.
        let name: String = line(&name).chars().take(250).collect();
        if !rules.wants(&name) {
            continue;
        }
        if seen.contents.len() == MOST {
            let because = Unseen::new(format!("there are more than {MOST} of them"));
            let name = collector.kind().to_owned();
            let content = redacted(&name, &text_of(Err(because)), key);
            seen.contents.insert(name, content);
            break;
        }
        let text = text_of(page);
        let fingerprint = key.of(&name, text.as_bytes());
        let same = before.get(&name).filter(|_| made_of.get(&name) == Some(&fingerprint));
        let content = same.cloned().unwrap_or_else(|| redacted(&name, &text, key));
        seen.made_of.insert(name.clone(), fingerprint);
        seen.contents.insert(name, content);
    }
}

fn text_of(page: Page) -> String {
    page.unwrap_or_else(|because| format!("<unseen:{because}>\n"))
}

fn redacted(name: &str, text: &str, key: &FingerprintKey) -> String {
    match redact(name, text.as_bytes(), key) {
        Redaction::Text(redacted) => redacted.text,
        Redaction::Withheld { because, size, fingerprint } => {
            format!("<withheld:{because}:{size}:{fingerprint}>\n")
        }
    }
}

#[cfg(test)]
mod tests;
