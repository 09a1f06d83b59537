//! libvirt's own client, bounded in time and in what it may say.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::LibvirtError;
use crate::program::{self, ProgramError};

const VIRSH: &str = "virsh";

/// Trials' machines: the user's own libvirt, without privileges.
const SESSION: &str = "qemu:///session";

/// The first call also starts the session's libvirt, which looks at its QEMU.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks the session's virsh and returns what it says.
pub(super) fn virsh(command: &'static str, arguments: &[&str]) -> Result<String, LibvirtError> {
    ask(SESSION, command, arguments, None, PATIENCE)
}

/// Asks virsh at a connection, with something to read from `/dev/stdin`.
pub(super) fn ask(
    connection: &str,
    command: &'static str,
    arguments: &[&str],
    input: Option<&str>,
    patience: Duration,
) -> Result<String, LibvirtError> {
    let mut virsh = program(connection, command, arguments);
    program::run(&mut virsh, input, patience).map_err(|error| failed(error, command, patience))
}

/// Has virsh write to `/dev/stdout`, and hands that on in pieces, as long as they are taken.
pub(super) fn stream<E: From<LibvirtError> + Send>(
    connection: &str,
    command: &'static str,
    arguments: &[&str],
    patience: Duration,
    take: impl FnMut(&[u8]) -> Result<(), E> + Send,
) -> Result<(), E> {
    let mut virsh = program(connection, command, arguments);
    program::stream(&mut virsh, patience, |error| failed(error, command, patience).into(), take)
}

fn program(connection: &str, command: &str, arguments: &[&str]) -> Command {
    let mut virsh = Command::new(VIRSH);
    virsh.args(["--quiet", "--connect", connection, command]).args(arguments);
    virsh
}

fn failed(error: ProgramError, command: &'static str, patience: Duration) -> LibvirtError {
    match error {
        ProgramError::Start(error) => LibvirtError::Start { error },
        ProgramError::Hangs => LibvirtError::Hangs { command, seconds: patience.as_secs() },
        ProgramError::Failed(message) => LibvirtError::Refused { command, message },
    }
}

/// A path that virsh takes as an argument; it splits none.
pub(super) fn argument(path: &Path) -> Result<&str, LibvirtError> {
    path.to_str().ok_or_else(|| LibvirtError::Path { path: path.to_owned() })
}
