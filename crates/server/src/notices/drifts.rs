//! Writes what a side is to be told of drifts: all of it in one notice.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use domain::cloud::{Name, NoticeId, PROVIDER, TenantId};
use notices::content::{
    DriftCounts, DriftDraft, DriftNotice, DriftStep, FileName, Happening, Line, MOST_DRIFTS,
    OpenDrift,
};
use store::{Actor, DRIFT, DriftAlarm, DriftAlarms, DriftGrade, DriftState, StoreError, Written};

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
        if drifts.is_empty() {
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
        let of_name = match owners.entry(drift.tenant) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                unknown.insert(self.store.tenant(&Actor::System, drift.tenant).await?.name)
            }
        };
        let ci_name = drift.ci_name.parse().map_err(|_| Unwritten::Invisible("item's name"))?;
        let path: FileName = drift.path.as_str().parse()?;
        Ok(Some(OpenDrift {
            id: drift.id,
            ci: drift.ci,
            ci_name,
            of: drift.tenant,
            of_name: of_name.clone(),
            path,
            step: match alarm.grade {
                DriftGrade::Opened => DriftStep::Opened,
                DriftGrade::Escalated => DriftStep::Escalated,
            },
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
}
