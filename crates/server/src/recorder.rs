//! The recorder: gives events their places and publishes them in the ledger.
//!
//! The database is the truth about order. One process at a time holds the lease; what a late holder
//! still writes are the same bytes at the same places, so it does no harm.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use ledger::errors::{KeyError, LogError};
use ledger::{Directory, Envelope, KeyKind, Log, Signer, VerifierKey};
use store::{Event, Key, MasterKey, Store, StoreError};
use tokio::sync::watch;

use crate::record::{Pseudonyms, commitment};

/// How often it looks. A checkpoint is public within a second of the event.
const LOOK: Duration = Duration::from_millis(250);

/// How long the lease is held, and after how long it is renewed. Nothing is recorded for as long
/// after its holder was killed.
const LEASE: SignedDuration = SignedDuration::from_secs(6);
const RENEW: SignedDuration = SignedDuration::from_secs(2);

/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// Events of one step.
const STEP: u32 = 2000;

/// Publishes the events of a store in a ledger.
pub struct Recorder {
    store: Store,
    directory: PathBuf,
    origin: String,
    signer: Signer,
    pseudonyms: Pseudonyms,
    holder: String,
    published: watch::Sender<u64>,
}

/// Why the ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The store refused.
    #[error("the store refused")]
    Store(#[from] StoreError),
    /// The log refused: it is damaged, gone, or not this installation's.
    #[error("the ledger refused")]
    Log(#[from] LogError),
    /// The signing key is no key.
    #[error("the ledger's key cannot be used")]
    Key(#[from] KeyError),
    /// An event does not fit an entry.
    #[error("the event {id} does not fit the ledger: {reason}")]
    Event {
        /// Which one.
        id: String,
        /// Why.
        reason: String,
    },
    /// Its directory cannot be kept for ourselves.
    #[error("the ledger's directory cannot be locked")]
    Lock(#[source] std::io::Error),
    /// The work was cut off.
    #[error("the recorder's work was cut off")]
    Cut,
}

impl RecorderError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Store(error) => error.help().map(str::to_owned),
            Self::Log(error) => error.help(),
            Self::Key(error) => error.help(),
            Self::Lock(_) => Some("check who may write in the ledger's directory".to_owned()),
            Self::Event { .. } | Self::Cut => None,
        }
    }
}

impl Recorder {
    /// Prepares the ledger in a directory, under a key that the store keeps sealed.
    ///
    /// # Errors
    /// If the keys do not open, or the log there is damaged or another's.
    pub async fn open(
        store: Store,
        master: &Arc<MasterKey>,
        directory: PathBuf,
    ) -> Result<Self, RecorderError> {
        let seed: Key = store.key(master, "ledger.signing").await?;
        // The name must never be another log's: it comes from the key.
        let name = blake3::derive_key("patchwright 2026-11 name of a ledger", &*seed);
        let origin = format!("patchwright/{}", &blake3::Hash::from(name).to_hex()[..16]);
        let signer = Signer::new(KeyKind::Log, &origin, &seed)?;
        let pseudonyms = Pseudonyms::new(store.key(master, "ledger.pseudonyms").await?);
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        let (published, _) = watch::channel(0);
        let recorder = Self {
            store,
            directory,
            origin,
            signer,
            pseudonyms,
            holder: format!("{:016x}", u64::from_be_bytes(random)),
            published,
        };
        // A damaged log is told at the start, not in the night.
        let size = recorder.open_log()?.published_size();
        recorder.published.send_replace(size);
        Ok(recorder)
    }

    /// The public key, for whoever verifies.
    pub fn key(&self) -> &VerifierKey {
        self.signer.verifier()
    }

    /// How many entries are published; changes with each checkpoint of this process.
    pub fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    pub(crate) fn news(&self) -> watch::Sender<u64> {
        self.published.clone()
    }

    pub(crate) fn directory(&self) -> Directory {
        Directory::new(&self.directory)
    }

