//! Files that orders write, interrupted wherever that is possible: they are new, or as before.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use domain::change::{self, Action, ExactPackage, FileChange, FileHash, FileState, Nonce, Window};
use domain::cloud::Id;
use domain::order::{Ended, Order, Policy, Refusal};
use domain::priority::Priority;
use domain::version::VersionKind;
use jiff::Timestamp;
use probes::{Probe, ProbeResult, Profile};
use proptest::prelude::*;

use super::files::{FileFault, sha256};
use super::interruption::deaths;
use super::*;

/// A package system with nothing in it.
struct NoPackages;

impl PackageSystem for NoPackages {
    fn versions(&self) -> VersionKind {
        VersionKind::Dpkg
    }

    fn ending(&self) -> &'static str {
        "deb"
    }

    fn installed(&self) -> Result<Vec<Found>, PackageFault> {
        Ok(Vec::new())
    }

    fn audit(&self) -> Result<(), PackageFault> {
        Ok(())
    }

    fn repair(&self) -> Result<(), PackageFault> {
        Ok(())
    }

    fn mend(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        unreachable!("no package is torn")
    }

    fn settle(&self, _: &[PathBuf]) -> Result<(), PackageFault> {
        unreachable!("no package is installed")
    }

    fn clear(&self, _: &[ExactPackage]) -> Result<(), PackageFault> {
        unreachable!("no package is new")
    }

    fn unpacked_size(&self, _: &Path) -> Result<u64, PackageFault> {
        unreachable!("no package is ordered")
    }

    fn unpacks_to(&self) -> PathBuf {
        "/".into()
    }

    fn repack(&self, _: &Found, _: &Path) -> Result<PathBuf, PackageFault> {
        unreachable!("no package is replaced")
    }

    fn keep_settings(&self, _: &[Found], _: &Path) -> Result<(), PackageFault> {
        Ok(())
    }

    fn restore_settings(&self, _: &Path) -> Result<(), PackageFault> {
        Ok(())
    }

    fn alter(&self, _: &Alteration<'_>) -> Result<(), PackageFault> {
        unreachable!("no package is ordered")
    }
}

impl TrustedPackages for NoPackages {
    fn bring(
        &self,
        packages: &[ExactPackage],
        _: &Path,
        _: &Room<'_>,
    ) -> Result<Vec<PathBuf>, Refusal> {
        assert!(packages.is_empty());
        Ok(Vec::new())
    }
}

/// A system whose probe ends as the test says.
struct Probed {
    failure: Option<&'static str>,
    tried: RefCell<Vec<String>>,
}

impl System for Probed {
    fn boot(&self) -> String {
        "1".to_owned()
    }

    fn reboot(&self) -> Result<(), String> {
        unreachable!("nothing restarts")
    }

