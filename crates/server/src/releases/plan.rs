//! From what is known of the cloud to a layout.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use domain::change::alteration::Unwritable;
use domain::change::{Action, ExactPackage, Kind, Rollback, Window};
use domain::cloud::{ChangeId, CiId, Class, LabelKey, RelationKind, ReleaseId, TenantId, words};
use domain::fleet::SetDigest;
use domain::proof::{Impact, RebootCause};
use domain::release::{
    Amount, Caps, Condition, Content, Fleet, Freeze, Layout, Mobility, NoLayout, Order, Percent,
    Profile, Reboot, Service, Target, Windows, Work, plan,
};
use domain::sla::Policy;
use jiff::{SignedDuration, Timestamp};
use store::{Actor, Ci, Ground, Lacking};

use crate::App;
use crate::api::given;
use crate::fleet::Want;
use crate::notices::impact::impact;
use crate::problem::{Kind as ProblemKind, Problem};

/// Labels that say where an item stands, and what its users need of it.
const ZONE: &str = "zone";
const DOMAIN: &str = "update-domain";
const MIN_AVAILABLE: &str = "min-available";
const MAX_UNAVAILABLE: &str = "max-unavailable";
/// What becomes of a VM when its hypervisor restarts: `moves` or `stops`.
const MOBILITY: &str = "mobility";

words! {
    /// Whether items restart after the installation.
    Restart {
        /// Where a kernel, or something that everything runs on, is replaced.
        IfNeeded = "if_needed",
        /// All of them.
        Always = "always",
        /// None.
        Never = "never",
    }
}

/// What is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// What the release is called; it also decides who has a turn with which wave.
    pub(crate) release: ReleaseId,
    /// The waves.
    pub(crate) profile: Profile,
    /// From when on items may be altered.
    pub(crate) from: Timestamp,
    /// Nothing is planned beyond this.
    pub(crate) until: Timestamp,
    /// When items may be altered, within both; at any time where none are given.
    pub(crate) windows: Vec<Window>,
    /// Items that go first, beside those with the profile's labels.
    pub(crate) canaries: BTreeSet<CiId>,
    /// Only these items; all that lack a patch where none are named.
    pub(crate) only: BTreeSet<CiId>,
    /// How much at a time.
    pub(crate) caps: Caps,
    /// Whether items restart.
    pub(crate) restart: Restart,
    /// How long an installation takes until it is verified, and a restart.
    pub(crate) takes: (SignedDuration, SignedDuration),
}

/// A layout, and what could not even be planned with.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) layout: Arc<Layout>,
    /// Items that get nothing, and why.
    pub(crate) without_content: BTreeMap<CiId, NoContent>,
}

/// Why an item gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoContent {
    /// Nobody knows the exact packages.
    #[error("its packages are not known: {0}")]
    Unknown(String),
    /// A file cannot be written so.
    #[error(transparent)]
    File(#[from] Unwritable),
    /// The archive has come to offer something else than was proven.
    #[error("{package} {offered} is not what was proven, {proven}")]
    Unproven {
        /// The package and its architecture.
        package: String,
        /// What the archive offers.
        offered: String,
        /// What was proven.
        proven: String,
    },
}

impl NoContent {
    /// The way out.
    pub(crate) const fn help(&self) -> &'static str {
        match self {
            Self::File(because) => because.help(),
            Self::Unknown(_) => "describe the archives of its release: docs/control-plane.md",
            Self::Unproven { .. } => {
                "have what the archive offers now proven, as a change of its own"
            }
        }
    }
}

/// Packages that everything runs on: what maps them cannot all be restarted one by one, as the first
/// process and the message bus.
const BENEATH_ALL: [&str; 5] = ["libc6", "systemd", "libsystemd0", "dbus", "libdbus-1-3"];

