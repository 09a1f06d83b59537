//! Where the database is, how to reach it, and the few differences between engines.

use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection, Row};

use crate::error::StoreError;

/// The address of a database.
#[derive(Clone)]
pub struct Database {
    engine: Engine,
    url: String,
}

/// What speaks SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// SQLite, embedded.
    Sqlite,
    /// PostgreSQL, or what speaks its protocol.
    Postgres,
}

/// Migrations in order; the position of one, from 1, is the schema that it leads to.
const MIGRATIONS: &[&str] = &[
    include_str!("../migrations/0001_cloud.sql"),
    include_str!("../migrations/0002_fleet.sql"),
    include_str!("../migrations/0003_agents.sql"),
    include_str!("../migrations/0004_groups.sql"),
    include_str!("../migrations/0005_identity.sql"),
    include_str!("../migrations/0006_external_identities.sql"),
    include_str!("../migrations/0007_images.sql"),
    include_str!("../migrations/0008_image_contents.sql"),
    include_str!("../migrations/0009_changes.sql"),
    include_str!("../migrations/0010_patches_of_changes.sql"),
    include_str!("../migrations/0011_channels_are_queues.sql"),
    include_str!("../migrations/0012_claims_and_owners.sql"),
    include_str!("../migrations/0013_withdrawn_obligations.sql"),
    include_str!("../migrations/0014_sla_gaps.sql"),
    include_str!("../migrations/0015_telling.sql"),
    include_str!("../migrations/0016_releases.sql"),
    include_str!("../migrations/0017_verifications.sql"),
    include_str!("../migrations/0018_bakes_of_changes.sql"),
    include_str!("../migrations/0019_looks_again.sql"),
    include_str!("../migrations/0020_orders_at_work.sql"),
    include_str!("../migrations/0021_order_keys.sql"),
    include_str!("../migrations/0022_health.sql"),
    include_str!("../migrations/0023_snapshots.sql"),
    include_str!("../migrations/0024_history.sql"),
    include_str!("../migrations/0025_files.sql"),
    include_str!("../migrations/0026_devices.sql"),
    include_str!("../migrations/0028_audits.sql"),
    include_str!("../migrations/0029_verdicts.sql"),
    include_str!("../migrations/0030_drift_alarms.sql"),
    include_str!("../migrations/0031_baselines.sql"),
    include_str!("../migrations/0032_sources.sql"),
    include_str!("../migrations/0033_emergencies.sql"),
    include_str!("../migrations/0034_alterations.sql"),
    include_str!("../migrations/0035_stored_images.sql"),
];

impl Database {
    /// An SQLite file, made where it is missing.
    pub fn file(path: &Path) -> Self {
        let mut url = "sqlite://".to_owned();
        for c in path.to_string_lossy().chars() {
            match c {
                '%' => url.push_str("%25"),
                '?' => url.push_str("%3F"),
                '#' => url.push_str("%23"),
                c => url.push(c),
            }
        }
        url.push_str("?mode=rwc");
        Self { engine: Engine::Sqlite, url }
    }

    /// Which engine answers there.
    pub const fn engine(&self) -> Engine {
        self.engine
    }

    /// So many connections at most, with further settings.
    pub(crate) async fn connect(
        &self,
        connections: u32,
        settings: &'static [&'static str],
    ) -> Result<AnyPool, StoreError> {
        sqlx::any::install_default_drivers();
        let engine = self.engine;
        let options = AnyConnectOptions::from_str(&self.url)?;
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(Duration::from_secs(30))
            // What is embedded does not go away.
            .test_before_acquire(engine == Engine::Postgres)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for setting in engine.settings().iter().chain(settings) {
                        sqlx::raw_sql(*setting).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_with(options)
            .await?;
        Ok(pool)
    }
}

impl FromStr for Database {
    type Err = StoreError;

    /// A path, or `postgres://…`.
    fn from_str(address: &str) -> Result<Self, StoreError> {
        if address.starts_with("postgres://") || address.starts_with("postgresql://") {
            return Ok(Self { engine: Engine::Postgres, url: address.to_owned() });
        }
        if address.is_empty() || address.contains("://") {
            let given = address.split_once('@').map_or(address, |(_, host)| host).to_owned();
            return Err(StoreError::BadAddress { given });
        }
        Ok(Self::file(Path::new(address)))
    }
}

