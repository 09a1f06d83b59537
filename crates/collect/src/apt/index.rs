//! Package lists: fetched by hash, verified packed and plain, kept for what is read of them.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::release::{Listed, Release};
use super::stanzas::{self, Extract};
use super::store::UNFINISHED;
use crate::decompress::Format;
use crate::fetch::{FetchError, Fetcher, hex};

/// Largest package list that is accepted, plain. Debian's main has 50 MB.
pub(super) const PLAIN_LIMIT: u64 = 512 << 20;
/// Compression of kept lists: fast to read.
const KEPT_LEVEL: i32 = 3;

/// A package list of one component and architecture.
#[derive(Debug, Clone)]
pub(super) struct IndexFile {
    /// Component it belongs to.
    pub component: String,
    /// What is kept of it, Zstandard-compressed.
    pub path: PathBuf,
    /// What its packages ask of each other, likewise.
    pub relations: PathBuf,
}

/// Why a package list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The release vouches for no such list.
    #[error("the release file lists no `{path}`")]
    NotListed {
        /// Path of the plain list.
        path: String,
    },
    /// It could not be fetched, or is not what the release vouches for.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It was not fetched before, and we may not fetch now.
    #[error("`{path}` was not fetched before")]
    NotCached {
        /// Path of the plain list.
        path: String,
    },
    /// The release vouches for an absurd size.
    #[error("`{path}` would have {size} bytes; the limit is {limit}")]
    Oversize {
        /// Path of the list.
        path: String,
        /// Listed size.
        size: u64,
        /// Our limit.
        limit: u64,
    },
    /// It unpacks to something else than the release vouches for.
    #[error("`{path}` does not unpack to what the release file says: {reason}")]
    Content {
        /// Path of the compressed list.
        path: String,
        /// What differs.
        reason: String,
    },
    /// What is kept of it was damaged since.
    #[error("`{path}` was damaged on this disk: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
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

impl IndexError {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        let text = match self {
            Self::Damaged { path, .. } => {
                return Some(format!("remove `{}`; it is fetched again", path.display()));
            }
            Self::NotListed { .. } => "check the source's components and architectures",
            Self::Fetch(error) => return error.help(),
            Self::NotCached { .. } => "run once without --offline",
            Self::Oversize { .. } | Self::Content { .. } => {
                "the mirror is being updated or altered: try again, or use another mirror"
            }
            Self::Disk { .. } => "check space and permissions there, or name another with --data",
        };
        Some(text.to_owned())
    }
}

/// Whether a missing list may be fetched.
#[derive(Clone, Copy)]
pub(super) enum Network<'a> {
    /// It may.
    Use(&'a Fetcher),
    /// Only what was fetched before is used.
    Offline,
}

/// Makes sure that a list is kept; `place` tells where by the hash that names it.
pub(super) fn ensure(
    release: &Release,
    base: &str,
    component: &str,
    directory: &str,
    network: Network<'_>,
    place: impl Fn(&str) -> PathBuf,
) -> Result<IndexFile, IndexError> {
    let path = format!("{directory}/Packages").trim_start_matches('/').to_owned();
    let plain = release.files.get(&path);
    let smallest = smallest(release, &path)
        .or_else(|| Some(Form { name: path.clone(), listed: plain?, format: Format::Plain }));
    let Some(form) = smallest else { return Err(IndexError::NotListed { path }) };
    // Some archives list the packed forms only; then the one that is read names it.
    let kept = place(&plain.unwrap_or(form.listed).sha256);
    let relations = kept.with_extension("relations.zst");
    let file = IndexFile { component: component.to_owned(), path: kept, relations };
    if file.path.exists() && file.relations.exists() {
        return Ok(file);
    }
    let Network::Use(fetcher) = network else { return Err(IndexError::NotCached { path }) };
    for listed in plain.into_iter().chain([form.listed]) {
        if listed.size > PLAIN_LIMIT {
            let (path, size) = (form.name, listed.size);
            return Err(IndexError::Oversize { path, size, limit: PLAIN_LIMIT });
        }
    }
    let packed = file.path.with_extension("packed");
    fetch_listed(release, base, &form, fetcher, &packed)?;
    let repacked = repack(&form, &packed, plain, &file);
    let _ = fs::remove_file(&packed);
    repacked.map(|()| file)
}

