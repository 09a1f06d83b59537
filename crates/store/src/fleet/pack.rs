//! JSON under zstd: documents of a hundred kilobytes that hardly differ from line to line.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::StoreError;

/// Fast, and within a few per cent of what more effort brings.
const LEVEL: i32 = 3;

/// Largest document taken back out: far beyond what a system can have installed.
const LARGEST: usize = 64 << 20;

pub(super) fn pack(what: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let corrupt = |reason: String| StoreError::Corrupt { what: format!("{what}: {reason}") };
    let json = serde_json::to_vec(value).map_err(|error| corrupt(error.to_string()))?;
    zstd::bulk::compress(&json, LEVEL).map_err(|error| corrupt(error.to_string()))
}

pub(super) fn unpack<T: DeserializeOwned>(what: &str, packed: &[u8]) -> Result<T, StoreError> {
    use std::io::Read as _;
    let corrupt = |reason: String| StoreError::Corrupt { what: format!("{what}: {reason}") };
    let reader =
        zstd::stream::read::Decoder::new(packed).map_err(|error| corrupt(error.to_string()))?;
    let mut json = Vec::new();
    reader
        .take(LARGEST as u64)
        .read_to_end(&mut json)
        .map_err(|error| corrupt(error.to_string()))?;
    serde_json::from_slice(&json).map_err(|error| corrupt(error.to_string()))
}
