//! Repositories behind git's own servers: each commit, a history that was written anew, and what a hostile one holds.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use devices::{HostKey, Secret};
use domain::order::PathPattern;
use domain::source::SourceSettings;
use reach::Reach;
use sources::authority;
use sources::git::{Look, Movement, Remote, Step, look};
use sources::{Document, Roots, SourceError};

use crate::support::{Authority, Repository, Server, answer, git_http, git_https, here, key};

const TOKEN: &str = "tok3n-of-the-observer";

fn settings(url: &str, reference: &str, files: &[&str]) -> SourceSettings {
    let pattern = |it: &&str| PathPattern::try_from((*it).to_owned()).unwrap();
    SourceSettings::Git {
        url: url.to_owned(),
        reference: reference.to_owned(),
        user: None,
        files: files.iter().map(pattern).collect(),
        past: 0,
        authorities: Vec::new(),
    }
}

/// A repository with its server.
struct Case {
    repository: Repository,
    url: String,
    files: &'static [&'static str],
    _server: Server,
}

impl Case {
    fn new() -> Self {
        let repository = Repository::new();
        let server = git_http(repository.root.path().to_owned());
        let url = server.url("/app/.git");
        Self { repository, url, files: &[], _server: server }
    }

    async fn look_at(&self, reference: &str, known: Option<&str>) -> Result<Look, SourceError> {
        let password = Secret::from(TOKEN.to_owned());
        let remote = Remote {
            url: &self.url,
            reference,
            user: Some("observer"),
            password: Some(&password),
            key: None,
            host_key: HostKey::FirstUse,
            roots: &Roots::public(),
        };
        look(&remote, &settings(&self.url, reference, self.files), known, &here(), &key()).await
    }

    async fn look(&self, known: Option<&str>) -> Result<Look, SourceError> {
        self.look_at("refs/heads/main", known).await
    }

    async fn steps(&self, known: Option<&str>) -> (Movement, Vec<Step>) {
        steps(self.look(known).await.unwrap())
    }
}

fn steps(look: Look) -> (Movement, Vec<Step>) {
    let mut steps = Vec::new();
    if let Some(mut walk) = look.walk {
        while let Some(step) = walk.step().unwrap() {
            steps.push(step);
        }
    }
    (look.movement, steps)
}

fn text<'s>(step: &'s Step, path: &str) -> &'s str {
    step.documents.iter().find(|it| it.path() == path).map(Document::text).unwrap()
}

fn paths(step: &Step) -> Vec<&str> {
    step.documents.iter().map(Document::path).collect()
}

#[tokio::test]
async fn each_commit_is_what_it_altered_and_by_whom() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("conf/app.ini", "listen = 80\npassword = Tr0ub4dor-and-3\n");
    repository.write("README", "hello\n");
    let first = repository.commit("first");

    let (movement, told) = case.steps(None).await;
    assert_eq!((movement, told.len()), (Movement::First, 1));
    assert_eq!((told[0].commit.as_str(), told[0].is_whole), (first.as_str(), true));
    assert_eq!(paths(&told[0]), ["/README", "/conf/app.ini"]);
    let ini = text(&told[0], "/conf/app.ini");
    assert!(ini.starts_with("listen = 80\npassword = <redacted:password:"), "{ini}");
    assert_eq!(told[0].who, "Ada <ada@acme.example>, committed by Bob <bob@acme.example>");
    assert_eq!(told[0].at.unwrap().to_string(), "2025-12-01T00:01:00Z");

    let same = case.look(Some(&first)).await.unwrap();
    assert_eq!((same.movement, same.tip.as_str()), (Movement::Same, first.as_str()));
    assert!(same.walk.is_none());

    repository.write("conf/app.ini", "listen = 8080\n");
    let second = repository.commit("second");
    repository.write("conf/new.ini", "a = 1\n");
    fs::remove_file(repository.place().join("README")).unwrap();
    let third = repository.commit("third");

    let (movement, told) = case.steps(Some(&first)).await;
    assert_eq!(movement, Movement::Followed);
    let names: Vec<_> = told.iter().map(|it| it.commit.as_str()).collect();
    assert_eq!(names, [second.as_str(), third.as_str()]);
    assert_eq!((paths(&told[0]), told[0].gone.len()), (vec!["/conf/app.ini"], 0));
    assert_eq!(text(&told[0], "/conf/app.ini"), "listen = 8080\n");
    assert_eq!(
        (paths(&told[1]), &told[1].gone),
        (vec!["/conf/new.ini"], &vec!["/README".to_owned()])
    );
    assert!(told.iter().all(|it| !it.is_whole && it.committer == "bob@acme.example"));
}

