use super::super::tests::Recorded;
use super::*;

fn host() -> Recorded {
    let host = Recorded::default();
    host.file(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/sh\nmysql:x:107:107::/:/bin/sh\nmallory:x:1000:1000::/:/bin/sh\n",
    );
    host.file(
        "/proc/net/unix",
        "Num       RefCount Protocol Flags    Type St Inode Path
000000007c0f26b3: 00000002 00000000 00010000 0001 01 34058 /run/mysqld/mysqld.sock
000000007c0f26b4: 00000002 00000000 00010000 0001 01 34059 /tmp/mallory/mysqld.sock
",
    );
    host.owned("/run/mysqld/mysqld.sock", 107, 0o140_777);
    host.owned("/tmp/mallory/mysqld.sock", 1000, 0o140_777);
    host
}

#[test]
fn variables_are_told_without_what_alters_by_itself() {
    assert_eq!(
        variables("max_connections\t151\ngtid_binlog_pos\t0-1-12\ninit_connect\t\nsql_mode\tA,B\n"),
        "init_connect = \nmax_connections = 151\nsql_mode = A,B\n"
    );
}

#[test]
fn only_the_account_of_the_distributions_server_is_asked_by_root() {
    let host = host();
    host.complains("mariadb", "ERROR 1698 (28000): Access denied for user");
    let pages = servers(&host).unwrap();
    assert!(pages.values().all(Result::is_err), "{pages:?}");
    assert!(pages.contains_key("database:mariadb/main/variables"));
    assert!(pages.contains_key("database:mariadb/tmp/mallory/accounts"));
    for (argv, by) in host.asked() {
        let socket = &argv[argv.iter().position(|it| it == "--socket").unwrap() + 1];
        let uid = by.unwrap().uid;
        assert!(uid != 0 || socket == "/run/mysqld/mysqld.sock", "{argv:?}");
        assert!(uid == 0 || uid == 107 || socket == "/tmp/mallory/mysqld.sock", "{argv:?}");
        assert!(argv.iter().any(|it| it == "--local-infile=0"), "{argv:?}");
    }
}

#[test]
fn accounts_are_told_with_what_they_may() {
    assert_eq!(
        grants(
            "account\t'app'@'%'\tplugin ed25519\ngrant\t'app'@'%'\tSELECT on shop.*\nrole\t'app'@'%'\tmember of 'reader'\n"
        ),
        "'app'@'%' may SELECT on shop.*\n'app'@'%': member of 'reader'\n'app'@'%': plugin ed25519\n"
    );
}
