//! QEMU's own channel (QMP): what happens to the machine, its power button, and what it wrote.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel};
use std::thread;

use serde::Deserialize;
use serde_json::Value;

use super::{Event, Shutdown, Writes};

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

/// Leaves negotiation and passes on what concerns us, for as long as QEMU runs: events, and answers to
/// questions apart from them.
pub(super) fn listen(
    mut stream: UnixStream,
    sender: SyncSender<Event>,
) -> io::Result<Receiver<Value>> {
    stream.write_all(b"{\"execute\":\"qmp_capabilities\"}\n")?;
    let (answers, receiver) = channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = Vec::new();
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            pass_answer(&line, &answers);
            if let Some(event) = event(&line)
                && sender.send(event).is_err()
            {
                return;
            }
        }
    });
    Ok(receiver)
}

/// How a question is told from a command, whose answer nobody reads.
const QUESTION: &str = "question";

/// Asks what was written to the disks.
pub(super) fn ask_for_writes(mut stream: &UnixStream) -> io::Result<()> {
    let question = serde_json::json!({ "execute": "query-blockstats", "id": QUESTION });
    stream.write_all(format!("{question}\n").as_bytes())
}

/// What was written to one of them, by its name.
pub(super) fn writes(answer: &Value, disk: &str) -> Option<Writes> {
    let disks = answer["return"].as_array()?;
    let stats = &disks.iter().find(|it| it["node-name"] == disk)?["stats"];
    let count = |name: &str| stats[name].as_u64();
    Some(Writes {
        bytes: count("wr_bytes")?,
        requests: count("wr_operations")?,
        flushes: count("flush_operations")?,
    })
}

fn pass_answer(line: &[u8], answers: &Sender<Value>) {
    if let Ok(line) = serde_json::from_slice::<Value>(line)
        && line["id"] == QUESTION
    {
        // Where nobody waits any more, nobody misses it.
        let _ = answers.send(line);
    }
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
    fn a_disk_tells_what_was_written_to_it_and_no_other_does() {
        let line = br#"{"return":[{"node-name":"disk1","stats":{"wr_bytes":0,"wr_operations":0,"flush_operations":0}},{"node-name":"disk0","stats":{"wr_bytes":4096,"wr_operations":2,"flush_operations":1}}],"id":"question"}"#;
        let (sender, answers) = channel();

        pass_answer(br#"{"return":{}}"#, &sender);
        pass_answer(line, &sender);

        let answer = answers.try_recv().unwrap();
        let wrote = Writes { bytes: 4096, requests: 2, flushes: 1 };
        assert_eq!(writes(&answer, "disk0"), Some(wrote));
        assert_eq!(writes(&answer, "disk2"), None);
        assert!(event(line).is_none());
        assert!(answers.try_recv().is_err(), "what is no answer was passed on");
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
