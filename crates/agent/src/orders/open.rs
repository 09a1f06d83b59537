//! Opens what came with an order, with the keys that are pinned and no others.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::change::{FileHash, KeyId, KeyKind, Payload, StandingRule, Statement, Verified};
use domain::order::{Bundle, Carried, LARGEST_CONTENT, Refusal, Trusted};
use jiff::Timestamp;
use ledger::attestation::{self, AttestorKey};
use ledger::passkey::{self, PasskeyKey, Site};
use sha2::{Digest as _, Sha256};

/// Largest bundle that is opened, in bytes of all its parts.
const LARGEST_BUNDLE: usize = 64 << 20;
/// Most envelopes of a kind, and most public keys.
const MOST: usize = 256;

/// An order with what came with it, and what the agent goes by after what was said about keys.
#[derive(Debug)]
pub struct Opened<'a> {
    /// To be judged.
    pub carried: Carried<'a>,
    /// With the keys that were handed over, added, rotated or revoked. It holds whatever becomes of the
    /// order.
    pub trusted: Trusted,
}

/// Public keys that came along. Each counts only under its own hash, where that is pinned.
struct Keys {
    attestors: Vec<(KeyId, AttestorKey)>,
    passkeys: Vec<(KeyId, PasskeyKey)>,
}

/// Opens a bundle.
///
/// # Errors
/// [`Refusal::Envelope`] if none of the pinned keys signed the order, or it is too large.
pub fn open<'a>(
    bundle: &'a Bundle,
    trusted: &Trusted,
    now: Timestamp,
) -> Result<Opened<'a>, Refusal> {
    check_size(bundle)?;
    let keys = Keys::read(&bundle.public_keys);
    let trusted = learn(bundle, trusted, &keys, now);
    let pinned: Vec<_> = trusted.order_keys().collect();
    let order =
        keys.open(&bundle.order, &pinned).map_err(|because| Refusal::Envelope { because })?;
    let mut unopened = Vec::new();
    let mut consents = Vec::new();
    for envelope in &bundle.consents {
        match keys.open_tenants::<Statement>(envelope, &trusted) {
            Ok(statement) => consents.push(statement),
            Err(because) => unopened.push(format!("a consent does not count: {because}")),
        }
    }
    let mut rules = Vec::new();
    for envelope in &bundle.rules {
        match keys.open_tenants::<StandingRule>(envelope, &trusted) {
            Ok(rule) => rules.push(rule),
            Err(because) => unopened.push(format!("a standing rule does not count: {because}")),
        }
    }
    let plan = bundle.plan.as_bytes();
    let carried = Carried { order, plan, consents, rules, unopened, contents: sent(bundle)? };
    Ok(Opened { carried, trusted })
}

/// Contents of files, each under its own hash: whatever it was sent for, it counts for nothing else.
fn sent(bundle: &Bundle) -> Result<BTreeMap<FileHash, Vec<u8>>, Refusal> {
    let refuse = |because: String| Refusal::Envelope { because };
    let mut contents = BTreeMap::new();
    for text in &bundle.contents {
        let bytes = BASE64_STANDARD.decode(text);
        let bytes = bytes.map_err(|error| refuse(format!("a content is no base64: {error}")))?;
        if bytes.len() > LARGEST_CONTENT {
            let size = bytes.len();
            return Err(refuse(format!("a content has {size} bytes, more than {LARGEST_CONTENT}")));
        }
        contents.insert(<[u8; 32]>::from(Sha256::digest(&bytes)).into(), bytes);
    }
    Ok(contents)
}

