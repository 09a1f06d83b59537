//! What Patchwright remembers, on SQLite or PostgreSQL behind one code path.
//!
//! Whoever alters the cloud calls a verb of [`Store`]; it is answered after the change and the
//! event that records it are durable, in one commit:
//!
//! ```text
//! verb ─► queue ─► writer: BEGIN, each request behind a savepoint, COMMIT ─► answers
//!                     state + event ──┘                                └─► sequence ─► ledger
//! ```
//!
//! - Requests that arrive together share a commit, because a sync costs more than hundreds of them.
//! - What an [`Actor`] may see is a range of tenants in each statement ([`Actor::scope`]).
//! - A request with an idempotency key ([`Once`]) has its effect once, however often it is sent.
//! - Time and randomness come through [`Environment`].
//!
//! # Failures
//! A refused request leaves no trace. On a full disk requests are refused and reads go on. After a
//! failed read or sync of the disk nothing is written any more until Patchwright starts again
//! ([`StoreError::Failed`]): a later sync that succeeds proves nothing about what was lost before.

mod access;
mod actor;
mod agents;
mod answers;
mod audits;
mod bakes;
mod baselines;
mod changes;
mod cis;
mod contents;
mod custody;
mod database;
mod devices;
mod environment;
mod error;
mod event;
mod external;
mod factors;
mod fleet;
mod groups;
mod history;
mod images;
mod jobs;
mod keys;
mod lease;
mod page;
mod people;
mod relations;
mod releases;
mod retrieval;
mod several;
mod sources;
mod tenants;
mod timeline;
mod value;
mod writer;

use std::sync::Arc;

use domain::cloud::{
    CeremonyId, CiId, EventKind, ExternalIdentityId, GroupId, Login, Name, PROVIDER, PasskeyId,
    SessionId, Slug, TenantId, TokenId, UserId,
};
use jiff::SignedDuration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::AnyPool;

