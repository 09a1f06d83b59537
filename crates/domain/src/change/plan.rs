//! A plan: exactly what is going to be done to which items, in which order and when, and the way
//! back. Its hash is what people agree to.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::canonical::{NotCanonical, from_canonical, to_canonical};
use super::digest::{FileHash, PlanHash, sha256};
use super::file::{Access, FileChange, FileState};
use super::text::Reason;
use crate::cloud::{ChangeId, CiId, Duty, TenantId, words};

/// Largest plan, in bytes of its canonical form: some ten thousand items.
pub const LARGEST_PLAN: usize = 8 << 20;

/// A plan that was looked over, with its hash.
///
/// Its canonical bytes begin with a member that names the schema, so that no other document of ours
/// has the same hash, and the hash is what `sha256sum` says of the published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Draft", into = "Draft")]
pub struct Plan {
    draft: Arc<Draft>,
    hash: PlanHash,
}

/// What a plan says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// The change that it carries out.
    pub change: ChangeId,
    /// Whose items; the provider's own are [`crate::cloud::PROVIDER`]'s.
    pub tenant: TenantId,
    /// 0 for the first plan of a change for a tenant, one more for each that follows.
    pub generation: u32,
    /// The plan that it takes the place of.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<PlanHash>,
    /// In this order: a stage begins after the one before it ended well.
    pub stages: Vec<Stage>,
}

/// Items that are altered in one window, in no order among themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// When they may be touched.
    pub window: Window,
    /// Which, sorted by their ids.
    pub items: Vec<Item>,
}

/// A span of time, without its last instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// From when on.
    pub from: Timestamp,
    /// Until before when.
    pub until: Timestamp,
}

/// What is done to one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Item {
    /// The item.
    pub ci: CiId,
    /// Who must patch it.
    pub duty: Duty,
    /// In this order.
    pub actions: Vec<Action>,
    /// How it becomes what it was.
    pub rollback: Rollback,
}

/// One thing that an agent can be told to do. There is no "run this command".
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Spelt", into = "Spelt")]
pub enum Action {
    /// Install exactly these, and nothing beside them.
    Upgrade {
        /// Sorted by name and architecture.
        packages: Vec<ExactPackage>,
    },
    /// Make something else of a file, or take it away.
    AlterFile {
        /// Absolute path.
        path: String,
        /// From what to what.
        change: FileChange,
    },
    /// Restart a unit.
    RestartUnit {
        /// `nginx.service`.
        unit: String,
    },
    /// Restart the system.
    Reboot,
    /// See whether something works; harmless.
    Probe {
        /// The probe's name.
        probe: String,
    },
}

/// An action as it is written. What could be said of files from the beginning on is said as it was then: plans that
/// were agreed to keep their hashes, and an agent that knows no other form refuses the other.
#[derive(Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
enum Spelt {
    Upgrade { packages: Vec<ExactPackage> },
    WriteFile { path: String, before: Option<FileHash>, after: FileHash },
    AlterFile { path: String, before: Option<FileState>, after: Option<FileState> },
    RestartUnit { unit: String },
    Reboot,
    Probe { probe: String },
}

impl From<Action> for Spelt {
    fn from(action: Action) -> Self {
        match action {
            Action::Upgrade { packages } => Self::Upgrade { packages },
            Action::AlterFile { path, change } => match change {
                FileChange::Rewrite { before, after } => {
                    Self::WriteFile { path, before: Some(before), after }
                }
                FileChange::Create { after } if after.access == Access::usual() => {
                    Self::WriteFile { path, before: None, after: after.sha256 }
                }
                FileChange::Create { after } => {
                    Self::AlterFile { path, before: None, after: Some(after) }
                }
                FileChange::Remove { before } => {
                    Self::AlterFile { path, before: Some(before), after: None }
                }
                FileChange::Replace { before, after } => {
                    Self::AlterFile { path, before: Some(before), after: Some(after) }
                }
            },
            Action::RestartUnit { unit } => Self::RestartUnit { unit },
            Action::Reboot => Self::Reboot,
            Action::Probe { probe } => Self::Probe { probe },
        }
    }
}

impl TryFrom<Spelt> for Action {
    type Error = &'static str;

