//! Agents: how they join, what they report, and how a copy of one is found out.
//!
//! Who an agent is, is its key. A report that brings nothing new costs no durable write: how far an
//! agent has come, and when it was heard of, is kept in memory and made durable little by little.
//!
//! Each report has a number that rises. The same report may come again (its answer was lost); any
//! other that does not rise was made by another holder of the key, or by an earlier state of the
//! host: then neither is believed until somebody lets the agent join again. After a crash the
//! server knows an earlier number, so an honest agent, whose numbers only rise, is never taken for
//! a copy of itself (`docs/agents.md`).

mod authority;
mod files;
mod listen;
mod orders;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::routing::{post, put};
use axum::{Json, Router};
use domain::agent::{
    Enrolled, Facts, JoinRequest, Need, ProbeOutcome, RenewRequest, Report, ReportAnswer,
};
use domain::cloud::{AgentId, Name};
use domain::fleet::{PackageSet, SetDelta, SetDigest};
use jiff::{SignedDuration, Timestamp};
use store::{
    Actor, Agent, AgentSeen, AgentState, History, Joining, KeyHash, KnownAgent, MasterKey, Secret,
    Store, StoreError,
};

pub use authority::AuthorityError;
pub use listen::{serve_agents, serve_proxied_agents};

use crate::fleet::Fleet;
use crate::problem::{Kind, Problem};
use authority::Authority;

/// How often an agent reports, in seconds.
const INTERVAL: u32 = 60;

/// The same while an order waits for it, or somebody waits to see what came of one.
const AWAITED_INTERVAL: u32 = 5;

/// How old it may be that somebody waited, to count as now: it is asked each second.
const AWAITED: SignedDuration = SignedDuration::from_secs(10);

/// How far an agent's clock may be off.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// How old what is durable of an agent may become.
const LAG: SignedDuration = SignedDuration::from_mins(5);

/// Agents made durable in one commit.
const CHUNK: usize = 200;

/// How often is looked for agents whose state is to be made durable or was altered.
const LOOK: Duration = Duration::from_secs(1);

/// For how long after that what an agent reports is made durable at once: what it did is to be verified.
const LATELY: SignedDuration = SignedDuration::from_mins(15);

/// How far back is looked again: another process's clock and commits may be so much behind.
const OVERLAP: SignedDuration = SignedDuration::from_secs(30);

/// How often one agent may say something within [`SAID_WITHIN`], of each kind: an answer is recorded for ever,
/// also one to an order that nobody gave, and so is that a host falls sick or works again.
const MOST_SAID: u32 = 200;

/// See [`MOST_SAID`].
const SAID_WITHIN: SignedDuration = SignedDuration::from_mins(10);

/// Most outcomes of probes taken, as many as an owner may declare.
const MOST_PROBES: usize = 100;
/// Longest name, or reason, of one, in bytes: three hundred characters of any script.
const LONGEST_OUTCOME: usize = 1200;

/// Largest package set taken, in bytes of JSON.
const LARGEST_SET: usize = 16 << 20;

/// The agents of a process.
pub struct Agents {
    store: Store,
    fleet: Arc<Fleet>,
    authority: Authority,
    /// What items are configured by goes there.
    history: History,
    /// Opens the key that signs orders.
    master: Arc<MasterKey>,
    /// Where people sign with passkeys.
    origins: BTreeSet<String>,
    known: Mutex<HashMap<KeyHash, Known>>,
    /// Those for which an order waits, or of whose items somebody waits to see something; and until
    /// lately did. With when they were last known to be.
    awaited: Mutex<HashMap<AgentId, Timestamp>>,
    /// How much which agents said since when.
    said: Mutex<HashMap<(AgentId, Said), (Timestamp, u32)>>,
    /// Seconds from one report to the next, where nothing is awaited.
    interval: u32,
}

/// What is counted of what an agent says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Said {
    Progress,
    Answer,
    Facts,
    Files,
}

