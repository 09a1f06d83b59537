//! A host of recorded answers, and what is held of all documents.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use domain::configuration::document::DocumentPattern;

use super::host::{Account, Answer, Question, Status};
use super::*;

/// A host that says what it was given.
#[derive(Clone, Default)]
pub(super) struct Recorded(Rc<Inner>);

#[derive(Default)]
struct Inner {
    files: RefCell<BTreeMap<String, Result<Vec<u8>, io::ErrorKind>>>,
    links: RefCell<BTreeMap<String, String>>,
    statuses: RefCell<BTreeMap<String, Status>>,
    programs: RefCell<BTreeMap<String, Result<Answer, Unseen>>>,
    packages: RefCell<Vec<String>>,
    asked: RefCell<Vec<(Vec<String>, Option<Account>)>>,
    /// How long each question takes.
    takes: Cell<Duration>,
    clock: Cell<Duration>,
}

impl Recorded {
    pub(super) fn file(&self, path: &str, text: impl AsRef<[u8]>) {
        self.0.files.borrow_mut().insert(path.to_owned(), Ok(text.as_ref().to_vec()));
    }

    pub(super) fn forbidden(&self, path: &str) {
        self.0.files.borrow_mut().insert(path.to_owned(), Err(io::ErrorKind::PermissionDenied));
    }

    pub(super) fn link(&self, path: &str, target: &str) {
        self.0.links.borrow_mut().insert(path.to_owned(), target.to_owned());
    }

    pub(super) fn owned(&self, path: &str, uid: u32, mode: u32) {
        let status = Status { user: Account { uid, gid: uid }, mode };
        self.0.statuses.borrow_mut().insert(path.to_owned(), status);
    }

    /// What is answered to whatever begins so.
    pub(super) fn answers(&self, command: &str, text: &str) {
        let answer = Answer { text: text.to_owned(), exit: Some(0), ..Answer::default() };
        self.0.programs.borrow_mut().insert(command.to_owned(), Ok(answer));
    }

    pub(super) fn complains(&self, command: &str, complaint: &str) {
        let complaint = complaint.to_owned();
        let answer = Answer { complaint, exit: Some(1), ..Answer::default() };
        self.0.programs.borrow_mut().insert(command.to_owned(), Ok(answer));
    }

    pub(super) fn fails(&self, command: &str, because: &str) {
        self.0.programs.borrow_mut().insert(command.to_owned(), Err(Unseen::new(because)));
    }

    pub(super) fn asked(&self) -> Vec<(Vec<String>, Option<Account>)> {
        self.0.asked.take()
    }
}

