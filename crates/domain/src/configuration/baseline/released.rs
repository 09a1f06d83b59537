//! The files that a release wrote, as what items are held against from then on.
//!
//! ```text
//! plan ─► what it wrote ─┐
//! looks ─► borne out ────┼─► take ─► where the history has each file ─► ReleasedSource
//! what somebody wants ───┘
//! ```
//!
//! Taken is what a release that went through wrote, and what looks bore out on each item that counts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::{Action, FileHash, Intended, Item, Plan, PlanHash};
use crate::cloud::{ChangeId, CiId, ReleaseId};
use crate::order::PathPattern;
use crate::priority::Priority;
use crate::release::{End, Phase};
use crate::verification::{Record, Verdict};

/// Items that one refusal names.
const MOST_NAMED: usize = 5;

/// Which release wrote files, and where the history has them. What they held is in the history alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedSource {
    /// The release.
    pub release: ReleaseId,
    /// The change that it carried out.
    pub change: ChangeId,
    /// The plan by which it did, of the baseline's tenant.
    pub plan: PlanHash,
    /// How bad it is where a file differs.
    pub severity: Priority,
    /// The files that it wrote, by their paths.
    pub files: BTreeMap<String, ReleasedFile>,
}

/// A file that a release wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleasedFile {
    /// What the plan gave it.
    pub sha256: FileHash,
    /// In the history of which item it is.
    pub ci: CiId,
    /// As it was recorded at this time, by when it was verified.
    pub at: Timestamp,
}

/// What somebody wants of a release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What it wrote on this item alone.
    pub ci: Option<CiId>,
    /// Files with these names alone; all where none is named.
    pub paths: Vec<PathPattern>,
}

/// How an item of a release stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fate {
    /// As its run says.
    pub phase: Option<Phase>,
    /// What looks at it came to, the oldest first.
    pub looks: Vec<Look>,
}

/// A look at an item after an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// When what was seen was held against the plan.
    pub at: Timestamp,
    /// What that came to.
    pub verdict: Verdict,
    /// SHA-256 of what files were seen to hold; none where the look was not at files.
    pub files: Option<FileHash>,
}

/// Why nothing is taken of a release.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It is still on its way.
    #[error("the release has not ended")]
    UnderWay,
    /// It did not go through.
    #[error("the release did not go through: it ended as {}", end.as_str().replace('_', " "))]
    Ended {
        /// How it ended.
        end: End,
    },
    /// There is nothing to take.
    #[error("the release wrote no files: what it installed is no baseline")]
    NoFiles,
    /// The item is none of its own.
    #[error("the release wrote nothing on {ci}")]
    NotOnIt {
        /// The item that was named.
        ci: CiId,
    },
    /// None of the files is meant.
    #[error("of what the release wrote nothing is named so")]
    NoneMeant,
    /// It took a file away: a baseline says what files hold.
    #[error("it took `{path}` away, and a baseline says what files hold")]
    TookAway {
        /// The first such file.
        path: String,
    },
    /// Nobody saw that it was done, or somebody saw that it is not so any more.
    #[error("what it wrote is not borne out on {}", named(items))]
    NotBorneOut {
        /// On which items.
        items: Vec<CiId>,
    },
    /// One file has several contents.
    #[error("it wrote `{path}` in several ways: {}", ways.iter().map(|it| named(it)).collect::<Vec<_>>().join(" | "))]
    Several {
        /// The first such file.
        path: String,
        /// The items that got the same, of each content.
        ways: Vec<Vec<CiId>>,
    },
}

impl Unfit {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::UnderWay => "wait for its end: `patchwright release show`",
            Self::Ended { .. } => "take a release that went through",
            Self::NoFiles => "take a release of an alteration of files",
            Self::NotOnIt { .. } => "name an item of the release, or none",
            Self::NoneMeant => "`patchwright change files` tells what it wrote",
            Self::TookAway { .. } => {
                "name the files that it wrote; keep a rule of your own for this one"
            }
            Self::NotBorneOut { .. } => {
                "name one item of which it is: `patchwright release verifications` tells of each"
            }
            Self::Several { .. } => "say of which item it is to be taken, or name other files",
        }
    }

    /// The items that it names.
    pub fn items(&self) -> BTreeSet<CiId> {
        match self {
            Self::NotOnIt { ci } => [*ci].into(),
            Self::NotBorneOut { items } => items.iter().copied().collect(),
            Self::Several { ways, .. } => ways.iter().flatten().copied().collect(),
            Self::UnderWay
            | Self::Ended { .. }
            | Self::NoFiles
            | Self::NoneMeant
            | Self::TookAway { .. } => BTreeSet::new(),
        }
    }
}

