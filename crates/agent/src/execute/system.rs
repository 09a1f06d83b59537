//! What runs: units that are restarted and how long they were down, and the system's own restart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use domain::change::is_restartable;
use domain::order::Downtime;
use probes::{Probe, ProbeResult};
use serde::{Deserialize, Serialize};

use super::command::{self, Output};

/// How long a unit may take to restart.
const RESTART_LIMIT: Duration = Duration::from_secs(300);
/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);

/// When units left the active state and came back into it, in microseconds of the machine's clock that
/// never jumps (`ActiveExitTimestampMonotonic`, `ActiveEnterTimestampMonotonic`); 0 is never.
pub type UnitTimes = BTreeMap<String, UnitTime>;

/// The times of one unit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitTime {
    /// When it went down last.
    pub down: u64,
    /// When it came up last.
    pub up: u64,
}

/// The running system.
pub trait System {
    /// A name for the time since the last start of the system.
    fn boot(&self) -> String;

    /// Restarts the system. It may return before that happens.
    ///
    /// # Errors
    /// If it does not restart.
    fn reboot(&self) -> Result<(), String>;

    /// Restarts a unit, and returns when it is up.
    ///
    /// # Errors
    /// If it does not come up.
    fn restart(&self, unit: &str) -> Result<(), String>;

    /// Units whose processes map files that were replaced or taken away, and that may be restarted.
    fn stale_units(&self) -> BTreeSet<String>;

    /// When services went up and down.
    fn times(&self) -> UnitTimes;

    /// Tries a probe of the owner's until it passes or its time is over.
    fn probe(&self, probe: &Probe) -> ProbeResult;
}

/// A host with systemd.
#[derive(Debug, Clone, Copy, Default)]
pub struct Systemd;

impl System for Systemd {
    fn boot(&self) -> String {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().to_owned()
    }

    fn reboot(&self) -> Result<(), String> {
        ended_well(&command::run(&["systemctl", "reboot"], &[], QUESTION_LIMIT)?)
    }

    fn restart(&self, unit: &str) -> Result<(), String> {
        if !is_restartable(unit) {
            return Err(format!("`{unit}` is no service that an order may restart"));
        }
        // Behind `--` no name is taken for an option; what does not run is not started.
        ended_well(&command::run(&["systemctl", "try-restart", "--", unit], &[], RESTART_LIMIT)?)
    }

    fn stale_units(&self) -> BTreeSet<String> {
        let look = || {
            let target = inspect::open(&PathBuf::from("/"), None).ok()?;
            target.inventory().ok()?.runtime
        };
        let stale = look().map(|runtime| runtime.stale_processes).unwrap_or_default();
        stale
            .into_iter()
            .filter_map(|process| process.unit)
            .filter(|it| is_restartable(it))
            .collect()
    }

    fn times(&self) -> UnitTimes {
        let asked = [
            "systemctl",
            "show",
            "--type=service",
            "--property=Id,ActiveExitTimestampMonotonic,ActiveEnterTimestampMonotonic",
            "*.service",
        ];
        let answer = command::run(&asked, &[], QUESTION_LIMIT);
        answer.map(|output| times_of(&output.text)).unwrap_or_default()
    }

    fn probe(&self, probe: &Probe) -> ProbeResult {
        probes::run(probe)
    }
}

/// A system that does not run, as an image's root: nothing is restarted.
#[derive(Debug, Clone, Copy, Default)]
pub struct AtRest;

impl System for AtRest {
    fn boot(&self) -> String {
        String::new()
    }

    fn reboot(&self) -> Result<(), String> {
        Err("this system does not run".to_owned())
    }

    fn restart(&self, unit: &str) -> Result<(), String> {
        Err(format!("`{unit}` does not run"))
    }

    fn stale_units(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn times(&self) -> UnitTimes {
        UnitTimes::new()
    }

    fn probe(&self, probe: &Probe) -> ProbeResult {
        let failure = Some("this system does not run".to_owned());
        ProbeResult { name: probe.name.clone(), failure, took_ms: 0 }
    }
}

/// How long which units were down between two looks.
pub(super) fn downtime(before: &UnitTimes, after: &UnitTimes) -> Vec<Downtime> {
    let went_down = |(unit, now): (&String, &UnitTime)| {
        let then = before.get(unit)?;
        let is_back = now.down != then.down && now.up >= now.down;
        is_back.then(|| Downtime {
            unit: unit.clone(),
            milliseconds: (now.up - now.down).div_ceil(1000),
        })
    };
    after.iter().filter_map(went_down).collect()
}

fn ended_well(output: &Output) -> Result<(), String> {
    if output.exit == Some(0) { Ok(()) } else { Err(output.text.trim().to_owned()) }
}

/// Blocks of `Name=value`, a unit each.
fn times_of(text: &str) -> UnitTimes {
    let unit = |block: &str| {
        let value = |name: &str| {
            let mut values = block.lines().filter_map(|line| line.split_once('='));
            values.find(|(key, _)| *key == name).map(|(_, value)| value)
        };
        let time = |name: &str| value(name).and_then(|text| text.parse().ok()).unwrap_or(0);
        let up = time("ActiveEnterTimestampMonotonic");
        Some((value("Id")?.to_owned(), UnitTime { down: time("ActiveExitTimestampMonotonic"), up }))
    };
    text.split("\n\n").filter_map(unit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_went_down_and_came_back_was_down_for_so_long() {
        let before = times_of(
            "Id=nginx.service\nActiveExitTimestampMonotonic=0\nActiveEnterTimestampMonotonic=500\n\n\
             Id=cron.service\nActiveExitTimestampMonotonic=0\nActiveEnterTimestampMonotonic=600\n",
        );
        let after = times_of(
            "Id=nginx.service\nActiveEnterTimestampMonotonic=912345\nActiveExitTimestampMonotonic=900000\n\n\
             Id=cron.service\nActiveExitTimestampMonotonic=0\nActiveEnterTimestampMonotonic=600\n\n\
             Id=new.service\nActiveExitTimestampMonotonic=1\nActiveEnterTimestampMonotonic=2\n",
        );

        let unit = "nginx.service".to_owned();
        assert_eq!(downtime(&before, &after), [Downtime { unit, milliseconds: 13 }]);
    }

    #[test]
    fn what_carries_sessions_or_the_agent_is_left_alone() {
        assert!(is_restartable("nginx.service"));
        for unit in
            ["dbus.service", "user@0.service", "session-3.scope", "patchwright-agent.service"]
        {
            assert!(!is_restartable(unit), "{unit}");
        }
    }
}
