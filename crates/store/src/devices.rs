//! Devices that the control plane looks at from outside: where they are, as whom, and how it goes.
//!
//! ```text
//! new ─┬─► seen ◄─► unreachable          a look came to something, or to nothing: told once each
//!      └─► key_differs                   nobody looks before somebody says which key is right
//! ```
//!
//! Looks are made outside, by whoever holds the lease. What comes of one counts only if the device is still set
//! as it was then.

use domain::cloud::{CiId, EventKind, TenantId};
use domain::device::{
    DeviceState, HostKeyFingerprint, LONGEST_INTERVAL, SHORTEST_INTERVAL, until_next,
};
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use crate::Store;
use crate::actor::Actor;
use crate::cis;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::range;
use crate::value::{get, parsed, parsed_or_none, time_or_none};
use crate::writer::Tx;

/// Longest name of a model, an address or an account, in bytes.
const LONGEST_NAME: usize = 255;

/// Longest reason that is kept, in bytes; devices have a word in it.
const LONGEST_REASON: usize = 2000;

/// A device, without what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// Which item it is.
    pub ci: CiId,
    /// Whose.
    pub tenant: TenantId,
    /// How it is talked to.
    pub settings: DeviceSettings,
    /// The host key that counts; `None` where the next one that it shows is taken.
    pub host_key: Option<HostKeyFingerprint>,
    /// Another one that it showed.
    pub offered_key: Option<HostKeyFingerprint>,
    /// How looking at it stands.
    pub state: DeviceState,
    /// How many looks in a row came to nothing.
    pub failures: u32,
    /// When somebody looked last.
    pub looked_at: Option<Timestamp>,
    /// When it was seen last.
    pub seen_at: Option<Timestamp>,
    /// When somebody looks next.
    pub due_at: Option<Timestamp>,
    /// What stood in the way last.
    pub reason: Option<String>,
    /// Raised whenever it is set.
    pub version: i64,
}

/// Where a device is, and how it is talked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DeviceSettings {
    /// The name of its model.
    pub model: String,
    /// Its name or address.
    pub address: String,
    /// Where it speaks SSH.
    pub port: u16,
    /// As whom it is looked at.
    pub user: String,
    /// With what somebody signs in: `password` or `key`.
    pub method: String,
    /// How often.
    pub every: SignedDuration,
}

/// By what a device is to be known again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostKeyWish {
    /// By what it was.
    Keep,
    /// By this key alone.
    Pinned(HostKeyFingerprint),
    /// By the one that it shows next.
    First,
}

/// How a device is to be set.
#[derive(Debug, Clone)]
pub struct NewDevice {
    /// Where it is, and how it is talked to.
    pub settings: DeviceSettings,
    /// What opens it, sealed for the item; `None` keeps what there is.
    pub credential: Option<Vec<u8>>,
    /// By what it is known again.
    pub host_key: HostKeyWish,
}

/// What a look at a device came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Looked {
    /// It was seen.
    Seen {
        /// The host key that it proved to have.
        host_key: HostKeyFingerprint,
        /// What it does not tell of all that is asked, in words.
        untold: Option<String>,
    },
    /// Nothing of it was seen.
    Failed {
        /// Why, in words.
        reason: String,
        /// The host key that it showed, where that is why.
        offered: Option<HostKeyFingerprint>,
    },
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT d.ci_id, d.tenant_id, d.model, d.address, d.port, d.login, d.method, d.credential,
                    d.host_key, d.offered_key, d.every_seconds, d.state, d.failures, d.looked_at, d.seen_at,
                    d.due_at, d.reason, d.version
             FROM devices d ",
            $rest
        )
    };
}

/// Devices.
impl Store {
    /// Says how a configuration item is looked at from outside. It is looked at soon.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] to whoever is not of the provider; [`StoreError::Refused`] where it cannot be so:
    /// what opens it has to be given again for another address, account or host key.
    pub async fn set_device(
        &self,
        by: &Actor,
        ci: CiId,
        new: NewDevice,
    ) -> Result<Device, StoreError> {
        self.write((by.clone(), new), move |tx, (by, new)| Box::pin(set(tx, by, ci, new))).await
    }

    /// The device that a configuration item is, if the actor may see it.
    pub async fn device(&self, by: &Actor, ci: CiId) -> Result<Device, StoreError> {
        let mut connection = self.pool.acquire().await?;
        find(&mut connection, by, ci).await
    }