/// Lays a release of a change out.
pub(crate) async fn draw(
    app: &App,
    by: &Actor,
    change: ChangeId,
    asked: Asked,
) -> Result<Drawn, Problem> {
    let ground = app.store.ground(by, change).await?;
    let measured = measured(app, &ground).await?;
    let kind = ground.change.change.kind;
    let (contents, without_content) = match kind {
        Kind::Patch => contents(app, &ground, &asked, &measured).await?,
        Kind::Alteration => files(app, by, &ground, &asked).await?,
    };
    if contents.is_empty() {
        return Err(nothing(kind, &without_content));
    }
    let terms = policies(app, by, &ground).await?;
    let contents = with_snapshots(&ground, contents, &asked, &measured, &terms);
    let fleet = fleet(&ground, &contents, &asked, &measured);
    let freezes = freezes(&ground, &terms)?;
    let (from, previous) = (asked.from, ground.plans);
    // A large fleet takes a second: not on a thread that answers others.
    let drawing = tokio::task::spawn_blocking(move || {
        let order = Order {
            release: asked.release,
            change,
            profile: &asked.profile,
            caps: asked.caps,
            canaries: &asked.canaries,
            freezes: &freezes,
            previous: &previous,
            until: asked.until,
        };
        plan(&fleet, &order, asked.from)
    });
    let layout = drawing
        .await
        .map_err(|_| Problem::new(ProblemKind::Internal, "the plan was not finished"))?;
    match layout {
        Ok(layout) if layout.plans().is_empty() => {
            let first = layout.unplaced().iter().next();
            let (because, help) = match first {
                Some((ci, because)) => (format!("{ci}: {because}"), because.help()),
                None => {
                    ("no item can be altered".to_owned(), "plan for longer, or for other windows")
                }
            };
            let detail = format!("nothing can be planned from {from}: {because}");
            Err(Problem::new(ProblemKind::Refused, detail).help(help))
        }
        Ok(layout) => Ok(Drawn { layout: Arc::new(layout), without_content }),
        Err(error) => Err(refused(&error)),
    }
}

/// What the tenants agreed on.
async fn policies(
    app: &App,
    by: &Actor,
    ground: &Ground,
) -> Result<BTreeMap<TenantId, Policy>, Problem> {
    let mut policies = BTreeMap::new();
    for &tenant in ground.concerned.keys() {
        policies.insert(tenant, app.store.policy_in_force(by, tenant).await?);
    }
    Ok(policies)
}

/// The way back of what restarts is a snapshot, where the tenant agreed to that and the machine lives where one
/// can be taken: whatever comes up after a restart, the agent may not be part of it.
fn with_snapshots(
    ground: &Ground,
    contents: BTreeMap<CiId, Arc<Content>>,
    asked: &Asked,
    measured: &BTreeMap<TenantId, Impact>,
    terms: &BTreeMap<TenantId, Policy>,
) -> BTreeMap<CiId, Arc<Content>> {
    let agreed: BTreeMap<CiId, TenantId> = ground
        .lacking
        .iter()
        .filter(|it| terms.get(&it.tenant).is_some_and(|policy| policy.document().snapshots))
        .filter(|it| ground.placed.contains(&it.ci))
        .map(|it| (it.ci, it.tenant))
        .collect();
    // Those that share a content go on to share one.
    let mut kept: Vec<(Arc<Content>, Arc<Content>)> = Vec::new();
    let with = |(ci, content): (CiId, Arc<Content>)| {
        let is_risky = agreed
            .get(&ci)
            .is_some_and(|tenant| restarts(&content, asked.restart, measured.get(tenant)));
        if !is_risky {
            return (ci, content);
        }
        if let Some((_, known)) = kept.iter().find(|(of, _)| Arc::ptr_eq(of, &content)) {
            return (ci, Arc::clone(known));
        }
        let actions = content.actions.clone();
        let new = Arc::new(Content { actions, rollback: Rollback::Snapshot });
        kept.push((content, Arc::clone(&new)));
        (ci, new)
    };
    contents.into_iter().map(with).collect()
}

/// When the tenants' own calendars let nothing of this be installed.
fn freezes(ground: &Ground, terms: &BTreeMap<TenantId, Policy>) -> Result<Vec<Freeze>, Problem> {
    let mut freezes = Vec::new();
    for (&tenant, &priority) in &ground.concerned {
        let Some(policy) = terms.get(&tenant) else { continue };
        for (from, until) in policy.calendar().frozen(priority) {
            let reason = given("reason", "a freeze of the tenant's calendar")?;
            freezes.push(Freeze { tenant: Some(tenant), span: Window { from, until }, reason });
        }
    }
    Ok(freezes)
}

