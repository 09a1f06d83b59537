//! QEMU's own channel (QMP): what happens to the machine, and its power button.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::SyncSender;
use std::thread;

use serde::Deserialize;

use super::{Event, Shutdown};

/// QEMU's messages are short; its greeting is the longest.
const MAX_LINE: u64 = 1 << 20;

#[derive(Deserialize)]
struct Line {
    event: Option<String>,
    #[serde(default)]
    data: Details,
}

#[derive(Default, Deserialize)]
struct Details {
    #[serde(default)]
    reason: String,
    action: Option<String>,
}

/// Leaves negotiation and passes on what concerns us, for as long as QEMU runs.
pub(super) fn listen(mut stream: UnixStream, sender: SyncSender<Event>) -> io::Result<()> {
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            if let Some(event) = event(&line)
                && sender.send(event).is_err()
            {
                return;
            }
        }
    });
    Ok(())
}

/// What QEMU is told while the machine runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Button {
    /// The power button (ACPI): the guest shuts down where it listens to it.
    Power,
    /// The processors stand still, and with them the guest's time.
    Freeze,
    /// They go on.
    Thaw,
}

pub(super) fn press(mut stream: &UnixStream, button: Button) -> io::Result<()> {
    stream.write_all(match button {
        Button::Power => b"{\"execute\":\"system_powerdown\"}\n",
        Button::Freeze => b"{\"execute\":\"stop\"}\n",
        Button::Thaw => b"{\"execute\":\"cont\"}\n",
    })
}

fn event(line: &[u8]) -> Option<Event> {
    let line: Line = serde_json::from_slice(line).ok()?;
    match line.event?.as_str() {
        "SHUTDOWN" => Some(Event::Shutdown(match line.data.reason.as_str() {
            "guest-reset" => Shutdown::Reset,
            "guest-shutdown" => Shutdown::PowerOff,
            "guest-panic" => Shutdown::Panic,
            _ => Shutdown::Other,
        })),
        // The machine stands still where it could not write (`werror=stop`); a failed read is
        // the guest's to deal with.
        "BLOCK_IO_ERROR" if line.data.action.as_deref() == Some("stop") => {
            Some(Event::DiskFailed { reason: line.data.reason })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_end_is_told_with_its_reason() {
        let line = br#"{"timestamp":{"seconds":1,"microseconds":2},"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}"#;
        assert!(matches!(event(line), Some(Event::Shutdown(Shutdown::Reset))));
    }

    #[test]
    fn only_a_write_that_failed_stops_the_machine() {
        let line = |action: &str| {
            format!(
                r#"{{"event":"BLOCK_IO_ERROR","data":{{"action":"{action}","reason":"File too large"}}}}"#
            )
        };
        assert!(matches!(event(line("stop").as_bytes()), Some(Event::DiskFailed { .. })));
        assert!(event(line("report").as_bytes()).is_none());
        assert!(event(b"{\"return\":{}}").is_none());
        assert!(event(b"nonsense").is_none());
    }
}
