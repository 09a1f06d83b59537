//! Who people are elsewhere: at OpenID Connect providers, by issuer and subject, never by name or
//! mail address, which are given to others in time.
//!
//! An identity is either *linked* to an account that is ours, as one more way in; or the account came
//! from the provider at its first sign-in and is *managed* there: then the provider gives the role at
//! each sign-in, takes it away, and there is no other way in.

use domain::cloud::{
    EventKind, ExternalIdentityId, Login, Name, Role, SessionId, TenantId, UserId,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use crate::access::{self, Secret};
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::factors::Proof;
use crate::people::{self, NewUser, User};
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// Most identities of a person.
const MOST_IDENTITIES: usize = 20;

/// How a provider names somebody: both together, compared byte by byte (OpenID Connect Core, 5.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalName {
    /// Who vouches.
    pub issuer: String,
    /// For whom, in the issuer's words.
    pub subject: String,
}

/// Who a person is elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalIdentity {
    /// Its id.
    pub id: ExternalIdentityId,
    /// Whose.
    pub user: UserId,
    /// As what there.
    pub name: ExternalName,
    /// Whether the account came from there.
    pub is_managed: bool,
    /// Since when.
    pub created_at: Timestamp,
    /// When somebody last signed in so.
    pub used_at: Option<Timestamp>,
}

/// Somebody whom a provider vouches for.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who.
    pub name: ExternalName,
    /// Whether the provider saw more than a password.
    pub is_strong: bool,
    /// Whose people alone may come by this provider.
    pub tenant: Option<TenantId>,
    /// What the provider says that they may be here.
    pub standing: Standing,
}

/// What a provider says that somebody may be here.
#[derive(Debug, Clone)]
pub enum Standing {
    /// It is not asked: accounts and roles are given here.
    NotAsked,
    /// Somebody with a role.
    Granted(Grant),
    /// Nobody.
    Withheld,
}

/// The account that somebody gets at the first sign-in, and the role at each.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Of which tenant.
    pub tenant: TenantId,
    /// As what.
    pub role: Role,
    /// What the account is called; only the first time.
    pub login: Login,
    /// For people; only the first time.
    pub name: Name,
}

/// What became of an arrival.
#[derive(Debug, Clone)]
pub enum Admission {
    /// A session is open.
    Opened(SessionId, Secret),
    /// Nobody here is known by that identity.
    Unknown,
    /// The person is of another tenant than those who come by this provider.
    NotTheirs,
    /// The person's access was taken away here.
    Disabled,
    /// The provider gives the person no role any more; its sessions and tokens have ended.
    Withdrawn,
}

pub(crate) async fn admit(
    tx: &mut Tx<'_>,
    arrival: &Arrival,
    lifetime: SignedDuration,
) -> Result<Admission, StoreError> {
    let Arrival { name, is_strong, tenant, standing } = arrival;
    let identity = match (find(tx, name).await?, standing) {
        (Some(identity), _) => identity,
        (None, Standing::Granted(grant)) => take_up(tx, grant, name).await?,
        (None, Standing::NotAsked | Standing::Withheld) => return Ok(Admission::Unknown),
    };
    let user = people::within(tx, identity.user).await?;
    if user.disabled_at.is_some() {
        return Ok(Admission::Disabled);
    }
    if tenant.is_some_and(|tenant| tenant != user.tenant) {
        return Ok(Admission::NotTheirs);
    }
    let user = match standing {
        _ if !identity.is_managed => user,
        Standing::Granted(grant) => people::give_role(tx, user, grant.role, &name.issuer).await?,
        Standing::NotAsked | Standing::Withheld => {
            people::withdraw_role(tx, &user, &name.issuer).await?;
            access::end_all(tx, user.id).await?;
            return Ok(Admission::Withdrawn);
        }
    };
    let (issuer, is_strong) = (name.issuer.clone(), *is_strong);
    let proof = Proof::External { id: identity.id, issuer, is_strong };
    let (session, secret) = access::open_session(tx, &user, &proof, lifetime).await?;
    Ok(Admission::Opened(session, secret))
}

