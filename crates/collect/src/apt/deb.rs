//! The changelog inside a .deb (`deb(5)`), read as a stream with an upper bound on everything.

use std::io::{self, BufRead, BufReader, Read};

use crate::decompress::Format;

/// Plain bytes of a package's data that are read at most.
const DATA_LIMIT: u64 = 4 << 30;
/// Plain size of a changelog at most; the kernel's has 3 MB.
const CHANGELOG_LIMIT: u64 = 32 << 20;

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
    for entry in archive.entries().map_err(damaged)? {
        let entry = entry.map_err(damaged)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path_bytes().into_owned();
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
