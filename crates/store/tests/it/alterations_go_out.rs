//! Alterations of files on both engines: proposed, planned, carried by orders, looked for in history, taken back.

use std::sync::Arc;

use crate::changes_and_their_clocks::{Case, DAY, done, lacking, now, wake};
use crate::releases_on_their_way::{Host, layout_of, target};
use crate::support::World;
use crate::support::history::file;
use domain::change::alteration::{Named, Unwritable};
use domain::change::{
    Access, Action, FileChange, FileHash, FileState, Intended, Kind, Reason, Rollback,
};
use domain::configuration::document::original;
use domain::configuration::verdict::{Evidence, Verdict};
use domain::order::Ended;
use domain::priority::Priority;
use domain::release::{Command, Content, Target, Work};
use jiff::SignedDuration;
use sha2::{Digest as _, Sha256};
use store::{
    Actor, ChangeStep, DriftFilter, DriftState, FilePath, History, IntendedFile, NewChange,
    NewIntended, NewIntendedFile, OrderFilter, PageRequest, StoreError, Telling, rehearse,
};

on_both_engines! {
    an_alteration_goes_out_and_history_bears_it_out
    what_history_does_not_bear_out_is_a_conflict
    what_was_written_goes_back_to_what_it_was
    what_was_refused_is_back_whatever_else_the_file_has
    a_drift_is_put_back_by_what_was_there_before_it
    a_file_that_came_by_a_drift_is_taken_away_and_one_that_went_comes_back
    a_drift_of_an_owner_is_put_back
    a_file_is_taken_away_and_comes_back_whole
    a_new_file_goes_again_and_only_as_it_was_made
    a_file_is_given_to_others_and_back
    what_was_kept_before_owners_were_said_is_still_carried_out
    what_nobody_could_see_is_not_proposed
}

pub(crate) const MOTD: &str = "/etc/motd";
pub(crate) const OLD: &str = "old\n";
pub(crate) const NEW: &str = "new and better\n";

/// A tenant's item with one file, and an alteration of it.
pub(crate) struct Altered {
    pub(crate) case: Case,
    pub(crate) history: History,
}

fn path(name: &str) -> FilePath {
    FilePath::new(name).unwrap()
}

pub(crate) fn hash(text: &str) -> FileHash {
    <[u8; 32]>::from(Sha256::digest(text)).into()
}

/// A file with its content, root's, with such permissions.
fn is(text: &str, mode: &str) -> Intended {
    state(text, mode).into()
}

fn state(text: &str, mode: &str) -> FileState {
    let access = Access { mode: mode.parse().unwrap(), ..Access::usual() };
    FileState { sha256: hash(text), access }
}

fn content(text: &str) -> Intended {
    Intended::Content { sha256: hash(text), access: None }
}

fn with_mode(mode: &str) -> Named {
    Named { mode: Some(mode.parse().unwrap()), ..Named::default() }
}

impl Altered {
    async fn new(world: &World) -> Self {
        let mut case = lacking(world, "high").await;
        let history = world.history();
        let new = NewChange {
            kind: Kind::Alteration,
            title: "a banner".to_owned(),
            patches: Vec::new(),
            tenants: vec![case.tenant.id],
            priority: Priority::High,
        };
        case.change = world.store.create_change(&world.admin, None, new).await.unwrap();
        let first = file(path(MOTD), Some((OLD.as_bytes().to_vec(), 0o100_644)));
        history.record(&case.owner, case.ci.id, vec![first]).await.unwrap();
        Self { case, history }
    }

    async fn propose(
        &self,
        by: &Actor,
        name: &str,
        content: &str,
    ) -> Result<IntendedFile, StoreError> {
        let (content, access) = (content.as_bytes().to_vec(), Named::default());
        self.intend(by, name, NewIntended::Content { content, access }).await
    }

    async fn intend(
        &self,
        by: &Actor,
        name: &str,
        intended: NewIntended,
    ) -> Result<IntendedFile, StoreError> {
        let new = NewIntendedFile { ci: self.case.ci.id, path: path(name), intended };
        self.history.propose_file(by, self.case.change.change.id, new).await
    }

