//! What an agent refuses, one attempt at a time, and what holds of all orders whatever is in them.

mod attacks;
mod keys;
mod properties;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::change::{
    Action, Decision, Draft, ExactPackage, FileHash, Item, KeyEvent, KeyId, KeyKind, KeyRing,
    NewKey, Nonce, Payload, Plan, Rollback, Stage, StandingRule, Statement, Verified, Window,
};
use crate::cloud::{Duty, Id, IdKind};
use crate::priority::Priority;
use crate::version::VersionKind;

/// The key with which the provider signs.
const PROVIDER: u8 = 1;
/// The key with which the tenant signs.
const TENANT: u8 = 2;

/// Hours since a Friday, 08:00 UTC.
fn at(hour: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + hour * 3600).unwrap()
}

const SECOND: SignedDuration = SignedDuration::from_secs(1);

fn id<K: IdKind>(number: u8) -> Id<K> {
    Id::of_content([number; 16])
}

fn key(number: u8) -> KeyId {
    KeyId::from([number; 32])
}

fn sha256(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

fn nonce(number: u8) -> Nonce {
    Nonce::from([number; 16])
}

fn new_key(number: u8) -> NewKey {
    NewKey { id: key(number), kind: KeyKind::Ed25519, holder: id(1) }
}

fn signed<T: Payload>(by: u8, said: &T) -> Verified<T> {
    Verified::signed_by(key(by), &said.to_payload()).unwrap()
}

fn package(name: &str, version: &str) -> ExactPackage {
    ExactPackage {
        name: name.to_owned(),
        architecture: "amd64".to_owned(),
        version: version.to_owned(),
        sha256: FileHash::from([9; 32]),
    }
}

fn upgrade(version: &str) -> Action {
    Action::Upgrade { packages: vec![package("nginx", version)] }
}

/// Two stages of a tenant's plan; the second one touches our item as well.
fn plan_of(actions: Vec<Action>) -> Plan {
    let item = |number, actions: Vec<Action>| Item {
        ci: id(number),
        duty: Duty::Provider,
        actions,
        rollback: Rollback::Snapshot,
    };
    let window = |from, until| Window { from: at(from), until: at(until) };
    let stages = vec![
        Stage {
            window: window(48, 52),
            items: vec![item(3, actions), item(4, vec![upgrade("9")])],
        },
        Stage { window: window(60, 64), items: vec![item(3, vec![Action::Reboot])] },
    ];
    let draft = Draft { change: id(1), tenant: id(2), generation: 0, parent: None, stages };
    Plan::new(draft).unwrap()
}

fn statement(plan: &Plan, decision: Decision) -> Statement {
    Statement {
        change: id(1),
        plan: plan.hash(),
        tenant: id(2),
        decision,
        given_at: at(20),
        nonce: nonce(60),
    }
}

/// An agent, its host, and an order for it to which the tenant agreed.
#[derive(Clone)]
struct World {
    trusted: Trusted,
    policy: Policy,
    installed: Versions,
    plan: Plan,
    order: Order,
    signer: u8,
    consents: Vec<Verified<Statement>>,
    rules: Vec<Verified<StandingRule>>,
    contents: Vec<Vec<u8>>,
    now: Timestamp,
}

impl World {
    fn new() -> Self {
        Self::with(vec![upgrade("1.22.1-9+deb12u1"), Action::Reboot])
    }

    fn with(actions: Vec<Action>) -> Self {
        let register = KeyEvent::Register { key: new_key(TENANT), by: id(1) };
        let ring = KeyRing::new(id(2)).step(register, at(0)).unwrap().0;
        let pins = Pins {
            agent: id(5),
            ci: id(3),
            versions: VersionKind::Dpkg,
            order_keys: [key(PROVIDER)].into(),
            order_key_version: 1,
            consent_keys: ring,
            origins: [].into(),
            terms: Terms {
                patches: Demand::Signature,
                alterations: Demand::Signature,
                ranking: Ranking::Unproven,
            },
        };
        let plan = plan_of(actions.clone());
        let mut installed = Versions::none(VersionKind::Dpkg);
        installed.raise("nginx", "amd64", "1.22.1-9");
        Self {
            trusted: Trusted::join(pins, at(0)),
            policy: Policy::default(),
            installed,
            order: Order {
                agent: id(5),
                ci: id(3),
                plan: plan.hash(),
                stage: 1,
                window: Window { from: at(48), until: at(52) },
                actions,
                priority: Priority::Medium,
                sequence: 7,
                issued_at: at(47),
                expires: at(52),
                nonce: nonce(70),
            },
            signer: PROVIDER,
            consents: vec![signed(TENANT, &statement(&plan, Decision::Approve))],
            rules: Vec::new(),
            contents: Vec::new(),
            plan,
            now: at(49),
        }
    }

    fn verify(&self) -> Result<(Accepted, Trusted), Refusal> {
        let plan = self.plan.to_bytes();
        self.verify_with(&plan)
    }

    fn verify_with(&self, plan: &[u8]) -> Result<(Accepted, Trusted), Refusal> {
        let carried = Carried {
            order: signed(self.signer, &self.order),
            plan,
            consents: self.consents.clone(),
            rules: self.rules.clone(),
            unopened: Vec::new(),
            contents: self.contents.iter().map(|it| (sha256(it).into(), it.clone())).collect(),
        };
        let own = ["/var/lib/agent".to_owned(), "/etc/agent.toml".to_owned()];
        let local = Local { policy: &self.policy, installed: &self.installed, own: &own };
        verify(carried, &self.trusted, &local, self.now)
    }

    /// Another plan, which the order follows and nobody agreed to.
    fn replan(&mut self, actions: Vec<Action>) {
        self.plan = plan_of(actions.clone());
        self.order.plan = self.plan.hash();
        self.order.actions = actions;
    }

    fn refusal(&self) -> Refusal {
        self.verify().expect_err("it is to be refused")
    }

    fn accepted(&self) -> Trusted {
        self.verify().unwrap_or_else(|refusal| panic!("{refusal}")).1
    }
}
