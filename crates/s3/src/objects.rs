//! A store, asked.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::sleep;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use history::Objects;
use jiff::Timestamp;
use rusty_s3::actions::{DeleteObject, GetObject, HeadObject, PutObject};
use rusty_s3::signing::sign;
use rusty_s3::{Bucket, Map, Method, S3Action, UrlStyle};
use sha2::{Digest as _, Sha256};
use ureq::http::{Request, Response, StatusCode};
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body};
use url::Url;

use crate::address::Address;
use crate::answer::{code, content_range, page};
use crate::credentials::Credentials;
use crate::error::S3Error;

/// What time it is, for signatures.
pub type Clock = fn() -> Timestamp;

/// How long a signature is good, from when it is made.
const SIGNED_FOR: Duration = Duration::from_secs(900);

/// Largest object that can be put at once (Amazon S3, "Uploading objects").
const LARGEST_PUT: u64 = 5 << 30;

/// Largest answer that is a list or an error.
const LARGEST_LIST: u64 = 8 << 20;
const LARGEST_ERROR: u64 = 64 << 10;

/// A list of more names is no list of ours.
const MOST_NAMES: usize = 10_000_000;

/// Notes of ours begin with a dot, so that they are no objects.
const OWNER: &str = ".owner-";
const CONDITION: &str = ".conditional";

/// How long a store is waited for, and how often it is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// How often one thing is asked, the first time included.
    pub tries: u32,
    /// Before the second time; then twice as long each time.
    pub first_wait: Duration,
    /// No wait is longer.
    pub longest_wait: Duration,
    /// For a connection, an answer's beginning, and between two parts of an answer.
    pub stall: Duration,
    /// For one request with its whole answer.
    pub whole: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            tries: 5,
            first_wait: Duration::from_millis(200),
            longest_wait: Duration::from_secs(5),
            stall: Duration::from_secs(30),
            whole: Duration::from_secs(900),
        }
    }
}

/// Objects in a bucket, under a prefix.
pub struct S3 {
    address: Address,
    bucket: Bucket,
    credentials: RwLock<Arc<Credentials>>,
    agent: Agent,
    clock: Clock,
    patience: Patience,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Why something was not done.
enum Fault {
    /// It may be tried again.
    Passing(io::Error),
    Lasting(io::Error),
    /// Credentials that were good may have been replaced.
    Refused(io::Error),
}

type Answer<T> = Result<T, Fault>;

/// What a request is besides its address.
struct Asked<'a> {
    method: &'static str,
    url: Url,
    headers: &'a [(&'static str, &'a str)],
    body: Option<&'a [u8]>,
}

