//! The control plane as a process.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests, of which each file uses its part"
)]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

pub(crate) const PASSWORD: &str = "a password of many words";

/// A running `patchwright up`; killed where it is dropped.
pub(crate) struct Up {
    pub(crate) process: Child,
    pub(crate) console: String,
    pub(crate) key: String,
    pub(crate) agents: String,
    pub(crate) proxy: Option<String>,
}

impl Up {
    pub(crate) fn start(data: &Path) -> Self {
        Self::start_with(data, &[], &[]).expect("it starts")
    }

    /// With further arguments and variables; `None` where it ends before it is up.
    pub(crate) fn start_with(
        data: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
    ) -> Option<Self> {
        Self::start_telling(data, arguments, variables, Stdio::inherit())
    }

    /// The same, with what it says beside its output going somewhere.
    pub(crate) fn start_telling(
        data: &Path,
        arguments: &[&str],
        variables: &[(&str, &str)],
        log: Stdio,
    ) -> Option<Self> {
        let mut process = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(["up", "--no-check", "--listen", "127.0.0.1:0", "--agents", "127.0.0.1:0"])
            .arg("--data")
            .arg(data)
            .args(arguments)
            .env_remove("PATCHWRIGHT_DATABASE")
            .env("PATCHWRIGHT_PASSWORD", PASSWORD)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut found = BTreeMap::new();
        for line in BufReader::new(process.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            if let Some((name, value)) = line.trim().split_once("  ") {
                found.insert(name.to_owned(), value.trim().to_owned());
            }
            if found.contains_key("data") {
                break;
            }
        }
        if !found.contains_key("data") {
            process.wait().unwrap();
            return None;
        }
        let console = found["console"].trim_end_matches('/').to_owned();
        Some(Self {
            process,
            console,
            key: found["ledger"].clone(),
            agents: found["agents"].clone(),
            proxy: found.get("proxy").cloned(),
        })
    }

    /// `None` where the server went away before it answered.
    pub(crate) fn ask(
        &self,
        token: &str,
        method: &str,
        path: &str,
        body: &Value,
        key: &str,
    ) -> Option<(u16, Value)> {
        let agent = ureq::Agent::new_with_config(
            ureq::Agent::config_builder()
                .http_status_as_error(false)
                .timeout_global(Some(Duration::from_secs(60)))
                .build(),
        );
        let address = format!("{}/api/v1{path}", self.console);
        let authorization = format!("Bearer {token}");
        let mut response = if method == "GET" {
            agent.get(address).header("authorization", authorization).call().ok()?
        } else {
            agent
                .post(address)
                .header("authorization", authorization)
                .header("content-type", "application/json")
                .header("idempotency-key", key)
                .send(body.to_string())
                .ok()?
        };
        let text = response.body_mut().read_to_string().ok()?;
        Some((response.status().as_u16(), serde_json::from_str(&text).ok()?))
    }

    pub(crate) fn sign_in(&self) -> String {
        let body = json!({ "login": "admin", "password": PASSWORD });
        let (status, session) = self.ask("", "POST", "/session", &body, "sign-in").unwrap();
        assert_eq!(status, 201, "{session}");
        session["secret"].as_str().unwrap().to_owned()
    }

    pub(crate) fn all_names(&self, token: &str) -> Vec<String> {
        let mut names = Vec::new();
        let mut after = String::new();
        loop {
            let path = format!("/cis?limit=1000{after}");
            let (_, page) = self.ask(token, "GET", &path, &Value::Null, "").unwrap();
            let items = page["items"].as_array().unwrap();
            names.extend(items.iter().map(|ci| ci["name"].as_str().unwrap().to_owned()));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return names,
            }
        }
    }
}

impl Up {
    /// Sends it a signal and waits for its end; whether that was an orderly one.
    pub(crate) fn end(mut self, signal: &str) -> bool {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
        self.process.wait().unwrap().success()
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn verify(data: &Path, key: &str, kept: &Path, since: bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
    command.args(["ledger", "verify"]).arg(data.join("ledger")).args(["--key", key]);
    if since {
        command.arg("--since").arg(kept);
    }
    let output = command.arg("--keep").arg(kept).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
