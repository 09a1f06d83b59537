//! Signed APT archives: from a configured source to packages that can be believed.
//!
//! ```text
//! config ─► Source ─► release file ─► verify (OpenPGP) ─► check (names, dates, not older than
//!                                                          anything seen) ─► Suite
//! Suite ─► package lists by hash ─► OfferedPackage
//! Suite ─► smallest .deb of a source, by hash ─► Changelog
//! Suite ─► .debs, by hash
//! ```
//!
//! A [`Suite`] exists only after everything above held; what is refused comes back as a
//! [`Refusal`] with both values in it, and leaves the state on disk as it was. The defences are
//! those of The Update Framework for the attacks it names: rollback, freeze, mix-and-match,
//! fast-forward, endless data.

mod changelogs;
mod cleartext;
pub mod config;
mod deb;
mod index;
mod packages;
mod release;
mod stanzas;
mod store;
mod verify;

pub use changelogs::{ChangelogError, ChangelogWant};
pub use config::{ConfigError, Source, Trust};
pub use deb::DebError;
pub use index::IndexError;
pub use packages::{PackageError, PackageWant};
pub use release::{Freshness, ReleaseError};
pub use verify::{Keyring, SignatureError, SignedText};

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use domain::archive::{OfferedPackage, SuiteFacts};
use domain::dependency::Relations;
use jiff::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::fetch::{FetchError, Fetched, Fetcher, Mark, hex};
use index::{IndexFile, Network};
use release::Release;
use store::{KeptRelease, SeenState, SuiteStore};

/// Largest release file. Debian's have 150 kB.
const RELEASE_LIMIT: u64 = 16 << 20;
/// How many files are fetched at once.
const PARALLEL: usize = 6;

/// Fetches, verifies and keeps suites below one data directory.
pub struct Collector {
    data: PathBuf,
    fetcher: Option<Fetcher>,
    freshness: Freshness,
    now: Timestamp,
}

/// A suite that was verified, with its package lists at hand.
#[derive(Debug, Clone)]
pub struct Suite {
    /// What it says about itself.
    pub facts: SuiteFacts,
    /// Base URI for pool files, credentials included.
    base: String,
    indices: Vec<IndexFile>,
}

/// Why a suite is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its signature does not hold.
    #[error("its signature is refused")]
    Signature(#[from] SignatureError),
    /// It is not what the source should have now.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// It is older than a state that was seen before (T1).
    #[error("it offers the state of {offered}, but the state of {seen} was seen before")]
    Rollback {
        /// Date of the newest state seen.
        seen: Timestamp,
        /// Date of the state offered.
        offered: Timestamp,
        /// Where the newest state seen is remembered.
        remembered: PathBuf,
    },
    /// It gives two states the same date.
    #[error("it offers another state of {date} than was seen before: {offered} instead of {seen}")]
    Equivocation {
        /// The date of both.
        date: Timestamp,
        /// SHA-256 of the signed text seen before.
        seen: String,
        /// SHA-256 of the signed text offered.
        offered: String,
    },
    /// The suite's name moved on to another release.
    #[error("its codename was `{seen}` and is `{offered}` now")]
    CodenameChanged {
        /// Remembered codename.
        seen: String,
        /// Codename offered.
        offered: String,
        /// Where the old one is remembered.
        remembered: PathBuf,
    },
    /// A package list cannot be used.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It was not fetched before, and we may not fetch now.
    #[error("it was not fetched before")]
    NotCached,
    /// Our own disk failed.
    #[error("cannot keep its state in `{path}`")]
    Disk {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Refusal {
    /// The way out.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Signature(SignatureError::NoKeys) => {
                Some("name its keyring with Signed-By in the source".to_owned())
            }
            Self::Signature(_) => Some(
                "use another mirror; if the archive changed its key, get the new one from its \
                 owner and name it with Signed-By"
                    .to_owned(),
            ),
            Self::Release(error) => error.help(),
            Self::Rollback { remembered, .. } => Some(format!(
                "the mirror is behind or someone replays an old state: use another mirror; if the \
                 newer state was a mistake of its owner, remove `{}`",
                remembered.display()
            )),
            Self::Equivocation { .. } => {
                Some("two signed states of one date: report it to the archive's owner".to_owned())
            }
            Self::CodenameChanged { remembered, .. } => Some(format!(
                "name the release by its codename; to follow the change, remove `{}`",
                remembered.display()
            )),
            Self::Index(error) => error.help(),
            Self::Fetch(error) => error.help(),
            Self::NotCached => Some("run once without --offline".to_owned()),
            Self::Disk { .. } => Some(
                "check space and permissions there, or name another directory with --data"
                    .to_owned(),
            ),
        }
    }
}

/// What happens while collecting, for whoever watches.
pub trait Progress: Sync {
    /// A piece of work starts: a suite's name, or a package whose changelog is read.
    fn started(&self, what: &str);
    /// It ended.
    fn finished(&self, what: &str);
    /// Whether nobody wants it any more; asked before each piece of work.
    fn is_called_off(&self) -> bool {
        false
    }
}