pub use crate::history::{
    Across, BreakGlass, BreakGlassAlarm, BreakGlassFilter, BrokenFile, Cover, DRIFT, Difference,
    Drift, DriftAlarm, DriftAlarms, DriftCounts, DriftFilter, DriftGrade, DriftState, Erasure,
    FileVerdict, FileVersion, Fsck, Garbage, Happening, History, IntendedFile, Manifest, NewBatch,
    NewBreakGlass, NewFile, NewIntended, NewIntendedFile, NewState, Past, Placed, Recorded,
    ReleasedAlteration, Reviewed, SealRule, SealedPartition, Settlement, Telling, Versions,
};
pub use ::history::{
    Attribution, Directory as ObjectDirectory, FilePath, Metadata, Objects, State,
};
pub use access::{Identity, NewFeed, NewToken, Secret, Token, Whose};
pub use actor::Actor;
pub use agents::{
    Agent, AgentSeen, AgentState, FilesNoted, JoinToken, Joining, KeyHash, KnownAgent, NewJoinToken,
};
pub use answers::Once;
pub use audits::{Audit, AuditFacts, NewAudit};
pub use bakes::{Baking, Machines};
pub use baselines::{
    BaselineContent, BaselineKind, BaselineVersion, Binding, BindingFilter, HeldTo, KeptBaseline,
    KeptTo, LONGEST_WAIVER, ListedVersion, NewBaseline, NewBinding, NewWaiver, RuleWaiver, Target,
};
pub use changes::{
    Alarm, Alarms, Attempt, CLOCKS, ChangeCounts, ChangeStep, Channel, ChannelKind, ChannelRecord,
    ClockFilter, ClockRow, ClockStanding, ClockTotals, Consent, ConsentKey, Delivery,
    DeliveryState, Dispute, ErrandRecord, Excluded, HistoryFilter, InterruptionClaim, KeptRule,
    Matter, Move, NewChange, NewChannel, NewConsentKey, NoticeFilter, NoticeRow, Opening, Outcome,
    PastObligation, PolicyState, PolicyVersion, Subject, Tidings, Told, TrackedChange, Tried,
    Unopened, Unwoken, Waiting, Written,
};
pub use cis::{AgreedDuty, Ci, CiAlteration, CiFilter, ClassCounts, Labels, NewCi};
pub use custody::{Lapse, Restoration, Rotated};
pub use database::{Database, Engine};
pub use devices::{Device, DeviceSettings, HostKeyWish, Looked, NewDevice};
pub use environment::{Environment, SteadySystem, System};
pub use error::StoreError;
pub use event::Event;
use event::NewEvent;
pub use external::{Admission, Arrival, ExternalIdentity, ExternalName, Grant, Standing};
pub use factors::{Ceremony, Factors, NewPasskey, Passkey, Proof, Totp};
pub use fleet::{
    Acceptance, Advisory, AdvisoryDecision, AdvisoryState, Check, CheckTotals, Counts, Finding,
    FindingFilter, NewAcceptance, NewAdvisory, Observation, ObservedSystem, Patch, SetToCheck,
};
pub use groups::{Group, GroupAlteration, NewGroup, Selector};
pub use images::{Attestation, Image, ImageContent, ImageFilter, NewImage, NewVersion};
pub use jobs::{Conclusion, Job, JobEnd, JobKind, JobState, MOST_ATTEMPTS, NewJob};
pub use keys::{Key, MasterKey, MasterKeyError, Vault};
pub use lease::Lease;
pub use page::{Cursor, InvalidCursor, LONGEST_PAGE, Page, PageRequest};
pub use people::{NewUser, PasswordHash, User};
pub use relations::Relation;
pub use releases::{
    Answered, Fetched, Ground, Issued, Lacking, NewOrderKey, OrderFilter, OrderHandover, OrderKeys,
    OrderRow, Placement, Release, ReleaseRow, Snapshot, SnapshotAct, SnapshotFilter, SnapshotState,
    Unstepped, Verification, VerificationFilter, Verifier,
};
pub use retrieval::Retrieval;
pub use sources::{NewSource, Source, SourceLooked};
pub use tenants::{NewTenant, Tenant};
pub use timeline::{Affected, LONGEST_TIMELINE};
pub use writer::{is_rehearsal, rehearse};

use writer::{Change, Joint, Writer};

/// Connections that read; SQLite readers do not wait for its writer.
const READERS: u32 = 8;

/// The memory of an installation.
#[derive(Clone)]
pub struct Store {
    pool: AnyPool,
    /// The writers' own: what one of them keeps in memory is of use to its next transaction.
    writing: AnyPool,
    writer: Writer,
    environment: Arc<dyn Environment>,
    engine: Engine,
}

impl Store {
    /// Opens a database, brings its schema up to date and starts writing for it.
    ///
    /// # Errors
    /// If it cannot be reached, is damaged, or is a later Patchwright's.
    pub async fn open(
        database: &Database,
        environment: Arc<dyn Environment>,
    ) -> Result<Self, StoreError> {
        let engine = database.engine();
        let writers = u32::try_from(engine.writers()).unwrap_or(1);
        let writing = database.connect(writers, engine.of_writers()).await?;
        let mut connection = writing.acquire().await?;
        database::migrate(engine, &mut connection).await?;
        drop(connection);
        let pool = database.connect(READERS, &[]).await?;
        let writer = Writer::start(engine, &writing, &environment);
        Ok(Self { pool, writing, writer, environment, engine })
    }

    /// A key of the installation by its name, made when first asked for.
    ///
    /// # Errors
    /// If it was sealed under another master key.
    pub async fn key(
        &self,
        master: &Arc<MasterKey>,
        name: &'static str,
    ) -> Result<Key, StoreError> {
        self.write(Arc::clone(master), move |tx, master| Box::pin(keys::key(tx, master, name)))
            .await
    }

