//! Other people's programs, bounded in time and in what they may say.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

/// As much as is read of what a program says; the rest is cut off.
const MAX_ANSWER: u64 = 1 << 20;
const MAX_COMPLAINT: u64 = 4 << 10;

/// What is handed on at a time, at most.
const PIECE: usize = 1 << 17;

/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(5);

/// Why a program did not do its work.
#[derive(Debug)]
pub(crate) enum ProgramError {
    /// It could not be run.
    Start(io::Error),
    /// It did not come to an end and was killed.
    Hangs,
    /// It failed, with these words.
    Failed(String),
}

/// Runs a program to its end with something to read, and returns what it says.
pub(crate) fn run(
    command: &mut Command,
    input: Option<&str>,
    patience: Duration,
) -> Result<String, ProgramError> {
    let failed = ProgramError::Start;
    let file = || tempfile::tempfile().map_err(failed);
    let (mut output, mut complaint) = (file()?, file()?);
    let copy = |file: &File| file.try_clone().map(Stdio::from).map_err(failed);
    let stdin = match input {
        // A file without a name: what is told may hold a secret.
        Some(text) => {
            let mut told = file()?;
            told.write_all(text.as_bytes())
                .and_then(|()| told.seek(SeekFrom::Start(0)))
                .map_err(failed)?;
            Stdio::from(told)
        }
        None => Stdio::null(),
    };
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(stdin)
        .stdout(copy(&output)?)
        .stderr(copy(&complaint)?)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    if ended(&mut child, patience)? {
        return text(&mut output, MAX_ANSWER).map_err(failed);
    }
    let said = text(&mut complaint, MAX_COMPLAINT).map_err(failed)?;
    Err(ProgramError::Failed(said.trim().to_owned()))
}

/// Runs a program to its end and hands on what it writes, in pieces. Where one is not taken, the program ends too.
pub(crate) fn stream<E: Send>(
    command: &mut Command,
    patience: Duration,
    told: impl Fn(ProgramError) -> E,
    mut take: impl FnMut(&[u8]) -> Result<(), E> + Send,
) -> Result<(), E> {
    let failed = |error| told(ProgramError::Start(error));
    let mut complaint = tempfile::tempfile().map_err(failed)?;
    let mut child = command
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(complaint.try_clone().map(Stdio::from).map_err(failed)?)
        .process_group(0)
        .spawn()
        .map_err(failed)?;
    let output = child.stdout.take();
    let (taken, status) = thread::scope(|scope| {
        let taking = scope.spawn(move || {
            let Some(mut output) = output else { return Ok(Ok(())) };
            let mut piece = vec![0; PIECE];
            // What is not taken closes the pipe, and so ends the program.
            loop {
                match output.read(&mut piece) {
                    Ok(0) => return Ok(Ok(())),
                    Ok(read) => {
                        if let Err(refused) = take(&piece[..read]) {
                            return Ok(Err(refused));
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        });
        let status = ended(&mut child, patience);
        (taking.join(), status)
    });
    match taken {
        Ok(Ok(taken)) => taken?,
        Ok(Err(error)) => return Err(failed(error)),
        Err(_) => return Err(failed(io::Error::other("a thread ended early"))),
    }
    if status.map_err(&told)? {
        return Ok(());
    }
    let said = text(&mut complaint, MAX_COMPLAINT).map_err(failed)?;
    Err(told(ProgramError::Failed(said.trim().to_owned())))
}

/// Whether it ended well; it and all that it started are killed where it does not end in time.
fn ended(child: &mut Child, patience: Duration) -> Result<bool, ProgramError> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().map_err(ProgramError::Start)? {
            return Ok(status.success());
        }
        if Instant::now() > deadline {
            // With what it started: that would keep its end of a pipe open.
            let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
            let _ = child.wait();
            return Err(ProgramError::Hangs);
        }
        thread::sleep(LOOK);
    }
}

fn text(file: &mut File, most: u64) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_reads_what_it_is_told_and_is_cut_off_in_words_and_time() {
        let minute = Duration::from_secs(60);
        let told = run(&mut Command::new("cat"), Some("told"), minute).unwrap();
        assert_eq!(told, "told");

        let mut talker = Command::new("head");
        let said = run(talker.args(["-c", "2000000", "/dev/zero"]), None, minute).unwrap();
        assert_eq!(said.len(), 1 << 20);

        let failed = run(Command::new("ls").arg("/nowhere"), None, minute).unwrap_err();
        assert!(matches!(failed, ProgramError::Failed(said) if said.contains("/nowhere")));

        let hangs = run(Command::new("sleep").arg("60"), None, Duration::ZERO).unwrap_err();
        assert!(matches!(hangs, ProgramError::Hangs));
        let missing = run(&mut Command::new("no-such-program"), None, minute).unwrap_err();
        assert!(matches!(missing, ProgramError::Start(_)));
    }

    #[test]
    fn what_a_program_writes_is_handed_on_as_long_as_it_is_taken() {
        let minute = Duration::from_secs(60);
        let told = |error| format!("{error:?}");
        let mut got = 0;
        let mut zeros = Command::new("head");
        zeros.args(["-c", "300000", "/dev/zero"]);
        let count = |piece: &[u8]| {
            got += piece.len();
            Ok(())
        };
        stream(&mut zeros, minute, told, count).unwrap();
        assert_eq!(got, 300_000);

        let mut endless = Command::new("cat");
        let refused = stream(endless.arg("/dev/zero"), minute, told, |_| Err("enough".to_owned()))
            .unwrap_err();
        assert_eq!(refused, "enough");

        let hangs = stream(Command::new("sleep").arg("60"), Duration::ZERO, told, |_| Ok(()));
        assert_eq!(hangs.unwrap_err(), "Hangs");
        let mut starts_others = Command::new("sh");
        starts_others.args(["-c", "sleep 1000 | cat"]);
        let hangs = stream(&mut starts_others, Duration::ZERO, told, |_| Ok(()));
        assert_eq!(hangs.unwrap_err(), "Hangs");
        let failed = stream(Command::new("ls").arg("/nowhere"), minute, told, |_| Ok(()));
        assert!(failed.unwrap_err().contains("/nowhere"));
    }
}
