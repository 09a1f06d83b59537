//! The proof of a patch on a copy of a real image.
//!
//! ```text
//! verify packages ─► boot ─► picture ─► install ─► picture ─► reboot ─► picture ─► way back ─► picture
//!                            (before)              (after)           (after reboot)
//!                                 └──────────── domain::proof::judge ────────────┘
//! ```
//!
//! What goes wrong before the patch is installed is an error: nothing is known of the patch. What
//! goes wrong from then on is a reason against it.

mod picture;

pub use picture::read as read_picture;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::proof::{
    Claim, Evidence, Expectation, Impact, Installation, Patched, Picture, Reason, Verdict, WayBack,
    WayBackEvidence, judge,
};
use guest::{Installed, PictureRequest};
use probes::Profile;
use serde::{Deserialize, Serialize};

use crate::accelerator::Accelerator;
use crate::boot::BootError;
use crate::clock::{StageClock, milliseconds};
use crate::evidence::{EvidenceItem, EvidenceStore};
use crate::image::BaseImage;
use crate::limits::Limits;
use crate::observer::{Observer, Stage};
use crate::packages::{PackageError, PackageFile, PackageSet};
use crate::vm::{Booted, Misstep, Vm, VmError};
use crate::work::WorkArea;

/// What is to be proven, and on what.
#[derive(Debug, Clone)]
pub struct Job<'a> {
    /// The image; it is only read.
    pub image: &'a BaseImage,
    /// The packages of the patch, all in one transaction.
    pub patches: &'a [PackageFile],
    /// The packages that they replace, for the way back; may be empty.
    pub previous: &'a [PackageFile],
    /// What the patch is said to fix.
    pub claims: &'a [Claim],
    /// The image's own probes.
    pub profile: &'a Profile,
    /// Bounds of the virtual machine.
    pub limits: &'a Limits,
    /// How far a proof goes that is lost already.
    pub thoroughness: Thoroughness,
}

/// How far a proof goes that is lost already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Thoroughness {
    /// It stops after the picture in which a reason was found.
    UntilRejected,
    /// It goes on for as long as the system lives, to find every reason.
    Whole,
}

/// The result of a proof.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Proof {
    /// Whether anything speaks against the patch, and what.
    pub verdict: Verdict,
    /// What a tenant will notice.
    pub impact: Impact,
    /// How the guest's code was run; times are to be read with it.
    pub accelerator: Accelerator,
    /// How long each stage took, in milliseconds.
    pub stages: BTreeMap<Stage, u64>,
    /// From the beginning to the verdict, in milliseconds.
    pub took_ms: u64,
    /// The raw evidence, by content.
    pub evidence: Vec<EvidenceItem>,
}

impl Proof {
    /// The whole time of the proof, without the way back, over that of booting, installing and
    /// rebooting alone.
    pub fn overhead(&self) -> f64 {
        let time = |stages: &[Stage]| {
            let known = stages.iter().filter_map(|stage| self.stages.get(stage));
            Duration::from_millis(known.sum()).as_secs_f64()
        };
        let bare = time(&[Stage::Boot, Stage::Install, Stage::Reboot]);
        let extra = [Stage::Prepare, Stage::Before, Stage::After, Stage::AfterReboot, Stage::Judge];
        (bare + time(&extra)) / bare.max(0.001)
    }
}

/// Why there is no proof. Says nothing about the patch.
#[derive(Debug, thiserror::Error)]
pub enum ProveError {
    /// The lab could not do its work.
    #[error(transparent)]
    Vm(VmError),
    /// The packages are not those that were verified, or cannot be put on a disk.
    #[error(transparent)]
    Packages(#[from] PackageError),
    /// The image does not work already without the patch.
    #[error("the image does not work without the patch: {stage}: {misstep}")]
    Unfit {
        /// In which stage.
        stage: Stage,
        /// What it did instead.
        misstep: Misstep,
        /// The end of the serial console.
        console: String,
    },
    /// A probe fails already without the patch.
    #[error("the image's probe `{probe}` fails already without the patch: {failure}")]
    ProbeFailsBefore {
        /// The probe.
        probe: String,
        /// What failed.
        failure: String,
    },
    /// Evidence could not be kept.
    #[error("cannot keep evidence in `{}`: {error}", path.display())]
    Evidence {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// There is nothing to prove.
    #[error("the patch has no packages")]
    Nothing,
}

impl ProveError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Vm(error) => error.help(),
            Self::Packages(error) => error.help(),
            Self::Unfit { misstep, .. } => misstep.help(),
            Self::ProbeFailsBefore { .. } => {
                Some("repair the image, or its application profile, and prove the patch again")
            }
            Self::Evidence { .. } | Self::Nothing => None,
        }
    }
}

