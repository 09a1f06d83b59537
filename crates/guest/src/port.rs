//! The virtio-serial port to the lab.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use guest::{Message, PORT, Request};

/// udev makes the port's node early in a boot.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) struct Port {
    reader: BufReader<File>,
    writer: File,
}

impl Port {
    pub(crate) fn open() -> Result<Self, String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(node) = node() {
                let opened = OpenOptions::new().read(true).write(true).open(&node);
                let file = opened.map_err(|error| format!("`{}`: {error}", node.display()))?;
                let writer = file.try_clone().map_err(|error| error.to_string())?;
                return Ok(Self { reader: BufReader::new(file), writer });
            }
            if Instant::now() > deadline {
                return Err(format!("the virtio-serial port `{PORT}` did not appear"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn say(&mut self, message: &Message) -> Result<(), String> {
        let mut line = serde_json::to_vec(message).map_err(|error| error.to_string())?;
        line.push(b'\n');
        self.writer.write_all(&line).map_err(|error| format!("cannot write: {error}"))
    }

    /// The next request. While nobody listens on the host, a read ends at once with nothing.
    pub(crate) fn hear(&mut self) -> Result<Request, String> {
        loop {
            let mut line = String::new();
            let read = self.reader.read_line(&mut line);
            read.map_err(|error| format!("cannot read: {error}"))?;
            if !line.is_empty() {
                return serde_json::from_str(&line).map_err(|error| error.to_string());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// The port's device node, found by its name in sysfs so that no udev rule is needed.
fn node() -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        let node = PathBuf::from("/dev").join(entry.file_name());
        if name.trim() == PORT && node.exists() {
            return Some(node);
        }
    }
    None
}