/// An agent in memory.
struct Known {
    agent: Agent,
    package_set: Option<SetDigest>,
    facts: Option<SetDigest>,
    files: Option<SetDigest>,
    /// The report that the store knows as the last one.
    last_report: Option<SetDigest>,
    /// The last report, and its answer once there is one.
    last: Option<(Report, Option<ReportAnswer>)>,
    seen_at: Timestamp,
    /// When what stands here was last made durable.
    noted_at: Timestamp,
}

/// Whose certificate the connection has shown.
#[derive(Debug, Clone, Copy)]
struct Peer(Option<KeyHash>);

/// An agent that is believed.
struct Believed {
    key: KeyHash,
    agent: Agent,
}

/// Why the agents' side cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum AgentsError {
    /// The store refused.
    #[error("the store refused")]
    Store(#[from] StoreError),
    /// The certificate authority cannot be used.
    #[error("the certificate authority cannot be used")]
    Authority(#[from] AuthorityError),
}

impl Agents {
    /// The agents of a store, under an authority whose key it keeps sealed. `url` is where people sign
    /// with passkeys.
    ///
    /// # Errors
    /// If a key does not open.
    pub async fn open(
        store: Store,
        master: &Arc<MasterKey>,
        fleet: Arc<Fleet>,
        history: History,
        url: &str,
    ) -> Result<Self, AgentsError> {
        let seed = store.key(master, "agents.authority").await?;
        let authority = Authority::new(&seed)?;
        // Made once; others may have come into force after it.
        store.key(master, "orders").await?;
        let master = Arc::clone(master);
        let origins = BTreeSet::from([url.trim_end_matches('/').to_owned()]);
        let (known, awaited, said) = (Mutex::default(), Mutex::default(), Mutex::default());
        let interval = INTERVAL;
        Ok(Self {
            store,
            fleet,
            authority,
            history,
            master,
            origins,
            known,
            awaited,
            said,
            interval,
        })
    }

    /// Has agents report so often, in seconds, where nothing is awaited of them; once a minute otherwise.
    #[must_use]
    pub fn reporting_every(self, interval: u32) -> Self {
        Self { interval, ..self }
    }

    /// The text that lets a host join: a token's secret, and whom to believe.
    pub(crate) fn token_text(&self, secret: &Secret) -> String {
        self.authority.token_text(secret.reveal())
    }

    /// Makes durable what is in memory, and learns what other processes altered, until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut followed = self.store.environment().now();
        loop {
            let now = self.store.environment().now();
            let outcome = async {
                for agent in self.store.agents_altered_since(followed - OVERLAP).await? {
                    self.learn(&agent);
                }
                self.await_agents(self.store.awaited_agents().await?, now);
                self.note(now - LAG, CHUNK).await
            };
            match outcome.await {
                Ok(_) => followed = now,
                Err(error) => tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what agents reported is not durable yet"
                ),
            }
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        // All of it, so that the next process knows the latest numbers.
        loop {
            match self.note(Timestamp::MAX, CHUNK).await {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "agents will be known by earlier numbers"
                    );
                    return;
                }
            }
        }
    }

    /// Makes durable what was last made so before an instant; says for how many agents.
    async fn note(&self, before: Timestamp, at_most: usize) -> Result<usize, StoreError> {
        let now = self.store.environment().now();
        let due: Vec<(KeyHash, AgentSeen)> = self
            .known()
            .iter()
            .filter(|(_, it)| it.seen_at > it.noted_at && it.noted_at < before)
            .take(at_most)
            .map(|(key, it)| {
                let Agent { id, ci, counter, returns, .. } = it.agent;
                let report = it.last.as_ref().map(|(report, _)| report.digest());
                (*key, AgentSeen { agent: id, ci, counter, report, at: it.seen_at, returns })
            })
            .collect();
        if due.is_empty() {
            return Ok(0);
        }
        self.store.note_agents(due.iter().map(|(_, seen)| *seen).collect()).await?;
        let mut known = self.known();
        for (key, seen) in &due {
            if let Some(it) = known.get_mut(key) {
                it.noted_at = now.max(seen.at);
            }
        }
        Ok(due.len())
    }

    /// An agent's state as somebody altered it.
    pub(crate) fn learn(&self, agent: &Agent) {
        if let Some(known) = self.known().get_mut(&agent.key) {
            if known.agent.returns == agent.returns {
                let counter = known.agent.counter.max(agent.counter);
                known.agent = Agent { counter, ..agent.clone() };
            } else {
                // Its host is what it was then, and so is its count.
                known.agent = agent.clone();
                (known.last, known.last_report) = (None, None);
            }
        }
    }

    /// Whether an agent's host went back to a snapshot since we heard of it last; its count is known then.
    async fn has_returned(&self, by: &Believed) -> Result<bool, StoreError> {
        let Some(stored) = self.store.agent_by_key(by.key).await? else { return Ok(false) };
        let returns = self.known().get(&by.key).map(|known| known.agent.returns);
        if returns == Some(stored.agent.returns) {
            return Ok(false);
        }
        self.learn(&stored.agent);
        Ok(true)
    }

    fn await_agents(&self, agents: BTreeSet<AgentId>, now: Timestamp) {
        let mut awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.retain(|_, last| now.duration_since(*last) < LATELY);
        awaited.extend(agents.into_iter().map(|agent| (agent, now)));
    }

    /// Since when nobody waits for an agent any more; `None` where nobody did lately.
    fn awaited(&self, agent: AgentId, now: Timestamp) -> Option<SignedDuration> {
        let awaited = self.awaited.lock().unwrap_or_else(PoisonError::into_inner);
        awaited.get(&agent).map(|last| now.duration_since(*last))
    }

    /// Counts what an agent says; whether it is one too many of its kind.
    fn says_too_often(&self, agent: AgentId, said: Said) -> bool {
        let now = self.store.environment().now();
        let mut counts = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        counts.retain(|_, (since, _)| now.duration_since(*since) < SAID_WITHIN);
        let (_, count) = counts.entry((agent, said)).or_insert((now, 0));
        *count += 1;
        *count > MOST_SAID
    }

    fn known(&self) -> MutexGuard<'_, HashMap<KeyHash, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tls(&self, names: &[String]) -> Result<rustls::ServerConfig, AuthorityError> {
        self.authority.listener(names, self.store.environment().now(), self.random())
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.store.environment().fill(&mut bytes);
        bytes
    }

    /// The agent behind a key, where it is believed.
    async fn believe(&self, key: KeyHash) -> Result<Agent, Problem> {
        let found = self.known().get(&key).map(|known| known.agent.clone());
        let agent = if let Some(agent) = found {
            agent
        } else {
            let known = self.store.agent_by_key(key).await?.ok_or_else(stranger)?;
            self.remember(known)
        };
        if agent.expires_at <= self.store.environment().now() {
            return Err(stranger());
        }
        match agent.state {
            AgentState::Active => Ok(agent),
            AgentState::Quarantined => Err(quarantined()),
            AgentState::Revoked | AgentState::Replaced => Err(stranger()),
        }
    }

    fn remember(&self, known: KnownAgent) -> Agent {
        let KnownAgent { agent, package_set, facts, files, last_report } = known;
        let (seen_at, key) = (agent.seen_at, agent.key);
        let (last, noted_at) = (None, seen_at);
        let new = Known { agent, package_set, facts, files, last_report, last, seen_at, noted_at };
        self.known().entry(key).or_insert(new).agent.clone()
    }

    /// Gives a report its place, or finds out that it has none.
    fn place(&self, key: KeyHash, report: &Report) -> Result<Place, Copied> {
        let mut known = self.known();
        let Some(it) = known.get_mut(&key) else { return Ok(Place::Far) };
        let is_again = match &it.last {
            Some((last, _)) => last == report,
            // It was taken by another process, or by this one before it ended; whether its answer
            // arrived, nobody knows.
            None => report.counter == it.agent.counter && it.last_report == Some(report.digest()),
        };
        if is_again {
            let (_, answer) = it.last.get_or_insert_with(|| (report.clone(), None));
            return Ok(answer.clone().map_or(Place::Far, Place::Again));
        }
        if report.counter <= it.agent.counter {
            return Err(Copied);
        }
        let is_next = report.counter == it.agent.counter + 1;
        it.agent.counter = report.counter;
        it.seen_at = self.store.environment().now();
        it.last = Some((report.clone(), None));
        Ok(if is_next { Place::Next } else { Place::Far })
    }

    /// What the store knows of an agent's item, in place of what was so when we heard of it last.
    async fn look_again(&self, key: KeyHash) -> Result<(), StoreError> {
        if let Some(stored) = self.store.agent_by_key(key).await?
            && let Some(it) = self.known().get_mut(&key)
        {
            (it.package_set, it.facts) = (stored.package_set, stored.facts);
            it.files = stored.files;
        }
        Ok(())
    }

    async fn report(&self, by: &Believed, report: Report) -> Result<ReportAnswer, Problem> {
        let now = self.store.environment().now();
        if now.duration_since(report.observed_at).abs() > SKEW {
            let detail = format!("the host's clock says {}, ours {now}", report.observed_at);
            return Err(Problem::new(Kind::Conflict, detail).help("set the host's clock"));
        }
        let mut place = self.place(by.key, &report);
        if place.is_err() && self.has_returned(by).await? {
            place = self.place(by.key, &report);
        }
        match place {
            Ok(Place::Again(answer)) => return Ok(answer),
            Ok(Place::Next) => {}
            // Others may have been told something in between.
            Ok(Place::Far) => self.look_again(by.key).await?,
            Err(Copied) => {
                let reason = "a report did not follow the one before";
                let ended = self.store.quarantine_agent(by.agent.id, reason).await?;
                self.learn(&ended);
                return Err(quarantined());
            }
        }
        let (set, facts, files) = {
            let known = self.known();
            let it = known.get(&by.key);
            (
                it.and_then(|it| it.package_set),
                it.and_then(|it| it.facts),
                it.and_then(|it| it.files),
            )
        };
        let mut need = Vec::new();
        if set != Some(report.package_set) {
            let is_here = self
                .store
                .observe(&by.actor(), by.agent.ci, report.package_set, report.observed_at)
                .await?;
            if is_here {
                self.has(by.key, report.package_set);
            } else {
                need.push(Need::PackageSet);
            }
        }
        if facts != Some(report.facts) {
            need.push(Need::Facts);
        }
        let awaited = self.awaited(by.agent.id, now);
        if awaited.is_some() && need.is_empty() {
            // What was kept of its host before this is what it sees now.
            self.store.note_complete(by.agent.id, now).await?;
        }
        if report.files.is_some() && files != report.files {
            // What packages are is verified without them.
            need.push(Need::Files);
        } else if awaited.is_some() && files.is_some() {
            self.store.note_files_complete(by.agent.id, now).await?;
        }
        let is_awaited = awaited.is_some_and(|since| since < AWAITED);
        if is_awaited {
            need.push(Need::Orders);
        }
        let usual = self.interval;
        let interval = if is_awaited { AWAITED_INTERVAL.min(usual) } else { usual };
        let answer = ReportAnswer { need, interval, now };
        if let Some(it) = self.known().get_mut(&by.key)
            && let Some((last, kept)) = &mut it.last
            && *last == report
        {
            *kept = Some(answer.clone());
        }
        Ok(answer)
    }

    /// Everything that an agent's last report named may be here now; whoever waits to see it is told.
    async fn note_completed(&self, by: &Believed) -> Result<(), Problem> {
        let now = self.store.environment().now();
        if self.awaited(by.agent.id, now).is_none() {
            return Ok(());
        }
        let reported_at = {
            let known = self.known();
            known.get(&by.key).and_then(|it| {
                let (last, _) = it.last.as_ref()?;
                let is_whole =
                    it.package_set == Some(last.package_set) && it.facts == Some(last.facts);
                is_whole.then_some(it.seen_at)
            })
        };
        if let Some(at) = reported_at {
            self.store.note_complete(by.agent.id, at).await?;
        }
        Ok(())
    }

    /// All files that an agent's last report named are recorded; whoever waits to see one is told.
    async fn note_files_told(&self, by: &Believed) -> Result<(), Problem> {
        if self.awaited(by.agent.id, self.store.environment().now()).is_none() {
            return Ok(());
        }
        let reported_at = {
            let known = self.known();
            known.get(&by.key).and_then(|it| {
                let (last, _) = it.last.as_ref()?;
                (it.files.is_some() && it.files == last.files).then_some(it.seen_at)
            })
        };
        if let Some(at) = reported_at {
            self.store.note_files_complete(by.agent.id, at).await?;
        }
        Ok(())
    }

    /// Takes a package set that was asked for.
    async fn take_set(&self, by: &Believed, set: PackageSet) -> Result<(), Problem> {
        let digest = self.store.add_package_set(&by.actor(), by.agent.tenant, set).await?;
        let now = self.store.environment().now();
        self.store.observe(&by.actor(), by.agent.ci, digest, now).await?;
        self.has(by.key, digest);
        self.note_completed(by).await
    }

    fn has(&self, key: KeyHash, set: SetDigest) {
        if let Some(it) = self.known().get_mut(&key) {
            it.package_set = Some(set);
        }
        self.fleet.wake();
    }
}

