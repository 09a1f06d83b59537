//! Pins of `apt_preferences(5)`.

use crate::archive::SuiteFacts;
use crate::candidate::pattern::{InvalidPattern, Pattern};
use crate::deb822;
use crate::files::{FileError, FileView};

/// Size limit of one preferences file; real ones have a few kilobytes.
const FILE_LIMIT: u64 = 1 << 20;

/// The administrator's preferences, in the order in which apt reads them.
#[derive(Debug, Clone, Default)]
pub struct Preferences {
    /// Pins for named packages; the first that matches a version rules it.
    pub(super) specific: Vec<SpecificPin>,
    /// Pins for `Package: *`, `APT::Default-Release` first; the first that matches a suite rules.
    pub(super) general: Vec<GeneralPin>,
}

/// Priority with which a pin or suite offers a version (`apt_preferences(5)`, "How APT
/// Interprets Priorities"). At least 1000 allows downgrades, below 0 is never installed.
pub type PinPriority = i16;

#[derive(Debug, Clone)]
pub(super) struct SpecificPin {
    pub(super) package: Pattern,
    pub(super) scope: NameScope,
    pub(super) architecture: Option<String>,
    pub(super) target: PinTarget,
    pub(super) priority: PinPriority,
}

#[derive(Debug, Clone)]
pub(super) struct GeneralPin {
    pub(super) target: PinTarget,
    pub(super) priority: PinPriority,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NameScope {
    Binary,
    Source,
}

#[derive(Debug, Clone)]
pub(super) enum PinTarget {
    Version(Pattern),
    Release(Box<ReleasePattern>),
    /// Host name of the archive's URI; empty for local archives.
    Origin(Pattern),
}

/// Conditions of `Pin: release …`; all that are given must hold.
#[derive(Debug, Clone, Default)]
pub(super) struct ReleasePattern {
    everything: bool,
    /// A bare word: suite or codename.
    release: Option<Pattern>,
    version: Option<Pattern>,
    origin: Option<Pattern>,
    archive: Option<Pattern>,
    codename: Option<Pattern>,
    label: Option<Pattern>,
    component: Option<Pattern>,
    architecture: Option<Pattern>,
}

/// Why the preferences cannot be honoured. apt refuses to work with such files, and so do we:
/// guessing a pin could hide a patch.
#[derive(Debug, thiserror::Error)]
pub enum PreferencesError {
    /// The file cannot be read.
    #[error("cannot read the apt preferences")]
    File(#[from] FileError),
    /// A record is not understood.
    #[error("`{file}`, record {record}: {reason}")]
    Record {
        /// Path inside the target.
        file: String,
        /// Counted from 1.
        record: usize,
        /// What is wrong.
        reason: String,
    },
    /// `APT::Default-Release` is not understood.
    #[error("`APT::Default-Release`: {reason}")]
    DefaultRelease {
        /// What is wrong.
        reason: String,
    },
}

impl PreferencesError {
    /// The way out.
    pub fn help(&self) -> &'static str {
        "correct it as described in apt_preferences(5); apt itself refuses it too"
    }
}

impl Preferences {
    /// Reads `preferences` and `preferences.d/*` below `root` (`/etc/apt`).
    pub fn read(files: &dyn FileView, root: &str) -> Result<Self, PreferencesError> {
        let mut all = Self::default();
        for (path, text) in Self::files(files, root)? {
            all.add(&path, &text)?;
        }
        Ok(all)
    }

