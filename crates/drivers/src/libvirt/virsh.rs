//! libvirt's own client, bounded in time and in what it may say.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::LibvirtError;

const VIRSH: &str = "virsh";

/// Sessions only: the user's own libvirt, without privileges.
const CONNECTION: &str = "qemu:///session";

/// The first call also starts the session's libvirt, which looks at its QEMU.
const PATIENCE: Duration = Duration::from_secs(60);
const MAX_ANSWER: u64 = 1 << 20;

/// Asks virsh and returns what it says.
pub(super) fn virsh(command: &'static str, arguments: &[&str]) -> Result<String, LibvirtError> {
    let failed = |error| LibvirtError::Start { error };
    let (mut output, mut complaint) =
        (tempfile::tempfile().map_err(failed)?, tempfile::tempfile().map_err(failed)?);
    let mut child = Command::new(VIRSH)
        .args(["--quiet", "--connect", CONNECTION, command])
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::from(output.try_clone().map_err(failed)?))
        .stderr(Stdio::from(complaint.try_clone().map_err(failed)?))
        .spawn()
        .map_err(failed)?;
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err(LibvirtError::Hangs { command, seconds: PATIENCE.as_secs() });
        }
        thread::sleep(Duration::from_millis(5));
    };
    if status.success() {
        return text(&mut output).map_err(failed);
    }
    let said = text(&mut complaint).map_err(failed)?;
    Err(LibvirtError::Refused { command, message: said.trim().to_owned() })
}

/// A path that virsh takes as an argument; it splits none.
pub(super) fn argument(path: &Path) -> Result<&str, LibvirtError> {
    path.to_str().ok_or_else(|| LibvirtError::Path { path: path.to_owned() })
}

fn text(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(MAX_ANSWER).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
