//! Agents: who speaks for which configuration item, and how they joined.

use std::fmt;
use std::str::FromStr;

use domain::agent::Facts;
use domain::cloud::{
    AgentId, CiId, Class, EventKind, JoinTokenId, Name, PROVIDER, Side, TenantId, words,
};
use domain::fleet::SetDigest;
use domain::release::Health;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool};

use crate::access::Secret;
use crate::actor::Actor;
use crate::changes::advance;
use crate::cis::{self, Labels, NewCi};
use crate::error::StoreError;
use crate::event::NewEvent;
use crate::page::{Cursor, Page, PageRequest, range};
use crate::retrieval::TOLD_ONCE;
use crate::value::{get, parsed, parsed_or_none, time};
use crate::writer::Tx;
use crate::{Store, releases, tenants};

words! {
    /// Whether an agent is believed.
    AgentState {
        /// It is.
        Active = "active",
        /// Two hosts spoke as this agent: neither is believed.
        Quarantined = "quarantined",
        /// Somebody ended it.
        Revoked = "revoked",
        /// Another agent took its item over.
        Replaced = "replaced",
    }
}

/// SHA-256 over a key's `SubjectPublicKeyInfo`, which is who an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl From<[u8; 32]> for KeyHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SetDigest::from(self.0).fmt(f)
    }
}

impl FromStr for KeyHash {
    type Err = domain::fleet::InvalidDigest;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<SetDigest>().map(|digest| Self(*digest.as_bytes()))
    }
}

/// An agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its id.
    pub id: AgentId,
    /// Whose item it speaks for.
    pub tenant: TenantId,
    /// Which item.
    pub ci: CiId,
    /// Its key.
    pub key: KeyHash,
    /// Whether it is believed.
    pub state: AgentState,
    /// A lower bound of its count of reports.
    pub counter: u64,
    /// When it joined.
    pub joined_at: Timestamp,
    /// When it was last heard of, at the latest so many minutes ago.
    pub seen_at: Timestamp,
    /// Until when its certificate is good.
    pub expires_at: Timestamp,
    /// How often its host went back to a snapshot, and its count of reports with it.
    pub returns: i64,
    /// Raised by each alteration.
    pub version: i64,
}

/// An agent, and what is known of its item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownAgent {
    /// The agent.
    pub agent: Agent,
    /// What its item has installed.
    pub package_set: Option<SetDigest>,
    /// What its item runs.
    pub facts: Option<SetDigest>,
    /// What its item is configured by.
    pub files: Option<SetDigest>,
    /// The report that had the number at which it is known to be.
    pub last_report: Option<SetDigest>,
}

/// Up to where an item's configuration files are recorded.
#[derive(Debug, Clone, Copy)]
pub struct FilesNoted {
    /// The manifest that is recorded.
    pub digest: SetDigest,
    /// When the host saw it so.
    pub observed_at: Timestamp,
    /// Whether that is all of what the host saw.
    pub is_whole: bool,
}

/// A token for joining, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Its id.
    pub id: JoinTokenId,
    /// Whose agents it lets in.
    pub tenant: TenantId,
    /// The item to be taken over.
    pub ci: Option<CiId>,
    /// Until when it is good.
    pub expires_at: Timestamp,
    /// How often it may be used.
    pub uses: u32,
}

/// A token that is to be.
#[derive(Debug, Clone)]
pub struct NewJoinToken {
    /// Whose agents it lets in.
    pub tenant: TenantId,
    /// The item to be taken over; otherwise each use takes up a new one.
    pub ci: Option<CiId>,
    /// What new items are.
    pub class: Class,
    /// Labels of new items.
    pub labels: Labels,
    /// How often it may be used; once, where it is for one host.
    pub uses: u32,
    /// How long it is good.
    pub lifetime: SignedDuration,
}

/// Somebody who shows a token.
#[derive(Debug, Clone)]
pub struct Joining {
    /// The token.
    pub token: Secret,
    /// What a new item is to be called.
    pub name: Name,
    /// The key that it made.
    pub key: KeyHash,
    /// Until when its certificate will be good.
    pub expires_at: Timestamp,
}

/// How far an agent has come, from memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentSeen {
    /// Which agent.
    pub agent: AgentId,
    /// Its item.
    pub ci: CiId,
    /// The number of its last report.
    pub counter: u64,
    /// That report.
    pub report: Option<SetDigest>,
    /// When that came.
    pub at: Timestamp,
    /// How often its host had gone back to a snapshot by then.
    pub returns: i64,
}