/// Makes the account that a provider grants.
async fn take_up(
    tx: &mut Tx<'_>,
    grant: &Grant,
    name: &ExternalName,
) -> Result<ExternalIdentity, StoreError> {
    let Grant { tenant, role, login, name: called } = grant.clone();
    let new = NewUser { tenant, login, name: called, role, password: None };
    let by = Actor::System;
    let user = people::create(tx, &by, &new).await?;
    add(tx, &by, &user, name, true).await
}

pub(crate) async fn create_user(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewUser,
    name: &ExternalName,
) -> Result<User, StoreError> {
    let user = people::create(tx, by, new).await?;
    add(tx, by, &user, name, false).await?;
    Ok(user)
}

/// The session that asked must still be open: whoever signed out in between, or was signed out, gets
/// no new way in.
pub(crate) async fn link(
    tx: &mut Tx<'_>,
    user: UserId,
    session: SessionId,
    tenant: Option<TenantId>,
    name: &ExternalName,
) -> Result<ExternalIdentity, StoreError> {
    let asked =
        sqlx::query("SELECT id FROM sessions WHERE id = $1 AND user_id = $2 AND expires_at > $3")
            .bind(session.to_string())
            .bind(user.to_string())
            .bind(tx.now.as_microsecond())
            .fetch_optional(&mut *tx.connection)
            .await?;
    let user = people::within(tx, user).await?;
    if asked.is_none() || user.disabled_at.is_some() {
        return Err(StoreError::Refused {
            reason: "the session that asked for it has ended".to_owned(),
            help: "sign in, then link it again",
        });
    }
    if tenant.is_some_and(|tenant| tenant != user.tenant) {
        return Err(StoreError::Refused {
            reason: "this provider is for the people of another tenant".to_owned(),
            help: "ask whoever runs Patchwright which provider is yours",
        });
    }
    must_be_ours(tx, &user.id.to_string()).await?;
    let by = Actor::Person { user: user.id, tenant: user.tenant, role: user.role };
    add(tx, &by, &user, name, false).await
}

async fn add(
    tx: &mut Tx<'_>,
    by: &Actor,
    user: &User,
    name: &ExternalName,
    is_managed: bool,
) -> Result<ExternalIdentity, StoreError> {
    let row =
        sqlx::query("SELECT COUNT(*) AS identities FROM external_identities WHERE user_id = $1")
            .bind(user.id.to_string())
            .fetch_one(&mut *tx.connection)
            .await?;
    let known = usize::try_from(get::<i64>(&row, "identities")?).unwrap_or(usize::MAX);
    if known >= MOST_IDENTITIES {
        return Err(StoreError::Refused {
            reason: format!("{MOST_IDENTITIES} identities are enough"),
            help: "unlink one that you do not use any more",
        });
    }
    let id = ExternalIdentityId::new(tx.now, tx.random());
    let taken = |error: sqlx::Error| match StoreError::exists("identity", &name.subject)(error) {
        StoreError::Exists { .. } => StoreError::Refused {
            reason: "this identity is linked to an account already".to_owned(),
            help: "unlink it there first",
        },
        error => error,
    };
    sqlx::query(
        "INSERT INTO external_identities
         (id, tenant_id, user_id, issuer, subject, is_managed, created_at, used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)",
    )
    .bind(id.to_string())
    .bind(user.tenant.to_string())
    .bind(user.id.to_string())
    .bind(name.issuer.as_str())
    .bind(name.subject.as_str())
    .bind(i64::from(is_managed))
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(taken)?;
    record(tx, by, user, EventKind::FactorAdded, id, name);
    let (created_at, used_at) = (tx.now, None);
    Ok(ExternalIdentity { id, user: user.id, name: name.clone(), is_managed, created_at, used_at })
}

