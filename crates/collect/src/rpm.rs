//! What an RPM repository lists: `repomd.xml` names the list of packages by its hash, and that names each
//! package by its own.
//!
//! Whoever fetched `repodata` has verified what vouches for `repomd.xml`; everything behind it is held
//! against its hash here. A list of two hundred megabytes is read in bounded memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};
use sha2::{Digest as _, Sha256};

use crate::decompress::Format;
use crate::fetch::hex;

/// Largest `repomd.xml`; real ones have some kilobytes.
const LARGEST_INDEX: u64 = 1 << 20;
/// Largest list as it is packed, and unpacked. Fedora's has 20 and 200 megabytes.
const LARGEST_PACKED: u64 = 512 << 20;
const LARGEST_LIST: u64 = 4 << 30;
/// Longest text or tag of a list: descriptions have some kilobytes.
const LONGEST_TOKEN: usize = 1 << 20;
/// Most packages of wanted names that a list may have: each has a few versions.
const MOST_LISTED: usize = 100_000;

/// A package as a list names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its architecture.
    pub architecture: String,
    /// `[epoch:]version-release`, without an epoch of 0.
    pub version: String,
    /// SHA-256 of the package file, lower-case hex.
    pub sha256: String,
    /// Size of the package file in bytes.
    pub size: u64,
}

/// Why a repository's list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// A file cannot be read.
    #[error("`{path}` cannot be read: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("`{path}` cannot be used: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Packages of some names that a repository lists with a SHA-256, out of its directory `repodata`.
///
/// # Errors
/// If the list is not there, not what `repomd.xml` says, or no list.
pub fn listed(
    repodata: &Path,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Listed>, RepositoryError> {
    let index = repodata.join("repomd.xml");
    let unusable = |reason: String| RepositoryError::Unusable { path: index.clone(), reason };
    let file = File::open(&index).map_err(io_error(&index))?;
    let primary = parse_index(BufReader::new(file.take(LARGEST_INDEX))).map_err(unusable)?;
    // A name beside the index, wherever that says it lies.
    let name = Path::new(&primary.place).file_name().unwrap_or_default();
    let path = repodata.join(name);
    let unusable = |reason: String| RepositoryError::Unusable { path: path.clone(), reason };
    let format = Format::of_name(&primary.place)
        .ok_or_else(|| unusable("it is packed in a way that is not read".to_owned()))?;
    let mut file = File::open(&path).map_err(io_error(&path))?;
    let sha256 = hash(&mut file).map_err(io_error(&path))?;
    if sha256 != primary.sha256 {
        let reason = format!("its SHA-256 is {sha256}, and `repomd.xml` says {}", primary.sha256);
        return Err(unusable(reason));
    }
    let file = BufReader::new(File::open(&path).map_err(io_error(&path))?);
    let plain = format.reader(file).map_err(io_error(&path))?;
    parse_list(plain.take(LARGEST_LIST), is_wanted).map_err(unusable)
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> RepositoryError {
    let path = path.to_owned();
    move |source| RepositoryError::Io { path: path.clone(), source }
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    let mut rest = LARGEST_PACKED;
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(hex(&hash.finalize()));
        }
        rest = rest
            .checked_sub(length as u64)
            .ok_or_else(|| io::Error::other(format!("it has more than {LARGEST_PACKED} bytes")))?;
        hash.update(&piece[..length]);
    }
}

/// Where the list of packages lies, and its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    /// Relative to the repository.
    pub place: String,
    /// Lower-case hex.
    pub sha256: String,
}

/// Reads `repomd.xml`.
///
/// # Errors
/// In words, if it is none, or names no list with a SHA-256.
pub fn parse_index(from: impl Read) -> Result<Primary, String> {
    let mut reader = reader(from);
    let mut buffer = Vec::new();
    let (mut is_primary, mut hashes) = (false, false);
    let (mut place, mut sha256) = (None, None);
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(|error| error.to_string())? {
            Event::Start(tag) | Event::Empty(tag) => match tag.local_name().as_ref() {
                b"data" => is_primary = attribute(&tag, "type").as_deref() == Some("primary"),
                b"location" if is_primary => place = attribute(&tag, "href"),
                b"checksum" if is_primary => {
                    hashes = attribute(&tag, "type").as_deref() == Some("sha256");
                }
                _ => {}
            },
            Event::Text(text) if hashes => {
                sha256 = String::from_utf8(text.trim_ascii().to_vec()).ok();
                hashes = false;
            }
            Event::End(tag) => match tag.local_name().as_ref() {
                b"data" => is_primary = false,
                b"checksum" => hashes = false,
                _ => {}
            },
            Event::Eof => break,
            _ => {}
        }
    }
    match (place, sha256) {
        (Some(place), Some(sha256)) if is_hash(&sha256) => Ok(Primary { place, sha256 }),
        _ => Err("it names no list of packages with a SHA-256".to_owned()),
    }
}

