//! A change on its way to one tenant.

use domain::change::{
    Action, Decision, Draft, ExactPackage, FileHash, Item, KeyEvent, KeyId, KeyKind, NewKey, Nonce,
    Payload as _, Plan, Rollback, Stage, Statement, Verified, Window,
};
use domain::cloud::{Access, CiId, Class, PROVIDER, Role, TenantId};
use jiff::SignedDuration;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use store::{
    Actor, ChangeStep, Conclusion, Environment as _, Labels, Move, NewCi, NoticeFilter, NoticeRow,
    Outcome, PageRequest, TrackedChange,
};

use super::World;

pub(crate) const ALL: PageRequest = PageRequest { after: None, limit: 1000 };
pub(crate) const DAY: SignedDuration = SignedDuration::from_hours(24);
pub(crate) const KEY: [u8; 32] = [7; 32];

/// A tenant with an item that lacks a patch, proven and ready to be planned.
pub(crate) struct Case {
    pub(crate) tenant: TenantId,
    pub(crate) owner: String,
    pub(crate) person: Actor,
    pub(crate) ci: CiId,
    pub(crate) change: TrackedChange,
}

/// A proof of the provider's, with the packages that it altered; gives its hash.
pub(crate) async fn proof(world: &World, packages: Value) -> [u8; 32] {
    let envelope = json!({ "payload": "a proof" }).to_string();
    let evidence: [u8; 32] = Sha256::digest(envelope.as_bytes()).into();
    let root = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let image = world.image(&root, PROVIDER, "web 1\n").await;
    let job = world.queue(&root, &image, "prove", json!({})).await;
    let lease = SignedDuration::from_mins(1);
    let claimed = world.store.claim_job("x", lease).await.unwrap().unwrap();
    assert_eq!(job["id"], claimed.id.to_string());
    let impact = json!({
        "install_ms": 4200, "restarted": { "web.service": { "times": 1, "milliseconds": 900 } },
        "reboot": { "causes": [], "downtime_ms": null, "units": {} }, "files_touched": [],
        "configuration_changed": [], "packages": packages, "disk_bytes": 0, "new_errors": [],
    });
    let conclusion = Conclusion {
        result: json!({ "passed": true, "proof": { "impact": impact } }),
        step: None,
        made: None,
        attestations: vec![("https://example.com/v1".to_owned(), envelope)],
    };
    world.store.conclude_job(claimed.id, "x", conclusion).await.unwrap().unwrap();
    evidence
}

impl Case {
    pub(crate) async fn new(world: &World, slug: &str, osv: Value, evidence: [u8; 32]) -> Self {
        let tenant = world.tenant(slug).await;
        let owner = world.token(tenant, Role::TenantOwner, Access::Write).await;
        let session = world.ask(&owner, "GET", "/api/v1/session", None).await.json();
        let user = session["user"].as_str().unwrap().parse().unwrap();
        let person = Actor::Person { user, tenant, role: Role::TenantOwner };
        let name = format!("web-of-{slug}").parse().unwrap();
        let new = NewCi { tenant, class: Class::Vm, name, labels: Labels::new() };
        let ci = world.store.create_ci(&world.admin, None, new).await.unwrap().id;
        let body = Some(json!({ "osv": osv }));
        let brought = world.ask(&owner, "POST", "/api/v1/advisories", body).await;
        assert_eq!(brought.status, 201, "{}", brought.text);
        world.observe(ci, tenant, &[("web", "1")]).await;
        world.check_fleet().await;
        world.open_obligations(100).await;
        let change = world.store.changes(&person, &ALL).await.unwrap().items.remove(0);
        let mut case = Self { tenant, owner, person, ci, change };
        let key = NewKey { id: KeyId::from(KEY), kind: KeyKind::Ed25519, holder: user };
        let register = KeyEvent::Register { key, by: user };
        done(world.store.alter_keys(&case.person, tenant, register, None).await.unwrap());
        case.step(world, ChangeStep::Prove).await;
        case.step(world, ChangeStep::Pass(FileHash::from(evidence))).await;
        wake(world).await;
        case
    }

