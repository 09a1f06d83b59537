//! `patchwright drill`: the whole loop of X.1642 on scratch virtual machines, with a signed report.
//!
//! ```text
//! image ─► four VMs with agents ─► collect ─► prove ─► tell ─► agree ─► canary ─► all ─► scan ─► archive
//!                                               └─► bake ─► test ─► publish ─► new VM ─► scan ┘
//! ```
//!
//! Everything is the real thing: the control plane is a process of its own, used through its API and by the
//! commands that people type; the machines boot by firmware and their own boot loader; patches are Debian's,
//! from the archives that this machine's apt uses. Only the waits of the SLA are shorter, by a factor that the
//! report names.

mod archive;
mod course;
mod faults;
mod machines;
mod openssl;
mod plane;
mod play;
mod report;
mod terms;
mod thief;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result, anyhow};
use bootstrap::{Purpose, Recipe, Release};
use clap::Args;
use jiff::Timestamp;

use self::archive::Archives;
use self::course::Course;
use self::faults::Fault;
use self::play::{Found, Setup};
use self::report::{Image, Injected, Record, Report};
use crate::check;
use crate::data::data_directory;
use crate::failure::{describe, helped};
use crate::image::attestor;

const GOOD: Style = AnsiColor::Green.on_default().bold();
const BAD: Style = AnsiColor::Red.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Run the whole loop on scratch virtual machines, and report what was seen.
///
/// A provider, two tenants with an SLA each, four virtual machines with agents, a current image, and what
/// Debian's security archive has for it. Nothing of this machine is altered. Needs QEMU; makes its image with
/// mmdebstrap the first time.
#[derive(Debug, Args)]
pub(crate) struct DrillArgs {
    /// Where the report, the evidence and the archive go; made where it is missing. A directory of the
    /// present time in this one, where none is named.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// The image that machines are made from, instead of one that is made for it: `bootstrap`'s tenant image,
    /// or one like it.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    /// How many times shorter than agreed the waits of the SLA are. None gets shorter than a minute.
    #[arg(long, value_name = "NUMBER", default_value_t = 720,
        value_parser = clap::value_parser!(u32).range(1..=100_000))]
    time_scale: u32,

    /// Something that goes wrong on purpose; the drill passes where it ends as it has to. Several may be named.
    #[arg(long, value_enum, value_name = "NAME", value_delimiter = ',')]
    fault: Vec<Fault>,

    /// A program that verifies the archive by itself: started with its directory, the ledger's key and a file
    /// with an earlier checkpoint, it prints size and root.
    #[arg(long, value_name = "PROGRAM")]
    foreign_verifier: Option<PathBuf>,

    /// The program that control plane and machines run, instead of this one; it must run on the image's
    /// system too.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,

    /// Keep the control plane's data and its log.
    #[arg(long)]
    keep: bool,
}

/// Runs the command.
pub(crate) fn run(arguments: &DrillArgs) -> Result<ExitCode> {
    let (began_at, began) = (Timestamp::now(), Instant::now());
    faults::compatible(&arguments.fault)?;
    let out = match &arguments.out {
        Some(out) => out.clone(),
        None => PathBuf::from(began_at.strftime("patchwright-drill-%Y%m%dT%H%M%SZ").to_string()),
    };
    let out = std::path::absolute(&out).context("cannot find the report's directory")?;
    make_empty(&out)?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().context("cannot find this program")?,
    };
    let course = Course::new();
    course.line(&format!("{DIM}A drill: everything goes to {}{DIM:#}", out.display()));
    let prepared = prepare(arguments, &course)?;
    let attestor = attestor(&data_directory()?)?;
    let work = out.join("work");
    let outcome = play::play(&Setup {
        course: &course,
        directory: &out,
        work: &work,
        program: &program,
        image: &prepared.image,
        sources: &prepared.sources,
        archives: &prepared.archives,
        time_scale: arguments.time_scale,
        faults: &arguments.fault,
        foreign: arguments.foreign_verifier.as_deref(),
    });
    let (sha256, _) = lab::digest(&prepared.image).context("cannot hash the image")?;
    let acts = course.acts();
    let (found, because) = match outcome {
        Ok(found) => (Some(found), None),
        Err(error) => (None, Some(error)),
    };
    let report = Report {
        schema: "patchwright.drill/1",
        passed: because.is_none(),
        because: because.as_ref().map(|error| format!("{error:#}")),
        faults: injected(&arguments.fault),
        began_at,
        ended_at: Timestamp::now(),
        took_seconds: (began.elapsed().as_secs_f64() * 10.0).round() / 10.0,
        version: env!("CARGO_PKG_VERSION"),
        image: Image { name: name_of(&prepared.image), sha256 },
        accelerator: lab::Accelerator::of_this_machine(),
        time_scale: arguments.time_scale,
        terms: terms::table(arguments.time_scale),
        requirements: report::exercised(&acts),
        acts,
        ledger: found.map(|Found { size, root, key }| Record { size, root, key }),
    };
    let written = report::write(&report, &attestor, &out)?;
    if !arguments.keep && report.passed {
        fs::remove_dir_all(&work).with_context(|| format!("cannot remove `{}`", work.display()))?;
    }
    let took = report.took_seconds;
    match &because {
        None => course.line(&format!("\n{GOOD}The drill passed{GOOD:#} in {took:.0} s.")),
        Some(error) => {
            course.line(&format!("\n{BAD}The drill failed{BAD:#} after {took:.0} s."));
            course.line(describe(error).trim_end());
            course.line(&format!("  what was done and its logs are in {}", work.display()));
        }
    }
    let count = report.requirements.len();
    course.line(&format!(
        "  {count} requirements of X.1642 exercised; the waits of the SLA {} times shorter",
        report.time_scale
    ));
    for (what, place) in
        [("report", &written.page), ("as JSON", &written.json), ("signed", &written.signed)]
    {
        course.line(&format!("  {what:<8} {}", place.display()));
    }
    Ok(if report.passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a drill needs before it begins.
struct Prepared {
    image: PathBuf,
    sources: String,
    archives: Archives,
}

fn prepare(arguments: &DrillArgs, course: &Course) -> Result<Prepared> {
    course.act("An image that lacks real security patches", &[], |stage| {
        let told = |error: bootstrap::BootstrapError| match error.help() {
            Some(help) => helped(error, help),
            None => error.into(),
        };
        let release = Release::Bookworm;
        let sources = bootstrap::sources(release).map_err(told)?;
        let image = if let Some(image) = &arguments.image {
            image.canonicalize().with_context(|| format!("cannot find `{}`", image.display()))?
        } else {
            stage.says("made with mmdebstrap, once");
            let recipe = Recipe { release, purpose: Purpose::Tenant };
            bootstrap::make(recipe, &data_directory()?.join("drill/images"), false).map_err(told)?
        };
        stage.fact("image", name_of(&image));
        stage.fact("machines", format!("QEMU with {}", lab::Accelerator::of_this_machine()));
        let archives = Archives::open(&sources, check::archive_fetcher()?)?;
        Ok(Prepared { image, sources, archives })
    })
}

fn injected(faults: &[Fault]) -> Vec<Injected> {
    faults.iter().map(|&name| Injected { name, expected: name.expected() }).collect()
}

/// A directory of the drill's own.
fn make_empty(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory)
        .with_context(|| format!("cannot make `{}`", directory.display()))?;
    if fs::read_dir(directory)?.next().is_some() {
        let error = anyhow!("`{}` is not empty", directory.display());
        return Err(helped(error, "name another directory with --out"));
    }
    Ok(())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
