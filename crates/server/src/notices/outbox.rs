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

use super::{Notices, POSTPONED, locked};

/// Channels that are delivered to at the same time.
const AT_ONCE: usize = 16;

/// Channels of one tenant among these.
const OF_TENANT: u16 = 4;

/// Channels looked at together: enough to fill every place, whoever has some already.
const TOGETHER: u16 = 80;

/// Requests to a webhook before others have their turn.
const IN_A_ROW: u16 = 10;

/// What goes in one message: a notice, or several.
struct Load {
    parcel: Parcel,
    /// Each with its time.
    of: Vec<(NoticeId, Timestamp)>,
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
        for load in self.loads(&channel, waiting).await? {
            if !self.deliver(&mut channel, load).await? {
                break;
            }
        }
        Ok(())
    }

    /// What waits for a channel, packed: several mails to one address become one. All that is in a
    /// message is shown in it, since all of it counts as told.
    async fn loads(
        &self,
        channel: &Channel,
        waiting: Vec<Waiting>,
    ) -> Result<Vec<Load>, StoreError> {
        let mut readable = Vec::with_capacity(waiting.len());
        for one in waiting {
            match Notice::parse(&one.notice.document) {
                Ok(notice) => readable.push((notice, one)),
                Err(error) => {
                    self.give_up(channel.id, vec![one.notice.id], &error.to_string()).await?;
                }
            }
        }
        let together = match channel.kind {
            ChannelKind::Mail => MOST_IN_DIGEST,
            ChannelKind::Webhook => 1,
        };
        let mut loads = Vec::with_capacity(readable.len());
        for group in readable.chunks(together) {
            let of: Vec<_> =
                group.iter().map(|(_, one)| (one.notice.id, one.notice.created_at)).collect();
            let notices: Vec<Notice> = group.iter().map(|(notice, _)| notice.clone()).collect();
            match self.packed(&notices) {
                Ok(parcel) => loads.push(Load { parcel, of }),
                Err(answer) => {
                    let ids = of.into_iter().map(|(notice, _)| notice).collect();
                    self.give_up(channel.id, ids, &answer).await?;
                }
            }
        }
        Ok(loads)
    }

    async fn give_up(
        &self,
        channel: ChannelId,
        notices: Vec<NoticeId>,
        answer: &str,
    ) -> Result<(), StoreError> {
        let of = notices.into_iter().map(|notice| {
            tracing::warn!(%notice, %channel, answer, "a notice is undeliverable");
            (notice, Tried::GivenUp { answer: answer.to_owned() })
        });
        self.store.record_attempt(channel, Attempt { of: of.collect(), again: None }).await
    }

    fn packed(&self, notices: &[Notice]) -> Result<Parcel, String> {
        let (templates, language) = (&self.templates, &self.language);
        if let [notice] = notices {
            return Parcel::of(notice, templates, language).map_err(|error| error.to_string());
        }
        // The same notices again are the same digest again.
        let mut hasher = Sha256::new();
        for notice in notices {
            hasher.update(notice.id().as_bytes());
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&hasher.finalize()[..16]);
        let at = notices.iter().map(|notice| notice.draft().published_at).max();
        let at = at.unwrap_or(Timestamp::UNIX_EPOCH);
        Parcel::digest(NoticeId::of_content(hash), at, notices, templates, language)
            .map_err(|error| error.to_string())
    }

    /// Tries once, and notes how it went. False where the channel takes nothing more now.
    async fn deliver(&self, channel: &mut Channel, load: Load) -> Result<bool, StoreError> {
        let now = self.store.environment().now();
        let Load { parcel, of } = load;
        let seed = seed(&parcel, channel.id);
        let way = self.way(channel);
        let tried = tokio::task::spawn_blocking(move || way?.deliver(&parcel, now)).await;
        let error = match tried {
            Ok(Ok(receipt)) => {
                channel.failures = 0;
                let of = of
                    .into_iter()
                    .map(|(notice, _)| (notice, Tried::Delivered { answer: receipt.text.clone() }));
                let attempt = Attempt { of: of.collect(), again: None };
                self.store.record_attempt(channel.id, attempt).await?;
                return Ok(true);
            }
            Ok(Err(error)) => error,
            Err(_) => DeliveryError::Later { text: "the attempt was cut off".into(), after: None },
        };
        let (answer, failures) = (error.to_string(), channel.failures.saturating_add(1));
        let mut is_over = false;
        let of = of.into_iter().map(|(notice, first)| {
            let answer = answer.clone();
            let tried = match self.retry.next(failures, first, now, &error, seed) {
                Next::Attempt(_) => Tried::Failed { answer },
                Next::Dead => Tried::GivenUp { answer },
                Next::Unsubscribe => {
                    is_over = true;
                    Tried::GivenUp { answer }
                }
            };
            if let Tried::GivenUp { answer } = &tried {
                tracing::warn!(%notice, channel = %channel.id, answer, "a notice is undeliverable");
            }
            (notice, tried)
        });
        // A receiver that is away is away for all that waits.
        let attempt =
            Attempt { of: of.collect(), again: self.retry.again(failures, now, &error, seed) };
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
fn seed(parcel: &Parcel, channel: ChannelId) -> u64 {
    let mut hasher = Sha256::new();
    hasher.update(parcel.id().as_bytes());
    hasher.update(channel.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hasher.finalize()[..8]);
    u64::from_be_bytes(first)
}
