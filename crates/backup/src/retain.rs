//! Which backups are kept, and what of the repository is garbage.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};

use crate::error::Result;
use crate::repository::Repository;

/// Which backups are kept: whoever is kept by any of these is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest; one at least is kept whatever else is said.
    pub newest: usize,
    /// All that are not older.
    pub all: SignedDuration,
    /// The last one of each hour, as long.
    pub hourly: SignedDuration,
    /// The last one of each day (UTC), as long.
    pub daily: SignedDuration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            newest: 10,
            all: SignedDuration::from_hours(1),
            hourly: SignedDuration::from_hours(48),
            daily: SignedDuration::from_hours(24 * 31),
        }
    }
}

impl Retention {
    /// Whether each is kept, of instants that rise.
    pub fn keeps(&self, instants: &[Timestamp], now: Timestamp) -> Vec<bool> {
        let newest = self.newest.max(1);
        let last_of_its = |index: usize, seconds: i64| {
            let slot = |at: Timestamp| at.as_second().div_euclid(seconds);
            instants.get(index + 1).is_none_or(|next| slot(*next) != slot(instants[index]))
        };
        (0..instants.len())
            .map(|index| {
                let age = now.duration_since(instants[index]);
                index + newest >= instants.len()
                    || age <= self.all
                    || age <= self.hourly && last_of_its(index, 3600)
                    || age <= self.daily && last_of_its(index, 86_400)
            })
            .collect()
    }
}

/// What was removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Backups.
    pub backups: usize,
    /// Packs that none names any more.
    pub packs: usize,
}

impl Repository {
    /// Removes the backups that are not kept, then packs that none names. Only while nobody else writes.
    ///
    /// Whatever breaks it off, each manifest that is there finds its packs: manifests go first. Where a manifest cannot be
    /// read, nobody knows which packs it names, and none is removed.
    ///
    /// # Errors
    /// If the repository cannot be read or written.
    pub fn retain(&self, rule: &Retention, now: Timestamp) -> Result<Removed> {
        let mut removed = Removed::default();
        let backups = self.backups()?;
        let instants: Vec<_> = backups
            .iter()
            .filter_map(|(_, manifest)| manifest.as_ref().ok().map(|manifest| manifest.at))
            .collect();
        let mut keeps = rule.keeps(&instants, now).into_iter();
        let (mut named, mut is_known) = (BTreeSet::new(), true);
        for (id, manifest) in &backups {
            match manifest {
                Ok(manifest) if keeps.next() == Some(false) => {
                    debug_assert_eq!(*id, manifest.id);
                    self.delete(&format!("backup-{id}"))?;
                    removed.backups += 1;
                }
                Ok(manifest) => named.extend(manifest.packs.iter().map(|pack| &pack.name)),
                Err(_) => is_known = false,
            }
        }
        if is_known {
            for name in self.names("pack-")? {
                if !named.contains(&name) {
                    self.delete(&name)?;
                    removed.packs += 1;
                }
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_past_gets_thinner() {
        let rule = Retention {
            newest: 1,
            all: SignedDuration::from_mins(10),
            hourly: SignedDuration::from_hours(3),
            daily: SignedDuration::from_hours(72),
        };
        // One in five minutes, for four days.
        let instants: Vec<_> = (0..4 * 288).map(|number| at(number * 300)).collect();
        let now = *instants.last().unwrap();

        let kept: Vec<_> = instants
            .iter()
            .zip(rule.keeps(&instants, now))
            .filter(|(_, keeps)| *keeps)
            .map(|(at, _)| now.duration_since(*at).as_secs() / 60)
            .collect();

        // Minutes ago: the ends of days, of hours, and all of the last ten minutes.
        assert_eq!(kept, [4320, 2880, 1440, 180, 120, 60, 10, 5, 0]);
    }

    proptest! {
        #[test]
        fn the_newest_is_always_kept_and_what_is_kept_stays_kept_for_the_same_now(
            mut seconds in prop::collection::vec(0_i64..1_000_000, 1..50),
            newest in 0_usize..4,
            hours in 0_i64..100,
        ) {
            seconds.sort_unstable();
            seconds.dedup();
            let instants: Vec<_> = seconds.iter().map(|second| at(*second)).collect();
            let hours = SignedDuration::from_hours(hours);
            let rule = Retention { newest, all: SignedDuration::ZERO, hourly: hours, daily: hours };
            let now = at(1_000_000);
            let keeps = rule.keeps(&instants, now);
            prop_assert_eq!(keeps.last(), Some(&true));
            let kept: Vec<_> =
                instants.iter().zip(&keeps).filter(|(_, keeps)| **keeps).map(|(at, _)| *at).collect();
            prop_assert!(rule.keeps(&kept, now).into_iter().all(|keeps| keeps));
        }
    }
}
