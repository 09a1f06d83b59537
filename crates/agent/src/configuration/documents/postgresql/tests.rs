use super::super::tests::Recorded;
use super::*;

/// A host with a Debian cluster that runs, one that does not, and somebody's own server on the same port.
fn host() -> Recorded {
    let host = Recorded::default();
    host.file("/etc/passwd", "root:x:0:0::/root:/bin/sh\npostgres:x:106:106::/:/bin/sh\nmallory:x:1000:1000::/:/bin/sh\n");
    host.file(
        "/etc/postgresql/15/main/postgresql.conf",
        "#port = 1\nport = 5432 # (change requires restart)\nunix_socket_directories = '/tmp,/var/run/postgresql' # where\n",
    );
    host.owned("/etc/postgresql/15/main/postgresql.conf", 106, 0o100_644);
    host.file("/etc/postgresql/13/old/postgresql.conf", "port = '5433'\n");
    host.owned("/etc/postgresql/13/old/postgresql.conf", 106, 0o100_644);
    host.file(
        "/proc/net/unix",
        "Num       RefCount Protocol Flags    Type St Inode Path
000000007c0f26b3: 00000002 00000000 00010000 0001 01 34058 /run/postgresql/.s.PGSQL.5432
000000007c0f26b4: 00000002 00000000 00010000 0001 01 34059 /home/mallory/.s.PGSQL.5432
000000007c0f26b5: 00000002 00000000 00010000 0001 01 34060 /srv/own/.s.PGSQL.5432
",
    );
    host.owned("/run/postgresql/.s.PGSQL.5432", 106, 0o140_777);
    host.owned("/home/mallory/.s.PGSQL.5432", 1000, 0o140_777);
    host.owned("/srv/own/.s.PGSQL.5432", 106, 0o140_777);
    host
}

#[test]
fn each_server_is_asked_as_whom_it_runs_and_none_takes_the_name_of_another() {
    let host = host();
    host.answers("psql", "");
    let pages = clusters(&host).unwrap();
    let names: Vec<_> = pages.keys().filter(|it| it.ends_with("/hba")).collect();
    assert_eq!(
        names,
        [
            "database:postgresql/13-old/hba",
            "database:postgresql/15-main/hba",
            "database:postgresql/home/mallory/5432/hba",
            "database:postgresql/srv/own/5432/hba"
        ]
    );
    let unseen = pages["database:postgresql/13-old/settings"].clone().unwrap_err();
    assert_eq!(unseen.to_string(), "its server does not run");
    for (argv, by) in host.asked() {
        let place = argv.iter().position(|it| it == "-U").unwrap();
        let (account, uid) = (argv[place + 1].as_str(), by.unwrap().uid);
        assert!(matches!((account, uid), ("postgres", 106) | ("mallory", 1000)), "{argv:?} {uid}");
        assert!(argv[1].contains('X') && argv[1].contains('w'), "no files, no passwords: {argv:?}");
    }
}

#[test]
fn settings_are_told_with_their_sources() {
    let lines = [
        r#"{"name" : "work_mem", "value" : "4096", "unit" : "kB", "source" : "configuration file", "pending" : false}"#,
        r#"{"name" : "shared_buffers", "value" : "16384", "unit" : "8kB", "source" : "default", "pending" : true}"#,
        r#"{"name" : "application_name", "value" : "psql", "unit" : null, "source" : "client", "pending" : false}"#,
        r#"{"name" : "log_line_prefix", "value" : "%m\nfsync = off", "unit" : null, "source" : "default", "pending" : false}"#,
    ];
    assert_eq!(
        settings(&lines.map(str::to_owned)).unwrap(),
        "log_line_prefix = %m\\nfsync = off (default)\n\
         shared_buffers = 16384 8kB (default, after a restart another)\n\
         work_mem = 4096 kB (configuration file)\n"
    );
}

#[test]
fn rules_stay_in_their_order() {
    let lines = [
        r#"{"type" : "local", "databases" : ["all"], "users" : ["postgres"], "address" : null, "netmask" : null, "method" : "peer", "options" : null, "error" : null}"#,
        r#"{"type" : "host", "databases" : ["all"], "users" : ["all"], "address" : "10.0.0.0", "netmask" : "255.0.0.0", "method" : "ldap", "options" : ["ldapserver=a"], "error" : null}"#,
        r#"{"type" : null, "databases" : null, "users" : null, "address" : null, "netmask" : null, "method" : null, "options" : null, "error" : "invalid connection type \"hots\""}"#,
        r#"{"type" : null, "databases" : null, "users" : null, "address" : null, "netmask" : null, "method" : null, "options" : null, "error" : null}"#,
    ];
    assert_eq!(
        rules(&lines.map(str::to_owned)).unwrap(),
        "local all postgres peer\nhost all all 10.0.0.0 255.0.0.0 ldap ldapserver=a\n\
         not understood: invalid connection type \"hots\"\n\
         not understood: the server does not say why\n"
    );
}

#[test]
fn what_no_server_says_is_not_understood() {
    assert!(settings(&["FATAL: role".to_owned()]).is_err());
    assert!(roles(&[r#"{"role" : "x"}"#.to_owned()]).is_err());
}
