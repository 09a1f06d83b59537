//! Break-glass on both engines: what it explains, whom it binds, and what its review makes of what was done.

use domain::agent::Trace;
use domain::cloud::{BreakGlassId, EventKind, Role};
use domain::configuration::break_glass::{Outcome, Stage, Terms};
use domain::configuration::verdict::{Actor as Hand, Approval, Standing, Verdict};
use jiff::SignedDuration;
use store::{
    Actor, BreakGlass, BreakGlassFilter, Cover, DriftGrade, DriftState, Erasure, Happening,
    NewBreakGlass, NewGroup, Selector, StoreError,
};

use crate::alterations_are_judged::{Host, by, page};
use crate::support::World;
use crate::support::history::HOLDER;
use crate::support::{actor, person};

on_both_engines! {
    what_is_done_under_it_waits_for_a_second_person
    what_its_review_rejects_is_drift
    what_was_undone_or_done_over_is_not_reviewed
    it_permits_no_other_file_hand_or_time
    of_a_group_it_covers_whoever_belongs_to_it
    a_review_is_of_what_was_seen
    nobody_reviews_it_in_time
    nobody_sees_another_tenants
    what_is_erased_is_gone
}

const SSHD: &str = "/etc/ssh/sshd_config";
const MOTD: &str = "/etc/motd";
const HOUR: SignedDuration = SignedDuration::from_hours(1);

struct Two {
    host: Host,
    /// Somebody else of the tenant.
    second: Actor,
}

impl Two {
    async fn new(world: World) -> Self {
        let host = Host::new(world).await;
        let new = person(host.it.tenant, "second", Role::TenantApprover);
        let second = host.it.world.store.create_user(&host.it.world.admin, None, new).await;
        Self { second: actor(&second.unwrap()), host }
    }

    async fn open(&self, files: &[&str], logins: &[&str]) -> BreakGlass {
        self.open_for(Cover::Item(self.host.it.cis[0]), files, logins).await
    }

    async fn open_for(&self, cover: Cover, files: &[&str], logins: &[&str]) -> BreakGlass {
        let owned = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let reason = "nobody gets in".parse().unwrap();
        let terms = Terms::new("INC-1".to_owned(), reason, owned(logins), owned(files)).unwrap();
        let new = NewBreakGlass { cover, terms, minutes: 60, review_hours: 4 };
        self.host.it.history.open_break_glass(&self.host.it.owner, new).await.unwrap()
    }

    async fn read(&self, id: BreakGlassId) -> BreakGlass {
        self.host.it.history.break_glass(&self.host.it.owner, id).await.unwrap()
    }

    async fn close(&self, id: BreakGlassId) -> BreakGlass {
        self.host.it.history.close_break_glass(&self.host.it.owner, id).await.unwrap()
    }

    /// So much later that no clock that differs explains anything, and the host looked since.
    fn later(&mut self) {
        self.host.it.world.environment.pass(SignedDuration::from_mins(2));
        self.host.looked = Some(self.host.now());
    }

    async fn review(&self, id: BreakGlassId, outcome: Outcome) -> BreakGlass {
        self.reviewed(&self.second, id, outcome).await.unwrap()
    }

    async fn reviewed(
        &self,
        by: &Actor,
        id: BreakGlassId,
        outcome: Outcome,
    ) -> Result<BreakGlass, StoreError> {
        let (seen, why) = (self.read(id).await.version, "looked at it".parse().unwrap());
        self.host.it.history.review_break_glass(by, id, seen, outcome, why).await
    }

    async fn events(&self) -> Vec<EventKind> {
        let store = &self.host.it.world.store;
        store.sequence_events(10_000).await.unwrap();
        let events = store.sequenced_events(0, 10_000).await.unwrap();
        let kinds = events.into_iter().map(|event| event.kind);
        kinds.filter(|kind| kind.as_str().starts_with("break_glass.")).collect()
    }
}