    async fn proven(world: &World) -> Self {
        let (content, access) = (NEW.as_bytes().to_vec(), Named::default());
        Self::proven_to_be(world, MOTD, NewIntended::Content { content, access }).await
    }

    async fn proven_to_be(world: &World, name: &str, intended: NewIntended) -> Self {
        let mut it = Self::new(world).await;
        it.intend(&world.admin, name, intended).await.unwrap();
        for step in [ChangeStep::Prove, ChangeStep::Pass(FileHash::from([3; 32]))] {
            let change = it.case.change.change.id;
            it.case.change =
                done(world.store.step_change(&world.admin, change, step).await.unwrap());
        }
        wake(world).await;
        it
    }

    async fn alters(&self, world: &World) -> Result<Vec<Action>, Unwritable> {
        let change = self.case.change.change.id;
        let mut all = self.history.alters(&world.admin, change).await.unwrap();
        all.remove(&self.case.ci.id).unwrap()
    }

    /// A release of it that its tenant agreed to, and that has begun.
    pub(crate) async fn begun(world: &World) -> (History, Host) {
        Self::proven(world).await.carried_out(world).await
    }

    async fn carried_out(self, world: &World) -> (History, Host) {
        let it = self;
        let content =
            Content { actions: it.alters(world).await.unwrap(), rollback: Rollback::Files };
        let usual = target(&it.case);
        let work = usual.work.clone().map(|work| Work { content: Arc::new(content), ..work });
        let layout = layout_of(&it.case, vec![Target { work, ..usual }], now(world) + DAY * 10, 1);
        let host = Host::carries_out(world, it.case, layout).await;
        (it.history, host)
    }
}

/// The agent tells that a file is another one, and that this is all.
pub(crate) async fn tells(world: &World, history: &History, host: &Host, content: Option<&str>) {
    let told = content.map(|content| (MOTD, Some((content, 0o100_644))));
    tells_of(world, history, host, told).await;
}

/// The same of whichever file, with its permissions, or that it is gone.
async fn tells_of(
    world: &World,
    history: &History,
    host: &Host,
    told: Option<(&str, Option<(&str, u32)>)>,
) {
    if let Some((name, found)) = told {
        let found = found.map(|(content, mode)| (content.as_bytes().to_vec(), mode));
        let mut told = file(path(name), found);
        told.observed_at = now(world);
        let traces = std::collections::BTreeMap::new();
        let telling = Telling { looked_before: None, evidence: Evidence::Complete, traces };
        let (by, ci) = (host.actor(), host.case.ci.id);
        history.record_told(&by, ci, vec![told], telling).await.unwrap();
        history.judge(10).await.unwrap();
    }
    world.environment.pass(SignedDuration::from_secs(1));
    world.store.note_files_complete(host.agent.id, now(world)).await.unwrap();
    host.go_on(world).await;
}

/// It reports all that it has installed.
pub(crate) async fn reports(world: &World, host: &Host) {
    world.environment.pass(SignedDuration::from_secs(1));
    world.store.note_complete(host.agent.id, now(world)).await.unwrap();
    host.go_on(world).await;
}

async fn last_verdict(history: &History, host: &Host) -> Verdict {
    let verdicts = history.verdicts(&host.case.owner, host.case.ci.id, None).await.unwrap();
    verdicts.into_iter().next_back().unwrap().1.judgement.verdict
}

