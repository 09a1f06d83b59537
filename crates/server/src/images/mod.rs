//! Images and the lab: where their bytes lie, and who works with them.
//!
//! ```text
//! upload ─► Contents ─► Laboratory::inspect ─► store: whose bytes, what is in them ─► a version
//! job ────► worker: claim ─► Laboratory::run ─► bytes placed ─► store: all that follows, and the end
//! ```
//!
//! A job's effects and its end are one commit of the store; only bytes are placed before it. A
//! process that is killed between the two leaves bytes that nobody owns, and the next start removes
//! them.

mod contents;
mod laboratory;
mod logs;
mod uploads;
mod worker;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use axum::body::{Body, Bytes};
use domain::cloud::{ImageId, JobId, TenantId};
use futures_util::StreamExt as _;
use jiff::SignedDuration;
use store::{Actor, ImageContent, Store, StoreError};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub use laboratory::{
    ImageFacts, JobWatch, LabFailure, LabRefusal, Laboratory, Made, Order, Outcome,
};

use crate::problem::{Kind, Problem};
use contents::{Arrived, ContentError, Contents};
use logs::Logs;
use uploads::{Uploads, is_too_slow};
use worker::Watch;

/// How long an upload may bring nothing.
const SILENCE: Duration = Duration::from_secs(60);

/// How long bytes are let be that the store does not know of.
const YOUNG: Duration = Duration::from_secs(900);

/// Read at once.
const CHUNK: usize = 256 << 10;

/// Longest word about an image that a lab may say, in bytes.
const LONGEST_WORD: usize = 120;

/// The images of a control plane, and the lab that works with them.
pub struct Lab {
    store: Store,
    contents: Arc<Contents>,
    logs: Arc<Logs>,
    laboratory: Option<Arc<dyn Laboratory>>,
    settings: LabSettings,
    wake: Notify,
    uploads: Uploads,
    /// What this process works on.
    running: Mutex<HashMap<JobId, Arc<Watch>>>,
}

/// Bounds of the lab's work.
#[derive(Debug, Clone)]
pub struct LabSettings {
    /// Largest image taken, in bytes.
    pub largest_image: u64,
    /// All images that a tenant may keep, in bytes. Only bringing more is refused: what has to be
    /// baked against a vulnerability is baked.
    pub most_of_tenant: u64,
    /// Jobs at the same time, for each process.
    pub jobs_at_once: usize,
    /// After how long without a sign of life another process takes a job over.
    pub lease: SignedDuration,
}

impl Default for LabSettings {
    fn default() -> Self {
        Self {
            largest_image: 64 << 30,
            most_of_tenant: 1 << 40,
            jobs_at_once: 1,
            lease: SignedDuration::from_mins(1),
        }
    }
}

/// Why images cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The store refused.
    #[error("the store refused")]
    Store(#[from] StoreError),
    /// A directory cannot be used.
    #[error("the directories of images and logs cannot be used")]
    Directory(#[from] io::Error),
}

impl LabError {
    /// The way out.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Store(error) => error.help(),
            Self::Directory(_) => Some("check who may write in the data directory, and its disk"),
        }
    }
}

impl Lab {
    /// Opens `images` and `lab/logs` below a control plane's data, and removes what a killed process
    /// left there. Without a laboratory images and jobs are refused; what is there stays readable.
    ///
    /// # Errors
    /// If the directories cannot be used.
    pub async fn open(
        store: Store,
        data: &Path,
        laboratory: Option<Arc<dyn Laboratory>>,
        settings: LabSettings,
    ) -> Result<Self, LabError> {
        let (images, logs) = (data.join("images"), data.join("lab/logs"));
        let largest = settings.largest_image;
        let (contents, logs) = blocking(move || {
            Ok::<_, io::Error>((Contents::open(&images, largest)?, Logs::open(&logs)?))
        })
        .await?;
        let lab = Self {
            store,
            contents: Arc::new(contents),
            logs: Arc::new(logs),
            laboratory,
            settings,
            wake: Notify::new(),
            uploads: Uploads::default(),
            running: Mutex::default(),
        };
        lab.remove_strays().await?;
        Ok(lab)
    }

    /// Looks for jobs at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The laboratory, where there is one.
    pub(crate) fn laboratory(&self) -> Result<Arc<dyn Laboratory>, Problem> {
        self.laboratory.clone().ok_or_else(|| {
            Problem::new(Kind::Refused, "this control plane has no lab")
                .help("ask one that has; docs/lab.md says what a machine needs for it")
        })
    }

