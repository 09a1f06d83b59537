use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use tempfile::TempDir;

use super::super::observation::Difference;
use super::*;
use domain::order::Policy;

struct Host {
    root: TempDir,
    observer: Observer,
}

impl Host {
    /// A system with some files below `/etc`.
    fn new(policy: &str) -> Self {
        let root = TempDir::new().unwrap();
        let rules = Policy::parse(policy).unwrap().configuration;
        let observer = Observer::new(root.path(), rules, FingerprintKey::from([1; 32]));
        let host = Self { root, observer };
        host.write("etc/motd", "welcome\n");
        host.write("etc/app/app.ini", "user = a\npassword = Tr0ub4dor&3\n");
        host
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), content).unwrap();
    }

    fn look(&mut self) -> Observation {
        self.observer.observe(Timestamp::UNIX_EPOCH)
    }
}

fn names(observation: &Observation) -> Vec<&str> {
    observation.files.keys().map(String::as_str).collect()
}

fn paths<'a>(differences: &[Difference<'a>]) -> Vec<&'a str> {
    differences.iter().map(|it| it.path).collect()
}

fn content(seen: &Seen) -> &Redaction {
    match &seen.kind {
        Kind::File { content } => content,
        other => panic!("{other:?}"),
    }
}

#[test]
fn files_are_seen_without_their_secrets() {
    let mut host = Host::new("");

    let seen = host.look();

    assert_eq!(names(&seen), ["/etc/app", "/etc/app/app.ini", "/etc/motd"]);
    let text = serde_json::to_string(&seen).unwrap();
    assert!(!text.contains("Tr0ub4dor"), "{text}");
    assert!(text.contains("<redacted:password:"), "{text}");
    assert!(text.contains("welcome"));
    assert!(seen.unseen.is_empty());
}

#[test]
fn what_editors_keep_while_a_file_is_open_is_no_configuration() {
    let mut host = Host::new("");
    let before = host.look();

    host.write("etc/.motd.swp", "b0VIM 9.0\0\0\0\0\x10\0");
    host.write("etc/app/.app.ini.swo", "b0nano 7.2\0");
    assert!(host.look().since(&before).is_empty());

    // By their names alone they are none.
    host.write("etc/app/.app.ini.swp", "password = Tr0ub4dor&3\n");
    host.write("etc/app/b0.swp", "b0VIM 9.0\0\0\0\0\x10\0");
    host.write("etc/app/.swp", "b0VIM 9.0\0\0\0\0\x10\0");
    let after = host.look();
    let differ = after.since(&before);
    assert_eq!(paths(&differ), ["/etc/app/.app.ini.swp", "/etc/app/.swp", "/etc/app/b0.swp"]);
}

#[test]
fn a_tree_that_did_not_alter_has_the_same_digest() {
    let mut host = Host::new("");
    let before = host.look();

    assert_eq!(host.look().digest(), before.digest());
    std::fs::write(host.path("etc/motd"), "welcome\n").unwrap();
    assert_eq!(host.look().digest(), before.digest(), "the same content again");
    assert!(host.look().since(&before).is_empty());
}

#[test]
fn whatever_alters_is_a_difference() {
    let mut host = Host::new("");
    let mut before = host.look();
    let mut expect = |host: &mut Host, path: &[&str]| {
        let after = host.look();
        assert_eq!(paths(&after.since(&before)), path);
        assert_ne!(after.digest(), before.digest());
        before = after;
    };

    host.write("etc/motd", "hello\n");
    expect(&mut host, &["/etc/motd"]);
    host.write("etc/app/app.ini", "user = a\npassword = an0ther-one\n");
    expect(&mut host, &["/etc/app/app.ini"]);
    host.write("etc/new", "");
    expect(&mut host, &["/etc/new"]);
    std::fs::set_permissions(host.path("etc/motd"), std::fs::Permissions::from_mode(0o600))
        .unwrap();
    expect(&mut host, &["/etc/motd"]);
    std::fs::set_permissions(host.path("etc/app"), std::fs::Permissions::from_mode(0o700)).unwrap();
    expect(&mut host, &["/etc/app"]);
    symlink("motd", host.path("etc/link")).unwrap();
    expect(&mut host, &["/etc/link"]);
    std::fs::remove_file(host.path("etc/link")).unwrap();
    symlink("new", host.path("etc/link")).unwrap();
    expect(&mut host, &["/etc/link"]);
    std::fs::remove_file(host.path("etc/new")).unwrap();
    expect(&mut host, &["/etc/new"]);
}

#[test]
fn an_attribute_is_a_difference() {
    let mut host = Host::new("");
    let before = host.look();
    let set = rustix::fs::setxattr(
        host.path("etc/motd"),
        "user.note",
        b"x",
        rustix::fs::XattrFlags::empty(),
    );
    if set.is_err() {
        eprintln!("skipped: the temporary directory has no attributes");
        return;
    }

    let after = host.look();

    assert_eq!(paths(&after.since(&before)), ["/etc/motd"]);
    let (old, new) = (before.files["/etc/motd"].state(), after.files["/etc/motd"].state());
    assert_eq!(old.content, new.content);
    assert_ne!(old.access, new.access);
}