/// Longest life of a token for joining.
const LONGEST_TOKEN: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Most uses of one token: for images and groups that scale by themselves.
const MOST_USES: u32 = 100_000;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, tenant_id, ci_id, key_hash, state, counter, joined_at, seen_at, expires_at,
                    returns, version
             FROM agents ",
            $rest
        )
    };
}

/// Agents.
impl Store {
    /// Makes a token for joining. Its secret is told this once.
    pub async fn create_join_token(
        &self,
        by: &Actor,
        new: NewJoinToken,
    ) -> Result<(JoinToken, Secret), StoreError> {
        self.write((by.clone(), new), |tx, (by, new)| Box::pin(create_token(tx, by, new))).await
    }

    /// Lets an agent in and spends a use of its token. Those that spoke for the same item before,
    /// the second part of the answer, are replaced.
    pub async fn join(&self, joining: Joining) -> Result<(Agent, Vec<Agent>), StoreError> {
        self.write(joining, |tx, joining| Box::pin(join(tx, joining))).await
    }

    /// The agents that the actor may see.
    pub async fn agents(&self, by: &Actor, page: &PageRequest) -> Result<Page<Agent>, StoreError> {
        list(&self.pool, by.scope(), page).await
    }

    /// One agent.
    pub async fn agent(&self, by: &Actor, id: AgentId) -> Result<Agent, StoreError> {
        find(&mut *self.pool.acquire().await?, by.scope(), id).await
    }

    /// The agent with a key, in whatever state, with what is known of its item.
    pub async fn agent_by_key(&self, key: KeyHash) -> Result<Option<KnownAgent>, StoreError> {
        let row = sqlx::query(
            "SELECT a.id, a.tenant_id, a.ci_id, a.key_hash, a.state, a.counter, a.joined_at,
                    a.seen_at, a.expires_at, a.returns, a.version, a.last_report,
                    s.digest AS package_set, f.digest AS facts, c.digest AS files
             FROM agents a
             LEFT JOIN systems s ON s.ci_id = a.ci_id
             LEFT JOIN ci_facts f ON f.ci_id = a.ci_id
             LEFT JOIN ci_files c ON c.ci_id = a.ci_id
             WHERE a.key_hash = $1",
        )
        .bind(key.to_string())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| {
            Ok(KnownAgent {
                agent: read(&row)?,
                package_set: parsed_or_none(&row, "package_set")?,
                facts: parsed_or_none(&row, "facts")?,
                files: parsed_or_none(&row, "files")?,
                last_report: parsed_or_none(&row, "last_report")?,
            })
        })
        .transpose()
    }

    /// The agents whose state was altered since an instant.
    pub async fn agents_altered_since(&self, since: Timestamp) -> Result<Vec<Agent>, StoreError> {
        let rows = sqlx::query(select!("WHERE altered_at >= $1 ORDER BY id"))
            .bind(since.as_microsecond())
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(read).collect()
    }

    /// Ends an agent: it is not let in any more.
    pub async fn revoke_agent(&self, by: &Actor, id: AgentId) -> Result<Agent, StoreError> {
        self.write(by.clone(), move |tx, by| {
            Box::pin(end(tx, by, id, AgentState::Revoked, "revoked"))
        })
        .await
    }

    /// Believes an agent no more, because two hosts speak as it. Recorded once.
    pub async fn quarantine_agent(
        &self,
        id: AgentId,
        reason: &'static str,
    ) -> Result<Agent, StoreError> {
        self.write((), move |tx, ()| {
            Box::pin(end(tx, &Actor::System, id, AgentState::Quarantined, reason))
        })
        .await
    }

    /// Which manifest of configuration files is recorded of an agent's item, and whether all of its files were
    /// ever told.
    pub async fn files_of(
        &self,
        by: &Actor,
        id: CiId,
    ) -> Result<Option<(SetDigest, bool)>, StoreError> {
        if !by.speaks_of(id) {
            return Err(StoreError::not_found("configuration item", &id));
        }
        let row = sqlx::query("SELECT digest, whole_at FROM ci_files WHERE ci_id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            Ok((parsed(&row, "digest")?, get::<Option<i64>>(&row, "whole_at")?.is_some()))
        })
        .transpose()
    }

    /// Notes up to which manifest an agent's files are recorded, and whether that is all of them: after they are.
    pub async fn note_files(
        &self,
        by: &Actor,
        id: CiId,
        noted: FilesNoted,
    ) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(note_files(tx, by, id, noted))).await
    }

    /// Records that the configuration files of an item are read, before they are: where somebody of the provider
    /// reads a tenant's. Within an hour it is told once for each reader and item.
    pub async fn tell_files_read(&self, by: &Actor, id: CiId) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(tell_files_read(tx, by, id))).await
    }

    /// Notes that an agent has a new certificate.
    pub async fn renew_agent(
        &self,
        by: &Actor,
        id: AgentId,
        expires_at: Timestamp,
    ) -> Result<Agent, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(renew(tx, by, id, expires_at))).await
    }

    /// Makes durable how far agents have come; nothing goes back.
    pub async fn note_agents(&self, seen: Vec<AgentSeen>) -> Result<(), StoreError> {
        self.write(seen, |tx, seen| Box::pin(note(tx, seen))).await
    }

    /// Keeps what a configuration item runs.
    pub async fn record_facts(&self, by: &Actor, ci: CiId, facts: Facts) -> Result<(), StoreError> {
        self.write((by.clone(), facts), move |tx, (by, facts)| {
            Box::pin(record_facts(tx, by, ci, facts))
        })
        .await
    }

    /// What a configuration item runs, and since when that is known.
    pub async fn facts(
        &self,
        by: &Actor,
        ci: CiId,
    ) -> Result<Option<(Facts, Timestamp)>, StoreError> {
        let ci = self.ci(by, ci).await?;
        let row = sqlx::query("SELECT facts, recorded_at FROM ci_facts WHERE ci_id = $1")
            .bind(ci.id.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| {
            let text: String = get(&row, "facts")?;
            let facts = serde_json::from_str(&text)
                .map_err(|error| StoreError::Corrupt { what: format!("facts: {error}") })?;
            Ok((facts, time(&row, "recorded_at")?))
        })
        .transpose()
    }
}

