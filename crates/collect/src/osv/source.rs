//! Where records stand: directories, single files, lines, compressed lines, zip archives.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use sha2::{Digest as _, Sha256};
use zip::ZipArchive;

use super::{Collected, Hashing, MAX_RECORD, OsvError};
use crate::fetch::hex;

/// Most records of one source; all of OSV has about half a million.
const MAX_RECORDS: u64 = 2_000_000;
/// Most bytes of one source after decompression; all of Ubuntu has a few GB.
const MAX_TOTAL: u64 = 32 * 1024 * 1024 * 1024;
/// How many times its own length a source may become. Records shrink to a tenth or twentieth;
/// deflate can do a thousand, and overlapping entries of an archive any number.
const MAX_RATIO: u64 = 200;
/// What a source may become, however short it is.
const MIN_TOTAL: u64 = 64 * 1024 * 1024;
/// Deepest directory below the one named.
const MAX_DEPTH: usize = 16;

/// Kinds of files that hold records.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Record,
    Lines,
    Gzip,
    Zip,
}

impl Kind {
    /// By the first bytes, then by the name.
    fn of(name: &str, start: &[u8]) -> Self {
        if start.starts_with(b"PK\x03\x04") || start.starts_with(b"PK\x05\x06") {
            Self::Zip
        } else if start.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip
        } else if has_suffix(name, ".jsonl") || has_suffix(name, ".ndjson") {
            Self::Lines
        } else {
            Self::Record
        }
    }
}

fn has_suffix(name: &str, suffix: &str) -> bool {
    name.len() >= suffix.len()
        && name.as_bytes()[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
}

/// Reads one file of any kind from its beginning.
pub(super) fn read_file(
    name: &str,
    mut file: impl Read + Seek,
    collected: &mut Collected<'_>,
) -> Result<(), OsvError> {
    let unreadable = |source| OsvError::Unreadable { name: name.to_owned(), source };
    let mut start = Vec::new();
    file.rewind().map_err(unreadable)?;
    file.by_ref().take(4).read_to_end(&mut start).map_err(unreadable)?;
    let length = file.seek(SeekFrom::End(0)).map_err(unreadable)?;
    let limit = length.saturating_mul(MAX_RATIO).clamp(MIN_TOTAL, MAX_TOTAL);
    file.rewind().map_err(unreadable)?;
    match Kind::of(name, &start) {
        Kind::Zip => read_zip(name, BufReader::new(file), limit, collected),
        Kind::Gzip => {
            let inner =
                name.len().checked_sub(3).map_or(name, |end| name.get(..end).unwrap_or(name));
            let reader =
                BufReader::with_capacity(1 << 16, MultiGzDecoder::new(BufReader::new(file)));
            let is_lines = has_suffix(inner, ".jsonl") || has_suffix(inner, ".ndjson");
            if is_lines {
                read_lines(name, reader, limit, collected)
            } else {
                read_record(name, reader, collected)
            }
        }
        Kind::Lines => read_lines(name, BufReader::with_capacity(1 << 16, file), limit, collected),
        Kind::Record => read_record(name, file, collected),
    }
}

fn read_record(name: &str, file: impl Read, collected: &mut Collected<'_>) -> Result<(), OsvError> {
    let mut json = Vec::new();
    match file.take(MAX_RECORD as u64 + 1).read_to_end(&mut json) {
        Err(source) => return Err(OsvError::Unreadable { name: name.to_owned(), source }),
        Ok(length) if length > MAX_RECORD => collected.skip(name, None, too_large()),
        Ok(_) => collected.take(name, 1, &json),
    }
    Ok(())
}

fn too_large() -> String {
    format!("it is larger than {MAX_RECORD} bytes")
}

fn read_lines(
    name: &str,
    mut lines: impl BufRead,
    limit: u64,
    collected: &mut Collected<'_>,
) -> Result<(), OsvError> {
    let mut line = Vec::new();
    let mut total: u64 = 0;
    for number in 1.. {
        if number > MAX_RECORDS {
            return Err(too_many(name, "records", MAX_RECORDS));
        }
        line.clear();
        let length = match read_line(&mut lines, &mut line) {
            Ok(0) => break,
            Ok(length) => length,
            // What came before the damage is whole: keep it, and say that the rest is unknown.
            Err(error) => {
                collected.skip(name, Some(number), format!("the rest cannot be read: {error}"));
                break;
            }
        };
        total = total.saturating_add(length);
        if total > limit {
            return Err(too_many(name, "bytes", limit));
        }
        if length > MAX_RECORD as u64 {
            collected.skip(name, Some(number), too_large());
        } else if !line.trim_ascii().is_empty() {
            collected.take(name, number, line.trim_ascii_end());
        }
    }
    Ok(())
}

/// Reads a line, of which at most [`MAX_RECORD`] bytes are kept; returns its whole length.
fn read_line(lines: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    let mut length = lines.by_ref().take(MAX_RECORD as u64 + 1).read_until(b'\n', line)? as u64;
    if length > MAX_RECORD as u64 && line.last() != Some(&b'\n') {
        line.clear();
        length = length.saturating_add(lines.skip_until(b'\n')? as u64);
    }
    Ok(length)
}

fn too_many(name: &str, what: &'static str, limit: u64) -> OsvError {
    OsvError::TooLarge { name: name.to_owned(), what, limit }
}

fn read_zip(
    name: &str,
    file: impl Read + Seek,
    limit: u64,
    collected: &mut Collected<'_>,
) -> Result<(), OsvError> {
    let damaged = |error: &dyn std::fmt::Display| OsvError::DamagedArchive {
        name: name.to_owned(),
        reason: error.to_string(),
    };
    let mut archive = ZipArchive::new(file).map_err(|error| damaged(&error))?;
    if archive.len() as u64 > MAX_RECORDS {
        return Err(too_many(name, "records", MAX_RECORDS));
    }
    let mut total: u64 = 0;
    let mut json = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| damaged(&error))?;
        let inside = entry.name().map_err(|error| damaged(&error))?;
        let inside: String = inside.chars().take(200).collect();
        if !entry.is_file() || !has_suffix(&inside, ".json") {
            continue;
        }
        let file = format!("{name}!{inside}");
        json.clear();
        // The declared size is a claim; what is read is bounded.
        match entry.take(MAX_RECORD as u64 + 1).read_to_end(&mut json) {
            Err(error) => collected.skip(&file, None, error.to_string()),
            Ok(length) if length > MAX_RECORD => collected.skip(&file, None, too_large()),
            Ok(_) => collected.take(&file, 1, &json),
        }
        total = total.saturating_add(json.len() as u64);
        if total > limit {
            return Err(too_many(name, "bytes", limit));
        }
    }
    Ok(())
}

