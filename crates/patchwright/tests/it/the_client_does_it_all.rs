//! The command line client against a real control plane: what people type, and what they see then.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::client::{Watching, World, said, steady};
use crate::up::{PASSWORD, Up};

const OWNERS_PASSWORD: &str = "another password of many words";

/// A tenant with two items and a person of its own.
const CLOUD: &str = "\
kind: tenant
slug: acme
name: Acme Corporation
model: iaas
---
kind: ci
tenant: acme
name: web-1
class: vm
labels: {env: prod, version: 1.10}
---
kind: ci
name: host-1
class: hypervisor
---
{kind: relation, from: acme/web-1, relation: runs_on, to: host-1}
---
kind: group
tenant: acme
name: production
description: What customers see
labels: {env: prod}
---
kind: user
login: olga
name: Olga
role: tenant_owner
tenant: acme
password: another password of many words
";

#[test]
fn a_cloud_is_described_looked_at_and_taken_apart() {
    let world = World::new();
    let file = world.file("cloud.yaml", CLOUD);

    // Described: first as a rehearsal, then really, then there is nothing left to do.
    let rehearsed = world.ok(&["apply", "-f", &file, "--dry-run=server"]);
    assert_eq!(
        rehearsed,
        "tenant/acme created (dry run)\nci/web-1 created (dry run)\nci/host-1 created (dry run)\n\
         relation/acme/web-1 runs_on host-1 created (dry run)\ngroup/production created (dry run)\n\
         user/olga created (dry run)\n"
    );
    assert_eq!(world.json(&["get", "cis", "-o", "json"])["items"], json!([]));
    assert_eq!(world.ok(&["apply", "-f", &file]), rehearsed.replace(" (dry run)", ""));
    let again = world.ok(&["apply", "-f", &file]);
    assert_eq!(again, rehearsed.replace("created (dry run)", "unchanged"));
    let altered = world.file("altered.yaml", &CLOUD.replace("prod,", "test,"));
    let said = world.ok(&["apply", "-f", &altered]);
    assert!(
        said.contains("ci/web-1 altered  labels: env=prod,version=1.10 → env=test,version=1.10\n"),
        "{said}"
    );
    assert!(world.ok(&["apply", "-f", &file]).contains("ci/web-1 altered"));

    // Looked at, in every form.
    insta::assert_snapshot!("get_cis", steady(&world.ok(&["get", "cis"])));
    insta::assert_snapshot!("get_cis_wide", steady(&world.ok(&["get", "ci", "-o", "wide"])));
    insta::assert_snapshot!(
        "get_ci_json",
        steady(&world.ok(&["get", "ci", "acme/web-1", "-o", "json"]))
    );
    insta::assert_snapshot!("get_cis_yaml", steady(&world.ok(&["get", "cis", "-o", "yaml"])));
    insta::assert_snapshot!("get_cis_name", steady(&world.ok(&["get", "cis", "-o", "name"])));
    for kind in ["tenants", "users", "groups", "tokens", "findings", "patches", "agents"] {
        insta::assert_snapshot!(format!("get_{kind}"), steady(&world.ok(&["get", kind])));
    }
    let relations = world.ok(&["get", "relations", "--ci", "web-1"]);
    insta::assert_snapshot!("get_relations", steady(&relations));
    for (kind, name) in [("ci", "web-1"), ("tenant", "acme"), ("group", "production")] {
        insta::assert_snapshot!(format!("describe_{kind}"), world.described(kind, name, 11));
    }

    // Narrowed.
    let names = |arguments: &[&str]| -> Vec<String> {
        let all = world.json(&[&["get", "cis", "-o", "json"], arguments].concat());
        let items = all["items"].as_array().unwrap();
        items.iter().map(|ci| ci["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&["--tenant", "acme"]), ["web-1"]);
    assert_eq!(names(&["--tenant", "provider"]), ["host-1"]);
    assert_eq!(names(&["-l", "env=prod", "-l", "version=1.10"]), ["web-1"]);
    assert!(names(&["-l", "env=prod", "-l", "version=1.1"]).is_empty());
    assert_eq!(names(&["--group", "production"]), ["web-1"]);
    assert_eq!(names(&["--limit", "1"]).len(), 1);

    // Created and taken apart.
    let made =
        world.ok(&["create", "ci", "db-1", "--class", "vm", "--tenant", "acme", "-l", "a=b"]);
    assert!(made.starts_with("ci/db-1 created  ci_"), "{made}");
    let said = world.run(&["delete", "ci", "db-1"]);
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("--yes"), "{}", said.err);
    assert_eq!(world.ok(&["delete", "ci", "db-1", "--dry-run"]), "ci/db-1 retired (dry run)\n");
    assert_eq!(names(&["--tenant", "acme"]), ["web-1", "db-1"], "it was a rehearsal");
    assert_eq!(world.ok(&["delete", "ci", "db-1", "--yes"]), "ci/db-1 retired\n");
    assert_eq!(names(&["--tenant", "acme"]), ["web-1"]);
    assert_eq!(names(&["--tenant", "acme", "--retired"]), ["web-1", "db-1"]);
    // Where several had the name, what bears it now is meant.
    world.ok(&["create", "ci", "db-1", "--class", "database_server"]);
    assert_eq!(world.json(&["get", "ci", "db-1", "-o", "json"])["class"], "database_server");
    let ended = world.ok(&["delete", "relation", "web-1", "runs_on", "host-1", "-y"]);
    assert_eq!(ended, "relation/web-1 runs_on host-1 ended\n");
    assert_eq!(world.ok(&["delete", "group", "production", "-y"]), "group/production dissolved\n");
    assert_eq!(world.ok(&["delete", "user", "olga", "-y"]), "user/olga disabled\n");
}

#[test]
fn a_document_that_fails_keeps_no_other_back() {
    let world = World::new();
    let file = world.file(
        "cloud.jsonl",
        "{\"kind\":\"ci\",\"name\":\"a\",\"class\":\"vm\"}\n\
         {\"kind\":\"ci\",\"name\":\"b\",\"class\":\"teapot\"}\n\
         {\"kind\":\"ci\",\"name\":\"c\",\"class\":\"vm\",\"tenant\":\"nobody\"}\n\
         {\"kind\":\"ci\",\"name\":\"d\",\"class\":\"vm\"}\n",
    );

    let said = world.run(&["apply", "-f", &file]);

    assert_eq!(said.code, 1);
    assert_eq!(said.out, "ci/a created\nci/d created\n");
    insta::assert_snapshot!("apply_errors", steady(&said.err));

    // What cannot be read as a whole does nothing at all.
    let said = world
        .typed(&["apply", "-f", "-"], "kind: ci\nname: e\nclass: vm\n---\nkind: ci\nnmae: f\n");
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("nmae") && said.err.contains("nothing was done"), "{}", said.err);
    assert!(!world.ok(&["get", "cis"]).contains("\ne "));
}

#[test]
fn what_changes_is_shown_as_it_changes() {
    let world = World::new();
    world.ok(&["create", "ci", "web-1", "--class", "vm", "-l", "env=test"]);

    let mut watching = Watching(
        world.command(&["get", "cis", "--watch", "-o", "json", "-l", "env=test"]).spawn().unwrap(),
    );
    let lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let mut seen = lines.map(|line| -> Value { serde_json::from_str(&line.unwrap()).unwrap() });
    assert_eq!(seen.next().unwrap()["name"], "web-1");

    // Another one, one that is not wanted, and one that leaves.
    world.ok(&["create", "ci", "web-2", "--class", "vm", "-l", "env=prod"]);
    world.ok(&["create", "ci", "web-3", "--class", "vm", "-l", "env=test"]);
    assert_eq!(seen.next().unwrap()["name"], "web-3");
    let file = world.file("web-1.yaml", "{kind: ci, name: web-1, class: vm, labels: {env: prod}}");
    world.ok(&["apply", "-f", &file]);
    let left = seen.next().unwrap();
    assert_eq!((&left["name"], &left["labels"]["env"]), (&json!("web-1"), &json!("prod")));
}

/// A Debian system with one package, and an archive for its release that says nothing of it.
fn system(world: &World) -> String {
    let root = world.home.path().join("root");
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    fs::write(
        root.join("etc/os-release"),
        "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n",
    )
    .unwrap();
    fs::write(
        root.join("var/lib/dpkg/status"),
        "Package: web\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.0-1\n\
         Description: x\n\n",
    )
    .unwrap();
    let sources = world.data.path().join("sources");
    fs::create_dir_all(&sources).unwrap();
    // Nothing is fetched from anywhere: there is nothing at this place.
    fs::write(
        sources.join("debian-bookworm.sources"),
        "Types: deb\nURIs: file:/nowhere\nSuites: bookworm\nComponents: main\n",
    )
    .unwrap();
    root.display().to_string()
}

#[test]
fn a_missing_patch_is_told_accepted_and_described() {
    let world = World::new();
    let root = system(&world);
    let record = json!({
        "schema_version": "1.7.0", "id": "ACME-2026-1", "modified": "2026-11-20T00:00:00Z",
        "summary": "web answers anybody",
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": "web" },
            "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "2.0-1" }] }],
        }],
    });
    let record = world.file("acme.json", &record.to_string());
    assert!(
        world
            .ok(&["create", "advisory", &record, "--note", "found in a log"])
            .contains("advisory/ACME-2026-1 created")
    );

    // Somebody watches; a host joins, and tells what it has.
    let mut watching =
        Watching(world.command(&["get", "findings", "-w", "-o", "name"]).spawn().unwrap());
    let mut lines = BufReader::new(watching.0.stdout.take().unwrap()).lines();
    let made = world.json(&["create", "agent-token", "--uses", "1", "-o", "json"]);
    let token = made["token"].as_str().unwrap();
    let state = world.home.path().join("state").display().to_string();
    world.ok(&[
        "agent",
        "join",
        &world.up.agents,
        "--token",
        token,
        "--name",
        "web-1",
        "--state",
        &state,
    ]);
    world.ok(&["agent", "run", "--once", "--root", &root, "--state", &state]);
    let finding = lines.next().unwrap().unwrap();
    let finding = finding.strip_prefix("finding/").unwrap();

    insta::assert_snapshot!(
        "missing_findings",
        steady(&world.ok(&["get", "findings", "-o", "wide"]))
    );
    insta::assert_snapshot!("missing_patches", steady(&world.ok(&["get", "patches"])));
    insta::assert_snapshot!("missing_agents", steady(&world.ok(&["get", "agents"])));
    // The finding may be there a moment before the check that brought it is recorded.
    world.happened("ci.checked");
    let said = world.run(&["status", "--exit-code"]);
    assert_eq!(said.code, 3, "what is missing wins over what is unknown");
    let screen = steady(&said.out);
    insta::assert_snapshot!("missing_status", screen.split("\nLedger").next().unwrap());

    // Rehearsed, then accepted; whoever watches sees it.
    let accept = [
        "accept",
        finding,
        "--reason",
        "not reachable",
        "--owner",
        "Olga",
        "--until",
        "2099-01-01",
    ];
    let too_long = world.run(&accept);
    assert_eq!(too_long.code, 1, "{}", too_long.out);
    let day = in_a_month();
    let accept =
        ["accept", finding, "--reason", "not reachable", "--owner", "Olga", "--until", &day];
    let said = world.ok(&[&accept[..], &["--dry-run"]].concat());
    assert!(said.ends_with("at the risk of Olga (dry run)\n"), "{said}");
    assert!(world.json(&["get", "finding", finding, "-o", "json"])["acceptance"].is_null());
    let said = world.ok(&accept);
    assert_eq!(said, format!("web on web-1 accepted until {day} 23:59Z, at the risk of Olga\n"));
    assert_eq!(lines.next().unwrap().unwrap(), format!("finding/{finding}"));
    world.happened("finding.accepted");
    for (kind, name) in [
        ("finding", finding),
        ("patch", "web"),
        ("ci", "web-1"),
        ("advisory", "ACME-2026-1"),
        ("agent", "web-1"),
    ] {
        // Joining, pinning, looking, checking and accepting, after signing in and the first administrator.
        let mut told = world.described(kind, name, 12);
        if kind == "ci" {
            // The check runs beside what the agent goes on to tell: either comes first.
            let recorded = "  TIME  history.recorded  agt_ID\n";
            assert!(told.contains(recorded), "{told}");
            told = told.replace(recorded, "");
        }
        insta::assert_snapshot!(format!("describe_missing_{kind}"), told);
    }
    let said = world.ok(&["accept", finding, "--end"]);
    assert_eq!(said, "web on web-1 not accepted any more\n");
    let said = world.ok(&["delete", "agent", "web-1", "--yes"]);
    assert_eq!(said, "agent/web-1 revoked\n");
}

