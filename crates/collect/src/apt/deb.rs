//! The changelog inside a .deb (`deb(5)`), read as a stream with an upper bound on everything.

use std::io::{self, BufRead, BufReader, Read};

use crate::decompress::Format;

/// Plain bytes of a package's data that are read at most.
const DATA_LIMIT: u64 = 4 << 30;
/// Plain size of a changelog at most; the kernel's has 3 MB.
const CHANGELOG_LIMIT: u64 = 32 << 20;
/// Longest path in a package; Linux opens none that is longer.
const NAME_LIMIT: u64 = 4096;

/// Why no changelog could be read from a .deb.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// It is no .deb, or damaged.
    #[error("the package file is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
    /// It holds no changelog of its own: many link to another package's.
    #[error("the package file holds no changelog")]
    NoChangelog,
    /// Its changelog is another one.
    #[error("its changelog does not speak of version {wanted}; its newest entry is {newest}")]
    OtherVersion {
        /// Source version that the package was built from.
        wanted: String,
        /// Newest version that the changelog names.
        newest: String,
    },
    /// It was fetched before and had none.
    #[error("{reason}")]
    Known {
        /// What was wrong then.
        reason: String,
    },
    /// Its changelog unpacks to too much.
    #[error("its changelog is longer than {limit} bytes")]
    Oversize {
        /// The limit.
        limit: u64,
    },
}

fn damaged(error: impl std::fmt::Display) -> DebError {
    DebError::Damaged { reason: error.to_string() }
}

/// The Debian changelog of a package, from its .deb.
pub(super) fn changelog(deb: impl Read, package: &str) -> Result<String, DebError> {
    let mut deb = BufReader::new(deb);
    let format = find_data(&mut deb)?;
    let data = format.reader(deb).map_err(damaged)?.take(DATA_LIMIT);
    let mut archive = tar::Archive::new(data);
    let mut native = None;
    let mut long_name = None;
    // Raw, because the library would hold long names in memory however long they are.
    for entry in archive.entries().map_err(damaged)?.raw(true) {
        let mut entry = entry.map_err(damaged)?;
        let kind = entry.header().entry_type();
        if kind.is_gnu_longname() {
            long_name = Some(read_name(&mut entry)?);
            continue;
        }
        if kind.is_gnu_longlink() || kind.is_pax_local_extensions() {
            continue;
        }
        let path = long_name.take().unwrap_or_else(|| entry.path_bytes().into_owned());
        if !kind.is_file() {
            continue;
        }
        let path = String::from_utf8_lossy(&path);
        let path = path.trim_start_matches("./").trim_start_matches('/');
        let Some(name) = path
            .strip_prefix("usr/share/doc/")
            .and_then(|rest| rest.strip_prefix(package))
            .and_then(|rest| rest.strip_prefix('/'))
        else {
            continue;
        };
        match name {
            "changelog.Debian.gz" => return unpack(entry),
            // Native packages have only this one; in others it is the upstream author's.
            "changelog.gz" => native = Some(unpack(entry)?),
            _ => {}
        }
    }
    native.ok_or(DebError::NoChangelog)
}

/// The name of the next entry (GNU type `L`).
fn read_name(entry: &mut impl Read) -> Result<Vec<u8>, DebError> {
    let mut name = Vec::new();
    entry.take(NAME_LIMIT + 1).read_to_end(&mut name).map_err(damaged)?;
    if name.len() as u64 > NAME_LIMIT {
        return Err(damaged(format!("a name in it is longer than {NAME_LIMIT} bytes")));
    }
    name.truncate(name.iter().position(|byte| *byte == 0).unwrap_or(name.len()));
    Ok(name)
}