/// Reads all record files below a directory; returns the hash over them.
pub(super) fn read_directory(
    root: &Path,
    collected: &mut Collected<'_>,
) -> Result<String, OsvError> {
    let mut files = Vec::new();
    list(root, 0, &mut files)?;
    files.sort_unstable();
    let mut hash = Hashing(Sha256::new());
    for path in files {
        let name = path.display().to_string();
        let file = File::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            let relative = path.strip_prefix(root).unwrap_or(&path);
            hash.write_all(relative.as_os_str().as_encoded_bytes())?;
            hash.write_all(&[0])?;
            hash.write_all(&length.to_le_bytes())?;
            io::copy(&mut &file, &mut hash)?;
            Ok(file)
        });
        match file {
            Ok(file) => read_file(&name, file, collected)?,
            Err(error) => collected.skip(&name, None, error.to_string()),
        }
    }
    Ok(hex(&hash.0.finalize()))
}

/// Symbolic links are not followed: they could lead round in circles or out of the directory.
fn list(directory: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), OsvError> {
    const SUFFIXES: [&str; 5] = [".json", ".jsonl", ".ndjson", ".gz", ".zip"];
    let name = || directory.display().to_string();
    let unreadable = |source| OsvError::Unreadable { name: name(), source };
    if depth > MAX_DEPTH {
        return Err(too_many(&name(), "levels of directories", MAX_DEPTH as u64));
    }
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            list(&entry.path(), depth + 1, files)?;
        } else if kind.is_file() {
            let file_name = entry.file_name();
            let file_name = file_name.to_string_lossy();
            if SUFFIXES.iter().any(|suffix| has_suffix(&file_name, suffix)) {
                files.push(entry.path());
            }
        }
        if files.len() as u64 > MAX_RECORDS {
            return Err(too_many(&name(), "files", MAX_RECORDS));
        }
    }
    Ok(())
}
