//! Whom to believe about a suite: what all its entries agree on, and the keys they name.

use std::collections::BTreeMap;

use domain::files::FileView;

use super::{ConfigError, FILE_LIMIT, Trust, Written, ending};
use crate::apt::verify::{Keyring, SignatureError};

/// What an entry says about whom to believe, and how long.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Belief {
    pub(super) signed_by: Option<String>,
    pub(super) trusted: Option<bool>,
    pub(super) check_valid_until: Option<bool>,
}

/// What is to be believed of each suite. Entries may not contradict each other, or one without
/// demands could weaken another that has them. As apt does: a later entry may bring `Signed-By`
/// where no earlier one did, and that is all.
pub(super) fn agreed(written: &[Written]) -> Result<BTreeMap<(&str, &str), Belief>, ConfigError> {
    let mut beliefs: BTreeMap<(&str, &str), Belief> = BTreeMap::new();
    for one in written {
        for place in one.places() {
            let belief = beliefs.entry(place).or_insert_with(|| one.belief.clone());
            belief.learn(&one.belief).map_err(|option| ConfigError::Source {
                place: one.place.clone(),
                reason: format!(
                    "another entry for suite `{}` of `{}` gives `{option}` another value",
                    place.1, place.0
                ),
            })?;
        }
    }
    Ok(beliefs)
}

impl Belief {
    fn learn(&mut self, more: &Self) -> Result<(), &'static str> {
        if self.signed_by.is_none() {
            self.signed_by.clone_from(&more.signed_by);
        }
        match more {
            _ if self.signed_by != more.signed_by => Err("Signed-By"),
            _ if self.trusted != more.trusted => Err("Trusted"),
            _ if self.check_valid_until != more.check_valid_until => Err("Check-Valid-Until"),
            _ => Ok(()),
        }
    }

    /// Loads the keys that may sign; `place` is for messages.
    pub(super) fn trust(
        &self,
        files: &dyn FileView,
        root: &str,
        place: &str,
    ) -> Result<Trust, ConfigError> {
        Ok(match (self.trusted, &self.signed_by) {
            (Some(true), _) => Trust::Unsigned,
            (_, Some(signed_by)) => Trust::Keys(signed_by_keys(files, root, place, signed_by)?),
            (_, None) => Trust::Keys(default_keyring(files, root)?),
        })
    }
}

/// Keys of `trusted.gpg` and `trusted.gpg.d`, which may sign sources without `Signed-By`.
fn default_keyring(files: &dyn FileView, root: &str) -> Result<Keyring, ConfigError> {
    let mut keyring = Keyring::default();
    let parts = format!("{root}/trusted.gpg.d");
    let mut paths = vec![format!("{root}/trusted.gpg")];
    paths.extend(
        files
            .list(&parts)?
            .into_iter()
            .filter(|entry| matches!(ending(&entry.name), "gpg" | "asc"))
            .map(|entry| format!("{parts}/{}", entry.name)),
    );
    for path in paths {
        if let Some(bytes) = files.read(&path, FILE_LIMIT)? {
            // apt skips keyrings that it cannot read: the others may suffice, and a source that
            // nothing vouches for is refused later.
            let _ = keyring.add(&bytes);
        }
    }
    Ok(keyring)
}

/// Keys named by `Signed-By`: paths, fingerprints, or an armored block.
fn signed_by_keys(
    files: &dyn FileView,
    root: &str,
    place: &str,
    signed_by: &str,
) -> Result<Keyring, ConfigError> {
    let refuse = |keyring: &str, reason: String| ConfigError::Keyring {
        place: place.to_owned(),
        keyring: keyring.to_owned(),
        reason,
    };
    let mut keyring = Keyring::default();
    if signed_by.contains("-----BEGIN PGP") {
        let block = unfold_block(signed_by);
        keyring
            .add(block.as_bytes())
            .map_err(|error: SignatureError| refuse("inline key", error.to_string()))?;
        return Ok(keyring);
    }
    let mut fingerprints = Vec::new();
    for word in signed_by.split([',', ' ', '\t', '\n']).filter(|word| !word.is_empty()) {
        if !word.starts_with('/') {
            fingerprints.push(word.to_owned());
            continue;
        }
        let bytes = files
            .read(word, FILE_LIMIT)?
            .ok_or_else(|| refuse(word, "there is no such file".to_owned()))?;
        keyring.add(&bytes).map_err(|error| refuse(word, error.to_string()))?;
    }
    if !fingerprints.is_empty() {
        keyring.extend(&default_keyring(files, root)?);
        keyring.retain(&fingerprints);
    }
    Ok(keyring)
}

/// An armored block inside a deb822 field: one leading space a line, `.` for an empty line.
fn unfold_block(folded: &str) -> String {
    let mut block = String::new();
    for line in folded.lines() {
        let line = line.trim();
        block.push_str(if line == "." { "" } else { line });
        block.push('\n');
    }
    block
}
