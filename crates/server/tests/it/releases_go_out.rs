//! Releases, from the plan that tenants agree to until somebody else than the agent saw that it is so.

use domain::agent::{Facts, HandedOrder, OrderAnswer, PinsOffered, ProbeOutcome};
use domain::change::{Decision, FileHash, KeyId, Payload, Rollback, Verified};
use domain::cloud::{Access, AgentId, Id, Role, SnapshotId};
use domain::inventory::{Runtime, StaleProcess};
use domain::order::{Ended, Handover, Order, OrderResult, Pins, Refusal, Trusted};
use domain::version::VersionKind;
use jiff::SignedDuration;
use ledger::attestation::{self, AttestorKey};
use serde_json::{Value, json};
use server::{Places, Releases, Snapshots, serve_proxied_agents};
use store::{
    Actor, Agent, Answered, Environment as _, Fetched, Issued, NoticeFilter, PageRequest, Placement,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::case::{Case, proof, tell, wake};
use crate::support::{self, World};

/// One of one tenant's items, and its agent.
pub(crate) struct Host {
    pub(crate) case: Case,
    pub(crate) agent: Agent,
    provider: String,
    pub(crate) release: Value,
}

impl Host {
    pub(crate) fn actor(&self) -> Actor {
        let Agent { id, tenant, ci, .. } = self.agent;
        Actor::Agent { agent: id, tenant, ci }
    }

    /// Notices of disputes that its tenant has, the newest first.
    async fn disputes(&self, world: &World) -> Vec<String> {
        tell(world).await;
        let filter = NoticeFilter { tenant: Some(self.case.tenant), ..NoticeFilter::default() };
        let page = PageRequest { after: None, limit: 1000 };
        let mut rows = world.store.notices(&Actor::System, &filter, &page).await.unwrap().items;
        rows.retain(|row| row.kind == "disputed");
        rows.sort_by_key(|row| std::cmp::Reverse(row.created_at));
        rows.into_iter().map(|row| row.document).collect()
    }

    /// A release that its tenant agreed to, and that has begun.
    async fn begun(world: &World) -> Self {
        Self::begun_with(world, json!({})).await
    }

    /// The same, planned with more than usual.
    async fn begun_with(world: &World, more: Value) -> Self {
        Self::of(world, Case::usual(world, "a").await, more).await
    }

    pub(crate) async fn of(world: &World, case: Case, more: Value) -> Self {
        let agent = world.agent(case.ci, case.tenant).await;
        let operator = world.token(domain::cloud::PROVIDER, Role::Operator, Access::Write).await;
        let mut request = request(world, &case);
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = world.ask(&operator, "POST", "/api/v1/releases", Some(request)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        let (release, plan) = (made.json(), case.planned(world).await);
        tell(world).await;
        case.answer(world, &plan, Decision::Approve).await;
        world.clock.pass(SignedDuration::from_hours(15 * 24 + 1));
        let provider = world.token_of(&world.admin, Access::Write).await;
        let host = Self { case, agent, provider, release };
        host.go_on(world).await;
        host
    }

    /// Lets time bring about what it does.
    pub(crate) async fn go_on(&self, world: &World) {
        wake(world).await;
        // Each process drives them by its lease.
        let releases = Releases::open(world.store.clone(), world.history(), &world.master);
        let releases = releases.await.unwrap();
        for _ in 0..4 {
            world.clock.pass(SignedDuration::from_secs(61));
            releases.step().await.unwrap();
        }
    }

    pub(crate) async fn fetch(&self, world: &World) -> Option<Fetched> {
        let actor = self.actor();
        let fetched = world.store.order_for(&actor).await.unwrap()?;
        let (nonce, number) = (fetched.nonce, fetched.sequence);
        let envelope = "{}".to_owned();
        let issued = Issued { nonce, sequence: number, key_version: 1, envelope };
        assert_eq!(world.store.issue_order(&actor, issued).await.unwrap(), "{}");
        Some(fetched)
    }

    pub(crate) async fn ends(&self, world: &World, fetched: &Fetched, ended: Ended) {
        let now = world.clock.now();
        let result = OrderResult {
            execution: Id::new(now, [1; 10]),
            agent: self.agent.id,
            ci: self.agent.ci,
            plan: fetched.plan.hash(),
            order: fetched.nonce,
            ended,
            actions: Vec::new(),
            packages: Vec::new(),
            files: Vec::new(),
            probes: Vec::new(),
            downtime: Vec::new(),
            interruptions: 0,
            began_at: now,
            ended_at: now,
        };
        let answer = OrderAnswer::Ended { order: fetched.nonce, envelope: "{}".to_owned() };
        let digest = Some(FileHash::from([5; 32]));
        let answered = Answered { answer, result: Some(result), digest };
        // The answer is lost, and sent again.
        for _ in 0..2 {
            world.store.answer_order(&self.actor(), answered.clone()).await.unwrap();
        }
    }

    /// The agent looks, and all of it is known.
    pub(crate) async fn looks(&self, world: &World, packages: &[(&str, &str)], runtime: Runtime) {
        world.observe(self.agent.ci, self.agent.tenant, packages).await;
        let facts = Facts { runtime: Some(runtime), ..Facts::default() };
        world.store.record_facts(&self.actor(), self.agent.ci, facts).await.unwrap();
        world.clock.pass(SignedDuration::from_secs(1));
        world.store.note_complete(self.agent.id, world.clock.now()).await.unwrap();
        self.go_on(world).await;
    }

    async fn stands(&self, world: &World) -> Value {
        let path = format!("/api/v1/releases/{}", self.release["id"].as_str().unwrap());
        // Tokens end while time passes.
        let token = world.token_of(&world.admin, Access::Read).await;
        let read = world.ask(&token, "GET", &path, None).await;
        assert_eq!(read.status, 200, "{}", read.text);
        read.json()
    }
}

fn request(world: &World, case: &Case) -> Value {
    let from = world.clock.now() + SignedDuration::from_hours(15 * 24);
    let until = from + SignedDuration::from_hours(30 * 24);
    json!({ "change": case.change.change.id, "profile": "emergency", "from": from, "until": until })
}

pub(crate) fn running() -> Runtime {
    let kernel = || "6.1.0-1".to_owned();
    let (running_kernel, newest) = (kernel(), Some(kernel()));
    Runtime { running_kernel, newest_installed_kernel: newest, ..Runtime::default() }
}

#[tokio::test]
async fn a_plan_is_shown_before_anybody_is_asked_and_a_stale_one_is_refused() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let operator = world.token(domain::cloud::PROVIDER, Role::Operator, Access::Write).await;
    let mut wanted = request(&world, &case);

    let path = "/api/v1/releases?dry_run=true";
    let shown = world.ask(&operator, "POST", path, Some(wanted.clone())).await;
    assert_eq!(shown.status, 201, "{}", shown.text);
    let shown = shown.json();
    let packages = &shown["turns"][0]["actions"][0]["packages"];
    assert_eq!((&packages[0]["name"], &packages[0]["version"]), (&json!("web"), &json!("2")));
    assert_eq!(case.phase(&world).await, "tested", "nobody was asked");
    assert!(
        world.ask(&operator, "GET", "/api/v1/releases", None).await.json()["items"]
            .as_array()
            .unwrap()
            .is_empty()
    );

    wanted["release"] = shown["id"].clone();
    wanted["layout"] = json!("0".repeat(64));
    let stale = world.ask(&operator, "POST", "/api/v1/releases", Some(wanted.clone())).await;
    assert_eq!(stale.status, 409, "{}", stale.text);
    wanted["layout"] = shown["layout"].clone();
    let made = world.ask(&operator, "POST", "/api/v1/releases", Some(wanted)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["layout"], shown["layout"]);
    assert_eq!(case.phase(&world).await, "planned");

    // A tenant sees its plan, and nothing of the whole.
    let path = format!("/api/v1/releases/{}", shown["id"].as_str().unwrap());
    assert_eq!(world.ask(&case.owner, "GET", &path, None).await.status, 404);
    let plan = case.planned(&world).await;
    assert_eq!(made_plan(&shown, &case), plan.hash().to_string());
    // Another that nobody has begun with takes its place.
    let again =
        world.ask(&operator, "POST", "/api/v1/releases", Some(request(&world, &case))).await;
    assert_eq!(again.status, 201, "{}", again.text);
    let old = world.ask(&operator, "GET", &path, None).await.json();
    assert_eq!(old["ended"], "aborted");
}

#[tokio::test]
async fn what_does_not_do_what_its_owner_expects_is_left_alone() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let operator = world.token(domain::cloud::PROVIDER, Role::Operator, Access::Write).await;
    let plan = async || {
        let path = "/api/v1/releases?dry_run=true";
        world.ask(&operator, "POST", path, Some(request(&world, &case))).await
    };
    for (failure, status) in [(Some("answered 502, not 200"), 422), (None, 201)] {
        let failure = failure.map(str::to_owned);
        let probes = vec![ProbeOutcome { name: "web".to_owned(), failure }];
        let facts = Facts { probes, ..Facts::default() };
        world.store.record_facts(&world.admin, case.ci, facts).await.unwrap();

        let planned = plan().await;

        assert_eq!(planned.status, status, "{}", planned.text);
        let is_told = planned.text.contains("the item was down when the release was planned");
        assert_eq!(is_told, status == 422, "{}", planned.text);
        assert_eq!(planned.text.contains("repair it"), status == 422, "{}", planned.text);
    }
}