fn is_under(verdict: &Verdict, id: BreakGlassId) -> bool {
    matches!(verdict, Verdict::Emergency { break_glass, .. } if *break_glass == id)
}

async fn what_is_done_under_it_waits_for_a_second_person(world: World) {
    let mut two = Two::new(world).await;
    let owner = two.host.it.owner.clone();
    let opened = two.open(&["/etc/ssh/**"], &["anna"]).await;
    assert_eq!((opened.stage, opened.files), (Stage::Open, 0));
    assert_eq!(opened.span.until, opened.span.from + HOUR);
    assert_eq!(opened.span.review_by, opened.span.until + HOUR * 4);
    assert_eq!(opened.cover_name.as_deref(), Some("web-0"));
    let store = two.host.it.world.store.clone();
    let alarms = store.drift_alarms(two.host.it.tenant, 9).await.unwrap().unwrap();
    assert_eq!(
        (alarms.break_glass[0].id, alarms.break_glass[0].grade),
        (opened.id, DriftGrade::Opened)
    );
    assert_eq!((alarms.drifts, alarms.items), ([0, 0], 0), "it is no drift");

    let verdict = two.host.writes(SSHD, Some("PermitRootLogin yes\n"), by("anna")).await;

    assert!(is_under(&verdict.judgement.verdict, opened.id), "{verdict:?}");
    assert!(two.host.open().await.is_empty());
    two.host.writes(SSHD, Some("PermitRootLogin without-password\n"), by("anna")).await;
    let files = two.host.it.history.broken_files(&owner, opened.id).await.unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!(
        (files[0].path.as_str(), files[0].what, files[0].count),
        (SSHD, Happening::Altered, 2)
    );

    // Four eyes, and only what is over.
    let early = two.reviewed(&two.second, opened.id, Outcome::Accepted).await;
    assert!(matches!(early, Err(StoreError::Refused { .. })), "{early:?}");
    let closed = two.close(opened.id).await;
    assert_eq!((closed.stage, closed.closed_by), (Stage::InReview, Some(owner.id())));
    assert!(closed.span.review_by < opened.span.review_by);
    let own = two.reviewed(&owner, opened.id, Outcome::Accepted).await;
    assert!(own.unwrap_err().to_string().contains("whoever opened it"));
    let reviewed = two.review(opened.id, Outcome::Accepted).await;

    assert_eq!((reviewed.stage, reviewed.files), (Stage::Accepted, 1));
    assert_eq!(reviewed.review.unwrap().by, two.second.id());
    let twice = two.reviewed(&two.second, opened.id, Outcome::Rejected).await;
    assert!(matches!(twice, Err(StoreError::Refused { .. })), "{twice:?}");
    assert_eq!(store.drift_alarms(two.host.it.tenant, 9).await.unwrap(), None);
    // What was accepted is what the file is to be.
    two.host.writes(SSHD, Some("Port 1\n"), by("bob")).await;
    assert_eq!(two.host.open().await.len(), 1);
    let back = "PermitRootLogin without-password\n";
    let verdict = two.host.writes(SSHD, Some(back), by("bob")).await;
    let to = Approval::Review { break_glass: opened.id };
    assert_eq!(verdict.judgement.verdict, Verdict::Reverted { to });
    let (opened, used) = (EventKind::BreakGlassOpened, EventKind::BreakGlassUsed);
    let (closed, reviewed) = (EventKind::BreakGlassClosed, EventKind::BreakGlassReviewed);
    assert_eq!(two.events().await, [opened, used, used, closed, reviewed]);
}

