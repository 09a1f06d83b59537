//! The drill's control plane, a process of its own, and the people who use it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use crate::client::connection::{Change, Connection};
use crate::client::secret::Secret;
use crate::failure::helped;
use crate::up::new_password;

/// The first administrator.
pub(super) const ADMIN: &str = "admin";

/// A control plane that runs; ended when dropped.
pub(super) struct Plane {
    process: Child,
    program: PathBuf,
    data: PathBuf,
    ports: [u16; 2],
    password: Secret,
    /// The ledger's key.
    pub(super) key: String,
}

/// Somebody who is signed in.
pub(super) struct Person {
    /// What they sign in as.
    pub(super) login: String,
    connection: Connection,
    secret: Secret,
    url: String,
    program: PathBuf,
    home: PathBuf,
}

impl Plane {
    /// Starts one, with nothing in it but the archives that it follows.
    pub(super) fn start(program: &Path, data: &Path, sources: &str) -> Result<Self> {
        fs::create_dir_all(data.join("sources"))?;
        fs::write(data.join("sources/debian.sources"), sources)?;
        let password = Secret::new(new_password()?);
        let ports = free_ports()?;
        let (process, key) = launch(program, data, ports, &password)?;
        let (program, data) = (program.to_owned(), data.to_owned());
        Ok(Self { process, program, data, ports, password, key })
    }

    /// Kills it at once, as a crash of its machine does.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }

    /// Starts it again, with what it has.
    pub(super) fn start_again(&mut self) -> Result<()> {
        let (process, _) = launch(&self.program, &self.data, self.ports, &self.password)?;
        self.process = process;
        Ok(())
    }

    /// Where agents in virtual machines reach it.
    pub(super) fn for_agents(&self) -> String {
        format!("https://10.0.2.2:{}", self.ports[1])
    }

    /// Where agents on this machine reach it.
    pub(super) fn for_neighbours(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[1])
    }

    /// Where its console opens.
    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports[0])
    }

    /// Its data directory.
    pub(super) fn data(&self) -> &Path {
        &self.data
    }

    /// Signs the administrator in.
    pub(super) fn admin(&self) -> Result<Person> {
        self.sign_in(ADMIN, &self.password)
    }

    /// Signs somebody in.
    pub(super) fn sign_in(&self, login: &str, password: &Secret) -> Result<Person> {
        let url = self.url();
        let stranger = Connection::new(&url, None, None)?;
        let body = json!({ "login": login, "password": password.reveal() });
        let session =
            stranger.change(&Change { body: Some(&body), ..Change::of("POST", "/session") })?;
        let secret = session.body["secret"].as_str().context("no session was given")?;
        let secret = Secret::new(secret);
        let home = self.data.with_file_name(format!("home-{login}"));
        fs::create_dir_all(&home)?;
        Ok(Person {
            login: login.to_owned(),
            connection: Connection::new(&url, None, Some(secret.clone()))?,
            secret,
            url,
            program: self.program.clone(),
            home,
        })
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Two ports that nobody has right now.
fn free_ports() -> Result<[u16; 2]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port is free");
    // Both at once, so that they differ.
    let [first, second] = [bind()?, bind()?];
    Ok([first.local_addr()?.port(), second.local_addr()?.port()])
}

fn launch(
    program: &Path,
    data: &Path,
    ports: [u16; 2],
    password: &Secret,
) -> Result<(Child, String)> {
    let log = data.with_file_name("control-plane.log");
    let errors = File::options().append(true).create(true).open(&log)?;
    let mut process = Command::new(program)
        .args([
            "up",
            "--no-check",
            "--report-every",
            "10",
            "--lab-jobs",
            "2",
            "--agents-name",
            "10.0.2.2",
        ])
        .args(["--listen", &format!("127.0.0.1:{}", ports[0])])
        .args(["--agents", &format!("127.0.0.1:{}", ports[1])])
        .arg("--data")
        .arg(data)
        .env_remove("PATCHWRIGHT_DATABASE")
        .env("PATCHWRIGHT_PASSWORD", password.reveal())
        .stdout(Stdio::piped())
        .stderr(errors)
        .spawn()
        .with_context(|| format!("cannot start `{}`", program.display()))?;
    let said = process.stdout.take().context("it has no output")?;
    let mut told = BTreeMap::new();
    let mut lines = BufReader::new(said).lines();
    for line in lines.by_ref() {
        let line = line?;
        if let Some((name, value)) = line.trim().split_once("  ") {
            told.insert(name.to_owned(), value.trim().to_owned());
        }
        if told.contains_key("data") {
            break;
        }
    }
    let Some(key) = told.remove("ledger").filter(|_| told.contains_key("data")) else {
        let _ = process.kill();
        let _ = process.wait();
        let said = fs::read_to_string(&log).unwrap_or_default();
        return Err(helped(
            anyhow::anyhow!("{}", said.trim()).context("the control plane does not start"),
            format!("see {}", log.display()),
        ));
    };
    // What it says further must not fill the pipe.
    thread::spawn(move || lines.for_each(drop));
    Ok((process, key))
}

impl Person {
    /// Reads what is at a path below `/api/v1`.
    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.connection.get(path)
    }

    /// All items of a list.
    pub(super) fn list(&self, path: &str, query: &str) -> Result<Vec<Value>> {
        self.connection.items(path, query, 200).collect()
    }

    /// Makes a change.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        Ok(self.connection.change(&Change { body: Some(body), ..Change::of("POST", path) })?.body)
    }

    /// Asks what a change would do.
    pub(super) fn rehearse(&self, path: &str, body: &Value) -> Result<Value> {
        let change = Change { body: Some(body), dry_run: true, ..Change::of("POST", path) };
        Ok(self.connection.change(&change)?.body)
    }

    /// Sends a file.
    pub(super) fn upload(&self, path: &str, file: &Path) -> Result<Value> {
        let size = fs::metadata(file)?.len();
        self.connection.upload(path, File::open(file)?, size)
    }

    /// Types a command, as this person would; what it prints.
    pub(super) fn types(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?;
        if !output.status.success() {
            bail!(
                "`patchwright {}` of {}: {}",
                arguments.join(" "),
                self.login,
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn command(&self, arguments: &[&str]) -> Result<Output> {
        Command::new(&self.program)
            .args(arguments)
            .env("HOME", &self.home)
            .env_remove("XDG_CONFIG_HOME")
            .env("PATCHWRIGHT_URL", &self.url)
            .env("PATCHWRIGHT_TOKEN", self.secret.reveal())
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot start `{}`", self.program.display()))
    }

    /// A directory of theirs, where their keys lie.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }
}
