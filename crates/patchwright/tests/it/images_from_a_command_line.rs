//! Images and jobs from a command line, against a control plane with a laboratory of the test's own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use domain::check::Report;
use domain::cloud::{Access, PROVIDER, Role};
use domain::fleet::{PackageSet, VersionChoice};
use domain::inventory::{Inventory, OsRelease, PackageFamily};
use serde_json::{Value, json};
use server::{
    Agents, App, Case, Fleet, ImageFacts, JobWatch, Judge, Lab, LabFailure, LabOutcome, LabRefusal,
    LabSettings, Laboratory, NoticeSettings, Notices, Order, Providers, Recorder, Settings,
};
use store::{Actor, Database, MasterKey, NewToken, Store, System, Vault};

/// Finds whatever is there in order.
struct Content;

impl Judge for Content {
    fn judge(&self, cases: &[Case], at: jiff::Timestamp) -> Vec<Report> {
        let report = |case: &Case| {
            let os = &case.set.inventory().os;
            let report = json!({
                "schema": "patchwright.check/1", "target": "", "checked_at": at, "os": os,
                "architecture": "amd64", "packages": 0, "sources": [],
                "policy": { "name": "default", "version": "1" }, "status": "latest",
                "findings": [], "unfixed": [], "unknown": [],
            });
            serde_json::from_value(report).unwrap()
        };
        cases.iter().map(report).collect()
    }
}

/// Passes whatever does not ask for the contrary.
struct Bench;

impl Laboratory for Bench {
    fn inspect(&self, image: &Path) -> Result<ImageFacts, LabRefusal> {
        if !fs::read(image).unwrap().starts_with(b"an image") {
            let reason = "there is no \u{1b}[2J partition table".to_owned();
            return Err(LabRefusal { reason, help: "send an image".to_owned() });
        }
        let inventory = Inventory {
            os: OsRelease { id: "debian".into(), ..OsRelease::default() },
            family: PackageFamily::Dpkg,
            architecture: "amd64".into(),
            foreign_architectures: Vec::new(),
            packages: Vec::new(),
            installed_kernels: Vec::new(),
            runtime: None,
            problems: Vec::new(),
        };
        Ok(ImageFacts {
            packages: PackageSet::new(inventory, VersionChoice::default()),
            release: "debian:12".to_owned(),
            architecture: "amd64".to_owned(),
            format: "raw".to_owned(),
        })
    }

    fn run(&self, order: &Order, watch: &dyn JobWatch) -> Result<LabOutcome, LabFailure> {
        watch.stage("booting");
        watch.log(b"it boots\nand drives \x1b[2J no terminal\n");
        std::thread::sleep(Duration::from_millis(700));
        let passed = order.request["reject"] != true;
        let result = json!({ "boot_seconds": 7 });
        Ok(LabOutcome { result, passed, attestations: Vec::new(), made: None })
    }
}

/// A control plane in this process, and a token for it.
struct World {
    url: String,
    token: String,
    directory: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (url, token) = runtime.block_on(serve(directory.path()));
        Self { url, token, directory, _runtime: runtime }
    }

    /// Status, standard output and standard error of a command.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(arguments)
            .env_clear()
            .env("HOME", self.directory.path())
            .env("PATCHWRIGHT_URL", &self.url)
            .env("PATCHWRIGHT_TOKEN", &self.token)
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn ok(&self, arguments: &[&str]) -> String {
        let (code, out, err) = self.run(arguments);
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
        out
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ok(arguments)).unwrap()
    }

    fn file(&self, name: &str, bytes: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    /// Asks for a job as a program does.
    fn queue(&self, image: &Value, request: &Value) -> String {
        let address = format!("{}/api/v1/images/{}/jobs", self.url, image["id"].as_str().unwrap());
        let body = json!({ "kind": "test", "request": request });
        let mut answer = ureq::post(address)
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .send(body.to_string())
            .unwrap();
        let job: Value =
            serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        job["id"].as_str().unwrap().to_owned()
    }
}