#[tokio::test]
async fn a_merge_is_what_came_of_it_for_the_branch() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("a", "1\n");
    let first = repository.commit("first");
    repository.git(&["checkout", "-q", "-b", "side"]);
    repository.write("b", "1\n");
    repository.commit("on the side");
    repository.write("b", "2\n");
    let side = repository.commit("on the side again");
    repository.git(&["checkout", "-q", "main"]);
    repository.write("a", "2\n");
    let second = repository.commit("second");
    repository.git(&["merge", "-q", "--no-ff", "-m", "merge", "side"]);
    let merge = repository.git(&["rev-parse", "HEAD"]);

    let (movement, told) = case.steps(Some(&first)).await;
    let names: Vec<_> = told.iter().map(|it| it.commit.as_str()).collect();
    assert_eq!((movement, names), (Movement::Followed, vec![second.as_str(), merge.as_str()]));
    assert_eq!(text(&told[1], "/b"), "2\n");
    // What is known lies on the side that was merged: it is followed all the same.
    let (movement, told) = case.steps(Some(&side)).await;
    assert_eq!((movement, told.len()), (Movement::Followed, 1));
    assert_eq!(text(&told[0], "/a"), "2\n");
}

#[tokio::test]
async fn a_history_that_was_written_anew_is_noticed() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("a", "1\n");
    let first = repository.commit("first");
    repository.write("a", "2\n");
    let second = repository.commit("second");
    repository.git(&["reset", "-q", "--hard", &first]);
    repository.write("b", "1\n");
    let other = repository.commit("another second");

    let (movement, told) = case.steps(Some(&second)).await;
    assert_eq!((movement, told.len()), (Movement::Rewritten, 1));
    assert_eq!((told[0].commit.as_str(), told[0].is_whole), (other.as_str(), true));
    assert_eq!(paths(&told[0]), ["/a", "/b"]);
    let (movement, _) = case.steps(Some(&other.replace(|_: char| true, "7"))).await;
    assert_eq!(movement, Movement::Rewritten, "of a commit that never was");
}

#[tokio::test]
async fn many_commits_are_told_and_too_many_are_said_to_be() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("a", "0\n");
    let first = repository.commit("first");
    let mut stream = String::new();
    for number in 1..=1100 {
        let _ = write!(
            stream,
            "commit refs/heads/main\ncommitter B <b@acme.example> {} +0000\ndata 1\nx\n{}M 644 inline a\ndata {}\n{number}\n\n",
            1_764_547_200 + number,
            if number == 1 { format!("from {first}\n") } else { String::new() },
            number.to_string().len() + 1,
        );
    }
    let file = repository.root.path().join("stream");
    fs::write(&file, stream).unwrap();
    let imported = crate::support::git(&repository.place())
        .args(["fast-import", "--quiet", "--force"])
        .stdin(fs::File::open(&file).unwrap())
        .status();
    assert!(imported.unwrap().success());
    let at = |number: u32| repository.git(&["rev-parse", &format!("main~{}", 1100 - number)]);

    let (movement, told) = case.steps(Some(&at(1000))).await;
    assert_eq!((movement, told.len()), (Movement::Followed, 100));
    assert_eq!((text(&told[0], "/a"), text(&told[99], "/a")), ("1001\n", "1100\n"));

    let look = case.look(Some(&at(500))).await.unwrap();
    assert!(look.walk.as_ref().unwrap().has_more(), "the rest is told of the next look");
    let (movement, told) = steps(look);
    assert_eq!((movement, told.len()), (Movement::Followed, 256));
    assert_eq!(text(&told[255], "/a"), "756\n");

    let (movement, told) = case.steps(Some(&first)).await;
    assert_eq!((movement, told.len()), (Movement::Beyond, 1));
    assert!(told[0].is_whole);
}