/// Nobody watches.
impl Progress for () {
    fn started(&self, _: &str) {}
    fn finished(&self, _: &str) {}
}

impl Collector {
    /// Collects into `data`, judging freshness at `now`. Without a `fetcher` only what was fetched
    /// before is used.
    pub fn new(
        data: impl Into<PathBuf>,
        fetcher: Option<Fetcher>,
        freshness: Freshness,
        now: Timestamp,
    ) -> Self {
        Self { data: data.into(), fetcher, freshness, now }
    }

    /// Brings the sources up to date, several at once; one outcome each, in their order.
    pub fn refresh(
        &self,
        sources: &[Source],
        architectures: &[String],
        progress: &dyn Progress,
    ) -> Vec<Result<Suite, Refusal>> {
        in_parallel(sources, |source| {
            progress.started(&source.suite);
            let outcome = self.refresh_one(source, architectures);
            progress.finished(&source.suite);
            outcome
        })
    }

    fn refresh_one(&self, source: &Source, architectures: &[String]) -> Result<Suite, Refusal> {
        let disk =
            |error: io::Error| Refusal::Disk { path: self.data.join("archives"), source: error };
        let store = SuiteStore::lock(&self.data, &source.uri, &source.suite).map_err(disk)?;
        let seen = store.state().map_err(disk)?;
        let base = dists(source);
        let obtained = self.obtain(&base, &store, seen.as_ref())?;
        let signed = self.verify(source, &obtained)?;
        // Without its last newline, which a signature around the text leaves out.
        let text_sha256 = hex(&Sha256::digest(signed.text.trim_end()));
        let file_sha256 = hex(&Sha256::digest(&obtained.release));
        let mut release = Release::check(source, &signed, file_sha256, &self.freshness, self.now)?;
        refuse_older(&release, &text_sha256, seen.as_ref(), store.directory())?;
        let indices = self.indices(source, architectures, &mut release, &base, &store)?;
        if let Network::Use(_) = self.network() {
            let state = SeenState {
                uri: release.facts.uri.clone(),
                suite: source.suite.clone(),
                date: release.facts.date,
                text_sha256,
                file_sha256: release.facts.release_sha256.clone(),
                codename: release.facts.codename.clone(),
                mark: obtained.mark.clone(),
                history: Vec::new(),
            }
            .remembering(seen.as_ref());
            // Not only this run's: another may read the same suite for other architectures.
            let listed: BTreeSet<&str> =
                release.files.values().map(|file| file.sha256.as_str()).collect();
            store
                .commit(&obtained.release, obtained.signature.as_deref(), &state, &listed)
                .map_err(disk)?;
        }
        Ok(Suite { facts: release.facts, base: source.uri.clone(), indices })
    }

    fn network(&self) -> Network<'_> {
        self.fetcher.as_ref().map_or(Network::Offline, Network::Use)
    }

    /// The release file: fetched, or kept where it has not changed since.
    fn obtain(
        &self,
        base: &str,
        store: &SuiteStore,
        seen: Option<&SeenState>,
    ) -> Result<Obtained, Refusal> {
        let kept = || -> Result<Option<Obtained>, Refusal> {
            let kept = store
                .release()
                .map_err(|source| Refusal::Disk { path: store.directory().to_owned(), source })?;
            let mark = seen.map(|seen| seen.mark.clone()).unwrap_or_default();
            Ok(kept.map(|KeptRelease { release, signature }| Obtained { release, signature, mark }))
        };
        let Network::Use(fetcher) = self.network() else {
            return kept()?.ok_or(Refusal::NotCached);
        };
        let known = kept()?;
        // Only an `InRelease` that is kept as it came is fetched on condition of its change.
        let whole = |known: &&Obtained| {
            let kept = hex(&Sha256::digest(&known.release));
            known.signature.is_none() && seen.is_some_and(|seen| seen.file_sha256 == kept)
        };
        let mark = known.as_ref().filter(whole).map(|known| known.mark.clone()).unwrap_or_default();
        match fetcher.small(&format!("{base}/InRelease"), RELEASE_LIMIT, &mark)? {
            Fetched::Content { bytes, mark } => {
                return Ok(Obtained { release: bytes, signature: None, mark });
            }
            Fetched::Unchanged => return known.ok_or(Refusal::NotCached),
            Fetched::Absent => {}
        }
        let fetch = |name: &str| -> Result<Vec<u8>, Refusal> {
            let uri = format!("{base}/{name}");
            match fetcher.small(&uri, RELEASE_LIMIT, &Mark::default())? {
                Fetched::Content { bytes, .. } => Ok(bytes),
                Fetched::Unchanged | Fetched::Absent => Err(FetchError::Absent { uri }.into()),
            }
        };
        let release = fetch("Release")?;
        let signature = match fetch("Release.gpg") {
            // `verify` tells whether the source needs one.
            Err(Refusal::Fetch(FetchError::Absent { .. })) => Vec::new(),
            other => other?,
        };
        Ok(Obtained { release, signature: Some(signature), mark: Mark::default() })
    }

    fn verify(&self, source: &Source, obtained: &Obtained) -> Result<SignedText, Refusal> {
        let file = String::from_utf8(obtained.release.clone())
            .map_err(|_| SignatureError::Malformed { reason: "it is not text".to_owned() })?;
        let keys = match &source.trust {
            Trust::Keys(keys) => keys,
            Trust::Unsigned => {
                return Ok(SignedText { text: verify::strip_armor(&file), signers: Vec::new() });
            }
        };
        Ok(match &obtained.signature {
            None => keys.verify_inline(&file, self.now)?,
            Some(signature) => keys.verify_detached(&file, signature, self.now)?,
        })
    }

    /// The package lists that the source and the system call for.
    fn indices(
        &self,
        source: &Source,
        architectures: &[String],
        release: &mut Release,
        base: &str,
        store: &SuiteStore,
    ) -> Result<Vec<IndexFile>, Refusal> {
        let wanted = source.architectures.of(architectures);
        let ensure = |component: &str, directory: &str| {
            let place = |sha256: &str| store.index_path(sha256);
            index::ensure(release, base, component, directory, self.network(), place)
        };
        if source.suite.ends_with('/') {
            return Ok(vec![ensure("", "")?]);
        }
        let mut indices = Vec::new();
        let mut read = BTreeSet::new();
        for component in &source.components {
            let mut found = false;
            let all = release.lists_all_apart.then(|| "all".to_owned());
            for architecture in wanted.iter().chain(&all) {
                match ensure(component, &format!("{component}/binary-{architecture}")) {
                    Ok(index) => {
                        indices.push(index);
                        read.insert(architecture.clone());
                        found = true;
                    }
                    // An archive need not carry every architecture, but at least one.
                    Err(IndexError::NotListed { .. }) => {}
                    Err(other) => return Err(other.into()),
                }
            }
            if !found {
                let path = format!("{component}/binary-{}/Packages", wanted.join("|"));
                return Err(IndexError::NotListed { path }.into());
            }
        }
        release.facts.architectures = read.into_iter().collect();
        Ok(indices)
    }
}

