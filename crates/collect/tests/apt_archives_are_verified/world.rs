//! An archive, its key, its server, and a collector that trusts the key.

use std::collections::BTreeMap;
use std::path::Path;

use collect::apt::config::read_sources_file;
use collect::apt::{Collector, Freshness, Refusal, Source, Suite};
use collect::fetch::Fetcher;
use jiff::Timestamp;
use tempfile::TempDir;

use super::archive::{Archive, Edition, Key};
use super::server::Server;

/// When all tests take place.
pub(crate) const NOW: &str = "2026-11-23T12:00:00Z";

pub(crate) struct World {
    pub(crate) key: Key,
    pub(crate) archive: Archive,
    pub(crate) server: Server,
    pub(crate) data: TempDir,
}

impl World {
    /// With the default edition published.
    pub(crate) fn new() -> Self {
        Self::with(&Edition::default())
    }

    pub(crate) fn with(edition: &Edition) -> Self {
        let (key, archive) = (Key::new(), Archive::new());
        archive.publish(edition, &key);
        let server = Server::start(archive.root());
        Self { key, archive, server, data: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn publish(&self, edition: &Edition) {
        self.archive.publish(edition, &self.key);
    }

    /// The source as its administrator would write it.
    pub(crate) fn sources_text(&self) -> String {
        sources_text(&self.server.uri(), "bookworm-security", "main", &self.key)
    }

    pub(crate) fn source(&self) -> Source {
        source(&self.sources_text())
    }

    pub(crate) fn refresh(&self) -> Result<Suite, Refusal> {
        self.refresh_of(&self.source(), NOW)
    }

    pub(crate) fn refresh_at(&self, now: &str) -> Result<Suite, Refusal> {
        self.refresh_of(&self.source(), now)
    }

    pub(crate) fn refresh_of(&self, source: &Source, now: &str) -> Result<Suite, Refusal> {
        refresh(&online(self.data.path(), now), source)
    }

    pub(crate) fn offline(&self) -> Result<Suite, Refusal> {
        self.offline_at(NOW)
    }

    pub(crate) fn offline_at(&self, now: &str) -> Result<Suite, Refusal> {
        refresh(&offline(self.data.path(), now), &self.source())
    }

    pub(crate) fn refusal(&self) -> Refusal {
        let refusal = self.refresh().unwrap_err();
        assert!(refusal.help().is_some(), "{refusal}");
        refusal
    }
}

pub(crate) fn sources_text(uri: &str, suites: &str, components: &str, key: &Key) -> String {
    let block: Vec<String> = key
        .armored()
        .lines()
        .map(|line| format!(" {}", if line.is_empty() { "." } else { line }))
        .collect();
    format!(
        "Types: deb\nURIs: {uri}\nSuites: {suites}\nComponents: {components}\nSigned-By:\n{}\n",
        block.join("\n")
    )
}

pub(crate) fn source(text: &str) -> Source {
    let files = BTreeMap::from([("/s.sources".to_owned(), text.as_bytes().to_vec())]);
    read_sources_file(&files, "/s.sources", "/etc/apt").unwrap().remove(0)
}

pub(crate) fn online(data: &Path, now: &str) -> Collector {
    let fetcher = Fetcher::new(Box::new(|_, _| None));
    Collector::new(data, Some(fetcher), Freshness::default(), now.parse().unwrap())
}

pub(crate) fn offline(data: &Path, now: &str) -> Collector {
    let now: Timestamp = now.parse().unwrap();
    Collector::new(data, None, Freshness::default(), now)
}

pub(crate) fn refresh(collector: &Collector, source: &Source) -> Result<Suite, Refusal> {
    let sources = std::slice::from_ref(source);
    collector.refresh(sources, &["amd64".to_owned()], &()).remove(0)
}

/// `name version` of all packages.
pub(crate) fn packages(suite: &Suite) -> Vec<String> {
    let all = suite.packages(&|_, _| true).unwrap();
    all.iter().map(|package| format!("{} {}", package.name, package.version)).collect()
}
