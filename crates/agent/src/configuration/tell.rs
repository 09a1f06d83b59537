//! Tells the control plane what the host is configured by: what differs from what it knows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use domain::agent::{FileManifest, FilesSent, HostActor, HostFile, Since, Trace};
use domain::configuration::document;
use domain::configuration::secret::{FingerprintKey, Redaction, put_away};
use domain::configuration::verdict::Actor;
use domain::fleet::SetDigest;
use domain::order::ConfigurationRules;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};

use super::installs::{Installs, Now};
use super::{Depth, Documents, Found, Kind, Observer, Seen, Toucher, Watch};
use crate::client::AgentError;
use crate::execute::Access;
use crate::names::Names;
use crate::orders::read_policy;
use crate::plane::ControlPlane;
use crate::state::State;

/// Contents of one message, in bytes, as far as one file does not have more.
const TOGETHER: usize = 2 << 20;

/// Contents that a look keeps until they are told, in bytes. What else there is to be told is read again.
const KEPT: usize = 2 * TOGETHER;

/// Messages of one round. What is left follows with the next one.
const MOST_MESSAGES: usize = 64;

/// Most paths of which is remembered who wrote them.
const MOST_TOUCHED: usize = 10_000;

/// How often every file is read, whatever its times say.
const FULL: SignedDuration = SignedDuration::from_hours(6);

/// How sure it is who wrote, in per cent: what a process is was asked after it had written.
const AFTERWARDS: u8 = 80;

/// The agent's eyes on what the host is configured by. They remember what they saw by its digests: what files hold is
/// kept until it is told, and no longer.
pub struct Eyes {
    root: PathBuf,
    rules: ConfigurationRules,
    observer: Observer,
    /// None where the system does not run.
    documents: Option<Documents>,
    /// None where there is but one look.
    watch: Option<Watch>,
    read_whole_at: Option<Timestamp>,
    /// When was looked last, of what was told.
    looked_at: Option<Timestamp>,
    written: Written,
    /// By which names owners were told.
    names: Names,
    /// What was seen last; before the first look, what the control plane has.
    manifest: Rc<FileManifest>,
}

/// Who wrote a file last, of what was not told yet.
#[derive(Debug, Clone, Default)]
struct Written {
    by_path: BTreeMap<String, Writer>,
    /// By device and inode: what was written under another name.
    by_inode: BTreeMap<(u64, u64), Writer>,
}

#[derive(Debug, Clone)]
struct Writer {
    who: Actor,
    told: HostActor,
}

/// One look, as it is told.
pub(crate) struct Look {
    root: PathBuf,
    /// What is another than it was, as far as it is kept.
    files: BTreeMap<String, HostFile>,
    manifest: Rc<FileManifest>,
    written: Written,
    /// When was looked before.
    before: Option<Timestamp>,
    at: Timestamp,
}

impl Eyes {
    /// Eyes on the system below a root, by the owner's policy, which watch where they are to.
    ///
    /// # Errors
    /// Where the agent's state or the owner's policy cannot be read: less than the owner wants is never more.
    pub fn open(
        state: &State,
        root: &Path,
        policy: &Path,
        watches: bool,
    ) -> Result<Self, AgentError> {
        let key = state.fingerprint_key().map_err(|source| AgentError::state(state, source))?;
        let rules = rules(policy)?;
        let told = state.told_files().unwrap_or_default();
        // A system that does not run has files alone.
        let documents = (root == Path::new("/")).then(|| {
            let known = told.0.keys().cloned();
            Documents::of_this_host(rules.documents.clone(), key.clone(), known)
        });
        let manifest = Rc::new(told);
        Ok(Self { documents, manifest, ..Self::with(root, rules, key, watches) })
    }

    fn with(root: &Path, rules: ConfigurationRules, key: FingerprintKey, watches: bool) -> Self {
        let watch = watches.then(|| Watch::begin(root, &rules));
        let observer = Observer::new(root, rules.clone(), key);
        let root = root.to_owned();
        let written = Written::default();
        Self {
            root,
            rules,
            observer,
            documents: None,
            watch,
            read_whole_at: None,
            looked_at: None,
            written,
            names: Names::default(),
            manifest: Rc::default(),
        }
    }