/// A report's place among those of its agent.
enum Place {
    /// The same as before, which was answered so.
    Again(ReportAnswer),
    /// It follows the one that we took last.
    Next,
    /// It comes later, or we do not know what it follows.
    Far,
}

/// Somebody else speaks with this key.
struct Copied;

impl Believed {
    const fn actor(&self) -> Actor {
        Actor::Agent { agent: self.agent.id, tenant: self.agent.tenant, ci: self.agent.ci }
    }
}

impl FromRequestParts<Arc<Agents>> for Believed {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, agents: &Arc<Agents>) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().copied();
        let key = peer.and_then(|Peer(key)| key).ok_or_else(stranger)?;
        Ok(Self { key, agent: agents.believe(key).await? })
    }
}

fn stranger() -> Problem {
    Problem::new(Kind::Unauthenticated, "no agent that is believed has this key")
        .help("let the host join: `patchwright agent join`, with a new token")
}

fn quarantined() -> Problem {
    Problem::new(Kind::Conflict, "two hosts speak as this agent: neither is believed")
        .help("find the copy (a cloned disk, a restored snapshot), then let the host join again")
}

/// The routes that agents use.
fn routes() -> Router<Arc<Agents>> {
    Router::new()
        .route("/agent/v1/join", post(join))
        .route("/agent/v1/renew", post(renew))
        .route("/agent/v1/report", post(report))
        .route("/agent/v1/package-set", put(package_set).layer(DefaultBodyLimit::max(LARGEST_SET)))
        .route("/agent/v1/package-set/delta", post(delta))
        .route("/agent/v1/facts", put(facts))
        .route("/agent/v1/files", post(files::files).layer(DefaultBodyLimit::max(LARGEST_SET)))
        .route("/agent/v1/pins", post(orders::pins))
        .route("/agent/v1/orders/next", post(orders::next))
        .route("/agent/v1/orders/progress", post(orders::progress))
        .route("/agent/v1/orders/answer", post(orders::answer))
        .fallback(async || Problem::not_found("page at this address"))
}

