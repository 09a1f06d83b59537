//! What is read of a package list: eight fields of each stanza, and apart from them what packages
//! ask of each other.
//!
//! Only these are kept on disk. Debian's main shrinks to a quarter by that, and so does the time
//! of each later check, which does not ask for relations.

use std::fs::File;
use std::io::{self, BufReader, Read as _, Write};
use std::path::Path;

use domain::archive::OfferedPackage;
use domain::deb822::{self, Paragraph};
use domain::dependency::Relations;
use domain::inventory::SourcePackage;

use super::index::{IndexError, IndexFile, PLAIN_LIMIT};
use super::release;
use crate::decompress::Format;

/// Longest line of a list; longer ones end it as not understood. Real ones have 100 kB.
const LINE_LIMIT: usize = 4 << 20;

/// Passes on those lines of a list that are read later.
pub(super) struct Extract<W> {
    to: W,
    fields: &'static [&'static str],
    line: Vec<u8>,
    /// Whether the field is kept that the next continuation line belongs to.
    keeps_field: bool,
}

impl<W: Write> Extract<W> {
    pub(super) fn into(to: W, fields: &'static [&'static str]) -> Self {
        Self { to, fields, line: Vec::new(), keeps_field: false }
    }

    /// Takes the next bytes of the list, wherever they begin and end.
    pub(super) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (rest_of_line, after) = bytes.split_at(end + 1);
            bytes = after;
            if self.line.is_empty() {
                self.pass(rest_of_line)?;
                continue;
            }
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(rest_of_line);
            self.pass(&line)?;
            line.clear();
            self.line = line;
        }
        if self.line.len() + bytes.len() > LINE_LIMIT {
            return Err(io::Error::other(format!("a line has more than {LINE_LIMIT} bytes")));
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// The last line, which may lack its end.
    pub(super) fn finish(mut self) -> io::Result<W> {
        let line = std::mem::take(&mut self.line);
        self.pass(&line)?;
        Ok(self.to)
    }

    fn pass(&mut self, line: &[u8]) -> io::Result<()> {
        let is_blank = line.trim_ascii().is_empty();
        if !is_blank && !line.starts_with(b" ") && !line.starts_with(b"\t") {
            let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
            self.keeps_field =
                self.fields.iter().any(|field| field.as_bytes() == name.trim_ascii_end());
        }
        if is_blank || self.keeps_field { self.to.write_all(line) } else { Ok(()) }
    }
}

/// The fields that are read.
pub(super) const FIELDS: [&str; 8] = [
    "Package",
    "Source",
    "Version",
    "Architecture",
    "Filename",
    "Size",
    "SHA256",
    "Phased-Update-Percentage",
];

/// The fields with what packages ask of each other.
pub(super) const RELATION_FIELDS: [&str; 6] =
    ["Package", "Version", "Architecture", "Pre-Depends", "Depends", "Provides"];

/// Reads those packages of a kept list that are wanted by name and source.
pub(super) fn read(
    index: &IndexFile,
    want: &dyn Fn(&str, &str) -> bool,
) -> Result<Vec<OfferedPackage>, IndexError> {
    Ok(offered(&text(&index.path)?, &index.component, want))
}

/// Reads what those packages of a kept list ask of others that are wanted by name.
pub(super) fn relations(
    index: &IndexFile,
    want: &dyn Fn(&str) -> bool,
) -> Result<Vec<Relations>, IndexError> {
    let text = text(&index.relations)?;
    Ok(deb822::paragraphs(&text)
        .filter_map(Relations::of_paragraph)
        .filter(|package| want(&package.name))
        .collect())
}

/// The text of a kept file.
fn text(path: &Path) -> Result<String, IndexError> {
    let file = File::open(path)
        .map_err(|source| IndexError::Disk { path: path.to_owned(), source })
        .map(BufReader::new)?;
    let mut bytes = Vec::new();
    Format::Zstd
        .reader(file)
        .and_then(|reader| reader.take(PLAIN_LIMIT).read_to_end(&mut bytes))
        .map_err(|error| IndexError::Damaged { path: path.to_owned(), reason: error.to_string() })?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

fn offered(text: &str, component: &str, want: &dyn Fn(&str, &str) -> bool) -> Vec<OfferedPackage> {
    deb822::paragraphs(text).filter_map(|one| package(one, component, want)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn extract(text: &str, step: usize) -> String {
        let mut extract = Extract::into(Vec::new(), &FIELDS);
        for bytes in text.as_bytes().chunks(step) {
            extract.write_all(bytes).unwrap();
        }
        String::from_utf8(extract.finish().unwrap()).unwrap()
    }

    #[test]
    fn only_what_is_read_is_kept() {
        let text = "\
Package: a
Version: 1
Description: long
 Version: 2
Size: 3
\t4
Depends: b

Package: c
";

        for step in [1, 7, 1000] {
            let kept = "Package: a\nVersion: 1\nSize: 3\n\t4\n\nPackage: c\n";
            assert_eq!(extract(text, step), kept);
        }
    }

    #[test]
    fn a_line_without_end_is_not_collected_for_ever() {
        let mut extract = Extract::into(Vec::new(), &FIELDS);
        let block = vec![b'x'; LINE_LIMIT / 2];

        let outcome = (0..3).try_for_each(|_| extract.write_all(&block));

        assert!(outcome.is_err());
    }

    proptest::proptest! {
        /// Reading what is kept gives what reading all would give.
        #[test]
        fn nothing_that_is_read_is_lost(
            lines in proptest::collection::vec(
                "(Package|Version|Source|Size|Architecture|Depends|SHA256)?(:| |\t|#)?[ a-z0-9()\r]{0,6}",
                0..60,
            ),
            step in 1_usize..9,
        ) {
            let text = lines.join("\n");

            let kept = extract(&text, step);

            let all = |_: &str, _: &str| true;
            proptest::prop_assert_eq!(offered(&kept, "main", &all), offered(&text, "main", &all));
        }
    }
}
