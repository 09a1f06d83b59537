//! What an agent and its control plane say to each other (`docs/agents.md`).
//!
//! Everything travels as JSON inside mutual TLS. A report names its place in the agent's own count,
//! so that one sent again, or sent by a copy of the agent, is told from a new one.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::{KeyId, KeyRing, Nonce};
use crate::cloud::{AgentId, CiId, words};
use crate::configuration::verdict::Actor;
use crate::fleet::SetDigest;
use crate::inventory::Runtime;
use crate::order::{Bundle, Refusal, Terms};
use crate::release::Health;

/// Asks to become an agent. Goes to `POST /agent/v1/join`, the one route without a certificate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The one-time token.
    pub token: String,
    /// What the item is to be called where the token names none.
    pub name: String,
    /// A certificate signing request (PKCS #10, PEM) under the key that the agent made.
    pub csr: String,
}

/// The agent's certificate. Also the answer to `POST /agent/v1/renew`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Enrolled {
    /// Who it is now.
    pub agent: AgentId,
    /// Which configuration item it speaks for.
    pub ci: CiId,
    /// Its certificate, PEM.
    pub certificate: String,
    /// Until when that is good.
    pub expires_at: Timestamp,
}

/// Asks for a new certificate under the same key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// A certificate signing request (PKCS #10, PEM) under the agent's key.
    pub csr: String,
}

/// A report: what the host has, by digests. Goes to `POST /agent/v1/report`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Rises with each report that the agent makes; the same report sent again has the same.
    pub counter: u64,
    /// What is installed.
    pub package_set: SetDigest,
    /// What runs: BLAKE3 over the JSON of [`Facts`].
    pub facts: SetDigest,
    /// What it is configured by: [`FileManifest::digest`]; `None` where the host does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<SetDigest>,
    /// When the host looked, by its own clock.
    pub observed_at: Timestamp,
}

impl Report {
    /// Its content address, to tell it from another with the same number.
    pub fn digest(&self) -> SetDigest {
        digest_of(self)
    }
}

/// What the control plane wants next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// What it does not have yet: to be sent with `PUT /agent/v1/package-set` or `…/facts`.
    pub need: Vec<Need>,
    /// Seconds until the next report; the agent adds jitter.
    pub interval: u32,
    /// The control plane's time.
    pub now: Timestamp,
}

/// Something that the control plane does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// The package set of the last report.
    PackageSet,
    /// The facts of the last report.
    Facts,
    /// The configuration files of the last report: to be sent with `POST /agent/v1/files`.
    Files,
    /// Nothing: there is an order for the agent, to be fetched with `POST /agent/v1/orders/next`.
    Orders,
}

/// A configuration file as its host tells of it: without what is secret in it (`domain::configuration::secret`). What a
/// host is configured by beside files comes in the same way (`domain::configuration::document`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostFile {
    /// Absolute path, or a document's name.
    pub path: String,
    /// Kind and permissions, as `st_mode` has them (inode(7)); 0 of a document.
    pub mode: u32,
    /// User and group, by their names where they have some: `root:shadow`; empty of a document.
    pub owner: String,
    /// What access lists, security labels and further attributes say, hashed; empty where there are none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// What of its content may leave the host; where a link leads.
    pub content: String,
    /// Who altered it last, where the host saw that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<HostActor>,
}

/// Who altered a file, as the host saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostActor {
    /// `anna by /usr/bin/vi`.
    pub actor: String,
    /// In per cent.
    pub confidence: u8,
}

impl HostFile {
    /// The address of all that it is; who altered it is no part of that.
    pub fn digest(&self) -> SetDigest {
        digest_of(&(&self.path, self.mode, &self.owner, &self.label, &self.content))
    }
}

/// What a host is configured by: each file by its path, with its digest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FileManifest(pub BTreeMap<String, SetDigest>);

impl FileManifest {
    /// Its content address.
    pub fn digest(&self) -> SetDigest {
        digest_of(self)
    }
}

/// Configuration files that are others than the control plane knows. Goes to `POST /agent/v1/files`; where there is
/// more than one message holds, the next one follows on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesSent {
    /// On which manifest it follows.
    pub since: Since,
    /// The manifest once this is taken in.
    pub digest: SetDigest,
    /// When the host looked, by its own clock.
    pub observed_at: Timestamp,
    /// When it had looked before, of which this is the difference; `None` where it cannot say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looked_before: Option<Timestamp>,
    /// Files that are new, or others than before.
    pub files: Vec<HostFile>,
    /// How what is told came about, by path, of what is gone too; only what the host can tell.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub traces: BTreeMap<String, Trace>,
}

