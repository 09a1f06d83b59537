//! Works on jobs: takes them from the store, has the laboratory do them, and tells what came of them.
//!
//! Whoever holds a job gives signs of life. A process that gives none for a lease has lost it, and
//! another takes the job over; what the first one still says counts no more.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use domain::image::Step;
use serde_json::{Value, json};
use store::{Actor, Conclusion, Job, JobEnd, JobKind, MOST_ATTEMPTS, StoreError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::contents::Held;
use super::logs::JobLog;
use super::{JobWatch, Lab, LabFailure, Laboratory, Order, Outcome, blocking, described};

/// How often is looked for jobs.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// How often is tidied up.
const TIDY: Duration = Duration::from_secs(3600);

/// How long bytes are kept of which no version is made.
const UNUSED: jiff::SignedDuration = jiff::SignedDuration::from_hours(24);

/// How long logs are kept.
const LOGS: Duration = Duration::from_secs(90 * 24 * 3600);

/// Signs of life for each lease.
const SIGNS: u32 = 4;

/// Shortest time between two of them, however fast stages change.
const BREATH: Duration = Duration::from_millis(200);

/// How often the end of a job is told to a store that cannot take it, a second apart.
const TELLINGS: u32 = 30;

/// Longest result and attestation taken from a laboratory, in bytes.
const LONGEST_RESULT: usize = 8 << 20;

/// Longest stage shown, in characters.
const LONGEST_STAGE: usize = 120;

/// Why the work on a job ends before it is done.
const GOES_ON: u8 = 0;
const ENDING: u8 = 1;
const LOST: u8 = 2;

/// Watches the work on a job.
pub(super) struct Watch {
    log: JobLog,
    stage: Mutex<String>,
    news: Notify,
    stop: AtomicU8,
}

impl Watch {
    fn new(log: JobLog) -> Self {
        let stage = Mutex::new("beginning".to_owned());
        Self { log, stage, news: Notify::new(), stop: AtomicU8::new(GOES_ON) }
    }

    /// The job is not ours any more: called off, or another's.
    pub(super) fn lose(&self) {
        self.stop.store(LOST, Ordering::SeqCst);
    }

    /// The process ends; the job is to wait for another.
    fn end(&self) {
        // What is lost stays lost.
        let _ = self.stop.compare_exchange(GOES_ON, ENDING, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn stop(&self) -> u8 {
        self.stop.load(Ordering::SeqCst)
    }

    fn current_stage(&self) -> String {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl JobWatch for Watch {
    fn stage(&self, stage: &str) {
        let stage: String =
            stage.chars().filter(|it| !it.is_control()).take(LONGEST_STAGE).collect();
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
        self.news.notify_one();
    }

    fn log(&self, bytes: &[u8]) {
        if self.stop() != LOST {
            self.log.add(bytes);
        }
    }

    fn cancelled(&self) -> bool {
        self.stop() != GOES_ON
    }
}

impl Lab {
    /// Works until `end` comes; what is under way then is given back for another process.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut tasks = JoinSet::new();
        let mut tidied: Option<Instant> = None;
        loop {
            if tidied.is_none_or(|at| at.elapsed() >= TIDY) {
                self.tidy().await;
                tidied = Some(Instant::now());
            }
            let pause = match self.take_jobs(&mut tasks).await {
                Ok(()) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "no jobs are taken");
                    PAUSE
                }
            };
            tokio::select! {
                () = &mut end => break,
                () = self.wake.notified() => {}
                Some(_) = tasks.join_next() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        for watch in self.running().values() {
            watch.end();
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn take_jobs(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Result<(), StoreError> {
        let Some(laboratory) = &self.laboratory else { return Ok(()) };
        while tasks.len() < self.settings.jobs_at_once {
            let holder = self.holder();
            let Some(job) = self.store.claim_job(&holder, self.settings.lease).await? else {
                return Ok(());
            };
            tasks.spawn(Arc::clone(self).work(job, holder, Arc::clone(laboratory)));
        }
        Ok(())
    }

    /// A name for each time that a job is taken: a process that lost one and takes it again must not
    /// be heard twice.
    fn holder(&self) -> String {
        static TAKEN: AtomicU64 = AtomicU64::new(0);
        let mut random = [0; 8];
        self.store.environment().fill(&mut random);
        let taken = TAKEN.fetch_add(1, Ordering::Relaxed);
        format!("{:016x}-{taken}", u64::from_be_bytes(random))
    }

    async fn work(self: Arc<Self>, job: Job, holder: String, laboratory: Arc<dyn Laboratory>) {
        let (logs, id, attempt) = (Arc::clone(&self.logs), job.id, job.attempts);
        let log = match blocking(move || logs.begin(id, attempt)).await {
            Ok(log) => log,
            Err(error) => {
                // Nobody could follow it; another process may fare better when the lease is over.
                tracing::error!(%error, job = %job.id, "the log of a job cannot be written");
                return;
            }
        };
        let now = self.store.environment().now();
        log.say(&format!("{} {}, attempt {attempt} of {MOST_ATTEMPTS}, {now}", job.kind, job.id));
        let watch = Arc::new(Watch::new(log));
        self.running().insert(job.id, Arc::clone(&watch));
        let worked = self.attempt(&job, &holder, laboratory, &watch).await;
        self.settle(&job, &holder, &watch, worked).await;
        // Another attempt of this process may have taken the place.
        let mut running = self.running();
        if running.get(&job.id).is_some_and(|it| Arc::ptr_eq(it, &watch)) {
            running.remove(&job.id);
        }
    }

    /// Has the laboratory do a job, giving signs of life for it.
    async fn attempt(
        &self,
        job: &Job,
        holder: &str,
        laboratory: Arc<dyn Laboratory>,
        watch: &Arc<Watch>,
    ) -> Result<Outcome, LabFailure> {
        let image = self
            .store
            .image(&Actor::System, job.image)
            .await
            .map_err(|error| LabFailure::Broken(error.to_string()))?;
        let content = self.contents.path(&image.content.sha256);
        if !content.is_file() {
            let gone = "the bytes of the version are not here any more";
            return Err(LabFailure::Refused(gone.to_owned()));
        }
        let (id, kind, request) = (job.id, job.kind, job.request.clone());
        let order = Order { job: id, kind, image, content, request };
        let watching = Arc::clone(watch);
        let mut work =
            tokio::task::spawn_blocking(move || laboratory.run(&order, watching.as_ref()));
        let lease = self.settings.lease.unsigned_abs();
        let mut renewed = Instant::now();
        let mut next = renewed;
        loop {
            tokio::select! {
                worked = &mut work => return worked.unwrap_or_else(|error| {
                    tracing::error!(%error, job = %job.id, "the lab died of a job");
                    Err(LabFailure::Refused("the lab died of it; the server's log says more".into()))
                }),
                () = tokio::time::sleep_until(next) => {}
                () = watch.news.notified() => {
                    // A stage that lasts is worth telling at once, not each of a hundred.
                    next = next.min(Instant::now().max(renewed + BREATH));
                    continue;
                }
            }
            next = Instant::now() + lease / SIGNS;
            if watch.stop() == LOST {
                continue;
            }
            let stage = watch.current_stage();
            match self.store.renew_job(job.id, holder, &stage, self.settings.lease).await {
                Ok(true) => renewed = Instant::now(),
                Ok(false) => watch.lose(),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, job = %job.id, "a job gave no sign of life");
                    if renewed.elapsed() >= lease {
                        watch.lose();
                    }
                }
            }
        }
    }

    /// Tells what came of a job.
    async fn settle(
        &self,
        job: &Job,
        holder: &str,
        watch: &Watch,
        worked: Result<Outcome, LabFailure>,
    ) {
        if let (LOST, Ok(outcome)) = (watch.stop(), &worked) {
            self.discard(outcome).await;
        }
        if watch.stop() == LOST {
            watch.log.say("called off, or taken over by another process");
            return;
        }
        let told = match worked {
            Ok(outcome) => {
                // Said first: whoever follows the log to the job's end has all of it.
                watch.log.say(if outcome.passed { "it passed" } else { "it did not pass" });
                self.conclude(job, holder, outcome).await
            }
            Err(LabFailure::Refused(reason)) => Err(reason),
            Err(_) if watch.stop() == ENDING => {
                watch.log.say("the control plane ends; this begins anew with the next one");
                self.give_back(job, holder).await;
                return;
            }
            Err(failure) if job.attempts < MOST_ATTEMPTS => {
                watch.log.say(&format!("this attempt failed: {failure}; there will be another"));
                // It is taken again when the lease is over, not at once.
                return;
            }
            Err(failure) => Err(failure.to_string()),
        };
        match told {
            Ok(None) => {}
            Ok(Some(words)) => watch.log.say(&words),
            Err(reason) => {
                watch.log.say(&format!("failed: {reason}"));
                self.fail(job, holder, reason).await;
            }
        }
    }

    /// Gives what was made its place, then tells the store of all that follows, and of the end.
    /// What is to be said of it, if anything; why the job failed, where it did.
    async fn conclude(
        &self,
        job: &Job,
        holder: &str,
        outcome: Outcome,
    ) -> Result<Option<String>, String> {
        let Outcome { result, passed, attestations, made } = outcome;
        let result = match result {
            Value::Object(mut result) => {
                result.insert("passed".to_owned(), json!(passed));
                Value::Object(result)
            }
            result => json!({ "passed": passed, "result": result }),
        };
        let made = if passed && job.kind == JobKind::Bake { made } else { None };
        let is_long = |text: &str| text.len() > LONGEST_RESULT;
        if is_long(&result.to_string()) || attestations.iter().any(|(_, it)| is_long(it)) {
            return Err(format!("the lab said more than {LONGEST_RESULT} bytes"));
        }
        let step = match (job.kind, passed) {
            (JobKind::Test, true) => Some(Step::Passed),
            (JobKind::Test, false) => Some(Step::Failed),
            (JobKind::Prove | JobKind::Bake, _) => None,
        };
        let mut conclusion = Conclusion { result, step, made: None, attestations };
        let mut lock = None;
        if let Some(made) = made {
            let (content, held) = self.place(made.path, &made.facts).await?;
            conclusion.made = Some((content, made.facts.packages));
            lock = Some(held);
        }
        let told = self
            .tell(job, holder, || self.store.conclude_job(job.id, holder, conclusion.clone()))
            .await;
        drop(lock);
        match told {
            Ok(Some(ended)) => {
                Ok(ended.error.map(|it| format!("the version stands as before: {it}")))
            }
            Ok(None) => Ok(Some("called off, or taken over by another process".to_owned())),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn place(
        &self,
        path: std::path::PathBuf,
        facts: &super::ImageFacts,
    ) -> Result<(store::ImageContent, Held), String> {
        let contents = Arc::clone(&self.contents);
        let arrived = tokio::task::spawn_blocking(move || contents.adopt(&path))
            .await
            .map_err(|_| "taking over what was made was cut off".to_owned())?
            .map_err(|error| error.to_string())?;
        let content = described(&arrived, facts).map_err(|problem| problem.detail().to_owned())?;
        let contents = Arc::clone(&self.contents);
        let held = blocking(move || {
            let held = contents.together()?;
            contents.place(arrived, &held)?;
            Ok::<_, std::io::Error>(held)
        })
        .await
        .map_err(|error| format!("what was made cannot be kept: {error}"))?;
        Ok((content, held))
    }

    async fn fail(&self, job: &Job, holder: &str, reason: String) {
        let end = JobEnd::Failed { reason };
        let told =
            self.tell(job, holder, || self.store.finish_job(job.id, holder, end.clone())).await;
        if let Err(error) = told {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, job = %job.id, "that a job failed is not told; it begins anew");
        }
    }

    async fn give_back(&self, job: &Job, holder: &str) {
        if let Err(error) = self.store.give_job_back(job.id, holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, job = %job.id, "a job waits until its lease is over");
        }
    }

    /// Tells the store something, again where it cannot take it now, and holds the job meanwhile.
    /// What it took without our hearing of it, it does not take again: the job is ours no more then.
    async fn tell<T, F>(
        &self,
        job: &Job,
        holder: &str,
        telling: impl Fn() -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, StoreError>>,
    {
        let mut told = 0;
        loop {
            let error = match telling().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            told += 1;
            let is_passing = match &error {
                StoreError::Busy
                | StoreError::Full
                | StoreError::Stale { .. }
                | StoreError::OutcomeUnknown(_)
                | StoreError::Database(_) => true,
                // Another version of the series came to be at the same time.
                StoreError::Exists { what, .. } => *what == "version",
                _ => false,
            };
            if !is_passing || told >= TELLINGS {
                return Err(error);
            }
            tokio::time::sleep(LOOK).await;
            // Where this fails as well, telling says so.
            let _ = self.store.renew_job(job.id, holder, "ending", self.settings.lease).await;
        }
    }

    /// Removes what a job made that is not heard any more.
    async fn discard(&self, outcome: &Outcome) {
        let Some(made) = outcome.made.clone() else { return };
        let removed = blocking(move || std::fs::remove_file(made.path)).await;
        if let Err(error) = removed {
            tracing::warn!(%error, "what a job made stays where it was made");
        }
    }

    /// Images are seen again, forgotten uploads and old logs go.
    async fn tidy(&self) {
        let now = self.store.environment().now();
        let logs = Arc::clone(&self.logs);
        let tidied = async {
            self.store.note_images_seen().await?;
            self.store.forget_unused_contents(now - UNUSED).await?;
            self.remove_strays().await?;
            blocking(move || logs.tidy(SystemTime::now() - LOGS)).await?;
            Ok::<_, super::LabError>(())
        };
        if let Err(error) = tidied.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "images were not tidied up");
        }
    }
}
