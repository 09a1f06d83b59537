//! Tells that configuration files are touched, and by whom where the kernel says it.
//!
//! Two sources, because neither tells all. **fanotify** tells who wrote to a file and closed it, while that program
//! may still be asked; it needs root, and tells nothing of names, owners and permissions in the form used here.
//! **inotify** tells of all of these, and of nobody. Where neither is to be had, only looks are left
//! ([`Watch::means`], [`Watch::wants`]). A file that was written under another name has the actor of its inode.
//!
//! Who wrote is asked by a thread of its own as soon as the kernel tells: editors and scripts end right after they
//! wrote, and whoever is gone can be asked nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;

use domain::cloud::words;
use domain::configuration::verdict::Actor;
use domain::order::ConfigurationRules;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};
use rustix::fs::CWD;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use rustix::io::Errno;

/// Most directories that are watched.
const MOST_DIRECTORIES: usize = 8_192;

/// Most events that are taken at once; the rest is there the next time.
const MOST_EVENTS: usize = 10_000;

/// How long the thread that asks who wrote waits until it looks whether anybody still wants to know, in
/// milliseconds.
const ATTENTION: u16 = 5_000;

/// How many parents of a process are looked at.
const LINEAGE: usize = 16;

/// Programs below which a package's own scripts run. Hooks of `apt` do not: they are its owner's.
const INSTALLERS: [&str; 3] = ["/usr/bin/dpkg", "/usr/bin/rpm", "/sbin/apk"];

/// What no session began has this login (`loginuid`, `audit(7)`).
const NO_LOGIN: u32 = u32::MAX;

/// Programs that install packages, by their own paths.
const PACKAGE_MANAGERS: [&str; 8] = [
    "/usr/bin/dpkg",
    "/usr/bin/apt-get",
    "/usr/bin/apt",
    "/usr/bin/rpm",
    "/usr/bin/dnf-3",
    "/usr/bin/dnf5",
    "/sbin/apk",
    "/usr/bin/rpmdb",
];

words! {
    /// How much a watch can tell.
    Means {
        /// Which file, and who wrote it.
        Fanotify = "fanotify",
        /// Which file.
        Inotify = "inotify",
        /// Nothing: only looks tell.
        Looks = "looks",
    }
}

words! {
    /// What was done.
    Touch {
        /// It was written and closed.
        Written = "written",
        /// Its name came, went or was given to something else.
        Named = "named",
        /// Owner, permissions or attributes.
        Access = "access",
        /// More happened than the kernel kept: only a look tells.
        Lost = "lost",
    }
}

/// Something was done to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Touched {
    /// Absolute, inside of the root.
    pub path: String,
    /// What.
    pub touch: Touch,
    /// By whom, where the kernel tells.
    pub by: Option<Toucher>,
    /// Device and inode of what was written: it may have another name by now.
    pub inode: Option<(u64, u64)>,
}

/// A process that wrote a file. What it is was asked after it had done so: it may have gone, or become another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toucher {
    /// Its number.
    pub pid: u32,
    /// Its executable.
    pub executable: Option<String>,
    /// Number of the account with which its session began; `None` where no session did.
    pub login: Option<u32>,
    /// Number of the account that it runs as.
    pub user: Option<u32>,
    /// Whether it is a package's own script, or what such a script runs.
    pub installs: bool,
}

/// Hears of what is written, and asks at once by whom.
#[derive(Debug)]
struct Listener {
    fanotify: Fanotify,
    root: PathBuf,
    rules: ConfigurationRules,
    heard: Mutex<Vec<Touched>>,
}

/// Watches the directories that configuration files lie in.
#[derive(Debug)]
pub struct Watch {
    root: PathBuf,
    rules: ConfigurationRules,
    fanotify: Option<Arc<Listener>>,
    inotify: Option<OwnedFd>,
    /// Directories by their watches.
    directories: BTreeMap<i32, PathBuf>,
    marked: usize,
    wants: Vec<String>,
}

impl Watch {
    /// Begins to watch, by the best means that the host has.
    pub fn begin(root: &Path, rules: &ConfigurationRules) -> Self {
        let mut wants = Vec::new();
        let flags = InitFlags::FAN_CLASS_NOTIF
            | InitFlags::FAN_CLOEXEC
            | InitFlags::FAN_NONBLOCK
            | InitFlags::FAN_UNLIMITED_MARKS;
        let opening = EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        let fanotify = Fanotify::init(flags, opening)
            .map_err(|error| {
                wants.push(format!("the kernel does not tell who writes (fanotify: {error})"));
            })
            .ok();
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(|error| {
                wants.push(format!("the kernel does not tell of names (inotify: {error})"));
            })
            .ok();
        let root = fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let fanotify = fanotify.map(|fanotify| {
            let heard = Mutex::default();
            let listener =
                Arc::new(Listener { fanotify, root: root.clone(), rules: rules.clone(), heard });
            let weak = Arc::downgrade(&listener);
            let thread = thread::Builder::new().name("who-writes".to_owned());
            if let Err(error) = thread.spawn(move || attend(&weak)) {
                wants.push(format!("who writes is asked late: {error}"));
            }
            listener
        });
        let mut watch = Self {
            root,
            rules: rules.clone(),
            fanotify,
            inotify,
            directories: BTreeMap::new(),
            marked: 0,
            wants,
        };
        let bases: Vec<_> = rules.watch.iter().map(|pattern| pattern.base().to_owned()).collect();
        for base in bases {
            watch.mark(&base);
        }
        watch
    }