fn refused(error: &NoLayout) -> Problem {
    Problem::new(ProblemKind::Refused, error.to_string()).help(error.help())
}

fn nothing(kind: Kind, without: &BTreeMap<CiId, NoContent>) -> Problem {
    match (kind, without.iter().next()) {
        (Kind::Patch, None) => {
            Problem::new(ProblemKind::Refused, "no item lacks a patch of this change")
                .help("see who does with `get findings`")
        }
        (Kind::Alteration, None) => {
            Problem::new(ProblemKind::Refused, "this alteration makes nothing of any file yet")
                .help("propose a file's content: `change propose`")
        }
        (_, Some((ci, because))) => {
            Problem::new(ProblemKind::Refused, format!("nothing is there for {ci}: {because}"))
                .help(because.help())
        }
    }
}

/// What is to be installed on whom: the same for all items that have the same packages and lack the same.
async fn contents(
    app: &App,
    ground: &Ground,
    asked: &Asked,
    measured: &BTreeMap<TenantId, Impact>,
) -> Result<(BTreeMap<CiId, Arc<Content>>, BTreeMap<CiId, NoContent>), Problem> {
    type Key = (TenantId, SetDigest, BTreeSet<String>);
    // Images have no agents: what they lack is baked into new versions.
    let images: BTreeSet<CiId> =
        ground.cis.iter().filter(|ci| ci.class == Class::Image).map(|ci| ci.id).collect();
    let is_meant = |lacking: &&Lacking| {
        !images.contains(&lacking.ci) && (asked.only.is_empty() || asked.only.contains(&lacking.ci))
    };
    let mut groups: BTreeMap<Key, Vec<CiId>> = BTreeMap::new();
    for lacking in ground.lacking.iter().filter(is_meant) {
        let key = (lacking.tenant, lacking.digest, lacking.sources.clone());
        groups.entry(key).or_default().push(lacking.ci);
    }
    let mut wants = Vec::with_capacity(groups.len());
    let tenants: Vec<TenantId> = groups.keys().map(|(tenant, ..)| *tenant).collect();
    for (tenant, digest, sources) in groups.keys() {
        let set = app.store.package_set(&Actor::System, *tenant, *digest).await?;
        let set = set.ok_or_else(|| Problem::not_found("package set of an item"))?;
        wants.push(Want { set, sources: sources.clone() });
    }
    let found = app.fleet.contents(wants).await;
    let (mut contents, mut without) = (BTreeMap::new(), BTreeMap::new());
    for ((items, tenant), found) in groups.into_values().zip(tenants).zip(found) {
        let found = found.map_err(NoContent::Unknown).and_then(|content| {
            let proven = measured.get(&tenant);
            proven.map_or(Ok(()), |proven| is_proven(&content, proven)).map(|()| content)
        });
        match found {
            Ok(content) => {
                let content = Arc::new(content);
                contents.extend(items.into_iter().map(|ci| (ci, Arc::clone(&content))));
            }
            Err(because) => without.extend(items.into_iter().map(|ci| (ci, because.clone()))),
        }
    }
    Ok((contents, without))
}

/// What an alteration makes of files, of each item as it was proposed.
async fn files(
    app: &App,
    by: &Actor,
    ground: &Ground,
    asked: &Asked,
) -> Result<(BTreeMap<CiId, Arc<Content>>, BTreeMap<CiId, NoContent>), Problem> {
    let (mut contents, mut without) = (BTreeMap::new(), BTreeMap::new());
    for (ci, found) in app.history.alters(by, ground.change.change.id).await? {
        if !asked.only.is_empty() && !asked.only.contains(&ci) {
            continue;
        }
        match found {
            Ok(actions) => {
                contents.insert(ci, Arc::new(Content { actions, rollback: Rollback::Files }));
            }
            Err(because) => drop(without.insert(ci, NoContent::File(because))),
        }
    }
    Ok((contents, without))
}