/// Without the address, which may hold a password.
impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Database").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl Engine {
    /// Set on each connection.
    const fn settings(self) -> &'static [&'static str] {
        match self {
            // FULL: an acknowledged commit survives the loss of power, also in WAL mode.
            Self::Sqlite => &[
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
                "PRAGMA trusted_schema = OFF",
                // What is deleted is overwritten where its page is written anyway: keys are.
                "PRAGMA secure_delete = FAST",
                "PRAGMA busy_timeout = 10000",
            ],
            Self::Postgres => &["SET TIME ZONE 'UTC'", "SET lock_timeout = '10s'"],
        }
    }

    /// Set on connections that write.
    pub(crate) const fn of_writers(self) -> &'static [&'static str] {
        match self {
            // What is written to now and then stays at hand, up to so many KiB.
            Self::Sqlite => &["PRAGMA cache_size = -65536"],
            Self::Postgres => &[],
        }
    }

    /// Begins a transaction that writes.
    pub(crate) const fn begin(self) -> &'static str {
        match self {
            // Takes the lock at once: upgrading a read lock later could fail for good.
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// How many may write at the same time.
    pub(crate) const fn writers(self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => 4,
        }
    }

    /// A text whose parameters are `?`, as this engine has them.
    pub(crate) fn parameters(self, text: &str) -> String {
        let mut parts = text.split('?');
        let mut numbered = parts.next().unwrap_or_default().to_owned();
        for (number, part) in (1..).zip(parts) {
            match self {
                Self::Sqlite => numbered.push('?'),
                Self::Postgres => {
                    // Writing into a string cannot fail.
                    let _ = write!(numbered, "${number}");
                }
            }
            numbered.push_str(part);
        }
        numbered
    }

    /// Schema text, written in SQLite's words, in this engine's.
    fn schema(self, text: &str) -> String {
        match self {
            Self::Sqlite => text.to_owned(),
            Self::Postgres => text
                .replace(" INTEGER", " BIGINT")
                .replace(" BLOB", " BYTEA")
                .replace(") STRICT;", ");")
                .replace(") STRICT, WITHOUT ROWID;", ");"),
        }
    }
}

