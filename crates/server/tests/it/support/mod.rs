//! A control plane in memory of this process, and somebody who asks it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests, of which each file uses its part"
)]

pub(crate) mod authenticator;
pub(crate) mod case;
pub(crate) mod laboratory;
pub(crate) mod mailbox;
#[path = "../../../../store/tests/it/support/memory.rs"]
mod memory;
pub(crate) mod receiver;
pub(crate) mod shelf;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use domain::change::{Action, ExactPackage, FileHash, Rollback};
use domain::check::{
    AdvisoryKnowledge, ExploitedCatalogue, Question, Report, Scope, SourceKind, SourceReport,
    SourceState,
};
use domain::cloud::{Access, CiId, PROVIDER, Role, ServiceModel, TenantId};
use domain::fleet::{PackageSet, VersionChoice};
use domain::inventory::{
    InstalledPackage, Inventory, OsRelease, PackageFamily, PackageState, SourcePackage,
};
use domain::matching::Index;
use domain::priority::{AssetFacts, Policy};
use domain::release::Content;
use serde_json::Value;
use server::{
    Agents, App, Case, Fleet, Judge, Lab, LabSettings, NoticeSettings, Notices, Recorder, Releases,
};
use store::{Actor, Database, Environment, MasterKey, NewTenant, NewToken, Store, System};
use tower::ServiceExt as _;

use laboratory::Fake;
use shelf::Shelf;

pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// An Ed25519 public key in PEM.
pub(crate) const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=\n\
    -----END PUBLIC KEY-----\n";

pub(crate) struct World {
    pub(crate) app: App,
    pub(crate) store: Store,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) fleet: Arc<Fleet>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) lab: Arc<Lab>,
    pub(crate) laboratory: Arc<Fake>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) router: Router,
    pub(crate) admin: Actor,
    pub(crate) master: Arc<MasterKey>,
    pub(crate) directory: tempfile::TempDir,
}

/// The system's clock, which can be put forward.
#[derive(Default)]
pub(crate) struct Clock(AtomicI64);

impl Clock {
    pub(crate) fn pass(&self, time: jiff::SignedDuration) {
        self.0.fetch_add(i64::try_from(time.as_micros()).unwrap(), Ordering::SeqCst);
    }
}

impl Environment for Clock {
    fn now(&self) -> jiff::Timestamp {
        System.now() + jiff::SignedDuration::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn fill(&self, bytes: &mut [u8]) {
        System.fill(bytes);
    }
}

/// A form's fields, as a browser sends them.
pub(crate) fn form(fields: &[(&str, &str)]) -> String {
    let field = |text: &str| {
        text.bytes().fold(String::new(), |sent, byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => sent + &char::from(byte).to_string(),
            byte => sent + &format!("%{byte:02X}"),
        })
    };
    let sent: Vec<_> = fields.iter().map(|(name, it)| format!("{name}={}", field(it))).collect();
    sent.join("&")
}

/// What is exploited, for judges.
pub(crate) const EXPLOITED: &str = "CVE-2026-6666";

/// Judges by what people brought alone. Where that speaks of CVEs, it asks which are exploited.
struct ByAdvisories;

impl Judge for ByAdvisories {
    fn judge(&self, cases: &[Case], at: jiff::Timestamp) -> Vec<Report> {
        let judge = |case: &Case| {
            let (advisories, index) = (&*case.advisories, Index::new(&case.advisories));
            let exploited = BTreeSet::from([EXPLOITED.to_owned()]);
            let asks = advisories.iter().any(|it| !it.cves.is_empty());
            let catalogue = ExploitedCatalogue { name: "test", cves: &exploited };
            let source = SourceReport {
                kind: SourceKind::Kev,
                uri: "test".into(),
                suite: None,
                components: Vec::new(),
                state: SourceState::Unsigned,
                origin: None,
                label: None,
                codename: None,
                version: None,
                signed_by: Vec::new(),
                date: None,
                valid_until: None,
                sha256: None,
                records: None,
            };
            domain::check::check(&Question {
                target: "",
                at,
                inventory: case.set.inventory(),
                sources: if asks { std::slice::from_ref(&source) } else { &[] },
                gaps: &[],
                archive: None,
                advisories: Some(AdvisoryKnowledge { advisories, index: &index }),
                exploited: asks.then_some(catalogue),
                policy: Policy::builtin("default").unwrap(),
                asset: &AssetFacts::default(),
                scope: Scope::Everything,
            })
        };
        cases.iter().map(judge).collect()
    }

