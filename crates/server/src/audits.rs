//! What items are configured by, as it is held against baselines: asked for at once, and once a day of each item.
//!
//! One process at a time audits, by a lease. What it was at when it died is done again by the next one: an audit says
//! what is recorded, and alters nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use domain::cloud::{CiId, Duty, PROVIDER, TenantId};
use domain::configuration::audit::{Altered, AuditReport, Audited};
use domain::configuration::baseline::{
    Baseline, BaselineRef, Content, FilesSource, Golden, GoldenFile, GoldenSource, HeldFiles,
    JudgedBy, Measure, Observed, ObservedFile, ReleasedSource, Standard, Standards, Subject, hold,
};
use jiff::{SignedDuration, Timestamp};
use store::{
    Actor, AuditFacts, BaselineContent, Difference, FilePath, HeldTo, History, KeptBaseline,
    KeptTo, Manifest, NewAudit, Once, Past, State, Store, StoreError,
};

use crate::turn::Turn;

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

/// What audits items for somebody.
#[derive(Clone, Copy)]
pub(crate) struct Auditor<'a> {
    pub(crate) store: &'a Store,
    pub(crate) history: &'a History,
    pub(crate) by: &'a Actor,
}

impl Auditor<'_> {
    /// To what an item is held at a time. Who belongs to a group is asked as it is now.
    pub(crate) async fn standards(&self, id: CiId, at: Timestamp) -> Result<Standards, StoreError> {
        let HeldTo { ci, said, mut own, waivers } = self.store.held_to(self.by, id, at).await?;
        let mut standards = Standards::default();
        for baseline in Baseline::built_in().iter().filter(|it| it.is_for(ci.class)) {
            let said = said.get(&BaselineRef::BuiltIn(baseline.id.clone()));
            match hold(said.map_or(&[], Vec::as_slice), true) {
                Some(hold) => standards.held.push(Standard::built_in(hold, baseline)),
                None => standards.left_out.push(baseline.id.clone()),
            }
        }
        for (baseline, said) in &said {
            let BaselineRef::Own(id) = baseline else { continue };
            let Some((kept, version)) = own.remove(id) else { continue };
            let judged_by = |hold| JudgedBy {
                id: name_for(&kept, ci.tenant),
                version: version.version.clone(),
                own: Some(*id),
                hold,
            };
            match hold(said, false) {
                Some(hold) => {
                    let judged_by = judged_by(hold);
                    let measure = self.measure(version.content).await?;
                    let is_for = match &measure {
                        Measure::Rules(baseline) => baseline.is_for(ci.class),
                        Measure::Files(_) | Measure::Unusable(_) => true,
                    };
                    if is_for {
                        standards.held.push(Standard { judged_by, measure });
                    }
                }
                None if said.iter().any(|it| it.holds) => {
                    standards.left_out.push(name_for(&kept, ci.tenant));
                }
                None => {}
            }
        }
        let is_providers = ci.tenant == PROVIDER || ci.duty == Duty::Provider;
        Ok(standards.waived(waivers, is_providers))
    }

    /// To what an item was held when an audit was kept.
    pub(crate) async fn standards_of(&self, audit: &store::Audit) -> Result<Standards, StoreError> {
        let KeptTo { mut own, waivers } =
            self.store.kept_to(self.by, audit.ci, &audit.outcomes).await?;
        let left_out = audit.outcomes.left_out.clone();
        let mut standards = Standards { held: Vec::new(), left_out, waivers };
        for judged_by in &audit.outcomes.baselines {
            let version = judged_by.own.and_then(|id| own.remove(&id)).map(|(_, it)| it);
            let built_in = Baseline::built_in().iter().find(|it| it.id == judged_by.id);
            let measure = match (version, built_in) {
                (Some(version), _) => self.measure(version.content).await?,
                (None, Some(baseline)) if judged_by.own.is_none() => {
                    standards.held.push(Standard::built_in(judged_by.hold, baseline));
                    continue;
                }
                (None, _) => Measure::Unusable("there is no such baseline any more".to_owned()),
            };
            standards.held.push(Standard { judged_by: judged_by.clone(), measure });
        }
        Ok(standards)
    }

    /// What a version of a baseline says, with its files as the history has them now.
    async fn measure(&self, content: BaselineContent) -> Result<Measure, StoreError> {
        let held = match content {
            BaselineContent::Rules(text) => {
                // A version that this program does not understand any more passes nothing.
                let read = in_the_background(move || Baseline::parse(&text)).await?;
                return Ok(match read {
                    Ok(baseline) => Measure::Rules(Arc::new(baseline)),
                    Err(because) => Measure::Unusable(because.to_string()),
                });
            }
            BaselineContent::Golden(source) => {
                let files = self.files_of(&source).await?;
                HeldFiles { source: FilesSource::Item(source), files }
            }
            BaselineContent::Release(source) => {
                let files = Ok(self.released(&source).await?);
                HeldFiles { source: FilesSource::Release(source), files }
            }
        };
        Ok(Measure::Files(Box::new(held)))
    }

    async fn files_of(&self, source: &GoldenSource) -> Result<Result<Golden, String>, StoreError> {
        let found = observed(self.store, self.history, self.by, source.ci, source.at).await?;
        Ok(match found {
            Past::Kept((item, _)) => Ok(Golden::of(&item, source.paths.clone())),
            Past::Erased => Err("what the golden item held was erased".to_owned()),
            Past::Forgotten { kept_from } => {
                Err(format!("what the golden item held is kept from {kept_from} on"))
            }
        })
    }

    /// What a release wrote. Of owners and permissions its plan said nothing.
    async fn released(&self, source: &ReleasedSource) -> Result<Golden, StoreError> {
        let mut files = BTreeMap::new();
        for (path, file) in &source.files {
            let name = FilePath::new(path.as_str())?;
            let found = self.history.file_at(self.by, file.ci, &name, file.at).await?;
            let lost = |because: String| Content::Kept { because };
            let content = match found {
                Past::Kept(version) => match version.map(|it| (it.state, it.content)) {
                    Some((State::Present { metadata, .. }, Some(content))) => {
                        ObservedFile::new(metadata.mode, metadata.owner.as_str(), &content).content
                    }
                    _ => lost("what the release wrote is lost".to_owned()),
                },
                Past::Erased => lost("it was erased what the release wrote".to_owned()),
                Past::Forgotten { kept_from } => {
                    lost(format!("what the release wrote is kept from {kept_from} on"))
                }
            };
            files.insert(path.clone(), GoldenFile { mode: None, owner: None, content });
        }
        Ok(Golden { patterns: Vec::new(), files })
    }

    /// Audits an item as it was recorded at a time.
    pub(crate) async fn audit(
        &self,
        id: CiId,
        (since, at): (Timestamp, Timestamp),
        facts: AuditFacts,
        standards: Standards,
    ) -> Result<Past<AuditReport>, StoreError> {
        let Self { store, history, by } = *self;
        let (since, at) = (kept_exactly(since), kept_exactly(at));
        let (item, manifest) = match observed(store, history, by, id, at).await? {
            Past::Kept(found) => found,
            Past::Erased => return Ok(Past::Erased),
            Past::Forgotten { kept_from } => return Ok(Past::Forgotten { kept_from }),
        };
        let altered = match history.differences(by, id, since, at).await? {
            Past::Kept(differences) => Ok(altered(differences, &manifest)),
            Past::Erased => Err("a part of what altered was erased".to_owned()),
            Past::Forgotten { kept_from } => {
                Err(format!("what altered is kept from {kept_from} on"))
            }
        };
        let AuditFacts { seen_at, said } = facts;
        let recorded = manifest.digest();
        let drifts = store.drifts_open_at(by, id, at).await?;
        let audited = Audited { item, at, since, seen_at, said, recorded, altered, drifts };
        // Many rules over many files: not on a thread that answers requests.
        let report = in_the_background(move || AuditReport::of(&audited, &standards)).await?;
        Ok(Past::Kept(report))
    }

    /// Audits an item now, and keeps what that came to.
    ///
    /// Nothing of now is forgotten, but for a clock that went back: then there is nothing to keep.
    pub(crate) async fn run(
        &self,
        id: CiId,
        last: Option<Timestamp>,
        once: Option<Once>,
    ) -> Result<Option<store::Audit>, StoreError> {
        let at = self.store.environment().now();
        let since = last.unwrap_or(at - EVERY);
        let facts = self.store.audit_facts(self.by, id).await?;
        let standards = self.standards(id, at).await?;
        match self.audit(id, (since, at), facts, standards).await? {
            Past::Kept(report) => {
                let new = NewAudit { ci: id, facts, report };
                self.store.keep_audit(self.by, once, new).await.map(Some)
            }
            Past::Erased | Past::Forgotten { .. } => Ok(None),
        }
    }

    /// Tells a tenant that somebody of the provider reads what an item is configured by, and the items whose files it is
    /// held against.
    pub(crate) async fn tell_read(
        &self,
        id: CiId,
        standards: &Standards,
    ) -> Result<(), StoreError> {
        self.store.tell_files_read(self.by, id).await?;
        for ci in standards.items() {
            self.store.tell_files_read(self.by, ci).await?;
        }
        Ok(())
    }
}

/// What a baseline is called in reports about items of a tenant.
fn name_for(kept: &KeptBaseline, tenant: TenantId) -> String {
    if kept.tenant == tenant { kept.name.clone() } else { format!("provider/{}", kept.name) }
}

/// Does what takes long where it may.
async fn in_the_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    let ended = |error| StoreError::Corrupt { what: format!("a thread of an audit: {error}") };
    tokio::task::spawn_blocking(work).await.map_err(ended)
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
    turn: Turn,
}

impl Audits {
    /// One that does not run yet.
    pub fn new(store: Store, history: History) -> Self {
        let turn = Turn::new(&store, "audits", LEASE);
        Self { store, history, turn }
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
        self.turn.give_back().await;
    }

    /// Audits some of the items that are due.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(&self) -> Result<(), StoreError> {
        if !self.turn.is_ours().await? {
            return Ok(());
        }
        let by = Actor::System;
        let auditor = Auditor { store: &self.store, history: &self.history, by: &by };
        for (ci, last) in self.store.due_audits(EVERY, AT_ONCE).await? {
            // Where the clock went back nothing is kept; the next look will do.
            auditor.run(ci, last, None).await?;
        }
        Ok(())
    }
}
