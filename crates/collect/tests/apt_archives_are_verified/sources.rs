//! Sources are understood as apt understands them, and errors name their place.

use std::collections::BTreeMap;

use collect::apt::config::{self, Expiry, read_sources};
use collect::apt::{ConfigError, Source, Trust};

use super::archive::Key;
use super::world::{NOW, World, packages};

type Files = BTreeMap<String, Vec<u8>>;

fn files(entries: &[(&str, &str)]) -> Files {
    entries.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

fn read(entries: &[(&str, &str)]) -> Result<Vec<Source>, ConfigError> {
    read_sources(&files(entries), domain::apt_conf::ETC_APT)
}

/// `uri suite components [architectures]` of each.
fn summary(sources: &[Source]) -> Vec<String> {
    sources
        .iter()
        .map(|source| {
            let (components, architectures) = (&source.components, source.architectures.of(&[]));
            format!(
                "{} {} {} [{}]",
                source.uri,
                source.suite,
                components.join("+"),
                architectures.join("+")
            )
        })
        .collect()
}

#[test]
fn one_line_sources_are_read() {
    let text = "\
# deb http://commented.example.org stable main
deb http://a.example.org/debian/ bookworm main contrib # why not

deb-src http://a.example.org/debian bookworm main
deb [arch=amd64,arm64 trusted=yes check-valid-until=no] http://b.example.org flat/
deb http://a.example.org/debian bookworm non-free
";

    let sources = read(&[("/etc/apt/sources.list", text)]).unwrap();

    assert_eq!(
        summary(&sources),
        [
            "http://a.example.org/debian bookworm main+contrib+non-free []",
            "http://b.example.org flat/  [amd64+arm64]",
        ]
    );
    assert!(matches!(sources[0].trust, Trust::Keys(_)));
    assert_eq!(sources[0].expiry, Expiry::Honoured);
    assert!(matches!(sources[1].trust, Trust::Unsigned));
    assert_eq!(sources[1].expiry, Expiry::Ignored);
    assert_eq!(sources[1].place, "`/etc/apt/sources.list`, line 5");
}

#[test]
fn deb822_sources_are_read() {
    let text = "\
# A comment of its own.

Types: deb deb-src
URIs: http://a.example.org http://b.example.org/
Suites: bookworm bookworm-updates
# between fields
Components: main
 contrib
Architectures: amd64 arm64

Enabled: no
Types: deb
URIs: http://c.example.org
Suites: bookworm
Components: main

Types: deb-src
URIs: http://d.example.org
Suites: bookworm
Components: main
";

    let sources = read(&[("/etc/apt/sources.list.d/a.sources", text)]).unwrap();

    assert_eq!(
        summary(&sources),
        [
            "http://a.example.org bookworm main+contrib [amd64+arm64]",
            "http://a.example.org bookworm-updates main+contrib [amd64+arm64]",
            "http://b.example.org bookworm main+contrib [amd64+arm64]",
            "http://b.example.org bookworm-updates main+contrib [amd64+arm64]",
        ]
    );
}

#[test]
fn only_files_that_apt_would_read_are_read() {
    let line = "deb http://a.example.org x/\n";
    let sources = read(&[
        ("/etc/apt/sources.list.d/b.list", "deb http://b.example.org x/\n"),
        ("/etc/apt/sources.list.d/a.list", line),
        ("/etc/apt/sources.list.d/a.list.save", line),
        ("/etc/apt/sources.list.d/a~.list", line),
        ("/etc/apt/sources.list.d/sub/a.list", line),
    ])
    .unwrap();

    assert_eq!(summary(&sources), ["http://a.example.org x/  []", "http://b.example.org x/  []"]);
}

#[test]
fn keys_are_named_by_path_by_block_or_by_fingerprint() {
    let world = World::new();
    let stranger = Key::new();
    let uri = world.server.uri();
    let line = |option: &str| format!("deb [signed-by={option}] {uri} bookworm-security main\n");
    let keys = [
        ("/etc/apt/trusted.gpg.d/a.gpg".to_owned(), world.key.public()),
        ("/etc/apt/trusted.gpg.d/b.asc".to_owned(), stranger.armored().into_bytes()),
        ("/etc/apt/trusted.gpg.d/c.gpg".to_owned(), b"no keyring".to_vec()),
        ("/keys/good.asc".to_owned(), world.key.armored().into_bytes()),
        ("/keys/other.gpg".to_owned(), stranger.public()),
    ];
    let fingerprint = &world.key.fingerprint;
    let unsigned_by = format!("deb {uri} bookworm-security main\n");

    for (text, is_good) in [
        (line("/keys/good.asc"), true),
        (line("/keys/other.gpg,/keys/good.asc"), true),
        (line(fingerprint), true),
        (line(&fingerprint.to_lowercase()), true),
        (line(&format!("{fingerprint}!")), true),
        (unsigned_by, true),
        (world.sources_text(), true),
        (line("/keys/other.gpg"), false),
        (line(&stranger.fingerprint), false),
        (line("0000000000000000000000000000000000000000"), false),
    ] {
        let mut files: Files = keys.iter().cloned().collect();
        files.insert("/etc/apt/sources.list".to_owned(), Vec::new());
        files.insert("/s".to_owned(), text.clone().into_bytes());
        let source = config::read_sources_file(&files, "/s", "/etc/apt").unwrap().remove(0);

        let outcome = world.refresh_of(&source, NOW);

        assert_eq!(outcome.is_ok(), is_good, "{text}");
    }
}

#[test]
fn a_source_is_told_without_its_password() {
    let line = "deb http://user:secret@a.example.org/debian x/\n";

    let sources = read(&[("/etc/apt/sources.list", line)]).unwrap();

    assert_eq!(sources[0].public_uri(), "http://a.example.org/debian");
}

#[test]
fn a_source_that_is_not_understood_is_refused_with_its_place() {
    for (path, text, message) in [
        ("sources.list", "\ndeb\n", "`/etc/apt/sources.list`, line 2: it names no archive"),
        (
            "sources.list",
            "rpm http://a.example.org x/\n",
            "`/etc/apt/sources.list`, line 1: it starts with neither `deb` nor `deb-src`",
        ),
        (
            "sources.list",
            "deb [arch=amd64 http://a.example.org x/\n",
            "`/etc/apt/sources.list`, line 1: its `[` is not closed",
        ),
        (
            "sources.list",
            "deb [trusted] http://a.example.org x/\n",
            "`/etc/apt/sources.list`, line 1: its option `trusted` has no value",
        ),
        (
            "sources.list",
            "deb http://a.example.org\n",
            "`/etc/apt/sources.list`, line 1: it has no suite",
        ),
        (
            "sources.list",
            "deb http://a.example.org bookworm\n",
            "`/etc/apt/sources.list`, line 1: it has no component, which only flat archives do \
             without",
        ),
        (
            "sources.list.d/a.sources",
            "Types: deb\nURIs: http://a.example.org\nSuites: x/\n\nTypes: deb\nSuites: bookworm\n",
            "`/etc/apt/sources.list.d/a.sources`, stanza 2: it has no `URIs`",
        ),
        (
            "sources.list.d/a.sources",
            "Types: deb\nURIs: http://a.example.org\nSuites: bookworm\n",
            "`/etc/apt/sources.list.d/a.sources`, stanza 1: it has no `Components`, which only \
             flat archives do without",
        ),
        (
            "sources.list",
            "deb [signed-by=/no/such.gpg] http://a.example.org x/\n",
            "`/etc/apt/sources.list`, line 1: the keyring `/no/such.gpg` cannot be used: there is \
             no such file",
        ),
    ] {
        let error = read(&[(&format!("/etc/apt/{path}"), text)]).unwrap_err();

        assert_eq!(error.to_string(), message);
        assert!(error.help().is_some());
    }
}

#[test]
fn a_scheme_that_nobody_speaks_is_refused() {
    let world = World::new();
    let text = world.sources_text().replace("http://", "ftp://");

    let refusal = world.refresh_of(&super::world::source(&text), NOW).unwrap_err();

    assert!(refusal.to_string().ends_with("this scheme is not supported"), "{refusal}");
    assert_eq!(packages(&world.refresh().unwrap()), ["tool-main 1.0-1"]);
}
