//! Group commit: requests that arrive together share a transaction, and each is answered after
//! it is durable.
//!
//! One sync of the disk costs as much as hundreds of small changes. A writer takes all that wait,
//! runs each behind a savepoint, so that one that is refused leaves no trace, and commits them as
//! one.

use std::any::{self, TypeId};
use std::future::Future;
use std::sync::{Arc, OnceLock};

use domain::cloud::{ChangeId, TenantId};
use futures_util::future::BoxFuture;
use jiff::Timestamp;
use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe};
use tokio::sync::{Mutex, mpsc, oneshot};

use crate::database::{Engine, discard};
use crate::environment::{Environment, random};
use crate::error::StoreError;
use crate::event::{self, EventIds, NewEvent};
use crate::several::Several;

/// Most requests in one transaction: bounds how long the first of them waits.
const BATCH: usize = 256;

/// How often a request is tried again by itself after it and another transaction waited for each
/// other.
const TRIES: u8 = 5;

/// Most requests that wait; beyond it callers are told to come back.
const QUEUE: usize = 4096;

tokio::task_local! {
    static REHEARSAL: ();
}

/// Runs verbs of the store as a rehearsal: each is made, answered as if it were for good, and taken
/// back.
pub fn rehearse<F: Future>(verbs: F) -> impl Future<Output = F::Output> {
    REHEARSAL.scope((), verbs)
}

/// Whether this is a rehearsal.
pub fn is_rehearsal() -> bool {
    REHEARSAL.try_with(|()| ()).is_ok()
}

/// A change in the making.
pub(crate) struct Tx<'c> {
    pub(crate) connection: &'c mut AnyConnection,
    /// The instant of the change: not before that of what it waited for.
    pub(crate) now: Timestamp,
    pub(crate) event_ids: &'c EventIds,
    environment: &'c dyn Environment,
    pub(crate) engine: Engine,
    events: Vec<NewEvent>,
}

impl Tx<'_> {
    /// Holds a row until the end of the transaction, so that what is decided by it stays true until
    /// then. SQLite has one writer, which holds everything.
    pub(crate) async fn hold(
        &mut self,
        table: &'static str,
        column: &'static str,
        value: &str,
    ) -> Result<(), StoreError> {
        if self.engine == Engine::Postgres {
            let text = format!("SELECT 1 AS one FROM {table} WHERE {column} = $1 FOR UPDATE");
            sqlx::query(AssertSqlSafe(text))
                .bind(value)
                .fetch_optional(&mut *self.connection)
                .await?;
        }
        Ok(())
    }

    /// Holds an obligation: whoever says that something is new of it waits, and is not overwritten.
    pub(crate) async fn hold_obligation(
        &mut self,
        change: ChangeId,
        tenant: TenantId,
    ) -> Result<(), StoreError> {
        if self.engine == Engine::Postgres {
            sqlx::query(
                "SELECT 1 AS one FROM obligations WHERE change_id = $1 AND tenant_id = $2 FOR UPDATE",
            )
            .bind(change.to_string())
            .bind(tenant.to_string())
            .fetch_optional(&mut *self.connection)
            .await?;
        }
        Ok(())
    }

    /// Goes on at the instant from which something is held, to be called once it is: whoever held it before may
    /// have begun later, and to what they left the instant of this one's beginning would be time that went back.
    /// SQLite's transactions begin when all is held.
    pub(crate) fn look_at_clock(&mut self) {
        if self.engine == Engine::Postgres {
            self.now = self.now.max(self.environment.now());
        }
    }

    /// Says what happens. Goes into the same commit as the change itself.
    pub(crate) fn record(&mut self, event: NewEvent) {
        self.events.push(event);
    }

    /// Random bytes.
    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        random(self.environment)
    }
}

