//! The drill's virtual machines: copies of the current image, each with an agent of its own.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use lab::{Appliance, BaseImage, Limits, Network, Power, Restart, Setting, Unobserved, WorkArea};

use crate::client::secret::Secret;
use crate::failure::helped;

/// How the agent is run on a host.
const UNIT: &str = include_str!("../../../../packaging/patchwright-agent.service");

/// Joins once, before the agent runs.
const JOIN: &str = include_str!("units/patchwright-join.service");

/// The agent waits for that, and what it says is seen on the console.
const DROP_IN: &str = include_str!("units/drill.conf");

/// What a machine's console says when its agent was killed.
pub(super) const AGENT_WAS_KILLED: &str = "the agent was killed in the middle of its order";

/// Ends the agent, and what it had started, right after an order began; once.
const KILLER: [(&str, &str); 2] = [
    (
        "patchwright-killer.path",
        "[Unit]\nDescription=Waits for an order\n\n\
         [Path]\nPathExists=/var/lib/patchwright-agent/orders/journal\n",
    ),
    (
        "patchwright-killer.service",
        "[Unit]\nDescription=Kills the agent in the middle of its order\n\
         ConditionPathExists=!/var/lib/agent-was-killed\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n\
         ExecStartPre=/bin/sleep 3\n\
         ExecStart=/usr/bin/touch /var/lib/agent-was-killed\n\
         ExecStart=/bin/systemctl kill --signal=KILL patchwright-agent.service\n\
         ExecStart=/bin/echo the agent was killed in the middle of its order\n\
         StandardOutput=journal+console\n",
    ),
];

/// One processor each: the machine that drills has few.
const PROCESSORS: u8 = 1;
const MEMORY_MIB: u32 = 768;

/// A virtual machine that a tenant has.
pub(super) struct Vm {
    /// What it is called, as an item too.
    pub(super) name: String,
    /// Its tenant's short name.
    pub(super) tenant: &'static str,
    appliance: Appliance,
}

/// What a machine is handed when it starts first.
pub(super) struct Seed<'a> {
    /// What it is called.
    pub(super) name: &'a str,
    /// Where agents connect, as the machine reaches it.
    pub(super) control_plane: &'a str,
    /// Lets it join once.
    pub(super) token: &'a Secret,
    /// apt's sources.
    pub(super) sources: &'a str,
    /// Whether its agent is killed in the middle of an order.
    pub(super) is_agent_killed: bool,
}

/// Where machines are made.
pub(super) struct Yard {
    area: WorkArea,
    directory: PathBuf,
    program: PathBuf,
}

impl Yard {
    /// Machines below a directory, whose agents are `program`.
    pub(super) fn open(directory: &Path, program: &Path) -> Result<Self> {
        let (area, _) = WorkArea::open(&directory.join("machines")).map_err(|error| {
            let help = error.help().unwrap_or_default();
            helped(error, help)
        })?;
        Ok(Self { area, directory: directory.to_owned(), program: program.to_owned() })
    }

    /// Makes a machine and switches it on.
    pub(super) fn make(&self, tenant: &'static str, image: &Path, seed: &Seed<'_>) -> Result<Vm> {
        let name = seed.name.to_owned();
        let disk =
            self.seed_disk(seed).with_context(|| format!("cannot make the seed of {name}"))?;
        let image = BaseImage::open(image)?;
        let limits = Limits { processors: PROCESSORS, memory_mib: MEMORY_MIB, ..Limits::default() };
        let network = Network::Host { doors: Vec::new() };
        let setting = Setting { network, restart: Restart::GoesOn, seed: Some(disk) };
        let appliance =
            Appliance::start(&self.area, &image, &limits, setting, Arc::new(Unobserved));
        let appliance = appliance.map_err(|error| {
            let help = error.help().unwrap_or("see what QEMU says");
            helped(anyhow::Error::new(error).context(format!("{name} does not start")), help)
        })?;
        Ok(Vm { name, tenant, appliance })
    }