/// A release file with its detached signature, where it has one.
struct Obtained {
    release: Vec<u8>,
    signature: Option<Vec<u8>>,
    mark: Mark,
}

/// Directory of a suite's release file.
fn dists(source: &Source) -> String {
    match source.suite.strip_suffix('/') {
        Some(flat) => format!("{}/{flat}", source.uri).trim_end_matches(['/', '.']).to_owned(),
        None => format!("{}/dists/{}", source.uri, source.suite),
    }
}

/// Nothing older than what was seen, nothing else of the same date, no change of release.
fn refuse_older(
    release: &Release,
    text_sha256: &str,
    seen: Option<&SeenState>,
    directory: &Path,
) -> Result<(), Refusal> {
    let Some(seen) = seen else { return Ok(()) };
    let offered = release.facts.date;
    if offered < seen.date {
        let remembered = directory.to_owned();
        return Err(Refusal::Rollback { seen: seen.date, offered, remembered });
    }
    if offered == seen.date && text_sha256 != seen.text_sha256 {
        return Err(Refusal::Equivocation {
            date: offered,
            seen: seen.text_sha256.clone(),
            offered: text_sha256.to_owned(),
        });
    }
    match (&seen.codename, &release.facts.codename) {
        (Some(before), Some(now)) if before != now => Err(Refusal::CodenameChanged {
            seen: before.clone(),
            offered: now.clone(),
            remembered: directory.to_owned(),
        }),
        _ => Ok(()),
    }
}

impl Suite {
    /// The packages that are wanted by binary and source name, from all lists.
    pub fn packages(
        &self,
        want: &dyn Fn(&str, &str) -> bool,
    ) -> Result<Vec<OfferedPackage>, IndexError> {
        let mut packages = Vec::new();
        for index in &self.indices {
            packages.extend(stanzas::read(index, want)?);
        }
        Ok(packages)
    }

    /// What packages ask of each other that are wanted by name, from all lists.
    pub fn relations(&self, want: &dyn Fn(&str) -> bool) -> Result<Vec<Relations>, IndexError> {
        let mut packages = Vec::new();
        for index in &self.indices {
            packages.extend(stanzas::relations(index, want)?);
        }
        Ok(packages)
    }

    /// Where a pool file of this suite is fetched from.
    fn pool_uri(&self, filename: &str) -> String {
        format!("{}/{}", self.base, filename.trim_start_matches("./"))
    }
}

/// Applies `work` to all items, a few at once; results in the items' order.
fn in_parallel<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, R)>> = Mutex::new(Vec::with_capacity(items.len()));
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let position = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(position) else { break };
                    let result = work(item);
                    done.lock()
                        .expect("no worker panics while it holds it")
                        .push((position, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("all workers have ended");
    done.sort_by_key(|(position, _)| *position);
    done.into_iter().map(|(_, result)| result).collect()
}
