//! The contract with an OpenStack cloud: what is asked, and what becomes of each answer that the
//! references of Keystone, Glance and Nova allow. Never run against a real cloud.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/cloud.rs"]
mod cloud;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cloud::{FLAVOR, FakeCloud, Fault, Image};
use drivers::{
    Clock, Cloud, Conditions, Driver as _, DriverError, Evidence, Fitness, Glance, ImageStore as _,
    ImageStoreError, Limits, Login, OpenStack, OpenStackError, Outcome, Reason, Secret, Step,
    Swept, TrialError, Unobserved,
};
use lab::{BaseImage, Format};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

const NOW: u64 = 1_764_100_000;

/// Time that passes only where it is waited for.
#[derive(Debug, Default)]
struct Stepped(Mutex<Duration>);

impl Clock for Stepped {
    fn now(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn unix(&self) -> u64 {
        NOW + self.now().as_secs()
    }

    fn wait(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }
}

struct Tenant {
    cloud: FakeCloud,
    driver: OpenStack,
    clock: Arc<Stepped>,
    limits: Limits,
    place: tempfile::TempDir,
}

fn password_login() -> Value {
    json!({ "auth": {
        "identity": { "methods": ["password"], "password": { "user": {
            "name": "patch", "domain": { "name": "Default" }, "password": "s3cret",
        }}},
        "scope": { "project": { "name": "web", "domain": { "name": "Default" } } },
    }})
}

impl Tenant {
    fn new() -> Self {
        let login = Login::Password {
            user: "patch".to_owned(),
            user_domain: "Default".to_owned(),
            password: Secret::new("s3cret".to_owned()),
            project: "web".to_owned(),
            project_domain: "Default".to_owned(),
        };
        Self::of(login, password_login())
    }

    fn of(login: Login, expected: Value) -> Self {
        let cloud = FakeCloud::start(expected);
        let place = tempfile::tempdir().unwrap();
        let clock = Arc::new(Stepped::default());
        let access = Cloud {
            identity: format!("{}/identity/v3", cloud.base),
            login,
            region: Some("one".to_owned()),
            flavor: FLAVOR.to_owned(),
        };
        let shared: Arc<dyn Clock> = Arc::<Stepped>::clone(&clock);
        let driver = OpenStack::open(access, &place.path().join("disks"), shared).unwrap();
        Self { cloud, driver, clock, limits: Limits::default(), place }
    }

    fn attempt<T>(&self, scan: impl FnOnce(&Path) -> T) -> Result<Outcome<T>, TrialError> {
        let image = self.place.path().join("image.raw");
        std::fs::write(&image, "the new image").unwrap();
        let image = BaseImage::open(&image).unwrap();
        let conditions =
            Conditions { limits: &self.limits, observer: &Unobserved, clock: &*self.clock };
        drivers::trial(&self.driver, &image, &conditions, scan)
    }

    /// The trial fails, leaves nothing there or here, and tells no secret.
    fn fails(&self) -> TrialError {
        let failed = self.attempt(|_| panic!("nothing to scan")).unwrap_err();
        self.cloud.assert_clean();
        self.assert_nothing_here();
        assert!(failed.left_behind.is_none(), "{failed:?}");
        let told = format!("{failed} {failed:?} {:?}", self.driver);
        assert!(!told.contains("s3cret") && !told.contains("token-"), "{told}");
        failed
    }

    fn refusal(&self) -> OpenStackError {
        let failed = self.fails();
        let Reason::Driver { error, .. } = failed.reason else { panic!("{failed:?}") };
        let DriverError::OpenStack(error) = *error else { panic!("{error:?}") };
        error
    }

