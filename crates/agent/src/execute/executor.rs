//! Goes through the steps of one execution.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use domain::agent::AtWork;
use domain::change::{Action, ExactPackage, FileChange, FileHash};
use domain::order::{
    Accepted, Ended, ExecutionId, Forbidden, Order, OrderResult, Permission, Policy, ProbeOutcome,
    Refusal,
};
use jiff::Timestamp;
use probes::{Probe, Profile};
use rustix::fs::{FlockOperation, flock};
use sha2::{Digest as _, Sha256};

use super::back::{is_as_before, told, written};
use super::files::{FileFault, HostFiles, expect, put_apart, sha256};
use super::journal::{Journal, Step, sync_up};
use super::packages::{
    Alteration, Completeness, Direction, Found, Hold, Newer, PackageFault, PackageSystem,
    TrustedPackages, versions_of,
};
use super::progress::Progress;
use super::space;
use super::system::{System, downtime};

/// How long the lock may be held by a process that ends, or by a program that is being started and has
/// not let go of it yet.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// How often an action is tried before it is taken back: begun once, and taken up again.
const MOST_TRIES: u32 = 3;

/// Carries orders out, one at a time, in a directory of its own.
pub struct Executor<'a> {
    /// Where the journal, the packages and the way back lie.
    pub directory: PathBuf,
    /// Alters what is installed.
    pub packages: &'a dyn PackageSystem,
    /// Knows which packages are their vendor's.
    pub archives: &'a dyn TrustedPackages,
    /// What runs.
    pub system: &'a dyn System,
    /// Files that orders alter.
    pub files: &'a HostFiles,
    /// What the owner declares that must work, as their file says it when it is asked.
    pub probes: &'a dyn Fn() -> Result<Profile, Refusal>,
    /// What the owner allows, as their file says it when it is asked.
    pub owner: &'a dyn Fn() -> Result<Policy, Refusal>,
    /// The time.
    pub clock: &'a dyn Fn() -> Timestamp,
    /// Is told what begins.
    pub watch: &'a dyn Fn(AtWork),
}

/// Where an execution stands when it returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paused {
    /// It is over. The journal stays until [`Executor::forget`].
    Ended(Box<OrderResult>),
    /// The system restarts; [`Executor::resume`] goes on after that.
    Rebooting,
}

/// Why an execution cannot go on here and now. What it is in the middle of stands in its journal.
#[derive(Debug, thiserror::Error)]
pub enum ExecuteError {
    /// Another order is being carried out, or its result was not taken.
    #[error("another order is being carried out in `{directory}`")]
    Busy {
        /// Where.
        directory: PathBuf,
    },
    /// The journal cannot be read or written.
    #[error("cannot use the journal in `{directory}`")]
    Journal {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl ExecuteError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::Busy { .. } => "wait for it; resume it if nothing does",
            Self::Journal { .. } => "check space and permissions there",
        }
    }
}

/// An execution that ends before its last action.
pub(super) enum Halt {
    /// Nothing was altered.
    Refused(Refusal),
    /// An action failed, after this one nothing goes forward.
    Failed { action: usize, because: String },
    /// The system restarts.
    Reboots,
    /// The journal failed.
    Journal(io::Error),
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Journal(error)
    }
}

/// A journal and what it adds up to.
pub(super) struct Run<'a> {
    journal: RefCell<Journal>,
    watch: &'a dyn Fn(AtWork),
    /// Contents of files that came with the order. What goes on after an interruption has them on its disk.
    contents: BTreeMap<FileHash, Vec<u8>>,
}

impl Run<'_> {
    pub(super) fn add(&self, step: Step) -> io::Result<()> {
        let begins = step.begins();
        self.journal.borrow_mut().add(step)?;
        begins.into_iter().for_each(self.watch);
        Ok(())
    }

    pub(super) fn progress(&self) -> Progress {
        Progress::of(self.journal.borrow().steps())
    }
}

