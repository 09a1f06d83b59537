//! Makes a .deb of what is installed (`deb(5)`), as `dpkg-repack` does: the way back does not depend on
//! an archive that may not have the old version any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek as _, SeekFrom, Write};
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

/// How much is written to a .deb at a time.
const PIECE: usize = 256 * 1024;

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
        let mut deb = BufWriter::with_capacity(PIECE, File::create(&beside)?);
        deb.write_all(b"!<arch>\n")?;
        member(&mut deb, "debian-binary", b"2.0\n")?;
        member(&mut deb, "control.tar", &control(&written)?)?;
        // How long it gets is known afterwards; writing it elsewhere first would write it twice.
        let begins = deb.stream_position()?;
        head(&mut deb, "data.tar", 0)?;
        let mut data = Builder::new(deb);
        write_data(&mut data, root, package, &written, altered)?;
        let mut deb = data.into_inner()?;
        let length = deb.stream_position()? - begins - HEAD;
        deb.seek(SeekFrom::Start(begins))?;
        head(&mut deb, "data.tar", length)?;
        deb.into_inner()?.sync_all()?;
        fs::rename(&beside, &path)
    };
    make().map_err(failed)?;
    Ok(path)
}

/// Bytes before a member's content.
const HEAD: u64 = 60;

/// What stands before a member of an archive (`ar(5)`).
fn head(deb: &mut impl Write, name: &str, length: u64) -> io::Result<()> {
    writeln!(deb, "{name:<16}{:<12}{:<6}{:<6}{:<8}{length:<10}`", 0, 0, 0, 100_644)
}

/// A member. All are of even length, as they have to be: whole blocks of `tar`, and the format's number.
fn member(deb: &mut impl Write, name: &str, content: &[u8]) -> io::Result<()> {
    head(deb, name, content.len() as u64)?;
    deb.write_all(content)
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
    tar: &mut Builder<impl Write>,
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

fn unknown(tar: &mut Builder<impl Write>, name: &str) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(UNKNOWN.len() as u64);
    tar.append_data(&mut header, name, UNKNOWN)
}

fn append(
    tar: &mut Builder<impl Write>,
    name: &str,
    path: &Path,
    data: &fs::Metadata,
) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::execute::packages::{Completeness, Hold, Newer};

    /// Bytes that this thread wrote so far, to whatever file (`proc(5)`).
    fn written() -> u64 {
        let text = fs::read_to_string("/proc/thread-self/io").unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn what_is_kept_of_a_package_is_written_once() {
        let place = tempfile::tempdir().unwrap();
        let (root, back) = (place.path().join("root"), place.path().join("back"));
        let file = |path: &str, content: &[u8]| {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        };
        let stanza =
            b"Package: tool\nStatus: install ok installed\nMaintainer: A <a@example.org>\n\
                       Architecture: amd64\nVersion: 1:1.0-1\nDescription: an example\n";
        file("var/lib/dpkg/status", stanza);
        file("var/lib/dpkg/info/tool.list", b"/.\n/usr\n/usr/tool\n");
        file("usr/tool", &vec![b'x'; 4 << 20]);
        fs::create_dir(&back).unwrap();
        let [name, architecture, version] = ["tool", "amd64", "1:1.0-1"].map(str::to_owned);
        let (completeness, hold) = (Completeness::Whole, Hold::Free);
        let newer = Newer::Replaces;
        let tool = Found { name, architecture, version, completeness, hold, newer };

        let before = written();
        let deb = repack(&root, &tool, &BTreeSet::new(), &back).unwrap();
        let wrote = written() - before;

        let size = deb.metadata().unwrap().len();
        assert!(size > 4 << 20 && wrote < size + 4096, "{wrote} bytes for a file of {size}");
        assert_eq!(fs::read_dir(&back).unwrap().count(), 1, "nothing lies beside it");
        let listed = Command::new("dpkg-deb").arg("--contents").arg(&deb).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        assert!(listed.contains(" 4194304 ") && listed.ends_with(" usr/tool\n"), "{listed}");
    }
}
