//! Plans and statements, for people.

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::Result;
use domain::change::{Action, Decision, Item, Plan, Rollback, Statement};

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
            Action::WriteFile { path, before, after } => {
                let verb = if before.is_none() { "create" } else { "write" };
                writeln!(out, "    {verb:<8} {}  SHA-256 {after}", plain(path))?;
            }
            Action::RestartUnit { unit } => writeln!(out, "    restart  {}", plain(unit))?,
            Action::Reboot => writeln!(out, "    {WARN}reboot{WARN:#}")?,
            Action::Probe { probe } => writeln!(out, "    probe    {}", plain(probe))?,
        }
    }
    match &item.rollback {
        Rollback::Packages { .. } => {
            writeln!(out, "    {DIM}way back: the packages before{DIM:#}")?;
        }
        Rollback::Files => writeln!(out, "    {DIM}way back: the files' content before{DIM:#}")?,
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
        let write = |before| Action::WriteFile { path: "/etc/motd".to_owned(), before, after };
        let item = Item {
            ci: CiId::of_content([1; 16]),
            duty: Duty::Provider,
            actions: vec![write(None), write(Some(FileHash::from([6; 32])))],
            rollback: Rollback::Files,
        };
        let mut shown = Vec::new();
        show_item(&item, &mut shown).unwrap();
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains(&format!("    create   /etc/motd  SHA-256 {after}\n")), "{shown}");
        assert!(shown.contains(&format!("    write    /etc/motd  SHA-256 {after}\n")), "{shown}");
    }
}
