//! `patchwright image`: prove a patch on a copy of an image, bake the new image, tell what differs.
//!
//! These verbs work on files and need no control plane, as `patchwright check` does; those of
//! `client::images` keep a control plane's images, and `submit` has its lab do the same work.

mod arguments;
mod attest;
mod cloud;
mod human;
mod key;
mod laboratory;
mod trial;
mod watch;

pub(crate) use arguments::{ImageArgs, LabCommand};
pub(crate) use cloud::read as read_cloud;
pub(crate) use key::attestor;
pub(crate) use laboratory::HostLab;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use domain::check::{Scope, Status};
use jiff::Timestamp;
use lab::{BaseImage, Job, Limits, Profile, Recipe, Thoroughness, Unobserved, Vm, WorkArea};
use serde_json::json;

use crate::check::{self, Origin, Patches, Selection, Watch};
use crate::client::images;
use crate::failure::helped;
use arguments::{
    BakeArgs, DiffArgs, Format, LabArgs, LabVerb, ProveArgs, SubmitArgs, TestArgs, Verb, Work,
};
use trial::Place;
use watch::Terminal;

/// Exit status where a patch does not pass, or an image is not at the latest.
const NOT_GOOD: u8 = 3;

/// Runs the command.
pub(crate) fn run(arguments: &ImageArgs) -> Result<ExitCode> {
    match &arguments.verb {
        Verb::Prove(arguments) => prove(arguments),
        Verb::Bake(arguments) => bake(arguments),
        Verb::Test(arguments) => test(arguments),
        Verb::Diff(arguments) => diff(arguments),
        Verb::Submit(arguments) => submit(arguments),
        Verb::Catalogue(command) => images::run(command),
        Verb::Key(arguments) => {
            let attestor = key::attestor(&data(arguments.data.as_deref())?)?;
            print(&attestor.key().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Runs `patchwright lab`.
pub(crate) fn run_lab(arguments: &LabCommand) -> Result<ExitCode> {
    let LabVerb::Run(arguments) = &arguments.verb;
    let area = area(&data(arguments.data.as_deref())?)?;
    let image = image(&arguments.image)?;
    let limits = arguments.machine.limits();
    let told = |error: lab::VmError| {
        let help = error.help().unwrap_or_default();
        helped(error, help)
    };
    let mut vm = Vm::new(&area, &image, &limits, Arc::new(Unobserved)).map_err(told)?;
    let mut errors = anstream::stderr();
    writeln!(errors, "A copy of {} starts; `exit` throws it away.", arguments.image.display())?;
    vm.shell().map_err(told)?;
    Ok(ExitCode::SUCCESS)
}

fn area(data: &Path) -> Result<WorkArea> {
    let (area, _) = WorkArea::open(&data.join("lab/work")).map_err(|error| {
        let help = error.help().unwrap_or_default();
        helped(error, help)
    })?;
    Ok(area)
}

fn image(path: &Path) -> Result<BaseImage> {
    BaseImage::open(path).map_err(|error| {
        let help = error.help().unwrap_or("name a disk image");
        helped(error, help)
    })
}

/// What a lab's verb works with.
struct Bench {
    data: PathBuf,
    area: WorkArea,
    image: BaseImage,
    evidence: PathBuf,
    limits: Limits,
    terminal: Arc<Terminal>,
}

impl Bench {
    fn open(arguments: &LabArgs) -> Result<Self> {
        let data = data(arguments.from.data.as_deref())?;
        let (area, image) = (area(&data)?, image(&arguments.image)?);
        let install = Duration::from_secs(arguments.install_seconds);
        let limits = Limits { install, ..arguments.machine.limits() };
        let evidence = arguments.evidence.clone().unwrap_or_else(|| data.join("evidence"));
        let is_visible = arguments.format == Format::Human;
        let terminal = Arc::new(Terminal::new(is_visible, arguments.serial));
        Ok(Self { data, area, image, evidence, limits, terminal })
    }
}

impl LabArgs {
    fn patches(&self) -> Result<Patches> {
        let scope = if self.security_only { Scope::SecurityOnly } else { Scope::Everything };
        let selection = Selection { scope, only: &self.packages };
        check::gather_patches(
            &self.image,
            Origin::Own(&self.from),
            selection,
            &Watch::new(self.format == Format::Human),
        )
    }

    fn name(&self) -> String {
        self.image.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

fn prove(arguments: &ProveArgs) -> Result<ExitCode> {
    let bench = Bench::open(&arguments.lab)?;
    let profile = profile(arguments.profile.as_deref())?;
    let patches = arguments.lab.patches()?;
    if patches.files.is_empty() {
        return nothing_missing(&patches, arguments.lab.format);
    }
    let previous = if arguments.no_way_back { &[][..] } else { &patches.previous };
    let thoroughness =
        if arguments.whole { Thoroughness::Whole } else { Thoroughness::UntilRejected };
    let job = Job {
        image: &bench.image,
        patches: &patches.files,
        previous,
        claims: &patches.claims,
        profile: &profile,
        limits: &bench.limits,
        thoroughness,
    };
    let proof = lab::prove(&bench.area, &job, &bench.evidence, bench.terminal.observer());
    bench.terminal.done();
    let proof = proof.map_err(|error| {
        let help = error.help().unwrap_or("this says nothing about the patches");
        helped(error, help)
    })?;
    if let Some(place) = &arguments.attestation {
        let (sha256, _) = lab::digest(bench.image.path()).context("cannot hash the image")?;
        let subject = attest::Subject { name: &arguments.lab.name(), sha256: &sha256 };
        let statement = attest::test_result(subject, &patches, &proof)?;
        let envelope = key::attestor(&bench.data)?.attest(&statement)?;
        write(place, &serde_json::to_vec(&envelope)?)?;
    }
    match arguments.lab.format {
        Format::Human => print(&human::proof(&arguments.lab.name(), &patches, &proof))?,
        Format::Json => print_json(&json!({
            "image": arguments.lab.name(),
            "patches": human::listed(&patches),
            "unmet": human::unmet(&patches),
            "proof": proof,
        }))?,
    }
    Ok(if proof.verdict.passes() { ExitCode::SUCCESS } else { ExitCode::from(NOT_GOOD) })
}

fn bake(arguments: &BakeArgs) -> Result<ExitCode> {
    let bench = Bench::open(&arguments.lab)?;
    let patches = arguments.lab.patches()?;
    let clock = arguments.clock.unwrap_or(patches.as_of);
    let recipe =
        Recipe { image: &bench.image, patches: &patches.files, clock, limits: &bench.limits };
    let began = Timestamp::now();
    let observer = bench.terminal.observer();
    let baked = lab::bake(&bench.area, &recipe, &arguments.into, &bench.evidence, &observer);
    bench.terminal.done();
    let baked = baked.map_err(|error| {
        let help = error.help().unwrap_or("there is no new image");
        helped(error, help)
    })?;
    let after = check::judge(&baked.path, Origin::Own(&arguments.lab.from))?;
    let attestor = key::attestor(&bench.data)?;
    let made = attest::Made { patches: &patches, baked: &baked, clock, began };
    let mut attestations = Vec::new();
    for (name, statement) in [
        ("provenance", attest::provenance(&arguments.lab.name(), &made)?),
        ("sbom", attest::components(&baked, &after)?),
    ] {
        let place = baked.path.with_extension(format!("{name}.dsse.json"));
        write(&place, &serde_json::to_vec(&attestor.attest(&statement)?)?)?;
        attestations.push(place);
    }
    match arguments.lab.format {
        Format::Human => {
            print(&human::baked(&arguments.lab.name(), &patches, &baked, &after.0, &attestations))?;
        }
        Format::Json => print_json(&json!({
            "from": arguments.lab.name(),
            "patches": human::listed(&patches),
            "baked": baked,
            "clock": clock,
            "check": after.0.status,
            "attestations": attestations,
        }))?,
    }
    let is_latest = after.0.status == Status::Latest;
    Ok(if is_latest { ExitCode::SUCCESS } else { ExitCode::from(NOT_GOOD) })
}

fn test(arguments: &TestArgs) -> Result<ExitCode> {
    let data = data(arguments.from.data.as_deref())?;
    let image = image(&arguments.image)?;
    let terminal = Terminal::new(arguments.format == Format::Human, arguments.serial);
    let cloud = arguments.cloud.as_deref().map(cloud::read).transpose()?;
    let place = Place { directory: data.join("lab/trials"), cloud };
    let origin = Origin::Own(&arguments.from);
    let limits = arguments.machine.limits();
    let trial = trial::run(arguments.driver, &place, &image, &limits, &terminal, origin);
    terminal.done();
    let trial = trial?;
    let name = arguments.image.file_name().unwrap_or_default().to_string_lossy();
    if let Some(place) = &arguments.attestation {
        let (sha256, _) = lab::digest(image.path()).context("cannot hash the image")?;
        let subject = attest::Subject { name: &name, sha256: &sha256 };
        let envelope = key::attestor(&data)?.attest(&attest::effect(subject, &trial)?)?;
        write(place, &serde_json::to_vec(&envelope)?)?;
    }
    match arguments.format {
        Format::Human => print(&human::trial(&name, &trial))?,
        Format::Json => print_json(&trial)?,
    }
    Ok(if trial.passes() { ExitCode::SUCCESS } else { ExitCode::from(NOT_GOOD) })
}

fn submit(arguments: &SubmitArgs) -> Result<ExitCode> {
    let SubmitArgs { work, image, packages, security_only, driver, wait, access, .. } = arguments;
    // Read here, so that what is wrong with it is told at once.
    profile(arguments.profile.as_deref())?;
    let profile = arguments.profile.as_deref().map(fs::read_to_string).transpose()?;
    let which = json!({ "packages": packages, "security_only": security_only });
    let (kind, request) = match work {
        Work::Prove => {
            let mut request = which;
            request["profile"] = json!(profile.unwrap_or_default());
            ("prove", request)
        }
        Work::Bake => ("bake", which),
        Work::Test => ("test", json!({ "driver": driver })),
    };
    images::submit(access, kind, image, &request, *wait)
}

fn diff(arguments: &DiffArgs) -> Result<ExitCode> {
    let comparison = lab::compare(&arguments.before, &arguments.after).map_err(|error| {
        let help = error.help().unwrap_or("name two disk images, or two root directories");
        helped(error, help)
    })?;
    match arguments.format {
        Format::Human => print(&human::comparison(&comparison, arguments.all))?,
        Format::Json => print_json(&comparison)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn nothing_missing(patches: &Patches, format: Format) -> Result<ExitCode> {
    match format {
        Format::Human => print(&human::nothing(patches))?,
        Format::Json => print_json(&json!({ "patches": [], "check": patches.report.status }))?,
    }
    let is_latest = patches.report.status == Status::Latest;
    Ok(if is_latest { ExitCode::SUCCESS } else { ExitCode::from(NOT_GOOD) })
}

fn profile(path: Option<&Path>) -> Result<Profile> {
    let Some(path) = path else { return Ok(Profile::default()) };
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read the application profile `{}`", path.display()))?;
    Profile::parse(&text).map_err(|error| {
        helped(
            anyhow::Error::new(error).context(format!("in `{}`", path.display())),
            "docs/lab.md shows a profile",
        )
    })
}

/// Where state is kept.
fn data(given: Option<&Path>) -> Result<PathBuf> {
    match given {
        Some(directory) => std::path::absolute(directory).context("cannot find the data directory"),
        None => crate::data::data_directory(),
    }
}

fn write(place: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(place, bytes).with_context(|| format!("cannot write `{}`", place.display()))
}

fn print(text: &str) -> Result<()> {
    let mut out = anstream::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("cannot write the result")
}

fn print_json(value: &impl serde::Serialize) -> Result<()> {
    print(&format!("{}\n", serde_json::to_string_pretty(value)?))
}
