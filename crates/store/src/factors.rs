//! What people prove with besides a password: codes that change with the time, codes for the day on
//! which those are lost, passkeys; and what is remembered between the halves of a ceremony.

use domain::cloud::{
    CeremonyId, EventKind, ExternalIdentityId, Name, PasskeyId, Role, SessionId, TenantId, UserId,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::AnyPool;
use sqlx::any::AnyRow;

use crate::access;
use crate::actor::Actor;
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::external;
use crate::people::{self, PasswordHash, User};
use crate::value::{get, parsed, time, time_or_none};
use crate::writer::Tx;

/// What somebody proved at sign-in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// The password alone.
    Password,
    /// Password and the code of a step of time, which is taken once.
    Totp {
        /// Steps of thirty seconds since 1970.
        step: i64,
    },
    /// Password and a recovery code, which is taken once.
    Recovery {
        /// SHA-256 of the code.
        hash: Vec<u8>,
    },
    /// A passkey, which asked for a PIN or a finger.
    Passkey {
        /// Which.
        id: PasskeyId,
        /// What changed about it, counter included.
        dynamic_state: Vec<u8>,
    },
    /// The word of an OpenID Connect provider.
    External {
        /// Who that is there.
        id: ExternalIdentityId,
        /// Whose word.
        issuer: String,
        /// Whether the provider says that it saw more than a password.
        is_strong: bool,
    },
}

impl Proof {
    /// Whether more than a password stands behind it.
    pub const fn is_strong(&self) -> bool {
        match self {
            Self::Password => false,
            Self::Totp { .. } | Self::Recovery { .. } | Self::Passkey { .. } => true,
            Self::External { is_strong, .. } => *is_strong,
        }
    }

    const fn word(&self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Totp { .. } => "totp",
            Self::Recovery { .. } => "recovery_code",
            Self::Passkey { .. } => "passkey",
            Self::External { .. } => "oidc",
        }
    }
}

/// What somebody can prove with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Factors {
    /// The sealed secret of the codes, and since when they are asked for; none while somebody only
    /// began.
    pub totp: Option<Totp>,
    /// Recovery codes that are left.
    pub recovery_codes: u64,
    /// Passkeys, the oldest first.
    pub passkeys: Vec<Passkey>,
}

/// Codes that change with the time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totp {
    /// The secret, sealed.
    pub sealed: Vec<u8>,
    /// Since when they are asked for; none until their holder has shown one.
    pub confirmed_at: Option<Timestamp>,
}

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passkey {
    /// Its id.
    pub id: PasskeyId,
    /// Whose.
    pub user: UserId,
    /// What its person calls it.
    pub name: Name,
    /// The authenticator's name for it.
    pub credential: Vec<u8>,
    /// Public key and what goes with it.
    pub static_state: Vec<u8>,
    /// Counter and what may change.
    pub dynamic_state: Vec<u8>,
    /// Since when.
    pub created_at: Timestamp,
    /// When it was last used.
    pub used_at: Option<Timestamp>,
}

/// A passkey that is to be.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// What its person calls it.
    pub name: Name,
    /// The authenticator's name for it.
    pub credential: Vec<u8>,
    /// Public key and what goes with it.
    pub static_state: Vec<u8>,
    /// Counter and what may change.
    pub dynamic_state: Vec<u8>,
}

/// What is remembered between the halves of a ceremony.
#[derive(Debug, Clone)]
pub struct Ceremony {
    /// Which one: the other half must be of the same kind.
    pub kind: &'static str,
    /// For whom; nobody yet, where it is a sign-in.
    pub user: Option<UserId>,
    /// What the other half needs.
    pub state: Vec<u8>,
}

/// How long the halves of a ceremony may be apart.
const CEREMONY: SignedDuration = SignedDuration::from_mins(5);

/// Most ceremonies that wait for their other half: anybody may begin one.
const MOST_CEREMONIES: i64 = 10_000;

/// Most passkeys of a person.
const MOST_PASSKEYS: usize = 20;