    /// Whether they still look by the owner's policy.
    pub(crate) fn follow(&self, policy: &Path) -> bool {
        rules(policy).is_ok_and(|rules| rules == self.rules)
    }

    /// Whether something was touched since this was asked last; by whom is remembered until it is told.
    pub(crate) fn are_drawn(&mut self) -> bool {
        let touched = self.watch.as_mut().map(Watch::take).unwrap_or_default();
        let mut is_any = false;
        let names = if touched.iter().any(|it| it.by.is_some()) {
            Names::read(&self.root)
        } else {
            Names::default()
        };
        for it in touched {
            is_any |= !it.by.as_ref().is_some_and(Toucher::is_own);
            if let (Some(by), true) = (it.by, self.written.by_path.len() < MOST_TOUCHED) {
                let writer = writer(&by, &names);
                if let Some(inode) = it.inode {
                    self.written.by_inode.insert(inode, writer.clone());
                }
                self.written.by_path.insert(it.path, writer);
            }
        }
        is_any
    }

    /// Looks once.
    pub(crate) fn look(&mut self, now: Timestamp) -> Look {
        self.are_drawn();
        let names = Names::read(&self.root);
        // How its owner is called is part of what is told of a file.
        let is_due = names != self.names
            || self.read_whole_at.is_none_or(|at| now.duration_since(at) >= FULL);
        let depth = if is_due { Depth::Full } else { Depth::Quick };
        if is_due {
            self.read_whole_at = Some(now);
        }
        let mut seen = Sight::beside(&self.manifest);
        let unseen = self.observer.look(depth, now, |path, found| match found {
            Found::Same => seen.same(path),
            Found::Seen(it) => {
                let is_odd = plain(path) != path;
                for file in told(path, &it, &names) {
                    seen.add(file, is_odd);
                }
            }
        });
        for unseen in unseen {
            let content = format!("<unseen:{}>\n", unseen.because);
            seen.add(of_document(plain(&unseen.path), content), true);
        }
        for (name, content) in self.documents.iter_mut().flat_map(|it| it.look(depth)) {
            seen.add(of_document(name, content), false);
        }
        put_away();
        let Sight { files, manifest, .. } = seen;
        (self.names, self.manifest) = (names, Rc::new(FileManifest(manifest)));
        // Who wrote while it was looked is seen already.
        self.are_drawn();
        let (root, written) = (self.root.clone(), self.written.clone());
        let manifest = Rc::clone(&self.manifest);
        Look { root, manifest, files, written, before: self.looked_at, at: now }
    }

    /// What has a name by now: for what was seen, and is not kept.
    fn again(&self, name: &str) -> Option<HostFile> {
        let path = document::original_of(name).unwrap_or(name);
        if !path.starts_with('/') {
            let content = self.documents.as_ref()?.content(name)?;
            return Some(of_document(name.to_owned(), content.to_owned()));
        }
        let seen = self.observer.again(path).ok()?;
        told(path, &seen, &self.names).into_iter().find(|file| file.path == name)
    }

    /// All of a look was told: who wrote what is known there.
    pub(crate) fn forget(&mut self, look: &Look) {
        self.written = Written::default();
        self.looked_at = Some(look.at);
    }
}

fn rules(policy: &Path) -> Result<ConfigurationRules, AgentError> {
    let read = read_policy(policy);
    let policy = read.map_err(|refusal| AgentError::Look { reason: refusal.to_string() })?;
    Ok(policy.configuration)
}

