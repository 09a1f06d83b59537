use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::files::{Entry, EntryKind, FileError};

type Files = BTreeMap<String, Vec<u8>>;

fn files(of: &[(&str, &str)]) -> Files {
    of.iter().map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())).collect()
}

/// Each parameter as `name=value [condition] force`, and each unknown place.
fn told(path: &str, text: &str, others: &dyn FileView) -> Vec<String> {
    let read = read(path, text, others).unwrap();
    let parameters = read.parameters.iter().map(|it| {
        let condition = it.condition.as_ref().map(|it| format!(" [{it}]")).unwrap_or_default();
        let force =
            if it.force == Force::InForce { String::new() } else { format!(" {}", it.force) };
        format!("{it}{condition}{force}")
    });
    let unknown = read.unknown.iter().map(|it| format!("{}:{} ? {}", it.path, it.line, it.because));
    parameters.chain(unknown).collect()
}

fn alone(path: &str, text: &str) -> Vec<String> {
    told(path, text, &Files::new())
}

#[test]
fn sshd_obtains_the_first_value_and_adds_some_up() {
    let text = "# a\nPort 22\nport 2222\npermitrootlogin no\nPermitRootLogin yes\nAllowUsers alice bob\nAllowUsers carol\nCiphers=\"aes256-ctr\"\nBanner \"/etc/a b\" # why\n";

    assert_eq!(
        alone("/etc/ssh/sshd_config", text),
        [
            "sshd.Port=22",
            "sshd.Port=2222",
            "sshd.PermitRootLogin=no",
            "sshd.PermitRootLogin=yes overridden",
            "sshd.AllowUsers=alice bob",
            "sshd.AllowUsers=carol",
            "sshd.Ciphers=aes256-ctr",
            "sshd.Banner=/etc/a b",
        ]
    );
}

#[test]
fn what_sshd_sets_under_a_condition_says_it() {
    let text = "PermitRootLogin no\nMatch User backup Address 10.0.0.0/8\n  PermitRootLogin yes\n  PermitRootLogin no\nMatch all\nX11Forwarding no\n";

    assert_eq!(
        alone("/etc/ssh/sshd_config", text),
        [
            "sshd.PermitRootLogin=no",
            "sshd.PermitRootLogin=yes [User backup Address 10.0.0.0/8]",
            "sshd.PermitRootLogin=no [User backup Address 10.0.0.0/8] overridden",
            "sshd.X11Forwarding=no",
        ]
    );
}

#[test]
fn sshd_reads_what_it_includes_at_its_place() {
    let main = "Include /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\nMatch User a\n  Include own/*\n";
    let others = files(&[
        (
            "/etc/ssh/sshd_config.d/10-a.conf",
            "PermitRootLogin prohibit-password\nMatch User x\nPermitTTY no\n",
        ),
        ("/etc/ssh/sshd_config.d/20-b.conf", "PasswordAuthentication no\nPermitRootLogin yes\n"),
        ("/etc/ssh/sshd_config.d/not.txt", "UsePAM no\n"),
        ("/etc/ssh/own/c", "PermitTTY no\n"),
    ]);

    assert_eq!(
        told("/etc/ssh/sshd_config", main, &others),
        [
            "sshd.PermitRootLogin=prohibit-password",
            "sshd.PermitTTY=no [User x]",
            "sshd.PasswordAuthentication=no",
            "sshd.PermitRootLogin=yes overridden",
            "sshd.PermitRootLogin=no overridden",
            "sshd.PermitTTY=no [User a]",
        ]
    );
}

/// A system with an empty directory.
struct Empty;
impl FileView for Empty {
    fn read(&self, _: &str, _: u64) -> Result<Option<Vec<u8>>, FileError> {
        Ok(None)
    }
    fn list(&self, path: &str) -> Result<Vec<Entry>, FileError> {
        let entry = Entry { name: "sshd_config.d".to_owned(), kind: EntryKind::Directory };
        Ok(if path == "/etc/ssh" { vec![entry] } else { Vec::new() })
    }
}

#[test]
fn what_sshd_includes_and_nobody_has_makes_the_rest_unknown() {
    let text = "UsePAM yes\nInclude /etc/ssh/sshd_config.d/*.conf\nPermitRootLogin no\nUsePAM no\n";
    let missing = "/etc/ssh/sshd_config:2 ? files that it includes are not at hand";
    assert_eq!(
        alone("/etc/ssh/sshd_config", text),
        [
            "sshd.UsePAM=yes",
            "sshd.PermitRootLogin=no unknown",
            "sshd.UsePAM=no overridden",
            missing
        ]
    );

    // A directory that is there and has nothing in it is known.
    assert_eq!(
        told("/etc/ssh/sshd_config", text, &Empty),
        ["sshd.UsePAM=yes", "sshd.PermitRootLogin=no", "sshd.UsePAM=no overridden"]
    );
    // Whatever includes a part may have obtained a value before it.
    assert_eq!(alone("/etc/ssh/sshd_config.d/a.conf", "UsePAM no\n"), ["sshd.UsePAM=no unknown"]);
}

