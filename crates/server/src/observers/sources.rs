//! Sources: what a repository's commits made of its files, what a document is now, what an image holds, one of our own
//! or of the cloud's stores.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use ::sources::git::{self, Movement, Remote, Step, Walk};
use ::sources::http::{self, Seen, Wanted};
use ::sources::{Document, Roots, SourceError};
use devices::{HostKey, Secret};
use domain::agent::Trace;
use domain::cloud::{CiId, Slug};
use domain::configuration::secret::FingerprintKey;
use domain::configuration::verdict::{Actor as Hand, Evidence};
use domain::device::DeviceState;
use domain::source::{Form, Pointer, SourceKind, SourceSettings};
use reach::Reach;
use serde::{Deserialize, Serialize};
use store::{
    Actor, Attribution, FilePath, Metadata, NewBatch, NewFile, NewState, Past, Source,
    SourceLooked, StoreError, Telling, Vault,
};

use super::{Parts, Told};
use crate::image_stores::FetchedImage;

/// How sure it is who wrote a commit, in per cent: by their own word.
const BY_THEIR_WORD: u8 = 50;

/// The same where a history was written anew: somebody else may have done that.
const REWRITTEN: u8 = 20;

/// Longest word about who altered something, in bytes.
const LONGEST_WORD: usize = 256;

/// What opens a source, as it is sealed.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct SourceOpening {
    pub(crate) password: Option<Secret>,
    pub(crate) key: Option<Secret>,
    pub(crate) headers: BTreeMap<String, Secret>,
}

impl SourceOpening {
    fn place(ci: CiId, name: &Slug) -> String {
        format!("source {ci} {name}")
    }

    /// Sealed for its item and name; `None` never happens for secrets of sane length.
    pub(crate) fn seal(
        &self,
        vault: &Vault,
        (ci, name): (CiId, &Slug),
        nonce: [u8; 24],
    ) -> Option<Vec<u8>> {
        let text = zeroize::Zeroizing::new(serde_json::to_vec(self).ok()?);
        vault.seal(&Self::place(ci, name), &text, nonce)
    }

    fn open(vault: &Vault, source: &Source, sealed: &[u8]) -> Option<Self> {
        let place = Self::place(source.ci, &source.name);
        serde_json::from_slice(&vault.open(&place, sealed)?).ok()
    }
}

/// What is said of a look, in lines.
const MOST_NOTES: usize = 100;

/// How many bytes of a repository's past are taken in at once, about.
const PAST_AT_ONCE: usize = 64 << 20;

/// From how many commits on they are taken in, and not recorded one by one.
const WORTH_TAKING_IN: usize = 2;

/// What a repository's commits made of its files before it was looked at.
#[derive(Default)]
struct Earlier {
    batches: Vec<NewBatch>,
    bytes: usize,
}

impl Earlier {
    fn add(&mut self, ci: CiId, files: Vec<NewFile>) {
        let length = |file: &NewFile| match &file.state {
            NewState::Present { content, .. } => content.len(),
            NewState::Gone => 0,
        };
        self.bytes += files.iter().map(length).sum::<usize>();
        self.batches.push(NewBatch { ci, files });
    }
}

/// Why a look ends early.
enum Stopped {
    /// The source, or the way to it.
    Source(SourceError),
    /// Something of it that is no error of a look.
    Words(String),
    /// Our own side.
    Store(StoreError),
}

impl From<SourceError> for Stopped {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

impl From<StoreError> for Stopped {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Parts {
    pub(super) async fn look_at_source(
        &self,
        source: &Source,
        sealed: Option<&[u8]>,
    ) -> Result<(), StoreError> {
        let looked = match self.see_source(source, sealed).await {
            Ok(looked) => looked,
            Err(Stopped::Store(error)) => return Err(error),
            Err(Stopped::Words(reason)) => SourceLooked::Failed { reason, offered: None },
            Err(Stopped::Source(error)) => {
                let mut reason = error.to_string();
                if let Some(cause) = std::error::Error::source(&error)
                    && !reason.contains(&cause.to_string())
                {
                    reason = format!("{reason}: {cause}");
                }
                let offered = match error {
                    SourceError::KeyDiffers { offered, .. } => Some(offered),
                    _ => None,
                };
                SourceLooked::Failed { reason, offered }
            }
        };
        self.store.source_looked(source, looked).await
    }

