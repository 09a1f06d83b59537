//! What dpkg has written down of a package: its stanza, its files, its scripts.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::packages::{Found, PackageFault};

/// Where dpkg keeps it.
const DATABASE: &str = "var/lib/dpkg";

/// Largest status file that is read, in bytes. Real ones have some megabytes.
const LARGEST_STATUS: u64 = 256 << 20;

/// What dpkg knows of one package.
pub(super) struct Written {
    /// Fields of its stanza in their order, each with its lines.
    pub(super) stanza: Vec<(String, String)>,
    /// Paths of its files and directories, without those of the root itself.
    pub(super) paths: Vec<String>,
    /// Its control files beside the lists that dpkg makes: scripts, `triggers`, `shlibs`.
    pub(super) control: Vec<(String, PathBuf)>,
    /// Its configuration files, with the MD5 of what it brought, as dpkg noted it.
    pub(super) conffiles: BTreeMap<String, String>,
}

impl Written {
    pub(super) fn read(root: &Path, package: &Found) -> Result<Self, PackageFault> {
        let database = root.join(DATABASE);
        let stanza = stanza(&database.join("status"), package)?;
        let info = database.join("info");
        let prefixes =
            [format!("{}:{}.", package.name, package.architecture), format!("{}.", package.name)];
        let prefix = prefixes
            .iter()
            .find(|prefix| info.join(format!("{prefix}list")).exists())
            .ok_or_else(|| unusable(format!("{} has no list of files", package.name)))?;
        let list = info.join(format!("{prefix}list"));
        let text = fs::read_to_string(&list).map_err(PackageFault::disk(&list))?;
        let paths = text.lines().filter(|line| !matches!(*line, "/." | "/" | ""));
        let mut control = Vec::new();
        for entry in fs::read_dir(&info).map_err(PackageFault::disk(&info))? {
            let entry = entry.map_err(PackageFault::disk(&info))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            // `libc6.list` is no control file of `lib`, nor `a.b.postinst` one of `a`.
            let Some(kind) = name.strip_prefix(prefix.as_str()) else { continue };
            if !kind.contains('.') && !matches!(kind, "list" | "md5sums" | "conffiles") {
                control.push((kind.to_owned(), entry.path()));
            }
        }
        control.sort();
        let conffiles = conffiles(&stanza);
        Ok(Self { stanza, paths: paths.map(str::to_owned).collect(), control, conffiles })
    }
}

/// The stanza of a package in dpkg's status.
fn stanza(status: &Path, package: &Found) -> Result<Vec<(String, String)>, PackageFault> {
    let size = fs::metadata(status).map_err(PackageFault::disk(status))?.len();
    if size > LARGEST_STATUS {
        return Err(unusable(format!("the status has {size} bytes")));
    }
    let text = fs::read_to_string(status).map_err(PackageFault::disk(status))?;
    text.split("\n\n")
        .map(fields)
        .find(|fields| {
            let is = |name: &str, value: &str| {
                fields.iter().any(|(field, text)| field == name && text == value)
            };
            is("Package", &package.name)
                && is("Architecture", &package.architecture)
                && is("Version", &package.version)
        })
        .ok_or_else(|| unusable(format!("{} {} has no stanza", package.name, package.version)))
}

/// Fields with their values; the lines that go on keep their blanks.
fn fields(stanza: &str) -> Vec<(String, String)> {
    let mut fields: Vec<(String, String)> = Vec::new();
    for line in stanza.lines() {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_owned(), value.trim().to_owned()));
        }
    }
    fields
}

/// ` /etc/tool.conf 0123… [obsolete]`
fn conffiles(stanza: &[(String, String)]) -> BTreeMap<String, String> {
    let lines =
        stanza.iter().filter(|(name, _)| name == "Conffiles").flat_map(|(_, it)| it.lines());
    let conffile = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            [path, md5] => Some(((*path).to_owned(), (*md5).to_owned())),
            // Obsolete ones, or such as are to be removed, are none of the package's any more.
            _ => None,
        }
    };
    lines.filter_map(conffile).collect()
}

fn unusable(reason: String) -> PackageFault {
    PackageFault::Database { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_keeps_its_lines_and_names_its_conffiles() {
        let fields = fields(
            "Package: tool\nConffiles:\n /etc/tool.conf abc\n /etc/old.conf def obsolete\n\
             Description: a tool\n that does\n .\n  things\n",
        );

        assert_eq!(fields[2].1, "a tool\n that does\n .\n  things");
        let expected = BTreeMap::from([("/etc/tool.conf".to_owned(), "abc".to_owned())]);
        assert_eq!(conffiles(&fields), expected);
    }
}
