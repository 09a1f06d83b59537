//! Devices that are looked at over SSH: those that are due are asked what they are configured by, and it is
//! recorded.
//!
//! ```text
//! due device ─► Eyes::look ─► documents without secrets ─► new but for what alters by itself? ─► History
//!                   └─► what the look came to ─────────────────────────────────────────────────► Store
//! ```
//!
//! One process at a time works them, by a lease. A look that was cut off is made again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use devices::{Credential, Document, HostKey, Limits, Look, LookError, Model, Secret, Target};
use domain::cloud::CiId;
use domain::configuration::mask::Masks;
use domain::configuration::secret::FingerprintKey;
use domain::configuration::verdict::Evidence;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use store::{
    Actor, Device, FilePath, History, Key, Looked, MasterKey, Metadata, NewFile, NewState, Past,
    Store, StoreError, Telling, Vault,
};
use tokio::task::JoinSet;

/// Who says what documents are.
const SOURCE: &str = "ssh";

/// How long a process may work them before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How often is looked for what is due.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure of our own, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Looks at a time. Each may hold the answers of one device.
const AT_ONCE: usize = 8;

/// A regular file that somebody may read: what documents are recorded as.
const MODE: u32 = 0o100_444;

/// A look that is under way.
pub type Looking<'a> = Pin<Box<dyn Future<Output = Result<Look, LookError>> + Send + 'a>>;

/// Who looks at devices.
pub trait Eyes: fmt::Debug + Send + Sync {
    /// Looks at one, with the key of its item's fingerprints.
    fn look<'a>(
        &'a self,
        model: &'static Model,
        target: &'a Target,
        key: &'a FingerprintKey,
    ) -> Looking<'a>;
}

/// Looks over SSH.
#[derive(Debug, Default)]
pub struct Ssh(Limits);

impl Eyes for Ssh {
    fn look<'a>(
        &'a self,
        model: &'static Model,
        target: &'a Target,
        key: &'a FingerprintKey,
    ) -> Looking<'a> {
        Box::pin(devices::look(model, target, &self.0, key))
    }
}

/// What opens a device, as it is sealed.
#[derive(Serialize, Deserialize)]
pub(crate) struct Opening {
    pub(crate) credential: Credential,
    pub(crate) enable: Option<Secret>,
}

impl Opening {
    fn place(ci: CiId) -> String {
        format!("device {ci}")
    }

    /// Sealed for its item; `None` never happens for secrets of sane length.
    pub(crate) fn seal(&self, vault: &Vault, ci: CiId, nonce: [u8; 24]) -> Option<Vec<u8>> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(self).ok()?);
        vault.seal(&Self::place(ci), &text, nonce)
    }

    fn open(vault: &Vault, ci: CiId, sealed: &[u8]) -> Option<Self> {
        serde_json::from_slice(&vault.open(&Self::place(ci), sealed)?).ok()
    }
}

/// What looks at the devices of a store.
pub struct Devices(Arc<Parts>);

struct Parts {
    store: Store,
    history: History,
    vault: Vault,
    /// Of which the key of each item's fingerprints is made.
    fingerprints: Key,
    eyes: Arc<dyn Eyes>,
    holder: String,
    /// Those that are being looked at.
    busy: Mutex<BTreeSet<CiId>>,
}

impl Devices {
    /// One that does not run yet. `vault` is the one that seals for the API.
    ///
    /// # Errors
    /// If the key of fingerprints cannot be read or made.
    pub async fn open(
        store: Store,
        master: &Arc<MasterKey>,
        vault: Vault,
        history: History,
        eyes: Arc<dyn Eyes>,
    ) -> Result<Self, StoreError> {
        let fingerprints = store.key(master, "device fingerprints").await?;
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        let holder = format!("{:016x}", u64::from_be_bytes(random));
        let busy = Mutex::default();
        Ok(Self(Arc::new(Parts { store, history, vault, fingerprints, eyes, holder, busy })))
    }

    /// Runs until `end` comes. Looks that are under way are given up then: they alter nothing.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut looks = JoinSet::new();
        loop {
            let pause = match self.begin(&mut looks).await {
                Ok(()) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "devices are not looked at");
                    PAUSE
                }
            };
            while looks.try_join_next().is_some() {}
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
            }
        }
        looks.shutdown().await;
        let Parts { store, holder, .. } = &*self.0;
        if let Err(error) = store.give_lease_back("devices", holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the lease runs out by itself");
        }
    }

    /// Begins what is due, and waits for it.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<(), StoreError> {
        let mut looks = JoinSet::new();
        self.begin(&mut looks).await?;
        while looks.join_next().await.is_some() {}
        Ok(())
    }

    async fn begin(&self, looks: &mut JoinSet<()>) -> Result<(), StoreError> {
        let Parts { store, holder, .. } = &*self.0;
        if store.take_lease("devices", holder, LEASE).await?.is_none() {
            return Ok(());
        }
        for (device, sealed) in store.due_devices(64).await? {
            let Some(place) = Place::take(&self.0, device.ci) else { continue };
            looks.spawn(async move {
                if let Err(error) = place.parts.look(&device, &sealed).await {
                    {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, ci = %device.ci, "a device is looked at again");
                    }
                    // It is due still; nobody hammers at it because of us.
                    tokio::time::sleep(PAUSE).await;
                }
                drop(place);
            });
        }
        Ok(())
    }
}

