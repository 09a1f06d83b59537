//! Plans and statements, for people.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use domain::change::{
    Access, Action, Decision, FileChange, FileState, Item, Plan, Rollback, Statement,
};

use super::{BOLD, DIM, GOOD, WARN};
use crate::text::{count, plain};

/// Items of a stage that are told one by one.
const TOLD: usize = 20;

pub(super) fn plan(plan: &Plan, out: &mut impl Write) -> Result<()> {
    let draft = plan.draft();
    let items: BTreeSet<_> = plan.items().map(|item| item.ci).collect();
    writeln!(out, "{BOLD}Plan{BOLD:#} for {}", draft.change)?;
    writeln!(out, "  hash        {}", plan.hash())?;
    writeln!(out, "  tenant      {}", draft.tenant)?;
    match draft.parent {
        Some(parent) => {
            writeln!(out, "  generation  {}, in the place of {parent}", draft.generation)?;
        }
        None => writeln!(out, "  generation  {}", draft.generation)?,
    }
    writeln!(out, "  touches     {}", count(items.len(), "item", "items"))?;
    writeln!(out, "  disturbs    {}", plan.disruption())?;
    for (place, stage) in draft.stages.iter().enumerate() {
        let (from, until) = (stage.window.from, stage.window.until);
        let many = count(stage.items.len(), "item", "items");
        writeln!(
            out,
            "\n{BOLD}Stage {}{BOLD:#}  {from} until {until}  {DIM}{many}{DIM:#}",
            place + 1
        )?;
        for item in stage.items.iter().take(TOLD) {
            show_item(item, out)?;
        }
        if let Some(more) = stage.items.len().checked_sub(TOLD).filter(|more| *more > 0) {
            writeln!(out, "  {DIM}and {}{DIM:#}", count(more, "more item", "more items"))?;
        }
    }
    Ok(())
}

fn show_item(item: &Item, out: &mut impl Write) -> Result<()> {
    writeln!(out, "  {}  {DIM}{} patches{DIM:#}", item.ci, item.duty)?;
    for action in &item.actions {
        match action {
            Action::Upgrade { packages } => {
                for package in packages {
                    let (name, architecture) = (plain(&package.name), plain(&package.architecture));
                    writeln!(
                        out,
                        "    install  {name}:{architecture} {}",
                        plain(&package.version)
                    )?;
                }
            }
            Action::AlterFile { path, change } => show_file(path, change, out)?,
            Action::RestartUnit { unit } => writeln!(out, "    restart  {}", plain(unit))?,
            Action::Reboot => writeln!(out, "    {WARN}reboot{WARN:#}")?,
            Action::Probe { probe } => writeln!(out, "    probe    {}", plain(probe))?,
        }
    }
    match &item.rollback {
        Rollback::Packages { .. } => {
            writeln!(out, "    {DIM}way back: the packages before{DIM:#}")?;
        }
        Rollback::Files => writeln!(out, "    {DIM}way back: the files as they were{DIM:#}")?,
        Rollback::Snapshot => {
            let lost = "what is written after it is lost then";
            writeln!(out, "    {DIM}way back: a snapshot of the machine's disks; {lost}{DIM:#}")?;
        }
        Rollback::Impossible { reason } => {
            writeln!(out, "    {WARN}no way back: {}{WARN:#}", plain(reason.as_str()))?;
        }
    }
    Ok(())
}

fn show_file(path: &str, change: &FileChange, out: &mut impl Write) -> Result<()> {
    let path = plain(path);
    match change {
        FileChange::Rewrite { after, .. } => {
            writeln!(out, "    write    {path}  SHA-256 {after}")?;
        }
        FileChange::Create { after: FileState { sha256, access } } => {
            writeln!(out, "    create   {path}  SHA-256 {sha256}, {}", whose(access))?;
        }
        FileChange::Remove { before: FileState { sha256, access } } => {
            let access = whose(access);
            writeln!(out, "    {WARN}remove{WARN:#}   {path}  SHA-256 {sha256}, {access}")?;
        }
        FileChange::Replace { before, after } => {
            let (was, is) = (whose(&before.access), whose(&after.access));
            if before.sha256 != after.sha256 {
                writeln!(out, "    write    {path}  SHA-256 {}", after.sha256)?;
            }
            writeln!(out, "    {WARN}access{WARN:#}   {path}  {was} → {is}")?;
        }
    }
    Ok(())
}

/// Names come from the plan: none of them writes over the screen.
fn whose(access: &Access) -> String {
    plain(&access.to_string())
}

pub(super) fn statement(statement: &Statement, out: &mut impl Write) -> Result<()> {
    writeln!(out, "  says        {}", decision(&statement.decision))?;
    writeln!(out, "  plan        {}", statement.plan)?;
    writeln!(out, "  change      {}", statement.change)?;
    writeln!(out, "  tenant      {}", statement.tenant)?;
    writeln!(out, "  given at    {}", statement.given_at)?;
    if let Decision::Defer { acceptance, .. } | Decision::Refuse { acceptance } =
        &statement.decision
    {
        writeln!(out, "  reason      {}", plain(acceptance.reason.as_str()))?;
        let owner = plain(acceptance.risk_owner.as_str());
        writeln!(out, "  risk owner  {owner}, until {}", acceptance.expiry)?;
    }
    Ok(())
}

fn decision(decision: &Decision) -> String {
    match decision {
        Decision::Approve => format!("{GOOD}approve{GOOD:#}"),
        Decision::Defer { until, .. } => format!("{WARN}defer{WARN:#} until {until}"),
        Decision::Refuse { .. } => format!("{WARN}refuse{WARN:#}"),
    }
}

#[cfg(test)]
mod tests {
    use domain::change::FileHash;
    use domain::cloud::{CiId, Duty};

    use super::*;

    #[test]
    fn a_file_is_agreed_to_by_its_hash() {
        let after = FileHash::from([7; 32]);
        let motd = |change| Action::AlterFile { path: "/etc/motd".to_owned(), change };
        let write = |before| motd(FileChange::content(before, after));
        let state = |mode: &str| FileState {
            sha256: after,
            access: Access { mode: mode.parse().unwrap(), ..Access::usual() },
        };
        let removed = motd(FileChange::Remove { before: state("0600") });
        let given = motd(FileChange::Replace { before: state("0600"), after: state("0640") });
        let item = Item {
            ci: CiId::of_content([1; 16]),
            duty: Duty::Provider,
            actions: vec![write(None), write(Some(FileHash::from([6; 32]))), removed, given],
            rollback: Rollback::Files,
        };
        let mut shown = Vec::new();
        show_item(&item, &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        let shown = anstream::adapter::strip_str(&shown).to_string();
        let lines: Vec<&str> = shown.lines().skip(1).collect();
        let expected = [
            format!("    create   /etc/motd  SHA-256 {after}, 0644 root:root"),
            format!("    write    /etc/motd  SHA-256 {after}"),
            format!("    remove   /etc/motd  SHA-256 {after}, 0600 root:root"),
            "    access   /etc/motd  0600 root:root → 0640 root:root".to_owned(),
            "    way back: the files as they were".to_owned(),
        ];
        assert_eq!(lines, expected);
    }
}
