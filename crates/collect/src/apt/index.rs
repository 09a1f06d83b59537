//! Package lists: fetched by hash, verified twice, kept compressed, read for what matters.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use domain::archive::OfferedPackage;
use domain::deb822::{self, Paragraph};
use domain::inventory::SourcePackage;
use sha2::{Digest as _, Sha256};

use super::release::{self, Listed, Release};
use super::store::UNFINISHED;
use crate::decompress::Format;
use crate::fetch::{FetchError, Fetcher, hex};

/// Largest package list that is accepted, plain. Debian's main has 50 MB.
const PLAIN_LIMIT: u64 = 512 << 20;
/// Compression of kept lists: fast to read.
const KEPT_LEVEL: i32 = 3;

/// A package list of one component and architecture.
#[derive(Debug, Clone)]
pub(super) struct IndexFile {
    /// Component it belongs to.
    pub component: String,
    /// Kept plain content, Zstandard-compressed.
    pub path: PathBuf,
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

/// Makes sure that a list is kept; `place` tells where by the hash of its plain content.
pub(super) fn ensure(
    release: &Release,
    base: &str,
    component: &str,
    directory: &str,
    network: Network<'_>,
    place: impl Fn(&str) -> PathBuf,
) -> Result<IndexFile, IndexError> {
    let path = format!("{directory}/Packages").trim_start_matches('/').to_owned();
    let plain =
        release.files.get(&path).ok_or_else(|| IndexError::NotListed { path: path.clone() })?;
    let kept = place(&plain.sha256);
    let file = IndexFile { component: component.to_owned(), path: kept.clone() };
    if kept.exists() {
        return Ok(file);
    }
    let Network::Use(fetcher) = network else { return Err(IndexError::NotCached { path }) };
    let (name, listed, format) = smallest(release, &path, plain);
    for (path, size) in [(&name, listed.size), (&path, plain.size)] {
        if size > PLAIN_LIMIT {
            return Err(IndexError::Oversize { path: path.clone(), size, limit: PLAIN_LIMIT });
        }
    }
    let packed = kept.with_extension("packed");
    fetch_listed(release, base, &name, listed, fetcher, &packed)?;
    let repacked = repack(&name, &packed, format, plain, &kept);
    let _ = fs::remove_file(&packed);
    repacked.map(|()| file)
}

/// The smallest form in which the release offers the list.
fn smallest<'a>(
    release: &'a Release,
    path: &str,
    plain: &'a Listed,
) -> (String, &'a Listed, Format) {
    ["xz", "zst", "gz"]
        .into_iter()
        .filter_map(|ending| {
            let name = format!("{path}.{ending}");
            let listed = release.files.get(&name)?;
            let format = Format::of_name(&name)?;
            Some((name, listed, format))
        })
        .min_by_key(|(_, listed, _)| listed.size)
        .unwrap_or((path.to_owned(), plain, Format::Plain))
}

fn fetch_listed(
    release: &Release,
    base: &str,
    name: &str,
    listed: &Listed,
    fetcher: &Fetcher,
    to: &Path,
) -> Result<(), FetchError> {
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

/// Unpacks, verifies the plain content and keeps it as Zstandard.
fn repack(
    name: &str,
    packed: &Path,
    format: Format,
    plain: &Listed,
    kept: &Path,
) -> Result<(), IndexError> {
    let disk = |source: io::Error| IndexError::Disk { path: kept.to_owned(), source };
    let content = |reason: String| IndexError::Content { path: name.to_owned(), reason };
    let reader = BufReader::new(File::open(packed).map_err(disk)?);
    let unreadable = |error: io::Error| content(error.to_string());
    let mut reader = format.reader(reader).map_err(unreadable)?.take(plain.size + 1);
    let directory = kept.parent().unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(directory).map_err(disk)?;
    let mut encoder = zstd::stream::write::Encoder::new(&file, KEPT_LEVEL).map_err(disk)?;
    let mut hasher = Sha256::new();
    let mut size = 0_u64;
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let read = reader.read(&mut buffer).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        size += read as u64;
        hasher.update(&buffer[..read]);
        encoder.write_all(&buffer[..read]).map_err(disk)?;
    }
    if size != plain.size {
        let more = if size > plain.size { "more" } else { "fewer" };
        return Err(content(format!("it has {more} than {} bytes", plain.size)));
    }
    let hash = hex(&hasher.finalize());
    if hash != plain.sha256 {
        return Err(content(format!("its SHA-256 is {hash}, not {}", plain.sha256)));
    }
    encoder.finish().map_err(disk)?.sync_all().map_err(disk)?;
    file.persist(kept).map(drop).map_err(|error| disk(error.error))
}

trait SyncAll {
    fn sync_all(&self) -> io::Result<()>;
}

impl SyncAll for &tempfile::NamedTempFile {
    fn sync_all(&self) -> io::Result<()> {
        self.as_file().sync_all()
    }
}

/// Reads those packages of a kept list that are wanted by name and source.
pub(super) fn read(
    index: &IndexFile,
    want: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<OfferedPackage>, IndexError> {
    let disk = |source: io::Error| IndexError::Disk { path: index.path.clone(), source };
    let file = BufReader::new(File::open(&index.path).map_err(disk)?);
    let mut bytes = Vec::new();
    Format::Zstd
        .reader(file)
        .map_err(disk)?
        .take(PLAIN_LIMIT)
        .read_to_end(&mut bytes)
        .map_err(disk)?;
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    Ok(deb822::paragraphs(&text).filter_map(|one| package(one, &index.component, want)).collect())
}

/// One stanza, if it is wanted and complete.
fn package(
    stanza: Paragraph<'_>,
    component: &str,
    want: &dyn Fn(&str, &str) -> bool,
) -> Option<OfferedPackage> {
    let mut fields = Fields::default();
    for field in stanza.fields() {
        let slot = match field.name {
            "Package" => &mut fields.package,
            "Source" => &mut fields.source,
            "Version" => &mut fields.version,
            "Architecture" => &mut fields.architecture,
            "Filename" => &mut fields.filename,
            "Size" => &mut fields.size,
            "SHA256" => &mut fields.sha256,
            "Phased-Update-Percentage" => &mut fields.phased,
            _ => continue,
        };
        *slot = Some(field.value);
    }
    let (name, version) = (fields.package?, fields.version?);
    let source = SourcePackage::of_binary(name, version, fields.source);
    if !want(name, &source.name) {
        return None;
    }
    Some(OfferedPackage {
        name: name.to_owned(),
        architecture: fields.architecture?.to_owned(),
        version: version.to_owned(),
        source,
        component: component.to_owned(),
        filename: fields.filename.unwrap_or_default().to_owned(),
        size: fields.size.and_then(|size| size.parse().ok()).unwrap_or(0),
        // What is no hash vouches for nothing, and must not name a file of ours.
        sha256: fields.sha256.and_then(release::sha256).unwrap_or_default(),
        phased_percentage: fields.phased.and_then(|percentage| percentage.parse().ok()),
    })
}

#[derive(Default)]
struct Fields<'a> {
    package: Option<&'a str>,
    source: Option<&'a str>,
    version: Option<&'a str>,
    architecture: Option<&'a str>,
    filename: Option<&'a str>,
    size: Option<&'a str>,
    sha256: Option<&'a str>,
    phased: Option<&'a str>,
}
