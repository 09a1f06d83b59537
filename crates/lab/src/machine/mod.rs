//! One QEMU process: started, listened to, ended.
//!
//! ```text
//! keeper thread ── setpriv --pdeathsig ── qemu ──┬─ stdout: serial console ─► log, tail, observer
//!   (lives as long as QEMU does)                 ├─ qmp.sock: events, power button
//!                                                └─ guest.sock: the guest program, if it is ours
//!            all of them end in one queue: Machine::next
//! ```
//!
//! The kernel ends QEMU when the thread that started it ends, so a thread of its own waits for it:
//! whatever kills this process kills QEMU.

mod command_line;
mod qmp;
mod serial;

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use guest::{Message, Request};
use rustix::fd::OwnedFd;
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, pidfd_open, pidfd_send_signal, prlimit,
};

pub(crate) use command_line::{Access, Boot, Disk, Hardware, KEEPER, QEMU, node};
pub use command_line::{Door, Network, Restart};
pub(crate) use qmp::Button;
pub(crate) use serial::Serial;

use crate::observer::Observer;
use crate::work::JobDirectory;

/// QEMU opens its sockets within a second; a busy machine gets more.
const SOCKETS_LIMIT: Duration = Duration::from_secs(30);

/// A guest that speaks without end waits for us, and fills no memory.
const WAITING_EVENTS: usize = 1;

/// A picture of a large system is a few MiB.
const MAX_MESSAGE: u64 = 64 << 20;

/// Why there is no machine, or no more.
#[derive(Debug, thiserror::Error)]
pub enum MachineError {
    /// A program could not be started.
    #[error("cannot start `{program}`: {error}")]
    Start {
        /// The program.
        program: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// QEMU ended by itself before or while it was needed.
    #[error("QEMU ended with {status}: {message}")]
    Ended {
        /// Its exit status.
        status: ExitStatus,
        /// What it said, its last lines.
        message: String,
    },
    /// A file of the job could not be used.
    #[error("cannot use `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A channel to QEMU could not be opened.
    #[error("QEMU does not answer on `{socket}`: {error}")]
    Silent {
        /// The socket.
        socket: &'static str,
        /// What the system said.
        #[source]
        error: io::Error,
    },
}

impl MachineError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Start { .. } => Some(
                "the lab needs qemu-system-x86_64 (package qemu-system-x86), qemu-img (qemu-utils), mke2fs (e2fsprogs) and setpriv (util-linux)",
            ),
            Self::Ended { .. } | Self::Silent { .. } | Self::Io { .. } => None,
        }
    }
}

/// Something that happened to a machine.
#[derive(Debug)]
pub(crate) enum Event {
    /// The guest program spoke.
    Said(Message),
    /// The guest program spoke what is no message.
    Nonsense(String),
    /// The guest asked for its end or its restart.
    Shutdown(Shutdown),
    /// A disk could not be written.
    DiskFailed {
        /// What QEMU calls the failure.
        reason: String,
    },
    /// QEMU is gone.
    Ended(ExitStatus),
}

/// How a guest went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shutdown {
    Reset,
    PowerOff,
    Panic,
    Other,
}

/// What a machine used since QEMU was started, as QEMU and the kernel count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// What it wrote to its first disk.
    pub disk: Writes,
    /// How long processors of this host worked for it.
    pub processor: Duration,
}

/// What was written to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writes {
    /// Bytes.
    pub bytes: u64,
    /// In how many requests.
    pub requests: u64,
    /// How often it was to be made durable.
    pub flushes: u64,
}

/// A running virtual machine; ended when dropped.
#[derive(Debug)]
pub(crate) struct Machine {
    events: Receiver<Event>,
    /// What QEMU answers to what it is asked.
    answers: Receiver<serde_json::Value>,
    process: OwnedFd,
    number: Pid,
    qmp: UnixStream,
    guest: UnixStream,
    serial: Serial,
    errors: Serial,
    ended: Option<ExitStatus>,
}

