//! What tenants are told: written once, kept, and delivered until they have it.
//!
//! ```text
//! tidings ─► writer ─► notice (kept, in the console at once)
//!                         └─► outbox: each channel ─► delivered
//!                               ▲        │
//!                               └─ Retry ┴─► given up (dead letter), or ended by its owner (410)
//! ```
//!
//! One process at a time does this, under a lease. What it delivers and cannot note any more is
//! delivered again under the same id.

mod clocks;
mod drifts;
pub(crate) mod impact;
mod outbox;
mod settings;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::cloud::{ChannelId, TenantId};
use jiff::{SignedDuration, Timestamp};
use notices::content::{ClockNotice, Contact, DriftNotice, InvalidNotice, LinkBase, Tenant};
use notices::delivery::{MailAddress, Reach, Retry, Smtp, WebhookSecret};
use notices::{Message, Notice, Templates};
use store::{Actor, CLOCKS, DRIFT, History, NoticeRow, Store, StoreError, Tidings, Vault};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::problem::{Kind, Problem};

use outbox::{of_address, of_secret};
use writer::{Said, Unwritten};

pub use settings::{NoticeSettings, NoticesError};

/// How long a process may write and deliver before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How long before its end a lease is taken anew.
const RENEW: SignedDuration = SignedDuration::from_secs(30);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Tidings written in one step.
const WRITTEN: u16 = 100;

/// Sides that are told of the same in one step.
const SIDES: u16 = 20;

/// How long what cannot be written, or noted, is left alone.
const POSTPONED: SignedDuration = SignedDuration::from_mins(5);

/// Tells tenants.
pub struct Notices {
    store: Store,
    history: History,
    vault: Vault,
    base: LinkBase,
    contact: Contact,
    language: String,
    templates: Templates,
    mail: Option<Smtp>,
    webhooks: Option<Reach>,
    retry: Retry,
    look: Duration,
    holder: String,
    wake: Notify,
    /// Until when the lease is ours.
    held_until: Mutex<Option<Timestamp>>,
    /// What is delivered to now, and whose that is: each channel is a queue.
    busy: Mutex<BTreeMap<ChannelId, TenantId>>,
    /// Whether it was looked for addresses that are to be sealed.
    is_sealed: AtomicBool,
}

impl Notices {
    /// Looks the settings over; `url` is the console's address. Drifts are read in the history.
    ///
    /// # Errors
    /// If no link can begin there.
    pub fn open(
        store: Store,
        history: History,
        vault: Vault,
        url: &str,
        settings: NoticeSettings,
    ) -> Result<Self, NoticesError> {
        let NoticeSettings { url: own, contact, language, templates, mail, webhooks, look } =
            settings;
        let base = own.map_or_else(|| url.parse(), Ok)?;
        let contact = match contact {
            Some(contact) => contact,
            None => Contact { name: "The provider".parse()?, at: base.to_string().parse()? },
        };
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        Ok(Self {
            store,
            history,
            vault,
            base,
            contact,
            language,
            templates,
            mail,
            webhooks,
            retry: Retry::default(),
            look,
            holder: format!("{:016x}", u64::from_be_bytes(random)),
            wake: Notify::new(),
            held_until: Mutex::default(),
            busy: Mutex::default(),
            is_sealed: AtomicBool::new(false),
        })
    }