/// JSON, or a problem that says what is wrong with it.
struct Body<T>(T);

impl<T: serde::de::DeserializeOwned> axum::extract::FromRequest<Arc<Agents>> for Body<T> {
    type Rejection = Problem;

    async fn from_request(
        request: axum::extract::Request,
        agents: &Arc<Agents>,
    ) -> Result<Self, Problem> {
        let Json(value) = Json::from_request(request, agents).await.map_err(|rejection| {
            let kind =
                if rejection.status().as_u16() == 413 { Kind::TooLarge } else { Kind::Invalid };
            Problem::new(kind, rejection.body_text())
        })?;
        Ok(Self(value))
    }
}

async fn join(
    State(agents): State<Arc<Agents>>,
    Body(request): Body<JoinRequest>,
) -> Result<(StatusCode, Json<Enrolled>), Problem> {
    let wrong = |detail: String| Problem::new(Kind::Invalid, detail);
    let name: Name = request.name.parse().map_err(|error| wrong(format!("name: {error}")))?;
    let now = agents.store.environment().now();
    let (certificate, key, expires_at) = agents
        .authority
        .sign(&request.csr, now, agents.random())
        .map_err(|error| wrong(format!("csr: {error}")))?;
    let secret = request.token.split('.').next().unwrap_or_default();
    let joining = Joining { token: Secret::presented(secret), name, key, expires_at };
    let (agent, replaced) = agents.store.join(joining).await?;
    for agent in &replaced {
        agents.learn(agent);
    }
    let Agent { id, ci, .. } = agent;
    Ok((StatusCode::CREATED, Json(Enrolled { agent: id, ci, certificate, expires_at })))
}