    fn assert_nothing_here(&self) {
        assert_eq!(std::fs::read_dir(self.place.path().join("disks")).unwrap().count(), 0);
    }
}

#[test]
fn an_image_is_uploaded_started_stopped_fetched_and_removed_as_documented() {
    let tenant = Tenant::new();

    let outcome = tenant.attempt(|disk| std::fs::read(disk).unwrap()).unwrap();

    assert_eq!(outcome.scanned, b"the disk at rest");
    assert_eq!(outcome.seen.evidence, Evidence::LoginPrompt);
    assert_eq!(outcome.seen.kernel.unwrap().release, "6.1.0-32-amd64");
    assert!(outcome.left_behind.is_none());
    assert_eq!(
        tenant.cloud.shapes(),
        [
            "POST /identity/v3/auth/tokens",
            "POST /image/v2/images",
            "PUT /image/v2/images/{id}/file",
            "GET /image/v2/images/{id}",
            "POST /compute/v2.1/servers",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "POST /compute/v2.1/servers/{id}/action os-stop",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "GET /compute/v2.1/servers/{id}",
            "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput",
            "POST /compute/v2.1/servers/{id}/action createImage",
            "GET /image/v2/images/{id}",
            "GET /image/v2/images/{id}/file",
            "GET /compute/v2.1/servers",
            "DELETE /compute/v2.1/servers/{id}",
            "GET /compute/v2.1/servers/{id}",
            "GET /image/v2/images",
            "DELETE /image/v2/images/{id}",
        ]
    );
    tenant.cloud.assert_clean();
    tenant.assert_nothing_here();
}

#[test]
fn nova_presses_the_power_button_for_longer_than_the_trial_waits() {
    let mut tenant = Tenant::new();
    tenant.limits.shutdown = Duration::from_secs(180);
    tenant.cloud.world().upload_becomes = vec!["killed"];

    tenant.refusal();

    let world = tenant.cloud.world();
    let described: Value = world
        .asked
        .iter()
        .find(|asked| asked.shape() == "POST /image/v2/images")
        .map(|asked| serde_json::from_slice(&asked.body).unwrap())
        .unwrap();
    assert_eq!(described["os_shutdown_timeout"], "240");
    assert_eq!(described["visibility"], "private");
    assert_eq!(described["disk_format"], "raw");
    let upload = world.asked.iter().find(|asked| asked.method == "PUT").unwrap();
    assert_eq!(upload.body, b"the new image");
}

#[test]
fn an_expired_token_is_renewed_once_in_the_middle() {
    let expected = json!({ "auth": { "identity": {
        "methods": ["application_credential"],
        "application_credential": { "id": "credential", "secret": "s3cret" },
    }}});
    let login = Login::ApplicationCredential {
        id: "credential".to_owned(),
        secret: Secret::new("s3cret".to_owned()),
    };
    for expires_in in [1, 2, 3, 8, 15] {
        let tenant = Tenant::of(login.clone(), expected.clone());
        tenant.cloud.world().expires_in = Some(expires_in);

        tenant.attempt(|_| ()).unwrap();

        assert_eq!(tenant.cloud.count("POST /identity/v3/auth/tokens"), 2);
        tenant.cloud.assert_clean();
    }
}

#[test]
fn who_is_not_let_in_is_told_so_and_nothing_else_is_asked() {
    let tenant = Tenant::new();
    tenant.cloud.world().login = json!("somebody else");

    let refused = tenant.refusal();

    assert!(matches!(refused, OpenStackError::NotLetIn { status: 401, .. }), "{refused:?}");
    assert_eq!(tenant.cloud.shapes(), ["POST /identity/v3/auth/tokens"]);
    assert_eq!(tenant.cloud.world().asked.len(), 1);
}

#[test]
fn a_token_that_is_never_good_is_not_renewed_for_ever() {
    let tenant = Tenant::new();
    tenant.cloud.fault("POST /image/v2/images", 401, json!({ "error": { "message": "no" } }), 9);

    let refused = tenant.refusal();

    assert!(matches!(refused, OpenStackError::Refused { status: 401, .. }), "{refused:?}");
    assert_eq!(tenant.cloud.count("POST /image/v2/images"), 2);
}

#[test]
fn a_region_that_is_not_there_is_told() {
    let login = Login::ApplicationCredential {
        id: "1".to_owned(),
        secret: Secret::new("s3cret".to_owned()),
    };
    let tenant = Tenant::of(login.clone(), login_of_one());
    let cloud = Cloud {
        identity: format!("{}/identity/v3", tenant.cloud.base),
        login,
        region: Some("three".to_owned()),
        flavor: FLAVOR.to_owned(),
    };
    let clock: Arc<dyn Clock> = Arc::<Stepped>::clone(&tenant.clock);
    let driver = OpenStack::open(cloud, &tenant.place.path().join("three"), clock).unwrap();

    let refused = driver.sweep().unwrap_err();

    assert!(refused.to_string().contains("in the region `three`"), "{refused}");
}

fn login_of_one() -> Value {
    json!({ "auth": { "identity": {
        "methods": ["application_credential"],
        "application_credential": { "id": "1", "secret": "s3cret" },
    }}})
}

#[test]
fn over_the_limit_is_told_as_such_and_what_was_made_before_is_removed() {
    for (shape, status, body) in [
        (
            "POST /image/v2/images",
            413,
            json!({ "overLimit": { "code": 413, "message": "Too many images.", "retryAfter": "9" } }),
        ),
        ("PUT /image/v2/images/{id}/file", 413, json!({ "message": "Too many images." })),
        (
            "POST /compute/v2.1/servers",
            413,
            json!({ "overLimit": { "code": 413, "message": "Too many images." } }),
        ),
        (
            "POST /compute/v2.1/servers",
            403,
            json!({ "forbidden": { "code": 403, "message": "Quota exceeded for instances" } }),
        ),
    ] {
        let tenant = Tenant::new();
        tenant.cloud.fault(shape, status, body, 1);

        let refused = tenant.refusal();

        let OpenStackError::OverLimit { status: told, message, .. } = &refused else {
            panic!("{shape}: {refused:?}")
        };
        assert_eq!(*told, status);
        assert!(message == "Too many images." || message.starts_with("Quota"), "{message}");
        assert!(refused.help().is_some());
        assert_eq!(tenant.cloud.count(shape), 1, "what makes something is not repeated");
    }
}

#[test]
fn what_fails_on_their_side_is_tried_again_so_often_and_no_more() {
    let gone = json!({ "computeFault": { "code": 503, "message": "Try later." } });
    let look = "GET /compute/v2.1/servers/{id}";

    let undisturbed = Tenant::new();
    undisturbed.attempt(|_| ()).unwrap();
    let tenant = Tenant::new();
    tenant.cloud.fault(look, 503, gone.clone(), 3);
    tenant.attempt(|_| ()).unwrap();
    let pauses = Duration::from_secs(1 + 4 + 10);
    assert_eq!(tenant.clock.now(), undisturbed.clock.now() + pauses);
    tenant.cloud.assert_clean();

    let tenant = Tenant::new();
    tenant.cloud.fault(look, 503, gone, 4);
    let refused = tenant.refusal();
    let OpenStackError::Refused { status: 503, message, .. } = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(message, "Try later.");
}

#[test]
fn an_image_that_does_not_become_active_fails_by_its_status_or_in_time() {
    for status in ["killed", "deactivated", "gone"] {
        let tenant = Tenant::new();
        tenant.cloud.world().upload_becomes = vec!["saving", status];
        let refused = tenant.refusal();
        let OpenStackError::ImageLost { status: told, .. } = &refused else {
            panic!("{refused:?}")
        };
        assert_eq!(told, if status == "gone" { "deleted" } else { status });
    }

    let tenant = Tenant::new();
    tenant.cloud.world().upload_becomes = vec!["saving"];
    let refused = tenant.refusal();
    assert!(matches!(refused, OpenStackError::TooLate { seconds: 900, .. }), "{refused:?}");
    assert!(tenant.clock.now() < Duration::from_secs(1000));
}

#[test]
fn a_server_in_error_fails_in_novas_words() {
    let tenant = Tenant::new();
    tenant.cloud.world().server_becomes = vec!["BUILD", "ERROR"];

    let failed = tenant.fails();

    let Reason::Lost { step: Step::Create, reason } = &failed.reason else { panic!("{failed:?}") };
    assert!(reason.contains("No valid host was found."), "{reason}");
}

#[test]
fn a_server_whose_birth_was_not_told_is_removed_by_its_name() {
    let tenant = Tenant::new();
    tenant.cloud.world().faults.push(Fault {
        shape: "POST /compute/v2.1/servers",
        status: 504,
        body: json!({}),
        times: 1,
        is_done: true,
    });

    let refused = tenant.refusal();

    assert!(matches!(refused, OpenStackError::Refused { status: 504, .. }), "{refused:?}");
    assert_eq!(tenant.cloud.count("POST /compute/v2.1/servers"), 1);
    assert_eq!(tenant.cloud.count("DELETE /compute/v2.1/servers/{id}"), 1);
}

#[test]
fn a_machine_that_never_asks_for_a_login_fails_after_its_limit() {
    let tenant = Tenant::new();
    tenant.cloud.world().console = vec!["[    1.0] waiting\n".to_owned()];

    let failed = tenant.fails();

    assert!(matches!(failed.reason, Reason::NeverCameUp { .. }), "{failed:?}");
    assert!(failed.console.contains("waiting"));
    assert_eq!(tenant.cloud.count("POST /compute/v2.1/servers/{id}/action os-stop"), 0);
}

#[test]
fn a_hypervisor_without_consoles_leaves_the_power_button_as_evidence() {
    let tenant = Tenant::new();
    let shape = "POST /compute/v2.1/servers/{id}/action os-getConsoleOutput";
    let body = json!({ "notImplemented": { "code": 501, "message": "No console." } });
    tenant.cloud.fault(shape, 501, body, usize::MAX);

    let outcome = tenant.attempt(|_| ()).unwrap();

    assert_eq!(outcome.seen.evidence, Evidence::PowerButton);
    tenant.cloud.assert_clean();
}

#[test]
fn a_conflict_when_stopping_is_waited_out() {
    let tenant = Tenant::new();
    let shape = "POST /compute/v2.1/servers/{id}/action os-stop";
    let body = json!({ "conflictingRequest": { "code": 409, "message": "In task state." } });
    tenant.cloud.fault(shape, 409, body, 2);

    tenant.attempt(|_| ()).unwrap();

    assert_eq!(tenant.cloud.count(shape), 3);
    tenant.cloud.assert_clean();
}

#[test]
fn a_snapshot_that_fails_or_is_too_large_or_names_other_files_is_not_taken() {
    let tenant = Tenant::new();
    tenant.cloud.world().snapshot_becomes = vec!["queued", "gone"];
    assert!(matches!(tenant.refusal(), OpenStackError::ImageLost { .. }));

    let mut tenant = Tenant::new();
    tenant.limits.disk_bytes = 3;
    let refused = tenant.refusal();
    assert!(matches!(refused, OpenStackError::SnapshotSize { wanted: 3, got: 16 }), "{refused:?}");

    let mut overlay = vec![0; 104];
    overlay[..8].copy_from_slice(b"QFI\xFB\0\0\0\x03");
    overlay[15] = 0x70;
    let tenant = Tenant::new();
    tenant.cloud.world().snapshot = overlay;
    let refused = tenant.refusal();
    assert!(matches!(refused, OpenStackError::Snapshot(_)), "{refused:?}");
}

#[test]
fn what_cannot_be_removed_is_told() {
    let in_use = json!({ "message": "in use" });
    let tenant = Tenant::new();
    tenant.cloud.fault("DELETE /image/v2/images/{id}", 409, in_use.clone(), 2);
    assert!(tenant.attempt(|_| ()).unwrap().left_behind.is_none());
    tenant.cloud.assert_clean();

    let tenant = Tenant::new();
    tenant.cloud.fault("DELETE /image/v2/images/{id}", 403, in_use.clone(), usize::MAX);
    let left = tenant.attempt(|_| ()).unwrap().left_behind.unwrap();
    assert!(left.to_string().contains("403"), "{left}");

    let tenant = Tenant::new();
    tenant.cloud.world().upload_becomes = vec!["killed"];
    tenant.cloud.fault("DELETE /image/v2/images/{id}", 403, in_use, usize::MAX);
    let failed = tenant.attempt(|_| ()).unwrap_err();
    let told = failed.to_string();
    assert!(told.contains("`killed`") && told.contains("could not be removed"), "{told}");
}

#[test]
fn a_sweep_removes_only_what_nobody_can_need_any_more() {
    let tenant = Tenant::new();
    let over = format!("patchwright-trial-{}-0123456789abcdef", NOW - 1);
    let running = format!("patchwright-trial-{}-0123456789abcdef", NOW + 100);
    {
        let mut world = tenant.cloud.world();
        // More than a page of them, and things of other people's.
        for number in 0..120 {
            world.put_image(&format!("debian-{number}"));
        }
        for name in [&over, &running] {
            world.put_server(name);
            world.put_image(name);
        }
        world.put_server("my-patchwright-trial-and-error");
        world.put_image("patchwright-trial-of-mine");
    }

    assert_eq!(tenant.driver.sweep().unwrap(), Swept { machines: 1, disks: 1 });

    let world = tenant.cloud.world();
    let servers: Vec<&str> = world.servers.values().map(|server| server.name.as_str()).collect();
    assert_eq!(servers, [running.as_str(), "my-patchwright-trial-and-error"]);
    assert!(world.images.values().all(|image| image.name != over));
    assert_eq!(world.images.len(), 122);
}

#[test]
fn a_killed_trials_things_are_swept_once_their_time_is_over() {
    let tenant = Tenant::new();
    let image = tenant.place.path().join("image.raw");
    std::fs::write(&image, "the new image").unwrap();
    let image = BaseImage::open(&image).unwrap();
    // As kill -9 leaves it: made, and never deleted.
    let machine = tenant.driver.create(&image, &tenant.limits).unwrap();
    std::mem::forget(machine);

    assert_eq!(tenant.driver.sweep().unwrap(), Swept::default());
    tenant.clock.wait(Duration::from_secs(24 * 3600));
    assert_eq!(tenant.driver.sweep().unwrap(), Swept { machines: 1, disks: 1 });

    tenant.cloud.assert_clean();
}

#[test]
fn an_identity_service_in_the_clear_is_not_asked() {
    let cloud = Cloud {
        identity: "http://keystone.example.org/v3".to_owned(),
        login: Login::ApplicationCredential {
            id: "1".to_owned(),
            secret: Secret::new("s3cret".to_owned()),
        },
        region: None,
        flavor: FLAVOR.to_owned(),
    };
    let place = tempfile::tempdir().unwrap();
    let refused = OpenStack::open(cloud, place.path(), Arc::<Stepped>::default()).unwrap_err();
    assert!(matches!(refused, OpenStackError::InTheClear { .. }), "{refused:?}");
}

/// Images that others brought, read as a store.
struct Shelf {
    cloud: FakeCloud,
    glance: Glance,
    place: tempfile::TempDir,
}

impl Shelf {
    fn new() -> Self {
        let login = Login::ApplicationCredential {
            id: "one".to_owned(),
            secret: Secret::new("s3cret".to_owned()),
        };
        let cloud = FakeCloud::start(json!({ "auth": { "identity": {
            "methods": ["application_credential"],
            "application_credential": { "id": "one", "secret": "s3cret" },
        }}}));
        cloud.world().is_store = true;
        let access = Cloud {
            identity: format!("{}/identity/v3", cloud.base),
            login,
            region: Some("one".to_owned()),
            flavor: FLAVOR.to_owned(),
        };
        let glance = Glance::open(access, Arc::new(Stepped::default())).unwrap();
        Self { cloud, glance, place: tempfile::tempdir().unwrap() }
    }