/// Which text of a package is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Name,
    Architecture,
    Hash,
}

/// Reads a list of packages (`primary.xml`).
///
/// # Errors
/// In words, if it is none.
pub fn parse_list(
    from: impl Read,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Result<Vec<Listed>, String> {
    let mut reader = reader(from);
    let mut buffer = Vec::new();
    let mut all = Vec::new();
    let mut depth = 0_usize;
    let mut field = None;
    let mut now = Parts::default();
    loop {
        buffer.clear();
        match reader.read_event_into(&mut buffer).map_err(|error| error.to_string())? {
            Event::Start(tag) => {
                depth += 1;
                field = if depth == 3 { now.begin(&tag) } else { None };
                if depth == 2 {
                    now = Parts::default();
                }
            }
            Event::Empty(tag) if depth == 2 => {
                now.begin(&tag);
            }
            Event::Text(text) => {
                if let Some(field) = field {
                    now.take(field, &text);
                }
            }
            // Names, architectures and hashes have none.
            Event::GeneralRef(_) | Event::CData(_) if field.is_some() => now.is_strange = true,
            Event::End(_) => {
                field = None;
                depth = depth.checked_sub(1).ok_or("it ends more than it begins")?;
                if depth == 1
                    && let Some(listed) = std::mem::take(&mut now).finish()
                    && is_wanted(&listed.name)
                {
                    if all.len() == MOST_LISTED {
                        return Err(format!("it lists more than {MOST_LISTED} versions"));
                    }
                    all.push(listed);
                }
            }
            Event::Eof if depth > 0 => return Err("it is cut off".to_owned()),
            Event::Eof => return Ok(all),
            _ => {}
        }
    }
}

/// What was read of a package so far.
#[derive(Default)]
struct Parts {
    name: String,
    architecture: String,
    version: Option<String>,
    has_sha256: bool,
    hash: String,
    size: Option<u64>,
    is_strange: bool,
}

impl Parts {
    /// A tag of a package; which text of it is to be read.
    fn begin(&mut self, tag: &BytesStart<'_>) -> Option<Field> {
        match tag.local_name().as_ref() {
            b"name" => return Some(Field::Name),
            b"arch" => return Some(Field::Architecture),
            b"checksum" => {
                self.has_sha256 = attribute(tag, "type").as_deref() == Some("sha256");
                return Some(Field::Hash);
            }
            b"version" => {
                let part = |name: &str| attribute(tag, name).filter(|it| !it.is_empty());
                let epoch = part("epoch").filter(|epoch| epoch != "0");
                let epoch = epoch.map(|epoch| format!("{epoch}:")).unwrap_or_default();
                self.version = part("ver")
                    .and_then(|version| Some(format!("{epoch}{version}-{}", part("rel")?)));
            }
            b"size" => self.size = attribute(tag, "package").and_then(|size| size.parse().ok()),
            _ => {}
        }
        None
    }

    fn take(&mut self, field: Field, text: &[u8]) {
        let Ok(text) = std::str::from_utf8(text) else {
            self.is_strange = true;
            return;
        };
        match field {
            Field::Name => self.name.push_str(text),
            Field::Architecture => self.architecture.push_str(text),
            Field::Hash => self.hash.push_str(text),
        }
    }

    /// `None` for what cannot be named exactly.
    fn finish(self) -> Option<Listed> {
        let Self { name, architecture, version, hash, size, .. } = self;
        let is_word = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_graphic());
        let version = version.filter(|version| is_word(version))?;
        let sha256 = hash.trim().to_ascii_lowercase();
        let is_named = is_word(&name) && is_word(&architecture) && is_hash(&sha256);
        if self.is_strange || !self.has_sha256 || !is_named {
            return None;
        }
        Some(Listed { name, architecture, version, sha256, size: size? })
    }
}

fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| it.is_ascii_hexdigit())
}

/// The value of an attribute; `None` where it is not plain.
fn attribute(tag: &BytesStart<'_>, name: &str) -> Option<String> {
    let attribute = tag.try_get_attribute(name).ok()??;
    let value = std::str::from_utf8(&attribute.value).ok()?;
    (!value.contains('&')).then(|| value.to_owned())
}

