//! What a host is configured by: told by its agent without secrets, recorded, and shown as it was.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::up::{PASSWORD, Up};
use jiff::Timestamp;
use serde_json::{Value, json};

const PROVIDER: &str = "ten_00000000000000000000000000";

/// What must not leave the host.
const SECRET: &str = "c4n4ry-Tr0ub4dor";

pub(crate) struct Cloud {
    up: Up,
    token: String,
    root: PathBuf,
    state: PathBuf,
    ci: String,
    pub(crate) directory: tempfile::TempDir,
}

impl Cloud {
    /// A control plane, and a host that joined and told what it is.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let log = fs::File::create(directory.path().join("server.log")).unwrap();
        let data = directory.path().join("data");
        let wordy = [("PATCHWRIGHT_LOG", "debug")];
        let up = Up::start_telling(&data, &[], &wordy, Stdio::from(log)).unwrap();
        let token = up.sign_in();
        let (root, state) = (directory.path().join("root"), directory.path().join("state"));
        let cloud = Self { up, token, root, state, ci: String::new(), directory };
        cloud.write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n");
        cloud.write(
            "var/lib/dpkg/status",
            "Package: dpkg\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1.21.22\n\
             Description: x\n\n",
        );
        cloud.write("etc/ssh/sshd_config", "Port 22\nPermitRootLogin no\nX11Forwarding no\n");
        cloud.write("etc/app/app.ini", &format!("user = app\npassword = {SECRET}\n"));
        let body = json!({ "tenant": PROVIDER });
        let (_, made) = cloud.up.ask(&cloud.token, "POST", "/agent-tokens", &body, "").unwrap();
        let (plane, join) = (cloud.up.agents.clone(), made["token"].as_str().unwrap().to_owned());
        let joined = cloud.agent(&["join", &plane, "--token", &join, "--name", "web-1"]);
        assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));
        cloud.tell();
        let (_, cis) =
            cloud.up.ask(&cloud.token, "GET", "/cis?name=web-1", &Value::Null, "").unwrap();
        Self { ci: cis["items"][0]["id"].as_str().unwrap().to_owned(), ..cloud }
    }

    pub(crate) fn write(&self, path: &str, text: &str) {
        let place = self.root.join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    /// What it says is kept beside what the server says.
    fn agent(&self, arguments: &[&str]) -> Output {
        let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .arg("agent")
            .args(arguments)
            .arg("--state")
            .arg(&self.state)
            .output()
            .unwrap();
        let log = self.directory.path().join("agent.log");
        let mut log = fs::File::options().create(true).append(true).open(log).unwrap();
        log.write_all(&[&*output.stdout, &*output.stderr].concat()).unwrap();
        output
    }

    pub(crate) fn tell(&self) {
        let missing = self.directory.path().join("no-such-file.toml").display().to_string();
        let root = self.root.display().to_string();
        let output = self.agent(&["run", "--once", "--root", &root, "--policy", &missing]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("warning"), "{said}");
    }

    /// What `patchwright config` prints.
    pub(crate) fn config(&self, arguments: &[&str]) -> String {
        let output = self.config_as(&self.token, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn config_as(&self, token: &str, arguments: &[&str]) -> Output {
        self.client_as(token, &[&["config"], arguments].concat())
    }

    /// What a command of the client comes to.
    pub(crate) fn client(&self, arguments: &[&str]) -> Output {
        self.client_as(&self.token, arguments)
    }

    fn client_as(&self, token: &str, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(arguments)
            .env("HOME", self.directory.path())
            .env("PATCHWRIGHT_URL", &self.up.console)
            .env("PATCHWRIGHT_TOKEN", token)
            .env("NO_COLOR", "1")
            .output()
            .unwrap()
    }
}

/// Whether some file below a directory holds these bytes.
pub(crate) fn holds(directory: &Path, needle: &[u8]) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let found = if path.is_dir() {
            holds(&path, needle)
        } else {
            let bytes = fs::read(&path).unwrap_or_default();
            bytes.windows(needle.len()).any(|part| part == needle).then_some(path)
        };
        if found.is_some() {
            return found;
        }
    }
    None
}

