//! Several statements as one way to the database, where the engine can: to an embedded one the way costs more than
//! what is done there.

use futures_util::TryStreamExt as _;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Either, Executor as _};

use crate::database::Engine;
use crate::error::StoreError;

/// Most statements that are put together: few different texts are to be prepared.
const TOGETHER: usize = 8;

/// Something that is bound to a parameter.
pub(crate) enum Value {
    Number(Option<i64>),
    Text(String),
    Bytes(Option<Vec<u8>>),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Number(Some(value))
    }
}

impl From<String> for Value {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl From<&str> for Value {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<&[u8]> for Value {
    fn from(value: &[u8]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl<const N: usize> From<[u8; N]> for Value {
    fn from(value: [u8; N]) -> Self {
        Self::Bytes(Some(value.to_vec()))
    }
}

impl From<Option<i64>> for Value {
    fn from(value: Option<i64>) -> Self {
        Self::Number(value)
    }
}

impl From<Option<Vec<u8>>> for Value {
    fn from(value: Option<Vec<u8>>) -> Self {
        Self::Bytes(value)
    }
}

/// Statements in their order, each with what is bound to it.
#[derive(Default)]
pub(crate) struct Several {
    statements: Vec<(String, Vec<Value>)>,
}

impl Several {
    /// Adds a statement, whose parameters are `?`.
    pub(crate) fn add(&mut self, text: impl Into<String>) -> &mut Self {
        self.statements.push((text.into(), Vec::new()));
        self
    }

    /// Binds something to the next parameter of the statement that was added last.
    pub(crate) fn bind(&mut self, value: impl Into<Value>) -> &mut Self {
        if let Some((_, values)) = self.statements.last_mut() {
            values.push(value.into());
        }
        self
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.statements.len()
    }

    /// Runs them one after the other; the rows of each.
    pub(crate) async fn run(
        self,
        engine: Engine,
        connection: &mut AnyConnection,
    ) -> Result<Vec<Vec<AnyRow>>, StoreError> {
        let mut found = Vec::with_capacity(self.statements.len());
        if engine == Engine::Sqlite && self.statements.len() <= TOGETHER {
            let texts: Vec<&str> = self.statements.iter().map(|(text, _)| text.as_str()).collect();
            let text = texts.join(";");
            let values = self.statements.into_iter().flat_map(|(_, values)| values).collect();
            run(connection, text, values, &mut found).await?;
        } else {
            for (text, values) in self.statements {
                run(connection, engine.parameters(&text), values, &mut found).await?;
            }
        }
        Ok(found)
    }
}

async fn run(
    connection: &mut AnyConnection,
    text: String,
    values: Vec<Value>,
    found: &mut Vec<Vec<AnyRow>>,
) -> Result<(), StoreError> {
    let mut query = sqlx::query(AssertSqlSafe(text));
    for value in values {
        query = match value {
            Value::Number(value) => query.bind(value),
            Value::Text(value) => query.bind(value),
            Value::Bytes(value) => query.bind(value),
        };
    }
    let mut outcomes = connection.fetch_many(query);
    let mut rows = Vec::new();
    while let Some(outcome) = outcomes.try_next().await? {
        match outcome {
            Either::Right(row) => rows.push(row),
            // The end of a statement.
            Either::Left(_) => found.push(std::mem::take(&mut rows)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Database;
    use crate::value::get;

    #[tokio::test]
    async fn each_has_its_own_parameters_and_rows() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::file(&folder.path().join("it.db"));
        let pool = database.connect(1, &[]).await.unwrap();
        let mut connection = pool.acquire().await.unwrap();
        for more in [0, TOGETHER] {
            let mut several = Several::default();
            several.add("CREATE TABLE IF NOT EXISTS it (a INTEGER, b BLOB) STRICT");
            several.add("DELETE FROM it");
            several.add("INSERT INTO it (a, b) VALUES (?, ?), (?, ?)");
            several.bind(1_i64).bind([7; 2]).bind(2_i64).bind(None::<Vec<u8>>);
            several.add("SELECT a, b FROM it WHERE a < ? ORDER BY a").bind(9_i64);
            several.add("SELECT ? AS text").bind("x".to_owned());
            for _ in 0..more {
                several.add("SELECT 1 AS one");
            }
            assert_eq!(several.len(), 5 + more);

            let found = several.run(Engine::Sqlite, &mut connection).await.unwrap();

            let counts: Vec<_> = found.iter().map(Vec::len).collect();
            assert_eq!((&counts[..5], counts.len()), (&[0, 0, 0, 2, 1][..], 5 + more));
            assert_eq!(get::<i64>(&found[3][1], "a").unwrap(), 2);
            assert_eq!(get::<Option<Vec<u8>>>(&found[3][0], "b").unwrap(), Some(vec![7; 2]));
            assert_eq!(get::<String>(&found[4][0], "text").unwrap(), "x");
        }
    }

    #[tokio::test]
    async fn what_is_refused_among_them_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::file(&folder.path().join("it.db"));
        let pool = database.connect(1, &[]).await.unwrap();
        let mut several = Several::default();
        several.add("CREATE TABLE it (a INTEGER PRIMARY KEY)");
        for _ in 0..2 {
            several.add("INSERT INTO it (a) VALUES (?)").bind(1_i64);
        }

        let mut connection = pool.acquire().await.unwrap();
        let refused = several.run(Engine::Sqlite, &mut connection).await.err().unwrap();

        assert!(refused.to_string().contains("refused"), "{refused}");
    }
}