fn unpack(gzip: impl Read) -> Result<String, DebError> {
    let mut bytes = Vec::new();
    flate2::read::MultiGzDecoder::new(gzip)
        .take(CHANGELOG_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(damaged)?;
    if bytes.len() as u64 > CHANGELOG_LIMIT {
        return Err(DebError::Oversize { limit: CHANGELOG_LIMIT });
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Leaves the reader at the content of `data.tar.*` (`ar(5)` members with 60-byte headers).
fn find_data(deb: &mut impl BufRead) -> Result<Format, DebError> {
    let mut magic = [0; 8];
    deb.read_exact(&mut magic).map_err(damaged)?;
    if &magic != b"!<arch>\n" {
        return Err(damaged("it does not begin as an ar archive"));
    }
    loop {
        let mut header = [0; 60];
        deb.read_exact(&mut header).map_err(|_| damaged("it holds no data.tar"))?;
        let name = String::from_utf8_lossy(&header[..16]);
        let name = name.trim_end().trim_end_matches('/');
        if name.starts_with("data.tar") {
            return Format::of_name(name)
                .ok_or_else(|| damaged(format!("`{name}` is compressed in an unknown way")));
        }
        let size = String::from_utf8_lossy(&header[48..58]);
        let size: u64 = size.trim().parse().map_err(|_| damaged("a member's size is no number"))?;
        let padded = size.checked_add(size % 2).ok_or_else(|| damaged("a member is too long"))?;
        let skipped = io::copy(&mut deb.by_ref().take(padded), &mut io::sink()).map_err(damaged)?;
        if skipped < padded {
            return Err(damaged("it ends in the middle of a member"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    /// A .deb with these entries of type, path and content in its data.
    fn deb(entries: &[(tar::EntryType, &str, &[u8])]) -> Vec<u8> {
        let mut data = Vec::new();
        for (kind, path, content) in entries {
            let mut header = tar::Header::new_gnu();
            header.as_gnu_mut().unwrap().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(content.len() as u64);
            header.set_cksum();
            data.extend_from_slice(header.as_bytes());
            data.extend_from_slice(content);
            data.resize(data.len().next_multiple_of(512), 0);
        }
        data.extend_from_slice(&[0; 1024]);
        let packed = zstd::encode_all(data.as_slice(), 1).unwrap();
        let mut deb = b"!<arch>\n".to_vec();
        for (name, content) in [("debian-binary", b"2.0\n".as_slice()), ("data.tar.zst", &packed)] {
            let size = content.len();
            writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`", 0, 0, 0, 100_644).unwrap();
            deb.extend_from_slice(content);
        }
        deb
    }

    fn gzip(text: &str) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    const FILE: tar::EntryType = tar::EntryType::Regular;
    const LONG_NAME: tar::EntryType = tar::EntryType::GNULongName;

    #[test]
    fn the_debian_changelog_comes_before_the_authors() {
        let (ours, theirs) = (gzip("ours"), gzip("theirs"));
        let upstream = (FILE, "./usr/share/doc/tool/changelog.gz", theirs.as_slice());
        let debian = (FILE, "./usr/share/doc/tool/changelog.Debian.gz", ours.as_slice());
        let other = (FILE, "./usr/share/doc/tool2/changelog.Debian.gz", theirs.as_slice());

        let read = |entries: &[_]| changelog(deb(entries).as_slice(), "tool").ok();

        assert_eq!(read(&[other, upstream, debian]).as_deref(), Some("ours"));
        assert_eq!(read(&[upstream]).as_deref(), Some("theirs"));
        assert_eq!(read(&[other]), None);
    }

    #[test]
    fn a_long_name_is_read_and_a_longer_one_refused() {
        let package = "tool-".repeat(30);
        let path = format!("./usr/share/doc/{package}/changelog.Debian.gz\0");
        let text = gzip("long");
        let good = deb(&[(LONG_NAME, "././@LongLink", path.as_bytes()), (FILE, "./cut", &text)]);
        let bomb = deb(&[(LONG_NAME, "././@LongLink", &vec![b'a'; 32 << 20]), (FILE, "./a", b"")]);

        assert_eq!(changelog(good.as_slice(), &package).unwrap(), "long");
        let error = changelog(bomb.as_slice(), "tool").unwrap_err();
        assert!(error.to_string().contains("longer than 4096 bytes"), "{error}");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let text = gzip(&"entry\n".repeat(100));
        let whole = deb(&[(FILE, "./usr/share/doc/tool/changelog.Debian.gz", &text)]);
        let needed = (0..whole.len()).rev().find(|end| changelog(&whole[..*end], "tool").is_err());

        for end in 0..=needed.unwrap() {
            assert!(changelog(&whole[..end], "tool").is_err(), "{end} of {}", whole.len());
        }
    }
}
