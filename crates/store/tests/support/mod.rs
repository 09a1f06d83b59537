//! Worlds on both engines.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests, of which each file uses its part"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use domain::check::Report;
use domain::fleet::{PackageSet, VersionChoice};
use domain::inventory::{
    InstalledPackage, Inventory, OsRelease, PackageFamily, PackageState, SourcePackage,
};
use jiff::Timestamp;
use store::{
    Actor, Ci, Database, Environment, Labels, NewCi, NewTenant, NewUser, Store, Tenant, User,
};

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

/// A fresh database on one engine, with its provider and that one's first person.
pub(crate) struct World {
    pub(crate) store: Store,
    pub(crate) database: Database,
    pub(crate) environment: Arc<Simulated>,
    pub(crate) admin: Actor,
    _directory: Option<tempfile::TempDir>,
}

impl World {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::file(&directory.path().join("odd name? 100%.db"));
        Self::of(database, Some(directory)).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::of(Postgres::shared().database(), None).await
    }

    async fn of(database: Database, directory: Option<tempfile::TempDir>) -> Self {
        let environment = Simulated::new();
        let store = Store::open(&database, environment.clone()).await.unwrap();
        let first = person(domain::cloud::PROVIDER, "root", domain::cloud::Role::Admin);
        assert!(store.found("Cloud AG".parse().unwrap(), first).await.unwrap());
        let (root, _) = store.user_by_login(&"root".parse().unwrap()).await.unwrap().unwrap();
        let admin = actor(&root);
        Self { store, database, environment, admin, _directory: directory }
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
#[macro_export]
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

/// How the directories of temporary servers are called, before the number of their process.
const PREFIX: &str = "patchwright-pg-";

/// A temporary PostgreSQL on a Unix socket, for the life of the test process.
pub(crate) struct Postgres {
    directory: PathBuf,
    databases: AtomicU64,
}

impl Postgres {
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// An empty database of its own.
    pub(crate) fn database(&self) -> Database {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql(&format!("CREATE DATABASE {name}"));
        let host = self.directory.to_string_lossy().replace('/', "%2F");
        format!("postgres://patchwright@{host}/{name}").parse().unwrap()
    }

    fn sql(&self, statement: &str) {
        let status = Command::new(binaries().join("psql"))
            .args(["-q", "-U", "patchwright", "-d", "postgres", "-h"])
            .arg(&self.directory)
            .args(["-c", statement])
            .status()
            .unwrap();
        assert!(status.success(), "{statement}");
    }

    fn start() -> Self {
        remove_leftovers();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap().keep();
        let data = directory.join("data");
        if is_root() {
            assert!(
                Command::new("chown").arg("postgres:").arg(&directory).status().unwrap().success()
            );
        }
        let made = server("initdb")
            .args(["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
            .args(["-U", "patchwright", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        let (started, starting) = mpsc::channel();
        let (socket, data) = (directory.clone(), data.clone());
        // The server ends with the thread that started it: this one stays for good.
        thread::spawn(move || {
            let mut server = server("postgres")
                .arg("-D")
                .arg(&data)
                .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
                .arg("-k")
                .arg(&socket)
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            started.send(()).unwrap();
            server.wait().unwrap();
        });
        starting.recv().unwrap();
        let ready = (0..600).any(|_| {
            thread::sleep(Duration::from_millis(50));
            Command::new(binaries().join("pg_isready"))
                .args(["-q", "-h"])
                .arg(&directory)
                .status()
                .is_ok_and(|status| status.success())
        });
        assert!(ready, "PostgreSQL did not start in 30 s");
        Self { directory, databases: AtomicU64::new(0) }
    }
}

/// A test process ends without a last word, so the next one clears up after it.
fn remove_leftovers() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let process = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
        if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
            // Another process may do the same at this moment.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A program of the server, which refuses to be run by root and ends with us.
fn server(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--init-groups"]);
    }
    command.args(["--pdeathsig", "QUIT"]).arg(binaries().join(program));
    command.current_dir("/");
    command
}

fn is_root() -> bool {
    // Only root can read the shadow file.
    std::fs::File::open("/etc/shadow").is_ok()
}

/// The newest server's programs, which distributions keep out of PATH.
fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .max()
        .expect(
            "PostgreSQL is installed: `cargo xtask test` sees to it, or apt install postgresql",
        );
    Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin")
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
