//! Rows of history: several with one statement, and what stands in them.

use ::history::{Lean, PathKey};
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Executor};

use crate::database::values;
use crate::error::StoreError;
use crate::several::Several;
use crate::value::{get, parsed};

/// Rows of one statement, the most first: few different statements serve any number of rows.
const ROWS: [usize; 4] = [128, 32, 8, 1];

/// Adds statements for rows, each of as many as it takes: `text` makes it of its values, `bind` binds a row's.
pub(super) fn add_rows<T>(
    several: &mut Several,
    rows: &[T],
    columns: usize,
    text: impl Fn(&str) -> String,
    mut bind: impl FnMut(&mut Several, &T),
) {
    let mut left = rows;
    while let Some(most) = ROWS.into_iter().find(|&most| most <= left.len()) {
        let (now, later) = left.split_at(most);
        several.add(text(&values(most, columns)));
        for row in now {
            bind(several, row);
        }
        left = later;
    }
}

/// How a partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PartitionState {
    Open,
    Closed,
    Sealed,
    Erased,
    Dropped,
}

impl std::str::FromStr for PartitionState {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        Ok(match word {
            "open" => Self::Open,
            "closed" => Self::Closed,
            "sealed" => Self::Sealed,
            "erased" => Self::Erased,
            "dropped" => Self::Dropped,
            word => return Err(format!("`{word}` is no state of a partition")),
        })
    }
}

/// A partition.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) number: i64,
    pub(super) state: PartitionState,
    pub(super) sealed_key: Option<Vec<u8>>,
    pub(super) object: Option<String>,
    pub(super) digest: Option<Vec<u8>>,
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) thinned_to: i64,
}

impl Row {
    /// Object and sealed key, where it can be read.
    pub(super) fn readable(&self) -> Option<(&str, &[u8])> {
        match self.state {
            PartitionState::Sealed => Some((self.object.as_deref()?, self.sealed_key.as_deref()?)),
            _ => None,
        }
    }

    fn read(row: &AnyRow) -> Result<Self, StoreError> {
        Ok(Self {
            number: get(row, "number")?,
            state: parsed(row, "state")?,
            sealed_key: get(row, "sealed_key")?,
            object: get(row, "object")?,
            digest: get(row, "digest")?,
            first: get(row, "first_recorded")?,
            last: get(row, "last_recorded")?,
            thinned_to: get(row, "thinned_to")?,
        })
    }
}

pub(super) async fn partition(
    pool: &AnyPool,
    tenant: [u8; 16],
    number: i64,
) -> Result<Option<Row>, StoreError> {
    let row = sqlx::query(
        "SELECT number, state, sealed_key, object, digest, first_recorded, last_recorded, thinned_to
         FROM history_partitions WHERE tenant = $1 AND number = $2",
    )
    .bind(tenant.to_vec())
    .bind(number)
    .fetch_optional(pool)
    .await?;
    row.as_ref().map(Row::read).transpose()
}

/// All partitions of a tenant, the oldest first.
pub(super) async fn partitions(
    pool: impl Executor<'_, Database = sqlx::Any>,
    tenant: [u8; 16],
) -> Result<Vec<Row>, StoreError> {
    let rows = sqlx::query(
        "SELECT number, state, sealed_key, object, digest, first_recorded, last_recorded, thinned_to
         FROM history_partitions WHERE tenant = $1 ORDER BY number",
    )
    .bind(tenant.to_vec())
    .fetch_all(pool)
    .await?;
    rows.iter().map(Row::read).collect()
}

/// In which partitions a file altered, and since when in each; the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Spans(pub(super) Vec<Span>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) number: i64,
    /// When the first version of the file in it was recorded.
    pub(super) first: i64,
}

impl Spans {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, StoreError> {
        let (spans, rest) = bytes.as_chunks::<16>();
        if !rest.is_empty() {
            return Err(StoreError::Corrupt { what: "spans of a file".to_owned() });
        }
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |all, &it| all << 8 | i64::from(it));
        let read = |span: &[u8; 16]| Span { number: number(&span[..8]), first: number(&span[8..]) };
        Ok(Self(spans.iter().map(read).collect()))
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let bytes = |span: &Span| [span.number.to_le_bytes(), span.first.to_le_bytes()].concat();
        self.0.iter().flat_map(bytes).collect()
    }

    /// The partition in which stands what was in force at a time.
    pub(super) fn at(&self, time: i64) -> Option<i64> {
        self.0.iter().rev().find(|span| span.first <= time).map(|span| span.number)
    }

    /// Adds a partition, and drops those that nobody asks for who asks for this time or later.
    pub(super) fn push(&mut self, span: Span, kept_from: i64) {
        self.0.push(span);
        let in_force = self.0.iter().rposition(|span| span.first <= kept_from).unwrap_or(0);
        self.0.drain(..in_force);
    }
}

/// What is known of a file.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) ci: [u8; 16],
    pub(super) key: PathKey,
    pub(super) sealed_path: Vec<u8>,
    pub(super) recorded: i64,
    pub(super) number: i64,
    pub(super) spans: Spans,
    pub(super) anchor: Option<Lean>,
}

impl File {
    pub(super) fn read(row: &AnyRow) -> Result<Self, StoreError> {
        let anchor: (Option<i64>, Option<i64>) =
            (get(row, "anchor_number")?, get(row, "anchor_frame")?);
        Ok(Self {
            ci: bytes(row, "ci")?,
            key: PathKey(bytes(row, "path_key")?),
            sealed_path: get(row, "path")?,
            recorded: get(row, "recorded")?,
            number: get(row, "number")?,
            spans: Spans::read(&get::<Vec<u8>>(row, "spans")?)?,
            anchor: match anchor {
                (Some(number), Some(frame)) => {
                    Some(Lean { partition: number.unsigned_abs(), frame: frame.unsigned_abs() })
                }
                _ => None,
            },
        })
    }
}

/// A column's bytes, as many as there must be.
pub(super) fn bytes<const N: usize>(
    row: &AnyRow,
    column: &'static str,
) -> Result<[u8; N], StoreError> {
    let bytes: Vec<u8> = get(row, column)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt { what: format!("{column} of a history") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_back_and_are_found_by_time() {
        let mut spans = Spans::default();
        for (number, first) in [(1, -5), (4, 100), (9, i64::MAX)] {
            spans.push(Span { number, first }, i64::MIN);
        }

        assert_eq!(Spans::read(&spans.to_bytes()).unwrap(), spans);
        assert_eq!([-6, -5, 99, 100].map(|time| spans.at(time)), [None, Some(1), Some(1), Some(4)]);
        assert!(Spans::read(&[1]).is_err());
    }

    #[test]
    fn spans_that_nobody_asks_for_go() {
        let mut spans = Spans(vec![Span { number: 1, first: 10 }, Span { number: 2, first: 20 }]);

        spans.push(Span { number: 3, first: 30 }, 25);

        assert_eq!(spans.0.iter().map(|span| span.number).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn rows_are_split_into_few_statements() {
        let (mut several, mut rows) = (Several::default(), 0);

        let text = |values: &str| format!("VALUES {values}");
        add_rows(&mut several, &[0; 203], 2, text, |_, _| rows += 1);

        // Of 128, 32, 32, 8, and three of one.
        assert_eq!((several.len(), rows), (7, 203));
    }
}