    /// The time and randomness that it lives by.
    pub fn environment(&self) -> &dyn Environment {
        &*self.environment
    }

    /// Why no change is taken any more, if so.
    pub fn failure(&self) -> Option<&str> {
        self.writer.failure()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Moves what was overwritten out of the write-ahead log, where the engine keeps one beside the file.
    /// While somebody reads it may be that not all of it goes; the next time, or whoever backs up, takes the rest. It is
    /// not waited for: nobody could write meanwhile.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        if self.engine == Engine::Sqlite {
            let text = "PRAGMA busy_timeout = 100; PRAGMA wal_checkpoint(TRUNCATE);
                PRAGMA busy_timeout = 10000";
            sqlx::raw_sql(text).execute(&self.pool).await?;
        }
        Ok(())
    }

    /// Closes all connections; changes that wait are answered first.
    pub async fn close(self) {
        drop(self.writer);
        self.writing.close().await;
        self.pool.close().await;
    }

    async fn write<A, T>(&self, arguments: A, change: impl Change<A, T>) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.writer.write(arguments, change).await
    }

    /// The same of a change that is made of several callers' arguments in one go.
    async fn write_jointly<A, T>(
        &self,
        arguments: A,
        change: impl Joint<A, T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Send + Sync + 'static,
    {
        self.writer.write_jointly(arguments, change).await
    }

    /// The same, but with the first answer given again to a request that is sent again.
    async fn write_once<A, T>(
        &self,
        by: &Actor,
        once: Option<Once>,
        arguments: A,
        change: impl Change<(Actor, A), T>,
    ) -> Result<T, StoreError>
    where
        A: Send + Sync + 'static,
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let arguments = (by.clone(), arguments);
        let Some(once) = once else { return self.write(arguments, change).await };
        self.write((arguments, once, change), |tx, (arguments, once, change)| {
            Box::pin(async move {
                let by = &arguments.0;
                let corrupt = |error: serde_json::Error| StoreError::Corrupt {
                    what: format!("a kept answer: {error}"),
                };
                if let Some(answer) = answers::given(tx, by, once).await? {
                    return serde_json::from_str(&answer).map_err(corrupt);
                }
                let value = change(tx, arguments).await?;
                let answer = serde_json::to_string(&value).map_err(corrupt)?;
                answers::keep(tx, by, once, &answer).await?;
                Ok(value)
            })
        })
        .await
    }
}

/// The installation and its tenants.
impl Store {
    /// Makes the provider and its first person, where there is none yet; says whether it did.
    ///
    /// # Errors
    /// As every verb: see [`StoreError`].
    pub async fn found(&self, provider: Name, first: NewUser) -> Result<bool, StoreError> {
        let founded = self
            .write((provider, first), |tx, (provider, first)| {
                Box::pin(async move {
                    if sqlx::query("SELECT 1 FROM tenants LIMIT 1")
                        .fetch_optional(&mut *tx.connection)
                        .await?
                        .is_some()
                    {
                        return Ok(false);
                    }
                    let new = NewTenant {
                        slug: "provider".parse().map_err(|error: domain::cloud::InvalidName| {
                            StoreError::Corrupt { what: error.to_string() }
                        })?,
                        name: provider.clone(),
                        model: domain::cloud::ServiceModel::Iaas,
                    };
                    tenants::create(tx, &Actor::System, Some(PROVIDER), &new).await?;
                    people::create(tx, &Actor::System, first).await?;
                    Ok(true)
                })
            })
            .await;
        match founded {
            // Another process was faster.
            Err(StoreError::Exists { .. }) => Ok(false),
            founded => founded,
        }
    }