#[test]
fn links_are_seen_and_never_followed() {
    let mut host = Host::new("[configuration]\nwatch = [\"/etc/**\", \"/linked/**\"]");
    let outside = TempDir::new().unwrap();
    std::fs::write(outside.path().join("secret"), "outside\n").unwrap();
    symlink(outside.path(), host.path("etc/out")).unwrap();
    symlink(outside.path(), host.path("linked")).unwrap();

    let seen = host.look();

    assert_eq!(names(&seen), ["/etc/app", "/etc/app/app.ini", "/etc/motd", "/etc/out"]);
    assert!(matches!(seen.files["/etc/out"].kind, Kind::Link { .. }));
    assert_eq!(seen.unseen.iter().map(|it| it.path.as_str()).collect::<Vec<_>>(), ["/linked"]);
    assert!(!serde_json::to_string(&seen).unwrap().contains("outside\\n"));
}

#[test]
fn the_owner_says_what_is_seen() {
    let mut host = Host::new(
        "[configuration]\nwatch = [\"/etc/**\", \"/srv/*.conf\"]\nignore = [\"/etc/app/**\"]\nwithhold = [\"/etc/motd\"]",
    );
    host.write("srv/a.conf", "a\n");
    host.write("srv/b.txt", "b\n");
    host.write("srv/deep/c.conf", "c\n");

    let seen = host.look();

    assert_eq!(names(&seen), ["/etc/app", "/etc/motd", "/srv/a.conf"]);
    assert!(matches!(
        content(&seen.files["/etc/motd"]),
        Redaction::Withheld { because: Withheld::Owner, size: 8, .. }
    ));
}

#[test]
fn of_large_and_binary_files_only_a_fingerprint_leaves() {
    let mut host = Host::new("");
    host.write("etc/large", vec![b'a'; LARGEST + 10]);
    host.write("etc/binary", b"\0\x01hunter2");
    let before = host.look();
    let because = |path: &str| match content(&before.files[path]) {
        Redaction::Withheld { because, size, .. } => (*because, *size),
        Redaction::Text(_) => panic!("{path}"),
    };
    assert_eq!(because("/etc/large"), (Withheld::TooLarge, LARGEST as u64 + 10));
    assert_eq!(because("/etc/binary"), (Withheld::Binary, 9));

    let mut bytes = vec![b'a'; LARGEST + 10];
    bytes[LARGEST + 5] = b'b';
    host.write("etc/large", bytes);
    assert_eq!(paths(&host.look().since(&before)), ["/etc/large"]);

    std::fs::File::options()
        .write(true)
        .open(host.path("etc/large"))
        .unwrap()
        .set_len(LARGEST_FINGERPRINT + 1)
        .unwrap();
    let after = host.look();
    assert!(!after.files.contains_key("/etc/large"));
    assert_eq!(after.unseen.len(), 1, "{:?}", after.unseen);
}

#[test]
fn pipes_and_names_that_are_none_hold_nobody_up() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let mut host = Host::new("");
    rustix::fs::mknodat(CWD, host.path("etc/pipe"), FileType::Fifo, Mode::RUSR, 0).unwrap();
    std::fs::write(host.path("etc").join(OsStr::from_bytes(b"\xff")), "x").unwrap();

    let seen = host.look();

    assert!(matches!(seen.files["/etc/pipe"].kind, Kind::Other));
    assert_eq!(seen.unseen.len(), 1, "{:?}", seen.unseen);
}

#[test]
fn a_quick_look_reads_only_what_is_new() {
    let mut host = Host::new("");
    let later = Timestamp::now().checked_add(jiff::SignedDuration::from_hours(1)).unwrap();
    let before = host.observer.observe(later);
    let quick = |host: &mut Host| {
        let mut read = Vec::new();
        host.observer.look(Depth::Quick, later, |path, found| {
            // Directories and links are seen again each time.
            if matches!(found, Found::Seen(Seen { kind: Kind::File { .. }, .. })) {
                read.push(path.to_owned());
            }
        });
        read
    };

    assert!(quick(&mut host).is_empty());
    host.write("etc/app/app.ini", "user = b\n");
    assert_eq!(quick(&mut host), ["/etc/app/app.ini"]);
    assert!(quick(&mut host).is_empty());
    let after = host.observer.observe(later);
    assert_eq!(paths(&after.since(&before)), ["/etc/app/app.ini"]);
}

#[test]
fn what_a_look_found_can_be_read_again() {
    let mut host = Host::new("");
    symlink("motd", host.path("etc/link")).unwrap();
    let seen = host.look();

    for (path, before) in &seen.files {
        assert_eq!(host.observer.again(path).unwrap(), *before, "{path}");
    }
    std::fs::remove_file(host.path("etc/motd")).unwrap();
    assert!(host.observer.again("/etc/motd").is_err());
    std::fs::rename(host.path("etc/app"), host.path("etc/other")).unwrap();
    symlink("other", host.path("etc/app")).unwrap();
    assert!(host.observer.again("/etc/app/app.ini").is_err(), "no link is followed");
}

#[test]
fn what_altered_just_now_is_read_again() {
    let mut host = Host::new("");

    host.look();

    assert!(host.observer.known.is_empty(), "a second write within one tick would not show");
}

#[test]
fn the_machines_own_configuration_can_be_looked_at() {
    if !Path::new("/etc").is_dir() {
        return;
    }
    let rules = ConfigurationRules::default();
    let mut observer = Observer::new("/", rules, FingerprintKey::from([1; 32]));

    let seen = observer.observe(Timestamp::now());

    assert!(seen.files.len() > 10);
    let shadow = seen.files.get("/etc/shadow").map(content);
    if let Some(Redaction::Text(shadow)) = shadow {
        assert!(!shadow.text.contains("$y$") && !shadow.text.contains("$6$"));
    }
}
