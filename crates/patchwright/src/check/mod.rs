//! `patchwright check`: opens the target, gathers what is known, asks the domain, shows the answer.

mod arguments;
mod contents;
mod cyclonedx;
mod fleet;
mod human;
mod knowledge;
mod patches;
mod progress;

pub(crate) use arguments::{CheckArgs, SourceArgs};
pub(crate) use fleet::OfficialSources;
pub(crate) use patches::{Patches, Selection, Unpatchable, gather as gather_patches};
pub(crate) use progress::Watch;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use domain::candidate::Preferences;
use domain::check::{self, AdvisoryKnowledge, ArchiveKnowledge, ExploitedCatalogue, Question};
use domain::check::{Report, Scope, Status, Unknown};
use domain::fleet::{PackageSet, VersionChoice};
use domain::inventory::{Inventory, PackageFamily, Runtime};
use domain::matching::Index;
use domain::priority::Policy;
use jiff::Timestamp;

use crate::failure::helped;
use arguments::Format;
pub(crate) use cyclonedx::write as write_cyclonedx;
use human::Detail;
use knowledge::{Archives, Changelogs, Records, Shelf};
pub(crate) use knowledge::{Origin, archive_fetcher};

/// Exit status with `--exit-code` when patches are missing.
const OUTDATED: u8 = 3;
/// Exit status with `--exit-code` when nothing is known to be missing, but something is unknown.
const UNKNOWN: u8 = 4;

/// Runs the command.
pub(crate) fn run(arguments: &CheckArgs) -> Result<ExitCode> {
    let (report, inventory) = find(arguments, Origin::Own(&arguments.from))?;
    show(arguments, &report, &inventory)?;
    Ok(exit_code(arguments, report.status))
}

/// What `patchwright check IMAGE` says, with all that is installed in it.
pub(crate) fn judge(image: &Path, origin: Origin<'_>) -> Result<(Report, Inventory)> {
    let arguments = CheckArgs::of_an_image(image, origin.arguments(), Scope::Everything);
    find(&arguments, origin)
}

/// What the machine we are on has installed, and what it runs.
pub(crate) fn this_machine() -> Result<(PackageSet, Option<Runtime>)> {
    let target = inspect::open(Path::new("/"), None).context("cannot read this machine's files")?;
    let inventory = target.inventory().context("cannot read what this machine has installed")?;
    let choice = VersionChoice::read(target.files()).context("cannot read apt's configuration")?;
    let runtime = inventory.runtime.clone();
    Ok((PackageSet::new(inventory, choice), runtime))
}

/// A report as one screen.
pub(crate) fn screen(report: &Report) -> String {
    human::render(report, &Detail::Screen, terminal_width())
}

fn terminal_width() -> usize {
    terminal_size::terminal_size().map_or(120, |(width, _)| width.0.into())
}

/// Opens the target, gathers what is known and asks.
fn find(arguments: &CheckArgs, origin: Origin<'_>) -> Result<(Report, Inventory)> {
    let at = arguments.from.at.unwrap_or_else(Timestamp::now);
    let policy = Policy::builtin(&arguments.policy).map_err(|error| {
        let help = error.help().unwrap_or_default();
        helped(error, help)
    })?;
    let target = inspect::open(&arguments.target, None).map_err(|error| {
        let help = error.help().unwrap_or("name a directory, a disk image or a container image");
        helped(error, help)
    })?;
    let inventory = target.inventory().map_err(|error| {
        let help = error.help().unwrap_or("check that the target is whole and may be read");
        helped(
            anyhow::Error::new(error).context(format!("cannot check {}", name_of(arguments))),
            help,
        )
    })?;

    let watch = progress::Watch::new(arguments.format == Format::Human);
    let archives = match inventory.family {
        PackageFamily::Dpkg => Archives::gather(origin, target.files(), &inventory, at, &watch)?,
        PackageFamily::Rpm | PackageFamily::Apk => None,
    };
    let records = Records::gather(&arguments.from, &inventory)?;
    watch.done();
    let report = ask(arguments, &inventory, archives.as_ref(), &records, policy, at);
    Ok((report, inventory))
}