    /// Takes up a tenant.
    pub async fn create_tenant(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewTenant,
    ) -> Result<Tenant, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(tenants::create(tx, by, None, new)))
            .await
    }

    /// The tenants that the actor may see.
    pub async fn tenants(
        &self,
        by: &Actor,
        page: &PageRequest,
    ) -> Result<Page<Tenant>, StoreError> {
        tenants::list(&self.pool, by.scope(), page).await
    }

    /// One tenant.
    pub async fn tenant(&self, by: &Actor, id: TenantId) -> Result<Tenant, StoreError> {
        tenants::get_one(&self.pool, by.scope(), id).await
    }

    /// The tenant with a short name.
    pub async fn tenant_by_slug(&self, by: &Actor, slug: &Slug) -> Result<Tenant, StoreError> {
        tenants::by_slug(&self.pool, by.scope(), slug).await
    }
}

/// People and what they sign in with.
impl Store {
    /// Gives a person access.
    pub async fn create_user(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewUser,
    ) -> Result<User, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(people::create(tx, by, new))).await
    }

    /// Takes a person's access away, sessions and tokens included.
    pub async fn disable_user(&self, by: &Actor, id: UserId) -> Result<User, StoreError> {
        self.write((by.clone(), id), |tx, (by, id)| {
            Box::pin(async move {
                let user = people::disable(tx, by, *id).await?;
                access::end_all(tx, *id).await?;
                Ok(user)
            })
        })
        .await
    }

    /// The people whom the actor may see.
    pub async fn users(&self, by: &Actor, page: &PageRequest) -> Result<Page<User>, StoreError> {
        people::list(&self.pool, by.scope(), page).await
    }

    /// One person.
    pub async fn user(&self, by: &Actor, id: UserId) -> Result<User, StoreError> {
        people::get_one(&self.pool, by.scope(), id).await
    }

    /// Who signs in so, for comparing the password; disabled people are not found.
    pub async fn user_by_login(
        &self,
        login: &Login,
    ) -> Result<Option<(User, Option<PasswordHash>)>, StoreError> {
        let found = people::by_login(&self.pool, login).await?;
        Ok(found.filter(|(user, _)| user.disabled_at.is_none()))
    }

    /// Opens a session for somebody who has proven who they are.
    pub async fn open_session(
        &self,
        user: User,
        proof: Proof,
        lifetime: SignedDuration,
    ) -> Result<(SessionId, Secret), StoreError> {
        self.write((user, proof), move |tx, (user, proof)| {
            Box::pin(access::open_session(tx, user, proof, lifetime))
        })
        .await
    }

    /// Records that somebody was not let in: of the person whose login was given, or of nobody where
    /// there is none. What was typed is not kept: it may be a password.
    pub async fn record_refused_session(
        &self,
        user: Option<User>,
        reason: &'static str,
    ) -> Result<(), StoreError> {
        self.write(user, move |tx, user| {
            Box::pin(async move {
                access::refuse_session(tx, user.as_ref(), reason);
                Ok(())
            })
        })
        .await
    }

    /// What a person can prove with.
    pub async fn factors(&self, user: UserId) -> Result<Factors, StoreError> {
        factors::of(&self.pool, user).await
    }

    /// Keeps the sealed secret of codes for oneself; none are asked for before one was shown.
    pub async fn begin_totp(&self, by: &Actor, sealed: Vec<u8>) -> Result<(), StoreError> {
        self.write((by.clone(), sealed), |tx, (by, sealed)| {
            Box::pin(factors::begin_totp(tx, by, sealed))
        })
        .await
    }

    /// From now on codes are asked for at sign-in. `recovery` are hashes of recovery codes.
    pub async fn confirm_totp(
        &self,
        by: &Actor,
        session: SessionId,
        step: i64,
        recovery: Vec<Vec<u8>>,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), recovery), move |tx, (by, recovery)| {
            Box::pin(factors::confirm_totp(tx, by, session, step, recovery))
        })
        .await
    }

    /// Gives up one's codes, recovery codes too.
    pub async fn remove_totp(&self, by: &Actor) -> Result<(), StoreError> {
        self.write(by.clone(), |tx, by| Box::pin(factors::remove_totp(tx, by))).await
    }

    /// Adds a passkey of one's own.
    pub async fn add_passkey(
        &self,
        by: &Actor,
        session: SessionId,
        new: NewPasskey,
    ) -> Result<Passkey, StoreError> {
        self.write((by.clone(), new), move |tx, (by, new)| {
            Box::pin(factors::add_passkey(tx, by, session, new))
        })
        .await
    }

    /// Gives up a passkey of one's own.
    pub async fn remove_passkey(&self, by: &Actor, id: PasskeyId) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(factors::remove_passkey(tx, by, id))).await
    }

    /// The passkey that an authenticator names, with its person; disabled people are not found.
    pub async fn passkey(&self, credential: &[u8]) -> Result<Option<(Passkey, User)>, StoreError> {
        factors::passkey(&self.pool, credential).await
    }

    /// Gives access to a person who signs in elsewhere, by an identity there.
    pub async fn create_external_user(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewUser,
        name: ExternalName,
    ) -> Result<User, StoreError> {
        self.write_once(by, once, (new, name), |tx, (by, (new, name))| {
            Box::pin(external::create_user(tx, by, new, name))
        })
        .await
    }

    /// Lets somebody in whom a provider vouches for, or says why not.
    pub async fn admit(
        &self,
        arrival: Arrival,
        lifetime: SignedDuration,
    ) -> Result<Admission, StoreError> {
        self.write(arrival, move |tx, arrival| Box::pin(external::admit(tx, arrival, lifetime)))
            .await
    }

    /// Links an identity elsewhere to the person of a session that is still open.
    pub async fn link_identity(
        &self,
        user: UserId,
        session: SessionId,
        tenant: Option<TenantId>,
        name: ExternalName,
    ) -> Result<ExternalIdentity, StoreError> {
        self.write(name, move |tx, name| Box::pin(external::link(tx, user, session, tenant, name)))
            .await
    }

    /// Gives up an identity of one's own elsewhere.
    pub async fn unlink_identity(
        &self,
        by: &Actor,
        id: ExternalIdentityId,
    ) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(external::unlink(tx, by, id))).await
    }

    /// Who a person is elsewhere, the oldest first.
    pub async fn identities(&self, user: UserId) -> Result<Vec<ExternalIdentity>, StoreError> {
        external::of(&self.pool, user).await
    }

    /// Remembers the first half of a ceremony for five minutes.
    pub async fn begin_ceremony(&self, ceremony: Ceremony) -> Result<CeremonyId, StoreError> {
        self.write(ceremony, |tx, ceremony| Box::pin(factors::begin(tx, ceremony))).await
    }

    /// Takes what was remembered of a ceremony; nobody can a second time.
    pub async fn take_ceremony(
        &self,
        id: CeremonyId,
        kind: &'static str,
        user: Option<UserId>,
    ) -> Result<Vec<u8>, StoreError> {
        self.write((), move |tx, ()| Box::pin(factors::take(tx, id, kind, user))).await
    }

    /// Gives oneself another password; all other sessions end.
    pub async fn set_own_password(
        &self,
        by: &Actor,
        session: SessionId,
        password: PasswordHash,
    ) -> Result<(), StoreError> {
        self.write((by.clone(), password), move |tx, (by, password)| {
            Box::pin(factors::set_own_password(tx, by, session, password))
        })
        .await
    }

    /// Gives somebody another password and takes all their factors, sessions and tokens.
    pub async fn reset_user(
        &self,
        by: &Actor,
        id: UserId,
        password: PasswordHash,
    ) -> Result<User, StoreError> {
        self.write((by.clone(), password), move |tx, (by, password)| {
            Box::pin(factors::reset(tx, by, id, password))
        })
        .await
    }

    /// Ends one's own session.
    pub async fn close_session(&self, by: &Actor, id: SessionId) -> Result<(), StoreError> {
        self.write((by.clone(), id), |tx, (by, id)| Box::pin(access::close_session(tx, by, *id)))
            .await
    }

    /// Makes an API token that acts for the actor. Its secret is told this once.
    pub async fn create_token(
        &self,
        by: &Actor,
        new: NewToken,
    ) -> Result<(Token, Secret), StoreError> {
        self.write((by.clone(), new), |tx, (by, new)| Box::pin(access::create_token(tx, by, new)))
            .await
    }

    /// Makes a token with which a tenant's calendar and feed are fetched for the actor, and nothing
    /// else. Its secret is told this once.
    pub async fn create_feed(
        &self,
        by: &Actor,
        new: NewFeed,
    ) -> Result<(Token, Secret), StoreError> {
        self.write((by.clone(), new), |tx, (by, new)| Box::pin(access::create_feed(tx, by, new)))
            .await
    }

    /// Tokens with which a tenant's calendar and feed are fetched now.
    pub async fn feeds(
        &self,
        by: &Actor,
        whose: Whose,
        tenant: TenantId,
    ) -> Result<Vec<Token>, StoreError> {
        access::feeds(&self.pool, by, whose, tenant).await
    }

    /// Takes an API token back.
    pub async fn revoke_token(
        &self,
        by: &Actor,
        whose: Whose,
        id: TokenId,
    ) -> Result<Token, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(access::revoke_token(tx, by, whose, id)))
            .await
    }

    /// The actor's tokens, or those of everybody whom it may see.
    pub async fn tokens(
        &self,
        by: &Actor,
        whose: Whose,
        page: &PageRequest,
    ) -> Result<Page<Token>, StoreError> {
        access::tokens(&self.pool, by, whose, page).await
    }

    /// Who stands behind a secret now, if anybody.
    pub async fn identify(&self, secret: &Secret) -> Result<Option<Identity>, StoreError> {
        access::identify(&self.pool, secret, self.environment.now()).await
    }

    /// Who fetches feeds with a secret now, and of which tenant alone. That it is used is noted.
    pub async fn identify_feed(
        &self,
        secret: &Secret,
    ) -> Result<Option<(Identity, TenantId)>, StoreError> {
        let found = access::identify_feed(&self.pool, secret, self.environment.now()).await?;
        let Some((identity, tenant, to_note)) = found else { return Ok(None) };
        if let Some(id) = to_note {
            // A feed is fetched also where that cannot be noted, as on a full disk.
            let _ = self.write((), move |tx, ()| Box::pin(access::note_use(tx, id))).await;
        }
        Ok(Some((identity, tenant)))
    }
}