/// The archive may have come to offer something else since the proof.
#[tokio::test]
async fn what_was_not_proven_is_not_released() {
    for (proven, status) in [("1.5", 422), ("2", 201)] {
        let world = World::new().await;
        let evidence = proof(&world, json!({ "web:amd64": ["1", proven] })).await;
        let case = Case::new(&world, "a", support::osv("X-1", "web", "2"), evidence).await;
        let operator = world.token(domain::cloud::PROVIDER, Role::Operator, Access::Write).await;

        let wanted = request(&world, &case);
        let answer = world.ask(&operator, "POST", "/api/v1/releases", Some(wanted)).await;

        assert_eq!(answer.status, status, "{}", answer.text);
        let refused = answer.text.contains("web:amd64 2 is not what was proven, 1.5");
        assert_eq!(refused, status == 422, "{}", answer.text);
    }
}

fn made_plan(release: &Value, case: &Case) -> String {
    release["plans"][case.tenant.to_string()].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_an_agent_did_counts_when_somebody_else_saw_it() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    assert_eq!(host.case.phase(&world).await, "rolling_out");
    assert!(world.store.awaited_agents().await.unwrap().contains(&host.agent.id));
    assert_eq!(host.stands(&world).await["turns"][0]["phase"]["is"], "ordered");

    let fetched = host.fetch(&world).await.unwrap();
    assert_eq!((fetched.sequence, fetched.stage), (1, 0));
    assert_eq!(fetched.consents.len(), 1, "the tenant's signature goes along");
    assert_eq!(host.stands(&world).await["turns"][0]["phase"]["is"], "working");
    let again = world.store.order_for(&host.actor()).await.unwrap().unwrap();
    assert_eq!(again.envelope.as_deref(), Some("{}"), "the same order, not another one");

    host.ends(&world, &fetched, Ended::Done).await;
    host.go_on(&world).await;
    assert_eq!(host.stands(&world).await["turns"][0]["phase"]["is"], "checking");
    assert_eq!(host.case.phase(&world).await, "rolling_out", "a claim is not enough");

    host.looks(&world, &[("web", "2")], running()).await;
    let stands = host.stands(&world).await;
    assert_eq!(stands["turns"][0]["phase"]["is"], "done", "{stands}");
    assert!(world.store.order_for(&host.actor()).await.unwrap().is_none());
    assert!(!world.store.awaited_agents().await.unwrap().contains(&host.agent.id));
    // Waves are watched to their end.
    world.clock.pass(SignedDuration::from_hours(24));
    host.go_on(&world).await;
    assert_eq!(host.stands(&world).await["ended"], "released");
    assert_eq!(host.case.phase(&world).await, "verifying");
    // Only what was heard of since then counts.
    let seen = world.clock.now();
    world.store.note_seen(vec![(host.agent.ci, seen)]).await.unwrap();
    world.check_fleet().await;
    world.clock.pass(SignedDuration::from_mins(6));
    wake(&world).await;
    assert_eq!(host.case.phase(&world).await, "verified");

    let owner = host.case_owner(&world).await;
    let orders = world.ask(&owner, "GET", "/api/v1/orders", None).await;
    let order = &orders.json()[0];
    assert_eq!((&order["outcome"], &order["stage"]), (&json!("done"), &json!(1)));

    // The same in the console; whole releases are the provider's.
    let id = host.release["id"].as_str().unwrap();
    let token = world.token_of(&world.admin, Access::Read).await;
    let page = world.ask(&token, "GET", &format!("/releases/{id}"), None).await;
    assert_eq!(page.status, 200);
    for said in ["✓ released", "1 done and verified", "web-of-a", "Waves", "✓ done"] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
    assert!(world.ask(&token, "GET", "/releases", None).await.text.contains(id));
    let change = host.case.change.change.id;
    let path = format!("/changes/{change}");
    assert!(world.ask(&token, "GET", &path, None).await.text.contains(id));
    assert!(!world.ask(&owner, "GET", &path, None).await.text.contains(id));
    assert_eq!(world.ask(&owner, "GET", &format!("/releases/{id}"), None).await.status, 404);
    let path = format!("/obligations/{change}/{}", host.case.tenant);
    let page = world.ask(&owner, "GET", &path, None).await.text;
    assert!(page.contains("Orders") && page.contains("✓ done"), "{page}");
}