    fn restart(&self, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn stale_units(&self) -> BTreeSet<String> {
        BTreeSet::new()
    }

    fn times(&self) -> UnitTimes {
        UnitTimes::new()
    }

    fn probe(&self, probe: &Probe) -> ProbeResult {
        self.tried.borrow_mut().push(probe.name.clone());
        let failure = self.failure.map(str::to_owned);
        ProbeResult { name: probe.name.clone(), failure, took_ms: 7 }
    }
}

const PROBES: &str = "[[probe]]\nname = \"works\"\ntcp = { port = 80 }\n";

/// What lies where: its kind or content, its mode, whose it is, and when a file was altered.
type Tree = BTreeMap<PathBuf, (String, u32, u32, Option<(i64, i64)>)>;

/// A host of files alone.
struct World {
    directory: tempfile::TempDir,
    probes: &'static str,
    failure: Option<&'static str>,
    /// What is sent with the orders.
    contents: BTreeMap<FileHash, Vec<u8>>,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("root")).unwrap();
        let world = Self { directory, probes: PROBES, failure: None, contents: BTreeMap::new() };
        if !is_root() {
            // Whoever tests owns what they may own.
            let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
            world.put("/etc/passwd", &format!("root:x:{}:\n", uid.as_raw()), 0o644);
            world.put("/etc/group", &format!("root:x:{}:\n", gid.as_raw()), 0o644);
        }
        world
    }

    fn place(&self, path: &str) -> PathBuf {
        self.directory.path().join("root").join(path.trim_start_matches('/'))
    }

    fn put(&self, path: &str, content: &str, mode: u32) {
        let place = self.place(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(&place, content).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.place(path)).ok()
    }

    fn files(&self) -> HostFiles {
        let own = ["root/own", "root/own.toml"].map(|own| self.directory.path().join(own));
        HostFiles::new(self.directory.path().join("root"), own.to_vec())
    }

    fn write(&mut self, path: &str, before: Option<&str>, after: &str) -> Action {
        let hash = |text: &str| sha256(text.as_bytes());
        self.contents.insert(hash(after), after.as_bytes().to_vec());
        let change = FileChange::content(before.map(hash), hash(after));
        Action::AlterFile { path: path.to_owned(), change }
    }

    fn alter(
        &mut self,
        path: &str,
        before: Option<(&str, &str)>,
        after: Option<(&str, &str)>,
    ) -> Action {
        if let Some((content, _)) = after {
            self.contents.insert(sha256(content.as_bytes()), content.as_bytes().to_vec());
        }
        let change = match (before.map(state), after.map(state)) {
            (None, Some(after)) => FileChange::Create { after },
            (Some(before), None) => FileChange::Remove { before },
            (Some(before), Some(after)) => FileChange::Replace { before, after },
            (None, None) => panic!("nothing is made of {path}"),
        };
        Action::AlterFile { path: path.to_owned(), change }
    }

    /// Asks the executor of this host something.
    fn ask<T>(&self, ask: impl FnOnce(&Executor<'_>) -> T) -> T {
        let system = Probed { failure: self.failure, tried: RefCell::default() };
        let owner = || Ok(Policy::parse("keep_free_mib = 0").unwrap());
        let probes = || Ok(Profile::parse(self.probes).unwrap());
        ask(&Executor {
            directory: self.directory.path().join("orders"),
            packages: &NoPackages,
            archives: &NoPackages,
            system: &system,
            files: &self.files(),
            probes: &probes,
            owner: &owner,
            clock: &|| Timestamp::UNIX_EPOCH,
            watch: &|_| {},
        })
    }

    /// Carries actions out, to the end.
    fn begin(&self, actions: &[Action]) -> domain::order::OrderResult {
        let contents = self.contents.clone();
        let (execution, change) = (Id::of_content([2; 16]), Id::of_content([1; 16]));
        let (order, at) = (Box::new(order(actions)), Timestamp::UNIX_EPOCH);
        let first = Step::Accepted { execution, order, change, at };
        ended(self.ask(|executor| executor.start(first, contents)))
    }

    /// Whatever lies below the root: its kind or content, its mode, and when it was altered.
    fn tree(&self) -> Tree {
        let mut tree = BTreeMap::new();
        let mut left = vec![self.directory.path().join("root")];
        while let Some(place) = left.pop() {
            let data = place.symlink_metadata().unwrap();
            let (content, altered) = if data.is_dir() {
                left.extend(fs::read_dir(&place).unwrap().map(|it| it.unwrap().path()));
                ("a directory".to_owned(), None)
            } else if data.is_symlink() {
                (format!("{:?}", fs::read_link(&place).unwrap()), None)
            } else {
                (fs::read_to_string(&place).unwrap(), Some((data.mtime(), data.mtime_nsec())))
            };
            tree.insert(place, (content, data.mode(), data.uid(), altered));
        }
        tree
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A content, and whose it is: `0600`, or `0600 anna:adm`.
fn state((content, access): (&str, &str)) -> FileState {
    let (mode, owner) = access.split_once(' ').unwrap_or((access, "root:root"));
    let (owner, group) = owner.split_once(':').unwrap();
    let (mode, owner, group) =
        (mode.parse().unwrap(), owner.parse().unwrap(), group.parse().unwrap());
    FileState { sha256: sha256(content.as_bytes()), access: change::Access { mode, owner, group } }
}

fn rewrite(before: &str, after: &str) -> FileChange {
    FileChange::content(Some(sha256(before.as_bytes())), sha256(after.as_bytes()))
}

fn order(actions: &[Action]) -> Order {
    let (from, until) = (Timestamp::MIN, Timestamp::MAX);
    Order {
        agent: Id::of_content([5; 16]),
        ci: Id::of_content([3; 16]),
        plan: [1; 32].into(),
        stage: 1,
        window: Window { from, until },
        actions: actions.to_vec(),
        priority: Priority::Medium,
        sequence: 1,
        issued_at: Timestamp::UNIX_EPOCH,
        expires: until,
        nonce: Nonce::from([0; 16]),
    }
}

fn ended(paused: Result<Paused, ExecuteError>) -> domain::order::OrderResult {
    match paused.unwrap() {
        Paused::Ended(result) => *result,
        Paused::Rebooting => panic!("nothing restarts"),
    }
}

fn refusal(ended: Ended) -> Refusal {
    match ended {
        Ended::Refused { refusal } => refusal,
        other => panic!("{other:?}"),
    }
}

fn probe(name: &str) -> Action {
    Action::Probe { probe: name.to_owned() }
}

#[test]
fn a_file_gets_its_new_content_and_keeps_whose_it_is() {
    let mut world = World::new();
    world.put("/etc/tool/a.conf", "old", 0o4750);
    let place = world.place("/etc/tool/a.conf");
    let attribute = |name: &str| {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&place, name, value.as_mut_slice());
        length.map(|length| value[..length].to_vec())
    };
    let flags = rustix::fs::XattrFlags::empty();
    let has_attributes = rustix::fs::setxattr(&place, "user.note", b"kept", flags).is_ok();
    if is_root() {
        chown(&place, Some(12), Some(34)).unwrap();
        fs::set_permissions(&place, fs::Permissions::from_mode(0o4750)).unwrap();
    }
    let actions = [
        world.write("/etc/tool/a.conf", Some("old"), "new"),
        world.write("/etc/tool/b.conf", None, "another"),
        probe("works"),
    ];

    let result = world.begin(&actions);

    assert_eq!(result.ended, Ended::Done);
    assert_eq!(world.read("/etc/tool/a.conf").as_deref(), Some("new"));
    assert_eq!(world.read("/etc/tool/b.conf").as_deref(), Some("another"));
    let data = place.metadata().unwrap();
    assert_eq!(data.mode() & 0o7777, 0o4750);
    if is_root() {
        assert_eq!((data.uid(), data.gid()), (12, 34));
    }
    if has_attributes {
        assert_eq!(attribute("user.note").unwrap(), b"kept");
    }
    let usual = world.place("/etc/tool/b.conf").metadata().unwrap();
    assert_eq!(usual.mode() & 0o7777, 0o644);
    let written: Vec<_> = result.files.iter().map(|it| (it.path.as_str(), it.sha256)).collect();
    let expected = [("/etc/tool/a.conf", sha256(b"new")), ("/etc/tool/b.conf", sha256(b"another"))];
    assert_eq!(written, expected);
    assert_eq!(result.probes.len(), 1);
    assert_eq!((result.probes[0].failure.as_deref(), result.probes[0].milliseconds), (None, 7));
    assert_eq!(
        fs::read_dir(place.parent().unwrap()).unwrap().count(),
        2,
        "and nothing beside them"
    );
}

#[test]
fn a_file_is_taken_away_and_is_given_to_others() {
    let mut world = World::new();
    world.put("/etc/passwd", "root:x:0:\nanna:x:1000:\n", 0o644);
    if !is_root() {
        eprintln!("warning: only root gives files away; not tested");
        return;
    }
    world.put("/etc/group", "root:x:0:\nstaff:x:50:\n", 0o644);
    world.put("/etc/gone.conf", "old", 0o4640);
    world.put("/etc/a.conf", "old", 0o644);
    let (place, flags) = (world.place("/etc/a.conf"), rustix::fs::XattrFlags::empty());
    let has_attributes = rustix::fs::setxattr(&place, "user.note", b"kept", flags).is_ok();
    let old_inode = place.metadata().unwrap().ino();
    let actions = [
        world.alter("/etc/gone.conf", Some(("old", "4640")), None),
        world.alter("/etc/a.conf", Some(("old", "0644")), Some(("old", "0600 anna:staff"))),
        world.alter("/etc/b.conf", None, Some(("new", "0640 1001:staff"))),
        world.alter("/etc/c.conf", None, Some(("passing", "0600"))),
        world.alter("/etc/c.conf", Some(("passing", "0600")), None),
    ];

    let result = world.begin(&actions);

    assert_eq!(result.ended, Ended::Done);
    assert_eq!((world.read("/etc/gone.conf"), world.read("/etc/c.conf")), (None, None));
    let data = place.metadata().unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o600, 1000, 50));
    assert_ne!(data.ino(), old_inode, "whoever has it open keeps the old one");
    if has_attributes {
        let mut value = [0; 16];
        let length = rustix::fs::getxattr(&place, "user.note", value.as_mut_slice()).unwrap();
        assert_eq!(&value[..length], b"kept");
    }
    let new = world.place("/etc/b.conf").metadata().unwrap();
    assert_eq!((new.mode() & 0o7777, new.uid(), new.gid()), (0o640, 1001, 50));
    let written: Vec<_> = result.files.iter().map(|it| it.path.as_str()).collect();
    assert_eq!(written, ["/etc/a.conf", "/etc/b.conf"], "what is there by it");
    assert_eq!(fs::read_dir(world.place("/etc")).unwrap().count(), 4, "and nothing beside it");

    // The way back of that order, whole but for its time.
    world.ask(|executor| executor.forget().unwrap());
    for content in ["old", "new"] {
        world.contents.insert(sha256(content.as_bytes()), content.as_bytes().to_vec());
    }
    let back = change::alteration::back(&actions).unwrap();
    assert_eq!(world.begin(&back).ended, Ended::Done);
    assert_eq!(world.read("/etc/b.conf"), None);
    let data = world.place("/etc/gone.conf").metadata().unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o4640, 0, 0));
    let data = place.metadata().unwrap();
    assert_eq!((data.mode() & 0o7777, data.uid(), data.gid()), (0o644, 0, 0));
}