#[tokio::test]
async fn only_what_is_wanted_is_told_of_branches_and_tags() {
    let case = Case { files: &["/conf/**", "/*.ini"], ..Case::new() };
    let repository = &case.repository;
    for path in ["conf/d/a", "top.ini", "src/main.c", "other/conf/a"] {
        repository.write(path, path);
    }
    let first = repository.commit("first");
    repository.git(&["tag", "-a", "-m", "one", "v1"]);
    repository.write("src/main.c", "altered");
    repository.commit("second");

    let (_, told) = steps(case.look_at("refs/tags/v1", None).await.unwrap());
    assert_eq!(
        (told[0].commit.as_str(), paths(&told[0])),
        (first.as_str(), vec!["/conf/d/a", "/top.ini"])
    );
    let same = case.look_at("refs/tags/v1", Some(&first)).await.unwrap();
    assert_eq!(same.movement, Movement::Same);
    let (_, told) = case.steps(Some(&first)).await;
    assert_eq!((told.len(), told[0].documents.len()), (1, 0), "nothing of it is wanted");
    let head = case.look_at("HEAD", None).await.unwrap();
    assert_eq!(head.tip, repository.git(&["rev-parse", "main"]));
    let missing = case.look_at("refs/heads/other", None).await.unwrap_err().to_string();
    assert_eq!(
        missing,
        "the repository has no `refs/heads/other`; it has HEAD, refs/heads/main, refs/tags/v1"
    );
}

#[tokio::test]
async fn links_lead_nowhere_and_other_repositories_stay_where_they_are() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("script", "#!/bin/sh\n");
    symlink("/etc/shadow", repository.place().join("way-out")).unwrap();
    symlink("../../..", repository.place().join("up")).unwrap();
    let at = "95d09f2b10159347eece71399a7e2e907ea3df4f";
    repository.git(&["add", "-A"]);
    repository.git(&["update-index", "--chmod=+x", "script"]);
    repository.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{at},vendor/lib")]);
    repository.git(&["commit", "-q", "-m", "first"]);

    let (_, told) = case.steps(None).await;
    assert_eq!(paths(&told[0]), ["/script", "/up", "/way-out"]);
    assert_eq!((text(&told[0], "/way-out"), text(&told[0], "/up")), ("/etc/shadow", "../../.."));
    let modes: Vec<_> = told[0].documents.iter().map(|it| format!("{:o}", it.mode())).collect();
    assert_eq!(modes, ["100755", "120777", "120777"]);
    assert_eq!(
        told[0].notes,
        [format!("`/vendor/lib` is another repository, at {at}: not fetched")]
    );
}

#[tokio::test]
async fn names_that_no_file_has_are_not_told() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("fine", "1\n");
    repository.commit("first");
    let blob = repository.git(&["rev-parse", "HEAD:fine"]);
    // As git itself never writes it.
    let entry = |name: &str| {
        let id: Vec<u8> =
            (0..20).map(|at| u8::from_str_radix(&blob[2 * at..2 * at + 2], 16).unwrap()).collect();
        [format!("100644 {name}\0").as_bytes(), &id].concat()
    };
    let tree =
        [entry(".."), entry(".git"), entry("a\nb"), entry("fine"), entry("x/../../y")].concat();
    let file = repository.root.path().join("tree");
    fs::write(&file, tree).unwrap();
    let file = file.to_str().unwrap();
    let tree = repository.git(&["hash-object", "-t", "tree", "-w", "--literally", file]);
    let commit = repository.git(&["commit-tree", "-m", "odd", &tree]);
    repository.git(&["update-ref", "refs/heads/main", &commit]);

    let (_, told) = case.steps(None).await;
    assert_eq!(paths(&told[0]), ["/fine"]);
    assert_eq!(told[0].notes.len(), 4, "{:?}", told[0].notes);
    assert!(told[0].notes.iter().all(|it| !it.contains('\n')), "{:?}", told[0].notes);
}

