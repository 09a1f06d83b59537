//! Passwords: argon2id, one at a time, and not too often.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use argon2::password_hash::phc::PasswordHash as Parsed;
use argon2::{Argon2, CustomizedPasswordHasher as _, PasswordVerifier as _};
use jiff::{SignedDuration, Timestamp};
use store::PasswordHash;
use tokio::sync::Semaphore;

use crate::problem::{Kind, Problem};

/// Shortest password taken (NIST SP 800-63B-4, 3.1.1.2: 15 where it is the only factor).
pub(crate) const SHORTEST: usize = 15;

/// Longest password taken: hashing cost grows with it.
const LONGEST: usize = 1024;

/// What of a login is remembered; longer ones exist nowhere.
const LONGEST_LOGIN: usize = 128;

/// Wrong passwords of one login that are answered at once.
const FREE_ATTEMPTS: u32 = 5;

/// How long a login is refused after too many.
const PENALTY: SignedDuration = SignedDuration::from_mins(5);

/// Logins whose failures are remembered.
const REMEMBERED: usize = 10_000;

/// Hashes and compares passwords.
pub(crate) struct Passwords {
    /// argon2id takes 19 MiB and a core for some 30 ms: two at a time.
    at_once: Semaphore,
    failures: Mutex<HashMap<String, (u32, Timestamp)>>,
    /// Compared with where there is no such person, so that the time does not tell.
    decoy: PasswordHash,
}

impl Passwords {
    pub(crate) fn new(salt: &[u8; 16]) -> Result<Self, Problem> {
        let decoy = hash("no such person has this", salt)?;
        Ok(Self { at_once: Semaphore::new(2), failures: Mutex::default(), decoy })
    }

    /// Whether the password is that person's. `None`: there is no such person, or it has none. Wrong
    /// ones are remembered until [`Self::remember`] is told that somebody got in.
    pub(crate) async fn verify(
        &self,
        login: &str,
        password: String,
        expected: Option<PasswordHash>,
        now: Timestamp,
    ) -> Result<bool, Problem> {
        let login: String = login.chars().take(LONGEST_LOGIN).collect();
        self.check_attempts(&login, now)?;
        let _permit = self.at_once.acquire().await.map_err(|_| busy())?;
        let is_known = expected.is_some();
        let expected = expected.unwrap_or_else(|| self.decoy.clone());
        let matches = tokio::task::spawn_blocking(move || {
            Parsed::new(&expected.0).is_ok_and(|expected| {
                Argon2::default().verify_password(password.as_bytes(), &expected).is_ok()
            })
        })
        .await
        .map_err(|_| busy())?;
        let is_right = matches && is_known;
        if !is_right {
            self.remember(&login, false, now);
        }
        Ok(is_right)
    }

    /// # Errors
    /// 429 after too many failures.
    pub(crate) fn check_attempts(&self, login: &str, now: Timestamp) -> Result<(), Problem> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get(login) {
            Some(&(count, last)) if count >= FREE_ATTEMPTS && now < last + PENALTY => {
                Err(Problem::new(Kind::TooMany, "too many wrong passwords for this login")
                    .help("wait five minutes; if it was not you, tell your administrator"))
            }
            _ => Ok(()),
        }
    }

    /// Remembers that somebody got in, or failed to.
    pub(crate) fn remember(&self, login: &str, is_right: bool, now: Timestamp) {
        let login: String = login.chars().take(LONGEST_LOGIN).collect();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if is_right {
            failures.remove(&login);
            return;
        }
        if failures.len() >= REMEMBERED {
            failures.retain(|_, (_, last)| now < *last + PENALTY);
        }
        let (count, last) = failures.entry(login).or_insert((0, now));
        if now >= *last + PENALTY {
            *count = 0;
        }
        *count += 1;
        *last = now;
    }
}

/// Hashes a password that somebody chose.
pub(crate) fn hash_new(password: &str, salt: &[u8; 16]) -> Result<PasswordHash, Problem> {
    if password.chars().count() < SHORTEST {
        return Err(Problem::new(Kind::Invalid, "the password is too short")
            .help(format!("use {SHORTEST} characters or more: a few words make a good one")));
    }
    if password.len() > LONGEST {
        return Err(Problem::new(Kind::Invalid, "the password is too long")
            .help(format!("use at most {LONGEST} bytes")));
    }
    hash(password, salt)
}

fn hash(password: &str, salt: &[u8; 16]) -> Result<PasswordHash, Problem> {
    let failed = |error| Problem::new(Kind::Internal, format!("cannot hash a password: {error}"));
    let hash = Argon2::default()
        .hash_password_customized(password.as_bytes(), salt, None, None, argon2::Params::default())
        .map_err(failed)?;
    Ok(PasswordHash(hash.to_string()))
}

fn busy() -> Problem {
    Problem::new(Kind::Unavailable, "too many people sign in at this moment")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    #[tokio::test]
    async fn the_right_password_opens_and_others_do_not() {
        let passwords = Passwords::new(&[1; 16]).unwrap();
        let hash = hash_new("correct horse battery", &[2; 16]).unwrap();
        assert!(hash.0.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.0);
        let verify = |password: &str, hash: Option<PasswordHash>, now| {
            passwords.verify("anna", password.to_owned(), hash, now)
        };

        assert!(verify("correct horse battery", Some(hash.clone()), at(0)).await.unwrap());
        assert!(!verify("correct horse batterz", Some(hash.clone()), at(0)).await.unwrap());
        assert!(!verify("no such person has this", None, at(0)).await.unwrap());
    }

    #[tokio::test]
    async fn guessing_is_slowed_down() {
        let passwords = Passwords::new(&[1; 16]).unwrap();
        let guess = |login: &'static str, now| passwords.verify(login, "x".into(), None, now);
        for _ in 0..FREE_ATTEMPTS {
            assert!(!guess("anna", at(0)).await.unwrap());
        }

        assert_eq!(guess("anna", at(4)).await.unwrap_err().status(), 429);
        assert!(guess("bert", at(4)).await.is_ok());
        assert!(guess("anna", at(5)).await.is_ok());
    }

    #[test]
    fn a_new_password_is_long_enough_and_not_endless() {
        assert!(hash_new("short", &[0; 16]).is_err());
        assert!(hash_new(&"x".repeat(LONGEST + 1), &[0; 16]).is_err());
    }
}
