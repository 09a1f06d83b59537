//! What the owner of a host lets be done to it: a file on the host, which narrows what others may do. Only
//! for files that it names may less be signed ([`Policy::names_file`]).
//!
//! ```
//! use domain::order::Policy;
//!
//! let policy = Policy::parse(
//!     r#"
//!     reboot = "forbid"
//!     keep_free_mib = 512
//!
//!     [packages]
//!     allow = ["nginx*", "libssl3"]
//!
//!     [[hours]]
//!     days = ["sat", "sun"]
//!     from = "01:00"
//!     until = "05:00"
//!     zone = "Europe/Berlin"
//!     "#,
//! )?;
//! assert_eq!(policy.keep_free_mib, 512);
//! assert!(Policy::parse("rebot = \"forbid\"").is_err(), "a word that says nothing is an error");
//! # Ok::<(), domain::order::InvalidPolicy>(())
//! ```

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde::{Deserialize, Serialize};

use super::refusal::Forbidden;
use super::versions::Versions;
use crate::change::{Action, ExactPackage, FileChange};
use crate::cloud::words;
use crate::configuration::document::DocumentRules;

/// Longest file that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// Most `**` of a pattern: each one more takes as many times longer as a path has names.
const MOST_STARS: usize = 3;

words! {
    /// Whether something may be done.
    Permission {
        /// It may, where order and consent say so.
        Allow = "allow",
        /// It may not, whoever says so.
        Forbid = "forbid",
    }
}

/// The owner's rules. Without a file nothing is forbidden beside what plan and consent forbid.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Restarts of the system.
    pub reboot: Permission,
    /// Restarts of units that an order names.
    pub restart: Permission,
    /// Altering files, in whatever way.
    pub write_files: Permission,
    /// Taking files away.
    pub remove_files: Permission,
    /// Giving files another owner or other permissions.
    pub file_access: Permission,
    /// Packages that are not installed yet, as a new kernel is.
    pub additions: Permission,
    /// Which packages.
    pub packages: PackageRules,
    /// Which files.
    pub files: FileRules,
    /// When; at any time where none are given.
    pub hours: Vec<Hours>,
    /// When not.
    pub freeze: Vec<Freeze>,
    /// Room that is left on each file system, in MiB.
    pub keep_free_mib: u64,
    /// Configuration files that are observed.
    pub configuration: ConfigurationRules,
}

/// Which packages may be altered, by patterns with `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PackageRules {
    /// Only these; all where none are given.
    pub allow: Vec<String>,
    /// Never these.
    pub forbid: Vec<String>,
}

/// Which files may be written, by patterns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileRules {
    /// Only these; all where none are given.
    pub allow: Vec<PathPattern>,
    /// Never these.
    pub forbid: Vec<PathPattern>,
}

/// Which configuration files are observed, by patterns. What leaves the host of them is said in
/// [`redact`](crate::configuration::secret::redact).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigurationRules {
    /// Which; `/etc/**` where nothing is said.
    pub watch: Vec<PathPattern>,
    /// Never these: nothing is said of them.
    pub ignore: Vec<PathPattern>,
    /// Of these only that they are there, their owners and a fingerprint.
    pub withhold: Vec<PathPattern>,
    /// Of these the original too, where there is something secret in it: the control plane keeps it sealed, and gives
    /// it to nobody who does not say why. What is withheld stays so.
    pub originals: Vec<PathPattern>,
    /// What is told beside files.
    pub documents: DocumentRules,
}

impl Default for ConfigurationRules {
    fn default() -> Self {
        let watch = vec![PathPattern("/etc/**".to_owned())];
        Self {
            watch,
            ignore: Vec::new(),
            withhold: Vec::new(),
            originals: Vec::new(),
            documents: DocumentRules::default(),
        }
    }
}

