//! A plan as people read it: what is done to which items, when, and the way back.

use domain::change::{Action, FileChange, Item, Plan, Rollback, Share, Stage};
use domain::cloud::{CiId, UserId};
use jiff::Timestamp;
use maud::{Markup, html};

use super::names::{self, Names};
use super::times::moment;

/// Items of a plan that are shown; the plan itself has all.
pub(super) const ITEMS: usize = 200;

/// Packages of an action that are shown.
const PACKAGES: usize = 20;

/// The plan in force. `people` names who wrote it and who agreed to it.
pub(super) fn section(
    share: &Share,
    items: &Names<CiId>,
    people: &Names<String>,
    now: Timestamp,
) -> Markup {
    let plan = share.plan();
    let (draft, hash) = (plan.draft(), plan.hash());
    let agreed: Vec<_> = share.approvals().iter().filter(|it| it.plan == hash).collect();
    html! {
        h2 id="plan" { "Plan" }
        p { "Consent binds to the hash of this plan: a plan that differs by one byte is another plan, and \
            needs another consent." }
        dl.facts {
            dt { "SHA-256" } dd { code { (hash) } br; a href={ "/api/v1/plans/" (hash) } { "its very bytes" } }
            dt { "Written by" } dd { (person(people, share.author()))
                @if draft.generation > 0 { span.quiet { " · revision " (draft.generation) " of it" } } }
            @if !agreed.is_empty() {
                dt { "Agreed to by" } dd { @for (place, it) in agreed.iter().enumerate() {
                    @if place > 0 { ", " } (person(people, it.by))
                } }
            }
            dt { "Disturbs" } dd { (disturbs(plan)) }
        }
        @for (place, stage) in draft.stages.iter().enumerate() {
            (window(place, stage, draft.stages.len(), now))
            (table(stage, items, shown_before(plan, place)))
        }
    }
}

/// One of the provider's people; tenants do not learn which.
fn person(people: &Names<String>, id: UserId) -> &str {
    people.get(&id.to_string()).map_or("somebody of the provider", String::as_str)
}

fn disturbs(plan: &Plan) -> &'static str {
    use domain::change::Disruption;
    match plan.disruption() {
        Disruption::Harmless => "nothing that runs",
        Disruption::Restarts => "services may restart",
        Disruption::Reboots => "systems restart",
    }
}

fn window(place: usize, stage: &Stage, stages: usize, now: Timestamp) -> Markup {
    let window = stage.window;
    let count = stage.items.len();
    html! {
        h3 {
            @if stages > 1 { "Stage " (place + 1) ": " }
            (moment(window.from)) " to " (moment(window.until))
        }
        p.quiet {
            (count) @if count == 1 { " item" } @else { " items" }
            @if window.has(now) { " · the window is open" } @else if window.until <= now { " · the window is over" }
        }
    }
}

/// How many items stand in the stages before one.
fn shown_before(plan: &Plan, place: usize) -> usize {
    plan.draft().stages.iter().take(place).map(|stage| stage.items.len()).sum()
}

fn table(stage: &Stage, names: &Names<CiId>, before: usize) -> Markup {
    let shown = ITEMS.saturating_sub(before).min(stage.items.len());
    html! {
        @if shown > 0 {
            div.wide { table.stack {
                thead { tr { th { "Item" } th { "Patched by" } th { "What is done" } th { "The way back" } } }
                tbody { @for item in stage.items.iter().take(shown) { (row(item, names)) } }
            } }
        }
        @if shown < stage.items.len() {
            p.quiet { (stage.items.len() - shown) " more: the plan's bytes name them all." }
        }
    }
}

fn row(item: &Item, names: &Names<CiId>) -> Markup {
    html! { tr {
        td.whole { a href={ "/cis/" (item.ci) } { (names::of(names, &item.ci)) } }
        td data-label="Patched by" { "the " (item.duty) }
        td data-label="What is done" { ol.plain { @for action in &item.actions { li { (done(action)) } } } }
        td data-label="The way back" { (back(&item.rollback)) }
    } }
}

fn done(action: &Action) -> Markup {
    html! { @match action {
        Action::Upgrade { packages } => { "installs " (named(packages)) }
        Action::AlterFile { path, change } => @match change {
            FileChange::Rewrite { after, .. } => { "alters " code { (path) } ", SHA-256 " code { (after) } },
            FileChange::Create { after } => {
                "writes " code { (path) } ", SHA-256 " code { (after.sha256) } ", " (after.access)
            },
            FileChange::Remove { before } => {
                strong { "takes away " } code { (path) } ", SHA-256 " code { (before.sha256) }
            },
            FileChange::Replace { before, after } => {
                "alters " code { (path) }
                @if before.sha256 != after.sha256 { ", SHA-256 " code { (after.sha256) } }
                ", from " (before.access) " to " strong { (after.access) }
            },
        }
        Action::RestartUnit { unit } => { "restarts " code { (unit) } }
        Action::Reboot => "restarts the system",
        Action::Probe { probe } => { "looks whether " code { (probe) } " works" }
    } }
}

fn named(packages: &[domain::change::ExactPackage]) -> Markup {
    html! {
        @for (place, package) in packages.iter().take(PACKAGES).enumerate() {
            @if place > 0 { ", " }
            span.mono { (package.name) " " (package.version) }
        }
        @if packages.len() > PACKAGES { " and " (packages.len() - PACKAGES) " more" }
    }
}

fn back(rollback: &Rollback) -> Markup {
    html! { @match rollback {
        Rollback::Packages { packages } => { "installs " (named(packages)) " again" }
        Rollback::Files => "files become what they were",
        Rollback::Snapshot => {
            "back to a snapshot of its disks; what was written after that is lost"
        }
        Rollback::Impossible { reason } => {
            span.outdated { "✗ none" } ": " (reason.as_str())
        }
    } }
}

#[cfg(test)]
mod tests {
    use domain::change::{Access, FileHash, FileState};

    use super::*;

    #[test]
    fn a_file_is_agreed_to_by_its_hash() {
        let (path, after) = ("/etc/<b>".to_owned(), FileHash::from([7; 32]));
        let shown = |change| done(&Action::AlterFile { path: path.clone(), change }).into_string();
        let written = shown(FileChange::content(None, after));
        assert!(
            written.contains(&format!("SHA-256 <code>{after}</code>, 0644 root:root")),
            "{written}"
        );
        assert!(written.starts_with("writes <code>/etc/&lt;b&gt;</code>"), "{written}");

        let state = |mode: &str| FileState {
            sha256: after,
            access: Access { mode: mode.parse().unwrap(), ..Access::usual() },
        };
        let removed = shown(FileChange::Remove { before: state("0600") });
        assert!(
            removed.contains("takes away") && removed.contains(&after.to_string()),
            "{removed}"
        );
        let given = shown(FileChange::Replace { before: state("0600"), after: state("0640") });
        let said = ", from 0600 root:root to <strong>0640 root:root</strong>";
        assert!(given.ends_with(said) && !given.contains("SHA-256"), "{given}");
    }
}
