//! The lab as the control plane's jobs use it.
//!
//! Unlike the command line, it takes patches from the archives that the operator describes, never
//! from those that an image names: a tenant brings the image.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use domain::check::{Scope, Status};
use domain::fleet::{PackageSet, VersionChoice};
use drivers::Step;
use inspect::TargetKind;
use jiff::Timestamp;
use lab::{
    BakeError, BaseImage, Job, Limits, Misstep, Observer, Profile, ProveError, Recipe, Stage,
    Thoroughness, VmError, WorkArea,
};
use ledger::attestation::{Attestor, Statement};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use server::{ImageFacts, JobWatch, LabFailure, LabOutcome, LabRefusal, Laboratory, Made, Order};
use store::JobKind;

use super::trial::{self, DriverName, Place};
use super::{attest, human, key};
use crate::check::{self, OfficialSources, Origin, Patches, Selection, Unpatchable, Watch};
use crate::failure;

/// How often a job is asked whether it is called off.
const LOOK: Duration = Duration::from_millis(300);

/// Touched files that a job's result names; a kernel has thousands.
const MOST_TOUCHED: usize = 500;

/// What waits to be told; a machine that prints without end waits for the log.
const WAITING_NEWS: usize = 256;

/// Virtual machines on this host.
pub(crate) struct HostLab {
    official: OfficialSources,
    data: PathBuf,
    area: WorkArea,
    attestor: Attestor,
    limits: Limits,
    trials: Place,
}

/// What a proof is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProveRequest {
    /// Only patches of these packages or source packages.
    #[serde(default)]
    packages: Vec<String>,
    /// Only patches that close a vulnerability.
    #[serde(default)]
    security_only: bool,
    /// The image's application profile, as TOML.
    #[serde(default)]
    profile: String,
    /// Go on after the first reasons against the patches.
    #[serde(default)]
    whole: bool,
}

/// What a bake is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BakeRequest {
    /// As of a proof.
    #[serde(default)]
    packages: Vec<String>,
    /// As of a proof.
    #[serde(default)]
    security_only: bool,
    /// Where the machine's clock begins.
    clock: Option<Timestamp>,
}

/// What a test is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestRequest {
    #[serde(default)]
    driver: DriverName,
}

impl HostLab {
    /// With its state below a control plane's data.
    pub(crate) fn open(
        data: &Path,
        official: OfficialSources,
        cloud: Option<&Path>,
    ) -> Result<Self> {
        let (area, leftovers) = WorkArea::open(&data.join("lab/work"))?;
        if leftovers.directories > 0 {
            tracing::info!(
                directories = leftovers.directories,
                machines = leftovers.machines,
                "removed what a lab left that was ended"
            );
        }
        let attestor = key::attestor(data)?;
        let limits = Limits::default();
        let cloud = cloud.map(super::cloud::read).transpose()?;
        let trials = Place { directory: data.join("lab/trials"), cloud };
        Ok(Self { official, data: data.to_owned(), area, attestor, limits, trials })
    }

    fn patches(
        &self,
        order: &Order,
        only: &[String],
        security_only: bool,
        observer: &Arc<dyn Observer>,
    ) -> Result<Patches, LabFailure> {
        let scope = if security_only { Scope::SecurityOnly } else { Scope::Everything };
        let selection = Selection { scope, only };
        let asked = Arc::clone(observer);
        let watch = Watch::unless(move || asked.is_called_off());
        let origin = Origin::Official(&self.official);
        check::gather_patches(&order.content, origin, selection, &watch).map_err(|error| {
            match failure::find::<Unpatchable>(&error) {
                _ if observer.is_called_off() => LabFailure::Cancelled,
                Some(_) => LabFailure::Refused(format!("{error:#}")),
                None => told(&error),
            }
        })
    }

    fn prove(&self, order: &Order, observer: &Arc<dyn Observer>) -> Result<LabOutcome, LabFailure> {
        let request: ProveRequest = asked(&order.request)?;
        let profile = Profile::parse(&request.profile)
            .map_err(|error| LabFailure::Refused(error.to_string()))?;
        let image = BaseImage::open(&order.content).map_err(refused)?;
        let patches = self.patches(order, &request.packages, request.security_only, observer)?;
        if patches.files.is_empty() {
            return Ok(LabOutcome {
                result: json!({ "patches": [], "check": patches.report.status }),
                passed: patches.report.status == Status::Latest,
                attestations: Vec::new(),
                made: None,
            });
        }
        let thoroughness =
            if request.whole { Thoroughness::Whole } else { Thoroughness::UntilRejected };
        let job = Job {
            image: &image,
            patches: &patches.files,
            previous: &patches.previous,
            claims: &patches.claims,
            profile: &profile,
            limits: &self.limits,
            thoroughness,
        };
        let proof = lab::prove(&self.area, &job, &self.evidence(), Arc::clone(observer))
            .map_err(unproven)?;
        let subject = attest::Subject {
            name: &format!("{} v{}", order.image.name, order.image.number),
            sha256: &order.image.content.sha256,
        };
        let statement = attest::test_result(subject, &patches, &proof).map_err(broken)?;
        let touched = proof.impact.files_touched.len();
        let mut shown = proof;
        // All of them are in the evidence.
        shown.impact.files_touched.truncate(MOST_TOUCHED);
        Ok(LabOutcome {
            passed: shown.verdict.passes(),
            attestations: vec![self.signed(&statement)?],
            made: None,
            result: json!({
                "patches": human::listed(&patches),
                "unmet": human::unmet(&patches),
                "proof": shown,
                "files_touched": touched,
            }),
        })
    }

