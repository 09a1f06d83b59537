//! Makes a .deb of what is installed (`deb(5)`), as `dpkg-repack` does: the way back does not depend on
//! an archive that may not have the old version any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use tar::{Builder, EntryType, Header};

use super::dpkg_files::Written;
use super::packages::{Found, PackageFault};

/// Fields that are dpkg's own notes, and none of a package's.
const NOTES: [&str; 6] = [
    "Status",
    "Conffiles",
    "Config-Version",
    "Triggers-Pending",
    "Triggers-Awaited",
    "Essential-Was",
];

/// Stands for the content that an altered configuration file came with, which nobody has any more. So
/// dpkg goes on to know that the owner altered it.
const UNKNOWN: &[u8] = b"# What this file came with is not known any more.\n";

/// A .deb of an installed package; `altered` are configuration files that are not as they came.
pub(super) fn repack(
    root: &Path,
    package: &Found,
    altered: &BTreeSet<String>,
    into: &Path,
) -> Result<PathBuf, PackageFault> {
    let written = Written::read(root, package)?;
    let name = format!("{}_{}_{}.deb", package.name, package.version, package.architecture);
    // A version may have a colon, which apt takes for something else in a file's name.
    let path = into.join(name.replace(':', "%3a"));
    let beside = path.with_extension("new");
    let failed = PackageFault::disk(&path);
    let make = || -> io::Result<()> {
        let data_path = path.with_extension("data");
        let mut data = Builder::new(File::create(&data_path)?);
        write_data(&mut data, root, package, &written, altered)?;
        data.into_inner()?.sync_all()?;
        let mut deb = File::create(&beside)?;
        deb.write_all(b"!<arch>\n")?;
        member(&mut deb, "debian-binary", b"2.0\n".len() as u64, &mut b"2.0\n".as_slice())?;
        let control = control(&written)?;
        member(&mut deb, "control.tar", control.len() as u64, &mut control.as_slice())?;
        let mut data = File::open(&data_path)?;
        let length = data.metadata()?.len();
        member(&mut deb, "data.tar", length, &mut data)?;
        deb.sync_all()?;
        fs::remove_file(&data_path)?;
        fs::rename(&beside, &path)
    };
    make().map_err(failed)?;
    Ok(path)
}

/// A member of an archive (`ar(5)`), padded to even length.
fn member(deb: &mut File, name: &str, length: u64, content: &mut dyn io::Read) -> io::Result<()> {
    writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{length:<10}`", 0, 0, 0, 100_644)?;
    let copied = io::copy(&mut content.take(length), deb)?;
    if copied != length {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a member ended early"));
    }
    if length % 2 == 1 {
        deb.write_all(b"\n")?;
    }
    Ok(())
}

/// The stanza without dpkg's notes, the scripts, and the names of the configuration files.
fn control(written: &Written) -> io::Result<Vec<u8>> {
    let mut stanza = String::new();
    for (name, value) in written.stanza.iter().filter(|(name, _)| !NOTES.contains(&name.as_str())) {
        let _ = writeln!(stanza, "{name}: {value}");
    }
    let mut tar = Builder::new(Vec::new());
    put(&mut tar, "./control", 0o644, stanza.as_bytes())?;
    if !written.conffiles.is_empty() {
        let mut list = String::new();
        for path in written.conffiles.keys() {
            let _ = writeln!(list, "{path}");
        }
        put(&mut tar, "./conffiles", 0o644, list.as_bytes())?;
    }
    for (kind, path) in &written.control {
        let mode = fs::metadata(path)?.mode() & 0o777;
        put(&mut tar, &format!("./{kind}"), mode, &fs::read(path)?)?;
    }
    tar.into_inner()
}

fn put(tar: &mut Builder<Vec<u8>>, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(mode);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, name, content)
}

fn write_data(
    tar: &mut Builder<File>,
    root: &Path,
    package: &Found,
    written: &Written,
    altered: &BTreeSet<String>,
) -> io::Result<()> {
    let diverted = diversions(root, &package.name)?;
    for path in &written.paths {
        let is_setting = written.conffiles.contains_key(path);
        // Where another package put its own in this one's place, this one's lies elsewhere.
        let lies = diverted.get(path).unwrap_or(path);
        let found = fs::symlink_metadata(root.join(lies.trim_start_matches('/')));
        let name = format!(".{path}");
        match found {
            Ok(data) if is_setting && (altered.contains(path) || !data.is_file()) => {
                unknown(tar, &name)?;
            }
            Ok(data) => append(tar, &name, &root.join(lies.trim_start_matches('/')), &data)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_setting => {
                unknown(tar, &name)?;
            }
            // Taken away by the owner, or never unpacked (dpkg's `path-exclude`).
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn unknown(tar: &mut Builder<File>, name: &str) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(UNKNOWN.len() as u64);
    tar.append_data(&mut header, name, UNKNOWN)
}

fn append(tar: &mut Builder<File>, name: &str, path: &Path, data: &fs::Metadata) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(data.mode() & 0o7777);
    header.set_uid(data.uid().into());
    header.set_gid(data.gid().into());
    header.set_mtime(data.mtime().try_into().unwrap_or(0));
    header.set_size(0);
    let kind = data.file_type();
    if kind.is_dir() {
        header.set_entry_type(EntryType::Directory);
        tar.append_data(&mut header, format!("{name}/"), io::empty())
    } else if kind.is_symlink() {
        header.set_entry_type(EntryType::Symlink);
        tar.append_link(&mut header, name, fs::read_link(path)?)
    } else if kind.is_file() {
        let file = File::open(path)?;
        header.set_entry_type(EntryType::Regular);
        header.set_size(data.len());
        tar.append_data(&mut header, name, file)
    } else if kind.is_fifo() {
        header.set_entry_type(EntryType::Fifo);
        tar.append_data(&mut header, name, io::empty())
    } else {
        let what = format!("`{}` is neither a file, a directory nor a link", path.display());
        Err(io::Error::new(io::ErrorKind::Unsupported, what))
    }
}

/// Where files of a package lie that another one diverted (`dpkg-divert(1)`).
fn diversions(root: &Path, package: &str) -> io::Result<BTreeMap<String, String>> {
    let text = match fs::read_to_string(root.join("var/lib/dpkg/diversions")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let lines: Vec<_> = text.lines().collect();
    let diversion = |lines: &[&str]| match lines {
        [from, to, by] if *by != package => Some(((*from).to_owned(), (*to).to_owned())),
        _ => None,
    };
    Ok(lines.chunks(3).filter_map(diversion).collect())
}
