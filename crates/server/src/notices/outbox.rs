//! Delivers notices on the tenants' channels, and tries again.
//!
//! Each channel is a queue of its own, so that one that does not answer holds up nobody else's: what
//! waits on it waits together, and a tenant has no more than its share of what is delivered at the
//! same time.

use std::sync::Arc;

use domain::cloud::{ChannelId, NoticeId, TenantId};
use jiff::Timestamp;
use notices::delivery::{MailAddress, Next, Webhook, WebhookSecret};
use notices::{Deliver, DeliveryError, MOST_IN_DIGEST, Notice, Parcel};
use sha2::{Digest as _, Sha256};
use store::{Actor, Attempt, Channel, ChannelKind, StoreError, Tried, Waiting};
use tokio::task::JoinSet;

use super::{Letter, Notices, POSTPONED, locked};

/// Channels that are delivered to at the same time.
const AT_ONCE: usize = 16;

/// Channels of one tenant among these.
const OF_TENANT: u16 = 4;

/// Channels looked at together: enough to fill every place, whoever has some already.
const TOGETHER: u16 = 80;

/// Requests to a webhook before others have their turn.
const IN_A_ROW: u16 = 10;

/// A notice that waits, read.
struct Queued {
    id: NoticeId,
    /// When it was first to be delivered.
    first: Timestamp,
    said: Letter,
}

impl Notices {
    /// Begins to deliver what is due; says to how many channels.
    pub(super) async fn deliver_some(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
    ) -> Result<usize, StoreError> {
        let busy: Vec<ChannelId> = locked(&self.busy).keys().copied().collect();
        let room = AT_ONCE.saturating_sub(busy.len());
        let now = self.store.environment().now();
        if room == 0 || self.store.next_delivery().await?.is_none_or(|at| at > now) {
            return Ok(0);
        }
        let mut begun = 0;
        for channel in self.store.due_channels(&busy, OF_TENANT, TOGETHER).await? {
            if begun == room {
                break;
            }
            if !self.takes_place(channel.id, channel.tenant) {
                continue;
            }
            begun += 1;
            let ours = Arc::clone(self);
            tasks.spawn(async move {
                // Freed also where the work dies.
                let _place = Place { ours: Arc::clone(&ours), channel: channel.id };
                ours.serve(channel).await;
            });
        }
        Ok(begun)
    }

    /// Whether there is a place for a channel, which it has from now on.
    fn takes_place(&self, channel: ChannelId, tenant: TenantId) -> bool {
        let mut busy = locked(&self.busy);
        let of_tenant = busy.values().filter(|it| **it == tenant).count();
        if of_tenant >= usize::from(OF_TENANT) || busy.contains_key(&channel) {
            return false;
        }
        busy.insert(channel, tenant);
        true
    }