    fn try_from(spelt: Spelt) -> Result<Self, Self::Error> {
        Ok(match spelt {
            Spelt::Upgrade { packages } => Self::Upgrade { packages },
            Spelt::WriteFile { path, before, after } => {
                Self::AlterFile { path, change: FileChange::content(before, after) }
            }
            Spelt::AlterFile { path, before, after } => {
                let change = match (before, after) {
                    (None, None) => return Err("nothing is made of a file"),
                    (None, Some(after)) => FileChange::Create { after },
                    (Some(before), None) => FileChange::Remove { before },
                    (Some(before), Some(after)) => FileChange::Replace { before, after },
                };
                Self::AlterFile { path, change }
            }
            Spelt::RestartUnit { unit } => Self::RestartUnit { unit },
            Spelt::Reboot => Self::Reboot,
            Spelt::Probe { probe } => Self::Probe { probe },
        })
    }
}

/// A package as exactly as it can be named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExactPackage {
    /// `libssl3`.
    pub name: String,
    /// `amd64`.
    pub architecture: String,
    /// `3.0.15-1~deb12u1`.
    pub version: String,
    /// Of the package file, from the archive's signed index.
    pub sha256: FileHash,
}

impl ExactPackage {
    /// Whether it takes the place of a package of this name and architecture. One for all architectures
    /// takes the place of one for a single architecture, and the other way round.
    pub fn takes_place_of(&self, name: &str, architecture: &str) -> bool {
        self.name == name
            && (self.architecture == architecture
                || is_for_all(&self.architecture)
                || is_for_all(architecture))
    }
}

/// Whether an architecture stands for all of them, as dpkg says it, or as rpm and apk do.
fn is_for_all(architecture: &str) -> bool {
    matches!(architecture, "all" | "noarch")
}

/// The way back of one item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "by", rename_all = "snake_case", deny_unknown_fields)]
pub enum Rollback {
    /// The packages that were replaced are installed again.
    Packages {
        /// Sorted by name and architecture.
        packages: Vec<ExactPackage>,
    },
    /// The files become what they were.
    Files,
    /// The machine goes back to a snapshot.
    Snapshot,
    /// There is none, and the tenant is told so.
    Impossible {
        /// Why.
        reason: Reason,
    },
}

words! {
    /// How much a plan may disturb what runs; ordered.
    Disruption {
        /// Nothing that runs is touched.
        Harmless = "harmless",
        /// Services may restart.
        Restarts = "restarts",
        /// The system restarts.
        Reboots = "reboots",
    }
}

/// What is wrong with a draft.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPlan {
    /// Nothing to do.
    #[error("{what} of the plan is empty")]
    Empty {
        /// What: `stage 2`.
        what: String,
    },
    /// A window that ends before it begins.
    #[error("the window of stage {stage} ends at {until}, not after it begins at {from}")]
    Window {
        /// Counted from 1.
        stage: usize,
        /// Its beginning.
        from: Timestamp,
        /// Its end.
        until: Timestamp,
    },
    /// A stage that begins before the one before it.
    #[error("stage {stage} begins at {from}, before the stage ahead of it at {ahead}")]
    Order {
        /// Counted from 1.
        stage: usize,
        /// Its beginning.
        from: Timestamp,
        /// The beginning of the one ahead.
        ahead: Timestamp,
    },
    /// Twice in one stage.
    #[error("{what} stands twice in stage {stage}")]
    Twice {
        /// An item or a package.
        what: String,
        /// Counted from 1.
        stage: usize,
    },
    /// A first plan with a parent, or a later one without.
    #[error("generation {generation} {}", if *.generation == 0 { "has a parent" } else { "has no parent" })]
    Parent {
        /// The generation.
        generation: u32,
    },
    /// A name that could be taken for something else.
    #[error(
        "{what} {given:?} is empty, too long, or has a blank or a character that cannot be seen"
    )]
    Word {
        /// What: `package`.
        what: &'static str,
        /// The text.
        given: String,
    },
    /// Not the name of a package.
    #[error("{given:?} is no name of a package")]
    Package {
        /// The text.
        given: String,
    },
    /// Not a service that may be restarted.
    #[error("{given:?} is no service that a plan may restart")]
    Unit {
        /// The name.
        given: String,
    },
    /// Whoever runs the file would have rights that its owner or group has.
    #[error("{path:?} would let whoever runs it have rights of its owner or group")]
    Rights {
        /// Which file.
        path: String,
    },
    /// Its bytes are not canonical.
    #[error(transparent)]
    Spelling(#[from] NotCanonical),
    /// Another schema.
    #[error("the document is a `{found}`, not a `{SCHEMA}`")]
    Schema {
        /// What it says it is.
        found: String,
    },
    /// More than anybody can look over.
    #[error("the plan has {size} bytes, more than {LARGEST_PLAN}")]
    TooLong {
        /// Its size in bytes.
        size: usize,
    },
}

