//! What checks say of an obligation: whether its patches are in, everywhere, as far as somebody else
//! than those who installed them can tell (R25).

use std::collections::{BTreeMap, BTreeSet};

use domain::agent::Facts;
use domain::change::{Action, Kind, Sight};
use domain::cloud::CiId;
use domain::fleet::{FindingState, has_patch};
use domain::obligation::{Event, Obligation};
use domain::sla::Moment;
use domain::verification::{Untold, Verdict};
use jiff::Timestamp;
use sqlx::any::AnyRow;

use super::load::{self, Loaded};
use crate::error::StoreError;
use crate::fleet::{findings, systems};
use crate::releases;
use crate::value::{get, parsed, time_or_none};
use crate::writer::Tx;

/// What checks say that the obligation does not know yet.
pub(super) async fn news(tx: &mut Tx<'_>, loaded: &Loaded) -> Result<Option<Event>, StoreError> {
    let obligation = &loaded.obligation;
    let phase = obligation.phase();
    if matches!(phase, "withdrawn" | "rolling_out") {
        return Ok(None);
    }
    let is_done = matches!(phase, "verified" | "closed");
    let seen = match loaded.change.kind {
        Kind::Patch => seen(tx, obligation, is_done).await?,
        Kind::Alteration => Seen::Told(altered(tx, obligation).await?),
    };
    Ok(match seen {
        Seen::Told(Sight::Clean) if !is_done => Some(Sight::Clean),
        Seen::Told(Sight::Missing) if is_done || phase == "verifying" => Some(Sight::Missing),
        // Nobody is left who could lack it.
        Seen::Nobody
            if !is_done && !matches!(phase, "verifying" | "non_compliant" | "reopened") =>
        {
            return Ok(Some(Event::Withdraw));
        }
        Seen::Told(_) | Seen::Nobody => None,
    }
    .map(|sight| Event::Scanned { taken_at: tx.now, sight }))
}

/// What was seen, as far as it can be told.
pub(super) async fn sight(tx: &mut Tx<'_>, loaded: &Loaded) -> Result<Sight, StoreError> {
    if loaded.change.kind == Kind::Alteration {
        return altered(tx, &loaded.obligation).await;
    }
    Ok(match seen(tx, &loaded.obligation, false).await? {
        Seen::Told(sight) => sight,
        Seen::Nobody => Sight::Unknown,
    })
}

