//! Writes what a side is to be told of drifts: all of it in one notice.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use domain::cloud::{Name, NoticeId, PROVIDER, TenantId};
use domain::configuration::break_glass::Stage;
use notices::content::{
    DriftCounts, DriftDraft, DriftNotice, DriftStep, FileName, Happening, Line, MOST_DRIFTS,
    OpenBreakGlass, OpenDrift,
};
use store::{
    Actor, BreakGlassAlarm, DRIFT, DriftAlarm, DriftAlarms, DriftGrade, DriftState, StoreError,
    Written,
};

use super::Notices;
use super::writer::Unwritten;

impl Notices {
    /// Tells a side of its drifts.
    pub(super) async fn tell_drifts(&self, to: TenantId) -> Result<(), Unwritten> {
        let most = u16::try_from(MOST_DRIFTS).unwrap_or(u16::MAX);
        let Some(alarms) = self.store.drift_alarms(to, most).await? else { return Ok(()) };
        let written = match self.drift_notice(&alarms).await? {
            Some(notice) => Some(Written {
                id: notice.id(),
                kind: DRIFT.to_owned(),
                sequence: 0,
                document: notice.to_json()?,
                remind_at: None,
            }),
            None => None,
        };
        self.store.tell_drift_alarms(alarms, written).await?;
        Ok(())
    }

    /// The notice; `None` where nothing of it is open any more.
    async fn drift_notice(&self, alarms: &DriftAlarms) -> Result<Option<DriftNotice>, Unwritten> {
        let [opened, escalated] = alarms.drifts;
        let mut counts = DriftCounts { escalated, opened, items: alarms.items };
        let (mut drifts, mut owners) = (Vec::with_capacity(alarms.first.len()), BTreeMap::new());
        for alarm in &alarms.first {
            let Some(drift) = self.open_drift(alarms.to, alarm, &mut owners).await? else {
                let count = match alarm.grade {
                    DriftGrade::Opened => &mut counts.opened,
                    DriftGrade::Escalated => &mut counts.escalated,
                };
                *count = count.saturating_sub(1);
                continue;
            };
            drifts.push(drift);
        }
        let mut break_glass = Vec::with_capacity(alarms.break_glass.len());
        for alarm in &alarms.break_glass {
            break_glass.extend(self.open_break_glass(alarms.to, alarm, &mut owners).await?);
        }
        if drifts.is_empty() && break_glass.is_empty() {
            return Ok(None);
        }
        if counts.total() == u64::try_from(drifts.len()).unwrap_or(u64::MAX) {
            let items: BTreeSet<_> = drifts.iter().map(|drift| drift.ci).collect();
            counts.items = u64::try_from(items.len()).unwrap_or(u64::MAX);
        }
        let tenant = self.reader(alarms.to).await?;
        let (now, mut random) = (self.store.environment().now(), [0; 10]);
        self.store.environment().fill(&mut random);
        Ok(Some(DriftNotice::new(DriftDraft {
            id: NoticeId::new(now, random),
            tenant,
            published_at: now,
            counts,
            drifts,
            break_glass,
            contact: self.contact.clone(),
            link_base: self.base.clone(),
        })?))
    }

    /// A drift as it stands now; `None` where its side need not be told any more, or must not be.
    async fn open_drift(
        &self,
        to: TenantId,
        alarm: &DriftAlarm,
        owners: &mut BTreeMap<TenantId, Name>,
    ) -> Result<Option<OpenDrift>, Unwritten> {
        let drift = match self.history.drift(&Actor::System, alarm.drift).await {
            Ok(drift) => drift,
            // Erased, or its item left the cloud.
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if drift.state != DriftState::Open || ![drift.tenant, PROVIDER].contains(&to) {
            return Ok(None);
        }
        let of_name = self.owner(drift.tenant, owners).await?;
        let ci_name = drift.ci_name.parse().map_err(|_| Unwritten::Invisible("item's name"))?;
        let path: FileName = drift.path.as_str().parse()?;
        Ok(Some(OpenDrift {
            id: drift.id,
            ci: drift.ci,
            ci_name,
            of: drift.tenant,
            of_name,
            path,
            step: step(alarm.grade),
            what: match drift.what {
                store::Happening::Came => Happening::Came,
                store::Happening::Altered => Happening::Altered,
                store::Happening::Gone => Happening::Gone,
            },
            verdict: drift.judgement.verdict.standing(),
            confidence: drift.judgement.confidence,
            by: drift.by.as_deref().and_then(Line::fit),
            happened_at: drift.recorded_at,
            opened_at: drift.since,
            alterations: drift.count,
        }))
    }

    /// Break-glass as it stands now; `None` where its side need not be told any more, or must not be.
    async fn open_break_glass(
        &self,
        to: TenantId,
        alarm: &BreakGlassAlarm,
        owners: &mut BTreeMap<TenantId, Name>,
    ) -> Result<Option<OpenBreakGlass>, Unwritten> {
        let it = match self.history.break_glass(&Actor::System, alarm.id).await {
            Ok(it) => it,
            Err(StoreError::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let is_done = matches!(it.stage, Stage::Accepted | Stage::Rejected);
        if is_done || ![it.tenant, PROVIDER].contains(&to) {
            return Ok(None);
        }
        let opened_by = match it.opened_by.parse() {
            Ok(user) => self.store.user(&Actor::System, user).await?.name.to_string(),
            Err(_) => it.opened_by,
        };
        let line = |text: &str, what| Line::fit(text).ok_or(Unwritten::Invisible(what));
        let patterns = it.terms.files.into_iter().map(|it| String::from(it).parse::<FileName>());
        Ok(Some(OpenBreakGlass {
            id: it.id,
            on: line(
                it.cover_name.as_deref().unwrap_or("a group that is dissolved"),
                "item's name",
            )?,
            of: it.tenant,
            of_name: self.owner(it.tenant, owners).await?,
            step: step(alarm.grade),
            ticket: line(&it.terms.ticket, "ticket")?,
            reason: line(it.terms.reason.as_str(), "reason")?,
            opened_by: line(&opened_by, "person's name")?,
            opened_at: it.span.from,
            until: it.span.until,
            review_by: it.span.review_by,
            patterns: patterns.collect::<Result<_, _>>()?,
            altered: it.files,
        }))
    }

    /// What a tenant is called, asked once.
    async fn owner(
        &self,
        tenant: TenantId,
        owners: &mut BTreeMap<TenantId, Name>,
    ) -> Result<Name, Unwritten> {
        Ok(match owners.entry(tenant) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(unknown) => {
                unknown.insert(self.store.tenant(&Actor::System, tenant).await?.name).clone()
            }
        })
    }
}

const fn step(grade: DriftGrade) -> DriftStep {
    match grade {
        DriftGrade::Opened => DriftStep::Opened,
        DriftGrade::Escalated => DriftStep::Escalated,
    }
}