    async fn see_source(
        &self,
        source: &Source,
        sealed: Option<&[u8]>,
    ) -> Result<SourceLooked, Stopped> {
        let opening = match sealed {
            None => SourceOpening::default(),
            Some(sealed) => SourceOpening::open(&self.vault, source, sealed).ok_or_else(|| {
                let reason = "what opens it was sealed under another key: set it again";
                Stopped::Words(reason.to_owned())
            })?,
        };
        let key = FingerprintKey::for_item(&self.fingerprints, &source.ci.to_string());
        match &source.settings {
            SourceSettings::Git { .. } => self.see_repository(source, opening, &key).await,
            SourceSettings::Http { url, form, volatile, .. } => {
                let wanted = (url.as_str(), *form, volatile.as_slice());
                self.see_document(source, wanted, opening, key).await
            }
            SourceSettings::Image => self.see_image(source).await,
            SourceSettings::ImageStore { store, image } => {
                self.see_stored_image(source, (store.as_str(), image.as_str()), key).await
            }
        }
    }

    /// Whose certificates count there.
    fn roots(&self, source: &Source) -> Result<Roots, SourceError> {
        Roots::of(source.settings.authorities(), self.store.environment().now())
    }

    fn reach(&self, source: &Source) -> Reach {
        if source.is_providers { self.reach.clone() } else { Reach::public() }
    }

    async fn see_repository(
        &self,
        source: &Source,
        opening: SourceOpening,
        key: &FingerprintKey,
    ) -> Result<SourceLooked, Stopped> {
        let SourceSettings::Git { url, reference, user, .. } = &source.settings else {
            return Err(Stopped::Words("it is no repository".to_owned()));
        };
        let remote = Remote {
            url,
            reference,
            user: user.as_deref(),
            password: opening.password.as_ref(),
            key: opening.key.as_ref(),
            host_key: source.host_key.clone().map_or(HostKey::FirstUse, HostKey::Pinned),
            roots: &self.roots(source)?,
        };
        let known = source.progress.as_deref();
        let mut settings = source.settings.clone();
        if let SourceSettings::Git { past, .. } = &mut settings {
            // What is recorded already is not told once more from its beginning.
            let place = SourceKind::Git.place(source.name.as_str());
            let is_first = known.is_none() && *past > 0;
            if is_first && !self.known(source, &place).await?.is_empty() {
                *past = 0;
            }
        }
        let look = git::look(&remote, &settings, known, &self.reach(source), key).await?;
        let git::Look { tip, movement, host_key, walk } = look;
        let mut notes = Vec::new();
        match movement {
            Movement::Rewritten => {
                self.store.source_rewritten(source, tip.clone()).await?;
                let before = known.unwrap_or_default();
                notes.push(format!("its history was written anew: it has no {before} any more"));
            }
            Movement::Beyond => notes.push(
                "it went on by more commits than are looked at; only what came of them is recorded"
                    .to_owned(),
            ),
            Movement::Same => {
                let is_seen = source.state == DeviceState::Seen;
                notes.extend(source.reason.clone().filter(|_| is_seen));
            }
            Movement::First | Movement::Followed => {}
        }
        let (mut progress, mut has_more) = (tip, false);
        if let Some(walk) = walk {
            has_more = walk.has_more();
            progress =
                self.record_walk(source, walk, movement, &mut notes).await?.unwrap_or(progress);
        }
        let untold = (!notes.is_empty()).then(|| notes.join("\n"));
        Ok(SourceLooked::Seen { host_key, progress: Some(progress), untold, has_more })
    }

    /// Records what each commit made of the files; up to which commit.
    async fn record_walk(
        &self,
        source: &Source,
        mut walk: Walk,
        movement: Movement,
        notes: &mut Vec<String>,
    ) -> Result<Option<String>, Stopped> {
        let (mut last, mut past) = (None, Earlier::default());
        loop {
            let next = tokio::task::spawn_blocking(move || {
                let step = walk.step();
                (walk, step)
            });
            let ended =
                |error| StoreError::Corrupt { what: format!("a thread of a look: {error}") };
            let (back, step) = next.await.map_err(ended)?;
            walk = back;
            let Some(step) = step? else { break };
            let (files, telling) = self.of_step(source, &step, movement).await?;
            // What was recorded is not recorded again, whatever becomes of the rest.
            if movement == Movement::First && telling.is_none() {
                past.add(source.ci, files);
                if past.bytes > PAST_AT_ONCE {
                    self.take_in(source, &mut past, &step.commit).await?;
                }
            } else {
                self.record(source.ci, files, telling).await?;
                self.store.source_advanced(source, step.commit.clone()).await?;
            }
            notes.extend(step.notes);
            notes.truncate(MOST_NOTES);
            last = Some(step.commit);
        }
        if let Some(commit) = last.as_ref().filter(|_| movement == Movement::First) {
            self.take_in(source, &mut past, commit).await?;
        }
        Ok(last)
    }