    /// Delivers what waits on a channel, until that does not take more or had its turn.
    async fn serve(&self, channel: Channel) {
        let id = channel.id;
        let Err(error) = self.empty(channel).await else { return };
        tracing::error!(
            error = &error as &dyn std::error::Error, channel = %id,
            "how a delivery went is not noted; it is made again"
        );
        let again = self.store.environment().now() + POSTPONED;
        let attempt = Attempt { of: Vec::new(), again: Some(again) };
        if let Err(error) = self.store.record_attempt(id, attempt).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, channel = %id, "a channel is tried again at once");
        }
    }

    async fn empty(&self, mut channel: Channel) -> Result<(), StoreError> {
        let most = match channel.kind {
            ChannelKind::Mail => u16::try_from(MOST_IN_DIGEST).unwrap_or(u16::MAX),
            ChannelKind::Webhook => IN_A_ROW,
        };
        let waiting = self.store.waiting_on(channel.id, most).await?;
        if waiting.is_empty() {
            // Nothing waits any more: that is noted.
            let attempt = Attempt { of: Vec::new(), again: None };
            return self.store.record_attempt(channel.id, attempt).await;
        }
        for letters in self.letters(&channel, waiting).await? {
            if !self.deliver(&mut channel, &letters).await? {
                break;
            }
        }
        Ok(())
    }

    /// What waits for a channel, by messages: several mails to one address become one. All that is in
    /// a message is shown in it, since all of it counts as told.
    async fn letters(
        &self,
        channel: &Channel,
        waiting: Vec<Waiting>,
    ) -> Result<Vec<Vec<Queued>>, StoreError> {
        let (mut notices, mut alone) = (Vec::new(), Vec::new());
        for Waiting { notice: row, .. } in waiting {
            let (id, first) = (row.id, row.created_at);
            match Letter::of(&row) {
                Ok(said @ Letter::Notice(_)) => notices.push(Queued { id, first, said }),
                // They tell of many things already.
                Ok(said) => alone.push(vec![Queued { id, first, said }]),
                Err(error) => {
                    let answer = error.to_string();
                    tracing::warn!(notice = %id, channel = %channel.id, answer, "a notice is undeliverable");
                    let of = vec![(id, Tried::GivenUp { answer })];
                    self.store.record_attempt(channel.id, Attempt { of, again: None }).await?;
                }
            }
        }
        let together = match channel.kind {
            ChannelKind::Mail => MOST_IN_DIGEST,
            ChannelKind::Webhook => 1,
        };
        let mut messages = Vec::new();
        let mut rest = notices.into_iter().peekable();
        while rest.peek().is_some() {
            messages.push(rest.by_ref().take(together).collect());
        }
        messages.extend(alone);
        Ok(messages)
    }

    fn packed(&self, channel: &Channel, letters: &[Queued]) -> Result<Parcel, String> {
        let templates = &self.templates;
        let language = channel.language.as_deref().unwrap_or(&self.language);
        match letters {
            [Queued { said: Letter::Notice(notice), .. }] => {
                Parcel::of(notice, templates, language).map_err(|error| error.to_string())
            }
            [Queued { said: Letter::Clocks(notice), .. }] => {
                Parcel::clocks(notice, templates, language).map_err(|error| error.to_string())
            }
            [Queued { said: Letter::Drift(notice), .. }] => {
                Parcel::drift(notice, templates, language).map_err(|error| error.to_string())
            }
            _ => {
                let notices: Vec<Notice> = letters
                    .iter()
                    .filter_map(|letter| match &letter.said {
                        Letter::Notice(notice) => Some(notice.clone()),
                        Letter::Clocks(_) | Letter::Drift(_) => None,
                    })
                    .collect();
                // The same notices again are the same digest again.
                let id = NoticeId::of_content(hash(letters.iter().map(|letter| letter.id)));
                let at = notices.iter().map(|notice| notice.draft().published_at).max();
                let at = at.unwrap_or(Timestamp::UNIX_EPOCH);
                Parcel::digest(id, at, &notices, templates, language)
                    .map_err(|error| error.to_string())
            }
        }
    }

    /// Delivers a message, and notes how it went. False where the channel takes nothing more now.
    ///
    /// Of a digest that is refused for good, one notice may be to blame: each is tried by itself
    /// before any of them is given up.
    async fn deliver(&self, channel: &mut Channel, letters: &[Queued]) -> Result<bool, StoreError> {
        let Err(error) = self.attempt(channel, letters).await? else { return Ok(true) };
        if letters.len() < 2 || !matches!(error, DeliveryError::Never { .. }) {
            return self.fail(channel, letters, &error).await;
        }
        tracing::info!(channel = %channel.id, %error, "a digest is refused; its notices go singly");
        for letter in letters.chunks(1) {
            if let Err(error) = self.attempt(channel, letter).await?
                && !self.fail(channel, letter, &error).await?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tries once; notes what arrived.
    async fn attempt(
        &self,
        channel: &mut Channel,
        letters: &[Queued],
    ) -> Result<Result<(), DeliveryError>, StoreError> {
        let now = self.store.environment().now();
        let parcel = match self.packed(channel, letters) {
            Ok(parcel) => parcel,
            Err(text) => return Ok(Err(DeliveryError::Never { text })),
        };
        let way = self.way(channel);
        let tried = tokio::task::spawn_blocking(move || way?.deliver(&parcel, now)).await;
        let receipt = match tried {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(error)) => return Ok(Err(error)),
            Err(_) => {
                let text = "the attempt was cut off".to_owned();
                return Ok(Err(DeliveryError::Later { text, after: None }));
            }
        };
        channel.failures = 0;
        let delivered =
            |letter: &Queued| (letter.id, Tried::Delivered { answer: receipt.text.clone() });
        let attempt = Attempt { of: letters.iter().map(delivered).collect(), again: None };
        self.store.record_attempt(channel.id, attempt).await?;
        Ok(Ok(()))
    }

    /// Notes a failure. False where the channel takes nothing more now.
    async fn fail(
        &self,
        channel: &Channel,
        letters: &[Queued],
        error: &DeliveryError,
    ) -> Result<bool, StoreError> {
        let now = self.store.environment().now();
        let (answer, failures) = (error.to_string(), channel.failures.saturating_add(1));
        let seed = seed(letters, channel.id);
        let mut is_over = false;
        let of = letters.iter().map(|&Queued { id, first, .. }| {
            let answer = answer.clone();
            let tried = match self.retry.next(failures, first, now, error, seed) {
                Next::Attempt(_) => Tried::Failed { answer },
                Next::Dead => Tried::GivenUp { answer },
                Next::Unsubscribe => {
                    is_over = true;
                    Tried::GivenUp { answer }
                }
            };
            if let Tried::GivenUp { answer } = &tried {
                tracing::warn!(notice = %id, channel = %channel.id, answer, "a notice is undeliverable");
            }
            (id, tried)
        });
        // A receiver that is away is away for all that waits.
        let attempt =
            Attempt { of: of.collect(), again: self.retry.again(failures, now, error, seed) };
        self.store.record_attempt(channel.id, attempt).await?;
        if is_over {
            self.store.end_channel(&Actor::System, channel.id).await?;
        }
        // What is wrong with one notice may be right with the next.
        Ok(matches!(error, DeliveryError::Never { .. }))
    }

    /// The way to a channel. What is not set up now may be again: notices wait for it.
    fn way(&self, channel: &Channel) -> Result<Box<dyn Deliver>, DeliveryError> {
        let later = |text: &str| DeliveryError::Later { text: text.to_owned(), after: None };
        match channel.kind {
            ChannelKind::Mail => {
                let smtp = self.mail.as_ref().ok_or_else(|| later("no mail server is set up"))?;
                let to: MailAddress = channel
                    .address
                    .parse()
                    .map_err(|_| DeliveryError::Never { text: "it is no address".into() })?;
                Ok(Box::new(smtp.mailbox(to)))
            }
            ChannelKind::Webhook => {
                let reach =
                    self.webhooks.clone().ok_or_else(|| later("webhooks are not switched on"))?;
                let secret = self
                    .secret(channel)
                    .ok_or_else(|| later("the secret of the channel cannot be opened"))?;
                let address = self
                    .address(channel)
                    .ok_or_else(|| later("the address of the channel cannot be opened"))?;
                let webhook = Webhook::new(&address, secret, reach)
                    .map_err(|error| DeliveryError::Never { text: error.to_string() })?;
                Ok(Box::new(webhook))
            }
        }
    }

    fn secret(&self, channel: &Channel) -> Option<WebhookSecret> {
        let opened = self.vault.open(&of_secret(channel.id), channel.sealed.as_deref()?)?;
        std::str::from_utf8(&opened).ok()?.parse().ok()
    }

    /// The whole address of a webhook.
    fn address(&self, channel: &Channel) -> Option<String> {
        let Some(sealed) = &channel.sealed_address else { return Some(channel.address.clone()) };
        let opened = self.vault.open(&of_address(channel.id), sealed)?;
        std::str::from_utf8(&opened).ok().map(str::to_owned)
    }

    /// Seals the addresses of webhooks that were made when they were kept in the clear.
    pub(super) async fn seal_addresses(&self) -> Result<(), StoreError> {
        for channel in self.store.unsealed_channels().await? {
            if let Some(sealed) = self.sealed(&of_address(channel.id), &channel.address) {
                self.store.seal_channel(channel.id, sealed).await?;
            }
        }
        Ok(())
    }

    /// A secret of a channel, sealed for its place.
    pub(super) fn sealed(&self, place: &str, secret: &str) -> Option<Vec<u8>> {
        let mut nonce = [0; 24];
        self.store.environment().fill(&mut nonce);
        self.vault.seal(place, secret.as_bytes(), nonce)
    }
}

/// Where a channel's secret is sealed for.
pub(super) fn of_secret(channel: ChannelId) -> String {
    format!("channel {channel}")
}

/// Where a channel's address is sealed for.
pub(super) fn of_address(channel: ChannelId) -> String {
    format!("address of channel {channel}")
}

/// A channel that is delivered to.
struct Place {
    ours: Arc<Notices>,
    channel: ChannelId,
}

impl Drop for Place {
    fn drop(&mut self) {
        locked(&self.ours.busy).remove(&self.channel);
    }
}

/// Differs between deliveries, and is the same for all that go in one message.
fn seed(letters: &[Queued], channel: ChannelId) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(hash(letters.iter().map(|letter| letter.id)));
    hasher.update(channel.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize()[..8]);
    u64::from_be_bytes(first)
}

/// Of ids in their order.
fn hash(ids: impl Iterator<Item = NoticeId>) -> [u8; 16] {
    let mut hasher = Sha256::new();
    for id in ids {
        hasher.update(id.as_bytes());
    }
    let mut hash = [0; 16];
    hash.copy_from_slice(&hasher.finalize()[..16]);
    hash
}