    /// Takes an image in for a tenant, of `length` bytes where that is said beforehand. Nothing stays
    /// of one that is refused, nor of a rehearsal.
    pub(crate) async fn receive(
        &self,
        by: &Actor,
        tenant: TenantId,
        length: Option<u64>,
        body: Body,
    ) -> Result<ImageContent, Problem> {
        let laboratory = self.laboratory()?;
        let _place = self.uploads.begin(tenant)?;
        // Said beforehand, it need not be sent.
        self.must_fit(tenant, length.unwrap_or(0)).await?;
        let arrived = self.write(body).await?;
        if arrived.size == 0 {
            return Err(Problem::new(Kind::Invalid, "the body is empty").help("send the image"));
        }
        if length.is_none() {
            self.must_fit(tenant, arrived.size).await?;
        }
        let (facts, arrived) = inspect(laboratory, arrived).await?;
        let content = described(&arrived, &facts)?;
        if store::is_rehearsal() {
            self.store.keep_content(by, tenant, content.clone(), facts.packages).await?;
            return Ok(content);
        }
        let contents = Arc::clone(&self.contents);
        let held = blocking(move || {
            let held = contents.together()?;
            contents.place(arrived, &held)?;
            Ok(held)
        })
        .await
        .map_err(|error: io::Error| refused(error.into()))?;
        // Where this is refused, nobody owns them, and they go in a while.
        let kept = self.store.keep_content(by, tenant, content.clone(), facts.packages).await;
        drop(held);
        kept?;
        Ok(content)
    }

    /// Refuses what is too large by itself, or beside what the tenant has already.
    async fn must_fit(&self, tenant: TenantId, length: u64) -> Result<(), Problem> {
        let LabSettings { largest_image: largest, most_of_tenant: most, .. } = self.settings;
        if length > largest {
            return Err(refused(ContentError::TooLarge { largest }));
        }
        let kept = self.store.bytes_of_images(tenant).await?;
        if kept.saturating_add(length) > most {
            let detail = format!("the tenant keeps {kept} bytes of images, and may keep {most}");
            return Err(Problem::new(Kind::Refused, detail)
                .help("remove the content of versions that are retired, or ask for more room"));
        }
        Ok(())
    }

    /// Writes what comes in to the disk, hashing it on the way. A thread of its own writes, so that
    /// a slow disk delays nobody else.
    async fn write(&self, body: Body) -> Result<Arrived, Problem> {
        let contents = Arc::clone(&self.contents);
        let (chunks, mut coming) = mpsc::channel::<Option<Bytes>>(8);
        let writing = tokio::task::spawn_blocking(move || {
            let mut incoming = contents.incoming()?;
            while let Some(chunk) = coming.blocking_recv() {
                match chunk {
                    Some(chunk) => incoming.write(&chunk)?,
                    None => return incoming.finish(),
                }
            }
            Err(ContentError::Cut)
        });
        let mut body = body.into_data_stream();
        let (began, mut received) = (Instant::now(), 0);
        let is_whole = loop {
            match tokio::time::timeout(SILENCE, body.next()).await {
                Ok(Some(Ok(chunk))) => {
                    received += chunk.len() as u64;
                    if is_too_slow(received, began.elapsed()) {
                        break false;
                    }
                    // Where it is not taken, the writer says why.
                    if chunks.send(Some(chunk)).await.is_err() {
                        break false;
                    }
                }
                Ok(None) => break true,
                Ok(Some(Err(_))) | Err(_) => break false,
            }
        };
        if is_whole {
            let _ = chunks.send(None).await;
        }
        drop(chunks);
        writing.await.unwrap_or(Err(ContentError::Cut)).map_err(refused)
    }

    /// The bytes of a version.
    pub(crate) async fn read(&self, content: &ImageContent) -> Result<Body, Problem> {
        let (contents, sha256) = (Arc::clone(&self.contents), content.sha256.clone());
        let file = blocking(move || contents.read(&sha256)).await.map_err(|error| {
            if error.kind() == ErrorKind::NotFound {
                return Problem::not_found("content of this version any more")
                    .help("it was removed after the version was retired");
            }
            refused(error.into())
        })?;
        Ok(stream(file))
    }

    /// Where the bytes of a version lie, if they are here. Only to be read.
    pub(crate) fn path_of(&self, content: &ImageContent) -> PathBuf {
        self.contents.path(&content.sha256)
    }

    /// Removes the bytes of a version that is used no more, where nobody else has the same.
    pub(crate) async fn forget(&self, by: &Actor, id: ImageId) -> Result<(), Problem> {
        // Nobody takes the same bytes in between what the store is told and what is removed.
        let contents = Arc::clone(&self.contents);
        let alone = blocking(move || contents.alone()).await.map_err(|it| refused(it.into()))?;
        let unowned = self.store.forget_content(by, id).await?;
        let Some(sha256) = unowned.filter(|_| !store::is_rehearsal()) else { return Ok(()) };
        let contents = Arc::clone(&self.contents);
        blocking(move || contents.remove(&sha256, &alone)).await.map_err(|it| refused(it.into()))
    }

