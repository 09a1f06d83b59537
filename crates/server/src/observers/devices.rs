//! Devices that are looked at over SSH: they are asked what they are configured by, and what is new in more than what
//! alters by itself is recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::pin::Pin;

use devices::{Credential, Document, HostKey, Limits, Look, LookError, Model, Secret, Target};
use domain::cloud::CiId;
use domain::configuration::mask::Masks;
use domain::configuration::secret::FingerprintKey;
use domain::configuration::verdict::Evidence;
use serde::{Deserialize, Serialize};
use store::{
    Actor, Device, FilePath, Looked, Metadata, NewState, Past, StoreError, Telling, Vault,
};

use super::{Parts, Told};

/// Who says what documents are.
const SOURCE: &str = "ssh";

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

impl Parts {
    pub(super) async fn look_at_device(
        &self,
        device: &Device,
        sealed: &[u8],
    ) -> Result<(), StoreError> {
        let looked = match self.see_device(device, sealed).await {
            Ok((model, seen)) => {
                self.record_device(device.ci, model, &seen.documents).await?;
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
    async fn see_device(
        &self,
        device: &Device,
        sealed: &[u8],
    ) -> Result<(&'static Model, Look), Looked> {
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
    async fn record_device(
        &self,
        ci: CiId,
        model: &Model,
        documents: &[Document],
    ) -> Result<(), StoreError> {
        let (by, now) = (Actor::System, self.store.environment().now());
        let told = Told { at: now, source: SOURCE.to_owned(), by: None };
        let mut files = Vec::new();
        for document in documents {
            let path = FilePath::new(document.path())?;
            if self.is_noise(ci, model, &path, document).await? {
                continue;
            }
            let content = document.text().as_bytes().to_vec();
            let metadata = Metadata { mode: MODE, owner: String::new(), label: Vec::new() };
            files.push(told.file(path, NewState::Present { content, metadata }));
        }
        let mut is_first = true;
        if let Past::Kept(known) = self.history.manifest(&by, ci, now).await? {
            is_first = known.files.is_empty();
            let paths: BTreeSet<String> = model.paths().collect();
            for (path, version) in known.files {
                if version.source == SOURCE && !paths.contains(path.as_str()) {
                    files.push(told.file(path, NewState::Gone));
                }
            }
        }
        // Nobody tells who configures a device, or when: what was agreed is known by what it says.
        let (looked_before, traces) = (None, BTreeMap::new());
        let telling = Telling { looked_before, evidence: Evidence::Complete, traces };
        self.record(ci, files, (!is_first).then_some(telling)).await
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