#[tokio::test]
async fn what_is_too_large_is_not_looked_into() {
    let case = Case::new();
    let repository = &case.repository;
    repository.write("binary", [0, 1, 2]);
    repository.write("large", "x".repeat((1 << 20) + 1));
    repository.commit("first");
    for filter in ["false", "true"] {
        repository.git(&["config", "uploadpack.allowFilter", filter]);
        let (_, told) = case.steps(None).await;
        let large = text(&told[0], "/large");
        let said = if filter == "true" { "over 1048576" } else { "1048577" };
        assert!(large.starts_with(&format!("<withheld:too_large:{said}:")), "{large:.100}");
        assert!(text(&told[0], "/binary").starts_with("<withheld:binary:3:"));
    }
    // What would fill our memory is refused, however small it comes.
    repository.git(&["config", "uploadpack.allowFilter", "false"]);
    repository.write("bomb", vec![b'x'; (64 << 20) + 1]);
    repository.commit("second");
    let error = case.look(None).await.unwrap_err().to_string();
    assert!(error.contains("its pack"), "{error}");
}

#[tokio::test]
async fn who_is_no_repository_says_so() {
    let large = vec![b'0'; 17 << 20];
    let server = Server::start(move |request| match request.path.as_str() {
        "/html/info/refs" => answer("200 OK", &[("content-type", "text/html")], b"<html>"),
        "/moved/info/refs" => {
            answer("301 Moved", &[("location", "https://elsewhere.example/app.git")], b"")
        }
        "/large/info/refs" => {
            let kind = [("content-type", "application/x-git-upload-pack-advertisement")];
            answer("200 OK", &kind, &large)
        }
        _ => answer("404 Not Found", &[], b""),
    });
    for (path, expected) in [
        ("/html", "its server does not speak git's smart protocol"),
        ("/moved", "it is at elsewhere.example now; redirects are not followed"),
        ("/large", "the list of references has more than 16777216 bytes"),
        ("/none", "`127.0.0.1` answered HTTP 404"),
    ] {
        let url = server.url(path);
        let remote = Remote {
            url: &url,
            reference: "HEAD",
            user: None,
            password: None,
            key: None,
            host_key: HostKey::FirstUse,
            roots: &Roots::public(),
        };
        let wanted = settings(&url, "HEAD", &[]);
        let error = look(&remote, &wanted, None, &here(), &key()).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
        // And from where tenants may be, not at all.
        let closed = look(&remote, &wanted, None, &Reach::public(), &key()).await;
        assert!(matches!(closed, Err(SourceError::Closed(_))), "{closed:?}");
    }
    let case = Case::new();
    let denied = Remote {
        url: &case.url,
        reference: "HEAD",
        user: None,
        password: None,
        key: None,
        host_key: HostKey::FirstUse,
        roots: &Roots::public(),
    };
    let error = look(&denied, &settings(&case.url, "HEAD", &[]), None, &here(), &key()).await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("HTTP 401: what opens it is not taken, or is missing"), "{error}");
}

#[tokio::test]
async fn a_server_is_believed_by_the_authority_that_counts_for_it() {
    let (ours, other) = (Authority::new("Acme root", 30), Authority::new("Acme root", 30));
    let repository = Repository::new();
    repository.write("a", "1\n");
    let tip = repository.commit("first");
    let server = git_https(repository.root.path().to_owned(), &ours);
    let url = server.https("/app/.git");
    let password = Secret::from(TOKEN.to_owned());
    let seen = async |roots: &Roots| {
        let remote = Remote {
            url: &url,
            reference: "refs/heads/main",
            user: Some("observer"),
            password: Some(&password),
            key: None,
            host_key: HostKey::FirstUse,
            roots,
        };
        let wanted = settings(&url, "refs/heads/main", &[]);
        look(&remote, &wanted, None, &here(), &key()).await
    };
    let now = jiff::Timestamp::now();
    let roots = |pem: &str| Roots::of(&authority::read(pem, now).unwrap(), now).unwrap();

    assert_eq!(seen(&roots(&ours.pem)).await.unwrap().tip, tip);
    // Beside another, too; but not by that one alone, whatever it calls itself, nor by public ones.
    assert_eq!(seen(&roots(&(other.pem.clone() + &ours.pem))).await.unwrap().tip, tip);
    for strange in [roots(&other.pem), Roots::public()] {
        let refused = seen(&strange).await;
        assert!(matches!(&refused, Err(SourceError::UnknownAuthority { .. })), "{refused:?}");
    }
}