impl Host {
    async fn case_owner(&self, world: &World) -> String {
        world.token_of(&self.case.person, Access::Write).await
    }
}

/// A place that does all that it is asked.
#[derive(Debug, Default)]
struct Obedient(std::sync::Mutex<Vec<String>>);

impl Obedient {
    fn does(&self, what: &str, at: &Placement) {
        self.0.lock().unwrap().push(format!("{what} {} at {}", at.machine, at.place));
    }
}

impl Places for Obedient {
    fn take(&self, at: &Placement, _: SnapshotId) -> Result<(), String> {
        self.does("take", at);
        Ok(())
    }

    fn bring_back(&self, at: &Placement, _: SnapshotId) -> Result<(), String> {
        self.does("bring back", at);
        Ok(())
    }

    fn remove(&self, at: &Placement, _: SnapshotId) -> Result<(), String> {
        self.does("remove", at);
        Ok(())
    }
}

#[tokio::test]
async fn what_restarts_is_kept_first_where_its_tenant_agreed() {
    let world = World::new().await;
    let case = Case::usual(&world, "a").await;
    let admin = world.token_of(&world.admin, Access::Write).await;
    let rollback = async |restart: &str| {
        let mut wanted = request(&world, &case);
        wanted["restart"] = json!(restart);
        let made = world.ask(&admin, "POST", "/api/v1/releases", Some(wanted)).await;
        assert_eq!(made.status, 201, "{}", made.text);
        case.planned(&world).await.draft().stages[0].items[0].rollback.clone()
    };
    let machine = format!("/api/v1/cis/{}/machine", case.ci);
    let place = json!({ "place": "rack-1", "machine": "acme-web-1" });
    assert_eq!(world.ask(&admin, "PUT", &machine, Some(place.clone())).await.status, 200);
    assert_eq!(world.ask(&admin, "GET", &machine, None).await.json(), place);
    assert!(matches!(rollback("always").await, Rollback::Packages { .. }), "nobody agreed to it");
    let path = format!("/api/v1/policies/{}", case.tenant);
    let policy = json!({ "document": "version = \"2\"\nsnapshots = true\n" });
    assert_eq!(world.ask(&admin, "POST", &path, Some(policy)).await.status, 201);
    let agreed = json!({ "version": "2" });
    let agreement = format!("{path}/agreement");
    assert_eq!(world.ask(&case.owner, "POST", &agreement, Some(agreed)).await.status, 200);

    assert!(matches!(rollback("never").await, Rollback::Packages { .. }), "nothing restarts");
    assert_eq!(rollback("always").await, Rollback::Snapshot);

    let owner = case.person.clone();
    let host = Host::of(&world, case, json!({ "restart": "always" })).await;
    assert!(host.fetch(&world).await.is_none(), "not before it is kept");
    let obedient = std::sync::Arc::new(Obedient::default());
    let places = std::sync::Arc::clone(&obedient);
    Snapshots::new(world.store.clone(), places).step().await.unwrap();
    assert_eq!(*obedient.0.lock().unwrap(), ["take acme-web-1 at rack-1"]);
    assert!(host.fetch(&world).await.is_some());
    let token = world.token_of(&owner, Access::Read).await;
    let seen = world.ask(&token, "GET", "/api/v1/snapshots", None).await.json();
    assert_eq!(seen[0]["state"], "taken", "{seen}");
    assert!(seen[0].get("machine").is_none(), "where it lives is the provider's to know");
    let admin = world.token_of(&world.admin, Access::Read).await;
    let page = format!("/releases/{}", host.release["id"].as_str().unwrap());
    let page = world.ask(&admin, "GET", &page, None).await;
    assert!(page.text.contains("Snapshots before restarts"), "{}", page.text);
}

