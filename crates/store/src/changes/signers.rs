//! Keys of tenants, and the rules by which they agreed ahead.

use domain::change::{
    KeyEffect, KeyEvent, KeyId, KeyKind, KeyOrder, KeyRing, NewKey, Nonce, Standing, StandingRule,
    Verified,
};
use domain::cloud::{EventKind, TenantId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::load::{self, must_see, text};
use super::{KeptRule, Outcome, advance};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::value::{get, parsed, time};
use crate::writer::Tx;
use crate::{people, releases, tenants};

/// Most rules of a tenant that are in force, or will be: each is looked at for each plan.
const MOST_RULES: i64 = 100;

/// Most rules that are listed, the newest.
const MOST_LISTED: i64 = 1000;

/// A public key that a tenant signs with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsentKey {
    /// Its id.
    pub id: KeyId,
    /// What it is.
    pub kind: KeyKind,
    /// In PEM.
    pub public_key: Vec<u8>,
    /// What people call it.
    pub label: String,
    /// When it was brought.
    pub created_at: Timestamp,
}

/// A public key that is brought.
#[derive(Debug, Clone)]
pub struct NewConsentKey {
    /// Its id.
    pub id: KeyId,
    /// What it is.
    pub kind: KeyKind,
    /// As in [`ConsentKey`].
    pub public_key: Vec<u8>,
    /// What people call it.
    pub label: String,
}

pub(super) async fn alter(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    event: &KeyEvent,
    key: Option<&NewConsentKey>,
) -> Result<Outcome<KeyRing>, StoreError> {
    must_be_of(by, tenant)?;
    tenants::must_exist(tx, by, tenant).await?;
    tx.hold("tenants", "id", &tenant.to_string()).await?;
    let ring = load::key_ring(&mut *tx.connection, tenant).await?;
    let (next, effects) = match ring.step(event.clone(), tx.now) {
        Ok(stepped) => stepped,
        Err(refusal) => {
            tx.record(NewEvent {
                tenant,
                kind: EventKind::ConsentKeyRefused,
                by: by.clone(),
                object: tenant.to_string(),
                version: i64::try_from(ring.version()).unwrap_or(i64::MAX),
                payload: json!({ "reason": refusal.to_string() }),
            });
            return Ok(Outcome::refused(&refusal, refusal.help()));
        }
    };
    let version = i64::try_from(next.version()).unwrap_or(i64::MAX);
    sqlx::query(
        "INSERT INTO key_rings (tenant_id, record, version) VALUES ($1, $2, $3)
         ON CONFLICT (tenant_id) DO UPDATE SET record = excluded.record, version = excluded.version",
    )
    .bind(tenant.to_string())
    .bind(text(&next)?)
    .bind(version)
    .execute(&mut *tx.connection)
    .await?;
    if let Some(key) = key {
        sqlx::query(
            "INSERT INTO consent_keys (tenant_id, key_id, kind, public_key, label, created_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (tenant_id, key_id) DO UPDATE SET
                 kind = excluded.kind, label = excluded.label, created_at = excluded.created_at",
        )
        .bind(tenant.to_string())
        .bind(key.id.to_string())
        .bind(key.kind.as_str())
        .bind(key.public_key.as_slice())
        .bind(key.label.as_str())
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
    }
    for effect in effects {
        let payload = match effect {
            KeyEffect::Record { what, key, .. } => json!({ "what": what, "key": key }),
            KeyEffect::Warn { key, completes_at } => {
                json!({ "what": "key.recovery_warned", "key": key, "completes_at": completes_at })
            }
        };
        tx.record(NewEvent {
            tenant,
            kind: EventKind::ConsentKeyAltered,
            by: by.clone(),
            object: tenant.to_string(),
            version,
            payload,
        });
    }
    advance::wake_tenant(tx, tenant).await?;
    Ok(Outcome::Done(next))
}