impl Machine {
    /// Starts QEMU in the job's directory.
    pub(crate) fn start(
        job: &JobDirectory,
        hardware: &Hardware<'_>,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, MachineError> {
        for socket in [command_line::QMP_SOCKET, command_line::GUEST_SOCKET] {
            // Of the machine before a reboot.
            let _ = std::fs::remove_file(job.path().join(socket));
        }
        let (sender, events) = sync_channel(WAITING_EVENTS);
        let child = keep(hardware.command(job.path()), sender.clone())?;
        let process = child.process;
        let note_failed = |error| MachineError::Io { path: job.path().to_owned(), error };
        let descriptor =
            pidfd_open(process, PidfdFlags::empty()).map_err(|error| note_failed(error.into()))?;
        let limited = bound(process, hardware.limits.disk_bytes)
            .and_then(|()| job.note_process(process.as_raw_nonzero().get().cast_unsigned()));
        let mut machine = Self {
            events,
            answers: channel().1,
            process: descriptor,
            number: process,
            qmp: UnixStream::pair().map_err(note_failed)?.0,
            guest: UnixStream::pair().map_err(note_failed)?.0,
            serial: Serial::keep(child.stdout, job.path().join("serial.log"), Some(observer)),
            errors: Serial::keep(child.stderr, job.path().join("qemu.log"), None),
            ended: None,
        };
        limited.map_err(note_failed)?;
        machine.qmp = machine.connect(job.path(), command_line::QMP_SOCKET)?;
        machine.answers = machine
            .qmp
            .try_clone()
            .and_then(|qmp| qmp::listen(qmp, sender.clone()))
            .map_err(|error| MachineError::Silent { socket: "qmp.sock", error })?;
        if matches!(hardware.boot, Boot::Firmware(_)) {
            return Ok(machine);
        }
        machine.guest = machine.connect(job.path(), command_line::GUEST_SOCKET)?;
        let reader = machine
            .guest
            .try_clone()
            .map_err(|error| MachineError::Silent { socket: "guest.sock", error })?;
        thread::spawn(move || hear(reader, &sender));
        Ok(machine)
    }

    /// The serial console.
    pub(crate) fn serial(&self) -> &Serial {
        &self.serial
    }

    /// The last lines that QEMU itself said.
    pub(crate) fn complaints(&self) -> String {
        self.errors.tail()
    }

