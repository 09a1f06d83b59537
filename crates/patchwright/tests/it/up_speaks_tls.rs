//! The control plane with a certificate of its own: it may be reached from elsewhere, and only over
//! TLS.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

const PASSWORD: &str = "a password of many words";

/// A certificate for `localhost`, and its key.
fn certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let file = |ending: &str| directory.join(format!("{name}.{ending}"));
    fs::write(file("crt"), made.cert.pem()).unwrap();
    fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
    (file("crt"), file("key"))
}

fn up(data: &Path, certificate: &Path, key: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
    command
        .args(["up", "--no-check", "--agents", "127.0.0.1:0", "--data"])
        .arg(data)
        .arg("--tls-cert")
        .arg(certificate)
        .arg("--tls-key")
        .arg(key)
        .env_remove("PATCHWRIGHT_DATABASE")
        .env("PATCHWRIGHT_PASSWORD", PASSWORD);
    command
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts it, and gives the port that it listens on.
fn start(data: &Path, certificate: &Path, key: &Path) -> (Running, u16) {
    let mut command = up(data, certificate, key);
    command.args(["--listen", "0.0.0.0:0"]).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let running = Running(process);
    let console =
        lines.map(Result::unwrap).find(|line| line.trim().starts_with("console")).unwrap();
    assert!(console.contains("https://"), "{console}");
    let port = console.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    (running, port)
}

/// Somebody who believes these certificates and no others.
fn client(believed: Vec<Certificate<'static>>) -> ureq::Agent {
    let tls = TlsConfig::builder().root_certs(RootCerts::Specific(Arc::new(believed))).build();
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls)
        .build();
    ureq::Agent::new_with_config(config)
}

#[test]
fn with_a_certificate_it_may_be_reached_from_elsewhere_and_only_over_tls() {
    let directory = tempfile::tempdir().unwrap();
    let (own, key) = certificate(directory.path(), "own");
    let (_running, port) = start(&directory.path().join("data"), &own, &key);
    let address = |path: &str| format!("https://localhost:{port}{path}");
    let believed = Certificate::from_pem(&fs::read(&own).unwrap()).unwrap();
    let client_of_ours = client(vec![believed]);

    let healthy = client_of_ours.get(address("/healthz")).call().unwrap();
    assert_eq!(healthy.status(), 200);
    assert!(
        client(Vec::new()).get(address("/healthz")).call().is_err(),
        "strangers do not believe"
    );

    // The cookie is for TLS alone, whatever the caller says about the connection.
    let signed_in = client_of_ours
        .post(address("/login"))
        .header("sec-fetch-site", "same-origin")
        .header("x-forwarded-proto", "http")
        .send_form([("login", "admin"), ("password", PASSWORD)])
        .unwrap();
    let cookie = signed_in.headers()["set-cookie"].to_str().unwrap();
    assert!(cookie.contains("; Secure"), "{cookie}");
    assert!(cookie.contains("HttpOnly"), "{cookie}");

    // Without TLS nobody gets an answer.
    let mut plain = TcpStream::connect(("127.0.0.1", port)).unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    // The other side may end it before all is read.
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
}

#[test]
fn a_certificate_that_is_no_good_is_told_before_anything_is_made() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (own, key) = certificate(directory.path(), "own");
    let (_, other_key) = certificate(directory.path(), "other");
    let missing = directory.path().join("missing");

    for (certificate, key, word) in [
        (&own, &other_key, "cannot be used together"),
        (&own, &missing, "cannot read"),
        (&own, &own, "no private key"),
        (&key, &key, "no certificate"),
    ] {
        let output = up(&data, certificate, key).args(["--listen", "0.0.0.0:0"]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains(word) && told.contains("help:"), "{told}");
    }
    assert!(!data.exists());

    let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
        .args(["up", "--tls-cert", "x"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn it_goes_on_where_nobody_reads_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let (own, key) = certificate(directory.path(), "own");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    // It cannot say where it listens.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = up(&directory.path().join("data"), &own, &key);
    command.args(["--listen", &format!("127.0.0.1:{free}")]).stdout(writer);
    let mut running = Running(command.spawn().unwrap());

    let client = client(vec![Certificate::from_pem(&fs::read(&own).unwrap()).unwrap()]);
    let address = format!("https://localhost:{free}/healthz");
    let begin = std::time::Instant::now();
    while client.get(&address).call().is_err() {
        assert!(running.0.try_wait().unwrap().is_none(), "it ended");
        assert!(begin.elapsed().as_secs() < 60, "it does not answer");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(running.0.try_wait().unwrap().is_none(), "it ended");
}