#[test]
fn files_that_include_each_other_come_to_an_end() {
    let text = "Include /etc/ssh/a/*\n";
    let others = files(&[("/etc/ssh/a/b", text)]);

    let told = told("/etc/ssh/sshd_config", text, &others);

    assert_eq!(told, ["/etc/ssh/a/b:1 ? `/etc/ssh/a/b` cannot be read"]);
}

#[test]
fn what_is_not_understood_is_unknown_and_its_line_is_not_repeated() {
    let told = alone("/etc/ssh/sshd_config", "PermitRootLogn hunter2\nBanner \"x\nPort\n");

    assert_eq!(
        told,
        [
            "/etc/ssh/sshd_config:1 ? the keyword is not known",
            "/etc/ssh/sshd_config:2 ? a value in quotes does not end",
            "/etc/ssh/sshd_config:3 ? there is no value",
        ]
    );
}

#[test]
fn sysctl_names_have_dots_and_the_last_value_counts() {
    let text = "# a\nnet.ipv4.ip_forward = 0\n-net/ipv4/conf/eth0.1/rp_filter=1\nnet.ipv4.ip_forward=1\nbroken\n";

    assert_eq!(
        alone("/etc/sysctl.d/99-a.conf", text),
        [
            "sysctl.net.ipv4.ip_forward=0 overridden",
            "sysctl.net.ipv4.conf.eth0/1.rp_filter=1",
            "sysctl.net.ipv4.ip_forward=1",
            "/etc/sysctl.d/99-a.conf:5 ? there is no `=`",
        ]
    );
}

#[test]
fn sections_are_part_of_names() {
    assert_eq!(
        alone(
            "/etc/mysql/my.cnf",
            "[mysqld]\nbind-address = 127.0.0.1\nskip-name-resolve\n!includedir /etc/mysql/conf.d/\n[open\n"
        ),
        [
            "mysql.mysqld.bind-address=127.0.0.1",
            "mysql.mysqld.skip-name-resolve=",
            "/etc/mysql/my.cnf:4 ? files that it includes are not looked into",
            "/etc/mysql/my.cnf:5 ? a section does not end",
        ]
    );
    assert_eq!(
        alone(
            "/etc/systemd/system/a.service",
            "[Service]\nExecStart=/a \\\n  --b\nEnvironment=\"A=1\"\nExecStart=/c\n"
        ),
        [
            "systemd.Service.ExecStart=/a --b",
            "systemd.Service.Environment=A=1",
            "systemd.Service.ExecStart=/c"
        ]
    );
}

#[test]
fn what_only_a_shell_can_tell_is_unknown() {
    assert_eq!(
        alone(
            "/etc/default/ssh",
            "SSHD_OPTS=\"-4 -D\"\nA=$B\nC='$D'\nE=\"a\"\"b\"\nif true; then\nF=1 # why\nG=\"x\n"
        ),
        [
            "default.ssh.SSHD_OPTS=-4 -D",
            "default.ssh.C=$D",
            "default.ssh.F=1",
            "/etc/default/ssh:2 ? only a shell can tell the value",
            "/etc/default/ssh:4 ? a value of several parts",
            "/etc/default/ssh:5 ? it is no assignment",
            "/etc/default/ssh:7 ? a value of several lines",
        ]
    );
}

#[test]
fn postgresql_takes_the_last_value_and_may_include_more() {
    let text = "listen_addresses = 'localhost'\t# why\nport 5432\nSSL = on\nsearch = 'it''s'\nport = 5433\ninclude_dir = 'conf.d'\nlog = off\nbad = 'x\n";
    let path = "/etc/postgresql/15/main/postgresql.conf";

    assert_eq!(
        alone(path, text),
        [
            "postgresql.listen_addresses=localhost unknown",
            "postgresql.port=5432 overridden",
            "postgresql.ssl=on unknown",
            "postgresql.search=it's unknown",
            "postgresql.port=5433 unknown",
            "postgresql.log=off",
            "/etc/postgresql/15/main/postgresql.conf:6 ? files that it includes are not looked into",
            "/etc/postgresql/15/main/postgresql.conf:8 ? a value in quotes does not end",
        ]
    );
    assert!(format_of("/etc/postgresql/15/main/pg_hba.conf").is_none());
}

