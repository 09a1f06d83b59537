//! Bytes from elsewhere, every length bounded by the caller.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

/// How a fetch went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    /// New content, with the mark to ask for changes later.
    Content {
        /// The bytes.
        bytes: Vec<u8>,
        /// What the server calls this state.
        mark: Mark,
    },
    /// The content is the one that the mark names.
    Unchanged,
    /// There is no such file.
    Absent,
}

/// What a server calls a state of a file, for conditional requests (RFC 9110 §13).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Mark {
    /// `ETag`.
    pub etag: Option<String>,
    /// `Last-Modified`.
    pub last_modified: Option<String>,
}

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The scheme is none that is spoken here.
    #[error("`{uri}`: this scheme is not supported")]
    Scheme {
        /// The URI.
        uri: String,
    },
    /// The server cannot be reached, or the connection broke.
    #[error("`{uri}` cannot be reached: {reason}")]
    Unreachable {
        /// The URI.
        uri: String,
        /// What the network says.
        reason: String,
    },
    /// The server answers with an error.
    #[error("`{uri}` answers with status {status}")]
    Status {
        /// The URI.
        uri: String,
        /// HTTP status.
        status: u16,
    },
    /// There is no such file.
    #[error("`{uri}` does not exist")]
    Absent {
        /// The URI.
        uri: String,
    },
    /// The answer is longer than it may be.
    #[error("`{uri}` is longer than {limit} bytes")]
    Oversize {
        /// The URI.
        uri: String,
        /// The limit.
        limit: u64,
    },
    /// The content is not what the signed index says.
    #[error("`{uri}` has the SHA-256 {got}, but its signed index says {wanted}")]
    HashMismatch {
        /// The URI.
        uri: String,
        /// From the signed index.
        wanted: String,
        /// Of what arrived.
        got: String,
    },
    /// The content is shorter or longer than the signed index says.
    #[error("`{uri}` has {got} bytes, but its signed index says {wanted}")]
    SizeMismatch {
        /// The URI.
        uri: String,
        /// From the signed index.
        wanted: u64,
        /// What arrived.
        got: u64,
    },
    /// Our own disk failed.
    #[error("cannot keep `{path}`")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FetchError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Scheme { .. } => "use an http, https or file archive",
            Self::Unreachable { .. } => {
                "check the network and the proxy; --offline uses what was fetched before"
            }
            Self::Status { .. } | Self::Absent { .. } => "check the source's URI and suite",
            Self::Oversize { .. } | Self::HashMismatch { .. } | Self::SizeMismatch { .. } => {
                "the mirror is being updated or altered: try again, or use another mirror"
            }
            Self::Disk { .. } => "check space and permissions there, or name another with --data",
        };
        Some(text.to_owned())
    }
}

/// Chooses a proxy for a scheme and host; none, or `DIRECT` as apt calls it, to go without.
pub type ProxyRule = Box<dyn Fn(&str, &str) -> Option<String> + Send + Sync>;

/// Fetches over HTTP(S) and from local files.
pub struct Fetcher {
    proxy: ProxyRule,
    direct: ureq::Agent,
}

const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// Longest silence on a connection.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// Longest time for one file.
const TOTAL_LIMIT: Duration = Duration::from_secs(1800);

impl Fetcher {
    /// A fetcher that asks `proxy` for each scheme and host.
    pub fn new(proxy: ProxyRule) -> Self {
        Self { proxy, direct: agent(None) }
    }

    /// A small file, kept in memory; `known` makes the request conditional.
    pub fn small(&self, uri: &str, limit: u64, known: &Mark) -> Result<Fetched, FetchError> {
        if let Some(path) = local_path(uri)? {
            return local_small(uri, &path, limit);
        }
        let mut request = self.agent_for(uri).get(uri);
        if let Some(etag) = &known.etag {
            request = request.header("If-None-Match", etag);
        }
        if let Some(time) = &known.last_modified {
            request = request.header("If-Modified-Since", time);
        }
        let response = request.call().map_err(|error| unreachable(uri, &error))?;
        match response.status().as_u16() {
            200 => {}
            304 => return Ok(Fetched::Unchanged),
            404 | 410 => return Ok(Fetched::Absent),
            status => return Err(FetchError::Status { uri: uri.to_owned(), status }),
        }
        let header = |name: &str| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let mark = Mark { etag: header("etag"), last_modified: header("last-modified") };
        let bytes = read_limited(uri, response.into_body().into_reader(), limit)?;
        Ok(Fetched::Content { bytes, mark })
    }