impl InvalidPlan {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "leave it out, or say what is to be done",
            Self::Window { .. } | Self::Order { .. } => "give windows that follow one another",
            Self::Twice { .. } => "name it once, with all that is done to it",
            Self::Parent { .. } => "a plan names the one before it; the first names none",
            Self::Word { .. } | Self::Package { .. } => {
                "give the name as the system's tools write it"
            }
            Self::Unit { .. } => {
                "name one service, as `nginx.service`; a restart of the system is `reboot`"
            }
            Self::Rights { .. } => "have it brought by a package, or leave setuid and setgid out",
            Self::Spelling(error) => error.help(),
            Self::Schema { .. } => "give a plan of this version of Patchwright",
            Self::TooLong { .. } => "split it: a plan for each window",
        }
    }
}

/// Why one plan does not follow another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the plan is generation {generation} after {parent:?}; generation {expected} after \
     {expected_parent} was expected, for the same change and tenant"
)]
pub struct NoSuccessor {
    /// Of the new plan.
    pub generation: u32,
    /// What the new plan names.
    pub parent: Option<PlanHash>,
    /// One more than that of the plan in force.
    pub expected: u32,
    /// The plan in force.
    pub expected_parent: PlanHash,
}

/// Stands in each plan's bytes.
const SCHEMA: &str = "patchwright.plan/1";

#[derive(Serialize, Deserialize)]
struct Document<D> {
    schema: String,
    plan: D,
}

impl Plan {
    /// A draft that holds to the rules; items and packages are brought into their order.
    ///
    /// # Errors
    /// As [`InvalidPlan`].
    pub fn new(mut draft: Draft) -> Result<Self, InvalidPlan> {
        check(&mut draft)?;
        let bytes = spell(&draft);
        if bytes.len() > LARGEST_PLAN {
            return Err(InvalidPlan::TooLong { size: bytes.len() });
        }
        Ok(Self { hash: sha256(&bytes).into(), draft: Arc::new(draft) })
    }

    /// The plan whose published bytes these are.
    ///
    /// # Errors
    /// If it is none, or its bytes are not the canonical ones.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidPlan> {
        let document: Document<Draft> = from_canonical(bytes, LARGEST_PLAN)?;
        if document.schema != SCHEMA {
            return Err(InvalidPlan::Schema { found: document.schema.chars().take(64).collect() });
        }
        let plan = Self::new(document.plan)?;
        // Members in order, but items or packages not.
        if plan.hash != sha256(bytes).into() {
            let ours = plan.to_bytes();
            let at = ours.iter().zip(bytes).take_while(|(ours, theirs)| ours == theirs).count();
            return Err(NotCanonical::OtherSpelling { at }.into());
        }
        Ok(plan)
    }

    /// The bytes that are published and hashed.
    pub fn to_bytes(&self) -> Vec<u8> {
        spell(&self.draft)
    }

    /// Its hash.
    pub const fn hash(&self) -> PlanHash {
        self.hash
    }

    /// What it says.
    pub fn draft(&self) -> &Draft {
        &self.draft
    }

    /// How much it disturbs at most.
    pub fn disruption(&self) -> Disruption {
        self.items()
            .flat_map(|item| &item.actions)
            .map(|action| match action {
                Action::Probe { .. } | Action::AlterFile { .. } => Disruption::Harmless,
                // Package scripts restart what they think they must.
                Action::Upgrade { .. } | Action::RestartUnit { .. } => Disruption::Restarts,
                Action::Reboot => Disruption::Reboots,
            })
            .max()
            .unwrap_or(Disruption::Harmless)
    }

    /// How many items that the provider must patch it touches.
    pub fn provider_items(&self) -> usize {
        let items = self.items().filter(|item| item.duty == Duty::Provider);
        items.map(|item| item.ci).collect::<BTreeSet<_>>().len()
    }

    /// All items, stage by stage.
    pub fn items(&self) -> impl Iterator<Item = &Item> {
        self.draft.stages.iter().flat_map(|stage| &stage.items)
    }

    /// From the first window's beginning to the last one's end.
    pub fn span(&self) -> Window {
        let stages = &self.draft.stages;
        let until = stages.iter().map(|stage| stage.window.until).max();
        Window {
            from: stages.first().map_or(Timestamp::MAX, |stage| stage.window.from),
            until: until.unwrap_or(Timestamp::MIN),
        }
    }

    /// Whether it may take the place of `parent`.
    ///
    /// # Errors
    /// If it is of another change or tenant, or not the next generation.
    pub fn follows(&self, parent: &Self) -> Result<(), NoSuccessor> {
        let (new, old) = (&self.draft, &parent.draft);
        let expected = old.generation.saturating_add(1);
        let is_same = new.change == old.change && new.tenant == old.tenant;
        if is_same && new.generation == expected && new.parent == Some(parent.hash) {
            return Ok(());
        }
        Err(NoSuccessor {
            generation: new.generation,
            parent: new.parent,
            expected,
            expected_parent: parent.hash,
        })
    }
}

