//! `os-release(5)`: which operating system this is.

use domain::files::{FileError, FileView};
use domain::inventory::OsRelease;

/// Where it stands, in the order to look (`os-release(5)`).
pub(crate) const PATHS: [&str; 2] = ["/etc/os-release", "/usr/lib/os-release"];

/// Real files hold some hundred bytes.
const LIMIT: u64 = 64 * 1024;

/// Reads the identity of the system, `None` where it does not say who it is.
pub(crate) fn read(files: &dyn FileView) -> Result<Option<OsRelease>, FileError> {
    for path in PATHS {
        if let Some(content) = files.read(path, LIMIT)? {
            return Ok(Some(parse(&String::from_utf8_lossy(&content))));
        }
    }
    Ok(None)
}

/// Parses assignments; what is no assignment is skipped, the last of a name wins as in a shell.
pub(crate) fn parse(text: &str) -> OsRelease {
    let mut os = OsRelease::default();
    let mut name = None;
    for line in text.lines() {
        let line = line.trim();
        let Some((variable, value)) = line.split_once('=') else { continue };
        if line.starts_with('#') {
            continue;
        }
        let value = unquote(value);
        let given = (!value.is_empty()).then(|| value.clone());
        match variable {
            "ID" => os.id = value.to_lowercase(),
            "ID_LIKE" => os.id_like = value.split_whitespace().map(str::to_owned).collect(),
            "VERSION_ID" => os.version_id = given,
            "VERSION_CODENAME" => os.codename = given,
            "PRETTY_NAME" => os.pretty_name = value,
            "NAME" => name = given,
            _ => {}
        }
    }
    // Defaults of os-release(5).
    if os.id.is_empty() {
        "linux".clone_into(&mut os.id);
    }
    if os.pretty_name.is_empty() {
        os.pretty_name = name.unwrap_or_else(|| "Linux".to_owned());
    }
    os
}

/// Undoes the shell quoting that os-release(5) allows.
fn unquote(value: &str) -> String {
    let value = value.trim();
    let mut plain = String::with_capacity(value.len());
    let mut quote = None;
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), close) if open == close => quote = None,
            // Within double quotes a backslash escapes only what is special there.
            (Some('"'), '\\') => match characters.next() {
                Some(special @ ('"' | '\\' | '$' | '`')) => plain.push(special),
                Some(other) => plain.extend(['\\', other]),
                None => plain.push('\\'),
            },
            (None, '\\') => plain.extend(characters.next()),
            (None, character) if character.is_whitespace() => break,
            (_, character) => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_is_read() {
        let os = parse(
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nNAME=\"Debian GNU/Linux\"\n\
             VERSION_ID=\"12\"\nVERSION=\"12 (bookworm)\"\nVERSION_CODENAME=bookworm\nID=debian\n",
        );

        assert_eq!(os.id, "debian");
        assert_eq!(os.version_id.as_deref(), Some("12"));
        assert_eq!(os.codename.as_deref(), Some("bookworm"));
        assert_eq!(os.pretty_name, "Debian GNU/Linux 12 (bookworm)");
    }

    #[test]
    fn quotes_escapes_and_comments_are_the_shells() {
        let os = parse(
            "# ID=comment\nnonsense\nID='almalinux'\nID_LIKE=\"rhel centos fedora\"\n\
             PRETTY_NAME=\"a \\\"b\\\" \\$c \\d\"\nVERSION_ID=9.4 # trailing\nVERSION_CODENAME=\"\"\n",
        );

        assert_eq!(os.id, "almalinux");
        assert_eq!(os.id_like, ["rhel", "centos", "fedora"]);
        assert_eq!(os.pretty_name, "a \"b\" $c \\d");
        assert_eq!(os.version_id.as_deref(), Some("9.4"));
        assert_eq!(os.codename, None);
    }

    #[test]
    fn a_nameless_system_is_called_linux() {
        assert_eq!(parse("").id, "linux");
        assert_eq!(parse("NAME=Acme\n").pretty_name, "Acme");
    }
}
