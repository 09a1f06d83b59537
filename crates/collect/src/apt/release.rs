//! Release files: what a suite says about itself, and what must hold before it is believed.

use domain::archive::SuiteFacts;
use domain::deb822;
use jiff::fmt::rfc2822::DateTimeParser;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;

use super::config::{Expiry, Source};
use super::verify::SignedText;

/// How far in the future a release may be dated; more means that a clock is wrong, here or there.
const FUTURE_TOLERANCE: SignedDuration = SignedDuration::from_hours(24);

/// How old a suite may be that does not limit its own validity.
#[derive(Debug, Clone, Copy)]
pub struct Freshness {
    /// Suites that are updated continually (`*-security`, `*-updates`, rolling ones).
    pub moving: SignedDuration,
    /// Point releases, which change a few times a year.
    pub point: SignedDuration,
}

impl Default for Freshness {
    /// Four months for suites that carry updates: an archive in long-term support may well have
    /// quiet weeks. 400 days for point releases: they end with a last one.
    fn default() -> Self {
        Self {
            moving: SignedDuration::from_hours(120 * 24),
            point: SignedDuration::from_hours(400 * 24),
        }
    }
}

/// A release file whose signature, names and dates have been checked.
#[derive(Debug, Clone)]
pub(super) struct Release {
    /// Facts for the record.
    pub facts: SuiteFacts,
    /// Files by path, from the `SHA256` section.
    pub files: BTreeMap<String, Listed>,
    /// Whether indices can be fetched by their hash, which survives a mirror's update.
    pub by_hash: bool,
    /// Whether packages of architecture `all` have lists of their own.
    pub lists_all_apart: bool,
}

/// Size and hash of a file that a release vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// Size in bytes.
    pub size: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// Why a correctly signed release is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// It is not a release file.
    #[error("the release file is not understood: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It lists no SHA-256 hashes.
    #[error("the release file lists its indices by weak hashes only")]
    WeakHash,
    /// It belongs to another suite.
    #[error("the release file is of suite `{suite}`, codename `{codename}`, not of `{wanted}`")]
    WrongSuite {
        /// Configured suite.
        wanted: String,
        /// Its `Suite`.
        suite: String,
        /// Its `Codename`.
        codename: String,
    },
    /// It is dated in the future.
    #[error("the release file is dated {date}, but it is {now}")]
    FromTheFuture {
        /// Its date.
        date: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// Its validity has ended.
    #[error("the release file was valid until {valid_until}, and it is {now}")]
    Expired {
        /// Its `Valid-Until`.
        valid_until: Timestamp,
        /// Our clock.
        now: Timestamp,
    },
    /// It does not limit its validity and is older than we accept.
    #[error("the release file is of {date}, more than {limit_days} days ago")]
    TooOld {
        /// Its date.
        date: Timestamp,
        /// Our limit, in days.
        limit_days: i64,
    },
}

impl ReleaseError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Malformed { .. } | Self::WeakHash => {
                "check that the URI leads to a Debian archive, or use another mirror"
            }
            Self::WrongSuite { .. } => "correct the suite's name in the source",
            Self::FromTheFuture { .. } => "check this machine's clock",
            Self::Expired { .. } => {
                "the mirror no longer follows its archive, or someone keeps it back: use another \
                 mirror"
            }
            Self::TooOld { .. } => {
                "if the archive is known to rest, raise the limit with --max-age DAYS"
            }
        };
        Some(text.to_owned())
    }
}