async fn serve(directory: &Path) -> (String, String) {
    let database = Database::file(&directory.join("patchwright.db"));
    let store = Store::open(&database, Arc::new(System)).await.unwrap();
    let master = Arc::new(MasterKey::open(&directory.join("master.key"), &System).unwrap());
    let recorder = Recorder::open(store.clone(), &master, directory.join("ledger")).await.unwrap();
    let recorder = Arc::new(recorder);
    let fleet = Arc::new(Fleet::new(store.clone(), Arc::new(Content)));
    let objects = Arc::new(store::ObjectDirectory::open(directory.join("history")).unwrap());
    let history = store.history(Arc::clone(&master), objects);
    let (of_agents, url) = (history.clone(), "http://localhost");
    let agents = Agents::open(store.clone(), &master, Arc::clone(&fleet), of_agents, url);
    let agents = agents.await.unwrap();
    let laboratory: Arc<dyn Laboratory> = Arc::new(Bench);
    let settings = LabSettings { largest_image: 8 << 20, ..LabSettings::default() };
    let lab = Lab::open(store.clone(), directory, Some(laboratory), settings).await.unwrap();
    let lab = Arc::new(lab);
    let vault = Vault::new(&store.key(&master, "factors").await.unwrap());
    let url = "http://localhost".to_owned();
    let told = NoticeSettings::default();
    let releases = server::Releases::open(store.clone(), history.clone(), &master).await.unwrap();
    let verifier = releases.key();
    let settings = Settings {
        notices: Arc::new(
            Notices::open(store.clone(), history.clone(), vault.clone(), &url, told).unwrap(),
        ),
        vault,
        url,
        requires_mfa: false,
        providers: Providers::none(),
        witnesses: None,
        two_persons_above: 20,
        verifier,
        history,
        reach: reach::Reach::public(),
        image_stores: Arc::new(server::NoImageStores),
    };
    let app = App::new(
        store.clone(),
        Arc::clone(&recorder),
        Arc::clone(&fleet),
        Arc::new(agents),
        Arc::clone(&lab),
        settings,
    )
    .unwrap();
    let name = || "root".parse().unwrap();
    let first =
        app.person(PROVIDER, name(), "Root".parse().unwrap(), Role::Admin, "a long password");
    store.found("Cloud".parse().unwrap(), first.unwrap()).await.unwrap();
    let (root, _) = store.user_by_login(&name()).await.unwrap().unwrap();
    let by = Actor::Person { user: root.id, tenant: PROVIDER, role: Role::Admin };
    let lifetime = jiff::SignedDuration::from_hours(1);
    let token = NewToken {
        name: "test".parse().unwrap(),
        access: Access::Write,
        lifetime,
        is_strong: false,
    };
    let (_, token) = store.create_token(&by, token).await.unwrap();
    tokio::spawn(lab.run(std::future::pending()));
    tokio::spawn(fleet.run(std::future::pending()));
    tokio::spawn(recorder.run(std::future::pending()));
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let here = "127.0.0.1:0".parse().unwrap();
    let tell = |address| ready.send(address).unwrap();
    tokio::spawn(server::serve(app, here, None, tell, std::future::pending()));
    (format!("http://{}", is_ready.await.unwrap()), token.reveal().to_owned())
}