/// `sshd` on loopback; ended where it is dropped.
struct Sshd {
    process: Child,
    port: u16,
    place: tempfile::TempDir,
}

impl Sshd {
    fn start() -> Self {
        let place = tempfile::tempdir().unwrap();
        let file = |name: &str| place.path().join(name).display().to_string();
        for name in ["host", "client"] {
            let made = Command::new("ssh-keygen")
                .args(["-q", "-t", "ed25519", "-N", "", "-f", &file(name)])
                .status();
            assert!(made.unwrap().success());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\n\
             StrictModes no\nUsePAM no\nPasswordAuthentication no\nSetEnv PATH={}\n",
            file("host"),
            file("client.pub"),
            std::env::var("PATH").unwrap(),
        );
        fs::write(file("sshd_config"), configuration).unwrap();
        // It separates its privileges there, where root runs it.
        let _ = fs::create_dir_all("/run/sshd");
        let process = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f", &file("sshd_config")])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(30), "sshd does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, port, place }
    }

    fn host_key(&self) -> String {
        let listed = Command::new("ssh-keygen")
            .arg("-lf")
            .arg(self.place.path().join("host.pub"))
            .output()
            .unwrap();
        String::from_utf8(listed.stdout).unwrap().split(' ').nth(1).unwrap().to_owned()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn over_ssh_only_the_right_host_is_talked_to() {
    let repository = Repository::new();
    repository.write("a", "1\n");
    let first = repository.commit("first");
    let sshd = Sshd::start();
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME"));
    let user = user.unwrap_or_else(|_| "root".to_owned());
    let key_text = fs::read_to_string(sshd.place.path().join("client")).unwrap();
    let secret = Secret::from(key_text);
    let place = repository.place();
    let url = format!("ssh://{user}@127.0.0.1:{}{}", sshd.port, place.display());
    let wanted = settings(&url, "refs/heads/main", &[]);
    let seen = async |host_key: HostKey, known: Option<&str>, url: &str| {
        let remote = Remote {
            url,
            reference: "refs/heads/main",
            user: None,
            password: None,
            key: Some(&secret),
            host_key,
            roots: &Roots::public(),
        };
        look(&remote, &wanted, known, &here(), &key()).await
    };

    let host_key = sshd.host_key();
    let found = seen(HostKey::FirstUse, None, &url).await.unwrap();
    assert_eq!(found.host_key.as_ref().unwrap().to_string(), host_key);
    let (movement, told) = steps(found);
    assert_eq!((movement, text(&told[0], "/a")), (Movement::First, "1\n"));

    let pinned = HostKey::Pinned(host_key.parse().unwrap());
    let same = seen(pinned.clone(), Some(&first), &url).await.unwrap();
    assert_eq!(same.movement, Movement::Same);
    repository.write("a", "2\n");
    repository.commit("second");
    let (movement, told) = steps(seen(pinned.clone(), Some(&first), &url).await.unwrap());
    assert_eq!((movement, text(&told[0], "/a")), (Movement::Followed, "2\n"));

    let other = "SHA256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa8".parse().unwrap();
    let refused = seen(HostKey::Pinned(other), None, &url).await;
    assert!(matches!(refused, Err(SourceError::KeyDiffers { .. })), "{refused:?}");
    let nothing = seen(pinned, None, &format!("{url}-not-there")).await.unwrap_err();
    assert!(nothing.to_string().contains("refuses"), "{nothing}");
}