async fn what_its_review_rejects_is_drift(world: World) {
    let mut two = Two::new(world).await;
    let it = two.open(&["/etc/**"], &[]).await;
    let first = two.host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    two.host.writes(SSHD, Some("Port 2\n"), by("anna")).await;
    two.host.writes(MOTD, Some("down\n"), None).await;
    two.close(it.id).await;
    two.later();
    // Altered again with no leave: that is a drift before anybody looks.
    two.host.writes(MOTD, Some("up\n"), by("bob")).await;
    assert_eq!(two.host.open().await.len(), 1);

    two.review(it.id, Outcome::Rejected).await;

    let open = two.host.open().await;
    assert_eq!(open.len(), 2);
    let sshd = open.iter().find(|drift| drift.path.as_str() == SSHD).unwrap();
    assert_eq!((sshd.what, sshd.count), (Happening::Altered, 2));
    assert_eq!(sshd.judgement.verdict, Verdict::Unauthorised);
    assert_eq!(sshd.by.as_deref(), None);
    assert!(sshd.escalates_at.is_some());
    let verdicts = two.host.verdicts().await;
    let of_sshd = verdicts.values().filter(|it| it.path == SSHD);
    let standings: Vec<_> = of_sshd.map(|it| it.judgement.verdict.standing()).collect();
    assert_eq!(standings, [Standing::Unauthorised, Standing::Unauthorised]);
    assert_ne!(first.judgement.verdict, Verdict::Unauthorised);
    let store = two.host.it.world.store.clone();
    let alarms = store.drift_alarms(two.host.it.tenant, 9).await.unwrap().unwrap();
    assert_eq!((alarms.drifts, alarms.break_glass), ([2, 0], Vec::new()));

    // What was there before the emergency may come back, of the file that was altered again too.
    let to = Approval::Before { drift: sshd.id };
    let back = two.host.writes(SSHD, Some("PermitRootLogin no\n"), by("carl")).await;
    assert_eq!(back.judgement.verdict, Verdict::Reverted { to });
    let gone = two.host.writes(MOTD, None, by("carl")).await;
    assert!(matches!(gone.judgement.verdict, Verdict::Reverted { .. }), "{gone:?}");
    assert!(two.host.open().await.is_empty());
}

async fn what_was_undone_or_done_over_is_not_reviewed(world: World) {
    let mut two = Two::new(world).await;
    two.host.writes(MOTD, Some("hello\n"), by("anna")).await;
    let open = two.host.open().await.remove(0);
    let it = two.open(&["/etc/**"], &[]).await;
    two.host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    two.host.writes(MOTD, Some("down\n"), by("anna")).await;
    assert_eq!(two.host.drifts(None).await[0].state, DriftState::Superseded);
    two.close(it.id).await;
    two.later();

    let back = two.host.writes(SSHD, Some("PermitRootLogin no\n"), by("carl")).await;

    let to = Approval::BeforeReview { break_glass: it.id };
    assert_eq!(back.judgement.verdict, Verdict::Reverted { to });
    two.review(it.id, Outcome::Rejected).await;
    let drift = two.host.open().await.remove(0);
    assert_eq!(drift.path.as_str(), MOTD);
    assert_ne!(drift.id, open.id);
    // What was a drift before it is none to come back to.
    let again = two.host.writes(MOTD, Some("hello\n"), by("carl")).await;
    assert_eq!(again.judgement.verdict, Verdict::Unauthorised);
    let gone = two.host.writes(MOTD, None, by("carl")).await;
    assert_eq!(
        gone.judgement.verdict,
        Verdict::Reverted { to: Approval::Before { drift: drift.id } }
    );
}