fn writer(by: &Toucher, names: &Names) -> Writer {
    let executable = by.executable.as_deref().unwrap_or("a program that is gone");
    let user = by.user.map(|id| names.user(id));
    let who = by.actor(|id| Some(names.user(id)));
    let actor = match &who {
        Actor::Person { login } => format!("{login} by {executable}"),
        _ => match user {
            Some(user) => format!("{executable} as {user}"),
            None => executable.to_owned(),
        },
    };
    let actor = plain(&actor).chars().take(200).collect();
    Writer { who, told: HostActor { actor, confidence: AFTERWARDS } }
}

/// Letters that are none are replaced: history has no such paths.
fn plain(text: &str) -> String {
    text.chars().map(|it| if it.is_control() { char::REPLACEMENT_CHARACTER } else { it }).collect()
}

/// What a look sees, beside what was seen before.
struct Sight<'a> {
    before: &'a FileManifest,
    manifest: BTreeMap<String, SetDigest>,
    files: BTreeMap<String, HostFile>,
    bytes: usize,
}

impl<'a> Sight<'a> {
    const fn beside(before: &'a FileManifest) -> Self {
        Self { before, manifest: BTreeMap::new(), files: BTreeMap::new(), bytes: 0 }
    }

    /// A file is as it was, and so is its original, where that was told.
    fn same(&mut self, path: &str) {
        let path = plain(path);
        for name in [document::original(&path), path] {
            if let Some(digest) = self.before.0.get(&name) {
                self.manifest.insert(name, *digest);
            }
        }
    }

    /// Something. It is kept where it is another than it was; in any case where it cannot be read again by its name.
    fn add(&mut self, file: HostFile, in_any_case: bool) {
        let digest = file.digest();
        let size = file.content.len();
        let is_other = self.before.0.get(&file.path) != Some(&digest);
        self.manifest.insert(file.path.clone(), digest);
        if in_any_case || (is_other && self.bytes + size <= KEPT) {
            self.bytes += size;
            self.files.insert(file.path.clone(), file);
        }
    }
}

/// A file as it is told, and its original where its owner lets that be kept.
fn told(path: &str, seen: &Seen, names: &Names) -> Vec<HostFile> {
    let path = plain(path);
    let file = told_without(path.clone(), seen, names);
    let original = seen.original.as_ref().map(|original| {
        let (path, content) = (document::original(&path), BASE64_STANDARD.encode(&*original.0));
        HostFile { path, content, ..file.clone() }
    });
    std::iter::once(file).chain(original).collect()
}

fn told_without(path: String, seen: &Seen, names: &Names) -> HostFile {
    let content = match &seen.kind {
        Kind::File { content: Redaction::Text(redacted) } => redacted.text.clone(),
        Kind::File { content: Redaction::Withheld { because, size, fingerprint } } => {
            format!("<withheld:{because}:{size}:{fingerprint}>\n")
        }
        Kind::Link { target } => plain(target),
        Kind::Directory | Kind::Other => String::new(),
    };
    let Access { mode, uid, gid, attributes } = &seen.access;
    let kind = match &seen.kind {
        Kind::File { .. } => 0o100_000,
        Kind::Link { .. } => 0o120_000,
        Kind::Directory => 0o040_000,
        Kind::Other => 0,
    };
    let owner = format!("{}:{}", names.user(*uid), names.group(*gid));
    HostFile {
        path,
        mode: kind | (mode & 0o7777),
        owner,
        label: label(attributes),
        content,
        by: None,
    }
}

/// A document as it is told: it is nobody's file, so nobody owns it and nobody wrote it.
fn of_document(name: String, content: String) -> HostFile {
    let (owner, label) = (String::new(), String::new());
    HostFile { path: name, mode: 0, owner, label, content, by: None }
}

impl Look {
    pub(crate) fn digest(&self) -> SetDigest {
        self.manifest.digest()
    }

    /// Tells the control plane what it does not know of it. Says whether all of it is told. What altered meanwhile is
    /// left to the next look.
    pub(crate) fn tell(
        &self,
        eyes: &mut Eyes,
        state: &State,
        plane: &impl ControlPlane,
        observed_at: Timestamp,
    ) -> Result<bool, AgentError> {
        let outcome = self.tell_all(eyes, state, plane, observed_at);
        put_away();
        if matches!(outcome, Ok(false)) {
            // What cannot be read again by its name is kept by a look that reads everything.
            eyes.read_whole_at = None;
        }
        outcome
    }