/// What a change is made of: its arguments, and the function that makes it of them.
pub(crate) trait Change<A, T>:
    for<'t, 'c> Fn(&'t mut Tx<'c>, &'t A) -> BoxFuture<'t, Result<T, StoreError>>
    + Send
    + Sync
    + 'static
{
}

impl<A, T, F> Change<A, T> for F where
    F: for<'t, 'c> Fn(&'t mut Tx<'c>, &'t A) -> BoxFuture<'t, Result<T, StoreError>>
        + Send
        + Sync
        + 'static
{
}

/// A change that is made of several callers' arguments at once: an outcome for each, in their order. Whatever
/// is refused leaves no trace by itself; an error outside is everybody's.
pub(crate) trait Joint<A, T>:
    for<'t, 'c> Fn(
        &'t mut Tx<'c>,
        &'t [A],
    ) -> BoxFuture<'t, Result<Vec<Result<T, StoreError>>, StoreError>>
    + Send
    + Sync
    + 'static
{
}

impl<A, T, F> Joint<A, T> for F where
    F: for<'t, 'c> Fn(
            &'t mut Tx<'c>,
            &'t [A],
        ) -> BoxFuture<'t, Result<Vec<Result<T, StoreError>>, StoreError>>
        + Send
        + Sync
        + 'static
{
}

/// A request in the queue, whatever it answers.
trait Request: any::Any + Send + Sync {
    fn is_rehearsal(&self) -> bool;
    /// Which requests can be joined to this one, if any.
    fn joins(&self) -> Option<TypeId> {
        None
    }
    /// Joins one that [`Request::joins`] allows.
    fn join(&mut self, _other: Box<dyn any::Any>) {}
    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<(), StoreError>>;
    fn answer(self: Box<Self>, outcome: Result<(), StoreError>);
}

struct Waiting<A, T, F> {
    arguments: A,
    change: F,
    value: Option<T>,
    is_rehearsal: bool,
    caller: oneshot::Sender<Result<T, StoreError>>,
}

impl<A, T, F> Request for Waiting<A, T, F>
where
    A: Send + Sync + 'static,
    T: Send + Sync + 'static,
    F: Change<A, T>,
{
    fn is_rehearsal(&self) -> bool {
        self.is_rehearsal
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            self.value = Some((self.change)(tx, &self.arguments).await?);
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let answer = match (outcome, self.value) {
            (Ok(()), Some(value)) => Ok(value),
            (Err(error), _) => Err(error),
            (Ok(()), None) => Err(without_a_value()),
        };
        // A caller that went away does not undo what is committed.
        let _ = self.caller.send(answer);
    }
}

/// Requests of one kind that are made in one go.
struct Joined<A, T, F> {
    is_rehearsal: bool,
    arguments: Vec<A>,
    callers: Vec<oneshot::Sender<Result<T, StoreError>>>,
    change: F,
    outcomes: Vec<Result<T, StoreError>>,
}

impl<A, T, F> Request for Joined<A, T, F>
where
    A: Send + Sync + 'static,
    T: Send + Sync + 'static,
    F: Joint<A, T>,
{
    fn is_rehearsal(&self) -> bool {
        self.is_rehearsal
    }

    fn joins(&self) -> Option<TypeId> {
        // What is taken back takes nothing along.
        (!self.is_rehearsal).then(TypeId::of::<Self>)
    }

    fn join(&mut self, other: Box<dyn any::Any>) {
        if let Ok(mut other) = other.downcast::<Self>() {
            self.arguments.append(&mut other.arguments);
            self.callers.append(&mut other.callers);
        }
    }

    fn run<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> BoxFuture<'t, Result<(), StoreError>> {
        Box::pin(async move {
            self.outcomes = (self.change)(tx, &self.arguments).await?;
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Self { callers, outcomes, .. } = *self;
        let mut outcomes = outcomes.into_iter();
        for caller in callers {
            let answer = match (&outcome, outcomes.next()) {
                (Err(error), _) => Err(error.clone()),
                (Ok(()), Some(own)) => own,
                (Ok(()), None) => Err(without_a_value()),
            };
            // A caller that went away does not undo what is committed.
            let _ = caller.send(answer);
        }
    }
}

/// Puts those that can be made in one go together, each with the first of its kind.
fn joined(batch: &mut Vec<Box<dyn Request>>) {
    let mut kept: Vec<Box<dyn Request>> = Vec::with_capacity(batch.len());
    for request in batch.drain(..) {
        let kind = request.joins();
        match kind.and_then(|_| kept.iter_mut().find(|it| it.joins() == kind)) {
            Some(first) => first.join(request),
            None => kept.push(request),
        }
    }
    *batch = kept;
}

fn without_a_value() -> StoreError {
    StoreError::Corrupt { what: "a change without a value".into() }
}

/// The way in for changes.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Box<dyn Request>>,
    failed: Arc<OnceLock<String>>,
}

impl Writer {
    /// Starts as many writers as the engine lets write at the same time. They end with the last
    /// `Writer`.
    pub(crate) fn start(
        engine: Engine,
        pool: &AnyPool,
        environment: &Arc<dyn Environment>,
    ) -> Self {
        let (queue, requests) = mpsc::channel(QUEUE);
        let requests = Arc::new(Mutex::new(requests));
        let failed = Arc::new(OnceLock::new());
        let event_ids = Arc::new(EventIds::new(random(&**environment)));
        for _ in 0..engine.writers() {
            let worker = Worker {
                engine,
                pool: pool.clone(),
                environment: Arc::clone(environment),
                event_ids: Arc::clone(&event_ids),
                failed: Arc::clone(&failed),
            };
            tokio::spawn(worker.serve(Arc::clone(&requests)));
        }
        Self { queue, failed }
    }

    /// Makes a change and answers once it is durable.
    pub(crate) async fn write<A, T>(
        &self,
        arguments: A,
        change: impl Change<A, T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let is_rehearsal = is_rehearsal();
        let waiting = Waiting { arguments, change, value: None, is_rehearsal, caller };
        self.ask(Box::new(waiting), answer).await
    }

    /// The same of a change that is made of several callers' arguments in one go where they come together:
    /// few statements, however many callers.
    pub(crate) async fn write_jointly<A, T>(
        &self,
        arguments: A,
        change: impl Joint<A, T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let (arguments, callers) = (vec![arguments], vec![caller]);
        let (is_rehearsal, outcomes) = (is_rehearsal(), Vec::new());
        let joined = Joined { is_rehearsal, arguments, callers, change, outcomes };
        self.ask(Box::new(joined), answer).await
    }

    async fn ask<T>(
        &self,
        request: Box<dyn Request>,
        answer: oneshot::Receiver<Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if let Some(reason) = self.failed.get() {
            return Err(StoreError::Failed { reason: reason.clone() });
        }
        self.queue.try_send(request).map_err(|_| StoreError::Busy)?;
        answer.await.unwrap_or_else(|_| {
            let reason = self.failed.get().cloned().unwrap_or_else(|| "the writer ended".into());
            Err(StoreError::Failed { reason })
        })
    }

    /// Why no change is taken any more, if so.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failed.get().map(String::as_str)
    }
}

/// What a request runs behind, so that it can be undone alone.
#[derive(Clone, Copy)]
enum Behind {
    /// The transaction's begin: it is the only one.
    Begin,
    /// A savepoint, the first.
    First,
    /// A savepoint in the place of the one before it.
    Next,
}

impl Behind {
    const fn savepoint(self) -> Option<&'static str> {
        match self {
            Self::Begin => None,
            Self::First => Some("SAVEPOINT request"),
            // One way to the database instead of two.
            Self::Next => Some("RELEASE SAVEPOINT request; SAVEPOINT request"),
        }
    }

    const fn undo(self, engine: Engine) -> &'static str {
        match (self, engine) {
            (Self::Begin, Engine::Sqlite) => "ROLLBACK; BEGIN IMMEDIATE",
            (Self::Begin, Engine::Postgres) => "ROLLBACK; BEGIN",
            _ => "ROLLBACK TO SAVEPOINT request",
        }
    }
}

