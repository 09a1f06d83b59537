//! A tenant's consent, signed by the command or with a passkey, verified by OpenSSL with the very
//! commands that its documentation gives.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use base64::prelude::{BASE64_STANDARD, Engine as _};
use domain::change::{
    Action, Decision, Draft, ExactPackage, FileHash, Item, KeyOrder, Nonce, Payload as _, Plan,
    Rollback, Stage, Statement, Verified, Window,
};
use domain::cloud::{ChangeId, CiId, Duty, TenantId};
use jiff::Timestamp;
use ledger::passkey::{Assertion, Envelope, PasskeyKey, challenge};
use p256::ecdsa::signature::Signer as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

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
        self.follow("## Verify")
    }

    /// The commands under a heading there.
    fn follow(&self, heading: &str) -> Output {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/consent.md");
        let docs = fs::read_to_string(docs).unwrap();
        let (_, rest) = docs.split_once(&format!("\n{heading}\n")).unwrap();
        let (_, rest) = rest.split_once("```sh\n").unwrap();
        let (script, _) = rest.split_once("```").unwrap();
        let mut command = Command::new("bash");
        command.current_dir(self.0.path()).args(["-c", script]).output().unwrap()
    }
}

const ORIGIN: &str = "https://cloud.example.org";

/// An authenticator, and the browser before it.
struct Authenticator {
    is_p256: bool,
    /// User present and verified.
    flags: u8,
    origin: &'static str,
    name: &'static str,
}

impl Authenticator {
    fn new(is_p256: bool) -> Self {
        Self { is_p256, flags: 0b101, origin: ORIGIN, name: "cloud.example.org" }
    }

    /// Agrees to a plan at a desk, where the public key is as well afterwards.
    fn approve(&self, desk: &Desk, plan: &str) {
        let plan = Plan::parse(&fs::read(desk.path(plan)).unwrap()).unwrap();
        let statement = Statement {
            change: plan.draft().change,
            plan: plan.hash(),
            tenant: plan.draft().tenant,
            decision: Decision::Approve,
            given_at: at(0),
            nonce: Nonce::from([4; 16]),
        };
        let payload = statement.to_payload();
        let challenge = BASE64_URL_SAFE_NO_PAD.encode(challenge(&payload));
        let client_data = json!({
            "type": "webauthn.get", "challenge": challenge, "origin": self.origin,
            "crossOrigin": false,
        });
        let client_data = client_data.to_string().into_bytes();
        let mut data = Sha256::digest(self.name).to_vec();
        data.extend([self.flags, 0, 0, 0, 9]);
        let (key, signature) = self.sign(&[&data[..], &Sha256::digest(&client_data)].concat());
        let assertion = Assertion { authenticator_data: data, client_data, signature };
        let envelope = Envelope::new(&payload, &key, &assertion);
        fs::write(desk.path("consent.json"), serde_json::to_string(&envelope).unwrap()).unwrap();
        fs::write(desk.path("passkey.pub"), key.to_string()).unwrap();
    }

    fn sign(&self, message: &[u8]) -> (PasskeyKey, Vec<u8>) {
        if self.is_p256 {
            let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
            let point = secret.verifying_key().to_sec1_point(true);
            let (parity, x) = point.as_bytes().split_first().unwrap();
            let key = PasskeyKey::p256(x.try_into().unwrap(), *parity == 3).unwrap();
            let signature: p256::ecdsa::Signature = secret.sign(message);
            (key, signature.to_der().as_bytes().to_vec())
        } else {
            let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
            let key = PasskeyKey::ed25519(&secret.verifying_key().to_bytes()).unwrap();
            (key, ed25519_dalek::Signer::sign(&secret, message).to_bytes().to_vec())
        }
    }
}

impl Desk {
    fn verify_passkey(&self, plan: &str, origin: &str) -> Output {
        let key = ["--public-key", "passkey.pub", "--origin", origin];
        self.run(&[&["verify", "consent.json", "--plan", plan][..], &key].concat())
    }

