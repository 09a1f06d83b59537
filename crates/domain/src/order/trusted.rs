//! What an agent goes by, whatever its control plane says.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::said::{Handover, Order};
use super::versions::Versions;
use crate::change::{
    Action, CLOCK_TOLERANCE, KeyEvent, KeyId, KeyOrder, KeyRefusal, KeyRing, Kind, Nonce, PlanHash,
    Verified,
};
use crate::cloud::{AgentId, CiId, UserId, words};
use crate::version::VersionKind;

/// Most order keys that a provider has at a time.
pub(crate) const MOST_ORDER_KEYS: usize = 16;

words! {
    /// Whether the tenant has to have signed.
    Demand {
        /// Its consent to the plan, or a standing rule that covers it. Silence is no signature.
        Signature = "signature",
        /// Nothing of the tenant's; its later or no still counts.
        Nothing = "nothing",
    }
}

words! {
    /// Whose word a plan's priority is, where a standing rule is for some priorities only.
    Ranking {
        /// Nobody's that can be verified: a rule has to cover every priority.
        Unproven = "unproven",
        /// The provider's, as its order says.
        Provider = "provider",
    }
}

/// What must be signed before this host is altered. Pinned at joining: a server that says "no consent
/// needed" is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Before a patch.
    pub patches: Demand,
    /// Before a plan that writes files.
    pub alterations: Demand,
    /// Whether the provider is believed about priorities.
    pub ranking: Ranking,
}

/// What is pinned when a host joins, from a source that its owner trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pins {
    /// Who the agent is.
    pub agent: AgentId,
    /// Which item it speaks for.
    pub ci: CiId,
    /// How its package manager orders versions.
    pub versions: VersionKind,
    /// The keys with which the provider signs orders.
    pub order_keys: BTreeSet<KeyId>,
    /// Which version of them that is: the next one is what a handover may be to.
    pub order_key_version: u64,
    /// The keys with which the tenant signs, and whose they are.
    pub consent_keys: KeyRing,
    /// Where a passkey of the tenant signs: `https://cloud.example.org`. None of its passkeys counts
    /// where none is named.
    pub origins: BTreeSet<String>,
    /// What must be signed.
    pub terms: Terms,
}

/// What an agent goes by: the pins, and what it has seen since. Kept on the host, for its owner alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trusted {
    pub(super) agent: AgentId,
    pub(super) ci: CiId,
    pub(super) key_version: u64,
    pub(super) order_keys: BTreeSet<KeyId>,
    pub(super) consent_keys: KeyRing,
    pub(super) origins: BTreeSet<String>,
    pub(super) terms: Terms,
    /// Highest sequence of an accepted order.
    pub(super) sequence: u64,
    /// Latest `issued_at` of an accepted order.
    pub(super) issued_at: Timestamp,
    /// The latest time that this host is sure of.
    pub(super) seen_at: Timestamp,
    /// Nonces of accepted orders that have not expired, with their expiry.
    pub(super) nonces: BTreeMap<Nonce, Timestamp>,
    /// Stages of plans that were carried out and whose windows are not over.
    pub(super) done: BTreeSet<DoneStage>,
    /// Older than this no package becomes, whatever is installed now.
    pub(super) floors: Versions,
}

/// A stage that was carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct DoneStage {
    pub(super) plan: PlanHash,
    pub(super) stage: u32,
    /// The end of its window.
    pub(super) until: Timestamp,
}

/// Why the provider's order keys stay what they are.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoHandover {
    /// A key signed that is none of the order keys.
    #[error("the handover is signed by {key}, which is no order key of this agent")]
    Key {
        /// The key.
        key: KeyId,
    },
    /// It is not the next one: an old one again, or one is missing.
    #[error("the handover is to version {given} of the order keys, and version {next} is next")]
    Version {
        /// Its version.
        given: u64,
        /// The one that would follow.
        next: u64,
    },
    /// It leaves no key, or too many.
    #[error("the handover names {keys} keys; from 1 to {MOST_ORDER_KEYS} are taken")]
    Keys {
        /// How many.
        keys: usize,
    },
}

impl NoHandover {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Key { .. } => "sign with an order key in force, or let the host join again",
            Self::Version { .. } => "send the handovers one after another, none left out",
            Self::Keys { .. } => "name the keys that are to sign orders",
        }
    }
}

impl Terms {
    /// What a kind of change demands.
    pub const fn demand(&self, kind: Kind) -> Demand {
        match kind {
            Kind::Patch => self.patches,
            Kind::Alteration => self.alterations,
        }
    }
}

