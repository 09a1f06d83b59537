//! What the control plane asks of a lab, and what a lab tells it. The lab itself comes in from
//! outside: the control plane knows nothing of virtual machines.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::cloud::JobId;
use domain::fleet::PackageSet;
use store::{Image, JobKind};

/// Does the jobs of a control plane. Everything blocks: it runs on threads of its own.
pub trait Laboratory: Send + Sync + 'static {
    /// Reads what is in an image.
    ///
    /// # Errors
    /// If it is none, or cannot be read; the reason goes to whoever brought it.
    fn inspect(&self, image: &Path) -> Result<ImageFacts, LabRefusal>;

    /// Does one job to its end. Where `watch` says that it is called off, the sooner it returns the
    /// better: what it would have said is not heard.
    ///
    /// # Errors
    /// If it comes to no result, good or bad.
    fn run(&self, order: &Order, watch: &dyn JobWatch) -> Result<Outcome, LabFailure>;
}

/// What is in an image.
#[derive(Debug, Clone)]
pub struct ImageFacts {
    /// Its packages.
    pub packages: PackageSet,
    /// Distribution release, such as `debian:12`.
    pub release: String,
    /// Architecture, as its packages name it.
    pub architecture: String,
    /// `raw` or `qcow2`.
    pub format: String,
}

/// A job for the lab.
#[derive(Debug, Clone)]
pub struct Order {
    /// Which job.
    pub job: JobId,
    /// What is to be done.
    pub kind: JobKind,
    /// With which version.
    pub image: Image,
    /// The version's bytes, only to be read.
    pub content: PathBuf,
    /// What exactly, as the lab understands it.
    pub request: serde_json::Value,
}

/// Watches a job, and may call it off.
pub trait JobWatch: Send + Sync {
    /// Says where the job is, in a few words.
    fn stage(&self, stage: &str);

    /// Adds to the job's log.
    fn log(&self, bytes: &[u8]);

    /// Whether the job is called off.
    fn cancelled(&self) -> bool;
}

/// What came of a job.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// For whoever asked; `passed` is put beside it.
    pub result: serde_json::Value,
    /// Whether it is good: a test that did not pass rejects the version.
    pub passed: bool,
    /// What was attested, as `(predicate type, DSSE envelope in JSON)`: about the version that was
    /// made, or else the one that the job was about.
    pub attestations: Vec<(String, String)>,
    /// The next version of the series, of a bake that passed.
    pub made: Option<Made>,
}

/// An image that a lab made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its file, which is taken away from there.
    pub path: PathBuf,
    /// What is in it.
    pub facts: ImageFacts,
    /// Whatever must last until the file is taken away.
    pub place: Option<Arc<dyn Any + Send + Sync>>,
}

/// Why an image is not taken.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{reason}")]
pub struct LabRefusal {
    /// Why, in words.
    pub reason: String,
    /// The way out.
    pub help: String,
}

/// Why a job came to no result.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LabFailure {
    /// What was asked for cannot be done, however often it is tried.
    #[error("{0}")]
    Refused(String),
    /// The lab itself failed; another attempt may fare better.
    #[error("{0}")]
    Broken(String),
    /// It was called off.
    #[error("it was called off")]
    Cancelled,
}