async fn it_permits_no_other_file_hand_or_time(world: World) {
    let mut two = Two::new(world).await;
    let it = two.open(&["/etc/ssh/**"], &["anna"]).await;

    let unauthorised = Verdict::Unauthorised;
    let other_hand = two.host.writes(SSHD, Some("Port 1\n"), by("bob")).await;
    assert_eq!(other_hand.judgement.verdict, unauthorised);
    let other_file = two.host.writes(MOTD, Some("x\n"), by("anna")).await;
    assert_eq!(other_file.judgement.verdict, unauthorised);
    two.host.it.world.environment.pass(HOUR + SignedDuration::from_mins(2));
    assert_eq!(two.read(it.id).await.stage, Stage::InReview, "it ended by itself");
    two.host.looked = Some(two.host.now());
    let late = two.host.writes(SSHD, Some("Port 2\n"), by("anna")).await;
    assert_eq!(late.judgement.verdict, unauthorised);
    let closed = two.host.it.history.close_break_glass(&two.host.it.owner, it.id).await;
    assert!(matches!(closed, Err(StoreError::Refused { .. })), "{closed:?}");

    // What is told late is what it was when it was done, until somebody reviewed it.
    let done = it.span.from + SignedDuration::from_mins(5);
    let trace = || {
        let who = Hand::Person { login: "anna".to_owned() };
        Trace { who, changed_at: Some(done), shipped: None }
    };
    two.host.looked = Some(it.span.from);
    let told = two.host.writes("/etc/ssh/moduli", Some("1\n"), trace()).await;
    assert!(is_under(&told.judgement.verdict, it.id), "{told:?}");
    two.review(it.id, Outcome::Accepted).await;
    two.host.looked = Some(it.span.from);
    let told = two.host.writes("/etc/ssh/ssh_config", Some("1\n"), trace()).await;
    assert_eq!(told.judgement.verdict, unauthorised, "and not afterwards");
}

async fn of_a_group_it_covers_whoever_belongs_to_it(world: World) {
    let mut two = Two::new(world).await;
    let (admin, store) = (two.host.it.world.admin.clone(), two.host.it.world.store.clone());
    let group = |label: bool| {
        let labels = [("tier".parse().unwrap(), "front".to_owned())];
        let labels = labels.into_iter().filter(|_| label).collect();
        let name = if label { "front" } else { "all" };
        let selector = Selector { class: None, labels };
        let (tenant, description) = (two.host.it.tenant, String::new());
        NewGroup { tenant, name: name.parse().unwrap(), description, selector }
    };
    let front = store.create_group(&admin, None, group(true)).await.unwrap();
    let all = store.create_group(&admin, None, group(false)).await.unwrap();

    two.open_for(Cover::Group(front.id), &["/etc/**"], &[]).await;
    let verdict = two.host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    assert_eq!(verdict.judgement.verdict, Verdict::Unauthorised, "it does not belong to it");
    let it = two.open_for(Cover::Group(all.id), &["/etc/**"], &[]).await;
    assert_eq!(it.cover_name.as_deref(), Some("all"));
    let verdict = two.host.writes(SSHD, Some("Port 2\n"), by("anna")).await;
    assert!(is_under(&verdict.judgement.verdict, it.id), "{verdict:?}");

    // The provider's people open it for what the provider keeps; this item its tenant does.
    let terms = two.read(it.id).await.terms;
    let cover = Cover::Group(all.id);
    let new = NewBreakGlass { cover, terms, minutes: 60, review_hours: 4 };
    two.close(it.id).await;
    two.review(it.id, Outcome::Rejected).await;
    two.host.it.history.open_break_glass(&admin, new).await.unwrap();
    let verdict = two.host.writes(MOTD, Some("x\n"), by("root")).await;
    assert_eq!(verdict.judgement.verdict, Verdict::Unauthorised);
}

async fn a_review_is_of_what_was_seen(world: World) {
    let mut two = Two::new(world).await;
    let it = two.open(&["/etc/**"], &[]).await;
    let done = Trace { who: Hand::Unknown, changed_at: Some(two.host.now()), shipped: None };
    two.close(it.id).await;
    let seen = two.read(it.id).await.version;
    two.host.writes(SSHD, Some("Port 1\n"), done).await;

    let why = || "fine".parse().unwrap();
    let history = two.host.it.history.clone();
    let blind =
        history.review_break_glass(&two.second, it.id, seen, Outcome::Accepted, why()).await;

    assert!(blind.unwrap_err().to_string().contains("more was done"));
    // A review and a verdict at once: one goes first, and the other sees it.
    let seen = two.read(it.id).await.version;
    let (one, other) = tokio::join!(
        history.review_break_glass(&two.second, it.id, seen, Outcome::Accepted, why()),
        history.review_break_glass(&two.second, it.id, seen, Outcome::Rejected, why()),
    );
    assert_ne!(one.is_ok(), other.is_ok(), "{one:?} {other:?}");
}