#[test]
fn an_image_goes_from_a_file_to_new_vms() {
    let world = World::new();
    // More than a request otherwise may be.
    let image = world.file("web.raw", &format!("an image{}", "x".repeat(5 << 20)));

    let said = world.ok(&["image", "import", &image, "--name", "web"]);
    assert!(said.starts_with("web:1 taken up  img_"), "{said}");
    let image = world.json(&["get", "image", "web:1", "-o", "json"]);
    assert_eq!((&image["state"], &image["size"]), (&json!("candidate"), &json!((5 << 20) + 8)));

    // Nothing becomes current without a test, and nothing is admitted before.
    let (code, _, err) = world.run(&["image", "publish", "web:1"]);
    assert_eq!(code, 1);
    assert!(err.contains("scanned clean") && err.contains("help: test it"), "{err}");
    let (code, out, _) = world.run(&["image", "admit", "web:1"]);
    assert_eq!(code, 3);
    assert!(out.starts_with("web:1 is refused: this version was not published"), "{out}");

    let job = world.queue(&image, &json!({}));
    let (code, out, err) = world.run(&["image", "wait", &job]);
    assert_eq!((code, out), (0, format!("job/{job} passed\n")), "{err}");
    assert!(err.contains("it boots\nand drives  no terminal\n"), "{err}");
    assert!(err.ends_with("[it passed]\n"), "{err}");
    assert_eq!(world.ok(&["image", "publish", "web:1"]), "web:1 is current\n");
    for _ in 0..100 {
        if world.run(&["image", "admit", "web"]).0 == 0 {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(world.ok(&["image", "admit", "web"]), "web:1 is admitted\n");
    assert_eq!(world.json(&["image", "admit", "web", "--json"])["health"], "usable");

    let listed = world.ok(&["get", "images"]);
    assert!(listed.contains("web:1  current  "), "{listed}");
    let listed = world.ok(&["get", "jobs", "--image", "web:1"]);
    assert!(listed.contains("test  web:1  done"), "{listed}");
    let told = world.ok(&["describe", "image", "web:1"]);
    assert!(told.starts_with("image web:1\n") && told.contains("admitted: yes"), "{told}");
    assert!(told.contains(&job), "{told}");
    let told = world.ok(&["describe", "job", &job]);
    assert!(told.contains("boot seconds: 7") && told.contains("\n  it boots\n"), "{told}");
    assert!(told.contains("image:      web:1 ("), "{told}");
}

#[test]
fn what_goes_wrong_is_told_with_a_way_out() {
    let world = World::new();
    let hostile = world.file("hostile", "no image");
    let (code, _, err) = world.run(&["image", "import", &hostile, "--name", "web"]);
    assert_eq!(code, 1);
    assert!(err.contains("there is no \u{fffd}[2J partition table"), "{err}");
    assert!(err.contains("help: send an image"), "{err}");
    let large = world.file("large", &format!("an image{}", "x".repeat(9 << 20)));
    let (code, _, err) = world.run(&["image", "import", &large, "--name", "web"]);
    assert_eq!(code, 1);
    assert!(err.contains("larger than 8388608 bytes"), "{err}");
    let (code, _, err) = world.run(&["image", "import", "/nowhere", "--name", "web"]);
    assert_eq!(code, 1);
    assert!(err.contains("cannot read `/nowhere`"), "{err}");
    assert_eq!(world.ok(&["get", "images"]), "no images that you may see\n");

    let good = world.file("good", "an image");
    world.ok(&["image", "import", &good, "--name", "web"]);
    let image = world.json(&["get", "image", "web:1", "-o", "json"]);
    let job = world.queue(&image, &json!({ "reject": true }));
    let (code, out, _) = world.run(&["image", "wait", &job]);
    assert_eq!((code, out), (1, format!("job/{job} did not pass\n")));
    assert!(world.ok(&["get", "images"]).contains("web:1  rejected"));
    let (code, _, err) = world.run(&["image", "cancel", &job]);
    assert_eq!(code, 1);
    assert!(err.contains("the job has ended"), "{err}");
    for missing in ["web:9", "other"] {
        let (code, _, err) = world.run(&["image", "admit", missing]);
        assert_eq!(code, 1);
        assert!(err.contains(&format!("there is no image `{missing}`")), "{err}");
    }
    assert_eq!(world.run(&["image", "wait", "job"]).0, 2);
    // A parent is named as any version; retiring may take the bytes along.
    world.ok(&["image", "import", &good, "--name", "db", "--parent", "web:1"]);
    let retired = world.ok(&["image", "retire", "db:1", "--forget"]);
    assert_eq!(retired, "db:1 is retired\nthe bytes of db:1 are removed\n");
}
