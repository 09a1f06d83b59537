//! The effect test (R8): a machine is made from an image through a driver, must come up and go
//! down, and its disk is then scanned as any system's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use domain::check::{Report, Status};
use domain::files::FileView;
use domain::inventory::Inventory;
use drivers::{
    Cloud, Conditions, Driver, Fault, Kernel, Libvirt, Local, Observer, OpenStack, Seen,
    SystemClock, TrialError,
};
use lab::BaseImage;
use serde::{Deserialize, Serialize};

use crate::check::{self, Origin};
use crate::failure::helped;

/// A machine's identity (machine-id(5)): 32 hexadecimal digits and a line's end.
const MACHINE_ID: &str = "/etc/machine-id";
const MACHINE_ID_LIMIT: u64 = 64;

/// Where the machine is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DriverName {
    /// QEMU on this host.
    #[default]
    Local,
    /// libvirt's session of this user.
    Libvirt,
    /// The OpenStack cloud of the cloud's file.
    Openstack,
}

/// Where machines may be made.
#[derive(Debug)]
pub(crate) struct Place {
    /// Where their files lie.
    pub(crate) directory: PathBuf,
    /// The cloud, where there is one.
    pub(crate) cloud: Option<Cloud>,
}

/// What came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Trial {
    /// Where the machine was made.
    pub(crate) driver: DriverName,
    /// What was seen of it, where it came up and went down.
    pub(crate) seen: Option<Seen>,
    /// What the scan of its disk says.
    pub(crate) scan: Option<Scan>,
    /// What speaks against the image; empty where it passes.
    pub(crate) problems: Vec<String>,
    /// The end of what the console printed, where it did not come up.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) console: String,
}

/// A scan of the machine's disk, after it ran.
#[derive(Debug, Serialize)]
pub(crate) struct Scan {
    /// Whether it is at the latest.
    pub(crate) status: Status,
    /// Packages with missing patches.
    pub(crate) missing: Vec<String>,
    /// What is unknown.
    pub(crate) unknown: Vec<String>,
    /// How many packages were looked at.
    pub(crate) packages: usize,
}

