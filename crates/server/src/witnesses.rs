//! Asks witnesses to cosign what is published, beside recording and never in its way.
//!
//! Each witness has a task of its own, so that one that is away delays nobody. What it last cosigned
//! it knows itself: a wrong guess is answered with the right size.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ledger::witness::AddCheckpoint;
use ledger::{Policy, ReadStorage as _, SignedCheckpoint, Tree, keep_answers};
use store::{Actor, Store};

use crate::recorder::Recorder;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Largest answer read.
const LARGEST_ANSWER: u64 = 1 << 16;

/// Largest checkpoint read.
const LARGEST_NOTE: usize = 1 << 16;

/// Pauses after failures: twice the one before, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// At most so often is one witness asked, so that a busy log does not flood it.
const BREATH: Duration = Duration::from_millis(500);

/// The witnesses of a log, and how they stand.
pub struct Witnesses {
    policy: Policy,
    recorder: Arc<Recorder>,
    store: Store,
    agent: ureq::Agent,
    standing: Mutex<BTreeMap<String, Standing>>,
}

/// How a witness stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// The size that it last cosigned.
    pub(crate) size: u64,
    /// When.
    pub(crate) at: Option<Timestamp>,
    /// Why it did not cosign what came after.
    pub(crate) problem: Option<String>,
    /// Whether it is recorded that it has seen another history.
    is_recorded: bool,
    /// How often it has said so to this process.
    pub(crate) refusals: u64,
}

/// What came of asking.
enum Asked {
    Cosigned(u64),
    /// It knows another size than was guessed.
    Knows(u64),
    /// It has seen another history. This is what witnesses are for.
    Refused(String),
    Away(String),
}

impl Witnesses {
    /// The witnesses whose addresses a policy tells.
    pub fn new(policy: Policy, recorder: Arc<Recorder>, store: Store) -> Self {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let names = policy.addresses().map(|(name, ..)| (name.to_owned(), Standing::default()));
        let standing = Mutex::new(names.collect());
        Self { policy, recorder, store, agent, standing }
    }

    /// How each stands, by its name in the policy.
    pub(crate) fn standing(&self) -> BTreeMap<String, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut tasks = tokio::task::JoinSet::new();
        for (name, _, address) in self.policy.addresses() {
            let follow = Arc::clone(&self).follow(name.to_owned(), address.to_owned());
            tasks.spawn(follow);
        }
        end.await;
        tasks.abort_all();
    }

    async fn follow(self: Arc<Self>, name: String, address: String) {
        let mut published = self.recorder.published();
        let (mut known, mut pause) = (0, FIRST_PAUSE);
        loop {
            published.mark_unchanged();
            let this = Arc::clone(&self);
            let (of, at) = (name.clone(), address.clone());
            let asked = tokio::task::spawn_blocking(move || this.ask(&of, &at, known)).await;
            match asked {
                Ok(Asked::Cosigned(size)) => {
                    known = size;
                    pause = FIRST_PAUSE;
                    let at = Some(self.store.environment().now());
                    let refusals = self.standing_of(&name).refusals;
                    let standing = Standing { size, at, refusals, ..Standing::default() };
                    self.stands(&name, standing);
                    tokio::time::sleep(BREATH).await;
                    // The sender lives as long as the recorder, which this holds.
                    let _ = published.changed().await;
                    continue;
                }
                // Asked again at once, but not for ever.
                Ok(Asked::Knows(size)) if size != known => {
                    known = size;
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
                Ok(Asked::Knows(size)) => {
                    self.note(&name, format!("it goes on answering that it knows {size}"));
                }
                Ok(Asked::Refused(reason)) => self.refused(&name, reason).await,
                Ok(Asked::Away(reason)) => self.note(&name, reason),
                Err(_) => self.note(&name, "asking was cut off".to_owned()),
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Asks for the current checkpoint's cosignature, and keeps it.
    fn ask(&self, name: &str, address: &str, known: u64) -> Asked {
        let away = |reason: String| Asked::Away(reason);
        let directory = self.recorder.directory();
        let current = match directory.get("checkpoint", LARGEST_NOTE) {
            Ok(Some(bytes)) => SignedCheckpoint::parse(&bytes),
            Ok(None) => return away("nothing is published yet".to_owned()),
            Err(error) => return away(error.to_string()),
        };
        let current = match current {
            Ok(current) => current,
            Err(error) => return away(error.to_string()),
        };
        let (size, root) = (current.claimed().size, current.claimed().root);
        if known > size {
            return Asked::Refused(format!(
                "it has cosigned {known} entries, and the log has {size}: the log was rolled back"
            ));
        }
        let proof = match Tree::new(&directory, size, root).consistency(known) {
            Ok(proof) => proof,
            Err(error) => return away(error.to_string()),
        };
        let body = AddCheckpoint::new(known, proof, current.clone()).to_bytes();
        let url = format!("{}/add-checkpoint", address.trim_end_matches('/'));
        let mut answer = match self.agent.post(&url).send(&body[..]) {
            Ok(answer) => answer,
            Err(error) => return away(format!("{url}: {error}")),
        };
        let status = answer.status().as_u16();
        let body = answer.body_mut().with_config().limit(LARGEST_ANSWER).read_to_vec();
        let Ok(body) = body else { return away(format!("{url}: its answer cannot be read")) };
        let text = String::from_utf8_lossy(&body).trim().to_owned();
        match status {
            200 => self.keep(name, &current, body),
            409 => match text.parse() {
                Ok(known) => Asked::Knows(known),
                Err(_) => away(format!("{url}: it answers 409 without a size")),
            },
            422 => Asked::Refused(text),
            _ => away(format!("{url}: it answers {status}: {text}")),
        }
    }

    fn keep(&self, name: &str, checkpoint: &SignedCheckpoint, answer: Vec<u8>) -> Asked {
        let directory = self.recorder.directory();
        let kept = directory.lock().map_err(|error| error.to_string()).and_then(|_alone| {
            keep_answers(&directory, checkpoint, &[answer], &self.policy)
                .map_err(|error| error.to_string())
        });
        let key = self.policy.addresses().find(|(it, ..)| *it == name).map(|(_, key, _)| key);
        match (kept, key) {
            (Ok(kept), Some(key)) if kept.is_cosigned_by(key) => {
                Asked::Cosigned(checkpoint.claimed().size)
            }
            (Ok(_), _) => Asked::Away("its answer holds no cosignature by its key".to_owned()),
            (Err(reason), _) => Asked::Away(reason),
        }
    }

    /// Told loudly each time, and recorded once: a record makes the log grow, and the next refusal
    /// differ.
    async fn refused(&self, name: &str, reason: String) {
        tracing::error!(witness = name, reason, "a witness has seen another history of this log");
        let mut standing = self.standing_of(name);
        if !standing.is_recorded {
            match self.store.record_witness_refusal(&Actor::System, name, &reason).await {
                Ok(()) => standing.is_recorded = true,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "this is not recorded; tried again");
                }
            }
        }
        standing.problem = Some(reason);
        standing.refusals += 1;
        self.stands(name, standing);
    }

    fn note(&self, name: &str, problem: String) {
        tracing::warn!(witness = name, problem, "not cosigned");
        let mut standing = self.standing_of(name);
        standing.problem = Some(problem);
        self.stands(name, standing);
    }

    fn standing_of(&self, name: &str) -> Standing {
        self.standing().remove(name).unwrap_or_default()
    }

    fn stands(&self, name: &str, standing: Standing) {
        let mut all = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(name.to_owned(), standing);
    }
}
