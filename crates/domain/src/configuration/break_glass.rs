//! Break-glass: leave to alter files first and to explain it afterwards.
//!
//! ```text
//! open ─(closed, or its time is over)─► in review ─┬─► accepted   what was done is what the files are to be
//!                                                  └─► rejected   what was done is drift, which nobody agreed to
//! ```
//!
//! Four eyes: whoever opened it does not review it. What is not reviewed in time escalates, and stays to be reviewed.

use std::ops::RangeInclusive;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::change::Reason;
use crate::cloud::words;
use crate::order::PathPattern;

/// For how many minutes it may be opened: a day at most.
pub const MINUTES: RangeInclusive<u16> = 1..=24 * 60;

/// For how many minutes it is opened where nobody says it.
pub const USUAL_MINUTES: u16 = 60;

/// Within how many hours after its end it may have to be reviewed: a week at most.
pub const REVIEW_HOURS: RangeInclusive<u16> = 1..=7 * 24;

/// Within how many hours it has to be reviewed where nobody says it.
pub const USUAL_REVIEW_HOURS: u16 = 24;

/// Most patterns of files, and most accounts, of one.
pub const MOST: usize = 32;

/// Longest name of a ticket or an account in bytes.
pub const LONGEST_WORD: usize = 128;

words! {
    /// How it stands.
    Stage {
        /// Files may be altered under it.
        Open = "open",
        /// It is over, and somebody else has to look at what was done.
        InReview = "in_review",
        /// What was done may stay.
        Accepted = "accepted",
        /// It may not.
        Rejected = "rejected",
    }
}

words! {
    /// What a review came to.
    Outcome {
        /// What was done may stay.
        Accepted = "accepted",
        /// It may not.
        Rejected = "rejected",
    }
}

/// What it is opened for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// What it is called where people keep track of it.
    pub ticket: String,
    /// Why.
    pub reason: Reason,
    /// Accounts that may; anybody where none is named.
    pub logins: Vec<String>,
    /// Which files.
    pub files: Vec<PathPattern>,
}

/// Terms that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTerms {
    /// The ticket or an account has no name that can be used.
    #[error("{what} `{given}` cannot be used")]
    Word {
        /// Which of them.
        what: &'static str,
        /// Its beginning.
        given: String,
    },
    /// It is for no file.
    #[error("it is for no file")]
    NoFiles,
    /// There are too many of something.
    #[error("it names {count} {what}, more than {MOST}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
    },
    /// A pattern is none.
    #[error("{0}")]
    Pattern(String),
    /// It would stay open for too long, or not at all.
    #[error("{given} minutes are not in {}..={}", MINUTES.start(), MINUTES.end())]
    Minutes {
        /// For how long.
        given: u16,
    },
    /// It would be reviewed too late, or at once.
    #[error("{given} hours until the review are not in {}..={}", REVIEW_HOURS.start(), REVIEW_HOURS.end())]
    ReviewHours {
        /// Within how many.
        given: u16,
    },
}

impl InvalidTerms {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Word { .. } => "use 1 to 128 bytes without spaces and control characters",
            Self::NoFiles => "name the files that it takes, as `/etc/nginx/**` does",
            Self::TooMany { .. } => "use patterns for files; leave accounts out for anybody",
            Self::Pattern(_) => {
                "write absolute paths; `*` is for a part of a name, `**` for any number of names"
            }
            Self::Minutes { .. } => "open it for a day at most, and again where that is not enough",
            Self::ReviewHours { .. } => "let somebody look at it within a week",
        }
    }
}

/// When it is open, and until when it has to be reviewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// From when on.
    pub from: Timestamp,
    /// Until before when.
    pub until: Timestamp,
    /// Before when it has to be reviewed.
    pub review_by: Timestamp,
}

/// Why somebody may not review it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoReview {
    /// Files may still be altered under it.
    #[error("it is still open")]
    Open,
    /// It was reviewed.
    #[error("it was {0} already")]
    Done(Outcome),
    /// They opened it themselves.
    #[error("whoever opened it does not review it")]
    Own,
}

impl NoReview {
    /// The way out.
    pub const fn help(self) -> &'static str {
        match self {
            Self::Open => "close it first, or wait until its time is over",
            Self::Done(_) => "read it again",
            Self::Own => "ask somebody else who may",
        }
    }
}

impl Terms {
    /// Terms that hold to the rules.
    ///
    /// # Errors
    /// The first of them that does not.
    pub fn new(
        ticket: String,
        reason: Reason,
        logins: Vec<String>,
        files: Vec<String>,
    ) -> Result<Self, InvalidTerms> {
        word("the ticket", &ticket)?;
        logins.iter().try_for_each(|login| word("the account", login))?;
        for (what, count) in [("files", files.len()), ("accounts", logins.len())] {
            if count > MOST {
                return Err(InvalidTerms::TooMany { what, count });
            }
        }
        if files.is_empty() {
            return Err(InvalidTerms::NoFiles);
        }
        let files = files.into_iter().map(PathPattern::try_from).collect::<Result<_, _>>();
        Ok(Self { ticket, reason, logins, files: files.map_err(InvalidTerms::Pattern)? })
    }
}

fn word(what: &'static str, given: &str) -> Result<(), InvalidTerms> {
    let is_odd =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{200b}'..='\u{206f}');
    if !given.is_empty() && given.len() <= LONGEST_WORD && !given.contains(is_odd) {
        return Ok(());
    }
    Err(InvalidTerms::Word { what, given: given.chars().take(64).collect() })
}