pub(crate) async fn unlink(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: ExternalIdentityId,
) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT id, user_id, issuer, subject, is_managed, created_at, used_at
         FROM external_identities WHERE id = $1 AND user_id = $2",
    )
    .bind(id.to_string())
    .bind(by.id())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let row = row.ok_or_else(|| StoreError::not_found("identity", &id))?;
    let identity = read(&row)?;
    must_be_ours(tx, &by.id()).await?;
    let row = sqlx::query(
        "SELECT COUNT(*) AS ways FROM (
             SELECT id FROM users WHERE id = $1 AND password IS NOT NULL
             UNION ALL SELECT id FROM passkeys WHERE user_id = $1
             UNION ALL SELECT id FROM external_identities WHERE user_id = $1 AND id <> $2
         ) AS ways",
    )
    .bind(by.id())
    .bind(id.to_string())
    .fetch_one(&mut *tx.connection)
    .await?;
    if get::<i64>(&row, "ways")? == 0 {
        return Err(StoreError::Refused {
            reason: "this is your only way in".to_owned(),
            help: "add a passkey or link another identity first",
        });
    }
    sqlx::query("DELETE FROM external_identities WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut *tx.connection)
        .await?;
    let user = people::within(tx, identity.user).await?;
    record(tx, by, &user, EventKind::FactorRemoved, id, &identity.name);
    Ok(())
}

/// Whoever could add another way in to an account that is managed elsewhere would outlast its end
/// there.
pub(crate) async fn must_be_ours(tx: &mut Tx<'_>, user: &str) -> Result<(), StoreError> {
    let row = sqlx::query(
        "SELECT issuer FROM external_identities WHERE user_id = $1 AND is_managed = 1 LIMIT 1",
    )
    .bind(user)
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(()) };
    let issuer: String = get(&row, "issuer")?;
    Err(StoreError::Refused {
        reason: format!("this account is managed at {issuer}, and signs in there alone"),
        help: "an administrator can make it one of ours with a reset",
    })
}

async fn find(
    tx: &mut Tx<'_>,
    name: &ExternalName,
) -> Result<Option<ExternalIdentity>, StoreError> {
    let row = sqlx::query(
        "SELECT id, user_id, issuer, subject, is_managed, created_at, used_at
         FROM external_identities WHERE issuer = $1 AND subject = $2",
    )
    .bind(name.issuer.as_str())
    .bind(name.subject.as_str())
    .fetch_optional(&mut *tx.connection)
    .await?;
    row.as_ref().map(read).transpose()
}

pub(crate) async fn of(pool: &AnyPool, user: UserId) -> Result<Vec<ExternalIdentity>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, user_id, issuer, subject, is_managed, created_at, used_at
         FROM external_identities WHERE user_id = $1 ORDER BY id",
    )
    .bind(user.to_string())
    .fetch_all(pool)
    .await?;
    rows.iter().map(read).collect()
}

fn record(
    tx: &mut Tx<'_>,
    by: &Actor,
    user: &User,
    kind: EventKind,
    id: ExternalIdentityId,
    name: &ExternalName,
) {
    let ExternalName { issuer, subject } = name;
    tx.record(NewEvent {
        tenant: user.tenant,
        kind,
        by: by.clone(),
        object: user.id.to_string(),
        version: 1,
        payload: json!({
            "factor": "oidc", "identity": id, "issuer": issuer, "subject": subject,
        }),
    });
}

fn read(row: &AnyRow) -> Result<ExternalIdentity, StoreError> {
    Ok(ExternalIdentity {
        id: parsed(row, "id")?,
        user: parsed(row, "user_id")?,
        name: ExternalName { issuer: get(row, "issuer")?, subject: get(row, "subject")? },
        is_managed: get::<i64>(row, "is_managed")? == 1,
        created_at: time(row, "created_at")?,
        used_at: time_or_none(row, "used_at")?,
    })
}