impl Trial {
    /// Whether the image may be used.
    pub(crate) fn passes(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Makes a machine and scans it. An error says nothing about the image.
pub(crate) fn run(
    name: DriverName,
    place: &Place,
    image: &BaseImage,
    limits: &lab::Limits,
    observer: &dyn Observer,
    origin: Origin<'_>,
) -> Result<Trial> {
    let driver = driver(name, place)?;
    let limits = drivers::Limits {
        processors: limits.processors,
        memory_mib: limits.memory_mib,
        disk_bytes: limits.disk_bytes,
        boot: limits.boot,
        shutdown: limits.shutdown,
        ..drivers::Limits::default()
    };
    let conditions = Conditions { limits: &limits, observer, clock: &SystemClock::default() };
    let outcome = drivers::trial(driver.as_ref(), image, &conditions, |disk| {
        let (report, inventory) = check::judge(disk, origin)?;
        Ok::<_, anyhow::Error>((report, inventory, identity(disk)?))
    });
    match outcome {
        Ok(outcome) => {
            if let Some(error) = outcome.left_behind {
                tracing::warn!(%error, "a trial's machine is left behind; a sweep removes it");
            }
            let (report, inventory, identity) = outcome.scanned?;
            if report.status == Status::Unknown {
                let reasons =
                    report.unknown.first().map(|it| format!("{}: {}", it.subject, it.reason));
                let error = anyhow::anyhow!("{}", reasons.unwrap_or_default())
                    .context("it is unknown whether the machine is at the latest");
                return Err(helped(
                    error,
                    "unknown is not taken for good: mend that, and test again",
                ));
            }
            let before = self::identity(image.path())?;
            let problems = problems(
                &report,
                &inventory,
                outcome.seen.kernel.as_ref(),
                &Identities { image: before.as_deref(), machine: identity.as_deref() },
            );
            Ok(Trial {
                driver: name,
                seen: Some(outcome.seen),
                scan: Some(scan(&report, &inventory)),
                problems,
                console: String::new(),
            })
        }
        Err(error) => {
            if let Some(left) = &error.left_behind {
                tracing::warn!(error = %left, "a trial's machine is left behind; a sweep removes it");
            }
            failed(name, error)
        }
    }
}

/// What a machine's failure says of the image, if anything.
fn failed(name: DriverName, error: TrialError) -> Result<Trial> {
    match error {
        error if error.reason.fault() == Fault::Image => Ok(Trial {
            driver: name,
            seen: None,
            scan: None,
            problems: vec![error.reason.to_string()],
            console: error.console,
        }),
        error => {
            let help = error.reason.help().unwrap_or("this says nothing about the image");
            let reason = anyhow::Error::new(error.reason).context("the machine was not to be had");
            Err(helped(reason, help))
        }
    }
}

fn driver(name: DriverName, place: &Place) -> Result<Box<dyn Driver>> {
    let directory = &place.directory;
    Ok(match name {
        DriverName::Local => Box::new(Local::open(&directory.join("local")).map_err(|error| {
            let help = error.help().unwrap_or_default();
            helped(error, help)
        })?),
        DriverName::Libvirt => {
            Box::new(Libvirt::open(&directory.join("libvirt")).map_err(|error| {
                let help = error.help().unwrap_or_default();
                helped(error, help)
            })?)
        }
        DriverName::Openstack => {
            let Some(cloud) = place.cloud.clone() else {
                let error = anyhow::anyhow!("no cloud is named");
                return Err(helped(error, "name its file: docs/drivers.md"));
            };
            let clock = Arc::new(SystemClock::default());
            let opened = OpenStack::open(cloud, &directory.join("openstack"), clock);
            let opened = opened.map_err(|error| {
                let help = error.help().unwrap_or_default();
                helped(error, help)
            })?;
            // What a killed process left there costs money.
            if let Err(error) = opened.sweep() {
                tracing::warn!(%error, "the cloud was not swept");
            }
            Box::new(opened)
        }
    })
}

/// The machine id on a disk; `None` where it has none yet.
fn identity(disk: &Path) -> Result<Option<String>> {
    let target = inspect::open(disk, None).context("cannot read the disk")?;
    let files: &dyn FileView = target.files();
    let id = files.read(MACHINE_ID, MACHINE_ID_LIMIT).context("cannot read the machine id")?;
    let id = String::from_utf8_lossy(&id.unwrap_or_default()).trim().to_owned();
    Ok((!id.is_empty() && id != "uninitialized").then_some(id))
}

struct Identities<'a> {
    image: Option<&'a str>,
    machine: Option<&'a str>,
}

/// What speaks against an image whose machine came up and went down.
fn problems(
    report: &Report,
    inventory: &Inventory,
    kernel: Option<&Kernel>,
    identities: &Identities<'_>,
) -> Vec<String> {
    let mut problems = Vec::new();
    // What a bake left out on purpose does not reject its image, as long as nothing is open.
    let open = report.findings.iter().filter(|finding| finding.security && !finding.held).count();
    if open > 0 {
        problems.push(format!("security patches are missing on {open} packages"));
    }
    let newest = inspect::newest_kernel(&inventory.installed_kernels);
    match (kernel, &newest) {
        (Some(ran), Some(newest)) if ran.release != *newest => {
            problems.push(format!("the kernel {} ran, not {newest}", ran.release));
        }
        (None, Some(newest)) => {
            problems.push(format!("nobody told which kernel ran; it should be {newest}"));
        }
        (_, None) => problems.push("no kernel that is known is installed".to_owned()),
        (Some(_), Some(_)) => {}
    }
    match (identities.image, identities.machine) {
        (Some(_), _) => problems.push("the image has a machine id, which all its VMs share".into()),
        (None, None) => problems.push("the machine made itself no machine id".into()),
        (None, Some(_)) => {}
    }
    problems
}

fn scan(report: &Report, inventory: &Inventory) -> Scan {
    Scan {
        status: report.status,
        missing: report.findings.iter().map(|finding| finding.package.clone()).collect(),
        unknown: report.unknown.iter().map(|it| format!("{}: {}", it.subject, it.reason)).collect(),
        packages: inventory.packages.len(),
    }
}
