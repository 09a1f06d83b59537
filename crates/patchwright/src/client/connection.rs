//! Requests to a control plane: what is sent, sent again, refused.

use std::io::{BufRead as _, BufReader, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use serde_json::Value;
use ureq::http::{Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Body, BodyReader, RequestBuilder, SendBody};

use super::secret::Secret;
use crate::failure::{find, helped, usage};

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long connecting may take.
const CONNECTING: Duration = Duration::from_secs(10);

/// How long a stream of events may be silent; the server says something every quarter of a minute.
const SILENCE: Duration = Duration::from_secs(60);

/// How long the server may take to read an image that it has got, or to ask a store what it has.
const READING: Duration = Duration::from_secs(600);

/// Largest answer read.
const LARGEST_ANSWER: u64 = 64 << 20;

/// Longest line of a stream of events.
const LONGEST_LINE: u64 = 4 << 20;

/// Waits before a request is sent again.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(200), Duration::from_millis(800), Duration::from_secs(2)];

/// Longest wait before a stream is opened again.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The control plane said no.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub(crate) struct Refused {
    /// HTTP status.
    pub(crate) status: u16,
    /// The problem's type, where there is one.
    pub(crate) kind: String,
    words: String,
}

/// Nothing of this name is in a list.
#[derive(Debug, thiserror::Error)]
#[error("there is no {kind} `{wanted}`")]
pub(crate) struct Missing {
    /// The word for one of what was looked for.
    pub(crate) kind: &'static str,
    /// Its name.
    pub(crate) wanted: String,
}

/// Whether an error says that there is no such thing; not that it could not be told.
pub(crate) fn is_missing(error: &anyhow::Error) -> bool {
    find::<Missing>(error).is_some()
        || find::<Refused>(error).is_some_and(|refused| refused.status == 404)
}

/// A connection to a control plane, as somebody.
pub(crate) struct Connection {
    agent: ureq::Agent,
    url: String,
    secret: Option<Secret>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The version of what was read or altered, for `If-Match`.
    pub(crate) etag: Option<String>,
    /// The object; null where there is none.
    pub(crate) body: Value,
}

/// A change that is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) body: Option<&'a Value>,
    /// The version that is meant, where there is one.
    pub(crate) if_match: Option<&'a str>,
    /// Whether the server makes of the same request sent again the same effect.
    pub(crate) is_repeatable: bool,
    /// Only say what would happen.
    pub(crate) dry_run: bool,
}

impl<'a> Change<'a> {
    /// A change of this path; the rest as it mostly is.
    pub(crate) fn of(method: &'a str, path: &'a str) -> Self {
        Self { method, path, body: None, if_match: None, is_repeatable: false, dry_run: false }
    }
}

/// Why an attempt came to nothing, and whether the server may have heard of it.
struct Lost {
    reason: String,
    was_sent: bool,
}

impl Connection {
    /// Connects to `url`, which must be TLS unless it is this machine. With `authority` (PEM) nobody
    /// else's certificates are believed.
    pub(crate) fn new(url: &str, authority: Option<&str>, secret: Option<Secret>) -> Result<Self> {
        let url = checked_url(url)?;
        let roots = match authority {
            Some(pem) => RootCerts::Specific(Arc::new(certificates(pem)?)),
            None => RootCerts::WebPki,
        };
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
            .timeout_global(Some(PATIENCE))
            .timeout_connect(Some(CONNECTING))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        // What stays on this machine goes through nobody's proxy.
        let config = if is_here(&url) { config.proxy(None) } else { config };
        Ok(Self { agent: ureq::Agent::new_with_config(config.build()), url, secret })
    }

    /// Its address, without a slash at the end.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The request with the login, where there is one.
    fn authorised<B>(&self, request: RequestBuilder<B>) -> RequestBuilder<B> {
        match &self.secret {
            Some(secret) => request.header("authorization", format!("Bearer {}", secret.reveal())),
            None => request,
        }
    }