/// What looks at the items of an alteration's plan came to, after each was ordered: whether the files are as they were
/// to be. What was done by hand, nobody looked at.
async fn altered(tx: &mut Tx<'_>, obligation: &Obligation) -> Result<Sight, StoreError> {
    let Some(share) = obligation.share() else { return Ok(Sight::Unknown) };
    let items: BTreeSet<CiId> = share.plan().items().map(|item| item.ci).collect();
    let mut is_clean = true;
    for ci in items {
        let row = sqlx::query(
            "SELECT nonce, is_back, outcome FROM orders WHERE plan_hash = $1 AND ci_id = $2
             ORDER BY created_at DESC, attempt DESC LIMIT 1",
        )
        .bind(share.plan().hash().to_string())
        .bind(ci.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
        let verdict = match row {
            // It was taken back.
            Some(row)
                if get::<i64>(&row, "is_back")? != 0
                    && get::<Option<String>>(&row, "outcome")?.as_deref() == Some("done") =>
            {
                return Ok(Sight::Missing);
            }
            Some(row) => releases::last_verdict(tx, &get::<String>(&row, "nonce")?).await?,
            None => None,
        };
        match verdict {
            Some(Verdict::Conflict { .. }) => return Ok(Sight::Missing),
            // Not looked at again in time is no sign that it is another one.
            Some(Verdict::Verified { .. } | Verdict::Undecided { because: Untold::Silent }) => {}
            Some(Verdict::Undecided { .. }) | None => is_clean = false,
        }
    }
    Ok(if is_clean { Sight::Clean } else { Sight::Unknown })
}

/// When all items that the plan restarts had done so, each after what it has installed was altered, and
/// none with anything left that awaits a restart. An item without an agent's word leaves it open, and
/// one that left the cloud does not.
pub(super) async fn restarted(
    tx: &mut Tx<'_>,
    obligation: &Obligation,
) -> Result<Option<Timestamp>, StoreError> {
    let is_done = matches!(obligation.phase(), "verifying" | "verified" | "closed");
    let share = obligation.share().filter(|_| is_done);
    let Some(share) = share.filter(|_| obligation.instants().at(Moment::Rebooted).is_none()) else {
        return Ok(None);
    };
    // Nothing of the plan was done before both.
    let opened = share.plan().draft().stages[0].window.from;
    let since = obligation.instants().at(Moment::Scheduled).map_or(opened, |at| at.max(opened));
    let mut last = None;
    for item in share.plan().items().filter(|item| item.actions.contains(&Action::Reboot)) {
        let row = sqlx::query(
            "SELECT cis.retired_at AS retired_at, restarted_at, facts,
                    (SELECT MIN(recorded_at) FROM observations
                     WHERE observations.ci_id = cis.id AND recorded_at >= $1) AS altered_at
             FROM cis LEFT JOIN ci_facts ON ci_facts.ci_id = cis.id WHERE cis.id = $2",
        )
        .bind(since.as_microsecond())
        .bind(item.ci.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
        let Some(row) = row else { return Ok(None) };
        if time_or_none(&row, "retired_at")?.is_some() {
            continue;
        }
        let installs = item.actions.iter().any(|it| matches!(it, Action::Upgrade { .. }));
        let altered = time_or_none(&row, "altered_at")?.or((!installs).then_some(since));
        let (Some(altered), Some(restarted)) = (altered, time_or_none(&row, "restarted_at")?)
        else {
            return Ok(None);
        };
        let facts: Facts = load::json(&row, "facts")?;
        if restarted < altered || facts.awaits_restart() {
            return Ok(None);
        }
        last = last.max(Some(restarted));
    }
    Ok(last)
}

enum Seen {
    Told(Sight),
    /// All items that lacked a patch left the cloud or are excluded, or the sources took the patch
    /// back.
    Nobody,
}

/// What one finding says of one patch.
enum Says {
    /// This patch or a later one is in.
    Installed,
    Missing,
    /// It lacks a later patch, and what it has cannot be compared with this one.
    Unknown,
    /// The item is gone, or the patch is, or the SLA excludes it.
    Nothing,
}

/// Only what was seen counts: that no finding speaks of a patch shows nothing. Of what is done, it is
/// asked whether this very patch is missing again, whoever was heard of when; a later one has a clock
/// of its own.
async fn seen(tx: &mut Tx<'_>, obligation: &Obligation, is_done: bool) -> Result<Seen, StoreError> {
    let stale = if is_done { BTreeSet::new() } else { stale(tx, obligation).await? };
    let rows = sqlx::query(
        "SELECT ci_id, findings.patch_id AS found, state, installed, family, excluded_until,
                change_patches.patch_id AS wanted, change_patches.candidate AS candidate
         FROM change_patches JOIN findings
             ON findings.source = change_patches.source
             AND findings.release = change_patches.release
         WHERE change_id = $1 AND tenant_id = $2",
    )
    .bind(obligation.change().to_string())
    .bind(obligation.tenant().to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    let mut installed: BTreeMap<CiId, bool> = BTreeMap::new();
    let mut is_unknown = false;
    for row in &rows {
        let ci: CiId = parsed(row, "ci_id")?;
        let is_excluded = time_or_none(row, "excluded_until")?.is_some_and(|until| tx.now < until);
        match if is_excluded { Says::Nothing } else { says(row, is_done)? } {
            // What it lacked before the installation says nothing of what it lacks after it.
            Says::Missing if stale.contains(&ci) => is_unknown = true,
            Says::Missing => return Ok(Seen::Told(Sight::Missing)),
            Says::Installed => drop(installed.insert(ci, true)),
            Says::Unknown => is_unknown = true,
            Says::Nothing => drop(installed.entry(ci).or_insert(false)),
        }
    }
    let share = obligation.share().filter(|_| !is_done);
    let planned: BTreeSet<CiId> =
        share.into_iter().flat_map(|share| share.plan().items()).map(|item| item.ci).collect();
    for ci in planned.iter().filter(|ci| !stale.contains(ci)) {
        // What it never lacked, no finding speaks of.
        if !installed.contains_key(ci) && has_all(tx, obligation, *ci).await? {
            installed.insert(*ci, true);
        }
    }
    // An obligation without patches is about nothing that a scan can tell.
    if is_unknown || !stale.is_empty() || installed.is_empty() {
        return Ok(Seen::Told(Sight::Unknown));
    }
    if installed.values().all(|is_in| !is_in) {
        return Ok(Seen::Nobody);
    }
    let all_told = planned.iter().all(|ci| installed.contains_key(ci));
    Ok(Seen::Told(if all_told { Sight::Clean } else { Sight::Unknown }))
}

/// Whether an item has all of the obligation's patches that are for its release, by what it last
/// reported. An item of another release is none that can be told.
async fn has_all(tx: &mut Tx<'_>, obligation: &Obligation, ci: CiId) -> Result<bool, StoreError> {
    let rows = sqlx::query(
        "SELECT change_patches.source AS source, candidate, systems.digest AS digest
         FROM systems JOIN package_sets ON package_sets.tenant_id = systems.tenant_id
                 AND package_sets.digest = systems.digest
             JOIN change_patches ON change_patches.release = package_sets.release
         WHERE systems.ci_id = $1 AND systems.tenant_id = $2 AND change_id = $3",
    )
    .bind(ci.to_string())
    .bind(obligation.tenant().to_string())
    .bind(obligation.change().to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    let Some(first) = rows.first() else { return Ok(false) };
    let (tenant, digest) = (obligation.tenant(), parsed(first, "digest")?);
    let set = systems::set(&mut *tx.connection, None, tenant, digest).await?;
    let Some(set) = set else { return Ok(false) };
    for row in &rows {
        let (source, candidate): (String, String) = (get(row, "source")?, get(row, "candidate")?);
        if !has_patch(set.inventory(), &source, &candidate) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn says(row: &AnyRow, is_done: bool) -> Result<Says, StoreError> {
    let text = |column| get::<String>(row, column);
    Ok(match parsed(row, "state")? {
        FindingState::Fixed => Says::Installed,
        FindingState::Withdrawn | FindingState::Retired => Says::Nothing,
        FindingState::Open if text("found")? == text("wanted")? => Says::Missing,
        // A later patch of the package took this one's place.
        FindingState::Open if is_done => Says::Nothing,
        FindingState::Open => match findings::family(row)? {
            Some(family) => {
                let kind = family.version_kind();
                let is_in = kind.compare(&text("installed")?, &text("candidate")?).is_ge();
                if is_in { Says::Installed } else { Says::Missing }
            }
            None => Says::Unknown,
        },
    })
}

/// Items of the plan that were not heard of since it was carried out, or whose check is not carried
/// over yet. What left the cloud is none of them.
async fn stale(tx: &mut Tx<'_>, obligation: &Obligation) -> Result<BTreeSet<CiId>, StoreError> {
    let Some(since) = obligation.instants().at(Moment::Installed) else {
        return Ok(BTreeSet::new());
    };
    let Some(share) = obligation.share() else { return Ok(BTreeSet::new()) };
    let planned: BTreeSet<CiId> = share.plan().items().map(|item| item.ci).collect();
    let rows = sqlx::query(
        "SELECT cis.id AS id FROM cis LEFT JOIN systems ON systems.ci_id = cis.id
         WHERE cis.tenant_id = $1 AND cis.retired_at IS NULL
             AND (systems.ci_id IS NULL OR systems.pending <> 0 OR systems.seen_at < $2)",
    )
    .bind(obligation.tenant().to_string())
    .bind(since.as_microsecond())
    .fetch_all(&mut *tx.connection)
    .await?;
    let unheard = rows.iter().map(|row| parsed(row, "id")).collect::<Result<BTreeSet<_>, _>>()?;
    Ok(planned.intersection(&unheard).copied().collect())
}
