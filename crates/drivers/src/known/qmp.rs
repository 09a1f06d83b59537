//! A question at a time to a QEMU that somebody else started (QMP).

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// A list of disks with many snapshots is the longest that is said.
const MAX_LINE: u64 = 4 << 20;

/// QEMU answers at once; of a large disk, a snapshot takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// QEMU greets one client at a time; another one waits.
const GREETING: Duration = Duration::from_secs(10);

/// A QEMU that listens.
#[derive(Debug)]
pub(super) struct Qmp {
    stream: BufReader<UnixStream>,
    asked: u64,
}

impl Qmp {
    /// Connects; `None` where nobody listens, as the machine is off.
    pub(super) fn connect(socket: &Path) -> io::Result<Option<Self>> {
        let (Some(directory), Some(name)) = (socket.parent(), socket.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no file"));
        };
        let is_off = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
        };
        // Socket addresses hold about a hundred bytes; a descriptor's path is always short enough.
        let connected = File::open(directory).and_then(|directory| {
            let place = format!("/proc/self/fd/{}", directory.as_raw_fd());
            UnixStream::connect(Path::new(&place).join(name))
        });
        let stream = match connected {
            Ok(stream) => BufReader::new(stream),
            Err(error) if is_off(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut qmp = Self { stream, asked: 0 };
        let deadline = Instant::now() + GREETING;
        match qmp.line(deadline) {
            Ok(greeting) if greeting.get("QMP").is_some() => {}
            Ok(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "it is no QMP")),
            // It went just now.
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(error),
        }
        qmp.ask("qmp_capabilities", &json!({}))?;
        Ok(Some(qmp))
    }

    /// Asks for something and waits for the answer.
    pub(super) fn ask(&mut self, command: &str, arguments: &Value) -> io::Result<Value> {
        self.asked += 1;
        let question = json!({ "execute": command, "arguments": arguments, "id": self.asked });
        let stream = self.stream.get_mut();
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(format!("{question}\n").as_bytes())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut line = self.line(deadline)?;
            if line["id"] != self.asked {
                // What happens meanwhile is told in between.
                continue;
            }
            if let Some(error) = line.get("error") {
                let said = error["desc"].as_str().unwrap_or("it does not say why");
                return Err(io::Error::other(said.to_owned()));
            }
            return Ok(line["return"].take());
        }
    }

    fn line(&mut self, deadline: Instant) -> io::Result<Value> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || line.len() as u64 >= MAX_LINE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing that ends"));
            }
            self.stream.get_ref().set_read_timeout(Some(left))?;
            let rest = MAX_LINE - line.len() as u64;
            match self.stream.by_ref().take(rest).read_until(b'\n', &mut line) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it says nothing"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(serde_json::from_slice(&line)?)
    }
}

/// Whether QEMU ended while it was asked.
pub(super) fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}