#[test]
fn what_a_host_is_configured_by_is_recorded_and_shown_as_it_was() {
    let cloud = Cloud::start();
    let listed = cloud.config(&["list", "web-1"]);
    assert!(
        listed.contains("/etc/ssh/sshd_config") && listed.contains("/etc/app/app.ini"),
        "{listed}"
    );
    let shown = cloud.config(&["show", "web-1", "/etc/app/app.ini"]);
    assert!(shown.starts_with("user = app\npassword = <redacted:password:"), "{shown}");
    let before = Timestamp::now();

    cloud.write("etc/ssh/sshd_config", "Port 22\nPermitRootLogin yes\nX11Forwarding no\n");
    fs::set_permissions(cloud.root.join("etc/app/app.ini"), fs::Permissions::from_mode(0o640))
        .unwrap();
    cloud.write("etc/motd", "hello\n");
    cloud.tell();
    fs::remove_file(cloud.root.join("etc/motd")).unwrap();
    cloud.tell();

    let at = before.to_string();
    let old = cloud.config(&["show", "web-1", "/etc/ssh/sshd_config", "--at", &at]);
    assert!(old.contains("PermitRootLogin no"), "{old}");
    let new = cloud.config(&["show", "web-1", "/etc/ssh/sshd_config"]);
    assert!(new.contains("PermitRootLogin yes"), "{new}");
    let differs = cloud.config(&["diff", "web-1", "--from", &at]);
    for part in [
        "/etc/ssh/sshd_config altered",
        "-PermitRootLogin no",
        "+PermitRootLogin yes",
        "mode 0644 → 0640",
    ] {
        assert!(differs.contains(part), "{part}: {differs}");
    }
    assert!(!differs.contains("/etc/motd"), "it is as it was: {differs}");
    let log = cloud.config(&["log", "web-1", "/etc/motd"]);
    assert_eq!((log.matches("there").count(), log.matches("gone").count()), (1, 1), "{log}");
    let altered = cloud.config(&["log", "web-1", "--since", &at]);
    assert!(altered.contains("/etc/ssh/sshd_config"), "{altered}");

    let data = cloud.directory.path().join("data");
    let fsck = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
        command
            .arg("fsck")
            .arg("--data")
            .arg(&data)
            .env_remove("PATCHWRIGHT_DATABASE")
            .output()
            .unwrap()
    };
    let sound = fsck();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
    assert!(String::from_utf8_lossy(&sound.stdout).contains(" 9 versions"), "{sound:?}");

    // Nothing of what is secret is anywhere but on the host, and nothing of what is told is plain here.
    assert_eq!(holds(&data, SECRET.as_bytes()), None);
    assert_eq!(holds(&data, b"PermitRootLogin"), None);
    assert!(holds(&cloud.root, SECRET.as_bytes()).is_some(), "it is looked for rightly");
}