#[tokio::test]
async fn a_claim_that_is_not_borne_out_is_a_conflict_and_holds_the_release() {
    let old_library = || Runtime {
        stale_processes: vec![StaleProcess {
            pid: 7,
            command: "web".to_owned(),
            unit: Some("web.service".to_owned()),
            deleted_files: vec!["/usr/lib/libweb.so.1".to_owned()],
            packages: std::collections::BTreeSet::new(),
        }],
        ..running()
    };
    for (packages, runtime, because) in [
        ([("web", "1")], running(), "web is at 1, and 2 was planned"),
        ([("web", "2")], old_library(), "web of web.service still runs /usr/lib/libweb.so.1"),
    ] {
        let world = World::new().await;
        let host = Host::begun(&world).await;
        let fetched = host.fetch(&world).await.unwrap();
        host.ends(&world, &fetched, Ended::Done).await;

        host.looks(&world, &packages, runtime).await;

        let stands = host.stands(&world).await;
        assert_eq!(stands["mode"]["is"], "held", "{stands}");
        assert_eq!(stands["turns"][0]["phase"]["is"], "failed", "{stands}");
        assert_ne!(host.case.phase(&world).await, "verifying");
        while world.store.sequence_events(1000).await.unwrap() > 0 {}
        let path = "/api/v1/events?limit=1000";
        let events = world.ask(&host.provider, "GET", path, None).await.text;
        assert!(events.contains("order.verified") && events.contains(because), "{because}");
        let owner = host.case_owner(&world).await;
        let order = &world.ask(&owner, "GET", "/api/v1/orders", None).await.json()[0];
        assert_eq!(order["outcome"], "conflict", "its tenant sees it: {order}");
        assert!(order["reason"].as_str().unwrap().contains(because), "{order}");
        let told = host.disputes(&world).await;
        let said = format!("web-of-a is not what its agent says: {because}");
        assert!(told.len() == 1 && told[0].contains(&said), "it is told: {told:?}");
    }
}