struct Worker {
    engine: Engine,
    pool: AnyPool,
    environment: Arc<dyn Environment>,
    event_ids: Arc<EventIds>,
    failed: Arc<OnceLock<String>>,
}

type Requests = Arc<Mutex<mpsc::Receiver<Box<dyn Request>>>>;

impl Worker {
    async fn serve(self, requests: Requests) {
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            if requests.lock().await.recv_many(&mut batch, BATCH).await == 0 {
                return;
            }
            joined(&mut batch);
            self.commit(&mut batch).await;
        }
    }

    /// Commits a batch and answers each of its requests. One that waited for another transaction
    /// while that waited for ours is tried again by itself, when ours is over: the locks that a batch
    /// holds are those of all its requests, in the order in which they happened to come.
    async fn commit(&self, batch: &mut Vec<Box<dyn Request>>) {
        let mut entangled = self.commit_once(batch).await;
        for _ in 0..TRIES {
            for request in std::mem::take(&mut entangled) {
                entangled.extend(self.commit_once(&mut vec![request]).await);
            }
        }
        answer_all(entangled.into_iter(), &StoreError::Busy);
    }

    /// Commits a batch and answers its requests, but for those that are entangled with another
    /// transaction: nothing of them was done.
    async fn commit_once(&self, batch: &mut Vec<Box<dyn Request>>) -> Vec<Box<dyn Request>> {
        let mut entangled = Vec::new();
        if let Some(reason) = self.failed.get() {
            answer_all(batch.drain(..), &StoreError::Failed { reason: reason.clone() });
            return entangled;
        }
        let mut connection = match self.pool.acquire().await {
            Ok(connection) => connection,
            Err(error) => {
                answer_all(batch.drain(..), &error.into());
                return entangled;
            }
        };
        let mut done = Vec::with_capacity(batch.len());
        let mut commit = match self.run(&mut connection, batch, &mut done, &mut entangled).await {
            Ok(keeping) => keeping,
            Err(error) => {
                // Nothing was committed: with the connection goes the transaction.
                discard(connection).await;
                self.note(&error);
                answer_all(done.into_iter().chain(batch.drain(..)), &error);
                return entangled;
            }
        };
        commit.add("COMMIT");
        match commit.run(self.engine, &mut connection).await {
            Ok(_) => done.into_iter().for_each(|request| request.answer(Ok(()))),
            Err(error) => self.refuse_commit(connection, done, error).await,
        }
        entangled
    }

    /// Runs each request behind a savepoint; those that are refused are answered at once. What keeps all that the
    /// others recorded is to be run with the commit.
    async fn run(
        &self,
        connection: &mut PoolConnection<Any>,
        batch: &mut Vec<Box<dyn Request>>,
        done: &mut Vec<Box<dyn Request>>,
        entangled: &mut Vec<Box<dyn Request>>,
    ) -> Result<Several, StoreError> {
        sqlx::raw_sql(self.engine.begin()).execute(&mut **connection).await?;
        let mut now = self.environment.now();
        let mut events = Vec::new();
        let mut behind = if batch.len() == 1 { Behind::Begin } else { Behind::First };
        for mut request in batch.drain(..) {
            match self.run_one(connection, &mut *request, &mut now, behind).await {
                Ok(Ok(recorded)) => {
                    events.extend(recorded);
                    done.push(request);
                }
                Ok(Err(refused)) if refused.is_entangled() => entangled.push(request),
                Ok(Err(refused)) => request.answer(Err(refused)),
                Err(broken) => {
                    request.answer(Err(told(&broken)));
                    return Err(broken);
                }
            }
            behind = Behind::Next;
        }
        let mut keeping = Several::default();
        event::insert(&mut keeping, &self.transaction(connection, now), &events)?;
        Ok(keeping)
    }

    fn transaction<'c>(&'c self, connection: &'c mut AnyConnection, now: Timestamp) -> Tx<'c> {
        Tx {
            connection,
            now,
            event_ids: &self.event_ids,
            environment: &*self.environment,
            engine: self.engine,
            events: Vec::new(),
        }
    }

    /// Outside: whether the transaction can go on. Inside: what was recorded, or why the request was
    /// refused, which leaves no trace of it. A savepoint is left as it is. `now` goes on with the request.
    async fn run_one(
        &self,
        connection: &mut PoolConnection<Any>,
        request: &mut dyn Request,
        now: &mut Timestamp,
        behind: Behind,
    ) -> Result<Result<Vec<NewEvent>, StoreError>, StoreError> {
        if let Some(savepoint) = behind.savepoint() {
            sqlx::raw_sql(savepoint).execute(&mut **connection).await?;
        }
        let mut tx = self.transaction(&mut *connection, *now);
        let outcome = request.run(&mut tx).await;
        let events = std::mem::take(&mut tx.events);
        *now = tx.now;
        let is_rehearsal = request.is_rehearsal();
        if outcome.is_err() || is_rehearsal {
            sqlx::raw_sql(behind.undo(self.engine)).execute(&mut **connection).await?;
        }
        match outcome {
            Ok(()) if is_rehearsal => Ok(Ok(Vec::new())),
            Ok(()) => Ok(Ok(events)),
            Err(error) if error.is_fatal() => Err(error),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn refuse_commit(
        &self,
        connection: PoolConnection<Any>,
        done: Vec<Box<dyn Request>>,
        error: StoreError,
    ) {
        discard(connection).await;
        let error = match error {
            StoreError::Database(error) if error.as_database_error().is_none() => {
                StoreError::OutcomeUnknown(error)
            }
            error => error,
        };
        self.note(&error);
        answer_all(done.into_iter(), &error);
    }

    /// Stops for good after a failure of the disk: a later sync that succeeds proves nothing
    /// about pages that an earlier one lost.
    fn note(&self, error: &StoreError) {
        if let StoreError::Failed { reason } = told(error) {
            // The first failure is the one that counts.
            let _ = self.failed.set(reason);
        }
    }
}

/// What callers hear of an error: after a failure of the disk, that nothing is written any more.
fn told(error: &StoreError) -> StoreError {
    match error {
        StoreError::Database(source) if error.is_fatal() => {
            StoreError::Failed { reason: source.to_string() }
        }
        error => error.clone(),
    }
}

fn answer_all(requests: impl Iterator<Item = Box<dyn Request>>, error: &StoreError) {
    requests.for_each(|request| request.answer(Err(told(error))));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::{join, join_all, poll_immediate};
    use tokio::sync::Notify;

    use super::*;
    use crate::{Database, Store, System};

    #[tokio::test]
    async fn what_waits_together_is_made_in_one_go_and_each_has_its_own_answer() {
        static GOES: AtomicUsize = AtomicUsize::new(0);
        let folder = tempfile::tempdir().unwrap();
        let database = Database::file(&folder.path().join("it.db"));
        let store = Store::open(&database, Arc::new(System)).await.unwrap();
        let held = Arc::new(Notify::new());
        // While this one is at work, the others come.
        let first = store.write(Arc::clone(&held), |_, held| {
            Box::pin(async move {
                held.notified().await;
                Ok(())
            })
        });
        let others = join_all((0..20_u32).map(|number| {
            store.write_jointly(number, |_, numbers| {
                Box::pin(async move {
                    GOES.fetch_add(1, Ordering::SeqCst);
                    let answer = |&number: &u32| {
                        let odd = StoreError::not_found("even number", &number);
                        if number % 2 == 0 { Ok(number * 10) } else { Err(odd) }
                    };
                    Ok(numbers.iter().map(answer).collect())
                })
            })
        }));
        let mut both = Box::pin(join(first, others));
        assert!(poll_immediate(&mut both).await.is_none());

        held.notify_one();
        let (first, others) = both.await;

        first.unwrap();
        for (number, outcome) in (0..).zip(others) {
            match outcome {
                Ok(answer) => assert_eq!((answer, number % 2), (number * 10, 0)),
                Err(error) => {
                    assert_eq!((error.to_string().contains("even"), number % 2), (true, 1));
                }
            }
        }
        // The first few may have been taken along with the one that waits.
        assert!(GOES.load(Ordering::SeqCst) <= 2);
    }
}