impl Host for Recorded {
    fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        match self.0.files.borrow().get(path) {
            Some(Ok(bytes)) => Ok(bytes.clone()),
            Some(Err(kind)) => Err((*kind).into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn names(&self, directory: &str) -> io::Result<Vec<String>> {
        let before = format!("{directory}/");
        let (files, links) = (self.0.files.borrow(), self.0.links.borrow());
        let below = files.keys().chain(links.keys()).filter_map(|it| it.strip_prefix(&before));
        let names: BTreeSet<_> = below.filter_map(|it| it.split('/').next()).collect();
        if names.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn status(&self, path: &str) -> io::Result<Status> {
        if let Some(status) = self.0.statuses.borrow().get(path) {
            return Ok(*status);
        }
        let user = Account { uid: 0, gid: 0 };
        if self.0.files.borrow().contains_key(path) {
            return Ok(Status { user, mode: 0o100_644 });
        }
        self.names(path).map(|_| Status { user, mode: 0o040_755 })
    }

    fn target(&self, path: &str) -> io::Result<String> {
        self.0.links.borrow().get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }

    fn ask(&self, question: &Question<'_>) -> Result<Answer, Unseen> {
        self.0.clock.set(self.0.clock.get() + self.0.takes.get());
        let argv = question.argv.iter().map(|it| (*it).to_owned()).collect();
        self.0.asked.borrow_mut().push((argv, question.by));
        let command = question.argv.join(" ");
        let programs = self.0.programs.borrow();
        let known = programs.iter().filter(|(it, _)| command.starts_with(*it));
        // The longest one is meant.
        let (_, answer) = known
            .max_by_key(|(it, _)| it.len())
            .ok_or_else(|| Unseen::new(format!("there is no program `{}`", question.argv[0])))?;
        answer.clone()
    }

    fn tls(&self, _: SocketAddr) -> Result<String, Unseen> {
        Ok("TLS 1.3: offered\n".to_owned())
    }

    fn packages(&self) -> Result<Vec<String>, Unseen> {
        Ok(self.0.packages.borrow().clone())
    }

    fn clock(&self) -> Duration {
        self.0.clock.get()
    }
}

fn rules(watch: &[&str]) -> DocumentRules {
    let pattern = |it: &&str| DocumentPattern::try_from((*it).to_owned()).unwrap();
    DocumentRules { watch: watch.iter().map(pattern).collect(), ..DocumentRules::default() }
}

fn documents(host: &Recorded, rules: DocumentRules, known: &[&str]) -> Documents {
    let known = known.iter().map(|it| (*it).to_owned());
    Documents::with(Box::new(host.clone()), rules, FingerprintKey::from([7; 32]), known)
}

#[test]
fn what_a_bare_host_has_not_is_unseen_and_never_left_out() {
    let host = Recorded::default();
    let seen = documents(&host, DocumentRules::default(), &[]).look(Depth::Full);
    for collector in COLLECTORS.iter().filter(|it| matches!(it.see, See::One(_))) {
        assert!(seen.contains_key(collector.names), "{}", collector.names);
    }
    assert_eq!(seen["policy:sshd"], "<unseen:there is no program `sshd`>\n");
    assert_eq!(seen["profile:units"], "<unseen:there is no program `systemctl`>\n");
    // The list of sockets cannot be read: whether there are servers is not known.
    assert!(seen["database:postgresql"].starts_with("<unseen:`/proc/net/unix`: "), "{seen:?}");
}

#[test]
fn secrets_are_taken_out_of_documents_and_of_reasons() {
    let host = Recorded::default();
    host.answers("sshd -T", "banner none\npassword c4n4ry-Tr0ub4dor\n");
    host.complains("nft", "password = c4n4ry-Tr0ub4dor");
    host.file("/proc/cmdline", "quiet root_password=c4n4ry-Tr0ub4dor");
    let seen = documents(&host, DocumentRules::default(), &[]).look(Depth::Full);
    assert!(!format!("{seen:?}").contains("c4n4ry"), "{seen:?}");
    assert!(seen["policy:sshd"].contains("<redacted:password:"), "{}", seen["policy:sshd"]);
}

#[test]
fn the_owner_says_what_is_asked_at_all() {
    let host = Recorded::default();
    host.answers("sshd", "port 22\n");
    let seen = documents(&host, rules(&["policy:sshd"]), &[]).look(Depth::Full);
    assert_eq!(seen.keys().collect::<Vec<_>>(), ["policy:sshd"]);
    assert_eq!(host.asked().len(), 1, "nothing else is run");
}

#[test]
fn what_was_there_and_cannot_be_named_now_is_not_gone() {
    let host = Recorded::default();
    host.file("/etc/libvirt/qemu/db.xml", "");
    host.answers("virsh -r -c qemu:///system list", "db\n\n");
    host.answers("virsh -r -c qemu:///system dumpxml", "<domain type='kvm'>\n</domain>\n");
    let mut documents = documents(&host, rules(&["policy:libvirt/*"]), &[]);
    let before = documents.look(Depth::Full);
    assert_eq!(before["policy:libvirt/db"], "<domain type='kvm'>\n</domain>\n");

    host.fails("virsh -r -c qemu:///system list", "`virsh` did not end within 10 s");
    let after = documents.look(Depth::Full);
    let unseen = "<unseen:`virsh` did not end within 10 s>\n";
    assert_eq!(after, BTreeMap::from([("policy:libvirt/db".to_owned(), unseen.to_owned())]));

    // The same after the agent started anew, by what the control plane knows.
    let known = ["/etc/hosts", "policy:libvirt/db"];
    let anew =
        super::tests::documents(&host, rules(&["policy:libvirt/*"]), &known).look(Depth::Quick);
    assert_eq!(anew, after);

    host.answers("virsh -r -c qemu:///system list", "\n");
    assert_eq!(documents.look(Depth::Full), BTreeMap::new(), "now it is");
}

#[test]
fn what_is_dear_is_asked_rarely() {
    let host = Recorded::default();
    host.answers("sshd", "port 22\n");
    host.0.takes.set(Duration::from_secs(1));
    let mut documents = documents(&host, rules(&["policy:sshd"]), &[]);
    documents.look(Depth::Quick);
    host.answers("sshd", "port 23\n");
    host.0.clock.set(Duration::from_secs(150));
    assert_eq!(documents.look(Depth::Quick)["policy:sshd"], "port 22\n", "it took a second");
    assert_eq!(
        documents.look(Depth::Full)["policy:sshd"],
        "port 23\n",
        "whoever looks in full does"
    );
    host.answers("sshd", "port 24\n");
    host.0.clock.set(Duration::from_secs(352));
    assert_eq!(documents.look(Depth::Quick)["policy:sshd"], "port 24\n");
}

#[test]
fn services_are_asked_over_tls_where_the_owner_says_so_alone() {
    let host = Recorded::default();
    let nobody = documents(&host, DocumentRules::default(), &[]).look(Depth::Full);
    assert!(!nobody.keys().any(|name| name.starts_with("policy:tls")), "{:?}", nobody.keys());
    let tls = vec!["127.0.0.1:443".parse().unwrap(), "[::1]:8443".parse().unwrap()];
    let rules = DocumentRules { tls, ..rules(&["policy:tls/*"]) };
    let asked = documents(&host, rules, &[]).look(Depth::Full);
    let names: Vec<_> = asked.keys().collect();
    assert_eq!(names, ["policy:tls/127.0.0.1:443", "policy:tls/[::1]:8443"]);
}

#[test]
fn too_many_are_said_to_be() {
    let collector = several("policy:libvirt/", libvirt::guests);
    let pages = (0..MOST + 5).map(|it| (format!("policy:libvirt/{it:05}"), Ok(String::new())));
    let (rules, key) = (DocumentRules::default(), FingerprintKey::from([7; 32]));
    let mut seen = Seen::default();
    told(&collector, Ok(pages.collect()), &mut seen, &rules, &key);
    let told = seen.contents;
    assert_eq!(told.len(), MOST + 1);
    assert_eq!(told["policy:libvirt"], "<unseen:there are more than 1000 of them>\n");
}

/// What the programs of `shell` say, below a directory of its own.
fn program(name: &str, script: &str) -> (tempfile::TempDir, Live) {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    (directory, Live::with(path, Duration::from_secs(1)))
}

#[test]
fn a_program_that_never_ends_is_ended() {
    let (directory, host) = program("sshd", "sleep 1000 & echo $! > \"$0.pid\"; wait");
    let begun = std::time::Instant::now();
    assert_eq!(sshd::sshd(&host), Err(Unseen::new("`sshd` did not end within 1 s")));
    assert!(begun.elapsed() < Duration::from_secs(10), "both options were tried");
    // What it had started ends with it, once the kernel gets to it.
    let pid = std::fs::read_to_string(directory.path().join("sshd.pid")).unwrap();
    let has_ended = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        state.is_err() || state.is_ok_and(|it| it.contains(") Z ") || it.contains(") X "))
    };
    let ended = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        has_ended()
    });
    assert!(ended, "{pid}");
}