    /// The log of a job from a byte on.
    pub(crate) async fn log(&self, job: JobId, from: u64) -> Result<Vec<u8>, Problem> {
        let logs = Arc::clone(&self.logs);
        blocking(move || logs.read(job, from, CHUNK)).await.map_err(|it| refused(it.into()))
    }

    /// Tells the work on a job that it is called off, where it is done in this process; others
    /// notice when they give their next sign of life.
    pub(crate) fn call_off(&self, job: JobId) {
        if let Some(watch) = self.running().get(&job) {
            watch.lose();
        }
    }

    fn running(&self) -> MutexGuard<'_, HashMap<JobId, Arc<Watch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes bytes that nobody owns, and did not just now either.
    async fn remove_strays(&self) -> Result<(), LabError> {
        let contents = Arc::clone(&self.contents);
        let (alone, all) = blocking(move || {
            let alone = contents.alone()?;
            Ok::<_, io::Error>((alone, contents.placed_before(SystemTime::now() - YOUNG)?))
        })
        .await?;
        let mut strays = Vec::new();
        for sha256 in all {
            if !self.store.is_content_known(&sha256).await? {
                strays.push(sha256);
            }
        }
        let contents = Arc::clone(&self.contents);
        blocking(move || strays.iter().try_for_each(|stray| contents.remove(stray, &alone)))
            .await?;
        Ok(())
    }
}

/// Asks the laboratory what is in an image. What it says to a hostile one, dying of it included, is
/// the sender's to hear.
async fn inspect(
    laboratory: Arc<dyn Laboratory>,
    arrived: Arrived,
) -> Result<(ImageFacts, Arrived), Problem> {
    let inspected = tokio::task::spawn_blocking(move || {
        let facts = laboratory.inspect(arrived.path());
        (facts, arrived)
    });
    match inspected.await {
        Ok((Ok(facts), arrived)) => Ok((facts, arrived)),
        Ok((Err(LabRefusal { reason, help }), _)) => {
            Err(Problem::new(Kind::Refused, reason).help(help))
        }
        Err(_) => Err(Problem::new(Kind::Refused, "the image cannot be read")
            .help("the server's log says more")),
    }
}

/// What the store knows about bytes.
fn described(arrived: &Arrived, facts: &ImageFacts) -> Result<ImageContent, Problem> {
    let ImageFacts { release, architecture, format, .. } = facts;
    let is_odd = |word: &String| {
        word.is_empty() || word.len() > LONGEST_WORD || word.chars().any(char::is_control)
    };
    if [release, architecture, format].into_iter().any(is_odd) {
        return Err(Problem::new(Kind::Refused, "the image does not say what system it is")
            .help("it needs an os-release file with ID and VERSION_ID"));
    }
    Ok(ImageContent {
        sha256: arrived.sha256.clone(),
        format: format.clone(),
        size: i64::try_from(arrived.size).unwrap_or(i64::MAX),
        release: release.clone(),
        architecture: architecture.clone(),
    })
}

/// A file as a body. One that cannot be read to its end breaks the transfer off.
fn stream(file: File) -> Body {
    let chunks = futures_util::stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let read = blocking(move || {
            let mut chunk = vec![0; CHUNK];
            let read = file.read(&mut chunk)?;
            chunk.truncate(read);
            Ok::<_, io::Error>((chunk, file))
        });
        match read.await {
            Ok((chunk, _)) if chunk.is_empty() => None,
            Ok((chunk, file)) => Some((Ok(Bytes::from(chunk)), Some(file))),
            Err(error) => Some((Err(error), None)),
        }
    });
    Body::from_stream(chunks)
}

/// Does what blocks on a thread that may.
async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> Result<T, E>
where
    T: Send + 'static,
    E: From<io::Error> + Send + 'static,
{
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(io::Error::other("the work was cut off").into()))
}

#[allow(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn refused(error: ContentError) -> Problem {
    match &error {
        ContentError::TooLarge { .. } => Problem::new(Kind::TooLarge, error.to_string())
            .help("make it smaller; whoever runs the control plane may take larger ones"),
        ContentError::Full => {
            Problem::new(Kind::Unavailable, error.to_string()).help("free space there")
        }
        ContentError::Cut => Problem::new(Kind::Invalid, error.to_string()).help("send it again"),
        ContentError::Io(_) => {
            tracing::error!(error = &error as &dyn std::error::Error, "images cannot be kept");
            Problem::new(Kind::Internal, "the images cannot be kept; the server's log says why")
        }
    }
}