/// How an alteration of a file came about, as far as its host can tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// By whom.
    #[serde(default = "nobody")]
    pub who: Actor,
    /// When the file system says it was altered last, by the host's clock; `None` for what is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<Timestamp>,
    /// The package that brought it so, by the package manager's own records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shipped: Option<Installed>,
}

const fn nobody() -> Actor {
    Actor::Unknown
}

/// A package that a host's package manager was at work on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Installed {
    /// Its name.
    pub package: String,
    /// Its version.
    pub version: String,
    /// From when on, by the host's clock.
    pub from: Timestamp,
    /// Until when.
    pub until: Timestamp,
}

/// What a message about files follows on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Since {
    /// On a manifest that the control plane has.
    Manifest {
        /// Its digest.
        digest: SetDigest,
        /// What of it is gone.
        gone: Vec<String>,
    },
    /// On nothing: what the host does not have is gone.
    Nothing {
        /// The paths of all files of the host.
        paths: BTreeSet<String>,
    },
}

/// Asks what the control plane would have the agent go by. Goes to `POST /agent/v1/pins`, once after
/// joining and whenever the host's owner wants to pin anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinsRequest {
    /// The public key (Ed25519, PEM) with which the agent signs what came of orders.
    pub attestor: String,
}

/// What the control plane would have the agent go by. The host's owner decides whether it is pinned,
/// and may pin more than that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinsOffered {
    /// The keys with which the provider signs orders.
    pub order_keys: BTreeSet<KeyId>,
    /// Which version of them that is; a control plane that does not say never handed them over.
    #[serde(default = "first_version")]
    pub order_key_version: u64,
    /// The tenant's keys.
    pub consent_keys: KeyRing,
    /// Where passkeys of the tenant sign.
    pub origins: BTreeSet<String>,
    /// What has to be signed, as the SLA says it for the item.
    pub terms: Terms,
}

const fn first_version() -> u64 {
    1
}

/// An order for the agent. Answer to `POST /agent/v1/orders/next`; where there is none, 204.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HandedOrder {
    /// What the control plane calls it: the order's nonce. Whether the order in the bundle really has
    /// it, its signature tells.
    pub order: Nonce,
    /// The order, and all that the agent needs to judge it.
    pub bundle: Bundle,
}

/// What came of an order. Goes to `POST /agent/v1/orders/answer`; sent again, it has the same effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "came", rename_all = "snake_case", deny_unknown_fields)]
pub enum OrderAnswer {
    /// Nothing was begun.
    Refused {
        /// As it was handed.
        order: Nonce,
        /// Why.
        refusal: Box<Refusal>,
    },
    /// It is over.
    Ended {
        /// As it was handed.
        order: Nonce,
        /// The [`OrderResult`](crate::order::OrderResult) in a DSSE envelope, signed with the agent's key
        /// for it.
        envelope: String,
    },
}

impl OrderAnswer {
    /// Which order it answers.
    pub const fn order(&self) -> Nonce {
        match self {
            Self::Refused { order, .. } | Self::Ended { order, .. } => *order,
        }
    }
}

words! {
    /// What an agent is at in the middle of an order.
    AtWork {
        /// It brings the packages.
        Fetching = "fetching",
        /// It keeps what is replaced.
        KeepingWayBack = "keeping_way_back",
        /// It alters the host.
        Altering = "altering",
        /// The host restarts.
        Rebooting = "rebooting",
        /// It makes the host what it was.
        GoingBack = "going_back",
    }
}

/// How far an agent is with an order. Goes to `POST /agent/v1/orders/progress` while it is at work, for whoever
/// watches: neither a claim nor a proof, and nothing waits for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OrderProgress {
    /// As it was handed.
    pub order: Nonce,
    /// What it is at.
    pub at: AtWork,
}

/// What a host runs, beside what it has installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its name.
    pub host_name: String,
    /// The agent's version.
    pub agent: String,
    /// Running kernel, processes that map replaced files, a reboot that is asked for.
    pub runtime: Option<Runtime>,
    /// Which boot of the host it is (`/proc/sys/kernel/random/boot_id`); agents before this version
    /// did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<String>,
    /// What came of the probes that its owner declared, in the owner's order; none where there are none,
    /// or the system does not run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeOutcome>,
}

/// What came of a probe that a host's owner declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeOutcome {
    /// The owner's name for it.
    pub name: String,
    /// Why it failed; `None` where it passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