/// Configuration items.
impl Store {
    /// Takes up a configuration item.
    pub async fn create_ci(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewCi,
    ) -> Result<Ci, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(cis::create(tx, by, new))).await
    }

    /// Takes up several configuration items, or none of them.
    pub async fn create_cis(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: Vec<NewCi>,
    ) -> Result<Vec<Ci>, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| {
            Box::pin(async move {
                let mut created = Vec::with_capacity(new.len());
                for new in new {
                    created.push(cis::create(tx, by, new).await?);
                }
                Ok(created)
            })
        })
        .await
    }

    /// Alters a configuration item; with `expected`, only if it is still at that version.
    pub async fn alter_ci(
        &self,
        by: &Actor,
        id: CiId,
        expected: Option<i64>,
        alteration: CiAlteration,
    ) -> Result<Ci, StoreError> {
        self.write((by.clone(), alteration), move |tx, (by, alteration)| {
            Box::pin(cis::alter(tx, by, id, expected, alteration))
        })
        .await
    }

    /// Takes a configuration item out of the cloud; with `expected`, only if it is still at that
    /// version.
    pub async fn retire_ci(
        &self,
        by: &Actor,
        id: CiId,
        expected: Option<i64>,
    ) -> Result<Ci, StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(cis::retire(tx, by, id, expected))).await
    }

    /// The configuration items that the actor may see.
    pub async fn cis(
        &self,
        by: &Actor,
        filter: &CiFilter,
        page: &PageRequest,
    ) -> Result<Page<Ci>, StoreError> {
        cis::list(&self.pool, by.scope(), filter, page).await
    }

    /// One configuration item.
    pub async fn ci(&self, by: &Actor, id: CiId) -> Result<Ci, StoreError> {
        cis::get_one(&self.pool, by.scope(), id).await
    }

    /// How many configuration items the actor may see, by class.
    pub async fn ci_counts(&self, by: &Actor) -> Result<ClassCounts, StoreError> {
        cis::counts(&self.pool, by.scope()).await
    }

    /// Makes a group of configuration items.
    pub async fn create_group(
        &self,
        by: &Actor,
        once: Option<Once>,
        new: NewGroup,
    ) -> Result<Group, StoreError> {
        self.write_once(by, once, new, |tx, (by, new)| Box::pin(groups::create(tx, by, new))).await
    }

    /// Alters a group; with `expected`, only if it is still at that version.
    pub async fn alter_group(
        &self,
        by: &Actor,
        id: GroupId,
        expected: Option<i64>,
        alteration: GroupAlteration,
    ) -> Result<Group, StoreError> {
        self.write((by.clone(), alteration), move |tx, (by, alteration)| {
            Box::pin(groups::alter(tx, by, id, expected, alteration))
        })
        .await
    }

    /// Dissolves a group, its items stay; with `expected`, only if it is still at that version.
    pub async fn dissolve_group(
        &self,
        by: &Actor,
        id: GroupId,
        expected: Option<i64>,
    ) -> Result<(), StoreError> {
        self.write(by.clone(), move |tx, by| Box::pin(groups::delete(tx, by, id, expected))).await
    }

    /// The groups that the actor may see.
    pub async fn groups(&self, by: &Actor, page: &PageRequest) -> Result<Page<Group>, StoreError> {
        groups::list(&self.pool, by.scope(), page).await
    }

    /// One group.
    pub async fn group(&self, by: &Actor, id: GroupId) -> Result<Group, StoreError> {
        groups::get_one(&self.pool, by.scope(), id).await
    }

    /// Relates two configuration items; nothing happens where they are already.
    pub async fn relate(&self, by: &Actor, relation: Relation) -> Result<(), StoreError> {
        self.write((by.clone(), relation), |tx, (by, relation)| {
            Box::pin(relations::relate(tx, by, relation))
        })
        .await
    }

    /// Ends a relation.
    pub async fn unrelate(&self, by: &Actor, relation: Relation) -> Result<(), StoreError> {
        self.write((by.clone(), relation), |tx, (by, relation)| {
            Box::pin(relations::unrelate(tx, by, relation))
        })
        .await
    }

    /// All relations that the actor may see.
    pub async fn all_relations(
        &self,
        by: &Actor,
        page: &PageRequest,
    ) -> Result<Page<Relation>, StoreError> {
        relations::list(&self.pool, by.scope(), page).await
    }

    /// The relations of a configuration item that the actor may see.
    pub async fn relations(&self, by: &Actor, id: CiId) -> Result<Vec<Relation>, StoreError> {
        let ci = self.ci(by, id).await?;
        relations::of(&self.pool, by.scope(), ci.id).await
    }
}

