//! The programs of a package system, run inside of the root that they serve.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, fcntl_lock};
use rustix::io::Errno;

use super::command::{self, Output};
use super::packages::PackageFault;

/// How long an installation may take.
const ALTERATION_LIMIT: Duration = Duration::from_secs(3600);
/// How long a question may take.
const QUESTION_LIMIT: Duration = Duration::from_secs(120);
/// How long packages may take to come.
const FETCH_LIMIT: Duration = Duration::from_secs(1800);
/// How long somebody else may work before we do.
const LOCK_LIMIT: Duration = Duration::from_secs(900);

/// Where what an alteration says goes.
const LOG: &str = "log";
/// Longest line of it that is looked at, in bytes.
const LONGEST_LINE: u64 = 64 * 1024;

/// Programs of the system below a root.
#[derive(Debug, Clone)]
pub(super) struct Tools {
    root: PathBuf,
    work: PathBuf,
    environment: &'static [(&'static str, &'static str)],
}

impl Tools {
    /// Those below a root, with a directory to work in that lies below it as well.
    pub(super) fn new(
        root: PathBuf,
        work: PathBuf,
        environment: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { root, work, environment }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn work(&self) -> &Path {
        &self.work
    }

    /// Where a file of the system lies, seen from here.
    pub(super) fn outside(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// How a file is called inside of the root.
    pub(super) fn inside(&self, path: &Path) -> Result<String, PackageFault> {
        let outside = || PackageFault::Outside { path: path.to_owned() };
        let below = path.strip_prefix(&self.root).map_err(|_| outside())?;
        Ok(format!("/{}", below.to_str().ok_or_else(outside)?))
    }

    /// The arguments that run a program inside of the root.
    fn argv<'a>(&'a self, argv: &[&'a str]) -> Result<Vec<&'a str>, PackageFault> {
        if self.root == Path::new("/") {
            return Ok(argv.to_vec());
        }
        let outside = || PackageFault::Outside { path: self.root.clone() };
        let root = self.root.to_str().ok_or_else(outside)?;
        Ok([&["chroot", root][..], argv].concat())
    }

    /// Asks something that has a short answer.
    pub(super) fn ask(&self, argv: &[&str]) -> Result<Output, PackageFault> {
        let whole = self.argv(argv)?;
        command::run(&whole, self.environment, QUESTION_LIMIT)
            .map_err(|how| failed(argv[0], how, ""))
    }

    /// Asks what is answered at length, so through a file.
    pub(super) fn ask_long(
        &self,
        argv: &[&str],
        name: &str,
    ) -> Result<(Output, String), PackageFault> {
        let (output, answer) = self.ask_apart(argv, name)?;
        let bytes = fs::read(&answer).map_err(PackageFault::disk(&answer))?;
        Ok((output, String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Asks what is answered with many bytes, which lie in a file then.
    pub(super) fn ask_apart(
        &self,
        argv: &[&str],
        name: &str,
    ) -> Result<(Output, PathBuf), PackageFault> {
        let output = self.apart(argv, QUESTION_LIMIT, name)?;
        Ok((output, self.work.join(name)))
    }

    /// Runs what brings something over a network.
    pub(super) fn fetch(&self, argv: &[&str]) -> Result<Output, PackageFault> {
        let output = self.apart(argv, FETCH_LIMIT, "fetched")?;
        if output.exit == Some(0) { Ok(output) } else { Err(ended(argv[0], &output)) }
    }

    /// Runs what alters something; it goes on where we end.
    pub(super) fn act(&self, argv: &[&str]) -> Result<Output, PackageFault> {
        self.apart(argv, ALTERATION_LIMIT, LOG)
    }

    fn apart(&self, argv: &[&str], limit: Duration, name: &str) -> Result<Output, PackageFault> {
        fs::create_dir_all(&self.work).map_err(PackageFault::disk(&self.work))?;
        let whole = self.argv(argv)?;
        command::run_apart(&whole, self.environment, limit, &self.work.join(name))
            .map_err(|how| failed(argv[0], how, ""))
    }

    /// The first line with a word in it of what the last alteration said.
    pub(super) fn said(&self, word: &str) -> Result<Option<String>, PackageFault> {
        let log = self.work.join(LOG);
        let file = fs::File::open(&log).map_err(PackageFault::disk(&log))?;
        let mut reader = BufReader::new(file);
        let mut line = Vec::new();
        loop {
            line.clear();
            let read = reader.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
            if read.map_err(PackageFault::disk(&log))? == 0 {
                return Ok(None);
            }
            let text = String::from_utf8_lossy(&line);
            if text.contains(word) {
                return Ok(Some(text.trim().to_owned()));
            }
        }
    }

    /// Waits until nobody else alters packages: one of these programs that we started and that outlived us,
    /// or whoever holds one of these locks.
    pub(super) fn wait_for_others(
        &self,
        programs: &[&str],
        locks: &[PathBuf],
    ) -> Result<(), PackageFault> {
        let deadline = Instant::now() + LOCK_LIMIT;
        // Ours first: it may not have come as far as the lock, nor, below a root, as far as itself.
        while command::outlives(programs, &self.work.join(LOG)) {
            if Instant::now() >= deadline {
                return Err(PackageFault::Locked);
            }
            thread::sleep(Duration::from_millis(100));
        }
        for path in locks {
            let file = fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)
                .map_err(PackageFault::disk(path))?;
            loop {
                match fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
                    Ok(()) => break,
                    Err(Errno::AGAIN | Errno::ACCESS) if Instant::now() < deadline => {
                        thread::sleep(Duration::from_millis(100));
                    }
                    Err(Errno::AGAIN | Errno::ACCESS) => return Err(PackageFault::Locked),
                    Err(error) => return Err(PackageFault::disk(path)(error.into())),
                }
            }
        }
        Ok(())
    }
}

/// A program that ended badly.
pub(super) fn ended(program: &str, output: &Output) -> PackageFault {
    let how = match output.exit {
        Some(exit) => format!("ended with {exit}"),
        None => "was ended".to_owned(),
    };
    failed(program, how, output.text.trim())
}

pub(super) fn failed(program: &str, how: String, output: &str) -> PackageFault {
    PackageFault::Program { program: program.to_owned(), how, output: output.to_owned() }
}