fn check_size(bundle: &Bundle) -> Result<(), Refusal> {
    let lists = [
        &bundle.consents,
        &bundle.rules,
        &bundle.public_keys,
        &bundle.key_orders,
        &bundle.handovers,
        &bundle.contents,
    ];
    let refuse = |because: String| Err(Refusal::Envelope { because });
    let most = lists.iter().map(|list| list.len()).chain([bundle.revoked.len()]).max();
    if let Some(parts) = most.filter(|parts| *parts > MOST) {
        return refuse(format!("{parts} parts of a kind came with it, more than {MOST}"));
    }
    let parts = lists.into_iter().flatten().map(String::len).sum::<usize>();
    let size = parts + bundle.order.len() + bundle.plan.len();
    if size > LARGEST_BUNDLE {
        return refuse(format!("it has {size} bytes, more than {LARGEST_BUNDLE}"));
    }
    Ok(())
}

/// All that was said about keys, in its order. What was learnt before, or does not hold, alters nothing.
fn learn(bundle: &Bundle, trusted: &Trusted, keys: &Keys, now: Timestamp) -> Trusted {
    let mut trusted = trusted.clone();
    for envelope in &bundle.handovers {
        let pinned: Vec<_> = trusted.order_keys().collect();
        let next = keys.open(envelope, &pinned).ok().map(|said| trusted.hand_over(&said));
        if let Some(Ok(next)) = next {
            trusted = next;
        }
    }
    for envelope in &bundle.key_orders {
        let next = keys.open_tenants(envelope, &trusted).ok().map(|said| trusted.learn(said, now));
        if let Some(Ok(next)) = next {
            trusted = next;
        }
    }
    for key in &bundle.revoked {
        if let Ok(next) = trusted.forget_key(*key, now) {
            trusted = next;
        }
    }
    trusted
}

impl Keys {
    fn read(pems: &[String]) -> Self {
        let attestor = |pem: &String| {
            let key: AttestorKey = pem.parse().ok()?;
            Some((KeyId::from(key.id_bytes()), key))
        };
        let passkey = |pem: &String| {
            let key: PasskeyKey = pem.parse().ok()?;
            Some((key.id().parse().ok()?, key))
        };
        Self {
            attestors: pems.iter().filter_map(attestor).collect(),
            passkeys: pems.iter().filter_map(passkey).collect(),
        }
    }

    /// What one of the pinned keys signed in a DSSE envelope.
    fn open<T: Payload>(&self, envelope: &str, pinned: &[KeyId]) -> Result<Verified<T>, String> {
        let trusted: Vec<_> = self
            .attestors
            .iter()
            .filter(|(id, _)| pinned.contains(id))
            .map(|(_, key)| key.clone())
            .collect();
        let opened =
            attestation::open(envelope.as_bytes(), &trusted).map_err(|it| it.to_string())?;
        let key = KeyId::from(opened.key.id_bytes());
        Verified::signed_by(key, &opened.payload).map_err(|error| error.to_string())
    }

    /// What one of the tenant's keys signed, each kind of key in its own way.
    fn open_tenants<T: Payload>(
        &self,
        envelope: &str,
        trusted: &Trusted,
    ) -> Result<Verified<T>, String> {
        let of_kind = |kind: KeyKind| -> Vec<KeyId> {
            let ours = trusted.consent_keys().keys().filter(move |key| key.key.kind == kind);
            ours.map(|key| key.key.id).collect()
        };
        if !passkey::is_envelope(envelope.as_bytes()) {
            return self.open(envelope, &of_kind(KeyKind::Ed25519));
        }
        let pinned = of_kind(KeyKind::Passkey);
        let keys: Vec<_> = self
            .passkeys
            .iter()
            .filter(|(id, _)| pinned.contains(id))
            .map(|(_, key)| key.clone())
            .collect();
        let sites: Vec<_> = trusted.origins().filter_map(|origin| Site::at(origin).ok()).collect();
        let opened =
            passkey::open(envelope.as_bytes(), &keys, &sites).map_err(|it| it.to_string())?;
        let key = opened.key.id().parse().map_err(|_| "its key has no id".to_owned())?;
        Verified::signed_by(key, &opened.payload).map_err(|error| error.to_string())
    }
}
