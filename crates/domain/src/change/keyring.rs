//! The keys with which a tenant signs, over time: registered, rotated, revoked, recovered.
//!
//! ```text
//!            register (an owner, once)          add, rotate (signed by a key in force)
//! no keys ────────────────────────────► keys ──────────────────────────────────────► keys
//!                                        │ revoke (an owner, or a key)
//!                                        ▼
//!              recover: two owners ask, time passes in which any key in force can object
//! ```
//!
//! A stolen session must not be enough to sign for a tenant. So an owner's session registers a key
//! only where there never was one; every later key needs an older key's signature, or two owners
//! and [`RECOVERY_WAIT`], of which all are told. Nor must it be enough to make a second owner: both
//! have been owners for as long before it was asked for, with a way in that nobody gave them meanwhile.
//!
//! What counts is the order in which things were recorded, never a comparison of times: a clock
//! that jumps brings no revoked key back.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::digest::{KeyId, Nonce};
use super::signed::{Payload, Verified};
use crate::cloud::{TenantId, UserId, words};

/// How long two owners wait until a key that they ask for without a signature is in force.
pub const RECOVERY_WAIT: SignedDuration = SignedDuration::from_hours(72);

/// Most keys of a tenant that are in force at a time.
pub const MOST_KEYS: usize = 64;

words! {
    /// What a key is.
    KeyKind {
        /// An Ed25519 key that the tenant keeps; it signs DSSE envelopes.
        Ed25519 = "ed25519",
        /// A passkey; its assertion's challenge is the payload's hash.
        Passkey = "passkey",
    }
}

/// A key as it is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// What it is.
    pub kind: KeyKind,
    /// Who holds it.
    pub holder: UserId,
}

/// A key, and whether it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// As it was registered.
    pub key: NewKey,
    /// Since when it counts.
    pub since: Timestamp,
    /// Why it counts no more.
    pub ended: Option<Ended>,
}

/// Why a key counts no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum Ended {
    /// Another took its place. What it signed before, and was received before, stays good.
    Rotation {
        /// When.
        at: Timestamp,
        /// The key in its place.
        to: KeyId,
    },
    /// It may be in wrong hands, or is lost: no consent that it signed starts anything any more.
    Revocation {
        /// When.
        at: Timestamp,
    },
}

/// A tenant's order about its keys, signed by one of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyOrder {
    /// Whose keys.
    pub tenant: TenantId,
    /// What is ordered.
    pub order: Order,
    /// Different in each order.
    pub nonce: Nonce,
}

/// What a signed order says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// A key beside the one that signs.
    Add {
        /// The key.
        key: NewKey,
    },
    /// A key in the place of the one that signs.
    Rotate {
        /// The key.
        key: NewKey,
    },
    /// A key that counts no more; it may be the one that signs.
    Revoke {
        /// The key.
        key: KeyId,
    },
}

impl Payload for KeyOrder {
    const KIND: &'static str = "urn:patchwright:key-order:v1";

    fn subject(&self) -> (String, [u8; 32]) {
        let (Order::Add { key: NewKey { id, .. } }
        | Order::Rotate { key: NewKey { id, .. } }
        | Order::Revoke { key: id }) = self.order;
        ("key".to_owned(), *id.as_bytes())
    }
}

/// What happens to a tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEvent {
    /// An owner registers the tenant's first key.
    Register {
        /// The key.
        key: NewKey,
        /// The owner.
        by: UserId,
    },
    /// A signed order comes in.
    Ordered(Verified<KeyOrder>),
    /// An owner takes a key back. That needs no signature: it only makes less happen.
    Revoke {
        /// The key.
        key: KeyId,
        /// The owner.
        by: UserId,
    },
    /// An owner asks for a key without a signature, or is the second one to ask for the same.
    AskRecovery {
        /// The key.
        key: NewKey,
        /// The owner.
        by: UserId,
        /// Since when they are an owner, by a way in that nobody else gave them since.
        owner_since: Timestamp,
    },
    /// An owner objects to the recovery.
    Object {
        /// The owner.
        by: UserId,
    },
    /// The waiting time is thought to be over.
    CompleteRecovery,
}

/// What follows from an event; `Record` stands in each list once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyEffect {
    /// To be recorded.
    Record {
        /// The ring's version after it.
        version: u64,
        /// What happened: `key.registered`.
        what: &'static str,
        /// The key that it is about, where it is about one.
        key: Option<KeyId>,
    },
    /// All owners and key holders of the tenant are told of the recovery.
    Warn {
        /// The key that is asked for.
        key: KeyId,
        /// When it comes into force, once two owners ask.
        completes_at: Option<Timestamp>,
    },
}