fn reader(from: impl Read) -> Reader<impl BufRead> {
    Reader::from_reader(BufReader::new(ShortTokens { from, length: 0 }))
}

/// Ends where a text or tag never does: the parser keeps each whole.
struct ShortTokens<R> {
    from: R,
    length: usize,
}

impl<R: Read> Read for ShortTokens<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        for byte in &into[..read] {
            self.length = if matches!(byte, b'<' | b'>') { 0 } else { self.length + 1 };
            if self.length > LONGEST_TOKEN {
                let why = format!("something in it is longer than {LONGEST_TOKEN} bytes");
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "369140563fe42134ba31edbd276a59822f54fab3b998812a0637615bb9509a96";

    fn package(name: &str, version: &str, hash: &str) -> String {
        format!(
            "<package type=\"rpm\">\n <name>{name}</name>\n <arch>x86_64</arch>\n {version}\n \
             <checksum type=\"{hash}\" pkgid=\"YES\">{HASH}</checksum>\n \
             <description>a &lt;tool&gt;</description>\n \
             <size package=\"7316\" installed=\"38\" archive=\"1220\"/>\n <format>\
             <rpm:provides><rpm:entry name=\"x\" epoch=\"9\" ver=\"9\" rel=\"9\"/></rpm:provides>\
             <rpm:name>other</rpm:name></format>\n</package>\n"
        )
    }

    fn list(packages: &[String]) -> String {
        let packages = packages.concat();
        format!(
            "<?xml version=\"1.0\"?>\n<metadata xmlns=\"c\" xmlns:rpm=\"r\">{packages}</metadata>"
        )
    }

    #[test]
    fn exactly_what_is_wanted_and_named_with_a_sha256_is_listed() {
        let plain = "<version epoch=\"0\" ver=\"1.0\" rel=\"2\"/>";
        let epoch = "<version epoch=\"3\" ver=\"1.0\" rel=\"2\"/>";
        let text = list(&[
            package("tool", plain, "sha256"),
            package("tool", epoch, "sha256"),
            package("other", plain, "sha256"),
            package("tool", "<version epoch=\"0\" ver=\"1.9\" rel=\"2\"/>", "sha"),
            package("tool", "<version epoch=\"0\" ver=\"1.9\"/>", "sha256"),
            package("to&amp;ol", plain, "sha256"),
        ]);

        let listed = parse_list(text.as_bytes(), &|name| name != "other").unwrap();

        let versions: Vec<_> = listed.iter().map(|it| it.version.as_str()).collect();
        assert_eq!(versions, ["1.0-2", "3:1.0-2"]);
        assert_eq!((listed[0].name.as_str(), listed[0].size), ("tool", 7316));
        assert_eq!(listed[0].sha256, HASH);
    }

    #[test]
    fn what_is_cut_off_or_never_ends_is_no_list() {
        let whole =
            list(&[package("tool", "<version epoch=\"0\" ver=\"1\" rel=\"2\"/>", "sha256")]);
        assert!(parse_list(&whole.as_bytes()[..whole.len() - 12], &|_| true).is_err());
        let long = format!("<metadata><package><name>{}", "a".repeat(LONGEST_TOKEN + 1));
        let told = parse_list(long.as_bytes(), &|_| true).unwrap_err();
        assert!(told.contains("longer than"), "{told}");
    }

    #[test]
    fn a_list_is_held_against_the_hash_of_its_index() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, content: &[u8]| {
            std::fs::write(directory.path().join(name), content).unwrap();
        };
        let list = list(&[package("tool", "<version epoch=\"0\" ver=\"1\" rel=\"2\"/>", "sha256")]);
        let packed = zstd::encode_all(list.as_bytes(), 1).unwrap();
        let index = |sha256: &str| {
            format!(
                "<repomd><data type=\"other\"><checksum type=\"sha256\">{HASH}</checksum>\
                 <location href=\"repodata/other.xml.gz\"/></data><data type=\"primary\">\
                 <checksum type=\"sha256\">{sha256}</checksum>\
                 <location href=\"repodata/primary.xml.zst\"/></data></repomd>"
            )
        };
        write("primary.xml.zst", &packed);
        write("repomd.xml", index(&hex(&Sha256::digest(&packed))).as_bytes());
        assert_eq!(listed(directory.path(), &|_| true).unwrap().len(), 1);

        write("repomd.xml", index(HASH).as_bytes());
        let told = listed(directory.path(), &|_| true).unwrap_err().to_string();
        assert!(told.contains("its SHA-256 is"), "{told}");
        write("repomd.xml", index("").as_bytes());
        assert!(listed(directory.path(), &|_| true).is_err());
    }
}
