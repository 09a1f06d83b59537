//! Why an agent does not do what it was told.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::change::{Access, Account, ExactPackage, FileHash, KeyId, Nonce, PlanHash, Window};
use crate::cloud::{AgentId, CiId, TenantId};

/// Why an order is refused, as it is shown on the host and told to the control plane. Nothing of the
/// host was altered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "refused", rename_all = "snake_case")]
pub enum Refusal {
    /// What came is no order, or none of the pinned keys signed it.
    #[error("this is no order that a pinned key signed: {because}")]
    Envelope {
        /// Why.
        because: String,
    },
    /// A key signed that is no order key of this agent.
    #[error("the order is signed by {key}, which is no order key of this agent")]
    Key {
        /// The key.
        key: KeyId,
    },
    /// It is for another agent.
    #[error("the order is for {given}, and this is {ours}")]
    Agent {
        /// For whom it is.
        given: AgentId,
        /// Who this is.
        ours: AgentId,
    },
    /// It is about another item.
    #[error("the order is about {given}, and this agent speaks for {ours}")]
    Item {
        /// What it is about.
        given: CiId,
        /// For what this agent speaks.
        ours: CiId,
    },
    /// It was carried out before.
    #[error("the order {nonce} was accepted before")]
    Replayed {
        /// Its nonce.
        nonce: Nonce,
    },
    /// A later one was accepted.
    #[error("the order is number {given}, and number {seen} was accepted before")]
    Sequence {
        /// Its number.
        given: u64,
        /// The highest accepted.
        seen: u64,
    },
    /// This host's clock is behind what it has seen.
    #[error("this host's clock says {now}, and it was {seen} before")]
    Clock {
        /// What it says.
        now: Timestamp,
        /// What it said.
        seen: Timestamp,
    },
    /// It comes from the future.
    #[error("the order was issued at {issued_at}, and it is {now}")]
    Future {
        /// When it says it was issued.
        issued_at: Timestamp,
        /// By this host's clock.
        now: Timestamp,
    },
    /// It says that it is older than one with a lower number.
    #[error("the order was issued at {issued_at}, before the one ahead of it at {seen}")]
    Backdated {
        /// When it says it was issued.
        issued_at: Timestamp,
        /// When the one before it was.
        seen: Timestamp,
    },
    /// It counts no more.
    #[error("the order expired at {expires}, and it is {now}")]
    Expired {
        /// When it did.
        expires: Timestamp,
        /// By this host's clock.
        now: Timestamp,
    },
    /// It would count for ever.
    #[error("the order counts from {issued_at} until {expires}, which is too long or no time")]
    Life {
        /// Its beginning.
        issued_at: Timestamp,
        /// Its end.
        expires: Timestamp,
    },
    /// The plan that came with it is none.
    #[error("the plan that came with the order cannot be used: {because}")]
    Plan {
        /// Why.
        because: String,
    },
    /// Another plan came with it.
    #[error("the order is by the plan {given}, and the plan {carried} came with it")]
    OtherPlan {
        /// What it names.
        given: PlanHash,
        /// What came.
        carried: PlanHash,
    },
    /// The plan is another tenant's.
    #[error("the plan is for {given}, and this host is {ours}'s")]
    Tenant {
        /// Whose plan it is.
        given: TenantId,
        /// Whose host this is.
        ours: TenantId,
    },
    /// The plan has no such stage, or does nothing to this item in it.
    #[error("stage {stage} of the plan does nothing to {ci}")]
    NotPlanned {
        /// The stage.
        stage: u32,
        /// The item.
        ci: CiId,
    },
    /// It was done before, by another order.
    #[error("stage {stage} of the plan was carried out before")]
    Done {
        /// The stage.
        stage: u32,
    },
    /// It says something else than the plan.
    #[error("the order's actions are not those of the plan: action {at} differs")]
    Actions {
        /// The first that differs, counted from 1.
        at: usize,
    },
    /// It has another window than the plan.
    #[error(
        "the order's window is from {} until {}, and the plan's from {} until {}",
        .given.from, .given.until, .planned.from, .planned.until
    )]
    Window {
        /// The order's.
        given: Window,
        /// The plan's.
        planned: Window,
    },
    /// Its window is not open yet.
    #[error("the window opens at {opens}, and it is {now}")]
    Early {
        /// When it opens.
        opens: Timestamp,
        /// By this host's clock.
        now: Timestamp,
    },
    /// Its window is over.
    #[error("the window was over at {closed}, and it is {now}")]
    Late {
        /// Since when.
        closed: Timestamp,
        /// By this host's clock.
        now: Timestamp,
    },
    /// The tenant's signature is demanded and missing, or it said later or no.
    #[error("the tenant's side is missing: {}", .lacks.join("; "))]
    Consent {
        /// All that is lacking.
        lacks: Vec<String>,
    },
    /// Something older than what is or was installed.
    #[error(
        "{} {} is older than {floor}, which this host has or had", .package.name, .package.version
    )]
    Older {
        /// What was to be installed.
        package: Box<ExactPackage>,
        /// What nothing older may take the place of.
        floor: String,
    },
    /// A version that the package manager would refuse.
    #[error("{} has no usable version: {because}", .package.name)]
    Version {
        /// What was to be installed.
        package: Box<ExactPackage>,
        /// What is wrong with it.
        because: String,
    },
    /// The host's owner does not allow it.
    #[error("the owner of this host does not allow it: {0}")]
    Forbidden(Forbidden),
    /// The owner's file cannot be read, so nothing is allowed.
    #[error("the policy of this host's owner cannot be used: {because}")]
    Policy {
        /// Why.
        because: String,
    },
    /// A file that an order never writes, whoever signed it: what the agent goes by, or the agent itself.
    #[error("`{path}` is this agent's own, or its owner's word to it: no order writes it")]
    OwnFile {
        /// The file.
        path: String,
    },
    /// The content that the plan names did not come along.
    #[error("the content {expected} of `{path}` did not come with the order")]
    NoContent {
        /// The file.
        path: String,
        /// The SHA-256 that the plan names.
        expected: FileHash,
    },
    /// A file is not what it is to be before.
    #[error("`{path}` {}, and the plan expects {}", has(.found.as_ref()), to_be(.expected.as_ref()))]
    OtherFile {
        /// The file.
        path: String,
        /// What the plan expects; `None` where there is to be no such file.
        expected: Option<FileHash>,
        /// What it has; `None` where it is not there.
        found: Option<FileHash>,
    },
    /// A file is not whose it is to be before, or others may do something with it.
    #[error("`{path}` is {found}, and the plan expects {expected}")]
    OtherAccess {
        /// The file.
        path: String,
        /// What the plan expects.
        expected: Box<Access>,
        /// What it is.
        found: Box<Access>,
    },
    /// The host has no such account or group, or calls it otherwise.
    #[error("`{path}` is to belong to `{account}`: {because}")]
    Account {
        /// The file.
        path: String,
        /// The account or group, as the plan calls it.
        account: Account,
        /// What is wrong with it.
        because: String,
    },
    /// A file's name leads elsewhere, or to what is no plain file.
    #[error("`{path}` is not written: `{at}` {is}")]
    NotPlain {
        /// The file.
        path: String,
        /// What is in the way: the file itself, or a directory above it.
        at: String,
        /// What it is: `is a symbolic link`.
        is: String,
    },
    /// A file's content, old or new, could not be kept.
    #[error("the content of `{path}` could not be kept: {because}")]
    NotKept {
        /// The file.
        path: String,
        /// Why.
        because: String,
    },
    /// The host's owner declares no such probe.
    #[error("this host's owner declares no probe `{probe}`")]
    NoProbe {
        /// Its name.
        probe: String,
    },
    /// The owner's file of probes cannot be used.
    #[error("the probes of this host's owner cannot be used: {because}")]
    Probes {
        /// Why.
        because: String,
    },
    /// No archive that the host itself trusts vouches for a package.
    #[error(
        "no signed archive of this host lists {} {} with the SHA-256 {}{because}",
        .package.name, .package.version, .package.sha256
    )]
    NotVouched {
        /// The package.
        package: Box<ExactPackage>,
        /// Sources that could not be used, if any.
        because: String,
    },
    /// A package could not be had.
    #[error("{} {} could not be had: {because}", .package.name, .package.version)]
    NotFetched {
        /// The package.
        package: Box<ExactPackage>,
        /// Why.
        because: String,
    },
    /// There is too little room to go there and back.
    #[error("{needed} bytes are needed below `{path}`, and {free} are free")]
    NoSpace {
        /// Where.
        path: String,
        /// In bytes, with what the owner wants to be left.
        needed: u64,
        /// In bytes.
        free: u64,
    },
    /// What is to be replaced could not be kept.
    #[error("the way back from {package} could not be kept: {because}")]
    NoWayBack {
        /// The package.
        package: String,
        /// Why.
        because: String,
    },
    /// The package system is not in order before anything was done.
    #[error("the package system of this host is not in order: {because}")]
    NotInOrder {
        /// Why.
        because: String,
    },
}