    /// Version 2 of whatever is lacking.
    fn contents(&self, wants: &[server::Want], _: jiff::Timestamp) -> Vec<Result<Content, String>> {
        let exact = |name: &String, version: &str| ExactPackage {
            name: name.clone(),
            architecture: "amd64".into(),
            version: version.into(),
            sha256: FileHash::from([1; 32]),
        };
        let content = |want: &server::Want| Content {
            actions: vec![Action::Upgrade {
                packages: want.sources.iter().map(|it| exact(it, "2")).collect(),
            }],
            rollback: Rollback::Packages {
                packages: want.sources.iter().map(|it| exact(it, "1")).collect(),
            },
        };
        wants.iter().map(|want| Ok(content(want))).collect()
    }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(false, server::Providers::none()).await
    }

    /// One in which the provider's people must prove more than a password.
    pub(crate) async fn strict() -> Self {
        Self::with(true, server::Providers::none()).await
    }

    /// One in which people may sign in elsewhere as well.
    pub(crate) async fn with(requires_mfa: bool, providers: server::Providers) -> Self {
        Self::build(requires_mfa, providers, true, NoticeSettings::default()).await
    }

    /// One whose control plane has no lab.
    pub(crate) async fn without_lab() -> Self {
        Self::build(false, server::Providers::none(), false, NoticeSettings::default()).await
    }

    /// One that tells tenants beside the console.
    pub(crate) async fn telling(told: NoticeSettings) -> Self {
        Self::build(false, server::Providers::none(), true, told).await
    }

    async fn build(
        requires_mfa: bool,
        providers: server::Providers,
        has_lab: bool,
        told: NoticeSettings,
    ) -> Self {
        let directory = memory::directory();
        let database = Database::file(&directory.path().join("patchwright.db"));
        let clock = Arc::new(Clock::default());
        let store = Store::open(&database, clock.clone()).await.unwrap();
        let master = MasterKey::open(&directory.path().join("master.key"), &System).unwrap();
        let master = Arc::new(master);
        let recorder =
            Recorder::open(store.clone(), &master, directory.path().join("ledger")).await.unwrap();
        let recorder = Arc::new(recorder);
        let fleet = Arc::new(Fleet::new(store.clone(), Arc::new(ByAdvisories)));
        let objects = store::ObjectDirectory::open(directory.path().join("history")).unwrap();
        let history = store.history(Arc::clone(&master), Arc::new(objects));
        let (of_agents, url) = (history.clone(), "http://localhost");
        let agents = Agents::open(store.clone(), &master, Arc::clone(&fleet), of_agents, url);
        let agents = agents.await.unwrap();
        let agents = Arc::new(agents);
        let laboratory = Arc::new(Fake::new(&directory.path().join("made")));
        let of_lab: Option<Arc<dyn server::Laboratory>> =
            if has_lab { Some(laboratory.clone()) } else { None };
        let settings = LabSettings {
            largest_image: 4 << 20,
            most_of_tenant: 12 << 20,
            ..LabSettings::default()
        };
        let lab = Lab::open(store.clone(), directory.path(), of_lab, settings).await.unwrap();
        let lab = Arc::new(lab);
        let vault = store::Vault::new(&store.key(&master, "factors").await.unwrap());
        let url = "http://localhost".to_owned();
        let notices = Notices::open(store.clone(), history.clone(), vault.clone(), &url, told);
        let notices = Arc::new(notices.unwrap());
        let telling = Arc::clone(&notices);
        let releases = Releases::open(store.clone(), history.clone(), &master).await.unwrap();
        let verifier = releases.key();
        let shelf = Arc::new(Shelf::default());
        let app = App::new(
            store.clone(),
            Arc::clone(&recorder),
            Arc::clone(&fleet),
            Arc::clone(&agents),
            Arc::clone(&lab),
            server::Settings {
                vault,
                url,
                requires_mfa,
                providers,
                witnesses: None,
                notices: telling,
                two_persons_above: 1,
                verifier,
                history,
                // Where servers of these tests are.
                reach: reach::Reach::also(vec!["127.0.0.0/8".parse().unwrap()]),
                image_stores: shelf.clone(),
            },
        )
        .unwrap();
        let first = app
            .person(
                PROVIDER,
                "root".parse().unwrap(),
                "Root".parse().unwrap(),
                Role::Admin,
                PASSWORD,
            )
            .unwrap();
        store.found("Cloud AG".parse().unwrap(), first).await.unwrap();
        let (root, _) = store.user_by_login(&"root".parse().unwrap()).await.unwrap().unwrap();
        let admin = Actor::Person { user: root.id, tenant: root.tenant, role: root.role };
        let router = app.router();
        Self {
            app,
            store,
            recorder,
            fleet,
            agents,
            lab,
            laboratory,
            notices,
            shelf,
            clock,
            router,
            admin,
            master,
            directory,
        }
    }

    /// An agent that joined for an item.
    pub(crate) async fn agent(&self, ci: CiId, tenant: TenantId) -> store::Agent {
        let lifetime = jiff::SignedDuration::from_hours(1);
        let class = domain::cloud::Class::Vm;
        let labels = store::Labels::new();
        let new = store::NewJoinToken { tenant, ci: Some(ci), class, labels, uses: 1, lifetime };
        let (_, token) = self.store.create_join_token(&self.admin, new).await.unwrap();
        let key = store::KeyHash::from([9; 32]);
        // Longer than tests let pass.
        let expires_at = jiff::Timestamp::now() + 100 * 24 * lifetime;
        let joining = store::Joining { token, name: "x".parse().unwrap(), key, expires_at };
        self.store.join(joining).await.unwrap().0
    }

    /// The content history, as agents record into it.
    pub(crate) fn history(&self) -> store::History {
        let objects = store::ObjectDirectory::open(self.directory.path().join("history")).unwrap();
        self.store.history(Arc::clone(&self.master), Arc::new(objects))
    }

    /// Tells what a file of an item is, altered by somebody who had logged in; it is judged.
    pub(crate) async fn alter(&self, ci: CiId, path: &str, content: &str, login: &str) {
        self.alter_by(ci, path, content, login, &format!("{login} by /usr/bin/vi")).await;
        self.clock.pass(jiff::SignedDuration::from_secs(10));
    }

    /// The same in the words of the host, and at once.
    pub(crate) async fn alter_by(
        &self,
        ci: CiId,
        path: &str,
        content: &str,
        login: &str,
        by: &str,
    ) {
        let metadata =
            store::Metadata { mode: 0o100_644, owner: "root:root".to_owned(), label: Vec::new() };
        let file = store::NewFile {
            path: store::FilePath::new(path).unwrap(),
            state: store::NewState::Present { content: content.as_bytes().to_vec(), metadata },
            observed_at: store::Environment::now(&*self.clock),
            source: "agent".to_owned(),
            by: Some(store::Attribution { actor: by.to_owned(), confidence: 80 }),
            change: None,
        };
        let who = domain::configuration::verdict::Actor::Person { login: login.to_owned() };
        let trace = domain::agent::Trace { who, changed_at: None, shipped: None };
        let telling = store::Telling {
            looked_before: None,
            evidence: domain::configuration::verdict::Evidence::Complete,
            traces: [(path.to_owned(), trace)].into(),
        };
        let history = self.history();
        history.record_told(&Actor::System, ci, vec![file], telling).await.unwrap();
        assert_eq!(history.judge(10).await.unwrap(), 1);
    }

    /// Tells that an item is a Debian 12 system with these source packages.
    pub(crate) async fn observe(&self, ci: CiId, tenant: TenantId, packages: &[(&str, &str)]) {
        let (by, now) = (Actor::System, jiff::Timestamp::now());
        let set = package_set(packages);
        let digest = self.store.add_package_set(&by, tenant, set).await.unwrap();
        assert!(self.store.observe(&by, ci, digest, now).await.unwrap());
    }

    /// Checks until there is nothing left to check.
    pub(crate) async fn check_fleet(&self) {
        while self.fleet.step().await.unwrap() {}
    }

    /// Opens what has no change or no obligation yet; says how many there were.
    pub(crate) async fn open_obligations(&self, at_most: u16) -> u64 {
        let (opened, failed) =
            self.store.open_obligations(at_most, &BTreeSet::new()).await.unwrap();
        assert!(failed.is_empty(), "{failed:?}");
        opened
    }

    pub(crate) async fn tenant(&self, slug: &str) -> TenantId {
        let new = NewTenant {
            slug: slug.parse().unwrap(),
            name: slug.parse().unwrap(),
            model: ServiceModel::Iaas,
        };
        self.store.create_tenant(&self.admin, None, new).await.unwrap().id
    }

    /// A person of a tenant with a role, and a token that acts for it.
    pub(crate) async fn token(&self, tenant: TenantId, role: Role, access: Access) -> String {
        let login = format!("{role}-{access}-{}", tenant.to_string().split_off(20));
        let new = store::NewUser {
            tenant,
            login: login.parse().unwrap(),
            name: login.parse().unwrap(),
            role,
            password: None,
        };
        let user = self.store.create_user(&Actor::System, None, new).await.unwrap();
        let by = Actor::Person { user: user.id, tenant, role };
        let name = "test".parse().unwrap();
        let lifetime = jiff::SignedDuration::from_hours(1);
        let (_, secret) = self
            .store
            .create_token(&by, NewToken { name, access, lifetime, is_strong: false })
            .await
            .unwrap();
        secret.reveal().to_owned()
    }

    /// A token of now that acts for a person: others end while time passes.
    pub(crate) async fn token_of(&self, by: &Actor, access: Access) -> String {
        let (name, lifetime) = ("now".parse().unwrap(), jiff::SignedDuration::from_hours(1));
        let new = NewToken { name, access, lifetime, is_strong: false };
        self.store.create_token(by, new).await.unwrap().1.reveal().to_owned()
    }

    /// A form, as a program sends it with a token: no browser of another site could.
    pub(crate) async fn submit(&self, token: &str, path: &str, form: &str) -> Answer {
        let request = Request::post(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Body::from(form.to_owned()));
        self.send(request.unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, 8 << 20).await.unwrap();
        Answer {
            status: parts.status,
            headers: parts.headers,
            text: String::from_utf8(bytes.to_vec()).unwrap(),
        }
    }

    /// A lab of another process, which works until it is dropped.
    pub(crate) async fn working(&self, settings: LabSettings) -> Working {
        let (store, laboratory) = (self.store.clone(), self.laboratory.clone());
        let lab = Lab::open(store, self.directory.path(), Some(laboratory), settings);
        let lab = Arc::new(lab.await.unwrap());
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let run = tokio::spawn(Arc::clone(&lab).run(async {
            // A dropped sender ends it as well.
            let _ = ended.await;
        }));
        Working { lab, run, end: Some(end) }
    }

    /// As if all bytes that are here had been for an hour.
    pub(crate) fn let_bytes_age(&self) {
        for hash in self.image_files() {
            let shard = self.directory.path().join("images/sha256").join(&hash[..2]);
            let file = std::fs::File::open(shard.join(hash)).unwrap();
            let hour = std::time::Duration::from_secs(3600);
            file.set_modified(std::time::SystemTime::now() - hour).unwrap();
        }
    }

    /// The files of images that are here, whole or not.
    pub(crate) fn image_files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![self.directory.path().join("images/sha256")];
        while let Some(directory) = directories.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    directories.push(entry.path());
                } else {
                    files.push(entry.file_name().into_string().unwrap());
                }
            }
        }
        files.sort();
        files
    }

    /// Brings an image for a tenant.
    pub(crate) async fn upload(&self, token: &str, tenant: TenantId, bytes: &str) -> Answer {
        let request = Request::builder()
            .method("POST")
            .uri(format!("/api/v1/images/content?tenant={tenant}"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/octet-stream")
            .body(Body::from(bytes.to_owned()));
        self.send(request.unwrap()).await
    }

    /// A version of a tenant's series, with these lines of packages in it.
    pub(crate) async fn image(&self, token: &str, tenant: TenantId, packages: &str) -> Value {
        let bytes = format!("{}{packages}", laboratory::MAGIC);
        let content = self.upload(token, tenant, &bytes).await;
        assert_eq!(content.status, 201, "{}", content.text);
        let sha256 = &content.json()["sha256"];
        let body = serde_json::json!({ "tenant": tenant, "name": "web", "sha256": sha256 });
        let image = self.ask(token, "POST", "/api/v1/images", Some(body)).await;
        assert_eq!(image.status, 201, "{}", image.text);
        image.json()
    }

    /// Asks the lab for something.
    pub(crate) async fn queue(
        &self,
        token: &str,
        image: &Value,
        kind: &str,
        request: Value,
    ) -> Value {
        let path = format!("/api/v1/images/{}/jobs", image["id"].as_str().unwrap());
        let body = serde_json::json!({ "kind": kind, "request": request });
        let job = self.ask(token, "POST", &path, Some(body)).await;
        assert_eq!(job.status, 201, "{}", job.text);
        job.json()
    }

    /// A job as it is now.
    pub(crate) async fn job(&self, token: &str, job: &Value) -> Value {
        let path = format!("/api/v1/jobs/{}", job["id"].as_str().unwrap());
        self.ask(token, "GET", &path, None).await.json()
    }

    /// Waits until a job is in a state.
    pub(crate) async fn until(&self, token: &str, job: &Value, state: &str) -> Value {
        for _ in 0..600 {
            let now = self.job(token, job).await;
            if now["state"] == state {
                return now;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("it is not {state}: {}", self.job(token, job).await);
    }

    /// Asks with a token, JSON where there is a body.
    pub(crate) async fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        self.ask_with(token, method, path, body, &[]).await
    }

    pub(crate) async fn ask_with(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(json) => {
                request = request.header("content-type", "application/json");
                Body::from(json.to_string())
            }
            None => Body::empty(),
        };
        self.send(request.body(body).unwrap()).await
    }
}

/// A lab that works.
pub(crate) struct Working {
    pub(crate) lab: Arc<Lab>,
    run: tokio::task::JoinHandle<()>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Working {
    /// Ends it as an orderly process does.
    pub(crate) async fn end(mut self) {
        drop(self.end.take());
        (&mut self.run).await.unwrap();
    }
}

impl Drop for Working {
    /// As a killed process: nothing of what it holds is given back.
    fn drop(&mut self) {
        self.run.abort();
    }
}

/// A Debian 12 system with these source packages, each with one binary of its name.
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

/// An OSV record: a Debian 12 source package before a version is affected.
pub(crate) fn osv(id: &str, package: &str, fixed: &str) -> Value {
    serde_json::json!({
        "schema_version": "1.7.0", "id": id, "modified": "2026-01-02T03:04:05Z",
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": package },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": fixed }] }],
        }],
    })
}
