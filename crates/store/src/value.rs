//! Values out of rows, checked: what a row holds is never trusted to be what we wrote.

use std::fmt::Display;
use std::str::FromStr;

use jiff::Timestamp;
use sqlx::any::AnyRow;
use sqlx::{Any, Decode, Row, Type};

use crate::error::StoreError;

/// A column's value.
pub(crate) fn get<'r, T>(row: &'r AnyRow, column: &'static str) -> Result<T, StoreError>
where
    T: Decode<'r, Any> + Type<Any>,
{
    Ok(row.try_get(column)?)
}

/// A column's text as what it stands for.
pub(crate) fn parsed<T>(row: &AnyRow, column: &'static str) -> Result<T, StoreError>
where
    T: FromStr<Err: Display>,
{
    let text: String = get(row, column)?;
    text.parse().map_err(|error| StoreError::Corrupt { what: format!("{column}: {error}") })
}

/// The same where the column may be empty.
pub(crate) fn parsed_or_none<T>(row: &AnyRow, column: &'static str) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: Display>,
{
    let text: Option<String> = get(row, column)?;
    text.map(|text| {
        text.parse().map_err(|error| StoreError::Corrupt { what: format!("{column}: {error}") })
    })
    .transpose()
}

/// The same where an empty text stands for nothing.
pub(crate) fn parsed_unless_empty<T>(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<T>, StoreError>
where
    T: FromStr<Err: Display>,
{
    let text: String = get(row, column)?;
    if text.is_empty() { Ok(None) } else { parsed(row, column).map(Some) }
}

/// A column's instant.
pub(crate) fn time(row: &AnyRow, column: &'static str) -> Result<Timestamp, StoreError> {
    instant(get(row, column)?, column)
}

/// The same where the column may be empty.
pub(crate) fn time_or_none(
    row: &AnyRow,
    column: &'static str,
) -> Result<Option<Timestamp>, StoreError> {
    let micros: Option<i64> = get(row, column)?;
    micros.map(|micros| instant(micros, column)).transpose()
}

fn instant(micros: i64, column: &'static str) -> Result<Timestamp, StoreError> {
    Timestamp::from_microsecond(micros)
        .map_err(|error| StoreError::Corrupt { what: format!("{column}: {error}") })
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