/// A form in which a release offers a list.
struct Form<'a> {
    name: String,
    listed: &'a Listed,
    format: Format,
}

/// The smallest packed form.
fn smallest<'a>(release: &'a Release, path: &str) -> Option<Form<'a>> {
    ["xz", "zst", "gz"]
        .into_iter()
        .filter_map(|ending| {
            let name = format!("{path}.{ending}");
            let listed = release.files.get(&name)?;
            let format = Format::of_name(&name)?;
            Some(Form { name, listed, format })
        })
        .min_by_key(|form| form.listed.size)
}

fn fetch_listed(
    release: &Release,
    base: &str,
    form: &Form<'_>,
    fetcher: &Fetcher,
    to: &Path,
) -> Result<(), FetchError> {
    let Form { name, listed, .. } = form;
    let by_name = format!("{base}/{name}");
    if release.by_hash {
        let directory = name.rfind('/').map_or("", |slash| &name[..=slash]);
        let by_hash = format!("{base}/{directory}by-hash/SHA256/{}", listed.sha256);
        match fetcher.verified(&by_hash, listed.size, &listed.sha256, to) {
            // Mirrors by file copy may lack the by-hash links.
            Err(FetchError::Absent { .. }) => {}
            other => return other,
        }
    }
    fetcher.verified(&by_name, listed.size, &listed.sha256, to)
}

/// Unpacks, verifies the plain content where the release lists it, and keeps what is read of it.
fn repack(
    form: &Form<'_>,
    packed: &Path,
    plain: Option<&Listed>,
    kept: &IndexFile,
) -> Result<(), IndexError> {
    let disk = |source: io::Error| IndexError::Disk { path: kept.path.clone(), source };
    let content = |reason: String| IndexError::Content { path: form.name.clone(), reason };
    let unreadable = |error: io::Error| content(error.to_string());
    let limit = plain.map_or(PLAIN_LIMIT, |plain| plain.size);
    let packed = BufReader::new(File::open(packed).map_err(disk)?);
    let mut reader = form.format.reader(packed).map_err(unreadable)?.take(limit + 1);
    let mut list = Kept::begin(&kept.path, &stanzas::FIELDS).map_err(disk)?;
    let mut relations = Kept::begin(&kept.relations, &stanzas::RELATION_FIELDS).map_err(disk)?;
    let mut hasher = Sha256::new();
    let mut size = 0_u64;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = reader.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        if size > limit {
            return Err(content(format!("it has more than {limit} bytes")));
        }
        hasher.update(&buffer[..read]);
        list.extract.write_all(&buffer[..read]).map_err(disk)?;
        relations.extract.write_all(&buffer[..read]).map_err(disk)?;
    }
    if let Some(plain) = plain {
        if size != plain.size {
            return Err(content(format!("it has fewer than {} bytes", plain.size)));
        }
        let hash = hex(&hasher.finalize());
        if hash != plain.sha256 {
            return Err(content(format!("its SHA-256 is {hash}, not {}", plain.sha256)));
        }
    }
    relations.finish(&kept.relations).and_then(|()| list.finish(&kept.path)).map_err(disk)
}

/// A file that keeps some fields of a list, not at its place yet.
struct Kept {
    file: tempfile::NamedTempFile,
    extract: Extract<zstd::stream::write::Encoder<'static, File>>,
}

impl Kept {
    fn begin(place: &Path, fields: &'static [&'static str]) -> io::Result<Self> {
        let directory = place.parent().unwrap_or(Path::new("."));
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory)?;
        let mut encoder =
            zstd::stream::write::Encoder::new(file.as_file().try_clone()?, KEPT_LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(Self { file, extract: Extract::into(encoder, fields) })
    }

    fn finish(self, place: &Path) -> io::Result<()> {
        self.extract.finish()?.finish()?.sync_all()?;
        self.file.persist(place).map(drop).map_err(|error| error.error)
    }
}