#[test]
fn in_an_emergency_files_are_altered_first_and_reviewed_afterwards() {
    let cloud = Cloud::start();
    let begin = Timestamp::now().to_string();
    let glass = |arguments: &[&str]| cloud.config(&[&["break-glass"], arguments].concat());
    let terms = ["--ticket", "INC-7", "--reason", "nobody gets in", "--file", "/etc/ssh/**"];
    let opened = glass(&[&["open", "web-1"], &terms[..]].concat());
    assert!(opened.starts_with("bgl_") && opened.contains(" is open until "), "{opened}");
    let id = opened.split_whitespace().next().unwrap();

    cloud.write("etc/ssh/sshd_config", "Port 2222\n");
    cloud.write("etc/motd", "hello\n");
    cloud.tell();

    let drifts = || cloud.config(&["drift"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while !drifts().contains("/etc/motd") {
        assert!(std::time::Instant::now() < deadline, "nobody judges: {}", drifts());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(!drifts().contains("sshd_config"), "{}", drifts());
    let shown = glass(&["show", id]);
    for part in ["INC-7", "nobody gets in", "/etc/ssh/sshd_config", "anybody", "open"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("/etc/motd"), "{shown}");
    assert!(glass(&["list", "web-1"]).contains(id));
    assert!(glass(&["close", id]).contains("permits nothing more"));
    let review = ["break-glass", "review", id, "--reject", "--reason", "not like this"];
    let own = cloud.config_as(&cloud.token, &review);
    let said = String::from_utf8_lossy(&own.stderr).into_owned();
    assert!(!own.status.success() && said.contains("whoever opened it"), "{said}");

    let body = json!({
        "tenant": PROVIDER, "login": "second", "name": "Second", "role": "approver", "password": PASSWORD,
    });
    let (status, made) = cloud.up.ask(&cloud.token, "POST", "/users", &body, "second").unwrap();
    assert_eq!(status, 201, "{made}");
    let body = json!({ "login": "second", "password": PASSWORD });
    let (_, session) = cloud.up.ask("", "POST", "/session", &body, "in").unwrap();
    let reviewed = cloud.config_as(session["secret"].as_str().unwrap(), &review);
    assert!(reviewed.status.success(), "{}", String::from_utf8_lossy(&reviewed.stderr));

    assert!(drifts().contains("/etc/ssh/sshd_config"), "{}", drifts());
    assert!(!glass(&["list"]).contains(id));
    let all = glass(&["list", "--all"]);
    assert!(all.contains(id) && all.contains("rejected"), "{all}");
    let timeline = cloud.config(&["timeline", "web-1"]);
    assert!(timeline.contains("break_glass.reviewed"), "{timeline}");

    // The same files, of all items at once.
    let then = cloud.config(&["at", &begin, "--tenant", "provider"]);
    assert!(then.contains("web-1") && then.contains("/etc/ssh/sshd_config"), "{then}");
    assert!(!then.contains("/etc/motd"), "{then}");
    let below = cloud.config(&["at", &begin, "--tenant", "provider", "--below", "/etc/app"]);
    assert!(below.contains("/etc/app/app.ini") && !below.contains("sshd_config"), "{below}");
    let altered = cloud.config(&["diff", "--tenant", "provider", "--from", &begin]);
    let of = |path: &str| altered.lines().find(|line| line.contains(path)).unwrap_or_default();
    assert!(of("/etc/motd").contains("new") && of("sshd_config").contains("altered"), "{altered}");
    assert!(!altered.contains("app.ini"), "{altered}");
    assert!(
        !cloud.config_as(&cloud.token, &["diff", "web-1", "--tenant", "provider"]).status.success()
    );
}

#[test]
fn what_is_not_there_is_said_so() {
    let cloud = Cloud::start();
    let ask = |token: &str, path: &str| cloud.up.ask(token, "GET", path, &Value::Null, "").unwrap();
    let files = format!("/cis/{}/files", cloud.ci);
    assert_eq!(ask(&cloud.token, &files).0, 200);
    for path in ["/content?path=/etc/shadow", "/versions?path=/etc/none", "/content?path="] {
        let (status, problem) = ask(&cloud.token, &format!("{files}{path}"));
        assert!(matches!(status, 400 | 404), "{path}: {status} {problem}");
        assert!(problem["detail"].is_string(), "{problem}");
    }
    let (status, _) = ask(&cloud.token, "/cis/ci_00000000000000000000000000/files");
    assert_eq!(status, 404);
}

impl Cloud {
    /// The agent looks at this very machine, with another `/etc/ssh`, and tells what the policy lets it.
    fn tell_of_this_machine(&self, ssh: &Path, policy: &Path) {
        const INSIDE: &str = "mount --bind \"$1\" /etc/ssh && mount -t tmpfs tmpfs /run && mkdir /run/sshd && shift \
                              && exec \"$@\"";
        let output = Command::new("unshare")
            .args(["--mount", "sh", "-c", INSIDE, "inside"])
            .arg(ssh)
            .arg(env!("CARGO_BIN_EXE_patchwright"))
            .args(["agent", "run", "--once", "--policy"])
            .arg(policy)
            .arg("--state")
            .arg(&self.state)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("warning"), "{said}");
    }
}

#[test]
fn policies_of_a_host_are_recorded_and_shown_beside_its_files() {
    if fs::File::open("/etc/shadow").is_err() {
        return eprintln!("skipped: only root may have an `/etc/ssh` of its own");
    }
    let cloud = Cloud::start();
    let ssh = cloud.directory.path().join("ssh");
    fs::create_dir(&ssh).unwrap();
    let key = ssh.join("ssh_host_ed25519_key");
    let made =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(key).status();
    assert!(made.unwrap().success());
    let policy = cloud.directory.path().join("policy.toml");
    let rules = "[configuration]\nwatch = [\"/etc/ssh/sshd_config\"]\n\
                 [configuration.documents]\nwatch = [\"policy:s*\", \"profile:accounts\"]\n\
                 ignore = [\"policy:sysctl\", \"policy:sudoers\"]\n";
    fs::write(&policy, rules).unwrap();
    fs::write(ssh.join("sshd_config"), format!("PermitRootLogin no\nSetEnv PASSWORD={SECRET}\n"))
        .unwrap();
    cloud.tell_of_this_machine(&ssh, &policy);

    let listed = cloud.config(&["list", "web-1"]);
    let (files, documents) = listed.split_once("POLICIES AND PROFILES").expect(&listed);
    assert!(files.contains("/etc/ssh/sshd_config"), "{listed}");
    let names: Vec<_> =
        documents.lines().skip(1).filter_map(|it| it.split_whitespace().next()).collect();
    assert_eq!(names, ["policy:selinux", "policy:sshd", "profile:accounts"], "{listed}");
    let below = cloud.config(&["list", "web-1", "--below", "policy:"]);
    assert!(
        below.contains("policy:sshd") && !below.contains("/etc/") && !below.contains("profile:"),
        "{below}"
    );
    let shown = cloud.config(&["show", "web-1", "policy:sshd"]);
    assert!(shown.contains("permitrootlogin no\n") && shown.contains("<redacted:"), "{shown}");

    let before = Timestamp::now();
    fs::write(ssh.join("sshd_config"), format!("PermitRootLogin yes\nSetEnv PASSWORD={SECRET}\n"))
        .unwrap();
    cloud.tell_of_this_machine(&ssh, &policy);

    let at = before.to_string();
    let differs = cloud.config(&["diff", "web-1", "policy:sshd", "--from", &at]);
    for part in ["policy:sshd altered", "-permitrootlogin no", "+permitrootlogin yes"] {
        assert!(differs.contains(part), "{part}: {differs}");
    }
    let altered = cloud.config(&["log", "web-1", "--since", &at]);
    assert!(altered.contains("policy:sshd") && !altered.contains("profile:"), "{altered}");
    let old = cloud.config(&["show", "web-1", "policy:sshd", "--at", &at]);
    assert!(old.contains("permitrootlogin no\n"), "{old}");
    let versions = cloud.config(&["log", "web-1", "policy:sshd"]);
    assert_eq!(versions.matches("there").count(), 2, "{versions}");

    // What the owner does not let be told any more is not kept as if it were so.
    fs::write(&policy, format!("{rules}\n").replace("policy:s*", "policy:sshd")).unwrap();
    cloud.tell_of_this_machine(&ssh, &policy);
    let listed = cloud.config(&["list", "web-1"]);
    assert!(listed.contains("policy:sshd") && !listed.contains("policy:selinux"), "{listed}");

    let data = cloud.directory.path().join("data");
    assert_eq!(holds(&data, SECRET.as_bytes()), None);
    assert_eq!(holds(&data, b"permitrootlogin"), None);
}

#[test]
fn an_original_is_kept_where_its_owner_says_so_and_read_by_whoever_says_why() {
    let cloud = Cloud::start();
    let policy = cloud.directory.path().join("policy.toml");
    fs::write(&policy, "[configuration]\noriginals = [\"/etc/app/*\"]\n").unwrap();
    let (root, policy) = (cloud.root.display().to_string(), policy.display().to_string());
    let output = cloud.agent(&["run", "--once", "--root", &root, "--policy", &policy]);
    assert!(output.status.success(), "{output:?}");

    let shown = cloud.config(&["show", "web-1", "/etc/app/app.ini"]);
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(!cloud.config(&["list", "web-1"]).contains("original"));
    assert!(!cloud.config(&["log", "web-1"]).contains("original"));
    for path in ["content", "versions"] {
        let path = format!("/cis/{}/files/{path}?path=original:/etc/app/app.ini", cloud.ci);
        let (status, found) = cloud.up.ask(&cloud.token, "GET", &path, &Value::Null, "").unwrap();
        assert_eq!(status, 404, "{found}");
    }
    let read = cloud.config(&["original", "web-1", "/etc/app/app.ini", "--reason", "an audit"]);
    assert_eq!(read, format!("user = app\npassword = {SECRET}\n"));

    // Events are shown once they are published, a moment after they are recorded.
    let told = (0..200).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(50));
        let path = "/events?limit=1000";
        let (_, events) = cloud.up.ask(&cloud.token, "GET", path, &Value::Null, "").unwrap();
        let is_it = |event: &&Value| event["kind"] == "original.read";
        let told: Vec<_> = events["items"].as_array()?.iter().filter(is_it).cloned().collect();
        (!told.is_empty()).then_some(told)
    });
    let told = told.expect("who read it is told");
    assert_eq!(told.len(), 1);
    let told = told[0].to_string();
    assert!(told.contains("an audit") && told.contains("/etc/app/app.ini"), "{told}");
    assert!(!told.contains(SECRET));
    assert_eq!(holds(&cloud.directory.path().join("data"), SECRET.as_bytes()), None);

    // Where nothing is kept nothing is read.
    let none = json!({ "path": "/etc/ssh/sshd_config", "reason": "x" });
    let path = format!("/cis/{}/files/original", cloud.ci);
    assert_eq!(cloud.up.ask(&cloud.token, "POST", &path, &none, "").unwrap().0, 404);
}