/// Events and background work.
impl Store {
    /// Gives events that wait their places in the ledger, at most so many; says how many.
    pub async fn sequence_events(&self, at_most: u32) -> Result<u64, StoreError> {
        self.write((), move |tx, ()| Box::pin(event::sequence(tx, i64::from(at_most)))).await
    }

    /// Whether an event waits for its place in the ledger.
    pub async fn has_waiting_events(&self) -> Result<bool, StoreError> {
        event::is_waiting(&self.pool).await
    }

    /// The events from a place in the ledger on, at most so many.
    pub async fn sequenced_events(
        &self,
        from: u64,
        at_most: u32,
    ) -> Result<Vec<Event>, StoreError> {
        event::list(&self.pool, None, from, i64::from(at_most)).await
    }

    /// The recorded events that the actor may see, from a place in the ledger on, oldest first. That
    /// they are read is recorded before they are given, where the rules of [`Retrieval`] ask for it.
    pub async fn events(
        &self,
        by: &Actor,
        retrieval: Retrieval,
        from: u64,
        at_most: u32,
    ) -> Result<Vec<Event>, StoreError> {
        let events = event::list(&self.pool, by.scope(), from, i64::from(at_most)).await?;
        self.tell(by, retrieval, &events).await?;
        Ok(events)
    }

