//! Pins what this host goes by when it is told to do something.

use domain::agent::PinsRequest;
use domain::order::Trusted;
use domain::pinning::{self, Host, OwnersWord};
use domain::version::VersionKind;
use jiff::Timestamp;

use crate::client::AgentError;
use crate::orders::alone;
use crate::plane::ControlPlane;
use crate::state::{Identity, State};

/// What was pinned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pinned {
    /// What the same agent went by so far; `None` where nothing was pinned for it.
    pub before: Option<Trusted>,
    /// What it goes by from now on.
    pub now: Trusted,
}

/// Asks the control plane what to go by, and pins of it what the owner's word allows. The control plane
/// learns the key with which this agent signs what came of orders. `versions` is how the host's package
/// manager orders them.
///
/// # Errors
/// [`AgentError::NotPinned`] if the offer is not what the owner said; then everything stays as it was.
pub fn pin(
    state: &State,
    identity: &Identity,
    plane: &impl ControlPlane,
    word: &OwnersWord,
    versions: VersionKind,
    now: Timestamp,
) -> Result<Pinned, AgentError> {
    let kept = |source| AgentError::state(state, source);
    let attestor = state.attestor().map_err(kept)?.key().to_string();
    let offer = plane.pins(&PinsRequest { attestor })?;
    // Not while an order is carried out: both keep what the agent goes by.
    let _alone = alone(state)?;
    let known = state.trusted().map_err(kept)?;
    let before = known.clone().filter(|it| it.agent() == identity.agent);
    let host = Host { agent: identity.agent, ci: identity.ci, versions };
    let pins = pinning::pins(host, offer, word, before.as_ref())?;
    // A host that joined again forgets nothing of its own either.
    let next = match known {
        Some(known) => known.repin(pins),
        None => Trusted::join(pins, now),
    };
    state.keep_trusted(&next).map_err(kept)?;
    Ok(Pinned { before, now: next })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::os::unix::fs::PermissionsExt as _;

    use domain::agent::{
        Facts, FilesSent, HandedOrder, OrderAnswer, OrderProgress, PinsOffered, Report,
        ReportAnswer,
    };
    use domain::change::{KeyEvent, KeyId, KeyKind, KeyRing, NewKey};
    use domain::cloud::{Id, IdKind};
    use domain::fleet::PackageSet;
    use domain::order::{Demand, Ranking, Terms};
    use domain::pinning::NotPinned;

    use super::*;

    fn id<K: IdKind>(number: u8) -> Id<K> {
        Id::of_content([number; 16])
    }

    fn key(number: u8) -> KeyId {
        KeyId::from([number; 32])
    }

    /// A control plane that offers something to pin, and nothing else.
    struct Offers {
        tenant: Cell<Option<u8>>,
        asked: RefCell<Vec<PinsRequest>>,
    }

    impl ControlPlane for Offers {
        fn report(
            &self,
            _: &Report,
            _: &PackageSet,
            _: &Facts,
        ) -> Result<ReportAnswer, AgentError> {
            unreachable!("nothing is reported")
        }

        fn files(&self, _: &FilesSent) -> Result<(), AgentError> {
            Ok(())
        }

        fn pins(&self, request: &PinsRequest) -> Result<PinsOffered, AgentError> {
            self.asked.borrow_mut().push(request.clone());
            let mut consent_keys = KeyRing::new(id(2));
            if let Some(number) = self.tenant.get() {
                let key = NewKey { id: key(number), kind: KeyKind::Ed25519, holder: id(1) };
                let register = KeyEvent::Register { key, by: id(1) };
                consent_keys = consent_keys.step(register, Timestamp::UNIX_EPOCH).unwrap().0;
            }
            let (patches, alterations) = (Demand::Signature, Demand::Signature);
            let terms = Terms { patches, alterations, ranking: Ranking::Unproven };
            let order_keys = [key(10)].into();
            let (origins, order_key_version) = ([].into(), 2);
            Ok(PinsOffered { order_keys, order_key_version, consent_keys, origins, terms })
        }

        fn progress(&self, _: OrderProgress) -> Result<(), AgentError> {
            unreachable!("nothing is carried out")
        }

        fn next_order(&self) -> Result<Option<HandedOrder>, AgentError> {
            unreachable!("no order is asked for")
        }

        fn answer(&self, _: &OrderAnswer) -> Result<(), AgentError> {
            unreachable!("nothing is answered")
        }
    }

    #[test]
    fn a_host_pins_when_it_joins_and_anew_when_its_owner_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());
        let identity = Identity {
            url: "https://127.0.0.1:1".to_owned(),
            agent: id(5),
            ci: id(3),
            authority: String::new(),
            certificate: String::new(),
            expires_at: Timestamp::UNIX_EPOCH,
        };
        let plane = Offers { tenant: Cell::new(None), asked: RefCell::default() };
        let pin_with = |word: &OwnersWord| {
            let versions = VersionKind::Rpm;
            pin(&state, &identity, &plane, word, versions, Timestamp::UNIX_EPOCH)
        };

        // Before the tenant has a key.
        let word = OwnersWord { consent_keys: [key(20)].into(), ..OwnersWord::default() };
        assert!(matches!(pin_with(&word), Err(AgentError::NotPinned(NotPinned::OtherKeys { .. }))));
        assert_eq!(state.trusted().unwrap(), None, "nothing is pinned");
        let first = pin_with(&OwnersWord::default()).unwrap();
        assert_eq!(first.before, None);
        let kept = serde_json::to_value(&first.now).unwrap();
        assert_eq!(kept["floors"]["kind"], "rpm");
        assert_eq!(first.now.order_key_version(), 2);
        assert_eq!(state.trusted().unwrap().as_ref(), Some(&first.now));
        let mode = directory.path().join("trusted.json").metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        // It has one now, and it is the one that the owner was told.
        plane.tenant.set(Some(20));
        let second = pin_with(&word).unwrap();
        assert_eq!(second.before, Some(first.now));
        assert!(second.now.consent_keys().in_force(key(20)).is_ok());

        // Somebody offers another one: what was pinned stays.
        plane.tenant.set(Some(66));
        assert!(pin_with(&word).is_err());
        assert_eq!(state.trusted().unwrap(), Some(second.now));
        let asked = plane.asked.borrow();
        assert!(asked.iter().all(|it| *it == asked[0]), "the agent's key is made once");
        assert_eq!(asked[0].attestor, state.attestor().unwrap().key().to_string());
    }
}
