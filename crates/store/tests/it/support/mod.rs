//! Worlds on both engines.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests, of which each file uses its part"
)]

pub(crate) mod drift;
pub(crate) mod history;
mod memory;
mod postgres;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use domain::change::KeyId;
use domain::check::Report;
use domain::fleet::{PackageSet, VersionChoice};
use domain::inventory::{
    InstalledPackage, Inventory, OsRelease, PackageFamily, PackageState, SourcePackage,
};
use jiff::Timestamp;
use postgres::Postgres;
use store::{
    Actor, Ci, Database, Environment, Labels, NewCi, NewTenant, NewUser, Store, Tenant, User,
    Verifier,
};
use tokio::sync::OnceCell;

/// A clock that moves a millisecond each time somebody looks, and numbers that only look random.
pub(crate) struct Simulated {
    micros: AtomicI64,
    random: AtomicU64,
}

impl Simulated {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { micros: AtomicI64::new(1_800_000_000_000_000), random: AtomicU64::new(1) })
    }

    pub(crate) fn pass(&self, time: jiff::SignedDuration) {
        let micros = i64::try_from(time.as_micros()).unwrap();
        self.micros.fetch_add(micros, Ordering::SeqCst);
    }
}

impl Environment for Simulated {
    fn now(&self) -> Timestamp {
        Timestamp::from_microsecond(self.micros.fetch_add(1000, Ordering::SeqCst)).unwrap()
    }

    fn fill(&self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            // SplitMix64.
            let mut z = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::SeqCst);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
    }
}

/// Signs in a way that only looks like it.
pub(crate) struct Pencil;

impl Verifier for Pencil {
    fn key(&self) -> KeyId {
        KeyId::from([8; 32])
    }

    fn sign(&self, statement: &[u8]) -> Result<String, String> {
        Ok(serde_json::json!({ "signed": statement.len() }).to_string())
    }
}

/// A fresh database on one engine, with its provider and that one's first person.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) database: Database,
    address: String,
    pub(crate) environment: Arc<Simulated>,
    pub(crate) admin: Actor,
    pub(crate) verifier: Arc<dyn Verifier>,
    /// Where the database lies, if it is a file.
    pub(crate) file: Option<std::path::PathBuf>,
    keys: tempfile::TempDir,
    _directory: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let directory = memory::directory();
        let file = directory.path().join("odd name? 100%.db");
        std::fs::write(&file, migrated_file().await).unwrap();
        let mut world =
            Self::of(Database::file(&file), sqlite_address(&file), Some(directory)).await;
        world.file = Some(file);
        world
    }

    /// Goes on with another file, with the same clock.
    pub(crate) async fn move_to(&mut self, file: &std::path::Path) {
        self.database = Database::file(file);
        self.address = sqlite_address(file);
        self.store = Store::open(&self.database, self.environment.clone()).await.unwrap();
        self.file = Some(file.to_owned());
    }

    pub(crate) async fn postgres() -> Self {
        Self::postgres_at().await.0
    }

    /// With its address, for whoever wants to stand in the way.
    pub(crate) async fn postgres_at() -> (Self, String) {
        let address = Postgres::shared().database_like(migrated_database().await);
        (Self::of(address.parse().unwrap(), address.clone(), None).await, address)
    }

    /// In an SQLite file whose place the caller knows.
    pub(crate) async fn at(file: &std::path::Path) -> Self {
        Self::of(Database::file(file), sqlite_address(file), None).await
    }

    /// The content history, where nothing else has one.
    pub(crate) fn history(&self) -> store::History {
        let place = self.keys.path();
        let objects = store::ObjectDirectory::open(place).unwrap();
        let master = store::MasterKey::open(&place.join("master.key"), &store::System).unwrap();
        self.store.history(Arc::new(master), Arc::new(objects))
    }

    /// The database, past the store.
    pub(crate) async fn raw(&self) -> sqlx::AnyPool {
        sqlx::AnyPool::connect(&self.address).await.unwrap()
    }

    async fn of(database: Database, address: String, directory: Option<tempfile::TempDir>) -> Self {
        let environment = Simulated::new();
        let store = Store::open(&database, environment.clone()).await.unwrap();
        let first = person(domain::cloud::PROVIDER, "root", domain::cloud::Role::Admin);
        assert!(store.found("Cloud AG".parse().unwrap(), first).await.unwrap());
        let (root, _) = store.user_by_login(&"root".parse().unwrap()).await.unwrap().unwrap();
        let admin = actor(&root);
        let verifier = Arc::new(Pencil);
        let file = None;
        let keys = memory::directory();
        Self {
            store,
            database,
            address,
            environment,
            admin,
            verifier,
            file,
            keys,
            _directory: directory,
        }
    }

    /// Tells that an item has a package set.
    pub(crate) async fn observe(&self, ci: &Ci, set: PackageSet) {
        let (by, now) = (Actor::System, self.environment.now());
        let digest = self.store.add_package_set(&by, ci.tenant, set).await.unwrap();
        assert!(self.store.observe(&by, ci.id, digest, now).await.unwrap());
    }

    /// Tells what a check of the package set of an item found, and carries it over.
    pub(crate) async fn checked(&self, ci: &Ci, report: Report) {
        let systems = self.store.systems(None, 1000).await.unwrap();
        let system = systems.iter().find(|system| system.ci == ci.id).unwrap();
        self.store.record_set_check(ci.tenant, system.digest, report).await.unwrap();
        while self.store.apply_checks(100).await.unwrap() > 0 {}
    }

    /// Opens what has no change or no obligation yet; says how many there were.
    pub(crate) async fn open_obligations(&self, at_most: u16) -> u64 {
        let (opened, failed) =
            self.store.open_obligations(at_most, &BTreeSet::new()).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        opened
    }

    pub(crate) async fn tenant(&self, slug: &str) -> Tenant {
        let new = NewTenant {
            slug: slug.parse().unwrap(),
            name: slug.parse().unwrap(),
            model: domain::cloud::ServiceModel::Iaas,
        };
        self.store.create_tenant(&self.admin, None, new).await.unwrap()
    }

    /// The owner of a tenant.
    pub(crate) async fn owner(&self, tenant: &Tenant) -> Actor {
        let login = format!("owner-of-{}", tenant.slug);
        let new = person(tenant.id, &login, domain::cloud::Role::TenantOwner);
        actor(&self.store.create_user(&self.admin, None, new).await.unwrap())
    }
}

