//! What is seen of real servers and of a real kernel: the programs of the distribution, in name spaces of their own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use agent::configuration::{Depth, Documents};
use domain::configuration::diff::diff;
use domain::configuration::document::{DocumentPattern, DocumentRules};
use domain::configuration::secret::FingerprintKey;

/// What must not leave the host.
const SECRET: &str = "c4n4ry-Tr0ub4dor";

fn documents(watch: &[&str]) -> Documents {
    let pattern = |it: &&str| DocumentPattern::try_from((*it).to_owned()).unwrap();
    let rules =
        DocumentRules { watch: watch.iter().map(pattern).collect(), ..DocumentRules::default() };
    Documents::of_this_host(rules, FingerprintKey::from([7; 32]), [])
}

/// Lines that went and came in the only document that differs, with its name.
fn only(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> (String, Vec<String>) {
    assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
    let altered: Vec<_> = after.iter().filter(|(name, it)| before[*name] != **it).collect();
    let [(name, text)] = altered[..] else {
        panic!("{:?} differ", altered.iter().map(|(name, _)| name).collect::<Vec<_>>());
    };
    let unified = diff(&before[name], text).unwrap().unified("a", "b");
    let is_line = |line: &&str| {
        (line.starts_with('-') || line.starts_with('+'))
            && !line.starts_with("---")
            && !line.starts_with("+++")
    };
    (name.clone(), unified.lines().filter(is_line).map(str::to_owned).collect())
}

fn is_root() -> bool {
    fs::File::open("/etc/shadow").is_ok()
}

/// The test again, in name spaces of its own; whether it is the one inside.
fn is_inside(test: &str, spaces: &[&str]) -> bool {
    if std::env::var_os("PATCHWRIGHT_INSIDE").is_some() {
        return true;
    }
    if !is_root() {
        eprintln!("skipped: only root may have name spaces of its own and still see everything");
        return false;
    }
    let output = Command::new("unshare")
        .args(spaces)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", &format!("documents_of_a_real_host::{test}"), "--nocapture"])
        .env("PATCHWRIGHT_INSIDE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}{said}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "it was run: {said}");
    false
}

fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    output
}

/// A server on a socket of its own, which ends with the test.
struct Server {
    child: Child,
    directory: tempfile::TempDir,
}

impl Server {
    /// Starts it as an account where root would be refused.
    fn start(account: &str, make: impl Fn(&Path) -> Vec<(PathBuf, Vec<String>)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if is_root() {
            run("chown", &[account, &directory.path().display().to_string()]);
        }
        let command = |(program, arguments): &(PathBuf, Vec<String>)| {
            let mut command = Command::new("setpriv");
            if is_root() {
                command.args(["--reuid", account, "--regid", account, "--clear-groups"]);
            }
            command.args(["--pdeathsig", "KILL"]).arg(program).args(arguments);
            command.current_dir("/").stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        let commands = make(directory.path());
        let (last, before) = commands.split_last().unwrap();
        for it in before {
            assert!(command(it).status().unwrap().success(), "{it:?}");
        }
        Self { child: command(last).spawn().unwrap(), directory }
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// What the documents' names begin with.
    fn names(&self, kind: &str) -> String {
        let place = self.directory.path().display().to_string();
        format!("database:{kind}/{}*", place.trim_start_matches('/'))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until it is answered so.
fn until(what: &str, is_so: impl Fn() -> bool) {
    let came = (0..600).any(|_| {
        let is_so = is_so();
        if !is_so {
            thread::sleep(Duration::from_millis(50));
        }
        is_so
    });
    assert!(came, "{what}: not within 30 s");
}

fn binaries() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest =
        versions.filter_map(|it| it.file_name().to_string_lossy().parse::<u32>().ok()).max();
    let newest = newest.expect("PostgreSQL is installed: `cargo xtask test` sees to it");
    Path::new("/usr/lib/postgresql").join(newest.to_string()).join("bin")
}

#[test]
fn a_setting_of_postgresql_is_seen_as_one_line_of_one_document() {
    let server = Server::start("postgres", |directory| {
        let data = directory.join("data").display().to_string();
        let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        vec![
            (
                binaries().join("initdb"),
                words(&["--no-sync", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "-D", &data]),
            ),
            (
                binaries().join("postgres"),
                words(&[
                    "-D",
                    &data,
                    "-c",
                    "listen_addresses=",
                    "-k",
                    &directory.display().to_string(),
                ]),
            ),
        ]
    });
    let place = server.path("");
    let psql = || {
        let mut command = Command::new("setpriv");
        if is_root() {
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
        }
        command.arg(binaries().join("psql")).args(["-XAtq", "-d", "postgres", "-h", &place]);
        command.current_dir("/");
        command
    };
    let sql = |statement: &str| {
        let output = psql().args(["-c", statement]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    until("it starts", || psql().args(["-c", "SELECT 1"]).output().unwrap().status.success());
    let mut documents = documents(&[&server.names("postgresql")]);
    let before = documents.look(Depth::Full);
    assert_eq!(before.len(), 3, "{:?}", before.keys());
    assert!(!before.values().any(|it| it.contains("<unseen")), "{before:?}");
    assert_eq!(documents.look(Depth::Full), before, "nothing alters by itself");

    sql("ALTER SYSTEM SET work_mem = '64MB'");
    sql("SELECT pg_reload_conf()");
    until("it is in force", || sql("SHOW work_mem") == "64MB");
    let after = documents.look(Depth::Full);
    let (name, lines) = only(&before, &after);
    assert!(name.ends_with("/settings"), "{name}");
    assert_eq!(
        lines,
        ["-work_mem = 4096 kB (default)", "+work_mem = 65536 kB (configuration file)"]
    );

    sql(&format!("CREATE ROLE app LOGIN PASSWORD '{SECRET}'"));
    let with_role = documents.look(Depth::Full);
    let (name, lines) = only(&after, &with_role);
    assert!(name.ends_with("/roles"), "{name}");
    assert_eq!(
        lines,
        ["+role app: authenticates with scram-sha-256", "+role app: inherit", "+role app: login"]
    );

    // Wherever somebody writes a password.
    let hba = server.path("data/pg_hba.conf");
    let rules = fs::read_to_string(&hba).unwrap();
    let ldap = "host all all 10.0.0.0/8 ldap ldapserver=a ldapbasedn=\"dc=a\" ldapbinddn=\"cn=b\"";
    fs::write(&hba, format!("{rules}{ldap} ldapbindpasswd=\"{SECRET}\"\n")).unwrap();
    let radius = format!(
        "host all all 10.0.0.0/8 radius radiusservers=10.0.0.1 radiussecrets=\"{SECRET}\"\n"
    );
    fs::write(&hba, format!("{}{radius}", fs::read_to_string(&hba).unwrap())).unwrap();
    sql(&format!("ALTER SYSTEM SET primary_conninfo = 'host=a user=b password={SECRET}'"));
    sql(&format!("ALTER ROLE app SET app.password = '{SECRET}'"));
    sql("SELECT pg_reload_conf()");
    until("it is in force", || sql("SHOW primary_conninfo").contains(SECRET));
    let planted = documents.look(Depth::Full);
    let all = format!("{planted:?}");
    assert!(!all.contains(SECRET), "{all}");
    assert!(!all.contains("SCRAM-SHA-256$"), "no hash either");
    for part in ["ldapbindpasswd=<redacted:", "radiussecrets=<redacted:", "password=<redacted:"] {
        assert!(all.contains(part), "{part}: {all}");
    }
    assert!(rules.contains("trust"), "it is looked at rightly");
}

#[test]
fn a_variable_of_mariadb_is_seen_as_one_line_of_one_document() {
    if !is_root() {
        return eprintln!("skipped: only root may be who the server is");
    }
    let server = Server::start("mysql", |directory| {
        let data = format!("--datadir={}", directory.join("data").display());
        let socket = format!("--socket={}", directory.join("mysqld.sock").display());
        let pid = format!("--pid-file={}", directory.join("pid").display());
        let words = |words: &[&str]| words.iter().map(|it| (*it).to_owned()).collect();
        vec![
            (
                "mariadb-install-db".into(),
                words(&["--no-defaults", "--auth-root-socket-user=mysql", "--skip-test-db", &data]),
            ),
            (
                "/usr/sbin/mariadbd".into(),
                words(&["--no-defaults", "--skip-networking", &data, &socket, &pid]),
            ),
        ]
    });
    let socket = server.path("mysqld.sock");
    let client = || {
        let mut command = Command::new("mariadb");
        command.args(["--no-defaults", "-uroot", "-NB", "--socket", &socket]);
        command
    };
    let sql = |statement: &str| {
        let output = client().args(["-e", statement]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    until("it starts", || client().args(["-e", "SELECT 1"]).output().unwrap().status.success());
    let mut documents = documents(&[&server.names("mariadb")]);
    let before = documents.look(Depth::Full);
    assert_eq!(before.len(), 2, "{:?}", before.keys());
    assert!(!before.values().any(|it| it.contains("<unseen")), "{before:?}");
    assert_eq!(documents.look(Depth::Full), before, "nothing alters by itself");

    sql("SET GLOBAL max_connections = 77");
    let after = documents.look(Depth::Full);
    let (name, lines) = only(&before, &after);
    assert!(name.ends_with("/variables"), "{name}");
    assert_eq!(lines, ["-max_connections = 151", "+max_connections = 77"]);

    sql(&format!("CREATE USER app@'%' IDENTIFIED BY '{SECRET}'"));
    sql("GRANT SELECT ON shop.* TO app@'%'");
    sql(&format!("SET GLOBAL init_connect = \"SET @password = '{SECRET}'\""));
    let planted = documents.look(Depth::Full);
    let accounts = planted.iter().find(|(name, _)| name.ends_with("/accounts")).unwrap().1;
    assert!(accounts.contains("'app'@'%' may SELECT on shop.*\n"), "{accounts}");
    assert!(accounts.contains("'app'@'%': plugin mysql_native_password\n"), "{accounts}");
    assert!(!format!("{planted:?}").contains(SECRET), "{planted:?}");
    assert!(!accounts.contains("'*") && !accounts.contains(": *"), "no hash either: {accounts}");
}

#[test]
fn what_the_kernel_filters_and_who_listens_is_seen() {
    if !is_inside("what_the_kernel_filters_and_who_listens_is_seen", &["--net"]) {
        return;
    }
    run("ip", &["link", "set", "lo", "up"]);
    let mut documents =
        documents(&["policy:nftables", "policy:iptables", "policy:sysctl", "profile:sockets"]);
    run("nft", &["add table inet filter"]);
    run(
        "nft",
        &["add chain inet filter input { type filter hook input priority 0; policy accept; }"],
    );
    run("nft", &["add rule inet filter input tcp dport 22 counter accept"]);
    let before = documents.look(Depth::Full);
    assert_eq!(before["profile:sockets"], "");
    assert!(!before.values().any(|it| it.contains("<unseen")), "{before:?}");

    run("nft", &["add rule inet filter input tcp dport 3306 drop"]);
    let after = documents.look(Depth::Full);
    let (name, lines) = only(&before, &after);
    assert_eq!(name, "policy:nftables");
    assert_eq!(lines, ["+table inet filter chain input: tcp dport 3306 drop"]);

    // A packet that is counted is no alteration.
    let connected = std::net::TcpStream::connect("127.0.0.1:22");
    assert!(connected.is_err(), "nobody listens");
    assert_eq!(documents.look(Depth::Full), after);

    fs::write("/proc/sys/net/ipv4/conf/lo/rp_filter", "2").unwrap();
    let set = documents.look(Depth::Full);
    let (name, lines) = only(&after, &set);
    assert_eq!(name, "policy:sysctl");
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert_eq!(lines[1], "+net.ipv4.conf.lo.rp_filter = 2");

    // A program whose name would be a line of its own.
    let directory = tempfile::tempdir().unwrap();
    let evil = directory.path().join("x\ntcp 0.0.0.0:22 sshd\u{1b}[2J");
    fs::copy(fs::canonicalize("/usr/bin/python3").unwrap(), &evil).unwrap();
    let script = "import socket, sys\ns = socket.create_server(('127.0.0.1', 8099))\n\
                  print('up', flush=True)\nsys.stdin.read()\n";
    let mut listener = Command::new(&evil)
        .args(["-S", "-c", script])
        .env("PYTHONHOME", "/usr")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = [0; 2];
    std::io::Read::read_exact(listener.stdout.as_mut().unwrap(), &mut said).unwrap();
    let heard = documents.look(Depth::Full);
    listener.kill().unwrap();
    listener.wait().unwrap();
    let (name, lines) = only(&set, &heard);
    assert_eq!(name, "profile:sockets");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("+tcp 127.0.0.1:8099 "), "{lines:?}");
    assert!(lines[0].ends_with("/x\\ntcp 0.0.0.0:22 sshd\\u{1b}[2J as root"), "{lines:?}");
}

#[test]
fn what_lets_people_in_is_seen_as_its_programs_resolve_it() {
    if !is_inside("what_lets_people_in_is_seen_as_its_programs_resolve_it", &["--mount"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let place = |name: &str| directory.path().join(name);
    for name in ["ssh", "sudoers.d", "pam.d"] {
        fs::create_dir(place(name)).unwrap();
    }
    run(
        "ssh-keygen",
        &[
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-f",
            &place("ssh/ssh_host_ed25519_key").display().to_string(),
        ],
    );
    fs::write(place("ssh/sshd_config"), "Include /etc/ssh/more.conf\nPermitRootLogin no\n")
        .unwrap();
    fs::write(place("ssh/more.conf"), "X11Forwarding no\n").unwrap();
    fs::write(place("pam.d/common"), "auth required pam_unix.so\n").unwrap();
    fs::write(place("pam.d/sshd"), "@include common\n").unwrap();
    for (from, to) in
        [("ssh", "/etc/ssh"), ("sudoers.d", "/etc/sudoers.d"), ("pam.d", "/etc/pam.d")]
    {
        run("mount", &["--bind", &place(from).display().to_string(), to]);
    }
    run("mount", &["-t", "tmpfs", "tmpfs", "/run"]);
    fs::create_dir("/run/sshd").unwrap();
    let mut documents = documents(&[
        "policy:sshd",
        "policy:sudoers",
        "policy:pam",
        "profile:accounts",
        "profile:mounts",
    ]);
    let before = documents.look(Depth::Full);
    assert!(!before.values().any(|it| it.contains("<unseen")), "{before:?}");
    assert_eq!(documents.look(Depth::Full), before, "nothing alters by itself");

    // In a file that is included, before the one that says otherwise.
    fs::write("/etc/ssh/more.conf", "PermitRootLogin yes\n").unwrap();
    let root_may = documents.look(Depth::Full);
    let (name, mut lines) = only(&before, &root_may);
    assert_eq!(name, "policy:sshd");
    lines.sort();
    assert_eq!(lines, ["+permitrootlogin yes", "-permitrootlogin no"]);

    fs::write(
        "/etc/sudoers.d/ops",
        "User_Alias OPS = anna, bob\nOPS ALL=(root) NOPASSWD: /usr/bin/systemctl\n",
    )
    .unwrap();
    run("chmod", &["0440", "/etc/sudoers.d/ops"]);
    let ops_may = documents.look(Depth::Full);
    let (name, lines) = only(&root_may, &ops_may);
    assert_eq!(name, "policy:sudoers");
    assert_eq!(lines, ["+anna, bob ALL = (root) NOPASSWD: /usr/bin/systemctl"]);

    fs::write("/etc/pam.d/common", "auth sufficient pam_permit.so\n").unwrap();
    let anybody_may = documents.look(Depth::Full);
    let (name, lines) = only(&ops_may, &anybody_may);
    assert_eq!(name, "policy:pam");
    assert_eq!(lines.iter().filter(|it| it.starts_with("+sshd auth ")).count(), 1, "{lines:?}");
}

#[test]
fn two_looks_at_a_host_that_rests_are_the_same() {
    // Without what is mounted: other tests do that here.
    let all =
        ["policy:*", "profile:accounts", "profile:kernel", "profile:packages", "profile:units"];
    let mut documents = documents(&all);
    let before = documents.look(Depth::Full);
    let after = documents.look(Depth::Full);
    let altered: Vec<_> = after.iter().filter(|(name, it)| before.get(*name) != Some(it)).collect();
    assert!(altered.is_empty(), "{altered:?}");
    assert!(after["profile:packages"].contains("dpkg amd64 "), "{}", after["profile:packages"]);
    assert!(after["policy:sysctl"].contains("kernel.panic = "), "{}", after["policy:sysctl"]);
}
