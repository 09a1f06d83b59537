//! A tenant's consent, signed by the command, verified by OpenSSL with the very commands that its
//! documentation gives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use domain::change::{Action, Draft, ExactPackage, FileHash, Item, Plan, Rollback, Stage, Window};
use domain::cloud::{ChangeId, CiId, Duty, TenantId};
use jiff::Timestamp;
use serde_json::Value;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_900_000_000 + second).unwrap()
}

fn plan(tenant: TenantId, change: ChangeId, version: &str) -> Vec<u8> {
    let package = |version: &str| ExactPackage {
        name: "nginx".into(),
        architecture: "amd64".into(),
        version: version.into(),
        sha256: FileHash::from([7; 32]),
    };
    let item = Item {
        ci: CiId::new(at(0), [1; 10]),
        duty: Duty::Tenant,
        actions: vec![Action::Upgrade { packages: vec![package(version)] }, Action::Reboot],
        rollback: Rollback::Packages { packages: vec![package("1.22.1-9")] },
    };
    let window = Window { from: at(0), until: at(7200) };
    let stages = vec![Stage { window, items: vec![item] }];
    Plan::new(Draft { change, tenant, generation: 0, parent: None, stages }).unwrap().to_bytes()
}

/// A directory with a plan, another plan for the same, and a key.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        let desk = Self(tempfile::tempdir().unwrap());
        let (tenant, change) = (TenantId::new(at(0), [2; 10]), ChangeId::new(at(0), [3; 10]));
        fs::write(desk.path("plan.json"), plan(tenant, change, "1.22.1-9+deb12u1")).unwrap();
        fs::write(desk.path("other.json"), plan(tenant, change, "1.22.1-9+deb12u2")).unwrap();
        assert!(desk.run(&["key", "new", "tenant.key"]).status.success());
        let shown = desk.run(&["key", "show", "tenant.key"]);
        fs::write(desk.path("tenant.pub"), shown.stdout).unwrap();
        desk
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command.current_dir(self.0.path()).arg("consent").args(arguments).output().unwrap()
    }

    fn verify(&self, plan: &str) -> Output {
        self.run(&["verify", "consent.json", "--plan", plan, "--public-key", "tenant.pub"])
    }

    /// The commands of `docs/consent.md`.
    fn verify_elsewhere(&self) -> Output {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/consent.md");
        let docs = fs::read_to_string(docs).unwrap();
        let (_, rest) = docs.split_once("```sh\n").unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        let mut command = Command::new("bash");
        command.current_dir(self.0.path()).args(["-c", script]).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const RISK: [&str; 4] = ["--reason", "quarter-end close", "--risk-owner", "J. Doe, CISO"];

#[test]
fn openssl_verifies_what_was_signed_and_nothing_else() {
    let desk = Desk::new();
    let signed =
        desk.run(&["approve", "plan.json", "--key", "tenant.key", "--out", "consent.json"]);
    assert!(signed.status.success(), "{}", text(&signed.stderr));

    let verified = desk.verify_elsewhere();

    let said = text(&verified.stdout);
    assert!(verified.status.success(), "{said}{}", text(&verified.stderr));
    assert!(said.contains("Signature Verified Successfully"), "{said}");
    assert!(said.contains("plan.json: OK"), "{said}");
    assert!(said.contains(r#""is": "approve""#), "{said}");
    assert!(desk.verify("plan.json").status.success());

    // Another plan at hand.
    fs::copy(desk.path("other.json"), desk.path("plan.json")).unwrap();
    assert!(!desk.verify_elsewhere().status.success());
    let refused = desk.verify("plan.json");
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("it is about the plan"), "{}", text(&refused.stderr));

    // A statement that was altered.
    let mut envelope: Value =
        serde_json::from_slice(&fs::read(desk.path("consent.json")).unwrap()).unwrap();
    let payload = BASE64_STANDARD.decode(envelope["payload"].as_str().unwrap()).unwrap();
    let altered = text(&payload).replace("approve", "APPROVE");
    envelope["payload"] = BASE64_STANDARD.encode(altered).into();
    fs::write(desk.path("consent.json"), envelope.to_string()).unwrap();
    assert!(!desk.verify_elsewhere().status.success());
    assert_eq!(desk.verify("other.json").status.code(), Some(1));
}

#[test]
fn openssls_keys_are_keys() {
    let desk = Desk::new();
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(desk.path("theirs.key"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", text(&made.stderr));
    let ours = Command::new("openssl")
        .args(["pkey", "-pubout", "-in"])
        .arg(desk.path("tenant.key"))
        .output()
        .unwrap();
    assert!(text(&fs::read(desk.path("tenant.pub")).unwrap()).ends_with(&text(&ours.stdout)));

    let sign = ["approve", "plan.json", "--key", "theirs.key"];
    fs::set_permissions(desk.path("theirs.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let open = desk.run(&sign);
    assert_eq!(open.status.code(), Some(1));
    assert!(text(&open.stderr).contains("others can read it (mode 640)"), "{}", text(&open.stderr));

    fs::set_permissions(desk.path("theirs.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let signed = desk.run(&sign);
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    fs::write(desk.path("consent.json"), signed.stdout).unwrap();
    assert!(!desk.verify("plan.json").status.success(), "it is another's key");
    let shown = desk.run(&["key", "show", "theirs.key"]);
    fs::write(desk.path("tenant.pub"), shown.stdout).unwrap();
    assert!(desk.verify("plan.json").status.success());
}

#[test]
fn later_and_no_name_who_bears_the_risk_for_as_long() {
    let desk = Desk::new();
    let key = ["plan.json", "--key", "tenant.key", "--out", "consent.json"];
    let defer = |until: &str, expiry: &str| {
        let time = ["--until", until, "--expiry", expiry];
        desk.run(&[&["defer"][..], &key, &RISK, &time].concat())
    };

    let short = defer("2099-12-05T02:00:00Z", "2099-12-05T01:00:00Z");
    assert_eq!(short.status.code(), Some(1));
    assert!(text(&short.stderr).contains("the risk is borne until"), "{}", text(&short.stderr));
    let past = defer("2020-12-05T02:00:00Z", "2099-12-05T01:00:00Z");
    assert_eq!(past.status.code(), Some(1));
    assert!(!desk.path("consent.json").exists(), "nothing was signed");

    let signed = defer("2099-12-05T02:00:00Z", "2099-12-05T02:00:00Z");
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    let verified = desk.verify("plan.json");
    let said = text(&verified.stdout);
    assert!(said.contains("defer until 2099-12-05T02:00:00Z"), "{said}");
    assert!(said.contains("J. Doe, CISO, until 2099-12-05T02:00:00Z"), "{said}");

    let again = defer("2099-12-05T02:00:00Z", "2099-12-05T02:00:00Z");
    assert_eq!(again.status.code(), Some(1), "no statement is written over another");
    let no_reason = desk.run(&[&["refuse"][..], &key, &RISK[2..]].concat());
    assert_eq!(no_reason.status.code(), Some(2));
}

#[test]
fn a_key_is_for_its_owner_alone_and_a_plan_tells_what_it_does() {
    let desk = Desk::new();
    let mode = fs::metadata(desk.path("tenant.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = fs::read(desk.path("tenant.key")).unwrap();
    assert_eq!(desk.run(&["key", "new", "tenant.key"]).status.code(), Some(1));
    assert_eq!(fs::read(desk.path("tenant.key")).unwrap(), kept);

    insta::assert_snapshot!(text(&desk.run(&["show", "plan.json"]).stdout));

    let pretty: Value = serde_json::from_slice(&fs::read(desk.path("plan.json")).unwrap()).unwrap();
    fs::write(desk.path("pretty.json"), serde_json::to_string_pretty(&pretty).unwrap()).unwrap();
    let refused = desk.run(&["show", "pretty.json"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("not in its canonical form"));
}
