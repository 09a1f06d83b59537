//! A repository behind git's own server, followed by the whole product from a command line.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::configuration_is_kept::holds;
use crate::sources_support::{Repository, git_http};
use crate::up::Up;

const PROVIDER: &str = "ten_00000000000000000000000000";

const TOKEN: &str = "tok3n-of-the-observer";

/// How long something may take that has no reason to.
const PATIENCE: Duration = Duration::from_secs(60);

struct Cloud {
    up: Up,
    token: String,
    directory: tempfile::TempDir,
}

impl Cloud {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let opened = ["--sources-network", "127.0.0.0/8"];
        let up = Up::start_with(&directory.path().join("data"), &opened, &[]).unwrap();
        let token = up.sign_in();
        Self { up, token, directory }
    }

    fn client(&self, arguments: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(arguments)
            .env("HOME", self.directory.path())
            .env("PATCHWRIGHT_URL", &self.up.console)
            .env("PATCHWRIGHT_TOKEN", &self.token)
            .env("NO_COLOR", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// The source once it was recorded up to a commit.
    fn seen(&self, commit: &str) -> Value {
        let begun = Instant::now();
        loop {
            let source = self.client(&["source", "show", "web-1", "app", "-o", "json"]);
            let source: Value = serde_json::from_str(&source).unwrap();
            // How far it came is noted before the look ends.
            if source["progress"] == commit && source["state"] == "seen" {
                return source;
            }
            assert!(begun.elapsed() < PATIENCE, "nobody looks: {source}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_repository_is_followed() {
    let cloud = Cloud::start();
    let body = json!({ "tenant": PROVIDER, "class": "vm", "name": "web-1" });
    let (status, made) = cloud.up.ask(&cloud.token, "POST", "/cis", &body, "web-1").unwrap();
    assert_eq!(status, 201, "{made}");
    let repository = Repository::new();
    repository.write("conf/app.ini", "listen = 80\n");
    repository.write("README", "not wanted\n");
    let first = repository.commit("first");
    let server = git_http(repository.root.path().to_owned());
    let token = cloud.directory.path().join("token");
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let (url, token) = (server.url("/app/.git"), token.display().to_string());

    cloud.client(&[
        "source",
        "add",
        "git",
        "web-1",
        "app",
        "--url",
        &url,
        "--branch",
        "main",
        "--below",
        "conf",
        "--user",
        "observer",
        "--password-file",
        &token,
    ]);
    let source = cloud.seen(&first);
    assert_eq!((&source["state"], &source["files"]), (&json!("seen"), &json!(["/conf/**"])));
    let shown = cloud.client(&["config", "show", "web-1", "git:app/conf/app.ini"]);
    assert_eq!(shown, "listen = 80\n");

    repository.write("conf/app.ini", "listen = 8080\n");
    let second = repository.commit("second");
    cloud.client(&["source", "look", "web-1", "app"]);
    cloud.seen(&second);
    let difference = cloud.client(&["config", "diff", "web-1", "git:app/conf/app.ini"]);
    assert!(difference.contains("8080"), "{difference}");
    let log = cloud.client(&["config", "log", "web-1", "git:app/conf/app.ini"]);
    assert!(log.contains("Ada <ada@acme.example>"), "{log}");
    let listed = cloud.client(&["source", "list", "web-1"]);
    assert!(listed.contains("app") && listed.contains("seen"), "{listed}");

    cloud.client(&["source", "remove", "web-1", "app"]);
    assert!(!cloud.client(&["source", "list", "web-1"]).contains("app"));
    cloud.client(&["config", "show", "web-1", "git:app/conf/app.ini"]);
    let found = holds(&cloud.directory.path().join("data"), TOKEN.as_bytes());
    assert_eq!(found, None, "what opens it is sealed");
}