/// A day within the time for which a risk may be accepted.
fn in_a_month() -> String {
    let output = Command::new("date").args(["-u", "-d", "30 days", "+%Y-%m-%d"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A process that ends with the test.
#[test]
fn signing_in_and_out() {
    let world = World::new();
    let contexts = world.home.path().join(".config/patchwright/contexts.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&contexts), 0o600);
    assert_eq!(mode(contexts.parent().unwrap()), 0o700);
    let url = world.up.console.clone();

    // A wrong password is told so, and what was there stays.
    let said = world.typed(&["login", &url], "admin\nwrong but long enough\n");
    assert_eq!(said.code, 1);
    assert_eq!(
        said.err,
        format!("error: login or password is wrong\n  help: an admin can give you access anew\n")
    );
    assert!(!world.ok(&["get", "tenants", "-o", "name"]).contains("error"));
    let said = world.typed(&["login", "http://cloud.example"], "admin\nwrong but long enough\n");
    assert_eq!(said.code, 2, "{}", said.err);
    assert!(said.err.contains("without TLS"), "{}", said.err);

    // A token of one's own, in a context of its own: for reading, and it does not write.
    let answer = world.ok(&["create", "token", "script"]);
    let secret =
        answer.split_whitespace().find(|word| word.starts_with("pwt_")).unwrap().to_owned();
    let token = ["login", &url, "--context", "script", "--token-stdin"];
    assert_eq!(world.typed(&token, "pwt_wrong\n").code, 1);
    let said = world.typed(&token, &format!("{secret}\n"));
    assert_eq!(said.code, 0, "{}", said.err);
    insta::assert_snapshot!("context_list", steady(&world.ok(&["context", "list"])));
    let said = world.run(&["create", "ci", "web", "--class", "vm"]);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!("not_permitted", steady(&said.err));
    assert!(
        world
            .ok(&["create", "ci", "web", "--class", "vm", "--context", "default"])
            .contains("created")
    );
    assert_eq!(world.ok(&["context", "use", "default"]), "context  default\n");
    assert_eq!(world.ok(&["context", "delete", "script"]), "context/script forgotten\n");

    // Variables go before contexts.
    let mut command = world.command(&["get", "cis", "-o", "name"]);
    command.env("HOME", "/nowhere").env("PATCHWRIGHT_URL", &url).env("PATCHWRIGHT_TOKEN", &secret);
    assert_eq!(said_ok(command).lines().count(), 1);
    assert_eq!(world.ok(&["delete", "token", "script", "--yes"]), "token/script revoked\n");
    let mut command = world.command(&["get", "cis"]);
    command.env("PATCHWRIGHT_URL", &url).env("PATCHWRIGHT_TOKEN", &secret);
    let refused = self::said(command, "");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("patchwright login"), "{}", refused.err);

    // Out: the session is over there, too.
    let kept: Value = serde_json::from_slice(&fs::read(&contexts).unwrap()).unwrap();
    let session = kept["contexts"]["default"]["secret"].as_str().unwrap().to_owned();
    assert_eq!(steady(&world.ok(&["logout"])), "signed out  http://HERE\n");
    assert_eq!(world.up.ask(&session, "GET", "/session", &Value::Null, "").unwrap().0, 401);
    assert!(!fs::read_to_string(&contexts).unwrap().contains("pws_"));
    let said = world.run(&["get", "cis"]);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!("signed_out", steady(&said.err));
}

fn said_ok(command: Command) -> String {
    let said = said(command, "");
    assert_eq!(said.code, 0, "{}", said.err);
    said.out
}

#[test]
fn a_code_is_asked_for_where_somebody_set_that_up() {
    let world = World::new();
    let session = world.up.sign_in();
    let (status, setup) =
        world.up.ask(&session, "POST", "/session/codes", &Value::Null, "").unwrap();
    assert_eq!(status, 201, "{setup}");
    let secret = totp_rs::Secret::try_from_base32(setup["secret"].as_str().unwrap()).unwrap();
    let totp = totp_rs::Builder::new().with_secret(secret).build_noncompliant();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Each code is good once, and this one is for setting up.
    let body = json!({ "code": totp.generate(now).to_string() });
    let mut confirmed = ureq::put(format!("{}/api/v1/session/codes", world.up.console))
        .header("authorization", format!("Bearer {session}"))
        .header("content-type", "application/json")
        .send(body.to_string())
        .unwrap();
    let recovery: Value =
        serde_json::from_str(&confirmed.body_mut().read_to_string().unwrap()).unwrap();
    let recovery = recovery["recovery_codes"][0].as_str().unwrap();

    let login = ["login", &world.up.console, "--login", "admin"];
    let without = world.typed(&login, PASSWORD);
    assert_eq!((without.code, without.out.as_str()), (2, ""));
    assert!(without.err.contains("there is no code on standard input"), "{}", without.err);
    let said = world.typed(&login, &format!("{PASSWORD}\n{recovery}\n"));
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(world.ok(&["get", "tenants"]).contains("provider"));
    assert_eq!(world.typed(&login, &format!("{PASSWORD}\n{recovery}\n")).code, 1, "it is spent");
}

#[test]
fn another_tenants_people_see_nothing_of_others() {
    let world = World::new();
    let file = world.file("cloud.yaml", CLOUD);
    world.ok(&["apply", "-f", &file]);
    world.ok(&["create", "tenant", "other", "--model", "paas"]);
    let role = ["create", "user", "otto", "--role", "tenant_owner", "--tenant", "other"];
    let said = world.typed(&role, OWNERS_PASSWORD);
    assert_eq!(said.code, 0, "{}", said.err);
    let acme = world.json(&["get", "ci", "web-1", "-o", "json"])["id"].as_str().unwrap().to_owned();
    let url = world.up.console.clone();
    let said = world.typed(&["login", &url], &format!("otto\n{OWNERS_PASSWORD}\n"));
    assert_eq!(said.code, 0, "{}", said.err);

    for kind in ["cis", "groups", "findings"] {
        assert_eq!(world.json(&["get", kind, "-o", "json"])["items"], json!([]), "{kind}");
    }
    let slugs = world.json(&["get", "tenants", "-o", "json"]);
    assert_eq!(slugs["items"].as_array().unwrap().len(), 1);
    for wanted in ["web-1", "acme/web-1", &acme] {
        let said = world.run(&["describe", "ci", wanted]);
        assert_eq!(said.code, 1, "{wanted}");
        assert!(said.out.is_empty() && said.err.contains("there is no"), "{wanted}: {}", said.err);
    }
    assert_eq!(world.run(&["delete", "ci", &acme, "--yes"]).code, 1);
    let events = world.json(&["get", "events", "-o", "json"]).to_string();
    assert!(!events.contains(&acme) && !events.contains("olga"), "{events}");
    let status = world.json(&["status", "-o", "json"]);
    assert_eq!(status["status"]["items"], 0);
}

#[test]
fn a_private_ca_is_believed_where_it_was_named_and_nobody_else_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = file("own.crt", &own.cert.pem());
    let key = file("own.key", &own.signing_key.serialize_pem());
    let stranger = file("other.crt", &other.cert.pem());
    let up = Up::start_with(
        &directory.path().join("data"),
        &["--tls-cert", &certificate, "--tls-key", &key],
        &[],
    )
    .unwrap();
    let port = up.console.rsplit(':').next().unwrap().to_owned();
    let world = World { up, home: tempfile::tempdir().unwrap(), data: directory };
    let url = format!("https://localhost:{port}");
    let login = |more: &[&str]| {
        world.typed(&[&["login", &url, "--login", "admin"], more].concat(), PASSWORD)
    };

    for more in [&[][..], &["--ca", &stranger], &["--ca", &key]] {
        let said = login(more);
        assert_eq!(said.code, 1, "{}", said.out);
        assert!(said.err.contains("help:"), "{}", said.err);
    }
    let said = login(&["--ca", &certificate]);
    assert_eq!(said.code, 0, "{}", said.err);
    // It is kept: the file is not needed any more.
    fs::remove_file(&certificate).unwrap();
    assert!(world.ok(&["get", "tenants"]).contains("provider"));
    assert_eq!(login(&[]).code, 0, "nor to sign in again");
}

#[test]
fn the_state_of_the_cloud_is_on_one_screen() {
    let world = World::new();
    assert_eq!(world.run(&["status", "--exit-code"]).code, 4, "nothing is known of nothing");
    let file = world.file("cloud.yaml", CLOUD);
    world.ok(&["apply", "-f", &file]);

    let said = world.run(&["status", "--exit-code"]);

    assert_eq!(said.code, 4, "an item that nobody checked is unknown");
    let screen = steady(&said.out);
    let screen: String =
        screen.lines().take_while(|line| *line != "Ledger").flat_map(|line| [line, "\n"]).collect();
    insta::assert_snapshot!("status", screen);
    assert!(said.out.contains("\nLedger\n  entries:"), "{}", said.out);
    assert_eq!(world.run(&["status"]).code, 0);
    let of_one = world.json(&["status", "--tenant", "acme", "-o", "json"]);
    assert_eq!(of_one["status"]["items"], 1);
    let of_group = world.json(&["status", "--group", "production", "-o", "json"]);
    assert_eq!(of_group["status"]["items"], 1);
}

#[test]
fn mistakes_are_told_with_a_way_out() {
    let home = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command
            .args(arguments)
            .env_clear()
            .env("HOME", home.path())
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        said(command, "")
    };
    // A port that was free a moment ago, and has nobody listening.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    let gone = [("PATCHWRIGHT_URL", url.as_str()), ("PATCHWRIGHT_TOKEN", "pwt_1")];

    let said = run(&["get", "cis"], &[]);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!("nobody_signed_in", said.err);
    let said = run(&["get", "cis"], &gone);
    assert_eq!(said.code, 1);
    insta::assert_snapshot!("no_server", steady(&said.err));
    for usage in [
        &["get", "cats"][..],
        &["get", "tenants", "--ci", "x"],
        &["get", "relations"],
        &["get", "agent-tokens"],
        &["get", "cis", "x", "--class", "vm"],
        &["delete", "tenant", "x", "--yes"],
        &["accept", "fnd_1"],
        &["accept", "x", "--reason", "r", "--owner", "o", "--until", "2026-12-31"],
        &["create", "ci", "x"],
    ] {
        let said = run(usage, &gone);
        assert_eq!(said.code, 2, "{usage:?}: {}", said.err);
        assert!(said.out.is_empty());
    }
}

#[test]
fn shells_and_the_manual_know_the_commands() {
    let run = |arguments: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_patchwright")).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    for shell in ["bash", "zsh", "fish"] {
        assert!(run(&["completions", shell]).contains("describe"), "{shell}");
    }
    assert!(run(&["man"]).contains(".TH patchwright 1"));
    let pages = tempfile::tempdir().unwrap();
    run(&["man", "--out", &pages.path().join("man1").display().to_string()]);
    let page = fs::read_to_string(pages.path().join("man1/patchwright-context-use.1")).unwrap();
    assert!(
        page.contains("patchwright context use") || page.contains("patchwright\\-context\\-use")
    );
}

