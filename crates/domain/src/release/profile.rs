//! Wave profiles: in how many steps a release goes out, how long each is watched, and what stops it.
//! They are data, checked when they are read.

use std::collections::BTreeMap;
use std::fmt;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::cloud::{LabelKey, words};
use crate::sla::Wait;

/// Stands in each profile.
const SCHEMA: &str = "patchwright.waves/1";
/// Longest text that is read; the built-in ones have about 1 KiB.
const MAX_TEXT: usize = 64 * 1024;
/// Most waves of a profile.
const MAX_WAVES: usize = 100;

const BUILTIN: [(&str, &str); 3] = [
    ("default", include_str!("../../data/release/default.toml")),
    ("accelerated", include_str!("../../data/release/accelerated.toml")),
    ("emergency", include_str!("../../data/release/emergency.toml")),
];

/// A part of a hundred, in whole percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct Percent(u8);

/// A number that is no part of a hundred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{given} % is no part of a whole; write a whole number from 0 to 100")]
pub struct InvalidPercent {
    /// The number.
    pub given: i64,
}

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(100);

    /// The number, from 0 to 100.
    pub const fn get(self) -> u8 {
        self.0
    }

    /// The largest number of `count` that is no more than this part.
    pub fn at_most(self, count: u32) -> u32 {
        let part = u64::from(count) * u64::from(self.0) / 100;
        u32::try_from(part).unwrap_or(count)
    }

    /// The smallest number of `count` that is no less than this part.
    pub fn at_least(self, count: u32) -> u32 {
        let part = (u64::from(count) * u64::from(self.0)).div_ceil(100);
        u32::try_from(part).unwrap_or(count)
    }
}

impl TryFrom<i64> for Percent {
    type Error = InvalidPercent;

    fn try_from(given: i64) -> Result<Self, InvalidPercent> {
        match u8::try_from(given) {
            Ok(percent) if percent <= 100 => Ok(Self(percent)),
            _ => Err(InvalidPercent { given }),
        }
    }
}

impl From<Percent> for i64 {
    fn from(percent: Percent) -> Self {
        percent.0.into()
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// What a wave may lose before the release is held, in parts of the wave's items.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// More failed items than this hold the release.
    pub max_failed: Percent,
    /// More silent items than this hold the release.
    pub max_silent: Percent,
}

words! {
    /// What becomes of an item that failed.
    OnFailure {
        /// It becomes what it was, at once.
        RollBack = "roll_back",
        /// It stays as it is, for somebody to look at.
        Leave = "leave",
    }
}

/// A step of a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    /// How much of the fleet has its turn with this wave and those before it.
    pub percent: Percent,
    /// How long the wave is watched before the next one begins.
    pub soak: SignedDuration,
    /// What stops it.
    pub gate: Gate,
}

/// The wave before the first: who goes ahead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Canary {
    /// An item that has one of these labels is a canary.
    pub labels: BTreeMap<LabelKey, String>,
    /// How long the canaries are watched.
    pub soak: SignedDuration,
    /// What stops it.
    pub gate: Gate,
}

/// A wave profile that was looked over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    name: String,
    title: String,
    patience: SignedDuration,
    on_failure: OnFailure,
    canary: Canary,
    steps: Vec<Step>,
}

/// Why a wave profile is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// It is none of those that come with Patchwright.
    #[error("there is no wave profile `{given}`")]
    Unknown {
        /// The name.
        given: String,
    },
    /// It is no TOML, or not of the form of a profile.
    #[error("the wave profile cannot be read: {0}")]
    Syntax(String),
    /// It is another document.
    #[error("the document is a `{found}`, not a `{SCHEMA}`")]
    Schema {
        /// What it says it is.
        found: String,
    },
    /// Percentages that do not rise to 100.
    #[error("wave {wave} of profile `{profile}` reaches {percent}, and {rule}")]
    Percent {
        /// The profile.
        profile: String,
        /// Counted from 1.
        wave: usize,
        /// Its percentage.
        percent: Percent,
        /// What is expected.
        rule: &'static str,
    },
    /// No waves, or too many.
    #[error("profile `{profile}` has {count} waves; 1 to {MAX_WAVES} are possible")]
    Waves {
        /// The profile.
        profile: String,
        /// How many.
        count: usize,
    },
    /// A time in business days, or none where one is needed.
    #[error("`{key}` of profile `{profile}` is {given}: {rule}")]
    Time {
        /// The profile.
        profile: String,
        /// Which.
        key: &'static str,
        /// The time.
        given: Wait,
        /// What is expected.
        rule: &'static str,
    },
}