impl ConfigurationRules {
    /// Whether a path is observed.
    pub fn watches(&self, path: &str) -> bool {
        let is_in = |patterns: &[PathPattern]| patterns.iter().any(|it| it.has(path));
        is_in(&self.watch) && !is_in(&self.ignore)
    }

    /// Whether something below a directory may be observed.
    pub fn reaches(&self, directory: &str) -> bool {
        self.watch.iter().any(|it| it.reaches(directory))
            && !self.ignore.iter().any(|it| it.has(directory) && it.has(&format!("{directory}/x")))
    }

    /// Whether the original of a path is kept, too.
    pub fn keeps_original(&self, path: &str) -> bool {
        self.originals.iter().any(|it| it.has(path)) && !self.withholds(path)
    }

    /// Whether nothing of a path's content leaves the host.
    pub fn withholds(&self, path: &str) -> bool {
        self.withhold.iter().any(|it| it.has(path))
    }
}

/// Paths: `*` stands for any letters of one name, `**` for any directories, `/etc/ssh/**` for all that lies
/// there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathPattern(String);

/// Hours of some days.
#[derive(Debug, Clone, PartialEq)]
pub struct Hours {
    /// On which days they begin.
    days: Vec<Weekday>,
    from: Time,
    until: Time,
    zone: TimeZone,
}

/// A time in which nothing is altered.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// From when on.
    pub from: Timestamp,
    /// Until before when.
    pub until: Timestamp,
    /// Why, for people.
    #[serde(default)]
    pub reason: String,
}

/// A file that is no policy; then nothing is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// More than anybody writes.
    #[error("the policy has {size} bytes, more than {LONGEST}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
    /// It does not say what it could.
    #[error("the policy cannot be read: {0}")]
    Unreadable(String),
}

impl InvalidPolicy {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "use patterns for packages",
            Self::Unreadable(_) => "correct the line as described in docs/orders.md",
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            reboot: Permission::Allow,
            restart: Permission::Allow,
            write_files: Permission::Allow,
            remove_files: Permission::Allow,
            file_access: Permission::Allow,
            additions: Permission::Allow,
            packages: PackageRules::default(),
            files: FileRules::default(),
            hours: Vec::new(),
            freeze: Vec::new(),
            keep_free_mib: 64,
            configuration: ConfigurationRules::default(),
        }
    }
}