    /// Records until `end` comes, then all that waits, and gives way to other processes.
    ///
    /// # Errors
    /// Only of the last step; failures before are logged and tried again.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) -> Result<(), RecorderError> {
        let mut end = std::pin::pin!(end);
        let (mut log, mut held_until) = (None, None);
        loop {
            let pause = match self.step(&mut log, &mut held_until).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => LOOK,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "nothing is recorded"
                    );
                    log = None;
                    PAUSE
                }
            };
            // A step is never cut off: the end waits for it.
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        drop(log);
        self.finish().await
    }

    /// Records all that waits now, or sees another process do it, and gives way to others. Not
    /// beside [`Recorder::run`] of the same recorder.
    ///
    /// # Errors
    /// As [`RecorderError`]; what was acknowledged stays in the store and is recorded later.
    pub async fn finish(&self) -> Result<(), RecorderError> {
        let (mut log, mut held_until) = (None, None);
        let end = self.store.environment().now() + LEASE + RENEW;
        loop {
            while self.step(&mut log, &mut held_until).await? {}
            let is_done = held_until.is_some() || !self.store.has_waiting_events().await?;
            if is_done || self.store.environment().now() > end {
                return Ok(self.store.give_lease_back("ledger", &self.holder).await?);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// One step; says whether there may be more to do at once.
    async fn step(
        &self,
        log: &mut Option<Log<Directory>>,
        held_until: &mut Option<jiff::Timestamp>,
    ) -> Result<bool, RecorderError> {
        let now = self.store.environment().now();
        if held_until.is_none_or(|until| now + (LEASE - RENEW) >= until) {
            let lease = self.store.take_lease("ledger", &self.holder, LEASE).await?;
            *held_until = lease.map(|lease| lease.until);
        }
        if held_until.is_none() {
            // Another process records; what it published since must be read anew.
            *log = None;
            return Ok(false);
        }
        if self.store.has_waiting_events().await? {
            self.store.sequence_events(STEP).await?;
        }
        let mut open = match log.take() {
            Some(open) => open,
            None => self.open_log()?,
        };
        let first = open.size();
        let events = self.store.sequenced_events(first, STEP).await?;
        if events.is_empty() && open.size() == open.published_size() {
            *log = Some(open);
            return Ok(false);
        }
        let entries =
            events.iter().map(|event| self.entry(event)).collect::<Result<Vec<_>, _>>()?;
        let directory = self.directory();
        let (open, size) = tokio::task::spawn_blocking(move || {
            // Another process may have thought that its lease was over, or this one is late.
            let _alone = directory.lock().map_err(RecorderError::Lock)?;
            open.integrate(first, &entries)?;
            open.publish()?;
            let size = open.published_size();
            Ok::<_, RecorderError>((open, size))
        })
        .await
        .map_err(|_| RecorderError::Cut)??;
        *log = Some(open);
        self.published.send_replace(size);
        Ok(events.len() == STEP as usize)
    }

    fn open_log(&self) -> Result<Log<Directory>, RecorderError> {
        Ok(Log::open(self.directory(), &self.origin, vec![self.signer.clone()])?)
    }

    /// An event as an entry: who, what and whose stand in it as pseudonyms, the event itself as a
    /// commitment.
    fn entry(&self, event: &Event) -> Result<Vec<u8>, RecorderError> {
        let wrong = |reason: String| RecorderError::Event { id: event.id.to_string(), reason };
        let envelope = Envelope {
            sequence: event.sequence.ok_or_else(|| wrong("it has no place".to_owned()))?,
            at: event.at,
            clock: event.clock.clone(),
            actor: self.pseudonyms.of(&event.actor),
            role: event.role.clone(),
            tenant: Some(self.pseudonyms.of(&event.tenant.to_string())),
            kind: event.kind.as_str().to_owned(),
            object: self.pseudonyms.of(&event.object),
            version: event.version.unsigned_abs(),
            commitments: vec![commitment(event).map_err(|error| wrong(error.to_string()))?],
            previous: None,
        };
        envelope.to_canonical().map_err(|error| wrong(error.to_string()))
    }
}
