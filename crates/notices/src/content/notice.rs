//! A notice: all that a tenant is told of one change at one time.

use std::sync::Arc;

use domain::change::Window;
use domain::cloud::{CiId, NoticeId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::document::{self, Document};
use super::draft::{Draft, ItemState};
use super::news::{Ask, Kind};

/// Most items of one notice; a plan has some ten thousand.
pub const MOST_ITEMS: usize = 50_000;

/// Most advisories of one notice; a kernel has some hundred.
pub const MOST_ADVISORIES: usize = 2_000;

/// Most ways back of one notice.
pub const MOST_WAYS_BACK: usize = 16;

/// Largest notice, in bytes of its JSON.
pub const LARGEST_NOTICE: usize = 32 << 20;

/// A notice that was looked over.
///
/// Category, planned time, technical description, start and end are what ISO/IEC 27017 12.1.2 asks
/// for; each affected item has a state of its own.
///
/// As JSON it is a document that names its schema, `patchwright.notice/1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Document<Draft>", into = "Document<Draft>")]
pub struct Notice(Arc<Draft>);

/// What is wrong with a draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidNotice {
    /// It concerns nothing of the tenant's.
    #[error("the notice affects no item")]
    NoItems,
    /// It tells of no clock.
    #[error("the notice tells of no clock")]
    NoClocks,
    /// It tells of no drift.
    #[error("the notice tells of no drift")]
    NoDrifts,
    /// More than a notice may have.
    #[error("the notice has {count} {what}, more than {most}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// An item stands in it twice.
    #[error("{ci} stands twice in the notice")]
    Twice {
        /// Which.
        ci: CiId,
    },
    /// A window that ends before it begins.
    #[error("the window ends at {}, not after it begins at {}", window.until, window.from)]
    Window {
        /// Which.
        window: Window,
    },
    /// An answer that would be late whenever it came.
    #[error("an answer is asked by {by}, not after the notice of {published_at}")]
    Late {
        /// By when.
        by: Timestamp,
        /// When it is asked.
        published_at: Timestamp,
    },
    /// It is no JSON of a notice.
    #[error("this is not a notice: {reason}")]
    Malformed {
        /// Why.
        reason: String,
    },
    /// Another schema.
    #[error("the document is a `{found}`, not a `{wanted}`")]
    Schema {
        /// What it says it is.
        found: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// More than anybody would read.
    #[error("the notice has {size} bytes, more than {LARGEST_NOTICE}")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
    },
}

impl InvalidNotice {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::NoClocks => "tell only the sides whose clocks reached a step",
            Self::NoDrifts => "tell only the owners of what drifted",
            Self::NoItems => "tell only the tenants whose items are affected",
            Self::TooMany { .. } | Self::TooLarge { .. } => "split the change",
            Self::Twice { .. } => "name each item once",
            Self::Window { .. } => "give a window that ends after it begins",
            Self::Late { .. } => "ask before the time to answer is over; after it, say `lapsed`",
            Self::Malformed { .. } | Self::Schema { .. } => {
                "give a notice of this version of Patchwright"
            }
        }
    }
}

/// Stands in each notice's JSON.
pub const SCHEMA: &str = "patchwright.notice/1";

impl Notice {
    /// A draft that holds to the rules; items and advisories are brought into their order.
    ///
    /// # Errors
    /// As [`InvalidNotice`].
    pub fn new(mut draft: Draft) -> Result<Self, InvalidNotice> {
        check(&draft)?;
        draft.items.sort_by(|a, b| a.name.cmp(&b.name).then(a.ci.cmp(&b.ci)));
        draft.advisories.sort();
        draft.advisories.dedup();
        Ok(Self(Arc::new(draft)))
    }

    /// The notice that was kept as this JSON.
    ///
    /// # Errors
    /// If it is none, or breaks a rule.
    pub fn parse(json: &str) -> Result<Self, InvalidNotice> {
        Self::new(document::read(json, SCHEMA)?)
    }

    /// The JSON to keep.
    ///
    /// # Errors
    /// If it is larger than [`LARGEST_NOTICE`].
    pub fn to_json(&self) -> Result<String, InvalidNotice> {
        document::write(&*self.0, SCHEMA)
    }

    /// What it says.
    pub fn draft(&self) -> &Draft {
        &self.0
    }

    /// Its id.
    pub fn id(&self) -> NoticeId {
        self.0.id
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.0.news.kind()
    }

    /// The page of the control plane that shows it, with every item.
    pub fn link(&self) -> String {
        self.0.link_base.to(&["notices", &self.0.id.to_string()])
    }

    /// How many items are in each state that occurs.
    pub fn counts(&self) -> Vec<(ItemState, usize)> {
        let count = |state| self.0.items.iter().filter(|item| item.state == state).count();
        let counts = ItemState::ALL.iter().map(|&state| (state, count(state)));
        counts.filter(|&(_, count)| count > 0).collect()
    }

    /// The same, once the answer is there and the change takes place: nothing is left to ask.
    #[must_use]
    pub fn answered(&self) -> Self {
        let draft = Draft { news: self.0.news.answered(), ..self.0.as_ref().clone() };
        // What asks less breaks no rule that the whole kept.
        Self::new(draft).unwrap_or_else(|_| self.clone())
    }

