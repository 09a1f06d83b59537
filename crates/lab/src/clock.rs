//! How long a job's stages take.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::observer::{Observer, Stage};

/// How long each stage takes.
#[derive(Debug)]
pub(crate) struct StageClock {
    observer: Arc<dyn Observer>,
    began: Instant,
    current: (Stage, Instant),
    stages: BTreeMap<Stage, u64>,
}

impl StageClock {
    pub(crate) fn start(observer: Arc<dyn Observer>) -> Self {
        let began = Instant::now();
        observer.stage(Stage::Prepare, Duration::ZERO);
        Self { observer, began, current: (Stage::Prepare, began), stages: BTreeMap::new() }
    }

    pub(crate) fn enter(&mut self, stage: Stage) {
        let (ended, since) = self.current;
        *self.stages.entry(ended).or_default() += milliseconds(since.elapsed());
        self.current = (stage, Instant::now());
        self.observer.stage(stage, self.began.elapsed());
    }

    pub(crate) fn stop(mut self) -> (BTreeMap<Stage, u64>, u64) {
        let (ended, since) = self.current;
        *self.stages.entry(ended).or_default() += milliseconds(since.elapsed());
        (self.stages, milliseconds(self.began.elapsed()))
    }
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
