//! A million systems: how soon the API says whom a new advisory concerns.
//!
//! ```text
//! million DIRECTORY [SYSTEMS] [SETS]
//! ```
//!
//! Makes the database in the directory where there is none yet. Rows are written directly: it is
//! reading them and what follows that is measured.

#[path = "../../domain/benches/synthetic/mod.rs"]
#[allow(dead_code, reason = "its benches use more of it")]
mod synthetic;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::http::Request;
use domain::advisory::{Advisory, RangeEnd};
use domain::check::{AdvisoryKnowledge, Question, Report, Scope};
use domain::cloud::{Access, CiId, PROVIDER, Role, ServiceModel, TenantId};
use domain::fleet::{PackageSet, SetDigest, VersionChoice};
use domain::matching::Index;
use domain::priority::{AssetFacts, Policy};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use server::{Agents, App, Case, Fleet, Judge, Recorder};
use store::{Actor, Database, MasterKey, NewTenant, NewToken, NewUser, Store, System};
use synthetic::{Cloud, SEED, TENANTS};
use tower::ServiceExt as _;

type Failure = Box<dyn std::error::Error>;

/// Rows of one statement.
const ROWS: usize = 500;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let directory = Path::new(arguments.first().ok_or("name a directory")?);
    let number = |at: usize, default| {
        arguments.get(at).and_then(|it| it.parse::<usize>().ok()).unwrap_or(default)
    };
    let (systems, sets) = (number(1, 1_000_000), number(2, 2_000));
    std::fs::create_dir_all(directory)?;
    let path = directory.join("million.db");
    let is_new = !path.exists();
    let store = Store::open(&Database::file(&path), Arc::new(System)).await?;
    let first = NewUser {
        tenant: PROVIDER,
        login: "root".parse()?,
        name: "Root".parse()?,
        role: Role::Admin,
        password: None,
    };
    store.found("Cloud".parse()?, first).await?;
    let (root, _) = store.user_by_login(&"root".parse()?).await?.ok_or("no root")?;
    let by = Actor::Person { user: root.id, tenant: PROVIDER, role: Role::Admin };
    let mut cloud = Cloud::new(SEED);
    let advisories = cloud.advisories(1_000);
    if is_new {
        fill(&store, &path, &by, &mut cloud, systems, sets).await?;
    }

    let fleet = Arc::new(Fleet::new(store.clone(), Arc::new(ByAdvisories)));
    let app = open(&store, directory, &fleet).await?;
    let begin = Instant::now();
    fleet.follow().await?;
    println!("{systems} systems, {sets} sets, {TENANTS} tenants");
    println!("read into memory         {:>10.1?}   {} MB resident", begin.elapsed(), resident());

    let lifetime = SignedDuration::from_hours(1);
    let new =
        NewToken { name: "bench".parse()?, access: Access::Write, lifetime, is_strong: false };
    let (_, secret) = store.create_token(&by, new).await?;
    let router = app.router();
    let ask = async |method: &str, path: &str, body: Option<Value>| -> Result<Value, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("/api/v1{path}"))
            .header("authorization", format!("Bearer {}", secret.reveal()));
        if body.is_some() {
            request = request.header("content-type", "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        let response = router.clone().oneshot(request.body(body)?).await?;
        let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let mut times = Vec::new();
    let mut most = (0, 0);
    for advisory in advisories.iter().take(200) {
        let body = json!({ "osv": osv(advisory), "note": "" });
        let begin = Instant::now();
        let answer = ask("POST", "/advisories", Some(body)).await?;
        times.push(begin.elapsed());
        let concerns = answer["concerns"].as_array().ok_or_else(|| answer.to_string())?;
        let items: u64 = concerns.iter().filter_map(|it| it["items"].as_u64()).sum();
        most = most.max((items, concerns.len()));
    }
    times.sort();
    println!(
        "advisory in, counts out  {:>10.1?}   p99 {:.1?}, worst {:.1?}, 200 advisories; the most: \
         {} systems of {} tenants",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1],
        most.0,
        most.1
    );
    let begin = Instant::now();
    let totals = store.check_totals(&by, Timestamp::UNIX_EPOCH).await?;
    println!(
        "totals of the cloud      {:>10.1?}   {} unchecked",
        begin.elapsed(),
        totals.unchecked
    );
    Ok(())
}