/// Whether a release would install what was proven, as far as the proof had the same packages.
fn is_proven(content: &Content, proven: &Impact) -> Result<(), NoContent> {
    for offered in upgraded(content) {
        let package = format!("{}:{}", offered.name, offered.architecture);
        let Some((_, Some(proven))) = proven.packages.get(&package) else { continue };
        if *proven != offered.version {
            let (offered, proven) = (offered.version.clone(), proven.clone());
            return Err(NoContent::Unproven { package, offered, proven });
        }
    }
    Ok(())
}

/// What the proof of a change measured, for each tenant that has one.
async fn measured(app: &App, ground: &Ground) -> Result<BTreeMap<TenantId, Impact>, Problem> {
    let tenants: BTreeSet<TenantId> = ground.lacking.iter().map(|lacking| lacking.tenant).collect();
    let mut measured = BTreeMap::new();
    for tenant in tenants {
        if let Some(impact) = impact(&app.store, tenant, &ground.change.change).await? {
            measured.insert(tenant, impact);
        }
    }
    Ok(measured)
}

fn fleet(
    ground: &Ground,
    contents: &BTreeMap<CiId, Arc<Content>>,
    asked: &Asked,
    measured: &BTreeMap<TenantId, Impact>,
) -> Fleet {
    let windows = Arc::new(match asked.windows.as_slice() {
        [] => Windows::Always,
        windows => Windows::Within(windows.to_vec()),
    });
    let mut relations: BTreeMap<CiId, Vec<(RelationKind, CiId)>> = BTreeMap::new();
    for relation in &ground.relations {
        relations.entry(relation.from).or_default().push((relation.kind, relation.to));
    }
    let is_there: BTreeSet<CiId> = ground.cis.iter().map(|ci| ci.id).collect();
    let services: BTreeSet<CiId> =
        ground.cis.iter().filter(|ci| ci.class == Class::Service).map(|ci| ci.id).collect();
    let target = |ci: &Ci| {
        let to = |kind: RelationKind| -> Vec<CiId> {
            let all = relations.get(&ci.id).into_iter().flatten();
            let meant = all.filter(|(found, to)| *found == kind && is_there.contains(to));
            meant.map(|(_, to)| *to).collect()
        };
        let content = contents.get(&ci.id);
        Target {
            ci: ci.id,
            tenant: ci.tenant,
            duty: ci.duty,
            class: ci.class,
            labels: ci.labels.clone(),
            zone: label(ci, ZONE),
            domain: label(ci, DOMAIN),
            depends_on: to(RelationKind::DependsOn),
            member_of: to(RelationKind::MemberOf)
                .into_iter()
                .filter(|to| services.contains(to))
                .collect(),
            runs_on: to(RelationKind::RunsOn).into_iter().next(),
            mobility: label(ci, MOBILITY).unwrap_or(Mobility::Stops),
            condition: if ground.sick.contains(&ci.id) {
                Condition::Down
            } else {
                Condition::Healthy
            },
            work: content.map(|content| Work {
                content: Arc::clone(content),
                takes: asked.takes.0,
                windows: Arc::clone(&windows),
                reboot: restarts(content, asked.restart, measured.get(&ci.tenant))
                    .then(|| Reboot { takes: asked.takes.1, windows: Arc::clone(&windows) }),
            }),
        }
    };
    let service = |ci: &Ci| Service {
        ci: ci.id,
        name: ci.name.clone(),
        min_available: amount(ci, MIN_AVAILABLE).unwrap_or(Amount::Count(0)),
        max_unavailable: amount(ci, MAX_UNAVAILABLE),
    };
    let is_service = |ci: &&Ci| ci.class == Class::Service;
    Fleet {
        targets: ground.cis.iter().map(target).collect(),
        services: ground.cis.iter().filter(is_service).map(service).collect(),
    }
}

/// Whether an item restarts after its installation. What a proof measured counts beside what is known of
/// packages by their names.
fn restarts(content: &Content, asked: Restart, measured: Option<&Impact>) -> bool {
    let is_beneath = |name: &str| name.starts_with("linux-image-") || BENEATH_ALL.contains(&name);
    let needs_restart =
        |impact: &Impact| impact.reboot.causes.iter().any(RebootCause::needs_restart);
    match asked {
        Restart::Always => true,
        Restart::Never => false,
        Restart::IfNeeded => {
            measured.is_some_and(needs_restart) || upgraded(content).any(|it| is_beneath(&it.name))
        }
    }
}