    fn verify_passkey_elsewhere(&self) -> Output {
        self.follow("### What a passkey signed")
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

/// What a tenant signs by hand, as the documentation says, is what the command makes of it.
#[test]
fn openssl_signs_rules_and_orders() {
    let desk = Desk::new();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/consent.md");
    let docs = fs::read_to_string(docs).unwrap();
    let (_, rest) = docs.split_once("\n## Rules and orders by hand\n").unwrap();
    let examples: Vec<_> =
        rest.split("```json\n").skip(1).map(|it| it.split_once("```").unwrap().0).collect();
    let key = "07".repeat(32);
    let order =
        examples[1].replace("SHA-256 of the new key's SubjectPublicKeyInfo, in hexadecimal", &key);
    let revoke = json!({ "tenant": "ten_01h455vb4pex5vsknk084sn02q", "nonce": "07".repeat(16),
        "order": { "do": "revoke", "key": key } });

    fs::write(desk.path("said.json"), examples[0]).unwrap();
    let made = desk.follow("## Rules and orders by hand");
    assert!(made.status.success(), "{}", text(&made.stderr));
    let shown = desk.run(&["rule", "show", "envelope.json", "--public-key", "tenant.pub"]);
    let said = text(&shown.stdout);
    assert!(shown.status.success(), "{said}{}", text(&shown.stderr));
    assert!(said.contains("the signature holds"), "{said}");
    assert!(said.contains("patch of priority low, medium") && said.contains("tue 02:00"), "{said}");

    let public: ledger::attestation::AttestorKey = {
        let shown = text(&fs::read(desk.path("tenant.pub")).unwrap());
        shown[shown.find("-----BEGIN").unwrap()..].parse().unwrap()
    };
    for order in [order, revoke.to_string()] {
        fs::write(desk.path("said.json"), &order).unwrap();
        let made = desk.follow("## Rules and orders by hand");
        assert!(made.status.success(), "{}", text(&made.stderr));
        let envelope = fs::read(desk.path("envelope.json")).unwrap();
        let opened = ledger::attestation::open(&envelope, std::slice::from_ref(&public)).unwrap();
        let by = opened.key.id_bytes().into();
        let said = Verified::<KeyOrder>::signed_by(by, &opened.payload).unwrap();
        let expected: KeyOrder = serde_json::from_str(&order).unwrap();
        assert_eq!(*said.said(), expected);
    }
    // And a rule that the command signed without any connection.
    let made = desk.run(&[
        "rule",
        "make",
        "--priority",
        "low",
        "--all-items",
        "--window",
        "sun 00:00 7d",
        "--until",
        "2099-01-01T00:00:00Z",
        "--key",
        "tenant.key",
        "--tenant",
        "ten_01h455vb4pex5vsknk084sn02q",
    ]);
    fs::write(desk.path("rule.json"), &made.stdout).unwrap();
    let shown = desk.run(&["rule", "show", "rule.json", "--public-key", "tenant.pub"]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
}

#[test]
fn openssl_verifies_what_a_passkey_signed_and_nothing_else() {
    for is_p256 in [true, false] {
        let (desk, good) = (Desk::new(), Authenticator::new(is_p256));
        good.approve(&desk, "plan.json");

        let verified = desk.verify_passkey_elsewhere();

        let said = text(&verified.stdout);
        assert!(verified.status.success(), "{said}{}", text(&verified.stderr));
        assert!(said.contains("Signature Verified Successfully"), "{said}");
        assert!(said.contains("plan.json: OK"), "{said}");
        assert!(said.contains(r#""is": "approve""#), "{said}");
        let ours = desk.verify_passkey("plan.json", ORIGIN);
        let said = text(&ours.stdout);
        assert!(ours.status.success(), "{said}{}", text(&ours.stderr));
        assert!(said.contains("the signature holds, by the key"), "{said}");
        assert!(
            said.contains("with a passkey at https://cloud.example.org, user verified"),
            "{said}"
        );
        assert!(said.contains("says        approve"), "{said}");

        // Another plan at hand; another consent; and whatever an authenticator says that will not do.
        assert_eq!(desk.verify_passkey("other.json", ORIGIN).status.code(), Some(1));
        good.approve(&desk, "other.json");
        assert!(!desk.verify_passkey_elsewhere().status.success());
        assert_eq!(desk.verify_passkey("plan.json", ORIGIN).status.code(), Some(1));
        for wrong in [
            Authenticator { flags: 0b001, ..Authenticator::new(is_p256) },
            Authenticator { flags: 0b100, ..Authenticator::new(is_p256) },
            Authenticator { origin: "https://evil.example", ..Authenticator::new(is_p256) },
            Authenticator { name: "evil.example", ..Authenticator::new(is_p256) },
        ] {
            wrong.approve(&desk, "plan.json");
            assert!(!desk.verify_passkey_elsewhere().status.success());
            assert_eq!(desk.verify_passkey("plan.json", ORIGIN).status.code(), Some(1));
        }
    }
}

#[test]
fn a_byte_of_what_a_passkey_signed_is_missed_by_nobody() {
    let (desk, passkey) = (Desk::new(), Authenticator::new(true));
    passkey.approve(&desk, "plan.json");
    let envelope: Value =
        serde_json::from_slice(&fs::read(desk.path("consent.json")).unwrap()).unwrap();
    for part in [
        "/payload",
        "/assertion/authenticatorData",
        "/assertion/clientDataJSON",
        "/assertion/signature",
    ] {
        let mut altered = envelope.clone();
        let kept = altered.pointer_mut(part).unwrap();
        let mut bytes = BASE64_STANDARD.decode(kept.as_str().unwrap()).unwrap();
        let last = bytes.len() - 2;
        bytes[last] ^= 1;
        *kept = BASE64_STANDARD.encode(bytes).into();
        fs::write(desk.path("consent.json"), altered.to_string()).unwrap();
        assert!(!desk.verify_passkey_elsewhere().status.success(), "{part}");
        assert_eq!(desk.verify_passkey("plan.json", ORIGIN).status.code(), Some(1), "{part}");
    }
}

#[test]
fn where_a_passkey_signed_is_to_be_said_and_a_key_of_either_kind_is_shown() {
    let (desk, passkey) = (Desk::new(), Authenticator::new(true));
    passkey.approve(&desk, "plan.json");

    let unsaid =
        desk.run(&["verify", "consent.json", "--plan", "plan.json", "--public-key", "passkey.pub"]);
    assert_eq!(unsaid.status.code(), Some(1));
    assert!(text(&unsaid.stderr).contains("--origin"), "{}", text(&unsaid.stderr));
    let elsewhere = desk.verify_passkey("plan.json", "https://other.example.org");
    assert_eq!(elsewhere.status.code(), Some(1));
    let why = text(&elsewhere.stderr);
    assert!(why.contains("signed at https://cloud.example.org"), "{why}");
    let odd = desk.verify_passkey("plan.json", "http://cloud.example.org");
    assert!(text(&odd.stderr).contains("only `localhost` may be without TLS"));

    let shown = text(&desk.run(&["key", "show", "passkey.pub"]).stdout);
    let key = text(&fs::read(desk.path("passkey.pub")).unwrap());
    assert!(shown.contains("key id") && shown.ends_with(&key), "{shown}");
    let der = Command::new("openssl")
        .args(["pkey", "-pubin", "-pubout", "-in"])
        .arg(desk.path("passkey.pub"))
        .output()
        .unwrap();
    assert_eq!(text(&der.stdout), key, "it is spelt as OpenSSL spells it");
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
    assert!(ours.status.success(), "{}", text(&ours.stderr));
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
    let second = jiff::Timestamp::now().as_second() + 100 * 24 * 3600;
    let [then, earlier] = [second, second - 3600]
        .map(|second| jiff::Timestamp::from_second(second).unwrap().to_string());
    let key = ["plan.json", "--key", "tenant.key", "--out", "consent.json"];
    let defer = |until: &str, expiry: &str| {
        let time = ["--until", until, "--expiry", expiry];
        desk.run(&[&["defer"][..], &key, &RISK, &time].concat())
    };

    let short = defer(&then, &earlier);
    assert_eq!(short.status.code(), Some(1));
    assert!(text(&short.stderr).contains("the risk is borne until"), "{}", text(&short.stderr));
    let past = defer("2020-12-05T02:00:00Z", &earlier);
    assert_eq!(past.status.code(), Some(1));
    assert!(!desk.path("consent.json").exists(), "nothing was signed");

    let signed = defer(&then, &then);
    assert!(signed.status.success(), "{}", text(&signed.stderr));
    let verified = desk.verify("plan.json");
    let said = text(&verified.stdout);
    assert!(said.contains(&format!("defer until {then}")), "{said}");
    assert!(said.contains(&format!("J. Doe, CISO, until {then}")), "{said}");

    let again = defer(&then, &then);
    assert_eq!(again.status.code(), Some(1), "no statement is written over another");
    let long = defer("2099-12-05T02:00:00Z", "2099-12-05T02:00:00Z");
    assert!(text(&long.stderr).contains("later than"), "{}", text(&long.stderr));
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
