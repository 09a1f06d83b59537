//! Servers and repositories, here and for the control plane's tests.

#![allow(dead_code, clippy::unwrap_used, reason = "of which each test uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;

use domain::configuration::secret::FingerprintKey;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, SanType,
};
use reach::Reach;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What our own host is reached by.
pub(crate) fn here() -> Reach {
    Reach::also(vec!["127.0.0.0/8".parse().unwrap()])
}

pub(crate) fn key() -> FingerprintKey {
    FingerprintKey::from([7; 32])
}

/// A request, with its body.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// What is answered: a whole answer, from its first line on.
type Answer = Vec<u8>;

/// A server on loopback that ends with the test.
pub(crate) struct Server(pub(crate) SocketAddr);

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answer = Arc::clone(&answer);
                thread::spawn(move || {
                    if let Some(request) = read(&stream) {
                        let _ = (&stream).write_all(&answer(&request));
                    }
                });
            }
        });
        Self(address)
    }

    /// The same over TLS, with a certificate of an authority's.
    pub(crate) fn start_tls(
        authority: &Authority,
        answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tls, answer) = (authority.server(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (tls, answer) = (Arc::clone(&tls), Arc::clone(&answer));
                thread::spawn(move || {
                    let connection = ServerConnection::new(tls).unwrap();
                    let mut stream = StreamOwned::new(connection, stream);
                    // Who does not trust us asks nothing.
                    if let Some(request) = read(&mut stream) {
                        let _ = stream.write_all(&answer(&request));
                        stream.conn.send_close_notify();
                        let _ = stream.flush();
                    }
                });
            }
        });
        Self(address)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0)
    }

    pub(crate) fn https(&self, path: &str) -> String {
        format!("https://{}{path}", self.0)
    }
}

/// An authority of somebody's own.
pub(crate) struct Authority {
    pub(crate) pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// One that counts for so many days.
    pub(crate) fn new(name: &str, days: i64) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = time::OffsetDateTime::now_utc() + time::Duration::days(days);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: Issuer::new(params, key) }
    }

    /// A server of this machine, with a certificate of its.
    fn server(&self) -> Arc<ServerConfig> {
        let own = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
        let certificate = params.signed_by(&own, &self.issuer).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key);
        Arc::new(config.unwrap())
    }
}

fn read(stream: impl io::Read) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.insert(name.to_lowercase(), value.to_owned());
    }
    let mut body = Vec::new();
    if let Some(length) = headers.get("content-length") {
        body.resize(length.parse().ok()?, 0);
        reader.read_exact(&mut body).ok()?;
    } else if headers.get("transfer-encoding").is_some_and(|it| it == "chunked") {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let length = usize::from_str_radix(line.trim(), 16).ok()?;
            let mut chunk = vec![0; length + 2];
            reader.read_exact(&mut chunk).ok()?;
            if length == 0 {
                break;
            }
            body.extend_from_slice(&chunk[..length]);
        }
    }
    Some(Request { method, path, query, headers, body })
}

/// An answer with a body and further headers.
pub(crate) fn answer(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut text = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        text.extend([*name, ": ", *value, "\r\n"]);
    }
    text.push_str("connection: close\r\n\r\n");
    [text.as_bytes(), body].concat()
}

/// Answers as git's own `http-backend` does, for repositories below a directory.
pub(crate) fn git_http(root: PathBuf) -> Server {
    Server::start(git_answers(root))
}

/// The same over TLS.
pub(crate) fn git_https(root: PathBuf, authority: &Authority) -> Server {
    Server::start_tls(authority, git_answers(root))
}

fn git_answers(root: PathBuf) -> impl Fn(&Request) -> Answer + Send + Sync + 'static {
    move |request| {
        let of = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
        if of("authorization") != format!("Basic {}", "b2JzZXJ2ZXI6dG9rM24tb2YtdGhlLW9ic2VydmVy") {
            return answer("401 Unauthorized", &[("www-authenticate", "Basic")], b"who are you?");
        }
        let mut backend = git(&root)
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", &request.method)
            .env("PATH_INFO", &request.path)
            .env("QUERY_STRING", &request.query)
            .env("CONTENT_TYPE", of("content-type"))
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut input = backend.stdin.take().unwrap();
        let body = request.body.clone();
        let writing = thread::spawn(move || {
            let _ = input.write_all(&body);
        });
        let said = backend.wait_with_output().unwrap().stdout;
        writing.join().unwrap();
        let end = said.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&said[..end]).into_owned();
        let mut status = "200 OK".to_owned();
        let mut headers = Vec::new();
        for line in head.lines() {
            let (name, value) = line.split_once(": ").unwrap();
            if name == "Status" {
                value.clone_into(&mut status);
            } else {
                headers.push((name, value));
            }
        }
        answer(&status, &headers, &said[end + 4..])
    }
}

/// `git` with nobody's settings.
pub(crate) fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@acme.example")
        .env("GIT_COMMITTER_NAME", "Bob")
        .env("GIT_COMMITTER_EMAIL", "bob@acme.example")
        .env("GIT_AUTHOR_DATE", "1764547200 +0100")
        .env("GIT_COMMITTER_DATE", "1764547260 +0000");
    command
}

/// A repository that is worked in.
pub(crate) struct Repository {
    pub(crate) root: tempfile::TempDir,
}

impl Repository {
    pub(crate) fn new() -> Self {
        let repository = Self { root: tempfile::tempdir().unwrap() };
        repository.git(&["init", "-q", "-b", "main", "app"]);
        repository
    }

    pub(crate) fn place(&self) -> PathBuf {
        self.root.path().join("app")
    }

    /// Runs git in it; what it prints.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let place = self.place();
        let place = if place.exists() { place.as_path() } else { self.root.path() };
        let output = git(place).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(crate) fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.place().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Commits all that is there; the commit's name.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }
}