    /// The best of what it has.
    pub fn means(&self) -> Means {
        match (&self.fanotify, &self.inotify) {
            (Some(_), _) => Means::Fanotify,
            (None, Some(_)) => Means::Inotify,
            (None, None) => Means::Looks,
        }
    }

    /// What it cannot tell, and why.
    pub fn wants(&self) -> &[String] {
        &self.wants
    }

    /// What was touched since it was asked last, without waiting.
    pub fn take(&mut self) -> Vec<Touched> {
        let mut touched = self.fanotify.as_ref().map(|it| it.take()).unwrap_or_default();
        let (named, new) = self.named();
        touched.extend(named);
        for directory in new {
            self.mark(&directory);
        }
        touched
    }

    /// Watches a directory and all below it. What is no directory, or a link, is left out.
    fn mark(&mut self, path: &str) {
        let mut waiting = vec![path.to_owned()];
        while let Some(path) = waiting.pop() {
            let outside = self.root.join(path.trim_start_matches('/'));
            let is_directory = fs::symlink_metadata(&outside).is_ok_and(|it| it.is_dir());
            if !is_directory || !self.rules.reaches(&path) {
                continue;
            }
            if self.marked == MOST_DIRECTORIES {
                self.wants.push(format!("there are more than {MOST_DIRECTORIES} directories"));
                return;
            }
            self.marked += 1;
            self.mark_one(&outside);
            let entries = fs::read_dir(&outside).into_iter().flatten().flatten();
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if let Some(name) = entry.file_name().to_str() {
                    waiting.push(format!("{path}/{name}"));
                }
            }
        }
    }

    fn mark_one(&mut self, outside: &Path) {
        if let Some(fanotify) = &self.fanotify {
            let flags = MarkFlags::FAN_MARK_ADD
                | MarkFlags::FAN_MARK_ONLYDIR
                | MarkFlags::FAN_MARK_DONT_FOLLOW;
            let mask = MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_EVENT_ON_CHILD;
            if let Err(error) = fanotify.fanotify.mark(flags, mask, CWD, Some(outside)) {
                self.wants
                    .push(format!("who writes below `{}` is not told: {error}", outside.display()));
            }
        }
        if let Some(inotify) = &self.inotify {
            let mut flags = WatchFlags::CREATE
                | WatchFlags::DELETE
                | WatchFlags::MOVED_FROM
                | WatchFlags::MOVED_TO
                | WatchFlags::ATTRIB
                | WatchFlags::ONLYDIR
                | WatchFlags::DONT_FOLLOW;
            if self.fanotify.is_none() {
                flags |= WatchFlags::CLOSE_WRITE;
            }
            match inotify::add_watch(inotify, outside, flags) {
                Ok(number) => {
                    self.directories.insert(number, outside.to_owned());
                }
                Err(error) => {
                    self.wants
                        .push(format!("names below `{}` are not told: {error}", outside.display()));
                }
            }
        }
    }

    /// What happened to names and owners, and directories that are new.
    fn named(&mut self) -> (Vec<Touched>, Vec<String>) {
        let (mut touched, mut new, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        let Some(inotify) = &self.inotify else { return (touched, new) };
        let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        while touched.len() < MOST_EVENTS || !reader.is_buffer_empty() {
            let event = match reader.next() {
                Ok(event) => event,
                Err(Errno::INTR) => continue,
                Err(_) => break,
            };
            let events = event.events();
            if events.contains(ReadFlags::QUEUE_OVERFLOW) {
                touched.push(Touched {
                    path: "/".to_owned(),
                    touch: Touch::Lost,
                    by: None,
                    inode: None,
                });
                continue;
            }
            if events.contains(ReadFlags::IGNORED) {
                gone.push(event.wd());
                continue;
            }
            let Some(directory) = self.directories.get(&event.wd()) else { continue };
            let name = event.file_name().and_then(|name| name.to_str().ok()).unwrap_or_default();
            let outside = if name.is_empty() { directory.clone() } else { directory.join(name) };
            let Some(path) = self.inside(&outside) else { continue };
            let came = events.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
            if came && events.contains(ReadFlags::ISDIR) {
                new.push(path.clone());
            }
            if !self.rules.watches(&path) {
                continue;
            }
            let touch = if events.contains(ReadFlags::CLOSE_WRITE) {
                Touch::Written
            } else if events.contains(ReadFlags::ATTRIB) {
                Touch::Access
            } else {
                Touch::Named
            };
            touched.push(Touched { path, touch, by: None, inode: None });
        }
        for number in gone {
            if self.directories.remove(&number).is_some() {
                self.marked = self.marked.saturating_sub(1);
            }
        }
        (touched, new)
    }

    /// A path as it is called inside of the root.
    fn inside(&self, outside: &Path) -> Option<String> {
        inside(&self.root, outside)
    }
}