/// A control plane over a store.
async fn open(store: &Store, directory: &Path, fleet: &Arc<Fleet>) -> Result<App, Failure> {
    let master = Arc::new(MasterKey::open(&directory.join("master.key"), &System)?);
    let recorder = Recorder::open(store.clone(), &master, directory.join("ledger")).await?;
    let objects = Arc::new(store::ObjectDirectory::open(directory.join("history"))?);
    let history = store.history(Arc::clone(&master), objects);
    let (of_agents, url) = (history.clone(), "http://localhost");
    let agents = Agents::open(store.clone(), &master, Arc::clone(fleet), of_agents, url).await?;
    let lab =
        server::Lab::open(store.clone(), directory, None, server::LabSettings::default()).await?;
    let vault = store::Vault::new(&store.key(&master, "factors").await?);
    let url = "http://localhost".to_owned();
    let told = server::NoticeSettings::default();
    let verifier = server::Releases::open(store.clone(), history.clone(), &master).await?.key();
    let notices =
        Arc::new(server::Notices::open(store.clone(), history.clone(), vault.clone(), &url, told)?);
    Ok(App::new(
        store.clone(),
        Arc::new(recorder),
        Arc::clone(fleet),
        Arc::new(agents),
        Arc::new(lab),
        server::Settings {
            vault,
            url,
            requires_mfa: false,
            providers: server::Providers::none(),
            witnesses: None,
            notices,
            two_persons_above: 20,
            verifier,
            history,
            reach: reach::Reach::public(),
            image_stores: Arc::new(server::NoImageStores),
        },
    )?)
}

/// Tenants, package sets and systems.
async fn fill(
    store: &Store,
    path: &Path,
    by: &Actor,
    cloud: &mut Cloud,
    systems: usize,
    sets: usize,
) -> Result<(), Failure> {
    let mut tenants: Vec<TenantId> = Vec::with_capacity(TENANTS);
    for number in 0..TENANTS {
        let new = NewTenant {
            slug: format!("tenant-{number}").parse()?,
            name: format!("Tenant {number}").parse()?,
            model: ServiceModel::Iaas,
        };
        tenants.push(store.create_tenant(by, None, new).await?.id);
    }
    // Each set is at home with eight tenants.
    let mut digests: Vec<SetDigest> = Vec::with_capacity(sets);
    for set in 0..sets {
        let all = PackageSet::new(cloud.system(), VersionChoice::default());
        for home in 0..8 {
            let tenant = tenants[(set * 8 + home) % TENANTS];
            store.add_package_set(by, tenant, all.clone()).await?;
        }
        digests.push(all.digest());
    }
    let pool = sqlx::SqlitePool::connect(&format!("sqlite://{}", path.display())).await?;
    let now = Timestamp::now();
    let population = cloud.population(systems, sets);
    let mut numbered = population.into_iter().enumerate().peekable();
    while numbered.peek().is_some() {
        let (mut cis, mut observed) = (String::new(), String::new());
        for (number, (tenant, set)) in numbered.by_ref().take(ROWS) {
            let mut random = [0; 10];
            random[2..].copy_from_slice(&(number as u64).to_be_bytes());
            let (ci, owner) = (CiId::new(now, random), tenants[(set * 8 + tenant % 8) % TENANTS]);
            let at = now.as_microsecond();
            let comma = if cis.is_empty() { "" } else { "," };
            write!(cis, "{comma}('{ci}','{owner}','vm','vm-{number}',{at},1)")?;
            let digest = digests[set];
            write!(observed, "{comma}('{ci}','{owner}','{digest}',{at},{at},0)")?;
        }
        let mut tx = pool.begin().await?;
        for statement in [
            format!("INSERT INTO cis (id,tenant_id,class,name,created_at,version) VALUES {cis}"),
            format!(
                "INSERT INTO systems (ci_id,tenant_id,digest,observed_at,seen_at,pending) \
                 VALUES {observed}"
            ),
        ] {
            sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&mut *tx).await?;
        }
        tx.commit().await?;
    }
    Ok(())
}

/// An advisory as the record that somebody brings.
fn osv(advisory: &Advisory) -> Value {
    let affected: Vec<_> = advisory
        .affected
        .iter()
        .map(|affected| {
            let events: Vec<_> = affected
                .ranges
                .iter()
                .flat_map(|range| {
                    let end = match &range.end {
                        RangeEnd::Fixed(version) => Some(json!({ "fixed": version })),
                        _ => None,
                    };
                    [Some(json!({ "introduced": "0" })), end].into_iter().flatten()
                })
                .collect();
            json!({
                "package": { "ecosystem": affected.ecosystem, "name": affected.package },
                "ranges": [{ "type": "ECOSYSTEM", "events": events }],
            })
        })
        .collect();
    let id = format!("{}-{}", advisory.id, std::process::id());
    json!({ "id": id, "modified": "2026-01-01T00:00:00Z", "affected": affected })
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or_default() >> 10
}

/// Judges by what people brought alone.
struct ByAdvisories;

impl Judge for ByAdvisories {
    fn judge(&self, cases: &[Case], at: Timestamp) -> Vec<Report> {
        let policy = Policy::builtin("default").expect("built in");
        let judge = |case: &Case| {
            let (advisories, index) = (&*case.advisories, Index::new(&case.advisories));
            domain::check::check(&Question {
                target: "",
                at,
                inventory: case.set.inventory(),
                sources: &[],
                gaps: &[],
                archive: None,
                advisories: Some(AdvisoryKnowledge { advisories, index: &index }),
                exploited: None,
                policy,
                asset: &AssetFacts::default(),
                scope: Scope::Everything,
            })
        };
        cases.iter().map(judge).collect()
    }
}
