//! What happened to one patch on one tenant's items, and when: recorded once, never overwritten.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Something that happens once on a patch's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// The vendor published it.
    VendorPublished,
    /// It was collected from the official source.
    Collected,
    /// Its priority was decided, and which items it concerns.
    Evaluated,
    /// CISA listed a vulnerability that it fixes as known to be exploited.
    KevAdded,
    /// It was proven in the lab.
    Tested,
    /// In an emergency: what the patch may wipe was saved.
    EvidenceSaved,
    /// The tenant got the notice.
    Notified,
    /// The tenant said that it read the notice.
    Acknowledged,
    /// The tenant approved.
    Approved,
    /// The time of the change was fixed.
    Scheduled,
    /// It was installed on the last item.
    Installed,
    /// The last item that needed it restarted.
    Rebooted,
    /// An independent scan found it everywhere.
    Verified,
    /// The tenant was told how it ended.
    DoneTold,
    /// After an emergency: it was judged again.
    ReEvaluated,
    /// A later scan found it missing again.
    Regressed,
    /// What the tenant was told and said counts no more, and it is asked anew: another plan took
    /// the place of the one before, or its deferral was over.
    AskedAgain,
    /// The vendor took it back.
    Withdrawn,
}

impl Moment {
    /// Whether it stays true when the patch is lost again or the tenant asked anew. The rest has to
    /// happen again.
    fn outlasts_a_round(self) -> bool {
        self <= Self::Tested || self == Self::Withdrawn
    }
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What happened.
    pub moment: Moment,
    /// When.
    pub at: Timestamp,
}

/// All that happened. Records are only ever added.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Record>", into = "Vec<Record>")]
pub struct Instants {
    records: Vec<Record>,
}

/// Why a record is not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotRecorded {
    /// It is recorded with another time.
    #[error("{moment:?} is recorded at {recorded}, and {given} does not overwrite it")]
    Recorded {
        /// What.
        moment: Moment,
        /// The time that stands.
        recorded: Timestamp,
        /// The time that was given.
        given: Timestamp,
    },
    /// Only what was installed can be lost.
    #[error("it cannot have been lost at {given}: nothing was installed")]
    NothingToLose {
        /// The time that was given.
        given: Timestamp,
    },
}

impl NotRecorded {
    /// The next step.
    pub fn help(&self) -> Option<String> {
        Some(match self {
            Self::Recorded { .. } => "an instant stays as it was first recorded".to_owned(),
            Self::NothingToLose { .. } => "record the installation first".to_owned(),
        })
    }
}

impl Instants {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record. The same one twice is one.
    ///
    /// # Errors
    /// If it would overwrite one. After a regression, and when the tenant is asked anew, what comes
    /// after the test may happen again.
    pub fn record(&mut self, moment: Moment, at: Timestamp) -> Result<(), NotRecorded> {
        if matches!(moment, Moment::Regressed | Moment::AskedAgain) {
            if self.records.last() == Some(&Record { moment, at }) {
                return Ok(());
            }
            let lost = self.at(Moment::Installed).or(self.at(Moment::Verified));
            if moment == Moment::Regressed && lost.is_none() {
                return Err(NotRecorded::NothingToLose { given: at });
            }
        } else if let Some(recorded) = self.at(moment) {
            return if recorded == at {
                Ok(())
            } else {
                Err(NotRecorded::Recorded { moment, recorded, given: at })
            };
        }
        self.records.push(Record { moment, at });
        Ok(())
    }

    /// When it happened; since the tenant was last asked anew or the patch was last lost, where it
    /// has to happen again then.
    pub fn at(&self, moment: Moment) -> Option<Timestamp> {
        let since = match moment {
            _ if moment.outlasts_a_round() => 0,
            // Whatever the tenant is asked meanwhile; what is lost again may leave other traces.
            Moment::EvidenceSaved => self.after(|it| it.moment == Moment::Regressed),
            _ => self.after(is_round),
        };
        self.records.get(since..)?.iter().find(|record| record.moment == moment).map(|it| it.at)
    }

    /// When the patch was last lost.
    pub fn regressed(&self) -> Option<Timestamp> {
        let last = self.records.iter().rev().find(|record| record.moment == Moment::Regressed);
        last.map(|record| record.at)
    }

    /// How often the patch was lost.
    pub fn round(&self) -> usize {
        self.records.iter().filter(|record| record.moment == Moment::Regressed).count()
    }

    /// When the present clock started: with the last loss, otherwise when it was collected.
    pub fn start(&self) -> Option<Timestamp> {
        self.regressed().or_else(|| self.at(Moment::Collected))
    }

    /// The latest time of all records. No clock that shows less can be right.
    pub fn latest(&self) -> Option<Timestamp> {
        self.records.iter().map(|record| record.at).max()
    }

    /// All records in the order in which they were added.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What was recorded before the tenant was last asked anew since the patch was last lost, and
    /// when it was.
    pub(super) fn before_asked_again(&self) -> Option<(Self, Timestamp)> {
        let last = self.records.iter().rposition(is_round)?;
        let Record { moment, at } = self.records[last];
        (moment == Moment::AskedAgain)
            .then(|| (Self { records: self.records[..last].to_vec() }, at))
    }

    /// How often the way began anew: the patch was lost, or the tenant asked again.
    pub(super) fn restarts(&self) -> usize {
        self.records.iter().filter(|record| is_round(record)).count()
    }

    /// Position after the last record of a kind.
    fn after(&self, kind: impl Fn(&Record) -> bool) -> usize {
        self.records.iter().rposition(kind).map_or(0, |position| position + 1)
    }
}

fn is_round(record: &Record) -> bool {
    matches!(record.moment, Moment::Regressed | Moment::AskedAgain)
}

impl TryFrom<Vec<Record>> for Instants {
    type Error = NotRecorded;

    fn try_from(records: Vec<Record>) -> Result<Self, NotRecorded> {
        let mut instants = Self::new();
        for Record { moment, at } in records {
            instants.record(moment, at)?;
        }
        Ok(instants)
    }
}

impl From<Instants> for Vec<Record> {
    fn from(instants: Instants) -> Self {
        instants.records
    }
}