/// Proves a patch. Evidence goes into a directory, by its hash; the image is only read.
pub fn prove(
    area: &WorkArea,
    job: &Job<'_>,
    evidence: &Path,
    observer: Arc<dyn Observer>,
) -> Result<Proof, ProveError> {
    if job.patches.is_empty() {
        return Err(ProveError::Nothing);
    }
    let not_kept = |error| ProveError::Evidence { path: evidence.to_owned(), error };
    let mut course = Course {
        job,
        keys: job.patches.iter().map(|it| format!("{}:{}", it.package, it.architecture)).collect(),
        evidence: EvidenceStore::open(evidence).map_err(not_kept)?,
        evidence_directory: evidence.to_owned(),
        clock: StageClock::start(Arc::clone(&observer)),
        found: Found::default(),
    };
    let mut vm = Vm::new(area, job.image, job.limits, observer).map_err(ProveError::Vm)?;
    let result = course.run(&mut vm);
    let console = std::fs::read(vm.serial_log()).unwrap_or_default();
    course.keep("serial console", &console)?;
    let accelerator = vm.accelerator();
    drop(vm);
    result?;
    course.judged(accelerator)
}

/// What was gathered so far.
#[derive(Debug, Default)]
struct Found {
    before: Picture,
    installation: Option<Installation>,
    after: Option<Picture>,
    after_reboot: Option<Picture>,
    kernel_started_ms: Option<u64>,
    lost: Vec<Reason>,
    way_back: Option<Result<Picture, WayBack>>,
}

struct Course<'a> {
    job: &'a Job<'a>,
    keys: Vec<String>,
    evidence: EvidenceStore,
    evidence_directory: PathBuf,
    clock: StageClock,
    found: Found,
}