    /// Takes in what a repository's commits made of its files before it was looked at, up to one of them.
    async fn take_in(
        &self,
        source: &Source,
        past: &mut Earlier,
        commit: &str,
    ) -> Result<(), Stopped> {
        let Earlier { batches, .. } = std::mem::take(past);
        if batches.len() < WORTH_TAKING_IN {
            for NewBatch { ci, files } in batches {
                self.record(ci, files, None).await?;
            }
        } else {
            self.history.backfill(&Actor::System, batches, self.turn.holder()).await?;
        }
        Ok(self.store.source_advanced(source, commit.to_owned()).await?)
    }

    /// What a commit made of the files, and how they came about where that is to be judged.
    async fn of_step(
        &self,
        source: &Source,
        step: &Step,
        movement: Movement,
    ) -> Result<(Vec<NewFile>, Option<Telling>), Stopped> {
        let confidence = if movement == Movement::Rewritten { REWRITTEN } else { BY_THEIR_WORD };
        let actor = within(&step.who);
        let now = self.store.environment().now();
        // When it came about matters of what is long past, though it is their word alone.
        let committed = step.at.filter(|_| movement == Movement::First);
        let told = Told {
            at: committed.map_or(now, |at| at.min(now)),
            source: format!("git {}", step.commit),
            by: Some(Attribution { actor, confidence }),
        };
        let place = SourceKind::Git.place(source.name.as_str());
        // Of what came before, history knows nothing yet.
        let is_past = movement == Movement::First && !step.is_whole;
        let known = if is_past { BTreeSet::new() } else { self.known(source, &place).await? };
        let path = |path: &str| path_of(format!("{place}{}", path.trim_start_matches('/')));
        let mut files = Vec::with_capacity(step.documents.len() + step.gone.len());
        for document in &step.documents {
            files.push(told.file(path(document.path())?, present(document)));
        }
        for gone in &step.gone {
            let gone = path(gone)?;
            if is_past || known.contains(&gone) {
                files.push(told.file(gone, NewState::Gone));
            }
        }
        if step.is_whole {
            let there: BTreeSet<FilePath> = files.iter().map(|it| it.path.clone()).collect();
            let gone = known.iter().filter(|path| !there.contains(path)).cloned();
            files.extend(gone.map(|path| told.file(path, NewState::Gone)).collect::<Vec<_>>());
        }
        let is_judged = !is_past && (!step.is_whole || !known.is_empty());
        let telling = is_judged.then(|| telling(source, step, movement, &files));
        Ok((files, telling))
    }

    /// What is recorded below a place, and there now.
    async fn known(&self, source: &Source, place: &str) -> Result<BTreeSet<FilePath>, StoreError> {
        let now = self.store.environment().now();
        let Past::Kept(known) = self.history.manifest(&Actor::System, source.ci, now).await? else {
            return Ok(BTreeSet::new());
        };
        let paths = known.files.into_keys();
        Ok(paths.filter(|path| path.as_str().starts_with(place)).collect())
    }

    async fn see_document(
        &self,
        source: &Source,
        (url, form, volatile): (&str, Form, &[Pointer]),
        opening: SourceOpening,
        key: FingerprintKey,
    ) -> Result<SourceLooked, Stopped> {
        let (url, volatile) = (url.to_owned(), volatile.to_vec());
        let (reach, roots, tag) =
            (self.reach(source), self.roots(source)?, source.progress.clone());
        let extension = if form == Form::Json { "json" } else { "txt" };
        let path = format!("/{}.{extension}", source.name);
        let seen = ::sources::blocking(move || {
            let wanted = Wanted {
                url: &url,
                form,
                volatile: &volatile,
                headers: &opening.headers,
                tag: tag.as_deref(),
                roots: &roots,
                path: &path,
            };
            http::look(&wanted, &reach, &key)
        });
        let progress = match seen.await? {
            Seen::Unchanged => source.progress.clone(),
            Seen::Document { document, tag } => {
                let told = Told {
                    at: self.store.environment().now(),
                    source: SourceKind::Http.to_string(),
                    by: None,
                };
                let place = SourceKind::Http.place(source.name.as_str());
                let path = path_of(place.as_str())?;
                let is_first = !self.known(source, &place).await?.contains(&path);
                let telling = Telling {
                    looked_before: source.seen_at,
                    evidence: Evidence::Complete,
                    traces: BTreeMap::new(),
                };
                let files = vec![told.file(path, present(&document))];
                self.record(source.ci, files, (!is_first).then_some(telling)).await?;
                tag
            }
        };
        Ok(SourceLooked::Seen { host_key: None, progress, untold: None, has_more: false })
    }