#[tokio::test]
async fn a_refusal_that_accuses_is_told_to_its_tenant_once_in_a_while() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let fetched = host.fetch(&world).await.unwrap();
    let (store, actor) = (&world.store, &host.actor());
    let refuses = async |order, refusal| {
        let answer = OrderAnswer::Refused { order, refusal: Box::new(refusal) };
        store.answer_order(actor, Answered { answer, result: None, digest: None }).await
    };
    let consent = || Refusal::Consent { lacks: vec!["no consent was given\u{7}".to_owned()] };
    refuses(fetched.nonce, consent()).await.unwrap();
    let told = host.disputes(&world).await;
    let said = "web-of-a refused an order: the tenant's side is missing: no consent was given";
    assert!(told.len() == 1 && told[0].contains(said), "{told:?}");

    // The same answer again, and others within the hour: one message, and each in the record.
    refuses(fetched.nonce, consent()).await.unwrap();
    refuses(fetched.nonce, Refusal::Replayed { nonce: fetched.nonce }).await.unwrap();
    refuses([7; 16].into(), Refusal::Sequence { given: 1, seen: 2 }).await.unwrap();
    assert_eq!(host.disputes(&world).await.len(), 1);
    while world.store.sequence_events(1000).await.unwrap() > 0 {}
    world.recorder.finish().await.unwrap();
    let reader = world.token_of(&world.admin, Access::Read).await;
    let events = world.ask(&reader, "GET", "/api/v1/events?limit=1000", None).await.text;
    assert_eq!(events.matches("answered before").count(), 1, "{events}");
    assert_eq!(events.matches("never given").count(), 1, "{events}");
    world.clock.pass(SignedDuration::from_hours(1));
    let told = host.disputes(&world).await;
    assert!(
        told.len() == 2 && told[0].contains("an order that it had answered before"),
        "{told:?}"
    );
}

#[tokio::test]
async fn a_mishap_of_the_host_accuses_nobody() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let fetched = host.fetch(&world).await.unwrap();
    let refusal = Box::new(Refusal::NotInOrder { because: "dpkg was interrupted".to_owned() });
    let answer = OrderAnswer::Refused { order: fetched.nonce, refusal };
    let answered = Answered { answer, result: None, digest: None };
    world.store.answer_order(&host.actor(), answered).await.unwrap();
    assert_eq!(host.disputes(&world).await, [""; 0]);
}

#[tokio::test]
async fn the_old_kernel_is_no_restart() {
    let world = World::new().await;
    let host = Host::begun_with(&world, json!({ "restart": "always" })).await;
    let old_kernel =
        || Runtime { newest_installed_kernel: Some("6.1.0-2".to_owned()), ..running() };
    let mut fetched = host.fetch(&world).await.unwrap();
    // The new packages, and the restart in a step of its own: until then the old kernel runs.
    if fetched.plan.draft().stages.len() > 1 {
        host.ends(&world, &fetched, Ended::Done).await;
        host.looks(&world, &[("web", "2")], old_kernel()).await;
        for _ in 0..48 {
            world.clock.pass(SignedDuration::from_hours(1));
            host.go_on(&world).await;
            if let Some(next) = host.fetch(&world).await {
                fetched = next;
                break;
            }
        }
    }
    host.ends(&world, &fetched, Ended::Done).await;

    host.looks(&world, &[("web", "2")], old_kernel()).await;

    let stands = host.stands(&world).await;
    assert_eq!(stands["mode"]["is"], "held", "{stands}");
    let owner = host.case_owner(&world).await;
    let orders = world.ask(&owner, "GET", "/api/v1/orders", None).await.json();
    let conflict = orders.as_array().unwrap().iter().find(|it| it["outcome"] == "conflict");
    let reason = conflict.expect("a conflict")["reason"].as_str().unwrap();
    assert!(reason.contains("6.1.0-1") && reason.contains("6.1.0-2"), "{reason}");
    assert!(host.disputes(&world).await[0].contains(reason));
}