    fn tell_all(
        &self,
        eyes: &Eyes,
        state: &State,
        plane: &impl ControlPlane,
        observed_at: Timestamp,
    ) -> Result<bool, AgentError> {
        let mut known = state.told_files();
        let mut left = BTreeSet::new();
        for _ in 0..MOST_MESSAGES {
            let (message, after) = self.message(eyes, known.as_ref(), &mut left, observed_at);
            let is_last = known.as_ref() == Some(&after);
            match plane.files(&message) {
                // It knows something else than we think.
                Err(AgentError::Refused { status: 409, .. }) if known.is_some() => known = None,
                Err(error) => return Err(error),
                Ok(()) => {
                    let kept = |source| AgentError::state(state, source);
                    state.keep_told_files(&after).map_err(kept)?;
                    let is_whole = after == *self.manifest;
                    if is_whole || is_last {
                        return Ok(is_whole);
                    }
                    known = Some(after);
                }
            }
        }
        Ok(false)
    }

    /// What a path had when it was looked; `None` where it is not kept, and has something else by now.
    fn file(&self, eyes: &Eyes, path: &str, digest: &SetDigest) -> Option<HostFile> {
        let kept = self.files.get(path).cloned();
        kept.or_else(|| eyes.again(path)).filter(|file| file.digest() == *digest)
    }

