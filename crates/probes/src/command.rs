//! Programs of a system, run with a limit on their time and on what is kept of their output.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The journal of a boot full of errors, and `systemctl show` of a thousand units, are smaller.
const MAX_OUTPUT: usize = 16 << 20;

/// How a program ended.
pub struct Output {
    /// What it printed, the end of it where it was too much.
    pub text: String,
    /// `None` where a signal ended it.
    pub exit: Option<i32>,
    /// Whether the time limit ended it.
    pub timed_out: bool,
}

/// Runs a program to its end; its output and errors come together.
pub fn run(argv: &[&str], limit: Duration) -> Result<Output, String> {
    run_with(argv, &[], limit, MAX_OUTPUT)
}

/// The same with further environment variables and a limit for the output.
pub fn run_with(
    argv: &[&str],
    environment: &[(&str, &str)],
    limit: Duration,
    max_output: usize,
) -> Result<Output, String> {
    let (program, arguments) = argv.split_first().ok_or("an empty command")?;
    let (reader, writer) = std::io::pipe().map_err(|error| error.to_string())?;
    let errors = writer.try_clone().map_err(|error| error.to_string())?;
    // The command holds the pipe's writing ends: it must be gone before the reader meets its end.
    let child = {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/root")
            .env("SYSTEMD_COLORS", "0")
            .env("SYSTEMD_PAGER", "")
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(errors)
            .process_group(0);
        command.spawn().map_err(|error| format!("cannot start `{program}`: {error}"))?
    };
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || sender.send(last_of(reader, max_output)));
    let (exit, timed_out) = wait(child, limit);
    // A service that the program started may hold the pipe open for ever.
    let bytes = receiver.recv_timeout(Duration::from_secs(2)).unwrap_or_default();
    Ok(Output { text: String::from_utf8_lossy(&bytes).into_owned(), exit, timed_out })
}

/// The end of a stream, read to its end.
fn last_of(mut reader: std::io::PipeReader, limit: usize) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    while let Ok(length @ 1..) = reader.read(&mut piece) {
        kept.extend_from_slice(&piece[..length]);
        if kept.len() > 2 * limit {
            kept.drain(..kept.len() - limit);
        }
    }
    let surplus = kept.len().saturating_sub(limit);
    kept.drain(..surplus);
    kept
}

fn wait(mut child: Child, limit: Duration) -> (Option<i32>, bool) {
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return (status.code(), false),
            Ok(None) if Instant::now() < deadline => thread::sleep(pause),
            Ok(None) | Err(_) => break,
        }
        pause = (pause * 2).min(Duration::from_millis(50));
    }
    if let Some(group) = rustix::process::Pid::from_raw(child.id().cast_signed()) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.wait();
    (None, true)
}