    /// Has a device looked at soon.
    ///
    /// # Errors
    /// [`StoreError::Refused`] where it showed another host key: that has to be said first.
    pub async fn wake_device(&self, by: &Actor, ci: CiId) -> Result<Device, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(wake(tx, by, ci))).await
    }

    /// Has a configuration item looked at no more. What was recorded stays.
    pub async fn remove_device(&self, by: &Actor, ci: CiId) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| {
            Box::pin(async move {
                must_be_provider(by, ci)?;
                find(&mut *tx.connection, by, ci).await?;
                forget(tx, by, ci).await
            })
        })
        .await
    }

    /// Devices whose time has come, each with what opens it, sealed: the longest due first.
    pub async fn due_devices(&self, at_most: u16) -> Result<Vec<(Device, Vec<u8>)>, StoreError> {
        let rows = sqlx::query(select!("WHERE d.due_at <= $1 ORDER BY d.due_at, d.ci_id LIMIT $2"))
            .bind(self.environment.now().as_microsecond())
            .bind(i64::from(at_most))
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(|row| Ok((read(row)?, get(row, "credential")?))).collect()
    }

    /// Takes in what a look came to. Nothing happens where the device was set otherwise meanwhile.
    pub async fn device_looked(
        &self,
        ci: CiId,
        version: i64,
        looked: Looked,
    ) -> Result<(), StoreError> {
        self.write(looked, move |tx, looked| Box::pin(came(tx, ci, version, looked))).await
    }
}

/// Where the control plane signs in is the provider's to say: it reaches what tenants do not.
fn must_be_provider(by: &Actor, ci: CiId) -> Result<(), StoreError> {
    if by.scope().is_none() { Ok(()) } else { Err(missing(ci)) }
}

fn missing(ci: CiId) -> StoreError {
    StoreError::not_found("device of a configuration item", &ci)
}

async fn find(connection: &mut AnyConnection, by: &Actor, ci: CiId) -> Result<Device, StoreError> {
    if !by.speaks_of(ci) {
        return Err(missing(ci));
    }
    let (low, high) = range(by.scope());
    let row = sqlx::query(select!("WHERE d.ci_id = $1 AND d.tenant_id BETWEEN $2 AND $3"))
        .bind(ci.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Err(missing(ci)), read)
}

async fn set(tx: &mut Tx<'_>, by: &Actor, ci: CiId, new: &NewDevice) -> Result<Device, StoreError> {
    must_be_provider(by, ci)?;
    let item = cis::find(&mut *tx.connection, by.scope(), ci).await?;
    if item.retired_at.is_some() {
        return Err(StoreError::Refused {
            reason: "the item has left the cloud".to_owned(),
            help: "take it up again first",
        });
    }
    check(&new.settings)?;
    tx.hold("cis", "id", &ci.to_string()).await?;
    let before = match find(&mut *tx.connection, by, ci).await {
        Ok(before) => Some(before),
        Err(StoreError::NotFound { .. }) => None,
        Err(error) => return Err(error),
    };
    let host_key = match (&new.host_key, &before) {
        (HostKeyWish::Pinned(key), _) => Some(key.clone()),
        (HostKeyWish::First, _) => None,
        (HostKeyWish::Keep, Some(before)) => before.host_key.clone(),
        (HostKeyWish::Keep, None) => {
            return Err(StoreError::Refused {
                reason: "nothing says by which host key the device is known".to_owned(),
                help: "give its fingerprint, as `ssh-keygen -l` prints it, or trust the first key",
            });
        }
    };
    if new.credential.is_none() {
        may_keep_credential(before.as_ref(), &new.settings, host_key.as_ref())?;
    }
    let version = before.as_ref().map_or(1, |before| before.version + 1);
    let settings = &new.settings;
    sqlx::query(
        "INSERT INTO devices (ci_id, tenant_id, model, address, port, login, method, credential, host_key,
                              every_seconds, state, failures, due_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, 'new', 0, $11, $12)
         ON CONFLICT (ci_id) DO UPDATE SET
             model = excluded.model, address = excluded.address, port = excluded.port,
             login = excluded.login, method = excluded.method, host_key = excluded.host_key,
             offered_key = NULL, every_seconds = excluded.every_seconds, due_at = excluded.due_at,
             version = excluded.version,
             credential = CASE WHEN $13 = 1 THEN devices.credential ELSE excluded.credential END",
    )
    .bind(ci.to_string())
    .bind(item.tenant.to_string())
    .bind(settings.model.as_str())
    .bind(settings.address.as_str())
    .bind(i64::from(settings.port))
    .bind(settings.user.as_str())
    .bind(settings.method.as_str())
    .bind(new.credential.clone().unwrap_or_default())
    .bind(host_key.map(String::from))
    .bind(settings.every.as_secs())
    .bind(tx.now.as_microsecond())
    .bind(version)
    .bind(i64::from(new.credential.is_none()))
    .execute(&mut *tx.connection)
    .await?;
    let device = find(&mut *tx.connection, by, ci).await?;
    let kind = if before.is_some() { EventKind::DeviceAltered } else { EventKind::DeviceAdded };
    let payload = json!({
        "before": before.as_ref().map(shown), "device": shown(&device),
        "is_credential_new": new.credential.is_some(),
    });
    record(tx, by, kind, &device, payload);
    Ok(device)
}

