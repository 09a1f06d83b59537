//! Sessions and API tokens: 32 random bytes for whoever holds them, their SHA-256 for us.

use std::fmt;

use domain::cloud::{
    Access, EventKind, Name, PROVIDER, Role, SessionId, TenantId, TokenId, UserId,
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::factors::{self, Proof};
use crate::page::{Cursor, Page, PageRequest, range};
use crate::people::User;
use crate::tenants;
use crate::value::{get, parsed, parsed_or_none, time, time_or_none};
use crate::writer::Tx;

/// What a session or token is shown as: to its holder once, to nobody again.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text to hand over.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Takes what a caller presents.
    pub fn presented(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub(crate) fn new(prefix: &str, bytes: [u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = prefix.to_owned();
        for byte in bytes {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// A fast hash will do: there is nothing to guess in 256 random bits.
    pub(crate) fn hash(&self) -> Vec<u8> {
        Sha256::digest(self.0.as_bytes()).to_vec()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// An API token, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Of whose person.
    pub tenant: TenantId,
    /// For whom it acts.
    pub user: UserId,
    /// What it is for, in its person's words.
    pub name: Name,
    /// What it may be used for.
    pub access: Access,
    /// Of which tenant it fetches the calendar and the feed, where that is all that it does.
    pub feed_of: Option<TenantId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// Since when it is not any more.
    pub revoked_at: Option<Timestamp>,
    /// When a feed was last fetched with it, to the hour.
    pub used_at: Option<Timestamp>,
}

/// A token that is to be.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for.
    pub name: Name,
    /// What it may be used for.
    pub access: Access,
    /// How long it is good.
    pub lifetime: SignedDuration,
    /// Whether whoever makes it proved more than a password; then so does the token.
    pub is_strong: bool,
}

/// A token that is to be, with which a tenant's calendar and feed are fetched, and nothing else.
#[derive(Debug, Clone)]
pub struct NewFeed {
    /// Whose.
    pub tenant: TenantId,
    /// What it is for: which program, on which machine.
    pub name: Name,
    /// How long it is good.
    pub lifetime: SignedDuration,
    /// Whether whoever makes it proved more than a password; then so does the token.
    pub is_strong: bool,
}

/// Whose things a verb may touch, within the actor's scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// The actor's own.
    Own,
    /// Those of everybody whom it may see.
    Anybodys,
}

impl Whose {
    /// The one user meant, or none for anybody.
    fn user(self, by: &Actor) -> String {
        match self {
            Self::Own => by.id(),
            Self::Anybodys => String::new(),
        }
    }
}

/// Who stands behind a session or a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Who acts.
    pub actor: Actor,
    /// Within which bounds.
    pub access: Access,
    /// Whether more than a password stands behind it.
    pub is_strong: bool,
    /// The session, where it is one.
    pub session: Option<SessionId>,
}

/// Longest life of a token.
const LONGEST_TOKEN: SignedDuration = SignedDuration::from_hours(366 * 24);

/// How often it is noted at most that a token is used.
const NOTED_ONCE: SignedDuration = SignedDuration::from_hours(1);

pub(crate) async fn open_session(
    tx: &mut Tx<'_>,
    user: &User,
    proof: &Proof,
    lifetime: SignedDuration,
) -> Result<(SessionId, Secret), StoreError> {
    factors::spend(tx, user, proof).await?;
    let id = SessionId::new(tx.now, tx.random());
    let secret = Secret::new("pws_", tx.random());
    sqlx::query(
        "INSERT INTO sessions
         (id, tenant_id, user_id, secret_hash, created_at, expires_at, is_strong)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(id.to_string())
    .bind(user.tenant.to_string())
    .bind(user.id.to_string())
    .bind(secret.hash())
    .bind(tx.now.as_microsecond())
    .bind((tx.now + lifetime).as_microsecond())
    .bind(i64::from(proof.is_strong()))
    .execute(&mut *tx.connection)
    .await?;
    tx.record(NewEvent {
        tenant: user.tenant,
        kind: EventKind::SessionOpened,
        by: Actor::Person { user: user.id, tenant: user.tenant, role: user.role },
        object: id.to_string(),
        version: 1,
        payload: factors::told(user, proof),
    });
    Ok((id, secret))
}

/// Records that whoever tried to sign in was not let in.
pub(crate) fn refuse_session(tx: &mut Tx<'_>, user: Option<&User>, reason: &str) {
    let (tenant, object, payload) = match user {
        Some(user) => {
            (user.tenant, user.id.to_string(), json!({ "login": user.login, "reason": reason }))
        }
        None => (PROVIDER, "nobody".to_owned(), json!({ "reason": reason })),
    };
    let version = user.map_or(1, |user| user.version);
    let kind = EventKind::SessionRefused;
    tx.record(NewEvent { tenant, kind, by: Actor::System, object, version, payload });
}

pub(crate) async fn close_session(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: SessionId,
) -> Result<(), StoreError> {
    let closed = sqlx::query("DELETE FROM sessions WHERE id = $1 AND user_id = $2")
        .bind(id.to_string())
        .bind(by.id())
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    if closed == 0 {
        return Err(StoreError::not_found("session", &id));
    }
    tx.record(NewEvent {
        tenant: by.tenant(),
        kind: EventKind::SessionClosed,
        by: by.clone(),
        object: id.to_string(),
        version: 2,
        payload: json!({}),
    });
    Ok(())
}

pub(crate) async fn create_token(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewToken,
) -> Result<(Token, Secret), StoreError> {
    create(tx, by, "pwt_", new, None).await
}

pub(crate) async fn create_feed(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewFeed,
) -> Result<(Token, Secret), StoreError> {
    tenants::must_exist(tx, by, new.tenant).await?;
    let NewFeed { tenant, ref name, lifetime, is_strong } = *new;
    let token = NewToken { name: name.clone(), access: Access::Read, lifetime, is_strong };
    create(tx, by, "pwf_", &token, Some(tenant)).await
}

async fn create(
    tx: &mut Tx<'_>,
    by: &Actor,
    prefix: &str,
    new: &NewToken,
    feed_of: Option<TenantId>,
) -> Result<(Token, Secret), StoreError> {
    let Actor::Person { user, tenant, .. } = *by else {
        return Err(StoreError::Refused {
            reason: "a token acts for a person".to_owned(),
            help: "sign in, then make the token",
        });
    };
    if new.lifetime <= SignedDuration::ZERO || new.lifetime > LONGEST_TOKEN {
        return Err(StoreError::Refused {
            reason: format!("a token cannot live for {:#}", new.lifetime),
            help: "give it between a moment and 366 days",
        });
    }
    let secret = Secret::new(prefix, tx.random());
    let token = Token {
        id: TokenId::new(tx.now, tx.random()),
        tenant,
        user,
        name: new.name.clone(),
        access: new.access,
        feed_of,
        created_at: tx.now,
        expires_at: tx.now + new.lifetime,
        revoked_at: None,
        used_at: None,
    };
    sqlx::query(
        "INSERT INTO tokens
         (id, tenant_id, user_id, name, access, secret_hash, created_at, expires_at, revoked_at,
          is_strong, feed_of)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, NULL, $9, $10)",
    )
    .bind(token.id.to_string())
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(token.name.as_str())
    .bind(token.access.as_str())
    .bind(secret.hash())
    .bind(token.created_at.as_microsecond())
    .bind(token.expires_at.as_microsecond())
    .bind(i64::from(new.is_strong))
    .bind(feed_of.map(|tenant| tenant.to_string()))
    .execute(&mut *tx.connection)
    .await?;
    let mut payload = json!({
        "name": token.name, "access": token.access, "expires_at": token.expires_at,
    });
    if let Some(tenant) = feed_of {
        payload["feed_of"] = json!(tenant);
    }
    tx.record(NewEvent {
        tenant,
        kind: EventKind::TokenCreated,
        by: by.clone(),
        object: token.id.to_string(),
        version: 1,
        payload,
    });
    Ok((token, secret))
}

/// Ends all sessions of a person.
pub(crate) async fn end_sessions(tx: &mut Tx<'_>, user: UserId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE user_id = $1")
        .bind(user.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Ends the sessions of a person other than the one that it acts in.
pub(crate) async fn end_other_sessions(
    tx: &mut Tx<'_>,
    by: &Actor,
    session: SessionId,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND id <> $2")
        .bind(by.id())
        .bind(session.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Ends all sessions and tokens of a person.
pub(crate) async fn end_all(tx: &mut Tx<'_>, user: UserId) -> Result<(), StoreError> {
    end_sessions(tx, user).await?;
    sqlx::query("UPDATE tokens SET revoked_at = COALESCE(revoked_at, $1) WHERE user_id = $2")
        .bind(tx.now.as_microsecond())
        .bind(user.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

/// Forgets sessions that have ended by themselves; says how many.
pub(crate) async fn forget_sessions(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let forgotten = sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    Ok(forgotten)
}

pub(crate) async fn revoke_token(
    tx: &mut Tx<'_>,
    by: &Actor,
    whose: Whose,
    id: TokenId,
) -> Result<Token, StoreError> {
    let (low, high) = range(by.scope());
    let row = sqlx::query(
        "UPDATE tokens SET revoked_at = $1
         WHERE id = $2 AND tenant_id BETWEEN $3 AND $4 AND ($5 = '' OR user_id = $5)
             AND revoked_at IS NULL
         RETURNING id, tenant_id, user_id, name, access, created_at, expires_at, revoked_at,
             feed_of, used_at",
    )
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .bind(whose.user(by))
    .fetch_optional(&mut *tx.connection)
    .await?;
    let token = row.as_ref().map_or_else(|| Err(StoreError::not_found("token", &id)), read)?;
    tx.record(NewEvent {
        tenant: token.tenant,
        kind: EventKind::TokenRevoked,
        by: by.clone(),
        object: id.to_string(),
        version: 2,
        payload: json!({ "name": token.name }),
    });
    Ok(token)
}

pub(crate) async fn tokens(
    pool: &AnyPool,
    by: &Actor,
    whose: Whose,
    request: &PageRequest,
) -> Result<Page<Token>, StoreError> {
    let (low, high) = range(by.scope());
    let (tenant, id) = request.place();
    let rows = sqlx::query(
        "SELECT id, tenant_id, user_id, name, access, created_at, expires_at, revoked_at, feed_of,
                used_at
         FROM tokens WHERE tenant_id BETWEEN $1 AND $2 AND (tenant_id, id) > ($3, $4)
             AND ($5 = '' OR user_id = $5)
         ORDER BY tenant_id, id LIMIT $6",
    )
    .bind(low)
    .bind(high)
    .bind(tenant)
    .bind(id)
    .bind(whose.user(by))
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let tokens = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(request.cut(tokens, |token: &Token| Cursor::new(token.tenant, token.id)))
}

/// Tokens that fetch a tenant's calendar and feed, and were not taken back, the oldest first.
pub(crate) async fn feeds(
    pool: &AnyPool,
    by: &Actor,
    whose: Whose,
    tenant: TenantId,
) -> Result<Vec<Token>, StoreError> {
    let (low, high) = range(by.scope());
    let rows = sqlx::query(
        "SELECT id, tenant_id, user_id, name, access, created_at, expires_at, revoked_at, feed_of,
                used_at
         FROM tokens WHERE tenant_id BETWEEN $1 AND $2 AND ($3 = '' OR user_id = $3)
             AND feed_of = $4 AND revoked_at IS NULL
         ORDER BY id LIMIT $5",
    )
    .bind(low)
    .bind(high)
    .bind(whose.user(by))
    .bind(tenant.to_string())
    .bind(i64::from(crate::page::LONGEST_PAGE))
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

/// Who stands behind a secret now; `None` where it is unknown, expired, revoked, or its person is
/// disabled.
pub(crate) async fn identify(
    pool: &AnyPool,
    secret: &Secret,
    now: Timestamp,
) -> Result<Option<Identity>, StoreError> {
    let row = sqlx::query(
        "SELECT u.id AS user_id, u.tenant_id, u.role, s.id AS session_id, 'write' AS access,
                s.is_strong
         FROM sessions s JOIN users u ON u.id = s.user_id
         WHERE s.secret_hash = $1 AND s.expires_at > $2 AND u.disabled_at IS NULL
         UNION ALL
         SELECT u.id, u.tenant_id, u.role, NULL, t.access, t.is_strong
         FROM tokens t JOIN users u ON u.id = t.user_id
         WHERE t.secret_hash = $1 AND t.expires_at > $2 AND t.revoked_at IS NULL
             AND t.feed_of IS NULL AND u.disabled_at IS NULL",
    )
    .bind(secret.hash())
    .bind(now.as_microsecond())
    .fetch_optional(pool)
    .await?;
    row.map(|row| Ok(Identity { session: parsed_or_none(&row, "session_id")?, ..person(&row)? }))
        .transpose()
}

/// Who fetches feeds with a secret, of which tenant, and whether that is to be noted; `None` where it
/// is unknown, expired, revoked, or its person is disabled.
pub(crate) async fn identify_feed(
    pool: &AnyPool,
    secret: &Secret,
    now: Timestamp,
) -> Result<Option<(Identity, TenantId, Option<TokenId>)>, StoreError> {
    let row = sqlx::query(
        "SELECT u.id AS user_id, u.tenant_id, u.role, t.id AS token_id, t.access, t.is_strong,
                t.feed_of, t.used_at
         FROM tokens t JOIN users u ON u.id = t.user_id
         WHERE t.secret_hash = $1 AND t.expires_at > $2 AND t.revoked_at IS NULL
             AND t.feed_of IS NOT NULL AND u.disabled_at IS NULL",
    )
    .bind(secret.hash())
    .bind(now.as_microsecond())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let is_noted = time_or_none(&row, "used_at")?.is_some_and(|at| now < at + NOTED_ONCE);
    let token = if is_noted { None } else { Some(parsed(&row, "token_id")?) };
    Ok(Some((person(&row)?, parsed(&row, "feed_of")?, token)))
}

/// Notes that a token was used.
pub(crate) async fn note_use(tx: &mut Tx<'_>, id: TokenId) -> Result<(), StoreError> {
    sqlx::query("UPDATE tokens SET used_at = $1 WHERE id = $2")
        .bind(tx.now.as_microsecond())
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

fn person(row: &AnyRow) -> Result<Identity, StoreError> {
    let role: Role = parsed(row, "role")?;
    Ok(Identity {
        actor: Actor::Person {
            user: parsed(row, "user_id")?,
            tenant: parsed(row, "tenant_id")?,
            role,
        },
        access: parsed(row, "access")?,
        is_strong: get::<i64>(row, "is_strong")? == 1,
        session: None,
    })
}

fn read(row: &AnyRow) -> Result<Token, StoreError> {
    Ok(Token {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        user: parsed(row, "user_id")?,
        name: parsed(row, "name")?,
        access: parsed(row, "access")?,
        created_at: time(row, "created_at")?,
        feed_of: parsed_or_none(row, "feed_of")?,
        expires_at: time(row, "expires_at")?,
        revoked_at: time_or_none(row, "revoked_at")?,
        used_at: time_or_none(row, "used_at")?,
    })
}