impl Release {
    /// Believes a verified text, if it is what the source should have at `now`.
    pub(super) fn check(
        source: &Source,
        signed: &SignedText,
        sha256: String,
        freshness: &Freshness,
        now: Timestamp,
    ) -> Result<Self, ReleaseError> {
        let fields = deb822::paragraphs(&signed.text)
            .next()
            .ok_or_else(|| ReleaseError::Malformed { reason: "it is empty".to_owned() })?;
        let field = |name: &str| fields.get(name).map(str::to_owned);
        let yes =
            |name: &str| fields.get(name).is_some_and(|word| word.eq_ignore_ascii_case("yes"));
        let date = time(fields.get("Date"), "Date")?
            .ok_or_else(|| ReleaseError::Malformed { reason: "it has no `Date`".to_owned() })?;
        let valid_until = time(fields.get("Valid-Until"), "Valid-Until")?;
        let facts = SuiteFacts {
            uri: source.public_uri(),
            suite: source.suite.clone(),
            components: source.components.clone(),
            architectures: Vec::new(),
            origin: field("Origin"),
            label: field("Label"),
            release_suite: field("Suite"),
            codename: field("Codename"),
            version: field("Version"),
            date,
            valid_until,
            signed_by: signed.signers.clone(),
            release_sha256: sha256,
            not_automatic: yes("NotAutomatic"),
            but_automatic_upgrades: yes("ButAutomaticUpgrades"),
        };
        check_names(&facts)?;
        check_dates(&facts, source.expiry, freshness, now)?;
        let files = listed(fields.get("SHA256").ok_or(ReleaseError::WeakHash)?);
        let all_apart = fields
            .get("Architectures")
            .is_some_and(|names| names.split_whitespace().any(|name| name == "all"))
            && fields.get("No-Support-for-Architecture-all").is_none_or(|it| it != "Packages");
        Ok(Self { facts, files, by_hash: yes("Acquire-By-Hash"), lists_all_apart: all_apart })
    }
}

fn time(value: Option<&str>, name: &str) -> Result<Option<Timestamp>, ReleaseError> {
    let Some(value) = value else { return Ok(None) };
    // Debian writes the zone as `UTC`, which RFC 2822 does not know.
    let numeric = value.trim().replace("UTC", "+0000").replace("GMT", "+0000");
    DateTimeParser::new()
        .parse_timestamp(&numeric)
        .map(Some)
        .map_err(|_| ReleaseError::Malformed { reason: format!("`{name}: {value}` is no date") })
}

/// As apt: the configured name is its suite or its codename. Flat archives have none.
fn check_names(facts: &SuiteFacts) -> Result<(), ReleaseError> {
    let wanted = facts.suite.as_str();
    if wanted.ends_with('/') {
        return Ok(());
    }
    let suite = facts.release_suite.as_deref().unwrap_or_default();
    let codename = facts.codename.as_deref().unwrap_or_default();
    let nameless = suite.is_empty() && codename.is_empty();
    // Before bullseye, security suites were called `buster/updates`.
    let plain = wanted.strip_suffix("/updates").unwrap_or(wanted);
    if nameless || [suite, codename].iter().any(|name| *name == wanted || *name == plain) {
        return Ok(());
    }
    Err(ReleaseError::WrongSuite {
        wanted: wanted.to_owned(),
        suite: suite.to_owned(),
        codename: codename.to_owned(),
    })
}

fn check_dates(
    facts: &SuiteFacts,
    expiry: Expiry,
    freshness: &Freshness,
    now: Timestamp,
) -> Result<(), ReleaseError> {
    let date = facts.date;
    if now.duration_since(date) < -FUTURE_TOLERANCE {
        return Err(ReleaseError::FromTheFuture { date, now });
    }
    match facts.valid_until {
        Some(_) if expiry == Expiry::Ignored => Ok(()),
        Some(valid_until) if valid_until < now => Err(ReleaseError::Expired { valid_until, now }),
        Some(_) => Ok(()),
        None => {
            let moves = facts.is_security() || facts.suite.ends_with("-updates");
            let limit = if moves { freshness.moving } else { freshness.point };
            if now.duration_since(date) <= limit {
                return Ok(());
            }
            Err(ReleaseError::TooOld { date, limit_days: limit.as_hours() / 24 })
        }
    }
}

/// Lines ` SHA256 SIZE PATH`.
fn listed(section: &str) -> BTreeMap<String, Listed> {
    section
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let sha256 = sha256(words.next()?)?;
            let size = words.next()?.parse().ok()?;
            Some((words.next()?.to_owned(), Listed { size, sha256 }))
        })
        .collect()
}

/// A SHA-256 in lower-case hex; `None` for what is none.
pub(super) fn sha256(word: &str) -> Option<String> {
    let is_hash = word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| word.to_ascii_lowercase())
}
