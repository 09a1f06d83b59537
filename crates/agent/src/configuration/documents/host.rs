//! Where documents come from: what a running system says of itself.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use inspect::TargetKind;
use rustix::process::{Pid, Signal, kill_process_group};

use super::page::Unseen;
use super::tls;

/// Where the system's programs lie.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most bytes of a file that is read, or of what a program says.
const LARGEST: usize = 4 << 20;

/// Most bytes of a program's complaints.
const LONGEST_COMPLAINT: usize = 16 << 10;

/// How long a program may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Longest names of a directory that are listed.
const MOST_NAMES: usize = 100_000;

/// What collectors see of a system that runs.
pub(super) trait Host {
    /// What a file holds.
    fn read(&self, path: &str) -> io::Result<Vec<u8>>;

    /// The names in a directory, sorted; those that are no UTF-8 are left out.
    fn names(&self, directory: &str) -> io::Result<Vec<String>>;

    /// Whose something is, and who may do what with it.
    fn status(&self, path: &str) -> io::Result<Status>;

    /// Where a link leads.
    fn target(&self, path: &str) -> io::Result<String>;

    /// What a program answers.
    fn ask(&self, question: &Question<'_>) -> Result<Answer, Unseen>;

    /// What a service of this host offers over TLS.
    fn tls(&self, address: SocketAddr) -> Result<String, Unseen>;

    /// What is installed, each package on a line.
    fn packages(&self) -> Result<Vec<String>, Unseen>;

    /// A clock that only rises.
    fn clock(&self) -> Duration;
}

/// Whose something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Status {
    /// Its owner.
    pub(super) user: Account,
    /// Kind and permissions, as `st_mode` has them.
    pub(super) mode: u32,
}

/// As whom a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// What a program is asked. No shell is involved, and nothing of the agent's environment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question<'a> {
    /// The program and its arguments.
    pub(super) argv: &'a [&'a str],
    /// As whom; as the agent where it is not said.
    pub(super) by: Option<Account>,
}

/// What a program answered.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// What it printed; letters that are none are replaced.
    pub(super) text: String,
    /// What it complained of, its beginning.
    pub(super) complaint: String,
    /// `None` where a signal ended it.
    pub(super) exit: Option<i32>,
}

impl<'a> Question<'a> {
    /// Asked by the agent itself.
    pub(super) const fn new(argv: &'a [&'a str]) -> Self {
        Self { argv, by: None }
    }
}

impl Answer {
    /// What it printed, where it ended well.
    pub(super) fn told(self, program: &str) -> Result<String, Unseen> {
        if self.exit == Some(0) { Ok(self.text) } else { Err(self.complains(program)) }
    }

    /// Why it did not tell what it was asked.
    pub(super) fn complains(&self, program: &str) -> Unseen {
        let exit = match self.exit {
            Some(exit) => format!("ended with {exit}"),
            None => "was ended by a signal".to_owned(),
        };
        let first = self.complaint.lines().map(str::trim).find(|line| !line.is_empty());
        let said = first.map(|line| format!(": {line}")).unwrap_or_default();
        Unseen::new(format!("`{program}` {exit}{said}"))
    }
}

/// This machine.
#[derive(Debug)]
pub(super) struct Live {
    path: String,
    limit: Duration,
    begun: Instant,
}

impl Live {
    pub(super) fn new() -> Self {
        Self { path: PATH.to_owned(), limit: LIMIT, begun: Instant::now() }
    }

    /// With other programs, and less time for them.
    #[cfg(test)]
    pub(super) fn with(path: String, limit: Duration) -> Self {
        Self { path, limit, begun: Instant::now() }
    }
}

impl Host for Live {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(path)?.take(LARGEST as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > LARGEST {
            return Err(io::Error::other(format!("`{path}` has more than {LARGEST} bytes")));
        }
        Ok(bytes)
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)?.take(MOST_NAMES) {
            names.extend(entry?.file_name().into_string().ok());
        }
        names.sort();
        Ok(names)
    }

    fn status(&self, path: &str) -> io::Result<Status> {
        let found = fs::symlink_metadata(path)?;
        let user = Account { uid: found.uid(), gid: found.gid() };
        Ok(Status { user, mode: found.mode() })
    }

    fn target(&self, path: &str) -> io::Result<String> {
        Ok(fs::read_link(path)?.to_string_lossy().into_owned())
    }

    fn ask(&self, question: &Question<'_>) -> Result<Answer, Unseen> {
        let Some((program, arguments)) = question.argv.split_first() else {
            return Err(Unseen::new("nothing is asked"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env_clear()
            .env("PATH", &self.path)
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", "/nonexistent")
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if let Some(Account { uid, gid }) = question.by {
            // Further groups are given up with that.
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Unseen::new(format!("there is no program `{program}`")),
            _ => Unseen::new(format!("`{program}` cannot be started: {error}")),
        })?;
        Running { child, deadline: Instant::now() + self.limit }.end(program, self.limit)
    }

    fn tls(&self, address: SocketAddr) -> Result<String, Unseen> {
        tls::ask(address, tls::LIMIT)
    }

    fn packages(&self) -> Result<Vec<String>, Unseen> {
        let unreadable = |error: &dyn std::error::Error| Unseen::new(error.to_string());
        // As if it did not run: what its processes have loaded is told elsewhere.
        let at_rest = Some(TargetKind::Directory);
        let target = inspect::open(Path::new("/"), at_rest).map_err(|error| unreadable(&error))?;
        let inventory = target.inventory().map_err(|error| unreadable(&error))?;
        let packages = inventory.packages.into_iter().map(|it| {
            let held = if it.held { " held" } else { "" };
            let state = it.state.trouble().map(|it| format!(" {it}")).unwrap_or_default();
            format!("{} {} {}{held}{state}", it.name, it.architecture, it.version)
        });
        Ok(packages.collect())
    }

    fn clock(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// A program at work.
struct Running {
    child: Child,
    deadline: Instant,
}

impl Running {
    fn end(mut self, program: &str, limit: Duration) -> Result<Answer, Unseen> {
        let text = reader(self.child.stdout.take(), LARGEST);
        let complaint = reader(self.child.stderr.take(), LONGEST_COMPLAINT);
        let late = || Unseen::new(format!("`{program}` did not end within {} s", limit.as_secs()));
        let Some(text) = self.received(&text) else {
            self.kill();
            return Err(late());
        };
        if text.len() > LARGEST {
            self.kill();
            return Err(Unseen::new(format!("`{program}` says more than {LARGEST} bytes")));
        }
        let Some(status) = self.ended() else {
            self.kill();
            return Err(late());
        };
        // What it left running may hold this one open.
        let complaint = complaint.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
        let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(Answer { text: lossy(&text), complaint: lossy(&complaint), exit: status.code() })
    }

    fn received(&self, from: &Receiver<Vec<u8>>) -> Option<Vec<u8>> {
        from.recv_timeout(self.deadline.saturating_duration_since(Instant::now())).ok()
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let mut pause = Duration::from_micros(200);
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < self.deadline => thread::sleep(pause),
                Ok(None) | Err(_) => return None,
            }
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Ends it with all that it started in its group.
    fn kill(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id().cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }
}

/// Reads a stream to its end, or one byte further than it may have.
fn reader(stream: Option<impl Read + Send + 'static>, most: usize) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            let _ = stream.take(most as u64 + 1).read_to_end(&mut bytes);
        }
        // Nobody may wait for it any more.
        let _ = sender.send(bytes);
    });
    receiver
}
