//! Versions of an image: which one new VMs are made from, and which ones no more.
//!
//! A series of images (the "current image" of the standard's figure 1) grows by versions. A version
//! becomes current only after a VM that was really made from it was scanned clean (X.1642 8.7.1(1),
//! R8), and what it replaces is refused for new VMs after a cut-off, so that a vulnerability does
//! not come back with the next VM (R7).
//!
//! ```text
//!            ┌──────────► rejected                    retired ◄─┐
//! candidate ─┤ effect test                               ▲      │
//!            └──────────► tested ──publish──► current ───┴► superseded (refused from a time on)
//!                            ▲                                  │
//!                            └───────── publish again ──────────┘  (a way back, until the cut-off)
//! ```

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::check::{Report, SourceKind, SourceState};

/// How a version of an image stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Standing {
    /// Its bytes are here, nothing is proven.
    Candidate,
    /// A VM made from it was scanned clean.
    Tested {
        /// When.
        at: Timestamp,
    },
    /// New VMs are made from it.
    Current {
        /// Since when.
        since: Timestamp,
    },
    /// Another version is current.
    Superseded {
        /// From when on no VM may be made from it.
        refused_from: Timestamp,
    },
    /// No VM may be made from it any more.
    Retired {
        /// When it was.
        at: Timestamp,
    },
    /// The VM made from it did not stand the test.
    Rejected {
        /// When.
        at: Timestamp,
    },
}

/// What happens to a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The VM made from it was scanned clean.
    Passed,
    /// It was not.
    Failed,
    /// It is to be current.
    Publish,
    /// Another version became current.
    Supersede {
        /// From when on no VM may be made from it.
        refused_from: Timestamp,
    },
    /// It is not to be used any more, from now on.
    Retire,
}

/// Why a step is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It was not tested.
    #[error("no VM made from this version was scanned clean yet")]
    NotTested,
    /// It did not stand the test.
    #[error("this version was rejected at {at}: its VM did not stand the test")]
    Rejected {
        /// When.
        at: Timestamp,
    },
    /// It is used no more.
    #[error("this version was retired at {at}")]
    Retired {
        /// When.
        at: Timestamp,
    },
    /// It is current: retiring it would leave nothing to make VMs from.
    #[error("this version is current since {since}")]
    Current {
        /// Since when.
        since: Timestamp,
    },
    /// It is not current.
    #[error("this version is not current")]
    NotCurrent,
}

impl Refusal {
    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            Self::NotTested => "test it: a VM is made from it and scanned",
            Self::Rejected { .. } | Self::Retired { .. } => {
                "bake a new version; this one stays as a record"
            }
            Self::Current { .. } => "publish another version first",
            Self::NotCurrent => "publish it first",
        }
    }
}

/// What is known to be wrong with a version at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The latest check found nothing that forbids its use.
    Usable,
    /// It lacks a patch for something that is being exploited (FedRAMP VDR, AKE).
    Exploited,
    /// Nobody can tell: no check, an old one, or one that says unknown.
    Unknown,
}

impl Health {
    /// What the latest check of a version says of it. A check from before `fresh_since` says nothing
    /// about now, and neither does one that could not tell everything.
    pub fn of(check: Option<&Report>, fresh_since: Timestamp) -> Diagnosis {
        let unknown = |because: String| Diagnosis { health: Self::Unknown, because };
        let Some(check) = check else {
            return unknown("it was not checked yet".to_owned());
        };
        if let Some(finding) = check.findings.iter().find(|it| !it.exploited.is_empty()) {
            let because = format!("{}: {}", finding.source, finding.exploited.join(", "));
            return Diagnosis { health: Self::Exploited, because };
        }
        if check.checked_at < fresh_since {
            return unknown(format!("it was last checked at {}", check.checked_at));
        }
        if let Some(gap) = check.unknown.first() {
            let more = check.unknown.len() - 1;
            let more = if more == 0 { String::new() } else { format!(", and {more} more") };
            return unknown(format!("{}: {}{more}", gap.subject, gap.reason));
        }
        let is_consulted = check.sources.iter().any(|source| {
            source.kind == SourceKind::Kev && !matches!(source.state, SourceState::Refused { .. })
        });
        if let Some(finding) = check.findings.iter().find(|it| it.security)
            && !is_consulted
        {
            return unknown(format!(
                "{} lacks a security patch, and no catalogue of exploited vulnerabilities was \
                 consulted",
                finding.source
            ));
        }
        Diagnosis { health: Self::Usable, because: String::new() }
    }
}

/// A version's health, and what it follows from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// The health.
    pub health: Health,
    /// Why it is not usable, in words; empty where it is.
    pub because: String,
}

