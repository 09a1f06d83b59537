//! Who may bring an image now. Places are few, since each holds a part of the disk and of the
//! network; nobody holds all of them, and nobody holds one without using it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::cloud::TenantId;

use crate::problem::{Kind, Problem};

/// Images that come in at the same time, for each process.
const MOST: usize = 8;

/// Images of one tenant among them.
const MOST_OF_ONE: usize = 2;

/// How long an upload may be as slow as it likes.
const START: Duration = Duration::from_secs(60);

/// Slowest pace of all that follows, in bytes a second: a fifth of what a slow line at home sends.
const SLOWEST: u64 = 64 << 10;

/// The places for uploads.
#[derive(Debug, Default)]
pub(super) struct Uploads {
    taken: Mutex<HashMap<TenantId, usize>>,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place<'a> {
    uploads: &'a Uploads,
    tenant: TenantId,
}

impl Uploads {
    /// A place for an upload of a tenant.
    pub(super) fn begin(&self, tenant: TenantId) -> Result<Place<'_>, Problem> {
        let mut taken = self.taken();
        let help = "wait for one to be here, then send yours";
        if taken.values().sum::<usize>() >= MOST {
            return Err(Problem::new(
                Kind::TooMany,
                format!("{MOST} images are coming in already"),
            )
            .help(help));
        }
        let of_tenant = taken.entry(tenant).or_default();
        if *of_tenant >= MOST_OF_ONE {
            return Err(Problem::new(
                Kind::TooMany,
                format!("{MOST_OF_ONE} images of this tenant are coming in already"),
            )
            .help(help));
        }
        *of_tenant += 1;
        drop(taken);
        Ok(Place { uploads: self, tenant })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<TenantId, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut taken = self.uploads.taken();
        if let Some(of_tenant) = taken.get_mut(&self.tenant) {
            *of_tenant -= 1;
            if *of_tenant == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

/// Whether an upload that brought so much in so long holds its place for nothing.
pub(super) fn is_too_slow(received: u64, elapsed: Duration) -> bool {
    received < elapsed.saturating_sub(START).as_secs().saturating_mul(SLOWEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: u8) -> TenantId {
        TenantId::new(jiff::Timestamp::UNIX_EPOCH, [number; 10])
    }

    #[test]
    fn nobody_takes_all_places_and_each_is_given_back() {
        let uploads = Uploads::default();
        let mut held: Vec<_> =
            (0..2).map(|_| uploads.begin(tenant(0)).expect("its places")).collect();
        assert!(uploads.begin(tenant(0)).is_err_and(|it| it.detail().contains("this tenant")));
        for number in 1..4 {
            held.extend((0..2).map(|_| uploads.begin(tenant(number)).expect("its places")));
        }
        assert!(uploads.begin(tenant(4)).is_err_and(|it| it.detail().contains("already")));

        held.remove(0);

        held.push(uploads.begin(tenant(4)).expect("a place is free again"));
        drop(held);
        assert!(uploads.taken().is_empty());
    }

    #[test]
    fn a_slow_upload_is_let_begin_but_not_last() {
        let hour = Duration::from_secs(3600);
        assert!(!is_too_slow(0, START));
        assert!(is_too_slow(1, START + Duration::from_secs(1)));
        assert!(is_too_slow(100 << 20, hour));
        assert!(!is_too_slow(300 << 20, hour));
    }
}