    /// The event at a place in the ledger, if the actor may see it. That it is read is recorded first.
    pub async fn event(&self, by: &Actor, place: u64) -> Result<Option<Event>, StoreError> {
        let mut events = event::list(&self.pool, by.scope(), place, 1).await?;
        events.retain(|event| event.sequence == Some(place));
        self.tell(by, Retrieval::Proof, &events).await?;
        Ok(events.pop())
    }

    /// Records that these are read, unless that stands there already.
    async fn tell(
        &self,
        by: &Actor,
        retrieval: Retrieval,
        events: &[Event],
    ) -> Result<(), StoreError> {
        let since = self.environment.now() - retrieval::TOLD_ONCE;
        let mut untold = Vec::new();
        for (tenant, first) in retrieval::concerned(by, retrieval, events) {
            if !retrieval::is_told(&self.pool, by, retrieval, tenant, first, since).await? {
                untold.push(retrieval::reach(&self.pool, tenant, first).await?);
            }
        }
        if untold.is_empty() {
            return Ok(());
        }
        self.write((by.clone(), untold), move |tx, (by, untold)| {
            Box::pin(async move {
                for reach in untold {
                    tx.record(retrieval::told(by, retrieval, reach, tx.now));
                }
                Ok(())
            })
        })
        .await
    }

