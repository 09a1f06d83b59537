//! Sign-ins that were refused, as the ledger is told of them: once in five minutes for each person,
//! and once for all logins that are nobody's, so that nobody can fill the ledger by guessing.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use domain::cloud::UserId;
use jiff::{SignedDuration, Timestamp};
use store::User;

use crate::App;

/// How long further refusals of the same person are not told; as long as a login is stopped.
const TOLD_ONCE: SignedDuration = SignedDuration::from_mins(5);

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The password was wrong.
    Password,
    /// The password was right, the code was not.
    Code,
    /// The passkey was not taken.
    Passkey,
    /// Too many wrong ones before: nothing was looked at.
    Stopped,
}

impl Refused {
    const fn word(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "code",
            Self::Passkey => "passkey",
            Self::Stopped => "stopped",
        }
    }
}

/// Of whom it was told, whether that they are stopped, and when. There are no more of them than
/// people, twice.
#[derive(Default)]
pub(crate) struct Refusals(Mutex<HashMap<(Option<UserId>, bool), Timestamp>>);

impl Refusals {
    /// Whether this one is to be told. That somebody is stopped is told apart: it says that there were
    /// many.
    fn is_news(&self, user: Option<UserId>, refused: Refused, now: Timestamp) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = (user, refused == Refused::Stopped);
        if told.get(&of).is_some_and(|last| now < *last + TOLD_ONCE) {
            return false;
        }
        told.insert(of, now);
        true
    }
}

/// Tells the ledger that somebody was not let in. The answer does not wait for it: it would take
/// longer where the login is somebody's, and so tell that.
pub(crate) fn tell(app: &App, user: Option<&User>, refused: Refused) {
    let now = app.store.environment().now();
    if !app.refusals.is_news(user.map(|user| user.id), refused, now) {
        return;
    }
    let (store, user) = (app.store.clone(), user.cloned());
    tokio::spawn(async move {
        if let Err(error) = store.record_refused_session(user, refused.word()).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "a refused sign-in was not recorded");
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_person_is_told_of_once_in_five_minutes() {
        let refusals = Refusals::default();
        let at = |minute: i64| Timestamp::from_second(minute * 60).unwrap();
        let somebody = Some(UserId::new(at(0), [1; 10]));

        assert!(refusals.is_news(somebody, Refused::Password, at(0)));
        assert!(!refusals.is_news(somebody, Refused::Code, at(4)));
        assert!(refusals.is_news(somebody, Refused::Stopped, at(4)));
        assert!(refusals.is_news(None, Refused::Password, at(4)));
        assert!(!refusals.is_news(None, Refused::Passkey, at(4)));
        assert!(refusals.is_news(somebody, Refused::Password, at(5)));
    }
}