#[test]
fn postgresql_reads_what_it_includes_at_its_place() {
    let text = "port = 1\nssl = off\ninclude_dir = 'conf.d'\ninclude 'more.conf'\nlog = a\n";
    let others = files(&[
        ("/etc/postgresql/15/main/conf.d/a.conf", "ssl = on\nport = 2\n"),
        ("/etc/postgresql/15/main/conf.d/.hidden.conf", "port = 3\n"),
        ("/etc/postgresql/15/main/conf.d/other.txt", "port = 4\n"),
        ("/etc/postgresql/15/main/more.conf", "port = 5\ninclude_dir '/else'\n"),
    ]);

    let told = told("/etc/postgresql/15/main/postgresql.conf", text, &others);

    assert_eq!(
        told,
        [
            "postgresql.port=1 overridden",
            "postgresql.ssl=off overridden",
            "postgresql.ssl=on unknown",
            "postgresql.port=2 overridden",
            "postgresql.port=5 unknown",
            "postgresql.log=a",
            "/etc/postgresql/15/main/more.conf:2 ? files that it includes are not looked into",
        ]
    );
    // A file that includes itself comes to an end.
    let path = "/etc/postgresql/15/main/postgresql.conf";
    let read =
        read(path, "include 'postgresql.conf'\n", &files(&[(path, "include 'postgresql.conf'\n")]));
    assert!(!read.unwrap().unknown.is_empty());
}

#[test]
fn nginx_directives_stand_in_their_blocks() {
    let text = "user www-data; # a\nhttp {\n  include mime.types;\n  server {\n    listen 80 default_server;\n    location ~ \"^/a;{}\" {\n      return 200 \"x ${uri} y\";\n    }\n    ssl_protocols TLSv1.2\n      TLSv1.3;\n  }\n}\n";

    assert_eq!(
        alone("/etc/nginx/nginx.conf", text),
        [
            "nginx.user=www-data",
            "nginx.http.server.listen=80 default_server",
            "nginx.http.server.location.return=200 x ${uri} y [location ~ ^/a;{}]",
            "nginx.http.server.ssl_protocols=TLSv1.2 TLSv1.3",
            "/etc/nginx/nginx.conf:3 ? files that it includes are not looked into",
        ]
    );
    assert_eq!(
        alone("/etc/nginx/a", "server {\n listen 80;\n"),
        ["nginx.server.listen=80", "/etc/nginx/a:3 ? a block or a directive does not end"]
    );
}

#[test]
fn words_and_values() {
    assert_eq!(
        alone("/etc/login.defs", "# a\nPASS_MAX_DAYS\t99999\nENCRYPT_METHOD YESCRYPT\nX\n"),
        [
            "login.PASS_MAX_DAYS=99999",
            "login.ENCRYPT_METHOD=YESCRYPT",
            "/etc/login.defs:4 ? there is no value"
        ]
    );
}

#[test]
fn a_file_of_no_known_format_is_not_read() {
    assert_eq!(read("/etc/motd", "a = b\n", &Files::new()), None);
}

#[test]
fn what_is_too_much_is_said() {
    let text = "a.b = 1\n".repeat(MOST + 5);
    let read = read("/etc/sysctl.conf", &text, &Files::new()).unwrap();
    assert_eq!((read.parameters.len(), read.unknown.len()), (MOST, 1));

    let large = "#".repeat(LARGEST + 1);
    let read = super::read("/etc/sysctl.conf", &large, &Files::new()).unwrap();
    assert_eq!((read.parameters.len(), read.unknown.len()), (0, 1));
}

proptest! {
    #[test]
    fn any_text_is_read_to_its_end(
        path in prop::sample::select(&[
            "/etc/ssh/sshd_config", "/etc/sysctl.conf", "/etc/my.cnf", "/etc/default/x", "/etc/nginx/x", "/etc/login.defs",
            "/etc/postgresql/1/m/postgresql.conf",
        ][..]),
        pieces in prop::collection::vec(
            prop_oneof![
                prop::sample::select(&["Match ", "Include ", "=", "'", "\"", "\\", "{", "}", ";", "$", "${", "\n", " ", "#", "[", "]", "ä"][..])
                    .prop_map(str::to_owned),
                "\\PC{0,6}",
            ],
            0..40,
        ),
    ) {
        let text = pieces.concat();
        let lines = text.lines().count() + 1;
        let read = read(path, &text, &Files::new()).unwrap();
        prop_assert!(read.parameters.iter().all(|it| it.line <= lines));
    }
}