async fn an_alteration_goes_out_and_history_bears_it_out(world: World) {
    let world = &world;
    let it = Altered::proven(world).await;
    let change = it.case.change.change.id;
    let proposed = it.history.intended_files(&it.case.owner, change).await.unwrap().remove(0);
    assert_eq!((&proposed.held, &proposed.after), (&is(OLD, "0644"), &content(NEW)));
    let content = it.history.intended_content(&proposed).await.unwrap();
    assert_eq!(content.as_deref(), Some(NEW.as_bytes()));
    let sealed: Vec<(Vec<u8>,)> = sqlx::query_as("SELECT sealed FROM alteration_contents")
        .fetch_all(&world.raw().await)
        .await
        .unwrap();
    assert_eq!(sealed.len(), 2, "what it is to hold, and what it may have to go back to");
    assert!(sealed.iter().all(|(it,)| !it.windows(6).any(|part| part == b"better")));
    // What was proven is what is planned.
    let late = it.propose(&world.admin, MOTD, "another\n").await.unwrap_err();
    assert!(late.to_string().contains("is settled"), "{late}");

    let content = Content { actions: it.alters(world).await.unwrap(), rollback: Rollback::Files };
    let usual = target(&it.case);
    let work = usual.work.clone().map(|work| Work { content: Arc::new(content), ..work });
    let layout = layout_of(&it.case, vec![Target { work, ..usual }], now(world) + DAY * 10, 1);
    let (history, host) = (it.history, Host::carries_out(world, it.case, layout).await);
    assert_eq!(host.phase(world).await, "ordered");
    let fetched = host.fetch(world).await;
    let carried = history.order_contents(&host.actor(), &fetched).await.unwrap();
    assert_eq!(carried, [NEW.as_bytes()]);
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    assert_eq!(host.phase(world).await, "checking", "what files hold is not told yet");

    tells(world, &history, &host, Some(NEW)).await;
    assert_eq!(host.phase(world).await, "done");
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });
    world.environment.pass(DAY);
    host.go_on(world).await;
    wake(world).await;
    assert_eq!(host.case.phase(world).await, "verified");

    // A day later its agent confirms what it told.
    tells(world, &history, &host, None).await;
    reports(world, &host).await;
    wake(world).await;
    assert_eq!(host.case.phase(world).await, "verified");
    // And then somebody puts back what was there before.
    world.environment.pass(DAY * 6);
    tells(world, &history, &host, Some(OLD)).await;
    reports(world, &host).await;
    wake(world).await;
    assert_eq!(host.case.phase(world).await, "reopened");
}

async fn what_history_does_not_bear_out_is_a_conflict(world: World) {
    let world = &world;
    let (history, host) = Altered::begun(world).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;

    tells(world, &history, &host, None).await;

    assert_eq!(host.phase(world).await, "failed");
    let release = world.store.release(&world.admin, host.release).await.unwrap();
    assert_eq!(release.run.mode().as_str(), "held");
    let orders = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    let reason = orders[0].reason.clone().unwrap();
    assert_eq!(orders[0].outcome.as_deref(), Some("conflict"));
    assert!(reason.contains(MOTD) && reason.contains(&hash(OLD).to_string()), "{reason}");
}

async fn what_was_written_goes_back_to_what_it_was(world: World) {
    let world = &world;
    let (history, host) = Altered::begun(world).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    tells(world, &history, &host, Some(NEW)).await;
    assert_eq!(host.phase(world).await, "done");

    let reason: Reason = "the shop is slow".parse().unwrap();
    let command = Command::RollBack { reason };
    done(world.store.command_release(&world.admin, host.release, command).await.unwrap());
    host.go_on(world).await;
    assert_eq!(host.phase(world).await, "rolling_back");
    let fetched = host.fetch(world).await;
    assert!(fetched.is_back);
    let carried = history.order_contents(&host.actor(), &fetched).await.unwrap();
    assert_eq!(carried, [OLD.as_bytes()]);
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    assert_eq!(host.phase(world).await, "rolling_back", "nobody has looked");

    tells(world, &history, &host, Some(OLD)).await;

    assert_eq!(host.phase(world).await, "rolled_back");
    let change = host.case.change.change.id;
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });
    let release = world.store.release(&world.admin, host.release).await.unwrap();
    assert_eq!(release.run.ended(), Some(domain::release::End::RolledBack));
    wake(world).await;
    assert_eq!(host.case.phase(world).await, "non_compliant");
    assert!(world.store.awaited_agents().await.unwrap().is_empty(), "nothing is looked at again");
}

