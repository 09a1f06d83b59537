//! What a host's owner makes of what a control plane offers to pin.
//!
//! An offer is a proposal: the owner's word is stronger. Where they say nothing, what is pinned is what is
//! offered, and never asks for less than what was pinned before.

use std::collections::BTreeSet;

use crate::agent::PinsOffered;
use crate::change::{Key, KeyId};
use crate::cloud::{AgentId, CiId, TenantId};
use crate::order::{Demand, MOST_ORDER_KEYS, Pins, Ranking, Terms, Trusted};
use crate::version::VersionKind;

/// What the host's owner says about it. Nothing said takes what is offered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnersWord {
    /// Whether a patch needs the tenant's signature. If one is demanded, an alteration needs it as well.
    pub consent: Option<Demand>,
    /// Whether the provider is believed about priorities. It is not, where nothing is said.
    pub ranking: Option<Ranking>,
    /// The tenant's keys, by their ids: these and no others. Whichever are offered, where there are none.
    pub consent_keys: BTreeSet<KeyId>,
    /// The provider's order keys, likewise.
    pub order_keys: BTreeSet<KeyId>,
}

/// The host that pins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Host {
    /// Who its agent is.
    pub agent: AgentId,
    /// Which item it speaks for.
    pub ci: CiId,
    /// How its package manager orders versions.
    pub versions: VersionKind,
}

/// Whose keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Those that sign orders.
    Provider,
    /// Those that sign consents.
    Tenant,
}

/// Why nothing is pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotPinned {
    /// The owner named keys that are not offered, or count no more.
    #[error(
        "{} not among the {} that the control plane offers ({})",
        listed(.missing, "is", "are"), .side.keys(), all_of(.offered)
    )]
    OtherKeys {
        /// Whose keys.
        side: Side,
        /// Named and not offered.
        missing: Vec<KeyId>,
        /// Those in force that are offered.
        offered: Vec<KeyId>,
    },
    /// Nobody could sign an order.
    #[error("the control plane offers no key that signs orders")]
    NoOrderKey,
    /// More keys than a provider has.
    #[error(
        "the control plane offers {keys} keys that sign orders; up to {MOST_ORDER_KEYS} are pinned"
    )]
    TooManyOrderKeys {
        /// How many.
        keys: usize,
    },
    /// The keys are another tenant's than before.
    #[error("the control plane offers keys of {given}, and this agent works for {ours}")]
    Tenant {
        /// Whose they are.
        given: TenantId,
        /// Whose were pinned.
        ours: TenantId,
    },
}

impl Side {
    const fn keys(self) -> &'static str {
        match self {
            Self::Provider => "order keys",
            Self::Tenant => "keys of the tenant",
        }
    }
}

impl NotPinned {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::OtherKeys { side: Side::Provider, .. } => {
                "compare the ids with the provider over a way that you trust, and name those with --order-key"
            }
            Self::OtherKeys { side: Side::Tenant, .. } => {
                "compare the ids with `patchwright consent key list`, and name those with --consent-key"
            }
            Self::NoOrderKey => "pin once the provider signs orders: `patchwright agent pin`",
            Self::TooManyOrderKeys { .. } => "name those that count with --order-key",
            Self::Tenant { .. } => "let the host join again, with a token of its tenant",
        }
    }
}

/// What is pinned of an offer. `before` is what the same agent went by so far.
///
/// # Errors
/// If the owner named keys that are not offered, or nobody could sign an order. Then nothing is pinned.
pub fn pins(
    host: Host,
    offer: PinsOffered,
    word: &OwnersWord,
    before: Option<&Trusted>,
) -> Result<Pins, NotPinned> {
    let PinsOffered { order_keys, order_key_version, consent_keys, origins, terms } = offer;
    if let Some(before) = before {
        let (given, ours) = (consent_keys.tenant(), before.consent_keys().tenant());
        if given != ours {
            return Err(NotPinned::Tenant { given, ours });
        }
    }
    let order_keys = named(&word.order_keys, order_keys, Side::Provider)?;
    match order_keys.len() {
        0 => return Err(NotPinned::NoOrderKey),
        keys if keys > MOST_ORDER_KEYS => return Err(NotPinned::TooManyOrderKeys { keys }),
        _ => {}
    }
    let in_force = consent_keys.keys().filter(|key| key.ended.is_none()).map(|key| key.key.id);
    let kept = named(&word.consent_keys, in_force.collect(), Side::Tenant)?;
    let consent_keys =
        consent_keys.keeping(|key: &Key| key.ended.is_some() || kept.contains(&key.key.id));
    let terms = agreed(terms, word, before.map(Trusted::terms));
    let Host { agent, ci, versions } = host;
    Ok(Pins { agent, ci, versions, order_keys, order_key_version, consent_keys, origins, terms })
}

