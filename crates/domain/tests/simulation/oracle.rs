//! Judges a run by its record alone, with its own words for the rules.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Entry, Fact, Hash, KeyNo, Mode, Who, Word};

/// Seconds by which the clock of whoever signs may be off.
const SLACK: i64 = 300;
const WEEK: i64 = 7 * 86_400;
/// 1970-01-05 was a Monday.
const MONDAY: i64 = 4 * 86_400;

#[derive(Debug, Clone, Copy)]
struct PlanFact {
    hash: Hash,
    author: u8,
    from: i64,
    until: i64,
    items: usize,
    disruption: u8,
}

#[derive(Debug, Clone, Copy)]
struct Said {
    key: KeyNo,
    plan: Hash,
    word: Word,
    given_at: i64,
}

#[derive(Debug, Clone, Copy)]
struct Rule {
    key: KeyNo,
    urgencies: u8,
    disruption: u8,
    begins: i64,
    length: i64,
    is_in: bool,
    is_ended: bool,
}

/// What the record says of a tenant so far.
#[derive(Debug, Default)]
struct Tenant {
    mode: Option<Mode>,
    lead: i64,
    answer: i64,
    due: i64,
    above: usize,
    urgency: u8,
    plan: Option<PlanFact>,
    mailed: BTreeMap<Hash, i64>,
    told: Option<i64>,
    /// Since when the terms are others than the tenant was told of.
    terms_since: Option<i64>,
    signed: BTreeMap<u64, Said>,
    /// Taken, in the order of arrival.
    words: Vec<Said>,
    rules: BTreeMap<u64, Rule>,
    keys: BTreeSet<KeyNo>,
    /// When.
    revoked: BTreeMap<KeyNo, i64>,
    agreed: BTreeSet<(Hash, u8)>,
    moved: Option<(u64, &'static str)>,
    started: BTreeSet<Hash>,
    /// What was asked for when the last start was ordered.
    terms_of_start: Option<(Mode, i64)>,
    ran: BTreeSet<Hash>,
    /// Since the last notice the provider fell short.
    is_short: bool,
    is_withdrawn: bool,
    is_judged: bool,
    breach: Option<bool>,
    owed: Option<bool>,
}

/// What is wrong with a run.
pub(crate) fn judge(record: &[Entry]) -> Result<(), String> {
    let mut tenants: BTreeMap<Who, Tenant> = BTreeMap::new();
    let mut change: (u64, &'static str) = (0, "found");
    for (place, Entry { at, fact }) in record.iter().enumerate() {
        // Who holds the ball at a date is decided by all that happened until then.
        for tenant in tenants.values_mut() {
            if *at >= tenant.due && !tenant.is_judged {
                tenant.is_judged = true;
                tenant.owed = tenant.ball(tenant.due - 1);
            }
        }
        see(&mut tenants, &mut change, *at, fact)
            .map_err(|wrong| format!("entry {place} at {at} s: {wrong}: {fact:?}"))?;
    }
    Ok(())
}

fn of(tenants: &mut BTreeMap<Who, Tenant>, who: Who) -> &mut Tenant {
    tenants.entry(who).or_default()
}

#[allow(clippy::too_many_lines)] // One arm for each fact; taken apart it would be harder to trust.
fn see(
    tenants: &mut BTreeMap<Who, Tenant>,
    change: &mut (u64, &'static str),
    at: i64,
    fact: &Fact,
) -> Result<(), String> {
    match *fact {
        Fact::Contract { who, mode, lead, answer, due, above, urgency } => {
            let tenant = of(tenants, who);
            tenant.mode = Some(mode);
            (tenant.lead, tenant.answer, tenant.due) = (lead, answer, due);
            (tenant.above, tenant.urgency) = (above, urgency);
        }
        Fact::Reassessed { who, mode, lead, answer, urgency } => {
            let tenant = of(tenants, who);
            let is_yes = tenant.last_word().is_some_and(|said| said.word == Word::Yes);
            let plan = tenant.plan.map(|plan| plan.hash);
            let is_started = plan.is_some_and(|plan| tenant.started.contains(&plan));
            let is_news = urgency != tenant.urgency
                || Some(mode) != tenant.mode
                || lead < tenant.lead
                || answer < tenant.answer;
            // Nobody was told of these terms.
            let is_unknown = tenant.told.is_none() || is_news;
            if is_unknown && !is_yes && !is_started {
                tenant.told = None;
                tenant.terms_since = Some(at);
                plan.map(|plan| tenant.mailed.remove(&plan));
            }
            (tenant.mode, tenant.urgency) = (Some(mode), urgency);
            (tenant.lead, tenant.answer) = (lead, answer);
        }
        Fact::Planned { who, plan, author, from, until, items, disruption } => {
            if change.1 != "proven" {
                return Err(format!("planned while the change is {}", change.1));
            }
            let tenant = of(tenants, who);
            tenant.plan = Some(PlanFact { hash: plan, author, from, until, items, disruption });
            tenant.told = None;
            tenant.is_short = false;
        }
        Fact::Mailed { who, plan, written } => {
            let tenant = of(tenants, who);
            // One that was written under other terms speaks of these.
            if tenant.terms_since.is_none_or(|since| since <= written) {
                tenant.mailed.entry(plan).or_insert(at);
            }
        }
        Fact::Told { who, plan } => {
            let tenant = of(tenants, who);
            if !tenant.mailed.contains_key(&plan) {
                return Err("told without a mail".to_owned());
            }
            tenant.told = Some(at);
        }
        Fact::Signed { who, key, plan, word, given_at, nonce } => {
            of(tenants, who).signed.insert(nonce, Said { key, plan, word, given_at });
        }
        Fact::Arrived { who, nonce, taken } => return of(tenants, who).arrive(nonce, taken, at),
        Fact::RuleSigned { who, key, urgencies, disruption, begins, length, nonce } => {
            let (is_in, is_ended) = (false, false);
            let rule = Rule { key, urgencies, disruption, begins, length, is_in, is_ended };
            of(tenants, who).rules.insert(nonce, rule);
        }
        Fact::RuleArrived { who, nonce, taken } => {
            let tenant = of(tenants, who);
            let key = tenant.rules.get(&nonce).map(|rule| rule.key);
            let is_good = key.is_some_and(|key| tenant.keys.contains(&key));
            if taken && !is_good {
                return Err("a rule was taken without a key in force".to_owned());
            }
            if let Some(rule) = tenant.rules.get_mut(&nonce) {
                rule.is_in |= taken;
            }
        }
        Fact::RuleEnded { who, nonce } => {
            if let Some(rule) = of(tenants, who).rules.get_mut(&nonce) {
                rule.is_ended = true;
            }
        }
        Fact::KeyIn { who, key } => {
            of(tenants, who).keys.insert(key);
        }
        Fact::KeyOut { who, key, revoked } => {
            let tenant = of(tenants, who);
            tenant.keys.remove(&key);
            if revoked {
                tenant.revoked.entry(key).or_insert(at);
            }
        }
        Fact::Countersigned { who, plan, by } => {
            of(tenants, who).agreed.insert((plan, by));
        }
        Fact::Moved { who, version, from, to } => {
            return of(tenants, who).move_on(version, from, to);
        }
        Fact::ChangeMoved { version, from, to } => {
            if (version, from) != (change.0 + 1, change.1) {
                return Err(format!("after version {} ({})", change.0, change.1));
            }
            *change = (version, to);
        }
        Fact::Started { who, plan } => {
            if change.1 != "proven" {
                return Err(format!("started while the change is {}", change.1));
            }
            return of(tenants, who).start(plan, at);
        }
        Fact::Ran { who, plan } => {
            let tenant = of(tenants, who);
            if !tenant.started.contains(&plan) || !tenant.ran.insert(plan) {
                return Err("ran without an order, or twice".to_owned());
            }
            let within = tenant.plan.is_some_and(|it| it.from <= at && at < it.until);
            if !within {
                return Err("ran outside its window".to_owned());
            }
            let (mode, lead) = tenant.terms_of_start.unwrap_or((Mode::Required, i64::MAX / 2));
            let lead = tenant.mailed.get(&plan).map(|mailed| mailed + lead);
            if mode != Mode::Nothing && lead.is_none_or(|over| at < over) {
                return Err(format!("ran before its lead time was over at {lead:?}"));
            }
        }
        Fact::Breached { who, due, by_tenant } => {
            let tenant = of(tenants, who);
            if tenant.breach.replace(by_tenant).is_some() {
                return Err("a breach was told twice".to_owned());
            }
            if tenant.due != due || tenant.owed != Some(by_tenant) {
                return Err(format!("due at {}, the tenant's: {:?}", tenant.due, tenant.owed));
            }
        }
        Fact::Ended { who, phase } => {
            let tenant = of(tenants, who);
            let last = tenant.moved.map(|moved| moved.1);
            if last.is_some_and(|last| last != phase) {
                return Err(format!("the record ends with {last:?}"));
            }
            if tenant.owed.is_some() && tenant.breach.is_none() {
                return Err(format!("a breach was not told: the tenant's: {:?}", tenant.owed));
            }
        }
        Fact::Refused { .. } | Fact::Restarted | Fact::Jumped { .. } => {}
    }
    Ok(())
}

impl Tenant {
    fn arrive(&mut self, nonce: u64, taken: bool, at: i64) -> Result<(), String> {
        let Some(said) = self.signed.get(&nonce).copied() else {
            // Nobody of this tenant signed it.
            return if taken { Err("a forgery was taken".to_owned()) } else { Ok(()) };
        };
        let current = self.plan.map(|plan| plan.hash);
        let is_known = self.words.iter().any(|word| {
            (word.given_at, word.plan, word.key) == (said.given_at, said.plan, said.key)
                && word.word == said.word
        });
        let is_latest = self.words.iter().all(|word| said.given_at > word.given_at);
        let is_good = self.keys.contains(&said.key)
            && current == Some(said.plan)
            && self.told.is_some_and(|told| said.given_at >= told - SLACK)
            && said.given_at <= at + SLACK;
        if taken {
            if !is_good {
                return Err("a statement was taken that does not count".to_owned());
            }
            if is_known {
                return Err("a statement was taken twice".to_owned());
            }
            if self.is_withdrawn || current.is_some_and(|plan| self.started.contains(&plan)) {
                return Err("a statement was taken too late".to_owned());
            }
            self.words.push(said);
        } else if let Word::No { until } = said.word
            && is_good
            && is_latest
            && until > at
            && self.awaits_an_answer()
        {
            return Err("a good refusal was not taken".to_owned());
        }
        Ok(())
    }

    fn awaits_an_answer(&self) -> bool {
        matches!(
            self.moved.map(|moved| moved.1),
            Some("notified" | "approved" | "deferred" | "refused" | "lapsed" | "scheduled")
        )
    }

    fn move_on(
        &mut self,
        version: u64,
        from: &'static str,
        to: &'static str,
    ) -> Result<(), String> {
        let expected = self.moved.map_or((0, "none"), |(version, to)| (version + 1, to));
        if (version, from) != expected {
            return Err(format!("expected version and phase {expected:?}"));
        }
        self.moved = Some((version, to));
        match to {
            "withdrawn" => {
                self.is_withdrawn = true;
                if self.plan.is_some_and(|plan| self.started.contains(&plan.hash)) {
                    return Err("withdrawn after it started".to_owned());
                }
            }
            "non_compliant" => self.is_short = true,
            // Nothing is to be waited for any more, and the tenant is told again.
            "planned" if matches!(from, "deferred" | "refused") => self.told = None,
            _ => {}
        }
        Ok(())
    }

    fn start(&mut self, plan: Hash, at: i64) -> Result<(), String> {
        let Some(current) = self.plan else { return Err("started without a plan".to_owned()) };
        if current.hash != plan {
            return Err(format!("started on another plan than {:x}", current.hash));
        }
        if self.is_withdrawn || !self.started.insert(plan) {
            return Err("started although withdrawn, or twice".to_owned());
        }
        if at < current.from || current.until <= at {
            return Err("started outside its window".to_owned());
        }
        if self.mode != Some(Mode::Nothing) {
            let told = self.told.ok_or("started without a notice")?;
            if at < told + self.lead {
                return Err(format!("started before its lead time after {told}"));
            }
        }
        if current.items > self.above {
            let agreed =
                self.agreed.iter().filter(|(hash, by)| *hash == plan && *by != current.author);
            if agreed.count() < 2 {
                return Err("started without a second person".to_owned());
            }
        }
        self.terms_of_start = self.mode.map(|mode| (mode, self.lead));
        if self.is_held(at) {
            return Err("started against the tenant's word".to_owned());
        }
        if self.is_agreed(at) { Ok(()) } else { Err("started without consent".to_owned()) }
    }

    /// The last word that counts: a yes only with a good key and for the plan in force.
    fn last_word(&self) -> Option<Said> {
        let plan = self.plan.map(|plan| plan.hash);
        let counts = self.words.iter().filter(|said| {
            said.word != Word::Yes
                || (Some(said.plan) == plan && !self.revoked.contains_key(&said.key))
        });
        counts.copied().max_by_key(|said| said.given_at)
    }

    fn is_held(&self, at: i64) -> bool {
        match self.last_word().map(|said| said.word) {
            Some(Word::Later { until } | Word::No { until }) => at < until,
            Some(Word::Yes) | None => false,
        }
    }

    fn is_agreed(&self, at: i64) -> bool {
        match self.mode {
            Some(Mode::Nothing | Mode::Notice) => return true,
            None => return false,
            Some(Mode::Required | Mode::RequiredOrSilence) => {}
        }
        let is_yes = self.last_word().is_some_and(|said| said.word == Word::Yes);
        let silent = self.mode == Some(Mode::RequiredOrSilence)
            && self.told.is_some_and(|told| told + self.answer <= at);
        is_yes || silent || self.rules.values().any(|rule| self.covers(rule))
    }

    fn covers(&self, rule: &Rule) -> bool {
        let Some(plan) = self.plan else { return false };
        let into = (plan.from - MONDAY - rule.begins).rem_euclid(WEEK);
        rule.is_in
            && !rule.is_ended
            && !self.revoked.contains_key(&rule.key)
            && rule.urgencies & (1 << self.urgency) != 0
            && plan.disruption <= rule.disruption
            && into + (plan.until - plan.from) <= rule.length
    }

    /// Whether the ball is the tenant's at an instant; `None` where there is nothing to do.
    fn ball(&self, at: i64) -> Option<bool> {
        let (_, phase) = self.moved?;
        if self.is_withdrawn || matches!(phase, "verified" | "closed") {
            return None;
        }
        let plan = self.plan?;
        if self.started.contains(&plan.hash) || self.is_short || phase == "reopened" {
            return Some(false);
        }
        if self.told.is_none() {
            // A plan in the place of one that was held is the provider's to tell of; where nothing is
            // told by the contract, a no of before simply holds on.
            return Some(self.mode == Some(Mode::Nothing) && self.is_held(at));
        }
        Some(self.is_held(at) || !self.is_agreed(at) && !self.is_over(at))
    }

    /// A deferral or refusal that is over since the notice: the provider is to ask again.
    fn is_over(&self, at: i64) -> bool {
        let plan = self.plan.map(|plan| plan.hash);
        let held_until = self.words.iter().filter_map(|it| match it.word {
            Word::Later { until } | Word::No { until } => Some((it.given_at, until)),
            Word::Yes => None,
        });
        let held_until = held_until.max().map_or(i64::MIN, |(_, until)| until);
        // A yes to this plan ends the waiting, also where its key was revoked since: the tenant was
        // asked and is to say it again. Only where a later or no still held when the key was, that
        // is what holds again. A yes to another plan ends nothing.
        let words = self.words.iter().filter(|it| {
            let stands = self.revoked.get(&it.key).is_none_or(|revoked| held_until <= *revoked);
            it.word != Word::Yes || Some(it.plan) == plan && stands
        });
        words.max_by_key(|said| said.given_at).is_some_and(|said| match said.word {
            Word::Later { until } | Word::No { until } => {
                until <= at && self.told.is_some_and(|told| told < until)
            }
            Word::Yes => false,
        })
    }
}