async fn create_token(
    tx: &mut Tx<'_>,
    by: &Actor,
    new: &NewJoinToken,
) -> Result<(JoinToken, Secret), StoreError> {
    tenants::must_exist(tx, by, new.tenant).await?;
    if new.lifetime <= SignedDuration::ZERO || new.lifetime > LONGEST_TOKEN {
        return Err(StoreError::Refused {
            reason: format!("a token for joining cannot live for {:#}", new.lifetime),
            help: "give it between a moment and 7 days",
        });
    }
    if new.uses == 0 || new.uses > MOST_USES || (new.ci.is_some() && new.uses != 1) {
        return Err(StoreError::Refused {
            reason: format!("a token cannot be used {} times", new.uses),
            help: "use it once for an item that there is, or up to 100000 times for new ones",
        });
    }
    if let Some(ci) = new.ci {
        let ci = cis::find(&mut *tx.connection, by.scope(), ci).await?;
        if ci.tenant != new.tenant {
            return Err(StoreError::not_found("configuration item", &ci.id));
        }
    }
    let secret = Secret::new("pwj_", tx.random());
    let token = JoinToken {
        id: JoinTokenId::new(tx.now, tx.random()),
        tenant: new.tenant,
        ci: new.ci,
        expires_at: tx.now + new.lifetime,
        uses: new.uses,
    };
    let labels = serde_json::to_string(&new.labels)
        .map_err(|error| StoreError::Corrupt { what: format!("labels: {error}") })?;
    sqlx::query(
        "INSERT INTO join_tokens
         (id, tenant_id, ci_id, class, labels, secret_hash, uses_left, created_by, created_at,
          expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    )
    .bind(token.id.to_string())
    .bind(new.tenant.to_string())
    .bind(new.ci.map(|ci| ci.to_string()))
    .bind(new.class.as_str())
    .bind(labels)
    .bind(secret.hash())
    .bind(i64::from(new.uses))
    .bind(by.id())
    .bind(tx.now.as_microsecond())
    .bind(token.expires_at.as_microsecond())
    .execute(&mut *tx.connection)
    .await?;
    tx.record(NewEvent {
        tenant: new.tenant,
        kind: EventKind::JoinTokenCreated,
        by: by.clone(),
        object: token.id.to_string(),
        version: 1,
        payload: json!({
            "ci": new.ci, "class": new.class, "uses": new.uses, "expires_at": token.expires_at,
        }),
    });
    Ok((token, secret))
}

async fn join(tx: &mut Tx<'_>, joining: &Joining) -> Result<(Agent, Vec<Agent>), StoreError> {
    let unknown = || StoreError::Refused {
        reason: "the token for joining is unknown, spent or expired".to_owned(),
        help: "ask for a new one: it is good for a short time, and for as many hosts as it says",
    };
    let row = sqlx::query(
        "UPDATE join_tokens SET uses_left = uses_left - 1
         WHERE secret_hash = $1 AND expires_at > $2 AND uses_left > 0
         RETURNING id, tenant_id, ci_id, class, labels",
    )
    .bind(joining.token.hash())
    .bind(tx.now.as_microsecond())
    .fetch_optional(&mut *tx.connection)
    .await?;
    let row = row.ok_or_else(unknown)?;
    let token: JoinTokenId = parsed(&row, "id")?;
    let tenant: TenantId = parsed(&row, "tenant_id")?;
    let ci = if let Some(id) = parsed_or_none::<CiId>(&row, "ci_id")? {
        cis::find(&mut *tx.connection, Some(tenant), id).await?.id
    } else {
        let labels: String = get(&row, "labels")?;
        let labels = serde_json::from_str(&labels)
            .map_err(|error| StoreError::Corrupt { what: format!("labels: {error}") })?;
        let (class, name) = (parsed(&row, "class")?, joining.name.clone());
        let new = NewCi { tenant, class, name, labels };
        cis::create(tx, &Actor::System, &new).await?.id
    };
    let before =
        sqlx::query(select!("WHERE ci_id = $1 AND state <> 'revoked' AND state <> 'replaced'"))
            .bind(ci.to_string())
            .fetch_all(&mut *tx.connection)
            .await?;
    let mut replaced = Vec::with_capacity(before.len());
    for row in &before {
        let (id, reason) = (read(row)?.id, "another agent joined");
        replaced.push(end(tx, &Actor::System, id, AgentState::Replaced, reason).await?);
    }
    let agent = Agent {
        id: AgentId::new(tx.now, tx.random()),
        tenant,
        ci,
        key: joining.key,
        state: AgentState::Active,
        counter: 0,
        joined_at: tx.now,
        seen_at: tx.now,
        expires_at: joining.expires_at,
        returns: 0,
        version: 1,
    };
    sqlx::query(
        "INSERT INTO agents
         (id, tenant_id, ci_id, key_hash, state, counter, joined_at, seen_at, expires_at,
          altered_at, version)
         VALUES ($1, $2, $3, $4, 'active', 0, $5, $5, $6, $5, 1)",
    )
    .bind(agent.id.to_string())
    .bind(tenant.to_string())
    .bind(ci.to_string())
    .bind(agent.key.to_string())
    .bind(tx.now.as_microsecond())
    .bind(agent.expires_at.as_microsecond())
    .execute(&mut *tx.connection)
    .await
    .map_err(StoreError::exists("agent with the key", &agent.key))?;
    tx.record(NewEvent {
        tenant,
        kind: EventKind::AgentJoined,
        by: Actor::Agent { agent: agent.id, tenant, ci },
        object: agent.id.to_string(),
        version: 1,
        payload: json!({ "ci": ci, "key_sha256": agent.key.to_string(), "token": token }),
    });
    Ok((agent, replaced))
}

/// Ends an agent; nothing happens where it has ended already.
async fn end(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: AgentId,
    state: AgentState,
    reason: &str,
) -> Result<Agent, StoreError> {
    let agent = find(&mut *tx.connection, by.scope(), id).await?;
    let has_ended = match agent.state {
        AgentState::Active => false,
        AgentState::Quarantined => state == AgentState::Quarantined,
        AgentState::Revoked | AgentState::Replaced => true,
    };
    if has_ended {
        return Ok(agent);
    }
    sqlx::query(
        "UPDATE agents SET state = $1, altered_at = $2, version = version + 1 WHERE id = $3",
    )
    .bind(state.as_str())
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    if state == AgentState::Quarantined {
        // What it said last may have been said by a copy: the item is unknown until it is told anew.
        sqlx::query("UPDATE systems SET seen_at = 0 WHERE ci_id = $1")
            .bind(agent.ci.to_string())
            .execute(&mut *tx.connection)
            .await?;
    }
    let after = Agent { state, version: agent.version + 1, ..agent };
    tx.record(NewEvent {
        tenant: after.tenant,
        kind: match state {
            AgentState::Quarantined => EventKind::AgentConflict,
            _ => EventKind::AgentRevoked,
        },
        by: by.clone(),
        object: id.to_string(),
        version: after.version,
        payload: json!({ "ci": after.ci, "state": state, "reason": reason }),
    });
    Ok(after)
}

async fn renew(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: AgentId,
    expires_at: Timestamp,
) -> Result<Agent, StoreError> {
    let agent = find(&mut *tx.connection, by.scope(), id).await?;
    sqlx::query(
        "UPDATE agents SET expires_at = $1, altered_at = $2, version = version + 1 WHERE id = $3",
    )
    .bind(expires_at.as_microsecond())
    .bind(tx.now.as_microsecond())
    .bind(id.to_string())
    .execute(&mut *tx.connection)
    .await?;
    let after = Agent { expires_at, version: agent.version + 1, ..agent };
    tx.record(NewEvent {
        tenant: after.tenant,
        kind: EventKind::AgentRenewed,
        by: by.clone(),
        object: id.to_string(),
        version: after.version,
        payload: json!({ "ci": after.ci, "expires_at": expires_at }),
    });
    Ok(after)
}

async fn note(tx: &mut Tx<'_>, seen: &[AgentSeen]) -> Result<(), StoreError> {
    for seen in seen {
        let counter = i64::try_from(seen.counter).unwrap_or(i64::MAX);
        sqlx::query(
            "UPDATE agents SET
                 last_report = CASE WHEN counter < $1 THEN $4 ELSE last_report END,
                 counter = CASE WHEN counter < $1 THEN $1 ELSE counter END,
                 seen_at = CASE WHEN seen_at < $2 THEN $2 ELSE seen_at END
             -- What was seen before its host went back says nothing of its count now.
             WHERE id = $3 AND returns = $5",
        )
        .bind(counter)
        .bind(seen.at.as_microsecond())
        .bind(seen.agent.to_string())
        .bind(seen.report.map(|report| report.to_string()))
        .bind(seen.returns)
        .execute(&mut *tx.connection)
        .await?;
        sqlx::query(
            "UPDATE systems SET seen_at = $1 WHERE ci_id = $2 AND seen_at < $1
                 AND EXISTS (SELECT 1 FROM agents WHERE id = $3 AND state = 'active')",
        )
        .bind(seen.at.as_microsecond())
        .bind(seen.ci.to_string())
        .bind(seen.agent.to_string())
        .execute(&mut *tx.connection)
        .await?;
    }
    Ok(())
}

async fn record_facts(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    facts: &Facts,
) -> Result<(), StoreError> {
    if !by.speaks_of(id) {
        return Err(StoreError::not_found("configuration item", &id));
    }
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    let corrupt = |error| StoreError::Corrupt { what: format!("facts: {error}") };
    let text = serde_json::to_string(facts).map_err(corrupt)?;
    let known = sqlx::query("SELECT facts FROM ci_facts WHERE ci_id = $1")
        .bind(id.to_string())
        .fetch_optional(&mut *tx.connection)
        .await?;
    let known: Option<Facts> = known
        .map(|row| serde_json::from_str(&get::<String>(&row, "facts")?).map_err(corrupt))
        .transpose()?;
    let restarted = known.as_ref().is_some_and(|known| facts.restarted_since(known));
    let health = facts.health();
    sqlx::query(
        "INSERT INTO ci_facts (ci_id, tenant_id, digest, recorded_at, facts, restarted_at, health)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (ci_id) DO UPDATE SET
             digest = excluded.digest, recorded_at = excluded.recorded_at, facts = excluded.facts,
             health = excluded.health,
             restarted_at = COALESCE(excluded.restarted_at, ci_facts.restarted_at)",
    )
    .bind(id.to_string())
    .bind(ci.tenant.to_string())
    .bind(facts.digest().to_string())
    .bind(tx.now.as_microsecond())
    .bind(text)
    .bind(restarted.then(|| tx.now.as_microsecond()))
    .bind(health.map(Health::as_str))
    .execute(&mut *tx.connection)
    .await?;
    let was = known.as_ref().and_then(Facts::health);
    if let Some(health) = health.filter(|now| was != Some(*now)) {
        // A host that always worked is no news to anybody.
        if health == Health::Sick || was.is_some() {
            let failing: Vec<_> =
                facts.probes.iter().filter(|probe| probe.failure.is_some()).collect();
            tx.record(NewEvent {
                tenant: ci.tenant,
                kind: EventKind::CiHealth,
                by: by.clone(),
                object: id.to_string(),
                version: ci.version,
                payload: json!({ "health": health, "failing": failing }),
            });
        }
        releases::looked(tx, id, health).await?;
    }
    if restarted {
        advance::wake_sources_of(tx, id).await?;
    }
    Ok(())
}

async fn tell_files_read(tx: &mut Tx<'_>, by: &Actor, id: CiId) -> Result<(), StoreError> {
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    let Actor::Person { role, .. } = by else { return Ok(()) };
    if role.side() != Side::Provider || ci.tenant == PROVIDER {
        return Ok(());
    }
    let told = sqlx::query(
        "INSERT INTO file_reads (reader, ci_id, told_at) VALUES ($1, $2, $3)
         ON CONFLICT (reader, ci_id) DO UPDATE SET told_at = excluded.told_at
         WHERE file_reads.told_at <= $4",
    )
    .bind(by.id())
    .bind(id.to_string())
    .bind(tx.now.as_microsecond())
    .bind((tx.now - TOLD_ONCE).as_microsecond())
    .execute(&mut *tx.connection)
    .await?
    .rows_affected();
    if told > 0 {
        tx.record(NewEvent {
            tenant: ci.tenant,
            kind: EventKind::FilesRead,
            by: by.clone(),
            object: id.to_string(),
            version: ci.version,
            payload: json!({ "until": tx.now + TOLD_ONCE }),
        });
    }
    Ok(())
}

async fn note_files(
    tx: &mut Tx<'_>,
    by: &Actor,
    id: CiId,
    FilesNoted { digest, observed_at, is_whole }: FilesNoted,
) -> Result<(), StoreError> {
    if !by.speaks_of(id) {
        return Err(StoreError::not_found("configuration item", &id));
    }
    let ci = cis::find(&mut *tx.connection, by.scope(), id).await?;
    sqlx::query(
        "INSERT INTO ci_files (ci_id, tenant_id, digest, observed_at, recorded_at, whole_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (ci_id) DO UPDATE SET digest = excluded.digest,
             observed_at = excluded.observed_at, recorded_at = excluded.recorded_at,
             whole_at = COALESCE(ci_files.whole_at, excluded.whole_at)",
    )
    .bind(id.to_string())
    .bind(ci.tenant.to_string())
    .bind(digest.to_string())
    .bind(observed_at.as_microsecond())
    .bind(tx.now.as_microsecond())
    .bind(is_whole.then(|| tx.now.as_microsecond()))
    .execute(&mut *tx.connection)
    .await?;
    Ok(())
}

pub(crate) async fn find(
    connection: &mut AnyConnection,
    scope: Option<TenantId>,
    id: AgentId,
) -> Result<Agent, StoreError> {
    let (low, high) = range(scope);
    let row = sqlx::query(select!("WHERE id = $1 AND tenant_id BETWEEN $2 AND $3"))
        .bind(id.to_string())
        .bind(low)
        .bind(high)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map_or_else(|| Err(StoreError::not_found("agent", &id)), read)
}

async fn list(
    pool: &AnyPool,
    scope: Option<TenantId>,
    request: &PageRequest,
) -> Result<Page<Agent>, StoreError> {
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
    let agents = rows.iter().map(read).collect::<Result<_, _>>()?;
    Ok(request.cut(agents, |agent: &Agent| Cursor::new(agent.tenant, agent.id)))
}

fn read(row: &AnyRow) -> Result<Agent, StoreError> {
    let counter: i64 = get(row, "counter")?;
    Ok(Agent {
        id: parsed(row, "id")?,
        tenant: parsed(row, "tenant_id")?,
        ci: parsed(row, "ci_id")?,
        key: parsed(row, "key_hash")?,
        state: parsed(row, "state")?,
        counter: counter.unsigned_abs(),
        joined_at: time(row, "joined_at")?,
        seen_at: time(row, "seen_at")?,
        expires_at: time(row, "expires_at")?,
        returns: get(row, "returns")?,
        version: get(row, "version")?,
    })
}