impl S3 {
    /// A store, with the credentials that its address names, or those of the environment. Nothing is asked yet.
    ///
    /// # Errors
    /// If there are no credentials, or a file that the address names cannot be used.
    pub fn open(address: &Address, clock: Clock, patience: Patience) -> Result<Self, S3Error> {
        let credentials = match &address.credentials {
            Some(path) => Credentials::from_file(path)?,
            None => Credentials::from_environment()?,
        };
        let style = if address.is_path_style { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let (name, region) = (address.bucket.clone(), address.region.clone());
        let bucket = Bucket::new(address.endpoint.clone(), style, name, region)
            .map_err(|_| S3Error::Address { why: "its bucket stands in no address" })?;
        Ok(Self {
            agent: agent(address, &patience)?,
            address: address.clone(),
            bucket,
            credentials: RwLock::new(Arc::new(credentials)),
            clock,
            patience,
        })
    }

    /// Makes sure that the store can be written, and never replaces what it was asked not to.
    ///
    /// # Errors
    /// If it cannot, or does.
    pub fn check(&self) -> Result<(), S3Error> {
        self.check_with(CONDITION, b"never replaced")
    }

    /// Keeps the store for one installation, for good: two that share one would take the other's objects for garbage.
    /// Whose it is stays in it. Checks it as well.
    ///
    /// # Errors
    /// If it is another's, or cannot be used.
    pub fn claim(&self, owner: &str) -> Result<(), S3Error> {
        let own = format!("{OWNER}{}", hex(&Sha256::digest(owner)[..16]));
        self.check_with(&own, owner.as_bytes())?;
        let failed = |source| S3Error::Store { address: self.address.to_string(), source };
        // Looked for after it was put: of two that come at once, one at least sees the other.
        let notes = self.names(OWNER).map_err(failed)?;
        let Some(other) = notes.iter().find(|name| **name != own) else { return Ok(()) };
        let text = self.persist(|| self.get_small(other)).map_err(failed)?;
        self.persist(|| self.remove(&own)).map_err(failed)?;
        let owner = String::from_utf8_lossy(&text);
        let owner = owner.chars().filter(|it| !it.is_control()).take(200).collect();
        Err(S3Error::Owned { address: self.address.to_string(), owner })
    }

    fn check_with(&self, name: &str, bytes: &[u8]) -> Result<(), S3Error> {
        let failed = |source| S3Error::Store { address: self.address.to_string(), source };
        self.put_named(name, bytes).map_err(failed)?;
        // There is one now, whoever put it: the store must say so.
        match self.persist(|| self.put_once(name, bytes)).map_err(failed)? {
            Put::IsThere => Ok(()),
            Put::Done => Err(S3Error::Replaces { address: self.address.to_string() }),
        }
    }

    /// Asks until it is answered, or it cannot be, or it was asked often enough.
    fn persist<T>(&self, mut attempt: impl FnMut() -> Answer<T>) -> io::Result<T> {
        let (mut wait, mut tries) = (self.patience.first_wait, 1);
        loop {
            match attempt() {
                Ok(answer) => return Ok(answer),
                Err(Fault::Lasting(error)) => return Err(error),
                Err(Fault::Refused(error)) => {
                    if tries >= self.patience.tries || !self.has_other_credentials() {
                        return Err(error);
                    }
                }
                Err(Fault::Passing(error)) => {
                    if tries >= self.patience.tries {
                        return Err(error);
                    }
                    sleep(wait);
                    wait = (wait * 2).min(self.patience.longest_wait);
                }
            }
            tries += 1;
        }
    }

    /// Whether the file has others by now; they are used from then on.
    fn has_other_credentials(&self) -> bool {
        let Some(path) = &self.address.credentials else { return false };
        let Ok(read) = Credentials::from_file(path) else { return false };
        let mut known = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        let is_other = **known != read;
        *known = Arc::new(read);
        is_other
    }

    fn credentials(&self) -> Arc<Credentials> {
        Arc::clone(&self.credentials.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn now(&self) -> jiff_of_s3::Timestamp {
        let now = (self.clock)().as_second();
        jiff_of_s3::Timestamp::from_second(now).unwrap_or_default()
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.address.prefix)
    }

    /// Signs an action with its headers, which must be sent then.
    fn signed<'a, A: S3Action<'a>>(
        &self,
        mut action: A,
        headers: &[(&'static str, &'a str)],
    ) -> Url {
        for (name, value) in headers {
            action.headers_mut().insert(*name, *value);
        }
        action.sign_with_time(SIGNED_FOR, &self.now())
    }

    /// One exchange. Addresses have signatures in them, so no error tells one.
    fn ask(&self, asked: &Asked<'_>) -> Answer<Response<Body>> {
        let mut request = Request::builder().method(asked.method).uri(asked.url.as_str());
        for (name, value) in asked.headers {
            request = request.header(*name, *value);
        }
        let odd = |_| Fault::Lasting(io::Error::other("the request cannot be made"));
        let answer = match asked.body {
            Some(body) => self.agent.run(request.body(body).map_err(odd)?),
            None => self.agent.run(request.body(()).map_err(odd)?),
        };
        let mut answer = answer.map_err(|error| broken(&error))?;
        let status = answer.status();
        if status.is_success() || is_told_by_caller(status) {
            return Ok(answer);
        }
        let code = if asked.method == "HEAD" { None } else { said(&mut answer) };
        Err(fault(status, code.as_deref()))
    }

    fn put_named(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        match self.persist(|| self.put_once(name, bytes))? {
            Put::Done => Ok(()),
            // Perhaps by ourselves, in a try whose answer was lost.
            Put::IsThere => self.compare(name, bytes),
        }
    }

    fn put_once(&self, name: &str, bytes: &[u8]) -> Answer<Put> {
        let (key, credentials) = (self.key(name), self.credentials());
        let sum = STANDARD.encode(Sha256::digest(bytes));
        let headers = [("if-none-match", "*"), ("x-amz-checksum-sha256", sum.as_str())];
        let action = PutObject::new(&self.bucket, Some(credentials.inner()), &key);
        let url = self.signed(action, &headers);
        let mut answer =
            self.ask(&Asked { method: "PUT", url, headers: &headers, body: Some(bytes) })?;
        match answer.status() {
            StatusCode::PRECONDITION_FAILED => Ok(Put::IsThere),
            StatusCode::NOT_FOUND => Err(absent(said(&mut answer).as_deref())),
            status if !status.is_success() => Err(fault(status, None)),
            _ => {
                let kept = header(&answer, "x-amz-checksum-sha256");
                if kept.is_some_and(|kept| kept != sum) {
                    let error = "the object store says that it keeps other bytes than were sent";
                    return Err(Fault::Lasting(io::Error::new(ErrorKind::InvalidData, error)));
                }
                Ok(Put::Done)
            }
        }
    }

    /// The same name again is the same object or an error.
    fn compare(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let is_same = self.size_of(name)? == bytes.len() as u64
            && self.read_range(name, 0, bytes.len())? == bytes;
        if is_same {
            return Ok(());
        }
        let error = "there is another object of this name, which is not replaced";
        Err(io::Error::new(ErrorKind::AlreadyExists, error))
    }

    fn read_range(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(length as u64).ok_or(ErrorKind::UnexpectedEof)?;
        if length == 0 {
            // There is no range of nothing.
            return self.size_of(name).map(|_| Vec::new());
        }
        self.persist(|| self.read_once(name, offset, end, length))
    }

    fn read_once(&self, name: &str, offset: u64, end: u64, length: usize) -> Answer<Vec<u8>> {
        let (key, credentials) = (self.key(name), self.credentials());
        let range = format!("bytes={offset}-{}", end - 1);
        let headers = [("range", range.as_str())];
        let action = GetObject::new(&self.bucket, Some(credentials.inner()), &key);
        let url = self.signed(action, &headers);
        let mut answer = self.ask(&Asked { method: "GET", url, headers: &headers, body: None })?;
        let ends = || Fault::Lasting(ErrorKind::UnexpectedEof.into());
        let wrong = || {
            let error = "the object store answers another range than was asked for";
            Fault::Lasting(io::Error::new(ErrorKind::InvalidData, error))
        };
        let skipped = match answer.status() {
            StatusCode::PARTIAL_CONTENT => {
                let range = header(&answer, "content-range");
                let (first, last) = range.as_deref().and_then(content_range).ok_or_else(wrong)?;
                match (first == offset, last.checked_add(1).ok_or_else(wrong)?) {
                    (true, it) if it == end => 0,
                    (true, it) if it < end => return Err(ends()),
                    _ => return Err(wrong()),
                }
            }
            // Ranges are an offer that a server may overlook: this is all of it.
            StatusCode::OK => {
                let whole = header(&answer, "content-length").and_then(|it| it.parse::<u64>().ok());
                if whole.is_some_and(|whole| whole < end) {
                    return Err(ends());
                }
                offset
            }
            StatusCode::RANGE_NOT_SATISFIABLE => return Err(ends()),
            StatusCode::NOT_FOUND => return Err(absent(said(&mut answer).as_deref())),
            status => return Err(fault(status, None)),
        };
        let mut body = answer.into_body().into_reader();
        let passed = io::copy(&mut body.by_ref().take(skipped), &mut io::sink());
        if passed.map_err(cut)? < skipped {
            return Err(ended_early());
        }
        // What an index says of lengths is believed only as far as there are bytes.
        let mut bytes = Vec::new();
        body.take(length as u64).read_to_end(&mut bytes).map_err(cut)?;
        if bytes.len() == length { Ok(bytes) } else { Err(ended_early()) }
    }

    /// A note of ours.
    fn get_small(&self, name: &str) -> Answer<Vec<u8>> {
        let (key, credentials) = (self.key(name), self.credentials());
        let url = self.signed(GetObject::new(&self.bucket, Some(credentials.inner()), &key), &[]);
        let mut answer = self.ask(&Asked { method: "GET", url, headers: &[], body: None })?;
        match answer.status() {
            StatusCode::NOT_FOUND => Err(absent(said(&mut answer).as_deref())),
            _ => small(&mut answer, 4096),
        }
    }

    fn size_of(&self, name: &str) -> io::Result<u64> {
        let size = self.persist(|| {
            let (key, credentials) = (self.key(name), self.credentials());
            let action = HeadObject::new(&self.bucket, Some(credentials.inner()), &key);
            let url = self.signed(action, &[]);
            let answer = self.ask(&Asked { method: "HEAD", url, headers: &[], body: None })?;
            match answer.status() {
                StatusCode::NOT_FOUND => Ok(None),
                status if status.is_success() => {
                    let size = header(&answer, "content-length").and_then(|it| it.parse().ok());
                    let error = "the object store does not say how long an object is";
                    let lacking = || io::Error::new(ErrorKind::InvalidData, error);
                    size.map(Some).ok_or_else(|| Fault::Lasting(lacking()))
                }
                status => Err(fault(status, None)),
            }
        })?;
        match size {
            Some(size) => Ok(size),
            // This answer has no words: whether the object is missing or the bucket says another one.
            None => match self.persist(|| self.read_once(name, 0, 1, 1)) {
                Ok(_) => Err(io::Error::other("the object store contradicts itself")),
                Err(error) => Err(error),
            },
        }
    }

    fn remove(&self, name: &str) -> Answer<()> {
        let (key, credentials) = (self.key(name), self.credentials());
        let action = DeleteObject::new(&self.bucket, Some(credentials.inner()), &key);
        let url = self.signed(action, &[]);
        let mut answer = self.ask(&Asked { method: "DELETE", url, headers: &[], body: None })?;
        match answer.status() {
            StatusCode::NOT_FOUND => match absent(said(&mut answer).as_deref()) {
                Fault::Lasting(error) if error.kind() == ErrorKind::NotFound => Ok(()),
                fault => Err(fault),
            },
            status if status.is_success() => Ok(()),
            status => Err(fault(status, None)),
        }
    }

    /// The names that begin so, without the prefix.
    fn names(&self, beginning: &str) -> io::Result<Vec<String>> {
        let prefix = self.key(beginning);
        let odd = |error| io::Error::new(ErrorKind::InvalidData, error);
        let (mut names, mut next): (Vec<String>, Option<String>) = (Vec::new(), None);
        loop {
            let page = self.persist(|| self.page(&prefix, next.as_deref()))?;
            for key in page.keys {
                let name = key.strip_prefix(&self.address.prefix);
                let name = name.filter(|name| name.starts_with(beginning));
                names.push(
                    name.ok_or_else(|| odd("the object store lists others' objects"))?.to_owned(),
                );
            }
            if page.next.is_some() && page.next == next || names.len() > MOST_NAMES {
                return Err(odd("the object store's list does not end"));
            }
            next = page.next;
            if next.is_none() {
                return Ok(names);
            }
        }
    }

    fn page(&self, prefix: &str, next: Option<&str>) -> Answer<crate::answer::Page> {
        let credentials = self.credentials();
        let credentials = credentials.inner();
        let mut query = Map::new();
        for (name, value) in
            [("delimiter", "/"), ("encoding-type", "url"), ("list-type", "2"), ("prefix", prefix)]
        {
            query.insert(name, value);
        }
        if let Some(next) = next {
            query.insert("continuation-token", next);
        }
        let url = sign(
            &self.now(),
            Method::Get,
            self.bucket.base_url().clone(),
            credentials.key(),
            credentials.secret(),
            credentials.token(),
            self.bucket.region(),
            SIGNED_FOR.as_secs(),
            query.iter(),
            std::iter::empty(),
        );
        let mut answer = self.ask(&Asked { method: "GET", url, headers: &[], body: None })?;
        if !answer.status().is_success() {
            let said = said(&mut answer);
            return Err(fault(answer.status(), said.as_deref()));
        }
        let bytes = small(&mut answer, LARGEST_LIST)?;
        let read = std::str::from_utf8(&bytes).ok().and_then(page);
        let error = "the object store's list cannot be read";
        read.ok_or_else(|| Fault::Lasting(io::Error::new(ErrorKind::InvalidData, error)))
    }
}

/// What came of putting an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Done,
    IsThere,
}

impl Objects for S3 {
    fn put(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        plain(name)?;
        if bytes.len() as u64 > LARGEST_PUT {
            let error = "an object store takes 5 GiB at once";
            return Err(io::Error::new(ErrorKind::InvalidInput, error));
        }
        self.put_named(name, bytes)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        plain(name)?;
        self.read_range(name, offset, length)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        plain(name)?;
        self.size_of(name)
    }