#[tokio::test]
async fn what_a_look_does_not_tell_is_not_verified() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let fetched = host.fetch(&world).await.unwrap();
    host.ends(&world, &fetched, Ended::Done).await;

    // Whoever looked may not see all processes.
    let blind = Runtime { unreadable_processes: 3, ..running() };
    host.looks(&world, &[("web", "2")], blind).await;
    assert_eq!(host.stands(&world).await["turns"][0]["phase"]["is"], "checking");

    host.looks(&world, &[("web", "2")], running()).await;
    assert_eq!(host.stands(&world).await["turns"][0]["phase"]["is"], "done");
}

#[tokio::test]
async fn a_refusal_and_a_way_back_end_as_it_was() {
    for is_refused in [true, false] {
        let world = World::new().await;
        let host = Host::begun(&world).await;
        let fetched = host.fetch(&world).await.unwrap();
        if is_refused {
            let refusal = Box::new(Refusal::Done { stage: 1 });
            let answer = OrderAnswer::Refused { order: fetched.nonce, refusal };
            let answered = Answered { answer, result: None, digest: None };
            world.store.answer_order(&host.actor(), answered).await.unwrap();
        } else {
            let because = "it breaks".to_owned();
            host.ends(&world, &fetched, Ended::RolledBack { because }).await;
        }
        host.go_on(&world).await;
        let stands = host.stands(&world).await;
        assert_eq!(stands["mode"]["is"], "held", "one of one failed: {stands}");
        assert_eq!(stands["turns"][0]["phase"]["is"], "rolling_back", "{stands}");

        host.looks(&world, &[("web", "1")], running()).await;

        assert_eq!(host.stands(&world).await["turns"][0]["phase"]["is"], "rolled_back");
        let owner = host.case_owner(&world).await;
        let order = &world.ask(&owner, "GET", "/api/v1/orders", None).await.json()[0];
        let expected = if is_refused { "refused" } else { "rolled_back" };
        assert_eq!(order["outcome"], expected, "{order}");
        assert!(order["reason"].is_string(), "{order}");
    }
}

#[tokio::test]
async fn orders_are_for_the_item_s_own_agent_alone() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let fetched = host.fetch(&world).await.unwrap();

    let stranger: AgentId = Id::new(world.clock.now(), [2; 10]);
    let other = Case::new(&world, "b", crate::support::osv("X-9", "other", "2"), [3; 32]).await;
    let by = Actor::Agent { agent: stranger, tenant: other.tenant, ci: other.ci };
    assert!(world.store.order_for(&by).await.unwrap().is_none());
    let answer = OrderAnswer::Refused {
        order: fetched.nonce,
        refusal: Box::new(Refusal::Done { stage: 1 }),
    };
    let answered = Answered { answer, result: None, digest: None };
    // For them it is an order that nobody gave: it is recorded as that, and answers nothing of anybody's.
    world.store.answer_order(&by, answered.clone()).await.unwrap();
    let owner = host.case_owner(&world).await;
    let order = &world.ask(&owner, "GET", "/api/v1/orders", None).await.json()[0];
    assert_eq!(order["outcome"], Value::Null, "{order}");
    assert!(world.store.answer_order(&world.admin, answered).await.is_err());
    let theirs = world.token_of(&other.person, Access::Read).await;
    assert_eq!(world.ask(&theirs, "GET", "/api/v1/orders", None).await.json(), json!([]));
}

#[tokio::test]
async fn the_provider_s_people_decide_about_a_release() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let path = format!("/api/v1/releases/{}/commands", host.release["id"].as_str().unwrap());
    let command = |what: &str| Some(json!({ "do": what, "reason": "we look first" }));

    let held = world.ask(&host.provider, "POST", &path, command("hold")).await;
    assert_eq!(held.status, 200, "{}", held.text);
    assert_eq!(held.json()["mode"]["is"], "held");
    let owner = host.case_owner(&world).await;
    assert_eq!(world.ask(&owner, "POST", &path, command("resume")).await.status, 403);
    assert_eq!(world.ask(&host.provider, "POST", &path, command("dance")).await.status, 400);
    let resumed = world.ask(&host.provider, "POST", &path, command("resume")).await;
    assert_eq!(resumed.json()["mode"]["is"], "running", "{}", resumed.text);
    let twice = world.ask(&host.provider, "POST", &path, command("resume")).await;
    assert_eq!(twice.status, 422, "{}", twice.text);
}

