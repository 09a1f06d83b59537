//! A branch or tag of a git repository: what of it altered since it was looked at last, commit by commit.
//!
//! ```text
//! advertisement ─► tip ─┬─ as known ─► nothing
//!                       └─ pack, down to so many commits ─► from the known one to the tip? ─► its commits
//!                                                             └─ no: the whole tip, said to be so
//! ```
//!
//! We speak the protocol that every server knows (version 0), and only what fetching one reference needs; and read
//! what comes, without writing it anywhere.

pub(crate) mod objects;
pub(crate) mod pack;
mod packet;
pub(crate) mod talk;
pub(crate) mod walk;
mod wire;

use std::time::Duration;

use devices::{Credential, HostKey, Secret};
use domain::configuration::secret::FingerprintKey;
use domain::device::HostKeyFingerprint;
use domain::source::SourceSettings;
use reach::Reach;
use tokio::time::timeout;

use crate::authority::Roots;
use crate::blocking;
use crate::error::SourceError;
use objects::Objects;
use pack::ObjectId;
use talk::{Advertisement, Reference};
use walk::past_of;
pub use walk::{Step, Walk};
use wire::{Door, Wire};

/// How long a look may take until its pack is there.
const PATIENCE: Duration = Duration::from_secs(300);

/// How many commits a pack goes back: first so far, then so far.
const DEPTHS: [u32; 2] = [32, 1024];

/// A repository, and what opens it.
#[derive(Debug)]
pub struct Remote<'a> {
    /// Its address.
    pub url: &'a str,
    /// The reference that is looked at.
    pub reference: &'a str,
    /// As whom somebody signs in.
    pub user: Option<&'a str>,
    /// The password or token that lets us in.
    pub password: Option<&'a Secret>,
    /// The private key that lets us in over SSH.
    pub key: Option<&'a Secret>,
    /// By which host key it is known over SSH.
    pub host_key: HostKey,
    /// Whose certificates count over https.
    pub roots: &'a Roots,
}

/// How the reference stands to what was known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Movement {
    /// Nothing was known.
    First,
    /// It is where it was.
    Same,
    /// It goes on from there.
    Followed,
    /// Its history has not got it any more: it was written anew.
    Rewritten,
    /// It went on so far that nobody can tell.
    Beyond,
}

/// What a look came to.
#[derive(Debug)]
pub struct Look {
    /// The commit at which the reference is.
    pub tip: String,
    /// How it stands to what was known.
    pub movement: Movement,
    /// The host key that the other side proved to have, over SSH.
    pub host_key: Option<HostKeyFingerprint>,
    /// What altered; none where nothing did.
    pub walk: Option<Walk>,
}

/// Whether an address is one of a repository, and may be reached.
///
/// # Errors
/// Why not.
pub fn check(url: &str, reach: &Reach) -> Result<(), SourceError> {
    Door::of(url, reach).map(|_| ())
}

/// Looks once. `known` is the commit up to which everything was recorded.
///
/// # Errors
/// [`SourceError`]
pub async fn look(
    remote: &Remote<'_>,
    settings: &SourceSettings,
    known: Option<&str>,
    reach: &Reach,
    key: &FingerprintKey,
) -> Result<Look, SourceError> {
    let known = known.and_then(|known| ObjectId::from_hex(known.as_bytes()));
    let all = look_once(remote, settings, known, reach, key);
    match timeout(PATIENCE, all).await {
        Ok(outcome) => outcome,
        Err(_) => Err(SourceError::Unreachable {
            host: Door::host_of(remote.url),
            reason: format!("it was not done within {PATIENCE:?}"),
        }),
    }
}

async fn look_once(
    remote: &Remote<'_>,
    settings: &SourceSettings,
    known: Option<ObjectId>,
    reach: &Reach,
    key: &FingerprintKey,
) -> Result<Look, SourceError> {
    let mut host_key = None;
    for (at, depth) in DEPTHS.into_iter().enumerate() {
        let wire = Wire::begin(remote, reach).await?;
        host_key = wire.host_key().or(host_key);
        let advertisement = Advertisement::read(wire.advertisement())?;
        let reference = advertisement.find(remote.reference)?;
        let tip = reference.commit();
        if Some(tip) == known {
            wire.end().await;
            let tip = tip.to_string();
            return Ok(Look { tip, movement: Movement::Same, host_key, walk: None });
        }
        let depth = if known.is_none() { 1 + u32::from(past_of(settings)) } else { depth };
        let request = advertisement.request(&reference, depth)?;
        let answer = wire.ask(request).await?;
        let is_last = known.is_none() || at + 1 == DEPTHS.len();
        let (settings, key) = (settings.clone(), key.clone());
        let found = blocking(move || {
            let (objects, cut) = read(&answer, &reference)?;
            Walk::find(objects, reference.target, known, &cut, (settings, key))
        })
        .await?;
        if found.movement == Movement::Beyond && !is_last {
            continue;
        }
        let tip = found.walk.tip().to_string();
        return Ok(Look { tip, movement: found.movement, host_key, walk: Some(found.walk) });
    }
    Err(SourceError::malformed("it moves while it is looked at"))
}

fn read(answer: &[u8], reference: &Reference) -> Result<(Objects, Vec<ObjectId>), SourceError> {
    let answer = talk::Answer::read(answer)?;
    Ok((Objects::of(answer.pack, reference.target)?, answer.shallow))
}

/// What signs in over SSH.
fn credential(remote: &Remote<'_>) -> Option<Credential> {
    let key = remote.key.map(|key| Credential::Key(key.clone()));
    key.or_else(|| remote.password.map(|password| Credential::Password(password.clone())))
}