async fn nobody_reviews_it_in_time(world: World) {
    let two = Two::new(world).await;
    let it = two.open(&["/etc/**"], &[]).await;
    let store = two.host.it.world.store.clone();
    assert!(!store.has_break_glass_to_escalate().await.unwrap());
    two.close(it.id).await;

    two.host.it.world.environment.pass(HOUR * 4 + SignedDuration::from_mins(1));

    assert!(store.has_break_glass_to_escalate().await.unwrap());
    assert_eq!(store.escalate_break_glass(9).await.unwrap(), 1);
    assert_eq!(store.escalate_break_glass(9).await.unwrap(), 0);
    assert!(two.read(it.id).await.escalated_at.is_some());
    let alarms = store.drift_alarms(two.host.it.tenant, 9).await.unwrap().unwrap();
    assert_eq!(alarms.break_glass[0].grade, DriftGrade::Escalated);
    let listed = async |stage| {
        let filter = BreakGlassFilter { stage: Some(stage), ..BreakGlassFilter::default() };
        two.host.it.history.break_glasses(&two.second, filter, &page()).await.unwrap().items.len()
    };
    assert_eq!((listed(Stage::Open).await, listed(Stage::InReview).await), (0, 1));
    // It still waits for its review.
    two.review(it.id, Outcome::Accepted).await;
    assert_eq!((listed(Stage::InReview).await, listed(Stage::Accepted).await), (0, 1));
    assert!(two.events().await.contains(&EventKind::BreakGlassEscalated));
}

async fn nobody_sees_another_tenants(world: World) {
    let two = Two::new(world).await;
    let it = two.open(&["/etc/**"], &[]).await;
    let other = two.host.it.world.tenant("other").await;
    let stranger = two.host.it.world.owner(&other).await;
    let history = &two.host.it.history;

    let missing = |found: Result<_, StoreError>| matches!(found, Err(StoreError::NotFound { .. }));
    assert!(missing(history.break_glass(&stranger, it.id).await));
    assert!(missing(history.close_break_glass(&stranger, it.id).await));
    assert!(missing(two.reviewed(&stranger, it.id, Outcome::Accepted).await));
    assert!(missing(history.broken_files(&stranger, it.id).await.map(|_| it.clone())));
    for tenant in [None, Some(two.host.it.tenant)] {
        let filter = BreakGlassFilter { tenant, ..BreakGlassFilter::default() };
        assert!(history.break_glasses(&stranger, filter, &page()).await.unwrap().items.is_empty());
    }
    let terms = it.terms.clone();
    let new = NewBreakGlass { cover: it.cover, terms, minutes: 60, review_hours: 4 };
    assert!(missing(history.open_break_glass(&stranger, new.clone()).await));
    let long = NewBreakGlass { minutes: 24 * 60 + 1, ..new };
    let refused = history.open_break_glass(&two.host.it.owner, long).await;
    assert!(refused.unwrap_err().to_string().contains("1441 minutes"));
    assert_eq!(history.break_glass(&two.host.it.world.admin, it.id).await.unwrap().id, it.id);
}

async fn what_is_erased_is_gone(world: World) {
    let mut two = Two::new(world).await;
    let it = two.open(&["/etc/**"], &[]).await;
    two.host.writes(SSHD, Some("Port 1\n"), by("anna")).await;
    let (owner, tenant) = (two.host.it.owner.clone(), two.host.it.tenant);

    let all = Erasure::Everything;
    two.host.it.history.erase(&owner, tenant, all, "asked for", HOLDER).await.unwrap();

    let found = two.host.it.history.break_glass(&owner, it.id).await;
    assert!(matches!(found, Err(StoreError::NotFound { .. })), "{found:?}");
    assert!(two.events().await.contains(&EventKind::BreakGlassUsed), "that it was is recorded");
}