/// Uses a proof up, so that it counts once.
pub(crate) async fn spend(tx: &mut Tx<'_>, user: &User, proof: &Proof) -> Result<(), StoreError> {
    if !matches!(proof, Proof::External { .. }) {
        external::must_be_ours(tx, &user.id.to_string()).await?;
    }
    let id = user.id.to_string();
    let spent = match proof {
        Proof::Password => return Ok(()),
        Proof::Totp { step } => {
            sqlx::query(
                "UPDATE totp SET last_step = $1
                 WHERE user_id = $2 AND last_step < $1 AND confirmed_at IS NOT NULL",
            )
            .bind(*step)
            .bind(id)
            .execute(&mut *tx.connection)
            .await?
        }
        Proof::Recovery { hash } => {
            sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1 AND code_hash = $2")
                .bind(id)
                .bind(hash.clone())
                .execute(&mut *tx.connection)
                .await?
        }
        Proof::Passkey { id: passkey, dynamic_state } => sqlx::query(
            "UPDATE passkeys SET dynamic_state = $1, used_at = $2 WHERE id = $3 AND user_id = $4",
        )
        .bind(dynamic_state.clone())
        .bind(tx.now.as_microsecond())
        .bind(passkey.to_string())
        .bind(id)
        .execute(&mut *tx.connection)
        .await?,
        Proof::External { id: identity, .. } => {
            sqlx::query(
                "UPDATE external_identities SET used_at = $1 WHERE id = $2 AND user_id = $3",
            )
            .bind(tx.now.as_microsecond())
            .bind(identity.to_string())
            .bind(id)
            .execute(&mut *tx.connection)
            .await?
        }
    };
    if spent.rows_affected() == 0 {
        return Err(StoreError::Refused {
            reason: "this proof was used before, or is not there any more".to_owned(),
            help: "wait for the next code, or use another proof",
        });
    }
    Ok(())
}

/// What a record says of a sign-in.
pub(crate) fn told(user: &User, proof: &Proof) -> serde_json::Value {
    match proof {
        Proof::External { issuer, .. } => {
            json!({ "login": user.login, "proof": proof.word(), "issuer": issuer })
        }
        _ => json!({ "login": user.login, "proof": proof.word() }),
    }
}

pub(crate) async fn of(pool: &AnyPool, user: UserId) -> Result<Factors, StoreError> {
    let mut connection = pool.acquire().await?;
    let totp = sqlx::query("SELECT sealed, confirmed_at FROM totp WHERE user_id = $1")
        .bind(user.to_string())
        .fetch_optional(&mut *connection)
        .await?
        .map(|row| {
            Ok::<_, StoreError>(Totp {
                sealed: get(&row, "sealed")?,
                confirmed_at: time_or_none(&row, "confirmed_at")?,
            })
        })
        .transpose()?;
    let row = sqlx::query("SELECT COUNT(*) AS codes FROM recovery_codes WHERE user_id = $1")
        .bind(user.to_string())
        .fetch_one(&mut *connection)
        .await?;
    let codes: i64 = get(&row, "codes")?;
    let rows = sqlx::query(
        "SELECT id, user_id, name, credential, static_state, dynamic_state, created_at, used_at
         FROM passkeys WHERE user_id = $1 ORDER BY id",
    )
    .bind(user.to_string())
    .fetch_all(&mut *connection)
    .await?;
    let passkeys = rows.iter().map(read_passkey).collect::<Result<_, _>>()?;
    Ok(Factors { totp, recovery_codes: codes.unsigned_abs(), passkeys })
}

/// Keeps a secret whose holder has shown no code of it yet.
pub(crate) async fn begin_totp(
    tx: &mut Tx<'_>,
    by: &Actor,
    sealed: &[u8],
) -> Result<(), StoreError> {
    external::must_be_ours(tx, &by.id()).await?;
    let kept = sqlx::query(
        "INSERT INTO totp (user_id, tenant_id, sealed, created_at, confirmed_at, last_step)
         VALUES ($1, $2, $3, $4, NULL, 0)
         ON CONFLICT (user_id) DO UPDATE SET
             sealed = excluded.sealed, created_at = excluded.created_at
         WHERE totp.confirmed_at IS NULL",
    )
    .bind(by.id())
    .bind(by.tenant().to_string())
    .bind(sealed.to_vec())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if kept == 0 {
        return Err(StoreError::Refused {
            reason: "codes are set up already".to_owned(),
            help: "remove them first, then set them up anew",
        });
    }
    Ok(())
}

/// From now on codes are asked for. The session that showed one is strong; all others end.
pub(crate) async fn confirm_totp(
    tx: &mut Tx<'_>,
    by: &Actor,
    session: SessionId,
    step: i64,
    recovery: &[Vec<u8>],
) -> Result<(), StoreError> {
    let confirmed = sqlx::query(
        "UPDATE totp SET confirmed_at = $1, last_step = $2
         WHERE user_id = $3 AND confirmed_at IS NULL",
    )
    .bind(tx.now.as_microsecond())
    .bind(step)
    .bind(by.id())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if confirmed == 0 {
        return Err(StoreError::Refused {
            reason: "nothing waits to be confirmed".to_owned(),
            help: "begin again",
        });
    }
    replace_recovery_codes(tx, by, recovery).await?;
    strengthen(tx, by, session).await?;
    record(tx, by, EventKind::FactorAdded, json!({ "factor": "totp" }));
    Ok(())
}