/// Alters keys by a signed order, and keeps it as it was signed.
pub(super) async fn order(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    order: &Verified<KeyOrder>,
    key: Option<&NewConsentKey>,
    envelope: &str,
) -> Result<Outcome<KeyRing>, StoreError> {
    let event = KeyEvent::Ordered(order.clone());
    let outcome = alter(tx, by, tenant, &event, key).await?;
    if let Outcome::Done(ring) = &outcome {
        releases::keep_key_order(&mut *tx.connection, tenant, ring.version(), envelope).await?;
    }
    Ok(outcome)
}

/// An owner asks for a key without a signature; since when they are one, is known here.
pub(super) async fn ask_recovery(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    key: &NewConsentKey,
) -> Result<Outcome<KeyRing>, StoreError> {
    must_be_of(by, tenant)?;
    let owner = advance::person(by)?;
    let owner_since = people::steady_since(tx, owner).await?;
    let ring = load::key_ring(&mut *tx.connection, tenant).await?;
    // Of both owners the key is the same, whoever will hold it.
    let asked = ring.recovery().filter(|recovery| recovery.key.id == key.id);
    let holder = asked.map_or(owner, |recovery| recovery.key.holder);
    let new = NewKey { id: key.id, kind: key.kind, holder };
    let event = KeyEvent::AskRecovery { key: new, by: owner, owner_since };
    alter(tx, by, tenant, &event, Some(key)).await
}

/// A tenant's keys and rules are its own people's alone: whoever could add a key could consent.
fn must_be_of(by: &Actor, tenant: TenantId) -> Result<(), StoreError> {
    must_see(by, tenant)?;
    match by {
        Actor::Person { tenant: own, .. } if *own == tenant => Ok(()),
        _ => Err(StoreError::Refused {
            reason: "a tenant's keys and rules are its own people's alone".to_owned(),
            help: "have an owner of the tenant do it",
        }),
    }
}

pub(crate) async fn public_keys(
    connection: &mut AnyConnection,
    tenant: TenantId,
) -> Result<Vec<ConsentKey>, StoreError> {
    let rows = sqlx::query(
        "SELECT key_id, kind, public_key, label, created_at FROM consent_keys
         WHERE tenant_id = $1 ORDER BY created_at, key_id",
    )
    .bind(tenant.to_string())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            Ok(ConsentKey {
                id: parsed(row, "key_id")?,
                kind: parsed(row, "kind")?,
                public_key: get(row, "public_key")?,
                label: get(row, "label")?,
                created_at: time(row, "created_at")?,
            })
        })
        .collect()
}