impl Policy {
    /// Reads the owner's file (TOML).
    ///
    /// # Errors
    /// If anything in it is not understood: what was meant to be forbidden must not be allowed by a
    /// slip of the pen.
    pub fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        if text.len() > LONGEST {
            return Err(InvalidPolicy::TooLong { size: text.len() });
        }
        toml::from_str(text).map_err(|error| InvalidPolicy::Unreadable(error.to_string()))
    }

    /// Whether actions may be done now on a host that has these packages.
    ///
    /// # Errors
    /// The first thing that is forbidden.
    pub fn allows(
        &self,
        actions: &[Action],
        installed: &Versions,
        now: Timestamp,
    ) -> Result<(), Forbidden> {
        if let Some(freeze) = self.freeze.iter().find(|it| it.from <= now && now < it.until) {
            let (until, reason) = (freeze.until, freeze.reason.clone());
            return Err(Forbidden::Freeze { until, reason });
        }
        if !self.hours.is_empty() && !self.hours.iter().any(|hours| hours.has(now)) {
            return Err(Forbidden::Hours { now });
        }
        actions.iter().try_for_each(|action| self.allows_action(action, installed))
    }

    fn allows_action(&self, action: &Action, installed: &Versions) -> Result<(), Forbidden> {
        match action {
            Action::Upgrade { packages } => {
                packages.iter().try_for_each(|package| self.allows_package(package, installed))
            }
            Action::AlterFile { path, .. } if !self.allows_file(path) => {
                Err(Forbidden::File { path: path.clone() })
            }
            Action::AlterFile { path, change: FileChange::Remove { .. } }
                if self.remove_files == Permission::Forbid =>
            {
                Err(Forbidden::Removal { path: path.clone() })
            }
            Action::AlterFile { path, change }
                if self.file_access == Permission::Forbid && change.is_of_access() =>
            {
                Err(Forbidden::Access { path: path.clone() })
            }
            Action::RestartUnit { unit } if self.restart == Permission::Forbid => {
                Err(Forbidden::Restart { unit: unit.clone() })
            }
            Action::Reboot if self.reboot == Permission::Forbid => Err(Forbidden::Reboot),
            Action::AlterFile { .. }
            | Action::RestartUnit { .. }
            | Action::Reboot
            | Action::Probe { .. } => Ok(()),
        }
    }

    /// Whether the owner named a file among those that may be written: then they mean it, and what needs no
    /// signature needs none for it either.
    pub fn names_file(&self, path: &str) -> bool {
        self.files.allow.iter().any(|it| it.has(path))
    }

    fn allows_file(&self, path: &str) -> bool {
        let FileRules { allow, forbid } = &self.files;
        let is_in = |patterns: &[PathPattern]| patterns.iter().any(|it| it.has(path));
        self.write_files == Permission::Allow
            && !is_in(forbid)
            && (allow.is_empty() || self.names_file(path))
    }

    fn allows_package(
        &self,
        package: &ExactPackage,
        installed: &Versions,
    ) -> Result<(), Forbidden> {
        let PackageRules { allow, forbid } = &self.packages;
        let is_in = |patterns: &[String]| patterns.iter().any(|it| matches(it, &package.name));
        if is_in(forbid) || (!allow.is_empty() && !is_in(allow)) {
            return Err(Forbidden::Package { package: package.name.clone() });
        }
        if self.additions == Permission::Forbid && installed.replaced_by(package).is_none() {
            return Err(Forbidden::Addition { package: package.name.clone() });
        }
        Ok(())
    }
}

impl PathPattern {
    /// The directory below which all lies that it stands for, without a slash at its end.
    pub fn base(&self) -> &str {
        let fixed = self.0.find('*').unwrap_or(self.0.len());
        self.0[..fixed].rsplit_once('/').map_or("", |(base, _)| base)
    }

    /// Whether it may stand for something below a directory.
    pub fn reaches(&self, directory: &str) -> bool {
        let mut names = directory.split('/').skip(1).filter(|name| !name.is_empty());
        let mut pattern = self.0.split('/').skip(1);
        loop {
            match (pattern.next(), names.next()) {
                (None, _) => return false,
                (Some("**"), _) | (Some(_), None) => return true,
                (Some(pattern), Some(name)) if !matches(pattern, name) => return false,
                (Some(_), Some(_)) => {}
            }
        }
    }

    /// Whether it stands for a path.
    pub fn has(&self, path: &str) -> bool {
        fn match_from(pattern: &[&str], names: &[&str]) -> bool {
            match (pattern, names) {
                ([], []) => true,
                // What lies below, and not the directory itself.
                (["**"], names) => !names.is_empty(),
                (["**", rest @ ..], _) => {
                    (0..=names.len()).any(|skipped| match_from(rest, &names[skipped..]))
                }
                ([first, rest @ ..], [name, names @ ..]) => {
                    matches(first, name) && match_from(rest, names)
                }
                ([], _) | (_, []) => false,
            }
        }
        let pattern: Vec<_> = self.0.split('/').skip(1).collect();
        let names: Vec<_> = path.split('/').skip(1).collect();
        match_from(&pattern, &names)
    }
}