    fn bake(&self, order: &Order, observer: &Arc<dyn Observer>) -> Result<LabOutcome, LabFailure> {
        let request: BakeRequest = asked(&order.request)?;
        let image = BaseImage::open(&order.content).map_err(refused)?;
        let patches = self.patches(order, &request.packages, request.security_only, observer)?;
        let clock = request.clock.unwrap_or(patches.as_of);
        let recipe = Recipe { image: &image, patches: &patches.files, clock, limits: &self.limits };
        let place = self.area.job().map_err(broken)?;
        let began = Timestamp::now();
        let baked = lab::bake(&self.area, &recipe, place.path(), &self.evidence(), observer)
            .map_err(unbaked)?;
        let origin = Origin::Official(&self.official);
        let after = check::judge(&baked.path, origin).map_err(|error| told(&error))?;
        let made = attest::Made { patches: &patches, baked: &baked, clock, began };
        let from = format!("{} v{}", order.image.name, order.image.number);
        let attestations = vec![
            self.signed(&attest::provenance(&from, &made).map_err(|error| told(&error))?)?,
            self.signed(&attest::components(&baked, &after).map_err(|error| told(&error))?)?,
        ];
        let facts = self.inspect(&baked.path).map_err(|error| LabFailure::Broken(error.reason))?;
        Ok(LabOutcome {
            result: json!({
                "patches": human::listed(&patches),
                "baked": {
                    "sha256": baked.sha256,
                    "from_sha256": baked.from_sha256,
                    "bytes": baked.bytes,
                    "format": baked.format,
                    "generalised": baked.generalised,
                    "warnings": baked.warnings,
                    "accelerator": baked.accelerator,
                    "stages": baked.stages,
                    "took_ms": baked.took_ms,
                    "evidence": baked.evidence,
                },
                "clock": clock,
                "check": after.0.status,
            }),
            passed: true,
            attestations,
            made: Some(Made { path: baked.path, facts, place: Some(Arc::new(place)) }),
        })
    }

    fn test(&self, order: &Order, relay: &Arc<Relay>) -> Result<LabOutcome, LabFailure> {
        let TestRequest { driver } = asked(&order.request)?;
        let image = BaseImage::open(&order.content).map_err(refused)?;
        let origin = Origin::Official(&self.official);
        let trial = trial::run(driver, &self.trials, &image, &self.limits, relay.as_ref(), origin)
            .map_err(|error| {
                if Observer::is_called_off(relay.as_ref()) {
                    LabFailure::Cancelled
                } else {
                    told(&error)
                }
            })?;
        let subject = attest::Subject {
            name: &format!("{} v{}", order.image.name, order.image.number),
            sha256: &order.image.content.sha256,
        };
        let statement = attest::effect(subject, &trial).map_err(|error| told(&error))?;
        Ok(LabOutcome {
            passed: trial.passes(),
            attestations: vec![self.signed(&statement)?],
            made: None,
            result: json!({ "trial": trial }),
        })
    }

    fn signed(&self, statement: &Statement) -> Result<(String, String), LabFailure> {
        let envelope = self.attestor.attest(statement).map_err(broken)?;
        let text = serde_json::to_string(&envelope).map_err(broken)?;
        Ok((statement.predicate_type().to_owned(), text))
    }

    fn evidence(&self) -> PathBuf {
        self.data.join("evidence")
    }
}