/// What the owner's policy forbids.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "forbidden", rename_all = "snake_case")]
pub enum Forbidden {
    /// A restart of the system.
    #[error("the system is not to restart")]
    Reboot,
    /// A restart of a unit.
    #[error("`{unit}` is not to restart")]
    Restart {
        /// The unit.
        unit: String,
    },
    /// A file is to be written.
    #[error("`{path}` is not to be written")]
    File {
        /// The file.
        path: String,
    },
    /// A file is to be taken away.
    #[error("`{path}` is not to be taken away")]
    Removal {
        /// The file.
        path: String,
    },
    /// A file is to get another owner or other permissions.
    #[error("the owner and permissions of `{path}` are not to be altered")]
    Access {
        /// The file.
        path: String,
    },
    /// A package is to be altered.
    #[error("the package `{package}` is not to be altered")]
    Package {
        /// The package.
        package: String,
    },
    /// A package is held at its version.
    #[error("the package `{package}` is held")]
    Held {
        /// The package.
        package: String,
    },
    /// A package is to be installed that is not there.
    #[error("the package `{package}` is not there, and nothing is to be added")]
    Addition {
        /// The package.
        package: String,
    },
    /// Not at this time.
    #[error("{now} lies in none of the hours")]
    Hours {
        /// By this host's clock.
        now: Timestamp,
    },
    /// Nothing is altered for a while.
    #[error("nothing is altered until {until}: {reason}")]
    Freeze {
        /// Until when.
        until: Timestamp,
        /// Why.
        reason: String,
    },
}

