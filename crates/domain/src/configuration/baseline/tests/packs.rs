//! Each built-in baseline passes a good sample, each of its rules fails a bad one, and nothing passes of what is not
//! there.

use std::collections::BTreeSet;

use super::*;

/// What of a rule is wrong: the rule, and a file that makes it fail, with mode and owner.
struct Bad(&'static str, &'static str, &'static str);

fn outcomes(id: &str, item: &Arc<Observed>) -> BTreeMap<String, (Outcome, Vec<Evidence>)> {
    let baseline = Baseline::built_in().iter().find(|it| it.id == id).unwrap();
    baseline.judge(item).into_iter().map(|it| (it.rule, (it.outcome, it.evidence))).collect()
}

fn holds(id: &str, good: &[(&'static str, &'static str)], missing: &str, bad: &[Bad]) {
    let all = outcomes(id, &item(good));
    for (rule, (outcome, evidence)) in &all {
        assert!(
            matches!(outcome, Outcome::Pass | Outcome::NotApplicable),
            "{rule} of a good sample: {outcome}: {evidence:?}"
        );
    }
    let mut failed = BTreeSet::new();
    for Bad(rule, path, text) in bad {
        let mut files = good.to_vec();
        files.retain(|(it, _)| it != path);
        files.push((path, text));
        let (outcome, evidence) = outcomes(id, &item(&files)).remove(*rule).unwrap();
        assert_eq!(outcome, Outcome::Fail, "{rule}: {evidence:?}");
        failed.insert((*rule).to_owned());
    }
    let owned = |rule: &String| rule.ends_with("-config-owner");
    let never: Vec<_> = all.keys().filter(|rule| !owned(rule) && !failed.contains(*rule)).collect();
    assert!(never.is_empty(), "no sample fails {never:?}");
    // What was withheld is unknown, or has no part in a rule; it passes nothing.
    let mut files = good.to_vec();
    files.retain(|(path, _)| *path != missing);
    files.push((missing, "<withheld:owner:10:0123456789abcdef>\n"));
    for (rule, (outcome, evidence)) in outcomes(id, &item(&files)) {
        let is_other = owned(&rule)
            || outcome == Outcome::NotApplicable
            || all[&rule].0 == Outcome::NotApplicable;
        let looks_elsewhere = all[&rule].1.iter().all(|it| it.path.as_deref() != Some(missing));
        assert!(
            is_other
                || outcome == Outcome::Unknown
                || (looks_elsewhere && outcome != Outcome::Fail),
            "{rule} of what was withheld: {outcome}: {evidence:?}"
        );
    }
    // Nothing passes where nothing is recorded.
    let none = outcomes(id, &item(&[("/srv/other", "x\n")]));
    for (rule, (outcome, _)) in none {
        assert!(matches!(outcome, Outcome::Unknown | Outcome::NotApplicable), "{rule}: {outcome}");
    }
}

const GOOD_SSHD: &str = "PermitRootLogin no\nPasswordAuthentication no\nCiphers chacha20-poly1305@openssh.com,aes256-gcm@openssh.com\nMACs hmac-sha2-256-etm@openssh.com\nKexAlgorithms curve25519-sha256\nLogLevel VERBOSE\n";

#[test]
fn sshd() {
    holds(
        "sshd",
        &[(SSHD, GOOD_SSHD)],
        SSHD,
        &[
            Bad("sshd-root-login", SSHD, "PermitRootLogin yes\n"),
            Bad(
                "sshd-root-login",
                SSHD,
                "PermitRootLogin no\nMatch Address 10.0.0.0/8\nPermitRootLogin yes\n",
            ),
            Bad("sshd-empty-passwords", SSHD, "PermitEmptyPasswords yes\n"),
            // By default people may sign in with passwords.
            Bad("sshd-password-authentication", SSHD, "PermitRootLogin no\n"),
            Bad("sshd-hostbased", SSHD, "HostbasedAuthentication yes\n"),
            Bad("sshd-ignore-rhosts", SSHD, "IgnoreRhosts no\n"),
            Bad("sshd-user-environment", SSHD, "PermitUserEnvironment LD_*\n"),
            Bad("sshd-strict-modes", SSHD, "StrictModes no\n"),
            Bad("sshd-max-auth-tries", SSHD, "MaxAuthTries 60\n"),
            Bad("sshd-x11", SSHD, "X11Forwarding yes\n"),
            Bad("sshd-log-level", SSHD, "LogLevel QUIET\n"),
            Bad("sshd-ciphers", SSHD, "Ciphers +aes128-cbc\n"),
            Bad("sshd-macs", SSHD, "MACs hmac-sha2-256,hmac-md5\n"),
            Bad("sshd-kex", SSHD, "KexAlgorithms curve25519-sha256,diffie-hellman-group14-sha1\n"),
        ],
    );
}

#[test]
fn what_owns_a_file_counts() {
    let of = |mode: u32, owner: &str| {
        let file = ObservedFile::new(mode, owner, GOOD_SSHD.as_bytes());
        let item = Arc::new(Observed::new(subject(), [(SSHD.to_owned(), file)]));
        outcomes("sshd", &item).remove("sshd-config-owner").unwrap().0
    };
    assert_eq!(of(0o100_600, "root:root"), Outcome::Pass);
    // Where the host has no name for it.
    assert_eq!(of(0o100_600, "0:0"), Outcome::Pass);
    assert_eq!(of(0o100_664, "root:adm"), Outcome::Fail);
    assert_eq!(of(0o100_644, "anna:root"), Outcome::Fail);
    let path = "/etc/nginx/nginx.conf";
    let file = ObservedFile::new(0o100_646, "root:root", b"user www-data;\n");
    let item = Arc::new(Observed::new(subject(), [(path.to_owned(), file)]));
    assert_eq!(outcomes("nginx", &item).remove("nginx-config-owner").unwrap().0, Outcome::Fail);
}

#[test]
fn sysctl() {
    const PATH: &str = "/etc/sysctl.d/60-hardening.conf";
    const GOOD: &str = "kernel.randomize_va_space=2\nkernel.kptr_restrict=2\nkernel.dmesg_restrict=1\nkernel.yama.ptrace_scope=1\nkernel.unprivileged_bpf_disabled=1\nfs.protected_hardlinks=1\nfs.protected_symlinks=1\nfs.suid_dumpable=0\nnet.ipv4.tcp_syncookies=1\nnet.ipv4.conf.all.rp_filter=1\nnet.ipv4.conf.all.accept_redirects=0\nnet.ipv6.conf.all.accept_redirects=0\nnet.ipv4.conf.all.accept_source_route=0\nnet.ipv4.icmp_echo_ignore_broadcasts=1\n";
    holds(
        "sysctl",
        &[(PATH, GOOD)],
        PATH,
        &[
            Bad("sysctl-aslr", PATH, "kernel.randomize_va_space=1\n"),
            Bad("sysctl-kptr", PATH, "kernel.kptr_restrict=0\n"),
            Bad("sysctl-dmesg", PATH, "kernel.dmesg_restrict=0\n"),
            Bad("sysctl-ptrace", PATH, "kernel.yama.ptrace_scope=0\n"),
            Bad("sysctl-bpf", PATH, "kernel.unprivileged_bpf_disabled=0\n"),
            Bad("sysctl-hardlinks", PATH, "fs.protected_hardlinks=0\n"),
            Bad("sysctl-symlinks", PATH, "fs.protected_symlinks=0\n"),
            Bad("sysctl-suid-dumpable", PATH, "fs.suid_dumpable=2\n"),
            Bad("sysctl-syncookies", PATH, "net.ipv4.tcp_syncookies=0\n"),
            Bad("sysctl-rp-filter", PATH, "net.ipv4.conf.all.rp_filter=0\n"),
            Bad(
                "sysctl-redirects",
                PATH,
                "net.ipv4.conf.all.accept_redirects=0\nnet.ipv6.conf.all.accept_redirects=1\n",
            ),
            Bad("sysctl-source-route", PATH, "net.ipv4.conf.all.accept_source_route=1\n"),
            Bad("sysctl-broadcast-echo", PATH, "net.ipv4.icmp_echo_ignore_broadcasts=0\n"),
        ],
    );
    // What no file sets is as the kernel has it, and nobody knows how.
    let unset = outcomes("sysctl", &item(&[(PATH, "kernel.kptr_restrict=1\n")]));
    assert_eq!(unset["sysctl-kptr"].0, Outcome::Pass);
    assert_eq!(unset["sysctl-aslr"].0, Outcome::Unknown);
}

#[test]
fn postgresql() {
    const CONF: &str = "/etc/postgresql/15/main/postgresql.conf";
    const HBA: &str = "/etc/postgresql/15/main/pg_hba.conf";
    let good = [
        (CONF, "ssl = on\nlog_connections = on\ninclude_dir = 'conf.d'\n"),
        ("/etc/postgresql/15/main/conf.d/a.conf", "password_encryption = 'scram-sha-256'\n"),
        (
            HBA,
            "local all postgres peer\n# host all all all trust\nhost all all 10.0.0.0/8 scram-sha-256\nhost all all 0.0.0.0/0 reject\n",
        ),
    ];
    holds(
        "postgresql",
        &good,
        CONF,
        &[
            Bad("postgresql-ssl", CONF, "log_connections = on\n"),
            Bad("postgresql-tls-version", CONF, "ssl_min_protocol_version = 'TLSv1'\n"),
            Bad("postgresql-password-encryption", CONF, "password_encryption = md5\n"),
            Bad("postgresql-log-connections", CONF, "ssl = on\n"),
            Bad("postgresql-fsync", CONF, "fsync = off\n"),
            Bad("postgresql-hba-trust", HBA, "local all all trust\n"),
            Bad("postgresql-hba-password", HBA, "hostssl all all 10.0.0.0/8 md5\n"),
            Bad("postgresql-hba-everybody", HBA, "host all all 0.0.0.0/0 scram-sha-256\n"),
        ],
    );
    let mut withheld = good;
    withheld[2].1 = "<withheld:owner:10:0123456789abcdef>\n";
    assert_eq!(
        outcomes("postgresql", &item(&withheld))["postgresql-hba-trust"].0,
        Outcome::Unknown
    );
}

#[test]
fn nginx() {
    const CONF: &str = "/etc/nginx/nginx.conf";
    const SITE: &str = "/etc/nginx/sites-enabled/a";
    let good = [
        (
            CONF,
            "user www-data;\nhttp {\n server_tokens off;\n ssl_protocols TLSv1.2 TLSv1.3;\n ssl_ciphers HIGH:!aNULL:!MD5:!3DES;\n include /etc/nginx/sites-enabled/*;\n}\n",
        ),
        (
            SITE,
            "server {\n listen 443 ssl;\n location /status { stub_status; allow 127.0.0.1; deny all; }\n}\n",
        ),
    ];
    holds(
        "nginx",
        &good,
        CONF,
        &[
            Bad("nginx-server-tokens", CONF, "user www-data;\nhttp { }\n"),
            Bad("nginx-server-tokens", SITE, "server { server_tokens on; }\n"),
            Bad("nginx-tls-versions", SITE, "server { ssl_protocols TLSv1 TLSv1.2; }\n"),
            Bad("nginx-ciphers", SITE, "server { ssl_ciphers HIGH:RC4-SHA; }\n"),
            Bad("nginx-autoindex", SITE, "server { location / { autoindex on; } }\n"),
            Bad("nginx-status", SITE, "server { location /status { stub_status; } }\n"),
            Bad("nginx-not-root", CONF, "user root;\nhttp { server_tokens off; }\n"),
        ],
    );
}

#[test]
fn frr() {
    const CONF: &str = "/etc/frr/frr.conf";
    const GOOD: &str = "service password-encryption\npassword 8 ab12\nlog syslog informational\nrouter bgp 65001\n neighbor 192.0.2.1 remote-as 65002\n neighbor 192.0.2.1 password <redacted:password:0123456789abcdef>\n neighbor 198.51.100.1 remote-as 65003\n neighbor 198.51.100.1 ttl-security hops 1\n address-family ipv4 unicast\n  neighbor 192.0.2.1 maximum-prefix 100\n  neighbor 198.51.100.1 maximum-prefix 100\nrouter ospf\n area 0 authentication message-digest\n";
    holds(
        "frr",
        &[(CONF, GOOD)],
        CONF,
        &[
            Bad("frr-password-encryption", CONF, "password 8 ab12\n"),
            Bad("frr-plain-passwords", CONF, "password hunter2\n"),
            Bad(
                "frr-bgp-authenticated",
                CONF,
                "router bgp 65001\n neighbor 192.0.2.1 remote-as 65002\n",
            ),
            Bad(
                "frr-bgp-maximum-prefix",
                CONF,
                "router bgp 65001\n neighbor 192.0.2.1 remote-as 65002\n",
            ),
            Bad("frr-bgp-policy", CONF, "router bgp 65001\n no bgp ebgp-requires-policy\n"),
            Bad("frr-log", CONF, "hostname r1\n"),
            Bad("frr-ospf-authenticated", CONF, "router ospf\n network 10.0.0.0/8 area 0\n"),
        ],
    );
    let grouped = "router bgp 1\n neighbor 192.0.2.1 remote-as 2\n neighbor 192.0.2.1 peer-group G\n neighbor G password <redacted:password:0123456789abcdef>\n";
    let (outcome, evidence) =
        outcomes("frr", &item(&[(CONF, grouped)])).remove("frr-bgp-authenticated").unwrap();
    assert_eq!(outcome, Outcome::Unknown);
    assert_eq!(evidence[0].text, "what a neighbour has from its peer group is not worked out");
}

#[test]
fn switch() {
    const CONF: &str = "/running-config";
    const GOOD: &str = "service password-encryption\nenable secret 9 x\nno ip http server\nno ip source-route\nlogging host 192.0.2.9\nline vty 0 4\n transport input ssh\n";
    holds(
        "switch",
        &[(CONF, GOOD)],
        CONF,
        &[
            Bad("switch-password-encryption", CONF, "no service password-encryption\n"),
            Bad("switch-enable-secret", CONF, "enable password 7 0822455D0A16\n"),
            Bad("switch-telnet", CONF, "line vty 0 4\n transport input telnet ssh\n"),
            Bad("switch-telnet", CONF, "line vty 0 4\n"),
            Bad("switch-http", CONF, "ip http server\n"),
            Bad("switch-snmp", CONF, "snmp-server community public RO\n"),
            Bad("switch-source-routing", CONF, "ip source-route\n"),
            Bad("switch-log", CONF, "hostname s1\n"),
        ],
    );
}

#[test]
fn firewall() {
    const NFT: &str = "/etc/nftables.conf";
    const V4: &str = "/etc/iptables/rules.v4";
    const RHEL: &str = "/etc/sysconfig/iptables";
    let good = [
        (
            NFT,
            "table inet filter {\n chain input { type filter hook input priority 0; policy drop; }\n chain forward { type filter hook forward priority 0; policy drop; }\n}\n",
        ),
        (V4, "*filter\n:INPUT DROP [0:0]\n"),
        (
            RHEL,
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\n",
        ),
    ];
    holds(
        "firewall",
        &good,
        NFT,
        &[
            Bad(
                "firewall-nftables-default",
                NFT,
                "chain input { type filter hook input priority 0; policy accept; }\n",
            ),
            Bad(
                "firewall-nftables-forward",
                NFT,
                "chain f { type filter hook forward priority 0; }\n",
            ),
            Bad("firewall-nftables-there", NFT, "flush ruleset\n"),
            Bad("firewall-iptables-default", V4, ":INPUT ACCEPT [0:0]\n"),
            Bad("firewall-iptables-default-rhel", RHEL, ":INPUT ACCEPT [0:0]\n"),
        ],
    );
}

#[test]
fn each_rule_says_why_and_where_that_is_written() {
    for baseline in Baseline::built_in() {
        for rule in &baseline.rules {
            let Rule { id, title, why, source, expected, .. } = rule;
            assert!(id.starts_with(&format!("{}-", baseline.id)), "{id}");
            assert!([title, why, source, expected].iter().all(|it| it.len() > 8), "{id}");
        }
    }
}