#[test]
fn a_program_that_prints_without_end_is_ended() {
    let (_directory, host) = program("nft", "exec yes");
    let unseen = nftables::nftables(&host).unwrap_err();
    assert_eq!(unseen.to_string(), "`nft` says more than 4194304 bytes");
}

#[test]
fn a_program_that_lets_go_of_its_output_is_ended_too() {
    let (_directory, host) = program("nft", "exec >&- 2>&-; sleep 1000");
    let unseen = nftables::nftables(&host).unwrap_err();
    assert_eq!(unseen.to_string(), "`nft` did not end within 1 s");
}

#[test]
fn a_program_sees_nothing_of_our_environment() {
    let (_directory, host) =
        program("nft", "env | sort | grep -v '^_=\\|^PWD=\\|^OLDPWD=\\|^SHLVL='");
    let text = host.ask(&Question::new(&["nft"])).unwrap().told("nft").unwrap();
    let names: Vec<_> = text.lines().filter_map(|it| it.split('=').next()).collect();
    assert_eq!(names, ["HOME", "LC_ALL", "PATH"]);
}

#[test]
fn a_complaint_is_told_by_its_first_line() {
    let (_directory, host) = program("nft", "echo >&2; echo 'Operation not permitted' >&2; exit 3");
    let unseen = nftables::nftables(&host).unwrap_err();
    assert_eq!(unseen.to_string(), "`nft` ended with 3: Operation not permitted");
}

#[test]
fn a_text_that_is_the_same_is_not_looked_through_again() {
    let collector = one("profile:time", |_| Ok(String::new()));
    let (rules, key) = (DocumentRules::default(), FingerprintKey::from([7; 32]));
    let name = "profile:time";
    let page = |text: &str| Ok([(name.to_owned(), Ok(text.to_owned()))].into());
    let mut seen = Seen::default();
    told(&collector, page("password = Tr0ub4dor&3\n"), &mut seen, &rules, &key);
    assert!(seen.contents[name].starts_with("password = <redacted:password:"));

    // What is kept is believed: looked through again, the text would not give this.
    seen.contents.insert(name.to_owned(), "kept\n".to_owned());
    told(&collector, page("password = Tr0ub4dor&3\n"), &mut seen, &rules, &key);
    assert_eq!(seen.contents[name], "kept\n");
    told(&collector, page("password = Tr0ub4dor&4\n"), &mut seen, &rules, &key);
    assert!(seen.contents[name].starts_with("password = <redacted:password:"));
    told(&collector, Err(Unseen::new("nobody answers")), &mut seen, &rules, &key);
    assert_eq!(seen.contents[name], "<unseen:nobody answers>\n");
}