async fn what_was_refused_is_back_whatever_else_the_file_has(world: World) {
    let world = &world;
    let (history, host) = Altered::begun(world).await;
    let fetched = host.fetch(world).await;
    let refusal = domain::order::Refusal::OtherFile {
        path: MOTD.to_owned(),
        expected: Some(hash(OLD)),
        found: Some(hash("somebody was here\n")),
    };
    host.ends(world, &fetched, Ended::Refused { refusal }).await;
    assert_eq!(host.phase(world).await, "rolling_back");
    reports(world, &host).await;

    tells(world, &history, &host, Some("somebody was here\n")).await;

    assert_eq!(host.phase(world).await, "rolled_back");
    let orders = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    assert_eq!(orders[0].outcome.as_deref(), Some("refused"));
    assert!(orders[0].reason.clone().unwrap().contains(MOTD), "{:?}", orders[0].reason);
}

async fn a_drift_is_put_back_by_what_was_there_before_it(world: World) {
    let world = &world;
    let it = Altered::new(world).await;
    let (ci, owner, history) = (it.case.ci.id, &it.case.owner, &it.history);
    let alters = async |content: &str| {
        let mut told = file(path(MOTD), Some((content.as_bytes().to_vec(), 0o100_644)));
        told.observed_at = now(world);
        let traces = std::collections::BTreeMap::new();
        let telling = Telling { looked_before: None, evidence: Evidence::Complete, traces };
        history.record_told(owner, ci, vec![told], telling).await.unwrap();
        history.judge(10).await.unwrap();
    };
    let page = PageRequest { after: None, limit: 10 };
    let open = DriftFilter { state: Some(DriftState::Open), ..DriftFilter::default() };
    alters("drifted\n").await;
    let drift = history.drifts(owner, open, &page).await.unwrap().items.remove(0);

    let rehearsed = rehearse(history.put_back(&world.admin, drift.id)).await.unwrap();
    assert!(rehearsed.change.is_some());
    assert_eq!(history.drift(owner, drift.id).await.unwrap().change, None);
    let change = history.put_back(&world.admin, drift.id).await.unwrap().change.unwrap();

    assert_eq!(history.drift(owner, drift.id).await.unwrap().change, Some(change));
    let proposed = history.intended_files(owner, change).await.unwrap().remove(0);
    assert_eq!((proposed.held, proposed.after), (is("drifted\n", "0644"), content(OLD)));
    let tracked = world.store.change(&world.admin, change).await.unwrap();
    assert_eq!(tracked.change.stage().as_str(), "proven");
    let writes = async || {
        let mut all = history.alters(&world.admin, change).await.unwrap();
        all.remove(&ci).unwrap()
    };
    let change_of = FileChange::Rewrite { before: hash("drifted\n"), after: hash(OLD) };
    let write = Action::AlterFile { path: MOTD.to_owned(), change: change_of };
    assert_eq!(writes().await.unwrap(), [write]);
    let again = history.put_back(&world.admin, drift.id).await.unwrap_err();
    assert!(matches!(again, StoreError::Exists { .. }), "{again}");

    // Altered once more: what people would agree to is not so any more.
    alters("drifted further\n").await;
    assert!(matches!(writes().await, Err(Unwritable::Altered { .. })));
    let withdraw = ChangeStep::Withdraw("it is another file by now".parse().unwrap());
    done(world.store.step_change(&world.admin, change, withdraw).await.unwrap());
    let next = history.put_back(&world.admin, drift.id).await.unwrap().change.unwrap();
    let proposed = history.intended_files(owner, next).await.unwrap().remove(0);
    assert_eq!((proposed.held, proposed.after), (is("drifted further\n", "0644"), content(OLD)));

    // Who sees another tenant's drifts is nobody.
    let other = world.tenant("b").await;
    let other = world.owner(&other).await;
    assert!(history.put_back(&other, drift.id).await.is_err());
    assert!(history.intended_files(&other, next).await.unwrap().is_empty());
}

