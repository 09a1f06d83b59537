//! A temporary PostgreSQL on a socket of its own, from the system's programs; ends with the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

/// How the directories of temporary servers are called, before the number of their process.
const PREFIX: &str = "patchwright-pg-";

/// A temporary PostgreSQL on a Unix socket.
pub(crate) struct Postgres {
    directory: PathBuf,
    databases: AtomicU64,
}

impl Postgres {
    /// For the life of the test process.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// The address of an empty database of its own.
    pub(crate) fn database(&self) -> String {
        self.database_like("template1")
    }

    /// The address of a database of its own, with what is in one to which nobody is connected.
    pub(crate) fn database_like(&self, template: &str) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::SeqCst));
        self.sql(&format!("CREATE DATABASE {name} TEMPLATE {template}"));
        self.address(&name)
    }

    /// What a statement answers.
    pub(crate) fn sql(&self, statement: &str) -> String {
        let output = Command::new(binaries().join("psql"))
            .args(["-qtA", "-U", "patchwright", "-d", "postgres", "-h"])
            .arg(&self.directory)
            .args(["-c", statement])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "{statement}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// One of its own, for who does to it what others would notice.
    pub(crate) fn start() -> Self {
        let directory = Self::directory();
        let data = directory.join("data");
        let made = server("initdb")
            .args(["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"])
            .args(["-U", "patchwright", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success(), "initdb failed");
        Self::serve(directory)
    }

    /// An empty directory that belongs to the server's user.
    pub(crate) fn directory() -> PathBuf {
        remove_leftovers();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap().keep();
        if is_root() {
            assert!(
                Command::new("chown").arg("postgres:").arg(&directory).status().unwrap().success()
            );
        }
        directory
    }

    /// Serves what is in `data` of a directory.
    pub(crate) fn serve(directory: PathBuf) -> Self {
        let data = directory.join("data");
        let (started, starting) = mpsc::channel();
        let socket = directory.clone();
        // The server ends with the thread that started it: this one stays for good.
        thread::spawn(move || {
            let mut server = server("postgres")
                .arg("-D")
                .arg(&data)
                .args(["-c", "listen_addresses=", "-c", "max_connections=200"])
                // No test takes the power away, and what is written is gone with the process.
                .args(["-c", "fsync=off", "-c", "full_page_writes=off"])
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

    /// Where its socket is, and below it its data.
    pub(crate) fn place(&self) -> &Path {
        &self.directory
    }

    /// The address of a database that it has.
    pub(crate) fn address(&self, name: &str) -> String {
        let host = self.directory.to_string_lossy().replace('/', "%2F");
        format!("postgres://patchwright@{host}/{name}")
    }

    /// Ends without a last word to its disk, and the disk with it.
    pub(crate) fn lose(self) {
        let mut stop = server("pg_ctl");
        stop.arg("-D").arg(self.directory.join("data")).args(["stop", "-s", "-m", "immediate"]);
        assert!(stop.status().unwrap().success());
        std::fs::remove_dir_all(&self.directory).unwrap();
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
pub(crate) fn server(program: &str) -> Command {
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
pub(crate) fn binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| entry.file_name().to_string_lossy().parse::<u32>().ok())
        .max()
        .expect(
            "PostgreSQL is installed: `cargo xtask test` sees to it, or apt install postgresql",
        );
    Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin")
}
