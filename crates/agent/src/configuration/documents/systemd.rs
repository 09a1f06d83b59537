//! What systemd is to start, and what runs of it.

use super::Page;
use super::host::{Host, Question};
use super::page::sorted;

/// Started for somebody who asks, and ended soon after.
const ON_DEMAND: &[&str] = &[
    "fprintd.service",
    "fwupd.service",
    "packagekit.service",
    "systemd-hostnamed.service",
    "systemd-localed.service",
    "systemd-timedated.service",
    "udisks2.service",
];

/// Units of sessions, of people and of single runs.
const PASSING: &[&str] =
    &["session-", "user@", "user-runtime-dir@", "run-", "systemd-coredump@", "sshd@", "ssh@"];

/// Which unit files there are, and whether they are enabled.
pub(super) fn units(host: &dyn Host) -> Page {
    let argv =
        ["systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain", "--full", "--all"];
    let text = host.ask(&Question::new(&argv))?.told("systemctl")?;
    let fact = |line: &str| {
        let mut fields = line.split_whitespace();
        let (unit, state) = (fields.next()?, fields.next()?);
        // Made by generators at each start, for what is mounted by hand, by the running system itself.
        let is_own = !matches!(state, "transient" | "generated")
            && !PASSING.iter().any(|it| unit.starts_with(it) && !unit.contains("@."));
        is_own.then(|| format!("{unit} {state}"))
    };
    Ok(sorted(text.lines().filter_map(fact)))
}

/// Services, sockets, timers and paths that are active, and whatever failed.
pub(super) fn services(host: &dyn Host) -> Page {
    let argv = [
        "systemctl",
        "list-units",
        "--no-legend",
        "--no-pager",
        "--plain",
        "--full",
        "--all",
        "--type=service,socket,timer,path,target",
    ];
    let text = host.ask(&Question::new(&argv))?.told("systemctl")?;
    let fact = |line: &str| {
        let mut fields = line.split_whitespace();
        let (unit, _, active, sub) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        let is_passing = PASSING.iter().any(|it| unit.starts_with(it)) || ON_DEMAND.contains(&unit);
        // A timer that runs its service is as active as one that waits.
        let kind = unit.rsplit('.').next();
        let sub = if matches!(kind, Some("timer" | "path")) { "waiting" } else { sub };
        match active {
            _ if is_passing => None,
            "failed" => Some(format!("{unit} failed")),
            "active" | "reloading" => Some(format!("{unit} active ({sub})")),
            _ => None,
        }
    };
    Ok(sorted(text.lines().filter_map(fact)))
}

#[cfg(test)]
mod tests;