async fn renew(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(request): Body<RenewRequest>,
) -> Result<Json<Enrolled>, Problem> {
    let now = agents.store.environment().now();
    let (certificate, key, expires_at) = agents
        .authority
        .sign(&request.csr, now, agents.random())
        .map_err(|error| Problem::new(Kind::Invalid, format!("csr: {error}")))?;
    if key != by.key {
        return Err(Problem::new(Kind::Conflict, "the request is under another key")
            .help("renew under the same key; a new key joins with a new token"));
    }
    let agent = agents.store.renew_agent(&by.actor(), by.agent.id, expires_at).await?;
    agents.learn(&agent);
    Ok(Json(Enrolled { agent: agent.id, ci: agent.ci, certificate, expires_at }))
}

async fn report(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(report): Body<Report>,
) -> Result<Json<ReportAnswer>, Problem> {
    agents.report(&by, report).await.map(Json)
}

async fn package_set(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(set): Body<PackageSet>,
) -> Result<StatusCode, Problem> {
    agents.take_set(&by, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delta(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(delta): Body<SetDelta>,
) -> Result<StatusCode, Problem> {
    let whole = || {
        Problem::new(Kind::Conflict, "the difference begins or ends elsewhere")
            .help("send the whole package set")
    };
    let base = agents.store.package_set(&by.actor(), by.agent.tenant, delta.base).await?;
    let set = delta.apply(&base.ok_or_else(whole)?).map_err(|_| whole())?;
    agents.take_set(&by, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn facts(
    State(agents): State<Arc<Agents>>,
    by: Believed,
    Body(facts): Body<Facts>,
) -> Result<StatusCode, Problem> {
    if agents.says_too_often(by.agent.id, Said::Facts) {
        return Err(Problem::new(Kind::TooMany, "facts were told too often in a short time")
            .help("see what makes them other ones again and again: a probe that fails by turns?"));
    }
    if !are_short(&facts.probes) {
        let detail = format!(
            "facts hold more than {MOST_PROBES} outcomes of probes, or one of more than \
             {LONGEST_OUTCOME} bytes"
        );
        return Err(Problem::new(Kind::Invalid, detail)
            .help("declare fewer probes, or give them short names, in the host's probes.toml"));
    }
    let digest = facts.digest();
    agents.store.record_facts(&by.actor(), by.agent.ci, facts).await?;
    if let Some(it) = agents.known().get_mut(&by.key) {
        it.facts = Some(digest);
    }
    agents.note_completed(&by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether outcomes are what an agent of ours tells: they are recorded for ever.
fn are_short(outcomes: &[ProbeOutcome]) -> bool {
    let is_short = |text: &str| text.len() <= LONGEST_OUTCOME;
    outcomes.len() <= MOST_PROBES
        && outcomes
            .iter()
            .all(|it| is_short(&it.name) && it.failure.as_deref().is_none_or(is_short))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::check::Report as CheckReport;
    use domain::cloud::{Class, PROVIDER, Role};
    use domain::fleet::VersionChoice;
    use domain::inventory::{Inventory, OsRelease, PackageFamily};
    use store::{Database, Labels, NewJoinToken, NewUser, ObjectDirectory, System};

    use crate::fleet::{Case, Judge};

    struct Silent;

    impl Judge for Silent {
        fn judge(&self, _: &[Case], _: Timestamp) -> Vec<CheckReport> {
            Vec::new()
        }
    }

    /// One store, an agent that joined, and processes that are let in to.
    struct World {
        store: Store,
        master: Arc<MasterKey>,
        key: KeyHash,
        directory: tempfile::TempDir,
    }

    impl World {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let database = Database::file(&directory.path().join("patchwright.db"));
            let store = Store::open(&database, Arc::new(System)).await.unwrap();
            let first = NewUser {
                tenant: PROVIDER,
                login: "root".parse().unwrap(),
                name: "Root".parse().unwrap(),
                role: Role::Admin,
                password: None,
            };
            store.found("Cloud AG".parse().unwrap(), first).await.unwrap();
            let master = MasterKey::open(&directory.path().join("master.key"), &System).unwrap();
            let new = NewJoinToken {
                tenant: PROVIDER,
                ci: None,
                class: Class::Vm,
                labels: Labels::new(),
                uses: 1,
                lifetime: SignedDuration::from_hours(1),
            };
            let (_, token) = store.create_join_token(&Actor::System, new).await.unwrap();
            let key: KeyHash = "7".repeat(64).parse().unwrap();
            let expires_at = Timestamp::now() + SignedDuration::from_hours(1);
            let name = "web".parse().unwrap();
            store.join(Joining { token, name, key, expires_at }).await.unwrap();
            Self { store, master: Arc::new(master), key, directory }
        }

        async fn process(&self) -> Agents {
            let fleet = Arc::new(Fleet::new(self.store.clone(), Arc::new(Silent)));
            let url = "http://127.0.0.1:7878";
            let objects = ObjectDirectory::open(self.directory.path().join("history")).unwrap();
            let history = self.store.history(Arc::clone(&self.master), Arc::new(objects));
            Agents::open(self.store.clone(), &self.master, fleet, history, url).await.unwrap()
        }

        async fn send(&self, to: &Agents, report: &Report) -> Result<ReportAnswer, Problem> {
            let agent = to.believe(self.key).await?;
            to.report(&Believed { key: self.key, agent }, report.clone()).await
        }

        async fn bring(&self, to: &Agents, set: PackageSet) {
            let agent = to.believe(self.key).await.unwrap();
            to.take_set(&Believed { key: self.key, agent }, set).await.unwrap();
        }

        async fn stored(&self) -> Option<SetDigest> {
            self.store.agent_by_key(self.key).await.unwrap().unwrap().package_set
        }
    }

    fn set(kernel: &str) -> PackageSet {
        let inventory = Inventory {
            os: OsRelease { id: "debian".into(), ..OsRelease::default() },
            family: PackageFamily::Dpkg,
            architecture: "amd64".into(),
            foreign_architectures: Vec::new(),
            packages: Vec::new(),
            installed_kernels: vec![kernel.into()],
            runtime: None,
            problems: Vec::new(),
        };
        PackageSet::new(inventory, VersionChoice::default())
    }

    fn report(counter: u64, set: &PackageSet) -> Report {
        let (package_set, facts) = (set.digest(), Facts::default().digest());
        Report { counter, package_set, facts, files: None, observed_at: Timestamp::now() }
    }

    #[tokio::test]
    async fn an_answer_that_was_lost_with_its_process_makes_nobody_a_copy() {
        let world = World::new().await;
        let sent = report(1, &set("a"));
        let first = world.process().await;
        assert!(world.send(&first, &sent).await.is_ok());
        // An orderly end makes the number durable; the connection breaks before the answer is out.
        first.note(Timestamp::MAX, CHUNK).await.unwrap();
        drop(first);

        let next = world.process().await;
        let answer = world.send(&next, &sent).await.unwrap();
        assert_eq!(answer.need, [Need::PackageSet, Need::Facts]);
        assert!(world.send(&next, &report(2, &set("a"))).await.is_ok());

        next.note(Timestamp::MAX, CHUNK).await.unwrap();
        // Another report with that number is still another's.
        let third = world.process().await;
        let refused = world.send(&third, &report(2, &set("b"))).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
    }

    #[tokio::test]
    async fn a_host_that_went_back_to_a_snapshot_counts_on_from_there() {
        let world = World::new().await;
        let agents = world.process().await;
        for counter in 1..=5 {
            assert!(world.send(&agents, &report(counter, &set("a"))).await.is_ok());
        }
        // Its machine goes back to what it was after its second report.
        let database = world.directory.path().join("patchwright.db");
        let url = format!("sqlite://{}", database.display());
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let back = "UPDATE agents SET counter = 2, last_report = NULL, returns = 1";
        sqlx::query(back).execute(&pool).await.unwrap();

        // What this process remembered is not made durable over that.
        agents.note(Timestamp::MAX, CHUNK).await.unwrap();
        assert!(world.send(&agents, &report(3, &set("b"))).await.is_ok());
        assert!(world.send(&agents, &report(4, &set("b"))).await.is_ok());
        // From there on a copy is a copy again.
        let refused = world.send(&agents, &report(4, &set("c"))).await.unwrap_err();
        assert_eq!(refused.status(), StatusCode::CONFLICT);
    }

    #[test]
    fn outcomes_that_would_fill_the_record_are_not_taken() {
        let outcome = |name: usize, failure: usize| ProbeOutcome {
            name: "x".repeat(name),
            failure: Some("x".repeat(failure)),
        };
        let most = LONGEST_OUTCOME;
        assert!(are_short(&vec![outcome(most, most); MOST_PROBES]));
        assert!(!are_short(&vec![outcome(1, 1); MOST_PROBES + 1]));
        assert!(!are_short(&[outcome(most + 1, 1)]));
        assert!(!are_short(&[outcome(1, most + 1)]));
    }

    #[tokio::test]
    async fn who_tells_too_much_on_the_way_can_still_say_what_came_of_it() {
        let world = World::new().await;
        let agents = world.process().await;
        let agent = agents.believe(world.key).await.unwrap().id;
        for _ in 0..MOST_SAID {
            assert!(!agents.says_too_often(agent, Said::Progress));
        }
        assert!(agents.says_too_often(agent, Said::Progress));
        assert!(!agents.says_too_often(agent, Said::Answer));
    }

    #[tokio::test]
    async fn what_another_process_was_told_meanwhile_is_not_overlooked() {
        let world = World::new().await;
        let (a, b) = (set("a"), set("b"));
        let (one, other) = (world.process().await, world.process().await);
        world.send(&one, &report(1, &a)).await.unwrap();
        world.bring(&one, a.clone()).await;
        world.send(&other, &report(2, &b)).await.unwrap();
        world.bring(&other, b.clone()).await;
        assert_eq!(world.stored().await, Some(b.digest()));

        // Back to where it was: the first process must not think that nothing happened.
        world.send(&one, &report(3, &a)).await.unwrap();

        assert_eq!(world.stored().await, Some(a.digest()));
    }
}