impl From<&Record> for Look {
    fn from(record: &Record) -> Self {
        let files = record.seen.as_ref().and_then(|seen| seen.files);
        Self { at: record.verified_at, verdict: record.verdict.clone(), files }
    }
}

impl Fate {
    /// Since when what was written is known to be there; none where it is not, or is not any more.
    fn borne_out(&self) -> Option<Timestamp> {
        let is_seen =
            |it: &Look| it.files.is_some() && matches!(it.verdict, Verdict::Verified { .. });
        let seen = self.looks.iter().rposition(is_seen)?;
        let mut later = self.looks[seen..].iter();
        let is_gone = later.any(|it| matches!(it.verdict, Verdict::Conflict { .. }));
        (self.phase == Some(Phase::Done) && !is_gone).then(|| self.looks[seen].at)
    }
}

/// What a release wrote: of each file where the history has it, by each item on which it was borne out.
///
/// # Errors
/// As [`Unfit`].
pub fn take(
    ended: Option<End>,
    plan: &Plan,
    fates: &BTreeMap<CiId, Fate>,
    wanted: &Wanted,
) -> Result<BTreeMap<String, Vec<ReleasedFile>>, Unfit> {
    match ended {
        None => return Err(Unfit::UnderWay),
        Some(end @ (End::Aborted | End::RolledBack)) => return Err(Unfit::Ended { end }),
        Some(End::Released) => {}
    }
    let mut written = written(plan);
    if written.is_empty() {
        return Err(Unfit::NoFiles);
    }
    if let Some(ci) = wanted.ci {
        written.retain(|it| it.0 == ci);
        if written.is_empty() {
            return Err(Unfit::NotOnIt { ci });
        }
    }
    let is_named = |path: &str| wanted.paths.iter().any(|pattern| pattern.has(path));
    written.retain(|(_, path, _)| wanted.paths.is_empty() || is_named(path));
    if written.is_empty() {
        return Err(Unfit::NoneMeant);
    }
    let borne_out = |ci: CiId| fates.get(&ci).and_then(Fate::borne_out);
    let mut files: BTreeMap<String, Vec<ReleasedFile>> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (ci, path, after) in written {
        let Some(sha256) = after.sha256() else { return Err(Unfit::TookAway { path }) };
        match borne_out(ci) {
            Some(at) => files.entry(path).or_default().push(ReleasedFile { sha256, ci, at }),
            None => drop(missing.insert(ci)),
        }
    }
    if !missing.is_empty() {
        return Err(Unfit::NotBorneOut { items: missing.into_iter().collect() });
    }
    for (path, found) in &files {
        let mut ways: BTreeMap<FileHash, Vec<CiId>> = BTreeMap::new();
        for file in found {
            ways.entry(file.sha256).or_default().push(file.ci);
        }
        if ways.len() > 1 {
            let (path, ways) = (path.clone(), ways.into_values().collect());
            return Err(Unfit::Several { path, ways });
        }
    }
    Ok(files)
}

/// The files that a plan alters: on which item, and what they are to be then.
fn written(plan: &Plan) -> Vec<(CiId, String, Intended)> {
    let of_item = |item: &Item| {
        let of_file = |action: &Action| match action {
            Action::AlterFile { path, change } => Some((item.ci, path.clone(), change.after())),
            Action::Upgrade { .. }
            | Action::RestartUnit { .. }
            | Action::Reboot
            | Action::Probe { .. } => None,
        };
        item.actions.iter().filter_map(of_file).collect::<Vec<_>>()
    };
    plan.items().flat_map(of_item).collect()
}

