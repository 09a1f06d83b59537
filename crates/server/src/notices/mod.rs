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

mod impact;
mod outbox;
mod settings;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::cloud::{ChangeId, ChannelId, TenantId};
use jiff::{SignedDuration, Timestamp};
use notices::Templates;
use notices::content::{Contact, LinkBase};
use notices::delivery::{MailAddress, Reach, Retry, Smtp, WebhookSecret};
use store::{Store, StoreError, Vault};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::problem::{Kind, Problem};

pub use settings::{NoticeSettings, NoticesError};

/// How long a process may write and deliver before another takes over.
const LEASE: SignedDuration = SignedDuration::from_mins(1);

/// How long before its end a lease is taken anew.
const RENEW: SignedDuration = SignedDuration::from_secs(30);

/// How often is looked for something to do.
const LOOK: Duration = Duration::from_secs(1);

/// Wait after a failure, which may go away.
const PAUSE: Duration = Duration::from_secs(10);

/// Tidings written in one step.
const WRITTEN: u16 = 100;

/// How long tidings that cannot be written are left alone.
const POSTPONED: SignedDuration = SignedDuration::from_mins(5);

/// Tells tenants.
pub struct Notices {
    store: Store,
    vault: Vault,
    base: LinkBase,
    contact: Contact,
    language: String,
    templates: Templates,
    mail: Option<Smtp>,
    webhooks: Option<Reach>,
    retry: Retry,
    holder: String,
    wake: Notify,
    /// Until when the lease is ours.
    held_until: Mutex<Option<Timestamp>>,
    /// What is delivered to now: each channel is a queue.
    busy: Mutex<BTreeSet<ChannelId>>,
    /// Whom nothing can be written about a change, and until when nobody tries.
    postponed: Mutex<BTreeMap<(ChangeId, TenantId), Timestamp>>,
}

impl Notices {
    /// Looks the settings over; `url` is the console's address.
    ///
    /// # Errors
    /// If no link can begin there.
    pub fn open(
        store: Store,
        vault: Vault,
        url: &str,
        settings: NoticeSettings,
    ) -> Result<Self, NoticesError> {
        let NoticeSettings { url: own, contact, language, templates, mail, webhooks } = settings;
        let base = own.map_or_else(|| url.parse(), Ok)?;
        let contact = match contact {
            Some(contact) => contact,
            None => Contact { name: "The provider".parse()?, at: base.to_string().parse()? },
        };
        let mut random = [0; 8];
        store.environment().fill(&mut random);
        Ok(Self {
            store,
            vault,
            base,
            contact,
            language,
            templates,
            mail,
            webhooks,
            retry: Retry::default(),
            holder: format!("{:016x}", u64::from_be_bytes(random)),
            wake: Notify::new(),
            held_until: Mutex::default(),
            busy: Mutex::default(),
            postponed: Mutex::default(),
        })
    }

    /// Looks for something to do at once.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Writes and delivers until `end` comes; then what is under way is brought to its end, and the
    /// lease is given back.
    pub async fn run(self: Arc<Self>, end: impl Future<Output = ()>) {
        let mut end = std::pin::pin!(end);
        let mut tasks = JoinSet::new();
        loop {
            let pause = match self.advance(&mut tasks).await {
                Ok(_) => LOOK,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "tenants are not told");
                    PAUSE
                }
            };
            // Those who wake us are many, and a look is a second's worth for all of them.
            tokio::select! {
                () = &mut end => break,
                () = tokio::time::sleep(pause) => {}
                () = async {
                    self.wake.notified().await;
                    tokio::time::sleep(pause / 10).await;
                } => {}
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
        let written = self.write_some().await?;
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
        let now = self.store.environment().now();
        locked(&self.postponed).retain(|_, until| *until > now);
        let mut written = 0;
        for tidings in self.store.tidings(WRITTEN).await? {
            let about = (tidings.change, tidings.tenant);
            if locked(&self.postponed).contains_key(&about) {
                continue;
            }
            match self.write(&tidings).await {
                Ok(notice) => {
                    self.store.publish_notice(tidings, notice).await?;
                    written += 1;
                }
                Err(error) => {
                    let (change, tenant) = about;
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %change, %tenant, "a notice cannot be written");
                    locked(&self.postponed).insert(about, now + POSTPONED);
                }
            }
        }
        Ok(written)
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

    /// A new secret of a channel: as its owner is shown it, and sealed.
    pub(crate) fn new_secret(&self, channel: ChannelId) -> Result<(String, Vec<u8>), Problem> {
        let (mut random, mut nonce) = ([0; 32], [0; 24]);
        self.store.environment().fill(&mut random);
        self.store.environment().fill(&mut nonce);
        let secret = WebhookSecret::of(random).reveal();
        let sealed = self.vault.seal(&place(channel), secret.as_bytes(), nonce);
        let sealed =
            sealed.ok_or_else(|| Problem::new(Kind::Internal, "the secret could not be sealed"))?;
        Ok((secret.as_str().to_owned(), sealed))
    }

    /// Where links lead.
    pub(crate) const fn base(&self) -> &LinkBase {
        &self.base
    }

    /// What mails and feeds are made with, and in which language.
    pub(crate) fn templates(&self) -> (&Templates, &str) {
        (&self.templates, &self.language)
    }
}

/// Where a channel's secret is sealed for.
fn place(channel: ChannelId) -> String {
    format!("channel {channel}")
}

fn locked<T>(it: &Mutex<T>) -> MutexGuard<'_, T> {
    it.lock().unwrap_or_else(PoisonError::into_inner)
}
