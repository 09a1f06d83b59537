//! People, and what they sign in with.

use domain::cloud::{EventKind, Login, Name, Role, TenantId, UserId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::tenants;
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// A person with access.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Whose person it is.
    pub tenant: TenantId,
    /// What it signs in with.
    pub login: Login,
    /// For people.
    pub name: Name,
    /// What it may do.
    pub role: Role,
    /// Since when it may do nothing.
    pub disabled_at: Option<Timestamp>,
    /// Since when it has access.
    pub created_at: Timestamp,
    /// Raised by each alteration.
    pub version: i64,
}

/// A person who is to have access.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// Whose person it is.
    pub tenant: TenantId,
    /// What it will sign in with.
    pub login: Login,
    /// For people.
    pub name: Name,
    /// What it may do; of the side that the tenant is on.
    pub role: Role,
    /// Hash of its password in PHC's string form; none where it signs in elsewhere.
    pub password: Option<PasswordHash>,
}

/// The hash of a password, which never shows.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(pub String);

impl std::fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, login, name, role, password, disabled_at, created_at, version
             FROM users ",
            $rest
        )
    };
}

pub(crate) async fn create(tx: &mut Tx<'_>, by: &Actor, new: &NewUser) -> Result<User, StoreError> {
    let is_provider = new.tenant == domain::cloud::PROVIDER;
    if is_provider != (new.role.side() == domain::cloud::Side::Provider) {
        return Err(StoreError::Refused {
            reason: format!("the role {} is not one of that side's", new.role),
            help: "give the provider's people provider roles, and a tenant's people tenant roles",
        });
    }
    tenants::must_exist(tx, by, new.tenant).await?;
    if new.role == Role::TenantOwner {
        tx.hold("tenants", "id", &new.tenant.to_string()).await?;
        let reason = "the tenant has an owner: who is one beside them, they say".to_owned();
        leave_to_owners(tx, by, new.tenant, None, reason).await?;
    }
    let id = UserId::new(tx.now, tx.random());
    sqlx::query(
        "INSERT INTO users
         (id, tenant_id, login, name, role, password, disabled_at, created_at, version)
         VALUES ($1, $2, $3, $4, $5, $6, NULL, $7, 1)",
    )
    .bind(id.to_string())
    .bind(new.tenant.to_string())
    .bind(new.login.as_str())
    .bind(new.name.as_str())
    .bind(new.role.as_str())
    .bind(new.password.as_ref().map(|it| it.0.clone()))
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("user", &new.login))?;
    tx.record(NewEvent {
        tenant: new.tenant,
        kind: EventKind::UserCreated,
        by: by.clone(),
        object: id.to_string(),
        version: 1,
        payload: json!({ "login": new.login, "name": new.name, "role": new.role }),
    });
    Ok(User {
        id,
        tenant: new.tenant,
        login: new.login.clone(),
        name: new.name.clone(),
        role: new.role,
        disabled_at: None,
        created_at: tx.now,
        version: 1,
    })
}

/// Takes a person's access away.
pub(crate) async fn disable(tx: &mut Tx<'_>, by: &Actor, id: UserId) -> Result<User, StoreError> {
    if by.id() == id.to_string() {
        return Err(StoreError::Refused {
            reason: "nobody takes their own access away".to_owned(),
            help: "ask another administrator or owner: there is one left then",
        });
    }
    let (low, high) = range(by.scope());
    let row = sqlx::query(
        "UPDATE users SET disabled_at = COALESCE(disabled_at, $1), version = version + 1
         WHERE id = $2 AND tenant_id BETWEEN $3 AND $4
         RETURNING id, tenant_id, login, name, role, password, disabled_at, created_at, version",
    )
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .bind(low)
    .bind(high)
    .fetch_optional(&mut *tx.connection)
    .await?;
    let user = row.as_ref().map_or_else(|| Err(StoreError::not_found("user", &id)), read)?;
    tx.record(NewEvent {
        tenant: user.tenant,
        kind: EventKind::UserDisabled,
        by: by.clone(),
        object: id.to_string(),
        version: user.version,
        payload: json!({ "login": user.login }),
    });
    Ok(user)
}

/// Whoever makes or resets a tenant's owner can be that owner, and owners keep the keys that the tenant
/// signs with: the provider's people do so only where the tenant has no owner beside `except`.
pub(crate) async fn leave_to_owners(
    tx: &mut Tx<'_>,
    by: &Actor,
    tenant: TenantId,
    except: Option<UserId>,
    reason: String,
) -> Result<(), StoreError> {
    let is_of_provider = matches!(by, Actor::Person { .. }) && by.scope().is_none();
    if !is_of_provider {
        return Ok(());
    }
    let row = sqlx::query(
        "SELECT 1 AS one FROM users
         WHERE tenant_id = $1 AND role = $2 AND id <> $3 AND disabled_at IS NULL LIMIT 1",
    )
    .bind(tenant.to_string())
    .bind(Role::TenantOwner.as_str())
    .bind(except.map(|id| id.to_string()).unwrap_or_default())
    .fetch_optional(&mut *tx.connection)
    .await?;
    match row {
        None => Ok(()),
        Some(_) => Err(StoreError::Refused { reason, help: "ask an owner of the tenant to do it" }),
    }
}