    /// Reads what is at a path below `/api/v1`.
    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.read(path).map(|answer| answer.body)
    }

    /// Reads what the server has to ask others for, which takes minutes. It is asked once.
    pub(crate) fn get_slowly(&self, path: &str) -> Result<Value> {
        let request = self.agent.get(format!("{}/api/v1{path}", self.url));
        let response = self
            .authorised(request)
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(READING))
            .timeout_recv_body(Some(PATIENCE))
            .build()
            .call()
            .map_err(|error| self.unreachable(&words(&error)))?;
        self.answer(response).map(|answer| answer.body)
    }

    /// Reads what is at a path, with its version.
    pub(crate) fn read(&self, path: &str) -> Result<Answer> {
        let mut again = AGAIN[..1].iter();
        loop {
            let lost = match self.attempt(&Change::of("GET", path), None) {
                Ok(response) => return self.answer(response),
                Err(lost) => lost,
            };
            match again.next() {
                Some(wait) if lost.was_sent => thread::sleep(*wait),
                _ => return Err(self.unreachable(&lost.reason)),
            }
        }
    }

    /// Makes a change. One that is repeatable carries a key of its own: where the connection fails it is
    /// sent again, and has its effect once.
    pub(crate) fn change(&self, change: &Change<'_>) -> Result<Answer> {
        let key = if change.is_repeatable { Some(new_key()?) } else { None };
        let mut again = if change.is_repeatable { AGAIN.iter() } else { [].iter() };
        loop {
            let (problem, may_be_made) = match self.attempt(change, key.as_deref()) {
                Ok(response) if response.status() != 503 => {
                    return self.changed(response, change.dry_run);
                }
                Ok(response) => match self.answer(response) {
                    Ok(answer) => return Ok(answer),
                    Err(problem) => (problem, false),
                },
                Err(Lost { reason, was_sent }) => (self.unreachable(&reason), was_sent),
            };
            match again.next() {
                Some(wait) => thread::sleep(*wait),
                None if may_be_made => {
                    let help = "it may have been done or not: look before you try again";
                    return Err(helped(anyhow!("{problem}"), help));
                }
                None => return Err(problem),
            }
        }
    }

    /// A dry run that the server did not say was one is a change, and must not pass for none.
    fn changed(&self, response: Response<Body>, dry_run: bool) -> Result<Answer> {
        let was_dry = response.headers().contains_key("patchwright-dry-run");
        let answer = self.answer(response)?;
        if dry_run && !was_dry {
            let error = anyhow!("the server knows no dry run: this change was made");
            return Err(helped(
                error,
                "update the control plane; do not use --dry-run with this one",
            ));
        }
        Ok(answer)
    }

    /// Reads a file that the control plane publishes beside the API, byte by byte; `None` where there is
    /// none.
    pub(crate) fn file(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>> {
        let address = format!("{}/{path}", self.url);
        let mut again = AGAIN.iter();
        loop {
            let request = self.authorised(self.agent.get(&address));
            let read = request.call().and_then(|mut response| {
                let status = response.status().as_u16();
                // The library counts a body of exactly its limit as too long.
                let limit = limit as u64 + 1;
                let bytes = response.body_mut().with_config().limit(limit).read_to_vec()?;
                Ok((status, bytes))
            });
            match (read, again.next()) {
                (Ok((200, bytes)), _) => return Ok(Some(bytes)),
                (Ok((404, _)), _) => return Ok(None),
                (Ok((503, _)) | Err(_), Some(wait)) => thread::sleep(*wait),
                (Ok((status, bytes)), _) => return Err(self.refusal(status, &bytes)),
                (Err(error), None) => return Err(self.unreachable(&words(&error))),
            }
        }
    }

    /// Sends bytes, so many of them, and gives what is answered. It may take as long as it does; only
    /// silence ends it.
    pub(crate) fn upload(&self, path: &str, mut bytes: impl Read, size: u64) -> Result<Value> {
        let request = self
            .agent
            .post(format!("{}/api/v1{path}", self.url))
            .header("content-type", "application/octet-stream")
            .header("content-length", size.to_string())
            // What is refused need not be sent.
            .header("expect", "100-continue");
        let response = self
            .authorised(request)
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(READING))
            .timeout_per_write(Some(SILENCE))
            .build()
            .send(SendBody::from_reader(&mut bytes))
            .map_err(|error| self.unreachable(&words(&error)))?;
        self.answer(response).map(|answer| answer.body)
    }

    /// All items of a list, page by page as they are asked for. `query` without `?`.
    pub(crate) fn items<'a>(&'a self, path: &str, query: &str, page: usize) -> Items<'a> {
        let first = format!("{path}?limit={}{}{query}", page.clamp(1, 1000), and(query));
        Items { connection: self, base: first.clone(), next: Some(first), page: Vec::new() }
    }

    /// Follows the events from a place of the ledger on; for ever, or until the server says no.
    pub(crate) fn follow(&self, from: u64) -> Events<'_> {
        Events { connection: self, from, reader: None, failures: 0, is_resumed: false }
    }

    fn attempt(&self, change: &Change<'_>, key: Option<&str>) -> Result<Response<Body>, Lost> {
        let mut address = format!("{}/api/v1{}", self.url, change.path);
        if change.dry_run {
            address.push_str(if change.path.contains('?') {
                "&dry_run=true"
            } else {
                "?dry_run=true"
            });
        }
        let mut request = ureq::http::Request::builder()
            .method(change.method)
            .uri(address)
            .header("accept", "application/json");
        if let Some(secret) = &self.secret {
            request = request.header("authorization", format!("Bearer {}", secret.reveal()));
        }
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if let Some(version) = change.if_match {
            request = request.header("if-match", version);
        }
        let outcome = match change.body {
            Some(body) => request
                .header("content-type", "application/json")
                .body(body.to_string())
                .map_err(|error| Lost { reason: error.to_string(), was_sent: false })
                .map(|request| self.agent.run(request))?,
            None => request
                .body(())
                .map_err(|error| Lost { reason: error.to_string(), was_sent: false })
                .map(|request| self.agent.run(request))?,
        };
        outcome.map_err(|error| Lost { was_sent: may_be_sent(&error), reason: words(&error) })
    }

    fn answer(&self, mut response: Response<Body>) -> Result<Answer> {
        let status = response.status().as_u16();
        let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
        let etag = header("etag");
        let bytes = response
            .body_mut()
            .with_config()
            .limit(LARGEST_ANSWER)
            .read_to_vec()
            .map_err(|error| self.unreachable(&words(&error)))?;
        if !(200..300).contains(&status) {
            return Err(self.refusal(status, &bytes));
        }
        if bytes.is_empty() {
            return Ok(Answer { etag, body: Value::Null });
        }
        let body = serde_json::from_slice(&bytes).map_err(|_| {
            let error = anyhow!("`{}` does not answer as a control plane does", self.url);
            helped(error, "check the address: it is the one at which the console opens")
        })?;
        Ok(Answer { etag, body })
    }

    /// A problem document (RFC 9457), or what came in its place.
    fn refusal(&self, status: u16, bytes: &[u8]) -> anyhow::Error {
        let problem: Value = serde_json::from_slice(bytes).unwrap_or_default();
        let text = |field: &str| problem[field].as_str().filter(|text| !text.is_empty());
        let words = match (text("title"), text("detail")) {
            (_, Some(detail)) => detail.to_owned(),
            (Some(title), None) => title.to_owned(),
            (None, None) => format!("`{}` answered with status {status}", self.url),
        };
        let kind = text("type").unwrap_or_default().to_owned();
        let refused = Refused { status, kind, words };
        match (status, text("help")) {
            (401, _) if self.secret.is_some() => {
                helped(refused, format!("sign in again: `patchwright login {}`", self.url))
            }
            (401, None) => helped(refused, format!("use `patchwright login {}`", self.url)),
            (_, Some(help)) => helped(refused, help),
            (403, None) => helped(refused, "ask an administrator for a role that may"),
            (400 | 422, None) => helped(
                refused,
                "see what the command takes with `--help`, and /api/v1/openapi.json",
            ),
            (404, None) => helped(refused, "list what you may see with `patchwright get`"),
            _ => refused.into(),
        }
    }

    fn unreachable(&self, reason: &str) -> anyhow::Error {
        let error = anyhow!("{reason}").context(format!("cannot talk to `{}`", self.url));
        let help = if is_here(&self.url) {
            "start a control plane with `patchwright up`, or name another one: `patchwright login URL`"
        } else {
            "check the address and the network; a private CA is named with \
             `patchwright login URL --ca FILE`"
        };
        helped(error, help)
    }

    fn open_stream(&self, from: u64, is_resumed: bool) -> Result<BufReader<BodyReader<'static>>> {
        let address = format!("{}/api/v1/events/stream?from={from}", self.url);
        let request = self.agent.get(address).header("accept", "text/event-stream");
        let mut request = self.authorised(request);
        if is_resumed && let Some(last) = from.checked_sub(1) {
            request = request.header("last-event-id", last.to_string());
        }
        let response = request
            .config()
            .timeout_global(None)
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(SILENCE))
            .build()
            .call()
            .map_err(|error| self.unreachable(&words(&error)))?;
        if response.status() != 200 {
            self.answer(response)?;
            return Err(anyhow!("`{}` does not stream its events", self.url));
        }
        Ok(BufReader::new(response.into_body().into_with_config().limit(u64::MAX).reader()))
    }
}