impl Span {
    /// From now on, for so many minutes, to be reviewed within so many hours after that.
    ///
    /// # Errors
    /// Where either is out of [`MINUTES`] or [`REVIEW_HOURS`].
    pub fn new(now: Timestamp, minutes: u16, review_hours: u16) -> Result<Self, InvalidTerms> {
        if !MINUTES.contains(&minutes) {
            return Err(InvalidTerms::Minutes { given: minutes });
        }
        if !REVIEW_HOURS.contains(&review_hours) {
            return Err(InvalidTerms::ReviewHours { given: review_hours });
        }
        let until = later(now, SignedDuration::from_mins(i64::from(minutes)));
        let review_by = later(until, SignedDuration::from_hours(i64::from(review_hours)));
        Ok(Self { from: now, until, review_by })
    }

    /// The same where somebody closes it: the review is due as much sooner. What is over stays as it is.
    #[must_use]
    pub fn closed(self, now: Timestamp) -> Self {
        let until = self.until.min(now.max(self.from));
        let wait = self.until.duration_until(self.review_by);
        Self { until, review_by: later(until, wait), ..self }
    }

    /// How it stands now.
    pub fn stage(self, outcome: Option<Outcome>, now: Timestamp) -> Stage {
        match outcome {
            Some(Outcome::Accepted) => Stage::Accepted,
            Some(Outcome::Rejected) => Stage::Rejected,
            None if now < self.until => Stage::Open,
            None => Stage::InReview,
        }
    }
}

/// Later by so much, or as late as there is.
fn later(time: Timestamp, by: SignedDuration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether somebody may review what somebody opened, as it stands.
///
/// # Errors
/// Why not.
pub fn may_review<P: PartialEq>(stage: Stage, opened_by: &P, by: &P) -> Result<(), NoReview> {
    match stage {
        Stage::Open => Err(NoReview::Open),
        Stage::Accepted => Err(NoReview::Done(Outcome::Accepted)),
        Stage::Rejected => Err(NoReview::Done(Outcome::Rejected)),
        Stage::InReview if opened_by == by => Err(NoReview::Own),
        Stage::InReview => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minutes)
    }

    fn terms(ticket: &str, logins: &[&str], files: &[&str]) -> Result<Terms, InvalidTerms> {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let reason = "the site is down".parse().unwrap();
        Terms::new(ticket.to_owned(), reason, owned(logins), owned(files))
    }

    #[test]
    fn terms_name_a_ticket_and_files() {
        assert!(terms("INC-1", &["anna"], &["/etc/nginx/**"]).is_ok());
        assert!(terms("INC-1", &[], &["/etc/motd"]).is_ok());

        let is_word = |it| matches!(it, Err(InvalidTerms::Word { .. }));
        for ticket in ["", "a b", "a\nb", "a\u{202e}b", &"x".repeat(129)] {
            assert!(is_word(terms(ticket, &[], &["/etc/motd"])), "{ticket:?}");
        }
        assert!(is_word(terms("INC-1", &["anna", ""], &["/etc/motd"])));
        assert_eq!(terms("INC-1", &[], &[]), Err(InvalidTerms::NoFiles));
        let many = vec!["/etc/motd"; MOST + 1];
        let refused = terms("INC-1", &[], &many);
        assert_eq!(refused, Err(InvalidTerms::TooMany { what: "files", count: MOST + 1 }));
        assert!(matches!(terms("INC-1", &[], &["etc"]), Err(InvalidTerms::Pattern(_))));
    }

    #[test]
    fn it_ends_by_itself_or_sooner_and_is_reviewed_after_that() {
        let span = Span::new(at(0), 30, 2).unwrap();
        assert_eq!((span.until, span.review_by), (at(30), at(150)));
        assert_eq!(span.stage(None, at(29)), Stage::Open);
        assert_eq!(span.stage(None, at(30)), Stage::InReview);
        assert_eq!(span.stage(Some(Outcome::Rejected), at(29)), Stage::Rejected);

        let closed = span.closed(at(10));
        assert_eq!((closed.until, closed.review_by), (at(10), at(130)));
        assert_eq!(closed.stage(None, at(10)), Stage::InReview);
        assert_eq!(span.closed(at(40)), span, "what is over stays as it is");
        assert_eq!(span.closed(at(-5)).until, at(0), "clocks that go back make no negative span");

        for minutes in [0, 24 * 60 + 1] {
            assert_eq!(Span::new(at(0), minutes, 1), Err(InvalidTerms::Minutes { given: minutes }));
        }
        for hours in [0, 7 * 24 + 1] {
            assert_eq!(Span::new(at(0), 1, hours), Err(InvalidTerms::ReviewHours { given: hours }));
        }
    }

    #[test]
    fn nobody_reviews_their_own_or_what_is_open_or_was_reviewed() {
        assert_eq!(may_review(Stage::InReview, &"anna", &"bob"), Ok(()));
        assert_eq!(may_review(Stage::InReview, &"anna", &"anna"), Err(NoReview::Own));
        assert_eq!(may_review(Stage::Open, &"anna", &"bob"), Err(NoReview::Open));
        let done = Err(NoReview::Done(Outcome::Accepted));
        assert_eq!(may_review(Stage::Accepted, &"anna", &"bob"), done);
    }
}