/// One that stands for nothing is an error: what was meant to be forbidden must not be allowed by a slip.
impl TryFrom<String> for PathPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let names = text.strip_prefix('/').map(|rest| rest.split('/').collect::<Vec<_>>());
        let is_name = |name: &&str| {
            let is_step = matches!(*name, "" | "." | "..");
            !is_step && (*name == "**" || !name.contains("**"))
        };
        let stars = text.split('/').filter(|name| *name == "**").count();
        if names.is_some_and(|names| names.iter().all(is_name)) && stars <= MOST_STARS {
            return Ok(Self(text));
        }
        Err(format!("`{text}` is no pattern of absolute paths, as `/etc/nginx/**` is"))
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0
    }
}

impl Hours {
    /// Whether an instant lies in them. Hours that end before they begin end on the next day.
    fn has(&self, now: Timestamp) -> bool {
        let here = self.zone.to_datetime(now);
        let (today, time) = (here.date(), here.time());
        let begins_today = self.days.contains(&today.weekday());
        if self.from < self.until {
            return begins_today && self.from <= time && time < self.until;
        }
        let began_yesterday = today
            .checked_sub(1.day())
            .is_ok_and(|yesterday| self.days.contains(&yesterday.weekday()));
        (begins_today && self.from <= time) || (began_yesterday && time < self.until)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenHours {
    #[serde(default)]
    days: Vec<String>,
    from: String,
    until: String,
    #[serde(default)]
    zone: Option<String>,
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        const DAYS: [(&str, Weekday); 7] = [
            ("mon", Weekday::Monday),
            ("tue", Weekday::Tuesday),
            ("wed", Weekday::Wednesday),
            ("thu", Weekday::Thursday),
            ("fri", Weekday::Friday),
            ("sat", Weekday::Saturday),
            ("sun", Weekday::Sunday),
        ];
        let WrittenHours { days, from, until, zone } = WrittenHours::deserialize(deserializer)?;
        let time = |text: &str| {
            text.parse::<Time>()
                .map_err(|_| D::Error::custom(format!("`{text}` is no time of day")))
        };
        let day = |word: &String| {
            let found = DAYS.iter().find(|(name, _)| name == word).map(|(_, day)| *day);
            found.ok_or_else(|| D::Error::custom(format!("`{word}` is none of mon, tue, … sun")))
        };
        let days = match days.as_slice() {
            [] => DAYS.map(|(_, day)| day).to_vec(),
            words => words.iter().map(day).collect::<Result<_, _>>()?,
        };
        let zone = match zone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(&name)
                .map_err(|_| D::Error::custom(format!("`{name}` is no time zone")))?,
        };
        Ok(Self { days, from: time(&from)?, until: time(&until)?, zone })
    }
}