/// Some of these, and how many more.
fn named(items: &[impl Display]) -> String {
    let told: Vec<_> = items.iter().take(MOST_NAMED).map(ToString::to_string).collect();
    let more = items.len().saturating_sub(MOST_NAMED);
    if more == 0 { told.join(", ") } else { format!("{} and {more} more", told.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::{Access, Draft, FileChange, FileState, Rollback, Stage, Window};
    use crate::cloud::{Duty, TenantId};
    use crate::verification::{Contradiction, Untold};

    fn hash(byte: u8) -> FileHash {
        FileHash::from([byte; 32])
    }

    fn ci(byte: u8) -> CiId {
        CiId::new(Timestamp::UNIX_EPOCH, [byte; 10])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// A plan that writes these, each on its item.
    fn plan(written: &[(u8, &[(&str, u8)])]) -> Plan {
        let write = |(path, after): &(&str, u8)| Action::AlterFile {
            path: (*path).to_owned(),
            change: FileChange::content(None, hash(*after)),
        };
        let item = |(byte, files): &(u8, &[(&str, u8)])| Item {
            ci: ci(*byte),
            duty: Duty::Tenant,
            actions: if files.is_empty() {
                vec![Action::Reboot]
            } else {
                files.iter().map(write).collect()
            },
            rollback: Rollback::Files,
        };
        let window = Window { from: at(0), until: at(100) };
        Plan::new(Draft {
            change: ChangeId::new(at(0), [0; 10]),
            tenant: TenantId::new(at(0), [0; 10]),
            generation: 0,
            parent: None,
            stages: vec![Stage { window, items: written.iter().map(item).collect() }],
        })
        .unwrap()
    }

    fn verified(second: i64) -> Look {
        let verdict = Verdict::Verified { newer: Vec::new() };
        Look { at: at(second), verdict, files: Some(hash(9)) }
    }

    fn conflict(second: i64) -> Look {
        let path = "/etc/a".to_owned();
        let contradiction = Contradiction::OtherFile { path, planned: hash(1), found: None };
        let contradictions = vec![contradiction].try_into().unwrap();
        Look { verdict: Verdict::Conflict { contradictions }, ..verified(second) }
    }

    fn undecided(second: i64) -> Look {
        let verdict = Verdict::Undecided { because: Untold::Runtime };
        Look { verdict, files: None, ..verified(second) }
    }

    fn done(looks: &[Look]) -> Fate {
        Fate { phase: Some(Phase::Done), looks: looks.to_vec() }
    }

    fn fates(of: &[(u8, Fate)]) -> BTreeMap<CiId, Fate> {
        of.iter().map(|(byte, fate)| (ci(*byte), fate.clone())).collect()
    }

    const RELEASED: Option<End> = Some(End::Released);

    #[test]
    fn what_was_written_and_borne_out_is_taken_of_each_item() {
        let plan = plan(&[(1, &[("/etc/a", 1), ("/etc/b", 2)]), (2, &[("/etc/a", 1)])]);
        let looked = fates(&[(1, done(&[verified(10)])), (2, done(&[verified(20)]))]);

        let taken = take(RELEASED, &plan, &looked, &Wanted::default()).unwrap();

        let file = |byte, sha256: u8, second| ReleasedFile {
            sha256: hash(sha256),
            ci: ci(byte),
            at: at(second),
        };
        assert_eq!(taken["/etc/a"], [file(1, 1, 10), file(2, 1, 20)]);
        assert_eq!(taken["/etc/b"], [file(1, 2, 10)]);
        assert_eq!(taken.len(), 2);
    }

    #[test]
    fn a_release_that_did_not_go_through_or_wrote_nothing_is_refused() {
        let writes = plan(&[(1, &[("/etc/a", 1)])]);
        let looked = fates(&[(1, done(&[verified(10)]))]);
        let refused = |ended, plan| take(ended, plan, &looked, &Wanted::default()).unwrap_err();
        assert_eq!(refused(None, &writes), Unfit::UnderWay);
        for end in [End::Aborted, End::RolledBack] {
            assert_eq!(refused(Some(end), &writes), Unfit::Ended { end });
        }
        assert_eq!(refused(RELEASED, &plan(&[(1, &[])])), Unfit::NoFiles);
    }

    #[test]
    fn a_file_that_it_took_away_is_named_unless_others_are_meant() {
        let mut draft = plan(&[(1, &[("/etc/a", 1)])]).draft().clone();
        let before = FileState { sha256: hash(2), access: Access::usual() };
        let (path, change) = ("/etc/b".to_owned(), FileChange::Remove { before });
        draft.stages[0].items[0].actions.push(Action::AlterFile { path, change });
        let plan = Plan::new(draft).unwrap();
        let looked = fates(&[(1, done(&[verified(10)]))]);
        let of = |wanted: Wanted| take(RELEASED, &plan, &looked, &wanted);

        let refused = of(Wanted::default()).unwrap_err();
        assert_eq!(refused, Unfit::TookAway { path: "/etc/b".to_owned() });
        let paths = vec![PathPattern::try_from("/etc/a".to_owned()).unwrap()];
        assert_eq!(of(Wanted { ci: None, paths }).unwrap().len(), 1);
    }

    #[test]
    fn only_what_no_later_look_contradicted_is_borne_out() {
        let plan = plan(&[(1, &[("/etc/a", 1)])]);
        let taken = |fate: Fate| {
            let taken = take(RELEASED, &plan, &fates(&[(1, fate)]), &Wanted::default());
            taken.map(|files| files["/etc/a"][0].at)
        };
        let refused = Err(Unfit::NotBorneOut { items: vec![ci(1)] });

        assert_eq!(taken(done(&[verified(10), verified(20)])), Ok(at(20)));
        assert_eq!(taken(done(&[conflict(10), verified(20)])), Ok(at(20)));
        assert_eq!(taken(done(&[verified(10), undecided(20)])), Ok(at(10)), "nobody was there");
        assert_eq!(taken(done(&[verified(10), conflict(20)])), refused, "it is not so any more");
        let silent = [verified(10), conflict(20), undecided(30)];
        assert_eq!(taken(done(&silent)), refused, "and nobody saw that it is so again");
        assert_eq!(taken(done(&[undecided(10)])), refused);
        assert_eq!(taken(done(&[])), refused);
        let blind = Look { files: None, ..verified(10) };
        assert_eq!(taken(done(&[blind])), refused, "a look at packages alone");
        let failed = Fate { phase: Some(Phase::Mended), ..done(&[verified(10)]) };
        assert_eq!(taken(failed), refused);
    }

    #[test]
    fn contents_that_differ_among_items_are_told_and_one_item_may_be_chosen() {
        let plan = plan(&[
            (1, &[("/etc/a", 1), ("/etc/b", 3)]),
            (2, &[("/etc/a", 2), ("/etc/b", 3)]),
            (3, &[("/etc/a", 1)]),
        ]);
        // Of the third nobody knows.
        let looked = fates(&[(1, done(&[verified(10)])), (2, done(&[verified(20)]))]);
        let all = take(RELEASED, &plan, &looked, &Wanted::default()).unwrap_err();
        assert_eq!(all, Unfit::NotBorneOut { items: vec![ci(3)] });
        let third = [(3, done(&[verified(30)]))];
        let looked = looked.into_iter().chain(fates(&third)).collect();
        let several = take(RELEASED, &plan, &looked, &Wanted::default()).unwrap_err();
        let ways = vec![vec![ci(1), ci(3)], vec![ci(2)]];
        assert_eq!(several, Unfit::Several { path: "/etc/a".to_owned(), ways });
        for item in [1, 2, 3] {
            assert!(several.to_string().contains(&ci(item).to_string()), "{several}");
        }
        assert_eq!(several.items(), [ci(1), ci(2), ci(3)].into());

        let of = |wanted: Wanted| take(RELEASED, &plan, &looked, &wanted);
        let one = of(Wanted { ci: Some(ci(2)), ..Wanted::default() }).unwrap();
        assert_eq!((one["/etc/a"][0].sha256, one.len()), (hash(2), 2));
        let pattern = |text: &str| vec![PathPattern::try_from(text.to_owned()).unwrap()];
        let same = of(Wanted { ci: None, paths: pattern("/etc/b") }).unwrap();
        assert_eq!(same.keys().collect::<Vec<_>>(), ["/etc/b"]);
        let none = of(Wanted { ci: None, paths: pattern("/srv/**") }).unwrap_err();
        assert_eq!(none, Unfit::NoneMeant);
        let other = of(Wanted { ci: Some(ci(7)), ..Wanted::default() }).unwrap_err();
        assert_eq!(other, Unfit::NotOnIt { ci: ci(7) });
    }
}