impl Executor<'_> {
    /// Carries an accepted order out.
    ///
    /// # Errors
    /// If another one is under way, or the journal cannot be kept. Whatever else goes wrong is how the
    /// execution ended.
    pub fn begin(&self, accepted: &Accepted, id: ExecutionId) -> Result<Paused, ExecuteError> {
        let first = Step::Accepted {
            execution: id,
            order: Box::new(accepted.order().clone()),
            change: accepted.change(),
            at: accepted.at(),
        };
        self.start(first, accepted.contents().clone())
    }

    pub(super) fn start(
        &self,
        first: Step,
        contents: BTreeMap<FileHash, Vec<u8>>,
    ) -> Result<Paused, ExecuteError> {
        let _alone = self.alone()?;
        if self.read()?.is_some() {
            return Err(ExecuteError::Busy { directory: self.directory.clone() });
        }
        let begins = first.begins();
        let journal = Journal::begin(&self.directory, first).map_err(|it| self.journal(it))?;
        begins.into_iter().for_each(self.watch);
        self.go_on(&Run { journal: RefCell::new(journal), watch: self.watch, contents })
    }

    /// Takes up what was interrupted; `None` where nothing was.
    ///
    /// # Errors
    /// As [`begin`](Self::begin).
    pub fn resume(&self) -> Result<Option<Paused>, ExecuteError> {
        let _alone = self.alone()?;
        let Some(journal) = self.read()? else { return Ok(None) };
        let (contents, watch) = (BTreeMap::new(), self.watch);
        let run = Run { journal: RefCell::new(journal), watch, contents };
        let progress = run.progress();
        if progress.ended.is_none() && progress.rebooting.is_none() {
            run.add(Step::Resumed { at: (self.clock)() }).map_err(|it| self.journal(it))?;
        }
        self.go_on(&run).map(Some)
    }

    /// Removes the journal, the packages and the way back, once the result is kept elsewhere. Of what is
    /// stuck, journal and way back stay in a directory named by the execution: nobody else has what was
    /// replaced.
    ///
    /// # Errors
    /// If they cannot be removed.
    pub fn forget(&self) -> Result<(), ExecuteError> {
        let _alone = self.alone()?;
        let result = self.read()?.and_then(|journal| Progress::of(journal.steps()).result());
        if let Some(OrderResult { execution, ended: Ended::Stuck { .. }, .. }) = result {
            return self.set_aside(execution).map_err(|error| self.journal(error));
        }
        // The journal last, so that an interruption leaves what it speaks of explained.
        for name in ["new", "back", "journal"] {
            let path = self.directory.join(name);
            let removed =
                if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(self.journal(error));
                }
                _ => {}
            }
        }
        sync_up(&self.directory).map_err(|error| self.journal(error))
    }

    fn set_aside(&self, execution: ExecutionId) -> io::Result<()> {
        let aside = self.directory.join(format!("stuck-{execution}"));
        fs::create_dir_all(&aside)?;
        // The journal last here as well.
        for name in ["back", "journal"] {
            match fs::rename(self.directory.join(name), aside.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        sync_up(&aside)?;
        sync_up(&self.directory)
    }

    /// The order that is being carried out, or was and is not forgotten.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub fn order(&self) -> Result<Option<Order>, ExecuteError> {
        let journal = self.read()?;
        let accepted = journal.and_then(|journal| Progress::of(journal.steps()).accepted);
        Ok(accepted.map(|(_, order, _)| order))
    }

    fn go_on(&self, run: &Run<'_>) -> Result<Paused, ExecuteError> {
        let progress = run.progress();
        if progress.accepted.is_none() {
            let why = "it does not begin with an order";
            return Err(self.journal(io::Error::new(io::ErrorKind::InvalidData, why)));
        }
        if progress.ended.is_none() {
            let ended = match self.forward(run) {
                Ok(()) => Ended::Done,
                Err(Halt::Refused(refusal)) => Ended::Refused { refusal },
                Err(Halt::Reboots) => return Ok(Paused::Rebooting),
                Err(Halt::Journal(error)) => return Err(self.journal(error)),
                Err(Halt::Failed { action, because }) => {
                    self.turn_back(run, action, because).map_err(|error| self.journal(error))?
                }
            };
            let before = run.progress().way_back.map(|way_back| way_back.units).unwrap_or_default();
            let downtime = downtime(&before, &self.system.times());
            let at = (self.clock)();
            run.add(Step::Ended { ended, downtime, at }).map_err(|error| self.journal(error))?;
        }
        let result = run.progress().result();
        result.map(|it| Paused::Ended(Box::new(it))).ok_or_else(|| {
            self.journal(io::Error::new(io::ErrorKind::InvalidData, "it does not end"))
        })
    }

    /// All steps that are not done yet.
    fn forward(&self, run: &Run<'_>) -> Result<(), Halt> {
        let progress = run.progress();
        let Some((_, order, _)) = &progress.accepted else { return Ok(()) };
        if let Some((action, because)) = progress.turned_back.clone() {
            return Err(Halt::Failed { action, because });
        }
        match progress.started {
            None => {
                self.prepare(run, &progress, order)?;
                self.ask_again(order, &run.progress())?;
            }
            // Also where a repair is what never ends.
            Some((action, tries)) if action >= progress.done && tries > MOST_TRIES => {
                let because = format!("it was tried {MOST_TRIES} times, and never ended");
                return Err(Halt::Failed { action, because });
            }
            Some(_) => {
                if let Err(fault) = self.packages.repair() {
                    // What stays half done is finished, or taken back, by the packages at hand.
                    eprintln!("warning: {fault}");
                }
            }
        }
        for (place, action) in order.actions.iter().enumerate().skip(progress.done) {
            match action {
                Action::Upgrade { packages } => self.upgrade(run, order, place, packages)?,
                Action::RestartUnit { unit } => {
                    run.add(Step::Started { action: place })?;
                    self.restart(run, unit)
                        .map_err(|because| Halt::Failed { action: place, because })?;
                }
                Action::Reboot => self.reboot(run, order, place)?,
                Action::AlterFile { path, change } => {
                    self.alter_file(run, order, place, (path, change))?;
                }
                Action::Probe { probe } => self.probe(run, place, probe)?,
            }
            run.add(Step::ActionDone { action: place })?;
        }
        Ok(())
    }

    /// Everything at hand, and the way back kept, before anything is altered.
    fn prepare(&self, run: &Run<'_>, progress: &Progress, order: &Order) -> Result<(), Halt> {
        let refused = Halt::Refused;
        let now = (self.clock)();
        if order.window.until <= now {
            return Err(refused(Refusal::Late { closed: order.window.until, now }));
        }
        self.check_probes(&order.actions).map_err(refused)?;
        self.check_files(&order.actions).map_err(refused)?;
        self.keep_contents(&order.actions, &run.contents).map_err(refused)?;
        let in_order =
            |fault: PackageFault| Halt::Refused(Refusal::NotInOrder { because: fault.to_string() });
        self.packages.audit().map_err(in_order)?;
        let installed = self.packages.installed().map_err(in_order)?;
        let packages = progress.packages();
        let old = replaced(&installed, &packages);
        check_held(&old).map_err(refused)?;
        if !progress.is_fetched {
            self.fetch(&packages).map_err(refused)?;
            run.add(Step::Fetched)?;
        }
        if progress.way_back.is_none() {
            // Others may have altered something meanwhile.
            let installed = self.packages.installed().map_err(in_order)?;
            let old = replaced(&installed, &packages);
            let step =
                self.keep_way_back(&order.actions, &packages, &installed, &old).map_err(refused)?;
            run.add(step)?;
        }
        Ok(())
    }

    /// Once more, right before the first alteration, what was asked when the order was accepted: to bring
    /// packages may have taken an hour.
    fn ask_again(&self, order: &Order, progress: &Progress) -> Result<(), Halt> {
        let asked = || -> Result<(), Refusal> {
            let not_in_order = |because: String| Refusal::NotInOrder { because };
            let installed =
                self.packages.installed().map_err(|fault| not_in_order(fault.to_string()))?;
            check_held(&replaced(&installed, &progress.packages()))?;
            if progress.way_back.as_ref().is_some_and(|it| !is_as_before(&installed, it)) {
                let because = "somebody else altered the same packages meanwhile".to_owned();
                return Err(not_in_order(because));
            }
            self.check_probes(&order.actions)?;
            self.check_files(&order.actions)?;
            let policy = (self.owner)()?;
            let versions = versions_of(self.packages.versions(), &installed);
            let now = (self.clock)();
            if order.window.until <= now {
                return Err(Refusal::Late { closed: order.window.until, now });
            }
            policy.allows(&order.actions, &versions, now).map_err(Refusal::Forbidden)
        };
        asked().map_err(Halt::Refused)
    }

    fn fetch(&self, packages: &[ExactPackage]) -> Result<(), Refusal> {
        let new = self.new_packages();
        let keep_free = (self.owner)()?.keep_free_mib;
        if let Some(package) = packages.first() {
            let failed = |error: io::Error| Refusal::NotFetched {
                package: Box::new(package.clone()),
                because: error.to_string(),
            };
            fs::create_dir_all(&new).map_err(failed)?;
        }
        let room = |wants: &[(&Path, u64)]| space::check(wants, keep_free);
        let files = self.archives.bring(packages, &new, &room)?;
        for (package, file) in packages.iter().zip(files) {
            let failed = |because: String| Refusal::NotFetched {
                package: Box::new(package.clone()),
                because,
            };
            let place = self.place(package);
            fs::rename(&file, &place).map_err(|error| failed(error.to_string()))?;
            self.check_file(package).map_err(failed)?;
            let synced = File::open(&place).and_then(|file| file.sync_all());
            synced.map_err(|error| failed(error.to_string()))?;
        }
        if packages.is_empty() {
            return Ok(());
        }
        let failed = |error: io::Error| Refusal::NotFetched {
            package: Box::new(packages[0].clone()),
            because: error.to_string(),
        };
        sync_up(&new).map_err(failed)
    }

    /// Whether files are what the plan expects. After an upgrade that comes first they may be others: then
    /// it is asked when their turn comes.
    fn check_files(&self, actions: &[Action]) -> Result<(), Refusal> {
        let mut known = BTreeMap::new();
        let mut is_upgraded = false;
        for action in actions {
            match action {
                Action::Upgrade { .. } => is_upgraded = true,
                Action::AlterFile { path, change } => {
                    let found = match known.remove(path) {
                        Some(altered) => altered,
                        None if is_upgraded => continue,
                        None => self.files.look(path).map_err(FileFault::into_refusal)?.0,
                    };
                    expect(path, &change.before(), &found).map_err(FileFault::into_refusal)?;
                    let accounts = self.files.check_accounts(path, change);
                    accounts.map_err(FileFault::into_refusal)?;
                    known.insert(path, change.of(&found));
                }
                Action::RestartUnit { .. } | Action::Reboot | Action::Probe { .. } => {}
            }
        }
        Ok(())
    }

    /// Whether the owner declares all probes.
    fn check_probes(&self, actions: &[Action]) -> Result<(), Refusal> {
        let named = actions.iter().filter_map(|action| match action {
            Action::Probe { probe } => Some(probe.as_str()),
            _ => None,
        });
        named.map(|name| self.declared(name)).try_for_each(|probe| probe.map(drop))
    }

    fn declared(&self, name: &str) -> Result<Probe, Refusal> {
        let profile = (self.probes)()?;
        let probe = profile.probes().iter().find(|probe| probe.name == name);
        probe.cloned().ok_or_else(|| Refusal::NoProbe { probe: name.to_owned() })
    }

    /// Keeps the contents that came with the order, once there is room for them, for what is replaced, and
    /// for both beside each other.
    fn keep_contents(
        &self,
        actions: &[Action],
        contents: &BTreeMap<FileHash, Vec<u8>>,
    ) -> Result<(), Refusal> {
        let (new, back) = (self.new_packages(), self.back_packages());
        let size = |bytes: &Vec<u8>| bytes.len() as u64;
        let mut wants = vec![(new.clone(), contents.values().map(size).sum())];
        for path in actions.iter().filter_map(written) {
            let old = self.files.look(path).map_or(0, |(_, size)| size);
            wants.extend([(back.clone(), old), (self.files.outside(path), old)]);
        }
        let largest = contents.values().map(size).max().unwrap_or_default();
        wants
            .extend(actions.iter().filter_map(written).map(|it| (self.files.outside(it), largest)));
        if let Some(path) = actions.iter().find_map(written) {
            let wants: Vec<_> = wants.iter().map(|(path, size)| (path.as_path(), *size)).collect();
            space::check(&wants, (self.owner)()?.keep_free_mib)?;
            let kept = |error: io::Error| Refusal::NotKept {
                path: path.to_owned(),
                because: error.to_string(),
            };
            fs::create_dir_all(&new).map_err(kept)?;
            for (hash, bytes) in contents {
                put_apart(&self.content(*hash), bytes).map_err(kept)?;
            }
            sync_up(&new).map_err(kept)?;
        }
        for action in actions {
            let Action::AlterFile { path, change } = action else { continue };
            let Some(after) = change.after().sha256() else { continue };
            self.new_content(after)
                .map_err(|because| Refusal::NotKept { path: path.clone(), because })?;
        }
        Ok(())
    }

    /// The bytes of a content, as they were kept.
    fn new_content(&self, hash: FileHash) -> Result<Vec<u8>, String> {
        let bytes = fs::read(self.content(hash)).map_err(|error| error.to_string())?;
        let found = sha256(&bytes);
        if found == hash {
            return Ok(bytes);
        }
        Err(format!("its new content has the SHA-256 {found}, not {hash}"))
    }

    fn content(&self, hash: FileHash) -> PathBuf {
        self.new_packages().join(format!("{hash}.content"))
    }

    fn alter_file(
        &self,
        run: &Run<'_>,
        order: &Order,
        place: usize,
        (path, change): (&str, &FileChange),
    ) -> Result<(), Halt> {
        let failed = |because: String| Halt::Failed { action: place, because };
        let fault = |fault: FileFault| failed(told(&fault));
        let is_begun = run.progress().started.is_some_and(|(action, _)| action == place);
        let found = self.files.look(path).map_err(fault)?.0;
        if is_begun && change.after().is(&found) {
            return self.files.settle(path).map_err(fault);
        }
        if order.window.until <= (self.clock)() {
            return Err(failed(format!("the window was over at {}", order.window.until)));
        }
        // Before it is begun: what somebody else made of it stays.
        expect(path, &change.before(), &found).map_err(fault)?;
        let bytes = match change.after().sha256() {
            Some(after) => self.new_content(after).map_err(failed)?,
            None => Vec::new(),
        };
        run.add(Step::Started { action: place })?;
        self.files.alter(path, change, &bytes).map_err(fault)
    }

    fn probe(&self, run: &Run<'_>, place: usize, name: &str) -> Result<(), Halt> {
        let failed = |because: String| Halt::Failed { action: place, because };
        run.add(Step::Started { action: place })?;
        let probe = self.declared(name).map_err(|refusal| failed(refusal.to_string()))?;
        let result = self.system.probe(&probe);
        let (milliseconds, failure) = (result.took_ms, result.failure);
        let outcome =
            ProbeOutcome { probe: name.to_owned(), failure: failure.clone(), milliseconds };
        run.add(Step::Probed { outcome })?;
        match failure {
            None => Ok(()),
            Some(failure) => Err(failed(format!("the probe `{name}` failed: {failure}"))),
        }
    }

    fn upgrade(
        &self,
        run: &Run<'_>,
        order: &Order,
        place: usize,
        packages: &[ExactPackage],
    ) -> Result<(), Halt> {
        let failed = |because: String| Halt::Failed { action: place, because };
        let is_begun = run.progress().started.is_some_and(|(action, _)| action == place);
        let stale = if is_begun { BTreeSet::new() } else { self.system.stale_units() };
        let is_there = self.is_installed(packages).unwrap_or(false);
        let files: Vec<_> = packages.iter().map(|package| self.place(package)).collect();
        if !is_there {
            let now = (self.clock)();
            if is_begun && order.window.until <= now {
                return Err(failed(format!("the window was over at {}", order.window.until)));
            }
            for package in packages {
                // Once more, right before it is used.
                self.check_file(package).map_err(failed)?;
            }
            run.add(Step::Started { action: place })?;
            let direction = Direction::Forward;
            let alteration = Alteration { direction, files: &files, remove: &[] };
            self.packages.alter(&alteration).map_err(|fault| failed(fault.to_string()))?;
        }
        self.is_whole(packages).map_err(|fault| failed(fault.to_string()))?;
        if run.progress().interruptions > 0 {
            packages.iter().try_for_each(|package| self.check_file(package)).map_err(failed)?;
            let settled = self.packages.settle(&files).and_then(|()| self.is_whole(packages));
            settled.map_err(|fault| failed(told(&fault)))?;
        }
        run.add(Step::Finished { packages: packages.to_vec() })?;
        // Where the owner's file cannot be read, nothing is allowed.
        if (self.owner)().is_ok_and(|policy| policy.restart == Permission::Allow) {
            for unit in self.system.stale_units().difference(&stale) {
                self.restart(run, unit).map_err(failed)?;
            }
        }
        Ok(())
    }

    fn restart(&self, run: &Run<'_>, unit: &str) -> Result<(), String> {
        self.system.restart(unit).map_err(|error| format!("`{unit}` did not restart: {error}"))?;
        run.add(Step::Restarted { unit: unit.to_owned() }).map_err(|error| error.to_string())
    }

    fn reboot(&self, run: &Run<'_>, order: &Order, place: usize) -> Result<(), Halt> {
        let failed = |because: String| Halt::Failed { action: place, because };
        let boot = self.system.boot();
        let rebooting = run.progress().rebooting;
        if rebooting.as_ref().is_some_and(|ended| *ended != boot) {
            return Ok(());
        }
        if order.window.until <= (self.clock)() {
            return Err(failed(format!("the window was over at {}", order.window.until)));
        }
        if rebooting.is_none() {
            run.add(Step::Started { action: place })?;
            run.add(Step::Rebooting { boot })?;
        }
        self.system.reboot().map_err(failed)?;
        Err(Halt::Reboots)
    }

    /// Whether exactly these versions are installed whole.
    fn is_installed(&self, packages: &[ExactPackage]) -> Result<bool, PackageFault> {
        let installed = self.packages.installed()?;
        Ok(packages.iter().all(|package| {
            installed.iter().any(|found| {
                found.name == package.name
                    && found.architecture == package.architecture
                    && found.version == package.version
                    && found.completeness == Completeness::Whole
            })
        }))
    }

    fn is_whole(&self, packages: &[ExactPackage]) -> Result<(), PackageFault> {
        self.packages.audit()?;
        if self.is_installed(packages)? {
            return Ok(());
        }
        let packages = packages.iter().map(|it| format!("{} {}", it.name, it.version)).collect();
        Err(PackageFault::InPart { packages })
    }

    /// Whether a package file is the one that was ordered.
    pub(super) fn check_file(&self, package: &ExactPackage) -> Result<(), String> {
        let hash = hash_of(&self.place(package)).map_err(|error| error.to_string())?;
        if hash == package.sha256 {
            return Ok(());
        }
        Err(format!("its file has the SHA-256 {hash}, not {}", package.sha256))
    }

    /// Name, version and architecture are taken from what is inside; the file's name is for people.
    pub(super) fn place(&self, package: &ExactPackage) -> PathBuf {
        self.new_packages().join(format!("{}.{}", package.sha256, self.packages.ending()))
    }

    pub(super) fn new_packages(&self) -> PathBuf {
        self.directory.join("new")
    }

    fn read(&self) -> Result<Option<Journal>, ExecuteError> {
        Journal::read(&self.directory).map_err(|error| self.journal(error))
    }

    /// One process at a time; the lock ends with the process, however it ends.
    fn alone(&self) -> Result<File, ExecuteError> {
        fs::create_dir_all(&self.directory).map_err(|error| self.journal(error))?;
        let lock =
            File::create(self.directory.join("lock")).map_err(|error| self.journal(error))?;
        let deadline = Instant::now() + LOCK_PATIENCE;
        while flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            if Instant::now() >= deadline {
                return Err(ExecuteError::Busy { directory: self.directory.clone() });
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(lock)
    }

    fn journal(&self, source: io::Error) -> ExecuteError {
        ExecuteError::Journal { directory: self.directory.clone(), source }
    }
}

/// What is installed of the packages that are to be replaced.
pub(super) fn replaced(installed: &[Found], packages: &[ExactPackage]) -> Vec<Found> {
    let is_replaced = |found: &&Found| {
        packages.iter().any(|package| {
            package.takes_place_of(&found.name, &found.architecture)
                && (found.newer == Newer::Replaces || found.version == package.version)
        })
    };
    installed.iter().filter(is_replaced).cloned().collect()
}

fn check_held(replaced: &[Found]) -> Result<(), Refusal> {
    match replaced.iter().find(|found| found.hold == Hold::Held) {
        Some(held) => Err(Refusal::Forbidden(Forbidden::Held { package: held.name.clone() })),
        None => Ok(()),
    }
}

pub(super) fn hash_of(path: &Path) -> io::Result<FileHash> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 256 * 1024];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(FileHash::from(<[u8; 32]>::from(hash.finalize()))),
            length => hash.update(&piece[..length]),
        }
    }
}