/// Why no VM may be made from a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAdmitted {
    /// It was never current.
    #[error("this version was not published")]
    NotPublished,
    /// A later version took its place, and the time to change over is past.
    #[error("this version was superseded, and is refused since {since}")]
    CutOff {
        /// Since when.
        since: Timestamp,
    },
    /// It is used no more.
    #[error("this version was retired at {at}")]
    Retired {
        /// When.
        at: Timestamp,
    },
    /// It did not stand the test.
    #[error("this version was rejected at {at}")]
    Rejected {
        /// When.
        at: Timestamp,
    },
    /// It lacks a patch for something that is being exploited.
    #[error("this version lacks a patch for a vulnerability that is being exploited")]
    Exploited,
    /// It cannot be told whether it does.
    #[error("whether this version lacks patches is unknown")]
    Unknown,
}

impl NotAdmitted {
    /// The word for it, for programs.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::NotPublished => "not_published",
            Self::CutOff { .. } => "cut_off",
            Self::Retired { .. } => "retired",
            Self::Rejected { .. } => "rejected",
            Self::Exploited => "exploited",
            Self::Unknown => "unknown",
        }
    }

    /// The way out.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unknown => "check the image; unknown is not taken for good",
            Self::Exploited => "bake and publish a version with the patch",
            _ => "use the series' current version",
        }
    }
}

