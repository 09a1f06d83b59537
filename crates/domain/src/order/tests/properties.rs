//! Whatever is altered in an order that would be accepted, it is refused, or it does the same.

use proptest::prelude::*;

use super::*;
use crate::change::{Access, FileChange, FileState};

/// What somebody who holds the order key can alter.
#[derive(Debug, Clone)]
enum Alteration {
    Agent(u8),
    Ci(u8),
    Plan([u8; 32]),
    Stage(u32),
    From(i64),
    Until(i64),
    Drop(usize),
    Add(Action),
    Replace(usize, Action),
    Signer(u8),
    ConsentBy(u8),
    NoConsent,
    Tenant(u8),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        ("[a-z]{1,3}", "[0-9]\\.[0-9]").prop_map(|(name, version)| Action::Upgrade {
            packages: vec![package(&name, &version)]
        }),
        "[a-z]{1,4}\\.service".prop_map(|unit| Action::RestartUnit { unit }),
        Just(Action::Reboot),
        "[a-z]{1,4}".prop_map(|probe| Action::Probe { probe }),
        (any::<[u8; 32]>(), 0_u8..4).prop_map(|(sha256, kind)| {
            let state = |access| FileState { sha256: FileHash::from(sha256), access };
            let (before, private) = (state(Access::usual()), "0600".parse().unwrap());
            let after = state(Access { mode: private, ..Access::usual() });
            let change = match kind {
                0 => FileChange::content(None, FileHash::from(sha256)),
                1 => FileChange::Create { after },
                2 => FileChange::Remove { before },
                _ => FileChange::Replace { before, after },
            };
            Action::AlterFile { path: "/etc/passwd".to_owned(), change }
        }),
    ]
}

fn alteration() -> impl Strategy<Value = Alteration> {
    prop_oneof![
        any::<u8>().prop_map(Alteration::Agent),
        any::<u8>().prop_map(Alteration::Ci),
        any::<[u8; 32]>().prop_map(Alteration::Plan),
        (0_u32..5).prop_map(Alteration::Stage),
        (0_i64..100).prop_map(Alteration::From),
        (0_i64..100).prop_map(Alteration::Until),
        (0_usize..2).prop_map(Alteration::Drop),
        action().prop_map(Alteration::Add),
        ((0_usize..2), action()).prop_map(|(at, action)| Alteration::Replace(at, action)),
        any::<u8>().prop_map(Alteration::Signer),
        any::<u8>().prop_map(Alteration::ConsentBy),
        Just(Alteration::NoConsent),
        any::<u8>().prop_map(Alteration::Tenant),
    ]
}

fn alter(world: &mut World, alteration: Alteration) {
    let order = &mut world.order;
    match alteration {
        Alteration::Agent(number) => order.agent = id(number),
        Alteration::Ci(number) => order.ci = id(number),
        Alteration::Plan(hash) => order.plan = hash.into(),
        Alteration::Stage(stage) => order.stage = stage,
        Alteration::From(hour) => order.window.from = at(hour),
        Alteration::Until(hour) => order.window.until = at(hour),
        Alteration::Drop(place) => {
            if place < order.actions.len() {
                order.actions.remove(place);
            }
        }
        Alteration::Add(action) => order.actions.push(action),
        Alteration::Replace(place, action) => {
            if let Some(known) = order.actions.get_mut(place) {
                *known = action;
            }
        }
        Alteration::Signer(by) => world.signer = by,
        Alteration::ConsentBy(by) => {
            world.consents = vec![signed(by, &statement(&world.plan, Decision::Approve))];
        }
        Alteration::NoConsent => world.consents.clear(),
        Alteration::Tenant(number) => {
            let said = statement(&world.plan, Decision::Approve);
            world.consents = vec![signed(TENANT, &Statement { tenant: id(number), ..said })];
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn an_altered_order_is_refused_or_is_the_same(
        alterations in prop::collection::vec(alteration(), 1..4),
    ) {
        let honest = World::new();
        let mut world = honest.clone();
        for alteration in alterations {
            alter(&mut world, alteration);
        }
        if let Ok((accepted, next)) = world.verify() {
            prop_assert_eq!(accepted.order(), &honest.order);
            prop_assert_eq!(world.signer, PROVIDER);
            prop_assert_eq!(next, honest.accepted());
        }
    }

    /// Any number of plans by the server itself, with the one consent that there is.
    #[test]
    fn what_the_server_plans_itself_is_refused(actions in prop::collection::vec(action(), 1..4)) {
        let mut world = World::new();
        let agreed = world.order.actions.clone();
        world.replan(actions.clone());
        if actions != agreed {
            let is_refused = matches!(world.verify(), Err(Refusal::Consent { .. }));
            prop_assert!(is_refused);
        }
    }

    /// Sequences that are accepted one after another only rise, and no nonce counts twice.
    #[test]
    fn sequences_rise_and_nonces_count_once(
        tries in prop::collection::vec((0_u64..12, 0_u8..12, 0_i64..4), 1..20),
    ) {
        let mut world = World::new();
        let (mut last, mut used) = (0, Vec::new());
        for (sequence, number, minute) in tries {
            world.now = at(49) + SignedDuration::from_mins(minute);
            world.order = Order { sequence, nonce: nonce(number), ..world.order };
            let is_new = sequence > last && !used.contains(&number);
            match world.verify() {
                Ok((_, next)) => {
                    prop_assert!(is_new);
                    last = sequence;
                    used.push(number);
                    world.trusted = next;
                }
                Err(refusal) => prop_assert!(!is_new, "{}", refusal),
            }
        }
    }

    /// Never older, by dpkg's own order.
    #[test]
    fn no_version_goes_back(installed in "[0-9](\\.[0-9]){0,2}(~rc[0-9])?", given in "[0-9](\\.[0-9]){0,2}(~rc[0-9])?") {
        let mut world = World::with(vec![upgrade(&given)]);
        world.installed = Versions::none(VersionKind::Dpkg);
        world.installed.raise("nginx", "amd64", &installed);
        let is_older = VersionKind::Dpkg.compare(&given, &installed).is_lt();
        let refused = matches!(world.verify(), Err(Refusal::Older { .. }));
        prop_assert_eq!(refused, is_older);
    }
}
