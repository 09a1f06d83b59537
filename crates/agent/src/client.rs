//! Talks to the control plane.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::agent::{
    Enrolled, Facts, FilesSent, HandedOrder, JoinRequest, Need, OrderAnswer, OrderProgress,
    PinsOffered, PinsRequest, RenewRequest, Report, ReportAnswer,
};
use domain::fleet::{PackageSet, SetDelta};
use domain::inventory::PackageFamily;
use domain::pinning::NotPinned;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig};

use crate::configuration::Eyes;
use crate::execute::{AtRest, HostFiles, Packages, System, Systemd};
use crate::look::family;
use crate::orders::{Desk, OrderError};
use crate::plane::ControlPlane;
use crate::round::{Next, Round, again};
use crate::state::{Identity, Lock, State};

/// A certificate is renewed when it is good for less than this.
const RENEW: SignedDuration = SignedDuration::from_hours(10 * 24);

/// Waits after failures: doubled each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long one may take for which work waits.
const GLANCE: Duration = Duration::from_secs(2);

/// Largest answer read.
const LARGEST_ANSWER: u64 = 1 << 20;
/// Largest order read: what is opened of one (`orders::open`), as JSON has it.
const LARGEST_ORDER: u64 = 96 << 20;

/// Where the owner of a host tells the agent what it may do.
pub(crate) const OWNERS_FILES: &str = "/etc/patchwright";

/// How long another process of this agent may take to end.
const END_PATIENCE: Duration = Duration::from_secs(2);
/// How often is looked whether a configuration file was touched, and how long it is left to settle then.
const GLIMPSE: Duration = Duration::from_secs(1);
const SETTLES: Duration = Duration::from_secs(2);
/// How often reports come early because of that, at most, within [`ALARMED_WITHIN`].
const MOST_ALARMS: usize = 30;
const ALARMED_WITHIN: Duration = Duration::from_secs(600);
/// How long we wait for the system to restart until we ask for it again.
const RESTART_PATIENCE: Duration = Duration::from_secs(5 * 60);

/// Why the agent cannot do its work.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The token is not one of ours.
    #[error("this is no token for joining")]
    Token,
    /// The agent did not join yet.
    #[error("this host has not joined a control plane")]
    NotJoined,
    /// Its state cannot be read or written.
    #[error("cannot use the agent's state in `{directory}`")]
    State {
        /// Where it is.
        directory: String,
        /// Why.
        source: io::Error,
    },
    /// Another agent works with the same state.
    #[error("another agent runs with the state in `{directory}`")]
    Running {
        /// Where it is.
        directory: String,
    },
    /// An order can neither be refused nor carried out.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// What came of an order cannot be signed.
    #[error("cannot sign a result: {reason}")]
    Unsigned {
        /// Why.
        reason: String,
    },
    /// What the control plane offers is not pinned.
    #[error("nothing is pinned: {0}")]
    NotPinned(#[from] NotPinned),
    /// The control plane gives no orders.
    #[error("the control plane at `{url}` gives no orders, so there is nothing to pin")]
    NoOrders {
        /// Its address.
        url: String,
    },
    /// The host cannot be looked at.
    #[error("cannot look at this host: {reason}")]
    Look {
        /// Why.
        reason: String,
    },
    /// A key or request cannot be made.
    #[error("cannot make a key")]
    Key(#[from] rcgen::Error),
    /// The control plane cannot be reached, or is not who it should be.
    #[error("cannot talk to `{url}`: {reason}")]
    Unreachable {
        /// Its address.
        url: String,
        /// Why.
        reason: String,
    },
    /// The control plane refused.
    #[error("the control plane refused: {detail}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// In its words.
        detail: String,
        /// The way out, in its words.
        help: String,
    },
}