/// Why an event does not happen.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefusal {
    /// An owner alone registers the first key only.
    #[error("{tenant} has had {keys} keys: an owner alone registers the first one only")]
    NotFirst {
        /// The tenant.
        tenant: TenantId,
        /// How many keys it has had.
        keys: usize,
    },
    /// The key was registered once, and stays what it became.
    #[error("the key {key} is registered already")]
    Known {
        /// The key.
        key: KeyId,
    },
    /// Too many.
    #[error("{MOST_KEYS} keys are in force already")]
    TooMany,
    /// It does not count.
    #[error(transparent)]
    NotInForce(#[from] NotInForce),
    /// The order is of another tenant.
    #[error("the order is about keys of {given}, not of {expected}")]
    Tenant {
        /// Whose.
        given: TenantId,
        /// Whose keys these are.
        expected: TenantId,
    },
    /// The order came in before.
    #[error("an order with the nonce {nonce} came in before")]
    Replayed {
        /// Its nonce.
        nonce: Nonce,
    },
    /// Another key is being recovered.
    #[error("{asked} is asked for, and the recovery of {under_way} is under way")]
    OtherRecovery {
        /// The key asked for.
        asked: KeyId,
        /// The key of the recovery under way.
        under_way: KeyId,
    },
    /// One person is not two.
    #[error("{owner} has asked already; another owner has to")]
    SameOwner {
        /// The owner.
        owner: UserId,
    },
    /// No recovery is under way.
    #[error("no recovery is under way")]
    NoRecovery,
    /// The waiting time is not over.
    #[error("the recovery completes at {completes_at}, and it is {now}")]
    TooEarly {
        /// When it does.
        completes_at: Timestamp,
        /// When it was tried.
        now: Timestamp,
    },
    /// Whoever asks has not been an owner for long.
    #[error(
        "{owner} is an owner, or has this way in, only since {since}, and it was asked at {asked_at}"
    )]
    NewOwner {
        /// The owner.
        owner: UserId,
        /// Since when.
        since: Timestamp,
        /// When the key was first asked for.
        asked_at: Timestamp,
    },
    /// One owner has asked so far.
    #[error("{owner} alone asks for the recovery; another owner has to")]
    OneOwner {
        /// The owner.
        owner: UserId,
    },
}

impl KeyRefusal {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::NotFirst { .. } => {
                "sign an order with a key in force, or recover with two owners"
            }
            Self::Known { .. } => "make a new key",
            Self::TooMany => "revoke those that nobody uses",
            Self::NotInForce(error) => error.help(),
            Self::Tenant { .. } => "sign as the tenant whose keys these are",
            Self::Replayed { .. } => "sign a new order",
            Self::OtherRecovery { .. } => "object to the other recovery first, if it is wrong",
            Self::SameOwner { .. } | Self::OneOwner { .. } => "have another owner ask for the key",
            Self::NewOwner { .. } => {
                "have owners ask who are owners for 72 hours, and were not reset meanwhile"
            }
            Self::NoRecovery => "have an owner ask for it",
            Self::TooEarly { .. } => "wait; whoever holds a key in force can object meanwhile",
        }
    }
}

/// Why a key does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotInForce {
    /// The tenant never registered it.
    #[error("the key {key} is none of the tenant's")]
    Unknown {
        /// The key.
        key: KeyId,
    },
    /// Another took its place.
    #[error("the key {key} was rotated to {to} at {at}")]
    Rotated {
        /// The key.
        key: KeyId,
        /// When.
        at: Timestamp,
        /// The key in its place.
        to: KeyId,
    },
    /// It was taken back.
    #[error("the key {key} was revoked at {at}")]
    Revoked {
        /// The key.
        key: KeyId,
        /// When.
        at: Timestamp,
    },
}

impl NotInForce {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Unknown { .. } => "register the key first",
            Self::Rotated { .. } | Self::Revoked { .. } => "sign with a key in force",
        }
    }
}

/// A tenant's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRing {
    tenant: TenantId,
    version: u64,
    keys: BTreeMap<KeyId, Key>,
    nonces: BTreeSet<Nonce>,
    recovery: Option<Recovery>,
}

/// A key that is asked for without a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// The key.
    pub key: NewKey,
    /// The owner who asked first.
    pub asked_by: UserId,
    /// When they did; not known where that was before it was kept.
    #[serde(default)]
    pub asked_at: Option<Timestamp>,
    /// The owner who asked for the same.
    #[serde(default)]
    pub agreed_by: Option<UserId>,
    /// When it can come into force, once two owners asked.
    pub completes_at: Option<Timestamp>,
}