/// All packages that a content installs.
fn upgraded(content: &Content) -> impl Iterator<Item = &ExactPackage> {
    let packages = content.actions.iter().filter_map(|action| match action {
        Action::Upgrade { packages } => Some(packages),
        _ => None,
    });
    packages.flatten()
}

fn label<T: FromStr>(ci: &Ci, key: &str) -> Option<T> {
    let key: LabelKey = key.parse().ok()?;
    ci.labels.get(&key)?.parse().ok()
}

/// A number of members, or a part of them: `2`, `50%`.
fn amount(ci: &Ci, key: &str) -> Option<Amount> {
    let text: String = label(ci, key)?;
    match text.trim().strip_suffix('%') {
        Some(part) => Percent::try_from(part.trim().parse::<i64>().ok()?).ok().map(Amount::Share),
        None => text.trim().parse().ok().map(Amount::Count),
    }
}

/// Caps that stop nothing but what is absurd: the profile's waves do the rest.
pub(crate) fn usual_caps() -> Caps {
    let most = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    Caps {
        max_unavailable: most(1_000),
        per_wave: most(50_000),
        per_tenant: most(10_000),
        per_hour: most(2_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::change::FileHash;

    fn with(name: &str) -> Content {
        Content {
            actions: vec![Action::Upgrade {
                packages: vec![ExactPackage {
                    name: name.to_owned(),
                    architecture: "amd64".to_owned(),
                    version: "1".to_owned(),
                    sha256: FileHash::from([0; 32]),
                }],
            }],
            rollback: Rollback::Packages { packages: Vec::new() },
        }
    }

    fn impact(causes: Vec<RebootCause>) -> Impact {
        Impact {
            install_ms: 1,
            restarted: BTreeMap::new(),
            reboot: domain::proof::Reboot { causes, downtime_ms: None, units: BTreeMap::new() },
            files_touched: Vec::new(),
            configuration_changed: Vec::new(),
            packages: BTreeMap::new(),
            disk_bytes: 0,
            new_errors: Vec::new(),
        }
    }

    #[test]
    fn what_everything_runs_on_asks_for_a_restart() {
        let kernel = RebootCause::Kernel { running: "1".into(), installed: "2".into() };
        let (none, needed) = (impact(Vec::new()), impact(vec![kernel]));
        for (name, is_needed) in [
            ("nginx", false),
            ("linux-image-6.1.0-2-amd64", true),
            ("linux-image-amd64", true),
            ("libc6", true),
            ("libc6-dev", false),
        ] {
            assert_eq!(restarts(&with(name), Restart::IfNeeded, None), is_needed, "{name}");
            assert_eq!(restarts(&with(name), Restart::IfNeeded, Some(&none)), is_needed, "{name}");
            assert!(restarts(&with(name), Restart::IfNeeded, Some(&needed)), "as it was measured");
            assert!(restarts(&with(name), Restart::Always, None));
            assert!(!restarts(&with(name), Restart::Never, Some(&needed)));
        }
    }

    #[test]
    fn what_was_proven_is_installed_and_nothing_newer() {
        let proven = |name: &str, after: Option<&str>| {
            let versions = (Some("0".to_owned()), after.map(str::to_owned));
            Impact { packages: [(name.to_owned(), versions)].into(), ..impact(Vec::new()) }
        };
        assert_eq!(is_proven(&with("web"), &proven("web:amd64", Some("1"))), Ok(()));
        // What the image did not have says nothing.
        assert_eq!(is_proven(&with("web"), &proven("web:i386", Some("2"))), Ok(()));
        assert_eq!(is_proven(&with("web"), &proven("web:amd64", None)), Ok(()));
        let refused = is_proven(&with("web"), &proven("web:amd64", Some("0.9"))).unwrap_err();
        assert_eq!(refused.to_string(), "web:amd64 1 is not what was proven, 0.9");
    }
}