    /// Looks for something to do at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Writes and delivers until `end` comes; then what is under way is brought to its end, and the
    /// lease is given back.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        self.tell_gaps().await;
        let mut end = std::pin::pin!(end);
        let mut tasks = JoinSet::new();
        loop {
            let pause = match self.advance(&mut tasks).await {
                Ok(true) => Duration::ZERO,
                Ok(false) => self.look,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "tenants are not told");
                    PAUSE
                }
            };
            tokio::select! {
                biased;
                () = &mut end => break,
                // Its place is free for what waits.
                Some(_) = tasks.join_next() => {}
                // Those who wake us are many, and one look is worth a tenth of the pause for all of them.
                () = async {
                    self.wake.notified().await;
                    tokio::time::sleep(self.look / 10).await;
                } => {}
                () = tokio::time::sleep(pause) => {}
            }
            while tasks.try_join_next().is_some() {}
        }
        while tasks.join_next().await.is_some() {}
        *locked(&self.held_until) = None;
        if let Err(error) = self.store.give_lease_back("notices", &self.holder).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "the lease runs out by itself");
        }
    }

    /// Says what of each language is read in another: now, not when somebody waits for a notice.
    async fn tell_gaps(&self) {
        for (language, pieces) in self.templates.gaps() {
            let pieces = pieces.join(", ");
            tracing::warn!(language, pieces, "templates are missing; others stand in for them");
        }
        match self.store.channel_languages().await {
            Ok(channels) => {
                for (channel, language) in channels {
                    if !self.templates.speaks(&language) {
                        tracing::warn!(
                            %channel, language,
                            "a channel's language has no templates; it is written to in English"
                        );
                    }
                }
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "it is not known in which languages channels are read");
            }
        }
    }

    /// One step to its end; says whether there may be more to do at once.
    ///
    /// # Errors
    /// If the store cannot be read or written.
    pub async fn step(self: &Arc<Self>) -> Result<bool, StoreError> {
        let mut tasks = JoinSet::new();
        let advanced = self.advance(&mut tasks).await;
        while tasks.join_next().await.is_some() {}
        advanced
    }

    /// Writes what is to be written and begins to deliver what is due.
    async fn advance(self: &Arc<Self>, tasks: &mut JoinSet<()>) -> Result<bool, StoreError> {
        if !self.hold().await? {
            return Ok(false);
        }
        if !self.is_sealed.load(Ordering::Relaxed) {
            self.seal_addresses().await?;
            self.is_sealed.store(true, Ordering::Relaxed);
        }
        let written = self.write_some().await? + self.tell_some().await?;
        let begun = self.deliver_some(tasks).await?;
        Ok(written + begun > 0)
    }

    /// Whether this process is the one.
    async fn hold(&self) -> Result<bool, StoreError> {
        let now = self.store.environment().now();
        let held = *locked(&self.held_until);
        if held.is_some_and(|until| now + RENEW < until) {
            return Ok(true);
        }
        let lease = self.store.take_lease("notices", &self.holder, LEASE).await?;
        *locked(&self.held_until) = lease.as_ref().map(|lease| lease.until);
        Ok(lease.is_some())
    }

    /// Writes tidings, each by itself: none stands in the way of another change or tenant. Of one
    /// change each tenant is told in order.
    async fn write_some(&self) -> Result<usize, StoreError> {
        let until = self.store.environment().now() + POSTPONED;
        let (mut written, mut postponed) = (0, BTreeSet::new());
        for tidings in self.store.tidings(WRITTEN).await? {
            let (change, tenant) = (tidings.change, tidings.tenant);
            if postponed.contains(&(change, tenant)) {
                continue;
            }
            match self.publish(&tidings).await {
                Ok(()) => written += 1,
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error, %change, %tenant,
                        "a notice cannot be written"
                    );
                    // Where the store takes nothing at all, this fails as well and is told.
                    self.store.postpone_tidings(tidings, until).await?;
                    postponed.insert((change, tenant));
                }
            }
        }
        Ok(written)
    }

    /// Tells the sides whose time has come of their clocks and of drifts; says how many were told.
    async fn tell_some(&self) -> Result<usize, StoreError> {
        let until = self.store.environment().now() + POSTPONED;
        let mut told = 0;
        for to in self.store.alarmed(SIDES).await? {
            match count_told(CLOCKS, to, self.tell_clocks(to).await) {
                Some(count) => told += count,
                None => self.store.postpone_alarms(to, until).await?,
            }
        }
        for to in self.store.drift_alarmed(SIDES).await? {
            match count_told(DRIFT, to, self.tell_drifts(to).await) {
                Some(count) => told += count,
                None => self.store.postpone_drift_alarms(to, until).await?,
            }
        }
        Ok(told)
    }

    /// Whom a notice of many things is for.
    async fn reader(&self, to: TenantId) -> Result<Tenant, StoreError> {
        let (by, store) = (Actor::System, &self.store);
        let reader = store.tenant(&by, to).await?;
        let zone = store.policy_in_force(&by, to).await?.calendar().zone.clone();
        Ok(Tenant { id: reader.id, name: reader.name, zone })
    }

    async fn publish(&self, tidings: &Tidings) -> Result<(), Unwritten> {
        let (store, tidings) = (&self.store, tidings.clone());
        match self.write(&tidings).await? {
            Said::Written(notice) => drop(store.publish_notice(tidings, notice).await?),
            Said::Later(at) => store.postpone_tidings(tidings, at).await?,
            Said::Nothing => store.drop_tidings(tidings).await?,
        }
        Ok(())
    }
}

