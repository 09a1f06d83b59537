//! Delivers notices on the tenants' channels, and tries again.
//!
//! Each channel is a queue of its own, so that one that does not answer holds up nobody else's.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::cloud::{ChannelId, NoticeId};
use jiff::Timestamp;
use notices::delivery::{MailAddress, Next, Webhook, WebhookSecret};
use notices::{Deliver, DeliveryError, Notice, Parcel};
use sha2::{Digest as _, Sha256};
use store::{Actor, Channel, ChannelKind, DueDelivery, StoreError, Tried};
use tokio::task::JoinSet;

use super::{Notices, locked, place};

/// Deliveries looked at together.
const TOGETHER: u16 = 200;

/// Channels that are delivered to at the same time.
const AT_ONCE: usize = 16;

/// What goes to one channel, the oldest first.
struct Queue {
    channel: Channel,
    waiting: Vec<DueDelivery>,
}

/// What goes in one message: a notice, or several.
struct Load {
    parcel: Parcel,
    /// Each with how often it was tried before.
    of: Vec<(NoticeId, Timestamp, u32)>,
}

impl Notices {
    /// Begins to deliver what is due; says to how many channels.
    pub(super) async fn deliver_some(
        self: &Arc<Self>,
        tasks: &mut JoinSet<()>,
    ) -> Result<usize, StoreError> {
        let room = AT_ONCE.saturating_sub(locked(&self.busy).len());
        let now = self.store.environment().now();
        if room == 0 || self.store.next_delivery().await?.is_none_or(|at| at > now) {
            return Ok(0);
        }
        let mut queues: BTreeMap<ChannelId, Queue> = BTreeMap::new();
        for due in self.store.due_deliveries(TOGETHER).await? {
            let channel = due.channel.clone();
            let queue = queues.entry(channel.id);
            queue.or_insert_with(|| Queue { channel, waiting: Vec::new() }).waiting.push(due);
        }
        let mut begun = 0;
        for (id, queue) in queues {
            if begun == room || !locked(&self.busy).insert(id) {
                continue;
            }
            begun += 1;
            let ours = Arc::clone(self);
            tasks.spawn(async move {
                // Freed also where the work dies.
                let _place = Place { ours: Arc::clone(&ours), channel: id };
                ours.empty(queue).await;
            });
        }
        Ok(begun)
    }

    /// Delivers a queue, until its channel does not take more.
    async fn empty(&self, queue: Queue) {
        let Queue { channel, waiting } = queue;
        let loads = match self.loads(&channel, waiting).await {
            Ok(loads) => loads,
            Err(error) => return unnoted(&error, channel.id),
        };
        for load in loads {
            match self.deliver(&channel, load).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => return unnoted(&error, channel.id),
            }
        }
    }

    /// What waits for a channel, packed: several mails to one address become one.
    async fn loads(
        &self,
        channel: &Channel,
        waiting: Vec<DueDelivery>,
    ) -> Result<Vec<Load>, StoreError> {
        let mut readable = Vec::with_capacity(waiting.len());
        for due in waiting {
            match Notice::parse(&due.notice.document) {
                Ok(notice) => readable.push((notice, due)),
                Err(error) => {
                    let tried = Tried::GivenUp { answer: error.to_string() };
                    self.store.record_delivery(due.notice.id, channel.id, tried).await?;
                }
            }
        }
        let is_digest = channel.kind == ChannelKind::Mail && readable.len() > 1;
        let groups: Vec<Vec<(Notice, DueDelivery)>> = if is_digest {
            vec![readable]
        } else {
            readable.into_iter().map(|one| vec![one]).collect()
        };
        let mut loads = Vec::with_capacity(groups.len());
        for group in groups {
            let of: Vec<_> = group
                .iter()
                .map(|(_, due)| (due.notice.id, due.notice.created_at, due.attempts))
                .collect();
            let notices: Vec<Notice> = group.into_iter().map(|(notice, _)| notice).collect();
            match self.packed(&notices) {
                Ok(parcel) => loads.push(Load { parcel, of }),
                Err(answer) => {
                    for (notice, ..) in of {
                        let tried = Tried::GivenUp { answer: answer.clone() };
                        self.store.record_delivery(notice, channel.id, tried).await?;
                    }
                }
            }
        }
        Ok(loads)
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
    async fn deliver(&self, channel: &Channel, load: Load) -> Result<bool, StoreError> {
        let now = self.store.environment().now();
        let Load { parcel, of } = load;
        let seed = seed(&parcel, channel.id);
        let way = self.way(channel);
        let tried = tokio::task::spawn_blocking(move || way?.deliver(&parcel, now)).await;
        let error = match tried {
            Ok(Ok(receipt)) => {
                for (notice, ..) in of {
                    let tried = Tried::Delivered { answer: receipt.text.clone() };
                    self.store.record_delivery(notice, channel.id, tried).await?;
                }
                return Ok(true);
            }
            Ok(Err(error)) => error,
            Err(_) => DeliveryError::Later { text: "the attempt was cut off".into(), after: None },
        };
        let (answer, mut is_over) = (error.to_string(), false);
        for (notice, first, attempts) in of {
            let next = self.retry.next(attempts.saturating_add(1), first, now, &error, seed);
            let answer = answer.clone();
            let tried = match next {
                Next::Attempt(again) => Tried::Failed { answer, again },
                Next::Dead => Tried::GivenUp { answer },
                Next::Unsubscribe => {
                    is_over = true;
                    Tried::GivenUp { answer }
                }
            };
            if let Tried::GivenUp { answer } = &tried {
                tracing::warn!(%notice, channel = %channel.id, answer, "a notice is undeliverable");
            }
            self.store.record_delivery(notice, channel.id, tried).await?;
        }
        if is_over {
            self.store.end_channel(&Actor::System, channel.id).await?;
        }
        // What is wrong with one notice may be right with the next; a receiver that is away is away.
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
                let webhook = Webhook::new(&channel.address, secret, reach)
                    .map_err(|error| DeliveryError::Never { text: error.to_string() })?;
                Ok(Box::new(webhook))
            }
        }
    }

    fn secret(&self, channel: &Channel) -> Option<WebhookSecret> {
        let opened = self.vault.open(&place(channel.id), channel.sealed.as_deref()?)?;
        std::str::from_utf8(&opened).ok()?.parse().ok()
    }
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

fn unnoted(error: &StoreError, channel: ChannelId) {
    let error = error as &dyn std::error::Error;
    tracing::error!(error, %channel, "how a delivery went is not noted; it is made again");
}