fn name_of(arguments: &CheckArgs) -> String {
    arguments.target.display().to_string()
}

/// Puts the question to the domain.
fn ask(
    arguments: &CheckArgs,
    inventory: &Inventory,
    archives: Option<&Archives>,
    records: &Records,
    policy: &Policy,
    at: Timestamp,
) -> Report {
    let index = records.osv.as_ref().map(|osv| Index::new(&osv.advisories));
    Facts {
        shelf: archives.map(|archives| &archives.shelf),
        preferences: archives.map_or(&Preferences::default(), |archives| &archives.preferences),
        changelogs: archives.map_or(&BTreeMap::new(), |archives| &archives.changelogs),
        advisories: records
            .osv
            .as_ref()
            .zip(index.as_ref())
            .map(|(osv, index)| AdvisoryKnowledge { advisories: &osv.advisories, index }),
        records,
        gaps: &records.gaps,
    }
    .judge(arguments, &name_of(arguments), inventory, policy, at)
}

/// All that is known when a system is judged.
struct Facts<'a> {
    shelf: Option<&'a Shelf>,
    preferences: &'a Preferences,
    changelogs: &'a Changelogs,
    advisories: Option<AdvisoryKnowledge<'a>>,
    records: &'a Records,
    gaps: &'a [Unknown],
}

impl Facts<'_> {
    fn judge(
        &self,
        arguments: &CheckArgs,
        target: &str,
        inventory: &Inventory,
        policy: &Policy,
        at: Timestamp,
    ) -> Report {
        let upgrades = self
            .shelf
            .map(|shelf| check::upgrades(inventory, &shelf.offered, self.preferences))
            .unwrap_or_default();
        let mut sources = self.shelf.map(|shelf| shelf.sources.clone()).unwrap_or_default();
        sources.extend(self.records.sources.iter().cloned());
        check::check(&Question {
            target,
            at,
            inventory,
            sources: &sources,
            gaps: self.gaps,
            archive: self.shelf.map(|shelf| ArchiveKnowledge {
                suites: &shelf.offered,
                upgrades: &upgrades,
                changelogs: self.changelogs,
            }),
            advisories: self.advisories,
            exploited: self
                .records
                .exploited
                .as_ref()
                .map(|(name, cves)| ExploitedCatalogue { name: name.as_str(), cves }),
            policy,
            asset: &arguments.asset_facts(),
            scope: arguments.scope(),
        })
    }
}

fn show(arguments: &CheckArgs, report: &Report, inventory: &Inventory) -> Result<()> {
    let mut out = anstream::stdout().lock();
    match arguments.format {
        Format::Human => {
            let detail = match (&arguments.explain, arguments.all) {
                (Some(package), _) => Detail::Explain(package.clone()),
                (None, true) => Detail::All,
                (None, false) => Detail::Screen,
            };
            out.write_all(human::render(report, &detail, terminal_width()).as_bytes())
        }
        // Whole: standard output would be asked for every token.
        Format::Json => serde_json::to_vec_pretty(report)
            .map_err(io::Error::from)
            .and_then(|document| out.write_all(&document))
            .and_then(|()| writeln!(out)),
        Format::Cyclonedx => {
            let mut document = Vec::new();
            cyclonedx::write(report, inventory, &mut document)?;
            out.write_all(&document).and_then(|()| writeln!(out))
        }
    }
    .and_then(|()| out.flush())
    .context("cannot write the report")
}

fn exit_code(arguments: &CheckArgs, status: Status) -> ExitCode {
    match status {
        Status::Outdated if arguments.exit_code => ExitCode::from(OUTDATED),
        Status::Unknown if arguments.exit_code => ExitCode::from(UNKNOWN),
        _ => ExitCode::SUCCESS,
    }
}