/// The items of a list.
pub(crate) struct Items<'a> {
    connection: &'a Connection,
    base: String,
    next: Option<String>,
    /// What is left of the page read last, in reverse.
    page: Vec<Value>,
}

impl Iterator for Items<'_> {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(item) = self.page.pop() {
                return Some(Ok(item));
            }
            let path = self.next.take()?;
            let mut page = match self.connection.get(&path) {
                Ok(page) => page,
                Err(error) => return Some(Err(error)),
            };
            if let Value::Array(items) = page["items"].take() {
                self.page = items;
                self.page.reverse();
            }
            // A list of events says where to go on; the rest has a cursor, null at the end.
            self.next = match &page["next"] {
                Value::String(next) => Some(format!("{}&after={}", self.base, encoded(next))),
                Value::Number(next) if !self.page.is_empty() => {
                    Some(format!("{}&from={next}", without_from(&self.base)))
                }
                _ => None,
            };
        }
    }
}

/// Events as they happen.
pub(crate) struct Events<'a> {
    connection: &'a Connection,
    /// The place of the next one.
    from: u64,
    reader: Option<BufReader<BodyReader<'static>>>,
    failures: u32,
    is_resumed: bool,
}

impl Iterator for Events<'_> {
    type Item = Result<Value>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut reader = match self.reader.take() {
                Some(reader) => reader,
                None => match self.open() {
                    Ok(Some(reader)) => reader,
                    Ok(None) => continue,
                    Err(error) => return Some(Err(error)),
                },
            };
            self.is_resumed = true;
            if let Some(event) = next_event(&mut reader) {
                self.reader = Some(reader);
                self.failures = 0;
                self.from = event["sequence"].as_u64().map_or(self.from, |place| place + 1);
                return Some(Ok(event));
            }
            self.failures += 1;
        }
    }
}