    /// How many events the ledger must hold, by tenant and kind.
    pub async fn event_counts(&self) -> Result<Vec<(TenantId, EventKind, u64)>, StoreError> {
        event::counts(&self.pool).await
    }

    /// Records that a witness has seen another history of the ledger.
    pub async fn record_witness_refusal(
        &self,
        by: &Actor,
        witness: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        let arguments = (by.clone(), witness.to_owned(), reason.to_owned());
        self.write(arguments, |tx, (by, witness, reason)| {
            Box::pin(async move {
                tx.record(NewEvent {
                    tenant: PROVIDER,
                    kind: EventKind::WitnessRefused,
                    by: by.clone(),
                    object: witness.clone(),
                    version: 1,
                    payload: serde_json::json!({ "reason": reason }),
                });
                Ok(())
            })
        })
        .await
    }

    /// Takes or renews the lease on a piece of background work; `None` where another process has
    /// it.
    pub async fn take_lease(
        &self,
        work: &'static str,
        holder: &str,
        lifetime: SignedDuration,
    ) -> Result<Option<Lease>, StoreError> {
        self.write(holder.to_owned(), move |tx, holder| {
            Box::pin(lease::take(tx, work, holder, lifetime))
        })
        .await
    }

    /// Gives a lease back before its time, so that another process need not wait for its end.
    pub async fn give_lease_back(
        &self,
        work: &'static str,
        holder: &str,
    ) -> Result<(), StoreError> {
        self.write(holder.to_owned(), move |tx, holder| {
            Box::pin(lease::give_back(tx, work, holder))
        })
        .await
    }

    /// Forgets sessions and answers whose time is over; says how many.
    pub async fn forget_expired(&self) -> Result<u64, StoreError> {
        self.write((), |tx, ()| {
            Box::pin(
                async move { Ok(answers::forget(tx).await? + access::forget_sessions(tx).await?) },
            )
        })
        .await
    }
}
