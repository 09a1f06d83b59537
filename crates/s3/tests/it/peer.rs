//! moto's S3 server, installed by `cargo xtask test` into `target/s3`, behind a door that checks signatures and checksums.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "helpers of tests of several rooms, of which each uses its part"
)]

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::{env, fs};

use tempfile::TempDir;

/// A running server with a bucket; ended where it is dropped.
pub(crate) struct Peer {
    child: Child,
    folder: TempDir,
    pub(crate) port: u16,
}

impl Peer {
    /// `None` where it is not installed; the test says that it is skipped then.
    pub(crate) fn start() -> Option<Self> {
        let rooms = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = rooms.join("../target/s3/bin/python3");
        if !python.exists() {
            eprintln!("SKIPPED: no S3 server is installed; `cargo xtask test` does that");
            return None;
        }
        let mut child = Command::new(python)
            .arg("-B")
            .arg(rooms.join("s3/tests/peers/store.py"))
            .arg("a-bucket")
            // It must ask nobody else.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            // So that a list has pages without thousands of objects.
            .env("MOTO_S3_DEFAULT_MAX_KEYS", "7")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let digits = said.chars().filter(char::is_ascii_digit).collect::<String>();
        let port = digits.parse().expect("the server says its port");
        Some(Self { child, folder: tempfile::tempdir().unwrap(), port })
    }

    /// A file with credentials.
    pub(crate) fn credentials(&self, name: &str, secret: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        let text = format!("AWS_ACCESS_KEY_ID=known\nAWS_SECRET_ACCESS_KEY={secret}\n");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// An address at it, with the credentials that it knows.
    pub(crate) fn address(&self, prefix: &str) -> String {
        let credentials = self.credentials("known", "a/secret+of=ours");
        self.address_with("a-bucket", prefix, &credentials)
    }

    pub(crate) fn address_with(&self, bucket: &str, prefix: &str, credentials: &Path) -> String {
        format!(
            "s3://{bucket}/{prefix}?endpoint=http://127.0.0.1:{}&credentials={}",
            self.port,
            credentials.display()
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