/// A place among those that are looked at, given up when it is dropped.
struct Place {
    parts: Arc<Parts>,
    ci: CiId,
}

impl Place {
    fn take(parts: &Arc<Parts>, ci: CiId) -> Option<Self> {
        let mut busy = parts.busy.lock().unwrap_or_else(PoisonError::into_inner);
        (busy.len() < AT_ONCE && busy.insert(ci)).then(|| Self { parts: Arc::clone(parts), ci })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.parts.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.ci);
    }
}

impl Parts {
    async fn look(&self, device: &Device, sealed: &[u8]) -> Result<(), StoreError> {
        let looked = match self.see(device, sealed).await {
            Ok((model, seen)) => {
                self.record(device.ci, model, &seen.documents).await?;
                let told = |it: &devices::Refused| format!("{}: {}", it.path, it.because);
                let untold: Vec<_> = seen.refused.iter().map(told).collect();
                let untold = (!untold.is_empty()).then(|| untold.join("\n"));
                Looked::Seen { host_key: seen.host_key, untold }
            }
            Err(failed) => failed,
        };
        self.store.device_looked(device.ci, device.version, looked).await
    }

    /// What a device tells, or why it tells nothing.
    async fn see(&self, device: &Device, sealed: &[u8]) -> Result<(&'static Model, Look), Looked> {
        let failed = |reason: String| Looked::Failed { reason, offered: None };
        let settings = &device.settings;
        let model = Model::named(&settings.model).ok_or_else(|| {
            failed(format!("there is no model `{}` in this Patchwright", settings.model))
        })?;
        let opening = Opening::open(&self.vault, device.ci, sealed).ok_or_else(|| {
            failed("what opens it was sealed under another key: set it again".to_owned())
        })?;
        let target = Target {
            address: settings.address.clone(),
            port: settings.port,
            user: settings.user.clone(),
            credential: opening.credential,
            enable: opening.enable,
            host_key: device.host_key.clone().map_or(HostKey::FirstUse, HostKey::Pinned),
        };
        let key = FingerprintKey::for_item(&self.fingerprints, &device.ci.to_string());
        match self.eyes.look(model, &target, &key).await {
            Ok(seen) => Ok((model, seen)),
            Err(error) => {
                let mut reason = error.to_string();
                if let Some(cause) = std::error::Error::source(&error) {
                    reason = format!("{reason}: {cause}");
                }
                let offered = match error {
                    LookError::KeyDiffers { offered, .. } => Some(offered),
                    _ => None,
                };
                Err(Looked::Failed { reason, offered })
            }
        }
    }

    /// Records what is new in more than what alters by itself, and that documents of another model are gone.
    async fn record(
        &self,
        ci: CiId,
        model: &Model,
        documents: &[Document],
    ) -> Result<(), StoreError> {
        let (by, now) = (Actor::System, self.store.environment().now());
        let file = |path: FilePath, state: NewState| NewFile {
            path,
            state,
            observed_at: now,
            source: SOURCE.to_owned(),
            by: None,
            change: None,
        };
        let mut files = Vec::new();
        for document in documents {
            let path = FilePath::new(document.path())?;
            if self.is_noise(ci, model, &path, document).await? {
                continue;
            }
            let content = document.text().as_bytes().to_vec();
            let metadata = Metadata { mode: MODE, owner: String::new(), label: Vec::new() };
            files.push(file(path, NewState::Present { content, metadata }));
        }
        let mut is_first = true;
        if let Past::Kept(known) = self.history.manifest(&by, ci, now).await? {
            is_first = known.files.is_empty();
            let paths: BTreeSet<String> = model.paths().collect();
            for (path, version) in known.files {
                if version.source == SOURCE && !paths.contains(path.as_str()) {
                    files.push(file(path, NewState::Gone));
                }
            }
        }
        if is_first && !files.is_empty() {
            self.history.record(&by, ci, files).await?;
        } else if !files.is_empty() {
            // Nobody tells who configures a device, or when: what was agreed is known by what it says.
            let (looked_before, traces) = (None, BTreeMap::new());
            let telling = Telling { looked_before, evidence: Evidence::Complete, traces };
            self.history.record_told(&by, ci, files, telling).await?;
        }
        Ok(())
    }

    /// Whether a document differs from what was recorded last in nothing but what alters by itself.
    async fn is_noise(
        &self,
        ci: CiId,
        model: &Model,
        path: &FilePath,
        document: &Document,
    ) -> Result<bool, StoreError> {
        let now = self.store.environment().now();
        let Past::Kept(Some(known)) = self.history.file_at(&Actor::System, ci, path, now).await?
        else {
            return Ok(false);
        };
        let Some(before) = known.content.filter(|_| known.source == SOURCE) else {
            return Ok(false);
        };
        let subject = model.subject(path.as_str());
        let before = String::from_utf8_lossy(&before);
        Ok(Masks::built_in().only_volatile(&subject, &before, document.text()))
    }
}