impl AgentError {
    /// The way out.
    pub fn help(&self) -> String {
        match self {
            Self::Token => "copy the whole token, as POST /api/v1/agent-tokens answered it".into(),
            Self::NotJoined => "run `patchwright agent join URL --token TOKEN` first".into(),
            Self::State { .. } => {
                "name a directory of its own with --state, as the same user".into()
            }
            Self::Running { .. } => {
                "end it first (`systemctl stop patchwright-agent`), or name another directory with \
                 --state"
                    .into()
            }
            Self::Order(error) => error.help().into(),
            Self::NotPinned(error) => error.help().into(),
            Self::NoOrders { .. } => {
                "bring the control plane up to date, then run `patchwright agent pin`".into()
            }
            Self::Look { .. } => "run it as root, so that it can read what is installed".into(),
            Self::Key(_) | Self::Unsigned { .. } => {
                "this is a mistake of ours: please report it".into()
            }
            Self::Unreachable { .. } => {
                "check the address (https://HOST:7879), the network, and this host's clock".into()
            }
            Self::Refused { help, .. } => help.clone(),
        }
    }

    pub(crate) fn state(state: &State, source: io::Error) -> Self {
        Self::State { directory: state.directory().display().to_string(), source }
    }
}

/// Joins a control plane with a token: makes a key here, and has it certified there.
///
/// # Errors
/// If the token is no good, or the control plane cannot be reached or is not the token's.
pub fn join(url: &str, token: &str, name: &str, state: &State) -> Result<Identity, AgentError> {
    let kept = |source| AgentError::state(state, source);
    let authority = token.split_once('.').map(|(_, authority)| authority.to_owned());
    let authority = authority.filter(|it| decode(it).is_some()).ok_or(AgentError::Token)?;
    let key = KeyPair::generate()?;
    let csr = signing_request(&key)?;
    let url = url.trim_end_matches('/').to_owned();
    let client = Client::new(&url, &authority, None, state)?;
    let request = JoinRequest { token: token.to_owned(), name: name.to_owned(), csr };
    let enrolled: Enrolled = client.send("POST", "join", &request)?;
    state.keep_key(&key.serialize_pem()).map_err(kept)?;
    state.forget_count().map_err(kept)?;
    let identity = Identity {
        url,
        agent: enrolled.agent,
        ci: enrolled.ci,
        authority,
        certificate: enrolled.certificate,
        expires_at: enrolled.expires_at,
    };
    state.keep_identity(&identity).map_err(kept)?;
    Ok(identity)
}

/// How an agent runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The system that it looks at and alters: `/`, or a directory with the root of one that is at rest.
    pub root: PathBuf,
    /// The owner's policy; there may be no such file.
    pub policy: PathBuf,
    /// The owner's probes; there may be no such file.
    pub probes: PathBuf,
    /// Whether it ends after one round.
    pub once: bool,
}

/// Reports what the system has and carries orders out, for ever, or once.
///
/// # Errors
/// Once: whatever goes wrong. For ever: only if the agent never joined, or another one runs with its
/// state; the rest is tried again.
pub fn run(state: &State, settings: &Settings) -> Result<(), AgentError> {
    let held = state.lock(Lock::Run, END_PATIENCE).map_err(|it| AgentError::state(state, it))?;
    let directory = || state.directory().display().to_string();
    let _alone = held.ok_or_else(|| AgentError::Running { directory: directory() })?;
    let mut failures = 0;
    let (mut eyes, mut alarm) = (None, Alarm::default());
    loop {
        eyes = see(eyes, state, settings);
        let outcome = round(state, settings, eyes.as_ref());
        let wait = match outcome {
            Ok(Next::Wait(_)) if settings.once => return Ok(()),
            Ok(Next::Wait(interval)) => {
                failures = 0;
                // A tenth earlier or later, so that a fleet does not come all at once.
                jitter(interval, 10)
            }
            Ok(Next::Rebooting) => {
                eprintln!("the system restarts; what an order began goes on after that");
                if settings.once {
                    return Ok(());
                }
                RESTART_PATIENCE
            }
            Err(error) if settings.once || matches!(error, AgentError::NotJoined) => {
                return Err(error);
            }
            Err(error) => {
                eprintln!("warning: {error}\nhelp: {}", error.help());
                let wait = FIRST_WAIT.saturating_mul(1 << u32::min(failures, 16)).min(LONGEST_WAIT);
                failures += 1;
                jitter(wait, 2)
            }
        };
        alarm.rest(wait, eyes.as_ref().filter(|_| failures == 0));
    }
}