async fn what_nobody_could_see_is_not_proposed(world: World) {
    let world = &world;
    let it = Altered::new(world).await;
    let (ci, owner) = (it.case.ci.id, &it.case.owner);
    let refused = async |name: &str, content: &str| {
        it.propose(&world.admin, name, content).await.unwrap_err().to_string()
    };
    assert!(refused("/srv/x", "x\n").await.contains("nothing is told of where"));
    assert!(refused("/etc/app.ini", "password = Tr0ub4dor-and-3\n").await.contains("is secret"));
    assert!(refused(MOTD, "a <redacted:password:0123456789abcdef>\n").await.contains("marker"));
    it.propose(&world.admin, "/etc/issue", "beside it\n").await.unwrap();

    // A file with a secret, of which its owner lets the original be kept.
    let whole = "user = app\npassword = Tr0ub4dor-and-3\n";
    let told = "user = app\npassword = <redacted:password:0123456789abcdef>\n";
    let ini = file(path("/etc/app.ini"), Some((told.as_bytes().to_vec(), 0o100_600)));
    it.history.record(owner, ci, vec![ini]).await.unwrap();
    assert!(refused("/etc/app.ini", "user = web\n").await.contains("is secret"));
    let name = path(&original("/etc/app.ini"));
    let ini = file(name, Some((whole.as_bytes().to_vec(), 0o100_600)));
    it.history.record(owner, ci, vec![ini]).await.unwrap();
    let proposed = it.propose(&world.admin, "/etc/app.ini", "password = another-1\n").await;
    assert_eq!(proposed.unwrap().held, is(whole, "0600"));

    // What is not there has no content that could stay; nobody runs with rights that a file has.
    let intended = async |name: &str, intended: NewIntended| {
        it.intend(&world.admin, name, intended).await.unwrap_err().to_string()
    };
    let kept = NewIntended::Access(with_mode("0600"));
    assert!(intended("/etc/none", kept.clone()).await.contains("not said what it is to hold"));
    assert!(intended("/srv/x", kept).await.contains("nothing is told of where"));
    assert!(intended("/srv/x", NewIntended::Absent).await.contains("nothing is told of where"));
    assert!(intended("/etc/../x", NewIntended::Absent).await.contains("no absolute path"));
    assert!(intended(MOTD, NewIntended::Access(with_mode("4755"))).await.contains("have rights"));

    // Neither is what is another tenant's, or a patch.
    let other = world.tenant("b").await;
    let other = world.owner(&other).await;
    let hidden = it.propose(&other, MOTD, NEW).await.unwrap_err();
    assert!(matches!(hidden, StoreError::NotFound { .. }), "{hidden}");
    let patch = world.store.changes(&world.admin, &crate::changes_and_their_clocks::ALL).await;
    let patch = patch.unwrap().items.into_iter().find(|it| it.change.kind == Kind::Patch).unwrap();
    let new = NewIntendedFile { ci, path: path(MOTD), intended: NewIntended::Absent };
    let refused = it.history.propose_file(&world.admin, patch.change.id, new).await.unwrap_err();
    assert!(refused.to_string().contains("is a patch"), "{refused}");
}

/// An order that ended well, and what its agent told of the file afterwards.
async fn carries_out(
    world: &World,
    (history, host): (&History, &Host),
    expected: &[&str],
    told: (&str, Option<(&str, u32)>),
) {
    let fetched = host.fetch(world).await;
    let contents = history.order_contents(&host.actor(), &fetched).await.unwrap();
    assert_eq!(contents, expected.iter().map(|it| it.as_bytes()).collect::<Vec<_>>());
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, host).await;
    tells_of(world, history, host, Some(told)).await;
}

async fn is_rolled_back(world: &World, host: &Host) {
    let command = Command::RollBack { reason: "nobody likes it".parse().unwrap() };
    done(world.store.command_release(&world.admin, host.release, command).await.unwrap());
    host.go_on(world).await;
    assert_eq!(host.phase(world).await, "rolling_back");
}

async fn no_drift(history: &History, host: &Host) {
    let page = PageRequest { after: None, limit: 10 };
    let open = DriftFilter { state: Some(DriftState::Open), ..DriftFilter::default() };
    assert!(history.drifts(&host.case.owner, open, &page).await.unwrap().items.is_empty());
}

