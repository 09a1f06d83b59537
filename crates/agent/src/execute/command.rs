//! Programs of the host, run by their arguments alone, with a limit on their time.

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// Bytes kept of what a program says: its end.
const KEPT: usize = 16 * 1024;

/// How a program ended.
#[derive(Debug)]
pub(super) struct Output {
    /// The end of what it printed.
    pub(super) text: String,
    /// `None` where a signal ended it.
    pub(super) exit: Option<i32>,
}

/// Asks a program something, and reads its answer and its errors together. No shell is involved.
pub(super) fn run(
    argv: &[&str],
    environment: &[(&str, &str)],
    limit: Duration,
) -> Result<Output, String> {
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let errors = writer.try_clone().map_err(|error| error.to_string())?;
    let child = start(argv, environment, writer.into(), errors.into())?;
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || sender.send(last_of(reader)));
    let exit = wait(child, limit);
    // A service that the program started may hold the pipe open for ever.
    let bytes = receiver.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    Ok(Output { text: String::from_utf8_lossy(&bytes).into_owned(), exit })
}

/// Runs a program to its end that must not die with us: what it says goes into a file, not into a pipe
/// that breaks where we end.
pub(super) fn run_apart(
    argv: &[&str],
    environment: &[(&str, &str)],
    limit: Duration,
    log: &Path,
) -> Result<Output, String> {
    let failed = |error: std::io::Error| format!("`{}`: {error}", log.display());
    let file = File::create(log).map_err(failed)?;
    let errors = file.try_clone().map_err(failed)?;
    let exit = wait(start(argv, environment, file.into(), errors.into())?, limit);
    let said = File::open(log).map_err(failed)?;
    Ok(Output { text: String::from_utf8_lossy(&last_of(said)).into_owned(), exit })
}

/// Whether one of these programs that we started lives on and says what it says into this file.
pub(super) fn outlives(programs: &[&str], log: &Path) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { return false };
    processes.flatten().map(|process| process.path()).any(|process| {
        let comm = fs::read_to_string(process.join("comm")).unwrap_or_default();
        programs.contains(&comm.trim_end())
            && fs::read_link(process.join("fd/1")).is_ok_and(|output| output == log)
    })
}

/// The command itself is gone when this returns, and with it our writing ends of its pipes.
fn start(
    argv: &[&str],
    environment: &[(&str, &str)],
    output: Stdio,
    errors: Stdio,
) -> Result<Child, String> {
    let (program, arguments) = argv.split_first().ok_or("an empty command")?;
    Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env("HOME", "/root")
        .envs(environment.iter().copied())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .process_group(0)
        .spawn()
        .map_err(|error| format!("cannot start `{program}`: {error}"))
}

/// The end of a stream, read to its end.
fn last_of(mut reader: impl Read) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        kept.extend_from_slice(&piece[..length]);
        let surplus = kept.len().saturating_sub(KEPT);
        kept.drain(..surplus);
    }
    kept
}

fn wait(mut child: Child, limit: Duration) -> Option<i32> {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.code(),
            Ok(None) if Instant::now() < deadline => thread::sleep(pause),
            Ok(None) | Err(_) => break,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    if let Some(group) = Pid::from_raw(child.id().cast_signed()) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.wait();
    None
}