impl Window {
    /// Whether an instant lies in it.
    pub fn has(&self, now: Timestamp) -> bool {
        self.from <= now && now < self.until
    }
}

impl TryFrom<Draft> for Plan {
    type Error = InvalidPlan;

    fn try_from(draft: Draft) -> Result<Self, InvalidPlan> {
        Self::new(draft)
    }
}

impl From<Plan> for Draft {
    fn from(plan: Plan) -> Self {
        Arc::unwrap_or_clone(plan.draft)
    }
}

/// The one spelling of a draft, as [`to_canonical`] has it. A plan of ten thousand items says the same
/// of most of them: what is done to an item is spelt anew only where it differs from the item before,
/// which is ten times faster.
fn spell(draft: &Draft) -> Vec<u8> {
    let Draft { change, tenant, generation, parent, stages } = draft;
    let mut text = String::with_capacity(1024);
    let mut known: Option<(&Item, Vec<u8>, Vec<u8>)> = None;
    let _ = write!(text, "{{\"plan\":{{\"change\":\"{change}\",\"generation\":{generation},");
    if let Some(parent) = parent {
        let _ = write!(text, "\"parent\":\"{parent}\",");
    }
    let mut bytes = text.into_bytes();
    bytes.extend(b"\"stages\":[");
    for (place, Stage { window, items }) in stages.iter().enumerate() {
        bytes.extend(if place == 0 { &b"{\"items\":["[..] } else { &b",{\"items\":["[..] });
        for (place, item) in items.iter().enumerate() {
            let Item { ci, duty, actions, rollback } = item;
            let is_same = |it: &Item| it.actions == item.actions && it.rollback == item.rollback;
            if !known.as_ref().is_some_and(|(last, ..)| is_same(last)) {
                known = Some((item, to_canonical(actions), to_canonical(rollback)));
            }
            let Some((_, actions, rollback)) = &known else { continue };
            bytes.extend(if place == 0 { &b"{\"actions\":"[..] } else { &b",{\"actions\":"[..] });
            bytes.extend(actions);
            bytes.extend(format!(",\"ci\":\"{ci}\",\"duty\":\"{duty}\",\"rollback\":").bytes());
            bytes.extend(rollback);
            bytes.push(b'}');
        }
        bytes.extend(b"],\"window\":");
        bytes.extend(to_canonical(window));
        bytes.push(b'}');
    }
    bytes.extend(format!("],\"tenant\":\"{tenant}\"}},\"schema\":\"{SCHEMA}\"}}").bytes());
    debug_assert!(
        bytes == to_canonical(&Document { schema: SCHEMA.to_owned(), plan: draft }),
        "one spelling"
    );
    bytes
}

fn check(draft: &mut Draft) -> Result<(), InvalidPlan> {
    let Draft { generation, parent, stages, .. } = draft;
    if (*generation == 0) != parent.is_none() {
        return Err(InvalidPlan::Parent { generation: *generation });
    }
    if stages.is_empty() {
        return Err(InvalidPlan::Empty { what: "the list of stages".to_owned() });
    }
    let mut ahead = Timestamp::MIN;
    for (place, Stage { window: Window { from, until }, items }) in stages.iter_mut().enumerate() {
        let stage = place + 1;
        if *until <= *from {
            return Err(InvalidPlan::Window { stage, from: *from, until: *until });
        }
        if *from < ahead {
            return Err(InvalidPlan::Order { stage, from: *from, ahead });
        }
        ahead = *from;
        if items.is_empty() {
            return Err(InvalidPlan::Empty { what: format!("stage {stage}") });
        }
        items.sort_by_key(|item| item.ci);
        if let Some(pair) = items.windows(2).find(|pair| pair[0].ci == pair[1].ci) {
            return Err(InvalidPlan::Twice { what: pair[0].ci.to_string(), stage });
        }
        for item in items {
            check_item(item, stage)?;
        }
    }
    Ok(())
}