/// Eyes that look by the owner's policy as it is now; none, and a warning, where it cannot be read.
fn see(eyes: Option<RefCell<Eyes>>, state: &State, settings: &Settings) -> Option<RefCell<Eyes>> {
    let Settings { root, policy, once, .. } = settings;
    if let Some(eyes) = eyes.filter(|eyes| eyes.borrow().follow(policy)) {
        return Some(eyes);
    }
    match Eyes::open(state, root, policy, !once) {
        Ok(eyes) => Some(RefCell::new(eyes)),
        Err(error) => {
            eprintln!("warning: nothing is told of files: {error}\nhelp: {}", error.help());
            None
        }
    }
}

/// Ends waits early where a configuration file was touched.
#[derive(Default)]
struct Alarm {
    /// When that was done lately.
    rung: VecDeque<Instant>,
}

impl Alarm {
    /// Waits, at most for so long.
    fn rest(&mut self, wait: Duration, eyes: Option<&RefCell<Eyes>>) {
        let end = Instant::now() + wait;
        let Some(eyes) = eyes else { return thread::sleep(wait) };
        let mut drawn_at: Option<Instant> = None;
        loop {
            let now = Instant::now();
            if now >= end {
                return;
            }
            // What is written is often not the last of it.
            if drawn_at.is_some_and(|at| now.duration_since(at) >= SETTLES) {
                self.rung.push_back(now);
                return;
            }
            thread::sleep((end - now).min(GLIMPSE));
            while self.rung.front().is_some_and(|at| at.elapsed() >= ALARMED_WITHIN) {
                self.rung.pop_front();
            }
            // A file that is written again and again is told of at the usual pace.
            if eyes.borrow_mut().are_drawn() && self.rung.len() < MOST_ALARMS {
                drawn_at.get_or_insert_with(Instant::now);
            }
        }
    }
}

/// One round, with what this host is at the moment.
fn round(
    state: &State,
    settings: &Settings,
    eyes: Option<&RefCell<Eyes>>,
) -> Result<Next, AgentError> {
    let work = state.directory().join("work");
    let family = family_of(state, &settings.root)?;
    let packages = Packages::of(family, &settings.root, &work, Timestamp::now());
    let system: &dyn System = if settings.root == Path::new("/") { &Systemd } else { &AtRest };
    let files = HostFiles::new(&settings.root, own(state, settings));
    let desk = Desk {
        state,
        policy: &settings.policy,
        probes: &settings.probes,
        packages: &*packages.system,
        archives: &*packages.archives,
        system,
        files: &files,
        clock: &Timestamp::now,
    };
    Round { desk: &desk, root: &settings.root, eyes }.go(|| connect(state))
}

/// Which package manager a host has; what it was reported to have, where it does not say so any more: what was
/// interrupted on it is to end all the same.
fn family_of(state: &State, root: &Path) -> Result<PackageFamily, AgentError> {
    let reported = || state.acknowledged().map(|set| set.inventory().family);
    family(root).or_else(|error| reported().ok_or(error))
}

/// What the agent goes by: whoever writes that is asked for nothing any more.
fn own(state: &State, settings: &Settings) -> Vec<PathBuf> {
    let Settings { root, policy, probes, .. } = settings;
    let mut own = vec![state.directory().to_owned(), policy.clone(), probes.clone()];
    own.push(root.join(OWNERS_FILES.trim_start_matches('/')));
    own.extend(std::env::current_exe());
    own
}

/// The control plane that this agent joined; its certificate is renewed before that ends.
pub(crate) fn connect(state: &State) -> Result<Client<'_>, AgentError> {
    let kept = |source| AgentError::state(state, source);
    let mut identity = state.identity().map_err(kept)?.ok_or(AgentError::NotJoined)?;
    let key = state.key().map_err(kept)?;
    if identity.expires_at.duration_since(Timestamp::now()) < RENEW {
        identity = renew(state, identity, &key)?;
    }
    Client::new(&identity.url, &identity.authority, Some((&identity, &key)), state)
}

