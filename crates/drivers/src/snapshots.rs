//! What can be kept of machines that are not ours, and brought back.

use std::fmt;
use std::str::FromStr;

use crate::driver::DriverError;

/// How everything is called that was kept for somebody, so that nothing else is ever touched.
pub const SNAPSHOT_PREFIX: &str = "patchwright-snp_";

/// Names become parts of the names of files.
const LONGEST_ID: usize = 48;

/// What a snapshot is called: [`SNAPSHOT_PREFIX`] and an id of letters, digits and hyphens.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotName(String);

/// What is no name of a snapshot of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is not the name of a snapshot")]
pub struct SnapshotNameError {
    name: String,
}

impl SnapshotNameError {
    /// What to do next.
    pub fn help(&self) -> &'static str {
        "a name is `patchwright-snp_` and 1 to 48 letters, digits and hyphens"
    }
}

impl SnapshotName {
    /// Names a snapshot after an id, which stands behind the prefix.
    pub fn new(id: &str) -> Result<Self, SnapshotNameError> {
        format!("{SNAPSHOT_PREFIX}{id}").parse()
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SnapshotName {
    type Err = SnapshotNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_of_ids = |character: char| character.is_ascii_alphanumeric() || character == '-';
        match text.strip_prefix(SNAPSHOT_PREFIX) {
            Some(id) if (1..=LONGEST_ID).contains(&id.len()) && id.chars().all(is_of_ids) => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(SnapshotNameError { name: text.chars().take(100).collect() }),
        }
    }
}

impl fmt::Display for SnapshotName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

/// A place with machines that live there and are not ours: what can be kept of them and brought
/// back.
///
/// Every verb may be asked again after a failure, and after a process was killed in the middle of
/// it: it goes on where it stopped. Whoever asks sees to it that one verb at a time is under way
/// for one machine.
pub trait Snapshots: fmt::Debug + Send + Sync {
    /// Its name in reports.
    fn name(&self) -> &'static str;

    /// Keeps the machine's writable disks as they are at one instant, while it runs (as after a
    /// loss of power) or while it is off. With a name that is there already nothing happens.
    fn take(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError>;

    /// Ends the machine; its disks are what they were. The snapshot stays. Whether the machine is
    /// switched on again is the place's to say.
    fn revert(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError>;

    /// Gives up what was kept; the machine goes on as it is. With a name that is not there nothing
    /// happens.
    fn remove(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError>;

    /// The snapshots of ours that a machine has, oldest first.
    fn list(&self, machine: &str) -> Result<Vec<SnapshotName>, DriverError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_prefix_and_an_id_and_nothing_that_a_program_could_mistake() {
        let name = SnapshotName::new("01JDX-7").unwrap();
        assert_eq!(name.as_str(), "patchwright-snp_01JDX-7");
        assert_eq!(name.to_string().parse(), Ok(name));

        let long = "x".repeat(LONGEST_ID + 1);
        for id in ["", "a b", "a/../b", "a,b", "a.b", "ä", "a\n", "a'b", &long] {
            let refused = SnapshotName::new(id).unwrap_err();
            assert!(refused.help().contains("letters"), "{id}");
        }
        for name in ["before-upgrade", "--all", "-patchwright-snp_1", "patchwright-trial-1"] {
            assert!(name.parse::<SnapshotName>().is_err(), "{name}");
        }
    }
}