impl Events<'_> {
    /// Opens the stream, or opens it again; `None` where that is to be tried once more.
    fn open(&mut self) -> Result<Option<BufReader<BodyReader<'static>>>> {
        if self.failures > 0 {
            let wait = AGAIN[0].saturating_mul(1 << self.failures.min(16));
            thread::sleep(wait.min(LONGEST_WAIT));
        }
        match self.connection.open_stream(self.from, self.is_resumed) {
            Ok(reader) => Ok(Some(reader)),
            // Never there, or it says no: that is the end.
            Err(error) if !self.is_resumed || find::<Refused>(&error).is_some() => Err(error),
            Err(_) => {
                self.failures += 1;
                Ok(None)
            }
        }
    }
}

/// The next event of a stream; `None` where the stream ended.
fn next_event(reader: &mut impl std::io::BufRead) -> Option<Value> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        let read = reader.by_ref().take(LONGEST_LINE).read_line(&mut line).ok()?;
        if read == 0 || !line.ends_with('\n') {
            return None;
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if let Some(more) = line.strip_prefix("data:") {
            data.push_str(more.strip_prefix(' ').unwrap_or(more));
        } else if line.is_empty() && !data.is_empty() {
            match serde_json::from_str(&data) {
                Ok(event) => return Some(event),
                Err(_) => data.clear(),
            }
        }
    }
}

/// Text as a part of an address.
pub(crate) fn encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut all, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            all.push(char::from(byte));
        } else {
            let _ = write!(all, "%{byte:02X}");
        }
        all
    })
}

fn and(query: &str) -> &'static str {
    if query.is_empty() { "" } else { "&" }
}