fn renew(state: &State, identity: Identity, key: &str) -> Result<Identity, AgentError> {
    let csr = signing_request(&KeyPair::from_pem(key)?)?;
    let client = Client::new(&identity.url, &identity.authority, Some((&identity, key)), state)?;
    let enrolled: Enrolled = client.send("POST", "renew", &RenewRequest { csr })?;
    let identity =
        Identity { certificate: enrolled.certificate, expires_at: enrolled.expires_at, ..identity };
    state.keep_identity(&identity).map_err(|source| AgentError::state(state, source))?;
    Ok(identity)
}

fn signing_request(key: &KeyPair) -> Result<String, AgentError> {
    let request = CertificateParams::default().serialize_request(key)?;
    Ok(request.pem()?)
}

fn decode(authority: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(authority).ok()
}

/// A time, up to a part of it shorter or longer.
fn jitter(time: Duration, part: u32) -> Duration {
    let mut bytes = [0; 4];
    // Without randomness there is no jitter, and nothing else is wrong.
    let _ = getrandom::fill(&mut bytes);
    let share = f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX);
    time.mul_f64(1.0 + (2.0 * share - 1.0) / f64::from(part))
}

/// A connection to the control plane.
pub(crate) struct Client<'a> {
    agent: ureq::Agent,
    url: String,
    state: &'a State,
}

impl<'a> Client<'a> {
    fn new(
        url: &str,
        authority: &str,
        own: Option<(&Identity, &str)>,
        state: &'a State,
    ) -> Result<Self, AgentError> {
        let authority = decode(authority).ok_or(AgentError::Token)?;
        let root = Certificate::from_der(&authority).to_owned();
        let unusable = |error: ureq::Error| AgentError::Unreachable {
            url: url.to_owned(),
            reason: format!("the agent's own certificate: {error}"),
        };
        let client = match own {
            Some((identity, key)) => {
                let certificate =
                    Certificate::from_pem(identity.certificate.as_bytes()).map_err(unusable)?;
                let key = PrivateKey::from_pem(key.as_bytes()).map_err(unusable)?;
                Some(ClientCert::new_with_certs(&[certificate], key))
            }
            None => None,
        };
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(vec![root])))
            .client_cert(client)
            .build();
        let config = ureq::Agent::config_builder()
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .tls_config(tls)
            .build();
        Ok(Self { agent: ureq::Agent::new_with_config(config), url: url.to_owned(), state })
    }

    fn send<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, AgentError> {
        let bytes = self.exchange(method, path, body, LARGEST_ANSWER)?;
        serde_json::from_slice(&bytes).map_err(|error| self.unreachable(&error.to_string()))
    }

    fn put(&self, path: &str, body: &impl Serialize) -> Result<(), AgentError> {
        self.exchange("PUT", path, body, LARGEST_ANSWER).map(drop)
    }

    fn post_nothing(&self, path: &str, body: &impl Serialize) -> Result<(), AgentError> {
        self.exchange("POST", path, body, LARGEST_ANSWER).map(drop)
    }

    fn exchange(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
        limit: u64,
    ) -> Result<Vec<u8>, AgentError> {
        self.exchange_within(PATIENCE, method, path, body, limit)
    }

    fn exchange_within(
        &self,
        patience: Duration,
        method: &str,
        path: &str,
        body: &impl Serialize,
        limit: u64,
    ) -> Result<Vec<u8>, AgentError> {
        let address = format!("{}/agent/v1/{path}", self.url);
        let request = match method {
            "PUT" => self.agent.put(address),
            _ => self.agent.post(address),
        };
        let request = request.config().timeout_global(Some(patience)).build();
        let json =
            serde_json::to_vec(body).map_err(|error| self.unreachable(&error.to_string()))?;
        let mut response = request
            .header("content-type", "application/json")
            .send(&json)
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(limit)
            .read_to_vec()
            .map_err(|error| self.unreachable(&error.to_string()))?;
        let status = response.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(bytes);
        }
        let problem: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        let detail = match text("detail") {
            detail if detail.is_empty() => format!("status {status}"),
            detail => detail,
        };
        Err(AgentError::Refused { status, detail, help: text("help") })
    }

    fn unreachable(&self, reason: &str) -> AgentError {
        AgentError::Unreachable { url: self.url.clone(), reason: reason.to_owned() }
    }

    /// Sends a difference where the control plane has something to begin with, else all of it.
    fn send_set(&self, set: &PackageSet) -> Result<(), AgentError> {
        let delta = self.state.acknowledged().and_then(|base| SetDelta::between(&base, set));
        let is_taken = match delta {
            Some(delta) => match self.post_nothing("package-set/delta", &delta) {
                Ok(()) => true,
                Err(AgentError::Refused { status: 409, .. }) => false,
                Err(error) => return Err(error),
            },
            None => false,
        };
        if !is_taken {
            self.put("package-set", set)?;
        }
        self.state.acknowledge(set).map_err(|source| AgentError::state(self.state, source))
    }
}

