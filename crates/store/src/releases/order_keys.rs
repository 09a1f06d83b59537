//! The keys with which the provider signs orders, one after another.
//!
//! Hosts pin the key that is in force when they join. Another one comes into force only by a handover that
//! the one before it signed; agents are shown all of them with each order.

use domain::change::KeyId;
use domain::cloud::{EventKind, PROVIDER};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use super::runs::signed;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::keys::{self, Key, MasterKey};
use crate::value::get;
use crate::writer::Tx;

/// The first key; those after it have their version behind its name.
const FIRST: &str = "orders";

/// Most handovers that are told: who missed more of them pins anew.
const MOST_HANDOVERS: i64 = 64;

/// The provider's order keys.
pub struct OrderKeys {
    /// Which version is in force; the first is 1.
    pub version: u64,
    /// Its secret.
    pub secret: Key,
    /// How it came to that, the newest last.
    pub handovers: Vec<OrderHandover>,
    /// The secret of the key ahead of those handovers.
    pub before: Key,
}

/// A handover to another order key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderHandover {
    /// To which version.
    pub version: u64,
    /// The key that it names, in PEM.
    pub public_key: String,
    /// As the key before it signed it.
    pub envelope: String,
}

/// Another order key that is to come into force.
pub struct NewOrderKey {
    /// Its secret.
    pub secret: Key,
    /// What it is called by.
    pub id: KeyId,
    /// The handover to it.
    pub handover: OrderHandover,
}

pub(super) async fn read(pool: &AnyPool, master: &MasterKey) -> Result<OrderKeys, StoreError> {
    let mut connection = pool.acquire().await?;
    let rows = sqlx::query(
        "SELECT version, public_key, handover FROM order_keys ORDER BY version DESC LIMIT $1",
    )
    .bind(MOST_HANDOVERS)
    .fetch_all(&mut *connection)
    .await?;
    let handover = |row: &AnyRow| -> Result<OrderHandover, StoreError> {
        let version: i64 = get(row, "version")?;
        Ok(OrderHandover {
            version: u64::try_from(version).unwrap_or_default(),
            public_key: get(row, "public_key")?,
            envelope: get(row, "handover")?,
        })
    };
    let handovers = rows.iter().rev().map(handover).collect::<Result<Vec<_>, _>>()?;
    let version = handovers.last().map_or(1, |it| it.version);
    let before = handovers.first().map_or(1, |it| it.version.saturating_sub(1));
    Ok(OrderKeys {
        version,
        secret: keys::opened(&mut connection, master, &name_of(version)).await?,
        before: keys::opened(&mut connection, master, &name_of(before)).await?,
        handovers,
    })
}

/// Puts another key into force. What was signed with the one before and is not answered is signed anew when
/// it is fetched: who was shown the handover takes nothing else.
pub(super) async fn hand_over(
    tx: &mut Tx<'_>,
    by: &Actor,
    master: &MasterKey,
    new: &NewOrderKey,
) -> Result<(), StoreError> {
    let OrderHandover { version, public_key, envelope } = &new.handover;
    let current = in_force(tx).await?;
    if *version != current + 1 {
        return Err(StoreError::Refused {
            reason: format!("version {current} of the order keys is in force by now"),
            help: "see which key is in force (`patchwright order-key show`), and hand that over",
        });
    }
    keys::keep(tx, master, &name_of(*version), &new.secret).await?;
    sqlx::query(
        "INSERT INTO order_keys (version, public_key, handover, created_at)
         VALUES ($1, $2, $3, $4)",
    )
    .bind(signed(*version))
    .bind(public_key.as_str())
    .bind(envelope.as_str())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    sqlx::query("UPDATE orders SET envelope = NULL WHERE outcome IS NULL AND envelope IS NOT NULL")
        .execute(&mut *tx.connection)
        .await?;
    tx.record(NewEvent {
        tenant: PROVIDER,
        kind: EventKind::OrderKeyRotated,
        by: by.clone(),
        object: new.id.to_string(),
        version: signed(*version),
        payload: json!({ "version": version, "public_key": public_key, "handover": envelope }),
    });
    Ok(())
}

/// The version in force, which stays so until the end of the transaction.
pub(super) async fn in_force(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    tx.hold("sealed_keys", "name", FIRST).await?;
    version(&mut *tx.connection).await
}

async fn version(connection: &mut AnyConnection) -> Result<u64, StoreError> {
    let row = sqlx::query("SELECT COALESCE(MAX(version), 1) AS version FROM order_keys")
        .fetch_one(connection)
        .await?;
    let version: i64 = get(&row, "version")?;
    Ok(u64::try_from(version).unwrap_or(1))
}

fn name_of(version: u64) -> String {
    if version == 1 { FIRST.to_owned() } else { format!("{FIRST}.{version}") }
}