/// Brings the schema to the one known here.
pub(crate) async fn migrate(
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<(), StoreError> {
    sqlx::raw_sql(engine.begin()).execute(&mut *connection).await?;
    match migrate_in_transaction(engine, connection).await {
        Ok(()) => {
            sqlx::raw_sql("COMMIT").execute(connection).await?;
            Ok(())
        }
        Err(error) => {
            // The first error is the one to tell; a connection that cannot roll back is dropped.
            let _ = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
            Err(error)
        }
    }
}

async fn migrate_in_transaction(
    engine: Engine,
    connection: &mut AnyConnection,
) -> Result<(), StoreError> {
    if engine == Engine::Postgres {
        // Several processes may start at the same time; the number is ours alone.
        sqlx::raw_sql("SELECT pg_advisory_xact_lock(7232643)").execute(&mut *connection).await?;
    }
    let versions = engine.schema(
        "CREATE TABLE IF NOT EXISTS schema_versions (
            version INTEGER PRIMARY KEY NOT NULL
        ) STRICT;",
    );
    sqlx::raw_sql(AssertSqlSafe(versions)).execute(&mut *connection).await?;
    let found: i64 = sqlx::query("SELECT COALESCE(MAX(version), 0) FROM schema_versions")
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    for (version, migration) in (1..).zip(MIGRATIONS).filter(|&(version, _)| version > found) {
        sqlx::raw_sql(AssertSqlSafe(engine.schema(migration))).execute(&mut *connection).await?;
        sqlx::query("INSERT INTO schema_versions (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Closes a connection whose state is not certain, instead of giving it back to its pool.
pub(crate) async fn discard(connection: sqlx::pool::PoolConnection<sqlx::Any>) {
    // Only a courtesy to the server: the connection is dropped whatever it answers.
    let _ = connection.detach().close().await;
}

/// The values of so many rows: `(?, ?), (?, ?)`.
pub(crate) fn values(rows: usize, columns: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(", "));
    vec![row.as_str(); rows].join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_where_they_must_be() {
        assert_eq!(values(2, 3), "(?, ?, ?), (?, ?, ?)");
        let text = "SELECT a FROM b WHERE c = ? AND d IN (?, ?)";
        assert_eq!(Engine::Sqlite.parameters(text), text);
        let numbered = "SELECT a FROM b WHERE c = $1 AND d IN ($2, $3)";
        assert_eq!(Engine::Postgres.parameters(text), numbered);
    }

    #[test]
    fn an_address_is_a_path_or_postgres() {
        assert_eq!("a/b.db".parse::<Database>().unwrap().engine(), Engine::Sqlite);
        assert_eq!("postgres://u@h/d".parse::<Database>().unwrap().engine(), Engine::Postgres);
    }

    #[test]
    fn a_refused_address_does_not_tell_its_password() {
        let refused = "mysql://me:secret@host/db".parse::<Database>().unwrap_err();

        assert_eq!(refused.to_string(), "`host/db` is not the address of a database");
    }

    #[test]
    fn the_schema_has_no_word_that_one_engine_lacks() {
        for migration in MIGRATIONS {
            let postgres = Engine::Postgres.schema(migration);
            for word in ["INTEGER", "BLOB", "STRICT", "AUTOINCREMENT", "DATETIME", "ROWID"] {
                assert!(!postgres.contains(word), "{word}");
            }
        }
    }

    /// What waited before channels were queues waits on, with its time.
    #[tokio::test]
    async fn what_waited_on_a_channel_still_does() {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::file(&directory.path().join("before.db"));
        let pool = database.connect(1, &[]).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        let is_it = |text: &&&str| text.contains("Each channel is a queue");
        let ours = MIGRATIONS.iter().find(is_it).unwrap();
        for text in MIGRATIONS.iter().take_while(|text| text != &ours) {
            sqlx::raw_sql(*text).execute(&mut *connection).await.unwrap();
        }
        let before = "
            INSERT INTO tenants VALUES ('p', 'p', 'p', 'iaas', 0, 1), ('t', 't', 't', 'iaas', 0, 1);
            INSERT INTO users VALUES ('anna', 't', 'anna', 'anna', 'tenant-owner', NULL, NULL, 0, 1),
                ('root', 'p', 'root', 'root', 'admin', NULL, NULL, 0, 1);
            INSERT INTO channels VALUES
                ('own', 't', 'webhook', 'https://a.example/x', NULL, 'anna', 0, NULL),
                ('copies', 't', 'mail', 'a@a.example', NULL, 'root', 0, NULL);
            INSERT INTO changes VALUES ('c', 'c', 'p', NULL, '{}', 'found', 'root', 0, 1);
            INSERT INTO notices VALUES ('n', 't', 'c', 'h', 'planned', 0, '{}', 0, NULL, NULL, NULL),
                ('m', 't', 'c', 'h', 'planned', 1, '{}', 0, NULL, NULL, NULL);
            INSERT INTO deliveries VALUES ('n', 'own', 't', 'waiting', 2, 42, NULL, NULL),
                ('m', 'own', 't', 'waiting', 0, 43, NULL, NULL),
                ('n', 'copies', 't', 'delivered', 1, NULL, '250', 7);";
        sqlx::raw_sql(before).execute(&mut *connection).await.unwrap();

        sqlx::raw_sql(*ours).execute(&mut *connection).await.unwrap();

        let rows = sqlx::query("SELECT id, next_at, is_own, failures FROM channels ORDER BY id");
        let rows = rows.fetch_all(&mut *connection).await.unwrap();
        let read = |row: &sqlx::any::AnyRow| -> (String, Option<i64>, i64, i64) {
            (row.get(0), row.get(1), row.get(2), row.get(3))
        };
        let read: Vec<_> = rows.iter().map(read).collect();
        assert_eq!(read, [("copies".into(), None, 0, 0), ("own".into(), Some(42), 1, 0)]);
    }
}