/// An SQLite file with the schema and nothing else. Worlds begin with a copy of it: to migrate each anew takes longer
/// than most tests.
async fn migrated_file() -> &'static [u8] {
    static FILE: OnceCell<Vec<u8>> = OnceCell::const_new();
    FILE.get_or_init(async || {
        let place = memory::directory();
        let file = place.path().join("migrated.db");
        migrated(&Database::file(&file)).await;
        std::fs::read(&file).unwrap()
    })
    .await
}

/// The same in PostgreSQL: the database's name.
async fn migrated_database() -> &'static str {
    static NAME: OnceCell<String> = OnceCell::const_new();
    NAME.get_or_init(async || {
        let address = Postgres::shared().database();
        migrated(&address.parse().unwrap()).await;
        address.rsplit_once('/').unwrap().1.to_owned()
    })
    .await
}

/// Brings an empty database to the schema.
async fn migrated(database: &Database) {
    Store::open(database, Simulated::new()).await.unwrap().close().await;
}

fn sqlite_address(file: &std::path::Path) -> String {
    let file = file.to_string_lossy().replace('%', "%25").replace('?', "%3F");
    format!("sqlite://{file}")
}

pub(crate) fn person(
    tenant: domain::cloud::TenantId,
    login: &str,
    role: domain::cloud::Role,
) -> NewUser {
    NewUser {
        tenant,
        login: login.parse().unwrap(),
        name: login.parse().unwrap(),
        role,
        password: None,
    }
}

pub(crate) fn vm(tenant: domain::cloud::TenantId, name: &str) -> NewCi {
    let class = domain::cloud::Class::Vm;
    NewCi { tenant, class, name: name.parse().unwrap(), labels: Labels::new() }
}

pub(crate) fn actor(user: &User) -> Actor {
    Actor::Person { user: user.id, tenant: user.tenant, role: user.role }
}

/// Makes a test of an async function over a world, once for each engine.
macro_rules! on_both_engines {
    ($($name:ident)+) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_sqlite() {
                super::$name($crate::support::World::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn on_postgres() {
                super::$name($crate::support::World::postgres().await).await;
            }
        }
    )+};
}

/// A Debian system with these source packages, each with one binary of its name.
pub(crate) fn package_set(packages: &[(&str, &str)]) -> PackageSet {
    let packages = packages.iter().map(|&(name, version)| InstalledPackage {
        name: name.into(),
        architecture: "amd64".into(),
        version: version.into(),
        source: SourcePackage { name: name.into(), version: version.into() },
        state: PackageState::Installed,
        held: false,
    });
    let os = OsRelease {
        id: "debian".into(),
        version_id: Some("12".into()),
        codename: Some("bookworm".into()),
        ..OsRelease::default()
    };
    let inventory = Inventory {
        os,
        family: PackageFamily::Dpkg,
        architecture: "amd64".into(),
        foreign_architectures: Vec::new(),
        packages: packages.collect(),
        installed_kernels: Vec::new(),
        runtime: None,
        problems: Vec::new(),
    };
    PackageSet::new(inventory, VersionChoice::default())
}