impl Trusted {
    /// What an agent goes by that joins now.
    pub fn join(pins: Pins, now: Timestamp) -> Self {
        let Pins {
            agent,
            ci,
            versions,
            order_keys,
            order_key_version,
            consent_keys,
            origins,
            terms,
        } = pins;
        Self {
            agent,
            ci,
            key_version: order_key_version,
            order_keys,
            consent_keys,
            origins,
            terms,
            sequence: 0,
            issued_at: Timestamp::MIN,
            seen_at: now,
            nonces: BTreeMap::new(),
            done: BTreeSet::new(),
            floors: Versions::none(versions),
        }
    }

    /// What it goes by once the host's owner pinned anew.
    ///
    /// Nothing is forgotten that protects against replays and downgrades: numbers, nonces, stages that
    /// were done, the clock, the oldest versions, and keys that count no more. Numbers are those of one
    /// agent: for another one, which a host is that joined again, they begin anew.
    #[must_use]
    pub fn repin(&self, pins: Pins) -> Self {
        let next = Self::join(pins, self.seen_at);
        let is_same = next.agent == self.agent;
        let kinds_agree = next.floors.kind() == self.floors.kind();
        Self {
            key_version: if is_same {
                next.key_version.max(self.key_version)
            } else {
                next.key_version
            },
            sequence: if is_same { self.sequence } else { next.sequence },
            issued_at: if is_same { self.issued_at } else { next.issued_at },
            consent_keys: next.consent_keys.mindful_of(&self.consent_keys),
            nonces: self.nonces.clone(),
            done: self.done.clone(),
            floors: if kinds_agree { self.floors.clone() } else { next.floors },
            ..next
        }
    }

    /// Who the agent is.
    pub const fn agent(&self) -> AgentId {
        self.agent
    }

    /// Which item it speaks for.
    pub const fn ci(&self) -> CiId {
        self.ci
    }

    /// The keys whose orders count.
    pub fn order_keys(&self) -> impl Iterator<Item = KeyId> {
        self.order_keys.iter().copied()
    }

    /// Which version of them that is.
    pub const fn order_key_version(&self) -> u64 {
        self.key_version
    }

    /// The tenant's keys, as far as the agent knows.
    pub const fn consent_keys(&self) -> &KeyRing {
        &self.consent_keys
    }

    /// Where a passkey of the tenant signs.
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.origins.iter().map(String::as_str)
    }

    /// What must be signed.
    pub const fn terms(&self) -> Terms {
        self.terms
    }

    /// Highest sequence of an accepted order; 0 before the first.
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Hands the order keys over to those that one of them names.
    ///
    /// # Errors
    /// If it is not signed by one of them, or not the next version.
    pub fn hand_over(&self, handover: &Verified<Handover>) -> Result<Self, NoHandover> {
        let Handover { version, keys } = handover.said();
        if !self.order_keys.contains(&handover.key()) {
            return Err(NoHandover::Key { key: handover.key() });
        }
        let next = self.key_version.saturating_add(1);
        if *version != next {
            return Err(NoHandover::Version { given: *version, next });
        }
        if keys.is_empty() || keys.len() > MOST_ORDER_KEYS {
            return Err(NoHandover::Keys { keys: keys.len() });
        }
        Ok(Self { key_version: next, order_keys: keys.clone(), ..self.clone() })
    }

    /// Learns what the tenant orders about its keys.
    ///
    /// # Errors
    /// If none of its keys in force signed it, or it was learnt before.
    pub fn learn(&self, order: Verified<KeyOrder>, now: Timestamp) -> Result<Self, KeyRefusal> {
        let (consent_keys, _) = self.consent_keys.step(KeyEvent::Ordered(order), now)?;
        Ok(Self { consent_keys, ..self.clone() })
    }

    /// Learns that the tenant took a key back. That needs no signature: it only makes less happen.
    ///
    /// # Errors
    /// If the key was never the tenant's, or was taken back before.
    pub fn forget_key(&self, key: KeyId, now: Timestamp) -> Result<Self, KeyRefusal> {
        // Who took it back is the tenant's record, not the agent's.
        let revoke = KeyEvent::Revoke { key, by: UserId::of_content([0; 16]) };
        let (consent_keys, _) = self.consent_keys.step(revoke, now)?;
        Ok(Self { consent_keys, ..self.clone() })
    }

    /// After all that an order says was done: none of its packages becomes older again, and no other
    /// order does this stage of the plan once more, however often the consent is shown.
    #[must_use]
    pub fn done(&self, order: &Order) -> Self {
        let mut next = self.clone();
        for action in &order.actions {
            let Action::Upgrade { packages } = action else { continue };
            for package in packages {
                next.floors.raise(&package.name, &package.architecture, &package.version);
            }
        }
        let past = next.seen_at.checked_sub(CLOCK_TOLERANCE).unwrap_or(Timestamp::MIN);
        next.done.retain(|stage| stage.until > past);
        let (plan, stage, until) = (order.plan, order.stage, order.window.until);
        next.done.insert(DoneStage { plan, stage, until });
        next
    }
}
