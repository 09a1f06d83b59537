//! What a system has installed, named by its content.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::apt_conf::{AptConf, ETC_APT};
use crate::candidate::{Preferences, PreferencesError};
use crate::files::{FileError, FileView};
use crate::inventory::Inventory;

/// Content address of a [`PackageSet`]: BLAKE3 over its JSON, whose fields have one order.
///
/// A system sends it first, and the set itself only where the receiver does not have it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SetDigest([u8; 32]);

/// A text that is not 64 digits of a [`SetDigest`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hexadecimal digits in lower case")]
pub struct InvalidDigest;

/// All of a system that decides which patches it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageSet {
    /// What is installed. What runs is no part of it: that differs from system to system.
    inventory: Inventory,
    /// Which versions it would take.
    choice: VersionChoice,
}

/// What makes apt take one version and not another (`apt_preferences(5)`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionChoice {
    /// The text of each file of preferences, by its path.
    preferences: BTreeMap<String, String>,
    /// `APT::Default-Release`.
    default_release: Option<String>,
}

impl PackageSet {
    /// The set of a system.
    pub fn new(inventory: Inventory, choice: VersionChoice) -> Self {
        Self { inventory: Inventory { runtime: None, ..inventory }, choice }
    }

    /// What is installed.
    pub const fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Which versions it would take.
    pub const fn choice(&self) -> &VersionChoice {
        &self.choice
    }

    /// Its content address.
    pub fn digest(&self) -> SetDigest {
        // Texts, numbers and maps with text keys always have a JSON form.
        let json = serde_json::to_vec(self).unwrap_or_default();
        SetDigest(*blake3::hash(&json).as_bytes())
    }
}

impl VersionChoice {
    /// Reads what decides on a system. Nothing else of apt's configuration is taken: it may hold
    /// passwords.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn read(files: &dyn FileView) -> Result<Self, FileError> {
        let preferences = Preferences::files(files, ETC_APT)?.into_iter().collect();
        let conf = AptConf::read(files, ETC_APT)?;
        let release = conf.get("APT::Default-Release").filter(|release| !release.is_empty());
        Ok(Self { preferences, default_release: release.map(str::to_owned) })
    }

    /// The same, understood.
    ///
    /// # Errors
    /// If apt would refuse a record as well.
    pub fn preferences(&self) -> Result<Preferences, PreferencesError> {
        let mut all = Preferences::default();
        for (path, text) in &self.preferences {
            all.add(path, text)?;
        }
        match &self.default_release {
            Some(release) => all
                .with_default_release(release)
                .map_err(|error| PreferencesError::DefaultRelease { reason: error.to_string() }),
            None => Ok(all),
        }
    }
}

impl SetDigest {
    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for SetDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SetDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SetDigest({self})")
    }
}

impl FromStr for SetDigest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 64 || !text.bytes().all(is_digit) {
            return Err(InvalidDigest);
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(&text[at..at + 2], 16).map_err(|_| InvalidDigest)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for SetDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SetDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{OsRelease, PackageFamily, Runtime};

    fn inventory() -> Inventory {
        Inventory {
            os: OsRelease { id: "debian".into(), ..OsRelease::default() },
            family: PackageFamily::Dpkg,
            architecture: "amd64".into(),
            foreign_architectures: Vec::new(),
            packages: Vec::new(),
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        }
    }

    #[test]
    fn what_runs_is_no_part_of_it() {
        let running = Inventory { runtime: Some(Runtime::default()), ..inventory() };

        let (still, running) = (
            PackageSet::new(inventory(), VersionChoice::default()),
            PackageSet::new(running, VersionChoice::default()),
        );

        assert_eq!(still.digest(), running.digest());
    }

    #[test]
    fn the_encoding_stays_what_it_is() {
        // Agents and servers of different releases compare digests.
        let set = PackageSet::new(inventory(), VersionChoice::default());

        assert_eq!(
            set.digest().to_string(),
            "1b89a6a55f2f78fccf6286d1449df9078f8ae927333af6899f5b474cdd0b594e"
        );
    }

    #[test]
    fn it_reads_back_with_the_same_digest() {
        let files = BTreeMap::from([
            (
                "/etc/apt/preferences.d/pin".to_owned(),
                b"Package: *\nPin: release a=stable\nPin-Priority: 900\n".to_vec(),
            ),
            (
                "/etc/apt/apt.conf".to_owned(),
                b"APT::Default-Release \"bookworm\"; Acquire::http::Proxy \"http://u:secret@p\";"
                    .to_vec(),
            ),
        ]);
        let set = PackageSet::new(inventory(), VersionChoice::read(&files).unwrap());

        let json = serde_json::to_string(&set).unwrap();
        let back: PackageSet = serde_json::from_str(&json).unwrap();

        assert!(json.contains("release a=stable") && json.contains("bookworm"), "{json}");
        assert!(!json.contains("secret"), "{json}");
        assert_eq!(back.digest(), set.digest());
        assert!(back.choice().preferences().is_ok());
    }

    #[test]
    fn a_digest_reads_back_and_nothing_else_does() {
        let digest = PackageSet::new(inventory(), VersionChoice::default()).digest();

        assert_eq!(digest.to_string().parse(), Ok(digest));
        for text in ["", "ab", &"A".repeat(64), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(text.parse::<SetDigest>(), Err(InvalidDigest), "{text}");
        }
    }
}