impl KeyRing {
    /// Without any key.
    pub const fn new(tenant: TenantId) -> Self {
        Self { tenant, version: 0, keys: BTreeMap::new(), nonces: BTreeSet::new(), recovery: None }
    }

    /// Whose keys these are.
    pub const fn tenant(&self) -> TenantId {
        self.tenant
    }

    /// How often it was altered.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// All keys that ever were, by their ids.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values()
    }

    /// The recovery that is under way.
    pub const fn recovery(&self) -> Option<&Recovery> {
        self.recovery.as_ref()
    }

    /// With some of its keys only. What came in before stays known, so that no order about a key that
    /// is left out brings it back.
    #[must_use]
    pub fn keeping(mut self, is_kept: impl Fn(&Key) -> bool) -> Self {
        // The id in front is what keys are looked up by: of foreign bytes it may be another one.
        self.keys.retain(|id, key| *id == key.key.id && is_kept(key));
        self
    }

    /// With what another ring of the same tenant knows: orders that came in, and keys that count no
    /// more. Of two rings that say different things of a key, none brings it back.
    #[must_use]
    pub fn mindful_of(mut self, other: &Self) -> Self {
        if self.tenant != other.tenant {
            return self;
        }
        self.nonces.extend(&other.nonces);
        for (id, known) in other.keys.iter().filter(|(_, known)| known.ended.is_some()) {
            let is_revoked = |key: &Key| matches!(key.ended, Some(Ended::Revocation { .. }));
            match self.keys.get(id) {
                Some(ours) if is_revoked(ours) => {}
                _ => drop(self.keys.insert(*id, *known)),
            }
        }
        self
    }

    /// A key that counts now.
    ///
    /// # Errors
    /// Why it does not.
    pub fn in_force(&self, key: KeyId) -> Result<&Key, NotInForce> {
        let known = self.keys.get(&key).ok_or(NotInForce::Unknown { key })?;
        match known.ended {
            None => Ok(known),
            Some(Ended::Rotation { at, to }) => Err(NotInForce::Rotated { key, at, to }),
            Some(Ended::Revocation { at }) => Err(NotInForce::Revoked { key, at }),
        }
    }

    /// When a key was taken back, so that nothing it signed starts anything any more. A key that
    /// was never registered counts as taken back at the beginning of time.
    pub fn revoked_at(&self, key: KeyId) -> Option<Timestamp> {
        match self.keys.get(&key) {
            None => Some(Timestamp::MIN),
            Some(Key { ended: Some(Ended::Revocation { at }), .. }) => Some(*at),
            Some(_) => None,
        }
    }

    /// The keys after an event.
    ///
    /// # Errors
    /// If it may not happen; the keys stay as they are, and the refusal is to be recorded.
    pub fn step(
        &self,
        event: KeyEvent,
        now: Timestamp,
    ) -> Result<(Self, Vec<KeyEffect>), KeyRefusal> {
        let mut next = self.clone();
        next.version += 1;
        let mut effects = Vec::new();
        let (what, key) = next.take(event, now, &mut effects)?;
        effects.insert(0, KeyEffect::Record { version: next.version, what, key });
        Ok((next, effects))
    }

    fn take(
        &mut self,
        event: KeyEvent,
        now: Timestamp,
        effects: &mut Vec<KeyEffect>,
    ) -> Result<(&'static str, Option<KeyId>), KeyRefusal> {
        match event {
            KeyEvent::Register { key, by: _ } => {
                let keys = self.keys.len();
                if keys > 0 {
                    return Err(KeyRefusal::NotFirst { tenant: self.tenant, keys });
                }
                self.enter(key, now)?;
                // Whoever asked without a signature has one to ask with now.
                self.recovery = None;
                Ok(("key.registered", Some(key.id)))
            }
            KeyEvent::Ordered(order) => self.obey(&order, now),
            KeyEvent::Revoke { key, by: _ } => {
                self.end(key, Ended::Revocation { at: now })?;
                Ok(("key.revoked", Some(key)))
            }
            KeyEvent::AskRecovery { key, by, owner_since } => {
                let recovery = self.ask(key, (by, owner_since), now)?;
                let completes_at = recovery.completes_at;
                effects.push(KeyEffect::Warn { key: key.id, completes_at });
                let is_second = completes_at.is_some();
                let what = if is_second { "key.recovery_agreed" } else { "key.recovery_asked" };
                Ok((what, Some(key.id)))
            }
            KeyEvent::Object { by: _ } => {
                let recovery = self.recovery.take().ok_or(KeyRefusal::NoRecovery)?;
                Ok(("key.recovery_stopped", Some(recovery.key.id)))
            }
            KeyEvent::CompleteRecovery => {
                let key = self.complete(now)?;
                Ok(("key.recovered", Some(key)))
            }
        }
    }

    fn obey(
        &mut self,
        order: &Verified<KeyOrder>,
        now: Timestamp,
    ) -> Result<(&'static str, Option<KeyId>), KeyRefusal> {
        let KeyOrder { tenant, order: said, nonce } = *order.said();
        if tenant != self.tenant {
            return Err(KeyRefusal::Tenant { given: tenant, expected: self.tenant });
        }
        self.in_force(order.key())?;
        if !self.nonces.insert(nonce) {
            return Err(KeyRefusal::Replayed { nonce });
        }
        // A key in force speaks: whoever asked for a recovery because keys are lost was wrong, or
        // is a thief.
        self.recovery = None;
        match said {
            Order::Add { key } => {
                self.enter(key, now)?;
                Ok(("key.added", Some(key.id)))
            }
            Order::Rotate { key } => {
                self.end(order.key(), Ended::Rotation { at: now, to: key.id })?;
                self.enter(key, now)?;
                Ok(("key.rotated", Some(key.id)))
            }
            Order::Revoke { key } => {
                self.end(key, Ended::Revocation { at: now })?;
                Ok(("key.revoked", Some(key)))
            }
        }
    }

    fn ask(
        &mut self,
        key: NewKey,
        (by, owner_since): (UserId, Timestamp),
        now: Timestamp,
    ) -> Result<Recovery, KeyRefusal> {
        if self.keys.contains_key(&key.id) {
            return Err(KeyRefusal::Known { key: key.id });
        }
        let recovery = match self.recovery {
            None => Recovery {
                key,
                asked_by: by,
                asked_at: Some(now),
                agreed_by: None,
                completes_at: None,
            },
            Some(recovery) if recovery.key != key => {
                let under_way = recovery.key.id;
                return Err(KeyRefusal::OtherRecovery { asked: key.id, under_way });
            }
            Some(recovery) if recovery.asked_by == by || recovery.completes_at.is_some() => {
                return Err(KeyRefusal::SameOwner { owner: by });
            }
            // Beyond the end of time it never completes.
            Some(recovery) => Recovery {
                agreed_by: Some(by),
                completes_at: Some(now.checked_add(RECOVERY_WAIT).unwrap_or(Timestamp::MAX)),
                ..recovery
            },
        };
        // Whoever stole an owner's session can make or reset another owner, and be both.
        let asked_at = recovery.asked_at.unwrap_or(now);
        if owner_since.checked_add(RECOVERY_WAIT).is_ok_and(|steady| asked_at < steady) {
            return Err(KeyRefusal::NewOwner { owner: by, since: owner_since, asked_at });
        }
        self.recovery = Some(recovery);
        Ok(recovery)
    }

    fn complete(&mut self, now: Timestamp) -> Result<KeyId, KeyRefusal> {
        let Some(Recovery { key, asked_by, completes_at, .. }) = self.recovery else {
            return Err(KeyRefusal::NoRecovery);
        };
        let Some(completes_at) = completes_at else {
            return Err(KeyRefusal::OneOwner { owner: asked_by });
        };
        if now < completes_at {
            return Err(KeyRefusal::TooEarly { completes_at, now });
        }
        // Lost keys may turn up in wrong hands.
        for known in self.keys.values_mut().filter(|known| known.ended.is_none()) {
            known.ended = Some(Ended::Revocation { at: now });
        }
        self.recovery = None;
        self.enter(key, now)?;
        Ok(key.id)
    }

    fn enter(&mut self, key: NewKey, now: Timestamp) -> Result<(), KeyRefusal> {
        if self.keys.contains_key(&key.id) {
            return Err(KeyRefusal::Known { key: key.id });
        }
        if self.keys.values().filter(|known| known.ended.is_none()).count() >= MOST_KEYS {
            return Err(KeyRefusal::TooMany);
        }
        self.keys.insert(key.id, Key { key, since: now, ended: None });
        Ok(())
    }

    /// A rotated key can still be revoked: it turns out later that it was stolen.
    fn end(&mut self, key: KeyId, ended: Ended) -> Result<(), KeyRefusal> {
        let known = self.keys.get_mut(&key).ok_or(NotInForce::Unknown { key })?;
        match (known.ended, ended) {
            (Some(Ended::Revocation { at }), _) => Err(NotInForce::Revoked { key, at }.into()),
            (Some(Ended::Rotation { at, to }), Ended::Rotation { .. }) => {
                Err(NotInForce::Rotated { key, at, to }.into())
            }
            _ => {
                known.ended = Some(ended);
                Ok(())
            }
        }
    }
}