/// What an envelope says, if the verifier's key signed it.
fn opened(envelope: &Value, key: &str) -> Option<Value> {
    let key = key.parse().unwrap();
    let opened = attestation::verify(envelope.to_string().as_bytes(), &[key]).ok()?;
    Some(serde_json::to_value(&opened).unwrap())
}

#[tokio::test]
async fn what_a_look_came_to_is_signed_with_a_key_of_its_own_and_shown() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let fetched = host.fetch(&world).await.unwrap();
    host.ends(&world, &fetched, Ended::Done).await;

    host.looks(&world, &[("web", "1")], running()).await;

    let owner = host.case_owner(&world).await;
    let path = format!("/api/v1/verifications?ci={}", host.agent.ci);
    let listed = world.ask(&owner, "GET", &path, None).await;
    assert_eq!(listed.status, 200, "{}", listed.text);
    let kept = listed.json()["items"][0].clone();
    assert_eq!(kept["verdict"]["is"], "conflict", "{kept}");
    assert_eq!(kept["because"], "web is at 1, and 2 was planned");
    assert_eq!(kept["claim"]["order"], json!(fetched.nonce));
    let key = world.ask(&owner, "GET", "/api/v1/verifications/key", None).await.json();
    assert_eq!(kept["key"], key["id"]);
    let says = opened(&kept["envelope"], key["public_key"].as_str().unwrap()).unwrap();
    assert_eq!(says["predicateType"], "urn:patchwright:verification:v1");
    assert_eq!(says["predicate"]["verdict"], kept["verdict"]);
    assert_eq!(says["subject"][0]["digest"]["sha256"], kept["claim"]["plan"]);
    // It is nobody else's key.
    let orders = world.store.key(&world.master, "orders").await.unwrap();
    let orders = attestation::Attestor::new(&orders).key();
    assert!(opened(&kept["envelope"], &orders.to_string()).is_none());

    let one = format!("/api/v1/verifications/{}", kept["id"].as_str().unwrap());
    assert_eq!(world.ask(&owner, "GET", &one, None).await.json(), kept);
    let other = world.tenant("other").await;
    let stranger = world.token(other, Role::TenantOwner, Access::Read).await;
    assert_eq!(world.ask(&stranger, "GET", &one, None).await.status, 404);
    let list = world.ask(&stranger, "GET", "/api/v1/verifications", None).await.json();
    assert_eq!(list, json!({ "items": [], "next": null }));
    let both = format!("{path}&change={}", host.case.change.change.id);
    assert_eq!(world.ask(&owner, "GET", &both, None).await.status, 400);

    let page = world.ask(&owner, "GET", &format!("/cis/{}", host.agent.ci), None).await.text;
    for said in ["Verified after orders", "✗ conflict", "web is at 1, and 2 was planned"] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