    /// The next message, and what the control plane knows after it. Paths that have something else by now are `left`.
    fn message(
        &self,
        eyes: &Eyes,
        known: Option<&FileManifest>,
        left: &mut BTreeSet<String>,
        observed_at: Timestamp,
    ) -> (FilesSent, FileManifest) {
        let mut after = known.cloned().unwrap_or_default();
        let is_gone = |path: &&String| !self.manifest.0.contains_key(*path);
        let gone: Vec<String> = after.0.keys().filter(is_gone).cloned().collect();
        for path in &gone {
            after.0.remove(path);
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        for (path, digest) in &self.manifest.0 {
            if bytes >= TOGETHER {
                break;
            }
            if after.0.get(path) == Some(digest) || left.contains(path) {
                continue;
            }
            if let Some(file) = self.file(eyes, path, digest) {
                after.0.insert(path.clone(), *digest);
                bytes += file.content.len() + path.len();
                files.push(file);
            } else {
                left.insert(path.clone());
            }
        }
        let traces = match known {
            Some(_) => self.trace(&mut files, &gone),
            // Of the first look nobody asks how it came about.
            None => BTreeMap::new(),
        };
        let since = match known {
            Some(known) => Since::Manifest { digest: known.digest(), gone },
            None => Since::Nothing { paths: self.manifest.0.keys().cloned().collect() },
        };
        let (digest, looked_before) = (after.digest(), self.before);
        (FilesSent { since, digest, observed_at, looked_before, files, traces }, after)
    }

    /// How what is told came about, as far as anybody saw it.
    fn trace(&self, files: &mut [HostFile], gone: &[String]) -> BTreeMap<String, Trace> {
        let mut traces = BTreeMap::new();
        if files.is_empty() && gone.is_empty() {
            return traces;
        }
        let between = (self.before.unwrap_or(Timestamp::MIN), self.at);
        let installs = Installs::read(&self.root, between);
        let mut add = |path: &str, changed_at, who: Actor| {
            let now = Now { path, changed_at, who: &who, between };
            let shipped = installs.explains(&self.root, &now);
            if who != Actor::Unknown || changed_at.is_some() || shipped.is_some() {
                traces.insert(path.to_owned(), Trace { who, changed_at, shipped });
            }
        };
        for file in files {
            let found = fs::symlink_metadata(self.root.join(file.path.trim_start_matches('/')));
            let changed_at = found.as_ref().ok().and_then(|it| {
                Timestamp::new(it.ctime(), i32::try_from(it.ctime_nsec()).ok()?).ok()
            });
            let inode = found.ok().map(|it| (it.dev(), it.ino()));
            let writer = self.written.by_path.get(&file.path);
            let writer = writer.or_else(|| self.written.by_inode.get(&inode?));
            file.by = writer.map(|writer| writer.told.clone());
            let who = writer.map_or(Actor::Unknown, |writer| writer.who.clone());
            // What it was altered by after the look is told by the next one.
            add(&file.path, changed_at.filter(|at| *at <= self.at), who);
        }
        for path in gone {
            add(path, None, Actor::Unknown);
        }
        traces
    }
}

/// What attributes say of who may do what, hashed; empty where there are none.
fn label<K: AsRef<[u8]>, V: AsRef<[u8]>>(attributes: &BTreeMap<K, V>) -> String {
    if attributes.is_empty() {
        return String::new();
    }
    let mut hash = Sha256::new();
    for (name, value) in attributes {
        for part in [name.as_ref(), value.as_ref()] {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use domain::agent::{
        Facts, HandedOrder, OrderAnswer, OrderProgress, PinsOffered, PinsRequest, Report,
        ReportAnswer,
    };
    use domain::fleet::PackageSet;

    use super::*;

    /// A control plane that remembers what it is told of files, and may have lost all of it.
    #[derive(Default)]
    struct Plane {
        known: RefCell<FileManifest>,
        told: RefCell<Vec<FilesSent>>,
    }

    impl Plane {
        fn lose(&self) {
            *self.known.borrow_mut() = FileManifest::default();
        }

        fn contents(&self, path: &str) -> Vec<String> {
            let told = self.told.borrow();
            let files = told.iter().flat_map(|sent| &sent.files);
            files.filter(|file| file.path == path).map(|file| file.content.clone()).collect()
        }
    }

    impl ControlPlane for &Plane {
        fn report(
            &self,
            _: &Report,
            _: &PackageSet,
            _: &Facts,
        ) -> Result<ReportAnswer, AgentError> {
            unreachable!("nothing is reported")
        }

        fn files(&self, sent: &FilesSent) -> Result<(), AgentError> {
            let mut known = self.known.borrow_mut();
            match &sent.since {
                Since::Manifest { digest, gone } => {
                    if *digest != known.digest() {
                        let (detail, help) = ("elsewhere".to_owned(), String::new());
                        return Err(AgentError::Refused { status: 409, detail, help });
                    }
                    known.0.retain(|path, _| !gone.contains(path));
                }
                Since::Nothing { paths } => known.0.retain(|path, _| paths.contains(path)),
            }
            for file in &sent.files {
                known.0.insert(file.path.clone(), file.digest());
            }
            assert_eq!(known.digest(), sent.digest, "both count alike");
            self.told.borrow_mut().push(sent.clone());
            Ok(())
        }

        fn pins(&self, _: &PinsRequest) -> Result<PinsOffered, AgentError> {
            unreachable!("nothing is pinned")
        }

        fn next_order(&self) -> Result<Option<HandedOrder>, AgentError> {
            Ok(None)
        }

        fn progress(&self, _: OrderProgress) -> Result<(), AgentError> {
            Ok(())
        }

        fn answer(&self, _: &OrderAnswer) -> Result<(), AgentError> {
            Ok(())
        }
    }

    struct Host {
        root: tempfile::TempDir,
        state: State,
        eyes: Eyes,
    }

    impl Host {
        fn new() -> Self {
            Self::with(ConfigurationRules::default())
        }

        fn with(rules: ConfigurationRules) -> Self {
            let root = tempfile::tempdir().unwrap();
            let state = State::new(root.path().join("var/lib/patchwright-agent"));
            let key = state.fingerprint_key().unwrap();
            let eyes = Eyes::with(root.path(), rules, key, false);
            let host = Self { root, state, eyes };
            host.write("/etc/passwd", "root:x:0:0::/root:/bin/sh\n");
            host.write("/etc/app/app.ini", "user = app\npassword = Tr0ub4dor&3\n");
            host
        }

        fn place(&self, path: &str) -> PathBuf {
            self.root.path().join(path.trim_start_matches('/'))
        }

        fn write(&self, path: &str, text: &str) {
            fs::create_dir_all(self.place(path).parent().unwrap()).unwrap();
            fs::write(self.place(path), text).unwrap();
        }

        fn tell(&mut self, plane: &Plane) -> SetDigest {
            self.tell_at(plane, Timestamp::now())
        }

        fn tell_at(&mut self, plane: &Plane, now: Timestamp) -> SetDigest {
            let look = self.eyes.look(now);
            let digest = look.digest();
            if plane.known.borrow().digest() != digest {
                let told = look.tell(&mut self.eyes, &self.state, &plane, Timestamp::UNIX_EPOCH);
                assert!(told.unwrap());
            }
            digest
        }
    }

    /// When all was written long ago, so that quick looks believe times.
    fn later() -> Timestamp {
        Timestamp::now() + SignedDuration::from_mins(1)
    }

    #[test]
    fn what_alters_is_told_once_and_nothing_that_is_secret() {
        let (mut host, plane) = (Host::new(), Plane::default());
        let first = host.tell(&plane);
        assert_eq!(plane.known.borrow().digest(), first);
        let told = plane.contents("/etc/app/app.ini");
        assert!(told[0].starts_with("user = app\npassword = <redacted:password:"), "{told:?}");
        assert_eq!(host.tell(&plane), first, "nothing is new");
        assert_eq!(plane.told.borrow().len(), 1);

        host.write("/etc/app/app.ini", "user = app\npassword = another0ne!\n");
        symlink("app.ini", host.place("/etc/app/link")).unwrap();
        fs::remove_file(host.place("/etc/passwd")).unwrap();
        host.tell(&plane);

        let told = plane.contents("/etc/app/app.ini");
        assert_eq!(told.len(), 2);
        assert_ne!(told[0], told[1], "a new password is seen as one");
        assert!(!format!("{:?}", plane.told.borrow()).contains("another0ne"));
        assert_eq!(plane.contents("/etc/app/link"), ["app.ini"]);
        assert!(!plane.known.borrow().0.contains_key("/etc/passwd"));
        assert_eq!(plane.contents("/etc/passwd").len(), 1, "it was not told again");
    }

    #[test]
    fn permissions_alone_are_an_alteration() {
        let (mut host, plane) = (Host::new(), Plane::default());
        let before = host.tell(&plane);
        let ini = host.place("/etc/app/app.ini");
        fs::set_permissions(ini, fs::Permissions::from_mode(0o666)).unwrap();

        assert_ne!(host.tell(&plane), before);

        let last = plane.told.borrow().last().unwrap().files[0].clone();
        assert_eq!((last.mode, last.path.as_str()), (0o100_666, "/etc/app/app.ini"));
        assert!(last.owner.contains(':'), "{}", last.owner);
    }

    #[test]
    fn a_control_plane_that_lost_all_is_told_all() {
        let (mut host, plane) = (Host::new(), Plane::default());
        host.tell(&plane);
        plane.lose();

        let digest = host.tell(&plane);

        assert_eq!(plane.known.borrow().digest(), digest);
        assert!(matches!(plane.told.borrow().last().unwrap().since, Since::Nothing { .. }));
    }

    #[test]
    fn much_is_told_in_several_messages() {
        let (mut host, plane) = (Host::new(), Plane::default());
        for number in 0..5 {
            let text = "line of no interest\n".repeat(45_000);
            host.write(&format!("/etc/large/{number}"), &text);
        }

        let digest = host.tell(&plane);

        assert!(plane.told.borrow().len() > 1);
        assert_eq!(plane.known.borrow().digest(), digest);
    }

    #[test]
    fn contents_are_kept_until_they_are_told_and_no_longer() {
        let (mut host, plane) = (Host::new(), Plane::default());
        let kept = |host: &mut Host| {
            let look = host.eyes.look(later());
            look.files.into_keys().filter(|it| !it.ends_with("passwd")).collect::<Vec<_>>()
        };
        assert_eq!(kept(&mut host), ["/etc/app", "/etc/app/app.ini"]);
        assert!(kept(&mut host).is_empty(), "it is read again where it is told later");
        host.tell(&plane);
        assert_eq!(plane.contents("/etc/app/app.ini").len(), 1);

        host.write("/etc/app/app.ini", "user = app\n");
        assert_eq!(kept(&mut host), ["/etc/app/app.ini"]);
    }

    #[test]
    fn what_alters_between_a_look_and_its_telling_is_left_to_the_next_look() {
        let (mut host, plane) = (Host::new(), Plane::default());
        host.tell(&plane);
        plane.lose();
        let look = host.eyes.look(later());
        host.write("/etc/app/app.ini", "user = another\n");

        let told = look.tell(&mut host.eyes, &host.state, &&plane, Timestamp::UNIX_EPOCH);

        assert!(!told.unwrap());
        assert_eq!(plane.contents("/etc/app/app.ini").len(), 1, "not what nobody looked at");
        assert_eq!(plane.contents("/etc/passwd").len(), 2, "the rest is told");
        let digest = host.tell(&plane);
        assert_eq!(plane.known.borrow().digest(), digest);
        assert_eq!(plane.contents("/etc/app/app.ini")[1], "user = another\n");
    }

    #[test]
    fn a_name_that_cannot_be_told_as_it_is_is_told_again_after_all_was_lost() {
        let (mut host, plane) = (Host::new(), Plane::default());
        host.write("/etc/odd\nname", "x = 1\n");
        host.tell_at(&plane, later());
        plane.lose();

        // Nothing can be read by that name: a look that reads everything has it.
        let look = host.eyes.look(later());
        assert!(!look.tell(&mut host.eyes, &host.state, &&plane, Timestamp::UNIX_EPOCH).unwrap());
        let digest = host.tell_at(&plane, later());

        assert_eq!(plane.known.borrow().digest(), digest);
        assert!(plane.known.borrow().0.contains_key("/etc/odd\u{fffd}name"));
    }

    #[test]
    fn an_owner_who_is_called_otherwise_is_told_of_files_that_are_the_same() {
        let (mut host, plane) = (Host::new(), Plane::default());
        let uid = fs::metadata(host.place("/etc/passwd")).unwrap().uid();
        host.write("/etc/passwd", &format!("anna:x:{uid}:0::/:/bin/sh\n"));
        host.tell(&plane);
        host.eyes.look(later());

        host.write("/etc/passwd", &format!("berta:x:{uid}:0::/:/bin/sh\n"));
        let look = host.eyes.look(later());

        assert!(look.files["/etc/app/app.ini"].owner.starts_with("berta:"));
    }

    #[test]
    fn what_is_no_text_is_withheld_and_seen_to_alter() {
        let (mut host, plane) = (Host::new(), Plane::default());
        host.write("/etc/key.bin", "a\0b");
        host.tell(&plane);
        host.write("/etc/key.bin", "a\0c");
        host.tell(&plane);

        let told = plane.contents("/etc/key.bin");
        assert_eq!(told.len(), 2);
        assert!(told[0].starts_with("<withheld:binary:3:"), "{told:?}");
        assert_ne!(told[0], told[1]);
    }

    #[test]
    fn a_name_that_cannot_be_told_as_it_is_holds_nothing_up() {
        let (mut host, plane) = (Host::new(), Plane::default());
        host.write("/etc/odd\nname", "x = 1\n");

        host.tell(&plane);

        let known = plane.known.borrow();
        assert!(known.0.contains_key("/etc/odd\u{fffd}name"), "{known:?}");
        assert!(known.0.contains_key("/etc/passwd"));
    }
}