impl ProfileError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => format!("use one of {}", Profile::names().join(", ")),
            Self::Syntax(_) | Self::Schema { .. } => {
                "compare it with a built-in profile in crates/domain/data/release".to_owned()
            }
            Self::Percent { .. } => "write percentages such as 1, 5, 25, 100".to_owned(),
            Self::Waves { .. } => "write a [[waves]] for each step, the last with 100".to_owned(),
            Self::Time { .. } => "write minutes, hours or days: 30m, 4h, 1d".to_owned(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    schema: String,
    name: String,
    title: String,
    /// For whoever reads the file.
    #[serde(rename = "source")]
    _source: String,
    patience: Wait,
    on_failure: OnFailure,
    canary: WrittenCanary,
    waves: Vec<WrittenWave>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCanary {
    labels: BTreeMap<LabelKey, String>,
    soak: Wait,
    max_failed: Percent,
    max_silent: Percent,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenWave {
    percent: Percent,
    soak: Wait,
    max_failed: Percent,
    max_silent: Percent,
}

impl Profile {
    /// The names of the profiles that come with Patchwright.
    pub fn names() -> [&'static str; BUILTIN.len()] {
        BUILTIN.map(|(name, _)| name)
    }

    /// A profile that comes with Patchwright: `default`, `accelerated` or `emergency`.
    ///
    /// # Errors
    /// [`ProfileError::Unknown`] for any other name.
    pub fn builtin(name: &str) -> Result<Self, ProfileError> {
        let known = BUILTIN.iter().find(|(known, _)| *known == name);
        let given = || name.chars().take(64).collect();
        known.map_or_else(
            || Err(ProfileError::Unknown { given: given() }),
            |(_, text)| Self::parse(text),
        )
    }

    /// Reads and checks a profile.
    ///
    /// # Errors
    /// As [`ProfileError`].
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        if text.len() > MAX_TEXT {
            let reason = format!("it has {} bytes, more than {MAX_TEXT}", text.len());
            return Err(ProfileError::Syntax(reason));
        }
        let written: Written =
            toml::from_str(text).map_err(|error| ProfileError::Syntax(error.to_string()))?;
        let Written { schema, name, title, patience, on_failure, canary, waves, .. } = written;
        if schema != SCHEMA {
            return Err(ProfileError::Schema { found: schema.chars().take(64).collect() });
        }
        if waves.is_empty() || waves.len() > MAX_WAVES {
            return Err(ProfileError::Waves { profile: name, count: waves.len() });
        }
        check_percentages(&name, &waves)?;
        let patience = exact(&name, "patience", patience)?;
        let WrittenCanary { labels, soak, max_failed, max_silent } = canary;
        let canary = Canary {
            labels,
            soak: exact(&name, "soak", soak)?,
            gate: Gate { max_failed, max_silent },
        };
        let steps = waves.into_iter().map(|wave| {
            let WrittenWave { percent, soak, max_failed, max_silent } = wave;
            let soak = exact(&name, "soak", soak)?;
            Ok(Step { percent, soak, gate: Gate { max_failed, max_silent } })
        });
        let steps = steps.collect::<Result<_, ProfileError>>()?;
        if patience.is_zero() {
            let (given, rule) = (Wait::NONE, "whoever is asked needs time to answer");
            return Err(ProfileError::Time { profile: name, key: "patience", given, rule });
        }
        Ok(Self { name, title, patience, on_failure, canary, steps })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What people read of it.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// How long an item that works on a step may say nothing.
    pub const fn patience(&self) -> SignedDuration {
        self.patience
    }

    /// What becomes of an item that failed.
    pub const fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// Who goes ahead.
    pub const fn canary(&self) -> &Canary {
        &self.canary
    }

    /// The waves, the last with 100 %.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

fn check_percentages(profile: &str, waves: &[WrittenWave]) -> Result<(), ProfileError> {
    let mut before = Percent(0);
    for (place, WrittenWave { percent, .. }) in waves.iter().enumerate() {
        let is_last = place + 1 == waves.len();
        let rule = match () {
            () if *percent <= before => "each wave reaches further than the one before it",
            () if is_last && *percent != Percent::ALL => "the last wave reaches 100 %",
            () => {
                before = *percent;
                continue;
            }
        };
        let (profile, wave) = (profile.to_owned(), place + 1);
        return Err(ProfileError::Percent { profile, wave, percent: *percent, rule });
    }
    Ok(())
}

fn exact(profile: &str, key: &'static str, given: Wait) -> Result<SignedDuration, ProfileError> {
    let rule = "a machine has no business days";
    given.exact().ok_or_else(|| ProfileError::Time {
        profile: profile.to_owned(),
        key,
        given,
        rule,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn altered(from: &str, to: &str) -> Result<Profile, ProfileError> {
        let text = BUILTIN[0].1;
        assert!(text.contains(from), "{from}");
        Profile::parse(&text.replacen(from, to, 1))
    }

    #[test]
    fn the_built_in_profiles_go_out_as_documented() {
        let seen = Profile::names().map(|name| {
            let profile = Profile::builtin(name).unwrap();
            assert_eq!(profile.name(), name);
            let percent: Vec<_> = profile.steps().iter().map(|step| step.percent.get()).collect();
            let minutes: i64 = profile.steps().iter().map(|step| step.soak.as_mins()).sum();
            (percent, minutes)
        });

        let gentle = vec![1, 5, 15, 40, 60, 90, 100];
        assert_eq!(seen, [(gentle.clone(), 6 * 1440), (gentle, 1440), (vec![5, 25, 100], 90)]);
    }

    #[test]
    fn a_profile_that_makes_no_sense_is_refused_with_the_place() {
        let wrong = [
            ("percent = 5", "percent = 1", "wave 2 of profile `default` reaches 1 %, and each"),
            ("percent = 100", "percent = 99", "wave 7 of profile `default` reaches 99 %, and the"),
            ("percent = 1\n", "percent = 101\n", "101 % is no part of a whole"),
            ("percent = 1\n", "percent = 0\n", "wave 1 of profile `default` reaches 0 %"),
            ("soak = \"1d\"", "soak = \"2bd\"", "`soak` of profile `default` is 2bd"),
            ("patience = \"30m\"", "patience = \"0h\"", "`patience` of profile `default` is 0h"),
            ("patience", "patients", "unknown field `patients`"),
            ("waves/1", "waves/2", "not a `patchwright.waves/1`"),
            ("roll_back", "hope", "unknown variant `hope`"),
        ];
        for (from, to, expected) in wrong {
            let error = altered(from, to).unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!error.help().is_empty());
        }
        let unknown = Profile::builtin("fast").unwrap_err();
        assert_eq!(unknown.help(), "use one of default, accelerated, emergency");
    }

    #[test]
    fn parts_are_rounded_to_the_careful_side() {
        let twenty = Percent(20);

        assert_eq!((twenty.at_most(4), twenty.at_most(9), twenty.at_most(10)), (0, 1, 2));
        assert_eq!((twenty.at_least(4), twenty.at_least(10), twenty.at_least(11)), (1, 2, 3));
        assert_eq!(Percent::ALL.at_most(u32::MAX), u32::MAX);
    }
}