    pub(crate) async fn usual(world: &World, slug: &str) -> Self {
        Self::new(world, slug, super::osv("X-1", "web", "2"), [3; 32]).await
    }

    pub(crate) async fn step(&mut self, world: &World, step: ChangeStep) {
        let id = self.change.change.id;
        self.change = done(world.store.step_change(&world.admin, id, step).await.unwrap());
    }

    pub(crate) async fn does(&self, world: &World, by: &Actor, action: Move) {
        let id = self.change.change.id;
        done(world.store.advance(by, id, self.tenant, action).await.unwrap());
    }

    pub(crate) async fn plan(
        &self,
        world: &World,
        ahead: SignedDuration,
        parent: Option<&Plan>,
    ) -> Plan {
        let from = world.clock.now() + ahead;
        let package = |version: &str| ExactPackage {
            name: "web".into(),
            architecture: "amd64".into(),
            version: version.into(),
            sha256: FileHash::from([1; 32]),
        };
        let item = Item {
            ci: self.ci,
            duty: world.store.ci(&world.admin, self.ci).await.unwrap().duty,
            actions: vec![Action::Upgrade { packages: vec![package("2")] }, Action::Reboot],
            rollback: Rollback::Packages { packages: vec![package("1")] },
        };
        let plan = Plan::new(Draft {
            change: self.change.change.id,
            tenant: self.tenant,
            generation: parent.map_or(0, |it| it.draft().generation + 1),
            parent: parent.map(Plan::hash),
            stages: vec![Stage { window: Window { from, until: from + DAY }, items: vec![item] }],
        })
        .unwrap();
        let action = Move::Plan { plan: plan.clone(), two_persons_above: 9 };
        self.does(world, &world.admin, action).await;
        plan
    }

    /// The plan in force.
    pub(crate) async fn planned(&self, world: &World) -> Plan {
        let id = self.change.change.id;
        let matter = world.store.matter(&world.admin, id, self.tenant).await.unwrap();
        matter.obligation.share().unwrap().plan().clone()
    }

    /// Says something to a plan with the tenant's key.
    pub(crate) async fn answer(&self, world: &World, plan: &Plan, decision: Decision) {
        let statement = Statement {
            change: self.change.change.id,
            plan: plan.hash(),
            tenant: self.tenant,
            decision,
            given_at: world.clock.now(),
            nonce: Nonce::from([1; 16]),
        };
        let statement = Verified::signed_by(KeyId::from(KEY), &statement.to_payload()).unwrap();
        let answer = Move::Answer { statement, envelope: "{}".to_owned() };
        self.does(world, &self.person, answer).await;
    }

    pub(crate) async fn phase(&self, world: &World) -> &'static str {
        let id = self.change.change.id;
        world.store.matter(&world.admin, id, self.tenant).await.unwrap().obligation.phase()
    }

    /// Adds a channel; gives its id and secret.
    pub(crate) async fn channel(
        &self,
        world: &World,
        kind: &str,
        address: &str,
    ) -> (String, Value) {
        let path = format!("/api/v1/tenants/{}/channels", self.tenant);
        let body = json!({ "kind": kind, "address": address });
        let made = world.ask(&self.owner, "POST", &path, Some(body)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let made = made.json();
        (made["channel"]["id"].as_str().unwrap().to_owned(), made["secret"].clone())
    }

    pub(crate) async fn notices(&self, world: &World) -> Vec<NoticeRow> {
        let mut rows =
            world.store.notices(&self.person, &NoticeFilter::default(), &ALL).await.unwrap().items;
        rows.reverse();
        rows
    }
}

pub(crate) fn done<T: std::fmt::Debug>(outcome: Outcome<T>) -> T {
    match outcome {
        Outcome::Done(value) => value,
        Outcome::Refused { reason, .. } => panic!("{reason}"),
    }
}

pub(crate) async fn wake(world: &World) {
    while world.store.wake_obligations(100).await.unwrap().0 > 0 {}
}

pub(crate) async fn tell(world: &World) {
    while world.notices.step().await.unwrap() {}
}