async fn a_file_is_taken_away_and_comes_back_whole(world: World) {
    let world = &world;
    let it = Altered::proven_to_be(world, MOTD, NewIntended::Absent).await;
    let change = it.case.change.change.id;
    let removed = FileChange::Remove { before: state(OLD, "0644") };
    let planned = Action::AlterFile { path: MOTD.to_owned(), change: removed };
    assert_eq!(it.alters(world).await.unwrap(), [planned]);
    let proposed = it.history.intended_files(&it.case.owner, change).await.unwrap().remove(0);
    assert_eq!((proposed.after.clone(), proposed.bytes), (Intended::Absent, 0));
    assert_eq!(it.history.intended_content(&proposed).await.unwrap(), Some(Vec::new()));
    let (history, host) = it.carried_out(world).await;
    let both = (&history, &host);

    // It says that it did, and the file is there.
    let fetched = host.fetch(world).await;
    assert!(history.order_contents(&host.actor(), &fetched).await.unwrap().is_empty());
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    assert_eq!(host.phase(world).await, "checking");
    tells_of(world, &history, &host, Some((MOTD, None))).await;
    assert_eq!(host.phase(world).await, "done");
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });

    is_rolled_back(world, &host).await;
    carries_out(world, both, &[OLD], (MOTD, Some((OLD, 0o100_644)))).await;
    assert_eq!(host.phase(world).await, "rolled_back");
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });
    no_drift(&history, &host).await;
}

async fn a_new_file_goes_again_and_only_as_it_was_made(world: World) {
    let world = &world;
    let (content, access) = (NEW.as_bytes().to_vec(), with_mode("0600"));
    let new = "/etc/new.conf";
    let intended = NewIntended::Content { content, access };
    let it = Altered::proven_to_be(world, new, intended).await;
    let created = FileChange::Create { after: state(NEW, "0600") };
    let planned = Action::AlterFile { path: new.to_owned(), change: created };
    assert_eq!(it.alters(world).await.unwrap(), [planned]);
    let change = it.case.change.change.id;
    let (history, host) = it.carried_out(world).await;
    let both = (&history, &host);
    carries_out(world, both, &[NEW], (new, Some((NEW, 0o100_600)))).await;
    assert_eq!(host.phase(world).await, "done");
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });

    is_rolled_back(world, &host).await;
    carries_out(world, both, &[], (new, None)).await;
    assert_eq!(host.phase(world).await, "rolled_back");
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });
    no_drift(&history, &host).await;
}

async fn a_file_is_given_to_others_and_back(world: World) {
    let world = &world;
    let it = Altered::proven_to_be(world, MOTD, NewIntended::Access(with_mode("0600"))).await;
    let given = FileChange::Replace { before: state(OLD, "0644"), after: state(OLD, "0600") };
    let planned = Action::AlterFile { path: MOTD.to_owned(), change: given };
    assert_eq!(it.alters(world).await.unwrap(), [planned]);
    let change = it.case.change.change.id;
    let (history, host) = it.carried_out(world).await;
    let fetched = host.fetch(world).await;
    host.ends(world, &fetched, Ended::Done).await;
    reports(world, &host).await;
    // Permissions that nobody planned are nobody's agreement, whatever it holds.
    tells_of(world, &history, &host, Some((MOTD, Some((OLD, 0o100_666))))).await;
    assert_eq!(host.phase(world).await, "failed");
    assert_eq!(last_verdict(&history, &host).await, Verdict::Unauthorised);
    let orders = world.store.orders(&host.case.owner, &OrderFilter::default(), 10).await.unwrap();
    let reason = orders[0].reason.clone().unwrap();
    assert!(reason.contains("is 0666 root:root, and 0600 root:root was planned"), "{reason}");

    tells_of(world, &history, &host, Some((MOTD, Some((OLD, 0o100_600))))).await;
    assert_eq!(last_verdict(&history, &host).await, Verdict::Authorised { change });
    no_drift(&history, &host).await;
}