/// Since when a person is what it is, by a way in that nobody else gave it since.
pub(crate) async fn steady_since(tx: &mut Tx<'_>, id: UserId) -> Result<Timestamp, StoreError> {
    let row =
        sqlx::query("SELECT COALESCE(steady_since, created_at) AS since FROM users WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *tx.connection)
            .await?;
    time(&row.ok_or_else(|| StoreError::not_found("user", &id))?, "since")
}

/// Gives the person with a login, or with an id, another password.
pub(crate) async fn replace_password(
    tx: &mut Tx<'_>,
    by: &Actor,
    who: &str,
    password: &PasswordHash,
) -> Result<User, StoreError> {
    let (low, high) = range(by.scope());
    let row = sqlx::query(
        "UPDATE users SET password = $1, version = version + 1,
             steady_since = CASE WHEN id = $5 THEN steady_since ELSE $6 END
         WHERE (login = $2 OR id = $2) AND tenant_id BETWEEN $3 AND $4 AND disabled_at IS NULL
         RETURNING id, tenant_id, login, name, role, password, disabled_at, created_at, version",
    )
    .bind(password.0.as_str())
    .bind(who)
    .bind(low)
    .bind(high)
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let user = row.as_ref().map_or_else(|| Err(StoreError::not_found("user", &who)), read)?;
    tx.record(NewEvent {
        tenant: user.tenant,
        kind: EventKind::UserAltered,
        by: by.clone(),
        object: user.id.to_string(),
        version: user.version,
        payload: json!({ "login": user.login, "password": "replaced" }),
    });
    Ok(user)
}

/// Gives a person the role that it has elsewhere; says nothing where it has it already.
pub(crate) async fn give_role(
    tx: &mut Tx<'_>,
    user: User,
    role: Role,
    issuer: &str,
) -> Result<User, StoreError> {
    if user.role == role {
        return Ok(user);
    }
    alter(tx, user.id, role, json!({ "login": user.login, "role": role, "issuer": issuer })).await
}

/// Records that a person has no role elsewhere any more.
pub(crate) async fn withdraw_role(
    tx: &mut Tx<'_>,
    user: &User,
    issuer: &str,
) -> Result<User, StoreError> {
    let payload = json!({ "login": user.login, "access": "withdrawn", "issuer": issuer });
    alter(tx, user.id, user.role, payload).await
}

async fn alter(
    tx: &mut Tx<'_>,
    id: UserId,
    role: Role,
    payload: serde_json::Value,
) -> Result<User, StoreError> {
    let row = sqlx::query(
        "UPDATE users SET role = $1, version = version + 1,
             steady_since = CASE WHEN role = $1 THEN steady_since ELSE $3 END
         WHERE id = $2
         RETURNING id, tenant_id, login, name, role, password, disabled_at, created_at, version",
    )
    .bind(role.as_str())
    .bind(id.to_string())
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let user = row.as_ref().map_or_else(|| Err(StoreError::not_found("user", &id)), read)?;
    tx.record(NewEvent {
        tenant: user.tenant,
        kind: EventKind::UserAltered,
        by: Actor::System,
        object: id.to_string(),
        version: user.version,
        payload,
    });
    Ok(user)
}

/// A person, within the transaction that decides about it.
pub(crate) async fn within(tx: &mut Tx<'_>, id: UserId) -> Result<User, StoreError> {
    let row = sqlx::query(select!("WHERE id = $1"))
        .bind(id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    row.as_ref().map_or_else(|| Err(StoreError::not_found("user", &id)), read)
}

pub(crate) async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    request: &PageRequest,
) -> Result<Page<User>, StoreError> {
    let (low, high) = range(scope);
    let (tenant, id) = request.place();
    let rows = sqlx::query(select!(
        "WHERE tenant_id BETWEEN $1 AND $2 AND (tenant_id, id) > ($3, $4)
         ORDER BY tenant_id, id LIMIT $5"
    ))
    .bind(low)
    .bind(high)
    .bind(tenant)
    .bind(id)
    .bind(request.fetched())
    .fetch_all(pool)
    .await?;
    let users = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(request.cut(users, |user: &User| Cursor::new(user.tenant, user.id)))
}

pub(crate) async fn get_one(
    pool: &AnyPool,
    scope: Option<TenantId>,
    id: UserId,
) -> Result<User, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(pool)
        .await?;
    row.as_ref().map_or_else(|| Err(StoreError::not_found("user", &id)), read)
}

/// The person who signs in so, with the hash of its password.
pub(crate) async fn by_login(
    pool: &AnyPool,
    login: &Login,
) -> Result<Option<(User, Option<PasswordHash>)>, StoreError> {
    let row =
        sqlx::query(select!("WHERE login = $1")).bind(login.as_str()).fetch_optional(pool).await?;
    row.map(|row| {
        let password: Option<String> = get(&row, "password")?;
        Ok((read(&row)?, password.map(PasswordHash)))
    })
    .transpose()
}

fn read(row: &AnyRow) -> Result<User, StoreError> {
    Ok(User {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        login: parsed(row, "login")?,
        name: parsed(row, "name")?,
        role: parsed(row, "role")?,
        disabled_at: time_or_none(row, "disabled_at")?,
        created_at: time(row, "created_at")?,
        version: get(row, "version")?,
    })
}