    /// The files that [`Self::read`] reads, with their texts, in its order.
    ///
    /// # Errors
    /// If one cannot be read.
    pub fn files(files: &dyn FileView, root: &str) -> Result<Vec<(String, String)>, FileError> {
        let directory = format!("{root}/preferences.d");
        let parts = files.list(&directory)?;
        let parts = parts.iter().filter(|entry| is_preferences_name(&entry.name));
        let paths = std::iter::once(format!("{root}/preferences"))
            .chain(parts.map(|entry| format!("{directory}/{}", entry.name)));
        let mut found = Vec::new();
        for path in paths {
            if let Some(bytes) = files.read(&path, FILE_LIMIT)? {
                found.push((path, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(found)
    }

    /// Puts `APT::Default-Release` before all other general pins, at priority 990.
    pub fn with_default_release(mut self, release: &str) -> Result<Self, InvalidPattern> {
        let target = PinTarget::Release(Box::new(ReleasePattern::parse(release)?));
        self.general.insert(0, GeneralPin { target, priority: 990 });
        Ok(self)
    }

    /// Adds the records of one file; `file` names it in errors.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), PreferencesError> {
        for (index, paragraph) in deb822::paragraphs(text).enumerate() {
            let refuse = |reason: String| PreferencesError::Record {
                file: file.to_owned(),
                record: index + 1,
                reason,
            };
            if paragraph.fields().next().is_none() {
                continue; // A paragraph of comments.
            }
            let package = paragraph
                .get("Package")
                .filter(|names| !names.is_empty())
                .ok_or_else(|| refuse("it has no `Package` field".to_owned()))?;
            let pin =
                paragraph.get("Pin").ok_or_else(|| refuse("it has no `Pin` field".to_owned()))?;
            let target = PinTarget::parse(pin).map_err(refuse)?;
            let priority = parse_priority(paragraph.get("Pin-Priority")).map_err(refuse)?;
            if package == "*" {
                self.general.push(GeneralPin { target, priority });
                continue;
            }
            for name in package.split_whitespace() {
                let pin = SpecificPin::new(name, target.clone(), priority)
                    .map_err(|error| refuse(error.to_string()))?;
                self.specific.push(pin);
            }
        }
        Ok(())
    }
}

/// apt reads names without an extension or with `.pref`, made of letters, digits, `-_.`.
fn is_preferences_name(name: &str) -> bool {
    let stem = name.strip_suffix(".pref").unwrap_or(name);
    !stem.is_empty()
        && !stem.contains('.')
        && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn parse_priority(text: Option<&str>) -> Result<PinPriority, String> {
    let text = text.ok_or("it has no `Pin-Priority` field")?;
    if text.eq_ignore_ascii_case("never") {
        return Ok(PinPriority::MIN);
    }
    match text.parse::<PinPriority>() {
        Ok(0) => Err("`Pin-Priority` is zero, which apt does not define".to_owned()),
        Ok(priority) => Ok(priority),
        Err(_) => Err(format!(
            "`Pin-Priority: {text}` is not a whole number between {} and {}",
            PinPriority::MIN,
            PinPriority::MAX
        )),
    }
}

impl SpecificPin {
    fn new(name: &str, target: PinTarget, priority: PinPriority) -> Result<Self, InvalidPattern> {
        let (scope, name) = match name.strip_prefix("src:") {
            Some(source) => (NameScope::Source, source),
            None => (NameScope::Binary, name),
        };
        let (name, architecture) = match name.rsplit_once(':') {
            Some((name, architecture)) => (name, Some(architecture.to_owned())),
            None => (name, None),
        };
        Ok(Self { package: Pattern::new(name)?, scope, architecture, target, priority })
    }
}

impl PinTarget {
    fn parse(text: &str) -> Result<Self, String> {
        let (kind, data) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let data = data.trim();
        let describe = |error: InvalidPattern| error.to_string();
        match kind.to_ascii_lowercase().as_str() {
            "version" => Ok(Self::Version(Pattern::new(data).map_err(describe)?)),
            "release" => {
                Ok(Self::Release(Box::new(ReleasePattern::parse(data).map_err(describe)?)))
            }
            "origin" => {
                let host = data
                    .strip_prefix('"')
                    .and_then(|inner| inner.strip_suffix('"'))
                    .unwrap_or(data);
                Ok(Self::Origin(Pattern::new(host).map_err(describe)?))
            }
            other => Err(format!("`Pin: {other} …` is none of `version`, `release`, `origin`")),
        }
    }

    /// Whether the pin selects package lists of this component of the suite.
    pub(super) fn matches_suite(&self, suite: &SuiteFacts, component: &str, list: &str) -> bool {
        match self {
            Self::Version(_) => false,
            Self::Release(release) => release.matches(suite, component, list),
            Self::Origin(host) => host.matches(host_of(&suite.uri)),
        }
    }

    /// Whether the pin selects the installed system's own status file (suite `now`).
    pub(super) fn matches_status_file(&self) -> bool {
        match self {
            Self::Release(release) => {
                release.everything || release.only_archive().is_some_and(|it| it.matches("now"))
            }
            Self::Version(_) | Self::Origin(_) => false,
        }
    }
}

/// Host of a URI as apt's `Site`: empty for local archives.
fn host_of(uri: &str) -> &str {
    let Some((_, rest)) = uri.split_once("://") else { return "" };
    let authority = rest.split('/').next().unwrap_or("");
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

impl ReleasePattern {
    fn parse(text: &str) -> Result<Self, InvalidPattern> {
        let mut pattern = Self::default();
        if text == "*" {
            pattern.everything = true;
            return Ok(pattern);
        }
        if !text.contains('=') {
            let slot = if text.starts_with(|first: char| first.is_ascii_digit()) {
                &mut pattern.version
            } else {
                &mut pattern.release
            };
            *slot = Some(Pattern::new(text)?);
            return Ok(pattern);
        }
        for fragment in text.split(',') {
            let Some((key, value)) = fragment.trim().split_once('=') else { continue };
            let slot = match key.to_ascii_lowercase().as_str() {
                "v" => &mut pattern.version,
                "o" => &mut pattern.origin,
                "a" => &mut pattern.archive,
                "n" => &mut pattern.codename,
                "l" => &mut pattern.label,
                "c" => &mut pattern.component,
                "b" => &mut pattern.architecture,
                _ => continue, // apt skips keys that it does not know.
            };
            *slot = Some(Pattern::new(value)?);
        }
        Ok(pattern)
    }

    /// The archive condition, where it (or a bare word) is the only one.
    fn only_archive(&self) -> Option<&Pattern> {
        let others = [&self.version, &self.origin, &self.codename, &self.label, &self.component];
        if others.iter().any(|other| other.is_some()) || self.architecture.is_some() {
            return None;
        }
        self.archive.as_ref().or(self.release.as_ref())
    }

    fn matches(&self, suite: &SuiteFacts, component: &str, list: &str) -> bool {
        if self.everything {
            return true;
        }
        let archive = suite.release_suite.as_deref();
        let codename = suite.codename.as_deref();
        let conditions = [
            (&self.version, suite.version.as_deref()),
            (&self.origin, suite.origin.as_deref()),
            (&self.archive, archive),
            (&self.codename, codename),
            (&self.label, suite.label.as_deref()),
            (&self.component, Some(component)),
            (&self.architecture, Some(list)),
        ];
        let release_holds = self.release.as_ref().is_none_or(|wanted| {
            [archive, codename].into_iter().flatten().any(|name| wanted.matches(name))
        });
        let says_something =
            self.release.is_some() || conditions.iter().any(|(wanted, _)| wanted.is_some());
        says_something
            && release_holds
            && conditions.iter().all(|(wanted, found)| {
                wanted
                    .as_ref()
                    .is_none_or(|wanted| found.is_some_and(|found| wanted.matches(found)))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_in_apts_order() {
        let files: std::collections::BTreeMap<String, Vec<u8>> = [
            ("/etc/apt/preferences", "Package: *\nPin: release a=one\nPin-Priority: 1\n"),
            ("/etc/apt/preferences.d/20-b.pref", "Package: *\nPin: release a=b\nPin-Priority: 3\n"),
            ("/etc/apt/preferences.d/10-a", "Package: *\nPin: release a=a\nPin-Priority: 2\n"),
            ("/etc/apt/preferences.d/skipped.bak", "nonsense"),
        ]
        .map(|(path, text)| (path.to_owned(), text.as_bytes().to_vec()))
        .into();

        let read = Preferences::read(&files, "/etc/apt").unwrap();

        let order: Vec<PinPriority> = read.general.iter().map(|pin| pin.priority).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn a_bad_record_is_named_with_its_place() {
        let mut preferences = Preferences::default();

        let text = "Package: a\nPin: version 1\nPin-Priority: 5\n\nPackage: b\nPin: x 1\n";
        let error = preferences.add("/etc/apt/preferences", text).unwrap_err();

        assert_eq!(
            error.to_string(),
            "`/etc/apt/preferences`, record 2: `Pin: x …` is none of `version`, `release`, `origin`"
        );
    }

    #[test]
    fn hosts_are_those_of_apts_site() {
        assert_eq!(host_of("http://user:pw@mirror.example.org:3142/debian"), "mirror.example.org");
        assert_eq!(host_of("file:/srv/archive"), "");
    }
}