/// A tenant's item with a file, whatever becomes of it by somebody's hand, and the drift that this is.
async fn drifted(
    world: &World,
    it: &Altered,
    found: Option<(&str, u32)>,
    name: &str,
) -> store::Drift {
    let mut told = file(path(name), found.map(|(it, mode)| (it.as_bytes().to_vec(), mode)));
    told.observed_at = now(world);
    let traces = std::collections::BTreeMap::new();
    let telling = Telling { looked_before: None, evidence: Evidence::Complete, traces };
    it.history.record_told(&it.case.owner, it.case.ci.id, vec![told], telling).await.unwrap();
    it.history.judge(10).await.unwrap();
    let page = PageRequest { after: None, limit: 10 };
    let open = DriftFilter { state: Some(DriftState::Open), ..DriftFilter::default() };
    let found = it.history.drifts(&it.case.owner, open, &page).await.unwrap().items;
    found.into_iter().find(|it| it.path.as_str() == name).unwrap()
}

/// What putting a drift back makes of its file.
async fn put_back(world: &World, it: &Altered, drift: &store::Drift) -> FileChange {
    rehearse(it.history.put_back(&world.admin, drift.id)).await.unwrap();
    let change = it.history.put_back(&world.admin, drift.id).await.unwrap().change.unwrap();
    let tracked = world.store.change(&world.admin, change).await.unwrap();
    assert_eq!(tracked.change.stage().as_str(), "proven");
    let mut all = it.history.alters(&world.admin, change).await.unwrap();
    let mut actions = all.remove(&it.case.ci.id).unwrap().unwrap();
    let Action::AlterFile { path, change } = actions.remove(0) else { panic!("{actions:?}") };
    assert_eq!(path, drift.path.as_str());
    change
}

async fn a_file_that_came_by_a_drift_is_taken_away_and_one_that_went_comes_back(world: World) {
    let world = &world;
    let it = Altered::new(world).await;
    let came = drifted(world, &it, Some(("theirs\n", 0o100_755)), "/etc/cron.d").await;
    let removed = FileChange::Remove { before: state("theirs\n", "0755") };
    assert_eq!(put_back(world, &it, &came).await, removed);

    let gone = drifted(world, &it, None, MOTD).await;
    let created = FileChange::Create { after: state(OLD, "0644") };
    assert_eq!(put_back(world, &it, &gone).await, created);

    // What had its owner's rights comes back by its package alone.
    let tool = file(path("/etc/tool"), Some((b"x\n".to_vec(), 0o104_755)));
    it.history.record(&it.case.owner, it.case.ci.id, vec![tool]).await.unwrap();
    let gone = drifted(world, &it, None, "/etc/tool").await;
    let refused = it.history.put_back(&world.admin, gone.id).await.unwrap_err();
    assert!(refused.to_string().contains("have rights of its owner"), "{refused}");
}

async fn a_drift_of_an_owner_is_put_back(world: World) {
    let world = &world;
    let it = Altered::new(world).await;
    let drift = drifted(world, &it, Some((OLD, 0o100_666)), MOTD).await;
    let given = FileChange::Replace { before: state(OLD, "0666"), after: state(OLD, "0644") };
    assert_eq!(put_back(world, &it, &drift).await, given);
}

async fn what_was_kept_before_owners_were_said_is_still_carried_out(world: World) {
    let world = &world;
    let it = Altered::proven(world).await;
    let change = it.case.change.change.id;
    let raw = world.raw().await;
    let keeps = async |held: Option<String>, after: String| {
        sqlx::query("UPDATE alteration_files SET held = $1, after = $2")
            .bind(held)
            .bind(after)
            .execute(&raw)
            .await
            .unwrap();
    };
    keeps(Some(hash(OLD).to_string()), hash(NEW).to_string()).await;
    let rewritten = FileChange::Rewrite { before: hash(OLD), after: hash(NEW) };
    let planned = Action::AlterFile { path: MOTD.to_owned(), change: rewritten };
    assert_eq!(it.alters(world).await.unwrap(), [planned]);
    keeps(None, hash(NEW).to_string()).await;
    let kept = it.history.intended_files(&it.case.owner, change).await.unwrap().remove(0);
    assert_eq!((kept.held, kept.after), (Intended::Absent, content(NEW)));
    assert!(matches!(it.alters(world).await, Err(Unwritable::Altered { .. })));
}