    async fn see_image(&self, source: &Source) -> Result<SourceLooked, Stopped> {
        let image = self.store.image_of_ci(source.ci).await?;
        let file = self.images.path_of(&image.content);
        let is_there = match tokio::fs::metadata(&file).await {
            Ok(_) => true,
            Err(error) => error.kind() != ErrorKind::NotFound,
        };
        if !is_there {
            let reason = "the image's bytes are not here any more";
            return Err(Stopped::Words(reason.to_owned()));
        }
        // Versions of one image are one thing at different times: a secret that stays shows as the same.
        let series = format!("image {} {}", image.tenant, image.name);
        let key = FingerprintKey::for_item(&self.fingerprints, &series);
        let documents = ::sources::blocking(move || ::sources::image::look(&file, &key)).await?;
        let told = Told {
            at: self.store.environment().now(),
            source: SourceKind::Image.to_string(),
            by: None,
        };
        let unreadable = |reason| Stopped::Source(SourceError::Image { reason });
        let files = files_of(&told, &documents).map_err(unreadable)?;
        // Nobody altered anything: these bytes never were others.
        match self.record(source.ci, files, None).await {
            Err(StoreError::Refused { reason, .. }) => return Err(unreadable(reason)),
            recorded => recorded?,
        }
        let progress = Some(image.content.sha256);
        Ok(SourceLooked::Seen { host_key: None, progress, untold: None, has_more: false })
    }
}

/// What progress begins with where an image of a store came, and could not be read.
const UNREAD: &str = "unread ";

/// How the reason of that begins.
const UNREADABLE: &str = "the image cannot be read";

/// Images of the cloud's stores.
impl Parts {
    async fn see_stored_image(
        &self,
        source: &Source,
        (store, image): (&str, &str),
        key: FingerprintKey,
    ) -> Result<SourceLooked, Stopped> {
        let (store, image) = (store.to_owned(), image.to_owned());
        let progress = source.progress.as_deref();
        let unread = progress.and_then(|it| it.strip_prefix(UNREAD));
        let known = unread.or(progress).map(str::to_owned);
        let stores = Arc::clone(&self.stores);
        let fetching =
            tokio::task::spawn_blocking(move || stores.fetch(&store, &image, known.as_deref()));
        let ended = |_| Stopped::Words("the store was not asked to the end".to_owned());
        let fetched = fetching.await.map_err(ended)?.map_err(Stopped::Words)?;
        let progress = match (fetched, unread) {
            (None, None) => source.progress.clone(),
            // It is not fetched again for nothing.
            (None, Some(_)) => {
                let before = source.reason.clone().filter(|it| it.starts_with(UNREADABLE));
                let reason = before.unwrap_or_else(|| format!("{UNREADABLE}, as before"));
                return Err(Stopped::Words(reason));
            }
            (Some(FetchedImage { version, file }), _) => {
                let taken = match read_stored(file, key).await {
                    Ok(documents) => self.record_stored_image(source, &documents).await?,
                    Err(reason) => Err(reason),
                };
                if let Err(reason) = taken {
                    self.store.source_advanced(source, format!("{UNREAD}{version}")).await?;
                    return Err(Stopped::Words(format!("{UNREADABLE}: {reason}")));
                }
                Some(version)
            }
        };
        Ok(SourceLooked::Seen { host_key: None, progress, untold: None, has_more: false })
    }