#[test]
fn a_list_of_who_may_does_not_widen_a_mode_that_is_named() {
    let mut world = World::new();
    world.put("/etc/a.conf", "old", 0o660);
    // Version 2; rw for the owner, user 12, the group as bounded by rw, and nobody else (acl(5)).
    let entries: [(u16, u16, u32); 5] =
        [(1, 6, !0), (2, 6, 12), (4, 6, !0), (0x10, 6, !0), (0x20, 0, !0)];
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, may, id) in entries {
        list.extend([tag.to_le_bytes(), may.to_le_bytes()].concat());
        list.extend(id.to_le_bytes());
    }
    let (place, flags) = (world.place("/etc/a.conf"), rustix::fs::XattrFlags::empty());
    if rustix::fs::setxattr(&place, "system.posix_acl_access", &list, flags).is_err() {
        eprintln!("warning: no access lists on this file system; not tested");
        return;
    }
    let action = world.alter("/etc/a.conf", Some(("old", "0660")), Some(("old", "0600")));

    assert_eq!(world.begin(&[action]).ended, Ended::Done);

    assert_eq!(place.metadata().unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_file_that_is_not_whose_the_plan_says_is_left_alone() {
    let mut world = World::new();
    world.put("/etc/a.conf", "old", 0o640);
    let before = world.tree();
    let mut refused = |was: &str, after: Option<&str>| {
        let after = after.map(|access| ("new", access));
        let action = world.alter("/etc/a.conf", Some(("old", was)), after);
        let refusal = refusal(world.begin(&[action]).ended);
        assert_eq!(world.tree(), before, "{refusal}");
        world.ask(|executor| executor.forget().unwrap());
        refusal
    };

    for after in [None, Some("0600")] {
        let other = refused("0644", after);
        let Refusal::OtherAccess { expected, found, .. } = &other else { panic!("{other}") };
        let both = (expected.to_string(), found.to_string());
        assert_eq!(both, ("0644 root:root".to_owned(), "0640 root:root".to_owned()));
    }
    let nobody = refused("0640", Some("0600 nobody-here:root"));
    assert!(matches!(&nobody, Refusal::Account { .. }), "{nobody}");
    assert!(nobody.to_string().contains("`nobody-here`"), "{nobody}");
    assert!(!nobody.help().is_empty() && !nobody.accuses());
}

#[test]
fn no_name_is_taken_away_that_leads_elsewhere() {
    let mut world = World::new();
    world.put("/etc/linked", "x", 0o644);
    fs::hard_link(world.place("/etc/linked"), world.place("/etc/second")).unwrap();
    symlink("linked", world.place("/etc/link")).unwrap();
    world.put("/own/trusted.json", "x", 0o644);
    fs::create_dir(world.place("/etc/directory")).unwrap();
    let before = world.tree();
    for path in ["/etc/linked", "/etc/link", "/etc/directory", "/own/trusted.json"] {
        let action = world.alter(path, Some(("x", "0644")), None);
        let refusal = refusal(world.begin(&[action]).ended);
        let is_named = matches!(refusal, Refusal::NotPlain { .. } | Refusal::OwnFile { .. });
        assert!(is_named, "{refusal}");
        assert_eq!(world.tree(), before);
        world.ask(|executor| executor.forget().unwrap());
    }
}

#[test]
fn a_probe_that_fails_takes_back_what_was_written() {
    let mut world = World::new();
    world.failure = Some("answered 500, not 200");
    world.put("/etc/a.conf", "old", 0o640);
    world.put("/etc/gone.conf", "its content", 0o2750);
    world.put("/etc/given.conf", "given", 0o644);
    let before = world.tree();
    let actions = [
        world.write("/etc/a.conf", Some("old"), "new"),
        world.write("/etc/a.conf", Some("new"), "newer"),
        world.write("/etc/b.conf", None, "another"),
        world.alter("/etc/gone.conf", Some(("its content", "2750")), None),
        world.alter("/etc/given.conf", Some(("given", "0644")), Some(("taken", "0600"))),
        probe("works"),
        world.write("/etc/c.conf", None, "never"),
    ];

    let result = world.begin(&actions);

    let Ended::RolledBack { because } = &result.ended else { panic!("{:?}", result.ended) };
    assert!(because.contains("`works`") && because.contains("answered 500"), "{because}");
    assert_eq!(world.tree(), before);
    assert_eq!(result.probes[0].failure.as_deref(), Some("answered 500, not 200"));
    assert!(result.files.is_empty());
}

#[test]
fn what_is_not_as_expected_is_refused_by_name_and_nothing_is_altered() {
    let mut world = World::new();
    world.put("/etc/a.conf", "the owner's", 0o644);
    world.put("/etc/linked", "x", 0o644);
    fs::hard_link(world.place("/etc/linked"), world.place("/etc/second")).unwrap();
    world.put("/usr/lib/x.conf", "x", 0o644);
    symlink("usr/lib", world.place("/lib")).unwrap();
    symlink("a.conf", world.place("/etc/link.conf")).unwrap();
    world.put("/own/trusted.json", "x", 0o600);
    world.put("/own.toml", "x", 0o600);
    let large = "x".repeat(domain::order::LARGEST_CONTENT + 1);
    world.put("/etc/large", &large, 0o644);
    let before = world.tree();
    let mut refused = |path: &str, expected: Option<&str>| {
        let actions =
            [world.write("/etc/z.conf", None, "first"), world.write(path, expected, "new")];
        let refusal = refusal(world.begin(&actions).ended);
        assert_eq!(world.tree(), before, "{refusal}");
        assert!(!refusal.help().is_empty());
        world.ask(|executor| executor.forget().unwrap());
        refusal
    };

    let other = refused("/etc/a.conf", Some("old"));
    let (expected, found) = (Some(sha256(b"old")), Some(sha256(b"the owner's")));
    assert_eq!(other, Refusal::OtherFile { path: "/etc/a.conf".to_owned(), expected, found });
    for hash in [expected, found] {
        assert!(other.to_string().contains(&hash.unwrap().to_string()), "{other}");
    }
    assert!(matches!(refused("/etc/a.conf", None), Refusal::OtherFile { expected: None, .. }));
    assert!(matches!(refused("/etc/none", Some("x")), Refusal::OtherFile { found: None, .. }));
    let mut not_plain = |path: &str, expected: Option<&str>, is: &str, is_at: &str| {
        let refusal = refused(path, expected);
        let Refusal::NotPlain { at, .. } = &refusal else { panic!("{refusal}") };
        assert_eq!(at, is_at);
        assert!(refusal.to_string().contains(is), "{refusal}");
    };
    not_plain("/lib/x.conf", Some("x"), "symbolic link", "/lib");
    not_plain("/etc/link.conf", Some("the owner's"), "symbolic link", "/etc/link.conf");
    not_plain("/etc/linked", Some("x"), "another name", "/etc/linked");
    not_plain("/etc/new/x.conf", None, "is not there", "/etc/new");
    not_plain("/etc/a.conf/x", None, "no directory", "/etc/a.conf");
    not_plain("/usr/lib", None, "is a directory", "/usr/lib");
    not_plain("/etc/large", Some(&large), "larger", "/etc/large");
    assert!(matches!(refused("/own/trusted.json", Some("x")), Refusal::OwnFile { .. }));
    assert!(matches!(refused("/own.toml", Some("x")), Refusal::OwnFile { .. }));
    assert!(matches!(refused("/own/new", None), Refusal::OwnFile { .. }));
}

#[test]
fn a_probe_that_the_owner_does_not_declare_is_refused_by_name() {
    let mut world = World::new();
    let actions = [world.write("/etc/z.conf", None, "first"), probe("works"), probe("other")];
    fs::create_dir_all(world.place("/etc")).unwrap();

    let refusal = refusal(world.begin(&actions).ended);

    assert_eq!(refusal, Refusal::NoProbe { probe: "other".to_owned() });
    assert_eq!(world.read("/etc/z.conf"), None);
}

#[test]
fn contents_that_were_lost_before_they_were_kept_are_not_made_up() {
    let mut world = World::new();
    fs::create_dir_all(world.place("/etc")).unwrap();
    let actions = [world.write("/etc/z.conf", None, "first")];
    world.contents.clear();

    let refusal = refusal(world.begin(&actions).ended);

    assert!(matches!(refusal, Refusal::NotKept { .. }), "{refusal}");
    assert_eq!(world.read("/etc/z.conf"), None);
}

#[test]
fn what_somebody_else_makes_of_a_file_meanwhile_stays() {
    let world = World::new();
    world.put("/etc/a.conf", "old", 0o644);
    let files = world.files();
    let into = world.directory.path();
    let kept = files.keep("/etc/a.conf", into, "kept".to_owned()).unwrap();
    files.alter("/etc/a.conf", &rewrite("old", "new"), b"new").unwrap();
    world.put("/etc/a.conf", "the owner's", 0o644);
    let ours = [Some(sha256(b"old")), Some(sha256(b"new"))].into();

    let fault = files.give_back(&kept, into, &ours).unwrap_err();

    assert!(matches!(fault, FileFault::Other { .. }), "{fault}");
    assert!(fault.to_string().contains(&sha256(b"the owner's").to_string()), "{fault}");
    assert_eq!(world.read("/etc/a.conf").as_deref(), Some("the owner's"));
    assert!(files.alter("/etc/a.conf", &rewrite("new", "newer"), b"newer").is_err());
    let removal = FileChange::Remove { before: state(("new", "0644")) };
    assert!(files.alter("/etc/a.conf", &removal, b"").is_err());
    assert_eq!(world.read("/etc/a.conf").as_deref(), Some("the owner's"));
}

#[test]
fn a_link_that_lies_in_wait_is_not_written_through() {
    let world = World::new();
    world.put("/etc/a.conf", "old", 0o644);
    world.put("/etc/shadow", "secret", 0o600);
    symlink("shadow", world.place("/etc/.patchwright-new")).unwrap();

    world.files().alter("/etc/a.conf", &rewrite("old", "new"), b"new").unwrap();

    assert_eq!(world.read("/etc/shadow").as_deref(), Some("secret"));
    assert_eq!(world.read("/etc/a.conf").as_deref(), Some("new"));
    assert!(world.place("/etc/.patchwright-new").symlink_metadata().is_err());
}

/// What an order does to some of the files of a tree.
#[derive(Debug, Clone)]
struct Drawn {
    /// Names in three directories, with what they have before.
    before: BTreeMap<(u8, u8), (u8, u32)>,
    /// What is made of which, in this order.
    does: Vec<((u8, u8), Does)>,
    fails: bool,
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Write(u8),
    /// With another mode, and perhaps another content.
    Give(u8, u32),
    Remove,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let name = || (0_u8..3, 0_u8..3);
    let mode = || prop_oneof![Just(0o644_u32), Just(0o600), Just(0o755), Just(0o2750)];
    let before = prop::collection::btree_map(name(), (0_u8..3, mode()), 0..6);
    let does = prop_oneof![
        (0_u8..6).prop_map(Does::Write),
        (0_u8..6, mode()).prop_map(|(number, mode)| Does::Give(number, mode)),
        Just(Does::Remove),
    ];
    let does = prop::collection::vec((name(), does), 1..6);
    (before, does, any::<bool>()).prop_map(|(before, does, fails)| Drawn { before, does, fails })
}

fn path((directory, name): (u8, u8)) -> String {
    format!("/etc/{directory}/{name}.conf")
}

fn content(number: u8) -> String {
    format!("content {number}\n").repeat(usize::from(number))
}

/// The tree, and the order that alters it.
fn set_up(drawn: &Drawn) -> (World, Vec<Action>) {
    let mut world = World::new();
    world.failure = drawn.fails.then_some("it does not work");
    for directory in 0..3 {
        fs::create_dir_all(world.place(&format!("/etc/{directory}"))).unwrap();
    }
    let mut has: BTreeMap<(u8, u8), (String, String)> = BTreeMap::new();
    for (name, (number, mode)) in &drawn.before {
        world.put(&path(*name), &content(*number), *mode);
        has.insert(*name, (content(*number), format!("{mode:04o}")));
    }
    let mut actions = Vec::new();
    for (name, does) in &drawn.does {
        let (path, was) = (path(*name), has.remove(name));
        let was = was.as_ref().map(|(content, mode)| (content.as_str(), mode.as_str()));
        match *does {
            Does::Write(number) => {
                let content = content(number);
                actions.push(world.write(&path, was.map(|it| it.0), &content));
                has.insert(*name, (content, was.map_or("0644", |it| it.1).to_owned()));
            }
            Does::Give(number, mode) => {
                let (content, mode) = (content(number), format!("{mode:04o}"));
                actions.push(world.alter(&path, was, Some((&content, &mode))));
                has.insert(*name, (content, mode));
            }
            Does::Remove if was.is_some() => actions.push(world.alter(&path, was, None)),
            Does::Remove => {}
        }
    }
    actions.push(probe("works"));
    (world, actions)
}

/// Takes up what was interrupted, perhaps again and again, until it ends; `None` where nothing was begun.
fn take_up(world: &World) -> Option<domain::order::OrderResult> {
    let paused = world.ask(|executor| executor.resume().unwrap())?;
    Some(ended(Ok(paused)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    /// At each place at which it can be interrupted, once and twice in a row.
    #[test]
    fn interrupted_anywhere_files_are_new_or_as_before(drawn in drawn(), again in 0_u32..40) {
        let after = {
            let (world, actions) = set_up(&Drawn { fails: false, ..drawn.clone() });
            prop_assert_eq!(world.begin(&actions).ended, Ended::Done);
            contents(&world)
        };
        let mut outcomes = BTreeSet::new();
        for place in 0.. {
            let (world, actions) = set_up(&drawn);
            let before = world.tree();
            let done = deaths::until(place, || world.begin(&actions));
            if done.is_none() {
                deaths::until(again, || take_up(&world));
            }
            let result = match &done {
                Some(result) => Some(result.clone()),
                None => take_up(&world),
            };
            match result.map(|result| result.ended) {
                Some(Ended::Done) => {
                    prop_assert!(!drawn.fails);
                    prop_assert_eq!(&contents(&world), &after, "at {}", place);
                    outcomes.insert("done");
                }
                Some(Ended::RolledBack { because }) => {
                    prop_assert!(drawn.fails, "{}", because);
                    prop_assert_eq!(&world.tree(), &before, "at {}", place);
                    outcomes.insert("rolled back");
                }
                Some(Ended::Refused { refusal }) => {
                    // Between the journal's beginning and what came with the order.
                    prop_assert!(matches!(refusal, Refusal::NotKept { .. }), "{}", refusal);
                    prop_assert_eq!(&world.tree(), &before, "at {}", place);
                    outcomes.insert("refused");
                }
                Some(Ended::Stuck { because }) => prop_assert!(false, "at {}: {}", place, because),
                None => {
                    prop_assert_eq!(&world.tree(), &before, "at {}", place);
                    outcomes.insert("never begun");
                }
            }
            if done.is_some() {
                prop_assert!(place > 10, "it is interrupted somewhere");
                break;
            }
        }
        let end = if drawn.fails { "rolled back" } else { "done" };
        // What comes with no content has none to lose.
        let refused = drawn.does.iter().any(|(_, it)| !matches!(it, Does::Remove));
        let refused = refused.then_some("refused");
        prop_assert_eq!(outcomes, [end, "never begun"].into_iter().chain(refused).collect());
    }
}

/// What files have, whenever they were written.
fn contents(world: &World) -> BTreeMap<PathBuf, (String, u32)> {
    let root = world.directory.path().join("root");
    let inside = |place: PathBuf| place.strip_prefix(&root).unwrap().to_owned();
    let tree = world.tree().into_iter();
    tree.map(|(place, (content, mode, ..))| (inside(place), (content, mode))).collect()
}