/// What is exported is imported elsewhere as it was; what is there already stays.
#[test]
fn items_go_in_and_out_by_the_file() {
    let world = World::new();
    let said = world.run(&["create", "tenant", "acme", "--model", "iaas"]);
    assert_eq!(said.code, 0, "{}", said.err);
    let table = "name,class,tenant,label.env,runs_on\n\
                 node-1,hypervisor,provider,,\n\
                 web 1,vm,acme,prod,node-1\n\
                 \"odd, =name\",vm,acme,,node-1\n";
    let file = world.file("cloud.csv", table);

    let dry = world.ok(&["import", &file, "--dry-run"]);
    assert!(dry.starts_with("3 items created, 0 there already  (dry run)"), "{dry}");
    assert_eq!(
        world.ok(&["import", &file]),
        "3 items created, 0 there already\n2 relations created\n"
    );
    assert_eq!(world.ok(&["import", &file]), "0 items created, 3 there already\n");

    let csv = world.ok(&["export", "--tenant", "acme"]);
    assert_eq!(
        csv,
        "tenant,class,name,runs_on,label.env\n\
         acme,vm,\"odd, =name\",node-1,\n\
         acme,vm,web 1,node-1,prod\n"
    );
    let lines = world.ok(&["export", "-o", "jsonl"]);
    let elsewhere = World::new();
    elsewhere.ok(&["create", "tenant", "acme", "--model", "iaas"]);
    let file = elsewhere.file("cloud.jsonl", &lines);
    elsewhere.ok(&["import", &file]);
    assert_eq!(elsewhere.ok(&["export", "-o", "jsonl", "--tenant", "acme"]).lines().count(), 2);
    assert_eq!(elsewhere.ok(&["export", "--tenant", "acme"]), csv);

    let wrong = world.file("wrong.csv", "class,name\nvm,new-1\nvmm,new-2\n");
    let said = world.run(&["import", &wrong]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("line 3: `vmm` is not a Class"), "{}", said.err);
    assert!(!world.ok(&["get", "cis", "-o", "name"]).contains("new-1"));
    assert_eq!(world.run(&["get", "ci", "new-1"]).code, 1, "nothing of a wrong file is taken up");
}

/// libvirt's own test driver, by its own client.
#[test]
fn the_domains_of_a_libvirt_host_become_items() {
    if Command::new("virsh").arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "`cargo xtask test` installs virsh");
        eprintln!("SKIPPED: virsh is not installed (libvirt-clients)");
        return;
    }
    let world = World::new();
    world.ok(&["create", "ci", "node-1", "--class", "hypervisor"]);
    let path = std::env::var("PATH").unwrap();
    let import = |uri: &str| {
        let mut command = world.command(&["import", "--libvirt", uri, "--host", "node-1"]);
        said(
            {
                command.env("PATH", &path);
                command
            },
            "",
        )
    };

    let done = import("test:///default");
    assert_eq!((done.code, done.err.as_str()), (0, ""), "{}", done.out);
    assert_eq!(done.out, "1 item created, 0 there already\n1 relation created\n");
    let ci = world.json(&["get", "ci", "test", "-o", "json"]);
    assert_eq!(ci["labels"]["libvirt/uuid"], "6695eb01-f6a4-8304-79aa-97f2502e193f");

    let refused = import("nonsense:///x");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("`virsh` cannot list the domains"), "{}", refused.err);
}