impl Facts {
    /// Whether the host does what its owner expects of it; `None` where the owner declared nothing.
    pub fn health(&self) -> Option<Health> {
        let fails = |probe: &ProbeOutcome| probe.failure.is_some();
        match self.probes.as_slice() {
            [] => None,
            probes if probes.iter().any(fails) => Some(Health::Sick),
            _ => Some(Health::Healthy),
        }
    }

    /// Whether the host started anew between earlier facts and these; not where neither boot nor
    /// kernel tells.
    pub fn restarted_since(&self, earlier: &Self) -> bool {
        if let (Some(before), Some(after)) = (&earlier.boot, &self.boot) {
            return before != after;
        }
        // One kernel runs from one start to the next.
        matches!((&earlier.runtime, &self.runtime),
            (Some(before), Some(after)) if before.running_kernel != after.running_kernel)
    }

    /// Whether something that is installed comes into effect only with the next start, as far as
    /// the host tells.
    pub fn awaits_restart(&self) -> bool {
        self.runtime.as_ref().is_some_and(|runtime| {
            let newest = runtime.newest_installed_kernel.as_ref();
            runtime.reboot_required_by.is_some()
                || newest.is_some_and(|newest| *newest != runtime.running_kernel)
        })
    }

    /// Their content address.
    pub fn digest(&self) -> SetDigest {
        digest_of(self)
    }
}

fn digest_of(value: &impl Serialize) -> SetDigest {
    // Texts, numbers and lists always have a JSON form.
    let json = serde_json::to_vec(value).unwrap_or_default();
    SetDigest::from(*blake3::hash(&json).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(boot: Option<&str>, kernel: &str) -> Facts {
        let runtime = Runtime {
            running_kernel: kernel.into(),
            newest_installed_kernel: Some("6.1.0-2".into()),
            ..Runtime::default()
        };
        Facts { boot: boot.map(str::to_owned), runtime: Some(runtime), ..Facts::default() }
    }

    #[test]
    fn another_boot_or_kernel_is_a_restart() {
        let same = facts(Some("a"), "6.1.0-1");
        assert!(!same.restarted_since(&same));
        assert!(facts(Some("b"), "6.1.0-1").restarted_since(&same));
        // A live patch calls the kernel otherwise, and no boot is over.
        assert!(!facts(Some("a"), "6.1.0-1-live").restarted_since(&same));
        let old = facts(None, "6.1.0-1");
        assert!(!facts(Some("b"), "6.1.0-1").restarted_since(&old));
        assert!(facts(Some("b"), "6.1.0-2").restarted_since(&old));
        assert!(!facts(None, "6.1.0-2").restarted_since(&Facts::default()));
    }

    #[test]
    fn an_older_kernel_or_a_request_awaits_a_restart() {
        assert!(facts(None, "6.1.0-1").awaits_restart());
        let mut current = facts(None, "6.1.0-2");
        assert!(!current.awaits_restart());
        current.runtime.as_mut().unwrap().reboot_required_by = Some(Vec::new());
        assert!(current.awaits_restart());
        assert!(!Facts::default().awaits_restart());
    }

    #[test]
    fn keys_without_a_version_are_the_first_ones() {
        let terms = r#"{"patches":"nothing","alterations":"nothing","ranking":"unproven"}"#;
        let ring = serde_json::to_string(&KeyRing::new(crate::cloud::PROVIDER)).unwrap();
        let offer = |version: &str| -> PinsOffered {
            let keys = format!(r#""order_keys":[],{version}"consent_keys":{ring},"origins":[]"#);
            serde_json::from_str(&format!(r#"{{{keys},"terms":{terms}}}"#)).unwrap()
        };
        assert_eq!(offer("").order_key_version, 1);
        assert_eq!(offer(r#""order_key_version":3,"#).order_key_version, 3);
    }

    #[test]
    fn one_probe_that_fails_makes_a_host_sick_and_none_says_nothing() {
        let probe = |failure: Option<&str>| ProbeOutcome {
            name: "web".to_owned(),
            failure: failure.map(str::to_owned),
        };
        let health = |probes| Facts { probes, ..Facts::default() }.health();
        assert_eq!(health(vec![]), None);
        assert_eq!(health(vec![probe(None), probe(None)]), Some(Health::Healthy));
        assert_eq!(health(vec![probe(None), probe(Some("answered 502"))]), Some(Health::Sick));
    }

    #[test]
    fn facts_without_a_boot_have_the_digest_that_they_had() {
        let json = serde_json::to_string(&Facts::default()).unwrap();
        assert_eq!(json, r#"{"host_name":"","agent":"","runtime":null}"#);
    }
}
