//! The rules once more, in a few lines and plain numbers.

use domain::change::{Basis, Effect, Permit, Plan, Share};
use domain::sla::{Approval, Silence};

use crate::cast::{Said, Story, Word, at, key, nonce};

const SLACK: i64 = 300;
const BEFORE_START: [&str; 7] =
    ["planned", "notified", "approved", "deferred", "refused", "lapsed", "scheduled"];

/// How the tenant's rule stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    None,
    Given,
    Ended,
}

/// What happened so far, as the one who watches sees it.
#[derive(Debug, Clone)]
pub(crate) struct Oracle {
    story: Story,
    /// Which of the two plans is in force.
    pub(crate) plan: usize,
    /// When the tenant was told of it.
    pub(crate) told: Option<i64>,
    pub(crate) words: Vec<Said>,
    pub(crate) first_key_revoked: bool,
    pub(crate) rule: Rule,
    pub(crate) change_withdrawn: bool,
    pub(crate) started: bool,
    phase: &'static str,
    version: u64,
}

impl Oracle {
    pub(crate) fn new(story: Story) -> Self {
        Self {
            story,
            plan: 0,
            told: None,
            words: Vec::new(),
            first_key_revoked: false,
            rule: Rule::None,
            change_withdrawn: false,
            started: false,
            phase: "planned",
            version: 0,
        }
    }

    pub(crate) fn is_before_start(&self) -> bool {
        BEFORE_START.contains(&self.phase)
    }

    pub(crate) fn is_withdrawn(&self) -> bool {
        self.phase == "withdrawn"
    }

    pub(crate) fn can_replan(&self) -> bool {
        !self.change_withdrawn && (self.is_before_start() || self.phase == "non_compliant")
    }

    pub(crate) fn can_notify(&self) -> bool {
        self.phase == "planned"
    }

    /// Whether a statement is to be taken.
    pub(crate) fn hears(&self, said: Said, now: i64) -> bool {
        let later =
            |known: &Said| (said.given, caution(said.word)) > (known.given, caution(known.word));
        let is_to_come = match said.word {
            Word::Yes => true,
            Word::Later => self.story.deferred_until > now,
            Word::No => self.story.refused_until > now,
        };
        self.is_good(said.key)
            && said.plan == self.plan
            && self.told.is_some_and(|told| said.given >= told - SLACK)
            && self.phase != "planned"
            && self.is_before_start()
            && self.words.iter().all(|known| known.nonce != said.nonce && later(known))
            && is_to_come
    }

    pub(crate) fn is_good(&self, key: u8) -> bool {
        key != 1 || !self.first_key_revoked
    }

    /// The last word that counts.
    fn last_word(&self) -> Option<Said> {
        let counts = self.words.iter().filter(|said| {
            said.word != Word::Yes || said.plan == self.plan && self.is_good(said.key)
        });
        counts.copied().max_by_key(|said| (said.given, caution(said.word)))
    }

    fn is_held(&self, now: i64) -> bool {
        self.last_word().is_some_and(|said| match said.word {
            Word::Yes => false,
            Word::Later => now < self.story.deferred_until,
            Word::No => now < self.story.refused_until,
        })
    }

    fn rule_counts(&self) -> bool {
        self.rule == Rule::Given && self.is_good(1)
    }

    fn is_silence_over(&self, now: i64) -> bool {
        self.story.approval == Approval::Required { silence: Silence::Approves }
            && self.told.is_some_and(|told| told + self.story.answer <= now)
    }

    fn is_agreed(&self, now: i64) -> bool {
        self.story.approval == Approval::Notice
            || self.last_word().is_some_and(|said| said.word == Word::Yes)
            || self.rule_counts()
            || self.is_silence_over(now)
    }

    /// Whether everything is there to start.
    fn may_start(&self, now: i64) -> bool {
        !self.change_withdrawn
            && self.is_before_start()
            && self.told.is_some_and(|told| told + self.story.lead <= now)
            && self.story.window.0 <= now
            && now < self.story.window.1
            && !self.is_held(now)
            && self.is_agreed(now)
    }

    /// Looks at what followed from an event that was taken.
    pub(crate) fn see(
        &mut self,
        share: &Share,
        plans: &[Plan; 2],
        effects: &[Effect],
        now: i64,
    ) -> Result<(), String> {
        let records = effects.iter().filter(|it| matches!(it, Effect::Record { .. })).count();
        if records != 1 {
            return Err(format!("{records} records of one event: {effects:?}"));
        }
        for effect in effects {
            match effect {
                Effect::Record { version, from, to, .. } => {
                    if (*version, *from) != (self.version + 1, self.phase) {
                        return Err(format!("after version {} {}", self.version, self.phase));
                    }
                    if self.started && *to == "withdrawn" {
                        return Err("withdrawn after it started".to_owned());
                    }
                    (self.version, self.phase) = (*version, to);
                    if *to == "planned" {
                        self.told = None;
                    }
                }
                Effect::Start(permit) => self.start(permit, plans, now)?,
                Effect::Breach { .. } => return Err("a breach long before the date".to_owned()),
                _ => {}
            }
        }
        if (share.version(), share.phase().as_str()) != (self.version, self.phase) {
            return Err("the share is not what was recorded".to_owned());
        }
        Ok(())
    }

    fn start(&mut self, permit: &Permit, plans: &[Plan; 2], now: i64) -> Result<(), String> {
        // The record stands before the start, so that the phase is the next one already.
        let before = Self { phase: "scheduled", ..self.clone() };
        if self.started || !before.may_start(now) {
            return Err("it started, and may not".to_owned());
        }
        if permit.plan() != plans[self.plan].hash() || permit.granted_at() != at(now) {
            return Err("the permit is for something else".to_owned());
        }
        let rests = match permit.basis() {
            Basis::Consent { key: by, nonce: with } => self.last_word().is_some_and(|said| {
                said.word == Word::Yes && by == key(said.key) && with == nonce(said.nonce)
            }),
            Basis::Standing { .. } => self.rule_counts(),
            Basis::Silence { .. } => self.is_silence_over(now),
            Basis::Notice => self.story.approval == Approval::Notice,
            Basis::NotNeeded => false,
        };
        if !rests {
            return Err(format!("it rests on what is not there: {:?}", permit.basis()));
        }
        self.started = true;
        Ok(())
    }

    /// Time has done what it does.
    pub(crate) fn is_at_rest(&self, now: i64) -> Result<(), String> {
        if self.change_withdrawn && self.is_before_start() {
            return Err("the change was withdrawn, the share was not".to_owned());
        }
        if self.may_start(now) {
            return Err("everything is there to start, and it does not".to_owned());
        }
        if self.is_before_start() && self.told.is_some() && self.is_held(now) {
            let expected = matches!(self.phase, "deferred" | "refused");
            if !expected {
                return Err("the tenant's word holds it, and the share says otherwise".to_owned());
            }
        }
        Ok(())
    }
}

/// Of two words of one instant the one that does less counts.
fn caution(word: Word) -> u8 {
    match word {
        Word::Yes => 0,
        Word::Later => 1,
        Word::No => 2,
    }
}