/// Exactly the keys that are named; those that are offered where none is.
fn named(
    named: &BTreeSet<KeyId>,
    offered: BTreeSet<KeyId>,
    side: Side,
) -> Result<BTreeSet<KeyId>, NotPinned> {
    if named.is_empty() {
        return Ok(offered);
    }
    let missing: Vec<_> = named.difference(&offered).copied().collect();
    if missing.is_empty() {
        return Ok(named.clone());
    }
    Err(NotPinned::OtherKeys { side, missing, offered: offered.into_iter().collect() })
}

fn agreed(offered: Terms, word: &OwnersWord, before: Option<Terms>) -> Terms {
    let stricter = |offered, before: Option<Demand>| match (offered, before) {
        (Demand::Nothing, None | Some(Demand::Nothing)) => Demand::Nothing,
        _ => Demand::Signature,
    };
    let alterations = match word.consent {
        Some(Demand::Signature) => Demand::Signature,
        Some(Demand::Nothing) => offered.alterations,
        None => stricter(offered.alterations, before.map(|it| it.alterations)),
    };
    let patches = word.consent;
    Terms {
        patches: patches.unwrap_or(stricter(offered.patches, before.map(|it| it.patches))),
        alterations,
        ranking: word.ranking.or(before.map(|it| it.ranking)).unwrap_or(Ranking::Unproven),
    }
}

fn listed(keys: &[KeyId], is: &str, are: &str) -> String {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    format!("{} {}", keys.join(", "), if keys.len() == 1 { is } else { are })
}

