//! A copy of an image that boots by itself: by firmware and its own boot loader, with nothing of
//! ours inside. Seen from outside only: whether it runs, what its console prints.

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::accelerator::Accelerator;
use crate::firmware::Firmware;
use crate::image::{BaseImage, Format};
use crate::limits::Limits;
use crate::machine::{self, Access, Boot, Button, Disk, Event, Hardware, Machine, Shutdown};
use crate::machine::{Network, Restart, Usage};
use crate::observer::Observer;
use crate::vm::VmError;
use crate::work::{JobDirectory, WorkArea};

/// How long is waited for each event that may be there already.
const GLANCE: Duration = Duration::from_millis(1);

/// A machine that came from an image as any user's would; ended and removed when dropped.
#[derive(Debug)]
pub struct Appliance {
    machine: Machine,
    firmware: Firmware,
    base: BaseImage,
    overlay: PathBuf,
    limits: Limits,
    setting: Setting,
    observer: Arc<dyn Observer>,
    power: Power,
    /// How it will have ended, told before QEMU is gone.
    pending: Option<Power>,
    /// Removed last: the machine must be gone before.
    job: JobDirectory,
}

/// What there is around a machine.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// What it reaches.
    pub network: Network,
    /// Whether it goes on after a restart.
    pub restart: Restart,
    /// A second disk, raw, which the machine only reads.
    pub seed: Option<PathBuf>,
}

/// Whether a machine runs, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Power {
    /// It runs.
    On,
    /// The system switched the machine off.
    Off,
    /// The system asked for a restart; the lab's machines end then.
    Restarted,
    /// The system gave up.
    Panicked,
    /// It was ended, because of its limits or because QEMU failed.
    Lost {
        /// Why.
        reason: String,
    },
}

impl Appliance {
    /// Makes a copy and switches it on.
    pub fn start(
        area: &WorkArea,
        image: &BaseImage,
        limits: &Limits,
        setting: Setting,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, VmError> {
        let job = area.job()?;
        let overlay = image.overlay(&job)?;
        let firmware = Firmware::for_image(image, &job)?;
        let hardware = hardware(&overlay, image, limits, &setting, &firmware);
        let machine = Machine::start(&job, &hardware, Arc::clone(&observer))?;
        Ok(Self {
            machine,
            firmware,
            base: image.clone(),
            overlay,
            limits: limits.clone(),
            setting,
            observer,
            power: Power::On,
            pending: None,
            job,
        })
    }

    /// Ends the machine at once, as a power cut does. Its disk is as the system left it, but that the
    /// host's memory loses nothing.
    pub fn cut_power(&mut self) {
        self.machine.end();
        self.power = Power::Off;
        self.pending = None;
    }

    /// Switches it on again with the disk that it has; its clock begins at the given instant, or now. One
    /// that runs is cut off first.
    ///
    /// # Errors
    /// Where QEMU cannot be started.
    pub fn switch_on(&mut self, clock: Option<Timestamp>) -> Result<(), VmError> {
        self.cut_power();
        let Self { overlay, base, limits, setting, firmware, .. } = self;
        let hardware = Hardware { clock, ..hardware(overlay, base, limits, setting, firmware) };
        self.machine = Machine::start(&self.job, &hardware, Arc::clone(&self.observer))?;
        self.power = Power::On;
        Ok(())
    }

    /// Stops its processors: it hangs, and its time stands still.
    pub fn freeze(&self) -> Result<(), VmError> {
        Ok(self.machine.press(Button::Freeze)?)
    }

    /// Lets its processors go on.
    pub fn thaw(&self) -> Result<(), VmError> {
        Ok(self.machine.press(Button::Thaw)?)
    }

    /// What it is called: the name of its directory.
    pub fn name(&self) -> String {
        self.job.name()
    }

    /// Whether it runs by now.
    pub fn power(&mut self) -> &Power {
        while self.power == Power::On {
            let Some(event) = self.machine.next(Instant::now() + GLANCE) else { break };
            self.notice(event);
        }
        &self.power
    }

    /// What it used since it was switched on.
    ///
    /// # Errors
    /// Where QEMU does not say.
    pub fn usage(&self) -> Result<Usage, VmError> {
        Ok(self.machine.usage()?)
    }

    /// Presses the power button.
    pub fn press_power_button(&self) -> Result<(), VmError> {
        Ok(self.machine.press(Button::Power)?)
    }

    /// The serial console's log, at most 8 MiB.
    pub fn serial_log(&self) -> PathBuf {
        self.job.path().join("serial.log")
    }

    /// The overlay with everything that the system wrote; at rest once the machine is off.
    pub fn overlay(&self) -> &Path {
        &self.overlay
    }

    /// The first cause counts; off it is only when QEMU has gone and its files are at rest.
    fn notice(&mut self, event: Event) {
        match event {
            Event::Ended(status) => {
                let lost = Power::Lost { reason: self.explain(status) };
                self.power = self.pending.take().unwrap_or(lost);
            }
            Event::Shutdown(how) => {
                self.pending.get_or_insert(match how {
                    Shutdown::PowerOff => Power::Off,
                    Shutdown::Reset => Power::Restarted,
                    Shutdown::Panic => Power::Panicked,
                    Shutdown::Other => Power::Lost { reason: "QEMU was ended".to_owned() },
                });
            }
            // The machine stands still: nothing will come of it.
            Event::DiskFailed { reason } => {
                let reason = if reason.contains("too large") {
                    self.wrote_too_much()
                } else {
                    format!("its disk failed: {reason}")
                };
                self.pending = Some(Power::Lost { reason });
                self.machine.end();
            }
            Event::Said(_) | Event::Nonsense(_) => {}
        }
    }

    fn explain(&self, status: ExitStatus) -> String {
        if machine::exceeded_disk(status) {
            return self.wrote_too_much();
        }
        format!("QEMU ended with {status}: {}", self.machine.complaints().trim())
    }

    fn wrote_too_much(&self) -> String {
        format!("it wrote more than {} bytes to its disk", self.limits.disk_bytes)
    }
}

fn hardware<'a>(
    overlay: &'a Path,
    base: &'a BaseImage,
    limits: &'a Limits,
    setting: &'a Setting,
    firmware: &'a Firmware,
) -> Hardware<'a> {
    let root = Disk {
        file: overlay,
        format: Format::Qcow2,
        backing: Some((base.path(), base.format())),
        access: Access::Write,
        serial: "root",
    };
    let seed = setting.seed.as_deref().map(|file| Disk {
        file,
        format: Format::Raw,
        backing: None,
        access: Access::Read,
        serial: "seed",
    });
    Hardware {
        accelerator: Accelerator::of_this_machine(),
        limits,
        disks: std::iter::once(root).chain(seed).collect(),
        clock: None,
        boot: Boot::Firmware(firmware),
        network: &setting.network,
        restart: setting.restart,
    }
}