impl Refusal {
    /// The time at which it passes by itself; `None` where somebody has to do something. The order may
    /// be shown again then.
    pub const fn passes_at(&self) -> Option<Timestamp> {
        match self {
            Self::Early { opens, .. } => Some(*opens),
            Self::Forbidden(Forbidden::Freeze { until, .. }) => Some(*until),
            _ => None,
        }
    }

    /// Whether it accuses whoever ordered: what was ordered is nothing that an honest control plane orders,
    /// so its tenant is told at once. Others are mishaps of the host's, or the owner's own will.
    pub const fn accuses(&self) -> bool {
        match self {
            Self::Envelope { .. }
            | Self::Key { .. }
            | Self::Agent { .. }
            | Self::Item { .. }
            | Self::Replayed { .. }
            | Self::Sequence { .. }
            | Self::Backdated { .. }
            | Self::Life { .. }
            | Self::Plan { .. }
            | Self::OtherPlan { .. }
            | Self::Tenant { .. }
            | Self::NotPlanned { .. }
            | Self::Done { .. }
            | Self::Actions { .. }
            | Self::Window { .. }
            | Self::Consent { .. }
            | Self::Older { .. }
            | Self::Version { .. }
            | Self::OwnFile { .. }
            | Self::NoContent { .. }
            | Self::NotVouched { .. } => true,
            Self::Clock { .. }
            | Self::Future { .. }
            | Self::Expired { .. }
            | Self::Early { .. }
            | Self::Late { .. }
            | Self::Forbidden(_)
            | Self::Policy { .. }
            | Self::OtherFile { .. }
            | Self::OtherAccess { .. }
            | Self::Account { .. }
            | Self::NotPlain { .. }
            | Self::NotKept { .. }
            | Self::NoProbe { .. }
            | Self::Probes { .. }
            | Self::NotFetched { .. }
            | Self::NoSpace { .. }
            | Self::NoWayBack { .. }
            | Self::NotInOrder { .. } => false,
        }
    }

    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Envelope { .. } | Self::Key { .. } => {
                "sign with a pinned key; after a loss of all keys the host joins again"
            }
            Self::Agent { .. } | Self::Item { .. } => "send it to the agent that it names",
            Self::Replayed { .. } | Self::Sequence { .. } | Self::Backdated { .. } => {
                "issue a new order; if nobody did, somebody replays old ones: look into it"
            }
            Self::Clock { .. } => "set this host's clock",
            Self::Future { .. } => "compare the clocks of this host and of the control plane",
            Self::Expired { .. } | Self::Life { .. } => {
                "issue a new order, shortly before its time"
            }
            Self::Plan { .. } | Self::OtherPlan { .. } => {
                "send the plan's bytes as they were published"
            }
            Self::Tenant { .. } => "make a plan for the tenant whose host this is",
            Self::NotPlanned { .. } | Self::Actions { .. } | Self::Window { .. } => {
                "order what the plan says; to do anything else, make a new plan"
            }
            Self::Done { .. } => "to do it again, make a new plan",
            Self::Early { .. } => "wait",
            Self::Late { .. } => "make a new plan with a later window",
            Self::Consent { .. } => "the tenant signs the plan's statement with a key in force",
            Self::Older { .. } => "plan the newest version",
            Self::Version { .. } => "plan the version as the archive writes it",
            Self::Forbidden(_) => "ask the owner of this host; the policy is a file on it",
            Self::Policy { .. } => "correct the file on this host, or take it away",
            Self::OwnFile { .. } => "the owner writes it on the host, where it is meant",
            Self::NoContent { .. } => "send the bytes whose SHA-256 the plan names",
            Self::OtherFile { .. } | Self::OtherAccess { .. } => {
                "see who altered it, and make a new plan from what is there now"
            }
            Self::Account { .. } => {
                "plan it by the name that `getent` has for it on this host, or make the account first"
            }
            Self::NotPlain { .. } => "plan the file by the name under which it really lies",
            Self::NotKept { .. } => "check space and permissions there, and order it again",
            Self::NoProbe { .. } => {
                "plan one that is declared, or declare it: probes.toml on the host"
            }
            Self::Probes { .. } => "correct the file on this host as described in docs/orders.md",
            Self::NotVouched { .. } => {
                "see that this host's repositories are fresh and offer exactly this package"
            }
            Self::NotFetched { .. } => "check the network and the archive, and order it again",
            Self::NoSpace { .. } => "make room, or lower `keep_free_mib` of the owner's policy",
            Self::NoWayBack { .. } => "repair the installed package, then order it again",
            Self::NotInOrder { .. } => {
                "see what this host's package manager says of it (as `dpkg --audit`), then order it again"
            }
        }
    }
}

fn has(found: Option<&FileHash>) -> String {
    found.map_or_else(|| "is not there".to_owned(), |hash| format!("has the SHA-256 {hash}"))
}

fn to_be(expected: Option<&FileHash>) -> String {
    expected.map_or_else(|| "no such file".to_owned(), ToString::to_string)
}