    /// Whether it says more than another notice of the same change to the same tenant.
    pub fn is_newer(&self, other: &Self) -> bool {
        (self.0.sequence, self.0.id) > (other.0.sequence, other.0.id)
    }
}

impl TryFrom<Document<Draft>> for Notice {
    type Error = InvalidNotice;

    fn try_from(document: Document<Draft>) -> Result<Self, InvalidNotice> {
        Self::new(document.of(SCHEMA)?)
    }
}

impl From<Notice> for Document<Draft> {
    fn from(notice: Notice) -> Self {
        Self { schema: SCHEMA.to_owned(), notice: Arc::unwrap_or_clone(notice.0) }
    }
}

fn check(draft: &Draft) -> Result<(), InvalidNotice> {
    let Draft { items, advisories, rollback, news, published_at, .. } = draft;
    if items.is_empty() {
        return Err(InvalidNotice::NoItems);
    }
    for (what, count, most) in [
        ("items", items.len(), MOST_ITEMS),
        ("advisories", advisories.len(), MOST_ADVISORIES),
        ("ways back", rollback.len(), MOST_WAYS_BACK),
    ] {
        if count > most {
            return Err(InvalidNotice::TooMany { what, count, most });
        }
    }
    let mut ids: Vec<CiId> = items.iter().map(|item| item.ci).collect();
    ids.sort_unstable();
    if let Some(pair) = ids.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(InvalidNotice::Twice { ci: pair[0] });
    }
    for window in news.window().into_iter().chain(news.before()) {
        if window.until <= window.from {
            return Err(InvalidNotice::Window { window });
        }
    }
    if let Some(Ask::Answer { by, .. }) = news.ask()
        && by <= *published_at
    {
        return Err(InvalidNotice::Late { by, published_at: *published_at });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::{AdvisoryName, Item, News};
    use super::*;
    use crate::sample::{Fullness, sample};

    fn draft() -> Draft {
        sample(Kind::Planned, Fullness::Full).draft().clone()
    }

    #[test]
    fn every_notice_reads_back_from_its_json() {
        for &kind in Kind::ALL {
            for fullness in [Fullness::Full, Fullness::Bare] {
                let notice = sample(kind, fullness);
                let json = notice.to_json().unwrap();

                assert!(
                    json.starts_with(r#"{"schema":"patchwright.notice/1","notice":{"id":"ntc_"#)
                );
                assert_eq!(Notice::parse(&json), Ok(notice));
            }
        }
    }

    #[test]
    fn what_breaks_a_rule_is_no_notice() {
        let refused = |alter: &dyn Fn(&mut Draft)| {
            let mut draft = draft();
            alter(&mut draft);
            Notice::new(draft).unwrap_err()
        };

        assert_eq!(refused(&|draft| draft.items.clear()), InvalidNotice::NoItems);
        let twice = draft().items[0].clone();
        assert_eq!(
            refused(&|draft| draft
                .items
                .push(Item { name: "other".parse().unwrap(), ..twice.clone() })),
            InvalidNotice::Twice { ci: twice.ci }
        );
        let instant = draft().published_at;
        let window = Window { from: instant, until: instant };
        assert_eq!(
            refused(&|draft| draft.news = News::Planned { window, ask: Ask::Told }),
            InvalidNotice::Window { window }
        );
        assert!(matches!(
            refused(&|draft| {
                let Some(window) = draft.news.window() else { panic!() };
                let ask = Ask::Answer { by: instant, silence: domain::sla::Silence::Waits };
                draft.news = News::Planned { window, ask };
            }),
            InvalidNotice::Late { .. }
        ));
        assert!(matches!(
            refused(&|draft| draft.rollback = vec![draft.rollback[0].clone(); 17]),
            InvalidNotice::TooMany { what: "ways back", count: 17, most: 16 }
        ));
        let advisory: AdvisoryName = "CVE-2026-1".parse().unwrap();
        assert!(matches!(
            refused(&|draft| draft.advisories = vec![advisory.clone(); 2001]),
            InvalidNotice::TooMany { what: "advisories", .. }
        ));
    }

    #[test]
    fn another_document_is_no_notice() {
        let json = sample(Kind::Started, Fullness::Full).to_json().unwrap();
        let other = json.replacen("notice/1", "notice/2", 1);
        assert_eq!(
            Notice::parse(&other),
            Err(InvalidNotice::Schema { found: "patchwright.notice/2".to_owned(), wanted: SCHEMA })
        );
        for json in ["", "{}", &json.replacen("\"tenant\"", "\"tenent\"", 1)] {
            assert!(matches!(Notice::parse(json), Err(InvalidNotice::Malformed { .. })));
        }
    }

    #[test]
    fn items_are_counted_and_sorted() {
        let notice = sample(Kind::Failed, Fullness::Full);

        let total: usize = notice.counts().iter().map(|(_, count)| count).sum();
        assert_eq!(total, notice.draft().items.len());
        assert!(notice.draft().items.is_sorted_by(|a, b| a.name <= b.name));
    }
}