    /// A file whose size and hash a signed index names, into `to`.
    ///
    /// A broken transfer leaves `to` with `.partial` behind and the next call resumes it. `to`
    /// appears only whole and verified.
    pub fn verified(
        &self,
        uri: &str,
        size: u64,
        sha256: &str,
        to: &Path,
    ) -> Result<(), FetchError> {
        if let Some(source) = local_path(uri)? {
            let file = File::open(&source).map_err(|error| local_error(uri, &source, error))?;
            return keep(uri, file, 0, size, sha256, to);
        }
        let have = fs::metadata(partial_of(to)).map_or(0, |data| data.len());
        let resumed = if have < size { have } else { 0 };
        let mut request = self.agent_for(uri).get(uri);
        if resumed > 0 {
            request = request.header("Range", format!("bytes={resumed}-"));
        }
        let response = request.call().map_err(|error| unreachable(uri, &error))?;
        let offset = match response.status().as_u16() {
            200 => 0,
            206 => resumed,
            404 | 410 => return Err(FetchError::Absent { uri: uri.to_owned() }),
            status => return Err(FetchError::Status { uri: uri.to_owned(), status }),
        };
        keep(uri, response.into_body().into_reader(), offset, size, sha256, to)
    }

    fn agent_for(&self, uri: &str) -> ureq::Agent {
        let (scheme, rest) = uri.split_once("://").unwrap_or(("http", uri));
        let authority = rest.split('/').next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default();
        let proxy = (self.proxy)(scheme, host)
            .filter(|proxy| !proxy.eq_ignore_ascii_case("DIRECT"))
            .and_then(|proxy| ureq::Proxy::new(&proxy).ok());
        proxy.map_or_else(|| self.direct.clone(), |proxy| agent(Some(proxy)))
    }
}

fn agent(proxy: Option<ureq::Proxy>) -> ureq::Agent {
    ureq::Agent::config_builder()
        .proxy(proxy)
        .http_status_as_error(false)
        .max_redirects(5)
        .user_agent(concat!("patchwright/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(CONNECT_LIMIT))
        .timeout_recv_response(Some(SILENCE_LIMIT))
        .timeout_global(Some(TOTAL_LIMIT))
        .build()
        .into()
}

fn unreachable(uri: &str, error: &dyn std::fmt::Display) -> FetchError {
    FetchError::Unreachable { uri: uri.to_owned(), reason: error.to_string() }
}

/// Path of a `file:` or `copy:` URI; `None` for what goes over the network.
fn local_path(uri: &str) -> Result<Option<PathBuf>, FetchError> {
    match uri.split_once(':') {
        Some(("http" | "https", _)) => Ok(None),
        Some(("file" | "copy", rest)) => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            Ok(Some(PathBuf::from(path)))
        }
        _ => Err(FetchError::Scheme { uri: uri.to_owned() }),
    }
}

fn local_error(uri: &str, path: &Path, error: io::Error) -> FetchError {
    if error.kind() == io::ErrorKind::NotFound {
        return FetchError::Absent { uri: uri.to_owned() };
    }
    FetchError::Disk { path: path.to_owned(), source: error }
}

fn local_small(uri: &str, path: &Path, limit: u64) -> Result<Fetched, FetchError> {
    match File::open(path) {
        Ok(file) => {
            Ok(Fetched::Content { bytes: read_limited(uri, file, limit)?, mark: Mark::default() })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Fetched::Absent),
        Err(error) => Err(local_error(uri, path, error)),
    }
}

fn read_limited(uri: &str, reader: impl Read, limit: u64) -> Result<Vec<u8>, FetchError> {
    let mut bytes = Vec::new();
    reader.take(limit + 1).read_to_end(&mut bytes).map_err(|error| unreachable(uri, &error))?;
    if bytes.len() as u64 > limit {
        return Err(FetchError::Oversize { uri: uri.to_owned(), limit });
    }
    Ok(bytes)
}

fn partial_of(to: &Path) -> PathBuf {
    let mut name = to.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Appends what arrives to the partial file, verifies the whole and renames it into place.
fn keep(
    uri: &str,
    mut from: impl Read,
    offset: u64,
    size: u64,
    sha256: &str,
    to: &Path,
) -> Result<(), FetchError> {
    let partial = partial_of(to);
    let disk = |source: io::Error| FetchError::Disk { path: partial.clone(), source };
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .write(true)
        .truncate(false)
        .open(&partial)
        .map_err(disk)?;
    file.set_len(offset).map_err(disk)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 128 * 1024];
    loop {
        // What an earlier run left, up to where this one goes on.
        let read = file.read(&mut buffer).map_err(disk)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    let mut got = offset;
    loop {
        let read = from.read(&mut buffer).map_err(|error| unreachable(uri, &error))?;
        if read == 0 {
            break;
        }
        got += read as u64;
        if got > size {
            let _ = fs::remove_file(&partial);
            return Err(FetchError::Oversize { uri: uri.to_owned(), limit: size });
        }
        hasher.update(&buffer[..read]);
        file.write_all(&buffer[..read]).map_err(disk)?;
    }
    if got < size {
        return Err(FetchError::SizeMismatch { uri: uri.to_owned(), wanted: size, got });
    }
    let hash = hex(&hasher.finalize());
    if hash != sha256 {
        let _ = fs::remove_file(&partial);
        let wanted = sha256.to_owned();
        return Err(FetchError::HashMismatch { uri: uri.to_owned(), wanted, got: hash });
    }
    file.sync_all().map_err(disk)?;
    fs::rename(&partial, to).map_err(disk)
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