    /// Puts an image there whose digest is told by SHA-512, unless something else is.
    fn put(&self, id: &str, content: &[u8], more: &Value) {
        let mut described = json!({
            "disk_format": "raw", "container_format": "bare", "os_hash_algo": "sha512",
            "os_hash_value": digest(content), "checksum": "0".repeat(32),
            "updated_at": "2026-12-01T00:00:00Z",
        });
        for (name, value) in more.as_object().unwrap() {
            described[name] = value.clone();
        }
        let (name, content) = (format!("image {id}"), content.to_vec());
        let image = Image { name, described, content, statuses: vec!["active"] };
        self.cloud.world().images.insert(id.to_owned(), image);
    }

    fn fetch(&self, id: &str, largest: u64) -> Result<Vec<u8>, ImageStoreError> {
        let image = self.glance.look(id)?;
        let file = self.place.path().join(id);
        self.glance.fetch(&image, &file, largest)?;
        let content = std::fs::read(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        Ok(content)
    }
}

fn digest(content: &[u8]) -> String {
    Sha512::digest(content).iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

const MIB: u64 = 1 << 20;

#[test]
fn images_of_a_cloud_are_listed_in_pages_and_fetched_as_they_were_told() {
    let shelf = Shelf::new();
    let content: Vec<u8> = (0..300_000_u32).map(|at| at.to_le_bytes()[at as usize % 4]).collect();
    for number in 0..203 {
        shelf.put(&format!("image-id-{number:03}"), &content, &json!({}));
    }

    let listed = shelf.glance.list().unwrap();

    assert_eq!(listed.len(), 203);
    assert_eq!(
        (listed[7].id.as_str(), listed[7].name.as_str()),
        ("image-id-007", "image image-id-007")
    );
    let version = format!("sha512:{}", digest(&content));
    assert_eq!(listed[7].fitness, Fitness::Fit { format: Format::Raw, version: version.clone() });
    assert_eq!(shelf.glance.look("image-id-007").unwrap(), listed[7]);
    assert_eq!(shelf.fetch("image-id-007", MIB).unwrap(), content);
    // A description that alters is no other image.
    shelf.put("image-id-007", &content, &json!({ "updated_at": "2026-12-02T00:00:00Z" }));
    assert_eq!(shelf.glance.look("image-id-007").unwrap().version().unwrap(), version);
    let md5 = json!({ "os_hash_algo": null, "os_hash_value": null, "checksum": "5d41402abc4b2a76b9719d911017c592" });
    shelf.put("image-id-old", b"hello", &md5);
    assert_eq!(shelf.fetch("image-id-old", MIB).unwrap(), b"hello");
    let world = shelf.cloud.world();
    assert_eq!(world.violations, Vec::<String>::new());
    assert!(
        world
            .asked
            .iter()
            .all(|asked| asked.method == "GET" || asked.path.ends_with("/auth/tokens"))
    );
}

#[test]
fn images_of_a_cloud_that_are_not_what_they_are_told_to_be_are_refused() {
    let shelf = Shelf::new();
    for (id, more, because) in [
        ("a-id-1", json!({ "disk_format": "vmdk" }), "has the disk format `vmdk`"),
        ("a-id-2", json!({ "container_format": "ovf" }), "has the container format `ovf`"),
        ("a-id-3", json!({ "os_hash_algo": "blake2b" }), "has a digest by `blake2b`"),
        ("a-id-4", json!({ "os_hash_value": "../x" }), "has a digest that is none"),
        ("a-id-5", json!({ "os_hash_value": null, "checksum": null }), "has no digest"),
    ] {
        shelf.put(id, b"x", &more);
        let refused = shelf.fetch(id, MIB).unwrap_err();
        assert!(refused.to_string().contains(because), "{id}: {refused}");
    }
    shelf.put("a-id-6", b"x", &json!({}));
    shelf.cloud.world().images.get_mut("a-id-6").unwrap().statuses = vec!["deactivated"];
    let refused = shelf.fetch("a-id-6", MIB).unwrap_err();
    assert!(refused.to_string().contains("has the status `deactivated`"), "{refused}");
    assert_eq!(shelf.glance.list().unwrap().len(), 6, "they are told nevertheless");
    assert_eq!(
        shelf.cloud.count("GET /image/v2/images/{id}/file"),
        0,
        "nothing is fetched of them"
    );

    shelf.put("b-id-1", b"another", &json!({ "os_hash_value": digest(b"one thing") }));
    let other = shelf.fetch("b-id-1", MIB).unwrap_err();
    assert!(matches!(other, ImageStoreError::Digest { .. }), "{other}");
    shelf.put("b-id-2", &[7; 4096], &json!({ "size": 4095 }));
    let long = shelf.fetch("b-id-2", MIB).unwrap_err();
    assert!(matches!(long, ImageStoreError::Length { wanted: 4095, got: 4096, .. }), "{long}");
    let kept = std::fs::metadata(shelf.place.path().join("b-id-2")).unwrap().len();
    assert!(kept <= 4095, "no more is kept than was told: {kept}");
    shelf.put("b-id-3", &[7; 4096], &json!({ "size": 4097 }));
    let short = shelf.fetch("b-id-3", MIB).unwrap_err();
    assert!(matches!(short, ImageStoreError::Length { .. }), "{short}");
    shelf.put("b-id-4", &[7; 4096], &json!({}));
    let large = shelf.fetch("b-id-4", 4095).unwrap_err();
    assert!(matches!(large, ImageStoreError::Size { size: 4096, largest: 4095, .. }), "{large}");
    let mut overlay = vec![0; 4096];
    overlay[..8].copy_from_slice(b"QFI\xFB\0\0\0\x03");
    shelf.put("b-id-5", &overlay, &json!({}));
    let hidden = shelf.fetch("b-id-5", MIB).unwrap_err();
    assert!(hidden.to_string().contains("is qcow2, though its store calls it raw"), "{hidden}");
    overlay[15] = 0x70;
    shelf.put("b-id-6", &overlay, &json!({ "disk_format": "qcow2" }));
    let leads_away = shelf.fetch("b-id-6", MIB).unwrap_err();
    assert!(leads_away.to_string().contains("is an overlay over another image"), "{leads_away}");
    for id in ["", "../servers", "a?b", "a-id-9"] {
        let none = shelf.glance.look(id).unwrap_err();
        assert!(matches!(none, ImageStoreError::NoImage { .. }), "{id}: {none}");
    }
    let told = format!("{:?} {hidden:?}", shelf.glance);
    assert!(!told.contains("s3cret") && !told.contains("token-"), "{told}");
}