    /// The next event, `None` where there is none until the deadline.
    pub(crate) fn next(&mut self, deadline: Instant) -> Option<Event> {
        if let Some(status) = self.ended {
            return Some(Event::Ended(status));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        // Also where there always is one: a guest that speaks without end gets no more time.
        if left.is_zero() {
            return None;
        }
        match self.events.recv_timeout(left) {
            Ok(Event::Ended(status)) => {
                self.ended = Some(status);
                Some(Event::Ended(status))
            }
            Ok(event) => Some(event),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Asks the guest program.
    pub(crate) fn ask(&mut self, request: &Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(request)?;
        line.push(b'\n');
        self.guest.set_write_timeout(Some(SOCKETS_LIMIT))?;
        self.guest.write_all(&line)
    }

    /// Presses a button of the machine.
    pub(crate) fn press(&self, button: Button) -> Result<(), MachineError> {
        qmp::press(&self.qmp, button)
            .map_err(|error| MachineError::Silent { socket: "qmp.sock", error })
    }

    /// What it used so far.
    pub(crate) fn usage(&self) -> Result<Usage, MachineError> {
        let silent = |error| MachineError::Silent { socket: "qmp.sock", error };
        // One that came too late answers an earlier question.
        while self.answers.try_recv().is_ok() {}
        qmp::ask_for_writes(&self.qmp).map_err(silent)?;
        let answer = self.answers.recv_timeout(SOCKETS_LIMIT);
        let answer = answer.map_err(|error| silent(io::Error::other(error)))?;
        let odd = || io::Error::new(io::ErrorKind::InvalidData, format!("it answers {answer}"));
        let disk =
            qmp::writes(&answer, &command_line::node_name(0)).ok_or_else(odd).map_err(silent)?;
        let stat = PathBuf::from(format!("/proc/{}/stat", self.number.as_raw_nonzero()));
        let processor = std::fs::read_to_string(&stat)
            .and_then(|text| ticks(&text).ok_or_else(|| io::Error::other("it names no times")))
            .map_err(|error| MachineError::Io { path: stat, error })?;
        let second = rustix::param::clock_ticks_per_second();
        Ok(Usage { disk, processor: Duration::from_millis(processor * 1000 / second.max(1)) })
    }

    /// Ends QEMU at once and waits until it is gone.
    pub(crate) fn end(&mut self) {
        while self.ended.is_none() {
            let _ = pidfd_send_signal(&self.process, Signal::KILL);
            match self.events.recv_timeout(Duration::from_secs(1)) {
                Ok(Event::Ended(status)) => self.ended = Some(status),
                Ok(_) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Waits for QEMU to open a socket, and connects.
    fn connect(&mut self, job: &Path, socket: &'static str) -> Result<UnixStream, MachineError> {
        let silent = |error| MachineError::Silent { socket, error };
        // Socket addresses hold about a hundred bytes; a descriptor's path is always short enough.
        let directory = std::fs::File::open(job).map_err(silent)?;
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&directory);
        let path = format!("/proc/self/fd/{descriptor}/{socket}");
        let deadline = Instant::now() + SOCKETS_LIMIT;
        loop {
            match UnixStream::connect(&path) {
                Ok(stream) => return Ok(stream),
                Err(error) if Instant::now() > deadline => return Err(silent(error)),
                Err(_) => {}
            }
            if let Some(Event::Ended(status)) =
                self.next(Instant::now() + Duration::from_millis(20))
            {
                thread::sleep(Duration::from_millis(100));
                return Err(MachineError::Ended { status, message: self.errors.tail() });
            }
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether the kernel ended a process because it wrote more than it may.
pub(crate) fn exceeded_disk(status: ExitStatus) -> bool {
    status.signal() == Some(Signal::XFSZ.as_raw())
}

/// Ticks of the clock for which processors worked, for the program and for the kernel (`proc(5)`).
fn ticks(stat: &str) -> Option<u64> {
    // The program's name stands in brackets, and may have anything in it.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut times = fields.split(' ').skip(11);
    let mut next = || times.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// What the keeper tells of the process that it started.
struct Kept {
    process: Pid,
    stdout: std::process::ChildStdout,
    stderr: std::process::ChildStderr,
}

/// Starts a process from a thread that lives as long as the process does.
fn keep(mut command: Command, sender: SyncSender<Event>) -> Result<Kept, MachineError> {
    let (started, starting) = channel();
    thread::spawn(move || {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child: Child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let kept = Pid::from_raw(child.id().cast_signed())
            .zip(child.stdout.take())
            .zip(child.stderr.take())
            .map(|((process, stdout), stderr)| Kept { process, stdout, stderr });
        let _ = started.send(kept.ok_or_else(|| io::Error::other("it has no output")));
        if let Ok(status) = child.wait() {
            let _ = sender.send(Event::Ended(status));
        }
    });
    let failed = |error| MachineError::Start { program: command_line::KEEPER, error };
    starting.recv().map_err(|error| failed(io::Error::other(error)))?.map_err(failed)
}

/// Limits that the kernel holds: no file grows beyond the disk's limit, no memory is dumped, and
/// this process goes first where memory runs out.
fn bound(process: Pid, disk_bytes: u64) -> io::Result<()> {
    let limit = |bytes| Rlimit { current: Some(bytes), maximum: Some(bytes) };
    prlimit(Some(process), Resource::Fsize, limit(disk_bytes))?;
    prlimit(Some(process), Resource::Core, limit(0))?;
    let number = process.as_raw_nonzero();
    std::fs::write(format!("/proc/{number}/oom_score_adj"), "800")
}

/// Reads the guest's messages for as long as there are any.
fn hear(stream: UnixStream, sender: &SyncSender<Event>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut line = Vec::new();
        match reader.by_ref().take(MAX_MESSAGE).read_until(b'\n', &mut line) {
            Ok(1..) if line.ends_with(b"\n") => {}
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let reason = format!("a message of more than {MAX_MESSAGE} bytes");
                let _ = sender.send(Event::Nonsense(reason));
                return;
            }
        }
        let event = match serde_json::from_slice(&line) {
            Ok(message) => Event::Said(message),
            Err(error) => Event::Nonsense(error.to_string()),
        };
        if sender.send(event).is_err() {
            return;
        }
    }
}

/// Runs QEMU to its end with this process's terminal as its console.
pub(crate) fn run_interactively(
    job: &JobDirectory,
    hardware: &Hardware<'_>,
) -> Result<ExitStatus, MachineError> {
    let failed = |error| MachineError::Start { program: command_line::KEEPER, error };
    let mut child = hardware.command(job.path()).spawn().map_err(failed)?;
    let limited = Pid::from_raw(child.id().cast_signed())
        .ok_or_else(|| io::Error::other("it has no process id"))
        .and_then(|process| bound(process, hardware.limits.disk_bytes))
        .and_then(|()| job.note_process(child.id()));
    if let Err(error) = limited {
        let _ = child.kill();
        let _ = child.wait();
        return Err(MachineError::Io { path: job.path().to_owned(), error });
    }
    child.wait().map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_brackets_in_its_name_worked_as_long_as_any_other() {
        let stat = "7 (qemu) 1 (x) S 1 7 7 0 -1 4194560 9 0 0 0 120 34 0 0 20 0 1 0 5 6 7";
        assert_eq!(ticks(stat), Some(154));
        assert_eq!(ticks("7 (qemu) S 1 7"), None);
    }
}