fn all_of(keys: &[KeyId]) -> String {
    if keys.is_empty() {
        return "none".to_owned();
    }
    keys.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::change::{
        KeyEvent, KeyKind, KeyOrder, KeyRing, NewKey, Order, Payload as _, Verified,
    };
    use crate::cloud::{Id, IdKind};

    fn id<K: IdKind>(number: u8) -> Id<K> {
        Id::of_content([number; 16])
    }

    fn key(number: u8) -> KeyId {
        KeyId::from([number; 32])
    }

    fn ids(numbers: &[u8]) -> BTreeSet<KeyId> {
        numbers.iter().map(|number| key(*number)).collect()
    }

    /// A tenant's keys 20 and 21, of which 20 is older, and the order that added 21.
    fn ring() -> (KeyRing, Verified<KeyOrder>) {
        let new_key = |number| NewKey { id: key(number), kind: KeyKind::Ed25519, holder: id(1) };
        let register = KeyEvent::Register { key: new_key(20), by: id(1) };
        let add = Order::Add { key: new_key(21) };
        let add = KeyOrder { tenant: id(2), order: add, nonce: [1; 16].into() };
        let add = Verified::<KeyOrder>::signed_by(key(20), &add.to_payload()).unwrap();
        let ring = KeyRing::new(id(2)).step(register, Timestamp::UNIX_EPOCH).unwrap().0;
        let added = ring.step(KeyEvent::Ordered(add.clone()), Timestamp::UNIX_EPOCH).unwrap();
        (added.0, add)
    }

    fn offer(patches: Demand) -> PinsOffered {
        let terms = Terms { patches, alterations: patches, ranking: Ranking::Provider };
        let (consent_keys, _) = ring();
        PinsOffered {
            order_keys: ids(&[10, 11]),
            order_key_version: 4,
            consent_keys,
            origins: [].into(),
            terms,
        }
    }

    fn host() -> Host {
        Host { agent: id(5), ci: id(3), versions: VersionKind::Dpkg }
    }

    fn pin(offer: PinsOffered, word: &OwnersWord) -> Result<Pins, NotPinned> {
        pins(host(), offer, word, None)
    }

    fn in_force(keys: &KeyRing) -> BTreeSet<KeyId> {
        keys.keys().filter(|it| it.ended.is_none()).map(|it| it.key.id).collect()
    }

    #[test]
    fn what_the_owner_does_not_speak_of_is_as_offered_but_for_priorities() {
        for demand in [Demand::Signature, Demand::Nothing] {
            let pins = pin(offer(demand), &OwnersWord::default()).unwrap();

            assert_eq!(pins.order_keys, ids(&[10, 11]));
            assert_eq!(pins.order_key_version, 4);
            assert_eq!(in_force(&pins.consent_keys), ids(&[20, 21]));
            let ranking = Ranking::Unproven;
            assert_eq!(pins.terms, Terms { patches: demand, alterations: demand, ranking });
        }
    }

    #[test]
    fn the_owners_word_is_stronger_than_the_offer() {
        let said = |consent, offered| {
            let word = OwnersWord { consent: Some(consent), ..OwnersWord::default() };
            let Terms { patches, alterations, .. } = pin(offer(offered), &word).unwrap().terms;
            [patches, alterations]
        };
        let (signature, nothing) = (Demand::Signature, Demand::Nothing);

        assert_eq!(said(signature, nothing), [signature, signature]);
        assert_eq!(said(nothing, signature), [nothing, signature], "alterations need more");
        assert_eq!(said(nothing, nothing), [nothing, nothing]);
        let word = OwnersWord { ranking: Some(Ranking::Provider), ..OwnersWord::default() };
        assert_eq!(pin(offer(signature), &word).unwrap().terms.ranking, Ranking::Provider);
    }

    #[test]
    fn keys_that_are_named_are_pinned_and_no_others() {
        let word = OwnersWord {
            consent_keys: ids(&[20]),
            order_keys: ids(&[11]),
            ..OwnersWord::default()
        };
        let pins = pin(offer(Demand::Signature), &word).unwrap();
        assert_eq!((in_force(&pins.consent_keys), pins.order_keys), (ids(&[20]), ids(&[11])));
        // The order that added the other one is known, and brings it back for nobody.
        let (_, add) = ring();
        let again = pins.consent_keys.step(KeyEvent::Ordered(add), Timestamp::UNIX_EPOCH);
        assert!(again.is_err());

        let word = OwnersWord { consent_keys: ids(&[20, 99]), ..OwnersWord::default() };
        let error = pin(offer(Demand::Signature), &word).unwrap_err();
        let (missing, offered) = (vec![key(99)], vec![key(20), key(21)]);
        let side = Side::Tenant;
        assert_eq!(error, NotPinned::OtherKeys { side, missing, offered });
        assert!(error.to_string().starts_with(&key(99).to_string()), "{error}");

        let word = OwnersWord { order_keys: ids(&[12]), ..OwnersWord::default() };
        let error = pin(offer(Demand::Signature), &word).unwrap_err();
        assert!(matches!(error, NotPinned::OtherKeys { side: Side::Provider, .. }), "{error}");
    }

    #[test]
    fn a_key_that_counts_no_more_is_not_what_the_owner_named() {
        let mut offered = offer(Demand::Signature);
        let revoke = KeyEvent::Revoke { key: key(21), by: id(1) };
        offered.consent_keys = offered.consent_keys.step(revoke, Timestamp::UNIX_EPOCH).unwrap().0;
        let word = OwnersWord { consent_keys: ids(&[21]), ..OwnersWord::default() };

        assert!(matches!(pin(offered, &word), Err(NotPinned::OtherKeys { .. })));
    }

    #[test]
    fn an_offer_without_order_keys_or_with_a_flood_of_them_is_none() {
        let bare = PinsOffered { order_keys: [].into(), ..offer(Demand::Signature) };
        assert_eq!(pin(bare, &OwnersWord::default()), Err(NotPinned::NoOrderKey));
        let numbers: Vec<u8> = (0..=16).collect();
        let flood = PinsOffered { order_keys: ids(&numbers), ..offer(Demand::Signature) };
        assert_eq!(
            pin(flood, &OwnersWord::default()),
            Err(NotPinned::TooManyOrderKeys { keys: 17 })
        );
    }

    #[test]
    fn pinning_anew_asks_for_less_only_if_the_owner_says_so() {
        let first = pin(
            offer(Demand::Signature),
            &OwnersWord { ranking: Some(Ranking::Provider), ..OwnersWord::default() },
        );
        let before = Trusted::join(first.unwrap(), Timestamp::UNIX_EPOCH);
        let again = |word: &OwnersWord| {
            pins(host(), offer(Demand::Nothing), word, Some(&before)).unwrap().terms
        };

        assert_eq!(again(&OwnersWord::default()), before.terms());
        let word = OwnersWord { consent: Some(Demand::Nothing), ..OwnersWord::default() };
        let (patches, alterations) = (Demand::Nothing, Demand::Nothing);
        assert_eq!(again(&word), Terms { patches, alterations, ranking: Ranking::Provider });

        let mut other = offer(Demand::Signature);
        other.consent_keys = KeyRing::new(id(9));
        let refused = pins(host(), other, &OwnersWord::default(), Some(&before));
        assert_eq!(refused, Err(NotPinned::Tenant { given: id(9), ours: id(2) }));
    }
}