    /// A file system with what is laid over the machine's root.
    fn seed_disk(&self, seed: &Seed<'_>) -> Result<PathBuf> {
        let root = self.directory.join(format!("seed-{}", seed.name));
        let file = |path: &str, text: &str, mode: u32| -> Result<()> {
            let path = root.join(path);
            if let Some(above) = path.parent() {
                fs::create_dir_all(above)?;
            }
            let mut file =
                OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path)?;
            Ok(file.write_all(text.as_bytes())?)
        };
        let unit = UNIT.replace("/usr/bin/patchwright-agent run", "/usr/bin/patchwright agent run");
        let units = "etc/systemd/system";
        file(&format!("{units}/patchwright-agent.service"), &unit, 0o644)?;
        file(&format!("{units}/patchwright-agent.service.d/drill.conf"), DROP_IN, 0o644)?;
        file(&format!("{units}/patchwright-join.service"), JOIN, 0o644)?;
        let mut wanted = vec!["patchwright-agent.service"];
        if seed.is_agent_killed {
            for (name, text) in KILLER {
                file(&format!("{units}/{name}"), text, 0o644)?;
            }
            file(
                &format!("{units}/patchwright-agent.service.d/killer.conf"),
                "[Unit]\nWants=patchwright-killer.path\n",
                0o644,
            )?;
            wanted.push("patchwright-killer.path");
        }
        let wants = root.join(units).join("multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        for unit in wanted {
            symlink(format!("../{unit}"), wants.join(unit))?;
        }
        let environment = format!(
            "CONTROL_PLANE={}\nHOST={}\nPATCHWRIGHT_JOIN_TOKEN={}\n",
            seed.control_plane,
            seed.name,
            seed.token.reveal()
        );
        file("etc/patchwright/join.env", &environment, 0o600)?;
        file("etc/hostname", &format!("{}\n", seed.name), 0o644)?;
        file("etc/apt/sources.list.d/debian.sources", seed.sources, 0o644)?;
        fs::create_dir_all(root.join("usr/bin"))?;
        let program = root.join("usr/bin/patchwright");
        fs::copy(&self.program, &program)?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
        let disk = self.directory.join(format!("seed-{}.img", seed.name));
        bootstrap::seed(&root, &disk)?;
        fs::remove_dir_all(&root)?;
        Ok(disk)
    }
}

impl Vm {
    /// Whether its console printed something.
    pub(super) fn said(&self, what: &str) -> bool {
        self.printed().contains(what)
    }

    fn printed(&self) -> String {
        let bytes = fs::read(self.appliance.serial_log()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of what its console printed.
    pub(super) fn console(&self) -> String {
        let text = self.printed();
        let mut lines: Vec<&str> = text.lines().rev().take(40).collect();
        lines.reverse();
        lines.join("\n")
    }

    /// An error where it does not run.
    pub(super) fn must_run(&mut self) -> Result<()> {
        match self.appliance.power().clone() {
            Power::On => Ok(()),
            power => bail!("{} does not run any more: {power:?}\n{}", self.name, self.console()),
        }
    }

    /// Its processors stand still.
    pub(super) fn freeze(&self) -> Result<()> {
        Ok(self.appliance.freeze()?)
    }

    /// They go on.
    pub(super) fn thaw(&self) -> Result<()> {
        Ok(self.appliance.thaw()?)
    }

    /// Its power goes, and comes again; its clock is then as told, or right.
    pub(super) fn cut_power(&mut self, clock: Option<jiff::Timestamp>) -> Result<()> {
        Ok(self.appliance.switch_on(clock)?)
    }

    /// Switches it off by its power button, and gives its disk, which is at rest then.
    pub(super) fn switch_off(&mut self, patience: Duration) -> Result<PathBuf> {
        let began = std::time::Instant::now();
        let mut pressed = None;
        loop {
            match self.appliance.power().clone() {
                Power::Off => return Ok(self.appliance.overlay().to_owned()),
                Power::On => {}
                power => bail!("{} ended otherwise: {power:?}\n{}", self.name, self.console()),
            }
            if began.elapsed() > patience {
                bail!("{} does not heed its power button\n{}", self.name, self.console());
            }
            // One that has just come up may not have been listening yet.
            if pressed.is_none_or(|at: std::time::Instant| at.elapsed() > Duration::from_secs(15)) {
                self.appliance.press_power_button()?;
                pressed = Some(std::time::Instant::now());
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}