    fn delete(&self, name: &str) -> io::Result<()> {
        plain(name)?;
        self.persist(|| self.remove(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.names("")?;
        names.retain(|name| plain(name).is_ok());
        Ok(names)
    }
}

/// Names come from us alone; one that could lead elsewhere is refused nevertheless.
fn plain(name: &str) -> io::Result<()> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if name.is_empty()
        || name.len() > 200
        || name.starts_with('.')
        || name.as_bytes().ends_with(b".new")
        || !name.bytes().all(is_plain)
    {
        return Err(io::Error::new(ErrorKind::InvalidInput, "not the name of an object"));
    }
    Ok(())
}

fn agent(address: &Address, patience: &Patience) -> Result<Agent, S3Error> {
    let roots = match &address.ca {
        None => RootCerts::WebPki,
        Some(path) => {
            let failed = |source| S3Error::File { path: path.clone(), source };
            let pem = std::fs::read(path).map_err(failed)?;
            let certificates: Vec<_> = parse_pem(&pem)
                .filter_map(|item| match item {
                    Ok(PemItem::Certificate(certificate)) => Some(certificate),
                    _ => None,
                })
                .collect();
            if certificates.is_empty() {
                let error = io::Error::new(ErrorKind::InvalidData, "no certificate is in it");
                return Err(failed(error));
            }
            RootCerts::Specific(Arc::new(certificates))
        }
    };
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .https_only(!address.is_here())
        .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(patience.stall))
        .timeout_recv_response(Some(patience.stall))
        .timeout_per_read(Some(patience.stall))
        .timeout_per_write(Some(patience.stall))
        .timeout_global(Some(patience.whole))
        .tls_config(TlsConfig::builder().root_certs(roots).build());
    // What stays on this machine goes through nobody's proxy.
    let config = if address.is_here() { config.proxy(None) } else { config };
    Ok(Agent::new_with_config(config.build()))
}

/// What the callers of [`S3::ask`] make something of.
fn is_told_by_caller(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::NOT_FOUND | StatusCode::PRECONDITION_FAILED | StatusCode::RANGE_NOT_SATISFIABLE
    )
}