fn inside(root: &Path, outside: &Path) -> Option<String> {
    let below = outside.strip_prefix(root).ok()?.to_str()?;
    Some(format!("/{below}"))
}

/// Listens as long as somebody wants to know.
fn attend(listener: &Weak<Listener>) {
    while let Some(listener) = listener.upgrade() {
        let mut waiting = [PollFd::new(listener.fanotify.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waiting, PollTimeout::from(ATTENTION)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => drop(listener.hear()),
            Err(_) => return,
        }
    }
}

impl Listener {
    /// Reads what the kernel tells, and asks who wrote; gives all that nobody took yet.
    fn hear(&self) -> std::sync::MutexGuard<'_, Vec<Touched>> {
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            // Nothing more is there, or nothing can be read: looks tell the rest.
            let Ok(events) = self.fanotify.read_events() else { return heard };
            for event in events {
                let lost = |touch| Touched { path: "/".to_owned(), touch, by: None, inode: None };
                if event.mask().contains(MaskFlags::FAN_Q_OVERFLOW) || heard.len() >= MOST_EVENTS {
                    if heard.last().is_none_or(|last| last.touch != Touch::Lost) {
                        heard.push(lost(Touch::Lost));
                    }
                    continue;
                }
                let Some(file) = event.fd() else { continue };
                // First of all: it may end any moment.
                let by = u32::try_from(event.pid()).ok().filter(|pid| *pid > 0).map(Toucher::of);
                // The name that it has by now: where it was written beside its place, that is its place.
                let outside = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
                let path = outside.ok().and_then(|outside| inside(&self.root, &outside));
                let Some(path) = path.filter(|path| self.rules.watches(path)) else { continue };
                let stat = rustix::fs::fstat(file).ok();
                let inode = stat.map(|stat| (stat.st_dev, stat.st_ino));
                heard.push(Touched { path, touch: Touch::Written, by, inode });
            }
        }
    }

    fn take(&self) -> Vec<Touched> {
        std::mem::take(&mut *self.hear())
    }
}

impl Toucher {
    /// Asks what a process is.
    fn of(pid: u32) -> Self {
        let (executable, status) = (executable(pid), status(pid).unwrap_or_default());
        // What has ended and was not asked by its parent yet still has this.
        let login = fs::read_to_string(format!("/proc/{pid}/loginuid")).ok();
        let parent = field(&status, "PPid:");
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        Self {
            pid,
            installs: is_installer(executable.as_deref()) || parent.is_some_and(descends),
            executable,
            login: login.and_then(|text| text.trim().parse().ok()).filter(|id| *id != NO_LOGIN),
            // Real, effective, saved, of the file system: what it may do follows from the second.
            user: ids.and_then(|ids| ids.split_whitespace().nth(1)?.parse().ok()),
        }
    }

    /// Whether it is this program itself.
    pub fn is_own(&self) -> bool {
        self.pid == std::process::id()
    }

    /// What a verdict takes it for. `name` knows the accounts of the host.
    pub fn actor(&self, name: impl Fn(u32) -> Option<String>) -> Actor {
        match (&self.executable, self.login) {
            _ if self.installs => Actor::PackageManager,
            (Some(path), _) if PACKAGE_MANAGERS.contains(&path.as_str()) => Actor::PackageManager,
            (_, Some(login)) => {
                Actor::Person { login: name(login).unwrap_or_else(|| login.to_string()) }
            }
            (Some(path), None) => Actor::Program { executable: path.clone() },
            (None, None) => Actor::Unknown,
        }
    }
}

fn executable(pid: u32) -> Option<String> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    Some(path.to_string_lossy().into_owned())
}

fn status(pid: u32) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/status"))
}

/// A number of a process's status.
fn field(status: &str, name: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
}

fn is_installer(executable: Option<&str>) -> bool {
    executable.is_some_and(|path| INSTALLERS.contains(&path))
}

/// Whether a process, or one above it, installs packages.
fn descends(mut pid: u32) -> bool {
    for _ in 0..LINEAGE {
        if pid <= 1 {
            return false;
        }
        if is_installer(executable(pid).as_deref()) {
            return true;
        }
        let Some(parent) = status(pid).ok().and_then(|status| field(&status, "PPid:")) else {
            return false;
        };
        pid = parent;
    }
    false
}

#[cfg(test)]
mod tests;
