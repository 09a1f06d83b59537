//! Somebody at a terminal of the machine: what they type, and what they see.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take until it is seen. A machine without KVM beside other work is slow.
const PATIENCE: Duration = Duration::from_secs(120);

/// What the shell asks with. It is typed in another form, so that its echo is not taken for it.
pub(crate) const PROMPT: &str = "root> ";

pub(crate) struct Terminal {
    ssh: Child,
    keyboard: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    /// What was on the screen before this was seen.
    seen: usize,
}

impl Terminal {
    /// Somebody's shell, by a command that gives them one at a terminal.
    pub(crate) fn open(mut ssh: Command) -> Self {
        ssh.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ssh = ssh.env("TERM", "xterm").spawn().unwrap();
        let (mut shown, keyboard) = (ssh.stdout.take().unwrap(), ssh.stdin.take().unwrap());
        let screen = Arc::new(Mutex::new(Vec::new()));
        let light = Arc::clone(&screen);
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = shown.read(&mut piece) {
                let mut screen = light.lock().unwrap_or_else(PoisonError::into_inner);
                screen.extend_from_slice(&piece[..length]);
            }
        });
        Self { ssh, keyboard, screen, seen: 0 }
    }

    /// Becomes root with `sudo`, in a shell that says [`PROMPT`] and echoes nothing.
    pub(crate) fn become_root(&mut self, login: &str, password: &str) {
        self.sees("$ ");
        self.types("sudo -i\n");
        self.sees(&format!("password for {login}:"));
        self.types(&format!("{password}\n"));
        self.sees("# ");
        self.types("stty -echo rows 24 cols 80; PS1='root''> ' exec sh\n");
        self.sees(PROMPT);
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
        self.keyboard.flush().unwrap();
    }

    /// Waits until something is on the screen that was not seen before; all that came until then.
    pub(crate) fn sees(&mut self, what: &str) -> String {
        let begin = Instant::now();
        loop {
            let screen = self.screen.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let new = &screen[self.seen..];
            let found = new.windows(what.len()).position(|it| it == what.as_bytes());
            if let Some(place) = found {
                self.seen += place + what.len();
                return String::from_utf8_lossy(&new[..place]).into_owned();
            }
            let told = String::from_utf8_lossy(new);
            assert!(begin.elapsed() < PATIENCE, "{what:?} does not come: {told:?}");
            let ended = self.ssh.try_wait().unwrap();
            assert!(ended.is_none(), "{what:?} never comes, the session has ended: {told:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs a command in the shell to its end; what it prints.
    pub(crate) fn runs(&mut self, command: &str) -> String {
        self.types(&format!("{command}\n"));
        self.sees(PROMPT).replace('\r', "").trim().to_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Already gone is fine.
        let _ = self.ssh.kill();
        let _ = self.ssh.wait();
    }
}
