//! What comes out of the serial console: kept up to a limit, its end always at hand.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write as _};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::observer::Observer;

/// A guest may print for ever.
const MAX_LOG: u64 = 8 << 20;
const MAX_TAIL: usize = 8 << 10;

/// The console of a machine, also of one that is gone.
#[derive(Debug, Clone)]
pub(crate) struct Serial {
    log: PathBuf,
    tail: Arc<Mutex<Vec<u8>>>,
}

impl Serial {
    /// Keeps what is read, appended to the log, in a thread of its own.
    pub(super) fn keep(
        mut from: impl Read + Send + 'static,
        log: PathBuf,
        observer: Option<Arc<dyn Observer>>,
    ) -> Self {
        let serial = Self { log, tail: Arc::default() };
        let kept = serial.clone();
        thread::spawn(move || {
            let mut file = OpenOptions::new().create(true).append(true).open(&kept.log).ok();
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut piece) {
                let piece = &piece[..length];
                kept.remember(piece);
                if let Some(file) = &mut file {
                    append(file, piece);
                }
                if let Some(observer) = &observer {
                    observer.serial(piece);
                }
            }
        });
        serial
    }

    /// The last 8 KiB.
    pub(crate) fn tail(&self) -> String {
        let tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&tail).into_owned()
    }

    fn remember(&self, piece: &[u8]) {
        let mut tail = self.tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(piece);
        let surplus = tail.len().saturating_sub(MAX_TAIL);
        tail.drain(..surplus);
    }
}

fn append(file: &mut File, piece: &[u8]) {
    if file.metadata().is_ok_and(|metadata| metadata.len() < MAX_LOG) {
        let _ = file.write_all(piece);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_prints_for_ever_fills_nothing() {
        let place = tempfile::tempdir().unwrap();
        let log = place.path().join("serial.log");
        let endless = std::io::repeat(b'x').take(2 * MAX_LOG);

        let serial = Serial::keep(endless, log.clone(), None);

        while Arc::strong_count(&serial.tail) > 1 {
            thread::yield_now();
        }
        assert_eq!(serial.tail().len(), MAX_TAIL);
        assert!(std::fs::metadata(log).unwrap().len() <= MAX_LOG + 4096);
    }
}