impl Course<'_> {
    /// From the verified packages to the last picture that there is.
    fn run(&mut self, vm: &mut Vm) -> Result<(), ProveError> {
        vm.attach(self.job.patches, self.job.previous)?;
        self.clock.enter(Stage::Boot);
        let booted = vm.boot();
        fit(Stage::Boot, booted, vm)?;
        self.clock.enter(Stage::Before);
        let before = vm.picture(self.picture_request(None));
        let before = fit(Stage::Before, before, vm)?;
        self.keep_json("picture before", &before)?;
        self.found.before = picture::read(&before);
        if let Some(probe) = before.probes.into_iter().find(|probe| probe.failure.is_some()) {
            let failure = probe.failure.unwrap_or_default();
            return Err(ProveError::ProbeFailsBefore { probe: probe.name, failure });
        }
        // From here on, whatever happens is the patch's doing.
        match self.patched(vm) {
            Err(Stop::Lab(error)) => Err(error),
            Err(Stop::Lost) | Ok(()) => Ok(()),
        }
    }

    fn patched(&mut self, vm: &mut Vm) -> Result<(), Stop> {
        self.clock.enter(Stage::Install);
        let installed = vm.install(PackageSet::Patches, Vec::new());
        let installed = self.held(Stage::Install, installed, vm)?;
        self.keep("installation", installed.output.as_bytes())?;
        let since = installed.began;
        self.found.installation = Some(self.installation(&installed));
        if installed.timed_out {
            // Whatever hangs is still there; the copy is of no further use.
            return Err(Stop::Lost);
        }
        let settled = vm.settle(self.job.limits.boot.min(SETTLE_LIMIT));
        self.held(Stage::Install, settled, vm)?;
        self.found.after = Some(self.take(Stage::After, "picture after", Some(since), vm)?);
        let stop = self.job.thoroughness == Thoroughness::UntilRejected;
        if stop && self.speaks_against() {
            return Err(Stop::Lost);
        }
        self.clock.enter(Stage::Reboot);
        let asked = Instant::now();
        let booted = vm.reboot();
        let booted = self.held(Stage::Reboot, booted, vm)?;
        self.found.kernel_started_ms = Some(kernel_started_ms(asked, &booted));
        let picture = self.take(Stage::AfterReboot, "picture after reboot", Some(since), vm)?;
        self.found.after_reboot = Some(picture);
        self.way_back(vm)?;
        Ok(())
    }

    /// The previous packages, and away with what the patch brought newly.
    fn way_back(&mut self, vm: &mut Vm) -> Result<(), ProveError> {
        if self.job.previous.is_empty() {
            return Ok(());
        }
        self.clock.enter(Stage::WayBack);
        let back = vm.install(PackageSet::Previous, self.brought()).and_then(|installed| {
            if installed.exit != Some(0) {
                return Ok(Err(tail(&installed.output)));
            }
            vm.reboot()?;
            Ok(Ok(()))
        });
        let fails = |reason: String| Some(Err(WayBack::Fails { reason }));
        self.found.way_back = match back {
            Ok(Ok(())) => {
                self.clock.enter(Stage::AfterWayBack);
                match vm.picture(self.picture_request(None)) {
                    Ok(raw) => {
                        self.keep_json("picture after way back", &raw)?;
                        Some(Ok(picture::read(&raw)))
                    }
                    Err(error) => fails(error.to_string()),
                }
            }
            Err(error @ VmError::Guest(Misstep::CalledOff { .. })) => {
                return Err(ProveError::Vm(error));
            }
            Ok(Err(output)) => fails(output),
            Err(error) => fails(error.to_string()),
        };
        Ok(())
    }

    /// Packages that are there after and were not before, as apt names them. The kernel that runs
    /// stays: its package refuses to be removed.
    fn brought(&self) -> Vec<String> {
        let before = &self.found.before;
        let Some(after) = &self.found.after_reboot else { return Vec::new() };
        let running = format!("linux-image-{}", after.kernel_release);
        let packages = after.packages.iter().filter(|it| it.name != running);
        packages
            .filter(|it| before.package(&it.name, &it.architecture).is_none())
            .map(|it| match it.architecture.as_str() {
                "all" => it.name.clone(),
                architecture => format!("{}:{architecture}", it.name),
            })
            .collect()
    }

    fn take(
        &mut self,
        stage: Stage,
        name: &str,
        since: Option<i64>,
        vm: &mut Vm,
    ) -> Result<Picture, Stop> {
        self.clock.enter(stage);
        let raw = vm.picture(self.picture_request(since));
        let raw = self.held(stage, raw, vm)?;
        self.keep_json(name, &raw)?;
        Ok(picture::read(&raw))
    }

    fn picture_request(&self, touched_since: Option<i64>) -> PictureRequest {
        PictureRequest {
            probes: self.job.profile.probes().to_vec(),
            packages: self.keys.clone(),
            touched_since,
        }
    }

    fn installation(&self, installed: &Installed) -> Installation {
        let limit = self.job.limits.install.as_secs();
        Installation {
            exit: installed.exit,
            hung_after_seconds: installed.timed_out.then_some(limit),
            output: tail(&installed.output),
            began_ms: installed.began_uptime_ms,
            took_ms: installed.took_ms,
        }
    }

    /// After the patch, a misstep is a reason against it; so is a kernel that is gone.
    fn held<T>(&mut self, stage: Stage, done: Result<T, VmError>, vm: &Vm) -> Result<T, Stop> {
        let what = match done {
            Ok(value) => return Ok(value),
            // Says nothing about the patch.
            Err(error @ VmError::Guest(Misstep::CalledOff { .. })) => {
                return Err(Stop::Lab(ProveError::Vm(error)));
            }
            Err(VmError::Guest(Misstep::DiskLimit { limit })) => {
                self.found.lost.push(Reason::DiskLimit { stage: stage.to_string(), limit });
                return Err(Stop::Lost);
            }
            Err(VmError::Guest(misstep)) => misstep.to_string(),
            Err(VmError::Boot(error)) if self.is_guests_fault(&error) => error.to_string(),
            Err(other) => return Err(Stop::Lab(ProveError::Vm(other))),
        };
        let console = vm.serial_tail();
        self.found.lost.push(Reason::Lost { stage: stage.to_string(), what, console });
        Err(Stop::Lost)
    }

    /// Whether a guest can have brought it about that its copy no longer boots. That a file of
    /// this machine is gone, it can not.
    fn is_guests_fault(&self, error: &BootError) -> bool {
        let host = matches!(error, BootError::Io { .. });
        !host && BaseImage::open(self.job.image.path()).is_ok()
    }

    /// Whether a reason is found already, other than that the restart is still to come.
    fn speaks_against(&self) -> bool {
        let expectation = self.expectation();
        let mut evidence = self.evidence_so_far(&expectation);
        // Until the restart, it stands for itself.
        evidence.after_reboot = None;
        let (verdict, _) = judge(&evidence);
        let to_come = |reason: &&Reason| !matches!(reason, Reason::Unseen { stage, .. } if stage == Stage::AfterReboot.name());
        verdict.reasons().any(|reason| to_come(&reason))
    }

    fn expectation(&self) -> Expectation {
        let patched = self.job.patches.iter().map(|package| Patched {
            package: package.package.clone(),
            architecture: package.architecture.clone(),
            version: package.version.clone(),
            source: package.source.clone(),
        });
        Expectation { patched: patched.collect(), claims: self.job.claims.to_vec() }
    }

    fn evidence_so_far<'b>(&'b self, expectation: &'b Expectation) -> Evidence<'b> {
        let found = &self.found;
        let untried = |reason: &str| WayBackEvidence::Untried(reason.to_owned());
        let way_back = match &found.way_back {
            Some(Ok(picture)) => WayBackEvidence::Tried(picture),
            Some(Err(WayBack::Fails { reason })) => WayBackEvidence::Failed(reason.clone()),
            Some(Err(_)) | None if self.job.previous.is_empty() => {
                untried("the previous packages were not given")
            }
            Some(Err(_)) | None => untried("the patch was rejected before"),
        };
        Evidence {
            expectation,
            before: &found.before,
            installation: found.installation.as_ref(),
            after: found.after.as_ref(),
            after_reboot: found.after_reboot.as_ref(),
            kernel_started_ms: found.kernel_started_ms,
            lost: found.lost.clone(),
            way_back,
        }
    }

    fn judged(mut self, accelerator: Accelerator) -> Result<Proof, ProveError> {
        self.clock.enter(Stage::Judge);
        let expectation = self.expectation();
        let (verdict, impact) = judge(&self.evidence_so_far(&expectation));
        self.keep_json("verdict", &verdict)?;
        self.keep_json("impact", &impact)?;
        let (stages, took_ms) = self.clock.stop();
        let evidence = self.evidence.into_items();
        Ok(Proof { verdict, impact, accelerator, stages, took_ms, evidence })
    }

    fn keep(&mut self, name: &str, content: &[u8]) -> Result<(), ProveError> {
        let path = self.evidence_directory.clone();
        self.evidence.keep(name, content).map_err(|error| ProveError::Evidence { path, error })
    }

    fn keep_json(&mut self, name: &str, value: &impl Serialize) -> Result<(), ProveError> {
        let path = self.evidence_directory.clone();
        let content = serde_json::to_vec(value)
            .map_err(|error| ProveError::Evidence { path, error: error.into() })?;
        self.keep(name, &content)
    }
}