impl Standing {
    /// The word for it, in storage and in the API.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Candidate => "candidate",
            Self::Tested { .. } => "tested",
            Self::Current { .. } => "current",
            Self::Superseded { .. } => "superseded",
            Self::Retired { .. } => "retired",
            Self::Rejected { .. } => "rejected",
        }
    }

    /// How it stands after a step.
    ///
    /// # Errors
    /// If the step may not be taken from here; it stands as before then.
    pub fn after(self, step: Step, now: Timestamp) -> Result<Self, Refusal> {
        match (self, step) {
            (Self::Retired { at }, _) => Err(Refusal::Retired { at }),
            (Self::Rejected { at }, _) => Err(Refusal::Rejected { at }),
            (Self::Candidate | Self::Tested { .. }, Step::Passed) => Ok(Self::Tested { at: now }),
            // A test that is made again says nothing about who is current, unless it fails.
            (Self::Current { .. } | Self::Superseded { .. }, Step::Passed) => Ok(self),
            (Self::Current { since }, Step::Failed | Step::Retire) => {
                Err(Refusal::Current { since })
            }
            (_, Step::Failed) => Ok(Self::Rejected { at: now }),
            (Self::Candidate, Step::Publish) => Err(Refusal::NotTested),
            (Self::Tested { .. }, Step::Publish) => Ok(Self::Current { since: now }),
            (Self::Current { since }, Step::Publish) => Ok(Self::Current { since }),
            (Self::Superseded { refused_from }, Step::Publish) if now < refused_from => {
                Ok(Self::Current { since: now })
            }
            (Self::Superseded { refused_from }, Step::Publish) => {
                Err(Refusal::Retired { at: refused_from })
            }
            (Self::Current { .. }, Step::Supersede { refused_from }) => {
                Ok(Self::Superseded { refused_from: refused_from.max(now) })
            }
            (_, Step::Supersede { .. }) => Err(Refusal::NotCurrent),
            (_, Step::Retire) => Ok(Self::Retired { at: now }),
        }
    }

    /// Whether a VM may be made from it.
    ///
    /// # Errors
    /// Why not.
    pub fn admits(self, health: Health, now: Timestamp) -> Result<(), NotAdmitted> {
        match self {
            Self::Candidate | Self::Tested { .. } => Err(NotAdmitted::NotPublished),
            Self::Retired { at } => Err(NotAdmitted::Retired { at }),
            Self::Rejected { at } => Err(NotAdmitted::Rejected { at }),
            Self::Superseded { refused_from } if now >= refused_from => {
                Err(NotAdmitted::CutOff { since: refused_from })
            }
            Self::Current { .. } | Self::Superseded { .. } => match health {
                Health::Usable => Ok(()),
                Health::Exploited => Err(NotAdmitted::Exploited),
                Health::Unknown => Err(NotAdmitted::Unknown),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::*;

    fn at(hour: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hour)
    }

    fn walk(steps: &[Step]) -> Result<Standing, Refusal> {
        steps.iter().try_fold(Standing::Candidate, |standing, &step| standing.after(step, at(1)))
    }

    #[test]
    fn only_what_stood_the_test_becomes_current() {
        assert_eq!(walk(&[Step::Publish]), Err(Refusal::NotTested));
        assert_eq!(walk(&[Step::Passed, Step::Publish]), Ok(Standing::Current { since: at(1) }));
        assert_eq!(
            walk(&[Step::Failed, Step::Passed]),
            Err(Refusal::Rejected { at: at(1) }),
            "a second try does not wash off a failure: bake again"
        );
    }

    #[test]
    fn a_current_version_is_not_taken_away_without_another() {
        let current = walk(&[Step::Passed, Step::Publish]).unwrap();

        for step in [Step::Retire, Step::Failed] {
            assert_eq!(current.after(step, at(2)), Err(Refusal::Current { since: at(1) }));
        }
    }

    #[test]
    fn what_is_superseded_is_admitted_until_the_cut_off_and_never_after() {
        let old = walk(&[Step::Passed, Step::Publish, Step::Supersede { refused_from: at(10) }]);
        let old = old.unwrap();

        assert_eq!(old.admits(Health::Usable, at(9)), Ok(()));
        assert_eq!(old.admits(Health::Usable, at(10)), Err(NotAdmitted::CutOff { since: at(10) }));
        assert_eq!(old.after(Step::Publish, at(9)), Ok(Standing::Current { since: at(9) }));
        assert_eq!(old.after(Step::Publish, at(10)), Err(Refusal::Retired { at: at(10) }));
    }

    #[test]
    fn unknown_is_not_taken_for_good() {
        let current = walk(&[Step::Passed, Step::Publish]).unwrap();

        assert_eq!(current.admits(Health::Unknown, at(2)), Err(NotAdmitted::Unknown));
        assert_eq!(current.admits(Health::Exploited, at(2)), Err(NotAdmitted::Exploited));
    }

    fn report() -> Report {
        serde_json::from_value(serde_json::json!({
            "schema": "patchwright.check/1", "target": "", "checked_at": at(10),
            "os": { "id": "debian", "id_like": [], "version_id": "12", "codename": "bookworm",
                "pretty_name": "" },
            "architecture": "amd64", "packages": 1, "sources": [],
            "policy": { "name": "default", "version": "1", "sha256": "" }, "status": "latest",
            "findings": [], "unfixed": [], "unknown": [],
        }))
        .unwrap()
    }

    fn finding(exploited: &[&str]) -> crate::check::Finding {
        serde_json::from_value(serde_json::json!({
            "package": "web", "architecture": "amd64", "source": "web", "installed": "1",
            "installed_source": "1", "candidate": "2", "candidate_source": "2",
            "offered_by": { "kind": "advisory" }, "priority": "high", "outcome": "high",
            "unscored": false, "policy": { "name": "default", "version": "1", "sha256": "" },
            "inputs": {}, "reason": "", "cves": [], "advisories": [], "security": true,
            "held": false, "exploited": exploited,
        }))
        .unwrap()
    }

    #[test]
    fn a_version_is_usable_only_where_a_fresh_check_could_tell() {
        let health = |report: &Report| Health::of(Some(report), at(5)).health;
        assert_eq!(Health::of(None, at(5)).health, Health::Unknown);
        let latest = report();
        assert_eq!(health(&latest), Health::Usable);
        assert_eq!(Health::of(Some(&latest), at(11)).health, Health::Unknown, "an old check");

        let mut gap = latest.clone();
        gap.unknown.push(crate::check::Unknown {
            about: crate::check::UnknownAbout::Package,
            subject: "own".into(),
            reason: "nobody offers it".into(),
            help: None,
        });
        assert_eq!(health(&gap), Health::Unknown);

        let mut outdated = latest;
        outdated.findings.push(finding(&[]));
        assert_eq!(health(&outdated), Health::Unknown, "nobody asked what is exploited");
        outdated.sources.push(
            serde_json::from_value(serde_json::json!({
                "kind": "kev", "uri": "kev.json", "state": { "is": "unsigned" },
                "signed_by": [], "date": null, "valid_until": null,
            }))
            .unwrap(),
        );
        assert_eq!(health(&outdated), Health::Usable);
        outdated.findings.push(finding(&["CVE-2026-1"]));
        assert_eq!(health(&outdated), Health::Exploited);
        assert_eq!(
            Health::of(Some(&outdated), at(11)),
            Diagnosis { health: Health::Exploited, because: "web: CVE-2026-1".into() },
            "what was exploited then does not get better by nobody looking"
        );
    }

    fn any_step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Passed),
            Just(Step::Failed),
            Just(Step::Publish),
            (0..40_i64).prop_map(|hour| Step::Supersede { refused_from: at(hour) }),
            Just(Step::Retire),
        ]
    }

    proptest! {
        #[test]
        fn whatever_is_admitted_was_tested_and_published(steps in prop::collection::vec(any_step(), 0..12)) {
            let (mut standing, mut taken, mut hour) = (Standing::Candidate, Vec::new(), 0);
            for step in steps {
                hour += 1;
                if let Ok(next) = standing.after(step, at(hour)) {
                    standing = next;
                    taken.push(step);
                }
                if standing.admits(Health::Usable, at(hour)).is_ok() {
                    let passed = taken.iter().position(|it| *it == Step::Passed);
                    let published = taken.iter().position(|it| *it == Step::Publish);
                    prop_assert!(passed.is_some() && passed < published);
                    prop_assert!(!taken.contains(&Step::Failed) && !taken.contains(&Step::Retire));
                }
            }
        }
    }
}
