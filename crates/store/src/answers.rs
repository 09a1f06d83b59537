//! Answers already given, by idempotency key (IETF draft `idempotency-key-header`): a request that
//! is sent again gets the first answer and has no second effect.

use jiff::SignedDuration;
use sha2::{Digest, Sha256};

use crate::actor::Actor;
use crate::error::StoreError;
use crate::value::get;
use crate::writer::Tx;

/// How long an answer is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(48);

/// A request's idempotency key with what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Once {
    key: String,
    request: [u8; 32],
}

impl Once {
    /// A key, and all that makes the request what it is (method, path, body).
    pub fn new(key: &str, request: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in request {
            hash.update(part.len().to_be_bytes());
            hash.update(part);
        }
        Self { key: key.to_owned(), request: hash.finalize().into() }
    }
}

/// The answer given before, if any.
pub(crate) async fn given(
    tx: &mut Tx<'_>,
    by: &Actor,
    once: &Once,
) -> Result<Option<String>, StoreError> {
    let row = sqlx::query(
        "SELECT request_hash, answer FROM answers
         WHERE user_id = $1 AND key = $2 AND expires_at > $3",
    )
    .bind(by.id())
    .bind(once.key.as_str())
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let request: Vec<u8> = get(&row, "request_hash")?;
    if request != once.request {
        return Err(StoreError::KeyReused { key: once.key.clone() });
    }
    Ok(Some(get(&row, "answer")?))
}

/// Keeps the answer, in the commit of what it answers.
pub(crate) async fn keep(
    tx: &mut Tx<'_>,
    by: &Actor,
    once: &Once,
    answer: &str,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO answers (tenant_id, user_id, key, request_hash, answer, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (user_id, key) DO UPDATE SET
             request_hash = excluded.request_hash, answer = excluded.answer,
             expires_at = excluded.expires_at",
    )
    .bind(by.tenant().to_string())
    .bind(by.id())
    .bind(once.key.as_str())
    .bind(once.request.to_vec())
    .bind(answer)
    .bind((tx.now + KEPT).as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

/// Forgets answers whose time is over.
pub(crate) async fn forget(tx: &mut Tx<'_>) -> Result<u64, StoreError> {
    let forgotten = sqlx::query("DELETE FROM answers WHERE expires_at <= $1")
        .bind(tx.now.as_microsecond())
        .execute(&mut *tx.connection)
        .await?
        .rows_affected();
    Ok(forgotten)
}