/// No connection, or one that broke.
fn broken(error: &ureq::Error) -> Fault {
    let failed =
        |words: &str| io::Error::other(format!("the object store cannot be reached: {words}"));
    match error {
        ureq::Error::Io(error) => Fault::Passing(failed(&error.to_string())),
        ureq::Error::Timeout(_) => {
            let words = "the object store does not answer in time";
            Fault::Passing(io::Error::new(ErrorKind::TimedOut, words))
        }
        ureq::Error::HostNotFound => Fault::Passing(failed("there is no host of this name")),
        ureq::Error::ConnectionFailed => Fault::Passing(failed("the connection failed")),
        ureq::Error::Protocol(_) => Fault::Passing(failed("its answer is not HTTP, or was cut")),
        ureq::Error::Rustls(error) => Fault::Lasting(failed(&error.to_string())),
        ureq::Error::Tls(words) => Fault::Lasting(failed(words)),
        // Others could have the address in them.
        _ => Fault::Lasting(failed("the request cannot be made")),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn cut(error: io::Error) -> Fault {
    Fault::Passing(io::Error::new(error.kind(), "the object store's answer was cut"))
}

fn ended_early() -> Fault {
    let words = "the object store's answer is shorter than it says";
    Fault::Passing(io::Error::new(ErrorKind::ConnectionAborted, words))
}

/// Why a status is no success, and whether that passes.
fn fault(status: StatusCode, code: Option<&str>) -> Fault {
    let words = code.map_or_else(String::new, |code| format!(" ({code})"));
    let told = |kind| io::Error::new(kind, format!("the object store answers {status}{words}"));
    match (status.as_u16(), code) {
        (300..=399, _) => {
            let words = "which is not followed: name the right endpoint and region";
            let error = format!("the object store sends elsewhere ({status}), {words}");
            Fault::Lasting(io::Error::other(error))
        }
        (_, Some("NoSuchBucket")) => Fault::Lasting(io::Error::other("there is no such bucket")),
        (404, _) => Fault::Lasting(told(ErrorKind::NotFound)),
        (401 | 403, _) | (400, Some("ExpiredToken" | "InvalidToken")) => {
            Fault::Refused(told(ErrorKind::PermissionDenied))
        }
        (501, _) => Fault::Lasting(told(ErrorKind::Unsupported)),
        // What was altered on its way, or came too slowly, is sent again; conflicts are of two at the same time.
        (
            400,
            Some("BadDigest" | "RequestTimeout" | "IncompleteBody" | "XAmzContentChecksumMismatch"),
        )
        | (408 | 409 | 429 | 500..=599, _) => Fault::Passing(told(ErrorKind::Other)),
        _ => Fault::Lasting(told(ErrorKind::Other)),
    }
}

/// No object, or no bucket.
fn absent(code: Option<&str>) -> Fault {
    match code {
        None | Some("NoSuchKey") => {
            Fault::Lasting(io::Error::new(ErrorKind::NotFound, "there is no such object"))
        }
        code => fault(StatusCode::NOT_FOUND, code),
    }
}

fn header(answer: &Response<Body>, name: &str) -> Option<String> {
    answer.headers().get(name)?.to_str().ok().map(str::to_owned)
}

/// The name of what went wrong, if the answer can be read.
fn said(answer: &mut Response<Body>) -> Option<String> {
    let bytes = small(answer, LARGEST_ERROR).ok()?;
    code(std::str::from_utf8(&bytes).ok()?)
}

/// An answer that is not long.
fn small(answer: &mut Response<Body>, largest: u64) -> Answer<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut body = answer.body_mut().as_reader().take(largest + 1);
    body.read_to_end(&mut bytes).map_err(cut)?;
    if bytes.len() as u64 > largest {
        let error = "the object store's answer is too long";
        return Err(Fault::Lasting(io::Error::new(ErrorKind::InvalidData, error)));
    }
    Ok(bytes)
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