fn without_from(path: &str) -> String {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let kept: Vec<&str> = query.split('&').filter(|part| !part.starts_with("from=")).collect();
    format!("{path}?{}", kept.join("&"))
}

/// A key that no other request has.
fn new_key() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("there is no randomness: {error}"))?;
    Ok(format!("patchwright-{:032x}", u128::from_be_bytes(bytes)))
}

/// Whether the server may have got a request that failed so.
fn may_be_sent(error: &ureq::Error) -> bool {
    !matches!(
        error,
        ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::BadUri(_)
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_)
            | ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve)
    ) && !matches!(error, ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused)
}

fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Io(error) => error.to_string(),
        ureq::Error::HostNotFound => "there is no host of this name".to_owned(),
        ureq::Error::BodyExceedsLimit(_) => "the answer is larger than any of ours".to_owned(),
        error => error.to_string(),
    }
}

/// An address of a control plane: TLS, or this machine.
fn checked_url(url: &str) -> Result<String> {
    let bad = |why: &str| {
        usage(
            format!("`{url}` is no address of a control plane: {why}"),
            "write https://HOST:PORT, or http://127.0.0.1:7878 on the machine itself",
        )
    };
    let trimmed = url.trim_end_matches('/');
    let uri: Uri = trimmed.parse().map_err(|_| bad("it cannot be read"))?;
    let authority = uri.authority().ok_or_else(|| bad("it names no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("it must hold no name or password"));
    }
    if uri.query().is_some() || url.contains('#') {
        return Err(bad("it must end with its path"));
    }
    match uri.scheme_str() {
        Some("https") => Ok(trimmed.to_owned()),
        Some("http") if is_here(trimmed) => Ok(trimmed.to_owned()),
        Some("http") => Err(bad("without TLS anybody on the way could read the password")),
        _ => Err(bad("it does not begin with https://")),
    }
}

/// Whether an address is this machine's own.
fn is_here(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The certificates of a PEM text.
pub(crate) fn certificates(pem: &str) -> Result<Vec<Certificate<'static>>> {
    let mut found = Vec::new();
    for item in parse_pem(pem.as_bytes()) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(error) => return Err(anyhow!("the CA's PEM cannot be read: {error}")),
        }
    }
    if found.is_empty() {
        return Err(helped(
            anyhow!("there is no certificate of a CA"),
            "give a PEM file with `-----BEGIN CERTIFICATE-----`",
        ));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// A server that answers one connection after the other with these bytes, and gives back the
    /// heads of the requests. Nothing to answer: it hangs up.
    fn server(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = thread::spawn(move || {
            let mut heads = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                heads.push(request_head(&stream));
                stream.write_all(answer.as_bytes()).unwrap();
            }
            heads
        });
        (url, heads)
    }

    fn request_head(stream: &TcpStream) -> String {
        let mut reader = BufReader::new(stream);
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.trim().is_empty() {
                break;
            }
            head.push_str(&line.to_lowercase());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        head
    }

    fn answer(status: &str, headers: &str, body: &str) -> String {
        format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n{body}",
            body.len()
        )
    }

    fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
    }

    fn connect(url: &str) -> Connection {
        Connection::new(url, None, Some(Secret::new("pws_x"))).unwrap()
    }

    #[test]
    fn what_the_connection_lost_is_sent_again_with_the_same_key() {
        let (url, heads) = server(vec![
            String::new(),
            answer("503 Service Unavailable", "", "{\"detail\":\"busy\"}"),
            answer("201 Created", "", "{\"id\":\"ci_1\"}"),
        ]);

        let body = serde_json::json!({ "name": "web" });
        let change =
            Change { body: Some(&body), is_repeatable: true, ..Change::of("POST", "/cis") };
        let made = connect(&url).change(&change).unwrap();

        assert_eq!(made.body["id"], "ci_1");
        let heads = heads.join().unwrap();
        let keys: Vec<_> = heads.iter().map(|head| header(head, "idempotency-key")).collect();
        assert!(keys[0].is_some() && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(header(&heads[0], "authorization"), Some("bearer pws_x"));
    }

    #[test]
    fn what_has_no_key_is_sent_once() {
        let (url, heads) = server(vec![String::new()]);

        let body = serde_json::json!({});
        let change = Change { body: Some(&body), ..Change::of("POST", "/tokens") };
        let error = connect(&url).change(&change).unwrap_err();

        assert!(format!("{error}").contains("cannot talk to"), "{error}");
        let heads = heads.join().unwrap();
        assert_eq!(header(&heads[0], "idempotency-key"), None);
    }

    #[test]
    fn a_dry_run_that_was_none_is_told() {
        let dry = |headers: &str| {
            let (url, heads) = server(vec![answer("200 OK", headers, "{}")]);
            let change = Change { dry_run: true, ..Change::of("DELETE", "/cis/ci_1") };
            let outcome = connect(&url).change(&change);
            let heads = heads.join().unwrap();
            assert!(heads[0].starts_with("delete /api/v1/cis/ci_1?dry_run=true "), "{}", heads[0]);
            outcome
        };

        assert!(dry("patchwright-dry-run: true\r\n").is_ok());
        let error = dry("").unwrap_err();
        assert!(error.to_string().contains("this change was made"), "{error}");
    }

    #[test]
    fn a_stream_that_ends_goes_on_where_it_was() {
        let stream = |text: &str| {
            format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n{text}"
            )
        };
        let (url, heads) = server(vec![
            stream(
                ": hello\n\nid: 7\nevent: ci.created\ndata: {\"sequence\":7}\n\nid: 8\ndata: {\"seq",
            ),
            stream("id: 8\ndata: {\"sequence\":8}\n\n"),
        ]);

        let connection = connect(&url);
        let mut events = connection.follow(5);
        assert_eq!(events.next().unwrap().unwrap()["sequence"], 7);
        assert_eq!(events.next().unwrap().unwrap()["sequence"], 8);

        let heads = heads.join().unwrap();
        assert!(heads[0].contains("from=5") && header(&heads[0], "last-event-id").is_none());
        assert_eq!(header(&heads[1], "last-event-id"), Some("7"));
    }

    #[test]
    fn a_problem_is_told_in_its_own_words() {
        let (url, heads) = server(vec![answer(
            "422 Unprocessable Content",
            "",
            r#"{"title":"Refused by a rule","status":422,"detail":"no \u001b[2J","help":"do so"}"#,
        )]);

        let error = connect(&url).get("/cis").unwrap_err();

        assert_eq!(find::<Refused>(&error).map(|refused| refused.status), Some(422));
        assert_eq!(error.to_string(), "no \u{1b}[2J");
        heads.join().unwrap();
    }

    #[test]
    fn passwords_go_over_tls_or_stay_on_this_machine() {
        for good in [
            "https://cloud.example:7878/",
            "http://127.0.0.1:7878",
            "http://[::1]:1",
            "http://localhost",
        ] {
            assert!(checked_url(good).is_ok(), "{good}");
        }
        for bad in [
            "http://cloud.example",
            "http://127.0.0.1.example",
            "http://localhost.example",
            "http://127.0.0.1@cloud.example",
            "https://me:word@cloud.example",
            "ftp://x",
            "cloud",
            "",
            "https://cloud.example/?a=b",
        ] {
            assert!(checked_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pages_follow_each_other() {
        let (url, heads) = server(vec![
            answer("200 OK", "", r#"{"items":[1,2],"next":"a b"}"#),
            answer("200 OK", "", r#"{"items":[3],"next":null}"#),
            answer("200 OK", "", r#"{"items":[{"sequence":4}],"next":5}"#),
            answer("200 OK", "", r#"{"items":[],"next":5}"#),
        ]);
        let connection = connect(&url);

        let items: Vec<Value> =
            connection.items("/cis", "class=vm", 1000).map(Result::unwrap).collect();
        assert_eq!(items, [1, 2, 3]);
        assert_eq!(connection.items("/events", "from=4", 10).count(), 1);

        let heads = heads.join().unwrap();
        let asked: Vec<_> = heads.iter().filter_map(|head| head.split(' ').nth(1)).collect();
        assert_eq!(
            asked,
            [
                "/api/v1/cis?limit=1000&class=vm",
                "/api/v1/cis?limit=1000&class=vm&after=a%20b",
                "/api/v1/events?limit=10&from=4",
                "/api/v1/events?limit=10&from=5",
            ]
        );
    }
}