fn check_item(item: &mut Item, stage: usize) -> Result<(), InvalidPlan> {
    if item.actions.is_empty() {
        return Err(InvalidPlan::Empty { what: format!("the list of actions on {}", item.ci) });
    }
    for action in &mut item.actions {
        match action {
            Action::Upgrade { packages } => check_packages(packages, stage)?,
            Action::AlterFile { path, change } => {
                check_path(path)?;
                if change.gives_rights() {
                    return Err(InvalidPlan::Rights { path: path.clone() });
                }
            }
            Action::RestartUnit { unit } => check_unit(unit)?,
            Action::Probe { probe } => check_word("probe", probe)?,
            Action::Reboot => {}
        }
    }
    match &mut item.rollback {
        Rollback::Packages { packages } => check_packages(packages, stage),
        Rollback::Files | Rollback::Snapshot | Rollback::Impossible { .. } => Ok(()),
    }
}

fn check_packages(packages: &mut [ExactPackage], stage: usize) -> Result<(), InvalidPlan> {
    if packages.is_empty() {
        return Err(InvalidPlan::Empty { what: format!("a list of packages in stage {stage}") });
    }
    packages.sort();
    let is_same =
        |a: &ExactPackage, b: &ExactPackage| a.name == b.name && a.architecture == b.architecture;
    if let Some(pair) = packages.windows(2).find(|pair| is_same(&pair[0], &pair[1])) {
        let what = format!("{}:{}", pair[0].name, pair[0].architecture);
        return Err(InvalidPlan::Twice { what, stage });
    }
    for package in packages {
        check_package(&package.name)?;
        check_word("architecture", &package.architecture)?;
        check_word("version", &package.version)?;
    }
    Ok(())
}

/// A name as dpkg, rpm and apk have them: none that a tool could take for an option, a path, a pattern, or
/// for something to be done with it (`tool-` takes it away, `tool=1` names a version).
fn check_package(name: &str) -> Result<(), InvalidPlan> {
    check_word("package", name)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"+._-".contains(&byte);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if begins && name.bytes().all(is_plain) && !name.ends_with('-') {
        return Ok(());
    }
    Err(InvalidPlan::Package { given: name.chars().take(64).collect() })
}

fn check_word(what: &'static str, text: &str) -> Result<(), InvalidPlan> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain && !text.is_empty() && text.len() <= 255 {
        return Ok(());
    }
    Err(InvalidPlan::Word { what, given: text.chars().take(64).collect() })
}

/// Services whose restart is another thing than a restart: the system goes down by it, or a shell
/// opens, or all sessions end.
const NO_RESTART: [&str; 14] = [
    "dbus-broker.service",
    "dbus.service",
    "debug-shell.service",
    "emergency.service",
    "patchwright-agent.service",
    "rescue.service",
    "systemd-halt.service",
    "systemd-hibernate.service",
    "systemd-journald.service",
    "systemd-kexec.service",
    "systemd-logind.service",
    "systemd-poweroff.service",
    "systemd-reboot.service",
    "systemd-suspend.service",
];

/// One service by its name: no pattern, and no unit of a kind that does something else when it is
/// "restarted", as a target for a restart of the system.
pub fn is_restartable(unit: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@-".contains(&byte);
    let is_users = unit.starts_with("user@") || unit.starts_with("session-");
    let stem = unit.strip_suffix(".service").unwrap_or_default();
    !stem.is_empty()
        && unit.len() <= 255
        && unit.bytes().all(is_name)
        && !is_users
        && !NO_RESTART.contains(&unit)
}

fn check_unit(unit: &str) -> Result<(), InvalidPlan> {
    if is_restartable(unit) {
        return Ok(());
    }
    Err(InvalidPlan::Unit { given: unit.chars().take(64).collect() })
}

/// Nothing that steps out of where it seems to be.
pub(super) fn check_path(path: &str) -> Result<(), InvalidPlan> {
    let steps = path.strip_prefix('/').map(|rest| rest.split('/'));
    let is_plain = steps.is_some_and(|mut steps| {
        steps.all(|step| !matches!(step, "" | "." | "..") && !step.contains(char::is_control))
    });
    if is_plain && path.len() <= 4096 {
        return Ok(());
    }
    Err(InvalidPlan::Word { what: "path", given: path.chars().take(64).collect() })
}