impl ControlPlane for Client<'_> {
    fn report(
        &self,
        report: &Report,
        set: &PackageSet,
        facts: &Facts,
    ) -> Result<ReportAnswer, AgentError> {
        let answer: ReportAnswer = again(|| self.send("POST", "report", report))?;
        for need in &answer.need {
            match need {
                Need::PackageSet => self.send_set(set)?,
                Need::Facts => self.put("facts", facts)?,
                // Told by whoever looked at them; fetched by whoever takes them.
                Need::Files | Need::Orders => {}
            }
        }
        Ok(answer)
    }

    fn files(&self, sent: &FilesSent) -> Result<(), AgentError> {
        self.post_nothing("files", sent)
    }

    fn pins(&self, request: &PinsRequest) -> Result<PinsOffered, AgentError> {
        match self.send("POST", "pins", request) {
            Err(AgentError::Refused { status: 404, .. }) => {
                Err(AgentError::NoOrders { url: self.url.clone() })
            }
            answer => answer,
        }
    }

    fn next_order(&self) -> Result<Option<HandedOrder>, AgentError> {
        let nothing = serde_json::Map::new();
        let bytes = self.exchange("POST", "orders/next", &nothing, LARGEST_ORDER)?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let order = serde_json::from_slice(&bytes);
        order.map(Some).map_err(|error| self.unreachable(&format!("no order: {error}")))
    }

    fn progress(&self, progress: OrderProgress) -> Result<(), AgentError> {
        self.exchange_within(GLANCE, "POST", "orders/progress", &progress, LARGEST_ANSWER).map(drop)
    }

    fn answer(&self, answer: &OrderAnswer) -> Result<(), AgentError> {
        self.post_nothing("orders/answer", answer)
    }
}

#[cfg(test)]
mod tests {
    use domain::fleet::VersionChoice;
    use domain::inventory::{Inventory, OsRelease};

    use super::*;

    #[test]
    fn jitter_stays_within_its_part() {
        for _ in 0..1000 {
            let time = jitter(Duration::from_secs(60), 10);
            assert!((54.0..=66.0).contains(&time.as_secs_f64()), "{time:?}");
        }
    }

    #[test]
    fn a_host_that_does_not_say_what_it_is_any_more_is_what_it_was() {
        let root = tempfile::tempdir().unwrap();
        let state = State::new(root.path().join("state"));
        assert!(family_of(&state, root.path()).is_err());

        let inventory = Inventory {
            os: OsRelease::default(),
            family: PackageFamily::Rpm,
            architecture: "x86_64".into(),
            foreign_architectures: Vec::new(),
            packages: Vec::new(),
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        };
        let set = PackageSet::new(inventory, VersionChoice::default());
        state.acknowledge(&set).unwrap();
        assert_eq!(family_of(&state, root.path()).unwrap(), PackageFamily::Rpm);
    }

    #[test]
    fn a_text_that_is_no_token_goes_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path());

        for token in ["", "pwj_00", "pwj_00.", "pwj_00.!!", "x.y z"] {
            let outcome = join("https://127.0.0.1:1", token, "web", &state);
            let is_refused =
                matches!(outcome, Err(AgentError::Token | AgentError::Unreachable { .. }));
            assert!(is_refused, "{token:?}: {outcome:?}");
        }
        assert!(!directory.path().join("key.pem").exists());
    }
}
