//! rpm's sqlite database: one table of headers.
//!
//! The file is foreign: `SQLite` gets a private copy, read-only, with everything off that a
//! schema could do by itself, and a limit on how long it may run.

use std::path::Path;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

/// A header of 32 MB is rpm's own limit for a package with very many files.
const MAX_HEADER: i32 = 64 << 20;

/// Headers of one database.
const MAX_HEADERS: usize = 500_000;

/// `SQLite` instructions for one database: reading a row takes about ten.
const MAX_STEPS: u64 = 100_000_000;
const STEPS_BETWEEN_CHECKS: i32 = 10_000;

/// Each database begins so.
const MAGIC: &[u8] = b"SQLite format 3\0";

/// Offsets of "read version" and "write version"; 2 means write-ahead log, 1 means none.
const VERSIONS: std::ops::Range<usize> = 18..20;

/// The headers in a database file and its write-ahead log (empty where there is none).
///
/// # Errors
/// In words, where the file is no such database.
pub fn headers(database: Vec<u8>, log: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    if !database.starts_with(MAGIC) {
        return Err("it does not begin like an SQLite database".to_owned());
    }
    // The directory must outlive the connection.
    let place = if log.is_empty() { None } else { Some(private_copy(&database, log)?) };
    let connection = match &place {
        None => in_memory(database),
        Some(place) => Connection::open_with_flags(
            file_in(place.path()),
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        ),
    };
    let connection = connection.map_err(in_words)?;
    harden(&connection).map_err(in_words)?;
    read(&connection)
}

fn in_words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Without a log, the file's bytes are the database once it no longer claims to have one.
fn in_memory(mut database: Vec<u8>) -> Result<Connection, rusqlite::Error> {
    if let Some(versions) = database.get_mut(VERSIONS) {
        versions.fill(1);
    }
    let mut connection = Connection::open_in_memory()?;
    let length = database.len();
    connection.deserialize_read_exact(MAIN_DB, database.as_slice(), length, true)?;
    Ok(connection)
}

fn private_copy(database: &[u8], log: &[u8]) -> Result<tempfile::TempDir, String> {
    let place = tempfile::tempdir().map_err(in_words)?;
    let file = file_in(place.path());
    std::fs::write(&file, database).map_err(in_words)?;
    std::fs::write(file.with_extension("sqlite-wal"), log).map_err(in_words)?;
    Ok(place)
}

fn file_in(directory: &Path) -> std::path::PathBuf {
    directory.join("rpmdb.sqlite")
}

fn harden(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_HEADER)?;
    let mut checks = 0;
    let most = MAX_STEPS / u64::from(STEPS_BETWEEN_CHECKS.unsigned_abs());
    connection.progress_handler(
        STEPS_BETWEEN_CHECKS,
        Some(move || {
            checks += 1;
            checks > most
        }),
    )
}

fn read(connection: &Connection) -> Result<Vec<Vec<u8>>, String> {
    // A view or virtual table of that name would run the author's statements.
    let kind: String = connection
        .query_row(
            "SELECT type || ' ' || coalesce(nullif(rootpage, 0), 'virtual') FROM sqlite_schema \
             WHERE name = 'Packages'",
            [],
            |row| row.get(0),
        )
        .map_err(|error| format!("there is no table of packages: {error}"))?;
    if !kind.starts_with("table ") || kind.ends_with("virtual") {
        return Err(format!("`Packages` is no table but a {kind}"));
    }
    let mut statement =
        connection.prepare("SELECT blob FROM Packages ORDER BY hnum").map_err(in_words)?;
    let mut rows = statement.query([]).map_err(in_words)?;
    let mut headers = Vec::new();
    while let Some(row) = rows.next().map_err(in_words)? {
        headers.push(row.get::<_, Vec<u8>>(0).map_err(in_words)?);
        if headers.len() > MAX_HEADERS {
            return Err(format!("there are more than {MAX_HEADERS} packages"));
        }
    }
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(statements: &str) -> Vec<u8> {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(statements).unwrap();
        connection.serialize(MAIN_DB).unwrap().to_vec()
    }

    #[test]
    fn headers_come_in_order() {
        let database = database(
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL);
             INSERT INTO Packages VALUES (2, x'02'), (1, x'01');",
        );

        assert_eq!(headers(database, &[]).unwrap(), [vec![1], vec![2]]);
    }

    #[test]
    fn a_schema_that_runs_statements_is_refused() {
        let endless = database(
            "CREATE VIEW Packages AS
             WITH RECURSIVE n(hnum, blob) AS (SELECT 1, x'00' UNION ALL SELECT hnum+1, blob FROM n)
             SELECT * FROM n;",
        );

        assert!(headers(endless, &[]).unwrap_err().contains("no table but a view"));
    }

    #[test]
    fn what_is_no_database_is_refused() {
        let mut damaged = database("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB);");
        damaged[100..200].fill(0xAB);

        for bytes in [damaged, b"not a database at all".to_vec(), Vec::new()] {
            assert!(headers(bytes, &[]).is_err());
        }
    }
}
