//! Ways in for fuzzers: what a hostile image or guest says. No part of the public face.

use crate::boot;
use crate::proof::read_picture;

/// A boot loader's configuration. Whether it names something to boot.
pub fn boot_loader(configuration: &str) -> bool {
    boot::names_an_entry(configuration)
}

/// A guest's message, as it comes over the port. Whether it is a picture.
pub fn guest(message: &[u8]) -> bool {
    match serde_json::from_slice(message) {
        Ok(guest::Message::Picture(raw)) => {
            read_picture(&raw);
            true
        }
        _ => false,
    }
}