/// Files of servers with secrets of each kind that is known: `«kind|secret»` plants one, `¦` is left out.
const PLANTED: &[(&str, &str)] =
    include!("../../../domain/src/configuration/secret/tests/planted/files.rs");

/// A file as it lies on a host, and what of it must be nowhere else: lines of secrets that cannot be there by accident.
fn planted(template: &str) -> (String, Vec<String>) {
    let (mut file, mut secrets) = (String::new(), Vec::new());
    let mut rest = template;
    while let Some((before, inner)) = rest.split_once('«') {
        let (inner, after) = inner.split_once('»').unwrap();
        let secret = inner.split_once('|').unwrap().1.replace('¦', "");
        file.push_str(before);
        file.push_str(&secret);
        secrets.extend(secret.lines().filter(|line| line.len() >= 9).map(str::to_owned));
        rest = after;
    }
    file.push_str(rest);
    (file, secrets)
}

#[test]
fn no_secret_of_a_host_is_anywhere_else() {
    let cloud = Cloud::start();
    let mut secrets = Vec::new();
    for (path, template) in PLANTED {
        let (file, of_file) = planted(template);
        cloud.write(path.trim_start_matches('/'), &file);
        secrets.extend(of_file);
    }
    assert!(secrets.len() >= 60, "{}", secrets.len());
    let place = |name: &str| cloud.directory.path().join(name);
    let policy = place("policy.toml");
    fs::write(&policy, "[configuration]\nwatch = [\"/**\"]\nignore = [\"/var/lib/**\"]\n").unwrap();
    let (root, policy) = (cloud.root.display().to_string(), policy.display().to_string());
    let tell = || {
        let output = cloud.agent(&["run", "--once", "--root", &root, "--policy", &policy]);
        assert!(output.status.success(), "{output:?}");
    };
    tell();
    // Altered beside a secret, so that differences and verdicts are made of such files too.
    for (path, template) in PLANTED {
        cloud.write(path.trim_start_matches('/'), &(planted(template).0 + "\n# altered\n"));
    }
    tell();
    let listed = cloud.config(&["list", "web-1"]);
    for (path, _) in PLANTED {
        assert!(listed.contains(path), "{path} is recorded: {listed}");
    }
    let audited = cloud.config(&["audit", "web-1", "-o", "json"]);
    let differs = cloud.config(&["diff", "web-1"]);
    let found = cloud.config(&["search", "password"]);

    let data = place("data");
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_patchwright"))
            .args(arguments)
            .env("HOME", cloud.directory.path())
            .env("PATCHWRIGHT_URL", &cloud.up.console)
            .env("PATCHWRIGHT_TOKEN", &cloud.token)
            .env_remove("PATCHWRIGHT_DATABASE")
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    };
    let text = |path: &Path| path.display().to_string();
    let (backup, export) = (place("backup"), place("export"));
    run(&["backup", "--data", &text(&data), "--to", &text(&backup), "--once"]);
    run(&["ledger", "export", &text(&export)]);
    // What goes wrong is told in logs, and must not tell what was at hand then.
    let strange = place("strange.toml");
    fs::write(&strange, "[configuration]\nwatch = [\"/etc/*\"\n").unwrap();
    cloud.agent(&["run", "--once", "--root", &root, "--policy", &text(&strange)]);
    let logs =
        [place("server.log"), place("agent.log")].map(|log| fs::read_to_string(log).unwrap());
    assert!(logs[0].contains("DEBUG"), "the server says what it does: {}", logs[0]);
    assert!(logs[1].contains("unclosed array"), "{}", logs[1]);

    for secret in &secrets {
        for kept in [&data, &backup, &export] {
            assert_eq!(holds(kept, secret.as_bytes()), None, "{secret}");
        }
        for shown in [&audited, &differs, &found] {
            assert!(!shown.contains(secret.as_str()), "{secret}: {shown}");
        }
        for log in &logs {
            let line = log.lines().find(|line| line.contains(secret.as_str()));
            assert_eq!(line, None, "{secret}");
        }
        assert_eq!(holds(&cloud.state, secret.as_bytes()), None, "{secret}");
        assert!(holds(&cloud.root, secret.as_bytes()).is_some(), "{secret} is looked for rightly");
    }
}