pub(crate) async fn replace_recovery_codes(
    tx: &mut Tx<'_>,
    by: &Actor,
    hashes: &[Vec<u8>],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM recovery_codes WHERE user_id = $1")
        .bind(by.id())
        .execute(&mut *tx.connection)
        .await?;
    for hash in hashes {
        sqlx::query("INSERT INTO recovery_codes (user_id, code_hash) VALUES ($1, $2)")
            .bind(by.id())
            .bind(hash.clone())
            .execute(&mut *tx.connection)
            .await?;
    }
    Ok(())
}

pub(crate) async fn remove_totp(tx: &mut Tx<'_>, by: &Actor) -> Result<(), StoreError> {
    let removed = sqlx::query("DELETE FROM totp WHERE user_id = $1")
        .bind(by.id())
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    if removed == 0 {
        return Err(StoreError::not_found("second factor", &"totp"));
    }
    replace_recovery_codes(tx, by, &[]).await?;
    record(tx, by, EventKind::FactorRemoved, json!({ "factor": "totp" }));
    Ok(())
}

pub(crate) async fn add_passkey(
    tx: &mut Tx<'_>,
    by: &Actor,
    session: SessionId,
    new: &NewPasskey,
) -> Result<Passkey, StoreError> {
    let Actor::Person { user, tenant, .. } = *by else {
        return Err(StoreError::not_found("person", &by.id()));
    };
    external::must_be_ours(tx, &by.id()).await?;
    let row = sqlx::query("SELECT COUNT(*) AS passkeys FROM passkeys WHERE user_id = $1")
        .bind(user.to_string())
        .fetch_one(&mut *tx.connection)
        .await?;
    if usize::try_from(get::<i64>(&row, "passkeys")?).unwrap_or(usize::MAX) >= MOST_PASSKEYS {
        return Err(StoreError::Refused {
            reason: format!("{MOST_PASSKEYS} passkeys are enough"),
            help: "remove one that you do not use any more",
        });
    }
    let NewPasskey { name, credential, static_state, dynamic_state } = new.clone();
    let id = PasskeyId::new(tx.now, tx.random());
    sqlx::query(
        "INSERT INTO passkeys
         (id, tenant_id, user_id, name, credential, static_state, dynamic_state, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(id.to_string())
    .bind(tenant.to_string())
    .bind(user.to_string())
    .bind(name.as_str())
    .bind(credential.clone())
    .bind(static_state.clone())
    .bind(dynamic_state.clone())
    .bind(tx.now.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("passkey", &name))?;
    strengthen(tx, by, session).await?;
    record(
        tx,
        by,
        EventKind::FactorAdded,
        json!({ "factor": "passkey", "passkey": id, "name": name }),
    );
    let (created_at, used_at) = (tx.now, None);
    Ok(Passkey { id, user, name, credential, static_state, dynamic_state, created_at, used_at })
}

pub(crate) async fn remove_passkey(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: PasskeyId,
) -> Result<(), StoreError> {
    let removed = sqlx::query("DELETE FROM passkeys WHERE id = $1 AND user_id = $2")
        .bind(id.to_string())
        .bind(by.id())
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    if removed == 0 {
        return Err(StoreError::not_found("passkey", &id));
    }
    record(tx, by, EventKind::FactorRemoved, json!({ "factor": "passkey", "passkey": id }));
    Ok(())
}

/// The passkey that an authenticator names, with its person; disabled people are not found.
pub(crate) async fn passkey(
    pool: &AnyPool,
    credential: &[u8],
) -> Result<Option<(Passkey, User)>, StoreError> {
    let row = sqlx::query(
        "SELECT id, user_id, name, credential, static_state, dynamic_state, created_at, used_at
         FROM passkeys WHERE credential = $1",
    )
    .bind(credential.to_vec())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let passkey = read_passkey(&row)?;
    let user = people::get_one(pool, None, passkey.user).await?;
    Ok(user.disabled_at.is_none().then_some((passkey, user)))
}

/// Remembers the first half of a ceremony.
pub(crate) async fn begin(tx: &mut Tx<'_>, ceremony: &Ceremony) -> Result<CeremonyId, StoreError> {
    sqlx::query("DELETE FROM ceremonies WHERE expires_at <= $1")
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?;
    let row = sqlx::query("SELECT COUNT(*) AS waiting FROM ceremonies")
        .fetch_one(&mut *tx.connection)
        .await?;
    if get::<i64>(&row, "waiting")? >= MOST_CEREMONIES {
        return Err(StoreError::Busy);
    }
    let id = CeremonyId::new(tx.now, tx.random());
    sqlx::query(
        "INSERT INTO ceremonies (id, kind, user_id, state, expires_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(id.to_string())
    .bind(ceremony.kind)
    .bind(ceremony.user.map(|id| id.to_string()).unwrap_or_default())
    .bind(ceremony.state.clone())
    .bind((tx.now + CEREMONY).as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(id)
}

/// Takes what was remembered, which nobody can do a second time.
pub(crate) async fn take(
    tx: &mut Tx<'_>,
    id: CeremonyId,
    kind: &'static str,
    user: Option<UserId>,
) -> Result<Vec<u8>, StoreError> {
    let row = sqlx::query(
        "DELETE FROM ceremonies WHERE id = $1 AND kind = $2 AND user_id = $3 AND expires_at > $4
         RETURNING state",
    )
    .bind(id.to_string())
    .bind(kind)
    .bind(user.map(|id| id.to_string()).unwrap_or_default())
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    row.map_or_else(
        || {
            Err(StoreError::Refused {
                reason: "this was begun too long ago, or ended already".to_owned(),
                help: "begin again",
            })
        },
        |row| get(&row, "state"),
    )
}

/// Gives oneself another password; all other sessions end.
pub(crate) async fn set_own_password(
    tx: &mut Tx<'_>,
    by: &Actor,
    session: SessionId,
    password: &PasswordHash,
) -> Result<(), StoreError> {
    people::replace_password(tx, by, &by.id(), password).await?;
    access::end_other_sessions(tx, by, session).await
}

/// Gives somebody another password and takes all their factors, sessions and tokens.
pub(crate) async fn reset(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: UserId,
    password: &PasswordHash,
) -> Result<User, StoreError> {
    if by.id() == id.to_string() {
        return Err(StoreError::Refused {
            reason: "nobody resets themselves".to_owned(),
            help: "change your own password and factors on the page of your account",
        });
    }
    let person = people::within(tx, id).await?;
    if person.role == Role::TenantOwner {
        tx.hold("tenants", "id", &person.tenant.to_string()).await?;
        let reason = "the tenant has another owner, who can reset this one".to_owned();
        people::leave_to_owners(tx, by, person.tenant, Some(id), reason).await?;
    }
    let user = people::replace_password(tx, by, &id.to_string(), password).await?;
    for statement in [
        "DELETE FROM totp WHERE user_id = $1",
        "DELETE FROM recovery_codes WHERE user_id = $1",
        "DELETE FROM passkeys WHERE user_id = $1",
        "DELETE FROM external_identities WHERE user_id = $1",
    ] {
        sqlx::query(statement).bind(id.to_string()).execute(&mut *tx.connection).await?;
    }
    access::end_all(tx, id).await?;
    Ok(user)
}

/// A session that showed a second factor is strong; sessions that did not end.
async fn strengthen(tx: &mut Tx<'_>, by: &Actor, session: SessionId) -> Result<(), StoreError> {
    access::end_other_sessions(tx, by, session).await?;
    sqlx::query("UPDATE sessions SET is_strong = 1 WHERE id = $1 AND user_id = $2")
        .bind(session.to_string())
        .bind(by.id())
        .execute(&mut *tx.connection)
        .await?;
    Ok(())
}

fn record(tx: &mut Tx<'_>, by: &Actor, kind: EventKind, payload: serde_json::Value) {
    let tenant: TenantId = by.tenant();
    tx.record(NewEvent { tenant, kind, by: by.clone(), object: by.id(), version: 1, payload });
}

fn read_passkey(row: &AnyRow) -> Result<Passkey, StoreError> {
    Ok(Passkey {
        id: parsed(row, "id")?,
        user: parsed(row, "user_id")?,
        name: parsed(row, "name")?,
        credential: get(row, "credential")?,
        static_state: get(row, "static_state")?,
        dynamic_state: get(row, "dynamic_state")?,
        created_at: time(row, "created_at")?,
        used_at: time_or_none(row, "used_at")?,
    })
}