/// What the API asks.
impl Notices {
    /// Whether mail may be promised to an address.
    pub(crate) fn check_mail(&self, address: &str) -> Result<(), Problem> {
        if self.mail.is_none() {
            return Err(Problem::new(Kind::Refused, "no mail server is set up")
                .help("whoever runs the control plane names one: docs/notices.md"));
        }
        match address.parse::<MailAddress>() {
            Ok(_) => Ok(()),
            Err(error) => Err(Problem::new(Kind::Invalid, error.to_string()).help(error.help())),
        }
    }

    /// Whether a webhook may be promised to an address.
    pub(crate) fn check_webhook(&self, address: &str) -> Result<(), Problem> {
        let Some(reach) = &self.webhooks else {
            return Err(Problem::new(Kind::Refused, "webhooks are not switched on")
                .help("whoever runs the control plane switches them on: docs/notices.md"));
        };
        match reach.check(address) {
            Ok(_) => Ok(()),
            Err(error) => Err(Problem::new(Kind::Invalid, error.to_string()).help(error.help())),
        }
    }

    /// Whether somebody can be written to in a language.
    pub(crate) fn check_language(&self, language: Option<&str>) -> Result<(), Problem> {
        match language {
            Some(language) if !self.templates.speaks(language) => {
                let known: Vec<&str> = self.templates.languages().collect();
                let what = format!("there are no notices in `{}`", excerpt(language));
                Err(Problem::new(Kind::Invalid, what)
                    .help(format!("choose of {}, or ask the provider for it", known.join(", "))))
            }
            _ => Ok(()),
        }
    }

    /// A new secret of a channel: as its owner is shown it, and sealed.
    pub(crate) fn new_secret(&self, channel: ChannelId) -> Result<(String, Vec<u8>), Problem> {
        let mut random = [0; 32];
        self.store.environment().fill(&mut random);
        let secret = WebhookSecret::of(random).reveal();
        let sealed = self.sealed(&of_secret(channel), &secret).ok_or_else(unsealed)?;
        Ok((secret.as_str().to_owned(), sealed))
    }

    /// The address of a webhook, sealed: it may be a secret in itself.
    pub(crate) fn sealed_address(
        &self,
        channel: ChannelId,
        address: &str,
    ) -> Result<Vec<u8>, Problem> {
        self.sealed(&of_address(channel), address).ok_or_else(unsealed)
    }

    /// Where links lead.
    pub(crate) const fn base(&self) -> &LinkBase {
        &self.base
    }

    /// A kept notice in words, as the console shows it.
    ///
    /// # Errors
    /// Why it cannot be read.
    pub(crate) fn message(&self, row: &NoticeRow) -> Result<Message, String> {
        let (templates, language) = self.templates();
        let words = match Letter::of(row).map_err(|error| error.to_string())? {
            Letter::Notice(notice) => templates.message(language, &notice),
            Letter::Clocks(notice) => templates.clocks(language, &notice),
            Letter::Drift(notice) => templates.drift(language, &notice),
        };
        words.map_err(|error| error.to_string())
    }

    /// What mails and feeds are made with, and in which language.
    pub(crate) fn templates(&self) -> (&Templates, &str) {
        (&self.templates, &self.language)
    }
}

/// How many sides were told; `None` where what they are to be told is to be left alone for a while.
fn count_told(kind: &str, to: TenantId, told: Result<(), Unwritten>) -> Option<usize> {
    match told {
        Ok(()) => Some(1),
        // Another alarm came in beside: they are told together the next time.
        Err(Unwritten::Store(StoreError::Busy)) => Some(0),
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error, kind, tenant = %to,
                "a notice cannot be written"
            );
            None
        }
    }
}

/// A kept notice, read.
pub(crate) enum Letter {
    /// Of a change.
    Notice(Notice),
    /// Of as many clocks as there are.
    Clocks(ClockNotice),
    /// Of as many drifts as there are.
    Drift(DriftNotice),
}

impl Letter {
    /// What stands in a row.
    pub(crate) fn of(row: &NoticeRow) -> Result<Self, InvalidNotice> {
        match &*row.kind {
            CLOCKS => ClockNotice::parse(&row.document).map(Self::Clocks),
            DRIFT => DriftNotice::parse(&row.document).map(Self::Drift),
            _ => Notice::parse(&row.document).map(Self::Notice),
        }
    }
}

/// The beginning of what somebody gave as a language, of which no tag is longer.
fn excerpt(language: &str) -> String {
    language.chars().take(35).collect()
}

fn unsealed() -> Problem {
    Problem::new(Kind::Internal, "a secret could not be sealed")
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