    /// Records what an image holds below `/etc` now, and what it holds no more. Says why not where that is the image's fault.
    async fn record_stored_image(
        &self,
        source: &Source,
        documents: &[Document],
    ) -> Result<Result<(), String>, Stopped> {
        let told = Told {
            at: self.store.environment().now(),
            source: SourceKind::ImageStore.to_string(),
            by: None,
        };
        let files = match files_of(&told, documents) {
            Ok(files) => files,
            Err(reason) => return Ok(Err(reason)),
        };
        // It took its time to come: whoever named the wrong image may have said so since.
        match self.store.source(&Actor::System, source.ci, &source.name).await {
            Ok(now) if now.version == source.version => {}
            Ok(_) | Err(StoreError::NotFound { .. }) => {
                return Err(Stopped::Words("it is another image's place meanwhile".to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        let place = SourceKind::ImageStore.place(source.name.as_str());
        let known = self.known(source, &place).await?;
        let there: BTreeSet<&FilePath> = files.iter().map(|file| &file.path).collect();
        let unseen = documents.iter().filter(|it| it.is_unseen()).map(Document::path);
        let unseen: BTreeSet<&str> = unseen.collect();
        // What lies below what could not be read is not gone for that.
        let is_hidden = |path: &FilePath| {
            let path = path.as_str();
            path.match_indices('/').any(|(end, _)| unseen.contains(&path[..end]))
        };
        let gone: Vec<NewFile> = known
            .iter()
            .filter(|path| !there.contains(path) && !is_hidden(path))
            .map(|path| told.file(path.clone(), NewState::Gone))
            .collect();
        let is_seen_again = source.seen_at.is_some() || !known.is_empty();
        // As many may have gone as have come, and each batch has its bound.
        for files in [files, gone] {
            // Nobody tells who wrote to it: what was agreed is known by what it says.
            let telling = Telling {
                looked_before: source.seen_at,
                evidence: Evidence::Complete,
                traces: BTreeMap::new(),
            };
            match self.record(source.ci, files, is_seen_again.then_some(telling)).await {
                Ok(()) => {}
                Err(StoreError::Refused { reason, .. }) => return Ok(Err(reason)),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Ok(()))
    }
}

/// An image's files, or why they cannot be told.
fn files_of(told: &Told, documents: &[Document]) -> Result<Vec<NewFile>, String> {
    let mut files = Vec::with_capacity(documents.len());
    let mut there = BTreeSet::new();
    for document in documents {
        let path = FilePath::new(document.path()).map_err(|error| error.to_string())?;
        if !there.insert(path.clone()) {
            return Err(format!("two of its names are shown as `{path}`"));
        }
        files.push(told.file(path, present(document)));
    }
    Ok(files)
}

/// What an image that was fetched holds, or why that cannot be read. Its file goes here, whatever became of it.
async fn read_stored(
    file: Result<Box<dyn AsRef<Path> + Send>, String>,
    key: FingerprintKey,
) -> Result<Vec<Document>, String> {
    let file = file?;
    let reading = move || ::sources::image::look((*file).as_ref(), &key);
    match tokio::task::spawn_blocking(reading).await {
        Ok(Ok(documents)) => Ok(documents),
        Ok(Err(SourceError::Image { reason })) => Err(reason),
        Ok(Err(error)) => Err(error.to_string()),
        // Whatever it holds has to be looked at by somebody.
        Err(error) => {
            tracing::error!(%error, "an image of a store was not read to the end");
            Err("reading it did not come to an end".to_owned())
        }
    }
}

fn present(document: &Document) -> NewState {
    let metadata =
        Metadata { mode: document.mode(), owner: within(document.owner()), label: Vec::new() };
    NewState::Present { content: document.text().as_bytes().to_vec(), metadata }
}

fn path_of(path: impl Into<String>) -> Result<FilePath, StoreError> {
    Ok(FilePath::new(path)?)
}

/// How a commit altered files, as far as it says.
fn telling(source: &Source, step: &Step, movement: Movement, files: &[NewFile]) -> Telling {
    let evidence = match movement {
        Movement::Followed | Movement::Rewritten | Movement::Same => Evidence::Complete,
        // Commits in between, or before the source was set otherwise, nobody has looked at.
        Movement::First | Movement::Beyond => Evidence::Gap,
    };
    let who = match movement {
        Movement::Followed if !step.committer.is_empty() => {
            Hand::Person { login: step.committer.clone() }
        }
        _ => Hand::Unknown,
    };
    let trace = Trace { who, changed_at: step.at, shipped: None };
    let traces = files.iter().map(|it| (it.path.to_string(), trace.clone())).collect();
    Telling { looked_before: source.seen_at, evidence, traces }
}

/// As much of a word as is kept.
fn within(word: &str) -> String {
    let mut end = word.len().min(LONGEST_WORD);
    while !word.is_char_boundary(end) {
        end -= 1;
    }
    word[..end].to_owned()
}