impl Laboratory for HostLab {
    fn inspect(&self, image: &Path) -> Result<ImageFacts, LabRefusal> {
        let refusal = |reason: String, help: Option<&str>| LabRefusal {
            reason,
            help: help.unwrap_or("docs/lab.md says what an image must have").to_owned(),
        };
        let base =
            BaseImage::open(image).map_err(|error| refusal(error.to_string(), error.help()))?;
        let target =
            inspect::open(image, None).map_err(|error| refusal(error.to_string(), error.help()))?;
        if !matches!(target.kind(), TargetKind::RawDisk | TargetKind::Qcow2Disk) {
            return Err(refusal(format!("it is no disk image, but {}", target.kind()), None));
        }
        let inventory =
            target.inventory().map_err(|error| refusal(error.to_string(), error.help()))?;
        let choice = VersionChoice::read(target.files())
            .map_err(|error| refusal(error.to_string(), None))?;
        Ok(ImageFacts {
            release: inventory.os.release(),
            architecture: inventory.architecture.clone(),
            format: base.format().name().to_owned(),
            packages: PackageSet::new(inventory, choice),
        })
    }

    fn run(&self, order: &Order, watch: &dyn JobWatch) -> Result<LabOutcome, LabFailure> {
        let (news, coming) = sync_channel(WAITING_NEWS);
        let relay = Arc::new(Relay { news, is_off: AtomicBool::new(false) });
        let observer: Arc<Relay> = Arc::clone(&relay);
        thread::scope(|scope| {
            let work = scope.spawn(move || {
                let watched: Arc<dyn Observer> = Arc::<Relay>::clone(&observer);
                match order.kind {
                    JobKind::Prove => self.prove(order, &watched),
                    JobKind::Bake => self.bake(order, &watched),
                    JobKind::Test => self.test(order, &observer),
                }
            });
            // The lab's threads keep parts of the relay for a while: its end is not the work's.
            while !work.is_finished() {
                match coming.recv_timeout(LOOK) {
                    Ok(News::Stage(stage)) => {
                        watch.log(format!("== {stage}\n").as_bytes());
                        watch.stage(&stage);
                    }
                    Ok(News::Serial(bytes)) => watch.log(&bytes),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if watch.cancelled() {
                    relay.is_off.store(true, Ordering::Relaxed);
                }
            }
            for news in coming.try_iter() {
                if let News::Serial(bytes) = news {
                    watch.log(&bytes);
                }
            }
            let outcome = work.join();
            outcome.unwrap_or_else(|_| Err(LabFailure::Broken("the lab panicked".to_owned())))
        })
    }
}

/// What the lab's threads say, on its way to whoever watches.
#[derive(Debug)]
pub(super) struct Relay {
    news: SyncSender<News>,
    is_off: AtomicBool,
}

#[derive(Debug)]
enum News {
    Stage(String),
    Serial(Vec<u8>),
}

impl Relay {
    pub(super) fn say(&self, stage: &str) {
        let _ = self.news.try_send(News::Stage(stage.to_owned()));
    }
}

impl Observer for Relay {
    fn stage(&self, stage: Stage, _: Duration) {
        self.say(stage.name());
    }

    fn serial(&self, bytes: &[u8]) {
        // Full means that nobody listens any more: the evidence has it all.
        let _ = self.news.try_send(News::Serial(bytes.to_vec()));
    }

    fn is_called_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }
}

impl drivers::Observer for Relay {
    fn step(&self, step: Step, _: Duration) {
        self.say(step.name());
    }

    fn console(&self, bytes: &[u8]) {
        Observer::serial(self, bytes);
    }

    fn is_called_off(&self) -> bool {
        Observer::is_called_off(self)
    }
}

fn asked<T: DeserializeOwned>(request: &Value) -> Result<T, LabFailure> {
    serde_json::from_value(request.clone())
        .map_err(|error| LabFailure::Refused(format!("the request: {error}")))
}

fn refused(error: impl std::fmt::Display) -> LabFailure {
    LabFailure::Refused(error.to_string())
}

fn broken(error: impl std::fmt::Display) -> LabFailure {
    LabFailure::Broken(error.to_string())
}

fn told(error: &anyhow::Error) -> LabFailure {
    LabFailure::Broken(format!("{error:#}"))
}

/// Whether another attempt may fare better.
fn of_machine(error: &VmError) -> LabFailure {
    match error {
        VmError::Guest(Misstep::CalledOff { .. }) => LabFailure::Cancelled,
        VmError::Guest(_) | VmError::Image(_) | VmError::Boot(_) => refused(error),
        VmError::Work(_) | VmError::Machine(_) | VmError::Firmware(_) => broken(error),
    }
}

fn unproven(error: ProveError) -> LabFailure {
    match &error {
        ProveError::Vm(error) => of_machine(error),
        ProveError::Unfit { .. } | ProveError::ProbeFailsBefore { .. } | ProveError::Nothing => {
            refused(error)
        }
        ProveError::Packages(_) | ProveError::Evidence { .. } => broken(error),
    }
}

fn unbaked(error: BakeError) -> LabFailure {
    match &error {
        BakeError::Vm { error, .. } => of_machine(error),
        BakeError::Io { .. } | BakeError::Packages(_) => broken(error),
        _ => refused(error),
    }
}