/// What opens a device is shown to nobody; so nobody may have it sent to somebody else.
fn may_keep_credential(
    before: Option<&Device>,
    settings: &DeviceSettings,
    host_key: Option<&HostKeyFingerprint>,
) -> Result<(), StoreError> {
    let refused = |reason: &str| {
        Err(StoreError::Refused {
            reason: reason.to_owned(),
            help: "give the password or key again",
        })
    };
    let Some(before) = before else {
        return refused("nothing says what opens the device");
    };
    let known = &before.settings;
    let is_same = (&known.address, known.port, &known.user, &known.method)
        == (&settings.address, settings.port, &settings.user, &settings.method);
    if !is_same || before.host_key.as_ref() != host_key {
        return refused("what opens the device was given for another address, account or host key");
    }
    Ok(())
}

fn check(settings: &DeviceSettings) -> Result<(), StoreError> {
    let DeviceSettings { model, address, port, user, method, every } = settings;
    for name in [model, address, user, method] {
        let is_odd = |it: char| it.is_control() || it.is_whitespace();
        if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(is_odd) {
            return Err(StoreError::Refused {
                reason: format!("{name:?} is no model, address or account"),
                help: "use at most 255 bytes without spaces",
            });
        }
    }
    if *port == 0 {
        return Err(StoreError::Refused {
            reason: "nobody listens at port 0".to_owned(),
            help: "SSH is at port 22 where nobody says otherwise",
        });
    }
    if !(SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(every) {
        return Err(StoreError::Refused {
            reason: format!("a device cannot be looked at every {every:#}"),
            help: "look every minute at most, and every 7 days at least",
        });
    }
    Ok(())
}

async fn wake(tx: &mut Tx<'_>, by: &Actor, ci: CiId) -> Result<Device, StoreError> {
    must_be_provider(by, ci)?;
    let device = find(&mut *tx.connection, by, ci).await?;
    if device.state == DeviceState::KeyDiffers && device.due_at.is_none() {
        return Err(StoreError::Refused {
            reason: "the device showed another host key than the one that is known".to_owned(),
            help: "find out at the device itself which key it has, then set the device with that one",
        });
    }
    sqlx::query("UPDATE devices SET due_at = $1 WHERE ci_id = $2")
        .bind(tx.now.as_microsecond())
        .bind(ci.to_string())
        .execute(&mut *tx.connection)
        .await?;
    find(&mut *tx.connection, by, ci).await
}

/// Destroys what is known of a device, if the item is one.
pub(crate) async fn forget(tx: &mut Tx<'_>, by: &Actor, ci: CiId) -> Result<(), StoreError> {
    let device = match find(&mut *tx.connection, &Actor::System, ci).await {
        Ok(device) => device,
        Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    sqlx::query("DELETE FROM devices WHERE ci_id = $1")
        .bind(ci.to_string())
        .execute(&mut *tx.connection)
        .await?;
    let payload = json!({ "before": shown(&device) });
    record(tx, by, EventKind::DeviceRemoved, &device, payload);
    Ok(())
}

async fn came(tx: &mut Tx<'_>, ci: CiId, version: i64, looked: &Looked) -> Result<(), StoreError> {
    let by = Actor::System;
    tx.hold("devices", "ci_id", &ci.to_string()).await?;
    let before = match find(&mut *tx.connection, &by, ci).await {
        Ok(before) if before.version == version => before,
        Ok(_) | Err(StoreError::NotFound { .. }) => return Ok(()),
        Err(error) => return Err(error),
    };
    let (every, was) = (before.settings.every, before.state);
    match looked {
        Looked::Seen { host_key, untold } => {
            sqlx::query(
                "UPDATE devices SET state = 'seen', failures = 0, host_key = COALESCE(host_key, $1),
                        offered_key = NULL, looked_at = $2, seen_at = $2, due_at = $3, reason = $4
                 WHERE ci_id = $5",
            )
            .bind(host_key.to_string())
            .bind(tx.now.as_microsecond())
            .bind((tx.now + every).as_microsecond())
            .bind(untold.as_deref().map(short))
            .bind(ci.to_string())
            .execute(&mut *tx.connection)
            .await?;
            if before.host_key.is_none() {
                let payload = json!({ "host_key": host_key });
                record(tx, &by, EventKind::DevicePinned, &before, payload);
            }
            if matches!(was, DeviceState::Unreachable | DeviceState::KeyDiffers) {
                let payload = json!({ "was": was, "failures": before.failures });
                record(tx, &by, EventKind::DeviceRecovered, &before, payload);
            }
        }
        Looked::Failed { reason, offered } => {
            let failures = before.failures.saturating_add(1);
            let state = match offered {
                Some(_) => DeviceState::KeyDiffers,
                None => DeviceState::Unreachable,
            };
            let due = offered.is_none().then(|| tx.now + until_next(every, failures));
            sqlx::query(
                "UPDATE devices SET state = $1, failures = $2, offered_key = $3, looked_at = $4,
                        due_at = $5, reason = $6
                 WHERE ci_id = $7",
            )
            .bind(state.as_str())
            .bind(i64::from(failures))
            .bind(offered.clone().map(String::from))
            .bind(tx.now.as_microsecond())
            .bind(due.map(Timestamp::as_microsecond))
            .bind(short(reason))
            .bind(ci.to_string())
            .execute(&mut *tx.connection)
            .await?;
            // Once, and not at each look.
            let payload = json!({
                "reason": short(reason), "host_key": before.host_key, "offered_key": offered,
            });
            match state {
                DeviceState::KeyDiffers => {
                    record(tx, &by, EventKind::DeviceKeyDiffers, &before, payload);
                }
                _ if was != DeviceState::Unreachable => {
                    record(tx, &by, EventKind::DeviceUnreachable, &before, payload);
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// As much of it as is kept.
pub(crate) fn short(reason: &str) -> String {
    let mut end = reason.len().min(LONGEST_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

/// What records say of a device: never what opens it.
fn shown(device: &Device) -> Value {
    let DeviceSettings { model, address, port, user, method, every } = &device.settings;
    json!({
        "model": model, "address": address, "port": port, "user": user, "method": method,
        "every_seconds": every.as_secs(), "host_key": device.host_key,
    })
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, device: &Device, payload: Value) {
    tx.record(NewEvent {
        tenant: device.tenant,
        kind,
        by: by.clone(),
        object: device.ci.to_string(),
        version: device.version,
        payload,
    });
}

fn read(row: &AnyRow) -> Result<Device, StoreError> {
    let port: i64 = get(row, "port")?;
    let failures: i64 = get(row, "failures")?;
    let corrupt = |error| StoreError::Corrupt { what: format!("port: {error}") };
    Ok(Device {
        ci: parsed(row, "ci_id")?,
        tenant: parsed(row, "tenant_id")?,
        settings: DeviceSettings {
            model: get(row, "model")?,
            address: get(row, "address")?,
            port: u16::try_from(port).map_err(corrupt)?,
            user: get(row, "login")?,
            method: get(row, "method")?,
            every: SignedDuration::from_secs(get(row, "every_seconds")?),
        },
        host_key: parsed_or_none(row, "host_key")?,
        offered_key: parsed_or_none(row, "offered_key")?,
        state: parsed(row, "state")?,
        failures: u32::try_from(failures).unwrap_or(u32::MAX),
        looked_at: time_or_none(row, "looked_at")?,
        seen_at: time_or_none(row, "seen_at")?,
        due_at: time_or_none(row, "due_at")?,
        reason: get(row, "reason")?,
        version: get(row, "version")?,
    })
}