/// Before the patch, a misstep means that the image is unfit.
fn fit<T>(stage: Stage, done: Result<T, VmError>, vm: &Vm) -> Result<T, ProveError> {
    done.map_err(|error| match error {
        VmError::Guest(Misstep::CalledOff { .. }) => ProveError::Vm(error),
        VmError::Guest(misstep) => ProveError::Unfit { stage, misstep, console: vm.serial_tail() },
        other => ProveError::Vm(other),
    })
}

/// Why a proof goes no further.
enum Stop {
    /// A reason was found after which there is nothing more to see.
    Lost,
    /// The lab failed.
    Lab(ProveError),
}

impl From<ProveError> for Stop {
    fn from(error: ProveError) -> Self {
        Self::Lab(error)
    }
}

/// Services that an installation restarts are up, or failed, within this time.
const SETTLE_LIMIT: Duration = Duration::from_secs(120);

/// What a report shows of a long output.
const MAX_SHOWN: usize = 4096;

pub(crate) fn tail(output: &str) -> String {
    let mut from = output.len().saturating_sub(MAX_SHOWN);
    while !output.is_char_boundary(from) {
        from += 1;
    }
    output[from..].to_owned()
}

/// From the request until the kernel of the new boot started.
fn kernel_started_ms(asked: Instant, booted: &Booted) -> u64 {
    let spoke = booted.spoke_at.saturating_duration_since(asked);
    milliseconds(spoke).saturating_sub(booted.hello.uptime_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_never_cuts_a_character() {
        assert_eq!(tail("short"), "short");
        let long = "ä".repeat(MAX_SHOWN) + "x";
        assert!(tail(&long).len() <= MAX_SHOWN);
        assert!(tail(&long).ends_with("äx"));
    }
}