pub(super) async fn add_rule(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    rule: &Verified<StandingRule>,
    envelope: &str,
) -> Result<Outcome<KeptRule>, StoreError> {
    must_be_of(by, tenant)?;
    tx.hold("tenants", "id", &tenant.to_string()).await?;
    let keys = load::key_ring(&mut *tx.connection, tenant).await?;
    let nonce = rule.said().nonce;
    if count_in_force(tx, tenant).await? >= MOST_RULES {
        let reason = format!("{MOST_RULES} rules are in force already");
        record(tx, by, EventKind::StandingRuleRefused, tenant, nonce, &reason);
        return Ok(Outcome::refused(&reason, "withdraw those that nobody needs"));
    }
    let standing = match Standing::admit(rule.clone(), &keys, tx.now) {
        Ok(standing) => standing,
        Err(refusal) => {
            record(tx, by, EventKind::StandingRuleRefused, tenant, nonce, &refusal.to_string());
            return Ok(Outcome::refused(&refusal, refusal.help()));
        }
    };
    let kept = KeptRule { standing, envelope: envelope.to_owned(), created_at: tx.now };
    sqlx::query(
        "INSERT INTO standing_rules (tenant_id, nonce, record, envelope, created_at, ends_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(tenant.to_string())
    .bind(nonce.to_string())
    .bind(text(&kept.standing)?)
    .bind(envelope)
    .bind(tx.now.as_microsecond())
    .bind(ends_at(&kept.standing).as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("rule", &nonce))?;
    record(tx, by, EventKind::StandingRuleAdded, tenant, nonce, envelope);
    advance::wake_tenant(tx, tenant).await?;
    Ok(Outcome::Done(kept))
}

pub(super) async fn withdraw_rule(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    nonce: Nonce,
) -> Result<KeptRule, StoreError> {
    must_be_of(by, tenant)?;
    tx.hold("tenants", "id", &tenant.to_string()).await?;
    let row = sqlx::query(
        "SELECT record, envelope, created_at FROM standing_rules
         WHERE tenant_id = $1 AND nonce = $2",
    )
    .bind(tenant.to_string())
    .bind(nonce.to_string())
    .fetch_optional(&mut *tx.connection)
    .await?
    .ok_or_else(|| StoreError::not_found("rule", &nonce))?;
    let mut kept = read_rule(&row)?;
    if kept.standing.withdrawn().is_some() {
        return Ok(kept);
    }
    kept.standing = kept.standing.withdraw(tx.now);
    sqlx::query(
        "UPDATE standing_rules SET record = $1, ends_at = $2 WHERE tenant_id = $3 AND nonce = $4",
    )
    .bind(text(&kept.standing)?)
    .bind(ends_at(&kept.standing).as_microsecond())
    .bind(tenant.to_string())
    .bind(nonce.to_string())
    .execute(&mut *tx.connection)
    .await?;
    record(tx, by, EventKind::StandingRuleWithdrawn, tenant, nonce, "");
    advance::wake_tenant(tx, tenant).await?;
    Ok(kept)
}

pub(crate) async fn rules(
    connection: &mut AnyConnection,
    tenant: TenantId,
) -> Result<Vec<KeptRule>, StoreError> {
    let rows = sqlx::query(
        "SELECT record, envelope, created_at FROM standing_rules
         WHERE tenant_id = $1 ORDER BY created_at DESC, nonce DESC LIMIT $2",
    )
    .bind(tenant.to_string())
    .bind(MOST_LISTED)
    .fetch_all(connection)
    .await?;
    rows.iter().rev().map(read_rule).collect()
}

/// How many rules agree to something now or later.
async fn count_in_force(tx: &mut Tx<'_>, tenant: TenantId) -> Result<i64, StoreError> {
    learn_ends(tx, tenant).await?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS total FROM standing_rules WHERE tenant_id = $1 AND ends_at > $2",
    )
    .bind(tenant.to_string())
    .bind(tx.now.as_microsecond())
    .fetch_one(&mut *tx.connection)
    .await?;
    get(&row, "total")
}

/// Rules from before their ends were kept beside them.
async fn learn_ends(tx: &mut Tx<'_>, tenant: TenantId) -> Result<(), StoreError> {
    let rows = sqlx::query(
        "SELECT nonce, record FROM standing_rules WHERE tenant_id = $1 AND ends_at IS NULL",
    )
    .bind(tenant.to_string())
    .fetch_all(&mut *tx.connection)
    .await?;
    for row in &rows {
        let nonce: String = get(row, "nonce")?;
        sqlx::query("UPDATE standing_rules SET ends_at = $1 WHERE tenant_id = $2 AND nonce = $3")
            .bind(ends_at(&load::json::<Standing>(row, "record")?).as_microsecond())
            .bind(tenant.to_string())
            .bind(nonce)
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

/// From when on it agrees to nothing more.
fn ends_at(standing: &Standing) -> Timestamp {
    let signed = standing.rule().until;
    standing.withdrawn().map_or(signed, |withdrawn| withdrawn.min(signed))
}

fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    kind: EventKind,
    tenant: TenantId,
    nonce: Nonce,
    what: &str,
) {
    tx.record(NewEvent {
        tenant,
        kind,
        by: by.clone(),
        object: tenant.to_string(),
        version: 1,
        payload: json!({ "rule": nonce, "says": what }),
    });
}

fn read_rule(row: &AnyRow) -> Result<KeptRule, StoreError> {
    Ok(KeptRule {
        standing: load::json(row, "record")?,
        envelope: get(row, "envelope")?,
        created_at: time(row, "created_at")?,
    })
}