/// What the agents' side answers to an agent, over a connection of its own.
async fn as_agent<T: serde::de::DeserializeOwned>(
    world: &World,
    agent: &Agent,
    path: &str,
    body: Value,
) -> T {
    let (ready, address) = tokio::sync::oneshot::channel();
    let (agents, any) = (world.agents.clone(), ([127, 0, 0, 1], 0).into());
    let tell = move |address| ready.send(address).unwrap();
    let serving = tokio::spawn(serve_proxied_agents(agents, any, tell, std::future::pending()));
    let address: std::net::SocketAddr = address.await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = body.to_string();
    let request = format!(
        "POST /agent/v1/{path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         x-patchwright-agent-key: {}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        agent.key,
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    serving.abort();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// What one of these keys signed; `None` where none of them did.
fn signed_by<T: Payload>(keys: &[AttestorKey], envelope: &str) -> Option<Verified<T>> {
    let opened = attestation::open(envelope.as_bytes(), keys).ok()?;
    Verified::signed_by(KeyId::from(opened.key.id_bytes()), &opened.payload).ok()
}

/// What a host goes by that joins now.
async fn joins(world: &World, host: &Host) -> Trusted {
    let attestor = crate::support::PUBLIC_KEY;
    let offer: PinsOffered =
        as_agent(world, &host.agent, "pins", json!({ "attestor": attestor })).await;
    let PinsOffered { order_keys, order_key_version, consent_keys, origins, terms } = offer;
    let Agent { id: agent, ci, .. } = host.agent;
    let versions = VersionKind::Dpkg;
    let pins =
        Pins { agent, ci, versions, order_keys, order_key_version, consent_keys, origins, terms };
    Trusted::join(pins, world.clock.now())
}

/// As an agent reads what is handed to it: the keys that it goes by then, and the order if one of them
/// signed it.
fn reads(trusted: &Trusted, handed: &HandedOrder) -> (Trusted, Option<Verified<Order>>) {
    let keys: Vec<AttestorKey> =
        handed.bundle.public_keys.iter().filter_map(|pem| pem.parse().ok()).collect();
    let pinned = |trusted: &Trusted| {
        let ids: Vec<_> = trusted.order_keys().collect();
        let is_pinned = |key: &&AttestorKey| ids.contains(&KeyId::from(key.id_bytes()));
        keys.iter().filter(is_pinned).cloned().collect::<Vec<_>>()
    };
    let mut trusted = trusted.clone();
    for envelope in &handed.bundle.handovers {
        if let Some(said) = signed_by::<Handover>(&pinned(&trusted), envelope)
            && let Ok(next) = trusted.hand_over(&said)
        {
            trusted = next;
        }
    }
    let order = signed_by(&pinned(&trusted), &handed.bundle.order);
    (trusted, order)
}

#[tokio::test]
async fn the_key_of_orders_is_handed_over_and_orders_follow_it() {
    let world = World::new().await;
    let host = Host::begun(&world).await;
    let fetch = || as_agent::<HandedOrder>(&world, &host.agent, "orders/next", json!({}));
    let admin = world.token_of(&world.admin, Access::Write).await;
    let hands_over = async |after: u64| {
        world.ask(&admin, "POST", "/api/v1/order-keys", Some(json!({ "after": after }))).await
    };
    let first = joins(&world, &host).await;
    assert_eq!(first.order_key_version(), 1);
    let before = fetch().await;
    assert!(before.bundle.handovers.is_empty());
    let order = reads(&first, &before).1.unwrap();
    assert_eq!(order.said().sequence, 1);
    let shown = world.ask(&admin, "GET", "/api/v1/order-keys", None).await.json();
    assert_eq!(shown["version"], 1);
    let id = first.order_keys().next().unwrap().to_string();
    assert_eq!(shown["id"], json!(id));

    // Sent twice, it is handed over once.
    let made = hands_over(1).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(made.json()["version"], 2);
    assert_ne!(made.json()["id"], shown["id"]);
    let again = hands_over(1).await;
    assert_eq!(again.status, 422, "{}", again.text);
    assert_eq!(world.ask(&admin, "GET", "/api/v1/order-keys", None).await.json(), made.json());

    // The order that waits is signed anew, by the key that the host goes by then.
    let after = fetch().await;
    assert_eq!(after.order, before.order);
    let (handed_over, order) = reads(&first, &after);
    assert_eq!(handed_over.order_key_version(), 2);
    let order = order.unwrap();
    assert_eq!(order.said().nonce, before.order);
    assert_eq!(order.said().sequence, 2);
    assert_eq!(order.key().to_string(), made.json()["id"].as_str().unwrap());
    assert_eq!(fetch().await.bundle.order, after.bundle.order, "and stays so");

    // A host that joins after a handover takes the next one, and not the first again.
    let second = joins(&world, &host).await;
    assert_eq!(second.order_key_version(), 2);
    assert_eq!(reads(&second, &after).0, second);
    assert!(reads(&second, &after).1.is_some());
    assert_eq!(hands_over(2).await.status, 201);
    let last = fetch().await;
    assert_eq!(last.bundle.handovers.len(), 2);
    for trusted in [&first, &handed_over, &second] {
        let (next, order) = reads(trusted, &last);
        assert_eq!(next.order_key_version(), 3);
        assert!(order.is_some());
    }
    assert!(reads(&second, &before).1.is_none(), "the first key counts no more");

    // What came of it is still that order's.
    let waiting = world.store.order_for(&host.actor()).await.unwrap().unwrap();
    host.ends(&world, &waiting, Ended::Done).await;
    assert!(host.disputes(&world).await.is_empty());
    world.recorder.finish().await.unwrap();
    let reader = world.token_of(&world.admin, Access::Read).await;
    let events = world.ask(&reader, "GET", "/api/v1/events?limit=1000", None).await.json();
    let events = events["items"].as_array().unwrap();
    let rotated: Vec<_> =
        events.iter().filter(|event| event["kind"] == "order_key.rotated").collect();
    assert_eq!(rotated.len(), 2, "{events:?}");
}
