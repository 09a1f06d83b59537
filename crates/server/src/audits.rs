//! What items are configured by, as it is held against baselines: asked for at once, and once a day of each item.
//!
//! One process at a time audits, by a lease. What it was at when it died is done again by the next one: an audit says
//! what is recorded, and alters nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::cloud::CiId;
use domain::configuration::audit::{Altered, AuditReport, Audited};
use domain::configuration::baseline::{Baseline, Observed, ObservedFile, Subject};
use jiff::{SignedDuration, Timestamp};
use store::{
    Actor, AuditFacts, Difference, FilePath, History, Manifest, NewAudit, Past, State, Store,
    StoreError,
};

/// How long a process may audit before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(5);

/// How often is looked for items that are due; so few of them each time that they spread over the day.
const LOOK: Duration = Duration::from_secs(60);

/// Items audited in one go.
const AT_ONCE: u16 = 20;

/// How often each item is audited.
pub(crate) const EVERY: SignedDuration = SignedDuration::from_hours(24);

/// How long a first look at an item takes to be told.
const FIRST: SignedDuration = SignedDuration::from_mins(10);

/// An item with its files at a time.
pub(crate) async fn observed(
    store: &Store,
    history: &History,
    by: &Actor,
    id: CiId,
    at: Timestamp,
) -> Result<Past<(Arc<Observed>, Manifest)>, StoreError> {
    let ci = store.ci(by, id).await?;
    let manifest = match history.contents(by, id, at).await? {
        Past::Kept(manifest) => manifest,
        Past::Erased => return Ok(Past::Erased),
        Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
    };
    let labels = ci.labels.iter().map(|(key, value)| (key.to_string(), value.clone())).collect();
    let there = manifest.files.iter().map(|(path, version)| {
        let file = match (&version.state, &version.content) {
            (State::Present { metadata, .. }, Some(content)) => {
                ObservedFile::new(metadata.mode, metadata.owner.as_str(), content)
            }
            _ => ObservedFile::erased(),
        };
        (path.to_string(), file)
    });
    let erased = manifest.erased.iter().map(|path| (path.to_string(), ObservedFile::erased()));
    let item = Observed::new(Subject { class: ci.class, labels }, there.chain(erased));
    Ok(Past::Kept((Arc::new(item), manifest)))
}

/// Audits an item as it was recorded at a time.
pub(crate) async fn audit(
    store: &Store,
    history: &History,
    by: &Actor,
    id: CiId,
    (since, at): (Timestamp, Timestamp),
    facts: AuditFacts,
) -> Result<Past<AuditReport>, StoreError> {
    let (since, at) = (kept_exactly(since), kept_exactly(at));
    let (item, manifest) = match observed(store, history, by, id, at).await? {
        Past::Kept(found) => found,
        Past::Erased => return Ok(Past::Erased),
        Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
    };
    let altered = match history.differences(by, id, since, at).await? {
        Past::Kept(differences) => Ok(altered(differences, &manifest)),
        Past::Erased => Err("a part of what altered was erased".to_owned()),
        Past::Forgotten { kept_from } => Err(format!("what altered is kept from {kept_from} on")),
    };
    let AuditFacts { seen_at, said } = facts;
    let recorded = manifest.digest();
    let drifts = store.drifts_open_at(by, id, at).await?;
    let audited = Audited { item, at, since, seen_at, said, recorded, altered, drifts };
    // Many rules over many files: not on a thread that answers requests.
    let work = move || AuditReport::of(&audited, Baseline::built_in());
    let ended = |error| StoreError::Corrupt { what: format!("a thread of an audit: {error}") };
    let report = tokio::task::spawn_blocking(work).await.map_err(ended)?;
    Ok(Past::Kept(report))
}

/// The time as the store keeps it, so that the same report can be made again.
fn kept_exactly(time: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(time.as_microsecond()).unwrap_or(time)
}

fn altered(differences: BTreeMap<FilePath, Difference>, manifest: &Manifest) -> Vec<Altered> {
    let is_new = differences.values().all(|it| it.before.is_none())
        && manifest.files.keys().all(|path| differences.contains_key(path));
    let recorded = |it: &Difference| it.after.as_ref().map(|it| it.recorded_at);
    let first = differences.values().filter_map(recorded).min();
    let after = differences.into_iter().filter_map(|(path, it)| Some((path, it.after?)));
    let one = |(path, after): (FilePath, store::FileVersion)| Altered {
        path: path.to_string(),
        recorded_at: after.recorded_at,
        observed_at: after.observed_at,
        source: after.source,
        by: after.by.map(|by| by.actor),
        change: after.change.map(|change| change.to_string()),
        is_first: is_new && first.is_some_and(|first| after.recorded_at <= first + FIRST),
    };
    after.map(one).collect()
}

/// What audits the items of a store.
pub struct Audits {
    store: Store,
    history: History,
    holder: String,
}

impl Audits {
    /// One that does not run yet.
    pub fn new(store: Store, history: History) -> Self {
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        let holder = format!("{:016x}", u64::from_be_bytes(random));
        Self { store, history, holder }
    }

    /// Runs until `end` comes.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        loop {
            if let Err(error) = self.step().await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "items are not audited yet");
            }
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        if let Err(error) = self.store.give_lease_back("audits", &self.holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the lease runs out by itself");
        }
    }

    /// Audits some of the items that are due.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<(), StoreError> {
        if self.store.take_lease("audits", &self.holder, LEASE).await?.is_none() {
            return Ok(());
        }
        let by = Actor::System;
        for (ci, last) in self.store.due_audits(EVERY, AT_ONCE).await? {
            let at = self.store.environment().now();
            let since = last.unwrap_or(at - EVERY);
            let facts = self.store.audit_facts(&by, ci).await?;
            let report =
                match audit(&self.store, &self.history, &by, ci, (since, at), facts).await? {
                    Past::Kept(report) => report,
                    // Nothing of now is forgotten: the clock went back. The next look will do.
                    Past::Erased | Past::Forgotten { .. } => continue,
                };
            self.store.keep_audit(&by, NewAudit { ci, facts, report }).await?;
        }
        Ok(())
    }
}