/// Whether a name is what a pattern says; `*` stands for any letters.
pub(crate) fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Access, FileState};

    #[test]
    fn a_star_stands_for_any_letters() {
        for (pattern, name) in [
            ("nginx", "nginx"),
            ("nginx*", "nginx-common"),
            ("*ssl*", "libssl3"),
            ("lib*-dev", "libssl-dev"),
            ("*", "x"),
            ("a*b*c", "axbxbxc"),
        ] {
            assert!(matches(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("nginx", "nginx2"), ("", "a"), ("lib*-dev", "libssl"), ("ab*b", "ab"), ("a*c", "acb")]
        {
            assert!(!matches(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn a_star_stays_within_a_name_and_two_go_through_directories() {
        let has = |pattern: &str, path: &str| {
            PathPattern::try_from(pattern.to_owned()).unwrap().has(path)
        };
        for (pattern, path) in [
            ("/etc/motd", "/etc/motd"),
            ("/etc/*.conf", "/etc/resolv.conf"),
            ("/etc/nginx/**", "/etc/nginx/nginx.conf"),
            ("/etc/nginx/**", "/etc/nginx/sites/a/b"),
            ("/etc/**/a.conf", "/etc/a.conf"),
            ("/etc/**/a.conf", "/etc/x/y/a.conf"),
            ("/**", "/etc/shadow"),
        ] {
            assert!(has(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("/etc/*.conf", "/etc/ssh/sshd.conf"),
            ("/etc/*", "/etc/ssh/sshd_config"),
            ("/etc/nginx/**", "/etc/nginx"),
            ("/etc/nginx/**", "/etc/nginx2/a"),
            ("/etc/motd", "/etc/motd/x"),
            ("/etc/**/a.conf", "/etc/x/b.conf"),
        ] {
            assert!(!has(pattern, path), "{pattern} {path}");
        }
        for slip in ["etc/motd", "/etc/../x", "/etc//x", "/etc/", "/etc/**x", "", "/**/**/**/**"] {
            let text = format!("[files]\nforbid = [\"{slip}\"]");
            assert!(Policy::parse(&text).is_err(), "{slip}");
        }
    }

    #[test]
    fn a_pattern_knows_where_to_look() {
        let pattern = |text: &str| PathPattern::try_from(text.to_owned()).unwrap();

        assert_eq!(pattern("/etc/**").base(), "/etc");
        assert_eq!(pattern("/etc/nginx/*.conf").base(), "/etc/nginx");
        assert_eq!(pattern("/etc/ngin*/a").base(), "/etc");
        assert_eq!(pattern("/etc/motd").base(), "/etc");
        assert_eq!(pattern("/**").base(), "");
        for (text, directory) in [
            ("/etc/**", "/etc"),
            ("/etc/**", "/etc/a/b"),
            ("/etc/*/x", "/etc/a"),
            ("/etc/a", "/etc"),
            ("/etc/a", ""),
        ] {
            assert!(pattern(text).reaches(directory), "{text} {directory}");
        }
        for (text, directory) in
            [("/etc/*/x", "/etc/a/x"), ("/etc/a*/x", "/etc/b"), ("/etc/a", "/usr")]
        {
            assert!(!pattern(text).reaches(directory), "{text} {directory}");
        }
    }

    #[test]
    fn etc_is_observed_unless_the_owner_says_otherwise() {
        let rules = |text: &str| Policy::parse(text).unwrap().configuration;

        let usual = rules("");
        assert!(usual.watches("/etc/a/b") && !usual.watches("/var/a") && usual.reaches("/etc/a"));
        let own = rules(
            "[configuration]\nwatch = [\"/srv/*.conf\"]\nignore = [\"/srv/a.conf\"]\nwithhold = [\"/srv/b.conf\"]",
        );
        assert!(own.watches("/srv/b.conf") && own.withholds("/srv/b.conf"));
        assert!(!own.watches("/srv/a.conf") && !own.watches("/etc/a"));
        let but = rules("[configuration]\nignore = [\"/etc/secret/**\"]");
        assert!(!but.reaches("/etc/secret/b") && but.reaches("/etc/other"));
        assert!(Policy::parse("[configuration]\nwach = []").is_err());
        let documents =
            rules("[configuration.documents]\nignore = [\"profile:*\"]\ntls = [\"127.0.0.1:443\"]");
        assert!(documents.watches("/etc/a") && !documents.documents.wants("profile:packages"));
        let both = "[configuration]\nwithhold = [\"/etc/a\"]\noriginals = [\"/etc/*\"]";
        let both = rules(both);
        assert!(both.keeps_original("/etc/b") && !both.keeps_original("/etc/a"));
        let slip = "[configuration.documents]\nignore = [\"profile\"]";
        assert!(Policy::parse(slip).is_err());
    }

    #[test]
    fn files_are_written_where_the_owner_lets_them_be() {
        let write = |path: &str| Action::AlterFile {
            path: path.to_owned(),
            change: FileChange::content(None, [0; 32].into()),
        };
        let installed = Versions::none(crate::version::VersionKind::Dpkg);
        let allows = |text: &str, path: &str| {
            let policy = Policy::parse(text).unwrap();
            policy.allows(&[write(path)], &installed, Timestamp::UNIX_EPOCH).is_ok()
        };

        assert!(allows("", "/etc/motd"));
        assert!(!allows("write_files = \"forbid\"", "/etc/motd"));
        let both = "[files]\nallow = [\"/etc/**\"]\nforbid = [\"/etc/ssh/**\"]";
        assert!(allows(both, "/etc/motd"));
        assert!(!allows(both, "/usr/bin/x"));
        assert!(!allows(both, "/etc/ssh/sshd_config"));
        let off = format!("write_files = \"forbid\"\n{both}");
        assert!(!allows(&off, "/etc/motd"), "no pattern allows what is forbidden altogether");
    }

    #[test]
    fn what_is_taken_away_and_whose_files_are_is_the_owners_to_forbid() {
        let state = |mode: &str| FileState {
            sha256: [0; 32].into(),
            access: Access { mode: mode.parse().unwrap(), ..Access::usual() },
        };
        let changes = [
            FileChange::content(Some([0; 32].into()), [1; 32].into()),
            FileChange::Create { after: state("0644") },
            FileChange::Create { after: state("0600") },
            FileChange::Remove { before: state("0644") },
            FileChange::Replace { before: state("0644"), after: state("0600") },
        ];
        let installed = Versions::none(crate::version::VersionKind::Dpkg);
        let allowed = |text: &str| {
            let policy = Policy::parse(text).unwrap();
            let allows = |change: &FileChange| {
                let write =
                    Action::AlterFile { path: "/etc/motd".to_owned(), change: change.clone() };
                policy.allows(&[write], &installed, Timestamp::UNIX_EPOCH).is_ok()
            };
            changes.each_ref().map(allows)
        };
        assert_eq!(allowed(""), [true; 5]);
        assert_eq!(allowed("remove_files = \"forbid\""), [true, true, true, false, true]);
        assert_eq!(allowed("file_access = \"forbid\""), [true, true, false, true, false]);
        assert_eq!(allowed("write_files = \"forbid\""), [false; 5], "whatever else it says");
    }

    #[test]
    fn hours_are_those_of_their_zone_and_may_reach_into_the_next_day() {
        let policy = |text: &str| Policy::parse(text).unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let has = |policy: &Policy, now: &str| policy.hours[0].has(at(now));
        let berlin = policy(
            "[[hours]]\ndays = [\"sat\"]\nfrom = \"01:00\"\nuntil = \"05:00\"\nzone = \"Europe/Berlin\"",
        );
        let night = policy("[[hours]]\ndays = [\"fri\"]\nfrom = \"22:00\"\nuntil = \"02:00\"");

        // 2026-12-05 is a Saturday; Berlin is an hour ahead.
        assert!(has(&berlin, "2026-12-05T00:00:00Z"));
        assert!(!has(&berlin, "2026-12-05T04:00:00Z"));
        assert!(!has(&berlin, "2026-12-04T02:00:00Z"));
        assert!(has(&night, "2026-12-04T23:00:00Z"));
        assert!(has(&night, "2026-12-05T01:59:59Z"));
        assert!(!has(&night, "2026-12-05T02:00:00Z"));
        assert!(!has(&night, "2026-12-04T01:00:00Z"));
    }

    #[test]
    fn whatever_is_not_understood_is_an_error() {
        for text in [
            "reboot = \"perhaps\"",
            "[[hours]]\nfrom = \"25:00\"\nuntil = \"02:00\"",
            "[[hours]]\ndays = [\"noday\"]\nfrom = \"01:00\"\nuntil = \"02:00\"",
            "[[hours]]\nfrom = \"01:00\"\nuntil = \"02:00\"\nzone = \"Nowhere/At_All\"",
            "[packages]\nalow = [\"nginx\"]",
            "[[freeze]]\nfrom = \"2026-12-20T00:00:00Z\"",
        ] {
            assert!(Policy::parse(text).is_err(), "{text}");
        }
        assert_eq!(Policy::parse(""), Ok(Policy::default()));
    }
}
